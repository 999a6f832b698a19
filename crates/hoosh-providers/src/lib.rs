//! Who can be asked, and how.
//!
//! A vendor or model server that speaks a known dialect is one row of the preset table ([`PRESETS`]); [`HttpProvider`]
//! is the one implementation of [`LlmProvider`](hoosh_core::LlmProvider) for all of them; [`ProviderRegistry`] holds
//! those that a configuration names. What this crate does not do: choose between them, retry, or read a configuration.
//!
//! ```
//! use hoosh_core::{LlmProvider, ProviderType};
//! use hoosh_providers::{HttpProvider, ProviderSettings};
//!
//! # fn main() -> Result<(), hoosh_providers::SettingsError> {
//! let provider = HttpProvider::new(ProviderSettings {
//!     base_url: Some("http://127.0.0.1:8080".into()),
//!     ..ProviderSettings::new(ProviderType::LlamaCpp)
//! })?;
//! assert_eq!(provider.name(), "llamacpp");
//! assert_eq!(provider.base_url(), "http://127.0.0.1:8080/v1");
//! # Ok(())
//! # }
//! ```

mod events;
mod http_provider;
mod identity;
mod listing;
mod ollama;
mod place;
mod preset;
mod registry;
mod settings;
mod transport;
mod web;

pub use hoosh_core::dialect::ollama_listing::PullProgress;
pub use http_provider::HttpProvider;
pub use listing::ListingForm;
pub use ollama::{OllamaAdmin, PullStream};
pub use preset::{Auth, PRESETS, Preset, preset};
pub use registry::ProviderRegistry;
pub use settings::{ProviderSettings, SettingsError, Timeouts};
pub use web::{WebClient, WebError};
