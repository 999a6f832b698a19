//! Limits on requests and tokens per time, and on calls at once.
//!
//! [`RateLimits`] holds how far each name has used its limits: a key, a pool, a provider. What the limits are is told with each
//! call, since they belong to the configuration; how a refusal looks to a client is the server's.
//!
//! The arithmetic of one limit is in `bucket`; this file has the names, the lock, and what is told.
//!
//! # Why a bucket and not a counter per minute?
//!
//! A counter that starts anew each minute lets twice the limit through around the full minute, and makes everybody who was
//! refused come back in the same second. Here a limit of 60 requests per minute gives one back each second, and tells each
//! caller when its own is there. What can be had at once is the *burst*, by default the whole amount of one period. In any time
//! `t` at most `burst + amount * t / period` gets through, no matter how calls are spread.
//!
//! # What is a call's share of a token limit?
//!
//! Its estimate at first, so that a hundred calls at once cannot all be let in by what is left for one. When the true number is
//! known, the limit is [corrected](Admission::correct) to what it would be had the call taken that from the beginning.

mod bucket;

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hoosh_core::limits::{CONCURRENCY_HINT, RATE_NAMES_MAX, RATE_NAMES_SWEPT_MIN};

use self::bucket::Bucket;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Measure {
    /// Calls that were let in.
    Requests,
    /// Tokens, input and output together: estimated first, then as they were.
    Tokens,
}

/// The time that an amount is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Period {
    /// 1 s.
    Second,
    /// 60 s.
    Minute,
    /// 3,600 s.
    Hour,
    /// 86,400 s, whatever the calendar says.
    Day,
}

/// So many requests or tokens per period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    /// What is counted.
    pub measure: Measure,
    /// How much of it comes back per period, steadily. A rate that lets nothing through is none: take the key away instead.
    pub amount: NonZeroU64,
    /// The time that it is for.
    pub period: Period,
    /// How much may be taken at once after a pause. `None`: the amount of one period, as at most vendors.
    pub burst: Option<NonZeroU64>,
}

/// All limits of one name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    rates: Vec<Rate>,
    concurrent: Option<u32>,
}

/// Two rates of one name that limit the same: which of them counts?
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there are two limits of {} per {}; leave one out", .measure.as_str(), .period.as_str())]
pub struct SameRateTwice {
    /// What both count.
    pub measure: Measure,
    /// The time that both are for.
    pub period: Period,
}

/// A name that a call has to get past, with its limits.
#[derive(Debug, Clone, Copy)]
pub struct Gate<'a> {
    /// Whose limits they are: `key:k_1`, `provider:groq`. Names are one space, so they should say their kind.
    pub name: &'a str,
    /// As they are configured now. If others were told before, what is used counts under these as well.
    pub limits: &'a Limits,
}

/// How far each name has used its limits.
///
/// ```
/// # use std::num::NonZeroU64;
/// # use std::sync::Arc;
/// # use std::time::Instant;
/// use hoosh_budget::rate::{Gate, Limits, Measure, Period, Rate, RateLimits};
///
/// # fn doc() -> Result<(), Box<dyn std::error::Error>> {
/// # let some = |number| NonZeroU64::new(number).ok_or("not 0");
/// let per_minute = Rate::per(Measure::Tokens, some(10_000)?, Period::Minute);
/// let key = Limits::new(vec![per_minute], Some(4))?;
/// let limits = Arc::new(RateLimits::new());
///
/// let admission = limits.admit(&[Gate { name: "key:k_1", limits: &key }], 1_200, Instant::now())?;
/// // The call runs. What it really took:
/// admission.settle(900, Instant::now());
/// # Ok(())
/// # }
/// ```
///
/// # Which clock?
///
/// None: times are told, all of one clock. One that is earlier than another told before counts as that.
///
/// # What does it hold?
///
/// A name with limits is remembered until it has recovered: until all of its limits are as if it had never been there and none
/// of its calls runs. So the memory is that of the names active within one period, and at most [`RATE_NAMES_MAX`]; beyond that
/// a new one is refused, since letting it in uncounted would undo its limit.
///
/// [`RATE_NAMES_MAX`]: hoosh_core::limits::RATE_NAMES_MAX
#[derive(Default)]
pub struct RateLimits {
    state: Mutex<State>,
}

