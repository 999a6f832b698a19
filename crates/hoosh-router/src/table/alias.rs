//! Other names for models, followed to their ends once, when the table is made.

use std::collections::HashMap;
use std::sync::Arc;

use hoosh_core::limits::ALIAS_HOPS_MAX;

use super::{BuildFault, RouteTable};
use crate::strategy::Entry;

/// A name that stands for others.
#[derive(Debug)]
pub(super) struct Alias {
    pub(super) name: Arc<str>,
    /// The providers' names for the models it leads to, each once.
    pub(super) models: Vec<Arc<str>>,
    /// All rules that match what it leads to.
    pub(super) entries: Vec<Entry>,
}

/// Follows aliases to names that are none.
struct Follower<'a> {
    targets: HashMap<&'a str, &'a [String]>,
    ends: HashMap<&'a str, Ends<'a>>,
}

#[derive(Debug, Clone)]
struct Ends<'a> {
    /// Aliases on the longest way, this one included.
    hops: usize,
    names: Vec<&'a str>,
}

pub(super) fn resolve(
    aliases: Vec<(String, Vec<String>)>,
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
    // A table with a fault is never used, and a broken route would seem to lead other aliases nowhere.
    let sound = faults.is_empty();
    let mut resolved = HashMap::new();
    for (alias, _) in &aliases {
        match follower.follow(alias, &mut Vec::new()) {
            Ok(ends) if sound => {
                let name: Arc<str> = alias.as_str().into();
                resolved.insert(Arc::clone(&name), Alias::new(name, &ends.names, table, faults));
            }
            Ok(_) => {}
            // Each alias of a circle comes upon it.
            Err(fault) if faults.contains(&fault) => {}
            Err(fault) => faults.push(fault),
        }
    }
    resolved
}

fn problem(alias: &str, targets: &[String], taken: bool) -> Option<&'static str> {
    if alias.is_empty() {
        Some("it has no name")
    } else if alias.contains(['*', '?']) {
        Some("an alias is a name, not a pattern")
    } else if taken {
        Some("it is defined twice")
    } else if targets.is_empty() {
        Some("it leads nowhere; name at least one model")
    } else if targets.iter().any(String::is_empty) {
        Some("one of its models has no name")
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
        for target in self.targets.get(alias).copied().unwrap_or_default() {
            if self.targets.contains_key(target.as_str()) {
                let further = self.follow(target, path)?;
                ends.hops = ends.hops.max(1 + further.hops);
                further.names.into_iter().for_each(|name| ends.add(name));
            } else {
                ends.add(target);
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
    fn add(&mut self, name: &'a str) {
        if !self.names.contains(&name) {
            self.names.push(name);
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
    fn new(name: Arc<str>, ends: &[&str], table: &RouteTable, faults: &mut Vec<BuildFault>) -> Self {
        let mut alias = Self { name, models: Vec::new(), entries: Vec::new() };
        for (target, &end) in ends.iter().enumerate() {
            let reading = table.read(end);
            let model = alias.model(reading.model());
            let before = alias.entries.len();
            table.enter(reading, target, model, &mut alias.entries);
            if alias.entries.len() == before {
                let (alias, target) = (alias.name.to_string(), end.to_owned());
                faults.push(BuildFault::AliasToNowhere { alias, target });
            }
        }
        alias
    }

    /// The place of a model, which it gets if it is new.
    fn model(&mut self, model: &str) -> usize {
        self.models.iter().position(|known| **known == *model).unwrap_or_else(|| {
            self.models.push(model.into());
            self.models.len() - 1
        })
    }
}
