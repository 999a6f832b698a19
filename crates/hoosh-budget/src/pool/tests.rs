use std::time::Duration;

use super::*;

fn id(text: &str) -> PoolId {
    text.parse().unwrap()
}

fn pool(name: &str) -> TokenPool {
    TokenPool::new(id(name))
}

fn under(parent: &str, name: &str) -> TokenPool {
    TokenPool { parent: Some(id(parent)), ..pool(name) }
}

fn problems(pools: Vec<TokenPool>) -> Vec<(String, PoolProblem)> {
    let faults = PoolTree::new(pools).err().map(|invalid| invalid.faults).unwrap_or_default();
    faults.into_iter().map(|fault| (fault.pool.to_string(), fault.problem)).collect()
}

#[test]
fn a_name_is_a_kind_and_a_name() {
    let model = id("model:meta-llama/Llama-3:free");
    assert_eq!((model.kind(), model.name()), ("model", "meta-llama/Llama-3:free"));
    assert!(!model.is_template());
    assert!(id("user:*").is_template());
    assert_eq!(PoolId::new("user", "alice"), Ok(id("user:alice")));
    assert_eq!(PoolId::template("user"), Ok(id("user:*")));
}

#[test]
fn what_is_no_name_is_refused_in_words() {
    let long = "x".repeat(POOL_NAME_BYTES_MAX + 1);
    for (kind, name, sentence) in [
        ("Team", "a", "`Team` is not a kind of pool: it has to be 1 to 32 of a-z, 0-9, - and _"),
        ("", "a", "`` is not a kind of pool: it has to be 1 to 32 of a-z, 0-9, - and _"),
        ("user", "", "a user has no name"),
        ("user", "a\nb", "the name of a user has a control character in it"),
        ("user", "*", "`user:*` stands for all of its kind and is not the name of one"),
        ("user", &long, "the name of a user has 257 bytes, at most 256 can be kept"),
    ] {
        assert_eq!(PoolId::new(kind, name).unwrap_err().to_string(), sentence);
    }
    let sentence = "`search` is not a pool: it has to be a kind and a name, like `team:search`";
    assert_eq!("search".parse::<PoolId>().unwrap_err().to_string(), sentence);
}

#[test]
fn pools_that_do_not_fit_are_all_told() {
    let faulty = TokenPool {
        capacity: Capacity::money(NanoUsd(-1)),
        window: Window::Rolling(Duration::from_millis(1)),
        alerts: vec![0, 80],
        ..under("team:gone", "key:a")
    };
    let found =
        problems(vec![faulty, pool("team:t"), pool("team:t"), under("user:*", "user:a"), pool("user:*")]);
    assert_eq!(
        found,
        [
            ("key:a".into(), PoolProblem::NegativeMoney(NanoUsd(-1))),
            ("key:a".into(), PoolProblem::AlertZero),
            ("key:a".into(), PoolProblem::Rolling(1)),
            ("key:a".into(), PoolProblem::NoParent(id("team:gone"))),
            ("team:t".into(), PoolProblem::Twice),
            ("user:a".into(), PoolProblem::ParentTemplate(id("user:*"))),
        ]
    );
}

#[test]
fn nobody_is_above_itself() {
    let circle = vec![under("team:b", "team:a"), under("team:a", "team:b"), under("team:b", "key:k")];
    assert_eq!(
        problems(circle),
        [("team:a".into(), PoolProblem::Circle), ("team:b".into(), PoolProblem::Circle)]
    );
    assert_eq!(problems(vec![under("team:a", "team:a")]), [("team:a".into(), PoolProblem::Circle)]);
}

#[test]
fn a_tree_is_at_most_eight_deep() {
    let chain = |length: usize| {
        let below = (1..length).map(|n| under(&format!("team:{}", n - 1), &format!("team:{n}")));
        std::iter::once(pool("team:0")).chain(below).collect::<Vec<_>>()
    };
    assert_eq!(problems(chain(POOL_DEPTH_MAX)), []);
    assert_eq!(problems(chain(POOL_DEPTH_MAX + 1)), [("team:8".into(), PoolProblem::Depth(8))]);
}

#[test]
fn faults_are_one_sentence() {
    let twice = PoolTree::new(vec![pool("team:t"), pool("team:t"), under("team:x", "key:k")]).unwrap_err();
    assert_eq!(
        twice.to_string(),
        "pool `team:t`: is defined twice; pool `key:k`: its parent `team:x` is not defined"
    );
}
