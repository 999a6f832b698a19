//! What became of a record that is not in its place: edited, deleted, inserted, moved, or written anew.

use super::fault::FaultKind;
use crate::Digest;
use crate::key::AuditKey;
use crate::segment;

/// A line that is not the one expected.
pub(super) struct Bad<'a> {
    pub(super) line: &'a [u8],
    /// The sequence of the one expected.
    pub(super) expected: u64,
    /// The link before it.
    pub(super) head: &'a Digest,
    /// What links are made with; `None`: they cannot be checked.
    pub(super) key: Option<&'a AuditKey>,
}

/// What is read of a line behind it.
struct Other {
    seq: u64,
    link: Digest,
    record: Vec<u8>,
}

/// Names what is wrong, by the lines behind it.
pub(super) fn name(bad: &Bad<'_>, rest: impl Iterator<Item = Vec<u8>>) -> FaultKind {
    let Bad { line, expected, head, key } = *bad;
    let read = |all: &[u8]| {
        let line = segment::line(all)?;
        Some(Other { seq: line.place()?.seq, link: line.link, record: line.record.to_vec() })
    };
    let fits =
        |before: &Digest, other: &Other| key.is_none_or(|key| key.link(before, &other.record) == other.link);
    let mut rest = rest.map(|line| read(&line)).peekable();
    let this = read(line);

    // With its own number it would be right: it is the number that was edited.
    if let (Some(this), Some(key)) = (&this, key)
        && let Some(record) = with_seq(&this.record, this.seq, expected)
        && key.link(head, &record) == this.link
    {
        return FaultKind::Edited { seq: expected };
    }
    // The one expected comes next, and in its place: this one was put before it, or belongs behind it and is not there.
    if let Some(Some(next)) = rest.peek()
        && next.seq == expected
        && fits(head, next)
    {
        let found = this.map_or(0, |this| this.seq);
        let is_moved = found > expected && !rest.flatten().any(|other| other.seq == found);
        return match is_moved {
            true => FaultKind::Reordered { expected, found },
            false => FaultKind::Inserted { before: expected },
        };
    }
    let is_elsewhere =
        |rest: &mut dyn Iterator<Item = Option<Other>>| rest.flatten().any(|other| other.seq == expected);
    match this {
        Some(this) if this.seq > expected => {
            let is_before_next = rest.peek().is_none_or(|next| {
                next.as_ref().is_some_and(|next| next.seq == this.seq + 1 && fits(&this.link, next))
            });
            if is_elsewhere(&mut rest) {
                FaultKind::Reordered { expected, found: this.seq }
            } else if is_before_next || key.is_none() {
                FaultKind::Deleted { from: expected, to: this.seq - 1 }
            } else {
                FaultKind::Edited { seq: expected }
            }
        }
        Some(this) if this.seq < expected => {
            if is_elsewhere(&mut rest) {
                FaultKind::Inserted { before: expected }
            } else {
                FaultKind::Edited { seq: expected }
            }
        }
        Some(this) => {
            // It was its link alone, if the next goes on from the one that it should have.
            if let (Some(Some(next)), Some(key)) = (rest.peek(), key)
                && fits(&key.link(head, &this.record), next)
            {
                return FaultKind::Edited { seq: expected };
            }
            // Is anything behind it still chained with the key?
            let mut before = this.link;
            let mut is_last = true;
            for other in rest {
                is_last = false;
                let Some(other) = other else { continue };
                if fits(&before, &other) {
                    return FaultKind::Edited { seq: expected };
                }
                before = other.link;
            }
            if is_last { FaultKind::Edited { seq: expected } } else { FaultKind::Resigned { from: expected } }
        }
        None => FaultKind::Edited { seq: expected },
    }
}

/// A record with another number, which stands at its end.
fn with_seq(record: &[u8], seq: u64, instead: u64) -> Option<Vec<u8>> {
    let before = record.strip_suffix(format!("\"seq\":{seq}}}").as_bytes())?;
    Some([before, format!("\"seq\":{instead}}}").as_bytes()].concat())
}