/// A call that was let in. Keep it to the end of the stream: it holds the call's slot where calls at once are limited.
///
/// Dropping it frees the slot; what it has taken of token limits stays as it was last [corrected](Self::correct), so that a call
/// that is given up costs what was known of it.
#[must_use = "dropping it gives the slot away"]
pub struct Admission {
    limits: Arc<RateLimits>,
    held: Vec<Held>,
    standings: Standings,
}

/// Where a name stands in one of its limits. Of several the one with the least remaining is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// How much is allowed per period.
    pub limit: u64,
    /// How much can still be had at once.
    pub remaining: u64,
    /// Time until all of it is there again if nobody takes more.
    pub reset: Duration,
}

/// Where a call's names stand, for `x-ratelimit-*` headers. `None`: nobody limits that.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standings {
    /// For `x-ratelimit-{limit,remaining,reset}-requests`.
    pub requests: Option<Standing>,
    /// For `x-ratelimit-{limit,remaining,reset}-tokens`.
    pub tokens: Option<Standing>,
}

/// Why a call was not let in. None of its names was charged for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateRefusal {
    /// The name whose limit it is. Of several in the way, that which takes longest.
    pub name: String,
    /// Which of its limits.
    pub limit: LimitKind,
    /// How much that allows: per period, or at once.
    pub allowed: u64,
    /// How much of it can be had now.
    pub remaining: u64,
    /// How much was asked for.
    pub asked: u64,
    /// When it would be let in, if nobody else takes more: for `Retry-After`. For calls at once nobody knows, and it is
    /// [`CONCURRENCY_HINT`]. `None`: never, it asks for more than can be had at once.
    pub retry_after: Option<Duration>,
    /// Where its names stand.
    pub standings: Standings,
}

/// Which limit was in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitKind {
    /// Of requests or tokens per period.
    Rate(Measure, Period),
    /// Of calls at once.
    Concurrent,
    /// Of names that are counted at all.
    Names,
}

/// A time to wait as OpenAI writes it in `x-ratelimit-reset-*`, which is Go's way: `6m0s`, `1.5s`, `20ms`.
///
/// Rounded up to the millisecond. Source: platform.openai.com/docs/guides/rate-limits, read 2026-11-24.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResetText(pub Duration);

/// One name's part in an admission.
#[derive(Debug)]
struct Held {
    meter: usize,
    number: u64,
    /// Tokens that its limits take it for.
    tokens: u64,
}

#[derive(Default)]
struct State {
    by_name: HashMap<Arc<str>, usize>,
    /// Where somebody holds a number into it, it stays there.
    meters: Vec<Option<Meter>>,
    free: Vec<usize>,
    /// As many names are taken until those that have recovered are looked for.
    sweep_at: usize,
    /// Before that there is no use in looking again, though it is full.
    full_until: Option<Instant>,
}

/// One name.
struct Meter {
    name: Arc<str>,
    /// The latest time told.
    seen: Instant,
    buckets: Vec<Bucket>,
    concurrent: Option<u32>,
    /// Calls that run, whether or not that is limited.
    running: u32,
    /// The number of the next call.
    next: u64,
}

/// What one meter says to a call.
struct Objection {
    limit: LimitKind,
    allowed: u64,
    remaining: u64,
    asked: u64,
    retry_after: Option<Duration>,
}

// === impl Measure ===

impl Measure {
    /// Its name in headers and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
        }
    }
}

// === impl Period ===

impl Period {
    /// All of them, the shortest first.
    pub const ALL: [Self; 4] = [Self::Second, Self::Minute, Self::Hour, Self::Day];

    /// Its name in configuration and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }

    /// How long it is.
    pub fn duration(self) -> Duration {
        Duration::from_secs(match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 60 * 60,
            Self::Day => 24 * 60 * 60,
        })
    }

    fn nanos(self) -> i128 {
        i128::from(self.duration().as_secs()) * 1_000_000_000
    }
}

// === impl Rate ===

impl Rate {
    /// So much per period, and as much at once.
    pub fn per(measure: Measure, amount: NonZeroU64, period: Period) -> Self {
        Self { measure, amount, period, burst: None }
    }

