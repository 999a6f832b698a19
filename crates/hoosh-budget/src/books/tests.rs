use hoosh_core::NanoUsd;
use hoosh_core::limits::ROLLING_BUCKETS;

use super::*;
use crate::ledger::AlertKind;
use crate::pool::Mode;
use crate::window::{Span, Window};

const LEASE: Duration = Duration::from_secs(600);

fn id(text: &str) -> PoolId {
    text.parse().unwrap()
}

fn pool(name: &str, tokens: u64) -> TokenPool {
    TokenPool { capacity: Capacity::tokens(tokens), ..TokenPool::new(id(name)) }
}

fn tree(pools: impl IntoIterator<Item = TokenPool>) -> PoolTree {
    PoolTree::new(pools.into_iter().collect()).unwrap()
}

fn tokens(tokens: u64) -> Amount {
    Amount::tokens(tokens)
}

fn at(time: &str) -> Timestamp {
    format!("2026-01-01T{time}Z").parse().unwrap()
}

/// Books, and what came of everything that was done to them.
struct World {
    books: Books,
    effects: Effects,
}

impl World {
    fn new(pools: impl IntoIterator<Item = TokenPool>) -> Self {
        Self { books: Books::new(&tree(pools)).journaled(), effects: Effects::default() }
    }

    fn reserve(
        &mut self,
        call: &str,
        pools: &[&str],
        amount: u64,
        now: Timestamp,
    ) -> Result<Amount, Refusal> {
        let pools: Vec<PoolId> = pools.iter().map(|pool| id(pool)).collect();
        let call = CallId::from(call);
        let claim = Claim::new(&call, &pools, tokens(amount), LEASE);
        self.books.reserve(&claim, now, &mut self.effects).map(|granted| granted.held)
    }

    fn settle(&mut self, call: &str, amount: u64, now: Timestamp) -> Settled {
        self.books.settle(&call.into(), tokens(amount), Some(now), &mut self.effects)
    }

    fn spend(&mut self, call: &str, pool: &str, amount: u64, now: Timestamp) {
        self.reserve(call, &[pool], amount, now).unwrap();
        self.settle(call, amount, now);
    }

    /// Settled and reserved tokens.
    fn sums(&mut self, pool: &str, now: Timestamp) -> (u64, u64) {
        let status = self.books.status(&id(pool), now).unwrap();
        (status.settled.tokens, status.reserved.tokens)
    }

    fn alerts(&mut self) -> Vec<(String, AlertKind)> {
        self.effects.alerts.drain(..).map(|alert| (alert.pool.to_string(), alert.kind)).collect()
    }
}

fn earliest<T>(result: Result<T, Refusal>) -> (String, Earliest) {
    match result.err() {
        Some(Refusal::Exhausted(shortage)) => (shortage.pool.to_string(), shortage.earliest),
        other => panic!("not exhausted: {other:?}"),
    }
}

#[test]
fn a_pool_that_several_scopes_lead_to_is_charged_once() {
    let key = TokenPool { parent: Some(id("team:t")), ..pool("key:k", 100) };
    let agent = TokenPool { parent: Some(id("team:t")), ..pool("agent:a", 100) };
    let mut world = World::new([pool("team:t", 100), key, agent]);
    world.reserve("c", &["key:k", "agent:a", "key:k", "team:t"], 60, at("00:00:00")).unwrap();
    assert_eq!(world.sums("team:t", at("00:00:00")), (0, 60));
    let mut charged = world.books.charged(&"c".into());
    charged.sort();
    assert_eq!(charged, [id("agent:a"), id("key:k"), id("team:t")]);
}

