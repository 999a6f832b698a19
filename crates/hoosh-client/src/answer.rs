//! An answer whose head has come: its body in pieces or whole, and what it says if it is an error.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hoosh_core::dialect::{DecodeError, Dialect};
use hoosh_core::json::{FieldError, shortened};
use hoosh_core::{Retry, limits};
use http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use http_body::Body as _;
use tokio::time::{Instant, Sleep};

use crate::error::{ClientError, Timeout};
use crate::meta;

/// An answer whose body is still to come.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
}

/// A body as it comes, bounded in time: between two pieces, and as a whole. Dropping it cancels the call.
pub(crate) struct Body {
    inner: reqwest::Body,
    url: Arc<str>,
    idle: Duration,
    until_idle: Pin<Box<Sleep>>,
    /// Whether somebody waits for the next piece, so that `until_idle` runs.
    waiting: bool,
    total: Duration,
    until_total: Pin<Box<Sleep>>,
}

// === impl Answer ===

impl Answer {
    /// The gateway's name for the call.
    pub(crate) fn request_id(&self) -> Option<String> {
        meta::request_id(&self.headers)
    }

    /// The answer if its status says success.
    ///
    /// # Errors
    ///
    /// [`ClientError::Api`] with what the body says.
    pub(crate) async fn accepted(self) -> Result<Self, ClientError> {
        if self.status.is_success() {
            return Ok(self);
        }
        let (status, headers) = (self.status, self.headers);
        let body = self.body.beginning().await;
        Err(refusal(status, &headers, &body))
    }

    /// The whole body, read by `decode`.
    ///
    /// # Errors
    ///
    /// [`ClientError::Transport`] if it does not come, [`ClientError::Decode`] if it is too long or `decode` refuses it,
    /// [`ClientError::Api`] if `decode` finds an error in it.
    pub(crate) async fn read<T>(
        mut self,
        decode: impl FnOnce(&[u8]) -> Result<T, DecodeError>,
    ) -> Result<T, ClientError> {
        let body = self.whole().await?;
        decode(&body).map_err(|error| match (&error, media_type(&self.headers)) {
            (DecodeError::Field(_), Some(found)) if !is_json(found) => {
                self.unreadable(wrong_type(found, "JSON"))
            }
            _ => ClientError::from_decoder(self.body.url(), error, self.request_id()),
        })
    }

    /// The same for what a gateway also answers under the status 503, which then says that there is nobody to ask.
    ///
    /// # Errors
    ///
    /// As [`accepted`](Self::accepted) and [`read`](Self::read).
    pub(crate) async fn read_even_unavailable<T>(
        mut self,
        decode: impl FnOnce(&[u8]) -> Result<T, DecodeError>,
    ) -> Result<T, ClientError> {
        if self.status != StatusCode::SERVICE_UNAVAILABLE {
            return self.accepted().await?.read(decode).await;
        }
        let body = self.whole().await?;
        decode(&body).map_err(|_| refusal(self.status, &self.headers, &body))
    }

    /// Checks that the body is an event stream, as far as its type says.
    ///
    /// # Errors
    ///
    /// [`ClientError::Decode`].
    pub(crate) fn check_is_stream(&self) -> Result<(), ClientError> {
        match media_type(&self.headers) {
            Some(found) if !found.eq_ignore_ascii_case("text/event-stream") => {
                Err(self.unreadable(wrong_type(found, "an event stream")))
            }
            _ => Ok(()),
        }
    }

    async fn whole(&mut self) -> Result<Vec<u8>, ClientError> {
        let mut body = Vec::new();
        while let Some(piece) = self.body.next().await {
            body.extend_from_slice(&piece?);
            if body.len() > limits::REPLY_BODY_BYTES_MAX {
                return Err(self.unreadable(too_long()));
            }
        }
        Ok(body)
    }

    fn unreadable(&self, problem: String) -> ClientError {
        ClientError::decode(self.body.url(), problem, self.request_id())
    }
}

