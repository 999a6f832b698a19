//! Promise: the program on the first page of the README compiles against the facade and runs against a server.

use testkit::{Script, completion};

use crate::one;

#[tokio::test]
async fn the_program_of_the_readme() -> Result<(), Box<dyn std::error::Error>> {
    let (server, upstream) = one().await;
    upstream.always(Script::json(completion("Each value has one owner.")));
    let url = server.url("");

    use hoosh::{HooshClient, InferenceRequest};
    let client = HooshClient::new(url);
    let response = client
        .infer(&InferenceRequest {
            model: "llama3".into(),
            prompt: "Explain Rust ownership in one sentence.".into(),
            ..Default::default()
        })
        .await?;
    assert_eq!(response.text, "Each value has one owner.");

    let sent = String::from_utf8(upstream.requests("/chat/completions")[0].body.clone())?;
    assert_eq!(
        sent,
        r#"{"model":"llama3","messages":[{"role":"user","content":"Explain Rust ownership in one sentence."}]}"#
    );
    Ok(())
}
