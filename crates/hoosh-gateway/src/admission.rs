//! How fast callers may ask and providers be asked: taken before anything is spent, corrected by what it took.
//!
//! A call is let in once, by the limits of its caller; what the gateway asks for its sake, for the cache or a summary, is no
//! second one. Whoever is asked has limits of its own, for every attempt. The arithmetic is [`hoosh_budget::rate`]'s; here is
//! which names a call has, what it is taken for, and when that ends.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use hoosh_budget::keys::Pattern;
use hoosh_budget::rate::{Admission, Gate, Limits, RateLimits, RateRefusal, ResetText, Standing, Standings};
use hoosh_core::dialect::{Dialect, Operation};
use hoosh_core::limits::ANSWER_TOKENS_ESTIMATE;
use hoosh_core::{FailureKind, Fault, HooshError, Limited, Refusal, Retry, UpstreamFailure, Usage};
use hoosh_router::{Candidate, Objection, PassedOver};
use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use tokio::time::Instant;

use crate::call::Call;
use crate::needs;
use crate::settle::{CallRecord, Outcome};

/// The code of a refusal by a rate limit.
pub(crate) const RATE_LIMITED: &str = "rate_limit_exceeded";

/// The limits that there are, and how far they are used.
#[derive(Clone)]
pub(crate) struct Admissions {
    used: Arc<RateLimits>,
    callers: Arc<Limits>,
    providers: Arc<HashMap<String, Limits>>,
}

/// A call's part in the limits of who is asked.
#[derive(Debug, Default)]
pub(crate) struct Share(Option<Box<Admission>>);

/// A call's part in the limits of its caller and of who answers it, until its end.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    caller: Option<Box<Admission>>,
    provider: Option<Box<Admission>>,
}

/// What a limit is of, in the names of headers, and where a name stands in it.
type Measured<'a> = (&'a str, Option<Standing>);

// === impl Admissions ===

impl Admissions {
    pub(crate) fn new(used: Arc<RateLimits>, callers: Limits, providers: HashMap<String, Limits>) -> Self {
        Self { used, callers: Arc::new(callers), providers: Arc::new(providers) }
    }

    /// How far the limits are used, to go on from.
    pub(crate) fn used(&self) -> &Arc<RateLimits> {
        &self.used
    }

    /// Lets a call in by the limits of its caller. `None`: it has none, or is part of one that was let in.
    ///
    /// # Errors
    ///
    /// [`HooshError::Limited`].
    pub(crate) fn admit(&self, call: &Call) -> Result<Option<Box<Admission>>, HooshError> {
        let own = call.grant().map(|grant| &grant.limits).filter(|limits| !limits.are_none());
        if own.is_none() && self.callers.are_none() || call.is_inner() {
            return Ok(None);
        }
        let merged = own.map(|own| own.over(&self.callers));
        let limits = merged.as_ref().unwrap_or(&self.callers);
        let admitted = self.take(&format!("caller:{}", call.caller), limits, call);
        let admitted = admitted.map_err(|refusal| {
            Box::new(Limited {
                message: refusal.to_string(),
                retry_after: refusal.retry_after_secs().map(Duration::from_secs),
                headers: told(call.dialect, HeaderMap::new(), &refusal.standings),
            })
        });
        Ok(admitted.map(|admission| Some(Box::new(admission)))?)
    }

    /// Takes a call's part in the limits of a candidate that is about to be asked.
    ///
    /// # Errors
    ///
    /// If it is over them; another provider may answer. Its health is none the worse for it, since the limits are ours.
    pub(crate) fn ask(&self, candidate: &Candidate, call: &Call) -> Result<Share, UpstreamFailure> {
        let provider = candidate.provider.name();
        let Some(limits) = self.providers.get(provider) else { return Ok(Share::default()) };
        match self.take(&format!("provider:{provider}"), limits, call) {
            Ok(admission) => Ok(Share(Some(Box::new(admission)))),
            Err(refusal) => Err(refused(&refusal).at(provider)),
        }
    }

