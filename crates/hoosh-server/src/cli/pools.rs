//! `hoosh pools`: the pools of a running gateway, as they are defined; sets and removes those that are not the configuration's.

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value};

use super::Failure;
use super::gateway::GatewayArgs;
use super::terminal::{GREEN, PLAIN, note, printable, say, say_json, table};

#[derive(Debug, Args)]
pub(crate) struct PoolsArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List all pools as they are defined, and where
    #[command(visible_alias = "ls")]
    List(TellArgs),
    /// Define a pool, or change one that was defined so; what is not said is as for `[[pools]]`
    ///
    /// What was spent in it stays. Those of the configuration are changed there.
    Set(Box<SetArgs>),
    /// Remove a pool that was defined so; what was spent in it stays in the ledger
    #[command(visible_alias = "rm")]
    Remove {
        /// Its name, such as team:search
        name: String,

        #[command(flatten)]
        tell: TellArgs,
    },
}

#[derive(Debug, Args)]
struct TellArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    gateway: GatewayArgs,
}

#[derive(Debug, Args)]
struct SetArgs {
    /// Its name, such as team:search, or user:* for each user
    name: String,

    /// The pool that is charged whenever this one is
    #[arg(long, value_name = "POOL")]
    parent: Option<String>,

    /// Tokens that may be spent in a window
    #[arg(long, value_name = "N")]
    tokens: Option<u64>,

    /// US dollars that may be spent in a window, such as 25 or 0.5
    #[arg(long, value_name = "AMOUNT")]
    usd: Option<String>,

    /// When it begins anew: none, minute, hour, day, week, month, or `rolling` with a number of seconds
    #[arg(long, value_name = "WINDOW")]
    window: Option<String>,

    /// Where its days begin, such as Europe/Berlin
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,

    /// What happens when it has not enough left: hard or soft
    #[arg(long, value_name = "MODE")]
    mode: Option<String>,

    /// A percent of it at which is told; may be repeated
    #[arg(long = "alert", value_name = "PERCENT")]
    alerts: Vec<u8>,

    #[command(flatten)]
    tell: TellArgs,
}

/// The gateway checks what is asked for.
pub(crate) async fn run(args: PoolsArgs) -> Result<(), Failure> {
    match args.command {
        Command::List(tell) => list(&tell).await,
        Command::Set(args) => set(*args).await,
        Command::Remove { name, tell } => {
            let removed = ask(&tell, Method::DELETE, Some(&name), None).await?;
            done(&tell, &removed, "removed")
        }
    }
}

async fn list(tell: &TellArgs) -> Result<(), Failure> {
    let told = ask(tell, Method::GET, None, None).await?;
    let pools = told["data"].as_array().cloned().unwrap_or_default();
    if tell.json {
        return Ok(say_json(&Value::Array(pools))?);
    }
    if pools.is_empty() {
        note("no pools; `hoosh pools set NAME` or `[[pools]]` define some\n");
        return Ok(());
    }
    let text = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(Value::to_string).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    };
    let fields = ["name", "parent", "tokens", "usd", "window", "mode", "alerts"];
    let rows = pools.iter().map(|pool| {
        let place = pool["configured_at"].as_str().unwrap_or("at run time").to_owned();
        fields.map(|field| text(&pool[field])).into_iter().chain([place]).collect::<Vec<_>>()
    });
    let header = ["name", "parent", "tokens>", "USD>", "window", "mode", "alerts", "defined"];
    Ok(say(&table(&header, rows))?)
}

async fn set(args: SetArgs) -> Result<(), Failure> {
    let mut settings = Map::new();
    let texts = [
        ("parent", args.parent),
        ("usd", args.usd),
        ("window", args.window),
        ("time_zone", args.time_zone),
        ("mode", args.mode),
    ];
    settings.extend(texts.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text?.into()))));
    settings.extend(args.tokens.map(|tokens| ("tokens".to_owned(), tokens.into())));
    if !args.alerts.is_empty() {
        settings.insert("alerts".to_owned(), args.alerts.into());
    }
    let told = ask(&args.tell, Method::PUT, Some(&args.name), Some(&settings.into())).await?;
    done(&args.tell, &told, "defined")
}

async fn ask(
    tell: &TellArgs,
    method: Method,
    name: Option<&str>,
    body: Option<&Value>,
) -> Result<Value, Failure> {
    let path: Vec<&str> = ["v1", "admin", "pools"].into_iter().chain(name).collect();
    Ok(tell.gateway.client().ask_json(method, &path, body).await?)
}

fn done(tell: &TellArgs, pool: &Value, what: &str) -> Result<(), Failure> {
    if tell.json {
        return Ok(say_json(pool)?);
    }
    let name = printable(pool["name"].as_str().unwrap_or_default());
    Ok(say(&format!("{GREEN}{what}{PLAIN}: {name}\n"))?)
}
