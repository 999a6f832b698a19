//! The books themselves: plain arithmetic, without a lock, a clock or a task.
//!
//! Every rule about what is held, booked and refused is in here and in `account`. Ledgers put a lock, a file or a wire
//! around it.

mod account;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use hoosh_core::limits::{
    EXPIRED_REMEMBERED_MAX, POOLS_MADE_MAX, POOLS_PER_CALL_MAX, POOLS_SWEEP_INTERVAL, RESERVATION_LEASE_MAX,
    RESERVATIONS_MAX, SETTLED_REMEMBERED_MAX,
};
use jiff::Timestamp;

pub(crate) use self::account::Known;
use self::account::{Account, Standing};
use crate::amount::{Amount, Capacity};
use crate::ledger::{
    Alert, CallId, Checked, Claim, Expired, Granted, PoolStatus, SettleOutcome, Settled, WindowSums,
};
use crate::pool::{PoolId, PoolTree, TokenPool};
use crate::refusal::{Earliest, Refusal, Shortage};

/// What is spent and reserved in each pool of a tree.
///
/// What [`MemoryLedger`](crate::MemoryLedger) has behind its lock. Times are told; none may be much before another.
#[derive(Debug)]
pub struct Books {
    accounts: Vec<Option<Account>>,
    free_accounts: Vec<u32>,
    by_id: HashMap<PoolId, u32>,
    /// By kind.
    templates: HashMap<Box<str>, Arc<TokenPool>>,
    /// Accounts that are not in the configuration.
    made: usize,
    swept: i64,

    calls: HashMap<CallId, State>,
    records: Vec<Record>,
    free_records: Vec<u32>,
    open: usize,
    /// Calls that are settled, the first to be forgotten first.
    settled: VecDeque<CallId>,
    /// Calls whose leases ran out, the first to be forgotten first. Some of them are settled since.
    expired: VecDeque<CallId>,
    /// No lease is over before this time.
    first_lease: i64,

    /// The time that was told last. Unit: Unix milliseconds.
    now: i64,
    is_journaled: bool,
    /// The accounts that the claim at hand is charged to, and those that have to be made. Kept for their memory.
    charged: Vec<u32>,
    missing: Vec<(PoolId, Arc<TokenPool>)>,
}

/// What came of something beside its answer, for others to be told.
#[derive(Debug, Default)]
pub struct Effects {
    /// Thresholds that were crossed.
    pub alerts: Vec<Alert>,
    /// Reservations that expired.
    pub expired: Vec<Expired>,
    /// What was booked where. Only of books that are [journaled](Books::journaled).
    pub bookings: Vec<Booking>,
}

/// What was booked in one pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Booking {
    /// Which pool.
    pub pool: PoolId,
    /// When the window began that it counts in, or of a rolling one the part. Unit: Unix milliseconds, as below; the
    /// least number there is for a window that never began.
    pub start_ms: i64,
    /// When that ends; the greatest number there is if it never does.
    pub end_ms: i64,
    /// When it was booked, within that time.
    pub last_ms: i64,
    /// What was spent.
    pub settled: Amount,
    /// What was used beyond that.
    pub overrun: Amount,
}

/// What became of a call.
#[derive(Debug, Clone, Copy)]
enum State {
    /// It holds what its record says.
    Open(u32),
    /// Its lease is over; what was not booked can still be.
    Expired(u32),
    Settled,
}

/// What a call holds, or held.
#[derive(Debug)]
struct Record {
    /// `None`: nobody's.
    call: Option<CallId>,
    is_open: bool,
    held: Amount,
    produced: Amount,
    /// Unit: Unix milliseconds.
    until: i64,
    charges: Vec<Charge>,
}

/// One pool that a call is charged to.
#[derive(Debug, Clone, Copy)]
struct Charge {
    account: u32,
    /// The window that it was reserved in.
    serial: u32,
    /// What was booked when its lease ran out.
    booked: Amount,
}

// === impl Books ===

