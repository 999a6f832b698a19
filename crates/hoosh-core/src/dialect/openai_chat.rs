//! OpenAI's chat completions. Source: platform.openai.com/docs/api-reference/chat, read 2026-11-24.

mod decode;
mod encode;
mod reply;
mod request;

use super::{Codec, DecodeError, DecodeStream, EncodeStream, Encoded, Quirks, Target};
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

    fn encode_reply(&self, reply: &InferenceResponse) -> Vec<u8> {
        reply::encode(reply)
    }

    fn stream_decoder(&self, quirks: Quirks) -> Box<dyn DecodeStream> {
        Box::new(decode::Decoder::new(quirks))
    }

    fn stream_encoder(&self, include_usage: bool) -> Box<dyn EncodeStream> {
        Box::new(encode::Encoder::new(include_usage))
    }
}
