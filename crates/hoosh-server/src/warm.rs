//! Requests that are asked beforehand, so that their answers are there for whoever asks them first.
//!
//! They are ordinary calls of the callers that they are for, in the last tier of every line, and they keep nobody from
//! serving: what fails is told in the log and that is all.

use std::sync::{Arc, Weak};

use futures_util::{StreamExt, stream};
use hoosh_core::limits;
use hoosh_gateway::{CacheUse, CallerId, ReplyBody, ResponseCache};
use hoosh_router::Tier;
use tokio::sync::watch;

use crate::app::App;
use crate::config::{Warm, WarmRequest};

/// What there is to do: the requests of a file for a cache.
struct Work {
    app: Arc<App>,
    cache: Arc<ResponseCache>,
    warm: Warm,
}

/// What became of a request.
enum Warmed {
    Kept,
    /// It was there already.
    There,
    Failed,
}

/// Which work was begun last.
struct Begun {
    /// Weak, so that it keeps none that is out of use.
    cache: Weak<ResponseCache>,
    warm: Warm,
}

/// Warms the cache of each snapshot whose cache or file is another than before, until the server stops.
pub(crate) async fn warm(mut apps: watch::Receiver<Arc<App>>) {
    let mut begun: Option<Begun> = None;
    loop {
        let work = Work::of(Arc::clone(&apps.borrow_and_update()));
        if let Some(work) = work.filter(|work| !begun.as_ref().is_some_and(|begun| begun.is(work))) {
            let this = begun.insert(Begun { cache: Arc::downgrade(&work.cache), warm: work.warm.clone() });
            tokio::select! {
                () = work.run() => {}
                // Answers for a cache that is not in use any more are nobody's.
                () = replaced(&mut apps, this) => continue,
            }
        }
        if apps.changed().await.is_err() {
            return;
        }
    }
}

/// Waits until there is other work to do.
async fn replaced(apps: &mut watch::Receiver<Arc<App>>, begun: &Begun) {
    while apps.changed().await.is_ok() {
        let next = Work::of(Arc::clone(&apps.borrow_and_update()));
        if !next.is_some_and(|next| begun.is(&next)) {
            return;
        }
    }
    std::future::pending().await
}

// === impl Begun ===

impl Begun {
    /// Whether the same requests are for the same cache.
    fn is(&self, work: &Work) -> bool {
        std::ptr::eq(self.cache.as_ptr(), Arc::as_ptr(&work.cache)) && self.warm == work.warm
    }
}

// === impl Work ===

impl Work {
    fn of(app: Arc<App>) -> Option<Self> {
        let (cache, warm) = (Arc::clone(app.gateway.cache()?), app.config.cache.warm.clone()?);
        Some(Self { app, cache, warm })
    }

    async fn run(&self) {
        let each = |request: &WarmRequest| {
            let callers = request.callers.clone();
            callers.into_iter().map(|caller| (request.clone(), caller)).collect::<Vec<_>>()
        };
        let asked = self.warm.requests.iter().flat_map(each);
        let mut done = stream::iter(asked)
            .map(|(request, caller)| async move { self.ask(&request, &caller).await })
            .buffer_unordered(limits::WARM_CONCURRENT_MAX);
        let (mut kept, mut there, mut failed) = (0, 0, 0);
        while let Some(warmed) = done.next().await {
            match warmed {
                Warmed::Kept => kept += 1,
                Warmed::There => there += 1,
                Warmed::Failed => failed += 1,
            }
        }
        tracing::info!(target: "hoosh::cache", file = self.warm.said, kept, there, failed, "warmed");
    }

    /// Whether there is an answer now.
    fn is_kept(&self, request: &WarmRequest, caller: &CallerId) -> bool {
        request.call(caller).is_ok_and(|call| self.cache.has(&call))
    }

    async fn ask(&self, request: &WarmRequest, caller: &CallerId) -> Warmed {
        let failed = |why: &str| {
            let (file, line) = (self.warm.said.as_str(), request.line);
            tracing::warn!(target: "hoosh::cache", file, line, caller = caller.as_str(), "not warmed: {why}");
            Warmed::Failed
        };
        let mut call = match request.call(caller) {
            Ok(call) => call,
            Err(problem) => return failed(&problem),
        };
        // Whoever waits for an answer goes first.
        call.tier = Tier::Batch;
        let id = call.id.clone();
        let reply = match self.app.gateway.call(call).await {
            Ok(reply) => reply,
            Err(error) => return failed(&format!("{error} ({id})")),
        };
        let cache = reply.head.cache;
        if let ReplyBody::Stream(mut answer) = reply.body {
            while answer.next().await.is_some() {}
        }
        match cache {
            CacheUse::Miss if self.is_kept(request, caller) => Warmed::Kept,
            CacheUse::Miss => failed(&format!(
                "its answer is not kept: it broke off, is empty, too long, cut by a filter or refused, calls a tool, or \
                 `cache_ttl_secs` is 0 ({id})"
            )),
            CacheUse::Hit | CacheUse::Semantic(_) => Warmed::There,
            CacheUse::Bypass | CacheUse::Off => failed("it is no call to be cached"),
        }
    }
}
