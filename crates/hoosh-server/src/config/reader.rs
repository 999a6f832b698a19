//! Values to typed settings, by the table of keys.
//!
//! Reads everything and collects every fault. What the settings add up to is [`resolve`](super::resolve)'s.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use figment::value::{Dict, Value};
use hoosh_budget::{Durability, Mode, PoolId, Window};
use hoosh_core::limits::MODEL_NAME_BYTES_MAX;
use hoosh_core::{Compression, ContextPolicy, Fidelity, NanoUsd, OnUnpriced, ProviderType};
use hoosh_providers::ProviderSettings;
use hoosh_router::{OnExhausted, Strategy};
use http::Uri;
use jiff::tz::TimeZone;
use secrecy::SecretString;

use super::fault::{Fault, Place, nearest};
use super::file::join;
use super::keys::{self, Key, Kind, SECONDS_MAX};
use super::layers::Layers;
use super::variables::expand;
use super::{Environment, ReloadMode};

/// Reads sections and remembers what it found.
pub(crate) struct Reader<'a> {
    pub(crate) layers: &'a Layers,
    pub(crate) env: &'a Environment,
    pub(crate) faults: Vec<Fault>,
    pub(crate) warnings: Vec<(Place, String)>,
    /// Where each key that was said somewhere was said, by its path.
    pub(crate) origins: BTreeMap<String, Place>,
    /// Names of providers that could be read in part only.
    pub(crate) unread: BTreeSet<String>,
}

/// The settings of one section, or of one entry of a list.
pub(crate) struct Section {
    settings: BTreeMap<String, Setting>,
}

/// A value of the type that its key wants.
enum Setting {
    Text(String),
    Secret(SecretString),
    Secrets(Vec<SecretString>),
    Texts(Vec<String>),
    Whole(u64),
    Numbers(Vec<u64>),
    Fraction(f64),
    Time(Duration),
    Switch(bool),
    Address(IpAddr),
    Strategy(Strategy),
    Fidelity(Fidelity),
    OnExhausted(OnExhausted),
    Reload(ReloadMode),
    Durability(Durability),
    OnUnpriced(OnUnpriced),
    Context(ContextPolicy),
    Compress(Vec<Compression>),
    ProviderType(ProviderType),
    Pool(PoolId),
    Window(Window),
    PoolMode(Mode),
    Dollars(NanoUsd),
    TimeZone(TimeZone),
}

/// A text and how it came.
struct Words {
    text: String,
    /// Whether it may stand for a number or a list, since where it comes from there is only text.
    loose: bool,
}

/// A setting's key, where it is, and what is being read.
struct At {
    key: &'static Key,
    path: String,
    place: Place,
}

impl<'a> Reader<'a> {
    /// Reads nothing yet.
    pub(crate) fn new(layers: &'a Layers, env: &'a Environment, faults: Vec<Fault>) -> Self {
        let (origins, unread) = (BTreeMap::new(), BTreeSet::new());
        Self { layers, env, faults, warnings: Vec::new(), origins, unread }
    }

    /// Reads a section by the rows of the key table called `rows`; `values` has the defaults in it.
    pub(crate) fn section(&mut self, rows: &'static str, path: &str, values: Dict) -> Section {
        let mut settings = BTreeMap::new();
        for (name, value) in values {
            let below = join(path, &name);
            let place = self.layers.place(value.tag(), &below);
            if let Some(key) = keys::find(rows, &name) {
                if place != Place::Default {
                    self.origins.insert(below.clone(), place.clone());
                }
                if let Some(setting) = self.setting(At { key, path: below, place }, value) {
                    settings.insert(name, setting);
                }
            } else if let Some(legacy) = keys::legacy(&format!("{rows}.{name}")) {
                self.legacy(&place, &format!("`{below}`"), legacy.note);
            } else {
                let meant = nearest(&name, keys::rows(rows).map(|(name, _)| name)).map(str::to_owned);
                let meant = meant.or_else(|| elsewhere(rows, &name));
                self.faults.push(Fault::new(place, below, "there is no such key").meaning(meant));
            }
        }
        Section { settings }
    }

