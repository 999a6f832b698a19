//! Chance as an argument: the same seed gives the same numbers, so that a decision can be repeated.

use std::hash::{DefaultHasher, Hash, Hasher};

/// Where chance begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Seed(pub u64);

// === impl Seed ===

impl Seed {
    /// Another one, as good as unrelated to this (SplitMix64, Steele and others 2014).
    #[must_use]
    pub fn with(self, salt: u64) -> Self {
        let mut z = self.0.wrapping_add(salt.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self(z ^ (z >> 31))
    }

    /// One that belongs to these words, the same in every process.
    pub fn of(words: impl Hash) -> Self {
        let mut hasher = DefaultHasher::new();
        words.hash(&mut hasher);
        Self(hasher.finish())
    }

    /// Between 0 and 1, 1 excluded.
    pub fn fraction(self) -> f64 {
        // As many bits as a double holds exactly.
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// From 0 to `below`, excluded; 0 if that is 0.
    pub fn below(self, below: usize) -> usize {
        ((u128::from(self.0) * below as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_spread_evenly_and_repeat() {
        let mut counts = [0_u32; 10];
        let mut sum = 0.0;
        for salt in 0..100_000 {
            let seed = Seed(7).with(salt);
            counts[seed.below(10)] += 1;
            sum += seed.fraction();
        }
        assert!(counts.iter().all(|count| (9_700..10_300).contains(count)), "{counts:?}");
        assert!((sum / 100_000.0 - 0.5).abs() < 0.005, "{sum}");
        assert_eq!(Seed(7).with(3), Seed(7).with(3));
        assert_eq!(Seed(u64::MAX).below(0), 0);
    }
}
