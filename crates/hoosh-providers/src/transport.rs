//! Connections to one provider: pooled, with TLS by rustls and ring, and every wait bounded.
//!
//! hyper-util's client rather than reqwest: frames pass through as they come, and no URL is parsed per call.

use std::error::Error;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use hoosh_core::{FailureKind, UpstreamFailure, limits};
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{ClientConfig, RootCertStore};
use tokio::time::{Instant, Sleep, sleep_until, timeout, timeout_at};
use tower_service::Service;

use crate::settings::Timeouts;

type BoxError = Box<dyn Error + Send + Sync>;

/// A pool of connections, and the times to wait for them.
pub(crate) struct Transport {
    client: Client<Connector, Full<Bytes>>,
    timeouts: Timeouts,
    /// How many connections were opened.
    opened: Arc<AtomicU64>,
}

/// An answer whose head has come.
pub(crate) struct Answer {
    pub(crate) head: http::response::Parts,
    body: Incoming,
    idle: Duration,
    deadline: Instant,
}

/// The body of an answer, piece by piece, each piece and the whole within its time.
struct TimedBody {
    body: Incoming,
    idle: Duration,
    deadline: Instant,
    /// When the last piece came. The timer is set again only when it fires, not for every piece.
    last: Instant,
    timer: Pin<Box<Sleep>>,
}

// === impl Transport ===

impl Transport {
    pub(crate) fn new(timeouts: Timeouts) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        // Without it a streamed event waits for the acknowledgement of the one before.
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(limits::POOL_IDLE_TIME_MAX));
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls_config())
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(tcp);
        let opened = Arc::<AtomicU64>::default();
        let connector = Connector { https, limit: timeouts.connect, opened: Arc::clone(&opened) };
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(limits::POOL_IDLE_TIME_MAX)
            .pool_max_idle_per_host(limits::POOL_IDLE_PER_HOST_MAX)
            .build(connector);
        Self { client, timeouts, opened }
    }

    /// Sends a request whose answer's head may take as long as a stream's.
    pub(crate) async fn send_for_stream(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Answer, UpstreamFailure> {
        self.send(request, self.timeouts.first_byte, self.timeouts.total).await
    }

    /// Sends a request whose answer's head comes when the answer is ready.
    pub(crate) async fn send_for_whole(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Answer, UpstreamFailure> {
        self.send(request, self.timeouts.total, self.timeouts.total).await
    }

    /// Sends a question that people wait for.
    pub(crate) async fn send_probe(&self, request: Request<Full<Bytes>>) -> Result<Answer, UpstreamFailure> {
        let total = limits::PROBE_TIME_MAX.min(self.timeouts.total);
        self.send(request, total, total).await
    }

    async fn send(
        &self,
        request: Request<Full<Bytes>>,
        first_byte: Duration,
        total: Duration,
    ) -> Result<Answer, UpstreamFailure> {
        let start = Instant::now();
        let answer = timeout_at(start + first_byte.min(total), self.request(request));
        let response = match answer.await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(failure_of(&error)),
            Err(_) => {
                let message = format!("no answer began within {} s", first_byte.min(total).as_secs_f32());
                return Err(UpstreamFailure::new(FailureKind::Timeout, message));
            }
        };
        Ok(Answer::new(response, self.timeouts.idle, start + total))
    }

    /// Sends a request, and once more if it went out on a kept connection that was closed at that moment: a server may end
    /// one just when it is used again, before it has read anything.
    async fn request(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, legacy::Error> {
        let again = request.clone();
        let (start, opened) = (Instant::now(), self.opened.load(Ordering::Relaxed));
        let answer = self.client.request(request).await;
        // Where another call opened one meanwhile it is not known which this was, and it is left at that.
        let was_kept = opened == self.opened.load(Ordering::Relaxed);
        match answer {
            Err(error)
                if was_kept && is_closed(&error) && start.elapsed() <= limits::STALE_CONNECTION_TIME_MAX =>
            {
                tracing::debug!(%error, "a kept connection was closed; sending the request again");
                self.client.request(again).await
            }
            answer => answer,
        }
    }
}

/// Whether the connection ended before any of the answer came.
fn is_closed(error: &legacy::Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<hyper::Error>());
    cause.is_some_and(|cause| cause.is_incomplete_message() || cause.is_closed())
}

/// Opens connections, TLS included, within a time: hyper's own connect timeout ends with TCP.
#[derive(Clone)]
struct Connector {
    https: HttpsConnector<HttpConnector>,
    limit: Duration,
    opened: Arc<AtomicU64>,
}

impl Service<Uri> for Connector {
    type Response = <HttpsConnector<HttpConnector> as Service<Uri>>::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.https.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        self.opened.fetch_add(1, Ordering::Relaxed);
        let (connecting, limit) = (self.https.call(uri), self.limit);
        Box::pin(async move {
            let connected = timeout(limit, connecting).await;
            connected
                .unwrap_or_else(|_| Err(format!("no connection within {} s", limit.as_secs_f32()).into()))
        })
    }
}