impl Books {
    /// The books of these pools, with nothing in them.
    pub fn new(pools: &PoolTree) -> Self {
        let mut books = Self {
            accounts: Vec::new(),
            free_accounts: Vec::new(),
            by_id: HashMap::new(),
            templates: HashMap::new(),
            made: 0,
            swept: i64::MIN,
            calls: HashMap::new(),
            records: Vec::new(),
            free_records: Vec::new(),
            open: 0,
            settled: VecDeque::new(),
            expired: VecDeque::new(),
            first_lease: i64::MAX,
            now: 0,
            is_journaled: false,
            charged: Vec::new(),
            missing: Vec::new(),
        };
        books.reconfigure(pools, Timestamp::UNIX_EPOCH);
        books
    }

    /// The same, and what is booked is told in [`Effects::bookings`].
    #[must_use]
    pub fn journaled(self) -> Self {
        Self { is_journaled: true, ..self }
    }

    /// Holds an amount for a call in all its pools, or in none.
    ///
    /// # Errors
    ///
    /// Why it is not held.
    pub fn reserve(
        &mut self,
        claim: &Claim<'_>,
        now: Timestamp,
        effects: &mut Effects,
    ) -> Result<Granted, Refusal> {
        let now = self.told(now);
        if self.calls.contains_key(claim.call) {
            return Err(Refusal::KnownCall(claim.call.clone()));
        }
        if self.open >= RESERVATIONS_MAX && self.expire_due(now, effects) == 0 {
            return Err(Refusal::TooManyOpen);
        }
        self.find(claim)?;
        let (held, ceiling) = match self.fit(claim, now) {
            // Somebody's lease may be over who holds what is missing.
            Err(_) if self.expire_due(now, effects) > 0 => self.fit(claim, now),
            fit => fit,
        }
        .map_err(Refusal::Exhausted)?;
        self.make_missing(now)?;

        let until = now.saturating_add(lease_ms(claim.lease));
        let record = self.take_record(claim.call.clone(), held, until);
        for account in self.charged.drain(..) {
            let Some(Some(books)) = self.accounts.get_mut(account as usize) else { continue };
            books.reserve(held);
            books.tell_beyond(&mut effects.alerts);
            let charge = Charge { account, serial: books.serial(), booked: Amount::ZERO };
            self.records[record as usize].charges.push(charge);
        }
        self.calls.insert(claim.call.clone(), State::Open(record));
        self.open += 1;
        self.first_lease = self.first_lease.min(until);
        Ok(Granted { held, ceiling, until: time(until) })
    }

    /// Whether a claim would be granted, without holding anything.
    ///
    /// # Errors
    ///
    /// Why no claim on these pools would be.
    pub fn check(
        &mut self,
        claim: &Claim<'_>,
        now: Timestamp,
        effects: &mut Effects,
    ) -> Result<Checked, Refusal> {
        let now = self.told(now);
        // What a claim would find out that is refused at first.
        self.expire_due(now, effects);
        if self.open >= RESERVATIONS_MAX {
            return Err(Refusal::TooManyOpen);
        }
        self.find(claim)?;
        // Nothing always fits, and of everything as much as there is.
        let all = Claim { estimate: Amount::MAX, least: Amount::ZERO, ..*claim };
        let (_, left) = self.fit(&all, now).map_err(Refusal::Exhausted)?;
        Ok(Checked { left, shortage: self.fit(claim, now).err() })
    }

