//! The model catalogue: what hoosh knows of a model before it has asked anybody.
//!
//! Decides how `catalog.jsonl` is read and how a model is found in it. A provider's own listing and the user's
//! configuration stand above it; joining them is their reader's work ([`ModelInfo::or`]).
//!
//! # The file
//!
//! One JSON object per line. The first names the sources, each with the day it speaks of; every other is one model,
//! in groups (limit, price, modalities, abilities) that each name the sources they are `from`. Prices are decimal
//! text, in dollars per million tokens, so that no figure passes through a float. A price that holds for some time only
//! says `since` when and `until` when, and those before it are `earlier` ones. `catalog.py` beside `Cargo.toml` writes it
//! from a models.dev listing and holds every correction as a row of a table.
//!
//! # What was found odd in the listing, and what was decided
//!
//! - **Zero is no price.** Free tiers (`labs-devstral-small-2512`, `north-mini-code-1-0`, `glm-4.5-flash`,
//!   `glm-4.7-flash`), local models (LM Studio) and cache prices of zero (Z.AI, Cerebras, `gpt-3.5-turbo`) are left
//!   out: such a model is unpriced, such a cache price falls back to one that is not lower. The only zeros kept are
//!   the output prices of embedding models, which put out none.
//! - **Prices that miss the main part of the bill** are left out: `qwen3-asr-flash` (billed by the second),
//!   `qwen2-5-omni-7b` (speech at no known price), `gpt-image-2` (image input costs more than the text input listed),
//!   `sonar-deep-research` (searches), and Google's moving aliases `gemini-flash-latest` and
//!   `gemini-flash-lite-latest` (the price was that of last year's target). Perplexity's other models have their
//!   request fee added.
//! - **Alibaba** bills by prompt size, and at 20 % an automatic cache hit, 10 % a hit on a declared cache; usage does
//!   not tell which, so the dearer is counted. The listing lacked nearly all of that, had `qwen3.7-plus` as a copy of
//!   `qwen3.6-plus`, and `qwen3.6-flash` at a discount; all thirteen are taken from a later commit. In a thinking call
//!   the answer costs what the thoughts cost, which is why `output_reasoned` exists (the listing agrees with itself
//!   there: `qwen3-next-80b-a3b-thinking` has the one price for both).
//! - **Anthropic**'s one-hour cache write was missing and is twice the input price; `claude-3-sonnet-20240229` had a
//!   cache write below its input price, dropped.
//! - **Limits**: zeros are unknown. The "output limit" of embedding models was the vector's length. Where output was
//!   above context (speech models), the figure is the input's limit and stands as `input`. Entries that inherit from
//!   a base model came without limits and abilities; those were read from the base. `gpt-5-chat-latest` repeated
//!   `gpt-5`'s limits and reasoning, corrected.
//! - **Modalities**: an embedding model answers in `embedding`, not text; nobody answers in PDF (xAI's image models).
//! - **DeepSeek** has raised its prices since, and asks twice as much in its peak hours; all of it is dated. The listing's
//!   figures (cached input at 1/50 to 1/120 of its input price) were the vendor's until 2026-08-16. That Chinese holidays
//!   are no peak hours is not known here, so a call on one is overstated. `deepseek-chat` and `deepseek-reasoner` were
//!   names of V4 Flash until 2026-07-24; of what they may cost since, the vendor's page says nothing.
//! - **Checked and kept**: output prices below input ones do not occur; Fireworks' differing cache discounts are the
//!   vendor's.
//! - **Known gaps**: no prices of service tiers (a batch and `flex` count as usual, which is not lower; `priority` is
//!   unpriced); image output of Gemini's image models is listed, so
//!   their text output is overstated; audio input counts as text where a listing has no audio price
//!   (`gemini-2.0-flash`, `qwen3.5` and `qwen3.6` open weights); cached audio counts as cached text.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::OnceLock;

use jiff::Timestamp;
use serde::Deserialize;

use crate::model::{Modalities, Modality, ModelInfo, UnknownModality};
use crate::money::{Adjustment, Hours, InvalidAmount, InvalidFactor, NanoUsd, Price, Rates, Tier, Weekdays};

/// Models by provider and name, each figure with its source.
///
/// Immutable once read, and found by hash: a lookup costs the same for ten models and for ten thousand.
#[derive(Debug, Default)]
pub struct Catalog {
    sources: Vec<Source>,
    /// Sorted by provider, then id, so that a provider's models are one slice.
    entries: Vec<Entry>,
    shelves: HashMap<String, Shelf>,
    by_model: HashMap<String, usize>,
}

