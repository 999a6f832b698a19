//! The commit point of a stream: what comes before its first output is held back, so that a failure there stays
//! invisible and another candidate can answer.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use std::vec;

use futures_util::{Stream, StreamExt};
use hoosh_core::limits::STREAM_HOLD_BYTES_MAX;
use hoosh_core::{EventStream, StreamEvent, UpstreamFailure};
use tokio::time::{Instant, timeout_at};

/// How long a stream is held back from its first output on: until either has come. Default: not at all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamWindow {
    /// This long. Zero: the events alone decide.
    pub time: Duration,
    /// Until so many events with output, the first among them. 0: the time alone decides.
    pub events: u32,
}

/// How far a stream is in its window.
#[derive(Debug)]
pub struct Holding {
    window: StreamWindow,
    /// When it is over by time, once there was output.
    until: Option<Instant>,
    outputs: u64,
}

/// Waits for the first event with output, and gives back the stream with nothing lost.
///
/// Vendors still report overload behind the envelope, so an envelope is no answer yet. Events without output are held
/// back up to [`STREAM_HOLD_BYTES_MAX`]; past that the stream is given back as it is. A stream that ends without output
/// and without failure is an empty answer.
///
/// The stream given back ends after its first failure and lets go of the provider's stream there.
///
/// # Errors
///
/// The failure that came before any output.
///
/// # Cancel safety
///
/// Dropping the future drops the stream, which cancels the call at the provider. How long it may stay silent is up to
/// the provider's own limits.
pub async fn until_output(stream: EventStream) -> Result<EventStream, UpstreamFailure> {
    until_proven(stream, StreamWindow::default()).await
}

/// The same, and holds back what comes within `window` of the first output too, so that a failure in that time stays
/// invisible. Every answer is that much later, unless it ends sooner; past [`STREAM_HOLD_BYTES_MAX`] it is over whatever it
/// says.
///
/// # Errors
///
/// The failure that came before the window was over.
///
/// # Cancel safety
///
/// As for [`until_output`].
pub async fn until_proven(stream: EventStream, window: StreamWindow) -> Result<EventStream, UpstreamFailure> {
    let EventStream { mut events, notes, origin, limits } = stream;
    let mut held = Vec::new();
    let (mut held_bytes, mut holding) = (0, Holding::new(window));
    let rest = loop {
        let Some(next) = holding.within(events.next()).await else { break Some(events) };
        let Some(event) = next.transpose()? else { break None };
        held_bytes += bytes(&event) + if holding.has_output() { event.content_bytes() } else { 0 };
        holding.saw(u64::from(event.is_output()));
        held.push(event);
        if held_bytes > STREAM_HOLD_BYTES_MAX || holding.is_over() {
            break Some(events);
        }
    };
    Ok(EventStream { events: Box::pin(Replay { held: held.into_iter(), rest }), notes, origin, limits })
}

type Events = Pin<Box<dyn Stream<Item = Result<StreamEvent, UpstreamFailure>> + Send>>;

/// Held events, then the rest up to its end or first failure.
struct Replay {
    held: vec::IntoIter<StreamEvent>,
    rest: Option<Events>,
}

/// About what an event without output keeps in memory.
fn bytes(event: &StreamEvent) -> usize {
    let more = match event {
        StreamEvent::Start { id, model, .. } => id.len() + model.len(),
        StreamEvent::Logprobs { json, .. } => json.get().len(),
        StreamEvent::Extra { fields, .. } => {
            fields.iter().map(|(name, value)| name.len() + value.get().len()).sum()
        }
        _ => 0,
    };
    size_of::<StreamEvent>() + more
}

// === impl StreamWindow ===

impl StreamWindow {
    /// Whether the first output is its end.
    pub fn is_empty(self) -> bool {
        match self.events {
            0 => self.time.is_zero(),
            events => events == 1,
        }
    }
}

impl From<Duration> for StreamWindow {
    fn from(time: Duration) -> Self {
        Self { time, events: 0 }
    }
}

// === impl Holding ===

impl Holding {
    /// At the beginning of a stream.
    pub fn new(window: StreamWindow) -> Self {
        Self { window, until: None, outputs: 0 }
    }

    /// What comes next, unless the time is over first: `None`.
    ///
    /// # Cancel safety
    ///
    /// That of `next`.
    pub async fn within<T>(&self, next: impl Future<Output = T>) -> Option<T> {
        match self.until {
            None => Some(next.await),
            Some(until) => timeout_at(until, next).await.ok(),
        }
    }

    /// So many events with output have come now.
    pub fn saw(&mut self, outputs: u64) {
        if outputs > 0 && self.outputs == 0 {
            self.until = (!self.window.time.is_zero()).then(|| Instant::now() + self.window.time);
        }
        self.outputs += outputs;
    }

    /// Whether there was output.
    pub fn has_output(&self) -> bool {
        self.outputs > 0
    }

    /// Whether the window is over by what has come.
    pub fn is_over(&self) -> bool {
        let is_full = self.window.events > 0 && self.outputs >= u64::from(self.window.events);
        self.has_output() && (self.window.is_empty() || is_full)
    }
}

// === impl Replay ===

impl Stream for Replay {
    type Item = Result<StreamEvent, UpstreamFailure>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(event) = self.held.next() {
            return Poll::Ready(Some(Ok(event)));
        }
        let Some(rest) = &mut self.rest else { return Poll::Ready(None) };
        let polled = rest.poll_next_unpin(context);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.rest = None;
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::{FutureExt, stream};
    use hoosh_core::{FailureKind, FidelityNote};

