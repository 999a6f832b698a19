//! Money as integers, and what a call costs.
//!
//! Decides how an amount is written and read, which price a token has, and the one place where a fraction of a
//! nano-dollar is rounded. Which price belongs to which model is [`catalog`](crate::catalog)'s; who pays is the
//! ledger's.
//!
//! **Invariant:** no float. A price enters as decimal text, becomes whole nano-dollars, and stays whole.

mod adjustment;

use std::fmt;
use std::iter::Sum;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use self::adjustment::Billing;
pub use self::adjustment::{Adjustment, Factor, Hours, InvalidFactor, Weekdays};
use crate::usage::Usage;

/// An amount of money.
///
/// Unit: billionths of a US dollar. Range: an `i64`, so about ±$9.2 billion; it fits an atomic, a database integer and
/// one Redis counter, which an `i128` would not. A billionth is fine enough: the cheapest token in the catalogue
/// (DeepSeek's cached input at $0.0028 per million) costs 2.8 of them, and a call is rounded once, not per token.
/// Negative amounts are corrections and balances; prices are never negative.
///
/// In JSON it is that integer.
///
/// ```
/// use hoosh_core::NanoUsd;
///
/// let price: NanoUsd = "0.0000125".parse()?;
/// assert_eq!(price, NanoUsd(12_500));
/// assert_eq!(price.to_string(), "$0.000012500");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NanoUsd(pub i64);

/// Text that is not an amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAmount {
    /// Anything but digits with at most one point; an exponent is refused too, since only floats are written so.
    #[error("not a decimal number of dollars")]
    NotDecimal,
    /// A digit finer than a nano-dollar, which could only be kept by rounding.
    #[error("finer than a billionth of a dollar")]
    TooFine,
    /// More than an `i64` of nano-dollars.
    #[error("more than 9.2 billion dollars")]
    TooLarge,
}

/// What one model's calls cost, as its provider's price list has it on some day.
///
/// It knows tokens, a flat fee per call, hours of the week with other prices, and calls that were served in another way
/// (batch, flex, priority). It does not know tools that bill by use, image tokens (counted as text) or cache storage by
/// the hour; a model whose bill is mostly that has no price.
///
/// ```
/// use hoosh_core::{NanoUsd, Price, Usage};
///
/// let price = Price::flat("2.50".parse()?, "10".parse()?);
/// let usage = Usage { input: Some(1_000), output: Some(100), ..Usage::default() };
/// assert_eq!(price.cost(&usage), NanoUsd(3_500_000)); // $0.0025 + $0.0010
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Price {
    /// Prices of a call whose prompt reaches no tier.
    pub rates: Rates,
    /// Prices of calls with long prompts, by ascending [`Tier::above`]. Empty (the default) for most models.
    pub tiers: Vec<Tier>,
    /// Flat fee per call, on top of the tokens (Perplexity's search). Unit: nano-dollars. Default: none.
    ///
    /// A call that used no token at all was refused or never ran, and is not charged it.
    pub request: Option<NanoUsd>,
    /// Prices of calls that were answered as a batch. Default: the usual ones, which are not lower.
    pub batch: Option<Adjustment>,
    /// Prices of calls that were served later for less (OpenAI's `flex`). Default: the usual ones, which are not lower.
    pub flex: Option<Adjustment>,
    /// Prices of calls that were served before others for more (OpenAI's `priority`). Default: none is known, and such a
    /// call is unpriced.
    pub priority: Option<Adjustment>,
    /// Hours with other prices. Empty (the default) for nearly all models. The first that a call is in counts; `Times` of
    /// the three above multiplies what holds at the hour, prices of their own hold at any hour.
    pub hours: Vec<Hours>,
}

/// Prices by kind of token.
///
/// Unit: nano-dollars per million tokens, which keeps every published price whole ($0.0375 per million is 37,500,000).
/// Range: zero or more; a negative price counts as zero.
///
/// A kind without a price of its own falls back to what it most plausibly costs *and not less*, so that a gap in a
/// price list can overstate a bill but not understate it: a budget that is exceeded unseen is worse than one that ends
/// early.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rates {
    /// Prompt tokens that no cache served.
    pub input: NanoUsd,
    /// Prompt tokens served by the provider's cache. Default: as [`input`](Self::input), the price without a cache.
    pub cache_read: Option<NanoUsd>,
    /// Prompt tokens written to a five-minute cache. Default: 5/4 of input, which is what the vendors ask who bill
    /// writes (Anthropic, Alibaba); those who do not bill them do not report them.
    pub cache_write_5m: Option<NanoUsd>,
    /// Prompt tokens written to a one-hour cache. Default: twice input, Anthropic's rule, or the five-minute price if
    /// that is more.
    pub cache_write_1h: Option<NanoUsd>,
    /// Answer tokens a reader sees: text and tool calls.
    pub output: NanoUsd,
    /// The same in a call that also reasoned. Default: as output.
    ///
    /// Alibaba bills the whole answer of a thinking call, not only the thoughts, at its thinking price.
    pub output_reasoned: Option<NanoUsd>,
    /// Answer tokens spent on reasoning. Default: as output, which is what all vendors but a few do.
    pub reasoning: Option<NanoUsd>,
    /// Prompt tokens that were audio. Default: as input.
    pub audio_in: Option<NanoUsd>,
    /// Answer tokens that were audio. Default: as output, which for a speech model is the price of its audio.
    pub audio_out: Option<NanoUsd>,
}

