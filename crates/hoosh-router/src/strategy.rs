//! In which order those who can answer are asked.
//!
//! One function per strategy, each a pure reordering by what is known at the moment. Who can answer is the table's to say.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use hoosh_core::pattern::Specificity;

use crate::breaker::Verdict;
use crate::plan::Seen;
use crate::random::Seed;

/// How the order within one priority comes about.
///
/// A lower priority number always goes first, and targets of an alias keep their order unless the alias is a group with a
/// strategy of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// The more specific pattern first (a whole name, then the longer prefix, then other globs, then `*`), then the
    /// order of the configuration. The default: what is written is what happens.
    #[default]
    Priority,
    /// As [`Priority`](Self::Priority), but those of equal priority take turns at being first, `*` routes too: give a
    /// provider of last resort a priority of its own.
    RoundRobin,
    /// By chance, each as often as its weight says.
    Weighted,
    /// The one with the fewest calls under way for its weight, of equals by chance.
    LeastBusy,
    /// Of two taken by chance the one that answers sooner, by its times lately and the calls under way. Looking at two
    /// only keeps all callers from running to the same one at once.
    LowestLatency,
    /// The same by the time until the first output.
    LowestTtft,
    /// The one at which the call costs least at its time; those of unknown price last. What is on this machine costs nothing,
    /// unless the [prices](crate::RouterBuilder::prices) say so.
    Cheapest,
    /// Those on this machine or network first.
    LocalFirst,
    /// As [`Priority`](Self::Priority), and only the first: nobody takes over when it fails.
    Direct,
}

/// Whose turn it is; how often the same name was planned before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Turn(pub u64);

/// When a plan is made, and the chance in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Now.
    pub now: Instant,
    /// Whose turn it is.
    pub turn: Turn,
    /// Where chance begins.
    pub seed: Seed,
}

/// A word that names no strategy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a routing strategy; there are {names}", names = Strategy::names())]
pub struct UnknownStrategy(pub String);

/// A rule that matches a name, with all that ranking by the configuration looks at. The order of its fields is the order of
/// candidates.
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
    /// How often it is taken by chance, beside others.
    pub(crate) weight: u32,
}

/// The same with what is known at the moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Ranked {
    pub(crate) entry: Entry,
    pub(crate) seen: Seen,
    pub(crate) verdict: Verdict,
    /// Nano-dollars; the most where it is not known.
    pub(crate) cost: i64,
    pub(crate) is_local: bool,
    /// Its own number in a conversation, for who sticks to it.
    pub(crate) affinity: Option<Seed>,
}

// === impl Strategy ===

impl Strategy {
    /// All of them, in the order they are documented in.
    pub const ALL: [Self; 9] = [
        Self::Priority,
        Self::RoundRobin,
        Self::Weighted,
        Self::LeastBusy,
        Self::LowestLatency,
        Self::LowestTtft,
        Self::Cheapest,
        Self::LocalFirst,
        Self::Direct,
    ];

