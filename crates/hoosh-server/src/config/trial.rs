//! Puts providers and routes together once, to see whether they can be, and says where what is wrong was written.

use hoosh_providers::SettingsError;
use hoosh_router::BuildFault;

use super::Config;
use super::fault::{ConfigErrors, Fault, Place};
use crate::assembly::{self, AssemblyErrors};

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
        let Err(AssemblyErrors { providers, routes }) = assembly::router(config) else { return Ok(()) };
        let (nowhere, routes): (Vec<_>, Vec<_>) =
            routes.into_iter().partition(|fault| matches!(fault, BuildFault::AliasToNowhere { .. }));
        let providers = providers.into_iter().map(|(name, SettingsError { field, problem })| {
            let key = format!("providers.{name}.{field}");
            Fault::new(place(config, &key), key, problem)
        });
        let faults: Vec<Fault> = providers.chain(routes.iter().map(|fault| placed(config, fault))).collect();
        if !faults.is_empty() {
            return Err(ConfigErrors::new(faults));
        }
        for fault in nowhere {
            let BuildFault::AliasToNowhere { alias, target } = &fault else { continue };
            let place = place(config, &format!("aliases.{alias}"));
            config.warnings.push(format!("{place}: {fault}; it is left out"));
            leave_out(config, target);
        }
    }
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
    }
}

/// A router's fault with the place of what it is about.
fn placed(config: &Config, fault: &BuildFault) -> Fault {
    let key = match fault {
        BuildFault::BadProvider { provider, .. } | BuildFault::UnknownProvider { provider, .. } => {
            format!("providers.{provider}")
        }
        BuildFault::BadPattern { provider, .. } => format!("providers.{provider}.models"),
        BuildFault::BadAlias { alias, .. }
        | BuildFault::AliasTooDeep { alias }
        | BuildFault::AliasToNowhere { alias, .. } => format!("aliases.{alias}"),
        BuildFault::AliasCircle { path } => format!("aliases.{}", path.first().map_or("", String::as_str)),
    };
    Fault::new(place(config, &key), key, fault.to_string())
}

/// Where a key was said, or the entry that it is of.
fn place(config: &Config, key: &str) -> Place {
    let section = key.rsplit_once('.').map_or(key, |(section, _)| section);
    let known = config.origins.get(key).or_else(|| config.origins.get(section));
    known.cloned().unwrap_or(Place::Default)
}
