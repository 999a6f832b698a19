//! `hoosh health`: how a running gateway and its providers are.

use clap::Args;
use hoosh_client::{Health, ProviderCondition, ProviderStatus, Readiness};
use serde_json::{Value, json};

use super::Failure;
use super::gateway::{GatewayArgs, duration};
use super::terminal::{GREEN, PLAIN, RED, say, say_json, short, table};

#[derive(Debug, Args)]
pub(crate) struct HealthArgs {
    #[command(flatten)]
    gateway: GatewayArgs,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Exits with 1 if the gateway is stopping or a provider cannot be asked.
pub(crate) async fn run(args: HealthArgs) -> Result<(), Failure> {
    let client = args.gateway.client();
    let health = client.health().await?;
    let providers = client.providers().await?;
    let well = health.is_ok() && providers.iter().all(ProviderStatus::is_healthy);
    if args.json {
        say_json(&as_json(&health, &providers, well))?;
    } else {
        let (colour, word) = if well { (GREEN, "ok") } else { (RED, "degraded") };
        let version = health.version.as_deref().map_or(String::new(), |version| format!(", hoosh {version}"));
        let state = match &health.status {
            Readiness::Ok => String::new(),
            other => format!(", {}", readiness(other)),
        };
        say(&format!(
            "{colour}{word}{PLAIN}: {}{}{}\n",
            args.gateway.url,
            short(&version, 40),
            short(&state, 40)
        ))?;
        if !providers.is_empty() {
            say(&table(
                &["provider", "type", "status", "latency>", "models>", "problem"],
                providers.iter().map(row),
            ))?;
        }
    }
    if well { Ok(()) } else { Err(Failure::Degraded) }
}

fn row(provider: &ProviderStatus) -> [String; 6] {
    [
        provider.name.clone(),
        provider.provider_type.clone(),
        condition(&provider.status).to_owned(),
        provider.latency.map_or("-".to_owned(), duration),
        provider.models.map_or("-".to_owned(), |count| count.to_string()),
        provider.error.clone().unwrap_or_default(),
    ]
}

fn as_json(health: &Health, providers: &[ProviderStatus], well: bool) -> Value {
    let provider = |provider: &ProviderStatus| {
        json!({
            "name": provider.name,
            "type": provider.provider_type,
            "base_url": provider.base_url,
            "status": condition(&provider.status),
            "latency_ms": provider.latency.map(|time| time.as_secs_f64() * 1_000.0),
            "models": provider.models,
            "error": provider.error,
        })
    };
    json!({
        "ok": well,
        "status": readiness(&health.status),
        "version": health.version,
        "providers": providers.iter().map(provider).collect::<Vec<_>>(),
    })
}

fn readiness(status: &Readiness) -> &str {
    match status {
        Readiness::Ok => "ok",
        Readiness::Draining => "draining",
        Readiness::Other(word) => word,
    }
}

fn condition(status: &ProviderCondition) -> &str {
    match status {
        ProviderCondition::Healthy => "healthy",
        ProviderCondition::Unhealthy => "unhealthy",
        ProviderCondition::Other(word) => word,
    }
}
