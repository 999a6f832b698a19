//! One limit of so much per period, exact to the nanosecond.
//!
//! It is the generic cell rate algorithm (ITU-T I.371, annex A) in its form as a leaky bucket: what is taken fills it, time
//! empties it, and what does not fit is refused. Levels are integers in *grains*: one request or token is as many as its period
//! has nanoseconds, so that a nanosecond drains as many as the limit allows per period. Nothing is ever rounded in between.
//!
//! What a call took can be corrected as long as it is open. The level is then what it would be had the call taken the right
//! amount from the beginning: a correction can give back what still fills the bucket, but not what time has drained since,
//! which would let more through than the limit. For that the bucket keeps, for each open call, what happened since as a function
//! of the level: a sum, and a floor where the bucket ran empty. Two of those make one, so that closed calls take no room.

use std::collections::VecDeque;
use std::time::Duration;

use hoosh_core::limits::RATE_OPEN_MAX;

use super::{Measure, Rate};

/// How full one limit is.
#[derive(Debug)]
pub(super) struct Bucket {
    rate: Rate,
    /// As of the latest [`advance`](Self::advance). Never negative; above the burst after a call took more than it said.
    level: i128,
    /// The level before the first open call came. Means nothing without one.
    base: i128,
    /// In the order they came.
    open: VecDeque<Open>,
}

/// A call whose amount may still be corrected.
#[derive(Debug)]
struct Open {
    number: u64,
    amount: u64,
    /// What happened between it and the next one.
    since: Course,
}

/// What happens to a level: it rises by `sum` (or falls), and is at least `floor` then.
#[derive(Debug, Clone, Copy)]
struct Course {
    sum: i128,
    floor: i128,
}

// === impl Course ===

impl Course {
    /// Nothing happens. Levels are not negative, so that 0 is no floor.
    const NOTHING: Self = Self { sum: 0, floor: 0 };

    fn of(sum: i128) -> Self {
        Self { sum, floor: 0 }
    }

    fn then(self, next: Self) -> Self {
        Self {
            sum: self.sum.saturating_add(next.sum),
            floor: self.floor.saturating_add(next.sum).max(next.floor),
        }
    }

    fn apply(self, level: i128) -> i128 {
        level.saturating_add(self.sum).max(self.floor)
    }
}

// === impl Bucket ===

impl Bucket {
    /// Nothing was taken.
    pub(super) fn new(rate: Rate) -> Self {
        Self { rate, level: 0, base: 0, open: VecDeque::new() }
    }

    pub(super) fn rate(&self) -> Rate {
        self.rate
    }

    /// Another amount or burst from now on, for the same measure and period. What was taken stays taken.
    pub(super) fn set_rate(&mut self, rate: Rate) {
        debug_assert_eq!((rate.measure, rate.period), (self.rate.measure, self.rate.period));
        self.rate = rate;
    }

    /// Time goes by.
    pub(super) fn advance(&mut self, elapsed: Duration) {
        let nanos = i128::try_from(elapsed.as_nanos()).unwrap_or(i128::MAX);
        self.happen(Course::of(-nanos.saturating_mul(i128::from(self.rate.amount.get()))));
    }

    /// Whether `amount` more fits now; if not, how long until it does. `Err(None)`: it never does, it is above the burst.
    pub(super) fn fits(&self, amount: u64) -> Result<(), Option<Duration>> {
        let over = self.level.saturating_add(self.grains(amount)).saturating_sub(self.capacity());
        if over <= 0 {
            Ok(())
        } else if amount > self.rate.burst().get() {
            Err(None)
        } else {
            Err(Some(self.time_to_drain(over)))
        }
    }

    /// Takes `amount` for good, whether or not it fits.
    pub(super) fn take(&mut self, amount: u64) {
        self.happen(Course::of(self.grains(amount)));
    }

    /// Takes `amount` for the call of this number, which is greater than any before it.
    ///
    /// Where too many are open, the amount of the first stays what it is.
    pub(super) fn open(&mut self, number: u64, amount: u64) {
        if self.open.len() >= RATE_OPEN_MAX {
            self.close_at(0);
        }
        if self.open.is_empty() {
            self.base = self.level;
        }
        self.open.push_back(Open { number, amount, since: Course::NOTHING });
        self.level = self.level.saturating_add(self.grains(amount));
    }

