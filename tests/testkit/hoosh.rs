//! The real binary, as a process.

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::{PATIENCE, refused_port};

/// A running `hoosh serve`, killed when it goes out of scope.
pub struct Hoosh {
    child: Child,
    port: u16,
    folder: TempDir,
}

/// The binary under test: `HOOSH_BIN`, or the one that cargo built beside this test.
pub fn binary() -> PathBuf {
    let path = std::env::var_os("HOOSH_BIN").map(PathBuf::from).unwrap_or_else(|| {
        let test = std::env::current_exe().unwrap();
        test.parent().unwrap().parent().unwrap().join("hoosh")
    });
    assert!(
        path.exists(),
        "there is no {}; run `cargo build -p hoosh-server --bin hoosh` first",
        path.display()
    );
    path
}

/// A configuration file.
fn text(port: u16, config: &str) -> String {
    format!("[server]\nbind = \"127.0.0.1\"\nport = {port}\n{config}")
}

/// Runs the binary with these arguments to its end, in an empty environment and folder.
pub fn finished(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(binary()).args(arguments).env_clear().current_dir(folder.path()).output();
    output.unwrap()
}

/// Starts the program in a folder, its log and what it prints in files there.
fn spawn(folder: &TempDir, arguments: &[&str], environment: &[(&str, &str)]) -> Child {
    let file = |name| std::fs::File::create(folder.path().join(name)).unwrap();
    Command::new(binary())
        .arg("serve")
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(file("printed"))
        .stderr(file("log"))
        .spawn()
        .unwrap()
}

impl Hoosh {
    /// Starts one with this configuration on a free port and waits until it answers. The text is what follows a
    /// `[server]` section of bind and port: keys of that section first, then others.
    pub async fn start(config: &str) -> Self {
        Self::start_with(config, &[]).await
    }

    /// The same with these environment variables and no others.
    pub async fn start_with(config: &str, environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = refused_port();
        std::fs::write(folder.path().join("other.toml"), text(port, config)).unwrap();
        Self::serve(folder, port, &["--config", "other.toml"], environment).await
    }

    /// Starts one without any configuration, in an empty folder, with these environment variables and no others.
    pub async fn start_without_config(environment: &[(&str, &str)]) -> Self {
        let port = refused_port();
        Self::serve(tempfile::tempdir().unwrap(), port, &["--port", &port.to_string()], environment).await
    }

    async fn serve(folder: TempDir, port: u16, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let child = spawn(&folder, arguments, environment);
        let mut hoosh = Self { child, port, folder };
        hoosh.wait_until_up().await;
        hoosh
    }

    /// Ends one that was started with a configuration by this signal, and starts it again in the same folder.
    pub async fn restart_after(&mut self, signal: &str) {
        self.signal(signal);
        self.ended().await;
        self.restart_after_end().await;
    }

    /// Starts one that has ended again in the same folder.
    pub async fn restart_after_end(&mut self) {
        self.child = spawn(&self.folder, &["--config", "other.toml"], &[]);
        self.wait_until_up().await;
    }

    /// It listens before it has opened its files, and answers when it has.
    async fn wait_until_up(&mut self) {
        let start = Instant::now();
        while client().get(self.url("/health")).send().await.is_err() {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none() && start.elapsed() < PATIENCE, "hoosh did not start:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Puts another configuration in the place of its file, in one step as editors do. The text is as for
    /// [`start`](Self::start).
    pub fn configure(&self, config: &str) {
        let (new, file) = (self.folder.path().join("new.toml"), self.folder.path().join("other.toml"));
        std::fs::write(&new, text(self.port, config)).unwrap();
        std::fs::rename(new, file).unwrap();
    }

    /// The folder that it runs in, with its configuration.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Runs the binary beside it, with its configuration, in its folder.
    pub fn command(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(binary());
        command.args(arguments).args(["--config", "other.toml"]).env_clear();
        command.current_dir(self.folder.path()).output().unwrap()
    }

    /// The number of its process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Its address.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// What it wrote to its log, which is written in batches: so after a moment.
    pub fn log(&self) -> String {
        std::thread::sleep(Duration::from_millis(150));
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// What it printed to its standard output since it started.
    pub fn printed(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("printed")).unwrap()
    }

    /// Sends it a signal, by `kill`'s name for it.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(sent.unwrap().success());
    }

    /// Waits until it has ended; its exit code.
    pub async fn ended(&mut self) -> Option<i32> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(start.elapsed() < PATIENCE, "hoosh did not end:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Posts JSON to a path.
    pub async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> reqwest::Response {
        let request = client().post(self.url(path)).header("content-type", "application/json").body(body);
        request.send().await.unwrap()
    }

    /// Gets a path.
    pub async fn get(&self, path: &str) -> reqwest::Response {
        client().get(self.url(path)).send().await.unwrap()
    }
}

/// A client that keeps no connections, so that tests do not wait for each other's.
pub fn client() -> reqwest::Client {
    client_builder().pool_max_idle_per_host(0).build().unwrap()
}

/// The same, to be changed.
pub fn client_builder() -> reqwest::ClientBuilder {
    // Another crate of the workspace turns reqwest's TLS on, which then wants a provider although nothing here uses it.
    let _already = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().timeout(PATIENCE * 3)
}

impl Drop for Hoosh {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
