//! Providers and routes as a configuration names them, put together: for serving, and to see whether they can be.
//!
//! What is wrong with a pattern, an alias or a key is the router's and the providers' to say. Nothing is connected to.

use std::fmt;
use std::sync::Arc;

use hoosh_core::LlmProvider;
use hoosh_providers::{HttpProvider, SettingsError};
use hoosh_router::{BuildFault, Route, Router};

use crate::config::Config;

/// Everything that keeps providers and routes from being put together.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct AssemblyErrors {
    /// Providers whose settings cannot be used, by name.
    pub providers: Vec<(String, SettingsError)>,
    /// What is wrong with the routes and aliases.
    pub routes: Vec<BuildFault>,
}

/// The router that a configuration describes.
///
/// # Errors
///
/// What the providers and the router refuse, all of it.
pub(crate) fn router(config: &Config) -> Result<Router, AssemblyErrors> {
    let mut builder = Router::builder().strategy(config.server.strategy);
    let mut errors = AssemblyErrors::default();
    for provider in &config.providers {
        let name = provider.name();
        match HttpProvider::new(provider.settings.clone()) {
            Ok(built) => builder = builder.provider(Arc::new(built) as Arc<dyn LlmProvider>),
            Err(error) => errors.providers.push((name.to_owned(), error)),
        }
        builder = builder.route(Route {
            models: provider.models.clone(),
            priority: provider.priority,
            max_tokens_limit: provider.max_tokens_limit,
            enabled: provider.enabled,
            fidelity: provider.lossy,
            ..Route::to(name)
        });
    }
    for (alias, targets) in &config.aliases {
        builder = builder.alias(alias, targets.iter().cloned());
    }
    match builder.build() {
        Ok(router) if errors.providers.is_empty() => Ok(router),
        Ok(_) => Err(errors),
        Err(error) => {
            errors.routes = error.faults;
            // That a route leads to a provider that could not be built is told by the provider's own fault.
            let unbuilt = |name: &String| errors.providers.iter().any(|(unbuilt, _)| unbuilt == name);
            errors.routes.retain(
                |fault| !matches!(fault, BuildFault::UnknownProvider { provider, .. } if unbuilt(provider)),
            );
            Err(errors)
        }
    }
}

impl fmt::Display for AssemblyErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let providers = self.providers.iter().map(|(name, error)| format!("provider `{name}`: {error}"));
        let faults: Vec<String> = providers.chain(self.routes.iter().map(ToString::to_string)).collect();
        f.write_str(&faults.join("; "))
    }
}

impl std::error::Error for AssemblyErrors {}
