//! Raw JSON that rides along, and a cursor over objects that names the field when a type is wrong.
//!
//! Numbers we do not compute on stay text ([`JsonNumber`]), fields we do not know stay as they came ([`Extra`]).

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;

use crate::limits;

/// Any JSON value, kept as the text it came as. Two are equal if their text is.
#[derive(Clone)]
pub struct RawJson(Box<RawValue>);

/// A JSON number, kept as the text it came as: `0.10` stays `0.10`, and 30 digits stay 30 digits.
#[derive(Clone, PartialEq, Eq)]
pub struct JsonNumber(Box<str>);

/// The fields of an object that we do not know, in the order they came.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Extra(Vec<(String, RawJson)>);

/// A field that is missing or of the wrong type, with its path (`messages[2].content`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{problem}", PathPrefix(.path))]
pub struct FieldError {
    /// Path from the root of the body; empty for the root itself.
    pub path: String,
    /// What is wrong with it, as a sentence without full stop.
    pub problem: String,
}

/// An object whose fields are taken out one by one; what is left over is [`Extra`].
pub(crate) struct Object<'a> {
    path: String,
    fields: Vec<(Cow<'a, str>, Option<&'a RawValue>)>,
}

struct PathPrefix<'a>(&'a str);

// === impl RawJson ===

impl RawJson {
    /// The JSON text.
    pub fn get(&self) -> &str {
        self.0.get()
    }

    /// Writes `value` as JSON text.
    ///
    /// # Errors
    ///
    /// Whatever `value`'s own `Serialize` refuses, such as a map with keys that are not strings.
    pub fn from_value<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        serde_json::value::to_raw_value(value).map(Self)
    }

    /// Checks that `text` is one JSON value and keeps it.
    ///
    /// # Errors
    ///
    /// If it is not.
    pub fn parse(text: impl Into<String>) -> Result<Self, serde_json::Error> {
        RawValue::from_string(text.into()).map(Self)
    }
}

impl From<&RawValue> for RawJson {
    fn from(raw: &RawValue) -> Self {
        Self(raw.to_owned())
    }
}

impl PartialEq for RawJson {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl fmt::Debug for RawJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.get())
    }
}

impl Serialize for RawJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RawJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(Self)
    }
}

// === impl JsonNumber ===

impl JsonNumber {
    /// The text of the number.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The nearest `f64`, for the rare place that computes with it.
    pub fn as_f64(&self) -> f64 {
        self.0.parse().unwrap_or(f64::NAN)
    }
}

impl From<f64> for JsonNumber {
    /// A number that JSON cannot write (NaN, infinity) becomes `0`.
    fn from(value: f64) -> Self {
        Self(
            serde_json::Number::from_f64(value)
                .map_or_else(|| "0".into(), |number| number.to_string().into()),
        )
    }
}

impl From<u64> for JsonNumber {
    fn from(value: u64) -> Self {
        Self(value.to_string().into())
    }
}

impl From<i64> for JsonNumber {
    fn from(value: i64) -> Self {
        Self(value.to_string().into())
    }
}

impl fmt::Debug for JsonNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for JsonNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for JsonNumber {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // The text was checked when it was taken in, so this does not fail.
        RawValue::from_string(self.0.to_string()).map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for JsonNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        match raw.get().as_bytes().first() {
            Some(b'-' | b'0'..=b'9') => Ok(Self(raw.get().into())),
            _ => Err(serde::de::Error::custom(format!("expected a number, found {}", kind_of(raw)))),
        }
    }
}

// === impl Extra ===

impl Extra {
    /// Whether there is no such field.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The fields in the order they came.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &RawJson)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// The value of the field `name`.
    pub fn get(&self, name: &str) -> Option<&RawJson> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// Sets a field; one of the same name is replaced in its place.
    pub fn insert(&mut self, name: impl Into<String>, value: RawJson) {
        let name = name.into();
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, slot)) => *slot = value,
            None => self.0.push((name, value)),
        }
    }

    /// Keeps those fields only.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&str, &RawJson) -> bool) {
        self.0.retain(|(name, value)| keep(name, value));
    }

    /// Writes the fields into an object that is being serialised.
    pub(crate) fn write<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        self.write_without(&[], map)
    }

    /// The same without those whose names the object has already, which are known in the dialect it is written in.
    pub(crate) fn write_without<M: SerializeMap>(&self, taken: &[&str], map: &mut M) -> Result<(), M::Error> {
        let mut free = self.0.iter().filter(|(name, _)| !taken.contains(&name.as_str()));
        free.try_for_each(|(name, value)| map.serialize_entry(name, value))
    }
}

impl Serialize for Extra {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        self.write(&mut map)?;
        map.end()
    }
}

// === impl Object ===

