//! The next configuration while calls go on: read anew, checked as at a start, and put in place of the last one in one step.
//!
//! A reload does what a restart would, but for the settings that a listener or its places were made from. Whatever is wrong
//! with the new configuration, nothing of it is taken and the last good one stays. What outlives a configuration is said in
//! [`assembly`] and in [`GatewayBuilder::after`](hoosh_gateway::GatewayBuilder::after).

use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::{Stream, StreamExt};
use hoosh_audit::Entry;
use hoosh_core::limits;
use hoosh_providers::ProviderSettings;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use tokio::sync::{Mutex, watch};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::app::App;
use crate::assembly;
use crate::audit;
use crate::config::pools::{self, PoolChange, PoolRefusal};
use crate::config::{
    Config, ConfigErrors, Fault, File, FileRead, LoadOptions, Place, ReloadMode, load, settle_routes,
};
use crate::discover::discover;

/// The snapshot that the next request takes, and how the one after it is made.
pub(crate) struct Live {
    app: watch::Sender<Arc<App>>,
    source: Option<Source>,
    /// Reloads begun so far.
    begun: AtomicU64,
    /// The last that ended. Held while one is under way.
    last: Mutex<Last>,
}

/// Where configurations come from.
pub(crate) struct Source {
    pub(crate) options: LoadOptions,
    /// The port that is listened on, where discovery would only find this gateway itself.
    pub(crate) own_port: u16,
}

#[derive(Default)]
struct Last {
    number: u64,
    outcome: Option<Result<Arc<Report>, Refused>>,
}

/// Who wants a reload.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Trigger {
    Signal,
    Request,
    Watch,
}

/// What a reload has come to.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// [`Config::hash`] of what is in use now.
    config: String,
    /// The same of what was.
    previous: String,
    /// What is other than before, a few words each; values are not in them.
    changed: Vec<String>,
    /// What a user should know, a sentence each.
    warnings: Vec<String>,
    /// Where it was read from.
    sources: Vec<String>,
}

