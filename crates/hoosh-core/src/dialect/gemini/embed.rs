//! Gemini's `embedContent` and `batchEmbedContents`. Source: ai.google.dev/api/embeddings, read 2026-11-24.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::error;
use super::fields::{take, take_list, take_object, take_raw};
use super::usage::{self, UsageBody};
use crate::dialect::wire::{List, entry, note, reply_text, request_text, vector, write_json};
use crate::dialect::{DecodeError, EmbeddingCodec, Encoded};
use crate::embedding::{EmbeddingEncoding, EmbeddingInput, EmbeddingRequest, EmbeddingResponse};
use crate::error::InvalidRequest;
use crate::failure::FidelityNote;
use crate::json::{Extra, FieldError, Object};

pub(in crate::dialect) struct GeminiEmbed {
    /// Whether several texts go into one request.
    batch: bool,
}

pub(in crate::dialect) static SINGLE: GeminiEmbed = GeminiEmbed { batch: false };
pub(in crate::dialect) static BATCH: GeminiEmbed = GeminiEmbed { batch: true };

impl EmbeddingCodec for GeminiEmbed {
    fn decode_request(&self, body: &[u8]) -> Result<EmbeddingRequest, InvalidRequest> {
        let mut object = Object::parse("", request_text(body)?)?;
        if self.batch {
            decode_batch(object)
        } else {
            decode_one(&mut object).map(|one| one.into_request(object))
        }
    }

    fn encode_request(&self, request: &EmbeddingRequest, model: &str) -> Result<Encoded, FieldError> {
        encode_request(self.batch, request, model)
    }

    fn decode_reply(&self, body: &[u8]) -> Result<EmbeddingResponse, DecodeError> {
        decode_reply(body)
    }

    fn encode_reply(&self, reply: &EmbeddingResponse, _: EmbeddingEncoding) -> Vec<u8> {
        let mut out = Vec::with_capacity(1024);
        write_json(&ReplyBody { batch: self.batch, reply }, &mut out);
        out
    }
}

/// Fields of a request that Google knows beside the text; those of other vendors would be an error.
const KNOWN: &[&str] = &[
    "taskType",
    "task_type",
    "title",
    "embedContentConfig",
    "embed_content_config",
    "autoTruncate",
    "auto_truncate",
];

// --- requests ---

/// One text to embed.
struct One {
    text: String,
    dimensions: Option<u32>,
}

impl One {
    fn into_request(self, rest: Object<'_>) -> EmbeddingRequest {
        EmbeddingRequest {
            input: vec![EmbeddingInput::Text(self.text)],
            dimensions: self.dimensions,
            extra: rest.rest(),
            ..EmbeddingRequest::default()
        }
    }
}

/// Takes the text and what we know beside it; what it leaves are the fields that we do not know.
fn decode_one(object: &mut Object<'_>) -> Result<One, InvalidRequest> {
    // It is in the URL as well.
    object.take_raw("model");
    let mut content = take_object(object, "content")?.ok_or_else(|| object.missing("content"))?;
    let mut text = String::new();
    let parts = take_list(&mut content, "parts")?;
    if parts.is_empty() {
        return Err(content.missing("parts").into());
    }
    for (path, raw) in parts {
        let mut part = Object::parse(path, raw.get())?;
        let piece: Option<String> = part.take("text")?;
        let piece = piece.ok_or_else(|| part.wrong("text", "is missing: only texts can be embedded"))?;
        text.push_str(&piece);
    }
    Ok(One { text, dimensions: take(object, "outputDimensionality")? })
}

/// A batch whose texts are all to be embedded in the same way: there is no other word for it.
fn decode_batch(mut object: Object<'_>) -> Result<EmbeddingRequest, InvalidRequest> {
    let mut request: Option<EmbeddingRequest> = None;
    for (path, raw) in take_list(&mut object, "requests")? {
        let mut item = Object::parse(path.as_str(), raw.get())?;
        let one = decode_one(&mut item)?.into_request(item);
        match &mut request {
            None => request = Some(one),
            Some(all) if all.dimensions == one.dimensions && all.extra == one.extra => {
                all.input.extend(one.input);
            }
            Some(_) => {
                let problem = "differs from the first in more than its text, which only Gemini itself can do";
                return Err(InvalidRequest::new(path, problem));
            }
        }
    }
    let request = request.ok_or_else(|| object.missing("requests"))?;
    Ok(request)
}

