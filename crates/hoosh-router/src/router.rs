//! Routes, turns and failover put together: a request in, an answer out.

use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use futures_util::Stream;
use hoosh_core::{
    EmbeddingRequest, EmbeddingResponse, EventStream, HooshError, InferenceRequest, InferenceResponse,
    LlmProvider, NoRoute, OnUnpriced, PriceTable, StreamEvent, UpstreamFailure, limits,
};

use crate::attempt::{Attempted, Missed, Opening, Unanswered, attempt, now};
use crate::filter::Pricing;
use crate::health::{Attempt, Health};
use crate::hedge::{Hedging, LetGo};
use crate::hold::until_proven;
use crate::plan::{Candidate, Object, Plan, Query};
use crate::random::Seed;
use crate::retry::{RetryBudget, RetryPolicy, Terms};
use crate::strategy::{Moment, Strategy, Turn};
use crate::table::{BuildError, Group, Member, Route, RouteTable};

/// Asks the right provider, and the next one if that fails.
///
/// A clone is cheap and shares everything, the turns of [`Strategy::RoundRobin`] included.
#[derive(Debug, Clone)]
pub struct Router {
    table: Arc<RouteTable>,
    strategy: Strategy,
    retry: RetryPolicy,
    turns: Arc<Turns>,
    health: Arc<Health>,
    /// What is left for asking a second one beside one that is slow.
    hedges: Arc<RetryBudget>,
}

/// What a [`Router`] is made from, see [`Router::builder`].
#[derive(Debug, Default)]
#[must_use]
pub struct RouterBuilder {
    providers: Vec<Arc<dyn LlmProvider>>,
    routes: Vec<Route>,
    aliases: Vec<(String, Group)>,
    strategy: Strategy,
    strategies: Vec<(String, Strategy)>,
    retry: RetryPolicy,
    health: Option<Arc<Health>>,
    hedge_percent: Option<u32>,
    pricing: Pricing,
    hedges_left: Option<Arc<RetryBudget>>,
}

/// An answer, and who gave it.
#[derive(Debug, Clone)]
pub struct Routed<T> {
    /// The answer.
    pub value: T,
    /// Who gave it, for which model, and why it was asked.
    pub candidate: Candidate,
    /// What failed before, in order.
    pub failures: Vec<UpstreamFailure>,
    /// Who was asked beside, was slower and let go of; it may have cost something there.
    pub let_go: Option<Candidate>,
}

#[derive(Debug)]
struct Turns {
    of_names: [AtomicU64; limits::TURN_COUNTERS],
    /// Plans so far, which chance goes on from.
    plans: AtomicU64,
    /// Where chance begins in this process.
    seed: Seed,
}

// === impl RouterBuilder ===

impl RouterBuilder {
    /// Adds a provider. Without any [`Route`] to it, it is asked for every model at the default priority, behind the
    /// routes that are written.
    pub fn provider(mut self, provider: Arc<dyn LlmProvider>) -> Self {
        self.providers.push(provider);
        self
    }

    /// Adds a route.
    pub fn route(mut self, route: Route) -> Self {
        self.routes.push(route);
        self
    }

    /// Adds an alias: a name that stands for others, the first choice first, each a model, another alias, or
    /// `provider/model`.
    pub fn alias<T: Into<String>>(
        self,
        name: impl Into<String>,
        targets: impl IntoIterator<Item = T>,
    ) -> Self {
        let members = targets.into_iter().map(|model| Member { model: model.into(), weight: 1 }).collect();
        self.group(name, Group { members, ..Group::default() })
    }

    /// Adds an alias with a way of its own to choose.
    pub fn group(mut self, name: impl Into<String>, group: Group) -> Self {
        self.aliases.push((name.into(), group));
        self
    }

    /// Sets when and how often a candidate that failed is asked again.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// Goes on from what is known of the endpoints: after a new configuration, or with a policy and watchers of one's own.
    pub fn health(mut self, health: Arc<Health>) -> Self {
        self.health = Some(health);
        self
    }

