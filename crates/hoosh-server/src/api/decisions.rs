//! Decisions as JSON: who could be asked for a call, why, and what came of it.
//!
//! One form for `GET /v1/decisions/{id}` and for `hoosh explain --json`. Numbers of 64 bits are strings, since many
//! readers of JSON would round them.

use hoosh_core::NanoUsd;
use hoosh_gateway::{Asked, AskedResult, CallerId, Decision, Progress};
use hoosh_router::{Candidate, Query, Way};
use http::{Response, StatusCode};
use serde_json::{Map, Value, json};

use super::json;
use crate::app::App;
use crate::http::body::ResponseBody;
use crate::http::error::ServerError;

/// `GET /v1/decisions/{id}`: of the caller's own calls.
pub(crate) fn decision(
    app: &App,
    caller: &CallerId,
    id: &str,
) -> Result<Response<ResponseBody>, ServerError> {
    let found = app.gateway.decisions().find(caller, id);
    let decision = found.ok_or_else(|| ServerError::NoSuchDecision { id: id.to_owned() })?;
    let mut shown = shown(&decision, decision.query().prompt_tokens);
    if let Some(fields) = shown.as_object_mut() {
        fields.insert("id".to_owned(), decision.id.as_str().into());
        let fallback = decision.fallback().map(|other| self::shown(other, other.query().prompt_tokens));
        fields.insert("fallback".to_owned(), fallback.into());
        fields.extend(came_of(&decision.progress()));
    }
    Ok(json(StatusCode::OK, &shown))
}

/// What was decided, and by what. Costs are of a prompt of so many tokens.
pub(crate) fn shown(decision: &Decision, prompt_tokens: Option<u64>) -> Value {
    let (plan, query) = (&decision.plan, decision.query());
    let costed = Query { prompt_tokens, ..query };
    let resting = plan.resting.iter().map(|resting| {
        let mut shown = candidate(&resting.candidate, &costed);
        if let Some(fields) = shown.as_object_mut() {
            fields.insert("resting".to_owned(), resting.why.as_str().into());
            fields.insert("rest_ms".to_owned(), millis(resting.rest));
        }
        shown
    });
    let passed_over = plan
        .passed_over
        .iter()
        .map(|passed| json!({ "provider": &*passed.provider, "why": passed.why.to_string() }));
    json!({
        "dialect": decision.dialect.as_str(),
        "configuration": decision.configuration.as_deref(),
        "state": decision.state_digest(),
        "query": {
            "model": query.model,
            "max_tokens": query.max_tokens,
            "prompt_tokens": query.prompt_tokens,
            "input": query.input.iter().map(|modality| modality.name()).collect::<Vec<_>>(),
            "tools": query.tools,
            "local_only": query.local_only,
            "max_cost_usd": query.max_cost.map(dollars),
            "conversation": query.conversation.map(|seed| seed.0.to_string()),
        },
        "strategy": plan.strategy.as_str(),
        "turn": plan.moment.turn.0.to_string(),
        "seed": plan.moment.seed.0.to_string(),
        "plan": plan.to_string(),
        "candidates": plan.candidates.iter().map(|one| candidate(one, &costed)).collect::<Vec<_>>(),
        "resting": resting.collect::<Vec<_>>(),
        "passed_over": passed_over.collect::<Vec<_>>(),
    })
}

fn candidate(candidate: &Candidate, query: &Query<'_>) -> Value {
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
        "cost_usd": cost(candidate, query).map(dollars),
        "in_flight": candidate.seen.in_flight,
        "lately_ms": candidate.seen.time.map(millis),
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
pub(crate) fn cost(candidate: &Candidate, query: &Query<'_>) -> Option<NanoUsd> {
    let is_known = query.prompt_tokens.is_some() || candidate.provider.is_local();
    candidate.cost(query).filter(|_| is_known)
}

/// An amount as a header has it: `0.05`.
fn dollars(amount: NanoUsd) -> String {
    amount.to_string().trim_start_matches('$').to_owned()
}

fn millis(time: std::time::Duration) -> Value {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).into()
}