    /// Its name in configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Priority => "priority",
            Self::RoundRobin => "round_robin",
            Self::Weighted => "weighted",
            Self::LeastBusy => "least_busy",
            Self::LowestLatency => "lowest_latency",
            Self::LowestTtft => "lowest_ttft",
            Self::Cheapest => "cheapest",
            Self::LocalFirst => "local_first",
            Self::Direct => "direct",
        }
    }

    /// All names, as they stand in a sentence.
    pub fn names() -> String {
        Self::ALL.map(|strategy| format!("`{strategy}`")).join(", ")
    }

    /// Whether chance is in its order: another [`Seed`] may give another one.
    pub fn draws_lots(self) -> bool {
        match self {
            Self::Weighted | Self::LeastBusy | Self::LowestLatency | Self::LowestTtft => true,
            Self::Priority | Self::RoundRobin | Self::Cheapest | Self::LocalFirst | Self::Direct => false,
        }
    }

    /// Whether the configuration and the turn say all that it goes by.
    pub(crate) fn goes_by_the_configuration(self) -> bool {
        matches!(self, Self::Priority | Self::RoundRobin | Self::Direct)
    }

    /// Puts candidates, which are in the order of the configuration, into this one's where nothing else decides.
    pub(crate) fn order(self, all: &mut [Entry], moment: &Moment) {
        if self == Self::RoundRobin {
            let groups = all.chunk_by_mut(|a, b| a.level() == b.level());
            groups.for_each(|group| round_robin(group, moment.turn));
        }
    }

    /// The same by what is known of them.
    pub(crate) fn rank(self, all: &mut [Ranked], moment: &Moment) {
        for group in all.chunk_by_mut(|a, b| a.entry.level() == b.entry.level()) {
            match self {
                Self::Direct => {}
                Self::Priority => {
                    let equals = |a: &Ranked, b: &Ranked| a.entry.specificity == b.entry.specificity;
                    group.chunk_by_mut(equals).for_each(stick);
                }
                // The sort is stable: a conversation stays where it is among those that cost the same, or are here.
                Self::Cheapest => {
                    stick(group);
                    group.sort_by_key(|ranked| ranked.cost);
                }
                Self::LocalFirst => {
                    stick(group);
                    group.sort_by_key(|ranked| !ranked.is_local);
                }
                Self::RoundRobin => {
                    round_robin(group, moment.turn);
                    stick(group);
                }
                Self::Weighted => {
                    weighted(group, moment.seed);
                    stick(group);
                }
                Self::LeastBusy => {
                    least_busy(group, moment.seed);
                    stick(group);
                }
                Self::LowestLatency => {
                    soonest_of_two(group, moment.seed, Seen::latency);
                    stick(group);
                }
                Self::LowestTtft => {
                    soonest_of_two(group, moment.seed, Seen::time_to_first);
                    stick(group);
                }
            }
        }
    }
}

impl Entry {
    /// Those of the same are equals.
    fn level(&self) -> (usize, u32) {
        (self.target, self.priority)
    }
}

fn round_robin<T>(group: &mut [T], Turn(turn): Turn) {
    let first = turn % group.len().max(1) as u64;
    group.rotate_left(first as usize);
}

/// A random order in which each is first as often as its weight says (Efraimidis and Spirakis 2006).
fn weighted(group: &mut [Ranked], seed: Seed) {
    by_key(group, |ranked| lot(seed.with(ranked.entry.rule as u64).with(ranked.entry.model as u64), ranked));
}

/// The lot of one: the smallest wins. A weight of 0 never does before others.
fn lot(seed: Seed, ranked: &Ranked) -> f64 {
    -(1.0 - seed.fraction()).ln() / f64::from(ranked.entry.weight)
}

fn least_busy(group: &mut [Ranked], seed: Seed) {
    weighted(group, seed);
    // A weight of 0 is for when no other can answer, however busy they are.
    group.sort_by_key(|ranked| ranked.entry.weight == 0);
    let weighty = group.partition_point(|ranked| ranked.entry.weight > 0);
    let (group, rest) = group.split_at_mut(weighty);
    by_key(group, |ranked| ranked.seen.in_flight() as f64 / f64::from(ranked.entry.weight));
    by_key(rest, |ranked| ranked.seen.in_flight() as f64);
}

fn soonest_of_two(group: &mut [Ranked], seed: Seed, time: impl Fn(&Seen) -> Option<Duration>) {
    if group.len() < 2 {
        return;
    }
    // What is not known yet counts as instant, so that it gets known.
    let load = |ranked: &Ranked| {
        time(&ranked.seen).unwrap_or_default().as_secs_f64() * (ranked.seen.in_flight() + 1) as f64
    };
    let one = seed.below(group.len());
    let other = (one + 1 + seed.with(1).below(group.len() - 1)) % group.len();
    let better = if load(&group[other]) < load(&group[one]) { other } else { one };
    group.swap(0, better);
    // Who takes over when it fails is a question of time alone.
    by_key(&mut group[1..], load);
}

/// The candidate that a conversation belongs to goes first (rendezvous hashing, so that one that goes away moves only its
/// own conversations).
fn stick(group: &mut [Ranked]) {
    let lots = group.iter().enumerate().filter_map(|(at, ranked)| Some((at, lot(ranked.affinity?, ranked))));
    if let Some((at, _)) = lots.min_by(|(_, a), (_, b)| a.total_cmp(b)) {
        group[..=at].rotate_right(1);
    }
}

