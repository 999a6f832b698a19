//! What one pool has spent and what is reserved in it, window by window.
//!
//! Knows nothing of other pools and of calls. An amount is reserved and settled under the serial number of the window
//! that it was reserved in, which stays the same when the window is over.

use std::collections::VecDeque;
use std::sync::Arc;

use hoosh_core::limits::POOL_WINDOWS_KEPT_MAX;
use jiff::Timestamp;

use crate::amount::{Amount, Capacity};
use crate::ledger::{Alert, AlertKind, PoolStatus, WindowSums};
use crate::pool::{Mode, PoolId, TokenPool};
use crate::refusal::{Earliest, Shortage};
use crate::window::Span;

/// A pool's books.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) id: PoolId,
    /// Its definition, or that of its template.
    pub(super) rules: Arc<TokenPool>,
    /// Where the one above it is.
    pub(super) parent: Option<u32>,
    pub(super) standing: Standing,
    /// The window that runs.
    current: Sums,
    /// Closed windows, the oldest first.
    past: VecDeque<Sums>,
    /// Of a rolling window what was spent when, the oldest first; their sum is the current window's.
    buckets: VecDeque<Bucket>,
}

/// How a pool came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is in the configuration.
    Defined,
    /// A template made it.
    Made,
    /// It is not in the configuration any more, but somebody settles in it, or it would begin anew if it came back.
    Retired,
}

/// What one window has.
#[derive(Debug, Clone, Copy)]
struct Sums {
    serial: u32,
    span: Span,
    /// When something was booked last. Unit: Unix milliseconds.
    last: i64,
    settled: Amount,
    reserved: Amount,
    overrun: Amount,
    /// Reservations that will settle in it.
    holders: u32,
    /// Which thresholds were told, by their number; the highest bit is for [`AlertKind::Beyond`].
    told: u16,
}

/// A part of a rolling window.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    span: Span,
    settled: Amount,
    overrun: Amount,
}

/// What is known of a window that was kept before.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    pub(crate) span: Span,
    /// When something was booked last. Unit: Unix milliseconds.
    pub(crate) last: i64,
    pub(crate) settled: Amount,
    pub(crate) overrun: Amount,
}

/// Where something was booked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Booked {
    pub(super) span: Span,
    pub(super) last: i64,
}

const BEYOND: u16 = 1 << 15;

// === impl Sums ===

impl Sums {
    fn new(serial: u32, span: Span, now: i64) -> Self {
        Self {
            serial,
            span,
            last: now,
            settled: Amount::ZERO,
            reserved: Amount::ZERO,
            overrun: Amount::ZERO,
            holders: 0,
            told: 0,
        }
    }

    fn is_untouched(&self) -> bool {
        self.holders == 0 && self.settled.is_zero() && self.overrun.is_zero()
    }

    fn known(&self) -> Known {
        Known { span: self.span, last: self.last, settled: self.settled, overrun: self.overrun }
    }

    /// What can be reserved in it. Never so much that the sum of what is reserved could not be counted.
    fn room(&self, rules: &TokenPool) -> Amount {
        let countable = Amount::MAX.saturating_sub(self.reserved);
        match rules.mode {
            Mode::Soft => countable,
            Mode::Hard => {
                countable.min(rules.capacity.left(self.settled.saturating_add(self.reserved)).most())
            }
        }
    }
}

// === impl Account ===

impl Account {
    pub(super) fn new(
        id: PoolId,
        rules: Arc<TokenPool>,
        parent: Option<u32>,
        standing: Standing,
        now: i64,
    ) -> Self {
        let span = window(&rules, now);
        Self {
            id,
            rules,
            parent,
            standing,
            current: Sums::new(0, span, now),
            past: VecDeque::new(),
            buckets: VecDeque::new(),
        }
    }

