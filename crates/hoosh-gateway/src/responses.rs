//! What `previous_response_id` goes on from: the conversations behind answers in OpenAI's Responses dialect that hoosh
//! translated, in memory, bounded in size and age, each known to its caller only.
//!
//! Answers of a provider that has the dialect itself are passed through and kept there.

use std::fmt;
use std::sync::Arc;

use hoosh_core::json::Extra;
use hoosh_core::{
    Fold, InferenceRequest, InferenceResponse, MediaSource, Message, Part, PartKind, Role, StreamEvent,
    limits,
};
use moka::sync::Cache;

use crate::call::CallerId;

/// The conversations kept.
pub(crate) struct Responses(Cache<(CallerId, String), Arc<Turn>>);

/// The duty to keep one answer.
pub(crate) struct Keeper {
    responses: Arc<Responses>,
    caller: CallerId,
    /// What the caller knows it by; `None` until the provider says.
    id: Option<String>,
    asked: Turn,
    answer: Fold,
}

/// A request and its answer, behind the turns before it.
pub(crate) struct Turn {
    before: Option<Arc<Turn>>,
    messages: Vec<Message>,
    /// Of this turn and all before it: those live as long as this one does, whatever the cache lets go of.
    bytes: u32,
}

// === impl Responses ===

impl Responses {
    pub(crate) fn new() -> Self {
        let cache = Cache::builder()
            .max_capacity(limits::RESPONSES_BYTES_MAX)
            .weigher(|(_, id): &(CallerId, String), turn: &Arc<Turn>| {
                turn.bytes.saturating_add(id.len() as u32)
            })
            .time_to_live(limits::RESPONSES_AGE_MAX);
        Self(cache.build())
    }

    /// The conversation up to the answer of that id, if this caller got it and it is still kept.
    pub(crate) fn find(&self, caller: &CallerId, id: &str) -> Option<Arc<Turn>> {
        self.0.get(&(caller.clone(), id.to_owned()))
    }

    /// Keeps an answer, so that a later request can go on from it.
    pub(crate) fn keep(&self, caller: &CallerId, id: String, turn: Turn) {
        self.0.insert((caller.clone(), id), Arc::new(turn));
    }
}

impl fmt::Debug for Responses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Responses({} kept)", self.0.entry_count())
    }
}

// === impl Keeper ===

impl Keeper {
    pub(crate) fn new(responses: Arc<Responses>, caller: CallerId, id: Option<String>, asked: Turn) -> Self {
        Self { responses, caller, id, asked, answer: Fold::default() }
    }

    /// The provider's name for the answer, which counts if there is none of ours.
    pub(crate) fn named(&mut self, id: &str) {
        self.id.get_or_insert_with(|| id.to_owned());
    }

    /// Takes an event of a streamed answer.
    pub(crate) fn event(&mut self, event: StreamEvent) {
        if let StreamEvent::Start { id, .. } = &event {
            self.named(id);
        }
        // They are of no use later, and joined one by one they cost more the more there are.
        if !matches!(event, StreamEvent::Logprobs { .. }) {
            self.answer.push(event);
        }
    }

    /// Keeps the answer whose events were taken.
    pub(crate) fn keep_streamed(mut self) {
        let reply = std::mem::take(&mut self.answer).finish();
        self.keep(&reply);
    }

    /// Keeps an answer.
    pub(crate) fn keep(self, reply: &InferenceResponse) {
        let Some(id) = self.id.filter(|id| !id.is_empty()) else { return };
        self.responses.keep(&self.caller, id, self.asked.answered(reply));
    }
}

// === impl Turn ===

impl Turn {
    /// What was asked, without the instructions, which OpenAI does not carry over either.
    /// The first `known` messages of the request are those of the turns before.
    pub(crate) fn asked(before: Option<Arc<Turn>>, request: &InferenceRequest, known: usize) -> Self {
        let mut turn =
            Self { bytes: before.as_ref().map_or(0, |before| before.bytes), before, messages: Vec::new() };
        for message in request.messages.iter().skip(known) {
            turn.add(message.clone());
        }
        if !request.prompt.is_empty() {
            turn.add(Message::user(request.prompt.as_str()));
        }
        turn
    }

    /// The same with the answer.
    pub(crate) fn answered(mut self, reply: &InferenceResponse) -> Self {
        if let Some(choice) = reply.choices.first() {
            self.add(Message::new(Role::Assistant, choice.parts.clone()));
        }
        self
    }

    fn add(&mut self, message: Message) {
        let parts: usize = message.parts.iter().map(part_bytes).sum();
        let bytes = parts + extra_bytes(&message.extra) + message.name.as_ref().map_or(0, String::len);
        self.bytes =
            self.bytes.saturating_add(u32::try_from(bytes + size_of::<Message>()).unwrap_or(u32::MAX));
        self.messages.push(message);
    }

