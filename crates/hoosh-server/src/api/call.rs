//! Inferences and embeddings: bytes to a [`Call`], a [`Reply`] to bytes.

use std::sync::Arc;

use hoosh_core::FidelityNote;
use hoosh_core::dialect::{Dialect, RequestLine, StreamForm};
use hoosh_gateway::{CacheControl, Call, Reply, ReplyBody, ReplyHead, RequestId, Trail};
use http::header::{AGE, CACHE_CONTROL, CONTENT_ENCODING, EXPECT};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use hyper::body::Incoming;

use super::waiting;
use super::wishes::Wishes;
use super::{EVENT_STREAM, streamed, written};
use crate::app::App;
use crate::http::auth::Caller;
use crate::http::body::{self, ResponseBody};
use crate::http::error::ServerError;
use crate::http::{
    X_HOOSH_ATTEMPTS, X_HOOSH_BUDGET, X_HOOSH_CACHE, X_HOOSH_CONTEXT, X_HOOSH_COST, X_HOOSH_LOSSY,
    X_HOOSH_MODEL, X_HOOSH_PROVIDER, X_HOOSH_QUEUE_MS,
};

pub(crate) async fn call(
    app: &Arc<App>,
    (dialect, line): (Dialect, RequestLine),
    id: RequestId,
    trail: Option<Trail>,
    caller: &Caller,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, ServerError> {
    refuse_compressed(request.headers())?;
    let wishes = Wishes::read(request.headers())?;
    let cache = cache_control(request.headers());
    let headers = carried(dialect, request.headers());
    let content = StreamContent { form: dialect.stream_form(), json_list: line.json_list };
    let waits = request.headers().contains_key(EXPECT);
    let body = body::read(request.into_body(), waits, app.max_body_bytes, app.body_timeout).await;
    let body = body.map_err(ServerError::Unread)?;
    let mut call = Call::read_with(id, caller.id.clone(), dialect, line, body).map_err(ServerError::Call)?;
    (call.cache, call.headers, call.trail) = (cache, headers, trail);
    wishes.put(&mut call);
    caller.put(&mut call);
    if let Some(every) = app.config.server.waiting_comment.filter(|_| waiting::can_be_told(&call)) {
        return waiting::answer(app, call, content, every).await;
    }
    let reply = app.gateway.call(call).await.map_err(ServerError::Call)?;
    Ok(response(reply, content))
}

/// How a stream of an answer is cut into events.
#[derive(Clone, Copy)]
pub(super) struct StreamContent {
    form: StreamForm,
    json_list: bool,
}

/// What the caller wants of the cache. What cannot be read says nothing.
fn cache_control(headers: &HeaderMap) -> CacheControl {
    CacheControl::parse(headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok()))
}

/// The headers that belong to a dialect and go on to a provider that speaks it.
fn carried(dialect: Dialect, headers: &HeaderMap) -> HeaderMap {
    let names = dialect.carried_headers().iter().map(|name| HeaderName::from_static(name));
    names.filter_map(|name| Some((name.clone(), headers.get(&name)?.clone()))).collect()
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

pub(super) fn response(reply: Reply, stream: StreamContent) -> Response<ResponseBody> {
    let mut response = match reply.body {
        ReplyBody::Full(bytes) => written(bytes),
        ReplyBody::Stream(body) => {
            let content_type = match stream.form {
                StreamForm::Sse if stream.json_list => "application/json",
                StreamForm::Sse => EVENT_STREAM,
                StreamForm::Lines => "application/x-ndjson",
            };
            streamed(content_type, ResponseBody::stream(body))
        }
    };
    put(reply.head, response.headers_mut());
    response
}

/// Who gave an answer, and how, as headers.
pub(super) fn put(head: ReplyHead, headers: &mut HeaderMap) {
    headers.extend(head.limits);
    insert(headers, X_HOOSH_PROVIDER, head.provider);
    insert(headers, X_HOOSH_MODEL, head.model);
    headers.insert(X_HOOSH_ATTEMPTS, HeaderValue::from(head.attempts));
    if let Some(similarity) = head.cache.similarity() {
        insert(headers, X_HOOSH_CACHE, format!("semantic {similarity}"));
    } else if let Some(cache) = head.cache.as_str() {
        headers.insert(X_HOOSH_CACHE, HeaderValue::from_static(cache));
    }
    if let Some(age) = head.age {
        headers.insert(AGE, HeaderValue::from(age.as_secs()));
    }
    if !head.notes.is_empty() {
        let fields: Vec<String> = head.notes.iter().map(FidelityNote::to_string).collect();
        insert(headers, X_HOOSH_LOSSY, fields.join(", "));
    }
    if let Some(context) = head.context {
        insert(headers, X_HOOSH_CONTEXT, context.to_string());
    }
    if !head.queued.is_zero() {
        let millis = u64::try_from(head.queued.as_millis()).unwrap_or(u64::MAX);
        headers.insert(X_HOOSH_QUEUE_MS, HeaderValue::from(millis));
    }
    if let Some(most) = head.budget_limit {
        insert(headers, X_HOOSH_BUDGET, format!("limit={most}"));
    }
    if let Some(cost) = head.cost {
        insert(headers, X_HOOSH_COST, cost.to_string().trim_start_matches('$').to_owned());
    }
}

/// Sets a header, unless its value cannot be one: a model's name of a provider may be any text.
fn insert(headers: &mut HeaderMap, name: http::HeaderName, value: String) {
    if let Ok(value) = HeaderValue::from_maybe_shared(bytes::Bytes::from(value)) {
        headers.insert(name, value);
    }
}
