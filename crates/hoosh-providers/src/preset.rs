//! The preset table: what is known of each vendor and model server, one row each.
//!
//! Adding a vendor that speaks a known dialect is a row here, a kind in `ProviderType`, and a line in the changelog.

use hoosh_core::ProviderType;
use hoosh_core::dialect::{Dialect, Quirks};

use crate::listing::ListingForm;

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
    /// The dialects it takes as they are. Whatever it does not take is put into the first that is for the same operation.
    pub dialects: &'static [Dialect],
    /// Whether it lists its models.
    pub lists_models: bool,
    /// In which form.
    pub listing: ListingForm,
    /// Patterns of the models it serves; empty where only the installation knows.
    pub models: &'static [&'static str],
    /// Whether it runs on this machine or network.
    pub local: bool,
    /// Whether its models go on writing a last message that is the assistant's; the dialect may know better by the model.
    pub prefills: bool,
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
    /// Anthropic's: `x-api-key: KEY`, beside the version of its API.
    Anthropic,
    /// Google's: `x-goog-api-key: KEY`.
    Google,
}

const ALL: &[Dialect] = &[Dialect::OpenAiChat, Dialect::OpenAiCompletions, Dialect::OpenAiEmbeddings];
const CHAT: &[Dialect] = &[Dialect::OpenAiChat];
const CHAT_AND_COMPLETIONS: &[Dialect] = &[Dialect::OpenAiChat, Dialect::OpenAiCompletions];
const CHAT_AND_EMBEDDINGS: &[Dialect] = &[Dialect::OpenAiChat, Dialect::OpenAiEmbeddings];
/// What servers take that speak for themselves: everything of OpenAI's but the Responses, which they keep nothing of.
const SELF_HOSTED: &[Dialect] =
    &[Dialect::OpenAiChat, Dialect::OpenAiCompletions, Dialect::OpenAiEmbeddings, Dialect::Rerank];

// What vendors answer with an error for, of what others of the dialect take or ignore: from the types of their own
// SDKs (2026-11-24), and for the reasoning of earlier turns from what users of other gateways were answered.

