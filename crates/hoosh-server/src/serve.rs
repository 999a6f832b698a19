//! Connections: accepted, served, drained.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use hoosh_core::dialect::{Dialect, RequestLine};
use hoosh_core::limits;
use hoosh_gateway::RequestId;
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::{self, anthropic, gemini, ollama};
use crate::app::App;
use crate::http::body::ResponseBody;
use crate::http::cors::Cors;
use crate::http::error::{self, ServerError};
use crate::http::stall::Stalls;
use crate::http::{REQUEST_ID, X_REQUEST_ID};
use crate::route::{Endpoint, Found, dialect_of};

/// Serves until `shutdown` is ready, then lets calls in flight finish for `drain_time`.
pub(crate) async fn serve(
    app: Arc<App>,
    listener: TcpListener,
    connections_max: usize,
    drain_time: Duration,
    shutdown: impl Future<Output = ()>,
) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::REQUEST_HEAD_TIME_MAX)
        // A client that closes its side is gone, and its call is cancelled: TCP cannot tell that from one that only
        // has nothing more to say, and generating for nobody costs money.
        .half_close(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits::HTTP2_STREAMS_MAX)
        .keep_alive_interval(limits::REQUEST_HEAD_TIME_MAX);
    let builder = Arc::new(builder);
    let graceful = GracefulShutdown::new();
    let tracker = TaskTracker::new();
    // Ends the connections that are left after the drain time, and all of them if this future is dropped.
    let ending = CancellationToken::new();
    let _end_all = ending.clone().drop_guard();
    // Ends the streams that are left then, each with a word of it.
    let stopping = CancellationToken::new();
    let places = Arc::new(Semaphore::new(connections_max));
    let mut shutdown = pin!(shutdown);

    loop {
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place,
            () = &mut shutdown => break,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut shutdown => break,
        };
        let (stream, _) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, mostly: wait for some connection to end rather than spin.
                tracing::warn!(%error, "accept failed");
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (app, builder, watcher) = (Arc::clone(&app), Arc::clone(&builder), graceful.watcher());
        let (ending, stopping) = (ending.clone(), stopping.clone());
        tracker.spawn(async move {
            ending.run_until_cancelled(connection(app, &builder, watcher, stream, stopping)).await;
            drop(place);
        });
    }

    drop(listener);
    tracker.close();
    tracing::info!(connections = tracker.len(), limit_s = drain_time.as_secs(), "draining");
    let drained = async {
        graceful.shutdown().await;
        tracker.wait().await;
    };
    if timeout(drain_time, drained).await.is_err() {
        tracing::warn!(connections = tracker.len(), "drain time passed, closing what is left");
        stopping.cancel();
        // Past it a client takes nothing, or waits for an answer that is not a stream.
        let _in_time = timeout(limits::STREAM_STOP_TIME_MAX, tracker.wait()).await;
        ending.cancel();
        // Each only has to be dropped, and its calls told.
        tracker.wait().await;
    }
}

async fn connection(
    app: Arc<App>,
    builder: &auto::Builder<TokioExecutor>,
    watcher: hyper_util::server::graceful::Watcher,
    stream: TcpStream,
    stopping: CancellationToken,
) {
    // Without it each event of a stream waits for the acknowledgement of the one before.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    let seen = AtomicBool::new(false);
    let stalls = Stalls::default();
    let service = service_fn(|request| {
        seen.store(true, Ordering::Relaxed);
        let answered = answer(Arc::clone(&app), request);
        let (stalls, stopping) = (stalls.clone(), stopping.clone());
        async move { answered.await.map(|response| response.map(|body| body.watched(&stalls, &stopping))) }
    });
    let connection = watcher.watch(builder.serve_connection(TokioIo::new(stream), service));
    // hyper's own limit begins with the first byte that is surely HTTP/1; this one holds for those that say nothing.
    let silent = async {
        sleep(limits::REQUEST_HEAD_TIME_MAX).await;
        if seen.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        ended = connection => if let Err(error) = ended {
            tracing::debug!(%error, "connection ended");
        },
        () = silent => tracing::debug!("connection closed: no request came"),
        () = stalls.one_is_too_long() => tracing::warn!("connection closed: its client takes nothing of its stream"),
    }
}

