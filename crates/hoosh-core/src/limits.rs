//! Every bound of the system, each with its reason.
//!
//! A queue, buffer, loop or retry anywhere in the workspace takes its limit from here, so that one page answers "what
//! can grow, and how far?".

use std::time::Duration;

/// Largest request body the server reads by default: 32 MiB.
///
/// A request with a few base64 images or a PDF fits (vendors stop at 20 to 32 MB); `[server] max_body_bytes` raises it.
pub const REQUEST_BODY_BYTES_MAX: usize = 32 << 20;

/// Most bytes of a refused body that are read and thrown away so that the client gets to read the refusal: 256 MiB.
///
/// A client that writes its whole body before it reads would otherwise see a reset instead of the 413.
pub const REFUSED_BODY_DRAIN_BYTES_MAX: usize = 256 << 20;

/// Longest time such a refused body is read for: 5 s.
pub const REFUSED_BODY_DRAIN_TIME_MAX: Duration = Duration::from_secs(5);

/// Time for a client to send its request head, and for a kept-alive connection to wait for the next: 15 s.
///
/// A slow-loris connection is closed then.
pub const REQUEST_HEAD_TIME_MAX: Duration = Duration::from_secs(15);

/// Time for a client to send its request body by default: 60 s, enough for 32 MiB over 5 Mbit/s.
pub const REQUEST_BODY_TIME_MAX: Duration = Duration::from_secs(60);

/// Connections served at once by default: 8,192. Each idle one costs some 10 KiB.
pub const CONNECTIONS_MAX: usize = 8_192;

/// Streams at once on one HTTP/2 connection: 256.
pub const HTTP2_STREAMS_MAX: u32 = 256;

/// Largest whole (not streamed) answer accepted from a provider: 64 MiB, some 5,000 embeddings of 3,072 dimensions.
pub const REPLY_BODY_BYTES_MAX: usize = 64 << 20;

/// Largest error body read from a provider: 64 KiB. The rest cannot be shown to anybody anyway.
pub const ERROR_BODY_BYTES_MAX: usize = 64 << 10;

/// Longest vendor sentence quoted to a client or a log line: 1,000 bytes.
pub const VENDOR_MESSAGE_BYTES_MAX: usize = 1_000;

/// Most notes about one call: 64. A caller can send any number of fields that its provider does not know; the header that
/// lists them stays below what HTTP clients take (Node.js: 16 KiB for all headers).
pub const NOTES_MAX: usize = 64;

/// Longest name of a field in such a note: 80 bytes.
pub const NOTE_FIELD_BYTES_MAX: usize = 80;

/// Largest event of a streamed answer: 16 MiB, since one event can hold a base64 image.
pub const STREAM_EVENT_BYTES_MAX: usize = 16 << 20;

/// Most bytes of a stream held back until its first output event: 1 MiB.
///
/// Until then a failure is invisible to the client because the next candidate can still answer.
pub const STREAM_HOLD_BYTES_MAX: usize = 1 << 20;

/// Candidates tried for one call: 8. More would only turn one slow failure into a slower one.
pub const ATTEMPTS_MAX: usize = 8;

/// Alias hops followed for one model name: 8, so that a circle ends.
pub const ALIAS_HOPS_MAX: usize = 8;

/// Near names listed in "model not found": 5.
pub const NEAR_NAMES_MAX: usize = 5;

/// Longest model name accepted: 256 bytes. It is put into logs, headers and upstream bodies.
pub const MODEL_NAME_BYTES_MAX: usize = 256;

/// Models taken from one provider's listing: 10,000. OpenRouter lists some 500.
pub const MODELS_PER_PROVIDER_MAX: usize = 10_000;

/// Pages of one provider's listing that are asked for: 10. Each can hold a thousand models.
pub const LISTING_PAGES_MAX: usize = 10;

/// Time to open a connection to a provider by default: 5 s.
pub const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

/// Time from a streamed request to the head of its answer by default: 120 s.
///
/// A local model may need that long for a long prompt. A call that is not streamed has no byte to show before the
/// whole answer is generated, so only [`TOTAL_TIME_MAX`] bounds it.
pub const FIRST_BYTE_TIME_MAX: Duration = Duration::from_secs(120);

/// Longest silence inside a streamed answer by default: 120 s.
pub const IDLE_TIME_MAX: Duration = Duration::from_secs(120);

/// Longest time for one attempt by default, its whole stream included: 600 s, the official SDKs' own default.
pub const TOTAL_TIME_MAX: Duration = Duration::from_secs(600);

/// Time for a health check or a model listing: 5 s. People wait for it.
pub const PROBE_TIME_MAX: Duration = Duration::from_secs(5);

/// Age after which a provider's model listing is asked for again: 60 s.
pub const MODEL_LISTING_AGE_MAX: Duration = Duration::from_secs(60);

/// Idle connections kept to one provider: 64; they are closed after [`POOL_IDLE_TIME_MAX`].
pub const POOL_IDLE_PER_HOST_MAX: usize = 64;