/// Where a figure comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its short name in the file.
    pub key: String,
    /// What it is, in words, with the version or the sentence that was taken.
    pub name: String,
    /// Its page.
    pub url: String,
    /// The day the figures held, as `YYYY-MM-DD`: the source's own date, or the day its page was read.
    pub date: String,
    /// Its licence, where it is more than published facts.
    pub licence: Option<String>,
}

/// A group of figures that have their sources in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Figure {
    /// Context window, largest input, largest output.
    Limit,
    /// All prices.
    Price,
    /// Kinds of input and output.
    Modalities,
    /// Tools, reasoning, structured output, temperature; whether it is deprecated.
    Abilities,
}

/// A line of a catalogue file that was left out, and why.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct BadLine {
    /// Counted from one.
    pub line: usize,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What can be wrong with a line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Not JSON, or not of the form described at the head of this module; the reader's words.
    #[error("{0}")]
    Form(String),
    /// Provider or model is the empty string.
    #[error("no provider or no model")]
    Nameless,
    /// The same provider and model stand on an earlier line, which is kept.
    #[error("`{0}` is there already")]
    Duplicate(String),
    /// A group's source is not in the first line.
    #[error("no source is called `{0}`")]
    UnknownSource(String),
    /// A price is not an amount.
    #[error("price `{0}`: {1}")]
    Price(String, InvalidAmount),
    /// A price is below zero.
    #[error("price `{0}` is negative")]
    NegativePrice(String),
    /// The tiers do not ascend.
    #[error("tier above {0} does not ascend")]
    TierOrder(u64),
    /// What multiplies a price is no such number.
    #[error("factor `{0}`: {1}")]
    Factor(String, InvalidFactor),
    /// A date is none, or a price ends at it before it begins.
    #[error("date `{0}`")]
    Date(String),
    /// A price begins before the one that stands before it ends. Unit: seconds since 1970, UTC.
    #[error("the price since {0} begins before the one before it ends")]
    DateOrder(u64),
    /// Hours of the day that are none.
    #[error("hours `{0}`")]
    Hours(String),
    /// A kind of content that is none.
    #[error(transparent)]
    Modality(#[from] UnknownModality),
}

#[derive(Debug)]
struct Entry {
    info: ModelInfo,
    /// Its prices in the order of time. Empty: the one in `info` has always held, as far as is known.
    dated: Vec<Dated>,
    note: Option<String>,
    /// By [`Figure`]: places in [`Catalog::sources`].
    sources: [Vec<usize>; 4],
}

/// A price that holds for some time. Unit: seconds since 1970, UTC.
#[derive(Debug)]
struct Dated {
    since: u64,
    until: u64,
    price: Price,
}

/// One provider's part of the entries.
#[derive(Debug)]
struct Shelf {
    range: Range<usize>,
    models: HashMap<String, usize>,
}

// === impl Catalog ===

