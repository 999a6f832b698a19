//! The gateway's list of models. It is OpenAI's, and under `hoosh` has what the gateway knows beyond that.

use hoosh_core::dialect::DecodeError;
use hoosh_core::{ModelInfo, limits};
use serde_json::Value;

use crate::answer::{field, json};

/// Reads a list of models.
///
/// # Errors
///
/// If it is none, or if a model has no name.
pub(crate) fn decode_list(body: &[u8]) -> Result<Vec<ModelInfo>, DecodeError> {
    let json = json(body)?;
    let list = json["data"].as_array().ok_or_else(|| field("data", "is missing or not a list"))?;
    if list.len() > MODELS_MAX {
        return Err(field("data", &format!("has more than {MODELS_MAX} models")));
    }
    let models = list.iter().enumerate();
    models.map(|(index, json)| model(json).ok_or_else(|| nameless(&format!("data[{index}].id")))).collect()
}

/// Reads one model.
///
/// # Errors
///
/// If it has no name.
pub(crate) fn decode(body: &[u8]) -> Result<ModelInfo, DecodeError> {
    model(&json(body)?).ok_or_else(|| nameless("id"))
}

/// Most models taken from a gateway: what one provider may list, for as many providers as one call may try.
const MODELS_MAX: usize = limits::MODELS_PER_PROVIDER_MAX * limits::ATTEMPTS_MAX;

fn nameless(path: &str) -> DecodeError {
    field(path, "is missing or not a string")
}

/// A model. Beyond its name nothing is demanded: what is not there, or is of another type, is unknown.
fn model(json: &Value) -> Option<ModelInfo> {
    let word = |value: &Value| value.as_str().map(str::to_owned);
    let words = |value: &Value| {
        let words = value.as_array().into_iter().flatten().filter_map(Value::as_str);
        words.filter_map(|word| word.parse().ok()).collect()
    };
    let hoosh = &json["hoosh"];
    let owned_by = word(&json["owned_by"]);
    Some(ModelInfo {
        context_window: hoosh["context_window"].as_u64(),
        input_max: hoosh["input_max"].as_u64(),
        output_max: hoosh["output_max"].as_u64(),
        input: words(&hoosh["input"]),
        output: words(&hoosh["output"]),
        tools: hoosh["tools"].as_bool(),
        reasoning: hoosh["reasoning"].as_bool(),
        structured_output: hoosh["structured_output"].as_bool(),
        temperature: hoosh["temperature"].as_bool(),
        deprecated: hoosh["deprecated"].as_bool().unwrap_or(false),
        created: json["created"].as_u64(),
        provider: word(&hoosh["provider"]).or_else(|| owned_by.clone()).unwrap_or_default(),
        owned_by,
        ..ModelInfo::named("", json["id"].as_str()?)
    })
}