    /// With another burst. A small one smooths calls; one above the amount lets a name save up.
    #[must_use]
    pub fn with_burst(self, burst: NonZeroU64) -> Self {
        Self { burst: Some(burst), ..self }
    }

    /// How much may be taken at once after a pause.
    pub fn burst(&self) -> NonZeroU64 {
        self.burst.unwrap_or(self.amount)
    }
}

// === impl Limits ===

impl Limits {
    /// No limits.
    pub const NONE: Self = Self { rates: Vec::new(), concurrent: None };

    /// These rates, all of which hold, and so many calls at once. `Some(0)`: none gets in.
    ///
    /// # Errors
    ///
    /// [`SameRateTwice`] if two are for the same measure and period.
    pub fn new(rates: Vec<Rate>, concurrent: Option<u32>) -> Result<Self, SameRateTwice> {
        for (at, Rate { measure, period, .. }) in rates.iter().enumerate() {
            if rates[..at].iter().any(|other| (other.measure, other.period) == (*measure, *period)) {
                return Err(SameRateTwice { measure: *measure, period: *period });
            }
        }
        Ok(Self { rates, concurrent })
    }

    /// Whether there are none.
    pub fn are_none(&self) -> bool {
        self.rates.is_empty() && self.concurrent.is_none()
    }

    /// These, and of `others` what these say nothing of: a key's own limits in place of those of all.
    #[must_use]
    pub fn over(&self, others: &Self) -> Self {
        let is_said = |other: &&Rate| {
            let same = |rate: &Rate| (rate.measure, rate.period) == (other.measure, other.period);
            self.rates.iter().any(same)
        };
        let others_rates = others.rates.iter().filter(|other| !is_said(other));
        let rates = self.rates.iter().chain(others_rates).copied().collect();
        Self { rates, concurrent: self.concurrent.or(others.concurrent) }
    }

    /// The rates, in the order they were given.
    pub fn rates(&self) -> &[Rate] {
        &self.rates
    }

    /// Calls at once.
    pub fn concurrent(&self) -> Option<u32> {
        self.concurrent
    }
}

// === impl RateLimits ===

