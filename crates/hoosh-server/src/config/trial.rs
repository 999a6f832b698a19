//! Puts providers and routes together once, to see whether they can be, and says where what is wrong was written.

use std::collections::BTreeSet;

use hoosh_providers::SettingsError;
use hoosh_router::{BuildFault, Router};

use super::fault::{ConfigErrors, Fault, Place};
use super::file::join;
use super::{Config, ModelGroup, provider_path};
use crate::assembly::{self, AssemblyErrors};

/// What providers and router refuse, but for aliases that lead nowhere: the providers may not all be known yet.
///
/// The settings of the providers called in `unread` could not be read as they are written, so that what is said of them
/// would not be what the user wrote; what is wrong with their models still counts.
pub(crate) fn refused(config: &Config, unread: &BTreeSet<String>) -> Vec<Fault> {
    let Err(mut errors) = assembly::router(config) else { return Vec::new() };
    errors.providers.retain(|(name, _)| !unread.contains(name));
    errors.routes.retain(|fault| !leads_nowhere(fault));
    placed(config, &errors)
}

/// Checks that the routes can be built, and takes out of the aliases what leads nowhere.
///
/// An alias to a model that nobody serves is no reason not to start (the server that has it may be off today), but the
/// router takes none.
///
/// # Errors
///
/// What the providers and the router refuse.
pub(crate) fn settle_routes(config: &mut Config) -> Result<(), ConfigErrors> {
    loop {
        let mut errors = match assembly::router(config) {
            Ok(router) => {
                warn_of_no_embeddings(config, &router);
                return Ok(());
            }
            Err(errors) => errors,
        };
        let nowhere: Vec<BuildFault> = errors.routes.extract_if(.., |fault| leads_nowhere(fault)).collect();
        let faults = placed(config, &errors);
        if !faults.is_empty() {
            return Err(ConfigErrors::new(faults));
        }
        for fault in nowhere {
            let BuildFault::AliasToNowhere { alias, target } = &fault else { continue };
            let place = place(config, &named(config, alias));
            config.warnings.push(format!("{place}: {fault}; it is left out"));
            leave_out(config, target);
        }
    }
}

/// Says so if nobody serves the model by which answers are found. The server that has it may be off today.
fn warn_of_no_embeddings(config: &mut Config, router: &Router) {
    if let Some(semantic) = config.cache.semantic.as_ref().filter(|_| config.cache.enabled)
        && router.candidates(&semantic.model).is_empty()
    {
        let (place, model) = (place(config, "cache.semantic_model"), &semantic.model);
        let says = format!("{place}: no provider serves `{model}`: answers are found by the same words only");
        config.warnings.push(says);
    }
}

fn leads_nowhere(fault: &BuildFault) -> bool {
    matches!(fault, BuildFault::AliasToNowhere { .. })
}

/// Takes a target out of all aliases, and then what only led there. Each turn of the caller's loop takes one out.
fn leave_out(config: &mut Config, target: &str) {
    let mut gone = vec![target.to_owned()];
    while let Some(name) = gone.pop() {
        config.aliases.retain(|alias, targets| {
            targets.retain(|target| *target != name);
            if targets.is_empty() {
                gone.push(alias.clone());
            }
            !targets.is_empty()
        });
        config.groups.retain_mut(|ModelGroup { name: alias, group, .. }| {
            group.members.retain(|member| member.model != name);
            group.canary.take_if(|canary| canary.model == name);
            if group.members.is_empty() {
                gone.push(alias.clone());
            }
            !group.members.is_empty()
        });
    }
}

/// The faults, each with the place of what it is about.
fn placed(config: &Config, errors: &AssemblyErrors) -> Vec<Fault> {
    let settings = errors.providers.iter().map(|(name, SettingsError { field, problem })| {
        (format!("{}.{field}", provider_path(name)), problem.clone())
    });
    let routes = errors.routes.iter().map(|fault| (key(config, fault), told(config, fault)));
    let faults = settings.chain(routes);
    faults.map(|(key, problem)| Fault::new(place(config, &key), key, problem)).collect()
}

/// A router's fault in words, with the other place where it is about two.
fn told(config: &Config, fault: &BuildFault) -> String {
    let BuildFault::TwoStrategies { pattern, by, .. } = fault else { return fault.to_string() };
    let other = match by {
        Some(provider) => format!("{}.strategy", provider_path(provider)),
        None => join("strategies", pattern),
    };
    format!("{fault} (the other: {})", place(config, &other))
}

/// The key that a router's fault is about.
fn key(config: &Config, fault: &BuildFault) -> String {
    match fault {
        BuildFault::BadProvider { provider, .. } | BuildFault::UnknownProvider { provider, .. } => {
            provider_path(provider)
        }
        BuildFault::BadPattern { provider, .. } => format!("{}.models", provider_path(provider)),
        BuildFault::TwoStrategies { provider, .. } => format!("{}.strategy", provider_path(provider)),
        BuildFault::BadStrategy { pattern, .. } => join("strategies", pattern),
        BuildFault::BadAlias { alias, .. }
        | BuildFault::AliasTooDeep { alias }
        | BuildFault::AliasToNowhere { alias, .. } => named(config, alias),
        BuildFault::AliasCircle { path } => named(config, path.first().map_or("", String::as_str)),
    }
}

/// The key of an alias or a group.
fn named(config: &Config, alias: &str) -> String {
    let group = config.groups.iter().find(|group| group.name == alias && !config.aliases.contains_key(alias));
    group.map_or_else(|| join("aliases", alias), |group| format!("{}.models", group.path))
}

/// Where a key was said, or the entry that it is of.
fn place(config: &Config, key: &str) -> Place {
    let section = key.rsplit_once('.').map_or(key, |(section, _)| section);
    let known = config.origins.get(key).or_else(|| config.origins.get(section));
    known.cloned().unwrap_or(Place::Default)
}
