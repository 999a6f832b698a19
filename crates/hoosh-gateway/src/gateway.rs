//! The way of a call. READ THIS FIRST.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use hoosh_budget::TokenBudget;
use hoosh_budget::rate::{Limits, RateLimits};
use hoosh_core::dialect::Dialect;
use hoosh_core::{
    ContextPolicy, ContextWish, FailureKind, Fidelity, FidelityNote, HooshError, LlmProvider, ModelInfo,
    NoRoute, NoRouteCause, ProviderHealth, UpstreamFailure, limits, rate_limit,
};
use hoosh_router::{
    Attempt, Attempted, Candidate, Missed, Moment, Object, Objection, Opening, PassedOver, Permit, Plan,
    Query, QueueLimits, RetryBudget, RetryPolicy, Router, Seed, Terms, Turn, Unanswered, near,
};
use http::HeaderMap;
use tokio::time::{Instant, timeout, timeout_at};

use crate::admission::{self, Admissions, Share};
use crate::asking::Asking;
use crate::audit::{Audit, TrailKind};
use crate::budget;
use crate::cache::{CacheUse, Embedding, Found, Looked, ResponseCache};
use crate::call::Call;
use crate::context::{self, Edited, Fit, Gap};
use crate::continuation::Continuation;
use crate::decisions::{Decision, Decisions};
use crate::events::{EventBus, Happened, Listener};
use crate::guard::Guard;
use crate::lane::{self, Answer, AnswerBody};
use crate::lines::{LineStatus, Lines};
use crate::listing::Listings;
use crate::needs;
use crate::pricing::Pricing;
use crate::reply::{Reply, ReplyBody, ReplyHead, ReplyStream};
use crate::responses::Responses;
use crate::retries::Retries;
use crate::settle::{Kept as Recorded, Observer, Outcome, Settlement, Tally};

/// A gateway: everything between a request's bytes and an answer's, but for HTTP.
pub struct Gateway {
    router: Router,
    guards: Vec<Arc<dyn Guard>>,
    /// The events among them.
    observers: Arc<[Arc<dyn Observer>]>,
    /// What calls cost.
    pricing: Arc<Pricing>,
    events: EventBus,
    listings: Listings,
    answer_time_max: Option<Duration>,
    fidelity: Fidelity,
    fallbacks: Fallbacks,
    /// What `previous_response_id` goes on from.
    responses: Arc<Responses>,
    retries: Arc<Retries>,
    lines: Lines,
    /// How fast callers may ask and providers be asked.
    admissions: Admissions,
    /// Answers that are given again; `None`: every call is asked.
    cache: Option<Arc<ResponseCache>>,
    decisions: Arc<Decisions>,
    /// What calls may spend; `None`: as much as they want.
    budget: Option<TokenBudget>,
    /// Where calls are written down that nothing holds to a budget; `None`: nowhere.
    usage_log: Option<TokenBudget>,
    /// Where calls are written down so that nobody can change it unseen; `None`: nowhere.
    audit: Option<Arc<Audit>>,
    /// Which configuration this is, in the decisions.
    configuration: Option<Arc<str>>,
    /// Whether it has more to say against a candidate than a query can, for some calls at least.
    objects: bool,
}

/// What providers would lose of a call, each with its notes.
type Lost = Vec<(String, Vec<FidelityNote>)>;

/// Models that are asked where another request would be the only help, by their names or aliases. Empty: the caller is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fallbacks {
    /// For a prompt that was too long for all who were asked.
    pub context_length: Vec<String>,
    /// For a request that the policy of who was asked does not allow.
    pub content_policy: Vec<String>,
}

/// An answer, and what its end needs.
struct Answered {
    answer: Answer,
    head: ReplyHead,
    /// `None` where nobody was asked.
    held: Option<Held>,
    /// Where it is a stream that others may have to go on with.
    by: Option<By>,
}

/// Who gives a stream, and by what.
struct By {
    decision: Arc<Decision>,
    candidate: Candidate,
    /// What was sent instead of the call's own.
    edited: Option<Arc<Edited>>,
    budget: Arc<RetryBudget>,
    tally: Arc<Tally>,
    purse: Option<budget::Purse>,
}

/// What is kept of an attempt until its answer ends.
pub(crate) struct Held {
    /// Tells the health of who answers how it ended.
    pub(crate) attempt: Attempt,
    /// The place among those that it answers at once.
    pub(crate) permit: Option<Permit>,
    /// Its part in the rate limits of who answers, until the settlement has it.
    pub(crate) share: Share,
}

/// What an attempt gave.
struct Given {
    answer: Answer,
    /// `None` if nobody was asked.
    held: Option<Held>,
    queued: Duration,
    /// What was sent instead of the call's own.
    edited: Option<Arc<Edited>>,
}

