//! Which path and method mean what: one table, no I/O.

use hoosh_budget::keys::Scope;
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
    /// Whether so much would fit into them.
    CheckTokens,
    /// Holding so much for an agent that accounts for itself.
    ReserveTokens,
    /// What it took.
    ReportTokens,
    /// What each call used.
    Usage,
    /// What calls used and cost, summed up.
    Costs,
    /// Cheaper models for the calls that there were.
    Recommendations,
    /// Ending a period of costs.
    ResetCosts,
    /// Working out costs anew.
    Reprice,
    /// What was decided for a call.
    Decision,
    /// What was decided for the latest calls.
    Decisions,
    /// Reading the configuration again.
    Reload,
    /// All keys.
    Keys,
    /// Making a key.
    CreateKey,
    /// Ending a key.
    RevokeKey,
    /// Making a key in the place of another.
    RotateKey,
    /// All pools as they are defined.
    DefinedPools,
    /// Defining a pool, whose name is in the body.
    DefinePool,
    /// Defining a pool, whose name is in the path.
    PutPool,
    /// Ending a pool.
    RemovePool,
    /// What was written down.
    Audit,
    /// How far that has come.
    AuditHead,
    /// Erasing what is kept of a call beside it.
    EraseAudit,
    /// What happens, as it happens.
    Events,
    /// The list of models.
    Models,
    /// One model.
    Model,
}

/// What a route takes of whoever calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Not even a key.
    Nothing,
    /// A key of any scope, which sees its own; with this scope it sees those of all.
    OwnOr(Scope),
    /// A key with this scope.
    Scope(Scope),
}

