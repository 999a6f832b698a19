//! The audit log of a server: opened from its configuration, kept over reloads, and its checkpoints handed on.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hoosh_audit::{
    AuditLog, Checkpoint, Entry, EventEntry, KeyError, KeyRing, OnCheckpoint, OnError, OpenError, Options,
};
use hoosh_core::limits::ALERT_TIME_MAX;
use hoosh_gateway::{Trail, TrailKind};
use hoosh_providers::WebClient;
use secrecy::ExposeSecret;
use tokio::sync::watch;

use crate::alerts;
use crate::app::App;
use crate::config::{AlertHook, Audit};

/// A log that is open.
#[derive(Clone)]
pub(crate) struct OpenLog {
    pub(crate) log: Arc<AuditLog>,
    folder: PathBuf,
    settings: Audit,
    /// The latest checkpoint. It says all that those before it said.
    news: watch::Sender<Option<Checkpoint>>,
}

/// Why the audit log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// Its keys cannot be had.
    #[error("[audit] key_file: {0}")]
    Keys(#[from] KeyError),
    /// It cannot be gone on with.
    #[error("[audit] folder: {0}")]
    Open(#[from] OpenError),
}

/// Which program writes, as the log says.
pub(crate) fn program() -> String {
    concat!("hoosh ", env!("CARGO_PKG_VERSION")).to_owned()
}

/// The keys that a configuration names, which must be there.
///
/// # Errors
///
/// If they are not, or cannot be read.
pub(crate) fn known_keys(settings: &Audit) -> Result<KeyRing, KeyError> {
    match &settings.keys {
        // In a variable a line break is hard to write.
        Some(text) => KeyRing::parse(&text.expose_secret().replace([',', ' '], "\n"), "HOOSH_AUDIT_KEY"),
        None => KeyRing::load(Path::new(&settings.key_file)),
    }
}

/// The same, and makes the file where there is none.
fn keys(settings: &Audit) -> Result<KeyRing, KeyError> {
    if settings.keys.is_some() {
        return known_keys(settings);
    }
    let path = Path::new(&settings.key_file);
    let (keys, is_new) = KeyRing::load_or_make(path)?;
    if is_new {
        let (file, public) = (path.display(), keys.current().public());
        tracing::warn!(target: "hoosh::audit", %file, %public, "made a key for the audit log; keep it apart from the log");
    }
    Ok(keys)
}

/// The log that a configuration wants, if it wants one: the one that is open, if it is in the same folder.
pub(crate) fn open(settings: &Audit, before: Option<&OpenLog>) -> Result<Option<OpenLog>, AuditError> {
    if !settings.enabled {
        return Ok(None);
    }
    let keys = keys(settings)?;
    let folder = PathBuf::from(&settings.folder);
    if let Some(before) = before.filter(|before| before.folder == folder) {
        if !before.settings.is_kept_alike(settings) {
            tracing::warn!(
                target: "hoosh::audit",
                "other settings of [audit] count from the next start on; the log that is open goes on as it did"
            );
        }
        before.log.rotate_soon(&keys);
        return Ok(Some(OpenLog { settings: settings.clone(), ..before.clone() }));
    }
    let news = watch::Sender::new(None);
    let options = Options {
        fsync: settings.fsync,
        on_full: settings.on_full,
        on_error: settings.on_error,
        checkpoint_records: settings.checkpoint_records,
        checkpoint_interval: settings.checkpoint_interval,
        segment_bytes: settings.segment_bytes,
        keep_days: settings.keep_days,
        checkpoint_folders: settings.checkpoint_folder.iter().cloned().collect(),
        on_checkpoint: Some(tell(news.clone(), settings.checkpoint_stdout)),
        program: program(),
        ..Options::default()
    };
    let log = Arc::new(AuditLog::open(&folder, &keys, options)?);
    Ok(Some(OpenLog { log, folder, settings: settings.clone(), news }))
}

fn tell(news: watch::Sender<Option<Checkpoint>>, prints: bool) -> OnCheckpoint {
    Box::new(move |checkpoint| {
        if prints {
            // That nobody reads it is no reason to stop.
            let _ = writeln!(std::io::stdout().lock(), "{checkpoint}");
        }
        news.send_replace(Some(checkpoint.clone()));
    })
}

/// Sends checkpoints to the web hook of the configuration in use, as long as the server runs: always the latest.
pub(crate) async fn deliver(mut apps: watch::Receiver<Arc<App>>) {
    let web = WebClient::new(ALERT_TIME_MAX);
    let mut news: Option<watch::Receiver<Option<Checkpoint>>> = None;
    loop {
        let open = apps.borrow_and_update().audit.clone();
        let hook = open.as_ref().and_then(OpenLog::hook);
        if news.is_none() {
            news = open.as_ref().map(|open| open.news.subscribe());
        }
        let (Some(hook), Some(latest)) = (hook, &mut news) else {
            news = None;
            if apps.changed().await.is_err() {
                return;
            }
            continue;
        };
        tokio::select! {
            changed = apps.changed() => if changed.is_err() { return },
            changed = latest.changed() => {
                let checkpoint = latest.borrow_and_update().as_ref().map(Checkpoint::to_string);
                match (changed, checkpoint.and_then(|line| serde_json::from_str(&line).ok())) {
                    (Ok(()), Some(checkpoint)) => {
                        if let Err(error) = alerts::send(&web, &hook, &checkpoint).await {
                            // Its path may be a secret.
                            let host = hook.url.host();
                            tracing::warn!(target: "hoosh::audit", host, %error, "a checkpoint could not be sent");
                        }
                    }
                    (Ok(()), None) => {}
                    // Another log is open now.
                    (Err(_), _) => news = None,
                }
            }
        }
    }
}

// === impl OpenLog ===

impl OpenLog {
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// What the gateway writes to it.
    pub(crate) fn calls(&self, config_hash: &str) -> hoosh_gateway::Audit {
        let models = self.settings.texts.iter().map(String::as_str);
        hoosh_gateway::Audit::new(Arc::clone(&self.log), self.settings.fsync)
            .texts(models)
            .configuration(config_hash)
    }

    /// Writes something down beside calls. While nothing can be written, it is not.
    pub(crate) fn note(&self, entry: Entry) {
        match self.log.try_slot() {
            Ok(slot) => slot.close(entry, None),
            Err(error) => {
                tracing::error!(target: "hoosh::audit", %error, kind = entry.kind(), "not written down")
            }
        }
    }

    /// Whether calls are refused since nothing can be written down.
    pub(crate) fn refuses(&self) -> bool {
        self.settings.on_error == OnError::Refuse && self.log.status().failing.is_some()
    }

    fn hook(&self) -> Option<AlertHook> {
        let url = self.settings.checkpoint_webhook.as_deref()?.parse().ok()?;
        Some(AlertHook { url, secret: None })
    }
}

/// What happened beside calls, in the log's form.
pub(crate) fn event(
    action: &str,
    by: &str,
    fields: impl IntoIterator<Item = (&'static str, String)>,
) -> EventEntry {
    let fields: BTreeMap<String, String> =
        fields.into_iter().map(|(name, text)| (name.to_owned(), text)).collect();
    EventEntry { action: action.to_owned(), by: by.to_owned(), fields }
}

/// The record of a request that comes in, if records are kept.
///
/// # Errors
///
/// If none can be written, and nothing is to be done without: questions to the gateway are answered all the same, or nobody could see
/// what is wrong with it.
pub(crate) async fn enter(
    app: &App,
    id: &hoosh_gateway::RequestId,
    kind: TrailKind,
) -> Result<Option<Trail>, hoosh_core::HooshError> {
    match app.gateway.audit() {
        Some(audit) => match audit.open(id, kind).await {
            Err(error) if kind == TrailKind::Request => {
                tracing::error!(target: "hoosh::audit", %id, %error, "a question is answered without a record");
                Ok(None)
            }
            trail => trail.map(Some),
        },
        None => Ok(None),
    }
}
