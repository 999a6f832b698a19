//! Promise: the configuration changes while calls go on, none is lost, and a bad file changes nothing.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::join_all;
use serde_json::Value;
use testkit::{End, Hoosh, PATIENCE, Script, Upstream, chat_body, chunk, client, completion, finish, sse};

use crate::{at, header, json, provider};

const CHAT: &str = "/v1/chat/completions";
const RELOAD: &str = "/v1/admin/reload";

async fn ask(hoosh: &Hoosh, model: &str) -> reqwest::Response {
    hoosh.post(CHAT, chat_body(model, false)).await
}

/// Reloads; the answer.
async fn reload(hoosh: &Hoosh) -> (u16, Value) {
    let response = hoosh.post(RELOAD, "").await;
    (response.status().as_u16(), json(response).await)
}

async fn hash(hoosh: &Hoosh) -> String {
    json(hoosh.get("/v1/health").await).await["config"].as_str().unwrap().to_owned()
}

/// Waits until the hash is another one.
async fn changed(hoosh: &Hoosh, before: &str) -> String {
    let start = Instant::now();
    loop {
        let now = hash(hoosh).await;
        if now != before {
            return now;
        }
        assert!(start.elapsed() < PATIENCE, "no change:\n{}", hoosh.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn answers(text: &str) -> Script {
    Script::json(completion(text))
}

/// Answers after a while.
fn slow(wait: u64, text: &str) -> Script {
    Script::Stream(vec![(Duration::from_millis(wait), completion(text))], End::Proper)
}

#[tokio::test]
async fn what_is_new_in_the_file_holds_after_a_signal_or_a_request() {
    let (one, other) = (Upstream::start().await, Upstream::start().await);
    one.always(answers("one"));
    other.always(answers("other"));
    let plain = provider("one", &one);
    let hoosh = Hoosh::start(&plain).await;
    assert_eq!(header(&ask(&hoosh, "other/m").await, "x-hoosh-provider"), "one");

    let first = hash(&hoosh).await;
    let more = format!("{plain}{}", at("other", &other.url(), "priority = 200"));
    hoosh.configure(&more);
    hoosh.signal("HUP");
    let second = changed(&hoosh, &first).await;
    assert_eq!(header(&ask(&hoosh, "other/m").await, "x-hoosh-provider"), "other");
    assert!(hoosh.log().contains("provider `other` added"), "{}", hoosh.log());

    hoosh.configure(&format!("{more}[aliases]\nfast = \"other/m\"\n[auth]\nadmin_tokens = [\"sesame\"]\n"));
    let (status, report) = reload(&hoosh).await;
    assert_eq!((status, report["previous"].as_str()), (200, Some(second.as_str())), "{report}");
    assert_eq!(report["changed"], serde_json::json!(["`aliases.fast`", "`auth.admin_tokens`"]));
    assert_eq!(ask(&hoosh, "fast").await.status(), 401);
    let with_key = async |path: &str, body: String| {
        client().post(hoosh.url(path)).bearer_auth("sesame").body(body).send().await.unwrap()
    };
    assert_eq!(header(&with_key(CHAT, chat_body("fast", false)).await, "x-hoosh-provider"), "other");

    // The door is locked for the next reload too.
    assert_eq!(reload(&hoosh).await.0, 401);
    let last = json(with_key(RELOAD, String::new()).await).await;
    assert_eq!((&last["config"], &last["changed"]), (&report["config"], &serde_json::json!([])));
    let metrics = client().get(hoosh.url("/metrics")).bearer_auth("sesame").send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    let info = format!("hoosh_config_info{{hash={}}} 1", report["config"]);
    assert_eq!(
        metrics.lines().filter(|line| line.starts_with("hoosh_config_info")).collect::<Vec<_>>(),
        [info]
    );
    for line in
        ["hoosh_config_reloads_total{result=\"ok\"} 3", "hoosh_config_reloads_total{result=\"refused\"} 0"]
    {
        assert!(metrics.contains(line), "{metrics}");
    }
    assert!(!hoosh.log().contains("sesame"));
}

#[tokio::test]
async fn a_bad_file_is_refused_with_its_faults_and_changes_nothing() {
    let upstream = Upstream::start().await;
    upstream.always(answers("hi"));
    let good = provider("up", &upstream);
    let hoosh = Hoosh::start(&good).await;
    let before = hash(&hoosh).await;
    hoosh.configure(&format!("strateggy = \"x\"\n{}[routing]\nretries = 99\n", good.replace("[\"*\"]", "7")));
    let (status, refused) = reload(&hoosh).await;
    assert_eq!((status, &refused["error"]["code"]), (400, &"invalid_config".into()), "{refused}");
    let faults = refused["faults"].as_array().unwrap();
    let lines: Vec<_> = faults.iter().map(|fault| fault["line"].as_u64().unwrap()).collect();
    assert_eq!(lines, [4, 9, 12], "{refused}");
    assert_eq!(
        (&faults[0]["key"], &faults[0]["did_you_mean"]),
        (&"server.strateggy".into(), &"strategy".into())
    );
    assert!(refused["error"]["message"].as_str().unwrap().contains("other.toml:12: routing.retries"));

    hoosh.signal("HUP");
    hoosh.configure("this is no TOML");
    assert_eq!(reload(&hoosh).await.0, 400);
    assert_eq!((ask(&hoosh, "m").await.status().as_u16(), hash(&hoosh).await), (200, before.clone()));
    assert!(hoosh.log().contains("refused; the last one stays"), "{}", hoosh.log());

    // What takes a restart is told, and the rest is taken.
    hoosh.configure(&format!("max_connections = 7\n{good}"));
    let (status, report) = reload(&hoosh).await;
    assert_eq!((status, &report["config"]), (200, &before.into()));
    assert!(report["warnings"][0].as_str().unwrap().contains("takes a restart"), "{report}");
}

#[tokio::test]
async fn a_stream_goes_on_when_its_provider_is_gone_from_the_file() {
    let (old, new) = (Upstream::start().await, Upstream::start().await);
    new.always(answers("new"));
    let pieces = [
        (0, chunk(r#"{"content":"a"}"#)),
        (1000, chunk(r#"{"content":"b"}"#)),
        (0, finish("stop")),
        (0, sse("[DONE]")),
    ];
    let pieces = pieces.map(|(wait, piece)| (Duration::from_millis(wait), piece.into_bytes()));
    old.always(Script::Stream(pieces.into(), End::Proper));
    let hoosh = Hoosh::start(&provider("old", &old)).await;
    let response = hoosh.post(CHAT, chat_body("m", true)).await;
    let mut bytes = response.bytes_stream();
    bytes.next().await.unwrap().unwrap();

    hoosh.configure(&provider("new", &new));
    assert_eq!(reload(&hoosh).await.0, 200);
    assert_eq!(header(&ask(&hoosh, "m").await, "x-hoosh-provider"), "new");
    let mut rest = Vec::new();
    while let Some(piece) = bytes.next().await {
        rest.extend_from_slice(&piece.unwrap());
    }
    let rest = String::from_utf8(rest).unwrap();
    assert!(rest.contains(r#""b""#) && rest.ends_with("data: [DONE]\n\n"), "{rest}");
}

#[tokio::test]
async fn under_load_no_request_is_lost() {
    const CALLERS: usize = 200;
    const CALLS: usize = 8;
    let (one, other) = (Upstream::start().await, Upstream::start().await);
    one.always(slow(20, "hi"));
    other.always(slow(20, "hi"));
    let configs = [
        provider("one", &one),
        format!("strategy = \"round_robin\"\n{}{}", provider("one", &one), provider("other", &other)),
        at("other", &other.url(), "max_concurrent = 64\nmax_waiting = 1000"),
        at("other", &other.url(), "max_concurrent = 16\nmax_waiting = 1000"),
    ];
    let hoosh = Hoosh::start(&configs[0]).await;
    // Kept connections too, which outlive every snapshot.
    let kept = testkit::client_builder().build().unwrap();
    let caller = async |number: usize| {
        let mut statuses = Vec::with_capacity(CALLS);
        for call in 0..CALLS {
            let client = if number.is_multiple_of(2) { kept.clone() } else { client() };
            let body = chat_body("m", (number + call).is_multiple_of(3));
            let response = client.post(hoosh.url(CHAT)).body(body).send().await.unwrap();
            let status = response.status().as_u16();
            let text = response.text().await.unwrap();
            statuses.push((status, status != 200 || !text.contains("error")));
        }
        statuses
    };
    // A stream of one whole answer is none that a client reads; the upstream gives what is asked for.
    let script = |request: &testkit::Request| {
        if String::from_utf8_lossy(&request.body).contains("\"stream\":true") {
            let events = [chunk(r#"{"content":"hi"}"#), finish("stop"), sse("[DONE]")];
            let wait = Duration::from_millis(10);
            Script::Stream(events.map(|event| (wait, event.into_bytes())).into(), End::Proper)
        } else {
            slow(20, "hi")
        }
    };
    one.always(Script::By(script));
    other.always(Script::By(script));
    let load = join_all((0..CALLERS).map(caller));
    let reloads = async {
        let mut done = 0;
        for round in 0..12 {
            hoosh.configure(&configs[(round + 1) % configs.len()]);
            if round.is_multiple_of(3) {
                hoosh.signal("HUP");
            }
            let (status, report) = reload(&hoosh).await;
            assert_eq!(status, 200, "{report}");
            done += 1;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        done
    };
    let (answered, done) = tokio::join!(load, reloads);
    let answered = answered.concat();
    assert_eq!((answered.len(), done), (CALLERS * CALLS, 12));
    let lost: Vec<_> = answered.iter().filter(|answer| **answer != (200, true)).collect();
    assert!(lost.is_empty(), "{lost:?}\n{}", hoosh.log());
    assert!(!one.requests(CHAT).is_empty() && !other.requests(CHAT).is_empty());
}

#[tokio::test]
async fn what_is_known_of_a_provider_stays_unless_it_is_another() {
    let (sick, well) = (Upstream::start().await, Upstream::start().await);
    sick.always(Script::status(500, "{}"));
    well.always(answers("hi"));
    let routing = "[routing]\nretries = 0\nfailures = 2\nrest_secs = 60\nheartbeat_secs = 0\n";
    let hoosh = Hoosh::start(&format!("{}{routing}", provider("up", &sick))).await;
    for _ in 0..2 {
        assert_eq!(ask(&hoosh, "m").await.status(), 502);
    }
    assert_eq!(ask(&hoosh, "m").await.status(), 503);

    let renamed = routing.replace("failures = 2", "failures = 9");
    hoosh.configure(&format!("{}total_timeout_secs = 9\n{renamed}", provider("up", &sick)));
    assert_eq!(reload(&hoosh).await.0, 200);
    assert_eq!(ask(&hoosh, "m").await.status(), 503, "it rests on");
    assert_eq!(sick.requests(CHAT).len(), 2);

    hoosh.configure(&format!("{}{renamed}", provider("up", &well)));
    assert_eq!(reload(&hoosh).await.0, 200);
    assert_eq!(ask(&hoosh, "m").await.status(), 200, "another server has its own health");
    let shown = json(hoosh.get("/v1/health/endpoints").await).await["endpoints"].clone();
    assert_eq!((shown.as_array().unwrap().len(), &shown[0]["state"]), (1, &"well".into()), "{shown}");
}

#[tokio::test]
async fn a_provider_that_did_not_change_keeps_its_connections_and_its_line() {
    let upstream = Upstream::start().await;
    upstream.always(slow(700, "hi"));
    let config = |more: &str| at("up", &upstream.url(), more);
    let hoosh = Hoosh::start(&config("max_concurrent = 1\nmax_waiting = 20")).await;
    let start = Instant::now();
    let calls = join_all((0..8).map(|_| ask(&hoosh, "m")));
    let raise = async {
        let status = async || json(hoosh.get("/v1/queue/status").await).await["queues"][0].clone();
        while status().await["waiting"]["normal"] != 7 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        hoosh.configure(&config("max_concurrent = 4\nmax_waiting = 20"));
        assert_eq!(reload(&hoosh).await.0, 200);
        let line = status().await;
        assert_eq!((&line["running"], &line["waiting"]["normal"]), (&4.into(), &4.into()), "{line}");
        // Without a limit there is no line, and nobody waits in it.
        hoosh.configure(&config(""));
        assert_eq!(reload(&hoosh).await.0, 200);
    };
    let (answered, ()) = tokio::join!(calls, raise);
    assert!(answered.iter().all(|answer| answer.status() == 200));
    // One by one they would take 5.6 s.
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    let connections = upstream.connections();
    assert_eq!(reload(&hoosh).await.0, 200);
    upstream.always(answers("hi"));
    assert_eq!(ask(&hoosh, "m").await.status(), 200);
    assert_eq!(upstream.connections(), connections, "a kept connection is used");
}

#[tokio::test]
async fn cached_answers_stay_as_long_as_they_could_be_given() {
    let upstream = Upstream::start().await;
    upstream.always(answers("hi"));
    let config = |more: &str| {
        format!("{}[cache]\nenabled = true\nany_temperature = true\n{more}", provider("up", &upstream))
    };
    let hoosh = Hoosh::start(&config("")).await;
    let cache = async || header(&ask(&hoosh, "m").await, "x-hoosh-cache").to_owned();
    assert_eq!((cache().await, cache().await), ("miss".to_owned(), "hit".to_owned()));
    hoosh.configure(&config("[routing]\nretries = 2\n"));
    assert_eq!(reload(&hoosh).await.0, 200);
    assert_eq!(cache().await, "hit");
    let keys = "hedge = true\nmax_concurrent = 5\nmax_concurrent_per_model = 3\nmax_waiting = 9\nstream_window_secs = 1\nstream_window_events = 3\nprefill = true";
    hoosh.configure(&config("").replace("[cache]", &format!("{keys}\n[cache]")));
    let (status, told) = reload(&hoosh).await;
    assert_eq!((status, told["changed"].as_array().map(Vec::len)), (200, Some(8)), "{told}");
    assert_eq!(cache().await, "hit", "who answers is the same");
    hoosh.configure(&config("[aliases]\nm = \"up/n\"\n"));
    assert_eq!(reload(&hoosh).await.0, 200);
    assert_eq!(cache().await, "miss", "the name leads elsewhere");
    for model in ["up/a", "up/b"] {
        hoosh.configure(&config(&format!("[[groups]]\nname = \"m\"\nmodels = [\"{model}\"]\n")));
        assert_eq!(reload(&hoosh).await.0, 200);
        assert_eq!(cache().await, "miss", "and so does a group's");
    }
    let stats = json(hoosh.get("/v1/cache/stats").await).await;
    assert_eq!((&stats["hits"], &stats["misses"]), (&3.into(), &4.into()), "counted on: {stats}");
}

#[tokio::test]
async fn a_changed_file_is_taken_by_itself_if_that_is_wanted() {
    let upstream = Upstream::start().await;
    upstream.always(answers("hi"));
    let config = |more: &str| format!("reload = \"watch\"\n{}{more}", provider("up", &upstream));
    let hoosh = Hoosh::start(&config("")).await;
    let first = hash(&hoosh).await;
    hoosh.configure(&config("[aliases]\nfast = \"m\"\n"));
    changed(&hoosh, &first).await;
    assert_eq!(ask(&hoosh, "fast").await.status(), 200);
    assert!(hoosh.log().contains("by=\"watch\""), "{}", hoosh.log());

    hoosh.configure("reload = 7");
    let start = Instant::now();
    while !hoosh.log().contains("refused") {
        assert!(start.elapsed() < PATIENCE, "{}", hoosh.log());
    }
    assert_eq!(ask(&hoosh, "fast").await.status(), 200);
}

#[tokio::test]
async fn a_gateway_that_is_told_so_reads_nothing_again() {
    let upstream = Upstream::start().await;
    let hoosh = Hoosh::start(&format!("reload = \"off\"\n{}", provider("up", &upstream))).await;
    hoosh.configure("nonsense");
    let (status, refused) = reload(&hoosh).await;
    assert_eq!((status, &refused["error"]["code"]), (403, &"reload_off".into()));
    hoosh.signal("HUP");
    assert_eq!(hoosh.get("/health").await.status(), 200);
}

#[tokio::test]
async fn many_reloads_at_once_all_get_an_answer() {
    let upstream = Upstream::start().await;
    upstream.always(answers("hi"));
    let hoosh = Hoosh::start(&provider("up", &upstream)).await;
    hoosh.configure(&format!("{}[aliases]\nfast = \"m\"\n", provider("up", &upstream)));
    let reports = join_all((0..50).map(|_| reload(&hoosh))).await;
    assert!(reports.iter().all(|(status, _)| *status == 200), "{reports:?}");
    assert!(reports.iter().all(|(_, report)| report["config"] == reports[0].1["config"]));
    assert_eq!(ask(&hoosh, "fast").await.status(), 200);
}

#[tokio::test]
async fn a_reload_while_stopping_disturbs_nothing() {
    let upstream = Upstream::start().await;
    let pieces = [(0, chunk(r#"{"content":"a"}"#)), (1000, finish("stop")), (0, sse("[DONE]"))];
    let pieces = pieces.map(|(wait, piece)| (Duration::from_millis(wait), piece.into_bytes()));
    upstream.always(Script::Stream(pieces.into(), End::Proper));
    let mut hoosh = Hoosh::start(&provider("up", &upstream)).await;
    let response = hoosh.post(CHAT, chat_body("m", true)).await;
    hoosh.signal("TERM");
    tokio::time::sleep(Duration::from_millis(100)).await;
    hoosh.configure("nonsense");
    hoosh.signal("HUP");
    assert!(response.text().await.unwrap().ends_with("data: [DONE]\n\n"));
    assert_eq!(hoosh.ended().await, Some(0));
}

#[tokio::test]
async fn without_a_file_it_looks_again_for_what_there_is() {
    let environment = [("OPENAI_API_KEY", "sk-secret")];
    let hoosh = Hoosh::start_without_config(&environment).await;
    let (status, report) = reload(&hoosh).await;
    assert_eq!((status, &report["sources"]), (200, &serde_json::json!(["flags"])), "{report}");
    assert_eq!(report["changed"], serde_json::json!([]), "{report}");
    assert!(!report.to_string().contains("sk-secret") && !hoosh.log().contains("sk-secret"));
}
