//! What a call costs at the time that it is made: the built-in catalogue's prices, and a user's own over them.
//!
//! Decides which of several prices is a call's. Which prices there are the [`catalog`](crate::catalog) and the user say,
//! and what a price comes to for some tokens [`Price`] does. Usage is what is kept; money is derived from it here, so that
//! it can be derived again when a price turns out to have been wrong.
//!
//! **Invariant:** what is not known is `None` and never zero. A price of zero is one that somebody wrote.
//!
//! # Which price is it?
//!
//! 1. The user's for the provider by its name, then by its type, then for `*`, any that is not local.
//! 2. Of those for the same provider: one for the model's whole name (or what is left of it without Google's `models/`,
//!    Ollama's `:latest` or a date, as in the catalogue), then the longer prefix (`gpt-4o*`), then the longer of other
//!    patterns, then `*`. One that does not hold at the time is as if it were not there.
//! 3. Nothing, for a model on this machine or network.
//! 4. The catalogue's, by the provider's type.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::catalog::{Catalog, spellings};
use crate::limits;
use crate::money::{Adjustment, NanoUsd, Price, Rates, Tier};
use crate::pattern::{self, Index, Specificity};
use crate::provider::LlmProvider;
use crate::usage::Usage;

/// Prices by provider, model and time.
///
/// Immutable once read. A look-up allocates nothing; without prices of a user's it is that of the catalogue, one hash for
/// the provider and one for the model.
///
/// ```
/// use hoosh_core::prices::{PriceEntry, PriceTable, Seller};
/// use hoosh_core::{Price, Usage};
///
/// let mine = PriceEntry::new("groq", "llama-*", Price::flat("0.05".parse()?, "0.08".parse()?));
/// let table = PriceTable::new(vec![mine]).map_err(|faults| faults[0].to_string())?;
/// let groq = Seller { name: "groq", kind: "groq", is_local: false };
/// let usage = Usage { input: Some(1_000), output: Some(100), ..Usage::default() };
/// let cost = table.cost(groq, "llama-3.1-8b-instant", &usage, 1_795_564_800);
/// assert_eq!(cost.map(|cost| cost.to_string()).as_deref(), Some("$0.000058000"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Default)]
pub struct PriceTable {
    /// `None`: the user has no prices of their own.
    book: Option<Box<Book>>,
}

/// One price of a user's, as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceEntry {
    /// A provider's name or type; `*` for any that is not local.
    pub provider: String,
    /// The model, or a [pattern] of models.
    pub model: String,
    /// When it begins to hold. Unit: seconds since 1970, UTC. Default: it always has.
    pub from: Option<u64>,
    /// From when on it holds no more. Unit: the same. Default: it does until another is written.
    pub until: Option<u64>,
    /// What calls cost.
    pub price: Price,
    /// Where it is written.
    pub place: PricePlace,
}

/// Where a price of a user's is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PricePlace {
    /// The file.
    pub file: Arc<str>,
    /// The line, from 1. 0: it is not of a file.
    pub line: usize,
}

/// What is wrong with a price of a user's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("price {entry}: {key}: {problem}")]
pub struct PriceFault {
    /// Which, by its place in the list.
    pub entry: usize,
    /// Of what in it: `model`, `tiers[1].above`.
    pub key: String,
    /// What is wrong with that.
    pub problem: PriceProblem,
}

/// What can be wrong with a price of a user's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PriceProblem {
    /// There is no provider.
    #[error("it is empty; `*` is any provider that is not local")]
    NoProvider,
    /// The model is no name and no pattern.
    #[error("{0}")]
    Pattern(&'static str),
    /// It ends before it begins.
    #[error("it is not after `from`, so that the price never holds")]
    NeverHolds,
    /// Another price of the same provider and model holds at the same time.
    #[error(
        "the price for the same provider and model at {0} holds at the same time; end one of them by `until`"
    )]
    Overlaps(PricePlace),
    /// The tiers do not ascend.
    #[error("it is not above the tier before it")]
    TierOrder,
    /// There are too many tiers.
    #[error("there are more than {} tiers", limits::PRICE_TIERS_MAX)]
    Tiers,
    /// The hours are on no day.
    #[error("there is no day in it")]
    NoDay,
    /// The hours begin at no time of the day, or end at none.
    #[error("it is no time of the day")]
    NoTime,
    /// Some hours are among others.
    #[error("some of it is among the hours before it")]
    HoursOverlap,
    /// There are too many hours.
    #[error("there are more than {} of them", limits::PRICE_HOURS_MAX)]
    Hours,
    /// There are too many prices.
    #[error("there are more than {} prices", limits::PRICES_MAX)]
    TooMany,
}

