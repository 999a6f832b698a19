//! Unknown fields inside nested objects, such as those of `image_url` or `function`.
//!
//! They ride in the extra fields of what holds the nested object, as an object under its name. That name is free there,
//! since the nested object itself was taken out.

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::wire::note;
use crate::failure::FidelityNote;
use crate::json::{Extra, Object, RawJson};
use crate::request::ResponseFormat;

/// Keeps what is left of the nested object `name`.
pub(super) fn keep(extra: &mut Extra, name: &str, nested: Object<'_>) {
    let rest = nested.rest();
    if rest.is_empty() {
        return;
    }
    if let Ok(json) = RawJson::from_value(&rest) {
        extra.insert(name, json);
    }
}

/// Writes into the nested object `name` what was kept of it.
pub(super) fn write<M: SerializeMap>(extra: &Extra, name: &str, map: &mut M) -> Result<(), M::Error> {
    let kept = extra.get(name).and_then(|json| Object::parse("", json.get()).ok());
    kept.map_or(Ok(()), |kept| kept.rest().write(map))
}

/// Writes the extra fields that are not kept for a nested object of one of these names.
pub(super) fn write_others<M: SerializeMap>(
    extra: &Extra,
    nested: &[&str],
    map: &mut M,
) -> Result<(), M::Error> {
    let mut others = extra.iter().filter(|(name, _)| !nested.contains(name));
    others.try_for_each(|(name, value)| map.serialize_entry(name, value))
}

/// What was kept of the nested object of this name, for a struct that flattens it in.
pub(super) struct Kept<'a>(pub(super) &'a Extra, pub(super) &'static str);

impl Serialize for Kept<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        write(self.0, self.1, &mut map)?;
        map.end()
    }
}

/// Writes what else there is of a schema that is asked for, see [`note_format_extra`].
pub(super) fn write_format_extra<M: SerializeMap>(
    extra: &Extra,
    akin: bool,
    map: &mut M,
) -> Result<(), M::Error> {
    let mut rest = extra.iter().filter(|(name, _)| is_format_extra(name, akin));
    rest.try_for_each(|(name, value)| map.serialize_entry(name, value))
}

/// Notes what cannot be written of it: `description` has the same name and meaning in all of OpenAI's dialects, the rest
/// only in the one it came in.
pub(super) fn note_format_extra(format: Option<&ResponseFormat>, akin: bool, notes: &mut Vec<FidelityNote>) {
    if let Some(ResponseFormat::JsonSchema { extra, .. }) = format {
        let lost = extra.iter().filter(|(name, _)| !akin && !is_format_extra(name, akin));
        lost.for_each(|(name, _)| note(notes, FidelityNote::new(format!("response_format.{name}"))));
    }
}

fn is_format_extra(name: &str, akin: bool) -> bool {
    const OWN: &[&str] = &["name", "response_format", "schema", "strict", "type"];
    if akin { !OWN.contains(&name) } else { name == "description" }
}
