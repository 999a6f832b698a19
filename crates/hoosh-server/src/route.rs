//! Which path and method mean what: one table, no I/O.

use hoosh_core::dialect::Dialect;
use http::Method;
use matchit::Router;

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// A call in this dialect.
    Call(Dialect),
    /// A call in one of Gemini's dialects: model and operation are in the path.
    GeminiCall,
    /// The list of models as Gemini has it.
    GeminiModels,
    /// One model as Gemini has it.
    GeminiModel,
    /// The list of models as Ollama has it.
    OllamaTags,
    /// One model as Ollama has it.
    OllamaShow,
    /// The models in memory as Ollama has them.
    OllamaRunning,
    /// The version as Ollama has it.
    OllamaVersion,
    /// What the cache holds and did.
    CacheStats,
    /// Letting go of cached answers.
    PurgeCache,
    /// What is counted.
    Metrics,
    /// Whether this process is well.
    Health,
    /// How the providers are.
    ProvidersHealth,
    /// What calls have told of each model.
    EndpointsHealth,
    /// How the lines before the providers are.
    QueueStatus,
    /// How the pools stand.
    Pools,
    /// What was decided for a call.
    Decision,
    /// What was decided for the latest calls.
    Decisions,
    /// Reading the configuration again.
    Reload,
    /// What happens, as it happens.
    Events,
    /// The list of models.
    Models,
    /// One model.
    Model,
}

/// The table itself: everything that is served, in the order of the documentation.
const TABLE: &[(Method, &str, Endpoint)] = &[
    (Method::POST, "/v1/chat/completions", Endpoint::Call(Dialect::OpenAiChat)),
    (Method::POST, "/v1/completions", Endpoint::Call(Dialect::OpenAiCompletions)),
    (Method::POST, "/v1/responses", Endpoint::Call(Dialect::OpenAiResponses)),
    (Method::POST, "/v1/messages", Endpoint::Call(Dialect::Anthropic)),
    (Method::POST, "/v1/messages/count_tokens", Endpoint::Call(Dialect::AnthropicCount)),
    (Method::POST, "/v1beta/models/{*id}", Endpoint::GeminiCall),
    // Google's SDKs of 2026 ask the version that is not beta.
    (Method::POST, "/v1/models/{*id}", Endpoint::GeminiCall),
    (Method::POST, "/api/chat", Endpoint::Call(Dialect::OllamaChat)),
    (Method::POST, "/api/generate", Endpoint::Call(Dialect::OllamaGenerate)),
    (Method::POST, "/v1/embeddings", Endpoint::Call(Dialect::OpenAiEmbeddings)),
    (Method::POST, "/api/embed", Endpoint::Call(Dialect::OllamaEmbed)),
    (Method::POST, "/v1/rerank", Endpoint::Call(Dialect::Rerank)),
    (Method::POST, "/v1/moderations", Endpoint::Call(Dialect::Moderations)),
    (Method::GET, "/v1/models", Endpoint::Models),
    // Names of models have slashes in them.
    (Method::GET, "/v1/models/{*id}", Endpoint::Model),
    (Method::GET, "/v1beta/models", Endpoint::GeminiModels),
    (Method::GET, "/v1beta/models/{*id}", Endpoint::GeminiModel),
    (Method::GET, "/api/tags", Endpoint::OllamaTags),
    (Method::POST, "/api/show", Endpoint::OllamaShow),
    (Method::GET, "/api/ps", Endpoint::OllamaRunning),
    (Method::GET, "/api/version", Endpoint::OllamaVersion),
    (Method::GET, "/v1/cache/stats", Endpoint::CacheStats),
    (Method::DELETE, "/v1/cache", Endpoint::PurgeCache),
    (Method::GET, "/metrics", Endpoint::Metrics),
    // Ollama's command line asks here whether anybody is there.
    (Method::GET, "/", Endpoint::Health),
    (Method::GET, "/health", Endpoint::Health),
    (Method::GET, "/v1/health", Endpoint::Health),
    (Method::GET, "/v1/health/providers", Endpoint::ProvidersHealth),
    (Method::GET, "/v1/health/endpoints", Endpoint::EndpointsHealth),
    (Method::GET, "/v1/queue/status", Endpoint::QueueStatus),
    (Method::GET, "/v1/tokens/pools", Endpoint::Pools),
    (Method::GET, "/v1/decisions", Endpoint::Decisions),
    (Method::GET, "/v1/decisions/{*id}", Endpoint::Decision),
    (Method::POST, "/v1/admin/reload", Endpoint::Reload),
    (Method::GET, "/v1/events", Endpoint::Events),
];