/// The requests that are sent to candidates instead of a call's own.
#[derive(Default)]
struct Edits<'p>(Mutex<Vec<(&'p Candidate, Arc<Edited>)>>);

/// Puts a [`Gateway`] together.
pub struct GatewayBuilder {
    router: Router,
    guards: Vec<Arc<dyn Guard>>,
    observers: Vec<Arc<dyn Observer>>,
    events: EventBus,
    answer_time_max: Option<Duration>,
    fidelity: Fidelity,
    fallbacks: Fallbacks,
    lines: Vec<(String, QueueLimits)>,
    limits: Limits,
    provider_limits: HashMap<String, Limits>,
    cache: Option<Arc<ResponseCache>>,
    decisions: Arc<Decisions>,
    budget: Option<TokenBudget>,
    usage_log: Option<TokenBudget>,
    audit: Option<Arc<Audit>>,
    configuration: Option<Arc<str>>,
    kept: Kept,
}

/// What a gateway has of the one before it.
#[derive(Default)]
struct Kept {
    responses: Option<Arc<Responses>>,
    retries: Arc<Retries>,
    listings: Option<Listings>,
    lines: Lines,
    rates: Arc<RateLimits>,
    /// Providers that are other servers under the same names.
    moved: BTreeSet<String>,
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
            events: EventBus::new(),
            answer_time_max: None,
            fidelity: Fidelity::default(),
            fallbacks: Fallbacks::default(),
            lines: Vec::new(),
            limits: Limits::NONE,
            provider_limits: HashMap::new(),
            cache: None,
            decisions: Arc::default(),
            budget: None,
            usage_log: None,
            audit: None,
            configuration: None,
            kept: Kept::default(),
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
        if let (Some(audit), None) = (&self.audit, &call.trail) {
            call.trail = Some(audit.open(&call.id, TrailKind::Call).await?);
        }
        if let Some(trail) = &call.trail {
            trail.asks(&call);
        }
        call.recall(&self.responses);
        let mut settlement = Settlement::open(&call, Arc::clone(&self.observers), Arc::clone(&self.pricing));
        settlement.booked_in(self.budget.as_ref().or(self.usage_log.as_ref()));
        match self.run(&call, &mut settlement).await {
            Ok(Answered { answer, head, held, by }) => {
                let dialect = call.dialect;
                let continuation = by.map(|by| self.continuation(call, by));
                let (reply, kept) = settle(answer, head, held, dialect, settlement, continuation);
                if let Some(kept) = kept {
                    kept.await?;
                }
                Ok(reply)
            }
            Err(error) => {
                settlement.settle(Outcome::Failed(error.clone()));
                Err(error)
            }
        }
    }

    async fn run(&self, call: &Call, settlement: &mut Settlement) -> Result<Answered, HooshError> {
        for guard in &self.guards {
            guard.check(call)?; // nothing is spent yet
        }
        admission::check(call)?;
        settlement.shares.let_in(self.admissions.admit(call)?);
        if let Some(found) = self.look(call, settlement).await? {
            let (answer, head) = again(found, call, settlement);
            return Ok(Answered { answer, head, held: None, by: None });
        }
        // Seen once: it looks through the whole body.
        let query = needs::query(call);
        let (decision, lost) = self.decide(call, &query, |object| self.router.survey(&query, object));
        // Where not even a route matches, nothing was decided.
        if !decision.plan.is_empty() || !decision.plan.passed_over.is_empty() {
            settlement.decided(&decision);
            self.decisions.keep(&decision);
        }
        let budget = self.retries.of(&call.caller);
        // What was edited for a candidate serves for its next try too.
        let edits = Edits::default();
        let mut asked = match decision.plan.is_empty() {
            true => Err(self.nobody(call, &query, &decision.plan, lost).await),
            false => {
                self.hold(call, &decision.plan, settlement).await?;
                let first = self.attempt(call, &decision, &budget, &edits, settlement).await;
                edits.book(call, &decision, settlement, first)
            }
        };
        let other = asked.as_ref().err().and_then(|error| self.fallback(call, &query, &decision, error));
        let edits = Edits::default();
        if let (Some(other), Err(error)) = (&other, &asked) {
            let before = match error {
                HooshError::Upstream(failures) => failures.clone(),
                _ => Vec::new(),
            };
            decision.fall_back(other);
            self.hold(call, &other.plan, settlement).await?;
            let second = self.attempt(call, other, &budget, &edits, settlement).await;
            asked = edits.book(call, other, settlement, second).map_err(|error| after(&before, error));
        }
        let Attempted { value: Given { answer, mut held, queued, edited }, candidate, .. } = asked?;
        if let Some(held) = &mut held {
            settlement.shares.answered_by(held.share.take());
        }
        let decided = other.as_ref().unwrap_or(&decision);
        decided.answers(candidate);
        settlement.answered_by(&candidate.provider, &candidate.model);
        settlement.note(answer.notes.iter().cloned());
        let tells_notes = self.fidelity_of(call, candidate) != Fidelity::Silent;
        settlement.tell_notes(tells_notes);
        let context = edited.as_ref().map(|edited| edited.receipt.clone());
        settlement.shortened(context.clone());
        let head = ReplyHead {
            request_id: call.id.clone(),
            provider: candidate.provider.name().to_owned(),
            model: candidate.model.as_ref().to_owned(),
            cache: settlement.cache_use(),
            age: None,
            attempts: settlement.attempts(),
            notes: if tells_notes { answer.notes.clone() } else { Vec::new() },
            context,
            limits: settlement
                .shares
                .told(call.dialect, rate_limit::for_client(call.dialect, answer.limits.clone())),
            cost: None,
            queued,
            budget_limit: call.shortened_to(),
        };
        let is_stream = matches!(answer.body, AnswerBody::Stream(_));
        let by = (is_stream && candidate.options.continues).then(|| By {
            decision: Arc::clone(decided),
            candidate: candidate.clone(),
            edited,
            budget: Arc::clone(&budget),
            tally: settlement.tally(),
            purse: settlement.purse(),
        });
        Ok(Answered { answer, head, held, by })
    }

    /// Holds what a call may take of its pools, once.
    async fn hold(&self, call: &Call, plan: &Plan, settlement: &mut Settlement) -> Result<(), HooshError> {
        match &self.budget {
            None => budget::without_pools(call),
            Some(pools) => match settlement.held() {
                Some(held) => budget::hold_more(held, call, plan).await,
                None => {
                    let held = budget::hold(pools, call, plan).await?;
                    settlement.holds(held);
                    Ok(())
                }
            },
        }
    }

    /// What it takes to go on with a stream of a candidate's.
    fn continuation(&self, call: Call, by: By) -> Box<Continuation> {
        let By { decision, candidate, edited, budget, tally, purse } = by;
        Box::new(Continuation {
            router: self.router.clone(),
            lines: self.lines.clone(),
            admissions: self.admissions.clone(),
            events: self.events.clone(),
            observers: Arc::clone(&self.observers),
            call,
            edited,
            decision,
            budget,
            tally,
            purse,
            wrote: vec![candidate],
        })
    }

    /// Looks for an answer that can be given again; waits for one that is being asked for.
    async fn look(&self, call: &Call, settlement: &mut Settlement) -> Result<Option<Found>, HooshError> {
        let Some(cache) = self.cache.as_ref().filter(|_| !call.is_for_cache) else { return Ok(None) };
        let embed = |text| self.embed(call, text);
        // So it is for a call whose client leaves, or whose time is over, while it waits.
        settlement.cache(CacheUse::Miss, None);
        let looked = match self.answer_time_max {
            None => cache.look(call, None, &embed).await,
            Some(limit) => {
                let deadline = Instant::now() + limit;
                let looked = timeout_at(deadline, cache.look(call, Some(deadline), &embed)).await;
                looked.map_err(|_| HooshError::Deadline(limit))?
            }
        };
        match looked {
            Looked::Bypass => settlement.cache(CacheUse::Bypass, None),
            Looked::Found(found) => return Ok(Some(found)),
            Looked::Ask(keeping) => settlement.cache(CacheUse::Miss, Some(keeping)),
        }
        Ok(None)
    }

    /// Has a text of a call embedded, as a call of its own by the same caller: checks see it and observers are told.
    ///
    /// The future has a name, because it is part of the one that it calls.
    fn embed<'a>(&'a self, call: &'a Call, text: String) -> BoxFuture<'a, Option<Embedding>> {
        Box::pin(async move {
            let settings = self.cache.as_ref()?.semantic()?;
            let asking = Call::embedding(call, &settings.model, text)?;
            let id = asking.id.clone();
            let reply = match self.call(asking).await {
                Ok(reply) => reply,
                Err(error) => {
                    tracing::warn!(id = %call.id, embedding = %id, %error, "no embedding to look for an answer by");
                    return None;
                }
            };
            let ReplyBody::Full(body) = &reply.body else { return None };
            let answer = Dialect::OpenAiEmbeddings.embedding_codec()?.decode_reply(body).ok()?;
            let maker = format!("{}/{}", reply.head.provider, reply.head.model);
            Some(Embedding { maker, numbers: answer.embeddings.into_iter().next()? })
        })
    }

    /// What is decided, nobody perhaps: with what would be lost, where the call allows no loss.
    fn decide(
        &self,
        call: &Call,
        query: &Query<'_>,
        plan: impl FnOnce(Option<Object<'_>>) -> Plan,
    ) -> (Arc<Decision>, Lost) {
        let mut lost = Lost::new();
        let mut object = |candidate: &Candidate| self.objection(call, candidate, &mut lost);
        // Most gateways and calls have no more to say than the query does.
        let is_restricted = call.grant().is_some_and(|grant| !grant.providers.is_empty());
        let says_more = is_restricted
            || self.objects
            || call.context.is_some()
            || call.fidelity == Some(Fidelity::Strict);
        let plan = if says_more { plan(Some(&mut object)) } else { plan(None) };
        tracing::debug!(id = %call.id, %plan, "plan");
        (Arc::new(Decision::new(call, query, plan, self.configuration.clone())), lost)
    }

    /// What stands against a candidate that only the whole call shows.
    fn objection(&self, call: &Call, candidate: &Candidate, lost: &mut Lost) -> Option<Objection> {
        if !admission::allows(call, candidate) {
            return Some(Objection::NotAllowed);
        }
        let said = context::is_said(call, candidate);
        let too_long = said.then(|| context::objection(call, candidate)).flatten();
        if too_long.is_some() || self.fidelity_of(call, candidate) != Fidelity::Strict {
            return too_long;
        }
        let notes = lane::losses(call, candidate);
        let what = notes.first()?.field.clone();
        lost.push((candidate.provider.name().to_owned(), notes));
        Some(Objection::Lossy(what))
    }

    /// Why nobody can be asked. Only then are the names looked up that there are.
    async fn nobody(&self, call: &Call, query: &Query<'_>, plan: &Plan, lost: Lost) -> HooshError {
        let model = &call.head.model;
        if let Some(refusal) = admission::none_allowed(call, &plan.passed_over) {
            return refusal.into();
        }
        // That it allows no loss is the caller's own word, and it may think better of it.
        if !lost.is_empty() {
            return HooshError::Lossy(lost);
        }
        match plan.clone().or_nobody(query, Vec::new) {
            Err(no_route) if no_route.cause != NoRouteCause::Model => no_route.into(),
            Err(no_route) => {
                let listed = self.models().await;
                let names = listed.iter().map(|model| model.id.as_str());
                let spelled = self.router.near(model);
                let near = near(model, names.chain(spelled.iter().map(String::as_str)));
                NoRoute { near, ..no_route }.into()
            }
            // Somebody can be.
            Ok(_) => HooshError::Upstream(Vec::new()),
        }
    }

    /// What would be decided for a call by what is known now, with this turn and chance. Nobody is asked and nothing is kept.
    ///
    /// # Errors
    ///
    /// Nobody could be asked: [`HooshError::NoRoute`], [`HooshError::Lossy`]. What a fallback would do is not told.
    pub fn explain(&self, call: &Call, turn: Turn, seed: Seed) -> Result<Arc<Decision>, HooshError> {
        let moment = Moment { now: Instant::now().into_std(), turn, seed };
        let (query, table) = (needs::query(call), self.router.table());
        let survey =
            |object: Option<Object<'_>>| table.survey(&query, self.router.strategy(), &moment, object);
        let (decision, lost) = self.decide(call, &query, survey);
        if !decision.plan.is_empty() {
            return Ok(decision);
        }
        if !lost.is_empty() {
            return Err(HooshError::Lossy(lost));
        }
        let near = || self.router.near(query.model);
        decision.plan.clone().or_nobody(&query, near).map_err(HooshError::from).map(|_| decision)
    }

    /// The pools that calls are held to, if there are any.
    pub fn budget(&self) -> Option<&TokenBudget> {
        self.budget.as_ref()
    }

    /// The decisions that are kept.
    pub fn decisions(&self) -> &Arc<Decisions> {
        &self.decisions
    }

    /// What is decided instead, where the failure is one that only another model can mend and there is one for that.
    fn fallback(
        &self,
        call: &Call,
        query: &Query<'_>,
        decision: &Decision,
        error: &HooshError,
    ) -> Option<Arc<Decision>> {
        let is_long = |passed: &PassedOver| matches!(passed.why, Objection::TooLong { .. });
        let failures = match error {
            HooshError::Upstream(failures) => failures.as_slice(),
            HooshError::NoRoute(_) | HooshError::Lossy(_) => &[],
            _ => return None,
        };
        // Not the last alone: whom another failed to answer is helped by this too.
        let failed_by = |kind| failures.iter().any(|failure| failure.kind == kind);
        let was_long = failed_by(FailureKind::ContextLength)
            || decision.plan.is_empty() && decision.plan.passed_over.iter().any(is_long);
        let names = match &self.fallbacks {
            Fallbacks { context_length, .. } if was_long && !context_length.is_empty() => context_length,
            Fallbacks { content_policy, .. } if failed_by(FailureKind::ContentPolicy) => content_policy,
            _ => return None,
        };
        // The call's own words on what may be lost and how long it may be hold here too.
        let survey = |mut object: Option<Object<'_>>| {
            let plans = names.iter().map(|model| {
                let object = object.as_mut().map(|object| &mut **object as Object<'_>);
                self.router.survey(&Query { model, ..*query }, object)
            });
            let whole = plans.reduce(|mut whole, next| {
                whole.candidates.extend(next.candidates);
                whole.resting.extend(next.resting);
                whole.passed_over.extend(next.passed_over);
                whole
            });
            whole.unwrap_or_else(|| decision.plan.clone())
        };
        let (other, _) = self.decide(call, query, survey);
        (!other.plan.is_empty()).then_some(other)
    }

    /// The caller's word counts, then the route's.
    fn fidelity_of(&self, call: &Call, candidate: &Candidate) -> Fidelity {
        call.fidelity.or(candidate.fidelity).unwrap_or(self.fidelity)
    }

    /// Asks one candidate after the other until one answers: the only wait for the network.
    async fn attempt<'p>(
        &'p self,
        call: &Call,
        decision: &'p Decision,
        budget: &'p RetryBudget,
        edits: &Edits<'p>,
        settlement: &Settlement,
    ) -> Result<Attempted<'p, Given>, Unanswered<'p>> {
        // Waiting for another's answer has taken its part.
        let left = self.answer_time_max.map(|limit| limit.saturating_sub(settlement.elapsed()));
        let deadline = left.map(|left| Instant::now() + left);
        let mut terms = Terms {
            budget: Some(budget),
            hedging: Some(self.router.hedging(call.head.stream)),
            deadline: deadline.map(Instant::into_std),
            ..self.router.terms()
        };
        if call.is_for_cache {
            // To ask without it is better than to wait for it.
            terms.policy = RetryPolicy::ONCE;
        }
        let asking = self.asking(call, decision, settlement);
        let purse = &settlement.purse();
        let ask = |opening: Opening<'p>, from: Option<&'p Candidate>| async move {
            let candidate = opening.candidate;
            if opening.is_hedge {
                hold_leg(purse.as_ref(), call, &decision.plan, candidate).await?;
            }
            // The same one once more is no failover.
            if let Some(from) = from.filter(|from| !std::ptr::eq(*from, candidate)) {
                let is_hedge = opening.is_hedge;
                self.events.tell(|| {
                    let (id, from, to) = (call.id.clone(), from.into(), candidate.into());
                    match is_hedge {
                        true => Happened::Hedged { id, from, to },
                        false => Happened::FailedOver { id, from, to },
                    }
                });
            }
            let fidelity = self.fidelity_of(call, candidate);
            if lane::answers_itself(call, candidate) {
                // Nobody is asked, so that nobody's health and line has to do with it.
                asking.begun(candidate);
                let answer = lane::ask(call, candidate, fidelity, None).await?;
                return Ok(Given { answer, held: None, queued: Duration::ZERO, edited: None });
            }
            let edited = if context::is_said(call, candidate) {
                // Before the line, where a place must not be kept for what is not ready. Boxed, since most calls need none of it.
                Box::pin(self.edited(call, candidate, fidelity, edits))
                    .await
                    .map_err(|failure| asking.not_asked(candidate, failure))?
            } else {
                None
            };
            let answer = lane::ask(call, candidate, fidelity, edited.as_deref());
            let (answer, held, queued) = asking.ask(&opening, deadline, answer).await?;
            Ok(Given { answer, held: Some(held), queued, edited })
        };
        let mut last: Option<&Candidate> = None;
        let attempts = self.router.attempt(&decision.plan, terms, |opening: Opening<'p>| {
            let from = last.replace(opening.candidate);
            ask(opening, from)
        });
        let (Some(deadline), Some(limit)) = (deadline, self.answer_time_max) else { return attempts.await };
        // It may also wait between two attempts.
        let asked = timeout_at(deadline, attempts).await;
        let asked = asked.unwrap_or_else(|_| Err(HooshError::Deadline(limit).into()));
        asked.map_err(|unanswered| match unanswered.error {
            HooshError::Upstream(_) if Instant::now() >= deadline => {
                Unanswered { error: HooshError::Deadline(limit), ..unanswered }
            }
            _ => unanswered,
        })
    }

    /// What it takes to ask candidates for a call.
    fn asking<'a>(
        &'a self,
        call: &'a Call,
        decision: &'a Decision,
        settlement: &'a Settlement,
    ) -> Asking<'a> {
        let (lines, events, observers) = (&self.lines, &self.events, &*self.observers);
        let admissions = &self.admissions;
        Asking { call, decision, lines, admissions, events, observers, asked: settlement.asked() }
    }

    /// The request that is sent to a candidate instead of the call's own, if that is too long for it. `None`: the call's own.
    async fn edited<'p>(
        &self,
        call: &Call,
        candidate: &'p Candidate,
        fidelity: Fidelity,
        edits: &Edits<'p>,
    ) -> Result<Option<Arc<Edited>>, UpstreamFailure> {
        if let Some(edited) = edits.of(candidate) {
            return Ok(Some(edited));
        }
        let mut fit =
            context::fit(call, candidate).await.map_err(|failure| candidate.provider.own(failure))?;
        if let Fit::Gap(mut edited, gap) = fit {
            fit = match self.summary(call, candidate, &gap).await {
                Ok(summary) => {
                    edited.fill(&gap, &summary, &candidate.model);
                    Fit::Edited(edited)
                }
                Err(why) => {
                    tracing::warn!(id = %call.id, %candidate, why, "no summary; the oldest turns go without one");
                    context::without_summary(call, candidate)
                        .await
                        .map_err(|failure| candidate.provider.own(failure))?
                }
            };
        }
        let Fit::Edited(edited) = fit else { return Ok(None) };
        tracing::debug!(id = %call.id, %candidate, receipt = %edited.receipt, "the prompt is shortened");
        // What goes through as it is loses nothing, but this goes another way.
        if fidelity == Fidelity::Strict
            && let Some(note) = lane::lost(candidate, &edited.request).first()
        {
            let message = format!("shortened, the request would lose `{}` there", note.field);
            return Err(candidate.provider.own(UpstreamFailure::new(FailureKind::Unsupported, message)));
        }
        let edited = Arc::new(*edited);
        edits.keep(candidate, &edited);
        Ok(Some(edited))
    }

    /// A summary of what was left out, by the model that the route names for it: a call of its own in the books, for the same
    /// caller and within the same bounds of privacy. Why there is none, in words.
    async fn summary(&self, call: &Call, candidate: &Candidate, gap: &Gap) -> Result<String, String> {
        let model = candidate.context.as_ref().and_then(|rule| rule.summarise_with.as_deref());
        let Some(model) = model else { return Err("no `summarise_with` names a model for it".to_owned()) };
        let thinks = self.router.candidates(model).iter().any(context::thinks);
        let wanted = context::wanted(gap, model, thinks);
        let mut asked = Call::chat(&wanted).map_err(|error| error.to_string())?;
        asked.caller = call.caller.clone();
        // What is not to be kept is not to be kept in a summary either.
        asked.cache = call.cache;
        asked.key = call.key.clone();
        (asked.local_only, asked.max_cost, asked.tier) = (call.local_only, call.max_cost, call.tier);
        asked.by_words_alone = true;
        (asked.user, asked.agent) = (call.user.clone(), call.agent.clone());
        // A summary for the summary would have no end.
        asked.context = Some(ContextWish { policy: ContextPolicy::Refuse, keep_last: None });
        tracing::debug!(id = %call.id, summary = %asked.id, model, "asks for a summary");
        // Boxed, since it is the way of a call inside that of another.
        let reply = Box::pin(self.call(asked));
        let reply = match timeout(limits::SUMMARY_TIME_MAX, reply).await {
            Ok(reply) => reply.map_err(|error| error.to_string())?,
            Err(_) => {
                return Err(format!("`{model}` took more than {} s", limits::SUMMARY_TIME_MAX.as_secs()));
            }
        };
        match reply.body {
            ReplyBody::Full(body) => {
                context::text_of(&body).ok_or_else(|| format!("`{model}` wrote nothing"))
            }
            ReplyBody::Stream(_) => Err(format!("`{model}` answered with a stream")),
        }
    }

    /// Listens to what happens from now on. A listener that is slow misses events and is told how many; it slows nobody
    /// (see [`Listener`]).
    ///
    /// ```
    /// # use futures_util::StreamExt;
    /// # async fn doc(gateway: hoosh_gateway::Gateway) {
    /// let mut events = gateway.events();
    /// while let Some(event) = events.next().await {
    ///     println!("{}: {:?}", event.sequence, event.happened);
    /// }
    /// # }
    /// ```
    pub fn events(&self) -> Listener {
        self.events.listen()
    }

    /// What carries the events, to be handed on to the gateway that takes this one's place.
    pub fn event_bus(&self) -> &EventBus {
        &self.events
    }

    /// How the lines before providers and their models are that let only so many in.
    pub fn queues(&self) -> Vec<LineStatus> {
        self.lines.status()
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

    /// The cache, if there is one.
    pub fn cache(&self) -> Option<&Arc<ResponseCache>> {
        self.cache.as_ref()
    }

    /// Where calls are written down, if they are.
    pub fn audit(&self) -> Option<&Arc<Audit>> {
        self.audit.as_ref()
    }

    /// The router, with its providers and routes.
    pub fn router(&self) -> &Router {
        &self.router
    }
}

