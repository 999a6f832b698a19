//! What an audit log costs: `cargo run --release -p hoosh-audit --example audit_bench`.
//!
//! The bars: 200,000 records a second appended on one core (`batch`), 2 µs on the thread that appends, 500,000 records a second
//! verified.

use std::error::Error;
use std::time::{Duration, Instant};

use hoosh_audit::{
    Aside, AuditLog, CallEntry, Check, Entry, Fsync, KeyRing, Options, Outcome, Salt, Trust, verify,
};
use hoosh_core::{NanoUsd, Usage};

const RECORDS: u64 = 400_000;
const REQUEST: &[u8] =
    br#"{"model":"gpt-4o","messages":[{"role":"user","content":"Explain Rust ownership in one sentence."}]}"#;

/// What a gateway writes of a call.
fn call(index: u64, salt: Salt) -> Entry {
    let text = |text: &str| Some(text.to_owned());
    Entry::Call(Box::new(CallEntry {
        answer: Some(salt.content(REQUEST)),
        attempts: 1,
        caller: "key:k_0123456789ab".to_owned(),
        config: text("3f786850e387550fdab836ed7e6dc881de23001b"),
        cost_nano_usd: Some(NanoUsd(1_250_000)),
        dialect: text("openai_chat"),
        duration_ms: 840,
        method: text("POST"),
        model: text("gpt-4o-2024-08-06"),
        model_asked: text("gpt-4o"),
        outcome: Outcome::Answered,
        path: text("/v1/chat/completions"),
        provider: text("openai"),
        request: Some(salt.content(REQUEST)),
        request_id: format!("req_{index:032x}"),
        status: Some(200),
        usage: Some(Usage { input: Some(120), output: Some(80), ..Usage::default() }),
        ..CallEntry::default()
    }))
}

fn main() -> Result<(), Box<dyn Error>> {
    let keys = KeyRing::parse(&KeyRing::draw()?, "bench")?;
    let salt = Salt::draw()?;
    for fsync in [Fsync::Batch, Fsync::Never] {
        let folder = tempfile::tempdir()?;
        let log = AuditLog::open(folder.path(), &keys, Options { fsync, ..Options::default() })?;
        // Made beforehand: making one is the gateway's work and not the log's.
        let entries: Vec<Entry> = (0..RECORDS).map(|index| call(index, salt)).collect();
        let (mut on_caller, start) = (Duration::ZERO, Instant::now());
        for entry in entries {
            let slot = loop {
                match log.try_slot() {
                    Ok(slot) => break slot,
                    Err(_) => std::thread::yield_now(), // the writer is behind
                }
            };
            let began = Instant::now();
            slot.close(entry, Some(Aside { salt, request: None, answer: None }));
            on_caller += began.elapsed();
        }
        log.close();
        let took = start.elapsed();
        println!(
            "{fsync:?}: {:.0} records/s, {:.0} ns on the thread that appends",
            RECORDS as f64 / took.as_secs_f64(),
            on_caller.as_nanos() as f64 / RECORDS as f64
        );
        for (what, trust) in
            [("keys", Trust::Keys(keys.clone())), ("public key", Trust::Public(keys.public()))]
        {
            let check = Check {
                folder: folder.path(),
                trust: &trust,
                checkpoints: &[],
                is_archived_elsewhere: false,
            };
            let start = Instant::now();
            let verified = verify(&check, |_| ())?;
            let took = start.elapsed();
            println!(
                "  verified with the {what}: {:.0} records/s",
                verified.records as f64 / took.as_secs_f64()
            );
        }
    }
    Ok(())
}
