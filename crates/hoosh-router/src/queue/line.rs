//! Who runs, who waits and who is next: the queue without its futures.
//!
//! A plain object that is told what happens and when. Order among the callers of one tier is the [`Lane`]'s; this adds
//! tiers, ageing, limits of all and of each model, and what a wait is expected to take. The rules are in the [queue's](super::Queue) documentation.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hoosh_core::limits::{QUEUE_AGE_STEP, QUEUE_SERVICE_CALLS};

use super::lane::{Call, Id, Lane};
use super::{QueueLimits, QueueRefusal, QueueStatus, Ticket, Tier};

const TIERS: usize = Tier::ALL.len();

/// The state of a queue. Nobody waits while a slot is free, of all and of the model.
#[derive(Debug)]
pub(super) struct Line {
    limits: QueueLimits,
    running: usize,
    /// The same of each model that runs, counted whether or not there is a limit: there may be one tomorrow.
    running_of: HashMap<Arc<str>, usize>,
    lanes: [Lane; TIERS],
    /// Everybody who waits, in the order they came.
    places: BTreeMap<Id, Place>,
    next_id: Id,
    /// Whether the last who got in was taken out of turn.
    out_of_turn: bool,
    /// What a call takes, as learned from those that ended.
    service: Option<Duration>,
    /// The latest time anybody told. Threads may tell theirs in another order than they read it.
    latest: Option<Instant>,
}

#[derive(Debug)]
struct Place {
    tier: Tier,
    caller: Arc<str>,
    model: Arc<str>,
    entered: Instant,
}

// === impl Line ===

impl Line {
    pub(super) fn new(limits: QueueLimits) -> Self {
        Self {
            limits,
            running: 0,
            running_of: HashMap::new(),
            lanes: Default::default(),
            places: BTreeMap::new(),
            next_id: 0,
            out_of_turn: false,
            service: None,
            latest: None,
        }
    }

    /// Gives a slot (`None`) or a place in the line.
    pub(super) fn enter(&mut self, ticket: &Ticket<'_>, now: Instant) -> Result<Option<Id>, QueueRefusal> {
        let now = self.observe(now);
        let is_free = self.has_slot() && self.is_free(ticket.model);
        let lane = &mut self.lanes[ticket.tier.index()];
        if is_free {
            lane.pass(ticket.caller, ticket.tokens);
            self.begin(ticket.model);
            return Ok(None);
        }
        if self.places.len() >= self.limits.waiting {
            return Err(QueueRefusal::Full { waiting: self.places.len() });
        }

        let id = self.next_id;
        self.next_id += 1;
        let model = Arc::clone(ticket.model);
        let call = Call { model: Arc::clone(&model), tokens: ticket.tokens, entered: now };
        let caller = lane.join(ticket.caller, id, call);
        self.places.insert(id, Place { tier: ticket.tier, caller, model, entered: now });
        // Only in line it is known how many are before it.
        if let Some(deadline) = ticket.deadline
            && let Some(wait) = self.expected_wait(id)
            && wait > deadline.saturating_duration_since(now)
        {
            self.leave(id);
            return Err(QueueRefusal::TooLate { wait });
        }
        Ok(Some(id))
    }

    /// Frees the place of one who does not wait any more. False if it was not waiting.
    pub(super) fn leave(&mut self, id: Id) -> bool {
        let Some(place) = self.places.remove(&id) else { return false };
        self.lanes[place.tier.index()].leave(&place.caller, id);
        true
    }

    /// Frees a slot of that model. Gives who gets in.
    pub(super) fn release(&mut self, model: &str) -> Option<Id> {
        self.running = self.running.saturating_sub(1);
        if let Some(running) = self.running_of.get_mut(model) {
            *running -= 1;
            if *running == 0 {
                self.running_of.remove(model);
            }
        }
        if self.running == 0 && self.places.is_empty() {
            // What anybody had so far kept nobody waiting.
            self.lanes = Default::default();
        }
        self.admit()
    }

    /// Gives who gets in.
    pub(super) fn set_limits(&mut self, limits: QueueLimits) -> Vec<Id> {
        self.limits = limits;
        std::iter::from_fn(|| self.admit()).collect()
    }

    /// Learns what time it is. Gives the latest that is known.
    pub(super) fn observe(&mut self, now: Instant) -> Instant {
        let latest = self.latest.map_or(now, |latest| latest.max(now));
        self.latest = Some(latest);
        latest
    }

    /// Learns what a call took.
    pub(super) fn learn(&mut self, took: Duration) {
        self.service = Some(self.service.map_or(took, |known| {
            known.saturating_mul(QUEUE_SERVICE_CALLS - 1).saturating_add(took) / QUEUE_SERVICE_CALLS
        }));
    }

    /// How many get in before that one as things stand. `None` if it does not wait.
    ///
    /// While a slot is free those of its model, which is all that it waits for.
    pub(super) fn position(&self, id: Id) -> Option<usize> {
        let place = self.places.get(&id)?;
        Some(self.before(id, place, self.has_slot().then_some(&*place.model)))
    }

    /// How many get in before that one, all or those of a model.
    fn before(&self, id: Id, place: &Place, of: Option<&str>) -> usize {
        let (higher, rest) = self.lanes.split_at(place.tier.index());
        let higher = higher.iter().map(|lane| of.map_or(lane.waiting(), |model| lane.waiting_for(model)));
        higher.sum::<usize>() + rest.first().map_or(0, |lane| lane.before(&place.caller, id, of))
    }

