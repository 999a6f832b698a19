//! What a call consumed, as disjoint parts.
//!
//! Vendors disagree on what contains what: OpenAI's `prompt_tokens` holds the cached ones, Anthropic's `input_tokens`
//! does not. Each dialect knows its vendor's convention and fills this one vector, so that everything above adds up
//! parts and never subtracts.

use std::ops::AddAssign;

/// Tokens of one call, in parts that never overlap.
///
/// Unit: tokens. `None` means the provider did not say; `Some(0)` means it said zero. The sum of all parts is what
/// was processed, see [`prompt_total`](Usage::prompt_total) and [`completion_total`](Usage::completion_total).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Prompt tokens that no cache served, without audio.
    pub input: Option<u64>,
    /// Prompt tokens that the provider's prompt cache served.
    pub cache_read: Option<u64>,
    /// Prompt tokens written to a cache that lives five minutes.
    pub cache_write_5m: Option<u64>,
    /// Prompt tokens written to a cache that lives one hour.
    pub cache_write_1h: Option<u64>,
    /// Answer tokens a reader sees: text and tool calls.
    pub output: Option<u64>,
    /// Answer tokens spent on reasoning.
    pub reasoning: Option<u64>,
    /// Prompt tokens that were audio.
    pub audio_in: Option<u64>,
    /// Answer tokens that were audio.
    pub audio_out: Option<u64>,
    /// How we know.
    pub provenance: Provenance,
}

/// How a [`Usage`] is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Provenance {
    /// The provider reported it at the end of the call.
    #[default]
    Reported,
    /// We counted; the provider said nothing.
    Estimated,
    /// The call ended early: what the provider reported until then.
    Partial,
}

// === impl Provenance ===

impl Provenance {
    /// One word for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reported => "reported",
            Self::Estimated => "estimated",
            Self::Partial => "partial",
        }
    }
}

// === impl Usage ===

impl Usage {
    /// All prompt tokens: uncached, cache reads, cache writes and audio.
    pub fn prompt_total(&self) -> u64 {
        total([self.input, self.cache_read, self.cache_write_5m, self.cache_write_1h, self.audio_in])
    }

    /// All answer tokens: visible, reasoning and audio.
    pub fn completion_total(&self) -> u64 {
        total([self.output, self.reasoning, self.audio_out])
    }

    /// Prompt and answer together.
    pub fn total(&self) -> u64 {
        self.prompt_total().saturating_add(self.completion_total())
    }
}

impl AddAssign for Usage {
    /// Adds part by part; a part is `None` only if it is `None` on both sides. The weaker provenance wins.
    fn add_assign(&mut self, other: Self) {
        let add = |mine: &mut Option<u64>, theirs: Option<u64>| {
            if let Some(theirs) = theirs {
                *mine = Some(mine.unwrap_or(0).saturating_add(theirs));
            }
        };
        add(&mut self.input, other.input);
        add(&mut self.cache_read, other.cache_read);
        add(&mut self.cache_write_5m, other.cache_write_5m);
        add(&mut self.cache_write_1h, other.cache_write_1h);
        add(&mut self.output, other.output);
        add(&mut self.reasoning, other.reasoning);
        add(&mut self.audio_in, other.audio_in);
        add(&mut self.audio_out, other.audio_out);
        if self.provenance == Provenance::Reported {
            self.provenance = other.provenance;
        }
    }
}

fn total<const N: usize>(parts: [Option<u64>; N]) -> u64 {
    parts.into_iter().flatten().fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_and_unknown_stays_unknown() {
        let mut usage = Usage { input: Some(3), output: Some(5), ..Usage::default() };
        usage += Usage { input: Some(1), reasoning: Some(0), ..Usage::default() };

        assert_eq!(usage.input, Some(4));
        assert_eq!(usage.reasoning, Some(0));
        assert_eq!(usage.cache_read, None);
        assert_eq!((usage.prompt_total(), usage.completion_total(), usage.total()), (4, 5, 9));
    }

    #[test]
    fn the_weaker_provenance_wins() {
        let mut usage = Usage::default();
        usage += Usage { provenance: Provenance::Partial, ..Usage::default() };
        assert_eq!(usage.provenance, Provenance::Partial);
    }
}
