use super::*;
use crate::usage::ServiceTier;

fn usd(text: &str) -> NanoUsd {
    text.parse().unwrap()
}

#[track_caller]
fn check_parse(text: &str, expect: Result<i64, InvalidAmount>) {
    assert_eq!(text.parse::<NanoUsd>(), expect.map(NanoUsd), "{text:?}");
}

#[test]
fn decimal_text_is_read_exactly() {
    check_parse("0", Ok(0));
    check_parse("12", Ok(12_000_000_000));
    check_parse("$12.5", Ok(12_500_000_000));
    check_parse("0.0000125", Ok(12_500));
    check_parse("0.000000001", Ok(1));
    check_parse(".5", Ok(500_000_000));
    check_parse("5.", Ok(5_000_000_000));
    check_parse("-0.25", Ok(-250_000_000));
    check_parse("-$0.25", Ok(-250_000_000));
    check_parse("0.1000000000000", Ok(100_000_000));
    check_parse("9223372036.854775807", Ok(i64::MAX));
    check_parse("-9223372036.854775808", Ok(i64::MIN));
}

#[test]
fn what_is_not_exact_is_refused() {
    for text in ["", ".", "$", "-", "1e-6", "1,5", " 1", "1 ", "+1", "0x1", "1.2.3", "--1", "$-1", "NaN", "٣"]
    {
        check_parse(text, Err(InvalidAmount::NotDecimal));
    }
    check_parse("0.0000000001", Err(InvalidAmount::TooFine));
    check_parse("0.0000000000x", Err(InvalidAmount::NotDecimal));
    check_parse("9223372036.854775808", Err(InvalidAmount::TooLarge));
    check_parse("99999999999999999999999", Err(InvalidAmount::TooLarge));
}

#[test]
fn a_price_per_token_becomes_a_price_per_million() {
    assert_eq!(NanoUsd::parse_per_token("0.0000025"), Ok(usd("2.5")));
    assert_eq!(NanoUsd::parse_per_token("0.0000000375"), Ok(usd("0.0375")));
    assert_eq!(NanoUsd::parse_per_token("0"), Ok(NanoUsd::ZERO));
    assert_eq!(NanoUsd::parse_per_token("0.0000000000000001"), Err(InvalidAmount::TooFine));
}

#[test]
fn an_amount_is_shown_with_nine_places_and_reads_back() {
    assert_eq!(NanoUsd(12_500).to_string(), "$0.000012500");
    assert_eq!(NanoUsd(-1).to_string(), "-$0.000000001");
    assert_eq!(format!("{:>14}", NanoUsd(1_000_000_000)), "  $1.000000000");
    for nanos in [0, 1, -1, 12_500, 1_000_000_000, i64::MAX, i64::MIN] {
        check_parse(&NanoUsd(nanos).to_string(), Ok(nanos));
    }
}

#[test]
fn sums_stop_at_the_edge_instead_of_wrapping() {
    assert_eq!(NanoUsd::MAX.checked_add(NanoUsd(1)), None);
    assert_eq!(NanoUsd::MAX.saturating_add(NanoUsd(1)), NanoUsd::MAX);
    assert_eq!(NanoUsd(i64::MIN).checked_sub(NanoUsd(1)), None);
    assert_eq!(NanoUsd(2).checked_sub(NanoUsd(3)), Some(NanoUsd(-1)));
    assert_eq!([NanoUsd(1), NanoUsd(2)].iter().sum::<NanoUsd>(), NanoUsd(3));
    assert_eq!([NanoUsd::MAX, NanoUsd::MAX].into_iter().sum::<NanoUsd>(), NanoUsd::MAX);
}

#[test]
fn an_amount_is_an_integer_in_json() {
    assert_eq!(serde_json::to_string(&NanoUsd(12_500)).unwrap(), "12500");
    assert_eq!(serde_json::from_str::<NanoUsd>("-3").unwrap(), NanoUsd(-3));
    assert!(serde_json::from_str::<NanoUsd>("0.5").is_err());
}

#[test]
fn each_kind_of_token_has_its_own_price() {
    // Claude Sonnet 5 on 2026-07-02: $2 in, $0.20 cached, $2.50 and $4 written, $10 out.
    let price = Price {
        rates: Rates {
            cache_read: Some(usd("0.2")),
            cache_write_5m: Some(usd("2.5")),
            cache_write_1h: Some(usd("4")),
            ..Price::flat(usd("2"), usd("10")).rates
        },
        ..Price::default()
    };
    let usage = Usage {
        input: Some(1_234),
        cache_read: Some(50_000),
        cache_write_5m: Some(2_000),
        cache_write_1h: Some(1_000),
        output: Some(321),
        ..Usage::default()
    };
    // 2,468,000 + 10,000,000 + 5,000,000 + 4,000,000 + 3,210,000
    assert_eq!(price.cost(&usage), NanoUsd(24_678_000));
}

