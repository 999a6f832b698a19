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

/// Most events that a route may hold a stream back for: 10,000, more than an answer has that is read while it is written. Their
/// bytes are bounded apart, by [`STREAM_HOLD_BYTES_MAX`].
pub const STREAM_WINDOW_EVENTS_MAX: u64 = 10_000;

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

/// Decisions that are kept to be asked for: 4,096, a minute's of a busy gateway and days of a person's.
pub const DECISIONS_MAX: usize = 4_096;

/// Memory for them: 4 MiB, at a thousand bytes each. Long plans take more, and then fewer are kept.
pub const DECISIONS_BYTES_MAX: usize = 4 << 20;

/// Longest line of a file of decisions that is read: 16 MiB. A thousand candidates with long names have one of 800 KiB.
pub const DECISION_LINE_BYTES_MAX: usize = 16 << 20;

/// Calls that may wait in line before a provider by default: 100. At a second each, the last one waits for two minutes.
pub const QUEUE_WAITING: usize = 100;

/// Callers whose tries after the first are counted: 4,096.
pub const RETRY_BUDGETS_MAX: usize = 4_096;

/// Longest request body kept beside its stream for counting, should the provider report no usage: 1 MiB.
///
/// Of a longer one the prompt is not counted: a thousand streams must not hold a thousand prompts of that size.
pub const COUNTED_PROMPT_BYTES_MAX: usize = 1 << 20;

/// Memory for answers that `previous_response_id` can go on from: 64 MiB, some 10,000 conversations.
pub const RESPONSES_BYTES_MAX: u64 = 64 << 20;

/// How long such an answer is kept: 24 h. OpenAI keeps them for 30 days, on disk.
pub const RESPONSES_AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Rest of an endpoint that is over its rate limit and does not say until when: 1 s. Limits of requests per minute refill
/// steadily, so that a second later some are free again.
pub const RATE_LIMIT_REST: Duration = Duration::from_secs(1);

/// Longest time that a provider's word on when to come back is kept: 1 h. One that says more is asked then, by one call.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(60 * 60);

/// When those are told to come back who ask while one call finds out whether an endpoint is well: in 1 s, when most such
/// calls are over.
pub const RECOVERY_HINT: Duration = Duration::from_secs(1);

/// How long a provider on this machine that gives no sign of life is let alone at a time: 5 s, the time between two of them.
pub const OFFLINE_REST: Duration = Duration::from_secs(5);

/// Longest time that one call is waited for to find out whether an endpoint is well again: 60 s. Then the next one may.
pub const RECOVERY_TIME_MAX: Duration = Duration::from_secs(60);

/// Part by which a rest may be longer than it should be: a tenth, so that many gateways do not come back at once.
pub const REST_JITTER: f64 = 0.1;

/// How long the times of past calls count: 30 s, in which a model on this machine answers a few calls.
pub const LATENCY_MEMORY: Duration = Duration::from_secs(30);

/// Models of one provider whose health is kept: 1,024. Callers can name any model where a route takes all.
pub const ENDPOINTS_PER_PROVIDER_MAX: usize = 1_024;

/// How often the configuration's file is looked at where its changes are watched for: every 2 s. A change is taken when two
/// looks in a row find the same, so that a file in the middle of being written is not read.
///
/// Looking is reading: a file of some KiB, which costs nothing. Times of change are too coarse, or kept by copying, to rely on.
pub const CONFIG_WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// Signs of life in a row that a provider on this machine may miss until it counts as offline: 3. The first makes it a
/// suspect, which is still asked.
pub const HEARTBEATS_MISSED_MAX: u32 = 3;

/// First wait before a candidate is asked again: 250 ms, then twice as long each time.
pub const RETRY_BACKOFF_FIRST: Duration = Duration::from_millis(250);

/// Longest wait between two tries: 8 s.
pub const RETRY_BACKOFF_MAX: Duration = Duration::from_secs(8);

/// Tries of the same candidate after its first that a caller may save up: 10. Each call adds a tenth, so that a provider
/// that fails all of the time gets a tenth more calls and not twice as many.
pub const RETRY_BUDGET_MAX: u32 = 10;

/// Calls that earn one such try: 10.
pub const RETRY_BUDGET_CALLS: u32 = 10;

/// Latest answers of an endpoint that say how long one usually takes to begin: 64, enough for nineteen of twenty and soon
/// forgotten.
pub const HEDGE_SAMPLES: usize = 64;

