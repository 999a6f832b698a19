//! `hoosh models pull` and `rm`: what an Ollama that hoosh knows of has on its disk.

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use clap::Args;
use futures_util::StreamExt;
use hoosh_core::{FailureKind, LlmProvider, ProviderType, UpstreamFailure, limits};
use hoosh_providers::{HttpProvider, OllamaAdmin, ProviderSettings, PullStream};

use super::super::Failure;
use super::super::terminal::{note, say};
use super::progress::Progress;
use crate::config::{Config, Environment, LoadOptions, Provider, load, nearest};

#[derive(Debug, Args)]
pub(super) struct ModelArgs {
    /// Name of the model as Ollama has it, such as `llama3.2:1b`; without a tag `:latest` is meant
    #[arg(value_name = "NAME")]
    model: String,

    /// Name of the provider, if there are several of type ollama
    #[arg(short, long, value_name = "NAME")]
    provider: Option<String>,

    /// Configuration file; HOOSH_CONFIG, ./hoosh.toml or the user's own if not given
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// An Ollama, and what was read of it.
struct Target {
    admin: OllamaAdmin,
    settings: ProviderSettings,
    /// Whether it is there without being configured.
    is_default: bool,
}

/// Exit code of a program that Ctrl-C ended, as shells have it: 128 and the signal's number.
const INTERRUPTED: u8 = 130;

/// Exits with 64 if it is not clear who is meant, with 1 if it fails and with 130 if Ctrl-C stops it.
pub(super) async fn pull(args: ModelArgs, env: &Environment) -> Result<(), Failure> {
    check_name(&args.model)?;
    let target = Target::of(&args, env)?;
    let mut progress = Progress::new(io::stderr().is_terminal());
    let pulled = tokio::select! {
        pulled = follow(&target, &args.model, &mut progress) => pulled,
        // To stop listening to it is to stop it.
        _ = tokio::signal::ctrl_c() => {
            note(&progress.clear());
            note("stopped; what is there already is kept, and the same command goes on from there\n");
            return Err(Failure::Told(INTERRUPTED));
        }
    };
    note(&progress.clear());
    pulled.map_err(|failure| target.failure(explained(failure)))?;
    done(&args.model, "is there")?;
    if target.is_default {
        note("a gateway without a configuration looks for models when it starts: restart one that runs\n");
    }
    Ok(())
}

/// Exits with 64 if it is not clear who is meant, and with 1 if it fails.
pub(super) async fn remove(args: ModelArgs, env: &Environment) -> Result<(), Failure> {
    check_name(&args.model)?;
    let target = Target::of(&args, env)?;
    match target.admin.delete(&args.model).await {
        Ok(()) => done(&args.model, "is deleted"),
        Err(failure) if failure.kind == FailureKind::NotFound => {
            let meant = target.near(&args.model).await;
            Err(target.failure(match meant {
                Some(name) => {
                    let message = format!("{}; did you mean `{name}`?", failure.message);
                    UpstreamFailure { message, ..failure }
                }
                None => failure,
            }))
        }
        Err(failure) => Err(target.failure(failure)),
    }
}

async fn follow(target: &Target, model: &str, progress: &mut Progress) -> Result<(), UpstreamFailure> {
    let mut reports: PullStream = target.admin.pull(model).await?;
    while let Some(report) = reports.next().await {
        note(&progress.take(&report?));
    }
    Ok(())
}

fn done(model: &str, what: &str) -> Result<(), Failure> {
    Ok(say(&format!("{model} {what}\n"))?)
}

/// Refuses what no Ollama could have, before anybody is asked.
fn check_name(name: &str) -> Result<(), Failure> {
    let problem = if name.is_empty() {
        "is empty".to_owned()
    } else if name.len() > limits::MODEL_NAME_BYTES_MAX {
        format!("is longer than {} bytes", limits::MODEL_NAME_BYTES_MAX)
    } else if !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        "has spaces or characters that no name has".to_owned()
    } else {
        return Ok(());
    };
    Err(Failure::Usage(format!("the model's name {problem}; write it as `llama3.2:1b`")))
}

/// The failure of a pull, with where names come from if that is what was wrong.
fn explained(failure: UpstreamFailure) -> UpstreamFailure {
    let is_name = matches!(failure.kind, FailureKind::NotFound | FailureKind::Invalid);
    match is_name {
        true => {
            let message = format!("{}; https://ollama.com/library has the names and tags", failure.message);
            UpstreamFailure { message, ..failure }
        }
        false => failure,
    }
}

// === impl Target ===

impl Target {
    fn of(args: &ModelArgs, env: &Environment) -> Result<Self, Failure> {
        let options = LoadOptions { file: args.config.clone(), env: env.clone(), ..LoadOptions::default() };
        let config = load(&options)?;
        let settings = chosen(&config, args.provider.as_deref())?;
        let admin = OllamaAdmin::new(&settings).map_err(|error| {
            let name = settings.name.as_deref().unwrap_or_default();
            Failure::Usage(format!("provider `{name}`: {error}"))
        })?;
        Ok(Self { admin, settings, is_default: config.discover })
    }

    fn failure(&self, failure: UpstreamFailure) -> Failure {
        Failure::Provider { url: self.admin.root_url().to_owned(), failure: Box::new(failure) }
    }

