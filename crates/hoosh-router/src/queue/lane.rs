//! One tier of a queue: whose turn it is among its callers, by tokens.
//!
//! This is start-time fair queueing (Goyal, Vin and Cheng, 1996). The lane has a clock that counts tokens, not time. A
//! caller's first call starts at what the clock shows, each further one where the one before ends, its tokens later. The
//! call that starts first is next, and the clock then shows its start. So whoever comes has at most one call of each
//! other caller before it, however many they have, and among those that always have calls tokens are shared evenly.
//!
//! Who comes back at once goes on where its last call ended: a caller that has nobody waiting is remembered until the
//! clock has come that far. Otherwise one call after the other would always be first.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use hoosh_core::limits::QUEUE_CALLERS_MAX;

/// Who waits. Who came later has the higher one.
pub(super) type Id = u64;

/// Callers and their waiting calls. Everything but [`before`](Self::before) takes logarithmic time, and to pass over those
/// whose model is full takes time with their number.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// Where newcomers start. No waiting call starts before, so that no backlog goes before a newcomer.
    clock: u128,
    /// Those with calls that wait, and those in `ahead`.
    callers: HashMap<Arc<str>, Account>,
    /// Where each caller's first call starts: the first is next.
    by_share: BTreeSet<(u128, Id, Arc<str>)>,
    /// Since when each caller has been passed over, and its first call.
    by_age: BTreeSet<(Instant, Id, Arc<str>)>,
    /// Where callers without waiting calls go on, if the clock has not come that far.
    ahead: BTreeSet<(u128, Arc<str>)>,
    waiting: usize,
    /// The same of each model that somebody waits for.
    waiting_for: HashMap<Arc<str>, usize>,
}

/// A call that waits.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) model: Arc<str>,
    pub(super) tokens: u64,
    pub(super) entered: Instant,
}

#[derive(Debug, Default)]
struct Account {
    /// Where its next call starts. Wide enough that no sum of tokens overflows.
    start: u128,
    /// When its last call got in.
    turn: Option<Instant>,
    calls: BTreeMap<Id, Call>,
}

// === impl Lane ===

impl Lane {
    /// How many calls wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// How many of them for that model.
    pub(super) fn waiting_for(&self, model: &str) -> usize {
        self.waiting_for.get(model).copied().unwrap_or_default()
    }

    /// The models that calls wait for.
    pub(super) fn models(&self) -> impl Iterator<Item = &Arc<str>> {
        self.waiting_for.keys()
    }

    /// Adds a call, the last of its caller. Gives the caller's name to be kept.
    pub(super) fn join(&mut self, caller: &str, id: Id, call: Call) -> Arc<str> {
        let (caller, clock) = (self.name(caller), self.clock);
        self.waiting += 1;
        *self.waiting_for.entry(Arc::clone(&call.model)).or_default() += 1;
        self.change(&caller, |account| {
            account.catch_up(clock);
            account.calls.insert(id, call);
        });
        caller
    }

    /// Takes a call out that does not get in.
    pub(super) fn leave(&mut self, caller: &Arc<str>, id: Id) {
        if let Some(call) = self.change(caller, |account| account.calls.remove(&id)) {
            self.waits_no_more(&call);
        }
    }

    /// Takes a call out that gets in.
    pub(super) fn take(&mut self, caller: &Arc<str>, id: Id, now: Instant) {
        let taken = self.change(caller, |account| {
            account.turn = Some(now);
            let call = account.calls.remove(&id)?;
            Some((account.pay(call.tokens), call))
        });
        if let Some((started, call)) = taken {
            self.waits_no_more(&call);
            self.advance(started);
        }
    }

    fn waits_no_more(&mut self, call: &Call) {
        self.waiting -= 1;
        if let Some(waiting) = self.waiting_for.get_mut(&call.model) {
            *waiting -= 1;
            if *waiting == 0 {
                self.waiting_for.remove(&call.model);
            }
        }
    }

