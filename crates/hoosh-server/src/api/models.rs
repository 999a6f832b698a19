//! The models that can be asked for, in OpenAI's list with what we know beside it.

use std::collections::HashSet;

use hoosh_core::prices::PriceSource;
use hoosh_core::{ModelInfo, NoRoute, NoRouteCause, Rates};
use hoosh_router::{Candidate, near};
use http::{Response, StatusCode};
use jiff::Timestamp;
use serde::Serialize;

use super::json;
use crate::app::App;
use crate::http::auth::Caller;
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
pub(crate) async fn models(app: &App, caller: &Caller) -> Response<ResponseBody> {
    json(StatusCode::OK, &List { object: "list", data: all(app, caller).await })
}

/// `GET /v1/models/{id}`: one of them.
pub(crate) async fn model(
    app: &App,
    caller: &Caller,
    id: &str,
) -> Result<Response<ResponseBody>, ServerError> {
    let id = one(app, caller, percent_decoded(id)).await?.id;
    let model = all(app, caller).await.into_iter().find(|model| model.id == id);
    // It was there a moment ago.
    model.map(|model| json(StatusCode::OK, &model)).ok_or_else(|| no_such_model(id, &[]))
}

async fn all(app: &App, caller: &Caller) -> Vec<Model> {
    let aliases = app.aliases.iter().map(|(name, targets)| Model {
        id: name.clone(),
        object: "model",
        created: 0,
        owned_by: "hoosh".to_owned(),
        hoosh: Details { alias_of: Some(targets.clone()), ..Details::default() },
    });
    let now = u64::try_from(Timestamp::now().as_second()).unwrap_or_default();
    let mut all: Vec<Model> = aliases.collect();
    let mut seen: HashSet<String> = app.aliases.keys().cloned().collect();
    for info in app.gateway.models().await {
        // Several providers may list the same.
        if seen.insert(info.id.clone()) {
            let candidates = app.gateway.router().candidates(&info.id);
            let rates = candidates.first().and_then(|candidate| rates(app, candidate, now));
            let names = candidates.iter().map(|candidate| candidate.provider.name());
            let names = names.filter(|name| caller.may_be_answered_by(name)).map(str::to_owned);
            all.push(entry(info, names.collect(), rates));
        }
    }
    all.retain(|model| caller.may_ask_for(&model.id, app.gateway.router()));
    all
}

/// The usual prices of a model. `None`: they are not known, or nobody bills it.
fn rates(app: &App, candidate: &Candidate, now: u64) -> Option<Rates> {
    let prices = app.gateway.router().table().prices();
    let priced = prices.price_at((&*candidate.provider).into(), &candidate.model, now)?;
    (priced.source != PriceSource::Local).then_some(priced.price.rates)
}

fn entry(info: ModelInfo, providers: Vec<String>, rates: Option<Rates>) -> Model {
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

/// Every model that the caller may ask for once, aliases among them, for lists in other words than OpenAI's.
pub(super) async fn known(app: &App, caller: &Caller) -> Vec<ModelInfo> {
    let mut all = app.gateway.models().await;
    let mut seen = HashSet::new();
    all.retain(|model| seen.insert(model.id.clone()));
    let aliases = app.aliases.keys().filter(|name| !seen.contains(*name));
    all.extend(aliases.map(|name| ModelInfo::named("hoosh", name)));
    all.retain(|model| caller.may_ask_for(&model.id, app.gateway.router()));
    all
}

/// A model of that list by its name, also as `provider/model`, and without the `:latest` that Ollama adds.
pub(super) async fn one(app: &App, caller: &Caller, name: String) -> Result<ModelInfo, ServerError> {
    let all = known(app, caller).await;
    let plain = |name: &str| name.strip_suffix(":latest").unwrap_or(name).to_owned();
    let is_it = |known: &&ModelInfo| {
        plain(&known.id) == plain(&name)
            || name
                .split_once('/')
                .is_some_and(|(provider, rest)| known.provider == provider && known.id == rest)
    };
    let exact = all.iter().find(|known| known.id == name);
    exact.or_else(|| all.iter().find(is_it)).cloned().ok_or_else(|| no_such_model(name, &all))
}

fn no_such_model(model: String, known: &[ModelInfo]) -> ServerError {
    let near = near(&model, known.iter().map(|known| known.id.as_str()));
    ServerError::NoSuchModel(NoRoute { model, considered: Vec::new(), near, cause: NoRouteCause::Model })
}

/// The SDKs percent-encode the slash in a model's name.
pub(super) fn percent_decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}
