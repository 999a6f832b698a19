//! The one lock, which loom takes apart in its test.

use std::sync::PoisonError;

#[cfg(loom)]
use loom::sync::{Mutex as Inner, MutexGuard};
#[cfg(not(loom))]
use std::sync::{Mutex as Inner, MutexGuard};

/// A lock over plain values. A panic under it, which would be a mistake of ours, does not take the ledger from all
/// later calls.
#[derive(Debug)]
pub(crate) struct Mutex<T>(Inner<T>);

// === impl Mutex ===

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Inner::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
