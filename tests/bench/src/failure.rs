//! What went wrong in a role, as a sentence with its cause. Whoever prints it prints the chain.

use std::{error::Error, fmt};

/// Why a role ended: what it was doing, and the error that stopped it.
#[derive(Debug)]
pub(crate) struct Failure {
    what: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// Says what was being done when an error came up.
pub(crate) trait Context<T> {
    /// Wraps the error into a [`Failure`] that begins with `what`.
    fn context(self, what: impl FnOnce() -> String) -> Result<T, Failure>;
}

// === impl Failure ===

impl Failure {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), source: None }
    }

    /// The sentence and those of all its causes, in one line.
    pub(crate) fn chain(&self) -> String {
        let mut said = self.what.clone();
        let mut cause = self.source();
        while let Some(error) = cause {
            said.push_str(": ");
            said.push_str(&error.to_string());
            cause = error.source();
        }
        said
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

// === impl Context ===

impl<T, E: Error + Send + Sync + 'static> Context<T> for Result<T, E> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|source| Failure { what: what(), source: Some(Box::new(source)) })
    }
}
