//! The fields of a request that chat and legacy completions have in common.

use serde::Serialize;
use serde::ser::SerializeMap;
use serde_json::value::RawValue;

use crate::dialect::Target;
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
    entry(map, "frequency_penalty", &request.frequency_penalty)?;
    entry(map, "presence_penalty", &request.presence_penalty)?;
    entry(map, "seed", &request.seed)?;
    entry(map, "n", &request.n)?;
    entry(map, "user", &request.user)?;
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

/// Writes a field that is there.
pub(in crate::dialect) fn entry<M: SerializeMap, T: Serialize>(
    map: &mut M,
    name: &str,
    value: &Option<T>,
) -> Result<(), M::Error> {
    match value {
        Some(value) => map.serialize_entry(name, value),
        None => Ok(()),
    }
}