    /// Books a call that gets in without having waited.
    pub(super) fn pass(&mut self, caller: &str, tokens: u64) {
        let (caller, clock) = (self.name(caller), self.clock);
        let started = self.change(&caller, |account| {
            account.catch_up(clock);
            account.pay(tokens)
        });
        self.advance(started);
    }

    /// The call that is next among those whose model is free. The others keep their places.
    pub(super) fn next(&self, is_free: impl Fn(&str) -> bool) -> Option<Id> {
        // To look through all of them for nothing is dear.
        self.waiting_for.keys().find(|model| is_free(model))?;
        let accounts = self.by_share.iter().filter_map(|(.., caller)| self.callers.get(caller));
        accounts.filter_map(|account| account.first(&is_free)).map(|(_, id)| id).next()
    }

    /// Since when the caller that had to wait longest for a turn has been passed over, and its first call, of those whose
    /// model is free.
    ///
    /// That is since the call came, or since the last of its caller got in if that is later: calls do not age behind
    /// their caller's own.
    pub(super) fn longest(&self, is_free: impl Fn(&str) -> bool) -> Option<(Instant, Id)> {
        self.waiting_for.keys().find(|model| is_free(model))?;
        let mut longest: Option<(Instant, Id)> = None;
        for (since, id, caller) in &self.by_age {
            // A call behind a caller's first is no older than that.
            if longest.is_some_and(|longest| longest < (*since, *id)) {
                break;
            }
            let first = self.callers.get(caller).and_then(|account| account.first(&is_free));
            longest = longest.into_iter().chain(first).min();
        }
        longest
    }

    /// How many calls of this lane get in before that one, if nobody comes or leaves, all or those `of` a model. Takes time
    /// with their number.
    pub(super) fn before(&self, caller: &str, id: Id, of: Option<&str>) -> usize {
        let place =
            self.callers.get(caller).and_then(|account| account.starts().find(|(_, other, _)| *other == id));
        let Some(place) = place.map(|(start, id, _)| (start, id)) else { return 0 };
        self.by_share
            .iter()
            .take_while(|(start, first, _)| (*start, *first) < place)
            .filter_map(|(_, _, caller)| self.callers.get(caller))
            .map(|account| {
                let earlier = account.starts().take_while(|(start, other, _)| (*start, *other) < place);
                earlier.filter(|(.., model)| of.is_none_or(|of| *of == ***model)).count()
            })
            .sum()
    }

    /// A caller's name, the kept one if there is one.
    fn name(&self, caller: &str) -> Arc<str> {
        self.callers.get_key_value(caller).map_or_else(|| Arc::from(caller), |(name, _)| Arc::clone(name))
    }

    /// Changes an account, and its places in all the orders with it.
    fn change<T>(&mut self, caller: &Arc<str>, change: impl FnOnce(&mut Account) -> T) -> T {
        let account = self.callers.entry(Arc::clone(caller)).or_default();
        if let Some((since, id)) = account.first(|_| true) {
            self.by_share.remove(&(account.start, id, Arc::clone(caller)));
            self.by_age.remove(&(since, id, Arc::clone(caller)));
        } else {
            self.ahead.remove(&(account.start, Arc::clone(caller)));
        }
        let changed = change(account);
        if let Some((since, id)) = account.first(|_| true) {
            self.by_share.insert((account.start, id, Arc::clone(caller)));
            self.by_age.insert((since, id, Arc::clone(caller)));
        } else if account.start > self.clock {
            self.ahead.insert((account.start, Arc::clone(caller)));
        } else {
            self.callers.remove(caller);
        }
        if self.ahead.len() > QUEUE_CALLERS_MAX {
            self.forget_first();
        }
        changed
    }

