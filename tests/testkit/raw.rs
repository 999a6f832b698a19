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
    let text = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    RawReply { status, head: head.to_owned(), body: body.to_owned() }
}
