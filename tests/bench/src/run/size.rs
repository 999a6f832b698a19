//! How much of everything a run does.

use std::time::Duration;

use crate::mock::Script;

/// Lines in the phases that measure CPU: enough that the proxy always has work, few enough that it still goes
/// back to sleep between calls, as a gateway at work does.
pub(crate) const LINES: usize = 8;

/// Streams at once in the phase that measures CPU per event.
pub(crate) const STREAM_LINES: usize = 40;

/// Streams at once in the phase that measures the delay of events: a handful of users reading along.
pub(crate) const DELAY_LINES: usize = 4;

/// Lines of the phases with a fixed number of calls per second; at 1,000 per second a line has 16 ms for a call.
pub(crate) const PACED_LINES: usize = 16;

/// The paces of DESIGN.md section 10, in calls per second.
pub(crate) const PACES: [u32; 2] = [200, 1000];

/// Time between the events of a steady stream: 200 tokens a second, as a fast model sends them. Each event comes
/// alone, so that a proxy has to wake up for it.
const STEADY_GAP: Duration = Duration::from_millis(5);

/// A stream that is all there at once, so that many events share a read: what is left is the work per event.
pub(crate) const BURST: Script = Script::Play { events: 500, gap: Duration::ZERO };

/// The shortest stream whose first event comes before its end.
pub(crate) const FIRST: Script = Script::Play { events: 2, gap: Duration::from_millis(1) };

/// Counts per round and side. Those of phases with several lines are multiples of them, so that no call is
/// made that is not counted.
pub(crate) struct Size {
    /// Rounds, if the command line names no other number. Many short ones rather than few long ones: what
    /// disturbs a shared machine lasts for seconds, and a median forgets the rounds it hit.
    pub(crate) rounds: u32,
    /// Plain calls whose CPU is read.
    pub(crate) cpu_calls: usize,
    /// A steady stream.
    pub(crate) steady: Script,
    /// Steady streams whose CPU is read.
    pub(crate) steady_streams: usize,
    /// Burst streams whose CPU is read.
    pub(crate) burst_streams: usize,
    /// Plain calls, one at a time, that are timed.
    pub(crate) timed_calls: usize,
    /// For how long each pace is kept; `None` leaves the rows out.
    pub(crate) paced_for: Option<Duration>,
    /// Streams, one at a time, whose first event is timed.
    pub(crate) first_streams: usize,
    /// Steady streams whose every event is timed.
    pub(crate) delay_streams: usize,
    /// Fresh processes that are started for start time and memory.
    pub(crate) starts: u32,
}

// === impl Size ===

impl Size {
    /// About three minutes.
    pub(crate) const FULL: Self = Self {
        rounds: 15,
        cpu_calls: 8_000,
        steady: Script::Play { events: 100, gap: STEADY_GAP },
        steady_streams: 40,
        burst_streams: 80,
        timed_calls: 1_000,
        paced_for: Some(Duration::from_secs(1)),
        first_streams: 200,
        delay_streams: 4,
        starts: 5,
    };

    /// About ten seconds.
    pub(crate) const QUICK: Self = Self {
        rounds: 5,
        cpu_calls: 2_000,
        steady: Script::Play { events: 30, gap: STEADY_GAP },
        steady_streams: 40,
        burst_streams: 16,
        timed_calls: 200,
        paced_for: None,
        first_streams: 30,
        delay_streams: 4,
        starts: 2,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_has_the_same_share() {
        for size in [Size::FULL, Size::QUICK] {
            assert_eq!(size.cpu_calls % LINES, 0);
            assert_eq!(size.burst_streams % LINES, 0);
            assert_eq!(size.steady_streams % STREAM_LINES, 0);
            assert_eq!(size.delay_streams % DELAY_LINES, 0);
        }
    }
}
