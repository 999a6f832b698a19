//! The way of a call. READ THIS FIRST.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use hoosh_core::dialect::Dialect;
use hoosh_core::{
    Fidelity, HooshError, LlmProvider, ModelInfo, NoRoute, ProviderHealth, UpstreamFailure, rate_limit,
};
use hoosh_router::{Attempted, Candidate, Plan, Query, Router, attempt, near};
use tokio::time::timeout;

use crate::call::Call;
use crate::guard::Guard;
use crate::lane::{self, Answer, AnswerBody};
use crate::listing::Listings;
use crate::reply::{Reply, ReplyBody, ReplyHead, ReplyStream};
use crate::responses::Responses;
use crate::settle::{Observer, Outcome, Settlement};

/// A gateway: everything between a request's bytes and an answer's, but for HTTP.
pub struct Gateway {
    router: Router,
    guards: Vec<Arc<dyn Guard>>,
    observers: Arc<[Arc<dyn Observer>]>,
    listings: Listings,
    answer_time_max: Option<Duration>,
    fidelity: Fidelity,
    /// What `previous_response_id` goes on from.
    responses: Arc<Responses>,
}

/// Puts a [`Gateway`] together.
pub struct GatewayBuilder {
    router: Router,
    guards: Vec<Arc<dyn Guard>>,
    observers: Vec<Arc<dyn Observer>>,
    answer_time_max: Option<Duration>,
    fidelity: Fidelity,
}

/// How one provider is.
#[derive(Debug)]
pub struct HealthReport {
    /// Which.
    pub provider: Arc<dyn LlmProvider>,
    /// How, or why that is not known.
    pub health: Result<ProviderHealth, UpstreamFailure>,
}

// === impl Gateway ===

impl Gateway {
    /// Begins a gateway over the providers and routes of `router`.
    pub fn builder(router: Router) -> GatewayBuilder {
        GatewayBuilder {
            router,
            guards: Vec::new(),
            observers: Vec::new(),
            answer_time_max: None,
            fidelity: Fidelity::default(),
        }
    }

    /// Answers one call, and tells the observers once how it ended.
    ///
    /// # Errors
    ///
    /// Why there is no answer; every attempt is in it. A stream that breaks after its first output is no error here but
    /// ends with an error event.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future, or a streamed answer, cancels the call at the provider and tells the observers so.
    pub async fn call(&self, mut call: Call) -> Result<Reply, HooshError> {
        call.recall(&self.responses);
        let mut settlement = Settlement::open(&call, Arc::clone(&self.observers));
        match self.run(&call, &mut settlement).await {
            Ok((answer, head)) => Ok(settle(answer, head, call.dialect, settlement)),
            Err(error) => {
                settlement.settle(Outcome::Failed(error.clone()));
                Err(error)
            }
        }
    }

    async fn run(&self, call: &Call, settlement: &mut Settlement) -> Result<(Answer, ReplyHead), HooshError> {
        for guard in &self.guards {
            guard.check(call)?; // nothing is spent yet
        }
        let plan = self.faithful(call, self.plan(call).await?)?;
        let Attempted { value: answer, candidate, failures } = self.attempt(call, &plan, settlement).await?;
        let attempts = failures.len() + 1;
        settlement.answered_by(&candidate.provider, &candidate.model);
        settlement.note(answer.notes.iter().cloned());
        let head = ReplyHead {
            request_id: call.id.clone(),
            provider: candidate.provider.name().to_owned(),
            model: candidate.model.as_ref().to_owned(),
            attempts,
            notes: match self.fidelity_of(call, candidate) {
                Fidelity::Silent => Vec::new(),
                Fidelity::Report | Fidelity::Strict => answer.notes.clone(),
            },
            limits: rate_limit::for_client(call.dialect, answer.limits.clone()),
            cost: None,
        };
        Ok((answer, head))
    }

    /// Who is asked, in order. Only if nobody is does it look up which names there are.
    async fn plan(&self, call: &Call) -> Result<Plan, NoRoute> {
        let query = Query { model: &call.head.model, max_tokens: call.head.max_tokens };
        match self.router.plan(&query) {
            Ok(plan) => {
                tracing::debug!(id = %call.id, %plan, "plan");
                Ok(plan)
            }
            Err(mut no_route) => {
                let listed = self.models().await;
                let names = listed.iter().map(|model| model.id.as_str());
                no_route.near = near(&call.head.model, names.chain(no_route.near.iter().map(String::as_str)));
                Err(no_route)
            }
        }
    }

    /// The plan without those who would lose something of a call that allows no loss.
    fn faithful(&self, call: &Call, mut plan: Plan) -> Result<Plan, HooshError> {
        let mut lost = Vec::new();
        plan.candidates.retain(|candidate| {
            let notes = match self.fidelity_of(call, candidate) {
                Fidelity::Strict => lane::losses(call, candidate),
                Fidelity::Report | Fidelity::Silent => return true,
            };
            let is_faithful = notes.is_empty();
            if !is_faithful {
                lost.push((candidate.provider.name().to_owned(), notes));
            }
            is_faithful
        });
        if plan.candidates.is_empty() { Err(HooshError::Lossy(lost)) } else { Ok(plan) }
    }

