//! Reading which models a provider has, and adding what the catalogue knows of them.

use hoosh_core::catalog::Catalog;
use hoosh_core::dialect::Dialect;
use hoosh_core::{FailureKind, Modalities, Modality, ModelInfo, ProviderType, UpstreamFailure, limits};
use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

/// In which form a provider lists its models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListingForm {
    /// OpenAI's `GET /models`, and what servers add to it.
    OpenAi,
    /// Anthropic's `GET /v1/models` (docs.anthropic.com/en/api/models-list, read 2026-11-24).
    Anthropic,
    /// Gemini's `GET /v1beta/models` (ai.google.dev/api/models, read 2026-11-24).
    Gemini,
    /// Ollama's `GET /api/tags` (docs.ollama.com/api, read 2026-11-24).
    Ollama,
}

impl ListingForm {
    /// The dialect of its errors.
    pub(crate) fn dialect(self) -> Dialect {
        match self {
            Self::OpenAi => Dialect::OpenAiChat,
            Self::Anthropic => Dialect::Anthropic,
            Self::Gemini => Dialect::Gemini,
            Self::Ollama => Dialect::OllamaChat,
        }
    }

    /// The path, with the largest page that the vendor gives; Ollama's is below the root.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::OpenAi => "models",
            Self::Anthropic => "models?limit=1000",
            Self::Gemini => "models?pageSize=1000",
            Self::Ollama => "api/tags",
        }
    }
}

/// One page of a listing.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) models: Vec<ModelInfo>,
    /// What asks for the next page, as part of a query.
    pub(crate) next: Option<String>,
}

/// Reads a listing, and adds what the catalogue knows of each model.
///
/// One in OpenAI's form is read as that whatever was asked for: servers of several APIs answer so on any path
/// (llama.cpp's `/api/tags` has both lists, and names itself only in OpenAI's). Together sends the bare list.
pub(crate) fn decode(
    form: ListingForm,
    kind: ProviderType,
    provider: &str,
    body: &[u8],
) -> Result<Page, UpstreamFailure> {
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    let (items, form) = match (&json["data"], &json["models"], &json) {
        (Value::Array(items), ..) if form == ListingForm::Anthropic => (items, form),
        (Value::Array(items), ..) | (_, _, Value::Array(items)) => (items, ListingForm::OpenAi),
        (_, Value::Array(items), _) => (items, form),
        // Without models Gemini leaves the list out.
        (Value::Null, Value::Null, Value::Object(all)) if form == ListingForm::Gemini && all.is_empty() => {
            return Ok(Page { models: Vec::new(), next: None });
        }
        _ => return Err(UpstreamFailure::new(FailureKind::Garbage, "its list of models is none")),
    };
    let models = items.iter().take(limits::MODELS_PER_PROVIDER_MAX);
    let models = models.filter_map(|item| completed(kind, read(form, provider, item)?)).collect();
    Ok(Page { models, next: next_page(form, &json) })
}

/// What asks for the page behind this one, if there is one.
fn next_page(form: ListingForm, json: &Value) -> Option<String> {
    let (name, text) = match form {
        ListingForm::Gemini => ("pageToken", json["nextPageToken"].as_str()?),
        ListingForm::Anthropic if json["has_more"] == true => ("after_id", json["last_id"].as_str()?),
        _ => return None,
    };
    let text = utf8_percent_encode(text, NON_ALPHANUMERIC);
    Some(format!("{name}={text}")).filter(|_| text.clone().next().is_some())
}

/// Reads one model; `None` if it is none, or can neither generate nor embed.
fn read(form: ListingForm, provider: &str, item: &Value) -> Option<ModelInfo> {
    match form {
        ListingForm::OpenAi => openai(provider, item),
        ListingForm::Anthropic => anthropic(provider, item),
        ListingForm::Gemini => gemini(provider, item),
        ListingForm::Ollama => ollama(provider, item),
    }
}

/// OpenAI's, with what servers add: `context_length` (OpenRouter, Together), `max_model_len` (vLLM), `meta.n_ctx_train`
/// (llama.cpp).
fn openai(provider: &str, item: &Value) -> Option<ModelInfo> {
    let name = first_text(&[&item["id"], &item["model"], &item["name"]])?;
    let context = [&item["max_model_len"], &item["context_length"], &item["meta"]["n_ctx_train"]];
    Some(ModelInfo {
        context_window: context.into_iter().find_map(number),
        created: number(&item["created"]),
        owned_by: item["owned_by"].as_str().map(str::to_owned),
        // Google's OpenAI-compatible listing has the folder that its own has.
        ..ModelInfo::named(provider, without_folder(name))
    })
}

