//! Who keeps the books, and what a call holds of them.
//!
//! [`Ledger`] is what gateways talk to, whether the books are in memory, in a file or at a server. [`TokenBudget`] is
//! the handle on one, and [`Reservation`] what it gives: a guard that is settled whatever becomes of it.

use std::borrow::Borrow;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use jiff::Timestamp;

use crate::amount::{Amount, Capacity};
use crate::memory::MemoryLedger;
use crate::pool::{InvalidPools, Mode, PoolId, PoolTree, TokenPool};
use crate::refusal::{LedgerFault, Refusal, Shortage};
use crate::usage::UsageRow;

/// The name of a call, by which it is settled once. Any text that no other call has; cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(Arc<str>);

/// What a call wants to hold.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// The call.
    pub call: &'a CallId,
    /// Pools that it is charged to, and all above them with them, each once. Each has to be defined or be covered by a
    /// template.
    pub pools: &'a [PoolId],
    /// Pools that it is charged to as well where they are defined or a template covers them: that of a user, a model.
    pub if_defined: &'a [PoolId],
    /// What it may take.
    pub estimate: Amount,
    /// The least that is worth having: where hard pools have less than the estimate left but no less than this, that is
    /// held. Tokens and money by themselves. [`Claim::new`] sets it to the estimate: all or nothing.
    pub least: Amount,
    /// How long it may be held without being renewed or settled. At most 24 h count.
    pub lease: Duration,
}

/// What a call holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    /// How much.
    pub held: Amount,
    /// What of that must not be exceeded, since a hard pool limits it. `None`: no pool that is charged does.
    pub ceiling: Capacity,
    /// Until when.
    pub until: Timestamp,
}

/// Whether a claim would be granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// The most that could be held in all its pools at once. `None`: no hard pool limits it.
    pub left: Capacity,
    /// Which pool has less left than [`Claim::least`]. `None`: it would be granted now.
    pub shortage: Option<Box<Shortage>>,
}

/// What a call took in the end.
#[derive(Debug, Clone)]
pub struct Settlement<'a> {
    /// The call.
    pub call: &'a CallId,
    /// What it took.
    pub actual: Amount,
    /// Its row in the usage log. Where nothing is booked, since the call was settled before or is not known, it is not
    /// written; nor in a ledger that keeps none.
    pub row: Option<Box<UsageRow>>,
    /// When. `None`: at the time that the ledger was told last.
    pub now: Option<Timestamp>,
}

/// What came of a settlement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// Whether it changed anything.
    pub outcome: SettleOutcome,
    /// What was booked now, in a pool that books all there is.
    pub booked: Amount,
    /// What of it a hard pool could not book, at most. It is counted in the status of each such pool.
    pub overrun: Amount,
    /// Why it may not outlive the process. `None`: it will, as far as the ledger promises.
    pub fault: Option<LedgerFault>,
}

/// Whether a settlement changed anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SettleOutcome {
    /// It was booked.
    Booked,
    /// It came after the reservation had expired; what was not booked then was booked now, as far as there was room.
    Late,
    /// The call was settled before. Nothing changed.
    Repeated,
    /// No such call is known (any more). Nothing changed.
    Unknown,
}

/// How a pool stands.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolStatus {
    /// Which.
    pub id: PoolId,
    /// The pool above it.
    pub parent: Option<PoolId>,
    /// What it may spend in a window.
    pub capacity: Capacity,
    /// When it begins anew, by name.
    pub window: crate::Window,
    /// What happens when it has not enough left.
    pub mode: Mode,
    /// What is spent in this window.
    pub settled: Amount,
    /// What calls hold that are under way and belong to this window.
    pub reserved: Amount,
    /// What of this window's calls was used but could not be booked within the capacity.
    pub overrun: Amount,
    /// What can be asked for now.
    pub left: Capacity,
    /// When the window began. `None`: it never did, or moves on all the time.
    pub window_start: Option<Timestamp>,
    /// When it ends. `None`: it never does, or moves on all the time.
    pub window_end: Option<Timestamp>,
    /// The percents of its alerts that are reached.
    pub alerts: Vec<u8>,
}

/// What a pool spent in one window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowSums {
    /// When it began. `None`: it never did.
    pub start: Option<Timestamp>,
    /// When it ended or ends. `None`: it never does.
    pub end: Option<Timestamp>,
    /// What was spent.
    pub settled: Amount,
    /// What was used beyond that.
    pub overrun: Amount,
}

