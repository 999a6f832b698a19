//! Promise: in OpenAI's Responses dialect a conversation goes on from an answer that is kept.

use testkit::{Script, chunk, completion, finish, sse};

use crate::dialects::vendor;
use crate::json;

#[tokio::test]
async fn a_conversation_goes_on_from_a_kept_answer() {
    let (hoosh, upstream) = vendor("deepseek").await;
    upstream.script([Script::json(completion("Nice to meet you, Ada.")), Script::json(completion("Ada."))]);
    let first = json(
        hoosh.post("/v1/responses", r#"{"model":"m","input":"I am Ada.","instructions":"Be brief."}"#).await,
    )
    .await;
    let id = first["id"].as_str().unwrap();
    let body = format!(r#"{{"model":"m","input":"Who am I?","previous_response_id":"{id}"}}"#);
    let second = json(hoosh.post("/v1/responses", body).await).await;
    assert_eq!(second["previous_response_id"], id);
    let sent: serde_json::Value =
        serde_json::from_slice(&upstream.requests("/chat/completions")[1].body).unwrap();
    let said: Vec<&str> = sent["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|message| message["content"].as_str().unwrap())
        .collect();
    assert_eq!(
        said,
        ["I am Ada.", "Nice to meet you, Ada.", "Who am I?"],
        "instructions are not carried over"
    );

    // Streamed answers are kept too; those that shall not be are not.
    upstream.always(Script::stream([chunk(r#"{"content":"Yes."}"#), finish("stop"), sse("[DONE]")]));
    let text =
        hoosh.post("/v1/responses", r#"{"model":"m","input":"x","stream":true}"#).await.text().await.unwrap();
    let streamed = text.split("\"id\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    upstream.always(Script::json(completion("ok")));
    let on = |id: &str| format!(r#"{{"model":"m","input":"x","previous_response_id":"{id}"}}"#);
    assert_eq!(hoosh.post("/v1/responses", on(&streamed)).await.status(), 200);
    let unkept = json(hoosh.post("/v1/responses", r#"{"model":"m","input":"x","store":false}"#).await).await;
    let response = hoosh.post("/v1/responses", on(unkept["id"].as_str().unwrap())).await;
    assert_eq!(response.status(), 400);
    assert_eq!(json(response).await["error"]["param"], "previous_response_id");
}

#[tokio::test]
async fn items_of_a_kept_answer_can_be_referred_to() {
    let (hoosh, upstream) = vendor("anthropic").await;
    let thought = r#"{"id":"msg_1","type":"message","role":"assistant","model":"up","content":[{"type":"thinking","thinking":"hm","signature":"c2ln"},{"type":"tool_use","id":"t1","name":"f","input":{}}],"stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":3,"output_tokens":2}}"#;
    upstream.always(Script::json(thought));
    let rest = r#""tools":[{"type":"function","name":"f","parameters":{"type":"object"}}],"reasoning":{"effort":"low"}"#;
    let ask = async |input: &str| {
        hoosh
            .post("/v1/responses", format!(r#"{{"model":"claude-sonnet-4-5","input":{input},{rest}}}"#))
            .await
    };
    let first = json(ask(r#""go""#).await).await;
    let (reasoning, call) = (&first["output"][0]["id"], &first["output"][1]);
    let input = serde_json::json!([
        {"role": "user", "content": "go"},
        {"type": "item_reference", "id": reasoning},
        call,
        {"type": "function_call_output", "call_id": "t1", "output": "done"},
    ]);
    assert_eq!(ask(&input.to_string()).await.status(), 200);
    let sent: serde_json::Value = serde_json::from_slice(&upstream.requests("/messages")[1].body).unwrap();
    let turn = &sent["messages"][1]["content"];
    assert_eq!((&turn[0]["signature"], &turn[1]["id"]), (&"c2ln".into(), &"t1".into()), "{sent}");

    let unknown = r#"[{"type":"item_reference","id":"rs_hoosh_0_0"}]"#;
    let refused = ask(unknown).await;
    assert_eq!(refused.status(), 400);
    let message = json(refused).await["error"]["message"].to_string();
    assert!(message.contains("Item with id 'rs_hoosh_0_0' not found"), "{message}");
}

#[tokio::test]
async fn tools_on_several_lines_break_no_event() {
    let (hoosh, upstream) = vendor("deepseek").await;
    upstream.always(Script::stream([chunk(r#"{"content":"ok"}"#), finish("stop"), sse("[DONE]")]));
    let body = serde_json::to_string_pretty(&serde_json::json!({
        "model": "m", "stream": true, "input": "x",
        "metadata": {"a": "b"},
        "tools": [{"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}}],
    }));
    let text = hoosh.post("/v1/responses", body.unwrap()).await.text().await.unwrap();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let data = line.strip_prefix("data: ");
        assert!(line.starts_with("event: ") || data.is_some(), "{line}");
        data.inspect(|data| assert!(serde_json::from_str::<serde_json::Value>(data).is_ok(), "{data}"));
    }
}
