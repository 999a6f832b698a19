//! Whole configurations in, values or faults out.

use std::path::Path;

use hoosh_budget::{Durability, Mode, Window};
use hoosh_core::dialect::Dialect;
use hoosh_core::{Compression, ContextPolicy, ProviderType, limits};
use hoosh_gateway::{CallerId, SemanticSettings};
use hoosh_providers::Timeouts;
use hoosh_router::QueueLimits;
use secrecy::ExposeSecret;

use super::*;

/// Loads a text as `hoosh.toml` with these variables and flags.
fn load_with(toml: &str, env: &[(&str, &str)], flags: Flags) -> Result<Config, ConfigErrors> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(FILE_NAME), toml).unwrap();
    let env = Environment::from_iter(env.iter().copied());
    load(&LoadOptions { env, flags, directory: folder.path().to_owned(), ..LoadOptions::default() })
}

fn loaded(toml: &str, env: &[(&str, &str)]) -> Config {
    load_with(toml, env, Flags::default()).unwrap_or_else(|errors| panic!("{errors}"))
}

/// What is said of a faulty configuration, line by line.
#[track_caller]
fn check_faults(toml: &str, env: &[(&str, &str)], expect: &[&str]) {
    let errors = match load_with(toml, env, Flags::default()) {
        Ok(_) => panic!("it loads:\n{toml}"),
        Err(errors) => errors.to_string(),
    };
    assert_eq!(errors.lines().collect::<Vec<_>>(), expect, "{toml}");
}

#[track_caller]
fn check_warnings(toml: &str, env: &[(&str, &str)], expect: &[&str]) {
    assert_eq!(loaded(toml, env).warnings, expect, "{toml}");
}

#[test]
fn without_anything_the_defaults_hold() {
    let folder = tempfile::tempdir().unwrap();
    let config =
        load(&LoadOptions { directory: folder.path().to_owned(), ..LoadOptions::default() }).unwrap();
    let server = Server {
        bind: "127.0.0.1".parse().unwrap(),
        port: 8088,
        strategy: Strategy::Priority,
        lossy: Fidelity::Report,
        max_body_bytes: limits::REQUEST_BODY_BYTES_MAX,
        request_timeout: None,
        drain_timeout: limits::DRAIN_TIME_MAX,
        body_timeout: limits::REQUEST_BODY_TIME_MAX,
        waiting_comment: Some(limits::WAITING_COMMENT_INTERVAL),
        max_connections: limits::CONNECTIONS_MAX,
        cors_origins: Vec::new(),
        reload: ReloadMode::Signal,
    };
    assert_eq!((&config.server, &Server::default()), (&server, &server));
    assert!(config.discover && config.providers.is_empty() && config.aliases.is_empty());
    assert!(config.auth.tokens.is_empty() && config.sources.is_empty() && config.warnings.is_empty());
}

#[test]
fn every_key_is_read() {
    let config = loaded(
        r#"
        [server]
        bind = "::1"
        port = 9000
        strategy = "round-robin"
        lossy = "strict"
        max_body_bytes = 1_048_576
        request_timeout_secs = 90
        drain_timeout_secs = 0
        body_timeout_secs = 2.5
        waiting_comment_secs = 0
        max_connections = 10
        cors_origins = ["https://app.example.com", "http://localhost:3000"]
        reload = "watch"

        [cache]
        enabled = true
        ttl_secs = 7.5
        max_bytes = 1_048_576
        any_temperature = true
        tool_calls = true
        semantic_model = "mine/x"
        semantic_threshold = 0.9

        [auth]
        tokens = ["one", "two"]

        [aliases]
        fast = "llama3"
        best = ["mine/x", "fast"]

        [strategies]
        "llama*" = "LeastBusy"
        "llama3.2" = "direct"

        [[providers]]
        type = "LlamaCpp"
        name = "mine"
        base_url = "http://10.0.0.5:8080"
        api_key = "sk-x"
        priority = 1
        models = ["llama*", "x"]
        enabled = true
        max_tokens_limit = 4096
        cache_ttl_secs = 0
        local = false
        max_concurrent = 4
        max_concurrent_per_model = 2
        max_waiting = 7
        hedge = true
        continue_streams = true
        prefill = false
        connect_timeout_secs = 1
        first_byte_timeout_secs = 2
        idle_timeout_secs = 3
        total_timeout_secs = 4.5
        "#,
        &[],
    );
    let secs = Duration::from_secs_f64;
    let server = Server {
        bind: "::1".parse().unwrap(),
        port: 9000,
        strategy: Strategy::RoundRobin,
        lossy: Fidelity::Strict,
        max_body_bytes: 1 << 20,
        request_timeout: Some(secs(90.0)),
        drain_timeout: Duration::ZERO,
        body_timeout: secs(2.5),
        waiting_comment: None,
        max_connections: 10,
        cors_origins: vec!["https://app.example.com".into(), "http://localhost:3000".into()],
        reload: ReloadMode::Watch,
    };
    assert_eq!(config.server, server);
    let cache = Cache {
        enabled: true,
        ttl: secs(7.5),
        max_bytes: 1 << 20,
        tool_calls: true,
        any_temperature: true,
        semantic: Some(SemanticSettings { model: "mine/x".into(), threshold: 0.9 }),
        warm: None,
    };
    assert_eq!(config.cache, cache);
    assert_eq!(config.address().to_string(), "[::1]:9000");
    let tokens: Vec<_> = config.auth.tokens.iter().map(ExposeSecret::expose_secret).collect();
    assert_eq!(tokens, ["one", "two"]);
    assert_eq!(config.aliases["fast"], ["llama3"]);
    assert_eq!(config.aliases["best"], ["mine/x", "fast"]);
    let strategies: Vec<_> = config.strategies.into_iter().collect();
    assert_eq!(
        strategies,
        [("llama*".to_owned(), Strategy::LeastBusy), ("llama3.2".to_owned(), Strategy::Direct)]
    );

    let [provider] = config.providers.as_slice() else { panic!("{:?}", config.providers) };
    assert_eq!((provider.name(), provider.settings.kind), ("mine", ProviderType::LlamaCpp));
    assert_eq!(provider.settings.base_url.as_deref(), Some("http://10.0.0.5:8080"));
    assert_eq!(provider.settings.api_key.as_ref().map(ExposeSecret::expose_secret), Some("sk-x"));
    assert_eq!((provider.priority, provider.enabled, provider.max_tokens_limit), (1, true, Some(4096)));
    assert_eq!(provider.queue, Some(QueueLimits { concurrent: 4, waiting: 7, per_model: Some(2) }));
    assert_eq!((provider.cache_ttl, provider.settings.local), (Some(Duration::ZERO), Some(false)));
    assert!(provider.options.hedges && provider.options.stream_window.is_empty());
    assert_eq!((provider.options.continues, provider.options.prefills), (true, Some(false)));
    assert_eq!(provider.models, ["llama*", "x"]);
    let times = Timeouts { connect: secs(1.0), first_byte: secs(2.0), idle: secs(3.0), total: secs(4.5) };
    assert_eq!(provider.settings.timeouts, times);
    assert_eq!(config.sources, ["hoosh.toml"]);
    assert!(config.warnings.is_empty() && !config.discover);
}

#[test]
fn what_a_provider_leaves_out_comes_from_its_type() {
    let config = loaded(
        "[[providers]]\ntype = 'ollama'\n[[providers]]\ntype = 'ollama'\nbase_url = 'http://b:1'\n\
         [[providers]]\ntype = 'groq'\nname = 'ollama-2'",
        &[("GROQ_API_KEY", " gsk-1\n")],
    );
    let names: Vec<_> = config.providers.iter().map(Provider::name).collect();
    assert_eq!(names, ["ollama", "ollama-3", "ollama-2"]);
    assert_eq!(config.providers[0].models, ["*"]);
    assert_eq!(config.providers[0].settings.timeouts, Timeouts::default());
    assert_eq!(config.providers[0].priority, hoosh_router::PRIORITY_DEFAULT);
    assert!(config.providers[2].models.contains(&"llama-3.1-8b-instant".to_owned()));
    let key = config.providers[2].settings.api_key.as_ref().map(ExposeSecret::expose_secret);
    assert_eq!(key, Some("gsk-1"));
    assert_eq!(config.origins["providers.ollama-2.api_key"], Place::Variable("GROQ_API_KEY".into()));
}

