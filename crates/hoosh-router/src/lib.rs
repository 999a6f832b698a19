//! Who answers, and who is next when that fails.
//!
//! Give it providers ([`LlmProvider`](hoosh_core::LlmProvider)), [`Route`]s and aliases, and it chooses for each request
//! who is asked, in which order, and says why ([`Plan`]); it moves on to the next one when that can help ([`Failover`]),
//! for streams until the first event with output ([`until_output`]).
//!
//! It opens no connection and starts no task: a provider does the talking. [`RouteTable::plan`], [`Failover`], [`Health`] and
//! [`Queue`] read no clock and draw no lots either: time and [`Seed`] are arguments, so that a decision can be repeated. Only
//! [`Router`], which puts them together, reads tokio's clock and waits by it.
//!
//! ```
//! use std::sync::Arc;
//! use hoosh_core::{InferenceRequest, LlmProvider};
//! use hoosh_router::{Route, Router};
//!
//! # async fn doc(local: Arc<dyn LlmProvider>, remote: Arc<dyn LlmProvider>) -> Result<(), Box<dyn std::error::Error>> {
//! let router = Router::builder()
//!     .provider(local) // named `ollama`
//!     .provider(remote) // named `groq`
//!     .route(Route { models: vec!["llama*".into()], priority: 1, ..Route::to("ollama") })
//!     .route(Route { priority: 2, ..Route::to("groq") })
//!     .alias("fast", ["llama3", "groq/llama-3.1-8b-instant"])
//!     .build()?;
//!
//! let request = InferenceRequest { model: "fast".into(), prompt: "Say hi.".into(), ..Default::default() };
//! let answer = router.infer(&request).await?;
//! println!("{} says: {}", answer.candidate, answer.value.text);
//! # Ok(())
//! # }
//! ```
//!
//! # How is a name read?
//!
//! In this order, and the first that fits is taken:
//!
//! 1. an **alias**: its targets, in their order, each read by the rules below;
//! 2. a name that some route spells out **exactly**: all routes that match it;
//! 3. `provider/model`, if what stands before the first `/` is a provider's name: that provider alone is asked, for what
//!    stands behind it;
//! 4. anything else: all routes whose **pattern** matches it.
//!
//! So `meta-llama/Llama-3` stays one name where a route or an alias spells it so, or where no provider is called
//! `meta-llama`. Names are case-sensitive, as they are at the providers.
//!
//! # In which order are candidates asked?
//!
//! Targets of an alias keep their order, unless it is a [`Group`] with a strategy of its own. Within a target the lower
//! [`priority`](Route::priority) is asked first, and where that is equal the [`Strategy`] decides: the one for the most specific
//! [pattern](RouterBuilder::strategy_for) that matches, a [route's](Route::strategy) among them, else that of all. All are asked once before one is asked again, which the
//! [`RetryPolicy`] bounds.
//!
//! # Who is not asked?
//!
//! Who surely cannot ([`Objection`]: its route is off, the model takes no pictures, the prompt is too long), and who is to be
//! let alone for now ([`Resting`]): a model that failed five times in a row until one call has found it well again, or one
//! that said when to come back.

mod attempt;
mod breaker;
mod ewma;
mod failover;
mod filter;
mod health;
mod hedge;
mod hold;
mod near;
mod plan;
mod queue;
mod random;
mod retry;
mod router;
mod snapshot;
mod strategy;
mod table;

#[cfg(test)]
mod scripted;

pub use attempt::{Attempted, Missed, Opening, Unanswered};
pub use breaker::{BreakerPolicy, RestReason};
pub use failover::{Failover, Step};
pub use health::{Attempt, EndpointHealth, Health, HealthChange, HealthProbe, HealthState, Watch};
pub use hedge::{Hedging, LetGo};
pub use hold::{Holding, StreamWindow, until_output, until_proven};
pub use near::near;
pub use plan::{Candidate, Naming, Object, Objection, PassedOver, Plan, Query, Resting, Seen, Way, Why};
pub use queue::{
    Entry, Permit, Place, Queue, QueueLimits, QueueRefusal, QueueStatus, Ticket, Tier, UnknownTier, Waiting,
};
pub use random::Seed;
pub use retry::{OnExhausted, RetryBudget, RetryPolicy, Terms};
pub use router::{Routed, Router, RouterBuilder};
pub use snapshot::Snapshot;
pub use strategy::{Moment, Strategy, Turn, UnknownStrategy};
pub use table::{
    BuildError, BuildFault, Canary, Group, Member, PRIORITY_DEFAULT, Route, RouteOptions, RouteTable,
};