/// The prices of a call whose prompt is longer than some size.
///
/// Not a bracket as in taxes: one token more, and every token of the call has these prices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tier {
    /// Prompt size that must be exceeded, cached tokens included. Unit: tokens.
    pub above: u64,
    /// The prices then. A kind without one falls back within these, not to the base rates.
    pub rates: Rates,
}

/// Tokens that a [`Rates`] field is the price of.
const TOKENS_PER_RATE: u128 = 1_000_000;

/// What the product of two factors in millionths is for a factor of one.
const FACTORS_UNIT: u128 = 1_000_000_000_000;

/// Decimal places of a dollar that are kept.
const PLACES: usize = 9;

// === impl NanoUsd ===

impl NanoUsd {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// The largest amount, where saturating sums stop.
    pub const MAX: Self = Self(i64::MAX);

    /// The price of a million tokens, from the price of one as decimal text.
    ///
    /// Some listings (OpenRouter's) price a single token: "0.0000000375" is too fine for an amount, but is exactly
    /// $0.0375 per million.
    ///
    /// # Errors
    ///
    /// As [`from_str`](Self::from_str); [`InvalidAmount::TooFine`] for a digit past the fifteenth place.
    pub fn parse_per_token(text: &str) -> Result<Self, InvalidAmount> {
        parse(text, 6)
    }

    /// The sum, or `None` if it is out of range.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference, or `None` if it is out of range.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// The sum, or the nearest amount in range.
    #[must_use]
    pub fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, or the nearest amount in range.
    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Sum for NanoUsd {
    /// Saturates: a total out of range stays at the edge instead of wrapping into credit.
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Self::saturating_add)
    }
}

impl<'a> Sum<&'a NanoUsd> for NanoUsd {
    fn sum<I: Iterator<Item = &'a NanoUsd>>(amounts: I) -> Self {
        amounts.copied().sum()
    }
}

impl fmt::Display for NanoUsd {
    /// All nine places, always: amounts stand under each other, and the text parses back to the same amount.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.unsigned_abs();
        let sign = if self.0 < 0 { "-" } else { "" };
        f.pad(&format!("{sign}${}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000))
    }
}

impl FromStr for NanoUsd {
    type Err = InvalidAmount;

    /// Dollars as decimal text, exactly: `12`, `0.0000125`, `$3.5`, `-0.25`.
    ///
    /// # Errors
    ///
    /// [`InvalidAmount::NotDecimal`] for anything else (spaces, exponents, separators), [`InvalidAmount::TooFine`]
    /// rather than rounding, [`InvalidAmount::TooLarge`] out of range.
    fn from_str(text: &str) -> Result<Self, InvalidAmount> {
        parse(text, 0)
    }
}

/// Reads decimal text, with the point moved `shift` places to the right.
fn parse(text: &str, shift: usize) -> Result<NanoUsd, InvalidAmount> {
    let (negative, unsigned) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let digits = unsigned.strip_prefix('$').unwrap_or(unsigned);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() {
        return Err(InvalidAmount::NotDecimal);
    }

    let places = PLACES + shift;
    let mut nanos: i64 = 0;
    let padding = std::iter::repeat_n(b'0', places.saturating_sub(fraction.len()));
    for (index, digit) in whole.bytes().chain(fraction.bytes()).chain(padding).enumerate() {
        if !digit.is_ascii_digit() {
            return Err(InvalidAmount::NotDecimal);
        }
        if index >= whole.len() + places {
            // Zeros past the last place change nothing; the loop goes on so that "1.0…0x" is still refused.
            if digit != b'0' {
                return Err(InvalidAmount::TooFine);
            }
            continue;
        }
        // Built downwards from zero when negative, so that i64::MIN can be read back too.
        let step = i64::from(digit - b'0') * if negative { -1 } else { 1 };
        nanos = nanos.checked_mul(10).and_then(|n| n.checked_add(step)).ok_or(InvalidAmount::TooLarge)?;
    }
    Ok(NanoUsd(nanos))
}

// === impl Price ===

impl Price {
    /// A price without tiers, cache or audio prices: everything else falls back as [`Rates`] says.
    ///
    /// Unit: nano-dollars per million tokens.
    pub fn flat(input: NanoUsd, output: NanoUsd) -> Self {
        Self { rates: Rates { input, output, ..Rates::default() }, ..Self::default() }
    }

    /// The prices of a call with this many prompt tokens, cached ones included: those of the highest tier exceeded.
    pub fn rates_for(&self, prompt_tokens: u64) -> &Rates {
        tier_of(&self.rates, &self.tiers, prompt_tokens)
    }

