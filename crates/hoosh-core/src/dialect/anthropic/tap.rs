//! Watching an answer that is passed through unread.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::encode::opening;
use super::error::reported;
use super::usage::Counts;
use crate::dialect::openai::tap::read;
use crate::dialect::wire::PassingText;
use crate::dialect::{DecodeError, ReplyContext, Seen, Tap};
use crate::json::FieldError;
use crate::usage::Usage;

#[derive(Default)]
pub(in crate::dialect) struct MessagesTap {
    counts: Counts,
    text: PassingText,
    /// Whether a block has begun, after which no second message may.
    begun: bool,
    /// Whether the client has been told that a message begins, by the provider or in its place.
    is_opened: bool,
    finished: bool,
    done: bool,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    #[serde(borrow, default)]
    message: Option<Message<'a>>,
    #[serde(borrow, default)]
    delta: Option<Delta<'a>>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow, default)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    thinking: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    partial_json: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    stop_reason: Option<Cow<'a, str>>,
}

/// A whole answer, of which only the frame is looked at.
#[derive(Deserialize)]
struct Whole<'a> {
    #[serde(borrow, default)]
    r#type: Cow<'a, str>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
}

impl MessagesTap {
    fn note_usage(&mut self, raw: Option<&RawValue>) {
        if let Some(raw) = raw {
            self.counts.update(Counts::read(raw.get()));
        }
    }

    fn delta(&mut self, delta: Option<Delta<'_>>) -> bool {
        let Some(delta) = delta else { return false };
        let mut output = false;
        for text in [delta.text, delta.thinking, delta.partial_json].into_iter().flatten() {
            output |= !text.is_empty();
            self.text.push(&text);
        }
        output
    }
}

impl Tap for MessagesTap {
    fn event(&mut self, data: &[u8]) -> Result<Seen, DecodeError> {
        // What follows the last word belongs to nothing.
        if self.done {
            return Ok(Seen::default());
        }
        let event: Event<'_> = read(data)?;
        let output = match &*event.r#type {
            "content_block_delta" => self.delta(event.delta),
            // Of the blocks that begin, only those of text and thinking show nothing yet; a client sees what is called.
            "content_block_start" => {
                self.begun = true;
                !is_empty_block(data)
            }
            "message_start" if self.begun => {
                let problem = "a second message begins inside the first".to_owned();
                return Err(FieldError { path: "type".to_owned(), problem }.into());
            }
            "message_start" => {
                self.is_opened = true;
                self.note_usage(event.message.and_then(|message| message.usage));
                false
            }
            "message_delta" => {
                self.note_usage(event.usage);
                self.finished |= event.delta.is_some_and(|delta| delta.stop_reason.is_some());
                self.finished
            }
            "message_stop" => {
                self.done = true;
                false
            }
            "error" => {
                let json = serde_json::from_slice(data).unwrap_or_default();
                return Err(DecodeError::Reported(Box::new(reported(&json))));
            }
            _ => false,
        };
        Ok(Seen { output, usage_only: false })
    }

    fn whole(&mut self, body: &[u8]) -> Result<(), DecodeError> {
        let whole: Whole<'_> = read(body)?;
        if whole.r#type == "error" {
            let json = serde_json::from_slice(body).unwrap_or_default();
            return Err(DecodeError::Reported(Box::new(reported(&json))));
        }
        if whole.content.is_none() {
            let problem = "is missing".to_owned();
            return Err(FieldError { path: "content".to_owned(), problem }.into());
        }
        self.note_usage(whole.usage);
        Ok(())
    }

    fn is_complete(&self) -> bool {
        self.done && self.finished
    }

    fn is_done(&self) -> bool {
        self.done
    }

    fn usage(&self) -> Option<Usage> {
        self.counts.usage()
    }

    fn output_text(&self) -> &str {
        self.text.as_str()
    }

    /// llama.cpp begins without `message_start` when the first token is only a part of a character.
    fn missing_opening(&mut self, context: &ReplyContext<'_>, model: &str) -> Option<Vec<u8>> {
        let is_missing = self.begun && !self.is_opened;
        self.is_opened |= is_missing;
        is_missing.then(|| opening(context, model))
    }
}

/// Whether the block that begins is one of text or thinking, which is empty as yet.
fn is_empty_block(data: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Start<'a> {
        #[serde(borrow)]
        content_block: Block<'a>,
    }
    #[derive(Deserialize)]
    struct Block<'a> {
        #[serde(borrow)]
        r#type: Cow<'a, str>,
    }
    serde_json::from_slice::<Start<'_>>(data)
        .is_ok_and(|start| matches!(&*start.content_block.r#type, "text" | "thinking"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(data: &str, output: bool) {
        assert_eq!(MessagesTap::default().event(data.as_bytes()), Ok(Seen { output, usage_only: false }));
    }

    #[test]
    fn what_a_client_would_see_is_output() {
        check(r#"{"type":"message_start","message":{"usage":{"input_tokens":1}}}"#, false);
        check(r#"{"type":"ping"}"#, false);
        check(r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#, false);
        check(
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t"}}"#,
            true,
        );
        check(r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}"#, true);
        check(
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"a"}}"#,
            false,
        );
        check(
            r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":1}}"#,
            true,
        );
    }

    #[test]
    fn a_stream_is_complete_after_its_reason_and_its_last_word() {
        let mut tap = MessagesTap::default();
        tap.event(br#"{"type":"message_stop"}"#).unwrap();
        assert!(tap.is_done() && !tap.is_complete());
        let mut tap = MessagesTap::default();
        tap.event(br#"{"type":"message_start","message":{"usage":{"input_tokens":4,"output_tokens":1}}}"#)
            .unwrap();
        tap.event(
            br#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a\u00e4"}}"#,
        )
        .unwrap();
        tap.event(
            br#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":3}}"#,
        )
        .unwrap();
        assert!(!tap.is_complete());
        tap.event(br#"{"type":"message_stop"}"#).unwrap();
        assert!(tap.is_complete());
        assert_eq!((tap.usage().unwrap().total(), tap.output_text()), (7, "aä"));
    }

    #[test]
    fn a_whole_answer_needs_content() {
        assert!(MessagesTap::default().whole(b"{}").is_err());
        assert!(MessagesTap::default().whole(br#"{"type":"error","error":{"message":"m"}}"#).is_err());
        assert!(MessagesTap::default().whole(br#"{"type":"message","content":[]}"#).is_ok());
    }
}
