//! What is done about a prompt that is longer than what a model reads.

/// What is done about a prompt that is longer than what a model reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum ContextPolicy {
    /// The model is not asked.
    #[default]
    Refuse,
    /// The oldest turns are left out, as many as needed.
    DropOldest,
    /// All but the last turns are left out, and more of them if that is needed.
    KeepLast,
    /// Turns in the middle are left out: the first and the last stay.
    MiddleOut,
    /// As the oldest, but a model's summary stands in their place.
    Summarise,
}

/// How a prompt is made shorter without leaving out a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Blanks at the ends of lines and all but one of several blank lines go, but not from what the model wrote.
    Whitespace,
    /// Of a long text that was sent more than once, the last stays.
    Duplicates,
    /// The result of a tool goes when the same tool was called with the same arguments later.
    StaleToolResults,
}

/// How prompts are brought into what a model reads. What is `None` is left to whoever comes next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContextRule {
    /// What is done about one that is too long. Default: [`ContextPolicy::Refuse`].
    pub policy: Option<ContextPolicy>,
    /// Turns that [`ContextPolicy::KeepLast`] keeps, from 1. Default:
    /// [`KEPT_TURNS`](crate::limits::KEPT_TURNS).
    pub keep_last: Option<u32>,
    /// The model that writes the summaries of [`ContextPolicy::Summarise`], by its name or alias.
    pub summarise_with: Option<String>,
    /// How every prompt is made shorter, too long or not. Default: not at all.
    pub compress: Option<Vec<Compression>>,
    /// What the model reads and writes at most, where the catalogue does not know it or the server was told less. Unit:
    /// tokens.
    pub window: Option<u64>,
}

/// A caller's word on it, which goes before a route's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContextWish {
    /// What is done about a prompt that is too long.
    pub policy: ContextPolicy,
    /// Turns that [`ContextPolicy::KeepLast`] keeps, if the caller says.
    pub keep_last: Option<u32>,
}

// === impl ContextPolicy ===

impl ContextPolicy {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Refuse, Self::DropOldest, Self::KeepLast, Self::MiddleOut, Self::Summarise];

    /// Its name in configuration, headers and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::DropOldest => "drop_oldest",
            Self::KeepLast => "keep_last",
            Self::MiddleOut => "middle_out",
            Self::Summarise => "summarise",
        }
    }

    /// Reads that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.as_str() == name)
    }
}

// === impl Compression ===

impl Compression {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Whitespace, Self::Duplicates, Self::StaleToolResults];

    /// Its name in configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Whitespace => "whitespace",
            Self::Duplicates => "duplicates",
            Self::StaleToolResults => "stale_tool_results",
        }
    }

    /// Reads that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == name)
    }
}

// === impl ContextRule ===

impl ContextRule {
    /// This rule, and what another says where this one says nothing.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        Self {
            policy: self.policy.or(other.policy),
            keep_last: self.keep_last.or(other.keep_last),
            summarise_with: self.summarise_with.clone().or_else(|| other.summarise_with.clone()),
            compress: self.compress.clone().or_else(|| other.compress.clone()),
            window: self.window.or(other.window),
        }
    }

    /// Whether prompts are looked at because of it: how many turns or whose summaries says nothing alone.
    pub fn acts(&self) -> bool {
        self.policy.is_some() || self.window.is_some() || self.compresses()
    }

    /// Whether every prompt is made shorter.
    pub fn compresses(&self) -> bool {
        self.compress.as_ref().is_some_and(|compress| !compress.is_empty())
    }
}

// === impl ContextWish ===

impl ContextWish {
    /// Reads it as a header has it: a policy's name, or `keep_last=N`.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, keep_last) = match text.split_once('=') {
            Some((name, turns)) => (name.trim(), Some(turns.trim().parse().ok().filter(|turns| *turns > 0)?)),
            None => (text, None),
        };
        let policy = ContextPolicy::parse(name)?;
        (keep_last.is_none() || policy == ContextPolicy::KeepLast).then_some(Self { policy, keep_last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for policy in ContextPolicy::ALL {
            assert_eq!(ContextPolicy::parse(policy.as_str()), Some(policy));
        }
        for compression in Compression::ALL {
            assert_eq!(Compression::parse(compression.as_str()), Some(compression));
        }
        let read = |text: &str| ContextWish::parse(text).map(|wish| (wish.policy, wish.keep_last));
        assert_eq!(read("keep_last = 4"), Some((ContextPolicy::KeepLast, Some(4))));
        assert_eq!(read("summarise"), Some((ContextPolicy::Summarise, None)));
        assert_eq!(
            (read("keep_last=0"), read("refuse=1"), read("forget"), read("")),
            (None, None, None, None)
        );
    }

    #[test]
    fn a_rule_says_what_the_one_before_leaves_open() {
        let all =
            ContextRule { policy: Some(ContextPolicy::DropOldest), keep_last: Some(3), ..Default::default() };
        let own =
            ContextRule { policy: Some(ContextPolicy::Refuse), compress: Some(vec![]), ..Default::default() };
        let both = own.or(&all);
        assert_eq!((both.policy, both.keep_last), (Some(ContextPolicy::Refuse), Some(3)));
        assert!(both.acts() && !ContextRule { keep_last: Some(3), ..Default::default() }.acts());
    }
}
