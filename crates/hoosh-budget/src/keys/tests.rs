use hoosh_core::limits::KEYS_MAX;
use secrecy::ExposeSecret;

use super::*;

const DAY: i64 = SECONDS_PER_DAY;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_900_000_000 + second).unwrap()
}

fn pepper() -> Pepper {
    Pepper::new(&[7; 32]).unwrap()
}

fn order(name: &str) -> KeyOrder {
    KeyOrder { name: name.to_owned(), expires: None, grant: Grant::inference() }
}

fn open(store: &Arc<dyn KeyStore>) -> Keyring {
    Keyring::open(Arc::clone(store), pepper()).unwrap()
}

/// A check for each kind of store.
fn on_each_store(check: impl Fn(Arc<dyn KeyStore>)) {
    check(Arc::new(MemoryStore::default()));
    #[cfg(feature = "sqlite")]
    {
        let folder = tempfile::tempdir().unwrap();
        check(Arc::new(FileStore::open(&folder.path().join("keys.db")).unwrap()));
    }
}

#[test]
fn a_key_is_shown_once_and_lets_its_owner_in() {
    on_each_store(|store| {
        let keys = open(&store);
        assert!(keys.is_empty());
        let issued = keys.create(order("ci"), at(0)).unwrap();
        let secret = issued.secret.expose_secret();
        assert!(is_key(secret) && secret.starts_with(&issued.record.prefix));

        let caller = keys.authenticate(secret, None, at(1)).unwrap();
        assert_eq!((*caller).clone(), issued.record);
        assert_eq!(caller.booked_as, caller.id);
        // One letter of the secret, or of the prefix, is another.
        let mut other = secret.to_owned();
        let last = if other.pop() == Some('x') { 'y' } else { 'x' };
        other.push(last);
        assert_eq!(keys.authenticate(&other, None, at(1)), Err(KeyDenied::Unknown));
        let first = if secret.as_bytes()[6] == b'x' { "y" } else { "x" };
        let other = format!("hoosh_{first}{}", &secret[7..]);
        assert_eq!(keys.authenticate(&other, None, at(1)), Err(KeyDenied::Unknown));
        assert_eq!(keys.authenticate("sk-anything", None, at(1)), Err(KeyDenied::Unknown));

        // Nothing that can be printed holds more than the prefix.
        let hidden = &secret[15..];
        let (stored, text) = (store.load().unwrap().1, format!("{issued:?} {keys:?} {store:?}"));
        assert!(!format!("{text} {stored:?} {:?}", pepper()).contains(hidden), "{text}");
    });
}

#[test]
fn another_process_sees_a_key_after_a_reload() {
    on_each_store(|store| {
        let (server, tool) = (open(&store), open(&store));
        let issued = tool.create(order("ci"), at(0)).unwrap();
        let secret = issued.secret.expose_secret();
        assert_eq!(server.authenticate(secret, None, at(1)), Err(KeyDenied::Unknown));
        assert!(server.reload().unwrap());
        assert!(!server.reload().unwrap(), "nothing is new");
        assert!(server.authenticate(secret, None, at(1)).is_ok());
        tool.revoke(&issued.record.id, at(2)).unwrap();
        assert!(server.reload().unwrap());
        assert!(matches!(server.authenticate(secret, None, at(3)), Err(KeyDenied::Revoked { .. })));
    });
}

#[test]
fn a_revoked_key_stays_so() {
    on_each_store(|store| {
        let keys = open(&store);
        let issued = keys.create(order("ci"), at(0)).unwrap();
        let id = issued.record.id.clone();
        assert!(matches!(keys.remove(&id, at(1)), Err(KeyError::InUse(_))));
        assert_eq!(keys.revoke(&id, at(5)).unwrap().revoked, Some(at(5)));
        assert_eq!(keys.revoke(&id, at(9)).unwrap().revoked, Some(at(5)), "the first time stays");
        let denied = keys.authenticate(issued.secret.expose_secret(), None, at(6)).unwrap_err();
        let prefix = issued.record.prefix.clone();
        assert_eq!(denied, KeyDenied::Revoked { prefix: prefix.clone(), at: at(5) });
        assert_eq!(
            denied.to_string(),
            format!("the key `{prefix}` was revoked on 2030-03-17T17:46:45Z; ask for a new one")
        );
        let wrong = format!("{prefix}_{}", "a".repeat(43));
        assert_eq!(keys.authenticate(&wrong, None, at(6)), Err(KeyDenied::Unknown), "only the owner is told");
        let again = keys.rotate(&id, Duration::ZERO, None, at(6)).unwrap_err();
        assert!(matches!(again, KeyError::Store(StoreError::Ended(_))), "{again}");

        assert_eq!(keys.list().len(), 1);
        assert_eq!(keys.remove(&id, at(6)).unwrap().id, id);
        assert!(keys.list().is_empty());
        let unknown = keys.revoke(&id, at(6)).unwrap_err();
        assert_eq!(unknown.to_string(), format!("there is no key `{id}`; `hoosh keys list` shows all"));
    });
}

