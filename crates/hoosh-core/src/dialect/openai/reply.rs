//! What surrounds the choices of a whole answer, in chat and in legacy completions.

use super::tap::refuse_error;
use super::usage;
use crate::dialect::DecodeError;
use crate::json::{FieldError, Object};
use crate::response::{Choice, InferenceResponse};

/// Opens an answer of either of OpenAI's inference dialects, unless it is an error.
pub(in crate::dialect) fn open(body: &[u8]) -> Result<Object<'_>, DecodeError> {
    let text = std::str::from_utf8(body)
        .map_err(|_| FieldError { path: String::new(), problem: "it is not UTF-8".to_owned() })?;
    let mut object = Object::parse("", text)?;
    refuse_error(object.take_raw("error"))?;
    Ok(object)
}

/// What surrounds the choices of an answer in either of OpenAI's inference dialects.
pub(in crate::dialect) fn close(
    mut object: Object<'_>,
    choices: Vec<Choice>,
) -> Result<InferenceResponse, FieldError> {
    object.take_raw("object");
    Ok(InferenceResponse {
        id: object.take("id")?.unwrap_or_default(),
        model: object.take("model")?.unwrap_or_default(),
        created: object.take_raw("created").and_then(|raw| raw.get().parse().ok()),
        usage: object.take_raw("usage").and_then(|raw| usage::decode(raw.get())),
        extra: object.rest(),
        ..InferenceResponse::from_choices(choices)
    })
}
