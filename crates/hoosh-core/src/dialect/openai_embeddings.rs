//! OpenAI's embeddings. Source: platform.openai.com/docs/api-reference/embeddings, read 2026-11-24.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::openai::tap::{read, refuse_error};
use super::openai::usage::{self, UsageBody};
use super::wire::{List, request_text, vector, write_json};
use super::{DecodeError, EmbeddingCodec, Encoded, Seen, Tap};
use crate::embedding::{EmbeddingEncoding, EmbeddingInput, EmbeddingRequest, EmbeddingResponse};
use crate::error::InvalidRequest;
use crate::json::{FieldError, Object};
use crate::usage::Usage;

pub(super) struct OpenAiEmbeddings;

impl EmbeddingCodec for OpenAiEmbeddings {
    fn decode_request(&self, body: &[u8]) -> Result<EmbeddingRequest, InvalidRequest> {
        decode_request(body)
    }

    fn encode_request(&self, request: &EmbeddingRequest, model: &str) -> Result<Encoded, FieldError> {
        Ok(Encoded { body: encode_request(request, model), notes: Vec::new(), answer_tool: None })
    }

    fn decode_reply(&self, body: &[u8]) -> Result<EmbeddingResponse, DecodeError> {
        decode_reply(body)
    }

    fn encode_reply(&self, reply: &EmbeddingResponse, encoding: EmbeddingEncoding) -> Vec<u8> {
        encode_reply(reply, encoding)
    }
}

/// Reads a client's request.
///
/// # Errors
///
/// Names the field and what is wrong with it.
pub fn decode_request(body: &[u8]) -> Result<EmbeddingRequest, InvalidRequest> {
    let mut object = Object::parse("", request_text(body)?)?;
    let model = object.require("model")?;
    let raw = object.take_raw("input").ok_or_else(|| object.missing("input"))?;
    let input = inputs(raw).ok_or_else(|| {
        object.wrong(
            "input",
            "expected a string, a list of strings, a list of token ids, or a list of such lists",
        )
    })?;
    if input.is_empty() {
        return Err(object.wrong("input", "is empty; give at least one text").into());
    }
    // In which form vectors are wanted belongs to the answer.
    object.take_raw("encoding_format");
    Ok(EmbeddingRequest {
        model,
        input,
        dimensions: object.take("dimensions")?,
        user: object.take("user")?,
        extra: object.rest(),
    })
}

fn inputs(raw: &RawValue) -> Option<Vec<EmbeddingInput>> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Input {
        Text(String),
        Texts(Vec<String>),
        Tokens(Vec<u32>),
        ManyTokens(Vec<Vec<u32>>),
    }
    Some(match serde_json::from_str(raw.get()).ok()? {
        Input::Text(text) => vec![EmbeddingInput::Text(text)],
        Input::Texts(texts) => texts.into_iter().map(EmbeddingInput::Text).collect(),
        Input::Tokens(tokens) => vec![EmbeddingInput::Tokens(tokens)],
        Input::ManyTokens(many) => many.into_iter().map(EmbeddingInput::Tokens).collect(),
    })
}

/// Writes a request for a provider, always for plain numbers: not every server knows the other form.
pub fn encode_request(request: &EmbeddingRequest, model: &str) -> Vec<u8> {
    struct Body<'a>(&'a EmbeddingRequest, &'a str);
    impl Serialize for Body<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let request = self.0;
            let mut map = serializer.serialize_map(None)?;
            map.serialize_entry("model", self.1)?;
            map.serialize_entry("input", &List(request.input.iter().map(InputBody)))?;
            if let Some(dimensions) = request.dimensions {
                map.serialize_entry("dimensions", &dimensions)?;
            }
            if let Some(user) = &request.user {
                map.serialize_entry("user", user)?;
            }
            let known = ["model", "input", "dimensions", "user", "encoding_format"];
            request.extra.write_without(&known, &mut map)?;
            map.end()
        }
    }
    let mut out = Vec::with_capacity(256);
    write_json(&Body(request, model), &mut out);
    out
}

