//! Server-sent events, by the WHATWG specification (HTML, section 9.2, read 2026-11-24), on bytes.
//!
//! CR, LF and CRLF end a line, a BOM before the first is skipped, comments and unknown fields are passed over, several
//! `data` lines are joined by LF. Characters may be split anywhere: nothing here looks inside them. `id` and `retry`
//! are not kept, since no dialect uses them.

use std::mem;
use std::ops::Range;

use memchr::{memchr, memchr2};

use super::FramingError;
use crate::limits::STREAM_EVENT_BYTES_MAX;

/// Cuts a byte stream into events. Feed it with [`push`](Self::push).
#[derive(Debug, Default)]
pub struct SseFramer {
    /// The beginning of a line whose end has not come yet.
    line: Vec<u8>,
    /// The `data` of the event so far, as far as it does not lie in the chunk being pushed.
    data: Vec<u8>,
    has_data: bool,
    event: Vec<u8>,
    /// The last byte was a CR, so that an LF now belongs to it.
    after_cr: bool,
    /// Whether the first line has been seen, before which a BOM may stand.
    begun: bool,
}

/// One event of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SseEvent<'a> {
    /// Its `event` field; empty if it has none.
    pub event: &'a [u8],
    /// Its `data` lines, joined by LF.
    pub data: &'a [u8],
    /// Where in the pushed chunk the event ends, its blank line included.
    pub end: usize,
}

/// Where the data of the current event lies while a chunk is pushed.
#[derive(Default)]
enum DataAt {
    /// In [`SseFramer::data`].
    #[default]
    Kept,
    /// In the chunk: the common case of one whole `data` line, which is then never copied.
    Chunk(Range<usize>),
}

// === impl SseFramer ===

