//! Promise: a prompt that is longer than the model reads is refused with the numbers, or made shorter as its route or caller
//! wants it, and what was removed is told.

use serde_json::{Value, json};
use testkit::{Hoosh, Script, Upstream, chunk, client, completion, finish};

use crate::dialects::{MESSAGE, anthropic_stream, vendor_with};
use crate::{at, header, json};

/// A gateway before a provider whose model reads 400 tokens.
async fn narrow(keys: &str) -> (Hoosh, Upstream) {
    let upstream = Upstream::start().await;
    upstream.always(Script::json(completion("hi")));
    let keys = format!("context_window_tokens = 400\n{keys}");
    (Hoosh::start(&at("up", &upstream.url(), &keys)).await, upstream)
}

fn long(text: &str) -> String {
    format!("{text}: {}", "word ".repeat(40))
}

/// Instructions, turns of some 110 tokens each, one of them with two calls of tools, and a last question.
fn chat(turns: usize) -> Value {
    let mut messages = vec![json!({"role": "system", "content": "rules"})];
    for turn in 0..turns {
        messages.push(
            json!({"role": "user", "content": [{"type": "text", "text": long(&format!("question {turn}"))}]}),
        );
        if turn == 1 {
            let call = |id: &str| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}});
            messages
                .push(json!({"role": "assistant", "content": null, "tool_calls": [call("a"), call("b")]}));
            messages.push(json!({"role": "tool", "tool_call_id": "a", "content": long("result a")}));
            messages.push(json!({"role": "tool", "tool_call_id": "b", "content": "result b"}));
        }
        messages.push(json!({"role": "assistant", "content": long(&format!("answer {turn}"))}));
    }
    messages.push(json!({"role": "user", "content": "the last question"}));
    json!({"model": "m", "max_tokens": 50, "messages": messages, "odd": 1.50})
}

async fn ask(hoosh: &Hoosh, path: &str, body: &Value, context: Option<&str>) -> reqwest::Response {
    let request =
        client().post(hoosh.url(path)).header("content-type", "application/json").body(body.to_string());
    let request = match context {
        Some(context) => request.header("x-hoosh-context", context),
        None => request,
    };
    request.send().await.unwrap()
}

/// What the upstream was sent last.
fn sent(upstream: &Upstream, path: &str) -> Value {
    serde_json::from_slice(&upstream.requests(path).last().expect("it was asked").body).unwrap()
}

/// The texts of a chat body's messages, shortened to their names.
fn names(body: &Value) -> Vec<String> {
    let name = |message: &Value| {
        let text = message["content"].as_str().or_else(|| message["content"][0]["text"].as_str());
        text.map_or("calls".to_owned(), |text| text.split(':').next().unwrap_or_default().to_owned())
    };
    body["messages"].as_array().unwrap().iter().map(name).collect()
}

fn receipt(response: &reqwest::Response) -> &str {
    header(response, "x-hoosh-context")
}

#[tokio::test]
async fn without_a_word_nothing_is_touched() {
    let (hoosh, upstream) = crate::one().await;
    upstream.always(Script::json(completion("hi")));
    let body = chat(20);
    let response = ask(&hoosh, "/v1/chat/completions", &body, None).await;
    assert_eq!((response.status().as_u16(), receipt(&response)), (200, ""));
    let as_it_came = String::from_utf8(upstream.requests("/completions")[0].body.clone()).unwrap();
    assert_eq!(as_it_came, body.to_string());
    // Nor is it with a policy, as long as it fits.
    let (hoosh, upstream) = narrow("context = \"drop_oldest\"").await;
    let body = chat(1);
    let response = ask(&hoosh, "/v1/chat/completions", &body, None).await;
    assert_eq!((response.status().as_u16(), receipt(&response)), (200, ""));
    let as_it_came = String::from_utf8(upstream.requests("/completions")[0].body.clone()).unwrap();
    assert_eq!(as_it_came, body.to_string());
}

