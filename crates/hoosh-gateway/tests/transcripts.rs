//! Laws of the pass-through lane, over every transcript of hoosh-core, through the gateway itself: whatever pieces the
//! bytes come in, the caller gets the same bytes and the books the same usage; wherever they are cut short, the caller
//! gets whole events and an error.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by its panic")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, stream};
use hoosh_core::dialect::{DecodeError, Dialect, Quirks, RequestLine, StreamForm};
use hoosh_core::framing::{LineFramer, SseFramer};
use hoosh_core::{
    EmbeddingRequest, EmbeddingResponse, EventStream, FailureKind, HooshError, InferenceRequest,
    InferenceResponse, LlmProvider, ModelInfo, Provenance, ProviderHealth, ProviderType, UpstreamFailure,
    Usage, WireBody, WireReply, WireRequest, fold,
};
use hoosh_gateway::{Call, CallRecord, CallerId, Gateway, Observer, Outcome, ReplyBody, RequestId};
use hoosh_router::Router;

const DIALECTS: [(&str, Dialect); 7] = [
    ("openai_chat", Dialect::OpenAiChat),
    ("openai_completions", Dialect::OpenAiCompletions),
    ("openai_responses", Dialect::OpenAiResponses),
    ("anthropic", Dialect::Anthropic),
    ("gemini", Dialect::Gemini),
    ("ollama_chat", Dialect::OllamaChat),
    ("ollama_generate", Dialect::OllamaGenerate),
];

/// Transcripts up to this length are cut at every byte, longer ones where it matters and now and then.
const CUT_EVERYWHERE_MAX: usize = 700;

/// A provider that answers with the pieces it was given last.
#[derive(Debug, Default)]
struct Scripted(Mutex<(Vec<Bytes>, End)>);

/// How the bytes of a provider end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum End {
    /// As if all were well.
    #[default]
    Proper,
    /// With a failure of the connection.
    Broken,
}

impl LlmProvider for Scripted {
    fn name(&self) -> &str {
        "scripted"
    }

    fn provider_type(&self) -> ProviderType {
        ProviderType::OpenAiCompatible
    }

    fn is_local(&self) -> bool {
        false
    }

    fn speaks(&self, _: Dialect) -> bool {
        true
    }

    fn forward(&self, _: WireRequest) -> BoxFuture<'_, Result<WireReply, UpstreamFailure>> {
        Box::pin(async {
            let (pieces, end) = self.0.lock().unwrap().clone();
            let broken = (end == End::Broken).then(|| UpstreamFailure::new(FailureKind::Broken, "reset"));
            let bytes = stream::iter(pieces.into_iter().map(Ok)).chain(stream::iter(broken.map(Err)));
            Ok(WireReply { headers: http::HeaderMap::new(), body: WireBody::Stream(Box::pin(bytes)) })
        })
    }

    fn infer<'a>(
        &'a self,
        _: &'a str,
        _: &'a InferenceRequest,
    ) -> BoxFuture<'a, Result<InferenceResponse, UpstreamFailure>> {
        only_passes_through()
    }

    fn infer_stream<'a>(
        &'a self,
        _: &'a str,
        _: &'a InferenceRequest,
    ) -> BoxFuture<'a, Result<EventStream, UpstreamFailure>> {
        only_passes_through()
    }

    fn embed<'a>(
        &'a self,
        _: &'a str,
        _: &'a EmbeddingRequest,
    ) -> BoxFuture<'a, Result<EmbeddingResponse, UpstreamFailure>> {
        only_passes_through()
    }

    fn list_models(&self) -> BoxFuture<'_, Result<Vec<ModelInfo>, UpstreamFailure>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn health_check(&self) -> BoxFuture<'_, Result<ProviderHealth, UpstreamFailure>> {
        Box::pin(async { Ok(ProviderHealth { latency: Duration::ZERO, models: None }) })
    }
}

fn only_passes_through<'a, T>() -> BoxFuture<'a, Result<T, UpstreamFailure>> {
    Box::pin(async { Err(UpstreamFailure::new(FailureKind::Unsupported, "only passes through")) })
}

#[derive(Default)]
struct Book(Mutex<Vec<CallRecord>>);

impl Observer for Book {
    fn call_settled(&self, record: &CallRecord) {
        self.0.lock().unwrap().push(record.clone());
    }
}

/// A gateway before a scripted provider.
struct World {
    gateway: Gateway,
    provider: Arc<Scripted>,
    book: Arc<Book>,
}

impl World {
    fn new() -> Self {
        let (provider, book) = (Arc::new(Scripted::default()), Arc::new(Book::default()));
        let router =
            Router::builder().provider(Arc::clone(&provider) as Arc<dyn LlmProvider>).build().unwrap();
        let gateway = Gateway::builder(router).observer(Arc::clone(&book) as Arc<dyn Observer>).build();
        Self { gateway, provider, book }
    }

