//! Watching an answer that is passed through unread.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::reply::failed;
use super::usage;
use crate::dialect::openai::DONE;
use crate::dialect::openai::tap::refuse_error;
use crate::dialect::wire::{PassingText, reply_text};
use crate::dialect::{DecodeError, Seen, Tap};
use crate::json::{FieldError, problem};
use crate::usage::Usage;

#[derive(Default)]
pub(in crate::dialect) struct ResponsesTap {
    usage: Option<Usage>,
    text: PassingText,
    done: bool,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    delta: Option<&'a RawValue>,
    #[serde(borrow, default)]
    response: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Response<'a> {
    #[serde(default)]
    output: Option<IgnoredAny>,
    #[serde(borrow, default)]
    status: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    service_tier: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

fn read<'a, T: Deserialize<'a>>(data: &'a [u8]) -> Result<T, DecodeError> {
    serde_json::from_str(reply_text(data)?)
        .map_err(|error| FieldError { path: String::new(), problem: problem(&error) }.into())
}

impl ResponsesTap {
    fn response(&mut self, raw: Option<&RawValue>) -> Result<(), DecodeError> {
        let Some(raw) = raw else { return Ok(()) };
        let response: Response<'_> = read(raw.get().as_bytes())?;
        self.usage = usage::of_answer(response.usage, response.service_tier).or(self.usage);
        Ok(())
    }
}

impl Tap for ResponsesTap {
    fn event(&mut self, data: &[u8]) -> Result<Seen, DecodeError> {
        // What follows the last word belongs to nothing.
        if self.done {
            return Ok(Seen::default());
        }
        if data == DONE {
            return Ok(Seen::default());
        }
        let event: Event<'_> = read(data)?;
        let kind = event.kind.as_deref().unwrap_or("");
        match kind {
            "error" => return Err(error_event(data, event.error)),
            "response.failed" => {
                self.response(event.response)?;
                return Err(failed_response(event.response));
            }
            "response.completed" | "response.incomplete" => {
                self.response(event.response)?;
                self.done = true;
                return Ok(Seen { output: true, usage_only: false });
            }
            "response.created" | "response.in_progress" | "response.queued" | "keepalive" => {
                return Ok(Seen::default());
            }
            "" => refuse_error(event.error)?,
            _ => {}
        }
        if let Some(delta) = event.delta {
            match serde_json::from_str::<Cow<'_, str>>(delta.get()) {
                Ok(text) => self.text.push(&text),
                Err(_) => self.text.push(delta.get()),
            }
        }
        // The frame of an item that is still empty shows nothing.
        let frame = matches!(kind, "" | "response.output_item.added" | "response.content_part.added")
            || kind == "response.reasoning_summary_part.added";
        Ok(Seen { output: !frame, usage_only: false })
    }

    fn whole(&mut self, body: &[u8]) -> Result<(), DecodeError> {
        let response: Response<'_> = read(body)?;
        refuse_error(response.error)?;
        if response.status.as_deref() == Some("failed") {
            return Err(failed(response.error));
        }
        if response.output.is_none() {
            return Err(FieldError { path: "output".to_owned(), problem: "is missing".to_owned() }.into());
        }
        self.usage = usage::of_answer(response.usage, response.service_tier);
        Ok(())
    }

    fn is_complete(&self) -> bool {
        self.done
    }

    fn is_done(&self) -> bool {
        self.done
    }

    fn usage(&self) -> Option<Usage> {
        self.usage
    }

    fn output_text(&self) -> &str {
        self.text.as_str()
    }
}

/// What an `error` event says: its fields are beside `type`, some servers put them under `error`.
pub(super) fn error_event(data: &[u8], nested: Option<&RawValue>) -> DecodeError {
    match nested {
        Some(raw) => failed(Some(raw)),
        None => failed(serde_json::from_slice(data).ok()),
    }
}

/// What a `response.failed` event says.
pub(super) fn failed_response(raw: Option<&RawValue>) -> DecodeError {
    let response: Option<Response<'_>> = raw.and_then(|raw| serde_json::from_str(raw.get()).ok());
    failed(response.and_then(|response| response.error))
}
