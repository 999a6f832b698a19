//! A streamed answer as typed events, and their sum.

use crate::json::{Extra, RawJson};
use crate::request::{Citation, MediaSource, Part, PartKind, Signature};
use crate::response::{Choice, FinishReason, InferenceResponse};
use crate::tool::ToolCall;
use crate::usage::Usage;

/// One step of a streamed answer.
///
/// `choice` is the answer it belongs to, 0 unless more than one was asked for. A stream is complete only if it ends
/// without an error: a cut one never looks like a finished one.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum StreamEvent {
    /// The envelope, once, before everything else.
    Start {
        /// The provider's name for this answer.
        id: String,
        /// The model that answers, as the provider names it.
        model: String,
        /// When, in Unix seconds, by the provider's clock.
        created: Option<u64>,
    },
    /// More text.
    Text {
        /// Which answer.
        choice: u32,
        /// What comes next.
        delta: String,
    },
    /// More reasoning.
    Reasoning {
        /// Which answer.
        choice: u32,
        /// What comes next.
        delta: String,
    },
    /// More of a refusal.
    Refusal {
        /// Which answer.
        choice: u32,
        /// What comes next.
        delta: String,
    },
    /// A tool call begins.
    ToolCallStart {
        /// Which answer.
        choice: u32,
        /// Which of its calls, from 0 in the order they begin.
        call: u32,
        /// The call's id; made up by us if the provider sent none.
        id: String,
        /// The tool called.
        name: String,
    },
    /// More of a tool call's arguments.
    ToolCallDelta {
        /// Which answer.
        choice: u32,
        /// Which of its calls.
        call: u32,
        /// What comes next of the JSON text.
        arguments: String,
    },
    /// Signs the piece that came last.
    Signature {
        /// Which answer.
        choice: u32,
        /// The proof.
        signature: Signature,
    },
    /// What the text that came last rests on.
    Citation {
        /// Which answer.
        choice: u32,
        /// The source.
        citation: Citation,
    },
    /// A whole piece that does not come in deltas: a picture, hidden reasoning, what the provider's own tools did.
    Part {
        /// Which answer.
        choice: u32,
        /// The piece.
        part: Part,
    },
    /// The piece that came last is complete: the next begins a new one, even if it is of the same kind. Only dialects
    /// that mark where pieces end tell it.
    PartEnd {
        /// Which answer.
        choice: u32,
    },
    /// Log probabilities in the dialect's own form.
    Logprobs {
        /// Which answer.
        choice: u32,
        /// The dialect's object.
        json: RawJson,
    },
    /// An answer is done.
    Finish {
        /// Which answer.
        choice: u32,
        /// Why.
        reason: FinishReason,
    },
    /// What the call took so far. Told once at the end, by some dialects also before; the last counts.
    Usage(Usage),
    /// Fields of the stream that we do not know, when they first come or change.
    Extra {
        /// Which answer they belong to; `None` for the whole.
        choice: Option<u32>,
        /// The fields.
        fields: Extra,
    },
}

// === impl StreamEvent ===

impl StreamEvent {
    /// Whether a client would see something of the answer in it.
    ///
    /// The first such event is the commit point: until then another candidate can answer instead.
    pub fn is_output(&self) -> bool {
        match self {
            Self::Text { delta, .. } | Self::Reasoning { delta, .. } | Self::Refusal { delta, .. } => {
                !delta.is_empty()
            }
            Self::ToolCallStart { .. }
            | Self::ToolCallDelta { .. }
            | Self::Part { .. }
            | Self::Citation { .. }
            | Self::Finish { .. } => true,
            Self::Start { .. }
            | Self::Signature { .. }
            | Self::PartEnd { .. }
            | Self::Logprobs { .. }
            | Self::Usage(_)
            | Self::Extra { .. } => false,
        }
    }

    /// Bytes of the answer in it, for whoever bounds one: the envelope and small things count nothing.
    pub fn content_bytes(&self) -> usize {
        match self {
            Self::Text { delta, .. }
            | Self::Reasoning { delta, .. }
            | Self::Refusal { delta, .. }
            | Self::ToolCallDelta { arguments: delta, .. } => delta.len(),
            Self::Part { part, .. } => match &part.kind {
                PartKind::Image { source: MediaSource::Base64 { data, .. }, .. }
                | PartKind::File { source: MediaSource::Base64 { data, .. }, .. }
                | PartKind::Audio { data, .. } => data.len(),
                PartKind::Other { json, .. } => json.get().len(),
                _ => 0,
            },
            Self::Logprobs { json, .. } => json.get().len(),
            _ => 0,
        }
    }
}

/// Adds up the events of a stream to the whole answer.
pub fn fold<I: IntoIterator<Item = StreamEvent>>(events: I) -> InferenceResponse {
    let mut sum = Fold::default();
    events.into_iter().for_each(|event| sum.push(event));
    sum.finish()
}

/// The sum of a stream's events so far.
#[derive(Debug, Clone, Default)]
pub struct Fold {
    sum: InferenceResponse,
    /// Choices whose last piece is complete.
    closed: Vec<u32>,
}