#[test]
fn the_environment_goes_over_the_file_and_flags_over_both() {
    let toml = "[server]\nbind = '127.0.0.2'\nport = 1\nstrategy = 'priority'\nmax_connections = 7";
    let env = [
        ("HOOSH_SERVER__PORT", "2"),
        ("HOOSH_SERVER__STRATEGY", "round_robin"),
        ("HOOSH_SERVER__MAX_CONNECTIONS", ""),
        ("HOOSH_AUTH__TOKENS", "1234567890, b"),
        ("HOOSH_ALIASES__FAST", "llama3,groq/x"),
    ];
    let flags = Flags { port: Some("3".into()), ..Flags::default() };
    let config = load_with(toml, &env, flags).unwrap();
    let server = &config.server;
    assert_eq!((server.bind.to_string().as_str(), server.port, server.max_connections), ("127.0.0.2", 3, 7));
    assert_eq!(server.strategy, Strategy::RoundRobin);
    let tokens: Vec<_> = config.auth.tokens.iter().map(ExposeSecret::expose_secret).collect();
    assert_eq!(tokens, ["1234567890", "b"]);
    assert_eq!(config.aliases["fast"], ["llama3", "groq/x"]);
    assert_eq!(config.sources, ["hoosh.toml", "environment", "flags"]);
    assert_eq!(config.origins["server.port"], Place::Flag("--port"));
    assert_eq!(config.origins["server.strategy"], Place::Variable("HOOSH_SERVER__STRATEGY".into()));
    assert_eq!(config.origins["server.bind"], Place::File { file: "hoosh.toml".into(), line: Some(2) });
}

