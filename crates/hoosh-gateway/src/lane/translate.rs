//! The lane through core's types, for a provider that does not speak the caller's dialect.

use std::mem;
use std::task::{Context, Poll};

use bytes::Bytes;
use hoosh_core::dialect::{Codec, Dialect, EncodeStream};
use hoosh_core::{
    Choice, EventStream, FailureKind, Fidelity, FidelityNote, FinishReason, InferenceRequest,
    InferenceResponse, PartKind, Problem, Provenance, Role, StreamEvent, UpstreamFailure, Usage, limits,
};
use hoosh_router::{Candidate, until_proven};
use http::HeaderMap;

use super::{Answer, AnswerBody, CUT_COMMENT, Lane, Meter, Rest, cannot_translate, takes_comments};
use crate::call::Call;
use crate::context::Edited;
use crate::count::{self, Prompt};
use crate::responses::Keeper;

pub(super) async fn ask(
    call: &Call,
    candidate: &Candidate,
    fidelity: Fidelity,
    edited: Option<&Edited>,
) -> Result<Answer, UpstreamFailure> {
    let Some(codec) = call.dialect.codec() else {
        return Err(UpstreamFailure::new(FailureKind::Unsupported, "it is no dialect for inference"));
    };
    let request = call.decoded().map_err(cannot_translate)?;
    if let Some(answer) = load(call, codec, request, &candidate.model) {
        return Ok(answer);
    }
    // What is kept, and repeated in the answer, is what was asked.
    let sent = edited.map_or(request, |edited| &edited.request);
    let limited = call.answer_max_of(candidate).map(|most| InferenceRequest {
        max_tokens: Some(sent.max_tokens.map_or(most, |asked| asked.min(most))),
        ..sent.clone()
    });
    let sent = limited.as_ref().unwrap_or(sent);
    if !call.head.stream {
        let mut reply = candidate.provider.infer(&candidate.model, sent).await?;
        let counted = || count::usage(&candidate.model, sent, &count::written(&reply.choices));
        reply.usage = count::believed(reply.usage, || Some(counted()));
        return Ok(whole(call, codec, request, reply));
    }
    let stream = candidate.provider.infer_stream(&candidate.model, sent).await?;
    let mut stream = until_proven(stream, candidate.options.stream_window).await?;
    let (notes, limits) = (mem::take(&mut stream.notes), mem::take(&mut stream.limits));
    let lane = TranslatedStream {
        tells_late: fidelity != Fidelity::Silent && takes_comments(call.dialect),
        encoder: codec.stream_encoder(&call.context(request, stream.origin)),
        keeper: call.keeper(request, stream.origin),
        stream: Some(stream),
        usage: None,
        late: Vec::new(),
        prompt: match edited {
            Some(edited) => Prompt::counted(call, &candidate.model, edited.receipt.tokens),
            None => Prompt::of(call, &candidate.model),
        },
        written: String::new(),
        bytes: 0,
        meter: Meter::of(call, &candidate.model),
        waits: None,
        choices: Vec::new(),
        text: candidate.options.continues.then(String::new),
        marks: takes_comments(call.dialect),
        before: None,
        ready: Vec::new(),
    };
    Ok(Answer { body: AnswerBody::Stream(Box::new(lane)), notes, limits })
}

/// Whether a call says nothing: Ollama's clients send that to have a model loaded, or unloaded.
pub(super) fn is_wordless(call: &Call) -> bool {
    let says_nothing = |request: &InferenceRequest| match call.dialect {
        Dialect::OllamaChat => request.conversation().next().is_none(),
        // Its template and system prompt may be there all the same.
        Dialect::OllamaGenerate => request.conversation().all(|message| message.role == Role::System),
        _ => false,
    };
    matches!(call.dialect, Dialect::OllamaChat | Dialect::OllamaGenerate)
        && call.decoded().is_ok_and(says_nothing)
}

