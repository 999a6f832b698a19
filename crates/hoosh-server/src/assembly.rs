//! Providers and routes as a configuration names them, put together: for serving, and to see whether they can be.
//!
//! What is wrong with a pattern, an alias or a key is the router's and the providers' to say. Nothing is connected to.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use hoosh_core::{ContextRule, LlmProvider};
use hoosh_gateway::{CacheSettings, ResponseCache};
use hoosh_providers::{HttpProvider, ProviderSettings, SettingsError};
use hoosh_router::{BuildFault, Health, HealthChange, HealthState, Route, Router, Watch};

use crate::config::{Config, ModelGroup, Provider};

/// Everything that keeps providers and routes from being put together.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct AssemblyErrors {
    /// Providers whose settings cannot be used, by name.
    pub providers: Vec<(String, SettingsError)>,
    /// What is wrong with the routes and aliases.
    pub routes: Vec<BuildFault>,
}

/// What is put together already, and the configuration that it was made from.
#[derive(Clone, Copy)]
pub(crate) struct Before<'a> {
    pub(crate) config: &'a Config,
    pub(crate) router: &'a Router,
    pub(crate) cache: Option<&'a Arc<ResponseCache>>,
}

/// Settings of a provider that do not decide whether it gives an answer, or which.
const INDIFFERENT: &[&str] = &[
    "api_key",
    "weight",
    "strategy",
    "max_concurrent",
    "max_concurrent_per_model",
    "max_waiting",
    // Both who are asked could have been asked alone, and who may give an answer late has given one all the same.
    "hedge",
    "stream_window_secs",
    "stream_window_events",
    // What two have written is not kept. `continue_streams` stays: its streams are translated.
    "prefill",
    "rate_limit_rpm",
    "rate_limit_tpm",
    "connect_timeout_secs",
    "first_byte_timeout_secs",
    "idle_timeout_secs",
    "total_timeout_secs",
];

/// Settings of all routes that decide what a model is asked.
const CONTEXT: &[&str] = &["context", "keep_last", "summarise_with", "compress"];

/// The router that a configuration describes.
///
/// # Errors
///
/// What the providers and the router refuse, all of it.
pub(crate) fn router(config: &Config) -> Result<Router, AssemblyErrors> {
    router_after(config, None)
}