/// Who asks for money: a provider, as its prices are looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seller<'a> {
    /// Its name in the configuration.
    pub name: &'a str,
    /// Its type, which is its name in the catalogue.
    pub kind: &'a str,
    /// Whether it is on this machine or network, where nobody asks for money per token unless the user says so.
    pub is_local: bool,
}

/// A price that was found.
#[derive(Debug, Clone, Copy)]
pub struct Priced<'a> {
    /// What calls cost.
    pub price: &'a Price,
    /// At which time. Unit: seconds since 1970, UTC.
    pub at: u64,
    /// Where it is from.
    pub source: PriceSource<'a>,
}

/// Where a price is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PriceSource<'a> {
    /// The user's file.
    User(&'a PricePlace),
    /// The built-in catalogue.
    Catalog,
    /// Nobody: it is of a model on this machine or network, whose tokens nobody bills.
    Local,
}

/// What is done about a call whose price is not known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnUnpriced {
    /// Nothing.
    Allow,
    /// It is logged, once for each model. The default: nobody is kept from a model that is too new for the catalogue, and
    /// whoever looks at the costs learns what they leave out.
    #[default]
    Warn,
    /// The provider is not asked.
    Block,
}

/// The prices of a user's.
#[derive(Debug)]
struct Book {
    /// By provider and model, then by time.
    entries: Vec<PriceEntry>,
    /// By the provider that an entry names, `*` too.
    shelves: HashMap<String, Index<Listed>>,
}

/// The entries of one provider for one pattern.
#[derive(Debug, Clone)]
struct Listed {
    range: Range<usize>,
    pattern_len: usize,
    /// Where the first of them was in the list: of equals, that one counts.
    place: usize,
}

/// What stands for every provider.
const ANY: &str = "*";

/// What a model on this machine costs.
static NOTHING: Price = Price {
    rates: Rates {
        input: NanoUsd::ZERO,
        cache_read: None,
        cache_write_5m: None,
        cache_write_1h: None,
        output: NanoUsd::ZERO,
        output_reasoned: None,
        reasoning: None,
        audio_in: None,
        audio_out: None,
    },
    tiers: Vec::new(),
    request: None,
    batch: None,
    flex: None,
    priority: Some(Adjustment::Times(crate::money::Factor::ONE)),
    hours: Vec::new(),
};

// === impl PriceTable ===

impl PriceTable {
    /// The built-in catalogue's prices, and these over them.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with them, in their order.
    pub fn new(entries: Vec<PriceEntry>) -> Result<Self, Vec<PriceFault>> {
        if entries.is_empty() {
            return Ok(Self::default());
        }
        let mut faults = Vec::new();
        if entries.len() > limits::PRICES_MAX {
            let entry = limits::PRICES_MAX;
            faults.push(PriceFault { entry, key: String::new(), problem: PriceProblem::TooMany });
        }
        for (at, entry) in entries.iter().enumerate() {
            entry.check(|key, problem| faults.push(PriceFault { entry: at, key, problem }));
        }
        let book = Book::new(entries, &mut faults);
        faults.sort_by_key(|fault| fault.entry);
        if faults.is_empty() { Ok(Self { book: Some(Box::new(book)) }) } else { Err(faults) }
    }

