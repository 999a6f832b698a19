//! Who cannot take a call, going by what is known of models and of the call.
//!
//! Only sure failures are ruled out: what is not known of a model does not stand against it. The one exception is a price
//! that is not known, where the call may cost only so much or nobody without a price is to be asked.

use std::sync::Arc;

use hoosh_core::catalog::Catalog;
use hoosh_core::limits::ANSWER_TOKENS_ESTIMATE;
use hoosh_core::{
    ContextPolicy, ContextRule, LlmProvider, Modality, ModelInfo, NanoUsd, OnUnpriced, PriceTable, Usage,
};

use crate::plan::{Objection, Query};

/// What calls cost, and what is done where that is not known.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pricing {
    pub(crate) table: Arc<PriceTable>,
    pub(crate) on_unpriced: OnUnpriced,
}

/// A time behind all that prices were written for, at which the latest of them hold.
const LATEST: u64 = u64::MAX - 1;

/// What stands against asking this provider for the model, going by the call itself and what its route says of lengths.
pub(crate) fn objection(
    provider: &dyn LlmProvider,
    model: &str,
    query: &Query<'_>,
    rule: Option<&ContextRule>,
    pricing: &Pricing,
) -> Option<Objection> {
    if query.local_only && !provider.is_local() {
        return Some(Objection::NotLocal);
    }
    let asks_nothing = query.input.is_empty() && !query.tools && query.prompt_tokens.is_none();
    let is_cost_indifferent = query.max_cost.is_none() && pricing.on_unpriced != OnUnpriced::Block;
    if asks_nothing && is_cost_indifferent {
        return None;
    }
    by_ability(known(provider, model), query)
        .or_else(|| by_length(provider, model, query, rule))
        .or_else(|| by_cost(provider, model, query, pricing))
}

fn by_ability(known: Option<&ModelInfo>, query: &Query<'_>) -> Option<Objection> {
    let known = known?;
    let unread = query.input.iter().find(|modality| !known.input.allows(*modality));
    if let Some(modality) = unread {
        return Some(Objection::Unable(match modality {
            Modality::Image => "images",
            Modality::Audio => "audio",
            Modality::Video => "video",
            Modality::Pdf => "PDF files",
            Modality::Text | Modality::Embedding => "such input",
        }));
    }
    if query.tools && known.tools == Some(false) {
        return Some(Objection::Unable("tools"));
    }
    None
}

fn by_length(
    provider: &dyn LlmProvider,
    model: &str,
    query: &Query<'_>,
    rule: Option<&ContextRule>,
) -> Option<Objection> {
    let tokens = query.prompt_tokens.filter(|_| query.max_tokens != Some(0))?;
    let policy = query.context.or(rule.and_then(|rule| rule.policy)).unwrap_or_default();
    let is_compressed = rule.is_some_and(ContextRule::compresses);
    // Where it is made shorter, how long it is then is not known yet.
    let window =
        window(provider, model, rule).filter(|_| policy == ContextPolicy::Refuse && !is_compressed)?;
    (tokens > window).then_some(Objection::TooLong { tokens, window })
}

fn by_cost(
    provider: &dyn LlmProvider,
    model: &str,
    query: &Query<'_>,
    pricing: &Pricing,
) -> Option<Objection> {
    let limit = match (query.max_cost, pricing.on_unpriced) {
        (None, OnUnpriced::Allow | OnUnpriced::Warn) => return None,
        (None, OnUnpriced::Block) => NanoUsd::MAX,
        (Some(limit), _) => limit,
    };
    match cost(provider, model, query, &pricing.table) {
        None => Some(Objection::Unpriced),
        Some(cost) if cost > limit => Some(Objection::TooDear { cost, limit }),
        Some(_) => None,
    }
}

/// What the call would cost there, about. `None`: there is no known price.
pub(crate) fn cost(
    provider: &dyn LlmProvider,
    model: &str,
    query: &Query<'_>,
    prices: &PriceTable,
) -> Option<NanoUsd> {
    let usage = Usage {
        input: query.prompt_tokens.or(query.prompt_estimate),
        output: Some(query.max_tokens.unwrap_or(ANSWER_TOKENS_ESTIMATE)),
        ..Usage::default()
    };
    match query.at {
        Some(at) => prices.cost(provider.into(), model, &usage, at),
        // At what hour is not known either, so that the usual prices count.
        None => Some(prices.price_at(provider.into(), model, LATEST)?.price.cost(&usage)),
    }
}

/// Most tokens that a model reads, if that is known.
pub(crate) fn window(provider: &dyn LlmProvider, model: &str, rule: Option<&ContextRule>) -> Option<u64> {
    prompt_max(provider, model, rule, 0)
}

/// Most tokens that a model reads if it is to write as many, or half of what it has room for.
pub(crate) fn prompt_max(
    provider: &dyn LlmProvider,
    model: &str,
    rule: Option<&ContextRule>,
    answer: u64,
) -> Option<u64> {
    let leave = |window: u64| window - answer.min(window / 2);
    if let Some(window) = rule.and_then(|rule| rule.window) {
        return Some(leave(window));
    }
    let known = known(provider, model)?;
    known.input_max.into_iter().chain(known.context_window.map(leave)).min()
}

fn known(provider: &dyn LlmProvider, model: &str) -> Option<&'static ModelInfo> {
    Catalog::builtin().find(provider.provider_type().as_str(), model)
}
