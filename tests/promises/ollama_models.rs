//! Promise: `hoosh models pull` and `rm` get and remove models of an Ollama, and say what went wrong where.

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use testkit::{End, PATIENCE, Script, Upstream, binary, refused_port};

/// A folder with a configuration of one Ollama at this URL.
fn folder(url: &str) -> TempDir {
    with_config(&format!("[[providers]]\ntype = \"Ollama\"\nname = \"box\"\nbase_url = \"{url}\"\n"))
}

fn with_config(text: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("hoosh.toml"), text).unwrap();
    folder
}

fn command(folder: &TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.arg("models").args(arguments).env_clear().current_dir(folder.path()).stdin(Stdio::null());
    // What is meant for the listing alone does not stand in the way.
    command.env("HOOSH_URL", "http://127.0.0.1:1").env("HOOSH_TOKEN", "t");
    command
}

async fn run(folder: &TempDir, arguments: &[&str]) -> Output {
    let mut command = command(folder, arguments);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// Runs it and compares its exit code; all words must be in what it says about its result.
#[track_caller]
fn check(output: &Output, code: i32, words: &[&str]) {
    let (shown, told) = texts(output);
    assert_eq!(output.status.code(), Some(code), "{shown}{told}");
    for word in words {
        assert!(told.contains(word), "`{word}` is missing in:\n{told}");
    }
    assert!(code == 0 || shown.is_empty(), "a failure has no result: {shown}");
}

fn texts(output: &Output) -> (String, String) {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8(bytes.clone()).unwrap()).into()
}

fn body(upstream: &Upstream, suffix: &str) -> serde_json::Value {
    serde_json::from_slice(&upstream.requests(suffix).last().unwrap().body).unwrap()
}

const MANIFEST: &str = "{\"status\":\"pulling manifest\"}\n";

fn layer(completed: u64) -> String {
    let digest = "sha256:4dfbdc96e39c268d22354d762ce9b8a58c6f9c2cd50fc6c7585a2b372ffc5462";
    format!(
        "{{\"status\":\"pulling 4dfbdc96e39c\",\"digest\":\"{digest}\",\"total\":46220580,\"completed\":{completed}}}\n"
    )
}

#[tokio::test]
async fn a_model_is_pulled_and_the_way_there_is_told() {
    let upstream = Upstream::start().await;
    let layers: String = (0..=100).map(|percent| layer(percent * 462_206)).collect();
    let rest = "{\"status\":\"verifying sha256 digest\"}\n{\"status\":\"writing manifest\"}\n{\"status\":\"success\"}\n";
    let whole = format!("{MANIFEST}{layers}{rest}");
    // Split where it hurts: in the middle of a line.
    let pieces = whole.as_bytes().chunks(1_000).map(<[u8]>::to_vec);
    upstream.always(Script::stream(pieces));
    let folder = folder(&upstream.url());

    let output = run(&folder, &["pull", "all-minilm"]).await;
    check(
        &output,
        0,
        &["pulling manifest\n", "4dfbdc96e39c   50 %  23.1 MB of 46.2 MB\n", "writing manifest\n"],
    );
    let (shown, told) = texts(&output);
    assert_eq!(shown, "all-minilm is there\n");
    assert!(!told.contains(['\r', '\x1b']) && told.lines().count() < 20, "{told}");
    assert_eq!(upstream.requests("/api/pull")[0].line, "POST /api/pull");
    assert_eq!(body(&upstream, "/api/pull"), serde_json::json!({"model": "all-minilm"}));
}

#[tokio::test]
async fn a_pull_that_fails_says_why() {
    let upstream = Upstream::start().await;
    let folder = folder(&upstream.url());
    let url = upstream.url();
    let unknown = "{\"error\":\"pull model manifest: file does not exist\"}\n";
    let full = "{\"error\":\"write blob: no space left on device\"}\n";
    let newer = r#"{"error":"invalid model name"}"#;
    for (script, words) in [
        // Errors come under the status 200 once anything has been said.
        (
            Script::stream([MANIFEST, unknown]),
            &["file does not exist", "ollama.com/library", "`box`", &url][..],
        ),
        (
            Script::stream([MANIFEST.to_owned(), layer(5), full.to_owned()]),
            &["no space left on device", "box"],
        ),
        (Script::status(400, newer), &["400", "invalid model name", "ollama.com/library"]),
        (Script::status(200, "<html>not Ollama</html>"), &["unreadable", &url]),
        // The end without a success, proper or not.
        (Script::stream([MANIFEST.to_owned(), layer(9)]), &["broke off", "before the model was there"]),
        (Script::broken_stream([MANIFEST.to_owned(), layer(9)], End::Cut), &["broke off", "box"]),
    ] {
        upstream.script([script]);
        check(&run(&folder, &["pull", "nope"]).await, 1, words);
    }
}