impl RateLimits {
    /// Nobody has used anything.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets a call in that is estimated to take so many `tokens`, at all gates or at none. A gate without limits costs nothing,
    /// and of two of the same name the first counts.
    ///
    /// A call of 0 tokens still needs one to be left, so that a name that is over its limit is closed to everything.
    ///
    /// # Errors
    ///
    /// [`RateRefusal`] if one of its names would go beyond one of its limits.
    pub fn admit(
        self: &Arc<Self>,
        gates: &[Gate<'_>],
        tokens: u64,
        now: Instant,
    ) -> Result<Admission, Box<RateRefusal>> {
        let mut held: Vec<Held> = Vec::new();
        let mut standings = Standings::default();
        if gates.iter().any(|gate| !gate.limits.are_none()) {
            held.reserve_exact(gates.len());
            let mut state = self.state();
            state.look(gates, tokens, now, &mut held)?;
            for Held { meter, number, .. } in &mut held {
                if let Some(meter) = state.meter(*meter) {
                    *number = meter.take(tokens);
                    meter.tell(&mut standings);
                }
            }
        }
        Ok(Admission { limits: Arc::clone(self), held, standings })
    }

    /// What [`admit`](Self::admit) would say, without letting anybody in: to pass over somebody who would refuse.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn check(
        &self,
        gates: &[Gate<'_>],
        tokens: u64,
        now: Instant,
    ) -> Result<Standings, Box<RateRefusal>> {
        let mut standings = Standings::default();
        let mut state = self.state();
        let mut held = Vec::with_capacity(gates.len());
        state.look(gates, tokens, now, &mut held)?;
        for Held { meter, .. } in held {
            if let Some(meter) = state.meter(meter) {
                meter.tell(&mut standings);
            }
        }
        Ok(standings)
    }

    /// Where one name stands, if it has used anything lately.
    pub fn standings(&self, name: &str, now: Instant) -> Option<Standings> {
        let mut state = self.state();
        let meter = state.by_name.get(name).copied()?;
        let meter = state.meter(meter)?;
        meter.advance(now);
        let mut standings = Standings::default();
        meter.tell(&mut standings);
        Some(standings)
    }

    /// Calls of this name that run.
    pub fn running(&self, name: &str) -> u32 {
        let mut state = self.state();
        let meter = state.by_name.get(name).copied();
        meter.and_then(|meter| state.meter(meter)).map_or(0, |meter| meter.running)
    }

    /// How many names are remembered.
    pub fn names(&self) -> usize {
        self.state().by_name.len()
    }

    /// Forgets the names that have recovered. This also happens by itself when names come anew.
    pub fn forget_recovered(&self, now: Instant) {
        self.state().sweep(now);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whatever panicked, the books are as they were before or after it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Without its names, which may be nobody's business.
impl fmt::Debug for RateLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimits").field("names", &self.names()).finish_non_exhaustive()
    }
}

// === impl State ===

impl State {
    /// Finds the meters behind `gates`, and asks all of them.
    fn look(
        &mut self,
        gates: &[Gate<'_>],
        tokens: u64,
        now: Instant,
        held: &mut Vec<Held>,
    ) -> Result<(), Box<RateRefusal>> {
        // Before the first is found, since a sweep takes away what nobody has used yet.
        let most = self.by_name.len() + gates.len();
        let is_known_full = most > RATE_NAMES_MAX && self.full_until.is_some_and(|until| now < until);
        if most > self.sweep_at.clamp(RATE_NAMES_SWEPT_MIN, RATE_NAMES_MAX) && !is_known_full {
            self.sweep(now);
        }
        let mut refused: Option<(usize, Objection)> = None;
        for gate in gates.iter().filter(|gate| !gate.limits.are_none()) {
            let meter = self.meter_of(gate, now)?;
            if held.iter().any(|other| other.meter == meter) {
                continue;
            }
            held.push(Held { meter, number: 0, tokens });
            let Some(asked) = self.meter(meter) else { continue };
            asked.become_of(gate.limits, now);
            if let Some(objection) = asked.objection(tokens)
                && refused.as_ref().is_none_or(|(_, worst)| worst.is_shorter_than(&objection))
            {
                refused = Some((meter, objection));
            }
        }
        let Some((meter, Objection { limit, allowed, remaining, asked, retry_after })) = refused else {
            return Ok(());
        };
        let mut standings = Standings::default();
        for held in held {
            if let Some(meter) = self.meter(held.meter) {
                meter.tell(&mut standings);
            }
        }
        let name = self.meter(meter).map(|meter| meter.name.as_ref().into()).unwrap_or_default();
        Err(Box::new(RateRefusal { name, limit, allowed, remaining, asked, retry_after, standings }))
    }

    /// The meter of a name, a new one if it has none.
    fn meter_of(&mut self, gate: &Gate<'_>, now: Instant) -> Result<usize, Box<RateRefusal>> {
        if let Some(meter) = self.by_name.get(gate.name) {
            return Ok(*meter);
        }
        if self.by_name.len() >= RATE_NAMES_MAX {
            let wait = self.full_until.map(|until| until.saturating_duration_since(now));
            return Err(Box::new(RateRefusal {
                name: gate.name.to_owned(),
                limit: LimitKind::Names,
                allowed: RATE_NAMES_MAX as u64,
                remaining: 0,
                asked: 1,
                retry_after: Some(wait.unwrap_or_default().max(CONCURRENCY_HINT)),
                standings: Standings::default(),
            }));
        }
        let name: Arc<str> = gate.name.into();
        let meter = Meter {
            name: Arc::clone(&name),
            seen: now,
            buckets: Vec::new(),
            concurrent: None,
            running: 0,
            next: 0,
        };
        let place = self.free.pop().unwrap_or_else(|| {
            self.meters.push(None);
            self.meters.len() - 1
        });
        self.meters[place] = Some(meter);
        self.by_name.insert(name, place);
        Ok(place)
    }

    fn meter(&mut self, place: usize) -> Option<&mut Meter> {
        self.meters.get_mut(place)?.as_mut()
    }

    fn sweep(&mut self, now: Instant) {
        let mut soonest: Option<Duration> = None;
        for (place, slot) in self.meters.iter_mut().enumerate() {
            let Some(meter) = slot else { continue };
            meter.advance(now);
            if meter.is_new() {
                self.by_name.remove(&meter.name);
                *slot = None;
                self.free.push(place);
            } else {
                let recovery = meter.recovery().max(CONCURRENCY_HINT);
                soonest = Some(soonest.map_or(recovery, |soonest| soonest.min(recovery)));
            }
        }
        // At twice as many again: so each name pays for looking at two.
        self.sweep_at = self.by_name.len() * 2;
        self.full_until = soonest.and_then(|soonest| now.checked_add(soonest));
        if self.by_name.capacity() > self.sweep_at * 2 {
            self.by_name.shrink_to(self.sweep_at);
        }
        // The places of those that went are used again; only at the end they can go.
        while self.meters.last().is_some_and(Option::is_none) {
            self.meters.pop();
        }
        let places = self.meters.len();
        self.free.retain(|place| *place < places);
        self.meters.shrink_to(places * 2);
        self.free.shrink_to(places * 2);
    }
}

// === impl Meter ===

impl Meter {
    fn advance(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.seen);
        if !elapsed.is_zero() {
            self.seen = now;
            self.buckets.iter_mut().for_each(|bucket| bucket.advance(elapsed));
        }
    }