#[tokio::test]
async fn a_prompt_that_is_too_long_is_refused_in_the_callers_dialect() {
    let (hoosh, upstream) = narrow("").await;
    let response = ask(&hoosh, "/v1/chat/completions", &chat(8), None).await;
    assert_eq!(response.status(), 400);
    let error = json(response).await["error"].clone();
    assert_eq!(
        (&error["code"], &error["type"]),
        (&json!("context_length_exceeded"), &json!("invalid_request_error"))
    );
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("tokens, and `m` reads at most 400 (`up`: "), "{message}");
    let messages = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "word ".repeat(800)}]});
    let response = ask(&hoosh, "/v1/messages", &messages, None).await;
    assert_eq!(response.status(), 400);
    let error = json(response).await;
    assert_eq!((&error["type"], &error["error"]["type"]), (&json!("error"), &json!("invalid_request_error")));
    assert!(error["error"]["message"].as_str().unwrap().contains("reads at most 400"), "{error}");
    // A single message cannot be made shorter: nobody is asked either.
    for policy in ["drop_oldest", "keep_last=3", "middle_out"] {
        let response = ask(&hoosh, "/v1/messages", &messages, Some(policy)).await;
        assert_eq!(response.status(), 400, "{policy}");
        let error = json(response).await;
        let message = error["error"]["message"].as_str().unwrap();
        assert!(message.contains("the last turn alone have about 1007 tokens"), "{policy}: {message}");
    }
    assert!(upstream.requests("/completions").is_empty(), "nobody was asked");
    assert_eq!(ask(&hoosh, "/v1/messages", &messages, Some("forget")).await.status(), 400);
}