#[test]
fn an_expired_key_lets_nobody_in() {
    on_each_store(|store| {
        let keys = open(&store);
        let late = KeyOrder { expires: Some(at(0)), ..order("late") };
        let error = keys.create(late, at(0)).unwrap_err();
        assert_eq!(error.to_string(), "`expires` is in the past; the key could never be used");
        let issued = keys.create(KeyOrder { expires: Some(at(10)), ..order("ci") }, at(0)).unwrap();
        let secret = issued.secret.expose_secret();
        assert!(keys.authenticate(secret, None, at(9)).is_ok());
        assert!(matches!(keys.authenticate(secret, None, at(10)), Err(KeyDenied::Expired { .. })));
        assert_eq!(issued.record.lifetime(), Some(jiff::SignedDuration::from_secs(10)));
    });
}

#[test]
fn a_rotated_key_works_beside_the_new_one_for_a_while() {
    on_each_store(|store| {
        let keys = open(&store);
        let grant = Grant { pools: vec!["team:search".into()], ..Grant::inference() };
        let old = keys.create(KeyOrder { grant, ..order("ci") }, at(0)).unwrap();
        let new = keys.rotate(&old.record.id, Duration::from_secs(60), Some(at(900)), at(100)).unwrap();
        let lets_in =
            |key: &IssuedKey, now| keys.authenticate(key.secret.expose_secret(), None, at(now)).is_ok();
        assert!(lets_in(&old, 159) && lets_in(&new, 159));
        assert!(!lets_in(&old, 160) && lets_in(&new, 160) && !lets_in(&new, 900));
        assert_eq!(new.record.rotated_from.as_ref(), Some(&old.record.id));
        assert_eq!(new.record.booked_as, old.record.id, "books go on");
        assert_eq!((new.record.name.as_str(), &new.record.grant), ("ci", &old.record.grant));

        let error = keys.rotate(&old.record.id, Duration::ZERO, None, at(120)).unwrap_err();
        assert!(
            matches!(&error, KeyError::Store(StoreError::RotatedAlready { new: by, .. }) if *by == new.record.id)
        );
        // The new one was lost before anybody had it: the old one gives another.
        keys.revoke(&new.record.id, at(121)).unwrap();
        let newer = keys.rotate(&old.record.id, Duration::from_secs(600), None, at(122)).unwrap();
        assert_eq!(
            keys.find(old.record.id.as_str()).unwrap().expires,
            Some(at(160)),
            "it is not made longer"
        );
        let newest = keys.rotate(&newer.record.id, Duration::ZERO, None, at(123)).unwrap();
        assert_eq!(newest.record.booked_as, old.record.id);
        assert!(!lets_in(&newer, 123) && lets_in(&newest, 123));

        let error =
            keys.rotate(&newest.record.id, Duration::from_secs(31 * 86_400), None, at(124)).unwrap_err();
        assert_eq!(error.to_string(), "`overlap` is longer than 30 days; rotate the key nearer to its end");
        let of_store: Vec<KeyId> = open(&store).list().into_iter().map(|record| record.id).collect();
        assert_eq!(
            of_store,
            [&old, &new, &newer, &newest].map(|key| key.record.id.clone()),
            "the oldest first"
        );
    });
}

#[test]
fn a_key_may_be_bound_to_networks() {
    let keys = open(&(Arc::new(MemoryStore::default()) as Arc<dyn KeyStore>));
    let grant = Grant { networks: vec![parse_network("10.0.0.0/8").unwrap()], ..Grant::inference() };
    let issued = keys.create(KeyOrder { grant, ..order("ci") }, at(0)).unwrap();
    let from = |from: Option<&str>| {
        let from = from.map(|from| from.parse().unwrap());
        keys.authenticate(issued.secret.expose_secret(), from, at(1)).map(drop)
    };
    assert!(from(Some("10.1.2.3")).is_ok());
    let prefix = &issued.record.prefix;
    let told = [Some("192.0.2.1"), None].map(|address| from(address).unwrap_err().to_string());
    assert_eq!(told[0], format!("the key `{prefix}` may not be used from 192.0.2.1"));
    assert_eq!(told[1], format!("the key `{prefix}` may not be used from an unknown address"));
}

