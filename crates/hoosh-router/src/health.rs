//! How every endpoint is: what attempts told of each model of each provider, and whether those on this machine are there.
//!
//! Kept by name, so that it outlives a table: a new configuration plans with what is known already. What follows from it
//! for a single call is the [`Strategy`](crate::Strategy)'s and the [`Plan`](crate::Plan)'s.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use hoosh_core::{UpstreamFailure, limits};

use crate::attempt::Missed;
use crate::breaker::{Breaker, BreakerPolicy, Heard, RestReason, Verdict};
use crate::ewma::PeakEwma;
use crate::hedge::Recent;
use crate::plan::{Candidate, Seen};
use crate::random::Seed;

/// How every endpoint is.
pub struct Health {
    policy: BreakerPolicy,
    hosts: Mutex<HashMap<Arc<str>, Arc<Host>>>,
    watchers: Vec<Arc<dyn Watch>>,
    /// Those that came later, told for as long as they live.
    guests: RwLock<Vec<Weak<dyn Watch>>>,
}

/// Somebody who is told when the health of an endpoint changes: a log, metrics, a bus.
///
/// It is told on the task that saw it, so it must be quick and must not block.
pub trait Watch: Send + Sync {
    /// The health of an endpoint, or of a whole provider, has changed.
    fn health_changed(&self, change: &HealthChange);
}

/// A change of health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthChange {
    /// The provider.
    pub provider: Arc<str>,
    /// The model, where it is not all of the provider's.
    pub model: Option<Arc<str>>,
    /// What it is now.
    pub state: HealthState,
}

/// What an endpoint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthState {
    /// It is asked.
    Well,
    /// It is let alone for this long.
    Resting {
        /// For how long.
        rest: Duration,
        /// Why.
        why: RestReason,
    },
    /// One call is finding out whether it is well again.
    Probing,
    /// A provider on this machine missed a sign of life; it is still asked.
    Suspect,
    /// It missed several; it is not asked.
    Offline,
}

/// How an endpoint is, to be shown.
#[derive(Debug, Clone, PartialEq)]
pub struct EndpointHealth {
    /// The provider.
    pub provider: Arc<str>,
    /// The model, in its words.
    pub model: Arc<str>,
    /// Whether it is asked.
    pub state: HealthState,
    /// Calls it is answering now.
    pub in_flight: usize,
    /// How long an answer takes lately.
    pub latency: Option<Duration>,
    /// How long the first output takes lately.
    pub time_to_first: Option<Duration>,
}

/// A provider, as far as its health goes.
pub(crate) struct Host {
    name: Arc<str>,
    models: RwLock<HashMap<Arc<str>, Arc<Endpoint>>>,
    /// How many models are known, so that nobody takes a lock for none.
    known: AtomicUsize,
    missed: AtomicU32,
    /// Failures so far, and as many of them as there were when it was seen to be there since.
    failures: AtomicU64,
    failures_outlived: AtomicU64,
    /// Whether it is being asked for something free, so that nobody else does at once.
    probed: AtomicBool,
}

/// One model of one provider.
struct Endpoint {
    host: Arc<Host>,
    model: Arc<str>,
    in_flight: AtomicUsize,
    /// Whether there is anything to ask `inner` before it is asked.
    uneasy: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    breaker: Breaker,
    latency: PeakEwma,
    time_to_first: PeakEwma,
    /// Until the first output of streams.
    recent_streams: Recent,
    /// Until whole answers.
    recent_whole: Recent,
    /// How often in a row it was let go of, since one that was asked later began to answer before it.
    lost: u32,
}

/// An attempt at an endpoint that is under way. Dropped without an end, its caller went away: nothing is learned.
///
/// Keep it until the end of a streamed answer: it is what [`Strategy::LeastBusy`](crate::Strategy::LeastBusy) counts.
pub struct Attempt {
    endpoint: Arc<Endpoint>,
    health: Arc<Health>,
    began: Instant,
    is_probe: bool,
    has_output: bool,
    is_over: bool,
    /// For the length of a rest, should one follow.
    seed: Seed,
}

/// The right to ask a provider for something free, to find out before a call has to whether it is well again. One at a time
/// for each provider; dropped, nothing was learned and the next one may.
pub struct HealthProbe {
    host: Arc<Host>,
    /// Those that rested when it began: what fails later has failed since.
    resting: Vec<Arc<Endpoint>>,
    health: Arc<Health>,
}