#[test]
fn a_refusal_leaves_all_pools_as_they_were_and_says_why() {
    let key = TokenPool { parent: Some(id("team:t")), ..pool("key:k", 1_000) };
    let team = TokenPool { window: Window::Day, ..pool("team:t", 100) };
    let mut world = World::new([team, key]);
    world.spend("a", "key:k", 30, at("00:00:00"));
    world.reserve("b", &["key:k"], 20, at("00:00:00")).unwrap();

    let refusal = world.reserve("c", &["key:k"], 51, at("00:00:01")).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "pool `team:t` has 50 of 100 tokens free, 51 asked (30 spent, 20 held by calls under way); it may fit when those have ended"
    );
    let (pool, when) = earliest(world.reserve("c", &["key:k"], 71, at("00:00:01")));
    assert_eq!((pool.as_str(), when), ("team:t", Earliest::At("2026-01-02T00:00:00Z".parse().unwrap())));
    assert_eq!(earliest(world.reserve("c", &["key:k"], 101, at("00:00:01"))).1, Earliest::Never);
    assert_eq!(world.sums("key:k", at("00:00:01")), (30, 20));
    assert!(world.books.charged(&"c".into()).is_empty());
}

#[test]
fn a_refusal_of_money_names_money() {
    let capacity = Capacity::money(NanoUsd(2_000_000_000));
    let mut world = World::new([TokenPool { capacity, ..pool("team:t", 0) }]);
    let (call, pools) = (CallId::from("c"), [id("team:t")]);
    let claim = Claim::new(&call, &pools, Amount::new(9, NanoUsd(3_000_000_000)), LEASE);
    let refusal = world.books.reserve(&claim, at("00:00:00"), &mut world.effects).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "pool `team:t` has $2.000000000 of $2.000000000 free, $3.000000000 asked ($0.000000000 spent, $0.000000000 held by calls \
         under way); it is more than the pool may spend at all"
    );
}

#[test]
fn less_than_the_estimate_is_held_where_it_is_enough() {
    let mut world = World::new([pool("team:t", 100)]);
    let (call, pools) = (CallId::from("c"), [id("team:t")]);
    let claim = Claim { least: tokens(10), ..Claim::new(&call, &pools, tokens(4_096), LEASE) };
    let granted = world.books.reserve(&claim, at("00:00:00"), &mut world.effects).unwrap();
    assert_eq!(granted.held, tokens(100));
    assert_eq!(granted.ceiling, Capacity::tokens(100));
}

#[test]
fn only_hard_limits_make_a_ceiling() {
    let soft = TokenPool { mode: Mode::Soft, ..pool("key:soft", 5) };
    let mut world = World::new([soft, TokenPool::new(id("key:free"))]);
    for key in ["key:soft", "key:free"] {
        let (call, pools) = (CallId::from(key), [id(key)]);
        let claim = Claim::new(&call, &pools, tokens(50), LEASE);
        let granted = world.books.reserve(&claim, at("00:00:00"), &mut world.effects).unwrap();
        assert_eq!((granted.held, granted.ceiling), (tokens(50), Capacity::UNLIMITED));
    }
}

#[test]
fn a_call_settles_once() {
    let mut world = World::new([pool("team:t", 100)]);
    world.reserve("c", &["team:t"], 50, at("00:00:00")).unwrap();
    assert_eq!(world.reserve("c", &["team:t"], 1, at("00:00:00")), Err(Refusal::KnownCall("c".into())));
    assert_eq!(world.settle("c", 20, at("00:00:01")).outcome, SettleOutcome::Booked);
    for _ in 0..2 {
        let again = world.settle("c", 50, at("00:00:02"));
        assert_eq!((again.outcome, again.booked), (SettleOutcome::Repeated, Amount::ZERO));
    }
    assert_eq!(world.settle("nobody", 50, at("00:00:02")).outcome, SettleOutcome::Unknown);
    assert_eq!(world.reserve("c", &["team:t"], 1, at("00:00:00")), Err(Refusal::KnownCall("c".into())));
    assert_eq!(world.sums("team:t", at("00:00:02")), (20, 0));
}

#[test]
fn what_a_hard_pool_cannot_book_is_told_and_a_soft_one_books_all() {
    let soft = TokenPool { mode: Mode::Soft, ..pool("key:k", 10) };
    let mut world = World::new([pool("team:t", 100), soft]);
    world.reserve("c", &["team:t", "key:k"], 40, at("00:00:00")).unwrap();
    // More than it held, as far as there is room.
    let settled = world.settle("c", 105, at("00:00:01"));
    assert_eq!((settled.booked, settled.overrun), (tokens(105), tokens(5)));
    assert_eq!(world.sums("team:t", at("00:00:01")), (100, 0));
    assert_eq!(world.sums("key:k", at("00:00:01")), (105, 0));
    assert_eq!(world.books.status(&id("team:t"), at("00:00:01")).unwrap().overrun, tokens(5));
}

