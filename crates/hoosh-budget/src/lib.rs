//! Exact budgets: what may be spent, what is held, and what was spent, in tokens and in money.
//!
//! [`TokenPool`]s form a tree: a key in a team in an organisation. A call holds what it may take
//! ([`TokenBudget::reserve`]) in all pools that it belongs to, or in none, before anybody is asked; in the end it
//! settles what it took. In a hard pool settled and reserved together are never more than the capacity, under any
//! number of threads, cancelled calls and crashes. A [`Reservation`] cannot leak: dropping it settles what was
//! produced, and where its process dies its lease runs out.
//!
//! It reads no clock: times are told. It knows no prices: money is what the caller says a call costs.
//!
//! ```
//! use std::time::Duration;
//! use hoosh_budget::{Amount, Capacity, CallId, Claim, PoolId, Refusal, TokenBudget, TokenPool, Window};
//! use jiff::Timestamp;
//!
//! # async fn doc(now: Timestamp) -> Result<(), Box<dyn std::error::Error>> {
//! let team: PoolId = "team:search".parse()?;
//! let key: PoolId = "key:k_1".parse()?;
//! let budget = TokenBudget::in_memory(vec![
//!     TokenPool { capacity: Capacity::tokens(10_000), window: Window::Day, ..TokenPool::new(team.clone()) },
//!     TokenPool { parent: Some(team.clone()), ..TokenPool::new(key.clone()) },
//!     // Whoever the end user is, no more than this in any hour.
//!     TokenPool {
//!         capacity: Capacity::tokens(2_000),
//!         window: Window::Rolling(Duration::from_secs(3600)),
//!         ..TokenPool::new("user:*".parse()?)
//!     },
//! ])?;
//!
//! let call = CallId::from("req_1");
//! let claim = Claim {
//!     if_defined: &[PoolId::new("user", "alice")?, PoolId::new("model", "gpt-4o")?],
//!     ..Claim::new(&call, std::slice::from_ref(&key), Amount::tokens(1_500), Duration::from_secs(600))
//! };
//! let mut reservation = budget.reserve(&claim, now).await?;
//! assert_eq!(reservation.ceiling().tokens, Some(1_500));
//!
//! reservation.produced(Amount::tokens(40)); // while it streams: booked if we are dropped here
//! let settled = reservation.settle(Amount::tokens(300), None, now).await;
//! assert_eq!(settled.booked, Amount::tokens(300));
//!
//! let status = budget.ledger().status(&team, now).await?.ok_or("defined")?;
//! assert_eq!((status.settled, status.reserved), (Amount::tokens(300), Amount::ZERO));
//!
//! let second = CallId::from("req_2");
//! let too_much = Amount::tokens(1_701);
//! let claim = Claim { call: &second, estimate: too_much, least: too_much, ..claim };
//! let refused = budget.reserve(&claim, now).await;
//! assert!(matches!(refused, Err(Refusal::Exhausted(shortage)) if shortage.pool.as_str() == "user:alice"));
//! # Ok(())
//! # }
//! # futures_util::future::FutureExt::now_or_never(doc(Timestamp::UNIX_EPOCH)).unwrap().unwrap();
//! ```
//!
//! Beside the pools stand [`rate`], which limits requests and tokens in a time and calls at once, [`keys`], which makes API keys
//! and says what each may do, and [`jwt`], which does the same for signed tokens of others.
//!
//! # Why is it held before it is spent?
//!
//! Who charges calls after the fact overspends by as many calls as run at once. So a call holds an estimate first: its
//! prompt counted, and the most that it may write. If less than that is left but no less than [`Claim::least`], it gets
//! what is left, and its answer is cut at the [ceiling](Reservation::ceiling) unless it can be
//! [extended](Reservation::extend).
//!
//! # What if it takes more than it holds?
//!
//! A hard pool books what was held and no more; the rest is the call's `overrun`, in [`Settled`] and counted in the
//! pool's [status](PoolStatus::overrun). A soft pool books everything.
//!
//! # Which window does it count in?
//!
//! In the one in which it was held, though it ends in the next. In a rolling window it counts as held until it is
//! settled, and from then on for the window's length. Where the clock is set back, a calendar window stays the one it
//! was.
//!
//! # Who settles what nobody settles?
//!
//! [`Ledger::reap`], to be called every few seconds: a reservation whose lease is over is booked at what it noted as
//! [produced](Reservation::produced). It can still be settled late; hard pools then book what they have left.
//!
//! # What outlives the process?
//!
//! With the feature `sqlite` a `FileLedger` keeps in one file what was settled, and a row for each call ([`UsageRow`]) that can be
//! paged through and summed up. What was held by calls of a process that died is free when the file is opened again.

pub mod jwt;
pub mod keys;
pub mod rate;

mod amount;
mod books;
#[cfg(feature = "sqlite")]
mod file;
mod ledger;
mod memory;
mod pool;
mod refusal;
mod sync;
mod usage;
mod window;

pub use amount::{Amount, Capacity};
pub use books::{Booking, Books, Effects};
#[cfg(feature = "sqlite")]
pub use file::{Durability, FileLedger, OpenError, Order, UsageFilter, UsageLog, UsageSums, UsageSumsBy};
pub use ledger::{
    Alert, AlertKind, Answer, BudgetWatch, CallId, Checked, Claim, Expired, Granted, Ledger, PoolStatus,
    Reservation, SettleOutcome, Settled, Settlement, TokenBudget, WindowSums,
};
pub use memory::MemoryLedger;
pub use pool::{InvalidPoolId, InvalidPools, Mode, PoolFault, PoolId, PoolProblem, PoolTree, TokenPool};
pub use refusal::{Earliest, LedgerFault, Refusal, Shortage};
pub use usage::{Adjusted, CostChange, Mark, UsageRow};
pub use window::Window;
