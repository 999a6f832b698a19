//! The one provider for everything that answers over HTTP.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{Stream, StreamExt, stream};
use hoosh_core::dialect::{Codec, DecodeStream, Dialect, Quirks, Target, openai_embeddings};
use hoosh_core::{
    ByteStream, EmbeddingRequest, EmbeddingResponse, EventStream, FailureKind, InferenceRequest,
    InferenceResponse, LlmProvider, ModelInfo, ProviderHealth, ProviderType, StreamEvent, UpstreamFailure,
    WireBody, WireReply, WireRequest, limits,
};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::Full;
use secrecy::ExposeSecret;
use tokio::time::{Instant, timeout};

use crate::listing;
use crate::preset::{Auth, Preset, preset};
use crate::settings::{ProviderSettings, SettingsError};
use crate::transport::{Answer, Transport};

/// A vendor or model server at a URL, as its [`Preset`] describes it.
pub struct HttpProvider {
    name: String,
    preset: &'static Preset,
    base_url: String,
    /// The URL of each dialect it speaks, made once.
    urls: Vec<(Dialect, Uri)>,
    models_url: Uri,
    /// What every request carries, the key among it.
    headers: HeaderMap,
    transport: Transport,
}

// === impl HttpProvider ===

impl HttpProvider {
    /// A provider as configured. Opens no connection yet.
    ///
    /// # Errors
    ///
    /// If the URL, the name or the key cannot be used.
    pub fn new(settings: ProviderSettings) -> Result<Self, SettingsError> {
        let preset = preset(settings.kind);
        let base_url = settings.resolve_base_url()?;
        let name = settings.name.unwrap_or_else(|| settings.kind.as_str().to_owned());
        // It stands before a slash in `name/model` and in a header.
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/') {
            let problem = "must be printable ASCII without spaces and slashes".to_owned();
            return Err(SettingsError { field: "name", problem });
        }
        let url = |path: &str| -> Result<Uri, SettingsError> {
            let parsed = format!("{base_url}/{path}").parse();
            parsed.map_err(|_| SettingsError { field: "base_url", problem: "is not a URL".to_owned() })
        };
        let urls = preset
            .dialects
            .iter()
            .map(|dialect| Ok((*dialect, url(dialect.path())?)))
            .collect::<Result<_, _>>()?;
        let key =
            settings.api_key.as_ref().map(|key| key.expose_secret().trim()).filter(|key| !key.is_empty());
        Ok(Self {
            urls,
            models_url: url("models")?,
            headers: headers(preset.auth, key)?,
            transport: Transport::new(settings.timeouts),
            name,
            preset,
            base_url,
        })
    }

    /// The URL that the dialects' paths are added to.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// What is known of its kind.
    pub fn preset(&self) -> &'static Preset {
        self.preset
    }

    fn post(
        &self,
        dialect: Dialect,
        stream: bool,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, UpstreamFailure> {
        let Some((_, url)) = self.urls.iter().find(|(known, _)| *known == dialect) else {
            return Err(UpstreamFailure::new(
                FailureKind::Unsupported,
                format!("it does not take {dialect} bodies"),
            ));
        };
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = url.clone();
        *request.headers_mut() = self.headers.clone();
        let accept = if stream { "text/event-stream" } else { "application/json" };
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static(accept));
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(request)
    }

    /// Sends a body and gives back the whole answer, or the failure it stands for.
    async fn whole(&self, dialect: Dialect, body: Bytes) -> Result<(HeaderMap, Bytes), UpstreamFailure> {
        let answer = self.transport.send_for_whole(self.post(dialect, false, body)?).await?;
        let mut answer = refuse_error(dialect, answer).await?;
        let headers = std::mem::take(&mut answer.head.headers);
        let body = answer.whole(limits::REPLY_BODY_BYTES_MAX).await?.ok_or_else(|| {
            let message = format!("its answer is longer than {} MiB", limits::REPLY_BODY_BYTES_MAX >> 20);
            UpstreamFailure::new(FailureKind::Garbage, message)
        })?;
        Ok((headers, body))
    }

    /// Sends a body and gives back the stream of the answer, or the failure it stands for.
    async fn streamed(
        &self,
        dialect: Dialect,
        body: Bytes,
    ) -> Result<(HeaderMap, ByteStream), UpstreamFailure> {
        let answer = self.transport.send_for_stream(self.post(dialect, true, body)?).await?;
        let mut answer = refuse_error(dialect, answer).await?;
        let headers = std::mem::take(&mut answer.head.headers);
        if let Some(kind) = headers.get(CONTENT_TYPE)
            && !kind.as_bytes().to_ascii_lowercase().starts_with(b"text/event-stream")
        {
            let message =
                format!("a stream was asked for, `{}` came", String::from_utf8_lossy(kind.as_bytes()));
            let body = answer.excerpt().await;
            // Some servers report an error in a whole answer under a good status.
            let is_error =
                serde_json::from_slice::<serde_json::Value>(&body).is_ok_and(|json| !json["error"].is_null());
            let reported = UpstreamFailure { status: None, ..dialect.decode_error(500, None, &body) };
            return Err(if is_error {
                reported
            } else {
                UpstreamFailure::new(FailureKind::Garbage, message)
            });
        }
        let name = self.name.clone();
        let stream = answer.stream().map(move |piece| piece.map_err(|failure| failure.at(&name)));
        Ok((headers, Box::pin(stream)))
    }

    /// The dialect a typed inference is put into.
    fn inference_codec(&self) -> (Dialect, &'static dyn Codec) {
        let dialects = self.preset.dialects.iter();
        let found = dialects.filter_map(|dialect| Some((*dialect, dialect.codec()?))).next();
        // A test of the presets holds that each speaks chat.
        found.unwrap_or_else(|| unreachable!("preset {} speaks no inference dialect", self.preset.kind))
    }

    async fn models(&self) -> Result<Vec<ModelInfo>, UpstreamFailure> {
        let mut request = Request::new(Full::new(Bytes::new()));
        *request.uri_mut() = self.models_url.clone();
        *request.headers_mut() = self.headers.clone();
        let answer = self.transport.send_probe(request).await?;
        let answer = refuse_error(Dialect::OpenAiChat, answer).await?;
        let body = answer.whole(limits::REPLY_BODY_BYTES_MAX).await?.unwrap_or_default();
        listing::decode(self.preset.kind, &self.name, &body)
    }
}

