use hoosh_core::limits::ROLLING_BUCKETS;
use proptest::prelude::*;

use super::*;

const ZONES: [&str; 12] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Havana",      // the clocks change at midnight
    "America/Sao_Paulo",   // midnight was left out
    "Asia/Kolkata",        // half an hour off
    "Asia/Kathmandu",      // three quarters
    "Australia/Lord_Howe", // summer time is half an hour
    "Pacific/Apia",        // left out a day
    "Pacific/Chatham",
    "Africa/Casablanca",
    "Asia/Pyongyang",
];
const WINDOWS: [Window; 5] = [Window::Minute, Window::Hour, Window::Day, Window::Week, Window::Month];

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap()
}

#[track_caller]
fn check(window: Window, zone_name: &str, now: &str, start: &str, end: &str) {
    let parse = |text: &str| text.parse::<Timestamp>().unwrap();
    let found = window.around(&zone(zone_name), parse(now));
    assert_eq!(found, (Some(parse(start)), Some(parse(end))), "{window:?} around {now} in {zone_name}");
}

#[test]
fn windows_are_those_of_the_calendar() {
    let berlin = "Europe/Berlin";
    check(Window::Minute, berlin, "2026-03-29T00:59:59.999Z", "2026-03-29T00:59:00Z", "2026-03-29T01:00:00Z");
    check(
        Window::Hour,
        "Asia/Kolkata",
        "2026-01-01T00:10:00Z",
        "2025-12-31T23:30:00Z",
        "2026-01-01T00:30:00Z",
    );
    check(Window::Day, berlin, "2026-01-15T22:59:59Z", "2026-01-14T23:00:00Z", "2026-01-15T23:00:00Z");
    check(Window::Week, berlin, "2026-01-04T22:00:00Z", "2025-12-28T23:00:00Z", "2026-01-04T23:00:00Z");
    check(Window::Month, berlin, "2028-02-29T12:00:00Z", "2028-01-31T23:00:00Z", "2028-02-29T23:00:00Z");
    check(Window::Month, "UTC", "2026-12-31T23:59:59Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z");
}

#[test]
fn a_day_has_23_or_25_hours_when_the_clocks_change() {
    let berlin = "Europe/Berlin";
    check(Window::Day, berlin, "2026-03-29T12:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z");
    check(Window::Day, berlin, "2026-10-25T12:00:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z");
    check(Window::Month, berlin, "2026-03-29T12:00:00Z", "2026-02-28T23:00:00Z", "2026-03-31T22:00:00Z");
    // Midnight itself is left out there.
    check(
        Window::Day,
        "America/Havana",
        "2026-03-08T12:00:00Z",
        "2026-03-08T05:00:00Z",
        "2026-03-09T04:00:00Z",
    );
}

#[test]
fn an_hour_in_which_the_clocks_change_ends_with_the_change() {
    // At 2:00 the clocks go back to 1:30, so what looks like the hour of 1 has half an hour after an hour of its own.
    let howe = "Australia/Lord_Howe";
    check(Window::Hour, howe, "2026-04-04T14:59:59Z", "2026-04-04T14:00:00Z", "2026-04-04T15:00:00Z");
    check(Window::Hour, howe, "2026-04-04T15:00:00Z", "2026-04-04T15:00:00Z", "2026-04-04T15:30:00Z");
    check(Window::Hour, howe, "2026-04-04T15:30:00Z", "2026-04-04T15:30:00Z", "2026-04-04T16:30:00Z");
}

#[test]
fn all_time_has_no_ends() {
    assert_eq!(Window::None.around(&TimeZone::UTC, Timestamp::UNIX_EPOCH), (None, None));
}

#[test]
fn sixty_parts_are_no_shorter_than_a_rolling_window() {
    for length_ms in [1_000, 1_001, 59_999, 86_400_000, 31_622_400_000] {
        let window = Window::Rolling(Duration::from_millis(length_ms));
        let span = window.span(&TimeZone::UTC, 1_767_225_600_123);
        assert!((span.end - span.start) * i64::from(ROLLING_BUCKETS) >= length_ms as i64);
        assert!(span.start <= 1_767_225_600_123 && 1_767_225_600_123 < span.end);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Every time is in one window, whoever asks from within it finds the same, and the next begins where it ends.
    #[test]
    fn windows_leave_no_gap_and_do_not_overlap(
        zone_name in prop::sample::select(&ZONES[..]),
        window in prop::sample::select(&WINDOWS[..]),
        now in 0..4_102_444_800_000_i64,
        part in 0.0..1.0_f64,
    ) {
        let zone = zone(zone_name);
        let span = window.span(&zone, now);
        prop_assert!(span.start <= now && now < span.end, "{:?}", span);
        let within = span.start + ((span.end - span.start - 1) as f64 * part) as i64;
        prop_assert_eq!(window.span(&zone, within), span);
        prop_assert_eq!(window.span(&zone, span.end).start, span.end);
        prop_assert_eq!(window.span(&zone, span.start - 1).end, span.start);
    }
}
