//! The ways a call takes through the subject, and what is sent on each.

use bytes::Bytes;

use crate::mock::Script;

/// Which dialect the client speaks and which the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// OpenAI chat on both sides: what the floor can do too.
    Passed,
    /// OpenAI chat, answered by a provider that speaks Anthropic's messages.
    ChatOverMessages,
    /// Anthropic's messages, answered by a provider that speaks OpenAI chat.
    MessagesOverChat,
}

// === impl Lane ===

impl Lane {
    /// Those on which the subject reads and writes every event anew.
    pub(crate) const TRANSLATED: [Self; 2] = [Self::ChatOverMessages, Self::MessagesOverChat];

    /// As the rows name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Passed => "chat passed through",
            Self::ChatOverMessages => "chat over messages",
            Self::MessagesOverChat => "messages over chat",
        }
    }

    pub(super) fn path(self) -> &'static str {
        if self.client_is_anthropic() { "/v1/messages" } else { "/v1/chat/completions" }
    }

    /// The body of a plain call: about 2 kB, six messages and sampling fields, as an agent sends them.
    pub(crate) fn call_body(self) -> Bytes {
        let question = "A worker takes a job from the queue, writes its name beside it and begins. Then the machine \
                        sleeps for a minute, and when it wakes another worker holds the same job. Which of the two \
                        may write the result, and how does the store know? ";
        let system = "You are a careful engineer. Answer in one paragraph and name the invariant.";
        let mut messages = vec![
            serde_json::json!({"role": "user", "content": question}),
            serde_json::json!({"role": "assistant", "content": "The one with the higher fencing token; the store refuses the other."}),
            serde_json::json!({"role": "user", "content": question.repeat(3)}),
            serde_json::json!({"role": "assistant", "content": "Then the lease has to carry the epoch, and every write has to say it."}),
            serde_json::json!({"role": "user", "content": question.repeat(2)}),
        ];
        let model = self.model("bench");
        body(&if self.client_is_anthropic() {
            serde_json::json!({
                "model": model, "system": system, "messages": messages, "temperature": 0.7, "max_tokens": 256,
                "metadata": {"user_id": "bench"},
            })
        } else {
            messages.insert(0, serde_json::json!({"role": "system", "content": system}));
            serde_json::json!({
                "model": model, "messages": messages, "temperature": 0.7, "max_tokens": 256, "user": "bench",
            })
        })
    }

    /// The body of a streamed call that plays `script`.
    pub(super) fn stream_body(self, script: Script) -> Bytes {
        let mut call = serde_json::json!({
            "model": self.model(&script.to_string()), "stream": true, "max_tokens": 4096,
            "messages": [{"role": "user", "content": "Explain leases in one paragraph."}],
        });
        if !self.client_is_anthropic() {
            call["stream_options"] = serde_json::json!({"include_usage": true});
        }
        body(&call)
    }

    fn client_is_anthropic(self) -> bool {
        self == Self::MessagesOverChat
    }

    /// The name that leads to the provider of this lane, see `Bed::config`.
    fn model(self, name: &str) -> String {
        match self {
            Self::Passed => name.to_owned(),
            Self::ChatOverMessages => format!("messages/{name}"),
            Self::MessagesOverChat => format!("mock/{name}"),
        }
    }
}

fn body(value: &serde_json::Value) -> Bytes {
    Bytes::from(value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_call_is_about_2_kb() {
        for lane in [Lane::Passed, Lane::ChatOverMessages, Lane::MessagesOverChat] {
            let bytes = lane.call_body().len();
            assert!((1_800..2_300).contains(&bytes), "{lane:?}: {bytes} bytes");
        }
    }
}
