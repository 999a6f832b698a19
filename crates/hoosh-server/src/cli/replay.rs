//! `hoosh replay`: which calls of a file of decisions would go elsewhere under a configuration, and why.
//!
//! Reads and tells one call at a time, so that the file may be of any length.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::PathBuf;

use clap::Args;
use hoosh_core::NoRoute;
use hoosh_core::limits::DECISION_LINE_BYTES_MAX;
use hoosh_router::{Candidate, PassedOver, Plan, Router, Strategy, Way};
use serde_json::{Value, json};

use super::terminal::{BOLD, PLAIN, note, printable, say, short};
use super::{Failure, effective};
use crate::api::decisions::{Record, Recorded};
use crate::assembly;
use crate::config::{Config, Environment, LoadOptions};

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// File of decisions, one a line as `GET /v1/decisions` gives them; `-` for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Configuration file; HOOSH_CONFIG, ./hoosh.toml or the user's own if not given
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Tell also of calls that are planned as before
    #[arg(long)]
    all: bool,

    /// Print JSON, one call a line, and a last line with the counts
    #[arg(long)]
    json: bool,
}

/// What becomes of a call under another configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// It is planned as it was.
    Same,
    /// The same one is asked first, but others behind it or in another order.
    Order,
    /// Another one is asked first.
    Elsewhere,
    /// Nobody can be asked.
    Nobody,
}

/// One call, then and now.
struct Replayed<'r> {
    record: &'r Record,
    now: Result<Plan, NoRoute>,
    outcome: Outcome,
    /// Why it differs.
    why: Vec<String>,
}

/// How many of each there were.
#[derive(Debug, Default)]
struct Counts {
    calls: usize,
    order: usize,
    elsewhere: usize,
    nobody: usize,
}

/// Lines of a file, each no longer than it may be.
struct Lines<R> {
    source: R,
    name: String,
    /// The one that was read last, from 1.
    number: usize,
    line: Vec<u8>,
}

/// Exits with 1 if some call is planned otherwise.
pub(crate) async fn run(args: ReplayArgs, env: &Environment) -> Result<(), Failure> {
    let options = LoadOptions { file: args.config.clone(), env: env.clone(), ..LoadOptions::default() };
    let (config, discovery) = effective(&options, None).await?;
    if discovery.is_some() {
        note("no provider is configured: planned among those that `hoosh serve` finds now\n");
    }
    let router = assembly::router(&config).map_err(crate::RunError::from)?;
    let hash = config.hash();
    let mut lines = open(&args)?;
    // `| head` reads the beginning alone, and the exit code is about all of it.
    let mut is_read = true;
    let mut say = |text: &str| match if is_read { say(text) } else { Ok(()) } {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {
            is_read = false;
            Ok(())
        }
        said => said,
    };
    if !args.json {
        say(&format!("{BOLD}{}{PLAIN}\n", row("call", "before", "now", "because")))?;
    }
    let mut counts = Counts::default();
    while let Some(record) = lines.next()? {
        let replayed = replay(&record, &router, &config, &hash);
        counts.add(replayed.outcome);
        match args.json {
            _ if !args.all && replayed.outcome == Outcome::Same => {}
            true => say(&format!("{}\n", replayed.as_json()))?,
            false => say(&replayed.as_row())?,
        }
    }
    say(&if args.json { format!("{}\n", counts.as_json()) } else { counts.as_text() })?;
    if counts.differ() { Err(Failure::Told(1)) } else { Ok(()) }
}

fn open(args: &ReplayArgs) -> Result<Lines<Box<dyn BufRead>>, Failure> {
    let name = args.file.display().to_string();
    let source: Box<dyn BufRead> = match args.file.to_str() {
        Some("-") => Box::new(std::io::stdin().lock()),
        _ => {
            let file = File::open(&args.file).map_err(|error| Failure::Usage(format!("{name}: {error}")))?;
            Box::new(BufReader::new(file))
        }
    };
    Ok(Lines { source, name, number: 0, line: Vec::new() })
}

