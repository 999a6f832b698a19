//! Any order of claims, extensions, settlements, drops, expiries and passing time, against plain sums.
//!
//! The model keeps every call and everything that was ever booked in a list, and adds up what is asked for. It shares
//! no code with the books but the types of their answers.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by its panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hoosh_budget::{
    Alert, AlertKind, Amount, Books, CallId, Capacity, Claim, Effects, Mode, PoolId, PoolTree, Refusal,
    SettleOutcome, TokenPool, Window,
};
use hoosh_core::NanoUsd;
use jiff::Timestamp;
use proptest::prelude::*;

/// The first of January 2026, a Thursday.
const START: i64 = 1_767_225_600_000;
const ROLLING_MS: i64 = 10_000;
/// A sixtieth of that, rounded up.
const BUCKET_MS: i64 = 167;

#[derive(Debug, Clone)]
enum Op {
    Reserve { leaves: u8, estimate: (u64, i64), least: u8, lease_ms: u16 },
    Extend { call: usize, more: (u64, i64) },
    Produced { call: usize, amount: (u64, i64) },
    Settle { call: usize, actual: (u64, i64) },
    Drop { call: usize },
    Renew { call: usize, lease_ms: u16 },
    Reap,
    Pass { ms: u32 },
}

fn amounts(most: u64) -> impl Strategy<Value = (u64, i64)> {
    (0..most, 0..most as i64)
}

fn ops() -> impl Strategy<Value = Op> {
    let call = 0..64_usize;
    prop_oneof![
        6 => (1..64_u8, amounts(60), 0..=4_u8, 1..20_000_u16)
            .prop_map(|(leaves, estimate, least, lease_ms)| Op::Reserve { leaves, estimate, least, lease_ms }),
        2 => (call.clone(), amounts(30)).prop_map(|(call, more)| Op::Extend { call, more }),
        2 => (call.clone(), amounts(70)).prop_map(|(call, amount)| Op::Produced { call, amount }),
        4 => (call.clone(), amounts(70)).prop_map(|(call, actual)| Op::Settle { call, actual }),
        2 => call.clone().prop_map(|call| Op::Drop { call }),
        1 => (call, 1..20_000_u16).prop_map(|(call, lease_ms)| Op::Renew { call, lease_ms }),
        1 => Just(Op::Reap),
        3 => prop_oneof![0..500_u32, 0..20_000_u32, 0..7_200_000_u32].prop_map(|ms| Op::Pass { ms }),
    ]
}

fn amount((tokens, money): (u64, i64)) -> Amount {
    Amount::new(tokens, NanoUsd(money))
}

fn id(text: &str) -> PoolId {
    text.parse().unwrap()
}

fn tree() -> Vec<TokenPool> {
    let both = |tokens, money| Capacity { tokens: Some(tokens), money: Some(NanoUsd(money)) };
    let under = |parent: &str, pool: &str| TokenPool { parent: Some(id(parent)), ..TokenPool::new(id(pool)) };
    vec![
        TokenPool {
            capacity: both(600, 900),
            window: Window::Day,
            alerts: vec![50, 90],
            ..TokenPool::new(id("organisation:o"))
        },
        TokenPool { capacity: both(200, 300), window: Window::Hour, ..under("organisation:o", "team:t") },
        TokenPool {
            capacity: Capacity::tokens(80),
            window: Window::Minute,
            alerts: vec![80],
            ..under("team:t", "key:hard")
        },
        TokenPool {
            capacity: Capacity::tokens(40),
            window: Window::Minute,
            mode: Mode::Soft,
            alerts: vec![100, 200],
            ..under("team:t", "key:soft")
        },
        TokenPool { capacity: Capacity::money(NanoUsd(5_000)), ..TokenPool::new(id("model:m")) },
        TokenPool {
            capacity: both(100, 120),
            window: Window::Rolling(Duration::from_millis(ROLLING_MS as u64)),
            ..under("organisation:o", "user:*")
        },
    ]
}

/// The leaves that the bits of a claim stand for, and the pools that each leads to.
const LEAVES: [(&str, &[&str]); 6] = [
    ("key:hard", &["key:hard", "team:t", "organisation:o"]),
    ("key:soft", &["key:soft", "team:t", "organisation:o"]),
    ("model:m", &["model:m"]),
    ("user:alice", &["user:alice", "organisation:o"]),
    ("user:bob", &["user:bob", "organisation:o"]),
    ("team:t", &["team:t", "organisation:o"]),
];
const POOLS: [&str; 7] =
    ["organisation:o", "team:t", "key:hard", "key:soft", "model:m", "user:alice", "user:bob"];

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Open,
    Expired,
    Settled,
}