    /// Holds so much more for a call in all its pools, or in none. Answers what it holds then.
    ///
    /// # Errors
    ///
    /// If a hard pool has not so much left, or the call holds nothing.
    pub fn extend(
        &mut self,
        call: &CallId,
        more: Amount,
        now: Timestamp,
        effects: &mut Effects,
    ) -> Result<Amount, Refusal> {
        let now = self.told(now);
        let more = more.sound();
        let is_short = |books: &mut Self| -> Result<Option<Shortage>, Refusal> {
            let record = &books.records[books.open_record(call)? as usize];
            let mut worst: Option<Shortage> = None;
            for charge in &record.charges {
                let Some(Some(account)) = books.accounts.get_mut(charge.account as usize) else { continue };
                account.roll(now);
                if !more.is_within(account.room_in(charge.serial)) {
                    worse(&mut worst, account.shortage(charge.serial, more));
                }
            }
            Ok(worst)
        };
        let mut short = is_short(self)?;
        if short.is_some() && self.expire_due(now, effects) > 0 {
            short = is_short(self)?;
        }
        if let Some(shortage) = short {
            return Err(Refusal::Exhausted(Box::new(shortage)));
        }
        let record = self.open_record(call)?;
        let record = &mut self.records[record as usize];
        record.held = record.held.saturating_add(more);
        for charge in &record.charges {
            let Some(Some(account)) = self.accounts.get_mut(charge.account as usize) else { continue };
            account.reserve_more(charge.serial, more);
            account.tell_beyond(&mut effects.alerts);
        }
        Ok(record.held)
    }

    /// Lets a call hold what it holds for so long from now. Answers until when.
    ///
    /// # Errors
    ///
    /// If the call holds nothing.
    pub fn renew(&mut self, call: &CallId, lease: Duration, now: Timestamp) -> Result<Timestamp, Refusal> {
        let now = self.told(now);
        let record = self.open_record(call)?;
        let until = now.saturating_add(lease_ms(lease));
        self.records[record as usize].until = until;
        self.first_lease = self.first_lease.min(until);
        Ok(time(until))
    }

    /// Notes what a call has produced so far, all in all. Of a call that holds nothing it is not noted.
    pub fn produced(&mut self, call: &CallId, amount: Amount) {
        if let Some(State::Open(record)) = self.calls.get(call) {
            self.records[*record as usize].produced = amount.sound();
        }
    }

    /// Books what a call took and lets go of what it held, once.
    ///
    /// `None` for the time: the one that was told last.
    pub fn settle(
        &mut self,
        call: &CallId,
        actual: Amount,
        now: Option<Timestamp>,
        effects: &mut Effects,
    ) -> Settled {
        let now = now.map_or(self.now, |now| self.told(now));
        let actual = actual.sound();
        let state = self.calls.get_mut(call).map(|state| std::mem::replace(state, State::Settled));
        let (index, is_late) = match state {
            Some(State::Open(record)) => (record, false),
            Some(State::Expired(record)) => (record, true),
            Some(State::Settled) => return Settled::nothing(SettleOutcome::Repeated),
            None => return Settled::nothing(SettleOutcome::Unknown),
        };
        let (booked, overrun) = if is_late {
            self.book_late(index, actual, now, effects)
        } else {
            self.open -= 1;
            (actual, self.book(index, actual, now, effects))
        };
        self.close(index);
        let outcome = if is_late { SettleOutcome::Late } else { SettleOutcome::Booked };
        Settled { outcome, booked, overrun, fault: None }
    }

    /// Lets go of what is held by calls whose lease is over, and books what they had produced. Answers how many.
    pub fn reap(&mut self, now: Timestamp, effects: &mut Effects) -> usize {
        let now = self.told(now);
        self.expire_due(now, effects)
    }

    /// All pools that a call is charged to. Empty: it holds nothing and never did, or is settled.
    pub fn charged(&self, call: &CallId) -> Vec<PoolId> {
        let Some(State::Open(record) | State::Expired(record)) = self.calls.get(call) else {
            return Vec::new();
        };
        let charges = self.records[*record as usize].charges.iter();
        charges.filter_map(|charge| Some(self.account(charge.account)?.id.clone())).collect()
    }

    /// How a pool stands. `None`: it is not defined, nor is a template for it.
    pub fn status(&mut self, pool: &PoolId, now: Timestamp) -> Option<PoolStatus> {
        let now = now.as_millisecond();
        if let Some(slot) = self.by_id.get(pool) {
            let account = self.accounts.get_mut(*slot as usize)?.as_mut()?;
            account.roll(now);
            return Some(account.status());
        }
        let template = self.templates.get(pool.kind())?;
        Some(Account::new(pool.clone(), Arc::clone(template), None, Standing::Made, now).status())
    }

