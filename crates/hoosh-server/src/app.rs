//! What every request of this server needs, made once from a configuration and never changed: a snapshot. A request keeps
//! the one it began with; the next configuration makes another one ([`Live`](crate::reload::Live)).

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use hoosh_budget::{BudgetWatch, PoolTree};
use hoosh_gateway::{CallRecord, Gateway, Leg, Observer, Outcome};

use crate::RunError;
use crate::alerts::Alerts;
use crate::assembly::{self, Before};
use crate::audit::{self, OpenLog};
use crate::books::Books;
use crate::config::{Config, ModelGroup};
use crate::http::auth::Keys;
use crate::http::cors::Cors;
use crate::keys;
use crate::metrics::Metrics;
use crate::route::Routes;

pub(crate) struct App {
    /// What it was made from.
    pub(crate) config: Config,
    pub(crate) config_hash: String,
    pub(crate) gateway: Gateway,
    /// How often providers that have trouble are asked for a sign of life.
    pub(crate) heartbeat: Option<Duration>,
    /// How often remote ones that are let alone because they failed are asked whether they are well.
    pub(crate) probe: Option<Duration>,
    /// What calls have spent. Open from the first configuration with pools or a usage log on, whether or not the one in use
    /// has any.
    pub(crate) books: Option<Books>,
    pub(crate) metrics: Arc<Metrics>,
    /// Where it is written down what happens.
    pub(crate) audit: Option<OpenLog>,
    /// What is told of the pools.
    pub(crate) alerts: Arc<Alerts>,
    pub(crate) keys: Keys,
    pub(crate) cors: Cors,
    pub(crate) routes: Routes,
    pub(crate) aliases: BTreeMap<String, Vec<String>>,
    pub(crate) cache_bytes_max: u64,
    pub(crate) max_body_bytes: usize,
    pub(crate) body_timeout: Duration,
}

impl App {
    /// Goes on from `before` with what outlives a configuration.
    pub(crate) fn new(config: Config, before: Option<&Self>) -> Result<Self, RunError> {
        // Before anything that lasts is changed.
        let routes = Routes::compile().map_err(|error| RunError::Table(error.to_string()))?;
        let made = before.map(|app| Before {
            config: &app.config,
            router: app.gateway.router(),
            cache: app.gateway.cache(),
        });
        let ring = match before.filter(|app| keys::are_same(&app.config.auth, &config.auth)) {
            Some(app) => app.keys.ring().cloned(),
            None => keys::open(&config.auth)?,
        };
        let signed_before = before.and_then(|app| app.keys.signs());
        let signed =
            config.auth.jwt.as_ref().map(|jwt| keys::Signed::read(jwt, signed_before)).transpose()?;
        let metrics = before.map_or_else(|| Arc::new(Metrics::new()), |app| Arc::clone(&app.metrics));
        let alerts =
            before.map_or_else(|| Arc::new(Alerts::new(Arc::clone(&metrics))), |app| Arc::clone(&app.alerts));
        let router = assembly::router_after(&config, made)?;
        for provider in router.providers() {
            if config.routing.heartbeat.is_none() || !provider.is_local() {
                router.health().unwatched(provider.name(), Instant::now());
            }
        }
        let watching: Weak<Metrics> = Arc::downgrade(&metrics);
        router.health().watch(watching);
        let mut builder = Gateway::builder(router)
            .observer(Arc::new(CallLog))
            .observer(Arc::clone(&metrics) as Arc<dyn Observer>)
            .answer_time_max(config.server.request_timeout)
            .fidelity(config.server.lossy)
            .configuration(config.hash())
            .limits(config.limits.clone())
            .fallbacks(config.routing.fallbacks.clone());
        if let Some(cache) = assembly::cache(&config, made) {
            builder = builder.cache(cache);
        }
        if let Some(app) = before {
            builder = builder
                .after(&app.gateway, assembly::moved(&app.config, &config))
                .events(app.gateway.event_bus().clone())
                .decisions(Arc::clone(app.gateway.decisions()));
        }
        let books = books(&config, before, &alerts)?;
        if let Some(books) = &books {
            if !config.pools.is_empty() {
                builder = builder.budget(books.budget().clone());
            } else if config.budget.log {
                builder = builder.usage_log(books.budget().clone());
            }
        }
        for provider in &config.providers {
            if let Some(limits) = provider.queue {
                builder = builder.queue(provider.name(), limits);
            }
            builder = builder.provider_limits(provider.name(), provider.limits.clone());
        }
        let audit = audit::open(&config.audit, before.and_then(|app| app.audit.as_ref()))?;
        if let Some(open) = &audit {
            builder = builder.audit(Arc::new(open.calls(&config.hash())));
        }
        let gateway = builder.build();
        alerts.tell(gateway.event_bus());
        Ok(Self {
            gateway,
            alerts,
            heartbeat: config.routing.heartbeat,
            probe: config.routing.probe,
            books,
            metrics,
            audit,
            keys: Keys::new(&config.auth.tokens, &config.auth.admin_tokens, ring).signed(signed),
            cors: Cors::new(&config.server.cors_origins),
            routes,
            aliases: names(&config),
            cache_bytes_max: config.cache.max_bytes,
            max_body_bytes: config.server.max_body_bytes,
            body_timeout: config.server.body_timeout,
            config_hash: config.hash(),
            config,
        })
    }
}