fn headers(auth: Auth, key: Option<&str>) -> Result<HeaderMap, SettingsError> {
    let mut headers = HeaderMap::new();
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("hoosh/", env!("CARGO_PKG_VERSION"))));
    let Some(key) = key else { return Ok(headers) };
    let secret = |text: &str| -> Result<HeaderValue, SettingsError> {
        let problem = "holds characters that no HTTP header can carry".to_owned();
        let mut value =
            HeaderValue::from_str(text).map_err(|_| SettingsError { field: "api_key", problem })?;
        value.set_sensitive(true);
        Ok(value)
    };
    headers.insert(AUTHORIZATION, secret(&format!("Bearer {key}"))?);
    if auth == Auth::Anthropic {
        headers.insert(HeaderName::from_static("x-api-key"), secret(key)?);
        headers.insert(HeaderName::from_static("anthropic-version"), HeaderValue::from_static("2023-06-01"));
    }
    Ok(headers)
}

/// An answer with status 200, or the failure it stands for.
async fn refuse_error(dialect: Dialect, answer: Answer) -> Result<Answer, UpstreamFailure> {
    let status = answer.head.status.as_u16();
    if status == 200 {
        return Ok(answer);
    }
    let retry_after = retry_after(&answer.head.headers);
    let body = answer.excerpt().await;
    Err(dialect.decode_error(status, retry_after, &body))
}

/// The provider's word on when to come back. Only seconds are read (RFC 9110, 10.2.3): for the form with a date this
/// would have to trust the two clocks to agree.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<f64>().ok();
    let seconds =
        number("retry-after-ms").map(|millis| millis / 1000.0).or_else(|| number(RETRY_AFTER.as_str()))?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// Reads a stream of bytes as events.
fn decoded(
    bytes: ByteStream,
    decoder: Box<dyn DecodeStream>,
    name: String,
) -> impl Stream<Item = EventItem> + Send {
    struct State {
        bytes: Option<ByteStream>,
        decoder: Box<dyn DecodeStream>,
        ready: VecDeque<EventItem>,
        events: Vec<StreamEvent>,
        name: String,
    }
    impl State {
        /// Queues the events decoded, and behind them what ended the stream.
        fn queue(&mut self, result: Result<(), UpstreamFailure>) {
            self.ready.extend(self.events.drain(..).map(Ok));
            if let Err(failure) = result {
                self.bytes = None;
                self.ready.push_back(Err(failure.at(&self.name)));
            }
        }
    }
    let ready = VecDeque::new();
    let state = State { bytes: Some(bytes), decoder, ready, events: Vec::new(), name };
    stream::unfold(state, async |mut state| {
        loop {
            if let Some(item) = state.ready.pop_front() {
                return Some((item, state));
            }
            if state.decoder.is_done()
                && let Some(mut bytes) = state.bytes.take()
            {
                // The end of the body is waited for so that the connection can be used again, but not for long.
                let _closed = timeout(limits::STREAM_END_GRACE, bytes.next()).await;
                let finished = state.decoder.finish(&mut state.events).map_err(UpstreamFailure::from);
                state.queue(finished);
                continue;
            }
            let result = match state.bytes.as_mut()?.next().await {
                Some(Ok(piece)) => {
                    state.decoder.push(&piece, &mut state.events).map_err(UpstreamFailure::from)
                }
                Some(Err(failure)) => {
                    // What was counted until now is still told; that the stream is cut is told by the failure.
                    let _cut = state.decoder.finish(&mut state.events);
                    Err(failure)
                }
                None => {
                    state.bytes = None;
                    state.decoder.finish(&mut state.events).map_err(UpstreamFailure::from)
                }
            };
            state.queue(result);
        }
    })
}