/// Anthropic's; what it can do came later than the rest, and copies of the API leave it out.
fn anthropic(provider: &str, item: &Value) -> Option<ModelInfo> {
    let can = |name: &str| item["capabilities"][name]["supported"].as_bool();
    let input = match can("image_input").or(can("pdf_input")) {
        Some(_) => [(Modality::Image, can("image_input")), (Modality::Pdf, can("pdf_input"))]
            .into_iter()
            .filter_map(|(modality, can)| (can == Some(true)).then_some(modality))
            .fold(Modalities::TEXT, Modalities::with),
        None => Modalities::UNKNOWN,
    };
    Some(ModelInfo {
        context_window: number(&item["max_input_tokens"]),
        output_max: number(&item["max_tokens"]),
        input,
        reasoning: can("thinking"),
        structured_output: can("structured_outputs"),
        // An epoch stands for a date that is not known.
        created: unix(&item["created_at"]).or(number(&item["created"])),
        ..ModelInfo::named(provider, item["id"].as_str()?)
    })
}

/// Gemini's. Those that only make images, films or live sound are left out: nothing here could call them.
fn gemini(provider: &str, item: &Value) -> Option<ModelInfo> {
    let methods = item["supportedGenerationMethods"].as_array();
    let has = |names: &[&str]| {
        methods
            .map(|methods| methods.iter().any(|method| method.as_str().is_some_and(|m| names.contains(&m))))
    };
    let generates = has(&["generateContent", "streamGenerateContent"]);
    let embeds = has(&["embedContent", "batchEmbedContents"]);
    if generates == Some(false) && embeds == Some(false) {
        return None;
    }
    let only_embeds = generates == Some(false) && embeds == Some(true);
    Some(ModelInfo {
        // What Google calls the window; the answer has a limit of its own.
        context_window: number(&item["inputTokenLimit"]),
        output_max: number(&item["outputTokenLimit"]).filter(|_| !only_embeds),
        output: if only_embeds { EMBEDDING } else { Modalities::UNKNOWN },
        reasoning: item["thinking"].as_bool(),
        ..ModelInfo::named(provider, without_folder(item["name"].as_str()?))
    })
}

/// Ollama's, of `/api/tags` and `/api/ps`: the latter says how much context a model was loaded with.
fn ollama(provider: &str, item: &Value) -> Option<ModelInfo> {
    let name = first_text(&[&item["model"], &item["name"]])?;
    let abilities = item["capabilities"].as_array();
    let can = |name: &str| abilities.map(|all| all.iter().any(|ability| ability == name));
    let modalities = |all: &[(Modality, &str)]| -> Modalities {
        all.iter().filter(|(_, name)| can(name) == Some(true)).map(|(modality, _)| *modality).collect()
    };
    let output = modalities(&[
        (Modality::Text, "completion"),
        (Modality::Image, "image"),
        (Modality::Embedding, "embedding"),
    ]);
    let context = [&item["context_length"], &item["details"]["context_length"]];
    Some(ModelInfo {
        context_window: context.into_iter().find_map(number),
        input: abilities.map_or(Modalities::UNKNOWN, |_| match can("vision") {
            Some(true) => Modalities::TEXT.with(Modality::Image),
            _ => Modalities::TEXT,
        }),
        output,
        tools: can("tools"),
        reasoning: can("thinking"),
        created: unix(&item["modified_at"]),
        ..ModelInfo::named(provider, name)
    })
}

/// The model with what the catalogue knows of it; `None` if its name cannot be used.
fn completed(kind: ProviderType, listed: ModelInfo) -> Option<ModelInfo> {
    if listed.id.is_empty() || listed.id.len() > limits::MODEL_NAME_BYTES_MAX {
        return None;
    }
    Some(match Catalog::builtin().find(kind.as_str(), &listed.id) {
        Some(known) => listed.or(known),
        None => listed,
    })
}

const EMBEDDING: Modalities = Modalities::UNKNOWN.with(Modality::Embedding);

fn number(value: &Value) -> Option<u64> {
    value.as_u64().filter(|number| *number > 0)
}

fn first_text<'a>(values: &[&'a Value]) -> Option<&'a str> {
    values.iter().find_map(|value| value.as_str())
}

/// Google's names have a folder before them that stands in the path of every call.
fn without_folder(name: &str) -> &str {
    name.strip_prefix("models/").unwrap_or(name)
}

/// An RFC 3339 time in Unix seconds; `None` for what is none, and for the epoch itself.
pub(crate) fn unix(value: &Value) -> Option<u64> {
    let seconds = value.as_str()?.parse::<Timestamp>().ok()?.as_second();
    u64::try_from(seconds).ok().filter(|seconds| *seconds > 0)
}

