//! Promise: a provider that is sick is let alone, one that comes back is used again, and a call waits where that helps.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use testkit::{End, Hoosh, Script, Upstream, chat_body, chunk, client, completion, finish, sse};

use crate::{at, header, json};

const CHAT: &str = "/v1/chat/completions";

fn limited(seconds: u64) -> Script {
    Script::Reply { status: 429, headers: format!("retry-after: {seconds}\r\n"), body: b"{}".into() }
}

/// A gateway before these upstreams, called `p0`, `p1`, …, with these settings of all and of routing.
async fn before(upstreams: &[&Upstream], more: &str, routing: &str) -> Hoosh {
    let providers: String = upstreams
        .iter()
        .enumerate()
        .map(|(index, upstream)| at(&format!("p{index}"), &upstream.url(), more))
        .collect();
    Hoosh::start(&format!("{providers}[routing]\n{routing}\n")).await
}

async fn ask(hoosh: &Hoosh) -> reqwest::Response {
    hoosh.post(CHAT, chat_body("m", false)).await
}

#[tokio::test]
async fn one_that_fails_once_is_asked_again() {
    let upstream = Upstream::start().await;
    let hoosh = before(&[&upstream], "", "").await;
    upstream.script([Script::status(500, "{}"), Script::json(completion("hi"))]);
    let start = Instant::now();
    let response = ask(&hoosh).await;
    assert_eq!((response.status().as_u16(), header(&response, "x-hoosh-attempts")), (200, "2"));
    assert!(start.elapsed() >= Duration::from_millis(125), "there is a wait between");

    // Where the provider says when to come back, that is kept; a client waits no longer than it is told.
    upstream.script([limited(1), Script::json(completion("hi"))]);
    let start = Instant::now();
    assert_eq!(ask(&hoosh).await.status(), 200);
    assert!(start.elapsed() >= Duration::from_secs(1));
    upstream.script([limited(60)]);
    let response = ask(&hoosh).await;
    assert_eq!((response.status().as_u16(), header(&response, "retry-after")), (429, "60"));
    // Nobody is asked before that.
    let response = ask(&hoosh).await;
    assert_eq!((response.status().as_u16(), header(&response, "retry-after")), (429, "60"));
    assert_eq!(upstream.requests(CHAT).len(), 5);
}

#[tokio::test]
async fn a_sick_provider_is_let_alone_and_asked_by_one_call_after_that() {
    let upstream = Upstream::start().await;
    let hoosh =
        before(&[&upstream], "", "retries = 0\nfailures = 3\nrest_secs = 1.5\nheartbeat_secs = 0").await;
    upstream.always(Script::status(500, "{}"));
    let statuses = async |calls: usize| -> Vec<u16> {
        join_all((0..calls).map(|_| ask(&hoosh))).await.iter().map(|one| one.status().as_u16()).collect()
    };
    for _ in 0..3 {
        assert_eq!(ask(&hoosh).await.status(), 502);
    }
    let refused = ask(&hoosh).await;
    assert_eq!((refused.status().as_u16(), header(&refused, "retry-after")), (503, "2"));
    let error = json(refused).await["error"].clone();
    assert_eq!(error["code"], "providers_resting");
    assert!(error["message"].as_str().unwrap().contains("`p0/m`: it failed too often"), "{error}");
    let shown = json(hoosh.get("/v1/health/endpoints").await).await["endpoints"][0].clone();
    assert_eq!((&shown["state"], &shown["model"]), (&"resting".into(), &"m".into()), "{shown}");
    assert_eq!(statuses(20).await, [503; 20]);
    assert_eq!(upstream.requests(CHAT).len(), 3, "nobody was asked");

    // After the rest one call of many finds out; the others do not wait for it.
    tokio::time::sleep(Duration::from_millis(1_800)).await;
    upstream.always(Script::Stream(vec![(Duration::from_millis(300), completion("hi"))], End::Proper));
    let mut probed = statuses(20).await;
    probed.sort_unstable();
    assert_eq!((probed[0], &probed[1..]), (200, &[503; 19][..]));
    assert_eq!(upstream.requests(CHAT).len(), 4);
    assert_eq!(statuses(5).await, [200; 5]);
    assert!(
        hoosh.log().contains("state=\"resting\"") && hoosh.log().contains("state=\"well\""),
        "{}",
        hoosh.log()
    );
}

