//! What becomes of a reservation, however its call ends.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by its panic")]
#![allow(clippy::disallowed_methods, reason = "each task ends with the test's runtime")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use hoosh_budget::{
    Alert, AlertKind, Amount, BudgetWatch, CallId, Capacity, Claim, Expired, MemoryLedger, PoolId, PoolTree,
    Refusal, Reservation, SettleOutcome, Settlement, TokenBudget, TokenPool,
};
use jiff::Timestamp;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;
const LEASE: Duration = Duration::from_secs(60);

/// What a watcher was told.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl BudgetWatch for Told {
    fn alert(&self, alert: &Alert) {
        let kind = match alert.kind {
            AlertKind::Reached(percent) => format!("reached {percent} %"),
            AlertKind::Beyond => "beyond".to_owned(),
        };
        self.0.lock().unwrap().push(format!("{} {kind}", alert.pool));
    }

    fn expired(&self, expired: &Expired) {
        self.0.lock().unwrap().push(format!("{} expired at {}", expired.call, expired.produced.tokens));
    }

    fn overrun(&self, call: &CallId, overrun: Amount) {
        self.0.lock().unwrap().push(format!("{call} {} over", overrun.tokens));
    }
}

struct World {
    budget: TokenBudget,
    pool: PoolId,
    told: Arc<Told>,
}

impl World {
    fn new() -> Self {
        let pool: PoolId = "team:t".parse().unwrap();
        let rules =
            TokenPool { capacity: Capacity::tokens(100), alerts: vec![50], ..TokenPool::new(pool.clone()) };
        let told = Arc::new(Told::default());
        let ledger = MemoryLedger::new(PoolTree::new(vec![rules]).unwrap()).watched_by(told.clone());
        Self { budget: TokenBudget::new(Arc::new(ledger)), pool, told }
    }

    async fn reserve(&self, call: &str, tokens: u64) -> Result<Reservation, Refusal> {
        let call = CallId::from(call);
        let pools = std::slice::from_ref(&self.pool);
        self.budget.reserve(&Claim::new(&call, pools, Amount::tokens(tokens), LEASE), NOW).await
    }

    async fn sums(&self) -> (u64, u64) {
        let status = self.budget.ledger().status(&self.pool, NOW).await.unwrap().unwrap();
        (status.settled.tokens, status.reserved.tokens)
    }

    fn told(&self) -> Vec<String> {
        std::mem::take(&mut self.told.0.lock().unwrap())
    }
}

#[tokio::test]
async fn a_dropped_one_settles_what_it_produced() {
    let world = World::new();
    drop(world.reserve("nothing", 40).await.unwrap());
    assert_eq!(world.sums().await, (0, 0));

    let mut reservation = world.reserve("some", 40).await.unwrap();
    reservation.produced(Amount::tokens(10));
    reservation.produced(Amount::tokens(15));
    drop(reservation);
    assert_eq!(world.sums().await, (15, 0));
}

#[tokio::test]
async fn a_panic_and_a_cancelled_task_settle_what_was_produced() {
    let world = World::new();
    let mut reservation = world.reserve("panics", 40).await.unwrap();
    let panicked = catch_unwind(AssertUnwindSafe(move || {
        reservation.produced(Amount::tokens(5));
        panic!("a mistake of ours");
    }));
    assert!(panicked.is_err());
    assert_eq!(world.sums().await, (5, 0));

    let mut reservation = world.reserve("cancelled", 40).await.unwrap();
    let task = tokio::spawn(async move {
        reservation.produced(Amount::tokens(7));
        std::future::pending::<()>().await;
        drop(reservation);
    });
    tokio::task::yield_now().await;
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert_eq!(world.sums().await, (12, 0));
}

#[tokio::test]
async fn a_settled_one_is_not_settled_again_when_it_goes() {
    let world = World::new();
    let mut reservation = world.reserve("a", 40).await.unwrap();
    reservation.produced(Amount::tokens(39));
    let settled = reservation.settle(Amount::tokens(20), None, NOW).await;
    assert_eq!((settled.outcome, settled.booked), (SettleOutcome::Booked, Amount::tokens(20)));
    assert_eq!(world.sums().await, (20, 0));

    world.reserve("b", 40).await.unwrap().settle_detached(Amount::tokens(1), None, NOW);
    assert_eq!(world.sums().await, (21, 0));
}

