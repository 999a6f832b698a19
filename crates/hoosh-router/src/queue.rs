//! Who may ask a provider now, and who waits for how long.
//!
//! One [`Queue`] stands before one thing that can only do so much at once: a provider, or one model of it. It decides who
//! gets in and who is refused. What a call costs in tokens, which queue it goes through and what a refusal looks like to
//! a client is up to others.
//!
//! This file is the part with futures and the lock. Who is next is decided by `Line` from what it is told, without them.

mod lane;
mod line;
mod tier;

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;

use self::lane::Id;
use self::line::Line;
pub use self::tier::{Tier, UnknownTier};

/// How much a queue lets in, and how much it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimits {
    /// Calls that run at once. 0: nobody gets in, those that come wait.
    pub concurrent: usize,
    /// Calls that may wait, those of all tiers together. 0: who cannot run at once is refused.
    pub waiting: usize,
    /// Calls of each model that run at once. `None`: as many as of all.
    pub per_model: Option<usize>,
}

/// What a queue wants to know of a call.
#[derive(Debug, Clone, Copy)]
pub struct Ticket<'a> {
    /// Who asks. Fairness is between these.
    pub caller: &'a str,
    /// The model that it is for, which may have a limit of its own.
    pub model: &'a Arc<str>,
    /// How urgent it is.
    pub tier: Tier,
    /// What it costs by estimate, input and output together. Counts at least 1.
    pub tokens: u64,
    /// By when it has to have a slot. A call that is expected to wait longer is refused at once. `None`: it waits.
    pub deadline: Option<Instant>,
}

/// Limits how many calls run at once, and lets in those that wait, in an order that is fair.
///
/// ```
/// # use std::sync::Arc;
/// # use std::time::Instant;
/// use hoosh_router::{Entry, Queue, QueueLimits, QueueRefusal, Ticket, Tier};
///
/// # async fn doc() -> Result<(), QueueRefusal> {
/// let queue = Arc::new(Queue::new(QueueLimits { concurrent: 4, waiting: 100, per_model: None }));
///
/// let model = &"llama3".into();
/// let ticket = Ticket { caller: "ci", model, tier: Tier::Batch, tokens: 1_200, deadline: None };
/// let permit = match queue.enter(&ticket, Instant::now())? {
///     Entry::Admitted(permit) => permit,
///     Entry::Waiting(waiting) => {
///         println!("{} are before us", waiting.position());
///         waiting.await
///     }
/// };
/// // The call runs, its stream to the end.
/// permit.finish(Instant::now());
/// # Ok(())
/// # }
/// ```
///
/// # Who is next?
///
/// 1. The **highest tier** in which somebody waits goes first.
/// 2. Within a tier, the **caller that has had the least**, by tokens, goes first. A caller who comes anew has at most one
///    call of each other caller before it, even if they have a thousand waiting. One who keeps coming has no more than
///    its share, even if its calls come one by one. What was had while nobody waited is not held against anybody for
///    long: it makes a difference of one call, and none once the queue was idle.
/// 3. A caller's own calls of one tier go in the order they came.
/// 4. A caller that is **passed over** in a tier rises by one tier each [`QUEUE_AGE_STEP`]. Once it has come up to the
///    highest in which somebody waits, its first call goes before them; so does, after four steps, that of a caller
///    passed over in the highest itself, whose calls are large. Every second slot at most goes this way, so that a crowd
///    of old batch calls cannot keep a new high one from getting in.
///
/// Whoever waits for a model that runs as often as it may is not meant by any of this: others go before, and its place in
/// the order is the one it had once the model is free. So no slot is held by a call that cannot run, and none is empty while
/// one waits that could.
///
/// How long it was passed over counts from when its first call came, or from when its last call of that tier got in if
/// that is later. If each call aged by itself, a backlog that is old would stand whole before everybody who comes anew.
///
/// # How long will it take?
///
/// A queue learns from [`Permit::finish`] what a call takes, as a moving average. With that and the number of calls that
/// are before it, it says how long a call is [expected to wait](Waiting::expected_wait), and refuses one whose deadline
/// is sooner. Later calls of a higher tier make it longer, callers who leave and ageing shorter.
///
/// # Which clock?
///
/// None: times are told, and the latest told counts where a method takes none. All are of the same clock.
///
/// [`QUEUE_AGE_STEP`]: hoosh_core::limits::QUEUE_AGE_STEP
pub struct Queue {
    state: Mutex<State>,
}