/// Calls of a hundred that may ask a second candidate beside a slow one: 5, about as many as are slower than usual. When
/// everybody has become slow, it keeps the load from doubling.
pub const HEDGE_PERCENT: u32 = 5;

/// How many of them must be known before anybody is found slow: 20, of which one may be the slowest.
pub const HEDGE_SAMPLES_MIN: usize = 20;

/// How often in a row one may be let go of for a faster one until each time counts as a failure of its health: 5. One of
/// twenty is slow by chance, five in a row are none: it may hang, and nobody waits to see.
pub const HEDGE_LOSSES_MAX: u32 = 5;

/// Shortest time after which somebody is found slow: 5 ms; below it is the noise of the machine.
pub const HEDGE_WAIT_MIN: Duration = Duration::from_millis(5);

/// Longest wait for somebody to go on with a stream that broke: 30 s, what clients wait for the next bytes.
pub const CONTINUE_TIME_MAX: Duration = Duration::from_secs(30);

/// How long one that is asked for that has at least, while there is so much left: 10 s, in which a model begins to answer that
/// need not be loaded. Otherwise those who are left share the time, so that one that hangs does not take it all.
pub const CONTINUE_SHARE_TIME_MIN: Duration = Duration::from_secs(10);

/// Shortest text that somebody who goes on may have repeated: 32 bytes. Less than that may just be said twice.
pub const ECHO_BYTES_MIN: usize = 32;

/// Time that takes a waiting call one tier up: 10 s, about what a chat model needs for one answer.
///
/// Shorter, and tiers would mean little wherever somebody waits longer than one answer takes. The lowest comes up to the
/// highest after 30 s, half of the 60 s that common proxies wait for an answer.
pub const QUEUE_AGE_STEP: Duration = Duration::from_secs(10);

/// Callers that one tier of a queue remembers although none of their calls waits: 1,024, some 200 KiB.
///
/// They had more than their share and would be first again without it. Who has the least too much is forgotten first.
pub const QUEUE_CALLERS_MAX: usize = 1_024;

/// Calls over which a queue averages how long one takes: about 8. One odd answer does not turn the next callers away,
/// and a provider that became slow is noticed within a dozen.
pub const QUEUE_SERVICE_CALLS: u32 = 8;

/// Memory for cached answers by default: 64 MiB, some 20,000 answers of a page each.
///
/// It is more than the whole gateway takes beside it, and little beside a model.
pub const CACHE_BYTES_MAX: u64 = 64 << 20;

/// Largest answer that is cached: 4 MiB, a hundred embeddings of 3,072 dimensions as JSON.
///
/// So much of each answer is held until its end, of all together as much as the cache may hold. What is longer is not written by a model but made of pictures or sound.
pub const CACHED_ANSWER_BYTES_MAX: usize = 4 << 20;

/// Longest request that is looked for in the cache: 1 MiB, which takes some 5 ms to read and to hash.
///
/// A longer one carries pictures or books, and is seldom asked again word for word.
pub const CACHED_REQUEST_BYTES_MAX: usize = 1 << 20;

/// How long a cached answer is given again by default: 300 s, as in hoosh 1.3.
///
/// Long enough for a burst of the same question, short enough that a provider's new version of a model soon shows.
pub const CACHE_AGE_MAX: Duration = Duration::from_secs(300);

/// Failures of the same call by others that a waiting call waits through before it asks for itself: 2.
///
/// One more try is often enough; with more, calls that wait in a row for a provider that is down would wait ever longer.
pub const CACHE_FAILURES_WAITED_MAX: usize = 2;

/// Longest time a call waits for the same call of another: 600 s, as long as one attempt may take by default.
///
/// The other may go on behind a client that reads slowly.
pub const CACHE_WAIT_TIME_MAX: Duration = Duration::from_secs(600);

/// Cosine from which two questions count as one by default, where answers are also found by meaning: 0.95.
///
/// With all-MiniLM-L6-v2 "How do I" and "How can I" are 0.99 alike, free rewordings 0.77 to 0.97, other questions of the same
/// subject 0.66 to 0.92 (measured 2026-11-24). Higher, and next to nothing is found; lower, and other questions are.
pub const SEMANTIC_THRESHOLD: f64 = 0.95;

