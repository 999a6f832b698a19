//! Laws of the canonical form: how a request is written makes no difference, what it says does.

use hoosh_core::dialect::{Canonical, Dialect};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

/// Values of a few words only, so that two of them are often alike.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        select(vec![json!(null), json!(true), json!(0), json!(-1), json!(1.0), json!(0.1), json!(1)]),
        select(vec!["", "a", "1", "1:a", "a,", "ä\"\n"]).prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![vec(inner.clone(), 0..3).prop_map(Value::from), fields(inner)]
    })
}

fn fields(inner: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    let names = select(vec!["a", "b", "stream", "tools", "", "1:a"]).prop_map(str::to_owned);
    btree_map(names, inner, 0..3).prop_map(|fields| Value::from(serde_json::Map::from_iter(fields)))
}

/// The value written otherwise: fields backwards, spaces everywhere, every character of a text escaped.
fn otherwise(value: &Value) -> String {
    let escaped = |text: &str| {
        let units = text.encode_utf16().map(|unit| format!("\\u{unit:04x}"));
        format!("\"{}\"", units.collect::<String>())
    };
    match value {
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(otherwise).collect();
            format!("[ {} ]", items.join(" ,\n"))
        }
        Value::Object(fields) => {
            let fields =
                fields.iter().rev().map(|(name, value)| format!("{} : {}", escaped(name), otherwise(value)));
            format!("{{\t{} }}", fields.collect::<Vec<_>>().join(" , "))
        }
        Value::String(text) => escaped(text),
        other => other.to_string(),
    }
}

fn canonical(body: &str) -> Option<Canonical> {
    Canonical::read(Dialect::OpenAiChat, body.as_bytes())
}

proptest! {
    #[test]
    fn how_it_is_written_makes_no_difference(value in fields(value())) {
        let one = canonical(&value.to_string());
        prop_assert!(one.is_some());
        prop_assert_eq!(one, canonical(&otherwise(&value)));
    }

    #[test]
    fn two_are_the_same_only_if_they_say_the_same(mut one in fields(value()), mut other in fields(value())) {
        let same = canonical(&one.to_string()).map(|it| it.text) == canonical(&other.to_string()).map(|it| it.text);
        // How the answer is sent is all that is left out.
        for value in [&mut one, &mut other] {
            value.as_object_mut().map(|fields| fields.remove("stream"));
        }
        prop_assert_eq!(same, one == other, "{} and {}", one, other);
    }

    #[test]
    fn rubbish_is_none(bytes in vec(any::<u8>(), 0..64)) {
        for dialect in Dialect::ALL {
            let _ = Canonical::read(*dialect, &bytes);
        }
    }
}
