//! Prices in place of the usual ones: at some hours, or for a call that was served in another way.

use std::fmt;
use std::str::FromStr;

use super::{InvalidAmount, NanoUsd, Price, Rates, Tier, parse};
use crate::usage::ServiceTier;

/// What takes the place of a model's usual prices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Adjustment {
    /// Each usual price times this. The flat fee per call stays as it is.
    Times(Factor),
    /// Prices of their own.
    Rates {
        /// Those of a call whose prompt reaches no tier.
        rates: Rates,
        /// Those of calls with long prompts, by ascending [`Tier::above`].
        tiers: Vec<Tier>,
    },
}

/// By how much prices are multiplied.
///
/// Unit: millionths; half is 500,000. Range: 0 to [`MAX`](Self::MAX). Six places keep every discount that a vendor has
/// published (the finest is 0.125), and the product with a price stays an integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Factor(u32);

/// Text that is no [`Factor`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFactor {
    /// Anything but digits with at most one point.
    #[error("not a decimal number")]
    NotDecimal,
    /// A digit past the sixth place.
    #[error("finer than a millionth")]
    TooFine,
    /// Below zero, or above the most.
    #[error("not from 0 to {max}", max = Factor::MAX)]
    OutOfRange,
}

/// Hours of the week with prices of their own.
///
/// A vendor that bills by the time of day names one or more of these (DeepSeek: 01:00 to 04:00 and 06:00 to 10:00 UTC,
/// Monday to Friday).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hours {
    /// When in the day they begin. Unit: minutes from midnight, UTC. Range: 0 to 1439.
    pub from: u16,
    /// The first minute that is no more among them. As [`from`](Self::from), and 1440 is midnight. Not after `from`: they
    /// go on into the next day, and belong to the day that they began on.
    pub until: u16,
    /// On which days they begin.
    pub days: Weekdays,
    /// What holds then.
    pub prices: Adjustment,
}

/// A set of days of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weekdays(u8);

/// What a call is billed by: the prices, and by how much they are multiplied.
pub(super) struct Billing<'a> {
    rates: &'a Rates,
    tiers: &'a [Tier],
    factors: [Factor; 2],
}

const MINUTES_PER_DAY: u64 = 1_440;

// === impl Factor ===

impl Factor {
    /// Prices stay as they are.
    pub const ONE: Self = Self(Self::UNIT);

    /// The most: a hundred times the usual price. Whoever wrote more took it for a price.
    pub const MAX: Self = Self(100 * Self::UNIT);

    const UNIT: u32 = 1_000_000;

    const PLACES: usize = 6;

    pub(super) fn millionths(self) -> u128 {
        self.0.into()
    }
}

impl FromStr for Factor {
    type Err = InvalidFactor;

    /// A decimal number: `0.5`, `1.75`, `2`.
    fn from_str(text: &str) -> Result<Self, InvalidFactor> {
        if text.contains('$') {
            return Err(InvalidFactor::NotDecimal);
        }
        // An amount has three places more, which must then be zeros.
        match parse(text, 0) {
            Ok(NanoUsd(nanos)) if nanos % 1_000 != 0 => Err(InvalidFactor::TooFine),
            Ok(NanoUsd(nanos)) => {
                let factor = u32::try_from(nanos / 1_000).ok().map(Self);
                factor.filter(|factor| factor.0 <= Self::MAX.0).ok_or(InvalidFactor::OutOfRange)
            }
            Err(InvalidAmount::NotDecimal) => Err(InvalidFactor::NotDecimal),
            Err(InvalidAmount::TooFine) => Err(InvalidFactor::TooFine),
            Err(InvalidAmount::TooLarge) => Err(InvalidFactor::OutOfRange),
        }
    }
}

impl fmt::Display for Factor {
    /// As few places as it has; it reads back as the same.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / Self::UNIT, self.0 % Self::UNIT);
        if rest == 0 {
            return write!(f, "{whole}");
        }
        let places = format!("{rest:0places$}", places = Self::PLACES);
        write!(f, "{whole}.{}", places.trim_end_matches('0'))
    }
}

