//! The endpoints, each a function from a request to an answer.

pub(crate) mod anthropic;
pub(crate) mod audit;
pub(crate) mod cache;
mod call;
pub(crate) mod decisions;
pub(crate) mod events;
pub(crate) mod gemini;
mod health;
pub(crate) mod keys;
mod models;
pub(crate) mod ollama;
pub(crate) mod pools;
pub(crate) mod queue;
pub(crate) mod reload;
pub(crate) mod tokens;
pub(crate) mod usage;
mod waiting;
pub(crate) mod wishes;

pub(crate) use call::call;
pub(crate) use health::{endpoints_health, health, providers_health};
pub(crate) use models::{model, models};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;

use crate::app::App;
use crate::http::body::ResponseBody;

/// `GET /metrics`: what is counted, in Prometheus' text form.
pub(crate) fn metrics(app: &App) -> Response<ResponseBody> {
    if let Some(cache) = app.gateway.cache() {
        app.metrics.count_cache(&cache.stats());
    }
    if let Some(audit) = &app.audit {
        app.metrics.count_audit(&audit.log.status());
    }
    let mut response = Response::new(ResponseBody::full(app.metrics.text(&app.config_hash)));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// The kind of a stream of server-sent events (HTML Living Standard, 9.2).
const EVENT_STREAM: &str = "text/event-stream";

/// An answer that comes bit by bit.
fn streamed(content_type: &'static str, body: ResponseBody) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // nginx in front of us would otherwise hold it back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// An answer of JSON that is written already.
fn written(body: impl Into<Bytes>) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::full(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// An answer of JSON.
fn json<T: Serialize>(status: StatusCode, value: &T) -> Response<ResponseBody> {
    // Our own answers only hold what JSON can write.
    let body = serde_json::to_vec(value).unwrap_or_default();
    let mut response = written(body);
    *response.status_mut() = status;
    response
}