// === impl Fold ===

impl Fold {
    /// Adds an event.
    pub fn push(&mut self, event: StreamEvent) {
        match event {
            StreamEvent::Start { id, model, created } => {
                (self.sum.id, self.sum.model, self.sum.created) = (id, model, created);
            }
            StreamEvent::Text { choice, delta } => self.append(choice, PartKind::Text(delta)),
            StreamEvent::Reasoning { choice, delta } => self.append(choice, PartKind::Reasoning(delta)),
            StreamEvent::Refusal { choice, delta } => self.append(choice, PartKind::Refusal(delta)),
            StreamEvent::ToolCallStart { choice, id, name, .. } => {
                let call = ToolCall { id, name, ..ToolCall::default() };
                self.add(choice, PartKind::ToolCall(call).into());
            }
            StreamEvent::ToolCallDelta { choice, call, arguments } => {
                let mut calls = self.parts(choice).iter_mut().filter_map(|part| match &mut part.kind {
                    PartKind::ToolCall(call) => Some(call),
                    _ => None,
                });
                if let Some(call) = calls.nth(call as usize) {
                    call.arguments.push_str(&arguments);
                }
            }
            StreamEvent::Part { choice, part } => self.add(choice, part),
            StreamEvent::Signature { choice, signature } => {
                if let Some(part) = self.parts(choice).last_mut() {
                    part.signature = Some(signature);
                    self.close(choice);
                }
            }
            StreamEvent::Citation { choice, citation } => {
                let parts = self.parts(choice);
                // A citation may come before the first words it is for.
                if !matches!(parts.last(), Some(Part { kind: PartKind::Text(_), .. })) {
                    parts.push(Part::text(""));
                }
                if let Some(part) = parts.last_mut() {
                    part.citations.push(citation);
                }
            }
            StreamEvent::PartEnd { choice } => self.close(choice),
            StreamEvent::Logprobs { choice, json } => {
                let logprobs = &mut choice_at(&mut self.sum.choices, choice).logprobs;
                *logprobs = Some(match logprobs.take() {
                    Some(before) => joined_logprobs(before, json),
                    None => json,
                });
            }
            StreamEvent::Finish { choice, reason } => {
                choice_at(&mut self.sum.choices, choice).finish_reason = Some(reason);
            }
            StreamEvent::Usage(usage) => self.sum.usage = Some(usage),
            StreamEvent::Extra { choice, fields } => {
                let extra = match choice {
                    Some(index) => &mut choice_at(&mut self.sum.choices, index).extra,
                    None => &mut self.sum.extra,
                };
                for (name, value) in fields.iter() {
                    extra.insert(name, value.clone());
                }
            }
        }
    }

    /// The whole answer.
    pub fn finish(self) -> InferenceResponse {
        self.sum.with_text()
    }

    fn parts(&mut self, choice: u32) -> &mut Vec<Part> {
        &mut choice_at(&mut self.sum.choices, choice).parts
    }

    fn close(&mut self, choice: u32) {
        if !self.closed.contains(&choice) {
            self.closed.push(choice);
        }
    }

    fn add(&mut self, choice: u32, part: Part) {
        self.closed.retain(|closed| *closed != choice);
        self.parts(choice).push(part);
    }

    /// Appends text to the last piece if it is open and of the same kind.
    fn append(&mut self, choice: u32, kind: PartKind) {
        if !self.closed.contains(&choice) {
            let last = self.parts(choice).last_mut().map(|part| &mut part.kind);
            match (last, &kind) {
                (Some(PartKind::Text(text)), PartKind::Text(delta))
                | (Some(PartKind::Reasoning(text)), PartKind::Reasoning(delta))
                | (Some(PartKind::Refusal(text)), PartKind::Refusal(delta)) => {
                    text.push_str(delta);
                    return;
                }
                _ => {}
            }
        }
        self.add(choice, kind.into());
    }
}

/// The choice of that index, made if it is new; choices are kept in the order of their indices.
fn choice_at(choices: &mut Vec<Choice>, index: u32) -> &mut Choice {
    let at = match choices.binary_search_by_key(&index, |choice| choice.index) {
        Ok(at) => at,
        Err(at) => {
            choices.insert(at, Choice { index, ..Choice::default() });
            at
        }
    };
    &mut choices[at]
}

/// OpenAI streams log probabilities as lists under the names `content` and `refusal`: the lists are joined.
fn joined_logprobs(before: RawJson, after: RawJson) -> RawJson {
    type Lists = std::collections::BTreeMap<String, Option<Vec<RawJson>>>;
    let lists = |json: &RawJson| serde_json::from_str::<Lists>(json.get()).ok();
    let (Some(mut sum), Some(more)) = (lists(&before), lists(&after)) else { return after };
    for (name, items) in more {
        if let Some(items) = items {
            sum.entry(name).or_default().get_or_insert_default().extend(items);
        }
    }
    RawJson::from_value(&sum).unwrap_or(before)
}
