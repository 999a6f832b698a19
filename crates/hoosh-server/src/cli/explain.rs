//! `hoosh explain`: who would be asked for a model or a request, in which order, and why.
//!
//! It decides as a gateway does that has just started with this configuration: nothing is known yet of how anybody is.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Args;
use hoosh_core::dialect::{Dialect, RequestLine};
use hoosh_core::{HooshError, PriceTable};
use hoosh_gateway::{Call, CallerId, Decision, Gateway, RequestId};
use hoosh_router::{Candidate, Naming, Plan, Query, Seed, Strategy, Turn, Way};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::models::dollars;
use super::terminal::{BOLD, PLAIN, note, printable, say, say_record, table};
use super::{Failure, effective};
use crate::api::decisions::{cost, shown};
use crate::api::wishes::Wishes;
use crate::assembly;
use crate::config::{Config, Environment, LoadOptions};
use crate::http::error::ServerError;

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// Model as a caller names it: a model, an alias or provider/model; the request's own if not given
    #[arg(short, long, required_unless_present = "request")]
    model: Option<String>,

    /// File with a request's body, `-` for standard input: its pictures, tools and length count too
    #[arg(short, long, value_name = "FILE")]
    request: Option<PathBuf>,

    /// Dialect of the request
    #[arg(long, default_value = "openai_chat", requires = "request", value_parser = dialect)]
    dialect: Dialect,

    /// Header of the call, as in `x-hoosh-privacy: local`; as often as wanted
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,

    /// Configuration file; HOOSH_CONFIG, ./hoosh.toml or the user's own if not given
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Where chance begins, for strategies that draw lots
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,

    /// Whose turn it is, for `round_robin`
    #[arg(long, default_value_t = 0, value_name = "N")]
    turn: u64,

    /// Print JSON, on one line unless to a terminal: `hoosh explain … --json | hoosh replay -` plans it again
    #[arg(long)]
    json: bool,
}

/// Exits with 1 if nobody would be asked.
pub(crate) async fn run(args: ExplainArgs, env: &Environment) -> Result<(), Failure> {
    let options = LoadOptions { file: args.config.clone(), env: env.clone(), ..LoadOptions::default() };
    let (config, discovery) = effective(&options, None).await?;
    if discovery.is_some() {
        note("no provider is configured: decided among those that `hoosh serve` finds now\n");
    }
    let call = call(&args, &config)?;
    let router = assembly::router(&config).map_err(crate::RunError::from)?;
    let naming = router.table().naming(&call.head.model);
    let pattern = router.table().strategy_pattern(&call.head.model).cloned();
    let gateway = Gateway::builder(router).fidelity(config.server.lossy).configuration(config.hash()).build();
    let tokens = call.prompt_tokens();
    match gateway.explain(&call, Turn(args.turn), Seed(args.seed)) {
        Ok(decision) if args.json => say_record(&as_json(&decision, &naming, pattern.as_deref(), tokens))?,
        Ok(decision) => {
            say(&page(&decision, &naming, pattern.as_deref(), tokens))?;
            note_chance(&decision, &args);
        }
        Err(error) => {
            if args.json {
                say_record(&refusal(&error, &call.head.model, &naming))?;
                return Err(Failure::Told(1));
            }
            return Err(Failure::Refused(hint(error)));
        }
    }
    Ok(())
}