// === impl Health ===

impl Health {
    /// Nothing is known yet.
    pub fn new(policy: BreakerPolicy) -> Self {
        Self { policy, hosts: Mutex::default(), watchers: Vec::new(), guests: RwLock::default() }
    }

    /// What is known goes on under a new policy, for a new configuration: of the providers that `is_same` says are the
    /// servers they were. Of others nothing is known yet, and who is gone is forgotten.
    ///
    /// Calls that are under way go on telling the health they began with; of the providers that both know, each learns what
    /// the other hears. Watchers are not taken over.
    #[must_use]
    pub fn after(&self, policy: BreakerPolicy, is_same: impl Fn(&str) -> bool) -> Self {
        let kept = lock(&self.hosts)
            .iter()
            .filter(|(name, _)| is_same(name))
            .map(|(name, host)| (Arc::clone(name), Arc::clone(host)))
            .collect();
        Self { policy, hosts: Mutex::new(kept), watchers: Vec::new(), guests: RwLock::default() }
    }

    /// The same, and `watcher` is told of changes.
    #[must_use]
    pub fn watched(mut self, watcher: Arc<dyn Watch>) -> Self {
        self.watchers.push(watcher);
        self
    }

    /// Tells `watcher` of changes too, for as long as somebody else keeps it: what is known of endpoints outlives most of
    /// those who watch it. One that watches already is told once.
    pub fn watch(&self, watcher: Weak<dyn Watch>) {
        let mut guests = self.guests.write().unwrap_or_else(PoisonError::into_inner);
        guests.retain(|guest| guest.strong_count() > 0 && !guest.ptr_eq(&watcher));
        guests.push(watcher);
    }

    /// A provider on this machine gave a sign of life, or did not when it was asked for one.
    pub fn heartbeat(&self, provider: &str, is_there: bool, now: Instant) {
        let Some(host) = lock(&self.hosts).get(provider).map(Arc::clone) else { return };
        if is_there {
            return self.is_there(&host, now);
        }
        let before = host.missed.load(Ordering::Relaxed);
        let missed = (before + 1).min(limits::HEARTBEATS_MISSED_MAX);
        host.missed.store(missed, Ordering::Relaxed);
        let (before, state) = (heart_state(before), heart_state(missed));
        if before != state {
            self.tell(HealthChange { provider: Arc::clone(&host.name), model: None, state });
        }
    }

    /// Nobody looks after a provider by [heartbeats](Self::heartbeat) any more: what it missed says nothing from now on.
    pub fn unwatched(&self, provider: &str, now: Instant) {
        let host = lock(&self.hosts).get(provider).map(Arc::clone);
        if let Some(host) = host {
            self.is_there(&host, now);
        }
    }

    /// A provider was seen to be there, by a heartbeat or by an answer.
    fn is_there(&self, host: &Host, now: Instant) {
        host.failures_outlived.store(host.failures.load(Ordering::Relaxed), Ordering::Relaxed);
        if host.missed.load(Ordering::Relaxed) == 0 || host.missed.swap(0, Ordering::Relaxed) == 0 {
            return;
        }
        // It has come back: what it failed at before says nothing.
        let models = host.models.read().unwrap_or_else(PoisonError::into_inner);
        models.values().for_each(|endpoint| lock(&endpoint.inner).breaker.wake(now));
        drop(models);
        self.tell(HealthChange { provider: Arc::clone(&host.name), model: None, state: HealthState::Well });
    }

    /// Begins to find out whether a provider is well again whose models are let alone because they failed. `None`: none is for
    /// that reason alone (a rate limit, its own word on when to come back and a refused key are others), asking has misled
    /// before, or it is being asked.
    pub fn probe(self: &Arc<Self>, provider: &str, now: Instant) -> Option<HealthProbe> {
        let host = lock(&self.hosts).get(provider).map(Arc::clone)?;
        let may_end = |endpoint: &Arc<Endpoint>| {
            endpoint.uneasy.load(Ordering::Acquire) && lock(&endpoint.inner).breaker.can_be_vouched_for(now)
        };
        let models = host.models.read().unwrap_or_else(PoisonError::into_inner);
        let resting: Vec<_> = models.values().filter(|endpoint| may_end(endpoint)).map(Arc::clone).collect();
        drop(models);
        if resting.is_empty() || host.probed.swap(true, Ordering::Acquire) {
            return None;
        }
        Some(HealthProbe { host, resting, health: Arc::clone(self) })
    }

