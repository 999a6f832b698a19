//! Google reads fields in both `camelCase` and `snake_case`, and one thing where a list of them is expected.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::json::{FieldError, Object, problem};

/// `responseSchema` as `response_schema`.
fn snake(name: &str) -> Cow<'_, str> {
    if !name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Cow::Borrowed(name);
    }
    let mut out = String::with_capacity(name.len() + 4);
    for char in name.chars() {
        if char.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(char.to_ascii_lowercase());
    }
    Cow::Owned(out)
}

/// Takes a field by its `camelCase` name or the same in `snake_case`.
pub(super) fn take_raw<'a>(object: &mut Object<'a>, name: &str) -> Option<&'a RawValue> {
    let camel = object.take_raw(name);
    // Both are taken even if both are there: Google, too, sees one field.
    let other = snake(name);
    if other == name { camel } else { camel.or(object.take_raw(&other)) }
}

pub(super) fn take<'a, T: Deserialize<'a>>(
    object: &mut Object<'a>,
    name: &str,
) -> Result<Option<T>, FieldError> {
    let Some(raw) = take_raw(object, name) else { return Ok(None) };
    serde_json::from_str(raw.get()).map(Some).map_err(|error| object.wrong(name, problem(&error)))
}

pub(super) fn require<'a, T: Deserialize<'a>>(object: &mut Object<'a>, name: &str) -> Result<T, FieldError> {
    take(object, name)?.ok_or_else(|| object.missing(name))
}

pub(super) fn take_object<'a>(object: &mut Object<'a>, name: &str) -> Result<Option<Object<'a>>, FieldError> {
    let path = object.path_of(name);
    take_raw(object, name).map(|raw| Object::parse(path, raw.get())).transpose()
}

/// Takes a list with the path of each item; one item alone counts as a list of it.
pub(super) fn take_list<'a>(
    object: &mut Object<'a>,
    name: &str,
) -> Result<Vec<(String, &'a RawValue)>, FieldError> {
    let path = object.path_of(name);
    let Some(raw) = take_raw(object, name) else { return Ok(Vec::new()) };
    if !raw.get().starts_with('[') {
        return Ok(vec![(path, raw)]);
    }
    let items: Vec<&'a RawValue> =
        serde_json::from_str(raw.get()).map_err(|error| object.wrong(name, problem(&error)))?;
    Ok(items.into_iter().enumerate().map(|(index, raw)| (format!("{path}[{index}]"), raw)).collect())
}

/// A string, borrowed where it holds no escapes.
#[derive(Deserialize, Default)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

/// JSON text without the blanks between its words, so that Google's indented answers make short arguments.
pub(super) fn compact(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let (mut in_string, mut escaped) = (false, false);
    for char in json.chars() {
        if in_string {
            out.push(char);
            match char {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => in_string = false,
                _ => {}
            }
        } else if !char.is_ascii_whitespace() {
            in_string = char == '"';
            out.push(char);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_are_one_field() {
        let mut object = Object::parse("", r#"{"top_k":3,"responseSchema":{},"parts":{"a":1}}"#).unwrap();
        assert_eq!(take::<u32>(&mut object, "topK").unwrap(), Some(3));
        assert!(take_raw(&mut object, "responseSchema").is_some());
        let parts = take_list(&mut object, "parts").unwrap();
        assert_eq!((parts[0].0.as_str(), parts[0].1.get()), ("parts", r#"{"a":1}"#));
        assert!(object.rest().is_empty());
    }

    #[test]
    fn blanks_go_but_not_in_strings() {
        assert_eq!(
            compact("{\n  \"a\" : \"b \\\" c\\\\\" ,\r\n\t\"d\": [1 , 2]\n}"),
            r#"{"a":"b \" c\\","d":[1,2]}"#
        );
    }
}
