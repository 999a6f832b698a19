use hoosh_core::limits::{JWKS_BYTES_MAX, JWKS_KEYS_MAX};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde_json::json;

use super::*;
use crate::keys::{Grant, Scope, Scopes};

// === examples of the RFCs ===

/// RFC 7515, A.1.1: the payload of A.1 to A.3.
const PAYLOAD: &str =
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

/// When it ends.
const PAYLOAD_EXPIRES: i64 = 1_300_819_380;

/// RFC 7515, A.1.1; RFC 7517, A.3 has the same key with a name.
const OCT: &str = r#"{"kty":"oct",
    "k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}"#;

const HS256_HEADER: &str = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9";
const HS256_SIGNATURE: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

/// RFC 7515, A.2.1.
const RSA: &str = r#"{"kty":"RSA",
    "n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
    "e":"AQAB"}"#;

const RS256_HEADER: &str = "eyJhbGciOiJSUzI1NiJ9";
const RS256_SIGNATURE: &str = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";

/// RFC 7515, A.3.1.
const EC: &str = r#"{"kty":"EC","crv":"P-256",
    "x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;

const ES256_HEADER: &str = "eyJhbGciOiJFUzI1NiJ9";
const ES256_SIGNATURE: &str =
    "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";

/// RFC 8037, A.2, and the private part of it from A.1.
const OKP: &str = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
const OKP_PRIVATE: &str = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";

/// RFC 8037, A.4: its payload is no JSON.
const EDDSA: &str = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn policy() -> JwtPolicy {
    JwtPolicy { leeway: Duration::ZERO, ..JwtPolicy::signed_by(JwtAlgorithm::ALL) }
}

fn verifier_of(jwk: &str) -> JwtVerifier {
    JwtVerifier::new(JwkSet::parse(jwk.as_bytes(), KeysFrom::Secret).unwrap(), policy()).unwrap()
}

