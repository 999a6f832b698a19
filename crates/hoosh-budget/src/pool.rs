//! What pools are, and which of them hang together.
//!
//! Says what a configuration may define. What is spent in a pool is [`Books`](crate::Books)'.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use hoosh_core::NanoUsd;
use hoosh_core::limits::{
    POOL_ALERTS_MAX, POOL_DEPTH_MAX, POOL_KIND_BYTES_MAX, POOL_NAME_BYTES_MAX, POOLS_DEFINED_MAX,
    ROLLING_WINDOW_MAX, ROLLING_WINDOW_MIN,
};
use jiff::tz::TimeZone;

use crate::amount::Capacity;
use crate::window::Window;

/// The name of a pool: what kind of thing has it, and which one. `team:search`, `key:k_1`, `user:alice`,
/// `model:gpt-4o`.
///
/// The kind is a word of at most 32 small letters, digits, `-` and `_`; usual ones are organisation, team, key, agent,
/// user, model and provider. The name is any text of 1 to 256 bytes without control characters. The name `*` is a
/// template's: it stands for every name of its kind that has no pool of its own.
///
/// Cheap to clone.
#[derive(Clone)]
pub struct PoolId {
    text: Arc<str>,
    kind_bytes: u8,
}

/// Text that names no pool.
///
/// A call that names such a pool must be refused, not let through without one: whoever calls could choose the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPoolId {
    /// There is no `kind:` before the name.
    #[error("`{0}` is not a pool: it has to be a kind and a name, like `team:search`")]
    NoKind(String),
    /// The kind is not a word.
    #[error("`{0}` is not a kind of pool: it has to be 1 to 32 of a-z, 0-9, - and _")]
    Kind(String),
    /// The name is empty.
    #[error("a {0} has no name")]
    NoName(String),
    /// The name is longer than 256 bytes.
    #[error("the name of a {kind} has {bytes} bytes, at most 256 can be kept")]
    LongName {
        /// Of which kind.
        kind: String,
        /// How long it is.
        bytes: usize,
    },
    /// The name has a control character in it.
    #[error("the name of a {0} has a control character in it")]
    Control(String),
    /// The name is `*`, which stands for all.
    #[error("`{0}:*` stands for all of its kind and is not the name of one")]
    Template(String),
}

/// What happens in a pool that has not enough left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Who asks for more than is left is refused. The default: a limit that does not hold is none.
    #[default]
    Hard,
    /// It is told and goes on.
    Soft,
}

/// How much may be spent by somebody, within which time.
///
/// ```
/// use hoosh_budget::{Capacity, PoolId, TokenPool, Window};
///
/// let team = TokenPool {
///     capacity: Capacity::money("250".parse()?),
///     window: Window::Month,
///     alerts: vec![80, 100],
///     ..TokenPool::new("team:search".parse()?)
/// };
/// let key = TokenPool { parent: Some(team.id.clone()), ..TokenPool::new("key:k_1".parse()?) };
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct TokenPool {
    /// Its name. With the name `*` it is a template: each name of that kind that has no pool gets one like it when it
    /// is first charged, so that somebody unknown is covered from the first call on.
    pub id: PoolId,
    /// The pool that is charged whenever this one is. Default: none. It cannot be a template.
    pub parent: Option<PoolId>,
    /// How much may be spent within its window. Default: without limit, which still counts.
    pub capacity: Capacity,
    /// When it begins anew. Default: never.
    pub window: Window,
    /// Where its minutes, hours, days, weeks and months begin. Default: UTC.
    pub time_zone: TimeZone,
    /// What happens when it has not enough left. Default: [`Mode::Hard`].
    pub mode: Mode,
    /// Percents of the capacity of which is told once in each window when so much is spent. Range: 1 to 255, at most 8
    /// of them. Default: none.
    pub alerts: Vec<u8>,
}

/// Pools that fit together: each parent is there, and no pool is its own ancestor.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PoolTree {
    pools: Vec<Arc<TokenPool>>,
}

/// Pools that do not fit together: everything that is wrong with them, not only the first.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", Lines(.faults))]
pub struct InvalidPools {
    /// In the order of the pools.
    pub faults: Vec<PoolFault>,
}

/// One thing that is wrong with a pool.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("pool `{pool}`: {problem}")]
pub struct PoolFault {
    /// Which.
    pub pool: PoolId,
    /// What.
    pub problem: PoolProblem,
}

