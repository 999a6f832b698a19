//! Clients that take nothing of a stream that has something for them.
//!
//! hyper asks a body for more only when it could write what it had, so a body that is not asked again after it gave
//! something belongs to a client that does not read. No timer inside the body can see that.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use hoosh_core::limits::{CLIENT_STALL_CHECK, CLIENT_STALL_TIME_MAX};
use tokio::time::{Instant, interval};

/// The streams of one connection.
#[derive(Clone, Default)]
pub(crate) struct Stalls(Arc<Mutex<Streams>>);

#[derive(Default)]
struct Streams {
    alive: Vec<Weak<Stall>>,
    /// Whether the newest has no end of its own. It may be over and what it gave still be waiting to be written.
    newest_is_feed: bool,
}

/// Since when one stream has not been asked for more after it gave something.
#[derive(Default)]
pub(crate) struct Stall {
    since: Mutex<Option<Instant>>,
}

impl Stalls {
    /// One more stream.
    pub(crate) fn watch(&self) -> Arc<Stall> {
        self.add(false)
    }

    /// One more stream, without an end of its own.
    pub(crate) fn watch_feed(&self) -> Arc<Stall> {
        self.add(true)
    }

    /// Whether the newest stream has no end of its own: on HTTP/1, whether the connection carries nothing else.
    pub(crate) fn newest_is_feed(&self) -> bool {
        self.streams().newest_is_feed
    }

    fn add(&self, is_feed: bool) -> Arc<Stall> {
        let stall = Arc::default();
        let mut streams = self.streams();
        // Those of a kept connection that are over.
        streams.alive.retain(|stream| stream.strong_count() > 0);
        streams.alive.push(Arc::downgrade(&stall));
        streams.newest_is_feed = is_feed;
        stall
    }

    fn streams(&self) -> MutexGuard<'_, Streams> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ready when a stream has waited for its client for too long.
    pub(crate) async fn one_is_too_long(&self) {
        let mut looks = interval(CLIENT_STALL_CHECK);
        loop {
            looks.tick().await;
            if self.streams().alive.iter().filter_map(Weak::upgrade).any(|stall| stall.is_too_long()) {
                return;
            }
        }
    }
}

impl Stall {
    /// The stream gave something: now the client has to take it.
    pub(crate) fn gave(&self) {
        *self.since() = Some(Instant::now());
    }

    /// The stream is asked for more.
    pub(crate) fn is_asked(&self) {
        *self.since() = None;
    }

    fn is_too_long(&self) -> bool {
        self.since().is_some_and(|since| since.elapsed() > CLIENT_STALL_TIME_MAX)
    }

    fn since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::{sleep, timeout};

    #[tokio::test(start_paused = true)]
    async fn only_a_stream_that_gave_and_is_not_asked_again_stalls() {
        let stalls = Stalls::default();
        let (asked, stalled) = (stalls.watch(), stalls.watch());
        asked.gave();
        asked.is_asked();
        stalled.gave();
        let start = Instant::now();
        stalls.one_is_too_long().await;
        assert!(start.elapsed() > CLIENT_STALL_TIME_MAX);

        drop(stalled);
        let never = timeout(Duration::from_secs(3600), stalls.one_is_too_long());
        assert!(never.await.is_err());
        sleep(Duration::ZERO).await;
    }
}