/// Prefixes that stand for `/v1`: the Groq SDK adds this one to whatever base URL it is given.
const PREFIX_ALIASES: &[&str] = &["/openai/v1"];

/// Whose words an error at this path is told in, before more is known of the request.
pub(crate) fn dialect_of(path: &str) -> Dialect {
    const PLACES: &[(&str, Dialect)] = &[
        ("/v1/messages", Dialect::Anthropic),
        ("/v1beta/", Dialect::Gemini),
        ("/api/", Dialect::OllamaChat),
    ];
    PLACES
        .iter()
        .find(|(place, _)| path.starts_with(place))
        .map_or(Dialect::OpenAiChat, |(_, dialect)| *dialect)
}

/// The table, compiled.
pub(crate) struct Routes(Router<Vec<(Method, Endpoint)>>);

/// What a path and a method lead to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<'p> {
    /// Something, with the rest of the path where the endpoint takes one.
    Endpoint(Endpoint, Option<&'p str>),
    /// A path that has other methods.
    OtherMethods(Vec<Method>),
    /// Nothing.
    Nothing,
}

// === impl Routes ===

impl Routes {
    /// Compiles the table.
    ///
    /// # Errors
    ///
    /// If two of its paths are in conflict, which a test holds they are not.
    pub(crate) fn compile() -> Result<Self, matchit::InsertError> {
        let mut router = Router::new();
        for (_, path, _) in TABLE {
            let methods: Vec<_> =
                TABLE.iter().filter(|row| row.1 == *path).map(|row| (row.0.clone(), row.2)).collect();
            if router.at(path).is_err() {
                router.insert(*path, methods)?;
            }
        }
        Ok(Self(router))
    }

    /// Looks a path and method up. `HEAD` is served where `GET` is.
    pub(crate) fn find<'p>(&self, method: &Method, path: &'p str) -> Found<'p> {
        // An alias ends in the `/v1` it stands for, so the path from there on is the real one.
        let alias = PREFIX_ALIASES
            .iter()
            .find(|alias| path.strip_prefix(**alias).is_some_and(|rest| rest.starts_with('/')));
        let path = alias.map_or(path, |alias| &path[alias.len() - "/v1".len()..]);
        let path = if path.len() > 1 { path.trim_end_matches('/') } else { path };
        let Ok(matched) = self.0.at(path) else { return Found::Nothing };
        let wanted = if method == Method::HEAD { &Method::GET } else { method };
        match matched.value.iter().find(|(served, _)| served == wanted) {
            Some((_, endpoint)) => Found::Endpoint(*endpoint, matched.params.get("id")),
            None => Found::OtherMethods(matched.value.iter().map(|(served, _)| served.clone()).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(method: Method, path: &str, expected: Found<'_>) {
        assert_eq!(Routes::compile().unwrap().find(&method, path), expected);
    }

    #[test]
    fn every_row_is_found() {
        for (method, path, endpoint) in TABLE {
            let path = path.replace("{*id}", "meta-llama/Llama-3");
            let id = path.ends_with("Llama-3").then_some("meta-llama/Llama-3");
            check(method.clone(), &path, Found::Endpoint(*endpoint, id));
        }
    }

    #[test]
    fn aliases_head_and_final_slashes() {
        let chat = Endpoint::Call(Dialect::OpenAiChat);
        check(Method::POST, "/openai/v1/chat/completions", Found::Endpoint(chat, None));
        check(Method::HEAD, "/health", Found::Endpoint(Endpoint::Health, None));
        check(Method::GET, "/v1/models/", Found::Endpoint(Endpoint::Models, None));
    }

    #[test]
    fn wrong_methods_and_paths() {
        check(Method::GET, "/v1/embeddings", Found::OtherMethods(vec![Method::POST]));
        for path in ["/v2/models", "/openai/v1models", "/openai/v1", "/v1/chat"] {
            check(Method::GET, path, Found::Nothing);
        }
    }
}
