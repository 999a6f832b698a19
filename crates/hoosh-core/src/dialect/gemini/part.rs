//! Reading the parts of a turn, in requests and answers alike.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::value::RawValue;

use super::fields::{compact, take, take_object, take_raw};
use super::partial::PartialArg;
use super::results;
use crate::dialect::Dialect;
use crate::json::{Extra, FieldError, Object};
use crate::request::{MediaSource, Part, PartKind, Signature};

/// A part as it is read. A call or a result is not yet one of ours: the vendor may leave out what ties them together.
pub(super) enum Piece {
    Part(Part),
    Call(CallPiece),
    Result(ResultPiece),
}

/// A call, or in a stream with partial arguments a piece of one.
#[derive(Default)]
pub(super) struct CallPiece {
    pub(super) id: Option<String>,
    pub(super) name: Option<String>,
    pub(super) args: Option<String>,
    pub(super) partial: Vec<PartialArg>,
    pub(super) will_continue: bool,
    pub(super) signature: Option<Signature>,
    pub(super) call_extra: Extra,
    pub(super) part_extra: Extra,
}

pub(super) struct ResultPiece {
    pub(super) id: Option<String>,
    pub(super) name: String,
    pub(super) content: Vec<Part>,
    pub(super) is_error: bool,
    pub(super) part_extra: Extra,
}

/// Fields that say something about a part and are none themselves.
const ABOUT: &[&str] = &[
    "thought",
    "thoughtSignature",
    "thought_signature",
    "videoMetadata",
    "video_metadata",
    "partMetadata",
    "part_metadata",
    "mediaResolution",
    "media_resolution",
];

pub(super) fn read(path: &str, raw: &RawValue) -> Result<Piece, FieldError> {
    let mut object = Object::parse(path, raw.get())?;
    let thought = take::<bool>(&mut object, "thought")?.unwrap_or(false);
    let (signature, redacted) = match take::<String>(&mut object, "thoughtSignature")?.map(read_signature) {
        Some((signature, redacted)) => (Some(signature), redacted),
        None => (None, false),
    };
    if redacted {
        return Ok(Piece::Part(Part { signature, ..PartKind::Redacted.into() }));
    }
    let text = take::<String>(&mut object, "text")?;
    let kind = if let Some(text) = text {
        if thought { PartKind::Reasoning(text) } else { PartKind::Text(text) }
    } else if let Some(call) = take_object(&mut object, "functionCall")? {
        let call = read_call(call)?;
        return Ok(Piece::Call(CallPiece { signature, part_extra: object.rest(), ..call }));
    } else if let Some(result) = take_object(&mut object, "functionResponse")? {
        let mut result = results::read(result)?;
        object.rest().iter().for_each(|(name, value)| result.part_extra.insert(name, value.clone()));
        return Ok(Piece::Result(result));
    } else if let Some(data) = take_object(&mut object, "inlineData")? {
        inline(data)?
    } else if let Some(raw) = take_raw(&mut object, "fileData") {
        let (kind, extra) = file(Object::parse(object.path_of("fileData"), raw.get())?, raw)?;
        let mut part_extra = object.rest();
        extra.iter().for_each(|(name, value)| part_extra.insert(name, value.clone()));
        return Ok(Piece::Part(Part { signature, extra: part_extra, ..kind.into() }));
    } else {
        let extra = object.rest();
        let Some((name, _)) = extra.iter().find(|(name, _)| !ABOUT.contains(name)) else {
            // Nothing but a signature, which then stands for itself.
            let kind =
                if thought { PartKind::Reasoning(String::new()) } else { PartKind::Text(String::new()) };
            return Ok(Piece::Part(Part { signature, extra, ..kind.into() }));
        };
        let kind = PartKind::Other { maker: Dialect::Gemini, kind: name.to_owned(), json: raw.into() };
        return Ok(Piece::Part(kind.into()));
    };
    Ok(Piece::Part(Part { signature, extra: object.rest(), ..kind.into() }))
}

