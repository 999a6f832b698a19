//! Promise: keys for signed tokens are taken from where an identity provider publishes them, whenever it changes them, and garbage
//! does not make the gateway ask more often.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};
use testkit::{Hoosh, Script, Upstream, chat_body, client, completion, refused_port};
use tokio::time::sleep;

use crate::{at, json as json_of};

const CHAT: &str = "/v1/chat/completions";
const JWKS: &str = "/jwks.json";

/// As `limits::JWKS_REST`: so long nobody asks again.
const REST: Duration = Duration::from_secs(5);

/// A key of an identity provider.
struct Signer {
    id: &'static str,
    pair: Ed25519KeyPair,
}

impl Signer {
    fn new(id: &'static str) -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self { id, pair: Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap() }
    }

    fn published(&self) -> Value {
        let x = BASE64.encode(self.pair.public_key().as_ref());
        json!({ "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": self.id, "x": x })
    }

    /// A token of somebody, until 2100.
    fn token(&self, more: Value) -> String {
        let mut claims = json!({ "sub": "ada", "exp": 4_102_444_800_u64 });
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let header = json!({ "alg": "EdDSA", "typ": "JWT", "kid": self.id });
        let part = |value: &Value| BASE64.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let signature = BASE64.encode(self.pair.sign(signed.as_bytes()).as_ref());
        format!("{signed}.{signature}")
    }
}

fn set(signers: &[&Signer]) -> Script {
    let keys: Vec<Value> = signers.iter().map(|signer| signer.published()).collect();
    Script::json(json!({ "keys": keys }).to_string())
}

async fn gateway(jwks: &str, more: &str) -> (Hoosh, Upstream) {
    let upstream = Upstream::start().await;
    upstream.always(Script::json(completion("hi")));
    let config = format!("[auth]\njwt_keys = \"{jwks}\"\n{more}{}", at("up", &upstream.url(), ""));
    (Hoosh::start(&config).await, upstream)
}