    /// Makes it as if that call had taken `amount` when it came. `known` is what it was believed to take: if the call is open no
    /// more, what goes beyond it is taken now, and nothing is given back. Whether it is open.
    pub(super) fn correct(&mut self, number: u64, known: u64, amount: u64) -> bool {
        let Some(open) = self.place(number).and_then(|at| self.open.get_mut(at)) else {
            self.take(amount.saturating_sub(known));
            return false;
        };
        if open.amount == amount {
            return true;
        }
        open.amount = amount;
        let mut level = self.base;
        for open in &self.open {
            level = open.since.apply(level.saturating_add(self.grains(open.amount)));
        }
        self.level = level;
        true
    }

    /// That call's amount stays what it is.
    pub(super) fn close(&mut self, number: u64) {
        if let Some(at) = self.place(number) {
            self.close_at(at);
        }
    }

    /// Whether nothing is taken that time has not given back, and nothing can be corrected.
    pub(super) fn is_new(&self) -> bool {
        self.level == 0 && self.open.is_empty()
    }

    /// How much may be taken now.
    pub(super) fn remaining(&self) -> u64 {
        let grains = self.capacity().saturating_sub(self.level).max(0);
        u64::try_from(grains / self.rate.period.nanos()).unwrap_or(u64::MAX)
    }

    /// Time until nothing is taken any more.
    pub(super) fn reset(&self) -> Duration {
        self.time_to_drain(self.level)
    }

    pub(super) fn is_of_tokens(&self) -> bool {
        self.rate.measure == Measure::Tokens
    }

    fn happen(&mut self, course: Course) {
        self.level = course.apply(self.level);
        if let Some(last) = self.open.back_mut() {
            last.since = last.since.then(course);
        }
    }

    fn place(&self, number: u64) -> Option<usize> {
        self.open.binary_search_by_key(&number, |open| open.number).ok()
    }

    fn close_at(&mut self, at: usize) {
        let Some(open) = self.open.remove(at) else { return };
        let whole = Course::of(self.grains(open.amount)).then(open.since);
        match at.checked_sub(1).and_then(|before| self.open.get_mut(before)) {
            Some(before) => before.since = before.since.then(whole),
            None => self.base = whole.apply(self.base),
        }
    }

    fn capacity(&self) -> i128 {
        self.grains(self.rate.burst().get())
    }

    fn grains(&self, amount: u64) -> i128 {
        // 2^64 of them by a day's nanoseconds is below 2^111.
        i128::from(amount) * self.rate.period.nanos()
    }

