//! Which answers of a passing stream are complete.

/// Which choices have been seen and which have finished, a bit each by index; those from 63 on share the last.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ChoiceBits {
    seen: u64,
    finished: u64,
}

impl ChoiceBits {
    pub(super) fn note(&mut self, index: u32, finished: bool) {
        let bit = 1 << index.min(63);
        self.seen |= bit;
        self.finished |= if finished { bit } else { 0 };
    }

    pub(super) fn add(&mut self, more: Self) {
        self.seen |= more.seen;
        self.finished |= more.finished;
    }

    pub(super) fn any(self) -> bool {
        self.seen != 0
    }

    pub(super) fn all_finished(self) -> bool {
        self.any() && self.seen == self.finished
    }
}
