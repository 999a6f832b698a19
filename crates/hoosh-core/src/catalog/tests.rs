use std::collections::HashSet;

use super::*;
use crate::usage::Usage;

const SOURCES: &str = r#"{"sources":{"a":{"name":"A","url":"https://a","date":"2026-07-02"}}}"#;

fn usd(text: &str) -> NanoUsd {
    text.parse().unwrap()
}

fn model(provider: &str, model: &str) -> &'static ModelInfo {
    Catalog::builtin().find(provider, model).unwrap_or_else(|| panic!("{provider}/{model} is missing"))
}

fn keys(catalog: &Catalog, provider: &str, model: &str, figure: Figure) -> Vec<String> {
    catalog.sources_of(provider, model, figure).map(|source| source.key.clone()).collect()
}

#[track_caller]
fn check_refused(line: &str, expect: Problem) {
    let (catalog, bad) = Catalog::parse(&format!("{SOURCES}\n{line}\n"));
    assert_eq!(bad, [BadLine { line: 2, problem: expect }]);
    assert_eq!(catalog.models().len(), 0);
}

// === the file ===

#[test]
fn every_line_of_the_file_is_read() {
    let (catalog, bad) = Catalog::parse(BUILTIN_TEXT);
    assert_eq!(bad, []);
    assert_eq!(catalog.models().len(), BUILTIN_TEXT.lines().count() - 1);
    assert_eq!(catalog.models().len(), 342, "every model of the listing is kept");
}

#[test]
fn every_figure_has_a_source_and_every_source_is_used() {
    let catalog = Catalog::builtin();
    let mut used: HashSet<usize> = HashSet::new();
    for entry in &catalog.entries {
        let info = &entry.info;
        let known = [
            info.context_window.or(info.input_max).or(info.output_max).is_some(),
            info.price.is_some() || !entry.dated.is_empty(),
            !info.input.is_empty() || !info.output.is_empty(),
            info.tools.or(info.reasoning).or(info.structured_output).or(info.temperature).is_some()
                || info.deprecated,
        ];
        for (known, sources) in known.into_iter().zip(&entry.sources) {
            assert_eq!(known, !sources.is_empty(), "{}/{}", info.provider, info.id);
            used.extend(sources);
        }
    }
    assert_eq!(used.len(), catalog.sources().len());
    for source in catalog.sources() {
        let digits = source.date.split('-').map(str::len).collect::<Vec<_>>();
        assert!(digits == [4, 2, 2] && source.url.starts_with("https://"), "{source:?}");
    }
}

#[test]
fn the_providers_are_hooshs_presets() {
    let mut providers: Vec<&str> = Catalog::builtin().models().map(|info| info.provider.as_str()).collect();
    providers.dedup();
    assert_eq!(
        providers,
        [
            "alibaba",
            "anthropic",
            "cerebras",
            "cohere",
            "deepseek",
            "fireworks",
            "google",
            "grok",
            "groq",
            "lmstudio",
            "mistral",
            "moonshot",
            "ollama_cloud",
            "openai",
            "perplexity",
            "together",
            "zai",
        ]
    );
}

#[test]
fn prices_and_limits_are_sane() {
    for info in Catalog::builtin().models() {
        let name = format!("{}/{}", info.provider, info.id);
        for limit in [info.context_window, info.input_max, info.output_max].into_iter().flatten() {
            assert!((256..=4_000_000).contains(&limit), "{name}: {limit}");
        }
        if let Some(window) = info.context_window {
            assert!(info.output_max.is_none_or(|output| output <= window), "{name}");
            assert!(info.input_max.is_none_or(|input| input <= window), "{name}");
        }

        let Some(price) = &info.price else { continue };
        let embeds = info.output.contains(Modality::Embedding);
        for rates in std::iter::once(&price.rates).chain(price.tiers.iter().map(|tier| &tier.rates)) {
            let all = [
                rates.input,
                rates.cache_read(),
                rates.cache_write_5m(),
                rates.cache_write_1h(),
                rates.reasoning(),
                rates.output,
                rates.output_reasoned(),
                rates.audio_in(),
                rates.audio_out(),
            ];
            assert!(all.iter().all(|rate| *rate <= usd("1000")), "{name}");
            assert!(
                rates.input >= usd("0.01") && rates.cache_read() > NanoUsd::ZERO,
                "{name}: zero is no price"
            );
            if embeds {
                assert_eq!(rates.output, NanoUsd::ZERO, "{name}");
            } else {
                assert!(rates.output >= rates.input && rates.reasoning() >= rates.input, "{name}");
            }
            assert!(rates.cache_read() <= rates.input, "{name}");
            assert!(
                rates.cache_write_5m() >= rates.input && rates.cache_write_1h() >= rates.cache_write_5m(),
                "{name}"
            );
        }
        let base = std::iter::once((0, &price.rates));
        let tiers: Vec<_> = base.chain(price.tiers.iter().map(|tier| (tier.above, &tier.rates))).collect();
        for pair in tiers.windows(2) {
            assert!(pair[0].0 < pair[1].0 && pair[0].1.input < pair[1].1.input, "{name}: longer is dearer");
        }
    }
}