    /// How long that one has to wait, for a slot and for its model, whichever takes longer. `None` as long as nobody can
    /// know; zero if it does not wait.
    pub(super) fn expected_wait(&self, id: Id) -> Option<Duration> {
        let Some(place) = self.places.get(&id) else { return Some(Duration::ZERO) };
        let slot = match self.has_slot() {
            true => Duration::ZERO,
            false => self.wait_behind(self.before(id, place, None), self.limits.concurrent)?,
        };
        let model = match self.limits.per_model {
            None => Duration::ZERO,
            Some(most) => {
                let free =
                    most.saturating_sub(self.running_of.get(&place.model).copied().unwrap_or_default());
                match self.before(id, place, Some(&place.model)).checked_sub(free) {
                    Some(ahead) => self.wait_behind(ahead, most)?,
                    None => Duration::ZERO,
                }
            }
        };
        Some(slot.max(model))
    }

    /// Time until so many and one more have got in: slots get free one after the other, evenly. `None` as long as nobody
    /// can know.
    fn wait_behind(&self, ahead: usize, concurrent: usize) -> Option<Duration> {
        let concurrent = u32::try_from(concurrent).unwrap_or(u32::MAX);
        let turns = u32::try_from(ahead).unwrap_or(u32::MAX).saturating_add(1);
        self.service?.saturating_mul(turns).checked_div(concurrent)
    }

    pub(super) fn status(&self, now: Instant) -> QueueStatus {
        let oldest = self.places.first_key_value();
        QueueStatus {
            running: self.running,
            concurrent: self.limits.concurrent,
            waiting_by_tier: std::array::from_fn(|tier| self.lanes[tier].waiting()),
            oldest_wait: oldest
                .map_or(Duration::ZERO, |(_, place)| now.saturating_duration_since(place.entered)),
            expected_wait: self.slot_wait(),
        }
    }

    /// The same of each model that runs or is waited for, if there is a limit for each.
    pub(super) fn status_of_models(&self, now: Instant) -> Vec<(Arc<str>, QueueStatus)> {
        let Some(concurrent) = self.limits.per_model else { return Vec::new() };
        let names = self.running_of.keys().chain(self.lanes.iter().flat_map(Lane::models));
        let status = |model: &Arc<str>| {
            let running = self.running_of.get(model).copied().unwrap_or_default();
            let waiting_by_tier: [usize; TIERS] =
                std::array::from_fn(|tier| self.lanes[tier].waiting_for(model));
            let oldest = self.places.values().find(|place| place.model == *model);
            let own = match running < concurrent {
                true => Some(Duration::ZERO),
                false => self.wait_behind(waiting_by_tier.iter().sum(), concurrent),
            };
            QueueStatus {
                running,
                concurrent,
                waiting_by_tier,
                oldest_wait: oldest
                    .map_or(Duration::ZERO, |place| now.saturating_duration_since(place.entered)),
                expected_wait: own.zip(self.slot_wait()).map(|(own, slot)| own.max(slot)),
            }
        };
        names.collect::<BTreeSet<_>>().into_iter().map(|model| (Arc::clone(model), status(model))).collect()
    }

    /// How long one more would wait for a slot of whatever model.
    fn slot_wait(&self) -> Option<Duration> {
        match self.has_slot() {
            true => Some(Duration::ZERO),
            false => self.wait_behind(self.places.len(), self.limits.concurrent),
        }
    }

    pub(super) fn running(&self) -> usize {
        self.running
    }

    pub(super) fn waiting(&self) -> usize {
        self.places.len()
    }

    fn has_slot(&self) -> bool {
        self.running < self.limits.concurrent
    }

    /// Whether one more of that model may run.
    fn is_free(&self, model: &str) -> bool {
        let Some(most) = self.limits.per_model else { return true };
        self.running_of.get(model).copied().unwrap_or_default() < most
    }

    fn begin(&mut self, model: &Arc<str>) {
        self.running += 1;
        *self.running_of.entry(Arc::clone(model)).or_default() += 1;
    }

    /// Lets in who is next, if there is a slot.
    fn admit(&mut self) -> Option<Id> {
        if !self.has_slot() {
            return None;
        }
        let now = self.latest?;
        let id = self.choose(now)?;
        let place = self.places.remove(&id)?;
        self.lanes[place.tier.index()].take(&place.caller, id, now);
        self.begin(&place.model);
        Some(id)
    }

    /// Who is next of those whose model is free: whose turn it is in the highest tier, or every second time somebody who was
    /// passed over.
    fn choose(&mut self, now: Instant) -> Option<Id> {
        let next = |lane: &Lane| lane.next(|model| self.is_free(model));
        let (highest, in_turn) =
            self.lanes.iter().enumerate().find_map(|(tier, lane)| Some((tier, next(lane)?)))?;
        let in_turn = Some(in_turn);
        let chosen = if self.out_of_turn { in_turn } else { self.passed_over(highest, now).or(in_turn) };
        self.out_of_turn = chosen != in_turn;
        chosen
    }

    /// The caller that has risen farthest beyond the highest tier where somebody may get in, if any has come up to it.
    fn passed_over(&self, highest: usize, now: Instant) -> Option<Id> {
        let risen = (highest..TIERS).filter_map(|tier| {
            let (since, id) = self.lanes[tier].longest(|model| self.is_free(model))?;
            // In the highest itself large calls are meant to let more small ones pass, but not for ever.
            let steps = if tier == highest { TIERS } else { tier - highest };
            let beyond = now.saturating_duration_since(since).checked_sub(QUEUE_AGE_STEP * steps as u32)?;
            Some((beyond, Reverse(id)))
        });
        risen.max().map(|(_, Reverse(id))| id)
    }
}

#[cfg(test)]
mod tests;
