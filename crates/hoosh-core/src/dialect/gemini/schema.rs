//! Google's own form of schemas, a part of OpenAPI's, as JSON Schema.
//!
//! Types are in capitals there, counts may be strings, and `nullable` stands beside the type. What is JSON Schema
//! already stays as it is. Source: ai.google.dev/api/caching#Schema, read 2026-11-24.

use serde_json::value::RawValue;

use crate::json::{Object, RawJson};

/// Deepest schema that is rewritten; what lies deeper stays as it came.
const DEPTH_MAX: usize = 64;

/// Fields whose value is a schema, a list of schemas, or an object of schemas.
const ONE: &[&str] = &["items", "additionalProperties"];
const LISTS: &[&str] = &["anyOf", "prefixItems"];
const OBJECTS: &[&str] = &["properties", "$defs", "defs"];

/// Fields that Google writes as strings, as it does all 64-bit numbers.
const COUNTS: &[&str] = &["minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"];

/// The schema as JSON Schema.
pub(super) fn to_json_schema(schema: &RawValue) -> RawJson {
    let mut out = String::with_capacity(schema.get().len());
    write(schema.get(), DEPTH_MAX, &mut out);
    RawJson::parse(out).unwrap_or_else(|_| schema.into())
}

fn write(schema: &str, depth: usize, out: &mut String) {
    let fields = match Object::parse("", schema) {
        Ok(object) if depth > 0 => object.rest(),
        _ => return out.push_str(schema),
    };
    let nullable = fields.get("nullable").is_some_and(|value| value.get() == "true");
    let typed = fields.get("type").is_some();
    out.push('{');
    let mut first = true;
    for (name, value) in fields.iter() {
        let name = spelled(name);
        if name == "nullable" && typed {
            continue;
        }
        if !std::mem::take(&mut first) {
            out.push(',');
        }
        quote(name, out);
        out.push(':');
        let value = value.get();
        match name {
            "type" => write_type(value, nullable, out),
            _ if ONE.contains(&name) => write(value, depth - 1, out),
            _ if LISTS.contains(&name) => write_list(value, depth - 1, out),
            _ if OBJECTS.contains(&name) => write_object(value, depth - 1, out),
            _ if COUNTS.contains(&name) => out.push_str(value.trim_matches('"')),
            _ => out.push_str(value),
        }
    }
    out.push('}');
}

fn write_type(value: &str, nullable: bool, out: &mut String) {
    let word = value.trim_matches('"');
    let lower = word.to_ascii_lowercase();
    let known = ["string", "number", "integer", "boolean", "array", "object", "null"].contains(&&*lower);
    match (known, nullable) {
        (false, _) => out.push_str(value),
        (true, false) => quote(&lower, out),
        (true, true) => {
            out.push('[');
            quote(&lower, out);
            out.push_str(",\"null\"]");
        }
    }
}

fn write_list(list: &str, depth: usize, out: &mut String) {
    let Ok(items) = serde_json::from_str::<Vec<RawJson>>(list) else { return out.push_str(list) };
    out.push('[');
    for (index, item) in items.iter().enumerate() {
        out.push_str(if index == 0 { "" } else { "," });
        write(item.get(), depth, out);
    }
    out.push(']');
}

fn write_object(object: &str, depth: usize, out: &mut String) {
    let Ok(fields) = Object::parse("", object).map(Object::rest) else { return out.push_str(object) };
    out.push('{');
    for (index, (name, value)) in fields.iter().enumerate() {
        out.push_str(if index == 0 { "" } else { "," });
        quote(name, out);
        out.push(':');
        write(value.get(), depth, out);
    }
    out.push('}');
}

/// The `snake_case` names that Google reads too.
fn spelled(name: &str) -> &str {
    match name {
        "any_of" => "anyOf",
        "prefix_items" => "prefixItems",
        "additional_properties" => "additionalProperties",
        "min_items" => "minItems",
        "max_items" => "maxItems",
        "min_length" => "minLength",
        "max_length" => "maxLength",
        "min_properties" => "minProperties",
        "max_properties" => "maxProperties",
        "property_ordering" => "propertyOrdering",
        other => other,
    }
}

fn quote(text: &str, out: &mut String) {
    // A string can always be written.
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(schema: &str, expected: &str) {
        assert_eq!(to_json_schema(serde_json::from_str(schema).unwrap()).get(), expected);
    }

    #[test]
    fn googles_form_becomes_json_schema_in_its_order() {
        check(
            r#"{"type":"OBJECT","properties":{"z":{"type":"STRING","nullable":true},"type":{"type":"ARRAY","max_items":"5","items":{"type":"INTEGER","maximum":12345678901234567890}}},"propertyOrdering":["z","type"]}"#,
            r#"{"type":"object","properties":{"z":{"type":["string","null"]},"type":{"type":"array","maxItems":5,"items":{"type":"integer","maximum":12345678901234567890}}},"propertyOrdering":["z","type"]}"#,
        );
        check(
            r#"{"anyOf":[{"type":"STRING"},{"type":"NULL"}]}"#,
            r#"{"anyOf":[{"type":"string"},{"type":"null"}]}"#,
        );
    }

    #[test]
    fn json_schema_stays_as_it_is() {
        let schema = r#"{"type":["string","null"],"enum":["A","type"],"default":"STRING","additionalProperties":false}"#;
        check(schema, schema);
        check(r#"{"maxItems":"many"}"#, r#"{"maxItems":"many"}"#);
        let deep = format!("{}1{}", r#"{"items":"#.repeat(100), "}".repeat(100));
        check(&deep, &deep);
    }
}
