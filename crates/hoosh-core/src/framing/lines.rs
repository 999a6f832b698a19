//! One JSON object a line (NDJSON, as Ollama streams), on bytes. LF and CRLF end a line; empty lines carry nothing.

use memchr::memchr;

use super::FramingError;
use crate::limits::STREAM_EVENT_BYTES_MAX;

/// Cuts a byte stream into lines. Feed it with [`push`](Self::push).
#[derive(Debug, Default)]
pub struct LineFramer {
    /// The beginning of a line whose end has not come yet.
    line: Vec<u8>,
}

/// One line of a stream that holds something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// It, without its end.
    pub data: &'a [u8],
    /// Where in the pushed chunk the line ends, its end included.
    pub end: usize,
}

// === impl LineFramer ===

impl LineFramer {
    /// Takes the next bytes and calls `each` for every line they complete.
    ///
    /// # Errors
    ///
    /// [`FramingError::TooLong`] if one line does not end within its bound. The framer is then of no more use.
    pub fn push(&mut self, chunk: &[u8], mut each: impl FnMut(Line<'_>)) -> Result<(), FramingError> {
        let mut at = 0;
        while let Some(length) = memchr(b'\n', &chunk[at..]) {
            let piece = &chunk[at..at + length];
            at += length + 1;
            if self.line.is_empty() {
                tell(piece, at, &mut each);
            } else {
                self.line.extend_from_slice(piece);
                tell(&self.line, at, &mut each);
                self.line.clear();
            }
        }
        self.line.extend_from_slice(&chunk[at..]);
        if self.line.len() > STREAM_EVENT_BYTES_MAX { Err(FramingError::TooLong) } else { Ok(()) }
    }

    /// Whether the stream would end here between two lines.
    pub fn is_at_boundary(&self) -> bool {
        self.line.is_empty()
    }

    /// What is there of a line that the stream ended in. The last one may come without an end.
    pub fn unfinished_data(&self) -> Option<&[u8]> {
        Some(self.line.trim_ascii()).filter(|line| !line.is_empty())
    }
}

fn tell(line: &[u8], end: usize, each: &mut impl FnMut(Line<'_>)) {
    let data = line.trim_ascii();
    if !data.is_empty() {
        each(Line { data, end });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<String> {
        let mut framer = LineFramer::default();
        let mut lines = Vec::new();
        for piece in pieces {
            framer.push(piece, |line| lines.push(String::from_utf8(line.data.to_vec()).unwrap())).unwrap();
        }
        lines.extend(framer.unfinished_data().map(|line| format!("{}…", String::from_utf8_lossy(line))));
        lines
    }

    #[test]
    fn any_split_gives_the_same_lines() {
        let text = "{\"a\":\"日本\"}\r\n\n{}\n{\"b\"".as_bytes();
        let whole = lines(&[text]);
        assert_eq!(whole, ["{\"a\":\"日本\"}", "{}", "{\"b\"…"]);
        for cut in 0..=text.len() {
            assert_eq!(lines(&[&text[..cut], &text[cut..]]), whole, "cut at {cut}");
        }
    }

    #[test]
    fn ends_are_places_in_the_chunk() {
        let mut framer = LineFramer::default();
        let mut ends = Vec::new();
        framer.push(b"{}\n\n[]\n1", |line| ends.push(line.end)).unwrap();
        assert_eq!(ends, [3, 7]);
        assert!(!framer.is_at_boundary());
    }

    #[test]
    fn a_line_without_end_is_bounded() {
        let mut framer = LineFramer::default();
        let long = vec![b'x'; STREAM_EVENT_BYTES_MAX + 1];
        assert_eq!(framer.push(&long, |_| {}), Err(FramingError::TooLong));
    }
}
