//! The test bed: the mock, the floor and the subject, each a process, and where to call them.

use std::{fs, path::PathBuf, process::Command};

use hyper::header::HeaderValue;
use tempfile::TempDir;

use crate::{
    cores::Cores,
    failure::{Context, Failure},
    load::{Lane, Target},
    process::{self, Process},
};

/// What stands in the column beside the floor.
pub(crate) enum Subject {
    /// `hoosh serve` with the generated config and `extra` after it.
    Hoosh { binary: PathBuf, extra: String },
    /// A second floor.
    Floor,
}

/// Which of the two proxies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Floor,
    Subject,
}

/// A proxy that answers, and the target that calls it.
pub(crate) struct Proxy {
    pub(crate) process: Process,
    pub(crate) target: Target,
}

/// Everything that runs beside us.
pub(crate) struct Bed {
    subject: Subject,
    cores: Cores,
    authorization: HeaderValue,
    pub(crate) direct: Target,
    /// The proxies of the rounds; there from [`Bed::start_rounds`] on.
    proxies: Option<[Proxy; 2]>,
    _mock: Process,
    /// Last, so that the processes that write there are gone before it is removed.
    folder: TempDir,
}

// === impl Side ===

impl Side {
    pub(crate) const BOTH: [Self; 2] = [Self::Floor, Self::Subject];
}

// === impl Bed ===

impl Bed {
    /// Starts the mock.
    ///
    /// # Errors
    /// When it cannot be started or does not answer.
    pub(crate) async fn start(subject: Subject, key: &str, cores: Cores) -> Result<Self, Failure> {
        let authorization = HeaderValue::try_from(format!("Bearer {key}"))
            .context(|| "the key does not fit into a header".to_owned())?;
        let folder = tempfile::tempdir().context(|| "cannot make a temporary folder".to_owned())?;
        let port = process::free_port()?;
        let mut command = role("mock", port)?;
        command.env_clear();
        let mut mock = Process::spawn("mock", command, port, folder.path(), cores.ours)?;
        let address = process::loopback(port);
        let direct =
            Target { name: "mock", address, lane: Lane::Passed, authorization: authorization.clone() };
        mock.first_answer(&direct).await?;
        Ok(Self { subject, cores, authorization, direct, proxies: None, _mock: mock, folder })
    }

    pub(crate) fn subject_name(&self) -> &'static str {
        match self.subject {
            Subject::Hoosh { .. } => "hoosh",
            Subject::Floor => "floor 2",
        }
    }

    /// Starts the two proxies that all rounds use, so that what a proxy piles up over a run is in its numbers.
    ///
    /// # Errors
    /// When one of them cannot be started or does not answer.
    pub(crate) async fn start_rounds(&mut self) -> Result<(), Failure> {
        self.proxies = Some([self.fresh(Side::Floor).await?, self.fresh(Side::Subject).await?]);
        Ok(())
    }

    /// Starts a proxy and waits for its first answer.
    ///
    /// # Errors
    /// When it cannot be started or does not answer.
    pub(crate) async fn fresh(&self, side: Side) -> Result<Proxy, Failure> {
        let port = process::free_port()?;
        let name = if side == Side::Floor { "floor" } else { self.subject_name() };
        let mut command = match (&self.subject, side) {
            (Subject::Hoosh { binary, extra }, Side::Subject) => {
                let config = self.folder.path().join(format!("hoosh-{port}.toml"));
                fs::write(&config, self.config(port, extra))
                    .context(|| format!("cannot write {}", config.display()))?;
                let mut command = Command::new(binary);
                command.arg("serve").arg("--config").arg(config);
                command
            }
            _ => {
                let mut command = role("floor", port)?;
                command.args(["--upstream", &self.direct.address.to_string()]);
                command
            }
        };
        // A home of its own and no variables of ours: keys and settings found there would change what is measured.
        command.env_clear();
        for home in ["HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"] {
            command.env(home, self.folder.path());
        }
        let mut process = Process::spawn(name, command, port, self.folder.path(), self.cores.proxies)?;
        let authorization = self.authorization.clone();
        let address = process::loopback(port);
        let target = Target { name, address, lane: Lane::Passed, authorization };
        process.first_answer(&target).await?;
        Ok(Proxy { process, target })
    }

    /// Whether the subject can translate, which a floor cannot.
    pub(crate) fn translates(&self) -> bool {
        matches!(self.subject, Subject::Hoosh { .. })
    }

    /// A proxy of the rounds.
    ///
    /// # Errors
    /// When [`Bed::start_rounds`] was not called.
    pub(crate) fn proxy(&self, side: Side) -> Result<&Proxy, Failure> {
        let [floor, subject] =
            self.proxies.as_ref().ok_or_else(|| Failure::new("the proxies of the rounds are not started"))?;
        Ok(match side {
            Side::Floor => floor,
            Side::Subject => subject,
        })
    }

    /// Resident memory of the rounds' proxies, floor first, in MiB.
    ///
    /// # Errors
    /// When one of them ended.
    pub(crate) fn resident(&self) -> Result<[f64; 2], Failure> {
        Ok([self.proxy(Side::Floor)?.resident_mib()?, self.proxy(Side::Subject)?.resident_mib()?])
    }

    /// The two providers of the lanes. The mock answers each dialect below a path of its own, so that a lane that should
    /// translate cannot pass through unseen.
    fn config(&self, port: u16, extra: &str) -> String {
        let upstream = self.direct.address;
        format!(
            "[server]\nbind = \"127.0.0.1\"\nport = {port}\n\n\
             [[providers]]\ntype = \"openai_compatible\"\nname = \"mock\"\n\
             base_url = \"http://{upstream}/v1\"\nmodels = [\"*\"]\n\n\
             [[providers]]\ntype = \"anthropic\"\nname = \"messages\"\n\
             base_url = \"http://{upstream}/anthropic/v1\"\napi_key = \"bench\"\n\n{extra}"
        )
    }
}

// === impl Proxy ===

impl Proxy {
    /// # Errors
    /// When the process ended.
    pub(crate) fn resident_mib(&self) -> Result<f64, Failure> {
        Ok(self.process.resident_kib()? as f64 / 1024.0)
    }
}

/// This binary in another role.
fn role(name: &str, port: u16) -> Result<Command, Failure> {
    let binary = std::env::current_exe().context(|| "cannot find this binary".to_owned())?;
    let mut command = Command::new(binary);
    command.args([name, "--port", &port.to_string()]);
    Ok(command)
}
