//! The client: what can be asked of a gateway.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hoosh_core::dialect::{Codec, Dialect, Encoded, Quirks, Target, openai_embeddings};
use hoosh_core::{EmbeddingRequest, EmbeddingResponse, InferenceRequest, InferenceResponse, ModelInfo};

use crate::answer::json;
use crate::error::ClientError;
use crate::health::{Health, ProviderStatus};
use crate::meta::CallMeta;
use crate::models;
use crate::stream::InferenceStream;
use crate::transport::{Ask, Timeouts, Transport};
use crate::url;

/// A client of one gateway.
///
/// Clones are cheap and share their connections; make one per gateway and token, and clone it. All methods take `&self`
/// and may be called at once from many tasks.
///
/// # Cancel safety
///
/// Every call can be dropped at any time and leaves the client as it was. The connection is then closed, on which the
/// gateway stops the provider; what was generated until then is booked.
#[derive(Clone)]
pub struct HooshClient {
    inner: Arc<Inner>,
}

/// What a client is made of: [`HooshClient::builder`].
///
/// Each time has a default, so that no wait is unbounded. They run side by side; the first to end ends the call with
/// [`ClientError::Transport`], which says which one it was.
#[must_use = "it makes nothing until `build` is called"]
#[derive(Clone)]
pub struct HooshClientBuilder {
    base_url: String,
    token: Option<String>,
    timeouts: Timeouts,
}

struct Inner {
    settings: HooshClientBuilder,
    /// What was wrong with the settings is told by the first call and every one after it.
    transport: Result<Transport, ClientError>,
}

/// How this client speaks with the gateway. Both sides are hoosh, so there are no quirks.
const DIALECT: Dialect = Dialect::OpenAiChat;

// === impl HooshClient ===

impl HooshClient {
    /// A client of the gateway at this URL, without a token and with the default times.
    ///
    /// The URL is the gateway's address, such as `http://localhost:8088`; a trailing `/` or `/v1` is no matter. Never
    /// fails and opens no connection: a URL that cannot be used is an error of the first call. For an `https` URL it
    /// reads the system's root certificates, which takes some milliseconds.
    pub fn new(base_url: impl Into<String>) -> Self {
        Self::builder(base_url).build()
    }

    /// A client of the gateway at this URL, with a token or times of its own.
    pub fn builder(base_url: impl Into<String>) -> HooshClientBuilder {
        HooshClientBuilder { base_url: base_url.into(), token: None, timeouts: Timeouts::DEFAULT }
    }

    /// Asks for a whole answer.
    ///
    /// `request.model` is sent as it is: a model, an alias, or `provider/model`. What of the request could not be
    /// carried to the model is in the answer's [`notes`](InferenceResponse::notes).
    ///
    /// # Errors
    ///
    /// [`ClientError::Api`] if the gateway refuses, [`ClientError::Transport`] if there is no answer,
    /// [`ClientError::Decode`] if it is none, [`ClientError::Url`] and [`ClientError::Token`] if the client was made of
    /// the wrong things.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the call.
    pub async fn infer(&self, request: &InferenceRequest) -> Result<InferenceResponse, ClientError> {
        self.infer_with_meta(request).await.map(|(response, _)| response)
    }

    /// Asks for a whole answer, and what the gateway says about the call: who answered, at which try, for how much.
    ///
    /// # Errors
    ///
    /// As [`infer`](Self::infer).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the call.
    pub async fn infer_with_meta(
        &self,
        request: &InferenceRequest,
    ) -> Result<(InferenceResponse, CallMeta), ClientError> {
        let Encoded { body, notes, .. } = encode(request, false);
        let answer = self.transport()?.send(CHAT_PATH, Ask::Whole(body)).await?.accepted().await?;
        let meta = CallMeta::read(&answer.headers).with_notes(notes);
        let response = answer.read(|body| codec().decode_reply(body)).await?;
        Ok((InferenceResponse { notes: meta.lossy.clone(), ..response }, meta))
    }

    /// Asks for a streamed answer, and waits for its head.
    ///
    /// The gateway sends the head when the first output is there, so an error until then is an error of this call and
    /// not one inside the stream.
    ///
    /// # Errors
    ///
    /// As [`infer`](Self::infer).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future or the stream cancels the call.
    pub async fn infer_stream(&self, request: &InferenceRequest) -> Result<InferenceStream, ClientError> {
        let Encoded { body, notes, .. } = encode(request, true);
        let answer = self.transport()?.send(CHAT_PATH, Ask::Stream(body)).await?.accepted().await?;
        answer.check_is_stream()?;
        let meta = CallMeta::read(&answer.headers).with_notes(notes);
        Ok(InferenceStream::new(answer.body, codec().stream_decoder(Quirks::NONE), meta))
    }

    /// Asks for the vectors of some texts.
    ///
    /// # Errors
    ///
    /// As [`infer`](Self::infer).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the call.
    pub async fn embeddings(&self, request: &EmbeddingRequest) -> Result<EmbeddingResponse, ClientError> {
        self.embeddings_with_meta(request).await.map(|(response, _)| response)
    }

    /// Asks for the vectors of some texts, and what the gateway says about the call.
    ///
    /// # Errors
    ///
    /// As [`infer`](Self::infer).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the call.
    pub async fn embeddings_with_meta(
        &self,
        request: &EmbeddingRequest,
    ) -> Result<(EmbeddingResponse, CallMeta), ClientError> {
        let body = openai_embeddings::encode_request(request, &request.model);
        let answer = self.transport()?.send(EMBEDDINGS_PATH, Ask::Whole(body)).await?.accepted().await?;
        let meta = CallMeta::read(&answer.headers);
        Ok((answer.read(openai_embeddings::decode_reply).await?, meta))
    }