/// Longest text that is looked for by meaning: 1 KiB, some 250 tokens.
///
/// Models of embeddings cut off what is beyond their window without a word, the smallest in use at 256 tokens: two texts that
/// begin alike would look the same.
pub const SEMANTIC_TEXT_BYTES_MAX: usize = 1_024;

/// Longest time that a call waits for the embedding by which an answer is looked for: 1 s. Then it is asked as any other.
///
/// A vendor needs some 200 ms, a model on this machine less; an answer is rarely waited for much longer than this.
pub const SEMANTIC_EMBED_TIME_MAX: Duration = Duration::from_secs(1);

/// Part of the time that is left for a call until its answer begins, in which its embedding must come: a quarter. Where that is
/// shorter than [`SEMANTIC_EMBED_TIME_MAX`], the call itself must not fail for it.
pub const SEMANTIC_EMBED_PART: u32 = 4;

/// Time in which no embedding is asked for after one that did not come: 5 s, so that not every call waits for a model that
/// hangs. It is long enough for one to be loaded into memory.
pub const SEMANTIC_REST: Duration = Duration::from_secs(5);

/// Answers among which one is looked for by meaning: 1,000, the newest to the same instructions, history and parameters.
///
/// Each look compares with all of them: a thousand vectors of 1,536 numbers take some 0.1 ms (2026-11-24).
pub const SEMANTIC_NEIGHBOURS_MAX: usize = 1_000;

/// Longest vector that is kept for that: 8,192 numbers, twice the longest that is sold (4,096). They take 32 KiB.
pub const SEMANTIC_DIMENSIONS_MAX: usize = 8_192;

/// Requests that the cache is warmed with at once: 4. They are in nobody's way: a model on this machine answers few at once.
pub const WARM_CONCURRENT_MAX: usize = 4;

/// Most calls that the cache is warmed with, one for each request and caller: 1,000. They are paid for at every start.
pub const WARM_CALLS_MAX: usize = 1_000;

/// Largest such file: 4 MiB. It is kept in memory as long as the configuration.
pub const WARM_FILE_BYTES_MAX: u64 = 4 << 20;

/// Events that are kept for a listener that is slower than they come: 1,024, below 1 MiB with the longest names.
///
/// That is a second of a busy gateway, in which a listener may wait for a disk or a network. All listeners share them, and
/// while nobody listens nothing is kept.
pub const EVENTS_KEPT_MAX: usize = 1_024;

/// How often the client of a stream that has not begun is told that its call waits: every 15 s, as the HTML standard
/// advises against proxies that close silent connections (HTML Living Standard, 9.2.7).
pub const WAITING_COMMENT_INTERVAL: Duration = Duration::from_secs(15);

/// The most often that it may be told so: every 0.1 s. More often, and what waits would be busy.
pub const WAITING_COMMENT_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Tokens that an answer is held for whose call names no most: 4,096, what most answers keep below. What it does not take is
/// given back; where a hard pool limits it, it is held to this.
pub const BUDGET_ANSWER_TOKENS: u64 = 4_096;

/// Bytes of a request that are taken for a token where it cannot be read: 4, those of English.
pub const BYTES_PER_TOKEN: u64 = 4;

/// Tokens that a stream is held for besides when it grows beyond what it holds, if its pools have them: 256, so that the ledger is asked
/// every few seconds and not for each piece.
pub const BUDGET_EXTEND_TOKENS: u64 = 256;

/// Tokens in one call that no provider can mean: 2^40. Whoever reports more is not believed, and what was passed on is counted.
pub const USAGE_TOKENS_MAX: u64 = 1 << 40;

/// How long an amount is held for a call that nobody settles: an hour, longer than any answer may take by default.
pub const BUDGET_LEASE_TIME: Duration = Duration::from_secs(3_600);

/// How long an amount is held by default for an agent that accounts for itself: 10 min, the longest that common clients wait for
/// an answer. It may ask for up to [`RESERVATION_LEASE_MAX`].
pub const TOKEN_LEASE_TIME: Duration = Duration::from_secs(600);

/// Leases that one caller has open at once: 1,024 of the [`RESERVATIONS_MAX`] that all calls share, so that nobody can take them from
/// the others.
pub const TOKEN_LEASES_PER_CALLER_MAX: usize = 1_024;