    /// Comes to the window that `now` lies in. A time before the window that runs changes nothing: what was counted
    /// stays counted.
    pub(super) fn roll(&mut self, now: i64) {
        if let Some(length) = self.rules.window.rolling() {
            let gone = now.saturating_sub(length);
            let mut has_moved = false;
            while let Some(bucket) = self.buckets.front().filter(|bucket| bucket.span.end <= gone) {
                self.current.settled = self.current.settled.saturating_sub(bucket.settled);
                self.current.overrun = self.current.overrun.saturating_sub(bucket.overrun);
                self.buckets.pop_front();
                has_moved = true;
            }
            if has_moved {
                self.current.told &= self.reached();
            }
        } else if now >= self.current.span.end {
            let serial = self.current.serial.wrapping_add(1);
            let next = Sums::new(serial, window(&self.rules, now), now);
            let closed = std::mem::replace(&mut self.current, next);
            if !closed.is_untouched() {
                self.put_by(closed);
            }
        }
    }

    fn put_by(&mut self, closed: Sums) {
        self.past.push_back(closed);
        if self.past.len() > POOL_WINDOWS_KEPT_MAX
            && let Some(index) = self.past.iter().position(|sums| sums.holders == 0)
        {
            self.past.remove(index);
        }
    }

    /// The window of that serial number. One that somebody holds something in is never forgotten.
    fn sums(&mut self, serial: u32) -> &mut Sums {
        if self.current.serial == serial {
            return &mut self.current;
        }
        match self.past.iter().rposition(|sums| sums.serial == serial) {
            Some(index) => &mut self.past[index],
            None => {
                debug_assert!(false, "pool {} forgot a window that is held", self.id);
                &mut self.current
            }
        }
    }

    /// The serial number of the window that runs.
    pub(super) fn serial(&self) -> u32 {
        self.current.serial
    }

    /// What can be reserved in the window that runs.
    pub(super) fn room(&self) -> Amount {
        self.current.room(&self.rules)
    }

    /// What more can be reserved in that window.
    pub(super) fn room_in(&mut self, serial: u32) -> Amount {
        let rules = Arc::clone(&self.rules);
        self.sums(serial).room(&rules)
    }

    pub(super) fn is_hard(&self) -> bool {
        self.rules.mode == Mode::Hard
    }

    /// Reserves in the window that runs, for somebody who will settle there.
    pub(super) fn reserve(&mut self, amount: Amount) {
        self.current.holders += 1;
        self.current.reserved = self.current.reserved.saturating_add(amount);
    }

    /// Reserves more for somebody who has something there.
    pub(super) fn reserve_more(&mut self, serial: u32, amount: Amount) {
        let sums = self.sums(serial);
        sums.reserved = sums.reserved.saturating_add(amount);
    }

    /// Lets go of what was reserved; whoever held it may still settle.
    pub(super) fn release(&mut self, serial: u32, amount: Amount) {
        let sums = self.sums(serial);
        sums.reserved = sums.reserved.saturating_sub(amount);
    }

    /// Forgets one who would settle there.
    pub(super) fn leave(&mut self, serial: u32) {
        let sums = self.sums(serial);
        sums.holders = sums.holders.saturating_sub(1);
    }

    /// Books what was spent, and what was used beyond what could be booked.
    pub(super) fn book(&mut self, serial: u32, settled: Amount, overrun: Amount, now: i64) -> Booked {
        // Before the rules were changed it may have had other windows, in which somebody still settles.
        if self.rules.window.rolling().is_some() && serial == self.current.serial {
            return self.book_rolling(settled, overrun, now);
        }
        let sums = self.sums(serial);
        sums.settled = sums.settled.saturating_add(settled);
        sums.overrun = sums.overrun.saturating_add(overrun);
        sums.last = now.clamp(sums.span.start, sums.span.end.saturating_sub(1)).max(sums.last);
        Booked { span: sums.span, last: sums.last }
    }

    fn book_rolling(&mut self, settled: Amount, overrun: Amount, now: i64) -> Booked {
        let sums = &mut self.current;
        sums.settled = sums.settled.saturating_add(settled);
        sums.overrun = sums.overrun.saturating_add(overrun);
        sums.last = sums.last.max(now);
        match self.buckets.back_mut() {
            // Also where the clock was set back: it counts longer then, not shorter.
            Some(bucket) if now < bucket.span.end => {
                bucket.settled = bucket.settled.saturating_add(settled);
                bucket.overrun = bucket.overrun.saturating_add(overrun);
                Booked { span: bucket.span, last: now.max(bucket.span.start) }
            }
            _ => {
                let span = self.rules.window.span(&self.rules.time_zone, now);
                self.buckets.push_back(Bucket { span, settled, overrun });
                Booked { span, last: now }
            }
        }
    }

