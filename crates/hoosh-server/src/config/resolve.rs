//! Sections to a [`Config`]: what the settings add up to.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::value::{Dict, Value};
use hoosh_budget::jwt::JwtAlgorithm;
use hoosh_budget::rate::{Limits, Measure, Period, Rate};
use hoosh_budget::{Capacity, Durability, PoolFault, PoolTree, TokenPool};
use hoosh_core::{ContextPolicy, ContextRule, ProviderType, limits};
use hoosh_gateway::{Fallbacks, SemanticSettings};
use hoosh_providers::{Preset, ProviderSettings, Timeouts, preset};
use hoosh_router::{
    BreakerPolicy, Canary, Group, Member, QueueLimits, RetryPolicy, RouteOptions, StreamWindow,
};
use http::Uri;
use jiff::tz::TimeZone;
use secrecy::SecretString;

use super::fault::{ConfigErrors, Fault, Place, nearest};
use super::file::File;
use super::layers::Layers;
use super::pools::{self, RunTimePools};
use super::prices::{self, PriceFile};
use super::reader::{Reader, Section, elsewhere, plain, type_name};
use super::trial::{refused, settle_routes};
use super::variables::expand;
use super::warm::{self, Warm};
use crate::alerts;

use super::{
    AlertHook, Audit, Auth, Budget, Cache, Config, Costs, Environment, Flags, JwtAuth, KeysFile, LedgerPlace,
    LoadOptions, ModelGroup, Provider, Routing, Server, keys, provider_path,
};

/// A provider whose name is still to be found.
struct Unnamed {
    /// Where it is: `providers[0]`.
    path: String,
    name: Option<String>,
    /// Whether its type is known. If not, that is a fault, and `provider` has a stand-in.
    typed: bool,
    /// Whether all of it could be read.
    whole: bool,
    provider: Provider,
}

pub(crate) fn load(options: &LoadOptions) -> Result<Config, ConfigErrors> {
    let mut faults = Vec::new();
    let read = |(path, named_by)| match File::read(path, named_by, &options.directory) {
        Ok(file) => Some(file),
        Err(errors) => {
            faults.extend(errors.faults);
            None
        }
    };
    let mut file = File::find(options).and_then(read);
    let inline = file.as_mut().map(File::take_prices).unwrap_or_default();
    let read = file.as_ref().map(|file| file.read.clone());
    let mut sources: Vec<String> = file.iter().map(|file| file.read.path.display().to_string()).collect();
    let layers = Layers::stack(file, &options.env, &options.flags, &mut faults);
    let mut reader = Reader::new(&layers, &options.env, faults);
    let mut config = reader.config();
    let from_variables = reader.origins.values().any(|place| matches!(place, Place::Variable(_)));
    sources.extend(from_variables.then(|| "environment".to_owned()));
    sources.extend((!options.flags.is_empty()).then(|| "flags".to_owned()));
    config.file = read;
    config.sources = sources;
    config.origins = reader.origins;
    reader.warnings.sort_by(|(one, _), (other, _)| one.rank().cmp(&other.rank()));
    config.warnings = reader.warnings.iter().map(|(place, says)| format!("{place}: {says}")).collect();
    let unpriced = prices::settle(&mut config, inline, &options.directory);
    let folder = config.file.as_ref().and_then(|file| file.path.parent()).unwrap_or(Path::new(""));
    let folder = options.directory.join(folder);
    if let Some(keys) = &mut config.auth.keys {
        keys.path = folder.join(&keys.said);
    }
    if let Some(jwt) = config.auth.jwt.as_mut().filter(|jwt| jwt.url.is_none()) {
        jwt.path = folder.join(&jwt.said);
    }
    // What could be read is tried in spite of what could not, so that all is told at once.
    let mut faults = reader.faults;
    if faults.is_empty() {
        faults.extend(pools::settle(&mut config, &options.directory, &folder));
    }
    faults.extend(refused(&config, &reader.unread));
    faults.extend(unpriced);
    faults.extend(warm::read(&mut config, &options.directory));
    if !faults.is_empty() {
        return Err(ConfigErrors::new(faults));
    }
    // Found providers may serve what an alias leads to: then the routes are settled when they are known.
    if !config.discover {
        settle_routes(&mut config)?;
    }
    Ok(config)
}

