//! Promise: the command line says what is wrong, and its tables and JSON can be relied on.

use testkit::{Script, binary, chunk, finished, sse};

use crate::one;

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn help_and_version() {
    let help = finished(&["--help"]);
    let words = text(&help.stdout);
    for command in ["serve", "chat", "models", "health", "info", "config", "explain", "completions"] {
        assert!(words.contains(command), "{words}");
    }
    assert!(text(&finished(&["--version"]).stdout).starts_with("hoosh 2."));
    assert!(text(&finished(&["completions", "bash"]).stdout).contains("_hoosh"));
}

#[test]
fn all_faults_of_a_configuration_are_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hoosh.toml");
    std::fs::write(
        &file,
        "[server]\nprot = 1\nport = \"high\"\n\n[[providers]]\ntype = \"Olama\"\napi_key = 5\n",
    )
    .unwrap();
    let output = finished(&["config", "check", "--config", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(64));
    let told = text(&output.stderr) + &text(&output.stdout);
    for words in [":2", "prot", "`port`", ":3", "server.port", ":6", "Olama", "ollama"] {
        assert!(told.contains(words), "{words} is missing in:\n{told}");
    }
}

#[test]
fn a_configuration_of_hoosh_1_3_loads_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hoosh.toml");
    let text = r#"
        [server]
        bind = "127.0.0.1"
        port = 8088
        strategy = "lowest_latency"
        [cache]
        max_entries = 1000
        ttl_secs = 300
        enabled = true
        [[budgets]]
        name = "default"
        capacity = 100000
        [[providers]]
        type = "Ollama"
        priority = 1
        models = ["llama*", "qwen*"]
        [[providers]]
        type = "LlamaCpp"
        base_url = "http://localhost:8080"
        enabled = false
        [[providers]]
        type = "OpenAi"
        api_key = "sk-x"
        max_tokens_limit = 4096
        rate_limit_rpm = 60
        models = ["gpt-*"]
        [auth]
        tokens = ["t"]
    "#;
    std::fs::write(&file, text).unwrap();
    let output = finished(&["config", "check", "--config", file.to_str().unwrap()]);
    let told = text_of(&output);
    assert!(output.status.success(), "{told}");
    for words in ["cache", "budgets", "ollama", "llamacpp", "openai"] {
        assert!(told.contains(words), "{words} is missing in:\n{told}");
    }
}

fn text_of(output: &std::process::Output) -> String {
    text(&output.stdout) + &text(&output.stderr)
}

#[test]
fn secrets_are_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hoosh.toml");
    std::fs::write(
        &file,
        "[[providers]]\ntype = \"OpenAi\"\napi_key = \"sk-top-secret\"\n[auth]\ntokens = [\"also-secret\"]\n",
    )
    .unwrap();
    let output = finished(&["config", "show", "--config", file.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let shown = text(&output.stdout) + &text(&output.stderr);
    assert!(shown.contains("openai") && shown.contains("redacted") && !shown.contains("secret\""), "{shown}");
    assert!(!shown.contains("sk-top") && !shown.contains("also-secret"), "{shown}");
}

#[tokio::test]
async fn chat_streams_and_says_who_answered() {
    let (hoosh, upstream) = one().await;
    let finish = chunk("{}").replace("\"finish_reason\":null", "\"finish_reason\":\"stop\"");
    let usage = sse(r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}"#);
    upstream.always(Script::stream([chunk(r#"{"content":"Paris."}"#), finish, usage, sse("[DONE]")]));
    for command in ["chat", "infer"] {
        let url = hoosh.url("");
        let arguments =
            [command, "--url", &url, "-m", "m", "What is the capital of France?"].map(str::to_owned);
        let output = tokio::task::spawn_blocking(move || {
            std::process::Command::new(binary())
                .args(arguments)
                .stdin(std::process::Stdio::null())
                .output()
                .unwrap()
        });
        let output = output.await.unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(text(&output.stdout).trim(), "Paris.");
        let last = text(&output.stderr);
        assert!(last.contains("up") && last.contains('3') && last.contains('2'), "{last}");
    }
}

#[tokio::test]
async fn models_and_health_as_json() {
    let (hoosh, _upstream) = one().await;
    for (command, pointer, expected) in
        [("models", "/0/id", "listed-model"), ("health", "/providers/0/name", "up")]
    {
        let url = hoosh.url("");
        let output =
            tokio::task::spawn_blocking(move || finished(&[command, "--url", &url, "--json"])).await.unwrap();
        let shown: serde_json::Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}{}", text(&output.stdout), text(&output.stderr)));
        assert_eq!(shown.pointer(pointer), Some(&expected.into()), "{shown}");
    }
}
