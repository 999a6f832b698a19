//! `hoosh audit`: looks at an audit log and verifies it, whether or not a gateway runs.

mod export;

use std::fs;
use std::io::{self, IsTerminal};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use hoosh_audit::{
    AuditLog, Check, Checkpoint, Filter, KeyRing, OpenError, Options, Progress, Proof, PublicKey, QueryError,
    Seen, Trust, Verified, VerifyError, page, prove, scan, verify,
};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Failure;
use super::terminal::{GREEN, PLAIN, RED, YELLOW, note, printable, say, say_json};
use crate::audit;
use crate::config::{Audit, Environment, LoadOptions, load};
use crate::usage;

/// Exit code for what is not there or cannot be read, `EX_NOINPUT` of sysexits.h.
const NO_INPUT: u8 = 66;

/// How often it is looked for new records.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(300);

#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check that a log is as it was written, and name the first record that is not
    ///
    /// With the keys each record is checked; with the public key alone, all that signed checkpoints cover. Exits with 0 if it is, with
    /// 1 if it is not, with 66 if there is none or it cannot be read, and with 64 if it cannot be checked with what was given.
    Verify(Box<VerifyArgs>),
    /// Show the latest records, and those to come
    Tail {
        /// How many
        #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
        lines: usize,

        /// Go on with those that are written from now on
        #[arg(short, long)]
        follow: bool,

        /// Print the records as they stand in the log
        #[arg(long)]
        json: bool,

        #[command(flatten)]
        place: Place,
    },
    /// Write records out, the oldest first
    Export {
        /// As what: the lines of the log, a table, or a log export of OpenTelemetry
        #[arg(long, value_name = "FORMAT", default_value = "jsonl")]
        format: Format,

        /// From when on, such as 2026-11-01 or 2026-11-01T12:00:00Z
        #[arg(long, value_name = "TIME", value_parser = usage::time)]
        from: Option<Timestamp>,

        /// Until when
        #[arg(long, value_name = "TIME", value_parser = usage::time)]
        to: Option<Timestamp>,

        /// Of this caller
        #[arg(long, value_name = "NAME")]
        caller: Option<String>,

        #[command(flatten)]
        place: Place,
    },
    /// Show that a call is in the log, by a file that says so alone
    ///
    /// Prints one line of JSON: the record, the way from it to a signed checkpoint, and the public key. `hoosh audit verify --proof`
    /// checks it without the log.
    Prove {
        /// The call, by the id that its answer had in `x-request-id`
        #[arg(long, value_name = "ID")]
        request: String,

        #[command(flatten)]
        place: Place,
    },
    /// Erase what is kept beside the log of a call: its salt, so that its digests say nothing any more, and its texts
    ///
    /// The record stays, and one is added that says what was erased. While a gateway writes the log, `DELETE /v1/audit/{id}` does it.
    Erase {
        /// The call
        #[arg(long, value_name = "ID")]
        request: String,

        #[command(flatten)]
        place: Place,
    },
    /// Make the keys of a log if there are none, and tell their public half
    Key {
        /// Add another one, to which the log goes over at the next start or reload of its gateway
        #[arg(long)]
        rotate: bool,

        /// Print the public key in use alone
        #[arg(long)]
        public: bool,

        #[command(flatten)]
        place: Place,
    },
}

#[derive(Debug, Args)]
struct VerifyArgs {
    /// Check with this public key, and without the keys; may be repeated
    #[arg(long, value_name = "HEX", conflicts_with = "key_file")]
    public_key: Vec<PublicKey>,

    /// A file of checkpoints that were kept elsewhere; may be repeated
    #[arg(long, value_name = "FILE")]
    checkpoints: Vec<PathBuf>,

    /// Older files of the log are archived elsewhere, so that it may begin behind a checkpoint
    #[arg(long)]
    archived_elsewhere: bool,

    /// Check a proof that `hoosh audit prove` wrote, and no log
    #[arg(long, value_name = "FILE", requires = "public_key")]
    proof: Option<PathBuf>,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    place: Place,
}

/// Where a log and its keys are.
#[derive(Debug, Args)]
struct Place {
    /// The folder of the log; that of `[audit] folder` if not given
    folder: Option<PathBuf>,

