//! Who answers, and who is next when that fails.
//!
//! Give it providers ([`LlmProvider`](hoosh_core::LlmProvider)), [`Route`]s and aliases, and it chooses for each request
//! who is asked, in which order, and says why ([`Plan`]); it moves on to the next one when that can help ([`Failover`]),
//! for streams until the first event with output ([`until_output`]).
//!
//! It opens no connection, reads no clock, draws no random number and starts no task: a provider does the talking, and
//! the same table, query and turn give the same plan. It needs no server and no particular runtime.
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
//! Targets of an alias keep their order. Within a target the lower [`priority`](Route::priority) is asked first, and
//! where that is equal the [`Strategy`] decides. Each provider is asked at most once for the same model.

mod attempt;
mod failover;
mod hold;
mod near;
mod pattern;
mod plan;
mod router;
mod strategy;
mod table;

#[cfg(test)]
mod scripted;

pub use attempt::{Attempted, attempt};
pub use failover::{Failover, Step};
pub use hold::until_output;
pub use near::near;
pub use plan::{Candidate, Objection, PassedOver, Plan, Query, Way, Why};
pub use router::{Routed, Router, RouterBuilder};
pub use strategy::{Strategy, Turn, UnknownStrategy};
pub use table::{BuildError, BuildFault, PRIORITY_DEFAULT, Route, RouteTable};