impl<'a> Object<'a> {
    /// Reads the fields of the object in `text`.
    pub(crate) fn parse(path: impl Into<String>, text: &'a str) -> Result<Self, FieldError> {
        let path = path.into();
        match serde_json::from_str::<Fields<'a>>(text) {
            Ok(Fields(fields)) => Ok(Self { path, fields }),
            Err(error) => Err(FieldError { problem: problem(&error), path }),
        }
    }

    /// The path of a field of this object.
    pub(crate) fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Takes a field; `null` counts as absent, as all the dialects have it.
    pub(crate) fn take<T: Deserialize<'a>>(&mut self, name: &str) -> Result<Option<T>, FieldError> {
        let Some(raw) = self.take_raw(name) else { return Ok(None) };
        match serde_json::from_str(raw.get()) {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(FieldError { path: self.path_of(name), problem: problem(&error) }),
        }
    }

    /// Takes a field that must be there.
    pub(crate) fn require<T: Deserialize<'a>>(&mut self, name: &str) -> Result<T, FieldError> {
        self.take(name)?.ok_or_else(|| self.missing(name))
    }

    /// Takes a field as its raw text; `null` counts as absent.
    pub(crate) fn take_raw(&mut self, name: &str) -> Option<&'a RawValue> {
        let (_, slot) = self.fields.iter_mut().find(|(known, _)| known == name)?;
        slot.take().filter(|raw| raw.get() != "null")
    }

    /// Looks at a field that is not taken yet.
    pub(crate) fn peek(&self, name: &str) -> Option<&'a RawValue> {
        self.fields.iter().find(|(known, _)| known == name)?.1
    }

    /// Takes a field that is an object itself.
    pub(crate) fn take_object(&mut self, name: &str) -> Result<Option<Object<'a>>, FieldError> {
        let path = self.path_of(name);
        self.take_raw(name).map(|raw| Object::parse(path, raw.get())).transpose()
    }

    /// Takes a field that is a list of objects; absent is an empty list.
    pub(crate) fn take_objects(&mut self, name: &str) -> Result<Vec<Object<'a>>, FieldError> {
        let items: Vec<&'a RawValue> = self.take(name)?.unwrap_or_default();
        let path = self.path_of(name);
        items
            .into_iter()
            .enumerate()
            .map(|(index, raw)| Object::parse(format!("{path}[{index}]"), raw.get()))
            .collect()
    }

    /// The error for a field that must be there and is not.
    pub(crate) fn missing(&self, name: &str) -> FieldError {
        FieldError { path: self.path_of(name), problem: "is missing".to_owned() }
    }

    /// The error for a field whose value cannot be used.
    pub(crate) fn wrong(&self, name: &str, problem: impl Into<String>) -> FieldError {
        FieldError { path: self.path_of(name), problem: problem.into() }
    }

    /// What nobody took, in the order it came.
    pub(crate) fn rest(self) -> Extra {
        let left =
            self.fields.into_iter().filter_map(|(name, raw)| Some((name.into_owned(), RawJson::from(raw?))));
        Extra(left.collect())
    }
}

// === impl PathPrefix ===

impl fmt::Display for PathPrefix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "`{}`: ", self.0) }
    }
}

/// serde's sentence without the position, which is relative to a part of the body and would mislead.
pub(crate) fn problem(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

/// What kind of value `raw` is, for error messages; never the value, which may be long or secret.
fn kind_of(raw: &RawValue) -> &'static str {
    match raw.get().as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// The fields of an object, borrowed.
struct Fields<'a>(Vec<(Cow<'a, str>, Option<&'a RawValue>)>);

#[derive(serde::Deserialize, PartialEq)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;

        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields: Vec<(Cow<'de, str>, Option<&'de RawValue>)> = Vec::with_capacity(8);
                while let Some((Key(name), raw)) = map.next_entry::<Key<'de>, &'de RawValue>()? {
                    fields.push((name, Some(raw)));
                }
                // Two values for one name: whichever we took, the provider might take the other.
                let mut names: Vec<&str> = fields.iter().map(|(name, _)| name.as_ref()).collect();
                names.sort_unstable();
                match names.windows(2).find(|pair| pair[0] == pair[1]) {
                    Some(pair) => Err(serde::de::Error::custom(format!("duplicate field `{}`", pair[0]))),
                    None => Ok(Fields(fields)),
                }
            }
        }

        deserializer.deserialize_map(FieldsVisitor)
    }
}

/// Cuts `text` to at most `bytes_max` bytes at a character boundary, with `…` where something was cut.
pub fn shortened(text: &str, bytes_max: usize) -> Cow<'_, str> {
    if text.len() <= bytes_max {
        return Cow::Borrowed(text);
    }
    let mut end = bytes_max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    Cow::Owned(format!("{}…", &text[..end]))
}

/// A vendor's sentence, cut to [`limits::VENDOR_MESSAGE_BYTES_MAX`].
pub(crate) fn vendor_message(text: &str) -> String {
    shortened(text, limits::VENDOR_MESSAGE_BYTES_MAX).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_keep_order_and_digits() {
        let mut object = Object::parse("", r#"{"b":1.50,"known":7,"a":12345678901234567890123}"#).unwrap();
        assert_eq!(object.take::<u32>("known").unwrap(), Some(7));

        let extra = object.rest();
        let fields: Vec<_> = extra.iter().map(|(name, value)| (name, value.get())).collect();
        assert_eq!(fields, [("b", "1.50"), ("a", "12345678901234567890123")]);
    }

    #[test]
    fn a_wrong_type_names_the_path_and_not_the_position() {
        let mut object = Object::parse("messages[2]", r#"{"role":5}"#).unwrap();
        let error = object.require::<String>("role").unwrap_err();
        assert_eq!(error.to_string(), "`messages[2].role`: invalid type: integer `5`, expected a string");
    }

    #[test]
    fn a_doubled_field_is_refused() {
        let error = Object::parse("", r#"{"model":"a","model":"b"}"#).err().unwrap();
        assert_eq!(error.to_string(), "duplicate field `model`");
    }

    #[test]
    fn numbers_stay_text() {
        for text in ["0.10", "1e400", "-0", "123456789012345678901234567890"] {
            let number: JsonNumber = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&number).unwrap(), text);
        }
        assert!(
            serde_json::from_str::<JsonNumber>("\"1\"").unwrap_err().to_string().contains("found a string")
        );
    }

    #[test]
    fn cutting_respects_characters() {
        assert_eq!(shortened("häß", 2), "h…");
        assert_eq!(shortened("abc", 3), "abc");
    }
}