#[derive(Debug)]
struct Call {
    name: CallId,
    /// Each with the window that it was reserved in, and what was booked of it when it expired.
    pools: BTreeMap<&'static str, (i64, Amount)>,
    held: Amount,
    produced: Amount,
    until: i64,
    state: State,
}

#[derive(Debug)]
struct Booking {
    pool: &'static str,
    window: i64,
    at: i64,
    settled: Amount,
    overrun: Amount,
}

struct Model {
    now: i64,
    calls: Vec<Call>,
    bookings: Vec<Booking>,
    told: BTreeSet<(String, i64, u8)>,
}

impl Model {
    fn rules(pool: &str) -> TokenPool {
        let name = if pool.starts_with("user:") { "user:*" } else { pool };
        tree().into_iter().find(|rules| rules.id == id(name)).unwrap()
    }

    /// When the window of that pool began.
    fn window(&self, pool: &str) -> i64 {
        let of = |width: i64| self.now - (self.now - START) % width;
        match Self::rules(pool).window {
            Window::Minute => of(60_000),
            Window::Hour => of(3_600_000),
            Window::Day => of(86_400_000),
            _ => 0,
        }
    }

    fn settled(&self, pool: &str, window: i64) -> (Amount, Amount) {
        let is_rolling = pool.starts_with("user:");
        let mut sums = (Amount::ZERO, Amount::ZERO);
        for booking in self.bookings.iter().filter(|one| one.pool == pool && one.window == window) {
            let bucket_end = booking.at - booking.at.rem_euclid(BUCKET_MS) + BUCKET_MS;
            if !is_rolling || bucket_end > self.now - ROLLING_MS {
                sums.0 = sums.0.saturating_add(booking.settled);
                sums.1 = sums.1.saturating_add(booking.overrun);
            }
        }
        sums
    }

    fn reserved(&self, pool: &str, window: i64) -> Amount {
        let open = self.calls.iter().filter(|call| call.state == State::Open);
        let held = open.filter(|call| call.pools.get(pool).is_some_and(|(at, _)| *at == window));
        held.fold(Amount::ZERO, |sum, call| sum.saturating_add(call.held))
    }

    /// What can be had of tokens and of money; soft pools give anything.
    fn room(&self, pool: &str, window: i64) -> Capacity {
        let rules = Self::rules(pool);
        if rules.mode == Mode::Soft {
            return Capacity::UNLIMITED;
        }
        rules.capacity.left(self.settled(pool, window).0.saturating_add(self.reserved(pool, window)))
    }

    fn expire(&mut self) -> usize {
        let mut due: Vec<usize> = (0..self.calls.len())
            .filter(|index| self.calls[*index].state == State::Open && self.calls[*index].until <= self.now)
            .collect();
        // Who is first has the room of what the others still hold least.
        due.sort_by_key(|index| (self.calls[*index].until, self.calls[*index].name.to_string()));
        for index in &due {
            self.book(*index, self.calls[*index].produced);
            self.calls[*index].state = State::Expired;
        }
        due.len()
    }

    fn book(&mut self, index: usize, actual: Amount) -> Amount {
        let (now, held) = (self.now, self.calls[index].held);
        let pools: Vec<_> =
            self.calls[index].pools.iter().map(|(pool, (window, _))| (*pool, *window)).collect();
        let mut beyond = Amount::ZERO;
        for (pool, window) in pools {
            let room = self.room(pool, window);
            // What it holds itself is no longer in the way.
            let most = Amount::new(
                room.tokens.map_or(u64::MAX, |left| left + held.tokens),
                room.money.map_or(NanoUsd::MAX, |left| left.saturating_add(held.money)),
            );
            let settled = actual.min(most);
            let overrun = actual.saturating_sub(settled);
            beyond = beyond.max(overrun);
            self.bookings.push(Booking { pool, window, at: now, settled, overrun });
            if let Some((_, booked)) = self.calls[index].pools.get_mut(pool) {
                *booked = settled;
            }
        }
        beyond
    }

