//! Every key there is: what it takes, what it is without it, what it does.
//!
//! The reader knows keys from this table alone, and the table in `docs/configuration.md` is printed from it, so that
//! what is documented, what is accepted and what is the default cannot drift apart.

use std::time::Duration;

use figment::value::{Dict, Num, Tag, Value};
use hoosh_core::limits;
use hoosh_providers::PRESETS;
use hoosh_router::Strategy;

use super::audit;

/// One key.
#[derive(Debug)]
pub(crate) struct Key {
    /// Where it is: `server.port`; `[]` for each entry of a list, `*` for any name.
    pub(crate) path: &'static str,
    /// What it takes.
    pub(crate) kind: Kind,
    /// What it is if nobody says.
    pub(crate) default: Fallback,
    /// What it does, in a sentence or two.
    pub(crate) doc: &'static str,
}

/// What a key takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An IP address to listen on.
    Address,
    /// A whole number in a range, both ends included.
    Whole { min: u64, max: u64 },
    /// A time in seconds, fractions allowed.
    Seconds { zero: bool },
    /// How often something is done, in seconds, fractions allowed; 0: never.
    Interval { min: Duration },
    /// True or false.
    Switch,
    /// A provider's name.
    Name,
    /// An `http` or `https` URL.
    Url,
    /// Text that is never shown.
    Secret,
    /// A list of texts that are never shown.
    Secrets,
    /// A list of model patterns.
    Patterns,
    /// A list of origins of web pages.
    Origins,
    /// A model name or a list of them.
    Targets,
    /// What is done about what a provider cannot be told.
    Fidelity,
    /// The name of a model.
    Model,
    /// A list of whole numbers.
    Weights,
    /// A number from 0 to 1.
    Fraction,
    /// The path of a file.
    Path,
    /// A text without spaces.
    Word,
    /// A list of them.
    Words,
    /// A routing strategy.
    Strategy,
    /// What is done when all who could answer are let alone.
    OnExhausted,
    /// When the configuration is read again.
    Reload,
    /// When what a call took is on disk.
    Durability,
    /// What is done about calls whose price is not known.
    OnUnpriced,
    /// What is done about a prompt that is too long.
    Context,
    /// A list of ways to make prompts shorter.
    Compress,
    /// A pool of a budget: a kind and a name.
    Pool,
    /// When a pool begins anew.
    Window,
    /// What happens when a pool has not enough left.
    PoolMode,
    /// An amount of US dollars.
    Dollars,
    /// A time zone.
    TimeZone,
    /// A list of percents.
    Percents,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A kind of provider.
    ProviderType,
}