    /// What was answered in it.
    pub(crate) fn answer(&self) -> Option<&[Part]> {
        let last = self.messages.last().filter(|message| message.role == Role::Assistant)?;
        Some(&last.parts)
    }

    /// About how long the whole conversation is.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes as usize
    }

    /// How many messages the whole conversation has.
    pub(crate) fn length(&self) -> usize {
        self.chain().map(|turn| turn.messages.len()).sum()
    }

    /// This turn and those before it.
    fn chain(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |turn| turn.before.as_deref())
    }

    /// The whole conversation, oldest first.
    pub(crate) fn conversation(&self) -> Vec<Message> {
        let turns: Vec<&Self> = self.chain().collect();
        turns.into_iter().rev().flat_map(|turn| turn.messages.iter().cloned()).collect()
    }
}

impl fmt::Debug for Turn {
    /// Not what was said.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Turn({} bytes)", self.bytes)
    }
}

impl Drop for Turn {
    /// One after the other: a long conversation must not be let go of on the stack.
    fn drop(&mut self) {
        let mut before = self.before.take();
        while let Some(turn) = before {
            before = match Arc::try_unwrap(turn) {
                Ok(mut turn) => turn.before.take(),
                Err(_) => None, // Somebody else goes on from it.
            };
        }
    }
}

fn part_bytes(part: &Part) -> usize {
    let own = match &part.kind {
        PartKind::Text(text) | PartKind::Reasoning(text) | PartKind::Refusal(text) => text.len(),
        PartKind::ToolCall(call) => {
            call.id.len() + call.name.len() + call.arguments.len() + extra_bytes(&call.extra)
        }
        PartKind::ToolResult(result) => {
            result.call_id.len() + result.content.iter().map(part_bytes).sum::<usize>()
        }
        PartKind::Image { source, detail } => source_bytes(source) + detail.as_ref().map_or(0, String::len),
        PartKind::File { source, filename } => {
            source_bytes(source) + filename.as_ref().map_or(0, String::len)
        }
        PartKind::Audio { data, format } => data.len() + format.len(),
        PartKind::Other { json, .. } => json.get().len(),
        _ => 0,
    };
    let signature = part.signature.as_ref().map_or(0, |signature| signature.value.len());
    let citations: usize = part.citations.iter().map(|citation| 2 * citation.json.get().len()).sum();
    own + size_of::<Part>() + signature + citations + extra_bytes(&part.extra)
}

fn source_bytes(source: &MediaSource) -> usize {
    match source {
        MediaSource::Base64 { data, media_type } => data.len() + media_type.len(),
        MediaSource::Url(text) | MediaSource::FileId(text) => text.len(),
    }
}

fn extra_bytes(extra: &Extra) -> usize {
    extra.iter().map(|(name, value)| name.len() + value.get().len() + size_of::<(String, String)>()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hoosh_core::Choice;

    fn turn(before: Option<Arc<Turn>>, asked: &str, answer: &str) -> Turn {
        let request = InferenceRequest { messages: vec![Message::user(asked)], ..Default::default() };
        let choice = Choice { parts: vec![Part::text(answer)], ..Choice::default() };
        Turn::asked(before, &request, 0).answered(&InferenceResponse::from_choices(vec![choice]))
    }

    #[test]
    fn a_conversation_goes_on_and_is_its_callers_own() {
        let responses = Responses::new();
        let ada = CallerId::new("ada");
        responses.keep(&ada, "resp_1".into(), turn(None, "hi", "hello"));
        let first = responses.find(&ada, "resp_1").unwrap();
        responses.keep(&ada, "resp_2".into(), turn(Some(first), "bye", "ciao"));

        let said: Vec<_> = responses.find(&ada, "resp_2").unwrap().conversation();
        let expected = [
            Message::user("hi"),
            Message::assistant("hello"),
            Message::user("bye"),
            Message::assistant("ciao"),
        ];
        assert_eq!(said, expected);
        assert!(responses.find(&CallerId::new("eve"), "resp_2").is_none());
        assert!(responses.find(&ada, "resp_3").is_none());
    }

    #[test]
    fn a_turn_weighs_all_that_it_holds_on_to() {
        let first = Arc::new(turn(None, &"x".repeat(1000), ""));
        let second = turn(Some(Arc::clone(&first)), "", "");
        assert!(first.bytes >= 1000 && second.bytes > first.bytes);
        let mut message = Message::user("hi");
        message
            .extra
            .insert("junk", hoosh_core::json::RawJson::parse(format!("\"{}\"", "x".repeat(1000))).unwrap());
        let request = InferenceRequest { messages: vec![message], ..Default::default() };
        assert!(Turn::asked(None, &request, 0).bytes >= 1000, "unknown fields count too");
    }

    #[test]
    fn a_long_conversation_is_let_go_of() {
        let mut last = None;
        for _ in 0..100_000 {
            last = Some(Arc::new(turn(last, "a", "b")));
        }
        drop(last);
    }
}
