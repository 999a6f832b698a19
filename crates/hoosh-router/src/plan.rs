//! What was chosen for a request: candidates in order, each with its why, and who was passed over.
//!
//! Values only. The table makes a plan, [`Failover`](crate::Failover) walks it.

use std::fmt;
use std::sync::Arc;

use hoosh_core::{EmbeddingRequest, Fidelity, InferenceRequest, LlmProvider, NoRoute};

/// What of a request decides who is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Query<'a> {
    /// Model as the caller names it: a model, an alias, or `provider/model`.
    pub model: &'a str,
    /// Most tokens the caller asks for. `None`: it did not say, and no limit is exceeded.
    pub max_tokens: Option<u64>,
}

/// Who is asked for a request, in order.
///
/// Its `Display` is the whole decision in one line.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Those who can be asked, the first first. A plan that a table made has at least one.
    pub candidates: Vec<Candidate>,
    /// Those whose route matches but who cannot be asked, in the order of the configuration.
    pub passed_over: Vec<PassedOver>,
}

/// Somebody who can be asked.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Who.
    pub provider: Arc<dyn LlmProvider>,
    /// For which model, in the provider's own words.
    pub model: Arc<str>,
    /// Why here.
    pub why: Why,
    /// What the route says about parts of a request that the provider cannot be told.
    pub fidelity: Option<Fidelity>,
}

/// Why a candidate is in a plan and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    /// The alias that names it, if the caller used one.
    pub alias: Option<Arc<str>>,
    /// How the name led to it.
    pub way: Way,
}

/// How a name leads to a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// A route's pattern matches it.
    Pattern {
        /// The pattern, as configured.
        pattern: Arc<str>,
        /// The route's priority.
        priority: u32,
    },
    /// It names the provider, as `provider/model`.
    Direct,
}

/// Somebody who cannot be asked although a route matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassedOver {
    /// The provider's name.
    pub provider: Arc<str>,
    /// What stands against it.
    pub why: Objection,
}

/// What stands against asking a provider by one of its routes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Objection {
    /// The route is switched off.
    Disabled,
    /// The route does not allow as many tokens.
    OverLimit {
        /// Tokens asked for.
        asked: u64,
        /// Tokens allowed.
        limit: u64,
    },
}

// === impl Query ===

impl<'a> From<&'a InferenceRequest> for Query<'a> {
    fn from(request: &'a InferenceRequest) -> Self {
        Self { model: &request.model, max_tokens: request.max_tokens }
    }
}

impl<'a> From<&'a EmbeddingRequest> for Query<'a> {
    fn from(request: &'a EmbeddingRequest) -> Self {
        Self { model: &request.model, max_tokens: None }
    }
}

// === impl Plan ===

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, candidate) in self.candidates.iter().enumerate() {
            write!(f, "{}{candidate} ({})", if index == 0 { "" } else { ", then " }, candidate.why)?;
        }
        for passed in &self.passed_over {
            write!(f, "; not {passed}")?;
        }
        Ok(())
    }
}

// === impl Candidate ===

/// `provider/model`, which a caller can write to get just this one.
impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.provider.name(), self.model)
    }
}

// === impl Why ===

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(alias) = &self.alias {
            write!(f, "alias `{alias}`, ")?;
        }
        write!(f, "{}", self.way)
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pattern { pattern, priority } => write!(f, "pattern `{pattern}`, priority {priority}"),
            Self::Direct => f.write_str("provider named"),
        }
    }
}

// === impl PassedOver ===

impl fmt::Display for PassedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.provider, self.why)
    }
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disabled => f.write_str("its route is disabled"),
            Self::OverLimit { asked, limit } => {
                write!(f, "its route allows {limit} tokens, {asked} asked")
            }
        }
    }
}

/// What a caller is told when nobody is left.
pub(crate) fn no_route(model: &str, passed_over: &[PassedOver], near: Vec<String>) -> NoRoute {
    let considered =
        passed_over.iter().map(|passed| (passed.provider.to_string(), passed.why.to_string())).collect();
    NoRoute { model: model.to_owned(), considered, near }
}
