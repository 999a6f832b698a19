//! What `hoosh serve` says when it starts: where it is, who answers for what, how to try it and how to add more.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hoosh_providers::{PRESETS, preset};
use serde_json::{Value, json};

use super::VERSION;
use super::terminal::{BOLD, DIM, PLAIN, YELLOW, printable, table};
use crate::config::{Config, Place, Provider};
use crate::discover::Discovery;

/// Characters of model patterns shown of one provider, its first pattern in any case.
const PATTERNS_WIDTH: usize = 40;

/// Vendors named in the hint how to add one.
const VENDORS_SHOWN: usize = 4;

/// The whole message. `discovery` is there if nothing was configured.
pub(crate) fn message(config: &Config, discovery: Option<&Discovery>, address: SocketAddr) -> String {
    let url = url(address);
    let from = if config.sources.is_empty() {
        "no configuration file".to_owned()
    } else {
        config.sources.join(", ")
    };
    let mut text =
        format!("{BOLD}hoosh {VERSION}{PLAIN} on {BOLD}{url}{PLAIN} {DIM}({}){PLAIN}\n\n", printable(&from));
    if config.providers.is_empty() {
        text.push_str("no provider: every call is answered with 404 until there is one\n");
    } else {
        text.push_str(&providers_table(config));
    }
    for (alias, targets) in &config.aliases {
        text.push_str(&printable(&format!(" {alias} -> {}\n", targets.join(", "))));
    }
    if let Some(discovery) = discovery {
        text.push('\n');
        text.push_str(&looked(discovery));
    }
    if !config.warnings.is_empty() {
        text.push('\n');
    }
    for warning in &config.warnings {
        text.push_str(&format!("{YELLOW}warning{PLAIN}: {}\n", printable(warning)));
    }
    if let Some(model) = model_to_try(config) {
        text.push_str(&format!("\ntry: {}\n", printable(&curl(&url, &model, !config.auth.is_open()))));
    }
    text.push('\n');
    text
}

/// The providers in the order in which those that match are asked.
pub(crate) fn providers_table(config: &Config) -> String {
    let row = |provider: &Provider| {
        let state = if provider.enabled { provider.priority.to_string() } else { "off".to_owned() };
        let source = match config.origins.get(&format!("providers.{}", provider.name())) {
            None | Some(Place::Default) => String::new(),
            Some(Place::Variable(name)) => name.clone(),
            Some(Place::Found(_)) => "found here".to_owned(),
            Some(place) => place.to_string(),
        };
        [
            provider.name().to_owned(),
            provider.settings.kind.to_string(),
            provider_url(provider).to_owned(),
            models(&provider.models),
            state,
            source,
        ]
    };
    table(&["provider", "type", "url", "models", "priority>", "from"], ordered(config).into_iter().map(row))
}

/// The same for scripts.
pub(crate) fn providers_json(config: &Config) -> Value {
    let provider = |provider: &Provider| {
        json!({
            "name": provider.name(),
            "type": provider.settings.kind.as_str(),
            "base_url": provider_url(provider),
            "models": provider.models,
            "priority": provider.priority,
            "enabled": provider.enabled,
            "key": provider.settings.api_key.is_some(),
        })
    };
    Value::Array(ordered(config).into_iter().map(provider).collect())
}

fn ordered(config: &Config) -> Vec<&Provider> {
    let mut providers: Vec<&Provider> = config.providers.iter().collect();
    providers.sort_by_key(|provider| (!provider.enabled, provider.priority));
    providers
}

fn provider_url(provider: &Provider) -> &str {
    provider.settings.base_url.as_deref().unwrap_or(preset(provider.settings.kind).host)
}

/// The first patterns, and how many more there are.
fn models(patterns: &[String]) -> String {
    let mut shown = String::new();
    for (index, pattern) in patterns.iter().enumerate() {
        if index > 0 && shown.len() + pattern.len() > PATTERNS_WIDTH {
            return format!("{shown} +{}", patterns.len() - index);
        }
        shown.push_str(if index > 0 { ", " } else { "" });
        shown.push_str(pattern);
    }
    shown
}

/// What was looked for without success, and how to add a provider.
fn looked(discovery: &Discovery) -> String {
    let mut text = String::new();
    let mut silent = Vec::new();
    for absent in &discovery.absent {
        let labels: Vec<&str> = absent.presets.iter().map(|preset| preset.label).collect();
        let place = format!("{} ({})", absent.url.trim_start_matches("http://"), labels.join(", "));
        match &absent.problem {
            None => silent.push(place),
            Some(problem) => text.push_str(&printable(&format!("left out: {place}: {problem}\n"))),
        }
    }
    if !silent.is_empty() {
        text.push_str(&format!("{DIM}nothing listens at {}{PLAIN}\n", silent.join(", ")));
    }
    let mut variables: Vec<&str> =
        discovery.keyless.iter().filter_map(|preset| preset.key_env.first().copied()).collect();
    // Those that most people have come first; the rest keeps the table's order.
    let known = ["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "OPENROUTER_API_KEY"];
    variables.sort_by_key(|name| known.iter().position(|known| known == name).unwrap_or(known.len()));
    let more = PRESETS.len();
    variables.truncate(VENDORS_SHOWN);
    text.push_str(&format!(
        "to add a provider: start a model server, set a key such as {}, or write hoosh.toml with\n    [[providers]]\n    \
         type = \"ollama\"    # {more} types: `hoosh info`\nthen start again\n",
        if variables.is_empty() { "OPENAI_API_KEY".to_owned() } else { variables.join(", ") },
    ));
    text
}

/// A model that is served for sure: an alias, or one that a pattern spells out.
fn model_to_try(config: &Config) -> Option<String> {
    let plain = |model: &&String| !model.contains(['*', '?']);
    let exact = || {
        let enabled = ordered(config).into_iter().filter(|provider| provider.enabled);
        enabled.flat_map(|provider| &provider.models).find(plain).cloned()
    };
    let any = || config.providers.iter().any(|provider| provider.enabled).then(|| "MODEL".to_owned());
    config.aliases.keys().next().cloned().or_else(exact).or_else(any)
}

/// A call to paste into a shell.
fn curl(url: &str, model: &str, token: bool) -> String {
    // Written by hand for the order of its fields, which is the one that people know.
    let body = format!(r#"{{"model":{},"messages":[{{"role":"user","content":"Say hi."}}]}}"#, json!(model));
    let token = if token { " -H \"authorization: Bearer $TOKEN\"" } else { "" };
    let body = body.replace('\'', "'\\''");
    format!("curl {url}/v1/chat/completions -H 'content-type: application/json'{token} -d '{body}'")
}

/// The URL at which this machine reaches the address.
fn url(address: SocketAddr) -> String {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, address.port()))
}

