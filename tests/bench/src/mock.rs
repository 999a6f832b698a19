//! The upstream: OpenAI chat on hyper, with answers that are fixed or scripted by the model's name.
//!
//! It runs on one thread, so that on a small machine the proxy under test has a core left.

mod events;
mod script;

use std::{borrow::Cow, convert::Infallible, process::ExitCode};

use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderValue},
    service::service_fn,
};
use serde::Deserialize;

use self::events::Events;
pub(crate) use self::{
    events::{CONTENT_MARK, DONE},
    script::Script,
};
use crate::{
    failure::{Context, Failure},
    serve,
};

/// The load generator sends about 2 kB; a gateway may add fields, not a megabyte.
const BODY_BYTES_MAX: usize = 1 << 20;

/// Where the mock listens.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Port to listen on, on loopback
    #[arg(long)]
    port: u16,
}

/// What the mock reads of a request: enough to know the script.
#[derive(Deserialize)]
struct Asked<'a> {
    #[serde(borrow)]
    model: Cow<'a, str>,
    #[serde(default)]
    stream: bool,
}

type Answer = Either<Full<Bytes>, Events>;

/// Runs the mock until it is killed.
///
/// # Errors
/// When the port cannot be had.
pub(crate) fn serve(args: &Args) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context(|| "cannot start the runtime".to_owned())?;
    let service = service_fn(|request| async { Ok::<_, Infallible>(answer(request).await) });
    match runtime.block_on(serve::accept(args.port, service))? {}
}

async fn answer(request: Request<Incoming>) -> Response<Answer> {
    match (request.method(), request.uri().path()) {
        (&Method::POST, "/v1/chat/completions") => chat(request).await,
        (&Method::GET, "/v1/models") => json(StatusCode::OK, MODELS.to_owned()),
        _ => refusal(StatusCode::NOT_FOUND, "the mock knows /v1/chat/completions and /v1/models"),
    }
}

async fn chat(request: Request<Incoming>) -> Response<Answer> {
    let Ok(body) = Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await else {
        return refusal(StatusCode::BAD_REQUEST, "the body broke off or is over 1 MiB");
    };
    let body = body.to_bytes();
    let Ok(asked) = serde_json::from_slice::<Asked<'_>>(&body) else {
        return refusal(StatusCode::BAD_REQUEST, "the body is no chat request");
    };
    if !asked.stream {
        return json(StatusCode::OK, completion(&asked.model));
    }
    let Some(script) = Script::parse(&asked.model) else {
        return refusal(StatusCode::BAD_REQUEST, "a streamed model is named stream-<events>x<gap>ms or hold");
    };
    let mut response = Response::new(Either::Right(Events::new(script, &asked.model)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// About 600 bytes, shaped like what OpenAI sends.
fn completion(model: &str) -> String {
    format!(
        r#"{{"id":"chatcmpl-Bench0000000000000000000000","object":"chat.completion","created":1700000000,"model":{},"choices":[{{"index":0,"message":{{"role":"assistant","content":"A lease is a promise with an end: whoever holds it may act until it runs out, and when it has, nobody needs to ask whether the holder is still alive.","refusal":null,"annotations":[]}},"logprobs":null,"finish_reason":"stop"}}],"usage":{{"prompt_tokens":412,"completion_tokens":36,"total_tokens":448,"prompt_tokens_details":{{"cached_tokens":0,"audio_tokens":0}},"completion_tokens_details":{{"reasoning_tokens":0,"audio_tokens":0}}}},"system_fingerprint":"fp_bench"}}"#,
        serde_json::Value::from(model)
    )
}

const MODELS: &str = r#"{"object":"list","data":[{"id":"bench","object":"model","created":1700000000,"owned_by":"hoosh-bench"}]}"#;

fn refusal(status: StatusCode, why: &str) -> Response<Answer> {
    json(status, serde_json::json!({"error": {"message": why, "type": "invalid_request_error"}}).to_string())
}

fn json(status: StatusCode, body: String) -> Response<Answer> {
    let mut response = Response::new(Either::Left(Full::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_completion_is_json_with_usage_and_about_600_bytes() {
        let text = completion("bench \"quoted\"");
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["model"], "bench \"quoted\"");
        assert_eq!(value["usage"]["total_tokens"], 448);
        assert!((550..750).contains(&text.len()), "{} bytes", text.len());
    }
}
