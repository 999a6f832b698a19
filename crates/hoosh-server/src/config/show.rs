//! The effective configuration as TOML that can be read, pasted and loaded again.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use hoosh_budget::rate::Measure;
use hoosh_budget::{TokenPool, Window};
use hoosh_core::ContextRule;
use hoosh_providers::preset;

use super::audit::Shown;
use super::file::join;
use super::prices;
use super::{Config, LedgerPlace, ModelGroup, Place, Provider};

/// What stands for a secret.
const REDACTED: &str = "<redacted>";

/// Text and the places of what is in it.
struct Page<'a> {
    config: &'a Config,
    text: String,
    settings: BTreeMap<String, String>,
}

pub(crate) fn toml(config: &Config) -> String {
    page(config).text
}

pub(crate) fn settings(config: &Config) -> BTreeMap<String, String> {
    page(config).settings
}

fn page(config: &Config) -> Page<'_> {
    let mut page = Page { config, text: String::new(), settings: BTreeMap::new() };
    let server = &config.server;
    page.section("[server]");
    page.key("server", "bind", &string(&server.bind.to_string()));
    page.key("server", "port", &server.port.to_string());
    page.key("server", "strategy", &string(server.strategy.as_str()));
    page.key("server", "lossy", &string(server.lossy.as_str()));
    page.key("server", "max_body_bytes", &server.max_body_bytes.to_string());
    if let Some(time) = server.request_timeout {
        page.key("server", "request_timeout_secs", &seconds(time));
    }
    page.key("server", "drain_timeout_secs", &seconds(server.drain_timeout));
    page.key("server", "body_timeout_secs", &seconds(server.body_timeout));
    page.key("server", "waiting_comment_secs", &seconds(server.waiting_comment.unwrap_or_default()));
    page.key("server", "max_connections", &server.max_connections.to_string());
    page.key("server", "cors_origins", &list(&server.cors_origins));
    page.key("server", "reload", &string(server.reload.as_str()));

    let routing = &config.routing;
    page.section("[routing]");
    page.key("routing", "retries", &routing.retry.retries.to_string());
    page.key("routing", "retry_wait_secs", &seconds(routing.retry.wait_max));
    page.key("routing", "on_exhausted", &string(routing.retry.on_exhausted.as_str()));
    page.key("routing", "failures", &routing.breaker.failures.to_string());
    page.key("routing", "rest_secs", &seconds(routing.breaker.rest));
    page.key("routing", "rest_max_secs", &seconds(routing.breaker.rest_max));
    page.key("routing", "heartbeat_secs", &seconds(routing.heartbeat.unwrap_or_default()));
    page.key("routing", "probe_secs", &seconds(routing.probe.unwrap_or_default()));
    page.key("routing", "hedge_percent", &routing.hedge_percent.to_string());
    page.key("routing", "context_fallback", &list(&routing.fallbacks.context_length));
    page.key("routing", "policy_fallback", &list(&routing.fallbacks.content_policy));
    page.context("routing", &routing.context);

    page.section("[cache]");
    page.key("cache", "enabled", &config.cache.enabled.to_string());
    page.key("cache", "ttl_secs", &seconds(config.cache.ttl));
    page.key("cache", "max_bytes", &config.cache.max_bytes.to_string());
    page.key("cache", "any_temperature", &config.cache.any_temperature.to_string());
    page.key("cache", "tool_calls", &config.cache.tool_calls.to_string());
    if let Some(semantic) = &config.cache.semantic {
        page.key("cache", "semantic_model", &string(&semantic.model));
        page.key("cache", "semantic_threshold", &semantic.threshold.to_string());
    }
    if let Some(warm) = &config.cache.warm {
        page.key("cache", "warm", &string(&warm.said));
    }

    page.section("[costs]");
    page.key("costs", "on_unpriced", &string(config.costs.on_unpriced.as_str()));
    if let Some(prices) = &config.costs.prices {
        page.key("costs", "prices", &string(&prices.said));
    }

    page.section("[auth]");
    page.key("auth", "tokens", &list(&vec![REDACTED.to_owned(); config.auth.tokens.len()]));
    if !config.auth.admin_tokens.is_empty() {
        let redacted = vec![REDACTED.to_owned(); config.auth.admin_tokens.len()];
        page.key("auth", "admin_tokens", &list(&redacted));
    }
    if let Some(keys) = &config.auth.keys {
        page.key("auth", "keys", &string(&keys.said));
    }
    if let Some(jwt) = &config.auth.jwt {
        page.key("auth", "jwt_keys", &string(&jwt.said));
        let names: Vec<String> =
            jwt.algorithms.iter().map(|algorithm| algorithm.as_str().to_owned()).collect();
        page.key("auth", "jwt_algorithms", &list(&names));
        page.key("auth", "jwt_issuers", &list(&jwt.issuers));
        page.key("auth", "jwt_audiences", &list(&jwt.audiences));
        if jwt.url.is_some() {
            page.key("auth", "jwt_refresh_secs", &seconds(jwt.refresh.unwrap_or_default()));
        }
        if !jwt.pools_prefix.is_empty() {
            page.key("auth", "jwt_pools_prefix", &string(&jwt.pools_prefix));
        }
        page.key("auth", "jwt_caller_claim", &string(&jwt.caller_claim));
        for (key, claim) in [
            ("jwt_scopes_claim", &jwt.scopes_claim),
            ("jwt_models_claim", &jwt.models_claim),
            ("jwt_pools_claim", &jwt.pools_claim),
        ] {
            if let Some(claim) = claim {
                page.key("auth", key, &string(claim));
            }
        }
    }

    if !config.limits.are_none() {
        page.section("[limits]");
    }
    for rate in config.limits.rates() {
        let key = format!("{}_per_{}", rate.measure.as_str(), rate.period.as_str());
        page.key("limits", &key, &rate.amount.to_string());
    }
    if let Some(concurrent) = config.limits.concurrent() {
        page.key("limits", "concurrent", &concurrent.to_string());
    }

    if !config.aliases.is_empty() {
        page.section("[aliases]");
    }
    for (alias, targets) in &config.aliases {
        let value = match targets.as_slice() {
            [target] => string(target),
            targets => list(targets),
        };
        page.key("aliases", alias, &value);
    }
    for ModelGroup { name, group, path } in &config.groups {
        page.section("[[groups]]");
        page.key(path, "name", &string(name));
        let models: Vec<String> = group.members.iter().map(|member| member.model.clone()).collect();
        page.key(path, "models", &list(&models));
        if let Some(strategy) = group.strategy {
            page.key(path, "strategy", &string(strategy.as_str()));
        }
        let weights: Vec<String> = group.members.iter().map(|member| member.weight.to_string()).collect();
        page.key(path, "weights", &format!("[{}]", weights.join(", ")));
        if let Some(canary) = &group.canary {
            page.key(path, "canary", &string(&canary.model));
            page.key(path, "canary_percent", &canary.percent.to_string());
        }
    }
    page.section("[budget]");
    let ledger = match &config.budget.ledger {
        LedgerPlace::Memory => "memory",
        LedgerPlace::File(path) => path,
    };
    page.key("budget", "ledger", &string(ledger));
    page.key("budget", "durability", &string(config.budget.durability.as_str()));
    if let Some(pools) = &config.budget.pools {
        page.key("budget", "pools", &string(pools));
    }
    if let Some(hook) = &config.budget.hook {
        page.key("budget", "alert_webhook", &string(&hook.url.to_string()));
        if hook.secret.is_some() {
            page.key("budget", "alert_webhook_secret", &string(REDACTED));
        }
    }
    page.key("budget", "log", &config.budget.log.to_string());
    let days = config.budget.keep.unwrap_or_default().as_secs() / 86_400;
    page.key("budget", "keep_days", &days.to_string());
    page.section("[audit]");
    for (key, value) in config.audit.shown() {
        let value = match value {
            Shown::Text(text) => string(&text),
            Shown::Plain(text) => text,
            Shown::Time(time) => seconds(time),
            Shown::List(texts) => list(&texts),
        };
        page.key("audit", key, &value);
    }
    for (index, pool) in config.pools.iter().enumerate() {
        page.section("[[pools]]");
        page.pool(&format!("pools[{index}]"), pool);
    }
    if !config.strategies.is_empty() {
        page.section("[strategies]");
    }
    for (pattern, strategy) in &config.strategies {
        page.key("strategies", pattern, &string(strategy.as_str()));
    }
    for (at, entry) in config.costs.entries.iter().take(config.costs.inline).enumerate() {
        page.section("[[prices]]");
        for (key, value) in prices::shown(entry) {
            page.key(&format!("prices[{at}]"), key, &value);
        }
    }
    for provider in &config.providers {
        page.section("[[providers]]");
        page.provider(provider);
    }
    page
}

