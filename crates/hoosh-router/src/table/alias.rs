//! Other names for models, followed to their ends once, when the table is made.

use std::collections::HashMap;
use std::sync::Arc;

use hoosh_core::limits::ALIAS_HOPS_MAX;

use super::{BuildFault, RouteTable};
use crate::random::Seed;
use crate::strategy::{Entry, Strategy};

/// A name that stands for others.
#[derive(Debug)]
pub(super) struct Alias {
    pub(super) name: Arc<str>,
    /// The providers' names for the models it leads to, each once.
    pub(super) models: Vec<Arc<str>>,
    /// All rules that match what it leads to.
    entries: Vec<Entry>,
    pub(super) strategy: Option<Strategy>,
    /// The place of the target that is tried out, and its share of the calls.
    canary: Option<(usize, f64)>,
}

/// What an alias stands for: models one of which answers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Group {
    /// Models, the first choice first: each a model, another alias, or `provider/model`.
    pub members: Vec<Member>,
    /// How one of them is chosen. Default: they are asked in their order.
    pub strategy: Option<Strategy>,
    /// One that is tried out on a part of the calls. Default: none.
    pub canary: Option<Canary>,
}

/// A model of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub model: String,
    /// How often it is taken beside the others, where the strategy goes by weight. Default: 1.
    pub weight: u32,
}

/// A model that is tried out on a part of the calls. The others do not see it unless all else has failed.
#[derive(Debug, Clone, PartialEq)]
pub struct Canary {
    /// Its name.
    pub model: String,
    /// Its share of the calls, in percent. The calls of a conversation are all its or none.
    pub percent: f64,
}

/// Keeps the chance of a canary apart from the chances of a strategy.
const CANARY: u64 = 0xca_4a_71;

/// Follows aliases to names that are none.
struct Follower<'a> {
    targets: HashMap<&'a str, &'a Group>,
    ends: HashMap<&'a str, Ends<'a>>,
}

#[derive(Debug, Clone)]
struct Ends<'a> {
    /// Aliases on the longest way, this one included.
    hops: usize,
    names: Vec<(&'a str, u32)>,
}

pub(super) fn resolve(
    aliases: Vec<(String, Group)>,
    table: &RouteTable,
    faults: &mut Vec<BuildFault>,
) -> HashMap<Arc<str>, Alias> {
    let mut follower = Follower { targets: HashMap::new(), ends: HashMap::new() };
    for (alias, targets) in &aliases {
        let taken = follower.targets.insert(alias, targets).is_some();
        if let Some(problem) = problem(alias, targets, taken) {
            faults.push(BuildFault::BadAlias { alias: alias.clone(), problem });
        }
    }
    for (alias, group) in &aliases {
        if let Some(canary) = &group.canary
            && (follower.targets.contains_key(canary.model.as_str())
                || group.members.iter().any(|member| member.model == canary.model))
        {
            let problem = "its canary is a model beside its others, no alias and not one of them";
            faults.push(BuildFault::BadAlias { alias: alias.clone(), problem });
        }
    }
    for (alias, group) in &aliases {
        let chooses = |model: &String| {
            let found = follower.targets.get(model.as_str());
            found.is_some_and(|group| group.strategy.is_some() || group.canary.is_some())
        };
        if group.members.iter().any(|member| chooses(&member.model)) {
            let problem = "it leads to a group that chooses by itself; name its models here";
            faults.push(BuildFault::BadAlias { alias: alias.clone(), problem });
        }
    }
    // A table with a fault is never used, and a broken route would seem to lead other aliases nowhere.
    let sound = faults.is_empty();
    let mut resolved = HashMap::new();
    for (alias, group) in &aliases {
        match follower.follow(alias, &mut Vec::new()) {
            Ok(ends) if sound => {
                let name: Arc<str> = alias.as_str().into();
                resolved.insert(Arc::clone(&name), Alias::new(name, group, &ends.names, table, faults));
            }
            Ok(_) => {}
            // Each alias of a circle comes upon it.
            Err(fault) if faults.contains(&fault) => {}
            Err(fault) => faults.push(fault),
        }
    }
    resolved
}

fn problem(alias: &str, group: &Group, taken: bool) -> Option<&'static str> {
    let percent = group.canary.as_ref().map_or(0.0, |canary| canary.percent);
    if alias.is_empty() {
        Some("it has no name")
    } else if alias.contains(['*', '?']) {
        Some("an alias is a name, not a pattern")
    } else if taken {
        Some("it is defined twice")
    } else if group.members.is_empty() {
        Some("it leads nowhere; name at least one model")
    } else if group.members.iter().any(|member| member.model.is_empty()) {
        Some("one of its models has no name")
    } else if !(0.0..=100.0).contains(&percent) {
        Some("its canary's share is from 0 to 100 percent")
    } else {
        None
    }
}

// === impl Follower ===

