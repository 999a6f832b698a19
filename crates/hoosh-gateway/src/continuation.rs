//! A stream that broke in the middle is gone on with by another candidate, which is given what was written so far.
//!
//! Only text can be gone on with. A tool call, an answer in a schema and signed thinking would not be what the model meant.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::BoxFuture;
use futures_util::{Stream, StreamExt, stream};
use hoosh_budget::Refusal;
use hoosh_core::dialect::Dialect;
use hoosh_core::json::RawJson;
use hoosh_core::{
    EventStream, FailureKind, Fault, InferenceRequest, Message, ResponseFormat, Retry, Role, StreamEvent,
    UpstreamFailure, limits,
};
use hoosh_router::{
    Attempted, Candidate, Missed, Opening, Plan, RetryBudget, RetryPolicy, Router, Terms, until_output,
};
use tokio::time::Instant;

use crate::admission::Admissions;
use crate::asking::Asking;
use crate::budget;
use crate::call::Call;
use crate::context::Edited;
use crate::count;
use crate::decisions::Decision;
use crate::events::{EventBus, Happened};
use crate::gateway::Held;
use crate::lines::Lines;
use crate::settle::{Observer, Tally};

/// What it takes to go on with a call's stream.
pub(crate) struct Continuation {
    pub(crate) router: Router,
    pub(crate) lines: Lines,
    pub(crate) admissions: Admissions,
    pub(crate) events: EventBus,
    pub(crate) observers: Arc<[Arc<dyn Observer>]>,
    pub(crate) call: Call,
    /// What was sent instead of its own to the first that wrote, who knew no more than that.
    pub(crate) edited: Option<Arc<Edited>>,
    pub(crate) decision: Arc<Decision>,
    /// What its caller has left for one that has written of it already.
    pub(crate) budget: Arc<RetryBudget>,
    /// Where it is counted who is asked.
    pub(crate) tally: Arc<Tally>,
    /// Where more is held for what is read once more. `None`: no pool is charged.
    pub(crate) purse: Option<budget::Purse>,
    /// Those that have written of it, the last one last.
    pub(crate) wrote: Vec<Candidate>,
}

/// Somebody goes on with a stream.
pub(crate) struct Continued {
    /// What it writes.
    pub(crate) stream: EventStream,
    /// Who.
    pub(crate) candidate: Candidate,
    pub(crate) held: Held,
    /// Tokens of what was there before, as its model counts them.
    pub(crate) prefilled: u64,
    /// For the next time.
    pub(crate) continuation: Box<Continuation>,
}