#[test]
fn a_call_counts_in_the_window_it_was_reserved_in() {
    let mut world = World::new([TokenPool { window: Window::Minute, ..pool("key:k", 100) }]);
    world.reserve("c", &["key:k"], 80, at("00:00:59")).unwrap();
    assert_eq!(world.sums("key:k", at("00:01:00")), (0, 0));
    world.reserve("d", &["key:k"], 100, at("00:01:00")).unwrap();
    world.books.extend(&"c".into(), tokens(20), at("00:01:01"), &mut world.effects).unwrap();
    let more = world.books.extend(&"c".into(), tokens(1), at("00:01:01"), &mut world.effects);
    assert_eq!(earliest(more), ("key:k".into(), Earliest::OthersSettle));
    world.settle("c", 70, at("00:01:02"));
    assert_eq!(world.sums("key:k", at("00:01:02")), (0, 100));

    let booking = world.effects.bookings.pop().unwrap();
    assert_eq!(booking.start_ms, at("00:00:00").as_millisecond());
    assert_eq!(booking.end_ms, at("00:01:00").as_millisecond());
    assert_eq!(booking.last_ms, booking.end_ms - 1);
    let history = world.books.history(&id("key:k"), 9, at("00:02:00"));
    let settled: Vec<u64> = history.iter().map(|window| window.settled.tokens).collect();
    assert_eq!(settled, [0, 0, 70]);
}

#[test]
fn a_clock_that_is_set_back_gives_nobody_a_second_window() {
    let mut world = World::new([TokenPool { window: Window::Minute, ..pool("key:k", 100) }]);
    world.spend("a", "key:k", 60, at("00:00:59"));
    world.spend("b", "key:k", 60, at("00:01:00"));
    assert!(world.reserve("c", &["key:k"], 60, at("00:00:59")).is_err());
    assert_eq!(world.sums("key:k", at("00:00:59")), (60, 0));
}

#[test]
fn a_rolling_window_never_has_more_than_its_capacity() {
    let length = Duration::from_secs(60);
    let mut world = World::new([TokenPool { window: Window::Rolling(length), ..pool("user:*", 100) }]);
    assert_eq!(ROLLING_BUCKETS, 60); // so that a part is a second here
    world.spend("a", "user:u", 60, at("00:00:00.5"));
    world.spend("b", "user:u", 40, at("00:00:30"));
    for (asked, when) in [(60, "00:01:01"), (61, "00:01:31")] {
        let refused = earliest(world.reserve("c", &["user:u"], asked, at("00:01:00.999")));
        assert_eq!(refused, ("user:u".into(), Earliest::At(at(when))));
    }
    world.reserve("c", &["user:u"], 60, at("00:01:01")).unwrap();
    // It counts as held until it is settled, and from then on for a minute.
    world.settle("c", 60, at("00:01:20"));
    assert_eq!(world.sums("user:u", at("00:02:20.999")), (60, 0));
    assert_eq!(world.sums("user:u", at("00:02:21")), (0, 0));
}

#[test]
fn a_lease_that_is_over_is_booked_at_what_was_produced() {
    let mut world = World::new([pool("team:t", 100)]);
    world.reserve("c", &["team:t"], 80, at("00:00:00")).unwrap();
    world.books.produced(&"c".into(), tokens(30));
    assert_eq!(world.books.reap(at("00:09:59"), &mut world.effects), 0);
    world.books.renew(&"c".into(), LEASE, at("00:09:59")).unwrap();
    assert_eq!(world.books.reap(at("00:10:00"), &mut world.effects), 0);
    assert_eq!(world.books.reap(at("00:19:59"), &mut world.effects), 1);
    assert_eq!(world.effects.expired[0].produced, tokens(30));
    assert_eq!(world.sums("team:t", at("00:19:59")), (30, 0));
    let extended = world.books.extend(&"c".into(), tokens(1), at("00:20:00"), &mut world.effects);
    assert_eq!(extended, Err(Refusal::NotOpen("c".into())));

    // In the meantime somebody else takes what it had let go.
    world.spend("d", "team:t", 60, at("00:20:00"));
    let late = world.settle("c", 50, at("00:20:01"));
    assert_eq!((late.outcome, late.booked, late.overrun), (SettleOutcome::Late, tokens(20), tokens(10)));
    assert_eq!(world.sums("team:t", at("00:20:01")), (100, 0));
    assert_eq!(world.settle("c", 50, at("00:20:02")).outcome, SettleOutcome::Repeated);
}

