//! Which providers there are if none is configured: model servers on this machine, and vendors whose key is at hand.
//!
//! A server is taken for what usually listens on its port, or for what its own listing says, and only if it lists its
//! models like one. Nothing beyond the loopback address is contacted to find them: that a vendor's key works is for the first
//! call to find out.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use hoosh_core::{FailureKind, LlmProvider, ModelInfo, limits};
use hoosh_providers::{HttpProvider, PRESETS, Preset, ProviderSettings, Timeouts, preset};
use hoosh_router::RouteOptions;
use secrecy::SecretString;

use crate::config::{Config, Environment, Place, Provider, default_models};

/// What was looked for and what was there.
#[derive(Debug, Default)]
pub(crate) struct Discovery {
    /// Those that can be asked, the local ones first.
    pub(crate) found: Vec<Found>,
    /// Local servers that cannot.
    pub(crate) absent: Vec<Absent>,
    /// Vendors whose variable is not set.
    pub(crate) keyless: Vec<&'static Preset>,
}

/// A provider that was found.
#[derive(Debug)]
pub(crate) struct Found {
    /// What it is called and asked for.
    pub(crate) provider: Provider,
    /// What gave it away: its address or its key's variable.
    pub(crate) place: Place,
}

/// A local server that cannot be asked.
#[derive(Debug)]
pub(crate) struct Absent {
    /// Where it would be.
    pub(crate) url: String,
    /// What usually listens there.
    pub(crate) presets: Vec<&'static Preset>,
    /// Why it cannot be asked; `None` if nothing listens there.
    pub(crate) problem: Option<String>,
}

/// An address to look at, and what usually listens there.
#[derive(Debug, Clone)]
struct Spot {
    url: String,
    presets: Vec<&'static Preset>,
}

/// Priority of what runs on this machine: before the vendors, which cost money.
const LOCAL_PRIORITY: u32 = 10;

/// Priority of vendors.
const REMOTE_PRIORITY: u32 = 100;

/// Looks for providers. `own_port` is the gateway's, which would only find itself there.
pub(crate) async fn discover(env: &Environment, own_port: u16) -> Discovery {
    look(env, spots().into_iter().filter(|spot| spot.port() != Some(own_port)).collect()).await
}

async fn look(env: &Environment, spots: Vec<Spot>) -> Discovery {
    let mut discovery = Discovery::default();
    for looked in join_all(spots.into_iter().map(|spot| probe(env, spot))).await {
        match looked {
            Ok(found) => discovery.found.push(found),
            Err(absent) => discovery.absent.push(absent),
        }
    }
    discovery.name_apart();
    for preset in PRESETS.iter().filter(|preset| !preset.local && !preset.key_env.is_empty()) {
        match env.first_filled(preset.key_env) {
            Some((variable, key)) => discovery.found.push(vendor(preset, variable, key)),
            None => discovery.keyless.push(preset),
        }
    }
    discovery
}

/// The addresses of the local presets, each once.
fn spots() -> Vec<Spot> {
    let mut spots: Vec<Spot> = Vec::new();
    for preset in PRESETS.iter().filter(|preset| preset.local && !preset.host.is_empty()) {
        match spots.iter_mut().find(|spot| spot.url == preset.host) {
            Some(spot) => spot.presets.push(preset),
            None => spots.push(Spot { url: preset.host.to_owned(), presets: vec![preset] }),
        }
    }
    spots
}