/// Holds what a prompt takes that is sent to one more beside another.
///
/// # Errors
///
/// [`Missed::Declined`] where its pools have not so much left: what is only faster is not worth more than there is.
async fn hold_leg(
    purse: Option<&budget::Purse>,
    call: &Call,
    plan: &Plan,
    candidate: &Candidate,
) -> Result<(), Missed> {
    let Some(purse) = purse else { return Ok(()) };
    let prompt = call.prompt_tokens_for(&candidate.model).unwrap_or(call.body.len() as u64);
    let more = budget::leg(plan, candidate, call.id.unix_seconds(), prompt);
    purse.hold(more).await.map_err(|refusal| {
        tracing::debug!(id = %call.id, %candidate, %refusal, "no second one is asked");
        Missed::Declined
    })
}

/// The failures of both plans, in their order.
fn after(before: &[UpstreamFailure], error: HooshError) -> HooshError {
    match error {
        HooshError::Upstream(failures) => HooshError::Upstream([before, &failures].concat()),
        HooshError::Resting { .. } if !before.is_empty() => HooshError::Upstream(before.to_vec()),
        error => error,
    }
}

/// A kept answer as the answer to this call.
fn again(found: Found, call: &Call, settlement: &mut Settlement) -> (Answer, ReplyHead) {
    settlement.answered_again(&found);
    let entry = &found.entry;
    let head = ReplyHead {
        request_id: call.id.clone(),
        provider: entry.provider.clone(),
        model: entry.model.clone(),
        cache: found.cache_use(),
        age: Some(found.age),
        attempts: 0,
        notes: if entry.tells_notes { entry.notes.clone() } else { Vec::new() },
        context: entry.context.clone(),
        limits: settlement.shares.told(call.dialect, HeaderMap::new()),
        cost: None,
        queued: Duration::ZERO,
        budget_limit: None,
    };
    (Answer { body: found.body, notes: Vec::new(), limits: HeaderMap::new() }, head)
}