    /// The file of its keys; that of `[audit] key_file`, or what HOOSH_AUDIT_KEY holds, if not given
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,

    /// Configuration file; HOOSH_CONFIG, ./hoosh.toml or the user's own if not given
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// Lines of JSON, as they stand in the log
    Jsonl,
    /// A table
    Csv,
    /// Lines of an OTLP export of logs, in JSON
    OtlpJson,
}

/// What is known of where a log is.
struct Known {
    folder: PathBuf,
    settings: Audit,
}

pub(crate) async fn run(args: AuditArgs, env: &Environment) -> Result<(), Failure> {
    match args.command {
        Command::Verify(args) => check(&args, env),
        Command::Tail { lines, follow, json, place } => tail(&place.known(env)?, lines, follow, json).await,
        Command::Export { format, from, to, caller, place } => {
            let filter = Filter { caller, from, until: to, ..Filter::default() };
            export::run(&place.known(env)?.folder, &filter, format)
        }
        Command::Prove { request, place } => {
            let known = place.known(env)?;
            let publics = known.keys()?.public();
            let proof = prove(&known.folder, &request, &publics);
            let proof = proof.map_err(|error| Failure::Refused(error.to_string()))?;
            Ok(say(&format!("{proof}\n"))?)
        }
        Command::Erase { request, place } => erase(&place.known(env)?, &request).await,
        Command::Key { rotate, public, place } => key(&place.known(env)?, rotate, public),
    }
}

fn check(args: &VerifyArgs, env: &Environment) -> Result<(), Failure> {
    if let Some(file) = &args.proof {
        return check_proof(args, file);
    }
    let known = args.place.known(env)?;
    let trust = match args.public_key.as_slice() {
        [] => Trust::Keys(known.keys()?),
        publics => Trust::Public(publics.to_vec()),
    };
    let mut checkpoints = Vec::new();
    for path in &args.checkpoints {
        checkpoints.extend(read_checkpoints(path)?);
    }
    let check = Check {
        folder: &known.folder,
        trust: &trust,
        checkpoints: &checkpoints,
        is_archived_elsewhere: args.archived_elsewhere,
    };
    let is_shown = io::stderr().is_terminal();
    let mut shown = 0;
    let verified = verify(&check, |progress| {
        if is_shown {
            let bar = bar(progress);
            shown = bar.chars().count();
            note(&format!("\r{bar}"));
        }
    });
    if shown > 0 {
        note(&format!("\r{:shown$}\r", ""));
    }
    match verified {
        Ok(verified) if args.json => Ok(say_json(&told(&verified))?),
        Ok(verified) => tell(&verified, &trust),
        Err(VerifyError::Fault(fault)) => {
            if args.json {
                let (kind, place) = (fault.kind.as_str(), &fault.place);
                say_json(
                    &json!({"verified": false, "fault": kind, "place": place, "message": fault.kind.to_string()}),
                )?;
            } else {
                note(&format!("{RED}not as it was written{PLAIN}: {}\n", printable(&fault.to_string())));
            }
            Err(Failure::Told(1))
        }
        Err(error @ VerifyError::UnknownKey { .. }) => Err(Failure::Usage(error.to_string())),
        Err(error) => {
            note(&format!("{RED}error{PLAIN}: {}\n", printable(&error.to_string())));
            Err(Failure::Told(NO_INPUT))
        }
    }
}

fn check_proof(args: &VerifyArgs, file: &Path) -> Result<(), Failure> {
    let text = fs::read_to_string(file)?;
    let proof: Proof = text.trim().parse().map_err(|error| Failure::Refused(format!("{error}")))?;
    let checked = args.public_key.iter().map(|public| proof.check(public));
    let best = checked.reduce(|best, next| best.or(next));
    match best {
        Some(Ok(seq)) => {
            say(&format!("{}\n", proof.line))?;
            note(&format!("{GREEN}proven{PLAIN}: record {seq}, signed {}\n", proof.checkpoint.at));
            Ok(())
        }
        Some(Err(error)) => {
            note(&format!("{RED}not proven{PLAIN}: {error}\n"));
            Err(Failure::Told(1))
        }
        None => Err(Failure::Usage("`--public-key` says whose signature counts".to_owned())),
    }
}

