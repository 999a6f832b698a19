//! What calls cost, and that it is told once where that is not known.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use hoosh_core::{LlmProvider, NanoUsd, OnUnpriced, PriceTable, Usage, limits};
use hoosh_router::Router;

/// The prices of a gateway.
pub(crate) struct Pricing {
    table: Arc<PriceTable>,
    warns: bool,
    /// The models of unknown price that were told of, with the tier that each was served in.
    told: Mutex<HashSet<String>>,
}

// === impl Pricing ===

impl Pricing {
    /// Those that the router plans by.
    pub(crate) fn of(router: &Router) -> Self {
        let (table, policy) = (Arc::clone(router.table().prices()), router.table().on_unpriced());
        // Who is not asked costs nothing, but a call can be served in a tier whose price nobody knew of.
        let warns = matches!(policy, OnUnpriced::Warn | OnUnpriced::Block);
        Self { table, warns, told: Mutex::default() }
    }

    /// What that usage costs there at a time, if both are known.
    pub(crate) fn cost(
        &self,
        provider: &dyn LlmProvider,
        model: &str,
        usage: Option<&Usage>,
        at: u64,
    ) -> Option<NanoUsd> {
        self.table.cost(provider.into(), model, usage?, at)
    }

    /// What that usage cost could not be said: tells so, once for each model and tier.
    pub(crate) fn unpriced(&self, provider: &str, model: &str, usage: &Usage) {
        if !self.warns {
            return;
        }
        let tier = usage.service_tier.as_str();
        let name = format!("{provider}/{model} {tier}");
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= limits::UNPRICED_TOLD_MAX || !told.insert(name) {
            return;
        }
        let is_last = told.len() == limits::UNPRICED_TOLD_MAX;
        drop(told);
        let fix = "add it to `[[prices]]`, or say `[costs] on_unpriced = \"allow\"` or \"block\"";
        tracing::warn!(target: "hoosh::costs", provider, model, tier, "no price is known, so that its calls have no cost; {fix}");
        if is_last {
            tracing::warn!(target: "hoosh::costs", "further models without a known price are not told of");
        }
    }
}
