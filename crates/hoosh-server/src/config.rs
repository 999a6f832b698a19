//! What the server is told to do: built-in defaults, under `hoosh.toml`, under `HOOSH_*` variables, under flags.
//!
//! [`load`] reads it all in one pass and either gives a [`Config`] that can be run or every fault at once, each with its
//! file and line, variable or flag. Which providers answer on this machine if none is configured is
//! `discover`'s to find out.

mod audit;
mod fault;
mod file;
mod keys;
mod layers;
pub(crate) mod pools;
mod prices;
mod reader;
mod resolve;
mod show;
mod trial;
mod variables;
mod warm;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use figment::value::{Dict, Value};
use hoosh_budget::jwt::JwtAlgorithm;
use hoosh_budget::rate::Limits;
use hoosh_budget::{Durability, TokenPool};
use hoosh_core::prices::PriceEntry;
use hoosh_core::{ContextRule, Fidelity, OnUnpriced, PriceTable};
use hoosh_gateway::{Fallbacks, SemanticSettings};
use hoosh_providers::ProviderSettings;
use hoosh_router::{BreakerPolicy, Group, QueueLimits, RetryPolicy, RouteOptions, Strategy};
use http::Uri;
use ring::digest::{SHA256, digest};
use secrecy::{ExposeSecret, SecretString};

pub use self::audit::Audit;
pub(crate) use self::fault::nearest;
pub use self::fault::{ConfigErrors, Fault, Place};
pub(crate) use self::file::File;
pub use self::pools::RunTimePools;
pub use self::prices::PriceFile;
pub(crate) use self::resolve::default_models;
pub(crate) use self::show::window;
pub(crate) use self::trial::settle_routes;
pub use self::warm::{Warm, WarmRequest};

/// Name of the configuration file.
pub const FILE_NAME: &str = "hoosh.toml";

/// A configuration that was checked and can be run.
#[derive(Debug, Clone)]
pub struct Config {
    /// How to listen and serve.
    pub server: Server,
    /// The providers in the order of the file, those that are not enabled among them. Names are unique.
    pub providers: Vec<Provider>,
    /// What is done about providers that fail.
    pub routing: Routing,
    /// Which answers are given again.
    pub cache: Cache,
    /// What calls cost.
    pub costs: Costs,
    /// Who may call.
    pub auth: Auth,
    /// How fast each caller may ask.
    pub limits: Limits,
    /// Other names for models, each with what it leads to, the first choice first.
    pub aliases: BTreeMap<String, Vec<String>>,
    /// Names that stand for several models, one of which is chosen.
    pub groups: Vec<ModelGroup>,
    /// What calls may spend: the configuration's own, then those that were defined while the gateway ran.
    pub pools: Vec<TokenPool>,
    /// Which the latter are, and where they are kept.
    pub run_time_pools: RunTimePools,
    /// Where it is kept what they have.
    pub budget: Budget,
    /// Where it is written down what happened.
    pub audit: Audit,
    /// Order among providers of equal priority for models that match a pattern.
    pub strategies: BTreeMap<String, Strategy>,
    /// The file that it was read from, if there is one.
    pub file: Option<FileRead>,
    /// Where it was read from: `hoosh.toml`, `environment`, `flags`. Empty: built-in defaults alone.
    pub sources: Vec<String>,
    /// What a user should know, a sentence each.
    pub warnings: Vec<String>,
    /// Whether no provider is configured, so that they are to be looked for.
    pub discover: bool,
    /// Where each setting was said, by its path; a provider's by its name, as in `providers.ollama.priority`.
    pub origins: BTreeMap<String, Place>,
}

/// A configuration file as it was when it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRead {
    /// Which, as it was named.
    pub path: PathBuf,
    /// The SHA-256 of what was in it.
    pub digest: [u8; 32],
}

/// How to listen and serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Address to listen on.
    pub bind: IpAddr,
    /// Port to listen on; 0 is any free one.
    pub port: u16,
    /// Order among providers of equal priority.
    pub strategy: Strategy,
    /// What is done about parts of a call that a provider cannot be told.
    pub lossy: Fidelity,
    /// Largest request body. Unit: bytes.
    pub max_body_bytes: usize,
    /// Longest time until an answer begins, all attempts together. `None`: each attempt has its provider's limits.
    pub request_timeout: Option<Duration>,
    /// Time that calls in flight get to finish after a stop signal.
    pub drain_timeout: Duration,
    /// Time for a client to send its request body.
    pub body_timeout: Duration,
    /// How long a streamed call waits before its client is told so, and how often after that. `None`: it is not told.
    pub waiting_comment: Option<Duration>,
    /// Connections served at once.
    pub max_connections: usize,
    /// Origins of web pages that may call; `*` for any. Empty: none.
    pub cors_origins: Vec<String>,
    /// When the configuration is read again.
    pub reload: ReloadMode,
}