#[test]
fn who_holds_too_long_is_let_go_when_somebody_needs_it() {
    let mut world = World::new([pool("team:t", 100)]);
    world.reserve("c", &["team:t"], 80, at("00:00:00")).unwrap();
    assert!(world.reserve("d", &["team:t"], 80, at("00:09:59")).is_err());
    world.reserve("d", &["team:t"], 80, at("00:10:00")).unwrap();
    assert_eq!(world.effects.expired.len(), 1);
}

#[test]
fn a_template_covers_the_first_call_of_everybody() {
    let template = TokenPool { parent: Some(id("team:t")), ..pool("user:*", 50) };
    let mut world = World::new([pool("team:t", 100), template]);
    assert!(world.reserve("a", &["user:alice"], 51, at("00:00:00")).is_err());
    world.reserve("a", &["user:alice"], 50, at("00:00:00")).unwrap();
    world.reserve("b", &["user:bob"], 50, at("00:00:00")).unwrap();
    assert!(world.reserve("c", &["user:alice"], 1, at("00:00:00")).is_err());
    assert_eq!(earliest(world.reserve("c", &["user:carol"], 1, at("00:00:00"))).0, "team:t");
    assert_eq!(world.sums("user:carol", at("00:00:00")), (0, 0));
    // Nobody gets out of it by the template's own name.
    assert_eq!(world.reserve("c", &["user:*"], 1, at("00:00:00")), Err(Refusal::UnknownPool(id("user:*"))));
    let names: Vec<String> =
        world.books.statuses(None, 9, at("00:00:00")).iter().map(|status| status.id.to_string()).collect();
    assert_eq!(names, ["team:t", "user:alice", "user:bob"]);
    let after = world.books.statuses(Some(&id("team:t")), 1, at("00:00:00"));
    assert_eq!(after[0].id, id("user:alice"));
}

#[test]
fn a_pool_that_nobody_defined_is_an_error_or_left_out() {
    let mut world = World::new([pool("team:t", 100)]);
    let unknown = world.reserve("a", &["key:k"], 1, at("00:00:00"));
    assert_eq!(unknown, Err(Refusal::UnknownPool(id("key:k"))));
    let (call, pools, optional) = (CallId::from("a"), [id("team:t")], [id("key:k")]);
    let claim = Claim { if_defined: &optional, ..Claim::new(&call, &pools, tokens(1), LEASE) };
    world.books.reserve(&claim, at("00:00:00"), &mut world.effects).unwrap();
    assert_eq!(world.books.charged(&call), pools);
}

#[test]
fn made_pools_go_when_there_is_no_room_but_never_with_what_they_spent() {
    let mut world = World::new([TokenPool { window: Window::Minute, ..pool("user:*", 9) }]);
    for n in 0..POOLS_MADE_MAX {
        let name = format!("user:{n}");
        world.reserve(&name, &[&name], 1, at("00:00:00")).unwrap();
        // Half of them spend nothing.
        world.settle(&name, n as u64 % 2, at("00:00:00"));
    }
    world.reserve("x", &["user:new"], 1, at("00:00:01")).unwrap();
    assert_eq!(world.books.made, POOLS_MADE_MAX / 2 + 1);
    assert_eq!(world.sums("user:1", at("00:00:01")), (1, 0));
    for n in 0..POOLS_MADE_MAX / 2 - 1 {
        let name = format!("user:more{n}");
        world.reserve(&name, &[&name], 1, at("00:00:02")).unwrap();
        world.settle(&name, 1, at("00:00:02"));
    }
    let refused = world.reserve("y", &["user:newer"], 1, at("00:00:59"));
    assert_eq!(refused, Err(Refusal::NoRoom(id("user:newer"))));
    world.reserve("y", &["user:newer"], 1, at("00:01:00")).unwrap();
    assert_eq!(world.books.made, 2); // and the one that is held
    assert_eq!(world.sums("user:new", at("00:01:00")), (0, 0));
    assert_eq!(world.settle("x", 1, at("00:01:01")).outcome, SettleOutcome::Booked);
}