#[tokio::test]
async fn a_remote_provider_that_comes_back_is_found_out_without_a_call_and_asked_before_its_rest_is_over() {
    let (remote, other) = (Upstream::start().await, Upstream::start().await);
    // Both are of a type that is not on this machine.
    let hoosh = before(&[&remote, &other], "", "retries = 0\nrest_secs = 60\nprobe_secs = 0.2").await;
    other.always(Script::json(completion("hi")));
    remote.always(Script::status(503, "{}"));
    remote.listing(Script::status(503, "{}"));
    let asked = async || header(&ask(&hoosh).await, "x-hoosh-provider").to_owned();
    for _ in 0..5 {
        assert_eq!(asked().await, "p1");
    }
    let probes = || remote.requests("/models").len();
    let first = probes();
    tokio::time::sleep(Duration::from_millis(900)).await;
    assert!((first + 2..=first + 6).contains(&probes()), "{} after {first}", probes());
    assert_eq!((asked().await.as_str(), remote.requests(CHAT).len()), ("p1", 5), "it is not well, and rests");
    assert_eq!(other.requests("/models").len(), 0, "who is well is not probed");

    remote.always(Script::json(completion("hi")));
    remote.listing(testkit::listing(&["m"]));
    tokio::time::sleep(Duration::from_millis(500)).await;
    let endpoints = json(hoosh.get("/v1/health/endpoints").await).await["endpoints"].clone();
    let shown = endpoints.as_array().unwrap().iter().find(|one| one["provider"] == "p0").unwrap().clone();
    assert_eq!(
        (&shown["state"], &shown["rest_ms"]),
        (&"resting".into(), &0.into()),
        "only a call proves it: {shown}"
    );
    let found_out = probes();
    assert_eq!(asked().await, "p0");
    assert_eq!(remote.requests(CHAT).len(), 6);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(probes(), found_out, "nothing is asked of who is well");
    assert_eq!(asked().await, "p0");
}

#[tokio::test]
async fn models_have_the_strategy_of_the_most_specific_pattern_and_an_alias_that_of_its_first() {
    let (one, two) = (Upstream::start().await, Upstream::start().await);
    let upstreams = [&one, &two];
    upstreams.iter().for_each(|upstream| upstream.always(Script::json(completion("hi"))));
    let strategies = "[strategies]\n\"turn*\" = \"round_robin\"\n\"turn-alone\" = \"direct\"\n\
                      [aliases]\nfast = \"turn-a\"\n";
    let hoosh = before(&upstreams, "", &format!("retries = 0\n{strategies}")).await;
    let asked = async |model: &str| {
        let response = hoosh.post(CHAT, chat_body(model, false)).await;
        (response.status().as_u16(), header(&response, "x-hoosh-provider").to_owned())
    };
    for (model, providers) in
        [("m", ["p0", "p0"]), ("turn-a", ["p0", "p1"]), ("fast", ["p0", "p1"]), ("turn-alone", ["p0", "p0"])]
    {
        for provider in providers {
            assert_eq!(asked(model).await, (200, provider.to_owned()), "{model}");
        }
    }
    // Where it is `direct` nobody takes over; the others do as before.
    one.always(Script::status(500, "{}"));
    assert_eq!(asked("turn-alone").await.0, 502);
    assert_eq!(asked("m").await, (200, "p1".to_owned()));

    let response = hoosh.post(CHAT, chat_body("fast", false)).await;
    let path = format!("/v1/decisions/{}", header(&response, "x-hoosh-decision"));
    assert_eq!(json(hoosh.get(&path).await).await["strategy"], "round_robin");
}