#[cfg(test)]
mod tests {
    use hoosh_core::ProviderType;
    use hoosh_providers::ProviderSettings;

    use super::*;
    use crate::discover::{Absent, Found};

    fn provider(name: &str, kind: ProviderType, models: &[&str], priority: u32) -> Provider {
        Provider {
            settings: ProviderSettings { name: Some(name.into()), ..ProviderSettings::new(kind) },
            priority,
            models: models.iter().map(|model| (*model).to_owned()).collect(),
            enabled: true,
            max_tokens_limit: None,
            lossy: None,
            cache_ttl: None,
            weight: 1,
            strategy: None,
            options: hoosh_router::RouteOptions::default(),
            queue: None,
            limits: hoosh_budget::rate::Limits::NONE,
            context: hoosh_core::ContextRule::default(),
        }
    }

    fn plain(config: &Config, discovery: Option<&Discovery>, address: &str) -> String {
        let message = message(config, discovery, address.parse().unwrap());
        anstream::adapter::strip_str(&message).to_string()
    }

    #[test]
    fn the_message_says_who_answers_for_what_and_how_to_try_it() {
        let config = Config {
            providers: vec![
                provider("openai", ProviderType::OpenAi, &["gpt-*"], 20),
                provider(
                    "ollama",
                    ProviderType::Ollama,
                    &["a", "bbbbbbbbbbbbbbbbbbbb", "cccccccccccccccc", "d", "it's"],
                    10,
                ),
            ],
            sources: vec!["hoosh.toml".into()],
            warnings: vec!["mind the gap".into()],
            ..Config::default()
        };
        let text = plain(&config, None, "0.0.0.0:8088");
        assert!(
            text.starts_with(&format!("hoosh {VERSION} on http://127.0.0.1:8088 (hoosh.toml)\n")),
            "{text}"
        );
        assert!(text.find("ollama").unwrap() < text.find("openai").unwrap(), "{text}");
        assert!(
            text.contains("a, bbbbbbbbbbbbbbbbbbbb, cccccccccccccccc +2")
                && text.contains("https://api.openai.com"),
            "{text}"
        );
        assert!(text.contains("warning: mind the gap\n"), "{text}");
        assert!(
            text.contains("try: curl http://127.0.0.1:8088/v1/chat/completions -H 'content-type"),
            "{text}"
        );
        assert!(text.contains(r#""model":"a""#) && !text.contains("Bearer"), "{text}");
    }

    #[test]
    fn what_was_not_found_is_told_with_how_to_add_it() {
        let absent = |kind, problem: Option<&str>| Absent {
            url: preset(kind).host.to_owned(),
            presets: vec![preset(kind)],
            problem: problem.map(str::to_owned),
        };
        let discovery = Discovery {
            found: vec![Found {
                provider: provider("vllm", ProviderType::Vllm, &["m"], 10),
                place: Place::Found("http://127.0.0.1:8000".into()),
            }],
            absent: vec![
                absent(ProviderType::Ollama, Some("it has no models yet")),
                absent(ProviderType::LmStudio, None),
            ],
            keyless: vec![preset(ProviderType::Groq), preset(ProviderType::OpenAi)],
        };
        let mut config = Config::default();
        discovery.add_to(&mut config);
        let text = plain(&config, Some(&discovery), "[::]:1");
        assert!(text.contains("http://[::1]:1 (no configuration file)"), "{text}");
        assert!(text.contains("found here"), "{text}");
        assert!(text.contains("left out: 127.0.0.1:11434 (Ollama): it has no models yet\n"), "{text}");
        assert!(text.contains("nothing listens at 127.0.0.1:1234 (LM Studio)\n"), "{text}");
        assert!(text.contains("set a key such as OPENAI_API_KEY, GROQ_API_KEY,"), "{text}");

        let text = plain(&Config::default(), Some(&Discovery::default()), "127.0.0.1:1");
        assert!(text.contains("no provider") && !text.contains("try:"), "{text}");
    }

    #[test]
    fn the_call_to_try_survives_a_shell() {
        let text = curl("http://h", "it's", true);
        assert!(text.contains(r#"-H "authorization: Bearer $TOKEN""#), "{text}");
        assert!(text.contains(r#""model":"it'\''s""#), "{text}");
    }
}