/// One TLS configuration for all: reading the system's certificates takes milliseconds.
fn tls_config() -> ClientConfig {
    static CONFIG: OnceLock<ClientConfig> = OnceLock::new();
    let config = CONFIG.get_or_init(|| {
        let mut roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        // The system's own, for companies with their own authority. Those that cannot be read are left out.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
        let builder = match builder.with_safe_default_protocol_versions() {
            Ok(builder) => builder,
            // ring has suites for all of rustls's own versions.
            Err(error) => unreachable!("ring speaks the default versions: {error}"),
        };
        builder.with_root_certificates(roots).with_no_client_auth()
    });
    config.clone()
}

// === impl Answer ===

impl Answer {
    fn new(response: Response<Incoming>, idle: Duration, deadline: Instant) -> Self {
        let (head, body) = response.into_parts();
        Self { head, body, idle, deadline }
    }

    /// The whole body, at most `bytes_max` of it; `None` if it is longer.
    pub(crate) async fn whole(mut self, bytes_max: usize) -> Result<Option<Bytes>, UpstreamFailure> {
        let mut first = Bytes::new();
        let mut joined: Vec<u8> = Vec::new();
        loop {
            let frame = timeout_at(self.deadline, self.body.frame()).await.map_err(|_| total_passed())?;
            let Some(frame) = frame else { break };
            let Ok(data) = frame.map_err(|error| broken(&error))?.into_data() else { continue };
            if first.len() + joined.len() + data.len() > bytes_max {
                return Ok(None);
            }
            // Most answers come in one piece, which is then not copied.
            if first.is_empty() && joined.is_empty() {
                first = data;
                continue;
            }
            if joined.is_empty() {
                joined.extend_from_slice(&first);
                first = Bytes::new();
            }
            joined.extend_from_slice(&data);
        }
        Ok(Some(if joined.is_empty() { first } else { joined.into() }))
    }

    /// As much of an error body as can be shown.
    pub(crate) async fn excerpt(mut self) -> Bytes {
        let mut excerpt = Vec::new();
        let deadline = self.deadline.min(Instant::now() + limits::ERROR_BODY_TIME_MAX);
        while excerpt.len() < limits::ERROR_BODY_BYTES_MAX {
            let Ok(Some(Ok(frame))) = timeout_at(deadline, self.body.frame()).await else { break };
            if let Ok(data) = frame.into_data() {
                let room = limits::ERROR_BODY_BYTES_MAX - excerpt.len();
                excerpt.extend_from_slice(&data[..data.len().min(room)]);
            }
        }
        excerpt.into()
    }

    /// The body in pieces as they come.
    pub(crate) fn stream(self) -> impl Stream<Item = Result<Bytes, UpstreamFailure>> + Send + use<> {
        let last = Instant::now();
        let timer = Box::pin(sleep_until(self.deadline.min(last + self.idle)));
        TimedBody { body: self.body, idle: self.idle, deadline: self.deadline, last, timer }
    }
}

impl Stream for TimedBody {
    type Item = Result<Bytes, UpstreamFailure>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            match Pin::new(&mut this.body).poll_frame(cx) {
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(broken(&error)))),
                Poll::Ready(Some(Ok(frame))) => {
                    this.last = Instant::now();
                    match frame.into_data() {
                        Ok(data) if data.is_empty() => {}
                        Ok(data) => return Poll::Ready(Some(Ok(data))),
                        // Trailers say nothing that any dialect uses.
                        Err(_) => {}
                    }
                }
                Poll::Pending => match this.timer.as_mut().poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(()) => {
                        let now = Instant::now();
                        if now >= this.deadline {
                            return Poll::Ready(Some(Err(total_passed())));
                        }
                        if now >= this.last + this.idle {
                            let message = format!("the stream was silent for {} s", this.idle.as_secs_f32());
                            return Poll::Ready(Some(Err(UpstreamFailure::new(
                                FailureKind::Timeout,
                                message,
                            ))));
                        }
                        let next = this.deadline.min(this.last + this.idle);
                        this.timer.as_mut().reset(next);
                    }
                },
            }
        }
    }
}

fn total_passed() -> UpstreamFailure {
    UpstreamFailure::new(FailureKind::Timeout, "the attempt's total time passed")
}

fn broken(error: &hyper::Error) -> UpstreamFailure {
    UpstreamFailure::new(FailureKind::Broken, causes(error))
}

fn failure_of(error: &legacy::Error) -> UpstreamFailure {
    let kind = if error.is_connect() { FailureKind::Connect } else { FailureKind::Broken };
    UpstreamFailure::new(kind, causes(error))
}

/// The causes of an error below its own general sentence, the innermost last.
fn causes(error: &dyn Error) -> String {
    let mut text = String::new();
    let mut next = error.source();
    while let Some(cause) = next {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    if text.is_empty() { error.to_string() } else { text }
}
