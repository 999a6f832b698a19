//! Unix seconds as RFC 3339 and back.

use jiff::Timestamp;

/// `2026-11-24T10:00:00Z`; a time beyond the calendar's end is its end.
pub(in crate::dialect) fn rfc3339(seconds: u64) -> String {
    let read = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    format!("{:.0}", read.unwrap_or(Timestamp::MAX))
}

/// The seconds, without their fraction; `None` if it is no such time.
pub(in crate::dialect) fn unix(text: &str) -> Option<u64> {
    text.parse::<Timestamp>().ok()?.as_second().try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_514_400, "2026-11-24T10:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(seconds), text);
            assert_eq!(unix(text), Some(seconds));
        }
        assert_eq!(unix("1970-01-01T02:00:01.999+02:00"), Some(1));
        assert_eq!(unix("yesterday"), None);
        assert!(rfc3339(u64::MAX).starts_with("9999-"));
    }
}
