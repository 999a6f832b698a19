//! Short requests to others than providers: a set of keys that is fetched, a message that is delivered.
//!
//! The same connections as for providers (TLS, no proxy, no redirect), each request within one time and its answer within a size.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use hoosh_core::UpstreamFailure;
use hoosh_core::limits::CONNECT_TIME_MAX;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Full;

use crate::settings::Timeouts;
use crate::transport::Transport;

/// Sends short requests. Opens a connection when it is first used, and keeps it for the next request.
pub struct WebClient {
    transport: Transport,
}

/// Why a short request did not work out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WebError {
    /// Nothing came, or not all of it.
    #[error("{0}")]
    Failed(#[from] UpstreamFailure),
    /// Another status than one of success came.
    #[error("it answered {0}")]
    Status(StatusCode),
    /// More came than is read.
    #[error("it answered more than {0} bytes")]
    TooLong(usize),
    /// The URL or a header cannot be sent.
    #[error("the request cannot be sent: {0}")]
    Unsendable(#[from] http::Error),
}

// === impl WebClient ===

impl WebClient {
    /// Each request is given so long, from the connection to the last byte of the answer.
    pub fn new(total: Duration) -> Self {
        let connect = CONNECT_TIME_MAX.min(total);
        let timeouts = Timeouts { connect, first_byte: total, idle: total, total };
        Self { transport: Transport::new(timeouts) }
    }

    /// Sends a request, and gives the body of an answer of success, no longer than `bytes_max`.
    ///
    /// # Errors
    ///
    /// [`WebError`]. A redirect is no success: it could lead anywhere.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection; whether the other side has taken the request is then not known.
    pub async fn send(
        &self,
        method: Method,
        url: &Uri,
        headers: HeaderMap,
        body: Bytes,
        bytes_max: usize,
    ) -> Result<Bytes, WebError> {
        let mut request = Request::builder().method(method).uri(url).body(Full::new(body))?;
        *request.headers_mut() = headers;
        let agent = HeaderValue::from_static(concat!("hoosh/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().insert(http::header::USER_AGENT, agent);
        let answer = self.transport.send_for_whole(request).await?;
        if !answer.head.status.is_success() {
            return Err(WebError::Status(answer.head.status));
        }
        answer.whole(bytes_max).await?.ok_or(WebError::TooLong(bytes_max))
    }
}

impl fmt::Debug for WebClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebClient").finish_non_exhaustive()
    }
}