#[tokio::test]
async fn the_oldest_turns_go_and_what_was_removed_is_told() {
    let (hoosh, upstream) = narrow("context = \"drop_oldest\"").await;
    let response = ask(&hoosh, "/v1/chat/completions", &chat(4), None).await;
    assert_eq!(response.status(), 200);
    let told = receipt(&response).to_owned();
    assert!(
        told.starts_with("policy=drop_oldest; removed=7; tokens=") && told.ends_with("; room=350"),
        "{told}"
    );
    let body = sent(&upstream, "/completions");
    assert_eq!(
        names(&body),
        ["rules", "question 2", "answer 2", "question 3", "answer 3", "the last question"]
    );
    // What else is in the body goes along, and the answer is in the caller's dialect.
    assert_eq!((&body["odd"], &body["max_tokens"]), (&json!(1.5), &json!(50)));
    assert_eq!(json(response).await["choices"][0]["message"]["content"], "hi");
    assert!(hoosh.log().contains("policy=drop_oldest; removed=7"), "{}", hoosh.log());

    // In a stream it stands in the head.
    upstream.always(Script::stream([
        chunk(r#"{"content":"hi"}"#),
        finish("stop"),
        "data: [DONE]\n\n".to_owned(),
    ]));
    let mut streamed = chat(4);
    streamed["stream"] = json!(true);
    let response = ask(&hoosh, "/v1/chat/completions", &streamed, None).await;
    assert_eq!(receipt(&response), told);
    let text = response.text().await.unwrap();
    assert!(text.contains(r#""content":"hi""#) && text.ends_with("data: [DONE]\n\n"), "{text}");
}

#[tokio::test]
async fn a_caller_chooses_how() {
    let (hoosh, upstream) = narrow("context = \"refuse\"").await;
    let kept = async |policy: &str| {
        let response = ask(&hoosh, "/v1/chat/completions", &chat(4), Some(policy)).await;
        assert_eq!(response.status(), 200, "{policy}: {}", response.text().await.unwrap());
        names(&sent(&upstream, "/completions"))
    };
    assert_eq!(kept("keep_last=2").await, ["rules", "question 3", "answer 3", "the last question"]);
    assert_eq!(
        kept("middle_out").await,
        ["rules", "question 0", "answer 0", "question 3", "answer 3", "the last question"]
    );
    assert_eq!(ask(&hoosh, "/v1/chat/completions", &chat(8), None).await.status(), 400);
}

#[tokio::test]
async fn an_agent_of_another_dialect_keeps_its_pairs() {
    let (hoosh, upstream) = narrow("context = \"drop_oldest\"").await;
    let mut messages = vec![json!({"role": "user", "content": "do it"})];
    for round in 0..6 {
        let call =
            |id: &str| json!({"type": "tool_use", "id": format!("{id}{round}"), "name": "f", "input": {}});
        let result = |id: &str| json!({"type": "tool_result", "tool_use_id": format!("{id}{round}"), "content": long("result")});
        messages.push(
            json!({"role": "assistant", "content": [{"type": "text", "text": "hm"}, call("a"), call("b")]}),
        );
        messages.push(json!({"role": "user", "content": [result("a"), result("b")]}));
    }
    let body = json!({"model": "m", "max_tokens": 50, "system": "rules", "messages": messages, "tools": [{"name": "f", "input_schema": {"type": "object"}}]});
    let response = ask(&hoosh, "/v1/messages", &body, None).await;
    assert_eq!(response.status(), 200);
    let told = receipt(&response).to_owned();
    assert!(told.starts_with("policy=drop_oldest; removed="), "{told}");
    let answer = json(response).await;
    assert_eq!((&answer["type"], &answer["content"][0]["text"]), (&json!("message"), &json!("hi")));
    let body = sent(&upstream, "/completions");
    let roles: Vec<&str> =
        body["messages"].as_array().unwrap().iter().map(|one| one["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["system", "user", "assistant", "tool", "tool", "assistant", "tool", "tool"], "{body}");
    assert_eq!(body["messages"][6]["tool_call_id"], "a5");
    assert_eq!(body["messages"][2]["tool_calls"][0]["id"], "a4");

    // The same to a provider of the dialect itself: it is written anew, and streamed back.
    let (hoosh, upstream) =
        vendor_with("anthropic", "context_window_tokens = 400\ncontext = \"drop_oldest\"\n").await;
    upstream.always(Script::json(MESSAGE));
    let mut own = json!({"model": "m", "max_tokens": 50, "system": "rules", "messages": messages, "odd": {"a": [1]}, "tools": [{"name": "f", "input_schema": {"type": "object"}}]});
    let response = ask(&hoosh, "/v1/messages", &own, None).await;
    assert_eq!((response.status().as_u16(), receipt(&response)), (200, told.as_str()));
    assert_eq!(json(response).await["content"][0]["text"], "hi");
    let body = sent(&upstream, "/messages");
    assert_eq!((body["messages"].as_array().unwrap().len(), &body["odd"]), (5, &json!({"a": [1]})), "{body}");
    upstream.always(Script::stream(anthropic_stream()));
    own["stream"] = json!(true);
    let text = ask(&hoosh, "/v1/messages", &own, None).await.text().await.unwrap();
    assert!(text.contains(r#""text":"hi""#) && text.contains("event: message_stop"), "{text}");
}

#[tokio::test]
async fn a_summary_takes_the_place_of_what_is_left_out() {
    let (big, small) = (Upstream::start().await, Upstream::start().await);
    big.always(Script::json(completion("hi")));
    small.always(Script::json(completion("they talked about words")));
    let provider = |name: &str, upstream: &Upstream, model: &str, keys: &str| {
        at(name, &upstream.url(), keys).replace("[\"*\"]", &format!("[\"{model}\"]"))
    };
    let keys = "context_window_tokens = 400\ncontext = \"summarise\"\nsummarise_with = \"brief\"";
    let config = provider("big", &big, "m", keys) + &provider("small", &small, "brief", "");
    let hoosh = Hoosh::start(&config).await;
    let response = ask(&hoosh, "/v1/chat/completions", &chat(4), None).await;
    assert_eq!(response.status(), 200);
    let told = receipt(&response).to_owned();
    assert!(told.starts_with("policy=summarise; removed=") && told.ends_with("; room=350"), "{told}");
    let body = sent(&big, "/completions");
    let summary = body["messages"][1].clone();
    assert_eq!(summary["role"], "user");
    let text = summary["content"].as_str().unwrap();
    // It stands in the question that follows: no two of the person's messages come in a row, which some templates refuse.
    assert!(
        text.starts_with("[Summary of earlier messages")
            && text.contains("they talked about words\n\nquestion 2: word"),
        "{text}"
    );
    assert_eq!(body["messages"][2]["role"], "assistant");
    let asked = sent(&small, "/completions");
    let source = asked["messages"][1]["content"].as_str().unwrap();
    assert!(
        source.contains("question 0") && source.contains("result a") && source.contains("calls f({})"),
        "{source}"
    );
    // It is a call of its own in the books.
    let log = hoosh.log();
    assert!(log.contains("model=\"brief\"") && log.matches("outcome=\"answered\"").count() == 2, "{log}");

    // Where there is none, turns go without one, and that is told.
    small.always(Script::status(500, "{}"));
    let response = ask(&hoosh, "/v1/chat/completions", &chat(4), None).await;
    assert_eq!(response.status(), 200);
    let told = receipt(&response);
    assert!(told.starts_with("policy=drop_oldest; instead_of=summarise; removed=7"), "{told}");
    assert!(hoosh.log().contains("no summary"), "{}", hoosh.log());
}

#[tokio::test]
async fn a_longer_model_is_asked_where_one_is_named() {
    let (small, large) = (Upstream::start().await, Upstream::start().await);
    large.always(Script::json(completion("hi")));
    let config = at("small", &small.url(), "context_window_tokens = 400").replace("[\"*\"]", "[\"m\"]")
        + &at("large", &large.url(), "").replace("[\"*\"]", "[\"long\"]")
        + "[routing]\ncontext_fallback = [\"long\"]\n";
    let hoosh = Hoosh::start(&config).await;
    let response = ask(&hoosh, "/v1/chat/completions", &chat(8), None).await;
    assert_eq!((response.status().as_u16(), header(&response, "x-hoosh-model")), (200, "long"));
    // Also where a policy is of no help.
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "word ".repeat(800)}]});
    let response = ask(&hoosh, "/v1/chat/completions", &body, Some("drop_oldest")).await;
    assert_eq!((response.status().as_u16(), header(&response, "x-hoosh-model")), (200, "long"));
    assert!(small.requests("/completions").is_empty(), "who reads less was not asked");
}

#[tokio::test]
async fn a_call_that_must_stay_where_the_only_model_is_too_short_is_told_so_or_has_a_longer_one() {
    let (small, remote, large) = (Upstream::start().await, Upstream::start().await, Upstream::start().await);
    for upstream in [&remote, &large] {
        upstream.always(Script::json(completion("hi")));
    }
    let config = at("small", &small.url(), "local = true\ncontext_window_tokens = 400")
        + &at("remote", &remote.url(), "local = false\npriority = 90");
    let post = async |hoosh: &Hoosh, path: &str, body: &Value| {
        let request = client().post(hoosh.url(path)).header("x-hoosh-privacy", "local");
        request.header("content-type", "application/json").body(body.to_string()).send().await.unwrap()
    };
    let hoosh = Hoosh::start(&config).await;
    let response = post(&hoosh, "/v1/chat/completions", &chat(8)).await;
    assert_eq!(response.status(), 400);
    let error = json(response).await["error"].clone();
    assert_eq!(error["code"], "context_length_exceeded");
    assert!(error["message"].as_str().unwrap().contains("reads at most 400"), "{error}");
    let body = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "word ".repeat(800)}]});
    let response = post(&hoosh, "/v1/messages", &body).await;
    assert_eq!(response.status(), 400);
    let error = json(response).await["error"].clone();
    assert_eq!(error["type"], "invalid_request_error");
    assert!(error["message"].as_str().unwrap().contains("reads at most 400"), "{error}");
    assert!(small.requests("/completions").is_empty() && remote.requests("/completions").is_empty());

    // The longer one must be here too.
    let large = at("large", &large.url(), "local = true").replace("[\"*\"]", "[\"long\"]");
    let names = "[routing]\ncontext_fallback = [\"remote/m\", \"long\"]\n";
    let hoosh = Hoosh::start(&(config.replace("\"*\"", "\"m\"") + &large + names)).await;
    let response = post(&hoosh, "/v1/chat/completions", &chat(8)).await;
    assert_eq!((response.status().as_u16(), header(&response, "x-hoosh-model")), (200, "long"));
    assert!(remote.requests("/completions").is_empty());
}