#[test]
fn a_price_that_is_missing_falls_back_to_one_that_is_not_lower() {
    let price = Price::flat(usd("2"), usd("10"));
    let million = Some(1_000_000);
    let cost = |usage: Usage| price.cost(&usage).to_string();
    assert_eq!(cost(Usage { cache_read: million, ..Usage::default() }), "$2.000000000");
    assert_eq!(cost(Usage { cache_write_5m: million, ..Usage::default() }), "$2.500000000");
    assert_eq!(cost(Usage { cache_write_1h: million, ..Usage::default() }), "$4.000000000");
    assert_eq!(cost(Usage { reasoning: million, ..Usage::default() }), "$10.000000000");
    assert_eq!(cost(Usage { audio_in: million, ..Usage::default() }), "$2.000000000");
    assert_eq!(cost(Usage { audio_out: million, ..Usage::default() }), "$10.000000000");

    assert_eq!(Price::flat(NanoUsd(1), NanoUsd(0)).rates.cache_write_5m(), NanoUsd(2), "5/4 rounds up");
    let dear = Rates { cache_write_5m: Some(usd("9")), ..price.rates };
    assert_eq!(dear.cache_write_1h(), usd("9"));
}

#[test]
fn a_fraction_is_rounded_once_and_half_goes_up() {
    // One token at 2.8 nano-dollars, DeepSeek's cached input.
    let price = Price::flat(usd("0.0028"), NanoUsd::ZERO);
    let tokens = |n| price.cost(&Usage { input: Some(n), ..Usage::default() });
    assert_eq!(
        (tokens(1), tokens(2), tokens(3), tokens(5)),
        (NanoUsd(3), NanoUsd(6), NanoUsd(8), NanoUsd(14))
    );

    // 0.5 alone goes up, 0.499999 goes down.
    assert_eq!(
        Price::flat(NanoUsd(500_000), NanoUsd::ZERO).cost(&Usage { input: Some(1), ..Usage::default() }).0,
        1
    );
    assert_eq!(
        Price::flat(NanoUsd(499_999), NanoUsd::ZERO).cost(&Usage { input: Some(1), ..Usage::default() }).0,
        0
    );

    // Two kinds of 0.4 each: 0.8 makes 1; rounded by kind it would be 0.
    let price = Price::flat(NanoUsd(400_000), NanoUsd(400_000));
    assert_eq!(price.cost(&Usage { input: Some(1), output: Some(1), ..Usage::default() }), NanoUsd(1));
    // Three of 0.5 each: 1.5 makes 2; rounded by kind it would be 3.
    let price = Price::flat(NanoUsd(500_000), NanoUsd(500_000));
    let usage = Usage { input: Some(1), output: Some(1), reasoning: Some(1), ..Usage::default() };
    assert_eq!(price.cost(&usage), NanoUsd(2));
}

#[test]
fn one_token_above_a_tier_moves_the_whole_call() {
    // Gemini 2.5 Pro: $1.25/$10, above 200,000 prompt tokens $2.50/$15, cached $0.125 and $0.25.
    let rates = |input, output, read| Rates {
        cache_read: Some(usd(read)),
        ..Price::flat(usd(input), usd(output)).rates
    };
    let price = Price {
        rates: rates("1.25", "10", "0.125"),
        tiers: vec![Tier { above: 200_000, rates: rates("2.5", "15", "0.25") }],
        ..Price::default()
    };
    let call = |cached| Usage {
        input: Some(100_000),
        cache_read: Some(cached),
        output: Some(1_000),
        ..Usage::default()
    };
    // At the size: 125,000,000 + 12,500,000 + 10,000,000.
    assert_eq!(price.cost(&call(100_000)), NanoUsd(147_500_000));
    // One above: 250,000,000 + 25,000,250 + 15,000,000.
    assert_eq!(price.cost(&call(100_001)), NanoUsd(290_000_250));
}

#[test]
fn the_highest_tier_exceeded_counts_whatever_their_order() {
    let tier = |above, input| Tier { above, rates: Price::flat(NanoUsd(input), NanoUsd::ZERO).rates };
    let price = Price { tiers: vec![tier(128, 3), tier(32, 2)], ..Price::flat(NanoUsd(1), NanoUsd::ZERO) };
    let input = |prompt| price.rates_for(prompt).input.0;
    assert_eq!((input(0), input(32), input(33), input(128), input(129)), (1, 1, 2, 2, 3));
}

