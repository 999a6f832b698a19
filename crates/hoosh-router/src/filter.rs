//! Who cannot take a call, going by what is known of models and of the call.
//!
//! Only sure failures are ruled out: what is not known of a model does not stand against it. The one exception is a limit
//! of what the call may cost, which an unknown price could break.

use hoosh_core::catalog::Catalog;
use hoosh_core::{LlmProvider, Modality, ModelInfo, NanoUsd, Usage};

use crate::plan::{Objection, Query};

/// Tokens of an answer that is estimated where the call names no most: 500, a long paragraph or two.
const ANSWER_TOKENS: u64 = 500;

/// What stands against asking this provider for the model, going by the call itself.
pub(crate) fn objection(provider: &dyn LlmProvider, model: &str, query: &Query<'_>) -> Option<Objection> {
    if query.local_only && !provider.is_local() {
        return Some(Objection::NotLocal);
    }
    let asks_nothing = query.input.is_empty() && !query.tools && query.prompt_tokens.is_none();
    if asks_nothing && query.max_cost.is_none() {
        return None;
    }
    let known = known(provider, model);
    by_ability(known, query).or_else(|| by_cost(provider, model, query))
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
    let window = known.input_max.into_iter().chain(known.context_window).min();
    match (query.prompt_tokens, window) {
        (Some(tokens), Some(window)) if tokens > window => Some(Objection::TooLong { tokens, window }),
        _ => None,
    }
}

fn by_cost(provider: &dyn LlmProvider, model: &str, query: &Query<'_>) -> Option<Objection> {
    let limit = query.max_cost?;
    match cost(provider, model, query) {
        None => Some(Objection::Unpriced),
        Some(cost) if cost > limit => Some(Objection::TooDear { cost, limit }),
        Some(_) => None,
    }
}

/// What the call would cost there, about. `None`: there is no known price.
pub(crate) fn cost(provider: &dyn LlmProvider, model: &str, query: &Query<'_>) -> Option<NanoUsd> {
    if provider.is_local() {
        return Some(NanoUsd(0));
    }
    let usage = Usage {
        input: query.prompt_tokens,
        output: Some(query.max_tokens.unwrap_or(ANSWER_TOKENS)),
        ..Usage::default()
    };
    Some(known(provider, model)?.price.as_ref()?.cost(&usage))
}

/// Most tokens that a model reads, if that is known.
pub(crate) fn window(provider: &dyn LlmProvider, model: &str) -> Option<u64> {
    known(provider, model)?.context_window
}

fn known(provider: &dyn LlmProvider, model: &str) -> Option<&'static ModelInfo> {
    Catalog::builtin().find(provider.provider_type().as_str(), model)
}