impl Continuation {
    /// Asks somebody else for the rest of an answer of which this is there. `None`: nobody can give it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the call at the provider.
    pub(crate) fn go_on(
        self: Box<Self>,
        text: String,
        failure: UpstreamFailure,
    ) -> BoxFuture<'static, Option<Continued>> {
        Box::pin(async move {
            let from = self.wrote.last()?;
            self.decision.broke(from, &failure);
            let asked = self.edited.as_ref().map(|edited| &edited.request);
            let request = asked.or_else(|| self.call.decoded().ok()).filter(|request| has_a_rest(request))?;
            let plan = self.plan();
            let left = AtomicUsize::new(plan.candidates.len());
            let deadline = Instant::now() + limits::CONTINUE_TIME_MAX;
            let terms = Terms {
                policy: RetryPolicy::ONCE,
                deadline: Some(deadline.into_std()),
                ..self.router.terms()
            };
            let ask = |opening| {
                // Each is asked once.
                let deadline = share(deadline, left.fetch_sub(1, Ordering::Relaxed));
                self.ask(opening, request, &text, deadline)
            };
            let asked = self.router.attempt(&plan, terms, ask);
            let Attempted { value: (stream, held), candidate, .. } = asked.await.ok()?;
            self.decision.answers(candidate);
            self.events.tell(|| Happened::Continued {
                id: self.call.id.clone(),
                from: from.into(),
                to: candidate.into(),
            });
            let (candidate, prefilled) = (candidate.clone(), count::text(&candidate.model, &text));
            let stream = EventStream { events: Box::pin(rest_alone(stream.events, &text)), ..stream };
            let mut continuation = self;
            continuation.wrote.push(candidate.clone());
            Some(Continued { stream, candidate, held, prefilled, continuation })
        })
    }

    /// Those of the plan that can go on. Who has written of it already comes last: it may only have lost a connection.
    fn plan(&self) -> Plan {
        let mut plan = self.decision.plan.clone();
        plan.candidates.retain(Candidate::prefills);
        plan.resting.clear();
        plan.candidates.sort_by_key(|candidate| self.has_written(candidate));
        // One that broke twice in an answer is not asked a third time.
        let often =
            |candidate: &Candidate| self.wrote.iter().filter(|one| is_same(one, candidate)).count() > 1;
        plan.candidates.retain(|candidate| !often(candidate));
        plan
    }

    /// Who wrote before the last one.
    pub(crate) fn wrote_before(&self) -> String {
        self.wrote.iter().rev().nth(1).map(Candidate::to_string).unwrap_or_default()
    }

    fn has_written(&self, candidate: &Candidate) -> bool {
        self.wrote.iter().any(|one| is_same(one, candidate))
    }

    async fn ask(
        &self,
        opening: Opening<'_>,
        request: &InferenceRequest,
        text: &str,
        deadline: Instant,
    ) -> Result<(EventStream, Held), Missed> {
        let candidate = opening.candidate;
        let is_again = self.has_written(candidate);
        if is_again && !self.budget.spend() {
            tracing::debug!(id = %self.call.id, %candidate, "its caller has no further try left");
            return Err(spent(candidate).into());
        }
        let mut request = the_rest(request, text, |dialect| candidate.provider.speaks(dialect));
        if let Some(most) = self.call.answer_max_of(candidate) {
            request.max_tokens = Some(request.max_tokens.map_or(most, |asked| asked.min(most)));
        }
        if let Some(most) = &mut request.max_tokens {
            *most = most.saturating_sub(count::text(&candidate.model, text)).max(1);
        }
        if let Some(purse) = &self.purse {
            let prompt = count::prompt(&candidate.model, &request);
            let more = budget::leg(&self.decision.plan, candidate, self.call.id.unix_seconds(), prompt);
            if let Err(refusal) = purse.hold(more).await {
                if is_again {
                    self.budget.refund();
                }
                return Err(unpaid(candidate, &refusal).into());
            }
        }
        let ask = async {
            let mut duty = GivenUp { tally: &self.tally, candidate, request: &request, is_over: false };
            let asked = async {
                let stream = candidate.provider.infer_stream(&candidate.model, &request).await?;
                until_output(stream).await
            };
            let asked = asked.await;
            // Whoever failed did no work, as far as is known; who is not waited for may do it all the same.
            duty.is_over = !matches!(&asked, Err(failure) if failure.kind == FailureKind::Timeout);
            asked
        };
        let asking = Asking {
            call: &self.call,
            decision: &self.decision,
            lines: &self.lines,
            admissions: &self.admissions,
            events: &self.events,
            observers: &self.observers,
            asked: &self.tally.asked,
        };
        let asked = asking.ask(&opening, Some(deadline), ask).await;
        if is_again && matches!(asked, Err(Missed::Resting(_))) {
            self.budget.refund();
        }
        let (stream, mut held, _) = asked?;
        held.attempt.first_output(Instant::now().into_std());
        Ok((stream, held))
    }
}

/// The duty to book one that is given up before it answers or fails.
struct GivenUp<'a> {
    tally: &'a Tally,
    candidate: &'a Candidate,
    request: &'a InferenceRequest,
    is_over: bool,
}

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.tally.given_up(self.candidate, count::prompt(&self.candidate.model, self.request));
        }
    }
}

/// Until when one of so many that are left may take: its share of the time, and no less than it needs while there is any.
fn share(deadline: Instant, left: usize) -> Instant {
    let now = Instant::now();
    let left = u32::try_from(left.max(1)).unwrap_or(u32::MAX);
    let share = deadline.saturating_duration_since(now) / left;
    deadline.min(now + share.max(limits::CONTINUE_SHARE_TIME_MIN))
}

/// It is our doing that one is not asked once more.
fn spent(candidate: &Candidate) -> UpstreamFailure {
    let failure = UpstreamFailure::new(FailureKind::RateLimited, "the caller has no further try left");
    UpstreamFailure { fault: Fault::Caller, retry: Retry::Elsewhere, ..failure.at(candidate.provider.name()) }
}

/// Nothing is held for its prompt, so that it is not asked.
fn unpaid(candidate: &Candidate, refusal: &Refusal) -> UpstreamFailure {
    let message = format!("nobody is asked to go on: {refusal}");
    let failure = UpstreamFailure::new(FailureKind::RateLimited, message);
    UpstreamFailure {
        fault: Fault::Caller,
        retry: Retry::Elsewhere,
        was_asked: false,
        ..failure.at(candidate.provider.name())
    }
}

fn is_same(one: &Candidate, other: &Candidate) -> bool {
    one.model == other.model && one.provider.name() == other.provider.name()
}

