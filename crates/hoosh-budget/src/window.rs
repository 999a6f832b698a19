//! When a pool begins anew.
//!
//! Turns a time into the window that it lies in. Reads no clock and keeps nothing.

use std::time::Duration;

use hoosh_core::limits::ROLLING_BUCKETS;
use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

/// The time within which a pool's capacity may be spent.
///
/// Calendar windows begin where the calendar of the pool's time zone says: a day of the change to summer time has 23
/// hours, a month 28 to 31 days, a week begins on Monday (ISO 8601). An hour in which the clocks change ends with the
/// change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Window {
    /// All time: what is spent stays spent.
    #[default]
    None,
    /// From one full minute to the next.
    Minute,
    /// From one full hour to the next.
    Hour,
    /// From midnight to midnight.
    Day,
    /// From Monday to Monday.
    Week,
    /// From the first of a month to the first of the next.
    Month,
    /// Any stretch of this length. Range: 1 s to 366 days.
    ///
    /// It moves on in sixtieths of itself: what was spent counts until all of its sixtieth is out of the window, so at
    /// most a sixtieth longer than it must, and never shorter.
    Rolling(Duration),
}

/// A stretch of time, its end not in it. Unit: Unix milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Span {
    pub(crate) start: i64,
    pub(crate) end: i64,
}

// === impl Window ===

impl Window {
    /// One word for configurations and answers. The length of a rolling one is not in it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Rolling(_) => "rolling",
        }
    }

    /// When the window begins and ends that `now` lies in; of a rolling one, the part that `now` lies in. `None`: at no
    /// time.
    pub fn around(self, time_zone: &TimeZone, now: Timestamp) -> (Option<Timestamp>, Option<Timestamp>) {
        let span = self.span(time_zone, now.as_millisecond());
        (span.start(), span.end())
    }

    pub(crate) fn span(self, time_zone: &TimeZone, now: i64) -> Span {
        let found = match self {
            Self::None => None,
            Self::Minute => clock(time_zone, now, 60),
            Self::Hour => clock(time_zone, now, 60 * 60),
            Self::Day => calendar(time_zone, now, |today| Some((today, today.tomorrow().ok()?))),
            Self::Week => calendar(time_zone, now, |today| {
                let monday =
                    today.checked_sub(i64::from(today.weekday().since(Weekday::Monday)).days()).ok()?;
                Some((monday, monday.checked_add(7.days()).ok()?))
            }),
            Self::Month => calendar(time_zone, now, |today| {
                let first = today.first_of_month();
                Some((first, first.checked_add(1.month()).ok()?))
            }),
            Self::Rolling(length) => {
                let width = bucket_width(length);
                let start = now.div_euclid(width).saturating_mul(width);
                Some(Span { start, end: start.saturating_add(width) })
            }
        };
        found.unwrap_or(Span::ALL)
    }

    /// Of a rolling window its length. Unit: milliseconds.
    pub(crate) fn rolling(self) -> Option<i64> {
        match self {
            Self::Rolling(length) => Some(millis(length)),
            _ => None,
        }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn bucket_width(length: Duration) -> i64 {
    let parts = i64::from(ROLLING_BUCKETS);
    (millis(length) / parts + i64::from(millis(length) % parts > 0)).max(1)
}

/// The minute or hour around a time, cut off where the clocks change.
fn clock(time_zone: &TimeZone, now: i64, seconds: i64) -> Option<Span> {
    let time = Timestamp::from_millisecond(now).ok()?;
    let width = seconds * 1_000;
    let offset = i64::from(time_zone.to_offset(time).seconds()) * 1_000;
    let local = now.checked_add(offset)?;
    let start = now - local.rem_euclid(width);
    let end = start + width;
    // The one before `time` is looked for from the instant after it: a change at `time` itself has happened.
    let just_after = Timestamp::from_millisecond(now + 1).ok()?;
    let changed = time_zone.preceding(just_after).next().map(|change| change.timestamp().as_millisecond());
    let changes = time_zone.following(time).next().map(|change| change.timestamp().as_millisecond());
    Some(Span {
        start: changed.map_or(start, |at| at.max(start)),
        end: changes.map_or(end, |at| at.min(end)),
    })
}

/// The days around a time, from the first's beginning to the second's.
fn calendar(time_zone: &TimeZone, now: i64, days: impl FnOnce(Date) -> Option<(Date, Date)>) -> Option<Span> {
    let today = Timestamp::from_millisecond(now).ok()?.to_zoned(time_zone.clone()).date();
    let (first, next) = days(today)?;
    let begins = |date: Date| Some(date.to_zoned(time_zone.clone()).ok()?.timestamp().as_millisecond());
    Some(Span { start: begins(first)?, end: begins(next)? })
}

// === impl Span ===

impl Span {
    /// All time.
    pub(crate) const ALL: Self = Self { start: i64::MIN, end: i64::MAX };

    pub(crate) fn start(self) -> Option<Timestamp> {
        (self.start > i64::MIN).then(|| Timestamp::from_millisecond(self.start).ok()).flatten()
    }

    pub(crate) fn end(self) -> Option<Timestamp> {
        (self.end < i64::MAX).then(|| Timestamp::from_millisecond(self.end).ok()).flatten()
    }
}

#[cfg(test)]
mod tests;
