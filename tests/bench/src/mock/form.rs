//! The two dialects that the mock answers in: whole answers and the events of streams.

use crate::stamp;

/// What stands before the send time in a content event. It is in the text, so it also survives a gateway that
/// decodes the event and writes it anew; `content` and `text` are the fields that have it.
pub(crate) const CONTENT_MARK: &[u8] = b"\":\"@";

/// How the events begin that end a proper stream.
pub(crate) const ENDS: [&[u8]; 2] = [b"data: [DONE]", b"event: message_stop"];

/// Prompt tokens that every answer reports.
const PROMPT_TOKENS: u32 = 412;

/// A dialect.
#[derive(Clone, Copy)]
pub(super) enum Form {
    /// OpenAI chat.
    Chat,
    /// Anthropic's messages.
    Messages,
}

/// A dialect with everything that is the same in all events of a stream, so that it is written once.
pub(super) enum Pen {
    Chat {
        /// `data: {...,"choices":[`
        opening: String,
    },
    Messages {
        model: String,
    },
}

// === impl Form ===

impl Form {
    /// About 600 bytes, shaped like what the vendor sends.
    pub(super) fn whole(self, model: &str) -> String {
        let model = serde_json::Value::from(model);
        let text = "A lease is a promise with an end: whoever holds it may act until it runs out, and when it has, nobody needs to ask whether the holder is still alive.";
        match self {
            Self::Chat => format!(
                r#"{{"id":"chatcmpl-Bench0000000000000000000000","object":"chat.completion","created":1700000000,"model":{model},"choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}","refusal":null,"annotations":[]}},"logprobs":null,"finish_reason":"stop"}}],"usage":{{"prompt_tokens":412,"completion_tokens":36,"total_tokens":448,"prompt_tokens_details":{{"cached_tokens":0,"audio_tokens":0}},"completion_tokens_details":{{"reasoning_tokens":0,"audio_tokens":0}}}},"system_fingerprint":"fp_bench"}}"#
            ),
            Self::Messages => format!(
                r#"{{"id":"msg_Bench0000000000000000000000","type":"message","role":"assistant","model":{model},"content":[{{"type":"text","text":"{text}"}}],"stop_reason":"end_turn","stop_sequence":null,"usage":{{"input_tokens":412,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"cache_creation":{{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":0}},"output_tokens":36,"service_tier":"standard"}}}}"#
            ),
        }
    }

    pub(super) fn pen(self, model: &str) -> Pen {
        let model = serde_json::Value::from(model).to_string();
        match self {
            Self::Messages => Pen::Messages { model },
            Self::Chat => Pen::Chat {
                opening: format!(
                    "data: {{\"id\":\"chatcmpl-Bench0000000000000000000000\",\"object\":\"chat.completion.chunk\",\
                     \"created\":1700000000,\"model\":{model},\"system_fingerprint\":\"fp_bench\",\"choices\":["
                ),
            },
        }
    }
}

// === impl Pen ===

impl Pen {
    /// What comes before the first text.
    pub(super) fn begin(&self) -> String {
        match self {
            Self::Chat { opening } => {
                chunk(opening, r#"{"role":"assistant","content":"","refusal":null}"#, "null")
            }
            Self::Messages { model } => {
                let start = format!(
                    r#"{{"type":"message_start","message":{{"id":"msg_Bench0000000000000000000000","type":"message","role":"assistant","model":{model},"content":[],"stop_reason":null,"stop_sequence":null,"usage":{{"input_tokens":{PROMPT_TOKENS},"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":1}}}}}}"#
                );
                let block =
                    r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#;
                message("message_start", &start) + &message("content_block_start", block)
            }
        }
    }

    /// Text that says when it was sent.
    pub(super) fn content(&self) -> String {
        let now = stamp::now_ns();
        match self {
            Self::Chat { opening } => chunk(opening, &format!("{{\"content\":\"@{now:020}\"}}"), "null"),
            Self::Messages { .. } => {
                let delta = format!(
                    r#"{{"type":"content_block_delta","index":0,"delta":{{"type":"text_delta","text":"@{now:020}"}}}}"#
                );
                message("content_block_delta", &delta)
            }
        }
    }

    /// What says that there is no more text.
    pub(super) fn finish(&self) -> String {
        match self {
            Self::Chat { opening } => chunk(opening, "{}", "\"stop\""),
            Self::Messages { .. } => {
                message("content_block_stop", r#"{"type":"content_block_stop","index":0}"#)
            }
        }
    }

    pub(super) fn usage(&self, output: u32) -> String {
        match self {
            Self::Chat { opening } => {
                let total = PROMPT_TOKENS + output;
                format!(
                    "{opening}],\"usage\":{{\"prompt_tokens\":{PROMPT_TOKENS},\"completion_tokens\":{output},\"total_tokens\":{total}}}}}\n\n"
                )
            }
            Self::Messages { .. } => {
                let delta = format!(
                    r#"{{"type":"message_delta","delta":{{"stop_reason":"end_turn","stop_sequence":null}},"usage":{{"output_tokens":{output}}}}}"#
                );
                message("message_delta", &delta)
            }
        }
    }

    /// The last word.
    pub(super) fn end(&self) -> String {
        match self {
            Self::Chat { .. } => "data: [DONE]\n\n".to_owned(),
            Self::Messages { .. } => message("message_stop", r#"{"type":"message_stop"}"#),
        }
    }
}

fn chunk(opening: &str, delta: &str, finish: &str) -> String {
    format!(
        "{opening}{{\"index\":0,\"delta\":{delta},\"logprobs\":null,\"finish_reason\":{finish}}}],\"usage\":null}}\n\n"
    )
}

fn message(name: &str, data: &str) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_json_with_usage_and_about_600_bytes() {
        for (form, tokens) in [(Form::Chat, "completion_tokens"), (Form::Messages, "output_tokens")] {
            let text = form.whole("bench \"quoted\"");
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(value["model"], "bench \"quoted\"");
            assert_eq!(value["usage"][tokens], 36);
            assert!((450..750).contains(&text.len()), "{} bytes", text.len());
        }
    }
}