    /// How pools stand, those made by templates among them: at most `limit`, by their names, from the one after `after`
    /// on.
    pub fn statuses(&mut self, after: Option<&PoolId>, limit: usize, now: Timestamp) -> Vec<PoolStatus> {
        let ids = self.by_id.keys().filter(|id| after.is_none_or(|after| *id > after));
        let mut page: Vec<PoolId> = ids.cloned().collect();
        if page.len() > limit {
            page.select_nth_unstable(limit);
            page.truncate(limit);
        }
        page.sort_unstable();
        page.iter().filter_map(|id| self.status(id, now)).collect()
    }

    /// What a pool spent in its latest windows, the newest first: as many as are remembered.
    pub fn history(&mut self, pool: &PoolId, limit: usize, now: Timestamp) -> Vec<WindowSums> {
        let Some(slot) = self.by_id.get(pool) else { return Vec::new() };
        let Some(Some(account)) = self.accounts.get_mut(*slot as usize) else { return Vec::new() };
        account.roll(now.as_millisecond());
        account.history(limit)
    }

    /// The length of the longest rolling window. Unit: milliseconds.
    #[cfg_attr(not(feature = "sqlite"), allow(dead_code))] // as `restore`
    pub(crate) fn longest_rolling_ms(&self) -> i64 {
        let rules =
            self.accounts.iter().flatten().map(|account| &account.rules).chain(self.templates.values());
        rules.filter_map(|rules| rules.window.rolling()).max().unwrap_or(0)
    }

    /// How many reservations are open.
    pub fn open(&self) -> usize {
        self.open
    }

    /// Takes other pools. What is spent and reserved stays, by the pools' names; of a pool with another window, what is
    /// known of the time since the new one began counts in it. A pool that is not defined any more is remembered while
    /// it has spent something in its window.
    pub fn reconfigure(&mut self, pools: &PoolTree, now: Timestamp) {
        let now = self.told(now);
        let mut defined: HashMap<&PoolId, &Arc<TokenPool>> = HashMap::new();
        self.templates.clear();
        self.charged.clear();
        for pool in pools.shared() {
            if pool.id.is_template() {
                self.templates.insert(pool.id.kind().into(), Arc::clone(pool));
            } else {
                defined.insert(&pool.id, pool);
            }
        }
        for account in self.accounts.iter_mut().flatten() {
            let (rules, standing) = match (defined.remove(&account.id), self.templates.get(account.id.kind()))
            {
                (Some(rules), _) => (Arc::clone(rules), Standing::Defined),
                (None, Some(template)) => (Arc::clone(template), Standing::Made),
                (None, None) => (Arc::clone(&account.rules), Standing::Retired),
            };
            account.standing = standing;
            account.take_rules(rules, now);
        }
        for (id, rules) in defined {
            self.add(Account::new(id.clone(), Arc::clone(rules), None, Standing::Defined, now));
        }
        self.made = self.accounts.iter().flatten().filter(|one| one.standing != Standing::Defined).count();
        self.sweep(now, |account| account.standing == Standing::Retired);
        for slot in 0..self.accounts.len() {
            let parent = self.account(slot as u32).and_then(|account| {
                let parent =
                    account.rules.parent.as_ref().filter(|_| account.standing != Standing::Retired)?;
                self.by_id.get(parent).copied()
            });
            if let Some(account) = &mut self.accounts[slot] {
                account.parent = parent;
            }
        }
    }

    /// Puts in what is known from before. Of pools that are neither defined nor covered by a template nothing is taken.
    #[cfg_attr(not(feature = "sqlite"), allow(dead_code))] // only ledgers that outlive the process know something
    pub(crate) fn restore(&mut self, pool: &PoolId, known: &[Known], now: Timestamp) {
        let now = self.told(now);
        let slot = match (self.by_id.get(pool), self.templates.get(pool.kind())) {
            (Some(slot), _) => *slot,
            (None, Some(template)) => {
                let template = Arc::clone(template);
                self.made += 1;
                let parent = template.parent.as_ref().and_then(|parent| self.by_id.get(parent).copied());
                self.add(Account::new(pool.clone(), template, parent, Standing::Made, now))
            }
            (None, None) => return,
        };
        if let Some(Some(account)) = self.accounts.get_mut(slot as usize) {
            account.restore(known, now);
        }
    }

