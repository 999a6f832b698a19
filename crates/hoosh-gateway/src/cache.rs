//! Answers that are given again: which calls may have one ([`ResponseCache::look`]), what is kept, and who waits for whom.
//!
//! A call has an answer of another if caller, dialect, model and all that the model is asked are the same: the [`key`]. An
//! entry is the bytes that its first caller got; a later one gets them byte for byte, or in the other form, whole or
//! streamed, through the dialect's own codec ([`entry`]). While a call is being answered, others of its key wait for it
//! ([`flight`]) instead of asking too. The duty to keep an answer goes with the call to its end ([`keeping`]).
//!
//! Names that a provider gave (`chatcmpl-…`, `msg_…`, `resp_…`) are those of the first answer, in every form: an entry is
//! its caller's own, and in the Responses dialect the name leads to the conversation that the caller goes on from.
//! `x-request-id` is every call's own.
//!
//! With an embeddings model, a call without such an answer may have that to the same question in other words ([`semantic`]).
//!
//! Whoever waits sees nothing of a stream before its end, and waits on a client that reads slowly, within the bounds in
//! [`limits`].

mod entry;
mod flight;
mod keeping;
mod key;
mod semantic;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hoosh_core::dialect::{Apart, Canonical, Operation};
use hoosh_core::limits;
use moka::Expiry;
use moka::notification::RemovalCause;
use tokio::time::timeout;

use self::entry::Entry;
use self::flight::{Flights, Joined, Landing, landed};
pub(crate) use self::keeping::Keeping;
use self::key::Key;
pub(crate) use self::semantic::{Embed, Embedding};
use self::semantic::{Index, Question};
use crate::call::{Call, CallerId};
use crate::lane::AnswerBody;

/// Which answers are kept, and for how long.
#[derive(Debug, Clone, PartialEq)]
pub struct CacheSettings {
    /// How long an answer is given again.
    pub ttl: Duration,
    /// The same for answers of single providers, by name. Zero: none of theirs is kept.
    pub provider_ttls: HashMap<String, Duration>,
    /// Memory for all answers together. Unit: bytes.
    pub bytes_max: u64,
    /// Whether calls that offer tools, and answers that call one, are cached too.
    pub tool_calls: bool,
    /// Whether calls are cached that leave the model a choice: with a temperature above 0, or with none, which most
    /// providers take for 1. Without it only those that say `temperature: 0`.
    pub any_temperature: bool,
    /// Whether an answer to the same question in other words will do; `None`: it will not.
    pub semantic: Option<SemanticSettings>,
}

/// When two questions in other words count as one.
#[derive(Debug, Clone, PartialEq)]
pub struct SemanticSettings {
    /// The model of embeddings, by any name that it can be asked by.
    pub model: String,
    /// The cosine of their vectors from which they do, from 0 to 1. See [`limits::SEMANTIC_THRESHOLD`] for the default.
    pub threshold: f64,
}

/// How alike two questions are: the cosine of their vectors, rounded down to hundredths so that 1.00 is only what is equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Similarity(u8);

/// What a caller wants of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheControl {
    /// Whether a kept answer will do.
    pub read: bool,
    /// Whether the answer may be kept.
    pub write: bool,
    /// The oldest answer that will do; `None`: any that is kept.
    pub age_max: Option<Duration>,
}

/// What the cache did for a call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CacheUse {
    /// There is none, or the call did not come so far.
    #[default]
    Off,
    /// It is no call to be cached, or its caller does not want that.
    Bypass,
    /// There was no answer; the one that came may be kept.
    Miss,
    /// The answer is one that was given before, or to another call at the same time.
    Hit,
    /// The answer is one that was given before to the same question in other words, this much alike.
    Semantic(Similarity),
}

/// What the cache holds and did so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Answers kept.
    pub entries: u64,
    /// Memory they take. Unit: bytes.
    pub bytes: u64,
    /// Calls that were given a kept answer, those that waited for it among them.
    pub hits: u64,
    /// Calls that were given the answer to the same question in other words.
    pub semantic_hits: u64,
    /// Answers that can be found so.
    pub semantic_entries: u64,
    /// Embeddings for that which did not come, or not in time. Their calls are among the misses.
    pub embeddings_failed: u64,
    /// Calls that could have had one and found none.
    pub misses: u64,
    /// Calls that could not have one.
    pub bypassed: u64,
    /// Calls that waited for the same call of another.
    pub waits: u64,
    /// Answers let go of for want of room.
    pub evictions: u64,
}

