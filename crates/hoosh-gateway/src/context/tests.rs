use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hoosh_core::dialect::Dialect;
use hoosh_core::{
    ContextRule, ContextWish, EmbeddingRequest, EmbeddingResponse, EventStream, InferenceResponse,
    LlmProvider, ModelInfo, ProviderHealth, ProviderType, Role,
};
use hoosh_router::{Query, Route, Router};
use serde_json::json;

use super::*;
use crate::call::{CallerId, RequestId};

/// Never asked.
#[derive(Debug)]
struct Nobody;

fn never<'a, T>() -> BoxFuture<'a, Result<T, UpstreamFailure>> {
    Box::pin(async { Err(UpstreamFailure::new(FailureKind::Unsupported, "nobody is asked here")) })
}

impl LlmProvider for Nobody {
    fn name(&self) -> &str {
        "up"
    }

    fn provider_type(&self) -> ProviderType {
        ProviderType::OpenAiCompatible
    }

    fn is_local(&self) -> bool {
        true
    }

    fn infer<'a>(
        &'a self,
        _: &'a str,
        _: &'a InferenceRequest,
    ) -> BoxFuture<'a, Result<InferenceResponse, UpstreamFailure>> {
        never()
    }

    fn infer_stream<'a>(
        &'a self,
        _: &'a str,
        _: &'a InferenceRequest,
    ) -> BoxFuture<'a, Result<EventStream, UpstreamFailure>> {
        never()
    }

    fn embed<'a>(
        &'a self,
        _: &'a str,
        _: &'a EmbeddingRequest,
    ) -> BoxFuture<'a, Result<EmbeddingResponse, UpstreamFailure>> {
        never()
    }

    fn list_models(&self) -> BoxFuture<'_, Result<Vec<ModelInfo>, UpstreamFailure>> {
        never()
    }

    fn health_check(&self) -> BoxFuture<'_, Result<ProviderHealth, UpstreamFailure>> {
        never()
    }
}

fn candidate(rule: ContextRule) -> Candidate {
    let route = Route { context: Some(Arc::new(rule)), ..Route::to("up") };
    let router = Router::builder().provider(Arc::new(Nobody)).route(route).build().unwrap();
    router.plan(&Query { model: "m", ..Query::default() }).unwrap().candidates.remove(0)
}

fn rule(policy: ContextPolicy, window: u64) -> ContextRule {
    ContextRule { policy: Some(policy), window: Some(window), ..ContextRule::default() }
}

/// `pairs` questions and answers of some 50 tokens each, and a last question.
fn call(pairs: usize) -> Call {
    let long = "word ".repeat(40);
    let pair = |at: usize| {
        let (question, answer) = (format!("question {at}: {long}"), format!("answer {at}: {long}"));
        [json!({"role": "user", "content": question}), json!({"role": "assistant", "content": answer})]
    };
    let system = [json!({"role": "system", "content": "rules"})];
    let last = [json!({"role": "user", "content": "the last question"})];
    let messages: Vec<_> = system.into_iter().chain((0..pairs).flat_map(pair)).chain(last).collect();
    let body = json!({"model": "m", "max_tokens": 20, "messages": messages}).to_string();
    Call::read(RequestId::new(), CallerId::new("c"), Dialect::OpenAiChat, body.into()).unwrap()
}

fn fit(call: &Call, candidate: &Candidate) -> Result<Fit, UpstreamFailure> {
    super::fit(call, candidate).now_or_never().expect("a short prompt is fitted at once")
}

fn asking(messages: serde_json::Value) -> Call {
    let body = json!({"model": "m", "max_tokens": 100, "messages": messages}).to_string();
    Call::read(RequestId::new(), CallerId::new("c"), Dialect::OpenAiChat, body.into()).unwrap()
}

