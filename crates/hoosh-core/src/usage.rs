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
    /// How the call was served, which decides by which prices it is billed.
    pub service_tier: ServiceTier,
    /// How we know.
    pub provenance: Provenance,
}

/// How a call was served, as the provider reports it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum ServiceTier {
    /// As usual, or nothing was said. So counts what was paid for beforehand (OpenAI's `scale`) and every word that is not
    /// known.
    #[default]
    Standard,
    /// As part of a batch.
    Batch,
    /// When there was room, for less.
    Flex,
    /// Before others, for more.
    Priority,
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

// === impl ServiceTier ===

impl ServiceTier {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Standard, Self::Batch, Self::Flex, Self::Priority];

    /// One word for logs, metrics and price lists.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Batch => "batch",
            Self::Flex => "flex",
            Self::Priority => "priority",
        }
    }

    /// What a provider's `service_tier` means.
    pub fn of(word: &str) -> Self {
        Self::ALL.into_iter().find(|tier| tier.as_str() == word).unwrap_or_default()
    }

    /// The same of a JSON value, which may be anything.
    pub(crate) fn of_json(json: Option<&str>) -> Self {
        json.and_then(|text| text.strip_prefix('"')?.strip_suffix('"')).map_or(Self::Standard, Self::of)
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
    /// Adds part by part; a part is `None` only if it is `None` on both sides. The weaker provenance wins, and the
    /// service tier that is not the usual one.
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
        if self.service_tier == ServiceTier::Standard {
            self.service_tier = other.service_tier;
        }
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
    fn a_service_tier_is_read_from_any_vendors_word() {
        for (json, tier) in [
            (Some("\"flex\""), ServiceTier::Flex),
            (Some("\"priority\""), ServiceTier::Priority),
            (Some("\"batch\""), ServiceTier::Batch),
            (Some("\"default\""), ServiceTier::Standard),
            (Some("\"scale\""), ServiceTier::Standard),
            (Some("null"), ServiceTier::Standard),
            (Some("{}"), ServiceTier::Standard),
            (None, ServiceTier::Standard),
        ] {
            assert_eq!(ServiceTier::of_json(json), tier, "{json:?}");
        }
    }

    #[test]
    fn the_weaker_provenance_wins() {
        let mut usage = Usage::default();
        usage += Usage { provenance: Provenance::Partial, ..Usage::default() };
        assert_eq!(usage.provenance, Provenance::Partial);
    }
}
