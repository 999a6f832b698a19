//! What comes in: one request, its head read, its body untouched.

use std::borrow::Borrow;
use std::fmt;
use std::sync::{Arc, LazyLock, OnceLock};

use bytes::Bytes;
use hoosh_budget::keys::{Grant, KeyRecord};
use hoosh_core::dialect::{
    Dialect, Head, Operation, Quirks, ReplyContext, RequestLine, Target, resolve_responses_references,
    take_responses_previous_id,
};
use hoosh_core::{
    ContextWish, EmbeddingRequest, Fidelity, HooshError, InferenceRequest, InvalidRequest, NanoUsd,
};
use hoosh_router::{Candidate, Tier};
use http::HeaderMap;
use memchr::memmem::{self, Finder};
use uuid::Uuid;

use crate::audit::Trail;
use crate::budget;
use crate::cache::CacheControl;
use crate::count;
use crate::lane::Room;
use crate::lines::PlaceInLine;
use crate::responses::{Keeper, Responses, Turn};
use crate::settle::StopMark;

/// One call on its way.
#[derive(Debug)]
pub struct Call {
    /// Its name in headers, logs and books.
    pub id: RequestId,
    /// Who calls.
    pub caller: CallerId,
    /// The dialect it came in and the answer goes out in.
    pub dialect: Dialect,
    /// What was read of it.
    pub head: Head,
    /// Its body as it came.
    pub body: Bytes,
    /// Headers of the caller's that belong to the dialect, for a provider that speaks it: `anthropic-beta`.
    pub headers: HeaderMap,
    /// What is done about parts that a provider cannot be told; `None`: what the route says, or the gateway.
    pub fidelity: Option<Fidelity>,
    /// Its caller's key, which says what that one may do; `None`: everything, at the rate of all.
    pub key: Option<Arc<KeyRecord>>,
    /// Whether only models on this machine or network may see it.
    pub local_only: bool,
    /// Most that it may cost, as estimated beforehand.
    pub max_cost: Option<NanoUsd>,
    /// The conversation it belongs to, which goes to the same candidate among equals.
    pub session: Option<String>,
    /// The person it is made for, as its caller names them: the pool `user:NAME` is charged too, if there is one.
    pub user: Option<String>,
    /// The program that makes it, of several with the same key: the pool `agent:NAME` is charged too, if there is one.
    pub agent: Option<String>,
    /// Its place in line where it has to wait.
    pub tier: Tier,
    /// Where it is in line is put there, for whoever wants to know; `None`: nobody does.
    pub place: Option<Arc<PlaceInLine>>,
    /// Set by whoever drops it since the gateway stops; `None`: who drops it has lost its client.
    pub stop: Option<Arc<StopMark>>,
    /// Its record in the audit log, opened by whoever took it in; `None`: the gateway opens one, if there is a log.
    pub trail: Option<Trail>,
    /// What its caller wants of the cache.
    pub cache: CacheControl,
    /// What is done where its prompt is too long; `None`: what the route says.
    pub context: Option<ContextWish>,
    /// Whether the cache asks, for the sake of another call: it has no other part in it.
    pub(crate) is_for_cache: bool,
    /// Whether only the answer to the same words is one to it: the summary of another text is none of this.
    pub(crate) by_words_alone: bool,
    /// The answer that the request goes on from, if it names one.
    previous: Option<String>,
    /// The conversation that the request goes on from, if it names one that is kept here.
    history: Option<Arc<Turn>>,
    /// Where the answer is kept, in the dialect that can go on from it.
    responses: Option<Arc<Responses>>,
    /// The body decoded, when a candidate needs that for the first time. Most never are.
    decoded: OnceLock<Arc<Result<InferenceRequest, InvalidRequest>>>,
    is_for_us_alone: OnceLock<bool>,
    /// The most tokens that the answer may have, where its budget allows no more.
    answer_max: OnceLock<(u64, bool)>,
    /// What its pools hold for it, for whoever streams its answer.
    room: OnceLock<Room>,
}

/// What only this gateway writes, for itself to read again: how signatures of other makers begin, plain and in base64, and
/// what is in the names of items.
const OURS: [&[u8]; 6] =
    [b"\"hoosh:", b"\"hoosh-last:", b"\"hoosh-redacted:", b"\"aG9vc2g6", b"\"aG9vc2gt", b"_hoosh_"];

