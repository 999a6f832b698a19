//! What each caller has left for tries after the first.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use hoosh_core::limits;
use hoosh_router::RetryBudget;

use crate::call::CallerId;

/// The budgets of all callers.
#[derive(Debug, Default)]
pub(crate) struct Retries(Mutex<HashMap<CallerId, Arc<RetryBudget>>>);

impl Retries {
    /// A caller's budget, with what this call earns.
    pub(crate) fn of(&self, caller: &CallerId) -> Arc<RetryBudget> {
        let mut budgets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if budgets.len() >= limits::RETRY_BUDGETS_MAX && !budgets.contains_key(caller) {
            // Callers are the names of keys, which are few: so many are a sign of something else.
            budgets.clear();
        }
        let budget = budgets.entry(caller.clone()).or_default();
        budget.earn();
        Arc::clone(budget)
    }
}