/// Whether an answer can be gone on with that is text so far.
fn has_a_rest(request: &InferenceRequest) -> bool {
    let is_shaped = !matches!(request.response_format, None | Some(ResponseFormat::Text));
    let is_prefilled =
        request.prompt.is_empty() && request.messages.last().is_some_and(|last| last.role == Role::Assistant);
    // What leads to the suffix, repeats the prompt, or goes by a form or a state of one model's is no text to go on from.
    let is_odd = |(name, value): (&str, &RawJson)| match name {
        "echo" => value.get() == "true",
        "suffix" | "template" | "context" => !matches!(value.get(), "null" | "\"\"" | "[]"),
        // Its prompt has become a message, as only pictures do to it.
        "raw" => value.get() == "true" && request.prompt.is_empty(),
        _ => false,
    };
    let is_completion = matches!(request.origin, Some(Dialect::OpenAiCompletions | Dialect::OllamaGenerate));
    let is_odd = is_completion && request.extra.iter().any(is_odd);
    !(is_shaped || is_prefilled || is_odd || request.n.is_some_and(|n| n > 1))
}

/// The request for the rest of an answer of which this text is there, for one who speaks these dialects.
fn the_rest(request: &InferenceRequest, text: &str, speaks: impl Fn(Dialect) -> bool) -> InferenceRequest {
    let mut rest = request.clone();
    // It has thought already, if it did, and thinking cannot begin behind text.
    (rest.reasoning_effort, rest.reasoning_budget, rest.show_reasoning) = (None, None, None);
    // Anthropic refuses space at its end, and for others the next token would be an odd one.
    let text = text.trim_end();
    let is_raw = match rest.origin {
        Some(Dialect::OpenAiCompletions) => true,
        Some(Dialect::OllamaGenerate) => rest.extra.get("raw").is_some_and(|raw| raw.get() == "true"),
        _ => false,
    };
    if is_raw && !rest.prompt.is_empty() && rest.origin.is_some_and(speaks) {
        // The model sees the prompt alone, and goes on from its end.
        rest.prompt.push_str(text);
        return rest;
    }
    if rest.origin == Some(Dialect::OllamaGenerate) {
        // It is a conversation by the model's template, and only there the answer can have begun.
        rest.origin = Some(Dialect::OllamaChat);
    }
    if !rest.prompt.is_empty() {
        rest.messages.push(Message::user(mem::take(&mut rest.prompt)));
    }
    rest.messages.push(Message::assistant(text));
    rest
}

/// The events without what is there already: some servers repeat the text that they go on with, and models begin with the
/// space that was cut off its end.
fn rest_alone<S>(events: S, text: &str) -> impl Stream<Item = S::Item> + Send + use<S>
where
    S: Stream<Item = Result<StreamEvent, UpstreamFailure>> + Send,
{
    let mut echo = Echo::of(text);
    events.flat_map(move |item| {
        let items: Vec<_> = match item {
            Ok(StreamEvent::Text { choice: 0, delta }) => echo.pass(delta).map(Ok).into_iter().collect(),
            other => echo.flush().map(Ok).into_iter().chain([other]).collect(),
        };
        stream::iter(items)
    })
}

/// Compares what comes with what is there.
struct Echo {
    /// What may be repeated; empty once that is decided.
    text: String,
    /// The space at its end, of which the model may write some again.
    space: String,
    /// What came so far and looks like it.
    held: String,
    has_begun: bool,
}

impl Echo {
    fn of(text: &str) -> Self {
        let trimmed = text.trim_end();
        let space = text[trimmed.len()..].to_owned();
        let text = if trimmed.len() < limits::ECHO_BYTES_MIN { String::new() } else { trimmed.to_owned() };
        Self { text, space, held: String::new(), has_begun: false }
    }

    fn pass(&mut self, delta: String) -> Option<StreamEvent> {
        if self.has_begun {
            return Some(StreamEvent::Text { choice: 0, delta });
        }
        self.held.push_str(&delta);
        if self.held.len() < self.text.len() && self.text.starts_with(&self.held) {
            return None;
        }
        if !self.text.is_empty()
            && let Some(new) = self.held.strip_prefix(&self.text)
        {
            self.held = new.to_owned();
            self.text.clear();
        }
        self.flush()
    }

