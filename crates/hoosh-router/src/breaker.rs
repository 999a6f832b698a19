//! When an endpoint is asked and when it is let alone.
//!
//! A plain state machine for one model of one provider: it is told what was heard and when, and says what follows. Whose
//! fault a failure is was decided by whoever saw it ([`Fault`]); a caller's own never counts.

use std::time::{Duration, Instant};

use hoosh_core::{FailureKind, Fault, Retry, UpstreamFailure, limits};

/// When a breaker opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// Failures in a row that open it. Default: 5; fewer would take a burst of bad luck for an outage.
    pub failures: u32,
    /// The first rest. Each further one without a good answer between is twice as long. Default: 5 s, about what a local
    /// server takes to come back.
    pub rest: Duration,
    /// The longest rest. Default: 5 min.
    pub rest_max: Duration,
}

/// What may be done with an endpoint now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is asked.
    Ready,
    /// One call may find out whether it is well again.
    Probe,
    /// It is let alone until then.
    Resting {
        /// When it may be asked again at the earliest.
        until: Instant,
        /// Why.
        why: RestReason,
    },
}

/// Why an endpoint is let alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestReason {
    /// It failed too often.
    Failing,
    /// It said that it has had enough for now.
    RateLimited,
    /// A call is finding out whether it is well again.
    Probing,
    /// It is on this machine and gives no sign of life.
    Offline,
}

/// What an attempt told of the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// It answered.
    Good,
    /// It refused what was wrong with the request: it is there, no more is known.
    Alive,
    /// It failed. It may say when to come back.
    Bad {
        after: Option<Duration>,
        /// Whether it does not take our key: then what is free says nothing.
        key_refused: bool,
    },
    /// It has had enough for now.
    Limited { after: Option<Duration> },
    /// The attempt was given up before anything was heard.
    Nothing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Closed,
    Open {
        until: Instant,
    },
    Probing {
        since: Instant,
    },
}

/// The breaker of one endpoint.
#[derive(Debug, Clone, Default)]
pub(crate) struct Breaker {
    state: State,
    /// Failures in a row.
    failures: u32,
    /// Rests in a row.
    rests: u32,
    /// The provider's own word on when to come back, and why.
    told: Option<(Instant, RestReason)>,
    /// Whether it failed last because of our key.
    key_refused: bool,
    vouched: Vouched,
}

/// What came of the provider's being well when it was asked for something free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Vouched {
    /// It has not been yet.
    #[default]
    Never,
    /// The rest ended early because of it, and no call has failed since.
    Believed,
    /// The call that was to prove it failed.
    Wrongly,
}

// === impl BreakerPolicy ===

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self { failures: 5, rest: Duration::from_secs(5), rest_max: Duration::from_secs(300) }
    }
}

// === impl RestReason ===

impl RestReason {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Failing, Self::RateLimited, Self::Probing, Self::Offline];

    /// One word for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Failing => "failing",
            Self::RateLimited => "rate_limited",
            Self::Probing => "probing",
            Self::Offline => "offline",
        }
    }

    /// Reads a [`name`](Self::name).
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }

    /// As it stands behind the provider's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failing => "it failed too often",
            Self::RateLimited => "it is over its rate limit",
            Self::Probing => "one call is finding out whether it is well again",
            Self::Offline => "it gives no sign of life",
        }
    }
}

// === impl Heard ===

impl From<&UpstreamFailure> for Heard {
    fn from(failure: &UpstreamFailure) -> Self {
        let after = match failure.retry {
            Retry::Anywhere { after } => after.map(|after| after.min(limits::RETRY_AFTER_MAX)),
            Retry::Elsewhere | Retry::Never => None,
        };
        match (failure.fault, failure.kind) {
            // Seen here, before anybody was asked: a dialect that cannot say it.
            (Fault::Caller, _) if failure.status.is_none() => Self::Nothing,
            (Fault::Caller, _) => Self::Alive,
            (_, FailureKind::RateLimited) => Self::Limited { after },
            (_, kind) => Self::Bad { after, key_refused: kind == FailureKind::Credentials },
        }
    }
}

// === impl Breaker ===

impl Breaker {
    pub(crate) fn verdict(&self, now: Instant) -> Verdict {
        let told = self.told.filter(|(until, _)| *until > now);
        match (self.state, told) {
            // The later of the two counts.
            (State::Open { until }, Some((told, _))) if until > now && until >= told => {
                resting(until, RestReason::Failing)
            }
            (State::Open { .. } | State::Closed, Some((told, why))) => resting(told, why),
            (State::Open { until }, None) if until > now => resting(until, RestReason::Failing),
            (State::Open { .. }, None) => Verdict::Probe,
            (State::Closed, None) => Verdict::Ready,
            // A probe that never ends must not be the last.
            (State::Probing { since }, _) if since + limits::RECOVERY_TIME_MAX > now => {
                resting(now + limits::RECOVERY_HINT, RestReason::Probing)
            }
            (State::Probing { .. }, _) => Verdict::Probe,
        }
    }

