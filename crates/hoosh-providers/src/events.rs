//! A provider's stream, from bytes to events.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::{Stream, StreamExt, stream};
use hoosh_core::dialect::DecodeStream;
use hoosh_core::{ByteStream, StreamEvent, UpstreamFailure, limits};
use tokio::time::timeout;

use crate::identity::Identity;

/// Reads a stream of bytes as events.
pub(crate) fn decoded(
    bytes: ByteStream,
    decoder: Box<dyn DecodeStream>,
    identity: Arc<Identity>,
) -> impl Stream<Item = EventItem> + Send {
    struct State {
        bytes: Option<ByteStream>,
        decoder: Box<dyn DecodeStream>,
        ready: VecDeque<EventItem>,
        events: Vec<StreamEvent>,
        identity: Arc<Identity>,
    }
    impl State {
        /// Queues the events decoded, and behind them what ended the stream.
        fn queue(&mut self, result: Result<(), UpstreamFailure>) {
            self.ready.extend(self.events.drain(..).map(Ok));
            if let Err(failure) = result {
                self.bytes = None;
                self.ready.push_back(Err(self.identity.own(failure)));
            }
        }
    }
    let ready = VecDeque::new();
    let state = State { bytes: Some(bytes), decoder, ready, events: Vec::new(), identity };
    stream::unfold(state, async |mut state| {
        loop {
            if let Some(item) = state.ready.pop_front() {
                return Some((item, state));
            }
            if state.decoder.is_done()
                && let Some(mut bytes) = state.bytes.take()
            {
                // The end of the body is waited for so that the connection can be used again, but not for long.
                let _closed = timeout(limits::STREAM_END_GRACE, bytes.next()).await;
                let finished = state.decoder.finish(&mut state.events).map_err(UpstreamFailure::from);
                state.queue(finished);
                continue;
            }
            let result = match state.bytes.as_mut()?.next().await {
                Some(Ok(piece)) => {
                    state.decoder.push(&piece, &mut state.events).map_err(UpstreamFailure::from)
                }
                Some(Err(failure)) => {
                    // What was counted until now is still told; that the stream is cut is told by the failure.
                    let _cut = state.decoder.finish(&mut state.events);
                    Err(failure)
                }
                None => {
                    state.bytes = None;
                    state.decoder.finish(&mut state.events).map_err(UpstreamFailure::from)
                }
            };
            state.queue(result);
        }
    })
}

/// An event, or the failure that cut the stream.
type EventItem = Result<StreamEvent, UpstreamFailure>;
