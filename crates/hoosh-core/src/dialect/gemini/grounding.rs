//! What an answer rests on: Google's `groundingMetadata`, by which its search tells its sources.
//!
//! Sources stand in one list, and which words rest on which of them in another, counted in bytes. Source:
//! ai.google.dev/gemini-api/docs/google-search, read 2026-11-24.

use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::dialect::Dialect;
use crate::dialect::wire::entry;
use crate::json::{Extra, RawJson};
use crate::request::Citation;

/// The field of a candidate.
pub(super) const NAME: &str = "groundingMetadata";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    #[serde(borrow, default)]
    grounding_chunks: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    grounding_supports: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Chunk<'a> {
    #[serde(borrow, alias = "retrievedContext", alias = "maps", default)]
    web: Option<Page<'a>>,
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow, default)]
    uri: Option<super::fields::Text<'a>>,
    #[serde(borrow, default)]
    title: Option<super::fields::Text<'a>>,
    #[serde(borrow, default)]
    text: Option<super::fields::Text<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Support<'a> {
    #[serde(borrow, default)]
    segment: Option<&'a RawValue>,
    #[serde(default)]
    grounding_chunk_indices: Vec<usize>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Segment<'a> {
    #[serde(default)]
    start_index: usize,
    #[serde(default)]
    end_index: usize,
    #[serde(borrow, default)]
    text: Option<super::fields::Text<'a>>,
}

/// Which sources have been told, so that metadata repeated or grown in a later chunk is told once.
#[derive(Debug, Default)]
pub(super) struct Told {
    chunks: usize,
    supports: usize,
}

/// The sources of an answer whose text so far is `text`, as far as they are new.
pub(super) fn citations(raw: &RawValue, text: &str, told: &mut Told) -> Vec<Citation> {
    let Ok(metadata) = serde_json::from_str::<Metadata<'_>>(raw.get()) else { return Vec::new() };
    let mut found = Vec::new();
    for support in metadata.grounding_supports.iter().skip(told.supports) {
        let Ok(support) = serde_json::from_str::<Support<'_>>(support.get()) else { continue };
        let chunks = support.grounding_chunk_indices.iter();
        for chunk in chunks.filter_map(|index| metadata.grounding_chunks.get(*index)) {
            found.extend(citation(chunk, support.segment, text));
        }
    }
    if metadata.grounding_supports.is_empty() {
        let new = metadata.grounding_chunks.iter().skip(told.chunks);
        found.extend(new.filter_map(|chunk| citation(chunk, None, text)));
    }
    told.chunks = told.chunks.max(metadata.grounding_chunks.len());
    told.supports = told.supports.max(metadata.grounding_supports.len());
    found
}

fn citation(chunk: &RawValue, segment: Option<&RawValue>, text: &str) -> Option<Citation> {
    let page = serde_json::from_str::<Chunk<'_>>(chunk.get()).ok()?.web?;
    let owned = |text: Option<super::fields::Text<'_>>| text.map(|text| text.0.into_owned());
    let mut whole = Extra::default();
    whole.insert("groundingChunk", chunk.into());
    if let Some(segment) = segment {
        whole.insert("segment", segment.into());
    }
    Some(Citation {
        url: owned(page.uri),
        title: owned(page.title),
        quote: owned(page.text),
        span: segment.and_then(|segment| span(segment, text)),
        maker: Dialect::Gemini,
        json: RawJson::from_value(&whole).ok()?,
    })
}

/// A segment counted in characters, if the words are where it says.
fn span(segment: &RawValue, text: &str) -> Option<(u64, u64)> {
    let segment: Segment<'_> = serde_json::from_str(segment.get()).ok()?;
    let words = text.get(segment.start_index..segment.end_index)?;
    if segment.text.is_some_and(|text| text.0 != words) {
        return None;
    }
    let from = text[..segment.start_index].chars().count() as u64;
    Some((from, from + words.chars().count() as u64))
}