    /// What a model costs there at a time (seconds since 1970, UTC). `None`: that is not known.
    pub fn price_at(&self, seller: Seller<'_>, model: &str, at: u64) -> Option<Priced<'_>> {
        if let Some(entry) = self.book.as_ref().and_then(|book| book.entry(seller, model, at)) {
            return Some(Priced { price: &entry.price, at, source: PriceSource::User(&entry.place) });
        }
        if seller.is_local {
            return Some(Priced { price: &NOTHING, at, source: PriceSource::Local });
        }
        let price = Catalog::builtin().price_at(seller.kind, model, at)?;
        Some(Priced { price, at, source: PriceSource::Catalog })
    }

    /// What a call cost there that was made at a time. `None`: that is not known.
    pub fn cost(&self, seller: Seller<'_>, model: &str, usage: &Usage, at: u64) -> Option<NanoUsd> {
        self.price_at(seller, model, at)?.cost(usage)
    }
}

impl fmt::Debug for PriceTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = self.book.as_ref().map_or(0, |book| book.entries.len());
        write!(f, "PriceTable({own} over the catalogue's)")
    }
}

// === impl Book ===

impl Book {
    fn new(entries: Vec<PriceEntry>, faults: &mut Vec<PriceFault>) -> Self {
        let mut sorted: Vec<(usize, PriceEntry)> = entries.into_iter().enumerate().collect();
        sorted.sort_by(|(_, a), (_, b)| {
            (&a.provider, &a.model, a.begins()).cmp(&(&b.provider, &b.model, b.begins()))
        });
        let is_of_one = |a: &(usize, PriceEntry), b: &(usize, PriceEntry)| {
            a.1.provider == b.1.provider && a.1.model == b.1.model
        };
        let mut shelves: BTreeMap<&str, Vec<(&str, Listed)>> = BTreeMap::new();
        let mut start = 0;
        for group in sorted.chunk_by(is_of_one) {
            for pair in group.windows(2) {
                let [(first, one), (second, other)] = pair else { continue };
                if one.ends() > other.begins() {
                    // Told of the one that is written later.
                    let (entry, place) =
                        if first < second { (*second, &one.place) } else { (*first, &other.place) };
                    let problem = PriceProblem::Overlaps(place.clone());
                    faults.push(PriceFault { entry, key: "from".to_owned(), problem });
                }
            }
            let range = start..start + group.len();
            start = range.end;
            let Some((_, one)) = group.first() else { continue };
            let place = group.iter().map(|(place, _)| *place).min().unwrap_or_default();
            let listed = Listed { range, pattern_len: one.model.len(), place };
            shelves.entry(&one.provider).or_default().push((&one.model, listed));
        }
        let shelves = shelves.into_iter().map(|(name, listed)| (name.to_owned(), Index::new(listed)));
        let shelves = shelves.collect();
        Self { entries: sorted.into_iter().map(|(_, entry)| entry).collect(), shelves }
    }

    fn entry(&self, seller: Seller<'_>, model: &str, at: u64) -> Option<&PriceEntry> {
        let any = (!seller.is_local).then_some(ANY);
        let names = [Some(seller.name), Some(seller.kind), any].into_iter().flatten();
        names.filter_map(|name| self.shelves.get(name)).find_map(|shelf| self.on(shelf, model, at))
    }

    /// The one that counts of those for one provider.
    fn on(&self, shelf: &Index<Listed>, model: &str, at: u64) -> Option<&PriceEntry> {
        let mut spelled = spellings(model).into_iter().flat_map(|name| shelf.spelled(name));
        if let Some(entry) = spelled.find_map(|listed| self.at(listed, at)) {
            return Some(entry);
        }
        let mut best = None;
        shelf.find(model, |specificity, listed| {
            if specificity == Specificity::Exact {
                return;
            }
            let Some(entry) = self.at(listed, at) else { return };
            let rank = (specificity, Reverse(listed.pattern_len), listed.place);
            if best.as_ref().is_none_or(|(before, _)| rank < *before) {
                best = Some((rank, entry));
            }
        });
        best.map(|(_, entry)| entry)
    }

    fn at(&self, listed: &Listed, at: u64) -> Option<&PriceEntry> {
        let entries = &self.entries[listed.range.clone()];
        let begun = entries.partition_point(|entry| entry.begins() <= at);
        entries[..begun].last().filter(|entry| at < entry.ends())
    }
}

