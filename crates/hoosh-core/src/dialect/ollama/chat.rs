//! `POST /api/chat`.

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::{Kind, messages, options, reply, stream};
use crate::dialect::wire::{note, request_text, write_json};
use crate::dialect::{
    Codec, DecodeError, DecodeStream, Dialect, EncodeStream, Encoded, Quirks, ReplyContext, Target,
};
use crate::error::InvalidRequest;
use crate::failure::FidelityNote;
use crate::json::Object;
use crate::request::InferenceRequest;
use crate::response::InferenceResponse;
use crate::tool::ToolChoice;

pub(in crate::dialect) struct OllamaChat;

impl Codec for OllamaChat {
    fn decode_request(&self, body: &[u8]) -> Result<InferenceRequest, InvalidRequest> {
        decode(body)
    }

    fn encode_request(&self, request: &InferenceRequest, target: Target<'_>) -> Encoded {
        encode(request, target)
    }

    fn decode_reply(&self, body: &[u8]) -> Result<InferenceResponse, DecodeError> {
        reply::decode(body, Kind::Chat, Dialect::OllamaChat)
    }

    fn encode_reply(&self, reply: &InferenceResponse, context: &ReplyContext<'_>) -> Encoded {
        reply::encode(reply, Kind::Chat, Dialect::OllamaChat, context)
    }

    fn stream_decoder(&self, _: Quirks) -> Box<dyn DecodeStream> {
        Box::new(stream::Decoder::new(Kind::Chat))
    }

    fn stream_encoder(&self, context: &ReplyContext<'_>) -> Box<dyn EncodeStream> {
        Box::new(stream::Encoder::new(Kind::Chat, Dialect::OllamaChat, context))
    }
}

fn decode(body: &[u8]) -> Result<InferenceRequest, InvalidRequest> {
    let mut object = Object::parse("", request_text(body)?)?;
    let mut request = InferenceRequest { model: object.require("model")?, ..InferenceRequest::default() };
    request.messages = messages::read(object.take_objects("messages")?)?;
    request.tools = messages::tools(&mut object)?;
    options::read(&mut object, &mut request)?;
    options::keep_rest(object.rest(), &mut request);
    request.origin = Some(Dialect::OllamaChat);
    Ok(request)
}

/// Fields that only generate knows.
const GENERATE_ONLY: [&str; 4] = ["suffix", "template", "raw", "context"];

fn encode(request: &InferenceRequest, target: Target<'_>) -> Encoded {
    let mut notes = Vec::new();
    options::note_lost(request, &mut notes);
    options::note_think(request, target.model, &mut notes);
    let left_out = if request.origin == Some(Dialect::OllamaGenerate) { &GENERATE_ONLY[..] } else { &[] };
    let rest = options::rest(request, Dialect::OllamaChat, left_out, &mut notes);
    let conversation: Vec<_> = request.conversation().collect();
    let turns = messages::turns(conversation.iter().map(|message| &**message), &mut notes);
    // There is no word for "no tool": the model does not get to know of them.
    let no_tools = request.tool_choice == Some(ToolChoice::None) && !request.tools.is_empty();
    if no_tools {
        note(&mut notes, FidelityNote::emulated("tool_choice"));
    }
    let tools = if no_tools { &[][..] } else { &request.tools[..] };
    let list = messages::tool_list(tools, &mut notes);

    let mut body = Vec::with_capacity(512);
    write_json(
        &RequestBody {
            request,
            target,
            turns: &turns,
            tools: list,
            has_tools: !tools.is_empty(),
            rest: &rest,
        },
        &mut body,
    );
    Encoded { body, notes, answer_tool: None }
}

struct RequestBody<'a, T> {
    request: &'a InferenceRequest,
    target: Target<'a>,
    turns: &'a [messages::Turn],
    tools: T,
    has_tools: bool,
    rest: &'a options::Rest,
}

impl<T: Serialize> Serialize for RequestBody<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("model", self.target.model)?;
        map.serialize_entry("messages", self.turns)?;
        if self.has_tools {
            map.serialize_entry("tools", &self.tools)?;
        }
        options::write(self.request, self.target, self.rest, &mut map)?;
        map.end()
    }
}