impl Catalog {
    /// The catalogue that hoosh ships with. Read at the first call, in about a millisecond.
    ///
    /// A line that cannot be read is left out, as a gateway should not refuse to start over the price of one model; the
    /// tests of this module see to it that there is none.
    pub fn builtin() -> &'static Self {
        static BUILTIN: OnceLock<Catalog> = OnceLock::new();
        BUILTIN.get_or_init(|| Self::parse(BUILTIN_TEXT).0)
    }

    /// Reads a catalogue file, and reports the lines that were left out.
    pub fn parse(text: &str) -> (Self, Vec<BadLine>) {
        let mut bad = Vec::new();
        let mut catalog = Self::default();
        let mut entries: BTreeMap<(String, String), Entry> = BTreeMap::new();

        for (index, text) in text.lines().enumerate().filter(|(_, text)| !text.trim().is_empty()) {
            let read = if index == 0 {
                wire::sources(text).map(|sources| catalog.sources = sources)
            } else {
                wire::entry(text, &catalog.sources).and_then(|entry| {
                    let key = (entry.info.provider.clone(), entry.info.id.clone());
                    if entries.contains_key(&key) {
                        return Err(Problem::Duplicate(format!("{}/{}", key.0, key.1)));
                    }
                    entries.insert(key, entry);
                    Ok(())
                })
            };
            if let Err(problem) = read {
                bad.push(BadLine { line: index + 1, problem });
            }
        }
        catalog.fill(entries);
        (catalog, bad)
    }

    /// A provider's model, by hoosh's name of the provider and any usual spelling of the model.
    ///
    /// The exact name wins. If there is none, in this order and each on top of the one before: without Google's
    /// `models/`, without Ollama's `:latest`, without a dated version (`-2024-08-06`, `-20241022`). A dated version
    /// that costs something else than its family has a line of its own (`gpt-4o-2024-05-13`), so it is found first.
    pub fn find(&self, provider: &str, model: &str) -> Option<&ModelInfo> {
        self.entry(provider, model).map(|entry| &entry.info)
    }

    /// What a model cost at a time (seconds since 1970, UTC); it is found as by [`find`](Self::find). `None`: not known.
    ///
    /// Most prices have no date: what was listed on the day of the [source](Self::sources_of) is taken to hold at any time.
    pub fn price_at(&self, provider: &str, model: &str, at: u64) -> Option<&Price> {
        let entry = self.entry(provider, model)?;
        if entry.dated.is_empty() {
            return entry.info.price.as_ref();
        }
        let dated = entry.dated.iter().find(|dated| (dated.since..dated.until).contains(&at));
        dated.map(|dated| &dated.price)
    }

    /// A model by name alone, spelled as for [`find`](Self::find), at whichever provider has it.
    ///
    /// For a provider the catalogue does not know, such as a proxy: sizes and abilities mostly hold there too, a
    /// *price* does not. Of several, the first in provider order that has a price, since that is the maker more often
    /// than the reseller by subscription; else the first.
    pub fn find_any(&self, model: &str) -> Option<&ModelInfo> {
        spellings(model)
            .into_iter()
            .find_map(|name| self.by_model.get(name))
            .map(|place| &self.entries[*place].info)
    }

    /// A provider's models, sorted by id. Empty for a provider that the catalogue does not know.
    pub fn models_of(&self, provider: &str) -> impl Iterator<Item = &ModelInfo> {
        let range = self.shelves.get(provider).map_or(0..0, |shelf| shelf.range.clone());
        self.entries[range].iter().map(|entry| &entry.info)
    }

    /// All models, sorted by provider and id.
    pub fn models(&self) -> impl ExactSizeIterator<Item = &ModelInfo> {
        self.entries.iter().map(|entry| &entry.info)
    }

    /// Where a model's figures come from; the model is found as by [`find`](Self::find). Empty where there are none.
    pub fn sources_of(&self, provider: &str, model: &str, figure: Figure) -> impl Iterator<Item = &Source> {
        let places = self.entry(provider, model).map_or(&[][..], |entry| &entry.sources[figure as usize]);
        places.iter().map(|place| &self.sources[*place])
    }

    /// What a reader of a model's figures should know: why it is unpriced, what its price leaves out.
    pub fn note_of(&self, provider: &str, model: &str) -> Option<&str> {
        self.entry(provider, model)?.note.as_deref()
    }

    /// All sources, in the order of the file.
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    fn entry(&self, provider: &str, model: &str) -> Option<&Entry> {
        let shelf = self.shelves.get(provider)?;
        let place = spellings(model).into_iter().find_map(|name| shelf.models.get(name))?;
        Some(&self.entries[*place])
    }

    fn fill(&mut self, entries: BTreeMap<(String, String), Entry>) {
        for ((provider, id), entry) in entries {
            let place = self.entries.len();
            self.by_model
                .entry(id.clone())
                .and_modify(|kept| {
                    if self.entries[*kept].info.price.is_none() && entry.info.price.is_some() {
                        *kept = place;
                    }
                })
                .or_insert(place);
            let shelf = self
                .shelves
                .entry(provider)
                .or_insert_with(|| Shelf { range: place..place, models: HashMap::new() });
            shelf.range.end = place + 1;
            shelf.models.insert(id, place);
            self.entries.push(entry);
        }
    }
}

/// The names a model may stand under, best first.
pub(crate) fn spellings(model: &str) -> [&str; 4] {
    let bare = model.strip_prefix("models/").unwrap_or(model);
    let untagged = bare.strip_suffix(":latest").unwrap_or(bare);
    [model, bare, untagged, without_date(untagged)]
}

/// Cuts `-YYYY-MM-DD` or `-YYYYMMDD` off the end. The century is part of the pattern: `-00001234` is no date.
fn without_date(model: &str) -> &str {
    for pattern in [&b"-20dd-dd-dd"[..], b"-20dddddd"] {
        let Some(cut) = model.len().checked_sub(pattern.len()).filter(|cut| *cut > 0) else { continue };
        let tail = &model.as_bytes()[cut..];
        if tail.iter().zip(pattern).all(|(byte, like)| byte == like || *like == b'd' && byte.is_ascii_digit())
        {
            return &model[..cut]; // the tail is ASCII, so this is a character boundary
        }
    }
    model
}

