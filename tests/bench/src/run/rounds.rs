//! The rounds: in each, every phase is done by the floor and by the subject one after the other, and they take
//! turns in who is first, so that a machine that gets slower meanwhile does not favour one of them.

use std::time::Duration;

use super::{
    bed::{Bed, Proxy, Side},
    size::{BURST, DELAY_LINES, FIRST, LINES, PACED_LINES, PACES, STREAM_LINES, Size},
};
use crate::{
    failure::Failure,
    load::{Crew, Lane, Target},
    mock::Script,
    samples::{Quantiles, Samples},
};

/// The stall that DESIGN.md forbids: an event held by Nagle's algorithm until a delayed acknowledgement, which
/// Linux sends after 40 ms.
pub(crate) const STALL: Duration = Duration::from_millis(40);

/// One value per round and side, floor first.
#[derive(Default)]
pub(crate) struct Versus {
    pub(crate) rounds: [Vec<f64>; 2],
}

/// Percentiles per round: of calls to the mock itself, through the floor, through the subject.
#[derive(Default)]
pub(crate) struct Beside {
    pub(crate) direct: Vec<Quantiles>,
    pub(crate) through: [Vec<Quantiles>; 2],
}

/// Events that were timed, and those of them that came [`STALL`] late or later.
#[derive(Clone, Copy, Default)]
pub(crate) struct Stalls {
    events: usize,
    late: usize,
}

/// What translating costs beside passing through, both in the subject: one value per round, passed through first.
#[derive(Default)]
pub(crate) struct Translated {
    /// CPU per plain call, in microseconds.
    pub(crate) call_cpu: Versus,
    /// CPU per steady event, in microseconds.
    pub(crate) event_cpu: Versus,
    /// CPU per burst event, in microseconds.
    pub(crate) burst_cpu: Versus,
}

/// Everything that the rounds brought.
#[derive(Default)]
pub(crate) struct Tally {
    /// CPU per plain call, in microseconds.
    pub(crate) call_cpu: Versus,
    /// CPU per steady event, in microseconds.
    pub(crate) event_cpu: Versus,
    /// CPU per burst event, in microseconds.
    pub(crate) burst_cpu: Versus,
    /// Time of a plain call when nobody else calls.
    pub(crate) alone: Beside,
    /// Time of a plain call at each of [`PACES`].
    pub(crate) paced: [Beside; 2],
    /// Time to the first event.
    pub(crate) first: Beside,
    /// Delay of an event.
    pub(crate) delay: Beside,
    /// Each of [`Lane::TRANSLATED`]; empty if the subject cannot translate.
    pub(crate) translated: [Translated; 2],
    /// Late events of both sides, floor first.
    pub(crate) stalls: [Stalls; 2],
}

// === impl Tally ===

impl Tally {
    /// Measures one round of everything.
    ///
    /// # Errors
    /// When a call fails.
    pub(crate) async fn round(&mut self, bed: &Bed, size: &Size, round: u32) -> Result<(), Failure> {
        let mut order = Side::BOTH;
        order.rotate_left((round % 2) as usize);

        for side in order {
            let cpu = call_cpu(bed.proxy(side)?, Lane::Passed, size.cpu_calls).await?;
            self.call_cpu.rounds[side as usize].push(cpu);
        }
        for side in order {
            let cpu = steady_cpu(bed.proxy(side)?, Lane::Passed, size).await?;
            self.event_cpu.rounds[side as usize].push(cpu);
        }
        for side in order {
            let cpu = burst_cpu(bed.proxy(side)?, Lane::Passed, size).await?;
            self.burst_cpu.rounds[side as usize].push(cpu);
        }

        if bed.translates() {
            for (lane, translated) in Lane::TRANSLATED.into_iter().zip(&mut self.translated) {
                translated.measure(bed.proxy(Side::Subject)?, lane, size).await?;
            }
        }

        let targets = [None, Some(order[0]), Some(order[1])];
        for side in targets {
            let mut crew = Crew::dial(target(bed, side)?, 1).await?;
            let samples = crew.calls(size.timed_calls).await?;
            self.alone.push(side, samples);
        }
        for (pace, beside) in PACES.iter().zip(&mut self.paced) {
            let Some(paced_for) = size.paced_for else { continue };
            let count = (f64::from(*pace) * paced_for.as_secs_f64()) as usize;
            for side in targets {
                let mut crew = Crew::dial(target(bed, side)?, PACED_LINES).await?;
                beside.push(side, crew.paced(*pace, count).await?);
            }
        }
        for side in targets {
            let mut crew = Crew::dial(target(bed, side)?, 1).await?;
            self.first.push(side, crew.streams(FIRST, size.first_streams).await?.first);
        }
        for side in targets {
            let mut crew = Crew::dial(target(bed, side)?, DELAY_LINES).await?;
            let delay = crew.streams(size.steady, size.delay_streams).await?.delay;
            if let Some(side) = side {
                self.stalls[side as usize].push(&delay);
            }
            self.delay.push(side, delay);
        }
        Ok(())
    }
}