/// What a key is if nobody says.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fallback {
    /// This text.
    Text(&'static str),
    /// This number.
    Whole(u64),
    /// This number, with a fraction.
    Fraction(f64),
    /// This time.
    Time(Duration),
    /// This.
    Switch(bool),
    /// An empty list.
    Empty,
    /// It stays open; the words say what then happens.
    Open(&'static str),
    /// It must be said.
    Required,
}

/// A section or key of hoosh 1.3 that is accepted and not acted on.
#[derive(Debug)]
pub(crate) struct Legacy {
    /// Where it is, as in [`Key::path`].
    pub(crate) path: &'static str,
    /// What a user should know beyond that; empty if nothing.
    pub(crate) note: &'static str,
}

/// The variable that holds the pepper of API keys.
pub(crate) const PEPPER_VARIABLE: &str = "HOOSH_KEY_PEPPER";

/// The variable that holds the keys of the audit log.
pub(crate) const AUDIT_KEY_VARIABLE: &str = "HOOSH_AUDIT_KEY";

/// Longest time that a key takes: a day.
pub(crate) const SECONDS_MAX: u64 = 86_400;

/// Provider types of hoosh 1.3 that this version has no preset for, without case and separators.
pub(crate) const LEGACY_TYPES: &[&str] = &["whisper", "tensorrt", "tensorrtllm", "onnx"];

/// Most requests or tokens of a limit: a trillion, more than anybody has in a day.
pub(crate) const RATE_MAX: u64 = 1_000_000_000_000;

pub(crate) const PRIORITY_MAX: u64 = 1_000_000;

/// All keys, in the order they are documented in.
pub(crate) const KEYS: &[Key] = &[
    Key {
        path: "server.bind",
        kind: Kind::Address,
        default: Fallback::Text("127.0.0.1"),
        doc: "Address to listen on. `0.0.0.0` or `::` lets other machines in: then set `[auth] tokens`.",
    },
    Key {
        path: "server.port",
        kind: Kind::Whole { min: 0, max: u16::MAX as u64 },
        default: Fallback::Whole(8088),
        doc: "Port to listen on. 0 takes any free one; the start-up message says which.",
    },
    Key {
        path: "server.strategy",
        kind: Kind::Strategy,
        default: Fallback::Text("priority"),
        doc: "Order among providers of equal priority: `priority` (the more specific pattern, then the order of the \
              file), `round_robin` (in turn), `weighted` (by chance, see `weight`), `least_busy` (the fewest calls under \
              way), `lowest_latency` and `lowest_ttft` (who answers, or begins to, the soonest lately), `cheapest` (by \
              their [prices](#what-calls-cost)), `local_first` (on this machine or network first), or `direct` (the first of \
              `priority` alone: nobody takes over).",
    },
    Key {
        path: "server.lossy",
        kind: Kind::Fidelity,
        default: Fallback::Text("report"),
        doc: "What is done about parts of a call that a provider's dialect cannot express: `report` (they are named in \
              `x-hoosh-lossy`), `strict` (such a provider is not asked) or `silent`. A caller's `x-hoosh-fidelity` \
              header goes before it.",
    },
    Key {
        path: "server.max_body_bytes",
        kind: Kind::Whole { min: 1_024, max: 1 << 32 },
        default: Fallback::Whole(limits::REQUEST_BODY_BYTES_MAX as u64),
        doc: "Largest request body.",
    },
    Key {
        path: "server.request_timeout_secs",
        kind: Kind::Seconds { zero: false },
        default: Fallback::Open("none; each attempt has its provider's limits"),
        doc: "Longest time until an answer begins, all attempts together; one that is not streamed begins when it is \
              whole. A stream that has begun is bounded by its provider's `total_timeout_secs`.",
    },
    Key {
        path: "server.drain_timeout_secs",
        kind: Kind::Seconds { zero: true },
        default: Fallback::Time(limits::DRAIN_TIME_MAX),
        doc: "Time that calls in flight get to finish after a stop signal.",
    },
    Key {
        path: "server.body_timeout_secs",
        kind: Kind::Seconds { zero: false },
        default: Fallback::Time(limits::REQUEST_BODY_TIME_MAX),
        doc: "Time for a client to send its request body.",
    },
    Key {
        path: "server.waiting_comment_secs",
        kind: Kind::Interval { min: limits::WAITING_COMMENT_INTERVAL_MIN },
        default: Fallback::Time(limits::WAITING_COMMENT_INTERVAL),
        doc: "How long a streamed call waits for its answer, in line or for the provider, before the response begins with \
              a comment that says so, and how often [one follows](http-api.md#while-a-stream-waits). An error after \
              that is an event and no status. 0: never.",
    },
    Key {
        path: "server.max_connections",
        kind: Kind::Whole { min: 1, max: 1_000_000 },
        default: Fallback::Whole(limits::CONNECTIONS_MAX as u64),
        doc: "Connections served at once.",
    },
    Key {
        path: "server.cors_origins",
        kind: Kind::Origins,
        default: Fallback::Empty,
        doc: "Origins of web pages that may call the gateway from a browser, such as `https://app.example.com`; `*` \
              for any.",
    },
    Key {
        path: "server.reload",
        kind: Kind::Reload,
        default: Fallback::Text("signal"),
        doc: "When this file is [read again](#reload) while the gateway runs: `signal` (at SIGHUP and `POST \
              /v1/admin/reload`), `watch` (also within some 4 s of a change of the file), or `off`.",
    },
    Key {
        path: "cache.enabled",
        kind: Kind::Switch,
        default: Fallback::Switch(false),
        doc: "Whether an answer is given again to the same caller who asks the same of the same model.",
    },
    Key {
        path: "cache.ttl_secs",
        kind: Kind::Seconds { zero: false },
        default: Fallback::Time(limits::CACHE_AGE_MAX),
        doc: "How long.",
    },
    Key {
        path: "cache.max_bytes",
        kind: Kind::Whole { min: 1 << 20, max: 1 << 40 },
        default: Fallback::Whole(limits::CACHE_BYTES_MAX),
        doc: "Memory for all answers. What is used least is let go of first; an answer above 4 MiB is not kept.",
    },
    Key {
        path: "cache.any_temperature",
        kind: Kind::Switch,
        default: Fallback::Switch(false),
        doc: "Whether calls are cached that leave the model a choice: with a temperature above 0, or with none, which most \
              providers take for 1. Without it only those that say 0; embeddings always.",
    },
    Key {
        path: "cache.tool_calls",
        kind: Kind::Switch,
        default: Fallback::Switch(false),
        doc: "Whether calls that offer tools, and answers that call one, are cached too.",
    },
    Key {
        path: "cache.semantic_model",
        kind: Kind::Model,
        default: Fallback::Open("only the same words are the same question"),
        doc: "A model of embeddings, as callers would name it. Then a question that was not asked yet is also given the \
              answer to [the same one in other words](http-api.md#the-same-question-in-other-words): the last message is \
              embedded by this model, which sees it, for up to 1 s. `provider/model` keeps to one provider; vectors of \
              several do not compare.",
    },
    Key {
        path: "cache.semantic_threshold",
        kind: Kind::Fraction,
        default: Fallback::Fraction(limits::SEMANTIC_THRESHOLD),
        doc: "Cosine of two questions' vectors from which they count as one. Which is right depends on the model: with \
              all-MiniLM-L6-v2 0.95 takes \"How can I\" for \"How do I\" (0.99 alike) and some freer rewordings, and tells \
              \"Should I buy\" from \"Should I sell\" (0.92).",
    },
    Key {
        path: "cache.warm",
        kind: Kind::Path,
        default: Fallback::Open("nothing is asked beforehand"),
        doc: "A file of requests that are asked after the start so that their [answers are there](http-api.md#warming), in \
              JSON, one a line. Relative to the folder of this file.",
    },
    Key {
        path: "routing.retries",
        kind: Kind::Whole { min: 0, max: 5 },
        default: Fallback::Whole(1),
        doc: "Tries of the same provider after its first, once all others have failed too: for failures that another try \
              can mend, after 250 ms and then twice as long each time, or as long as the provider says. Clients try \
              again themselves, so that more of it multiplies. Over all of its calls a caller gets one such try for every \
              ten calls, and ten in advance.",
    },
    Key {
        path: "routing.retry_wait_secs",
        kind: Kind::Seconds { zero: true },
        default: Fallback::Time(Duration::from_secs(5)),
        doc: "Longest that a call waits for providers that failed or are let alone, all its waits together. Whoever would wait \
              longer is told when to come back.",
    },
    Key {
        path: "routing.on_exhausted",
        kind: Kind::OnExhausted,
        default: Fallback::Text("reject"),
        doc: "What is done when all who have the model are let alone: `reject` (503, or 429 if all are over their limits, \
              with `Retry-After`), `queue` (the first who may be asked again is waited for) or `least_bad` (that one is \
              asked at once).",
    },
    Key {
        path: "routing.failures",
        kind: Kind::Whole { min: 1, max: 1_000 },
        default: Fallback::Whole(5),
        doc: "Failures in a row after which a model of a provider is let alone. What the caller did wrong never counts. \
              After the rest one call finds out whether it is well again.",
    },
    Key {
        path: "routing.rest_secs",
        kind: Kind::Seconds { zero: false },
        default: Fallback::Time(Duration::from_secs(5)),
        doc: "How long it is let alone at first; each time it fails again, twice as long.",
    },
    Key {
        path: "routing.rest_max_secs",
        kind: Kind::Seconds { zero: false },
        default: Fallback::Time(Duration::from_secs(300)),
        doc: "The longest that it is let alone.",
    },
    Key {
        path: "routing.heartbeat_secs",
        kind: Kind::Seconds { zero: true },
        default: Fallback::Time(Duration::from_secs(5)),
        doc: "How often a provider on this machine or network that has trouble is asked for a sign of life (its list of \
              models, nothing is generated). After three without one it is not asked until it gives one. 0: never.",
    },
    Key {
        path: "routing.probe_secs",
        kind: Kind::Seconds { zero: true },
        default: Fallback::Time(Duration::from_secs(10)),
        doc: "How often a remote provider that is let alone because it failed is asked for its list of models, which is free. \
              If it gives it, the next call asks it at once, rather than after a rest that grows to minutes; else the rest \
              ends when it would have. Not after rate limits, `Retry-After` or a refused key. 10 s is the second rest: in the \
              first nothing would be gained. 0: never.",
    },
    Key {
        path: "routing.hedge_percent",
        kind: Kind::Whole { min: 1, max: 100 },
        default: Fallback::Whole(limits::HEDGE_PERCENT as u64),
        doc: "Calls of a hundred that may ask a second provider beside a slow one, over all providers with `hedge`; ten in \
              advance. 5 is about as many as are slower than usual: when all have become slow it keeps their load from \
              doubling.",
    },
    Key {
        path: "routing.context_fallback",
        kind: Kind::Patterns,
        default: Fallback::Empty,
        doc: "Models that are asked, in their order, when nobody answered and the prompt was too long for one who was asked, or \
              for all who could have been.",
    },
    Key {
        path: "routing.policy_fallback",
        kind: Kind::Patterns,
        default: Fallback::Empty,
        doc: "The same when the policy of one who was asked does not allow the call (`content_policy_violation`, \
              `content_filter`).",
    },
    Key {
        path: "routing.context",
        kind: Kind::Context,
        default: Fallback::Open("none: the provider refuses it, or cuts it off"),
        doc: "What is done about a prompt that is [longer than the model reads](#prompts-that-are-too-long), where that is \
              known: `refuse` (it is not asked), `drop_oldest`, `keep_last`, `middle_out` or `summarise`. A caller's \
              `x-hoosh-context` header goes before it.",
    },
    Key {
        path: "routing.keep_last",
        kind: Kind::Whole { min: 1, max: 1_000_000 },
        default: Fallback::Open("10"),
        doc: "Turns that `keep_last` keeps, the last question among them.",
    },
    Key {
        path: "routing.summarise_with",
        kind: Kind::Model,
        default: Fallback::Open("none; `summarise` needs it"),
        doc: "The model that writes the summaries of `summarise`, by a name or alias that callers could use. It sees what is \
              left out; of calls with `x-hoosh-privacy: local` only if it is on this machine or network too.",
    },
    Key {
        path: "routing.compress",
        kind: Kind::Compress,
        default: Fallback::Open("`[]`"),
        doc: "How every prompt is made shorter, too long or not: `whitespace` (blanks at line ends, blank lines in a row), \
              `duplicates` (of a text above 255 bytes that comes again, the last stays), `stale_tool_results` (a result goes \
              when the same call was made again). What models wrote is not touched, and of instructions only blanks are.",
    },
    Key {
        path: "costs.on_unpriced",
        kind: Kind::OnUnpriced,
        default: Fallback::Text("warn"),
        doc: "What is done about calls whose price is not known, which is not the same as nothing: `allow` (they have no cost), \
              `warn` (the log says so, once for each model) or `block` (who would answer them is not asked).",
    },
    Key {
        path: "costs.prices",
        kind: Kind::Path,
        default: Fallback::Open("the built-in catalogue's prices alone"),
        doc: "A file of further `[[prices]]`. Relative to the folder of this file; it is read with it, at a start and a reload.",
    },
    Key {
        path: "auth.tokens",
        kind: Kind::Secrets,
        default: Fallback::Empty,
        doc: "Tokens that callers must show as `Authorization: Bearer …`, or in the header or query of a vendor's client \
              ([HTTP API](http-api.md)). They may do everything but what [an admin does](http-api.md#who-may-do-what). Where \
              there are none, nor `admin_tokens` or `keys`, everybody may call.",
    },
    Key {
        path: "auth.admin_tokens",
        kind: Kind::Secrets,
        default: Fallback::Empty,
        doc: "Tokens that may do everything: make keys, reload, listen to what happens.",
    },
    Key {
        path: "auth.keys",
        kind: Kind::Path,
        default: Fallback::Open("no keys but the tokens"),
        doc: "A file that [API keys](#keys-of-your-own) are kept in, made when it is not there: `keys.db`. Relative to the folder \
              of this file. `hoosh keys` and `/v1/admin/keys` make and end them; as soon as it is said, nobody may call without a \
              key or token.",
    },
    Key {
        path: "auth.jwt_keys",
        kind: Kind::Path,
        default: Fallback::Open("no signed tokens are taken"),
        doc: "A file with the keys (JWK Set) that [signed tokens](#signed-tokens) are checked with, relative to the folder of this \
              file and read at the start and at each reload; or the `https://` URL where an identity provider publishes them.",
    },
    Key {
        path: "auth.jwt_refresh_secs",
        kind: Kind::Interval { min: limits::JWKS_REST },
        default: Fallback::Time(Duration::from_secs(600)),
        doc: "How often keys are fetched from a URL, so that one that is withdrawn ends: every 10 minutes. They are also fetched, at most every \
              5 s, when a token comes that none of them has signed. 0: only then and at the start.",
    },
    Key {
        path: "auth.jwt_algorithms",
        kind: Kind::Words,
        default: Fallback::Open("`RS256`, `ES256`, `EdDSA`"),
        doc: "How they may be signed; also `HS256`, `HS384` and `HS512`, where who can check a token can make one too.",
    },
    Key {
        path: "auth.jwt_issuers",
        kind: Kind::Words,
        default: Fallback::Empty,
        doc: "Who may have made them (`iss`). Empty: whoever has one of the keys.",
    },
    Key {
        path: "auth.jwt_audiences",
        kind: Kind::Words,
        default: Fallback::Empty,
        doc: "Names of this gateway, one of which must be in `aud`. Empty: only tokens without `aud` are taken.",
    },
    Key {
        path: "auth.jwt_caller_claim",
        kind: Kind::Word,
        default: Fallback::Text("sub"),
        doc: "The claim that says who calls; callers are named `jwt:` and that. A name that begins with `/` is a way into the claims \
              (JSON Pointer): `/realm_access/user`.",
    },
    Key {
        path: "auth.jwt_scopes_claim",
        kind: Kind::Word,
        default: Fallback::Open("each may do `inference`"),
        doc: "The claim that holds the [scopes](http-api.md#who-may-do-what), each with `hoosh:` before it: \
              `hoosh:inference`. A token without it may do nothing.",
    },
    Key {
        path: "auth.jwt_models_claim",
        kind: Kind::Word,
        default: Fallback::Open("each may ask for all models"),
        doc: "The claim that holds the models, as patterns, that may be asked for. A token without it is refused.",
    },
    Key {
        path: "auth.jwt_pools_claim",
        kind: Kind::Word,
        default: Fallback::Open("`key:`, and those that a call names"),
        doc: "The claim that holds the [pools](http-api.md#budgets) that are charged too, as a key names them: a text or a list. A token without it is \
              refused, since it would go past a budget.",
    },
    Key {
        path: "auth.jwt_pools_prefix",
        kind: Kind::Word,
        default: Fallback::Open("nothing"),
        doc: "What stands before each name of that claim: `team:` makes `team:search` of a group `search`.",
    },
    Key {
        path: "limits.requests_per_minute",
        kind: Kind::Whole { min: 1, max: RATE_MAX },
        default: Fallback::Open("no limit"),
        doc: "Calls of each caller, by its token or key; without any, all are one caller. They come back steadily, one every 60 s divided by this, and as many can be \
              had at once after a pause. Above it: 429 with `Retry-After`, and nobody is asked.",
    },
    Key {
        path: "limits.tokens_per_minute",
        kind: Kind::Whole { min: 1, max: RATE_MAX },
        default: Fallback::Open("no limit"),
        doc: "The same of tokens, input and output together. A call is taken for a quarter of its body's bytes and its \
              `max_tokens` (500 where it says none) until it is known what it took.",
    },
    Key {
        path: "limits.requests_per_day",
        kind: Kind::Whole { min: 1, max: RATE_MAX },
        default: Fallback::Open("no limit"),
        doc: "The same of calls in 24 hours, whatever the calendar says.",
    },
    Key {
        path: "limits.concurrent",
        kind: Kind::Whole { min: 1, max: 1_000_000 },
        default: Fallback::Open("no limit"),
        doc: "Calls of each caller at once, streams to their end.",
    },
    Key {
        path: "aliases.*",
        kind: Kind::Targets,
        default: Fallback::Open("none"),
        doc: "Another name for a model: `fast = \"llama3\"`, or a list that is tried in its order. A target may be \
              `provider/model` or another alias.",
    },
    Key {
        path: "groups[].name",
        kind: Kind::Model,
        default: Fallback::Required,
        doc: "The name that callers use, as with an alias.",
    },
    Key {
        path: "groups[].models",
        kind: Kind::Targets,
        default: Fallback::Required,
        doc: "Models one of which answers, each a model, an alias, or `provider/model`.",
    },
    Key {
        path: "groups[].strategy",
        kind: Kind::Strategy,
        default: Fallback::Text("weighted"),
        doc: "How that one is chosen; the others follow when it fails. `priority` and `direct` take them in the order of `models`.",
    },
    Key {
        path: "groups[].weights",
        kind: Kind::Weights,
        default: Fallback::Open("1 each"),
        doc: "How often each is taken beside the others, in the order of `models`.",
    },
    Key {
        path: "groups[].canary",
        kind: Kind::Model,
        default: Fallback::Open("none"),
        doc: "A model that is tried out on `canary_percent` of the calls; of a conversation (`x-hoosh-session`) on all or \
              none. Other calls come to it only when all else has failed.",
    },
    Key {
        path: "groups[].canary_percent",
        kind: Kind::Whole { min: 0, max: 100 },
        default: Fallback::Whole(5),
        doc: "Its share.",
    },
    Key {
        path: "budget.ledger",
        kind: Kind::Path,
        default: Fallback::Text("hoosh-ledger.db"),
        doc: "The file in which it is kept what calls have spent, and a row for each call, from the first `[[pools]]` or `log` on; or \
              `memory`, which a restart forgets. One process may have it open.",
    },
    Key {
        path: "budget.durability",
        kind: Kind::Durability,
        default: Fallback::Text("group"),
        doc: "When what a call took is on disk. `group`: at most 5 ms after its end, with what ended meanwhile, and no answer waits for \
              that. `strict`: before the last byte of its answer goes out, so that nothing that ended for its client is lost in \
              a kill; an answer waits some milliseconds for it. Takes a file as `ledger`; counts from the start on.",
    },
    Key {
        path: "budget.pools",
        kind: Kind::Path,
        default: Fallback::Open("beside a file as `ledger`, ending in `.pools.toml`"),
        doc: "The file in which pools are kept that are defined while the gateway runs, by `/v1/admin/pools` or `hoosh pools`; relative to \
              this file. It is made with the first one.",
    },
    Key {
        path: "budget.log",
        kind: Kind::Switch,
        default: Fallback::Switch(false),
        doc: "Whether a row for each call is kept though there are no `[[pools]]`, with which it always is, for `GET /v1/usage`, \
              `GET /v1/costs` and `hoosh costs`. Takes a file as `ledger`.",
    },
    Key {
        path: "budget.keep_days",
        kind: Kind::Whole { min: 0, max: 36_500 },
        default: Fallback::Whole(400),
        doc: "How long rows of calls are kept: 400 days, a year and a month. 0: for ever.",
    },
    Key {
        path: "budget.alert_webhook",
        kind: Kind::Url,
        default: Fallback::Open("none"),
        doc: "An address that is told by `POST`, in JSON, when a pool reaches one of its `alerts`, or a soft one holds more than it has left: \
              see [alerts](#alerts).",
    },
    Key {
        path: "budget.alert_webhook_secret",
        kind: Kind::Secret,
        default: Fallback::Open("they are not signed"),
        doc: "What these messages are signed with, best from a variable as in `\"$ALERT_SECRET\"`: `x-hoosh-signature` has \
              HMAC-SHA-256 of the body.",
    },
    Key {
        path: "audit.enabled",
        kind: Kind::Switch,
        default: Fallback::Switch(false),
        doc: "Whether each call is written into a log that shows later whether it was changed.",
    },
    Key {
        path: "audit.folder",
        kind: Kind::Path,
        default: Fallback::Text("hoosh-audit"),
        doc: "The folder of that log. One process may write to it.",
    },
    Key {
        path: "audit.key_file",
        kind: Kind::Path,
        default: Fallback::Text("hoosh-audit.key"),
        doc: "The file of its keys, the one in use last; made with one where there is none, for its owner only. The variable \
              `HOOSH_AUDIT_KEY` holds them instead. Whoever has them can write the log anew: keep them, and the checkpoints, \
              apart from it.",
    },
    Key {
        path: "audit.fsync",
        kind: Kind::OneOf(audit::FSYNC),
        default: Fallback::Text("batch"),
        doc: "When a record outlives a loss of power: `always` before its call's answer ends, `batch` within 5 ms or as soon as \
              the disk can, `never` when the system gets to it and at each checkpoint.",
    },
    Key {
        path: "audit.on_full",
        kind: Kind::OneOf(audit::ON_FULL),
        default: Fallback::Text("wait"),
        doc: "What a call does when 65,536 are under way or wait to be written down: `wait`, or be `refuse`d with 503.",
    },
    Key {
        path: "audit.on_error",
        kind: Kind::OneOf(audit::ON_ERROR),
        default: Fallback::Text("refuse"),
        doc: "What happens while nothing can be written: calls are `refuse`d with 503, or `continue`, and of those beyond 65,536 it is \
              written later how many there were.",
    },
    Key {
        path: "audit.checkpoint_records",
        kind: Kind::Whole { min: 1, max: limits::AUDIT_CHECKPOINT_RECORDS_MAX as u64 },
        default: Fallback::Whole(limits::AUDIT_CHECKPOINT_RECORDS as u64),
        doc: "Records after which it is signed how far the log has come.",
    },
    Key {
        path: "audit.checkpoint_secs",
        kind: Kind::Seconds { zero: false },
        default: Fallback::Time(limits::AUDIT_CHECKPOINT_INTERVAL),
        doc: "Longest time until a record is covered by such a checkpoint.",
    },
    Key {
        path: "audit.checkpoint_folder",
        kind: Kind::Path,
        default: Fallback::Open("none"),
        doc: "Another folder that checkpoints are written to: where those who could cut the log off cannot.",
    },
    Key {
        path: "audit.checkpoint_stdout",
        kind: Kind::Switch,
        default: Fallback::Switch(false),
        doc: "Whether checkpoints are printed to standard output too, a line of JSON each.",
    },
    Key {
        path: "audit.checkpoint_webhook",
        kind: Kind::Url,
        default: Fallback::Open("none"),
        doc: "Where each checkpoint is sent to as well, as the body of a `POST`; tried three times.",
    },
    Key {
        path: "audit.segment_bytes",
        kind: Kind::Whole { min: 64 << 10, max: limits::AUDIT_SEGMENT_BYTES_MAX },
        default: Fallback::Whole(limits::AUDIT_SEGMENT_BYTES),
        doc: "Size from which on the log goes on in another file, as it does each midnight (UTC). The last is read at a start.",
    },
    Key {
        path: "audit.keep_days",
        kind: Kind::Whole { min: 0, max: 36_500 },
        default: Fallback::Whole(0),
        doc: "Days after which a file of the log is moved to `archive` in the folder, from where it may be taken away. 0: never.",
    },
    Key {
        path: "audit.texts",
        kind: Kind::Patterns,
        default: Fallback::Empty,
        doc: "Models, as they are asked for, whose calls' requests and answers are kept beside the log; of the others it has salted \
              digests alone. `hoosh audit erase` erases them.",
    },
    Key {
        path: "pools[].name",
        kind: Kind::Pool,
        default: Fallback::Required,
        doc: "Whose it is, as `kind:name`. Calls are charged to `key:` with the name of their key, `user:` and `agent:` as they \
              say it in `x-hoosh-user` and `x-hoosh-agent`, and `model:` as they ask for it, where there is such a pool; other \
              kinds (`team:`, `organisation:`) through `parent`. The name `*` stands for each of its kind that has no pool \
              of its own.",
    },
    Key {
        path: "pools[].parent",
        kind: Kind::Pool,
        default: Fallback::Open("none"),
        doc: "The pool that is charged whenever this one is.",
    },
    Key {
        path: "pools[].tokens",
        kind: Kind::Whole { min: 0, max: 1 << 60 },
        default: Fallback::Open("no limit"),
        doc: "Tokens of prompts and answers that may be spent in a window.",
    },
    Key {
        path: "pools[].usd",
        kind: Kind::Dollars,
        default: Fallback::Open("no limit"),
        doc: "The same in money. Calls whose price is not known spend none.",
    },
    Key {
        path: "pools[].window",
        kind: Kind::Window,
        default: Fallback::Text("none"),
        doc: "When it begins anew: with the calendar, or for a rolling one, what may be spent within any so many seconds.",
    },
    Key {
        path: "pools[].time_zone",
        kind: Kind::TimeZone,
        default: Fallback::Text("UTC"),
        doc: "Where its days, weeks (from Monday) and months begin.",
    },
    Key {
        path: "pools[].mode",
        kind: Kind::PoolMode,
        default: Fallback::Text("hard"),
        doc: "What happens when it has not enough left: `hard` (answers are kept shorter, then calls are refused with 429 \
              `insufficient_quota`) or `soft` (it is told in the log and goes on).",
    },
    Key {
        path: "pools[].alerts",
        kind: Kind::Percents,
        default: Fallback::Empty,
        doc: "Percents of it at which somebody is told, once in each window: in the log, `GET /metrics`, `GET /v1/events`, and by \
              `[budget] alert_webhook`.",
    },
    Key {
        path: "strategies.*",
        kind: Kind::Strategy,
        default: Fallback::Open("`[server] strategy`"),
        doc: "Order among providers of equal priority for models that match a pattern, in place of `[server] strategy`: \
              `\"llama*\" = \"least_busy\"`, with `*` for any text and `?` for one character. The most specific pattern \
              counts: a whole name, then the longer prefix, then the longer of others, then `*`. An alias goes by the pattern \
              for its own name, without one by that for the first model it leads to; a group has its own strategy.",
    },
    Key {
        path: "providers[].type",
        kind: Kind::ProviderType,
        default: Fallback::Required,
        doc: "Kind of provider: one of those below, in any spelling (`LlamaCpp`, `llama_cpp`, `llamacpp`).",
    },
    Key {
        path: "providers[].name",
        kind: Kind::Name,
        default: Fallback::Open("the type; `-2` and so on is added from the second of a type on"),
        doc: "Its name in logs and in `name/model`: letters, digits, `.`, `_`, `-`.",
    },
    Key {
        path: "providers[].base_url",
        kind: Kind::Url,
        default: Fallback::Open("the type's own address"),
        doc: "Where it is.",
    },
    Key {
        path: "providers[].local",
        kind: Kind::Switch,
        default: Fallback::Open(
            "yes for model servers that people run themselves (Ollama, llama.cpp, vLLM, …) at an address of this \
                                machine or network, else no",
        ),
        doc: "Whether it is on this machine or network: whether it may see calls with `x-hoosh-privacy: local`, costs nothing \
              per token where no [price](#what-calls-cost) names it, and is looked after by heartbeats. An address is near if it is private or loopback, or a name that no \
              public resolver knows: one without a dot that does not begin with a digit, or one below `localhost`, `local`, `internal` or `home.arpa`.",
    },
    Key {
        path: "providers[].api_key",
        kind: Kind::Secret,
        default: Fallback::Open("the type's variable, such as `OPENAI_API_KEY`"),
        doc: "Key to call it with. Write `\"$VAR\"` rather than the key itself. The variable's key is only used at the \
              vendor's own address: at another `base_url` say it here.",
    },
    Key {
        path: "providers[].priority",
        kind: Kind::Whole { min: 0, max: PRIORITY_MAX },
        default: Fallback::Whole(hoosh_router::PRIORITY_DEFAULT as u64),
        doc: "Its place among providers that match a model; the lower is asked first.",
    },
    Key {
        path: "providers[].weight",
        kind: Kind::Whole { min: 0, max: PRIORITY_MAX },
        default: Fallback::Whole(1),
        doc: "How often it is taken beside others of its priority by `weighted`, and how much it may carry for \
              `least_busy`. 0: only when no other can answer.",
    },
    Key {
        path: "providers[].strategy",
        kind: Kind::Strategy,
        default: Fallback::Open("the strategy of `[strategies]` or `[server]`"),
        doc: "Order among providers of equal priority for the models that its patterns match, of all who have them: it is \
              `[strategies]` for each pattern in `models`, and the most specific that matches counts. Two providers, or one and \
              `[strategies]`, that give one pattern two strategies are a fault. A provider that is not `enabled` says nothing.",
    },
    Key {
        path: "providers[].stream_window_secs",
        kind: Kind::Seconds { zero: true },
        default: Fallback::Time(Duration::ZERO),
        doc: "How long its streams are held back from their first output on, so that a failure in that time is one for the \
              next provider and the client does not see it. Every streamed answer begins that much later.",
    },
    Key {
        path: "providers[].stream_window_events",
        kind: Kind::Whole { min: 0, max: limits::STREAM_WINDOW_EVENTS_MAX },
        default: Fallback::Whole(0),
        doc: "The same until so many events with output have come, the first among them, however long they take; with \
              `stream_window_secs` until the sooner of both. Most providers send an event for each token. 0: the time alone \
              decides. More than 1 MiB of a stream is held back by neither.",
    },
    Key {
        path: "providers[].hedge",
        kind: Kind::Switch,
        default: Fallback::Switch(false),
        doc: "Whether the next provider is asked too when an answer of this one takes longer to begin than 95 of 100 before \
              it (of the latest 64, once 20 are known). The first that begins to answer is taken and the other call is cut \
              off. Both may be paid for: `x-hoosh-cost` holds both. Slower than the other five times in a row, it \
              fails each time from then on.",
    },
    Key {
        path: "providers[].continue_streams",
        kind: Kind::Switch,
        default: Fallback::Switch(false),
        doc: "Whether a stream of it that breaks in the middle of text is gone on with by the next provider whose models can \
              (`prefill`), given what was written so far. A comment in the stream says so. Not inside a tool call, a JSON \
              schema or signed thinking. Such streams are translated even where they could be passed on as they are.",
    },
    Key {
        path: "providers[].prefill",
        kind: Kind::Switch,
        default: Fallback::Open("yes for llama.cpp, Ollama and Claude before 4.6, else no"),
        doc: "Whether its models go on writing the last message of a request where that is the assistant's.",
    },
    Key {
        path: "providers[].max_concurrent",
        kind: Kind::Whole { min: 1, max: 1_000_000 },
        default: Fallback::Open("no limit"),
        doc: "Calls that it answers at once, streams to their end. The others wait in line, fair between callers by the \
              size of their calls; `x-hoosh-priority` says in which tier.",
    },
    Key {
        path: "providers[].max_concurrent_per_model",
        kind: Kind::Whole { min: 1, max: 1_000_000 },
        default: Fallback::Open("no limit"),
        doc: "The same of each of its models. The line is one for all of them: who waits for a model that is full is passed by \
              the others, and keeps its place.",
    },
    Key {
        path: "providers[].max_waiting",
        kind: Kind::Whole { min: 0, max: 1_000_000 },
        default: Fallback::Whole(limits::QUEUE_WAITING as u64),
        doc: "Calls that may wait in that line. One more is given to the next provider, or refused with 429.",
    },
    Key {
        path: "providers[].rate_limit_rpm",
        kind: Kind::Whole { min: 1, max: RATE_MAX },
        default: Fallback::Open("no limit"),
        doc: "Calls per minute that it is asked by all callers together, tries again among them. One more is given to the next \
              provider, or refused with 429 and `Retry-After`; so its own limit is never run into.",
    },
    Key {
        path: "providers[].rate_limit_tpm",
        kind: Kind::Whole { min: 1, max: RATE_MAX },
        default: Fallback::Open("no limit"),
        doc: "The same of tokens, counted as in `[limits] tokens_per_minute`.",
    },
    Key {
        path: "providers[].models",
        kind: Kind::Patterns,
        default: Fallback::Open("the type's own models, or `[\"*\"]`"),
        doc: "Models it is asked for: names, with `*` for any text and `?` for one character.",
    },
    Key {
        path: "providers[].enabled",
        kind: Kind::Switch,
        default: Fallback::Switch(true),
        doc: "Whether it is in use.",
    },
    Key {
        path: "providers[].max_tokens_limit",
        kind: Kind::Whole { min: 1, max: 1_000_000_000 },
        default: Fallback::Open("none"),
        doc: "A call that asks for more answer tokens than this does not go to it.",
    },
    Key {
        path: "providers[].context_window_tokens",
        kind: Kind::Whole { min: 64, max: 1_000_000_000 },
        default: Fallback::Open("what the catalogue knows of the model"),
        doc: "What its models read and write together: say it for a model server, whose context is what it was started with. A \
              longer prompt is then not sent there, or made shorter by `context`.",
    },
    Key {
        path: "providers[].context",
        kind: Kind::Context,
        default: Fallback::Open("`[routing] context`"),
        doc: "The same for calls that this provider is asked.",
    },
    Key {
        path: "providers[].keep_last",
        kind: Kind::Whole { min: 1, max: 1_000_000 },
        default: Fallback::Open("`[routing] keep_last`"),
        doc: "The same.",
    },
    Key {
        path: "providers[].summarise_with",
        kind: Kind::Model,
        default: Fallback::Open("`[routing] summarise_with`"),
        doc: "The same.",
    },
    Key {
        path: "providers[].compress",
        kind: Kind::Compress,
        default: Fallback::Open("`[routing] compress`"),
        doc: "The same; `[]` for none.",
    },
    Key {
        path: "providers[].lossy",
        kind: Kind::Fidelity,
        default: Fallback::Open("`[server] lossy`"),
        doc: "The same for calls that this provider is asked.",
    },
    Key {
        path: "providers[].cache_ttl_secs",
        kind: Kind::Seconds { zero: true },
        default: Fallback::Open("`[cache] ttl_secs`"),
        doc: "How long its answers are given again; 0 keeps none of them.",
    },
    Key {
        path: "providers[].connect_timeout_secs",
        kind: Kind::Seconds { zero: false },
        default: Fallback::Time(limits::CONNECT_TIME_MAX),
        doc: "Time to open a connection, TLS included.",
    },
    Key {
        path: "providers[].first_byte_timeout_secs",
        kind: Kind::Seconds { zero: false },
        default: Fallback::Time(limits::FIRST_BYTE_TIME_MAX),
        doc: "Time from a streamed request to the head of its answer. What is not streamed shows nothing before its \
              whole answer is there: `total_timeout_secs` bounds that.",
    },
    Key {
        path: "providers[].idle_timeout_secs",
        kind: Kind::Seconds { zero: false },
        default: Fallback::Time(limits::IDLE_TIME_MAX),
        doc: "Longest silence inside a streamed answer.",
    },
    Key {
        path: "providers[].total_timeout_secs",
        kind: Kind::Seconds { zero: false },
        default: Fallback::Time(limits::TOTAL_TIME_MAX),
        doc: "Longest time for one attempt, its whole stream included.",
    },
];

/// A key of `[[prices]]`, which are [read](super::prices) by their digits.
#[derive(Debug)]
pub(crate) struct PriceKey {
    pub(crate) name: &'static str,
    takes: &'static str,
    default: &'static str,
    doc: &'static str,
}

/// What a price is as it stands in the table.
const USD: &str = "US dollars, as a number or a string";

/// Other prices as they stand in the table.
const OTHER: &str = "a number that the usual prices are multiplied by, or a table of prices";

/// All keys of a price, in the order they are documented in.
pub(crate) const PRICES: &[PriceKey] = &[
    PriceKey {
        name: "provider",
        takes: "a provider's name or type, or `*`",
        default: "required",
        doc: "Whose price it is. The name goes before the type, and that before `*`, which is any provider that is not on this \
              machine or network.",
    },
    PriceKey {
        name: "model",
        takes: "a model name or pattern",
        default: "required",
        doc: "As the provider calls it, with `*` for any text and `?` for one character. A whole name (also that of a version with \
              a date behind it) goes before the longer prefix, and that before other patterns.",
    },
    PriceKey {
        name: "from",
        takes: "a date or a time",
        default: "always",
        doc: "The first moment that it holds for, by when a call is made: `2026-08-16`, at midnight UTC, or \
              `2026-08-16T16:00:00Z`.",
    },
    PriceKey {
        name: "until",
        takes: "a date or a time",
        default: "it goes on",
        doc: "The first moment that it does not hold for any more. Two prices for the same provider and model may not hold at the \
              same time; while none does, a less specific one counts, then the catalogue's.",
    },
    PriceKey {
        name: "input",
        takes: USD,
        default: "required",
        doc: "A million prompt tokens. 0 is a price.",
    },
    PriceKey {
        name: "output",
        takes: USD,
        default: "required",
        doc: "A million tokens of answer; 0 for embeddings.",
    },
    PriceKey {
        name: "cache_read",
        takes: USD,
        default: "`input`",
        doc: "A million prompt tokens that the provider's cache served.",
    },
    PriceKey {
        name: "cache_write_5m",
        takes: USD,
        default: "5/4 of `input`",
        doc: "A million that were written to its cache for five minutes.",
    },
    PriceKey {
        name: "cache_write_1h",
        takes: USD,
        default: "twice `input`",
        doc: "A million that were written to it for an hour.",
    },
    PriceKey {
        name: "output_reasoned",
        takes: USD,
        default: "`output`",
        doc: "A million tokens of answer in a call that also reasoned.",
    },
    PriceKey { name: "reasoning", takes: USD, default: "`output`", doc: "A million tokens of reasoning." },
    PriceKey { name: "audio_in", takes: USD, default: "`input`", doc: "A million prompt tokens of audio." },
    PriceKey {
        name: "audio_out",
        takes: USD,
        default: "`output`",
        doc: "A million tokens of audio in the answer.",
    },
    PriceKey {
        name: "tiers",
        takes: "a list of tables",
        default: "none",
        doc: "Prices of calls with long prompts: `{ above = 200000, input = \"2.50\", output = \"15\" }`. One token more than `above`, \
              cached ones counted, and all of the call costs that; what a tier does not say falls back within it.",
    },
    PriceKey { name: "request", takes: USD, default: "nothing", doc: "One call, on top of its tokens." },
    PriceKey {
        name: "batch",
        takes: OTHER,
        default: "as usual",
        doc: "Calls that the provider says it served as a batch: `0.5`, or `{ input = …, output = …, tiers = […] }`.",
    },
    PriceKey {
        name: "flex",
        takes: OTHER,
        default: "as usual",
        doc: "The same for its `service_tier` `flex`.",
    },
    PriceKey {
        name: "priority",
        takes: OTHER,
        default: "unpriced",
        doc: "The same for `priority`, which costs more than usual, so that without this it has no price.",
    },
    PriceKey {
        name: "hours",
        takes: "a list of tables",
        default: "none",
        doc: "Times of the week with other prices: `{ from = \"01:00\", until = \"04:00\", days = [\"mon\", \"fri\"], times = 2 }`, in \
              UTC, on every day without `days`, over midnight where `until` is not after `from`; prices of their own in place of \
              `times`. A batch and the like multiply what holds then.",
    },
];

/// What hoosh 1.3 knew and this version does not act on.
pub(crate) const LEGACY: &[Legacy] = &[
    Legacy { path: "cache.max_entries", note: "`cache.max_bytes` is the bound" },
    Legacy { path: "budgets", note: "write them as [[pools]]" },
    Legacy { path: "whisper", note: "" },
    Legacy { path: "tts", note: "" },
    Legacy { path: "audit.signing_key", note: "the keys are in `audit.key_file`" },
    Legacy { path: "audit.max_entries", note: "`audit.keep_days` is the bound" },
    Legacy { path: "telemetry", note: "" },
    Legacy { path: "context", note: "" },
    Legacy { path: "retry", note: "" },
    Legacy { path: "hardware", note: "" },
    Legacy { path: "dlp", note: "nothing is scanned or blocked" },
    Legacy { path: "queue", note: "" },
    Legacy { path: "health_check", note: "" },
    Legacy { path: "server.health_check_interval_secs", note: "" },
    Legacy {
        path: "providers[].tls_pinned_certs",
        note: "any certificate that the system trusts is accepted",
    },
    Legacy { path: "providers[].client_cert", note: "no client certificate is sent" },
    Legacy { path: "providers[].client_key", note: "no client certificate is sent" },
];

/// The sections that have keys.
pub(crate) const SECTIONS: &[&str] = &[
    "server",
    "routing",
    "cache",
    "costs",
    "prices",
    "auth",
    "limits",
    "budget",
    "audit",
    "pools",
    "aliases",
    "groups",
    "strategies",
    "providers",
];

/// The row of a key in a section (`server`, `providers[]`).
pub(crate) fn find(section: &str, name: &str) -> Option<&'static Key> {
    rows(section).find(|(row, _)| *row == name || *row == "*").map(|(_, key)| key)
}