async fn probe(env: &Environment, spot: Spot) -> Result<Found, Absent> {
    let Spot { url, presets } = spot;
    let absent = |problem| Absent { url: url.clone(), presets: presets.clone(), problem };
    let variables: Vec<&str> = presets.iter().flat_map(|preset| preset.key_env.iter().copied()).collect();
    let usual = presets.first().ok_or_else(|| absent(None))?;
    let mut settings = ProviderSettings {
        base_url: Some(url.clone()),
        api_key: env.first_filled(&variables).map(|(_, key)| SecretString::from(key.trim())),
        timeouts: Timeouts {
            connect: limits::DISCOVERY_TIME_MAX,
            total: limits::DISCOVERY_TIME_MAX,
            ..Timeouts::default()
        },
        ..ProviderSettings::new(usual.kind)
    };
    let asked = HttpProvider::new(settings.clone()).map_err(|error| absent(Some(error.to_string())))?;
    let listed = asked.list_models().await.map_err(|failure| match failure.kind {
        FailureKind::Connect => absent(None),
        _ => absent(Some(failure.message)),
    })?;
    let models = patterns(&listed);
    if models.is_empty() {
        return Err(absent(Some("it has no models yet".to_owned())));
    }
    let kind = listed.iter().find_map(owner).unwrap_or(usual).kind;
    settings =
        ProviderSettings { kind, name: Some(kind.to_string()), timeouts: Timeouts::default(), ..settings };
    let provider = Provider {
        settings,
        priority: LOCAL_PRIORITY,
        models,
        enabled: true,
        max_tokens_limit: None,
        lossy: None,
        cache_ttl: None,
        weight: 1,
        strategy: None,
        options: RouteOptions::default(),
        queue: None,
        limits: hoosh_budget::rate::Limits::NONE,
        context: hoosh_core::ContextRule::default(),
    };
    Ok(Found { provider, place: Place::Found(url) })
}

/// The kind of server that a listing says it comes from: llama.cpp and vLLM name themselves as the models' owner.
fn owner(model: &ModelInfo) -> Option<&'static Preset> {
    let kind = model.owned_by.as_deref()?.parse().ok()?;
    Some(preset(kind)).filter(|preset| preset.local)
}

/// Routes for listed models: their names as they are. What no pattern can spell is left out.
fn patterns(listed: &[ModelInfo]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut patterns = Vec::new();
    for model in listed {
        // Ollama takes `llama3` for `llama3:latest`, and lists only the latter.
        for name in [Some(model.id.as_str()), model.id.strip_suffix(":latest")].into_iter().flatten() {
            let spelled = !name.is_empty()
                && name.len() <= limits::MODEL_NAME_BYTES_MAX
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-:/@+".contains(&byte));
            if spelled && seen.insert(name) {
                patterns.push(name.to_owned());
            }
        }
    }
    patterns
}

fn vendor(preset: &'static Preset, variable: &str, key: &str) -> Found {
    let settings = ProviderSettings {
        name: Some(preset.kind.to_string()),
        api_key: Some(SecretString::from(key.trim())),
        ..ProviderSettings::new(preset.kind)
    };
    let models = default_models(preset);
    let provider = Provider {
        settings,
        priority: REMOTE_PRIORITY,
        models,
        enabled: true,
        max_tokens_limit: None,
        lossy: None,
        cache_ttl: None,
        weight: 1,
        strategy: None,
        options: RouteOptions::default(),
        queue: None,
        limits: hoosh_budget::rate::Limits::NONE,
        context: hoosh_core::ContextRule::default(),
    };
    Found { provider, place: Place::Variable(variable.to_owned()) }
}

// === impl Spot ===

impl Spot {
    fn port(&self) -> Option<u16> {
        self.url.rsplit_once(':')?.1.parse().ok()
    }
}

// === impl Discovery ===

impl Discovery {
    /// Adds what was found to a configuration without providers.
    pub(crate) fn add_to(&self, config: &mut Config) {
        for Found { provider, place } in &self.found {
            config.origins.insert(format!("providers.{}", provider.name()), place.clone());
            config.providers.push(provider.clone());
        }
    }

