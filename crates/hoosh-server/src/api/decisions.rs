//! Decisions as JSON: who could be asked for a call, why, and what came of it.
//!
//! One form for `GET /v1/decisions`, `GET /v1/decisions/{id}` and `hoosh explain --json`, which [`Record`] reads again to
//! plan by it. Numbers of 64 bits are strings, since many readers of JSON would round them.

mod record;

use std::sync::Arc;

use hoosh_core::limits::DECISIONS_MAX;
use hoosh_core::{ContextPolicy, Fidelity, HooshError, InvalidRequest, NanoUsd, PriceTable};
use hoosh_gateway::{Asked, AskedResult, CallerId, Decision, Progress};
use hoosh_router::{Candidate, Objection, Query, Way};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use serde_json::{Map, Value, json};
use tokio::task::spawn_blocking;

pub(crate) use self::record::{Record, Recorded};
use super::json;
use crate::app::App;
use crate::http::body::ResponseBody;
use crate::http::error::ServerError;

/// The form of a decision in JSON. It grows when a reader of the last one would misunderstand the next.
pub(crate) const VERSION: u64 = 1;

/// Decisions that are listed where nobody says how many: 100, some 100 KiB.
const LISTED: usize = 100;

/// `GET /v1/decisions`: the latest of the caller's own calls, one a line, in the order they were made.
pub(crate) async fn decisions(
    app: &App,
    caller: &CallerId,
    query: Option<&str>,
) -> Result<Response<ResponseBody>, ServerError> {
    let most = limit(query.unwrap_or_default()).map_err(HooshError::from).map_err(ServerError::Call)?;
    let latest = app.gateway.decisions().latest(caller, most);
    // Thousands of them take some 50 ms to write, in which calls must go on.
    let write = move || latest.iter().map(|decision| format!("{}\n", whole(decision))).collect::<String>();
    let lines = spawn_blocking(write).await.map_err(|_| ServerError::Panicked)?;
    let mut response = Response::new(ResponseBody::full(lines));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/jsonl"));
    Ok(response)
}

/// How many a query asks for.
fn limit(query: &str) -> Result<usize, InvalidRequest> {
    let mut limit = LISTED;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=').unwrap_or((pair, "")) {
            ("limit", number) => {
                let read = number.parse().ok().filter(|number| (1..=DECISIONS_MAX).contains(number));
                let problem =
                    || format!("is to be a whole number from 1 to {DECISIONS_MAX}, as many as are kept");
                limit = read.ok_or_else(|| InvalidRequest::new("limit", problem()))?;
            }
            // Google's clients have their key here.
            ("key", _) => {}
            (other, _) => return Err(InvalidRequest::new(other, "is not known here; `limit` is")),
        }
    }
    Ok(limit)
}

/// `GET /v1/decisions/{id}`: of the caller's own calls.
pub(crate) fn decision(
    app: &App,
    caller: &CallerId,
    id: &str,
) -> Result<Response<ResponseBody>, ServerError> {
    let found = app.gateway.decisions().find(caller, id);
    let decision = found.ok_or_else(|| ServerError::NoSuchDecision { id: id.to_owned() })?;
    Ok(json(StatusCode::OK, &whole(&decision)))
}

/// What was decided, and what came of it.
fn whole(decision: &Arc<Decision>) -> Value {
    let mut shown = shown(decision, decision.query().prompt_tokens);
    if let Some(fields) = shown.as_object_mut() {
        fields.insert("id".to_owned(), decision.id.as_str().into());
        let fallback = decision.fallback().map(|other| self::shown(other, other.query().prompt_tokens));
        fields.insert("fallback".to_owned(), fallback.into());
        fields.extend(came_of(&decision.progress()));
    }
    shown
}

