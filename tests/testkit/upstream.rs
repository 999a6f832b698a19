//! An upstream that plays a script, byte by byte, and remembers what it was sent.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::PATIENCE;

/// A scripted HTTP server on a loopback port.
pub struct Upstream {
    port: u16,
    state: Arc<Mutex<State>>,
    stop: CancellationToken,
}

#[derive(Default)]
struct State {
    scripts: VecDeque<Script>,
    always: Option<Script>,
    /// What a listing of models is answered with.
    listing: Option<Script>,
    requests: Vec<Request>,
    /// Connections accepted.
    connections: usize,
    /// Clients that closed their connection while a script was still playing.
    hang_ups: usize,
}

/// What an upstream was sent.
#[derive(Debug, Clone)]
pub struct Request {
    /// Method and path, `POST /v1/chat/completions`.
    pub line: String,
    /// The header lines, as they came.
    pub head: String,
    /// The body, as it came.
    pub body: Vec<u8>,
}

/// What an upstream does with one request.
#[derive(Debug, Clone)]
pub enum Script {
    /// Answers whole.
    Reply {
        /// The status.
        status: u16,
        /// Header lines beyond type and length, each with its line end.
        headers: String,
        /// The body.
        body: Vec<u8>,
    },
    /// Answers with a stream: pieces, each after a wait, then an end.
    Stream(Vec<(Duration, Vec<u8>)>, End),
    /// Sends these bytes instead of HTTP.
    Bytes(Vec<u8>),
    /// Sends these bytes, the head of an answer among them, and then nothing more.
    Stall(Vec<u8>),
    /// Does what this says of the request.
    By(fn(&Request) -> Script),
    /// Closes the connection without a word.
    HangUp,
    /// Says nothing.
    Silence,
}

/// How a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// As HTTP wants it.
    Proper,
    /// The connection closes in the middle of the body.
    Cut,
    /// Nothing more comes.
    Silence,
}

impl Upstream {
    /// Starts one that answers 500 until it is told otherwise.
    pub async fn start() -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    /// Starts one on the first of these ports that is free.
    pub async fn start_at(ports: &[u16]) -> Self {
        for port in ports {
            if let Ok(listener) = TcpListener::bind(("127.0.0.1", *port)).await {
                return Self::on(listener);
            }
        }
        panic!("none of {ports:?} is free");
    }

