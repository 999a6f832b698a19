//! Prices of a user's: `[[prices]]` in the configuration, and a file of them beside it.
//!
//! Read from TOML's own values rather than from figment's, whose numbers are floats: a price is the decimal that is
//! written. Whether prices contradict each other is the [table](PriceTable)'s to say.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hoosh_core::prices::{PriceEntry, PricePlace};
use hoosh_core::{
    Adjustment, Factor, Hours, NanoUsd, Price, PriceTable, ProviderType, Rates, Tier, Weekdays, limits,
};
use jiff::Timestamp;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{ConfigErrors, Fault, Place, nearest};
use super::file::{File, Lines, join};
use super::{Config, FileRead, keys, warm};

/// A file of prices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceFile {
    /// Its path as the configuration has it.
    pub said: String,
    /// What was in it; `None` if it could not be read.
    pub file: Option<FileRead>,
}

/// The prices of one file, as far as they could be read.
#[derive(Debug, Default)]
pub(crate) struct Prices {
    /// The file, and the line of each of its keys.
    lines: Lines,
    /// Each with its path: `prices[0]`.
    entries: Vec<(String, PriceEntry)>,
    faults: Vec<Fault>,
}

/// A table of a price, and what has been found wrong in all of them.
struct Reader<'a, 'f> {
    path: String,
    table: &'a DeTable<'a>,
    lines: &'f Lines,
    faults: &'f mut Vec<Fault>,
}

/// Prices by kind of token, by their keys.
pub(crate) const RATES: [&str; 9] = [
    "input",
    "output",
    "cache_read",
    "cache_write_5m",
    "cache_write_1h",
    "output_reasoned",
    "reasoning",
    "audio_in",
    "audio_out",
];

/// What a tier has beside those.
const TIER: &[&str] = &["above"];

/// What the prices of a batch and the like have beside those.
const OWN: &[&str] = &["tiers"];

/// What hours have beside those.
const HOURS: &[&str] = &["from", "until", "days", "times", "tiers"];

/// Reads the `prices` of a parsed file.
pub(crate) fn read(value: &Spanned<DeValue<'_>>, lines: Lines) -> Prices {
    let (mut entries, mut faults) = (Vec::new(), Vec::new());
    match value.get_ref().as_array() {
        None => {
            let problem =
                format!("expected a list, found {}; write each price under its own [[prices]]", name(value));
            faults.push(Fault::new(lines.place("prices"), "prices", problem));
        }
        Some(list) => {
            for (at, entry) in list.iter().enumerate() {
                let path = format!("prices[{at}]");
                let Some(table) = entry.get_ref().as_table() else {
                    let problem = format!("expected a section [[prices]], found {}", name(entry));
                    faults.push(Fault::new(lines.place(&path), path, problem));
                    continue;
                };
                let mut reader = Reader { path: path.clone(), table, lines: &lines, faults: &mut faults };
                entries.extend(reader.entry().map(|entry| (path, entry)));
            }
        }
    }
    Prices { lines, entries, faults }
}

/// Puts the prices of the configuration and of the file that it names together. What is wrong with them is told with its
/// lines.
pub(crate) fn settle(config: &mut Config, inline: Prices, directory: &Path) -> Vec<Fault> {
    let mut files = vec![inline];
    let mut faults = Vec::new();
    if let Some(said) = config.costs.prices.as_ref().map(|prices| prices.said.clone()) {
        let folder = config.file.as_ref().and_then(|file| file.path.parent()).unwrap_or(Path::new(""));
        let named = config.origins.get("costs.prices").cloned().unwrap_or(Place::Default);
        match beside(folder.join(&said), directory, named) {
            Ok(mut file) => {
                faults.extend(strangers(&file));
                files.push(file.take_prices());
                config.costs.prices = Some(PriceFile { said, file: Some(file.read) });
            }
            Err(found) => faults.extend(found.faults),
        }
    }
    for prices in &mut files {
        faults.append(&mut prices.faults);
        warn_of_unknown_providers(config, prices);
    }
    let all: Vec<(&Lines, &str, &PriceEntry)> = files
        .iter()
        .flat_map(|file| file.entries.iter().map(|(path, entry)| (&file.lines, path.as_str(), entry)))
        .collect();
    match PriceTable::new(all.iter().map(|(_, _, entry)| (*entry).clone()).collect()) {
        Ok(table) => config.costs.table = Arc::new(table),
        Err(found) => faults.extend(found.into_iter().filter_map(|fault| {
            let (lines, path, _) = all.get(fault.entry)?;
            let key = if fault.key.is_empty() { (*path).to_owned() } else { format!("{path}.{}", fault.key) };
            Some(Fault::new(lines.place(&key), key, fault.problem.to_string()))
        })),
    }
    for (path, entry) in files.first().iter().flat_map(|inline| &inline.entries) {
        let place = |key: &str| files.first().map(|inline| inline.lines.place(&format!("{path}.{key}")));
        for (key, _) in shown(entry) {
            config.origins.extend(place(key).map(|place| (format!("{path}.{key}"), place)));
        }
    }
    config.costs.entries = all.into_iter().map(|(_, _, entry)| entry.clone()).collect();
    config.costs.inline = files.first().map_or(0, |inline| inline.entries.len());
    faults
}

