//! Why an amount is not held.

use std::fmt;

use hoosh_core::limits::{POOLS_MADE_MAX, POOLS_PER_CALL_MAX, RESERVATIONS_MAX};
use jiff::Timestamp;

use crate::amount::{Amount, Capacity};
use crate::ledger::CallId;
use crate::pool::PoolId;

/// Why an amount is not held. Nothing has changed in any pool then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// A pool has not enough left.
    #[error(transparent)]
    Exhausted(Box<Shortage>),
    /// No such pool is defined, and no template stands for it.
    #[error("there is no pool `{0}`")]
    UnknownPool(PoolId),
    /// The call holds an amount already, or did and is settled.
    #[error("call `{0}` has reserved before; each call does so once")]
    KnownCall(CallId),
    /// The call holds nothing: it is settled, expired, or never reserved.
    #[error("call `{0}` holds nothing: it is settled, expired or never reserved")]
    NotOpen(CallId),
    /// The call would be charged to too many pools.
    #[error("the call is charged to more than {max} pools, parents among them", max = POOLS_PER_CALL_MAX)]
    TooManyPools,
    /// No pool can be made by a template for now.
    #[error(
        "there is no room for the pool `{0}`: templates have made {max}, and all have spent in their window",
        max = POOLS_MADE_MAX
    )]
    NoRoom(PoolId),
    /// Too many reservations are open.
    #[error("{max} reservations are open, and none more can be", max = RESERVATIONS_MAX)]
    TooManyOpen,
    /// The ledger cannot say, or could not remember.
    #[error(transparent)]
    Unavailable(#[from] LedgerFault),
}

/// Why a ledger cannot do what it is for: the disk is full, the server is away.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the ledger {0}")]
pub struct LedgerFault(pub String);

/// What a pool has not enough of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortage {
    /// Which pool. Where several have not enough, the one that is waited for longest.
    pub pool: PoolId,
    /// What it may spend in a window.
    pub capacity: Capacity,
    /// What it has spent in this one.
    pub settled: Amount,
    /// What calls hold that are under way.
    pub reserved: Amount,
    /// The least that was asked for.
    pub asked: Amount,
    /// When it would fit at the earliest.
    pub earliest: Earliest,
}

/// When something fits that does not now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Earliest {
    /// As soon as calls under way turn out to need less than they hold.
    OthersSettle,
    /// At this time, if nobody else is faster.
    At(Timestamp),
    /// Never: it is more than the pool may spend at all, or the pool does not begin anew.
    Never,
}

// === impl Shortage ===

impl std::error::Error for Shortage {}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left = self.capacity.left(self.settled.saturating_add(self.reserved));
        write!(f, "pool `{}` has ", self.pool)?;
        match (left.tokens, left.money) {
            (Some(tokens), _) if tokens < self.asked.tokens => {
                let capacity = self.capacity.tokens.unwrap_or(u64::MAX);
                write!(
                    f,
                    "{tokens} of {capacity} tokens free, {} asked ({} spent, {} held by calls under way)",
                    self.asked.tokens, self.settled.tokens, self.reserved.tokens
                )?;
            }
            (_, money) => {
                write!(
                    f,
                    "{} of {} free, {} asked ({} spent, {} held by calls under way)",
                    money.unwrap_or_default(),
                    self.capacity.money.unwrap_or_default(),
                    self.asked.money,
                    self.settled.money,
                    self.reserved.money
                )?;
            }
        }
        match self.earliest {
            Earliest::OthersSettle => f.write_str("; it may fit when those have ended"),
            Earliest::At(time) => write!(f, "; it fits at {time} at the earliest"),
            Earliest::Never if self.capacity.allows(self.asked) => f.write_str("; it does not begin anew"),
            Earliest::Never => f.write_str("; it is more than the pool may spend at all"),
        }
    }
}