/// Where it is kept what calls have spent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// The ledger.
    pub ledger: LedgerPlace,
    /// When what a call took is in it for good.
    pub durability: Durability,
    /// Where pools are kept that are defined while the gateway runs, as it was said. `None`: beside the ledger.
    pub pools: Option<String>,
    /// Who is told of the thresholds of pools. `None`: the log, the metrics and the events alone.
    pub hook: Option<AlertHook>,
    /// Whether rows of the usage log are kept without pools too.
    pub log: bool,
    /// How long rows of the usage log are kept. `None`: for ever.
    pub keep: Option<Duration>,
}

/// A web hook for alerts.
#[derive(Debug, Clone)]
pub struct AlertHook {
    /// Where they are sent.
    pub url: Uri,
    /// What they are signed with. `None`: they are not signed.
    pub secret: Option<SecretString>,
}

/// Where a ledger is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum LedgerPlace {
    /// In the process, whose end it does not outlive.
    #[default]
    Memory,
    /// In a file.
    File(String),
}

/// When the configuration is read again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ReloadMode {
    /// Never.
    Off,
    /// When SIGHUP or `POST /v1/admin/reload` asks for it.
    #[default]
    Signal,
    /// Also when its file has changed.
    Watch,
}

/// One provider and what it is asked for.
#[derive(Debug, Clone)]
pub struct Provider {
    /// Its kind, place, key and times. The name is always set.
    pub settings: ProviderSettings,
    /// Its place among providers that match a model; the lower is asked first.
    pub priority: u32,
    /// Patterns of the models it is asked for; never empty.
    pub models: Vec<String>,
    /// Whether it is in use.
    pub enabled: bool,
    /// A call that asks for more answer tokens than this does not go to it.
    pub max_tokens_limit: Option<u64>,
    /// What is done about parts of a call that it cannot be told. `None`: as the server does.
    pub lossy: Option<Fidelity>,
    /// How long its answers are given again. `None`: as the cache says. Zero: not at all.
    pub cache_ttl: Option<Duration>,
    /// How often it is taken beside others, where the strategy goes by weight.
    pub weight: u32,
    /// How those of equal priority are ordered for the models that its patterns match. `None`: it says nothing of that.
    pub strategy: Option<Strategy>,
    /// What is done about its answers that are slow or break.
    pub options: RouteOptions,
    /// How many calls it and each of its models answer at once, and how many wait for that. `None`: as many as come.
    pub queue: Option<QueueLimits>,
    /// How fast it is asked.
    pub limits: Limits,
    /// What is done about prompts that are longer than its models read, where that is not what [`Routing::context`] says.
    pub context: ContextRule,
}

/// What is done about providers that fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routing {
    /// When and how often one that failed is asked again.
    pub retry: RetryPolicy,
    /// When one is let alone, and for how long.
    pub breaker: BreakerPolicy,
    /// How often one on this machine that has trouble is asked for a sign of life. `None`: never.
    pub heartbeat: Option<Duration>,
    /// How often a remote one that is let alone because it failed is asked whether it is well. `None`: never.
    pub probe: Option<Duration>,
    /// Of how many calls in a hundred a second provider may be asked beside a slow one.
    pub hedge_percent: u32,
    /// Whom to ask when a model is too short for a call, or does not allow it.
    pub fallbacks: Fallbacks,
    /// What is done about prompts that are longer than a model reads.
    pub context: ContextRule,
}

/// Which answers are given again.
#[derive(Debug, Clone, PartialEq)]
pub struct Cache {
    /// Whether any is.
    pub enabled: bool,
    /// How long.
    pub ttl: Duration,
    /// Memory for all of them. Unit: bytes.
    pub max_bytes: u64,
    /// Whether calls with tools are among them.
    pub tool_calls: bool,
    /// Whether calls are that leave the model a choice.
    pub any_temperature: bool,
    /// Whether the answer to the same question in other words will do. `None`: it will not.
    pub semantic: Option<SemanticSettings>,
    /// Requests that are asked beforehand.
    pub warm: Option<Warm>,
}

