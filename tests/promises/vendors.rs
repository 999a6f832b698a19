//! Promise: each vendor gets what it takes, and its ways do not reach the client.

use testkit::{End, Hoosh, Script, Upstream, binary, chat_body, chunk, completion, finish, sse};

use crate::header;

/// A gateway before an upstream that is taken for this vendor.
async fn vendor(kind: &str) -> (Hoosh, Upstream) {
    let upstream = Upstream::start().await;
    let config = format!(
        "[[providers]]\ntype = \"{kind}\"\nbase_url = \"{}/v1\"\napi_key = \"k\"\nmodels = [\"*\"]\n",
        upstream.url()
    );
    (Hoosh::start(&config).await, upstream)
}

fn sent(upstream: &Upstream, suffix: &str) -> String {
    String::from_utf8(upstream.requests(suffix).last().unwrap().body.clone()).unwrap()
}

#[tokio::test]
async fn a_vendor_that_leaves_out_done_still_ends_well() {
    let (hoosh, upstream) = vendor("perplexity").await;
    let shown = chunk(r#"{"content":"Paris."}"#) + &finish("stop");
    upstream.always(Script::stream([shown.clone()]));

    let text = hoosh.post("/v1/chat/completions", chat_body("sonar", true)).await.text().await.unwrap();
    assert_eq!(text, shown + &sse("[DONE]"));
    let body = r#"{"model":"sonar","prompt":"x","stream":true}"#;
    let text = hoosh.post("/v1/completions", body).await.text().await.unwrap();
    assert!(text.contains("Paris.") && text.ends_with("data: [DONE]\n\n"), "{text}");

    let url = hoosh.url("");
    let chat = move || {
        let arguments = ["chat", "--url", &url, "-m", "sonar", "What is the capital of France?"];
        let command =
            std::process::Command::new(binary()).args(arguments).stdin(std::process::Stdio::null()).output();
        command.unwrap()
    };
    let output = tokio::task::spawn_blocking(chat).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "Paris.");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(hoosh.log().matches("answered").count(), 3, "{}", hoosh.log());
}