/// The answers kept, and the calls that are being answered.
///
/// It may be given to several gateways: whoever asks is part of what an answer is kept under.
pub struct ResponseCache {
    settings: CacheSettings,
    entries: moka::sync::Cache<Key, Arc<Entry>>,
    /// Where they are found by meaning.
    semantic: Option<Arc<Index>>,
    flights: Arc<Flights>,
    /// How often each caller has purged: an answer that was asked for before must not be kept after. Callers are as many
    /// as there are tokens.
    purges: Mutex<HashMap<CallerId, u64>>,
    /// Bytes of the answers that are still coming; together they may be as many as those kept.
    coming: AtomicU64,
    counters: Arc<Counters>,
}

/// What a look into the cache comes to.
pub(crate) enum Looked {
    /// The call is none for the cache.
    Bypass,
    /// An answer.
    Found(Found),
    /// The call is to be asked, and its answer told here.
    Ask(Box<Keeping>),
}

/// A kept answer in the form that a call wants.
pub(crate) struct Found {
    pub(crate) entry: Arc<Entry>,
    pub(crate) body: AnswerBody,
    pub(crate) age: Duration,
    /// How alike the questions are, where they are not the same.
    pub(crate) similarity: Option<Similarity>,
}

#[derive(Default)]
struct Counters {
    hits: AtomicU64,
    semantic_hits: AtomicU64,
    embeddings_failed: AtomicU64,
    misses: AtomicU64,
    bypassed: AtomicU64,
    waits: AtomicU64,
    evictions: AtomicU64,
}

/// Lets each entry live for its own time.
struct Lifetime;

// === impl ResponseCache ===

impl ResponseCache {
    /// An empty one.
    pub fn new(settings: CacheSettings) -> Self {
        Self::counted(settings, Arc::default())
    }

    /// An empty one that counts on from another, whose answers the new configuration might not have given.
    pub fn after(before: &Self, settings: CacheSettings) -> Self {
        Self::counted(settings, Arc::clone(&before.counters))
    }

    fn counted(settings: CacheSettings, counters: Arc<Counters>) -> Self {
        let counted = Arc::clone(&counters);
        let semantic = settings.semantic.clone().map(|settings| Arc::new(Index::new(settings)));
        let index = semantic.clone();
        let entries = moka::sync::Cache::builder()
            .max_capacity(settings.bytes_max)
            .weigher(|_, entry: &Arc<Entry>| entry.weight())
            .expire_after(Lifetime)
            .eviction_listener(move |_, entry, cause| {
                if let (Some(index), Some(taken)) = (&index, &entry.taken) {
                    index.remove(taken);
                }
                if cause == RemovalCause::Size {
                    add(&counted.evictions);
                }
            })
            .build();
        let (flights, purges, coming) = (Arc::default(), Mutex::default(), AtomicU64::new(0));
        Self { settings, entries, semantic, flights, purges, coming, counters }
    }

    /// Looks for an answer to a call; one that is being asked for is waited for. Where none is found and answers are also
    /// found by meaning, it has the question embedded by `embed`, for a part of the time until the call's `deadline` at most.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves nothing behind.
    pub(crate) async fn look(
        self: &Arc<Self>,
        call: &Call,
        deadline: Option<tokio::time::Instant>,
        embed: Embed<'_>,
    ) -> Looked {
        let looked = match self.settings.identify(call) {
            Some((key, question)) => match self.look_for(key, call).await {
                Looked::Ask(keeping) => self.look_alike(keeping, question, call, deadline, embed).await,
                looked => looked,
            },
            None => Looked::Bypass,
        };
        add(match &looked {
            Looked::Bypass => &self.counters.bypassed,
            Looked::Found(Found { similarity: Some(_), .. }) => &self.counters.semantic_hits,
            Looked::Found(_) => &self.counters.hits,
            Looked::Ask(_) => &self.counters.misses,
        });
        looked
    }