    fn on(listener: TcpListener) -> Self {
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State::default()));
        let stop = CancellationToken::new();
        let (shared, stopped) = (Arc::clone(&state), stop.clone());
        let serve = async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                shared.lock().unwrap().connections += 1;
                connections.spawn(connection(stream, Arc::clone(&shared)));
            }
        };
        #[allow(clippy::disallowed_methods, reason = "ended by the token when the upstream is dropped")]
        tokio::spawn(async move { stopped.run_until_cancelled(serve).await });
        Self { port, state, stop }
    }

    /// Its base URL without a path.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Plays these for the next requests, one each.
    pub fn script(&self, scripts: impl IntoIterator<Item = Script>) {
        self.state.lock().unwrap().scripts.extend(scripts);
    }

    /// Plays this whenever no other script is left.
    pub fn always(&self, script: Script) {
        self.state.lock().unwrap().always = Some(script);
    }

    /// Plays this whenever the models are asked for; without it, one is listed.
    pub fn listing(&self, script: Script) {
        self.state.lock().unwrap().listing = Some(script);
    }

    /// How many connections it has accepted.
    pub fn connections(&self) -> usize {
        self.state.lock().unwrap().connections
    }

    /// The requests so far to paths that end in `suffix`: listings of models come on their own.
    pub fn requests(&self, suffix: &str) -> Vec<Request> {
        let state = self.state.lock().unwrap();
        state.requests.iter().filter(|request| request.line.ends_with(suffix)).cloned().collect()
    }

    /// Waits until a client has closed its connection in the middle of a script; how long that took.
    pub async fn hung_up(&self) -> Duration {
        self.hung_up_within(PATIENCE).await
    }

    /// The same for one that may take longer than any other step of a test.
    pub async fn hung_up_within(&self, limit: Duration) -> Duration {
        let start = Instant::now();
        while self.state.lock().unwrap().hang_ups == 0 {
            assert!(start.elapsed() < limit, "nobody hung up");
            sleep(Duration::from_millis(5)).await;
        }
        start.elapsed()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Script {
    /// Answers 200 with this JSON.
    pub fn json(body: impl Into<Vec<u8>>) -> Self {
        Self::status(200, body)
    }

    /// Answers with this status and JSON.
    pub fn status(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self::Reply { status, headers: String::new(), body: body.into() }
    }

    /// Answers with a stream of these pieces at once and a proper end.
    pub fn stream<P: Into<Vec<u8>>>(pieces: impl IntoIterator<Item = P>) -> Self {
        Self::Stream(pieces.into_iter().map(|piece| (Duration::ZERO, piece.into())).collect(), End::Proper)
    }

    /// Answers with a stream of these pieces and this end.
    pub fn broken_stream<P: Into<Vec<u8>>>(pieces: impl IntoIterator<Item = P>, end: End) -> Self {
        Self::Stream(pieces.into_iter().map(|piece| (Duration::ZERO, piece.into())).collect(), end)
    }
}

/// A whole chat completion that says `text`.
pub fn completion(text: &str) -> Vec<u8> {
    format!(
        r#"{{"id":"c1","object":"chat.completion","created":1,"model":"up","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}}}"#
    )
    .into_bytes()
}

/// A listing of these models.
pub fn listing(models: &[&str]) -> Script {
    let models: Vec<String> = models.iter().map(|model| format!(r#"{{"id":"{model}"}}"#)).collect();
    Script::json(format!(r#"{{"object":"list","data":[{}]}}"#, models.join(",")))
}

/// A chunk of a streamed chat completion with this delta.
pub fn chunk(delta: &str) -> String {
    sse(&format!(
        r#"{{"id":"c1","object":"chat.completion.chunk","created":1,"model":"up","choices":[{{"index":0,"delta":{delta},"finish_reason":null}}]}}"#
    ))
}

/// The last chunk of a streamed chat completion, before `[DONE]`.
pub fn finish(reason: &str) -> String {
    chunk("{}").replace("\"finish_reason\":null", &format!("\"finish_reason\":\"{reason}\""))
}

/// An event with this data.
pub fn sse(data: &str) -> String {
    format!("data: {data}\n\n")
}

/// A port on which nobody listens, and nobody will but who was given it: no two tests get the same, also of processes that run at
/// once, and none is among those that Linux gives to connections (32768 and above), which come and go by the thousand while the tests
/// run.
pub fn refused_port() -> u16 {
    const FIRST: u32 = 12_000;
    const COUNT: u32 = 20_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Processes that run at once begin far from each other.
    let start = std::process::id().wrapping_mul(977);
    let mut ports = (0..COUNT).map(|_| {
        let next = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        (FIRST + next % COUNT) as u16
    });
    let is_free = |port: &u16| is_ours(*port) && std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    ports.find(is_free).expect("some port is free")
}

/// Whether no other process of tests has a port. From then on it is this one's, until it ends: a lock on a file says so.
fn is_ours(port: u16) -> bool {
    static LOCKS: Mutex<Vec<File>> = Mutex::new(Vec::new());
    let folder = std::env::temp_dir().join("hoosh-test-ports");
    // Where it is there already, that is no fault.
    let _ = std::fs::create_dir(&folder);
    // One that another user made cannot be opened: its port is theirs.
    let Ok(file) = File::options().create(true).append(true).open(folder.join(port.to_string())) else {
        return false;
    };
    let is_ours = file.try_lock().is_ok();
    if is_ours {
        LOCKS.lock().unwrap().push(file);
    }
    is_ours
}

async fn connection(mut stream: TcpStream, state: Arc<Mutex<State>>) {
    let _ = stream.set_nodelay(true);
    let mut buffer = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut buffer).await {
        let asked = request.clone();
        let script = {
            let mut state = state.lock().unwrap();
            // Listings of models come from the gateway's own mind and must not use up a script.
            let models = request.line.ends_with("/models");
            state.requests.push(request);
            match models {
                true => state.listing.clone().or_else(|| Some(listing(&["listed-model"]))),
                false => state.scripts.pop_front().or_else(|| state.always.clone()),
            }
        };
        let mut script =
            script.unwrap_or_else(|| Script::status(500, r#"{"error":{"message":"no script left"}}"#));
        while let Script::By(choose) = script {
            script = choose(&asked);
        }
        if !play(&mut stream, script, &state).await {
            return;
        }
    }
}

/// Plays a script; whether the connection can be used again.
async fn play(stream: &mut TcpStream, script: Script, state: &Mutex<State>) -> bool {
    match script {
        Script::Reply { status, headers, body } => {
            let head = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{headers}\r\n",
                body.len()
            );
            let written = stream.write_all(&[head.as_bytes(), &body].concat()).await;
            written.is_ok()
        }
        Script::Stream(pieces, end) => {
            let head =
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
            if stream.write_all(head.as_bytes()).await.is_err() {
                return false;
            }
            for (wait, piece) in pieces {
                if hung_up_within(stream, wait).await {
                    state.lock().unwrap().hang_ups += 1;
                    return false;
                }
                let framed = [format!("{:x}\r\n", piece.len()).as_bytes(), &piece, b"\r\n"].concat();
                if stream.write_all(&framed).await.is_err() {
                    state.lock().unwrap().hang_ups += 1;
                    return false;
                }
            }
            match end {
                End::Proper => stream.write_all(b"0\r\n\r\n").await.is_ok(),
                End::Cut => false,
                End::Silence => {
                    if hung_up_within(stream, PATIENCE * 3).await {
                        state.lock().unwrap().hang_ups += 1;
                    }
                    false
                }
            }
        }
        Script::Bytes(bytes) => {
            let _ = stream.write_all(&bytes).await;
            false
        }
        Script::Stall(bytes) => {
            let written = stream.write_all(&bytes).await;
            if written.is_err() || hung_up_within(stream, PATIENCE * 3).await {
                state.lock().unwrap().hang_ups += 1;
            }
            false
        }
        Script::By(_) => unreachable!("chosen before it is played"),
        Script::HangUp => false,
        Script::Silence => {
            if hung_up_within(stream, PATIENCE * 3).await {
                state.lock().unwrap().hang_ups += 1;
            }
            false
        }
    }
}

/// Waits, unless the client closes its side before.
async fn hung_up_within(stream: &mut TcpStream, wait: Duration) -> bool {
    if wait.is_zero() {
        return false;
    }
    let mut byte = [0];
    tokio::select! {
        read = stream.peek(&mut byte) => matches!(read, Ok(0) | Err(_)),
        () = sleep(wait) => false,
    }
}

async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Request> {
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().unwrap())
    });
    let whole = end + length.unwrap_or(0);
    while buffer.len() < whole {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    let body = buffer[end..whole].to_vec();
    buffer.drain(..whole);
    let line = head.lines().next()?.trim_end_matches(" HTTP/1.1").to_owned();
    Some(Request { line, head, body })
}
