//! Writing the parts of a turn, in requests and answers alike.

use std::borrow::Cow;

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::results::{REST, ResponseBody};
use crate::dialect::wire::{Arguments, List, entry};
use crate::json::{Extra, RawJson};
use crate::tool::ToolResult;

/// A turn.
pub(super) struct Content<'a> {
    pub(super) role: Option<&'static str>,
    pub(super) parts: Vec<PartBody<'a>>,
}

/// A part as it is written.
pub(super) struct PartBody<'a> {
    pub(super) what: What<'a>,
    pub(super) signature: Option<Cow<'a, str>>,
    /// Its unknown fields, if they are of this dialect.
    pub(super) extra: Option<&'a Extra>,
}

pub(super) enum What<'a> {
    Text { text: &'a str, thought: bool },
    Inline(Inline<'a>),
    File { uri: Cow<'a, str>, media_type: Option<&'a str>, filename: Option<&'a str> },
    Call { id: Option<&'a str>, name: &'a str, arguments: &'a str, extra: Option<&'a Extra> },
    Result { id: Option<&'a str>, name: &'a str, result: &'a ToolResult, media: Vec<Inline<'a>> },
    Raw(&'a RawJson),
}

/// Bytes in the request or the answer.
pub(super) struct Inline<'a> {
    pub(super) media_type: Cow<'a, str>,
    pub(super) data: &'a str,
    pub(super) filename: Option<&'a str>,
}

struct InlineData<'a>(&'a Inline<'a>);
struct FileData<'a>(&'a str, Option<&'a str>, Option<&'a str>);
struct Call<'a>(Option<&'a str>, &'a str, &'a str, Option<&'a Extra>);
struct Response<'a> {
    id: Option<&'a str>,
    name: &'a str,
    result: &'a ToolResult,
    media: &'a [Inline<'a>],
    rest: Option<&'a RawJson>,
}

impl<'a> From<What<'a>> for PartBody<'a> {
    fn from(what: What<'a>) -> Self {
        Self { what, signature: None, extra: None }
    }
}

impl Serialize for Content<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if !self.parts.is_empty() {
            map.serialize_entry("parts", &self.parts)?;
        }
        entry(&mut map, "role", &self.role)?;
        map.end()
    }
}

impl Serialize for PartBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let What::Raw(json) = self.what {
            return json.serialize(serializer);
        }
        let rest = |name: &str| self.extra.and_then(|extra| extra.get(name));
        let mut map = serializer.serialize_map(None)?;
        match &self.what {
            What::Text { text, thought } => {
                map.serialize_entry("text", text)?;
                if *thought {
                    map.serialize_entry("thought", &true)?;
                }
            }
            What::Inline(inline) => map.serialize_entry("inlineData", &InlineData(inline))?,
            What::File { uri, media_type, filename } => match rest("fileData") {
                Some(whole) => map.serialize_entry("fileData", whole)?,
                None => map.serialize_entry("fileData", &FileData(uri, *media_type, *filename))?,
            },
            What::Call { id, name, arguments, extra } => {
                map.serialize_entry("functionCall", &Call(*id, name, arguments, *extra))?;
            }
            What::Result { id, name, result, media } => {
                let response = Response { id: *id, name, result, media, rest: rest(REST) };
                map.serialize_entry("functionResponse", &response)?;
            }
            What::Raw(_) => {}
        }
        entry(&mut map, "thoughtSignature", &self.signature)?;
        for (name, value) in self.extra.into_iter().flat_map(Extra::iter) {
            if name != "fileData" && name != REST {
                map.serialize_entry(name, value)?;
            }
        }
        map.end()
    }
}

impl Serialize for InlineData<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("mimeType", &self.0.media_type)?;
        map.serialize_entry("data", self.0.data)?;
        entry(&mut map, "displayName", &self.0.filename)?;
        map.end()
    }
}

impl Serialize for FileData<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        entry(&mut map, "mimeType", &self.1)?;
        map.serialize_entry("fileUri", self.0)?;
        entry(&mut map, "displayName", &self.2)?;
        map.end()
    }
}

impl Serialize for Call<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        entry(&mut map, "id", &self.0)?;
        map.serialize_entry("name", self.1)?;
        map.serialize_entry("args", &Arguments(self.2))?;
        if let Some(extra) = self.3 {
            extra.write(&mut map)?;
        }
        map.end()
    }
}

impl Serialize for Response<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(serde::Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Media<'a> {
            inline_data: InlineData<'a>,
        }
        let mut map = serializer.serialize_map(None)?;
        entry(&mut map, "id", &self.id)?;
        map.serialize_entry("name", self.name)?;
        map.serialize_entry("response", &ResponseBody(self.result))?;
        if !self.media.is_empty() {
            let media = self.media.iter().map(|inline| Media { inline_data: InlineData(inline) });
            map.serialize_entry("parts", &List(media))?;
        }
        if let Some(rest) = self.rest
            && let Ok(rest) = crate::json::Object::parse("", rest.get())
        {
            rest.rest().write(&mut map)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(arguments: &str, expected: &str) {
        let call = What::Call { id: None, name: "f", arguments, extra: None };
        let written = serde_json::to_string(&PartBody::from(call)).unwrap();
        assert_eq!(written, format!(r#"{{"functionCall":{{"name":"f","args":{expected}}}}}"#));
    }

    #[test]
    fn arguments_are_always_an_object() {
        check(r#" {"a": 1.50} "#, r#"{"a": 1.50}"#);
        check("", "{}");
        check("[1]", r#"{"arguments":"[1]"}"#);
        check(r#"{"a":"#, r#"{"arguments":"{\"a\":"}"#);
    }
}