    fn time_to_drain(&self, grains: i128) -> Duration {
        let rate = u128::from(self.rate.amount.get());
        let nanos = u128::try_from(grains).unwrap_or(0).div_ceil(rate);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::Period;
    use super::*;

    fn rate(amount: u64, burst: u64) -> Rate {
        let some = |number| NonZeroU64::new(number).unwrap();
        Rate::per(Measure::Tokens, some(amount), Period::Second).with_burst(some(burst))
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_refund_gives_back_all_that_still_fills_the_bucket() {
        let mut bucket = Bucket::new(rate(10, 100));
        bucket.open(1, 100);
        assert_eq!(bucket.remaining(), 0);
        bucket.correct(1, 100, 30);
        assert_eq!(bucket.remaining(), 70);
        bucket.correct(1, 30, 150);
        assert_eq!((bucket.remaining(), bucket.reset()), (0, seconds(15)));
        assert_eq!(bucket.fits(10), Err(Some(seconds(6))));
        assert_eq!(bucket.fits(101), Err(None));
    }

    #[test]
    fn a_refund_gives_back_nothing_that_time_has_drained() {
        // Goal: two calls of 100 that both come to nothing must not let 200 more through at once.
        let mut bucket = Bucket::new(rate(10, 100));
        bucket.open(1, 100);
        bucket.advance(seconds(10));
        bucket.open(2, 100);
        bucket.correct(1, 100, 0);
        assert_eq!(bucket.remaining(), 0, "call 1 was drained when call 2 came");
        bucket.correct(2, 100, 0);
        assert_eq!(bucket.remaining(), 100);
    }

    #[test]
    fn a_call_that_is_open_no_more_pays_what_it_takes_beyond() {
        let mut bucket = Bucket::new(rate(1, 100_000));
        for number in 0..=RATE_OPEN_MAX as u64 {
            bucket.open(number, 2);
        }
        let taken = 2 * (RATE_OPEN_MAX as u64 + 1);
        assert_eq!(bucket.open.len(), RATE_OPEN_MAX);
        bucket.correct(0, 2, 1);
        assert_eq!(bucket.remaining(), 100_000 - taken, "the first was closed to make room");
        bucket.correct(0, 2, 5);
        assert_eq!(bucket.remaining(), 100_000 - taken - 3);
        bucket.correct(1, 2, 1);
        assert_eq!(bucket.remaining(), 100_000 - taken - 2);
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let most = NonZeroU64::MAX;
        let mut bucket = Bucket::new(Rate::per(Measure::Tokens, most, Period::Day));
        for number in 0..100 {
            bucket.open(number, u64::MAX);
            bucket.correct(number, u64::MAX, u64::MAX - 1);
            bucket.advance(Duration::from_nanos(1));
        }
        bucket.advance(Duration::MAX);
        for number in 0..100 {
            bucket.close(number);
        }
        assert!(bucket.is_new());
        assert_eq!(bucket.remaining(), u64::MAX);
    }

    #[derive(Debug, Clone)]
    enum Act {
        Wait(u64),
        Take(u64),
        Open(u64),
        /// Of the so-manieth call, open or not.
        Correct(usize, u64),
        Close(usize),
    }

    fn act() -> impl proptest::strategy::Strategy<Value = Act> {
        prop_oneof![
            3 => (0_u64..4_000_000_000).prop_map(Act::Wait),
            1 => (0_u64..50).prop_map(Act::Take),
            4 => (0_u64..120).prop_map(Act::Open),
            3 => (any::<usize>(), 0_u64..200).prop_map(|(call, amount)| Act::Correct(call, amount)),
            2 => any::<usize>().prop_map(Act::Close),
        ]
    }

    /// What happened, in its order, with amounts as they turned out: the level by going through all of it again.
    #[derive(Default)]
    struct History(Vec<(Option<u64>, i128)>);

    impl History {
        fn level(&self) -> i128 {
            self.0.iter().fold(0, |level, (_, grains)| (level + grains).max(0))
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn it_is_always_as_if_calls_had_taken_the_right_amount_at_once(
            amount in 1_u64..40,
            acts in vec(act(), 1..80),
        ) {
            let nanos = Period::Second.nanos();
            let mut bucket = Bucket::new(rate(amount, 100));
            let mut history = History::default();
            let mut calls: Vec<(u64, u64, bool)> = Vec::new(); // number, amount, open
            for act in acts {
                match act {
                    Act::Wait(elapsed) => {
                        bucket.advance(Duration::from_nanos(elapsed));
                        history.0.push((None, -i128::from(elapsed) * i128::from(amount)));
                    }
                    Act::Take(taken) => {
                        bucket.take(taken);
                        history.0.push((None, i128::from(taken) * nanos));
                    }
                    Act::Open(taken) => {
                        let number = calls.len() as u64;
                        bucket.open(number, taken);
                        history.0.push((Some(number), i128::from(taken) * nanos));
                        calls.push((number, taken, true));
                    }
                    Act::Correct(call, right) if !calls.is_empty() => {
                        let at = call % calls.len();
                        let (number, known, open) = &mut calls[at];
                        prop_assert_eq!(bucket.correct(*number, *known, right), *open);
                        if *open {
                            let entry = history.0.iter_mut().find(|entry| entry.0 == Some(*number));
                            entry.unwrap().1 = i128::from(right) * nanos;
                        } else {
                            history.0.push((None, i128::from(right.saturating_sub(*known)) * nanos));
                        }
                        *known = if *open { right } else { right.max(*known) };
                    }
                    Act::Close(call) if !calls.is_empty() => {
                        let at = call % calls.len();
                        bucket.close(calls[at].0);
                        calls[at].2 = false;
                    }
                    Act::Correct(..) | Act::Close(_) => {}
                }
                prop_assert_eq!(bucket.level, history.level());
                prop_assert_eq!(bucket.open.len(), calls.iter().filter(|call| call.2).count());
            }
        }
    }
}