// === impl Weekdays ===

impl Weekdays {
    /// Every day.
    pub const ALL: Self = Self(0b111_1111);

    /// Their names, Monday first.
    pub const NAMES: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

    /// The days of these names.
    ///
    /// # Errors
    ///
    /// The first name that is none.
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, &'a str> {
        names.into_iter().try_fold(Self(0), |days, name| {
            let place = Self::NAMES.iter().position(|known| *known == name).ok_or(name)?;
            Ok(Self(days.0 | 1 << place))
        })
    }

    /// The names of those in it, Monday first.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        (0..7).filter(move |day| self.contains(*day)).map(|day| Self::NAMES[day as usize])
    }

    /// Whether there is none in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether this day is in it, counted from Monday.
    fn contains(self, day: u64) -> bool {
        self.0 & 1 << day != 0
    }
}

// === impl Hours ===

impl Hours {
    /// The minute of the day that `HH:MM` names, up to `24:00`. `None` for anything else.
    pub fn parse_minute(text: &str) -> Option<u16> {
        let (hour, minute) = text.split_once(':')?;
        let two = |digits: &str| {
            let is_number = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| digits.parse().ok()).flatten()
        };
        let (hour, minute): (u16, u16) = (two(hour)?, two(minute)?);
        (hour < 24 && minute < 60 || hour == 24 && minute == 0).then_some(60 * hour + minute)
    }

    /// Whether a time is among them. Unit: seconds since 1970, UTC.
    pub fn contains(&self, at: u64) -> bool {
        let minutes = at / 60;
        let minute = minutes % MINUTES_PER_DAY;
        // 1970 began on a Thursday, the fourth day from Monday on.
        let today = (minutes / MINUTES_PER_DAY + 3) % 7;
        let (from, until) = (u64::from(self.from), u64::from(self.until));
        if from < until {
            return (from..until).contains(&minute) && self.days.contains(today);
        }
        let yesterday = (today + 6) % 7;
        minute >= from && self.days.contains(today) || minute < until && self.days.contains(yesterday)
    }

    /// Whether some moment is among both.
    pub fn overlaps(&self, other: &Self) -> bool {
        // Both only change on a whole minute, and a week has 10,080 of them; this is for reading a file.
        (0..7 * MINUTES_PER_DAY).any(|minute| self.contains(60 * minute) && other.contains(60 * minute))
    }
}

// === impl Billing ===

impl<'a> Billing<'a> {
    /// The usual prices.
    pub(super) fn usual(price: &'a Price) -> Self {
        Self { rates: &price.rates, tiers: &price.tiers, factors: [Factor::ONE; 2] }
    }

    /// Those at a time, for a call that was served in this way. `None`: not known.
    pub(super) fn at(price: &'a Price, at: u64, served: ServiceTier) -> Option<Self> {
        let mut billing = Self::usual(price);
        if let Some(hours) = price.hours.iter().find(|hours| hours.contains(at)) {
            billing.adjust(0, &hours.prices);
        }
        let (own, is_dearer) = match served {
            ServiceTier::Standard => return Some(billing),
            ServiceTier::Batch => (&price.batch, false),
            ServiceTier::Flex => (&price.flex, false),
            ServiceTier::Priority => (&price.priority, true),
        };
        match own {
            Some(own) => billing.adjust(1, own),
            None if is_dearer => return None,
            None => {}
        }
        Some(billing)
    }

    fn adjust(&mut self, place: usize, adjustment: &'a Adjustment) {
        match adjustment {
            Adjustment::Times(factor) => self.factors[place] = *factor,
            Adjustment::Rates { rates, tiers } => {
                *self = Self { rates, tiers, factors: [Factor::ONE; 2] };
            }
        }
    }

    /// The prices of a prompt of so many tokens, and by how many billionths of a thousandth they are multiplied.
    pub(super) fn rates_for(&self, prompt_tokens: u64) -> (&'a Rates, u128) {
        let [one, other] = self.factors;
        (super::tier_of(self.rates, self.tiers, prompt_tokens), one.millionths() * other.millionths())
    }
}