    /// Asks which models the gateway offers. Costs nothing and is done within 10 s.
    ///
    /// # Errors
    ///
    /// As [`infer`](Self::infer).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the call.
    pub async fn list_models(&self) -> Result<Vec<ModelInfo>, ClientError> {
        let answer = self.transport()?.send(["v1", "models"], Ask::Look).await?.accepted().await?;
        answer.read(models::decode_list).await
    }

    /// Asks about one model, by the name a request would have it by. Costs nothing and is done within 10 s.
    ///
    /// # Errors
    ///
    /// As [`infer`](Self::infer); for a model that there is not, [`ClientError::Api`] with status 404 and names that
    /// look like it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the call.
    pub async fn model(&self, id: &str) -> Result<ModelInfo, ClientError> {
        // A `/` in a model's name is one in the path too, which the gateway takes and most proxies let pass.
        let path = ["v1", "models"].into_iter().chain(id.split('/'));
        self.transport()?.send(path, Ask::Look).await?.accepted().await?.read(models::decode).await
    }

    /// Asks how the gateway is. Costs nothing and is done within 10 s.
    ///
    /// A gateway may say that it is stopping, with [`Readiness::Draining`](crate::Readiness::Draining): that is an answer
    /// and no error.
    ///
    /// # Errors
    ///
    /// As [`infer`](Self::infer).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the call.
    pub async fn health(&self) -> Result<Health, ClientError> {
        self.transport()?.send(["v1", "health"], Ask::Look).await?.read_even_unavailable(Health::decode).await
    }

    /// Asks how the gateway's providers are, in the order of its configuration. Costs nothing and is done within 10 s.
    ///
    /// That none of them is healthy is an answer and no error.
    ///
    /// # Errors
    ///
    /// As [`infer`](Self::infer).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the call.
    pub async fn providers(&self) -> Result<Vec<ProviderStatus>, ClientError> {
        let answer = self.transport()?.send(["v1", "health", "providers"], Ask::Look).await?;
        answer.read_even_unavailable(ProviderStatus::decode_list).await
    }

    /// Asks for something else of the gateway's own by its path, in segments, such as `["v1", "admin", "pools"]`, with JSON where
    /// it takes some, and gives its answer as JSON. It is never sent twice.
    ///
    /// # Errors
    ///
    /// As [`infer`](Self::infer).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection; whether the gateway has done what was asked is then not known.
    pub async fn ask_json(
        &self,
        method: http::Method,
        path: &[&str],
        body: Option<&serde_json::Value>,
    ) -> Result<serde_json::Value, ClientError> {
        let ask = Ask::Own(method, body.map(|body| body.to_string().into_bytes()));
        self.transport()?.send(path.iter().copied(), ask).await?.accepted().await?.read(json).await
    }

    fn transport(&self) -> Result<&Transport, ClientError> {
        self.inner.transport.as_ref().map_err(Clone::clone)
    }
}

/// Where the gateway takes chats, in segments.
const CHAT_PATH: [&str; 3] = ["v1", "chat", "completions"];
/// Where it takes embeddings.
const EMBEDDINGS_PATH: [&str; 2] = ["v1", "embeddings"];

fn codec() -> &'static dyn Codec {
    match DIALECT.codec() {
        Some(codec) => codec,
        None => unreachable!("{DIALECT} is a dialect of inferences"),
    }
}

/// Writes a request for the gateway.
fn encode(request: &InferenceRequest, stream: bool) -> Encoded {
    codec().encode_request(request, Target { model: &request.model, stream, quirks: Quirks::NONE })
}

impl fmt::Debug for HooshClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.settings.debug("HooshClient", f)
    }
}

// === impl HooshClientBuilder ===

impl HooshClientBuilder {
    /// The key that the gateway knows the caller by, sent as `authorization: Bearer`. Default: none; empty is none too.
    ///
    /// It is in no `Debug` and in no error. Over plain `http` everybody on the way can read it.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into()).filter(|token| !token.is_empty());
        self
    }

    /// Longest time to open a connection, TLS included. Default: 5 s.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.timeouts.connect = limit;
        self
    }

    /// Longest time from a streamed request to the head of its answer. Default: 245 s.
    ///
    /// That is twice the gateway's own 120 s for one provider and 5 s more: one may be silent, and the next one that
    /// the gateway tries still answers. Calls that are not streamed have no byte to show before the whole answer is
    /// generated, so only [`total_timeout`](Self::total_timeout) bounds them.
    pub fn first_byte_timeout(mut self, limit: Duration) -> Self {
        self.timeouts.first_byte = limit;
        self
    }

    /// Longest silence inside an answer. Default: 125 s, 5 s more than the gateway's own.
    ///
    /// Only waiting counts: time that the caller spends between two events does not.
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.timeouts.idle = limit;
        self
    }

    /// Longest time for a call as a whole, a stream to its last event included. Default: 605 s, 5 s more than the
    /// gateway's own.
    ///
    /// Models, health and providers are looked up within 10 s, or this if it is less.
    pub fn total_timeout(mut self, limit: Duration) -> Self {
        self.timeouts.total = limit;
        self
    }

    /// Makes the client. Never fails: what cannot be used is an error of the first call.
    pub fn build(self) -> HooshClient {
        let transport = Transport::new(&self.base_url, self.token.as_deref(), self.timeouts);
        HooshClient { inner: Arc::new(Inner { settings: self, transport }) }
    }

    fn debug(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name)
            .field("base_url", &url::without_password(&self.base_url))
            .field("token", &self.token.as_ref().map(|_| format_args!("<redacted>")))
            .field("timeouts", &self.timeouts)
            .finish()
    }
}

impl fmt::Debug for HooshClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.debug("HooshClientBuilder", f)
    }
}
