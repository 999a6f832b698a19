//! What the model wrote in a field of a chunk, for a tap: borrowed where it can be.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The text in a string, or in the items of a list: parts of a content, or tool calls.
///
/// A string is borrowed unless it has escapes, and one alone, which is the rule, takes no list. What is of another shape
/// is passed over: whoever reads the stream judges it.
#[derive(Default)]
pub(super) struct Texts<'a> {
    /// Whether the string is not empty, or the list has items.
    pub(super) any: bool,
    first: Cow<'a, str>,
    /// Boxed, so that the many fields that hold none are small.
    #[allow(
        clippy::box_collection,
        reason = "a chunk has a dozen such fields, and hardly ever one with a list"
    )]
    more: Option<Box<Vec<Cow<'a, str>>>>,
}

struct TextsVisitor;

/// Whether a string is not empty, or a list has items, or there is something else.
#[derive(Default)]
pub(super) struct NotEmpty(pub(super) bool);

/// Whether the value of a field holds text.
struct HoldsText(bool);

impl<'a> Texts<'a> {
    fn of(text: Cow<'a, str>) -> Self {
        Self { any: !text.is_empty(), first: text, more: None }
    }

    /// Something that is no text.
    fn other() -> Self {
        Self { any: true, ..Self::default() }
    }

    fn push(&mut self, text: Cow<'a, str>) {
        if text.is_empty() {
            return;
        }
        if self.first.is_empty() {
            self.first = text;
        } else {
            self.more.get_or_insert_default().push(text);
        }
    }

    pub(super) fn add(&mut self, more: Option<Self>) {
        let Some(more) = more else { return };
        self.any |= more.any;
        self.push(more.first);
        more.more.into_iter().flat_map(|more| *more).for_each(|text| self.push(text));
    }

    pub(super) fn each(&self, mut take: impl FnMut(&str)) {
        take(&self.first);
        self.more.iter().flat_map(|more| more.iter()).for_each(|text| take(text));
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Texts<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextsVisitor)
    }
}

impl<'de> Visitor<'de> for TextsVisitor {
    type Value = Texts<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a list")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Texts<'de>, E> {
        Ok(Texts::of(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Texts<'de>, E> {
        Ok(Texts::of(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Texts<'de>, A::Error> {
        let mut all = Texts::default();
        while let Some(item) = seq.next_element::<Texts<'de>>()? {
            all.add(Some(item));
            all.any = true;
        }
        Ok(all)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Texts<'de>, A::Error> {
        let mut all = Texts::other();
        while let Some(HoldsText(holds)) = map.next_key()? {
            if holds {
                all.add(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(all)
    }

    fn visit_unit<E: Error>(self) -> Result<Texts<'de>, E> {
        Ok(Texts::default())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Texts<'de>, E> {
        Ok(Texts::other())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Texts<'de>, E> {
        Ok(Texts::other())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Texts<'de>, E> {
        Ok(Texts::other())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Texts<'de>, E> {
        Ok(Texts::other())
    }
}

impl<'de> Deserialize<'de> for NotEmpty {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Texts::deserialize(deserializer).map(|texts| Self(texts.any))
    }
}

impl<'de> Deserialize<'de> for HoldsText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl Visitor<'_> for NameVisitor {
            type Value = HoldsText;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }
            fn visit_str<E: Error>(self, name: &str) -> Result<HoldsText, E> {
                // Of a part of a content, Mistral's reasoning, and a tool call.
                let names = ["text", "thinking", "function", "arguments", "custom", "input"];
                Ok(HoldsText(names.contains(&name)))
            }
        }
        deserializer.deserialize_str(NameVisitor)
    }
}
