//! The models that can be asked for, in OpenAI's list with what we know beside it.

use hoosh_core::{ModelInfo, NoRoute};
use hoosh_router::{Query, near};
use http::{Response, StatusCode};
use serde::Serialize;

use super::json;
use crate::app::App;
use crate::http::body::ResponseBody;
use crate::http::error::ServerError;

#[derive(Serialize)]
struct List {
    object: &'static str,
    data: Vec<Model>,
}

#[derive(Serialize)]
struct Model {
    id: String,
    object: &'static str,
    created: u64,
    owned_by: String,
    hoosh: Details,
}

/// What we know of a model, where it is known.
#[derive(Serialize, Default)]
struct Details {
    /// Those who serve it, the first asked first.
    providers: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alias_of: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context_window: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_max: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tools: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<bool>,
    /// US dollars per million tokens, as decimal text.
    #[serde(skip_serializing_if = "Option::is_none")]
    input_price: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_price: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    deprecated: bool,
}

/// `GET /v1/models`: aliases first, then what each provider lists and the routes lead to.
pub(crate) async fn models(app: &App) -> Response<ResponseBody> {
    json(StatusCode::OK, &List { object: "list", data: all(app).await })
}

/// `GET /v1/models/{id}`: one of them.
pub(crate) async fn model(app: &App, id: &str) -> Result<Response<ResponseBody>, ServerError> {
    let id = percent_decoded(id);
    let all = all(app).await;
    match all.iter().find(|model| model.id == id) {
        Some(model) => Ok(json(StatusCode::OK, model)),
        None => {
            let near = near(&id, all.iter().map(|model| model.id.as_str()));
            Err(ServerError::NoSuchModel(NoRoute { model: id, considered: Vec::new(), near }))
        }
    }
}

async fn all(app: &App) -> Vec<Model> {
    let aliases = app.aliases.iter().map(|(name, targets)| Model {
        id: name.clone(),
        object: "model",
        created: 0,
        owned_by: "hoosh".to_owned(),
        hoosh: Details { alias_of: Some(targets.clone()), ..Details::default() },
    });
    let mut all: Vec<Model> = aliases.collect();
    for info in app.gateway.models().await {
        // A provider may list what no route leads to; and several may list the same.
        let Ok(plan) = app.gateway.router().plan(&Query { model: &info.id, max_tokens: None }) else {
            continue;
        };
        let providers: Vec<String> =
            plan.candidates.iter().map(|candidate| candidate.provider.name().to_owned()).collect();
        if providers.contains(&info.provider) && !all.iter().any(|model| model.id == info.id) {
            all.push(entry(info, providers));
        }
    }
    all
}

fn entry(info: ModelInfo, providers: Vec<String>) -> Model {
    let rates = info.price.as_ref().map(|price| &price.rates);
    let plain = |price: hoosh_core::NanoUsd| price.to_string().trim_start_matches('$').to_owned();
    Model {
        object: "model",
        created: info.created.unwrap_or(0),
        owned_by: info.owned_by.unwrap_or_else(|| info.provider.clone()),
        hoosh: Details {
            provider: providers.first().cloned(),
            providers,
            alias_of: None,
            context_window: info.context_window,
            output_max: info.output_max,
            tools: info.tools,
            reasoning: info.reasoning,
            input_price: rates.map(|rates| plain(rates.input)),
            output_price: rates.map(|rates| plain(rates.output)),
            deprecated: info.deprecated,
        },
        id: info.id,
    }
}

/// The SDKs percent-encode the slash in a model's name.
fn percent_decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}
