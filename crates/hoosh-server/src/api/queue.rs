//! How the lines before the providers are.

use hoosh_gateway::LineStatus;
use hoosh_router::Tier;
use http::{Response, StatusCode};
use serde::Serialize;

use super::json;
use crate::app::App;
use crate::http::body::ResponseBody;

/// `GET /v1/queue/status`: each provider, and each model of one, that answers only so many calls at once.
pub(crate) fn status(app: &App) -> Response<ResponseBody> {
    #[derive(Serialize)]
    struct Status {
        queues: Vec<Line>,
    }
    #[derive(Serialize)]
    struct Line {
        provider: String,
        /// `null`: all models of the provider.
        model: Option<String>,
        running: usize,
        max_concurrent: usize,
        waiting: serde_json::Map<String, serde_json::Value>,
        oldest_wait_ms: u128,
        /// `null` as long as nothing is known of how long an answer takes.
        expected_wait_ms: Option<u128>,
    }
    let lines = app.gateway.queues().into_iter().map(|LineStatus { provider, model, queue: status }| Line {
        provider,
        model: model.map(|model| model.as_ref().to_owned()),
        running: status.running,
        max_concurrent: status.concurrent,
        waiting: Tier::ALL
            .iter()
            .zip(status.waiting_by_tier)
            .map(|(tier, waiting)| (tier.as_str().to_owned(), waiting.into()))
            .collect(),
        oldest_wait_ms: status.oldest_wait.as_millis(),
        expected_wait_ms: status.expected_wait.map(|wait| wait.as_millis()),
    });
    json(StatusCode::OK, &Status { queues: lines.collect() })
}