#[test]
fn an_unpriced_model_says_why_unless_nobody_lists_a_price() {
    let catalog = Catalog::builtin();
    let said = catalog
        .entries
        .iter()
        .filter(|entry| entry.note.as_ref().is_some_and(|note| note.starts_with("unpriced")));
    assert_eq!(said.inspect(|entry| assert_eq!(entry.info.price, None)).count(), 13);
    assert_eq!(model("zai", "glm-4.7-flash").price, None, "a free tier is not a price of zero");
    assert!(catalog.note_of("alibaba", "qwen3-asr-flash").unwrap().contains("by the second"));
    assert_eq!(catalog.models_of("ollama_cloud").filter(|info| info.price.is_some()).count(), 0);
}

// === known models ===

#[test]
fn gpt_5_has_its_base_models_limits() {
    let gpt_5 = model("openai", "gpt-5");
    assert_eq!(
        (gpt_5.context_window, gpt_5.input_max, gpt_5.output_max),
        (Some(400_000), Some(272_000), Some(128_000))
    );
    assert_eq!((gpt_5.tools, gpt_5.temperature), (Some(true), Some(false)));
    assert_eq!(gpt_5.input, Modalities::TEXT.with(Modality::Image));
    let expect = Rates { cache_read: Some(usd("0.125")), ..Price::flat(usd("1.25"), usd("10")).rates };
    assert_eq!(gpt_5.price, Some(Price { rates: expect, ..Price::default() }));
    assert_eq!(keys(Catalog::builtin(), "openai", "gpt-5", Figure::Limit), ["md_base"]);
    assert_eq!(keys(Catalog::builtin(), "openai", "gpt-5", Figure::Price), ["md"]);
}

#[test]
fn claude_writes_its_cache_at_two_prices() {
    let price = model("anthropic", "claude-sonnet-4-5").price.clone().unwrap();
    assert_eq!((price.rates.cache_write_5m, price.rates.cache_write_1h), (Some(usd("3.75")), Some(usd("6"))));
    assert_eq!(
        keys(Catalog::builtin(), "anthropic", "claude-sonnet-4-5", Figure::Price),
        ["md", "anthropic"]
    );
    let usage = Usage {
        cache_write_5m: Some(1_000),
        cache_write_1h: Some(1_000),
        output: Some(10),
        ..Usage::default()
    };
    assert_eq!(price.cost(&usage), usd("0.0099")); // 0.00375 + 0.006 + 0.00015
}

#[test]
fn long_prompts_move_gemini_and_qwen_to_their_tiers() {
    let input =
        |provider, name, prompt| model(provider, name).price.as_ref().unwrap().rates_for(prompt).input;
    assert_eq!(input("google", "gemini-2.5-pro", 200_000), usd("1.25"));
    assert_eq!(input("google", "gemini-2.5-pro", 200_001), usd("2.5"));
    assert_eq!(input("alibaba", "qwen3-coder-plus", 32_000), usd("1"));
    assert_eq!(input("alibaba", "qwen3-coder-plus", 300_000), usd("6"));
}

#[test]
fn the_corrected_figures_stand() {
    let rates = |provider, name| model(provider, name).price.as_ref().unwrap().rates;
    assert_eq!(rates("alibaba", "qwen-plus").output_reasoned(), usd("4"));
    assert_eq!(rates("alibaba", "qwen3.7-plus").output, usd("1.6"));
    assert_eq!(rates("anthropic", "claude-3-sonnet-20240229").cache_write_5m(), usd("3.75"));
    assert_eq!(rates("cerebras", "zai-glm-4.7").cache_read(), usd("2.25"));
    assert_eq!(rates("together", "Qwen/Qwen3.7-Max").cache_read(), usd("0.13"));
    assert_eq!(model("perplexity", "sonar").price.as_ref().unwrap().request, Some(usd("0.005")));

    let embedding = model("openai", "text-embedding-3-large");
    assert!(embedding.output.contains(Modality::Embedding) && !embedding.output.allows(Modality::Text));
    assert_eq!(embedding.output_max, None);
    let speech = model("google", "gemini-2.5-flash-preview-tts");
    assert_eq!(
        (speech.context_window, speech.input_max, speech.output_max),
        (None, Some(8_192), Some(16_384))
    );
    assert_eq!(model("openai", "gpt-5-chat-latest").context_window, Some(128_000));
    assert!(
        model("anthropic", "claude-3-opus-20240229").deprecated
            && !model("anthropic", "claude-opus-4-8").deprecated
    );
}