    /// Providers that failed at something, and were not seen to be there since.
    pub fn troubled(&self) -> Vec<Arc<str>> {
        let hosts: Vec<Arc<Host>> = lock(&self.hosts).values().cloned().collect();
        let troubled = hosts.iter().filter(|host| host.is_troubled());
        troubled.map(|host| Arc::clone(&host.name)).collect()
    }

    /// Every endpoint that was asked so far, in no order.
    pub fn endpoints(&self, now: Instant) -> Vec<EndpointHealth> {
        let hosts: Vec<Arc<Host>> = lock(&self.hosts).values().cloned().collect();
        let all = hosts.iter().flat_map(|host| {
            let models = host.models.read().unwrap_or_else(PoisonError::into_inner);
            models.values().map(|endpoint| endpoint.shown(now)).collect::<Vec<_>>()
        });
        all.collect()
    }

    pub(crate) fn host(&self, name: &str) -> Arc<Host> {
        let mut hosts = lock(&self.hosts);
        if let Some(host) = hosts.get(name) {
            return Arc::clone(host);
        }
        let host = Arc::new(Host {
            name: name.into(),
            models: RwLock::default(),
            known: AtomicUsize::new(0),
            missed: AtomicU32::new(0),
            failures: AtomicU64::new(0),
            failures_outlived: AtomicU64::new(0),
            probed: AtomicBool::new(false),
        });
        hosts.insert(Arc::clone(&host.name), Arc::clone(&host));
        host
    }

    /// Begins an attempt, unless the endpoint is let alone and nobody insists.
    pub(crate) fn begin(
        self: &Arc<Self>,
        candidate: &Candidate,
        seed: Seed,
        now: Instant,
        insists: bool,
    ) -> Result<Attempt, Instant> {
        let endpoint = self.host(candidate.provider.name()).endpoint(&candidate.model);
        let mut is_probe = false;
        if endpoint.uneasy.load(Ordering::Acquire) {
            match lock(&endpoint.inner).breaker.begin(now) {
                Verdict::Ready => {}
                Verdict::Probe => is_probe = true,
                Verdict::Resting { until, .. } if !insists => return Err(until),
                Verdict::Resting { .. } => {}
            }
        }
        endpoint.in_flight.fetch_add(1, Ordering::Relaxed);
        if is_probe {
            self.tell(endpoint.change(HealthState::Probing));
        }
        let health = Arc::clone(self);
        Ok(Attempt { endpoint, health, began: now, is_probe, has_output: false, is_over: false, seed })
    }

    /// How long nearly all of the latest answers of a candidate took to begin. `None`: too few are known.
    pub(crate) fn usual(&self, candidate: &Candidate, streams: bool) -> Option<Duration> {
        let recent = |endpoint: &Endpoint| lock(&endpoint.inner).recent(streams).p95();
        self.host(candidate.provider.name()).look(&candidate.model, recent).flatten()
    }

    /// A candidate that began then was let go of before its answer began, since another one was faster: it would have taken
    /// longer. How much is not known, so that it is no time to go by in what is usual; but one that is let go of so often in
    /// a row may hang, and whoever is let go of is never seen to.
    pub(crate) fn lost(
        &self,
        candidate: &Candidate,
        began: Instant,
        is_hedge: bool,
        seed: Seed,
        now: Instant,
    ) {
        let than = now.saturating_duration_since(began);
        let change = self.host(candidate.provider.name()).look(&candidate.model, |endpoint| {
            let is_failure = {
                let mut inner = lock(&endpoint.inner);
                if inner.time_to_first.value(now).is_none_or(|known| known < than) {
                    inner.time_to_first.observe(than, now);
                }
                // Who was asked second had less time.
                inner.lost = inner.lost.saturating_add(u32::from(!is_hedge));
                !is_hedge && inner.lost >= limits::HEDGE_LOSSES_MAX
            };
            let bad = Heard::Bad { after: None, key_refused: false };
            is_failure.then(|| endpoint.hear(bad, Some(began), &self.policy, now, seed)).flatten()
        });
        change.flatten().into_iter().for_each(|change| self.tell(change));
    }