/// How a call stands that was not refused.
#[derive(Debug)]
#[must_use = "dropping it gives the place away"]
pub enum Entry {
    /// It may run now.
    Admitted(Permit),
    /// It has to wait.
    Waiting(Waiting),
}

/// A place in the line; a future of the permit.
///
/// # Cancel safety
///
/// Dropping it frees the place. If the slot was given to it already, it goes on to the next; none is lost.
#[derive(Debug)]
#[must_use = "dropping it gives the place away"]
pub struct Waiting {
    place: Place,
    model: Arc<str>,
    bell: Arc<Bell>,
    /// Whether the permit was handed out.
    has_permit: bool,
}

/// Where a call is in line, for others than the one that waits: it holds no place.
#[derive(Debug, Clone)]
pub struct Place {
    queue: Arc<Queue>,
    id: Id,
}

/// A slot. Whoever holds it may run one call; keep it to the end of the stream.
///
/// Dropping it lets in the next, at whatever point the call is: done, failed or given up.
#[derive(Debug)]
#[must_use = "dropping it gives the slot away"]
pub struct Permit {
    queue: Arc<Queue>,
    model: Arc<str>,
    /// When it got in. `None` if nobody said what time it was.
    admitted: Option<Instant>,
    finished: Option<Instant>,
}

/// Why a call cannot even wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QueueRefusal {
    /// As many wait as may.
    #[error("the queue is full, {waiting} calls wait; try again later")]
    Full {
        /// How many wait.
        waiting: usize,
    },
    /// It would get its slot after its deadline.
    #[error("it would wait for {} s, which is past its deadline; try again then or allow more time", seconds(.wait))]
    TooLate {
        /// How long it would wait. By then, whoever is before it has got in.
        wait: Duration,
    },
}

/// How a queue stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueStatus {
    /// Calls that run. More than `concurrent` for a while after that was lowered.
    pub running: usize,
    /// Calls that may run at once.
    pub concurrent: usize,
    /// Calls that wait, by tier, in the order of [`Tier::ALL`].
    pub waiting_by_tier: [usize; 4],
    /// How long the one that came first has been waiting. Zero if nobody waits.
    pub oldest_wait: Duration,
    /// How long the last of them, and one more, would wait from now: the most a new call has to expect. Zero if a slot
    /// is free, `None` if no call has [finished](Permit::finish) yet.
    pub expected_wait: Option<Duration>,
}

struct State {
    line: Line,
    /// One for each that waits.
    bells: HashMap<Id, Arc<Bell>>,
}

/// Rung when its owner gets in.
#[derive(Debug, Default)]
struct Bell {
    /// When it got in, if anybody said what time it was.
    rung: OnceLock<Option<Instant>>,
    waker: AtomicWaker,
}

// === impl Queue ===

impl Queue {
    /// Nobody runs and nobody waits.
    pub fn new(limits: QueueLimits) -> Self {
        Self { state: Mutex::new(State { line: Line::new(limits), bells: HashMap::new() }) }
    }

    /// Changes the limits.
    ///
    /// Where more may run, those who wait get in at once. Where fewer may, those who run finish; where fewer may wait,
    /// those who do keep their places.
    pub fn set_limits(&self, limits: QueueLimits) {
        self.ring(|state| (state.line.set_limits(limits), None));
    }

    /// Gives a slot, or a place in the line.
    ///
    /// # Errors
    ///
    /// [`QueueRefusal::Full`] if as many wait as may, [`QueueRefusal::TooLate`] if the call is expected to get its slot
    /// after its deadline. As long as no call has finished nobody knows, and no deadline is too soon.
    pub fn enter(self: &Arc<Self>, ticket: &Ticket<'_>, now: Instant) -> Result<Entry, QueueRefusal> {
        let mut state = self.state();
        let Some(id) = state.line.enter(ticket, now)? else {
            return Ok(Entry::Admitted(Permit::new(self, ticket.model, Some(now))));
        };
        let bell = Arc::<Bell>::default();
        state.bells.insert(id, Arc::clone(&bell));
        let place = Place { queue: Arc::clone(self), id };
        let model = Arc::clone(ticket.model);
        Ok(Entry::Waiting(Waiting { place, model, bell, has_permit: false }))
    }