#[tokio::test]
async fn a_pull_stops_with_ctrl_c() {
    let upstream = Upstream::start().await;
    upstream.always(Script::broken_stream([MANIFEST.to_owned(), layer(9)], End::Silence));
    let folder = folder(&upstream.url());
    let mut command = command(&folder, &["pull", "all-minilm"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while upstream.requests("/api/pull").is_empty() {
        assert!(start.elapsed() < PATIENCE, "nothing was asked");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let sent = Command::new("kill").arg("-INT").arg(child.id().to_string()).status();
    assert!(sent.unwrap().success());
    upstream.hung_up().await;
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    check(&output, 130, &["stopped", "goes on from there"]);
}

#[tokio::test]
async fn a_model_is_removed() {
    let upstream = Upstream::start().await;
    upstream.script([Script::status(200, "")]);
    let folder = folder(&upstream.url());
    let output = run(&folder, &["rm", "llama3:latest"]).await;
    check(&output, 0, &[]);
    assert_eq!(texts(&output).0, "llama3:latest is deleted\n");
    assert_eq!(upstream.requests("/api/delete")[0].line, "DELETE /api/delete");
    assert_eq!(body(&upstream, "/api/delete"), serde_json::json!({"model": "llama3:latest"}));

    let missing = Script::status(404, r#"{"error":"model 'lama3' not found"}"#);
    let tags = Script::json(r#"{"models":[{"name":"qwen3:4b"},{"name":"llama3:latest","size":1}]}"#);
    upstream.script([missing.clone(), tags, missing]);
    let meant = ["404", "'lama3' not found", "did you mean `llama3:latest`?"];
    check(&run(&folder, &["rm", "lama3"]).await, 1, &meant);
    // Nor is it worse if the list cannot be had.
    check(&run(&folder, &["rm", "lama3"]).await, 1, &meant[..2]);
}

#[tokio::test]
async fn who_is_meant_is_said_or_asked() {
    let (attic, cellar) = (Upstream::start().await, Upstream::start().await);
    cellar.always(Script::stream(["{\"status\":\"success\"}\n"]));
    let provider = |kind: &str, name: &str, url: &str| {
        format!("[[providers]]\ntype = \"{kind}\"\nname = \"{name}\"\nbase_url = \"{url}\"\n")
    };
    let two =
        provider("Ollama", "attic", &attic.url()) + &provider("Ollama", "cellar", &(cellar.url() + "/v1"));
    let folder = with_config(&(two + &provider("LlamaCpp", "lab", "http://127.0.0.1:1")));
    for arguments in [&["pull", "m"][..], &["rm", "m"]] {
        check(&run(&folder, arguments).await, 64, &["several", "`--provider`", "`attic`, `cellar`"]);
    }
    check(&run(&folder, &["pull", "m", "--provider", "lab"]).await, 64, &["`lab` is of type llamacpp"]);
    check(
        &run(&folder, &["pull", "m", "--provider", "x"]).await,
        64,
        &["no provider is called `x`", "hoosh.toml"],
    );
    check(&run(&folder, &["pull", "m m", "--provider", "cellar"]).await, 64, &["model's name has spaces"]);
    assert_eq!(attic.connections() + cellar.connections(), 0);

    check(&run(&folder, &["pull", "m", "--provider", "cellar"]).await, 0, &[]);
    assert_eq!((attic.connections(), cellar.requests("/api/pull").len()), (0, 1));

    let none = with_config(&provider("LlamaCpp", "lab", "http://127.0.0.1:1"));
    check(&run(&none, &["pull", "m"]).await, 64, &["no provider of type ollama", "type = \"ollama\""]);
}

#[tokio::test]
async fn an_ollama_that_does_not_run_is_told() {
    let url = format!("http://127.0.0.1:{}", refused_port());
    let folder = folder(&url);
    for arguments in [&["pull", "m"][..], &["rm", "m"]] {
        let words = ["could not be reached", "`box`", &url, "is Ollama running there?", "`ollama serve`"];
        check(&run(&folder, arguments).await, 1, &words);
    }
}

#[tokio::test]
async fn help_names_both() {
    let folder = with_config("");
    let output = run(&folder, &["--help"]).await;
    let (shown, _) = texts(&output);
    for words in ["pull", "rm", "--json", "--url"] {
        assert!(shown.contains(words), "{shown}");
    }
}