    /// Sets how many of a hundred calls may ask a second one beside one that is slow, where the route
    /// [allows it](crate::RouteOptions::hedges). Default: 5, about as many as are slower than usual.
    pub fn hedge_percent(mut self, percent: u32) -> Self {
        self.hedge_percent = Some(percent);
        self
    }

    /// Goes on from what another one has left for that, which goes on with it: after a new configuration. Default: enough for
    /// a first burst.
    pub fn hedges_after(mut self, before: &Router) -> Self {
        self.hedges_left = Some(Arc::clone(&before.hedges));
        self
    }

    /// Sets how candidates of equal priority are ordered. Default: [`Strategy::Priority`].
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// Sets another one for the models that match a pattern, which is as in [`Route::models`].
    ///
    /// The most specific pattern counts: a whole name, then the longer prefix, then the longer of other patterns, then `*`. An
    /// alias goes by the pattern for its own name, without one by that for the first model it leads to; a [`Group`] with a
    /// strategy keeps it.
    pub fn strategy_for(mut self, pattern: impl Into<String>, strategy: Strategy) -> Self {
        self.strategies.push((pattern.into(), strategy));
        self
    }

    /// Sets what calls cost. Default: the built-in catalogue's prices.
    pub fn prices(mut self, prices: Arc<PriceTable>) -> Self {
        self.pricing.table = prices;
        self
    }

    /// Sets what is done about providers at which it is not known what a call costs. The router only knows whether they are
    /// asked. Default: [`OnUnpriced::Warn`], they are.
    pub fn on_unpriced(mut self, policy: OnUnpriced) -> Self {
        self.pricing.on_unpriced = policy;
        self
    }

    /// Reads it all.
    ///
    /// # Errors
    ///
    /// Everything that is wrong: names that are empty, taken or unusable, routes to providers that are not there,
    /// patterns that are none or have two strategies, aliases that go in a circle, too far or nowhere.
    pub fn build(self) -> Result<Router, BuildError> {
        let health = self.health.unwrap_or_default();
        let table = RouteTable::new(self.providers, self.routes, self.aliases, self.strategies, &health)?;
        let table = table.priced(self.pricing);
        let (strategy, retry) = (self.strategy, self.retry);
        let percent = self.hedge_percent.unwrap_or(limits::HEDGE_PERCENT).clamp(1, 100);
        let hedges = match self.hedges_left {
            None => RetryBudget::percent(percent),
            Some(before) => RetryBudget::percent_after(&before, percent),
        };
        let hedges = Arc::new(hedges);
        Ok(Router { table: Arc::new(table), strategy, retry, turns: Arc::default(), health, hedges })
    }
}

// === impl Router ===

impl Router {
    /// Begins a new one.
    pub fn builder() -> RouterBuilder {
        RouterBuilder::default()
    }

    /// Who is asked now, in which order, and why. Takes a turn; [`table`](Self::table) plans without.
    ///
    /// # Errors
    ///
    /// Nobody can be asked, see [`RouteTable::plan`].
    pub fn plan(&self, query: &Query<'_>) -> Result<Plan, NoRoute> {
        self.table.plan(query, self.strategy, &self.turns.take(query.model))
    }

    /// The same where more stands against somebody than a query can say, and where nobody is no error: see
    /// [`RouteTable::survey`].
    pub fn survey(&self, query: &Query<'_>, object: Option<Object<'_>>) -> Plan {
        self.table.survey(query, self.strategy, &self.turns.take(query.model), object)
    }

    /// The names in the configuration that look like one, the nearest first.
    pub fn near(&self, model: &str) -> Vec<String> {
        self.table.near(model)
    }

    /// Who could be asked for a model, those who are let alone for now among them, in the order of the configuration's
    /// priorities, without taking anybody's turn.
    pub fn candidates(&self, model: &str) -> Vec<Candidate> {
        let query = Query { model, ..Query::default() };
        let moment = Moment { now: now(), turn: Turn::default(), seed: Seed::default() };
        let plan = self.table.plan_all(&query, &moment);
        plan.candidates.into_iter().chain(plan.resting.into_iter().map(|resting| resting.candidate)).collect()
    }

