//! What the fuzz targets share: how an input is read, and the laws they hold.
//!
//! An input is four bytes that say how (see [`Input`]), then the bytes that a client or a provider sends. A seed is
//! named and made by `fuzz/run.sh`, with those four bytes in front.

use hoosh_core::dialect::{DecodeError, Dialect, Operation, Quirks, ReplyContext};
use hoosh_core::{InferenceResponse, PartKind, StreamEvent};

/// Fields that a vendor may refuse, of all kinds.
const REFUSED: &[&str] =
    &["messages.name", "messages.reasoning_content", "messages.refusal", "top_k", "user"];

/// The bytes in front of what is sent.
const HEAD_BYTES: usize = 4;

/// Most steps that a stream is cut into: more pieces of the same bytes find nothing new and take long.
const PIECES_MAX: usize = 2_000;

/// Most bytes of events that a byte of a stream may become.
///
/// A chunk of a few bytes may be several events with names of their own, and a name that stands once for the whole (a
/// tool's, a model's) is told again; the answer repeated in its last event is not.
const EVENT_BYTES_PER_BYTE: usize = 8;

/// What a stream of no bytes at all may give: usage, an envelope and ends.
const EVENT_BYTES_BESIDE: usize = 4 << 10;

/// An input that was taken apart.
pub struct Input<'a> {
    /// The dialect the bytes are in: the first byte, counted from `'0'`, in the order of [`Dialect::ALL`].
    pub dialect: Dialect,
    /// What the vendor does otherwise: the bits of the second byte.
    pub quirks: Quirks,
    /// Anything else that must be chosen: the third and the fourth.
    pub choice: u16,
    /// What is sent.
    pub bytes: &'a [u8],
}

impl<'a> Input<'a> {
    /// `None` if there is not even the head.
    pub fn read(data: &'a [u8]) -> Option<Self> {
        let (head, bytes) = data.split_at_checked(HEAD_BYTES)?;
        let dialect = Dialect::ALL[usize::from(head[0].wrapping_sub(b'0')) % Dialect::ALL.len()];
        let bit = |at: u8| head[1] & (1 << at) != 0;
        let quirks = Quirks {
            max_completion_tokens: bit(0),
            no_stream_options: bit(1),
            done_optional: bit(2),
            cache_marks: bit(3),
            random_seed: bit(4),
            unknown_fields: if bit(5) { REFUSED } else { &[] },
        };
        Some(Self { dialect, quirks, choice: u16::from_be_bytes([head[2], head[3]]), bytes })
    }

    /// The bytes in pieces, by the choice: byte by byte, or of lengths that look random.
    pub fn pieces(&self) -> Vec<&'a [u8]> {
        let mut state = u32::from(self.choice);
        let (mut rest, mut pieces) = (self.bytes, Vec::new());
        while !rest.is_empty() {
            // xorshift stays 0 from 0 on.
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            let wanted = if pieces.len() < PIECES_MAX { state as usize % 64 } else { rest.len() };
            // Some pieces are empty.
            let length = if state == 0 { 1 } else { wanted };
            let (piece, more) = rest.split_at(length.min(rest.len()));
            pieces.push(piece);
            rest = more;
        }
        pieces
    }

    /// Where the bytes are cut off, by the choice.
    pub fn cut(&self) -> &'a [u8] {
        let at = self.bytes.len() * usize::from(self.choice) / usize::from(u16::MAX);
        &self.bytes[..at]
    }
}

/// The dialects that answers are in.
pub fn inference() -> impl Iterator<Item = Dialect> {
    Dialect::ALL.iter().copied().filter(|dialect| dialect.operation() == Operation::Inference)
}

/// The dialects that embeddings are in.
pub fn embedding() -> impl Iterator<Item = Dialect> {
    Dialect::ALL.iter().copied().filter(|dialect| dialect.operation() == Operation::Embedding)
}

/// Whether both are dialects of one vendor that share their unknown fields. Of those one of the two may know a field and
/// refuse the value: that is told by the provider or the client itself.
pub fn are_siblings(one: Dialect, other: Dialect) -> bool {
    const PAIRS: [[Dialect; 2]; 2] =
        [[Dialect::OpenAiChat, Dialect::OpenAiCompletions], [Dialect::OllamaChat, Dialect::OllamaGenerate]];
    one != other && PAIRS.iter().any(|pair| pair.contains(&one) && pair.contains(&other))
}

/// The context of an answer from `origin`.
pub fn context(origin: Dialect) -> ReplyContext<'static> {
    ReplyContext {
        id: "0190",
        now: 1_700_000_000,
        include_usage: true,
        origin: Some(origin),
        ..ReplyContext::default()
    }
}