/// The routing section that nobody said anything of.
pub(crate) fn default_routing() -> Routing {
    let env = Environment::default();
    let layers = Layers::stack(None, &env, &Flags::default(), &mut Vec::new());
    let mut reader = Reader::new(&layers, &env, Vec::new());
    routing(reader.section("routing", "routing", keys::defaults("routing")))
}

/// The cache section that nobody said anything of.
pub(crate) fn default_cache() -> Cache {
    let env = Environment::default();
    let layers = Layers::stack(None, &env, &Flags::default(), &mut Vec::new());
    let mut reader = Reader::new(&layers, &env, Vec::new());
    cache(reader.section("cache", "cache", keys::defaults("cache")))
}

/// The section of the books that nobody said anything of.
pub(crate) fn default_budget() -> Budget {
    let env = Environment::default();
    let layers = Layers::stack(None, &env, &Flags::default(), &mut Vec::new());
    let mut reader = Reader::new(&layers, &env, Vec::new());
    budget(reader.section("budget", "budget", keys::defaults("budget")))
}

/// The server section that nobody said anything of.
pub(crate) fn default_server() -> Server {
    let env = Environment::default();
    let layers = Layers::stack(None, &env, &Flags::default(), &mut Vec::new());
    let mut reader = Reader::new(&layers, &env, Vec::new());
    let section = reader.section("server", "server", keys::defaults("server"));
    server(section)
}

