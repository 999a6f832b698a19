//! The one provider for everything that answers over HTTP.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::{BoxFuture, ready};
use hoosh_core::dialect::emulate::{UnwrapStream, unwrap_reply};
use hoosh_core::dialect::{
    ANTHROPIC_VERSION, Codec, Dialect, EmbeddingCodec, Encoded, Quirks, StreamForm, Target,
};
use hoosh_core::{
    ByteStream, EmbeddingRequest, EmbeddingResponse, EventStream, FailureKind, FidelityNote,
    InferenceRequest, InferenceResponse, LlmProvider, ModelInfo, ProviderHealth, ProviderType,
    UpstreamFailure, WireBody, WireReply, WireRequest, limits, rate_limit,
};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::Full;
use tokio::time::Instant;

use crate::events::decoded;
use crate::identity::Identity;
use crate::listing::{self, ListingForm};
use crate::preset::{Auth, Preset, preset};
use crate::settings::{ProviderSettings, SettingsError};
use crate::transport::{Answer, Transport};

/// A vendor or model server at a URL, as its [`Preset`] describes it.
pub struct HttpProvider {
    identity: Arc<Identity>,
    preset: &'static Preset,
    is_local: bool,
    base_url: String,
    /// The URL of each dialect it speaks that is the same for every model, made once.
    urls: Vec<(Dialect, Uri)>,
    models_url: Uri,
    /// Where Ollama tells what it holds in memory.
    loaded_url: Uri,
    /// What every request carries, the key among it.
    headers: HeaderMap,
    transport: Transport,
}