/// The status and the code of a call.
async fn ask(hoosh: &Hoosh, token: &str) -> (u16, String) {
    let request = client().post(hoosh.url(CHAT)).bearer_auth(token).body(chat_body("m", false));
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    (status, json_of(response).await["error"]["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn keys_are_fetched_and_change_with_the_provider_and_stay_when_it_is_away() {
    let issuer = Upstream::start().await;
    let (old, new) = (Signer::new("old"), Signer::new("new"));
    issuer.always(set(&[&old]));
    let (hoosh, _upstream) = gateway(&format!("{}{JWKS}", issuer.url()), "jwt_refresh_secs = 0\n").await;
    assert_eq!(ask(&hoosh, &old.token(json!({}))).await.0, 200);
    assert!(hoosh.log().contains("caller=\"jwt:ada\""), "{}", hoosh.log());
    let fetched = issuer.requests(JWKS).len();
    assert_eq!(fetched, 1, "at the start");

    // Rotated: the new one is not known, and is asked for once the rest is over.
    issuer.always(set(&[&old, &new]));
    sleep(REST).await;
    assert_eq!(ask(&hoosh, &new.token(json!({}))).await.0, 200);
    assert_eq!(issuer.requests(JWKS).len(), 2);
    // Garbage of unknown keys asks for nothing more within the rest.
    let stranger = Signer::new("stranger");
    for _ in 0..20 {
        assert_eq!(ask(&hoosh, &stranger.token(json!({}))).await, (401, "invalid_token".into()));
    }
    assert_eq!(issuer.requests(JWKS).len(), 2);
    // And once after it, however many come at once.
    sleep(REST).await;
    issuer.always(Script::status(500, "away"));
    let token = stranger.token(json!({}));
    let many = futures_util::future::join_all((0..10).map(|_| ask(&hoosh, &token))).await;
    assert!(many.iter().all(|(status, _)| *status == 401), "{many:?}");
    assert_eq!(issuer.requests(JWKS).len(), 3);
    // What was good stays.
    assert_eq!(ask(&hoosh, &old.token(json!({}))).await.0, 200);
    assert!(hoosh.log().contains("the last ones stay"), "{}", hoosh.log());
}

#[tokio::test]
async fn a_key_that_is_withdrawn_ends_with_the_next_look() {
    let issuer = Upstream::start().await;
    let (old, new) = (Signer::new("old"), Signer::new("new"));
    issuer.always(set(&[&old]));
    let (hoosh, _upstream) = gateway(&format!("{}{JWKS}", issuer.url()), "jwt_refresh_secs = 5\n").await;
    assert_eq!(ask(&hoosh, &old.token(json!({}))).await.0, 200);
    issuer.always(set(&[&new]));
    let start = Instant::now();
    while ask(&hoosh, &old.token(json!({}))).await.0 != 401 {
        assert!(start.elapsed() < REST * 3, "it is still taken");
        sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(ask(&hoosh, &new.token(json!({}))).await.0, 200);
}

#[tokio::test]
async fn without_any_keys_tokens_are_told_to_come_again() {
    let signer = Signer::new("one");
    let port = refused_port();
    let url = format!("http://127.0.0.1:{port}{JWKS}");
    let (hoosh, _upstream) = gateway(&url, "tokens = [\"plain\"]\n").await;
    assert_eq!(ask(&hoosh, &signer.token(json!({}))).await, (503, "token_keys_unavailable".into()));
    assert_eq!(ask(&hoosh, "plain").await.0, 200, "others are not concerned");
    let issuer = Upstream::start_at(&[port]).await;
    // Not a set of keys, one that is too long, one with a shared secret alone: none is one.
    let secret = json!({ "keys": [{ "kty": "oct", "k": BASE64.encode([7; 32]), "kid": "one" }] });
    issuer.script([
        Script::json("{}"),
        Script::json(format!("{{\"keys\":[],\"x\":\"{}\"}}", "x".repeat(300 << 10))),
        Script::json(secret.to_string()),
    ]);
    issuer.always(set(&[&signer]));
    let start = Instant::now();
    loop {
        match ask(&hoosh, &signer.token(json!({}))).await {
            (200, _) => break,
            (503, code) => assert_eq!(code, "token_keys_unavailable"),
            other => panic!("{other:?}"),
        }
        assert!(start.elapsed() < REST * 8, "{}", hoosh.log());
        sleep(Duration::from_millis(500)).await;
    }
    assert!(issuer.requests(JWKS).len() >= 4);
}

#[tokio::test]
async fn a_claim_names_the_pools_that_are_charged() {
    let issuer = Upstream::start().await;
    let signer = Signer::new("one");
    issuer.always(set(&[&signer]));
    let more = "jwt_pools_claim = \"groups\"\njwt_pools_prefix = \"team:\"\nadmin_tokens = [\"root\"]\n\
                [[pools]]\nname = \"team:search\"\ntokens = 100000\n[[pools]]\nname = \"team:poor\"\ntokens = 1\n";
    let (hoosh, _upstream) = gateway(&format!("{}{JWKS}", issuer.url()), more).await;
    let of = |groups: Value| signer.token(json!({ "groups": groups }));
    assert_eq!(ask(&hoosh, &of(json!(["search"]))).await.0, 200);
    assert_eq!(ask(&hoosh, &of(json!(["search", "poor"]))).await, (429, "insufficient_quota".into()));
    assert_eq!(ask(&hoosh, &of(json!("none"))).await.0, 403);
    for token in [signer.token(json!({})), of(json!([])), of(json!([7]))] {
        assert_eq!(ask(&hoosh, &token).await, (401, "invalid_token".into()));
    }
    // And its owner sees these pools.
    let request = client().get(hoosh.url("/v1/tokens/pools")).bearer_auth(of(json!(["search"])));
    let pools = json_of(request.send().await.unwrap()).await;
    assert_eq!(
        (pools["pools"].as_array().unwrap().len(), &pools["pools"][0]["name"]),
        (1, &json!("team:search"))
    );
    assert!(pools["pools"][0]["settled"]["tokens"].as_u64() > Some(0), "{pools}");
}

#[test]
fn keys_come_by_https_or_from_this_machine() {
    for (url, extra, says) in [
        ("http://login.example.com/jwks.json", "", "auth.jwt_keys"),
        ("ftp://login.example.com/jwks.json", "", "auth.jwt_keys"),
        ("https://", "", "auth.jwt_keys"),
        ("https://login.example.com/jwks.json", "jwt_algorithms = [\"HS256\"]\n", "auth.jwt_algorithms"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hoosh.toml");
        std::fs::write(&file, format!("[auth]\njwt_keys = \"{url}\"\n{extra}")).unwrap();
        let output = testkit::finished(&["config", "check", "-c", file.to_str().unwrap()]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(64), "{url}: {said}");
        assert!(said.contains(says), "{said}");
    }
}
