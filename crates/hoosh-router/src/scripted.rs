//! A provider that plays a script, for tests.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use futures_util::stream;
use hoosh_core::{
    EmbeddingRequest, EmbeddingResponse, EventStream, FailureKind, FinishReason, InferenceRequest,
    InferenceResponse, LlmProvider, ModelInfo, ProviderHealth, ProviderType, StreamEvent, UpstreamFailure,
};

use crate::breaker::RestReason;
use crate::plan::{Candidate, Plan, Resting, Seen, Way, Why};
use crate::random::Seed;
use crate::strategy::{Moment, Strategy, Turn};
use crate::table::RouteOptions;

/// Plays one act per call and remembers the models it was asked for.
#[derive(Debug)]
pub(crate) struct Scripted {
    name: String,
    kind: ProviderType,
    is_local: bool,
    acts: Mutex<VecDeque<Act>>,
    calls: Mutex<Vec<String>>,
}

#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// Answers this text, whole or streamed, or one vector of its length.
    Text(&'static str),
    /// Fails at once.
    Fail(FailureKind),
    /// Streams this.
    Stream(Vec<Result<StreamEvent, FailureKind>>),
}

// === impl Scripted ===

impl Scripted {
    pub(crate) fn new(name: &str, acts: impl IntoIterator<Item = Act>) -> Arc<Self> {
        let acts = Mutex::new(acts.into_iter().collect());
        let (kind, is_local) = (ProviderType::OpenAiCompatible, true);
        Arc::new(Self { name: name.to_owned(), kind, is_local, acts, calls: Mutex::default() })
    }

    /// A remote one of this kind that is never asked.
    pub(crate) fn elsewhere(name: &str, kind: ProviderType) -> Arc<dyn LlmProvider> {
        let (acts, calls) = Default::default();
        Arc::new(Self { name: name.to_owned(), kind, is_local: false, acts, calls })
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }

    fn play(&self, model: &str) -> Result<Act, UpstreamFailure> {
        self.calls.lock().unwrap().push(model.to_owned());
        match self.acts.lock().unwrap().pop_front().expect("a scripted act") {
            Act::Fail(kind) => Err(failure(kind).at(&self.name)),
            act => Ok(act),
        }
    }
}

impl LlmProvider for Scripted {
    fn name(&self) -> &str {
        &self.name
    }

    fn provider_type(&self) -> ProviderType {
        self.kind
    }

    fn is_local(&self) -> bool {
        self.is_local
    }

    fn infer<'a>(
        &'a self,
        model: &'a str,
        _: &'a InferenceRequest,
    ) -> BoxFuture<'a, Result<InferenceResponse, UpstreamFailure>> {
        Box::pin(async move {
            match self.play(model)? {
                Act::Text(text) => Ok(InferenceResponse { text: text.to_owned(), ..Default::default() }),
                act => panic!("{act:?} is no whole answer"),
            }
        })
    }

    fn infer_stream<'a>(
        &'a self,
        model: &'a str,
        _: &'a InferenceRequest,
    ) -> BoxFuture<'a, Result<EventStream, UpstreamFailure>> {
        Box::pin(async move {
            let items = match self.play(model)? {
                Act::Text(said) => vec![Ok(start()), Ok(text(said)), Ok(finish())],
                Act::Stream(items) => items,
                act @ Act::Fail(_) => panic!("{act:?} is no stream"),
            };
            let name = self.name.clone();
            let items = items.into_iter().map(move |item| item.map_err(|kind| failure(kind).at(&name)));
            Ok(EventStream::new(stream::iter(items)))
        })
    }

    fn embed<'a>(
        &'a self,
        model: &'a str,
        _: &'a EmbeddingRequest,
    ) -> BoxFuture<'a, Result<EmbeddingResponse, UpstreamFailure>> {
        Box::pin(async move {
            match self.play(model)? {
                Act::Text(text) => {
                    Ok(EmbeddingResponse { embeddings: vec![vec![0.5; text.len()]], ..Default::default() })
                }
                act => panic!("{act:?} is no vector"),
            }
        })
    }

    fn list_models(&self) -> BoxFuture<'_, Result<Vec<ModelInfo>, UpstreamFailure>> {
        unreachable!("the router never asks")
    }

    fn health_check(&self) -> BoxFuture<'_, Result<ProviderHealth, UpstreamFailure>> {
        unreachable!("the router never asks")
    }
}

pub(crate) fn failure(kind: FailureKind) -> UpstreamFailure {
    UpstreamFailure::new(kind, "as scripted")
}

pub(crate) fn start() -> StreamEvent {
    StreamEvent::Start { id: "1".into(), model: "m".into(), created: None }
}

pub(crate) fn text(delta: &str) -> StreamEvent {
    StreamEvent::Text { choice: 0, delta: delta.to_owned() }
}

pub(crate) fn finish() -> StreamEvent {
    StreamEvent::Finish { choice: 0, reason: FinishReason::Stop }
}

/// A plan of providers that are never asked.
pub(crate) fn plan<'a>(names: impl IntoIterator<Item = &'a str>) -> Plan {
    let candidates = names.into_iter().map(candidate).collect();
    of(candidates, Vec::new())
}

/// The same of providers that are let alone, each for so many seconds.
pub(crate) fn resting<'a>(all: impl IntoIterator<Item = (&'a str, u64)>, now: Instant) -> Plan {
    let rest = |(name, seconds)| {
        let rest = Duration::from_secs(seconds);
        Resting { candidate: candidate(name), until: now + rest, rest, why: RestReason::Failing }
    };
    of(Vec::new(), all.into_iter().map(rest).collect())
}

fn of(candidates: Vec<Candidate>, resting: Vec<Resting>) -> Plan {
    let moment = Moment { now: Instant::now(), turn: Turn::default(), seed: Seed::default() };
    let (passed_over, strategy, prices) = (Vec::new(), Strategy::default(), Arc::default());
    Plan { candidates, resting, passed_over, strategy, moment, prices }
}

fn candidate(name: &str) -> Candidate {
    Candidate {
        provider: Scripted::new(name, []),
        model: "m".into(),
        why: Why { alias: None, way: Way::Direct, weight: 1, is_canary: false },
        fidelity: None,
        seen: Seen::default(),
        options: RouteOptions::default(),
        context: None,
    }
}