    fn tell(&self, change: HealthChange) {
        self.watchers.iter().for_each(|watcher| watcher.health_changed(&change));
        let guests = self.guests.read().unwrap_or_else(PoisonError::into_inner).clone();
        guests.iter().filter_map(Weak::upgrade).for_each(|watcher| watcher.health_changed(&change));
    }
}

impl Default for Health {
    fn default() -> Self {
        Self::new(BreakerPolicy::default())
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health").field("policy", &self.policy).finish_non_exhaustive()
    }
}

// === impl HealthChange ===

impl HealthChange {
    /// Whether the endpoint is let alone from now on because it failed too often.
    ///
    /// A probe that was given up does not open what it left open, nor does one that found the provider well: there is no new
    /// rest, and the next call asks.
    pub fn opens_breaker(&self) -> bool {
        matches!(self.state, HealthState::Resting { rest, why: RestReason::Failing } if !rest.is_zero())
    }
}

// === impl HealthState ===

impl HealthState {
    /// One word for logs and listings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::Resting { .. } => "resting",
            Self::Probing => "probing",
            Self::Suspect => "suspect",
            Self::Offline => "offline",
        }
    }
}

fn heart_state(missed: u32) -> HealthState {
    match missed {
        0 => HealthState::Well,
        missed if missed >= limits::HEARTBEATS_MISSED_MAX => HealthState::Offline,
        _ => HealthState::Suspect,
    }
}

fn verdict_state(verdict: Verdict, now: Instant) -> HealthState {
    match verdict {
        Verdict::Ready => HealthState::Well,
        Verdict::Probe => HealthState::Resting { rest: Duration::ZERO, why: RestReason::Failing },
        Verdict::Resting { until, why } => {
            HealthState::Resting { rest: until.saturating_duration_since(now), why }
        }
    }
}

// === impl Host ===

impl Host {
    /// What is known of one of its models now, and what may be done with it.
    #[inline]
    pub(crate) fn see(&self, model: &str, now: Instant) -> (Seen, Verdict) {
        if self.known.load(Ordering::Acquire) == 0 && self.missed.load(Ordering::Relaxed) == 0 {
            return (Seen::default(), Verdict::Ready);
        }
        self.look_at(model, now)
    }

    fn look_at(&self, model: &str, now: Instant) -> (Seen, Verdict) {
        let seen = self.look(model, |endpoint| {
            let inner = lock(&endpoint.inner);
            let in_flight = endpoint.in_flight.load(Ordering::Relaxed);
            let seen = Seen::new(in_flight, inner.latency.value(now), inner.time_to_first.value(now));
            (seen, inner.breaker.verdict(now))
        });
        let (seen, verdict) = seen.unwrap_or((Seen::default(), Verdict::Ready));
        if self.missed.load(Ordering::Relaxed) >= limits::HEARTBEATS_MISSED_MAX {
            return (seen, Verdict::Resting { until: now + limits::OFFLINE_REST, why: RestReason::Offline });
        }
        (seen, verdict)
    }

    /// Looks at one of its models, if it was asked before.
    fn look<T>(&self, model: &str, look: impl FnOnce(&Endpoint) -> T) -> Option<T> {
        if self.known.load(Ordering::Acquire) == 0 {
            return None;
        }
        let models = self.models.read().unwrap_or_else(PoisonError::into_inner);
        models.get(model).map(|endpoint| look(endpoint))
    }

    fn is_troubled(&self) -> bool {
        let (all, outlived) = (&self.failures, &self.failures_outlived);
        self.missed.load(Ordering::Relaxed) > 0
            || all.load(Ordering::Relaxed) != outlived.load(Ordering::Relaxed)
    }