#[test]
fn a_list_in_a_variable_may_be_toml() {
    let config = loaded("", &[("HOOSH_AUTH__TOKENS", r#"["a,b", "c"]"#)]);
    let tokens: Vec<_> = config.auth.tokens.iter().map(ExposeSecret::expose_secret).collect();
    assert_eq!(tokens, ["a,b", "c"]);
}

#[test]
fn variables_of_kubernetes_are_not_ours() {
    let env = [
        ("HOOSH_PORT", "tcp://10.0.0.1:8088"),
        ("HOOSH_SERVICE_HOST", "10.0.0.1"),
        ("HOOSH_PORT_8088_TCP_ADDR", "10.0.0.1"),
        ("HOOSH_LOG", "debug"),
    ];
    let config = loaded("", &env);
    assert_eq!(config.server, Server::default());
    assert_eq!(config.sources, ["hoosh.toml"]);
}

#[test]
fn variables_stand_in_for_any_text_of_the_file() {
    let env = [("PORT", "9001"), ("KEY", "sk-1"), ("MODELS", "a,b"), ("HOST", "box")];
    let config = loaded(
        "[server]\nport = '$PORT'\nbind = '${BIND:-0.0.0.0}'\n[auth]\ntokens = ['t$$x']\n[[providers]]\ntype = 'vllm'\n\
         base_url = 'http://${HOST}:8000'\napi_key = '$KEY'\nmodels = '$MODELS'",
        &env,
    );
    assert_eq!(config.address().to_string(), "0.0.0.0:9001");
    assert_eq!(config.auth.tokens[0].expose_secret(), "t$x");
    assert_eq!(config.providers[0].settings.base_url.as_deref(), Some("http://box:8000"));
    assert_eq!(config.providers[0].models, ["a", "b"]);
}

#[test]
fn all_faults_are_told_at_once_with_line_key_and_likely_meaning() {
    check_faults(
        r#"prot = 1
[sever]
port = 1
[server]
prot = 8088
port = "8088"
bind = "localhost"
strategy = "prioritty"
max_body_bytes = 0
drain_timeout_secs = -1
tokens = []
[auth]
tokens = ["a", 2]
[[providers]]
type = "ollma"
[[providers]]
type = "openai"
priority = "1"
models = ["gpt-*", ""]
apikey = "sk-secret"
base_url = "localhost:1"
wait = 3
[[providers]]
name = "a/b"
enabled = "yes"
"#,
        &[("HOOSH_SERVER__MAX_CONECTIONS", "1"), ("HOOSH_SERVER__BODY_TIMEOUT_SECS", "soon")],
        &[
            "hoosh.toml:1: prot: there is no such key outside of the sections; did you mean `server.port`?",
            "hoosh.toml:2: sever: there is no such section; did you mean `server`?",
            "hoosh.toml:5: server.prot: there is no such key; did you mean `port`?",
            "hoosh.toml:6: server.port: expected a whole number from 0 to 65535, found a string",
            "hoosh.toml:7: server.bind: expected an IP address such as \"127.0.0.1\"",
            "hoosh.toml:8: server.strategy: expected one of `priority`, `round_robin`, `weighted`, `least_busy`, `lowest_latency`, `lowest_ttft`, `cheapest`, `local_first`, `direct`, found `prioritty`; did you mean \
             `priority`?",
            "hoosh.toml:9: server.max_body_bytes: expected a whole number from 1024 to 4294967296, found 0",
            "hoosh.toml:10: server.drain_timeout_secs: expected a number of seconds from 0 to 86400, found -1",
            "hoosh.toml:11: server.tokens: there is no such key; did you mean `auth.tokens`?",
            "hoosh.toml:13: auth.tokens[1]: expected a string, found a number",
            "hoosh.toml:15: providers[0].type: `ollma` is not a provider type; did you mean `ollama`?",
            "hoosh.toml:18: providers[1].priority: expected a whole number from 0 to 1000000, found a string",
            "hoosh.toml:19: providers[1].models[1]: it is empty; `*` matches every model",
            "hoosh.toml:20: providers[1].apikey: there is no such key; did you mean `api_key`?",
            "hoosh.toml:21: providers[1].base_url: has no scheme; write it as http://host:port",
            "hoosh.toml:22: providers[1].wait: there is no such key; did you mean `max_waiting`?",
            "hoosh.toml:23: providers[2]: `type` is missing: which kind of provider is it?",
            "hoosh.toml:24: providers[2].name: expected a name of letters, digits, `.`, `_` and `-`",
            "hoosh.toml:25: providers[2].enabled: expected true or false, found a string",
            "environment variable HOOSH_SERVER__BODY_TIMEOUT_SECS: expected a number of seconds above 0, up to 86400, \
             found something else",
            "environment variable HOOSH_SERVER__MAX_CONECTIONS: there is no such setting; did you mean \
             `HOOSH_SERVER__MAX_CONNECTIONS`?",
        ],
    );
}

#[test]
fn faults_of_reading_of_providers_and_of_routes_are_told_together() {
    const PATTERN: &str = "only `*` (any text) and `?` (one character) are special in a pattern";
    check_faults(
        r#"[server]
prot = 1
port = "8088"
[aliases]
a = "b"
b = "a"
"c.d" = "c.d"
e = "bad/x"
[[providers]]
type = "ollama"
name = "bad"
base_url = "ftp://x"
models = [
  "",
  "x[1]",
]
[[providers]]
type = "openai_compatible"
models = ["y[1]"]
[[providers]]
type = "groq"
name = "bad"
models = ["z[1]"]
[[providers]]
type = "ollma"
models = ["t[1]"]
"#,
        &[],
        &[
            "hoosh.toml:2: server.prot: there is no such key; did you mean `port`?",
            "hoosh.toml:3: server.port: expected a whole number from 0 to 65535, found a string",
            "hoosh.toml:5: aliases.a: aliases go in a circle: a -> b -> a",
            "hoosh.toml:7: aliases.\"c.d\": aliases go in a circle: c.d -> c.d",
            "hoosh.toml:12: providers[0].base_url: has the scheme `ftp`; only http and https are spoken",
            &format!("hoosh.toml:13: providers.bad.models: route to `bad`: pattern `x[1]`: {PATTERN}"),
            "hoosh.toml:14: providers[0].models[0]: it is empty; `*` matches every model",
            "hoosh.toml:17: providers[1]: `base_url` is missing: type `openai_compatible` has no address of its own",
            &format!(
                "hoosh.toml:19: providers.openai_compatible.models: route to `openai_compatible`: pattern `y[1]`: \
                 {PATTERN}"
            ),
            "hoosh.toml:22: providers[2].name: there is another provider called `bad`",
            &format!("hoosh.toml:23: providers.groq.models: route to `groq`: pattern `z[1]`: {PATTERN}"),
            "hoosh.toml:25: providers[3].type: `ollma` is not a provider type; did you mean `ollama`?",
            &format!(
                "hoosh.toml:26: providers[3].models: route to `providers[3]`: pattern `t[1]`: {PATTERN}"
            ),
        ],
    );
}

#[test]
fn an_alias_circle_is_told_before_providers_are_looked_for() {
    check_faults(
        "[aliases]\na = 'a'\nb = 'unknown-yet'",
        &[],
        &["hoosh.toml:2: aliases.a: aliases go in a circle: a -> a"],
    );
    let config = loaded("[aliases]\nb = 'unknown-yet'", &[]);
    assert!(config.discover && config.aliases.contains_key("b") && config.warnings.is_empty());
}

#[test]
fn a_file_that_cannot_be_read_does_not_hide_the_other_layers() {
    check_faults(
        "[server\n",
        &[("HOOSH_SERVER__PORT", "soon")],
        &[
            "hoosh.toml:1: unclosed table, expected `]`",
            "environment variable HOOSH_SERVER__PORT: expected a whole number from 0 to 65535, found something else",
        ],
    );
}

#[test]
fn what_providers_refuse_does_not_hide_what_the_router_refuses() {
    let mut config =
        loaded("[[providers]]\ntype = 'ollama'\nmodels = ['a']\n[[providers]]\ntype = 'vllm'", &[]);
    config.providers[0].settings.base_url = Some("ftp://x".into());
    config.providers[0].models = vec!["x[1]".into()];
    config.aliases = BTreeMap::from([("a".into(), vec!["a".into()]), ("b".into(), vec!["ollama/x".into()])]);
    let errors = settle_routes(&mut config).unwrap_err();
    let told: Vec<_> =
        errors.faults.iter().map(|fault| (fault.place.to_string(), fault.key.as_str())).collect();
    assert_eq!(
        told,
        [
            ("hoosh.toml:1".to_owned(), "providers.ollama.base_url"),
            ("hoosh.toml:3".to_owned(), "providers.ollama.models"),
            ("default".to_owned(), "aliases.a"),
        ]
    );
}

#[test]
fn syntax_errors_are_all_told_with_their_lines() {
    let errors = load_with("[server]\nport = \nbind = 1 2\n[x\n", &[], Flags::default()).unwrap_err();
    let places: Vec<_> = errors.faults.iter().map(|fault| fault.place.to_string()).collect();
    assert_eq!(places, ["hoosh.toml:2", "hoosh.toml:3", "hoosh.toml:4"], "{errors}");
}

#[test]
fn faults_never_show_a_secret() {
    let secret = "sk-do-not-show-me";
    for toml in [
        format!("[auth]\ntokens = '{secret}'"),
        format!("[auth]\ntokens = [['{secret}']]"),
        format!("[auth]\ntokens = ['{secret}\\u0000é']"),
        format!("[auth]\ntokens = ['{secret}-$NONE']"),
        format!("[auth]\ntokens = \"{secret}\\u0007\""),
        format!("[server]\nport = '{secret}'\nbind = '{secret}'"),
        format!("[[providers]]\ntype = 'openai'\nbase_url = 'http://{secret}@x'"),
        format!("[[providers]]\ntype = 'openai'\nbase_url = 'http://x?key={secret}'"),
        format!("[[providers]]\ntype = 'openai'\napi_key = ['{secret}']"),
        format!("[[providers]]\ntype = 'openai'\napi_key = \"{secret}\\n{secret}\"\nname = '{secret} x'"),
        format!("[[providers]]\ntype = 'openai'\napi_key = '{secret}"),
        format!("[server]\nenabled = '{secret}'"),
    ] {
        let errors = load_with(&toml, &[("HOOSH_SERVER__PORT", secret)], Flags::default()).unwrap_err();
        assert!(!errors.to_string().contains("do-not-show"), "{toml}\n{errors}");
        assert!(!format!("{errors:?}").contains("do-not-show"), "{toml}\n{errors:?}");
    }
    let config = loaded(&format!("[auth]\ntokens = ['{secret}']"), &[]);
    assert!(!format!("{config:?} {}", config.to_toml()).contains("do-not-show"));
    let env = Environment::from_iter([("KEY", secret)]);
    assert!(!format!("{env:?}").contains("do-not-show"));
}

#[test]
fn sections_of_the_wrong_shape_say_how_to_write_them() {
    check_faults("server = 1", &[], &["hoosh.toml:1: server: expected a section [server], found a number"]);
    check_faults(
        "[providers]\ntype = 'ollama'",
        &[],
        &[
            "hoosh.toml:1: providers: expected a list, found a section; write each provider under its own [[providers]]",
        ],
    );
    check_faults(
        "providers = ['ollama']",
        &[],
        &["hoosh.toml:1: providers[0]: expected a section [[providers]], found a string"],
    );
}

#[test]
fn missing_and_empty_things_are_faults() {
    check_faults(
        "[[providers]]\ntype = 'openai_compatible'",
        &[],
        &[
            "hoosh.toml:1: providers[0]: `base_url` is missing: type `openai_compatible` has no address of its own",
        ],
    );
    check_faults(
        "[[providers]]\ntype = 'openai'\napi_key = '$NONE'",
        &[],
        &["hoosh.toml:3: providers[0].api_key: the environment variable NONE is not set; set it, write \
           `${NONE:-default}`, or `$$` for a dollar"],
    );
    // hoosh 1.3 takes an empty list for no list.
    assert_eq!(loaded("[[providers]]\ntype = 'ollama'\nmodels = []", &[]).providers[0].models, ["*"]);
    check_faults("[auth]\ntokens = ['']", &[], &["hoosh.toml:2: auth.tokens[0]: it is empty"]);
    check_faults("[aliases]\nfast = []", &[], &["hoosh.toml:2: aliases.fast: expected at least one model"]);
}

#[test]
fn names_must_differ_and_aliases_must_end() {
    check_faults(
        "[[providers]]\ntype = 'ollama'\nname = 'a'\n[[providers]]\ntype = 'vllm'\nname = 'a'",
        &[],
        &["hoosh.toml:6: providers[1].name: there is another provider called `a`"],
    );
    check_faults(
        "[aliases]\na = 'b'\nb = 'a'\n[[providers]]\ntype = 'ollama'",
        &[],
        &["hoosh.toml:2: aliases.a: aliases go in a circle: a -> b -> a"],
    );
    check_faults(
        "[[providers]]\ntype = 'ollama'\nmodels = ['[a-z]*']",
        &[],
        &[
            "hoosh.toml:3: providers.ollama.models: route to `ollama`: pattern `[a-z]*`: only `*` (any text) and `?` (one \
           character) are special in a pattern",
        ],
    );
}

#[test]
fn an_alias_to_nowhere_is_left_out_with_a_warning() {
    let toml = "[aliases]\na = ['gone', 'llama3']\nb = 'gone'\nc = 'b'\n[[providers]]\ntype = 'ollama'\nmodels = ['llama*']";
    let config = loaded(toml, &[]);
    assert_eq!(config.aliases.keys().collect::<Vec<_>>(), ["a"]);
    assert_eq!(config.aliases["a"], ["llama3"]);
    assert!(
        config.warnings[0].contains("hoosh.toml:2") && config.warnings[0].contains("`gone`"),
        "{:?}",
        config.warnings
    );
}

#[test]
fn providers_cannot_come_from_variables() {
    check_faults(
        "",
        &[("HOOSH_PROVIDERS__0__API_KEY", "sk-1")],
        &[
            "environment variable HOOSH_PROVIDERS__0__API_KEY: providers are configured in the file; there `api_key = \
           \"$VAR\"` reads a variable",
        ],
    );
}

#[test]
fn a_faulty_flag_is_called_by_its_name() {
    let flags = Flags { port: Some("99999".into()), bind: Some("here".into()), strategy: Some("rr".into()) };
    let errors = load_with("", &[], flags).unwrap_err().to_string();
    assert_eq!(
        errors.lines().collect::<Vec<_>>(),
        [
            "--bind: expected an IP address such as \"127.0.0.1\"",
            "--port: expected a whole number from 0 to 65535, found 99999",
            "--strategy: expected one of `priority`, `round_robin`, `weighted`, `least_busy`, `lowest_latency`, `lowest_ttft`, `cheapest`, `local_first`, `direct`, found `rr`",
        ]
    );
}

#[test]
fn what_is_disabled_needs_no_key() {
    let config = loaded("[[providers]]\ntype = 'openai'\nenabled = false\napi_key = '$NONE'", &[]);
    assert!(!config.providers[0].enabled && config.warnings.is_empty() && !config.discover);
}

#[test]
fn a_vendors_key_stays_at_the_vendor() {
    let env = [("OPENAI_API_KEY", "sk-1"), ("VLLM_API_KEY", "v-1")];
    let toml = |url: &str| format!("[[providers]]\ntype = 'openai'\nbase_url = '{url}'");
    for (url, sent) in [
        ("https://api.openai.com", true),
        ("https://API.openai.com:443/v1", true),
        ("http://api.openai.com", false),
        ("https://proxy.example.com/v1", false),
    ] {
        let config = loaded(&toml(url), &env);
        assert_eq!(config.providers[0].settings.api_key.is_some(), sent, "{url}");
        assert_eq!(config.warnings.is_empty(), sent, "{url} {:?}", config.warnings);
    }
    let config = loaded("[[providers]]\ntype = 'vllm'\nbase_url = 'http://gpu-box:8000'", &env);
    assert!(config.providers[0].settings.api_key.is_some());
}

#[test]
fn what_deserves_a_warning_gets_one() {
    check_warnings(
        "[[providers]]\ntype = 'google'",
        &[],
        &[
            "hoosh.toml:1: providers[0]: Google Gemini will want a key; set GEMINI_API_KEY or GOOGLE_API_KEY, or `api_key`",
        ],
    );
    check_warnings(
        "[[providers]]\ntype = 'openai'\nbase_url = 'https://x'",
        &[("OPENAI_API_KEY", "sk")],
        &[
            "hoosh.toml:1: providers[0]: `base_url` is not OpenAI's own, so OPENAI_API_KEY is not sent there; `api_key = \
           \"$OPENAI_API_KEY\"` sends it",
        ],
    );
    check_warnings(
        "[server]\nbind = '0.0.0.0'",
        &[],
        &[
            "hoosh.toml:2: `server.bind` lets other machines in and `auth.tokens` is empty: everybody may call",
        ],
    );
    check_warnings("[server]\nbind = '0.0.0.0'\n[auth]\ntokens = ['t']", &[], &[]);
    check_warnings("[server]\nbind = '::1'", &[], &[]);
}

/// What a user of hoosh 1.3 may have, by its documentation.
const OLD: &str = r#"
[server]
bind = "127.0.0.1"
port = 8088
strategy = "lowest_latency"
health_check_interval_secs = 30

[cache]
max_entries = 1000
ttl_secs = 300
enabled = true

[[providers]]
type = "Ollama"
base_url = "http://localhost:11434"
priority = 1
models = ["llama*", "mistral*"]

[[providers]]
type = "OpenAi"
api_key = "$OPENAI_API_KEY"
priority = 10
models = ["gpt-*", "o1-*"]
rate_limit_rpm = 60
max_tokens_limit = 4096
tls_pinned_certs = ["/etc/pin.pem"]

[[providers]]
type = "LlamaCpp"
enabled = false

[[providers]]
type = "Whisper"
base_url = "whatever"

[[budgets]]
name = "default"
capacity = 100000

[whisper]
model = "models/ggml-base.en.bin"

[auth]
tokens = ["secret"]

[audit]
enabled = true
signing_key = "$NO_SUCH_VARIABLE"
"#;

#[test]
fn a_file_of_1_3_loads_with_one_warning_for_each_thing_not_acted_on() {
    let config = loaded(OLD, &[("OPENAI_API_KEY", "sk-1")]);
    let names: Vec<_> = config.providers.iter().map(|provider| (provider.name(), provider.enabled)).collect();
    assert_eq!(names, [("ollama", true), ("openai", true), ("llamacpp", false)]);
    assert_eq!(config.server.strategy, Strategy::LowestLatency);
    assert!(config.audit.enabled);
    let not_yet = "is read but this version does not act on it yet";
    assert_eq!(
        config.warnings,
        [
            format!("hoosh.toml:6: `server.health_check_interval_secs` {not_yet}"),
            format!("hoosh.toml:9: `cache.max_entries` {not_yet}: `cache.max_bytes` is the bound"),
            format!(
                "hoosh.toml:26: `providers[1].tls_pinned_certs` {not_yet}: any certificate that the system trusts is \
                 accepted"
            ),
            "hoosh.toml:33: type `Whisper` has no preset in this version; the provider is left out"
                .to_owned(),
            format!("hoosh.toml:36: section [[budgets]] {not_yet}: write them as [[pools]]"),
            format!("hoosh.toml:40: section [whisper] {not_yet}"),
            format!("hoosh.toml:48: `audit.signing_key` {not_yet}: the keys are in `audit.key_file`"),
        ]
    );
}

#[test]
fn the_file_is_found_where_it_is_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, port: u16| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, format!("[server]\nport = {port}")).unwrap();
    };
    let port = |file: Option<&str>, env: &[(&str, &str)]| {
        let env = Environment::from_iter(env.iter().copied());
        let file = file.map(PathBuf::from);
        let options =
            LoadOptions { file, env, directory: folder.path().to_owned(), ..LoadOptions::default() };
        load(&options).map(|config| config.server.port)
    };
    let home = folder.path().join("home");
    let home = home.to_str().unwrap();
    write("home/.config/hoosh/hoosh.toml", 1);
    assert_eq!(port(None, &[("HOME", home)]), Ok(1));
    write("xdg/hoosh/hoosh.toml", 2);
    assert_eq!(port(None, &[("HOME", home), ("XDG_CONFIG_HOME", "xdg")]), Ok(2));
    write("hoosh.toml", 3);
    assert_eq!(port(None, &[("HOME", home), ("XDG_CONFIG_HOME", "xdg")]), Ok(3));
    write("other.toml", 4);
    assert_eq!(port(None, &[("HOOSH_CONFIG", "other.toml")]), Ok(4));
    write("flag.toml", 5);
    assert_eq!(port(Some("flag.toml"), &[("HOOSH_CONFIG", "other.toml")]), Ok(5));

    let gone = port(Some("gone.toml"), &[]).unwrap_err().to_string();
    assert!(gone.starts_with("--config: gone.toml cannot be read: "), "{gone}");
    let gone = port(None, &[("HOOSH_CONFIG", "gone.toml")]).unwrap_err().to_string();
    assert!(gone.starts_with("environment variable HOOSH_CONFIG: gone.toml cannot be read: "), "{gone}");
}