    /// Whether it can be forgotten: nothing is held in it, and nothing is spent in the window that runs.
    pub(super) fn is_idle(&mut self, now: i64) -> bool {
        self.roll(now);
        self.current.is_untouched() && self.past.iter().all(|sums| sums.holders == 0)
    }

    /// What it cannot give, if it cannot give so much.
    pub(super) fn shortage(&mut self, serial: u32, asked: Amount) -> Shortage {
        let earliest = self.earliest(serial, asked);
        let sums = *self.sums(serial);
        Shortage {
            pool: self.id.clone(),
            capacity: self.rules.capacity,
            settled: sums.settled,
            reserved: sums.reserved,
            asked,
            earliest,
        }
    }

    fn earliest(&mut self, serial: u32, asked: Amount) -> Earliest {
        let capacity = self.rules.capacity;
        let is_current = serial == self.current.serial;
        let mut settled = self.sums(serial).settled;
        if !capacity.allows(asked) {
            return Earliest::Never;
        }
        if capacity.allows(settled.saturating_add(asked)) {
            return Earliest::OthersSettle;
        }
        if let Some(length) = self.rules.window.rolling() {
            for bucket in &self.buckets {
                settled = settled.saturating_sub(bucket.settled);
                if capacity.allows(settled.saturating_add(asked)) {
                    let gone = Timestamp::from_millisecond(bucket.span.end.saturating_add(length));
                    return gone.map_or(Earliest::Never, Earliest::At);
                }
            }
            return Earliest::Never;
        }
        // A window that is over has no next one for whoever holds something in it.
        let end = self.current.span.end().filter(|_| is_current);
        end.map_or(Earliest::Never, Earliest::At)
    }

    /// The thresholds that are reached now, as bits.
    fn reached(&self) -> u16 {
        let (settled, capacity) = (self.current.settled, self.rules.capacity);
        let bits = self.rules.alerts.iter().enumerate();
        bits.filter(|(_, percent)| is_reached(settled, capacity, **percent))
            .fold(0, |bits, (index, _)| bits | 1 << index)
    }

    /// Tells the thresholds that what is spent in the window that runs has crossed since they were told last.
    pub(super) fn tell_reached(&mut self, alerts: &mut Vec<Alert>) {
        let new = self.reached() & !self.current.told;
        if new != 0 {
            self.current.told |= new;
            for (index, percent) in self.rules.alerts.iter().enumerate() {
                if new & 1 << index != 0 {
                    alerts.push(self.alert(AlertKind::Reached(*percent)));
                }
            }
        }
    }

    /// Tells that more is held in a soft pool than it has left, if that was not told in this window.
    pub(super) fn tell_beyond(&mut self, alerts: &mut Vec<Alert>) {
        if self.rules.mode == Mode::Soft && self.current.told & BEYOND == 0 {
            let spoken_for = self.current.settled.saturating_add(self.current.reserved);
            if !self.rules.capacity.allows(spoken_for) {
                self.current.told |= BEYOND;
                alerts.push(self.alert(AlertKind::Beyond));
            }
        }
    }

    fn alert(&self, kind: AlertKind) -> Alert {
        Alert {
            pool: self.id.clone(),
            kind,
            capacity: self.rules.capacity,
            settled: self.current.settled,
            reserved: self.current.reserved,
        }
    }