fn edited(fit: Fit) -> Edited {
    match fit {
        Fit::Edited(edited) => *edited,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_fits_is_not_touched() {
    for policy in ContextPolicy::ALL {
        let candidate = candidate(rule(policy, 100_000));
        assert!(matches!(fit(&call(3), &candidate), Ok(Fit::AsItIs)), "{policy:?}");
        assert_eq!(objection(&call(3), &candidate), None);
    }
    // The window of this model is not known.
    let unknown = candidate(ContextRule { window: None, ..rule(ContextPolicy::DropOldest, 1) });
    assert!(matches!(fit(&call(50), &unknown), Ok(Fit::AsItIs)));
    // Nothing is said.
    let silent = candidate(ContextRule { keep_last: Some(1), ..ContextRule::default() });
    assert!(!is_said(&call(50), &silent));
}

#[test]
fn what_is_too_long_is_shortened_and_the_receipt_is_true() {
    let candidate = candidate(rule(ContextPolicy::DropOldest, 300));
    let Edited { request, receipt } = edited(fit(&call(5), &candidate).unwrap());
    assert_eq!((receipt.policy, receipt.room), (ContextPolicy::DropOldest, Some(280)));
    assert_eq!(receipt.removed + request.messages.len(), 1 + 10 + 1);
    assert_eq!(receipt.tokens, count::prompt("m", &request), "what is told is what is sent");
    assert_eq!(receipt.before, count::prompt("m", call(5).decoded().unwrap()));
    assert!(receipt.tokens <= 280 && receipt.before > 280 && receipt.removed == 6, "{receipt}");
    assert_eq!(request.messages[0].role, Role::System);
    assert_eq!(request.max_tokens, Some(20), "all else is as it was");
    let header = format!(
        "policy=drop_oldest; removed=6; tokens={}; before={}; room=280",
        receipt.tokens, receipt.before
    );
    assert_eq!(receipt.to_string(), header);
}

#[test]
fn a_callers_word_goes_before_the_routes() {
    let candidate = candidate(rule(ContextPolicy::Refuse, 300));
    let mut call = call(5);
    let objection = objection(&call, &candidate);
    assert!(matches!(objection, Some(Objection::TooLong { window: 300, .. })), "{objection:?}");
    call.context = Some(ContextWish { policy: ContextPolicy::KeepLast, keep_last: Some(2) });
    assert_eq!(super::objection(&call, &candidate), None);
    let Edited { request, receipt } = edited(fit(&call, &candidate).unwrap());
    assert_eq!((receipt.policy, request.messages.len()), (ContextPolicy::KeepLast, 1 + 2 + 1));
}

#[test]
fn what_may_fit_is_not_refused() {
    let refuses = |text: &str, window| {
        let call = asking(json!([{"role": "user", "content": text}]));
        objection(&call, &candidate(rule(ContextPolicy::Refuse, window))).is_some()
    };
    // What OpenAI's vocabularies make of it: 1,000 and 800 tokens, and 9 at a message. Others make no fewer of the one, and a
    // third more of the other.
    let (words, russian) = ("word ".repeat(1_000), "Все люди рождаются свободными ".repeat(160));
    assert!(!refuses(&words, 1_009) && refuses(&words, 990), "each word is a token at least");
    assert!(!refuses(&russian, 809) && refuses(&russian, 600));
}

#[test]
fn one_huge_message_is_an_error_with_the_numbers() {
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "word ".repeat(1_000)}]});
    let call = Call::read(RequestId::new(), CallerId::new("c"), Dialect::OpenAiChat, body.to_string().into());
    let failure = fit(&call.unwrap(), &candidate(rule(ContextPolicy::MiddleOut, 300))).unwrap_err();
    assert_eq!(failure.kind, FailureKind::ContextLength);
    let says = "instructions, tools and the last turn alone have about 1257 tokens, and the model reads at most 300; \
                shorten it";
    assert_eq!(failure.message, says);
}