/// Hands the answer out: a whole one is settled now, and may have to wait until that is kept; a stream takes its settlement along.
fn settle(
    answer: Answer,
    mut head: ReplyHead,
    mut held: Option<Held>,
    dialect: Dialect,
    mut settlement: Settlement,
    continuation: Option<Box<Continuation>>,
) -> (Reply, Option<Recorded>) {
    let mut kept = None;
    let body = match answer.body {
        AnswerBody::Full { body, usage } => {
            settlement.give(&body);
            settlement.usage = usage;
            head.cost = settlement.cost();
            settlement.settle(Outcome::Answered);
            kept = settlement.kept();
            if let Some(held) = held {
                held.end(None);
            }
            ReplyBody::Full(body)
        }
        AnswerBody::Stream(lane) => {
            if let Some(held) = &mut held {
                held.attempt.first_output(Instant::now().into_std());
            }
            ReplyBody::Stream(ReplyStream::new(lane, dialect, settlement, held, continuation))
        }
    };
    (Reply { head, body }, kept)
}

// === impl Edits ===

impl<'p> Edits<'p> {
    /// Books who was let go of, whether or not there is an answer.
    fn book(
        &self,
        call: &Call,
        decision: &Decision,
        settlement: &mut Settlement,
        asked: Result<Attempted<'p, Given>, Unanswered<'p>>,
    ) -> Result<Attempted<'p, Given>, HooshError> {
        let let_go = match &asked {
            Ok(attempted) => attempted.let_go,
            Err(unanswered) => unanswered.let_go.as_deref().copied(),
        };
        if let Some(let_go) = let_go {
            decision.let_go(let_go.candidate);
            settlement.let_go(call, &let_go, self.of(let_go.candidate).as_deref());
        }
        Ok(asked?)
    }

    fn of(&self, candidate: &Candidate) -> Option<Arc<Edited>> {
        let edits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        edits.iter().find(|(one, _)| std::ptr::eq(*one, candidate)).map(|(_, edited)| Arc::clone(edited))
    }

    fn keep(&self, candidate: &'p Candidate, edited: &Arc<Edited>) {
        let mut edits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        edits.push((candidate, Arc::clone(edited)));
    }
}

