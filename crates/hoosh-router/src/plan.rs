//! What was chosen for a request: candidates in order, each with its why, and who was passed over.
//!
//! Values only. The table makes a plan, [`Failover`](crate::Failover) walks it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hoosh_core::{
    ContextPolicy, ContextRule, EmbeddingRequest, Fidelity, InferenceRequest, LlmProvider, Modalities,
    Modality, NanoUsd, NoRoute, NoRouteCause, PartKind, PriceTable,
};

use crate::breaker::RestReason;
use crate::filter;
use crate::random::Seed;
use crate::strategy::{Moment, Strategy};
use crate::table::RouteOptions;

/// What of a request decides who is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Query<'a> {
    /// Model as the caller names it: a model, an alias, or `provider/model`.
    pub model: &'a str,
    /// Most tokens the caller asks for. `None`: it did not say, and no limit is exceeded. 0: it wants no answer but the vectors
    /// of its texts, which are read one by one, so that all together are too long for nobody.
    pub max_tokens: Option<u64>,
    /// Tokens of the prompt, counted. `None`: unknown, and no window is too small.
    pub prompt_tokens: Option<u64>,
    /// About as many, for what the call would cost where they are not counted. `None`: a prompt costs nothing.
    pub prompt_estimate: Option<u64>,
    /// What the prompt holds beside text. A model that is known not to take it is not asked.
    pub input: Modalities,
    /// Whether tools are given. A model that is known to call none is not asked.
    pub tools: bool,
    /// Whether only models on this machine or network may see it.
    pub local_only: bool,
    /// Most that the call may cost, as estimated. A model without a known price is then not asked.
    pub max_cost: Option<NanoUsd>,
    /// When the call is made, which decides what it costs. Unit: seconds since 1970, UTC. `None`: unknown, and the latest
    /// prices count.
    pub at: Option<u64>,
    /// What the caller wants done about a prompt that is too long; `None`: what the route says. Where it is made shorter, no
    /// window is too small.
    pub context: Option<ContextPolicy>,
    /// Which conversation it belongs to: the same one goes to the same candidate among equals as long as that is well, so
    /// that its prompt is in the cache there.
    pub conversation: Option<Seed>,
}

/// Who is asked for a request, in order.
///
/// Its `Display` is the whole decision in one line.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Those who can be asked, the first first.
    pub candidates: Vec<Candidate>,
    /// Those who could be asked if they were not let alone for now, in the same order. A plan that a table made has at
    /// least one here or above.
    pub resting: Vec<Resting>,
    /// Those whose route matches but who cannot be asked, in the order of the configuration.
    pub passed_over: Vec<PassedOver>,
    /// What put equals in this order: the strategy of the group, of a pattern, or of all.
    pub strategy: Strategy,
    /// When it was made, and the chance in it.
    pub moment: Moment,
    /// What calls cost, as it was known then.
    pub prices: Arc<PriceTable>,
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
    /// What was known of it at the moment of the plan.
    pub seen: Seen,
    /// What the route says of answers that are slow or break.
    pub options: RouteOptions,
    /// What the route says about prompts that are too long. `None`: nothing.
    pub context: Option<Arc<ContextRule>>,
}

/// What was known of an endpoint at the moment of a plan: all that a [`Strategy`] may look at, whether or not this one did.
///
/// Times are whole microseconds, so that who writes them down and reads them again has the same. Small, since every plan
/// and every decision that is kept holds one for each candidate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    in_flight: u32,
    latency: Micros,
    time_to_first: Micros,
}

/// A time in microseconds, one more than it is; 0: not known yet. It ends at 71 minutes, where times are all the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Micros(u32);

/// Somebody who is let alone for now.
#[derive(Debug, Clone)]
pub struct Resting {
    /// Who, and for which model.
    pub candidate: Candidate,
    /// When it may be asked again at the earliest.
    pub until: Instant,
    /// For how long that is, from the plan on.
    pub rest: Duration,
    /// Why.
    pub why: RestReason,
}

/// Why a candidate is in a plan and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    /// The alias that names it, if the caller used one.
    pub alias: Option<Arc<str>>,
    /// How the name led to it.
    pub way: Way,
    /// How often it is taken beside its equals, where the strategy goes by weight.
    pub weight: u32,
    /// Whether it is the canary of its group, which is first for a share of the calls and last for the others.
    pub is_canary: bool,
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
    /// The model, as that provider names it.
    pub model: Arc<str>,
    /// What stands against it.
    pub why: Objection,
}

