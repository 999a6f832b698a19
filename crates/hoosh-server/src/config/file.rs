//! The configuration file: which one, what is in it, and on which line.
//!
//! It is parsed here and not by figment, whose parser keeps no lines and stops at the first mistake.

use std::collections::BTreeMap;
use std::mem;
use std::path::{Path, PathBuf};

use figment::value::{Dict, Empty, Num, Tag, Value};
use toml::Spanned;
use toml::de::{DeArray, DeInteger, DeTable, DeValue};

use super::fault::{ConfigErrors, Fault, Place};
use super::prices::{self, Prices};
use super::{FILE_NAME, FileRead, LoadOptions};

/// A parsed configuration file.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) read: FileRead,
    /// Without its prices.
    pub(crate) values: Dict,
    lines: Lines,
    prices: Prices,
}

/// A file's name, and the line of each of its keys and list elements by its path.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lines {
    file: String,
    lines: BTreeMap<String, usize>,
}

/// Makes figment values of TOML values and notes where they were.
struct Walk<'a> {
    text: &'a str,
    lines: BTreeMap<String, usize>,
}

/// Path of a key below another one, written as TOML would.
pub(crate) fn join(path: &str, key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    let key = if bare { key.to_owned() } else { format!("{key:?}") };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

// === impl File ===

impl File {
    /// The file to read, if there is one: the flag's, `HOOSH_CONFIG`'s, `hoosh.toml` here, or the user's own.
    ///
    /// A file that somebody named must be there; the others need not.
    pub(crate) fn find(options: &LoadOptions) -> Option<(PathBuf, Place)> {
        if let Some(path) = &options.file {
            return Some((path.clone(), Place::Flag("--config")));
        }
        if let Some(path) = options.env.filled("HOOSH_CONFIG") {
            return Some((path.into(), Place::Variable("HOOSH_CONFIG".to_owned())));
        }
        let env = &options.env;
        let home = || Some(Path::new(env.filled("HOME")?).join(".config"));
        let user = env.filled("XDG_CONFIG_HOME").map(PathBuf::from).or_else(home);
        [Some(PathBuf::from(FILE_NAME)), user.map(|folder| folder.join("hoosh").join(FILE_NAME))]
            .into_iter()
            .flatten()
            // Also a folder of that name, which then is a fault: Docker makes one where a mounted file is missing.
            .find(|path| options.directory.join(path).exists())
            .map(|path| (path, Place::Default))
    }

    /// Reads the file that [`find`](Self::find) found.
    ///
    /// # Errors
    ///
    /// If it cannot be read or is not TOML, in which case every mistake of syntax is listed.
    pub(crate) fn read(path: PathBuf, named_by: Place, directory: &Path) -> Result<Self, ConfigErrors> {
        let text = std::fs::read_to_string(directory.join(&path)).map_err(|error| {
            let problem = format!("{} cannot be read: {error}", path.display());
            match named_by {
                Place::Default => {
                    Fault::new(Place::File { file: path.display().to_string(), line: None }, "", problem)
                }
                named_by => Fault::new(named_by, "", problem),
            }
        })?;
        Self::parse(path, &text)
    }

    /// Reads the text of a file.
    pub(crate) fn parse(path: PathBuf, text: &str) -> Result<Self, ConfigErrors> {
        let (document, errors) = DeTable::parse_recoverable(text);
        let mut walk = Walk { text, lines: BTreeMap::new() };
        if !errors.is_empty() {
            let fault = |error: &toml::de::Error| {
                let line = error.span().map(|span| walk.line(span.start));
                // The message names what was expected, never the text that was found.
                Fault::new(Place::File { file: path.display().to_string(), line }, "", error.message())
            };
            return Err(ConfigErrors::new(errors.iter().map(fault).collect()));
        }
        let mut values = walk.table("", document.get_ref());
        let lines = Lines { file: path.display().to_string(), lines: walk.lines };
        let prices = match document.get_ref().get("prices") {
            Some(entries) => prices::read(entries, lines.clone()),
            None => Prices::default(),
        };
        values.remove("prices");
        Ok(Self { read: FileRead::new(path, text.as_bytes()), values, lines, prices })
    }

    /// What was read of its prices, once.
    pub(crate) fn take_prices(&mut self) -> Prices {
        mem::take(&mut self.prices)
    }

    /// Where a key, list element or section is written.
    pub(crate) fn place(&self, path: &str) -> Place {
        self.lines.place(path)
    }
}

// === impl Lines ===

impl Lines {
    /// Where a key, list element or section is written, or what it is in.
    pub(crate) fn place(&self, path: &str) -> Place {
        let mut path = path;
        let line = loop {
            if let Some(line) = self.lines.get(path) {
                break Some(*line);
            }
            match path.rfind(['.', '[']) {
                Some(at) => path = &path[..at],
                None => break None,
            }
        };
        Place::File { file: self.file.clone(), line }
    }
}

// === impl Walk ===

impl Walk<'_> {
    /// The line of a byte, from 1.
    fn line(&self, at: usize) -> usize {
        1 + self.text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count()
    }

    fn table(&mut self, path: &str, table: &DeTable<'_>) -> Dict {
        let mut values = Dict::new();
        for (key, value) in table {
            let below = join(path, key.get_ref());
            self.lines.insert(below.clone(), self.line(key.span().start));
            values.insert(key.get_ref().to_string(), self.value(&below, value.get_ref()));
        }
        values
    }

    fn array(&mut self, path: &str, array: &DeArray<'_>) -> Vec<Value> {
        let element = |(index, value): (usize, &Spanned<DeValue<'_>>)| {
            let below = format!("{path}[{index}]");
            self.lines.insert(below.clone(), self.line(value.span().start));
            self.value(&below, value.get_ref())
        };
        array.iter().enumerate().map(element).collect()
    }

    fn value(&mut self, path: &str, value: &DeValue<'_>) -> Value {
        let tag = Tag::Default;
        match value {
            DeValue::String(text) => Value::String(tag, text.to_string()),
            DeValue::Integer(number) => Value::Num(tag, whole(number)),
            // Infinity for what is no finite number: every range excludes it.
            DeValue::Float(number) => {
                Value::Num(tag, Num::F64(number.as_str().parse().unwrap_or(f64::INFINITY)))
            }
            DeValue::Boolean(on) => Value::Bool(tag, *on),
            // No key takes a date: all that is kept is that there is one.
            DeValue::Datetime(_) => Value::Empty(tag, Empty::Unit),
            DeValue::Array(array) => Value::Array(tag, self.array(path, array)),
            DeValue::Table(table) => Value::Dict(tag, self.table(path, table)),
        }
    }
}

fn whole(number: &DeInteger<'_>) -> Num {
    i64::from_str_radix(number.as_str(), number.radix()).map_or(Num::F64(f64::INFINITY), Num::I64)
}
