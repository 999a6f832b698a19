//! What the cache holds and did, and letting go of it.

use hoosh_core::{HooshError, InvalidRequest};
use hoosh_gateway::CallerId;
use http::{Response, StatusCode};
use serde::Serialize;

use super::json;
use super::models::percent_decoded;
use crate::app::App;
use crate::http::body::ResponseBody;
use crate::http::error::ServerError;

/// `GET /v1/cache/stats`: of all callers together, since the start.
pub(crate) fn stats(app: &App) -> Response<ResponseBody> {
    #[derive(Serialize)]
    struct Stats {
        enabled: bool,
        entries: u64,
        bytes: u64,
        max_bytes: u64,
        hits: u64,
        semantic_hits: u64,
        semantic_entries: u64,
        embeddings_failed: u64,
        misses: u64,
        bypassed: u64,
        waits: u64,
        evictions: u64,
    }
    let cache = app.gateway.cache();
    let stats = cache.map(|cache| cache.stats()).unwrap_or_default();
    let stats = Stats {
        enabled: cache.is_some(),
        entries: stats.entries,
        bytes: stats.bytes,
        max_bytes: app.cache_bytes_max,
        hits: stats.hits,
        semantic_hits: stats.semantic_hits,
        semantic_entries: stats.semantic_entries,
        embeddings_failed: stats.embeddings_failed,
        misses: stats.misses,
        bypassed: stats.bypassed,
        waits: stats.waits,
        evictions: stats.evictions,
    };
    json(StatusCode::OK, &stats)
}

/// `DELETE /v1/cache`: lets go of the caller's answers, with `?model=` of those to one model.
pub(crate) fn purge(
    app: &App,
    caller: &CallerId,
    query: Option<&str>,
) -> Result<Response<ResponseBody>, ServerError> {
    #[derive(Serialize)]
    struct Purged {
        purged: usize,
    }
    let mut model = None;
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=').unwrap_or((pair, "")) {
            ("model", name) => model = Some(percent_decoded(name)),
            // Google's clients send their key there.
            ("key", _) => {}
            // A word that is misspelt must not let go of everything.
            (other, _) => {
                let invalid = InvalidRequest::new(other, "is not known here; `model` is");
                return Err(ServerError::Call(HooshError::InvalidRequest(invalid)));
            }
        }
    }
    let purged = app.gateway.cache().map_or(0, |cache| cache.purge(caller, model.as_deref()));
    Ok(json(StatusCode::OK, &Purged { purged }))
}
