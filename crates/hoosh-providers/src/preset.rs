//! The preset table: what is known of each vendor and model server, one row each.
//!
//! Adding a vendor that speaks a known dialect is a row here, a kind in `ProviderType`, and a line in the changelog.

use hoosh_core::ProviderType;
use hoosh_core::dialect::{Dialect, Quirks};

/// What is known of one kind of provider.
#[derive(Debug, Clone, Copy)]
pub struct Preset {
    /// Which kind.
    pub kind: ProviderType,
    /// Its name for people.
    pub label: &'static str,
    /// Scheme, host and port it is at unless the configuration says otherwise; empty if there is no default.
    pub host: &'static str,
    /// Path of its API, added to a URL that has none.
    pub api_path: &'static str,
    /// Environment variables that hold its key, the first that is set counts.
    pub key_env: &'static [&'static str],
    /// How the key is sent.
    pub auth: Auth,
    /// The dialects it takes as they are.
    pub dialects: &'static [Dialect],
    /// Whether it lists its models.
    pub lists_models: bool,
    /// Patterns of the models it serves; empty where only the installation knows.
    pub models: &'static [&'static str],
    /// Whether it runs on this machine or network.
    pub local: bool,
    /// How it departs from the dialect.
    pub quirks: Quirks,
    /// Where this row's facts are from, and when they were read.
    pub source: &'static str,
}

/// How a key is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    /// `Authorization: Bearer KEY`.
    Bearer,
    /// Anthropic's: `x-api-key` and a version for its own paths, a bearer token for its OpenAI-compatible one.
    Anthropic,
}

const ALL: &[Dialect] = &[Dialect::OpenAiChat, Dialect::OpenAiCompletions, Dialect::OpenAiEmbeddings];
const CHAT: &[Dialect] = &[Dialect::OpenAiChat];
const CHAT_AND_COMPLETIONS: &[Dialect] = &[Dialect::OpenAiChat, Dialect::OpenAiCompletions];
const CHAT_AND_EMBEDDINGS: &[Dialect] = &[Dialect::OpenAiChat, Dialect::OpenAiEmbeddings];

/// A row of which only the kind, name, place and source are given: a local server that speaks everything.
const LOCAL: Preset = Preset {
    kind: ProviderType::OpenAiCompatible,
    label: "",
    host: "",
    api_path: "/v1",
    key_env: &[],
    auth: Auth::Bearer,
    dialects: ALL,
    lists_models: true,
    models: &[],
    local: true,
    // Of servers in many builds some close after the finish reason without a last word; that the body itself ended
    // properly is HTTP's to say.
    quirks: Quirks { done_optional: true, ..Quirks::NONE },
    source: "",
};

/// The same for a remote API that only chats.
const REMOTE: Preset = Preset { local: false, dialects: CHAT, quirks: Quirks::NONE, ..LOCAL };