/// How often reservations that nobody settled are let go of, and usage that is too old: every 10 s. A lease is an hour, and a
/// refusal looks for itself.
pub const LEDGER_TIDY_INTERVAL: Duration = Duration::from_secs(10);

/// Pools on one page of `GET /v1/tokens/pools`: 1,000, some 300 KiB.
pub const POOLS_SHOWN_MAX: usize = 1_000;

/// When to ask again where others hold what would be enough: 1 s, in which some call ends.
pub const BUDGET_RETRY_HINT: Duration = Duration::from_secs(1);

/// Listeners of `GET /v1/events` at once: 64. Each is woken by each event, on the task of the call that tells it.
pub const EVENT_LISTENERS_MAX: usize = 64;

/// How often a line is sent to those who listen for events: every 15 s, before common proxies close a silent connection
/// (nginx after 60 s, some home routers after 30).
pub const EVENTS_COMMENT_INTERVAL: Duration = Duration::from_secs(15);

/// Longest prompt that is counted and cut where calls are served: 256 KiB, a few ms (what is counted by a vocabulary has a bound
/// of its own, [`COUNTED_EXACTLY_BYTES_MAX`]). A longer one is on a thread of its own, so that nobody else waits for it.
pub const FITTED_AT_ONCE_BYTES_MAX: usize = 256 << 10;

/// Tokens of a model's window that are left for its answer where the call names no most: 1,024, a page or two.
///
/// A prompt that fills the window to its end could not be answered.
pub const ANSWER_TOKENS_LEFT: u64 = 1_024;

/// Turns that `keep_last` keeps where nobody says how many: 10, about what a person still sees of a conversation.
pub const KEPT_TURNS: u32 = 10;

/// Longest summary of turns that are left out: 1,024 tokens, and no more than a quarter of what the model reads.
pub const SUMMARY_TOKENS_MAX: u64 = 1_024;

/// Tokens that a model may think with before it writes a summary: 4,096, as many as such models take for a page at low effort.
///
/// They count against `max_tokens`, so that without them there would be no room for the summary itself.
pub const SUMMARY_THINKING_TOKENS: u64 = 4_096;

/// Shortest summary worth asking for: 32 tokens, a sentence. Where there is no room for it, turns go without one.
pub const SUMMARY_TOKENS_MIN: u64 = 32;

/// Most text of the turns left out that a summary is made of: 256 KiB, what small models with a long window read. Of more
/// the beginning goes, since the end is what the conversation goes on from.
pub const SUMMARY_SOURCE_BYTES_MAX: usize = 256 << 10;

/// Longest time for a summary: 60 s, an answer's. The call waits for it before it is asked itself.
pub const SUMMARY_TIME_MAX: Duration = Duration::from_secs(60);

/// Shortest text that is left out where it comes again: 256 bytes. The note in its place takes some of that.
pub const DUPLICATE_BYTES_MIN: usize = 256;

/// Shortest result of a tool that is left out where the same call was made later: 128 bytes, twice the note in its place.
pub const STALE_RESULT_BYTES_MIN: usize = 128;

/// Tokens of an answer that a call is taken for where it names no most: 500, a long paragraph or two. It is corrected by what the
/// answer had.
pub const ANSWER_TOKENS_ESTIMATE: u64 = 500;

/// Names whose rate limits are counted at once: 65,536, some 30 MiB. A name is forgotten when it has recovered, so that these
/// are those active within the longest period of their limits.
pub const RATE_NAMES_MAX: usize = 65_536;

/// Names up to which nobody looks for recovered ones: 64. To look at so few is not worth it.
pub const RATE_NAMES_SWEPT_MIN: usize = 64;

/// Calls of one name whose tokens can still be corrected: 4,096. Each correction goes through all of them, some 10 µs for so
/// many. Beyond it the oldest keeps its estimate: what it took less is not given back.
pub const RATE_OPEN_MAX: usize = 4_096;

/// When those are told to come back who are refused because others of theirs run: in 1 s, when most such calls are over.
pub const CONCURRENCY_HINT: Duration = Duration::from_secs(1);

/// API keys that are kept, those that have ended among them: 100,000, some 70 MiB with all their lists empty. All of them are in
/// memory, so that to look one up waits for nothing.
pub const KEYS_MAX: usize = 100_000;

/// Prefixes that are drawn until one is nobody's: 8. With as many keys as may be, one in a billion is taken.
pub const KEY_PREFIX_TRIES_MAX: u32 = 8;