#[tokio::test]
async fn a_vendor_that_leaves_out_done_may_still_break() {
    let (hoosh, upstream) = vendor("perplexity").await;
    for end in [End::Proper, End::Cut] {
        upstream.script([Script::broken_stream([chunk(r#"{"content":"Par"}"#)], end)]);
        let text = hoosh.post("/v1/chat/completions", chat_body("sonar", true)).await.text().await.unwrap();
        assert!(text.contains("upstream_broken") && !text.contains("[DONE]"), "{text}");
    }
}

#[tokio::test]
async fn stream_options_are_not_sent_to_a_vendor_that_refuses_them() {
    let (hoosh, upstream) = vendor("mistral").await;
    let usage = r#""usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}"#;
    let last = finish("stop").replace("\"choices\"", &format!("{usage},\"choices\""));
    let stream = chunk(r#"{"content":"a"}"#) + &last + &sse("[DONE]");
    upstream.always(Script::stream([stream.clone()]));
    let odd = r#""odd" : [1.50, {"stream_options":{"include_usage":true}}] ,"messages":[ {"role":"user","content":"h\u00e4"}]"#;
    let options = r#""stream_options" : { "include_usage": true }"#;
    // First, in the middle and last.
    for (before, after) in [
        (String::from("{ "), format!(r#""model":"m","stream":true,{odd} }}"#)),
        (String::from(r#"{"model":"m""#), format!(r#""stream" : true, {odd}}}"#)),
        (format!(r#"{{"model":"m","stream":true,{odd}"#), String::from("\n}")),
    ] {
        let comma = |is_there: bool| if is_there { "," } else { "" };
        let (is_first, is_last) = (before.trim() == "{", after.trim() == "}");
        let asked = format!("{before}{}{options}{}{after}", comma(!is_first), comma(!is_last));
        let expected = format!("{before}{}{after}", comma(!is_first && !is_last));
        let response = hoosh.post("/v1/chat/completions", asked.clone()).await;
        assert_eq!(response.text().await.unwrap(), stream, "usage comes unasked in the last chunk");
        let sent = sent(&upstream, "/chat/completions");
        assert!(!sent.contains("stream_options\" :"), "{sent}");
        let plain = |text: &str| text.split_whitespace().collect::<String>();
        assert_eq!(plain(&sent), plain(&expected), "asked: {asked}");
        assert!(sent.contains(odd), "the rest is as it was: {sent}");
    }

    // Without them nothing is changed.
    let body = chat_body("m", true);
    assert_eq!(hoosh.post("/v1/chat/completions", body.clone()).await.status(), 200);
    assert_eq!(sent(&upstream, "/chat/completions"), body);
    assert!(hoosh.log().contains("prompt_tokens=3"), "the books have it:\n{}", hoosh.log());
}

#[tokio::test]
async fn openai_is_asked_with_its_newer_word_for_the_most_tokens() {
    let (hoosh, upstream) = vendor("openai").await;
    upstream.always(Script::json(completion("ok")));
    let body = r#"{ "metadata":{"max_tokens":"1"} , "max_tokens" : 70 ,"model":"gpt-x","messages":[{"role":"user","content":"\"max_tokens\" : 70"}]}"#;
    let response = hoosh.post("/v1/chat/completions", body).await;
    assert_eq!((response.status().as_u16(), header(&response, "x-hoosh-lossy")), (200, ""));
    assert_eq!(
        sent(&upstream, "/chat/completions"),
        body.replacen(r#", "max_tokens" :"#, r#", "max_completion_tokens" :"#, 1)
    );

    // Who says it right is left as is, and completions know only the older word.
    for (path, body) in [
        (
            "/v1/chat/completions",
            r#"{"model":"m","max_completion_tokens":7,"messages":[{"role":"user","content":"x"}]}"#,
        ),
        ("/v1/completions", r#"{"model":"m","max_tokens":7,"prompt":"x"}"#),
    ] {
        assert_eq!(hoosh.post(path, body).await.status(), 200);
        assert_eq!(sent(&upstream, path.trim_start_matches("/v1")), body);
    }
}

#[tokio::test]
async fn a_key_that_a_server_repeats_is_told_to_nobody() {
    let upstream = Upstream::start().await;
    let config = format!(
        "[[providers]]\ntype = \"deepseek\"\nbase_url = \"{}\"\napi_key = \"sk-top-secret\"\nmodels = [\"*\"]\n",
        upstream.url()
    );
    let hoosh = Hoosh::start(&config).await;
    upstream.always(Script::status(400, r#"{"error":{"message":"bad key sk-top-secret given"}}"#));
    let body = r#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#;
    let answer = hoosh.post("/v1/chat/completions", body).await.text().await.unwrap();
    assert!(answer.contains("bad key [redacted] given"), "{answer}");
    assert!(!hoosh.log().contains("sk-top-secret"), "{}", hoosh.log());
}

#[tokio::test]
async fn a_models_name_does_not_climb_out_of_its_path() {
    let upstream = Upstream::start().await;
    let config = format!(
        "[[providers]]\ntype = \"google\"\nbase_url = \"{}\"\napi_key = \"k\"\nmodels = [\"*\"]\n",
        upstream.url()
    );
    let hoosh = Hoosh::start(&config).await;
    let body = r#"{"model":"a/../../v9/files/x","messages":[{"role":"user","content":"x"}]}"#;
    assert_eq!(hoosh.post("/v1/chat/completions", body).await.status(), 404);
    assert!(upstream.requests("/").iter().all(|request| !request.line.contains("..")));
}

#[tokio::test]
async fn what_a_vendor_refuses_is_left_out_and_said() {
    let (hoosh, upstream) = vendor("mistral").await;
    upstream.always(Script::json(completion("hi")));
    let body = r#"{"model":"m","max_tokens":9,"metadata":{"user_id":"ada"},"messages":[{"role":"user","content":"x"},{"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"c2ln"},{"type":"text","text":"a"}]},{"role":"user","content":"y"}]}"#;
    let response = hoosh.post("/v1/messages", body).await;
    assert_eq!(header(&response, "x-hoosh-lossy"), "messages[1].reasoning, user");
    let expected = r#"{"model":"m","messages":[{"role":"user","content":"x"},{"role":"assistant","content":"a"},{"role":"user","content":"y"}],"max_tokens":9}"#;
    assert_eq!(sent(&upstream, "/chat/completions"), expected);

    // Where it has another name for it, that is used.
    let (hoosh, upstream) = vendor("groq").await;
    upstream.always(Script::json(completion("hi")));
    let response = hoosh.post("/v1/messages", body).await;
    assert_eq!(header(&response, "x-hoosh-lossy"), "");
    let sent = sent(&upstream, "/chat/completions");
    assert!(sent.contains(r#"{"role":"assistant","content":"a","reasoning":"hm"}"#), "{sent}");

    // Only OpenAI knows developers.
    let (hoosh, upstream) = vendor("deepseek").await;
    upstream.always(Script::json(completion("hi")));
    let body = r#"{"model":"m","store":false,"input":[{"role":"developer","content":"be brief"},{"role":"user","content":"x"}]}"#;
    assert_eq!(hoosh.post("/v1/responses", body).await.status(), 200);
    let sent = String::from_utf8(upstream.requests("/chat/completions")[0].body.clone()).unwrap();
    assert!(sent.contains(r#"{"role":"system","content":"be brief"}"#) && !sent.contains("store"), "{sent}");
}

#[tokio::test]
async fn an_error_inside_a_stream_is_not_shown_in_the_vendors_words() {
    let (hoosh, upstream) = vendor("deepseek").await;
    let error = sse(r#"{"error":{"message":"node 10.0.0.7 lost its GPU","type":"server_error","code":500}}"#);
    upstream.always(Script::stream([chunk(r#"{"content":"Par"}"#), error]));
    let body = r#"{"model":"m","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"x"}]}"#;
    let text = hoosh.post("/v1/messages", body).await.text().await.unwrap();
    assert!(text.contains("event: error") && text.contains("provider `deepseek` "), "{text}");
    assert!(!text.contains("10.0.0.7"), "{text}");
}
