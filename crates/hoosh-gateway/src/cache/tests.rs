use futures_util::FutureExt;
use hoosh_core::dialect::Dialect;

use hoosh_router::Tier;

use super::*;
use crate::call::RequestId;

fn call(caller: &str, body: &str) -> Call {
    let caller = CallerId::new(caller);
    Call::read(RequestId::new(), caller, Dialect::OpenAiChat, body.to_owned().into()).unwrap()
}

fn cache(settings: CacheSettings) -> Arc<ResponseCache> {
    Arc::new(ResponseCache::new(settings))
}

fn key_of(cache: &ResponseCache, call: &Call) -> Option<Key> {
    cache.settings.identify(call).map(|(key, _)| key)
}

/// Looks where nothing is found by meaning.
async fn look(cache: &Arc<ResponseCache>, call: &Call) -> Looked {
    cache.look(call, None, &|_| panic!("nothing is to be embedded")).await
}

/// A request with these fields beside model and messages.
fn asking(fields: &str) -> String {
    format!(r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}]{fields}}}"#)
}

#[test]
fn callers_models_and_wishes_have_keys_of_their_own() {
    let cache = cache(CacheSettings::default());
    let body = asking(r#","temperature":0"#);
    let key = |call: &Call| key_of(&cache, call).unwrap();
    let ours = key(&call("ada", &body));
    assert!(ours == key(&call("ada", &body.replace(",\"messages", " , \"messages"))));
    assert!(ours == key(&call("ada", &asking(r#","stream":true,"temperature":0"#))));

    assert!(ours != key(&call("eve", &body)));
    assert!(ours != key(&call("ada", &body.replace("\"m\"", "\"n\""))));
    let mut strict = call("ada", &body);
    strict.fidelity = Some(hoosh_core::Fidelity::Strict);
    assert!(ours != key(&strict));
    let mut beta = call("ada", &body);
    beta.headers.insert("anthropic-beta", "x".parse().unwrap());
    assert!(ours != key(&beta));
    // The version that is meant where none is named makes no difference, another does.
    let version = |version: &'static str| {
        let mut call = call("ada", &body);
        call.headers.insert("anthropic-version", version.parse().unwrap());
        key(&call)
    };
    assert!(ours == version("2023-06-01") && ours != version("2099-01-01"));
    // A caller cannot write himself into another's.
    assert!(key(&call("a", &body)) != key(&call("ad", &body)));
}

#[test]
fn what_leaves_the_model_a_choice_is_cached_only_if_that_is_wanted() {
    let strict = cache(CacheSettings::default());
    let tools = cache(CacheSettings { tool_calls: true, ..CacheSettings::default() });
    let any = cache(CacheSettings { any_temperature: true, ..CacheSettings::default() });
    for (fields, expected) in [
        (r#","temperature":0"#, [true, true, true]),
        ("", [false, false, true]),
        (r#","temperature":0.2"#, [false, false, true]),
        (r#","temperature":0,"tools":[{}]"#, [false, true, false]),
        (r#","temperature":0,"tools":[]"#, [true, true, true]),
        (r#","temperature":0,"n":2"#, [false, false, false]),
    ] {
        let call = call("ada", &asking(fields));
        let allowed = [&strict, &tools, &any].map(|cache| key_of(cache, &call).is_some());
        assert_eq!(allowed, expected, "{fields}");
    }
}

#[test]
fn what_a_caller_says_of_the_cache_is_read() {
    let control = |values: &[&str]| CacheControl::parse(values.iter().copied());
    let age = |seconds| Some(Duration::from_secs(seconds));
    assert_eq!(control(&[]), CacheControl::ANY);
    assert_eq!(control(&["max-stale=5, x"]), CacheControl::ANY);
    assert_eq!(control(&["No-Cache"]), CacheControl { read: false, ..CacheControl::ANY });
    let nothing = CacheControl { read: false, write: false, age_max: None };
    assert_eq!(control(&["no-cache", "no-store"]), nothing);
    assert_eq!(
        control(&["max-age=60 ,max-age=\"30\""]),
        CacheControl { age_max: age(30), ..CacheControl::ANY }
    );
    assert_eq!(control(&["max-age=soon"]), CacheControl { age_max: age(0), ..CacheControl::ANY });
}

#[tokio::test]
async fn one_leads_and_when_it_leaves_another_does() {
    let cache = cache(CacheSettings::default());
    let call = call("ada", &asking(r#","temperature":0"#));
    let Looked::Ask(first) = look(&cache, &call).await else { panic!("nothing is kept") };
    let mut second = std::pin::pin!(look(&cache, &call));
    assert!(second.as_mut().now_or_never().is_none());
    drop(first);
    let Looked::Ask(second) = second.await else { panic!("still nothing is kept") };
    let mut third = std::pin::pin!(look(&cache, &call));
    assert!(third.as_mut().now_or_never().is_none(), "the second leads");
    drop(second);
    assert!(matches!(third.await, Looked::Ask(_)));
    let stats = cache.stats();
    assert_eq!((stats.misses, stats.waits, stats.hits), (3, 2, 0));
}

#[tokio::test]
async fn nobody_waits_behind_one_of_a_lower_tier() {
    let cache = cache(CacheSettings::default());
    let mut call = call("ada", &asking(r#","temperature":0"#));
    call.tier = Tier::Batch;
    let _first = look(&cache, &call).await;
    assert!(look(&cache, &call).now_or_never().is_none(), "one of its own waits");
    call.tier = Tier::High;
    assert!(matches!(look(&cache, &call).await, Looked::Ask(_)));
}

#[tokio::test]
async fn whoever_wants_a_fresh_answer_waits_for_nobody() {
    let cache = cache(CacheSettings::default());
    let mut call = call("ada", &asking(r#","temperature":0"#));
    let _first = look(&cache, &call).await;
    call.cache = CacheControl::parse(["no-cache"]);
    assert!(matches!(look(&cache, &call).await, Looked::Ask(_)));
    call.cache = CacheControl::parse(["no-store"]);
    assert!(matches!(look(&cache, &call).await, Looked::Bypass));
}

#[tokio::test]
async fn after_a_purge_nobody_waits_for_what_was_asked_before() {
    let cache = cache(CacheSettings::default());
    let (ada, eve) = (asking(r#","temperature":0"#), asking(r#","temperature":0"#));
    let (ada, eve) = (call("ada", &ada), call("eve", &eve));
    let (_first, _other) = (look(&cache, &ada).await, look(&cache, &eve).await);
    assert_eq!(cache.purge(&ada.caller, None), 0);
    assert!(matches!(look(&cache, &ada).await, Looked::Ask(_)));
    let mut waiting = std::pin::pin!(look(&cache, &eve));
    assert!(waiting.as_mut().now_or_never().is_none(), "it is none of hers");
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_ever() {
    let cache = cache(CacheSettings::default());
    let call = call("ada", &asking(r#","temperature":0"#));
    let _first = look(&cache, &call).await;
    assert!(matches!(look(&cache, &call).await, Looked::Ask(_)));
}

fn entry(call: &Call, body: String) -> Arc<Entry> {
    Arc::new(Entry {
        caller: call.caller.clone(),
        model_asked: "m".into(),
        provider: "p".into(),
        model: "m".into(),
        usage: None,
        notes: Vec::new(),
        tells_notes: true,
        context: None,
        form: entry::Form::default(),
        body: body.into(),
        since: tokio::time::Instant::now(),
        ttl: Duration::from_secs(60),
        taken: None,
    })
}

#[tokio::test]
async fn memory_is_bounded() {
    let cache = cache(CacheSettings { bytes_max: 100_000, ..CacheSettings::default() });
    for number in 0..100 {
        let call = call("ada", &asking(&format!(r#","temperature":0,"seed":{number}"#)));
        cache.keep(&key_of(&cache, &call).unwrap(), &entry(&call, "x".repeat(10_000)), 0);
    }
    let stats = cache.stats();
    assert!(stats.entries > 0 && stats.bytes <= 100_000 && stats.evictions > 50, "{stats:?}");
}

#[tokio::test]
async fn answers_that_are_still_coming_are_bounded_too() {
    let cache = cache(CacheSettings { bytes_max: 1_000, ..CacheSettings::default() });
    let (one, other) = (asking(r#","temperature":0"#), asking(r#","temperature":0,"seed":1"#));
    let (one, other) = (call("ada", &one), call("ada", &other));
    let Looked::Ask(mut first) = look(&cache, &one).await else { panic!("nothing is kept") };
    let Looked::Ask(mut second) = look(&cache, &other).await else { panic!("nothing is kept") };
    let coming = || cache.coming.load(Ordering::Relaxed);
    first.take(&vec![b'x'; 800].into());
    second.take(&vec![b'x'; 300].into());
    assert_eq!(coming(), 800, "the second is given up");
    second.take(&vec![b'x'; 100].into());
    assert_eq!(coming(), 800);
    drop(first);
    assert_eq!(coming(), 0);
}

mod by_meaning;