/// A stable sort by a number.
fn by_key(group: &mut [Ranked], key: impl Fn(&Ranked) -> f64) {
    group.sort_by(|a, b| key(a).total_cmp(&key(b)));
}

impl FromStr for Strategy {
    type Err = UnknownStrategy;

    /// Reads a name whatever its case and separators: `round_robin`, `round-robin`, `roundrobin`, `RoundRobin`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = |text: &str| -> String {
            text.chars().filter(|c| !matches!(c, '_' | '-' | ' ')).map(|c| c.to_ascii_lowercase()).collect()
        };
        let wanted = plain(text);
        let found = Self::ALL.into_iter().find(|strategy| plain(strategy.as_str()) == wanted);
        found.ok_or_else(|| UnknownStrategy(text.to_owned()))
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

    fn ranked(rule: usize, target: usize, priority: u32) -> Ranked {
        let entry = Entry {
            target,
            priority,
            specificity: Specificity::Any,
            rule,
            provider: rule,
            model: 0,
            pattern: None,
            weight: 1,
        };
        let (seen, verdict) = (Seen::default(), Verdict::Ready);
        Ranked { entry, seen, verdict, cost: i64::MAX, is_local: false, affinity: None }
    }

    fn moment(turn: u64, seed: u64) -> Moment {
        Moment { now: Instant::now(), turn: Turn(turn), seed: Seed(0).with(seed) }
    }

    fn order(strategy: Strategy, all: &[Ranked], moment: &Moment) -> Vec<usize> {
        let mut all = all.to_vec();
        strategy.rank(&mut all, moment);
        all.iter().map(|ranked| ranked.entry.rule).collect()
    }

    /// How often each is first in so many plans.
    fn firsts<const N: usize>(strategy: Strategy, all: &[Ranked; N], plans: u64) -> [u64; N] {
        let mut firsts = [0; N];
        (0..plans).for_each(|plan| firsts[order(strategy, all, &moment(plan, plan))[0]] += 1);
        firsts
    }

    #[test]
    fn a_weight_of_zero_is_for_when_no_other_can() {
        let mut all = [ranked(0, 0, 0), ranked(1, 0, 0), ranked(2, 0, 0)];
        (all[0].entry.weight, all[1].seen) = (0, Seen::new(90, None, None));
        for strategy in [Strategy::LeastBusy, Strategy::Weighted] {
            assert_eq!(firsts(strategy, &all, 50)[0], 0, "{strategy}");
        }
        assert_eq!(order(Strategy::LeastBusy, &all, &moment(0, 0)), [2, 1, 0]);
    }

    #[test]
    fn strategies_are_read_in_any_spelling() {
        for strategy in Strategy::ALL {
            assert_eq!(strategy.as_str().parse(), Ok(strategy));
        }
        for text in ["round_robin", "round-robin", "roundrobin", "RoundRobin"] {
            assert_eq!(text.parse(), Ok(Strategy::RoundRobin));
        }
        let error = "random".parse::<Strategy>().unwrap_err().to_string();
        assert!(
            error.starts_with("`random` is not a routing strategy; there are `priority`, `round_robin`"),
            "{error}"
        );
    }

    #[test]
    fn a_turn_rotates_each_group_by_itself() {
        let all = [
            ranked(0, 0, 1),
            ranked(1, 0, 1),
            ranked(2, 0, 1),
            ranked(3, 0, 2),
            ranked(4, 1, 1),
            ranked(5, 1, 1),
        ];
        for (turn, expect) in [
            (0, [0, 1, 2, 3, 4, 5]),
            (1, [1, 2, 0, 3, 5, 4]),
            (2, [2, 0, 1, 3, 4, 5]),
            (u64::MAX, [0, 1, 2, 3, 5, 4]),
        ] {
            assert_eq!(order(Strategy::RoundRobin, &all, &moment(turn, 0)), expect, "turn {turn}");
        }
    }

    #[test]
    fn shares_are_as_the_weights_say() {
        let mut all = [ranked(0, 0, 1), ranked(1, 0, 1), ranked(2, 0, 1)];
        for (ranked, weight) in all.iter_mut().zip([7, 2, 1]) {
            ranked.entry.weight = weight;
        }
        let firsts = firsts(Strategy::Weighted, &all, 10_000);
        for (first, expect) in firsts.into_iter().zip([7_000_u64, 2_000, 1_000]) {
            assert!(first.abs_diff(expect) < 200, "{firsts:?}");
        }
    }

    #[test]
    fn one_of_no_weight_is_asked_only_after_all_others() {
        let mut all = [ranked(0, 0, 1), ranked(1, 0, 1)];
        all[0].entry.weight = 0;
        assert_eq!(firsts(Strategy::Weighted, &all, 1_000), [0, 1_000]);
    }

    #[test]
    fn the_least_busy_for_its_weight_is_first_and_equals_share() {
        let mut all = [ranked(0, 0, 1), ranked(1, 0, 1), ranked(2, 0, 1)];
        all.iter_mut().zip([4, 3, 3]).for_each(|(one, calls)| one.seen = Seen::new(calls, None, None));
        let shares = firsts(Strategy::LeastBusy, &all, 1_000);
        assert!(shares[0] == 0 && shares[1].abs_diff(500) < 80, "{shares:?}");
        all[0].entry.weight = 2;
        assert_eq!(firsts(Strategy::LeastBusy, &all, 10)[0], 10, "twice as much may be under way there");
    }

    #[test]
    fn the_slowest_is_never_first_and_what_is_unknown_gets_known() {
        let mut all = [ranked(0, 0, 1), ranked(1, 0, 1), ranked(2, 0, 1)];
        let took = |ranked: &mut Ranked, millis: Option<u64>| {
            let time = millis.map(Duration::from_millis);
            ranked.seen = Seen::new(0, time, time);
        };
        all.iter_mut().zip([500, 9_000, 400]).for_each(|(one, millis)| took(one, Some(millis)));
        for strategy in [Strategy::LowestLatency, Strategy::LowestTtft] {
            let shares = firsts(strategy, &all, 3_000);
            assert!(shares[1] == 0 && shares[2] > shares[0], "{shares:?}");
        }
        // Calls under way count as much as the time of each.
        let time = all[2].seen.latency();
        all[2].seen = Seen::new(9, time, time);
        let shares = firsts(Strategy::LowestLatency, &all, 3_000);
        assert!(shares[0] > shares[2], "{shares:?}");
        took(&mut all[1], None);
        assert!(firsts(Strategy::LowestLatency, &all, 3_000)[1] > 1_000);
    }

    #[test]
    fn price_and_place_decide_within_a_priority() {
        let mut all = [ranked(0, 0, 1), ranked(1, 0, 1), ranked(2, 0, 2)];
        (all[0].cost, all[1].cost, all[2].cost) = (9, 5, 1);
        assert_eq!(order(Strategy::Cheapest, &all, &moment(0, 0)), [1, 0, 2]);
        all[1].is_local = true;
        assert_eq!(order(Strategy::LocalFirst, &all, &moment(0, 0)), [1, 0, 2]);
        assert_eq!(order(Strategy::Priority, &all, &moment(0, 0)), [0, 1, 2]);
    }

    #[test]
    fn a_conversation_stays_where_it_is_and_all_of_them_are_spread() {
        let conversation = |key: u64, at: u64| Some(Seed(key).with(at));
        let mut homes = [0; 4];
        for key in 0..4_000 {
            let mut all: Vec<Ranked> = (0..4).map(|rule| ranked(rule, 0, 1)).collect();
            all.iter_mut().enumerate().for_each(|(at, one)| one.affinity = conversation(key, at as u64));
            let first = order(Strategy::RoundRobin, &all, &moment(key, key))[0];
            assert_eq!(order(Strategy::Weighted, &all, &moment(7, 7))[0], first);
            homes[first] += 1;
            // Another one's leaving moves nobody else.
            all.retain(|one| one.entry.rule != 3);
            assert!(first == 3 || order(Strategy::RoundRobin, &all, &moment(1, 1))[0] == first);
        }
        assert!(homes.iter().all(|home| (900..1_100).contains(home)), "{homes:?}");
    }
}