/// Other providers see to loading themselves, so it is done.
fn load(call: &Call, codec: &dyn Codec, request: &InferenceRequest, model: &str) -> Option<Answer> {
    if !is_wordless(call) {
        return None;
    }
    let unloads =
        request.extra.get("keep_alive").is_some_and(|time| matches!(time.get(), "0" | "\"0\"" | "\"0s\""));
    let reason = FinishReason::Other(if unloads { "unload" } else { "load" }.to_owned());
    let choice = Choice { finish_reason: Some(reason), ..Choice::default() };
    let reply =
        InferenceResponse { model: model.to_owned(), ..InferenceResponse::from_choices(vec![choice]) };
    let body = codec.encode_reply(&reply, &call.context(request, None)).body;
    let body = AnswerBody::Full { body: body.into(), usage: None };
    Some(Answer { body, notes: Vec::new(), limits: HeaderMap::new() })
}

fn too_long() -> UpstreamFailure {
    let most = limits::REPLY_BODY_BYTES_MAX >> 20;
    UpstreamFailure::new(FailureKind::Garbage, format!("its answer is longer than {most} MiB"))
}

fn whole(call: &Call, codec: &dyn Codec, request: &InferenceRequest, reply: InferenceResponse) -> Answer {
    let usage = reply.usage;
    let encoded = codec.encode_reply(&reply, &call.context(request, reply.origin));
    if let Some(mut keeper) = call.keeper(request, reply.origin) {
        keeper.named(&reply.id);
        keeper.keep(&reply);
    }
    let mut notes = reply.notes;
    notes.extend(encoded.notes);
    Answer { body: AnswerBody::Full { body: encoded.body.into(), usage }, notes, limits: reply.limits }
}

struct TranslatedStream {
    /// Gone at its end.
    stream: Option<EventStream>,
    encoder: Box<dyn EncodeStream>,
    /// Whether late notes are told, in comments.
    tells_late: bool,
    usage: Option<Usage>,
    /// What could not be carried of the answer, known while it came.
    late: Vec<FidelityNote>,
    /// For counting, should the provider report no usage.
    prompt: Prompt,
    /// What the model wrote so far, for the same.
    written: String,
    /// What is held for it.
    meter: Option<Meter>,
    /// What does not fit into that as yet.
    waits: Option<StreamEvent>,
    /// The answers that have begun, and whether each is finished.
    choices: Vec<(u32, bool)>,
    /// How much it wrote: some dialects and the store of answers need the whole at its end.
    bytes: usize,
    /// What was written so far, while that is text alone and somebody may have to go on with it.
    text: Option<String>,
    /// Whether it is told in a comment that somebody else goes on.
    marks: bool,
    /// Whoever wrote before: what it took, and the tokens of it that were read again.
    before: Option<Before>,
    /// What goes out next.
    ready: Vec<u8>,
    /// Keeps the conversation at the end, in the dialect that can go on from it.
    keeper: Option<Keeper>,
}

/// What others wrote of a stream.
struct Before {
    /// The prompt once, and all that they wrote.
    usage: Option<Usage>,
    prefilled: u64,
    /// Whether who goes on thinks just now.
    thinks: bool,
}

impl Before {
    /// The usage of all, as the caller is told it: the prompt once, and all that was written.
    fn with(&self, rest: Usage) -> Usage {
        let before = self.usage.unwrap_or_default();
        let known =
            [before.input, before.cache_read, before.cache_write_5m, before.cache_write_1h, before.audio_in];
        // All of it from one of the two: their caches hold other parts of it.
        let prompt = match known.iter().any(Option::is_some) {
            true => before,
            false => without(rest, self.prefilled),
        };
        let sum = |before: Option<u64>, rest: Option<u64>| match (before, rest) {
            (None, None) => None,
            (before, rest) => Some(before.unwrap_or(0).saturating_add(rest.unwrap_or(0))),
        };
        Usage {
            output: Some(sum(before.output, rest.output).unwrap_or(0)),
            reasoning: sum(before.reasoning, rest.reasoning),
            audio_out: sum(before.audio_out, rest.audio_out),
            provenance: Provenance::Estimated,
            ..prompt
        }
    }

    /// Whether an event is of thoughts of who goes on, which would stand behind the text that is there.
    fn is_thought(&mut self, event: &StreamEvent) -> bool {
        let is_thought = match event {
            StreamEvent::Reasoning { .. } => true,
            StreamEvent::Part { part, .. } => {
                matches!(part.kind, PartKind::Reasoning(_) | PartKind::Redacted)
            }
            // These belong to the piece before them.
            StreamEvent::Signature { .. } | StreamEvent::PartEnd { .. } => self.thinks,
            _ => false,
        };
        self.thinks = is_thought && !matches!(event, StreamEvent::PartEnd { .. });
        is_thought
    }
}

