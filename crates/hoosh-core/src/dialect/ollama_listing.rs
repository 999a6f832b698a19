//! What the gateway answers itself of Ollama's API, and what its `pull` reports. Source: docs.ollama.com/api, read
//! 2026-11-24.
//!
//! Digests and sizes of models that lie elsewhere are unknown: the digest is made up from the name, the size is 0.

use serde::Deserialize;
use serde_json::{Value, json};

use super::ollama::time::rfc3339;
use crate::model::{Modality, ModelInfo};

/// The answer of `GET /api/tags`.
pub fn tags(models: &[ModelInfo]) -> Vec<u8> {
    let models: Vec<Value> = models
        .iter()
        .map(|model| {
            json!({
                "name": model.id, "model": model.id, "modified_at": rfc3339(model.created.unwrap_or(0)), "size": 0,
                "digest": digest(&model.id), "details": details(model),
            })
        })
        .collect();
    json!({ "models": models }).to_string().into_bytes()
}

/// The answer of `GET /api/ps`: models that are in memory until `expires` (Unix seconds).
pub fn ps(models: &[ModelInfo], expires: u64) -> Vec<u8> {
    let models: Vec<Value> = models
        .iter()
        .map(|model| {
            json!({
                "name": model.id, "model": model.id, "size": 0, "digest": digest(&model.id),
                "details": details(model), "expires_at": rfc3339(expires), "size_vram": 0,
            })
        })
        .collect();
    json!({ "models": models }).to_string().into_bytes()
}

/// The answer of `POST /api/show`.
pub fn show(model: &ModelInfo) -> Vec<u8> {
    let family = family(model);
    let mut info = json!({ "general.architecture": family });
    if let Some(window) = model.context_window {
        info[format!("{family}.context_length")] = window.into();
    }
    json!({
        "modelfile": "", "parameters": "", "template": "", "details": details(model), "model_info": info,
        "capabilities": capabilities(model), "modified_at": rfc3339(model.created.unwrap_or(0)),
    })
    .to_string()
    .into_bytes()
}

/// The answer of `GET /api/version`.
pub fn version(version: &str) -> Vec<u8> {
    json!({ "version": version }).to_string().into_bytes()
}

/// One line of what `POST /api/pull` reports.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PullProgress {
    /// What is being done; `success` at the end.
    pub status: Option<String>,
    /// The layer it is done with.
    pub digest: Option<String>,
    /// The layer's bytes.
    pub total: Option<u64>,
    /// How many of them are here.
    pub completed: Option<u64>,
    /// Why it failed; nothing follows.
    pub error: Option<String>,
}

impl PullProgress {
    /// Reads a line; `None` if it is none.
    pub fn from_line(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }
}

fn capabilities(model: &ModelInfo) -> Vec<&'static str> {
    if model.output.contains(Modality::Embedding) {
        return vec!["embedding"];
    }
    let known = [
        ("tools", model.tools == Some(true)),
        ("vision", model.input.contains(Modality::Image)),
        ("thinking", model.reasoning == Some(true)),
    ];
    let more = known.into_iter().filter_map(|(name, can)| can.then_some(name));
    std::iter::once("completion").chain(more).collect()
}

fn details(model: &ModelInfo) -> Value {
    let family = family(model);
    json!({
        "parent_model": "", "format": "", "family": family, "families": [family], "parameter_size": "",
        "quantization_level": "",
    })
}

/// The beginning of the name stands for the architecture, which we do not know.
fn family(model: &ModelInfo) -> &str {
    let name = model.id.rsplit('/').next().unwrap_or_default();
    name.split([':', '-']).next().unwrap_or_default()
}

/// A stable made-up digest: FNV-1a of the name four times, each from where the last ended.
fn digest(name: &str) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut round = || {
        hash = name
            .bytes()
            .fold(hash, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        format!("{hash:016x}")
    };
    (0..4).map(|_| round()).collect()
}
