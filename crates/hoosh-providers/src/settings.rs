//! What a configuration says about one provider, and what is wrong with it.

use std::time::Duration;

use hoosh_core::{ProviderType, limits};
use http::Uri;
use secrecy::{ExposeSecret, SecretString};

use crate::place;
use crate::preset::preset;

/// What is configured of one provider; what is left out comes from its preset.
#[derive(Debug, Clone)]
pub struct ProviderSettings {
    /// Which kind it is.
    pub kind: ProviderType,
    /// Its name in logs, headers and `name/model`. Default: the kind's name.
    pub name: Option<String>,
    /// Where it is: `http://host:port`, with the path of its API if that is not the usual one. Default: the preset's.
    pub base_url: Option<String>,
    /// The key it wants. Default: none.
    pub api_key: Option<SecretString>,
    /// How long to wait for it.
    pub timeouts: Timeouts,
    /// Whether it is on this machine or network, which decides whether it may see what must stay there. Default: if its kind
    /// is a model server that people run themselves, and its address is one of this machine or network.
    pub local: Option<bool>,
}

/// How long to wait for a provider. Each time is its own: a slow model is not an unreachable one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection, TLS included. Default: [`limits::CONNECT_TIME_MAX`].
    pub connect: Duration,
    /// From a streamed request to the head of its answer. Default: [`limits::FIRST_BYTE_TIME_MAX`].
    ///
    /// A call that is not streamed shows no byte before its whole answer is generated: `total` bounds that.
    pub first_byte: Duration,
    /// For the next bytes of a streamed answer. Default: [`limits::IDLE_TIME_MAX`].
    pub idle: Duration,
    /// For the whole attempt, its stream included. Default: [`limits::TOTAL_TIME_MAX`].
    pub total: Duration,
}

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct SettingsError {
    /// The setting: `base_url`, `api_key`, `name`.
    pub field: &'static str,
    /// What is wrong with it; never the value of a secret.
    pub problem: String,
}

// === impl ProviderSettings ===

impl ProviderSettings {
    /// A provider of this kind with everything as its preset has it.
    pub fn new(kind: ProviderType) -> Self {
        Self { kind, name: None, base_url: None, api_key: None, timeouts: Timeouts::default(), local: None }
    }

    /// Whether these lead to the same server with the same key, so that what is known of one holds for the other.
    pub fn is_same_account(&self, other: &Self) -> bool {
        self.is_same_server(other) && self.key() == other.key()
    }

    /// Whether these lead to the same server.
    pub fn is_same_server(&self, other: &Self) -> bool {
        self.kind == other.kind && self.resolve_base_url() == other.resolve_base_url()
    }

    /// Whether it is on this machine or network.
    pub fn is_local(&self) -> bool {
        let is_near = || {
            let url = self.resolve_base_url().ok().and_then(|url| url.parse::<Uri>().ok());
            url.as_ref().and_then(Uri::host).is_some_and(place::is_near)
        };
        self.local.unwrap_or_else(|| preset(self.kind).local && is_near())
    }

    /// The key without the space around it, which files and variables often have; `None` if there is none.
    pub(crate) fn key(&self) -> Option<&str> {
        self.api_key.as_ref().map(|key| key.expose_secret().trim()).filter(|key| !key.is_empty())
    }

    /// The URL that the paths of Ollama's own API are added to: the base URL without the path of the OpenAI one.
    ///
    /// # Errors
    ///
    /// As [`resolve_base_url`](Self::resolve_base_url).
    pub fn resolve_root_url(&self) -> Result<String, SettingsError> {
        let base = self.resolve_base_url()?;
        Ok(base.strip_suffix(preset(self.kind).api_path).unwrap_or(&base).to_owned())
    }