    /// Notes something of 1.3 that is accepted and not acted on.
    pub(crate) fn legacy(&mut self, place: &Place, what: &str, note: &str) {
        let note = if note.is_empty() { String::new() } else { format!(": {note}") };
        self.warn(place.clone(), format!("{what} is read but this version does not act on it yet{note}"));
    }

    /// Notes what a user should know.
    pub(crate) fn warn(&mut self, place: Place, says: impl Into<String>) {
        self.warnings.push((place, says.into()));
    }

    /// Notes a fault of a whole section or list entry.
    pub(crate) fn fault(&mut self, path: &str, problem: impl Into<String>) {
        let place = self.origin(path);
        self.faults.push(Fault::new(place, path, problem));
    }

    /// Where a key was said, or the section that it is missing from.
    pub(crate) fn origin(&self, path: &str) -> Place {
        self.origins.get(path).cloned().unwrap_or_else(|| self.layers.place_in_file(path))
    }

    fn setting(&mut self, at: At, value: Value) -> Option<Setting> {
        match at.key.kind {
            Kind::Address => self.parsed(&at, value, |text| text.parse().ok()).map(Setting::Address),
            Kind::Whole { min, max } => self.whole(&at, value, min, max).map(Setting::Whole),
            Kind::Seconds { zero } => {
                self.seconds(&at, value, |time| zero || !time.is_zero()).map(Setting::Time)
            }
            Kind::Interval { min } => {
                self.seconds(&at, value, |time| time.is_zero() || time >= min).map(Setting::Time)
            }
            Kind::Switch => self.switch(&at, value).map(Setting::Switch),
            Kind::Name => {
                let named = |text: String| is_name(&text).then_some(text);
                self.parsed(&at, value, named).map(Setting::Text)
            }
            Kind::Url => self.url(&at, value).map(Setting::Text),
            Kind::Secret => self.secret(&at, value).map(Setting::Secret),
            Kind::Secrets => self.list(&at, value, Self::secret).map(Setting::Secrets),
            Kind::Patterns => self.list(&at, value, Self::model).map(Setting::Texts),
            Kind::Origins => self.list(&at, value, Self::web_origin).map(Setting::Texts),
            Kind::Model => self.model(&at, value).map(Setting::Text),
            Kind::Fraction => self.fraction(&at, value).map(Setting::Fraction),
            Kind::Path => {
                let filled = |text: String| (!text.trim().is_empty()).then_some(text);
                self.parsed(&at, value, filled).map(Setting::Text)
            }
            Kind::Word => self.word(&at, value).map(Setting::Text),
            Kind::Words => self.list(&at, value, Self::word).map(Setting::Texts),
            Kind::Weights => self.list(&at, value, Self::weight).map(Setting::Numbers),
            Kind::Targets => {
                // One name needs no list around it, whoever says it.
                let value = match value {
                    Value::String(tag, _) if !matches!(at.place, Place::Variable(_)) => {
                        Value::Array(tag, vec![value])
                    }
                    value => value,
                };
                let targets = self.list(&at, value, Self::model)?;
                if targets.is_empty() {
                    return self.refuse(&at, "expected at least one model");
                }
                Some(Setting::Texts(targets))
            }
            Kind::Strategy => self.strategy(&at, value).map(Setting::Strategy),
            Kind::Fidelity => self.fidelity(&at, value).map(Setting::Fidelity),
            Kind::OnExhausted => {
                self.parsed(&at, value, |text| OnExhausted::parse(&text)).map(Setting::OnExhausted)
            }
            Kind::Durability => {
                self.parsed(&at, value, |text| Durability::parse(&text)).map(Setting::Durability)
            }
            Kind::Reload => self.parsed(&at, value, |text| ReloadMode::parse(&text)).map(Setting::Reload),
            Kind::OnUnpriced => {
                self.parsed(&at, value, |text| OnUnpriced::parse(&text)).map(Setting::OnUnpriced)
            }
            Kind::Context => {
                self.parsed(&at, value, |text| ContextPolicy::parse(&text)).map(Setting::Context)
            }
            Kind::Compress => self.list(&at, value, Self::compression).map(Setting::Compress),
            Kind::Pool => self.parsed(&at, value, |text| text.parse().ok()).map(Setting::Pool),
            Kind::Window => self.parsed(&at, value, |text| window(&text)).map(Setting::Window),
            Kind::PoolMode => {
                let mode =
                    |text: String| [Mode::Hard, Mode::Soft].into_iter().find(|mode| mode.as_str() == text);
                self.parsed(&at, value, mode).map(Setting::PoolMode)
            }
            Kind::Dollars => self.dollars(&at, value).map(Setting::Dollars),
            Kind::TimeZone => {
                self.parsed(&at, value, |text| TimeZone::get(&text).ok()).map(Setting::TimeZone)
            }
            Kind::Percents => {
                let percent = |reader: &mut Self, at: &At, value| reader.whole(at, value, 1, 255);
                self.list(&at, value, percent).map(Setting::Numbers)
            }
            Kind::OneOf(words) => {
                let known = |text: String| words.contains(&text.as_str()).then_some(text);
                self.parsed(&at, value, known).map(Setting::Text)
            }
            Kind::ProviderType => self.provider_type(&at, value).map(Setting::ProviderType),
        }
    }

