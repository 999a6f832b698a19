//! What it costs to find out who calls: `cargo run --release -p hoosh-budget --example keys_bench`.
//!
//! A key among 10,000, and the signed tokens that RFC 7515 gives as examples.

use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hoosh_budget::jwt::{JwkSet, JwtAlgorithm, JwtPolicy, JwtVerifier, KeysFrom};
use hoosh_budget::keys::{
    Change, Digest, Grant, KeyId, KeyOrder, KeyStore, Keyring, MemoryStore, Pepper, StoredKey,
};
use jiff::Timestamp;
use secrecy::ExposeSecret;

const KEYS: usize = 10_000;
const REPEATS: usize = 5;

/// RFC 7515, A.1 and A.3: a key, and a token without its payload.
const EXAMPLES: [(&str, &str, &str, &str); 2] = [
    (
        "HS256",
        r#"{"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}"#,
        "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9",
        "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
    ),
    (
        "ES256",
        r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#,
        "eyJhbGciOiJFUzI1NiJ9",
        "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
    ),
];
const PAYLOAD: &str =
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

/// The shortest of some repeats. Unit: ns per round.
fn best_ns(rounds: u32, mut round: impl FnMut()) -> f64 {
    let mut best = Duration::MAX;
    for _ in 0..REPEATS {
        let start = Instant::now();
        (0..rounds).for_each(|_| round());
        best = best.min(start.elapsed());
    }
    best.as_nanos() as f64 / f64::from(rounds)
}

fn main() -> Result<(), Box<dyn Error>> {
    let now = Timestamp::from_second(1_300_000_000)?;
    let store = Arc::new(MemoryStore::default());
    let pepper = Pepper::new(&[7; 32])?;
    let keys = Keyring::open(Arc::clone(&store) as Arc<dyn KeyStore>, pepper)?;
    let order = KeyOrder { name: "ci".into(), expires: None, grant: Grant::inference() };
    let issued = keys.create(order, now)?;
    for number in 1..KEYS {
        // Straight into the store: each `create` reads all anew.
        let mut record = issued.record.clone();
        (record.id, record.prefix) = (KeyId::new(format!("k_{number}")), format!("hoosh_{number:08}"));
        store.apply(&Change::Created(StoredKey { record, digest: Digest([0; 32]) }))?;
    }
    let start = Instant::now();
    keys.reload()?;
    println!("reload of {} keys {:>20.1} ms", keys.list().len(), start.elapsed().as_secs_f64() * 1e3);

    let key = issued.secret.expose_secret();
    let wrong = format!("{}x", &key[..key.len() - 1]);
    for (what, key) in [("a key", key), ("a wrong key", wrong.as_str())] {
        let ns = best_ns(100_000, || drop(black_box(keys.authenticate(black_box(key), None, now))));
        println!("{what:<20} {ns:>8.0} ns");
    }
    for (name, jwk, header, signature) in EXAMPLES {
        let keys = JwkSet::parse(jwk.as_bytes(), KeysFrom::Secret)?;
        let verifier = JwtVerifier::new(keys, JwtPolicy::signed_by(JwtAlgorithm::ALL))?;
        let token = format!("{header}.{PAYLOAD}.{signature}");
        verifier.verify(&token, now)?;
        let ns = best_ns(2_000, || drop(black_box(verifier.verify(black_box(&token), now))));
        println!("a token by {name:<9} {ns:>8.0} ns");
    }
    Ok(())
}
