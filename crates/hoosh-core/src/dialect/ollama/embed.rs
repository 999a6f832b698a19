//! `POST /api/embed`.

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;

use super::error;
use crate::dialect::wire::{entry, reply_text, request_text, vector, write_json};
use crate::dialect::{DecodeError, EmbeddingCodec, Encoded};
use crate::embedding::{EmbeddingEncoding, EmbeddingInput, EmbeddingRequest, EmbeddingResponse};
use crate::error::InvalidRequest;
use crate::failure::FidelityNote;
use crate::json::{FieldError, Object};
use crate::usage::Usage;

pub(in crate::dialect) struct OllamaEmbed;

impl EmbeddingCodec for OllamaEmbed {
    fn decode_request(&self, body: &[u8]) -> Result<EmbeddingRequest, InvalidRequest> {
        let mut object = Object::parse("", request_text(body)?)?;
        let model = object.require("model")?;
        let raw = object.take_raw("input").ok_or_else(|| object.missing("input"))?;
        let texts: Vec<String> = match serde_json::from_str::<String>(raw.get()) {
            Ok(text) => vec![text],
            Err(_) => serde_json::from_str(raw.get())
                .map_err(|_| object.wrong("input", "expected a string or a list of strings"))?,
        };
        if texts.is_empty() {
            // Ollama itself answers that with no vector; to other vendors it is an error.
            return Err(object.wrong("input", "is empty; give at least one text").into());
        }
        let dimensions = object.take("dimensions")?;
        let input = texts.into_iter().map(EmbeddingInput::Text).collect();
        Ok(EmbeddingRequest { model, input, dimensions, user: None, extra: object.rest() })
    }

    fn encode_request(&self, request: &EmbeddingRequest, model: &str) -> Result<Encoded, FieldError> {
        let texts = request.input.iter().enumerate().map(|(index, input)| match input {
            EmbeddingInput::Text(text) => Ok(text.as_str()),
            EmbeddingInput::Tokens(_) => Err(FieldError {
                path: format!("input[{index}]"),
                problem: "the provider takes texts only, no token ids".to_owned(),
            }),
        });
        let texts: Vec<&str> = texts.collect::<Result<_, _>>()?;
        let notes = request.user.iter().map(|_| FidelityNote::new("user")).collect();
        let mut body = Vec::with_capacity(256);
        write_json(&RequestBody { request, model, texts }, &mut body);
        Ok(Encoded { body, notes, answer_tool: None })
    }

    fn decode_reply(&self, body: &[u8]) -> Result<EmbeddingResponse, DecodeError> {
        let mut object = Object::parse("", reply_text(body)?)?;
        error::refuse(object.take_raw("error"))?;
        let input = object.take("prompt_eval_count")?;
        let raws: Vec<&RawValue> = object.require("embeddings")?;
        let embeddings: Option<_> = raws.into_iter().map(vector).collect();
        Ok(EmbeddingResponse {
            model: object.take("model")?.unwrap_or_default(),
            embeddings: embeddings
                .ok_or_else(|| object.wrong("embeddings", "is no list of lists of numbers"))?,
            usage: input.map(|input| Usage { input: Some(input), ..Usage::default() }),
            extra: object.rest(),
            ..EmbeddingResponse::default()
        })
    }

    fn encode_reply(&self, reply: &EmbeddingResponse, _: EmbeddingEncoding) -> Vec<u8> {
        let mut out = Vec::with_capacity(1024);
        write_json(&ReplyBody(reply), &mut out);
        out
    }
}

struct RequestBody<'a> {
    request: &'a EmbeddingRequest,
    model: &'a str,
    texts: Vec<&'a str>,
}

impl Serialize for RequestBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("model", self.model)?;
        map.serialize_entry("input", &self.texts)?;
        entry(&mut map, "dimensions", &self.request.dimensions)?;
        self.request.extra.write_without(&["model", "input", "dimensions"], &mut map)?;
        map.end()
    }
}

struct ReplyBody<'a>(&'a EmbeddingResponse);

impl Serialize for ReplyBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("model", &self.0.model)?;
        map.serialize_entry("embeddings", &self.0.embeddings)?;
        entry(&mut map, "prompt_eval_count", &self.0.usage.map(|usage| usage.prompt_total()))?;
        self.0.extra.write_without(&["model", "embeddings", "prompt_eval_count"], &mut map)?;
        map.end()
    }
}