/// Something about a pool that somebody should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// Which pool.
    pub pool: PoolId,
    /// What about it.
    pub kind: AlertKind,
    /// What it may spend in a window.
    pub capacity: Capacity,
    /// What is spent in this one.
    pub settled: Amount,
    /// What calls hold that are under way.
    pub reserved: Amount,
}

/// What an [`Alert`] tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AlertKind {
    /// So many percent of its capacity are spent, of tokens or of money.
    Reached(u8),
    /// It is soft, and its calls hold more than it has left.
    Beyond,
}

/// A reservation that nobody settled or renewed in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expired {
    /// Of which call.
    pub call: CallId,
    /// What it held.
    pub held: Amount,
    /// What had been noted as produced, and is booked.
    pub produced: Amount,
}

/// Somebody who is told what happens in the books: events, metrics, a log.
///
/// Told on the thread that caused it, without a lock held; it must be quick and must not block.
pub trait BudgetWatch: Send + Sync {
    /// A threshold is crossed upwards. Told once in each window of the pool.
    fn alert(&self, _alert: &Alert) {}

    /// A reservation expired. Its call has no row in the usage log unless it is settled late.
    fn expired(&self, _expired: &Expired) {}

    /// A call used more than hard pools could book.
    fn overrun(&self, _call: &CallId, _overrun: Amount) {}

    /// What is booked cannot be kept where it should be. Told once, until it can again; not on the thread of any call.
    fn fault(&self, _fault: &LedgerFault) {}
}

/// What a ledger answers: at once where the books are in this process, later where it has to wait.
///
/// A future either way. Where it is [`Now`](Self::Now) nothing is allocated and nobody waits.
pub enum Answer<'a, T> {
    /// Here it is.
    Now(Option<T>),
    /// It comes.
    Later(Pin<Box<dyn Future<Output = T> + Send + 'a>>),
}

/// Where the books are kept.
///
/// A method does its work when it is called where the books are in this process; where it answers later, when the
/// answer is awaited, but for [`settle_detached`](Self::settle_detached) and [`produced`](Self::produced), which nobody
/// awaits.
///
/// # Invariant
///
/// In each hard pool, in each window, at every instant: settled + reserved <= capacity, tokens and money alike. Only a
/// lower capacity that was given since can make it look otherwise; then nothing is held until there is room again.
pub trait Ledger: Send + Sync + fmt::Debug {
    /// Holds an amount in all pools of a claim, or in none.
    fn reserve<'a>(&'a self, claim: &'a Claim<'a>, now: Timestamp) -> Answer<'a, Result<Granted, Refusal>>;

    /// Whether a claim would be granted, without holding anything. Its call need not be a new one.
    fn check<'a>(&'a self, claim: &'a Claim<'a>, now: Timestamp) -> Answer<'a, Result<Checked, Refusal>>;

    /// Holds more for a call, in all its pools or in none. Answers what it holds then.
    fn extend<'a>(
        &'a self,
        call: &'a CallId,
        more: Amount,
        now: Timestamp,
    ) -> Answer<'a, Result<Amount, Refusal>>;

    /// Lets a call hold what it holds for so long from now. Answers until when.
    fn renew<'a>(
        &'a self,
        call: &'a CallId,
        lease: Duration,
        now: Timestamp,
    ) -> Answer<'a, Result<Timestamp, Refusal>>;

    /// Notes what a call has produced so far, all in all. It is what is booked if nobody settles it. Never waits.
    fn produced(&self, call: &CallId, amount: Amount);

    /// Books what a call took and lets go of what it held. Once for each call: again, it changes nothing and says so.
    fn settle<'a>(&'a self, settlement: Settlement<'a>) -> Answer<'a, Settled>;

    /// The same where nobody can wait, as in `drop`. Never blocks; the ledger sees to it that it happens.
    fn settle_detached(&self, settlement: Settlement<'_>);

    /// Whether what is settled is to be kept before an answer ends, so that whoever gives one waits for [`kept`](Self::kept). The
    /// default: it is not.
    fn is_strict(&self) -> bool {
        false
    }

    /// Answers when all settlements and rows so far are kept, those of [`settle_detached`](Self::settle_detached) and
    /// [`record`](Self::record) too. `None`: nobody has to wait for that. It is `Some` where the ledger is
    /// [strict](Self::is_strict).
    fn kept(&self) -> Option<Answer<'static, Result<(), LedgerFault>>> {
        None
    }

    /// Writes a row of a call that held nothing: refused, or answered from the cache. A ledger that keeps none drops
    /// it.
    ///
    /// # Errors
    ///
    /// If there is no room for it; the row is lost then.
    fn record(&self, row: Box<UsageRow>) -> Result<(), LedgerFault>;

    /// Whether rows are kept. Where not, nobody needs to make one.
    fn keeps_rows(&self) -> bool;

    /// Lets go of reservations whose lease is over, and books what they had produced. Answers how many. To be called
    /// every few seconds; a claim that would be refused does it too.
    fn reap(&self, now: Timestamp) -> Answer<'_, Result<usize, LedgerFault>>;

    /// How a pool stands. `None`: it is not defined, nor is a template for it.
    fn status<'a>(
        &'a self,
        pool: &'a PoolId,
        now: Timestamp,
    ) -> Answer<'a, Result<Option<PoolStatus>, LedgerFault>>;

    /// How pools stand, those made by templates among them: at most `limit`, by their names, from the one after `after`
    /// on.
    fn statuses<'a>(
        &'a self,
        after: Option<&'a PoolId>,
        limit: usize,
        now: Timestamp,
    ) -> Answer<'a, Result<Vec<PoolStatus>, LedgerFault>>;

    /// What a pool spent in its latest windows, the newest first, at most `limit`: as many as the ledger remembers.
    fn history<'a>(
        &'a self,
        pool: &'a PoolId,
        limit: usize,
        now: Timestamp,
    ) -> Answer<'a, Result<Vec<WindowSums>, LedgerFault>>;

    /// Takes other pools. What is spent and reserved stays, by the pools' names; of a pool with another window, what is
    /// known of the time that the new one began counts in it.
    fn reconfigure(&self, pools: PoolTree, now: Timestamp) -> Answer<'_, Result<(), LedgerFault>>;
}

