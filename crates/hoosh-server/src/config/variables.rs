//! `$VAR`, `${VAR}` and `${VAR:-default}` inside a text of the file, and `$$` for a dollar.

use std::fmt;

use super::Environment;

/// A text with its variables filled in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Expanded {
    pub(crate) text: String,
    /// The first variable that was used; `None` if the text stands as it was written.
    pub(crate) from: Option<String>,
}

/// Why a text cannot be filled in. It names variables, never the text around them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unresolved {
    /// No such variable.
    Unset(String),
    /// `${` without its end, or with something else than a name in it.
    Malformed,
}

/// Fills in the variables of a text.
///
/// A dollar that no name follows stands for itself, so that `"US$ 5"` needs no escape.
pub(crate) fn expand(text: &str, env: &Environment) -> Result<Expanded, Unresolved> {
    let mut expanded = Expanded { text: String::with_capacity(text.len()), from: None };
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        expanded.text.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            expanded.text.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let (inner, after) = after.split_once('}').ok_or(Unresolved::Malformed)?;
            let (name, default) = match inner.split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (inner, None),
            };
            if name.is_empty() || name_len(name) != name.len() {
                return Err(Unresolved::Malformed);
            }
            // As in a shell: `:-` also stands in for a variable that is set and empty.
            let value = match default {
                Some(default) => env.filled(name).unwrap_or(default),
                None => env.get(name).ok_or_else(|| Unresolved::Unset(name.to_owned()))?,
            };
            expanded.fill_in(name, value);
            rest = after;
        } else {
            let (name, after) = rest.split_at(name_len(rest));
            if name.is_empty() {
                expanded.text.push('$');
            } else {
                let value = env.get(name).ok_or_else(|| Unresolved::Unset(name.to_owned()))?;
                expanded.fill_in(name, value);
            }
            rest = after;
        }
    }
    expanded.text.push_str(rest);
    Ok(expanded)
}

/// Length of the variable name that a text begins with.
fn name_len(text: &str) -> usize {
    match text.bytes().next() {
        Some(first) if first.is_ascii_alphabetic() || first == b'_' => {
            text.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count()
        }
        _ => 0,
    }
}

// === impl Expanded ===

impl Expanded {
    fn fill_in(&mut self, name: &str, value: &str) {
        self.text.push_str(value);
        self.from.get_or_insert_with(|| name.to_owned());
    }
}

// === impl Unresolved ===

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unset(name) => write!(
                f,
                "the environment variable {name} is not set; set it, write `${{{name}:-default}}`, or `$$` for a dollar"
            ),
            Self::Malformed => {
                f.write_str("expected `${NAME}` or `${NAME:-default}`; write `$$` for a dollar")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: Result<(&str, Option<&str>), Unresolved>) {
        let env = Environment::from_iter([("KEY", "s3cret"), ("EMPTY", ""), ("A_1", "a")]);
        let expect = expect.map(|(text, from)| Expanded { text: text.into(), from: from.map(Into::into) });
        assert_eq!(expand(text, &env), expect, "{text}");
    }

    #[test]
    fn variables_are_filled_in_anywhere_in_a_text() {
        check("", Ok(("", None)));
        check("plain", Ok(("plain", None)));
        check("$KEY", Ok(("s3cret", Some("KEY"))));
        check("${KEY}", Ok(("s3cret", Some("KEY"))));
        check("a-${KEY}-$A_1.b", Ok(("a-s3cret-a.b", Some("KEY"))));
        check("$EMPTY", Ok(("", Some("EMPTY"))));
        check("${EMPTY:-x}", Ok(("x", Some("EMPTY"))));
        check("${NONE:-http://h:1/}", Ok(("http://h:1/", Some("NONE"))));
        check("${NONE:-}", Ok(("", Some("NONE"))));
    }

    #[test]
    fn dollars_can_stand_for_themselves() {
        check("$$", Ok(("$", None)));
        check("$$KEY", Ok(("$KEY", None)));
        check("US$ 5, $5, $", Ok(("US$ 5, $5, $", None)));
    }

    #[test]
    fn what_is_not_there_is_named_and_the_text_is_not() {
        check("secret-$NONE", Err(Unresolved::Unset("NONE".into())));
        check("${NONE}", Err(Unresolved::Unset("NONE".into())));
        check("${KEY", Err(Unresolved::Malformed));
        check("${}", Err(Unresolved::Malformed));
        check("${a b}", Err(Unresolved::Malformed));
        check("${KEY-x}", Err(Unresolved::Malformed));
    }
}
