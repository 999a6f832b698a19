//! The audit log over HTTP, for who runs the gateway. It is read here; `hoosh audit verify` verifies it.

use hoosh_audit::{AppendError, Filter, page};
use hoosh_core::limits::AUDIT_PAGE_RECORDS_MAX;
use hoosh_core::{HooshError, InvalidRequest};
use http::{Response, StatusCode};
use serde_json::value::RawValue;
use serde_json::{Value, json as value};
use tokio::task::spawn_blocking;

use super::json;
use super::models::percent_decoded;
use crate::app::App;
use crate::audit::OpenLog;
use crate::http::auth::Caller;
use crate::http::body::ResponseBody;
use crate::http::error::ServerError;
use crate::usage::time;

/// Records of a page where nobody says how many: 100, some 60 KiB.
const LISTED: usize = 100;

/// `GET /v1/audit`: records, the newest first, as they stand in the log; `?before=` the `next` of a page for those that follow.
pub(crate) async fn records(app: &App, query: Option<&str>) -> Result<Response<ResponseBody>, ServerError> {
    let folder = open(app)?.folder().to_owned();
    let (filter, before, limit) = read(query.unwrap_or_default())?;
    let found = spawn_blocking(move || page(&folder, &filter, before, limit)).await;
    // A panic of the reader is told as any other.
    let found = found.map_err(|_| ServerError::Panicked)?.map_err(|error| {
        tracing::error!(target: "hoosh::audit", %error, "the audit log cannot be read");
        ServerError::Call(HooshError::Unrecorded(error.to_string()))
    })?;
    let records: Vec<Box<RawValue>> =
        found.records.into_iter().filter_map(|record| RawValue::from_string(record.line).ok()).collect();
    #[derive(serde::Serialize)]
    struct Page {
        records: Vec<Box<RawValue>>,
        next: Option<u64>,
    }
    Ok(json(StatusCode::OK, &Page { records, next: found.next }))
}

/// `GET /v1/audit/head`: how far the log has come, the latest checkpoint, and how it is.
pub(crate) fn head(app: &App) -> Result<Response<ResponseBody>, ServerError> {
    let log = &open(app)?.log;
    let (head, status) = (log.head(), log.status());
    let digits = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let checkpoint: Option<Value> =
        head.checkpoint.and_then(|checkpoint| serde_json::from_str(&checkpoint.to_string()).ok());
    let failing = status.failing.map(|(_, since)| value!({ "since": since.to_string() }));
    Ok(json(
        StatusCode::OK,
        &value!({
            "log": head.log,
            "seq": head.seq,
            "head": digits(&head.link),
            "key": head.key.as_str(),
            "checkpoint": checkpoint,
            "waiting": status.waiting,
            "lost": status.lost,
            "failing": failing,
        }),
    ))
}

/// `DELETE /v1/audit/{id}`: erases what is kept beside the log of a call.
pub(crate) async fn erase(
    app: &App,
    caller: &Caller,
    id: &str,
) -> Result<Response<ResponseBody>, ServerError> {
    let id = percent_decoded(id);
    let erased = open(app)?.log.erase(&id, caller.id.as_str()).await.map_err(|error| match error {
        AppendError::Failing(problem) => {
            tracing::error!(target: "hoosh::audit", %problem, "what is kept of a call cannot be erased");
            ServerError::Call(HooshError::Unrecorded(problem))
        }
        error => ServerError::Call(HooshError::Unrecorded(error.to_string())),
    })?;
    if erased.is_empty() {
        return Err(ServerError::NothingKept { id });
    }
    Ok(json(StatusCode::OK, &value!({ "request_id": id, "records": erased })))
}

fn open(app: &App) -> Result<&OpenLog, ServerError> {
    app.audit.as_ref().ok_or(ServerError::NoAudit)
}

/// Which records are asked for.
fn read(query: &str) -> Result<(Filter, Option<u64>, usize), ServerError> {
    let (mut filter, mut before, mut limit) = (Filter::default(), None, LISTED);
    let mut one = |name: &str, text: String| -> Result<(), String> {
        let number = |most: u64| {
            let number = text.parse().ok().filter(|number| (1..=most).contains(number));
            number.ok_or_else(|| format!("is to be a whole number from 1 to {most}"))
        };
        match name {
            "before" => before = Some(number(hoosh_audit::NUMBER_MAX)?),
            "limit" => limit = number(AUDIT_PAGE_RECORDS_MAX as u64)? as usize,
            "from" => filter.from = Some(time(&text)?),
            "to" => filter.until = Some(time(&text)?),
            "caller" => filter.caller = Some(text),
            "kind" => filter.kind = Some(text),
            "model" => filter.model = Some(text),
            "outcome" => filter.outcome = Some(text),
            "provider" => filter.provider = Some(text),
            "request_id" => filter.request_id = Some(text),
            // Google's clients have their key here.
            "key" => {}
            _ => {
                return Err("is not known here; `before`, `limit`, `from`, `to`, `caller`, `kind`, `model`, `outcome`, `provider` and \
                            `request_id` are"
                    .to_owned());
            }
        }
        Ok(())
    };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, text) = pair.split_once('=').unwrap_or((pair, ""));
        one(name, percent_decoded(text))
            .map_err(|problem| ServerError::Call(HooshError::from(InvalidRequest::new(name, problem))))?;
    }
    Ok((filter, before, limit))
}
