//! Whether this process is well, and how its providers are.

use hoosh_core::Problem;
use http::{Response, StatusCode};
use serde::Serialize;

use super::json;
use crate::app::App;
use crate::http::body::ResponseBody;

/// `GET /health`: 200 as long as calls are taken. Needs no key and asks nobody.
pub(crate) fn health(app: &App) -> Response<ResponseBody> {
    #[derive(Serialize)]
    struct Health {
        status: &'static str,
        version: &'static str,
        providers: usize,
    }
    let providers = app.gateway.router().providers().len();
    json(StatusCode::OK, &Health { status: "ok", version: env!("CARGO_PKG_VERSION"), providers })
}

/// `GET /v1/health/providers`: asks every provider; 503 if none is well.
pub(crate) async fn providers_health(app: &App) -> Response<ResponseBody> {
    #[derive(Serialize)]
    struct Report {
        providers: Vec<Provider>,
    }
    #[derive(Serialize)]
    struct Provider {
        name: String,
        r#type: &'static str,
        local: bool,
        status: &'static str,
        latency_ms: Option<u64>,
        models: Option<usize>,
        error: Option<String>,
    }
    let reports = app.gateway.health().await;
    let providers: Vec<Provider> = reports
        .into_iter()
        .map(|report| {
            let health = report.health.as_ref().ok();
            Provider {
                name: report.provider.name().to_owned(),
                r#type: report.provider.provider_type().as_str(),
                local: report.provider.is_local(),
                status: if health.is_some() { "healthy" } else { "unhealthy" },
                latency_ms: health.map(|health| health.latency.as_millis().try_into().unwrap_or(u64::MAX)),
                models: health.and_then(|health| health.models),
                // A vendor's own sentence may quote our key, and is for the log.
                error: report.health.as_ref().err().map(|failure| Problem::from(failure).message),
            }
        })
        .collect();
    let well = providers.is_empty() || providers.iter().any(|provider| provider.status == "healthy");
    json(if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &Report { providers })
}