#[test]
fn thresholds_are_told_once_in_a_window() {
    let rules = |name| TokenPool { window: Window::Minute, alerts: vec![100, 50, 80], ..pool(name, 100) };
    let mut world = World::new([rules("key:k")]);
    world.reserve("a", &["key:k"], 90, at("00:00:00")).unwrap();
    assert_eq!(world.alerts(), []); // it may take far less than it holds
    world.settle("a", 60, at("00:00:01"));
    assert_eq!(world.alerts(), [("key:k".into(), AlertKind::Reached(50))]);
    world.spend("b", "key:k", 40, at("00:00:02"));
    let both = [("key:k".into(), AlertKind::Reached(80)), ("key:k".into(), AlertKind::Reached(100))];
    assert_eq!(world.alerts(), both);
    world.spend("c", "key:k", 50, at("00:01:00"));
    assert_eq!(world.alerts(), [("key:k".into(), AlertKind::Reached(50))]);
}

#[test]
fn a_soft_pool_goes_on_and_tells() {
    let soft = TokenPool { mode: Mode::Soft, alerts: vec![150], ..pool("key:k", 100) };
    let mut world = World::new([soft]);
    world.reserve("a", &["key:k"], 100, at("00:00:00")).unwrap();
    assert_eq!(world.alerts(), []);
    world.books.extend(&"a".into(), tokens(10), at("00:00:00"), &mut world.effects).unwrap();
    assert_eq!(world.alerts(), [("key:k".into(), AlertKind::Beyond)]);
    world.reserve("b", &["key:k"], 1_000, at("00:00:00")).unwrap();
    world.settle("a", 160, at("00:00:00"));
    assert_eq!(world.alerts(), [("key:k".into(), AlertKind::Reached(150))]);
    assert_eq!(world.sums("key:k", at("00:00:00")), (160, 1_000));
    assert_eq!(world.books.status(&id("key:k"), at("00:00:00")).unwrap().left.tokens, Some(0));
}

#[test]
fn other_pools_keep_what_is_spent_and_held() {
    let template = pool("user:*", 50);
    let mut world = World::new([pool("team:t", 100), pool("team:gone", 100), template.clone()]);
    world.spend("a", "team:t", 60, at("00:00:00"));
    world.spend("b", "team:gone", 7, at("00:00:00"));
    world.reserve("c", &["team:t", "user:u"], 30, at("00:00:00")).unwrap();

    let user = TokenPool { parent: Some(id("team:t")), ..template };
    world.books.reconfigure(&tree([pool("team:t", 50), user.clone(), pool("team:new", 5)]), at("00:00:01"));
    assert_eq!(world.sums("team:t", at("00:00:01")), (60, 30));
    assert_eq!(world.sums("user:u", at("00:00:01")), (0, 30));
    assert_eq!(earliest(world.reserve("d", &["team:t"], 1, at("00:00:01"))).0, "team:t");
    assert_eq!(earliest(world.reserve("d", &["user:u"], 1, at("00:00:01"))).0, "team:t");
    let gone = world.reserve("d", &["team:gone"], 1, at("00:00:01"));
    assert_eq!(gone, Err(Refusal::UnknownPool(id("team:gone"))));
    assert_eq!(world.settle("c", 30, at("00:00:02")).outcome, SettleOutcome::Booked);

    world.books.reconfigure(&tree([pool("team:t", 100), pool("team:gone", 100), user]), at("00:00:03"));
    assert_eq!(world.sums("team:t", at("00:00:03")), (90, 0));
    assert_eq!(world.sums("team:gone", at("00:00:03")), (7, 0));
}