    /// Takes other rules. What is spent and reserved stays; where the window is another, what is known of the time
    /// since it began counts in it, and so does everything that is reserved now.
    pub(super) fn take_rules(&mut self, rules: Arc<TokenPool>, now: i64) {
        self.roll(now);
        let is_same = rules.window == self.rules.window && rules.time_zone == self.rules.time_zone;
        let old = std::mem::replace(&mut self.rules, rules);
        if !is_same {
            let mut known: Vec<Known> = self.past.iter().map(Sums::known).collect();
            if old.window.rolling().is_some() {
                known.extend(self.buckets.iter().map(|bucket| Known {
                    span: bucket.span,
                    last: bucket.span.end.saturating_sub(1).min(now),
                    settled: bucket.settled,
                    overrun: bucket.overrun,
                }));
            } else {
                known.push(self.current.known());
            }
            self.begin(&known, now);
        }
        self.current.told = self.reached();
    }

    /// Begins with what is known of it from before.
    pub(super) fn restore(&mut self, known: &[Known], now: i64) {
        self.begin(known, now);
        self.current.told = self.reached();
    }

    /// Counts in the window that runs what is known of its time. A window that reaches into it counts whole: there is
    /// no telling which part of it was spent when.
    fn begin(&mut self, known: &[Known], now: i64) {
        let span = window(&self.rules, now);
        self.buckets.clear();
        (self.current.span, self.current.settled, self.current.overrun) = (span, Amount::ZERO, Amount::ZERO);
        if let Some(length) = self.rules.window.rolling() {
            let gone = now.saturating_sub(length);
            for Known { span, last, settled, overrun } in known.iter().copied() {
                let part = self.rules.window.span(&self.rules.time_zone, last);
                let span = Span { start: span.start, end: span.end.min(part.end) };
                if span.end > gone {
                    self.buckets.push_back(Bucket { span, settled, overrun });
                }
            }
            self.buckets.make_contiguous().sort_by_key(|bucket| bucket.span.end);
        }
        let counted = |one: &&Known| match self.rules.window.rolling() {
            Some(length) => {
                let part = self.rules.window.span(&self.rules.time_zone, one.last);
                one.span.end.min(part.end) > now.saturating_sub(length)
            }
            None => one.span.start < span.end && one.last >= span.start,
        };
        for one in known.iter().filter(counted) {
            self.current.settled = self.current.settled.saturating_add(one.settled);
            self.current.overrun = self.current.overrun.saturating_add(one.overrun);
            self.current.last = self.current.last.max(one.last);
        }
    }

    pub(super) fn status(&self) -> PoolStatus {
        let (rules, sums) = (&self.rules, &self.current);
        PoolStatus {
            id: self.id.clone(),
            parent: rules.parent.clone(),
            capacity: rules.capacity,
            window: rules.window,
            mode: rules.mode,
            settled: sums.settled,
            reserved: sums.reserved,
            overrun: sums.overrun,
            left: rules.capacity.left(sums.settled.saturating_add(sums.reserved)),
            window_start: sums.span.start(),
            window_end: sums.span.end(),
            alerts: rules
                .alerts
                .iter()
                .copied()
                .filter(|percent| is_reached(sums.settled, rules.capacity, *percent))
                .collect(),
        }
    }

    /// The windows that are remembered, the newest first.
    pub(super) fn history(&self, limit: usize) -> Vec<WindowSums> {
        let sums = std::iter::once(&self.current).chain(self.past.iter().rev());
        let told = sums.map(|sums| WindowSums {
            start: sums.span.start(),
            end: sums.span.end(),
            settled: sums.settled,
            overrun: sums.overrun,
        });
        told.take(limit).collect()
    }
}

/// The window around a time; a rolling one has no beginning or end of its own.
fn window(rules: &TokenPool, now: i64) -> Span {
    match rules.window.rolling() {
        Some(_) => Span::ALL,
        None => rules.window.span(&rules.time_zone, now),
    }
}

/// Whether so many percent of a capacity are spent, of tokens or of money. Where nothing is spent none are.
fn is_reached(settled: Amount, capacity: Capacity, percent: u8) -> bool {
    let is_of =
        |settled: u128, capacity: u128| settled > 0 && settled * 100 >= capacity * u128::from(percent);
    let money = |money: hoosh_core::NanoUsd| u128::try_from(money.0).unwrap_or(0);
    capacity.tokens.is_some_and(|tokens| is_of(settled.tokens.into(), tokens.into()))
        || capacity.money.is_some_and(|limit| is_of(money(settled.money), money(limit)))
}
