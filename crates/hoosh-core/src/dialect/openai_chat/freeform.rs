//! Tools that take free text (OpenAI's `custom` tools): elsewhere they have one argument, `input`.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::json::RawJson;

#[derive(Serialize, Deserialize)]
struct Arguments<'a> {
    #[serde(borrow)]
    input: Cow<'a, str>,
}

/// What stands before the text in the arguments, and behind it.
pub(super) const AROUND: (&str, &str) = (r#"{"input":""#, r#""}"#);

/// The text as arguments.
pub(in crate::dialect) fn arguments(input: &str) -> String {
    let (before, after) = AROUND;
    format!("{before}{}{after}", escaped(input))
}

/// A piece of the text as it stands inside a JSON string.
pub(super) fn escaped(piece: &str) -> String {
    let quoted = serde_json::to_string(piece).unwrap_or_default();
    quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default().to_owned()
}

/// The text in the arguments; what is no such argument is all text.
pub(in crate::dialect) fn input(arguments: &str) -> Cow<'_, str> {
    match serde_json::from_str::<Arguments<'_>>(arguments) {
        Ok(arguments) => arguments.input,
        Err(_) => Cow::Borrowed(arguments),
    }
}

/// The schema of the one argument.
pub(in crate::dialect) fn schema() -> Option<RawJson> {
    const SCHEMA: &str = r#"{"type":"object","properties":{"input":{"type":"string"}},"required":["input"],"additionalProperties":false}"#;
    RawJson::parse(SCHEMA).ok()
}