    /// The caller's word counts, then the route's.
    fn fidelity_of(&self, call: &Call, candidate: &Candidate) -> Fidelity {
        call.fidelity.or(candidate.fidelity).unwrap_or(self.fidelity)
    }

    /// Asks one candidate after the other until one answers: the only wait for the network.
    async fn attempt<'p>(
        &self,
        call: &Call,
        plan: &'p Plan,
        settlement: &Settlement,
    ) -> Result<Attempted<'p, Answer>, HooshError> {
        let attempts = attempt(plan, |candidate| async move {
            settlement.ask();
            let asked = lane::ask(call, candidate, self.fidelity_of(call, candidate)).await;
            if let Err(failure) = &asked {
                tracing::warn!(id = %call.id, %failure, "attempt failed");
            }
            asked
        });
        let attempted = match self.answer_time_max {
            None => attempts.await,
            Some(limit) => timeout(limit, attempts).await.map_err(|_| HooshError::Deadline(limit))?,
        };
        attempted.map_err(HooshError::Upstream)
    }

    /// Which models can be asked for: what each provider lists and the routes lead to.
    ///
    /// A listing is asked for again after a minute, after a failure within seconds.
    pub async fn models(&self) -> Vec<ModelInfo> {
        let mut models = self.listings.models().await;
        models.retain(|model| {
            let serving = self.router.candidates(&model.id);
            serving.iter().any(|candidate| candidate.provider.name() == model.provider)
        });
        models
    }

    /// Asks the providers on this machine for their models, so that the first who asks need not wait. Nobody else is
    /// contacted.
    pub async fn warm_up(&self) {
        self.listings.warm_up().await;
    }

    /// How each provider is that a route leads to. Asks them all at once, without generating anything.
    pub async fn health(&self) -> Vec<HealthReport> {
        let ask = async |provider: &Arc<dyn LlmProvider>| HealthReport {
            provider: Arc::clone(provider),
            health: provider.health_check().await,
        };
        join_all(self.enabled_providers().map(ask)).await
    }

    /// Which models the providers on this machine hold in memory. One that does not answer has none.
    pub async fn loaded_models(&self) -> Vec<ModelInfo> {
        let local = self.enabled_providers().filter(|provider| provider.is_local());
        let asked = local.map(|provider| provider.loaded_models());
        join_all(asked).await.into_iter().flatten().flatten().collect()
    }

    fn enabled_providers(&self) -> impl Iterator<Item = &Arc<dyn LlmProvider>> {
        self.router.providers().filter(|provider| self.router.is_enabled(provider.name()))
    }

    /// The router, with its providers and routes.
    pub fn router(&self) -> &Router {
        &self.router
    }
}

/// Hands the answer out: a whole one is settled now, a stream takes its settlement along.
fn settle(answer: Answer, mut head: ReplyHead, dialect: Dialect, mut settlement: Settlement) -> Reply {
    let body = match answer.body {
        AnswerBody::Full { body, usage } => {
            settlement.usage = usage;
            head.cost = settlement.cost();
            settlement.settle(Outcome::Answered);
            ReplyBody::Full(body)
        }
        AnswerBody::Stream(lane) => ReplyBody::Stream(ReplyStream::new(lane, dialect, settlement)),
    };
    Reply { head, body }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").field("guards", &self.guards).finish_non_exhaustive()
    }
}

// === impl GatewayBuilder ===

impl GatewayBuilder {
    /// Adds a check on every call; checks run in the order they were added.
    #[must_use]
    pub fn guard(mut self, guard: Arc<dyn Guard>) -> Self {
        self.guards.push(guard);
        self
    }

    /// Adds somebody who is told how each call ended.
    #[must_use]
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observers.push(observer);
        self
    }

    /// Longest time until an answer begins, over all attempts. Default: none, the providers' own times bound it.
    #[must_use]
    pub fn answer_time_max(mut self, limit: Option<Duration>) -> Self {
        self.answer_time_max = limit;
        self
    }

    /// What is done about parts of a request that a provider cannot be told, where neither the caller nor the route says.
    #[must_use]
    pub fn fidelity(mut self, fidelity: Fidelity) -> Self {
        self.fidelity = fidelity;
        self
    }

    /// The gateway.
    #[must_use]
    pub fn build(self) -> Gateway {
        Gateway {
            listings: Listings::new(self.router.providers().filter(|one| self.router.is_enabled(one.name()))),
            router: self.router,
            guards: self.guards,
            observers: self.observers.into(),
            answer_time_max: self.answer_time_max,
            fidelity: self.fidelity,
            responses: Arc::new(Responses::new()),
        }
    }
}

impl fmt::Debug for GatewayBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatewayBuilder").field("guards", &self.guards).finish_non_exhaustive()
    }
}
