//! Answers that are found by meaning: the last message in other words, and everything else the same.
//!
//! What else two calls must share is a [`Question`]'s bucket: a digest of all that is in the exact key but for the words of
//! the last message, so that no likeness reaches over callers, models, instructions, histories or parameters. In a bucket
//! the vectors are compared one by one, the newest [`limits::SEMANTIC_NEIGHBOURS_MAX`]. A vector lives as long as its entry,
//! whose weight it is part of.
//!
//! Likeness of vectors is blind for some of what turns a question into another ("17 times 23", "age >= 18", "C++", "not
//! allowed", "miles to kilometres"), so that numbers, signs, negations and the order of the same words must agree too.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use futures_util::future::BoxFuture;
use hoosh_core::limits;
use tokio::time::{Instant, timeout};

use super::key::Key;
use super::{SemanticSettings, Similarity};

/// Asks for the embedding of a text; `None` if there is none.
pub(crate) type Embed<'a> = &'a (dyn Fn(String) -> BoxFuture<'a, Option<Embedding>> + Send + Sync);

/// The embedding of a text, as its maker gave it.
pub(crate) struct Embedding {
    /// The provider and the model in its words: vectors of two do not compare.
    pub(crate) maker: String,
    pub(crate) numbers: Vec<f32>,
}

/// What a call asks, for whoever asked it in other words.
pub(crate) struct Question {
    /// What else must be the same.
    bucket: Key,
    text: String,
}

/// Where an entry is found by meaning.
pub(crate) struct Place {
    bucket: Key,
    /// Unit length.
    vector: Arc<[f32]>,
    wording: Wording,
}

/// A place that is taken, until [`Index::remove`].
pub(crate) struct Taken {
    bucket: Key,
    id: u64,
    dimensions: usize,
}

/// The words and signs of a text by their digests, to tell the same ones in another order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wording {
    in_order: u64,
    sorted: u64,
}

/// All places that are taken.
pub(crate) struct Index {
    pub(super) settings: SemanticSettings,
    buckets: RwLock<HashMap<Key, VecDeque<Neighbour>>>,
    ids: AtomicU64,
    /// Until when no embedding is asked for.
    resting: Mutex<Option<Instant>>,
}

/// An embedding that is waited for.
struct Waiting<'a> {
    index: &'a Index,
    /// From when on it is late; gone once it came, or its time was over.
    late: Option<Instant>,
}

struct Neighbour {
    id: u64,
    key: Key,
    vector: Arc<[f32]>,
    wording: Wording,
}

/// What a taken place takes beside its vector.
const OVERHEAD_BYTES: usize = size_of::<Neighbour>() + size_of::<Taken>() + 64;

/// What the cosine of two vectors of `f32` may be off by: equal ones come out as 0.9999999.
const ROUNDING: f32 = 1e-6;

// === impl Question ===

impl Question {
    /// What is asked by this text, where everything else is in the digest `rest`; `None` if it cannot be looked for.
    pub(super) fn new(text: String, rest: Key) -> Option<Self> {
        let is_fit = !text.trim().is_empty() && text.len() <= limits::SEMANTIC_TEXT_BYTES_MAX;
        is_fit.then(|| Self { bucket: rest.with(&fixed_points(&text)), text })
    }
}

/// What texts of the same meaning have in common, and vectors hardly show: their numbers and signs in order, so that each sign
/// belongs to its number, and whether there is a "not".
fn fixed_points(text: &str) -> Vec<u8> {
    let (mut points, mut is_number) = (String::new(), false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let was_number = std::mem::replace(&mut is_number, c.is_numeric());
        if is_number && !was_number {
            points.push(' ');
        }
        if is_number || is_sign(c, chars.peek().copied()) {
            points.push(c);
        }
    }
    let negations = words(text).filter(|word| is_negation(word)).count();
    points.push_str(&format!(";{negations}"));
    points.into_bytes()
}

/// Whether a character that this one follows says something by itself: operators, brackets, currencies, pictures.
///
/// Punctuation of sentences and quotes do not, but for what stands right before something: the one in `!=`, `1.5` or `a::b`.
/// Marks that scripts put on their letters do not either.
fn is_sign(c: char, next: Option<char>) -> bool {
    match c {
        '\'' | '"' | '`' => false,
        '.' | ',' | ';' | ':' | '!' | '?' => next.is_some_and(|next| {
            let ends =
                matches!(next, '.' | ',' | ';' | ':' | '!' | '?' | '\'' | '"' | '`' | '’' | '”' | '“' | '»');
            !ends && !next.is_whitespace()
        }),
        '\0'..='\u{7f}' => c.is_ascii_punctuation(),
        '¡' | '¿' | '«' | '»' | '´' | '·' => false,
        // Dashes between sentences, quotes, the ellipsis, and quotes with one point.
        '—' | '―' | '‘'..='‟' | '…' | '‹' | '›' => false,
        '，' | '．' | '：' | '；' | '！' | '？' | '＂' | '＇' | '｀' | '｡' | '､' | '｢' | '｣' => {
            false
        }
        // Quotes and stops of Chinese and Japanese are in the block before the brackets that mean something.
        '\u{3001}' | '\u{3002}' | '「'..='』' => false,
        '\u{a1}'..='\u{bf}' | '×' | '÷' => !c.is_alphanumeric(),
        // General punctuation, currencies, letterlike signs, arrows, mathematics, shapes, pictures.
        '\u{2010}'..='\u{2bff}'
        | '\u{3003}'..='\u{303f}'
        | '\u{ff01}'..='\u{ffee}'
        | '\u{1f000}'..='\u{1faff}' => !c.is_alphanumeric() && !c.is_whitespace(),
        _ => false,
    }
}