/// Why everything stays as it is.
#[derive(Debug, Clone)]
pub(crate) enum Refused {
    /// Nothing is read again here.
    Off(&'static str),
    /// What was read cannot be run.
    Faults(ConfigErrors),
}

/// Finds out that a file has changed and is not being written any more.
#[derive(Debug, Default)]
struct Watcher {
    /// What was tried last, if it is not what is in use.
    tried: Option<Option<FileRead>>,
    /// What the last look found, if that is neither.
    pending: Option<Option<FileRead>>,
}

/// Reloads at each hangup.
pub(crate) async fn at_hangups(live: Arc<Live>, hangups: impl Stream<Item = ()>) {
    let mut hangups = std::pin::pin!(hangups);
    while hangups.next().await.is_some() {
        // The log has it already, and nobody else asked.
        let _told = live.reload(Trigger::Signal).await;
    }
}

/// Reloads when the file has changed, as long as the configuration in use wants that.
///
/// It looks at the contents instead of being told by the system: that needs no further crate, and works with network mounts, with
/// editors that put a new file in place of the old one, and with the links that Kubernetes swaps.
pub(crate) async fn at_changes(live: Arc<Live>) {
    let Some(source) = &live.source else { return };
    let mut watcher = Watcher::default();
    loop {
        sleep(limits::CONFIG_WATCH_INTERVAL).await;
        if live.app().config.server.reload != ReloadMode::Watch {
            continue;
        }
        let options = source.options.clone();
        // A network mount may take its time, and a panic of the reader is no look.
        if let Ok(found) = spawn_blocking(move || look(&options)).await
            && watcher.has_changed(found, live.app().config.file.as_ref())
        {
            let _told = live.reload(Trigger::Watch).await;
        }
    }
}

/// Reads the configuration as at a start.
fn read(options: &LoadOptions, file_before: Option<&Path>) -> Result<Config, ConfigErrors> {
    match (File::find(options), file_before) {
        // A start would do without, and be a gateway of what it finds.
        (None, Some(file)) => {
            return Err(fault(file.display(), "is not there any more"));
        }
        // It would be waited for, without end: it was the output of a program.
        (Some((path, _)), _) if is_read_once(&options.directory.join(&path)) => {
            return Err(fault(path.display(), "is no file, and cannot be read a second time"));
        }
        _ => {}
    }
    load(options)
}

/// The file that would be read now; `None` if there is none that can be.
fn look(options: &LoadOptions) -> Option<FileRead> {
    let (path, _) = File::find(options)?;
    let place = options.directory.join(&path);
    if is_read_once(&place) {
        return None;
    }
    let content = std::fs::read(place).ok()?;
    Some(FileRead::new(path, &content))
}

fn fault(file: impl Display, problem: &str) -> ConfigErrors {
    Fault::new(Place::File { file: file.to_string(), line: None }, "", problem).into()
}

fn is_read_once(path: &Path) -> bool {
    path.metadata().is_ok_and(|of| !of.is_file() && !of.is_dir())
}

/// Puts what only a restart can change back to what it was, and says so.
///
/// # Errors
///
/// If the gateway would then be open to everybody: it goes on listening where it does.
fn keep_what_takes_a_restart(config: &mut Config, before: &Config) -> Result<(), ConfigErrors> {
    let (new, old) = (&mut config.server, &before.server);
    if new.bind != old.bind && !old.bind.is_loopback() && config.auth.is_open() && !before.auth.is_open() {
        let problem = format!(
            "is empty, but the gateway listens on {} until it is restarted: everybody could call; restart it",
            old.bind
        );
        let place = config.origins.get("server.bind").cloned().unwrap_or(Place::Default);
        return Err(Fault::new(place, "auth.tokens", problem).into());
    }
    let mut warnings = Vec::new();
    let mut keep = |key: &str, new: &dyn Display, old: &dyn Display| {
        let says = format!("`{key}` is {new} now, which takes a restart; until then it stays {old}");
        let place = config.origins.get(key).filter(|place| **place != Place::Default);
        warnings.push(place.map_or(says.clone(), |place| format!("{place}: {says}")));
    };
    if new.bind != old.bind {
        keep("server.bind", &new.bind, &old.bind);
    }
    if new.port != old.port {
        keep("server.port", &new.port, &old.port);
    }
    if new.max_connections != old.max_connections {
        keep("server.max_connections", &new.max_connections, &old.max_connections);
    }
    (new.bind, new.port, new.max_connections) = (old.bind, old.port, old.max_connections);
    config.warnings.append(&mut warnings);
    Ok(())
}

/// What is other in one configuration than in another, without values, which may be nobody's business.
fn changes(before: &Config, after: &Config) -> Vec<String> {
    let names = |config: &Config| -> Vec<String> {
        config.providers.iter().map(|provider| provider.name().to_owned()).collect()
    };
    let (old_names, new_names) = (names(before), names(after));
    let gone = old_names.iter().filter(|name| !new_names.contains(name));
    let added = new_names.iter().filter(|name| !old_names.contains(name));
    let mut whole: Vec<String> = Vec::new();
    let mut told = Vec::new();
    for (names, says) in [(added.collect::<Vec<_>>(), "added"), (gone.collect(), "removed")] {
        for name in names {
            told.push(format!("provider `{name}` {says}"));
            whole.push(format!("providers.{name}."));
        }
    }
    if told.is_empty() && old_names != new_names {
        told.push("order of the providers".to_owned());
    }
    let (old, new) = (before.settings(), after.settings());
    let paths: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let is_told = |path: &str| whole.iter().any(|prefix| path.starts_with(prefix.as_str()));
    let differ = paths.into_iter().filter(|path| old.get(*path) != new.get(*path) && !is_told(path));
    let mut settings: BTreeSet<String> = differ.cloned().collect();
    // Secrets are all alike in what was compared.
    let same_key =
        |old: &ProviderSettings, new: &ProviderSettings| old.is_same_account(new) || !old.is_same_server(new);
    for name in new_names.iter().filter(|name| old_names.contains(name)) {
        if !assembly::pair(before, after, name, same_key) {
            settings.insert(format!("providers.{name}.api_key"));
        }
    }
    // Its path may be the same, and what is in it other.
    if before.cache.warm != after.cache.warm {
        settings.insert("cache.warm".to_owned());
    }
    if before.budget.hook != after.budget.hook {
        // The secret, if its address is the same.
        let url = |config: &Config| config.budget.hook.as_ref().map(|hook| hook.url.clone());
        if url(before) == url(after) {
            settings.insert("budget.alert_webhook_secret".to_owned());
        }
    }
    if before.costs.prices != after.costs.prices {
        settings.insert("costs.prices".to_owned());
    }
    let tokens = |tokens: &[SecretString]| -> BTreeSet<String> {
        tokens.iter().map(|token| token.expose_secret().to_owned()).collect()
    };
    let (old, new) = (&before.auth, &after.auth);
    for (key, old, new) in
        [("tokens", &old.tokens, &new.tokens), ("admin_tokens", &old.admin_tokens, &new.admin_tokens)]
    {
        if tokens(old) != tokens(new) {
            settings.insert(format!("auth.{key}"));
        }
    }
    told.extend(settings.into_iter().map(|path| format!("`{path}`")));
    told
}

// === impl Live ===

impl Live {
    /// Begins with this snapshot. Without a source it stays.
    pub(crate) fn new(app: App, source: Option<Source>) -> Self {
        if let Some(audit) = &app.audit {
            let fields = [("config", app.config_hash.clone()), ("sources", app.config.sources.join(", "))];
            audit.note(Entry::Config(audit::event("started", "start", fields)));
        }
        let (begun, last) = (AtomicU64::new(0), Mutex::default());
        Self { app: watch::Sender::new(Arc::new(app)), source, begun, last }
    }

