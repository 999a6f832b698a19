//! What chat and generate requests share: `options`, `format`, `think`, log probabilities.

use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::dialect::wire::{entry, notable, note};
use crate::dialect::{Dialect, Target};
use crate::failure::FidelityNote;
use crate::json::{Extra, FieldError, Object, RawJson};
use crate::request::{InferenceRequest, ResponseFormat};
use crate::tool::ToolChoice;

// --- reading ---

/// Reads the shared fields; options that we do not know become one extra field `options`.
pub(super) fn read(object: &mut Object<'_>, request: &mut InferenceRequest) -> Result<(), FieldError> {
    // How the answer is wanted is not part of the request.
    object.take_raw("stream");
    let mut unknown = Extra::default();
    if let Some(mut options) = object.take_object("options")? {
        // -1 is no limit, -2 as far as the context goes; some clients send whole numbers as 64.0.
        request.max_tokens =
            options.take::<f64>("num_predict")?.filter(|most| *most >= 0.0).map(|most| most as u64);
        request.temperature = options.take("temperature")?;
        request.top_p = options.take("top_p")?;
        request.top_k = options.take("top_k")?;
        request.seed = options.take("seed")?;
        request.presence_penalty = options.take("presence_penalty")?;
        request.frequency_penalty = options.take("frequency_penalty")?;
        if let Some(raw) = options.take_raw("stop") {
            request.stop = match serde_json::from_str::<String>(raw.get()) {
                Ok(text) => vec![text],
                Err(_) => serde_json::from_str(raw.get())
                    .map_err(|_| options.wrong("stop", "expected a string or a list of strings"))?,
            };
        }
        unknown = options.rest();
    }
    if let Some(raw) = object.take_raw("format") {
        request.response_format = match raw.get() {
            "\"json\"" => Some(ResponseFormat::JsonObject),
            "\"\"" => None,
            text if text.starts_with('{') => Some(ResponseFormat::JsonSchema {
                name: "response".to_owned(),
                schema: Some(raw.into()),
                strict: None,
                extra: Extra::default(),
            }),
            _ => return Err(object.wrong("format", "expected `json` or a JSON schema")),
        };
    }
    match object.take_raw("think").map(|raw| raw.get()) {
        None => {}
        Some("true") => request.show_reasoning = Some(true),
        Some("false") => request.reasoning_effort = Some("none".to_owned()),
        Some(text) => {
            let effort = serde_json::from_str(text)
                .map_err(|_| object.wrong("think", "expected a boolean, `low`, `medium` or `high`"))?;
            request.reasoning_effort = Some(effort);
        }
    }
    request.logprobs = object.take("logprobs")?;
    request.top_logprobs = object.take("top_logprobs")?;
    request.extra = with_options(unknown);
    Ok(())
}

fn with_options(unknown: Extra) -> Extra {
    let mut extra = Extra::default();
    if !unknown.is_empty()
        && let Ok(json) = RawJson::from_value(&unknown)
    {
        extra.insert("options", json);
    }
    extra
}

/// Adds the fields left of a request to its extra.
pub(super) fn keep_rest(rest: Extra, request: &mut InferenceRequest) {
    for (name, value) in rest.iter() {
        request.extra.insert(name, value.clone());
    }
}

// --- writing ---

/// Options that servers of OpenAI's dialect (llama.cpp, vLLM) take as fields, and Ollama's name of each.
const OPTIONS_OF_OTHERS: [(&str, &str); 6] = [
    ("min_p", "min_p"),
    ("repeat_penalty", "repeat_penalty"),
    ("repetition_penalty", "repeat_penalty"),
    ("repeat_last_n", "repeat_last_n"),
    ("typical_p", "typical_p"),
    ("num_ctx", "num_ctx"),
];

/// The extra of a request, sorted into options and fields.
#[derive(Default)]
pub(super) struct Rest {
    options: Extra,
    fields: Extra,
}

/// Sorts it, with notes of what cannot go along. `left_out` are fields only the other of the two endpoints knows.
pub(super) fn rest(
    request: &InferenceRequest,
    dialect: Dialect,
    left_out: &[&str],
    notes: &mut Vec<FidelityNote>,
) -> Rest {
    let mut sorted = Rest::default();
    let own = request.origin.is_none_or(|origin| origin.is_akin(dialect));
    for (name, value) in notable(request) {
        let option = OPTIONS_OF_OTHERS.iter().find(|(theirs, _)| *theirs == name);
        match (own, option) {
            (true, _) if name == "options" => match Object::parse("options", value.get()) {
                Ok(options) => sorted.options = options.rest(),
                Err(_) => note(notes, FidelityNote::new("options")),
            },
            (true, _) if !left_out.contains(&name) => sorted.fields.insert(name, value.clone()),
            (false, Some((_, ours))) => sorted.options.insert(*ours, value.clone()),
            _ => note(notes, FidelityNote::new(name)),
        }
    }
    sorted
}