fn encode_request(batch: bool, request: &EmbeddingRequest, model: &str) -> Result<Encoded, FieldError> {
    let mut texts = Vec::with_capacity(request.input.len());
    for (index, input) in request.input.iter().enumerate() {
        match input {
            EmbeddingInput::Text(text) => texts.push(text.as_str()),
            EmbeddingInput::Tokens(_) => {
                let problem = "is a list of token ids, which Gemini does not take".to_owned();
                return Err(FieldError { path: format!("input[{index}]"), problem });
            }
        }
    }
    let mut notes = Vec::new();
    if request.user.is_some() {
        note(&mut notes, FidelityNote::new("user"));
    }
    for (name, _) in request.extra.iter().filter(|(name, _)| !KNOWN.contains(name)) {
        note(&mut notes, FidelityNote::new(name));
    }
    // A model of one's own has its folder in its name.
    let model = if model.contains('/') { model.to_owned() } else { format!("models/{model}") };
    let item = |text| RequestItem { text, model: &model, request };
    let mut body = Vec::with_capacity(256);
    match (batch, texts.as_slice()) {
        (true, texts) => {
            #[derive(Serialize)]
            struct Batch<T> {
                requests: T,
            }
            write_json(&Batch { requests: List(texts.iter().map(|text| item(text))) }, &mut body);
        }
        (false, [text]) => write_json(&item(text), &mut body),
        (false, _) => {
            let problem = "must be one text".to_owned();
            return Err(FieldError { path: "input".to_owned(), problem });
        }
    }
    Ok(Encoded { body, notes, answer_tool: None })
}

struct RequestItem<'a> {
    text: &'a str,
    model: &'a str,
    request: &'a EmbeddingRequest,
}

impl Serialize for RequestItem<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Content<'a> {
            parts: [Text<'a>; 1],
        }
        #[derive(Serialize)]
        struct Text<'a> {
            text: &'a str,
        }
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("model", self.model)?;
        map.serialize_entry("content", &Content { parts: [Text { text: self.text }] })?;
        entry(&mut map, "outputDimensionality", &self.request.dimensions)?;
        for (name, value) in self.request.extra.iter().filter(|(name, _)| KNOWN.contains(name)) {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

// --- answers ---

fn decode_reply(body: &[u8]) -> Result<EmbeddingResponse, DecodeError> {
    let mut object = Object::parse("", reply_text(body)?)?;
    if let Some(raw) = object.take_raw("error") {
        return Err(error::reported(raw));
    }
    let mut embeddings = Vec::new();
    let items = [take_list(&mut object, "embedding")?, take_list(&mut object, "embeddings")?];
    for (path, raw) in items.into_iter().flatten() {
        let mut item = Object::parse(path, raw.get())?;
        let values = take_raw(&mut item, "values").ok_or_else(|| item.missing("values"))?;
        embeddings.push(vector(values).ok_or_else(|| item.wrong("values", "is no list of numbers"))?);
    }
    if embeddings.is_empty() {
        return Err(object.missing("embedding").into());
    }
    let usage = object.take_raw("usageMetadata").and_then(|raw| usage::decode(raw.get()));
    Ok(EmbeddingResponse { embeddings, usage, extra: object.rest(), ..Default::default() })
}

struct ReplyBody<'a> {
    batch: bool,
    reply: &'a EmbeddingResponse,
}

#[derive(Serialize)]
struct Values<'a> {
    values: &'a [f32],
}