impl Reader<'_> {
    /// Reads everything. The result only counts if there is no fault.
    fn config(&mut self) -> Config {
        let mut root = self.layers.root.clone();
        // What is no section is a fault of the layers already.
        let mut values = |name| root.remove(name).and_then(Value::into_dict).unwrap_or_default();
        let server_section = self.section("server", "server", values("server"));
        let routing_section = self.section("routing", "routing", values("routing"));
        let cache_section = self.section("cache", "cache", values("cache"));
        let mut costs = self.section("costs", "costs", values("costs"));
        let auth = values("auth");
        let wants = |key: &str| {
            auth.get(key).is_some_and(|value| match value {
                Value::Array(_, tokens) => !tokens.is_empty(),
                _ => true,
            })
        };
        let wanted = ["tokens", "admin_tokens"].map(|key| (key, wants(key)));
        let mut auth = self.section("auth", "auth", auth);
        let budget = self::budget(self.section("budget", "budget", values("budget")));
        if budget.durability == Durability::Strict && budget.ledger == LedgerPlace::Memory {
            self.fault("budget.durability", "`strict` takes a file as `ledger`, which is `memory`");
        }
        let secret = "budget.alert_webhook_secret";
        if budget.hook.is_none() && self.origins.contains_key(secret) {
            self.warn(self.origin(secret), format!("`{secret}` does nothing without `budget.alert_webhook`"));
        }
        if budget.log && budget.ledger == LedgerPlace::Memory {
            self.fault(
                "budget.log",
                "rows of calls are kept in a file: name one as `ledger`, which is `memory`",
            );
        }
        let audit = Audit::read(self.section("audit", "audit", values("audit")), self.env);
        let limits_section = self.section("limits", "limits", values("limits"));
        let aliases = self.section("aliases", "aliases", values("aliases"));
        let strategies = self.section("strategies", "strategies", values("strategies"));
        let groups = self.entries("groups", root.remove("groups"));
        let groups = groups.into_iter().filter_map(|(path, values)| self.group(&path, values)).collect();
        let pools = self.pools(root.remove("pools"));
        let (providers, discover) = match root.remove("providers") {
            None => (Vec::new(), true),
            Some(Value::Array(_, entries)) => (self.providers(entries), false),
            Some(other) => {
                let fix = "write each provider under its own [[providers]]";
                self.fault("providers", format!("expected a list, found {}; {fix}", type_name(&other)));
                (Vec::new(), false)
            }
        };
        self.leftovers(root);
        let server = server(server_section);
        let auth = Auth {
            tokens: auth.secrets("tokens").unwrap_or_default(),
            admin_tokens: auth.secrets("admin_tokens").unwrap_or_default(),
            keys: auth.text("keys").map(|said| KeysFile {
                path: PathBuf::from(&said),
                pepper: self.env.filled(keys::PEPPER_VARIABLE).map(|text| SecretString::from(text.trim())),
                said,
            }),
            jwt: self.jwt(&mut auth),
        };
        // A variable that is set to nothing must not open the door.
        for ((key, _), tokens) in
            wanted.iter().zip([&auth.tokens, &auth.admin_tokens]).filter(|((_, wanted), _)| *wanted)
        {
            let path = format!("auth.{key}");
            if tokens.is_empty() && self.faults.iter().all(|fault| !fault.key.starts_with(&path)) {
                let problem =
                    "holds no token: leave it out if everybody may call, or set what it is read from";
                self.fault(&path, problem);
            }
        }
        if auth.is_open() && !server.bind.is_loopback() {
            let says = "`server.bind` lets other machines in and `auth.tokens` is empty: everybody may call";
            self.warn(self.origin("server.bind"), says);
        }
        let routing = routing(routing_section);
        self.name_who_summarises(&routing, &providers);
        let cache = cache(cache_section);
        let idle = [("semantic_model", cache.semantic.is_some()), ("warm", cache.warm.is_some())];
        for (key, _) in idle.into_iter().filter(|(_, is_said)| *is_said && !cache.enabled) {
            let path = format!("cache.{key}");
            self.warn(
                self.origin(&path),
                format!("`{path}` does nothing as long as `cache.enabled` is false"),
            );
        }
        Config {
            server,
            providers,
            routing,
            cache,
            costs: Costs {
                on_unpriced: costs.on_unpriced("on_unpriced").unwrap_or_default(),
                prices: costs.text("prices").map(|said| PriceFile { said, file: None }),
                ..Costs::default()
            },
            auth,
            limits: caller_limits(limits_section),
            aliases: aliases.into_texts().collect(),
            groups,
            pools,
            run_time_pools: RunTimePools::default(),
            budget,
            audit,
            strategies: strategies.into_strategies().collect(),
            discover,
            file: None,
            sources: Vec::new(),
            warnings: Vec::new(),
            origins: BTreeMap::new(),
        }
    }

    /// Which signed tokens are taken.
    fn jwt(&mut self, section: &mut Section) -> Option<JwtAuth> {
        let words = section.texts("jwt_algorithms");
        let mut algorithms = Vec::new();
        for word in words.iter().flatten() {
            match word.parse() {
                Ok(algorithm) => algorithms.push(algorithm),
                Err(error) => self.fault("auth.jwt_algorithms", format!("{error}")),
            }
        }
        if words.is_none() {
            algorithms = vec![JwtAlgorithm::Rs256, JwtAlgorithm::Es256, JwtAlgorithm::EdDsa];
        } else if algorithms.is_empty() && self.faults.iter().all(|fault| fault.key != "auth.jwt_algorithms")
        {
            self.fault("auth.jwt_algorithms", "names none, so that no token could be taken; leave it out");
        }
        let said = section.text("jwt_keys");
        if said.is_none() {
            let idle = self.origins.keys().find(|path| path.starts_with("auth.jwt_")).cloned();
            if let Some(path) = idle {
                self.warn(self.origin(&path), format!("`{path}` does nothing without `auth.jwt_keys`"));
            }
        }
        let said = said?;
        let url = self.url_of_keys(&said);
        if url.is_some() && algorithms.iter().any(|one| one.as_str().starts_with("HS")) {
            let problem = "what is published at a URL can hold no shared secret, which `HS256`, `HS384` and `HS512` need";
            self.fault("auth.jwt_algorithms", problem);
        }
        Some(JwtAuth {
            path: if url.is_some() { PathBuf::new() } else { PathBuf::from(&said) },
            said,
            refresh: section.time("jwt_refresh_secs").filter(|time| url.is_some() && !time.is_zero()),
            url,
            algorithms,
            issuers: section.texts("jwt_issuers").unwrap_or_default(),
            audiences: section.texts("jwt_audiences").unwrap_or_default(),
            caller_claim: section.text("jwt_caller_claim").unwrap_or_default(),
            scopes_claim: section.text("jwt_scopes_claim"),
            models_claim: section.text("jwt_models_claim"),
            pools_claim: section.text("jwt_pools_claim"),
            pools_prefix: section.text("jwt_pools_prefix").unwrap_or_default(),
        })
    }

    /// The URL of keys, if that is what is said, and not a file.
    fn url_of_keys(&mut self, said: &str) -> Option<Uri> {
        let (scheme, _) = said.split_once("://")?;
        let url = said.parse::<Uri>().ok().filter(|url| url.host().is_some_and(|host| !host.is_empty()));
        // Whoever is between could put keys of their own in place of those.
        let is_here = url.as_ref().and_then(Uri::host).is_some_and(|host| {
            let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
            host == "localhost" || address.is_ok_and(|address| address.is_loopback())
        });
        match url {
            Some(url) if scheme == "https" || (scheme == "http" && is_here) => Some(url),
            _ => {
                let problem =
                    "expected a file, or a URL that begins with `https://` (`http://` on this machine only)";
                self.fault("auth.jwt_keys", problem);
                None
            }
        }
    }

    /// Whoever is to summarise must be named.
    fn name_who_summarises(&mut self, routing: &Routing, providers: &[Provider]) {
        let mut check = |path: String, rule: &ContextRule, policy: Option<ContextPolicy>| {
            if policy == Some(ContextPolicy::Summarise) && rule.summarise_with.is_none() {
                self.fault(&path, "`summarise` needs a model for it: name one in `summarise_with`");
            }
        };
        // Told where it was said.
        check("routing.context".to_owned(), &routing.context, routing.context.policy);
        for provider in providers {
            let path = format!("{}.context", provider_path(provider.name()));
            check(path, &provider.context.or(&routing.context), provider.context.policy);
        }
    }

    /// What stands in no section that there is.
    fn leftovers(&mut self, root: Dict) {
        for (name, value) in root {
            let place = self.layers.place(value.tag(), &name);
            if let Some(legacy) = keys::legacy(&name) {
                let brackets = if matches!(value, Value::Array(..)) { ("[[", "]]") } else { ("[", "]") };
                self.legacy(&place, &format!("section {}{name}{}", brackets.0, brackets.1), legacy.note);
                continue;
            }
            let (problem, meant) = if matches!(value, Value::Dict(..) | Value::Array(..)) {
                (
                    "there is no such section",
                    nearest(&name, keys::SECTIONS.iter().copied()).map(str::to_owned),
                )
            } else {
                let rows = [
                    "server",
                    "routing",
                    "cache",
                    "costs",
                    "auth",
                    "limits",
                    "budget",
                    "groups[]",
                    "pools[]",
                    "providers[]",
                ]
                .into_iter()
                .flat_map(keys::rows);
                let near = nearest(&name, rows.map(|(name, _)| name));
                ("there is no such key outside of the sections", near.and_then(|near| elsewhere("", near)))
            };
            self.faults.push(Fault::new(place, name, problem).meaning(meant));
        }
    }

    /// The entries of a list of sections, each with its path.
    fn entries(&mut self, name: &str, value: Option<Value>) -> Vec<(String, Dict)> {
        let entries = match value {
            None => return Vec::new(),
            Some(Value::Array(_, entries)) => entries,
            Some(other) => {
                let fix = format!("write each under its own [[{name}]]");
                self.fault(name, format!("expected a list, found {}; {fix}", type_name(&other)));
                return Vec::new();
            }
        };
        let mut sections = Vec::with_capacity(entries.len());
        for (index, entry) in entries.into_iter().enumerate() {
            let path = format!("{name}[{index}]");
            match entry {
                Value::Dict(_, values) => sections.push((path, values)),
                other => {
                    self.fault(&path, format!("expected a section [[{name}]], found {}", type_name(&other)));
                }
            }
        }
        sections
    }

    /// Pools by their paths, whether or not they fit together.
    pub(super) fn pool_entries(&mut self, value: Option<Value>) -> Vec<(String, TokenPool)> {
        let entries = self.entries("pools", value).into_iter();
        entries.filter_map(|(path, values)| self.pool(&path, values).map(|pool| (path, pool))).collect()
    }

    /// The pools that calls are charged to.
    fn pools(&mut self, value: Option<Value>) -> Vec<TokenPool> {
        let before = self.faults.len();
        let (paths, pools): (Vec<String>, Vec<TokenPool>) = self.pool_entries(value).into_iter().unzip();
        // Where one could not be read, others may only seem not to fit.
        if self.faults.len() == before
            && let Err(invalid) = PoolTree::new(pools.clone())
        {
            for PoolFault { pool, problem } in invalid.faults {
                let at = pools.iter().rposition(|one| one.id == pool).and_then(|at| paths.get(at));
                self.fault(at.map_or("pools", String::as_str), format!("`{pool}` {problem}"));
            }
        }
        pools
    }

    fn pool(&mut self, path: &str, mut values: Dict) -> Option<TokenPool> {
        if !values.contains_key("name") {
            self.fault(path, "`name` is missing");
        }
        for (key, value) in keys::defaults("pools[]") {
            values.entry(key).or_insert(value);
        }
        let mut section = self.section("pools[]", path, values);
        let alerts = section.numbers("alerts").unwrap_or_default();
        Some(TokenPool {
            parent: section.pool("parent"),
            capacity: Capacity { tokens: section.whole("tokens"), money: section.dollars("usd") },
            window: section.window("window").unwrap_or_default(),
            time_zone: section.time_zone("time_zone").unwrap_or(TimeZone::UTC),
            mode: section.pool_mode("mode").unwrap_or_default(),
            alerts: alerts.into_iter().filter_map(|percent| u8::try_from(percent).ok()).collect(),
            ..TokenPool::new(section.pool("name")?)
        })
    }

    fn group(&mut self, path: &str, mut values: Dict) -> Option<ModelGroup> {
        for name in ["name", "models"] {
            if !values.contains_key(name) {
                self.fault(path, format!("`{name}` is missing"));
            }
        }
        for (key, value) in keys::defaults("groups[]") {
            values.entry(key).or_insert(value);
        }
        let mut section = self.section("groups[]", path, values);
        let (name, models) = (section.text("name")?, section.texts("models")?);
        let weights = section.numbers("weights");
        if weights.as_ref().is_some_and(|weights| weights.len() != models.len()) {
            self.fault(&format!("{path}.weights"), "there is to be one for each of `models`");
            return None;
        }
        let weight = |index: usize| {
            let weight = weights.as_ref().and_then(|weights| weights.get(index).copied()).unwrap_or(1);
            u32::try_from(weight).unwrap_or(u32::MAX)
        };
        let member = |(index, model)| Member { model, weight: weight(index) };
        let percent = section.whole("canary_percent").unwrap_or_default();
        let group = Group {
            members: models.into_iter().enumerate().map(member).collect(),
            strategy: section.strategy("strategy"),
            // At most 100, which a double holds exactly.
            canary: section.text("canary").map(|model| Canary { model, percent: percent as f64 }),
        };
        Some(ModelGroup { name, group, path: path.to_owned() })
    }

    fn providers(&mut self, entries: Vec<Value>) -> Vec<Provider> {
        let mut unnamed = Vec::new();
        for (index, entry) in entries.into_iter().enumerate() {
            let path = format!("providers[{index}]");
            match entry {
                Value::Dict(_, values) => {
                    let before = self.faults.len();
                    let entry = self.provider(path, values);
                    let whole = self.faults.len() == before;
                    unnamed.extend(entry.map(|entry| Unnamed { whole, ..entry }));
                }
                other => {
                    let problem = format!("expected a section [[providers]], found {}", type_name(&other));
                    self.fault(&path, problem);
                }
            }
        }
        self.named(unnamed)
    }

    /// One entry; `None` if it is left out, with a warning.
    fn provider(&mut self, path: String, mut values: Dict) -> Option<Unnamed> {
        if let Some(Value::String(tag, text)) = values.get("type")
            && keys::LEGACY_TYPES.contains(&plain(text).as_str())
        {
            let place = self.layers.place(*tag, &format!("{path}.type"));
            let says = "has no preset in this version; the provider is left out";
            self.warn(place, format!("type `{text}` {says}"));
            return None;
        }
        // What is off must not keep the rest from running because its key is not at hand.
        if let (Some(Value::Bool(_, false)), Some(Value::String(_, key))) =
            (values.get("enabled"), values.get("api_key"))
            && expand(key, self.env).is_err()
        {
            values.remove("api_key");
        }
        let has_type = values.contains_key("type");
        let has_url = values.contains_key("base_url");
        for (key, value) in keys::defaults("providers[]") {
            values.entry(key).or_insert(value);
        }
        let mut section = self.section("providers[]", &path, values);
        if !has_type {
            self.fault(&path, "`type` is missing: which kind of provider is it?");
        }
        // A type that is not known must not hide what else is wrong with the entry.
        let known = section.provider_type("type");
        let kind = known.unwrap_or(ProviderType::OpenAiCompatible);
        let preset = preset(kind);
        if known.is_some() && preset.host.is_empty() && !has_url {
            self.fault(&path, format!("`base_url` is missing: type `{kind}` has no address of its own"));
        }
        let name = section.text("name");
        let patterns = section.texts("models");
        // hoosh 1.3 takes an empty list for no list.
        let patterns = patterns.filter(|patterns| !patterns.is_empty());
        let timeouts = Timeouts {
            connect: section.time("connect_timeout_secs").unwrap_or_default(),
            first_byte: section.time("first_byte_timeout_secs").unwrap_or_default(),
            idle: section.time("idle_timeout_secs").unwrap_or_default(),
            total: section.time("total_timeout_secs").unwrap_or_default(),
        };
        let mut settings = ProviderSettings {
            base_url: section.text("base_url"),
            api_key: section.secret("api_key"),
            timeouts,
            local: section.switch("local"),
            ..ProviderSettings::new(kind)
        };
        let enabled = section.switch("enabled").unwrap_or_default();
        if settings.api_key.is_none() && enabled {
            self.key_of_preset(&path, preset, &mut settings);
        }
        let provider = Provider {
            settings,
            priority: section
                .whole("priority")
                .and_then(|number| u32::try_from(number).ok())
                .unwrap_or_default(),
            models: patterns.unwrap_or_else(|| default_models(preset)),
            enabled,
            max_tokens_limit: section.whole("max_tokens_limit"),
            lossy: section.fidelity("lossy"),
            cache_ttl: section.time("cache_ttl_secs"),
            weight: section.whole("weight").and_then(|weight| u32::try_from(weight).ok()).unwrap_or(1),
            strategy: section.strategy("strategy"),
            options: RouteOptions {
                stream_window: StreamWindow {
                    time: section.time("stream_window_secs").unwrap_or_default(),
                    events: section
                        .whole("stream_window_events")
                        .and_then(|events| u32::try_from(events).ok())
                        .unwrap_or_default(),
                },
                hedges: section.switch("hedge").unwrap_or_default(),
                continues: section.switch("continue_streams").unwrap_or_default(),
                prefills: section.switch("prefill"),
            },
            queue: line_limits(&mut section),
            limits: rate_limits([
                (Measure::Requests, Period::Minute, section.whole("rate_limit_rpm")),
                (Measure::Tokens, Period::Minute, section.whole("rate_limit_tpm")),
            ]),
            context: context(&mut section),
        };
        Some(Unnamed { path, name, typed: known.is_some(), whole: true, provider })
    }

    /// The key that the type's own variable holds. It only goes where its vendor is: a key for one vendor must not reach
    /// another host because somebody left `api_key` out.
    fn key_of_preset(&mut self, path: &str, preset: &Preset, settings: &mut ProviderSettings) {
        let variable = self.env.first_filled(preset.key_env);
        let at_home =
            preset.local || settings.base_url.as_deref().is_none_or(|url| same_origin(url, preset.host));
        match variable {
            Some((name, key)) if at_home => {
                settings.api_key = Some(SecretString::from(key.trim()));
                self.origins.insert(format!("{path}.api_key"), Place::Variable(name.to_owned()));
            }
            Some((name, _)) => {
                let place = self.layers.place_in_file(path);
                let says = format!("`base_url` is not {}'s own, so {name} is not sent there", preset.label);
                self.warn(place, format!("{path}: {says}; `api_key = \"${name}\"` sends it"));
            }
            None if !preset.local && !preset.key_env.is_empty() && at_home => {
                let place = self.layers.place_in_file(path);
                let variables = preset.key_env.join(" or ");
                let says = format!("{} will want a key; set {variables}, or `api_key`", preset.label);
                self.warn(place, format!("{path}: {says}"));
            }
            None => {}
        }
    }

    /// Gives every provider a name of its own: what is said is kept, the others are called by their type.
    ///
    /// With a fault, one that shares its name goes by its type as well, and one without a type by its path.
    fn named(&mut self, mut unnamed: Vec<Unnamed>) -> Vec<Provider> {
        let mut taken = BTreeSet::new();
        for entry in &mut unnamed {
            if let Some(name) = entry.name.take_if(|name| !taken.insert(name.clone())) {
                let problem = format!("there is another provider called `{name}`");
                self.fault(&format!("{}.name", entry.path), problem);
            }
        }
        let mut providers = Vec::with_capacity(unnamed.len());
        for Unnamed { path, name, typed, whole, mut provider } in unnamed {
            let name = name.unwrap_or_else(|| {
                let name = if typed { free_name(provider.settings.kind, &taken) } else { path.clone() };
                taken.insert(name.clone());
                name
            });
            if !whole {
                self.unread.insert(name.clone());
            }
            self.rename_origins(&path, &name);
            provider.settings.name = Some(name);
            providers.push(provider);
        }
        providers
    }

    /// Keeps the places of a provider's settings by its name, which stays when entries move.
    fn rename_origins(&mut self, path: &str, name: &str) {
        let prefix = format!("{path}.");
        let place = self.layers.place_in_file(path);
        let named = provider_path(name);
        self.origins.insert(named.clone(), place);
        let own: Vec<String> = self.origins.keys().filter(|key| key.starts_with(&prefix)).cloned().collect();
        for key in own {
            if let Some(place) = self.origins.remove(&key) {
                self.origins.insert(format!("{named}.{}", &key[prefix.len()..]), place);
            }
        }
    }
}

