//! Who runs on which core.
//!
//! On two cores the scheduler now puts the load generator beside the proxy and now beside the mock, and stays
//! with it for seconds. A call then costs 17 or 25 µs of CPU and takes 20 or 70 µs by luck, which is more than
//! the difference looked for.

use std::fmt;

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

use crate::failure::{Context, Failure};

/// How the roles share the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Placement {
    /// The proxies have one core for themselves, load and mock another: as when they are on other machines
    Apart,
    /// One core for everything: nobody waits for another core to wake up, so what is added is work alone
    Together,
    /// The scheduler decides: much noisier on a small machine, but the proxies may use all cores
    Free,
}

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
    /// Picks among the cores this process may use. A machine with one core has no two to keep apart.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub(crate) fn pick(placement: Placement) -> Result<Self, Failure> {
        let allowed = allowed()?;
        let mut usable = (0..CpuSet::count()).filter(|core| allowed.is_set(*core).unwrap_or(false));
        let (first, last) = (usable.next(), usable.next_back());
        Ok(match placement {
            Placement::Apart => Self { ours: first, proxies: last.or(first) },
            Placement::Together => Self { ours: first, proxies: first },
            Placement::Free => Self::default(),
        })
    }
}

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.ours, self.proxies) {
            (Some(ours), Some(proxies)) => {
                write!(f, "proxies on core {proxies}, load and mock on core {ours}")
            }
            _ => f.write_str("cores chosen by the scheduler"),
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