    /// Takes on the limits as they are now.
    fn become_of(&mut self, limits: &Limits, now: Instant) {
        self.advance(now);
        self.concurrent = limits.concurrent;
        if self.buckets.iter().map(Bucket::rate).eq(limits.rates.iter().copied()) {
            return;
        }
        let mut before = std::mem::take(&mut self.buckets);
        let like = |rate: &Rate, bucket: &Bucket| {
            (bucket.rate().measure, bucket.rate().period) == (rate.measure, rate.period)
        };
        self.buckets.extend(limits.rates.iter().map(|rate| {
            match before.iter().position(|bucket| like(rate, bucket)) {
                Some(at) => {
                    let mut bucket = before.swap_remove(at);
                    bucket.set_rate(*rate);
                    bucket
                }
                None => Bucket::new(*rate),
            }
        }));
    }

    /// What is in the way of a call, if anything; the one that takes longest.
    fn objection(&self, tokens: u64) -> Option<Objection> {
        let mut worst = self.concurrent.filter(|most| self.running >= *most).map(|most| Objection {
            limit: LimitKind::Concurrent,
            allowed: most.into(),
            remaining: 0,
            asked: 1,
            retry_after: (most > 0).then_some(CONCURRENCY_HINT),
        });
        for bucket in &self.buckets {
            let asked = if bucket.is_of_tokens() { tokens } else { 1 };
            let Err(retry_after) = bucket.fits(asked.max(1)) else { continue };
            let rate = bucket.rate();
            let objection = Objection {
                limit: LimitKind::Rate(rate.measure, rate.period),
                allowed: if retry_after.is_some() { rate.amount } else { rate.burst() }.get(),
                remaining: bucket.remaining(),
                asked,
                retry_after,
            };
            if worst.as_ref().is_none_or(|worst| worst.is_shorter_than(&objection)) {
                worst = Some(objection);
            }
        }
        worst
    }

    /// Lets a call in, and gives its number.
    fn take(&mut self, tokens: u64) -> u64 {
        let number = self.next;
        self.next += 1;
        self.running = self.running.saturating_add(1);
        for bucket in &mut self.buckets {
            if bucket.is_of_tokens() {
                bucket.open(number, tokens);
            } else {
                bucket.take(1);
            }
        }
        number
    }

    fn tell(&self, standings: &mut Standings) {
        for bucket in &self.buckets {
            let standing = Standing {
                limit: bucket.rate().amount.get(),
                remaining: bucket.remaining(),
                reset: bucket.reset(),
            };
            let told = if bucket.is_of_tokens() { &mut standings.tokens } else { &mut standings.requests };
            let is_tighter = |told: &Standing| {
                standing.remaining < told.remaining
                    || standing.remaining == told.remaining && standing.reset > told.reset
            };
            if told.as_ref().is_none_or(is_tighter) {
                *told = Some(standing);
            }
        }
    }

    /// Whether it is as if it had never been there.
    fn is_new(&self) -> bool {
        self.running == 0 && self.buckets.iter().all(Bucket::is_new)
    }