/// Patterns of a provider that says none.
pub(crate) fn default_models(preset: &Preset) -> Vec<String> {
    if preset.models.is_empty() {
        return vec!["*".to_owned()];
    }
    preset.models.iter().map(|pattern| (*pattern).to_owned()).collect()
}

/// The type's name, or the first of `type-2`, `type-3` that nobody has.
fn free_name(kind: ProviderType, taken: &BTreeSet<String>) -> String {
    let name = kind.as_str();
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    std::iter::once(name.to_owned()).chain(numbered).find(|name| !taken.contains(name)).unwrap_or_default()
}

fn same_origin(url: &str, host: &str) -> bool {
    let origin = |text: &str| {
        let uri: Uri = text.parse().ok()?;
        let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        Some((
            uri.scheme_str()?.to_owned(),
            uri.host()?.to_ascii_lowercase(),
            uri.port_u16().unwrap_or(default),
        ))
    };
    origin(url).is_some_and(|url| origin(host) == Some(url))
}

fn line_limits(section: &mut Section) -> Option<QueueLimits> {
    let size = |number| usize::try_from(number).unwrap_or(usize::MAX);
    let waiting = section.whole("max_waiting").map_or(limits::QUEUE_WAITING, size);
    let all = section.whole("max_concurrent").map(size);
    let per_model = section.whole("max_concurrent_per_model").map(size);
    let is_limited = all.is_some() || per_model.is_some();
    is_limited.then(|| QueueLimits { concurrent: all.unwrap_or(usize::MAX), waiting, per_model })
}

