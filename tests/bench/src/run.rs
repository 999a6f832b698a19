//! `run`: starts everything, measures in interleaved rounds, prints the table.
//!
//! This file decides the order; what a phase is lives in [`rounds`] and [`standing`], how many calls it has in
//! [`size`], what the numbers must be in [`report`].

mod bed;
mod report;
mod rounds;
mod size;
mod standing;

use std::{fs, path::PathBuf, process::ExitCode, time::Duration};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use self::{
    bed::{Bed, Subject},
    report::Report,
    rounds::Tally,
    size::Size,
    standing::Standing,
};
use crate::{
    cores::{Cores, Placement, Stay},
    failure::{Context, Failure},
};

/// A round takes about ten seconds and a start under two; a hoosh that stops answering must end the run
/// with a sentence, not hang it.
const STEP_MAX: Duration = Duration::from_secs(180);

/// Descriptors that a process has beside those of the held streams: lines of crews, logs, the runtime.
const FILES_BESIDE: u64 = 128;

/// What to measure, and how long.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The hoosh binary, a release build
    #[arg(long, default_value = "target/release/hoosh")]
    hoosh: PathBuf,
    /// Put a second floor in hoosh's place: what its ratios are beside 1.00 is the noise of the method
    #[arg(long)]
    floor_only: bool,
    /// TOML to put after the generated hoosh.toml, to measure with more policies on
    #[arg(long, value_name = "FILE", conflicts_with = "floor_only")]
    extra: Option<PathBuf>,
    /// The key that calls carry, if `--extra` asks for one
    #[arg(long, value_name = "KEY", default_value = "bench-key")]
    key: String,
    /// Interleaved rounds, 15 unless told, 5 if quick; the numbers are their medians
    #[arg(long, value_parser = clap::value_parser!(u32).range(5..=101))]
    rounds: Option<u32>,
    /// Streams to hold open when memory is read
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    streams: u32,
    /// Who shares a core with whom
    #[arg(long, value_enum, default_value_t = Placement::Apart)]
    place: Placement,
    /// A smoke test of ten seconds: the same table with much more noise, without the rows by calls per second
    #[arg(long)]
    quick: bool,
    /// Print JSON in place of the table
    #[arg(long)]
    json: bool,
    /// Exit with 1 if hoosh's CPU per plain call is over this many times the floor's
    #[arg(long, value_name = "RATIO")]
    check: Option<f64>,
}

/// Runs the benchmark.
///
/// # Errors
/// When a role cannot be started or a call through one of them fails: a proxy that fails calls has no numbers.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context(|| "cannot start the runtime".to_owned())?;
    // A signal ends the run through the same door as an error does: the bed is dropped and its children with it.
    let report = runtime.block_on(async {
        tokio::select! {
            report = measure(args) => report,
            told = told_to_stop() => Err(told),
        }
    })?;
    if args.json {
        println!("{}", report.json()?);
    } else {
        println!("{report}");
    }
    let Some(most) = args.check else { return Ok(ExitCode::SUCCESS) };
    // Written so that a ratio that is no number fails the check.
    let holds = report.call_cpu_ratio.is_some_and(|ratio| ratio <= most);
    let ratio = report.call_cpu_ratio.unwrap_or(f64::NAN);
    eprintln!("check: CPU per call is {ratio:.2}x the floor's, at most {most:.2}x wanted");
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn measure(args: &Args) -> Result<Report, Failure> {
    let size = if args.quick { Size::QUICK } else { Size::FULL };
    let subject = subject(args)?;
    let (streams, mut notes) = streams_allowed(args.streams)?;
    notes.push(machine());

    let cores = Cores::pick(args.place)?;
    let _ours = Stay::on(cores.ours)?;
    notes.push(cores.to_string());

    let mut bed = Bed::start(subject, &args.key, cores).await?;
    let mut standing = Standing::default();
    for start in 1..=size.starts {
        eprintln!("start and memory {start}/{}", size.starts);
        bounded(standing.observe(&bed, streams)).await?;
    }
    let mut tally = Tally::default();
    bed.start_rounds().await?;
    let rounds = args.rounds.unwrap_or(size.rounds);
    for round in 1..=rounds {
        eprintln!("round {round}/{rounds}");
        bounded(tally.round(&bed, &size, round)).await?;
    }
    let after = bed.resident()?;
    notes.push(format!(
        "{} rounds{}",
        rounds,
        if args.quick { ", quick: read no figure from this" } else { "" }
    ));
    Ok(Report::new(bed.subject_name(), &tally, &standing, after, streams, notes))
}

fn subject(args: &Args) -> Result<Subject, Failure> {
    if args.floor_only {
        return Ok(Subject::Floor);
    }
    // Made absolute because the child starts in a folder of its own.
    let binary = fs::canonicalize(&args.hoosh).context(|| {
        let path = args.hoosh.display();
        format!("no hoosh at {path} (`cargo build --release -p hoosh-server` makes one, `--floor-only` does without)")
    })?;
    let extra = match &args.extra {
        Some(path) => fs::read_to_string(path).context(|| format!("cannot read {}", path.display()))?,
        None => String::new(),
    };
    Ok(Subject::Hoosh { binary, extra })
}

/// Raises the soft limit of open files to the hard one, which the children inherit, and says how many streams
/// fit: a proxy has two sockets for each.
fn streams_allowed(wanted: u32) -> Result<(usize, Vec<String>), Failure> {
    let kind = Resource::RLIMIT_NOFILE;
    let (_, hard) = getrlimit(kind).context(|| "cannot read the limit of open files".to_owned())?;
    setrlimit(kind, hard, hard).context(|| "cannot raise the limit of open files".to_owned())?;
    let fit = hard.saturating_sub(FILES_BESIDE) / 2;
    let streams = u64::from(wanted).min(fit);
    let mut notes = Vec::new();
    if streams < u64::from(wanted) {
        notes.push(format!(
            "only {streams} of {wanted} streams: `ulimit -Hn` is {hard}, two per stream are needed"
        ));
    }
    Ok((usize::try_from(streams).unwrap_or(usize::MAX), notes))
}

fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("unknown");
    format!("{cores} cores, load average {load} at the start")
}

/// Waits for the signals that a terminal or a CI job ends a run with.
async fn told_to_stop() -> Failure {
    let terminate = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signals) => signals.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => (),
        _ = terminate => (),
    }
    Failure::new("told to stop")
}

async fn bounded<T>(step: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    match tokio::time::timeout(STEP_MAX, step).await {
        Ok(done) => done,
        Err(_) => Err(Failure::new(format!("a step took over {} s; a call hangs", STEP_MAX.as_secs()))),
    }
}
