//! What surrounds the choices of a stream's chunks, in chat and in legacy completions: read and written.

use std::borrow::Cow;
use std::mem;

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::reply::is_akin;
use super::tap::refuse_error;
use super::usage::{self, UsageBody};
use super::{DONE, error};
use crate::dialect::wire::{reply_text, write_event};
use crate::dialect::{DecodeError, Quirks, ReplyContext};
use crate::error::Problem;
use crate::framing::SseFramer;
use crate::json::{Extra, FieldError, Object};
use crate::limits;
use crate::response::FinishReason;
use crate::stream::StreamEvent;
use crate::usage::{Provenance, Usage};

// --- reading ---

/// What both of OpenAI's streams have around what is in their choices.
pub(in crate::dialect) struct Chunks<C> {
    quirks: Quirks,
    choices: Vec<Choice<C>>,
    started: bool,
    done: bool,
    usage: Option<Usage>,
    /// The unknown fields last told, so that those repeated on every chunk are told once.
    extra: Extra,
}

struct Choice<C> {
    index: u32,
    finished: bool,
    content: C,
}

/// Reads what is in the choices of a chunk; one for each choice.
pub(in crate::dialect) trait ReadChoice: Default {
    /// Reads the next of the choice of this index and appends its events.
    fn read(
        &mut self,
        choice: u32,
        object: &mut Object<'_>,
        out: &mut Vec<StreamEvent>,
    ) -> Result<(), FieldError>;

    /// Reads the finish reason, and ends before it what is still open.
    fn finish(&mut self, choice: u32, word: &str, out: &mut Vec<StreamEvent>) -> FinishReason;
}

impl<C: ReadChoice> Chunks<C> {
    pub(in crate::dialect) fn new(quirks: Quirks) -> Self {
        let (choices, extra) = (Vec::new(), Extra::default());
        Self { quirks, choices, started: false, done: false, usage: None, extra }
    }

    pub(in crate::dialect) fn is_done(&self) -> bool {
        self.done
    }

    pub(in crate::dialect) fn push(
        &mut self,
        framer: &mut SseFramer,
        bytes: &[u8],
        out: &mut Vec<StreamEvent>,
    ) -> Result<(), DecodeError> {
        let mut fault = None;
        framer.push(bytes, |event| {
            if fault.is_none() && !self.done {
                fault = self.chunk(event.data, out).err();
            }
        })?;
        match fault {
            Some(fault) => {
                self.tell_partial_usage(out);
                Err(fault)
            }
            None => Ok(()),
        }
    }

    pub(in crate::dialect) fn finish(
        &mut self,
        framer: &mut SseFramer,
        out: &mut Vec<StreamEvent>,
    ) -> Result<(), DecodeError> {
        if !self.done && framer.unfinished_data() == Some(DONE) {
            self.chunk(DONE, out)?;
        }
        let all_finished = !self.choices.is_empty() && self.choices.iter().all(|choice| choice.finished);
        if all_finished && (self.done || self.quirks.done_optional) {
            out.extend(self.usage.take().map(StreamEvent::Usage));
            return Ok(());
        }
        self.tell_partial_usage(out);
        Err(DecodeError::Truncated)
    }

    fn tell_partial_usage(&mut self, out: &mut Vec<StreamEvent>) {
        let partial = self.usage.take().map(|usage| Usage { provenance: Provenance::Partial, ..usage });
        out.extend(partial.map(StreamEvent::Usage));
    }

    fn chunk(&mut self, data: &[u8], out: &mut Vec<StreamEvent>) -> Result<(), DecodeError> {
        if data == DONE {
            self.done = true;
            return Ok(());
        }
        let mut object = Object::parse("", reply_text(data)?)?;
        refuse_error(object.take_raw("error"))?;
        object.take_raw("object");
        let id: String = object.take("id")?.unwrap_or_default();
        let model: String = object.take("model")?.unwrap_or_default();
        let created = object.take_raw("created").and_then(|raw| raw.get().parse().ok());
        let choices = object.take_objects("choices")?;
        // Some vendors (xAI, Perplexity) send running totals: the last counts, and is told at the end.
        let usage =
            usage::of_chunk(object.take_raw("usage"), object.peek("x_groq"), object.peek("service_tier"));
        self.usage = usage.or(self.usage);
        // Azure sends a chunk about the prompt before the answer's own envelope.
        if !self.started && !choices.is_empty() {
            self.started = true;
            out.push(StreamEvent::Start { id, model, created });
        }
        // Before the choices, so that whoever writes this chunk again has them in it.
        tell_new_fields(object.rest(), &mut self.extra, None, out);
        for choice in choices {
            self.choice(choice, out)?;
        }
        Ok(())
    }