/// Each of the examples with its key.
fn examples() -> [(&'static str, String); 3] {
    let token = |header, signature| format!("{header}.{PAYLOAD}.{signature}");
    [
        (OCT, token(HS256_HEADER, HS256_SIGNATURE)),
        (RSA, token(RS256_HEADER, RS256_SIGNATURE)),
        (EC, token(ES256_HEADER, ES256_SIGNATURE)),
    ]
}

#[test]
fn the_examples_of_rfc_7515_are_verified() {
    for (jwk, token) in examples() {
        let claims = verifier_of(jwk).verify(&token, at(PAYLOAD_EXPIRES - 1)).unwrap();
        assert_eq!((claims.issuer(), claims.subject()), (Some("joe"), None));
        assert_eq!(claims.expires(), Some(at(PAYLOAD_EXPIRES)));
        assert_eq!(claims.json()["http://example.com/is_root"], true);
    }
}

#[test]
fn the_example_of_rfc_8037_is_verified() {
    // Its payload is a sentence: what is wrong with that is only found behind the signature.
    let verifier = verifier_of(OKP);
    let error = verifier.verify(EDDSA, at(0)).unwrap_err();
    assert_eq!(error.to_string(), "the token's payload is no JSON object");
    let other = EDDSA.replace(".RXhh", ".RXhi");
    assert_eq!(verifier.verify(&other, at(0)), Err(JwtError::Signature));
}

#[test]
fn hmac_with_longer_hashes_is_what_another_implementation_makes_it() {
    // By Python's hmac, with the bytes 0 to 63 as the secret.
    let secret: Vec<u8> = (0..64).collect();
    let payload = "eyJzdWIiOiJhbGljZSIsImV4cCI6MjAwMDAwMDAwMH0";
    for (algorithm, header, signature) in [
        (
            JwtAlgorithm::Hs256,
            "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9",
            "s4sp6lanaji0uHPBs7X0bMIwN3NuvfBBzUSHaj0OHuo",
        ),
        (
            JwtAlgorithm::Hs384,
            "eyJhbGciOiJIUzM4NCIsInR5cCI6IkpXVCJ9",
            "E6qcihq-Heg8cvw8rXAHUNLJfHqXKPZNmzwRryyQTSqSoL94NLHa9t5-obe2nclJ",
        ),
        (
            JwtAlgorithm::Hs512,
            "eyJhbGciOiJIUzUxMiIsInR5cCI6IkpXVCJ9",
            "1H2Mi6zQnMeTTMUnTqTF7zobfoD2EuIc4N6nHLQQ4WDyOREin-ZY_sc-bRY3PkDiXMM48i975Bh2EGTW6HIDug",
        ),
    ] {
        let token = format!("{header}.{payload}.{signature}");
        let keys = JwkSet::of_secret(&secret, algorithm).unwrap();
        let claims = JwtVerifier::new(keys, policy()).unwrap().verify(&token, at(1_999_999_999)).unwrap();
        assert_eq!(claims.subject(), Some("alice"));
        // One secret of a set is for all three, and of 63 bytes not for the longest.
        let jwk =
            |length: usize| json!({"kty": "oct", "k": BASE64_URL_SAFE_NO_PAD.encode(&secret[..length])});
        assert!(verifier_of(&jwk(64).to_string()).verify(&token, at(0)).is_ok());
        let of_63 = verifier_of(&jwk(63).to_string()).verify(&token, at(0)).unwrap_err();
        let is_too_short = algorithm == JwtAlgorithm::Hs512;
        assert_eq!(of_63, if is_too_short { JwtError::UnknownKey { id: None } } else { JwtError::Signature });
    }
}

#[test]
fn any_other_letter_in_a_token_is_noticed() {
    let eddsa = Ed25519::of_the_rfc();
    let mut all = examples().to_vec();
    all.push((OKP, eddsa.token(&json!({"alg": "EdDSA"}), &json!({"exp": PAYLOAD_EXPIRES}))));
    for (jwk, token) in all {
        let verifier = verifier_of(jwk);
        assert!(verifier.verify(&token, at(0)).is_ok());
        for place in 0..token.len() {
            let mut other = token.clone().into_bytes();
            other[place] = if other[place] == b'A' { b'B' } else { b'A' };
            let other = String::from_utf8(other).unwrap();
            assert!(verifier.verify(&other, at(0)).is_err(), "{other}");
            assert!(verifier.verify(&token[..place], at(0)).is_err());
        }
        for more in ["=", "A", ".", ".A"] {
            assert!(verifier.verify(&format!("{token}{more}"), at(0)).is_err());
        }
    }
}

// === tokens of our own ===

struct Ed25519(Ed25519KeyPair);

impl Ed25519 {
    fn of_the_rfc() -> Self {
        let seed = BASE64_URL_SAFE_NO_PAD.decode(OKP_PRIVATE).unwrap();
        Self(Ed25519KeyPair::from_seed_unchecked(&seed).unwrap())
    }

    fn token(&self, header: &Value, claims: &Value) -> String {
        signed(header, claims, |bytes| self.0.sign(bytes).as_ref().to_vec())
    }
}

fn signed(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let [header, claims] = [header, claims].map(|json| BASE64_URL_SAFE_NO_PAD.encode(json.to_string()));
    let signature = BASE64_URL_SAFE_NO_PAD.encode(sign(format!("{header}.{claims}").as_bytes()));
    format!("{header}.{claims}.{signature}")
}

/// A token of RFC 8037's key with these claims, believed at 1,000 s or not.
fn believed(policy: JwtPolicy, claims: &Value) -> Result<Claims, JwtError> {
    let keys = JwkSet::parse(OKP.as_bytes(), KeysFrom::Public).unwrap();
    let token = Ed25519::of_the_rfc().token(&json!({"alg": "EdDSA", "typ": "JWT"}), claims);
    JwtVerifier::new(keys, policy).unwrap().verify(&token, at(1_000))
}

#[test]
fn no_signature_is_no_signature() {
    let claims = json!({"sub": "admin", "exp": 2_000});
    for name in ["none", "None", "NONE", "", "HS256 ", "hs256", "RS512", "ES256K"] {
        let token = signed(&json!({"alg": name}), &claims, |_| Vec::new());
        for jwk in [OCT, RSA, EC, OKP] {
            assert_eq!(
                verifier_of(jwk).verify(&token, at(1_000)),
                Err(JwtError::Algorithm { algorithm: name.to_owned() })
            );
        }
    }
    // Nor with a good one in the list, and nothing behind the second dot.
    for (jwk, token) in examples() {
        let (unsigned, _) = token.rsplit_once('.').unwrap();
        assert_eq!(verifier_of(jwk).verify(&format!("{unsigned}."), at(0)), Err(JwtError::Signature));
        assert!(matches!(verifier_of(jwk).verify(unsigned, at(0)), Err(JwtError::Malformed { .. })));
    }
}

#[test]
fn a_public_key_is_never_taken_for_a_secret() {
    // Goal: who knows the public key signs by HMAC with all that it may look like, and gets in nowhere.
    let wire: Value = serde_json::from_str(RSA).unwrap();
    let modulus = BASE64_URL_SAFE_NO_PAD.decode(wire["n"].as_str().unwrap()).unwrap();
    let okp = BASE64_URL_SAFE_NO_PAD.decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").unwrap();
    let claims = json!({"sub": "admin", "exp": 2_000});
    for (jwk, secret) in [(RSA, RSA.as_bytes()), (RSA, &modulus), (OKP, &okp), (OKP, b"")] {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
        let sign = |bytes: &[u8]| ring::hmac::sign(&key, bytes).as_ref().to_vec();
        let token = signed(&json!({"alg": "HS256"}), &claims, sign);
        assert_eq!(verifier_of(jwk).verify(&token, at(1_000)), Err(JwtError::UnknownKey { id: None }));
        // With a real secret beside it, that one is asked, and it was another.
        let both = format!(r#"{{"keys":[{jwk},{OCT}]}}"#);
        assert_eq!(verifier_of(&both).verify(&token, at(1_000)), Err(JwtError::Signature));
    }
    // A secret that is published is none.
    let both = format!(r#"{{"keys":[{OCT},{RSA}]}}"#);
    let keys = JwkSet::parse(both.as_bytes(), KeysFrom::Public).unwrap();
    assert_eq!(keys.unusable(), ["key 0 is a secret that everybody can read (`kty` is `oct`)"]);
    let verifier = JwtVerifier::new(keys, policy()).unwrap();
    let [(_, by_secret), (_, by_rsa), _] = examples();
    assert_eq!(verifier.verify(&by_secret, at(0)), Err(JwtError::UnknownKey { id: None }));
    assert!(verifier.verify(&by_rsa, at(0)).is_ok());
}

#[test]
fn only_the_algorithms_of_the_policy_are_taken() {
    for (jwk, token) in examples() {
        let keys = JwkSet::parse(jwk.as_bytes(), KeysFrom::Secret).unwrap();
        let verifier = JwtVerifier::new(keys, JwtPolicy::signed_by([JwtAlgorithm::EdDsa])).unwrap();
        assert!(matches!(verifier.verify(&token, at(0)), Err(JwtError::Algorithm { .. })));
    }
    let keys = || JwkSet::parse(OKP.as_bytes(), KeysFrom::Public).unwrap();
    let none = JwtVerifier::new(keys(), JwtPolicy::signed_by([])).unwrap_err();
    assert_eq!(none, InvalidPolicy::NoAlgorithm);
    let leeway = JwtPolicy { leeway: Duration::from_secs(301), ..policy() };
    assert_eq!(
        JwtVerifier::new(keys(), leeway).unwrap_err().to_string(),
        "a leeway of 301 s is too long; at most 300 s make sense"
    );
    assert_eq!("Ed25519".parse(), Ok(JwtAlgorithm::EdDsa));
    assert!("PS256".parse::<JwtAlgorithm>().is_err());
}

#[test]
fn a_header_with_more_than_is_known_is_refused() {
    let verifier = verifier_of(OKP);
    let key = Ed25519::of_the_rfc();
    let take =
        |header: Value| verifier.verify(&key.token(&header, &json!({"exp": 2_000})), at(1_000)).map(drop);
    for typ in ["JWT", "jwt", "at+jwt", "application/at+JWT"] {
        assert_eq!(take(json!({"alg": "EdDSA", "typ": typ})), Ok(()));
    }
    let other = take(json!({"alg": "EdDSA", "typ": "logout+jwt"})).unwrap_err();
    assert_eq!(other.to_string(), "the token is of type \"logout+jwt\"; `JWT` and `at+jwt` are taken");
    let critical = take(json!({"alg": "EdDSA", "crit": ["b64"], "b64": false})).unwrap_err();
    assert!(matches!(critical, JwtError::Malformed { part: "header", .. }), "{critical}");
    // What a token says of its own key is not looked at.
    let own = Ed25519(Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap());
    let x = BASE64_URL_SAFE_NO_PAD.encode(own.0.public_key());
    let header = json!({"alg": "EdDSA", "jwk": {"kty": "OKP", "crv": "Ed25519", "x": x}, "jku": "https://evil.example"});
    let token = own.token(&header, &json!({"exp": 2_000}));
    assert_eq!(verifier.verify(&token, at(1_000)), Err(JwtError::Signature));
}

#[test]
fn what_is_no_token_is_said_to_be_none() {
    let verifier = verifier_of(OKP);
    let error = |token: &str| verifier.verify(token, at(0)).unwrap_err().to_string();
    let none = "the token's form is none of a signed token, which has three parts with dots between them";
    assert_eq!(error(""), none);
    assert_eq!(error("sk-abc"), none);
    assert_eq!(error("a.b"), none);
    assert_eq!(
        error("a.b.c.d.e"),
        "the token's form is none of a signed token; encrypted ones are not taken"
    );
    assert_eq!(error("!.b.c"), "the token's header is not in base64url");
    assert_eq!(error("e30.e30.AA"), "the token's header is no JSON object with a text `alg`");
    let twice = BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"none","alg":"EdDSA"}"#);
    assert_eq!(error(&format!("{twice}.e30.AA")), "the token's header is no JSON object with a text `alg`");
    assert_eq!(
        verifier.verify(&"a".repeat(JWT_BYTES_MAX + 1), at(0)),
        Err(JwtError::TooLong { bytes: JWT_BYTES_MAX + 1 })
    );
}

#[test]
fn times_are_compared_with_leeway() {
    let minute = JwtPolicy { leeway: Duration::from_secs(60), ..policy() };
    let ok = |policy: &JwtPolicy, claims: Value| believed(policy.clone(), &claims).map(drop);
    // It is 1,000 s. "On or after" `exp` it is not to be taken (RFC 7519, 4.1.4).
    assert_eq!(ok(&policy(), json!({"exp": 1_001})), Ok(()));
    assert_eq!(ok(&policy(), json!({"exp": 1_000})), Err(JwtError::Expired { at: at(1_000) }));
    assert_eq!(ok(&policy(), json!({"exp": 1_000.9})), Err(JwtError::Expired { at: at(1_000) }));
    assert_eq!(ok(&minute, json!({"exp": 941})), Ok(()));
    assert_eq!(ok(&minute, json!({"exp": 940})), Err(JwtError::Expired { at: at(940) }));
    for claim in ["nbf", "iat"] {
        let with = |time: i64| json!({"exp": 9_999, claim: time});
        assert_eq!(ok(&policy(), with(1_000)), Ok(()));
        assert_eq!(ok(&policy(), with(1_001)), Err(JwtError::NotYet { claim, at: at(1_001) }));
        assert_eq!(ok(&minute, with(1_060)), Ok(()));
        assert_eq!(ok(&minute, with(1_061)), Err(JwtError::NotYet { claim, at: at(1_061) }));
    }
    assert_eq!(
        ok(&policy(), json!({"sub": "a"})).unwrap_err().to_string(),
        "the token's claim `exp` is missing; only tokens that end are taken"
    );
    assert_eq!(ok(&JwtPolicy { requires_expiry: false, ..policy() }, json!({"sub": "a"})), Ok(()));
    assert_eq!(
        ok(&policy(), json!({"exp": "2000"})).unwrap_err().to_string(),
        "the token's claim `exp` is no number of seconds since 1970"
    );
    // Beyond all times.
    for (exp, is_fine) in [
        (json!(1e300), true),
        (json!(i64::MAX), true),
        (json!(u64::MAX), true),
        (json!(-1e300), false),
        (json!(i64::MIN), false),
    ] {
        assert_eq!(ok(&minute, json!({"exp": exp})).is_ok(), is_fine, "{exp}");
    }
    // Of a claim that comes twice the last one counts, for the check as for who asks later.
    let key = Ed25519::of_the_rfc();
    let text = r#"{"exp":2000,"sub":"admin","exp":10,"sub":"alice"}"#;
    let head = format!(
        "{}.{}",
        BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"EdDSA"}"#),
        BASE64_URL_SAFE_NO_PAD.encode(text)
    );
    let token = format!("{head}.{}", BASE64_URL_SAFE_NO_PAD.encode(key.0.sign(head.as_bytes())));
    assert_eq!(verifier_of(OKP).verify(&token, at(1_000)), Err(JwtError::Expired { at: at(10) }));
    assert_eq!(verifier_of(OKP).verify(&token, at(1)).unwrap().subject(), Some("alice"));
}

#[test]
fn issuer_and_audience_are_checked() {
    let ours = JwtPolicy {
        issuers: vec!["https://a.example".into(), "https://b.example".into()],
        audiences: vec!["hoosh".into()],
        ..policy()
    };
    let ok = |policy: &JwtPolicy, mut claims: Value| {
        claims["exp"] = json!(2_000);
        believed(policy.clone(), &claims).map(drop)
    };
    assert_eq!(ok(&ours, json!({"iss": "https://b.example", "aud": "hoosh"})), Ok(()));
    assert_eq!(ok(&ours, json!({"iss": "https://b.example", "aud": ["other", "hoosh"]})), Ok(()));
    assert_eq!(ok(&ours, json!({"iss": "https://b.example/", "aud": "hoosh"})), Err(JwtError::Issuer));
    assert_eq!(ok(&ours, json!({"aud": "hoosh"})), Err(JwtError::Issuer));
    let of_b = |aud: Value| json!({"iss": "https://b.example", "aud": aud});
    assert_eq!(ok(&ours, of_b(json!("other"))), Err(JwtError::Audience));
    assert_eq!(ok(&ours, of_b(json!([]))), Err(JwtError::Audience));
    assert_eq!(ok(&ours, json!({"iss": "https://b.example"})), Err(JwtError::Audience));
    assert!(matches!(ok(&ours, of_b(json!(["hoosh", 1]))), Err(JwtError::Claim { .. })));
    assert!(matches!(ok(&policy(), json!({"sub": 1})), Err(JwtError::Claim { .. })));
    // Nobody in particular: a token for somebody else is not for us (RFC 7519, 4.1.3).
    assert_eq!(ok(&policy(), json!({"iss": "anybody"})), Ok(()));
    assert_eq!(ok(&policy(), json!({"aud": "other"})), Err(JwtError::Audience));
}

// === keys ===

#[test]
fn the_key_is_the_one_that_the_token_names() {
    let named = |seed: u8| {
        let key = Ed25519(Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap());
        let x = BASE64_URL_SAFE_NO_PAD.encode(key.0.public_key());
        (key, json!({"kty": "OKP", "crv": "Ed25519", "kid": format!("key-{seed}"), "x": x}))
    };
    let ((one, one_jwk), (two, two_jwk)) = (named(1), named(2));
    let verifier = verifier_of(&json!({"keys": [one_jwk, two_jwk]}).to_string());
    let take = |key: &Ed25519, kid: Option<&str>| {
        let mut header = json!({"alg": "EdDSA"});
        if let Some(kid) = kid {
            header["kid"] = json!(kid);
        }
        verifier.verify(&key.token(&header, &json!({"exp": 2_000})), at(1_000)).map(drop)
    };
    assert_eq!(take(&one, Some("key-1")), Ok(()));
    assert_eq!(take(&two, Some("key-2")), Ok(()));
    assert_eq!(take(&one, Some("key-2")), Err(JwtError::Signature), "a named key is the only one asked");
    let unknown = take(&one, Some("key-3")).unwrap_err();
    assert_eq!(unknown.to_string(), "no key is known that the token could be signed with (kid \"key-3\")");
    assert_eq!((take(&one, None), take(&two, None)), (Ok(()), Ok(())), "without a name all are tried");

    // A lone key of a file often has no name, whatever the tokens say.
    assert!(
        verifier_of(OKP)
            .verify(
                &Ed25519::of_the_rfc().token(&json!({"alg": "EdDSA", "kid": "x"}), &json!({"exp": 2_000})),
                at(1_000)
            )
            .is_ok()
    );

    // Of many without a name only some are tried.
    let (last, last_jwk) = named(200);
    let mut keys: Vec<Value> = (1..=JWT_KEYS_TRIED_MAX as u8).map(|seed| named(seed).1).collect();
    keys.push(last_jwk);
    let verifier = verifier
        .with_keys(JwkSet::parse(json!({"keys": keys}).to_string().as_bytes(), KeysFrom::Public).unwrap());
    let token = |header: Value| last.token(&header, &json!({"exp": 2_000}));
    assert_eq!(verifier.verify(&token(json!({"alg": "EdDSA"})), at(1_000)), Err(JwtError::Signature));
    assert!(verifier.verify(&token(json!({"alg": "EdDSA", "kid": "key-200"})), at(1_000)).is_ok());
}

#[test]
fn the_sets_of_rfc_7517_are_read() {
    // A.1: the EC key is for encryption.
    let public = r#"{"keys":[
        {"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
         "y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","use":"enc","kid":"1"},
        {"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
         "e":"AQAB","alg":"RS256","kid":"2011-04-29"}]}"#;
    let keys = JwkSet::parse(public.as_bytes(), KeysFrom::Public).unwrap();
    assert_eq!(
        (keys.count(), keys.unusable()),
        (1, &["key 0 (kid \"1\") is not for signatures (`use`)".to_owned()][..])
    );
    // A.3: one of the secrets is for wrapping keys.
    let secret = format!(
        r#"{{"keys":[{{"kty":"oct","alg":"A128KW","k":"GawgguFyGrWKav7AX4VKUg"}},
            {}"kid":"HMAC key used in JWS spec Appendix A.1 example"}}]}}"#,
        OCT.replace('}', ",")
    );
    let keys = JwkSet::parse(secret.as_bytes(), KeysFrom::Secret).unwrap();
    assert_eq!(keys.unusable(), ["key 0 is for \"A128KW\", which tokens here are not signed with"]);
    let [(_, token), ..] = examples();
    assert!(JwtVerifier::new(keys, policy()).unwrap().verify(&token, at(0)).is_ok());
}

