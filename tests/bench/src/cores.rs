//! Who runs on which core.
//!
//! On two cores the scheduler now puts the load generator beside the proxy and now beside the mock, and stays
//! with it for seconds. A call then costs 17 or 25 µs of CPU and takes 20 or 70 µs by luck, which is more than
//! the difference looked for. So the proxies have a core for themselves (one at a time works), and the rest
//! shares another one.

use std::fmt;

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

use crate::failure::{Context, Failure};

/// The cores of a run; `None` where the scheduler decides.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cores {
    /// For the load generator and the mock.
    pub(crate) ours: Option<usize>,
    /// For the proxies.
    pub(crate) proxies: Option<usize>,
}

/// The thread that made this runs where it says, until it is dropped.
pub(crate) struct Stay {
    before: CpuSet,
}

// === impl Cores ===

impl Cores {
    /// The first and the last core this process may use; none if they are the same.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub(crate) fn apart() -> Result<Self, Failure> {
        let allowed = allowed()?;
        let mut usable = (0..CpuSet::count()).filter(|core| allowed.is_set(*core).unwrap_or(false));
        let (ours, proxies) = (usable.next(), usable.next_back());
        Ok(if proxies.is_some() { Self { ours, proxies } } else { Self::default() })
    }
}

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.ours, self.proxies) {
            (Some(ours), Some(proxies)) => {
                write!(f, "the proxies ran on core {proxies} alone, load and mock on core {ours}")
            }
            _ => f.write_str("the scheduler placed everything"),
        }
    }
}

// === impl Stay ===

impl Stay {
    /// Moves this thread to `core`. A child that is started meanwhile inherits it, and so do its threads; its
    /// runtime sees one core and starts one worker.
    ///
    /// # Errors
    /// When the kernel does not let it.
    pub(crate) fn on(core: Option<usize>) -> Result<Self, Failure> {
        let before = allowed()?;
        if let Some(core) = core {
            let mut only = CpuSet::new();
            only.set(core).context(|| format!("core {core} is out of the kernel's range"))?;
            sched_setaffinity(Pid::from_raw(0), &only).context(|| format!("cannot move to core {core}"))?;
        }
        Ok(Self { before })
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        // If that fails we stay where we are, which costs time but no number.
        let _ = sched_setaffinity(Pid::from_raw(0), &self.before);
    }
}

fn allowed() -> Result<CpuSet, Failure> {
    sched_getaffinity(Pid::from_raw(0)).context(|| "cannot ask for the allowed cores".to_owned())
}
