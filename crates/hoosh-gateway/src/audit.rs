//! What the audit log has of a call: one record, opened at the door and written once.
//!
//! Whoever takes a request in [opens](Audit::open) a [`Trail`]; all who work on it add what they know; who ends it
//! [closes](Trail::close) it. If nobody does, it is written when the last of them lets go of it, so that a call which is dropped, or
//! whose handler panics, leaves its record too.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hoosh_audit::{
    AppendError, Aside, AuditLog, CallEntry, ContentDigest, Entry, Fsync, LegEntry, Salt, Slot, Written,
};
use hoosh_core::pattern::Index;
use hoosh_core::{HooshError, Problem, ProblemKind, limits};
use tokio::time::Instant;

use crate::call::{Call, RequestId};
use crate::settle::{CallRecord, Outcome};

/// The error of a call whose task panicked and that nobody above could answer, the same as where somebody could.
const INTERNAL_ERROR: &str = "internal_error";

/// Where calls are written down, and what of them.
#[derive(Debug)]
pub struct Audit {
    log: Arc<AuditLog>,
    /// Models whose calls' texts are kept.
    texts: Option<Arc<Index<()>>>,
    /// The configuration that calls are answered by.
    config: Option<String>,
    waits: bool,
}

/// The record of one request, until it is written. Cheap to clone.
#[derive(Clone)]
pub struct Trail(Arc<Shared>);

struct Shared {
    open: Mutex<Option<Open>>,
    texts: Option<Arc<Index<()>>>,
    waits: bool,
}

/// What of a record is known so far.
struct Open {
    slot: Slot,
    kind: TrailKind,
    entry: Box<CallEntry>,
    salt: Salt,
    start: Instant,
    answer: Option<ContentDigest>,
    /// The texts themselves, where they are kept: what was asked, what was answered so far.
    texts: Option<(String, Vec<u8>)>,
    is_settled: bool,
}

/// What a request is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum TrailKind {
    /// A call of a model.
    #[default]
    Call,
    /// A question to the gateway itself.
    Request,
    /// Something that only who runs the gateway may do.
    Admin,
}

// === impl Audit ===

impl Audit {
    /// Writes to this log.
    pub fn new(log: Arc<AuditLog>, fsync: Fsync) -> Self {
        Self { log, texts: None, config: None, waits: fsync == Fsync::Always }
    }

    /// Keeps the texts of calls that ask for these models beside the log.
    #[must_use]
    pub fn texts<'a>(mut self, models: impl IntoIterator<Item = &'a str>) -> Self {
        let models: Vec<_> = models.into_iter().map(|pattern| (pattern, ())).collect();
        self.texts = (!models.is_empty()).then(|| Arc::new(Index::new(models)));
        self
    }

    /// Says in each record by which configuration it was answered.
    #[must_use]
    pub fn configuration(mut self, hash: impl Into<String>) -> Self {
        self.config = Some(hash.into());
        self
    }

    /// The log.
    pub fn log(&self) -> &Arc<AuditLog> {
        &self.log
    }

    /// Opens the record of a request, before anything is done about it. It may have to wait until there is room for it.
    ///
    /// # Errors
    ///
    /// [`HooshError::Unrecorded`] if no record can be written: then nothing is to be done about it.
    pub async fn open(&self, id: &RequestId, kind: TrailKind) -> Result<Trail, HooshError> {
        let unrecorded = |error: AppendError| HooshError::Unrecorded(error.to_string());
        let slot = self.log.slot().await.map_err(unrecorded)?;
        let salt = Salt::draw().map_err(|error| HooshError::Unrecorded(error.to_string()))?;
        let entry = CallEntry {
            caller: "unknown".to_owned(),
            config: self.config.clone(),
            request_id: id.as_str().to_owned(),
            ..CallEntry::default()
        };
        let open = Open {
            slot,
            kind,
            entry: Box::new(entry),
            salt,
            start: Instant::now(),
            answer: None,
            texts: None,
            is_settled: false,
        };
        let (texts, waits) = (self.texts.clone(), self.waits);
        Ok(Trail(Arc::new(Shared { open: Mutex::new(Some(open)), texts, waits })))
    }
}