/// Looks at one who could be asked, for what a call says beyond a [`Query`]. `None`: nothing stands against it.
pub type Object<'o> = &'o mut dyn FnMut(&Candidate) -> Option<Objection>;

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
    /// It is neither on this machine nor on this network, and the call must stay there.
    NotLocal,
    /// Whoever calls may not have it asked.
    NotAllowed,
    /// The model is known not to take this.
    Unable(
        /// What: `images`, `tools`.
        &'static str,
    ),
    /// The prompt is longer than what the model reads.
    TooLong {
        /// Tokens of the prompt.
        tokens: u64,
        /// Tokens the model reads.
        window: u64,
    },
    /// The call would cost more there than it may.
    TooDear {
        /// What it would cost.
        cost: NanoUsd,
        /// What it may cost.
        limit: NanoUsd,
    },
    /// What the call would cost there is not known, and it may cost only so much, or
    /// [nobody is asked](hoosh_core::OnUnpriced::Block) of whom that is not known.
    Unpriced,
    /// The call allows no loss, and its dialect has no word for something in it.
    Lossy(
        /// What, as a path in the request.
        String,
    ),
}

/// How a name is understood, see the crate page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Naming {
    /// As an alias of these models, in this order.
    Alias {
        /// What it leads to in the end, each in the words of those who have it.
        models: Vec<Arc<str>>,
    },
    /// As a name that a route spells out.
    Exact,
    /// As `provider/model`.
    Direct {
        /// The provider.
        provider: Arc<str>,
    },
    /// As a name that patterns may match.
    Pattern,
}

// === impl Query ===

impl<'a> From<&'a InferenceRequest> for Query<'a> {
    fn from(request: &'a InferenceRequest) -> Self {
        let parts = request.messages.iter().flat_map(|message| &message.parts);
        let input = parts.filter_map(|part| match part.kind {
            PartKind::Image { .. } => Some(Modality::Image),
            PartKind::Audio { .. } => Some(Modality::Audio),
            _ => None,
        });
        Self {
            model: &request.model,
            max_tokens: request.max_tokens,
            input: input.collect(),
            tools: !request.tools.is_empty(),
            ..Self::default()
        }
    }
}

impl<'a> From<&'a EmbeddingRequest> for Query<'a> {
    fn from(request: &'a EmbeddingRequest) -> Self {
        Self { model: &request.model, ..Self::default() }
    }
}

// === impl Plan ===

impl Plan {
    /// Whether nobody can be asked, not even later.
    pub fn is_empty(&self) -> bool {
        self.candidates.is_empty() && self.resting.is_empty()
    }

    /// The plan, if it has anybody.
    ///
    /// # Errors
    ///
    /// It has nobody: with those passed over, or where there are none, the names that look like the one asked for.
    pub fn or_nobody(self, query: &Query<'_>, near: impl FnOnce() -> Vec<String>) -> Result<Self, NoRoute> {
        if !self.is_empty() {
            return Ok(self);
        }
        let model = query.model;
        let told = |passed: &PassedOver| {
            let provider = &passed.provider;
            // A name that leads elsewhere does not say which model it is.
            let name = match *passed.model == *model {
                true => provider.to_string(),
                false => format!("{provider}/{}", passed.model),
            };
            (name, passed.why.to_string())
        };
        let considered: Vec<_> = self.passed_over.iter().map(told).collect();
        let near = if considered.is_empty() { near() } else { Vec::new() };
        Err(NoRoute { model: model.to_owned(), considered, near, cause: cause(&self.passed_over, query) })
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, candidate) in self.candidates.iter().enumerate() {
            write!(f, "{}{candidate} ({})", if index == 0 { "" } else { ", then " }, candidate.why)?;
        }
        for resting in &self.resting {
            let seconds = resting.rest.as_secs_f32();
            write!(f, "; not {} for {seconds:.1} s ({})", resting.candidate, resting.why.as_str())?;
        }
        for passed in &self.passed_over {
            write!(f, "; not {passed}")?;
        }
        Ok(())
    }
}

// === impl Seen ===

impl Seen {
    /// So many calls are under way, and so long an answer and its first output took lately, if that is known.
    pub fn new(in_flight: usize, latency: Option<Duration>, time_to_first: Option<Duration>) -> Self {
        let in_flight = u32::try_from(in_flight).unwrap_or(u32::MAX);
        Self { in_flight, latency: Micros::new(latency), time_to_first: Micros::new(time_to_first) }
    }

    /// Calls under way there.
    pub fn in_flight(&self) -> usize {
        self.in_flight as usize
    }

    /// How long an answer took lately. `None`: not known yet.
    pub fn latency(&self) -> Option<Duration> {
        self.latency.get()
    }

    /// How long the first output took lately. `None`: not known yet.
    pub fn time_to_first(&self) -> Option<Duration> {
        self.time_to_first.get()
    }
}

impl Micros {
    fn new(time: Option<Duration>) -> Self {
        let whole = |time: Duration| u32::try_from(time.as_micros()).unwrap_or(u32::MAX).saturating_add(1);
        Self(time.map_or(0, whole))
    }

    fn get(self) -> Option<Duration> {
        self.0.checked_sub(1).map(|micros| Duration::from_micros(micros.into()))
    }
}

// === impl Candidate ===