/// The error in an answer whose status is one.
fn refusal(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> ClientError {
    let request_id = meta::request_id(headers);
    if status.is_redirection() {
        let target = meta::text(headers, LOCATION.as_str()).unwrap_or("nowhere");
        let target = shortened(target, limits::VENDOR_MESSAGE_BYTES_MAX);
        return ClientError::Api {
            status: Some(status.as_u16()),
            code: None,
            message: format!("it redirects to `{target}`, which is not followed; use the URL that it names"),
            param: None,
            retry: Retry::Never,
            request_id,
        };
    }
    let seconds = meta::text(headers, RETRY_AFTER.as_str()).and_then(|text| text.parse().ok());
    // Embeddings and chat have the same error shape, and so have the gateway's own paths.
    let failure = Dialect::OpenAiChat.decode_error(status.as_u16(), seconds.map(Duration::from_secs), body);
    ClientError::from_failure(Some(status.as_u16()), failure, request_id)
}

/// The body as JSON.
///
/// # Errors
///
/// If it is none.
pub(crate) fn json(body: &[u8]) -> Result<serde_json::Value, DecodeError> {
    serde_json::from_slice(body).map_err(|error| field("", &format!("it is not JSON ({error})")))
}

/// The problem of a field, for answers that core has no decoder for.
pub(crate) fn field(path: &str, problem: &str) -> DecodeError {
    FieldError { path: path.to_owned(), problem: problem.to_owned() }.into()
}

/// What is said of an answer longer than any that is read whole.
pub(crate) fn too_long() -> String {
    format!("the answer is longer than {} MiB", limits::REPLY_BODY_BYTES_MAX >> 20)
}

fn wrong_type(found: &str, expected: &str) -> String {
    let found = shortened(found, 80);
    format!("the answer is `{found}`, not {expected}; is that a hoosh gateway?")
}

/// The media type without its parameters.
fn media_type(headers: &HeaderMap) -> Option<&str> {
    meta::text(headers, CONTENT_TYPE.as_str())?.split(';').next().map(str::trim_end)
}

fn is_json(media_type: &str) -> bool {
    let media_type = media_type.to_ascii_lowercase();
    media_type == "application/json" || media_type.ends_with("+json")
}

// === impl Body ===

impl Body {
    /// A body whose whole call ends at `until_total`, `total` after its beginning.
    pub(crate) fn new(
        inner: reqwest::Body,
        url: Arc<str>,
        idle: Duration,
        total: Duration,
        until_total: Pin<Box<Sleep>>,
    ) -> Self {
        let until_idle = Box::pin(tokio::time::sleep(idle));
        Self { inner, url, idle, until_idle, waiting: false, total, until_total }
    }

    /// The gateway's URL, for messages.
    pub(crate) fn url(&self) -> &Arc<str> {
        &self.url
    }

    /// The next piece, never empty; `None` at a proper end. After an error it is of no more use.
    pub(crate) fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, ClientError>>> {
        // Before the pieces: one that always has more would else never end.
        if self.until_total.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(Err(ClientError::timeout(&self.url, Timeout::Total, self.total))));
        }
        loop {
            let frame = match Pin::new(&mut self.inner).poll_frame(context) {
                Poll::Ready(frame) => frame,
                Poll::Pending => return self.poll_idle(context),
            };
            self.waiting = false;
            return Poll::Ready(match frame {
                None => None,
                Some(Err(error)) => Some(Err(ClientError::from_http(&self.url, Duration::ZERO, &error))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => Some(Ok(data)),
                    // Trailers, or a piece of nothing.
                    _ => continue,
                },
            });
        }
    }

    /// The next piece.
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, ClientError>> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// Silence counts only while somebody waits: the connection is not read in between, so a caller who takes a minute
    /// over an event would else find the time gone before the next one was even looked for.
    fn poll_idle<T>(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<T, ClientError>>> {
        if !std::mem::replace(&mut self.waiting, true) {
            match Instant::now().checked_add(self.idle) {
                Some(end) => self.until_idle.as_mut().reset(end),
                // Longer than the clock can count: the total time is all there is.
                None => return Poll::Pending,
            }
        }
        ready!(self.until_idle.as_mut().poll(context));
        Poll::Ready(Some(Err(ClientError::timeout(&self.url, Timeout::Idle, self.idle))))
    }

    /// As much of an error's body as is worth reading; what breaks off counts as far as it came.
    async fn beginning(mut self) -> Vec<u8> {
        let mut beginning = Vec::new();
        while beginning.len() < limits::ERROR_BODY_BYTES_MAX
            && let Some(Ok(piece)) = self.next().await
        {
            beginning.extend_from_slice(&piece);
        }
        beginning.truncate(limits::ERROR_BODY_BYTES_MAX);
        beginning
    }
}