    /// The same for whoever asks now: if it is to be a probe, the next one hears that there is one.
    pub(crate) fn begin(&mut self, now: Instant) -> Verdict {
        let verdict = self.verdict(now);
        if verdict == Verdict::Probe {
            self.state = State::Probing { since: now };
        }
        verdict
    }

    /// `probe` is when the call began that is told of, if it was to find out whether the endpoint is well; `jitter` is from
    /// 0 to 1, so that many gateways do not come back at once.
    pub(crate) fn hear(
        &mut self,
        heard: Heard,
        probe: Option<Instant>,
        policy: &BreakerPolicy,
        now: Instant,
        jitter: f64,
    ) {
        // One that took too long has been followed by another: that it failed says no more than any call.
        let is_probe = probe.is_some_and(|since| self.state == State::Probing { since });
        // That it went well does, since it began after the endpoint was let alone. Where every answer takes longer than a
        // probe is waited for, no other would be heard.
        let proves = probe.is_some() && matches!(self.state, State::Probing { .. });
        match heard {
            // A stream that began long before says nothing of what has been since.
            Heard::Good if proves || self.state == State::Closed => self.close(),
            Heard::Alive if proves => self.close(),
            Heard::Nothing if is_probe => self.state = State::Open { until: now },
            Heard::Good | Heard::Alive | Heard::Nothing => {}
            Heard::Limited { after } => {
                self.rest_as_told(now + after.unwrap_or(limits::RATE_LIMIT_REST), RestReason::RateLimited);
                if is_probe {
                    // It answers, if only to say no.
                    self.close();
                }
            }
            Heard::Bad { after, key_refused } => {
                self.failures = self.failures.saturating_add(1);
                self.key_refused = key_refused;
                if is_probe && self.vouched == Vouched::Believed {
                    self.vouched = Vouched::Wrongly;
                }
                if let Some(after) = after {
                    self.rest_as_told(now + after, RestReason::Failing);
                }
                if is_probe || (self.state == State::Closed && self.failures >= policy.failures) {
                    self.open(policy, now, jitter);
                }
            }
        }
    }

    fn close(&mut self) {
        *self = Self { told: self.told, ..Self::default() };
    }

    /// Lets it be asked again, one call first: somebody saw that it is there.
    pub(crate) fn wake(&mut self, now: Instant) {
        if let State::Open { until } = &mut self.state {
            *until = now.min(*until);
        }
    }

    /// Whether asking the provider for something free may end the rest: not where it is over its limits or has said when to
    /// come back, nor where it refused our key. Who was well and then failed is not believed again until a call has gone well:
    /// else a model that is down behind a list that is not would cost a call at every look.
    pub(crate) fn can_be_vouched_for(&self, now: Instant) -> bool {
        let is_open = matches!(self.state, State::Open { until } if until > now);
        let is_told = self.told.is_some_and(|(told, _)| told > now);
        is_open && !is_told && !self.key_refused && self.vouched != Vouched::Wrongly
    }

    /// The provider was well when it was asked for something free: one call may find out at once whether this is. It is no
    /// more than that, since nothing was generated.
    pub(crate) fn vouch(&mut self, now: Instant) {
        if self.can_be_vouched_for(now) {
            self.vouched = Vouched::Believed;
            self.wake(now);
        }
    }

    /// Whether there is nothing to remember: it is as one that was never asked.
    pub(crate) fn is_untroubled(&self, now: Instant) -> bool {
        self.state == State::Closed && self.failures == 0 && self.told.is_none_or(|(told, _)| told <= now)
    }

    fn rest_as_told(&mut self, until: Instant, why: RestReason) {
        if self.told.is_none_or(|(told, _)| told < until) {
            self.told = Some((until, why));
        }
    }

    fn open(&mut self, policy: &BreakerPolicy, now: Instant, jitter: f64) {
        let rest = policy.rest.saturating_mul(1 << self.rests.min(16)).min(policy.rest_max);
        self.rests = self.rests.saturating_add(1);
        self.state = State::Open { until: now + rest.mul_f64(1.0 + limits::REST_JITTER * jitter) };
    }
}

