//! Finds events in a stream's frames: a proxy may cut and join them as it likes.

use memchr::memmem;

use crate::{
    failure::Failure,
    mock::{CONTENT_MARK, ENDS},
};

/// The mock's events are about 250 bytes; whatever lacks an end for this long is not an event stream.
const EVENT_BYTES_MAX: usize = 64 * 1024;

/// What was seen of a stream so far.
#[derive(Debug, Default)]
pub(crate) struct Scanner {
    /// Events with text.
    pub(crate) contents: u32,
    /// Whether the stream was ended properly.
    pub(crate) done: bool,
    /// The beginning of an event whose end is not there yet.
    rest: Vec<u8>,
}

// === impl Scanner ===

impl Scanner {
    /// Takes what a frame brought and tells the send time of every text event that is complete now.
    pub(crate) fn push(&mut self, data: &[u8], mut sent_ns: impl FnMut(u64)) -> Result<(), Failure> {
        self.rest.extend_from_slice(data);
        let mut from = 0;
        while let Some(length) = memmem::find(&self.rest[from..], b"\n\n") {
            let event = &self.rest[from..from + length];
            from += length + 2;
            if let Some(sent) = stamp_of(event) {
                self.contents += 1;
                sent_ns(sent);
            } else if ENDS.iter().any(|end| event.starts_with(end)) {
                self.done = true;
            }
        }
        self.rest.drain(..from);
        if self.rest.len() > EVENT_BYTES_MAX {
            return Err(Failure::new("a stream's event has no end after 64 KiB"));
        }
        Ok(())
    }
}

fn stamp_of(event: &[u8]) -> Option<u64> {
    let digits = &event[memmem::find(event, CONTENT_MARK)? + CONTENT_MARK.len()..];
    let digits = &digits[..digits.iter().position(|byte| !byte.is_ascii_digit())?];
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_split_gives_the_same_events() {
        let stream = b"data: {\"delta\":{\"content\":\"\"}}\n\ndata: {\"delta\":{\"content\":\"@0042\"}}\n\n\
                       data: {\"content\":\"@7\"}\n\ndata: [DONE]\n\n";
        for cut in 0..=stream.len() {
            let (mut scanner, mut seen) = (Scanner::default(), Vec::new());
            for part in [&stream[..cut], &stream[cut..]] {
                scanner.push(part, |sent| seen.push(sent)).unwrap();
            }
            assert_eq!((scanner.contents, scanner.done, seen), (2, true, vec![42, 7]), "cut at {cut}");
        }
    }

    #[test]
    fn messages_are_events_too() {
        let stream =
            b"event: content_block_delta\ndata: {\"delta\":{\"type\":\"text_delta\",\"text\":\"@7\"}}\n\n\
                       event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
        let (mut scanner, mut seen) = (Scanner::default(), Vec::new());
        scanner.push(stream, |sent| seen.push(sent)).unwrap();
        assert_eq!((scanner.contents, scanner.done, seen), (1, true, vec![7]));
    }

    #[test]
    fn an_event_without_end_is_refused() {
        let mut scanner = Scanner::default();
        assert!(scanner.push(&vec![b'x'; EVENT_BYTES_MAX + 1], |_| ()).is_err());
    }
}