#[tokio::test]
async fn a_provider_gives_its_models_a_strategy_and_two_cannot_give_one_pattern_two() {
    let (one, two) = (Upstream::start().await, Upstream::start().await);
    let upstreams = [&one, &two];
    upstreams.iter().for_each(|upstream| upstream.always(Script::json(completion("hi"))));
    let routes = |first: &str, second: &str, rest: &str| {
        let at = |name: &str, upstream: &Upstream, models: &str, keys: &str| {
            at(name, &upstream.url(), &format!("priority = 1\n{keys}")).replace("[\"*\"]", models)
        };
        at("a", &one, "[\"turn*\", \"m\"]", first)
            + &at("b", &two, "[\"turn*\", \"m\", \"turn-alone\"]", second)
            + rest
    };
    let config = routes(
        "strategy = \"round_robin\"",
        "",
        "[strategies]\n\"turn-alone\" = \"direct\"\nm = \"round_robin\"\n",
    );
    let hoosh = Hoosh::start(&config).await;
    let asked = async |model: &str| {
        let response = hoosh.post(CHAT, chat_body(model, false)).await;
        (response.status().as_u16(), header(&response, "x-hoosh-provider").to_owned())
    };
    for (model, providers) in [("turn-x", ["a", "b"]), ("m", ["a", "b"]), ("turn-alone", ["b", "b"])] {
        for provider in providers {
            assert_eq!(asked(model).await, (200, provider.to_owned()), "{model}");
        }
    }
    two.always(Script::status(500, "{}"));
    assert_eq!(asked("turn-alone").await.0, 502, "its own entry counts before the wider pattern of a route");
    assert_eq!((asked("turn-x").await.0, asked("turn-x").await.0), (200, 200));

    let told = |config: &str| {
        hoosh.configure(config);
        let output = hoosh.command(&["config", "check"]);
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let two = routes("strategy = \"round_robin\"", "strategy = \"cheapest\"", "");
    let (code, text) = told(&two);
    assert_eq!(code, Some(64), "{text}");
    let line = |nth: usize| {
        let lines = two.lines().enumerate().filter(|(_, line)| line.starts_with("strategy"));
        // Behind `[server]`, bind and port.
        lines.map(|(at, _)| at + 4).nth(nth).unwrap()
    };
    let fault = format!(
        "other.toml:{}: providers.b.strategy: the route to `b` orders `turn*` by `cheapest`, the one to `a` by `round_robin`",
        line(1)
    );
    assert!(
        text.contains(&fault) && text.contains(&format!("(the other: other.toml:{})", line(0))),
        "{text}"
    );
    let (code, text) = told(&routes("strategy = \"cheapest\"", "", "[strategies]\nm = \"direct\"\n"));
    assert!(
        code == Some(64)
            && text.contains("its own entry by `direct`; a model is ordered by one (the other: other.toml:"),
        "{text}"
    );
}

#[tokio::test]
async fn what_the_caller_did_wrong_makes_nobody_sick() {
    let upstream = Upstream::start().await;
    let hoosh = before(&[&upstream], "", "failures = 2").await;
    upstream.always(Script::status(400, r#"{"error":{"message":"bad"}}"#));
    for _ in 0..5 {
        assert_eq!(ask(&hoosh).await.status(), 400);
    }
    assert_eq!(upstream.requests(CHAT).len(), 5);
}

#[tokio::test]
async fn streams_that_break_count_too() {
    let (sick, well) = (Upstream::start().await, Upstream::start().await);
    let hoosh = before(&[&sick, &well], "", "failures = 2").await;
    sick.always(Script::broken_stream([chunk(r#"{"content":"Par"}"#)], End::Cut));
    well.always(Script::stream([chunk(r#"{"content":"Paris"}"#), finish("stop"), sse("[DONE]")]));
    let stream = async || hoosh.post(CHAT, chat_body("m", true)).await.text().await.unwrap();
    for _ in 0..2 {
        assert!(stream().await.contains("upstream_broken"));
    }
    assert!(stream().await.contains("Paris"));
    assert_eq!(sick.requests(CHAT).len(), 2);
}

#[tokio::test]
async fn when_all_are_let_alone_the_configuration_says_what_is_done() {
    let (one, other) = (Upstream::start().await, Upstream::start().await);
    for (word, expect) in [("queue", 200), ("least_bad", 200), ("reject", 429)] {
        let hoosh = before(&[&one, &other], "", &format!("retries = 0\non_exhausted = \"{word}\"")).await;
        one.always(limited(1));
        other.always(limited(2));
        assert_eq!(ask(&hoosh).await.status(), 429);
        one.always(Script::json(completion("hi")));
        let start = Instant::now();
        assert_eq!(ask(&hoosh).await.status(), expect, "{word}");
        let waited = start.elapsed();
        assert_eq!(waited >= Duration::from_millis(900), word == "queue", "{word}: {waited:?}");
    }
}

#[tokio::test]
async fn calls_wait_in_line_and_are_told_how_long() {
    let upstream = Upstream::start().await;
    let hoosh = before(&[&upstream], "max_concurrent = 1\nmax_waiting = 2", "retries = 0").await;
    upstream.always(Script::Stream(vec![(Duration::from_millis(300), completion("hi"))], End::Proper));
    let responses = join_all((0..4).map(|_| ask(&hoosh))).await;
    let mut statuses: Vec<u16> = responses.iter().map(|one| one.status().as_u16()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 200, 429], "one answers, two wait, one is too many");
    let mut waits: Vec<u64> =
        responses.iter().filter_map(|one| header(one, "x-hoosh-queue-ms").parse().ok()).collect();
    waits.sort_unstable();
    assert!(waits.len() == 2 && waits[0] >= 200 && waits[1] >= 500, "{waits:?}");

    // A stream keeps its place to its end, and who leaves frees it.
    upstream.always(Script::broken_stream([chunk(r#"{"content":"Par"}"#)], End::Silence));
    let stream = hoosh.post(CHAT, chat_body("m", true)).await;
    let waiting = client().post(hoosh.url(CHAT)).header("x-hoosh-priority", "batch");
    let waiting = waiting.header("content-type", "application/json").body(chat_body("m", false));
    let status = async || json(hoosh.get("/v1/queue/status").await).await["queues"][0].clone();
    let leave = async {
        while status().await["waiting"]["batch"] != 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(status().await["running"], 1);
        upstream.always(Script::json(completion("hi")));
        drop(stream);
    };
    let (waited, ()) = tokio::join!(waiting.send(), leave);
    assert_eq!(waited.unwrap().status(), 200);
    assert_eq!(status().await["running"], 0);
    let bad = client().post(hoosh.url(CHAT)).header("x-hoosh-priority", "urgent").body(chat_body("m", false));
    assert_eq!(bad.send().await.unwrap().status(), 400);
}

#[tokio::test]
async fn each_model_has_a_limit_of_its_own_in_the_one_line_of_the_provider() {
    let upstream = Upstream::start().await;
    let limits = "max_concurrent = 2\nmax_concurrent_per_model = 1\nmax_waiting = 2";
    let hoosh = before(&[&upstream], limits, "retries = 0").await;
    let stream = async |model: &str| hoosh.post(CHAT, chat_body(model, true)).await;
    upstream.always(Script::broken_stream([chunk(r#"{"content":"Par"}"#)], End::Silence));
    let (first, _second) = (stream("a").await, stream("b").await);
    let status = async || json(hoosh.get("/v1/queue/status").await).await["queues"].clone();
    let lines = status().await;
    let line = |at: usize| {
        [&lines[at]["model"], &lines[at]["running"], &lines[at]["max_concurrent"]].map(Clone::clone)
    };
    let all: [_; 3] = std::array::from_fn(line);
    let expect = serde_json::json!([[null, 2, 2], ["a", 1, 1], ["b", 1, 1]]);
    assert_eq!(serde_json::json!(all), expect);

    // `a` has a place only once its first call is over, and `c` too: the provider has no more.
    let (again, other) = (stream("a"), stream("c"));
    let free = async {
        let waiting = async || {
            let all = status().await;
            all.as_array()
                .unwrap()
                .iter()
                .map(|one| one["waiting"]["normal"].as_u64().unwrap())
                .collect::<Vec<_>>()
        };
        while waiting().await[0] != 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // Whoever waits is in the line of the provider, and told of with its model too.
        assert_eq!(waiting().await, [2, 1, 0, 1], "one for `a`, none for `b`, one for `c`");
        assert_eq!(stream("a").await.status(), 429, "the line is full");
        upstream.always(Script::stream([chunk(r#"{"content":"Paris"}"#), finish("stop"), sse("[DONE]")]));
        drop(first);
    };
    let (again, other, ()) = tokio::join!(again, other, free);
    for waited in [again, other] {
        assert!(waited.headers().contains_key("x-hoosh-queue-ms"));
        assert!(waited.text().await.unwrap().contains("Paris"));
    }
}

#[tokio::test]
async fn tiers_hold_across_the_models_of_a_provider() {
    let upstream = Upstream::start().await;
    let limits = "max_concurrent = 1\nmax_concurrent_per_model = 1\nmax_waiting = 50";
    let hoosh = before(&[&upstream], limits, "retries = 0").await;
    upstream.always(Script::Stream(vec![(Duration::from_millis(30), completion("hi"))], End::Proper));
    let ask = async |model: &str, tier: &str| {
        let request = client().post(hoosh.url(CHAT)).header("content-type", "application/json");
        let body = chat_body(model, false);
        let answer = request.header("x-hoosh-priority", tier).body(body).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        Instant::now()
    };
    let later = async |millis, model, tier| {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        ask(model, tier).await
    };
    // A batch call of `m` was there before the high one, and has to wait for the crowd that came before both.
    let crowd = join_all((0..12).map(|_| ask("b", "high")));
    let (crowd, batch, high) = tokio::join!(crowd, later(40, "m", "batch"), later(60, "m", "high"));
    let last = crowd.into_iter().max().unwrap();
    assert!(batch > last && batch > high, "the batch call comes last");
}

#[tokio::test]
async fn a_call_that_must_stay_here_goes_nowhere_else() {
    let upstream = Upstream::start().await;
    upstream.always(Script::json(completion("hi")));
    let config = format!(
        "[[providers]]\ntype = \"openai\"\nbase_url = \"{}\"\napi_key = \"k\"\nmodels = [\"*\"]\n",
        upstream.url()
    );
    let hoosh = Hoosh::start(&config).await;
    let ask = async |name: &'static str, value: &'static str| {
        let request = client().post(hoosh.url(CHAT)).header("content-type", "application/json");
        let body = chat_body("gpt-4o", false).replace("\"stream\"", "\"max_tokens\":1000,\"stream\"");
        json(request.header(name, value).body(body).send().await.unwrap()).await
    };
    let refused = ask("x-hoosh-privacy", "local").await;
    assert!(refused["error"]["message"].as_str().unwrap().contains("the call must stay here"), "{refused}");
    // What is to be embedded is counted for it too.
    let words = format!(r#"{{"model":"text-embedding-3-large","input":["{}","x"]}}"#, "word ".repeat(9_000));
    let request = client().post(hoosh.url("/v1/embeddings")).header("content-type", "application/json");
    let refused = json(request.header("x-hoosh-max-cost", "0.001").body(words).send().await.unwrap()).await;
    assert!(refused["error"]["message"].as_str().unwrap().contains("it may cost $0.001"), "{refused}");
    let refused = ask("x-hoosh-max-cost", "0.0001").await;
    assert!(refused["error"]["message"].as_str().unwrap().contains("it may cost $0.0001"), "{refused}");
    assert!(upstream.requests(CHAT).is_empty());
    assert_eq!(ask("x-hoosh-max-cost", "1").await["choices"][0]["message"]["content"], "hi");
}

#[tokio::test]
async fn what_is_here_goes_by_the_address_and_by_what_is_said() {
    let upstream = Upstream::start().await;
    upstream.always(Script::json(completion("hi")));
    let here = upstream.url();
    for (kind, url, local, expect) in [
        ("vllm", here.as_str(), "", 200),
        ("vllm", &here, "local = false", 400),
        ("openai_compatible", &here, "", 400),
        ("openai_compatible", &here, "local = true", 200),
        ("vllm", "http://gpu.example.com", "", 400),
    ] {
        let provider = at("up", url, local).replace("openai_compatible", kind);
        let hoosh = Hoosh::start(&provider).await;
        let request = client().post(hoosh.url(CHAT)).header("x-hoosh-privacy", "local");
        let request = request.header("content-type", "application/json").body(chat_body("m", false));
        assert_eq!(request.send().await.unwrap().status(), expect, "{kind} {url} {local}");
    }
}

#[tokio::test]
async fn a_conversation_stays_where_its_prompt_is() {
    let upstreams = [Upstream::start().await, Upstream::start().await, Upstream::start().await];
    upstreams.iter().for_each(|upstream| upstream.always(Script::json(completion("hi"))));
    let all: Vec<&Upstream> = upstreams.iter().collect();
    let providers: String = all
        .iter()
        .enumerate()
        .map(|(index, upstream)| at(&format!("p{index}"), &upstream.url(), "priority = 1"))
        .collect();
    let hoosh = Hoosh::start(&format!("strategy = \"round_robin\"\n{providers}")).await;
    let home = async |session: &str| {
        let request = client().post(hoosh.url(CHAT)).header("x-hoosh-session", session.to_owned());
        let response = request.body(chat_body("m", false)).send().await.unwrap();
        header(&response, "x-hoosh-provider").to_owned()
    };
    let mut homes = std::collections::HashSet::new();
    for session in 0..12 {
        let name = format!("session-{session}");
        let first = home(&name).await;
        for _ in 0..3 {
            assert_eq!(home(&name).await, first);
        }
        homes.insert(first);
    }
    assert!(homes.len() > 1, "not all of them at one");
}

#[tokio::test]
async fn a_group_is_one_name_for_several_models_and_tries_one_out() {
    let upstream = Upstream::start().await;
    upstream.always(Script::json(completion("hi")));
    upstream.listing(testkit::listing(&["a", "b", "new"]));
    let group = "[[groups]]\nname = \"fast\"\nmodels = [\"a\", \"b\"]\nweights = [1, 0]\ncanary = \"new\"\ncanary_percent = 50\n";
    let hoosh = Hoosh::start(&format!("{group}{}", at("up", &upstream.url(), ""))).await;
    let mut models = std::collections::BTreeMap::<String, usize>::new();
    for _ in 0..60 {
        let response = hoosh.post(CHAT, chat_body("fast", false)).await;
        *models.entry(header(&response, "x-hoosh-model").to_owned()).or_default() += 1;
    }
    assert_eq!(models.keys().collect::<Vec<_>>(), ["a", "new"], "one of no weight only follows");
    assert!((15..=45).contains(&models["new"]), "{models:?}");
    let listed = json(hoosh.get("/v1/models").await).await;
    assert_eq!(listed["data"][0]["id"], "fast", "{listed}");
}

#[tokio::test]
async fn another_model_is_asked_where_only_that_can_help() {
    let (small, other) = (Upstream::start().await, Upstream::start().await);
    let providers = at("small", &small.url(), "models = [\"m\"]")
        + &at("other", &other.url(), "models = [\"long\", \"mild\"]");
    let providers = providers.replace("models = [\"*\"]\n", "");
    let config =
        format!("{providers}[routing]\ncontext_fallback = [\"long\"]\npolicy_fallback = [\"mild\"]\n");
    let hoosh = Hoosh::start(&config).await;
    other.always(Script::json(completion("hi")));
    for (code, model) in [("context_length_exceeded", "long"), ("content_policy_violation", "mild")] {
        small.always(Script::status(400, format!(r#"{{"error":{{"message":"no","code":"{code}"}}}}"#)));
        let response = ask(&hoosh).await;
        assert_eq!((response.status().as_u16(), header(&response, "x-hoosh-model")), (200, model), "{code}");
        assert_eq!(header(&response, "x-hoosh-attempts"), "2");
        let shown = hoosh.get(&format!("/v1/decisions/{}", header(&response, "x-hoosh-decision"))).await;
        let shown = json(shown).await;
        assert_eq!(shown["candidates"][0]["provider"], "small", "{shown}");
        assert_eq!(shown["fallback"]["candidates"][0]["model"], model, "{shown}");
        assert_eq!((&shown["attempts"][1]["model"], &shown["outcome"]), (&model.into(), &"answered".into()));
    }
    // It may also be one of several, and the last of them fail in another way.
    let broken = Upstream::start().await;
    let config = config
        .replace("[routing]", &(at("broken", &broken.url(), "priority = 200") + "[routing]\nretries = 0"));
    let both = Hoosh::start(&config).await;
    small.always(Script::status(400, r#"{"error":{"message":"no","code":"context_length_exceeded"}}"#));
    let response = ask(&both).await;
    assert_eq!((response.status().as_u16(), header(&response, "x-hoosh-model")), (200, "long"));
    assert_eq!(header(&response, "x-hoosh-attempts"), "3");
    // Where that fails too, all of it is told.
    other.always(Script::status(400, r#"{"error":{"message":"longer","code":"context_length_exceeded"}}"#));
    small.always(Script::status(400, r#"{"error":{"message":"no","code":"context_length_exceeded"}}"#));
    let response = ask(&hoosh).await;
    assert_eq!((response.status().as_u16(), header(&response, "x-hoosh-attempts")), (400, "2"));
}

#[tokio::test]
async fn a_provider_that_flaps_costs_no_call() {
    let (flapping, well) = (Upstream::start().await, Upstream::start().await);
    let hoosh = before(&[&flapping, &well], "", "rest_secs = 0.1\nfailures = 2\nheartbeat_secs = 0.1").await;
    well.always(Script::json(completion("hi")));
    for round in 0..12 {
        match round % 3 {
            0 => flapping.always(Script::json(completion("hi"))),
            1 => flapping.always(Script::status(503, "{}")),
            _ => flapping.always(Script::broken_stream([""], End::Cut)),
        }
        let statuses = join_all((0..5).map(|_| ask(&hoosh))).await;
        assert!(statuses.iter().all(|one| one.status() == 200), "round {round}: {}", hoosh.log());
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
}

#[tokio::test]
async fn a_stream_that_breaks_within_its_window_is_taken_over_in_silence() {
    let (sick, well) = (Upstream::start().await, Upstream::start().await);
    let hoosh = before(&[&sick, &well], "stream_window_secs = 0.4", "").await;
    sick.always(Script::broken_stream([chunk(r#"{"content":"Ber"}"#)], End::Cut));
    well.always(Script::stream([chunk(r#"{"content":"Paris"}"#), finish("stop"), sse("[DONE]")]));
    for path in [CHAT, "/v1/messages"] {
        let body = chat_body("m", true).replacen('{', "{\"max_tokens\":9,", 1);
        let response = hoosh.post(path, body).await;
        assert_eq!(header(&response, "x-hoosh-attempts"), "2", "{path}");
        let text = response.text().await.unwrap();
        assert!(text.contains("Paris") && !text.contains("Ber"), "{text}");
    }
    // A good short answer is not held back longer than it takes, and a long one begins after the window.
    sick.always(Script::stream([chunk(r#"{"content":"Rome"}"#), finish("stop"), sse("[DONE]")]));
    let start = Instant::now();
    let text = hoosh.post(CHAT, chat_body("m", true)).await.text().await.unwrap();
    assert!(text.contains("Rome") && text.ends_with("data: [DONE]\n\n"), "{text}");
    assert!(start.elapsed() < Duration::from_millis(300), "{:?}", start.elapsed());
    let slow = vec![
        (Duration::ZERO, chunk(r#"{"content":"Ro"}"#).into_bytes()),
        (Duration::from_millis(700), (finish("stop") + &sse("[DONE]")).into_bytes()),
    ];
    sick.always(Script::Stream(slow, End::Proper));
    let start = Instant::now();
    let response = hoosh.post(CHAT, chat_body("m", true)).await;
    let begun = start.elapsed();
    assert!((350..600).contains(&(begun.as_millis() as u64)), "{begun:?}");
    assert!(response.text().await.unwrap().ends_with("data: [DONE]\n\n"));
}

#[tokio::test]
async fn a_stream_that_breaks_within_its_first_events_is_taken_over_in_silence() {
    let (sick, well) = (Upstream::start().await, Upstream::start().await);
    let hoosh = before(&[&sick, &well], "stream_window_events = 3", "").await;
    let word = |word: &str| chunk(&format!(r#"{{"content":"{word}"}}"#));
    let spaced = |pieces: &[String], end| {
        let pause = Duration::from_millis(100);
        Script::Stream(pieces.iter().map(|piece| (pause, piece.clone().into_bytes())).collect(), end)
    };
    well.always(Script::stream([word("Paris"), finish("stop"), sse("[DONE]")]));
    for path in [CHAT, "/v1/messages"] {
        let body = chat_body("m", true).replacen('{', "{\"max_tokens\":9,", 1);
        // Two have come: nobody has seen them.
        sick.always(spaced(&[word("Be"), word("r")], End::Cut));
        let response = hoosh.post(path, body.clone()).await;
        assert_eq!(header(&response, "x-hoosh-attempts"), "2", "{path}");
        let text = response.text().await.unwrap();
        assert!(text.contains("Paris") && !text.contains("Be"), "{text}");
        // With the third they are given out, and a failure is one for the client.
        sick.always(spaced(&[word("Ber"), word("l"), word("in"), word("!")], End::Cut));
        let response = hoosh.post(path, body.clone()).await;
        assert_eq!(header(&response, "x-hoosh-attempts"), "1", "{path}");
        let text = response.text().await.unwrap();
        assert!(text.contains("Ber") && text.contains("error") && !text.contains("Paris"), "{text}");
        // One that has fewer is whole.
        sick.always(Script::stream([word("Rome"), finish("stop"), sse("[DONE]")]));
        let text = hoosh.post(path, body).await.text().await.unwrap();
        assert!(text.contains("Rome"), "{text}");
    }
    // The sooner of both counts.
    let keys = "stream_window_events = 100\nstream_window_secs = 0.15";
    let hoosh = before(&[&sick, &well], keys, "").await;
    sick.always(spaced(&[word("B"), word("er"), word("l"), word("in"), word("!")], End::Cut));
    let response = hoosh.post(CHAT, chat_body("m", true)).await;
    assert_eq!(header(&response, "x-hoosh-attempts"), "1");
    assert!(response.text().await.unwrap().contains("error"));
}

#[tokio::test]
async fn one_that_is_slower_than_usual_is_not_waited_for_alone() {
    let (slow, well) = (Upstream::start().await, Upstream::start().await);
    let provider = |name: &str, upstream: &Upstream, priority: u32| {
        format!(
            "[[providers]]\ntype = \"openai\"\nname = \"{name}\"\nbase_url = \"{}\"\napi_key = \"k\"\n\
             models = [\"gpt-4o-mini\"]\npriority = {priority}\nhedge = true\n",
            upstream.url()
        )
    };
    let config =
        provider("slow", &slow, 1) + &provider("well", &well, 2) + "[routing]\nhedge_percent = 100\n";
    let hoosh = Hoosh::start(&config).await;
    for stream in [false, true] {
        let answer = || match stream {
            true => Script::stream([chunk(r#"{"content":"hi"}"#), finish("stop"), sse("[DONE]")]),
            false => Script::json(completion("hi")),
        };
        let whole = [chunk(r#"{"content":"hi"}"#), finish("stop"), sse("[DONE]")].concat();
        let ask = || hoosh.post(CHAT, chat_body("gpt-4o-mini", stream));
        slow.always(answer());
        well.always(answer());
        let mut cost = String::new();
        for _ in 0..20 {
            // To its end, when it is known how long it took.
            let response = ask().await;
            assert_eq!(
                header(&response, "x-hoosh-provider"),
                "slow",
                "nothing is known yet of how long it takes"
            );
            cost = header(&response, "x-hoosh-cost").to_owned();
            response.text().await.unwrap();
        }
        slow.always(Script::Silence);
        let response = ask().await;
        let seen = ["x-hoosh-provider", "x-hoosh-attempts"].map(|name| header(&response, name).to_owned());
        assert_eq!(seen, ["well", "2"], "stream: {stream}");
        let (id, both) =
            (header(&response, "x-hoosh-decision").to_owned(), header(&response, "x-hoosh-cost"));
        if !stream {
            // The prompt was read twice.
            let [one, both] = [&cost, both].map(|text| text.parse::<f64>().unwrap());
            assert!(both > one, "{both} {one}");
        }
        assert!(response.text().await.unwrap().contains("hi"));
        let decision = json(hoosh.get(&format!("/v1/decisions/{id}")).await).await;
        let results =
            [0, 1].map(|at| decision["attempts"][at]["result"].as_str().unwrap_or_default().to_owned());
        assert_eq!(results, ["let_go", "answers"], "{decision}");
        // What the one beside it finds wrong with the call is not told while the first may think otherwise.
        slow.always(match stream {
            true => Script::Stream(vec![(Duration::from_millis(300), whole.into_bytes())], End::Proper),
            false => Script::By(|_| {
                std::thread::sleep(Duration::from_millis(300));
                Script::json(completion("hi"))
            }),
        });
        well.always(Script::status(400, r#"{"error":{"message":"no such parameter"}}"#));
        let response = ask().await;
        let seen = ["x-hoosh-provider", "x-hoosh-attempts"].map(|name| header(&response, name).to_owned());
        assert_eq!((response.status().as_u16(), seen), (200, ["slow", "2"].map(str::to_owned)));
        response.text().await.unwrap();
    }
    let metrics = hoosh.get("/metrics").await.text().await.unwrap();
    assert!(metrics.contains("hoosh_legs_total{provider=\"slow\",kind=\"slow\"} 2"), "{metrics}");
}

/// How often each of two upstreams is asked for so many calls, one after the other.
async fn shares(strategy: &str, keys: [&str; 2], waits: [u64; 2], calls: usize) -> [usize; 2] {
    let upstreams = [Upstream::start().await, Upstream::start().await];
    for (upstream, wait) in upstreams.iter().zip(waits) {
        let whole = [chunk(r#"{"content":"Paris"}"#), finish("stop"), sse("[DONE]")].concat();
        upstream.always(Script::Stream(vec![(Duration::from_millis(wait), whole.into_bytes())], End::Proper));
    }
    let provider = |index: usize| at(&format!("p{index}"), &upstreams[index].url(), keys[index]);
    let hoosh = Hoosh::start(&format!("strategy = \"{strategy}\"\n{}{}", provider(0), provider(1))).await;
    for _ in 0..calls {
        let text = hoosh.post(CHAT, chat_body("m", true)).await.text().await.unwrap();
        assert!(text.ends_with("[DONE]\n\n"), "{text}");
    }
    upstreams.each_ref().map(|upstream| upstream.requests(CHAT).len())
}

#[tokio::test]
async fn who_answers_goes_by_the_strategy() {
    for strategy in ["lowest_latency", "lowest_ttft"] {
        let [slow, quick] = shares(strategy, [""; 2], [120, 0], 20).await;
        assert!(slow >= 1 && quick >= 15, "{strategy}: {slow} and {quick}");
    }
    assert_eq!(shares("local_first", ["", "local = true"], [0; 2], 4).await, [0, 4]);
    let price = |name: &str, usd: u32| {
        format!("[[prices]]\nprovider = \"{name}\"\nmodel = \"m\"\ninput = {usd}\noutput = {usd}\n")
    };
    let (dear, cheap) = (price("p0", 9), price("p1", 1));
    assert_eq!(shares("cheapest", [&dear, &cheap], [0; 2], 4).await, [0, 4]);
    assert_eq!(shares("round_robin", [""; 2], [0; 2], 8).await, [4, 4]);

    // The one that is busy is not asked.
    let (busy, idle) = (Upstream::start().await, Upstream::start().await);
    let providers = at("p0", &busy.url(), "") + &at("p1", &idle.url(), "");
    let hoosh = Hoosh::start(&format!("strategy = \"least_busy\"\n{providers}")).await;
    busy.always(Script::broken_stream([chunk(r#"{"content":"Par"}"#)], End::Silence));
    idle.always(Script::stream([chunk(r#"{"content":"Paris"}"#), finish("stop"), sse("[DONE]")]));
    let stream = async || hoosh.post(CHAT, chat_body("m", true)).await;
    let held = loop {
        let response = stream().await;
        match header(&response, "x-hoosh-provider") {
            "p0" => break response,
            _ => drop(response.text().await.unwrap()),
        }
    };
    for _ in 0..8 {
        let response = stream().await;
        assert_eq!(header(&response, "x-hoosh-provider"), "p1", "{}", hoosh.log());
        assert!(response.text().await.unwrap().contains("Paris"));
    }
    drop(held);
}
