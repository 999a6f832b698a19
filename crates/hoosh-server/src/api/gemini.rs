//! What Gemini's API has in its paths, and its list of models. Source: ai.google.dev/api/models, read 2026-11-24.

use hoosh_core::dialect::{Dialect, RequestLine};
use hoosh_core::{Modality, ModelInfo};
use http::{HeaderMap, Response, StatusCode};
use serde::Serialize;

use super::json;
use super::models::{known, one, percent_decoded};
use crate::app::App;
use crate::http::auth::Caller;
use crate::http::body::ResponseBody;
use crate::http::error::ServerError;

/// Whether a client of Google's asks: its lists have the paths of OpenAI's in the version that is not beta.
pub(crate) fn is_asked_for(headers: &HeaderMap) -> bool {
    headers.contains_key("x-goog-api-client") || headers.contains_key("x-goog-api-key")
}

/// Reads what is behind `models/` in the path of a call, `MODEL:VERB`, and how a stream is wanted.
pub(crate) fn read(rest: &str, query: Option<&str>) -> Result<(Dialect, RequestLine), ServerError> {
    let (model, verb) = rest.rsplit_once(':').unwrap_or((rest, ""));
    let (dialect, stream) = match verb {
        "generateContent" => (Dialect::Gemini, false),
        "streamGenerateContent" => (Dialect::Gemini, true),
        "countTokens" => (Dialect::GeminiCount, false),
        "embedContent" => (Dialect::GeminiEmbed, false),
        "batchEmbedContents" => (Dialect::GeminiBatchEmbed, false),
        _ => return Err(ServerError::NoSuchVerb { verb: verb.to_owned() }),
    };
    let as_events = query.is_some_and(|query| query.split('&').any(|pair| pair == "alt=sse"));
    let line = RequestLine {
        model: Some(percent_decoded(model)),
        stream: Some(stream),
        json_list: stream && !as_events,
    };
    Ok((dialect, line))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Model {
    name: String,
    display_name: String,
    version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    input_token_limit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_token_limit: Option<u64>,
    supported_generation_methods: &'static [&'static str],
}

/// `GET /v1beta/models`.
pub(crate) async fn models(app: &App, caller: &Caller) -> Response<ResponseBody> {
    #[derive(Serialize)]
    struct List {
        models: Vec<Model>,
    }
    json(StatusCode::OK, &List { models: known(app, caller).await.into_iter().map(entry).collect() })
}

/// `GET /v1beta/models/{id}`.
pub(crate) async fn model(
    app: &App,
    caller: &Caller,
    id: &str,
) -> Result<Response<ResponseBody>, ServerError> {
    Ok(json(StatusCode::OK, &entry(one(app, caller, percent_decoded(id)).await?)))
}

fn entry(info: ModelInfo) -> Model {
    let only_embeds = info.output.contains(Modality::Embedding) && !info.output.contains(Modality::Text);
    Model {
        name: format!("models/{}", info.id),
        display_name: info.id,
        version: "",
        input_token_limit: info.context_window,
        output_token_limit: info.output_max,
        supported_generation_methods: if only_embeds {
            &["embedContent", "batchEmbedContents"]
        } else {
            &["generateContent", "streamGenerateContent", "countTokens", "embedContent", "batchEmbedContents"]
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(rest: &str, query: Option<&str>, expected: Option<(Dialect, &str, bool, bool)>) {
        let read = read(rest, query).ok();
        let read =
            read.map(|(dialect, line)| (dialect, line.model.unwrap(), line.stream.unwrap(), line.json_list));
        assert_eq!(
            read,
            expected.map(|(dialect, model, stream, list)| (dialect, model.to_owned(), stream, list))
        );
    }

    #[test]
    fn model_and_operation_are_read() {
        let gemini = Dialect::Gemini;
        check("gemini-x:generateContent", None, Some((gemini, "gemini-x", false, false)));
        check("a%2Fb:v1:streamGenerateContent", Some("alt=sse"), Some((gemini, "a/b:v1", true, false)));
        check("m:streamGenerateContent", Some("key=k"), Some((gemini, "m", true, true)));
        check("m:countTokens", None, Some((Dialect::GeminiCount, "m", false, false)));
        check("m:tune", None, None);
        check("m", None, None);
    }
}
