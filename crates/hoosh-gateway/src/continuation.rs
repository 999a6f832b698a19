//! A stream that broke in the middle is gone on with by another candidate, which is given what was written so far.
//!
//! Only text can be gone on with. A tool call, an answer in a schema and signed thinking would not be what the model meant.

use std::mem;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::{Stream, StreamExt, stream};
use hoosh_core::{
    EventStream, InferenceRequest, Message, ResponseFormat, Role, StreamEvent, UpstreamFailure, limits,
};
use hoosh_router::{Attempted, Candidate, Opening, Plan, RetryPolicy, Router, Terms, until_output};
use tokio::time::{Instant, timeout_at};

use crate::call::Call;
use crate::context::Edited;
use crate::count;
use crate::decisions::Decision;
use crate::events::{EventBus, Happened};
use crate::gateway::{Held, out_of_time};
use crate::lines::Lines;
use crate::settle::{FailedAttempt, Observer};

/// What it takes to go on with a call's stream.
pub(crate) struct Continuation {
    pub(crate) router: Router,
    pub(crate) lines: Lines,
    pub(crate) events: EventBus,
    pub(crate) observers: Arc<[Arc<dyn Observer>]>,
    pub(crate) call: Call,
    /// What was sent instead of its own to the first that wrote, who knew no more than that.
    pub(crate) edited: Option<Arc<Edited>>,
    pub(crate) decision: Arc<Decision>,
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
            let request = the_rest(asked.or_else(|| self.call.decoded().ok())?, &text)?;
            let plan = self.plan();
            let deadline = Instant::now() + limits::CONTINUE_TIME_MAX;
            let terms = Terms {
                policy: RetryPolicy::ONCE,
                deadline: Some(deadline.into_std()),
                ..self.router.terms()
            };
            let asked =
                self.router.attempt(&plan, terms, |opening| self.ask(opening, &request, &text, deadline));
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
    ) -> Result<(EventStream, Held), hoosh_router::Missed> {
        let candidate = opening.candidate;
        let mut request = request.clone();
        if let Some(most) = &mut request.max_tokens {
            *most = most.saturating_sub(count::text(&candidate.model, text)).max(1);
        }
        let (permits, _) = self.lines.wait(candidate, &self.call, Some(deadline), &self.events).await?;
        let attempt = opening.begin()?;
        self.decision.ask(candidate);
        let asked = async {
            let stream = candidate.provider.infer_stream(&candidate.model, &request).await?;
            until_output(stream).await
        };
        let asked = timeout_at(deadline, asked).await.unwrap_or_else(|_| Err(out_of_time(candidate)));
        let asked = asked.inspect_err(|failure| {
            self.decision.failed(candidate, failure);
            tracing::warn!(id = %self.call.id, %failure, "could not go on with a stream");
            let attempt = FailedAttempt { id: &self.call.id, candidate, failure, was_asked: true };
            self.observers.iter().for_each(|observer| observer.attempt_failed(&attempt));
        });
        let (stream, mut attempt) = attempt.judge(asked, Instant::now().into_std())?;
        attempt.first_output(Instant::now().into_std());
        Ok((stream, Held { attempt, permits }))
    }
}

fn is_same(one: &Candidate, other: &Candidate) -> bool {
    one.model == other.model && one.provider.name() == other.provider.name()
}

/// The request for the rest of an answer of which this text is there. `None` where the answer to it cannot be gone on with.
fn the_rest(request: &InferenceRequest, text: &str) -> Option<InferenceRequest> {
    let is_shaped = !matches!(request.response_format, None | Some(ResponseFormat::Text));
    let is_prefilled =
        request.prompt.is_empty() && request.messages.last().is_some_and(|last| last.role == Role::Assistant);
    if is_shaped || is_prefilled || request.n.is_some_and(|n| n > 1) {
        return None;
    }
    let mut rest = request.clone();
    // It has thought already, if it did, and thinking cannot begin behind text.
    (rest.reasoning_effort, rest.reasoning_budget, rest.show_reasoning) = (None, None, None);
    if !rest.prompt.is_empty() {
        rest.messages.push(Message::user(mem::take(&mut rest.prompt)));
    }
    // Anthropic refuses space at its end, and for others the next token would be an odd one.
    rest.messages.push(Message::assistant(text.trim_end()));
    Some(rest)
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
        let rest = the_rest(&asked, "Once ").unwrap();
        assert_eq!(rest.messages, [Message::user("Tell me"), Message::assistant("Once")]);
        assert!(rest.prompt.is_empty());
        for request in [
            InferenceRequest { n: Some(2), ..asked.clone() },
            InferenceRequest { response_format: Some(ResponseFormat::JsonObject), ..asked.clone() },
            InferenceRequest { prompt: String::new(), messages: vec![Message::assistant("I")], ..asked },
        ] {
            assert_eq!(the_rest(&request, "Once"), None);
        }
    }
}
