//! What an Ollama can be told beyond answering: to get a model, to throw one away. Source: docs.ollama.com/api, read
//! 2026-11-24.
//!
//! Nothing here is part of a call, so it stands beside [`HttpProvider`](crate::HttpProvider) and has times of its own.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use hoosh_core::dialect::Dialect;
use hoosh_core::dialect::ollama_listing::PullProgress;
use hoosh_core::framing::LineFramer;
use hoosh_core::{ByteStream, FailureKind, UpstreamFailure, limits};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, Request, Uri};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::http_provider::{headers, refuse_error};
use crate::identity::Identity;
use crate::preset::preset;
use crate::settings::{ProviderSettings, SettingsError, Timeouts};
use crate::transport::Transport;

/// The models of one Ollama: getting one, removing one.
///
/// It sends the provider's key where one is configured: Ollama itself takes none, but it may stand behind who does.
pub struct OllamaAdmin {
    identity: Arc<Identity>,
    root_url: String,
    headers: HeaderMap,
    transport: Transport,
    /// The same with the times of a download.
    downloads: Transport,
}

/// What a pull reports: progress until `success`, or the failure that ended it. Nothing follows either.
pub type PullStream = Pin<Box<dyn Stream<Item = Result<PullProgress, UpstreamFailure>> + Send>>;

// === impl OllamaAdmin ===

impl OllamaAdmin {
    /// For a provider of kind Ollama as configured. Opens no connection yet.
    ///
    /// # Errors
    ///
    /// If its URL cannot be used.
    pub fn new(settings: &ProviderSettings) -> Result<Self, SettingsError> {
        let timeouts = settings.timeouts;
        let name = settings.name.clone().unwrap_or_else(|| settings.kind.as_str().to_owned());
        let admin = Self {
            identity: Arc::new(Identity::new(name, settings.key())),
            root_url: settings.resolve_root_url()?,
            headers: headers(preset(settings.kind).auth, settings.key())?,
            transport: Transport::new(timeouts),
            downloads: Transport::new(Timeouts {
                idle: limits::PULL_IDLE_TIME_MAX,
                total: limits::PULL_TIME_MAX,
                ..timeouts
            }),
        };
        match admin.url("api/pull") {
            Ok(_) => Ok(admin),
            Err(failure) => Err(SettingsError { field: "base_url", problem: failure.message }),
        }
    }

    /// The provider's name in the configuration.
    pub fn name(&self) -> &str {
        &self.identity.name
    }

    /// Where it is.
    pub fn root_url(&self) -> &str {
        &self.root_url
    }

    /// Has it get a model, and reports how far it is. The whole may take hours
    /// ([`limits::PULL_TIME_MAX`]); silence ends it sooner ([`limits::PULL_IDLE_TIME_MAX`]).
    ///
    /// # Errors
    ///
    /// If it cannot be asked or refuses. What goes wrong later, the name that its library does not know among it, is the
    /// stream's last item: it comes under a good status.
    ///
    /// # Cancel safety
    ///
    /// Dropping the stream stops the download. What is there already is kept for the next try.
    pub async fn pull(&self, model: &str) -> Result<PullStream, UpstreamFailure> {
        let asked = async {
            let body = json!({ "model": model });
            let request = self.request(Method::POST, "api/pull", Some(&body))?;
            refuse_error(Dialect::OllamaChat, self.downloads.send_for_stream(request).await?).await
        };
        let answer = asked.await.map_err(|failure| self.identity.own(failure))?;
        Ok(progress(Box::pin(answer.stream()), Arc::clone(&self.identity)))
    }

    /// Removes a model from its disk.
    ///
    /// # Errors
    ///
    /// If it cannot be asked or refuses; [`FailureKind::NotFound`] if it has no such model.
    pub async fn delete(&self, model: &str) -> Result<(), UpstreamFailure> {
        let asked = async {
            let body = json!({ "model": model });
            let request = self.request(Method::DELETE, "api/delete", Some(&body))?;
            refuse_error(Dialect::OllamaChat, self.transport.send_for_whole(request).await?).await
        };
        asked.await.map(drop).map_err(|failure| self.identity.own(failure))
    }

    fn url(&self, path: &str) -> Result<Uri, UpstreamFailure> {
        let url = format!("{}/{path}", self.root_url).parse();
        url.map_err(|_| UpstreamFailure::new(FailureKind::Unsupported, "is not a URL"))
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Request<Full<Bytes>>, UpstreamFailure> {
        let bytes = body.map_or_else(Bytes::new, |body| body.to_string().into());
        let mut request = Request::new(Full::new(bytes));
        *request.method_mut() = method;
        *request.uri_mut() = self.url(path)?;
        request.headers_mut().clone_from(&self.headers);
        if body.is_some() {
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        Ok(request)
    }
}

impl fmt::Debug for OllamaAdmin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OllamaAdmin")
            .field("name", &self.identity.name)
            .field("root_url", &self.root_url)
            .finish_non_exhaustive()
    }
}

/// Reads a pull's lines as they come.
fn progress(bytes: ByteStream, identity: Arc<Identity>) -> PullStream {
    struct State {
        bytes: ByteStream,
        report: PullReport,
        identity: Arc<Identity>,
    }
    let state = State { bytes, report: PullReport::default(), identity };
    Box::pin(stream::unfold(state, async |mut state| {
        loop {
            if let Some(item) = state.report.ready.pop_front() {
                return Some((item.map_err(|failure| state.identity.own(failure)), state));
            }
            if state.report.is_over {
                return None;
            }
            match state.bytes.next().await {
                Some(Ok(piece)) => state.report.push(&piece),
                Some(Err(failure)) => state.report.end(Err(failure)),
                None => state.report.finish(),
            }
        }
    }))
}

