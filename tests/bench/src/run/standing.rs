//! What a proxy costs before it works: the time to its first answer, and its memory with nothing and with many
//! open streams to carry. Each observation is of fresh processes, so that no round before it is in the number.

use std::time::Duration;

use tokio::time::Instant;

use super::bed::{Bed, Side};
use crate::{failure::Failure, load};

/// Time for a proxy to finish what it does after its first answer or after the last stream was opened, and for
/// the mock after the last stream was closed.
const SETTLE: Duration = Duration::from_millis(300);

/// Observations of both sides, floor first.
#[derive(Default)]
pub(crate) struct Standing {
    /// From the start of the process to the first right answer, in milliseconds.
    pub(crate) start_ms: [Vec<f64>; 2],
    /// Resident memory after that first answer, in MiB.
    pub(crate) idle_mib: [Vec<f64>; 2],
    /// Resident memory with the streams open, in MiB.
    pub(crate) open_mib: [Vec<f64>; 2],
}

// === impl Standing ===

impl Standing {
    /// Starts, observes and ends one process of each side.
    ///
    /// # Errors
    /// When one does not answer, or does not open that many streams.
    pub(crate) async fn observe(&mut self, bed: &Bed, streams: usize) -> Result<(), Failure> {
        for side in Side::BOTH {
            let begin = Instant::now();
            let proxy = bed.fresh(side).await?;
            self.start_ms[side as usize].push(begin.elapsed().as_secs_f64() * 1000.0);
            tokio::time::sleep(SETTLE).await;
            self.idle_mib[side as usize].push(proxy.resident_mib()?);
            let held = load::hold(&proxy.target, streams).await?;
            tokio::time::sleep(SETTLE).await;
            self.open_mib[side as usize].push(proxy.resident_mib()?);
            drop((held, proxy));
            // The mock still has that many connections to close; the next start must not wait for it.
            tokio::time::sleep(SETTLE).await;
        }
        Ok(())
    }
}