/// The rows of a section, each with the key's last part.
pub(crate) fn rows(section: &str) -> impl Iterator<Item = (&'static str, &'static Key)> {
    KEYS.iter().filter_map(move |key| {
        let (of, name) = key.path.split_once('.')?;
        (of == section).then_some((name, key))
    })
}

/// The row of a section or key that 1.3 knew.
pub(crate) fn legacy(path: &str) -> Option<&'static Legacy> {
    LEGACY.iter().find(|legacy| legacy.path == path)
}

/// The defaults of a section.
pub(crate) fn defaults(section: &str) -> Dict {
    rows(section).filter_map(|(name, key)| Some((name.to_owned(), key.default.value()?))).collect()
}

// === impl Kind ===

impl Kind {
    /// What is expected, as it stands behind "expected".
    pub(crate) fn expected(self) -> String {
        match self {
            Self::Address => "an IP address such as \"127.0.0.1\"".to_owned(),
            Self::Whole { min, max } => format!("a whole number from {min} to {max}"),
            Self::Seconds { zero: true } => format!("a number of seconds from 0 to {SECONDS_MAX}"),
            Self::Interval { min } => {
                format!("a number of seconds from {} to {SECONDS_MAX}, or 0", min.as_secs_f64())
            }
            Self::Seconds { zero: false } => format!("a number of seconds above 0, up to {SECONDS_MAX}"),
            Self::Switch => "true or false".to_owned(),
            Self::Name => "a name of letters, digits, `.`, `_` and `-`".to_owned(),
            Self::Url => "a URL such as \"http://127.0.0.1:8080\"".to_owned(),
            Self::Secret => "a string".to_owned(),
            Self::Secrets | Self::Patterns => "a list of strings".to_owned(),
            Self::Origins => "a list of origins such as \"https://app.example.com\"".to_owned(),
            Self::Targets => "a model name or a list of them".to_owned(),
            Self::Fidelity => "`report`, `strict` or `silent`".to_owned(),
            Self::Model => "a model name".to_owned(),
            Self::Weights => format!("a list of whole numbers from 0 to {PRIORITY_MAX}"),
            Self::Fraction => "a number from 0 to 1".to_owned(),
            Self::Path => "the path of a file".to_owned(),
            Self::Word => "a string without spaces".to_owned(),
            Self::Words => "a list of strings without spaces".to_owned(),
            Self::Strategy => format!("one of {}", Strategy::names()),
            Self::OnExhausted => "`reject`, `queue` or `least_bad`".to_owned(),
            Self::OnUnpriced => "`allow`, `warn` or `block`".to_owned(),
            Self::Reload => "`signal`, `watch` or `off`".to_owned(),
            Self::Durability => "`group` or `strict`".to_owned(),
            Self::Context => "`refuse`, `drop_oldest`, `keep_last`, `middle_out` or `summarise`".to_owned(),
            Self::Pool => "a kind and a name such as \"team:search\", or \"user:*\" for each user".to_owned(),
            Self::Window => "`none`, `minute`, `hour`, `day`, `week`, `month`, or `rolling` with a number of seconds as in \"rolling 3600\"".to_owned(),
            Self::PoolMode => "`hard` or `soft`".to_owned(),
            Self::Dollars => "US dollars such as \"25\" or \"0.5\"".to_owned(),
            Self::TimeZone => "a time zone such as \"Europe/Berlin\" or \"UTC\"".to_owned(),
            Self::Percents => "a list of whole numbers from 1 to 255".to_owned(),
            Self::OneOf(words) => format!("`{}`", words.join("` or `")),
            Self::Compress => "a list of `whitespace`, `duplicates` and `stale_tool_results`".to_owned(),
            Self::ProviderType => "a provider type such as \"ollama\"".to_owned(),
        }
    }
}

