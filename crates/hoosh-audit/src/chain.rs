//! The chain itself: entries in, lines out. No file, no clock, no task.
//!
//! A line is `{"mac":"…","record":{…}}`. The record is JSON in the form of RFC 8785, and `mac` is the HMAC-SHA-256 of the link before
//! (32 bytes, zeros before the first) and the record's bytes. So a line cannot be changed, moved, left out or put in by anybody who
//! has not the key, without its link and all behind it being wrong.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use crate::Digest;
use crate::checkpoint::{Checkpoint, Statement, written};
use crate::entry::Entry;
use crate::key::AuditKey;
use crate::merkle;

/// Before a record's link.
pub(crate) const LINE_START: &[u8] = br#"{"mac":""#;
/// Between a record's link and the record.
pub(crate) const LINE_MIDDLE: &[u8] = br#"","record":"#;
/// Behind a record.
pub(crate) const LINE_END: &[u8] = b"}";
/// Where the record begins in its line.
pub(crate) const RECORD_OFFSET: usize = LINE_START.len() + 64 + LINE_MIDDLE.len();

/// Words that a key signs for its successor begin with this.
pub(crate) const ROTATION_SIGNED_AS: &str = "hoosh audit rotation\n";

/// What of a chain goes on: the key in use, and the record that was written last.
#[derive(Debug)]
pub struct AuditChain {
    key: Arc<AuditKey>,
    log: String,
    /// Of the record that was written last; 0: none is.
    seq: u64,
    head: Digest,
    /// The digest of the latest checkpoint.
    previous: Digest,
    /// Of the records since then.
    leaves: Vec<Digest>,
}

/// When something happened: by the calendar, and since the log was opened, which no change of the clock can disturb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// By the calendar.
    pub at: Timestamp,
    /// Since the log was opened. Unit: µs.
    pub since_open_us: u64,
}

/// A record, its fields by their names.
#[derive(Serialize)]
struct Record<'a, B> {
    at: &'a str,
    body: &'a B,
    kind: &'a str,
    mono_us: u64,
    seq: u64,
}

/// The body of the first record of a log, and of each opening of it since.
#[derive(Serialize)]
pub(crate) struct Opened<'a> {
    /// Whether it was closed before, rather than left by a process that died.
    pub(crate) clean: bool,
    pub(crate) key: &'a str,
    pub(crate) log: &'a str,
    pub(crate) program: &'a str,
    /// The public half of the key.
    pub(crate) public: String,
    pub(crate) v: u8,
}

/// The body of a record that goes over to another key.
#[derive(Serialize)]
struct Rotation<'a> {
    new_key: &'a str,
    /// What the link of this record would be by the new key if it had only `new_key`, `new_public` and `old_key`: whoever rotates has it.
    new_mac: String,
    new_public: String,
    new_signature: String,
    old_key: &'a str,
    old_signature: String,
}

/// The body of a record of what a crash left behind, or a disk refused.
#[derive(Serialize)]
pub(crate) struct Recovery<'a> {
    /// What was cut off behind the last whole record.
    pub(crate) bytes: u64,
    /// Where it is kept.
    pub(crate) file: &'a str,
    pub(crate) sha256: String,
}

/// The body of a record of records that could not be written while calls went on.
#[derive(Serialize)]
pub(crate) struct Lost {
    pub(crate) count: u64,
    pub(crate) reason: String,
}

/// The body of a record of salts and texts that were erased.
#[derive(Serialize)]
pub(crate) struct Erased<'a> {
    pub(crate) by: &'a str,
    pub(crate) records: Vec<u64>,
    pub(crate) request_id: &'a str,
}

// === impl AuditChain ===

impl AuditChain {
    /// A chain without a record. `log` is a name that no other has.
    pub fn new(key: Arc<AuditKey>, log: impl Into<String>) -> Self {
        Self { key, log: log.into(), seq: 0, head: [0; 32], previous: [0; 32], leaves: Vec::new() }
    }

    /// One that goes on from a checkpoint, whose own record is not written yet or is the first that follows.
    pub(crate) fn after(key: Arc<AuditKey>, checkpoint: &Checkpoint) -> Self {
        Self {
            key,
            log: checkpoint.log.clone(),
            seq: checkpoint.seq,
            head: checkpoint.head,
            previous: checkpoint.digest(),
            leaves: Vec::new(),
        }
    }

    /// The sequence of the record that was written last; 0: none is.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The link of that record.
    pub fn head(&self) -> &Digest {
        &self.head
    }

    /// The key in use.
    pub fn key(&self) -> &Arc<AuditKey> {
        &self.key
    }

    /// The name of the log.
    pub fn log(&self) -> &str {
        &self.log
    }

    /// How many records there are since the latest checkpoint.
    pub fn unsigned(&self) -> usize {
        self.leaves.len()
    }

    /// Writes an entry's line behind `lines`, with its line feed. Answers its sequence.
    pub fn append(&mut self, entry: &Entry, moment: Moment, lines: &mut Vec<u8>) -> u64 {
        self.write(entry.kind(), entry, moment, lines)
    }