    /// Looks for the answer to the same question in other words, before it is asked.
    async fn look_alike(
        &self,
        mut keeping: Box<Keeping>,
        question: Option<Question>,
        call: &Call,
        deadline: Option<tokio::time::Instant>,
        embed: Embed<'_>,
    ) -> Looked {
        let (Some(index), Some(question)) = (&self.semantic, question) else { return Looked::Ask(keeping) };
        let Ok(place) = index.place(question, deadline, embed).await else {
            add(&self.counters.embeddings_failed);
            return Looked::Ask(keeping);
        };
        for (key, similarity) in index.near(&place) {
            if let Some(found) = self.find(&key, call) {
                keeping.found(&found.entry, similarity);
                return Looked::Found(Found { similarity: Some(similarity), ..found });
            }
        }
        keeping.place = Some(place);
        Looked::Ask(keeping)
    }

    async fn look_for(self: &Arc<Self>, key: Key, call: &Call) -> Looked {
        // Whoever wants a fresh answer shares none that another asked for before, and whoever wants none to be kept asks
        // for nobody else.
        if !call.cache.read || !call.cache.write {
            let found = if call.cache.read { self.find(&key, call) } else { None };
            return found.map_or_else(|| Looked::Ask(self.alone(key, call)), Looked::Found);
        }
        let (mut failures, mut has_waited) = (0, false);
        loop {
            if let Some(found) = self.find(&key, call) {
                return Looked::Found(found);
            }
            let purges = self.purges_of(&call.caller);
            let flight = match self.flights.join(&key, purges, call.tier) {
                Joined::Lead(lead) => {
                    // Another may have landed since the look; dropping the lead lets those who wait already look too.
                    return match self.find(&key, call) {
                        Some(found) => Looked::Found(found),
                        None => Looked::Ask(Keeping::new(Arc::clone(self), key, call, Some(lead), purges)),
                    };
                }
                Joined::Wait(flight) => flight,
            };
            if !std::mem::replace(&mut has_waited, true) {
                add(&self.counters.waits);
            }
            match timeout(limits::CACHE_WAIT_TIME_MAX, landed(flight)).await {
                Ok(Some(Landing::Answer(entry))) => {
                    if let Some(found) = Found::of(entry, call) {
                        return Looked::Found(found);
                    }
                }
                // Made at any time before, where the answer above was made while this call waited.
                Ok(Some(Landing::Alike(entry, similarity))) if will_do(&entry, call) => {
                    if let Some(found) = Found::of(entry, call) {
                        return Looked::Found(Found { similarity: Some(similarity), ..found });
                    }
                }
                Ok(Some(Landing::Failed)) => {
                    failures += 1;
                    if failures < limits::CACHE_FAILURES_WAITED_MAX {
                        continue;
                    }
                }
                // Its client left, so that one of those who wait takes over.
                Ok(None) => continue,
                // No answer that can be shared or will do, or one that takes too long.
                Ok(Some(Landing::Alike(..) | Landing::Unkept)) | Err(_) => {}
            }
            return Looked::Ask(self.alone(key, call));
        }
    }

    /// The answer that is kept for a call, if there is one that will do.
    fn find(&self, key: &Key, call: &Call) -> Option<Found> {
        let entry = self.entries.get(key)?;
        // The key holds the caller; this is so that a fault there could not show one caller's answer to another.
        (will_do(&entry, call) && entry.caller == call.caller).then(|| Found::of(entry, call))?
    }

    /// For a call that nobody waits for.
    fn alone(self: &Arc<Self>, key: Key, call: &Call) -> Box<Keeping> {
        Keeping::new(Arc::clone(self), key, call, None, self.purges_of(&call.caller))
    }

    /// Keeps an answer that was asked for when its caller had purged this often.
    fn keep(&self, key: &Key, entry: &Arc<Entry>, purges: u64) {
        // Held until it is in, so that no purge comes between.
        let purged = self.purges();
        if purged.get(&entry.caller).copied().unwrap_or(0) == purges {
            self.entries.insert(key.clone(), Arc::clone(entry));
        } else if let (Some(index), Some(taken)) = (&self.semantic, &entry.taken) {
            index.remove(taken);
        }
    }

