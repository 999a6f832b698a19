//! Arguments of a call that come piece by piece, each with its place as a JSON path.
//!
//! Vertex streams them so if it is asked to (`streamFunctionCallArguments`). Source:
//! docs.cloud.google.com/vertex-ai/generative-ai/docs/multimodal/function-calling, read 2026-11-24. A piece may belong to
//! an object that seemed to be closed, so the JSON text is written when the call is complete.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::json::{FieldError, RawJson};
use crate::limits::STREAM_EVENT_BYTES_MAX;

/// Deepest place that is taken.
const DEPTH_MAX: usize = 64;

/// Most fields of one object: each is looked for among the others.
const FIELDS_MAX: usize = 4_096;

/// A piece of an argument.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PartialArg {
    json_path: String,
    #[serde(default)]
    string_value: Option<String>,
    #[serde(default)]
    number_value: Option<RawJson>,
    #[serde(default)]
    bool_value: Option<bool>,
    #[serde(default, deserialize_with = "there")]
    null_value: bool,
}

/// Whether the field is there at all: its value may be `null` or the word `NULL_VALUE`.
fn there<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    <&RawValue>::deserialize(deserializer).map(|_| true)
}

/// The arguments so far.
#[derive(Debug, Default)]
pub(super) struct PartialArgs {
    root: Vec<(String, Node)>,
    bytes: usize,
}

#[derive(Debug)]
enum Node {
    Object(Vec<(String, Node)>),
    List(Vec<Node>),
    Text(String),
    Raw(String),
}

#[derive(Debug, PartialEq)]
enum Step {
    Name(String),
    Index(usize),
}

impl PartialArgs {
    pub(super) fn is_empty(&self) -> bool {
        self.root.is_empty()
    }

    /// Puts a piece in its place.
    pub(super) fn push(&mut self, arg: PartialArg) -> Result<(), FieldError> {
        let wrong =
            |problem: &str| FieldError { path: "partialArgs".to_owned(), problem: problem.to_owned() };
        let size = arg.json_path.len() + arg.string_value.as_ref().map_or(8, String::len);
        self.bytes = self.bytes.saturating_add(size);
        if self.bytes > STREAM_EVENT_BYTES_MAX {
            return Err(wrong("the arguments of a call are too long"));
        }
        let steps = steps(&arg.json_path).ok_or_else(|| wrong("a place that is no JSON path"))?;
        let value = match (arg.string_value, arg.number_value, arg.bool_value) {
            (Some(text), ..) => Node::Text(text),
            (None, Some(number), _) => Node::Raw(number.get().to_owned()),
            (None, None, Some(bool)) => Node::Raw(bool.to_string()),
            (None, None, None) if arg.null_value => Node::Raw("null".to_owned()),
            // The end of a value that was said before.
            (None, None, None) => return Ok(()),
        };
        put(&mut self.root, &steps, value).ok_or_else(|| wrong("a place in a value that is none"))
    }

    /// The JSON text.
    pub(super) fn into_json(self) -> String {
        let mut out = String::with_capacity(self.bytes);
        write(&Node::Object(self.root), &mut out);
        out
    }
}

/// Puts a value below the named fields of an object; `None` if what is there is of another kind.
fn put(fields: &mut Vec<(String, Node)>, steps: &[Step], value: Node) -> Option<()> {
    let (Step::Name(name), rest) = steps.split_first()? else { return None };
    let at = match fields.iter().position(|(known, _)| known == name) {
        Some(at) => at,
        None if fields.len() < FIELDS_MAX => {
            fields.push((name.clone(), empty(rest)));
            fields.len() - 1
        }
        None => return None,
    };
    put_in(&mut fields[at].1, rest, value)
}

