//! The duty to keep an answer that is being asked for, and to tell those who wait for it how that ended.
//!
//! It goes where the call's settlement goes, so that every end of a call is an end here too.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use hoosh_core::dialect::Dialect;
use hoosh_core::limits;
use tokio::time::Instant;

use super::entry::{Entry, Form, is_worth_keeping};
use super::flight::{Landing, Lead};
use super::key::Key;
use super::semantic::Place;
use super::{ResponseCache, Similarity};
use crate::call::Call;
use crate::settle::{CallRecord, Outcome};

pub(crate) struct Keeping {
    cache: Arc<ResponseCache>,
    key: Key,
    dialect: Dialect,
    form: Form,
    /// For those who wait; `None` if nobody can, because the call goes its own way.
    lead: Option<Lead>,
    /// How often its caller had purged when it was asked.
    purges: u64,
    /// The answer so far; `None` if it is not to be kept, or too long.
    bytes: Option<Vec<u8>>,
    /// Whether the caller is told what could not be carried.
    pub(crate) tells_notes: bool,
    /// Where the answer will be found by meaning.
    pub(super) place: Option<Place>,
}

impl Keeping {
    pub(super) fn new(
        cache: Arc<ResponseCache>,
        key: Key,
        call: &Call,
        lead: Option<Lead>,
        purges: u64,
    ) -> Box<Self> {
        Box::new(Self {
            cache,
            key,
            dialect: call.dialect,
            form: Form::of(call),
            lead,
            purges,
            bytes: call.cache.write.then(Vec::new),
            tells_notes: true,
            place: None,
        })
    }

    /// Nothing is asked: an answer to the same question in other words is given, also to those who wait.
    pub(super) fn found(mut self, entry: &Arc<Entry>, similarity: Similarity) {
        if let Some(lead) = self.lead.take() {
            lead.land(Landing::Alike(Arc::clone(entry), similarity));
        }
    }

    /// Takes what the caller is given.
    pub(crate) fn take(&mut self, given: &Bytes) {
        let Some(bytes) = &mut self.bytes else { return };
        let coming = &self.cache.coming;
        let of_all = coming.fetch_add(given.len() as u64, Ordering::Relaxed) + given.len() as u64;
        bytes.extend_from_slice(given);
        if bytes.len() > limits::CACHED_ANSWER_BYTES_MAX || of_all > self.cache.settings.bytes_max {
            self.let_go();
        }
    }

    /// Gives up what came so far.
    fn let_go(&mut self) {
        if let Some(bytes) = self.bytes.take() {
            self.cache.coming.fetch_sub(bytes.len() as u64, Ordering::Relaxed);
        }
    }

    /// Takes the end of the call, of which this is the record.
    pub(crate) fn end(mut self, record: &CallRecord) {
        let landing = match record.outcome {
            Outcome::Answered => match self.entry(record) {
                Some(entry) => {
                    // First kept and then told: whoever looks in between finds it.
                    self.cache.keep(&self.key, &entry, self.purges);
                    Landing::Answer(entry)
                }
                None => Landing::Unkept,
            },
            // A part of an answer is for nobody else.
            Outcome::Cut => Landing::Unkept,
            Outcome::Failed(_) | Outcome::Truncated(_) => Landing::Failed,
            // Says nothing of the answer: the lead is dropped, and one of those who wait takes over.
            Outcome::Cancelled | Outcome::Stopped => return,
        };
        if let Some(lead) = self.lead.take() {
            lead.land(landing);
        }
    }

    /// The answer as an entry, if it is one to be kept.
    fn entry(&mut self, record: &CallRecord) -> Option<Arc<Entry>> {
        let mut place = self.place.take();
        let (bytes, provider) = (self.bytes.as_deref()?, record.provider.clone()?);
        let settings = &self.cache.settings;
        let ttl = settings.ttl_of(&provider);
        if ttl.is_zero() || !is_worth_keeping(self.dialect, self.form, bytes, settings) {
            return None;
        }
        let model = record.model_used.clone()?;
        if place.is_none()
            && let Some(index) = &self.cache.semantic
        {
            // An answer that was asked for anew is to the same words, and is found where the one before it is.
            let before = self.cache.entries.get(&self.key);
            place = before.and_then(|before| index.again(before.taken.as_ref()?));
        }
        // Before it is kept: what is let go of gives its place back. Until then nothing is found there.
        let taken = self.cache.semantic.as_ref().zip(place).map(|(index, place)| index.add(place, &self.key));
        Some(Arc::new(Entry {
            caller: record.caller.clone(),
            model_asked: record.model_asked.clone(),
            provider,
            model,
            usage: record.usage,
            notes: record.notes.clone(),
            tells_notes: self.tells_notes,
            context: record.context.clone(),
            form: self.form,
            body: Bytes::copy_from_slice(bytes),
            since: Instant::now(),
            ttl,
            taken,
        }))
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        self.let_go();
    }
}
