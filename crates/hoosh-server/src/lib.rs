//! The hoosh gateway as a server: raw hyper around [`hoosh_gateway`], configuration, command line.
//!
//! [`run`] serves a [`Config`] on a listener until it is told to stop; [`cli`] is the program `hoosh`
//! around it.

mod api;
mod app;
mod assembly;
pub mod cli;
pub mod config;
mod discover;
mod http;
mod metrics;
mod route;
mod serve;
mod telemetry;

use std::sync::Arc;

use tokio::net::TcpListener;

pub use self::assembly::AssemblyErrors;

use self::app::App;
use self::config::Config;

/// Why the server cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Providers or routes cannot be put together.
    #[error(transparent)]
    Assembly(#[from] AssemblyErrors),
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
    let app = Arc::new(App::new(&config)?);
    let listing = {
        let app = Arc::clone(&app);
        async move {
            // So that the first question for models need not wait. Vendors are not asked unbidden.
            app.gateway.warm_up().await;
            std::future::pending::<()>().await;
        }
    };
    let server = &config.server;
    tokio::select! {
        () = serve::serve(app, listener, server.max_connections, server.drain_timeout, shutdown) => {}
        () = listing => {}
    }
    Ok(())
}