#[derive(Clone)]
struct InputBody<'a>(&'a EmbeddingInput);

impl Serialize for InputBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            EmbeddingInput::Text(text) => serializer.serialize_str(text),
            EmbeddingInput::Tokens(tokens) => serializer.collect_seq(tokens),
        }
    }
}

/// Reads a provider's answer, in whichever form its vectors are.
///
/// # Errors
///
/// If it is not one, or if it is an error under a status that says success.
pub fn decode_reply(body: &[u8]) -> Result<EmbeddingResponse, DecodeError> {
    let text = std::str::from_utf8(body)
        .map_err(|_| FieldError { path: String::new(), problem: "it is not UTF-8".to_owned() })?;
    let mut object = Object::parse("", text)?;
    refuse_error(object.take_raw("error"))?;
    let mut numbered = Vec::new();
    for (place, mut item) in object.take_objects("data")?.into_iter().enumerate() {
        let raw = item.take_raw("embedding").ok_or_else(|| item.missing("embedding"))?;
        let vector = numbers_or_base64(raw)
            .ok_or_else(|| item.wrong("embedding", "is neither numbers nor base64 of them"))?;
        numbered.push((item.take::<usize>("index")?.unwrap_or(place), vector));
    }
    if numbered.is_empty() {
        return Err(object.missing("data").into());
    }
    numbered.sort_by_key(|(index, _)| *index);
    object.take_raw("object");
    Ok(EmbeddingResponse {
        model: object.take("model")?.unwrap_or_default(),
        embeddings: numbered.into_iter().map(|(_, vector)| vector).collect(),
        usage: object.take_raw("usage").and_then(|raw| usage::decode(raw.get())),
        extra: object.rest(),
        ..EmbeddingResponse::default()
    })
}

fn numbers_or_base64(raw: &RawValue) -> Option<Vec<f32>> {
    if raw.get().starts_with('[') {
        return vector(raw);
    }
    let text: String = serde_json::from_str(raw.get()).ok()?;
    let (numbers, rest): (Vec<f32>, _) = STANDARD.decode(text).ok().map(|bytes| {
        let (numbers, rest) = bytes.as_chunks::<4>();
        (numbers.iter().map(|four| f32::from_le_bytes(*four)).collect(), rest.len())
    })?;
    (rest == 0 && numbers.iter().all(|number| number.is_finite())).then_some(numbers)
}

/// Writes an answer for a client.
pub fn encode_reply(reply: &EmbeddingResponse, encoding: EmbeddingEncoding) -> Vec<u8> {
    struct Body<'a>(&'a EmbeddingResponse, EmbeddingEncoding);
    impl Serialize for Body<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let reply = self.0;
            let items = reply.embeddings.iter().enumerate();
            let items = items.map(|(index, vector)| Item { index, vector, encoding: self.1 });
            let mut map = serializer.serialize_map(None)?;
            map.serialize_entry("object", "list")?;
            map.serialize_entry("data", &List(items))?;
            map.serialize_entry("model", &reply.model)?;
            if let Some(usage) = reply.usage {
                map.serialize_entry("usage", &UsageBody(usage))?;
            }
            reply.extra.write_without(&["object", "data", "model", "usage"], &mut map)?;
            map.end()
        }
    }
    let mut out = Vec::with_capacity(1024);
    write_json(&Body(reply, encoding), &mut out);
    out
}

#[derive(Clone)]
struct Item<'a> {
    index: usize,
    vector: &'a [f32],
    encoding: EmbeddingEncoding,
}

impl Serialize for Item<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("object", "embedding")?;
        map.serialize_entry("index", &self.index)?;
        match self.encoding {
            EmbeddingEncoding::Float => map.serialize_entry("embedding", self.vector)?,
            EmbeddingEncoding::Base64 => {
                let bytes: Vec<u8> = self.vector.iter().flat_map(|number| number.to_le_bytes()).collect();
                map.serialize_entry("embedding", &STANDARD.encode(bytes))?;
            }
        }
        map.end()
    }
}

