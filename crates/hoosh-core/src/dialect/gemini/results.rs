//! What a tool gave: an object in this dialect, text and media in ours.
//!
//! Google's own words for the object's fields are `output` and `error`; `result` is the one its examples use. Source:
//! ai.google.dev/api/caching#FunctionResponse, read 2026-11-24.

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;

use super::fields::{compact, take, take_list, take_raw};
use super::part::{self, Piece, ResultPiece};
use crate::json::{Extra, FieldError, Object, RawJson};
use crate::request::{Part, joined_text};
use crate::tool::ToolResult;

/// The fields of a result that we do not know ride in its part under this name.
pub(super) const REST: &str = "functionResponse";

pub(super) fn read(mut object: Object<'_>) -> Result<ResultPiece, FieldError> {
    let response = take_raw(&mut object, "response");
    let (text, is_error) = response.map_or((None, false), text_of);
    let mut content: Vec<Part> = text.map(Part::text).into_iter().collect();
    for (path, raw) in take_list(&mut object, "parts")? {
        if let Piece::Part(part) = part::read(&path, raw)? {
            content.push(part);
        }
    }
    let id = take(&mut object, "id")?.filter(|id: &String| !id.is_empty());
    let name = super::fields::require(&mut object, "name")?;
    let mut part_extra = Extra::default();
    let rest = object.rest();
    if !rest.is_empty()
        && let Ok(rest) = RawJson::from_value(&rest)
    {
        part_extra.insert(REST, rest);
    }
    Ok(ResultPiece { id, name, content, is_error, part_extra })
}

/// The text of a result and whether it is an error.
fn text_of(raw: &RawValue) -> (Option<String>, bool) {
    let Ok(object) = Object::parse("", raw.get()) else { return (Some(compact(raw.get())), false) };
    let fields = object.rest();
    let mut fields = fields.iter();
    match (fields.next(), fields.next()) {
        (Some(("error", value)), None) if value.get() != "null" => {
            let text = serde_json::from_str(value.get()).unwrap_or_else(|_| compact(value.get()));
            (Some(text), true)
        }
        (Some(("output" | "result", value)), None) if value.get().starts_with('"') => {
            (serde_json::from_str(value.get()).ok(), false)
        }
        (None, _) => (None, false),
        _ => (Some(compact(raw.get())), false),
    }
}

/// A result's object: text that is an object as it is, other text as a field of one.
pub(super) struct ResponseBody<'a>(pub(super) &'a ToolResult);

impl Serialize for ResponseBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let result = self.0;
        let text = joined_text(&result.content);
        let object = serde_json::from_str::<&RawValue>(&text).ok().filter(|raw| raw.get().starts_with('{'));
        let name = if result.is_error { "error" } else { "output" };
        let mut map = match object {
            Some(object) if !result.is_error => return object.serialize(serializer),
            _ => serializer.serialize_map(None)?,
        };
        match object {
            Some(object) => map.serialize_entry(name, object)?,
            None if text.is_empty() && !result.is_error => {}
            None => map.serialize_entry(name, &text)?,
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(response: &str, text: &str, is_error: bool, written: &str) {
        let body = format!(r#"{{"name":"f","response":{response}}}"#);
        let piece = read(Object::parse("", &body).unwrap()).unwrap();
        assert_eq!((joined_text(&piece.content).as_str(), piece.is_error), (text, is_error));
        let result = ToolResult { call_id: "c".into(), content: piece.content, is_error };
        assert_eq!(serde_json::to_string(&ResponseBody(&result)).unwrap(), written);
    }

    #[test]
    fn objects_and_text_are_put_into_each_other() {
        check(r#"{"output":"42"}"#, "42", false, r#"{"output":"42"}"#);
        check(r#"{"result":"42"}"#, "42", false, r#"{"output":"42"}"#);
        check(r#"{"a": 1.50}"#, r#"{"a":1.50}"#, false, r#"{"a":1.50}"#);
        check(r#"{"output":{"a":1}}"#, r#"{"output":{"a":1}}"#, false, r#"{"output":{"a":1}}"#);
        check(r#"{"output":7}"#, r#"{"output":7}"#, false, r#"{"output":7}"#);
        check(r#"{"error":"no"}"#, "no", true, r#"{"error":"no"}"#);
        check(r#"{"error":{"code":5}}"#, r#"{"code":5}"#, true, r#"{"error":{"code":5}}"#);
        check(r#"{"error":null}"#, r#"{"error":null}"#, false, r#"{"error":null}"#);
        check("{}", "", false, "{}");
    }
}