#[test]
fn reasoning_can_make_the_whole_answer_dearer() {
    // qwen-plus: $1.20 out, $4 in thinking mode for thoughts and answer alike.
    let price = Price {
        rates: Rates {
            reasoning: Some(usd("4")),
            output_reasoned: Some(usd("4")),
            ..Price::flat(usd("0.4"), usd("1.2")).rates
        },
        ..Price::default()
    };
    let answer = |reasoning| Usage { output: Some(1_000), reasoning, ..Usage::default() };
    assert_eq!(price.cost(&answer(None)), NanoUsd(1_200_000));
    assert_eq!(price.cost(&answer(Some(0))), NanoUsd(1_200_000));
    assert_eq!(price.cost(&answer(Some(500))), NanoUsd(6_000_000));
}

#[test]
fn the_flat_fee_is_charged_once_and_only_if_something_ran() {
    let price = Price { request: Some(usd("0.005")), ..Price::flat(usd("1"), usd("1")) };
    assert_eq!(price.cost(&Usage::default()), NanoUsd::ZERO);
    assert_eq!(price.cost(&Usage { input: Some(0), output: Some(0), ..Usage::default() }), NanoUsd::ZERO);
    assert_eq!(price.cost(&Usage { input: Some(1_000), ..Usage::default() }), usd("0.006"));
}

#[test]
fn absurd_usage_saturates_and_negative_prices_are_nothing() {
    let all = Some(u64::MAX);
    let usage = Usage { input: all, cache_read: all, output: all, reasoning: all, ..Usage::default() };
    assert_eq!(Price::flat(NanoUsd::MAX, NanoUsd::MAX).cost(&usage), NanoUsd::MAX);
    assert_eq!(Price::flat(NanoUsd(-5), NanoUsd(-5)).cost(&usage), NanoUsd::ZERO);
}

// === prices in place of the usual ones ===

/// Seconds from the beginning of a week in 1970: 0 is its Monday at midnight.
fn on(day: u64, hour: u64, minute: u64) -> u64 {
    4 * 86_400 + day * 86_400 + hour * 3_600 + minute * 60
}

fn hours(from: &str, until: &str, days: &[&str], prices: Adjustment) -> Hours {
    let minute = |text| Hours::parse_minute(text).unwrap();
    let days = Weekdays::parse(days.iter().copied()).unwrap();
    Hours { from: minute(from), until: minute(until), days, prices }
}

fn times(text: &str) -> Adjustment {
    Adjustment::Times(text.parse().unwrap())
}

#[test]
fn a_factor_is_read_exactly_and_shown_as_it_was() {
    for text in ["0", "0.5", "1", "1.75", "2", "0.125", "0.000001", "100"] {
        assert_eq!(text.parse::<Factor>().map(|factor| factor.to_string()), Ok(text.to_owned()));
    }
    assert_eq!("1.50".parse::<Factor>().map(|factor| factor.to_string()), Ok("1.5".to_owned()));
    for (text, expect) in [
        ("", InvalidFactor::NotDecimal),
        ("50%", InvalidFactor::NotDecimal),
        ("$0.5", InvalidFactor::NotDecimal),
        ("0.0000001", InvalidFactor::TooFine),
        ("0.0000000001", InvalidFactor::TooFine),
        ("-0.5", InvalidFactor::OutOfRange),
        ("100.000001", InvalidFactor::OutOfRange),
        ("99999999999999", InvalidFactor::OutOfRange),
    ] {
        assert_eq!(text.parse::<Factor>(), Err(expect), "{text:?}");
    }
}

#[test]
fn minutes_of_the_day_are_read_in_one_form() {
    for (text, expect) in [("00:00", 0), ("01:00", 60), ("23:59", 1_439), ("24:00", 1_440)] {
        assert_eq!(Hours::parse_minute(text), Some(expect));
    }
    for text in ["", "1:00", "24:01", "12:60", "12", "+1:00", "01:00:00", " 1:00"] {
        assert_eq!(Hours::parse_minute(text), None, "{text:?}");
    }
}

