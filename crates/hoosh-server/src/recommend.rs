//! Cheaper models for the calls that there were: what the same tokens would have cost at others that can do as much.
//!
//! Which models there are the providers' own lists say, as far as the routes lead there; what they can, those lists and the
//! catalogue. A row of the usage log does not say whether a call had tools or pictures in it, so another model must be able to do
//! all of that which the one that was used can: it is never a recommendation that could not have answered.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use hoosh_budget::{LedgerFault, Order, UsageFilter, UsageLog, UsageRow};
use hoosh_core::catalog::Catalog;
use hoosh_core::dialect::Dialect;
use hoosh_core::limits::{RECOMMENDATION_ROWS_MAX, RECOMMENDATIONS_MAX, USAGE_PAGE_ROWS_MAX};
use hoosh_core::{LlmProvider, Modality, ModelInfo, NanoUsd, Price, Usage};
use hoosh_router::Router;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::task::yield_now;

use crate::api::decisions::dollars;

/// What is said beside every recommendation.
const ASSUMPTIONS: [&str; 6] = [
    "each model would have taken the same tokens, cached ones included; models count and write differently",
    "all at the prices of now, for the hour at which each call was made",
    "a cheaper model has a window for the largest prompt and answer, and all abilities known of the one that was used: tools, \
     pictures, documents, sound, reasoning, schemas",
    "what is not known of a model counts as something that it has not",
    "nothing is known of how good its answers are: try it before you change a route",
    "what hedges and broken streams took, and answers from the cache, are left out",
];

/// A model that is there to be asked.
struct Offer<'a> {
    info: ModelInfo,
    provider: &'a dyn LlmProvider,
    /// `None`: it is not known.
    price: Option<&'a Price>,
}

/// What one model was used for.
#[derive(Default)]
struct Traffic {
    calls: u64,
    usage: Usage,
    /// The largest prompt, the largest answer, and the largest of both together.
    prompt_max: u64,
    answer_max: u64,
    both_max: u64,
    /// By the prices of now.
    cost: NanoUsd,
    /// Calls whose cost at it is not known.
    unpriced: u64,
    /// What the same would cost at each offer, in their order; `None`: some of it has no known price there.
    offers: Vec<Option<NanoUsd>>,
}

/// A cheaper model.
#[derive(Debug, Serialize)]
struct Cheaper {
    provider: String,
    model: String,
    usd: String,
    saving_usd: String,
    saving_percent: f64,
    context_window: Option<u64>,
    #[serde(skip)]
    saving: NanoUsd,
}

/// Which models would have been cheaper for the calls of a filter, of those `models` that the gateway can reach, as JSON.
///
/// # Errors
///
/// The log cannot be read.
pub(crate) async fn recommend(
    log: &UsageLog,
    router: &Router,
    models: Vec<ModelInfo>,
    filter: &UsageFilter,
    may_use: impl Fn(&ModelInfo) -> bool,
) -> Result<Value, LedgerFault> {
    let now = u64::try_from(Timestamp::now().as_second()).unwrap_or_default();
    let offers: Vec<Offer<'_>> = models
        .into_iter()
        .filter(|info| !info.deprecated && may_use(info))
        .filter_map(|info| {
            let provider = &**router.provider(&info.provider)?;
            let priced = router.table().prices().price_at(provider.into(), &info.id, now);
            Some(Offer { price: priced.map(|priced| priced.price), provider, info })
        })
        .collect();
    let (traffic, is_cut) = traffic(log, router, &offers, filter, now).await?;
    let calls: u64 = traffic.values().map(|traffic| traffic.calls).sum();
    let mut told: Vec<(NanoUsd, Value)> = traffic
        .iter()
        .map(|((provider, model), traffic)| advice(provider, model, traffic, router, &offers))
        .collect();
    told.sort_by_key(|(saving, _)| Reverse(*saving));
    Ok(json!({
        "calls": calls,
        "cut": is_cut,
        "models": told.into_iter().map(|(_, told)| told).collect::<Vec<_>>(),
        "assumptions": ASSUMPTIONS,
    }))
}

type ByModel = BTreeMap<(String, String), Traffic>;