/// What all of those hold, one or the other: nearly no body has either, so that two searches do.
static MARKS: LazyLock<[Finder<'static>; 2]> = LazyLock::new(|| ["hoosh", "aG9vc2g"].map(Finder::new));

/// The name of one call, ours and unique.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RequestId(Arc<str>);

/// Who calls: the name of a key, never the key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CallerId(Arc<str>);

// === impl Call ===

impl Call {
    /// A call with this body.
    ///
    /// # Errors
    ///
    /// [`HooshError::InvalidRequest`] if its head cannot be read.
    pub fn read(id: RequestId, caller: CallerId, dialect: Dialect, body: Bytes) -> Result<Self, HooshError> {
        Self::read_with(id, caller, dialect, RequestLine::default(), body)
    }

    /// A call with this body, and what its URL says.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn read_with(
        id: RequestId,
        caller: CallerId,
        dialect: Dialect,
        line: RequestLine,
        body: Bytes,
    ) -> Result<Self, HooshError> {
        let head = Head::read_with(dialect, line, &body)?;
        Ok(Self {
            id,
            caller,
            dialect,
            head,
            body,
            headers: HeaderMap::new(),
            fidelity: None,
            key: None,
            local_only: false,
            max_cost: None,
            session: None,
            user: None,
            agent: None,
            tier: Tier::default(),
            place: None,
            stop: None,
            trail: None,
            cache: CacheControl::ANY,
            context: None,
            is_for_cache: false,
            by_words_alone: false,
            previous: None,
            history: None,
            responses: None,
            decoded: OnceLock::new(),
            is_for_us_alone: OnceLock::new(),
            answer_max: OnceLock::new(),
            room: OnceLock::new(),
        })
    }

    /// A typed request as a call in OpenAI's chat dialect, for programs that have no bytes.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read): the model may be missing.
    pub fn chat(request: &InferenceRequest) -> Result<Self, HooshError> {
        let target = Target { model: &request.model, stream: false, quirks: Quirks::NONE };
        let dialect = Dialect::OpenAiChat;
        let body =
            dialect.codec().map(|codec| codec.encode_request(request, target).body).unwrap_or_default();
        Self::read(RequestId::new(), CallerId::new("embedded"), dialect, body.into())
    }

    /// The call that has a text of another one embedded, with the other's bounds on who may see it and what it may cost.
    pub(crate) fn embedding(of: &Self, model: &str, text: String) -> Option<Self> {
        let dialect = Dialect::OpenAiEmbeddings;
        let request = EmbeddingRequest { input: vec![text.into()], ..EmbeddingRequest::default() };
        let body = dialect.embedding_codec()?.encode_request(&request, model).ok()?.body;
        let call = Self::read(RequestId::new(), of.caller.clone(), dialect, body.into()).ok()?;
        let (local_only, max_cost, tier, key) = (of.local_only, of.max_cost, of.tier, of.key.clone());
        Some(Self {
            local_only,
            max_cost,
            tier,
            key,
            user: of.user.clone(),
            agent: of.agent.clone(),
            is_for_cache: true,
            ..call
        })
    }

    /// What its caller may do, if that is said.
    pub(crate) fn grant(&self) -> Option<&Grant> {
        self.key.as_ref().map(|key| &key.grant)
    }

    /// Whether another call makes it, which its caller was let in for.
    pub(crate) fn is_inner(&self) -> bool {
        self.is_for_cache || self.by_words_alone
    }

    /// Tokens of its prompt, or of all texts that are to be embedded, counted as far as that is worth it. `None`: it is neither,
    /// or cannot be read.
    pub fn prompt_tokens(&self) -> Option<u64> {
        self.prompt_tokens_for(&self.head.model)
    }

    /// The same as another model than the one asked for counts them.
    pub(crate) fn prompt_tokens_for(&self, model: &str) -> Option<u64> {
        if let Some(codec) = self.dialect.embedding_codec() {
            let request = codec.decode_request(&self.body).ok()?;
            return count::embedding(model, &request.input).input;
        }
        self.decoded().ok().map(|request| count::prompt(model, request))
    }

    /// The request in core's types, with the conversation it goes on from.
    pub(crate) fn decoded(&self) -> Result<&InferenceRequest, &InvalidRequest> {
        self.decoded_shared().as_ref().as_ref()
    }

    /// The same for whoever outlives the call.
    pub(crate) fn decoded_shared(&self) -> &Arc<Result<InferenceRequest, InvalidRequest>> {
        self.decoded.get_or_init(|| Arc::new(self.decode()))
    }

    fn decode(&self) -> Result<InferenceRequest, InvalidRequest> {
        let mut request = decode(self.dialect, &self.body)?;
        // Gemini has it in the URL.
        request.model.clone_from(&self.head.model);
        request.headers.clone_from(&self.headers);
        let previous =
            (self.dialect == Dialect::OpenAiResponses).then(|| take_responses_previous_id(&mut request));
        if let Some(id) = previous.flatten() {
            let Some(history) = &self.history else {
                let problem =
                    format!("no answer `{id}` of yours is kept here, and only OpenAI keeps its own");
                return Err(InvalidRequest::new("previous_response_id", problem));
            };
            let mut messages = history.conversation();
            messages.append(&mut request.messages);
            request.messages = messages;
        }
        if self.dialect == Dialect::OpenAiResponses {
            self.resolve_references(&mut request)?;
        }
        let needed = match self.dialect {
            Dialect::OpenAiResponses => Some("input"),
            Dialect::Gemini => Some("contents"),
            _ => None,
        };
        match needed {
            Some(name) if request.conversation().next().is_none() => {
                Err(InvalidRequest::new(name, "is empty; say something to the model"))
            }
            _ => Ok(request),
        }
    }

    /// Puts items in the place of references to items of answers that are kept here.
    fn resolve_references(&self, request: &mut InferenceRequest) -> Result<(), InvalidRequest> {
        // Only OpenAI keeps conversations by a name of their own.
        if request.extra.get("conversation").is_some_and(|json| json.get() != "null") {
            let problem =
                "is known to OpenAI only; go on with `previous_response_id`, or send the turns themselves";
            return Err(InvalidRequest::new("conversation", problem));
        }
        let answer = |call: &str| {
            let turn = self.responses.as_ref()?.find(&self.caller, &response_name(call))?;
            turn.answer().map(<[_]>::to_vec)
        };
        resolve_responses_references(request, answer)
    }

    /// Whether the body holds what only this gateway can read: a signature of a provider of another dialect, or a name
    /// given here, which its client sends back. Such a body is for nobody as it is.
    pub(crate) fn is_for_us_alone(&self) -> bool {
        let is_marked = || {
            let finds = |mark: &&[u8]| memmem::find(&self.body, mark).is_some();
            MARKS.iter().any(|mark| mark.find(&self.body).is_some()) && OURS.iter().any(finds)
        };
        let is_conversation = matches!(self.dialect.operation(), Operation::Inference | Operation::Counting);
        let is_anthropic = matches!(self.dialect, Dialect::Anthropic | Dialect::AnthropicCount);
        *self
            .is_for_us_alone
            .get_or_init(|| is_conversation && (is_marked() || is_anthropic && has_unsigned(&self.body)))
    }

    /// Lets the answer have no more tokens than these, which is `short` of what it could have had. The first limit stays.
    pub(crate) fn limit_answer(&self, most: u64, is_short: bool) {
        self.answer_max.get_or_init(|| (most, is_short));
    }

    /// The most tokens of its answer, where its budget has made that less than it was asked for, or than the model can write.
    pub(crate) fn shortened_to(&self) -> Option<u64> {
        self.answer_max.get().filter(|(_, is_short)| *is_short).map(|(most, _)| *most)
    }

    /// The most tokens that the answer may have, where its budget allows no more than that.
    pub(crate) fn answer_max(&self) -> Option<u64> {
        self.answer_max.get().map(|(most, _)| *most)
    }

    /// The most tokens that the answer of this one may have. What the caller did not bound is not bounded above what the model is known
    /// to write: some servers refuse more.
    pub(crate) fn answer_max_of(&self, candidate: &Candidate) -> Option<u64> {
        let most = self.answer_max()?;
        Some(if self.head.max_tokens.is_none() {
            most.min(budget::answer_of(candidate, self.room().map_or(0, |room| room.prompt)))
        } else {
            most
        })
    }

    /// Its pools hold so much for it. The first word stays.
    pub(crate) fn held_for(&self, room: Room) {
        self.room.get_or_init(|| room);
    }

    /// What its pools hold for it; `None`: it is charged to none.
    pub(crate) fn room(&self) -> Option<Room> {
        self.room.get().copied()
    }

    /// Looks up the conversation that the request goes on from.
    pub(crate) fn recall(&mut self, responses: &Arc<Responses>) {
        if self.dialect == Dialect::OpenAiResponses {
            self.previous = previous_id(&self.body);
            self.history = self.previous.as_ref().and_then(|id| responses.find(&self.caller, id));
            self.responses = Some(Arc::clone(responses));
        }
    }

    /// What keeps the answer to this request, from a provider of that dialect; `None` if it is not to be kept.
    pub(crate) fn keeper(&self, request: &InferenceRequest, origin: Option<Dialect>) -> Option<Keeper> {
        let responses = self.responses.as_ref()?;
        let unwanted = request.extra.get("store").is_some_and(|store| store.get() == "false");
        // An answer of the dialect's own keeps its name.
        let id = (origin != Some(Dialect::OpenAiResponses)).then(|| response_name(self.id.unprefixed()));
        let asked = || Turn::asked(self.history.clone(), request, self.history_length());
        (!unwanted).then(|| Keeper::new(Arc::clone(responses), self.caller.clone(), id, asked()))
    }

    fn history_length(&self) -> usize {
        self.history.as_ref().map_or(0, |history| history.length())
    }

    pub(crate) fn history(&self) -> Option<&Arc<Turn>> {
        self.history.as_ref()
    }

    /// What the writer of an answer needs to know to name it.
    pub(crate) fn naming(&self) -> ReplyContext<'_> {
        ReplyContext { id: self.id.unprefixed(), now: self.id.unix_seconds(), ..ReplyContext::default() }
    }

    /// What the writer of the answer needs to know.
    pub(crate) fn context<'a>(
        &'a self,
        request: &'a InferenceRequest,
        origin: Option<Dialect>,
    ) -> ReplyContext<'a> {
        ReplyContext {
            request: Some(request),
            id: self.id.unprefixed(),
            now: self.id.unix_seconds(),
            include_usage: self.head.include_usage,
            origin,
            json_list: self.head.json_list,
            previous_id: self.previous.as_deref(),
        }
    }
}