    /// What was held back is new after all.
    fn flush(&mut self) -> Option<StreamEvent> {
        if self.has_begun || self.held.is_empty() {
            return None;
        }
        self.has_begun = true;
        let held = mem::take(&mut self.held);
        let again = held.chars().zip(self.space.chars()).take_while(|(new, old)| new == old);
        let delta = held[again.map(|(new, _)| new.len_utf8()).sum()..].to_owned();
        (!delta.is_empty()).then_some(StreamEvent::Text { choice: 0, delta })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const TEXT: &str = "Once upon a time there was a gateway. ";

    async fn check(text: &str, deltas: &[&str], expect: &str) {
        let events = deltas.iter().map(|&delta| Ok(StreamEvent::Text { choice: 0, delta: delta.to_owned() }));
        let events = events.chain([Ok(StreamEvent::PartEnd { choice: 0 })]);
        let all: Vec<_> = rest_alone(stream::iter(events.collect::<Vec<_>>()), text).collect().await;
        let written = all.iter().map(|event| match event {
            Ok(StreamEvent::Text { delta, .. }) => delta.as_str(),
            _ => "|",
        });
        assert_eq!(written.collect::<String>(), format!("{expect}|"), "{deltas:?}");
    }

    #[tokio::test]
    async fn what_is_there_is_not_written_again() {
        check(TEXT, &["It", " was"], "It was").await;
        check(TEXT, &[" It", " was"], "It was").await;
        check(TEXT.trim_end(), &[" It"], " It").await;
        // Repeated, in whatever pieces.
        check(TEXT, &[TEXT, "It was"], "It was").await;
        check(TEXT, &["Once upon a", " time there was a gateway.", " It"], "It").await;
        check(TEXT, &["Once upon a time there was a gateway. It", " was"], "It was").await;
        // Not repeated after all.
        check(TEXT, &["Once upon", " another time"], "Once upon another time").await;
        check(TEXT, &["Once upon"], "Once upon").await;
        check("Ha", &["Ha", "!"], "Ha!").await;
        check(TEXT, &[], "").await;
    }

    #[test]
    fn only_text_alone_can_be_gone_on_with() {
        let asked = InferenceRequest { prompt: "Tell me".into(), max_tokens: Some(9), ..Default::default() };
        assert!(has_a_rest(&asked));
        let rest = the_rest(&asked, "Once ", |_| true);
        assert_eq!(rest.messages, [Message::user("Tell me"), Message::assistant("Once")]);
        assert!(rest.prompt.is_empty());
        for request in [
            InferenceRequest { n: Some(2), ..asked.clone() },
            InferenceRequest { response_format: Some(ResponseFormat::JsonObject), ..asked.clone() },
            InferenceRequest { prompt: String::new(), messages: vec![Message::assistant("I")], ..asked },
        ] {
            assert!(!has_a_rest(&request), "{request:?}");
        }
    }

    /// Goes on with `Once ` and gives the prompt and the messages of the rest; `None` where that cannot be.
    fn rest_of(dialect: Dialect, body: &str, speaks: bool) -> Option<(String, Vec<Message>)> {
        let request = dialect.codec().unwrap().decode_request(body.as_bytes()).unwrap();
        let rest = has_a_rest(&request).then(|| the_rest(&request, "Once ", |_| speaks))?;
        let is_own = rest.origin == Some(dialect) || rest.origin == Some(Dialect::OllamaChat);
        assert!(is_own, "{:?}", rest.origin);
        Some((rest.prompt, rest.messages))
    }

    #[test]
    fn a_raw_completion_is_gone_on_with_at_the_end_of_its_prompt() {
        let (completions, generate) = (Dialect::OpenAiCompletions, Dialect::OllamaGenerate);
        let raw = Some(("Tell: Once".to_owned(), vec![]));
        let said = Some((String::new(), vec![Message::user("Tell: "), Message::assistant("Once")]));
        let body = r#"{"model":"m","prompt":"Tell: ""#;
        for (dialect, more, speaks, expect) in [
            (completions, "", true, &raw),
            // Who knows only conversations is told one.
            (completions, "", false, &said),
            (completions, r#","suffix":null,"echo":false"#, true, &raw),
            (completions, r#","suffix":" end""#, true, &None),
            (completions, r#","echo":true"#, true, &None),
            (generate, r#","raw":true"#, true, &raw),
            (generate, "", true, &said),
            (generate, r#","raw":false,"context":[]"#, true, &said),
            (generate, r#","raw":true,"suffix":")""#, true, &None),
            (generate, r#","context":[1,2]"#, true, &None),
            (generate, r#","template":"{{ .Prompt }}""#, true, &None),
            (generate, r#","raw":true,"images":["aGk="]"#, true, &None),
        ] {
            assert_eq!(rest_of(dialect, &format!("{body}{more}}}"), speaks), *expect, "{dialect}: {more}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_hangs_leaves_time_for_the_others() {
        let now = Instant::now();
        let after = |seconds| now + Duration::from_secs(seconds);
        let times = [(30, 1, 30), (30, 2, 15), (30, 8, 10), (15, 3, 10), (6, 4, 6), (0, 1, 0)];
        for (left, candidates, expect) in times {
            assert_eq!(share(after(left), candidates), after(expect), "{left} s for {candidates}");
        }
    }
}
