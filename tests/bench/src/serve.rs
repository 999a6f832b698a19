//! The accept loop that the mock and the floor share: plain hyper, HTTP/1.1, keep-alive, TCP_NODELAY.

use std::{convert::Infallible, error::Error, net::Ipv4Addr};

use hyper::{
    body::{Body, Incoming},
    server::conn::http1,
    service::HttpService,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use crate::failure::{Context, Failure};

/// More connections than any phase opens (the largest holds 1,000 streams, plus the lines of a crew), and few
/// enough that a runaway client meets a closed door instead of taking the machine's memory.
const CONNECTIONS_MAX: usize = 16_384;

/// Serves on loopback until the process is killed; comes back only with a reason why it could not.
pub(crate) async fn accept<S, B>(port: u16, service: S) -> Result<Infallible, Failure>
where
    S: HttpService<Incoming, ResBody = B> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let address = (Ipv4Addr::LOCALHOST, port);
    let listener = TcpListener::bind(address).await.context(|| format!("cannot listen on port {port}"))?;
    let connections = TaskTracker::new();
    loop {
        let (socket, _) = listener.accept().await.context(|| "cannot accept a connection".to_owned())?;
        if connections.len() >= CONNECTIONS_MAX {
            continue;
        }
        socket.set_nodelay(true).context(|| "cannot set TCP_NODELAY".to_owned())?;
        let connection = http1::Builder::new().serve_connection(TokioIo::new(socket), service.clone());
        connections.spawn(async move {
            // A peer that hangs up is the normal end of a held stream; the load generator reports what matters.
            let _ = connection.await;
        });
    }
}
