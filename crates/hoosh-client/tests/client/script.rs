//! A gateway that plays a script: one connection per request, each with the next of the given answers.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

use hoosh_client::{HooshClient, InferenceRequest};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// What the gateway does with a request.
#[derive(Clone)]
pub(crate) enum Act {
    /// Sends these bytes, then closes the connection.
    Answer(Vec<u8>),
    /// Sends these bytes, then nothing more, until the client closes the connection.
    Hang(Vec<u8>),
}

/// What the gateway saw.
#[derive(Debug, PartialEq)]
pub(crate) enum Seen {
    /// A whole request.
    Request(Request),
    /// A client that closed the connection while the gateway hung.
    Closed,
}

#[derive(Debug, PartialEq)]
pub(crate) struct Request {
    /// The request line and the headers, as they came.
    pub(crate) head: String,
    pub(crate) body: String,
}

pub(crate) struct Gateway {
    pub(crate) url: String,
    seen: UnboundedReceiver<Seen>,
}

impl Gateway {
    pub(crate) fn playing(script: impl IntoIterator<Item = Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let script: Vec<Act> = script.into_iter().collect();
        let (tell, seen) = unbounded_channel();
        thread::spawn(move || play(&listener, script, &tell));
        Self { url, seen }
    }

    pub(crate) fn client(&self) -> HooshClient {
        HooshClient::new(&self.url)
    }

    pub(crate) async fn seen(&mut self) -> Seen {
        self.seen.recv().await.expect("the gateway is still there")
    }

    pub(crate) async fn request(&mut self) -> Request {
        match self.seen().await {
            Seen::Request(request) => request,
            other => panic!("{other:?}"),
        }
    }
}

impl Request {
    pub(crate) fn line(&self) -> &str {
        self.head.lines().next().unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.head.lines().filter_map(|line| line.split_once(": "));
        headers.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

fn play(listener: &TcpListener, script: Vec<Act>, tell: &UnboundedSender<Seen>) {
    for act in script {
        let (mut connection, _) = listener.accept().unwrap();
        connection.set_nodelay(true).unwrap();
        // A test that is over does not listen any more.
        let _ = tell.send(Seen::Request(read_request(&mut connection)));
        match act {
            Act::Answer(bytes) => {
                // The client may have hung up on what it cannot read.
                let _ = connection.write_all(&bytes);
                let _ = connection.shutdown(Shutdown::Write);
            }
            Act::Hang(bytes) => {
                connection.write_all(&bytes).unwrap();
                let _ = connection.read(&mut [0]);
                let _ = tell.send(Seen::Closed);
            }
        }
    }
}

fn read_request(connection: &mut TcpStream) -> Request {
    let mut bytes = Vec::new();
    let mut next = || {
        let mut byte = [0];
        connection.read_exact(&mut byte).unwrap();
        byte[0]
    };
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(next());
    }
    let mut request = Request { head: String::from_utf8(bytes).unwrap(), body: String::new() };
    let length = request.header("content-length").map_or(0, |length| length.parse().unwrap());
    let body = (0..length).map(|_| next()).collect();
    request.body = String::from_utf8(body).unwrap();
    request
}

/// A whole answer, with a status line such as `200 OK` and header lines.
pub(crate) fn answer(status: &str, headers: &[&str], body: &str) -> Vec<u8> {
    let typed = headers.iter().any(|line| line.starts_with("content-type"));
    let mut head = vec![format!("HTTP/1.1 {status}"), format!("content-length: {}", body.len())];
    head.push("connection: close".to_owned());
    head.extend((!typed).then(|| "content-type: application/json".to_owned()));
    head.extend(headers.iter().map(|line| (*line).to_owned()));
    format!("{}\r\n\r\n{body}", head.join("\r\n")).into_bytes()
}

pub(crate) fn ok(body: &str) -> Act {
    Act::Answer(answer("200 OK", &[], body))
}

/// The head of a streamed answer, with further header lines.
pub(crate) fn stream_head(headers: &[&str]) -> Vec<u8> {
    let mut head = vec!["HTTP/1.1 200 OK", "transfer-encoding: chunked", "connection: close"];
    head.push("content-type: text/event-stream; charset=utf-8");
    head.extend(headers);
    format!("{}\r\n\r\n", head.join("\r\n")).into_bytes()
}

/// One piece of a streamed answer; the empty one ends it.
pub(crate) fn piece(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// A streamed answer that comes in these pieces and ends properly, as far as HTTP goes.
pub(crate) fn stream<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut bytes = stream_head(&[]);
    for one in pieces.into_iter().filter(|one| !one.is_empty()) {
        bytes.extend(piece(one));
    }
    bytes.extend(piece(b""));
    bytes
}

pub(crate) fn question() -> InferenceRequest {
    InferenceRequest { model: "llama3".into(), prompt: "hi".into(), ..Default::default() }
}
