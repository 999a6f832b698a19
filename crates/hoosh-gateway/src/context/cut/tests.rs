use hoosh_core::{Part, ToolCall, ToolResult};
use proptest::prelude::*;

use super::*;

fn call(id: &str) -> Part {
    PartKind::ToolCall(ToolCall { id: id.into(), name: "f".into(), ..ToolCall::default() }).into()
}

fn result(id: &str) -> Part {
    PartKind::ToolResult(ToolResult { call_id: id.into(), content: vec![Part::text("r")], is_error: false })
        .into()
}

/// `s` instructions, `d` a developer's, `u` a question, `a` an answer, `c1,2` calls, `t1` a result, `m1` results with words.
fn conversation(words: &str) -> Vec<Message> {
    let message = |word: &str| {
        let (kind, ids) = word.split_at(1);
        let ids: Vec<&str> = ids.split(',').collect();
        let results = || ids.iter().map(|id| result(id)).collect::<Vec<_>>();
        match kind {
            "s" => Message::system("rules"),
            "d" => Message::text(Role::Developer, "rules"),
            "u" => Message::new(Role::User, vec![Part::text("question"), Part::text("more of it")]),
            "a" => Message::assistant("answer"),
            "c" => Message::new(Role::Assistant, ids.iter().map(|id| call(id)).collect()),
            "t" => Message::new(Role::Tool, results()),
            "m" => Message::new(Role::User, [results(), vec![Part::text("and go on")]].concat()),
            other => panic!("{other} is no word"),
        }
    };
    words.split_whitespace().map(message).collect()
}

/// What is left at one token a message, by place; an error if that is too much still.
fn kept(words: &str, policy: ContextPolicy, turns: usize, most: u64) -> Result<String, u64> {
    let messages = conversation(words);
    let counts = vec![1; messages.len()];
    let room = Room { messages: &counts, rest: 0, asks_after: false, most };
    let cut = cut(&messages, policy, turns, room);
    if cut.tokens > most {
        return Err(cut.tokens);
    }
    let left: Vec<&str> = words
        .split_whitespace()
        .enumerate()
        .filter(|(at, _)| !cut.messages.contains(at))
        .map(|(_, word)| word)
        .collect();
    assert_eq!(cut.tokens, left.len() as u64, "what is left is what is counted");
    Ok(left.join(" "))
}

#[track_caller]
fn check(policy: ContextPolicy, words: &str, most: u64, expected: &str) {
    assert_eq!(kept(words, policy, 2, most).as_deref(), Ok(expected), "{policy:?} of {words} to {most}");
}

#[test]
fn the_oldest_go_first_and_instructions_stay() {
    use ContextPolicy::DropOldest as Oldest;
    check(Oldest, "s u a u a d u", 7, "s u a u a d u");
    check(Oldest, "s u a u a d u", 6, "s u a d u");
    check(Oldest, "s u a u a d u", 4, "s d u");
    assert_eq!(kept("s u a u a d u", Oldest, 2, 2), Err(3), "the last question stays");
    // Several questions in a row are one.
    check(Oldest, "u a u u", 3, "u u");
    // A conversation may begin with the model.
    check(Oldest, "a u a u", 3, "u a u");
}

#[test]
fn rounds_of_an_agent_go_one_by_one_with_their_results() {
    use ContextPolicy::DropOldest as Oldest;
    check(Oldest, "s u c1 t1 c2,3 t2 t3 c4 t4", 8, "s u c2,3 t2 t3 c4 t4");
    check(Oldest, "s u c1 t1 c2,3 t2 t3 c4 t4", 6, "s u c4 t4");
    assert_eq!(kept("s u c1 t1 c2,3 t2 t3 c4 t4", Oldest, 2, 3), Err(4), "the last round stays");
    // Of an earlier turn its question goes last, so that what stays begins with one.
    check(Oldest, "u c1 t1 a u", 4, "u a u");
    check(Oldest, "u c1 t1 a u", 2, "u");
    // Results in the person's name, with words of theirs.
    check(Oldest, "u c1 m1 c2 m2 u", 5, "u c2 m2 u");
    // What was said and called in several messages is one round.
    check(Oldest, "u a c1 c2 t1 t2 c3 t3", 7, "u c3 t3");
}

#[test]
fn a_result_far_from_its_call_goes_with_it() {
    use ContextPolicy::DropOldest as Oldest;
    check(Oldest, "u c1 u a t1 u", 5, "u u");
    // Where the result must stay, so does the call, and its question.
    assert_eq!(kept("u c1 u a t1", Oldest, 2, 4), Err(5));
    // Names that come again are those of the nearest call.
    check(Oldest, "u c1 t1 c1 t1 c1 t1", 5, "u c1 t1 c1 t1");
}

#[test]
fn the_last_turns_are_kept_and_fewer_where_they_are_too_long() {
    use ContextPolicy::KeepLast as Last;
    check(Last, "s u a u a u a u", 7, "s u a u");
    check(Last, "s u a u a u a u", 3, "s u");
    assert_eq!(kept("u a u a u", Last, 9, 4).as_deref(), Ok("u a u"));
    assert_eq!(kept("u a u a u", Last, 1, 4).as_deref(), Ok("u"));
}