#[test]
fn another_window_counts_what_is_known_of_its_time() {
    let with = |window| tree([TokenPool { window, ..pool("key:k", 1_000) }]);
    let mut world = World::new([TokenPool { window: Window::Hour, ..pool("key:k", 1_000) }]);
    world.spend("a", "key:k", 1, at("10:10:00"));
    world.spend("b", "key:k", 10, at("11:10:00"));
    world.reserve("c", &["key:k"], 500, at("11:20:00")).unwrap();
    world.books.reconfigure(&with(Window::Day), at("11:30:00"));
    assert_eq!(world.sums("key:k", at("11:30:00")), (11, 500));

    world.settle("c", 100, at("11:40:00"));
    world.books.reconfigure(&with(Window::Rolling(Duration::from_secs(3600))), at("11:50:00"));
    // There is no telling when in the day it was spent.
    assert_eq!(world.sums("key:k", at("11:50:00")), (111, 0));
    assert_eq!(world.sums("key:k", at("12:41:00")), (0, 0));

    world.spend("d", "key:k", 5, at("12:50:00"));
    world.books.reconfigure(&with(Window::Minute), at("12:55:00"));
    assert_eq!(world.sums("key:k", at("12:55:00")), (0, 0));
}

#[test]
fn what_was_held_in_a_window_that_is_over_does_not_count_in_a_rolling_one() {
    let mut world = World::new([TokenPool { window: Window::Minute, ..pool("key:k", 100) }]);
    world.reserve("a", &["key:k"], 100, at("00:00:59")).unwrap();
    world.reserve("b", &["key:k"], 100, at("00:01:00")).unwrap();
    let rolling = TokenPool { window: Window::Rolling(LEASE), ..pool("key:k", 100) };
    world.books.reconfigure(&tree([rolling]), at("00:01:01"));
    world.settle("a", 100, at("00:01:02"));
    assert_eq!(world.sums("key:k", at("00:01:02")), (0, 100));
}

#[test]
fn what_is_known_from_before_counts_where_it_belongs() {
    let span = |start, end| Span { start: at(start).as_millisecond(), end: at(end).as_millisecond() };
    let known = |start, end, last, settled| Known {
        span: span(start, end),
        last: at(last).as_millisecond(),
        settled: tokens(settled),
        overrun: Amount::ZERO,
    };
    let hour = TokenPool { window: Window::Hour, alerts: vec![10], ..pool("key:k", 100) };
    let user = TokenPool { window: Window::Rolling(Duration::from_secs(60)), ..pool("user:*", 100) };
    let mut world = World::new([hour, user]);
    let now = at("11:30:00");
    let hours = [
        known("10:00:00", "11:00:00", "10:59:59", 30),
        known("11:00:00", "12:00:00", "11:10:00", 40),
        // Of a day that it had as its window once, in which nothing was booked since 9 o'clock.
        known("00:00:00", "23:59:59", "09:00:00", 50),
    ];
    world.books.restore(&id("key:k"), &hours, now);
    world.books.restore(&id("user:u"), &[known("11:29:10", "11:29:11", "11:29:10", 7)], now);
    world.books.restore(&id("team:gone"), &hours, now);
    assert_eq!(world.sums("key:k", now), (40, 0));
    assert_eq!(world.sums("user:u", now), (7, 0));
    assert_eq!(world.sums("user:u", at("11:30:11")), (0, 0));
    assert!(world.books.status(&id("team:gone"), now).is_none());
    // What was told before the restart is not told again.
    world.spend("a", "key:k", 1, now);
    assert_eq!(world.alerts(), []);
}

#[test]
fn settled_calls_are_forgotten_in_the_end_and_change_nothing_then_either() {
    let mut world = World::new([TokenPool::new(id("team:t"))]);
    for n in 0..=SETTLED_REMEMBERED_MAX {
        world.spend(&n.to_string(), "team:t", 1, at("00:00:00"));
    }
    assert_eq!(world.settle("0", 9, at("00:00:00")).outcome, SettleOutcome::Unknown);
    assert_eq!(world.settle("1", 9, at("00:00:00")).outcome, SettleOutcome::Repeated);
    assert_eq!(world.sums("team:t", at("00:00:00")), (SETTLED_REMEMBERED_MAX as u64 + 1, 0));
}