#[test]
fn what_is_shown_loads_again_and_says_where_it_is_from() {
    let env = [("OPENAI_API_KEY", "sk-1"), ("HOOSH_SERVER__PORT", "9000")];
    let toml = "[auth]\ntokens = ['t\"1']\nadmin_tokens = ['t2']\nkeys = 'keys.db'\n[aliases]\n\"a b.c\" = ['gpt-4o', 'openai/x']\nfast = 'gpt-4o-mini'\n[server]\n\
                request_timeout_secs = 1.5\n[cache]\nenabled = true\n[limits]\nrequests_per_day = 9\nconcurrent = 2\n[[providers]]\ntype = 'openai'\n\
                max_tokens_limit = 9\nmax_concurrent_per_model = 3\nrate_limit_rpm = 60\nrate_limit_tpm = 1000\nlocal = true\ncache_ttl_secs = 2.5";
    let shown = loaded(toml, &env).to_toml();
    assert!(shown.contains("port = 9000  # environment variable HOOSH_SERVER__PORT\n"), "{shown}");
    assert!(shown.contains("tokens = [\"<redacted>\"]  # hoosh.toml:2\n"), "{shown}");
    assert!(
        shown.contains(
            "admin_tokens = [\"<redacted>\"]  # hoosh.toml:3\nkeys = \"keys.db\"  # hoosh.toml:4\n"
        ),
        "{shown}"
    );
    assert!(shown.contains("api_key = \"<redacted>\"  # environment variable OPENAI_API_KEY\n"), "{shown}");
    assert!(shown.contains("max_connections = 8192\n"), "{shown}");
    assert!(shown.contains("enabled = true  # hoosh.toml:11\nttl_secs = 300\n"), "{shown}");
    assert!(
        shown.contains("[limits]\nrequests_per_day = 9  # hoosh.toml:13\nconcurrent = 2  # hoosh.toml:14\n"),
        "{shown}"
    );
    assert!(
        shown.contains("rate_limit_rpm = 60  #") && shown.contains("rate_limit_tpm = 1000  #"),
        "{shown}"
    );
    assert!(!shown.contains("sk-1") && !shown.contains("t\"1"));

    let again = loaded(&shown, &[]);
    let strip = |text: &str| {
        text.lines().map(|line| line.split("  # ").next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(strip(&again.to_toml()), strip(&shown));
}

#[test]
fn signed_tokens_are_taken_as_they_are_said() {
    let toml = "[auth]\njwt_keys = 'jwks.json'\njwt_issuers = ['https://login.example.com']\njwt_scopes_claim = 'scope'";
    let config = loaded(toml, &[]);
    assert!(!config.auth.is_open());
    let shown = config.to_toml();
    let lines = "jwt_keys = \"jwks.json\"  # hoosh.toml:2\njwt_algorithms = [\"RS256\", \"ES256\", \"EdDSA\"]\n\
                 jwt_issuers = [\"https://login.example.com\"]  # hoosh.toml:3\njwt_audiences = []\n\
                 jwt_caller_claim = \"sub\"\njwt_scopes_claim = \"scope\"  # hoosh.toml:4\n";
    assert!(shown.contains(lines), "{shown}");
    check_warnings(
        "[auth]\njwt_issuers = ['https://login.example.com']",
        &[],
        &["hoosh.toml:2: `auth.jwt_issuers` does nothing without `auth.jwt_keys`"],
    );
}

#[test]
fn every_example_loads() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let env = ["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GROQ_API_KEY", "HOOSH_TOKENS"];
    let env = Environment::from_iter(env.map(|name| (name, "sk-1")));
    let mut examples = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let options =
                LoadOptions { file: Some(path.clone()), env: env.clone(), ..LoadOptions::default() };
            let config = load(&options).unwrap_or_else(|errors| panic!("{errors}"));
            assert!(config.warnings.is_empty(), "{}: {:?}", path.display(), config.warnings);
            assert!(!config.providers.is_empty(), "{}", path.display());
            examples += 1;
        }
    }
    assert!(examples > 0);
}