impl<'a> Follower<'a> {
    /// Where this alias ends, `path` being the aliases that led to it.
    ///
    /// The path is bounded, so the recursion is.
    fn follow(&mut self, alias: &'a str, path: &mut Vec<&'a str>) -> Result<Ends<'a>, BuildFault> {
        if let Some(ends) = self.ends.get(alias) {
            return Ok(ends.clone());
        }
        if let Some(first) = path.iter().position(|&passed| passed == alias) {
            return Err(circle(&path[first..]));
        }
        if path.len() == ALIAS_HOPS_MAX {
            return Err(too_deep(path[0]));
        }
        path.push(alias);
        let mut ends = Ends { hops: 1, names: Vec::new() };
        let group = self.targets.get(alias).copied();
        let canary = group.and_then(|group| group.canary.as_ref()).map(|canary| (canary.model.as_str(), 1));
        let members = group.into_iter().flat_map(|group| &group.members);
        // The canary is the last, so that its place is known.
        for (target, weight) in members.map(|member| (member.model.as_str(), member.weight)).chain(canary) {
            if self.targets.contains_key(target) {
                let further = self.follow(target, path)?;
                ends.hops = ends.hops.max(1 + further.hops);
                further.names.into_iter().for_each(|(name, _)| ends.add(name, weight));
            } else {
                ends.add(target, weight);
            }
        }
        path.pop();
        if ends.hops > ALIAS_HOPS_MAX {
            return Err(too_deep(alias));
        }
        self.ends.insert(alias, ends.clone());
        Ok(ends)
    }
}

impl<'a> Ends<'a> {
    fn add(&mut self, name: &'a str, weight: u32) {
        if !self.names.iter().any(|(known, _)| *known == name) {
            self.names.push((name, weight));
        }
    }
}

/// The circle as told from its first name in the alphabet, so that it is told once.
fn circle(path: &[&str]) -> BuildFault {
    let mut path: Vec<String> = path.iter().map(|&name| name.to_owned()).collect();
    let first = path.iter().enumerate().min_by_key(|(_, name)| *name).map_or(0, |(at, _)| at);
    path.rotate_left(first);
    path.extend(path.first().cloned());
    BuildFault::AliasCircle { path }
}

fn too_deep(alias: &str) -> BuildFault {
    BuildFault::AliasTooDeep { alias: alias.to_owned() }
}

// === impl Alias ===

impl Alias {
    fn new(
        name: Arc<str>,
        group: &Group,
        ends: &[(&str, u32)],
        table: &RouteTable,
        faults: &mut Vec<BuildFault>,
    ) -> Self {
        let mut alias =
            Self { name, models: Vec::new(), entries: Vec::new(), strategy: group.strategy, canary: None };
        let place = |model: &str| ends.iter().position(|(end, _)| *end == model);
        alias.canary = group.canary.as_ref().and_then(|canary| Some((place(&canary.model)?, canary.percent)));
        if alias.canary.is_some_and(|(place, _)| place + 1 != ends.len()) {
            let (alias, problem) = (alias.name.to_string(), "one of its models leads to its canary");
            faults.push(BuildFault::BadAlias { alias, problem });
        }
        for (place, &(end, weight)) in ends.iter().enumerate() {
            let reading = table.read(end);
            let model = alias.model(reading.model());
            let before = alias.entries.len();
            let is_canary = alias.canary.is_some_and(|(canary, _)| canary == place);
            // Where a strategy compares, all are equal; the canary stays behind. One that goes by the configuration takes
            // them in their order.
            let in_order = matches!(alias.strategy, None | Some(Strategy::Priority | Strategy::Direct));
            let target = if in_order || is_canary { place } else { 0 };
            table.enter(reading, target, model, &mut alias.entries);
            for entry in &mut alias.entries[before..] {
                if alias.strategy.is_some() {
                    entry.weight = entry.weight.saturating_mul(weight);
                }
                if !in_order {
                    // Among equals there is no priority either.
                    entry.priority = 0;
                }
            }
            if alias.entries.len() == before {
                let (alias, target) = (alias.name.to_string(), end.to_owned());
                faults.push(BuildFault::AliasToNowhere { alias, target });
            }
        }
        alias
    }

    /// Enters all rules that match, the canary's first where this is one of its calls. Gives the target by which the canary is
    /// known among them, if there is one.
    pub(super) fn enter(&self, seed: Seed, entries: &mut Vec<Entry>) -> Option<usize> {
        entries.extend_from_slice(&self.entries);
        let (place, percent) = self.canary?;
        if seed.with(CANARY).fraction() * 100.0 >= percent {
            return Some(place);
        }
        for entry in entries {
            entry.target = if entry.target == place { 0 } else { entry.target + 1 };
        }
        Some(0)
    }

    /// The place of a model, which it gets if it is new.
    fn model(&mut self, model: &str) -> usize {
        self.models.iter().position(|known| **known == *model).unwrap_or_else(|| {
            self.models.push(model.into());
            self.models.len() - 1
        })
    }
}