    fn endpoint(self: &Arc<Self>, model: &Arc<str>) -> Arc<Endpoint> {
        if let Some(endpoint) = self.models.read().unwrap_or_else(PoisonError::into_inner).get(model) {
            return Arc::clone(endpoint);
        }
        let mut models = self.models.write().unwrap_or_else(PoisonError::into_inner);
        if models.len() >= limits::ENDPOINTS_PER_PROVIDER_MAX {
            // What is well and idle is as good as never asked. Where all are sick, which takes a thousand made-up names, the
            // idle ones are forgotten.
            let is_busy = |endpoint: &Endpoint| endpoint.in_flight.load(Ordering::Relaxed) > 0;
            models.retain(|_, endpoint| is_busy(endpoint) || endpoint.uneasy.load(Ordering::Relaxed));
            if models.len() >= limits::ENDPOINTS_PER_PROVIDER_MAX {
                models.retain(|_, endpoint| is_busy(endpoint));
            }
        }
        let new = || {
            Arc::new(Endpoint {
                host: Arc::clone(self),
                model: Arc::clone(model),
                in_flight: AtomicUsize::new(0),
                uneasy: AtomicBool::new(false),
                inner: Mutex::default(),
            })
        };
        if models.len() >= limits::ENDPOINTS_PER_PROVIDER_MAX && !models.contains_key(model) {
            // All of them are busy: this one is not remembered.
            return new();
        }
        let endpoint = Arc::clone(models.entry(Arc::clone(model)).or_insert_with(new));
        self.known.store(models.len(), Ordering::Release);
        endpoint
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("name", &self.name).finish_non_exhaustive()
    }
}

// === impl Inner ===

impl Inner {
    fn recent(&mut self, streams: bool) -> &mut Recent {
        if streams { &mut self.recent_streams } else { &mut self.recent_whole }
    }
}

// === impl Endpoint ===

impl Endpoint {
    fn change(&self, state: HealthState) -> HealthChange {
        HealthChange { provider: Arc::clone(&self.host.name), model: Some(Arc::clone(&self.model)), state }
    }

    /// Learns how a call ended, which was a probe if one began then. Gives what has changed by that.
    fn hear(
        &self,
        heard: Heard,
        probe: Option<Instant>,
        policy: &BreakerPolicy,
        now: Instant,
        seed: Seed,
    ) -> Option<HealthChange> {
        let (before, after) = {
            let breaker = &mut lock(&self.inner).breaker;
            let before = breaker.verdict(now);
            breaker.hear(heard, probe, policy, now, seed.fraction());
            self.uneasy.store(!breaker.is_untroubled(now), Ordering::Release);
            (before, breaker.verdict(now))
        };
        (before != after).then(|| self.change(verdict_state(after, now)))
    }

    fn shown(&self, now: Instant) -> EndpointHealth {
        let inner = lock(&self.inner);
        let state = match heart_state(self.host.missed.load(Ordering::Relaxed)) {
            HealthState::Well => verdict_state(inner.breaker.verdict(now), now),
            not_well => not_well,
        };
        EndpointHealth {
            provider: Arc::clone(&self.host.name),
            model: Arc::clone(&self.model),
            state,
            in_flight: self.in_flight.load(Ordering::Relaxed),
            latency: inner.latency.value(now),
            time_to_first: inner.time_to_first.value(now),
        }
    }
}

// === impl HealthProbe ===

impl HealthProbe {
    /// It is well: of each of its models that rested, one call finds out at once whether that is. None is closed by this.
    ///
    /// One that is not well is told by dropping this: the rests end when they would have.
    pub fn well(self, now: Instant) {
        for endpoint in &self.resting {
            let (before, after) = {
                let breaker = &mut lock(&endpoint.inner).breaker;
                let before = breaker.verdict(now);
                breaker.vouch(now);
                (before, breaker.verdict(now))
            };
            if before != after {
                self.health.tell(endpoint.change(verdict_state(after, now)));
            }
        }
    }
}

impl Drop for HealthProbe {
    fn drop(&mut self) {
        self.host.probed.store(false, Ordering::Release);
    }
}

impl fmt::Debug for HealthProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HealthProbe").field("provider", &self.host.name).finish_non_exhaustive()
    }
}

// === impl Attempt ===

impl Attempt {
    /// Whether it is the one that finds out whether the endpoint is well again.
    pub fn is_probe(&self) -> bool {
        self.is_probe
    }