/// What was decided, and by what. Costs are of a prompt of so many tokens.
pub(crate) fn shown(decision: &Decision, prompt_tokens: Option<u64>) -> Value {
    let (plan, query) = (&decision.plan, decision.query());
    let costed = Query { prompt_tokens, ..query };
    let resting = plan.resting.iter().map(|resting| {
        let mut shown = candidate(&resting.candidate, &costed, &plan.prices);
        if let Some(fields) = shown.as_object_mut() {
            fields.insert("resting".to_owned(), resting.why.name().into());
            fields.insert("rest_ms".to_owned(), millis(resting.rest));
        }
        shown
    });
    let passed_over = plan.passed_over.iter().map(|passed| {
        let (reason, why) = (passed.why.as_str(), passed.why.to_string());
        let mut shown =
            json!({ "provider": &*passed.provider, "model": &*passed.model, "reason": reason, "why": why });
        match (&passed.why, shown.as_object_mut()) {
            (Objection::TooLong { tokens, .. }, Some(fields)) => {
                fields.insert("tokens".to_owned(), (*tokens).into());
            }
            (Objection::Lossy(what), Some(fields)) => {
                fields.insert("loses".to_owned(), what.as_str().into());
            }
            _ => {}
        }
        shown
    });
    json!({
        "version": VERSION,
        "dialect": decision.dialect.as_str(),
        "configuration": decision.configuration.as_deref(),
        "state": decision.state_digest(),
        "query": {
            "model": query.model,
            "max_tokens": query.max_tokens,
            "prompt_tokens": query.prompt_tokens,
            "prompt_estimate": query.prompt_estimate,
            "input": query.input.iter().map(|modality| modality.name()).collect::<Vec<_>>(),
            "tools": query.tools,
            "local_only": query.local_only,
            "max_cost_usd": query.max_cost.map(dollars),
            "at": query.at,
            "conversation": query.conversation.map(|seed| seed.0.to_string()),
            "fidelity": decision.fidelity.map(Fidelity::as_str),
            "context": query.context.map(ContextPolicy::as_str),
        },
        "strategy": plan.strategy.as_str(),
        "turn": plan.moment.turn.0.to_string(),
        "seed": plan.moment.seed.0.to_string(),
        "plan": plan.to_string(),
        "candidates": plan.candidates.iter().map(|one| candidate(one, &costed, &plan.prices)).collect::<Vec<_>>(),
        "resting": resting.collect::<Vec<_>>(),
        "passed_over": passed_over.collect::<Vec<_>>(),
    })
}

fn candidate(candidate: &Candidate, query: &Query<'_>, prices: &PriceTable) -> Value {
    let (pattern, priority) = match &candidate.why.way {
        Way::Pattern { pattern, priority } => (Some(&**pattern), Some(*priority)),
        Way::Direct => (None, None),
    };
    json!({
        "provider": candidate.provider.name(),
        "model": &*candidate.model,
        "why": candidate.why.to_string(),
        "alias": candidate.why.alias.as_deref(),
        "pattern": pattern,
        "priority": priority,
        "weight": candidate.why.weight,
        "canary": candidate.why.is_canary,
        "cost_usd": cost(candidate, query, prices).map(dollars),
        "in_flight": candidate.seen.in_flight(),
        "latency_us": candidate.seen.latency().map(micros),
        "time_to_first_us": candidate.seen.time_to_first().map(micros),
    })
}

fn came_of(progress: &Progress) -> Map<String, Value> {
    let attempt = |asked: &Asked| {
        let (result, kind, status) = match asked.result {
            AskedResult::Open => ("open", None, None),
            AskedResult::Answers => ("answers", None, None),
            AskedResult::LetGo => ("let_go", None, None),
            AskedResult::Failed { kind, status } => ("failed", Some(kind.as_str()), status),
        };
        json!({
            "provider": asked.provider.name(),
            "model": &*asked.model,
            "result": result,
            "failure": kind,
            "status": status,
        })
    };
    let answers = progress.attempts.iter().find(|asked| asked.result == AskedResult::Answers);
    let fields: [(&str, Value); 3] = [
        ("attempts", progress.attempts.iter().map(attempt).collect()),
        ("answered_by", answers.map(|asked| asked.provider.name()).into()),
        ("outcome", progress.outcome.into()),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// What the call would cost there, if that is known: without its prompt it would seem cheaper than it is.
pub(crate) fn cost(candidate: &Candidate, query: &Query<'_>, prices: &PriceTable) -> Option<NanoUsd> {
    let is_known = query.prompt_tokens.or(query.prompt_estimate).is_some() || candidate.provider.is_local();
    candidate.cost(query, prices).filter(|_| is_known)
}

/// An amount as a header has it: `0.05`.
pub(crate) fn dollars(amount: NanoUsd) -> String {
    amount.to_string().trim_start_matches('$').to_owned()
}

fn millis(time: std::time::Duration) -> Value {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).into()
}

fn micros(time: std::time::Duration) -> Value {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX).into()
}