/// Longest time that a key which was rotated still works: 30 days. One that is in use after that was never replaced.
pub const KEY_OVERLAP_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Shortest secret under which keys are hashed: 32 bytes, the output of SHA-256 (RFC 2104, 3).
pub const PEPPER_BYTES_MIN: usize = 32;

/// Entries in each list of what a caller may do: 256. Patterns say more with fewer.
pub const GRANT_ENTRIES_MAX: usize = 256;

/// Longest name in it, of a pool or the key itself: 256 bytes, as long as a model's. It goes into logs and headers.
pub const GRANT_NAME_BYTES_MAX: usize = 256;

/// Most metadata of one key: 4 KiB. It is for finding keys again and no database.
pub const GRANT_METADATA_BYTES_MAX: usize = 4 << 10;

/// Longest time that the store of keys waits for another process that writes to it: 5 s, then it says so.
pub const KEY_STORE_WAIT_MAX: Duration = Duration::from_secs(5);

/// How often a running gateway looks whether its keys were changed: every 2 s. A revoked key is refused within that time; the look
/// reads one number.
pub const KEYS_RELOAD_INTERVAL: Duration = Duration::from_secs(2);

/// How long a key that was rotated still works by default: 24 h, a day's roll-out.
pub const KEY_OVERLAP: Duration = Duration::from_secs(24 * 60 * 60);

/// Longest file of a pepper that is read: 4 KiB. One that we make has 43 bytes.
pub const PEPPER_BYTES_MAX: u64 = 4 << 10;

/// Longest signed token (JWT) that is read: 16 KiB, what servers take of all headers. One with a hundred groups has some 6 KiB.
pub const JWT_BYTES_MAX: usize = 16 << 10;

/// Keys that a token which names none is checked with: 8. An RSA signature takes some 30 µs, a wrong one too.
pub const JWT_KEYS_TRIED_MAX: usize = 8;

/// How far the clocks of who makes tokens and who checks them may differ by default: 60 s.
pub const JWT_LEEWAY: Duration = Duration::from_secs(60);

/// Most that may be allowed for that: 5 min ("usually no more than a few minutes", RFC 7519, 4.1.4).
pub const JWT_LEEWAY_MAX: Duration = Duration::from_secs(5 * 60);

/// Longest set of keys for tokens that is read: 256 KiB. Large issuers publish some 10 KiB.
pub const JWKS_BYTES_MAX: usize = 256 << 10;

/// How long a set of keys may take to come: 5 s. Whoever has a token that none of the known keys fits waits for it.
pub const JWKS_TIME_MAX: Duration = Duration::from_secs(5);

/// How long nobody asks for a set of keys after it was asked for: 5 s. Whoever sends tokens of no key would have it asked for
/// with each.
pub const JWKS_REST: Duration = Duration::from_secs(5);

/// Keys of such a set that are kept: 64. Issuers publish two to ten.
pub const JWKS_KEYS_MAX: usize = 64;
/// Alerts of pools that wait to be delivered to a web hook: 256, more than a day of sane thresholds brings.
pub const ALERTS_WAITING_MAX: usize = 256;

/// How long a web hook may take to take an alert: 10 s. Alerts wait for one another.
pub const ALERT_TIME_MAX: Duration = Duration::from_secs(10);

/// How often an alert is sent until it is taken: 3 times.
pub const ALERT_TRIES: u32 = 3;

/// How long an alert rests before it is sent again: 1 s, and four times as long before each further try.
pub const ALERT_RETRY_FIRST: Duration = Duration::from_secs(1);

/// How much is read of what a web hook answers: 64 KiB. Nothing of it is used.
pub const ALERT_ANSWER_BYTES_MAX: usize = 64 << 10;

/// Largest file of pools that are defined while a gateway runs: 4 MiB, more than as many as there may be take. It is in memory while
/// it is read.
pub const POOLS_FILE_BYTES_MAX: u64 = 4 << 20;

/// Pools that a configuration defines at most: 10,000, a pool for each key of a large house.
pub const POOLS_DEFINED_MAX: usize = 10_000;

/// Pools that templates make at most, one for each user or agent seen: 65,536, some 40 MiB with long names.
///
/// Who comes beyond it is refused until a pool that has spent nothing in its window can go. One that has spent is never
/// forgotten: its user would begin anew.
pub const POOLS_MADE_MAX: usize = 65_536;