    /// Lets go of a caller's answers, all or those to one model by the name that was asked for; how many they were. An answer
    /// that is still being asked for is not kept either.
    ///
    /// It is the caller's own ones because there is nobody yet who may do more than others.
    pub fn purge(&self, caller: &CallerId, model: Option<&str>) -> usize {
        let mut purges = self.purges();
        *purges.entry(caller.clone()).or_default() += 1;
        let is_meant =
            |entry: &Entry| entry.caller == *caller && model.is_none_or(|model| model == entry.model_asked);
        let meant = self.entries.iter().filter(|(_, entry)| is_meant(entry));
        let keys: Vec<Arc<Key>> = meant.map(|(key, _)| key).collect();
        keys.iter().for_each(|key| self.entries.invalidate(key.as_ref()));
        keys.len()
    }

    /// Whether the answer to a call is kept, for whoever has asked for it so that it is.
    pub fn has(&self, call: &Call) -> bool {
        // What is due is done first: what is too large for all of it is let go of then.
        self.entries.run_pending_tasks();
        self.settings.identify(call).is_some_and(|(key, _)| self.entries.contains_key(&key))
    }

    /// How answers are found by meaning, if they are.
    pub(crate) fn semantic(&self) -> Option<&SemanticSettings> {
        self.settings.semantic.as_ref()
    }

    /// What it holds and did so far.
    pub fn stats(&self) -> CacheStats {
        // What is due is done first: the numbers are else those of a moment ago.
        self.entries.run_pending_tasks();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CacheStats {
            entries: self.entries.entry_count(),
            bytes: self.entries.weighted_size(),
            hits: read(&self.counters.hits),
            semantic_hits: read(&self.counters.semantic_hits),
            semantic_entries: self.semantic.as_ref().map_or(0, |index| index.size() as u64),
            embeddings_failed: read(&self.counters.embeddings_failed),
            misses: read(&self.counters.misses),
            bypassed: read(&self.counters.bypassed),
            waits: read(&self.counters.waits),
            evictions: read(&self.counters.evictions),
        }
    }

    fn purges_of(&self, caller: &CallerId) -> u64 {
        self.purges().get(caller).copied().unwrap_or(0)
    }

    fn purges(&self) -> MutexGuard<'_, HashMap<CallerId, u64>> {
        // A number cannot be left half written.
        self.purges.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ResponseCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ResponseCache({} kept)", self.entries.entry_count())
    }
}