// === impl Held ===

impl Held {
    /// The answer has ended: well, or broken.
    pub(crate) fn end(self, failure: Option<&UpstreamFailure>) {
        let now = Instant::now().into_std();
        match failure {
            None => self.attempt.succeed(now),
            Some(failure) => self.attempt.fail(failure, now),
        }
        self.permit.into_iter().for_each(|permit| permit.finish(now));
    }
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

    /// Tells what happens by this bus rather than one of its own: after a new configuration, so that listeners stay.
    #[must_use]
    pub fn events(mut self, bus: EventBus) -> Self {
        self.events = bus;
        self
    }

    /// Longest time until an answer begins, over all attempts. Default: none, the providers' own times bound it.
    #[must_use]
    pub fn answer_time_max(mut self, limit: Option<Duration>) -> Self {
        self.answer_time_max = limit;
        self
    }

    /// Whom to ask when the model that was asked for is too short, or does not allow it.
    #[must_use]
    pub fn fallbacks(mut self, fallbacks: Fallbacks) -> Self {
        self.fallbacks = fallbacks;
        self
    }

    /// Lets only so many calls at once to the provider of this name, and to each of its models, and the others wait in line.
    #[must_use]
    pub fn queue(mut self, provider: impl Into<String>, limits: QueueLimits) -> Self {
        self.lines.push((provider.into(), limits));
        self
    }

