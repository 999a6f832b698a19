//! Every interleaving of two or three threads on one ledger:
//! `RUSTFLAGS="--cfg loom" cargo test -p hoosh-budget --release --test loom`.
#![cfg(loom)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by its panic")]

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hoosh_budget::{
    Amount, CallId, Capacity, Claim, MemoryLedger, PoolId, PoolTree, Refusal, Reservation, SettleOutcome,
    Settled, Settlement, TokenBudget, TokenPool,
};
use jiff::Timestamp;
use loom::thread;

const LEASE: Duration = Duration::from_secs(60);
const NOW: Timestamp = Timestamp::UNIX_EPOCH;

/// What is there at once.
fn now<T>(future: impl Future<Output = T>) -> T {
    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the memory ledger waits for nobody"),
    }
}

fn later(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn team() -> PoolId {
    "team:t".parse().unwrap()
}

/// A key with 8 tokens in a team with 10.
fn budget() -> (TokenBudget, PoolId) {
    let key: PoolId = "key:k".parse().unwrap();
    let pools = vec![
        TokenPool { capacity: Capacity::tokens(10), ..TokenPool::new(team()) },
        TokenPool { capacity: Capacity::tokens(8), parent: Some(team()), ..TokenPool::new(key.clone()) },
    ];
    (TokenBudget::new(Arc::new(MemoryLedger::new(PoolTree::new(pools).unwrap()))), key)
}

fn reserve(budget: &TokenBudget, pool: &PoolId, call: &str, tokens: u64) -> Result<Reservation, Refusal> {
    let call = CallId::from(call);
    now(budget.reserve(&Claim::new(&call, std::slice::from_ref(pool), Amount::tokens(tokens), LEASE), NOW))
}

/// Settled and reserved, never more than the capacity together, in the team as in the key.
fn sums(budget: &TokenBudget, pool: &PoolId) -> (u64, u64) {
    let status = now(budget.ledger().status(pool, NOW)).unwrap().unwrap();
    let sum = status.settled.saturating_add(status.reserved);
    assert!(status.capacity.allows(sum), "{status:?}");
    (status.settled.tokens, status.reserved.tokens)
}

#[test]
fn three_who_want_it_all_at_once_get_no_more_than_there_is() {
    loom::model(|| {
        let (budget, key) = budget();
        let threads: Vec<_> = ["a", "b"]
            .into_iter()
            .map(|call| {
                let (budget, key) = (budget.clone(), key.clone());
                thread::spawn(move || match reserve(&budget, &key, call, 5) {
                    Ok(reservation) => now(reservation.settle(Amount::tokens(4), None, NOW)).booked.tokens,
                    Err(_) => 0,
                })
            })
            .collect();
        sums(&budget, &team());
        let spent: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert!(spent == 4 || spent == 8, "{spent}");
        assert_eq!((sums(&budget, &key), sums(&budget, &team())), ((spent, 0), (spent, 0)));
    });
}

#[test]
fn a_drop_and_a_settle_by_name_book_once() {
    loom::model(|| {
        let (budget, key) = budget();
        let mut reservation = reserve(&budget, &key, "a", 5).unwrap();
        reservation.produced(Amount::tokens(2));
        let dropped = thread::spawn(move || drop(reservation));
        let (call, actual) = (CallId::from("a"), Amount::tokens(3));
        let settlement = Settlement { call: &call, actual, row: None, now: Some(NOW) };
        let settled: Settled = now(budget.ledger().settle(settlement));
        dropped.join().unwrap();
        let expect = match settled.outcome {
            SettleOutcome::Booked => 3,
            SettleOutcome::Repeated => 2,
            other => panic!("{other:?}"),
        };
        assert_eq!((sums(&budget, &key), sums(&budget, &team())), ((expect, 0), (expect, 0)));
    });
}

#[test]
fn an_expiry_and_a_settle_book_once_and_no_more_than_there_is() {
    loom::model(|| {
        let (budget, key) = budget();
        let mut reservation = reserve(&budget, &key, "a", 5).unwrap();
        reservation.produced(Amount::tokens(1));
        let reaper = {
            let budget = budget.clone();
            thread::spawn(move || now(budget.ledger().reap(later(60))).unwrap())
        };
        let settled = now(reservation.settle(Amount::tokens(4), None, NOW));
        let reaped = reaper.join().unwrap();
        let outcome = if reaped == 1 { SettleOutcome::Late } else { SettleOutcome::Booked };
        assert_eq!((settled.outcome, settled.overrun), (outcome, Amount::ZERO));
        assert_eq!((sums(&budget, &key), sums(&budget, &team())), ((4, 0), (4, 0)));
    });
}

#[test]
fn an_extension_and_a_claim_share_what_is_left() {
    loom::model(|| {
        let (budget, key) = budget();
        let mut first = reserve(&budget, &key, "a", 5).unwrap();
        let second = {
            let (budget, key) = (budget.clone(), key.clone());
            thread::spawn(move || reserve(&budget, &key, "b", 2).map(Reservation::keep).is_ok())
        };
        let is_extended = now(first.extend(Amount::tokens(2), NOW)).is_ok();
        let is_second_held = second.join().unwrap();
        assert!(is_extended != is_second_held, "there are 3 left, and each wants 2");
        assert_eq!(sums(&budget, &key), (0, 7));
        assert_eq!(first.held(), Amount::tokens(if is_extended { 7 } else { 5 }));
        drop(first);
        assert_eq!(sums(&budget, &team()), (0, if is_second_held { 2 } else { 0 }));
    });
}