#[test]
fn a_summary_has_its_place_and_its_room() {
    let candidate = candidate(ContextRule {
        summarise_with: Some("small".into()),
        ..rule(ContextPolicy::Summarise, 300)
    });
    let Fit::Gap(mut edited, gap) = fit(&call(5), &candidate).unwrap() else { panic!("a summary is wanted") };
    assert_eq!((gap.tokens, edited.receipt.removed), (70, gap.messages.len()));
    let wanted = super::wanted(&gap, "small", false);
    assert_eq!((wanted.model.as_str(), wanted.max_tokens), ("small", Some(70)));
    let said = format!("{:?}", wanted.messages[1]);
    assert_eq!((wanted.temperature.is_some(), &wanted.reasoning_effort), (true, &None));
    assert!(said.contains("user: question 0: word") && said.contains("assistant: answer 0: word"), "{said}");
    // However much it writes.
    edited.fill(&gap, &"very long ".repeat(500), "m");
    let Edited { request, receipt } = *edited;
    assert_eq!(receipt.tokens, count::prompt("m", &request));
    assert!(receipt.tokens <= 280, "{receipt}");
    assert_eq!((request.messages[0].role, request.messages[1].role), (Role::System, Role::User));
    assert!(format!("{:?}", request.messages[1].parts[0]).contains("[Summary of earlier"), "{request:?}");
    assert!(
        request.messages[1].parts.len() == 2 && request.messages[2].role == Role::Assistant,
        "no two in a row"
    );

    // Without one there is room for more of what was said.
    let instead =
        super::tests::edited(without_summary(&call(5), &candidate).now_or_never().unwrap().unwrap()).receipt;
    assert_eq!(
        (instead.policy, instead.instead_of),
        (ContextPolicy::DropOldest, Some(ContextPolicy::Summarise))
    );
    assert!(
        instead.to_string().starts_with("policy=drop_oldest; instead_of=summarise; removed="),
        "{instead}"
    );
}

#[test]
fn where_there_is_no_room_for_a_summary_turns_go_without() {
    let candidate = candidate(rule(ContextPolicy::Summarise, 100));
    let receipt = edited(fit(&call(5), &candidate).unwrap()).receipt;
    assert_eq!(
        (receipt.policy, receipt.instead_of),
        (ContextPolicy::DropOldest, Some(ContextPolicy::Summarise))
    );
}

#[test]
fn compression_alone_may_do() {
    let compress = Some(vec![Compression::Whitespace]);
    let body = json!({"model": "m", "max_tokens": 20, "messages": [{"role": "user", "content": format!("a{}\nb", " ".repeat(2_000))}]});
    let call = Call::read(RequestId::new(), CallerId::new("c"), Dialect::OpenAiChat, body.to_string().into())
        .unwrap();
    for policy in ContextPolicy::ALL {
        let candidate = candidate(ContextRule { compress: compress.clone(), ..rule(policy, 200) });
        assert_eq!(objection(&call, &candidate), None);
        let receipt = edited(fit(&call, &candidate).unwrap()).receipt;
        assert_eq!((receipt.removed, receipt.compressed), (0, 1), "{policy:?}");
    }
    // What it does not make short enough is refused.
    let candidate = candidate(ContextRule { compress, ..rule(ContextPolicy::Refuse, 100) });
    assert_eq!(fit(&super::tests::call(5), &candidate).unwrap_err().kind, FailureKind::ContextLength);
}

#[test]
fn what_stays_goes_where_it_may_fit() {
    // Some 360 tokens are estimated, and the model reads 400: the answer has less room than it may want, and that is all.
    let call = asking(json!([{"role": "user", "content": "words ".repeat(230)}]));
    for policy in ContextPolicy::ALL {
        let candidate = candidate(rule(policy, 400));
        assert_eq!(objection(&call, &candidate), None);
        assert!(matches!(fit(&call, &candidate), Ok(Fit::AsItIs)), "{policy:?}");
    }
    // What can go is gone first.
    let talk = json!([{"role": "user", "content": "a ".repeat(99)}, {"role": "assistant", "content": "b"},
        {"role": "user", "content": "words ".repeat(230)}]);
    let Edited { request, receipt } =
        edited(fit(&asking(talk), &candidate(rule(ContextPolicy::DropOldest, 400))).unwrap());
    assert_eq!((request.messages.len(), receipt.removed, receipt.room), (1, 2, Some(300)));
    assert!(receipt.tokens > 300, "and what it comes to is told: {receipt}");
}