// === impl Fallback ===

impl Fallback {
    /// As a value of the lowest layer; `None` if there is none.
    fn value(self) -> Option<Value> {
        let tag = Tag::Default;
        match self {
            Self::Text(text) => Some(Value::String(tag, text.to_owned())),
            Self::Whole(number) => Some(Value::Num(tag, Num::U64(number))),
            Self::Fraction(number) => Some(Value::Num(tag, Num::F64(number))),
            Self::Time(time) => Some(Value::Num(tag, Num::F64(time.as_secs_f64()))),
            Self::Switch(on) => Some(Value::Bool(tag, on)),
            Self::Empty => Some(Value::Array(tag, Vec::new())),
            Self::Open(_) | Self::Required => None,
        }
    }

    /// As it stands in a table.
    fn words(self) -> String {
        match self {
            Self::Text(text) => format!("`\"{text}\"`"),
            Self::Whole(number) => format!("`{number}`"),
            Self::Fraction(number) => format!("`{number}`"),
            Self::Time(time) => format!("`{}`", time.as_secs_f64()),
            Self::Switch(on) => format!("`{on}`"),
            Self::Empty => "`[]`".to_owned(),
            Self::Open(words) => words.to_owned(),
            Self::Required => "required".to_owned(),
        }
    }
}

