//! What surrounds the choices of a whole answer, in chat and in legacy completions.

use std::borrow::Cow;

use serde::ser::SerializeMap;

use super::tap::refuse_error;
use super::usage;
use crate::dialect::wire::reply_text;
use crate::dialect::{DecodeError, Dialect, ReplyContext};
use crate::json::{FieldError, Object};
use crate::response::{Choice, InferenceResponse};

/// Opens an answer of either of OpenAI's inference dialects, unless it is an error.
pub(in crate::dialect) fn open(body: &[u8]) -> Result<Object<'_>, DecodeError> {
    let mut object = Object::parse("", reply_text(body)?)?;
    refuse_error(object.take_raw("error"))?;
    Ok(object)
}

/// What surrounds the choices of an answer in `dialect`, one of the two.
pub(in crate::dialect) fn close(
    mut object: Object<'_>,
    dialect: Dialect,
    choices: Vec<Choice>,
) -> Result<InferenceResponse, FieldError> {
    object.take_raw("object");
    Ok(InferenceResponse {
        id: object.take("id")?.unwrap_or_default(),
        model: object.take("model")?.unwrap_or_default(),
        created: object.take_raw("created").and_then(|raw| raw.get().parse().ok()),
        usage: usage::of_answer(object.take_raw("usage"), object.peek("service_tier")),
        extra: object.rest(),
        origin: Some(dialect),
        ..InferenceResponse::from_choices(choices)
    })
}

/// Writes what stands before the choices; an answer without a name gets the call's behind `prefix`.
pub(in crate::dialect) fn write_envelope<M: SerializeMap>(
    reply: &InferenceResponse,
    context: &ReplyContext<'_>,
    prefix: &str,
    object: &str,
    map: &mut M,
) -> Result<(), M::Error> {
    map.serialize_entry("id", &*named(&reply.id, context, prefix))?;
    map.serialize_entry("object", object)?;
    map.serialize_entry("created", &reply.created.unwrap_or(context.now))?;
    map.serialize_entry("model", &reply.model)
}

/// An answer's name, or one made from the call's.
pub(in crate::dialect) fn named<'a>(id: &'a str, context: &ReplyContext<'_>, prefix: &str) -> Cow<'a, str> {
    if id.is_empty() { Cow::Owned(format!("{prefix}{}", context.id)) } else { Cow::Borrowed(id) }
}

/// Writes the unknown fields of an answer that came in one of OpenAI's two dialects.
pub(in crate::dialect) fn write_extra<M: SerializeMap>(
    reply: &InferenceResponse,
    map: &mut M,
) -> Result<(), M::Error> {
    if is_akin(reply.origin) { reply.extra.write(map) } else { Ok(()) }
}

/// Whether unknown fields from there have the same meaning here.
pub(in crate::dialect) fn is_akin(origin: Option<Dialect>) -> bool {
    origin.is_none_or(|origin| origin.is_akin(Dialect::OpenAiChat))
}