/// Decodes a stream as its driver does: up to the first fault, and the end is told in any case.
pub fn decode(
    dialect: Dialect,
    quirks: Quirks,
    pieces: &[&[u8]],
) -> (Vec<StreamEvent>, Result<(), DecodeError>) {
    let codec = dialect.codec().expect("asked only of dialects that have one");
    let mut decoder = codec.stream_decoder(quirks);
    let mut events = Vec::new();
    let pushed = pieces.iter().try_for_each(|piece| decoder.push(piece, &mut events));
    if pushed.is_err() {
        // It must not panic; its events are for the books only.
        let _ = decoder.finish(&mut Vec::new());
        return (events, pushed);
    }
    let finished = decoder.finish(&mut events);
    (events, finished)
}

/// What events hold in memory must not outgrow what was sent.
pub fn check_bounded(events: &[StreamEvent], sent: usize) {
    let bytes: usize = events.iter().map(event_bytes).sum();
    let most = sent * EVENT_BYTES_PER_BYTE + EVENT_BYTES_BESIDE;
    assert!(bytes <= most, "{sent} bytes became events of {bytes}, in {} events", events.len());
}

/// The texts of an event, and one for the event itself.
fn event_bytes(event: &StreamEvent) -> usize {
    1 + match event {
        StreamEvent::Start { id, model, .. } => id.len() + model.len(),
        StreamEvent::Text { delta, .. }
        | StreamEvent::Reasoning { delta, .. }
        | StreamEvent::Refusal { delta, .. } => delta.len(),
        StreamEvent::ToolCallStart { id, name, .. } => id.len() + name.len(),
        StreamEvent::ToolCallDelta { arguments, .. } => arguments.len(),
        StreamEvent::Signature { signature, .. } => signature.value.len(),
        StreamEvent::Logprobs { json, .. } => json.get().len(),
        StreamEvent::Extra { fields, .. } => {
            fields.iter().map(|(name, value)| name.len() + value.get().len()).sum()
        }
        StreamEvent::PartEnd { .. } | StreamEvent::Finish { .. } | StreamEvent::Usage(_) => 0,
        // Citations and whole pieces: `Debug` is a little longer than what they hold.
        other => format!("{other:?}").len() / 4,
    }
}

/// Panics unless it is one JSON value, and says whose.
#[track_caller]
pub fn check_json(bytes: &[u8], whose: &str) {
    if let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(bytes) {
        panic!("{whose} wrote what is no JSON: {error}: {}", String::from_utf8_lossy(bytes));
    }
}

/// Panics unless `read` says what was `sent`: its text, and its tool calls in their order.
#[track_caller]
pub fn check_said(read: &InferenceResponse, sent: &InferenceResponse, target: Dialect, written: &[u8]) {
    let parts = || sent.choices.iter().flat_map(|choice| &choice.parts);
    // Dialects without a field for them write refusals as text, and pictures at a URL as Markdown; what only its vendor
    // knows is written for the vendor as it came, and may be read as something else where it then stands.
    let is_excused = |part: &hoosh_core::Part| match &part.kind {
        PartKind::Refusal(_) | PartKind::Image { .. } => true,
        PartKind::Other { maker, .. } => *maker == target,
        _ => false,
    };
    if !parts().any(is_excused) {
        assert_eq!(read.text, sent.text, "the text in {target}: {}", shown(written));
    }
    // Only OpenAI's and Gemini's answers can be more than one.
    if sent.choices.len() > 1 || matches!(target, Dialect::OpenAiCompletions | Dialect::OllamaGenerate) {
        return;
    }
    // Arguments that are no object cannot be written everywhere; what becomes of them is noted.
    let arguments =
        |text: &str| serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text).ok();
    let calls = |reply: &InferenceResponse| -> Vec<_> {
        // One without a name calls nothing.
        let named = reply.tool_calls().filter(|call| !call.name.is_empty());
        named.map(|call| (call.name.clone(), arguments(&call.arguments))).collect()
    };
    let (read, sent) = (calls(read), calls(sent));
    let is_same = |(ours, theirs): (&(String, Option<_>), &(String, Option<_>))| {
        ours.0 == theirs.0 && (theirs.1.is_none() || ours.1 == theirs.1)
    };
    let same = read.len() == sent.len() && read.iter().zip(&sent).all(is_same);
    assert!(same, "the tool calls in {target}, {read:?} for {sent:?}: {}", shown(written));
}

/// The text as a reader of a log sees it.
pub fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