fn put_in(node: &mut Node, steps: &[Step], value: Node) -> Option<()> {
    match (node, steps.split_first()) {
        (node, None) => match (node, value) {
            (Node::Text(text), Node::Text(more)) => text.push_str(&more),
            (node @ Node::Raw(_), value) => *node = value,
            _ => return None,
        },
        (Node::Object(fields), Some((Step::Name(_), _))) => put(fields, steps, value)?,
        (Node::List(items), Some((Step::Index(index), rest))) => {
            if *index > items.len() {
                return None;
            }
            if *index == items.len() {
                items.push(empty(rest));
            }
            put_in(&mut items[*index], rest, value)?;
        }
        _ => return None,
    }
    Some(())
}

/// What stands at a place before its value does.
fn empty(rest: &[Step]) -> Node {
    match rest.first() {
        Some(Step::Name(_)) => Node::Object(Vec::new()),
        Some(Step::Index(_)) => Node::List(Vec::new()),
        None => Node::Raw(String::new()),
    }
}

fn write(node: &Node, out: &mut String) {
    // Strings can always be written.
    let quoted = |text: &str| serde_json::to_string(text).unwrap_or_default();
    match node {
        Node::Text(text) => out.push_str(&quoted(text)),
        Node::Raw(json) => out.push_str(json),
        Node::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { "," });
                write(item, out);
            }
            out.push(']');
        }
        Node::Object(fields) => {
            out.push('{');
            for (index, (name, value)) in fields.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { "," });
                out.push_str(&quoted(name));
                out.push(':');
                write(value, out);
            }
            out.push('}');
        }
    }
}

/// The steps of a path: `$.a.b[0]` and `$['a b']`.
fn steps(path: &str) -> Option<Vec<Step>> {
    let mut rest = path.strip_prefix('$')?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if steps.len() >= DEPTH_MAX {
            return None;
        }
        let step;
        (step, rest) = if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[']).unwrap_or(after.len());
            (Step::Name(after[..end].to_owned()), &after[end..])
        } else {
            let after = rest.strip_prefix('[')?;
            match after.chars().next()? {
                quote @ ('\'' | '"') => {
                    let end = after[1..].find(&format!("{quote}]"))? + 1;
                    (Step::Name(after[1..end].to_owned()), &after[end + 2..])
                }
                _ => {
                    let end = after.find(']')?;
                    (Step::Index(after[..end].parse().ok()?), &after[end + 1..])
                }
            }
        };
        steps.push(step);
    }
    Some(steps).filter(|steps| !steps.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(pieces: &[&str]) -> Result<String, FieldError> {
        let mut args = PartialArgs::default();
        for piece in pieces {
            args.push(serde_json::from_str(piece).unwrap())?;
        }
        Ok(args.into_json())
    }

    #[test]
    fn pieces_come_to_their_places() {
        let pieces = [
            r#"{"jsonPath":"$.city","stringValue":"Bos","willContinue":true}"#,
            r#"{"jsonPath":"$.list[0].n","numberValue":1.50}"#,
            r#"{"jsonPath":"$.city","stringValue":"ton \""}"#,
            r#"{"jsonPath":"$.list[1]['a b']","boolValue":true}"#,
            r#"{"jsonPath":"$.none","nullValue":null}"#,
            r#"{"jsonPath":"$.none"}"#,
        ];
        assert_eq!(
            joined(&pieces).unwrap(),
            r#"{"city":"Boston \"","list":[{"n":1.50},{"a b":true}],"none":null}"#
        );
        assert_eq!(joined(&[]).unwrap(), "{}");
    }

    #[test]
    fn places_that_are_none_are_refused() {
        for pieces in [
            &[r#"{"jsonPath":"city","stringValue":""}"#][..],
            &[r#"{"jsonPath":"$.a[4000000000]","stringValue":""}"#],
            &[r#"{"jsonPath":"$.a[","stringValue":""}"#],
            &[r#"{"jsonPath":"$.a['b","stringValue":""}"#],
            &[r#"{"jsonPath":"$.a","stringValue":"x"}"#, r#"{"jsonPath":"$.a.b","stringValue":""}"#],
        ] {
            assert!(joined(pieces).is_err(), "{pieces:?}");
        }
    }
}
