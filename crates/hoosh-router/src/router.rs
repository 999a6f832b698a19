//! Routes, turns and failover put together: a request in, an answer out.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hoosh_core::{
    EmbeddingRequest, EmbeddingResponse, EventStream, HooshError, InferenceRequest, InferenceResponse,
    LlmProvider, NoRoute, UpstreamFailure, limits,
};

use crate::attempt::{Attempted, attempt};
use crate::hold::until_output;
use crate::plan::{Candidate, Plan, Query};
use crate::strategy::{Strategy, Turn};
use crate::table::{BuildError, Route, RouteTable};

/// Asks the right provider, and the next one if that fails.
///
/// A clone is cheap and shares everything, the turns of [`Strategy::RoundRobin`] included.
#[derive(Debug, Clone)]
pub struct Router {
    table: Arc<RouteTable>,
    strategy: Strategy,
    turns: Arc<Turns>,
}

/// What a [`Router`] is made from, see [`Router::builder`].
#[derive(Debug, Default)]
#[must_use]
pub struct RouterBuilder {
    providers: Vec<Arc<dyn LlmProvider>>,
    routes: Vec<Route>,
    aliases: Vec<(String, Vec<String>)>,
    strategy: Strategy,
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
}

#[derive(Debug)]
struct Turns([AtomicU64; limits::TURN_COUNTERS]);

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
        mut self,
        name: impl Into<String>,
        targets: impl IntoIterator<Item = T>,
    ) -> Self {
        self.aliases.push((name.into(), targets.into_iter().map(Into::into).collect()));
        self
    }

    /// Sets how candidates of equal priority are ordered. Default: [`Strategy::Priority`].
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// Reads it all.
    ///
    /// # Errors
    ///
    /// Everything that is wrong: names that are empty, taken or unusable, routes to providers that are not there,
    /// patterns that are none, aliases that go in a circle, too far or nowhere.
    pub fn build(self) -> Result<Router, BuildError> {
        let table = RouteTable::new(self.providers, self.routes, self.aliases)?;
        Ok(Router { table: Arc::new(table), strategy: self.strategy, turns: Arc::default() })
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
        let turn = match self.strategy {
            Strategy::RoundRobin => self.turns.take(query.model),
            Strategy::Priority => Turn::default(),
        };
        self.table.plan(query, self.strategy, turn)
    }

    /// Who could be asked for a model, in the order of the configuration's priorities, without taking anybody's turn.
    pub fn candidates(&self, model: &str) -> Vec<Candidate> {
        let query = Query { model, max_tokens: None };
        self.table
            .plan(&query, self.strategy, Turn::default())
            .map(|plan| plan.candidates)
            .unwrap_or_default()
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
        let answer = attempt(&plan, |candidate| candidate.provider.infer(&candidate.model, request));
        routed(answer.await)
    }

    /// Gets a streamed answer that has begun: its first output is there.
    ///
    /// Until then another provider takes over in silence when one fails, afterwards a failure is the stream's last item
    /// (see [`until_output`]).
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
        let answer = attempt(&plan, async |candidate: &Candidate| {
            until_output(candidate.provider.infer_stream(&candidate.model, request).await?).await
        });
        routed(answer.await)
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
        let answer = attempt(&plan, |candidate| candidate.provider.embed(&candidate.model, request));
        routed(answer.await)
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

    /// How it orders candidates of equal priority.
    pub fn strategy(&self) -> Strategy {
        self.strategy
    }
}

fn routed<T>(answer: Result<Attempted<'_, T>, Vec<UpstreamFailure>>) -> Result<Routed<T>, HooshError> {
    let Attempted { value, candidate, failures } = answer.map_err(HooshError::Upstream)?;
    Ok(Routed { value, candidate: candidate.clone(), failures })
}

// === impl Routed ===

impl<T> Routed<T> {
    /// How many were asked, the one who answered included.
    pub fn attempts(&self) -> usize {
        self.failures.len() + 1
    }
}

// === impl Turns ===

impl Turns {
    fn take(&self, model: &str) -> Turn {
        let mut hasher = DefaultHasher::new();
        model.hash(&mut hasher);
        let counter = &self.0[hasher.finish() as usize % limits::TURN_COUNTERS];
        Turn(counter.fetch_add(1, Ordering::Relaxed))
    }
}

impl Default for Turns {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

#[cfg(test)]
mod tests;