impl Serialize for ReplyBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut vectors = self.reply.embeddings.iter().map(|values| Values { values });
        let mut map = serializer.serialize_map(None)?;
        if self.batch {
            map.serialize_entry("embeddings", &List(vectors))?;
        } else {
            map.serialize_entry("embedding", &vectors.next().unwrap_or(Values { values: &[] }))?;
        }
        if let Some(usage) = self.reply.usage {
            map.serialize_entry("usageMetadata", &UsageBody(usage, None::<&Extra>))?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::Usage;

    #[test]
    fn requests_survive_a_round_trip() {
        let single = r#"{"model":"models/m","content":{"parts":[{"text":"a"}]},"outputDimensionality":8,"taskType":"RETRIEVAL_DOCUMENT","title":"t"}"#;
        let request = SINGLE.decode_request(single.as_bytes()).unwrap();
        assert_eq!((request.model.as_str(), request.input.as_slice()), ("", &["a".into()][..]));
        assert_eq!(SINGLE.encode_request(&request, "m").unwrap().body, single.as_bytes());

        let batch = format!(r#"{{"requests":[{single},{}]}}"#, single.replace(r#""a""#, r#""b""#));
        let request = BATCH.decode_request(batch.as_bytes()).unwrap();
        assert_eq!(request.input, ["a".into(), "b".into()]);
        let encoded = BATCH.encode_request(&request, "m").unwrap();
        assert_eq!((String::from_utf8(encoded.body).unwrap(), encoded.notes), (batch, vec![]));
    }

    #[track_caller]
    fn check_error(codec: &GeminiEmbed, body: &str, expected: &str) {
        assert_eq!(codec.decode_request(body.as_bytes()).unwrap_err().to_string(), expected);
    }

    #[test]
    fn wrong_requests_are_named() {
        check_error(&SINGLE, "{}", "`content`: is missing");
        check_error(&SINGLE, r#"{"content":{}}"#, "`content.parts`: is missing");
        check_error(&BATCH, "{}", "`requests`: is missing");
        check_error(
            &SINGLE,
            r#"{"content":{"parts":[{"inlineData":{}}]}}"#,
            "`content.parts[0].text`: is missing: only texts can be embedded",
        );
        check_error(
            &BATCH,
            r#"{"requests":[{"content":{"parts":[{"text":"a"}]}},{"content":{"parts":[{"text":"b"}]},"title":"t"}]}"#,
            "`requests[1]`: differs from the first in more than its text, which only Gemini itself can do",
        );
    }

    #[test]
    fn what_cannot_be_said_is_told() {
        let mut request = EmbeddingRequest {
            input: vec!["a".into(), EmbeddingInput::Tokens(vec![1])],
            user: Some("u".into()),
            ..EmbeddingRequest::default()
        };
        let error = BATCH.encode_request(&request, "m").unwrap_err();
        assert_eq!(error.path, "input[1]");
        request.input.truncate(1);
        request.extra.insert("input_type", crate::json::RawJson::parse("\"query\"").unwrap());
        let notes = BATCH.encode_request(&request, "m").unwrap().notes;
        assert_eq!(notes, [FidelityNote::new("user"), FidelityNote::new("input_type")]);
        request.input.push("b".into());
        assert_eq!(SINGLE.encode_request(&request, "m").unwrap_err().path, "input");
    }

    #[test]
    fn vectors_are_exact_both_ways() {
        let reply = EmbeddingResponse {
            embeddings: vec![vec![0.1, -2.5e-8, f32::MIN_POSITIVE, f32::MAX, 16_777_217.0, 1.0e-45]],
            usage: Some(Usage { input: Some(4), ..Usage::default() }),
            ..EmbeddingResponse::default()
        };
        for codec in [&SINGLE, &BATCH] {
            let back = codec.decode_reply(&codec.encode_reply(&reply, EmbeddingEncoding::Float)).unwrap();
            assert_eq!(back.embeddings, reply.embeddings);
            assert_eq!(back.usage.unwrap().input, Some(4));
        }
        // The nearest `f64` lies in the middle between two `f32`s.
        let body = br#"{"embedding":{"values":[1.00000017881393432617187499]}}"#;
        assert_eq!(SINGLE.decode_reply(body).unwrap().embeddings, [[1.000_000_1]]);
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for body in [
            "",
            "{}",
            r#"{"embeddings":[]}"#,
            r#"{"embedding":{}}"#,
            r#"{"embedding":{"values":["a"]}}"#,
            r#"{"embedding":{"values":[1e400]}}"#,
        ] {
            assert!(SINGLE.decode_reply(body.as_bytes()).is_err(), "{body}");
        }
        let error = BATCH.decode_reply(br#"{"error":{"code":400,"message":"m"}}"#);
        assert!(matches!(error, Err(DecodeError::Reported(_))));
    }
}
