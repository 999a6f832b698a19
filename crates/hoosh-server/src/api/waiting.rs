//! Streams whose answer takes its time: their clients, and the proxies between, are told that the call still waits.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, Stream, stream};
use hoosh_core::dialect::{Dialect, StreamForm};
use hoosh_gateway::{Call, PlaceInLine, Reply, ReplyBody, ReplyHead, ReplyStream, StopMark};
use http::{HeaderMap, Response};
use tokio::time::{Interval, interval, timeout};

use super::call::{StreamContent, put, response};
use super::{EVENT_STREAM, streamed};
use crate::app::App;
use crate::http::body::ResponseBody;
use crate::http::error::{self, ServerError};

/// Whether the client of a call can be told by comments, and by an event if nothing comes of it. In Gemini's dialect not
/// all look for errors once a stream has begun.
pub(super) fn can_be_told(call: &Call) -> bool {
    let (dialect, streams) = (call.dialect, call.head.stream && call.dialect.codec().is_some());
    streams && dialect.stream_form() == StreamForm::Sse && dialect != Dialect::Gemini
}

/// Answers a call whose client is to be told every so often that it waits: in time, or in the body of a response that has
/// begun without it.
pub(super) async fn answer(
    app: &Arc<App>,
    mut call: Call,
    content: StreamContent,
    every: Duration,
) -> Result<Response<ResponseBody>, ServerError> {
    let place = Arc::new(PlaceInLine::default());
    call.place = Some(Arc::clone(&place));
    let mark = Arc::new(StopMark::default());
    call.stop = Some(Arc::clone(&mark));
    let (dialect, id, app) = (call.dialect, call.id.clone(), Arc::clone(app));
    let mut calling = Box::pin(async move { app.gateway.call(call).await });
    if let Ok(answered) = timeout(every, &mut calling).await {
        return answered.map(|reply| response(reply, content)).map_err(ServerError::Call);
    }
    tracing::debug!(%id, "its client is told that it waits");
    let answer = async move {
        // Nobody else catches it here: a body is asked by hyper.
        let answered = AssertUnwindSafe(calling).catch_unwind().await;
        let answered = answered.map(|answered| answered.map_err(ServerError::Call)).unwrap_or_else(|_| {
            tracing::error!(%id, "a panic ended this request; its message is above");
            Err(ServerError::Panicked)
        });
        match answered {
            Ok(reply) => begun(reply),
            Err(error) => (error::event(&error::problem(&error), dialect), None),
        }
    };
    let stopped = (error::event(&ReplyStream::stopped(), dialect), mark);
    Ok(streamed(EVENT_STREAM, ResponseBody::waited(answer, comments(place, every), stopped)))
}

/// What an answer begins with whose headers are gone already, and the rest of it.
fn begun(reply: Reply) -> (Bytes, Option<ReplyStream>) {
    let mut begin = late(reply.head);
    match reply.body {
        ReplyBody::Stream(stream) => (begin.into(), Some(stream)),
        // Who asks for a stream gets one; if not, it is an event at least.
        ReplyBody::Full(body) => {
            begin.extend_from_slice(b"data: ");
            begin.extend_from_slice(&body);
            begin.extend_from_slice(b"\n\n");
            (begin.into(), None)
        }
    }
}

/// The headers that would have been, as comments.
fn late(head: ReplyHead) -> Vec<u8> {
    let mut headers = HeaderMap::new();
    put(head, &mut headers);
    let mut comment = Vec::with_capacity(256);
    for (name, value) in &headers {
        comment.extend_from_slice(b": ");
        comment.extend_from_slice(name.as_str().as_bytes());
        comment.extend_from_slice(b": ");
        comment.extend_from_slice(value.as_bytes());
        comment.push(b'\n');
    }
    comment.push(b'\n');
    comment
}

/// One now, and one each time after that.
fn comments(place: Arc<PlaceInLine>, every: Duration) -> impl Stream<Item = Bytes> {
    stream::unfold((interval(every), place), async |(mut ticks, place): (Interval, Arc<PlaceInLine>)| {
        ticks.tick().await;
        Some((comment(place.position(), place.expected_wait()), (ticks, place)))
    })
}

fn comment(position: Option<usize>, wait: Option<Duration>) -> Bytes {
    match (position, wait) {
        (None, _) => Bytes::from_static(b": waiting for the provider\n\n"),
        (Some(ahead), None) => format!(": waiting in line, {ahead} ahead\n\n").into(),
        (Some(ahead), Some(wait)) => {
            let seconds = wait.as_secs_f64().ceil();
            format!(": waiting in line, {ahead} ahead, about {seconds} s\n\n").into()
        }
    }
}
