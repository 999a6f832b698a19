//! A streamed answer as a body: one frame per event, in the order the vendor sends them.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use hyper::body::{Body, Frame};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::{
    form::{Form, Pen},
    script::Script,
};

/// The body of a streamed answer.
pub(crate) struct Events {
    script: Script,
    next: Step,
    pen: Pen,
    /// Ticks between content events; `None` if the script has no gap.
    pace: Option<Interval>,
}

/// What the next frame will be. The role comes as an event of its own before the first text, as OpenAI does it:
/// a gateway that holds the answer back until there is output has something to hold back.
enum Step {
    Role,
    Content { sent: u32 },
    Finish,
    Usage,
    Done,
    End,
}

// === impl Events ===

impl Events {
    pub(super) fn new(form: Form, script: Script, model: &str) -> Self {
        let pace = match script {
            Script::Play { gap, .. } if !gap.is_zero() => {
                let mut ticks = interval_at(Instant::now() + gap, gap);
                // A late event must not be followed by a burst: the script says how far apart events are.
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                Some(ticks)
            }
            _ => None,
        };
        Self { script, next: Step::Role, pen: form.pen(model), pace }
    }
}

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let (text, next) = match self.next {
            Step::Role => {
                let next = if self.script.events() == 0 { Step::Finish } else { Step::Content { sent: 0 } };
                (self.pen.begin(), next)
            }
            // No waker is kept: the connection's own task sees the client go and drops the body.
            Step::Content { sent: 1 } if self.script == Script::Hold => return Poll::Pending,
            Step::Content { sent } => {
                if let (Some(pace), true) = (&mut self.pace, sent > 0) {
                    ready!(pace.poll_tick(context));
                }
                let sent = sent + 1;
                let more = self.script == Script::Hold || sent < self.script.events();
                (self.pen.content(), if more { Step::Content { sent } } else { Step::Finish })
            }
            Step::Finish => (self.pen.finish(), Step::Usage),
            Step::Usage => (self.pen.usage(self.script.events()), Step::Done),
            Step::Done => (self.pen.end(), Step::End),
            Step::End => return Poll::Ready(None),
        };
        self.next = next;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(text)))))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn every_event_is_a_frame_and_the_end_is_proper() {
        let script = Script::Play { events: 3, gap: std::time::Duration::ZERO };
        let mut body = Events::new(Form::Chat, script, "stream-3x0ms");
        let mut frames = Vec::new();
        while let Some(frame) = body.frame().await {
            frames.push(String::from_utf8(frame.unwrap().into_data().unwrap().to_vec()).unwrap());
        }
        assert_eq!(frames.len(), 1 + 3 + 3);
        assert!(frames.iter().all(|frame| frame.starts_with("data: ") && frame.ends_with("\n\n")));
        let (done, chunks) = frames.split_last().unwrap();
        assert_eq!(done, "data: [DONE]\n\n");
        for chunk in chunks {
            serde_json::from_str::<serde_json::Value>(chunk.trim_start_matches("data: ")).unwrap();
        }
        assert!(chunks[1].contains("\"content\":\"@"));
        assert!((200..330).contains(&chunks[1].len()), "{} bytes", chunks[1].len());
        assert!(chunks[5].contains("\"choices\":[],\"usage\":{"));
    }
}
