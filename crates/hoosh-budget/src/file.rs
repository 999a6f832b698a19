//! Books that outlive the process, and the usage log, in one SQLite file.
//!
//! The books in memory are the truth of the running process; the file is their journal. One thread writes: the sums of
//! windows and the rows of calls, in groups. One thread reads, for those who ask what was used. Whoever reserves or
//! settles waits for neither.

mod journal;
mod log;
mod store;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use self::journal::{Entry, Journal};
pub use self::log::{Order, UsageFilter, UsageLog, UsageSums, UsageSumsBy};
pub use self::store::OpenError;
use crate::amount::Amount;
use crate::books::{Books, Effects};
use crate::ledger::{
    Answer, BudgetWatch, CallId, Checked, Claim, Granted, Ledger, PoolStatus, SettleOutcome, Settled,
    Settlement, WindowSums,
};
use crate::memory::MemoryLedger;
use crate::pool::{PoolId, PoolTree};
use crate::refusal::{LedgerFault, Refusal};
use crate::usage::{CostChange, Mark, UsageRow};

/// When a settlement is done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Durability {
    /// When it is booked; it is on disk at most 5 ms later, or as soon as the disk can. The default: what a killed
    /// process may lose is less than what its calls under way have produced.
    #[default]
    Group,
    /// When it is on disk: `settle` answers then, and after [`settle_detached`](Ledger::settle_detached) whoever must not go on
    /// before waits for [`kept`](Ledger::kept).
    Strict,
}

/// A ledger in a file, the default of a server.
///
/// ```
/// use hoosh_budget::{Durability, FileLedger, PoolTree};
/// # use jiff::Timestamp;
///
/// # fn doc(pools: PoolTree, now: Timestamp) -> Result<(), Box<dyn std::error::Error>> {
/// let ledger = FileLedger::open("budget.db".as_ref(), &pools, Durability::Group, None, now)?;
/// # drop(ledger);
/// # Ok(())
/// # }
/// ```
///
/// # What survives?
///
/// What was settled, after [`flush`](Self::flush), or in a [strict](Durability::Strict) ledger after `settle`: a kill
/// of the process and, as far as the disk keeps its word, a loss of power. What calls held that were under way does
/// not: they are dead, and nobody would settle it.
///
/// # What if the disk is full?
///
/// Settlements are kept in memory and written as soon as that is possible; meanwhile up to 65,536 wait, then nothing is
/// reserved any more. [`BudgetWatch::fault`] is told, and a strict settlement says so in [`Settled::fault`].
///
/// # Closing
///
/// Dropping it waits until everything is written, for some seconds at most.
pub struct FileLedger {
    memory: MemoryLedger,
    journal: Journal,
    log: UsageLog,
    durability: Durability,
}

// === impl Durability ===

impl Durability {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Group, Self::Strict];

    /// Its name in configurations.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Group => "group",
            Self::Strict => "strict",
        }
    }

    /// Reads a name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == text)
    }
}

// === impl FileLedger ===

impl FileLedger {
    /// Opens a file, or makes it where there is none, and goes on with what is spent in the windows that `now` lies in.
    ///
    /// # Errors
    ///
    /// If another process has it open, if it was written by a later version or by another program, or if it cannot be
    /// read and written.
    pub fn open(
        path: &Path,
        pools: &PoolTree,
        durability: Durability,
        watch: Option<Arc<dyn BudgetWatch>>,
        now: Timestamp,
    ) -> Result<Self, OpenError> {
        let store = store::Store::open(path)?;
        let mut books = Books::new(pools).journaled();
        store.restore(pools, &mut books, now)?;
        let memory = MemoryLedger::of(books);
        let memory = match &watch {
            Some(watch) => memory.watched_by(Arc::clone(watch)),
            None => memory,
        };
        let log = UsageLog::open(path)?;
        Ok(Self { memory, journal: Journal::start(store, watch)?, log, durability })
    }

    /// What was used, as far as it is on disk.
    pub fn usage(&self) -> &UsageLog {
        &self.log
    }

