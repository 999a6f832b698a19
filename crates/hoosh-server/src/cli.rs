//! The command line: what can be asked of the program `hoosh`, and how it ends.
//!
//! `serve` runs a gateway; `chat`, `models`, `pools` and `health` talk to one that runs; `config`, `explain`, `replay` and `info` look at
//! this machine; `costs` and `reprice` read and mend a ledger; `audit` looks at an audit log; `keys` changes a store of keys; `models pull` and `models rm` talk to an Ollama that is configured or found.
//! Results go to standard output, everything about them to standard error.

mod audit;
mod banner;
mod chat;
mod config;
mod costs;
mod explain;
mod gateway;
mod health;
mod info;
mod keys;
mod models;
mod pools;
mod replay;
mod reprice;
mod serve;
mod terminal;

use std::io;
use std::net::SocketAddr;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use hoosh_client::{ClientError, TransportKind};
use hoosh_core::{FailureKind, UpstreamFailure};
use tokio::net::TcpListener;

use self::terminal::{PLAIN, RED, note, printable, say};
use crate::RunError;
use crate::config::{Config, ConfigErrors, Environment, LoadOptions, load, settle_routes};
use crate::discover::{Discovery, discover};

const VERSION: &str = env!("CARGO_PKG_VERSION");
const LICENCE: &str = env!("CARGO_PKG_LICENSE");
const SOURCE: &str = env!("CARGO_PKG_REPOSITORY");

/// An AI inference gateway: one endpoint in front of local models and remote APIs.
#[derive(Debug, Parser)]
#[command(
    name = "hoosh",
    version,
    long_version = concat!(
        env!("CARGO_PKG_VERSION"), "\nlicence: ", env!("CARGO_PKG_LICENSE"), "\nsource: ", env!("CARGO_PKG_REPOSITORY")
    ),
    after_help = "Without a configuration `hoosh serve` looks for model servers on this machine and for API keys in the \
                  environment.",
    subcommand_required = true,
    arg_required_else_help = true
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway; SIGHUP makes it read its configuration again
    Serve(serve::ServeArgs),
    /// Ask a running gateway, once or in a conversation
    #[command(visible_alias = "infer")]
    Chat(chat::ChatArgs),
    /// List the models of a running gateway; get or remove those of an Ollama
    Models(models::ModelsArgs),
    /// Tell how a running gateway and its providers are
    Health(health::HealthArgs),
    /// Tell who would be asked for a model or a request, in which order, and why
    ///
    /// Decides by the configuration alone, as a gateway that has just started: none needs to run, and no provider is
    /// contacted. If none is configured, those on this machine are looked for, as `hoosh serve` does.
    Explain(explain::ExplainArgs),
    /// Tell which calls would go elsewhere under another configuration
    ///
    /// Plans each call of a file of decisions (`GET /v1/decisions`) again, with what it needed, the turn and the chance that it
    /// had, and what was known of the endpoints then. No provider is contacted, unless none is configured. Exits with 0 if all
    /// are planned as before, with 1 if some are not, and with 64 if the file or the configuration is wrong.
    Replay(replay::ReplayArgs),
    /// Make, list and end the keys of callers
    Keys(keys::KeysArgs),
    /// List, define and remove the pools of a running gateway; takes an admin's token
    Pools(pools::PoolsArgs),
    /// Tell what calls used and cost, whether or not a gateway runs
    ///
    /// Out of the file that `[budget] ledger` names, in which a running gateway has a call some milliseconds after its end. Calls
    /// whose price is not known are counted apart.
    Costs(costs::CostsArgs),
    /// Work out anew what calls have cost, by the prices that the configuration has for their time
    ///
    /// Usage is stored, money is derived. Rows keep what was charged beside what it should have been; what pools have counted stays.
    /// Writes into the file that `[budget] ledger` names, or asks the gateway that has it open, with an admin's token.
    Reprice(reprice::RepriceArgs),
    /// Look at the audit log, verify it, and prove single calls
    ///
    /// `[audit] enabled = true` has a gateway write one.
    Audit(audit::AuditArgs),
    /// Check or show the configuration
    Config(config::ConfigArgs),
    /// Tell what this program is, and which providers it knows
    Info(info::InfoArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// Why a command did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The address to listen on cannot be had.
    #[error("cannot listen on {address}: {error}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why not.
        error: io::Error,
    },
    /// The server cannot run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The keys cannot be read or written.
    #[error(transparent)]
    Keys(#[from] crate::KeysError),
    /// The gateway did not answer, or said no.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A provider that was asked without a gateway did not do it.
    #[error("{failure} (at {url})")]
    Provider {
        /// Where it is.
        url: String,
        /// What went wrong.
        failure: Box<UpstreamFailure>,
    },
    /// The command was given too little or too much.
    #[error("{0}")]
    Usage(String),
    /// Nobody would be asked, and why.
    #[error("{0}")]
    Refused(String),
    /// The gateway is not well, which was said already.
    #[error("degraded")]
    Degraded,
    /// Reading or writing failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Said already; the exit code is all that is left.
    #[error("exit code {0}")]
    Told(u8),
}