    fn recovery(&self) -> Duration {
        self.buckets.iter().map(Bucket::reset).max().unwrap_or_default()
    }
}

// === impl Objection ===

impl Objection {
    fn is_shorter_than(&self, other: &Self) -> bool {
        match (self.retry_after, other.retry_after) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(own), Some(others)) => own < others,
        }
    }
}

// === impl Admission ===

impl Admission {
    /// Where its names stand: when it was let in, or after the last [correction](Self::correct).
    pub fn standings(&self) -> Standings {
        self.standings
    }

    /// Takes it for a call of so many `tokens`, more or less than it was taken for before.
    ///
    /// The token limits of its names become what they would be had it taken that from the beginning. More than is left is
    /// taken all the same: it is spent, and the next calls wait for it. May be told as often as one likes.
    pub fn correct(&mut self, tokens: u64, now: Instant) {
        if self.held.is_empty() {
            return;
        }
        let mut standings = Standings::default();
        {
            let mut state = self.limits.state();
            for held in &mut self.held {
                let Some(meter) = state.meter(held.meter) else { continue };
                meter.advance(now);
                let mut is_open = false;
                for bucket in meter.buckets.iter_mut().filter(|bucket| bucket.is_of_tokens()) {
                    is_open |= bucket.correct(held.number, held.tokens, tokens);
                }
                // Of a call that is open no more nothing was given back.
                held.tokens = if is_open { tokens } else { held.tokens.max(tokens) };
                meter.tell(&mut standings);
            }
        }
        self.standings = standings;
    }

    /// The call is over and took so many `tokens`: corrects its limits and frees its slot. Where its names stand then.
    pub fn settle(mut self, tokens: u64, now: Instant) -> Standings {
        self.correct(tokens, now);
        self.standings
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let mut state = self.limits.state();
        for held in &self.held {
            let Some(meter) = state.meter(held.meter) else { continue };
            meter.running = meter.running.saturating_sub(1);
            meter.buckets.iter_mut().for_each(|bucket| bucket.close(held.number));
        }
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission").field("standings", &self.standings).finish_non_exhaustive()
    }
}

// === impl RateRefusal ===

impl RateRefusal {
    /// Seconds for a `Retry-After` header: rounded up, and at least 1. `None`: to come back later is of no use.
    pub fn retry_after_secs(&self) -> Option<u64> {
        self.retry_after.map(seconds_up)
    }
}

impl fmt::Display for RateRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, allowed, remaining, asked, retry_after, .. } = self;
        match self.limit {
            LimitKind::Rate(measure, period) => {
                let (measure, period) = (measure.as_str(), period.as_str());
                let Some(wait) = retry_after else {
                    return write!(
                        f,
                        "`{name}` may have {allowed} {measure} at once, {asked} asked; ask for less"
                    );
                };
                write!(f, "`{name}` may have {allowed} {measure} per {period} and has {remaining} left, ")?;
                write!(f, "{asked} asked; try again in {} s", seconds_up(*wait))
            }
            LimitKind::Concurrent if *allowed == 0 => {
                write!(f, "`{name}` may have no call at all; whoever limits it to 0 can change that")
            }
            LimitKind::Concurrent => {
                write!(f, "`{name}` may have {allowed} calls at once, which run; try again when one is over")
            }
            LimitKind::Names => {
                write!(f, "`{name}` cannot be counted beside {allowed} others; try again later")
            }
        }
    }
}

impl std::error::Error for RateRefusal {}

fn seconds_up(duration: Duration) -> u64 {
    (duration.as_secs() + u64::from(duration.subsec_nanos() > 0)).max(1)
}

// === impl ResetText ===

impl fmt::Display for ResetText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_nanos().div_ceil(1_000_000);
        let (seconds, millis) = (millis / 1_000, millis % 1_000);
        if seconds == 0 && millis > 0 {
            return write!(f, "{millis}ms");
        }
        let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if hours > 0 || minutes > 0 {
            write!(f, "{minutes}m")?;
        }
        match millis {
            0 => write!(f, "{seconds}s"),
            _ => write!(f, "{seconds}.{}s", format!("{millis:03}").trim_end_matches('0')),
        }
    }
}

#[cfg(test)]
mod tests;
