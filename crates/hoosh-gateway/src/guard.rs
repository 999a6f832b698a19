//! Checks of one's own on every call, before anything is spent.

use std::fmt;

use hoosh_core::Refusal;

use crate::call::Call;

/// A check that may refuse a call: an allow-list, a search for personal data.
///
/// It runs on the way of every call, so it must be quick and must not block; one that has to wait for somebody is
/// another kind of thing.
pub trait Guard: Send + Sync + fmt::Debug {
    /// Looks at a call.
    ///
    /// # Errors
    ///
    /// The refusal, which the caller is told with status 403.
    fn check(&self, call: &Call) -> Result<(), Refusal>;
}