    pub(crate) fn write<B: Serialize>(
        &mut self,
        kind: &str,
        body: &B,
        moment: Moment,
        lines: &mut Vec<u8>,
    ) -> u64 {
        let seq = self.seq + 1;
        let at = written(moment.at);
        let record = Record { at: &at, body, kind, mono_us: moment.since_open_us, seq };
        let start = lines.len();
        lines.extend_from_slice(LINE_START);
        lines.resize(start + LINE_START.len() + 64, b'0');
        lines.extend_from_slice(LINE_MIDDLE);
        // Writing JSON of texts, numbers and maps with names of text into memory cannot fail.
        let _ = serde_json::to_writer(&mut *lines, &record);
        let link = self.key.link(&self.head, &lines[start + RECORD_OFFSET..]);
        let digits = &mut lines[start + LINE_START.len()..start + LINE_START.len() + 64];
        let _ = hex::encode_to_slice(link, digits); // its room is as long as it is
        lines.extend_from_slice(LINE_END);
        self.take(link, merkle::leaf(&lines[start..]));
        lines.push(b'\n');
        seq
    }

    /// One more record is in the chain.
    pub(crate) fn take(&mut self, link: Digest, leaf: Digest) {
        self.seq += 1;
        self.head = link;
        self.leaves.push(leaf);
    }

    /// Signs how far the log has come, and writes that down as a record of its own.
    pub fn checkpoint(&mut self, moment: Moment, lines: &mut Vec<u8>) -> Checkpoint {
        let statement = Statement {
            at: moment.at,
            first: self.seq + 1 - self.leaves.len() as u64,
            head: self.head,
            log: &self.log,
            previous: self.previous,
            root: merkle::root(&self.leaves),
            seq: self.seq,
        };
        let checkpoint = Checkpoint::sign(statement, &self.key);
        self.signed(&checkpoint);
        self.write("checkpoint", &checkpoint, moment, lines);
        checkpoint
    }

    /// The records so far are in a checkpoint.
    pub(crate) fn signed(&mut self, checkpoint: &Checkpoint) {
        self.leaves.clear();
        self.previous = checkpoint.digest();
    }

    /// Goes over to another key, which a record says that both of them vouch for.
    pub fn rotate(&mut self, key: Arc<AuditKey>, moment: Moment, lines: &mut Vec<u8>) -> u64 {
        let before = Arc::clone(&self.key);
        let agreed = rotation_agreed(&before, &key);
        let body = Rotation {
            new_key: key.id().as_str(),
            new_mac: hex::encode(key.link(&self.head, agreed.as_bytes())),
            new_public: key.public().to_string(),
            new_signature: hex::encode(key.sign(agreed.as_bytes())),
            old_key: before.id().as_str(),
            old_signature: hex::encode(before.sign(agreed.as_bytes())),
        };
        let seq = self.write("rotation", &body, moment, lines);
        self.key = key;
        seq
    }

    pub(crate) fn goes_by(&mut self, key: Arc<AuditKey>) {
        self.key = key;
    }
}

/// What both keys of a rotation sign.
fn rotation_agreed(old: &AuditKey, new: &AuditKey) -> String {
    rotation_text(old.id().as_str(), new.id().as_str(), &new.public().to_string())
}

