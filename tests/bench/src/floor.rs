//! The floor: what any proxy built on hyper has to pay. It reads no body, parses nothing and books nothing;
//! frames go through as they come. Hop-by-hop headers are taken off, since a proxy without that is not one.

use std::{convert::Infallible, net::SocketAddr, process::ExitCode};

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::{
    HeaderMap, Request, Response, StatusCode, Uri,
    body::Incoming,
    header::{self, HeaderName},
    service::service_fn,
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};

use crate::{
    failure::{Context, Failure},
    serve,
};

/// Headers that speak about one connection only (RFC 9110 section 7.6.1, and the two that RFC 2616 knew).
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Where the floor listens and whom it asks.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Port to listen on, on loopback
    #[arg(long)]
    port: u16,
    /// Address of the upstream
    #[arg(long)]
    upstream: SocketAddr,
}

type Upstream = Client<HttpConnector, Incoming>;
type Answer = Either<Incoming, Full<Bytes>>;

/// Runs the floor on tokio's default runtime, one worker per core, as a server would.
///
/// # Errors
/// When the port cannot be had.
pub(crate) fn serve(args: &Args) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context(|| "cannot start the runtime".to_owned())?;
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Upstream = Client::builder(TokioExecutor::new()).build(connector);
    let upstream = args.upstream;
    let service = service_fn(move |request| {
        let client = client.clone();
        async move { Ok::<_, Infallible>(forward(&client, upstream, request).await) }
    });
    match runtime.block_on(serve::accept(args.port, service))? {}
}

async fn forward(
    client: &Upstream,
    upstream: SocketAddr,
    mut request: Request<Incoming>,
) -> Response<Answer> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let Ok(uri) = format!("http://{upstream}{path}").parse::<Uri>() else {
        return refusal("the path does not fit into a URI");
    };
    *request.uri_mut() = uri;
    // The client writes the upstream's own.
    request.headers_mut().remove(header::HOST);
    strip(request.headers_mut());
    match client.request(request).await {
        Ok(mut response) => {
            strip(response.headers_mut());
            response.map(Either::Left)
        }
        Err(error) => refusal(&format!("the upstream did not answer: {error}")),
    }
}

fn strip(headers: &mut HeaderMap) {
    if let Some(connection) = headers.remove(header::CONNECTION) {
        for name in connection.to_str().unwrap_or_default().split(',') {
            headers.remove(name.trim());
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

fn refusal(why: &str) -> Response<Answer> {
    let mut response = Response::new(Either::Right(Full::from(why.to_owned())));
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn headers_of_one_connection_stay_with_it() {
        let mut headers = HeaderMap::new();
        headers.insert("connection", HeaderValue::from_static("keep-alive, x-mine"));
        headers.insert("x-mine", HeaderValue::from_static("1"));
        headers.insert("transfer-encoding", HeaderValue::from_static("chunked"));
        headers.insert("authorization", HeaderValue::from_static("Bearer k"));
        strip(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["authorization"]);
    }
}