fn read_checkpoints(path: &Path) -> Result<Vec<Checkpoint>, Failure> {
    let wrong =
        |line: usize, problem: String| Failure::Usage(format!("{}:{line}: {problem}", path.display()));
    let text =
        fs::read_to_string(path).map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, line)| {
            line.parse().map_err(|error: hoosh_audit::InvalidCheckpoint| wrong(index + 1, error.to_string()))
        })
        .collect()
}

/// `verifying [#########           ] 45 %, 120000 records`
fn bar(progress: Progress) -> String {
    const WIDTH: u64 = 30;
    let Progress { bytes, bytes_total, records } = progress;
    let part = |of: u64| bytes.saturating_mul(of) / bytes_total.max(1);
    let filled = usize::try_from(part(WIDTH).min(WIDTH)).unwrap_or_default();
    format!("verifying [{:30}] {:>3} %, {records} records", "#".repeat(filled), part(100).min(100))
}

fn tell(verified: &Verified, trust: &Trust) -> Result<(), Failure> {
    let Verified { records, first, last, signed_to, checkpoints, .. } = verified;
    let at = verified.last_at.map_or(String::new(), |at| format!(", the last of {at}"));
    say(&format!(
        "{GREEN}as it was written{PLAIN}: {records} records, {first} to {last}{at}; {checkpoints} checkpoints, signed to {signed_to}\n"
    ))?;
    if matches!(trust, Trust::Public(_)) && signed_to + 1 < *last {
        note(&format!("the {} records behind {signed_to} are not signed yet\n", last - signed_to));
    }
    for (seq, file) in &verified.recoveries {
        note(&format!(
            "{YELLOW}recovered{PLAIN}: what a crash left behind record {} is in {}\n",
            seq - 1,
            printable(file)
        ));
    }
    if verified.lost > 0 {
        note(&format!(
            "{YELLOW}lost{PLAIN}: {} records could not be written while calls went on\n",
            verified.lost
        ));
    }
    if verified.unfinished > 0 {
        note("a gateway is writing; its latest record is not whole yet\n");
    }
    Ok(())
}

fn told(verified: &Verified) -> Value {
    json!({
        "verified": true,
        "log": verified.log,
        "records": verified.records,
        "first": verified.first,
        "last": verified.last,
        "head": verified.head.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
        "last_at": verified.last_at.map(|at| at.to_string()),
        "signed_to": verified.signed_to,
        "checkpoints": verified.checkpoints,
        "rotations": verified.rotations,
        "recoveries": verified.recoveries.iter().map(|(seq, file)| json!({"seq": seq, "file": file})).collect::<Vec<_>>(),
        "lost": verified.lost,
        "erased": verified.erased,
        "texts": verified.texts,
    })
}

async fn tail(known: &Known, lines: usize, follows: bool, json: bool) -> Result<(), Failure> {
    let newest = |limit| page(&known.folder, &Filter::default(), None, limit).map_err(unread);
    let mut last = 0;
    if lines > 0 {
        let mut records = newest(lines)?.records;
        records.reverse();
        last = records.last().map_or(0, |record| record.seq);
        show(&records, json)?;
    } else if let Some(newest) = newest(1)?.records.first() {
        last = newest.seq;
    }
    if !follows {
        return Ok(());
    }
    loop {
        tokio::time::sleep(FOLLOW_INTERVAL).await;
        let mut new = Vec::new();
        // Newest first until those that were shown, so that a long log is not read again.
        let mut before = None;
        loop {
            let some = page(&known.folder, &Filter::default(), before, 1_000).map_err(unread)?;
            before = some.next;
            let is_behind = some.records.iter().any(|record| record.seq <= last);
            new.extend(some.records.into_iter().filter(|record| record.seq > last));
            if is_behind || before.is_none() {
                break;
            }
        }
        new.reverse();
        last = new.last().map_or(last, |record| record.seq);
        show(&new, json)?;
    }
}