/// `HOOSH_WRITE_DOCS=1 cargo test` writes the table into the page.
#[test]
fn the_documentation_lists_every_key() {
    const BEGIN: &str = "<!-- keys: printed by `hoosh config keys`; a test compares -->\n\n";
    const END: &str = "\n<!-- end of keys -->";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let begin = page.find(BEGIN).expect("the mark before the tables") + BEGIN.len();
    let end = page.find(END).expect("the mark after the tables");
    if std::env::var_os("HOOSH_WRITE_DOCS").is_some() {
        std::fs::write(&path, format!("{}{}{}", &page[..begin], keys_markdown(), &page[end..])).unwrap();
        return;
    }
    assert_eq!(page[begin..end], keys_markdown(), "run it with HOOSH_WRITE_DOCS=1");
}

#[test]
fn what_is_done_about_long_prompts_is_read_shown_and_its_faults_placed() {
    let text = r#"
        [routing]
        context = "keep_last"
        keep_last = 4
        compress = ["whitespace", "duplicates"]

        [[providers]]
        type = "llamacpp"
        context_window_tokens = 8192
        context = "summarise"
        summarise_with = "small"
        compress = []

        [[providers]]
        type = "ollama"
    "#;
    let config = loaded(text, &[]);
    let (all, own) = (&config.routing.context, &config.providers[0].context);
    assert_eq!((all.policy, all.keep_last), (Some(ContextPolicy::KeepLast), Some(4)));
    assert_eq!(all.compress, Some(vec![Compression::Whitespace, Compression::Duplicates]));
    assert_eq!((own.policy, own.window), (Some(ContextPolicy::Summarise), Some(8192)));
    assert_eq!((own.summarise_with.as_deref(), own.compress.as_deref()), (Some("small"), Some(&[][..])));
    assert_eq!(config.providers[1].context, ContextRule::default());
    let again = loaded(&config.to_toml(), &[]);
    assert_eq!((&again.routing, &again.providers[0].context), (&config.routing, own));

    let provider = "[[providers]]\ntype = \"ollama\"\n";
    check_faults(
        &format!("{provider}context = \"summarise\"\ncompress = [\"whitespaces\"]\n"),
        &[],
        &[
            "hoosh.toml:3: providers.ollama.context: `summarise` needs a model for it: name one in `summarise_with`",
            "hoosh.toml:4: providers[0].compress[0]: expected one of `whitespace`, `duplicates`, `stale_tool_results`, found `whitespaces`; did you mean `whitespace`?",
        ],
    );
    check_faults(
        &format!("{provider}[routing]\ncontext = \"summarise\"\n"),
        &[],
        &["hoosh.toml:4: routing.context: `summarise` needs a model for it: name one in `summarise_with`"],
    );
    check_faults(
        &format!("{provider}context = \"forget\"\n"),
        &[],
        &[
            "hoosh.toml:3: providers[0].context: expected `refuse`, `drop_oldest`, `keep_last`, `middle_out` or `summarise`",
        ],
    );
}

#[test]
fn every_key_of_the_table_has_a_section_and_a_unique_path() {
    let mut seen = std::collections::BTreeSet::new();
    for key in keys::KEYS {
        let (section, name) = key.path.split_once('.').unwrap();
        assert!(keys::SECTIONS.contains(&section.trim_end_matches("[]")), "{}", key.path);
        assert!(keys::find(section, name).is_some() && seen.insert(key.path), "{}", key.path);
        assert!(key.doc.ends_with('.') && !key.doc.contains('|'), "{}", key.path);
    }
}

#[test]
fn a_token_that_is_set_to_nothing_does_not_open_the_door() {
    let says = "auth.tokens: holds no token: leave it out if everybody may call, or set what it is read from";
    for empty in ["", ",", " "] {
        check_faults("[auth]\ntokens = '$T'", &[("T", empty)], &[&format!("hoosh.toml:2: {says}")]);
    }
    assert!(loaded("[auth]\ntokens = []", &[]).auth.tokens.is_empty());
    assert_eq!(loaded("[auth]\ntokens = '$T'", &[("T", "a,b")]).auth.tokens.len(), 2);
}

#[test]
fn groups_of_models_are_read_shown_and_their_faults_placed() {
    let providers = "[[providers]]\ntype = 'vllm'\nbase_url = 'http://box'\nmodels = ['a', 'b', 'new']\n";
    let text = "[[groups]]\nname = 'fast'\nmodels = ['a', 'b']\nweights = [3, 1]\nstrategy = 'least_busy'\ncanary = 'new'\n";
    let config = loaded(&format!("{text}{providers}"), &[]);
    let group = &config.groups[0].group;
    assert_eq!(group.members.iter().map(|member| member.weight).collect::<Vec<_>>(), [3, 1]);
    assert_eq!(group.strategy, Some(Strategy::LeastBusy));
    assert_eq!(
        group.canary.as_ref().map(|canary| (canary.model.as_str(), canary.percent)),
        Some(("new", 5.0))
    );
    let shown = config.to_toml();
    assert!(shown.contains("weights = [3, 1]  # hoosh.toml:4\n"), "{shown}");

    // A model that nobody serves is left out, with its weight.
    let config = loaded(&format!("{}{providers}", text.replace("'a', 'b'", "'gone', 'b'")), &[]);
    let members = &config.groups[0].group.members;
    assert_eq!((members.len(), members[0].model.as_str(), members[0].weight), (1, "b", 1));
    assert!(config.warnings[0].starts_with("hoosh.toml:3: "), "{:?}", config.warnings);

    check_faults(
        &format!(
            "[[groups]]\nname = 'x'\n[[groups]]\nname = 'y'\nmodels = ['a']\nweights = [1, 2]\n{providers}"
        ),
        &[],
        &[
            "hoosh.toml:1: groups[0]: `models` is missing",
            "hoosh.toml:6: groups[1].weights: there is to be one for each of `models`",
        ],
    );
}

