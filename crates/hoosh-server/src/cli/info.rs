//! `hoosh info`: what this program is, and what it would find here.

use clap::Args;
use hoosh_providers::{PRESETS, Preset};
use serde_json::{Value, json};

use super::terminal::{BOLD, PLAIN, say, say_json, table};
use super::{Failure, LICENCE, SOURCE, VERSION};
use crate::config::{Config, ConfigErrors, Environment, LoadOptions, load};

#[derive(Debug, Args)]
pub(crate) struct InfoArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &InfoArgs, env: &Environment) -> Result<(), Failure> {
    let config = load(&LoadOptions { env: env.clone(), ..LoadOptions::default() });
    if args.json {
        say_json(&as_json(&config, env))?;
        return Ok(());
    }
    say(&format!(
        "hoosh {VERSION}\nlicence   {LICENCE}\nsource    {SOURCE}\nfeatures  {}\nconfig    {}\n\n{BOLD}provider types{PLAIN}\n",
        if features().is_empty() { "none".to_owned() } else { features().join(", ") },
        match &config {
            Ok(config) if config.sources.is_empty() => "none; providers are looked for at start".to_owned(),
            Ok(config) => config.sources.join(", "),
            Err(errors) => format!("{} faults; `hoosh config check` tells them", errors.faults.len()),
        },
    ))?;
    let row = |preset: &Preset| {
        [preset.kind.to_string(), preset.label.to_owned(), place(preset), keys(preset, env)]
    };
    say(&table(&["type", "name", "address", "key"], PRESETS.iter().map(row)))?;
    Ok(())
}

/// The features of this build that bring code of other licences or change what it can do. None yet.
fn features() -> &'static [&'static str] {
    &[]
}

fn place(preset: &Preset) -> String {
    if preset.host.is_empty() { "base_url".to_owned() } else { preset.host.to_owned() }
}

fn keys(preset: &Preset, env: &Environment) -> String {
    let variable = |name: &&str| match env.filled(name) {
        Some(_) => format!("{name} (set)"),
        None => (*name).to_owned(),
    };
    let variables: Vec<String> = preset.key_env.iter().map(variable).collect();
    if variables.is_empty() { "-".to_owned() } else { variables.join(", ") }
}

fn as_json(config: &Result<Config, ConfigErrors>, env: &Environment) -> Value {
    let preset = |preset: &Preset| {
        json!({
            "type": preset.kind.as_str(),
            "name": preset.label,
            "base_url": Some(preset.host).filter(|host| !host.is_empty()),
            "local": preset.local,
            "key_variables": preset.key_env,
            "key_set": env.first_filled(preset.key_env).is_some(),
        })
    };
    json!({
        "version": VERSION,
        "licence": LICENCE,
        "source": SOURCE,
        "features": features(),
        "config": {
            "sources": config.as_ref().map_or(&[][..], |config| config.sources.as_slice()),
            "faults": config.as_ref().err().map_or(0, |errors| errors.faults.len()),
        },
        "providers": PRESETS.iter().map(preset).collect::<Vec<_>>(),
    })
}