    fn whole(&mut self, at: &At, value: Value, min: u64, max: u64) -> Option<u64> {
        let number = match &value {
            Value::Num(_, number) => match (number.to_i128(), number.to_u128()) {
                (Some(number), _) => Some(number),
                (None, Some(number)) => i128::try_from(number).ok(),
                (None, None) => return self.mismatch(at, &value),
            },
            _ => self.loose(at, value)?.parse().ok(),
        };
        let in_range = number.and_then(|number| u64::try_from(number).ok());
        match in_range.filter(|number| (min..=max).contains(number)) {
            Some(number) => Some(number),
            None => {
                let found =
                    number.map_or("found something else".to_owned(), |number| format!("found {number}"));
                self.refuse(at, format!("expected {}, {found}", at.key.kind.expected()))
            }
        }
    }

    /// A number of any kind; the inner `None` for text that is none.
    fn number(&mut self, at: &At, value: Value) -> Option<Option<f64>> {
        Some(match &value {
            Value::Num(_, number) => number
                .to_f64()
                .or_else(|| number.to_i128().map(|number| number as f64))
                .or_else(|| number.to_u128().map(|number| number as f64)),
            _ => self.loose(at, value)?.parse().ok(),
        })
    }

    fn fraction(&mut self, at: &At, value: Value) -> Option<f64> {
        let number = self.number(at, value)?;
        match number.filter(|number| (0.0..=1.0).contains(number)) {
            Some(number) => Some(number),
            None => {
                let found =
                    number.map_or("found something else".to_owned(), |number| format!("found {number}"));
                self.refuse(at, format!("expected {}, {found}", at.key.kind.expected()))
            }
        }
    }

    /// A time that may be, as it was written and in nanoseconds: what is above zero and rounds to it would otherwise be a
    /// time-out before anything began, or never.
    fn seconds(&mut self, at: &At, value: Value, may_be: impl Fn(Duration) -> bool) -> Option<Duration> {
        let seconds = self.number(at, value)?;
        let in_range = |seconds: &f64| (0.0..=SECONDS_MAX as f64).contains(seconds);
        let time = seconds.filter(in_range).and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let is_rounded = |time: &Duration| time.is_zero() && seconds.is_some_and(|seconds| seconds > 0.0);
        match time.filter(|time| !is_rounded(time) && may_be(*time)) {
            Some(time) => Some(time),
            None => {
                let found =
                    seconds.map_or("found something else".to_owned(), |seconds| format!("found {seconds}"));
                self.refuse(at, format!("expected {}, {found}", at.key.kind.expected()))
            }
        }
    }

