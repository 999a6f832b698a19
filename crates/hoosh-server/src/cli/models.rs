//! `hoosh models`: which models a running gateway offers, and at what price; getting and removing Ollama's.

mod ollama;
mod progress;

use clap::{Args, Subcommand};
use hoosh_core::catalog::Catalog;
use hoosh_core::{ModelInfo, NanoUsd};
use serde_json::{Value, json};

use super::Failure;
use super::gateway::GatewayArgs;
use super::terminal::{note, say, say_json, table};
use crate::config::Environment;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct ModelsArgs {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    gateway: GatewayArgs,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Have an Ollama get a model
    ///
    /// It is asked directly, without a gateway. A download that was stopped goes on from where it was.
    Pull(ollama::ModelArgs),
    /// Remove a model from an Ollama's disk
    ///
    /// It is asked directly, without a gateway.
    #[command(visible_alias = "remove")]
    Rm(ollama::ModelArgs),
}

pub(crate) async fn run(args: ModelsArgs, env: &Environment) -> Result<(), Failure> {
    match args.command {
        Some(Command::Pull(model)) => ollama::pull(model, env).await,
        Some(Command::Rm(model)) => ollama::remove(model, env).await,
        None => list(args).await,
    }
}

async fn list(args: ModelsArgs) -> Result<(), Failure> {
    let listed = args.gateway.client().list_models().await?;
    let catalog = Catalog::builtin();
    // What the gateway does not say, the catalogue that this program ships with may know.
    let known = |model: ModelInfo| match catalog.find(&model.provider, &model.id) {
        Some(known) => model.or(known),
        None => model,
    };
    let models: Vec<ModelInfo> = listed.into_iter().map(known).collect();
    if args.json {
        say_json(&Value::Array(models.iter().map(as_json).collect()))?;
    } else if models.is_empty() {
        note("the gateway lists no models\n");
    } else {
        say(&table(&["model", "provider", "context>", "in $/M>", "out $/M>"], models.iter().map(row)))?;
    }
    Ok(())
}

fn row(model: &ModelInfo) -> [String; 5] {
    let rates = model.price.as_ref().map(|price| price.rates);
    let amount = |amount: Option<NanoUsd>| amount.map_or("-".to_owned(), dollars);
    [
        model.id.clone(),
        model.provider.clone(),
        model.context_window.map_or("-".to_owned(), tokens),
        amount(rates.map(|rates| rates.input)),
        amount(rates.map(|rates| rates.output)),
    ]
}

fn as_json(model: &ModelInfo) -> Value {
    let rates = model.price.as_ref().map(|price| price.rates);
    json!({
        "id": model.id,
        "provider": model.provider,
        "context_window": model.context_window,
        "output_max": model.output_max,
        "tools": model.tools,
        "reasoning": model.reasoning,
        "input_usd_per_million": rates.map(|rates| dollars(rates.input)),
        "output_usd_per_million": rates.map(|rates| dollars(rates.output)),
    })
}

/// An amount with two decimal places, or more where it has more.
pub(super) fn dollars(amount: NanoUsd) -> String {
    let exact = amount.to_string().replace('$', "");
    let (whole, fraction) = exact.split_once('.').unwrap_or((&exact, ""));
    format!("{whole}.{:0<2}", fraction.trim_end_matches('0'))
}

/// A number of tokens as it is advertised: `128k`, `1M`, `131,072` as `131k`.
fn tokens(count: u64) -> String {
    match count {
        0..1_000 => count.to_string(),
        1_000..1_000_000 => format!("{}k", count / 1_000),
        _ if count % 1_000_000 < 50_000 => format!("{}M", count / 1_000_000),
        _ => format!("{:.1}M", count as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_and_sizes_are_short_and_true() {
        for (nanos, expect) in
            [(0, "0.00"), (2_500_000_000, "2.50"), (37_500_000, "0.0375"), (15_000_000_000, "15.00")]
        {
            assert_eq!(dollars(NanoUsd(nanos)), expect);
        }
        for (count, expect) in
            [(512, "512"), (8_192, "8k"), (131_072, "131k"), (1_048_576, "1M"), (2_500_000, "2.5M")]
        {
            assert_eq!(tokens(count), expect);
        }
    }
}