/// The same, going on from what there was: providers whose settings are the same are the same objects, with their
/// connections, and what is known of a server's health holds as long as its address and its key do.
///
/// # Errors
///
/// As [`router`]. What there was is as it was then.
pub(crate) fn router_after(config: &Config, before: Option<Before<'_>>) -> Result<Router, AssemblyErrors> {
    let policy = config.routing.breaker;
    let health = match before {
        None => Health::new(policy),
        Some(before) => {
            let stays = |name: &str| pair(before.config, config, name, ProviderSettings::is_same_account);
            before.router.health().after(policy, stays)
        }
    };
    let health = health.watched(Arc::new(HealthLog));
    let unchanged = |name: &str| {
        let before = before.filter(|before| pair(before.config, config, name, PartialEq::eq))?;
        before.router.provider(name).map(Arc::clone)
    };
    let mut builder = Router::builder()
        .strategy(config.server.strategy)
        .retry(config.routing.retry)
        .hedge_percent(config.routing.hedge_percent)
        .prices(Arc::clone(&config.costs.table))
        .on_unpriced(config.costs.on_unpriced)
        .health(Arc::new(health));
    if let Some(before) = before {
        builder = builder.hedges_after(before.router);
    }
    let mut errors = AssemblyErrors::default();
    for provider in &config.providers {
        let name = provider.name();
        let built = match unchanged(name) {
            Some(kept) => Ok(kept),
            None => HttpProvider::new(provider.settings.clone())
                .map(|built| Arc::new(built) as Arc<dyn LlmProvider>),
        };
        match built {
            Ok(built) => builder = builder.provider(built),
            Err(error) => errors.providers.push((name.to_owned(), error)),
        }
        builder = builder.route(Route {
            models: provider.models.clone(),
            priority: provider.priority,
            max_tokens_limit: provider.max_tokens_limit,
            enabled: provider.enabled,
            fidelity: provider.lossy,
            weight: provider.weight,
            strategy: provider.strategy,
            options: provider.options,
            context: context(config, provider),
            ..Route::to(name)
        });
    }
    for (alias, targets) in &config.aliases {
        builder = builder.alias(alias, targets.iter().cloned());
    }
    for ModelGroup { name, group, .. } in &config.groups {
        builder = builder.group(name, group.clone());
    }
    for (pattern, strategy) in &config.strategies {
        builder = builder.strategy_for(pattern, *strategy);
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

/// What holds for prompts that a provider's models cannot read; `None` where nobody says anything.
fn context(config: &Config, provider: &Provider) -> Option<Arc<ContextRule>> {
    let rule = provider.context.or(&config.routing.context);
    // A caller may ask for what is only set up here.
    let is_set_up = rule != ContextRule::default();
    is_set_up.then(|| Arc::new(rule))
}

/// Providers that are other servers under the names they had.
pub(crate) fn moved(before: &Config, config: &Config) -> BTreeSet<String> {
    let names = config.providers.iter().map(Provider::name);
    let is_moved = |name: &&str| pair(before, config, name, |old, new| !old.is_same_server(new));
    names.filter(is_moved).map(str::to_owned).collect()
}

/// Whether both have a provider of this name, and this holds of the two.
pub(crate) fn pair(
    before: &Config,
    config: &Config,
    name: &str,
    holds: impl Fn(&ProviderSettings, &ProviderSettings) -> bool,
) -> bool {
    let old = before.providers.iter().find(|one| one.name() == name);
    let new = config.providers.iter().find(|one| one.name() == name);
    old.zip(new).is_some_and(|(old, new)| holds(&old.settings, &new.settings))
}

/// The cache that a configuration describes; `None` for none.
///
/// The one there was stays as long as every answer in it could have been given under the new configuration too.
pub(crate) fn cache(config: &Config, before: Option<Before<'_>>) -> Option<Arc<ResponseCache>> {
    let settings = cache_settings(config)?;
    let kept = before.and_then(|before| Some((before.config, before.cache?)));
    Some(match kept {
        Some((old, cache))
            if cache_settings(old).as_ref() == Some(&settings) && answer_alike(old, config) =>
        {
            Arc::clone(cache)
        }
        Some((_, cache)) => Arc::new(ResponseCache::after(cache, settings)),
        None => Arc::new(ResponseCache::new(settings)),
    })
}

/// Whether the same names lead to the same answers.
fn answer_alike(old: &Config, new: &Config) -> bool {
    let decides = |path: &str| {
        let of_provider = path.starts_with("providers.");
        let is_indifferent = path.rsplit('.').next().is_some_and(|key| INDIFFERENT.contains(&key));
        let of_context = path.strip_prefix("routing.").is_some_and(|key| CONTEXT.contains(&key));
        path == "server.lossy"
            || of_context
            || path.starts_with("aliases.")
            || path.starts_with("groups[")
            || of_provider && !is_indifferent
    };
    let deciding = |config: &Config| {
        let mut settings = config.settings();
        settings.retain(|path, _| decides(path));
        settings
    };
    deciding(old) == deciding(new)
}

/// How answers are kept; `None`: they are not.
pub(crate) fn cache_settings(config: &Config) -> Option<CacheSettings> {
    let cache = &config.cache;
    let of_provider = |provider: &Provider| Some((provider.name().to_owned(), provider.cache_ttl?));
    let settings = || CacheSettings {
        ttl: cache.ttl,
        provider_ttls: config.providers.iter().filter_map(of_provider).collect(),
        bytes_max: cache.max_bytes,
        tool_calls: cache.tool_calls,
        any_temperature: cache.any_temperature,
        semantic: cache.semantic.clone(),
    };
    cache.enabled.then(settings)
}

/// Writes a line for each change of an endpoint's health.
struct HealthLog;

impl Watch for HealthLog {
    fn health_changed(&self, change: &HealthChange) {
        let model = change.model.as_deref();
        let (provider, state) = (&*change.provider, change.state.as_str());
        match change.state {
            // Nothing new is wrong: the next call finds out whether it is well.
            HealthState::Resting { rest, .. } if rest.is_zero() => {
                tracing::info!(target: "hoosh::health", provider, model, state, seconds = 0.0);
            }
            HealthState::Resting { rest, why } => {
                let seconds = rest.as_secs_f32();
                tracing::warn!(target: "hoosh::health", provider, model, state, seconds, why = why.as_str());
            }
            HealthState::Offline => tracing::warn!(target: "hoosh::health", provider, model, state),
            HealthState::Well | HealthState::Probing | HealthState::Suspect => {
                tracing::info!(target: "hoosh::health", provider, model, state);
            }
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