type EventItem = Result<StreamEvent, UpstreamFailure>;

impl LlmProvider for HttpProvider {
    fn name(&self) -> &str {
        &self.name
    }

    fn provider_type(&self) -> ProviderType {
        self.preset.kind
    }

    fn is_local(&self) -> bool {
        self.preset.local
    }

    fn infer<'a>(
        &'a self,
        model: &'a str,
        request: &'a InferenceRequest,
    ) -> BoxFuture<'a, Result<InferenceResponse, UpstreamFailure>> {
        Box::pin(async move {
            let (dialect, codec) = self.inference_codec();
            let encoded =
                codec.encode_request(request, Target { model, stream: false, quirks: self.preset.quirks });
            let reply = async {
                let (_, body) = self.whole(dialect, encoded.body.into()).await?;
                codec.decode_reply(&body).map_err(UpstreamFailure::from)
            };
            let reply = reply.await.map_err(|failure| failure.at(&self.name))?;
            Ok(InferenceResponse { notes: encoded.notes, ..reply })
        })
    }

    fn infer_stream<'a>(
        &'a self,
        model: &'a str,
        request: &'a InferenceRequest,
    ) -> BoxFuture<'a, Result<EventStream, UpstreamFailure>> {
        Box::pin(async move {
            let (dialect, codec) = self.inference_codec();
            let quirks = self.preset.quirks;
            let encoded = codec.encode_request(request, Target { model, stream: true, quirks });
            let sent = self.streamed(dialect, encoded.body.into()).await;
            let (_, bytes) = sent.map_err(|failure| failure.at(&self.name))?;
            let events = decoded(bytes, codec.stream_decoder(quirks), self.name.clone());
            Ok(EventStream { events: Box::pin(events), notes: encoded.notes })
        })
    }

    fn embed<'a>(
        &'a self,
        model: &'a str,
        request: &'a EmbeddingRequest,
    ) -> BoxFuture<'a, Result<EmbeddingResponse, UpstreamFailure>> {
        Box::pin(async move {
            let body = openai_embeddings::encode_request(request, model);
            let reply = async {
                let (_, body) = self.whole(Dialect::OpenAiEmbeddings, body.into()).await?;
                openai_embeddings::decode_reply(&body).map_err(UpstreamFailure::from)
            };
            reply.await.map_err(|failure| failure.at(&self.name))
        })
    }

    fn list_models(&self) -> BoxFuture<'_, Result<Vec<ModelInfo>, UpstreamFailure>> {
        Box::pin(async move {
            if !self.preset.lists_models {
                return Ok(listing::from_catalog(self.preset.kind, &self.name));
            }
            self.models().await.map_err(|failure| failure.at(&self.name))
        })
    }

    fn health_check(&self) -> BoxFuture<'_, Result<ProviderHealth, UpstreamFailure>> {
        Box::pin(async move {
            let start = Instant::now();
            let models = match self.models().await {
                Ok(models) => Some(models.len()),
                // One that has no listing is well if it says so.
                Err(failure) if !self.preset.lists_models && failure.kind == FailureKind::NotFound => None,
                Err(failure) => return Err(failure.at(&self.name)),
            };
            Ok(ProviderHealth { latency: start.elapsed(), models })
        })
    }

    fn speaks(&self, dialect: Dialect) -> bool {
        self.preset.dialects.contains(&dialect)
    }

    fn quirks(&self) -> Quirks {
        self.preset.quirks
    }

    fn forward(&self, request: WireRequest) -> BoxFuture<'_, Result<WireReply, UpstreamFailure>> {
        Box::pin(async move {
            let reply = async {
                if request.stream {
                    let (headers, stream) = self.streamed(request.dialect, request.body).await?;
                    return Ok(WireReply { headers, body: WireBody::Stream(stream) });
                }
                let (headers, body) = self.whole(request.dialect, request.body).await?;
                Ok(WireReply { headers, body: WireBody::Full(body) })
            };
            reply.await.map_err(|failure: UpstreamFailure| failure.at(&self.name))
        })
    }
}

impl fmt::Debug for HttpProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpProvider")
            .field("name", &self.name)
            .field("kind", &self.preset.kind)
            .field("base_url", &self.base_url)
            .finish_non_exhaustive()
    }
}