/// A usage without so many tokens of its prompt, wherever they are counted.
fn without(usage: Usage, mut tokens: u64) -> Usage {
    let mut less = |part: Option<u64>| {
        part.map(|part| {
            let taken = part.min(tokens);
            tokens -= taken;
            part - taken
        })
    };
    // The text that is there stands at the end of the prompt, which caches come to last.
    let (input, cache_write_5m) = (less(usage.input), less(usage.cache_write_5m));
    let (cache_write_1h, cache_read) = (less(usage.cache_write_1h), less(usage.cache_read));
    Usage { input, cache_write_5m, cache_write_1h, cache_read, ..usage }
}

impl TranslatedStream {
    fn event(&mut self, event: StreamEvent, out: &mut Vec<u8>) {
        self.bytes += event.content_bytes();
        if self.before.as_mut().is_some_and(|before| before.is_thought(&event)) {
            if let StreamEvent::Reasoning { delta, .. } = &event {
                // It is paid for, though nobody gets to see it.
                self.count(delta);
            }
            return;
        }
        self.note_text(&event);
        let event = match (event, &self.before) {
            // It has begun, and who goes on has no word in that.
            (StreamEvent::Start { .. }, Some(_)) => return,
            (StreamEvent::Usage(usage), Some(before)) => {
                self.usage = Some(usage);
                let both = StreamEvent::Usage(before.with(usage));
                self.encoder.event(&both, out);
                return;
            }
            (event, _) => event,
        };
        match &event {
            StreamEvent::Usage(usage) => self.usage = Some(*usage),
            StreamEvent::Text { delta, .. }
            | StreamEvent::Reasoning { delta, .. }
            | StreamEvent::ToolCallDelta { arguments: delta, .. } => self.count(delta),
            _ => {}
        }
        self.encoder.event(&event, out);
        if let Some(keeper) = &mut self.keeper {
            keeper.event(event);
        }
    }

    /// Whether what is held for it has room for this too.
    fn fits(&mut self, event: &StreamEvent) -> bool {
        let Some(meter) = &mut self.meter else { return true };
        match event {
            // What is told of a part is not told of the whole.
            StreamEvent::Usage(usage) if self.before.is_none() => {
                meter.heard(Some(usage));
                true
            }
            StreamEvent::Text { delta, .. }
            | StreamEvent::Reasoning { delta, .. }
            | StreamEvent::Refusal { delta, .. }
            | StreamEvent::ToolCallDelta { arguments: delta, .. } => meter.takes(delta),
            _ => true,
        }
    }

    /// Follows which answers have begun, for whoever may have to end them.
    fn note_choice(&mut self, event: &StreamEvent) {
        let (choice, is_finished) = match event {
            StreamEvent::Finish { choice, .. } => (*choice, true),
            StreamEvent::Text { choice, .. }
            | StreamEvent::Reasoning { choice, .. }
            | StreamEvent::Refusal { choice, .. }
            | StreamEvent::ToolCallStart { choice, .. }
            | StreamEvent::Part { choice, .. } => (*choice, false),
            _ => return,
        };
        match self.choices.iter_mut().find(|(one, _)| *one == choice) {
            Some((_, finished)) => *finished |= is_finished,
            None => self.choices.push((choice, is_finished)),
        }
    }

    fn count(&mut self, delta: &str) {
        if self.written.len() + delta.len() <= limits::COUNTED_TEXT_BYTES_MAX {
            self.written.push_str(delta);
        }
    }

