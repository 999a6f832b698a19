//! `hoosh config`: whether the configuration is right, and what it comes to.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::banner::{providers_json, providers_table};
use super::terminal::{GREEN, PLAIN, YELLOW, note, printable, say, say_json};
use super::{Failure, effective};
use crate::config::{Config, ConfigErrors, Environment, LoadOptions, keys_markdown};

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Read the configuration, and tell what it comes to or everything that is wrong with it
    Check {
        #[command(flatten)]
        file: FileArgs,

        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the effective configuration as TOML, without secrets, with where each setting is from
    Show {
        #[command(flatten)]
        file: FileArgs,
    },
    /// Print every key there is, with what it takes and its default
    Keys,
}

#[derive(Debug, Args)]
struct FileArgs {
    /// Configuration file; HOOSH_CONFIG, ./hoosh.toml or the user's own if not given
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Exits with 64 if the configuration is wrong.
pub(crate) async fn run(args: ConfigArgs, env: &Environment) -> Result<(), Failure> {
    let load = async |file: FileArgs| {
        let options = LoadOptions { file: file.config, env: env.clone(), ..LoadOptions::default() };
        effective(&options, None).await
    };
    match args.command {
        Command::Keys => say(&keys_markdown())?,
        Command::Show { file } => say(&load(file).await?.0.to_toml())?,
        Command::Check { file, json: true } => match load(file).await {
            Ok((config, _)) => say_json(&as_json(&config))?,
            Err(Failure::Config(errors)) => {
                say_json(&faults_json(&errors))?;
                return Err(Failure::Told(Failure::CONFIG));
            }
            Err(other) => return Err(other),
        },
        Command::Check { file, json: false } => {
            let (config, _) = load(file).await?;
            let from = if config.sources.is_empty() {
                "defaults alone".to_owned()
            } else {
                config.sources.join(", ")
            };
            say(&format!("{GREEN}ok{PLAIN}: {from}; listens on {}\n", config.address()))?;
            if config.providers.is_empty() {
                say("no providers; `hoosh serve` looks for them again\n")?;
            } else {
                say(&providers_table(&config))?;
            }
            for (alias, targets) in &config.aliases {
                say(&format!(" {} -> {}\n", printable(alias), printable(&targets.join(", "))))?;
            }
            for (pattern, strategy) in &config.strategies {
                say(&format!(" {}: {strategy}\n", printable(pattern)))?;
            }
            for warning in &config.warnings {
                note(&format!("{YELLOW}warning{PLAIN}: {}\n", printable(warning)));
            }
        }
    }
    Ok(())
}

fn as_json(config: &Config) -> Value {
    let strategies = config.strategies.iter().map(|(pattern, one)| (pattern.clone(), one.as_str().into()));
    json!({
        "ok": true,
        "sources": config.sources,
        "address": config.address().to_string(),
        "providers": providers_json(config),
        "aliases": config.aliases,
        "strategies": strategies.collect::<Map<_, _>>(),
        "warnings": config.warnings,
    })
}

fn faults_json(errors: &ConfigErrors) -> Value {
    json!({ "ok": false, "faults": errors.to_json() })
}
