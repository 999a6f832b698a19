//! The usage log: what each call took, one row for each.
//!
//! Usage is what is kept; money beside it is what it came to by the prices of the day, and can be worked out anew.

use hoosh_core::{NanoUsd, Usage};

use crate::ledger::CallId;
use crate::pool::PoolId;

/// What one call took.
///
/// A plain row: words are those that the gateway uses for them, JSON is JSON of the gateway's. [`UsageRow::new`] has
/// everything else empty.
#[derive(Debug, Clone, PartialEq)]
pub struct UsageRow {
    /// The call.
    pub id: CallId,
    /// When it ended. Unit: Unix milliseconds.
    pub at_ms: i64,
    /// Who called.
    pub caller: String,
    /// All pools that it was charged to, parents among them. Filled in by the ledger, which knows them.
    pub pools: Vec<PoolId>,
    /// The dialect it came in.
    pub dialect: String,
    /// The model as the caller named it.
    pub model_asked: String,
    /// The provider that answered, if one did.
    pub provider: Option<String>,
    /// The model as that provider names it.
    pub model: Option<String>,
    /// Whether a stream was asked for.
    pub stream: bool,
    /// How it ended, in a word.
    pub outcome: String,
    /// What the cache did, in a word.
    pub cache: String,
    /// How many candidates were asked.
    pub attempts: u32,
    /// What it took. `None`: nobody was asked, or nobody knows.
    pub usage: Option<Usage>,
    /// What that cost. `None`: no price is known for it, which is not the same as nothing.
    pub cost: Option<NanoUsd>,
    /// Others whose work on it counts too, as a JSON list. Empty: none.
    pub legs: String,
    /// What the caller tagged it with, as a JSON object of text. Empty: nothing.
    pub tags: String,
    /// How long it waited in line. Unit: milliseconds, as below.
    pub queued_ms: u64,
    /// How long until the first bytes of its answer were ready. `None`: there were none.
    pub first_ms: Option<u64>,
    /// How long it took from beginning to end.
    pub duration_ms: u64,
    /// That its cost was corrected since. `None`: it is what was charged. Filled in where rows are read.
    pub adjusted: Option<Adjusted>,
}

/// That a cost is another than what was charged for the call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adjusted {
    /// What was charged at the call's end. `None`: no price was known then.
    pub charged: Option<NanoUsd>,
    /// When it was corrected last. Unit: Unix milliseconds.
    pub at_ms: i64,
    /// By whom.
    pub by: String,
}

/// A cost that is to be another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CostChange {
    /// When the call ended, which names its row together with `id`. Unit: Unix milliseconds.
    pub at_ms: i64,
    /// The call.
    pub id: CallId,
    /// What its row says. A row that says something else by now is left as it is.
    pub was: Option<NanoUsd>,
    /// What it is to say.
    pub now: NanoUsd,
}

/// The end of a period, from which on costs are counted anew. Nothing is deleted by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The period that it ends, from 1.
    pub number: u64,
    /// When. The period ends before it. Unit: Unix milliseconds.
    pub at_ms: i64,
    /// Who said so.
    pub by: String,
}

// === impl UsageRow ===

impl UsageRow {
    /// The row of a call that ended then and of which nothing else is known.
    pub fn new(id: CallId, at_ms: i64) -> Self {
        Self {
            id,
            at_ms,
            caller: String::new(),
            pools: Vec::new(),
            dialect: String::new(),
            model_asked: String::new(),
            provider: None,
            model: None,
            stream: false,
            outcome: String::new(),
            cache: String::new(),
            attempts: 0,
            usage: None,
            cost: None,
            legs: String::new(),
            tags: String::new(),
            queued_ms: 0,
            first_ms: None,
            duration_ms: 0,
            adjusted: None,
        }
    }
}