#[test]
fn hours_begin_with_their_first_minute_and_end_before_their_last() {
    let peak = hours("01:00", "04:00", &["mon", "fri"], times("2"));
    for (day, hour, minute, expect) in [
        (0, 0, 59, false),
        (0, 1, 0, true),
        (0, 3, 59, true),
        (0, 4, 0, false),
        (1, 2, 0, false),
        (4, 2, 0, true),
        (6, 2, 0, false),
        (7, 1, 0, true),
    ] {
        assert_eq!(peak.contains(on(day, hour, minute)), expect, "{day} {hour}:{minute}");
    }
    assert!(peak.contains(on(0, 4, 0) - 1) && !peak.contains(on(0, 1, 0) - 1));
}

#[test]
fn hours_over_midnight_belong_to_the_day_they_began_on() {
    let night = hours("22:30", "06:00", &["fri"], times("0.5"));
    for (day, hour, minute, expect) in [
        (4, 5, 0, false),
        (4, 22, 29, false),
        (4, 22, 30, true),
        (5, 0, 0, true),
        (5, 5, 59, true),
        (5, 6, 0, false),
        (5, 23, 0, false),
    ] {
        assert_eq!(night.contains(on(day, hour, minute)), expect, "{day} {hour}:{minute}");
    }
    let sunday = hours("23:00", "01:00", &["sun"], times("0.5"));
    assert!(sunday.contains(on(7, 0, 59)), "into the next week");
    let whole_day = hours("08:00", "08:00", &["mon"], times("2"));
    assert!(whole_day.contains(on(0, 8, 0)) && whole_day.contains(on(1, 7, 59)));
    assert!(!whole_day.contains(on(0, 7, 59)) && !whole_day.contains(on(1, 8, 0)));

    let morning = hours("05:59", "07:00", &["sat"], times("2"));
    assert!(night.overlaps(&morning) && morning.overlaps(&night));
    assert!(!night.overlaps(&hours("06:00", "07:00", &["sat"], times("2"))));
    assert!(!night.overlaps(&hours("05:00", "06:00", &["fri"], times("2"))));
}

#[test]
fn a_call_is_billed_by_its_hour_and_by_how_it_was_served() {
    let half = Price::flat(usd("0.5"), usd("1")).rates;
    let price = Price {
        batch: Some(times("0.5")),
        flex: Some(Adjustment::Rates { rates: half, tiers: Vec::new() }),
        priority: Some(times("1.75")),
        request: Some(usd("0.01")),
        hours: vec![hours("01:00", "04:00", &["mon"], times("2"))],
        ..Price::flat(usd("4"), usd("8"))
    };
    let (peak, off) = (on(0, 1, 0), on(0, 0, 0));
    let cost = |service_tier, at| {
        let usage = Usage { input: Some(1_000_000), service_tier, ..Usage::default() };
        price.cost_at(&usage, at)
    };
    for (tier, expect_off, expect_peak) in [
        (ServiceTier::Standard, "4.01", "8.01"),
        (ServiceTier::Batch, "2.01", "4.01"),
        (ServiceTier::Flex, "0.51", "0.51"),
        (ServiceTier::Priority, "7.01", "14.01"),
    ] {
        let both = [expect_off, expect_peak].map(|text| Some(usd(text)));
        assert_eq!([cost(tier, off), cost(tier, peak)], both, "{tier:?}");
    }
}

#[test]
fn a_service_without_a_price_costs_as_usual_where_that_is_not_lower_and_else_is_unpriced() {
    let price = Price::flat(usd("4"), usd("8"));
    let cost =
        |service_tier| price.cost_at(&Usage { input: Some(1_000_000), service_tier, ..Usage::default() }, 0);
    assert_eq!(cost(ServiceTier::Batch), Some(usd("4")));
    assert_eq!(cost(ServiceTier::Flex), Some(usd("4")));
    assert_eq!(cost(ServiceTier::Priority), None);
}

#[test]
fn a_fraction_of_what_is_multiplied_is_rounded_once() {
    // 3 tokens at 2.5 nano-dollars, halved twice: 1.875, where rounding at each step would say 2 or 3.
    let price = Price {
        batch: Some(times("0.5")),
        hours: vec![hours("00:00", "24:00", &Weekdays::NAMES, times("0.5"))],
        ..Price::flat(usd("0.0025"), NanoUsd::ZERO)
    };
    let tokens = |n| {
        let usage = Usage { input: Some(n), service_tier: ServiceTier::Batch, ..Usage::default() };
        price.cost_at(&usage, 0)
    };
    assert_eq!(tokens(3), Some(NanoUsd(2)));
    assert_eq!(tokens(4), Some(NanoUsd(3)), "2.5 goes up");
    assert_eq!(tokens(1_000_000_000_000), Some(NanoUsd(625_000_000_000)));
    assert_eq!(tokens(u64::MAX), Some(NanoUsd::MAX));
}
