//! Bodies: those that come in are bounded in length and time, those that go out are whole or streamed.

use std::fmt;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::future::BoxFuture;
use hoosh_core::limits;
use hoosh_gateway::{ReplyStream, StopMark};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Sleep, sleep, timeout};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::stall::{Stall, Stalls};

/// The body of an answer.
pub(crate) enum ResponseBody {
    Full(Option<Bytes>),
    Stream(Box<Streaming>),
    /// A streamed answer that has not begun.
    Waited(Box<Waited>),
    /// Without an end of its own.
    Feed(Box<Feeding>),
    /// Cut when this is over.
    Cut(Pin<Box<Sleep>>),
}

/// A streamed answer.
pub(crate) struct Streaming {
    reply: ReplyStream,
    watch: Option<Watch>,
}

/// A streamed answer that is waited for.
pub(crate) struct Waited {
    /// What it begins with, and the stream; without one that is all there is.
    answer: BoxFuture<'static, (Bytes, Option<ReplyStream>)>,
    /// What is sent meanwhile.
    comments: Feed,
    /// What is sent if the server does not wait for it any longer, and who is told that it is the server.
    stopped: (Bytes, Arc<StopMark>),
    watch: Option<Watch>,
}

/// What goes on for as long as its client and the server do.
pub(crate) struct Feeding {
    feed: Feed,
    watch: Option<Watch>,
}

/// The bytes of a [`ResponseBody::Feed`].
pub(crate) type Feed = Pin<Box<dyn Stream<Item = Bytes> + Send>>;

/// How far a server is that stops.
#[derive(Clone, Default)]
pub(crate) struct Stopping {
    /// It takes no more calls: what has no end of its own ends, so that nothing waits for it.
    pub(crate) begun: CancellationToken,
    /// It waits no longer for the streams that are left: they end, each with a word of it.
    pub(crate) waited: CancellationToken,
}

/// What ends a stream from outside.
struct Watch {
    /// Tells a client that takes nothing.
    stall: Arc<Stall>,
    /// Ready when the server wants it to end.
    stopping: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// The end of a stream at which its connection is cut, see [`ReplyStream::must_be_cut`].
#[derive(Debug)]
pub(crate) struct Cut;

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the stream broke off")
    }
}

impl std::error::Error for Cut {}

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
    pub(crate) fn stream(reply: ReplyStream) -> Self {
        Self::Stream(Box::new(Streaming { reply, watch: None }))
    }

    pub(crate) fn waited(
        answer: impl Future<Output = (Bytes, Option<ReplyStream>)> + Send + 'static,
        comments: impl Stream<Item = Bytes> + Send + 'static,
        stopped: (Bytes, Arc<StopMark>),
    ) -> Self {
        let (answer, comments) = (Box::pin(answer), Box::pin(comments));
        Self::Waited(Box::new(Waited { answer, comments, stopped, watch: None }))
    }

    pub(crate) fn feed(feed: Feed) -> Self {
        Self::Feed(Box::new(Feeding { feed, watch: None }))
    }

    pub(crate) fn full(bytes: impl Into<Bytes>) -> Self {
        Self::Full(Some(bytes.into()).filter(|bytes| !bytes.is_empty()))
    }

    /// The same, watched for a client that does not take it, and for the end of the server.
    pub(crate) fn watched(mut self, stalls: &Stalls, stopping: &Stopping) -> Self {
        let watch = |stall, token: &CancellationToken| {
            Some(Watch { stall, stopping: Box::pin(token.clone().cancelled_owned()) })
        };
        match &mut self {
            Self::Stream(stream) => stream.watch = watch(stalls.watch(), &stopping.waited),
            Self::Waited(waited) => waited.watch = watch(stalls.watch(), &stopping.waited),
            Self::Feed(feeding) => feeding.watch = watch(stalls.watch_feed(), &stopping.begun),
            Self::Full(_) | Self::Cut(_) => {}
        }
        self
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match &mut *self {
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(stream) => {
                let Streaming { reply, watch } = &mut **stream;
                if let Some(watch) = watch {
                    watch.stall.is_asked();
                    if watch.stopping.as_mut().poll(cx).is_ready()
                        && let Some(last) = reply.stop()
                    {
                        return Poll::Ready(Some(Ok(Frame::data(last))));
                    }
                }
                let polled = Pin::new(&mut *reply).poll_next(cx);
                if reply.must_be_cut() && matches!(polled, Poll::Ready(None)) {
                    *self = Self::Cut(Box::pin(sleep(limits::STREAM_CUT_GRACE)));
                    return self.poll_frame(cx);
                }
                if let (Some(watch), Poll::Ready(Some(_))) = (watch, &polled) {
                    watch.stall.gave();
                }
                polled.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
            }
            Self::Waited(waited) => {
                let Waited { answer, comments, stopped, watch } = &mut **waited;
                let mut stops = false;
                if let Some(watch) = watch {
                    watch.stall.is_asked();
                    stops = watch.stopping.as_mut().poll(cx).is_ready();
                }
                let (bytes, ends, reply) = if stops {
                    let (bytes, mark) = stopped;
                    mark.set();
                    (mem::take(bytes), true, None)
                } else if let Poll::Ready((bytes, reply)) = answer.as_mut().poll(cx) {
                    (bytes, true, reply)
                } else {
                    let comment = ready!(comments.as_mut().poll_next(cx));
                    (comment.unwrap_or_default(), false, None)
                };
                if let Some(watch) = &watch {
                    watch.stall.gave();
                }
                if ends {
                    let watch = watch.take();
                    let stream = reply.map(|reply| Self::Stream(Box::new(Streaming { reply, watch })));
                    *self = stream.unwrap_or(Self::Full(None));
                }
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Self::Feed(feeding) => {
                let Feeding { feed, watch } = &mut **feeding;
                if let Some(watch) = watch {
                    watch.stall.is_asked();
                    if watch.stopping.as_mut().poll(cx).is_ready() {
                        return Poll::Ready(None);
                    }
                }
                let polled = feed.as_mut().poll_next(cx);
                if let (Some(watch), Poll::Ready(Some(_))) = (watch, &polled) {
                    watch.stall.gave();
                }
                polled.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
            }
            Self::Cut(grace) => grace.as_mut().poll(cx).map(|()| Some(Err(Cut))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Full(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Stream(_) | Self::Waited(_) | Self::Feed(_) | Self::Cut(_) => SizeHint::default(),
        }
    }
}