/// "property 'messages.1.reasoning_content' is unsupported".
const UNKNOWN_TO_CEREBRAS: &[&str] = &[
    "messages.annotations",
    "messages.extra_content",
    "messages.images",
    "messages.reasoning_content",
    "messages.reasoning_details",
    "messages.refusal",
    "metadata",
    "prompt_cache_retention",
    "safety_identifier",
    "top_k",
    "verbosity",
];
/// Its page on compatibility names the log probabilities and the names of messages.
const UNKNOWN_TO_GROQ: &[&str] = &[
    "logprobs",
    "messages.annotations",
    "messages.extra_content",
    "messages.images",
    "messages.name",
    "messages.reasoning_content",
    "messages.reasoning_details",
    "messages.refusal",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "top_k",
    "top_logprobs",
    "verbosity",
];
/// "Extra inputs are not permitted". Its own reasoning is a piece of the content, signed, that only it can make.
const UNKNOWN_TO_MISTRAL: &[&str] = &[
    "messages.annotations",
    "messages.extra_content",
    "messages.images",
    "messages.name",
    "messages.reasoning",
    "messages.reasoning_content",
    "messages.reasoning_details",
    "messages.refusal",
    "prompt_cache_retention",
    "safety_identifier",
    "user",
    "verbosity",
];

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
    listing: ListingForm::OpenAi,
    models: &[],
    local: true,
    prefills: false,
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
        quirks: Quirks { cache_marks: true, ..Quirks::NONE },
        source: "alibabacloud.com/help/en/model-studio/compatibility-of-openai-with-dashscope; models.dev, 2026-07-02",
        ..REMOTE
    },
    Preset {
        kind: ProviderType::Anthropic,
        label: "Anthropic",
        host: "https://api.anthropic.com",
        key_env: &["ANTHROPIC_API_KEY"],
        auth: Auth::Anthropic,
        dialects: &[Dialect::Anthropic, Dialect::AnthropicCount],
        listing: ListingForm::Anthropic,
        models: &["claude-*"],
        prefills: true,
        source: "docs.anthropic.com/en/api/messages, 2026-11-24",
        ..REMOTE
    },
    Preset {
        kind: ProviderType::Cerebras,
        label: "Cerebras",
        host: "https://api.cerebras.ai",
        key_env: &["CEREBRAS_API_KEY"],
        dialects: CHAT_AND_COMPLETIONS,
        models: &["gpt-oss-120b", "zai-glm-*"],
        quirks: Quirks { unknown_fields: UNKNOWN_TO_CEREBRAS, ..Quirks::NONE },
        source: "inference-docs.cerebras.ai; cerebras-cloud-sdk 1.91; models.dev, 2026-07-02",
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
        api_path: "/v1beta",
        key_env: &["GEMINI_API_KEY", "GOOGLE_API_KEY"],
        auth: Auth::Google,
        dialects: &[Dialect::Gemini, Dialect::GeminiBatchEmbed, Dialect::GeminiCount, Dialect::GeminiEmbed],
        listing: ListingForm::Gemini,
        models: &["gemini-*", "gemma-*"],
        source: "ai.google.dev/api/generate-content, 2026-11-24",
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
        quirks: Quirks { unknown_fields: UNKNOWN_TO_GROQ, ..Quirks::NONE },
        source: "console.groq.com/docs/openai; groq SDK, 2026-11-24; models.dev, 2026-07-02",
        ..REMOTE
    },
    Preset {
        kind: ProviderType::LlamaCpp,
        label: "llama.cpp",
        host: "http://127.0.0.1:8080",
        dialects: &[
            Dialect::OpenAiChat,
            Dialect::OpenAiCompletions,
            Dialect::OpenAiEmbeddings,
            Dialect::Rerank,
            Dialect::Anthropic,
            Dialect::AnthropicCount,
        ],
        // Unless it runs with --no-prefill-assistant (llama.cpp pull 13608).
        prefills: true,
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
        dialects: SELF_HOSTED,
        source: "localai.io/basics/getting_started, 2026-11-24",
        ..LOCAL
    },
    Preset {
        kind: ProviderType::Mistral,
        label: "Mistral AI",
        host: "https://api.mistral.ai",
        key_env: &["MISTRAL_API_KEY"],
        dialects: &[Dialect::OpenAiChat, Dialect::OpenAiEmbeddings, Dialect::Moderations],
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
        quirks: Quirks {
            no_stream_options: true,
            random_seed: true,
            unknown_fields: UNKNOWN_TO_MISTRAL,
            ..Quirks::NONE
        },
        source: "docs.mistral.ai/api; mistralai SDK 2; recorded streams, 2026-11-24",
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
        // Its own API first: the OpenAI one cannot be told the size of the context or how long to keep a model.
        dialects: &[
            Dialect::OllamaChat,
            Dialect::OllamaGenerate,
            Dialect::OllamaEmbed,
            Dialect::OpenAiChat,
            Dialect::OpenAiCompletions,
            Dialect::OpenAiEmbeddings,
        ],
        // Its templates leave a last message of the assistant's open.
        prefills: true,
        listing: ListingForm::Ollama,
        source: "docs.ollama.com/api; recorded from a build of 2026-08, 2026-11-24",
        ..LOCAL
    },
    Preset {
        kind: ProviderType::OpenAi,
        label: "OpenAI",
        host: "https://api.openai.com",
        key_env: &["OPENAI_API_KEY"],
        dialects: &[
            Dialect::OpenAiChat,
            Dialect::OpenAiCompletions,
            Dialect::OpenAiEmbeddings,
            Dialect::OpenAiResponses,
            Dialect::Moderations,
        ],
        models: &[
            "gpt-*",
            "chatgpt-*",
            "codex-*",
            "o1*",
            "o3*",
            "o4*",
            "ft:*",
            "text-embedding-*",
            "omni-moderation-*",
            "text-moderation-*",
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
        dialects: SELF_HOSTED,
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
        quirks: Quirks { cache_marks: true, ..Quirks::NONE },
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
        dialects: SELF_HOSTED,
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
        dialects: SELF_HOSTED,
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
    use hoosh_core::dialect::Operation;

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
            let infers = |dialect: &Dialect| dialect.operation() == Operation::Inference;
            assert!(preset.dialects.iter().any(infers), "{:?}", preset.kind);
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

    /// Probes ask it again and again, so that it must cost nothing anywhere.
    #[tokio::test]
    async fn the_health_of_every_kind_is_asked_for_by_a_get_without_a_body() {
        use std::io::{Read, Write};

        use hoosh_core::LlmProvider;
        use secrecy::SecretString;

        for preset in PRESETS {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            let serve = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let (mut head, mut piece) = (Vec::new(), [0; 4096]);
                while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                    let read = stream.read(&mut piece).unwrap();
                    head.extend_from_slice(&piece[..read]);
                }
                let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
                stream.write_all(answer.as_bytes()).unwrap();
                String::from_utf8(head).unwrap()
            });
            let settings = crate::ProviderSettings {
                base_url: Some(url),
                api_key: Some(SecretString::from("k")),
                ..crate::ProviderSettings::new(preset.kind)
            };
            let provider = crate::HttpProvider::new(settings).unwrap();
            // What it makes of the answer is the listing's.
            let _said = provider.health_check().await;
            let head = serve.join().unwrap();
            let (line, rest) = head.split_once("\r\n").unwrap();
            let path = line.split(['?', ' ']).nth(1).unwrap();
            assert!(line.starts_with("GET "), "{}: {line}", preset.kind);
            assert!(path.ends_with("/models") || path == "/api/tags", "{}: {line}", preset.kind);
            assert!(
                rest.ends_with("\r\n\r\n") && !rest.to_ascii_lowercase().contains("content-length: "),
                "{head}"
            );
        }
    }
}