    /// What the caller gets when the provider sends these pieces, and what is booked.
    async fn ask(
        &self,
        dialect: Dialect,
        include_usage: bool,
        pieces: Vec<Bytes>,
        end: End,
    ) -> (Result<Vec<u8>, HooshError>, CallRecord) {
        *self.provider.0.lock().unwrap() = (pieces, end);
        let options = match dialect {
            Dialect::OpenAiChat | Dialect::OpenAiCompletions if include_usage => {
                r#","stream_options":{"include_usage":true}"#
            }
            _ => "",
        };
        let content = match dialect {
            Dialect::OpenAiCompletions | Dialect::OllamaGenerate => r#""prompt":"x""#,
            Dialect::OpenAiResponses => r#""input":"x""#,
            Dialect::Gemini => r#""contents":[{"parts":[{"text":"x"}]}]"#,
            _ => r#""messages":[{"role":"user","content":"x"}]"#,
        };
        let body = format!(r#"{{"model":"m","stream":true,"max_tokens":9,{content}{options}}}"#);
        let line = RequestLine {
            model: (dialect == Dialect::Gemini).then(|| "m".to_owned()),
            stream: Some(true),
            json_list: false,
        };
        let (id, caller) = (RequestId::new(), CallerId::new("tester"));
        let call = Call::read_with(id, caller, dialect, line, body.into()).unwrap();
        let shown = match self.gateway.call(call).await.map(|reply| reply.body) {
            Ok(ReplyBody::Stream(stream)) => Ok(stream.collect::<Vec<Bytes>>().await.concat()),
            Ok(ReplyBody::Full(_)) => panic!("a stream was asked for"),
            Err(error) => Err(error),
        };
        let records = std::mem::take(&mut *self.book.0.lock().unwrap());
        assert_eq!(records.len(), 1, "{records:?}");
        (shown, records.into_iter().next().unwrap())
    }
}

/// The events of a stream with the places where they end, and whether nothing follows the last.
fn events(dialect: Dialect, bytes: &[u8]) -> (Vec<(Vec<u8>, usize)>, bool) {
    let mut events = Vec::new();
    match dialect.stream_form() {
        StreamForm::Sse => {
            let mut framer = SseFramer::default();
            framer.push(bytes, |event| events.push((event.data.to_vec(), event.end))).unwrap();
            (events, framer.is_at_boundary())
        }
        StreamForm::Lines => {
            let mut framer = LineFramer::default();
            framer.push(bytes, |line| events.push((line.data.to_vec(), line.end))).unwrap();
            (events, framer.is_at_boundary())
        }
    }
}

struct Transcript {
    name: String,
    dialect: Dialect,
    bytes: Bytes,
}

impl Transcript {
    /// Where its events end.
    fn event_ends(&self) -> Vec<usize> {
        events(self.dialect, &self.bytes).0.into_iter().map(|(_, end)| end).collect()
    }

    /// Where it is complete: a stream cut before is cut short.
    fn done_end(&self) -> usize {
        let is_complete = |cut: &usize| {
            let mut decoder = self.dialect.codec().unwrap().stream_decoder(Quirks::NONE);
            let mut events = Vec::new();
            decoder.push(&self.bytes[..*cut], &mut events).is_ok() && decoder.finish(&mut events).is_ok()
        };
        let ends = self.event_ends();
        let at = ends.iter().position(is_complete).unwrap();
        let from = if at == 0 { 0 } else { ends[at - 1] };
        (from..=ends[at]).find(is_complete).unwrap()
    }

