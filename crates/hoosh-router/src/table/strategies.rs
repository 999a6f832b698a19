//! Which models have a strategy of their own, by pattern.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::sync::Arc;

use hoosh_core::pattern::{self, Index};

use super::BuildFault;
use crate::strategy::Strategy;

/// Strategies by pattern, in a form that finds the one of a name.
#[derive(Debug)]
pub(super) struct Strategies {
    /// Each with its pattern, in the order they were given.
    all: Vec<(Arc<str>, Strategy)>,
    index: Index<usize>,
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
