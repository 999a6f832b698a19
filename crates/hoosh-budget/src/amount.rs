//! Tokens and money together.

use hoosh_core::NanoUsd;

/// Tokens and money, which a call spends both.
///
/// Money is never negative here: less than nothing counts as nothing, since a credit would let somebody else overspend.
/// A call whose price is not known has money zero; whether it may run at all is for a policy to say.
///
/// ```
/// use hoosh_budget::Amount;
/// use hoosh_core::NanoUsd;
///
/// let estimate = Amount::new(1_200, "0.0031".parse()?);
/// assert_eq!(estimate.saturating_sub(Amount::tokens(1_000)), Amount::new(200, NanoUsd(3_100_000)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Amount {
    /// Input and output together. Unit: tokens.
    pub tokens: u64,
    /// What they cost.
    pub money: NanoUsd,
}

/// How much of each there may be. `None`: as much as anybody likes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Capacity {
    /// Unit: tokens.
    pub tokens: Option<u64>,
    /// Range: zero or more.
    pub money: Option<NanoUsd>,
}

// === impl Amount ===

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self { tokens: 0, money: NanoUsd::ZERO };

    /// More than anybody has, where sums stop.
    pub const MAX: Self = Self { tokens: u64::MAX, money: NanoUsd::MAX };

    /// So many tokens at this cost; a negative cost counts as none.
    #[must_use]
    pub fn new(tokens: u64, money: NanoUsd) -> Self {
        Self { tokens, money: money.max(NanoUsd::ZERO) }
    }

    /// So many tokens that cost nothing, or nobody knows what.
    #[must_use]
    pub const fn tokens(tokens: u64) -> Self {
        Self { tokens, money: NanoUsd::ZERO }
    }

    /// The sum, each part up to the largest there is.
    #[must_use]
    pub fn saturating_add(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.saturating_add(other.tokens),
            money: self.money.saturating_add(other.money),
        }
    }

    /// The difference, each part down to nothing.
    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.saturating_sub(other.tokens),
            money: self.money.saturating_sub(other.money).max(NanoUsd::ZERO),
        }
    }

    /// The lesser of each part.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        Self { tokens: self.tokens.min(other.tokens), money: self.money.min(other.money) }
    }

    /// The greater of each part.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self { tokens: self.tokens.max(other.tokens), money: self.money.max(other.money) }
    }

    /// Whether neither part is more than the other's.
    pub fn is_within(self, other: Self) -> bool {
        self.tokens <= other.tokens && self.money <= other.money
    }

    /// Whether it is nothing at all.
    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }

    /// The same without a negative part: the fields are open to everybody.
    pub(crate) fn sound(self) -> Self {
        Self::new(self.tokens, self.money)
    }
}

// === impl Capacity ===

impl Capacity {
    /// No limit on anything.
    pub const UNLIMITED: Self = Self { tokens: None, money: None };

    /// So many tokens, at whatever cost.
    pub const fn tokens(tokens: u64) -> Self {
        Self { tokens: Some(tokens), money: None }
    }

    /// So much money, whatever it buys.
    pub const fn money(money: NanoUsd) -> Self {
        Self { tokens: None, money: Some(money) }
    }

    /// What of it is left after so much; nothing where it is more.
    #[must_use]
    pub fn left(self, spent: Amount) -> Self {
        Self {
            tokens: self.tokens.map(|tokens| tokens.saturating_sub(spent.tokens)),
            money: self.money.map(|money| money.saturating_sub(spent.money).max(NanoUsd::ZERO)),
        }
    }

    /// Whether so much is within it.
    pub fn allows(self, amount: Amount) -> bool {
        self.tokens.is_none_or(|tokens| amount.tokens <= tokens)
            && self.money.is_none_or(|money| amount.money <= money)
    }

    /// The largest amount that it allows.
    pub(crate) fn most(self) -> Amount {
        Amount { tokens: self.tokens.unwrap_or(u64::MAX), money: self.money.unwrap_or(NanoUsd::MAX) }
    }
}
