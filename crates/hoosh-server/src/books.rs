//! The books of a server: what calls have spent, kept over configurations and restarts.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use hoosh_budget::{
    BudgetWatch, Durability, FileLedger, Ledger, MemoryLedger, OpenError, PoolTree, TokenBudget, UsageLog,
};
use jiff::{SignedDuration, Timestamp};

use crate::config::{Budget, LedgerPlace};
use crate::leases::Leases;

/// What is open of them.
#[derive(Clone)]
pub(crate) struct Books {
    place: LedgerPlace,
    budget: TokenBudget,
    /// The same, where it is a file.
    file: Option<Arc<FileLedger>>,
    leases: Arc<Leases>,
}

// === impl Books ===

impl Books {
    /// Opens them.
    ///
    /// # Errors
    ///
    /// The file cannot be used; says which and why.
    pub(crate) fn open(
        settings: &Budget,
        pools: &PoolTree,
        watch: Arc<dyn BudgetWatch>,
    ) -> Result<Self, OpenError> {
        let now = Timestamp::now();
        let place = settings.ledger.clone();
        let (ledger, file): (Arc<dyn Ledger>, _) = match &place {
            LedgerPlace::Memory => (Arc::new(MemoryLedger::new(pools.clone()).watched_by(watch)), None),
            LedgerPlace::File(path) => {
                let path = Path::new(path);
                let file = FileLedger::open(path, pools, settings.durability, Some(watch), now)?;
                let file = Arc::new(file);
                (Arc::clone(&file) as Arc<dyn Ledger>, Some(file))
            }
        };
        Ok(Self { place, budget: TokenBudget::new(ledger), file, leases: Arc::default() })
    }

    /// The same under other pools: what is spent stays, by their names. Another place for them counts from the next start on.
    pub(crate) fn reconfigured(&self, settings: &Budget, pools: PoolTree) -> Self {
        if settings.ledger != self.place {
            tracing::warn!(
                "another `[budget] ledger` counts from the next start on; the one that is open is kept"
            );
        }
        let is_strict = settings.durability == Durability::Strict;
        if is_strict != self.budget.ledger().is_strict() && self.file.is_some() {
            tracing::warn!("another `[budget] durability` counts from the next start on");
        }
        // Both kinds of ledger answer at once.
        if let Some(Err(fault)) = self.budget.reconfigured(pools, Timestamp::now()).now_or_never() {
            tracing::error!(%fault, "the pools stay as they were");
        }
        self.clone()
    }

    pub(crate) fn budget(&self) -> &TokenBudget {
        &self.budget
    }

    /// What each call used, as far as it is on disk. `None`: it is not kept.
    pub(crate) fn usage(&self) -> Option<&UsageLog> {
        self.file.as_deref().map(FileLedger::usage)
    }

    /// The file that they are in. `None`: they are in memory alone.
    pub(crate) fn file(&self) -> Option<&FileLedger> {
        self.file.as_deref()
    }

    /// What agents hold that account for themselves.
    pub(crate) fn leases(&self) -> &Leases {
        &self.leases
    }

    /// Lets go of what nobody settled, and of rows that are older than they are kept. Call it every few seconds.
    pub(crate) async fn tidy(&self, keep: Option<Duration>) {
        let now = Timestamp::now();
        if let Err(fault) = self.budget.ledger().reap(now).await {
            tracing::warn!(%fault, "what nobody settled is still held");
        }
        self.leases.forget_before(now);
        let oldest = keep.and_then(|keep| now.checked_sub(SignedDuration::try_from(keep).ok()?).ok());
        if let (Some(file), Some(oldest)) = (&self.file, oldest)
            && let Err(fault) = file.forget_before(oldest, now).await
        {
            tracing::warn!(%fault, "rows of the usage log that are too old stay");
        }
    }
}