    /// The snapshot in use.
    pub(crate) fn app(&self) -> Arc<App> {
        Arc::clone(&self.app.borrow())
    }

    /// Tells of each snapshot.
    pub(crate) fn apps(&self) -> watch::Receiver<Arc<App>> {
        self.app.subscribe()
    }

    /// Reads the configuration again and takes it, or says why not.
    ///
    /// One at a time: who asks while one is under way waits for the next one, which all of them share.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it has either taken the configuration or not.
    pub(crate) async fn reload(&self, trigger: Trigger) -> Result<Arc<Report>, Refused> {
        let asked = self.begun.load(Ordering::Relaxed);
        let mut last = self.last.lock().await;
        // One that began after this was asked for has read what this would read.
        if let Some(outcome) = last.outcome.as_ref().filter(|_| last.number > asked) {
            return outcome.clone();
        }
        let number = self.begun.fetch_add(1, Ordering::Relaxed) + 1;
        let outcome = self.take_next().await.map(Arc::new);
        self.tell(trigger, &outcome);
        *last = Last { number, outcome: Some(outcome.clone()) };
        outcome
    }

    /// Changes the pools that are defined while the gateway runs, and takes the configuration with them; nothing is read again.
    ///
    /// # Errors
    ///
    /// Why not; everything stays as it was.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it may have written them down; the next reload or start takes them then.
    pub(crate) async fn change_pools(&self, change: PoolChange) -> Result<Arc<App>, PoolRefusal> {
        let _one_at_a_time = self.last.lock().await;
        let before = self.app();
        let mut config = before.config.clone();
        let changed = spawn_blocking(move || pools::change(&mut config, change).map(|text| (config, text)));
        let broken = |error: String| PoolRefusal::File("pools".into(), std::io::Error::other(error));
        let (config, text) = changed.await.map_err(|error| broken(error.to_string()))??;
        match App::new(config.clone(), Some(&before)) {
            Ok(app) => {
                let app = Arc::new(app);
                self.app.send_replace(Arc::clone(&app));
                Ok(app)
            }
            Err(error) => {
                let back = spawn_blocking(move || pools::put_back(&config, text.as_deref())).await;
                if !matches!(back, Ok(Ok(()))) {
                    tracing::error!(target: "hoosh::budget", "the file of pools has one that is not in use");
                }
                Err(broken(error.to_string()))
            }
        }
    }