fn replay<'r>(record: &'r Record, router: &Router, config: &Config, hash: &str) -> Replayed<'r> {
    let now = record.replay(router, config.server.lossy);
    let (outcome, why) = match &now {
        Err(_) if line_up(record).is_empty() => (Outcome::Same, Vec::new()),
        Err(no_route) => (Outcome::Nobody, vec![no_route.to_string()]),
        Ok(plan) => match first_difference(record, plan) {
            None => (Outcome::Same, Vec::new()),
            Some(place) => {
                let is_first = match (record.candidates.first(), plan.candidates.first()) {
                    (Some(before), Some(now)) => before.is(now),
                    (before, now) => before.is_none() && now.is_none(),
                };
                let outcome = if is_first { Outcome::Order } else { Outcome::Elsewhere };
                (outcome, reasons(record, plan, place, router, hash))
            }
        },
    };
    Replayed { record, now, outcome, why }
}

/// The first place that somebody else has now; those who are let alone stand behind the others.
fn first_difference(record: &Record, plan: &Plan) -> Option<usize> {
    let (then, now) = (line_up(record), stand(plan));
    // One who rested would be asked now, or the other way round: as good as another place.
    let shift = record.candidates.len().min(plan.candidates.len());
    let moved = (record.candidates.len() != plan.candidates.len()).then_some(shift);
    let most = then.len().max(now.len());
    let is_other = |at: &usize| match (then.get(*at), now.get(*at)) {
        (Some(then), Some(now)) => !then.is(now),
        _ => true,
    };
    (0..most).find(is_other).into_iter().chain(moved).min()
}

fn line_up(record: &Record) -> Vec<&Recorded> {
    record.candidates.iter().chain(&record.resting).collect()
}

fn stand(plan: &Plan) -> Vec<&Candidate> {
    plan.candidates.iter().chain(plan.resting.iter().map(|resting| &resting.candidate)).collect()
}

/// Why somebody else has this place, as far as that can be seen.
fn reasons(record: &Record, plan: &Plan, place: usize, router: &Router, hash: &str) -> Vec<String> {
    let (then, now) = (line_up(record), stand(plan));
    let mut why = Vec::new();
    if record.strategy != plan.strategy {
        why.push(format!("the strategy was {}, is {}", record.strategy, plan.strategy));
    }
    if let Some(before) = then.get(place) {
        match now.iter().find(|one| before.is(one)) {
            Some(one) => why.extend(changed(before, one)),
            // Nobody else is asked at all.
            None if plan.strategy == Strategy::Direct && place > 0 => {}
            None => why.push(gone(before, plan, router)),
        }
    }
    if let Some(one) = now.get(place) {
        match then.iter().find(|before| before.is(one)) {
            Some(before) => why.extend(changed(before, one)),
            None if record.strategy == Strategy::Direct => {}
            None => why.push(format!("{one} was not in the plan")),
        }
    }
    if why.is_empty() {
        let same = record.configuration.as_deref() == Some(hash);
        why.push(
            match plan.strategy {
                _ if same => "the configuration is the same: this hoosh knows other prices or windows, or orders otherwise",
                Strategy::RoundRobin => "it is another one's turn among these candidates",
                strategy if strategy.draws_lots() => "lots fall otherwise among these candidates",
                Strategy::Cheapest => "prices are others, or the order of the configuration is",
                _ => "the order of the configuration is another one",
            }
            .to_owned(),
        );
    }
    why.dedup();
    why
}

/// Why one who could be asked is in the plan no more.
fn gone(before: &Recorded, plan: &Plan, router: &Router) -> String {
    let is = |passed: &&PassedOver| *passed.provider == *before.provider && *passed.model == *before.model;
    let passed = plan.passed_over.iter().find(is);
    match passed {
        Some(passed) => format!("not {passed}"),
        None if router.provider(&before.provider).is_none() => {
            format!("{} is not configured", before.provider)
        }
        None => format!("no route leads to {before}"),
    }
}

/// What the configuration says otherwise of the same one.
fn changed(before: &Recorded, now: &Candidate) -> Option<String> {
    let priority = match now.why.way {
        Way::Pattern { priority, .. } => Some(priority),
        Way::Direct => None,
    };
    let mut changes = Vec::new();
    if let (Some(before), Some(now)) = (before.priority, priority)
        && before != now
    {
        changes.push(format!("priority was {before}, is {now}"));
    }
    if before.weight != now.why.weight {
        changes.push(format!("weight was {}, is {}", before.weight, now.why.weight));
    }
    (!changes.is_empty()).then(|| format!("{before}: {}", changes.join(", ")))
}