    /// Notes the time that was told.
    fn told(&mut self, now: Timestamp) -> i64 {
        self.now = now.as_millisecond();
        self.now
    }

    fn account(&self, slot: u32) -> Option<&Account> {
        self.accounts.get(slot as usize)?.as_ref()
    }

    /// Finds out which accounts a claim is charged to, and which have to be made.
    fn find(&mut self, claim: &Claim<'_>) -> Result<(), Refusal> {
        self.charged.clear();
        self.missing.clear();
        for id in claim.pools {
            self.find_one(id, true)?;
        }
        for id in claim.if_defined {
            self.find_one(id, false)?;
        }
        Ok(())
    }

    fn find_one(&mut self, id: &PoolId, is_needed: bool) -> Result<(), Refusal> {
        if id.is_template() {
            return Err(Refusal::UnknownPool(id.clone()));
        }
        let mut next = None;
        let slot = self.by_id.get(id).copied();
        if let Some(slot) = slot
            && self.account(slot).is_some_and(|account| account.standing != Standing::Retired)
        {
            next = Some(slot);
        } else if let Some(template) = self.templates.get(id.kind()) {
            next = template.parent.as_ref().and_then(|parent| self.by_id.get(parent).copied());
            if self.missing.iter().all(|(missing, _)| missing != id) {
                self.missing.push((id.clone(), Arc::clone(template)));
            }
        } else if is_needed {
            return Err(Refusal::UnknownPool(id.clone()));
        }
        while let Some(slot) = next.filter(|slot| !self.charged.contains(slot)) {
            self.charged.push(slot);
            next = self.account(slot).and_then(|account| account.parent);
        }
        if self.charged.len() + self.missing.len() > POOLS_PER_CALL_MAX {
            return Err(Refusal::TooManyPools);
        }
        Ok(())
    }

    /// How much of a claim fits into all its accounts, and what a hard one limits of it.
    fn fit(&mut self, claim: &Claim<'_>, now: i64) -> Result<(Amount, Capacity), Box<Shortage>> {
        let estimate = claim.estimate.sound();
        let least = claim.least.sound().min(estimate);
        let mut held = estimate;
        let mut limited = (false, false);
        let mut limit = |pool: &TokenPool| {
            if pool.mode == crate::Mode::Hard {
                limited.0 |= pool.capacity.tokens.is_some();
                limited.1 |= pool.capacity.money.is_some();
            }
        };
        let mut worst: Option<Shortage> = None;
        for slot in &self.charged {
            let Some(Some(account)) = self.accounts.get_mut(*slot as usize) else { continue };
            account.roll(now);
            limit(&account.rules);
            let room = account.room();
            if !least.is_within(room) {
                worse(&mut worst, account.shortage(account.serial(), least));
            }
            held = held.min(room);
        }
        for (id, rules) in &self.missing {
            let mut account = Account::new(id.clone(), Arc::clone(rules), None, Standing::Made, now);
            limit(rules);
            let room = account.room();
            if !least.is_within(room) {
                worse(&mut worst, account.shortage(account.serial(), least));
            }
            held = held.min(room);
        }
        if let Some(shortage) = worst {
            return Err(Box::new(shortage));
        }
        let ceiling =
            Capacity { tokens: limited.0.then_some(held.tokens), money: limited.1.then_some(held.money) };
        Ok((held, ceiling))
    }