    /// Walks along a plan: calls one candidate after the other until one succeeds, and waits between where that can help.
    ///
    /// `call` gets an [`Opening`] and begins the attempt when all is ready for it. What it hears goes into the [`Health`] by
    /// the [`Attempt`]: its failure ([`Attempt::judge`]), and how an answer ends. A streamed answer has succeeded only when
    /// it shows output: end in [`until_output`](crate::until_output).
    ///
    /// # Errors
    ///
    /// [`HooshError::Upstream`] with every failure, or [`HooshError::Resting`]; and who was being asked beside the last.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the call at the provider being asked; no other is asked.
    pub async fn attempt<'p, T, F, Fut>(
        &self,
        plan: &'p Plan,
        terms: Terms<'p>,
        call: F,
    ) -> Result<Attempted<'p, T>, Unanswered<'p>>
    where
        F: FnMut(Opening<'p>) -> Fut,
        Fut: Future<Output = Result<T, Missed>>,
    {
        attempt(plan, &self.health, terms, call).await
    }

    /// Begins an attempt at a candidate, for whoever walks a plan with a [`Failover`](crate::Failover) of its own.
    ///
    /// # Errors
    ///
    /// Until when it is let alone, which others have found out since the plan was made.
    pub fn begin(&self, candidate: &Candidate, seed: Seed, now: Instant) -> Result<Attempt, Instant> {
        self.health.begin(candidate, seed, now, false)
    }

    /// The terms that are configured, with chance of its own for each call.
    pub fn terms(&self) -> Terms<'_> {
        Terms { policy: self.retry, seed: self.turns.chance(), ..Terms::default() }
    }

    /// On which terms a second one is asked beside one that is slow, for an answer that streams or comes whole.
    pub fn hedging(&self, streams: bool) -> Hedging<'_> {
        Hedging { budget: &self.hedges, streams }
    }

    fn terms_for_whole(&self) -> Terms<'_> {
        Terms { hedging: Some(self.hedging(false)), ..self.terms() }
    }

    /// How every endpoint is.
    pub fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// Whether any route to the provider of that name is switched on.
    pub fn is_enabled(&self, provider: &str) -> bool {
        self.table.is_enabled(provider)
    }

    /// Gets a whole answer.
    ///
    /// # Errors
    ///
    /// [`HooshError::NoRoute`] if nobody can be asked, [`HooshError::Upstream`] with every failure if nobody answered.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the call at the provider being asked; no other is asked. The call may have cost
    /// something there.
    pub async fn infer(&self, request: &InferenceRequest) -> Result<Routed<InferenceResponse>, HooshError> {
        let plan = self.plan(&request.into())?;
        let answer = self.attempt(&plan, self.terms_for_whole(), async |opening: Opening<'_>| {
            let attempt = opening.begin()?;
            let asked = opening.candidate.provider.infer(&opening.candidate.model, request).await;
            attempt.judge(asked, now())
        });
        Ok(answered(answer.await?))
    }

    /// Gets a streamed answer that has begun: its first output is there.
    ///
    /// Until then another provider takes over in silence when one fails, afterwards a failure is the stream's last item
    /// (see [`until_output`](crate::until_output)).
    ///
    /// # Errors
    ///
    /// As for [`infer`](Self::infer), for what happens before the first output.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future or the stream cancels the call at the provider; no other is asked. The call may have cost
    /// something there.
    pub async fn infer_stream(&self, request: &InferenceRequest) -> Result<Routed<EventStream>, HooshError> {
        let plan = self.plan(&request.into())?;
        let call = async |opening: Opening<'_>| {
            let (attempt, candidate) = (opening.begin()?, opening.candidate);
            let asked = async {
                let stream = candidate.provider.infer_stream(&candidate.model, request).await?;
                until_proven(stream, candidate.options.stream_window).await
            };
            attempt.judge(asked.await, now())
        };
        let terms = Terms { hedging: Some(self.hedging(true)), ..self.terms() };
        let Attempted { value: (value, mut attempt), candidate, failures, let_go } =
            self.attempt(&plan, terms, call).await?;
        attempt.first_output(now());
        let value =
            EventStream { events: Box::pin(Told { events: value.events, attempt: Some(attempt) }), ..value };
        Ok(routed(value, candidate, failures, let_go))
    }

    /// Gets embeddings.
    ///
    /// # Errors
    ///
    /// As for [`infer`](Self::infer).
    ///
    /// # Cancel safety
    ///
    /// As for [`infer`](Self::infer).
    pub async fn embed(&self, request: &EmbeddingRequest) -> Result<Routed<EmbeddingResponse>, HooshError> {
        let plan = self.plan(&request.into())?;
        let answer = self.attempt(&plan, self.terms_for_whole(), async |opening: Opening<'_>| {
            let attempt = opening.begin()?;
            let asked = opening.candidate.provider.embed(&opening.candidate.model, request).await;
            attempt.judge(asked, now())
        });
        Ok(answered(answer.await?))
    }

    /// The provider of that name.
    pub fn provider(&self, name: &str) -> Option<&Arc<dyn LlmProvider>> {
        self.table.provider(name)
    }

    /// All providers, in the order they were added.
    pub fn providers(&self) -> impl ExactSizeIterator<Item = &Arc<dyn LlmProvider>> {
        self.table.providers()
    }

    /// What it plans from.
    pub fn table(&self) -> &RouteTable {
        &self.table
    }

    /// How it orders candidates of equal priority, where neither a group nor a pattern has another strategy.
    pub fn strategy(&self) -> Strategy {
        self.strategy
    }
}