/// The name in OpenAI's Responses dialect of the answer to a call.
fn response_name(call: &str) -> String {
    format!("resp_{call}")
}

/// The answer that a request in OpenAI's Responses dialect goes on from.
fn previous_id(body: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Previous {
        previous_response_id: Option<String>,
    }
    serde_json::from_slice::<Previous>(body).ok()?.previous_response_id
}

/// Whether a body in Anthropic's dialect holds thinking that nobody signed, which Anthropic refuses: a provider of another
/// dialect made it, and the client sends it back.
fn has_unsigned(body: &[u8]) -> bool {
    memmem::find_iter(body, b"\"signature\"").any(|at| {
        let rest = body[at + b"\"signature\"".len()..].trim_ascii_start();
        rest.strip_prefix(b":").is_some_and(|rest| rest.trim_ascii_start().starts_with(b"\"\""))
    })
}

/// Reads a request of an inference dialect, or of one that counts for it.
pub(crate) fn decode(dialect: Dialect, body: &[u8]) -> Result<InferenceRequest, InvalidRequest> {
    match (dialect.codec(), dialect.operation()) {
        (Some(codec), _) => codec.decode_request(body),
        (None, Operation::Counting) => dialect.decode_count_request(body),
        (None, _) => Err(InvalidRequest::new("", "it is no inference")),
    }
}

// === impl RequestId ===

impl RequestId {
    const PREFIX: &'static str = "req_";

    /// A new one: `req_` and a UUID of version 7, so that they sort by time.
    #[allow(clippy::new_without_default)] // Each is another: there is no default one.
    pub fn new() -> Self {
        let mut text = [0; 32];
        Self(format!("{}{}", Self::PREFIX, Uuid::now_v7().simple().encode_lower(&mut text)).into())
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its text without the prefix, for names that have their own.
    pub(crate) fn unprefixed(&self) -> &str {
        self.0.strip_prefix(Self::PREFIX).unwrap_or(&self.0)
    }

    /// When it was made, in seconds since 1970, UTC: a UUID of version 7 begins with the milliseconds (RFC 9562, 5.7). It is by
    /// this time that a call is priced.
    pub fn unix_seconds(&self) -> u64 {
        let millis = self.unprefixed().get(..12).and_then(|digits| u64::from_str_radix(digits, 16).ok());
        millis.unwrap_or(0) / 1000
    }
}

impl Borrow<str> for RequestId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl CallerId ===

impl CallerId {
    /// A caller of this name.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CallerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