    fn book_late(&mut self, index: usize, actual: Amount) {
        let pools = self.calls[index].pools.clone();
        let counted_before = |booked: Amount, produced: Amount| produced.saturating_sub(booked);
        for (pool, (window, booked)) in pools {
            let open = actual.saturating_sub(booked);
            let room = self.room(pool, window);
            let settled = Amount::new(
                open.tokens.min(room.tokens.unwrap_or(u64::MAX)),
                open.money.min(room.money.unwrap_or(NanoUsd::MAX)),
            );
            let all = actual.saturating_sub(booked.saturating_add(settled));
            let overrun = all.saturating_sub(counted_before(booked, self.calls[index].produced));
            self.bookings.push(Booking { pool, window, at: self.now, settled, overrun });
        }
    }
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap()
}

struct World {
    books: Books,
    model: Model,
}

impl World {
    fn new() -> Self {
        let model = Model { now: START, calls: Vec::new(), bookings: Vec::new(), told: BTreeSet::new() };
        Self { books: Books::new(&PoolTree::new(tree()).unwrap()).journaled(), model }
    }

    fn act(&mut self, op: Op) {
        let mut effects = Effects::default();
        let now = at(self.model.now);
        let pick = |call: usize, calls: &[Call]| (!calls.is_empty()).then(|| call % calls.len());
        match op {
            Op::Reserve { leaves, estimate, least, lease_ms } => {
                self.reserve(leaves, amount(estimate), least, lease_ms, &mut effects);
            }
            Op::Extend { call, more } => {
                let Some(index) = pick(call, &self.model.calls) else { return };
                self.extend(index, amount(more), &mut effects);
            }
            Op::Produced { call, amount: produced } => {
                let Some(index) = pick(call, &self.model.calls) else { return };
                let call = &mut self.model.calls[index];
                self.books.produced(&call.name, amount(produced));
                if call.state == State::Open {
                    call.produced = amount(produced);
                }
            }
            Op::Settle { call, actual } => {
                let Some(index) = pick(call, &self.model.calls) else { return };
                self.settle(index, amount(actual), Some(now), &mut effects);
            }
            Op::Drop { call } => {
                let Some(index) = pick(call, &self.model.calls) else { return };
                let produced = self.model.calls[index].produced;
                self.settle(index, produced, None, &mut effects);
            }
            Op::Renew { call, lease_ms } => {
                let Some(index) = pick(call, &self.model.calls) else { return };
                let call = &mut self.model.calls[index];
                let renewed = self.books.renew(&call.name, Duration::from_millis(lease_ms.into()), now);
                assert_eq!(renewed.is_ok(), call.state == State::Open);
                if call.state == State::Open {
                    call.until = self.model.now + i64::from(lease_ms);
                    assert_eq!(renewed.unwrap().as_millisecond(), call.until);
                }
            }
            Op::Reap => {
                assert_eq!(self.books.reap(now, &mut effects), self.model.expire());
            }
            Op::Pass { ms } => {
                self.model.now += i64::from(ms);
                // A drop is booked at the time that was told last.
                assert!(
                    self.books.renew(&CallId::from("nobody"), Duration::ZERO, at(self.model.now)).is_err()
                );
            }
        }
        self.hear(&effects.alerts);
        self.compare();
    }

    fn reserve(&mut self, leaves: u8, estimate: Amount, least: u8, lease_ms: u16, effects: &mut Effects) {
        let least = Amount::new(
            estimate.tokens * u64::from(least) / 4,
            NanoUsd(estimate.money.0 * i64::from(least) / 4),
        );
        let chosen = || LEAVES.iter().enumerate().filter(|(index, _)| leaves & 1 << index != 0);
        let scopes: Vec<PoolId> = chosen().map(|(_, (leaf, _))| id(leaf)).collect();
        let pools: BTreeSet<&'static str> =
            chosen().flat_map(|(_, (_, pools))| pools.iter().copied()).collect();
        let name = CallId::from(format!("c{}", self.model.calls.len()));
        let (needed, optional) = scopes.split_at(scopes.len() / 2);
        let claim = Claim {
            if_defined: optional,
            least,
            ..Claim::new(&name, needed, estimate, Duration::from_millis(lease_ms.into()))
        };
        let granted = self.books.reserve(&claim, at(self.model.now), effects);

        let model = &mut self.model;
        let fits =
            |model: &Model| pools.iter().all(|pool| model.room(pool, model.window(pool)).allows(least));
        if !fits(model) {
            model.expire();
        }
        let is_held = fits(model);
        assert_eq!(granted.is_ok(), is_held, "{granted:?}");
        let Ok(granted) = granted else {
            assert!(matches!(granted, Err(Refusal::Exhausted(_))), "{granted:?}");
            return;
        };
        let held = pools.iter().fold(estimate, |held, pool| {
            let room = model.room(pool, model.window(pool));
            held.min(Amount::new(room.tokens.unwrap_or(u64::MAX), room.money.unwrap_or(NanoUsd::MAX)))
        });
        assert_eq!(granted.held, held);
        let pools = pools.into_iter().map(|pool| (pool, (model.window(pool), Amount::ZERO))).collect();
        let until = model.now + i64::from(lease_ms);
        model.calls.push(Call { name, pools, held, produced: Amount::ZERO, until, state: State::Open });
    }