    fn choice(&mut self, mut object: Object<'_>, out: &mut Vec<StreamEvent>) -> Result<(), FieldError> {
        let index = object.take("index")?.unwrap_or(0);
        let at = match self.choices.iter().position(|choice| choice.index == index) {
            Some(at) => at,
            None if self.choices.len() >= limits::CHOICES_MAX => {
                return Err(object.wrong("index", format!("is beyond {} choices", limits::CHOICES_MAX)));
            }
            None => {
                self.choices.push(Choice { index, finished: false, content: C::default() });
                self.choices.len() - 1
            }
        };
        let choice = &mut self.choices[at];
        choice.content.read(index, &mut object, out)?;
        if let Some(raw) = object.take_raw("logprobs") {
            out.push(StreamEvent::Logprobs { choice: index, json: raw.into() });
        }
        // Some servers send an empty reason until there is one, and some repeat it on the chunks that follow.
        if let Some(word) = object.take::<Cow<'_, str>>("finish_reason")?.filter(|word| !word.is_empty())
            && !mem::replace(&mut choice.finished, true)
        {
            let reason = choice.content.finish(index, &word, out);
            out.push(StreamEvent::Finish { choice: index, reason });
        }
        Ok(())
    }
}

/// Tells the unknown fields that are new or have changed.
pub(in crate::dialect) fn tell_new_fields(
    fields: Extra,
    known: &mut Extra,
    choice: Option<u32>,
    out: &mut Vec<StreamEvent>,
) {
    let mut news = Extra::default();
    for (name, value) in fields.iter() {
        if known.get(name) != Some(value) && value.get() != "null" {
            news.insert(name, value.clone());
            known.insert(name, value.clone());
        }
    }
    if !news.is_empty() {
        out.push(StreamEvent::Extra { choice, fields: news });
    }
}

// --- writing ---

/// What stands around every chunk.
#[derive(Default)]
pub(in crate::dialect) struct Envelope {
    pub(in crate::dialect) id: String,
    pub(in crate::dialect) model: String,
    pub(in crate::dialect) created: u64,
    pub(in crate::dialect) extra: Extra,
    pub(in crate::dialect) usage: Option<Usage>,
    /// Whether usage is written at the end.
    include_usage: bool,
    /// Whether unknown fields are of these dialects.
    pub(in crate::dialect) akin: bool,
}

impl Envelope {
    /// Names and times are the context's until the stream gives its own.
    pub(in crate::dialect) fn new(context: &ReplyContext<'_>, prefix: &str) -> Self {
        Self {
            id: format!("{prefix}{}", context.id),
            created: context.now,
            include_usage: context.include_usage,
            akin: is_akin(context.origin),
            ..Self::default()
        }
    }

    /// Takes in an event that changes the envelope; whether it was one.
    pub(in crate::dialect) fn take(&mut self, event: &StreamEvent) -> bool {
        match event {
            StreamEvent::Start { id, model, created } => {
                if !id.is_empty() {
                    self.id.clone_from(id);
                }
                self.model.clone_from(model);
                self.created = created.unwrap_or(self.created);
            }
            StreamEvent::Usage(usage) => self.usage = Some(*usage),
            StreamEvent::Extra { .. } if !self.akin => {}
            StreamEvent::Extra { choice: None, fields } => {
                for (name, value) in fields.iter() {
                    self.extra.insert(name, value.clone());
                }
            }
            _ => return false,
        }
        true
    }

    pub(in crate::dialect) fn write<M: SerializeMap>(
        &self,
        object: &str,
        map: &mut M,
    ) -> Result<(), M::Error> {
        map.serialize_entry("id", &self.id)?;
        map.serialize_entry("object", object)?;
        map.serialize_entry("created", &self.created)?;
        map.serialize_entry("model", &self.model)?;
        self.extra.write(map)
    }

    /// Appends the end of a stream: usage if it was asked for, and `[DONE]`.
    pub(in crate::dialect) fn finish(&self, object: &str, out: &mut Vec<u8>) {
        struct UsageChunk<'a>(&'a Envelope, &'a str, Usage);
        impl Serialize for UsageChunk<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut map = serializer.serialize_map(None)?;
                self.0.write(self.1, &mut map)?;
                map.serialize_entry("choices", &[(); 0])?;
                map.serialize_entry("usage", &UsageBody(self.2))?;
                map.end()
            }
        }
        if let Some(usage) = self.usage.filter(|_| self.include_usage) {
            write_event(&UsageChunk(self, object, usage), out);
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }
}

/// Appends an error as the last event of a stream.
pub(in crate::dialect) fn write_problem(problem: &Problem, out: &mut Vec<u8>) {
    out.extend_from_slice(b"data: ");
    error::encode_into(problem, out);
    out.extend_from_slice(b"\n\n");
}
