//! What every request of this server needs, made once from the configuration.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hoosh_gateway::{CallRecord, Gateway, Observer, Outcome};

use crate::RunError;
use crate::assembly;
use crate::config::Config;
use crate::http::auth::Keys;
use crate::http::cors::Cors;
use crate::metrics::Metrics;
use crate::route::Routes;

pub(crate) struct App {
    pub(crate) gateway: Gateway,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) keys: Keys,
    pub(crate) cors: Cors,
    pub(crate) routes: Routes,
    pub(crate) aliases: BTreeMap<String, Vec<String>>,
    pub(crate) max_body_bytes: usize,
    pub(crate) body_timeout: Duration,
}

impl App {
    pub(crate) fn new(config: &Config) -> Result<Self, RunError> {
        let metrics = Arc::new(Metrics::new());
        let gateway = Gateway::builder(assembly::router(config)?)
            .observer(Arc::new(CallLog))
            .observer(Arc::clone(&metrics) as Arc<dyn Observer>)
            .answer_time_max(config.server.request_timeout)
            .fidelity(config.server.lossy)
            .build();
        Ok(Self {
            gateway,
            metrics,
            keys: Keys::new(&config.auth.tokens),
            cors: Cors::new(&config.server.cors_origins),
            routes: Routes::compile().map_err(|error| RunError::Table(error.to_string()))?,
            aliases: config.aliases.clone(),
            max_body_bytes: config.server.max_body_bytes,
            body_timeout: config.server.body_timeout,
        })
    }
}

/// Writes one line for each call that is over.
struct CallLog;

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
                    attempts = record.attempts,
                    outcome = record.outcome.as_str(),
                    prompt_tokens = record.usage.map(|usage| usage.prompt_total()),
                    completion_tokens = record.usage.map(|usage| usage.completion_total()),
                    usage = record.usage.map(|usage| usage.provenance.as_str()),
                    cost = record.cost.map(|cost| cost.to_string()),
                    first_ms = record.time_to_first.map(|time| time.as_millis() as u64),
                    ms = record.duration.as_millis() as u64,
                    error = match &record.outcome {
                        Outcome::Answered | Outcome::Cancelled | Outcome::Stopped => None,
                        Outcome::Failed(error) => Some(error.to_string()),
                        Outcome::Truncated(failure) => Some(failure.to_string()),
                    },
                )
            };
        }
        match record.outcome {
            Outcome::Answered | Outcome::Cancelled | Outcome::Stopped => log!(tracing::Level::INFO),
            Outcome::Failed(_) | Outcome::Truncated(_) => log!(tracing::Level::WARN),
        }
    }
}