/// What each caller may have.
fn caller_limits(mut section: Section) -> Limits {
    let rates = rate_limits([
        (Measure::Requests, Period::Minute, section.whole("requests_per_minute")),
        (Measure::Tokens, Period::Minute, section.whole("tokens_per_minute")),
        (Measure::Requests, Period::Day, section.whole("requests_per_day")),
    ]);
    let concurrent = section.whole("concurrent").map(|number| u32::try_from(number).unwrap_or(u32::MAX));
    Limits::new(rates.rates().to_vec(), concurrent).unwrap_or(rates)
}

/// Those of these that are said.
fn rate_limits<const N: usize>(said: [(Measure, Period, Option<u64>); N]) -> Limits {
    let rate = |(measure, period, amount): (Measure, Period, Option<u64>)| {
        Some(Rate::per(measure, NonZeroU64::new(amount?)?, period))
    };
    // Each has another measure or period.
    Limits::new(said.into_iter().filter_map(rate).collect(), None).unwrap_or_default()
}

/// What is missing here is a fault already.
fn server(mut section: Section) -> Server {
    let size =
        |number: Option<u64>| number.and_then(|number| usize::try_from(number).ok()).unwrap_or(usize::MAX);
    Server {
        bind: section.address("bind").unwrap_or_else(|| std::net::Ipv4Addr::LOCALHOST.into()),
        port: section.whole("port").and_then(|number| u16::try_from(number).ok()).unwrap_or_default(),
        strategy: section.strategy("strategy").unwrap_or_default(),
        lossy: section.fidelity("lossy").unwrap_or_default(),
        max_body_bytes: size(section.whole("max_body_bytes")),
        request_timeout: section.time("request_timeout_secs"),
        drain_timeout: section.time("drain_timeout_secs").unwrap_or_default(),
        body_timeout: section.time("body_timeout_secs").unwrap_or_default(),
        waiting_comment: section.time("waiting_comment_secs").filter(|time| !time.is_zero()),
        max_connections: size(section.whole("max_connections")),
        cors_origins: section.texts("cors_origins").unwrap_or_default(),
        reload: section.reload("reload").unwrap_or_default(),
    }
}