    async fn take_next(&self) -> Result<Report, Refused> {
        let Some(source) = &self.source else {
            return Err(Refused::Off("this gateway was given its configuration by its program"));
        };
        let before = self.app();
        if before.config.server.reload == ReloadMode::Off {
            return Err(Refused::Off(
                "`[server] reload` is off: the configuration is read at the start only",
            ));
        }
        let config = source.next(&before.config).await.map_err(Refused::Faults)?;
        let report = Report {
            config: config.hash(),
            previous: before.config_hash.clone(),
            changed: changes(&before.config, &config),
            warnings: config.warnings.clone(),
            sources: config.sources.clone(),
        };
        // It was put together once to be checked, so that this is no place for surprises.
        let app = App::new(config, Some(&before))
            .map_err(|error| Refused::Faults(Fault::new(Place::Default, "", error.to_string()).into()))?;
        self.app.send_replace(Arc::new(app));
        Ok(report)
    }

    fn tell(&self, trigger: Trigger, outcome: &Result<Arc<Report>, Refused>) {
        let (by, app) = (trigger.as_str(), self.app());
        let metrics = &app.metrics;
        if let Some(audit) = &app.audit {
            audit.note(Entry::Config(match outcome {
                Ok(report) => {
                    let hashes = [("config", report.config.clone()), ("previous", report.previous.clone())];
                    audit::event(
                        "reloaded",
                        by,
                        hashes.into_iter().chain([("changed", report.changed.join(", "))]),
                    )
                }
                Err(Refused::Off(why)) => audit::event("refused", by, [("why", (*why).to_owned())]),
                Err(Refused::Faults(errors)) => {
                    audit::event("refused", by, [("faults", errors.faults.len().to_string())])
                }
            }));
        }
        match outcome {
            Ok(report) => {
                metrics.count_reload(true);
                let changed =
                    if report.changed.is_empty() { "nothing".to_owned() } else { report.changed.join(", ") };
                tracing::info!(target: "hoosh::config", by, config = report.config, changed, "reloaded");
                for warning in &report.warnings {
                    tracing::warn!(target: "hoosh::config", "{warning}");
                }
            }
            Err(Refused::Off(why)) => tracing::warn!(target: "hoosh::config", by, "not reloaded: {why}"),
            Err(Refused::Faults(errors)) => {
                metrics.count_reload(false);
                let faults = errors.faults.len();
                tracing::error!(target: "hoosh::config", by, faults, "refused; the last one stays");
                for fault in &errors.faults {
                    tracing::error!(target: "hoosh::config", "{fault}");
                }
            }
        }
    }
}

// === impl Source ===

impl Source {
    /// The configuration as it is now, but for what takes a restart.
    async fn next(&self, before: &Config) -> Result<Config, ConfigErrors> {
        let options = self.options.clone();
        let file = before.file.as_ref().map(|file| file.path.clone());
        let read = spawn_blocking(move || read(&options, file.as_deref())).await;
        // Only a bug ends it early.
        let mut config =
            read.unwrap_or_else(|error| Err(Fault::new(Place::Default, "", error.to_string()).into()))?;
        if config.discover {
            discover(&self.options.env, self.own_port).await.add_to(&mut config);
            settle_routes(&mut config)?;
        }
        keep_what_takes_a_restart(&mut config, before)?;
        Ok(config)
    }
}

// === impl Trigger ===

impl Trigger {
    fn as_str(self) -> &'static str {
        match self {
            Self::Signal => "SIGHUP",
            Self::Request => "request",
            Self::Watch => "watch",
        }
    }
}

// === impl Watcher ===

impl Watcher {
    /// Whether what was found is to be tried: it is not in use, was not tried last, and is as it was at the last look.
    fn has_changed(&mut self, found: Option<FileRead>, in_use: Option<&FileRead>) -> bool {
        if found.as_ref() == in_use {
            *self = Self::default();
            return false;
        }
        if self.tried.as_ref() == Some(&found) {
            self.pending = None;
            return false;
        }
        let is_settled = self.pending.as_ref() == Some(&found);
        if is_settled {
            (self.tried, self.pending) = (Some(found), None);
        } else {
            self.pending = Some(found);
        }
        is_settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(toml: &str) -> Config {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(crate::config::FILE_NAME), toml).unwrap();
        load(&LoadOptions { directory: folder.path().to_owned(), ..LoadOptions::default() }).unwrap()
    }

