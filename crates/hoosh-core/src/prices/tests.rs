use super::*;
use crate::money::{Factor, Hours, Weekdays};

const GROQ: Seller<'_> = Seller { name: "groq", kind: "groq", is_local: false };
const LOCAL: Seller<'_> = Seller { name: "box", kind: "ollama", is_local: true };

fn usd(text: &str) -> NanoUsd {
    text.parse().unwrap()
}

/// A price that is told by what a million prompt tokens cost.
fn entry(provider: &str, model: &str, input: &str) -> PriceEntry {
    PriceEntry::new(provider, model, Price::flat(usd(input), NanoUsd::ZERO))
}

fn held(from: u64, until: u64, entry: PriceEntry) -> PriceEntry {
    PriceEntry { from: (from > 0).then_some(from), until: (until < u64::MAX).then_some(until), ..entry }
}

fn input_at(table: &PriceTable, seller: Seller<'_>, model: &str, at: u64) -> Option<String> {
    let usage = Usage { input: Some(1_000_000), ..Usage::default() };
    let cost = table.cost(seller, model, &usage, at)?.to_string();
    Some(cost.trim_start_matches('$').trim_end_matches('0').trim_end_matches('.').to_owned())
}

#[track_caller]
fn check(table: &PriceTable, seller: Seller<'_>, model: &str, expect: Option<&str>) {
    assert_eq!(input_at(table, seller, model, 1).as_deref(), expect, "{model} at {seller:?}");
}

#[track_caller]
fn check_refused(entries: Vec<PriceEntry>, expect: &[(usize, &str, &str)]) {
    let faults = PriceTable::new(entries).unwrap_err();
    let told: Vec<_> =
        faults.iter().map(|fault| (fault.entry, fault.key.clone(), fault.problem.to_string())).collect();
    let told: Vec<_> = told.iter().map(|(entry, key, says)| (*entry, key.as_str(), says.as_str())).collect();
    assert_eq!(told, expect);
}

#[test]
fn without_a_users_prices_the_catalogues_hold_and_what_is_local_costs_nothing() {
    let table = PriceTable::default();
    let openai = Seller { name: "mine", kind: "openai", is_local: false };
    check(&table, openai, "gpt-4o", Some("2.5"));
    check(&table, openai, "gpt-4o-2024-08-06", Some("2.5"));
    check(&table, openai, "gpt-of-tomorrow", None);
    check(&table, LOCAL, "llama3", Some("0"));
    let source = |seller, model| table.price_at(seller, model, 1).map(|priced| priced.source.to_string());
    assert_eq!(source(openai, "gpt-4o").as_deref(), Some("catalogue"));
    assert_eq!(source(LOCAL, "llama3").as_deref(), Some("local"));
    assert_eq!(source(GROQ, "nothing"), None);
}

#[test]
fn a_users_price_goes_before_the_catalogues_and_says_where_it_is_written() {
    let place = PricePlace { file: "prices.toml".into(), line: 12 };
    let table = PriceTable::new(vec![PriceEntry { place, ..entry("openai", "gpt-4o", "1") }]).unwrap();
    let openai = Seller { name: "mine", kind: "openai", is_local: false };
    check(&table, openai, "gpt-4o", Some("1"));
    check(&table, openai, "gpt-4o-2024-08-06", Some("1"));
    check(&table, openai, "gpt-4o-mini", Some("0.15"));
    check(&table, GROQ, "gpt-4o", None);
    let priced = table.price_at(openai, "gpt-4o", 1).unwrap();
    assert_eq!(priced.source.to_string(), "prices.toml:12");
}

#[test]
fn zero_is_a_price_where_somebody_wrote_it() {
    let table = PriceTable::new(vec![entry("groq", "*", "0")]).unwrap();
    check(&table, GROQ, "anything", Some("0"));
}

#[test]
fn a_providers_name_goes_before_its_type_and_that_before_any() {
    let table = PriceTable::new(vec![
        entry("*", "m", "3"),
        entry("openai", "m", "2"),
        entry("east", "m*", "1"),
        entry("ollama", "m", "4"),
    ])
    .unwrap();
    let of = |name, kind| Seller { name, kind, is_local: false };
    check(&table, of("east", "openai"), "m", Some("1"));
    check(&table, of("west", "openai"), "m", Some("2"));
    check(&table, of("west", "groq"), "m", Some("3"));
    check(&table, LOCAL, "m", Some("4"));
}

#[test]
fn what_is_local_is_only_billed_by_its_own_name_or_type() {
    let table = PriceTable::new(vec![entry("*", "*", "3"), entry("box", "big", "1")]).unwrap();
    check(&table, LOCAL, "small", Some("0"));
    check(&table, LOCAL, "big", Some("1"));
    check(&table, LOCAL, "big:latest", Some("1"));
    check(&table, GROQ, "small", Some("3"));
}

