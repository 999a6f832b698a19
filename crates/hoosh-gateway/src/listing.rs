//! Which models there are, merged over all providers and remembered for a while.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::join_all;
use hoosh_core::{LlmProvider, ModelInfo, limits};
use tokio::time::Instant;

/// The listings of all providers.
pub(crate) struct Listings(Vec<Listing>);

struct Listing {
    provider: Arc<dyn LlmProvider>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    models: Arc<[ModelInfo]>,
    /// When the provider was last asked, or is being asked: it is asked by one at a time, others get what is known.
    asked: Option<Instant>,
}

impl Listings {
    pub(crate) fn new<'a>(providers: impl Iterator<Item = &'a Arc<dyn LlmProvider>>) -> Self {
        let listing = |provider: &Arc<dyn LlmProvider>| Listing {
            provider: Arc::clone(provider),
            known: Mutex::default(),
        };
        Self(providers.map(listing).collect())
    }

    /// All models, in the order of the providers. One that cannot be reached gives what it gave last.
    pub(crate) async fn models(&self) -> Vec<ModelInfo> {
        let listings = join_all(self.0.iter().map(Listing::models)).await;
        listings.iter().flat_map(|models| models.iter().cloned()).collect()
    }
}

impl Listing {
    async fn models(&self) -> Arc<[ModelInfo]> {
        let now = Instant::now();
        {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if known.asked.is_some_and(|asked| now.duration_since(asked) < limits::MODEL_LISTING_AGE_MAX) {
                return Arc::clone(&known.models);
            }
            known.asked = Some(now);
        }
        let guard = Asking(&self.known);
        let listed = self.provider.list_models().await;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match listed {
            Ok(models) => {
                known.models = models.into();
                std::mem::forget(guard);
            }
            Err(failure) => {
                tracing::debug!(provider = self.provider.name(), %failure, "no listing of models")
            }
        }
        Arc::clone(&known.models)
    }
}

/// Lets the next one ask if this one is dropped or told nothing.
struct Asking<'a>(&'a Mutex<Known>);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).asked = None;
    }
}
