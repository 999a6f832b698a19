//! Promise: without a configuration hoosh finds local servers and keys in the environment, and says what it found.

use testkit::{Hoosh, Script, Upstream, chat_body, completion};

use crate::header;

#[tokio::test]
async fn local_servers_and_keys_are_found_and_told() {
    let local = Upstream::start_at(&[1234, 8000, 5000, 8080, 11434]).await;
    local.always(Script::json(completion("ok")));
    // A vendor that has no listing, so that nothing ever asks it for one: tests do not call the world.
    let hoosh = Hoosh::start_without_config(&[("PERPLEXITY_API_KEY", "pplx-secret")]).await;

    // What the local server lists is routed to it.
    let response = hoosh.post("/v1/chat/completions", chat_body("listed-model", false)).await;
    assert_eq!(response.status(), 200, "{}", hoosh.log());
    assert_eq!(local.requests("/chat/completions").len(), 1);
    assert!(!header(&response, "x-hoosh-provider").is_empty());

    let log = hoosh.log();
    for words in ["listed-model", "perplexity", "PERPLEXITY_API_KEY", &local.url()] {
        assert!(log.contains(words), "{words} is missing in:\n{log}");
    }
    assert!(!log.contains("pplx-secret"), "{log}");
}
