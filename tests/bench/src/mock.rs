//! The upstream: OpenAI chat and Anthropic's messages on hyper, with answers that are fixed or scripted by the model's name.
//!
//! It runs on one thread, so that on a small machine the proxy under test has a core left.

mod events;
mod form;
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

use self::{events::Events, form::Form};
pub(crate) use self::{
    form::{CONTENT_MARK, ENDS},
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
        (&Method::POST, "/v1/chat/completions") => asked(Form::Chat, request).await,
        (&Method::POST, "/anthropic/v1/messages") => asked(Form::Messages, request).await,
        (&Method::GET, "/v1/models") => json(StatusCode::OK, MODELS.to_owned()),
        _ => refusal(
            StatusCode::NOT_FOUND,
            "the mock knows /v1/chat/completions, /anthropic/v1/messages and /v1/models",
        ),
    }
}

async fn asked(form: Form, request: Request<Incoming>) -> Response<Answer> {
    let Ok(body) = Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await else {
        return refusal(StatusCode::BAD_REQUEST, "the body broke off or is over 1 MiB");
    };
    let body = body.to_bytes();
    let Ok(asked) = serde_json::from_slice::<Asked<'_>>(&body) else {
        return refusal(StatusCode::BAD_REQUEST, "the body is no chat request");
    };
    if !asked.stream {
        return json(StatusCode::OK, form.whole(&asked.model));
    }
    let Some(script) = Script::parse(&asked.model) else {
        return refusal(StatusCode::BAD_REQUEST, "a streamed model is named stream-<events>x<gap>ms or hold");
    };
    let mut response = Response::new(Either::Right(Events::new(form, script, &asked.model)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
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