/// A pull's report, from bytes to items.
#[derive(Default)]
struct PullReport {
    framer: LineFramer,
    ready: VecDeque<Result<PullProgress, UpstreamFailure>>,
    is_over: bool,
}

// === impl PullReport ===

impl PullReport {
    /// What its last line says if all went well.
    const SUCCESS: &'static str = "success";

    fn push(&mut self, piece: &[u8]) {
        let mut lines = Vec::new();
        let framed = self.framer.push(piece, |line| lines.push(read(line.data)));
        for item in lines {
            self.take(item);
        }
        if let Err(error) = framed {
            self.end(Err(UpstreamFailure::new(FailureKind::Garbage, error.to_string())));
        }
    }

    /// Takes the end of the body. The last line may come without its end.
    fn finish(&mut self) {
        if let Some(line) = self.framer.unfinished_data() {
            let item = read(line);
            // Half a line of JSON is no garbage but the sign of a cut.
            let is_garbage = item.as_ref().is_err_and(|failure| failure.kind == FailureKind::Garbage);
            if !(is_garbage && line.starts_with(b"{")) {
                self.take(item);
            }
        }
        let message = "its report ended before the model was there";
        self.end(Err(UpstreamFailure::new(FailureKind::Broken, message)));
    }

    fn take(&mut self, item: Result<PullProgress, UpstreamFailure>) {
        match item {
            Ok(progress) if progress.status.as_deref() != Some(Self::SUCCESS) => {
                if !self.is_over {
                    self.ready.push_back(Ok(progress));
                }
            }
            last => self.end(last),
        }
    }

    /// Queues the last item, unless there was one.
    fn end(&mut self, last: Result<PullProgress, UpstreamFailure>) {
        if !self.is_over {
            self.ready.push_back(last);
            self.is_over = true;
        }
    }
}

/// Reads one line; an error in it is the failure it stands for.
fn read(line: &[u8]) -> Result<PullProgress, UpstreamFailure> {
    let Some(progress) = PullProgress::from_line(line) else {
        return Err(UpstreamFailure::new(FailureKind::Garbage, "its report of the download is no JSON"));
    };
    if progress.error.is_none() {
        return Ok(progress);
    }
    // The status is 200 by then, so only words tell what it is.
    let message = Dialect::OllamaChat.decode_error(500, None, line).message;
    let is_unknown =
        ["manifest: file does not exist", "not found"].iter().any(|words| message.contains(words));
    let kind = if is_unknown { FailureKind::NotFound } else { FailureKind::Failed };
    Err(UpstreamFailure::new(kind, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a body reports when it comes in these pieces and then ends: a word for each item.
    fn report(pieces: &[&[u8]]) -> Vec<String> {
        let mut report = PullReport::default();
        for piece in pieces {
            report.push(piece);
        }
        report.finish();
        let word = |item: Result<PullProgress, UpstreamFailure>| match item {
            Ok(PullProgress { status, total, completed, .. }) => {
                format!("{} {:?}/{:?}", status.unwrap_or_default(), completed, total)
            }
            Err(failure) => format!("{:?}: {}", failure.kind, failure.message),
        };
        report.ready.into_iter().map(word).collect()
    }

    const WHOLE: &str = "{\"status\":\"pulling manifest\"}\n{\"status\":\"pulling 4dfb\",\"digest\":\"sha256:4dfb\",\"total\":9,\"completed\":3}\n{\"status\":\"verifying sha256 digest\"}\n{\"status\":\"success\"}\n";

    #[test]
    fn any_split_reports_the_same() {
        let whole = report(&[WHOLE.as_bytes()]);
        let expected = [
            "pulling manifest None/None",
            "pulling 4dfb Some(3)/Some(9)",
            "verifying sha256 digest None/None",
        ];
        assert_eq!(whole, [&expected[..], &["success None/None"]].concat());
        for cut in 0..=WHOLE.len() {
            assert_eq!(report(&[&WHOLE.as_bytes()[..cut], &WHOLE.as_bytes()[cut..]]), whole, "cut at {cut}");
        }
        assert_eq!(report(&[WHOLE.trim_end().as_bytes()]), whole, "the last line may have no end");
    }

    #[test]
    fn a_cut_anywhere_is_a_failure() {
        for cut in 0..WHOLE.len() - 1 {
            let report = report(&[&WHOLE.as_bytes()[..cut]]);
            let last = report.last().unwrap();
            assert!(last.starts_with("Broken: "), "cut at {cut}: {last}");
        }
    }

    #[test]
    fn failures_under_a_good_status_are_failures() {
        for (lines, expected) in [
            (
                r#"{"error":"pull model manifest: file does not exist"}"#,
                "NotFound: pull model manifest: file does",
            ),
            (r#"{"error":"open blob: no space left on device"}"#, "Failed: open blob: no space left"),
            ("{\"error\":\"boom\"}\n{\"status\":\"success\"}\n", "Failed: boom"),
            ("<html>\n", "Garbage: "),
            ("<html>", "Garbage: "),
            ("[1]\n", "Garbage: "),
        ] {
            let report = report(&[lines.as_bytes()]);
            assert_eq!(report.len(), 1, "{report:?}");
            assert!(report[0].starts_with(expected), "{report:?}");
        }
        // Nothing follows a success.
        assert_eq!(report(&[b"{\"status\":\"success\"}\n{\"error\":\"late\"}\n"]), ["success None/None"]);
    }
}
