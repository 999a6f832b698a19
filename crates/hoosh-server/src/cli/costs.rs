//! `hoosh costs`: what calls used and cost, out of the ledger's file, whether or not a gateway runs.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use hoosh_budget::{
    Durability, FileLedger, LedgerFault, OpenError, PoolTree, UsageFilter, UsageLog, UsageSums,
};
use hoosh_gateway::Gateway;
use http::Method;
use jiff::Timestamp;
use serde_json::Value;

use super::gateway::GatewayArgs;
use super::terminal::{note, say, say_json, table};
use super::{Failure, effective};
use crate::config::{Environment, LedgerPlace, LoadOptions, load};
use crate::recommend::recommend;
use crate::usage::{self, Costs, Period, PeriodAsked};
use crate::{RunError, assembly};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct CostsArgs {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    sums: SumsArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// End the period: costs without dates are counted from now on; nothing is deleted
    ///
    /// Writes into the ledger's file, or asks the gateway that has it open, with an admin's token.
    Reset(ResetArgs),
    /// Tell which cheaper models could have answered the calls that there were
    ///
    /// Out of the ledger's file, whether or not a gateway runs; the providers are asked for their lists of models, which costs nothing.
    Recommend(RecommendArgs),
}

#[derive(Debug, Args)]
struct RecommendArgs {
    /// Calls from when on, such as 2026-11-01, which begins in UTC, or 2026-11-01T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<Timestamp>,

    /// Until when; calls that ended at this time no longer count
    #[arg(long, value_name = "TIME", value_parser = time)]
    to: Option<Timestamp>,

    /// Print JSON, as `GET /v1/costs/recommendations` has it
    #[arg(long)]
    json: bool,

    /// Configuration file, with providers, prices and `[budget] ledger`; HOOSH_CONFIG, ./hoosh.toml or the user's own if not given
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct ResetArgs {
    /// Print JSON, as `POST /v1/costs/reset` has it
    #[arg(long)]
    json: bool,

    /// Configuration file, whose `[budget] ledger` is written; HOOSH_CONFIG, ./hoosh.toml or the user's own if not given
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(flatten)]
    gateway: GatewayArgs,
}

#[derive(Debug, Args)]
struct SumsArgs {
    /// What they are summed up by: provider, model, caller, key (the caller again), pool, day (of UTC) or tag:NAME
    #[arg(long, value_name = "WHAT", default_value = "provider", value_parser = by)]
    by: String,

    /// From when on, such as 2026-11-01, which begins in UTC, or 2026-11-01T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<Timestamp>,

    /// Until when; calls that ended at this time no longer count
    #[arg(long, value_name = "TIME", value_parser = time)]
    to: Option<Timestamp>,

    /// Which period, as `hoosh costs reset` ends them: its number from 1, or `all`; without dates the one that is not ended
    #[arg(long, value_name = "N", conflicts_with_all = ["from", "to"])]
    period: Option<PeriodAsked>,

    /// Print JSON, as `GET /v1/costs` has it
    #[arg(long)]
    json: bool,

    /// Print CSV; without a price `usd` is empty
    #[arg(long, conflicts_with = "json")]
    csv: bool,

