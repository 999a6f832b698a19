//! The `generationConfig`. Source: ai.google.dev/api/generate-content#generationconfig, read 2026-11-24.

use serde::Serialize;
use serde_json::value::RawValue;

use super::fields::{take, take_object, take_raw};
use super::model::Model;
use super::{schema, thinking};
use crate::dialect::Dialect;
use crate::dialect::wire::note;
use crate::failure::FidelityNote;
use crate::json::{Extra, FieldError, Object, RawJson};
use crate::request::{InferenceRequest, ResponseFormat};

/// Its name, under which also what we do not know of it rides along.
pub(super) const NAME: &str = "generationConfig";

/// Most stop texts that Google takes.
const STOPS_MAX: usize = 5;

/// Reads it; what is left of it that we do not know.
pub(super) fn decode(
    mut config: Object<'_>,
    request: &mut InferenceRequest,
) -> Result<Option<RawJson>, FieldError> {
    request.temperature = take(&mut config, "temperature")?;
    request.top_p = take(&mut config, "topP")?;
    request.top_k = take(&mut config, "topK")?;
    request.n = take(&mut config, "candidateCount")?;
    request.max_tokens = take(&mut config, "maxOutputTokens")?;
    request.stop = take(&mut config, "stopSequences")?.unwrap_or_default();
    request.seed = take(&mut config, "seed")?;
    request.presence_penalty = take(&mut config, "presencePenalty")?;
    request.frequency_penalty = take(&mut config, "frequencyPenalty")?;
    request.logprobs = take(&mut config, "responseLogprobs")?;
    request.top_logprobs = take(&mut config, "logprobs")?;
    request.response_format = format(&mut config)?;
    let thinking = take_object(&mut config, thinking::NAME)?;
    let thinking = thinking.map(|thinking| thinking::decode(thinking, request)).transpose()?.flatten();
    let mut rest = config.rest();
    if let Some(thinking) = thinking {
        rest.insert(thinking::NAME, thinking);
    }
    Ok(as_json(&rest))
}

/// Unknown fields as an object, if there are any.
pub(super) fn as_json(rest: &Extra) -> Option<RawJson> {
    if rest.is_empty() { None } else { RawJson::from_value(rest).ok() }
}

fn format(config: &mut Object<'_>) -> Result<Option<ResponseFormat>, FieldError> {
    let media_type: Option<String> = take(config, "responseMimeType")?;
    let googles = take_raw(config, "responseSchema");
    let schemas = [take_raw(config, "responseJsonSchema"), config.take_raw("_responseJsonSchema")];
    let schema = schemas.into_iter().flatten().next();
    for (name, schema) in [("responseJsonSchema", schema), ("responseSchema", googles)] {
        if schema.is_some_and(|schema| !schema.get().starts_with('{')) {
            return Err(config.wrong(name, "expected a schema, which is an object"));
        }
    }
    let json_schema = schema.map(RawJson::from).or_else(|| googles.map(schema::to_json_schema));
    Ok(match (media_type.as_deref(), json_schema) {
        (None, None) => None,
        (Some("text/plain"), None) => Some(ResponseFormat::Text),
        (Some("application/json"), None) => Some(ResponseFormat::JsonObject),
        (None | Some("application/json"), schema @ Some(_)) => Some(ResponseFormat::JsonSchema {
            name: "answer".to_owned(),
            schema,
            strict: None,
            extra: Extra::default(),
        }),
        // One of a list of words (`text/x.enum`), and whatever else there will be.
        (Some(media_type), _) => other(media_type, googles, schema),
    })
}

fn other(media_type: &str, googles: Option<&RawValue>, schema: Option<&RawValue>) -> Option<ResponseFormat> {
    let mut fields = Extra::default();
    put(&mut fields, "responseMimeType", &Some(media_type));
    put(&mut fields, "responseSchema", &googles);
    put(&mut fields, "responseJsonSchema", &schema);
    as_json(&fields).map(ResponseFormat::Other)
}