/// What can be wrong with a pool.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PoolProblem {
    /// It is there twice.
    #[error("is defined twice")]
    Twice,
    /// Its parent is not defined.
    #[error("its parent `{0}` is not defined")]
    NoParent(PoolId),
    /// Its parent is a template.
    #[error("its parent `{0}` stands for many; name one pool")]
    ParentTemplate(PoolId),
    /// It is its own ancestor.
    #[error("is above itself")]
    Circle,
    /// It is too far below the top.
    #[error("is below {0} others, at most {max} can be above each other", max = POOL_DEPTH_MAX)]
    Depth(usize),
    /// Its capacity is less than nothing.
    #[error("a capacity of {0} is less than nothing")]
    NegativeMoney(NanoUsd),
    /// An alert at 0 percent.
    #[error("an alert at 0 percent would always be told; the least is 1")]
    AlertZero,
    /// Too many alerts.
    #[error("has {0} alerts, at most {max} are told apart", max = POOL_ALERTS_MAX)]
    Alerts(usize),
    /// A rolling window that is too short or too long.
    #[error("a rolling window of {0} ms has to be between 1 s and 366 days")]
    Rolling(u128),
    /// There are too many pools.
    #[error("is one too many: {0} are defined, at most {max} can be", max = POOLS_DEFINED_MAX)]
    TooMany(usize),
}

/// Faults, one after the other.
struct Lines<'a>(&'a [PoolFault]);

// === impl PoolId ===

/// The name that stands for all of its kind.
const ALL: &str = "*";

impl PoolId {
    /// The pool of one thing of a kind.
    ///
    /// # Errors
    ///
    /// If either is no name; `*` is none either. Whoever takes the name from a caller has to refuse the call then.
    pub fn new(kind: &str, name: &str) -> Result<Self, InvalidPoolId> {
        let id = Self::checked(kind, name)?;
        if id.is_template() { Err(InvalidPoolId::Template(kind.to_owned())) } else { Ok(id) }
    }

    /// The template of a kind.
    ///
    /// # Errors
    ///
    /// If the kind is no word.
    pub fn template(kind: &str) -> Result<Self, InvalidPoolId> {
        Self::checked(kind, ALL)
    }

    fn checked(kind: &str, name: &str) -> Result<Self, InvalidPoolId> {
        let is_word =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
        let Some(kind_bytes) = u8::try_from(kind.len())
            .ok()
            .filter(|_| (1..=POOL_KIND_BYTES_MAX).contains(&kind.len()) && kind.bytes().all(is_word))
        else {
            return Err(InvalidPoolId::Kind(kind.chars().take(POOL_KIND_BYTES_MAX).collect()));
        };
        if name.is_empty() {
            return Err(InvalidPoolId::NoName(kind.to_owned()));
        }
        if name.len() > POOL_NAME_BYTES_MAX {
            return Err(InvalidPoolId::LongName { kind: kind.to_owned(), bytes: name.len() });
        }
        if name.chars().any(char::is_control) {
            return Err(InvalidPoolId::Control(kind.to_owned()));
        }
        Ok(Self { text: format!("{kind}:{name}").into(), kind_bytes })
    }

    /// What kind of thing it belongs to.
    pub fn kind(&self) -> &str {
        self.text.get(..usize::from(self.kind_bytes)).unwrap_or_default()
    }

    /// Which thing of that kind.
    pub fn name(&self) -> &str {
        self.text.get(usize::from(self.kind_bytes) + 1..).unwrap_or_default()
    }

    /// Both, as `kind:name`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it stands for all of its kind.
    pub fn is_template(&self) -> bool {
        self.name() == ALL
    }
}

impl FromStr for PoolId {
    type Err = InvalidPoolId;

    /// `kind:name`, or `kind:*` for a template. What comes after the first `:` is the name.
    fn from_str(text: &str) -> Result<Self, InvalidPoolId> {
        let (kind, name) = text.split_once(':').ok_or_else(|| {
            InvalidPoolId::NoKind(
                text.chars().filter(|c| !c.is_control()).take(POOL_NAME_BYTES_MAX).collect(),
            )
        })?;
        Self::checked(kind, name)
    }
}

impl Borrow<str> for PoolId {
    fn borrow(&self) -> &str {
        &self.text
    }
}