/// How often it is looked for pools that can go while there is no room for another one: every second. Each look goes through
/// all of them, and a flood of new names must not cause one each.
pub const POOLS_SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Pools above each other: 8. Organisation, division, department, team, project, key and two to spare.
pub const POOL_DEPTH_MAX: usize = 8;

/// Pools that one call is charged to, parents among them: 32. All are looked at in one step, under one lock.
pub const POOLS_PER_CALL_MAX: usize = 32;

/// Longest name of a pool: 256 bytes, as of a model, which may have one.
pub const POOL_NAME_BYTES_MAX: usize = 256;

/// Longest kind of a pool: 32 bytes. It is a word like `team`.
pub const POOL_KIND_BYTES_MAX: usize = 32;

/// Thresholds of one pool: 8. What is beyond nobody acts upon differently.
pub const POOL_ALERTS_MAX: usize = 8;

/// Closed windows of one pool that are kept in memory: 8, a week of days and a day to spare. A ledger on disk keeps all.
pub const POOL_WINDOWS_KEPT_MAX: usize = 8;

/// Parts in which a rolling window moves on: 60. What was spent counts up to a sixtieth longer than it must; finer parts would
/// take more memory for each pool.
pub const ROLLING_BUCKETS: u32 = 60;

/// Shortest rolling window: 1 s, so that its parts are some milliseconds, as fine as time is told.
pub const ROLLING_WINDOW_MIN: Duration = Duration::from_secs(1);

/// Longest rolling window: 366 days, a year.
pub const ROLLING_WINDOW_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// Reservations open at once: 65,536, eight times the connections that are served. Agents may hold some without one.
pub const RESERVATIONS_MAX: usize = 65_536;

/// Longest time until a reservation has to be renewed or settled: 24 h, what a batch may take. Who forgets one would hold its
/// amount for ever.
pub const RESERVATION_LEASE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Settled calls whose names are remembered, so that a second settle is told from one of an unknown call: 65,536, a minute of
/// a thousand calls a second. Beyond it both change nothing, but the answer is "unknown".
pub const SETTLED_REMEMBERED_MAX: usize = 65_536;

/// Expired reservations that can still be settled late: 4,096. They expire only where somebody died or forgot.
pub const EXPIRED_REMEMBERED_MAX: usize = 4_096;

/// Longest time that a settlement waits for others to be written to disk with it: 5 ms. That much is lost at most where the
/// process is killed, unless the ledger is strict.
pub const JOURNAL_LINGER: Duration = Duration::from_millis(5);

/// Rows that are written at once without waiting for more: 256. A transaction of so many costs little more than one of one.
pub const JOURNAL_GROUP_ROWS: usize = 256;

/// Most rows of one transaction: 4,096, some 50 ms of writing. Who comes while it is written waits for the next.
pub const JOURNAL_BATCH_ROWS_MAX: usize = 4_096;

/// Rows that may wait to be written: 65,536, some 50 MiB, three seconds of writing. Then nothing is reserved any more; calls under way
/// still settle, and there are at most as many of them as reservations.
pub const JOURNAL_ROWS_MAX: usize = 65_536;

/// First wait after a transaction that failed: 100 ms, then twice as long each time.
pub const JOURNAL_RETRY_FIRST: Duration = Duration::from_millis(100);

/// Longest wait between two tries of a transaction: 5 s, soon after somebody has made room on a full disk.
pub const JOURNAL_RETRY_MAX: Duration = Duration::from_secs(5);

/// Tries to write what is left when the ledger is closed: 5, some three seconds. A stop must not hang on a broken disk.
pub const JOURNAL_CLOSE_TRIES: u32 = 5;

/// Longest wait for another program that has the ledger's file locked, a shell of SQLite: 500 ms. Then it counts as a failure, which
/// is tried again.
pub const LEDGER_LOCK_TIME_MAX: Duration = Duration::from_millis(500);

/// Questions to the usage log that may wait for one another: 64. Each may read for a second.
pub const USAGE_QUESTIONS_MAX: usize = 64;

/// Rows of the usage log on one page: 1,000, some MiB of JSON.
pub const USAGE_PAGE_ROWS_MAX: usize = 1_000;

/// Rows that cheaper models are looked for by: 100,000, the newest. Each is priced at every model that can be reached, some 100 ns
/// each, so that it takes seconds at most.
pub const RECOMMENDATION_ROWS_MAX: usize = 100_000;

