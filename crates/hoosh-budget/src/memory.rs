//! Books that live as long as the process.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::amount::Amount;
use crate::books::{Books, Effects};
use crate::ledger::{
    Answer, BudgetWatch, CallId, Checked, Claim, Granted, Ledger, PoolStatus, Settled, Settlement, WindowSums,
};
use crate::pool::{PoolId, PoolTree};
use crate::refusal::{LedgerFault, Refusal};
use crate::sync::Mutex;
use crate::usage::UsageRow;

/// [`Books`] behind a lock that is held for well below a microsecond. Everything is answered at once.
pub struct MemoryLedger {
    books: Mutex<Books>,
    watch: Option<Arc<dyn BudgetWatch>>,
}

// === impl MemoryLedger ===

impl MemoryLedger {
    /// A ledger of these pools, with nothing spent.
    pub fn new(pools: PoolTree) -> Self {
        Self::of(Books::new(&pools))
    }

    pub(crate) fn of(books: Books) -> Self {
        Self { books: Mutex::new(books), watch: None }
    }

    /// The same, and somebody is told what happens in it.
    #[must_use]
    pub fn watched_by(self, watch: Arc<dyn BudgetWatch>) -> Self {
        Self { watch: Some(watch), ..self }
    }

    /// Does something with the books, then tells who watches.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut Books, &mut Effects) -> T) -> (T, Effects) {
        let mut effects = Effects::default();
        let result = act(&mut self.books.lock(), &mut effects);
        if let Some(watch) = &self.watch {
            effects.alerts.iter().for_each(|alert| watch.alert(alert));
            effects.expired.iter().for_each(|expired| watch.expired(expired));
        }
        (result, effects)
    }

    /// Settles, and answers what came of it, what was booked and, where the books are journaled, who was charged.
    pub(crate) fn settle_now(
        &self,
        settlement: &Settlement<'_>,
        has_row: bool,
    ) -> (Settled, Effects, Vec<PoolId>) {
        let &Settlement { call, actual, now, .. } = settlement;
        let ((settled, charged), effects) = self.with(|books, effects| {
            let charged = if has_row { books.charged(call) } else { Vec::new() };
            (books.settle(call, actual, now, effects), charged)
        });
        if let Some(watch) = self.watch.as_ref().filter(|_| !settled.overrun.is_zero()) {
            watch.overrun(call, settled.overrun);
        }
        (settled, effects, charged)
    }
}

impl Ledger for MemoryLedger {
    fn reserve<'a>(&'a self, claim: &'a Claim<'a>, now: Timestamp) -> Answer<'a, Result<Granted, Refusal>> {
        Answer::now(self.with(|books, effects| books.reserve(claim, now, effects)).0)
    }

    fn check<'a>(&'a self, claim: &'a Claim<'a>, now: Timestamp) -> Answer<'a, Result<Checked, Refusal>> {
        Answer::now(self.with(|books, effects| books.check(claim, now, effects)).0)
    }

    fn extend<'a>(
        &'a self,
        call: &'a CallId,
        more: Amount,
        now: Timestamp,
    ) -> Answer<'a, Result<Amount, Refusal>> {
        Answer::now(self.with(|books, effects| books.extend(call, more, now, effects)).0)
    }

    fn renew<'a>(
        &'a self,
        call: &'a CallId,
        lease: Duration,
        now: Timestamp,
    ) -> Answer<'a, Result<Timestamp, Refusal>> {
        Answer::now(self.with(|books, _| books.renew(call, lease, now)).0)
    }

    fn produced(&self, call: &CallId, amount: Amount) {
        self.books.lock().produced(call, amount);
    }

    fn settle<'a>(&'a self, settlement: Settlement<'a>) -> Answer<'a, Settled> {
        Answer::now(self.settle_now(&settlement, false).0)
    }

    fn settle_detached(&self, settlement: Settlement<'_>) {
        self.settle_now(&settlement, false);
    }

    fn record(&self, _: Box<UsageRow>) -> Result<(), LedgerFault> {
        Ok(())
    }

    fn keeps_rows(&self) -> bool {
        false
    }

    fn reap(&self, now: Timestamp) -> Answer<'_, Result<usize, LedgerFault>> {
        Answer::now(Ok(self.with(|books, effects| books.reap(now, effects)).0))
    }

    fn status<'a>(
        &'a self,
        pool: &'a PoolId,
        now: Timestamp,
    ) -> Answer<'a, Result<Option<PoolStatus>, LedgerFault>> {
        Answer::now(Ok(self.books.lock().status(pool, now)))
    }

    fn statuses<'a>(
        &'a self,
        after: Option<&'a PoolId>,
        limit: usize,
        now: Timestamp,
    ) -> Answer<'a, Result<Vec<PoolStatus>, LedgerFault>> {
        Answer::now(Ok(self.books.lock().statuses(after, limit, now)))
    }

    fn history<'a>(
        &'a self,
        pool: &'a PoolId,
        limit: usize,
        now: Timestamp,
    ) -> Answer<'a, Result<Vec<WindowSums>, LedgerFault>> {
        Answer::now(Ok(self.books.lock().history(pool, limit, now)))
    }

    fn reconfigure(&self, pools: PoolTree, now: Timestamp) -> Answer<'_, Result<(), LedgerFault>> {
        self.books.lock().reconfigure(&pools, now);
        Answer::now(Ok(()))
    }
}

impl fmt::Debug for MemoryLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryLedger").field("open", &self.books.lock().open()).finish_non_exhaustive()
    }
}
