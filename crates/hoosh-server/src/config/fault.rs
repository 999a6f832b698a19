//! What is wrong with a configuration, and where it says so.
//!
//! A value is never quoted unless its key can hold no secret: faults end up in logs and bug reports.

use std::fmt;

use serde_json::{Value, json};

/// Where a setting comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Nobody said: the built-in default.
    Default,
    /// A configuration file.
    File {
        /// Its name as it was given.
        file: String,
        /// The line, from 1; `None` for the file as a whole.
        line: Option<usize>,
    },
    /// An environment variable, by its name.
    Variable(String),
    /// A flag of the command line, dashes included.
    Flag(&'static str),
    /// Something that answered on this machine, by its address.
    Found(String),
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where it is written.
    pub place: Place,
    /// The key, such as `providers[0].priority`; empty if the whole file or variable is meant.
    pub key: String,
    /// What is wrong, and what would be right.
    pub problem: String,
    /// What was probably meant.
    pub meant: Option<String>,
}

/// Everything that is wrong with a configuration, not only the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    /// The faults, at least one, in the order of the file and then of the other places.
    pub faults: Vec<Fault>,
}

/// How alike a word and a known one must be to be taken for a slip, from 0 to 1.
///
/// `strateggy` and `strategy` are 0.97 alike, `prot` and `port` 0.93, `bind` and `enabled` 0.61.
const LIKENESS_MIN: f64 = 0.8;

/// The known word that was probably meant, if any is near.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| -> String {
        text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
    };
    let wanted = plain(word);
    let likeness = |candidate: &str| {
        let candidate = plain(candidate);
        // `url` for `base_url` and `key` for `api_key` are no slips of letters, but plainly mean them.
        let part = wanted.len() >= 3 && candidate.contains(&wanted);
        strsim::jaro_winkler(&wanted, &candidate).max(if part { LIKENESS_MIN } else { 0.0 })
    };
    known
        .into_iter()
        .map(|candidate| (likeness(candidate), candidate))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        // Of equals the first, which is the one that stands first in the documentation.
        .reduce(|best, next| if next.0 > best.0 { next } else { best })
        .map(|(_, candidate)| candidate)
}

// === impl Place ===

impl Place {
    /// Sorts faults and warnings as a reader would look for them.
    pub(crate) fn rank(&self) -> (u8, usize, &str) {
        match self {
            Self::File { line, file } => (0, line.unwrap_or(0), file),
            Self::Variable(name) => (1, 0, name),
            Self::Flag(flag) => (2, 0, flag),
            Self::Found(_) | Self::Default => (3, 0, ""),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { file, line: Some(line) } => write!(f, "{file}:{line}"),
            Self::File { file, line: None } => f.write_str(file),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Flag(flag) => f.write_str(flag),
            Self::Found(address) => write!(f, "found at {address}"),
        }
    }
}

// === impl Fault ===

impl Fault {
    /// This is wrong at this key.
    pub(crate) fn new(place: Place, key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { place, key: key.into(), problem: problem.into(), meant: None }
    }

    /// The same, with what was probably meant.
    pub(crate) fn meaning<S: Into<String>>(self, meant: Option<S>) -> Self {
        Self { meant: meant.map(Into::into), ..self }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        // A variable's or flag's name says the key already.
        if matches!(self.place, Place::File { .. } | Place::Default) && !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.problem)?;
        match &self.meant {
            Some(meant) => write!(f, "; did you mean `{meant}`?"),
            None => Ok(()),
        }
    }
}

// === impl ConfigErrors ===

impl ConfigErrors {
    /// All of them in reading order.
    pub(crate) fn new(mut faults: Vec<Fault>) -> Self {
        faults.sort_by(|one, other| one.place.rank().cmp(&other.place.rank()));
        Self { faults }
    }

    /// Each with its parts, for editors and programs.
    pub(crate) fn to_json(&self) -> Value {
        let fault = |fault: &Fault| {
            let (file, line) = match &fault.place {
                Place::File { file, line } => (Some(file), *line),
                _ => (None, None),
            };
            json!({
                "message": fault.to_string(),
                "file": file,
                "line": line,
                "key": fault.key,
                "problem": fault.problem,
                "did_you_mean": fault.meant,
            })
        };
        self.faults.iter().map(fault).collect()
    }
}

impl From<Fault> for ConfigErrors {
    fn from(fault: Fault) -> Self {
        Self { faults: vec![fault] }
    }
}

impl fmt::Display for ConfigErrors {
    /// One fault a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            write!(f, "{}{fault}", if index == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_the_key_meant_and_a_stranger_none() {
        let known =
            ["type", "name", "base_url", "api_key", "priority", "models", "enabled", "max_tokens_limit"];
        for (word, expect) in [
            ("baseurl", Some("base_url")),
            ("url", Some("base_url")),
            ("apikey", Some("api_key")),
            ("API_KEY", Some("api_key")),
            ("model", Some("models")),
            ("prority", Some("priority")),
            ("tpye", Some("type")),
            ("weight", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known), expect, "{word}");
        }
    }
}
