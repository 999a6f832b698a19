//! Who runs, who waits and who is next: the queue without its futures.
//!
//! A plain object that is told what happens and when. Order among the callers of one tier is the [`Lane`]'s; this adds
//! tiers, ageing, limits and what a wait is expected to take. The rules are in the [queue's](super::Queue) documentation.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hoosh_core::limits::{QUEUE_AGE_STEP, QUEUE_SERVICE_CALLS};

use super::lane::{Call, Id, Lane};
use super::{QueueLimits, QueueRefusal, QueueStatus, Ticket, Tier};

const TIERS: usize = Tier::ALL.len();

/// The state of a queue. Nobody waits while a slot is free.
#[derive(Debug)]
pub(super) struct Line {
    limits: QueueLimits,
    running: usize,
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
    entered: Instant,
}

// === impl Line ===

impl Line {
    pub(super) fn new(limits: QueueLimits) -> Self {
        Self {
            limits,
            running: 0,
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
        let lane = &mut self.lanes[ticket.tier.index()];
        if self.running < self.limits.concurrent {
            lane.pass(ticket.caller, ticket.tokens);
            self.running += 1;
            return Ok(None);
        }
        if self.places.len() >= self.limits.waiting {
            return Err(QueueRefusal::Full { waiting: self.places.len() });
        }

        let id = self.next_id;
        self.next_id += 1;
        let caller = lane.join(ticket.caller, id, Call { tokens: ticket.tokens, entered: now });
        self.places.insert(id, Place { tier: ticket.tier, caller, entered: now });
        // Only in line it is known how many are before it.
        if let Some(deadline) = ticket.deadline
            && let Some(wait) = self.position(id).and_then(|ahead| self.wait_behind(ahead))
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

    /// Frees a slot. Gives who gets in.
    pub(super) fn release(&mut self) -> Option<Id> {
        self.running = self.running.saturating_sub(1);
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
    pub(super) fn position(&self, id: Id) -> Option<usize> {
        let place = self.places.get(&id)?;
        let (higher, rest) = self.lanes.split_at(place.tier.index());
        let lane = rest.first()?;
        Some(higher.iter().map(Lane::waiting).sum::<usize>() + lane.before(&place.caller, id))
    }

    /// Time until so many and one more have got in: slots get free one after the other, evenly. `None` as long as nobody
    /// can know.
    pub(super) fn wait_behind(&self, ahead: usize) -> Option<Duration> {
        let concurrent = u32::try_from(self.limits.concurrent).unwrap_or(u32::MAX);
        let turns = u32::try_from(ahead).unwrap_or(u32::MAX).saturating_add(1);
        self.service?.saturating_mul(turns).checked_div(concurrent)
    }

    pub(super) fn status(&self, now: Instant) -> QueueStatus {
        let is_free = self.running < self.limits.concurrent;
        let oldest = self.places.first_key_value();
        QueueStatus {
            running: self.running,
            concurrent: self.limits.concurrent,
            waiting_by_tier: std::array::from_fn(|tier| self.lanes[tier].waiting()),
            oldest_wait: oldest
                .map_or(Duration::ZERO, |(_, place)| now.saturating_duration_since(place.entered)),
            expected_wait: if is_free { Some(Duration::ZERO) } else { self.wait_behind(self.places.len()) },
        }
    }

    pub(super) fn running(&self) -> usize {
        self.running
    }

    pub(super) fn waiting(&self) -> usize {
        self.places.len()
    }

    /// Lets in who is next, if there is a slot.
    fn admit(&mut self) -> Option<Id> {
        if self.running >= self.limits.concurrent {
            return None;
        }
        let now = self.latest?;
        let id = self.choose(now)?;
        let place = self.places.remove(&id)?;
        self.lanes[place.tier.index()].take(&place.caller, id, now);
        self.running += 1;
        Some(id)
    }

    /// Who is next: whose turn it is in the highest tier, or every second time somebody who was passed over.
    fn choose(&mut self, now: Instant) -> Option<Id> {
        let highest = self.lanes.iter().position(|lane| lane.waiting() > 0)?;
        let in_turn = self.lanes[highest].next();
        let chosen = if self.out_of_turn { in_turn } else { self.passed_over(highest, now).or(in_turn) };
        self.out_of_turn = chosen != in_turn;
        chosen
    }

    /// The caller that has risen farthest beyond the highest tier where somebody waits, if any has come up to it.
    fn passed_over(&self, highest: usize, now: Instant) -> Option<Id> {
        let risen = (highest..TIERS).filter_map(|tier| {
            let (since, id) = self.lanes[tier].longest()?;
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
