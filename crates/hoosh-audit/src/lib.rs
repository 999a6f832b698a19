//! A tamper-evident log: what happened, provable offline.
//!
//! Each record is a line of JSON in a chain keyed with HMAC-SHA-256, so that nobody without the key can change, delete, move or add
//! one unseen. Every so often a [`Checkpoint`] signed with Ed25519 says how far the log had come: whoever keeps one can tell that the end
//! was cut off, and can check the log, or a single record of it, with the public key alone.
//!
//! ```
//! use std::collections::BTreeMap;
//! use hoosh_audit::{AuditLog, Check, Entry, EventEntry, KeyRing, Options, Trust, verify};
//!
//! # async fn doc(folder: &std::path::Path) -> Result<(), Box<dyn std::error::Error>> {
//! let (keys, _) = KeyRing::load_or_make(&folder.join("audit.key"))?;
//! let log = AuditLog::open(&folder.join("audit"), &keys, Options::default())?;
//! let told = BTreeMap::from([("route".to_owned(), "fast".to_owned())]);
//! let seq = log.append(Entry::Note(EventEntry { action: "deploy".into(), by: "ci".into(), fields: told })).await?;
//! log.close();
//!
//! let (folder, trust) = (folder.join("audit"), Trust::Keys(keys));
//! let check = Check { folder: &folder, trust: &trust, checkpoints: &[], is_archived_elsewhere: false };
//! let verified = verify(&check, |_| ())?;
//! assert!(verified.last >= seq);
//! # Ok(())
//! # }
//! # let folder = tempfile::tempdir()?;
//! # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
//! # runtime.block_on(doc(folder.path()))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is promised?
//!
//! Tamper-*evident*, not tamper-proof: who can write to the folder can delete it, but not change it so that it still verifies.
//!
//! | somebody who has | can | is seen by |
//! |---|---|---|
//! | the folder | edit, delete, swap, add records | whoever has the key ([`Trust::Keys`]), by record; whoever has the public key ([`Trust::Public`]), between which two checkpoints |
//! | the folder | cut off its end | whoever has a later checkpoint |
//! | the folder and the key | write all of it anew | whoever has a checkpoint from before |
//! | the key, while the gateway runs | write false records into it | nobody: a log proves what was written, not that it is true |
//!
//! So keep checkpoints where those who could change the log cannot ([`Options::checkpoint_folders`], [`Options::on_checkpoint`]).
//!
//! # What outlives the process?
//!
//! That is [`Fsync`]: with `Always` what [`Slot::close_durably`] and [`AuditLog::append`] have answered; else what is older than some
//! milliseconds. What a crash tears is set aside, and a record says so.
//!
//! # What of the texts of calls?
//!
//! Records hold salted digests of what was sent and given. The salts, and the texts where that is wanted, are in files beside the
//! log ([`Aside`]): erasing a salt there makes the digest say nothing of anybody, and the chain stays whole.

mod aside;
mod chain;
mod checkpoint;
mod entry;
mod folder;
mod key;
mod log;
mod merkle;
mod prove;
mod query;
mod segment;
mod sink;
mod verify;
mod writer;

pub use aside::{Aside, ContentDigest, Salt};
pub use chain::{AuditChain, Moment};
pub use checkpoint::{Checkpoint, InvalidCheckpoint};
pub use entry::{CallEntry, Content, Entry, EventEntry, LegEntry, NUMBER_MAX, Outcome};
pub use folder::OpenError;
pub use key::{AuditKey, InvalidPublicKey, KeyError, KeyId, KeyRing, PublicKey};
pub use log::{
    AppendError, AuditLog, Fsync, Head, OnCheckpoint, OnError, OnFull, Options, Slot, Status, Written,
};
pub use prove::{InvalidProof, NotProven, Proof, prove};
pub use query::{Filter, Page, QueryError, Seen, page, scan};
pub use sink::{MemorySink, Sink};
pub use verify::{Check, Fault, FaultKind, Progress, Trust, Verified, VerifyError, verify};

/// A SHA-256, or an HMAC by it.
pub type Digest = [u8; 32];