/// The pools of a gateway, and what is spent and reserved in each: a handle on a [`Ledger`]. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TokenBudget {
    ledger: Arc<dyn Ledger>,
}

/// What a call holds, until it is settled.
///
/// Dropping it, at whatever point the call is (its client gone, its task cancelled or panicking), settles what was last
/// noted as [`produced`](Self::produced); where nothing was, everything it held is free again.
#[derive(Debug)]
#[must_use = "dropping it settles what it has produced so far"]
pub struct Reservation {
    ledger: Arc<dyn Ledger>,
    call: CallId,
    granted: Granted,
    produced: Amount,
    is_open: bool,
}

// === impl CallId ===

impl CallId {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for CallId {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<Arc<str>> for CallId {
    fn from(text: Arc<str>) -> Self {
        Self(text)
    }
}

impl From<String> for CallId {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl Borrow<str> for CallId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

// === impl Claim ===

impl<'a> Claim<'a> {
    /// All of the estimate or nothing, in these pools.
    pub fn new(call: &'a CallId, pools: &'a [PoolId], estimate: Amount, lease: Duration) -> Self {
        Self { call, pools, if_defined: &[], estimate, least: estimate, lease }
    }
}

// === impl Settled ===

impl Settled {
    pub(crate) fn nothing(outcome: SettleOutcome) -> Self {
        Self { outcome, booked: Amount::ZERO, overrun: Amount::ZERO, fault: None }
    }
}

// === impl SettleOutcome ===

impl SettleOutcome {
    /// One word for answers and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Booked => "booked",
            Self::Late => "late",
            Self::Repeated => "repeated",
            Self::Unknown => "unknown",
        }
    }
}

// === impl Answer ===

impl<'a, T> Answer<'a, T> {
    /// One that is here.
    pub fn now(value: T) -> Self {
        Self::Now(Some(value))
    }

    /// One that comes.
    pub fn later(future: impl Future<Output = T> + Send + 'a) -> Self {
        Self::Later(Box::pin(future))
    }
}

impl<T: Unpin> Future for Answer<'_, T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        match self.get_mut() {
            // Taken twice it is pending for ever, as a future may be that is polled after its end.
            Self::Now(value) => value.take().map_or(Poll::Pending, Poll::Ready),
            Self::Later(future) => future.as_mut().poll(context),
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Answer<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now(value) => f.debug_tuple("Now").field(value).finish(),
            Self::Later(_) => f.write_str("Later"),
        }
    }
}

// === impl TokenBudget ===

impl TokenBudget {
    /// The budget that a ledger keeps.
    pub fn new(ledger: Arc<dyn Ledger>) -> Self {
        Self { ledger }
    }

    /// One that lives as long as the process.
    ///
    /// # Errors
    ///
    /// If the pools do not fit together.
    pub fn in_memory(pools: Vec<TokenPool>) -> Result<Self, InvalidPools> {
        Ok(Self::new(Arc::new(MemoryLedger::new(PoolTree::new(pools)?))))
    }