/// The file as this crate was built with it.
const BUILTIN_TEXT: &str = include_str!("catalog.jsonl");

/// The lines as they stand in the file.
mod wire {
    use super::*;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct SourcesLine {
        sources: BTreeMap<String, SourceLine>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct SourceLine {
        name: String,
        url: String,
        date: String,
        licence: Option<String>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct ModelLine {
        provider: String,
        model: String,
        #[serde(default)]
        limit: LimitGroup,
        price: Option<PriceGroup>,
        #[serde(default)]
        earlier: Vec<PriceGroup>,
        #[serde(default)]
        modalities: ModalitiesGroup,
        #[serde(default)]
        abilities: AbilitiesGroup,
        note: Option<String>,
    }

    #[derive(Default, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct LimitGroup {
        context: Option<u64>,
        input: Option<u64>,
        output: Option<u64>,
        from: Vec<String>,
    }

    #[derive(Deserialize)]
    struct PriceGroup {
        #[serde(flatten)]
        rates: RatesLine,
        #[serde(default)]
        tiers: Vec<TierLine>,
        request: Option<String>,
        #[serde(default)]
        hours: Vec<HoursLine>,
        since: Option<String>,
        until: Option<String>,
        from: Vec<String>,
    }

    /// Hours with prices of their own: `"01:00"`, days by their names, and what multiplies the usual prices.
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct HoursLine {
        from: String,
        until: String,
        days: Option<Vec<String>>,
        times: String,
    }

    #[derive(Deserialize)]
    struct TierLine {
        above: u64,
        #[serde(flatten)]
        rates: RatesLine,
    }

    /// Unknown fields are refused by [`RatesLine::rest`], since serde cannot do it through `flatten`.
    #[derive(Deserialize)]
    struct RatesLine {
        input: String,
        cache_read: Option<String>,
        cache_write_5m: Option<String>,
        cache_write_1h: Option<String>,
        output: String,
        output_reasoned: Option<String>,
        reasoning: Option<String>,
        audio_in: Option<String>,
        audio_out: Option<String>,
        #[serde(flatten)]
        rest: BTreeMap<String, serde_json::Value>,
    }

    #[derive(Default, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct ModalitiesGroup {
        input: Vec<String>,
        output: Vec<String>,
        from: Vec<String>,
    }