/// Sources that another dialect told, for an answer of this text.
pub(super) struct GroundingBody<'a>(pub(super) &'a [&'a Citation], pub(super) &'a str);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SupportBody<'a> {
    segment: SegmentBody<'a>,
    grounding_chunk_indices: [usize; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SegmentBody<'a> {
    start_index: usize,
    end_index: usize,
    text: &'a str,
}

struct ChunkBody<'a>(&'a Citation);
struct PageBody<'a>(&'a Citation);

impl Serialize for GroundingBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(citations, text) = self;
        let chunks: Vec<_> = citations.iter().map(|citation| ChunkBody(citation)).collect();
        let supports: Vec<_> = citations
            .iter()
            .enumerate()
            .filter_map(|(index, citation)| {
                let segment = segment(citation.span?, text)?;
                Some(SupportBody { segment, grounding_chunk_indices: [index] })
            })
            .collect();
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("groundingChunks", &chunks)?;
        map.serialize_entry("groundingSupports", &supports)?;
        map.end()
    }
}

fn segment((from, to): (u64, u64), text: &str) -> Option<SegmentBody<'_>> {
    let byte = |at: u64| {
        let ends = text.char_indices().map(|(byte, _)| byte).chain([text.len()]);
        ends.into_iter().nth(usize::try_from(at).ok()?)
    };
    let (start_index, end_index) = (byte(from)?, byte(to)?);
    Some(SegmentBody { start_index, end_index, text: text.get(start_index..end_index)? })
}

impl Serialize for ChunkBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        let kind = if self.0.url.is_some() { "web" } else { "retrievedContext" };
        map.serialize_entry(kind, &PageBody(self.0))?;
        map.end()
    }
}

impl Serialize for PageBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let citation = self.0;
        let mut map = serializer.serialize_map(None)?;
        entry(&mut map, "uri", &citation.url)?;
        entry(&mut map, "title", &citation.title)?;
        if citation.url.is_none() {
            // Only documents have words of their own.
            entry(&mut map, "text", &citation.quote)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const METADATA: &str = r#"{"webSearchQueries":["q"],"groundingChunks":[{"web":{"uri":"u","title":"t"}},{"retrievedContext":{"title":"d","text":"words"}}],
        "groundingSupports":[{"segment":{"startIndex":4,"endIndex":8,"text":"häß"},"groundingChunkIndices":[0,1,9]}]}"#;

    #[test]
    fn sources_are_told_once_and_counted_in_characters() {
        let metadata: &RawValue = serde_json::from_str(METADATA).unwrap();
        let mut told = Told::default();
        // `ä` and `ß` are two bytes each.
        let found = citations(metadata, "ä h häß", &mut told);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].url.as_deref(), found[0].span), (Some("u"), None), "the words are elsewhere");
        assert_eq!(citations(metadata, "", &mut told), []);
        let found = citations(metadata, "ä hhäß", &mut Told::default());
        assert_eq!(found[0].span, None);
        let text = "ää häß";
        let segment = r#"{"startIndex":5,"endIndex":10,"text":"häß"}"#;
        assert_eq!(span(serde_json::from_str(segment).unwrap(), text), Some((3, 6)));
        assert_eq!(found[1].quote.as_deref(), Some("words"));
    }

    #[test]
    fn foreign_sources_become_googles() {
        let foreign = Citation {
            url: Some("u".into()),
            title: None,
            quote: Some("q".into()),
            span: Some((1, 3)),
            maker: Dialect::Anthropic,
            json: RawJson::parse("{}").unwrap(),
        };
        assert_eq!(
            serde_json::to_string(&GroundingBody(&[&foreign], "äöü")).unwrap(),
            r#"{"groundingChunks":[{"web":{"uri":"u"}}],"groundingSupports":[{"segment":{"startIndex":2,"endIndex":6,"text":"öü"},"groundingChunkIndices":[0]}]}"#
        );
    }
}