/// Seconds since 1970.
fn at(time: &str) -> u64 {
    time.parse::<Timestamp>().unwrap().as_second() as u64
}

#[track_caller]
fn check_deepseek(name: &str, time: &str, expect: Option<&str>) {
    let usage = Usage { output: Some(1_000_000), ..Usage::default() };
    let price = Catalog::builtin().price_at("deepseek", name, at(time));
    let cost = price.and_then(|price| price.cost_at(&usage, at(time)));
    assert_eq!(cost, expect.map(usd), "{name} at {time}");
}

#[test]
fn a_price_holds_from_the_second_it_was_announced_for() {
    let (flash, pro) = ("deepseek-v4-flash", "deepseek-v4-pro");
    check_deepseek(flash, "2026-08-16T15:59:59Z", Some("0.28"));
    check_deepseek(flash, "2026-08-16T16:00:00Z", Some("0.66"));
    check_deepseek(flash, "2026-09-10T03:59:59Z", Some("1.32"));
    check_deepseek(flash, "2026-09-10T04:00:00Z", Some("0.6"));
    check_deepseek(pro, "2026-08-16T15:59:59Z", Some("0.87"));
    check_deepseek(pro, "2026-11-24T00:59:59Z", Some("1.98"));
    check_deepseek(pro, "2026-11-24T01:00:00Z", Some("3.96"));
    check_deepseek("deepseek-chat", "2026-07-24T15:58:59Z", Some("0.28"));
    check_deepseek("deepseek-chat", "2026-07-24T15:59:00Z", None);
}

#[test]
fn weekends_have_no_peak_since_the_vendor_said_so() {
    let pro = "deepseek-v4-pro";
    check_deepseek(pro, "2026-08-22T09:59:59Z", Some("3.96")); // the Saturday before
    check_deepseek(pro, "2026-08-22T10:00:00Z", Some("1.98"));
    check_deepseek(pro, "2026-08-23T08:00:00Z", Some("1.98"));
    check_deepseek(pro, "2026-08-24T08:00:00Z", Some("3.96"));
}