fn is_negation(word: &str) -> bool {
    const NEGATIONS: [&str; 8] = ["not", "no", "never", "none", "nor", "neither", "without", "cannot"];
    let is_short = |word: &str| word.ends_with("n't") || word.ends_with("n’t");
    NEGATIONS.iter().any(|negation| word.eq_ignore_ascii_case(negation))
        || is_short(&word.to_ascii_lowercase())
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && !matches!(c, '\'' | '’')).filter(|word| !word.is_empty())
}

/// All of them in their order, the words in small letters.
fn words_and_signs(text: &str) -> Vec<String> {
    let (mut found, mut word) = (Vec::new(), String::new());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c.is_alphanumeric() || matches!(c, '\'' | '’') {
            word.extend(c.to_lowercase());
            continue;
        }
        if !word.is_empty() {
            found.push(std::mem::take(&mut word));
        }
        if is_sign(c, chars.peek().copied()) {
            found.push(c.to_string());
        }
    }
    found.extend((!word.is_empty()).then_some(word));
    found
}

// === impl Wording ===

impl Wording {
    fn of(text: &str) -> Self {
        let digest = |words: &[String]| {
            let mut hasher = DefaultHasher::new();
            words.hash(&mut hasher);
            hasher.finish()
        };
        let mut words: Vec<String> = words_and_signs(text);
        let in_order = digest(&words);
        words.sort_unstable();
        Self { in_order, sorted: digest(&words) }
    }

    /// Whether both are the same in another order: who bites whom.
    fn is_reordered(self, other: Self) -> bool {
        self.sorted == other.sorted && self.in_order != other.in_order
    }
}

// === impl Place ===

impl Place {
    /// The place of a text with this embedding; `None` if that is no direction.
    fn of(question: &Question, embedding: &Embedding) -> Option<Self> {
        let vector = normalised(&embedding.numbers)?;
        // Two that have this in common compare.
        let maker = format!("{} {}", vector.len(), embedding.maker);
        let (bucket, wording) = (question.bucket.with(maker.as_bytes()), Wording::of(&question.text));
        Some(Self { bucket, vector, wording })
    }
}

/// The vector at length 1; `None` if it has no length, is endless or holds what is no number.
fn normalised(numbers: &[f32]) -> Option<Arc<[f32]>> {
    if numbers.is_empty() || numbers.len() > limits::SEMANTIC_DIMENSIONS_MAX {
        return None;
    }
    let length = numbers.iter().map(|number| f64::from(*number).powi(2)).sum::<f64>().sqrt();
    if !length.is_finite() || length <= f64::from(f32::MIN_POSITIVE) {
        return None;
    }
    Some(numbers.iter().map(|number| (f64::from(*number) / length) as f32).collect())
}

/// The cosine of two vectors of length 1.
fn cosine(one: &[f32], other: &[f32]) -> f32 {
    // Several sums at once, which the compiler makes vector instructions of.
    let mut sums = [0.0_f32; 16];
    let (ones, one_rest) = one.as_chunks::<16>();
    let (others, other_rest) = other.as_chunks::<16>();
    for (one, other) in ones.iter().zip(others) {
        for (sum, (one, other)) in sums.iter_mut().zip(one.iter().zip(other)) {
            *sum += one * other;
        }
    }
    let rest: f32 = one_rest.iter().zip(other_rest).map(|(one, other)| one * other).sum();
    sums.iter().sum::<f32>() + rest
}

// === impl Waiting ===

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // Whoever waited has given up. If that was because of this, the next one must not wait too.
        if self.late.is_some_and(|late| late <= Instant::now()) {
            self.index.rest();
        }
    }
}

// === impl Taken ===

impl Taken {
    /// The memory it takes.
    pub(super) fn weight(&self) -> usize {
        OVERHEAD_BYTES + self.dimensions * size_of::<f32>()
    }
}

// === impl Index ===

impl Index {
    pub(super) fn new(settings: SemanticSettings) -> Self {
        Self { settings, buckets: RwLock::default(), ids: AtomicU64::new(0), resting: Mutex::default() }
    }