    /// How fast each caller may ask, where its own [key](Call::key) says nothing else. Default: as fast as it likes.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// How fast the provider of this name is asked, by all callers together. A call beyond that goes to the next one.
    #[must_use]
    pub fn provider_limits(mut self, provider: impl Into<String>, limits: Limits) -> Self {
        if !limits.are_none() {
            self.provider_limits.insert(provider.into(), limits);
        }
        self
    }

    /// What is done about parts of a request that a provider cannot be told, where neither the caller nor the route says.
    #[must_use]
    pub fn fidelity(mut self, fidelity: Fidelity) -> Self {
        self.fidelity = fidelity;
        self
    }

    /// Goes on from another gateway, for a new configuration: the conversations it keeps, what callers have left for further
    /// tries and of their limits, the listings of providers that are the same objects, and the lines before providers of the same name, but for
    /// those that are other servers now (`moved`). Its calls go on. Building this one gives those lines their new limits.
    ///
    /// The health of the providers is the [`Router`]'s to go on with, and the cache is given by [`cache`](Self::cache).
    #[must_use]
    pub fn after(mut self, before: &Gateway, moved: BTreeSet<String>) -> Self {
        self.kept = Kept {
            responses: Some(Arc::clone(&before.responses)),
            retries: Arc::clone(&before.retries),
            listings: Some(before.listings.clone()),
            lines: before.lines.clone(),
            rates: Arc::clone(before.admissions.used()),
            moved,
        };
        self
    }

