use std::sync::Arc;

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
    // Some 560 tokens are estimated, which may be a third too much.
    let tokens = count::prompt("m", call(5).decoded().unwrap());
    let refuses = |window| objection(&call(5), &candidate(rule(ContextPolicy::Refuse, window))).is_some();
    assert!(!refuses(tokens - 1) && !refuses(tokens / 3 * 2) && refuses(tokens / 3 * 2 - 1));
}

#[test]
fn one_huge_message_is_an_error_with_the_numbers() {
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "word ".repeat(1_000)}]});
    let call = Call::read(RequestId::new(), CallerId::new("c"), Dialect::OpenAiChat, body.to_string().into());
    let failure = fit(&call.unwrap(), &candidate(rule(ContextPolicy::MiddleOut, 300))).unwrap_err();
    assert_eq!(failure.kind, FailureKind::ContextLength);
    // Half of the window stays for the prompt, since the answer is not bounded.
    let says = "instructions, tools and the last turn alone have about 1257 tokens, and the model has room for 150; \
                shorten it, or ask for fewer `max_tokens`";
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
    let wanted = wanted(&gap, "small");
    assert_eq!((wanted.model.as_str(), wanted.max_tokens), ("small", Some(70)));
    let said = format!("{:?}", wanted.messages[1]);
    assert!(said.contains("user: question 0: word") && said.contains("assistant: answer 0: word"), "{said}");
    // However much it writes.
    let (summary, tokens) = message(&"very long ".repeat(500), &gap, "m");
    edited.fill(&gap, summary, tokens);
    let Edited { request, receipt } = *edited;
    assert_eq!(receipt.tokens, count::prompt("m", &request));
    assert!(receipt.tokens <= 280, "{receipt}");
    assert_eq!((request.messages[0].role, request.messages[1].role), (Role::System, Role::User));
    assert!(format!("{:?}", request.messages[1]).contains("[Summary of earlier messages"), "{request:?}");

    // Without one there is room for more of what was said.
    let instead = super::tests::edited(without_summary(&call(5), &candidate).unwrap()).receipt;
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
