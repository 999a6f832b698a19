//! The list of models as Anthropic has it. Source: docs.anthropic.com/en/api/models-list, read 2026-11-24.

use hoosh_core::ModelInfo;
use http::{HeaderMap, Response, StatusCode};
use serde::Serialize;

use super::json;
use super::models::{known, one, percent_decoded};
use crate::app::App;
use crate::http::auth::Caller;
use crate::http::body::ResponseBody;
use crate::http::error::ServerError;

/// Whether a client of Anthropic's asks: its list has the path of OpenAI's.
pub(crate) fn is_asked_for(headers: &HeaderMap) -> bool {
    headers.contains_key("anthropic-version")
}

#[derive(Serialize)]
struct Model {
    r#type: &'static str,
    display_name: String,
    created_at: String,
    id: String,
}

impl From<ModelInfo> for Model {
    fn from(info: ModelInfo) -> Self {
        Self {
            r#type: "model",
            display_name: info.id.clone(),
            created_at: hoosh_core::dialect::rfc3339(info.created.unwrap_or(0)),
            id: info.id,
        }
    }
}

/// `GET /v1/models`, all on one page.
pub(crate) async fn models(app: &App, caller: &Caller) -> Response<ResponseBody> {
    #[derive(Serialize)]
    struct List {
        data: Vec<Model>,
        has_more: bool,
        first_id: Option<String>,
        last_id: Option<String>,
    }
    let data: Vec<Model> = known(app, caller).await.into_iter().map(Model::from).collect();
    let (first_id, last_id) = (data.first().map(|one| one.id.clone()), data.last().map(|one| one.id.clone()));
    json(StatusCode::OK, &List { data, has_more: false, first_id, last_id })
}

/// `GET /v1/models/{id}`.
pub(crate) async fn model(
    app: &App,
    caller: &Caller,
    id: &str,
) -> Result<Response<ResponseBody>, ServerError> {
    Ok(json(StatusCode::OK, &Model::from(one(app, caller, percent_decoded(id)).await?)))
}