#[test]
fn the_middle_goes_from_its_middle() {
    use ContextPolicy::MiddleOut as Middle;
    check(Middle, "s u a u a u a u a u", 9, "s u a u a u a u");
    check(Middle, "s u a u a u a u a u", 7, "s u a u a u");
    check(Middle, "s u a u a u a u a u", 4, "s u a u");
    assert_eq!(kept("s u a u a u", Middle, 2, 3), Err(4), "the first and the last turn stay");
    // A single turn of an agent keeps its first round and its last.
    check(Middle, "u c1 t1 c2 t2 c3 t3 c4 t4", 7, "u c1 t1 c3 t3 c4 t4");
    check(Middle, "u c1 t1 c2 t2 c3 t3 c4 t4", 5, "u c1 t1 c4 t4");
}

#[test]
fn one_huge_message_cannot_go() {
    for policy in ContextPolicy::ALL {
        assert_eq!(kept("s u", policy, 1, 1), Err(2), "{policy:?}");
    }
}

#[test]
fn a_question_behind_the_messages_is_the_last() {
    let messages = conversation("u a");
    let room = Room { messages: &[1, 1], rest: 5, asks_after: true, most: 5 };
    let cut = cut(&messages, ContextPolicy::DropOldest, 1, room);
    assert_eq!(cut, Cut { messages: vec![0, 1], tokens: 5 });
}

#[test]
fn where_nothing_is_enough_the_least_stays() {
    let messages = conversation("s u a u");
    let room = Room { messages: &[1, 1, 1, 9], rest: 0, asks_after: false, most: 5 };
    let cut = cut(&messages, ContextPolicy::DropOldest, 1, room);
    assert_eq!(cut, Cut { messages: vec![1, 2], tokens: 10 });
}

#[test]
fn the_time_grows_with_the_length_and_no_faster() {
    let repeated = |words: &[&str], times: usize| {
        let rounds =
            (0..times).flat_map(|at| words.iter().map(move |word| word.replace('#', &at.to_string())));
        conversation(&rounds.chain(["u".to_owned()]).collect::<Vec<_>>().join(" "))
    };
    for words in [
        &["u", "a"][..],           // turns
        &["c#", "t#"],             // rounds of one turn
        &["t#"],                   // results without calls
        &["u", "c#", "a", "t#"],   // results far from their calls
        &["u", "c0", "t0"],        // one name for all
        &["u", "c#,0", "a", "t0"], // results that tie all together
    ] {
        let messages = repeated(words, 100_000 / words.len());
        let counts = vec![1; messages.len()];
        for policy in ContextPolicy::ALL {
            let start = std::time::Instant::now();
            let room = Room { messages: &counts, rest: 0, asks_after: false, most: 10 };
            let cut = cut(&messages, policy, 10, room);
            // 40,000 took 33 s when each piece was looked for among all of them.
            assert!(start.elapsed().as_secs() < 5, "{words:?} by {policy:?}: {:?}", start.elapsed());
            let left = (messages.len() - cut.messages.len()) as u64;
            assert_eq!(cut.tokens, left, "{words:?} by {policy:?}");
        }
    }
}

/// A conversation as an agent may have it.
fn any_conversation() -> impl Strategy<Value = String> {
    let turn = prop::collection::vec((1..4_usize, any::<bool>()), 0..4);
    prop::collection::vec((turn, any::<bool>(), any::<bool>()), 1..6).prop_map(|turns| {
        let (mut words, mut id) = (vec!["s".to_owned()], 0);
        for (rounds, answers, instructs) in turns {
            words.extend(instructs.then(|| "d".to_owned()));
            words.push("u".to_owned());
            for (calls, in_users_name) in rounds {
                let ids: Vec<String> = (0..calls)
                    .map(|_| {
                        id += 1;
                        id.to_string()
                    })
                    .collect();
                words.push(format!("c{}", ids.join(",")));
                match in_users_name {
                    true => words.push(format!("m{}", ids.join(","))),
                    false => words.extend(ids.iter().map(|id| format!("t{id}"))),
                }
            }
            words.extend(answers.then(|| "a".to_owned()));
        }
        words.join(" ")
    })
}

proptest! {
    #[test]
    fn whatever_goes_the_rest_is_a_conversation(words in any_conversation(), most in 1_u64..40, turns in 1..5_usize) {
        let before = conversation(&words);
        for policy in ContextPolicy::ALL {
            let Ok(left) = kept(&words, policy, turns, most) else { continue };
            let after = conversation(&left);
            prop_assert!(after.len() as u64 <= most, "it fits");
            let instructions = |all: &[Message]| all.iter().filter(|one| is_instruction(one)).count();
            prop_assert_eq!(instructions(&before), instructions(&after), "instructions stay");
            let count = |kind: char, text: &str| text.split_whitespace().filter(|word| word.starts_with(kind)).flat_map(|word| word[1..].split(',').map(str::to_owned).collect::<Vec<_>>()).collect::<Vec<_>>();
            let mut results: Vec<String> = [count('t', &left), count('m', &left)].concat();
            let mut calls = count('c', &left);
            results.sort();
            calls.sort();
            prop_assert_eq!(calls, results, "every call has its result: {} of {}", left, words);
            let said = after.iter().find(|message| !is_instruction(message));
            prop_assert!(said.is_some_and(is_question), "it begins with a question: {}", left);
            prop_assert_eq!(words.split(' ').next_back(), left.split(' ').next_back(), "the end stays");
            prop_assert!(left.split(' ').filter(|word| *word == "u").count() >= 1, "a question stays");
        }
    }
}
