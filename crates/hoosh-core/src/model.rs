//! What is known about a model: sizes, abilities, price.
//!
//! Decides the shape only. The facts come from a provider's own listing and, where that is silent, from
//! [`catalog`](crate::catalog); which model a call gets is the router's.
//!
//! Nearly everything here can be unknown, and unknown is not "no": a router that must be sure asks for `Some(true)`,
//! one that only avoids sure failures rules out `Some(false)`.

use std::fmt;
use std::str::FromStr;

use crate::money::Price;

/// One model at one provider.
///
/// Built from a provider's listing as `ModelInfo { created, ..ModelInfo::named(provider, id) }`, then
/// [completed](Self::or) from the catalogue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelInfo {
    /// The model's name as the provider spells it.
    pub id: String,
    /// The provider's name in hoosh: a preset's, or the one that the config gives.
    pub provider: String,
    /// Most tokens of prompt and answer together. `None`: unknown, or the provider only limits each by itself.
    pub context_window: Option<u64>,
    /// Most tokens of the prompt, where the provider limits it by itself. `None`: bounded by the window alone.
    pub input_max: Option<u64>,
    /// Most tokens of the answer, reasoning included. `None`: unknown.
    pub output_max: Option<u64>,
    /// What a prompt may contain. Empty: unknown.
    pub input: Modalities,
    /// What an answer can be. Empty: unknown.
    pub output: Modalities,
    /// Whether it calls tools.
    pub tools: Option<bool>,
    /// Whether it reasons before it answers.
    pub reasoning: Option<bool>,
    /// Whether it can be held to a JSON schema.
    pub structured_output: Option<bool>,
    /// Whether it takes a temperature. Some reasoning models refuse any value but their own.
    pub temperature: Option<bool>,
    /// What its tokens cost. `None`: *unpriced*, which is unknown and not free; a policy decides what that allows.
    pub price: Option<Price>,
    /// When it was made, in Unix seconds, as the provider says.
    pub created: Option<u64>,
    /// Who made it, as the provider says.
    pub owned_by: Option<String>,
    /// Whether the provider has announced its end. Default: no.
    pub deprecated: bool,
}

/// A kind of content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Modality {
    /// Text, tool calls included.
    Text,
    /// Still images.
    Image,
    /// Speech and other sound.
    Audio,
    /// Moving images.
    Video,
    /// PDF files, read by the provider itself.
    Pdf,
    /// Vectors; an answer only. What tells an embedding model from one that can chat.
    Embedding,
}

/// A set of [`Modality`]. Empty means that nothing is known, since a model without input or output would be none.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Modalities(u8);

/// A word that names no [`Modality`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no modality is called `{0}`")]
pub struct UnknownModality(pub String);

// === impl ModelInfo ===

impl ModelInfo {
    /// A model of which only the name is known.
    pub fn named(provider: impl Into<String>, id: impl Into<String>) -> Self {
        Self { id: id.into(), provider: provider.into(), ..Self::default() }
    }

    /// This, with every gap filled from `known`.
    ///
    /// What is known here wins, as a provider's own listing is newer than any catalogue. Names stay; deprecated is
    /// whatever either says.
    #[must_use]
    pub fn or(self, known: &Self) -> Self {
        Self {
            id: self.id,
            provider: self.provider,
            context_window: self.context_window.or(known.context_window),
            input_max: self.input_max.or(known.input_max),
            output_max: self.output_max.or(known.output_max),
            input: if self.input.is_empty() { known.input } else { self.input },
            output: if self.output.is_empty() { known.output } else { self.output },
            tools: self.tools.or(known.tools),
            reasoning: self.reasoning.or(known.reasoning),
            structured_output: self.structured_output.or(known.structured_output),
            temperature: self.temperature.or(known.temperature),
            price: self.price.or_else(|| known.price.clone()),
            created: self.created.or(known.created),
            owned_by: self.owned_by.or_else(|| known.owned_by.clone()),
            deprecated: self.deprecated || known.deprecated,
        }
    }
}

// === impl Modality ===

impl Modality {
    /// All of them, in the order they are listed in.
    pub const ALL: [Self; 6] =
        [Self::Text, Self::Image, Self::Audio, Self::Video, Self::Pdf, Self::Embedding];

