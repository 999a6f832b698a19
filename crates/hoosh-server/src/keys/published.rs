//! Keys for signed tokens that an identity provider publishes: fetched from its URL, and again, since it changes them.
//!
//! They are fetched when the server starts, at an interval, and when a token comes that is signed with none of them: the provider
//! may have begun to use another one. The last good set stays as long as there is no better one. One fetch is under way at a
//! time, by a task of its own that no client can end, and after each there is a rest: whoever sends tokens of no key at all
//! cannot make the gateway ask more often.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hoosh_budget::jwt::{JwkSet, KeysFrom};
use hoosh_core::limits::{JWKS_BYTES_MAX, JWKS_REST, JWKS_TIME_MAX};
use hoosh_providers::WebClient;
use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue, Method, Uri};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::task::TaskTracker;

use crate::app::App;

/// What is published at a URL.
#[derive(Debug)]
pub(crate) struct Published {
    url: Uri,
    web: WebClient,
    /// The last set that could be used. Empty: none was fetched yet.
    json: Mutex<Bytes>,
    /// How often there was another one.
    version: AtomicU64,
    /// When it was asked for last. Held while that is under way.
    asked: tokio::sync::Mutex<Option<Instant>>,
    /// The fetch under way. Nobody waits for it at a stop: it ends by its own time.
    fetches: TaskTracker,
}

/// Fetches what the configuration in use names, at once and then at its interval, as long as the server runs.
pub(crate) async fn keep_up(mut apps: watch::Receiver<Arc<App>>) {
    loop {
        let published = apps.borrow_and_update().keys.published();
        let Some((published, interval)) = published else {
            if apps.changed().await.is_err() {
                return;
            }
            continue;
        };
        // Nothing yet: soon again, since nobody with a token gets in.
        published.refresh().await;
        let rest = match interval {
            _ if !published.is_there() => JWKS_REST,
            Some(interval) => interval.max(JWKS_REST),
            None => Duration::MAX,
        };
        tokio::select! {
            () = sleep(rest) => {}
            // Perhaps another URL.
            changed = apps.changed() => if changed.is_err() { return },
        }
    }
}

// === impl Published ===

impl Published {
    pub(crate) fn new(url: Uri) -> Self {
        Self {
            url,
            web: WebClient::new(JWKS_TIME_MAX),
            json: Mutex::default(),
            version: AtomicU64::new(0),
            asked: tokio::sync::Mutex::default(),
            fetches: TaskTracker::new(),
        }
    }

    pub(crate) fn url(&self) -> &Uri {
        &self.url
    }

    /// Whether any set was fetched.
    pub(crate) fn is_there(&self) -> bool {
        self.version() > 0
    }

    /// Which set it is, from 1. 0: none was fetched yet.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The last set that could be used.
    pub(crate) fn keys(&self) -> Option<JwkSet> {
        let json = self.json.lock().unwrap_or_else(PoisonError::into_inner).clone();
        JwkSet::parse(&json, KeysFrom::Public).ok()
    }

    /// Asks for the keys, unless that was done lately. `true`: there are others than when this was called.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the keys are fetched all the same.
    pub(crate) async fn refresh(self: &Arc<Self>) -> bool {
        let seen = self.version();
        // Free, and asked lately: nothing to wait for.
        if let Ok(asked) = self.asked.try_lock()
            && is_recent(*asked)
        {
            return self.version() != seen;
        }
        let shared = Arc::clone(self);
        // Of its own, so that no client can begin and end one after the other.
        let fetching = self.fetches.spawn(async move {
            let mut asked = shared.asked.lock().await;
            if !is_recent(*asked) {
                shared.fetch().await;
                *asked = Some(Instant::now());
            }
        });
        // A panic is no key.
        let _fetched = fetching.await;
        self.version() != seen
    }

    async fn fetch(&self) {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/jwk-set+json, application/json"));
        let fetched = self.web.send(Method::GET, &self.url, headers, Bytes::new(), JWKS_BYTES_MAX).await;
        let read = fetched.map_err(|error| error.to_string()).and_then(|json| {
            JwkSet::parse(&json, KeysFrom::Public).map(|set| (json, set)).map_err(|error| error.to_string())
        });
        let url = &self.url;
        match read {
            Ok((json, set)) => {
                let mut last = self.json.lock().unwrap_or_else(PoisonError::into_inner);
                if *last == json {
                    return;
                }
                *last = json;
                drop(last);
                self.version.fetch_add(1, Ordering::Release);
                for unusable in set.unusable() {
                    tracing::warn!(target: "hoosh::keys", %url, "a key for tokens is passed over: {unusable}");
                }
                tracing::info!(target: "hoosh::keys", %url, "the keys for tokens are other ones now");
            }
            Err(problem) if self.is_there() => {
                tracing::warn!(target: "hoosh::keys", %url, problem, "no keys for tokens were fetched; the last ones stay");
            }
            Err(problem) => {
                tracing::error!(target: "hoosh::keys", %url, problem, "no keys for tokens were fetched; none is taken");
            }
        }
    }
}

fn is_recent(asked: Option<Instant>) -> bool {
    asked.is_some_and(|at| at.elapsed() < JWKS_REST)
}
