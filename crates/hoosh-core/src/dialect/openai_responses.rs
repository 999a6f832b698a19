//! OpenAI's Responses. Source: platform.openai.com/docs/api-reference/responses, read 2026-11-24.
//!
//! An answer is a list of items. Signatures of other makers travel through it in `reasoning` items: one with a bare
//! `encrypted_content` is the reasoning itself, `hoosh-last:` before it signs the item in front of it (Gemini signs calls
//! and text), `hoosh-redacted:` stands for reasoning that its maker hides.
//!
//! Names of items that we made up hold `_hoosh_`: they are not told to a provider, which would look for them.

mod decode;
mod encode;
mod items;
mod reply;
mod request;
pub(super) mod tap;
mod usage;

use std::collections::HashMap;

use serde_json::Value;

use super::{Codec, DecodeError, DecodeStream, Dialect, EncodeStream, Encoded, Quirks, ReplyContext, Target};
use crate::error::InvalidRequest;
use crate::limits;
use crate::request::{InferenceRequest, Part, PartKind};
use crate::response::InferenceResponse;

const DIALECT: Dialect = Dialect::OpenAiResponses;

pub(super) struct OpenAiResponses;

impl Codec for OpenAiResponses {
    fn decode_request(&self, body: &[u8]) -> Result<InferenceRequest, InvalidRequest> {
        request::decode(body)
    }

    fn encode_request(&self, request: &InferenceRequest, target: Target<'_>) -> Encoded {
        request::encode(request, target)
    }

    fn decode_reply(&self, body: &[u8]) -> Result<InferenceResponse, DecodeError> {
        reply::decode(body)
    }

    fn encode_reply(&self, reply: &InferenceResponse, context: &ReplyContext<'_>) -> Encoded {
        reply::encode(&super::wire::own_reply(reply, super::Dialect::OpenAiResponses), context)
    }

    fn stream_decoder(&self, _: Quirks) -> Box<dyn DecodeStream> {
        Box::new(decode::Decoder::default())
    }

    fn stream_encoder(&self, context: &ReplyContext<'_>) -> Box<dyn EncodeStream> {
        Box::new(encode::Encoder::new(context))
    }
}

/// The answer that a request goes on from, by its id. Only requests of this dialect have one.
pub fn previous_id(request: &InferenceRequest) -> Option<String> {
    if request.origin != Some(DIALECT) {
        return None;
    }
    serde_json::from_str(request.extra.get(PREVIOUS)?.get()).ok()
}

/// The same, taken out, so that no writer of requests sees it: whoever calls this puts the turns themselves in.
pub fn take_previous_id(request: &mut InferenceRequest) -> Option<String> {
    let id = previous_id(request)?;
    request.extra.retain(|name, _| name != PREVIOUS);
    Some(id)
}

/// Puts items in the place of references to them, where hoosh named them. `find` gives the pieces of an answer by the
/// name its writer was given ([`ReplyContext::id`]). References to items of OpenAI's own naming stay, for OpenAI.
///
/// # Errors
///
/// If an item is not found.
pub fn resolve_references(
    request: &mut InferenceRequest,
    find: impl Fn(&str) -> Option<Vec<Part>>,
) -> Result<(), InvalidRequest> {
    let freeform: Vec<String> =
        request.tools.iter().filter(|tool| tool.freeform).map(|tool| tool.name.clone()).collect();
    let mut answers: HashMap<String, Vec<Value>> = HashMap::new();
    let mut bytes = 0;
    for (index, message) in request.messages.iter_mut().enumerate() {
        if !message.parts.iter().any(|part| reference(part).is_some()) {
            continue;
        }
        let refuse = |problem| InvalidRequest::new(format!("input[{index}]"), problem);
        let mut parts = Vec::with_capacity(message.parts.len());
        for part in std::mem::take(&mut message.parts) {
            let Some(id) = reference(&part) else {
                parts.push(part);
                continue;
            };
            let item = items::place_of(&id).and_then(|(call, place)| {
                if !answers.contains_key(call) {
                    answers.insert(call.to_owned(), items::of_answer(&find(call)?, call, &freeform));
                }
                answers[call].get(place).filter(|item| item["id"] == id)
            });
            let not_found =
                || format!("Item with id '{id}' not found: it is kept here no more, or never was");
            let item = item.map(Value::to_string).ok_or_else(|| refuse(not_found()))?;
            bytes += item.len();
            if bytes > limits::REQUEST_BODY_BYTES_MAX {
                return Err(refuse(format!(
                    "refers to more than {} MiB",
                    limits::REQUEST_BODY_BYTES_MAX >> 20
                )));
            }
            items::append(&item, &mut parts).ok_or_else(|| refuse(not_found()))?;
        }
        message.parts = parts;
    }
    Ok(())
}

/// The name of an item of ours, if the piece only refers to one.
fn reference(part: &Part) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Reference {
        id: String,
    }
    match &part.kind {
        PartKind::Other { maker: DIALECT, kind, json } if kind == "item_reference" => {
            let Reference { id } = serde_json::from_str(json.get()).ok()?;
            items::place_of(&id).is_some().then_some(id)
        }
        _ => None,
    }
}

const PREVIOUS: &str = "previous_response_id";

/// Whether unknown fields from there have the same meaning here.
fn is_akin(origin: Option<Dialect>) -> bool {
    origin.is_none_or(|origin| origin.is_akin(DIALECT))
}