    /// The first output of a stream has come.
    pub fn first_output(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.has_output, true) {
            self.began_to_answer(true, now);
            // Who waits for a probe need not wait for the end of a long stream. For all others only the end says that it
            // went well: streams that break in the middle are failures in a row too.
            if self.is_probe {
                self.hear(Heard::Good, now);
            }
        }
    }

    /// It ended well.
    pub fn succeed(mut self, now: Instant) {
        if !std::mem::replace(&mut self.has_output, true) {
            self.began_to_answer(false, now);
        }
        self.hear(Heard::Good, now);
        lock(&self.endpoint.inner).latency.observe(now.saturating_duration_since(self.began), now);
        self.is_over = true;
    }

    fn began_to_answer(&self, streams: bool, now: Instant) {
        self.health.is_there(&self.endpoint.host, now);
        let took = now.saturating_duration_since(self.began);
        let mut inner = lock(&self.endpoint.inner);
        inner.time_to_first.observe(took, now);
        inner.recent(streams).observe(took);
        inner.lost = 0;
    }

    /// Tells how asking went: the answer and the attempt, which goes on until the answer's end, or the failure.
    ///
    /// # Errors
    ///
    /// The failure, which has been told.
    pub fn judge<T>(self, asked: Result<T, UpstreamFailure>, now: Instant) -> Result<(T, Self), Missed> {
        match asked {
            Ok(value) => Ok((value, self)),
            Err(failure) => {
                self.fail(&failure, now);
                Err(Missed::Failed(failure))
            }
        }
    }

    /// It failed.
    pub fn fail(mut self, failure: &UpstreamFailure, now: Instant) {
        let heard = Heard::from(failure);
        match heard {
            Heard::Bad { .. } => {
                self.endpoint.host.failures.fetch_add(1, Ordering::Relaxed);
            }
            // It answers, if only to say no.
            Heard::Alive | Heard::Limited { .. } => self.health.is_there(&self.endpoint.host, now),
            Heard::Good | Heard::Nothing => {}
        }
        self.hear(heard, now);
        self.is_over = true;
    }

    fn hear(&mut self, heard: Heard, now: Instant) {
        let endpoint = &self.endpoint;
        // The usual case: all is well and stays so.
        if heard == Heard::Good && !endpoint.uneasy.load(Ordering::Acquire) {
            return;
        }
        let is_probe = std::mem::take(&mut self.is_probe);
        let probe = is_probe.then_some(self.began);
        let change = endpoint.hear(heard, probe, &self.health.policy, now, self.seed);
        change.into_iter().for_each(|change| self.health.tell(change));
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.is_over && self.is_probe {
            // Without a clock: the probe began at this time, and the next one may begin at once.
            let began = self.began;
            self.hear(Heard::Nothing, began);
        }
        self.endpoint.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt").field("model", &self.endpoint.model).finish_non_exhaustive()
    }
}

/// A poisoned lock protects nothing here that half a change could break.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Heard(Mutex<Vec<HealthState>>);

    impl Watch for Heard {
        fn health_changed(&self, change: &HealthChange) {
            lock(&self.0).push(change.state);
        }
    }

    #[test]
    fn one_who_watches_later_is_told_once_and_as_long_as_it_lives() {
        let (health, heard) = (Health::default(), Arc::new(Heard::default()));
        let watching: Weak<Heard> = Arc::downgrade(&heard);
        health.watch(watching.clone());
        health.watch(watching.clone());
        health.host("p");
        let now = Instant::now();
        health.heartbeat("p", false, now);
        assert_eq!(*lock(&heard.0), [HealthState::Suspect]);
        drop(heard);
        health.heartbeat("p", true, now);
        assert!(watching.upgrade().is_none(), "nobody else keeps it");
        health.watch(Weak::<Heard>::new());
        assert_eq!(health.guests.read().unwrap().len(), 1, "those who are gone are forgotten");
    }

    #[test]
    fn only_failures_open_a_breaker() {
        let opens = |state| HealthChange { provider: "p".into(), model: None, state }.opens_breaker();
        let resting = |seconds, why| HealthState::Resting { rest: Duration::from_secs(seconds), why };
        assert!(opens(resting(5, RestReason::Failing)));
        assert!(!opens(resting(0, RestReason::Failing)), "a probe was given up");
        assert!(!opens(resting(5, RestReason::RateLimited)) && !opens(HealthState::Probing));
    }
}