/// The file of prices, parsed.
fn beside(path: PathBuf, directory: &Path, named: Place) -> Result<File, ConfigErrors> {
    let refused =
        |problem: String| Fault::new(named.clone(), "costs.prices", format!("{} {problem}", path.display()));
    let content = warm::content(&directory.join(&path), limits::PRICES_FILE_BYTES_MAX).map_err(refused)?;
    let text = String::from_utf8(content).map_err(|_| refused("is not UTF-8".to_owned()))?;
    File::parse(path, &text)
}

/// What is no price in a file of prices.
fn strangers(file: &File) -> Vec<Fault> {
    let stranger = |key: &String| {
        let problem = "there is no such key in a file of prices, which has [[prices]] only";
        let meant = nearest(key, ["prices"]);
        Fault::new(file.place(&join("", key)), key.as_str(), problem).meaning(meant)
    };
    file.values.keys().map(stranger).collect()
}

/// Says so where a price is for a provider that there is not. It may be one of the past, whose calls are still to be priced.
fn warn_of_unknown_providers(config: &mut Config, prices: &Prices) {
    let types = ProviderType::ALL.iter().map(|kind| kind.as_str());
    let known: Vec<String> =
        types.map(str::to_owned).chain(config.providers.iter().map(|one| one.name().to_owned())).collect();
    for (path, entry) in &prices.entries {
        if entry.provider == "*" || known.contains(&entry.provider) {
            continue;
        }
        let (key, name) = (format!("{path}.provider"), &entry.provider);
        let near = nearest(name, known.iter().map(String::as_str));
        let meant = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        let place = prices.lines.place(&key);
        config.warnings.push(format!("{place}: {key}: no provider has the name or type `{name}`{meant}"));
    }
}

// === impl Reader ===

