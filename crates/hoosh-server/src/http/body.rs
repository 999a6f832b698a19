//! Bodies: those that come in are bounded in length and time, those that go out are whole or streamed.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use hoosh_core::limits;
use hoosh_gateway::ReplyStream;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::timeout;

use super::stall::{Stall, Stalls};

/// The body of an answer.
pub(crate) enum ResponseBody {
    Full(Option<Bytes>),
    Stream(ReplyStream, Option<Arc<Stall>>),
}

/// Why a body was not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unread {
    /// It is longer than allowed, by its own word or by what came.
    TooLong { bytes_max: usize },
    /// It did not come in time.
    TooSlow { limit: Duration },
    /// The client stopped in the middle of it.
    CutOff,
}

/// Reads a body of at most `bytes_max` bytes within `limit`. A client that `waits` for our word before it sends gets the
/// refusal at once.
pub(crate) async fn read(
    mut body: Incoming,
    waits: bool,
    bytes_max: usize,
    limit: Duration,
) -> Result<Bytes, Unread> {
    let declared = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if declared > bytes_max && waits {
        return Err(Unread::TooLong { bytes_max });
    }
    let read = if declared > bytes_max {
        Err(Unread::TooLong { bytes_max })
    } else {
        timeout(limit, collect(&mut body, bytes_max)).await.unwrap_or(Err(Unread::TooSlow { limit }))
    };
    if let Err(Unread::TooLong { .. }) = read {
        drain(body).await;
    }
    read
}

async fn collect(body: &mut Incoming, bytes_max: usize) -> Result<Bytes, Unread> {
    let mut first = Bytes::new();
    let mut joined: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Unread::CutOff)?.into_data() else { continue };
        if first.len() + joined.len() + data.len() > bytes_max {
            return Err(Unread::TooLong { bytes_max });
        }
        // Most bodies come in one piece, which is then not copied.
        if first.is_empty() && joined.is_empty() {
            first = data;
            continue;
        }
        joined.extend_from_slice(&first);
        first = Bytes::new();
        joined.extend_from_slice(&data);
    }
    Ok(if joined.is_empty() { first } else { joined.into() })
}

/// Reads on and throws away, so that a client that writes first and reads later gets to read why it was refused.
async fn drain(mut body: Incoming) {
    let drained = async {
        let mut bytes = 0;
        while let Some(Ok(frame)) = body.frame().await {
            bytes += frame.data_ref().map_or(0, Bytes::len);
            if bytes > limits::REFUSED_BODY_DRAIN_BYTES_MAX {
                break;
            }
        }
    };
    // Past its time the connection is closed under a client that still sends, which is then its own doing.
    let _in_time = timeout(limits::REFUSED_BODY_DRAIN_TIME_MAX, drained).await;
}

impl ResponseBody {
    pub(crate) fn full(bytes: impl Into<Bytes>) -> Self {
        Self::Full(Some(bytes.into()).filter(|bytes| !bytes.is_empty()))
    }
}

impl ResponseBody {
    /// The same, watched for a client that does not take it.
    pub(crate) fn watched(self, stalls: &Stalls) -> Self {
        match self {
            Self::Stream(stream, _) => Self::Stream(stream, Some(stalls.watch())),
            full @ Self::Full(_) => full,
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(stream, stall) => {
                if let Some(stall) = stall {
                    stall.is_asked();
                }
                let polled = Pin::new(stream).poll_next(cx);
                if let (Some(stall), Poll::Ready(Some(_))) = (stall, &polled) {
                    stall.gave();
                }
                polled.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Full(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Stream(..) => SizeHint::default(),
        }
    }
}