fn row(call: &str, before: &str, now: &str, because: &str) -> String {
    // A call's name has 36 characters; so that all stand under each other, names of models are cut.
    let cell = |text: &str| short(text, 35);
    format!(" {:<36}  {:<36}  {:<36}  {}", short(call, 36), cell(before), cell(now), short(because, 160))
}

// === impl Replayed ===

impl Replayed<'_> {
    fn as_row(&self) -> String {
        let first = |candidates: Option<String>, strategy: Strategy| match candidates {
            Some(name) => format!("{name} ({strategy})"),
            None => "all are let alone".to_owned(),
        };
        let before = match line_up(self.record).is_empty() {
            true => "nobody".to_owned(),
            false => first(self.record.candidates.first().map(ToString::to_string), self.record.strategy),
        };
        let now = match &self.now {
            Ok(plan) => first(plan.candidates.first().map(ToString::to_string), plan.strategy),
            Err(_) => "nobody".to_owned(),
        };
        let mut why = self.why.join("; ");
        if self.outcome == Outcome::Order {
            why = format!("behind it: {why}");
        }
        let id = self.record.id.as_deref().unwrap_or("-");
        format!("{}\n", row(id, &before, &now, &why).trim_end())
    }

    fn as_json(&self) -> Value {
        let names = |all: &[Recorded]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
        let now = self.now.as_ref().ok().map(|plan| {
            let resting = plan.resting.iter().map(|resting| resting.candidate.to_string());
            json!({
                "strategy": plan.strategy.as_str(),
                "candidates": plan.candidates.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "resting": resting.collect::<Vec<_>>(),
            })
        });
        json!({
            "id": self.record.id,
            "model": self.record.model(),
            "result": self.outcome.as_str(),
            "before": {
                "configuration": self.record.configuration,
                "strategy": self.record.strategy.as_str(),
                "candidates": names(&self.record.candidates),
                "resting": names(&self.record.resting),
            },
            "now": now,
            "why": self.why,
        })
    }
}

// === impl Outcome ===

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Order => "order",
            Self::Elsewhere => "elsewhere",
            Self::Nobody => "nobody",
        }
    }
}

// === impl Counts ===

impl Counts {
    fn add(&mut self, outcome: Outcome) {
        self.calls += 1;
        match outcome {
            Outcome::Same => {}
            Outcome::Order => self.order += 1,
            Outcome::Elsewhere => self.elsewhere += 1,
            Outcome::Nobody => self.nobody += 1,
        }
    }

    fn differ(&self) -> bool {
        self.order + self.elsewhere + self.nobody > 0
    }

    fn as_text(&self) -> String {
        let Self { calls, order, elsewhere, nobody } = self;
        let s = if *calls == 1 { "" } else { "s" };
        format!(
            "{calls} call{s}: {elsewhere} would go elsewhere, {nobody} could not be asked at all, {order} would find others \
             behind the first\n"
        )
    }

    fn as_json(&self) -> Value {
        let Self { calls, order, elsewhere, nobody } = self;
        json!({ "calls": calls, "elsewhere": elsewhere, "nobody": nobody, "order": order })
    }
}

// === impl Lines ===

impl<R: BufRead> Lines<R> {
    /// The next decision; lines with nothing on them are passed over.
    fn next(&mut self) -> Result<Option<Record>, Failure> {
        loop {
            self.line.clear();
            let limit = DECISION_LINE_BYTES_MAX as u64 + 1;
            let read = self.source.by_ref().take(limit).read_until(b'\n', &mut self.line);
            if read.map_err(|error| Failure::Usage(format!("{}: {error}", self.name)))? == 0 {
                return Ok(None);
            }
            self.number += 1;
            let line = self.line.trim_ascii();
            if line.len() > DECISION_LINE_BYTES_MAX {
                return Err(self.fault(&format!("is longer than {DECISION_LINE_BYTES_MAX} bytes")));
            }
            if !line.is_empty() {
                return Record::read(line).map(Some).map_err(|problem| self.fault(&problem));
            }
        }
    }

