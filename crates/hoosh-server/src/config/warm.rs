//! Requests that are asked beforehand: a file of JSON, one a line, read and checked with the configuration.
//!
//! A request is quoted nowhere: it is what somebody asks.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use hoosh_core::dialect::{Dialect, Operation, RequestLine};
use hoosh_core::limits;
use hoosh_gateway::{Call, CallerId, RequestId};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::fault::{Fault, Place, nearest};
use super::{Config, FileRead};
use crate::assembly;
use crate::http::auth::Keys;

/// A file of requests that are asked beforehand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warm {
    /// Its path as the configuration has it.
    pub said: String,
    /// What was in it; `None` as long as the cache is off, when nobody looks.
    pub file: Option<FileRead>,
    /// The requests, in their order.
    pub requests: Arc<[WarmRequest]>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WarmRequest {
    /// Its line in the file, from 1.
    pub line: usize,
    /// The dialect it is in.
    pub dialect: Dialect,
    /// The model, in the dialect that has it in the URL.
    pub model: Option<String>,
    /// For whom it is asked: each has answers of its own.
    pub callers: Vec<CallerId>,
    /// Its body.
    pub body: Bytes,
}

/// The fields of a line.
const FIELDS: [&str; 4] = ["dialect", "caller", "model", "body"];

/// What stands for every caller.
const EVERY: &str = "*";

// === impl Warm ===

impl Warm {
    /// A file of this path that nobody has read yet.
    pub(crate) fn unread(said: String) -> Self {
        Self { said, file: None, requests: Arc::from([]) }
    }
}

/// Reads the file that a configuration names, if its answers would be kept. What is wrong with it is told with its lines.
pub(crate) fn read(config: &mut Config, directory: &Path) -> Vec<Fault> {
    let Some(said) = config.cache.warm.as_ref().map(|warm| warm.said.clone()) else { return Vec::new() };
    let Some(settings) = assembly::cache_settings(config) else { return Vec::new() };
    let folder = config.file.as_ref().and_then(|file| file.path.parent()).unwrap_or(Path::new(""));
    let path = folder.join(&said);
    let content = match content(&directory.join(&path), limits::WARM_FILE_BYTES_MAX) {
        Ok(content) => content,
        Err(problem) => {
            let place = config.origins.get("cache.warm").cloned().unwrap_or(Place::Default);
            return vec![Fault::new(place, "cache.warm", format!("{} {problem}", path.display()))];
        }
    };
    let place = |line| Place::File { file: path.display().to_string(), line };
    let callers = Keys::new(&config.auth.tokens, &config.auth.admin_tokens, None).callers();
    let (mut requests, mut faults, mut calls) = (Vec::new(), Vec::new(), 0);
    let lines = content.split(|byte| *byte == b'\n').enumerate();
    for (at, line) in lines.filter(|(_, line)| !line.trim_ascii().is_empty()) {
        let read = request(line, at + 1, &callers).and_then(|request| {
            let call = request.call(&CallerId::new(EVERY)).map_err(|problem| (problem, None))?;
            if settings.can_keep(&call) {
                return Ok(request);
            }
            let why = "its answer would not be kept: only one answer with `temperature` 0 is (see \
                       `cache.any_temperature`), without tools (see `cache.tool_calls`), that goes on from nothing kept";
            Err((why.to_owned(), None))
        });
        // One with a fault counts too, so that there is an end to them.
        calls += read.as_ref().map_or(1, |request| request.callers.len());
        let read = read.and_then(|request| match calls {
            0..=limits::WARM_CALLS_MAX => Ok(request),
            _ => Err((
                format!("is one of more than {} calls, counted for each caller", limits::WARM_CALLS_MAX),
                None,
            )),
        });
        match read {
            Ok(request) => requests.push(request),
            Err((problem, meant)) => {
                faults.push(Fault::new(place(Some(at + 1)), "", problem).meaning(meant));
            }
        }
        if calls > limits::WARM_CALLS_MAX {
            break;
        }
    }
    let file = Some(FileRead::new(path.clone(), &content));
    config.cache.warm = Some(Warm { said, file, requests: requests.into() });
    faults
}