    use super::*;
    use crate::scripted::{failure, finish, start, text};

    type Item = Result<StreamEvent, UpstreamFailure>;

    /// Holds these, and compares how many had to be read until the commit point and all that comes out.
    async fn check(items: Vec<Item>, read_expect: usize, expect: Result<Vec<Item>, UpstreamFailure>) {
        let read = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&read);
        let events = stream::iter(items).inspect(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        let notes = vec![FidelityNote::new("seed")];
        let held = until_output(EventStream { notes: notes.clone(), ..EventStream::new(events) }).await;
        assert_eq!(read.load(Ordering::Relaxed), read_expect);
        match (held, expect) {
            (Ok(stream), Ok(expect)) => {
                assert_eq!(stream.notes, notes);
                assert_eq!(stream.events.collect::<Vec<_>>().await, expect);
            }
            (Err(failure), Err(expect)) => assert_eq!(failure, expect),
            (held, expect) => panic!("{held:?}, expected {expect:?}"),
        }
    }

    #[tokio::test]
    async fn nothing_is_lost_and_nothing_read_ahead() {
        let all = || vec![Ok(start()), Ok(text("")), Ok(text("hi")), Ok(text(" you")), Ok(finish())];
        check(all(), 3, Ok(all())).await;
    }

    #[tokio::test]
    async fn a_failure_before_output_is_a_failed_attempt() {
        let overloaded = failure(FailureKind::Failed);
        check(vec![Ok(start()), Err(overloaded.clone())], 2, Err(overloaded.clone())).await;
        check(vec![Err(overloaded.clone()), Ok(text("hi"))], 1, Err(overloaded)).await;
    }

    #[tokio::test]
    async fn a_failure_after_output_is_an_item_and_the_end() {
        let broken = failure(FailureKind::Broken);
        let items = vec![Ok(text("hi")), Err(broken.clone()), Ok(text("never seen"))];
        check(items, 1, Ok(vec![Ok(text("hi")), Err(broken)])).await;
    }

    #[tokio::test]
    async fn an_answer_without_output_is_an_answer() {
        check(vec![Ok(start())], 1, Ok(vec![Ok(start())])).await;
        check(vec![], 0, Ok(vec![])).await;
    }

    #[tokio::test]
    async fn what_is_held_is_bounded() {
        let big = || StreamEvent::Start {
            id: "x".repeat(STREAM_HOLD_BYTES_MAX / 2),
            model: "m".into(),
            created: None,
        };
        let all = || vec![Ok(big()), Ok(big()), Ok(big()), Ok(text("hi"))];
        check(all(), 2, Ok(all())).await;
    }

    #[test]
    fn a_silent_stream_is_waited_for() {
        let events = stream::iter([Ok(start())]).chain(stream::pending());
        let held = until_output(EventStream::new(events));
        assert!(held.now_or_never().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_within_the_window_is_a_failed_attempt_too() {
        let after = |millis, item: Item| async move {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            item
        };
        let broken = failure(FailureKind::Broken);
        let time = Duration::from_millis(500);
        let window = StreamWindow::from(time);
        let early = stream::iter([Ok(text("hi"))]).chain(stream::once(after(400, Err(broken.clone()))));
        let held = until_proven(EventStream::new(early), window).await;
        assert_eq!(held.unwrap_err(), broken);

        // Later it is one for the client to see, and nothing is lost or waited for longer.
        let late = stream::iter([Ok(text("hi"))]).chain(stream::once(after(900, Err(broken.clone()))));
        let start = tokio::time::Instant::now();
        let held = until_proven(EventStream::new(late), window).await.unwrap();
        assert_eq!(start.elapsed(), time);
        assert_eq!(held.events.collect::<Vec<_>>().await, [Ok(text("hi")), Err(broken)]);

        // One that ends sooner is not held longer.
        let short = stream::iter([Ok(text("hi")), Ok(finish())]);
        let start = tokio::time::Instant::now();
        assert!(until_proven(EventStream::new(short), window).await.is_ok());
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_window_of_events_is_over_with_the_last_of_them_or_with_its_time() {
        // One output every 100 ms, and a break after five.
        let slow = || {
            let broken = stream::once(async { Err(failure(FailureKind::Broken)) });
            stream::iter((0..5).map(|_| Ok(text("hi")))).chain(broken).then(|item| async move {
                tokio::time::sleep(Duration::from_millis(100)).await;
                item
            })
        };
        for (millis, events, expect) in [
            (0, 0, Ok(100)),
            (0, 1, Ok(100)),
            (0, 3, Ok(300)),
            (0, 5, Ok(500)),
            // The failure comes within it.
            (0, 6, Err(600)),
            (10_000, 1_000, Err(600)),
            (150, 3, Ok(250)),
            (250, 3, Ok(300)),
            (150, 1, Ok(100)),
        ] {
            let window = StreamWindow { time: Duration::from_millis(millis), events };
            let start = tokio::time::Instant::now();
            let held = until_proven(EventStream::new(slow()), window).await;
            let took = start.elapsed().as_millis();
            assert_eq!(held.as_ref().map(|_| took).map_err(|_| took), expect, "{window:?}");
            if let Ok(held) = held {
                assert_eq!(held.events.collect::<Vec<_>>().await.len(), 6, "nothing is lost");
            }
        }
    }
}