/// What the catalogue has of a vendor that does not list its models.
pub(crate) fn from_catalog(kind: ProviderType, provider: &str) -> Vec<ModelInfo> {
    let models = Catalog::builtin().models_of(kind.as_str());
    models.map(|known| ModelInfo { provider: provider.to_owned(), ..known.clone() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preset::preset;

    #[test]
    fn listings_of_several_servers() {
        let body = br#"{"object":"list","data":[{"id":"a","created":7,"owned_by":"llamacpp","meta":{"n_ctx_train":2048}},{"id":"b","max_model_len":4096},{"no":"id"}]}"#;
        let models = decode(preset(ProviderType::LlamaCpp).listing, ProviderType::LlamaCpp, "local", body)
            .unwrap()
            .models;
        let seen: Vec<_> = models.iter().map(|model| (model.id.as_str(), model.context_window)).collect();
        assert_eq!(seen, [("a", Some(2048)), ("b", Some(4096))]);
        assert_eq!((models[0].provider.as_str(), models[0].created), ("local", Some(7)));

        let bare = decode(
            preset(ProviderType::Together).listing,
            ProviderType::Together,
            "together",
            br#"[{"id":"x/y","context_length":8}]"#,
        )
        .unwrap()
        .models;
        assert_eq!(bare[0].context_window, Some(8));
    }

    /// Reads a listing and compares what it says of each model with what is expected.
    #[track_caller]
    fn check(form: ListingForm, kind: ProviderType, body: &str, expected: &[ModelInfo]) {
        assert_eq!(decode(form, kind, "p", body.as_bytes()).unwrap().models, expected);
    }

    #[test]
    fn anthropics_form() {
        let body = r#"{"data":[
            {"type":"model","id":"claude-x","display_name":"Claude X","created_at":"2026-01-01T00:00:00Z",
             "max_input_tokens":1000,"max_tokens":64,"capabilities":{"image_input":{"supported":true},
             "pdf_input":{"supported":false},"structured_outputs":{"supported":true},"thinking":{"supported":false}}},
            {"type":"model","id":"claude-y","display_name":"Y","created_at":"1970-01-01T00:00:00Z"},
            {"id":"claude-z","object":"model","created":7}],
            "has_more":false,"first_id":"claude-x","last_id":"claude-z"}"#;
        let x = ModelInfo {
            context_window: Some(1000),
            output_max: Some(64),
            input: Modalities::TEXT.with(Modality::Image),
            reasoning: Some(false),
            structured_output: Some(true),
            created: Some(1_767_225_600),
            ..ModelInfo::named("p", "claude-x")
        };
        let z = ModelInfo { created: Some(7), ..ModelInfo::named("p", "claude-z") };
        check(
            ListingForm::Anthropic,
            ProviderType::Anthropic,
            body,
            &[x, ModelInfo::named("p", "claude-y"), z],
        );
    }

    #[test]
    fn geminis_form_without_what_cannot_be_called() {
        let body = r#"{"models":[
            {"name":"models/gem-x","displayName":"X","inputTokenLimit":1000,"outputTokenLimit":10,"thinking":true,
             "supportedGenerationMethods":["generateContent","countTokens","batchGenerateContent"]},
            {"name":"models/vec-x","inputTokenLimit":2048,"outputTokenLimit":1,
             "supportedGenerationMethods":["embedContent"]},
            {"name":"models/film-x","supportedGenerationMethods":["predictLongRunning"]},
            {"name":"models/live-x","supportedGenerationMethods":["bidiGenerateContent"]},
            {"name":"models/old-x"}, {"displayName":"nameless"}, {"name":"models/"}],
            "nextPageToken":"more"}"#;
        let generates = ModelInfo {
            context_window: Some(1000),
            output_max: Some(10),
            reasoning: Some(true),
            ..ModelInfo::named("p", "gem-x")
        };
        let embeds =
            ModelInfo { context_window: Some(2048), output: EMBEDDING, ..ModelInfo::named("p", "vec-x") };
        let old = ModelInfo::named("p", "old-x");
        check(ListingForm::Gemini, ProviderType::Google, body, &[generates, embeds, old]);
        check(ListingForm::Gemini, ProviderType::Google, "{}", &[]);
        let page = decode(ListingForm::Gemini, ProviderType::Google, "p", body.as_bytes()).unwrap();
        assert_eq!(page.next.as_deref(), Some("pageToken=more"));
    }

    #[test]
    fn ollamas_form() {
        // Recorded from a build of August 2026, shortened.
        let tags = r#"{"models":[{"name":"all-minilm:latest","model":"all-minilm:latest",
            "modified_at":"2026-11-23T23:32:21.320589607Z","size":46220580,"digest":"4dfb","details":{"parent_model":"",
            "format":"gguf","family":"bert","families":["bert"],"parameter_size":"22.57M","quantization_level":"F16",
            "context_length":512,"embedding_length":384},"capabilities":["embedding"]},
            {"name":"smol:135m","model":"smol:135m","modified_at":"2026-11-24T00:32:21+01:00","size":98364177,
            "digest":"5de7","details":{"context_length":8192},"capabilities":["completion","tools","vision"]},
            {"name":"older:latest","size":1,"digest":"d","details":null}]}"#;
        let embeds = ModelInfo {
            context_window: Some(512),
            input: Modalities::TEXT,
            output: EMBEDDING,
            tools: Some(false),
            reasoning: Some(false),
            created: Some(1_795_476_741),
            ..ModelInfo::named("p", "all-minilm:latest")
        };
        let chats = ModelInfo {
            context_window: Some(8192),
            input: Modalities::TEXT.with(Modality::Image),
            output: Modalities::TEXT,
            tools: Some(true),
            ..ModelInfo { id: "smol:135m".into(), ..embeds.clone() }
        };
        let older = ModelInfo::named("p", "older:latest");
        check(ListingForm::Ollama, ProviderType::Ollama, tags, &[embeds, chats, older]);

        let loaded = r#"{"models":[{"name":"smol:135m","model":"smol:135m","size":324817386,"digest":"c5c2",
            "details":{"family":"llama"},"expires_at":"2026-11-23T23:37:20Z","size_vram":0,"context_length":4096}]}"#;
        let expected = ModelInfo { context_window: Some(4096), ..ModelInfo::named("p", "smol:135m") };
        check(ListingForm::Ollama, ProviderType::Ollama, loaded, &[expected]);
    }

    #[test]
    fn one_in_openais_form_is_read_as_that() {
        // As llama.cpp answers, also at `/api/tags`.
        let body = r#"{"models":[{"name":"m","model":"m","modified_at":"","capabilities":["completion"]}],
            "object":"list","data":[{"id":"m","created":7,"owned_by":"llamacpp","meta":{"n_ctx_train":2048}}]}"#;
        let expected = ModelInfo {
            context_window: Some(2048),
            created: Some(7),
            owned_by: Some("llamacpp".into()),
            ..ModelInfo::named("p", "m")
        };
        for form in [ListingForm::OpenAi, ListingForm::Ollama, ListingForm::Gemini] {
            check(form, ProviderType::OpenAiCompatible, body, std::slice::from_ref(&expected));
        }
    }

    #[test]
    fn each_kind_is_read_in_its_own_form() {
        for (kind, body) in [
            (
                ProviderType::Google,
                r#"{"models":[{"name":"models/x","supportedGenerationMethods":["generateContent"]}]}"#,
            ),
            (ProviderType::Ollama, r#"{"models":[{"name":"x","model":"x"}]}"#),
            (ProviderType::Anthropic, r#"{"data":[{"id":"x","type":"model"}],"has_more":false}"#),
            (ProviderType::OpenAi, r#"{"object":"list","data":[{"id":"x"}]}"#),
        ] {
            let models = decode(preset(kind).listing, kind, "p", body.as_bytes()).unwrap().models;
            assert_eq!(models, [ModelInfo::named("p", "x")], "{kind}");
        }
    }

    #[test]
    fn the_catalogue_fills_the_gaps() {
        let models = decode(
            preset(ProviderType::OpenAi).listing,
            ProviderType::OpenAi,
            "work",
            br#"{"data":[{"id":"gpt-4o-mini"}]}"#,
        )
        .unwrap()
        .models;
        assert_eq!(models[0].provider, "work");
        assert!(models[0].price.is_some() && models[0].context_window == Some(128_000));
    }

    #[test]
    fn what_is_no_listing_is_an_error() {
        for body in ["", "<html>", "{}", r#"{"data":{}}"#, r#"{"error":"no"}"#] {
            for kind in [ProviderType::OpenAi, ProviderType::Anthropic, ProviderType::Ollama] {
                assert!(decode(preset(kind).listing, kind, "p", body.as_bytes()).is_err(), "{kind}: {body}");
            }
        }
        for body in ["", r#"{"models":{}}"#, r#"{"error":{"message":"no"}}"#] {
            assert!(
                decode(preset(ProviderType::Google).listing, ProviderType::Google, "p", body.as_bytes())
                    .is_err(),
                "{body}"
            );
        }
    }
}