#[test]
fn the_most_specific_pattern_counts_whatever_the_order() {
    let mut all = vec![
        entry("groq", "*", "1"),
        entry("groq", "*-mini", "2"),
        entry("groq", "g?t-*-mini", "3"),
        entry("groq", "gpt-*", "4"),
        entry("groq", "gpt-4o*", "5"),
        entry("groq", "gpt-4o", "6"),
    ];
    for _ in 0..all.len() {
        all.rotate_left(1);
        let table = PriceTable::new(all.clone()).unwrap();
        for (model, expect) in [
            ("gpt-4o", "6"),
            ("gpt-4o-2024-08-06", "6"),
            ("gpt-4o-mini", "5"),
            ("gpt-5-mini", "4"),
            ("got-5-mini", "3"),
            ("phi-mini", "2"),
            ("llama", "1"),
        ] {
            check(&table, GROQ, model, Some(expect));
        }
    }
    let equals = vec![entry("groq", "*b?", "1"), entry("groq", "a*?", "2")];
    check(&PriceTable::new(equals).unwrap(), GROQ, "abc", Some("1"));
}

#[test]
fn a_price_holds_from_its_first_second_until_the_one_before_its_end() {
    let table = PriceTable::new(vec![
        held(200, 300, entry("groq", "m", "2")),
        held(0, 100, entry("groq", "m", "1")),
        held(300, u64::MAX, entry("groq", "m", "3")),
        entry("groq", "*", "9"),
    ])
    .unwrap();
    for (at, expect) in
        [(0, "1"), (99, "1"), (100, "9"), (199, "9"), (200, "2"), (299, "2"), (300, "3"), (1 << 40, "3")]
    {
        assert_eq!(input_at(&table, GROQ, "m", at).as_deref(), Some(expect), "at {at}");
    }
}

#[test]
fn where_no_price_of_a_users_holds_the_catalogues_does() {
    let table = PriceTable::new(vec![held(200, 300, entry("openai", "gpt-4o", "1"))]).unwrap();
    let openai = Seller { name: "openai", kind: "openai", is_local: false };
    for (at, expect) in [(199, "2.5"), (200, "1"), (300, "2.5")] {
        assert_eq!(input_at(&table, openai, "gpt-4o", at).as_deref(), Some(expect), "at {at}");
    }
}

#[test]
fn two_prices_at_the_same_time_are_refused_and_the_later_one_is_told() {
    let at = |line, entry| PriceEntry { place: PricePlace { file: "p.toml".into(), line }, ..entry };
    let overlaps = |line: usize| {
        format!(
            "the price for the same provider and model at p.toml:{line} holds at the same time; end one of them by `until`"
        )
    };
    check_refused(
        vec![
            at(1, held(200, 300, entry("a", "m", "1"))),
            at(5, entry("b", "m", "1")),
            at(9, held(100, 201, entry("a", "m", "1"))),
            at(13, entry("b", "m", "1")),
        ],
        &[(2, "from", &overlaps(1)), (3, "from", &overlaps(5))],
    );
    let apart = [held(0, 200, entry("a", "m", "1")), held(200, 300, entry("a", "m", "1"))];
    assert!(PriceTable::new(apart.into()).is_ok());
    assert!(PriceTable::new(vec![entry("a", "m*", "1"), entry("a", "m", "1")]).is_ok());
}

#[test]
fn everything_that_is_wrong_is_told() {
    let rates = Price::flat(usd("1"), usd("2")).rates;
    let tier = |above| Tier { above, rates };
    let hours = |from, until, days| Hours { from, until, days, prices: Adjustment::Times(Factor::ONE) };
    let price = Price {
        tiers: vec![tier(5), tier(5)],
        batch: Some(Adjustment::Rates { rates, tiers: vec![tier(2), tier(1)] }),
        hours: vec![
            hours(60, 120, Weekdays::ALL),
            hours(119, 180, Weekdays::ALL),
            hours(200, 210, Weekdays::parse([]).unwrap()),
            hours(1_440, 210, Weekdays::ALL),
            hours(200, 1_441, Weekdays::ALL),
        ],
        ..Price::default()
    };
    check_refused(
        vec![
            entry("a", "m", "1"),
            PriceEntry { price, ..entry("a", "n", "1") },
            held(9, 9, entry("", "[m]", "1")),
        ],
        &[
            (1, "tiers[1].above", "it is not above the tier before it"),
            (1, "batch.tiers[1].above", "it is not above the tier before it"),
            (1, "hours[1]", "some of it is among the hours before it"),
            (1, "hours[2].days", "there is no day in it"),
            (1, "hours[3].from", "it is no time of the day"),
            (1, "hours[4].until", "it is no time of the day"),
            (2, "provider", "it is empty; `*` is any provider that is not local"),
            (2, "model", "only `*` (any text) and `?` (one character) are special in a pattern"),
            (2, "until", "it is not after `from`, so that the price never holds"),
        ],
    );
}

#[test]
fn the_number_of_prices_is_bounded() {
    let all = |count| (0..count).map(|at| entry("a", &format!("m{at}"), "1")).collect::<Vec<_>>();
    assert!(PriceTable::new(all(limits::PRICES_MAX)).is_ok());
    check_refused(
        all(limits::PRICES_MAX + 1),
        &[(limits::PRICES_MAX, "", "there are more than 10000 prices")],
    );
}