    /// An amount of money, as text so that it is read exactly, or as a whole number.
    fn dollars(&mut self, at: &At, value: Value) -> Option<NanoUsd> {
        let text = match &value {
            Value::Num(_, number) => number.to_u128().map(|number| number.to_string()).unwrap_or_default(),
            _ => self.words(at, value)?.text,
        };
        match text.trim().parse().ok().filter(|amount| *amount >= NanoUsd::ZERO) {
            Some(amount) => Some(amount),
            None => self.refuse(at, format!("expected {}", at.key.kind.expected())),
        }
    }

    fn switch(&mut self, at: &At, value: Value) -> Option<bool> {
        if let Value::Bool(_, on) = value {
            return Some(on);
        }
        match self.loose(at, value)?.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Some(true),
            "false" | "0" | "no" | "off" => Some(false),
            _ => self.refuse(at, "expected true or false, found something else"),
        }
    }

    fn url(&mut self, at: &At, value: Value) -> Option<String> {
        let text = self.words(at, value)?.text.trim().to_owned();
        if text.is_empty() {
            return self.refuse(at, "it is empty");
        }
        // The kind does not matter to whether a URL is one.
        let settings = ProviderSettings {
            base_url: Some(text.clone()),
            ..ProviderSettings::new(ProviderType::OpenAiCompatible)
        };
        match settings.resolve_base_url() {
            Ok(_) => Some(text),
            Err(error) => self.refuse(at, error.problem),
        }
    }

    fn secret(&mut self, at: &At, value: Value) -> Option<SecretString> {
        let words = self.words(at, value)?;
        let text = words.text.trim();
        if text.is_empty() {
            return self.refuse(at, "it is empty");
        }
        if text.bytes().any(|byte| byte.is_ascii_control()) || !text.is_ascii() {
            return self.refuse(at, "it has characters that no header can carry");
        }
        Some(SecretString::from(text))
    }

    fn model(&mut self, at: &At, value: Value) -> Option<String> {
        let text = self.words(at, value)?.text;
        let problem = if text.is_empty() {
            "it is empty; `*` matches every model"
        } else if text.len() > MODEL_NAME_BYTES_MAX {
            "it is longer than any model name may be"
        } else if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            "it contains a space or a control character"
        } else {
            return Some(text);
        };
        self.refuse(at, problem)
    }

    fn word(&mut self, at: &At, value: Value) -> Option<String> {
        let text = self.words(at, value)?.text;
        if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return self.refuse(at, "it is empty, or has a space or a control character in it");
        }
        Some(text)
    }

    fn weight(&mut self, at: &At, value: Value) -> Option<u64> {
        self.whole(at, value, 0, keys::PRIORITY_MAX)
    }

    fn compression(&mut self, at: &At, value: Value) -> Option<Compression> {
        let text = self.words(at, value)?.text;
        if let Some(way) = Compression::parse(&text) {
            return Some(way);
        }
        let known = Compression::ALL.map(Compression::as_str);
        let problem = format!("expected one of `{}`, found `{text}`", known.join("`, `"));
        self.faults
            .push(Fault::new(at.place.clone(), at.path.as_str(), problem).meaning(nearest(&text, known)));
        None
    }

    fn web_origin(&mut self, at: &At, value: Value) -> Option<String> {
        let text = self.words(at, value)?.text;
        if text == "*" || is_origin(&text) {
            return Some(text);
        }
        self.refuse(
            at,
            "expected `*` or a scheme and a host such as \"https://app.example.com\", without a path",
        )
    }

    fn fidelity(&mut self, at: &At, value: Value) -> Option<Fidelity> {
        let text = self.words(at, value)?.text;
        if let Some(fidelity) = Fidelity::parse(&text) {
            return Some(fidelity);
        }
        let known = [Fidelity::Report, Fidelity::Strict, Fidelity::Silent].map(Fidelity::as_str);
        let problem = format!("expected {}, found `{text}`", at.key.kind.expected());
        self.faults
            .push(Fault::new(at.place.clone(), at.path.as_str(), problem).meaning(nearest(&text, known)));
        None
    }

    fn strategy(&mut self, at: &At, value: Value) -> Option<Strategy> {
        let text = self.words(at, value)?.text;
        if let Ok(strategy) = text.parse() {
            return Some(strategy);
        }
        let known = Strategy::ALL.map(Strategy::as_str);
        let problem = format!("expected {}, found `{text}`", at.key.kind.expected());
        let fault = Fault::new(at.place.clone(), at.path.as_str(), problem).meaning(nearest(&text, known));
        self.faults.push(fault);
        None
    }

    fn provider_type(&mut self, at: &At, value: Value) -> Option<ProviderType> {
        let text = self.words(at, value)?.text;
        match text.parse() {
            Ok(kind) => Some(kind),
            Err(error) => {
                let meant = nearest(&text, ProviderType::ALL.iter().map(|kind| kind.as_str()));
                let all =
                    "; `openai_compatible` with a `base_url` reaches any server that speaks OpenAI's dialect";
                let problem = format!("{error}{}", if meant.is_some() { "" } else { all });
                self.faults.push(Fault::new(at.place.clone(), at.path.as_str(), problem).meaning(meant));
                None
            }
        }
    }

    /// Text that a function takes.
    fn parsed<T>(&mut self, at: &At, value: Value, parse: impl FnOnce(String) -> Option<T>) -> Option<T> {
        let text = self.words(at, value)?.text;
        match parse(text) {
            Some(parsed) => Some(parsed),
            None => self.refuse(at, format!("expected {}", at.key.kind.expected())),
        }
    }

    /// A list whose elements are read by `element`. Faults of one hide neither those of the next nor what is wrong with
    /// the others together: with a fault it is what could be read.
    fn list<T>(
        &mut self,
        at: &At,
        value: Value,
        element: impl Fn(&mut Self, &At, Value) -> Option<T>,
    ) -> Option<Vec<T>> {
        let (values, quiet) = match value {
            Value::Array(_, values) => (values, false),
            _ => (list_in_text(&self.loose(at, value)?), true),
        };
        let mut elements = Vec::with_capacity(values.len());
        let mut complete = true;
        for (index, value) in values.into_iter().enumerate() {
            let path = if quiet { at.path.clone() } else { format!("{}[{index}]", at.path) };
            let place = match &at.place {
                Place::File { .. } => self.layers.place(value.tag(), &path),
                place => place.clone(),
            };
            match element(self, &At { key: at.key, path, place }, value) {
                Some(element) => elements.push(element),
                None => complete = false,
            }
        }
        (complete || !elements.is_empty()).then_some(elements)
    }

    /// Text, with its variables filled in if it is of the file.
    fn words(&mut self, at: &At, value: Value) -> Option<Words> {
        let Value::String(_, text) = value else {
            return self.mismatch(at, &value);
        };
        if !matches!(at.place, Place::File { .. }) {
            return Some(Words { text, loose: true });
        }
        match expand(&text, self.env) {
            Ok(expanded) => Some(Words { text: expanded.text, loose: expanded.from.is_some() }),
            Err(unresolved) => self.refuse(at, unresolved.to_string()),
        }
    }

    /// Text that stands for something else than text, which the file can say without quotes.
    fn loose(&mut self, at: &At, value: Value) -> Option<String> {
        let kept = value.clone();
        match self.words(at, value)? {
            Words { text, loose: true } => Some(text.trim().to_owned()),
            Words { loose: false, .. } => self.mismatch(at, &kept),
        }
    }

    /// A value of the wrong type: says which, not what.
    fn mismatch<T>(&mut self, at: &At, value: &Value) -> Option<T> {
        let element = at.path.ends_with(']');
        let expected = if element { "a string".to_owned() } else { at.key.kind.expected() };
        self.refuse(at, format!("expected {expected}, found {}", type_name(value)))
    }

    fn refuse<T>(&mut self, at: &At, problem: impl Into<String>) -> Option<T> {
        self.faults.push(Fault::new(at.place.clone(), at.path.as_str(), problem));
        None
    }
}