/// The table itself: everything that is served, in the order of the documentation, and what it takes.
const TABLE: &[(Method, &str, Endpoint, Needs)] = &[
    (
        Method::POST,
        "/v1/chat/completions",
        Endpoint::Call(Dialect::OpenAiChat),
        Needs::Scope(Scope::Inference),
    ),
    (
        Method::POST,
        "/v1/completions",
        Endpoint::Call(Dialect::OpenAiCompletions),
        Needs::Scope(Scope::Inference),
    ),
    (Method::POST, "/v1/responses", Endpoint::Call(Dialect::OpenAiResponses), Needs::Scope(Scope::Inference)),
    (Method::POST, "/v1/messages", Endpoint::Call(Dialect::Anthropic), Needs::Scope(Scope::Inference)),
    (
        Method::POST,
        "/v1/messages/count_tokens",
        Endpoint::Call(Dialect::AnthropicCount),
        Needs::Scope(Scope::Inference),
    ),
    (Method::POST, "/v1beta/models/{*id}", Endpoint::GeminiCall, Needs::Scope(Scope::Inference)),
    // Google's SDKs of 2026 ask the version that is not beta.
    (Method::POST, "/v1/models/{*id}", Endpoint::GeminiCall, Needs::Scope(Scope::Inference)),
    (Method::POST, "/api/chat", Endpoint::Call(Dialect::OllamaChat), Needs::Scope(Scope::Inference)),
    (Method::POST, "/api/generate", Endpoint::Call(Dialect::OllamaGenerate), Needs::Scope(Scope::Inference)),
    (
        Method::POST,
        "/v1/embeddings",
        Endpoint::Call(Dialect::OpenAiEmbeddings),
        Needs::Scope(Scope::Inference),
    ),
    (Method::POST, "/api/embed", Endpoint::Call(Dialect::OllamaEmbed), Needs::Scope(Scope::Inference)),
    (Method::POST, "/v1/rerank", Endpoint::Call(Dialect::Rerank), Needs::Scope(Scope::Inference)),
    (Method::POST, "/v1/moderations", Endpoint::Call(Dialect::Moderations), Needs::Scope(Scope::Inference)),
    (Method::GET, "/v1/models", Endpoint::Models, Needs::Scope(Scope::Inference)),
    // Names of models have slashes in them.
    (Method::GET, "/v1/models/{*id}", Endpoint::Model, Needs::Scope(Scope::Inference)),
    (Method::GET, "/v1beta/models", Endpoint::GeminiModels, Needs::Scope(Scope::Inference)),
    (Method::GET, "/v1beta/models/{*id}", Endpoint::GeminiModel, Needs::Scope(Scope::Inference)),
    (Method::GET, "/api/tags", Endpoint::OllamaTags, Needs::Scope(Scope::Inference)),
    (Method::POST, "/api/show", Endpoint::OllamaShow, Needs::Scope(Scope::Inference)),
    (Method::GET, "/api/ps", Endpoint::OllamaRunning, Needs::Scope(Scope::Inference)),
    (Method::GET, "/api/version", Endpoint::OllamaVersion, Needs::Scope(Scope::Inference)),
    (Method::GET, "/v1/cache/stats", Endpoint::CacheStats, Needs::Scope(Scope::UsageRead)),
    (Method::DELETE, "/v1/cache", Endpoint::PurgeCache, Needs::Scope(Scope::Inference)),
    (Method::GET, "/metrics", Endpoint::Metrics, Needs::Scope(Scope::UsageRead)),
    // Ollama's command line asks here whether anybody is there.
    (Method::GET, "/", Endpoint::Health, Needs::Nothing),
    (Method::GET, "/health", Endpoint::Health, Needs::Nothing),
    (Method::GET, "/v1/health", Endpoint::Health, Needs::Nothing),
    (Method::GET, "/v1/health/providers", Endpoint::ProvidersHealth, Needs::Scope(Scope::UsageRead)),
    (Method::GET, "/v1/health/endpoints", Endpoint::EndpointsHealth, Needs::Scope(Scope::UsageRead)),
    (Method::GET, "/v1/queue/status", Endpoint::QueueStatus, Needs::Scope(Scope::UsageRead)),
    (Method::GET, "/v1/tokens/pools", Endpoint::Pools, Needs::OwnOr(Scope::UsageRead)),
    (Method::POST, "/v1/tokens/check", Endpoint::CheckTokens, Needs::Scope(Scope::Inference)),
    (Method::POST, "/v1/tokens/reserve", Endpoint::ReserveTokens, Needs::Scope(Scope::Inference)),
    (Method::POST, "/v1/tokens/report", Endpoint::ReportTokens, Needs::Scope(Scope::Inference)),
    (Method::GET, "/v1/usage", Endpoint::Usage, Needs::OwnOr(Scope::UsageRead)),
    (Method::GET, "/v1/costs", Endpoint::Costs, Needs::OwnOr(Scope::UsageRead)),
    (Method::GET, "/v1/costs/recommendations", Endpoint::Recommendations, Needs::OwnOr(Scope::UsageRead)),
    (Method::POST, "/v1/costs/reset", Endpoint::ResetCosts, Needs::Scope(Scope::Admin)),
    (Method::GET, "/v1/decisions", Endpoint::Decisions, Needs::Scope(Scope::Inference)),
    (Method::GET, "/v1/decisions/{*id}", Endpoint::Decision, Needs::Scope(Scope::Inference)),
    (Method::POST, "/v1/admin/reload", Endpoint::Reload, Needs::Scope(Scope::Admin)),
    (Method::POST, "/v1/admin/reprice", Endpoint::Reprice, Needs::Scope(Scope::Admin)),
    (Method::GET, "/v1/admin/keys", Endpoint::Keys, Needs::Scope(Scope::Admin)),
    (Method::POST, "/v1/admin/keys", Endpoint::CreateKey, Needs::Scope(Scope::Admin)),
    (Method::DELETE, "/v1/admin/keys/{id}", Endpoint::RevokeKey, Needs::Scope(Scope::Admin)),
    (Method::POST, "/v1/admin/keys/{id}/rotate", Endpoint::RotateKey, Needs::Scope(Scope::Admin)),
    (Method::GET, "/v1/admin/pools", Endpoint::DefinedPools, Needs::Scope(Scope::Admin)),
    (Method::POST, "/v1/admin/pools", Endpoint::DefinePool, Needs::Scope(Scope::Admin)),
    (Method::PUT, "/v1/admin/pools/{id}", Endpoint::PutPool, Needs::Scope(Scope::Admin)),
    (Method::DELETE, "/v1/admin/pools/{id}", Endpoint::RemovePool, Needs::Scope(Scope::Admin)),
    (Method::GET, "/v1/audit", Endpoint::Audit, Needs::Scope(Scope::Admin)),
    (Method::GET, "/v1/audit/head", Endpoint::AuditHead, Needs::Scope(Scope::Admin)),
    (Method::DELETE, "/v1/audit/{id}", Endpoint::EraseAudit, Needs::Scope(Scope::Admin)),
    (Method::GET, "/v1/events", Endpoint::Events, Needs::Scope(Scope::Admin)),
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

/// A path as it is in the table: without an alias at its beginning and a slash at its end.
pub(crate) fn plain(path: &str) -> &str {
    // An alias ends in the `/v1` it stands for, so the path from there on is the real one.
    let is_alias = |alias: &&&str| path.strip_prefix(**alias).is_some_and(|rest| rest.starts_with('/'));
    let alias = PREFIX_ALIASES.iter().find(is_alias);
    let path = alias.map_or(path, |alias| &path[alias.len() - "/v1".len()..]);
    if path.len() > 1 { path.trim_end_matches('/') } else { path }
}

/// The table, compiled.
pub(crate) struct Routes(Router<Vec<Served>>);

/// What one method of a path is for, and what it takes.
type Served = (Method, Endpoint, Needs);

/// What a path and a method lead to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<'p> {
    /// Something, what it takes, and the rest of the path where the endpoint takes one.
    Endpoint(Endpoint, Needs, Option<&'p str>),
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
        for (_, path, ..) in TABLE {
            let methods: Vec<_> =
                TABLE.iter().filter(|row| row.1 == *path).map(|row| (row.0.clone(), row.2, row.3)).collect();
            if router.at(path).is_err() {
                router.insert(*path, methods)?;
            }
        }
        Ok(Self(router))
    }

    /// Looks a path and method up. `HEAD` is served where `GET` is.
    pub(crate) fn find<'p>(&self, method: &Method, path: &'p str) -> Found<'p> {
        let path = plain(path);
        let Ok(matched) = self.0.at(path) else { return Found::Nothing };
        let wanted = if method == Method::HEAD { &Method::GET } else { method };
        match matched.value.iter().find(|(served, ..)| served == wanted) {
            Some((_, endpoint, scope)) => Found::Endpoint(*endpoint, *scope, matched.params.get("id")),
            None => Found::OtherMethods(matched.value.iter().map(|(served, ..)| served.clone()).collect()),
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
        for (method, path, endpoint, scope) in TABLE {
            let rest = if path.contains("{*id}") { "meta-llama/Llama-3" } else { "k_1" };
            let id = path.contains("id}").then_some(rest);
            let path = path.replace("{*id}", rest).replace("{id}", rest);
            check(method.clone(), &path, Found::Endpoint(*endpoint, *scope, id));
        }
    }

    #[test]
    fn aliases_head_and_final_slashes() {
        let chat = Endpoint::Call(Dialect::OpenAiChat);
        check(
            Method::POST,
            "/openai/v1/chat/completions",
            Found::Endpoint(chat, Needs::Scope(Scope::Inference), None),
        );
        check(Method::HEAD, "/health", Found::Endpoint(Endpoint::Health, Needs::Nothing, None));
        check(
            Method::GET,
            "/v1/models/",
            Found::Endpoint(Endpoint::Models, Needs::Scope(Scope::Inference), None),
        );
    }

    /// `HOOSH_WRITE_DOCS=1 cargo test` writes the table into the page, from which the promises take every route there is.
    #[test]
    fn the_documentation_lists_every_route_with_its_scope() {
        const BEGIN: &str = "<!-- routes: a test compares -->\n\n";
        const END: &str = "\n<!-- end of routes -->";
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/http-api.md");
        let page = std::fs::read_to_string(&path).unwrap();
        let begin = page.find(BEGIN).expect("the mark before the table") + BEGIN.len();
        let end = page.find(END).expect("the mark after the table");
        let row = |(method, path, _, needs): &(Method, &str, Endpoint, Needs)| {
            let scope = match needs {
                Needs::Nothing => "none, nor a key".to_owned(),
                Needs::OwnOr(scope) => format!("any for one's own, `{scope}` for all"),
                Needs::Scope(scope) => format!("`{scope}`"),
            };
            format!("| `{method} {}` | {scope} |\n", path.replace("{*id}", "{id}"))
        };
        let rows: String = TABLE.iter().map(row).collect();
        let table = format!("| route | scope |\n|---|---|\n{rows}");
        if std::env::var_os("HOOSH_WRITE_DOCS").is_some() {
            std::fs::write(&path, format!("{}{table}{}", &page[..begin], &page[end..])).unwrap();
        } else {
            assert_eq!(&page[begin..end], table, "HOOSH_WRITE_DOCS=1 cargo test writes it");
        }
    }

    #[test]
    fn wrong_methods_and_paths() {
        check(Method::GET, "/v1/embeddings", Found::OtherMethods(vec![Method::POST]));
        for path in ["/v2/models", "/openai/v1models", "/openai/v1", "/v1/chat"] {
            check(Method::GET, path, Found::Nothing);
        }
    }
}