/// Answers one request, whatever happens.
async fn answer(app: Arc<App>, request: Request<Incoming>) -> Result<Response<ResponseBody>, Infallible> {
    let id = RequestId::new();
    let origin = app.cors.allowed_origin(request.headers());
    let mut dialect = dialect_of(request.uri().path());
    let answered = AssertUnwindSafe(route(&app, &id, request, &mut dialect)).catch_unwind().await;
    let result = answered.unwrap_or_else(|_| {
        tracing::error!(%id, "a panic ended this request; its message is above");
        Err(ServerError::Panicked)
    });
    let mut response = result.unwrap_or_else(|error| {
        tracing::debug!(%id, ?error, "refused");
        error::response(&error, dialect, &id)
    });
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        if matches!(dialect, Dialect::Anthropic | Dialect::AnthropicCount) {
            response.headers_mut().insert(REQUEST_ID, value.clone());
        }
        response.headers_mut().insert(X_REQUEST_ID, value);
    }
    if let Some(origin) = origin {
        Cors::open(origin, response.headers_mut());
    }
    Ok(response)
}

async fn route(
    app: &App,
    id: &RequestId,
    request: Request<Incoming>,
    dialect: &mut Dialect,
) -> Result<Response<ResponseBody>, ServerError> {
    if let Some(preflight) = app.cors.preflight(&request) {
        return Ok(preflight);
    }
    let path = request.uri().path();
    let (endpoint, rest) = match app.routes.find(request.method(), path) {
        Found::Endpoint(endpoint, rest) => (endpoint, rest),
        Found::Nothing => {
            let versioned = format!("/v1{path}");
            let found = app.routes.find(request.method(), &versioned) != Found::Nothing;
            let (method, path) = (request.method().clone(), path.to_owned());
            return Err(ServerError::NoSuchPath { method, path, near: found.then_some(versioned) });
        }
        Found::OtherMethods(allowed) => {
            let (method, path) = (request.method().clone(), path.to_owned());
            return Err(ServerError::NoSuchMethod { method, path, allowed });
        }
    };
    // Load balancers have no key.
    if endpoint == Endpoint::Health {
        return Ok(api::health(app));
    }
    match endpoint {
        Endpoint::Call(spoken) => *dialect = spoken,
        Endpoint::GeminiCall => *dialect = Dialect::Gemini,
        Endpoint::Models | Endpoint::Model if gemini::is_asked_for(request.headers()) => {
            *dialect = Dialect::Gemini;
        }
        Endpoint::Models | Endpoint::Model if anthropic::is_asked_for(request.headers()) => {
            *dialect = Dialect::Anthropic;
        }
        _ => {}
    }
    if app.keys.are_none() && app.cors.is_foreign(request.headers()) {
        return Err(ServerError::ForeignPage);
    }
    let caller = app.keys.caller(request.headers(), request.uri().query()).map_err(ServerError::Denied)?;
    match endpoint {
        Endpoint::Call(dialect) => {
            api::call(app, dialect, RequestLine::default(), id.clone(), caller, request).await
        }
        Endpoint::Health => Ok(api::health(app)),
        Endpoint::ProvidersHealth => Ok(api::providers_health(app).await),
        Endpoint::GeminiCall => {
            let (spoken, line) = gemini::read(rest.unwrap_or_default(), request.uri().query())?;
            *dialect = spoken;
            api::call(app, spoken, line, id.clone(), caller, request).await
        }
        Endpoint::GeminiModels => Ok(gemini::models(app).await),
        Endpoint::GeminiModel => gemini::model(app, rest.unwrap_or_default()).await,
        Endpoint::OllamaTags => Ok(ollama::tags(app).await),
        Endpoint::OllamaShow => ollama::show(app, request).await,
        Endpoint::OllamaRunning => Ok(ollama::running(app).await),
        Endpoint::OllamaVersion => Ok(ollama::version()),
        Endpoint::Metrics => Ok(api::metrics(app)),
        Endpoint::Models if *dialect == Dialect::Anthropic => Ok(anthropic::models(app).await),
        Endpoint::Model if *dialect == Dialect::Anthropic => {
            anthropic::model(app, rest.unwrap_or_default()).await
        }
        Endpoint::Models if *dialect == Dialect::Gemini => Ok(gemini::models(app).await),
        Endpoint::Model if *dialect == Dialect::Gemini => gemini::model(app, rest.unwrap_or_default()).await,
        Endpoint::Models => Ok(api::models(app).await),
        Endpoint::Model => api::model(app, rest.unwrap_or_default()).await,
    }
}
