//! Reading which models a provider has, and adding what the catalogue knows of them.

use hoosh_core::catalog::Catalog;
use hoosh_core::{FailureKind, ModelInfo, ProviderType, UpstreamFailure, limits};
use serde_json::Value;

/// Reads an OpenAI listing and what servers add to it: `context_length` (OpenRouter), `max_model_len` (vLLM),
/// `meta.n_ctx_train` (llama.cpp); Together sends the bare list.
pub(crate) fn decode(
    kind: ProviderType,
    provider: &str,
    body: &[u8],
) -> Result<Vec<ModelInfo>, UpstreamFailure> {
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    let items = json["data"].as_array().or_else(|| json.as_array());
    let Some(items) = items else {
        return Err(UpstreamFailure::new(FailureKind::Garbage, "its list of models is none"));
    };
    let models = items.iter().take(limits::MODELS_PER_PROVIDER_MAX);
    Ok(models.filter_map(|item| model(kind, provider, item)).collect())
}

/// What the catalogue has of a vendor that does not list its models.
pub(crate) fn from_catalog(kind: ProviderType, provider: &str) -> Vec<ModelInfo> {
    let models = Catalog::builtin().models_of(kind.as_str());
    models.map(|known| ModelInfo { provider: provider.to_owned(), ..known.clone() }).collect()
}

fn model(kind: ProviderType, provider: &str, item: &Value) -> Option<ModelInfo> {
    // Google's names have a folder before them that its own chat endpoint does not want.
    let id = item["id"].as_str()?.trim_start_matches("models/");
    if id.is_empty() || id.len() > limits::MODEL_NAME_BYTES_MAX {
        return None;
    }
    let number = |value: &Value| value.as_u64().filter(|number| *number > 0);
    let context = [&item["max_model_len"], &item["context_length"], &item["meta"]["n_ctx_train"]];
    let listed = ModelInfo {
        context_window: context.into_iter().find_map(number),
        created: number(&item["created"]),
        owned_by: item["owned_by"].as_str().map(str::to_owned),
        ..ModelInfo::named(provider, id)
    };
    Some(match Catalog::builtin().find(kind.as_str(), id) {
        Some(known) => listed.or(known),
        None => listed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listings_of_several_servers() {
        let body = br#"{"object":"list","data":[{"id":"a","created":7,"owned_by":"llamacpp","meta":{"n_ctx_train":2048}},{"id":"b","max_model_len":4096},{"no":"id"}]}"#;
        let models = decode(ProviderType::LlamaCpp, "local", body).unwrap();
        let seen: Vec<_> = models.iter().map(|model| (model.id.as_str(), model.context_window)).collect();
        assert_eq!(seen, [("a", Some(2048)), ("b", Some(4096))]);
        assert_eq!((models[0].provider.as_str(), models[0].created), ("local", Some(7)));

        let bare =
            decode(ProviderType::Together, "together", br#"[{"id":"x/y","context_length":8}]"#).unwrap();
        assert_eq!(bare[0].context_window, Some(8));
    }

    #[test]
    fn the_catalogue_fills_the_gaps() {
        let models = decode(ProviderType::OpenAi, "work", br#"{"data":[{"id":"gpt-4o-mini"}]}"#).unwrap();
        assert_eq!(models[0].provider, "work");
        assert!(models[0].price.is_some() && models[0].context_window == Some(128_000));
    }

    #[test]
    fn what_is_no_listing_is_an_error() {
        for body in ["", "<html>", "{}", r#"{"data":{}}"#] {
            assert!(decode(ProviderType::OpenAi, "p", body.as_bytes()).is_err(), "{body}");
        }
    }
}
