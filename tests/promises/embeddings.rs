//! Promise: embeddings come in the form that was asked for, whatever the provider knows.

use testkit::Script;

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