    /// Waits until everything that was settled and recorded before is on disk.
    pub fn flush(&self) -> Answer<'static, Result<(), LedgerFault>> {
        self.journal.append_and_wait(Entry::default())
    }

    /// Deletes rows of the usage log that ended before a time, and sums of windows that did and that no pool needs any
    /// more. Answers how many rows; their space in the file is used again. Others' settlements are written in between.
    pub fn forget_before(
        &self,
        time: Timestamp,
        now: Timestamp,
    ) -> Answer<'static, Result<u64, LedgerFault>> {
        let longest_ms = self.memory.with(|books, _| books.longest_rolling_ms()).0;
        let windows_ms = now.as_millisecond().saturating_sub(longest_ms).min(time.as_millisecond());
        self.journal.forget(time.as_millisecond(), windows_ms)
    }

    /// Corrects costs of the usage log, all of them or none. Answers how many; rows keep what was charged, and pools what they
    /// let through. Changes of rows that say something else by now are passed over.
    pub fn adjust(
        &self,
        changes: Vec<CostChange>,
        by: String,
        now: Timestamp,
    ) -> Answer<'static, Result<usize, LedgerFault>> {
        self.journal.ask("be corrected", move |store| store.adjust(&changes, &by, now.as_millisecond()))
    }

    /// Ends a period of the usage log; deletes nothing.
    pub fn mark(&self, by: String, now: Timestamp) -> Answer<'static, Result<Mark, LedgerFault>> {
        self.journal.ask("be marked", move |store| store.mark(&by, now.as_millisecond()))
    }

    /// Rows and sums that wait to be written.
    pub fn backlog(&self) -> usize {
        self.journal.backlog()
    }

    /// Does something with the books and journals what was booked by the way: that of leases that ran out.
    fn with<T>(&self, act: impl FnOnce(&mut Books, &mut Effects) -> T) -> T {
        let (result, effects) = self.memory.with(act);
        if !effects.bookings.is_empty() {
            self.journal.append(Entry { row: None, bookings: effects.bookings });
        }
        result
    }

    /// Books a settlement, and what is to be journaled of it.
    fn book(&self, mut settlement: Settlement<'_>) -> (Settled, Entry) {
        let row = settlement.row.take();
        let (settled, effects, pools) = self.memory.settle_now(&settlement, row.is_some());
        let is_first = matches!(settled.outcome, SettleOutcome::Booked | SettleOutcome::Late);
        let row = row.filter(|_| is_first).map(|mut row| {
            row.pools = pools;
            row
        });
        (settled, Entry { row, bookings: effects.bookings })
    }
}

impl Ledger for FileLedger {
    fn reserve<'a>(&'a self, claim: &'a Claim<'a>, now: Timestamp) -> Answer<'a, Result<Granted, Refusal>> {
        if let Err(fault) = self.journal.has_room() {
            return Answer::now(Err(fault.into()));
        }
        Answer::now(self.with(|books, effects| books.reserve(claim, now, effects)))
    }

    fn check<'a>(&'a self, claim: &'a Claim<'a>, now: Timestamp) -> Answer<'a, Result<Checked, Refusal>> {
        Answer::now(self.with(|books, effects| books.check(claim, now, effects)))
    }

    fn extend<'a>(
        &'a self,
        call: &'a CallId,
        more: Amount,
        now: Timestamp,
    ) -> Answer<'a, Result<Amount, Refusal>> {
        Answer::now(self.with(|books, effects| books.extend(call, more, now, effects)))
    }

    fn renew<'a>(
        &'a self,
        call: &'a CallId,
        lease: Duration,
        now: Timestamp,
    ) -> Answer<'a, Result<Timestamp, Refusal>> {
        self.memory.renew(call, lease, now)
    }

    fn produced(&self, call: &CallId, amount: Amount) {
        self.memory.produced(call, amount);
    }

    fn settle<'a>(&'a self, settlement: Settlement<'a>) -> Answer<'a, Settled> {
        let (mut settled, entry) = self.book(settlement);
        if entry.is_empty() {
            return Answer::now(settled);
        }
        match self.durability {
            Durability::Group => {
                self.journal.append(entry);
                Answer::now(settled)
            }
            Durability::Strict => {
                let written = self.journal.append_and_wait(entry);
                Answer::later(async move {
                    settled.fault = written.await.err();
                    settled
                })
            }
        }
    }

    fn settle_detached(&self, settlement: Settlement<'_>) {
        let (_, entry) = self.book(settlement);
        self.journal.append(entry);
    }

    fn is_strict(&self) -> bool {
        self.durability == Durability::Strict
    }

    fn kept(&self) -> Option<Answer<'static, Result<(), LedgerFault>>> {
        self.is_strict().then(|| self.flush())
    }

    fn record(&self, row: Box<UsageRow>) -> Result<(), LedgerFault> {
        self.journal.has_room()?;
        self.journal.append(Entry { row: Some(row), bookings: Vec::new() });
        Ok(())
    }

    fn keeps_rows(&self) -> bool {
        true
    }

    fn reap(&self, now: Timestamp) -> Answer<'_, Result<usize, LedgerFault>> {
        Answer::now(Ok(self.with(|books, effects| books.reap(now, effects))))
    }

    fn status<'a>(
        &'a self,
        pool: &'a PoolId,
        now: Timestamp,
    ) -> Answer<'a, Result<Option<PoolStatus>, LedgerFault>> {
        self.memory.status(pool, now)
    }

    fn statuses<'a>(
        &'a self,
        after: Option<&'a PoolId>,
        limit: usize,
        now: Timestamp,
    ) -> Answer<'a, Result<Vec<PoolStatus>, LedgerFault>> {
        self.memory.statuses(after, limit, now)
    }

    fn history<'a>(
        &'a self,
        pool: &'a PoolId,
        limit: usize,
        _: Timestamp,
    ) -> Answer<'a, Result<Vec<WindowSums>, LedgerFault>> {
        self.log.windows(pool.clone(), limit)
    }

    fn reconfigure(&self, pools: PoolTree, now: Timestamp) -> Answer<'_, Result<(), LedgerFault>> {
        self.memory.reconfigure(pools, now)
    }
}

impl fmt::Debug for FileLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileLedger")
            .field("memory", &self.memory)
            .field("durability", &self.durability)
            .field("backlog", &self.backlog())
            .finish_non_exhaustive()
    }
}