    /// Moves the clock to where the call that got in started.
    ///
    /// Not past the start of one that still waits: who gets in out of turn must not put newcomers behind the others.
    fn advance(&mut self, started: u128) {
        let first = self.by_share.first().map_or(started, |(start, ..)| started.min(*start));
        self.clock = self.clock.max(first);
        while self.ahead.first().is_some_and(|(start, _)| *start <= self.clock) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some((_, caller)) = self.ahead.pop_first() {
            self.callers.remove(&caller);
        }
    }
}

// === impl Account ===

impl Account {
    /// Time in which a caller had nothing to ask is not owed to it.
    fn catch_up(&mut self, clock: u128) {
        if self.calls.is_empty() {
            self.start = self.start.max(clock);
        }
    }

    /// Books a call that gets in. Gives where it started.
    fn pay(&mut self, tokens: u64) -> u128 {
        let started = self.start;
        self.start += weight(tokens);
        started
    }

    /// Since when it has been passed over, and its first call, of those whose model is free.
    fn first(&self, is_free: impl Fn(&str) -> bool) -> Option<(Instant, Id)> {
        let (id, call) = self.calls.iter().find(|(_, call)| is_free(&call.model))?;
        Some((self.turn.map_or(call.entered, |turn| turn.max(call.entered)), *id))
    }

    /// Where its calls start, in order, and for which model they are.
    fn starts(&self) -> impl Iterator<Item = (u128, Id, &Arc<str>)> {
        self.calls.iter().scan(self.start, |next, (id, call)| {
            let start = *next;
            *next += weight(call.tokens);
            Some((start, *id, &call.model))
        })
    }
}

/// A call counts at least one token, so that those without an estimate take turns too.
fn weight(tokens: u64) -> u128 {
    u128::from(tokens.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_are_forgotten_once_they_are_not_ahead_of_the_others() {
        let mut lane = Lane::default();
        lane.pass("large", 1_000);
        lane.pass("small", 10);
        assert_eq!(lane.callers.len(), 2);
        // Starts at 10, and the clock with it.
        lane.pass("small", 10);
        assert_eq!((lane.callers.len(), lane.clock), (2, 10));
        // Starts at 1,000, which the others have not had.
        lane.pass("large", 1);
        assert_eq!(lane.callers.keys().map(|name| &**name).collect::<Vec<_>>(), ["large"]);
    }

    #[test]
    fn a_caller_that_leaves_before_it_had_anything_is_forgotten() {
        let mut lane = Lane::default();
        let call = || Call { model: "m".into(), tokens: 10, entered: Instant::now() };
        let caller = lane.join("a", 0, call());
        lane.join("a", 1, call());
        lane.leave(&caller, 0);
        assert_eq!((lane.next(|_| true), lane.waiting(), lane.waiting_for("m")), (Some(1), 1, 1));
        lane.leave(&caller, 1);
        lane.leave(&caller, 1);
        assert_eq!((lane.next(|_| true), lane.longest(|_| true), lane.waiting()), (None, None, 0));
        assert!(lane.callers.is_empty() && lane.ahead.is_empty() && lane.waiting_for.is_empty());
    }

    #[test]
    fn a_bounded_number_of_callers_is_remembered_those_farthest_ahead() {
        let mut lane = Lane::default();
        // Starts at 0 like all that follow, so that the clock stands still.
        lane.join("waits", 0, Call { model: "m".into(), tokens: 1, entered: Instant::now() });
        for index in 0..2 * QUEUE_CALLERS_MAX as u64 {
            lane.pass(&index.to_string(), 1 + index);
        }
        assert_eq!(lane.ahead.len(), QUEUE_CALLERS_MAX);
        assert_eq!(lane.callers.len(), QUEUE_CALLERS_MAX + 1);
        assert!(!lane.callers.contains_key("0"));
        assert!(lane.callers.contains_key(&*(2 * QUEUE_CALLERS_MAX - 1).to_string()));
        assert_eq!(lane.next(|_| true), Some(0), "who waits is never forgotten");
    }
}