    /// What one call cost at the usual prices, whenever it was and however it was served.
    ///
    /// **Rounding:** tokens times price is summed over all kinds first, exactly (`u128`); the sum, times what
    /// multiplies the prices, is divided once, and half a nano-dollar rounds up. Rounding each kind by itself would let a call drift by as many
    /// nano-dollars as it has kinds of tokens, and two ways of splitting the same tokens would cost differently.
    ///
    /// `None` in the usage counts as zero tokens: estimate first where the provider said nothing. Give it one call's
    /// usage, not a sum of several: tiers and the flat fee are per call. Saturates at [`NanoUsd::MAX`].
    pub fn cost(&self, usage: &Usage) -> NanoUsd {
        self.billed(&Billing::usual(self), usage)
    }

    /// What one call cost that was made at this time (seconds since 1970, UTC), served as its usage says.
    ///
    /// `None`: what such a service costs is not known. Rounding and the rest is as for [`cost`](Self::cost).
    pub fn cost_at(&self, usage: &Usage, at: u64) -> Option<NanoUsd> {
        Some(self.billed(&Billing::at(self, at, usage.service_tier)?, usage))
    }

    fn billed(&self, billing: &Billing<'_>, usage: &Usage) -> NanoUsd {
        let (rates, factors) = billing.rates_for(usage.prompt_total());
        let output = if usage.reasoning.unwrap_or(0) > 0 { rates.output_reasoned() } else { rates.output };
        let parts = [
            (usage.input, rates.input),
            (usage.cache_read, rates.cache_read()),
            (usage.cache_write_5m, rates.cache_write_5m()),
            (usage.cache_write_1h, rates.cache_write_1h()),
            (usage.output, output),
            (usage.reasoning, rates.reasoning()),
            (usage.audio_in, rates.audio_in()),
            (usage.audio_out, rates.audio_out()),
        ];
        let millionths = parts
            .into_iter()
            // 64 bits times 63 bits: the product always fits, only the sum can saturate.
            .map(|(tokens, rate)| u128::from(tokens.unwrap_or(0)) * u128::try_from(rate.0).unwrap_or(0))
            .fold(0, u128::saturating_add);
        // Most prices are multiplied by nothing; then there is room for every number of tokens.
        let (sum, unit) = match factors {
            FACTORS_UNIT => (millionths, TOKENS_PER_RATE),
            factors => (millionths.saturating_mul(factors), TOKENS_PER_RATE * FACTORS_UNIT),
        };
        let rounded = sum.saturating_add(unit / 2) / unit;
        let tokens = NanoUsd(i64::try_from(rounded).unwrap_or(i64::MAX));
        let fee = if usage.total() > 0 { self.request.unwrap_or_default() } else { NanoUsd::ZERO };
        tokens.saturating_add(fee)
    }
}

/// The prices of the highest tier that a prompt exceeds.
fn tier_of<'a>(rates: &'a Rates, tiers: &'a [Tier], prompt_tokens: u64) -> &'a Rates {
    tiers
        .iter()
        .filter(|tier| prompt_tokens > tier.above)
        .max_by_key(|tier| tier.above)
        .map_or(rates, |tier| &tier.rates)
}

// === impl Rates ===

impl Rates {
    /// Price of cached prompt tokens, with the fallback applied. Unit: nano-dollars per million tokens, as below.
    pub fn cache_read(&self) -> NanoUsd {
        self.cache_read.unwrap_or(self.input)
    }

    /// Price of prompt tokens written to a five-minute cache, with the fallback applied.
    pub fn cache_write_5m(&self) -> NanoUsd {
        self.cache_write_5m.unwrap_or_else(|| {
            let quarter = self.input.0 / 4 + i64::from(self.input.0 % 4 > 0); // up: never less than 5/4
            self.input.saturating_add(NanoUsd(quarter))
        })
    }

    /// Price of prompt tokens written to a one-hour cache, with the fallback applied.
    pub fn cache_write_1h(&self) -> NanoUsd {
        self.cache_write_1h
            .unwrap_or_else(|| self.input.saturating_add(self.input).max(self.cache_write_5m()))
    }

    /// Price of visible answer tokens in a call that also reasoned, with the fallback applied.
    pub fn output_reasoned(&self) -> NanoUsd {
        self.output_reasoned.unwrap_or(self.output)
    }

    /// Price of reasoning tokens, with the fallback applied.
    pub fn reasoning(&self) -> NanoUsd {
        self.reasoning.unwrap_or(self.output)
    }

    /// Price of audio prompt tokens, with the fallback applied.
    pub fn audio_in(&self) -> NanoUsd {
        self.audio_in.unwrap_or(self.input)
    }

    /// Price of audio answer tokens, with the fallback applied.
    pub fn audio_out(&self) -> NanoUsd {
        self.audio_out.unwrap_or(self.output)
    }
}

#[cfg(test)]
mod tests;
