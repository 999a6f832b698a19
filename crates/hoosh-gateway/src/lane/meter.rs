//! How much of an answer may be passed on: what its pools hold for it, counted as it goes.

use hoosh_core::{Usage, limits};

use crate::call::Call;
use crate::count::Running;

/// What the pools of a call hold for it. Unit: tokens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    /// Of its prompt, as it was counted.
    pub(crate) prompt: u64,
    /// Of prompt and answers together.
    pub(crate) most: u64,
}

/// Counts a stream against what is held for it.
///
/// Who was told the most that it may write, and keeps to it, is never over it: what is counted is surely not more than that
/// ([`Running`]), and what the provider says itself counts where it is more.
pub(crate) struct Meter {
    room: Room,
    written: Running,
    /// What the provider has said of the prompt and of the answer.
    said: (u64, u64),
    /// How many tokens more the next piece takes than there are.
    wanted: u64,
}

// === impl Meter ===

impl Meter {
    /// `None`: no pool is charged for the call.
    pub(crate) fn of(call: &Call, model: &str) -> Option<Self> {
        let room = call.room()?;
        Some(Self { room, written: Running::new(model), said: (0, 0), wanted: 0 })
    }

    /// Whether this piece may be passed on; it is counted then, and else [`wanted`](Self::wanted).
    pub(crate) fn takes(&mut self, piece: &str) -> bool {
        if piece.is_empty() {
            return true;
        }
        let written = self.written.with(piece);
        self.wanted = self.total(written).saturating_sub(self.room.most);
        if self.wanted == 0 {
            self.written = written;
        }
        self.wanted == 0
    }

    /// The provider has said so much by now.
    pub(crate) fn heard(&mut self, usage: Option<&Usage>) {
        if let Some(usage) = usage.filter(|usage| usage.total() <= limits::USAGE_TOKENS_MAX) {
            self.said = (usage.prompt_total(), usage.completion_total());
        }
    }

    /// How many tokens more the next piece takes. 0: nothing waits for them.
    pub(crate) fn wanted(&self) -> u64 {
        self.wanted
    }

    /// So many more are held.
    pub(crate) fn allow(&mut self, more: u64) {
        self.room.most = self.room.most.saturating_add(more);
        self.wanted = 0;
    }

    /// Tokens of what was passed on, surely.
    pub(crate) fn written(&self) -> u64 {
        self.written.tokens()
    }

    fn total(&self, written: Running) -> u64 {
        let (prompt, answer) = self.said;
        self.room.prompt.max(prompt).saturating_add(written.tokens().max(answer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_taken_until_the_room_is_used_up_and_again_when_there_is_more() {
        let room = Room { prompt: 8, most: 10 };
        let mut meter = Meter { room, written: Running::new("m"), said: (0, 0), wanted: 0 };
        assert!(meter.takes("one ") && meter.takes("") && meter.takes("two "));
        assert_eq!((meter.takes("three "), meter.wanted(), meter.written()), (false, 1, 2));
        meter.allow(2);
        assert_eq!((meter.wanted(), meter.takes("three "), meter.written()), (0, true, 3));
        // What the provider says of what nobody sees counts.
        let usage = Usage { input: Some(9), reasoning: Some(3), ..Usage::default() };
        meter.heard(Some(&usage));
        assert_eq!((meter.takes("four "), meter.wanted()), (false, 1));
    }
}