    fn take(&self, name: &str, limits: &Limits, call: &Call) -> Result<Admission, Box<RateRefusal>> {
        self.used.admit(&[Gate { name, limits }], tokens(call), Instant::now().into_std())
    }
}

/// Whether a call's key lets it name the model. What the gateway asks for its sake is the configuration's choice.
///
/// # Errors
///
/// The refusal, with what it may name.
pub(crate) fn check(call: &Call) -> Result<(), Refusal> {
    let Some(grant) = call.grant().filter(|grant| !call.is_inner() && !grant.allows_model(&call.head.model))
    else {
        return Ok(());
    };
    Err(not_allowed(format!(
        "the key may not ask for `{}`; it may ask for {}",
        call.head.model,
        listed(&grant.models)
    )))
}

/// Whether a call's key lets this provider answer.
pub(crate) fn allows(call: &Call, candidate: &Candidate) -> bool {
    call.grant().is_none_or(|grant| grant.allows_provider(candidate.provider.name()))
}

/// The refusal of a call whose key allows none of those who could answer. `None`: it is not for that alone that nobody can.
pub(crate) fn none_allowed(call: &Call, passed_over: &[PassedOver]) -> Option<Refusal> {
    let grant = call.grant().filter(|grant| !grant.providers.is_empty())?;
    let is_for_that = |passed: &PassedOver| matches!(passed.why, Objection::NotAllowed | Objection::Disabled);
    let is_refused = passed_over.iter().any(|passed| passed.why == Objection::NotAllowed);
    (is_refused && passed_over.iter().all(is_for_that)).then(|| {
        let (model, may) = (&call.head.model, listed(&grant.providers));
        not_allowed(format!("`{model}` is at no provider that the key allows; it allows {may}"))
    })
}

fn not_allowed(reason: String) -> Refusal {
    Refusal { guard: "not_allowed".to_owned(), reason }
}

fn listed(patterns: &[Pattern]) -> String {
    let shown: Vec<String> = patterns.iter().map(|pattern| format!("`{}`", pattern.as_str())).collect();
    shown.join(", ")
}

/// What a call is taken for until it is known: its body's length by four, and of an answer what it may have at most.
fn tokens(call: &Call) -> u64 {
    match call.dialect.operation() {
        // Nothing is generated, nor charged.
        Operation::Counting => 0,
        Operation::Inference => needs::prompt_estimate(call)
            .saturating_add(call.head.max_tokens.unwrap_or(ANSWER_TOKENS_ESTIMATE)),
        _ => needs::prompt_estimate(call),
    }
}

fn refused(refusal: &RateRefusal) -> UpstreamFailure {
    let retry = match refusal.retry_after {
        Some(after) => Retry::Anywhere { after: Some(after) },
        None => Retry::Elsewhere,
    };
    UpstreamFailure {
        fault: Fault::Caller,
        retry,
        code: Some(RATE_LIMITED.to_owned()),
        ..UpstreamFailure::new(FailureKind::RateLimited, refusal.to_string())
    }
}

// === impl Share ===

impl Share {
    /// Who was asked failed: it was asked once more, and no token was paid for.
    pub(crate) fn give_back(&mut self) {
        settle(&mut self.0, Some(0));
    }

    /// For the one who settles it.
    pub(crate) fn take(&mut self) -> Self {
        std::mem::take(self)
    }
}

// === impl Shares ===

impl Shares {
    /// The call was let in.
    pub(crate) fn let_in(&mut self, admission: Option<Box<Admission>>) {
        self.caller = admission;
    }

    /// Somebody answers.
    pub(crate) fn answered_by(&mut self, share: Share) {
        self.provider = share.0;
    }

    /// The stream of who answers broke after so much.
    pub(crate) fn broke(&mut self, usage: Option<Usage>) {
        settle(&mut self.provider, usage.map(total));
    }

    /// The headers that tell where the caller stands: those of the provider, and ours in their place.
    pub(crate) fn told(&self, dialect: Dialect, provider: HeaderMap) -> HeaderMap {
        match &self.caller {
            None => provider,
            Some(admission) => told(dialect, provider, &admission.standings()),
        }
    }

