//! `hoosh reprice`: costs worked out anew, in the ledger's file or by the gateway that has it open.

use std::path::PathBuf;

use clap::Args;
use http::Method;

use super::costs::{BY_COMMAND_LINE, open, open_to_write};
use super::gateway::GatewayArgs;
use super::terminal::{note, say, say_json, table};
use super::{Failure, effective};
use crate::assembly;
use crate::config::{Environment, LoadOptions};
use crate::reprice::{RepriceOrder, Repriced, RepricedModel, Sums, reprice};

#[derive(Debug, Args)]
pub(crate) struct RepriceArgs {
    /// Only calls from when on, such as 2026-11-01, which begins in UTC, or 2026-11-01T12:00:00Z
    #[arg(long, value_name = "TIME")]
    from: Option<String>,

    /// Only calls that ended before this time
    #[arg(long, value_name = "TIME")]
    to: Option<String>,

    /// Only calls that this provider answered
    #[arg(short, long, value_name = "NAME")]
    provider: Option<String>,

    /// Only calls that this model answered, as its provider names it
    #[arg(short, long, value_name = "MODEL")]
    model: Option<String>,

    /// Tell what would change, and change nothing
    #[arg(short = 'n', long)]
    dry_run: bool,

    /// Print JSON, as `POST /v1/admin/reprice` has it
    #[arg(long)]
    json: bool,

    /// Configuration file, with prices and `[budget] ledger`; HOOSH_CONFIG, ./hoosh.toml or the user's own if not given
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(flatten)]
    gateway: GatewayArgs,
}

/// Exits with 64 if the configuration is wrong or keeps no rows of calls.
pub(crate) async fn run(args: RepriceArgs, env: &Environment) -> Result<(), Failure> {
    let options = LoadOptions { file: args.config.clone(), env: env.clone(), ..LoadOptions::default() };
    let order = RepriceOrder {
        from: args.from,
        to: args.to,
        provider: args.provider,
        model: args.model,
        dry_run: args.dry_run,
    };
    let filter =
        order.filter().map_err(|(field, problem)| Failure::Usage(format!("`--{field}` {problem}")))?;
    let (config, _) = effective(&options, None).await?;
    let router = assembly::router(&config).map_err(crate::RunError::from)?;
    let unread = |fault: hoosh_budget::LedgerFault| Failure::Refused(fault.to_string());
    // A trial only reads, which can be done beside a gateway.
    let repriced = if args.dry_run {
        let log = open(&config.budget.ledger)?;
        reprice(&log, None, &router, &filter, BY_COMMAND_LINE).await.map_err(unread)?
    } else if let Some(ledger) = open_to_write(&config.budget.ledger)? {
        let done = reprice(ledger.usage(), Some(&ledger), &router, &filter, BY_COMMAND_LINE).await;
        done.map_err(unread)?
    } else {
        // By its prices, which are those of its last reload.
        let order = serde_json::to_value(&order).map_err(std::io::Error::from)?;
        let told =
            args.gateway.client().ask_json(Method::POST, &["v1", "admin", "reprice"], Some(&order)).await?;
        serde_json::from_value(told).map_err(std::io::Error::from)?
    };
    if args.json {
        return Ok(say_json(&serde_json::to_value(&repriced).map_err(std::io::Error::from)?)?);
    }
    show(&repriced)
}

fn show(repriced: &Repriced) -> Result<(), Failure> {
    if repriced.total.calls == 0 {
        note("no calls that used anything\n");
        return Ok(());
    }
    let header =
        ["provider", "model", "calls>", "other>", "USD before>", "USD now>", "difference>", "unpriced>"];
    let rows = repriced.models.iter().map(|RepricedModel { provider, model, sums }| {
        cells(provider.as_deref().unwrap_or("-"), model.as_deref().unwrap_or("-"), sums)
    });
    say(&table(&header, rows.chain([cells("all", "", &repriced.total)])))?;
    note(if repriced.dry_run {
        "nothing was changed; without `--dry-run` it is\n"
    } else {
        "rows keep what was charged, and pools what they let through\n"
    });
    Ok(())
}

fn cells(provider: &str, model: &str, sums: &Sums) -> [String; 8] {
    [
        provider.to_owned(),
        model.to_owned(),
        sums.calls.to_string(),
        sums.adjusted.to_string(),
        sums.usd_before.clone(),
        sums.usd_after.clone(),
        sums.difference.clone(),
        sums.unpriced.to_string(),
    ]
}
