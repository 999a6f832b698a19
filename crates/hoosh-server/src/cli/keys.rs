//! `hoosh keys`: makes, lists and ends the keys of a gateway, whether or not it runs. A running one sees it within seconds.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use hoosh_budget::keys::{IssuedKey, KeyError, KeyId, KeyRecord, Keyring, Pattern, StoreError};
use jiff::Timestamp;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::Failure;
use super::terminal::{GREEN, PLAIN, note, printable, say, say_json, table};
use crate::config::{Environment, LoadOptions, load};
use crate::keys::{self, BadOrder, Order, Rotation, is_askers_fault, status, told};

#[derive(Debug, Args)]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a key, and show it this once
    Create(Box<CreateArgs>),
    /// List all keys, those that have ended too
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        store: StoreArgs,
    },
    /// End a key: it is refused from now on
    Revoke {
        /// Its id or its prefix, as `hoosh keys list` shows them
        key: String,

        #[command(flatten)]
        store: StoreArgs,
    },
    /// Make a key that takes the place of another, which works on for a time
    ///
    /// The new one may do what the old one may, and limits, budgets and reports go on.
    Rotate {
        /// Its id or its prefix, as `hoosh keys list` shows them
        key: String,

        /// How long the old one still works, such as 30m, 24h or 7d
        #[arg(long, value_name = "TIME", default_value = "24h")]
        overlap: String,

        /// When the new one expires, such as 90d or 2027-01-31T00:00:00Z; after as long as the old one was made for if not given
        #[arg(long, value_name = "WHEN")]
        expires: Option<String>,

        #[command(flatten)]
        store: StoreArgs,
    },
}

#[derive(Debug, Args)]
struct StoreArgs {
    /// Configuration file, whose `[auth] keys` says where keys are; HOOSH_CONFIG, ./hoosh.toml or the user's own if not given
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What each may be said several times of restricts the key to those; without it nothing is restricted.
#[derive(Debug, Args)]
struct CreateArgs {
    /// What it is called, for people: whose it is, or what for
    name: String,

    /// When it expires, such as 90d, 12h or 2027-01-31T00:00:00Z; never if not given
    #[arg(long, value_name = "WHEN")]
    expires: Option<String>,

    /// What it is for: inference, usage:read or admin; may be repeated [default: inference]
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,

    /// Models that it may ask for, as callers name them, with `*` and `?`; may be repeated
    #[arg(long = "model", value_name = "PATTERN")]
    models: Vec<String>,

    /// Providers that may answer it; may be repeated
    #[arg(long = "provider", value_name = "PATTERN")]
    providers: Vec<String>,

    /// Paths that it may go to, such as `/v1/chat/*`; may be repeated
    #[arg(long = "endpoint", value_name = "PATTERN")]
    endpoints: Vec<String>,

    /// Networks that it may come from, such as 10.0.0.0/8 or one address; may be repeated
    #[arg(long = "network", value_name = "NETWORK")]
    networks: Vec<String>,

    /// Pools that it belongs to beside its own; may be repeated
    #[arg(long = "pool", value_name = "POOL")]
    pools: Vec<String>,

    /// The highest tier that its calls wait in: high, normal, low or batch
    #[arg(long, value_name = "TIER")]
    tier: Option<String>,

    /// A limit in place of that in `[limits]`, such as requests_per_minute=60, tokens_per_day=1000000 or concurrent=4; may be
    /// repeated
    #[arg(long = "limit", value_name = "NAME=N", value_parser = limit)]
    limits: Vec<(String, u64)>,

    /// What to find it by again; may be repeated
    #[arg(long = "metadata", value_name = "NAME=TEXT", value_parser = pair)]
    metadata: Vec<(String, String)>,