impl<'a> Reader<'a, '_> {
    fn entry(&mut self) -> Option<PriceEntry> {
        let before = self.faults.len();
        self.refuse_unknown(keys::PRICES.iter().map(|key| key.name));
        let (provider, model) = (self.required("provider", Self::text), self.required("model", Self::text));
        let (from, until) = (self.key("from", Self::time), self.key("until", Self::time));
        let price = Price {
            rates: self.rates(),
            tiers: self.tiers(),
            request: self.key("request", Self::amount),
            batch: self.key("batch", Self::adjustment),
            flex: self.key("flex", Self::adjustment),
            priority: self.key("priority", Self::adjustment),
            hours: self.key("hours", Self::hours).unwrap_or_default(),
        };
        // A price that is read in part is another one.
        if self.faults.len() > before {
            return None;
        }
        let Place::File { file, line } = self.lines.place(&self.path) else { return None };
        let place = PricePlace { file: file.into(), line: line.unwrap_or(0) };
        Some(PriceEntry { provider: provider?, model: model?, from, until, price, place })
    }

    /// The prices by kind of token, of which two must be said.
    fn rates(&mut self) -> Rates {
        Rates {
            input: self.required("input", Self::amount).unwrap_or_default(),
            output: self.required("output", Self::amount).unwrap_or_default(),
            cache_read: self.key("cache_read", Self::amount),
            cache_write_5m: self.key("cache_write_5m", Self::amount),
            cache_write_1h: self.key("cache_write_1h", Self::amount),
            output_reasoned: self.key("output_reasoned", Self::amount),
            reasoning: self.key("reasoning", Self::amount),
            audio_in: self.key("audio_in", Self::amount),
            audio_out: self.key("audio_out", Self::amount),
        }
    }

    fn tiers(&mut self) -> Vec<Tier> {
        let tier = |reader: &mut Reader<'a, '_>| {
            reader.refuse_unknown(RATES.iter().chain(TIER).copied());
            Tier { above: reader.required("above", Reader::whole).unwrap_or_default(), rates: reader.rates() }
        };
        self.key("tiers", |reader, path, value| reader.each(path, value, tier)).unwrap_or_default()
    }

    fn hours(&mut self, path: &str, value: &'a Spanned<DeValue<'a>>) -> Option<Vec<Hours>> {
        self.each(path, value, |reader| {
            reader.refuse_unknown(HOURS.iter().chain(&RATES).copied());
            let (from, until) =
                (reader.required("from", Reader::minute), reader.required("until", Reader::minute));
            let days = reader.key("days", Reader::days).unwrap_or(Weekdays::ALL);
            let times = reader.key("times", Reader::factor);
            let has_own = RATES.iter().chain(OWN).any(|key| reader.table.contains_key(*key));
            let prices = match (reader.table.contains_key("times"), has_own) {
                (true, false) => Adjustment::Times(times.unwrap_or(Factor::ONE)),
                (true, true) => {
                    let path = format!("{}.times", reader.path);
                    reader.tell(&path, "expected either this or prices of its own, found both");
                    Adjustment::Times(Factor::ONE)
                }
                (false, _) => Adjustment::Rates { rates: reader.rates(), tiers: reader.tiers() },
            };
            Hours { from: from.unwrap_or_default(), until: until.unwrap_or_default(), days, prices }
        })
    }

    /// A factor, or prices.
    fn adjustment(&mut self, path: &str, value: &'a Spanned<DeValue<'a>>) -> Option<Adjustment> {
        let Some(table) = value.get_ref().as_table() else {
            return self.factor(path, value).map(Adjustment::Times);
        };
        let mut reader = self.below(path, table);
        reader.refuse_unknown(RATES.iter().chain(OWN).copied());
        Some(Adjustment::Rates { rates: reader.rates(), tiers: reader.tiers() })
    }

    /// Every table of a list.
    fn each<T>(
        &mut self,
        path: &str,
        value: &'a Spanned<DeValue<'a>>,
        read: impl Fn(&mut Reader<'a, '_>) -> T,
    ) -> Option<Vec<T>> {
        let Some(list) = value.get_ref().as_array() else {
            return self.mismatch(path, "a list of tables such as [{ ... }]", value);
        };
        let mut all = Vec::with_capacity(list.len());
        for (at, value) in list.iter().enumerate() {
            let path = format!("{path}[{at}]");
            match value.get_ref().as_table() {
                Some(table) => all.push(read(&mut self.below(&path, table))),
                None => self.mismatch(&path, "a table such as { ... }", value)?,
            }
        }
        Some(all)
    }

    fn below(&mut self, path: &str, table: &'a DeTable<'a>) -> Reader<'a, '_> {
        Reader { path: path.to_owned(), table, lines: self.lines, faults: self.faults }
    }

    fn text(&mut self, path: &str, value: &'a Spanned<DeValue<'a>>) -> Option<String> {
        match value.get_ref().as_str() {
            Some(text) => Some(text.to_owned()),
            None => self.mismatch(path, "a string", value),
        }
    }

    fn whole(&mut self, path: &str, value: &'a Spanned<DeValue<'a>>) -> Option<u64> {
        let number = value.get_ref().as_integer();
        let number = number.and_then(|number| u64::from_str_radix(number.as_str(), number.radix()).ok());
        number.or_else(|| self.mismatch(path, "a whole number of tokens", value))
    }

    fn amount(&mut self, path: &str, value: &'a Spanned<DeValue<'a>>) -> Option<NanoUsd> {
        let expected = "US dollars such as 2.50 or \"2.50\"";
        let Some(text) = decimal(value) else { return self.mismatch(path, expected, value) };
        match text.parse() {
            Ok(amount) if amount >= NanoUsd::ZERO => Some(amount),
            Ok(_) => self.fault(path, format!("expected {expected}, found `{text}`, which is negative")),
            Err(error) => self.fault(path, format!("expected {expected}, found `{text}`: {error}")),
        }
    }

    fn factor(&mut self, path: &str, value: &'a Spanned<DeValue<'a>>) -> Option<Factor> {
        let expected = "a number from 0 to 100 that prices are multiplied by, such as 0.5";
        let Some(text) = decimal(value) else { return self.mismatch(path, expected, value) };
        text.parse().ok().or_else(|| self.fault(path, format!("expected {expected}, found `{text}`")))
    }

    fn minute(&mut self, path: &str, value: &'a Spanned<DeValue<'a>>) -> Option<u16> {
        let text = match value.get_ref() {
            DeValue::Datetime(time) if time.date.is_none() && time.offset.is_none() => time.to_string(),
            DeValue::String(text) => text.to_string(),
            _ => return self.mismatch(path, TIME_OF_DAY, value),
        };
        // TOML may write seconds.
        let minute =
            Hours::parse_minute(text.strip_suffix(":00").filter(|text| text.contains(':')).unwrap_or(&text));
        minute.or_else(|| self.fault(path, format!("expected {TIME_OF_DAY}, found `{text}`")))
    }

    fn days(&mut self, path: &str, value: &'a Spanned<DeValue<'a>>) -> Option<Weekdays> {
        let expected = format!("a list of `{}`", Weekdays::NAMES.join("`, `"));
        let Some(list) = value.get_ref().as_array() else { return self.mismatch(path, &expected, value) };
        let Some(names) = list.iter().map(|day| day.get_ref().as_str()).collect::<Option<Vec<_>>>() else {
            return self.mismatch(path, &expected, value);
        };
        match Weekdays::parse(names) {
            Ok(days) => Some(days),
            Err(name) => self.fault(path, format!("expected {expected}, found `{name}`")),
        }
    }

    /// A day, or a moment of one, in UTC where nothing else is said.
    fn time(&mut self, path: &str, value: &'a Spanned<DeValue<'a>>) -> Option<u64> {
        let text = match value.get_ref() {
            DeValue::Datetime(time) if time.date.is_some() => time.to_string(),
            DeValue::String(text) => text.to_string(),
            _ => return self.mismatch(path, DATE, value),
        };
        seconds(&text).or_else(|| self.fault(path, format!("expected {DATE}, found `{text}`")))
    }

    fn refuse_unknown<'k>(&mut self, known: impl Iterator<Item = &'k str> + Clone) {
        for key in self.table.keys() {
            let key = key.get_ref();
            if !known.clone().any(|known| known == key.as_ref()) {
                let path = join(&self.path, key);
                let meant = nearest(key, known.clone());
                let fault = Fault::new(self.lines.place(&path), path, "there is no such key").meaning(meant);
                self.faults.push(fault);
            }
        }
    }

    fn required<T>(
        &mut self,
        key: &str,
        read: impl Fn(&mut Self, &str, &'a Spanned<DeValue<'a>>) -> Option<T>,
    ) -> Option<T> {
        if self.table.contains_key(key) {
            return self.key(key, read);
        }
        let path = self.path.clone();
        self.fault(&path, format!("`{key}` is missing"))
    }

    fn key<T>(
        &mut self,
        key: &str,
        read: impl Fn(&mut Self, &str, &'a Spanned<DeValue<'a>>) -> Option<T>,
    ) -> Option<T> {
        let value = self.table.get(key)?;
        read(self, &join(&self.path, key), value)
    }

    fn mismatch<T>(&mut self, path: &str, expected: &str, value: &Spanned<DeValue<'_>>) -> Option<T> {
        self.fault(path, format!("expected {expected}, found {}", name(value)))
    }

    fn fault<T>(&mut self, path: &str, problem: impl Into<String>) -> Option<T> {
        self.tell(path, problem);
        None
    }

    fn tell(&mut self, path: &str, problem: impl Into<String>) {
        self.faults.push(Fault::new(self.lines.place(path), path, problem));
    }
}