// === impl PriceEntry ===

impl PriceEntry {
    /// A price that always holds and is of no file.
    pub fn new(provider: impl Into<String>, model: impl Into<String>, price: Price) -> Self {
        let place = PricePlace { file: "".into(), line: 0 };
        Self { provider: provider.into(), model: model.into(), from: None, until: None, price, place }
    }

    fn begins(&self) -> u64 {
        self.from.unwrap_or(0)
    }

    fn ends(&self) -> u64 {
        self.until.unwrap_or(u64::MAX)
    }

    fn check(&self, mut fault: impl FnMut(String, PriceProblem)) {
        if self.provider.is_empty() {
            fault("provider".to_owned(), PriceProblem::NoProvider);
        }
        if let Some(problem) = pattern::fault(&self.model) {
            fault("model".to_owned(), PriceProblem::Pattern(problem));
        }
        if self.begins() >= self.ends() {
            fault("until".to_owned(), PriceProblem::NeverHolds);
        }
        let Price { tiers, batch, flex, priority, hours, .. } = &self.price;
        check_tiers("", tiers, &mut fault);
        for (name, adjustment) in [("batch", batch), ("flex", flex), ("priority", priority)] {
            if let Some(Adjustment::Rates { tiers, .. }) = adjustment {
                check_tiers(&format!("{name}."), tiers, &mut fault);
            }
        }
        if hours.len() > limits::PRICE_HOURS_MAX {
            return fault("hours".to_owned(), PriceProblem::Hours);
        }
        for (at, one) in hours.iter().enumerate() {
            let path = format!("hours[{at}]");
            if let Adjustment::Rates { tiers, .. } = &one.prices {
                check_tiers(&format!("{path}."), tiers, &mut fault);
            }
            if one.from >= MINUTES_PER_DAY {
                fault(format!("{path}.from"), PriceProblem::NoTime);
            } else if one.until > MINUTES_PER_DAY {
                fault(format!("{path}.until"), PriceProblem::NoTime);
            } else if one.days.is_empty() {
                fault(format!("{path}.days"), PriceProblem::NoDay);
            } else if hours[..at].iter().any(|before| before.overlaps(one)) {
                fault(path, PriceProblem::HoursOverlap);
            }
        }
    }
}

const MINUTES_PER_DAY: u16 = 1_440;

fn check_tiers(path: &str, tiers: &[Tier], fault: &mut impl FnMut(String, PriceProblem)) {
    if tiers.len() > limits::PRICE_TIERS_MAX {
        fault(format!("{path}tiers"), PriceProblem::Tiers);
    }
    for (at, pair) in tiers.windows(2).enumerate() {
        if pair[0].above >= pair[1].above {
            fault(format!("{path}tiers[{}].above", at + 1), PriceProblem::TierOrder);
        }
    }
}

// === impl Priced and others ===

impl Priced<'_> {
    /// What a call cost. `None`: not what one costs that was served as this one was.
    pub fn cost(&self, usage: &Usage) -> Option<NanoUsd> {
        self.price.cost_at(usage, self.at)
    }
}

impl<'a> From<&'a dyn LlmProvider> for Seller<'a> {
    fn from(provider: &'a dyn LlmProvider) -> Self {
        let (name, kind) = (provider.name(), provider.provider_type().as_str());
        Self { name, kind, is_local: provider.is_local() }
    }
}

impl fmt::Display for PricePlace {
    /// `prices.toml:12`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

impl fmt::Display for PriceSource<'_> {
    /// `prices.toml:12`, `catalogue`, `local`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(place) => write!(f, "{place}"),
            Self::Catalog => f.write_str("catalogue"),
            Self::Local => f.write_str("local"),
        }
    }
}

impl OnUnpriced {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Allow, Self::Warn, Self::Block];

    /// Its name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Warn => "warn",
            Self::Block => "block",
        }
    }

    /// Reads a name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == text)
    }
}

#[cfg(test)]
mod tests;