/// What both keys of a rotation sign, by their names.
pub(crate) fn rotation_text(old: &str, new: &str, new_public: &str) -> String {
    format!("{ROTATION_SIGNED_AS}{old}\n{new}\n{new_public}\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use hoosh_core::{NanoUsd, Usage};
    use serde_json::Value;

    use super::*;
    use crate::entry::{CallEntry, Content, EventEntry, LegEntry, Outcome};
    use crate::key::KeyRing;

    fn key() -> Arc<AuditKey> {
        let text = format!("hoosh_audit_{}", "0123456789abcdef".repeat(8));
        Arc::clone(KeyRing::parse(&text, "test").unwrap().current())
    }

    fn moment() -> Moment {
        Moment { at: "2026-11-24T19:30:01.000002Z".parse().unwrap(), since_open_us: 12 }
    }

    /// RFC 8785 for what records hold: names sorted by UTF-16, whole numbers, the short escapes.
    fn canonical(value: &Value, text: &mut String) {
        match value {
            Value::Object(fields) => {
                let mut names: Vec<&String> = fields.keys().collect();
                names.sort_by_key(|name| name.encode_utf16().collect::<Vec<_>>());
                text.push('{');
                for (index, name) in names.into_iter().enumerate() {
                    text.push_str(if index > 0 { "," } else { "" });
                    canonical(&Value::String(name.clone()), text);
                    text.push(':');
                    canonical(&fields[name], text);
                }
                text.push('}');
            }
            Value::Array(all) => {
                text.push('[');
                for (index, one) in all.iter().enumerate() {
                    text.push_str(if index > 0 { "," } else { "" });
                    canonical(one, text);
                }
                text.push(']');
            }
            Value::String(string) => {
                text.push('"');
                for letter in string.chars() {
                    match letter {
                        '"' => text.push_str("\\\""),
                        '\\' => text.push_str("\\\\"),
                        '\u{8}' => text.push_str("\\b"),
                        '\t' => text.push_str("\\t"),
                        '\n' => text.push_str("\\n"),
                        '\u{c}' => text.push_str("\\f"),
                        '\r' => text.push_str("\\r"),
                        letter if letter < ' ' => text.push_str(&format!("\\u{:04x}", letter as u32)),
                        letter => text.push(letter),
                    }
                }
                text.push('"');
            }
            Value::Number(number) => {
                assert!(number.as_i64().unwrap().abs() < 1 << 53, "{number}");
                text.push_str(&number.to_string());
            }
            plain => text.push_str(&plain.to_string()),
        }
    }

    fn everything() -> Vec<Entry> {
        let content = || Some(Content { bytes: u64::MAX, digest: "ab".repeat(32) });
        let all = u64::MAX;
        let usage = Usage {
            input: Some(all),
            cache_read: Some(1),
            cache_write_5m: Some(2),
            cache_write_1h: Some(3),
            output: Some(0),
            reasoning: Some(5),
            audio_in: Some(6),
            audio_out: Some(7),
            ..Usage::default()
        };
        let call = CallEntry {
            answer: content(),
            attempts: 3,
            caller: "ключ \"\\\u{1}\u{8}\u{c}\u{7f}\u{2028}😀".into(),
            config: Some("c".into()),
            cost_nano_usd: Some(NanoUsd(i64::MIN)),
            decision: Some("d".into()),
            detail: BTreeMap::from([("b".into(), "1".into()), ("a".into(), "2".into())]),
            dialect: Some("openai_chat".into()),
            duration_ms: all,
            error: Some("e".into()),
            legs: vec![LegEntry {
                cost_nano_usd: Some(NanoUsd(5)),
                kind: "hedge".into(),
                model: "m".into(),
                provider: "p".into(),
                tokens: Some(all),
            }],
            method: Some("POST".into()),
            model: Some("m".into()),
            model_asked: Some("n".into()),
            outcome: Outcome::Truncated,
            path: Some("/v1/chat/completions".into()),
            pools: vec!["team:a".into()],
            provider: Some("p".into()),
            request: content(),
            request_id: "req_1".into(),
            status: Some(200),
            stream: true,
            usage: Some(usage),
        };
        let names = ["z", "a_1", "Größe", "", "ｚ"];
        let fields: BTreeMap<String, String> =
            names.iter().map(|name| ((*name).to_owned(), "x\n".to_owned())).collect();
        let event = EventEntry { action: "reload".into(), by: "file".into(), fields };
        vec![
            Entry::Call(Box::new(call)),
            Entry::Refused(Box::default()),
            Entry::Config(event.clone()),
            Entry::Key(event.clone()),
            Entry::Request(Box::default()),
            Entry::Admin(Box::default()),
            Entry::Note(event),
        ]
    }

    #[test]
    fn every_record_is_in_the_form_of_rfc_8785() {
        let mut chain = AuditChain::new(key(), "log");
        let mut lines = Vec::new();
        for entry in everything() {
            chain.append(&entry, moment(), &mut lines);
        }
        chain.write(
            "opened",
            &Opened { clean: true, key: "k", log: "l", program: "p", public: "x".into(), v: 1 },
            moment(),
            &mut lines,
        );
        chain.write("recovery", &Recovery { bytes: 1, file: "f", sha256: "s".into() }, moment(), &mut lines);
        chain.write("lost", &Lost { count: 1, reason: "r".into() }, moment(), &mut lines);
        chain.write("erased", &Erased { by: "b", records: vec![1], request_id: "r" }, moment(), &mut lines);
        chain.rotate(key(), moment(), &mut lines);
        chain.checkpoint(moment(), &mut lines);
        let text = String::from_utf8(lines).unwrap();
        assert_eq!(text.lines().count(), 13);
        for line in text.lines() {
            let value: Value = serde_json::from_str(line).unwrap();
            let mut expected = String::new();
            canonical(&value, &mut expected);
            assert_eq!(line, expected);
        }
    }

    /// The very bytes, so that no later version writes others under the same number.
    #[test]
    fn a_record_is_written_as_it_always_was() {
        let mut chain = AuditChain::new(key(), "log");
        let mut lines = Vec::new();
        let event = EventEntry { action: "reload".into(), by: "file".into(), fields: BTreeMap::new() };
        chain.append(&Entry::Config(event), moment(), &mut lines);
        let text = String::from_utf8(lines).unwrap();
        let record = r#"{"at":"2026-11-24T19:30:01.000002Z","body":{"action":"reload","by":"file"},"kind":"config","mono_us":12,"seq":1}"#;
        let mac = text.strip_prefix(r#"{"mac":""#).unwrap().get(..64).unwrap().to_owned();
        assert_eq!(text, format!("{{\"mac\":\"{mac}\",\"record\":{record}}}\n"));
        // By Python's hmac module: hmac.new(bytes.fromhex("0123456789abcdef" * 4), bytes(32) + record, "sha256").
        assert_eq!(mac, "272e27577996e78bb6dba414ace8e3bcfcd4703fde9710748a007629bb7039ad");
    }
}
