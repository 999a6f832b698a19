//! The way to the gateway and back: one request out, the head of the answer in, both bounded in time.
//!
//! Nothing here knows what a body means; nothing is sent twice.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hoosh_core::limits;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method};
use reqwest::Url;
use reqwest::redirect::Policy;

use crate::answer::{Answer, Body};
use crate::error::{ClientError, Timeout, TransportKind};
use crate::url;

/// How long a client waits for what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeouts {
    pub(crate) connect: Duration,
    pub(crate) first_byte: Duration,
    pub(crate) idle: Duration,
    pub(crate) total: Duration,
}

/// A gateway that can be called.
#[derive(Debug)]
pub(crate) struct Transport {
    base: Url,
    /// The base as it is shown in messages.
    shown: Arc<str>,
    http: reqwest::Client,
    authorization: Option<HeaderValue>,
    timeouts: Timeouts,
}

/// What is asked of the gateway.
pub(crate) enum Ask {
    /// An answer that is generated as a whole: only the total time bounds it.
    Whole(Vec<u8>),
    /// A streamed answer: its head must come soon.
    Stream(Vec<u8>),
    /// Something else of the gateway's own, with JSON where it takes some.
    Own(Method, Option<Vec<u8>>),
    /// What the gateway knows without asking a model. People wait for it.
    Look,
}

// === impl Timeouts ===

impl Timeouts {
    pub(crate) const DEFAULT: Self = Self {
        connect: limits::CONNECT_TIME_MAX,
        // One provider may be silent for all of the gateway's own time, and the next one still answer.
        first_byte: limits::FIRST_BYTE_TIME_MAX.saturating_mul(2).saturating_add(limits::CLIENT_GRACE),
        idle: limits::IDLE_TIME_MAX.saturating_add(limits::CLIENT_GRACE),
        total: limits::TOTAL_TIME_MAX.saturating_add(limits::CLIENT_GRACE),
    };

    /// The whole time for what the gateway knows without asking a model; it may probe its providers for that.
    const LOOK: Duration = limits::PROBE_TIME_MAX.saturating_add(limits::CLIENT_GRACE);
}

// === impl Transport ===

impl Transport {
    /// Prepares the way to the gateway at `base_url`. Opens no connection.
    pub(crate) fn new(base_url: &str, token: Option<&str>, timeouts: Timeouts) -> Result<Self, ClientError> {
        let base = url::parse(base_url)?;
        let authorization = token.map(bearer).transpose()?;
        let http = reqwest::Client::builder()
            .user_agent(concat!("hoosh-client/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(timeouts.connect)
            .pool_idle_timeout(limits::POOL_IDLE_TIME_MAX)
            .pool_max_idle_per_host(limits::POOL_IDLE_PER_HOST_MAX)
            .tcp_nodelay(true)
            .no_proxy()
            .redirect(Policy::none())
            .retry(reqwest::retry::never());
        #[cfg(feature = "tls")]
        let http = http.tls_backend_preconfigured(
            crate::tls::config(base.scheme()).map_err(|error| cannot_begin(&base, error.to_string()))?,
        );
        let http = http.build().map_err(|error| cannot_begin(&base, error.to_string()))?;
        let shown = url::shown(&base).into();
        Ok(Self { base, shown, http, authorization, timeouts })
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// # Errors
    ///
    /// [`ClientError::Transport`]. An answer with an error status is an answer.
    pub(crate) async fn send(
        &self,
        path: impl IntoIterator<Item = &str>,
        ask: Ask,
    ) -> Result<Answer, ClientError> {
        let (first_byte, total) = match &ask {
            Ask::Whole(_) | Ask::Own(..) => (None, self.timeouts.total),
            Ask::Stream(_) => (Some(self.timeouts.first_byte), self.timeouts.total),
            Ask::Look => (None, self.timeouts.total.min(Timeouts::LOOK)),
        };
        let mut until_total = Box::pin(tokio::time::sleep(total));
        // Where there is no first-byte time this is the total over again, which is asked first and so is told.
        let first_byte = first_byte.unwrap_or(total);
        let mut until_first_byte = pin!(tokio::time::sleep(first_byte));
        let mut sending = pin!(self.http.execute(self.request(path, ask)));
        let response = poll_fn(|context| {
            if let Poll::Ready(sent) = sending.as_mut().poll(context) {
                let failed = |error| ClientError::from_http(&self.shown, self.timeouts.connect, &error);
                return Poll::Ready(sent.map_err(failed));
            }
            if until_total.as_mut().poll(context).is_ready() {
                return Poll::Ready(Err(ClientError::timeout(&self.shown, Timeout::Total, total)));
            }
            if until_first_byte.as_mut().poll(context).is_ready() {
                return Poll::Ready(Err(ClientError::timeout(&self.shown, Timeout::FirstByte, first_byte)));
            }
            Poll::Pending
        })
        .await?;
        let (head, body) = http::Response::from(response).into_parts();
        let body = Body::new(body, self.shown.clone(), self.timeouts.idle, total, until_total);
        Ok(Answer { status: head.status, headers: head.headers, body })
    }

    fn request<'a>(&self, path: impl IntoIterator<Item = &'a str>, ask: Ask) -> reqwest::Request {
        let (method, accept, body) = match ask {
            Ask::Whole(body) => (Method::POST, "application/json", Some(body)),
            Ask::Stream(body) => (Method::POST, "text/event-stream", Some(body)),
            Ask::Own(method, body) => (method, "application/json", body),
            Ask::Look => (Method::GET, "application/json", None),
        };
        let mut request = reqwest::Request::new(method, url::below(&self.base, path));
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        if let Some(body) = body {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            *request.body_mut() = Some(body.into());
        }
        request
    }
}

/// The header that carries the token, marked so that no `Debug` shows it.
fn bearer(token: &str) -> Result<HeaderValue, ClientError> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| ClientError::Token)?;
    value.set_sensitive(true);
    Ok(value)
}

fn cannot_begin(base: &Url, problem: String) -> ClientError {
    let url = url::shown(base).to_owned();
    ClientError::Transport { url, kind: TransportKind::Tls, problem: format!("no TLS: {problem}") }
}