#[test]
fn a_key_that_cannot_be_used_is_passed_over_and_says_why() {
    let why = |jwk: Value| match JwkSet::parse(jwk.to_string().as_bytes(), KeysFrom::Secret) {
        Err(NoKey::AllUnusable(why)) => why.join("; "),
        other => panic!("{other:?}"),
    };
    let base = |json: &str| serde_json::from_str::<Value>(json).unwrap();
    let with = |json: &str, field: &str, value: Value| {
        let mut jwk = base(json);
        jwk[field] = value;
        jwk
    };
    assert_eq!(
        why(json!({"kty": "EC", "crv": "P-521", "x": "AA", "y": "AA"})),
        "key 0 is of a kind that is not used here (\"EC\" \"P-521\")"
    );
    assert_eq!(why(with(OKP, "x", json!("AAAA"))), "key 0 has a `x` of 3 bytes in place of 32");
    assert_eq!(why(with(EC, "y", json!("=="))), "key 0 has a `y` that is not in base64url");
    assert_eq!(why(with(EC, "y", Value::Null)), "key 0 has no `y`");
    assert_eq!(
        why(with(RSA, "n", json!(BASE64_URL_SAFE_NO_PAD.encode([255; 128])))),
        "key 0 is an RSA key of 1024 bits; 2,048 to 8,192 are taken"
    );
    assert_eq!(why(with(RSA, "alg", json!("HS256"))), "key 0 is for HS256, which takes another kind of key");
    assert_eq!(why(with(RSA, "key_ops", json!(["encrypt"]))), "key 0 is not for verifying (`key_ops`)");
    assert_eq!(why(with(OCT, "k", json!("c2hvcnQ"))), "key 0 has a `k` of 5 bytes, which is too short");
    assert_eq!(why(with(OKP, "kid", json!(7))), "key 0 is no JSON object of texts with `kty`");
    assert_eq!(
        why(json!({"keys": [1, {"kty": "X"}]})),
        "key 0 is no JSON object of texts with `kty`; key 1 is of a kind that is not used here (\"X\")"
    );
    let error = |text: &[u8]| JwkSet::parse(text, KeysFrom::Public).unwrap_err().to_string();
    assert_eq!(error(br#"{"keys":[]}"#), "none of the keys can be used: the list is empty");
    for text in [&b"{}"[..], b"[]", b"", b"\xff", br#"{"keys":{}}"#] {
        assert_eq!(error(text), "the keys are no JSON object with a list `keys` (RFC 7517, 5)");
    }
    assert_eq!(error(&vec![b' '; JWKS_BYTES_MAX + 1]), "the keys have 262145 bytes; at most 262144 are read");
    let many = json!({"keys": vec![base(OKP); JWKS_KEYS_MAX + 1]}).to_string();
    let many = JwkSet::parse(many.as_bytes(), KeysFrom::Public).unwrap();
    assert_eq!((many.count(), many.unusable().len()), (JWKS_KEYS_MAX, 1));
    // A zero before a number is not one more byte of it.
    let mut n = vec![0];
    n.extend(BASE64_URL_SAFE_NO_PAD.decode(base(RSA)["n"].as_str().unwrap()).unwrap());
    let [_, (_, token), _] = examples();
    let verifier = verifier_of(&with(RSA, "n", json!(BASE64_URL_SAFE_NO_PAD.encode(n))).to_string());
    assert!(verifier.verify(&token, at(0)).is_ok());
    let weak = JwkSet::of_secret(&[1; 31], JwtAlgorithm::Hs256).unwrap_err();
    assert_eq!(
        weak.to_string(),
        "a secret of 31 bytes is too short for HS256, which needs 32 (RFC 7518, 3.2)"
    );
    assert!(JwkSet::of_secret(&[1; 64], JwtAlgorithm::Rs256).is_err());
}

#[test]
fn no_secret_can_be_printed() {
    let keys = JwkSet::parse(OCT.as_bytes(), KeysFrom::Secret).unwrap();
    let text = format!("{:?}", JwtVerifier::new(keys, policy()).unwrap());
    assert!(text.contains("Secret(…)") && !text.contains("AyM1") && !text.contains("35, 53"), "{text}");
    // A broken key is not quoted either.
    let broken = OCT.replace("AyM1SysP", "!!secret!!");
    let error = JwkSet::parse(broken.as_bytes(), KeysFrom::Secret).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("secret!!"));
}

#[test]
fn a_key_made_today_signs_for_p_256_as_the_example_did() {
    let (random, algorithm) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
    let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap();
    let point = pair.public_key().as_ref();
    let [x, y] = [&point[1..33], &point[33..]].map(|number| BASE64_URL_SAFE_NO_PAD.encode(number));
    let verifier = verifier_of(
        &json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "x": x, "y": y}).to_string(),
    );
    let sign = |bytes: &[u8]| pair.sign(&random, bytes).unwrap().as_ref().to_vec();
    let token = signed(&json!({"alg": "ES256"}), &json!({"sub": "alice", "exp": 2_000}), sign);
    assert_eq!(verifier.verify(&token, at(1_000)).unwrap().subject(), Some("alice"));
    // CVE-2022-21449: zeros for both numbers.
    let zeros = signed(&json!({"alg": "ES256"}), &json!({"exp": 2_000}), |_| vec![0; 64]);
    assert_eq!(verifier.verify(&zeros, at(1_000)), Err(JwtError::Signature));
}