impl SseFramer {
    /// Takes the next bytes and calls `each` for every event they complete.
    ///
    /// # Errors
    ///
    /// [`FramingError::TooLong`] if one event does not end within its bound. The framer is then of no more use.
    pub fn push(&mut self, chunk: &[u8], mut each: impl FnMut(SseEvent<'_>)) -> Result<(), FramingError> {
        if chunk.is_empty() {
            return Ok(()); // It must not part a CR from its LF.
        }
        let mut data_at = DataAt::Kept;
        let mut at = 0;
        if mem::take(&mut self.after_cr) && chunk.first() == Some(&b'\n') {
            at = 1;
        }
        while let Some(length) = memchr2(b'\n', b'\r', &chunk[at..]) {
            let line = at..at + length;
            at = line.end + 1;
            if chunk[line.end] == b'\r' {
                match chunk.get(at) {
                    Some(b'\n') => at += 1,
                    Some(_) => {}
                    None => self.after_cr = true,
                }
            }
            if self.line.is_empty() {
                self.take_line(chunk, line, &mut data_at, at, &mut each)?;
            } else {
                let mut whole = mem::take(&mut self.line);
                whole.extend_from_slice(&chunk[line]);
                self.keep(chunk, &mut data_at);
                let length = whole.len();
                // The line lies in its own buffer, so its data is always copied: `Kept` is passed for the chunk's.
                let mut in_line = DataAt::Kept;
                self.take_line(&whole, 0..length, &mut in_line, at, &mut each)?;
                self.keep(&whole, &mut in_line);
                whole.clear();
                self.line = whole;
            }
        }
        self.keep(chunk, &mut data_at);
        self.line.extend_from_slice(&chunk[at..]);
        self.check_length(0)
    }

    /// Whether the stream would end here between two events.
    pub fn is_at_boundary(&self) -> bool {
        self.line.is_empty() && !self.has_data && self.event.is_empty()
    }

    /// What is there of an event that the stream ended in: its `data` so far, for an end that is recognised by it.
    ///
    /// Some servers close without the blank line after their last event.
    pub fn unfinished_data(&mut self) -> Option<&[u8]> {
        let line = mem::take(&mut self.line);
        if let Some(value) = line.strip_prefix(b"data:") {
            self.append_data(value.strip_prefix(b" ").unwrap_or(value));
        }
        self.has_data.then_some(self.data.as_slice())
    }

    fn take_line(
        &mut self,
        text: &[u8],
        mut line: Range<usize>,
        data_at: &mut DataAt,
        end: usize,
        each: &mut impl FnMut(SseEvent<'_>),
    ) -> Result<(), FramingError> {
        const BOM: &[u8] = b"\xEF\xBB\xBF";
        if !mem::replace(&mut self.begun, true) && text[line.clone()].starts_with(BOM) {
            line.start += BOM.len();
        }
        if line.is_empty() {
            self.dispatch(text, mem::take(data_at), end, each);
            return Ok(());
        }
        let bytes = &text[line.clone()];
        let (field, mut value) = match memchr(b':', bytes) {
            Some(0) => return Ok(()), // A comment, which servers send to keep the connection open.
            Some(colon) => (&bytes[..colon], line.start + colon + 1..line.end),
            None => (bytes, line.end..line.end),
        };
        if text[value.clone()].first() == Some(&b' ') {
            value.start += 1;
        }
        match field {
            b"data" if !self.has_data => {
                self.has_data = true;
                *data_at = DataAt::Chunk(value);
            }
            b"data" => {
                self.check_length(value.len())?;
                self.keep(text, data_at);
                self.append_data(&text[value]);
            }
            b"event" => {
                self.check_length(value.len())?;
                self.event.clear();
                self.event.extend_from_slice(&text[value]);
            }
            _ => {}
        }
        Ok(())
    }

    fn dispatch(&mut self, text: &[u8], data_at: DataAt, end: usize, each: &mut impl FnMut(SseEvent<'_>)) {
        // By the specification an event without data is no event, only its name is forgotten.
        if mem::take(&mut self.has_data) {
            let data = match data_at {
                DataAt::Kept => self.data.as_slice(),
                DataAt::Chunk(range) => &text[range],
            };
            each(SseEvent { event: &self.event, data, end });
        }
        self.data.clear();
        self.event.clear();
    }

    /// Copies data that lies in the chunk, because the chunk is about to go.
    fn keep(&mut self, text: &[u8], data_at: &mut DataAt) {
        if let DataAt::Chunk(range) = mem::take(data_at) {
            self.data.clear();
            self.data.extend_from_slice(&text[range]);
        }
    }

    fn append_data(&mut self, value: &[u8]) {
        if mem::replace(&mut self.has_data, true) {
            self.data.push(b'\n');
        }
        self.data.extend_from_slice(value);
    }

    fn check_length(&self, more: usize) -> Result<(), FramingError> {
        let length = self.line.len() + self.data.len() + self.event.len() + more;
        if length > STREAM_EVENT_BYTES_MAX { Err(FramingError::TooLong) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(chunks: &[&[u8]]) -> Vec<(String, String)> {
        let mut framer = SseFramer::default();
        let mut seen = Vec::new();
        for chunk in chunks {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            framer.push(chunk, |event| seen.push((text(event.event), text(event.data)))).unwrap();
        }
        seen
    }

    #[track_caller]
    fn check(stream: &str, expected: &[(&str, &str)]) {
        let expected: Vec<_> = expected.iter().map(|(e, d)| (e.to_string(), d.to_string())).collect();
        let bytes = stream.as_bytes();
        assert_eq!(events(&[bytes]), expected, "in one piece");
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let chunks = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                assert_eq!(events(&chunks), expected, "cut at {first} and {second}");
            }
        }
    }

    #[test]
    fn all_line_ends_are_one() {
        check(
            "data: a\n\ndata: b\r\n\r\ndata: c\r\rdata: d\r\n\n",
            &[("", "a"), ("", "b"), ("", "c"), ("", "d")],
        );
    }

    #[test]
    fn data_lines_are_joined_and_the_space_is_optional() {
        check("data:a\ndata: b\ndata\ndata:  c\n\n", &[("", "a\nb\n\n c")]);
    }

    #[test]
    fn comments_names_and_unknown_fields() {
        check(
            ": hi\nid: 7\nevent: ping\ndata: {}\nretry: 3\n\n:\n\ndata: x\n\n",
            &[("ping", "{}"), ("", "x")],
        );
    }

    #[test]
    fn a_bom_is_skipped_and_characters_may_be_split() {
        check("\u{feff}data: häß 日本\n\ndata: \u{feff}\n\n", &[("", "häß 日本"), ("", "\u{feff}")]);
    }

    #[test]
    fn an_event_without_data_is_none() {
        check("event: x\n\ndata: y\n\n", &[("", "y")]);
    }

    #[test]
    fn ends_lie_where_the_blank_line_ends() {
        let mut framer = SseFramer::default();
        let chunk = b"data: a\n\ndata: b\r\n\r\nda";
        let mut ends = Vec::new();
        framer.push(chunk, |event| ends.push(event.end)).unwrap();
        assert_eq!(ends, [9, 20]);
        assert!(!framer.is_at_boundary());
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut framer = SseFramer::default();
        framer.push(b"data: ", |_| {}).unwrap();
        let piece = vec![b'x'; 1 << 20];
        let refused = (0..=STREAM_EVENT_BYTES_MAX >> 20).find_map(|_| framer.push(&piece, |_| {}).err());
        assert_eq!(refused, Some(FramingError::TooLong));
    }

    #[test]
    fn many_data_lines_are_bounded_too() {
        let mut framer = SseFramer::default();
        let mut line = b"data: ".to_vec();
        line.resize(1 << 20, b'x');
        line.push(b'\n');
        let refused = (0..=STREAM_EVENT_BYTES_MAX >> 20).find_map(|_| framer.push(&line, |_| {}).err());
        assert_eq!(refused, Some(FramingError::TooLong));
    }
}