    /// The call is over: its limits take what it took. Where that is not known they keep what it was taken for.
    pub(crate) fn settle(&mut self, record: &CallRecord) {
        if self.caller.is_none() && self.provider.is_none() {
            return;
        }
        // What is given again was paid for before, and a failure is paid for by nobody.
        let is_free = record.attempts == 0
            || record.cache.is_again()
            || record.usage.is_none() && matches!(record.outcome, Outcome::Failed(_));
        let own = if is_free { Some(0) } else { record.usage.map(total) };
        let legs = record.legs.iter().filter_map(|leg| leg.usage).map(total);
        settle(&mut self.caller, own.map(|own| legs.fold(own, u64::saturating_add)));
        settle(&mut self.provider, own);
    }
}

fn settle(admission: &mut Option<Box<Admission>>, tokens: Option<u64>) {
    let Some(mut admission) = admission.take() else { return };
    if let Some(tokens) = tokens {
        admission.correct(tokens, Instant::now().into_std());
    }
}

fn total(usage: Usage) -> u64 {
    usage.prompt_total().saturating_add(usage.completion_total())
}

/// A provider's headers about limits with ours in their place: what both limit, ours say, since theirs are for all callers.
fn told(dialect: Dialect, provider: HeaderMap, standings: &Standings) -> HeaderMap {
    let measured: [Measured<'_>; 2] = [("requests", standings.requests), ("tokens", standings.tokens)];
    let is_ours = |name: &HeaderName| {
        measured.iter().any(|(measure, standing)| standing.is_some() && name.as_str().contains(measure))
    };
    let mut headers: HeaderMap = provider.iter().filter(|(name, _)| !is_ours(name)).map(owned).collect();
    let is_anthropic = matches!(dialect, Dialect::Anthropic | Dialect::AnthropicCount);
    for (measure, standing) in measured {
        let Some(Standing { limit, remaining, reset }) = standing else { continue };
        let mut put = |name: String, value: String| {
            // Both are made of letters, digits and a few signs.
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                headers.insert(name, value);
            }
        };
        put(format!("x-ratelimit-limit-{measure}"), limit.to_string());
        put(format!("x-ratelimit-remaining-{measure}"), remaining.to_string());
        put(format!("x-ratelimit-reset-{measure}"), ResetText(reset).to_string());
        if is_anthropic {
            put(format!("anthropic-ratelimit-{measure}-limit"), limit.to_string());
            put(format!("anthropic-ratelimit-{measure}-remaining"), remaining.to_string());
            let at = Timestamp::now().checked_add(reset).ok();
            let whole = at.and_then(|at| Timestamp::from_second(at.as_second().saturating_add(1)).ok());
            put(format!("anthropic-ratelimit-{measure}-reset"), whole.unwrap_or(Timestamp::MAX).to_string());
        }
    }
    headers
}

fn owned((name, value): (&HeaderName, &HeaderValue)) -> (HeaderName, HeaderValue) {
    (name.clone(), value.clone())
}

#[cfg(test)]
mod tests {
    use hoosh_budget::keys::{Grant, KeyId, KeyRecord};
    use hoosh_budget::rate::{Measure, Period, Rate};
    use std::num::NonZeroU64;

    use super::*;
    use crate::call::{CallerId, RequestId};

    fn per_minute(measure: Measure, amount: u64) -> Limits {
        let rate = Rate::per(measure, NonZeroU64::new(amount).unwrap(), Period::Minute);
        Limits::new(vec![rate], None).unwrap()
    }

    fn call(body: &str) -> Call {
        let caller = CallerId::new("key-1");
        Call::read(RequestId::new(), caller, Dialect::OpenAiChat, body.to_owned().into()).unwrap()
    }

    fn key(grant: Grant) -> Arc<KeyRecord> {
        let id = KeyId::new("k_1");
        Arc::new(KeyRecord {
            prefix: "hoosh_1".into(),
            name: "ci".into(),
            created: Timestamp::UNIX_EPOCH,
            expires: None,
            revoked: None,
            rotated_from: None,
            booked_as: id.clone(),
            last_used: None,
            grant,
            id,
        })
    }