    /// Makes the accounts that a claim needs and that are not there.
    fn make_missing(&mut self, now: i64) -> Result<(), Refusal> {
        let Some((first, _)) = self.missing.first() else { return Ok(()) };
        if self.made + self.missing.len() > POOLS_MADE_MAX {
            let interval = i64::try_from(POOLS_SWEEP_INTERVAL.as_millis()).unwrap_or(i64::MAX);
            // The clock may have been set back.
            let is_due = now < self.swept || now.saturating_sub(self.swept) >= interval;
            let first = first.clone();
            if is_due {
                self.swept = now;
                self.sweep(now, |account| account.standing != Standing::Defined);
            }
            if self.made + self.missing.len() > POOLS_MADE_MAX {
                return Err(Refusal::NoRoom(first));
            }
        }
        for (id, rules) in std::mem::take(&mut self.missing) {
            let parent = rules.parent.as_ref().and_then(|parent| self.by_id.get(parent).copied());
            let slot = self.add(Account::new(id, rules, parent, Standing::Made, now));
            self.made += 1;
            self.charged.push(slot);
        }
        Ok(())
    }

    fn add(&mut self, account: Account) -> u32 {
        let id = account.id.clone();
        let slot = match self.free_accounts.pop() {
            Some(slot) => {
                self.accounts[slot as usize] = Some(account);
                slot
            }
            None => {
                self.accounts.push(Some(account));
                self.accounts.len() as u32 - 1
            }
        };
        self.by_id.insert(id, slot);
        slot
    }

    /// Forgets those of some accounts in which nothing is held or spent, but for those of the claim at hand.
    fn sweep(&mut self, now: i64, may_go: impl Fn(&Account) -> bool) {
        for (slot, place) in self.accounts.iter_mut().enumerate() {
            let slot = slot as u32;
            if let Some(account) = place.as_mut().filter(|account| may_go(account))
                && account.is_idle(now)
                && !self.charged.contains(&slot)
            {
                self.by_id.remove(&account.id);
                *place = None;
                self.free_accounts.push(slot);
                self.made -= 1;
            }
        }
    }

    fn open_record(&self, call: &CallId) -> Result<u32, Refusal> {
        match self.calls.get(call) {
            Some(State::Open(record)) => Ok(*record),
            _ => Err(Refusal::NotOpen(call.clone())),
        }
    }

    fn take_record(&mut self, call: CallId, held: Amount, until: i64) -> u32 {
        match self.free_records.pop() {
            Some(index) => {
                let record = &mut self.records[index as usize];
                (record.call, record.is_open, record.held) = (Some(call), true, held);
                (record.produced, record.until) = (Amount::ZERO, until);
                index
            }
            None => {
                let (call, produced, charges) = (Some(call), Amount::ZERO, Vec::new());
                self.records.push(Record { call, is_open: true, held, produced, until, charges });
                self.records.len() as u32 - 1
            }
        }
    }

    /// Lets go of what a record holds and books what was used, in each pool as its mode says. Answers what hard ones
    /// could not book.
    fn book(&mut self, index: u32, actual: Amount, now: i64, effects: &mut Effects) -> Amount {
        let record = &mut self.records[index as usize];
        record.is_open = false;
        let mut overrun = Amount::ZERO;
        for charge in &mut record.charges {
            let Some(Some(account)) = self.accounts.get_mut(charge.account as usize) else { continue };
            account.roll(now);
            account.release(charge.serial, record.held);
            // What was held, and of what went beyond it as much as there is room for: who takes more than its estimate again
            // and again must not be charged for the estimates alone.
            let most = record.held.max(account.room_in(charge.serial));
            charge.booked = if account.is_hard() { actual.min(most) } else { actual };
            let beyond = actual.saturating_sub(charge.booked);
            overrun = overrun.max(beyond);
            let (settled, journal) = (charge.booked, self.is_journaled);
            book(account, charge.serial, settled, beyond, now, journal, effects);
        }
        overrun
    }