#[test]
fn reservations_open_at_once_have_a_bound() {
    let mut world = World::new([TokenPool::new(id("team:t"))]);
    for n in 0..RESERVATIONS_MAX {
        world.reserve(&n.to_string(), &["team:t"], 1, at("00:00:00")).unwrap();
    }
    assert_eq!(world.reserve("x", &["team:t"], 1, at("00:09:59")), Err(Refusal::TooManyOpen));
    // Their leases are over.
    world.reserve("x", &["team:t"], 1, at("00:10:00")).unwrap();
    assert_eq!(world.sums("team:t", at("00:10:00")), (0, 1));
    // Only so many of them can still be settled late; which, is not remembered of the others.
    let late = (0..RESERVATIONS_MAX)
        .filter(|n| world.settle(&n.to_string(), 1, at("00:10:01")).outcome == SettleOutcome::Late);
    assert_eq!(late.count(), EXPIRED_REMEMBERED_MAX);
}

#[test]
fn a_lease_has_a_bound() {
    let mut world = World::new([TokenPool::new(id("team:t"))]);
    let (call, pools) = (CallId::from("c"), [id("team:t")]);
    let claim = Claim::new(&call, &pools, tokens(1), Duration::MAX);
    let granted = world.books.reserve(&claim, at("00:00:00"), &mut world.effects).unwrap();
    assert_eq!(granted.until.duration_since(at("00:00:00")).unsigned_abs(), RESERVATION_LEASE_MAX);
}

#[test]
fn amounts_without_bound_do_not_wrap() {
    let mut world = World::new([TokenPool::new(id("team:t"))]);
    world.reserve("a", &["team:t"], u64::MAX, at("00:00:00")).unwrap();
    assert!(world.reserve("b", &["team:t"], 1, at("00:00:00")).is_err());
    world.settle("a", u64::MAX, at("00:00:00"));
    world.spend("b", "team:t", 7, at("00:00:00"));
    assert_eq!(world.sums("team:t", at("00:00:00")), (u64::MAX, 0));
}

#[test]
fn a_check_answers_as_a_claim_would_be_and_changes_nothing() {
    let now = at("00:00:00");
    let user = TokenPool { parent: Some(id("team:t")), window: Window::Day, ..pool("user:*", 50) };
    let soft = TokenPool { mode: Mode::Soft, ..pool("model:m", 1) };
    let mut world = World::new([pool("team:t", 100), user, soft]);
    let check = |world: &mut World, pools: &[&str], amount: u64, now: Timestamp| {
        let pools: Vec<PoolId> = pools.iter().map(|pool| id(pool)).collect();
        // It is known in the end, which a check does not mind.
        let call = CallId::from("c");
        world.books.check(&Claim::new(&call, &pools, tokens(amount), LEASE), now, &mut world.effects)
    };
    let all = ["user:a", "model:m"];
    let fits = Checked { left: Capacity::tokens(50), shortage: None };
    assert_eq!(check(&mut world, &all, 50, now), Ok(fits), "a soft pool limits nothing");
    assert_eq!(check(&mut world, &["model:m"], 50, now).unwrap().left, Capacity::UNLIMITED);
    assert!(world.books.status(&id("user:a"), now).is_some_and(|status| status.reserved.is_zero()));
    assert_eq!(world.books.made, 0, "no pool was made for it");

    world.reserve("c", &["user:a"], 30, now).unwrap();
    let short = check(&mut world, &all, 21, now).unwrap();
    assert_eq!(
        (short.left, short.shortage.map(|one| one.earliest)),
        (Capacity::tokens(20), Some(Earliest::OthersSettle))
    );
    let refused = world.reserve("d", &all, 51, now);
    let short = check(&mut world, &all, 51, now).unwrap();
    assert_eq!(refused, Err(Refusal::Exhausted(short.shortage.unwrap())));
    assert_eq!(check(&mut world, &["user:b"], 71, now).unwrap().left, Capacity::tokens(50));
    assert_eq!(check(&mut world, &["key:k"], 1, now), Err(Refusal::UnknownPool(id("key:k"))));
    // It lets go of what is over, as a claim does.
    let later = at("00:10:00");
    assert_eq!(check(&mut world, &all, 50, later).unwrap().shortage, None);
    assert_eq!(world.sums("user:a", later), (0, 0));
}
