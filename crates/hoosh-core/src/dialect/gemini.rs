//! Gemini's `generateContent` and `streamGenerateContent`. Source: ai.google.dev/api/generate-content, read 2026-11-24.
//!
//! The model and whether to stream are said in the URL, so a request read here has no model.

mod body;
mod calls;
mod config;
mod decode;
pub(super) mod embed;
mod encode;
pub(super) mod error;
mod fields;
mod grounding;
mod model;
mod part;
mod partial;
mod reply;
mod request;
mod results;
mod schema;
pub(super) mod tap;
mod thinking;
mod tools;
mod turns;
mod upstream;
mod usage;

use super::{Codec, DecodeError, DecodeStream, EncodeStream, Encoded, Quirks, ReplyContext, Target};
use crate::error::InvalidRequest;
use crate::request::InferenceRequest;
use crate::response::InferenceResponse;

pub(super) struct Gemini;

impl Codec for Gemini {
    fn decode_request(&self, body: &[u8]) -> Result<InferenceRequest, InvalidRequest> {
        request::decode(body)
    }

    fn encode_request(&self, request: &InferenceRequest, target: Target<'_>) -> Encoded {
        upstream::encode(request, target)
    }

    fn decode_reply(&self, body: &[u8]) -> Result<InferenceResponse, DecodeError> {
        reply::decode(body)
    }

    fn encode_reply(&self, reply: &InferenceResponse, context: &ReplyContext<'_>) -> Encoded {
        reply::encode(reply, context)
    }

    fn stream_decoder(&self, _: Quirks) -> Box<dyn DecodeStream> {
        Box::new(decode::Decoder::default())
    }

    fn stream_encoder(&self, context: &ReplyContext<'_>) -> Box<dyn EncodeStream> {
        Box::new(encode::Encoder::new(context))
    }
}