    fn provider(name: &str, more: &str) -> String {
        format!(
            "[[providers]]\ntype = \"openai\"\nname = \"{name}\"\napi_key = \"k\"\nbase_url = \"http://x/v1\"\n{more}\n"
        )
    }

    #[test]
    fn a_file_is_tried_when_it_has_changed_and_stays_so() {
        // The first is in use all the time: whatever is tried is refused. 0: there is no file.
        let looks = [
            (1, false),
            (2, false),
            (3, false),
            (3, true),
            (3, false),
            (0, false),
            (3, false),
            (0, false),
            (0, true),
            (0, false),
            (1, false),
            (0, false),
            (0, true),
        ];
        let file = |content: u8| (content > 0).then(|| FileRead::new("f".into(), &[content]));
        let (mut watcher, in_use) = (Watcher::default(), file(1));
        for (index, (found, expected)) in looks.into_iter().enumerate() {
            assert_eq!(watcher.has_changed(file(found), in_use.as_ref()), expected, "look {index}");
        }
    }

    #[test]
    fn what_has_changed_is_said_without_its_value() {
        let old = config(&format!(
            "[auth]\ntokens = [\"a\"]\n{}{}",
            provider("one", "priority = 1"),
            provider("two", "")
        ));
        let new = config(&format!(
            "[server]\nstrategy = \"weighted\"\n[aliases]\nfast = \"gpt-4o\"\n[auth]\ntokens = [\"b\"]\n{}{}",
            provider("one", "priority = 2").replace("\"k\"", "\"other\""),
            provider("three", "")
        ));
        let expected = [
            "provider `three` added",
            "provider `two` removed",
            "`aliases.fast`",
            "`auth.tokens`",
            "`providers.one.api_key`",
            "`providers.one.priority`",
            "`server.strategy`",
        ];
        assert_eq!(changes(&old, &new), expected);
        assert!(changes(&old, &old).is_empty());
        let (one, two) = (provider("one", ""), provider("two", ""));
        let turned = changes(&config(&format!("{one}{two}")), &config(&format!("{two}{one}")));
        assert_eq!(turned, ["order of the providers"]);
    }

    #[test]
    fn the_hash_is_of_what_is_said_and_not_of_where_or_of_secrets() {
        let one = config(&provider("one", "priority = 1"));
        let same = config(&format!("\n\n{}", provider("one", "priority = 1").replace("\"k\"", "\"l\"")));
        assert_eq!((one.hash().len(), one.hash()), (12, same.hash()));
        assert_ne!(one.hash(), config(&provider("one", "priority = 2")).hash());
    }

    #[test]
    fn a_file_that_is_gone_or_cannot_be_read_again_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().to_owned();
        let here = LoadOptions { directory, ..LoadOptions::default() };
        let refused = |options, before| read(options, before).unwrap_err().to_string();
        assert!(read(&here, None).unwrap().discover, "as at a start");
        let gone = refused(&here, Some(Path::new("hoosh.toml")));
        assert_eq!(gone, "hoosh.toml: is not there any more");
        let device = LoadOptions { file: Some("/dev/null".into()), ..here.clone() };
        assert_eq!(refused(&device, None), "/dev/null: is no file, and cannot be read a second time");
        assert_eq!(look(&device), None);
    }

    #[test]
    fn what_takes_a_restart_stays_and_is_told() {
        let old = config("[server]\nport = 1\nmax_connections = 2");
        let mut new = config("[server]\nport = 3\nmax_connections = 2\ndrain_timeout_secs = 1");
        keep_what_takes_a_restart(&mut new, &old).unwrap();
        assert_eq!(new.server.port, 1);
        let warning = "hoosh.toml:2: `server.port` is 3 now, which takes a restart; until then it stays 1";
        assert_eq!(new.warnings, [warning]);
    }

    #[test]
    fn a_gateway_that_others_reach_does_not_lose_its_tokens_on_the_way() {
        let old = config("[server]\nbind = \"0.0.0.0\"\n[auth]\ntokens = [\"a\"]");
        let mut new = config("");
        let refused = keep_what_takes_a_restart(&mut new, &old).unwrap_err().to_string();
        assert!(refused.contains("everybody could call"), "{refused}");
    }
}
