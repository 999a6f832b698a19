//! OpenAI's chat completions. Source: platform.openai.com/docs/api-reference/chat, read 2026-11-24.

mod calls;
mod citations;
mod content;
mod decode;
mod delta;
mod encode;
pub(super) mod freeform;
mod message;
mod reasoning;
mod reply;
mod request;
mod tools;

use super::{Codec, DecodeError, DecodeStream, EncodeStream, Encoded, Quirks, ReplyContext, Target};
use crate::error::InvalidRequest;
use crate::request::InferenceRequest;
use crate::response::InferenceResponse;

pub(super) struct OpenAiChat;

impl Codec for OpenAiChat {
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
        reply::encode(&super::wire::own_reply(reply, super::Dialect::OpenAiChat), context)
    }

    fn stream_decoder(&self, quirks: Quirks) -> Box<dyn DecodeStream> {
        Box::new(decode::Decoder::new(quirks))
    }

    fn stream_encoder(&self, context: &ReplyContext<'_>) -> Box<dyn EncodeStream> {
        Box::new(encode::Encoder::new(context))
    }
}

#[cfg(test)]
mod tests;