#[tokio::test]
async fn a_prompt_that_is_counted_for_its_cost_is_too_long_and_no_missing_model() {
    let upstream = Upstream::start().await;
    upstream.always(Script::json(completion("hi")));
    let provider = |model: &str| {
        let url = upstream.url();
        format!(
            "[[providers]]\ntype = \"openai\"\nname = \"{model}\"\nbase_url = \"{url}\"\napi_key = \"k\"\nmodels = [\"{model}\"]\n"
        )
    };
    let config = provider("gpt-3.5-turbo") + &provider("gpt-4o");
    let body =
        json!({"model": "gpt-3.5-turbo", "messages": [{"role": "user", "content": "word ".repeat(20_000)}]});
    let ask = async |hoosh: &Hoosh| {
        let request = client().post(hoosh.url("/v1/chat/completions")).header("x-hoosh-max-cost", "1");
        request.header("content-type", "application/json").body(body.to_string()).send().await.unwrap()
    };
    let hoosh = Hoosh::start(&config).await;
    let response = ask(&hoosh).await;
    assert_eq!(response.status(), 400);
    let error = json(response).await["error"].clone();
    assert_eq!(error["code"], "context_length_exceeded");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("has about 2000") && message.contains("reads at most 16385"), "{message}");
    assert!(upstream.requests("/completions").is_empty(), "nobody was asked");

    let hoosh = Hoosh::start(&(config + "[routing]\ncontext_fallback = [\"gpt-4o\"]\n")).await;
    let response = ask(&hoosh).await;
    assert_eq!((response.status().as_u16(), header(&response, "x-hoosh-model")), (200, "gpt-4o"));
}