/// The keys as Markdown, a table for each section, and the provider types.
pub(crate) fn markdown() -> String {
    let mut page = String::new();
    for (title, section) in [
        ("[server]", "server"),
        ("[routing]", "routing"),
        ("[cache]", "cache"),
        ("[costs]", "costs"),
        ("[auth]", "auth"),
        ("[limits]", "limits"),
        ("[budget]", "budget"),
        ("[audit]", "audit"),
        ("[[pools]]", "pools[]"),
        ("[aliases]", "aliases"),
        ("[[groups]]", "groups[]"),
        ("[strategies]", "strategies"),
        ("[[providers]]", "providers[]"),
    ] {
        let head = "| key | takes | default | what it does |\n|---|---|---|---|";
        page.push_str(&format!("{}### `{title}`\n\n{head}\n", if page.is_empty() { "" } else { "\n" }));
        for (name, key) in rows(section) {
            let name = match (section, name) {
                ("strategies", "*") => "any pattern",
                (_, "*") => "any name",
                _ => &format!("`{name}`"),
            };
            let (takes, default) = (key.kind.expected(), key.default.words());
            page.push_str(&format!("| {name} | {takes} | {default} | {} |\n", key.doc));
        }
        if section == "costs" {
            page.push_str(&format!("\n### `[[prices]]`\n\n{head}\n"));
            for PriceKey { name, takes, default, doc } in PRICES {
                page.push_str(&format!("| `{name}` | {takes} | {default} | {doc} |\n"));
            }
        }
    }
    page.push_str("\n### Provider types\n\n| type | what it is | address | key variable | models |\n|---|---|---|---|---|\n");
    for preset in PRESETS {
        let code =
            |words: &[&str]| words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
        let host = if preset.host.is_empty() { "say `base_url`".to_owned() } else { code(&[preset.host]) };
        let models = if preset.models.is_empty() { "`*`".to_owned() } else { code(preset.models) };
        let (kind, label, keys) = (preset.kind, preset.label, code(preset.key_env));
        page.push_str(&format!("| `{kind}` | {label} | {host} | {keys} | {models} |\n"));
    }
    page
}
