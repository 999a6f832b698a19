//! Which models have a strategy of their own, by pattern.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use hoosh_core::pattern::{self, Index};

use super::{BuildFault, Route};
use crate::strategy::Strategy;

/// Strategies by pattern, in a form that finds the one of a name.
#[derive(Debug)]
pub(super) struct Strategies {
    /// Each with its pattern, in the order they were given.
    all: Vec<(Arc<str>, Strategy)>,
    index: Index<usize>,
}

/// The strategies of patterns, and those that routes give theirs. What two say of one is a fault.
pub(super) fn with_routes(
    given: Vec<(String, Strategy)>,
    routes: &[Route],
    faults: &mut Vec<BuildFault>,
) -> Vec<(String, Strategy)> {
    let mut known: HashMap<String, (Strategy, Option<&str>)> =
        given.iter().map(|(pattern, strategy)| (pattern.clone(), (*strategy, None))).collect();
    let mut all = given;
    for route in routes.iter().filter(|route| route.enabled) {
        let Some(strategy) = route.strategy else { continue };
        let every = ["*".to_owned()];
        let patterns = if route.models.is_empty() { &every } else { route.models.as_slice() };
        // A pattern that is none is told with the route.
        for pattern in patterns.iter().filter(|pattern| pattern::fault(pattern).is_none()) {
            match known.get(pattern) {
                None => {
                    known.insert(pattern.clone(), (strategy, Some(&route.provider)));
                    all.push((pattern.clone(), strategy));
                }
                Some((other, by)) if *other != strategy => faults.push(BuildFault::TwoStrategies {
                    pattern: pattern.clone(),
                    provider: route.provider.clone(),
                    strategy,
                    by: by.map(str::to_owned),
                    other: *other,
                }),
                Some(_) => {}
            }
        }
    }
    all
}

impl Strategies {
    pub(super) fn new(given: Vec<(String, Strategy)>, faults: &mut Vec<BuildFault>) -> Self {
        let mut known = HashSet::new();
        for (pattern, _) in &given {
            let taken = !known.insert(pattern.as_str());
            let problem = pattern::fault(pattern).or(taken.then_some("it is given twice"));
            if let Some(problem) = problem {
                faults.push(BuildFault::BadStrategy { pattern: pattern.clone(), problem });
            }
        }
        let all: Vec<(Arc<str>, Strategy)> =
            given.into_iter().map(|(pattern, strategy)| (pattern.into(), strategy)).collect();
        let index = Index::new(all.iter().enumerate().map(|(at, (pattern, _))| (&**pattern, at)));
        Self { all, index }
    }

    /// Whether there is none, which is the usual case.
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The one of the most specific pattern that matches; of equally specific ones the longer counts, then the first.
    pub(super) fn of(&self, name: &str) -> Option<&(Arc<str>, Strategy)> {
        let mut best = None;
        self.index.find(name, |specificity, &at| {
            let found = (specificity, Reverse(self.all[at].0.len()), at);
            best = Some(best.map_or(found, |best| found.min(best)));
        });
        best.map(|(_, _, at)| &self.all[at])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strategies(given: &[(&str, Strategy)]) -> (Strategies, Vec<String>) {
        let mut faults = Vec::new();
        let given = given.iter().map(|&(pattern, strategy)| (pattern.to_owned(), strategy)).collect();
        let strategies = Strategies::new(given, &mut faults);
        (strategies, faults.iter().map(BuildFault::to_string).collect())
    }

    #[test]
    fn the_most_specific_pattern_counts_whatever_the_order() {
        let mut given = [
            ("*", Strategy::RoundRobin),
            ("*-mini", Strategy::LocalFirst),
            ("gpt-?o-*", Strategy::Direct),
            ("gpt-*", Strategy::Cheapest),
            ("gpt-4o*", Strategy::LeastBusy),
            ("gpt-4o", Strategy::Weighted),
        ];
        for _ in 0..given.len() {
            given.rotate_left(1);
            let (strategies, faults) = strategies(&given);
            assert_eq!(faults, [""; 0]);
            for (name, pattern) in [
                ("gpt-4o", "gpt-4o"),
                ("gpt-4o-mini", "gpt-4o*"),
                ("gpt-5-mini", "gpt-*"),
                ("phi-mini", "*-mini"),
                ("llama3", "*"),
            ] {
                let (found, strategy) = strategies.of(name).unwrap();
                assert!(given.contains(&(pattern, *strategy)) && **found == *pattern, "{name}: {found}");
            }
        }
    }

    #[test]
    fn of_globs_that_match_the_same_the_longer_counts_and_then_the_first() {
        let (longer, _) = strategies(&[("*-b", Strategy::Direct), ("?-*-b", Strategy::Cheapest)]);
        assert_eq!(longer.of("x-a-b").unwrap().1, Strategy::Cheapest);
        let (first, _) = strategies(&[("?-b", Strategy::Direct), ("*-b", Strategy::Cheapest)]);
        assert_eq!(first.of("x-b").unwrap().1, Strategy::Direct);
        assert!(first.of("x").is_none());
    }

    #[test]
    fn routes_give_theirs_and_no_pattern_has_two() {
        let route = |provider: &str, models: &[&str], strategy| Route {
            models: models.iter().map(|&model| model.to_owned()).collect(),
            strategy,
            ..Route::to(provider)
        };
        let off = Route { enabled: false, ..route("off", &["llama*"], Some(Strategy::Weighted)) };
        let routes = [
            off,
            route("a", &["llama*", "phi"], Some(Strategy::LeastBusy)),
            route("b", &["llama*"], Some(Strategy::LeastBusy)),
            route("c", &["llama*", "?"], None),
            route("d", &[], Some(Strategy::Cheapest)),
        ];
        let given = vec![("phi".to_owned(), Strategy::LeastBusy), ("gpt-*".to_owned(), Strategy::Direct)];
        let mut faults = Vec::new();
        let all = Strategies::new(with_routes(given, &routes, &mut faults), &mut faults);
        assert_eq!(faults, []);
        let of = |name| all.of(name).unwrap().1;
        assert_eq!(
            (of("llama3"), of("phi"), of("gpt-5")),
            (Strategy::LeastBusy, Strategy::LeastBusy, Strategy::Direct)
        );
        assert_eq!(of("x"), Strategy::Cheapest, "a route of all models speaks of all");

        let given = vec![("phi".to_owned(), Strategy::Direct)];
        let other = [routes[1].clone(), route("e", &["llama*"], Some(Strategy::Direct))];
        with_routes(given, &other, &mut faults);
        let told: Vec<String> = faults.iter().map(BuildFault::to_string).collect();
        assert_eq!(
            told,
            [
                "the route to `a` orders `phi` by `least_busy`, its own entry by `direct`; a model is ordered by one",
                "the route to `e` orders `llama*` by `direct`, the one to `a` by `least_busy`; a model is ordered by one",
            ]
        );
    }

    #[test]
    fn what_is_no_pattern_or_given_twice_is_refused() {
        let given = [("llama[12]", Strategy::Direct), ("a*", Strategy::Direct), ("a*", Strategy::Cheapest)];
        let (_, faults) = strategies(&given);
        assert_eq!(
            faults,
            [
                "strategy for `llama[12]`: only `*` (any text) and `?` (one character) are special in a pattern",
                "strategy for `a*`: it is given twice",
            ]
        );
    }
}