    /// It without the events that hold usage and nothing else.
    fn without_usage(&self) -> Vec<u8> {
        let mut shown = Vec::new();
        let mut from = 0;
        for end in self.event_ends().into_iter().chain([self.bytes.len()]) {
            let event = String::from_utf8_lossy(&self.bytes[from..end]);
            if !(event.contains(r#""choices":[]"#) && event.contains(r#""usage":{"#)) {
                shown.extend_from_slice(&self.bytes[from..end]);
            }
            from = end;
        }
        shown
    }

    /// The usage as the decoder of the dialect sees it.
    fn usage(&self) -> Option<Usage> {
        let mut decoder = self.dialect.codec().unwrap().stream_decoder(Quirks::NONE);
        let mut events = Vec::new();
        decoder.push(&self.bytes, &mut events).unwrap();
        decoder.finish(&mut events).unwrap();
        fold(events).usage
    }

    /// Where it is cut: everywhere if it is short; else around the ends of its events, and at every `stride`th byte.
    fn cuts(&self, stride: usize) -> BTreeSet<usize> {
        let length = self.bytes.len();
        if length <= CUT_EVERYWHERE_MAX {
            return (0..=length).collect();
        }
        let around = |end: usize| end.saturating_sub(6)..=(end + 8).min(length);
        self.event_ends().into_iter().flat_map(around).chain((0..=length).step_by(stride)).collect()
    }
}

/// All transcripts, those with LF also with the other line ends.
fn transcripts() -> Vec<Transcript> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../hoosh-core/tests/transcripts");
    let mut all = Vec::new();
    for (folder, dialect) in DIALECTS {
        let mut files: Vec<_> =
            fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
        // Broken ones are in a folder of their own.
        files.retain(|file| file.is_file());
        files.sort();
        for file in files {
            let bytes = fs::read(&file).unwrap();
            let name = format!("{folder}/{}", file.file_name().unwrap().to_string_lossy());
            if dialect.stream_form() == StreamForm::Sse && !bytes.contains(&b'\r') {
                let text = String::from_utf8(bytes.clone()).unwrap();
                for (ends, line_end) in [("CRLF", "\r\n"), ("CR", "\r")] {
                    let bytes = text.replace('\n', line_end).into();
                    all.push(Transcript { name: format!("{name} with {ends}"), dialect, bytes });
                }
            }
            all.push(Transcript { name, dialect, bytes: bytes.into() });
        }
    }
    assert!(all.len() >= 40, "the transcripts are there");
    all
}

#[tokio::test]
async fn whatever_the_pieces_the_caller_gets_the_same_bytes() {
    let world = World::new();
    for transcript in transcripts() {
        let Transcript { name, dialect, bytes } = &transcript;
        let usage = transcript.usage();
        for (include_usage, expected) in [(true, bytes.to_vec()), (false, transcript.without_usage())] {
            let check = async |pieces: Vec<Bytes>, how: &str| {
                let (shown, record) = world.ask(*dialect, include_usage, pieces, End::Proper).await;
                let (shown, expected) = (shown.unwrap(), &expected);
                assert!(
                    shown == *expected,
                    "{name}, include_usage {include_usage}, {how}: shown\n{:?}\nexpected\n{:?}",
                    String::from_utf8_lossy(&shown),
                    String::from_utf8_lossy(expected)
                );
                assert_eq!(record.outcome, Outcome::Answered, "{name}, {how}");
                match usage {
                    Some(_) => assert_eq!(record.usage, usage, "{name}, {how}"),
                    // The provider said nothing, so it was counted.
                    None => {
                        let provenance = record.usage.map(|usage| usage.provenance);
                        assert_eq!(provenance, Some(Provenance::Estimated), "{name}, {how}");
                    }
                }
            };
            check(vec![bytes.clone()], "whole").await;
            check((0..bytes.len()).map(|at| bytes.slice(at..=at)).collect(), "byte by byte").await;
            for cut in transcript.cuts(13) {
                let pieces = vec![bytes.slice(..cut), bytes.slice(cut..)];
                check(pieces, &format!("cut at {cut}")).await;
            }
        }
    }
}

#[tokio::test]
async fn cut_short_anywhere_it_ends_with_an_error_after_whole_events() {
    let world = World::new();
    for transcript in transcripts() {
        let Transcript { name, dialect, bytes } = &transcript;
        let (done, ends) = (transcript.done_end(), transcript.event_ends());
        for cut in transcript.cuts(13).into_iter().filter(|cut| *cut < done) {
            for (include_usage, end) in
                [(true, End::Proper), (false, End::Proper), (true, End::Broken), (false, End::Broken)]
            {
                // The end of the event before is a place where pieces often end.
                let last = ends.iter().copied().filter(|end| *end <= cut).max().unwrap_or(0);
                let pieces = vec![bytes.slice(..last), bytes.slice(last..cut)];
                let (shown, record) = world.ask(*dialect, include_usage, pieces, end).await;
                let how = format!("{name} cut at {cut}, include_usage {include_usage}, {end:?}");
                match shown {
                    Err(error) => assert_eq!(record.outcome, Outcome::Failed(error), "{how}"),
                    Ok(shown) => {
                        check_ended_by_error(*dialect, &shown, &how);
                        assert!(
                            matches!(record.outcome, Outcome::Truncated(_)),
                            "{how}: {:?}",
                            record.outcome
                        );
                    }
                }
            }
        }
    }
}

/// Goal: what a caller was shown is whole events, the last of which is an error, and no good end.
fn check_ended_by_error(dialect: Dialect, shown: &[u8], how: &str) {
    let text = String::from_utf8_lossy(shown);
    assert!(!text.contains("[DONE]"), "{how}: a good end:\n{text}");
    let mut tap = dialect.tap(Quirks::NONE);
    let (events, is_whole) = events(dialect, shown);
    assert!(is_whole, "{how}: something follows the last event:\n{text}");
    let mut seen: Vec<_> = events.into_iter().map(|(data, _)| (tap.event(&data), data)).collect();
    let (last, _) = seen.pop().unwrap_or_else(|| panic!("{how}: no events:\n{text}"));
    assert!(matches!(last, Err(DecodeError::Reported(_))), "{how}: no error at the end:\n{text}");
    for (seen, data) in seen {
        // Responses tells it twice.
        let is_error = matches!(seen, Err(DecodeError::Reported(_))) && dialect == Dialect::OpenAiResponses;
        assert!(
            seen.is_ok() || is_error,
            "{how}: a broken event {:?}:\n{text}",
            String::from_utf8_lossy(&data)
        );
    }
}