impl Candidate {
    /// What the call would cost there by these prices, about: 500 tokens of answer where it names no most. `None`: no price is
    /// known.
    pub fn cost(&self, query: &Query<'_>, prices: &PriceTable) -> Option<NanoUsd> {
        filter::cost(&*self.provider, &self.model, query, prices)
    }

    /// Whether it can go on with an answer that another has begun.
    pub fn prefills(&self) -> bool {
        self.options.prefills.unwrap_or_else(|| self.provider.prefills(&self.model))
    }

    /// Most tokens of a prompt that it takes, as its route or the catalogue says. `None`: that is not known.
    pub fn window(&self) -> Option<u64> {
        filter::window(&*self.provider, &self.model, self.context.as_deref())
    }

    /// Most tokens of a prompt for which it is asked, where something is said of that: by its route, or by the caller, whose
    /// wish goes before. `None`: nothing is said, its window is not known, or prompts are made shorter for it.
    pub fn refuses_above(&self, wish: Option<ContextPolicy>) -> Option<u64> {
        let rule = self.context.as_deref();
        let is_said = wish.is_some() || rule.is_some_and(ContextRule::acts);
        let policy = wish.or(rule.and_then(|rule| rule.policy)).unwrap_or_default();
        let refuses = policy == ContextPolicy::Refuse && !rule.is_some_and(ContextRule::compresses);
        self.window().filter(|_| is_said && refuses)
    }

    /// Most tokens of a prompt that leave as many for the answer; for one of more than half of the window, half of it. `None`:
    /// that is not known.
    pub fn prompt_max(&self, answer: u64) -> Option<u64> {
        filter::prompt_max(&*self.provider, &self.model, self.context.as_deref(), answer)
    }
}

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
        write!(f, "{}{}", if self.is_canary { "canary, " } else { "" }, self.way)
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
        write!(f, "{}/{} ({})", self.provider, self.model, self.why)
    }
}

impl Objection {
    /// One word for programs.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::OverLimit { .. } => "over_limit",
            Self::NotLocal => "not_local",
            Self::NotAllowed => "not_allowed",
            Self::Unable(_) => "unable",
            Self::TooLong { .. } => "too_long",
            Self::TooDear { .. } => "too_dear",
            Self::Unpriced => "unpriced",
            Self::Lossy(_) => "lossy",
        }
    }
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disabled => f.write_str("its route is disabled"),
            Self::OverLimit { asked, limit } => {
                write!(f, "its route allows {limit} tokens, {asked} asked")
            }
            Self::NotLocal => f.write_str("it is remote, and the call must stay here"),
            Self::NotAllowed => f.write_str("the caller's key does not allow it"),
            Self::Unable(what) => write!(f, "the model takes no {what}"),
            Self::TooLong { tokens, window } => {
                write!(f, "the model reads {window} tokens, the prompt has about {tokens}")
            }
            Self::TooDear { cost, limit } => write!(f, "the call would cost {cost}, it may cost {limit}"),
            Self::Unpriced => f.write_str("what the call would cost there is not known"),
            Self::Lossy(what) => write!(f, "it cannot be told `{what}`, and the call allows no loss"),
        }
    }
}

/// What it is due to that nobody is left. What a request holds and asks for goes before the conditions that its caller set for it:
/// those left by them could not take it either.
fn cause(passed_over: &[PassedOver], query: &Query<'_>) -> NoRouteCause {
    let objections = || passed_over.iter().map(|passed| &passed.why);
    let held = |why: &&Objection| match why {
        Objection::OverLimit { .. } | Objection::Unable(_) | Objection::TooLong { .. } => true,
        Objection::Disabled
        | Objection::NotLocal
        | Objection::NotAllowed
        | Objection::TooDear { .. }
        | Objection::Unpriced
        | Objection::Lossy(_) => false,
    };
    let is_condition = |why: &Objection| match why {
        Objection::NotLocal | Objection::TooDear { .. } => true,
        // Else it is the gateway that asks nobody without a price.
        Objection::Unpriced => query.max_cost.is_some(),
        _ => false,
    };
    let lengths = || {
        objections().filter_map(|why| match why {
            Objection::TooLong { tokens, window } => Some((*window, *tokens)),
            _ => None,
        })
    };
    let limits = || {
        objections().filter_map(|why| match why {
            Objection::OverLimit { asked, limit } => Some((*limit, *asked)),
            _ => None,
        })
    };
    let all = objections().filter(held).count();
    match (lengths().max(), limits().max()) {
        (Some((window, tokens)), _) if lengths().count() == all => NoRouteCause::TooLong { tokens, window },
        (_, Some((limit, asked))) if limits().count() == all => NoRouteCause::OverLimit { asked, limit },
        _ if all > 0 => NoRouteCause::Unable,
        _ if objections().any(is_condition) => NoRouteCause::Conditions,
        _ => NoRouteCause::Model,
    }
}