/// What each model was used for, and what that would cost at each offer. `true`: there were more calls than are looked at.
async fn traffic(
    log: &UsageLog,
    router: &Router,
    offers: &[Offer<'_>],
    filter: &UsageFilter,
    now: u64,
) -> Result<(ByModel, bool), LedgerFault> {
    let (mut traffic, mut seen, mut after) = (ByModel::new(), 0, None);
    loop {
        let rows = log.rows(filter, Order::NewestFirst, after.take(), USAGE_PAGE_ROWS_MAX).await?;
        seen += rows.len();
        for row in &rows {
            let (Some(provider), Some(model), Some(usage)) = (&row.provider, &row.model, &row.usage) else {
                continue;
            };
            if !is_inference(row) {
                continue;
            }
            let seller = router.provider(provider).map(|provider| (&**provider).into());
            let price = seller.and_then(|seller| router.table().prices().price_at(seller, model, now));
            let at = u64::try_from(row.at_ms / 1_000).unwrap_or_default();
            let own = price.and_then(|priced| priced.price.cost_at(usage, at));
            traffic.entry((provider.clone(), model.clone())).or_default().add(usage, own, offers, at);
        }
        // Others run on this thread too.
        yield_now().await;
        match rows.last() {
            Some(last) if rows.len() == USAGE_PAGE_ROWS_MAX => {
                if seen >= RECOMMENDATION_ROWS_MAX {
                    return Ok((traffic, true));
                }
                after = Some((last.at_ms, last.id.clone()));
            }
            _ => return Ok((traffic, false)),
        }
    }
}

/// Whether a model answered in words: vectors of another one would be of no use.
fn is_inference(row: &UsageRow) -> bool {
    Dialect::from_name(&row.dialect).is_some_and(|dialect| dialect.codec().is_some())
}

/// What is told of one model that was used, and the most that could be saved.
fn advice(
    provider: &str,
    model: &str,
    traffic: &Traffic,
    router: &Router,
    offers: &[Offer<'_>],
) -> (NanoUsd, Value) {
    let listed = offers.iter().find(|offer| offer.info.provider == provider && offer.info.id == model);
    let kind = router.provider(provider).map(|provider| provider.provider_type().as_str());
    let known = kind.and_then(|kind| Catalog::builtin().find(kind, model));
    let used = listed.map(|offer| &offer.info).or(known);
    let capable = |offer: &&(usize, &Offer<'_>)| {
        let (_, Offer { info, .. }) = offer;
        (info.provider != provider || info.id != model) && can(info, used, traffic)
    };
    let numbered: Vec<(usize, &Offer<'_>)> = offers.iter().enumerate().collect();
    let capable: Vec<&(usize, &Offer<'_>)> = numbered.iter().filter(capable).collect();
    let cost_at = |place: usize| traffic.offers.get(place).copied().flatten();
    let without_price = capable.iter().filter(|(place, _)| cost_at(*place).is_none()).count();
    let is_priced = traffic.unpriced == 0;
    let mut cheaper: Vec<Cheaper> = capable
        .iter()
        .filter_map(|(place, offer)| {
            let cost = cost_at(*place).filter(|cost| is_priced && *cost < traffic.cost)?;
            let saving = NanoUsd(traffic.cost.0 - cost.0);
            Some(Cheaper {
                provider: offer.provider.name().to_owned(),
                model: offer.info.id.clone(),
                usd: dollars(cost),
                saving_usd: dollars(saving),
                saving_percent: percent(saving, traffic.cost),
                context_window: offer.info.context_window,
                saving,
            })
        })
        .collect();
    cheaper.sort_by_key(|one| Reverse(one.saving));
    cheaper.truncate(RECOMMENDATIONS_MAX);
    let most = cheaper.first().map_or(NanoUsd::ZERO, |one| one.saving);
    let told = json!({
        "provider": provider,
        "model": model,
        "calls": traffic.calls,
        "prompt_tokens": traffic.usage.prompt_total(),
        "completion_tokens": traffic.usage.completion_total(),
        "largest_prompt": traffic.prompt_max,
        "largest_completion": traffic.answer_max,
        "usd": is_priced.then(|| dollars(traffic.cost)),
        "unpriced_calls": traffic.unpriced,
        "is_known": used.is_some(),
        "cheaper": cheaper,
        "capable_without_price": without_price,
    });
    (most, told)
}

/// Whether a model could have answered all of that, in as much as is known.
fn can(info: &ModelInfo, used: Option<&ModelInfo>, traffic: &Traffic) -> bool {
    let has_room = info.context_window.is_some_and(|window| window >= traffic.both_max)
        && info.input_max.is_none_or(|most| most >= traffic.prompt_max)
        && info.output_max.is_none_or(|most| most >= traffic.answer_max);
    let (heard, reasoned) = (traffic.usage.audio_in.unwrap_or(0), traffic.usage.reasoning.unwrap_or(0));
    let has_used = (heard == 0 || info.input.contains(Modality::Audio))
        && (reasoned == 0 || info.reasoning == Some(true))
        && !info.output.contains(Modality::Embedding);
    let has = |needed: Option<bool>, has: Option<bool>| needed != Some(true) || has == Some(true);
    let as_used = used.is_none_or(|used| {
        has(used.tools, info.tools)
            && has(used.structured_output, info.structured_output)
            && used.input.iter().all(|modality| info.input.contains(modality))
            && used.output.iter().all(|modality| info.output.contains(modality))
    });
    has_room && has_used && as_used
}

/// To a tenth.
fn percent(part: NanoUsd, whole: NanoUsd) -> f64 {
    let permille = i128::from(part.0) * 1_000 / i128::from(whole.0.max(1));
    i32::try_from(permille).map_or(0.0, f64::from) / 10.0
}

// === impl Traffic ===

impl Traffic {
    fn add(&mut self, usage: &Usage, own: Option<NanoUsd>, offers: &[Offer<'_>], at: u64) {
        let (prompt, answer) = (usage.prompt_total(), usage.completion_total());
        self.calls += 1;
        self.usage += *usage;
        self.prompt_max = self.prompt_max.max(prompt);
        self.answer_max = self.answer_max.max(answer);
        self.both_max = self.both_max.max(prompt.saturating_add(answer));
        match own {
            Some(cost) => self.cost = self.cost.saturating_add(cost),
            None => self.unpriced += 1,
        }
        self.offers.resize(offers.len(), Some(NanoUsd::ZERO));
        for (sum, offer) in self.offers.iter_mut().zip(offers) {
            let cost = offer.price.and_then(|price| price.cost_at(usage, at));
            *sum = sum.zip(cost).map(|(sum, cost)| sum.saturating_add(cost));
        }
    }
}

#[cfg(test)]
mod tests {
    use hoosh_core::Modalities;

    use super::*;

    fn info(window: Option<u64>) -> ModelInfo {
        let input = Modalities::from_iter([Modality::Text, Modality::Image]);
        let output = Modalities::from_iter([Modality::Text]);
        ModelInfo { context_window: window, tools: Some(true), input, output, ..ModelInfo::named("p", "m") }
    }

    #[test]
    fn who_cannot_do_as_much_is_not_recommended() {
        let traffic = Traffic { prompt_max: 900, answer_max: 200, both_max: 1_000, ..Traffic::default() };
        let used = info(None);
        let text = Modalities::from_iter([Modality::Text]);
        for (offer, expected) in [
            (info(Some(1_000)), true),
            (info(Some(999)), false),
            (info(None), false),
            (ModelInfo { tools: None, ..info(Some(1_000)) }, false),
            (ModelInfo { input: text, ..info(Some(1_000)) }, false),
            (ModelInfo { input: Modalities::default(), ..info(Some(1_000)) }, false),
            (ModelInfo { output_max: Some(199), ..info(Some(1_000)) }, false),
            (ModelInfo { input_max: Some(899), ..info(Some(1_000)) }, false),
            (ModelInfo { output: text.with(Modality::Embedding), ..info(Some(1_000)) }, false),
        ] {
            assert_eq!(can(&offer, Some(&used), &traffic), expected, "{offer:?}");
        }
        // Of one that nobody knows, only what the calls themselves tell counts.
        assert!(can(&ModelInfo { tools: None, input: text, ..info(Some(1_000)) }, None, &traffic));
        let reasoned =
            Traffic { usage: Usage { reasoning: Some(1), ..Usage::default() }, ..Traffic::default() };
        assert!(!can(&info(Some(1)), None, &reasoned));
        assert!(can(&ModelInfo { reasoning: Some(true), ..info(Some(1)) }, None, &reasoned));
    }

    #[test]
    fn a_share_is_told_to_a_tenth() {
        assert_eq!(percent(NanoUsd(1), NanoUsd(3)), 33.3);
        assert_eq!(percent(NanoUsd(3), NanoUsd(3)), 100.0);
        assert_eq!(percent(NanoUsd(0), NanoUsd(0)), 0.0);
    }
}