    /// Follows the text that somebody may have to go on with.
    fn note_text(&mut self, event: &StreamEvent) {
        let Some(text) = &mut self.text else { return };
        let goes_on = match event {
            StreamEvent::Text { choice: 0, delta } => {
                text.push_str(delta);
                text.len() <= limits::COUNTED_TEXT_BYTES_MAX
            }
            // It is over when text follows, and nothing is signed.
            StreamEvent::Reasoning { choice: 0, .. } => text.is_empty(),
            StreamEvent::PartEnd { choice: 0 } => text.is_empty(),
            StreamEvent::Start { .. }
            | StreamEvent::Usage(_)
            | StreamEvent::Extra { .. }
            | StreamEvent::Logprobs { .. } => true,
            _ => false,
        };
        if !goes_on {
            self.text = None;
        }
    }

    /// The end: usage if none came, what was lost, and the dialect's own last word.
    fn end(&mut self, out: &mut Vec<u8>) {
        if self.usage.is_none()
            && let Some(counted) = self.counted(None)
        {
            self.event(StreamEvent::Usage(counted), out);
        }
        let mut last = Vec::new();
        self.encoder.finish(&mut last);
        self.note_late(out);
        out.append(&mut last);
        if let Some(keeper) = self.keeper.take() {
            keeper.keep_streamed();
        }
    }

    fn note_late(&mut self, out: &mut Vec<u8>) {
        let notes = self.encoder.take_notes();
        if self.tells_late && !notes.is_empty() {
            let fields: Vec<String> = notes.iter().map(FidelityNote::to_string).collect();
            out.extend_from_slice(format!(": x-hoosh-lossy: {}\n\n", fields.join(", ")).as_bytes());
        }
        self.late.extend(notes);
    }
}

impl Lane for TranslatedStream {
    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, UpstreamFailure>>> {
        let this = self;
        let mut out = mem::take(&mut this.ready);
        loop {
            let Some(stream) = this.stream.as_mut() else { return Poll::Ready(None) };
            let next = match this.waits.take() {
                Some(event) => Poll::Ready(Some(Ok(event))),
                None => stream.events.as_mut().poll_next(cx),
            };
            match next {
                // What is ready now goes out in one write.
                Poll::Pending if out.is_empty() => return Poll::Pending,
                Poll::Pending => return Poll::Ready(Some(Ok(out.into()))),
                Poll::Ready(Some(Ok(event))) if !this.fits(&event) => {
                    this.waits = Some(event);
                    return Poll::Ready(Some(Ok(out.into())));
                }
                Poll::Ready(Some(Ok(event))) => {
                    this.note_choice(&event);
                    this.event(event, &mut out);
                    if this.bytes > limits::REPLY_BODY_BYTES_MAX
                        && let Some(stream) = &mut this.stream
                    {
                        stream.events = Box::pin(futures_util::stream::iter([Err(too_long())]));
                    }
                    if out.len() > limits::STREAM_WRITE_BYTES_MAX {
                        return Poll::Ready(Some(Ok(out.into())));
                    }
                }
                Poll::Ready(Some(Err(failure))) if out.is_empty() => return Poll::Ready(Some(Err(failure))),
                Poll::Ready(Some(Err(failure))) => {
                    let Some(stream) = this.stream.as_mut() else { return Poll::Ready(Some(Err(failure))) };
                    // The text before the fault is shown first, the fault with the next poll.
                    let fault = futures_util::stream::iter([Err(failure)]);
                    stream.events = Box::pin(fault);
                    return Poll::Ready(Some(Ok(out.into())));
                }
                Poll::Ready(None) => {
                    this.stream = None;
                    this.end(&mut out);
                    return Poll::Ready(Some(Ok(out.into())));
                }
            }
        }
    }

    fn usage(&self) -> Option<Usage> {
        self.usage
    }

    fn counted(&self, seen: Option<&Usage>) -> Option<Usage> {
        let counted = self.prompt.usage(&self.written, seen.is_some_and(|seen| seen.input.is_some()))?;
        let prefilled = self.before.as_ref().map_or(0, |before| before.prefilled);
        Some(Usage { input: counted.input.map(|input| input.saturating_add(prefilled)), ..counted })
    }

    fn so_far(&self) -> Option<&str> {
        self.text.as_deref().filter(|text| !text.trim().is_empty())
    }

