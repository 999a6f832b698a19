//! One keep-alive connection, and one call on it.

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    client::conn::http1::{self, SendRequest},
    header,
};
use hyper_util::rt::TokioIo;
use memchr::memmem;
use tokio::{net::TcpStream, task::JoinSet, time::Instant};

use super::{Scanner, StreamSamples, Target};
use crate::{
    failure::{Context, Failure},
    mock::Script,
    stamp,
};

/// The mock answers a plain call with about 600 bytes; a gateway's error page is not much longer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// As much of a refusal as is worth printing.
const REFUSAL_CHARS_MAX: usize = 300;

/// A connection to a target, with the task that drives it.
pub(crate) struct Line {
    target: Target,
    sender: SendRequest<Full<Bytes>>,
    /// Owns the connection's task: dropping the line closes the connection.
    _connection: JoinSet<()>,
}

// === impl Line ===

impl Line {
    pub(crate) async fn dial(target: &Target) -> Result<Self, Failure> {
        let socket = TcpStream::connect(target.address)
            .await
            .context(|| format!("{} does not accept a connection", target.name))?;
        socket.set_nodelay(true).context(|| "cannot set TCP_NODELAY".to_owned())?;
        let (sender, connection) = http1::handshake(TokioIo::new(socket))
            .await
            .context(|| format!("{} does not speak http", target.name))?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // Its errors come out of the call that is under way, where they can be told with the target's name.
            let _ = connection.await;
        });
        Ok(Self { target: target.clone(), sender, _connection: driver })
    }

    /// One plain call, read to its end.
    pub(crate) async fn call(&mut self, body: Bytes) -> Result<(), Failure> {
        let response = self.ask(body).await?;
        let answer = self.read(response.into_body()).await?;
        if memmem::find(&answer, b"\"usage\"").is_none() {
            return Err(self.wrong("an answer without usage"));
        }
        Ok(())
    }

    /// One streamed call, read to its end.
    pub(crate) async fn stream(
        &mut self,
        body: Bytes,
        script: Script,
        samples: &mut StreamSamples,
    ) -> Result<(), Failure> {
        let begin = Instant::now();
        let mut body = self.ask(body).await?.into_body();
        let mut scanner = Scanner::default();
        while let Some(frame) = body.frame().await {
            let frame = frame.context(|| format!("{} broke a stream off", self.target.name))?;
            let Ok(data) = frame.into_data() else { continue };
            let (now, seen) = (stamp::now_ns(), scanner.contents);
            scanner.push(&data, |sent_ns| samples.delay.push_ns(now.saturating_sub(sent_ns)))?;
            if seen == 0 && scanner.contents > 0 {
                samples.first.push(begin.elapsed());
            }
        }
        if scanner.contents != script.events() || !scanner.done {
            let (seen, sent) = (scanner.contents, script.events());
            let end = if scanner.done { "its" } else { "no" };
            return Err(self.wrong(&format!("a stream with {seen} of {sent} events and {end} end")));
        }
        Ok(())
    }

    /// Opens a stream and reads up to its first text; the rest is the caller's.
    pub(crate) async fn open(&mut self, body: Bytes) -> Result<Incoming, Failure> {
        let mut body = self.ask(body).await?.into_body();
        let mut scanner = Scanner::default();
        while scanner.contents == 0 {
            let Some(frame) = body.frame().await else {
                return Err(self.wrong("a stream that ended before its first text"));
            };
            let frame = frame.context(|| format!("{} broke a stream off", self.target.name))?;
            if let Ok(data) = frame.into_data() {
                scanner.push(&data, |_| ())?;
            }
        }
        Ok(body)
    }

    async fn ask(&mut self, body: Bytes) -> Result<Response<Incoming>, Failure> {
        let name = self.target.name;
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.target.lane.path())
            .header(header::HOST, "127.0.0.1")
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "*/*")
            .header(header::USER_AGENT, "hoosh-bench")
            .header(header::AUTHORIZATION, &self.target.authorization)
            .body(Full::from(body))
            .context(|| "cannot write a request".to_owned())?;
        self.sender.ready().await.context(|| format!("{name} closed a kept-alive connection"))?;
        let response =
            self.sender.send_request(request).await.context(|| format!("{name} did not answer a call"))?;
        if response.status() == StatusCode::OK {
            return Ok(response);
        }
        let status = response.status();
        let answer = self.read(response.into_body()).await?;
        let answer = String::from_utf8_lossy(&answer).chars().take(REFUSAL_CHARS_MAX).collect::<String>();
        Err(self.wrong(&format!("{status}: {answer}")))
    }

    async fn read(&self, body: Incoming) -> Result<Bytes, Failure> {
        match Limited::new(body, ANSWER_BYTES_MAX).collect().await {
            Ok(answer) => Ok(answer.to_bytes()),
            Err(error) => Err(self.wrong(&format!("an answer that cannot be read: {error}"))),
        }
    }

    fn wrong(&self, what: &str) -> Failure {
        Failure::new(format!("{} gave {what}", self.target.name))
    }
}