// === impl Trail ===

impl Trail {
    /// Where it came in.
    pub fn at(&self, method: &str, path: &str) {
        self.with(|open| {
            open.entry.method = Some(method.to_owned());
            open.entry.path = Some(path.to_owned());
        });
    }

    /// Whose it is.
    pub fn of(&self, caller: &str) {
        self.with(|open| caller.clone_into(&mut open.entry.caller));
    }

    /// Something else there is to say of it: `key`, `lease`.
    pub fn detail(&self, name: &str, value: impl Into<String>) {
        self.with(|open| open.entry.detail.insert(name.to_owned(), value.into()));
    }

    /// What was sent, where it is no call.
    pub fn sent(&self, body: &[u8]) {
        self.with(|open| open.entry.request = Some(open.salt.content(body)));
    }

    /// With which status it was answered, and with which error: the code that the caller was told. Of a call that was settled the
    /// status alone is new.
    pub fn answered(&self, status: u16, error: Option<&Problem>) {
        self.with(|open| {
            open.entry.status = Some(status);
            if open.is_settled {
                return;
            }
            open.entry.outcome = match error.map(|problem| problem.kind) {
                None => hoosh_audit::Outcome::Answered,
                Some(kind) => outcome_of(kind),
            };
            open.entry.error = error.map(|problem| problem.code.as_ref().to_owned());
        });
    }

    /// It is over: it is written down as it is known now. Again, it does nothing.
    pub fn close(&self) {
        if let Some(open) = self.lock().take() {
            let (slot, entry, aside) = open.finish();
            slot.close(entry, Some(aside));
        }
    }

    /// The same. Where an answer must not end before its record is where it outlives the process, what to wait for.
    pub(crate) fn close_durably(&self) -> Option<Written> {
        let open = self.lock().take()?;
        let (slot, entry, aside) = open.finish();
        if !self.0.waits {
            slot.close(entry, Some(aside));
            return None;
        }
        Some(slot.close_durably(entry, Some(aside)))
    }

    /// Whether an answer must not end before its record is where it outlives the process.
    pub(crate) fn waits(&self) -> bool {
        self.0.waits
    }

    /// What the call asks for.
    pub(crate) fn asks(&self, call: &Call) {
        let text = |text: &str| Some(text.to_owned());
        let model = &call.head.model;
        let mut is_kept = false;
        if let Some(models) = &self.0.texts {
            models.find(model, |_, ()| is_kept = true);
        }
        self.with(|open| {
            let entry = &mut open.entry;
            call.caller.as_str().clone_into(&mut entry.caller);
            entry.dialect = text(call.dialect.as_str());
            entry.model_asked = text(model);
            entry.stream = call.head.stream;
            entry.request = Some(open.salt.content(&call.body));
            open.answer = Some(open.salt.digest());
            open.texts = is_kept.then(|| (String::from_utf8_lossy(&call.body).into_owned(), Vec::new()));
        });
    }