    fn fault(&self, problem: &str) -> Failure {
        Failure::Usage(format!("{}:{}: {}", self.name, self.number, printable(problem)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use bytes::Bytes;

    use hoosh_core::dialect::Dialect;
    use hoosh_core::{FailureKind, Fidelity, UpstreamFailure};
    use hoosh_gateway::{Call, CallerId, Gateway, RequestId};
    use hoosh_router::{Attempt, Seed, Turn};

    use super::*;
    use crate::api::decisions::shown;
    use crate::config::load;

    const CONFIG: &str = r#"
[aliases]
fast = ["gpt-4o-mini", "box/llama3"]
[[groups]]
name = "group"
models = ["gpt-4o", "gpt-4o-mini"]
strategy = "least_busy"
weights = [3, 1]
canary = "lab/new"
canary_percent = 30
[[providers]]
type = "ollama"
name = "box"
models = ["*"]
priority = 1
[[providers]]
type = "openai"
name = "open"
api_key = "k"
models = ["gpt-*"]
priority = 1
weight = 4
[[providers]]
type = "openrouter"
name = "router"
api_key = "k"
models = ["*"]
priority = 1
[[providers]]
type = "vllm"
name = "lab"
base_url = "http://lab"
models = ["*"]
priority = 2
max_tokens_limit = 4000
"#;

    fn config(toml: &str) -> Config {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(crate::config::FILE_NAME), toml).unwrap();
        load(&LoadOptions { directory: folder.path().to_owned(), ..LoadOptions::default() }).unwrap()
    }

    fn gateway(config: &Config) -> Gateway {
        let router = assembly::router(config).unwrap();
        Gateway::builder(router).fidelity(config.server.lossy).configuration(config.hash()).build()
    }

    fn call(model: &str, extra: &str) -> Call {
        let body = format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"hi"}}]{extra}}}"#);
        Call::read(RequestId::new(), CallerId::new("c"), Dialect::OpenAiChat, Bytes::from(body)).unwrap()
    }

    /// The decision on a call, written down and read again.
    fn record(gateway: &Gateway, call: &Call, turn: Turn, seed: Seed) -> (String, Record) {
        let decision = gateway.explain(call, turn, seed).unwrap();
        let text = shown(&decision, None).to_string();
        (
            names(&decision.plan),
            Record::read(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}")),
        )
    }

    /// A plan without how long anybody still rests, which goes on.
    fn names(plan: &Plan) -> String {
        let resting = plan.resting.iter().map(|one| format!("{} {}", one.candidate, one.why.as_str()));
        let asked = plan.candidates.iter().map(|one| format!("{one} {} {:?}", one.why, one.seen));
        format!("{}: {:?} {:?}", plan.strategy, asked.collect::<Vec<_>>(), resting.collect::<Vec<_>>())
    }

    /// Calls that end, fail, are limited or go on at endpoints taken by chance.
    fn live(router: &Router, seed: Seed) -> Vec<Attempt> {
        let (start, mut open) = (Instant::now(), Vec::new());
        for call in 0..seed.with(1).below(100) as u64 {
            let seed = seed.with(2).with(call);
            let all = router.candidates(["gpt-4o", "gpt-4o-mini", "llama3"][seed.with(3).below(3)]);
            let Ok(attempt) = router.begin(&all[seed.with(4).below(all.len())], seed, start) else {
                continue;
            };
            match seed.with(5).below(5) {
                0 => open.push(attempt),
                1 | 2 => attempt.succeed(start + Duration::from_micros(seed.with(6).below(9_000_000) as u64)),
                3 => attempt.fail(&UpstreamFailure::new(FailureKind::Connect, "refused"), start),
                _ => {
                    let after = Some(Duration::from_secs(60));
                    attempt.fail(&UpstreamFailure::from_status(429, after, "slow"), start);
                }
            }
        }
        if seed.with(7).below(3) == 0 {
            (0..3).for_each(|_| router.health().heartbeat("lab", false, start));
        }
        open
    }

    #[test]
    fn under_the_same_configuration_every_record_gives_the_same_plan() {
        let mut calls = 0_u64;
        for strategy in Strategy::ALL {
            let config = config(&format!("[server]\nstrategy = \"{strategy}\"\n{CONFIG}"));
            let (idle, hash) = (assembly::router(&config).unwrap(), config.hash());
            for round in 0..25 {
                let gateway = gateway(&config);
                let _open = live(gateway.router(), Seed(3).with(round));
                for model in ["gpt-4o", "gpt-4o-mini", "llama3", "fast", "group", "open/gpt-4o"] {
                    calls += 1;
                    let seed = Seed(5).with(calls);
                    let mut call = call(model, r#","max_tokens":5000"#);
                    call.session = (seed.with(1).below(3) == 0).then(|| format!("s{calls}"));
                    call.max_cost = (seed.with(2).below(3) == 0).then(|| "0.051".parse().unwrap());
                    call.local_only = !model.starts_with("open/") && seed.with(3).below(5) == 0;
                    let (made, record) = record(&gateway, &call, Turn(calls), seed);
                    let replayed = replay(&record, &idle, &config, &hash);
                    let again = names(replayed.now.as_ref().unwrap());
                    assert_eq!((again, replayed.outcome), (made, Outcome::Same), "{call:?}");
                }
            }
        }
    }

    #[test]
    fn so_does_every_record_of_a_call_that_the_whole_of_it_ruled_somebody_out_of() {
        const MORE: &str = r#"
            [aliases]
            two = ["claude-opus-4-7", "claude-3-haiku-20240307", "gpt-4o", "llama3"]
            [[providers]]
            type = "anthropic"
            api_key = "k"
            models = ["claude*"]
            [[providers]]
            type = "vllm"
            name = "narrow"
            base_url = "http://lab"
            models = ["*"]
            context = "refuse"
            context_window_tokens = 400
            [[providers]]
            type = "openai"
            name = "open"
            api_key = "k"
            models = ["*"]
            [[providers]]
            type = "openrouter"
            name = "router"
            api_key = "k"
            models = ["*"]
            lossy = "strict"
        "#;
        let long = format!(r#","temperature":0.5,"user":"{}""#, "x".repeat(9));
        let words = "word ".repeat(900);
        let mut passed_over = [0; 2];
        for strategy in Strategy::ALL {
            let config = config(&format!("[server]\nstrategy = \"{strategy}\"\n{MORE}"));
            let (idle, hash) = (assembly::router(&config).unwrap(), config.hash());
            for round in 0..60_u64 {
                let gateway = gateway(&config);
                let seed = Seed(11).with(round);
                let _open = live(gateway.router(), seed);
                let mut call = call(["two", "gpt-4o", "llama3"][seed.with(1).below(3)], &long);
                if seed.with(2).below(2) == 0 {
                    let body = String::from_utf8(call.body.to_vec())
                        .unwrap()
                        .replace("\"hi\"", &format!("\"{words}\""));
                    call = Call::read(call.id, call.caller, call.dialect, body.into()).unwrap();
                }
                call.fidelity = (seed.with(3).below(2) == 0).then_some(Fidelity::Strict);
                let Ok(decision) = gateway.explain(&call, Turn(round), seed) else { continue };
                for passed in &decision.plan.passed_over {
                    passed_over[usize::from(passed.why.as_str() == "lossy")] += 1;
                }
                let (made, record) = record(&gateway, &call, Turn(round), seed);
                let replayed = replay(&record, &idle, &config, &hash);
                let again = names(replayed.now.as_ref().unwrap());
                assert_eq!((again, replayed.outcome), (made, Outcome::Same), "{call:?}");
            }
        }
        assert!(passed_over.iter().all(|count| *count > 50), "{passed_over:?}: one kind is hardly tested");
    }

    /// What becomes of a call for `llama3` when this is another text in the configuration.
    #[track_caller]
    fn check(from: &str, to: &str, model: &str, outcome: Outcome, why: &str) {
        let (before, after) = (config(CONFIG), config(&CONFIG.replacen(from, to, 1)));
        let (_, record) = record(&gateway(&before), &call(model, ""), Turn(0), Seed(0));
        let replayed = replay(&record, &assembly::router(&after).unwrap(), &after, &after.hash());
        assert_eq!(
            (replayed.outcome, replayed.why.join("; ").as_str()),
            (outcome, why),
            "{}",
            replayed.as_row()
        );
    }

    #[test]
    fn why_a_call_goes_elsewhere_is_told() {
        use Outcome::{Elsewhere, Nobody, Order, Same};
        check("priority = 1", "priority = 1", "llama3", Same, "");
        check("priority = 1", "priority = 9", "llama3", Elsewhere, "box/llama3: priority was 1, is 9");
        let off = "not box/llama3 (its route is disabled)";
        check("priority = 1", "priority = 1\nenabled = false", "llama3", Elsewhere, off);
        check(
            "name = \"lab\"",
            "name = \"lob\"",
            "fast",
            Order,
            "lab is not configured; lob/gpt-4o-mini was not in the plan",
        );
        check(
            "[aliases]",
            "[server]\nstrategy = \"direct\"\n[aliases]",
            "llama3",
            Order,
            "the strategy was priority, is direct",
        );
        check(
            "models = [\"*\"]",
            "models = [\"qwen*\"]",
            "llama3",
            Elsewhere,
            "no route leads to box/llama3",
        );
        check("models = [\"gpt-*\"]", "models = [\"*\"]", "llama3", Order, "open/llama3 was not in the plan");
        check("strategy = \"least_busy\"", "strategy = \"least_busy\"", "group", Same, "");
        check(
            "name = \"open\"",
            "name = \"opan\"",
            "open/gpt-4o",
            Elsewhere,
            "open is not configured; box/open/gpt-4o was not in the plan",
        );
        let gone = CONFIG.split("[[providers]]").next().unwrap();
        let (_, record) = record(&gateway(&config(CONFIG)), &call("llama3", ""), Turn(0), Seed(0));
        let other = config(&format!(
            "{}[[providers]]\ntype = \"groq\"\napi_key = \"k\"",
            gone.split("[[groups]]").next().unwrap()
        ));
        let replayed = replay(&record, &assembly::router(&other).unwrap(), &other, "h");
        assert_eq!(replayed.outcome, Nobody);
    }

    #[test]
    fn who_would_have_lost_something_is_asked_only_where_loss_is_allowed() {
        let provider =
            |kind: &str| format!("[[providers]]\ntype = \"{kind}\"\napi_key = \"k\"\nmodels = [\"*\"]\n");
        let providers = provider("anthropic") + &provider("openai");
        let configs =
            ["strict", "silent"].map(|lossy| config(&format!("[server]\nlossy = \"{lossy}\"\n{providers}")));
        let routers = configs.each_ref().map(|config| assembly::router(config).unwrap());
        // Anthropic has no word for it.
        let call = call("m", r#","logit_bias":{"50256":-100}"#);
        let (_, record) = record(&gateway(&configs[0]), &call, Turn(0), Seed(0));
        assert_eq!(record.candidates[0].provider, "openai");
        let outcomes = [0, 1].map(|at| replay(&record, &routers[at], &configs[at], "h").outcome);
        assert_eq!(outcomes, [Outcome::Same, Outcome::Elsewhere]);
    }

    #[test]
    fn what_is_wrong_with_a_file_is_told_with_its_line() {
        let decision = gateway(&config(CONFIG)).explain(&call("llama3", ""), Turn(0), Seed(0)).unwrap();
        let record = shown(&decision, None);
        let with = |field: &str, value: Value| {
            let mut other = record.clone();
            other[field] = value;
            other.to_string()
        };
        let with_query = |field: &str, value: Value| {
            let mut other = record.clone();
            other["query"][field] = value;
            other.to_string()
        };
        let long = "x".repeat(DECISION_LINE_BYTES_MAX + 1);
        for (line, problem) in [
            (
                with("version", 2.into()),
                "has the version 2 of the form, and this program reads 1: use the hoosh that wrote it",
            ),
            (with("version", Value::Null), "has no `version`"),
            ("{".to_owned(), "one decision a line is expected (`jq -c .` makes lines)"),
            ("[1]".to_owned(), "is no JSON object"),
            (r#"{"version":1}"#.to_owned(), "missing field `query` at column 13"),
            (with("strategy", "random".into()), "`strategy`: `random` is not a routing strategy"),
            (with("seed", "-1".into()), "`seed`: `-1` is no whole number of 64 bits"),
            (with_query("fidelity", "loud".into()), "`query.fidelity`: `loud` is not known"),
            (with_query("context", "longer".into()), "`query.context`: `longer` is not known"),
            (long, "is longer than 16777216 bytes"),
        ] {
            let text = format!("\n  \r\n{record}\n{line}\n");
            let mut lines =
                Lines { source: text.as_bytes(), name: "f".to_owned(), number: 0, line: Vec::new() };
            assert!(lines.next().unwrap().is_some());
            let Err(Failure::Usage(told)) = lines.next() else { panic!("{problem}") };
            assert!(told.starts_with("f:4: ") && told.contains(problem), "{told}");
        }
        let text = format!("{record}");
        let mut lines = Lines { source: text.as_bytes(), name: "f".to_owned(), number: 0, line: Vec::new() };
        assert!(lines.next().unwrap().is_some() && lines.next().unwrap().is_none());
    }
}
