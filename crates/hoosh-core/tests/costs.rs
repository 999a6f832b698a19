//! What calls cost by the built-in prices, held against figures that were computed without them.
//!
//! `costs/expected.tsv` is what `costs/expected.py` makes of a listing of models.dev (commit f3fc6922 of 2026-07-02, MIT) in
//! exact fractions: 200 models, three calls each. Where the listing itself lies beside the repository, all its models are held
//! against it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on says so by its panic")]

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use hoosh_core::prices::Seller;
use hoosh_core::{NanoUsd, PriceTable, Usage};
use serde_json::value::RawValue;

const EXPECTED: &str = include_str!("costs/expected.tsv");

/// Models of which the catalogue knows better, each with the reason.
const NEWER: &str = include_str!("costs/newer.tsv");

/// Noon of the listing's day, in seconds since 1970.
const LISTED: u64 = 1_782_993_600;

/// The calls of `expected.py`: plain, with a cache, and of everything at once, above most tiers.
const CALLS: [Usage; 3] = [
    Usage { input: Some(1_234), output: Some(567), ..NOTHING },
    Usage { input: Some(321), cache_read: Some(7_777), output: Some(89), ..NOTHING },
    Usage {
        input: Some(150_001),
        cache_read: Some(150_003),
        cache_write_5m: Some(1_009),
        output: Some(1_013),
        reasoning: Some(2_027),
        audio_in: Some(331),
        audio_out: Some(77),
        ..NOTHING
    },
];

const NOTHING: Usage = Usage {
    input: None,
    cache_read: None,
    cache_write_5m: None,
    cache_write_1h: None,
    output: None,
    reasoning: None,
    audio_in: None,
    audio_out: None,
    service_tier: hoosh_core::ServiceTier::Standard,
    provenance: hoosh_core::Provenance::Reported,
};

/// What the calls cost there, by our table.
fn costs(provider: &str, model: &str) -> [Option<NanoUsd>; 3] {
    let seller = Seller { name: provider, kind: provider, is_local: false };
    CALLS.map(|usage| PriceTable::default().cost(seller, model, &usage, LISTED))
}

#[test]
fn two_hundred_models_cost_to_the_nano_dollar_what_was_computed_elsewhere() {
    let mut models = 0;
    for line in EXPECTED.lines().filter(|line| !line.starts_with('#')) {
        let [provider, model, plain, cached, mixed] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("{line:?}");
        };
        let expect = [plain, cached, mixed].map(|nanos| Some(NanoUsd(nanos.parse().unwrap())));
        assert_eq!(costs(provider, model), expect, "{provider}/{model}");
        models += 1;
    }
    assert_eq!(models, 200);
}

// === the listing itself ===

/// One model of the listing.
#[derive(serde::Deserialize)]
struct Row<'a> {
    provider: String,
    model: String,
    #[serde(borrow, default)]
    cost: Option<HashMap<String, &'a RawValue>>,
}

#[derive(serde::Deserialize)]
struct Size {
    size: u64,
}

/// The listing, if this repository lies where it is. There is no copy of it here.
fn listing() -> Option<String> {
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let mut places = above.map(|folder| folder.join("shared/data/models.jsonl"));
    places.find(|path: &PathBuf| path.is_file()).map(|path| std::fs::read_to_string(path).unwrap())
}

/// Nano-dollars per million tokens, from the digits as they are written.
fn nanos(digits: &str) -> u128 {
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    format!("{whole}{fraction:0<9}").parse().unwrap_or_else(|_| panic!("{digits}"))
}

/// What a call costs by the listing, in nano-dollars.
fn listed_cost(cost: &HashMap<String, &RawValue>, usage: &Usage) -> i64 {
    let prompt = usage.prompt_total();
    let tiers = cost.get("tiers").map(|raw| tiers(raw.get())).unwrap_or_default();
    let tier = tiers.range(..prompt).next_back().map(|(_, prices)| prices);
    let price = |kinds: &[&str]| {
        let own = kinds.iter().find_map(|kind| match tier {
            Some(tier) => tier.get(*kind).map(|digits| nanos(digits)),
            None => cost.get(*kind).map(|raw| nanos(raw.get())),
        });
        own.unwrap_or_default()
    };
    let has = |kind: &str| match tier {
        Some(tier) => tier.contains_key(kind),
        None => cost.contains_key(kind),
    };
    let write =
        if has("cache_write") { price(&["cache_write"]) } else { (price(&["input"]) * 5).div_ceil(4) };
    let sum: u128 = [
        (usage.input, price(&["input"])),
        (usage.cache_read, price(&["cache_read", "cached_input", "input"])),
        (usage.cache_write_5m, write),
        (usage.output, price(&["output"])),
        (usage.reasoning, price(&["reasoning", "output"])),
        (usage.audio_in, price(&["input_audio", "input"])),
        (usage.audio_out, price(&["output_audio", "output"])),
    ]
    .into_iter()
    .map(|(tokens, price)| u128::from(tokens.unwrap_or(0)) * price)
    .sum();
    ((sum + 500_000) / 1_000_000).try_into().unwrap()
}

/// By the size of prompt that is exceeded.
fn tiers(json: &str) -> BTreeMap<u64, HashMap<String, String>> {
    let parts: Vec<HashMap<String, &RawValue>> = serde_json::from_str(json).unwrap();
    let tier = |part: HashMap<String, &RawValue>| {
        let size: Size = serde_json::from_str(part["tier"].get()).unwrap();
        (size.size, part.into_iter().map(|(kind, raw)| (kind, raw.get().to_owned())).collect())
    };
    parts.into_iter().map(tier).collect()
}

#[test]
fn the_whole_listing_agrees_but_for_what_is_known_better() {
    let Some(listing) = listing() else { return };
    let newer: HashMap<&str, &str> = NEWER.lines().map(|line| line.split_once('\t').unwrap()).collect();
    let (mut agree, mut differ) = (0, 0);
    for line in listing.lines() {
        let row: Row<'_> = serde_json::from_str(line).unwrap();
        let Some(cost) = row.cost else { continue };
        let provider = match row.provider.as_str() {
            "fireworks-ai" => "fireworks",
            "moonshotai" => "moonshot",
            "togetherai" => "together",
            "xai" => "grok",
            provider => provider,
        };
        let name = format!("{provider}/{}", row.model);
        let listed = CALLS.map(|usage| Some(NanoUsd(listed_cost(&cost, &usage))));
        let ours = costs(provider, &row.model);
        match newer.get(name.as_str()) {
            None => {
                assert_eq!(ours, listed, "{name}");
                agree += 1;
            }
            Some(reason) => {
                assert_ne!(ours, listed, "{name}: {reason}, yet it costs the same");
                differ += 1;
            }
        }
    }
    assert_eq!(differ, newer.len(), "a model in `newer.tsv` is not in the listing");
    assert!(agree >= 200, "{agree}");
}
