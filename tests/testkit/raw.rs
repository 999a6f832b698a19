//! Requests that no client library would send, and answers as they came.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::{Hoosh, PATIENCE};

/// An answer as it came.
#[derive(Debug)]
pub struct RawReply {
    /// The status; 0 if the connection was closed without one.
    pub status: u16,
    /// The header lines.
    pub head: String,
    /// Everything behind them.
    pub body: String,
}

/// Sends these bytes on a connection of their own, closes the sending side if `half_close`, and reads to the end.
pub async fn exchange(hoosh: &Hoosh, bytes: &[u8], half_close: bool) -> RawReply {
    let mut stream = TcpStream::connect(hoosh.address()).await.unwrap();
    let _ = stream.write_all(bytes).await;
    if half_close {
        let _ = stream.shutdown().await;
    }
    let mut answer = Vec::new();
    let read = timeout(PATIENCE * 2, stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "the connection stayed open");
    RawReply::read(&answer)
}

/// One connection for many requests.
pub struct Kept(TcpStream);

impl Kept {
    /// Opens it.
    pub async fn open(hoosh: &Hoosh) -> Self {
        Self(TcpStream::connect(hoosh.address()).await.unwrap())
    }

    /// Posts JSON to a path and reads the answer, which must be whole and leave the connection open.
    pub async fn post(&mut self, path: &str, body: &str) -> RawReply {
        let request =
            format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        self.0.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        loop {
            let read = timeout(PATIENCE, self.0.read_buf(&mut answer)).await.expect("an answer in time");
            assert_ne!(read.unwrap(), 0, "the connection was closed: {}", String::from_utf8_lossy(&answer));
            let reply = RawReply::read(&answer);
            let head = reply.head.to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            if length.is_some_and(|length: usize| reply.body.len() >= length) {
                return reply;
            }
        }
    }
}

impl RawReply {
    fn read(answer: &[u8]) -> Self {
        let text = String::from_utf8_lossy(answer).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
        Self { status, head: head.to_owned(), body: body.to_owned() }
    }
}
