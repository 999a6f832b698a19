//! `hoosh serve`: loads, binds, says so, and serves until a signal.

#[cfg(unix)]
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use futures_util::{Stream, stream};
use hoosh_core::limits;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::oneshot;

use super::banner::message;
use super::terminal::note;
use super::{Failure, effective};
use crate::config::{Config, Environment, Flags, LoadOptions};
use crate::discover::Discovery;
use crate::telemetry::{self, LogFormat};

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Configuration file; HOOSH_CONFIG, ./hoosh.toml or the user's own if not given
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Address to listen on
    #[arg(short, long)]
    bind: Option<String>,

    /// Port to listen on; 0 takes any free one
    #[arg(short, long)]
    port: Option<String>,

    /// Order among providers of equal priority, such as priority, round_robin, least_busy or cheapest
    #[arg(long)]
    strategy: Option<String>,

    /// How log lines are written; HOOSH_LOG or RUST_LOG says which, as in `info,hoosh_router=debug`
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

/// The signals to stop, and the one to reload.
///
/// SIGHUP has a second meaning: its terminal was closed. Who began in one and finds it gone stops, as without a handler.
struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    hangup: tokio::signal::unix::Signal,
    #[cfg(unix)]
    has_terminal: bool,
}

/// Exits with 64 if the configuration is wrong and with 69 if the address cannot be had.
pub(crate) async fn run(args: ServeArgs, env: &Environment) -> Result<(), Failure> {
    let (_log, log_problem) = telemetry::init(args.log_format, env);
    let options = LoadOptions {
        file: args.config,
        flags: Flags { bind: args.bind, port: args.port, strategy: args.strategy },
        env: env.clone(),
        ..LoadOptions::default()
    };
    // Before anything is looked for or listened on: a wrong file is told at once, and signals find us ready.
    let mut signals = Signals::listen()?;
    let (config, listener, discovery) = prepare(&options).await?;
    let address = listener.local_addr()?;
    announce(args.log_format, &config, discovery.as_ref(), address, log_problem);

    let (stop, stopped) = oneshot::channel::<()>();
    let serving = crate::run_reloading(config, options, signals.hangups()?, listener, async {
        let _ = stopped.await;
    });
    let stopping = async {
        signals.next().await;
        tracing::info!("stopping; a second signal stops at once");
        let _ = stop.send(());
        signals.next().await;
    };
    tokio::select! {
        served = serving => Ok(served?),
        () = stopping => {
            tracing::warn!("stopped at once");
            Err(Failure::Told(1))
        }
    }
}

/// The configuration, and the listener that it asks for.
async fn prepare(options: &LoadOptions) -> Result<(Config, TcpListener, Option<Discovery>), Failure> {
    let mut bound = None;
    let (config, discovery) = effective(options, Some(&mut bound)).await?;
    let listener = match bound {
        Some(listener) => listener,
        None => bind(config.address()).await?,
    };
    Ok((config, listener, discovery))
}

/// Takes the address.
pub(super) async fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    let listen = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A restart must not wait for the last one's connections to be forgotten.
        #[cfg(unix)]
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(limits::LISTEN_BACKLOG)
    };
    listen().map_err(|error| Failure::Bind { address, error })
}

/// Says what is served: for people as a page, for log collectors as log lines.
fn announce(
    format: LogFormat,
    config: &Config,
    discovery: Option<&Discovery>,
    address: SocketAddr,
    log_problem: Option<String>,
) {
    if format == LogFormat::Text {
        note(&message(config, discovery, address));
    } else {
        let sources = config.sources.join(", ");
        tracing::info!(%address, sources, config = config.hash(), providers = config.providers.len(), "listening");
        for provider in config.providers.iter().filter(|provider| provider.enabled) {
            let (name, kind, priority) =
                (provider.name(), provider.settings.kind.as_str(), provider.priority);
            tracing::info!(name, kind, priority, models = provider.models.join(", "), "provider");
        }
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
    }
    if let Some(problem) = log_problem {
        tracing::warn!("{problem}");
    }
}

/// `SIGXFSZ`, by the number that Linux, macOS and the BSDs have for it.
#[cfg(unix)]
const FILE_TOO_LARGE: std::os::raw::c_int = 25;

// === impl Signals ===

#[cfg(unix)]
impl Signals {
    fn listen() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        // A file that may grow no further is an error of the write then, as a full disk is, and no end of the process.
        drop(signal(SignalKind::from_raw(FILE_TOO_LARGE))?);
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            has_terminal: std::io::stdin().is_terminal(),
        })
    }

    /// The hangups that mean a reload.
    fn hangups(&self) -> std::io::Result<impl Stream<Item = ()> + Send + 'static> {
        use futures_util::StreamExt;
        use tokio::signal::unix::{SignalKind, signal};
        let (mut hangup, has_terminal) = (signal(SignalKind::hangup())?, self.has_terminal);
        let heard = stream::poll_fn(move |context| hangup.poll_recv(context));
        Ok(heard.filter(move |()| std::future::ready(!is_terminal_gone(has_terminal))))
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            () = async {
                while self.hangup.recv().await.is_some() && !is_terminal_gone(self.has_terminal) {}
            } => {}
        }
    }
}

/// Whether standard input was a terminal and is none any more.
#[cfg(unix)]
fn is_terminal_gone(had_terminal: bool) -> bool {
    had_terminal && !std::io::stdin().is_terminal()
}

#[cfg(not(unix))]
impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {})
    }

    fn hangups(&self) -> std::io::Result<impl Stream<Item = ()> + Send + 'static> {
        Ok(stream::pending())
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            // Without signals there is nothing to wait for, and no reason to stop.
            std::future::pending::<()>().await;
        }
    }
}