    /// The URL that the dialects' paths are added to, without a slash at its end.
    ///
    /// # Errors
    ///
    /// If it is no http(s) URL with a host, holds credentials or a query, or is missing and the kind has no default.
    pub fn resolve_base_url(&self) -> Result<String, SettingsError> {
        let wrong = |problem: String| SettingsError { field: "base_url", problem };
        let preset = preset(self.kind);
        let text = match self.base_url.as_deref().map(str::trim) {
            Some(text) if !text.is_empty() => text,
            _ if preset.host.is_empty() => return Err(wrong(format!("is needed for type `{}`", self.kind))),
            _ => preset.host,
        };
        let uri: Uri =
            text.parse().map_err(|_| wrong("is not a URL; write it as http://host:port".to_owned()))?;
        match uri.scheme_str() {
            Some("http" | "https") => {}
            Some(other) => {
                return Err(wrong(format!("has the scheme `{other}`; only http and https are spoken")));
            }
            None => return Err(wrong("has no scheme; write it as http://host:port".to_owned())),
        }
        if uri.host().is_none_or(str::is_empty) {
            return Err(wrong("names no host".to_owned()));
        }
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(wrong("holds credentials; use `api_key` for them".to_owned()));
        }
        if uri.query().is_some() {
            return Err(wrong("holds a query, which cannot be kept".to_owned()));
        }
        let path = uri.path().trim_end_matches('/');
        // The address of the endpoint itself, as vendors' examples show it.
        let path = path.strip_suffix("/chat/completions").unwrap_or(path);
        // Until 2.0 Google was asked by its OpenAI-compatible address, below its own.
        let path = match self.kind {
            ProviderType::Google => path.strip_suffix("/openai").unwrap_or(path),
            _ => path,
        };
        // The API's path without its version is how hoosh 1.3 wrote it (`https://api.groq.com/openai`).
        let unversioned = preset.api_path.strip_suffix("/v1");
        let path = if path.is_empty() || unversioned == Some(path) { preset.api_path } else { path };
        let (scheme, authority) =
            (uri.scheme_str().unwrap_or_default(), uri.authority().map_or("", |a| a.as_str()));
        Ok(format!("{scheme}://{authority}{path}"))
    }
}

/// Settings are equal if providers made from them would do the same in all.
impl PartialEq for ProviderSettings {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
            && self.timeouts == other.timeouts
            && self.local == other.local
            && self.is_same_account(other)
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: limits::CONNECT_TIME_MAX,
            first_byte: limits::FIRST_BYTE_TIME_MAX,
            idle: limits::IDLE_TIME_MAX,
            total: limits::TOTAL_TIME_MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(kind: ProviderType, url: Option<&str>, expected: Result<&str, &str>) {
        let settings = ProviderSettings { base_url: url.map(str::to_owned), ..ProviderSettings::new(kind) };
        let resolved = settings.resolve_base_url().map_err(|error| error.to_string());
        assert_eq!(resolved.as_deref().map_err(String::as_str), expected);
    }

    #[test]
    fn urls_without_a_path_get_the_apis() {
        check(ProviderType::Ollama, None, Ok("http://127.0.0.1:11434/v1"));
        check(ProviderType::Ollama, Some("http://box:1"), Ok("http://box:1/v1"));
        check(ProviderType::Groq, Some("https://api.groq.com/"), Ok("https://api.groq.com/openai/v1"));
        check(ProviderType::Groq, Some("https://api.groq.com/openai"), Ok("https://api.groq.com/openai/v1"));
        check(
            ProviderType::OpenRouter,
            Some("https://openrouter.ai/api"),
            Ok("https://openrouter.ai/api/v1"),
        );
        check(ProviderType::OpenAi, Some("http://x/v1/chat/completions"), Ok("http://x/v1"));
        check(ProviderType::Google, Some("https://g/v1beta/openai"), Ok("https://g/v1beta"));
        check(ProviderType::Perplexity, None, Ok("https://api.perplexity.ai"));
        check(ProviderType::OpenAiCompatible, Some("http://[::1]:9/api/v2/"), Ok("http://[::1]:9/api/v2"));
    }

    #[test]
    fn the_root_is_above_the_openai_api() {
        for (url, root) in [
            ("http://box:1", "http://box:1"),
            ("http://box:1/v1/", "http://box:1"),
            ("http://x/ollama", "http://x/ollama"),
        ] {
            let settings = ProviderSettings {
                base_url: Some(url.into()),
                ..ProviderSettings::new(ProviderType::Ollama)
            };
            assert_eq!(settings.resolve_root_url().as_deref(), Ok(root));
        }
    }

    #[test]
    fn wrong_urls_say_why() {
        let kind = ProviderType::OpenAiCompatible;
        check(kind, None, Err("base_url: is needed for type `openai_compatible`"));
        check(kind, Some("localhost:8080"), Err("base_url: has no scheme; write it as http://host:port"));
        check(kind, Some("ftp://x"), Err("base_url: has the scheme `ftp`; only http and https are spoken"));
        check(kind, Some("http://a b"), Err("base_url: is not a URL; write it as http://host:port"));
        check(kind, Some("http://u:p@x"), Err("base_url: holds credentials; use `api_key` for them"));
        check(kind, Some("http://x/v1?k=1"), Err("base_url: holds a query, which cannot be kept"));
    }
}
