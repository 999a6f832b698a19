//! Anthropic's messages. Source: docs.anthropic.com/en/api/messages and /en/docs/build-with-claude/streaming, read
//! 2026-11-24.
//!
//! Signatures of other makers travel through clients of this dialect: that of reasoning as the block's own `signature`,
//! that of any other piece in a `redacted_thinking` block behind it, which clients send back as they got it.

mod blocks;
mod decode;
mod encode;
pub(super) mod error;
mod model;
mod reply;
mod request;
pub(super) mod tap;
mod usage;

use super::{Codec, DecodeError, DecodeStream, EncodeStream, Encoded, Quirks, ReplyContext, Target};
use crate::error::InvalidRequest;
use crate::request::InferenceRequest;
use crate::response::InferenceResponse;

pub(super) struct Anthropic;

/// Whether a model of this name goes on with a last message that is the assistant's.
pub(super) fn takes_prefill(model: &str) -> bool {
    model::Version::of(model).takes_prefill()
}

impl Codec for Anthropic {
    fn decode_request(&self, body: &[u8]) -> Result<InferenceRequest, InvalidRequest> {
        request::decode::decode(body)
    }

    fn encode_request(&self, request: &InferenceRequest, target: Target<'_>) -> Encoded {
        request::encode::encode(request, target)
    }

    fn decode_reply(&self, body: &[u8]) -> Result<InferenceResponse, DecodeError> {
        reply::decode(body)
    }

    fn encode_reply(&self, reply: &InferenceResponse, context: &ReplyContext<'_>) -> Encoded {
        reply::encode(&super::wire::own_reply(reply, super::Dialect::Anthropic), context)
    }

    fn stream_decoder(&self, _: Quirks) -> Box<dyn DecodeStream> {
        Box::new(decode::Decoder::default())
    }

    fn stream_encoder(&self, context: &ReplyContext<'_>) -> Box<dyn EncodeStream> {
        Box::new(encode::Encoder::new(context))
    }
}