/// Notes the shared fields that Ollama has no word for.
pub(super) fn note_lost(request: &InferenceRequest, notes: &mut Vec<FidelityNote>) {
    let tool_choice = match &request.tool_choice {
        Some(ToolChoice::Required | ToolChoice::Tool(_) | ToolChoice::Other(_)) => true,
        None | Some(ToolChoice::Auto | ToolChoice::None) => false,
    };
    let lost = [
        ("n", request.n.is_some_and(|n| n != 1)),
        ("user", request.user.is_some()),
        ("metadata", request.metadata.is_some()),
        ("service_tier", request.service_tier.is_some()),
        ("parallel_tool_calls", request.parallel_tool_calls == Some(false)),
        ("tool_choice", tool_choice),
        ("response_format", matches!(request.response_format, Some(ResponseFormat::Other(_)))),
    ];
    for (name, _) in lost.iter().filter(|(_, lost)| *lost) {
        note(notes, FidelityNote::new(*name));
    }
    for tool in &request.hosted_tools {
        note(notes, FidelityNote::new(tool.kind.as_str()));
    }
    if request.show_reasoning == Some(false) && request.effort().is_some_and(|effort| effort != "none") {
        note(notes, FidelityNote::new("show_reasoning"));
    }
}

enum Think {
    Whether(bool),
    Level(&'static str),
}

/// Only gpt-oss thinks in levels; for all others it is a question of yes or no.
fn think(request: &InferenceRequest, model: &str) -> Option<(Think, bool)> {
    let Some(effort) = request.effort() else {
        return (request.show_reasoning == Some(true)).then_some((Think::Whether(true), true));
    };
    let (level, exact) = match effort {
        "none" => return Some((Think::Whether(false), true)),
        "low" => ("low", true),
        "medium" => ("medium", true),
        "high" => ("high", true),
        "minimal" => ("low", false),
        _ => ("high", false),
    };
    let in_levels = model.rsplit('/').next().is_some_and(|name| name.starts_with("gpt-oss"));
    Some(if in_levels { (Think::Level(level), exact) } else { (Think::Whether(true), false) })
}

pub(super) fn note_think(request: &InferenceRequest, model: &str, notes: &mut Vec<FidelityNote>) {
    if think(request, model).is_some_and(|(_, exact)| !exact) || request.reasoning_budget.is_some() {
        note(notes, FidelityNote::emulated("reasoning_effort"));
    }
}

pub(super) fn write<M: SerializeMap>(
    request: &InferenceRequest,
    target: Target<'_>,
    rest: &Rest,
    map: &mut M,
) -> Result<(), M::Error> {
    map.serialize_entry("stream", &target.stream)?;
    match &request.response_format {
        Some(ResponseFormat::JsonSchema { schema: Some(schema), .. }) => {
            map.serialize_entry("format", schema)?
        }
        Some(ResponseFormat::JsonObject | ResponseFormat::JsonSchema { .. }) => {
            map.serialize_entry("format", "json")?
        }
        None | Some(ResponseFormat::Text | ResponseFormat::Other(_)) => {}
    }
    match think(request, target.model) {
        Some((Think::Whether(whether), _)) => map.serialize_entry("think", &whether)?,
        Some((Think::Level(level), _)) => map.serialize_entry("think", level)?,
        None => {}
    }
    entry(map, "logprobs", &request.logprobs)?;
    entry(map, "top_logprobs", &request.top_logprobs)?;
    let options = OptionsBody(request, &rest.options);
    if !options.is_empty() {
        map.serialize_entry("options", &options)?;
    }
    rest.fields.write(map)
}

struct OptionsBody<'a>(&'a InferenceRequest, &'a Extra);

impl OptionsBody<'_> {
    fn is_empty(&self) -> bool {
        let request = self.0;
        let numbers = [
            &request.temperature,
            &request.top_p,
            &request.top_k,
            &request.seed,
            &request.presence_penalty,
            &request.frequency_penalty,
        ];
        numbers.iter().all(|number| number.is_none())
            && request.max_tokens.is_none()
            && request.stop.is_empty()
            && self.1.is_empty()
    }
}

impl Serialize for OptionsBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let request = self.0;
        let mut map = serializer.serialize_map(None)?;
        entry(&mut map, "num_predict", &request.max_tokens)?;
        entry(&mut map, "temperature", &request.temperature)?;
        entry(&mut map, "top_p", &request.top_p)?;
        entry(&mut map, "top_k", &request.top_k)?;
        entry(&mut map, "seed", &request.seed)?;
        entry(&mut map, "presence_penalty", &request.presence_penalty)?;
        entry(&mut map, "frequency_penalty", &request.frequency_penalty)?;
        if !request.stop.is_empty() {
            map.serialize_entry("stop", &request.stop)?;
        }
        self.1.write(&mut map)?;
        map.end()
    }
}
