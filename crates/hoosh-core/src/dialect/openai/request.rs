//! The fields of a request that chat and legacy completions have in common.

use serde::Serialize;
use serde::ser::SerializeMap;
use serde_json::value::RawValue;

use crate::dialect::wire::{entry, notable, note};
use crate::dialect::{Dialect, Target};
use crate::failure::FidelityNote;
use crate::json::{FieldError, Object};
use crate::request::InferenceRequest;

/// Reads them.
pub(in crate::dialect) fn shared_fields(
    object: &mut Object<'_>,
    request: &mut InferenceRequest,
) -> Result<(), FieldError> {
    let limits: [Option<i64>; 2] = [object.take("max_completion_tokens")?, object.take("max_tokens")?];
    // Negative is llama.cpp's word for "no limit".
    request.max_tokens = limits.into_iter().flatten().next().and_then(|most| most.try_into().ok());
    request.temperature = object.take("temperature")?;
    request.top_p = object.take("top_p")?;
    request.top_k = object.take("top_k")?;
    request.frequency_penalty = object.take("frequency_penalty")?;
    request.presence_penalty = object.take("presence_penalty")?;
    request.seed = object.take("seed")?;
    request.n = object.take("n")?;
    request.user = object.take("user")?;
    request.stop = match object.take_raw("stop") {
        None => Vec::new(),
        Some(raw) => one_or_many(raw).map_err(|problem| object.wrong("stop", problem))?,
    };
    // Whether to stream is not part of the request but of how it is asked.
    object.take_raw("stream");
    object.take_raw("stream_options");
    Ok(())
}

fn one_or_many(raw: &RawValue) -> Result<Vec<String>, &'static str> {
    if let Ok(one) = serde_json::from_str::<String>(raw.get()) {
        return Ok(vec![one]);
    }
    serde_json::from_str(raw.get()).map_err(|_| "expected a string or a list of strings")
}

/// Whether any of the fields that providers of the dialect refuse may be written for this one.
fn is_known(field: &str, target: Target<'_>) -> bool {
    // OpenAI itself refuses `top_k`; vLLM, llama.cpp, OpenRouter and others of its dialect take it.
    target.quirks.knows(field) && !(field == "top_k" && target.quirks.max_completion_tokens)
}

/// Notes those of them, and of the fields that no dialect of OpenAI's has, that will not be written.
pub(in crate::dialect) fn note_shared(
    request: &InferenceRequest,
    target: Target<'_>,
    notes: &mut Vec<FidelityNote>,
) {
    let given = [
        ("logprobs", request.logprobs.is_some()),
        ("metadata", request.metadata.is_some()),
        ("service_tier", request.service_tier.is_some()),
        ("top_k", request.top_k.is_some()),
        ("top_logprobs", request.top_logprobs.is_some()),
        ("user", request.user.is_some()),
    ];
    for (field, _) in given.into_iter().filter(|(field, is_given)| *is_given && !is_known(field, target)) {
        note(notes, FidelityNote::new(field));
    }
    // Hidden reasoning is no less reasoning: there is nothing to ask for if it is wanted.
    if request.show_reasoning == Some(false) {
        note(notes, FidelityNote::new("reasoning.exclude"));
    }
}

/// Notes the unknown fields that belong to another dialect, by the names they have there.
pub(in crate::dialect) fn note_foreign(
    request: &InferenceRequest,
    is_carried: impl Fn(&str) -> bool,
    notes: &mut Vec<FidelityNote>,
) {
    note_user(request, notes);
    for (name, json) in notable(request).filter(|(name, _)| !is_carried(name)) {
        // What is in an object of its own there: the sampling of Ollama and Gemini, how to think and the answer's shape.
        let inner = match name {
            "generationConfig" | "options" | "output_config" | "reasoning" | "text" | "thinking" => {
                Object::parse("", json.get()).ok()
            }
            _ => None,
        };
        match inner {
            Some(inner) => {
                let inner = inner.rest();
                inner.iter().for_each(|(field, _)| note(notes, FidelityNote::new(format!("{name}.{field}"))));
            }
            None => note(notes, FidelityNote::new(name)),
        }
    }
}

/// Longest name of an end user that OpenAI takes.
const USER_CHARS_MAX: usize = 64;

/// The end user, of a name that is too long its end: Claude Code's is of 150 characters, of which the last differ.
pub(in crate::dialect) fn user(request: &InferenceRequest) -> Option<&str> {
    let user = request.user.as_deref()?;
    // A client of the same dialect is told by the vendor.
    if request.origin != Some(Dialect::Anthropic) {
        return Some(user);
    }
    let from = user.char_indices().rev().nth(USER_CHARS_MAX - 1).map_or(0, |(at, _)| at);
    Some(&user[from..])
}

/// Notes it if it is cut.
pub(in crate::dialect) fn note_user(request: &InferenceRequest, notes: &mut Vec<FidelityNote>) {
    if user(request) != request.user.as_deref() {
        note(notes, FidelityNote::emulated("user"));
    }
}

/// Writes them.
pub(in crate::dialect) fn write_shared_fields<M: SerializeMap>(
    request: &InferenceRequest,
    target: Target<'_>,
    map: &mut M,
) -> Result<(), M::Error> {
    #[derive(Serialize)]
    struct StreamOptions {
        include_usage: bool,
    }
    entry(map, "temperature", &request.temperature)?;
    entry(map, "top_p", &request.top_p)?;
    entry(map, "top_k", &request.top_k.as_ref().filter(|_| is_known("top_k", target)))?;
    entry(map, "frequency_penalty", &request.frequency_penalty)?;
    entry(map, "presence_penalty", &request.presence_penalty)?;
    entry(map, if target.quirks.random_seed { "random_seed" } else { "seed" }, &request.seed)?;
    entry(map, "n", &request.n)?;
    entry(map, "user", &user(request).filter(|_| is_known("user", target)))?;
    if !request.stop.is_empty() {
        map.serialize_entry("stop", &request.stop)?;
    }
    if target.stream {
        map.serialize_entry("stream", &true)?;
        if !target.quirks.no_stream_options {
            map.serialize_entry("stream_options", &StreamOptions { include_usage: true })?;
        }
    }
    Ok(())
}
