//! A streamed answer as typed events, and their sum.

use crate::json::{Extra, RawJson};
use crate::request::{Part, PartKind};
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
    /// What the call took.
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
            Self::ToolCallStart { .. } | Self::ToolCallDelta { .. } | Self::Finish { .. } => true,
            Self::Start { .. } | Self::Logprobs { .. } | Self::Usage(_) | Self::Extra { .. } => false,
        }
    }
}

/// Adds up the events of a stream to the whole answer.
pub fn fold<I: IntoIterator<Item = StreamEvent>>(events: I) -> InferenceResponse {
    let mut sum = InferenceResponse::default();
    for event in events {
        match event {
            StreamEvent::Start { id, model, created } => {
                (sum.id, sum.model, sum.created) = (id, model, created);
            }
            StreamEvent::Text { choice, delta } => {
                let parts = &mut choice_at(&mut sum.choices, choice).parts;
                match parts.last_mut().map(|part| &mut part.kind) {
                    Some(PartKind::Text(text)) => text.push_str(&delta),
                    _ => parts.push(Part::text(delta)),
                }
            }
            StreamEvent::Reasoning { choice, delta } => {
                let parts = &mut choice_at(&mut sum.choices, choice).parts;
                match parts.last_mut().map(|part| &mut part.kind) {
                    Some(PartKind::Reasoning(text)) => text.push_str(&delta),
                    _ => parts.push(PartKind::Reasoning(delta).into()),
                }
            }
            StreamEvent::Refusal { choice, delta } => {
                let parts = &mut choice_at(&mut sum.choices, choice).parts;
                match parts.last_mut().map(|part| &mut part.kind) {
                    Some(PartKind::Refusal(text)) => text.push_str(&delta),
                    _ => parts.push(PartKind::Refusal(delta).into()),
                }
            }
            StreamEvent::ToolCallStart { choice, id, name, .. } => {
                let call = ToolCall { id, name, ..ToolCall::default() };
                choice_at(&mut sum.choices, choice).parts.push(PartKind::ToolCall(call).into());
            }
            StreamEvent::ToolCallDelta { choice, call, arguments } => {
                let parts = &mut choice_at(&mut sum.choices, choice).parts;
                let mut calls = parts.iter_mut().filter_map(|part| match &mut part.kind {
                    PartKind::ToolCall(call) => Some(call),
                    _ => None,
                });
                if let Some(call) = calls.nth(call as usize) {
                    call.arguments.push_str(&arguments);
                }
            }
            StreamEvent::Logprobs { choice, json } => {
                let logprobs = &mut choice_at(&mut sum.choices, choice).logprobs;
                *logprobs = Some(match logprobs.take() {
                    Some(before) => joined_logprobs(before, json),
                    None => json,
                });
            }
            StreamEvent::Finish { choice, reason } => {
                choice_at(&mut sum.choices, choice).finish_reason = Some(reason);
            }
            StreamEvent::Usage(usage) => sum.usage = Some(usage),
            StreamEvent::Extra { choice, fields } => {
                let extra = match choice {
                    Some(index) => &mut choice_at(&mut sum.choices, index).extra,
                    None => &mut sum.extra,
                };
                for (name, value) in fields.iter() {
                    extra.insert(name, value.clone());
                }
            }
        }
    }
    InferenceResponse {
        id: sum.id,
        model: sum.model,
        created: sum.created,
        usage: sum.usage,
        extra: sum.extra,
        ..InferenceResponse::from_choices(sum.choices)
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
