//! What one plan costs among 1,000 routes, by every strategy: `cargo bench -p hoosh-router` (`just bench-plan`).
//!
//! The bar is 1 µs, on a machine that does nothing else. The table is a hard one: half exact names, 40 % prefixes, some of them beginnings of others, 10 %
//! other globs, and eight routes for everything, so that no name has few candidates.

#![allow(clippy::expect_used, reason = "a bench that cannot begin says so by its panic")]

use std::sync::Arc;

use divan::{Bencher, black_box};
use futures_util::future::{BoxFuture, ready};
use hoosh_core::{
    EmbeddingRequest, EmbeddingResponse, EventStream, FailureKind, InferenceRequest, InferenceResponse,
    LlmProvider, ModelInfo, ProviderHealth, ProviderType, UpstreamFailure,
};
use hoosh_router::{Query, Route, Router, Strategy};

const ROUTES: usize = 1_000;
const PROVIDERS: usize = 10;
const ROUTES_FOR_ALL: usize = 8;

const NAMES: [&str; 6] = [
    "family-7-model-7-instruct", // exact, and the prefixes of its family
    "family-9x",                 // prefixes only
    "gpt-4o-18-mini",            // another glob
    "nothing-like-it",           // those for everything
    "p3/whatever",               // a named provider
    "fast",                      // an alias of two
];

/// A provider that is never asked.
#[derive(Debug)]
struct Mute(String);

type Answer<'a, T> = BoxFuture<'a, Result<T, UpstreamFailure>>;

fn no<'a, T: Send + 'a>() -> Answer<'a, T> {
    Box::pin(ready(Err(UpstreamFailure::new(FailureKind::Unsupported, "it is mute"))))
}

impl LlmProvider for Mute {
    fn name(&self) -> &str {
        &self.0
    }

    fn provider_type(&self) -> ProviderType {
        ProviderType::OpenAiCompatible
    }

    fn is_local(&self) -> bool {
        true
    }

    fn infer<'a>(&'a self, _: &'a str, _: &'a InferenceRequest) -> Answer<'a, InferenceResponse> {
        no()
    }

    fn infer_stream<'a>(&'a self, _: &'a str, _: &'a InferenceRequest) -> Answer<'a, EventStream> {
        no()
    }

    fn embed<'a>(&'a self, _: &'a str, _: &'a EmbeddingRequest) -> Answer<'a, EmbeddingResponse> {
        no()
    }

    fn list_models(&self) -> Answer<'_, Vec<ModelInfo>> {
        no()
    }

    fn health_check(&self) -> Answer<'_, ProviderHealth> {
        no()
    }
}

/// The pattern of the route with this number.
fn pattern(route: usize) -> String {
    match route % 20 {
        0..10 => format!("family-{}-model-{route}-instruct", route % 50),
        10..18 => format!("{}*", &format!("family-{}-model-{route}", route % 50)[..8 + route % 9]),
        18 => format!("*-{route}-mini"),
        _ => format!("family-?-model-*-{route}"),
    }
}

fn router(strategy: Strategy) -> Router {
    let mut builder = Router::builder().strategy(strategy);
    for provider in 0..PROVIDERS {
        builder = builder.provider(Arc::new(Mute(format!("p{provider}"))));
    }
    for route in 0..ROUTES - ROUTES_FOR_ALL {
        let models = vec![pattern(route)];
        let priority = 1 + (route % 3) as u32;
        builder = builder.route(Route { models, priority, ..Route::to(format!("p{}", route % PROVIDERS)) });
    }
    for provider in 0..ROUTES_FOR_ALL {
        builder = builder.route(Route::to(format!("p{provider}")));
    }
    builder
        .alias("fast", ["family-7-model-7-instruct", "p3/elsewhere"])
        .build()
        .expect("the routes fit together")
}

fn plan(bencher: Bencher<'_, '_>, strategy: Strategy, model: &str) {
    let router = router(strategy);
    let query = Query { model, max_tokens: Some(1_000), ..Query::default() };
    bencher.bench_local(|| router.plan(black_box(&query)));
}

#[divan::bench(args = NAMES)]
fn priority(bencher: Bencher<'_, '_>, model: &str) {
    plan(bencher, Strategy::Priority, model);
}

#[divan::bench(args = NAMES)]
fn round_robin(bencher: Bencher<'_, '_>, model: &str) {
    plan(bencher, Strategy::RoundRobin, model);
}

/// Every strategy, for a name with many candidates.
#[divan::bench(args = Strategy::ALL)]
fn by_strategy(bencher: Bencher<'_, '_>, strategy: Strategy) {
    plan(bencher, strategy, NAMES[0]);
}

fn main() {
    divan::main();
}