#[tokio::test]
async fn a_kept_one_is_settled_by_its_name() {
    let world = World::new();
    let call = world.reserve("a", 40).await.unwrap().keep();
    assert_eq!(world.sums().await, (0, 40));
    let settle = || {
        let settlement = Settlement { call: &call, actual: Amount::tokens(9), row: None, now: Some(NOW) };
        world.budget.ledger().settle(settlement).now_or_never().unwrap().outcome
    };
    assert_eq!([settle(), settle()], [SettleOutcome::Booked, SettleOutcome::Repeated]);
    assert_eq!(world.sums().await, (9, 0));
}

#[tokio::test]
async fn an_extended_one_has_a_higher_ceiling() {
    let world = World::new();
    let mut reservation = world.reserve("a", 40).await.unwrap();
    reservation.extend(Amount::tokens(60), NOW).await.unwrap();
    assert!(matches!(reservation.extend(Amount::tokens(1), NOW).await, Err(Refusal::Exhausted(_))));
    assert_eq!((reservation.held(), reservation.ceiling()), (Amount::tokens(100), Capacity::tokens(100)));
    let until = Timestamp::from_second(90).unwrap();
    reservation.renew(LEASE, Timestamp::from_second(30).unwrap()).await.unwrap();
    assert_eq!(reservation.until(), until);
    assert_eq!(world.budget.ledger().reap(Timestamp::from_second(89).unwrap()).await, Ok(0));
    assert_eq!(world.budget.ledger().reap(until).await, Ok(1));
    assert!(matches!(reservation.extend(Amount::tokens(1), NOW).await, Err(Refusal::NotOpen(_))));
}

#[tokio::test]
async fn who_watches_is_told() {
    let world = World::new();
    world.reserve("a", 40).await.unwrap().settle(Amount::tokens(41), None, NOW).await;
    assert_eq!(world.told(), [""; 0], "there is room for what was beyond");
    let mut reservation = world.reserve("b", 40).await.unwrap();
    reservation.produced(Amount::tokens(10));
    world.budget.ledger().reap(Timestamp::from_second(60).unwrap()).await.unwrap();
    assert_eq!(world.told(), ["team:t reached 50 %", "b expired at 10"]);
    drop(reservation); // it has produced no more since
    assert_eq!(world.told(), [""; 0]);
    assert_eq!(world.sums().await, (51, 0));
    world.reserve("c", 40).await.unwrap().settle(Amount::tokens(60), None, NOW).await;
    assert_eq!(world.told(), ["c 11 over"]);
    assert_eq!(world.sums().await, (100, 0));
}

/// The bar of the issue, without HTTP: a pool for exactly so many calls, and clients that cancel at any point.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_crowd_spends_exactly_what_there_is() {
    let pool: PoolId = "team:t".parse().unwrap();
    let rules = TokenPool { capacity: Capacity::tokens(1_000), ..TokenPool::new(pool.clone()) };
    let budget = TokenBudget::in_memory(vec![rules]).unwrap();
    let clients: Vec<_> = (0..200)
        .map(|client| {
            let (budget, pool) = (budget.clone(), pool.clone());
            tokio::spawn(async move {
                let mut spent = 0;
                for n in 0..100_u64 {
                    let call = CallId::from(format!("{client}-{n}"));
                    let claim = Claim::new(&call, std::slice::from_ref(&pool), Amount::tokens(1), LEASE);
                    let Ok(mut reservation) = budget.reserve(&claim, NOW).await else { break };
                    tokio::task::yield_now().await;
                    match (client + n) % 4 {
                        0 => drop(reservation), // it has produced nothing
                        1 => {
                            reservation.produced(Amount::tokens(1));
                            drop(reservation);
                            spent += 1;
                        }
                        _ => spent += reservation.settle(Amount::tokens(1), None, NOW).await.booked.tokens,
                    }
                }
                spent
            })
        })
        .collect();
    let mut spent = 0;
    for client in clients {
        spent += client.await.unwrap();
    }
    let status = budget.ledger().status(&pool, NOW).await.unwrap().unwrap();
    assert_eq!((status.settled, status.reserved), (Amount::tokens(spent), Amount::ZERO));
    assert_eq!(spent, 1_000);
}
