//! A decision read back from its JSON: all that its plan was made from, so that another table can make one from the same.

use std::time::{Duration, Instant};

use hoosh_core::{ContextPolicy, Fidelity, Modalities, Modality, NanoUsd, NoRoute};
use hoosh_router::{
    Candidate, Moment, Objection, Plan, Query, RestReason, Router, Seed, Seen, Snapshot, Strategy, Turn,
};
use serde::Deserialize;

use super::VERSION;

/// A decision as it was written down.
#[derive(Debug)]
pub(crate) struct Record {
    /// The call; `None` if there was none, as for `hoosh explain`.
    pub(crate) id: Option<String>,
    /// The configuration that it was decided by.
    pub(crate) configuration: Option<String>,
    /// The strategy that it was decided by.
    pub(crate) strategy: Strategy,
    /// Who could be asked, in order.
    pub(crate) candidates: Vec<Recorded>,
    /// Who was let alone, in order.
    pub(crate) resting: Vec<Recorded>,
    /// Who would have lost something of a call that allowed no loss.
    lossy: Vec<Lossy>,
    /// For whom its prompt was too long.
    too_long: Vec<TooLong>,
    /// Providers that the caller's key did not allow.
    not_allowed: Vec<String>,
    /// What the call itself said of that.
    fidelity: Option<Fidelity>,
    model: String,
    /// Without its model, which it would borrow.
    query: Query<'static>,
    turn: Turn,
    seed: Seed,
    known: Snapshot,
}

/// Somebody who could be asked then.
#[derive(Debug, Deserialize)]
pub(crate) struct Recorded {
    pub(crate) provider: String,
    pub(crate) model: String,
    pub(crate) priority: Option<u32>,
    pub(crate) weight: u32,
    in_flight: usize,
    latency_us: Option<u64>,
    time_to_first_us: Option<u64>,
    resting: Option<String>,
    rest_ms: Option<u64>,
}

/// What a line says of its form, whatever else is in it.
#[derive(Deserialize)]
struct Form {
    version: Option<u64>,
}

#[derive(Deserialize)]
struct Line {
    id: Option<String>,
    configuration: Option<String>,
    query: Asked,
    strategy: String,
    turn: String,
    seed: String,
    candidates: Vec<Recorded>,
    resting: Vec<Recorded>,
    passed_over: Vec<Passed>,
}

#[derive(Deserialize)]
struct Asked {
    model: String,
    max_tokens: Option<u64>,
    prompt_tokens: Option<u64>,
    prompt_estimate: Option<u64>,
    input: Vec<String>,
    tools: bool,
    local_only: bool,
    max_cost_usd: Option<String>,
    at: Option<u64>,
    conversation: Option<String>,
    fidelity: Option<String>,
    context: Option<String>,
}

#[derive(Deserialize)]
struct Passed {
    provider: String,
    model: String,
    reason: String,
    tokens: Option<u64>,
    loses: Option<String>,
}

#[derive(Debug)]
struct Lossy {
    provider: String,
    model: String,
    what: String,
}

#[derive(Debug)]
struct TooLong {
    provider: String,
    model: String,
    /// As that model counts them.
    tokens: u64,
}

// === impl Record ===

impl Record {
    /// Reads one line.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in a sentence without a beginning.
    pub(crate) fn read(line: &[u8]) -> Result<Self, String> {
        if line.first() != Some(&b'{') {
            return Err("is no JSON object".to_owned());
        }
        let form: Form = serde_json::from_slice(line).map_err(|error| {
            let hint =
                if error.is_eof() { "; one decision a line is expected (`jq -c .` makes lines)" } else { "" };
            format!("is no JSON object: {}{hint}", place(&error))
        })?;
        match form.version {
            None => return Err("has no `version`: it is not a decision of this gateway".to_owned()),
            Some(VERSION) => {}
            Some(version) => {
                return Err(format!(
                    "has the version {version} of the form, and this program reads {VERSION}: use the hoosh that wrote it, or \
                     a later one"
                ));
            }
        }
        let line: Line = serde_json::from_slice(line).map_err(|error| place(&error))?;
        line.record()
    }

