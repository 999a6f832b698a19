//! Connections: accepted, served, drained.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, Stream};
use hoosh_budget::keys::Scope;
use hoosh_core::dialect::{Dialect, RequestLine};
use hoosh_core::limits;
use hoosh_gateway::{RequestId, Trail, TrailKind};
use hoosh_router::Seed;
use http::{HeaderValue, Request, Response, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::{
    self, anthropic, cache, decisions, events, gemini, keys, ollama, pools, queue, tokens, usage,
};
use crate::app::App;
use crate::audit;
use crate::http::body::{ResponseBody, Stopping};
use crate::http::cors::Cors;
use crate::http::error::{self, ServerError};
use crate::http::stall::Stalls;
use crate::http::{REQUEST_ID, X_HOOSH_DECISION, X_REQUEST_ID};
use crate::reload::{self, Live};
use crate::route::{Endpoint, Found, Needs, dialect_of, plain};
use crate::warm;

/// Serves until `shutdown` is ready, then lets calls in flight finish for the drain time.
pub(crate) async fn serve(
    live: Arc<Live>,
    listener: TcpListener,
    hangups: impl Stream<Item = ()> + Send + 'static,
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
    let stopping = Stopping::default();
    let places = Arc::new(Semaphore::new(live.app().config.server.max_connections));
    let mut shutdown = pin!(shutdown);
    // What is done beside the calls, and ends with the taking of calls.
    let (beside, over) = (TaskTracker::new(), stopping.begun.clone());
    let _end_beside = over.clone().drop_guard();
    beside.spawn(over.clone().run_until_cancelled_owned(heartbeats(live.apps())));
    beside.spawn(over.clone().run_until_cancelled_owned(probes(live.apps())));
    beside.spawn(over.clone().run_until_cancelled_owned(tidiness(live.apps())));
    beside.spawn(over.clone().run_until_cancelled_owned(reload::at_hangups(Arc::clone(&live), hangups)));
    beside.spawn(over.clone().run_until_cancelled_owned(reload::at_changes(Arc::clone(&live))));
    beside.spawn(over.clone().run_until_cancelled_owned(warm::warm(live.apps())));
    beside.spawn(over.clone().run_until_cancelled_owned(crate::keys::published::keep_up(live.apps())));
    beside.spawn(over.clone().run_until_cancelled_owned(crate::alerts::deliver(live.apps())));
    beside.spawn(over.clone().run_until_cancelled_owned(audit::deliver(live.apps())));
    beside.spawn(over.clone().run_until_cancelled_owned(crate::keys::keep_up(live.apps())));

    loop {
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place,
            () = &mut shutdown => break,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut shutdown => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, mostly: wait for some connection to end rather than spin.
                tracing::warn!(%error, "accept failed");
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (live, builder, watcher) = (Arc::clone(&live), Arc::clone(&builder), graceful.watcher());
        let (ending, stopping) = (ending.clone(), stopping.clone());
        tracker.spawn(async move {
            ending.run_until_cancelled(connection(live, &builder, watcher, (stream, peer), stopping)).await;
            drop(place);
        });
    }

    drop(listener);
    over.cancel();
    beside.close();
    beside.wait().await;
    tracker.close();
    let drain_time = live.app().config.server.drain_timeout;
    tracing::info!(connections = tracker.len(), limit_s = drain_time.as_secs(), "draining");
    let drained = async {
        graceful.shutdown().await;
        tracker.wait().await;
    };
    if timeout(drain_time, drained).await.is_err() {
        tracing::warn!(connections = tracker.len(), "drain time passed, closing what is left");
        stopping.waited.cancel();
        // Past it a client takes nothing, or waits for an answer that is not a stream.
        let _in_time = timeout(limits::STREAM_STOP_TIME_MAX, tracker.wait()).await;
        ending.cancel();
        // Each only has to be dropped, and its calls told.
        tracker.wait().await;
    }
}

/// Looks after the providers on this machine that have trouble, as long as the server runs.
async fn heartbeats(apps: watch::Receiver<Arc<App>>) {
    at_intervals(apps, |app| app.heartbeat, |app| Box::pin(async move { app.gateway.heartbeat().await }))
        .await;
}

/// The same for remote ones that are let alone because they failed.
async fn probes(apps: watch::Receiver<Arc<App>>) {
    at_intervals(apps, |app| app.probe, |app| Box::pin(async move { app.gateway.probe().await })).await;
}

/// Lets go of what calls hold that nobody settled, and of usage that is older than it is kept.
async fn tidiness(apps: watch::Receiver<Arc<App>>) {
    let interval: fn(&App) -> Option<Duration> =
        |app| app.books.as_ref().map(|_| limits::LEDGER_TIDY_INTERVAL);
    let tidy: fn(Arc<App>) -> BoxFuture<'static, ()> = |app| {
        Box::pin(async move {
            if let Some(books) = &app.books {
                books.tidy(app.config.budget.keep).await;
            }
        })
    };
    at_intervals(apps, interval, tidy).await;
}