/// What is in a file that a configuration names, or what is wrong with it.
pub(super) fn content(path: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("cannot be read: {error}");
    if path.metadata().is_ok_and(|of| !of.is_file()) {
        return Err("is no file".to_owned());
    }
    let mut content = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(bytes_max + 1).read_to_end(&mut content).map_err(failed)?;
    if content.len() as u64 > bytes_max {
        return Err(format!("is larger than the {} MiB that it may be", bytes_max >> 20));
    }
    Ok(content)
}

/// One line; an error says what is wrong with it, and what was probably meant.
fn request(
    line: &[u8],
    number: usize,
    callers: &[CallerId],
) -> Result<WarmRequest, (String, Option<&'static str>)> {
    let says = |problem: String| (problem, None);
    let form = "expected a JSON object such as {\"dialect\": \"openai_chat\", \"body\": {...}} on one line";
    let mut fields: BTreeMap<String, Box<RawValue>> =
        serde_json::from_slice(line).map_err(|_| says(form.to_owned()))?;
    let dialect = match text(&mut fields, "dialect").map_err(says)? {
        None => Dialect::OpenAiChat,
        Some(name) => {
            let is_kept = |dialect: &Dialect| {
                matches!(dialect.operation(), Operation::Inference | Operation::Embedding)
            };
            let mut known = Dialect::ALL.iter().copied().filter(is_kept);
            let found = known.clone().find(|dialect| dialect.as_str() == name);
            found.ok_or_else(|| {
                let names: Vec<_> = known.clone().map(|dialect| format!("`{dialect}`")).collect();
                let near = nearest(&name, known.by_ref().map(Dialect::as_str));
                (format!("`dialect`: expected one of {}", names.join(", ")), near)
            })?
        }
    };
    let caller = text(&mut fields, "caller").map_err(says)?;
    let callers = for_whom(caller.as_deref(), callers).map_err(says)?;
    let model = text(&mut fields, "model").map_err(says)?;
    let body = fields.remove("body").ok_or_else(|| says("`body`: is missing".to_owned()))?;
    if let Some(unknown) = fields.keys().next() {
        return Err(("there is a field that is not known here".to_owned(), nearest(unknown, FIELDS)));
    }
    Ok(WarmRequest { line: number, dialect, model, callers, body: Bytes::from(body.get().to_owned()) })
}

fn text(fields: &mut BTreeMap<String, Box<RawValue>>, name: &str) -> Result<Option<String>, String> {
    fn of<T: DeserializeOwned>(raw: &RawValue) -> Option<T> {
        serde_json::from_str(raw.get()).ok()
    }
    let Some(raw) = fields.remove(name) else { return Ok(None) };
    of(&raw).map(Some).ok_or_else(|| format!("`{name}`: expected a string"))
}

/// The callers that are meant by a name.
fn for_whom(name: Option<&str>, callers: &[CallerId]) -> Result<Vec<CallerId>, String> {
    match (name, callers) {
        (Some(EVERY), _) => Ok(callers.to_vec()),
        (None, [only]) => Ok(vec![only.clone()]),
        (Some(name), _) if callers.iter().any(|caller| caller.as_str() == name) => {
            Ok(vec![CallerId::new(name)])
        }
        _ => {
            let names: Vec<String> = callers.iter().map(|caller| format!("`{caller}`")).collect();
            let names = names.join(", ");
            Err(format!(
                "`caller`: each has answers of its own; expected `{EVERY}` for all, or one of {names}"
            ))
        }
    }
}

// === impl WarmRequest ===

impl WarmRequest {
    /// The request as a call of that caller; an error says what is wrong with it.
    pub(crate) fn call(&self, caller: &CallerId) -> Result<Call, String> {
        let line = RequestLine { model: self.model.clone(), ..RequestLine::default() };
        let body = self.body.clone();
        Call::read_with(RequestId::new(), caller.clone(), self.dialect, line, body)
            .map_err(|error| error.to_string())
    }
}