/// Time an unused connection to a provider is kept: 55 s, less than the 60 s after which common servers hang up.
pub const POOL_IDLE_TIME_MAX: Duration = Duration::from_secs(55);

/// Within this time of sending a request a kept connection that closes without a word was stale: 250 ms, a round trip to
/// the other side of the world. The request is sent again on a new one.
pub const STALE_CONNECTION_TIME_MAX: Duration = Duration::from_millis(250);

/// Longest silence while Ollama fetches a model: 10 min. It says nothing while it checks what it has fetched.
pub const PULL_IDLE_TIME_MAX: Duration = Duration::from_secs(600);

/// Longest time for fetching a model: 24 h, 400 GB over 40 Mbit/s.
pub const PULL_TIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Time that calls in flight get to finish after a stop signal by default: 30 s.
pub const DRAIN_TIME_MAX: Duration = Duration::from_secs(30);

/// Time a provider gets to close a stream that has said its last word: 100 ms, then we do.
///
/// Most close with the last bytes, and the connection can be used again; some never do.
pub const STREAM_END_GRACE: Duration = Duration::from_millis(100);

/// Time for streams that a stop of the server ends to give their last event: 500 ms.
pub const STREAM_STOP_TIME_MAX: Duration = Duration::from_millis(500);

/// Time between the error event of a broken stream and the cut of its connection, where that is cut: 100 ms.
///
/// Node.js throws away what its program has not read yet when a connection breaks.
pub const STREAM_CUT_GRACE: Duration = Duration::from_millis(100);

/// Time for one local server to list its models when hoosh starts without a configuration: 400 ms.
///
/// They are asked at once, so this is what such a start may be late by. A port where nothing listens says so within a
/// millisecond.
pub const DISCOVERY_TIME_MAX: Duration = Duration::from_millis(400);

/// What a client waits longer than the gateway itself: 5 s, so that the gateway gets to say what failed.
pub const CLIENT_GRACE: Duration = Duration::from_secs(5);

/// Largest question read from standard input: 16 MiB, far beyond any model's context.
pub const QUESTION_BYTES_MAX: u64 = 16 << 20;

/// Counters that round robin keeps, picked by a hash of the model's name: 64.
///
/// One for all would pin a chat and an embedding model that are called in turn to one provider each; one per name would
/// grow with whatever callers write.
pub const TURN_COUNTERS: usize = 64;

/// Longest time a log line waits for others: 50 ms, which nobody who reads a log notices. Warnings do not wait.
pub const LOG_LINGER: Duration = Duration::from_millis(50);

/// Most bytes of log lines that wait to be written: 1 MiB. Whoever adds more waits, so that nothing is lost.
pub const LOG_PENDING_BYTES_MAX: usize = 1 << 20;

/// Most answers to one request that a stream may have: 128, OpenAI's own bound for `n`.
pub const CHOICES_MAX: usize = 128;

/// Most tool calls in one answer of a stream: 1,024. A model that calls more has lost its way.
pub const TOOL_CALLS_MAX: usize = 1_024;

/// Bytes of a translated stream gathered for one write: 64 KiB, though more events may be ready.
pub const STREAM_WRITE_BYTES_MAX: usize = 64 << 10;

/// Time for the body of a provider's error answer: 1 s. It is only good for a sentence.
pub const ERROR_BODY_TIME_MAX: Duration = Duration::from_secs(1);

/// Longest time a client may take nothing of a stream that has something for it: 60 s, then its connection is closed.
///
/// It would hold the call at the provider, and a place among the connections, for ever.
pub const CLIENT_STALL_TIME_MAX: Duration = Duration::from_secs(60);

/// How often that is looked at: every 5 s.
pub const CLIENT_STALL_CHECK: Duration = Duration::from_secs(5);

/// Connections that wait to be accepted: 1,024. With the usual 128 a burst of 500 waits a second for its second try.
pub const LISTEN_BACKLOG: u32 = 1_024;

/// Most text of a passing stream that is kept for counting its tokens, should the provider report none: 4 MiB.
///
/// No model writes that much in one answer. What comes beyond is not counted.
pub const COUNTED_TEXT_BYTES_MAX: usize = 4 << 20;

/// Most text of a call whose tokens are counted exactly: 64 KiB, some 5 ms at worst. Of a longer one so much is counted.
pub const COUNTED_EXACTLY_BYTES_MAX: usize = 64 << 10;

/// Longest request body kept beside its stream for counting, should the provider report no usage: 1 MiB.
///
/// Of a longer one the prompt is not counted: a thousand streams must not hold a thousand prompts of that size.
pub const COUNTED_PROMPT_BYTES_MAX: usize = 1 << 20;

/// Memory for answers that `previous_response_id` can go on from: 64 MiB, some 10,000 conversations.
pub const RESPONSES_BYTES_MAX: u64 = 64 << 20;

/// How long such an answer is kept: 24 h. OpenAI keeps them for 30 days, on disk.
pub const RESPONSES_AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);