// === who it is ===

fn claims(mut json: Value) -> Claims {
    json["exp"] = json!(2_000);
    believed(policy(), &json).unwrap()
}

#[test]
fn claims_say_who_calls_and_what_that_one_may_do() {
    let mapping = ClaimMapping {
        pools: vec![
            PoolClaim { path: ClaimPath::new("/org/teams"), prefix: "team:".into(), is_optional: false },
            PoolClaim {
                path: ClaimPath::new("https://example.com/cost"),
                prefix: "cost:".into(),
                is_optional: true,
            },
        ],
        scopes: Some(ClaimPath::new("scope")),
        scope_prefix: "hoosh:".into(),
        models: Some(ClaimPath::new("models")),
        ..ClaimMapping::to(Grant {
            scopes: Scopes::of([Scope::Inference, Scope::UsageRead]),
            pools: vec!["organisation:all".into()],
            ..Grant::default()
        })
    };
    let whole = json!({
        "sub": "alice",
        "org": {"teams": ["search", "ads"]},
        "https://example.com/cost": "42",
        "scope": "openid hoosh:inference hoosh:admin usage:read hoosh:everything",
        "models": ["llama*", "gpt-4o"],
    });
    let identity = mapping.identify(&claims(whole.clone())).unwrap();
    assert_eq!((identity.caller.as_str(), identity.expires), ("jwt:alice", Some(at(2_000))));
    assert_eq!(identity.grant.pools, ["organisation:all", "team:search", "team:ads", "cost:42"]);
    assert_eq!(
        identity.grant.scopes,
        Scopes::of([Scope::Inference]),
        "admin is not what such a token can be"
    );
    assert!(identity.grant.allows_model("llama3") && !identity.grant.allows_model("claude"));

    let without = |field: &str| {
        let mut json = whole.clone();
        json.as_object_mut().unwrap().remove(field);
        mapping.identify(&claims(json))
    };
    let error = |field: &str| without(field).unwrap_err().to_string();
    assert_eq!(error("sub"), "the token's claim `sub` is missing; it says who calls");
    assert_eq!(error("org"), "the token's claim `/org/teams` is missing; it says which pool is charged");
    assert_eq!(
        error("models"),
        "the token's claim `models` is missing or empty; it says which models are allowed"
    );
    assert_eq!(without("https://example.com/cost").unwrap().grant.pools.len(), 3);
    assert!(without("scope").unwrap().grant.scopes.is_empty(), "nothing is said, so nothing is allowed");

    let with = |field: &str, value: Value| {
        let mut json = whole.clone();
        json[field] = value;
        mapping.identify(&claims(json))
    };
    assert_eq!(
        with("scope", json!(["hoosh:usage:read"])).unwrap().grant.scopes,
        Scopes::of([Scope::UsageRead])
    );
    for (field, value) in [
        ("sub", json!("")),
        ("sub", json!("a\nb")),
        ("sub", json!("a".repeat(300))),
        ("org", json!({"teams": [""]})),
        ("org", json!({"teams": []})),
        ("org", json!({"teams": ["a\u{0}"]})),
        ("org", json!({"teams": vec!["a"; 300]})),
        ("org", json!({"teams": {"a": 1}})),
        ("models", json!([])),
        ("models", json!(["gpt-[4]"])),
        ("scope", json!(7)),
    ] {
        assert!(matches!(with(field, value.clone()), Err(JwtError::Claim { .. })), "{field}: {value}");
    }
}

#[test]
fn without_a_mapping_all_tokens_may_do_the_same() {
    let mapping =
        ClaimMapping { caller: ClaimPath::new("client_id"), ..ClaimMapping::to(Grant::inference()) };
    let identity = mapping.identify(&claims(json!({"client_id": "ci", "scope": "admin"}))).unwrap();
    assert_eq!((identity.caller.as_str(), identity.grant), ("jwt:ci", Grant::inference()));
    let number = mapping.identify(&claims(json!({"client_id": 7}))).unwrap_err();
    assert_eq!(number.to_string(), "the token's claim `client_id` is no text");
}