/// What calls cost.
#[derive(Debug, Clone, Default)]
pub struct Costs {
    /// What is done about calls whose price is not known.
    pub on_unpriced: OnUnpriced,
    /// The file of prices that goes with the configuration.
    pub prices: Option<PriceFile>,
    /// The prices of the configuration, and after them those of that file.
    pub entries: Vec<PriceEntry>,
    /// How many of them are the configuration's own.
    pub inline: usize,
    /// They all, over the built-in catalogue's.
    pub table: Arc<PriceTable>,
}

/// A name that stands for several models.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelGroup {
    /// The name.
    pub name: String,
    /// The models, and how one is chosen.
    pub group: Group,
    /// Where it is in the file: `groups[0]`.
    pub path: String,
}

/// Who may call.
#[derive(Debug, Clone, Default)]
pub struct Auth {
    /// Tokens that are taken, for everything but what an admin does.
    pub tokens: Vec<SecretString>,
    /// Tokens that are taken for everything.
    pub admin_tokens: Vec<SecretString>,
    /// The file that keys are kept in. `None`: there are none beside the tokens.
    pub keys: Option<KeysFile>,
    /// Which signed tokens are taken. `None`: none.
    pub jwt: Option<JwtAuth>,
}

/// Which signed tokens are taken, and what their claims mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtAuth {
    /// The file with the keys or their URL, as it was said.
    pub said: String,
    /// The file, from where this program runs. Empty with a URL.
    pub path: PathBuf,
    /// The URL.
    pub url: Option<Uri>,
    /// How often they are fetched from there. `None`: at the start, and when a token is of none of them.
    pub refresh: Option<Duration>,
    /// How they may be signed.
    pub algorithms: Vec<JwtAlgorithm>,
    /// Who may have made them. Empty: whoever has a key.
    pub issuers: Vec<String>,
    /// Names of this gateway. Empty: only tokens for nobody in particular are taken.
    pub audiences: Vec<String>,
    /// The claim that says who calls.
    pub caller_claim: String,
    /// The claim that holds scopes. `None`: inference.
    pub scopes_claim: Option<String>,
    /// The claim that holds models. `None`: all.
    pub models_claim: Option<String>,
    /// The claim that holds pools. `None`: none but `key:` and those of the call.
    pub pools_claim: Option<String>,
    /// What stands before each of them.
    pub pools_prefix: String,
}

/// Where keys are kept.
#[derive(Debug, Clone)]
pub struct KeysFile {
    /// As it was said.
    pub said: String,
    /// The same, from where this program runs.
    pub path: PathBuf,
    /// `HOOSH_KEY_PEPPER`. `None`: what is in the file of that name beside it.
    pub pepper: Option<SecretString>,
}

/// What [`load`] reads from.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// The file that the command line names. Default: `HOOSH_CONFIG`, `hoosh.toml`, the user's own, or none.
    pub file: Option<PathBuf>,
    /// What the command line says of single settings.
    pub flags: Flags,
    /// The environment.
    pub env: Environment,
    /// The folder that relative paths start from. Empty: the current one.
    pub directory: PathBuf,
}

/// Settings of the command line, as text: they are read and refused like all others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--bind`.
    pub bind: Option<String>,
    /// `--port`.
    pub port: Option<String>,
    /// `--strategy`.
    pub strategy: Option<String>,
}

/// Environment variables, as they were at one moment. `Debug` shows their names only.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment(BTreeMap<String, String>);

/// Reads the configuration.
///
/// # Errors
///
/// Every fault: a named file that is not there, bad syntax, unknown keys, wrong types, values out of range, variables
/// that are not set, aliases that go in a circle.
pub fn load(options: &LoadOptions) -> Result<Config, ConfigErrors> {
    resolve::load(options)
}

/// Where a provider is in [`Config::origins`]. One with a fault may go by its path in the file, which no name looks like.
fn provider_path(name: &str) -> String {
    if name.contains('[') { name.to_owned() } else { format!("providers.{name}") }
}

/// Every key with what it takes, its default and what it does, as Markdown.
pub fn keys_markdown() -> String {
    keys::markdown()
}

// === impl Config ===

impl Config {
    /// Its settings by their paths, `server.port` and `providers.NAME.priority`, as TOML writes them; secrets are redacted.
    pub(crate) fn settings(&self) -> BTreeMap<String, String> {
        show::settings(self)
    }

