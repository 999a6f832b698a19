//! Model patterns, and which of many match a name.
//!
//! Decides what a pattern may look like, how specific it is, and finds the matching ones without looking at the rest.
//! What a match means is whoever's it is: routes, strategies and prices have patterns.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use wildmatch::WildMatch;

use crate::limits::MODEL_NAME_BYTES_MAX;

/// How much of a name a pattern spells out; what is more specific is less in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Specificity {
    /// The whole name.
    Exact,
    /// `llama*`: this many bytes of it.
    Prefix(Reverse<usize>),
    /// `*-mini`, `a?b*`: something that has no simple measure.
    Glob,
    /// `*`: nothing.
    Any,
}

/// Patterns with something attached, in a form that finds the matching ones quickly.
///
/// ```
/// use hoosh_core::pattern::{Index, Specificity};
///
/// let index = Index::new([("gpt-4o*", 1), ("*", 2)]);
/// let mut found = Vec::new();
/// index.find("gpt-4o-mini", |specificity, value| found.push((specificity, *value)));
/// assert_eq!(found.iter().min().map(|(_, value)| *value), Some(1));
/// ```
#[derive(Debug)]
pub struct Index<T> {
    exact: HashMap<Box<str>, Vec<T>>,
    /// Sorted by text, so that one binary search finds where a name belongs.
    prefixes: Vec<Prefix<T>>,
    globs: Vec<Glob<T>>,
}

/// What a pattern is once it is read.
enum Shape<'a> {
    Exact,
    Prefix(&'a str),
    Glob,
}

#[derive(Debug)]
struct Prefix<T> {
    text: Box<str>,
    /// The longest other prefix that this one begins with.
    parent: Option<usize>,
    values: Vec<T>,
}

#[derive(Debug)]
struct Glob<T> {
    /// What stands before its first wildcard and behind its last: two short comparisons rule most names out.
    head: Box<str>,
    tail: Box<str>,
    matcher: WildMatch,
    value: T,
}

/// What is wrong with a pattern, if anything.
pub fn fault(pattern: &str) -> Option<&'static str> {
    if pattern.is_empty() {
        Some("it is empty; `*` matches every model")
    } else if pattern.len() > MODEL_NAME_BYTES_MAX {
        Some("it is longer than any model name may be")
    } else if pattern.contains(|c: char| c.is_whitespace() || c.is_control()) {
        Some("it contains a space or a control character")
    } else if pattern.contains(['[', ']', '{', '}', '\\', '^', '$', '|']) {
        Some("only `*` (any text) and `?` (one character) are special in a pattern")
    } else {
        None
    }
}

// === impl Shape ===

impl<'a> Shape<'a> {
    fn parse(pattern: &'a str) -> Self {
        match pattern.find(['*', '?']) {
            None => Self::Exact,
            Some(at) if pattern[at..].bytes().all(|byte| byte == b'*') => Self::Prefix(&pattern[..at]),
            Some(_) => Self::Glob,
        }
    }
}

// === impl Index ===

impl<T> Index<T> {
    /// These, which [`fault`] has nothing to say against; one that it would refuse is compared as it is.
    pub fn new<'a>(patterns: impl IntoIterator<Item = (&'a str, T)>) -> Self {
        let mut exact: HashMap<Box<str>, Vec<T>> = HashMap::new();
        let mut by_prefix: BTreeMap<&str, Vec<T>> = BTreeMap::new();
        let mut globs = Vec::new();
        for (pattern, value) in patterns {
            match Shape::parse(pattern) {
                Shape::Exact => exact.entry(pattern.into()).or_default().push(value),
                Shape::Prefix(prefix) => by_prefix.entry(prefix).or_default().push(value),
                Shape::Glob => globs.push(Glob::new(pattern, value)),
            }
        }
        let mut prefixes: Vec<Prefix<T>> = Vec::with_capacity(by_prefix.len());
        for (text, values) in by_prefix {
            let parent = longest(&prefixes, prefixes.len().checked_sub(1), text);
            prefixes.push(Prefix { text: text.into(), parent, values });
        }
        Self { exact, prefixes, globs }
    }

    /// Whether a pattern without wildcards is this name.
    pub fn spells(&self, name: &str) -> bool {
        self.exact.contains_key(name)
    }

    /// What is attached to the patterns without wildcards that are this name.
    pub fn spelled(&self, name: &str) -> &[T] {
        self.exact.get(name).map_or(&[], Vec::as_slice)
    }

    /// The names spelled out by patterns without wildcards, in no order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.exact.keys().map(Box::as_ref)
    }

    /// Calls `found` for each pattern that matches the name.
    pub fn find(&self, name: &str, mut found: impl FnMut(Specificity, &T)) {
        for value in self.exact.get(name).into_iter().flatten() {
            found(Specificity::Exact, value);
        }
        let place = self.prefixes.partition_point(|prefix| *prefix.text <= *name);
        let mut next = longest(&self.prefixes, place.checked_sub(1), name);
        while let Some(prefix) = next.map(|at| &self.prefixes[at]) {
            let specificity = match prefix.text.len() {
                0 => Specificity::Any,
                bytes => Specificity::Prefix(Reverse(bytes)),
            };
            prefix.values.iter().for_each(|value| found(specificity, value));
            next = prefix.parent;
        }
        for glob in &self.globs {
            if glob.matches(name) {
                found(Specificity::Glob, &glob.value);
            }
        }
    }
}

