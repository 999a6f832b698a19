//! The load generator: a crew of keep-alive lines to one target, and the ways to drive them.
//!
//! It runs on the thread of `run`, which measures; its own CPU counts for nobody. Every answer is checked: a
//! proxy that is quick because it drops events would be found out here.

mod lane;
mod line;
mod scan;

use std::{net::SocketAddr, time::Duration};

use hyper::{body::Incoming, header::HeaderValue};
use tokio::{task::JoinSet, time::Instant};

pub(crate) use self::lane::Lane;
use self::{line::Line, scan::Scanner};
use crate::{
    failure::{Context, Failure},
    mock::Script,
    samples::Samples,
};

/// Calls that each line makes before anything is counted: the dial, the proxy's own dial to the upstream and
/// the first growth of buffers are over by then.
const WARM_CALLS: usize = 20;

/// Streams opened at a time when many are to be held, well below any listen backlog.
const OPEN_AT_ONCE: usize = 50;

/// Who is asked, on which lane and with which key.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    pub(crate) lane: Lane,
    pub(crate) authorization: HeaderValue,
}

/// Connections to one target, dialled and warm.
pub(crate) struct Crew {
    lane: Lane,
    lines: Vec<Line>,
}

/// What a phase of streams saw.
#[derive(Default)]
pub(crate) struct StreamSamples {
    /// From the request's first byte to the first event with text.
    pub(crate) first: Samples,
    /// From the event's sending by the mock to its arrival here.
    pub(crate) delay: Samples,
}

/// Streams that stay open until this is dropped.
pub(crate) struct Held {
    _streams: Vec<(Line, Incoming)>,
}

/// One call on a connection of its own; what a start is timed with.
///
/// # Errors
/// When the target cannot be reached or answers anything but 200.
pub(crate) async fn knock(target: &Target) -> Result<(), Failure> {
    Line::dial(target).await?.call(target.lane.call_body()).await
}

/// Opens `count` streams that the mock never ends, each read up to its first text.
///
/// # Errors
/// When one of them does not get that far.
pub(crate) async fn hold(target: &Target, count: usize) -> Result<Held, Failure> {
    let mut streams = Vec::with_capacity(count);
    while streams.len() < count {
        let mut opening = JoinSet::new();
        for _ in 0..OPEN_AT_ONCE.min(count - streams.len()) {
            let target = target.clone();
            opening.spawn(async move {
                let mut line = Line::dial(&target).await?;
                let body = line.open(target.lane.stream_body(Script::Hold)).await?;
                Ok::<_, Failure>((line, body))
            });
        }
        while let Some(stream) = opening.join_next().await {
            streams.push(stream.context(|| "a stream's task ended early".to_owned())??);
        }
    }
    Ok(Held { _streams: streams })
}

// === impl Crew ===

impl Crew {
    /// # Errors
    /// When the target cannot be reached or answers wrongly.
    pub(crate) async fn dial(target: &Target, lines: usize) -> Result<Self, Failure> {
        let mut crew = Self { lane: target.lane, lines: Vec::with_capacity(lines) };
        for _ in 0..lines {
            crew.lines.push(Line::dial(target).await?);
        }
        crew.calls(lines * WARM_CALLS).await?;
        Ok(crew)
    }

    /// Closed loop: every line asks again as soon as it has its answer, `count` calls in all.
    ///
    /// # Errors
    /// When a call fails.
    pub(crate) async fn calls(&mut self, count: usize) -> Result<Samples, Failure> {
        let share = count.div_ceil(self.lines.len());
        let body = self.lane.call_body();
        self.each(move |_, mut line| {
            let body = body.clone();
            async move {
                let mut samples = Samples::default();
                for _ in 0..share {
                    let begin = Instant::now();
                    line.call(body.clone()).await?;
                    samples.push(begin.elapsed());
                }
                Ok((line, samples))
            }
        })
        .await
    }

    /// Open loop: `count` calls at fixed times, `per_second` of them in each second.
    ///
    /// A call is timed from its sending if its line was free when its time came, and from the time it should
    /// have been sent if not. So a stalled proxy pays for the calls it held up (no coordinated omission), and
    /// the timer's own grain of a millisecond is not in the numbers.
    ///
    /// # Errors
    /// When a call fails.
    pub(crate) async fn paced(&mut self, per_second: u32, count: usize) -> Result<Samples, Failure> {
        let (lines, body) = (self.lines.len(), self.lane.call_body());
        let start = Instant::now() + Duration::from_millis(5);
        let step = Duration::from_secs(1) / per_second;
        self.each(move |first, mut line| {
            let body = body.clone();
            async move {
                let mut samples = Samples::default();
                for slot in (first..count).step_by(lines) {
                    let due = start + step.saturating_mul(u32::try_from(slot).unwrap_or(u32::MAX));
                    let begin = if Instant::now() < due {
                        tokio::time::sleep_until(due).await;
                        Instant::now()
                    } else {
                        due
                    };
                    line.call(body.clone()).await?;
                    samples.push(begin.elapsed());
                }
                Ok((line, samples))
            }
        })
        .await
    }

    /// Closed loop of streams, `count` in all, each read to its end and counted.
    ///
    /// # Errors
    /// When a stream fails, lacks events or has no proper end.
    pub(crate) async fn streams(&mut self, script: Script, count: usize) -> Result<StreamSamples, Failure> {
        let share = count.div_ceil(self.lines.len());
        let body = self.lane.stream_body(script);
        self.each(move |_, mut line| {
            let body = body.clone();
            async move {
                let mut samples = StreamSamples::default();
                for _ in 0..share {
                    line.stream(body.clone(), script, &mut samples).await?;
                }
                Ok((line, samples))
            }
        })
        .await
    }

    /// Gives every line to a task, takes them back and puts the samples together.
    async fn each<S, W, F>(&mut self, work: W) -> Result<S, Failure>
    where
        S: Merge + Send + 'static,
        W: Fn(usize, Line) -> F,
        F: Future<Output = Result<(Line, S), Failure>> + Send + 'static,
    {
        let mut tasks = JoinSet::new();
        for (index, line) in self.lines.drain(..).enumerate() {
            tasks.spawn(work(index, line));
        }
        let mut all = S::default();
        while let Some(done) = tasks.join_next().await {
            let (line, samples) = done.context(|| "a line's task ended early".to_owned())??;
            self.lines.push(line);
            all.merge(samples);
        }
        Ok(all)
    }
}

/// Samples of several lines become those of the crew.
trait Merge: Default {
    fn merge(&mut self, other: Self);
}

impl Merge for Samples {
    fn merge(&mut self, other: Self) {
        self.append(other);
    }
}

impl Merge for StreamSamples {
    fn merge(&mut self, other: Self) {
        self.first.append(other.first);
        self.delay.append(other.delay);
    }
}