#[tokio::test]
async fn prompts_are_compressed_where_that_is_wanted() {
    let (hoosh, upstream) =
        narrow("compress = [\"whitespace\", \"duplicates\", \"stale_tool_results\"]").await;
    let file = "the same line\n".repeat(30);
    let call = |id: &str| json!({"role": "assistant", "content": null, "tool_calls": [{"id": id, "type": "function", "function": {"name": "read", "arguments": "{}"}}]});
    let result = |id: &str, text: &str| json!({"role": "tool", "tool_call_id": id, "content": text});
    let (old, new) = ("o".repeat(200), "n".repeat(200));
    let messages = json!([
        {"role": "user", "content": file}, call("1"), result("1", &old), call("2"), result("2", &new),
        {"role": "assistant", "content": "ok"}, {"role": "user", "content": format!("{file}now   \n\n\n\ndo it")},
        {"role": "assistant", "content": "ok"}, {"role": "user", "content": file},
    ]);
    let response = ask(
        &hoosh,
        "/v1/chat/completions",
        &json!({"model": "m", "max_tokens": 9, "messages": messages}),
        None,
    )
    .await;
    assert_eq!(response.status(), 200, "{}", response.text().await.unwrap());
    let told = receipt(&response);
    assert!(told.starts_with("policy=refuse; removed=0; compressed=3; tokens="), "{told}");
    let body = sent(&upstream, "/completions");
    assert_eq!(body["messages"][0]["content"], "[the same text follows below]");
    assert_eq!(body["messages"][2]["content"], "[out of date: the same call was made again below]");
    assert_eq!(body["messages"][4]["content"], new);
    assert!(body["messages"][6]["content"].as_str().unwrap().ends_with("now\n\ndo it"), "{body}");
    assert_eq!(body["messages"][8]["content"], file);
}

#[tokio::test]
async fn a_kept_answer_is_one_of_the_same_policy() {
    let (hoosh, upstream) =
        narrow("context = \"drop_oldest\"\n[cache]\nenabled = true\nany_temperature = true").await;
    let ask = async |context| ask(&hoosh, "/v1/chat/completions", &chat(4), context).await;
    let first = ask(None).await;
    let (told, first) = (receipt(&first).to_owned(), header(&first, "x-hoosh-cache").to_owned());
    assert_eq!((told.is_empty(), first.as_str()), (false, "miss"));
    let again = ask(None).await;
    assert_eq!((receipt(&again), header(&again, "x-hoosh-cache")), (told.as_str(), "hit"));
    let other = ask(Some("keep_last=1")).await;
    assert_eq!(header(&other, "x-hoosh-cache"), "miss");
    assert_eq!(upstream.requests("/completions").len(), 2);
}

