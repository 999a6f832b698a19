//! Writing a request for a provider.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::body::Content;
use super::config::{self, is_akin, is_own};
use super::model::Model;
use super::tools::{self, ToolBody};
use super::turns::Turns;
use crate::dialect::wire::{entry, notable, note, write_json};
use crate::dialect::{Encoded, Target};
use crate::failure::FidelityNote;
use crate::json::Extra;
use crate::request::InferenceRequest;

pub(super) fn encode(request: &InferenceRequest, target: Target<'_>) -> Encoded {
    let model = Model::named(target.model);
    let mut notes = Vec::new();
    let conversation: Vec<_> = request.conversation().collect();
    let mut turns = Turns::new(model, is_akin(request), is_own(request));
    // The caller counts without the instructions that stand apart.
    let apart = usize::from(request.system.is_some());
    for (index, message) in conversation.iter().enumerate() {
        turns.push(index.saturating_sub(apart), message, &mut notes);
    }
    turns.close(&mut notes);
    let body = RequestBody {
        request,
        turns,
        tools: tools::encode(request, &mut notes),
        tool_config: tools::encode_config(request, &mut notes),
        config: config::encode(request, model, &mut notes),
        service_tier: service_tier(request, &mut notes),
    };
    note_lost(request, &mut notes);
    let mut out = Vec::with_capacity(1024);
    write_json(&body, &mut out);
    Encoded { body: out, notes, answer_tool: None }
}

/// The class of price and speed. Source: ai.google.dev/gemini-api/docs/priority-inference, read 2026-11-24.
fn service_tier<'a>(request: &'a InferenceRequest, notes: &mut Vec<FidelityNote>) -> Option<&'a str> {
    match request.service_tier.as_deref()? {
        word if is_own(request) => Some(word),
        // Left out it is up to Google, which is what the word means.
        "auto" => {
            note(notes, FidelityNote::emulated("service_tier"));
            None
        }
        "default" | "standard" => Some("standard"),
        word @ ("flex" | "priority") => Some(word),
        _ => {
            note(notes, FidelityNote::new("service_tier"));
            None
        }
    }
}

fn note_lost(request: &InferenceRequest, notes: &mut Vec<FidelityNote>) {
    let lost = [
        ("parallel_tool_calls", request.parallel_tool_calls == Some(false)),
        ("user", request.user.is_some()),
        ("metadata", request.metadata.is_some()),
    ];
    for (name, _) in lost.into_iter().filter(|(_, is_lost)| *is_lost) {
        note(notes, FidelityNote::new(name));
    }
    if !is_akin(request) {
        for (name, _) in notable(request).filter(|(name, _)| !config::is_translated(name)) {
            note(notes, FidelityNote::new(name));
        }
    }
}

struct RequestBody<'a> {
    request: &'a InferenceRequest,
    turns: Turns<'a>,
    tools: Vec<ToolBody<'a>>,
    tool_config: Extra,
    config: Extra,
    service_tier: Option<&'a str>,
}

impl Serialize for RequestBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Instruction<'a, 'b>(&'a [super::body::PartBody<'b>]);
        impl Serialize for Instruction<'_, '_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("parts", self.0)?;
                map.end()
            }
        }
        let mut map = serializer.serialize_map(None)?;
        if !self.turns.system.is_empty() {
            map.serialize_entry("systemInstruction", &Instruction(&self.turns.system))?;
        }
        map.serialize_entry::<_, [Content<'_>]>("contents", &self.turns.contents)?;
        if !self.tools.is_empty() {
            map.serialize_entry("tools", &self.tools)?;
        }
        for (name, fields) in [(tools::CONFIG, &self.tool_config), (config::NAME, &self.config)] {
            if !fields.is_empty() {
                map.serialize_entry(name, fields)?;
            }
        }
        entry(&mut map, "serviceTier", &self.service_tier)?;
        if is_akin(self.request) {
            let rest = self.request.extra.iter();
            for (name, value) in rest.filter(|(name, _)| *name != tools::CONFIG && *name != config::NAME) {
                map.serialize_entry(name, value)?;
            }
        }
        map.end()
    }
}