// === impl Page ===

impl Page<'_> {
    fn pool(&mut self, path: &str, pool: &TokenPool) {
        self.key(path, "name", &string(pool.id.as_str()));
        if let Some(parent) = &pool.parent {
            self.key(path, "parent", &string(parent.as_str()));
        }
        if let Some(tokens) = pool.capacity.tokens {
            self.key(path, "tokens", &tokens.to_string());
        }
        if let Some(money) = pool.capacity.money {
            self.key(path, "usd", &string(money.to_string().trim_start_matches('$')));
        }
        self.key(path, "window", &string(&window(pool.window)));
        self.key(path, "time_zone", &string(pool.time_zone.iana_name().unwrap_or("UTC")));
        self.key(path, "mode", &string(pool.mode.as_str()));
        let alerts: Vec<String> = pool.alerts.iter().map(u8::to_string).collect();
        self.key(path, "alerts", &format!("[{}]", alerts.join(", ")));
    }

    fn section(&mut self, header: &str) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.line(header, None);
    }

    fn provider(&mut self, provider: &Provider) {
        let settings = &provider.settings;
        let section = format!("providers.{}", provider.name());
        self.key(&section, "type", &string(settings.kind.as_str()));
        self.key(&section, "name", &string(provider.name()));
        let url = settings.base_url.as_deref().unwrap_or(preset(settings.kind).host);
        self.key(&section, "base_url", &string(url));
        if let Some(local) = settings.local {
            self.key(&section, "local", &local.to_string());
        }
        if settings.api_key.is_some() {
            self.key(&section, "api_key", &string(REDACTED));
        }
        self.key(&section, "priority", &provider.priority.to_string());
        self.key(&section, "weight", &provider.weight.to_string());
        if let Some(strategy) = provider.strategy {
            self.key(&section, "strategy", &string(strategy.as_str()));
        }
        self.key(&section, "stream_window_secs", &seconds(provider.options.stream_window.time));
        self.key(&section, "stream_window_events", &provider.options.stream_window.events.to_string());
        self.key(&section, "hedge", &provider.options.hedges.to_string());
        self.key(&section, "continue_streams", &provider.options.continues.to_string());
        if let Some(prefills) = provider.options.prefills {
            self.key(&section, "prefill", &prefills.to_string());
        }
        if let Some(limits) = provider.queue {
            let all = Some(limits.concurrent).filter(|concurrent| *concurrent != usize::MAX);
            for (key, most) in [("max_concurrent", all), ("max_concurrent_per_model", limits.per_model)] {
                most.into_iter().for_each(|most| self.key(&section, key, &most.to_string()));
            }
            self.key(&section, "max_waiting", &limits.waiting.to_string());
        }
        for rate in provider.limits.rates() {
            let key = match rate.measure {
                Measure::Requests => "rate_limit_rpm",
                Measure::Tokens => "rate_limit_tpm",
            };
            self.key(&section, key, &rate.amount.to_string());
        }
        self.key(&section, "models", &list(&provider.models));
        self.key(&section, "enabled", &provider.enabled.to_string());
        if let Some(limit) = provider.max_tokens_limit {
            self.key(&section, "max_tokens_limit", &limit.to_string());
        }
        self.context(&section, &provider.context);
        if let Some(lossy) = provider.lossy {
            self.key(&section, "lossy", &string(lossy.as_str()));
        }
        if let Some(time) = provider.cache_ttl {
            self.key(&section, "cache_ttl_secs", &seconds(time));
        }
        self.key(&section, "connect_timeout_secs", &seconds(settings.timeouts.connect));
        self.key(&section, "first_byte_timeout_secs", &seconds(settings.timeouts.first_byte));
        self.key(&section, "idle_timeout_secs", &seconds(settings.timeouts.idle));
        self.key(&section, "total_timeout_secs", &seconds(settings.timeouts.total));
    }

    /// What is said of prompts that are too long.
    fn context(&mut self, section: &str, rule: &ContextRule) {
        if let Some(window) = rule.window {
            self.key(section, "context_window_tokens", &window.to_string());
        }
        if let Some(policy) = rule.policy {
            self.key(section, "context", &string(policy.as_str()));
        }
        if let Some(turns) = rule.keep_last {
            self.key(section, "keep_last", &turns.to_string());
        }
        if let Some(model) = &rule.summarise_with {
            self.key(section, "summarise_with", &string(model));
        }
        if let Some(compress) = &rule.compress {
            let names: Vec<String> = compress.iter().map(|way| way.as_str().to_owned()).collect();
            self.key(section, "compress", &list(&names));
        }
    }

    /// One key, with where it was said unless it is the default.
    fn key(&mut self, section: &str, key: &str, value: &str) {
        let path = join(section, key);
        let place = self.config.origins.get(&path).cloned();
        self.settings.insert(path, value.to_owned());
        self.line(&format!("{} = {value}", join("", key)), place);
    }

    fn line(&mut self, line: &str, place: Option<Place>) {
        self.text.push_str(line);
        if let Some(place) = place.filter(|place| *place != Place::Default) {
            // Writing to a `String` cannot fail.
            let _ = write!(self.text, "  # {place}");
        }
        self.text.push('\n');
    }
}

fn string(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn list(texts: &[String]) -> String {
    let texts: Vec<String> = texts.iter().map(|text| string(text)).collect();
    format!("[{}]", texts.join(", "))
}

fn seconds(time: Duration) -> String {
    time.as_secs_f64().to_string()
}

/// A window in the words of the configuration.
pub(crate) fn window(window: Window) -> String {
    match window {
        Window::Rolling(length) => format!("rolling {}", length.as_secs()),
        window => window.as_str().to_owned(),
    }
}