#[test]
fn the_last_day_of_use_is_kept_now_and_then() {
    on_each_store(|store| {
        let keys = open(&store);
        let issued = keys.create(order("ci"), at(0)).unwrap();
        keys.create(order("unused"), at(0)).unwrap();
        let id = issued.record.id.as_str();
        assert_eq!(keys.store_uses().unwrap(), 0);
        let version = store.version().unwrap();
        for day in [1, 3, 2] {
            keys.authenticate(issued.secret.expose_secret(), None, at(day * DAY)).unwrap();
        }
        let today = keys.find(id).unwrap().last_used_on().unwrap();
        assert_eq!(today, jiff::civil::date(2030, 3, 20));
        assert_eq!(open(&store).find(id).unwrap().last_used, None, "it was not kept yet");
        // A change by somebody else makes nobody forget.
        open(&store).create(order("other"), at(0)).unwrap();
        assert!(keys.reload().unwrap());
        assert_eq!((keys.store_uses().unwrap(), keys.store_uses().unwrap()), (1, 0));
        assert_eq!(open(&store).find(id).unwrap().last_used_on(), Some(today));
        assert_eq!(store.version().unwrap(), version + 1, "a use is no reason to read all anew");
    });
}

#[test]
fn the_wrong_pepper_is_found_at_the_start() {
    on_each_store(|store| {
        open(&store).create(order("ci"), at(0)).unwrap();
        let error = Keyring::open(store, Pepper::new(&[8; 32]).unwrap()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the store's keys were made with another pepper; give the one they were made with, or start a new store"
        );
    });
}

#[test]
fn an_order_that_makes_no_sense_is_refused() {
    on_each_store(|store| {
        let keys = open(&store);
        assert!(keys.create(order(" "), at(0)).is_err());
        let grant = Grant { pools: vec!["a\u{7}".into()], ..Grant::default() };
        let error = keys.create(KeyOrder { grant, ..order("ci") }, at(0)).unwrap_err();
        assert_eq!(error.to_string(), "`pools` has a name with a control character; leave it out");
        assert!(keys.is_empty());
    });
}

#[test]
fn keys_are_many_but_not_without_end() {
    let store = Arc::new(MemoryStore::default());
    let keys = Keyring::open(Arc::clone(&store) as Arc<dyn KeyStore>, pepper()).unwrap();
    let issued = keys.create(order("first"), at(0)).unwrap();
    let (_, stored) = store.load().unwrap();
    store.fill(&stored[0], KEYS_MAX);
    assert!(keys.reload().unwrap());
    let error = keys.create(order("one more"), at(0)).unwrap_err();
    assert_eq!(error.to_string(), "100000 keys are kept, which is the most; remove some that have ended");
    assert!(keys.authenticate(issued.secret.expose_secret(), None, at(0)).is_ok());
}

#[cfg(feature = "sqlite")]
mod file {
    use std::num::NonZeroU64;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::rate::{Limits, Measure, Period, Rate};

    fn whole_grant() -> Grant {
        let some = |number| NonZeroU64::new(number).unwrap();
        let pattern = |field, text| vec![Pattern::parse(field, text).unwrap()];
        let rates = vec![
            Rate::per(Measure::Requests, some(60), Period::Minute),
            Rate::per(Measure::Tokens, some(1_000_000), Period::Day).with_burst(some(5)),
        ];
        Grant {
            scopes: Scopes::of([Scope::Admin, Scope::UsageRead]),
            models: pattern("models", "llama*"),
            providers: pattern("providers", "groq"),
            endpoints: pattern("endpoints", "/v1/chat/*"),
            networks: vec![parse_network("2001:db8::/32").unwrap()],
            pools: vec!["team:search".into()],
            limits: Limits::new(rates, Some(3)).unwrap(),
            tier: Some("batch".into()),
            metadata: [("owner".into(), "zoë \"z\"".into())].into(),
        }
    }