/// Does something again and again, one after the other, as often as the configuration in use says.
async fn at_intervals(
    mut apps: watch::Receiver<Arc<App>>,
    interval: fn(&App) -> Option<Duration>,
    act: fn(Arc<App>) -> BoxFuture<'static, ()>,
) {
    let mut seed = Seed::of(RequestId::new());
    loop {
        let app = Arc::clone(&apps.borrow_and_update());
        seed = seed.with(0);
        let wait = async {
            match interval(&app) {
                // Many gateways that began together do not ask together.
                Some(interval) => sleep(interval.mul_f64(0.9 + 0.2 * seed.fraction())).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = wait => act(app).await,
            changed = apps.changed() => if changed.is_err() { return },
        }
    }
}

async fn connection(
    live: Arc<Live>,
    builder: &auto::Builder<TokioExecutor>,
    watcher: hyper_util::server::graceful::Watcher,
    (stream, peer): (TcpStream, SocketAddr),
    stopping: Stopping,
) {
    // Without it each event of a stream waits for the acknowledgement of the one before.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    let (seen, is_shared) = (AtomicBool::new(false), AtomicBool::new(false));
    let (stalls, begun) = (Stalls::default(), stopping.begun.clone());
    let service = service_fn(|request: Request<Incoming>| {
        seen.store(true, Ordering::Relaxed);
        is_shared.store(request.version() == Version::HTTP_2, Ordering::Relaxed);
        let answered = answer(Arc::clone(&live), peer.ip(), request);
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
    // A feed ends when the server stops, but is not asked, and so does not know, while its client takes nothing;
    // nor does hyper get rid of what it gave before.
    let held = async {
        begun.cancelled().await;
        sleep(limits::STREAM_STOP_TIME_MAX).await;
        // On HTTP/2 others may still be answered beside it; they have the drain time.
        if is_shared.load(Ordering::Relaxed) || !stalls.newest_is_feed() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        ended = connection => if let Err(error) = ended {
            tracing::debug!(%error, "connection ended");
        },
        () = silent => tracing::debug!("connection closed: no request came"),
        () = held => tracing::debug!("connection closed: the server stops, and its client takes nothing of its events"),
        () = stalls.one_is_too_long() => tracing::warn!("connection closed: its client takes nothing of its stream"),
    }
}

/// Answers one request, whatever happens.
async fn answer(
    live: Arc<Live>,
    from: IpAddr,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    // It keeps this one to its end, whatever is loaded meanwhile.
    let app = live.app();
    let id = RequestId::new();
    let origin = app.cors.allowed_origin(request.headers());
    let mut dialect = dialect_of(request.uri().path());
    // In a box of its own, which is gone when the answer begins: hyper keeps the room for this future as long as the
    // connection lasts, a stream's included (some 8 KiB each).
    let mut trail = None;
    let routed = Box::pin(route(&live, &app, from, &id, request, &mut dialect, &mut trail));
    let answered = AssertUnwindSafe(routed).catch_unwind().await;
    let result = answered.unwrap_or_else(|_| {
        tracing::error!(%id, "a panic ended this request; its message is above");
        Err(ServerError::Panicked)
    });
    let mut problem = None;
    let mut response = result.unwrap_or_else(|error| {
        tracing::debug!(%id, ?error, "refused");
        problem = Some(error::problem(&error));
        error::response(&error, dialect, &id)
    });
    if let Some((trail, kind)) = trail {
        trail.answered(response.status().as_u16(), problem.as_ref());
        // A call that is answered ends with its answer, and the gateway sees that.
        if problem.is_some() || kind != TrailKind::Call {
            trail.close();
        }
    }
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        if matches!(dialect, Dialect::Anthropic | Dialect::AnthropicCount) {
            response.headers_mut().insert(REQUEST_ID, value.clone());
        }
        // Answers and errors alike; some calls end before anything is decided.
        if app.gateway.decisions().has(&id) {
            response.headers_mut().insert(X_HOOSH_DECISION, value.clone());
        }
        response.headers_mut().insert(X_REQUEST_ID, value);
    }
    if let Some(origin) = origin {
        Cors::open(origin, response.headers_mut());
    }
    Ok(response)
}

async fn route(
    live: &Live,
    app: &Arc<App>,
    from: IpAddr,
    id: &RequestId,
    request: Request<Incoming>,
    dialect: &mut Dialect,
    entered: &mut Option<(Trail, TrailKind)>,
) -> Result<Response<ResponseBody>, ServerError> {
    if let Some(preflight) = app.cors.preflight(&request) {
        return Ok(preflight);
    }
    let path = request.uri().path();
    let (endpoint, needs, rest) = match app.routes.find(request.method(), path) {
        Found::Endpoint(endpoint, needs, rest) => (endpoint, needs, rest),
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
    if needs == Needs::Nothing {
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
    // Before anything is done about it, and be it to refuse it.
    let kind = match (endpoint, needs) {
        (Endpoint::Call(_) | Endpoint::GeminiCall, _) => TrailKind::Call,
        (_, Needs::Scope(Scope::Admin)) => TrailKind::Admin,
        _ => TrailKind::Request,
    };
    let trail = audit::enter(app, id, kind).await.map_err(ServerError::Call)?;
    if let Some(trail) = &trail {
        trail.at(request.method().as_str(), path);
        *entered = Some((trail.clone(), kind));
    }
    if app.keys.are_none() && app.cors.is_foreign(request.headers()) {
        return Err(ServerError::ForeignPage);
    }
    // Where everybody may call, not everybody should do that.
    if app.keys.are_none() && needs == Needs::Scope(Scope::Admin) && !from.to_canonical().is_loopback() {
        return Err(ServerError::NotFromHere);
    }
    let caller = app.keys.caller_by_now(request.headers(), request.uri().query(), from).await;
    let caller = &caller.map_err(ServerError::Denied)?;
    if let Some(trail) = &trail {
        trail.of(caller.id.as_str());
    }
    caller.may(needs, plain(path)).map_err(ServerError::Denied)?;
    match endpoint {
        Endpoint::Call(dialect) => {
            api::call(app, (dialect, RequestLine::default()), id.clone(), trail, caller, request).await
        }
        Endpoint::Health => Ok(api::health(app)),
        Endpoint::ProvidersHealth => Ok(api::providers_health(app).await),
        Endpoint::GeminiCall => {
            let (spoken, line) = gemini::read(rest.unwrap_or_default(), request.uri().query())?;
            *dialect = spoken;
            api::call(app, (spoken, line), id.clone(), trail, caller, request).await
        }
        Endpoint::GeminiModels => Ok(gemini::models(app, caller).await),
        Endpoint::GeminiModel => gemini::model(app, caller, rest.unwrap_or_default()).await,
        Endpoint::OllamaTags => Ok(ollama::tags(app, caller).await),
        Endpoint::OllamaShow => ollama::show(app, caller, request).await,
        Endpoint::OllamaRunning => Ok(ollama::running(app, caller).await),
        Endpoint::OllamaVersion => Ok(ollama::version()),
        Endpoint::EndpointsHealth => Ok(api::endpoints_health(app)),
        Endpoint::QueueStatus => Ok(queue::status(app)),
        Endpoint::Pools => pools::status(app, caller, request.uri().query()).await,
        Endpoint::Usage => usage::rows(app, caller, request.uri().query()).await,
        Endpoint::Costs => usage::costs(app, caller, request.uri().query()).await,
        Endpoint::Recommendations => usage::recommendations(app, caller, request.uri().query()).await,
        Endpoint::ResetCosts => usage::reset(app, caller).await,
        Endpoint::Reprice => usage::reprice(app, caller, request).await,
        Endpoint::CheckTokens => tokens::check(app, caller, request).await,
        Endpoint::ReserveTokens => tokens::reserve(app, caller, request).await,
        Endpoint::ReportTokens => tokens::report(app, caller, request).await,
        Endpoint::Decisions => decisions::decisions(app, &caller.id, request.uri().query()).await,
        Endpoint::Decision => decisions::decision(app, &caller.id, rest.unwrap_or_default()),
        Endpoint::Audit => api::audit::records(app, request.uri().query()).await,
        Endpoint::AuditHead => api::audit::head(app),
        Endpoint::EraseAudit => api::audit::erase(app, caller, rest.unwrap_or_default()).await,
        Endpoint::Events => events::listen(app, request.uri().query()),
        Endpoint::CacheStats => Ok(cache::stats(app)),
        Endpoint::PurgeCache => cache::purge(app, &caller.id, request.uri().query()),
        Endpoint::Metrics => Ok(api::metrics(app)),
        Endpoint::Reload => api::reload::reload(live).await,
        Endpoint::Keys => keys::list(app).await,
        Endpoint::CreateKey => keys::create(app, caller, request).await,
        Endpoint::RevokeKey => keys::revoke(app, caller, rest.unwrap_or_default()).await,
        Endpoint::RotateKey => {
            let id = rest.unwrap_or_default().to_owned();
            keys::rotate(app, caller, &id, request).await
        }
        Endpoint::DefinedPools => Ok(pools::defined(app)),
        Endpoint::DefinePool => pools::define(live, app, caller, None, request).await,
        Endpoint::PutPool => {
            let name = rest.unwrap_or_default().to_owned();
            pools::define(live, app, caller, Some(&name), request).await
        }
        Endpoint::RemovePool => pools::remove(live, app, caller, rest.unwrap_or_default()).await,
        Endpoint::Models if *dialect == Dialect::Anthropic => Ok(anthropic::models(app, caller).await),
        Endpoint::Model if *dialect == Dialect::Anthropic => {
            anthropic::model(app, caller, rest.unwrap_or_default()).await
        }
        Endpoint::Models if *dialect == Dialect::Gemini => Ok(gemini::models(app, caller).await),
        Endpoint::Model if *dialect == Dialect::Gemini => {
            gemini::model(app, caller, rest.unwrap_or_default()).await
        }
        Endpoint::Models => Ok(api::models(app, caller).await),
        Endpoint::Model => api::model(app, caller, rest.unwrap_or_default()).await,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::config::Config;

    #[tokio::test(start_paused = true)]
    async fn what_is_done_at_intervals_goes_on_with_some_jitter_and_not_at_all_where_it_is_off() {
        static DONE: AtomicUsize = AtomicUsize::new(0);
        let act: fn(Arc<App>) -> BoxFuture<'static, ()> = |_| {
            DONE.fetch_add(1, Ordering::Relaxed);
            Box::pin(std::future::ready(()))
        };
        let app = Arc::new(App::new(Config::default(), None).unwrap());
        let apps = watch::Sender::new(app);
        let on = at_intervals(apps.subscribe(), |_| Some(Duration::from_secs(10)), act);
        timeout(Duration::from_secs(8), on).await.unwrap_err();
        assert_eq!(DONE.swap(0, Ordering::Relaxed), 0);
        let on = at_intervals(apps.subscribe(), |_| Some(Duration::from_secs(10)), act);
        timeout(Duration::from_secs(1_000), on).await.unwrap_err();
        let done = DONE.swap(0, Ordering::Relaxed);
        assert!((91..=111).contains(&done), "{done}");
        timeout(Duration::from_secs(1_000), at_intervals(apps.subscribe(), |_| None, act)).await.unwrap_err();
        assert_eq!(DONE.swap(0, Ordering::Relaxed), 0);
    }
}