/// A whole answer has ended when it is there.
fn answered<T>(answer: Attempted<'_, (T, Attempt)>) -> Routed<T> {
    let Attempted { value: (value, attempt), candidate, failures, let_go } = answer;
    attempt.succeed(now());
    routed(value, candidate, failures, let_go)
}

fn routed<T>(
    value: T,
    candidate: &Candidate,
    failures: Vec<UpstreamFailure>,
    let_go: Option<LetGo<'_>>,
) -> Routed<T> {
    let let_go = let_go.map(|let_go| let_go.candidate.clone());
    Routed { value, candidate: candidate.clone(), failures, let_go }
}

type Events = Pin<Box<dyn Stream<Item = Result<StreamEvent, UpstreamFailure>> + Send>>;

/// A stream whose end is told to the health of who gave it.
struct Told {
    events: Events,
    attempt: Option<Attempt>,
}

impl Stream for Told {
    type Item = Result<StreamEvent, UpstreamFailure>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.events.as_mut().poll_next(context);
        match (&polled, self.attempt.is_some()) {
            (Poll::Ready(None), true) => {
                self.attempt.take().into_iter().for_each(|attempt| attempt.succeed(now()));
            }
            (Poll::Ready(Some(Err(failure))), true) => {
                self.attempt.take().into_iter().for_each(|attempt| attempt.fail(failure, now()));
            }
            _ => {}
        }
        polled
    }
}

// === impl Routed ===

impl<T> Routed<T> {
    /// How many were asked, the one who answered included.
    pub fn attempts(&self) -> usize {
        self.failures.len() + usize::from(self.let_go.is_some()) + 1
    }
}

// === impl Turns ===

impl Turns {
    fn take(&self, model: &str) -> Moment {
        let Seed(of_name) = Seed::of(model);
        let counter = &self.of_names[of_name as usize % limits::TURN_COUNTERS];
        Moment { now: now(), turn: Turn(counter.fetch_add(1, Ordering::Relaxed)), seed: self.chance() }
    }

    fn chance(&self) -> Seed {
        self.seed.with(self.plans.fetch_add(1, Ordering::Relaxed))
    }
}

impl Default for Turns {
    fn default() -> Self {
        // The standard library's way to a number that is another in each process.
        let seed = Seed(RandomState::new().hash_one(0));
        Self { of_names: std::array::from_fn(|_| AtomicU64::new(0)), plans: AtomicU64::new(0), seed }
    }
}

#[cfg(test)]
mod tests;