fn show(records: &[Seen], json: bool) -> Result<(), Failure> {
    let mut text = String::new();
    for record in records {
        text += &if json { record.line.clone() } else { summary(&record.line) };
        text.push('\n');
    }
    Ok(say(&text)?)
}

/// A record on a line for people.
fn summary(line: &str) -> String {
    let value: Value = serde_json::from_str(line).unwrap_or_default();
    let (record, body) = (&value["record"], &value["record"]["body"]);
    let mut words = vec![record["seq"].to_string()];
    for part in [&record["at"], &record["kind"]] {
        words.push(part.as_str().unwrap_or("-").to_owned());
    }
    for name in
        ["outcome", "status", "caller", "by", "action", "path", "model", "provider", "error", "request_id"]
    {
        match &body[name] {
            Value::Null => {}
            Value::String(text) => words.push(text.clone()),
            other => words.push(other.to_string()),
        }
    }
    printable(&words.join("  "))
}

async fn erase(known: &Known, request: &str) -> Result<(), Failure> {
    let log = match AuditLog::open(
        &known.folder,
        &known.keys()?,
        Options { program: audit::program(), ..Options::default() },
    ) {
        Err(error @ OpenError::InUse(_)) => {
            let help = "ask that gateway: `curl -X DELETE …/v1/audit/ID` with an admin key";
            return Err(Failure::Refused(format!("{error}; {help}")));
        }
        log => log.map_err(|error| Failure::Refused(error.to_string()))?,
    };
    let erased =
        log.erase(request, "command line").await.map_err(|error| Failure::Refused(error.to_string()))?;
    log.close();
    match erased.as_slice() {
        [] => Err(Failure::Refused(format!("nothing is kept of the call `{}`", printable(request)))),
        records => {
            let records: Vec<String> = records.iter().map(u64::to_string).collect();
            Ok(say(&format!("{GREEN}erased{PLAIN}: what was kept of record {}\n", records.join(", ")))?)
        }
    }
}

fn key(known: &Known, rotates: bool, is_bare: bool) -> Result<(), Failure> {
    let refused = |error: hoosh_audit::KeyError| Failure::Refused(error.to_string());
    let path = Path::new(&known.settings.key_file);
    let keys = match &known.settings.keys {
        Some(_) if rotates => {
            let problem =
                "HOOSH_AUDIT_KEY holds the keys: put another one behind them yourself, on a line of its own";
            return Err(Failure::Usage(problem.to_owned()));
        }
        Some(_) => known.keys()?,
        None if rotates => KeyRing::add_to(path).map_err(refused)?,
        None => {
            let (keys, is_new) = KeyRing::load_or_make(path).map_err(refused)?;
            if is_new {
                note(&format!("made {}; keep it apart from the log\n", path.display()));
            }
            keys
        }
    };
    let (id, public) = (keys.current().id(), keys.current().public());
    if is_bare {
        return Ok(say(&format!("{public}\n"))?);
    }
    Ok(say(&format!("key {id}, public key {public}\n"))?)
}

fn unread(error: QueryError) -> Failure {
    Failure::Refused(error.to_string())
}

// === impl Place ===

impl Place {
    fn known(&self, env: &Environment) -> Result<Known, Failure> {
        let options = LoadOptions { file: self.config.clone(), env: env.clone(), ..LoadOptions::default() };
        let mut settings = load(&options)?.audit;
        if let Some(path) = &self.key_file {
            settings.key_file = path.to_string_lossy().into_owned();
            settings.keys = None;
        }
        let folder = self.folder.clone().unwrap_or_else(|| PathBuf::from(&settings.folder));
        Ok(Known { folder, settings })
    }
}

// === impl Known ===

impl Known {
    fn keys(&self) -> Result<KeyRing, Failure> {
        audit::known_keys(&self.settings).map_err(|error| Failure::Usage(error.to_string()))
    }
}

/// Goes through all records that are wanted.
fn each(
    folder: &Path,
    filter: &Filter,
    mut write: impl FnMut(&Seen) -> io::Result<()>,
) -> Result<(), Failure> {
    let mut written = Ok(());
    scan(folder, filter, |record| {
        written = write(&record);
        if written.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .map_err(unread)?;
    Ok(written?)
}
