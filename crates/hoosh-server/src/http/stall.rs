//! Clients that take nothing of a stream that has something for them.
//!
//! hyper asks a body for more only when it could write what it had, so a body that is not asked again after it gave
//! something belongs to a client that does not read. No timer inside the body can see that.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use hoosh_core::limits::{CLIENT_STALL_CHECK, CLIENT_STALL_TIME_MAX};
use tokio::time::{Instant, interval};

/// The streams of one connection.
#[derive(Clone, Default)]
pub(crate) struct Stalls(Arc<Mutex<Vec<Weak<Stall>>>>);

/// Since when one stream has not been asked for more after it gave something.
#[derive(Default)]
pub(crate) struct Stall {
    since: Mutex<Option<Instant>>,
    /// Whether it has no end of its own.
    is_feed: bool,
}

impl Stalls {
    /// One more stream.
    pub(crate) fn watch(&self) -> Arc<Stall> {
        self.add(Stall::default())
    }

    /// One more stream, without an end of its own.
    pub(crate) fn watch_feed(&self) -> Arc<Stall> {
        self.add(Stall { is_feed: true, ..Stall::default() })
    }

    /// Whether a stream without an end of its own goes on.
    pub(crate) fn hold_a_feed(&self) -> bool {
        let streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        streams.iter().filter_map(Weak::upgrade).any(|stall| stall.is_feed)
    }

    fn add(&self, stall: Stall) -> Arc<Stall> {
        let stall = Arc::new(stall);
        let mut streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Those of a kept connection that are over.
        streams.retain(|stream| stream.strong_count() > 0);
        streams.push(Arc::downgrade(&stall));
        stall
    }

    /// Ready when a stream has waited for its client for too long.
    pub(crate) async fn one_is_too_long(&self) {
        let mut looks = interval(CLIENT_STALL_CHECK);
        loop {
            looks.tick().await;
            let streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if streams.iter().filter_map(Weak::upgrade).any(|stall| stall.is_too_long()) {
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

    fn since(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
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