/// Every kind of provider, in the order of their names.
pub static PRESETS: &[Preset] = &[
    Preset {
        kind: ProviderType::Alibaba,
        label: "Alibaba Cloud Model Studio",
        host: "https://dashscope-intl.aliyuncs.com",
        api_path: "/compatible-mode/v1",
        key_env: &["DASHSCOPE_API_KEY"],
        dialects: CHAT_AND_EMBEDDINGS,
        models: &["qwen*", "qwq*", "qvq*"],
        source: "alibabacloud.com/help/en/model-studio/compatibility-of-openai-with-dashscope; models.dev, 2026-07-02",
        ..REMOTE
    },
    Preset {
        kind: ProviderType::Anthropic,
        label: "Anthropic",
        host: "https://api.anthropic.com",
        key_env: &["ANTHROPIC_API_KEY"],
        auth: Auth::Anthropic,
        models: &["claude-*"],
        source: "docs.anthropic.com/en/api/openai-sdk, 2026-11-24",
        ..REMOTE
    },
    Preset {
        kind: ProviderType::Cerebras,
        label: "Cerebras",
        host: "https://api.cerebras.ai",
        key_env: &["CEREBRAS_API_KEY"],
        dialects: CHAT_AND_COMPLETIONS,
        models: &["gpt-oss-120b", "zai-glm-*"],
        source: "inference-docs.cerebras.ai; models.dev, 2026-07-02",
        ..REMOTE
    },
    Preset {
        kind: ProviderType::DeepSeek,
        label: "DeepSeek",
        host: "https://api.deepseek.com",
        key_env: &["DEEPSEEK_API_KEY"],
        models: &["deepseek-*"],
        source: "api-docs.deepseek.com, 2026-11-24",
        ..REMOTE
    },
    Preset {
        kind: ProviderType::Fireworks,
        label: "Fireworks AI",
        host: "https://api.fireworks.ai",
        api_path: "/inference/v1",
        key_env: &["FIREWORKS_API_KEY"],
        dialects: ALL,
        models: &["accounts/fireworks/*"],
        source: "docs.fireworks.ai; models.dev, 2026-07-02",
        ..REMOTE
    },
    Preset {
        kind: ProviderType::Google,
        label: "Google Gemini",
        host: "https://generativelanguage.googleapis.com",
        api_path: "/v1beta/openai",
        key_env: &["GEMINI_API_KEY", "GOOGLE_API_KEY"],
        dialects: CHAT_AND_EMBEDDINGS,
        models: &["gemini-*", "gemma-*"],
        source: "ai.google.dev/gemini-api/docs/openai, 2026-11-24",
        ..REMOTE
    },
    Preset {
        kind: ProviderType::Grok,
        label: "xAI",
        host: "https://api.x.ai",
        key_env: &["XAI_API_KEY"],
        models: &["grok-*"],
        source: "docs.x.ai/docs/api-reference, 2026-11-24",
        ..REMOTE
    },
    Preset {
        kind: ProviderType::Groq,
        label: "Groq",
        host: "https://api.groq.com",
        api_path: "/openai/v1",
        key_env: &["GROQ_API_KEY"],
        models: &[
            "llama-3.1-8b-instant",
            "llama-3.3-70b-versatile",
            "meta-llama/llama-4-*",
            "openai/gpt-oss-*",
        ],
        source: "console.groq.com/docs/openai; models.dev, 2026-07-02",
        ..REMOTE
    },
    Preset {
        kind: ProviderType::LlamaCpp,
        label: "llama.cpp",
        host: "http://127.0.0.1:8080",
        source: "llama.cpp tools/server README; recorded from xllamacpp 2026.10, 2026-11-23",
        ..LOCAL
    },
    Preset {
        kind: ProviderType::LmStudio,
        label: "LM Studio",
        host: "http://127.0.0.1:1234",
        key_env: &["LMSTUDIO_API_KEY"],
        source: "lmstudio.ai/docs/developer/openai-compat; models.dev, 2026-07-02",
        ..LOCAL
    },
    Preset {
        kind: ProviderType::LocalAi,
        label: "LocalAI",
        host: "http://127.0.0.1:8080",
        key_env: &["LOCALAI_API_KEY"],
        source: "localai.io/basics/getting_started, 2026-11-24",
        ..LOCAL
    },
    Preset {
        kind: ProviderType::Mistral,
        label: "Mistral AI",
        host: "https://api.mistral.ai",
        key_env: &["MISTRAL_API_KEY"],
        dialects: CHAT_AND_EMBEDDINGS,
        models: &[
            "mistral-*",
            "ministral-*",
            "magistral-*",
            "codestral-*",
            "devstral-*",
            "pixtral-*",
            "voxtral-*",
            "open-mi*",
        ],
        // Sends usage in the last chunk unasked.
        quirks: Quirks { no_stream_options: true, ..Quirks::NONE },
        source: "docs.mistral.ai/api; recorded streams, 2026-11-24",
        ..REMOTE
    },
    Preset {
        kind: ProviderType::Moonshot,
        label: "Moonshot AI",
        host: "https://api.moonshot.ai",
        key_env: &["MOONSHOT_API_KEY"],
        models: &["kimi-*", "moonshot-*"],
        source: "platform.moonshot.ai/docs/api/chat; models.dev, 2026-07-02",
        ..REMOTE
    },
    Preset {
        kind: ProviderType::Ollama,
        label: "Ollama",
        host: "http://127.0.0.1:11434",
        source: "docs.ollama.com/openai, 2026-11-24",
        ..LOCAL
    },
    Preset {
        kind: ProviderType::OpenAi,
        label: "OpenAI",
        host: "https://api.openai.com",
        key_env: &["OPENAI_API_KEY"],
        dialects: ALL,
        models: &[
            "gpt-*",
            "chatgpt-*",
            "codex-*",
            "o1*",
            "o3*",
            "o4*",
            "ft:*",
            "text-embedding-*",
            "davinci-002",
            "babbage-002",
        ],
        // Reasoning models refuse `max_tokens`, and every model takes the newer word.
        quirks: Quirks { max_completion_tokens: true, ..Quirks::NONE },
        source: "platform.openai.com/docs/api-reference/chat/create, 2026-11-24",
        ..REMOTE
    },
    Preset {
        kind: ProviderType::OpenAiCompatible,
        label: "OpenAI-compatible server",
        local: false,
        source: "whatever the configuration names",
        ..LOCAL
    },
    Preset {
        kind: ProviderType::OpenRouter,
        label: "OpenRouter",
        host: "https://openrouter.ai",
        api_path: "/api/v1",
        key_env: &["OPENROUTER_API_KEY"],
        dialects: CHAT_AND_COMPLETIONS,
        // Every name there has its maker before a slash.
        models: &["*/*"],
        source: "openrouter.ai/docs/api-reference; models.dev, 2026-07-02",
        ..REMOTE
    },
    Preset {
        kind: ProviderType::Perplexity,
        label: "Perplexity",
        host: "https://api.perplexity.ai",
        api_path: "",
        key_env: &["PERPLEXITY_API_KEY"],
        lists_models: false,
        models: &["sonar*"],
        quirks: Quirks { done_optional: true, no_stream_options: true, ..Quirks::NONE },
        source: "docs.perplexity.ai/api-reference; recorded streams, 2026-11-24",
        ..REMOTE
    },
    Preset {
        kind: ProviderType::Synapse,
        label: "Synapse",
        host: "http://127.0.0.1:5000",
        source: "the mission's own model server; port by its convention, 2026-11-24",
        ..LOCAL
    },
    Preset {
        kind: ProviderType::Together,
        label: "Together AI",
        host: "https://api.together.xyz",
        key_env: &["TOGETHER_API_KEY"],
        dialects: ALL,
        models: &[
            "meta-llama/*",
            "deepseek-ai/*",
            "Qwen/*",
            "mistralai/*",
            "moonshotai/*",
            "zai-org/*",
            "togethercomputer/*",
        ],
        source: "docs.together.ai/docs/openai-api-compatibility; models.dev, 2026-07-02",
        ..REMOTE
    },
    Preset {
        kind: ProviderType::Vllm,
        label: "vLLM",
        host: "http://127.0.0.1:8000",
        key_env: &["VLLM_API_KEY"],
        source: "docs.vllm.ai/en/latest/serving/openai_compatible_server.html, 2026-11-24",
        ..LOCAL
    },
    Preset {
        kind: ProviderType::Zai,
        label: "Z.AI",
        host: "https://api.z.ai",
        api_path: "/api/paas/v4",
        key_env: &["ZAI_API_KEY", "ZHIPU_API_KEY"],
        models: &["glm-*"],
        source: "docs.z.ai/guides/overview/quick-start; models.dev, 2026-07-02",
        ..REMOTE
    },
];

/// What is known of a kind of provider.
pub fn preset(kind: ProviderType) -> &'static Preset {
    // A test holds that every kind has its row; the generic one stands in rather than a panic.
    PRESETS.iter().find(|preset| preset.kind == kind).unwrap_or(&LOCAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_one_row_in_order() {
        let kinds: Vec<_> = PRESETS.iter().map(|preset| preset.kind).collect();
        assert_eq!(kinds, ProviderType::ALL);
    }

    #[test]
    fn every_row_is_complete() {
        for preset in PRESETS {
            assert!(!preset.label.is_empty() && !preset.source.is_empty(), "{:?}", preset.kind);
            assert!(preset.dialects.contains(&Dialect::OpenAiChat), "{:?}", preset.kind);
            assert!(
                preset.local || preset.host.is_empty() || preset.host.starts_with("https://"),
                "{:?}",
                preset.kind
            );
            if !preset.local && !preset.host.is_empty() {
                assert!(!preset.key_env.is_empty() && !preset.models.is_empty(), "{:?}", preset.kind);
            }
        }
    }
}