#[test]
fn a_text_that_comes_again_is_not_lost_with_its_last_place() {
    let code = "fn main() { println!(42); } // the only copy\n".repeat(8);
    let call = |id: &str, page: u32| json!({"role": "assistant", "content": null, "tool_calls": [{"id": id, "type": "function", "function": {"name": "read", "arguments": json!({"page": page}).to_string()}}]});
    let result = |id: &str, text: &str| json!({"role": "tool", "tool_call_id": id, "content": text});
    // The question stays and the first round goes, in which its text comes again.
    let messages = json!([{"role": "user", "content": code}, call("1", 1), result("1", &code), call("2", 2),
        result("2", &"x ".repeat(900)), call("3", 1), result("3", "end")]);
    for policy in [ContextPolicy::DropOldest, ContextPolicy::KeepLast, ContextPolicy::MiddleOut] {
        let rule = ContextRule { compress: Some(Compression::ALL.to_vec()), ..rule(policy, 600) };
        let Edited { request, receipt } = edited(fit(&asking(messages.clone()), &candidate(rule)).unwrap());
        assert!(receipt.removed > 0 && receipt.tokens <= 500, "{policy:?}: {receipt}");
        let said = format!("{request:?}");
        assert!(said.contains("the only copy"), "{policy:?}: {said}");
    }
}

#[test]
fn a_summary_stands_in_the_question_before_where_none_follows() {
    let call = |id: u32| json!({"role": "assistant", "content": null, "tool_calls": [{"id": id.to_string(), "type": "function", "function": {"name": "f", "arguments": "{}"}}]});
    let result =
        |id: u32| json!({"role": "tool", "tool_call_id": id.to_string(), "content": "word ".repeat(60)});
    let rounds = (0..6).flat_map(|id| [call(id), result(id)]);
    let messages: Vec<_> = [json!({"role": "user", "content": "do it"})].into_iter().chain(rounds).collect();
    let candidate = candidate(rule(ContextPolicy::Summarise, 400));
    let Fit::Gap(mut edited, gap) = fit(&asking(json!(messages)), &candidate).unwrap() else {
        panic!("a summary")
    };
    edited.fill(&gap, "it called f", "m");
    let Edited { request, receipt } = *edited;
    let roles: Vec<Role> = request.messages.iter().map(|message| message.role).collect();
    assert_eq!(roles[..2], [Role::User, Role::Assistant]);
    let said = format!("{:?}", request.messages[0].parts);
    assert!(said.contains("do it") && said.contains("it called f"), "{said}");
    assert_eq!(receipt.tokens, count::prompt("m", &request));
}

#[test]
fn one_that_thinks_has_room_for_it() {
    let gap = Gap { messages: vec![Message::user("hi")], at: 0, tokens: 70 };
    let wanted = super::wanted(&gap, "gpt-5-mini", true);
    assert_eq!(wanted.max_tokens, Some(70 + limits::SUMMARY_THINKING_TOKENS));
    assert_eq!((wanted.temperature, wanted.reasoning_effort.as_deref()), (None, Some("low")));
}

#[tokio::test]
async fn a_long_prompt_is_cut_where_it_holds_up_nobody() {
    let said =
        |at: usize| json!({"role": if at.is_multiple_of(2) { "user" } else { "assistant" }, "content": "hi"});
    let talk: Vec<_> = (0..20_001).map(said).collect();
    let call = asking(json!(talk));
    assert!(call.body.len() > limits::FITTED_AT_ONCE_BYTES_MAX);
    let candidate = candidate(rule(ContextPolicy::DropOldest, 2_000));
    let mut fitting = std::pin::pin!(super::fit(&call, &candidate));
    assert!(fitting.as_mut().now_or_never().is_none(), "it is done elsewhere");
    let Edited { request, receipt } = edited(fitting.await.unwrap());
    assert_eq!(receipt.removed + request.messages.len(), 20_001);
    assert!(receipt.tokens <= 1_900, "{receipt}");
}