/// A window of a pool: a word, or `rolling` and seconds.
fn window(text: &str) -> Option<Window> {
    let calendar = [Window::None, Window::Minute, Window::Hour, Window::Day, Window::Week, Window::Month];
    if let Some(seconds) = text.strip_prefix("rolling ") {
        return seconds.trim().parse().ok().map(|seconds| Window::Rolling(Duration::from_secs(seconds)));
    }
    calendar.into_iter().find(|window| window.as_str() == text)
}

/// What a value is, in TOML's words.
pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::String(..) | Value::Char(..) => "a string",
        Value::Bool(..) => "true or false",
        Value::Num(_, number) if number.to_f64().is_some() => "a number with a fraction",
        Value::Num(..) => "a number",
        Value::Empty(..) => "a date",
        Value::Dict(..) => "a section",
        Value::Array(..) => "a list",
    }
}

/// A word without case and separators.
pub(crate) fn plain(word: &str) -> String {
    word.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

/// The section that does have such a key.
pub(crate) fn elsewhere(rows: &str, name: &str) -> Option<String> {
    keys::SECTIONS
        .iter()
        .map(|section| if *section == "providers" { "providers[]" } else { section })
        // These two take any name.
        .filter(|section| *section != rows && !matches!(*section, "aliases" | "strategies"))
        .find_map(|section| keys::find(section, name))
        .map(|key| key.path.to_owned())
}

/// A list written as one text: TOML's own form, or words between commas.
fn list_in_text(text: &str) -> Vec<Value> {
    #[derive(serde::Deserialize)]
    struct List {
        list: Vec<String>,
    }
    if text.starts_with('[')
        && let Ok(List { list }) = toml::from_str(&format!("list = {text}"))
    {
        return list.into_iter().map(Value::from).collect();
    }
    text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(Value::from).collect()
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MODEL_NAME_BYTES_MAX
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// Whether it is what a browser sends as `origin`: scheme, host, port.
fn is_origin(text: &str) -> bool {
    let host = text.split_once("://").map_or("", |(_, host)| host);
    let is_uri = text.parse::<Uri>().is_ok_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")));
    is_uri && !host.is_empty() && !host.contains(['/', '?', '#', '@'])
}

// === impl Section ===

macro_rules! getters {
    ($($getter:ident: $variant:ident => $type:ty,)*) => {
        /// The settings by type. `None`: not said and without default, or refused, which is a fault already.
        impl Section {
            $(pub(crate) fn $getter(&mut self, key: &str) -> Option<$type> {
                match self.settings.remove(key)? {
                    Setting::$variant(value) => Some(value),
                    _ => None,
                }
            })*
        }
    };
}

getters! {
    text: Text => String,
    secret: Secret => SecretString,
    secrets: Secrets => Vec<SecretString>,
    texts: Texts => Vec<String>,
    whole: Whole => u64,
    time: Time => Duration,
    switch: Switch => bool,
    address: Address => IpAddr,
    strategy: Strategy => Strategy,
    fidelity: Fidelity => Fidelity,
    numbers: Numbers => Vec<u64>,
    fraction: Fraction => f64,
    on_exhausted: OnExhausted => OnExhausted,
    reload: Reload => ReloadMode,
    durability: Durability => Durability,
    on_unpriced: OnUnpriced => OnUnpriced,
    context: Context => ContextPolicy,
    compress: Compress => Vec<Compression>,
    provider_type: ProviderType => ProviderType,
    pool: Pool => PoolId,
    window: Window => Window,
    pool_mode: PoolMode => Mode,
    dollars: Dollars => NanoUsd,
    time_zone: TimeZone => TimeZone,
}

impl Section {
    /// All strategies left, by key.
    pub(crate) fn into_strategies(self) -> impl Iterator<Item = (String, Strategy)> {
        self.settings.into_iter().filter_map(|(key, setting)| match setting {
            Setting::Strategy(strategy) => Some((key, strategy)),
            _ => None,
        })
    }

    /// All lists of texts left, by key.
    pub(crate) fn into_texts(self) -> impl Iterator<Item = (String, Vec<String>)> {
        self.settings.into_iter().filter_map(|(key, setting)| match setting {
            Setting::Texts(texts) => Some((key, texts)),
            _ => None,
        })
    }
}