    /// The model it has that was probably meant.
    async fn near(&self, model: &str) -> Option<String> {
        let listed = HttpProvider::new(self.settings.clone()).ok()?.list_models().await.ok()?;
        nearest(model, listed.iter().map(|model| model.id.as_str())).map(str::to_owned)
    }
}

/// The Ollama that is meant: the one of that name, or the only one.
///
/// Without any provider configured it is the one at the usual address. One with no models yet is not found by looking for
/// models, and is just the one to pull to.
fn chosen(config: &Config, named: Option<&str>) -> Result<ProviderSettings, Failure> {
    if config.discover {
        let name = ProviderType::Ollama.as_str();
        return match named {
            Some(other) if other != name => Err(Failure::Usage(format!(
                "no provider is called `{other}`: none is configured, so that only `{name}` at its usual address is known"
            ))),
            _ => Ok(ProviderSettings {
                name: Some(name.to_owned()),
                ..ProviderSettings::new(ProviderType::Ollama)
            }),
        };
    }
    let is_ollama = |provider: &&Provider| provider.settings.kind == ProviderType::Ollama;
    let of_type: Vec<&Provider> = config.providers.iter().filter(is_ollama).collect();
    let wrong = |text: String| Err(Failure::Usage(text));
    if let Some(name) = named {
        return match config.providers.iter().find(|provider| provider.name() == name) {
            Some(provider) if is_ollama(&provider) => Ok(provider.settings.clone()),
            Some(provider) => wrong(format!(
                "provider `{name}` is of type {}; models are pulled to and removed from those of type ollama: {}",
                provider.settings.kind,
                names(&of_type)
            )),
            None => wrong(format!(
                "no provider is called `{name}` in {}; of type ollama: {}",
                config.sources.join(", "),
                names(&of_type)
            )),
        };
    }
    // One that is not in use is left alone unless it is named.
    let enabled: Vec<&Provider> = of_type.iter().copied().filter(|provider| provider.enabled).collect();
    match (enabled.as_slice(), of_type.as_slice()) {
        ([only], _) => Ok(only.settings.clone()),
        ([], []) => wrong(format!(
            "no provider of type ollama is configured in {}; add `[[providers]]` with `type = \"ollama\"`",
            config.sources.join(", ")
        )),
        ([], disabled) => wrong(format!(
            "no provider of type ollama is enabled; `--provider` takes one all the same: {}",
            names(disabled)
        )),
        (several, _) => wrong(format!(
            "several providers are of type ollama; `--provider` says which: {}",
            names(several)
        )),
    }
}

fn names(providers: &[&Provider]) -> String {
    let names: Vec<String> = providers.iter().map(|provider| format!("`{}`", provider.name())).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a configuration and compares who is chosen with the expected name, or the fault with the expected words.
    #[track_caller]
    fn check(config: &str, named: Option<&str>, expected: Result<&str, &str>) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hoosh.toml");
        std::fs::write(&file, config).unwrap();
        let config = load(&LoadOptions { file: Some(file), ..LoadOptions::default() }).unwrap();
        match (chosen(&config, named), expected) {
            (Ok(settings), Ok(name)) => assert_eq!(settings.name.as_deref(), Some(name)),
            (Err(failure), Err(words)) => {
                assert!(failure.to_string().contains(words), "`{words}` is missing in: {failure}");
                assert!(matches!(failure, Failure::Usage(_)));
            }
            (chosen, expected) => panic!("{chosen:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn the_ollama_that_is_meant() {
        let one = "[[providers]]\ntype = \"Ollama\"\nname = \"box\"\n";
        let off = "[[providers]]\ntype = \"Ollama\"\nname = \"off\"\nenabled = false\n";
        let two = "[[providers]]\ntype = \"Ollama\"\nname = \"attic\"\nbase_url = \"http://attic:11434\"\n";
        let other = "[[providers]]\ntype = \"llamacpp\"\n";

        check("", None, Ok("ollama"));
        check("", Some("ollama"), Ok("ollama"));
        check("", Some("box"), Err("no provider is called `box`: none is configured"));
        check(&[one, other].concat(), None, Ok("box"));
        check(&[one, off].concat(), None, Ok("box"));
        check(&[one, off].concat(), Some("off"), Ok("off"));
        check(&[one, two].concat(), Some("attic"), Ok("attic"));
        check(&[one, two].concat(), None, Err("`--provider` says which: `box`, `attic`"));
        check(&[one, other].concat(), Some("llamacpp"), Err("`llamacpp` is of type llamacpp; "));
        check(&[one, other].concat(), Some("bxo"), Err("of type ollama: `box`"));
        check(other, None, Err("no provider of type ollama is configured in "));
        check(other, Some("x"), Err("of type ollama: none"));
        check(off, None, Err("takes one all the same: `off`"));
    }

    #[test]
    fn names_that_no_model_has_are_refused() {
        for name in ["llama3", "llama3.2:1b", "hf.co/org/model-GGUF:Q4_K_M", "user/model_x"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", "a b", "a\nb", "läma", &"x".repeat(257)] {
            assert!(matches!(check_name(name), Err(Failure::Usage(_))), "{name}");
        }
    }
}