/// The configuration with the providers that were found if none is configured, and what was looked for.
///
/// With `bound` it takes the address in between: nothing is looked for if somebody else has it, and with port 0 only
/// then is it known which port is our own.
async fn effective(
    options: &LoadOptions,
    bound: Option<&mut Option<TcpListener>>,
) -> Result<(Config, Option<Discovery>), Failure> {
    let mut config = load(options)?;
    if !config.discover {
        return Ok((config, None));
    }
    let mut own_port = config.server.port;
    if let Some(bound) = bound {
        let listener = serve::bind(config.address()).await?;
        own_port = listener.local_addr()?.port();
        *bound = Some(listener);
    }
    let discovery = discover(&options.env, own_port).await;
    discovery.add_to(&mut config);
    settle_routes(&mut config)?;
    Ok((config, Some(discovery)))
}

// === impl Cli ===

impl Cli {
    /// Does what was asked.
    ///
    /// # Errors
    ///
    /// Why it could not; [`Failure::tell`] says it and gives the exit code.
    pub async fn run(self, env: &Environment) -> Result<(), Failure> {
        match self.command {
            Command::Serve(args) => serve::run(args, env).await,
            Command::Chat(args) => chat::run(args).await,
            Command::Models(args) => models::run(args, env).await,
            Command::Health(args) => health::run(args).await,
            Command::Explain(args) => explain::run(args, env).await,
            Command::Replay(args) => replay::run(args, env).await,
            Command::Keys(args) => keys::run(args, env),
            Command::Pools(args) => pools::run(args).await,
            Command::Costs(args) => costs::run(args, env).await,
            Command::Reprice(args) => reprice::run(args, env).await,
            Command::Audit(args) => audit::run(args, env).await,
            Command::Config(args) => config::run(args, env).await,
            Command::Info(args) => info::run(&args, env),
            Command::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Self::command(), "hoosh", &mut script);
                Ok(say(&String::from_utf8_lossy(&script))?)
            }
        }
    }
}

// === impl Failure ===

impl Failure {
    /// Exit code for a wrong configuration or a wrong use, `EX_USAGE` of sysexits.h.
    const CONFIG: u8 = 64;

    /// Exit code for an address that cannot be had, `EX_UNAVAILABLE`.
    const UNAVAILABLE: u8 = 69;