    /// Its name for people who compare gateways: twelve hex digits of the SHA-256 of [`to_toml`](Self::to_toml) without its
    /// comments.
    ///
    /// Secrets are not in it. A digest of them would be the same everywhere only if everybody could compute it, and then a
    /// short token could be guessed from what `/v1/health` tells without a key.
    pub fn hash(&self) -> String {
        let plain = Self { origins: BTreeMap::new(), ..self.clone() };
        let digest = digest(&SHA256, plain.to_toml().as_bytes());
        digest.as_ref().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
    }

    /// The address to listen on.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.server.bind, self.server.port)
    }

    /// The effective configuration as TOML, with secrets redacted and a comment for what somebody said.
    ///
    /// It can be loaded again, but for the secrets.
    pub fn to_toml(&self) -> String {
        show::toml(self)
    }
}

impl Default for Config {
    /// The built-in defaults: no provider.
    fn default() -> Self {
        Self {
            server: Server::default(),
            providers: Vec::new(),
            routing: Routing::default(),
            cache: Cache::default(),
            costs: Costs::default(),
            auth: Auth::default(),
            limits: Limits::NONE,
            aliases: BTreeMap::new(),
            groups: Vec::new(),
            pools: Vec::new(),
            run_time_pools: RunTimePools::default(),
            budget: Budget::default(),
            audit: Audit::default(),
            strategies: BTreeMap::new(),
            file: None,
            sources: Vec::new(),
            warnings: Vec::new(),
            discover: true,
            origins: BTreeMap::new(),
        }
    }
}

impl Default for Server {
    fn default() -> Self {
        resolve::default_server()
    }
}

impl Default for Routing {
    fn default() -> Self {
        resolve::default_routing()
    }
}

impl PartialEq for AlertHook {
    fn eq(&self, other: &Self) -> bool {
        let secret = |hook: &Self| hook.secret.as_ref().map(|secret| secret.expose_secret().to_owned());
        self.url == other.url && secret(self) == secret(other)
    }
}

impl Eq for AlertHook {}

impl Default for Budget {
    fn default() -> Self {
        resolve::default_budget()
    }
}

impl Default for Cache {
    fn default() -> Self {
        resolve::default_cache()
    }
}

// === impl Auth ===

impl Auth {
    /// Whether everybody may call, since nobody is told from anybody.
    pub fn is_open(&self) -> bool {
        self.tokens.is_empty() && self.admin_tokens.is_empty() && self.keys.is_none() && self.jwt.is_none()
    }
}

// === impl Provider ===

impl Provider {
    /// Its name in logs and in `name/model`.
    pub fn name(&self) -> &str {
        self.settings.name.as_deref().unwrap_or_else(|| self.settings.kind.as_str())
    }
}

// === impl FileRead ===

impl FileRead {
    /// A file of this content.
    pub(crate) fn new(path: PathBuf, content: &[u8]) -> Self {
        let mut read = Self { path, digest: [0; 32] };
        read.digest.copy_from_slice(digest(&SHA256, content).as_ref());
        read
    }
}

// === impl ReloadMode ===

impl ReloadMode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Signal, Self::Watch, Self::Off];

    /// Its name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Signal => "signal",
            Self::Watch => "watch",
        }
    }

    /// Reads a name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == text)
    }
}

// === impl Flags ===

impl Flags {
    /// The flag of a key.
    fn name(path: &str) -> &'static str {
        match path {
            "server.bind" => "--bind",
            "server.port" => "--port",
            _ => "--strategy",
        }
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// As a tree of values.
    fn values(&self) -> Dict {
        let said = [("bind", &self.bind), ("port", &self.port), ("strategy", &self.strategy)];
        let server = said
            .into_iter()
            .filter_map(|(key, text)| Some((key.to_owned(), Value::from(text.as_ref()?.as_str()))));
        Dict::from([("server".to_owned(), Value::from(server.collect::<Dict>()))])
    }
}

// === impl Environment ===

impl Environment {
    /// The process's own, without variables that are no UTF-8.
    pub fn of_process() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self(std::env::vars_os().filter_map(text).collect())
    }

    /// A variable, empty ones too.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A variable that is not empty.
    pub fn filled(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.trim().is_empty())
    }

    /// The first of some variables that is not empty, and its name.
    pub fn first_filled<'a>(&self, names: &[&'a str]) -> Option<(&'a str, &str)> {
        names.iter().find_map(|name| Some((*name, self.filled(name)?)))
    }

    fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests;