fn read_call(mut call: Object<'_>) -> Result<CallPiece, FieldError> {
    let path = call.path_of("args");
    let args = match take_raw(&mut call, "args") {
        Some(raw) if raw.get().starts_with('{') => Some(compact(raw.get())),
        Some(_) => return Err(FieldError { path, problem: "expected an object".to_owned() }),
        None => None,
    };
    Ok(CallPiece {
        id: take(&mut call, "id")?.filter(|id: &String| !id.is_empty()),
        name: take(&mut call, "name")?,
        args,
        partial: take(&mut call, "partialArgs")?.unwrap_or_default(),
        will_continue: take(&mut call, "willContinue")?.unwrap_or(false),
        call_extra: call.rest(),
        ..CallPiece::default()
    })
}

/// Bytes in the request or the answer.
fn inline(mut data: Object<'_>) -> Result<PartKind, FieldError> {
    let media_type: String = take(&mut data, "mimeType")?.unwrap_or_default();
    let bytes = standard_base64(take(&mut data, "data")?.unwrap_or_default());
    let filename = take(&mut data, "displayName")?;
    Ok(match media_type.split_once('/') {
        Some(("image", _)) => {
            PartKind::Image { source: MediaSource::Base64 { media_type, data: bytes }, detail: None }
        }
        Some(("audio", kind)) => {
            let format = if kind == "mpeg" { "mp3" } else { kind };
            PartKind::Audio { data: bytes, format: format.to_owned() }
        }
        _ => PartKind::File { source: MediaSource::Base64 { media_type, data: bytes }, filename },
    })
}

/// Google takes both alphabets, and its library for Python writes that for URLs; all others take the standard one only.
fn standard_base64(text: String) -> String {
    if text.bytes().any(|byte| matches!(byte, b'-' | b'_')) {
        return text.replace('-', "+").replace('_', "/");
    }
    text
}

/// Something that the provider fetches. Where its type is not the one we would guess, the whole rides along.
fn file(mut data: Object<'_>, raw: &RawValue) -> Result<(PartKind, Extra), FieldError> {
    let uri: String = super::fields::require(&mut data, "fileUri")?;
    let media_type: Option<String> = take(&mut data, "mimeType")?;
    let filename: Option<String> = take(&mut data, "displayName")?;
    let mut extra = Extra::default();
    if media_type.as_deref() != guessed_type(&uri) {
        extra.insert("fileData", raw.into());
    }
    let source = if is_uploaded(&uri) { MediaSource::FileId(uri) } else { MediaSource::Url(uri) };
    let is_image = media_type.is_some_and(|media_type| media_type.starts_with("image/"));
    let kind =
        if is_image { PartKind::Image { source, detail: None } } else { PartKind::File { source, filename } };
    Ok((kind, extra))
}

/// Whether only Google can fetch what is there.
fn is_uploaded(uri: &str) -> bool {
    uri.starts_with("gs://")
        || uri.starts_with("files/")
        || uri.starts_with("https://generativelanguage.googleapis.com/")
}

/// The type of what is at a URL, by the ending of its path.
pub(super) fn guessed_type(url: &str) -> Option<&'static str> {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let (_, ending) = path.rsplit('/').next()?.rsplit_once('.')?;
    Some(match ending.to_ascii_lowercase().as_str() {
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "heic" => "image/heic",
        "heif" => "image/heif",
        "gif" => "image/gif",
        "bmp" => "image/bmp",
        "pdf" => "application/pdf",
        "json" => "application/json",
        "txt" | "md" => "text/plain",
        "html" | "htm" => "text/html",
        "csv" => "text/csv",
        "xml" => "text/xml",
        "mp4" => "video/mp4",
        "mov" => "video/mov",
        "webm" => "video/webm",
        "mpeg" | "mpg" => "video/mpeg",
        "avi" => "video/avi",
        "mp3" => "audio/mp3",
        "wav" => "audio/wav",
        "ogg" => "audio/ogg",
        "flac" => "audio/flac",
        "aac" => "audio/aac",
        _ => return None,
    })
}

/// How a foreign signature begins in base64, as which it is written: Google's libraries read the field as bytes.
const FOREIGN: &str = "aG9vc2";

/// Begins the signature of reasoning that its maker hides, followed by the maker's name and a colon.
const REDACTED: &str = "hoosh-redacted:";