    /// Two servers can be of one kind when one of them listens where another kind does.
    fn name_apart(&mut self) {
        let mut taken = BTreeSet::new();
        for Found { provider, .. } in &mut self.found {
            let name = provider.name().to_owned();
            let numbered = (2..).map(|number| format!("{name}-{number}"));
            let free = std::iter::once(name.clone()).chain(numbered).find(|name| !taken.contains(name));
            taken.extend(free.clone());
            provider.settings.name = free;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use hoosh_core::ProviderType;

    use super::*;

    /// A server that gives the same answer to everybody, on a port of its own.
    fn server(answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let mut connection = connection.unwrap();
                let _ = connection.read(&mut [0; 4096]);
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", answer.len());
                let _ = connection.write_all(format!("{head}{answer}").as_bytes());
            }
        });
        url
    }

    fn spot(url: &str, kinds: &[ProviderType]) -> Spot {
        Spot { url: url.to_owned(), presets: kinds.iter().map(|kind| preset(*kind)).collect() }
    }

    #[test]
    fn every_usual_port_is_looked_at_once() {
        let ports: Vec<u16> = spots().iter().filter_map(Spot::port).collect();
        for port in [11434, 8080, 1234, 8000, 5000] {
            assert_eq!(ports.iter().filter(|found| **found == port).count(), 1, "{port}");
        }
        assert!(spots().iter().all(|spot| spot.url.starts_with("http://127.0.0.1:")));
    }

    #[tokio::test]
    async fn a_server_is_routed_by_the_models_it_lists() {
        let ollama = server(
            r#"{"object":"list","data":[{"id":"llama3:latest","owned_by":"library"},{"id":"qwen3:4b"}]}"#,
        );
        let vllm = server(r#"{"object":"list","data":[{"id":"Qwen/Qwen3-4B","owned_by":"vllm"}]}"#);
        let env = Environment::from_iter([("GROQ_API_KEY", "gsk-1"), ("OPENAI_API_KEY", " ")]);
        let spots = vec![
            spot(&ollama, &[ProviderType::Ollama]),
            spot(&vllm, &[ProviderType::LlamaCpp, ProviderType::LocalAi]),
        ];
        let discovery = look(&env, spots).await;

        let found: Vec<_> = discovery.found.iter().map(|found| &found.provider).collect();
        let names: Vec<_> = found.iter().map(|provider| (provider.name(), provider.priority)).collect();
        assert_eq!(names, [("ollama", 10), ("vllm", 10), ("groq", 100)]);
        assert_eq!(found[0].models, ["llama3:latest", "llama3", "qwen3:4b"]);
        assert_eq!(found[0].settings.base_url.as_deref(), Some(ollama.as_str()));
        assert_eq!(found[0].settings.timeouts, Timeouts::default());
        assert_eq!(found[1].models, ["Qwen/Qwen3-4B"]);
        assert!(found[2].models.iter().any(|model| model.starts_with("llama-3")));
        assert_eq!(discovery.found[2].place, Place::Variable("GROQ_API_KEY".into()));
        assert!(discovery.keyless.iter().any(|preset| preset.kind == ProviderType::OpenAi));
    }

    #[tokio::test]
    async fn what_is_no_model_server_is_not_taken_for_one() {
        let closed = {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            format!("http://{}", listener.local_addr().unwrap())
        };
        let silent = TcpListener::bind("127.0.0.1:0").unwrap(); // takes connections and never answers
        let silent_url = format!("http://{}", silent.local_addr().unwrap());
        let page = server("<html>It works!</html>");
        let empty = server(r#"{"object":"list","data":[]}"#);
        let spots =
            [&closed, &silent_url, &page, &empty].map(|url| spot(url, &[ProviderType::Ollama])).to_vec();
        let discovery = look(&Environment::default(), spots).await;

        assert!(discovery.found.is_empty());
        let problems: Vec<_> = discovery.absent.iter().map(|absent| absent.problem.is_some()).collect();
        assert_eq!(problems, [false, true, true, true]);
        assert_eq!(discovery.absent[3].problem.as_deref(), Some("it has no models yet"));
    }

    #[tokio::test]
    async fn two_servers_of_one_kind_have_names_of_their_own() {
        let one = server(r#"{"data":[{"id":"a","owned_by":"llamacpp"}]}"#);
        let two = server(r#"{"data":[{"id":"b","owned_by":"llamacpp"}]}"#);
        let spots = vec![spot(&one, &[ProviderType::LlamaCpp]), spot(&two, &[ProviderType::Vllm])];
        let discovery = look(&Environment::default(), spots).await;
        let mut config = Config::default();
        discovery.add_to(&mut config);
        let names: Vec<_> = config.providers.iter().map(Provider::name).collect();
        assert_eq!(names, ["llamacpp", "llamacpp-2"]);
        crate::config::settle_routes(&mut config).unwrap();
    }
}
