//! Which models there are, merged over all providers and remembered for a while.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::join_all;
use hoosh_core::{LlmProvider, ModelInfo, limits};
use tokio::time::Instant;

/// The listings of all providers.
#[derive(Clone)]
pub(crate) struct Listings(Vec<Arc<Listing>>);

struct Listing {
    provider: Arc<dyn LlmProvider>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    models: Arc<[ModelInfo]>,
    /// Until when that is taken for true.
    fresh_until: Option<Instant>,
    /// Whether somebody is asking: others then get what was known before, if anything was.
    asking: bool,
}

impl Listings {
    /// Nothing is known yet but what `before` knows of the very same providers.
    pub(crate) fn new<'a>(
        providers: impl Iterator<Item = &'a Arc<dyn LlmProvider>>,
        before: Option<&Self>,
    ) -> Self {
        let known = |provider: &Arc<dyn LlmProvider>| {
            let mut listings = before?.0.iter();
            listings.find(|listing| Arc::ptr_eq(&listing.provider, provider)).map(Arc::clone)
        };
        let new = |provider: &Arc<dyn LlmProvider>| {
            Arc::new(Listing { provider: Arc::clone(provider), known: Mutex::default() })
        };
        Self(providers.map(|provider| known(provider).unwrap_or_else(|| new(provider))).collect())
    }

    /// All models, in the order of the providers. One that cannot be reached gives what it gave last.
    pub(crate) async fn models(&self) -> Vec<ModelInfo> {
        let listings = join_all(self.0.iter().map(|listing| listing.models())).await;
        listings.iter().flat_map(|models| models.iter().cloned()).collect()
    }
}

impl Listings {
    /// Asks those on this machine.
    pub(crate) async fn warm_up(&self) {
        let local = self.0.iter().filter(|listing| listing.provider.is_local());
        join_all(local.map(|listing| listing.models())).await;
    }
}

impl Listing {
    async fn models(&self) -> Arc<[ModelInfo]> {
        {
            let mut known = self.known();
            let fresh = known.fresh_until.is_some_and(|until| Instant::now() < until);
            if fresh || (known.asking && !known.models.is_empty()) {
                return Arc::clone(&known.models);
            }
            known.asking = true;
        }
        let asking = Asking(self);
        let listed = self.provider.list_models().await;
        drop(asking);
        let mut known = self.known();
        let age_max = match listed {
            Ok(models) => {
                known.models = models.into();
                limits::MODEL_LISTING_AGE_MAX
            }
            Err(failure) => {
                tracing::debug!(provider = self.provider.name(), %failure, "no listing of models");
                limits::PROBE_TIME_MAX
            }
        };
        known.fresh_until = Some(Instant::now() + age_max);
        Arc::clone(&known.models)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets the next one ask, also if this one is dropped in the middle.
struct Asking<'a>(&'a Listing);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.known().asking = false;
    }
}