    fn go_on(&mut self, rest: Rest) {
        let Rest { stream, to, from, model, before, prefilled } = rest;
        if self.marks {
            self.ready.extend_from_slice(format!(": x-hoosh-continued: from={from}; to={to}\n\n").as_bytes());
        }
        // Others may have written before that one.
        let usage = match &self.before {
            Some(earlier) => before.map(|usage| earlier.with(usage)).or(earlier.usage),
            None => before,
        };
        self.before = Some(Before { usage, prefilled, thinks: false });
        self.prompt.is_for(&model);
        self.written.clear();
        self.usage = None;
        self.stream = Some(stream);
    }

    fn take_notes(&mut self) -> Vec<FidelityNote> {
        mem::take(&mut self.late)
    }

    fn meter(&mut self) -> Option<&mut Meter> {
        self.meter.as_mut()
    }

    fn cut(&mut self, usage: &Usage, out: &mut Vec<u8>) {
        self.stream = None;
        self.waits = None;
        out.append(&mut self.ready);
        if self.marks {
            out.extend_from_slice(CUT_COMMENT);
        }
        if self.choices.is_empty() {
            self.choices.push((0, false)); // every answer has one
        }
        let open: Vec<u32> =
            self.choices.iter().filter(|(_, is_finished)| !is_finished).map(|(choice, _)| *choice).collect();
        for choice in open {
            self.event(StreamEvent::Finish { choice, reason: FinishReason::Length }, out);
        }
        self.event(StreamEvent::Usage(*usage), out);
        self.end(out);
    }

    fn is_done(&self) -> bool {
        self.stream.is_none()
    }

    fn reported(&mut self) -> Option<UpstreamFailure> {
        None
    }

    fn write_problem(&mut self, problem: &Problem, out: &mut Vec<u8>) {
        self.note_late(out);
        self.encoder.problem(problem, out);
    }
}

#[cfg(test)]
mod tests {
    use hoosh_core::{Part, ServiceTier};

    use super::*;

    const ALL: Usage = Usage {
        input: Some(4),
        cache_read: Some(16),
        cache_write_5m: None,
        cache_write_1h: None,
        output: Some(3),
        reasoning: Some(2),
        audio_in: None,
        audio_out: None,
        service_tier: ServiceTier::Standard,
        provenance: Provenance::Reported,
    };

    #[test]
    fn the_prompt_is_told_as_one_counted_it_and_all_that_was_written() {
        let before = |usage| Before { usage, prefilled: 6, thinks: false };
        let counted = Usage { input: Some(5), output: Some(2), ..Usage::default() };
        let cached = Usage { input: None, cache_read: Some(3), ..ALL };
        let both = |prompt: Usage, output, reasoning| Usage {
            output: Some(output),
            reasoning,
            provenance: Provenance::Estimated,
            ..prompt
        };
        // The caches of who goes on hold another part of it.
        assert_eq!(before(Some(counted)).with(ALL), both(counted, 5, Some(2)));
        assert_eq!(before(Some(cached)).with(ALL), both(cached, 6, Some(4)));
        // Nothing is known of the first: the prompt of the rest is longer by what was there.
        let known = Usage { input: Some(0), cache_read: Some(14), ..ALL };
        assert_eq!(before(None).with(ALL), both(known, 3, Some(2)));
        let written = Usage { output: Some(2), ..Usage::default() };
        assert_eq!(before(Some(written)).with(ALL), both(known, 5, Some(2)));
        assert_eq!(before(None).with(Usage::default()), both(Usage::default(), 0, None));
    }

    #[test]
    fn thoughts_of_who_goes_on_are_left_out_to_their_end() {
        let mut before = Before { usage: None, prefilled: 0, thinks: false };
        let reasoning = || StreamEvent::Reasoning { choice: 0, delta: "Hm".into() };
        let text = || StreamEvent::Text { choice: 0, delta: "So".into() };
        let end = || StreamEvent::PartEnd { choice: 0 };
        let hidden = StreamEvent::Part { choice: 0, part: Part::from(PartKind::Redacted) };
        for (event, expect) in [
            (end(), false),
            (reasoning(), true),
            (reasoning(), true),
            (end(), true),
            (hidden, true),
            (text(), false),
            (end(), false),
            (reasoning(), true),
            // Without a word of its end.
            (text(), false),
            (end(), false),
        ] {
            assert_eq!(before.is_thought(&event), expect, "{event:?}");
        }
    }
}