const TIME_OF_DAY: &str = "a time of the day in UTC such as \"01:00\", up to \"24:00\"";

const DATE: &str = "a date since 1970 such as 2026-08-16, or a time such as 2026-08-16T16:00:00Z";

/// A number as it is written, in a string or not.
fn decimal<'a>(value: &'a Spanned<DeValue<'a>>) -> Option<&'a str> {
    match value.get_ref() {
        DeValue::String(text) => Some(text.as_ref()),
        DeValue::Float(number) => Some(number.as_str()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str()),
        _ => None,
    }
}

/// Seconds since 1970 of a date or a time.
fn seconds(text: &str) -> Option<u64> {
    // A day begins at its midnight, and a time without a zone is in UTC.
    let zoned = [text.to_owned(), format!("{text}Z"), format!("{text}T00:00:00Z")];
    let time = zoned.iter().find_map(|text| text.parse::<Timestamp>().ok())?;
    u64::try_from(time.as_second()).ok()
}

/// What a value is, in TOML's words.
fn name(value: &Spanned<DeValue<'_>>) -> &'static str {
    match value.get_ref() {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or a time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a section",
    }
}

// --- showing ---

/// The keys of a price, as TOML writes them.
pub(crate) fn shown(entry: &PriceEntry) -> Vec<(&'static str, String)> {
    let PriceEntry { provider, model, from, until, price, place: _ } = entry;
    let mut keys = vec![("provider", string(provider)), ("model", string(model))];
    keys.extend(from.map(|time| ("from", date(time))));
    keys.extend(until.map(|time| ("until", date(time))));
    keys.extend(rates(&price.rates));
    keys.extend((!price.tiers.is_empty()).then(|| ("tiers", tiers(&price.tiers))));
    keys.extend(price.request.map(|amount| ("request", dollars(amount))));
    for (key, prices) in [("batch", &price.batch), ("flex", &price.flex), ("priority", &price.priority)] {
        keys.extend(prices.as_ref().map(|prices| match prices {
            Adjustment::Times(factor) => (key, factor.to_string()),
            Adjustment::Rates { rates, tiers } => (key, table(own(rates, tiers))),
        }));
    }
    if !price.hours.is_empty() {
        let hours = |hours: &Hours| {
            let minute = |minute: u16| format!("\"{:02}:{:02}\"", minute / 60, minute % 60);
            let mut keys = vec![("from", minute(hours.from)), ("until", minute(hours.until))];
            let days: Vec<String> = hours.days.names().map(string).collect();
            keys.push(("days", format!("[{}]", days.join(", "))));
            match &hours.prices {
                Adjustment::Times(factor) => keys.push(("times", factor.to_string())),
                Adjustment::Rates { rates, tiers } => keys.extend(own(rates, tiers)),
            }
            table(keys)
        };
        let all: Vec<String> = price.hours.iter().map(hours).collect();
        keys.push(("hours", format!("[{}]", all.join(", "))));
    }
    keys
}

fn rates(rates: &Rates) -> impl Iterator<Item = (&'static str, String)> {
    let amounts = [
        Some(rates.input),
        Some(rates.output),
        rates.cache_read,
        rates.cache_write_5m,
        rates.cache_write_1h,
        rates.output_reasoned,
        rates.reasoning,
        rates.audio_in,
        rates.audio_out,
    ];
    RATES.into_iter().zip(amounts).filter_map(|(key, amount)| Some((key, dollars(amount?))))
}

fn own(rates: &Rates, tiers: &[Tier]) -> Vec<(&'static str, String)> {
    let tiers = (!tiers.is_empty()).then(|| ("tiers", self::tiers(tiers)));
    self::rates(rates).chain(tiers).collect()
}

fn tiers(tiers: &[Tier]) -> String {
    let tier =
        |tier: &Tier| table(std::iter::once(("above", tier.above.to_string())).chain(rates(&tier.rates)));
    format!("[{}]", tiers.iter().map(tier).collect::<Vec<_>>().join(", "))
}

fn table(keys: impl IntoIterator<Item = (&'static str, String)>) -> String {
    let keys: Vec<String> = keys.into_iter().map(|(key, value)| format!("{key} = {value}")).collect();
    format!("{{ {} }}", keys.join(", "))
}

/// An amount as text, since a number of TOML's may be read as a float by others.
fn dollars(amount: NanoUsd) -> String {
    let exact = amount.to_string();
    let exact = exact.trim_start_matches('$').trim_end_matches('0').trim_end_matches('.');
    string(exact)
}

fn string(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn date(time: u64) -> String {
    let time = i64::try_from(time).ok().and_then(|time| Timestamp::from_second(time).ok());
    time.unwrap_or(Timestamp::MAX).to_string()
}
