//! What Ollama's API tells of its models, told of those that can be asked for here.
//! Source: docs.ollama.com/api, read 2026-11-24.

use hoosh_core::dialect::ollama_listing;
use hoosh_core::{HooshError, InvalidRequest};
use http::{Request, Response};
use hyper::body::Incoming;
use serde::Deserialize;

use super::models::{known, one};
use super::written;
use crate::app::App;
use crate::http::auth::Caller;
use crate::http::body::{self, ResponseBody};
use crate::http::error::ServerError;

/// The version of Ollama's API that is spoken: clients compare it before they use what is newer.
const API_VERSION: &str = "0.12.0";

/// When the models in memory are let go of, as far as is known here: never, said as Ollama says it of a model that is
/// kept (2318-01-01).
const LOADED_UNTIL: u64 = 10_981_699_200;

/// `GET /api/tags`.
pub(crate) async fn tags(app: &App, caller: &Caller) -> Response<ResponseBody> {
    written(ollama_listing::tags(&known(app, caller).await))
}

/// `GET /api/ps`: the models that servers on this machine hold in memory.
pub(crate) async fn running(app: &App, caller: &Caller) -> Response<ResponseBody> {
    let mut loaded = app.gateway.loaded_models().await;
    loaded.retain(|model| caller.may_ask_for(&model.id, app.gateway.router()));
    written(ollama_listing::ps(&loaded, LOADED_UNTIL))
}

/// `GET /api/version`.
pub(crate) fn version() -> Response<ResponseBody> {
    written(ollama_listing::version(API_VERSION))
}

/// `POST /api/show`.
pub(crate) async fn show(
    app: &App,
    caller: &Caller,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, ServerError> {
    #[derive(Deserialize)]
    struct Show {
        // The older name for it is `name`.
        #[serde(alias = "name")]
        model: String,
    }
    let body = body::read(request.into_body(), false, app.max_body_bytes, app.body_timeout).await;
    let body = body.map_err(ServerError::Unread)?;
    // serde would take a list for the fields in their order.
    let read =
        body.trim_ascii_start().starts_with(b"{").then(|| serde_json::from_slice(&body).ok()).flatten();
    let Some(Show { model }) = read else {
        let invalid = InvalidRequest::new("model", "send a JSON object with the name of a model in it");
        return Err(ServerError::Call(HooshError::from(invalid)));
    };
    Ok(written(ollama_listing::show(&one(app, caller, model).await?)))
}