/// Cheaper models that are named for one that was used: 5. Whoever wants to change something tries the first few.
pub const RECOMMENDATIONS_MAX: usize = 5;

/// Sums that one question to the usage log is answered with: 10,000, a sum for each key of a large house. The largest are given.
pub const USAGE_SUMS_MAX: usize = 10_000;

/// Rows of the usage log that are deleted at once: 5,000, some 20 ms in which nothing else is written.
pub const USAGE_FORGET_ROWS: usize = 5_000;

/// Most prices that a user writes: 10,000, as many as models are taken from one listing. They are read at every start and
/// reload.
pub const PRICES_MAX: usize = 10_000;

/// Largest file of them: 4 MiB, twice what as many prices take. It is in memory while it is read.
pub const PRICES_FILE_BYTES_MAX: u64 = 4 << 20;

/// Most sizes of the prompt from which on one model's calls cost something else: 16. Vendors have up to three; each call's are
/// looked through.
pub const PRICE_TIERS_MAX: usize = 16;

/// Most times of the week at which one model's calls cost something else: 48. Vendors have up to two; each call's are looked
/// through.
pub const PRICE_HOURS_MAX: usize = 48;

/// Models of unknown price that are told of in the log: 1,000, each once. Callers can make names up where a route takes any.
pub const UNPRICED_TOLD_MAX: usize = 1_000;

/// Keys that an audit log has had at most: 64, five years of a new one each month. Each record is checked with one of them.
pub const AUDIT_KEYS_MAX: usize = 64;

/// Largest file of such keys: 64 KiB, four times what they take, for comments.
pub const AUDIT_KEY_FILE_BYTES_MAX: u64 = 64 << 10;

/// Calls that are under way or whose records wait to be written: 65,536, eight times the connections that are served. The next one
/// waits at the door, or is refused.
pub const AUDIT_SLOTS_MAX: usize = 65_536;

/// Longest time that a record waits for others to be written with it: 5 ms. That much is lost at most where the process is killed,
/// unless it is waited for.
pub const AUDIT_LINGER: Duration = Duration::from_millis(5);

/// First wait after a write that failed: 100 ms, then twice as long each time.
pub const AUDIT_RETRY_FIRST: Duration = Duration::from_millis(100);

/// Longest wait between two tries to write: 5 s, soon after somebody has made room on a full disk.
pub const AUDIT_RETRY_MAX: Duration = Duration::from_secs(5);

/// Tries to write what is left when the log is closed: 5, some three seconds. A stop must not hang on a broken disk.
pub const AUDIT_CLOSE_TRIES: u32 = 5;

/// Records between two checkpoints by default: 1,000. A proof of one of them holds ten digests.
pub const AUDIT_CHECKPOINT_RECORDS: u32 = 1_000;

/// Most records between two checkpoints: 100,000. Their digests, 3 MiB, are kept until then.
pub const AUDIT_CHECKPOINT_RECORDS_MAX: u32 = 100_000;

/// Longest time between a record and the checkpoint that covers it, by default: 60 s. What is cut off within it is seen by nobody who
/// has only checkpoints.
pub const AUDIT_CHECKPOINT_INTERVAL: Duration = Duration::from_secs(60);

/// Size from which on a log goes on in another segment, by default: 64 MiB, some 100,000 records. It is read again at a start.
pub const AUDIT_SEGMENT_BYTES: u64 = 64 << 20;

/// Largest segment that can be asked for: 1 GiB, some two seconds of reading at a start.
pub const AUDIT_SEGMENT_BYTES_MAX: u64 = 1 << 30;

/// Records on one page of an audit log: 1,000, some MiB of JSON.
pub const AUDIT_PAGE_RECORDS_MAX: usize = 1_000;

/// Records that are looked through for one page: 200,000, some 100 MiB and a second. A page of a rare thing may then be short, and says
/// where to go on.
pub const AUDIT_PAGE_SCAN_MAX: usize = 200_000;

/// How much of a log is read at once from its end: 64 KiB, some hundred records.
pub const AUDIT_READ_BYTES: usize = 64 << 10;

/// Longest answer whose text is kept beside the log, where texts are: 16 MiB, longer than any that a model writes.
pub const AUDIT_TEXT_BYTES_MAX: usize = 16 << 20;
