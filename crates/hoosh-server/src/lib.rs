//! The hoosh gateway as a server: raw hyper around [`hoosh_gateway`], configuration, command line.
//!
//! [`run`] serves a [`Config`] on a listener until it is told to stop; [`cli`] is the program `hoosh`
//! around it.

mod alerts;
mod api;
mod app;
mod assembly;
mod audit;
mod books;
pub mod cli;
pub mod config;
mod discover;
mod http;
mod keys;
mod leases;
mod metrics;
mod recommend;
mod reload;
mod reprice;
mod route;
mod serve;
mod telemetry;
mod usage;
mod warm;

use std::sync::Arc;

use futures_util::{Stream, stream};
use tokio::net::TcpListener;

pub use self::assembly::AssemblyErrors;
pub use self::audit::AuditError;
pub use self::keys::KeysError;

use self::app::App;
use self::config::{Config, LoadOptions};
use self::reload::{Live, Source};

/// Why the server cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Providers or routes cannot be put together.
    #[error(transparent)]
    Assembly(#[from] AssemblyErrors),
    /// The ledger cannot be opened.
    #[error("[budget] ledger: {0}")]
    Ledger(#[from] hoosh_budget::OpenError),
    /// The audit log cannot be opened.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The keys cannot be read.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The table of paths cannot be compiled, which is a bug.
    #[error("path table: {0}")]
    Table(String),
}

/// Serves until `shutdown` is ready, then lets calls in flight finish for the configured drain time.
///
/// # Errors
///
/// If the configuration cannot be put together. Nothing is served then.
///
/// # Cancel safety
///
/// Dropping the future stops accepting; connections that are open go on until the runtime ends.
pub async fn run(
    config: Config,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), RunError> {
    let live = Live::new(App::new(config, None)?, None);
    serve_live(live, listener, stream::pending(), shutdown).await;
    Ok(())
}

/// The same with a configuration that [`config::load`] read from `options`, which is read again at each of the `hangups`, and
/// when a request or a change of the file wants it ([`config::ReloadMode`]). Calls go on with the one they began with.
///
/// # Errors
///
/// As [`run`], of the first configuration; a later one that cannot be put together is not taken.
///
/// # Cancel safety
///
/// As [`run`].
pub async fn run_reloading(
    config: Config,
    options: LoadOptions,
    hangups: impl Stream<Item = ()> + Send + 'static,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), RunError> {
    // A listener that cannot tell its port serves all the same.
    let own_port = listener.local_addr().map_or(config.server.port, |address| address.port());
    let live = Live::new(App::new(config, None)?, Some(Source { options, own_port }));
    serve_live(live, listener, hangups, shutdown).await;
    Ok(())
}

async fn serve_live(
    live: Live,
    listener: TcpListener,
    hangups: impl Stream<Item = ()> + Send + 'static,
    shutdown: impl Future<Output = ()> + Send,
) {
    let app = live.app();
    let listing = async move {
        // So that the first question for models need not wait. Vendors are not asked unbidden.
        app.gateway.warm_up().await;
        drop(app);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = serve::serve(Arc::new(live), listener, hangups, shutdown) => {}
        () = listing => {}
    }
}