/// The call as a gateway would read it.
fn call(args: &ExplainArgs, config: &Config) -> Result<Call, Failure> {
    let body = match &args.request {
        Some(path) => read(path, config.server.max_body_bytes)?,
        // Of a call of which nothing is known but the name, which `--model` gives.
        None => Bytes::from_static(br#"{"model":"","messages":[{"role":"user","content":""}]}"#),
    };
    let headers: HeaderMap = args.headers.iter().cloned().collect();
    let wishes = Wishes::read(&headers).map_err(|error| match error {
        ServerError::BadHeader { name, expected } => {
            Failure::Usage(format!("the header `{name}` must be {expected}"))
        }
        other => Failure::Usage(format!("{other:?}")),
    })?;
    let line = RequestLine { model: args.model.clone(), ..RequestLine::default() };
    let read = Call::read_with(RequestId::new(), CallerId::new("anonymous"), args.dialect, line, body);
    let mut call = read.map_err(|error| Failure::Usage(error.to_string()))?;
    wishes.put(&mut call);
    Ok(call)
}

/// A file, no longer than a body may be.
fn read(path: &Path, bytes_max: usize) -> Result<Bytes, Failure> {
    let named = |error: std::io::Error| Failure::Usage(format!("{}: {error}", path.display()));
    let mut source: Box<dyn Read> = match path.to_str() {
        Some("-") => Box::new(std::io::stdin().lock()),
        _ => Box::new(File::open(path).map_err(named)?),
    };
    let (mut body, limit) = (Vec::new(), bytes_max as u64 + 1);
    source.by_ref().take(limit).read_to_end(&mut body).map_err(named)?;
    if body.len() > bytes_max {
        let problem = format!("longer than the {bytes_max} bytes of `[server] max_body_bytes`");
        return Err(Failure::Usage(format!("{}: {problem}", path.display())));
    }
    Ok(body.into())
}

fn dialect(name: &str) -> Result<Dialect, String> {
    let names = || Dialect::ALL.iter().map(|dialect| dialect.as_str()).collect::<Vec<_>>().join(", ");
    Dialect::from_name(name).ok_or_else(|| format!("there are {}", names()))
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("expected `name: value`")?;
    let name = name.trim().parse().map_err(|_| "the name cannot be a header's")?;
    Ok((name, value.trim().parse().map_err(|_| "the value cannot be a header's")?))
}

fn page(
    decision: &Decision,
    naming: &Naming,
    strategy_pattern: Option<&str>,
    prompt_tokens: Option<u64>,
) -> String {
    let (plan, query) = (&decision.plan, decision.query());
    let costed = Query { prompt_tokens, ..query };
    let mut text = format!("{BOLD}{}{PLAIN}: {}\n", printable(query.model), printable(&read_as(naming)));
    text.push_str(&format!("needs: {}\n", needs(decision)));
    let pattern = strategy_pattern.map(|pattern| format!(", that of `{}`", printable(pattern)));
    text.push_str(&format!("strategy: {}{}\n", plan.strategy, pattern.unwrap_or_default()));
    let rows = plan
        .candidates
        .iter()
        .enumerate()
        .map(|(at, candidate)| row(at + 1, candidate, &costed, &plan.prices));
    let header = ["#>", "asked", "because of", "priority>", "weight>", "about $>"];
    text.push_str(&format!("\n{}", table(&header, rows)));
    if !plan.passed_over.is_empty() {
        let rows = plan
            .passed_over
            .iter()
            .map(|passed| [format!("{}/{}", passed.provider, passed.model), passed.why.to_string()]);
        text.push_str(&format!("\n{}", table(&["not asked", "because"], rows)));
    }
    text
}

fn row(place: usize, candidate: &Candidate, costed: &Query<'_>, prices: &PriceTable) -> [String; 6] {
    let (because, priority) = match &candidate.why.way {
        Way::Pattern { pattern, priority } => (format!("`{pattern}`"), priority.to_string()),
        Way::Direct => ("its name".to_owned(), "-".to_owned()),
    };
    let because = if candidate.why.is_canary { format!("canary, {because}") } else { because };
    [
        place.to_string(),
        candidate.to_string(),
        because,
        priority,
        candidate.why.weight.to_string(),
        cost(candidate, costed, prices).map_or_else(|| "-".to_owned(), dollars),
    ]
}

fn read_as(naming: &Naming) -> String {
    match naming {
        Naming::Alias { models } => format!("an alias of {}", models.join(", ")),
        Naming::Exact => "a name that a route spells out".to_owned(),
        Naming::Direct { provider } => format!("a model of the provider `{provider}`"),
        Naming::Pattern => "a name that patterns match".to_owned(),
    }
}

fn needs(decision: &Decision) -> String {
    let query = decision.query();
    let mut needs: Vec<String> = query.input.iter().map(|modality| modality.to_string()).collect();
    needs.extend(query.tools.then(|| "tools".to_owned()));
    needs.extend(query.prompt_tokens.map(|tokens| format!("a window of {tokens} tokens")));
    needs.extend(query.max_tokens.map(|tokens| format!("{tokens} tokens of answer")));
    needs.extend(query.local_only.then(|| "to stay here".to_owned()));
    needs.extend(query.max_cost.map(|cost| format!("to cost {cost} at most")));
    if needs.is_empty() { "nothing but text".to_owned() } else { needs.join(", ") }
}

/// What else decides, so that nobody takes one draw for the rule.
fn note_chance(decision: &Decision, args: &ExplainArgs) {
    let strategy = decision.plan.strategy;
    if has_canary(decision) {
        note(&format!(
            "the canary is first for its share of the seeds: this is seed {}, `--seed` shows another\n",
            args.seed
        ));
    }
    if strategy.draws_lots() {
        let seed = args.seed;
        note(&format!(
            "{strategy} draws lots: this is the draw of seed {seed}, `--seed` makes another; how busy and how quick they \
             are counts in a running gateway\n"
        ));
    } else if strategy == Strategy::RoundRobin {
        note(&format!("{strategy} takes turns: this is turn {}, `--turn` shows another\n", args.turn));
    }
}

fn as_json(
    decision: &Decision,
    naming: &Naming,
    strategy_pattern: Option<&str>,
    prompt_tokens: Option<u64>,
) -> Value {
    let mut shown = shown(decision, prompt_tokens);
    if let Some(fields) = shown.as_object_mut() {
        fields.insert("read_as".to_owned(), read_as_json(naming));
        fields.insert("strategy_pattern".to_owned(), strategy_pattern.into());
        let draws_lots = decision.plan.strategy.draws_lots() || has_canary(decision);
        fields.insert("draws_lots".to_owned(), draws_lots.into());
    }
    shown
}

fn has_canary(decision: &Decision) -> bool {
    let Plan { candidates, resting, .. } = &decision.plan;
    candidates.iter().chain(resting.iter().map(|one| &one.candidate)).any(|one| one.why.is_canary)
}

fn read_as_json(naming: &Naming) -> Value {
    match naming {
        Naming::Alias { models } => {
            json!({ "kind": "alias", "models": models.iter().map(|model| &**model).collect::<Vec<_>>() })
        }
        Naming::Exact => json!({ "kind": "exact" }),
        Naming::Direct { provider } => json!({ "kind": "direct", "provider": &**provider }),
        Naming::Pattern => json!({ "kind": "pattern" }),
    }
}

/// Why nobody would be asked: the same fields as far as there is anything to say.
fn refusal(error: &HooshError, model: &str, naming: &Naming) -> Value {
    let (passed_over, near) = match error {
        HooshError::NoRoute(no_route) => {
            let passed = no_route.considered.iter();
            let passed = passed.map(|(provider, why)| json!({ "provider": provider, "why": why }));
            (passed.collect::<Vec<_>>(), no_route.near.as_slice())
        }
        _ => (Vec::new(), &[][..]),
    };
    json!({
        "query": { "model": model },
        // A name that nothing matches was not read as anything.
        "read_as": (!passed_over.is_empty()).then(|| read_as_json(naming)),
        "candidates": [],
        "passed_over": passed_over,
        "did_you_mean": near,
        "error": error.to_string(),
    })
}

/// The error with the names that look like the one asked for, which its own text leaves to whoever shows it.
fn hint(error: HooshError) -> String {
    match &error {
        HooshError::NoRoute(no_route) if !no_route.near.is_empty() => {
            let near: Vec<String> = no_route.near.iter().map(|name| format!("`{name}`")).collect();
            format!("{error}; did you mean {}?", near.join(" or "))
        }
        _ => error.to_string(),
    }
}
