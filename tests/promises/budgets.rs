//! Promise: a pool is never overspent, and nothing stays held.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use serde_json::Value;
use testkit::{Hoosh, PATIENCE, Script, Upstream, chat_body, chunk, client, completion, finish, sse};
use tokio::time::{sleep, timeout};

use crate::{at, header, json};

const CHAT: &str = "/v1/chat/completions";

/// A call that may write 5 tokens, and says `hi`.
fn body(stream: bool) -> String {
    chat_body("m", stream).replacen('{', "{\"max_tokens\":5,", 1)
}

/// An answer with this usage.
fn took(prompt: u64, answer: u64) -> Script {
    let mut reply: Value = serde_json::from_slice(&completion("hi")).unwrap();
    reply["usage"] = serde_json::json!({
        "prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer
    });
    Script::json(reply.to_string())
}

async fn pools(hoosh: &Hoosh) -> Vec<Value> {
    json(hoosh.get("/v1/tokens/pools").await).await["pools"].as_array().unwrap().clone()
}

/// The pool once nothing of it is held any more.
async fn at_rest(hoosh: &Hoosh) -> Value {
    let at_rest = async {
        loop {
            let pool = pools(hoosh).await.remove(0);
            if pool["reserved"]["tokens"] == 0 {
                return pool;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, at_rest).await.expect("something stays held")
}

#[tokio::test]
async fn two_hundred_clients_who_come_and_go_spend_exactly_what_there_is() {
    const CALLS: u64 = 1_000;
    let upstream = Upstream::start().await;
    // It keeps to what it is told it may write.
    upstream.always(Script::By(|request| {
        let asked: Value = serde_json::from_slice(&request.body).unwrap();
        took(8, asked["max_tokens"].as_u64().unwrap())
    }));
    let pool = format!("[[pools]]\nname = \"key:*\"\ntokens = {}\n", 13 * CALLS);
    let hoosh = Hoosh::start(&(pool + &at("up", &upstream.url(), ""))).await;
    let one = hoosh.post(CHAT, body(false)).await;
    assert_eq!(one.status(), 200, "{}", one.text().await.unwrap());
    let http = client();
    let callers = (0..200_u64).map(|caller| {
        let (http, url) = (http.clone(), hoosh.url(CHAT));
        async move {
            let mut answered = 0;
            for call in 0.. {
                let request = http.post(&url).header("content-type", "application/json").body(body(false));
                // Every seventh leaves at once or a little later.
                if (caller + call) % 7 == 0 {
                    let _left = timeout(Duration::from_micros(caller * 37 % 3_000), request.send()).await;
                    continue;
                }
                let response = request.send().await.unwrap();
                match response.status().as_u16() {
                    200 => answered += 1,
                    429 if header(&response, "retry-after") == "1" => sleep(Duration::from_millis(5)).await,
                    429 => return answered,
                    status => panic!("{status}: {}", response.text().await.unwrap()),
                }
            }
            answered
        }
    });
    let answered: u64 = join_all(callers).await.into_iter().sum();
    let pool = at_rest(&hoosh).await;
    // Those who left before anything came have spent their prompt of 8 tokens; less than that and one of answer buys nothing.
    let [settled, left] = ["settled", "left"].map(|part| pool[part]["tokens"].as_u64().unwrap());
    assert!(settled + left == 13 * CALLS && left <= 8, "{pool} {answered}");
    assert_eq!(pool["overrun"]["tokens"], 0, "{pool}");
    assert!(answered < CALLS && answered > CALLS / 2, "{answered}: those who left spent the rest");
    let refused = json(hoosh.post(CHAT, body(false)).await).await;
    assert_eq!(refused["error"]["code"], "insufficient_quota", "{refused}");
}

#[tokio::test]
async fn an_answer_is_kept_as_short_as_what_is_left() {
    let upstream = Upstream::start().await;
    upstream.always(took(8, 30));
    let pool = "[[pools]]\nname = \"key:*\"\ntokens = 60\n";
    let hoosh = Hoosh::start(&(pool.to_owned() + &at("up", &upstream.url(), ""))).await;
    // Nothing is demanded of the client, and the provider is told how much there is.
    assert_eq!(hoosh.post(CHAT, chat_body("m", false)).await.status(), 200);
    let sent = |at: usize| -> Value { serde_json::from_slice(&upstream.requests(CHAT)[at].body).unwrap() };
    let told = |sent: &Value| sent["max_tokens"].as_u64().or(sent["max_completion_tokens"].as_u64());
    assert_eq!(told(&sent(0)), Some(52), "{}", sent(0));
    upstream.always(took(8, 14));
    assert_eq!(hoosh.post(CHAT, chat_body("m", false)).await.status(), 200);
    assert_eq!(told(&sent(1)), Some(14), "{}", sent(1));
    assert_eq!(at_rest(&hoosh).await["left"]["tokens"], 0);
    let refused = hoosh.post(CHAT, chat_body("m", false)).await;
    assert_eq!(
        (refused.status().as_u16(), header(&refused, "retry-after")),
        (429, ""),
        "it never begins anew"
    );
}

#[tokio::test]
async fn a_stream_that_is_cut_is_booked_by_what_was_sent_and_pools_hang_together() {
    let upstream = Upstream::start().await;
    let pools_and_provider = "[[pools]]\nname = \"team:a\"\ntokens = 1000\nwindow = \"day\"\n\
        [[pools]]\nname = \"user:*\"\nparent = \"team:a\"\ntokens = 100\nwindow = \"rolling 3600\"\n"
        .to_owned()
        + &at("up", &upstream.url(), "");
    let hoosh = Hoosh::start(&pools_and_provider).await;
    let pieces = (0..200).map(|_| (Duration::from_millis(20), chunk(r#"{"content":"word "}"#).into_bytes()));
    let end = [finish("stop"), sse("[DONE]")].concat().into_bytes();
    upstream.always(Script::Stream(pieces.chain([(Duration::ZERO, end)]).collect(), testkit::End::Proper));
    let ask = async |user: &str| {
        let request = client().post(hoosh.url(CHAT)).header("x-hoosh-user", user.to_owned());
        request.header("content-type", "application/json").body(body(true)).send().await.unwrap()
    };
    let response = ask("alice").await;
    let mut stream = response.bytes_stream();
    for _ in 0..3 {
        stream.next().await.unwrap().unwrap();
    }
    drop(stream);
    let team = at_rest(&hoosh).await;
    let booked = team["settled"]["tokens"].as_u64().unwrap();
    // The prompt and three or four words.
    assert!((11..=14).contains(&booked), "{team}");
    let all = pools(&hoosh).await;
    assert_eq!((&all[1]["name"], &all[1]["settled"]), (&"user:alice".into(), &team["settled"]), "{all:?}");
    assert_eq!(ask("").await.status(), 400, "a user without a name");
    upstream.always(took(8, 5));
    assert_eq!(hoosh.post(CHAT, body(false)).await.status(), 200, "nobody's pool is charged without a name");
}

#[tokio::test]
async fn what_was_spent_outlives_a_kill() {
    let upstream = Upstream::start().await;
    upstream.always(took(8, 5));
    let config = "[[pools]]\nname = \"key:*\"\ntokens = 26\n".to_owned() + &at("up", &upstream.url(), "");
    let mut hoosh = Hoosh::start(&config).await;
    assert_eq!(hoosh.post(CHAT, body(false)).await.status(), 200);
    sleep(Duration::from_millis(100)).await;
    hoosh.restart_after("KILL").await;
    assert_eq!(at_rest(&hoosh).await["settled"]["tokens"], 13);
    assert_eq!(hoosh.post(CHAT, body(false)).await.status(), 200);
    assert_eq!(hoosh.post(CHAT, body(false)).await.status(), 429);
}

#[tokio::test]
async fn no_way_of_asking_takes_more_than_the_pool_has() {
    let upstream = Upstream::start().await;
    let pool = "[[pools]]\nname = \"key:*\"\ntokens = 1000\n[[pools]]\nname = \"model:m\"\ntokens = 100\n\
                [budget]\nledger = \"memory\"\n[aliases]\nother = \"m\"\n";
    let hoosh = Hoosh::start(&(pool.to_owned() + &at("up", &upstream.url(), ""))).await;
    // Eight answers are held for eight times, and each may be an eighth of what is left.
    upstream.always(took(8, 88));
    let many = chat_body("m", false).replacen('{', "{\"n\":8,", 1);
    assert_eq!(hoosh.post(CHAT, many).await.status(), 200);
    let sent: Value = serde_json::from_slice(&upstream.requests(CHAT)[0].body).unwrap();
    assert_eq!(sent["max_tokens"], 11, "{sent}");
    // No other spelling of the model has more than it.
    for name in ["m", "up/m", "other"] {
        assert_eq!(hoosh.post(CHAT, chat_body(name, false)).await.status(), 429, "{name}");
    }
    // A word that another server would take for the most it may write does not hide the one that counts.
    let both = chat_body("x", false).replacen('{', "{\"max_completion_tokens\":1,\"max_tokens\":5000,", 1);
    upstream.always(took(8, 5_000));
    for expect in [200, 429] {
        assert_eq!(hoosh.post(CHAT, both.clone()).await.status(), expect);
    }
    let pool = at_rest(&hoosh).await;
    assert_eq!(
        (&pool["left"]["tokens"], pool["overrun"]["tokens"].as_u64() > Some(4_000)),
        (&0.into(), true)
    );
    // What is passed through unread is held to it too.
    assert_eq!(hoosh.post("/v1/moderations", r#"{"model":"x","input":"hi"}"#).await.status(), 429);
}