/// Reads a signature, and whether all there is of the piece is this; Google's Python library sends base64 back in the
/// other alphabet.
fn read_signature(text: String) -> (Signature, bool) {
    let foreign = text.starts_with(FOREIGN).then(|| {
        let bytes = STANDARD.decode(&text).or_else(|_| URL_SAFE.decode(&text)).ok()?;
        String::from_utf8(bytes).ok()
    });
    let Some(wire) = foreign.flatten() else {
        return (Signature { maker: Dialect::Gemini, value: text }, false);
    };
    let hidden = wire.strip_prefix(REDACTED).and_then(|rest| rest.split_once(':'));
    match hidden.and_then(|(maker, value)| Some((Dialect::from_name(maker)?, value))) {
        Some((maker, value)) => (Signature { maker, value: value.to_owned() }, true),
        None => match Signature::from_wire(Dialect::Gemini, wire) {
            // What only looked foreign stays as it came.
            own if own.maker == Dialect::Gemini => (Signature { value: text, ..own }, false),
            foreign => (foreign, false),
        },
    }
}

/// A signature for a client.
pub(super) fn signature_for_client(signature: &Signature) -> Cow<'_, str> {
    match signature.for_maker(Dialect::Gemini) {
        Some(own) => own.into(),
        None => STANDARD.encode(&*signature.to_wire(Dialect::Gemini)).into(),
    }
}

/// The same for hidden reasoning.
pub(super) fn redacted_for_client(signature: &Signature) -> String {
    STANDARD.encode(format!("{REDACTED}{}:{}", signature.maker, signature.value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn part(json: &str) -> Part {
        match read("p", serde_json::from_str(json).unwrap()).unwrap() {
            Piece::Part(part) => part,
            Piece::Call(_) | Piece::Result(_) => panic!("{json}"),
        }
    }

    #[test]
    fn pieces_by_their_fields() {
        let base64 =
            |media_type: &str| MediaSource::Base64 { media_type: media_type.into(), data: "AA".into() };
        assert_eq!(part(r#"{"text":"a"}"#).kind, PartKind::Text("a".into()));
        assert_eq!(part(r#"{"text":"a","thought":true}"#).kind, PartKind::Reasoning("a".into()));
        assert_eq!(
            part(r#"{"inline_data":{"mime_type":"image/png","data":"AA"}}"#).kind,
            PartKind::Image { source: base64("image/png"), detail: None }
        );
        assert_eq!(
            part(r#"{"inlineData":{"mimeType":"audio/mpeg","data":"AA"}}"#).kind,
            PartKind::Audio { data: "AA".into(), format: "mp3".into() }
        );
        assert_eq!(
            part(r#"{"inlineData":{"mimeType":"application/pdf","data":"AA","displayName":"a.pdf"}}"#).kind,
            PartKind::File { source: base64("application/pdf"), filename: Some("a.pdf".into()) }
        );
        let code = part(r#"{"thoughtSignature":"x","executableCode":{"code":"1"}}"#);
        assert!(matches!(code.kind, PartKind::Other { kind, .. } if kind == "executableCode"));
        let lone = part(r#"{"thoughtSignature":"x"}"#);
        assert_eq!((lone.kind, lone.signature.unwrap().value), (PartKind::Text(String::new()), "x".into()));
    }

    #[test]
    fn files_keep_a_type_that_cannot_be_guessed() {
        let guessed = part(r#"{"fileData":{"mimeType":"image/png","fileUri":"https://x.test/a.PNG?b=1"}}"#);
        assert!(guessed.extra.is_empty() && matches!(guessed.kind, PartKind::Image { .. }));
        let clip = part(
            r#"{"fileData":{"mimeType":"video/mp4","fileUri":"gs://b/clip"},"videoMetadata":{"fps":2}}"#,
        );
        assert!(matches!(clip.kind, PartKind::File { source: MediaSource::FileId(_), .. }));
        assert_eq!(
            clip.extra.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            ["videoMetadata", "fileData"]
        );
    }

    #[test]
    fn foreign_signatures_travel_as_base64() {
        let signature = Signature { maker: Dialect::Anthropic, value: "a+b/?~".into() };
        let wire = signature_for_client(&signature).into_owned();
        assert_eq!(read_signature(wire.clone()), (signature.clone(), false));
        assert_eq!(read_signature(wire.replace('+', "-").replace('/', "_")), (signature.clone(), false));
        assert_eq!(read_signature(redacted_for_client(&signature)), (signature, true));
        for value in ["CiMB", "aG9vc2", "aG9vc2g6eA=="] {
            let own = Signature { maker: Dialect::Gemini, value: value.into() };
            assert_eq!(read_signature(signature_for_client(&own).into_owned()), (own, false));
        }
    }
}
