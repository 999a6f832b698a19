//! Answers that are found by meaning, with vectors chosen by hand.

use std::sync::atomic::AtomicUsize;

use futures_util::future::BoxFuture;
use hoosh_core::Usage;

use super::super::semantic::Embedding;
use super::*;
use crate::settle::{CallRecord, Outcome};

/// What each text is embedded as.
struct Embedder {
    vectors: Vec<(&'static str, Vec<f32>)>,
    maker: &'static str,
    asked: AtomicUsize,
}

impl Embedder {
    fn new(vectors: &[(&'static str, &[f32])]) -> Self {
        let vectors = vectors.iter().map(|(text, vector)| (*text, vector.to_vec())).collect();
        Self { vectors, maker: "up/e", asked: AtomicUsize::new(0) }
    }

    async fn look(&self, cache: &Arc<ResponseCache>, call: &Call) -> Looked {
        let embed = |text: String| -> BoxFuture<'_, Option<Embedding>> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let numbers = self.vectors.iter().find(|(known, _)| *known == text).map(|(_, numbers)| numbers);
            let embedding =
                numbers.map(|numbers| Embedding { maker: self.maker.to_owned(), numbers: numbers.clone() });
            Box::pin(async move { embedding })
        };
        cache.look(call, None, &embed).await
    }

    /// Asks and keeps the answer, which nobody has given before.
    async fn ask(&self, cache: &Arc<ResponseCache>, call: &Call, answer: &str) {
        let Looked::Ask(mut keeping) = self.look(cache, call).await else { panic!("an answer was found") };
        keeping.take(&completion(answer).into());
        keeping.end(&record(call));
    }

    /// How alike the question is whose answer is given; `None` for none.
    async fn found(&self, cache: &Arc<ResponseCache>, call: &Call) -> Option<String> {
        match self.look(cache, call).await {
            Looked::Found(found) => {
                Some(found.similarity.map_or("same".to_owned(), |found| found.to_string()))
            }
            Looked::Ask(_) => None,
            Looked::Bypass => panic!("it is no call to be cached"),
        }
    }
}

fn completion(text: &str) -> String {
    format!(
        r#"{{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"stop"}}]}}"#
    )
}

fn record(call: &Call) -> CallRecord {
    CallRecord {
        id: call.id.clone(),
        caller: call.caller.clone(),
        dialect: call.dialect,
        stream: call.head.stream,
        model_asked: call.head.model.clone(),
        provider: Some("up".into()),
        model_used: Some("m".into()),
        cache: CacheUse::Miss,
        attempts: 1,
        notes: Vec::new(),
        outcome: Outcome::Answered,
        context: None,
        usage: Some(Usage::default()),
        cost: None,
        legs: Vec::new(),
        time_to_first: None,
        duration: Duration::ZERO,
    }
}

fn by_meaning(threshold: f64) -> Arc<ResponseCache> {
    let semantic = Some(SemanticSettings { model: "e".into(), threshold });
    cache(CacheSettings { semantic, ..CacheSettings::default() })
}

/// A question by ada, with these fields beside it.
fn question(text: &str, fields: &str) -> Call {
    question_of("ada", text, fields)
}

fn question_of(caller: &str, text: &str, fields: &str) -> Call {
    let content = serde_json::Value::from(text);
    call(
        caller,
        &format!(
            r#"{{"model":"m","temperature":0,"messages":[{{"role":"user","content":{content}}}]{fields}}}"#
        ),
    )
}

const ALIKE: [(&str, &[f32]); 3] = [("one", &[1.0, 0.0]), ("uno", &[0.96, 0.28]), ("two", &[0.0, 5.0])];

#[tokio::test]
async fn the_same_question_in_other_words_has_the_same_answer() {
    let (cache, up) = (by_meaning(0.95), Embedder::new(&ALIKE));
    up.ask(&cache, &question("one", ""), "1").await;
    assert_eq!(up.found(&cache, &question("uno", "")).await.as_deref(), Some("0.96"));
    assert_eq!(up.found(&cache, &question("uno", r#","stream":true"#)).await.as_deref(), Some("0.96"));
    assert_eq!(up.found(&cache, &question("two", "")).await, None);
    let mut summary = question("uno", "");
    summary.by_words_alone = true;
    assert_eq!(up.found(&cache, &summary).await, None, "where only the same words will do");
    // The same words need no vector.
    let asked = up.asked.load(Ordering::Relaxed);
    assert_eq!(up.found(&cache, &question("one", "")).await.as_deref(), Some("same"));
    assert_eq!(up.asked.load(Ordering::Relaxed), asked);
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.semantic_hits, stats.misses, stats.semantic_entries), (1, 2, 3, 1));
}

#[tokio::test]
async fn everything_but_the_words_must_be_the_same() {
    let system = |text: &str, system: &str| {
        let body = format!(
            r#"{{"model":"m","temperature":0,"messages":[{{"role":"system","content":"{system}"}},{{"role":"user","content":"{text}"}}]}}"#
        );
        call("ada", &body)
    };
    let in_dialect = |dialect, body: &str| {
        Call::read(RequestId::new(), CallerId::new("ada"), dialect, body.to_owned().into()).unwrap()
    };
    let (cache, up) = (by_meaning(0.5), Embedder::new(&ALIKE));
    up.ask(&cache, &question("one", ""), "1").await;
    up.ask(&cache, &system("one", "brief"), "1").await;
    assert!(up.found(&cache, &question("uno", "")).await.is_some());
    assert!(up.found(&cache, &system("uno", "brief")).await.is_some());

    let mut strict = question("uno", "");
    strict.fidelity = Some(hoosh_core::Fidelity::Strict);
    let mut local = question("uno", "");
    local.local_only = true;
    let anthropic =
        r#"{"model":"m","temperature":0,"max_tokens":9,"messages":[{"role":"user","content":"uno"}]}"#;
    let other_model = String::from_utf8(question("uno", "").body.to_vec()).unwrap().replace("\"m\"", "\"n\"");
    for (what, other) in [
        ("caller", question_of("eve", "uno", "")),
        ("caller whose name begins alike", question_of("ad", "uno", "")),
        ("model", call("ada", &other_model)),
        ("instructions", system("uno", "at length")),
        ("parameters", question("uno", r#","top_p":0.5"#)),
        ("end user", question("uno", r#","user":"u""#)),
        ("fidelity", strict),
        ("privacy", local),
        ("dialect", in_dialect(Dialect::Anthropic, anthropic)),
    ] {
        assert_eq!(up.found(&cache, &other).await, None, "{what}");
    }
    let history = r#"{"model":"m","temperature":0,"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":"uno"}]}"#;
    assert_eq!(up.found(&cache, &call("ada", history)).await, None, "history");
}

#[tokio::test]
async fn two_callers_never_share() {
    let (cache, up) = (by_meaning(0.0), Embedder::new(&ALIKE));
    for (caller, answer) in [("ada", "for ada"), ("eve", "for eve")] {
        up.ask(&cache, &question_of(caller, "one", ""), answer).await;
    }
    for (caller, answer) in [("ada", "for ada"), ("eve", "for eve")] {
        let Looked::Found(found) = up.look(&cache, &question_of(caller, "uno", "")).await else {
            panic!("nothing for {caller}")
        };
        assert_eq!(found.entry.caller.as_str(), caller);
        assert_eq!(found.entry.body, completion(answer));
    }
    assert_eq!(up.found(&cache, &question_of("bob", "uno", "")).await, None);
}

#[tokio::test]
async fn the_threshold_is_reached_or_not() {
    for (threshold, expected) in [(0.96, Some("0.96")), (0.9601, None), (0.0, Some("0.96")), (1.0, None)] {
        let (cache, up) = (by_meaning(threshold), Embedder::new(&ALIKE));
        up.ask(&cache, &question("one", ""), "1").await;
        assert_eq!(up.found(&cache, &question("uno", "")).await.as_deref(), expected, "{threshold}");
    }
    // What is equal is, whatever its length; what is nearly so is not shown as such.
    let vectors: [(&str, &[f32]); 3] =
        [("one", &[0.1, 0.2, 0.3]), ("uno", &[100.0, 200.0, 300.0]), ("two", &[0.1, 0.2, 0.31])];
    let (cache, up) = (by_meaning(1.0), Embedder::new(&vectors));
    up.ask(&cache, &question("one", ""), "1").await;
    assert_eq!(up.found(&cache, &question("uno", "")).await.as_deref(), Some("1.00"));
    assert_eq!(up.found(&cache, &question("two", "")).await, None);
    let (cache, up) = (by_meaning(0.9), Embedder::new(&vectors));
    up.ask(&cache, &question("one", ""), "1").await;
    assert_eq!(up.found(&cache, &question("two", "")).await.as_deref(), Some("0.99"));
}

#[tokio::test]
async fn the_most_alike_is_given() {
    let vectors: [(&str, &[f32]); 3] = [("far", &[0.9, 0.5]), ("near", &[0.99, 0.1]), ("it", &[1.0, 0.0])];
    let (cache, up) = (by_meaning(0.5), Embedder::new(&vectors));
    let fresh = |text| question(text, "");
    let Looked::Ask(mut far) = up.look(&cache, &fresh("far")).await else { panic!("nothing is kept") };
    up.ask(&cache, &fresh("near"), "near").await;
    far.take(&completion("far").into());
    far.end(&record(&fresh("far")));
    let Looked::Found(found) = up.look(&cache, &fresh("it")).await else { panic!("two are alike") };
    assert_eq!(found.entry.body, completion("near"));
}

#[tokio::test]
async fn what_is_no_direction_finds_nothing() {
    let long = vec![1.0; limits::SEMANTIC_DIMENSIONS_MAX + 1];
    let vectors: [(&str, &[f32]); 8] = [
        ("one", &[1.0, 0.0]),
        ("zero", &[0.0, 0.0]),
        ("nan", &[f32::NAN, 1.0]),
        ("endless", &[f32::INFINITY, 1.0]),
        ("huge", &[f32::MAX, f32::MAX]),
        ("none", &[]),
        ("short", &[1.0]),
        ("long", &long),
    ];
    let (cache, up) = (by_meaning(0.0), Embedder::new(&vectors));
    up.ask(&cache, &question("one", ""), "1").await;
    for text in ["zero", "nan", "endless", "none", "long", "unknown"] {
        assert_eq!(up.found(&cache, &question(text, "")).await, None, "{text}");
        up.ask(&cache, &question(text, ""), "its own").await;
    }
    let stats = cache.stats();
    assert_eq!((stats.embeddings_failed, stats.semantic_entries, stats.entries), (12, 1, 7));
    // Another length is another kind of vector; a great one is as good as any.
    assert_eq!(up.found(&cache, &question("short", "")).await, None);
    assert_eq!(up.found(&cache, &question("huge", "")).await.as_deref(), Some("0.70"));
    // And so is one of another maker, behind the same name.
    let other = Embedder { maker: "other/e", ..Embedder::new(&vectors) };
    assert_eq!(other.found(&cache, &question("huge", "")).await, None);
}

#[tokio::test]
async fn numbers_signs_negations_and_the_order_of_words_must_agree() {
    for (one, other, expected) in [
        ("What is 17 times 23?", "What is 17 times 24?", false),
        ("What is 17 times 23?", "what's 17 times 23", true),
        ("Is it safe?", "Is it not safe?", false),
        ("Is it safe?", "Isn't it safe?", false),
        ("May I go?", "Can I go?", true),
        ("5 miles to kilometers", "5 kilometers to miles", false),
        ("Is it SAFE", "is it safe?", true),
        ("١ plus ٢", "١ plus ٣", false),
        ("all users whose age >= 18", "all users whose age <= 18", false),
        ("all users whose age >= 18", "every user whose age >= 18", true),
        ("all users whose age >= 18", "all users whose age>=18", true),
        ("all users whose age = 18", "all users whose age != 18", false),
        ("What is 20 + 4?", "What is 20 - 4?", false),
        ("What is 12 * 5", "What is 12 / 5", false),
        ("What is -5 + 3?", "What is 5 + 3?", false),
        ("What is 5 - 3?", "What is 3 - 5?", false),
        ("What is 5% of 200?", "What is $5 of 200?", false),
        ("What does €5 buy?", "What does £5 buy?", false),
        ("Is it hot at 30 °C?", "Is it hot at 30 C?", false),
        ("How do I sort in C?", "How do I sort in C++?", false),
        ("How do I sort in C#?", "How do I sort in C++?", false),
        ("a & b", "a | b", false),
        ("x ^ y", "x ~ y", false),
        ("(2 + 3) * 4", "2 + (3 * 4)", false),
        ("(a) b c", "a (b) c", false),
        ("x ≤ y", "x ≥ y", false),
        ("1.5 miles", "15 miles", false),
        ("1 5 miles", "1.5 miles", false),
        ("flag !set", "flag set", false),
        ("I like it 🙂", "I like it 🙁", false),
        ("Is it safe, then?", "Is it safe then", true),
        ("\"Is it safe\"", "“Is it safe?”", true),
        ("¿Es seguro?", "Es seguro", true),
        ("日本の首都は？", "「日本の首都は」", true),
        ("हिन्दी में लिखो", "हिंदी में लिखो", true),
    ] {
        let vectors: [(&'static str, &[f32]); 2] = [(one, &[1.0, 0.0]), (other, &[1.0, 0.0])];
        let (cache, up) = (by_meaning(0.95), Embedder::new(&vectors));
        up.ask(&cache, &question(one, ""), "1").await;
        let found = up.found(&cache, &question(other, "")).await;
        assert_eq!(found.is_some(), expected, "{one} and {other}");
    }
}

#[tokio::test]
async fn only_one_text_that_a_model_reads_whole_is_embedded() {
    let (cache, up) = (by_meaning(0.0), Embedder::new(&[]));
    let long = "x".repeat(limits::SEMANTIC_TEXT_BYTES_MAX + 1);
    let picture = r#"{"model":"m","temperature":0,"messages":[{"role":"user","content":[{"type":"text","text":"one"},{"type":"image_url","image_url":{"url":"data:,"}}]}]}"#;
    let mut fresh = question("one", "");
    fresh.cache = CacheControl::parse(["no-cache"]);
    let embeddings = Call::read(
        RequestId::new(),
        CallerId::new("ada"),
        Dialect::OpenAiEmbeddings,
        r#"{"model":"e","input":"one"}"#.into(),
    );
    for call in [question(&long, ""), question(" ", ""), call("ada", picture), fresh, embeddings.unwrap()] {
        assert_eq!(up.found(&cache, &call).await, None);
    }
    assert_eq!((up.asked.load(Ordering::Relaxed), cache.stats().embeddings_failed), (0, 0));
    let tools = question("one", r#","tools":[{}]"#);
    assert!(matches!(up.look(&cache, &tools).await, Looked::Bypass));
}

#[tokio::test]
async fn what_is_let_go_of_is_not_found_by_meaning_either() {
    let (cache, up) = (by_meaning(0.5), Embedder::new(&ALIKE));
    up.ask(&cache, &question("one", ""), "1").await;
    up.ask(&cache, &question_of("eve", "one", ""), "1").await;
    assert_eq!(cache.purge(&CallerId::new("ada"), None), 1);
    assert_eq!(cache.stats().semantic_entries, 1);
    assert_eq!(up.found(&cache, &question("uno", "")).await, None);
    assert!(up.found(&cache, &question_of("eve", "uno", "")).await.is_some(), "hers stays");

    // What was asked for before a purge takes no place after it.
    let Looked::Ask(mut keeping) = up.look(&cache, &question("one", "")).await else { panic!("it is gone") };
    keeping.take(&completion("1").into());
    cache.purge(&CallerId::new("ada"), None);
    keeping.end(&record(&question("one", "")));
    assert_eq!(cache.stats().semantic_entries, 1);

    // One that is asked for anew takes the place of the one before it here too, without a look at its meaning.
    let asked = up.asked.load(Ordering::Relaxed);
    let mut fresh = question_of("eve", "one", "");
    fresh.cache = CacheControl::parse(["no-cache"]);
    up.ask(&cache, &fresh, "2").await;
    assert_eq!((cache.stats().entries, cache.stats().semantic_entries), (1, 1));
    assert_eq!(up.asked.load(Ordering::Relaxed), asked);
    let Looked::Found(found) = up.look(&cache, &question_of("eve", "uno", "")).await else {
        panic!("it is there")
    };
    assert_eq!((found.entry.body.clone(), found.similarity.is_some()), (completion("2").into(), true));
    // Where there was none, it has no place.
    let mut other = question_of("eve", "two", "");
    other.cache = CacheControl::parse(["no-cache"]);
    up.ask(&cache, &other, "3").await;
    assert_eq!((cache.stats().entries, cache.stats().semantic_entries), (2, 1));
}

#[tokio::test]
async fn vectors_are_part_of_what_is_bounded() {
    let vector = vec![1.0; 4_096];
    let texts: Vec<String> = (0..40).map(|number| format!("text {number}")).collect();
    let semantic = Some(SemanticSettings { model: "e".into(), threshold: 0.95 });
    let cache = cache(CacheSettings { semantic, bytes_max: 100_000, ..CacheSettings::default() });
    for text in texts {
        let text: &'static str = text.leak();
        Embedder::new(&[(text, &vector)]).ask(&cache, &question(text, ""), "1").await;
    }
    let stats = cache.stats();
    assert!(stats.bytes <= 100_000 && stats.evictions > 30, "{stats:?}");
    assert_eq!(stats.semantic_entries, stats.entries);
}

#[tokio::test]
async fn a_bucket_holds_the_newest() {
    let cache = by_meaning(1.0);
    let one: &[f32] = &[1.0, 0.0];
    let up = Embedder::new(&[("one", one), ("uno", one)]);
    up.ask(&cache, &question("one", ""), "1").await;
    // Words without digits, since numbers have buckets of their own, each in a direction of its own.
    let letters =
        |number: usize| [number / 26 / 26, number / 26 % 26, number % 26].map(|n| char::from(b'a' + n as u8));
    for number in 0..limits::SEMANTIC_NEIGHBOURS_MAX {
        if number % 100 == 0 {
            assert_eq!(up.found(&cache, &question("uno", "")).await.as_deref(), Some("1.00"), "{number}");
        }
        let text: &'static str = String::from_iter(letters(number)).leak();
        let angle = (number + 1) as f32 * 0.003;
        Embedder::new(&[(text, &[angle.cos(), angle.sin()])]).ask(&cache, &question(text, ""), "w").await;
    }
    assert_eq!(up.found(&cache, &question("uno", "")).await, None, "it was the oldest");
    assert_eq!(up.found(&cache, &question("one", "")).await.as_deref(), Some("same"), "it is still kept");
    assert_eq!(cache.stats().semantic_entries, limits::SEMANTIC_NEIGHBOURS_MAX as u64);
}

#[tokio::test(start_paused = true)]
async fn an_embedding_that_does_not_come_holds_up_one_call_and_fails_none() {
    let cache = by_meaning(0.95);
    let asked = AtomicUsize::new(0);
    let hangs = |_: String| -> BoxFuture<'_, Option<Embedding>> {
        asked.fetch_add(1, Ordering::Relaxed);
        Box::pin(std::future::pending())
    };
    let start = tokio::time::Instant::now();
    let look = async |text: &str| cache.look(&question(text, ""), None, &hangs).await;
    assert!(matches!(look("one").await, Looked::Ask(_)));
    assert_eq!(start.elapsed(), limits::SEMANTIC_EMBED_TIME_MAX);
    // It is let alone for a while.
    assert!(matches!(look("uno").await, Looked::Ask(_)));
    assert_eq!((start.elapsed(), asked.load(Ordering::Relaxed)), (limits::SEMANTIC_EMBED_TIME_MAX, 1));
    assert_eq!((cache.stats().embeddings_failed, cache.stats().misses), (2, 2));
    tokio::time::advance(limits::SEMANTIC_REST).await;
    assert!(matches!(look("two").await, Looked::Ask(_)));
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn those_who_wait_for_the_same_words_share_what_was_found() {
    let (cache, up) = (by_meaning(0.5), Embedder::new(&ALIKE));
    up.ask(&cache, &question("one", ""), "1").await;
    let (embedded, wait) = tokio::sync::oneshot::channel::<()>();
    let wait = Mutex::new(Some(wait));
    let slow = |_: String| -> BoxFuture<'_, Option<Embedding>> {
        let wait = wait.lock().unwrap().take().expect("only the first is embedded");
        Box::pin(async move {
            wait.await.unwrap();
            Some(Embedding { maker: "up/e".into(), numbers: vec![0.96, 0.28] })
        })
    };
    let call = question("uno", "");
    let mut first = std::pin::pin!(cache.look(&call, None, &slow));
    assert!(first.as_mut().now_or_never().is_none());
    let mut second = std::pin::pin!(cache.look(&call, None, &slow));
    assert!(second.as_mut().now_or_never().is_none());
    embedded.send(()).unwrap();
    for looked in [first.await, second.await] {
        let Looked::Found(found) = looked else { panic!("it is there") };
        assert_eq!(found.cache_use().similarity().map(|found| found.to_string()).as_deref(), Some("0.96"));
    }
    let stats = cache.stats();
    assert_eq!((stats.semantic_hits, stats.waits), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_is_given_nothing_older_than_it_wants() {
    let (cache, up) = (by_meaning(0.5), Embedder::new(&ALIKE));
    up.ask(&cache, &question("one", ""), "1").await;
    tokio::time::advance(Duration::from_secs(10)).await;
    let slow = |_: String| -> BoxFuture<'_, Option<Embedding>> {
        Box::pin(async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            Some(Embedding { maker: "up/e".into(), numbers: vec![0.96, 0.28] })
        })
    };
    let age = |seconds: &str| {
        let mut call = question("uno", "");
        call.cache = CacheControl::parse([seconds]);
        call
    };
    let (any, young, old) = (question("uno", ""), age("max-age=5"), age("max-age=15"));
    let calls = [&any, &young, &old].map(|call| cache.look(call, None, &slow));
    let [any, young, old] =
        futures_util::future::join_all(calls).await.try_into().unwrap_or_else(|_| panic!("three"));
    assert!(matches!(any, Looked::Found(_)) && matches!(old, Looked::Found(_)));
    assert!(matches!(young, Looked::Ask(_)), "it is asked for alone");
}

#[tokio::test(start_paused = true)]
async fn an_embedding_takes_no_more_than_a_part_of_a_calls_time() {
    let cache = by_meaning(0.95);
    let asked = AtomicUsize::new(0);
    let hangs = |_: String| -> BoxFuture<'_, Option<Embedding>> {
        asked.fetch_add(1, Ordering::Relaxed);
        Box::pin(std::future::pending())
    };
    let now = tokio::time::Instant::now;
    let (start, limit) = (now(), Duration::from_millis(800));
    let looked = cache.look(&question("one", ""), Some(start + limit), &hangs).await;
    assert!(matches!(looked, Looked::Ask(_)));
    assert_eq!(start.elapsed(), limit / limits::SEMANTIC_EMBED_PART);
    // One that has no time left loses none either; one that has more than enough has the usual.
    tokio::time::advance(limits::SEMANTIC_REST).await;
    let (start, day) = (now(), Duration::from_secs(86_400));
    assert!(matches!(cache.look(&question("a", ""), Some(start), &hangs).await, Looked::Ask(_)));
    tokio::time::advance(limits::SEMANTIC_REST).await;
    let start = now();
    assert!(matches!(cache.look(&question("b", ""), Some(start + day), &hangs).await, Looked::Ask(_)));
    assert_eq!(start.elapsed(), limits::SEMANTIC_EMBED_TIME_MAX);

    // Who gives up waiting for it spares the next one the wait, but not who leaves at once.
    tokio::time::advance(limits::SEMANTIC_REST).await;
    let asked = || asked.load(Ordering::Relaxed);
    for (waited, again) in [(0.4, true), (0.6, false)] {
        let before = asked();
        let call = question("c", "");
        let look = cache.look(&call, None, &hangs);
        assert!(timeout(limits::SEMANTIC_EMBED_TIME_MAX.mul_f64(waited), look).await.is_err());
        let next = cache.look(&call, None, &hangs);
        let _left = timeout(Duration::from_millis(1), next).await;
        assert_eq!(asked(), before + 1 + usize::from(again), "after {waited} of its time");
    }
}
