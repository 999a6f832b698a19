//! The promises of the README, each kept through the real binary or the public API. One file per promise.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on says so by its panic")]

mod alerts;
mod audit;
mod bad_input;
mod budgets;
mod cache;
mod cli;
mod context;
mod continued;
mod costs;
mod dialects;
mod embeddings;
mod events;
mod exact;
mod explain;
mod facade;
mod failover;
mod fidelity;
mod jwks;
mod keys;
mod lifecycle;
mod limits;
mod models_and_health;
mod ollama_models;
mod pass_through;
mod pools;
mod reload;
mod replay;
mod reprice;
mod responses;
mod routing;
mod semantic_cache;
mod streams;
mod tokens;
mod translation;
mod usage;
mod vendors;
mod waiting;
mod zero_config;

use testkit::{Hoosh, Upstream};

/// The configuration of one provider that serves everything.
fn provider(name: &str, upstream: &Upstream) -> String {
    at(name, &upstream.url(), "")
}

/// The configuration of a provider at a URL, with further keys.
fn at(name: &str, url: &str, keys: &str) -> String {
    format!(
        "[[providers]]\ntype = \"openai_compatible\"\nname = \"{name}\"\nbase_url = \"{url}\"\nmodels = [\"*\"]\n{keys}\n"
    )
}

/// A gateway before one scripted upstream.
async fn one() -> (Hoosh, Upstream) {
    let upstream = Upstream::start().await;
    let hoosh = Hoosh::start(&provider("up", &upstream)).await;
    (hoosh, upstream)
}

/// The JSON of an answer.
async fn json(response: reqwest::Response) -> serde_json::Value {
    let text = response.text().await.unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A header of an answer.
fn header<'r>(response: &'r reqwest::Response, name: &str) -> &'r str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}