/// Loads a configuration with a file of requests beside it.
fn load_warm(toml: &str, requests: &str) -> Result<Config, ConfigErrors> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("etc")).unwrap();
    std::fs::write(folder.path().join("etc/h.toml"), toml).unwrap();
    std::fs::write(folder.path().join("etc/warm.jsonl"), requests).unwrap();
    let (file, directory) = (Some(PathBuf::from("etc/h.toml")), folder.path().to_owned());
    load(&LoadOptions { file, directory, ..LoadOptions::default() })
}

#[test]
fn requests_to_warm_the_cache_with_are_read_from_beside_the_file() {
    let on = "[cache]\nenabled = true\nwarm = 'warm.jsonl'\n";
    let chat = r#"{"body": {"model":"m","temperature":0,"messages":[{"role":"user","content":"hi"}]}}"#;
    let gemini = r#"{"dialect":"gemini","model":"g","body":{"contents":[{"parts":[{"text":"hi"}]}],"generationConfig":{"temperature":0}}}"#;
    let config = load_warm(on, &format!("{chat}\n\n {gemini} \r\n")).unwrap();
    let warm = config.cache.warm.as_ref().unwrap();
    assert_eq!(warm.said, "warm.jsonl");
    let read: Vec<_> =
        warm.requests.iter().map(|one| (one.line, one.dialect, one.model.as_deref())).collect();
    assert_eq!(read, [(1, Dialect::OpenAiChat, None), (3, Dialect::Gemini, Some("g"))]);
    assert_eq!(warm.requests[0].callers, [CallerId::new("anonymous")]);
    assert!(config.to_toml().contains("warm = \"warm.jsonl\"  # etc/h.toml:3\n"));

    // With tokens it is said whose answers they are.
    let tokens = format!("{on}[auth]\ntokens = ['a', 'b']\n");
    let for_all = chat.replacen('{', r#"{"caller":"*","#, 1);
    let config = load_warm(&tokens, &for_all).unwrap();
    let [a, b] = config.cache.warm.as_ref().unwrap().requests[0].callers.clone().try_into().unwrap();
    assert!(a != b && a.as_str().starts_with("key-"));
    let for_one = chat.replacen('{', &format!(r#"{{"caller":"{b}","#), 1);
    let config = load_warm(&tokens, &for_one).unwrap();
    assert_eq!(config.cache.warm.unwrap().requests[0].callers, std::slice::from_ref(&b));
    for nobody in [chat.to_owned(), chat.replacen('{', r#"{"caller":"eve","#, 1)] {
        let faults = load_warm(&tokens, &nobody).unwrap_err().to_string();
        let says = format!(
            "etc/warm.jsonl:1: `caller`: each has answers of its own; expected `*` for all, or one of `{a}`, `{b}`"
        );
        assert_eq!(faults, says);
    }
}

#[test]
fn faults_of_requests_are_told_with_their_lines() {
    let on = "[cache]\nenabled = true\nwarm = 'warm.jsonl'\n";
    let requests = r#"{"body": {"model":"m","temperature":0,"messages":[{"role":"user","content":"x"}]}}
no json
[1]
{"dialect":"openai_chatt","body":{}}
{"dialect":"rerank","body":{}}
{"dialect":1,"body":{}}
{"boddy":{"model":"secret"}}
{"body":{"model":"m"},"boddy":1}
{"body":{"temperature":0,"messages":[{"role":"user","content":"x"}]}}
{"body":{"model":"m","temperature":1,"messages":[{"role":"user","content":"x"}]}}
{"dialect":"gemini","body":{"contents":[]}}
"#;
    let faults = load_warm(on, requests).unwrap_err().to_string();
    let object = "expected a JSON object such as {\"dialect\": \"openai_chat\", \"body\": {...}} on one line";
    let dialects = "`dialect`: expected one of `anthropic`, `gemini`, `gemini_batch_embed`, `gemini_embed`, `ollama_chat`, `ollama_embed`, `ollama_generate`, `openai_chat`, `openai_completions`, `openai_embeddings`, `openai_responses`";
    let expected = [
        format!("2: {object}"),
        format!("3: {object}"),
        format!("4: {dialects}; did you mean `openai_chat`?"),
        format!("5: {dialects}"),
        "6: `dialect`: expected a string".to_owned(),
        "7: `body`: is missing".to_owned(),
        "8: there is a field that is not known here; did you mean `body`?".to_owned(),
        "9: invalid request: `model`: is missing".to_owned(),
        "10: its answer would not be kept: only one answer with `temperature` 0 is (see `cache.any_temperature`), \
         without tools (see `cache.tool_calls`), that goes on from nothing kept"
            .to_owned(),
        "11: invalid request: `model`: is missing".to_owned(),
    ];
    let expected: Vec<String> = expected.iter().map(|fault| format!("etc/warm.jsonl:{fault}")).collect();
    assert_eq!(faults.lines().collect::<Vec<_>>(), expected);

    let many = "{\"body\":{\"model\":\"m\",\"temperature\":0,\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}}\n".repeat(limits::WARM_CALLS_MAX + 1);
    let faults = load_warm(on, &many).unwrap_err().to_string();
    assert_eq!(faults, "etc/warm.jsonl:1001: is one of more than 1000 calls, counted for each caller");
    let shared = "[auth]\ntokens = ['a', 'b', 'c']\n";
    let many = many.replace("{\"body\"", "{\"caller\":\"*\",\"body\"");
    let faults = load_warm(&format!("{on}{shared}"), &many).unwrap_err().to_string();
    assert_eq!(faults, "etc/warm.jsonl:334: is one of more than 1000 calls, counted for each caller");
    let large = " ".repeat(limits::WARM_FILE_BYTES_MAX as usize + 1);
    let faults = load_warm(on, &large).unwrap_err().to_string();
    assert_eq!(faults, "etc/h.toml:3: cache.warm: etc/warm.jsonl is larger than the 4 MiB that it may be");
    let gone = load_warm(&on.replace("warm.jsonl", "gone"), "").unwrap_err().to_string();
    assert!(gone.starts_with("etc/h.toml:3: cache.warm: etc/gone cannot be read: "), "{gone}");
    let folder = load_warm(&on.replace("warm.jsonl", "."), "").unwrap_err().to_string();
    assert_eq!(folder, "etc/h.toml:3: cache.warm: etc/. is no file");
}

/// Loads a configuration with a file of prices beside it.
fn load_prices(toml: &str, prices: &str) -> Result<Config, ConfigErrors> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("etc")).unwrap();
    std::fs::write(folder.path().join("etc/h.toml"), toml).unwrap();
    std::fs::write(folder.path().join("etc/p.toml"), prices).unwrap();
    let (file, directory) = (Some(PathBuf::from("etc/h.toml")), folder.path().to_owned());
    load(&LoadOptions { file, directory, ..LoadOptions::default() })
}

const WITH_FILE: &str = "[costs]\nprices = 'p.toml'\n";

#[test]
fn every_key_of_a_price_is_read_shown_and_loads_again() {
    let text = r#"[costs]
on_unpriced = "block"

[[prices]]
provider = "openai"
model = "gpt-*"
from = 2026-08-16
until = 2026-08-17T16:00:00+08:00
input = 2.50
output = "10"
cache_read = 0.25
cache_write_5m = 3
cache_write_1h = 5
output_reasoned = 11
reasoning = 12
audio_in = 40
audio_out = 0.000000001
tiers = [{ above = 200_000, input = 5, output = 15, cache_read = "0.5" }]
request = 0.01
batch = 0.5
flex = { input = 1, output = 2, tiers = [{ above = 7, input = 3, output = 4 }] }
priority = "1.75"

[[prices.hours]]
from = 01:00:00
until = "04:00"
days = ["mon", "fri"]
times = 2

[[prices.hours]]
from = "22:00"
until = "00:30"
input = 0
output = 0
"#;
    let config = loaded(text, &[]);
    assert_eq!((config.costs.on_unpriced, config.costs.inline), (OnUnpriced::Block, 1));
    let entry = &config.costs.entries[0];
    assert_eq!((entry.provider.as_str(), entry.model.as_str()), ("openai", "gpt-*"));
    assert_eq!((entry.from, entry.until), (Some(1_786_838_400), Some(1_786_953_600)));
    assert_eq!(entry.place.to_string(), "hoosh.toml:4");
    let usd = |text: &str| text.parse::<hoosh_core::NanoUsd>().unwrap();
    let (price, rates) = (&entry.price, &entry.price.rates);
    assert_eq!(
        (rates.input, rates.output, rates.audio_out),
        (usd("2.5"), usd("10"), Some(usd("0.000000001")))
    );
    assert_eq!((rates.cache_write_5m, rates.cache_write_1h), (Some(usd("3")), Some(usd("5"))));
    assert_eq!((rates.output_reasoned, rates.reasoning), (Some(usd("11")), Some(usd("12"))));
    assert_eq!((price.tiers[0].above, price.tiers[0].rates.cache_read), (200_000, Some(usd("0.5"))));
    assert_eq!((price.request, price.hours.len()), (Some(usd("0.01")), 2));

    let shown = config.to_toml();
    assert!(shown.contains("input = \"2.5\"  # hoosh.toml:9\n"), "{shown}");
    let again = loaded(&shown, &[]);
    let prices = |config: &Config| {
        let entry = |entry: &PriceEntry| (entry.from, entry.until, entry.price.clone());
        config.costs.entries.iter().map(entry).collect::<Vec<_>>()
    };
    assert_eq!(prices(&again), prices(&config));
}

#[test]
fn prices_beside_the_file_go_with_its_own_and_are_shown_by_their_path() {
    let price =
        |model: &str| format!("[[prices]]\nprovider = 'groq'\nmodel = '{model}'\ninput = 1\noutput = 2\n");
    let config = load_prices(&(WITH_FILE.to_owned() + &price("a")), &price("b")).unwrap();
    let models: Vec<_> = config.costs.entries.iter().map(|entry| entry.model.as_str()).collect();
    assert_eq!((models, config.costs.inline), (vec!["a", "b"], 1));
    assert_eq!(config.costs.entries[1].place.to_string(), "etc/p.toml:1");
    let shown = config.to_toml();
    assert!(shown.contains("prices = \"p.toml\"  # etc/h.toml:2\n") && !shown.contains("'b'"), "{shown}");
    let same = load_prices(&(WITH_FILE.to_owned() + &price("a")), &price("a")).unwrap_err().to_string();
    assert_eq!(
        same,
        "etc/p.toml:1: prices[0].from: the price for the same provider and model at etc/h.toml:3 holds at the same time; \
         end one of them by `until`"
    );
    let variable = loaded("", &[("HOOSH_COSTS__ON_UNPRICED", "allow")]);
    assert_eq!(variable.costs.on_unpriced, OnUnpriced::Allow);
}

#[test]
fn faults_of_prices_are_told_with_line_and_key() {
    let prices = r#"
key = 1
[[prices]]
provider = "groq"
model = "m{1}"
from = 2026-08-17
until = 2026-08-16
input = -1
output = "1e-6"
cache_read = 0.0000000001
cache_raed = true
request = true
batch = "half"
flex = { input = 1 }
priority = [1]
tiers = [{ above = -1, input = 1, output = 1, colour = 2 }, 7]
hours = [
  { from = "1:00", until = "24:01", days = ["mon", "noday"], times = 1000 },
  { from = "01:00", until = "02:00", times = 2, input = 3 },
  { from = 2026-08-16, until = "02:00", days = "mon" },
]

[[prices]]
model = 1
from = "soon"
until = 01:00:00

[[prices]]
provider = ""
model = "[x]"
input = 1
output = 1
from = 2026-08-17
until = 2026-08-16
tiers = [{ above = 5, input = 1, output = 1 }, { above = 5, input = 1, output = 1 }]
"#;
    let told = load_prices(WITH_FILE, prices).unwrap_err().to_string();
    let amount = "expected US dollars such as 2.50 or \"2.50\", found";
    let (time, date) = (
        "expected a time of the day in UTC such as \"01:00\", up to \"24:00\", found",
        "expected a date since 1970 such as 2026-08-16, or a time such as 2026-08-16T16:00:00Z, found",
    );
    let factor = "expected a number from 0 to 100 that prices are multiplied by, such as 0.5, found";
    let days = "expected a list of `mon`, `tue`, `wed`, `thu`, `fri`, `sat`, `sun`, found";
    let expect = [
        "2: key: there is no such key in a file of prices, which has [[prices]] only".to_owned(),
        format!("8: prices[0].input: {amount} `-1`, which is negative"),
        format!("9: prices[0].output: {amount} `1e-6`: not a decimal number of dollars"),
        format!("10: prices[0].cache_read: {amount} `0.0000000001`: finer than a billionth of a dollar"),
        "11: prices[0].cache_raed: there is no such key; did you mean `cache_read`?".to_owned(),
        format!("12: prices[0].request: {amount} true or false"),
        format!("13: prices[0].batch: {factor} `half`"),
        "14: prices[0].flex: `output` is missing".to_owned(),
        format!("15: prices[0].priority: {factor} a list"),
        "16: prices[0].tiers[0].colour: there is no such key".to_owned(),
        "16: prices[0].tiers[0].above: expected a whole number of tokens, found a number".to_owned(),
        "16: prices[0].tiers[1]: expected a table such as { ... }, found a number".to_owned(),
        format!("18: prices[0].hours[0].from: {time} `1:00`"),
        format!("18: prices[0].hours[0].until: {time} `24:01`"),
        format!("18: prices[0].hours[0].days: {days} `noday`"),
        format!("18: prices[0].hours[0].times: {factor} `1000`"),
        "19: prices[0].hours[1].times: expected either this or prices of its own, found both".to_owned(),
        format!("20: prices[0].hours[2].from: {time} a date or a time"),
        format!("20: prices[0].hours[2].days: {days} a string"),
        "20: prices[0].hours[2]: `input` is missing".to_owned(),
        "20: prices[0].hours[2]: `output` is missing".to_owned(),
        "23: prices[1]: `provider` is missing".to_owned(),
        "23: prices[1]: `input` is missing".to_owned(),
        "23: prices[1]: `output` is missing".to_owned(),
        "24: prices[1].model: expected a string, found a number".to_owned(),
        format!("25: prices[1].from: {date} `soon`"),
        format!("26: prices[1].until: {date} a date or a time"),
        "29: prices[2].provider: it is empty; `*` is any provider that is not local".to_owned(),
        "30: prices[2].model: only `*` (any text) and `?` (one character) are special in a pattern"
            .to_owned(),
        "34: prices[2].until: it is not after `from`, so that the price never holds".to_owned(),
        "35: prices[2].tiers[1].above: it is not above the tier before it".to_owned(),
    ];
    let expect: Vec<String> = expect.into_iter().map(|says| format!("etc/p.toml:{says}")).collect();
    assert_eq!(told.lines().collect::<Vec<_>>(), expect);
}

#[test]
fn a_file_of_prices_that_is_none_is_told_where_it_is_named() {
    let gone = load_prices("[costs]\nprices = 'gone.toml'\n", "").unwrap_err().to_string();
    assert!(gone.starts_with("etc/h.toml:2: costs.prices: etc/gone.toml cannot be read: "), "{gone}");
    let folder = load_prices("[costs]\nprices = '.'\n", "").unwrap_err().to_string();
    assert_eq!(folder, "etc/h.toml:2: costs.prices: etc/. is no file");
    let syntax = load_prices(WITH_FILE, "[[prices]\n").unwrap_err().to_string();
    assert!(syntax.starts_with("etc/p.toml:1: "), "{syntax}");
    let shape = load_prices(WITH_FILE, "prices = 3\n").unwrap_err().to_string();
    assert_eq!(
        shape,
        "etc/p.toml:1: prices: expected a list, found a number; write each price under its own [[prices]]"
    );
    check_faults(
        "[costs]\non_unpriced = 'deny'\n[[price]]\n",
        &[],
        &[
            "hoosh.toml:2: costs.on_unpriced: expected `allow`, `warn` or `block`",
            "hoosh.toml:3: price: there is no such section; did you mean `prices`?",
        ],
    );
}

#[test]
fn a_price_of_a_provider_that_there_is_not_is_warned_of() {
    let text = "[[prices]]\nprovider = 'opnai'\nmodel = 'm'\ninput = 1\noutput = 1\n\
                [[prices]]\nprovider = 'mine'\nmodel = 'm'\ninput = 1\noutput = 1\n\
                [[providers]]\ntype = 'vllm'\nname = 'mine'\nbase_url = 'http://box'\n";
    let says =
        "hoosh.toml:2: prices[0].provider: no provider has the name or type `opnai`; did you mean `openai`?";
    check_warnings(text, &[], &[says]);
}

#[test]
fn every_key_of_a_price_is_in_the_documentation_and_can_be_read() {
    for key in super::prices::RATES {
        assert!(keys::PRICES.iter().any(|known| known.name == key), "{key}");
    }
    assert_eq!(keys::PRICES.len(), super::prices::RATES.len() + 10);
}

#[test]
fn what_a_cache_that_is_off_would_do_is_warned_of() {
    let provider = "[[providers]]\ntype = 'vllm'\nbase_url = 'http://box'\nmodels = ['e']\n";
    check_warnings(
        &format!("[cache]\nsemantic_model = 'e'\nwarm = 'gone'\n{provider}"),
        &[],
        &[
            "hoosh.toml:2: `cache.semantic_model` does nothing as long as `cache.enabled` is false",
            "hoosh.toml:3: `cache.warm` does nothing as long as `cache.enabled` is false",
        ],
    );
    let on = format!("[cache]\nenabled = true\nsemantic_model = 'e'\n{provider}");
    check_warnings(&on, &[], &[]);
    check_warnings(
        &on.replace("'e'\n[", "'x'\n["),
        &[],
        &["hoosh.toml:3: no provider serves `x`: answers are found by the same words only"],
    );
    check_faults(
        "[cache]\nsemantic_model = ''\nsemantic_threshold = 1.5\nwarm = ' '",
        &[],
        &[
            "hoosh.toml:2: cache.semantic_model: it is empty; `*` matches every model",
            "hoosh.toml:3: cache.semantic_threshold: expected a number from 0 to 1, found 1.5",
            "hoosh.toml:4: cache.warm: expected the path of a file",
        ],
    );
}

#[test]
fn pools_are_read_shown_and_their_faults_placed() {
    let text = "[budget]\nledger = 'memory'\nkeep_days = 0\n[[pools]]\nname = 'team:a'\nusd = '2.50'\nwindow = 'month'\n\
                time_zone = 'Europe/Berlin'\nalerts = [80, 100]\n[[pools]]\nname = 'user:*'\nparent = 'team:a'\n\
                tokens = 1000\nwindow = 'rolling 3600'\nmode = 'soft'\n";
    let config = loaded(text, &[]);
    let [team, user] = config.pools.as_slice() else { panic!("{:?}", config.pools) };
    assert_eq!((team.capacity.money, team.window), (Some("2.5".parse().unwrap()), Window::Month));
    assert_eq!((team.time_zone.iana_name(), team.alerts.as_slice()), (Some("Europe/Berlin"), &[80, 100][..]));
    assert_eq!((user.capacity.tokens, user.mode), (Some(1_000), Mode::Soft));
    assert_eq!(user.window, Window::Rolling(Duration::from_secs(3_600)));
    assert_eq!(
        config.budget,
        Budget {
            ledger: LedgerPlace::Memory,
            durability: Durability::Group,
            pools: None,
            hook: None,
            log: false,
            keep: None
        }
    );
    let again = loaded(&config.to_toml(), &[]);
    assert_eq!((&again.pools, &again.budget), (&config.pools, &config.budget));
    assert_eq!(loaded("", &[]).budget.ledger, LedgerPlace::File("hoosh-ledger.db".to_owned()));
    let strict = loaded("[budget]\ndurability = 'strict'", &[]);
    assert_eq!(strict.budget.durability, Durability::Strict);
    assert_eq!(loaded(&strict.to_toml(), &[]).budget, strict.budget);
    let logging = loaded("[budget]\nlog = true", &[]);
    assert!(logging.budget.log && loaded(&logging.to_toml(), &[]).budget.log);
    check_faults(
        "[budget]\nledger = 'memory'\nlog = true\n[[providers]]\ntype = 'ollama'",
        &[],
        &[
            "hoosh.toml:3: budget.log: rows of calls are kept in a file: name one as `ledger`, which is `memory`",
        ],
    );

    let providers = "[[providers]]\ntype = 'ollama'";
    check_faults(
        &format!(
            "[[pools]]\ntokens = 1\n[[pools]]\nname = 'team'\n[[pools]]\nname = 'user:a'\nusd = -1\nwindow = 'year'\n\
             time_zone = 'Mars'\nalerts = [0]\nmode = 'firm'\n{providers}"
        ),
        &[],
        &[
            "hoosh.toml:1: pools[0]: `name` is missing",
            "hoosh.toml:4: pools[1].name: expected a kind and a name such as \"team:search\", or \"user:*\" for each user",
            "hoosh.toml:7: pools[2].usd: expected US dollars such as \"25\" or \"0.5\"",
            "hoosh.toml:8: pools[2].window: expected `none`, `minute`, `hour`, `day`, `week`, `month`, or `rolling` with a \
             number of seconds as in \"rolling 3600\"",
            "hoosh.toml:9: pools[2].time_zone: expected a time zone such as \"Europe/Berlin\" or \"UTC\"",
            "hoosh.toml:10: pools[2].alerts[0]: expected a list of whole numbers from 1 to 255, found 0",
            "hoosh.toml:11: pools[2].mode: expected `hard` or `soft`",
        ],
    );
    check_faults(
        &format!("[[pools]]\nname = 'user:a'\nparent = 'team:b'\n[[pools]]\nname = 'user:a'\n{providers}"),
        &[],
        &[
            "hoosh.toml:4: pools[1]: `user:a` its parent `team:b` is not defined",
            "hoosh.toml:4: pools[1]: `user:a` is defined twice",
        ],
    );
}

#[test]
fn strategies_by_pattern_are_read_shown_and_their_faults_placed() {
    let config = loaded("[strategies]\n'gpt-4.1*' = 'cheapest'\n\"*\" = \"$HOW\"", &[("HOW", "direct")]);
    let strategies: Vec<_> =
        config.strategies.iter().map(|(pattern, one)| (pattern.as_str(), *one)).collect();
    assert_eq!(strategies, [("*", Strategy::Direct), ("gpt-4.1*", Strategy::Cheapest)]);
    let shown = config.to_toml();
    assert!(shown.contains("[strategies]\n\"*\" = \"direct\"  # hoosh.toml:3\n"), "{shown}");
    assert!(shown.contains("\"gpt-4.1*\" = \"cheapest\"  # hoosh.toml:2\n"), "{shown}");
    assert_eq!(loaded(&shown, &[]).strategies, config.strategies);
    let config = loaded("[strategies]\nfast = 'direct'", &[("HOOSH_STRATEGIES__FAST", "cheapest")]);
    assert_eq!(config.strategies["fast"], Strategy::Cheapest);

    check_faults(
        "[strategies]\n'gpt-[45]' = 'direct'\n'llama*' = 'cheepest'\n'a' = 3\n[[providers]]\ntype = 'ollama'",
        &[],
        &[
            "hoosh.toml:2: strategies.\"gpt-[45]\": strategy for `gpt-[45]`: only `*` (any text) and `?` (one character) \
             are special in a pattern",
            "hoosh.toml:3: strategies.\"llama*\": expected one of `priority`, `round_robin`, `weighted`, `least_busy`, \
             `lowest_latency`, `lowest_ttft`, `cheapest`, `local_first`, `direct`, found `cheepest`; did you mean `cheapest`?",
            "hoosh.toml:4: strategies.a: expected one of `priority`, `round_robin`, `weighted`, `least_busy`, \
             `lowest_latency`, `lowest_ttft`, `cheapest`, `local_first`, `direct`, found a number",
        ],
    );
    check_faults(
        "strategies = 'direct'",
        &[],
        &["hoosh.toml:1: strategies: expected a section [strategies], found a string"],
    );
}

#[test]
fn waiting_is_told_of_ten_times_a_second_at_most_or_never() {
    for (text, expect) in [("0", None), ("0.1", Some(0.1)), ("2.5", Some(2.5))] {
        let config = loaded(&format!("[server]\nwaiting_comment_secs = {text}"), &[]);
        assert_eq!(config.server.waiting_comment.map(|time| time.as_secs_f64()), expect, "{text}");
    }
    for text in ["1e-10", "0.0001", "0.099", "-1", "86401"] {
        let found = text.parse::<f64>().unwrap();
        let fault = format!(
            "hoosh.toml:2: server.waiting_comment_secs: expected a number of seconds from 0.1 to 86400, or 0, found {found}"
        );
        check_faults(&format!("[server]\nwaiting_comment_secs = {text}"), &[], &[&fault]);
    }
}