    /// Says what is wrong on standard error, and gives the exit code.
    pub fn tell(&self) -> u8 {
        match self {
            // A reader such as `head` has had enough: that is how it should end.
            Self::Io(error) if error.kind() == io::ErrorKind::BrokenPipe => return 0,
            Self::Degraded | Self::Told(_) => {}
            Self::Config(errors) => {
                for fault in &errors.faults {
                    note(&format!("{RED}error{PLAIN}: {}\n", printable(&fault.to_string())));
                }
            }
            other => note(&format!("{RED}error{PLAIN}: {}\n", printable(&other.to_string()))),
        }
        if let Some(hint) = self.hint() {
            note(&format!("{hint}\n"));
        }
        self.exit_code()
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Usage(_) => Self::CONFIG,
            Self::Bind { .. } => Self::UNAVAILABLE,
            Self::Told(code) => *code,
            Self::Run(_)
            | Self::Keys(_)
            | Self::Client(_)
            | Self::Provider { .. }
            | Self::Refused(_)
            | Self::Degraded
            | Self::Io(_) => 1,
        }
    }

    /// What may help.
    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Bind { error, .. } if error.kind() == io::ErrorKind::AddrInUse => {
                Some("another program has this port, perhaps another gateway; `--port` chooses another")
            }
            Self::Client(ClientError::Transport { kind: TransportKind::Connect, .. }) => {
                Some("is `hoosh serve` running there? `--url` or HOOSH_URL says where the gateway is")
            }
            Self::Client(error) if error.status() == Some(401) => {
                Some("`--token` or HOOSH_TOKEN gives the token")
            }
            Self::Provider { failure, .. } if failure.kind == FailureKind::Connect => Some(
                "is Ollama running there? `ollama serve` starts it; `base_url` in hoosh.toml says where it is",
            ),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_users_of_1_3_type_is_understood() {
        for line in [
            "hoosh serve --port 9000 --bind 0.0.0.0 --config /etc/hoosh.toml",
            "hoosh serve -c a.toml -p 1 -b ::1 --strategy round_robin --log-format json",
            "hoosh infer --model llama3 hello --stream",
            "hoosh infer --server http://gateway:8088 --model llama3 hello",
            "hoosh models --server http://gateway:8088",
            "hoosh models --json",
            "hoosh models pull llama3.2:1b",
            "hoosh models pull hf.co/org/model:Q4_K_M --provider box -c a.toml",
            "hoosh models rm llama3",
            "hoosh models remove llama3 -p box",
            "hoosh health --server http://gateway:8088 --json",
            "hoosh chat --url http://h:1 -m llama3 What is it?",
            "hoosh chat --temperature 0.2 --max-tokens 5 --no-stream --json -s brief hi",
            "hoosh explain --model llama3",
            "hoosh explain -r body.json --dialect anthropic -H x-hoosh-privacy:local --seed 7 --json -c a.toml",
            "hoosh replay decisions.jsonl --config new.toml",
            "hoosh replay - --all --json",
            "hoosh keys create ci --model llama* --model qwen* --limit requests_per_minute=60 --expires 90d --json",
            "hoosh keys create ops --scope admin --network 10.0.0.0/8 --metadata owner=ada -c a.toml",
            "hoosh keys list --json",
            "hoosh keys revoke k_1",
            "hoosh keys rotate hoosh_ab12cd34 --overlap 7d",
            "hoosh costs",
            "hoosh costs --by day --from 2026-11-01 --to 2026-11-24T12:00:00Z --csv -c a.toml",
            "hoosh costs --by tag:team --csv",
            "hoosh costs --by key",
            "hoosh costs --period 2",
            "hoosh pools list --json",
            "hoosh pools set team:a --parent organisation:o --usd 2.5 --window month --alert 80 --alert 100 --token root",
            "hoosh pools rm team:a",
            "hoosh costs recommend --from 2026-11-01 --json",
            "hoosh costs reset --token root -c a.toml",
            "hoosh reprice -n --from 2026-11-01 --to 2026-11-02 -p groq -m llama3 --json",
            "hoosh audit verify",
            "hoosh audit verify logs --key-file k --checkpoints a --checkpoints b --json",
            "hoosh audit tail -n 3 -f",
            "hoosh audit export logs --format otlp-json --from 2026-11-01 --caller ci",
            "hoosh audit prove --request req_1",
            "hoosh audit erase --request req_1 -c a.toml",
            "hoosh audit key --rotate",
            "hoosh config check --config a.toml",
            "hoosh config show",
            "hoosh config keys",
            "hoosh info --json",
            "hoosh completions bash",
        ] {
            if let Err(error) = parse(line) {
                panic!("{line}: {error}");
            }
        }
        for line in [
            "hoosh",
            "hoosh explain",
            "hoosh replay",
            "hoosh explain -r b.json --dialect latin",
            "hoosh explain -m m --header nonsense",
            "hoosh chat --temperature 3 hi",
            "hoosh chat --max-tokens 0 hi",
            "hoosh server",
            "hoosh keys create",
            "hoosh keys create ci --limit concurrent=many",
            "hoosh costs --by moon",
            "hoosh costs --by tag:",
            "hoosh audit",
            "hoosh audit verify --public-key 12",
            "hoosh audit export --format xml",
            "hoosh audit prove",
            "hoosh costs --from yesterday",
            "hoosh costs --json --csv",
            "hoosh costs --period 1 --from 2026-11-01",
            "hoosh costs --period next",
            "hoosh models pull",
            "hoosh models pull a b",
            "hoosh models llama3",
            "hoosh models --json pull llama3",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn exit_codes_tell_what_kind_of_failure_it_is() {
        let address = "127.0.0.1:1".parse().unwrap();
        let in_use = || io::Error::from(io::ErrorKind::AddrInUse);
        for (failure, code) in [
            (Failure::Config(ConfigErrors { faults: Vec::new() }), 64),
            (Failure::Bind { address, error: in_use() }, 69),
            (Failure::Io(io::ErrorKind::BrokenPipe.into()), 0),
            (Failure::Io(in_use()), 1),
            (Failure::Degraded, 1),
            (Failure::Client(ClientError::Token), 1),
        ] {
            assert_eq!(failure.tell(), code, "{failure}");
        }
    }
}