#[test]
fn dates_that_are_none_or_overlap_are_refused() {
    let price = |dates: &str| format!(r#"{{"input":"1","output":"2",{dates}"from":["a"]}}"#);
    let line = |earlier: &str, latest: &str| {
        let (earlier, latest) = (price(earlier), price(latest));
        format!(r#"{{"provider":"p","model":"m","price":{latest},"earlier":[{earlier}]}}"#)
    };
    check_refused(&line("", r#""since":"2026-08-16","#), Problem::Date("2026-08-16".into()));
    let (day, next) = ("2026-08-16T00:00:00Z", "2026-08-17T00:00:00Z");
    let ends = |time: &str| format!(r#""until":"{time}","#);
    let begins = |time: &str| format!(r#""since":"{time}","#);
    check_refused(&line(&ends(next), &begins(day)), Problem::DateOrder(at(day)));
    check_refused(&line("", &(begins(next) + &ends(day))), Problem::Date(day.into()));
    let hours = |times: &str, from: &str, days: &str| {
        let hours =
            format!(r#""hours":[{{"from":"{from}","until":"10:00","days":["{days}"],"times":"{times}"}}],"#);
        line(&ends(day), &(begins(day) + &hours))
    };
    check_refused(&hours("x", "01:00", "mon"), Problem::Factor("x".into(), InvalidFactor::NotDecimal));
    check_refused(&hours("2", "1:00", "mon"), Problem::Hours("1:00".into()));
    check_refused(&hours("2", "01:00", "monday"), Problem::Hours("monday".into()));
    let (_, bad) = Catalog::parse(&format!("{SOURCES}\n{}", hours("2", "01:00", "mon")));
    assert_eq!(bad, []);
}

// === finding ===

#[track_caller]
fn check_find(provider: &str, asked: &str, expect: Option<&str>) {
    assert_eq!(Catalog::builtin().find(provider, asked).map(|info| info.id.as_str()), expect, "{asked}");
}

#[test]
fn the_usual_spellings_of_a_model_find_it() {
    check_find("openai", "gpt-4o", Some("gpt-4o"));
    check_find("openai", "gpt-4o-2024-05-13", Some("gpt-4o-2024-05-13")); // has its own, dearer line
    check_find("openai", "gpt-4o-mini-2024-07-18", Some("gpt-4o-mini"));
    check_find("anthropic", "claude-sonnet-4-5-20250929", Some("claude-sonnet-4-5-20250929"));
    check_find("anthropic", "claude-opus-4-8-20260528", Some("claude-opus-4-8"));
    check_find("google", "models/gemini-2.5-pro", Some("gemini-2.5-pro"));
    check_find("ollama_cloud", "kimi-k2.5:latest", Some("kimi-k2.5"));
    check_find("google", "models/gemini-2.5-pro-2026-01-01", Some("gemini-2.5-pro"));
}

#[test]
fn other_names_find_nothing() {
    check_find("nobody", "gpt-4o", None);
    check_find("groq", "gpt-4o", None);
    for asked in [
        "",
        "gpt-4o-",
        "GPT-4o",
        "gpt-4o-19991231",
        "gpt-4o-2024-5-13",
        "-20241022",
        "-2024-10-22",
        "é-20241022",
    ] {
        check_find("openai", asked, None);
    }
}

#[test]
fn a_model_without_a_provider_is_the_priced_one() {
    let any = |asked| Catalog::builtin().find_any(asked).map(|info| info.provider.as_str());
    assert_eq!(any("glm-4.6"), Some("zai")); // ollama_cloud comes first, without a price
    assert_eq!(any("models/gemini-3-flash-preview"), Some("google"));
    assert_eq!(any("openai/gpt-oss-20b"), Some("groq"));
    assert_eq!(any("no-such-model"), None);
}

#[test]
fn a_providers_models_are_all_of_them_and_sorted() {
    let catalog = Catalog::builtin();
    let ids: Vec<&str> = catalog.models_of("deepseek").map(|info| info.id.as_str()).collect();
    assert_eq!(ids, ["deepseek-chat", "deepseek-reasoner", "deepseek-v4-flash", "deepseek-v4-pro"]);
    assert_eq!(catalog.models_of("openai").count(), 51);
    assert_eq!(catalog.models_of("nobody").count(), 0);
}

// === bad lines ===

#[test]
fn a_bad_line_is_reported_and_the_others_stay() {
    let good = r#"{"provider":"p","model":"m"}"#;
    let (catalog, bad) = Catalog::parse(&format!("{SOURCES}\n{good}\n\nnonsense\n{good}\n"));
    assert_eq!(catalog.find("p", "m"), Some(&ModelInfo::named("p", "m")));
    assert_eq!(bad.iter().map(|bad| bad.line).collect::<Vec<_>>(), [4, 5]);
    assert_eq!(bad[1].to_string(), "line 5: `p/m` is there already");
}

#[test]
fn what_a_line_gets_wrong_is_named() {
    let line = |rest: &str| format!(r#"{{"provider":"p","model":"m",{rest}}}"#);
    check_refused(r#"{"provider":"p","model":""}"#, Problem::Nameless);
    check_refused(&line(r#""limit":{"context":1,"from":["b"]}"#), Problem::UnknownSource("b".into()));
    check_refused(
        &line(r#""modalities":{"input":["smell"],"output":[],"from":["a"]}"#),
        Problem::Modality(UnknownModality("smell".into())),
    );
    check_refused(
        &line(r#""price":{"input":"1e3","output":"2","from":["a"]}"#),
        Problem::Price("1e3".into(), InvalidAmount::NotDecimal),
    );
    check_refused(
        &line(r#""price":{"input":"-1","output":"2","from":["a"]}"#),
        Problem::NegativePrice("-1".into()),
    );
    check_refused(
        &line(r#""price":{"input":"1","output":"2","imput":"3","from":["a"]}"#),
        Problem::Form("unknown price `imput`".into()),
    );
    check_refused(
        &line(
            r#""price":{"input":"1","output":"2","tiers":[{"above":2,"input":"2","output":"3"},{"above":2,"input":"2","output":"3"}],"from":["a"]}"#,
        ),
        Problem::TierOrder(2),
    );
}

#[test]
fn a_number_where_text_belongs_is_refused() {
    let line = r#"{"provider":"p","model":"m","price":{"input":1.5,"output":"2","from":["a"]}}"#;
    let (catalog, bad) = Catalog::parse(&format!("{SOURCES}\n{line}\n"));
    assert!(
        catalog.find("p", "m").is_none()
            && matches!(bad[..], [BadLine { line: 2, problem: Problem::Form(_) }])
    );
}