impl PartialEq for PoolId {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for PoolId {}

impl PartialOrd for PoolId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for PoolId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}

impl Hash for PoolId {
    /// As its text, by which it is looked up.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl fmt::Display for PoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for PoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PoolId({})", self.text)
    }
}

// === impl Mode ===

impl Mode {
    /// One word for configurations and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hard => "hard",
            Self::Soft => "soft",
        }
    }
}

// === impl TokenPool ===

impl TokenPool {
    /// A pool without limit that never begins anew.
    #[must_use]
    pub fn new(id: PoolId) -> Self {
        Self {
            id,
            parent: None,
            capacity: Capacity::UNLIMITED,
            window: Window::None,
            time_zone: TimeZone::UTC,
            mode: Mode::Hard,
            alerts: Vec::new(),
        }
    }

    fn problems(&self, found: &mut Vec<PoolProblem>) {
        if let Some(money) = self.capacity.money.filter(|money| *money < NanoUsd::ZERO) {
            found.push(PoolProblem::NegativeMoney(money));
        }
        if self.alerts.contains(&0) {
            found.push(PoolProblem::AlertZero);
        }
        if self.alerts.len() > POOL_ALERTS_MAX {
            found.push(PoolProblem::Alerts(self.alerts.len()));
        }
        if let Window::Rolling(length) = self.window
            && !(ROLLING_WINDOW_MIN..=ROLLING_WINDOW_MAX).contains(&length)
        {
            found.push(PoolProblem::Rolling(length.as_millis()));
        }
    }
}

// === impl PoolTree ===

impl PoolTree {
    /// Puts pools together.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with them.
    pub fn new(pools: Vec<TokenPool>) -> Result<Self, InvalidPools> {
        let mut faults = Vec::new();
        if let Some(first_beyond) = pools.get(POOLS_DEFINED_MAX) {
            let problem = PoolProblem::TooMany(pools.len());
            return Err(InvalidPools { faults: vec![PoolFault { pool: first_beyond.id.clone(), problem }] });
        }
        let mut by_id: HashMap<&PoolId, &TokenPool> = HashMap::with_capacity(pools.len());
        let mut doubles = Vec::new();
        for (index, pool) in pools.iter().enumerate() {
            if by_id.insert(&pool.id, pool).is_some() {
                doubles.push(index);
            }
        }
        for (index, pool) in pools.iter().enumerate() {
            let mut problems = Vec::new();
            if doubles.contains(&index) {
                problems.push(PoolProblem::Twice);
            }
            pool.problems(&mut problems);
            problems.extend(above(pool, &by_id));
            faults.extend(problems.into_iter().map(|problem| PoolFault { pool: pool.id.clone(), problem }));
        }
        if !faults.is_empty() {
            return Err(InvalidPools { faults });
        }
        let sorted = |mut pool: TokenPool| {
            pool.alerts.sort_unstable();
            pool.alerts.dedup();
            Arc::new(pool)
        };
        Ok(Self { pools: pools.into_iter().map(sorted).collect() })
    }

    /// The pools, in the order they were given.
    pub fn pools(&self) -> impl Iterator<Item = &TokenPool> {
        self.pools.iter().map(Arc::as_ref)
    }

    pub(crate) fn shared(&self) -> &[Arc<TokenPool>] {
        &self.pools
    }
}

/// What is wrong with the way from a pool to the top.
fn above(pool: &TokenPool, by_id: &HashMap<&PoolId, &TokenPool>) -> Option<PoolProblem> {
    let mut depth = 0;
    let mut child = pool;
    while let Some(parent) = &child.parent {
        if *parent == pool.id {
            return Some(PoolProblem::Circle);
        }
        let is_own = depth == 0;
        depth += 1;
        match by_id.get(parent) {
            None => return is_own.then(|| PoolProblem::NoParent(parent.clone())),
            Some(found) if found.id.is_template() => {
                return is_own.then(|| PoolProblem::ParentTemplate(parent.clone()));
            }
            Some(found) => child = found,
        }
        if depth >= by_id.len() {
            return None; // a circle above it, which those in it are told of
        }
    }
    (depth >= POOL_DEPTH_MAX).then_some(PoolProblem::Depth(depth))
}

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            write!(f, "{}{fault}", if index > 0 { "; " } else { "" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