fn resting(until: Instant, why: RestReason) -> Verdict {
    Verdict::Resting { until, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: BreakerPolicy =
        BreakerPolicy { failures: 3, rest: Duration::from_secs(5), rest_max: Duration::from_secs(15) };
    const BAD: Heard = Heard::Bad { after: None, key_refused: false };

    struct Clock(Instant);

    impl Clock {
        fn at(&self, seconds: u64) -> Instant {
            self.0 + Duration::from_secs(seconds)
        }
    }

    fn failing(clock: &Clock, failures: u32) -> Breaker {
        let mut breaker = Breaker::default();
        (0..failures).for_each(|_| breaker.hear(BAD, None, &POLICY, clock.at(0), 0.0));
        breaker
    }

    #[test]
    fn it_opens_after_so_many_failures_in_a_row_and_no_sooner() {
        let clock = Clock(Instant::now());
        assert_eq!(failing(&clock, 2).verdict(clock.at(0)), Verdict::Ready);
        let mut breaker = failing(&clock, 2);
        breaker.hear(Heard::Good, None, &POLICY, clock.at(0), 0.0);
        breaker.hear(BAD, None, &POLICY, clock.at(0), 0.0);
        assert_eq!(breaker.verdict(clock.at(0)), Verdict::Ready, "a good answer begins the row again");
        let rests = resting(clock.at(5), RestReason::Failing);
        assert_eq!(failing(&clock, 3).verdict(clock.at(4)), rests);
    }

    #[test]
    fn one_call_alone_finds_out_whether_it_is_well() {
        let clock = Clock(Instant::now());
        let mut breaker = failing(&clock, 3);
        assert_eq!(breaker.begin(clock.at(5)), Verdict::Probe);
        let probing = resting(clock.at(5) + limits::RECOVERY_HINT, RestReason::Probing);
        assert_eq!(breaker.begin(clock.at(5)), probing);
        breaker.hear(Heard::Good, Some(clock.at(5)), &POLICY, clock.at(6), 0.0);
        assert_eq!(breaker.verdict(clock.at(6)), Verdict::Ready);
    }

    #[test]
    fn a_failed_probe_doubles_the_rest_up_to_the_longest() {
        let clock = Clock(Instant::now());
        let mut breaker = failing(&clock, 3);
        let mut now = 5;
        for rest in [10, 15, 15] {
            assert_eq!(breaker.begin(clock.at(now)), Verdict::Probe);
            breaker.hear(BAD, Some(clock.at(now)), &POLICY, clock.at(now), 0.0);
            assert_eq!(breaker.verdict(clock.at(now)), resting(clock.at(now + rest), RestReason::Failing));
            now += rest;
        }
    }

    #[test]
    fn a_probe_whose_caller_left_is_tried_again_at_once() {
        let clock = Clock(Instant::now());
        let mut breaker = failing(&clock, 3);
        breaker.begin(clock.at(5));
        breaker.hear(Heard::Nothing, Some(clock.at(5)), &POLICY, clock.at(6), 0.0);
        assert_eq!(breaker.begin(clock.at(6)), Verdict::Probe);
        // One that nobody ever ended does not lock it for good.
        let late = clock.at(6) + limits::RECOVERY_TIME_MAX;
        assert_eq!(breaker.verdict(late), Verdict::Probe);
    }

    #[test]
    fn a_probe_that_took_longer_than_it_is_waited_for_closes_it_by_a_good_answer_alone() {
        let clock = Clock(Instant::now());
        for (heard, expect) in [(Heard::Good, true), (Heard::Alive, true), (BAD, false)] {
            let mut breaker = failing(&clock, 3);
            breaker.begin(clock.at(5));
            let next = clock.at(5) + limits::RECOVERY_TIME_MAX;
            assert_eq!(breaker.begin(next), Verdict::Probe);
            breaker.hear(heard, Some(clock.at(5)), &POLICY, next, 0.0);
            assert_eq!(breaker.verdict(next) == Verdict::Ready, expect, "{heard:?}");
        }
    }

    #[test]
    fn what_the_caller_did_wrong_never_counts_but_shows_that_it_lives() {
        let clock = Clock(Instant::now());
        let mut breaker = failing(&clock, 2);
        (0..100).for_each(|_| breaker.hear(Heard::Alive, None, &POLICY, clock.at(0), 0.0));
        assert_eq!(breaker.verdict(clock.at(0)), Verdict::Ready);
        let mut breaker = failing(&clock, 3);
        breaker.begin(clock.at(5));
        breaker.hear(Heard::Alive, Some(clock.at(5)), &POLICY, clock.at(5), 0.0);
        assert_eq!(breaker.verdict(clock.at(5)), Verdict::Ready);
    }

    #[test]
    fn of_two_deadlines_the_later_one_counts() {
        let clock = Clock(Instant::now());
        let limited = |seconds| Heard::Limited { after: Some(Duration::from_secs(seconds)) };
        let mut breaker = Breaker::default();
        breaker.hear(limited(30), None, &POLICY, clock.at(0), 0.0);
        breaker.hear(limited(10), None, &POLICY, clock.at(0), 0.0);
        assert_eq!(breaker.verdict(clock.at(1)), resting(clock.at(30), RestReason::RateLimited));
        assert_eq!(breaker.verdict(clock.at(30)), Verdict::Ready, "a limit that is over is no failure");
        let mut breaker = failing(&clock, 3);
        breaker.hear(limited(3), None, &POLICY, clock.at(0), 0.0);
        assert_eq!(breaker.verdict(clock.at(1)), resting(clock.at(5), RestReason::Failing));
        breaker.hear(limited(20), None, &POLICY, clock.at(0), 0.0);
        assert_eq!(breaker.verdict(clock.at(1)), resting(clock.at(20), RestReason::RateLimited));
    }

    #[test]
    fn what_began_before_says_nothing_of_what_has_been_since() {
        let clock = Clock(Instant::now());
        let mut breaker = failing(&clock, 3);
        breaker.hear(Heard::Good, None, &POLICY, clock.at(1), 0.0);
        assert_eq!(breaker.verdict(clock.at(1)), resting(clock.at(5), RestReason::Failing));
        // Nor does a probe that took so long that another followed.
        breaker.begin(clock.at(5));
        let late = clock.at(5) + limits::RECOVERY_TIME_MAX;
        assert_eq!(breaker.begin(late), Verdict::Probe);
        breaker.hear(Heard::Nothing, Some(clock.at(5)), &POLICY, late, 0.0);
        assert!(matches!(breaker.verdict(late), Verdict::Resting { .. }), "the second is still out");
    }

    #[test]
    fn a_provider_that_is_well_otherwise_gets_one_call_and_no_more() {
        let clock = Clock(Instant::now());
        let mut breaker = failing(&clock, 3);
        assert!(breaker.can_be_vouched_for(clock.at(1)));
        breaker.vouch(clock.at(1));
        assert!(!breaker.can_be_vouched_for(clock.at(1)), "it may be asked");
        assert_eq!(breaker.begin(clock.at(1)), Verdict::Probe, "half open, not closed");
        assert!(matches!(breaker.begin(clock.at(1)), Verdict::Resting { why: RestReason::Probing, .. }));
        breaker.hear(BAD, Some(clock.at(1)), &POLICY, clock.at(2), 0.0);
        assert_eq!(breaker.verdict(clock.at(2)), resting(clock.at(12), RestReason::Failing), "twice as long");
        assert!(!breaker.can_be_vouched_for(clock.at(3)), "its word was wrong");
        // The rest ends as ever, and a good call makes up for it.
        assert_eq!(breaker.begin(clock.at(12)), Verdict::Probe);
        breaker.hear(Heard::Good, Some(clock.at(12)), &POLICY, clock.at(12), 0.0);
        (0..3).for_each(|_| breaker.hear(BAD, None, &POLICY, clock.at(13), 0.0));
        assert!(breaker.can_be_vouched_for(clock.at(14)));
    }

    #[test]
    fn who_is_over_its_limits_or_refuses_our_key_is_not_vouched_for() {
        let clock = Clock(Instant::now());
        let mut closed = failing(&clock, 2);
        closed.vouch(clock.at(0));
        assert_eq!(closed.verdict(clock.at(0)), Verdict::Ready);
        let mut told = failing(&clock, 3);
        told.hear(Heard::Limited { after: Some(Duration::from_secs(2)) }, None, &POLICY, clock.at(0), 0.0);
        assert!(!told.can_be_vouched_for(clock.at(1)) && told.can_be_vouched_for(clock.at(3)));
        let mut limited = Breaker::default();
        limited.hear(Heard::Limited { after: None }, None, &POLICY, clock.at(0), 0.0);
        assert!(!limited.can_be_vouched_for(clock.at(0)));
        let refused = UpstreamFailure::from_status(401, None, "bad key");
        let mut keyless = Breaker::default();
        (0..3).for_each(|_| keyless.hear(Heard::from(&refused), None, &POLICY, clock.at(0), 0.0));
        keyless.vouch(clock.at(1));
        assert_eq!(keyless.verdict(clock.at(1)), resting(clock.at(5), RestReason::Failing));
    }

    #[test]
    fn a_word_on_when_to_come_back_is_kept_for_an_hour_at_most() {
        let clock = Clock(Instant::now());
        let failure = UpstreamFailure::from_status(503, Some(Duration::from_secs(u64::MAX / 2)), "later");
        let mut breaker = Breaker::default();
        breaker.hear(Heard::from(&failure), None, &POLICY, clock.at(0), 0.0);
        let until = clock.at(0) + limits::RETRY_AFTER_MAX;
        assert_eq!(breaker.verdict(clock.at(1)), resting(until, RestReason::Failing));
    }
}
