//! `POST /api/generate`. Without a prompt it loads the model, with `keep_alive: 0` it unloads it: such a request
//! has an empty conversation, and whoever serves it answers that itself.

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::{Kind, messages, options, reply, stream};
use crate::dialect::wire::{as_one_text, note, request_text, write_json};
use crate::dialect::{
    Codec, DecodeError, DecodeStream, Dialect, EncodeStream, Encoded, Quirks, ReplyContext, Target,
};
use crate::error::InvalidRequest;
use crate::failure::FidelityNote;
use crate::json::Object;
use crate::request::InferenceRequest;
use crate::request::{MediaSource, Message, Part, PartKind, Role, joined_text};
use crate::response::InferenceResponse;

pub(in crate::dialect) struct OllamaGenerate;

impl Codec for OllamaGenerate {
    fn decode_request(&self, body: &[u8]) -> Result<InferenceRequest, InvalidRequest> {
        decode(body)
    }

    fn encode_request(&self, request: &InferenceRequest, target: Target<'_>) -> Encoded {
        encode(request, target)
    }

    fn decode_reply(&self, body: &[u8]) -> Result<InferenceResponse, DecodeError> {
        reply::decode(body, Kind::Generate, Dialect::OllamaGenerate)
    }

    fn encode_reply(&self, reply: &InferenceResponse, context: &ReplyContext<'_>) -> Encoded {
        reply::encode(reply, Kind::Generate, Dialect::OllamaGenerate, context)
    }

    fn stream_decoder(&self, _: Quirks) -> Box<dyn DecodeStream> {
        Box::new(stream::Decoder::new(Kind::Generate))
    }

    fn stream_encoder(&self, context: &ReplyContext<'_>) -> Box<dyn EncodeStream> {
        Box::new(stream::Encoder::new(Kind::Generate, Dialect::OllamaGenerate, context))
    }
}

fn decode(body: &[u8]) -> Result<InferenceRequest, InvalidRequest> {
    let mut object = Object::parse("", request_text(body)?)?;
    let mut request = InferenceRequest { model: object.require("model")?, ..InferenceRequest::default() };
    request.system = object.take::<String>("system")?.filter(|text| !text.is_empty());
    request.prompt = object.take("prompt")?.unwrap_or_default();
    let images = messages::images(&mut object)?;
    if !images.is_empty() {
        let text = Part::text(std::mem::take(&mut request.prompt));
        request.messages = vec![Message::new(Role::User, std::iter::once(text).chain(images).collect())];
    }
    options::read(&mut object, &mut request)?;
    options::keep_rest(object.rest(), &mut request);
    request.origin = Some(Dialect::OllamaGenerate);
    Ok(request)
}

struct RequestBody<'a> {
    request: &'a InferenceRequest,
    target: Target<'a>,
    prompt: String,
    system: String,
    images: Vec<&'a str>,
    rest: &'a options::Rest,
}

/// One person's one message goes as it is, a longer conversation with the speakers' names before their words.
fn encode(request: &InferenceRequest, target: Target<'_>) -> Encoded {
    let mut notes = Vec::new();
    options::note_lost(request, &mut notes);
    options::note_think(request, target.model, &mut notes);
    let rest = options::rest(request, Dialect::OllamaGenerate, &[], &mut notes);
    if !request.tools.is_empty() {
        note(&mut notes, FidelityNote::new("tools"));
    }
    let conversation: Vec<_> = request.conversation().collect();
    let instructs = |role| matches!(role, Role::System | Role::Developer);
    let (mut system, mut turns, mut images) = (Vec::new(), Vec::new(), Vec::new());
    for message in &conversation {
        let text = joined_text(&message.parts);
        if instructs(message.role) {
            system.push(text)
        } else {
            turns.push((message.role, text))
        }
        for part in &message.parts {
            match &part.kind {
                PartKind::Text(_) | PartKind::Redacted => {}
                PartKind::Image { source: MediaSource::Base64 { data, .. }, .. } => {
                    images.push(data.as_str())
                }
                _ => note(&mut notes, FidelityNote::new("messages.content")),
            }
        }
    }
    let prompt = match &turns[..] {
        [] => String::new(),
        [(Role::User, text)] => text.clone(),
        turns => {
            note(&mut notes, FidelityNote::new("messages.role"));
            as_one_text(turns.iter().cloned())
        }
    };
    let mut body = Vec::with_capacity(256 + prompt.len());
    write_json(
        &RequestBody { request, target, prompt, system: system.join("\n\n"), images, rest: &rest },
        &mut body,
    );
    Encoded { body, notes, answer_tool: None }
}

impl Serialize for RequestBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("model", self.target.model)?;
        map.serialize_entry("prompt", &self.prompt)?;
        if !self.system.is_empty() {
            map.serialize_entry("system", &self.system)?;
        }
        if !self.images.is_empty() {
            map.serialize_entry("images", &self.images)?;
        }
        options::write(self.request, self.target, self.rest, &mut map)?;
        map.end()
    }
}