    /// Who keeps it: status, history, and everything by a call's name.
    pub fn ledger(&self) -> &Arc<dyn Ledger> {
        &self.ledger
    }

    /// Holds an amount for a call, in all its pools or in none.
    ///
    /// # Errors
    ///
    /// Why it is not held; nothing has changed then.
    ///
    /// # Cancel safety
    ///
    /// Where the ledger is in this process there is no point at which it can be cancelled. Where it must ask a server,
    /// a future that is dropped may leave an amount held until its lease is over.
    pub async fn reserve(&self, claim: &Claim<'_>, now: Timestamp) -> Result<Reservation, Refusal> {
        let granted = self.ledger.reserve(claim, now).await?;
        Ok(Reservation {
            ledger: Arc::clone(&self.ledger),
            call: claim.call.clone(),
            granted,
            produced: Amount::ZERO,
            is_open: true,
        })
    }

    /// Takes other pools; what is spent and reserved stays, by the pools' names. See [`Ledger::reconfigure`].
    ///
    /// # Errors
    ///
    /// If the ledger is away.
    pub async fn reconfigured(&self, pools: PoolTree, now: Timestamp) -> Result<(), LedgerFault> {
        self.ledger.reconfigure(pools, now).await
    }
}

// === impl Reservation ===

impl Reservation {
    /// Whose it is.
    pub fn call(&self) -> &CallId {
        &self.call
    }

    /// Where it is booked, for whoever extends or renews it by the call's name.
    pub fn ledger(&self) -> &Arc<dyn Ledger> {
        &self.ledger
    }

    /// How much it holds.
    pub fn held(&self) -> Amount {
        self.granted.held
    }

    /// What must not be exceeded, of tokens and of money: where a hard pool limits it, what is held. A stream is cut
    /// there unless it can be [extended](Self::extend). `None`: nothing limits it.
    pub fn ceiling(&self) -> Capacity {
        let Granted { held, ceiling, .. } = self.granted;
        Capacity { tokens: ceiling.tokens.map(|_| held.tokens), money: ceiling.money.map(|_| held.money) }
    }

    /// Until when it has to be [renewed](Self::renew) or settled.
    pub fn until(&self) -> Timestamp {
        self.granted.until
    }

    /// Notes what the call has produced so far, all in all. It is what is booked if the reservation is dropped or
    /// expires.
    pub fn produced(&mut self, amount: Amount) {
        self.produced = amount;
        self.ledger.produced(&self.call, amount);
    }

    /// Holds so much more, in all pools or in none.
    ///
    /// # Errors
    ///
    /// If a hard pool has not so much left, or the reservation has expired. It holds then what it held.
    pub async fn extend(&mut self, more: Amount, now: Timestamp) -> Result<(), Refusal> {
        self.granted.held = self.ledger.extend(&self.call, more, now).await?;
        Ok(())
    }

    /// Holds it for so long from now.
    ///
    /// # Errors
    ///
    /// If it has expired.
    pub async fn renew(&mut self, lease: Duration, now: Timestamp) -> Result<(), Refusal> {
        self.granted.until = self.ledger.renew(&self.call, lease, now).await?;
        Ok(())
    }

    /// Books what the call took, with its row of the usage log if there is one, and gives back the rest.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future settles the same without waiting.
    pub async fn settle(mut self, actual: Amount, row: Option<Box<UsageRow>>, now: Timestamp) -> Settled {
        self.produced = actual;
        let settlement = Settlement { call: &self.call, actual, row, now: Some(now) };
        let settled = self.ledger.settle(settlement).await;
        self.is_open = false;
        settled
    }

    /// The same where nobody can wait, as in a `drop` of one's own.
    pub fn settle_detached(mut self, actual: Amount, row: Option<Box<UsageRow>>, now: Timestamp) {
        self.is_open = false;
        let settlement = Settlement { call: &self.call, actual, row, now: Some(now) };
        self.ledger.settle_detached(settlement);
    }

    /// Leaves it open for somebody who settles it by the call's name, or lets it expire: an agent that accounts for
    /// itself.
    #[must_use = "the name is all that is left to settle it by"]
    pub fn keep(mut self) -> CallId {
        self.is_open = false;
        self.call.clone()
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.is_open {
            let settlement = Settlement { call: &self.call, actual: self.produced, row: None, now: None };
            self.ledger.settle_detached(settlement);
        }
    }
}
