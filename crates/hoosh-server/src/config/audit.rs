//! `[audit]`: where it is written down what happened, and how.

use std::path::PathBuf;
use std::time::Duration;

use hoosh_audit::{Fsync, OnError, OnFull};
use hoosh_core::limits;
use secrecy::SecretString;

use super::keys::{self, AUDIT_KEY_VARIABLE};
use super::layers::Layers;
use super::reader::{Reader, Section};
use super::{Environment, Flags};

/// Where it is written down what happened, and how.
#[derive(Debug, Clone)]
pub struct Audit {
    /// Whether it is.
    pub enabled: bool,
    /// The folder of the log, as it was named.
    pub folder: String,
    /// The file of its keys, as it was named.
    pub key_file: String,
    /// The keys themselves, which go before that file.
    pub keys: Option<SecretString>,
    /// When a record outlives the process.
    pub fsync: Fsync,
    /// What happens to calls when too many are under way.
    pub on_full: OnFull,
    /// What happens to calls while nothing can be written.
    pub on_error: OnError,
    /// Records between two checkpoints.
    pub checkpoint_records: u32,
    /// Longest time between a record and its checkpoint.
    pub checkpoint_interval: Duration,
    /// Another folder that checkpoints are written to.
    pub checkpoint_folder: Option<PathBuf>,
    /// Whether checkpoints are printed too.
    pub checkpoint_stdout: bool,
    /// Where checkpoints are sent to.
    pub checkpoint_webhook: Option<String>,
    /// Size from which on another segment is begun. Unit: bytes.
    pub segment_bytes: u64,
    /// Days that segments stay in the folder itself. `None`: all do.
    pub keep_days: Option<u32>,
    /// Patterns of models whose calls' texts are kept beside the log.
    pub texts: Vec<String>,
}

pub(super) const FSYNC: &[&str] = &["always", "batch", "never"];
pub(super) const ON_FULL: &[&str] = &["wait", "refuse"];
pub(super) const ON_ERROR: &[&str] = &["refuse", "continue"];

// === impl Audit ===

impl Audit {
    pub(super) fn read(mut section: Section, env: &Environment) -> Self {
        let word = |section: &mut Section, key| section.text(key).unwrap_or_default();
        let whole = |section: &mut Section, key| section.whole(key).unwrap_or_default();
        Self {
            enabled: section.switch("enabled").unwrap_or_default(),
            folder: word(&mut section, "folder"),
            key_file: word(&mut section, "key_file"),
            keys: env.filled(AUDIT_KEY_VARIABLE).map(SecretString::from),
            fsync: match word(&mut section, "fsync").as_str() {
                "always" => Fsync::Always,
                "never" => Fsync::Never,
                _ => Fsync::Batch,
            },
            on_full: match word(&mut section, "on_full").as_str() {
                "refuse" => OnFull::Refuse,
                _ => OnFull::Wait,
            },
            on_error: match word(&mut section, "on_error").as_str() {
                "continue" => OnError::Continue,
                _ => OnError::Refuse,
            },
            checkpoint_records: u32::try_from(whole(&mut section, "checkpoint_records"))
                .unwrap_or(limits::AUDIT_CHECKPOINT_RECORDS),
            checkpoint_interval: section.time("checkpoint_secs").unwrap_or(limits::AUDIT_CHECKPOINT_INTERVAL),
            checkpoint_folder: section.text("checkpoint_folder").map(PathBuf::from),
            checkpoint_stdout: section.switch("checkpoint_stdout").unwrap_or_default(),
            checkpoint_webhook: section.text("checkpoint_webhook"),
            segment_bytes: whole(&mut section, "segment_bytes"),
            keep_days: section
                .whole("keep_days")
                .and_then(|days| u32::try_from(days).ok())
                .filter(|days| *days > 0),
            texts: section.texts("texts").unwrap_or_default(),
        }
    }

    /// Whether a log that was opened with these settings is kept as the others say.
    pub(crate) fn is_kept_alike(&self, other: &Self) -> bool {
        let how = |audit: &Self| {
            (
                (audit.fsync, audit.on_full, audit.on_error),
                (audit.checkpoint_records, audit.checkpoint_interval, audit.checkpoint_folder.clone()),
                (audit.checkpoint_stdout, audit.segment_bytes, audit.keep_days),
            )
        };
        how(self) == how(other)
    }

    /// The values of its keys that have one, as TOML writes them.
    pub(super) fn shown(&self) -> Vec<(&'static str, Shown)> {
        let word = |word: &str| Shown::Text(word.to_owned());
        let number = |number: u64| Shown::Plain(number.to_string());
        let mut shown = vec![
            ("enabled", Shown::Plain(self.enabled.to_string())),
            ("folder", word(&self.folder)),
            ("key_file", word(&self.key_file)),
            ("fsync", word(fsync(self.fsync))),
            ("on_full", word(if self.on_full == OnFull::Refuse { "refuse" } else { "wait" })),
            ("on_error", word(if self.on_error == OnError::Continue { "continue" } else { "refuse" })),
            ("checkpoint_records", number(self.checkpoint_records.into())),
            ("checkpoint_secs", Shown::Time(self.checkpoint_interval)),
        ];
        shown.extend(
            self.checkpoint_folder.iter().map(|path| ("checkpoint_folder", word(&path.to_string_lossy()))),
        );
        shown.push(("checkpoint_stdout", Shown::Plain(self.checkpoint_stdout.to_string())));
        shown.extend(self.checkpoint_webhook.iter().map(|url| ("checkpoint_webhook", word(url))));
        shown.push(("segment_bytes", number(self.segment_bytes)));
        shown.push(("keep_days", number(self.keep_days.unwrap_or_default().into())));
        shown.push(("texts", Shown::List(self.texts.clone())));
        shown
    }
}

/// A value as a page shows it.
pub(super) enum Shown {
    Text(String),
    Plain(String),
    Time(Duration),
    List(Vec<String>),
}

fn fsync(fsync: Fsync) -> &'static str {
    match fsync {
        Fsync::Always => "always",
        Fsync::Batch => "batch",
        Fsync::Never => "never",
    }
}

impl Default for Audit {
    /// That of which nobody said anything.
    fn default() -> Self {
        let env = Environment::default();
        let layers = Layers::stack(None, &env, &Flags::default(), &mut Vec::new());
        let mut reader = Reader::new(&layers, &env, Vec::new());
        Self::read(reader.section("audit", "audit", keys::defaults("audit")), &env)
    }
}
