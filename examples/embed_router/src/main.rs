//! hoosh's router inside another program: no server, no configuration file, no port.
//!
//! ```sh
//! cargo run -p embed_router -- small "What is the capital of France?"
//! ```
//!
//! It asks a llama.cpp server on this machine (`LLAMACPP_URL`, <http://127.0.0.1:8080> unless set), and Ollama
//! (`OLLAMA_URL`, <http://127.0.0.1:11434> unless set) if that one cannot answer. The alias `small` ends at a provider of
//! this program's own ([`apology`]), which answers when nobody else does.

mod apology;

use std::env;
use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use futures_util::StreamExt;
use hoosh_core::{InferenceRequest, ProviderType, StreamEvent};
use hoosh_providers::{HttpProvider, ProviderSettings};
use hoosh_router::{Query, Route, Router};

fn router() -> Result<Router, Box<dyn Error>> {
    let provider = |kind: ProviderType, url: &str| {
        // Where the variable is not set, the provider is where one of its kind usually is.
        HttpProvider::new(ProviderSettings { base_url: env::var(url).ok(), ..ProviderSettings::new(kind) })
    };
    let router = Router::builder()
        .provider(Arc::new(provider(ProviderType::LlamaCpp, "LLAMACPP_URL")?))
        .provider(Arc::new(provider(ProviderType::Ollama, "OLLAMA_URL")?))
        .route(Route { priority: 1, ..Route::to("llamacpp") })
        .route(Route { priority: 2, ..Route::to("ollama") })
        .provider(Arc::new(apology::Apology))
        .route(Route { models: vec!["sorry".into()], ..Route::to("apology") })
        .alias("small", ["smollm2-135m", "ollama/smollm2:135m", "apology/sorry"])
        .build()?;
    Ok(router)
}

async fn ask(router: &Router, request: &InferenceRequest) -> Result<(), Box<dyn Error>> {
    eprintln!("plan: {}", router.plan(&Query::from(request))?);
    let answer = router.infer_stream(request).await?;
    for failure in &answer.failures {
        eprintln!("failed: {failure}");
    }
    eprintln!("answer of {}:", answer.candidate);

    let mut events = answer.value.events;
    let mut out = io::stdout().lock();
    while let Some(event) = events.next().await {
        if let StreamEvent::Text { delta, .. } = event? {
            write!(out, "{delta}")?;
            out.flush()?;
        }
    }
    writeln!(out)?;
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let (Some(model), Some(prompt)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: embed_router MODEL QUESTION");
        return ExitCode::from(64);
    };
    let request = InferenceRequest { model, prompt, max_tokens: Some(200), ..Default::default() };
    let answered = async { ask(&router()?, &request).await };
    match answered.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