    /// How it stands.
    pub fn status(&self, now: Instant) -> QueueStatus {
        let mut state = self.state();
        let now = state.line.observe(now);
        state.line.status(now)
    }

    /// How each model of it stands that runs or is waited for, by name, if there is a limit for each. Whoever waits is
    /// counted here and in the [whole](Self::status).
    pub fn status_of_models(&self, now: Instant) -> Vec<(Arc<str>, QueueStatus)> {
        let mut state = self.state();
        let now = state.line.observe(now);
        state.line.status_of_models(now)
    }

    /// Does something by which others may get in, and tells them.
    ///
    /// `change` gives who they are, and the time if it is known.
    fn ring<I: IntoIterator<Item = Id>>(&self, change: impl FnOnce(&mut State) -> (I, Option<Instant>)) {
        let mut rung = Vec::new();
        {
            let mut state = self.state();
            let (admitted, at) = change(&mut state);
            for bell in admitted.into_iter().filter_map(|id| state.bells.remove(&id)) {
                // It rings once: whoever is in does not wait.
                let _ = bell.rung.set(at);
                rung.push(bell);
            }
        }
        // Outside the lock: a waker is somebody else's code and may well come back here.
        for bell in rung {
            bell.waker.wake();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Without its callers, whose names may be nobody's business.
impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (running, waiting) = {
            let state = self.state();
            (state.line.running(), state.line.waiting())
        };
        f.debug_struct("Queue").field("running", &running).field("waiting", &waiting).finish_non_exhaustive()
    }
}

// === impl Waiting ===

impl Waiting {
    /// How many get in before it as things stand, leaving ageing aside, and that some of them may wait for a model that is
    /// full. 0: it is next, or in already. Takes time with their number.
    pub fn position(&self) -> usize {
        self.place.position().unwrap_or(0)
    }

    /// How long it has to wait from now, by what calls took so far. `None` as long as none has
    /// [finished](Permit::finish).
    pub fn expected_wait(&self) -> Option<Duration> {
        self.place.expected_wait()
    }

    /// Where it is, for others to look at while it waits.
    pub fn place(&self) -> Place {
        self.place.clone()
    }
}

impl Future for Waiting {
    type Output = Permit;

    /// Ready when it gets in. It gives one permit; polled again, it stays pending.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Permit> {
        if self.has_permit {
            return Poll::Pending;
        }
        // Before looking, so that a ring in between is not missed.
        self.bell.waker.register(context.waker());
        let Some(admitted) = self.bell.rung.get().copied() else { return Poll::Pending };
        self.has_permit = true;
        Poll::Ready(Permit::new(&self.place.queue, &self.model, admitted))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.has_permit {
            return;
        }
        let Place { queue, id } = &self.place;
        queue.ring(|state| {
            state.bells.remove(id);
            // Not in line any more: it was let in and never knew.
            (if state.line.leave(*id) { None } else { state.line.release(&self.model) }, None)
        });
    }
}

// === impl Place ===

impl Place {
    /// How many get in before it, as [`Waiting::position`]; `None`: it is in line no more.
    pub fn position(&self) -> Option<usize> {
        self.queue.state().line.position(self.id)
    }

    /// As [`Waiting::expected_wait`]. Zero if it is in line no more.
    pub fn expected_wait(&self) -> Option<Duration> {
        self.queue.state().line.expected_wait(self.id)
    }
}

// === impl Permit ===

impl Permit {
    fn new(queue: &Arc<Queue>, model: &Arc<str>, admitted: Option<Instant>) -> Self {
        Self { queue: Arc::clone(queue), model: Arc::clone(model), admitted, finished: None }
    }

    /// Gives the slot back, and lets the queue learn what the call took.
    ///
    /// For calls that were answered. One that failed at once or was given up says nothing about the others: drop it.
    pub fn finish(mut self, now: Instant) {
        self.finished = Some(now);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Self { queue, model, admitted, finished } = self;
        queue.ring(|State { line, .. }| {
            if let Some(now) = *finished {
                line.observe(now);
                // Who got in at a time unknown teaches nothing.
                if let Some(admitted) = *admitted {
                    line.learn(now.saturating_duration_since(admitted));
                }
            }
            (line.release(model), *finished)
        });
    }
}

/// Whole seconds, rounded up: after so many it is worth trying again.
fn seconds(wait: &Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests;