/// Writes it.
pub(super) fn encode(request: &InferenceRequest, model: Model<'_>, notes: &mut Vec<FidelityNote>) -> Extra {
    let mut fields = Extra::default();
    put(&mut fields, "temperature", &request.temperature);
    put(&mut fields, "topP", &request.top_p);
    put(&mut fields, "topK", &request.top_k);
    put(&mut fields, "candidateCount", &request.n);
    put(&mut fields, "maxOutputTokens", &request.max_tokens);
    if request.stop.len() > STOPS_MAX && !is_own(request) {
        note(notes, FidelityNote::new("stop"));
        put(&mut fields, "stopSequences", &Some(&request.stop[..STOPS_MAX]));
    } else {
        put(&mut fields, "stopSequences", &Some(&request.stop).filter(|stop| !stop.is_empty()));
    }
    put(&mut fields, "seed", &request.seed);
    put(&mut fields, "presencePenalty", &request.presence_penalty);
    put(&mut fields, "frequencyPenalty", &request.frequency_penalty);
    put(&mut fields, "responseLogprobs", &request.logprobs);
    put(&mut fields, "logprobs", &request.top_logprobs);
    write_format(request, model, &mut fields, notes);
    let mut thinking = thinking::encode(request, model, notes);
    if is_akin(request) {
        if let Some(rest) = request.extra.get(NAME).and_then(fields_of) {
            for (name, value) in rest.iter() {
                match (name, fields_of(value)) {
                    (thinking::NAME, Some(rest)) => merge(&mut thinking, &rest),
                    _ => merge_one(&mut fields, name, value),
                }
            }
        }
    } else {
        modalities(request, &mut fields);
    }
    if let Some(thinking) = as_json(&thinking) {
        fields.insert(thinking::NAME, thinking);
    }
    fields
}

fn write_format(
    request: &InferenceRequest,
    model: Model<'_>,
    fields: &mut Extra,
    notes: &mut Vec<FidelityNote>,
) {
    let Some(format) = &request.response_format else { return };
    let has_tools = !request.tools.is_empty() || !request.hosted_tools.is_empty();
    // "Function calling with a response mime type: 'application/json' is unsupported", says Gemini 2.5.
    if has_tools && !model.is_third() && !is_own(request) && !matches!(format, ResponseFormat::Text) {
        return note(notes, FidelityNote::new("response_format"));
    }
    let json = Some("application/json");
    match format {
        ResponseFormat::Text if is_own(request) => put(fields, "responseMimeType", &Some("text/plain")),
        ResponseFormat::Text => {}
        ResponseFormat::JsonObject => put(fields, "responseMimeType", &json),
        ResponseFormat::JsonSchema { schema, extra, .. } => {
            put(fields, "responseMimeType", &json);
            put(fields, "responseJsonSchema", schema);
            for (name, _) in extra.iter() {
                note(notes, FidelityNote::new(format!("response_format.json_schema.{name}")));
            }
        }
        ResponseFormat::Other(whole) => match fields_of(whole).filter(|_| is_akin(request)) {
            Some(whole) => merge(fields, &whole),
            None => note(notes, FidelityNote::new("response_format")),
        },
    }
}

/// What the answer may be made of, in the words of OpenAI and OpenRouter.
const MODALITIES: &str = "modalities";

/// Whether a field of another dialect has a counterpart here.
pub(super) fn is_translated(name: &str) -> bool {
    name == MODALITIES
}

fn modalities(request: &InferenceRequest, fields: &mut Extra) {
    let words = request.extra.get(MODALITIES);
    let words = words.and_then(|words| serde_json::from_str::<Vec<String>>(words.get()).ok());
    // Text alone is what comes anyway.
    if let Some(words) = words.filter(|words| words.iter().any(|word| word != "text")) {
        let words: Vec<_> = words.iter().map(|word| word.to_ascii_uppercase()).collect();
        put(fields, "responseModalities", &Some(words));
    }
}

// --- objects of raw fields ---

/// Whether unknown fields of the request are of this dialect.
pub(super) fn is_akin(request: &InferenceRequest) -> bool {
    request.origin.is_none_or(|origin| origin.is_akin(Dialect::Gemini))
}

/// Whether the request came in this dialect: then it is said as it was said, and Google judges it.
pub(super) fn is_own(request: &InferenceRequest) -> bool {
    request.origin == Some(Dialect::Gemini)
}

/// Sets a field that is there.
pub(super) fn put<T: Serialize>(fields: &mut Extra, name: &str, value: &Option<T>) {
    if let Some(value) = value
        && let Ok(json) = RawJson::from_value(value)
    {
        fields.insert(name, json);
    }
}

/// The fields of an object.
pub(super) fn fields_of(json: &RawJson) -> Option<Extra> {
    Object::parse("", json.get()).ok().map(Object::rest)
}

/// Adds the fields that are not there.
pub(super) fn merge(fields: &mut Extra, more: &Extra) {
    more.iter().for_each(|(name, value)| merge_one(fields, name, value));
}

fn merge_one(fields: &mut Extra, name: &str, value: &RawJson) {
    if fields.get(name).is_none() {
        fields.insert(name, value.clone());
    }
}