#[tokio::test]
async fn what_a_model_takes_no_pictures_for_is_the_requests_fault() {
    let upstream = Upstream::start().await;
    let config = format!(
        "[[providers]]\ntype = \"openai\"\nbase_url = \"{}\"\napi_key = \"k\"\nmodels = [\"*\"]\n",
        upstream.url()
    );
    let hoosh = Hoosh::start(&config).await;
    let body = json!({"model": "gpt-3.5-turbo", "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]}]});
    let response = ask(&hoosh, "/v1/chat/completions", &body, None).await;
    assert_eq!(response.status(), 400);
    let error = json(response).await["error"].clone();
    assert_eq!(
        (&error["code"], &error["type"]),
        (&json!("invalid_request"), &json!("invalid_request_error"))
    );
    assert!(error["message"].as_str().unwrap().contains("the model takes no images"), "{error}");
}

#[tokio::test]
async fn the_whole_conversation_is_kept_though_less_is_sent() {
    let (hoosh, upstream) = narrow("context = \"keep_last\"\nkeep_last = 1").await;
    let respond = async |input: String, previous: Option<&str>| {
        let mut body = json!({"model": "m", "max_output_tokens": 50, "input": input});
        if let Some(previous) = previous {
            body["previous_response_id"] = json!(previous);
        }
        let response = ask(&hoosh, "/v1/responses", &body, None).await;
        let told = receipt(&response).to_owned();
        (json(response).await["id"].as_str().unwrap().to_owned(), told)
    };
    let mut previous = None;
    let mut told = String::new();
    for turn in 0..6 {
        let (id, receipt) = respond(long(&format!("question {turn}")), previous.as_deref()).await;
        (previous, told) = (Some(id), receipt);
    }
    assert!(told.starts_with("policy=keep_last; removed=10; "), "{told}");
    assert_eq!(names(&sent(&upstream, "/completions")), ["question 5"]);
}

#[tokio::test]
async fn a_policy_refuses_nothing_that_would_be_let_through_without() {
    let (hoosh, upstream) = narrow("").await;
    // Some 300 tokens, about 360 as estimated; with 100 for the answer there would be room for 300.
    let body = json!({"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "words ".repeat(230)}]});
    for context in
        [None, Some("refuse"), Some("drop_oldest"), Some("keep_last"), Some("middle_out"), Some("summarise")]
    {
        let response = ask(&hoosh, "/v1/chat/completions", &body, context).await;
        assert_eq!((response.status().as_u16(), receipt(&response)), (200, ""), "{context:?}");
    }
    assert_eq!(upstream.requests("/completions").len(), 6);
    // Nor does an estimate that is too high for a script: some 1,900 tokens, of 8,240 characters.
    let russian = "Быстрая коричневая лиса перепрыгивает через ленивую собаку, пока хозяин пишет длинное письмо о погоде. ";
    let (hoosh, _upstream) = {
        let upstream = Upstream::start().await;
        upstream.always(Script::json(completion("hi")));
        (Hoosh::start(&at("up", &upstream.url(), "context_window_tokens = 4096")).await, upstream)
    };
    let body = json!({"model": "m", "max_tokens": 500, "messages": [{"role": "user", "content": russian.repeat(80)}]});
    for context in [None, Some("drop_oldest")] {
        let response = ask(&hoosh, "/v1/chat/completions", &body, context).await;
        assert_eq!((response.status().as_u16(), receipt(&response)), (200, ""), "{context:?}");
    }
}

#[tokio::test]
async fn one_that_is_too_short_by_its_own_rule_speaks_for_nobody_else() {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    second.always(Script::json(completion("hi")));
    let provider = |name: &str, upstream: &Upstream, keys: &str| {
        let url = upstream.url();
        format!(
            "[[providers]]\ntype = \"openai\"\nname = \"{name}\"\nbase_url = \"{url}\"\napi_key = \"k\"\nmodels = [\"gpt-4\"]\n{keys}\n"
        )
    };
    let config = provider("first", &first, "context = \"drop_oldest\"\npriority = 1")
        + &provider("second", &second, "priority = 2");
    let hoosh = Hoosh::start(&config).await;
    let body = json!({"model": "gpt-4", "messages": [{"role": "user", "content": "word ".repeat(9_000)}]});
    let response = ask(&hoosh, "/v1/chat/completions", &body, None).await;
    assert_eq!(response.status(), 200, "{}", response.text().await.unwrap());
    assert_eq!(
        (header(&response, "x-hoosh-provider"), header(&response, "x-hoosh-attempts")),
        ("second", "1")
    );
    assert!(first.requests("/completions").is_empty());
    // Where nobody is asked at all, that is told too.
    let hoosh = Hoosh::start(&provider("first", &first, "context = \"drop_oldest\"")).await;
    let response = ask(&hoosh, "/v1/chat/completions", &body, None).await;
    assert_eq!((response.status().as_u16(), header(&response, "x-hoosh-attempts")), (400, "0"));
}

#[tokio::test]
async fn a_summary_is_asked_for_as_its_model_takes_it_and_kept_as_the_call_wants() {
    let (big, small) = (Upstream::start().await, Upstream::start().await);
    big.always(Script::json(completion("hi")));
    small.always(Script::json(completion("they talked about words")));
    let keys = "context_window_tokens = 400\ncontext = \"summarise\"\nsummarise_with = \"gpt-5-mini\"";
    let config = at("big", &big.url(), keys).replace("[\"*\"]", "[\"m\"]")
        + &at("oa", &small.url(), "")
            .replace("[\"*\"]", "[\"gpt-5-mini\"]")
            .replace("openai_compatible", "openai")
        + "[cache]\nenabled = true\nany_temperature = true\n";
    let hoosh = Hoosh::start(&config).await;
    let ask = async |control: &str| {
        let request = client().post(hoosh.url("/v1/chat/completions")).header("cache-control", control);
        let response = request.body(chat(4).to_string()).send().await.unwrap();
        assert!(receipt(&response).starts_with("policy=summarise; removed="), "{}", receipt(&response));
    };
    ask("no-store").await;
    let asked = sent(&small, "/completions");
    assert_eq!((&asked["temperature"], &asked["reasoning_effort"]), (&Value::Null, &json!("low")), "{asked}");
    let room = asked["max_completion_tokens"].as_u64().or(asked["max_tokens"].as_u64());
    assert!(room.is_some_and(|room| room > 4_000), "it thinks before it writes: {asked}");
    ask("no-store").await;
    assert_eq!(small.requests("/completions").len(), 2);
    let stats = json(hoosh.get("/v1/cache/stats").await).await;
    assert_eq!(stats["entries"], 0, "a summary holds what the call says: {stats}");
    // Without a word it is kept as any other answer.
    ask("max-age=60").await;
    let stats = json(hoosh.get("/v1/cache/stats").await).await;
    assert_eq!(stats["entries"], 2, "{stats}");
}

#[tokio::test]
async fn what_a_reference_stands_for_counts() {
    let upstream = Upstream::start().await;
    let long = completion(&"word ".repeat(2_500));
    upstream.always(Script::json(long));
    let keys = "context_window_tokens = 2000\ncontext = \"drop_oldest\"";
    let hoosh = Hoosh::start(&at("up", &upstream.url(), keys)).await;
    let respond = async |input: Value| {
        let body = json!({"model": "m", "max_output_tokens": 100, "input": input});
        let response = ask(&hoosh, "/v1/responses", &body, None).await;
        let told = receipt(&response).to_owned();
        (told, json(response).await["output"][0]["id"].as_str().unwrap().to_owned())
    };
    let (told, id) = respond(json!("hi")).await;
    assert_eq!(told, "");
    let user = |text: &str| json!({"role": "user", "content": text});
    let (told, _) = respond(json!([user("hi"), {"type": "item_reference", "id": id}, user("go on")])).await;
    assert!(told.starts_with("policy=drop_oldest; removed=2; "), "{told}");
}

#[tokio::test]
async fn a_very_long_conversation_is_cut_in_no_time() {
    let (hoosh, _upstream) = narrow("").await;
    let said =
        |at: usize| json!({"role": if at.is_multiple_of(2) { "user" } else { "assistant" }, "content": "hi"});
    let messages: Vec<Value> = (0..40_001).map(said).collect();
    let body = json!({"model": "m", "max_tokens": 50, "messages": messages});
    for policy in ["drop_oldest", "middle_out", "keep_last"] {
        let start = std::time::Instant::now();
        let response = ask(&hoosh, "/v1/chat/completions", &body, Some(policy)).await;
        assert!(receipt(&response).contains("; removed=39"), "{policy}: {}", receipt(&response));
        // Without optimisation; it was half a minute with.
        assert!(start.elapsed().as_secs() < 10, "{policy}: {:?}", start.elapsed());
    }
}