    /// Books of an expired record what was not booked then, in hard pools as far as there is room. Answers what that is
    /// in a pool that books everything, and what hard ones could not book.
    fn book_late(&mut self, index: u32, actual: Amount, now: i64, effects: &mut Effects) -> (Amount, Amount) {
        let record = &mut self.records[index as usize];
        let (mut most, mut overrun) = (Amount::ZERO, Amount::ZERO);
        for charge in &mut record.charges {
            let Some(Some(account)) = self.accounts.get_mut(charge.account as usize) else { continue };
            account.roll(now);
            let open = actual.saturating_sub(charge.booked);
            let room = account.room_in(charge.serial);
            let settled = if account.is_hard() { open.min(room) } else { open };
            // What was beyond when it expired has been counted.
            let counted = record.produced.saturating_sub(charge.booked);
            let beyond = open.saturating_sub(settled).saturating_sub(counted);
            most = most.max(open);
            overrun = overrun.max(open.saturating_sub(settled));
            book(account, charge.serial, settled, beyond, now, self.is_journaled, effects);
        }
        (most, overrun)
    }

    /// Ends the reservations whose lease is over. Answers how many.
    fn expire_due(&mut self, now: i64, effects: &mut Effects) -> usize {
        if now < self.first_lease {
            return 0;
        }
        self.first_lease = i64::MAX;
        let mut due = Vec::new();
        for (index, record) in self.records.iter().enumerate().filter(|(_, record)| record.is_open) {
            match record.until > now {
                true => self.first_lease = self.first_lease.min(record.until),
                false => due.push(index as u32),
            }
        }
        // In the order in which they ran out: who comes later has the room that the earlier ones gave back.
        due.sort_by(|a, b| {
            let [a, b] = [a, b].map(|index| &self.records[*index as usize]);
            (a.until, &a.call).cmp(&(b.until, &b.call))
        });
        due.iter().for_each(|index| self.expire(*index, now, effects));
        due.len()
    }

    fn expire(&mut self, index: u32, now: i64, effects: &mut Effects) {
        let record = &self.records[index as usize];
        let (held, produced) = (record.held, record.produced);
        let Some(call) = record.call.clone() else { return };
        self.open -= 1;
        self.book(index, produced, now, effects);
        self.calls.insert(call.clone(), State::Expired(index));
        self.expired.push_back(call.clone());
        effects.expired.push(Expired { call, held, produced });
        while self.expired.len() > EXPIRED_REMEMBERED_MAX
            && let Some(oldest) = self.expired.pop_front()
        {
            if let Some(state) = self.calls.get_mut(&oldest)
                && let State::Expired(index) = *state
            {
                *state = State::Settled;
                self.close(index);
            }
        }
    }

    /// Forgets a record whose call is settled.
    fn close(&mut self, index: u32) {
        let record = &mut self.records[index as usize];
        record.is_open = false;
        for charge in record.charges.drain(..) {
            if let Some(Some(account)) = self.accounts.get_mut(charge.account as usize) {
                account.leave(charge.serial);
            }
        }
        self.settled.extend(record.call.take());
        self.free_records.push(index);
        if self.settled.len() > SETTLED_REMEMBERED_MAX
            && let Some(oldest) = self.settled.pop_front()
        {
            self.calls.remove(&oldest);
        }
    }
}

/// Books in one account, and tells what came of it.
fn book(
    account: &mut Account,
    serial: u32,
    settled: Amount,
    overrun: Amount,
    now: i64,
    is_journaled: bool,
    effects: &mut Effects,
) {
    if settled.is_zero() && overrun.is_zero() {
        return;
    }
    let booked = account.book(serial, settled, overrun, now);
    account.tell_reached(&mut effects.alerts);
    account.tell_beyond(&mut effects.alerts);
    if is_journaled {
        effects.bookings.push(Booking {
            pool: account.id.clone(),
            start_ms: booked.span.start,
            end_ms: booked.span.end,
            last_ms: booked.last,
            settled,
            overrun,
        });
    }
}

/// Keeps the shortage that is waited for longer.
fn worse(worst: &mut Option<Shortage>, shortage: Shortage) {
    let rank = |shortage: &Shortage| -> Earliest { shortage.earliest };
    if worst.as_ref().is_none_or(|worst| rank(worst) < rank(&shortage)) {
        *worst = Some(shortage);
    }
}

fn lease_ms(lease: Duration) -> i64 {
    i64::try_from(lease.min(RESERVATION_LEASE_MAX).as_millis()).unwrap_or(i64::MAX)
}

fn time(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