/// The books under a configuration: opened once somebody has pools, or wants to know what is used.
fn books(config: &Config, before: Option<&App>, alerts: &Arc<Alerts>) -> Result<Option<Books>, RunError> {
    // Checked when the configuration was read.
    let pools = || PoolTree::new(config.pools.clone()).unwrap_or_default();
    match before.and_then(|app| app.books.as_ref()) {
        Some(books) => Ok(Some(books.reconfigured(&config.budget, pools()))),
        None if config.pools.is_empty() && !config.budget.log => Ok(None),
        None => Ok(Some(Books::open(&config.budget, &pools(), Arc::clone(alerts) as Arc<dyn BudgetWatch>)?)),
    }
}

/// The names that stand for models, each with those.
fn names(config: &Config) -> BTreeMap<String, Vec<String>> {
    let mut names = config.aliases.clone();
    for ModelGroup { name, group, .. } in &config.groups {
        let canary = group.canary.iter().map(|canary| canary.model.clone());
        names.insert(
            name.clone(),
            group.members.iter().map(|member| member.model.clone()).chain(canary).collect(),
        );
    }
    names
}

/// Writes one line for each call that is over.
struct CallLog;

/// Who else worked on a call, if anybody did: `hedge groq/llama3, …`.
fn legs(record: &CallRecord) -> Option<String> {
    let leg = |leg: &Leg| format!("{} {}/{}", leg.kind.as_str(), leg.provider, leg.model);
    (!record.legs.is_empty()).then(|| record.legs.iter().map(leg).collect::<Vec<_>>().join(", "))
}

impl Observer for CallLog {
    fn call_settled(&self, record: &CallRecord) {
        macro_rules! log {
            ($level:expr) => {
                tracing::event!(
                    target: "hoosh::call",
                    $level,
                    id = record.id.as_str(),
                    caller = record.caller.as_str(),
                    model = record.model_asked,
                    provider = record.provider,
                    cache = record.cache.as_str(),
                    similarity = record.cache.similarity().map(|similarity| similarity.as_f64()),
                    attempts = record.attempts,
                    context = record.context.as_ref().map(tracing::field::display),
                    outcome = record.outcome.as_str(),
                    prompt_tokens = record.usage.map(|usage| usage.prompt_total()),
                    completion_tokens = record.usage.map(|usage| usage.completion_total()),
                    usage = record.usage.map(|usage| usage.provenance.as_str()),
                    cost = record.cost.map(|cost| cost.to_string()),
                    legs = legs(record),
                    first_ms = record.time_to_first.map(|time| time.as_millis() as u64),
                    ms = record.duration.as_millis() as u64,
                    error = match &record.outcome {
                        Outcome::Answered | Outcome::Cancelled | Outcome::Cut | Outcome::Stopped => None,
                        Outcome::Failed(error) => Some(error.to_string()),
                        Outcome::Truncated(failure) => Some(failure.to_string()),
                    },
                )
            };
        }
        match record.outcome {
            Outcome::Answered | Outcome::Cancelled | Outcome::Cut | Outcome::Stopped => {
                log!(tracing::Level::INFO);
            }
            Outcome::Failed(_) | Outcome::Truncated(_) => log!(tracing::Level::WARN),
        }
    }
}