    /// Keeps answers and gives them again. Default: every call is asked.
    #[must_use]
    pub fn cache(mut self, cache: Arc<ResponseCache>) -> Self {
        self.cache = Some(cache);
        self
    }

    /// Holds calls to the pools of a budget. Default: they may spend as much as they want.
    #[must_use]
    pub fn budget(mut self, budget: TokenBudget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Writes calls down in the usage log of a ledger, without holding them to anything; a [`budget`](Self::budget) does both, and
    /// goes before it. Default: nothing is written down.
    #[must_use]
    pub fn usage_log(mut self, ledger: TokenBudget) -> Self {
        self.usage_log = Some(ledger);
        self
    }

    /// Writes each call down in an audit log: one record, also of calls that fail, or whose client leaves. Whoever takes requests in opens
    /// it ([`Call::trail`]), so that those which never become a call have one too. Default: nothing is written down.
    #[must_use]
    pub fn audit(mut self, audit: Arc<Audit>) -> Self {
        self.audit = Some(audit);
        self
    }

    /// Where decisions are kept. Default: a place of its own.
    #[must_use]
    pub fn decisions(mut self, decisions: Arc<Decisions>) -> Self {
        self.decisions = decisions;
        self
    }

    /// Which configuration this is, as decisions say it: its digest, for instance.
    #[must_use]
    pub fn configuration(mut self, name: impl Into<Arc<str>>) -> Self {
        self.configuration = Some(name.into());
        self
    }

    /// The gateway.
    #[must_use]
    pub fn build(mut self) -> Gateway {
        self.events.watch(self.router.health());
        // Last, so that who hears that a call is over finds it in the others' counts.
        self.observers.push(self.events.observer());
        let Kept { responses, retries, listings, lines, rates, moved } = self.kept;
        let router = self.router;
        let enabled = router.providers().filter(|one| router.is_enabled(one.name()));
        let stays = |name: &str| router.provider(name).is_some() && !moved.contains(name);
        Gateway {
            listings: Listings::new(enabled, listings.as_ref()),
            lines: Lines::after(&lines, self.lines, stays),
            admissions: Admissions::new(rates, self.limits, self.provider_limits),
            guards: self.guards,
            observers: self.observers.into(),
            pricing: Arc::new(Pricing::of(&router)),
            events: self.events,
            answer_time_max: self.answer_time_max,
            fidelity: self.fidelity,
            fallbacks: self.fallbacks,
            responses: responses.unwrap_or_else(|| Arc::new(Responses::new())),
            retries,
            cache: self.cache,
            decisions: self.decisions,
            budget: self.budget,
            usage_log: self.usage_log,
            audit: self.audit,
            configuration: self.configuration,
            objects: self.fidelity == Fidelity::Strict || router.table().objects(),
            router,
        }
    }
}

impl fmt::Debug for GatewayBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatewayBuilder").field("guards", &self.guards).finish_non_exhaustive()
    }
}