/// An inference ready to be sent, and how its answer is read.
struct Outgoing {
    codec: &'static dyn Codec,
    wire: WireRequest,
    notes: Vec<FidelityNote>,
    answer_tool: Option<&'static str>,
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
        let (base_url, root_url) = (settings.resolve_base_url()?, settings.resolve_root_url()?);
        let name = settings.name.clone().unwrap_or_else(|| settings.kind.as_str().to_owned());
        // It stands before a slash in `name/model` and in a header.
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/') {
            let problem = "must be printable ASCII without spaces and slashes".to_owned();
            return Err(SettingsError { field: "name", problem });
        }
        let parse = |base: &str, path: &str| -> Result<Uri, SettingsError> {
            let parsed = format!("{base}/{path}").parse();
            parsed.map_err(|_| SettingsError { field: "base_url", problem: "is not a URL".to_owned() })
        };
        let fixed = preset.dialects.iter().filter(|dialect| !dialect.has_model_in_path());
        let urls = fixed
            .map(|dialect| {
                let url = if dialect.is_at_root() { root_url.as_str() } else { base_url.as_str() };
                Ok((*dialect, parse(url, &dialect.path("", false))?))
            })
            .collect::<Result<_, _>>()?;
        let key = settings.key();
        Ok(Self {
            urls,
            models_url: parse(
                if preset.listing == ListingForm::Ollama { &root_url } else { &base_url },
                preset.listing.path(),
            )?,
            loaded_url: parse(&root_url, "api/ps")?,
            headers: headers(preset.auth, key)?,
            transport: Transport::new(settings.timeouts),
            identity: Arc::new(Identity::new(name, key)),
            preset,
            is_local: settings.is_local(),
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

    fn post(&self, wire: WireRequest) -> Result<Request<Full<Bytes>>, UpstreamFailure> {
        let url = self.url(wire.dialect, &wire.model, wire.stream)?;
        let mut request = Request::new(Full::new(wire.body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = url;
        let headers = request.headers_mut();
        headers.clone_from(&self.headers);
        headers.extend(wire.headers);
        let accept = match wire.dialect.stream_form() {
            StreamForm::Sse if wire.stream => "text/event-stream",
            StreamForm::Lines if wire.stream => "application/x-ndjson",
            _ => "application/json",
        };
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(request)
    }

    fn url(&self, dialect: Dialect, model: &str, stream: bool) -> Result<Uri, UpstreamFailure> {
        if let Some((_, url)) = self.urls.iter().find(|(known, _)| *known == dialect) {
            return Ok(url.clone());
        }
        if !self.speaks(dialect) {
            let message = format!("it does not take {dialect} bodies");
            return Err(UpstreamFailure::new(FailureKind::Unsupported, message));
        }
        // Some servers and proxies would climb out of the path by them.
        let climbs = model.split('/').any(|segment| matches!(segment, "" | "." | ".."));
        let url = format!("{}/{}", self.base_url, dialect.path(model, stream)).parse().ok();
        url.filter(|_| !climbs)
            .ok_or_else(|| UpstreamFailure::new(FailureKind::NotFound, "the model's name cannot be in a URL"))
    }

    /// Sends a body and gives back the whole answer, or the failure it stands for.
    async fn whole(&self, wire: WireRequest) -> Result<(HeaderMap, Bytes), UpstreamFailure> {
        let dialect = wire.dialect;
        let answer = self.transport.send_for_whole(self.post(wire)?).await?;
        let mut answer = refuse_error(dialect, answer).await?;
        let headers = std::mem::take(&mut answer.head.headers);
        let body = answer.whole(limits::REPLY_BODY_BYTES_MAX).await?.ok_or_else(|| {
            let message = format!("its answer is longer than {} MiB", limits::REPLY_BODY_BYTES_MAX >> 20);
            UpstreamFailure::new(FailureKind::Garbage, message)
        })?;
        Ok((headers, body))
    }

    /// Sends a body and gives back the stream of the answer, or the failure it stands for.
    async fn streamed(&self, wire: WireRequest) -> Result<(HeaderMap, ByteStream), UpstreamFailure> {
        let dialect = wire.dialect;
        let answer = self.transport.send_for_stream(self.post(wire)?).await?;
        let mut answer = refuse_error(dialect, answer).await?;
        let headers = std::mem::take(&mut answer.head.headers);
        if let Some(kind) = headers.get(CONTENT_TYPE).filter(|kind| !is_stream(dialect, kind)) {
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
        let identity = Arc::clone(&self.identity);
        let stream = answer.stream().map(move |piece| piece.map_err(|failure| identity.own(failure)));
        Ok((headers, Box::pin(stream)))
    }

    /// The dialect a typed inference is put into: the one it came in if that is taken, else the first for inference.
    fn inference_codec(&self, request: &InferenceRequest) -> (Dialect, &'static dyn Codec) {
        let own = request.origin.filter(|origin| self.speaks(*origin));
        let mut dialects = own.into_iter().chain(self.preset.dialects.iter().copied());
        let found = dialects.find_map(|dialect| Some((dialect, dialect.codec()?)));
        // A test of the presets holds that each speaks one.
        found.unwrap_or_else(|| unreachable!("preset {} speaks no inference dialect", self.preset.kind))
    }

    fn embedding_codec(&self) -> Result<(Dialect, &'static dyn EmbeddingCodec), UpstreamFailure> {
        let mut dialects = self.preset.dialects.iter();
        let found = dialects.find_map(|dialect| Some((*dialect, dialect.embedding_codec()?)));
        found.ok_or_else(|| UpstreamFailure::new(FailureKind::Unsupported, "it has no embeddings"))
    }

    fn encode(&self, model: &str, stream: bool, request: &InferenceRequest) -> Outgoing {
        let (dialect, codec) = self.inference_codec(request);
        let target = Target { model, stream, quirks: self.preset.quirks };
        let Encoded { body, notes, answer_tool } = codec.encode_request(request, target);
        let headers =
            if request.origin == Some(dialect) { request.headers.clone() } else { HeaderMap::new() };
        let wire = WireRequest { headers, ..wire(dialect, model, stream, body) };
        Outgoing { codec, notes, answer_tool, wire }
    }

    async fn models(&self) -> Result<Vec<ModelInfo>, UpstreamFailure> {
        self.listed(&self.models_url).await
    }

    /// Reads a listing, page by page.
    async fn listed(&self, url: &Uri) -> Result<Vec<ModelInfo>, UpstreamFailure> {
        let mut models = Vec::new();
        let mut next = url.clone();
        for _ in 0..limits::LISTING_PAGES_MAX {
            let mut request = Request::new(Full::new(Bytes::new()));
            *request.uri_mut() = next;
            *request.headers_mut() = self.headers.clone();
            let answer = self.transport.send_probe(request).await?;
            let answer = refuse_error(self.preset.listing.dialect(), answer).await?;
            let body = answer.whole(limits::REPLY_BODY_BYTES_MAX).await?.unwrap_or_default();
            let page = listing::decode(self.preset.listing, self.preset.kind, &self.identity.name, &body)?;
            models.extend(page.models);
            let more = page.next.and_then(|query| format!("{url}&{query}").parse().ok());
            match more {
                Some(more) if models.len() < limits::MODELS_PER_PROVIDER_MAX => next = more,
                _ => break,
            }
        }
        models.truncate(limits::MODELS_PER_PROVIDER_MAX);
        Ok(models)
    }
}

pub(crate) fn headers(auth: Auth, key: Option<&str>) -> Result<HeaderMap, SettingsError> {
    let mut headers = HeaderMap::new();
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("hoosh/", env!("CARGO_PKG_VERSION"))));
    if auth == Auth::Anthropic {
        headers.insert(
            HeaderName::from_static("anthropic-version"),
            HeaderValue::from_static(ANTHROPIC_VERSION),
        );
    }
    let Some(key) = key else { return Ok(headers) };
    let secret = |text: &str| -> Result<HeaderValue, SettingsError> {
        let problem = "holds characters that no HTTP header can carry".to_owned();
        let mut value =
            HeaderValue::from_str(text).map_err(|_| SettingsError { field: "api_key", problem })?;
        value.set_sensitive(true);
        Ok(value)
    };
    let (name, value) = match auth {
        Auth::Bearer => (AUTHORIZATION, secret(&format!("Bearer {key}"))?),
        Auth::Anthropic => (HeaderName::from_static("x-api-key"), secret(key)?),
        Auth::Google => (HeaderName::from_static("x-goog-api-key"), secret(key)?),
    };
    headers.insert(name, value);
    Ok(headers)
}

fn wire(dialect: Dialect, model: &str, stream: bool, body: Vec<u8>) -> WireRequest {
    WireRequest { dialect, model: model.to_owned(), headers: HeaderMap::new(), stream, body: body.into() }
}

/// Whether this is the content type of a stream in the dialect; of NDJSON servers some say plain JSON.
fn is_stream(dialect: Dialect, content_type: &HeaderValue) -> bool {
    let kind = content_type.as_bytes().to_ascii_lowercase();
    match dialect.stream_form() {
        StreamForm::Sse => kind.starts_with(b"text/event-stream"),
        StreamForm::Lines => {
            [&b"application/x-ndjson"[..], b"application/json"].iter().any(|known| kind.starts_with(known))
        }
    }
}

/// An answer with status 200, or the failure it stands for.
pub(crate) async fn refuse_error(dialect: Dialect, answer: Answer) -> Result<Answer, UpstreamFailure> {
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

impl LlmProvider for HttpProvider {
    fn name(&self) -> &str {
        &self.identity.name
    }

    fn provider_type(&self) -> ProviderType {
        self.preset.kind
    }

    fn is_local(&self) -> bool {
        self.is_local
    }

    fn prefills(&self, model: &str) -> bool {
        let first = self.preset.dialects.first();
        self.preset.prefills && first.is_some_and(|dialect| dialect.takes_prefill(model))
    }

    fn infer<'a>(
        &'a self,
        model: &'a str,
        request: &'a InferenceRequest,
    ) -> BoxFuture<'a, Result<InferenceResponse, UpstreamFailure>> {
        Box::pin(async move {
            let Outgoing { codec, wire, notes, answer_tool } = self.encode(model, false, request);
            let reply = async {
                let (headers, body) = self.whole(wire).await?;
                let reply = codec.decode_reply(&body)?;
                let reply = match answer_tool {
                    Some(tool) => unwrap_reply(reply, tool),
                    None => reply,
                };
                Ok(InferenceResponse { notes, limits: rate_limit::kept(&headers), ..reply })
            };
            reply.await.map_err(|failure: UpstreamFailure| self.identity.own(failure))
        })
    }

    fn infer_stream<'a>(
        &'a self,
        model: &'a str,
        request: &'a InferenceRequest,
    ) -> BoxFuture<'a, Result<EventStream, UpstreamFailure>> {
        Box::pin(async move {
            let Outgoing { codec, wire, notes, answer_tool } = self.encode(model, true, request);
            let origin = Some(wire.dialect);
            let sent = self.streamed(wire).await;
            let (headers, bytes) = sent.map_err(|failure| self.identity.own(failure))?;
            let events = decoded(bytes, codec.stream_decoder(self.preset.quirks), Arc::clone(&self.identity));
            let limits = rate_limit::kept(&headers);
            let Some(tool) = answer_tool else {
                return Ok(EventStream { events: Box::pin(events), notes, origin, limits });
            };
            let mut unwrap = UnwrapStream::new(tool);
            let events = events.filter_map(move |item| {
                ready(match item {
                    Ok(event) => unwrap.event(event).map(Ok),
                    Err(failure) => Some(Err(failure)),
                })
            });
            Ok(EventStream { events: Box::pin(events), notes, origin, limits })
        })
    }

    fn embed<'a>(
        &'a self,
        model: &'a str,
        request: &'a EmbeddingRequest,
    ) -> BoxFuture<'a, Result<EmbeddingResponse, UpstreamFailure>> {
        Box::pin(async move {
            let reply = async {
                let (dialect, codec) = self.embedding_codec()?;
                let encoded = codec.encode_request(request, model).map_err(|field| UpstreamFailure {
                    param: Some(field.path.clone()),
                    ..UpstreamFailure::new(FailureKind::Unsupported, field.to_string())
                })?;
                let (headers, body) = self.whole(wire(dialect, model, false, encoded.body)).await?;
                let reply = codec.decode_reply(&body)?;
                Ok(EmbeddingResponse { notes: encoded.notes, limits: rate_limit::kept(&headers), ..reply })
            };
            reply.await.map_err(|failure: UpstreamFailure| self.identity.own(failure))
        })
    }

    fn list_models(&self) -> BoxFuture<'_, Result<Vec<ModelInfo>, UpstreamFailure>> {
        Box::pin(async move {
            if !self.preset.lists_models {
                return Ok(listing::from_catalog(self.preset.kind, &self.identity.name));
            }
            self.models().await.map_err(|failure| self.identity.own(failure))
        })
    }

    fn loaded_models(&self) -> BoxFuture<'_, Result<Vec<ModelInfo>, UpstreamFailure>> {
        Box::pin(async move {
            let listed = match self.preset.kind {
                ProviderType::Ollama => self.listed(&self.loaded_url).await,
                // One model or a few, in memory from the start.
                ProviderType::LlamaCpp => self.models().await,
                _ => return Ok(Vec::new()),
            };
            listed.map_err(|failure| self.identity.own(failure))
        })
    }

    fn health_check(&self) -> BoxFuture<'_, Result<ProviderHealth, UpstreamFailure>> {
        Box::pin(async move {
            let start = Instant::now();
            let models = match self.models().await {
                Ok(models) => Some(models.len()),
                // One that has no listing is well if it says so.
                Err(failure) if !self.preset.lists_models && failure.kind == FailureKind::NotFound => None,
                Err(failure) => return Err(self.identity.own(failure)),
            };
            Ok(ProviderHealth { latency: start.elapsed(), models })
        })
    }

    fn speaks(&self, dialect: Dialect) -> bool {
        self.preset.dialects.contains(&dialect)
    }

    fn preview(&self, model: &str, request: &InferenceRequest) -> Vec<FidelityNote> {
        self.encode(model, false, request).notes
    }

    fn preview_embedding(&self, model: &str, request: &EmbeddingRequest) -> Vec<FidelityNote> {
        let encoded =
            self.embedding_codec().ok().and_then(|(_, codec)| codec.encode_request(request, model).ok());
        // One that cannot be told it at all says so when it is asked.
        encoded.map(|encoded| encoded.notes).unwrap_or_default()
    }

    fn own(&self, failure: UpstreamFailure) -> UpstreamFailure {
        self.identity.own(failure)
    }

    fn quirks(&self) -> Quirks {
        self.preset.quirks
    }

    fn forward(&self, request: WireRequest) -> BoxFuture<'_, Result<WireReply, UpstreamFailure>> {
        Box::pin(async move {
            let reply = async {
                if request.stream {
                    let (headers, stream) = self.streamed(request).await?;
                    return Ok(WireReply { headers, body: WireBody::Stream(stream) });
                }
                let (headers, body) = self.whole(request).await?;
                Ok(WireReply { headers, body: WireBody::Full(body) })
            };
            reply.await.map_err(|failure: UpstreamFailure| self.identity.own(failure))
        })
    }
}

impl fmt::Debug for HttpProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpProvider")
            .field("name", &self.identity.name)
            .field("kind", &self.preset.kind)
            .field("base_url", &self.base_url)
            .finish_non_exhaustive()
    }
}