    #[derive(Default, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct AbilitiesGroup {
        tools: Option<bool>,
        reasoning: Option<bool>,
        structured_output: Option<bool>,
        temperature: Option<bool>,
        #[serde(default)]
        deprecated: bool,
        from: Vec<String>,
    }

    pub(super) fn sources(text: &str) -> Result<Vec<Source>, Problem> {
        let line: SourcesLine = read(text)?;
        let source =
            |(key, SourceLine { name, url, date, licence })| Source { key, name, url, date, licence };
        Ok(line.sources.into_iter().map(source).collect())
    }

    pub(super) fn entry(text: &str, sources: &[Source]) -> Result<Entry, Problem> {
        let line: ModelLine = read(text)?;
        if line.provider.is_empty() || line.model.is_empty() {
            return Err(Problem::Nameless);
        }
        let price_from: Vec<String> =
            line.price.iter().chain(&line.earlier).flat_map(|price| &price.from).cloned().collect();
        let places = [&line.limit.from, &price_from, &line.modalities.from, &line.abilities.from];
        let mut found: [Vec<usize>; 4] = Default::default();
        for (into, keys) in found.iter_mut().zip(places) {
            for key in keys {
                let place = sources.iter().position(|source| source.key == *key);
                let place = place.ok_or_else(|| Problem::UnknownSource(key.clone()))?;
                if !into.contains(&place) {
                    into.push(place);
                }
            }
        }
        let (price, dated) = prices(line.price, line.earlier)?;
        let info = ModelInfo {
            context_window: line.limit.context,
            input_max: line.limit.input,
            output_max: line.limit.output,
            input: set(&line.modalities.input)?,
            output: set(&line.modalities.output)?,
            tools: line.abilities.tools,
            reasoning: line.abilities.reasoning,
            structured_output: line.abilities.structured_output,
            temperature: line.abilities.temperature,
            price,
            deprecated: line.abilities.deprecated,
            ..ModelInfo::named(line.provider, line.model)
        };
        Ok(Entry { info, dated, note: line.note, sources: found })
    }

    fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Problem> {
        serde_json::from_str(text).map_err(|error| Problem::Form(error.to_string()))
    }

    fn set(names: &[String]) -> Result<Modalities, Problem> {
        Ok(names.iter().map(|name| name.parse()).collect::<Result<Vec<Modality>, _>>()?.into_iter().collect())
    }

    fn price(group: PriceGroup) -> Result<Price, Problem> {
        let mut tiers: Vec<Tier> = Vec::new();
        for TierLine { above, rates: line } in group.tiers {
            if tiers.last().is_some_and(|last| last.above >= above) {
                return Err(Problem::TierOrder(above));
            }
            tiers.push(Tier { above, rates: rates(line)? });
        }
        Ok(Price {
            rates: rates(group.rates)?,
            tiers,
            request: group.request.map(amount).transpose()?,
            hours: group.hours.into_iter().map(hours).collect::<Result<_, _>>()?,
            ..Price::default()
        })
    }

    /// The latest price, and all of them where one of them has a date.
    fn prices(
        latest: Option<PriceGroup>,
        earlier: Vec<PriceGroup>,
    ) -> Result<(Option<Price>, Vec<Dated>), Problem> {
        let mut all = earlier.into_iter().map(dated).collect::<Result<Vec<_>, _>>()?;
        let latest = latest.map(dated).transpose()?;
        let price = latest.as_ref().map(|latest| latest.price.clone());
        all.extend(latest.filter(|latest| !all.is_empty() || latest.since > 0 || latest.until < u64::MAX));
        match all.windows(2).find(|pair| pair[0].until > pair[1].since) {
            Some(pair) => Err(Problem::DateOrder(pair[1].since)),
            None => Ok((price, all)),
        }
    }

    /// A price and the time that it holds for.
    fn dated(group: PriceGroup) -> Result<Dated, Problem> {
        let second = |text: &Option<String>| text.as_deref().map(second).transpose();
        let (since, until) = (second(&group.since)?, second(&group.until)?);
        let (since, until) = (since.unwrap_or(0), until.unwrap_or(u64::MAX));
        if since >= until {
            return Err(Problem::Date(group.until.unwrap_or_default()));
        }
        Ok(Dated { since, until, price: price(group)? })
    }

    fn second(text: &str) -> Result<u64, Problem> {
        let read = text.parse().ok().and_then(|time: Timestamp| u64::try_from(time.as_second()).ok());
        read.ok_or_else(|| Problem::Date(text.to_owned()))
    }

    fn hours(line: HoursLine) -> Result<Hours, Problem> {
        let minute = |text: String| Hours::parse_minute(&text).ok_or(Problem::Hours(text));
        let days = match &line.days {
            None => Weekdays::ALL,
            Some(names) => Weekdays::parse(names.iter().map(String::as_str))
                .map_err(|name| Problem::Hours(name.to_owned()))?,
        };
        let factor = line.times.parse().map_err(|error| Problem::Factor(line.times, error))?;
        let (from, until) = (minute(line.from)?, minute(line.until)?);
        Ok(Hours { from, until, days, prices: Adjustment::Times(factor) })
    }

    fn rates(line: RatesLine) -> Result<Rates, Problem> {
        if let Some(name) = line.rest.keys().next() {
            return Err(Problem::Form(format!("unknown price `{name}`")));
        }
        Ok(Rates {
            input: amount(line.input)?,
            cache_read: line.cache_read.map(amount).transpose()?,
            cache_write_5m: line.cache_write_5m.map(amount).transpose()?,
            cache_write_1h: line.cache_write_1h.map(amount).transpose()?,
            output: amount(line.output)?,
            output_reasoned: line.output_reasoned.map(amount).transpose()?,
            reasoning: line.reasoning.map(amount).transpose()?,
            audio_in: line.audio_in.map(amount).transpose()?,
            audio_out: line.audio_out.map(amount).transpose()?,
        })
    }

    fn amount(text: String) -> Result<NanoUsd, Problem> {
        match text.parse() {
            Ok(amount) if amount < NanoUsd::ZERO => Err(Problem::NegativePrice(text)),
            Ok(amount) => Ok(amount),
            Err(error) => Err(Problem::Price(text, error)),
        }
    }
}

#[cfg(test)]
mod tests;
