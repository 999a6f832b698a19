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

/// A whole answer as the events of a stream, whose [`fold`] it is.
///
/// What no event has a place for is left out: unknown fields of texts and of tool calls, and what the envelope around the
/// answer says (rate limits, notes).
pub fn unfold(reply: &InferenceResponse) -> Vec<StreamEvent> {
    let (id, model) = (reply.id.clone(), reply.model.clone());
    let mut events = vec![StreamEvent::Start { id, model, created: reply.created }];
    if !reply.extra.is_empty() {
        events.push(StreamEvent::Extra { choice: None, fields: reply.extra.clone() });
    }
    reply.choices.iter().for_each(|choice| unfold_choice(choice, &mut events));
    events.extend(reply.usage.map(StreamEvent::Usage));
    events
}

fn unfold_choice(whole: &Choice, events: &mut Vec<StreamEvent>) {
    let (choice, mut calls) = (whole.index, 0);
    if !whole.extra.is_empty() {
        events.push(StreamEvent::Extra { choice: Some(choice), fields: whole.extra.clone() });
    }
    let mut before: Option<&Part> = None;
    for part in &whole.parts {
        // Two of a kind would run together.
        if before.is_some_and(|before| is_text_of_a_kind(&before.kind, &part.kind)) {
            events.push(StreamEvent::PartEnd { choice });
        }
        before = Some(part);
        match &part.kind {
            PartKind::Text(delta) => events.push(StreamEvent::Text { choice, delta: delta.clone() }),
            PartKind::Reasoning(delta) => {
                events.push(StreamEvent::Reasoning { choice, delta: delta.clone() })
            }
            PartKind::Refusal(delta) => events.push(StreamEvent::Refusal { choice, delta: delta.clone() }),
            PartKind::ToolCall(made) => {
                let (call, id, name) = (calls, made.id.clone(), made.name.clone());
                calls += 1;
                events.push(StreamEvent::ToolCallStart { choice, call, id, name });
                let arguments = made.arguments.clone();
                events.push(StreamEvent::ToolCallDelta { choice, call, arguments });
            }
            _ => {
                // With all that belongs to it.
                events.push(StreamEvent::Part { choice, part: part.clone() });
                continue;
            }
        }
        events.extend(
            part.citations.iter().cloned().map(|citation| StreamEvent::Citation { choice, citation }),
        );
        events.extend(part.signature.clone().map(|signature| StreamEvent::Signature { choice, signature }));
    }
    events.extend(whole.logprobs.clone().map(|json| StreamEvent::Logprobs { choice, json }));
    events.extend(whole.finish_reason.clone().map(|reason| StreamEvent::Finish { choice, reason }));
}

fn is_text_of_a_kind(one: &PartKind, other: &PartKind) -> bool {
    matches!(
        (one, other),
        (PartKind::Text(_), PartKind::Text(_))
            | (PartKind::Reasoning(_), PartKind::Reasoning(_))
            | (PartKind::Refusal(_), PartKind::Refusal(_))
    )
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Dialect;

    #[test]
    fn an_answer_is_the_sum_of_its_events() {
        let raw = |text: &str| RawJson::parse(text).unwrap();
        let mut extra = Extra::default();
        extra.insert("odd", raw("1.50"));
        let call = |id: &str| ToolCall {
            id: id.into(),
            name: "t".into(),
            arguments: "{}".into(),
            ..ToolCall::default()
        };
        let signature = Signature { maker: Dialect::Anthropic, value: "s".into() };
        let signed = Part { signature: Some(signature), ..PartKind::Reasoning("hm".into()).into() };
        let other = PartKind::Other { maker: Dialect::Anthropic, kind: "k".into(), json: raw("{}") };
        let parts = vec![
            signed,
            PartKind::Reasoning("aha".into()).into(),
            Part::text("one"),
            Part::text("two"),
            other.into(),
            PartKind::ToolCall(call("a")).into(),
            PartKind::ToolCall(call("b")).into(),
        ];
        let first = Choice {
            parts,
            finish_reason: Some(FinishReason::ToolCalls),
            logprobs: Some(raw(r#"{"content":[1]}"#)),
            extra: extra.clone(),
            ..Choice::default()
        };
        let second = Choice { index: 1, parts: vec![Part::text("three")], ..Choice::default() };
        let reply = InferenceResponse {
            id: "c1".into(),
            model: "m".into(),
            created: Some(7),
            usage: Some(Usage { output: Some(2), ..Usage::default() }),
            extra,
            ..InferenceResponse::from_choices(vec![first, second])
        };
        assert_eq!(fold(unfold(&reply)), reply);
    }
}
