//! What the text rests on: `annotations` of a message. Only `url_citation` is known.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::dialect::Dialect;
use crate::json::Object;
use crate::request::Citation;

#[derive(Deserialize, Serialize)]
struct Annotation<'a> {
    #[serde(default, skip_deserializing)]
    r#type: &'static str,
    #[serde(borrow)]
    url_citation: UrlCitation<'a>,
}

#[derive(Deserialize, Serialize)]
struct UrlCitation<'a> {
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    content: Option<Cow<'a, str>>,
    #[serde(default)]
    end_index: Option<u64>,
    #[serde(default)]
    start_index: Option<u64>,
    #[serde(borrow, default)]
    title: Option<Cow<'a, str>>,
    #[serde(borrow)]
    url: Cow<'a, str>,
}

/// Takes the citations of a message or delta; an empty list stays where it is.
pub(super) fn take(object: &mut Object<'_>) -> Vec<Citation> {
    let Some(raw) = object.peek("annotations") else { return Vec::new() };
    let items: Vec<&RawValue> = serde_json::from_str(raw.get()).unwrap_or_default();
    if !items.is_empty() {
        object.take_raw("annotations");
    }
    items.into_iter().map(citation).collect()
}

fn citation(raw: &RawValue) -> Citation {
    let found = serde_json::from_str::<Annotation<'_>>(raw.get()).ok().map(|one| one.url_citation);
    let (maker, json) = (Dialect::OpenAiChat, raw.into());
    match found {
        Some(found) => Citation {
            url: Some(found.url.into_owned()),
            title: found.title.map(Cow::into_owned),
            quote: found.content.map(Cow::into_owned),
            span: found.start_index.zip(found.end_index),
            maker,
            json,
        },
        None => Citation { url: None, title: None, quote: None, span: None, maker, json },
    }
}

/// Whether a citation has a form here.
pub(super) fn is_said(citation: &Citation) -> bool {
    citation.maker == Dialect::OpenAiChat || citation.url.is_some()
}

#[derive(Clone)]
pub(super) struct CitationBody<'a>(pub(super) &'a Citation);

impl Serialize for CitationBody<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let citation = self.0;
        if citation.maker == Dialect::OpenAiChat {
            return citation.json.serialize(serializer);
        }
        // OpenAI's own client wants all of these to be there.
        let (start, end) = citation.span.unwrap_or_default();
        let url_citation = UrlCitation {
            content: citation.quote.as_deref().map(Cow::Borrowed),
            end_index: Some(end),
            start_index: Some(start),
            title: Some(Cow::Borrowed(citation.title.as_deref().unwrap_or_default())),
            url: Cow::Borrowed(citation.url.as_deref().unwrap_or_default()),
        };
        Annotation { r#type: "url_citation", url_citation }.serialize(serializer)
    }
}
