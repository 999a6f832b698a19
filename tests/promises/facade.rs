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

#[test]
fn the_readme_shows_the_program_that_is_compiled() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    // Compiled as a doctest of the facade.
    let facade = std::fs::read_to_string(root.join("crates/hoosh/src/lib.rs")).unwrap();
    let (_, rest) = readme.split_once("```rust\n").unwrap();
    let (program, _) = rest.split_once("```").unwrap();
    assert!(program.lines().count() > 5);
    for line in program.lines() {
        assert!(facade.contains(&format!("//! {line}\n")), "{line}");
    }
    assert!(!rest.contains("```rust"), "another program of the README is compiled nowhere");
}
