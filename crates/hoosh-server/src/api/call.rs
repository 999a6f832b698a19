//! Inferences and embeddings: bytes to a [`Call`], a [`Reply`] to bytes.

use hoosh_core::FidelityNote;
use hoosh_core::dialect::Dialect;
use hoosh_gateway::{Call, CallerId, Reply, ReplyBody, RequestId};
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, EXPECT};
use http::{HeaderMap, HeaderValue, Request, Response};
use hyper::body::Incoming;

use crate::app::App;
use crate::http::body::{self, ResponseBody};
use crate::http::error::ServerError;
use crate::http::{X_HOOSH_ATTEMPTS, X_HOOSH_COST, X_HOOSH_LOSSY, X_HOOSH_MODEL, X_HOOSH_PROVIDER};

pub(crate) async fn call(
    app: &App,
    dialect: Dialect,
    id: RequestId,
    caller: CallerId,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, ServerError> {
    refuse_compressed(request.headers())?;
    let waits = request.headers().contains_key(EXPECT);
    let body = body::read(request.into_body(), waits, app.max_body_bytes, app.body_timeout).await;
    let body = body.map_err(ServerError::Unread)?;
    let call = Call::read(id, caller, dialect, body).map_err(ServerError::Call)?;
    let reply = app.gateway.call(call).await.map_err(ServerError::Call)?;
    Ok(response(reply))
}

/// To count what a compressed body becomes is one more thing to bound; no SDK sends one.
fn refuse_compressed(headers: &HeaderMap) -> Result<(), ServerError> {
    match headers.get(CONTENT_ENCODING).map(HeaderValue::as_bytes) {
        None | Some(b"identity" | b"") => Ok(()),
        Some(encoding) => {
            Err(ServerError::Compressed { encoding: String::from_utf8_lossy(encoding).into_owned() })
        }
    }
}

fn response(reply: Reply) -> Response<ResponseBody> {
    let (content_type, body) = match reply.body {
        ReplyBody::Full(bytes) => ("application/json", ResponseBody::full(bytes)),
        ReplyBody::Stream(stream) => ("text/event-stream", ResponseBody::Stream(stream, None)),
    };
    let streamed = matches!(body, ResponseBody::Stream(..));
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if streamed {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        // nginx in front of us would otherwise hold events back.
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    }
    let head = reply.head;
    insert(headers, X_HOOSH_PROVIDER, head.provider);
    insert(headers, X_HOOSH_MODEL, head.model);
    headers.insert(X_HOOSH_ATTEMPTS, HeaderValue::from(head.attempts));
    if !head.notes.is_empty() {
        let fields: Vec<&str> = head.notes.iter().map(|FidelityNote { field }| field.as_str()).collect();
        insert(headers, X_HOOSH_LOSSY, fields.join(", "));
    }
    if let Some(cost) = head.cost {
        insert(headers, X_HOOSH_COST, cost.to_string().trim_start_matches('$').to_owned());
    }
    response
}

/// Sets a header, unless its value cannot be one: a name with a line break says nothing that is worth an answer.
fn insert(headers: &mut HeaderMap, name: http::HeaderName, value: String) {
    if let Ok(value) = HeaderValue::from_maybe_shared(bytes::Bytes::from(value)) {
        headers.insert(name, value);
    }
}