    fn extend(&mut self, index: usize, more: Amount, effects: &mut Effects) {
        let name = self.model.calls[index].name.clone();
        let extended = self.books.extend(&name, more, at(self.model.now), effects);
        let model = &mut self.model;
        let fits = |model: &Model| {
            let call = &model.calls[index];
            call.pools.iter().all(|(pool, (window, _))| model.room(pool, *window).allows(more))
        };
        if model.calls[index].state == State::Open && !fits(model) {
            model.expire();
        }
        if model.calls[index].state != State::Open {
            assert_eq!(extended, Err(Refusal::NotOpen(name)));
            return;
        }
        assert_eq!(extended.is_ok(), fits(model), "{extended:?}");
        if let Ok(held) = extended {
            let call = &mut model.calls[index];
            call.held = call.held.saturating_add(more);
            assert_eq!(held, call.held);
        }
    }

    fn settle(&mut self, index: usize, actual: Amount, now: Option<Timestamp>, effects: &mut Effects) {
        let name = self.model.calls[index].name.clone();
        let settled = self.books.settle(&name, actual, now, effects);
        match self.model.calls[index].state {
            State::Settled => {
                assert_eq!(settled.outcome, SettleOutcome::Repeated);
                assert!(effects.bookings.is_empty());
                return;
            }
            State::Open => {
                assert_eq!(settled.outcome, SettleOutcome::Booked);
                assert_eq!(settled.overrun, self.model.book(index, actual));
            }
            State::Expired => {
                assert_eq!(settled.outcome, SettleOutcome::Late);
                self.model.book_late(index, actual);
            }
        }
        self.model.calls[index].state = State::Settled;
    }

    /// Each threshold is told once in a window, and none before it is reached.
    fn hear(&mut self, alerts: &[Alert]) {
        for alert in alerts.iter().filter(|alert| !alert.pool.as_str().starts_with("user:")) {
            let AlertKind::Reached(percent) = alert.kind else { continue };
            let window = self.model.window(alert.pool.as_str());
            let is_new = self.model.told.insert((alert.pool.to_string(), window, percent));
            assert!(is_new, "told twice: {alert:?}");
        }
    }

    fn compare(&mut self) {
        for pool in POOLS {
            let window = self.model.window(pool);
            let status = self.books.status(&id(pool), at(self.model.now)).unwrap();
            let (settled, overrun) = self.model.settled(pool, window);
            let reserved = self.model.reserved(pool, window);
            assert_eq!(
                (status.settled, status.reserved, status.overrun),
                (settled, reserved, overrun),
                "{pool}"
            );
            let rules = Model::rules(pool);
            if rules.mode == Mode::Hard {
                assert!(rules.capacity.allows(settled.saturating_add(reserved)), "{pool}: {status:?}");
            }
            for percent in status.alerts {
                assert!(
                    self.model.told.contains(&(pool.to_owned(), window, percent)),
                    "{pool}: {percent} not told"
                );
            }
        }
        let open = self.model.calls.iter().filter(|call| call.state == State::Open).count();
        assert_eq!(self.books.open(), open);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_books_are_plain_sums(ops in prop::collection::vec(ops(), 1..120)) {
        let mut world = World::new();
        for op in ops {
            world.act(op);
        }
        // In the end nothing stays reserved.
        world.model.now += 30_000;
        world.act(Op::Reap);
        for pool in POOLS {
            prop_assert!(world.books.status(&id(pool), at(world.model.now)).unwrap().reserved.is_zero());
        }
    }
}
