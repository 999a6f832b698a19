use secrecy::ExposeSecret;

use super::*;

fn auth(folder: &tempfile::TempDir) -> Auth {
    let path = folder.path().join("keys.db");
    Auth { keys: Some(KeysFile { said: "keys.db".into(), path, pepper: None }), ..Auth::default() }
}

fn order(json: &str) -> Result<hoosh_budget::keys::KeyOrder, BadOrder> {
    serde_json::from_str::<Order>(json).unwrap().read(Timestamp::UNIX_EPOCH)
}

#[test]
fn store_and_pepper_are_made_and_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let auth = auth(&folder);
    let ring = open(&auth).unwrap().unwrap();
    let now = Timestamp::now();
    let issued = ring.create(order(r#"{"name":"ci"}"#).unwrap(), now).unwrap();
    let again = open(&auth).unwrap().unwrap();
    assert!(again.authenticate(issued.secret.expose_secret(), None, now).is_ok());
    let pepper = folder.path().join("keys.pepper");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(pepper.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&pepper, PermissionsExt::from_mode(0o644)).unwrap();
        let says = open(&auth).unwrap_err().to_string();
        assert!(says.ends_with("has mode 644, so that others can read it; `chmod 600` it"), "{says}");
    }
    // A pepper that was lost is not made anew, since it would open nothing.
    std::fs::remove_file(&pepper).unwrap();
    assert!(matches!(open(&auth), Err(KeysError::Keys(KeyError::OtherPepper))));
    assert!(!pepper.exists(), "and what was made for a try is gone");
}

#[test]
fn the_environments_pepper_needs_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut auth = auth(&folder);
    auth.keys.as_mut().unwrap().pepper = Some("x".repeat(32).into());
    assert!(open(&auth).is_ok());
    assert!(!folder.path().join("keys.pepper").exists());
    auth.keys.as_mut().unwrap().pepper = Some("short".into());
    assert!(open(&auth).unwrap_err().to_string().starts_with("`HOOSH_KEY_PEPPER`: a pepper of 5 bytes"));
}

#[test]
fn an_order_is_read_and_told_again() {
    let json = r#"{"name":"ci","expires":"90d","scopes":["inference","usage:read"],"models":["llama*"],"providers":["groq"],
        "endpoints":["/v1/chat/*"],"networks":["10.0.0.0/8"],"pools":["team:a"],"tier":"low","metadata":{"owner":"ada"},
        "limits":{"requests_per_minute":60,"tokens_per_day":1000,"concurrent":2}}"#;
    let order = order(json).unwrap();
    assert_eq!(order.expires.unwrap().to_string(), "1970-04-01T00:00:00Z");
    let folder = tempfile::tempdir().unwrap();
    let ring = open(&auth(&folder)).unwrap().unwrap();
    let issued = ring.create(order, Timestamp::UNIX_EPOCH).unwrap();
    let told = told(&issued.record, Timestamp::UNIX_EPOCH);
    let asked: Value = serde_json::from_str(json).unwrap();
    for (field, value) in asked.as_object().unwrap().iter().filter(|(field, _)| *field != "expires") {
        assert_eq!(&told[field], value, "{field}");
    }
    assert_eq!((&told["status"], &told["expires"]), (&"active".into(), &"1970-04-01T00:00:00Z".into()));
    assert!(!told.to_string().contains(issued.secret.expose_secret()));
}

#[test]
fn what_cannot_be_meant_is_refused_with_its_field() {
    let says = |json: &str| order(json).unwrap_err().to_string();
    for (json, expected) in [
        (
            r#"{"name":"a","expires":"soon"}"#,
            "`expires` is `soon`; write `90d`, `12h` or `2027-01-31T00:00:00Z`",
        ),
        (
            r#"{"name":"a","scopes":["root"]}"#,
            "`scopes` has `root`; there are `inference`, `usage:read` and `admin`",
        ),
        (
            r#"{"name":"a","limits":{"requests_per_minute":0}}"#,
            "`limits` has `requests_per_minute` of 0; revoke a key that may have none",
        ),
    ] {
        assert_eq!(says(json), expected);
    }
    assert!(says(r#"{"name":"a","scopes":[]}"#).starts_with("`scopes` is empty"));
    assert!(says(r#"{"name":"a","limits":{"rpm":1}}"#).starts_with("`limits` has `rpm`; there are"));
    assert!(says(r#"{"name":"a","tier":"vip"}"#).starts_with("`tier` is unknown"));
    assert!(serde_json::from_str::<Order>(r#"{"name":"a","modles":[]}"#).is_err());
}