/// The same of routing.
fn routing(mut section: Section) -> Routing {
    let small =
        |number: Option<u64>| number.and_then(|number| u32::try_from(number).ok()).unwrap_or_default();
    Routing {
        retry: RetryPolicy {
            retries: small(section.whole("retries")),
            wait_max: section.time("retry_wait_secs").unwrap_or_default(),
            on_exhausted: section.on_exhausted("on_exhausted").unwrap_or_default(),
        },
        breaker: BreakerPolicy {
            failures: small(section.whole("failures")),
            rest: section.time("rest_secs").unwrap_or_default(),
            rest_max: section.time("rest_max_secs").unwrap_or_default(),
        },
        heartbeat: section.time("heartbeat_secs").filter(|time| !time.is_zero()),
        probe: section.time("probe_secs").filter(|time| !time.is_zero()),
        hedge_percent: small(section.whole("hedge_percent")),
        fallbacks: Fallbacks {
            context_length: section.texts("context_fallback").unwrap_or_default(),
            content_policy: section.texts("policy_fallback").unwrap_or_default(),
        },
        context: context(&mut section),
    }
}

/// What a section says of prompts that are too long.
fn context(section: &mut Section) -> ContextRule {
    ContextRule {
        policy: section.context("context"),
        keep_last: section.whole("keep_last").and_then(|turns| u32::try_from(turns).ok()),
        summarise_with: section.text("summarise_with"),
        compress: section.compress("compress"),
        window: section.whole("context_window_tokens"),
    }
}