/// The longest prefix that `text` begins with, given the last one that is not behind `text` in the order.
///
/// Whatever `text` begins with sorts before that last one, and between a beginning of `text` and `text` itself there are
/// only texts that begin the same way. So the last one begins with it too, and its chain of parents holds it.
fn longest<T>(prefixes: &[Prefix<T>], last: Option<usize>, text: &str) -> Option<usize> {
    let mut next = last;
    while let Some(at) = next {
        if text.starts_with(&*prefixes[at].text) {
            return Some(at);
        }
        next = prefixes[at].parent;
    }
    None
}

// === impl Glob ===

impl<T> Glob<T> {
    fn new(pattern: &str, value: T) -> Self {
        let wild = ['*', '?'];
        let head = pattern.find(wild).map_or(pattern, |at| &pattern[..at]);
        let tail = pattern.rfind(wild).map_or("", |at| &pattern[at + 1..]);
        Self { head: head.into(), tail: tail.into(), matcher: WildMatch::new(pattern), value }
    }

    fn matches(&self, name: &str) -> bool {
        begins(name.bytes(), self.head.bytes())
            && begins(name.bytes().rev(), self.tail.bytes().rev())
            && self.matcher.matches(name)
    }
}

/// `starts_with`, byte by byte: nearly all of these end at the first byte, and a call to `memcmp` that finds that out
/// cost ten times as much (`benches/plan.rs`).
fn begins(mut text: impl Iterator<Item = u8>, mut start: impl Iterator<Item = u8>) -> bool {
    start.all(|byte| text.next() == Some(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(patterns: &[&'static str], name: &str, expect: &[&str]) {
        let index = Index::new(patterns.iter().map(|&pattern| (pattern, pattern)));
        let mut found = Vec::new();
        index.find(name, |specificity, &pattern| found.push((specificity, pattern)));
        found.sort();
        let found: Vec<_> = found.into_iter().map(|(_, pattern)| pattern).collect();
        assert_eq!(found, expect, "{name} among {patterns:?}");
    }

    #[test]
    fn what_spells_out_more_comes_first() {
        let all = ["*", "*-mini", "gpt-4o*", "g*", "gpt-4o-mini", "gpt-*", "gpt-?o*"];
        check(&all, "gpt-4o-mini", &["gpt-4o-mini", "gpt-4o*", "gpt-*", "g*", "*-mini", "gpt-?o*", "*"]);
        check(&all, "gpt-4o", &["gpt-4o*", "gpt-*", "g*", "gpt-?o*", "*"]);
        check(&all, "gpt-4", &["gpt-*", "g*", "*"]);
        check(&all, "llama3", &["*"]);
    }

    #[test]
    fn a_prefix_is_found_behind_others_that_do_not_match() {
        check(&["a*", "ab*", "abc*", "abd*"], "abe", &["ab*", "a*"]);
        check(&["a*", "aab*", "ab*"], "aac", &["a*"]);
        check(&["b*"], "a", &[]);
        check(&["b*"], "c", &[]);
    }

    #[test]
    fn a_prefix_matches_itself() {
        check(&["llama*"], "llama", &["llama*"]);
        check(&["*"], "", &["*"]);
        check(&["llama**"], "llama3", &["llama**"]);
    }

    #[test]
    fn a_question_mark_is_one_character_of_any_length() {
        check(&["a?c"], "aéc", &["a?c"]);
        check(&["a?c"], "ac", &[]);
        check(&["é*"], "éa", &["é*"]);
    }

    #[test]
    fn head_and_tail_may_not_share_a_letter() {
        check(&["a*a"], "a", &[]);
        check(&["a*a"], "aa", &["a*a"]);
    }

    #[test]
    fn a_pattern_of_another_language_is_refused() {
        for pattern in ["", "llama[0-9]", "^llama", "gpt-{3,4}", "a b", "llama\n"] {
            assert!(fault(pattern).is_some(), "{pattern:?}");
        }
        for pattern in ["*", "llama*", "meta-llama/Llama-3.1-8B:free", "a?b", "hf.co/x@q4_k_m", "gpt-4(1)"] {
            assert_eq!(fault(pattern), None, "{pattern:?}");
        }
    }
}