    #[test]
    fn a_file_keeps_all_of_a_key_and_none_of_its_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.db");
        let open = || {
            let store: Arc<dyn KeyStore> = Arc::new(FileStore::open(&path).unwrap());
            super::open(&store)
        };
        let order = KeyOrder { expires: Some(at(99)), grant: whole_grant(), ..order("ci") };
        let issued = open().create(order, at(0)).unwrap();
        assert_eq!(open().list(), std::slice::from_ref(&issued.record));
        assert!(
            open().authenticate(issued.secret.expose_secret(), "2001:db8::1".parse().ok(), at(1)).is_ok()
        );
        let mut bytes = Vec::new();
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            bytes.extend(std::fs::read(entry.unwrap().path()).unwrap());
        }
        let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(holds(&issued.record.prefix) && !holds(&issued.secret.expose_secret()[15..]));
        #[cfg(unix)]
        {
            let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&path).unwrap());
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn a_file_that_is_not_ours_is_refused_in_words() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.db");
        drop(FileStore::open(&path).unwrap());
        let raw = rusqlite::Connection::open(&path).unwrap();
        raw.execute("UPDATE hoosh_keys_meta SET number = 2 WHERE name = 'schema'", []).unwrap();
        let error = FileStore::open(&path).unwrap_err();
        let shown = path.display();
        assert_eq!(
            error.to_string(),
            format!(
                "the keys in {shown} are of version 2, and this hoosh knows version 1; use a newer hoosh"
            )
        );

        std::fs::write(folder.path().join("text"), "this is a text and no database, whatever its length")
            .unwrap();
        let error = FileStore::open(&folder.path().join("text")).unwrap_err();
        assert!(matches!(&error, StoreError::Failed { doing: "opened", .. }), "{error}");
        assert!(FileStore::open(&folder.path().join("no/where")).is_err());
    }

    #[test]
    fn a_grant_of_a_later_version_is_not_read_as_less() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.db");
        let store: Arc<dyn KeyStore> = Arc::new(FileStore::open(&path).unwrap());
        let keys = open(&store);
        let issued = keys.create(order("ci"), at(0)).unwrap();
        let raw = rusqlite::Connection::open(&path).unwrap();
        let grant = r#"{"scopes":["inference"],"weekdays_only":true}"#;
        raw.execute("UPDATE hoosh_keys SET grants = ?", [grant]).unwrap();
        let error = Keyring::open(store, pepper()).unwrap_err().to_string();
        assert!(error.contains(issued.record.id.as_str()) && error.contains("weekdays_only"), "{error}");
        assert!(keys.authenticate(issued.secret.expose_secret(), None, at(1)).is_ok(), "what was read stays");
    }

    #[test]
    fn a_file_that_another_process_writes_to_is_waited_for_and_then_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.db");
        let store: Arc<dyn KeyStore> = Arc::new(FileStore::open(&path).unwrap());
        let keys = open(&store);
        let raw = rusqlite::Connection::open(&path).unwrap();
        raw.execute_batch("BEGIN IMMEDIATE").unwrap();
        let waits = std::thread::scope(|scope| {
            let wait = scope.spawn(|| keys.create(order("ci"), at(0)));
            std::thread::sleep(Duration::from_millis(50));
            raw.execute_batch("COMMIT").unwrap();
            wait.join().unwrap()
        });
        assert!(waits.is_ok());
        raw.execute_batch("BEGIN IMMEDIATE").unwrap();
        let store = FileStore::open_with(&path, Duration::from_millis(100));
        let error = store.unwrap_err().to_string();
        assert!(error.contains("another process has been writing for 0.1 s"), "{error}");
    }

    fn id() -> impl Strategy<Value = KeyId> {
        (0_u8..4).prop_map(|number| KeyId::new(format!("k_{number}")))
    }

    fn key() -> impl Strategy<Value = StoredKey> {
        let expires = proptest::option::of(0_i64..20);
        (id(), 0_u8..4, 0_i64..20, expires).prop_map(|(id, prefix, created, expires)| {
            let record = KeyRecord {
                prefix: format!("hoosh_{prefix}"),
                name: "a".into(),
                created: at(created),
                expires: expires.map(at),
                revoked: None,
                rotated_from: None,
                booked_as: id.clone(),
                last_used: None,
                grant: Grant::inference(),
                id,
            };
            StoredKey { record, digest: Digest([prefix; 32]) }
        })
    }

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            3 => key().prop_map(Change::Created),
            1 => (id(), 0_i64..20).prop_map(|(id, second)| Change::Revoked { id, at: at(second) }),
            3 => (id(), 0_i64..20, key()).prop_map(|(old, until, mut new)| {
                new.record.rotated_from = Some(old.clone());
                Change::Rotated { old, until: at(until), new }
            }),
            1 => id().prop_map(|id| Change::Removed { id }),
            1 => vec((id(), 0_i32..9), 0..3).prop_map(Change::Used),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_file_does_what_memory_does(changes in vec(change(), 1..25)) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("keys.db");
            let (file, memory) = (FileStore::open(&path).unwrap(), MemoryStore::default());
            for change in changes {
                prop_assert_eq!(file.apply(&change), memory.apply(&change), "{:?}", change);
                prop_assert_eq!(file.version(), memory.version());
            }
            let (_, mut of_file) = FileStore::open(&path).unwrap().load().unwrap();
            of_file.sort_by(|one, other| one.record.id.cmp(&other.record.id));
            prop_assert_eq!(of_file, memory.load().unwrap().1);
        }
    }
}