/// The same of the books.
fn budget(mut section: Section) -> Budget {
    let ledger = section.text("ledger").unwrap_or_default();
    Budget {
        ledger: match ledger.as_str() {
            "memory" => LedgerPlace::Memory,
            _ => LedgerPlace::File(ledger),
        },
        durability: section.durability("durability").unwrap_or_default(),
        pools: section.text("pools"),
        hook: section.text("alert_webhook").and_then(|url| {
            Some(AlertHook { url: alerts::url(&url)?, secret: section.secret("alert_webhook_secret") })
        }),
        log: section.switch("log").unwrap_or_default(),
        keep: section
            .whole("keep_days")
            .filter(|days| *days > 0)
            .map(|days| Duration::from_secs(days * 86_400)),
    }
}

/// The same of the cache.
fn cache(mut section: Section) -> Cache {
    Cache {
        enabled: section.switch("enabled").unwrap_or_default(),
        ttl: section.time("ttl_secs").unwrap_or_default(),
        max_bytes: section.whole("max_bytes").unwrap_or_default(),
        tool_calls: section.switch("tool_calls").unwrap_or_default(),
        any_temperature: section.switch("any_temperature").unwrap_or_default(),
        semantic: section.text("semantic_model").map(|model| {
            let threshold = section.fraction("semantic_threshold").unwrap_or(limits::SEMANTIC_THRESHOLD);
            SemanticSettings { model, threshold }
        }),
        warm: section.text("warm").map(Warm::unread),
    }
}
