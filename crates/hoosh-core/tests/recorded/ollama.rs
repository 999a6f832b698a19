//! Ollama's chat and generate.

use hoosh_core::dialect::{DecodeError, Dialect, Quirks};
use hoosh_core::fold;

use super::{context, decode, transcripts, written};

#[test]
fn laws_over_transcripts() {
    for dialect in [Dialect::OllamaChat, Dialect::OllamaGenerate] {
        for (_, body) in transcripts(dialect) {
            let events = decode(dialect, &[&body]).unwrap();
            for at in 0..body.len() {
                assert_eq!(decode(dialect, &[&body[..at], &body[at..]]).unwrap(), events);
                if at + 1 < body.len() {
                    assert_eq!(decode(dialect, &[&body[..at]]), Err(DecodeError::Truncated));
                }
            }
            let again = written(dialect, &context(dialect), &events);
            assert_eq!(fold(decode(dialect, &[&again]).unwrap()), fold(events.clone()));
            let mut tap = dialect.tap(Quirks::default());
            for line in body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                tap.event(line).unwrap();
            }
            assert!(tap.is_done());
            assert_eq!(tap.usage(), fold(events).usage);
        }
    }
}