    /// Its word in listings and in the catalogue: `text`, `image`, `audio`, `video`, `pdf`, `embedding`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Image => "image",
            Self::Audio => "audio",
            Self::Video => "video",
            Self::Pdf => "pdf",
            Self::Embedding => "embedding",
        }
    }
}

impl fmt::Display for Modality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Modality {
    type Err = UnknownModality;

    /// Reads a [`name`](Modality::name).
    fn from_str(text: &str) -> Result<Self, UnknownModality> {
        Self::ALL
            .into_iter()
            .find(|modality| modality.name() == text)
            .ok_or_else(|| UnknownModality(text.to_owned()))
    }
}

// === impl Modalities ===

impl Modalities {
    /// Nothing known.
    pub const UNKNOWN: Self = Self(0);

    /// Text alone, which is what most models read and write.
    pub const TEXT: Self = Self::UNKNOWN.with(Modality::Text);

    /// This set and one more.
    #[must_use]
    pub const fn with(self, modality: Modality) -> Self {
        Self(self.0 | 1 << modality as u8)
    }

    /// Whether this one is known to be in it.
    pub const fn contains(self, modality: Modality) -> bool {
        self.0 & 1 << modality as u8 != 0
    }

    /// Whether this one is in it, or may be because nothing is known.
    pub const fn allows(self, modality: Modality) -> bool {
        self.is_empty() || self.contains(modality)
    }

    /// Whether nothing is known.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those in it, in the order of [`Modality::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Modality> {
        Modality::ALL.into_iter().filter(move |modality| self.contains(*modality))
    }
}

impl FromIterator<Modality> for Modalities {
    fn from_iter<I: IntoIterator<Item = Modality>>(modalities: I) -> Self {
        modalities.into_iter().fold(Self::UNKNOWN, Self::with)
    }
}

impl fmt::Debug for Modalities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl fmt::Display for Modalities {
    /// `text, image`; empty for the unknown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, modality) in self.iter().enumerate() {
            write!(f, "{}{modality}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::money::NanoUsd;

    #[test]
    fn a_set_holds_what_was_put_in_and_shows_it_in_order() {
        let set: Modalities = [Modality::Pdf, Modality::Text, Modality::Pdf].into_iter().collect();
        assert!(set.contains(Modality::Text) && set.contains(Modality::Pdf));
        assert!(!set.contains(Modality::Image) && !set.allows(Modality::Image));
        assert_eq!(set.to_string(), "text, pdf");
        assert_eq!(format!("{set:?}"), "{Text, Pdf}");
        assert_eq!(set.iter().collect::<Modalities>(), set);
    }

    #[test]
    fn the_empty_set_is_unknown_and_not_nothing() {
        for modality in Modality::ALL {
            assert!(Modalities::UNKNOWN.allows(modality) && !Modalities::UNKNOWN.contains(modality));
        }
    }

    #[test]
    fn every_modality_reads_back_its_name() {
        for modality in Modality::ALL {
            assert_eq!(modality.name().parse(), Ok(modality));
        }
        assert_eq!("smell".parse::<Modality>(), Err(UnknownModality("smell".into())));
    }

    #[test]
    fn a_listing_wins_over_the_catalogue_where_it_says_something() {
        let known = ModelInfo {
            context_window: Some(128_000),
            output_max: Some(16_384),
            input: Modalities::TEXT.with(Modality::Image),
            tools: Some(true),
            price: Some(Price::flat(NanoUsd(1), NanoUsd(2))),
            owned_by: Some("them".into()),
            ..ModelInfo::named("openai", "gpt-4o")
        };
        let listed = ModelInfo {
            context_window: Some(64_000),
            tools: Some(false),
            created: Some(1_715_367_049),
            deprecated: true,
            ..ModelInfo::named("mine", "gpt-4o-2024-08-06")
        };
        let expect = ModelInfo {
            context_window: Some(64_000),
            output_max: Some(16_384),
            input: Modalities::TEXT.with(Modality::Image),
            tools: Some(false),
            price: Some(Price::flat(NanoUsd(1), NanoUsd(2))),
            created: Some(1_715_367_049),
            owned_by: Some("them".into()),
            deprecated: true,
            ..ModelInfo::named("mine", "gpt-4o-2024-08-06")
        };
        assert_eq!(listed.or(&known), expect);
    }
}
