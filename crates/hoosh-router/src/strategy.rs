//! In which order those who can answer are asked.
//!
//! One function per strategy, each a pure reordering. Who can answer is the table's to say.

use std::fmt;
use std::str::FromStr;

use crate::pattern::Specificity;

/// How the order within one priority comes about.
///
/// A lower priority number always goes first, and targets of an alias keep their order, whatever the strategy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// The more specific pattern first (a whole name, then the longer prefix, then other globs, then `*`), then the
    /// order of the configuration. The default: what is written is what happens.
    #[default]
    Priority,
    /// As [`Priority`](Self::Priority), but those of equal priority take turns at being first, `*` routes too: give a
    /// provider of last resort a priority of its own.
    RoundRobin,
}

/// Whose turn it is; how often the same name was planned before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Turn(pub u64);

/// A word that names no strategy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a routing strategy; there are `priority` and `round_robin`")]
pub struct UnknownStrategy(pub String);

/// A rule that matches a name, with all that ranking looks at. The order of its fields is the order of candidates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    /// Place of the alias's target; 0 without an alias.
    pub(crate) target: usize,
    pub(crate) priority: u32,
    pub(crate) specificity: Specificity,
    /// Place of the rule in the configuration.
    pub(crate) rule: usize,
    pub(crate) provider: usize,
    /// Which of the names that the query stands for.
    pub(crate) model: usize,
    /// Which pattern matched; `None` if the provider was named.
    pub(crate) pattern: Option<usize>,
}

// === impl Strategy ===

impl Strategy {
    /// Its name in configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Priority => "priority",
            Self::RoundRobin => "round_robin",
        }
    }

    /// Puts candidates in order.
    pub(crate) fn rank(self, entries: &mut [Entry], turn: Turn) {
        match self {
            Self::Priority => by_priority(entries),
            Self::RoundRobin => round_robin(entries, turn),
        }
    }
}

fn by_priority(entries: &mut [Entry]) {
    entries.sort_unstable();
}

fn round_robin(entries: &mut [Entry], Turn(turn): Turn) {
    by_priority(entries);
    let equals = |a: &Entry, b: &Entry| (a.target, a.priority) == (b.target, b.priority);
    for group in entries.chunk_by_mut(equals) {
        let first = turn % group.len() as u64;
        group.rotate_left(first as usize);
    }
}

impl FromStr for Strategy {
    type Err = UnknownStrategy;

    /// Reads a name whatever its case and separators: `round_robin`, `round-robin`, `roundrobin`, `RoundRobin`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain: String =
            text.chars().filter(|c| !matches!(c, '_' | '-' | ' ')).map(|c| c.to_ascii_lowercase()).collect();
        match plain.as_str() {
            "priority" => Ok(Self::Priority),
            "roundrobin" => Ok(Self::RoundRobin),
            _ => Err(UnknownStrategy(text.to_owned())),
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strategies_are_read_in_any_spelling() {
        for (text, strategy) in [
            ("priority", Strategy::Priority),
            ("round_robin", Strategy::RoundRobin),
            ("round-robin", Strategy::RoundRobin),
            ("roundrobin", Strategy::RoundRobin),
            ("RoundRobin", Strategy::RoundRobin),
        ] {
            assert_eq!(text.parse(), Ok(strategy));
            assert_eq!(strategy.as_str().parse(), Ok(strategy));
        }
        assert_eq!("random".parse::<Strategy>(), Err(UnknownStrategy("random".into())));
    }

    #[test]
    fn a_turn_rotates_each_group_by_itself() {
        let entry = |rule, target, priority| Entry {
            target,
            priority,
            specificity: Specificity::Any,
            rule,
            provider: rule,
            model: 0,
            pattern: None,
        };
        let all =
            [entry(0, 0, 1), entry(1, 0, 1), entry(2, 0, 1), entry(3, 0, 2), entry(4, 1, 1), entry(5, 1, 1)];
        for (turn, expect) in [
            (0, [0, 1, 2, 3, 4, 5]),
            (1, [1, 2, 0, 3, 5, 4]),
            (2, [2, 0, 1, 3, 4, 5]),
            (u64::MAX, [0, 1, 2, 3, 5, 4]),
        ] {
            let mut entries = all;
            Strategy::RoundRobin.rank(&mut entries, Turn(turn));
            assert_eq!(entries.map(|entry| entry.rule), expect, "turn {turn}");
        }
    }
}