/// Whether an answer is young enough for a call.
fn will_do(entry: &Entry, call: &Call) -> bool {
    call.cache.age_max.is_none_or(|most| entry.age() <= most)
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

// === impl Found ===

impl Found {
    /// What the cache did for the call that is given it.
    pub(crate) fn cache_use(&self) -> CacheUse {
        self.similarity.map_or(CacheUse::Hit, CacheUse::Semantic)
    }

    /// An entry for a call; `None` if it cannot be brought into the form that the call wants.
    fn of(entry: Arc<Entry>, call: &Call) -> Option<Self> {
        let (body, age) = (entry.body_for(call)?, entry.age());
        Some(Self { entry, body, age, similarity: None })
    }
}

// === impl Lifetime ===

impl Expiry<Key, Arc<Entry>> for Lifetime {
    fn expire_after_create(&self, _: &Key, entry: &Arc<Entry>, _: Instant) -> Option<Duration> {
        Some(entry.ttl)
    }

    fn expire_after_update(
        &self,
        _: &Key,
        entry: &Arc<Entry>,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(entry.ttl)
    }
}

// === impl CacheSettings ===

impl CacheSettings {
    /// Whether the answer to a call may be kept, as far as the call says it.
    pub fn can_keep(&self, call: &Call) -> bool {
        self.identify(call).is_some_and(|_| call.cache.write)
    }

    /// What a call is kept under, and what it asks in other words; `None` for one that is not to be cached.
    fn identify(&self, call: &Call) -> Option<(Key, Option<Question>)> {
        if !call.cache.read && !call.cache.write || call.body.len() > limits::CACHED_REQUEST_BYTES_MAX {
            return None;
        }
        let operation = call.dialect.operation();
        if !matches!(operation, Operation::Inference | Operation::Embedding) {
            return None; // what is counted costs nothing, what is only passed through is not understood
        }
        // Whoever wants a fresh answer wants none to a question in other words either.
        let is_semantic = self.semantic.is_some()
            && !call.by_words_alone
            && operation == Operation::Inference
            && call.cache.read
            && call.cache.write;
        let (asked, apart) = if is_semantic {
            Canonical::read_apart(call.dialect, &call.body)?
        } else {
            (Canonical::read(call.dialect, &call.body)?, None)
        };
        if operation == Operation::Inference && !self.allow(&asked) {
            return None;
        }
        let question = apart.and_then(|Apart { text, rest }| Question::new(text, Key::of(call, &rest)));
        Some((Key::of(call, &asked.text), question))
    }

    /// Whether an inference may be cached.
    ///
    /// More than one answer is asked for to see different ones, so these are asked for anew each time.
    fn allow(&self, asked: &Canonical) -> bool {
        (self.any_temperature || asked.temperature == Some(0.0))
            && (self.tool_calls || !asked.offers_tools)
            && asked.choices == 1
            && !asked.has_state
    }

    /// How long an answer of that provider is given again.
    fn ttl_of(&self, provider: &str) -> Duration {
        self.provider_ttls.get(provider).copied().unwrap_or(self.ttl)
    }
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self {
            ttl: limits::CACHE_AGE_MAX,
            provider_ttls: HashMap::new(),
            bytes_max: limits::CACHE_BYTES_MAX,
            tool_calls: false,
            any_temperature: false,
            semantic: None,
        }
    }
}

// === impl CacheControl ===

impl CacheControl {
    /// Any answer will do, and may be kept.
    pub const ANY: Self = Self { read: true, write: true, age_max: None };

    /// Reads the values of `Cache-Control` headers of a request; what they say of other things is not for us.
    ///
    /// `no-store` neither reads nor keeps, `no-cache` does not read, `max-age` reads what is that many seconds old at most
    /// (RFC 9111, 5.2.1).
    pub fn parse<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        let mut control = Self::ANY;
        for directive in values.into_iter().flat_map(|value| value.split(',')) {
            let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
            match name.trim().to_ascii_lowercase().as_str() {
                "no-store" => (control.read, control.write) = (false, false),
                "no-cache" => control.read = false,
                "max-age" => {
                    // An age that cannot be read must not let a stale answer through (RFC 9111, 4.2.1).
                    let seconds = value.trim().trim_matches('"').parse().unwrap_or(0);
                    let age = Duration::from_secs(seconds);
                    control.age_max = Some(control.age_max.map_or(age, |before| before.min(age)));
                }
                _ => {}
            }
        }
        control
    }
}

impl Default for CacheControl {
    fn default() -> Self {
        Self::ANY
    }
}

// === impl CacheUse ===

impl CacheUse {
    /// One word for headers, logs and metrics; `None` where there is no cache.
    pub fn as_str(self) -> Option<&'static str> {
        match self {
            Self::Off => None,
            Self::Bypass => Some("bypass"),
            Self::Miss => Some("miss"),
            Self::Hit => Some("hit"),
            Self::Semantic(_) => Some("semantic"),
        }
    }

    /// How alike the questions are, where the answer was given to another.
    pub fn similarity(self) -> Option<Similarity> {
        if let Self::Semantic(similarity) = self { Some(similarity) } else { None }
    }

    /// Whether the answer was given before, so that nobody is asked and nothing is paid.
    pub fn is_again(self) -> bool {
        matches!(self, Self::Hit | Self::Semantic(_))
    }
}

// === impl Similarity ===

impl Similarity {
    fn of(cosine: f32) -> Self {
        // At most 100, and what is no number is 0.
        Self((cosine.clamp(0.0, 1.0) * 100.0) as u8)
    }

    /// From 0 to 1.
    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / 100.0
    }
}

impl fmt::Display for Similarity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2}", self.as_f64())
    }
}

#[cfg(test)]
mod tests;