fn target(bed: &Bed, side: Option<Side>) -> Result<&Target, Failure> {
    Ok(match side {
        None => &bed.direct,
        Some(side) => &bed.proxy(side)?.target,
    })
}

async fn call_cpu(proxy: &Proxy, lane: Lane, calls: usize) -> Result<f64, Failure> {
    let mut crew = Crew::dial(&Target { lane, ..proxy.target.clone() }, LINES).await?;
    let before = proxy.process.cpu()?;
    crew.calls(calls).await?;
    Ok(micros_each(proxy.process.cpu()?.saturating_sub(before), calls))
}

/// The call around a stream is in the number too: a hundredth of it per event in a steady stream of a hundred.
async fn event_cpu(
    proxy: &Proxy,
    lane: Lane,
    script: Script,
    lines: usize,
    streams: usize,
) -> Result<f64, Failure> {
    let mut crew = Crew::dial(&Target { lane, ..proxy.target.clone() }, lines).await?;
    let before = proxy.process.cpu()?;
    crew.streams(script, streams).await?;
    let events = streams * script.events() as usize;
    Ok(micros_each(proxy.process.cpu()?.saturating_sub(before), events))
}

async fn steady_cpu(proxy: &Proxy, lane: Lane, size: &Size) -> Result<f64, Failure> {
    event_cpu(proxy, lane, size.steady, STREAM_LINES, size.steady_streams).await
}

async fn burst_cpu(proxy: &Proxy, lane: Lane, size: &Size) -> Result<f64, Failure> {
    event_cpu(proxy, lane, BURST, LINES, size.burst_streams).await
}

fn micros_each(cpu: Duration, count: usize) -> f64 {
    cpu.as_secs_f64() * 1e6 / count as f64
}

// === impl Translated ===

impl Translated {
    /// Passing through is measured again right before: what was measured a minute ago is no neighbour.
    async fn measure(&mut self, subject: &Proxy, lane: Lane, size: &Size) -> Result<(), Failure> {
        for (at, lane) in [Lane::Passed, lane].into_iter().enumerate() {
            self.call_cpu.rounds[at].push(call_cpu(subject, lane, size.cpu_calls).await?);
        }
        for (at, lane) in [Lane::Passed, lane].into_iter().enumerate() {
            self.event_cpu.rounds[at].push(steady_cpu(subject, lane, size).await?);
        }
        for (at, lane) in [Lane::Passed, lane].into_iter().enumerate() {
            self.burst_cpu.rounds[at].push(burst_cpu(subject, lane, size).await?);
        }
        Ok(())
    }
}

// === impl Beside ===

impl Beside {
    fn push(&mut self, side: Option<Side>, samples: Samples) {
        let rounds = match side {
            None => &mut self.direct,
            Some(side) => &mut self.through[side as usize],
        };
        rounds.push(samples.quantiles());
    }
}

// === impl Stalls ===

impl Stalls {
    fn push(&mut self, delay: &Samples) {
        let (events, late) = delay.at_least(STALL);
        self.events += events;
        self.late += late;
    }

    /// Late events per 10,000.
    pub(crate) fn per_10k(self) -> f64 {
        self.late as f64 * 1e4 / self.events as f64
    }
}