    /// Configuration file, whose `[budget] ledger` is read; HOOSH_CONFIG, ./hoosh.toml or the user's own if not given
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Exits with 64 if the configuration is wrong or keeps no rows of calls.
pub(crate) async fn run(args: CostsArgs, env: &Environment) -> Result<(), Failure> {
    match args.command {
        None => sums(args.sums, env).await,
        Some(Command::Reset(args)) => reset(args, env).await,
        Some(Command::Recommend(args)) => cheaper(args, env).await,
    }
}

async fn cheaper(args: RecommendArgs, env: &Environment) -> Result<(), Failure> {
    let options = LoadOptions { file: args.config.clone(), env: env.clone(), ..LoadOptions::default() };
    let (config, _) = effective(&options, None).await?;
    let log = open(&config.budget.ledger)?;
    let gateway = Gateway::builder(assembly::router(&config).map_err(RunError::from)?).build();
    let models = gateway.models().await;
    let filter = UsageFilter { from: args.from, until: args.to, ..UsageFilter::default() };
    let told = recommend(&log, gateway.router(), models, &filter, |_| true).await;
    let told = told.map_err(|fault| Failure::Refused(fault.to_string()))?;
    if args.json {
        return Ok(say_json(&told)?);
    }
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut rows = Vec::new();
    for used in list(&told["models"]) {
        let name = format!("{}/{}", text(&used["provider"]), text(&used["model"]));
        for better in list(&used["cheaper"]) {
            let other = format!("{}/{}", text(&better["provider"]), text(&better["model"]));
            let [calls, usd] = [&used["calls"], &used["usd"]].map(text);
            let [now, saving] = [&better["usd"], &better["saving_usd"]].map(text);
            rows.push([
                name.clone(),
                calls,
                usd,
                other,
                now,
                saving,
                format!("{} %", better["saving_percent"]),
            ]);
        }
    }
    if rows.is_empty() {
        note("no cheaper model is known that could have answered these calls\n");
    } else {
        say(&table(&["used", "calls>", "USD>", "cheaper", "USD>", "saving>", ">"], rows))?;
    }
    for assumption in list(&told["assumptions"]) {
        note(&format!("- {}\n", text(&assumption)));
    }
    Ok(())
}

async fn reset(args: ResetArgs, env: &Environment) -> Result<(), Failure> {
    let options = LoadOptions { file: args.config.clone(), env: env.clone(), ..LoadOptions::default() };
    let told = match open_to_write(&load(&options)?.budget.ledger)? {
        Some(ledger) => {
            let ended = Period::end(&ledger, BY_COMMAND_LINE.to_owned()).await;
            ended.map_err(|fault| Failure::Refused(fault.to_string()))?.told()
        }
        None => args.gateway.client().ask_json(Method::POST, &["v1", "costs", "reset"], None).await?,
    };
    if args.json {
        return Ok(say_json(&told)?);
    }
    Ok(say(&format!("period {} is ended; `hoosh costs --period {0}` tells of it\n", told["number"]))?)
}

async fn sums(args: SumsArgs, env: &Environment) -> Result<(), Failure> {
    let options = LoadOptions { file: args.config.clone(), env: env.clone(), ..LoadOptions::default() };
    let log = open(&load(&options)?.budget.ledger)?;
    let mut filter = UsageFilter { from: args.from, until: args.to, ..UsageFilter::default() };
    let by =
        usage::grouping(&args.by).ok_or_else(|| Failure::Usage(format!("`--by {}`: unknown", args.by)))?;
    let unread = |fault: LedgerFault| Failure::Refused(fault.to_string());
    let marks = log.marks().await.map_err(unread)?;
    let period = Period::of(&marks, args.period, &mut filter);
    let period = period.map_err(|problem| Failure::Usage(format!("`--period` {problem}")))?;
    let costs = Costs::of(&log, &filter, by, period).await.map_err(unread)?;
    if args.json {
        say_json(&costs.told())?;
    } else if args.csv {
        say(&csv(&args.by, &costs.sums)?)?;
    } else if costs.sums.is_empty() {
        note("no calls in that time\n");
    } else {
        let all = cells("all", &costs.total);
        let rows = costs.sums.iter().map(|sums| cells(sums.key.as_deref().unwrap_or("-"), sums)).chain([all]);
        say(&table(&[&args.by, "calls>", "prompt>", "completion>", "USD>", "unpriced>"], rows))?;
    }
    if costs.is_cut() {
        note(&format!("there are more; these are the {} dearest\n", costs.sums.len()));
    }
    Ok(())
}

/// Who changes something without a gateway.
pub(super) const BY_COMMAND_LINE: &str = "command line";

pub(super) fn open(ledger: &LedgerPlace) -> Result<UsageLog, Failure> {
    Ok(UsageLog::open(place(ledger)?).map_err(RunError::Ledger)?)
}

/// The ledger to be written; `None`: a gateway that runs has it open, and is to be asked.
pub(super) fn open_to_write(ledger: &LedgerPlace) -> Result<Option<FileLedger>, Failure> {
    let path = place(ledger)?;
    match FileLedger::open(path, &PoolTree::default(), Durability::Strict, None, Timestamp::now()) {
        Ok(ledger) => Ok(Some(ledger)),
        Err(OpenError::InUse(path)) => {
            note(&format!("a gateway has {} open; asking it\n", path.display()));
            Ok(None)
        }
        Err(error) => Err(RunError::Ledger(error).into()),
    }
}

/// The file that rows are kept in.
fn place(ledger: &LedgerPlace) -> Result<&Path, Failure> {
    let no_rows = |problem: String| {
        let help = "`[[pools]]`, or `log = true` under [budget] in hoosh.toml, keep a row for each call";
        Failure::Usage(format!("{problem}: {help}"))
    };
    let path = match ledger {
        LedgerPlace::Memory => {
            return Err(no_rows("`[budget] ledger` is `memory`, which keeps none".to_owned()));
        }
        LedgerPlace::File(path) => Path::new(path),
    };
    // Whatever else is wrong with it is said by who opens it.
    if matches!(path.try_exists(), Ok(false)) {
        return Err(no_rows(format!("there is no ledger {} yet", path.display())));
    }
    Ok(path)
}

/// A line of the table.
fn cells(key: &str, sums: &UsageSums) -> [String; 6] {
    [
        key.to_owned(),
        sums.calls.to_string(),
        sums.usage.prompt_total().to_string(),
        sums.usage.completion_total().to_string(),
        usage::cost(sums).unwrap_or_else(|| "-".to_owned()),
        sums.unpriced.to_string(),
    ]
}

fn csv(by: &str, sums: &[UsageSums]) -> Result<String, Failure> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let mut write = |record: [&str; 6]| writer.write_record(record).map_err(std::io::Error::from);
    write([by, "calls", "prompt_tokens", "completion_tokens", "usd", "unpriced_calls"])?;
    for sums in sums {
        let [key, calls, prompt, completion, _, unpriced] =
            cells(sums.key.as_deref().unwrap_or_default(), sums);
        let usd = usage::cost(sums).unwrap_or_default();
        write([&key, &calls, &prompt, &completion, &usd, &unpriced])?;
    }
    let written = writer.into_inner().map_err(|error| error.into_error())?;
    Ok(String::from_utf8_lossy(&written).into_owned())
}

fn by(text: &str) -> Result<String, String> {
    let known = usage::grouping(text).map(|_| text.to_owned());
    known.ok_or_else(|| format!("expected one of {}", usage::groupings()))
}

pub(super) fn time(text: &str) -> Result<Timestamp, &'static str> {
    usage::time(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_quotes_what_it_has_to_and_leaves_out_a_price_that_is_not_known() {
        let sums = |key: Option<&str>, priced, unpriced| UsageSums {
            key: key.map(str::to_owned),
            calls: 2,
            priced,
            unpriced,
            ..UsageSums::default()
        };
        let text = csv("model", &[sums(Some("a,\"b\""), 2, 0), sums(None, 0, 2)]).unwrap();
        assert_eq!(
            text,
            "model,calls,prompt_tokens,completion_tokens,usd,unpriced_calls\n\"a,\"\"b\"\"\",2,0,0,0.000000000,0\n,2,0,0,,2\n"
        );
    }
}