    /// Where the answer to a question is to be looked for; an error if its embedding does not come, or is none.
    ///
    /// # Cancel safety
    ///
    /// One that is dropped when most of the embedding's time is over counts as one that did not come.
    pub(super) async fn place(
        &self,
        question: Question,
        deadline: Option<Instant>,
        embed: Embed<'_>,
    ) -> Result<Place, ()> {
        let now = Instant::now();
        if self.resting().is_some_and(|until| now < until) {
            return Err(());
        }
        let part = |deadline: Instant| deadline.saturating_duration_since(now) / limits::SEMANTIC_EMBED_PART;
        let most = limits::SEMANTIC_EMBED_TIME_MAX;
        let most = deadline.map_or(most, |deadline| most.min(part(deadline)));
        let mut waiting = Waiting { index: self, late: Some(now + most / 2) };
        let embedded = timeout(most, embed(question.text.clone())).await;
        waiting.late = None;
        match embedded {
            Ok(Some(embedding)) => {
                let place = Place::of(&question, &embedding);
                if place.is_none() {
                    tracing::warn!(maker = embedding.maker, "an embedding without a direction, or too long");
                }
                place.ok_or(())
            }
            // Why is in the log, by the call's own end.
            Ok(None) => Err(()),
            Err(_) => {
                tracing::warn!(
                    model = self.settings.model,
                    "no embedding in time; none is asked for a while"
                );
                self.rest();
                Err(())
            }
        }
    }

    /// Asks for no embedding for a while.
    fn rest(&self) {
        *self.resting.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Instant::now() + limits::SEMANTIC_REST);
    }

    fn resting(&self) -> Option<Instant> {
        *self.resting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keys of what was asked by the same meaning, the most alike first.
    pub(super) fn near(&self, place: &Place) -> Vec<(Key, Similarity)> {
        let mut near: Vec<(f32, Key)> = {
            let buckets = self.buckets();
            let neighbours = buckets.get(&place.bucket).into_iter().flatten();
            let alike = neighbours.filter_map(|neighbour| {
                let cosine = cosine(&neighbour.vector, &place.vector);
                let is_same = f64::from(cosine + ROUNDING) >= self.settings.threshold
                    && !neighbour.wording.is_reordered(place.wording);
                is_same.then(|| (cosine, neighbour.key.clone()))
            });
            alike.collect()
        };
        near.sort_by(|(one, _), (other, _)| other.total_cmp(one));
        near.into_iter().map(|(cosine, key)| (key, Similarity::of(cosine + ROUNDING))).collect()
    }

    /// The place that is taken for an entry, for another in its stead; `None` if it has been given back.
    pub(super) fn again(&self, taken: &Taken) -> Option<Place> {
        let buckets = self.buckets();
        let bucket = buckets.get(&taken.bucket)?;
        let at = bucket.binary_search_by_key(&taken.id, |neighbour| neighbour.id).ok()?;
        let Neighbour { vector, wording, .. } = bucket.get(at)?;
        Some(Place { bucket: taken.bucket.clone(), vector: Arc::clone(vector), wording: *wording })
    }

    /// Takes a place for the entry of this key. Where there are too many, the oldest is not found by meaning any more.
    pub(super) fn add(&self, place: Place, key: &Key) -> Taken {
        let dimensions = place.vector.len();
        let mut buckets = self.buckets_mut();
        // Under the lock, so that a bucket is in the order of their numbers.
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let neighbour = Neighbour { id, key: key.clone(), vector: place.vector, wording: place.wording };
        let bucket = buckets.entry(place.bucket.clone()).or_default();
        if bucket.len() >= limits::SEMANTIC_NEIGHBOURS_MAX {
            bucket.pop_front();
        }
        bucket.push_back(neighbour);
        Taken { bucket: place.bucket, id, dimensions }
    }

    /// Gives a place back.
    pub(super) fn remove(&self, taken: &Taken) {
        let mut buckets = self.buckets_mut();
        let Some(bucket) = buckets.get_mut(&taken.bucket) else { return };
        if let Ok(at) = bucket.binary_search_by_key(&taken.id, |neighbour| neighbour.id) {
            bucket.remove(at);
        }
        if bucket.is_empty() {
            buckets.remove(&taken.bucket);
        }
    }

    /// How many places are taken.
    pub(super) fn size(&self) -> usize {
        self.buckets().values().map(VecDeque::len).sum()
    }

    // Nothing is done under the lock that could end half way.

    fn buckets(&self) -> RwLockReadGuard<'_, HashMap<Key, VecDeque<Neighbour>>> {
        self.buckets.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn buckets_mut(&self) -> RwLockWriteGuard<'_, HashMap<Key, VecDeque<Neighbour>>> {
        self.buckets.write().unwrap_or_else(PoisonError::into_inner)
    }
}
