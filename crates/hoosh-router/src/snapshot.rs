//! What was known of endpoints at one moment, kept or written down, so that a plan can be made by it again.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use hoosh_core::limits;

use crate::breaker::{RestReason, Verdict};
use crate::plan::{Plan, Seen};

/// What was known of endpoints at one moment.
///
/// An endpoint that is not in it is as one that was never asked: idle, of unknown times, and not let alone.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// By provider, then by model.
    endpoints: HashMap<String, HashMap<String, Known>>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    seen: Seen,
    rest: Option<(Duration, RestReason)>,
}

// === impl Snapshot ===

impl Snapshot {
    /// What was known of those who are in a plan.
    pub fn of(plan: &Plan) -> Self {
        let mut snapshot = Self::default();
        for one in &plan.candidates {
            snapshot.insert(one.provider.name(), &one.model, one.seen, None);
        }
        for resting in &plan.resting {
            let (one, rest) = (&resting.candidate, (resting.rest, resting.why));
            snapshot.insert(one.provider.name(), &one.model, one.seen, Some(rest));
        }
        snapshot
    }

    /// Adds a model of a provider: what was seen of it, and for how long and why it was let alone, if it was.
    pub fn insert(&mut self, provider: &str, model: &str, seen: Seen, rest: Option<(Duration, RestReason)>) {
        let models = self.endpoints.entry(provider.to_owned()).or_default();
        models.insert(model.to_owned(), Known { seen, rest });
    }

    pub(crate) fn see(&self, provider: &str, model: &str, now: Instant) -> (Seen, Verdict) {
        let known = self.endpoints.get(provider).and_then(|models| models.get(model));
        let Some(Known { seen, rest }) = known else { return (Seen::default(), Verdict::Ready) };
        let verdict = rest.map_or(Verdict::Ready, |(rest, why)| {
            // One that no clock can hold was written by hand.
            let until = now.checked_add(rest).unwrap_or(now + limits::RETRY_AFTER_MAX);
            Verdict::Resting { until, why }
        });
        (*seen, verdict)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hoosh_core::{FailureKind, LlmProvider, ProviderType, UpstreamFailure};

    use super::*;
    use crate::plan::Query;
    use crate::random::Seed;
    use crate::router::Router;
    use crate::scripted::Scripted;
    use crate::strategy::{Moment, Strategy, Turn};
    use crate::table::{Canary, Group, Member, Route};

    /// Two here and two elsewhere, for all models, some of equal priority.
    fn router() -> Router {
        let local = |name| Scripted::new(name, []) as Arc<dyn LlmProvider>;
        let remote = Scripted::elsewhere;
        let member = |(model, weight): (&str, u32)| Member { model: model.to_owned(), weight };
        let group = Group {
            members: [("gpt-4o", 3), ("gpt-4o-mini", 1)].map(member).into(),
            strategy: Some(Strategy::LeastBusy),
            canary: Some(Canary { model: "b/new".to_owned(), percent: 30.0 }),
        };
        let route = |name: &str, weight| Route { weight, priority: 1, ..Route::to(name) };
        Router::builder()
            .provider(local("a"))
            .provider(remote("b", ProviderType::OpenAi))
            .provider(remote("c", ProviderType::OpenRouter))
            .provider(local("d"))
            .route(route("a", 1))
            .route(route("b", 5))
            .route(route("c", 2))
            .alias("fast", ["gpt-4o-mini", "b/gpt-4o"])
            .group("group", group)
            .build()
            .unwrap()
    }

    /// Calls that end, fail, are limited or go on at endpoints taken by chance; the attempts that go on are given back.
    fn live(router: &Router, start: Instant, seed: Seed) -> Vec<crate::health::Attempt> {
        let mut open = Vec::new();
        for call in 0..seed.with(1).below(120) as u64 {
            let (seed, now) = (seed.with(2).with(call), start + Duration::from_millis(50 * call));
            let model = ["gpt-4o", "gpt-4o-mini", "new"][seed.with(3).below(3)];
            let all = router.candidates(model);
            let Ok(mut attempt) = router.begin(&all[seed.with(4).below(all.len())], seed, now) else {
                continue;
            };
            let later = now + Duration::from_micros(seed.with(5).below(9_000_000) as u64);
            match seed.with(6).below(5) {
                0 => open.push(attempt),
                1 => attempt.succeed(later),
                2 => {
                    attempt.first_output(later);
                    attempt.succeed(later + Duration::from_micros(seed.with(7).below(9_000_000) as u64));
                }
                3 => attempt.fail(&UpstreamFailure::new(FailureKind::Connect, "refused"), now),
                _ if seed.with(8).below(4) == 0 => {
                    attempt
                        .fail(&UpstreamFailure::from_status(429, Some(Duration::from_secs(9)), "slow"), now);
                }
                _ => {}
            }
        }
        if seed.with(9).below(4) == 0 {
            (0..3).for_each(|_| router.health().heartbeat("d", false, start));
        }
        open
    }

    #[test]
    fn a_plan_made_again_by_what_was_known_is_the_same_in_any_state_and_by_any_strategy() {
        let (mut plans, mut others, mut rested) = (0, 0, 0);
        let start = Instant::now();
        for round in 0..150 {
            let (seed, router, idle) = (Seed(7).with(round), router(), router());
            let _open = live(&router, start, seed);
            for strategy in Strategy::ALL {
                for model in ["gpt-4o", "gpt-4o-mini", "b/new", "fast", "group"] {
                    let seed = seed.with(plans);
                    let conversation = (seed.with(0).below(3) == 0).then(|| seed.with(1));
                    let moment =
                        Moment { now: start + Duration::from_secs(6), turn: Turn(plans), seed: seed.with(2) };
                    let query = Query { model, conversation, prompt_tokens: Some(900), ..Query::default() };
                    let made = router.table().plan(&query, strategy, &moment).unwrap();
                    // Another time, and a table that knows nothing.
                    let later = Moment { now: start + Duration::from_secs(3_600), ..moment };
                    let known = Snapshot::of(&made);
                    let again = idle.table().replay(&query, strategy, &later, &known, None).unwrap();
                    assert_eq!(again.to_string(), made.to_string(), "{strategy} {query:?} {moment:?}");
                    let seen = |plan: &Plan| plan.candidates.iter().map(|one| one.seen).collect::<Vec<_>>();
                    assert_eq!(seen(&again), seen(&made));
                    plans += 1;
                    rested += usize::from(!made.resting.is_empty());
                    let without = idle.table().plan(&query, strategy, &later).unwrap();
                    others += usize::from(without.to_string() != made.to_string());
                }
            }
        }
        assert!(
            others > 1_000 && rested > 500,
            "what was known hardly mattered: {others}, {rested} of {plans}"
        );
    }

    #[test]
    fn a_rest_that_no_clock_can_hold_is_a_rest() {
        let mut snapshot = Snapshot::default();
        snapshot.insert("a", "m", Seen::default(), Some((Duration::MAX, RestReason::RateLimited)));
        let (_, verdict) = snapshot.see("a", "m", Instant::now());
        assert!(matches!(verdict, Verdict::Resting { why: RestReason::RateLimited, .. }));
        assert_eq!(snapshot.see("a", "n", Instant::now()), (Seen::default(), Verdict::Ready));
    }
}
