//! Promise: embeddings come in the form that was asked for, whatever the provider knows.

use testkit::{Script, client};

use crate::dialects::{vendor, vendor_with};
use crate::{header, json, one};

const NUMBERS: &str = r#"{"object":"list","model":"e","data":[{"object":"embedding","index":0,"embedding":[1.0,-2.5]}],"usage":{"prompt_tokens":2,"total_tokens":2}}"#;
const BASE64: &str = "AACAPwAAIMA=";

#[tokio::test]
async fn numbers_are_passed_through_and_turned_into_base64_where_asked() {
    let (hoosh, upstream) = one().await;
    upstream.always(Script::json(NUMBERS));

    let response = hoosh.post("/v1/embeddings", r#"{"model":"e","input":"hi"}"#).await;
    assert_eq!(header(&response, "x-hoosh-provider"), "up");
    assert_eq!(response.text().await.unwrap(), NUMBERS);

    let response =
        hoosh.post("/v1/embeddings", r#"{"model":"e","input":"hi","encoding_format":"base64"}"#).await;
    let answer = json(response).await;
    assert_eq!(answer["data"][0]["embedding"], BASE64);
    assert_eq!(answer["usage"]["prompt_tokens"], 2);
}

#[tokio::test]
async fn base64_is_passed_through_and_turned_into_numbers_where_not_asked() {
    let (hoosh, upstream) = one().await;
    let body = NUMBERS.replace("[1.0,-2.5]", &format!("\"{BASE64}\""));
    upstream.always(Script::json(body.clone()));

    let response =
        hoosh.post("/v1/embeddings", r#"{"model":"e","input":"hi","encoding_format":"base64"}"#).await;
    assert_eq!(response.text().await.unwrap(), body);
    let answer = json(hoosh.post("/v1/embeddings", r#"{"model":"e","input":"hi"}"#).await).await;
    assert_eq!(answer["data"][0]["embedding"], serde_json::json!([1.0, -2.5]));
}

#[tokio::test]
async fn wrong_requests_are_refused() {
    let (hoosh, upstream) = one().await;
    for (body, words) in [
        (r#"{"model":"e"}"#, "`input`: is missing"),
        (
            r#"{"model":"e","input":"x","encoding_format":"hex"}"#,
            "`encoding_format`: expected `float` or `base64`",
        ),
    ] {
        let response = hoosh.post("/v1/embeddings", body).await;
        assert_eq!(response.status(), 400);
        assert!(response.text().await.unwrap().contains(words));
    }
    assert_eq!(upstream.requests("/embeddings").len(), 0);
}

#[tokio::test]
async fn a_model_that_cannot_embed_says_so() {
    let (hoosh, upstream) = one().await;
    upstream.always(Script::status(501, r#"{"error":{"message":"This server does not support embeddings","type":"not_supported_error","code":501}}"#));
    let response = hoosh.post("/v1/embeddings", r#"{"model":"e","input":"hi"}"#).await;
    assert_eq!(response.status(), 400);
    assert!(response.text().await.unwrap().contains("does not support embeddings"));
}

#[tokio::test]
async fn google_is_asked_in_its_own_form_under_another_name() {
    let (hoosh, upstream) = vendor_with("google", "[aliases]\ne = \"gemini-embedding-001\"\n").await;
    let vectors = r#"{"embeddings":[{"values":[1.0,-2.5]}]}"#;
    upstream.always(Script::json(vectors));
    let answer = json(hoosh.post("/v1/embeddings", r#"{"model":"e","input":"hello world"}"#).await).await;
    // Google says neither which model it was nor what it took.
    assert_eq!(answer["model"], "gemini-embedding-001");
    assert_eq!(answer["usage"]["prompt_tokens"], 3);

    // Its own body names the model a second time, which must not be the alias.
    let body = r#"{"requests":[{"model":"models/e","content":{"parts":[{"text":"hello world"}]}}]}"#;
    let answer = json(hoosh.post("/v1beta/models/e:batchEmbedContents", body).await).await;
    assert_eq!(answer["embeddings"][0]["values"], serde_json::json!([1.0, -2.5]));
    let sent = String::from_utf8(upstream.requests(":batchEmbedContents")[1].body.clone()).unwrap();
    assert!(sent.contains("models/gemini-embedding-001") && !sent.contains("models/e\""), "{sent}");
}

#[tokio::test]
async fn what_an_embedder_cannot_be_told_is_said() {
    let (hoosh, upstream) = vendor("google").await;
    let reply = r#"{"embeddings":[{"values":[1.0]}]}"#;
    upstream.always(Script::Reply {
        status: 200,
        headers: "x-ratelimit-remaining-requests: 9\r\n".into(),
        body: reply.into(),
    });
    let body = r#"{"model":"e","input":"hi","user":"ada","novel":1}"#;
    let response = hoosh.post("/v1/embeddings", body).await;
    assert_eq!(header(&response, "x-hoosh-lossy"), "novel, user");
    assert_eq!(header(&response, "x-ratelimit-remaining-requests"), "9");
    let strict = client().post(hoosh.url("/v1/embeddings")).header("x-hoosh-fidelity", "strict");
    let refused = strict.header("content-type", "application/json").body(body).send().await.unwrap();
    assert_eq!(refused.status(), 400);
    assert!(json(refused).await["error"]["message"].as_str().unwrap().contains("`google`: not novel, user"));
    assert_eq!(upstream.requests(":batchEmbedContents").len(), 1, "nobody was asked");
}