/// Watches an answer that is passed through.
#[derive(Default)]
pub(super) struct EmbeddingsTap {
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Peek<'a> {
    #[serde(borrow, default)]
    data: Option<Vec<PeekItem<'a>>>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct PeekItem<'a> {
    #[serde(borrow)]
    embedding: &'a RawValue,
}

impl Tap for EmbeddingsTap {
    fn event(&mut self, _: &[u8]) -> Result<Seen, DecodeError> {
        let problem = "embeddings are not streamed".to_owned();
        Err(FieldError { path: String::new(), problem }.into())
    }

    fn whole(&mut self, body: &[u8]) -> Result<(), DecodeError> {
        let peek: Peek<'_> = read(body)?;
        refuse_error(peek.error)?;
        if peek.data.is_none() {
            return Err(FieldError { path: "data".to_owned(), problem: "is missing".to_owned() }.into());
        }
        self.usage = peek.usage.and_then(|raw| usage::decode(raw.get()));
        Ok(())
    }

    fn is_complete(&self) -> bool {
        true
    }

    fn is_done(&self) -> bool {
        true
    }

    fn usage(&self) -> Option<Usage> {
        self.usage
    }
}

/// Whether the vectors of an answer are base64; `None` if there are none to see.
///
/// Some servers (Ollama, older llama.cpp) send numbers whatever was asked for.
pub fn is_base64(body: &[u8]) -> Option<bool> {
    let peek: Peek<'_> = serde_json::from_slice(body).ok()?;
    peek.data?.first().map(|item| item.embedding.get().starts_with('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_of_input_are_read() {
        let input = |json: &str| {
            decode_request(format!(r#"{{"model":"m","input":{json}}}"#).as_bytes())
                .map(|request| request.input)
        };
        assert_eq!(input(r#""a""#), Ok(vec!["a".into()]));
        assert_eq!(input(r#"["a","b"]"#), Ok(vec!["a".into(), "b".into()]));
        assert_eq!(input("[1,2]"), Ok(vec![EmbeddingInput::Tokens(vec![1, 2])]));
        assert_eq!(input("[[1],[2]]").unwrap().len(), 2);
        assert!(input("{}").unwrap_err().to_string().starts_with("`input`: expected a string"));
        assert_eq!(input("null").unwrap_err().to_string(), "`input`: is missing");
    }

    #[test]
    fn a_request_survives_a_round_trip() {
        let body = r#"{"model":"m","input":["a","b"],"dimensions":8,"user":"u","input_type":"query"}"#;
        let request = decode_request(body.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(encode_request(&request, "m")).unwrap(), body);
    }

    #[test]
    fn both_forms_of_vectors_hold_the_same_numbers() {
        let reply = EmbeddingResponse {
            model: "m".into(),
            embeddings: vec![vec![0.1, -2.5, f32::MIN_POSITIVE], vec![1.0]],
            usage: Some(Usage { input: Some(4), ..Usage::default() }),
            ..Default::default()
        };
        for (encoding, base64) in [(EmbeddingEncoding::Float, false), (EmbeddingEncoding::Base64, true)] {
            let body = encode_reply(&reply, encoding);
            assert_eq!(is_base64(&body), Some(base64));
            let back = decode_reply(&body).unwrap();
            assert_eq!(back.embeddings, reply.embeddings);
            assert_eq!(back.usage.unwrap().input, Some(4));
        }
    }

    #[test]
    fn vectors_come_in_the_order_of_their_index() {
        let reply =
            decode_reply(br#"{"data":[{"index":1,"embedding":[2]},{"index":0,"embedding":[1]}]}"#).unwrap();
        assert_eq!(reply.embeddings, [[1.0], [2.0]]);
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for body in ["", "{}", r#"{"data":[]}"#, r#"{"data":[{}]}"#, r#"{"data":[{"embedding":"AA"}]}"#] {
            assert!(decode_reply(body.as_bytes()).is_err(), "{body}");
        }
        assert!(EmbeddingsTap::default().whole(b"{}").is_err());
    }
}