    #[test]
    fn a_key_names_the_models_it_may() {
        let models = vec![Pattern::parse("models", "llama*").unwrap()];
        let mut call = call(r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}]}"#);
        assert_eq!(check(&call), Ok(()));
        call.key = Some(key(Grant { models, ..Grant::inference() }));
        let refused = check(&call).unwrap_err();
        assert_eq!(refused.reason, "the key may not ask for `gpt-4o`; it may ask for `llama*`");
        call.head.model = "llama3".into();
        assert_eq!(check(&call), Ok(()));
    }

    fn admissions(limits: Limits) -> Admissions {
        Admissions::new(Arc::default(), limits, HashMap::new())
    }

    #[test]
    fn a_caller_is_let_in_until_it_is_over_its_limit_and_told_where_it_stands() {
        let admissions = admissions(per_minute(Measure::Requests, 2));
        let call = call(r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#);
        let mut shares = Shares::default();
        shares.let_in(admissions.admit(&call).unwrap());
        let told = shares.told(Dialect::OpenAiChat, HeaderMap::new());
        assert_eq!(told["x-ratelimit-limit-requests"], "2");
        assert_eq!(told["x-ratelimit-remaining-requests"], "1");
        let _second = admissions.admit(&call).unwrap();
        let Err(HooshError::Limited(limited)) = admissions.admit(&call) else { panic!("it was let in") };
        assert!(limited.message.starts_with("`caller:key-1` may have 2 requests per minute"), "{limited}");
        assert!(limited.retry_after.is_some_and(|after| after <= Duration::from_secs(30)));
        assert_eq!(limited.headers["x-ratelimit-remaining-requests"], "0");
    }

    #[test]
    fn a_grants_own_limits_are_in_place_of_those_of_all() {
        let admissions = admissions(per_minute(Measure::Requests, 1));
        let mut call = call(r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#);
        call.key = Some(key(Grant { limits: per_minute(Measure::Requests, 2), ..Grant::inference() }));
        let _both = [admissions.admit(&call).unwrap(), admissions.admit(&call).unwrap()];
        assert!(admissions.admit(&call).is_err());
        // And what the gateway asks for the sake of a call is none of the caller's.
        call.is_for_cache = true;
        assert!(admissions.admit(&call).unwrap().is_none());
    }

    #[test]
    fn a_call_is_taken_for_its_bytes_and_its_answer() {
        let messages = r#""messages":[{"role":"user","content":"0123456789"}]"#;
        let plain = format!(r#"{{"model":"m",{messages}}}"#);
        assert_eq!(tokens(&call(&plain)), plain.len() as u64 / 4 + ANSWER_TOKENS_ESTIMATE);
        let bounded = format!(r#"{{"model":"m","max_tokens":7,{messages}}}"#);
        assert_eq!(tokens(&call(&bounded)), bounded.len() as u64 / 4 + 7);
    }

    #[test]
    fn ours_are_told_in_place_of_the_providers() {
        let provider = [
            ("x-ratelimit-limit-requests", "9"),
            ("x-ratelimit-reset-requests", "1s"),
            ("anthropic-ratelimit-requests-limit", "9"),
            ("x-ratelimit-limit-tokens", "90"),
        ];
        let provider = provider
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .into_iter()
            .collect();
        let standing = Standing { limit: 5, remaining: 3, reset: Duration::from_millis(1_500) };
        let told = told(Dialect::Anthropic, provider, &Standings { requests: Some(standing), tokens: None });
        assert_eq!(told["x-ratelimit-limit-requests"], "5");
        assert_eq!(told["x-ratelimit-reset-requests"], "1.5s");
        assert_eq!(told["anthropic-ratelimit-requests-limit"], "5");
        assert_eq!(told["anthropic-ratelimit-requests-remaining"], "3");
        let reset: Timestamp = told["anthropic-ratelimit-requests-reset"].to_str().unwrap().parse().unwrap();
        assert!(reset > Timestamp::now());
        assert_eq!(told["x-ratelimit-limit-tokens"], "90");
    }
}