    #[command(flatten)]
    store: StoreArgs,
}

/// Exits with 64 if the configuration or what is asked for is wrong.
pub(crate) fn run(args: KeysArgs, env: &Environment) -> Result<(), Failure> {
    let now = Timestamp::now();
    match args.command {
        Command::Create(args) => {
            let (order, store) = args.order();
            let order = order.read(now).map_err(misread)?;
            let issued = open(&store, env)?.create(order, now).map_err(refused)?;
            show(&issued, store.json, now)?;
        }
        Command::List { store } => {
            let records = open(&store, env)?.list();
            if store.json {
                let all: Vec<Value> = records.iter().map(|record| told(record, now)).collect();
                say_json(&json!(all))?;
            } else if records.is_empty() {
                note("no keys; `hoosh keys create NAME` makes one\n");
            } else {
                let rows = records.iter().map(|record| row(record, now));
                say(&table(&["id", "key", "name", "status", "expires", "last used", "for"], rows))?;
            }
        }
        Command::Revoke { key, store } => {
            let ring = open(&store, env)?;
            let id = id_of(&ring, &key)?;
            let record = ring.revoke(&id, now).map_err(refused)?;
            if store.json {
                say_json(&told(&record, now))?;
            } else {
                let (id, name) = (&record.id, printable(&record.name));
                say(&format!(
                    "{GREEN}revoked{PLAIN}: {id} ({name}); a running gateway refuses it within seconds\n"
                ))?;
            }
        }
        Command::Rotate { key, overlap, expires, store } => {
            let ring = open(&store, env)?;
            let id = id_of(&ring, &key)?;
            let old =
                ring.find(id.as_str()).ok_or_else(|| refused(StoreError::UnknownKey(id.clone()).into()))?;
            let rotation = Rotation { overlap: Some(overlap), expires };
            let (overlap, expires) = rotation.read(&old, now).map_err(misread)?;
            let issued = ring.rotate(&id, overlap, expires, now).map_err(refused)?;
            show(&issued, store.json, now)?;
            if let Some(until) = ring.find(id.as_str()).and_then(|old| old.expires).filter(|_| !store.json) {
                note(&format!("the old one, {id}, works until {until}\n"));
            }
        }
    }
    Ok(())
}

fn open(store: &StoreArgs, env: &Environment) -> Result<Arc<Keyring>, Failure> {
    let options = LoadOptions { file: store.config.clone(), env: env.clone(), ..LoadOptions::default() };
    let config = load(&options)?;
    keys::open(&config.auth)?.ok_or_else(|| {
        Failure::Usage(
            "no keys are kept: write `keys = \"keys.db\"` under [auth] in hoosh.toml first".to_owned(),
        )
    })
}

fn id_of(ring: &Keyring, key: &str) -> Result<KeyId, Failure> {
    // Who has only the key has its prefix.
    let prefix = key.get(..key.rfind('_').unwrap_or_default()).unwrap_or_default();
    let found = ring.find(key).or_else(|| ring.find(prefix));
    found.map(|record| record.id).ok_or_else(|| refused(StoreError::UnknownKey(KeyId::new("")).into()))
}

fn show(issued: &IssuedKey, json: bool, now: Timestamp) -> Result<(), Failure> {
    let secret = issued.secret.expose_secret();
    if json {
        let mut shown = told(&issued.record, now);
        if let Some(fields) = shown.as_object_mut() {
            fields.insert("key".to_owned(), secret.into());
        }
        return Ok(say_json(&shown)?);
    }
    // Alone on standard output, so that `KEY=$(hoosh keys create ci)` is the key.
    say(&format!("{secret}\n"))?;
    let (id, name) = (&issued.record.id, printable(&issued.record.name));
    note(&format!(
        "{id} ({name}): keep it now, it is not shown again; a running gateway takes it within seconds\n"
    ));
    Ok(())
}

fn row(record: &KeyRecord, now: Timestamp) -> [String; 7] {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let scopes = record.grant.scopes.iter().map(|scope| scope.as_str().to_owned());
    let models = record.grant.models.iter().map(Pattern::as_str).map(str::to_owned);
    [
        record.id.to_string(),
        format!("{}_…", record.prefix),
        record.name.clone(),
        status(record, now).to_owned(),
        or_dash(record.expires.map(|at| at.to_string())),
        or_dash(record.last_used_on().map(|day| day.to_string())),
        scopes.chain(models).collect::<Vec<_>>().join(", "),
    ]
}

fn misread(bad: BadOrder) -> Failure {
    Failure::Usage(bad.to_string())
}

fn refused(error: KeyError) -> Failure {
    match &error {
        // Whatever was typed may have been a whole key.
        KeyError::Store(StoreError::UnknownKey(_)) => {
            Failure::Usage("there is no such key; `hoosh keys list` shows all".to_owned())
        }
        error if is_askers_fault(error) => Failure::Usage(error.to_string()),
        _ => Failure::Keys(error.into()),
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=TEXT")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn limit(text: &str) -> Result<(String, u64), String> {
    let (name, amount) = pair(text).map_err(|_| "expected NAME=N".to_owned())?;
    let amount = amount.parse().map_err(|_| format!("expected a whole number behind `{name}=`"))?;
    Ok((name, amount))
}

// === impl CreateArgs ===

impl CreateArgs {
    fn order(self) -> (Order, StoreArgs) {
        let Self { name, expires, scopes, models, providers, endpoints, networks, pools, tier, .. } = self;
        let order = Order {
            name,
            expires,
            scopes: (!scopes.is_empty()).then_some(scopes),
            models,
            providers,
            endpoints,
            networks,
            pools,
            tier,
            limits: self.limits.into_iter().collect::<BTreeMap<_, _>>(),
            metadata: self.metadata.into_iter().collect(),
        };
        (order, self.store)
    }
}
