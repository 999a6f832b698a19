//! Whether this process is well, and how its providers are.

use hoosh_core::Problem;
use hoosh_router::HealthState;
use http::{Response, StatusCode};
use serde::Serialize;

use super::json;
use crate::app::App;
use crate::audit::OpenLog;
use crate::http::body::ResponseBody;

/// `GET /health`: 200 as long as calls are taken, 503 while none is, since it cannot be written down. Needs no key and asks nobody.
pub(crate) fn health(app: &App) -> Response<ResponseBody> {
    #[derive(Serialize)]
    struct Health<'a> {
        status: &'static str,
        version: &'static str,
        config: &'a str,
        providers: usize,
        #[serde(skip_serializing_if = "Option::is_none")]
        audit: Option<&'static str>,
    }
    let providers = app.gateway.router().providers().len();
    let (version, config) = (env!("CARGO_PKG_VERSION"), app.config_hash.as_str());
    let failing = |open: &OpenLog| if open.log.status().failing.is_some() { "failing" } else { "ok" };
    let audit = app.audit.as_ref().map(failing);
    let (code, status) = match app.audit.as_ref().is_some_and(OpenLog::refuses) {
        true => (StatusCode::SERVICE_UNAVAILABLE, "failing"),
        false => (StatusCode::OK, "ok"),
    };
    json(code, &Health { status, version, config, providers, audit })
}

/// `GET /v1/health/endpoints`: what calls have told of each model of each provider. Asks nobody.
pub(crate) fn endpoints_health(app: &App) -> Response<ResponseBody> {
    #[derive(Serialize)]
    struct Report {
        endpoints: Vec<Endpoint>,
    }
    #[derive(Serialize)]
    struct Endpoint {
        provider: String,
        model: String,
        state: &'static str,
        why: Option<&'static str>,
        rest_ms: Option<u128>,
        in_flight: usize,
        latency_ms: Option<u128>,
        time_to_first_ms: Option<u128>,
    }
    let now = tokio::time::Instant::now().into_std();
    let mut endpoints: Vec<Endpoint> = app
        .gateway
        .router()
        .health()
        .endpoints(now)
        .into_iter()
        .map(|endpoint| {
            let (rest, why) = match endpoint.state {
                HealthState::Resting { rest, why } => (Some(rest.as_millis()), Some(why.as_str())),
                _ => (None, None),
            };
            Endpoint {
                provider: endpoint.provider.to_string(),
                model: endpoint.model.to_string(),
                state: endpoint.state.as_str(),
                why,
                rest_ms: rest,
                in_flight: endpoint.in_flight,
                latency_ms: endpoint.latency.map(|time| time.as_millis()),
                time_to_first_ms: endpoint.time_to_first.map(|time| time.as_millis()),
            }
        })
        .collect();
    endpoints.sort_by(|a, b| (&a.provider, &a.model).cmp(&(&b.provider, &b.model)));
    json(StatusCode::OK, &Report { endpoints })
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