    /// The caller is given these bytes of the answer.
    pub(crate) fn gives(&self, bytes: &Bytes) {
        self.with(|open| {
            if let Some(answer) = &mut open.answer {
                answer.update(bytes);
            }
            if let Some((_, kept)) = &mut open.texts {
                let room = limits::AUDIT_TEXT_BYTES_MAX.saturating_sub(kept.len());
                kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
        });
    }

    /// How the call ended. What comes after that is no more than the status.
    pub(crate) fn settled(&self, record: &CallRecord) {
        self.with(|open| {
            open.is_settled = true;
            let entry = &mut open.entry;
            (entry.outcome, entry.error) = outcome(&record.outcome);
            entry.attempts = record.attempts as u64;
            entry.cost_nano_usd = record.cost;
            entry.provider.clone_from(&record.provider);
            entry.model.clone_from(&record.model_used);
            entry.usage = record.usage.filter(|_| !record.cache.is_again());
            entry.decision = (record.attempts > 0).then(|| record.id.as_str().to_owned());
            if let Some(cache) = record.cache.as_str() {
                entry.detail.insert("cache".to_owned(), cache.to_owned());
            }
            let legs = record.legs.iter().map(|leg| LegEntry {
                cost_nano_usd: leg.cost,
                kind: leg.kind.as_str().to_owned(),
                model: leg.model.clone(),
                provider: leg.provider.clone(),
                tokens: leg.usage.map(|usage| usage.total()),
            });
            entry.legs = legs.collect();
            if matches!(record.outcome, Outcome::Answered | Outcome::Cut) {
                entry.status = Some(200);
            }
        });
    }

    fn with<T>(&self, act: impl FnOnce(&mut Open) -> T) {
        if let Some(open) = &mut *self.lock() {
            act(open);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Trail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trail").field("is_open", &self.lock().is_some()).finish_non_exhaustive()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let open = self.open.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut open) = open {
            if std::thread::panicking() && !open.is_settled {
                open.entry.outcome = hoosh_audit::Outcome::Failed;
                open.entry.error = Some(INTERNAL_ERROR.to_owned());
            }
            let (slot, entry, aside) = open.finish();
            slot.close(entry, Some(aside));
        }
    }
}

// === impl Open ===

impl Open {
    fn finish(self) -> (Slot, Entry, Aside) {
        let Self { slot, kind, mut entry, salt, start, answer, texts, .. } = self;
        entry.duration_ms = millis(start.elapsed());
        entry.answer = answer.map(ContentDigest::finish).filter(|content| content.bytes > 0);
        // An answer that was not kept as a whole is none whose digest it has.
        let whole =
            |kept: &Vec<u8>| entry.answer.as_ref().is_some_and(|content| content.bytes == kept.len() as u64);
        let (request, answer) = match texts {
            Some((request, kept)) => {
                (Some(request), whole(&kept).then(|| String::from_utf8(kept).ok()).flatten())
            }
            None => (None, None),
        };
        let entry = match kind {
            TrailKind::Call if entry.outcome == hoosh_audit::Outcome::Refused => Entry::Refused(entry),
            TrailKind::Call => Entry::Call(entry),
            TrailKind::Request => Entry::Request(entry),
            TrailKind::Admin => Entry::Admin(entry),
        };
        (slot, entry, Aside { salt, request, answer })
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// How a call ended, in the log's words.
fn outcome(outcome: &Outcome) -> (hoosh_audit::Outcome, Option<String>) {
    use hoosh_audit::Outcome as Written;
    match outcome {
        Outcome::Answered => (Written::Answered, None),
        Outcome::Failed(error) => {
            let problem = Problem::from(error);
            (outcome_of_error(error, &problem), Some(problem.code.into_owned()))
        }
        Outcome::Truncated(failure) => (Written::Truncated, Some(failure.kind.as_str().to_owned())),
        // The answer is whole as far as its caller is concerned: as long as it may be.
        Outcome::Cut => (Written::Answered, Some("budget".to_owned())),
        Outcome::Cancelled => (Written::Cancelled, None),
        Outcome::Stopped => (Written::Cancelled, Some("gateway_stopped".to_owned())),
    }
}

/// Whether a call was turned away by us, or nobody could answer it.
fn outcome_of_error(error: &HooshError, problem: &Problem) -> hoosh_audit::Outcome {
    match error {
        HooshError::Upstream(_) | HooshError::Resting { .. } | HooshError::Deadline(_) => {
            hoosh_audit::Outcome::Failed
        }
        _ => outcome_of(problem.kind),
    }
}

/// The same of what is no call, or never was one.
fn outcome_of(kind: ProblemKind) -> hoosh_audit::Outcome {
    match kind {
        ProblemKind::Upstream | ProblemKind::Timeout | ProblemKind::Internal | ProblemKind::Unavailable => {
            hoosh_audit::Outcome::Failed
        }
        ProblemKind::InvalidRequest
        | ProblemKind::Authentication
        | ProblemKind::Permission
        | ProblemKind::NotFound
        | ProblemKind::MethodNotAllowed
        | ProblemKind::TooLarge
        | ProblemKind::ClientTimeout
        | ProblemKind::RateLimited => hoosh_audit::Outcome::Refused,
    }
}
