//! How urgent a call is, and the words for it.

use std::fmt;
use std::str::FromStr;

/// How urgent a call is. The higher goes first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Tier {
    /// Somebody watches the screen.
    High,
    /// As most calls are. The default.
    #[default]
    Normal,
    /// It can wait a little.
    Low,
    /// Nobody waits for it: evaluations, indexing, the night's work.
    Batch,
}

/// A word that names no tier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a tier of the queue; there are `high`, `normal`, `low` and `batch`")]
pub struct UnknownTier(pub String);

// === impl Tier ===

impl Tier {
    /// All of them, the highest first.
    pub const ALL: [Self; 4] = [Self::High, Self::Normal, Self::Low, Self::Batch];

    /// Its name in configuration and headers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
            Self::Batch => "batch",
        }
    }

    /// This one, or `ceiling` where that is lower.
    #[must_use]
    pub fn at_most(self, ceiling: Self) -> Self {
        if self.index() < ceiling.index() { ceiling } else { self }
    }

    /// Its place in [`ALL`](Self::ALL).
    pub(super) fn index(self) -> usize {
        self as usize
    }
}

impl FromStr for Tier {
    type Err = UnknownTier;

    /// Reads a name whatever its case.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = Self::ALL.into_iter().find(|tier| tier.as_str().eq_ignore_ascii_case(text));
        named.ok_or_else(|| UnknownTier(text.to_owned()))
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ceiling_is_never_passed() {
        assert_eq!(Tier::High.at_most(Tier::Low), Tier::Low);
        assert_eq!(Tier::Batch.at_most(Tier::High), Tier::Batch);
    }

    #[test]
    fn tiers_are_read_as_they_are_written() {
        for (index, tier) in Tier::ALL.into_iter().enumerate() {
            assert_eq!(tier.to_string().parse(), Ok(tier));
            assert_eq!(tier.as_str().to_uppercase().parse(), Ok(tier));
            assert_eq!(tier.index(), index);
        }
        assert_eq!("urgent".parse::<Tier>(), Err(UnknownTier("urgent".into())));
    }
}