    /// What the call needed.
    fn query(&self) -> Query<'_> {
        Query { model: &self.model, ..self.query }
    }

    /// Model as the caller named it.
    pub(crate) fn model(&self) -> &str {
        &self.model
    }

    /// Who would be asked by another table, all else being as it was. `fidelity` is what holds where neither the call nor the
    /// route says.
    ///
    /// What a provider's dialect cannot say shows in the call, which is not recorded: of those who were not asked for that it
    /// is known, of others it is not.
    ///
    /// # Errors
    ///
    /// Nobody could be asked.
    pub(crate) fn replay(&self, router: &Router, fidelity: Fidelity) -> Result<Plan, NoRoute> {
        let moment = Moment { now: Instant::now(), turn: self.turn, seed: self.seed };
        let is = |(provider, model): (&str, &str), one: &Candidate| {
            provider == one.provider.name() && *model == *one.model
        };
        let mut object = |one: &Candidate| {
            if self.not_allowed.iter().any(|provider| provider == one.provider.name()) {
                return Some(Objection::NotAllowed);
            }
            let counted = self.too_long.iter().find(|long| is((&long.provider, &long.model), one));
            if let (Some(long), Some(window)) = (counted, one.refuses_above(self.query.context))
                && long.tokens > window
            {
                return Some(Objection::TooLong { tokens: long.tokens, window });
            }
            let wanted = self.fidelity.or(one.fidelity).unwrap_or(fidelity);
            let lossy = self.lossy.iter().find(|lossy| is((&lossy.provider, &lossy.model), one));
            let loses = lossy.filter(|_| wanted == Fidelity::Strict)?;
            Some(Objection::Lossy(loses.what.clone()))
        };
        let (query, table) = (self.query(), router.table());
        table.replay(&query, router.strategy(), &moment, &self.known, Some(&mut object))
    }
}

/// What is wrong with a line of JSON; it is always the first line of its text.
fn place(error: &serde_json::Error) -> String {
    error.to_string().replace(" at line 1 column ", " at column ")
}

// === impl Line ===

impl Line {
    fn record(self) -> Result<Record, String> {
        let Asked {
            model,
            max_tokens,
            prompt_tokens,
            prompt_estimate,
            input,
            tools,
            local_only,
            max_cost_usd,
            at,
            conversation,
            fidelity,
            context,
        } = self.query;
        let modality =
            |name: &String| name.parse::<Modality>().map_err(|error| format!("`query.input`: {error}"));
        let input: Modalities = input.iter().map(modality).collect::<Result<_, _>>()?;
        let cost =
            |text: String| text.parse::<NanoUsd>().map_err(|error| format!("`query.max_cost_usd`: {error}"));
        let max_cost = max_cost_usd.map(cost).transpose()?;
        let conversation =
            conversation.map(|text| number("query.conversation", &text)).transpose()?.map(Seed);
        let unknown = |field: &str, text: &str| format!("`query.{field}`: `{text}` is not known");
        let word = |text: String| Fidelity::parse(&text).ok_or_else(|| unknown("fidelity", &text));
        let fidelity = fidelity.map(word).transpose()?;
        let policy = |text: String| ContextPolicy::parse(&text).ok_or_else(|| unknown("context", &text));
        let context = context.map(policy).transpose()?;
        let mut known = Snapshot::default();
        for one in self.candidates.iter().chain(&self.resting) {
            known.insert(&one.provider, &one.model, one.seen(), one.rest()?);
        }
        let (mut lossy, mut too_long, mut not_allowed) = (Vec::new(), Vec::new(), Vec::new());
        for Passed { provider, model, reason, tokens, loses } in self.passed_over {
            match (reason.as_str(), tokens, loses) {
                ("lossy", _, Some(what)) => lossy.push(Lossy { provider, model, what }),
                ("too_long", Some(tokens), _) => too_long.push(TooLong { provider, model, tokens }),
                ("not_allowed", ..) => not_allowed.push(provider),
                _ => {}
            }
        }
        Ok(Record {
            id: self.id,
            configuration: self.configuration,
            strategy: self.strategy.parse().map_err(|error| format!("`strategy`: {error}"))?,
            candidates: self.candidates,
            resting: self.resting,
            lossy,
            too_long,
            not_allowed,
            fidelity,
            model,
            query: Query {
                model: "",
                max_tokens,
                prompt_tokens,
                prompt_estimate,
                input,
                tools,
                local_only,
                max_cost,
                at,
                context,
                conversation,
            },
            turn: Turn(number("turn", &self.turn)?),
            seed: Seed(number("seed", &self.seed)?),
            known,
        })
    }
}

fn number(field: &str, text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("`{field}`: `{text}` is no whole number of 64 bits"))
}

// === impl Recorded ===

impl Recorded {
    /// Whether it is this one.
    pub(crate) fn is(&self, candidate: &Candidate) -> bool {
        self.provider == candidate.provider.name() && *self.model == *candidate.model
    }

    fn seen(&self) -> Seen {
        let time = |micros: Option<u64>| micros.map(Duration::from_micros);
        Seen::new(self.in_flight, time(self.latency_us), time(self.time_to_first_us))
    }

    fn rest(&self) -> Result<Option<(Duration, RestReason)>, String> {
        let Some(name) = &self.resting else { return Ok(None) };
        let why = RestReason::parse(name).ok_or_else(|| format!("`resting`: `{name}` is not known"))?;
        Ok(Some((Duration::from_millis(self.rest_ms.unwrap_or_default()), why)))
    }
}

impl std::fmt::Display for Recorded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.provider, self.model)
    }
}
