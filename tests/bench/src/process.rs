//! A role that runs beside us: started, watched, measured by what the kernel knows about it, and killed.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::{time::ClockId, unistd::Pid};
use tokio::time::Instant;

use crate::{
    cores::Stay,
    failure::{Context, Failure},
    load::{self, Target},
};

/// A role that has not answered by then will not; the bar for hoosh is 50 ms.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// How often a start is looked at: the finest that tokio's timer can.
const READY_STEP: Duration = Duration::from_millis(1);

/// As much of a role's last words as is worth printing.
const LAST_LINES: usize = 12;

/// A child process; killed when dropped, so that no way out of `run` leaves one behind.
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

/// A port that is free now. Somebody else may take it before the child does; then the child says so and the run
/// ends with that sentence.
///
/// # Errors
/// When loopback has none.
pub(crate) fn free_port() -> Result<u16, Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context(|| "no free port".to_owned())?;
    Ok(listener.local_addr().context(|| "no free port".to_owned())?.port())
}

/// Where a role of ours listens.
pub(crate) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

// === impl Process ===

impl Process {
    /// Starts `command` in `folder`, with its output in a file there: a terminal would slow it down, and a pipe
    /// that nobody reads would stop it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn spawn(
        name: &'static str,
        mut command: Command,
        port: u16,
        folder: &Path,
        core: Option<usize>,
    ) -> Result<Self, Failure> {
        let log = folder.join(format!("{name}-{port}.log").replace(' ', "-"));
        let out = File::create(&log).context(|| format!("cannot write {}", log.display()))?;
        let err = out.try_clone().context(|| format!("cannot write {}", log.display()))?;
        command.current_dir(folder).stdin(Stdio::null()).stdout(out).stderr(err);
        let program = command.get_program().to_string_lossy().into_owned();
        let _inherited = Stay::on(core)?;
        let child = command.spawn().context(|| format!("cannot start {name} ({program})"))?;
        Ok(Self { name, child, log })
    }

    /// Waits for the first right answer to a call.
    ///
    /// # Errors
    /// When the process ends or ten seconds pass; the failure has the process's last words.
    pub(crate) async fn first_answer(&mut self, target: &Target) -> Result<(), Failure> {
        let until = Instant::now() + READY_WITHIN;
        loop {
            let why = match tokio::time::timeout_at(until, load::knock(target)).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(failure)) => failure.chain(),
                Err(_) => "it holds a call without an answer".to_owned(),
            };
            let ended = self.child.try_wait().context(|| format!("cannot watch {}", self.name))?;
            if ended.is_some() || Instant::now() >= until {
                let name = self.name;
                let state = ended.map_or("still runs".to_owned(), |status| format!("ended ({status})"));
                let said = self.last_lines();
                return Err(Failure::new(format!(
                    "{name} is not ready: {why}; it {state} and said:\n{said}"
                )));
            }
            tokio::time::sleep(READY_STEP).await;
        }
    }

    /// CPU time that the process has taken, user and system, threads that ended included, in nanoseconds' grain.
    ///
    /// The process clock and not `/proc/PID/stat`, whose ticks are 10 ms, nor the sum over
    /// `/proc/PID/task/*/schedstat`, which loses threads that end and is not compiled into every kernel.
    ///
    /// # Errors
    /// When the process is gone.
    pub(crate) fn cpu(&self) -> Result<Duration, Failure> {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).context(|| "a pid over 31 bits".to_owned())?);
        let clock = ClockId::pid_cpu_clock_id(pid).context(|| format!("{} has no CPU clock", self.name))?;
        let time = clock.now().context(|| format!("cannot read the CPU clock of {}", self.name))?;
        Ok(Duration::from(time))
    }

    /// Resident memory in KiB, shared pages of the binary included: what `ps` says.
    ///
    /// # Errors
    /// When the process is gone.
    pub(crate) fn resident_kib(&self) -> Result<u64, Failure> {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(&path).context(|| format!("cannot read {path}"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok())
            .ok_or_else(|| Failure::new(format!("{path} of {} has no VmRSS; did it end?", self.name)))
    }

    fn last_lines(&self) -> String {
        let said = fs::read_to_string(&self.log).unwrap_or_default();
        let lines = said.lines().collect::<Vec<_>>();
        let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
        if last.is_empty() { "(nothing)".to_owned() } else { last.join("\n") }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if the process is gone already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
