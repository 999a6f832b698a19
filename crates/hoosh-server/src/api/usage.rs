//! What calls used, one by one and summed up.

use hoosh_budget::keys::Scope;
use hoosh_budget::{CallId, FileLedger, LedgerFault, Order, PoolId, UsageFilter, UsageLog, UsageRow};
use hoosh_core::limits::{BUDGET_RETRY_HINT, USAGE_PAGE_ROWS_MAX};
use hoosh_core::{HooshError, InvalidRequest, ModelInfo};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::json as value;

use super::json;
use super::models::percent_decoded;
use crate::app::App;
use crate::http::auth::{Caller, Denied};
use crate::http::body::ResponseBody;
use crate::http::error::ServerError;
use crate::recommend::recommend;
use crate::reprice::{self, RepriceOrder};
use crate::usage::{self, Costs, Period, PeriodAsked};

/// Rows of a page where nobody says how many: 100, some 60 KiB.
const LISTED: usize = 100;

/// `GET /v1/usage`: a row for each call that the caller may see, the newest first; `?after=` the `next` of a page for those behind it.
pub(crate) async fn rows(
    app: &App,
    caller: &Caller,
    query: Option<&str>,
) -> Result<Response<ResponseBody>, ServerError> {
    let (mut limit, mut after) = (LISTED, None);
    let others = "`after`, `limit`, ";
    let filter = read(query, caller, others, |name, text| {
        match name {
            "limit" => {
                let number = text.parse().ok().filter(|number| (1..=USAGE_PAGE_ROWS_MAX).contains(number));
                limit = number
                    .ok_or_else(|| format!("is to be a whole number from 1 to {USAGE_PAGE_ROWS_MAX}"))?;
            }
            "after" => {
                after = Some(place(text).ok_or("is to be the `next` of the page before, as it was told")?)
            }
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let rows = log(app)?.rows(&filter, Order::NewestFirst, after, limit).await.map_err(unread)?;
    let next = (rows.len() == limit).then(|| rows.last().map(name_of_place)).flatten();
    let rows: Vec<_> = rows.iter().map(usage::row).collect();
    Ok(json(StatusCode::OK, &value!({ "usage": rows, "next": next })))
}

/// `GET /v1/costs`: sums of tokens and money, of the calls that the caller may see.
pub(crate) async fn costs(
    app: &App,
    caller: &Caller,
    query: Option<&str>,
) -> Result<Response<ResponseBody>, ServerError> {
    let (mut by, mut asked) = (usage::grouping("provider"), None);
    let mut filter = read(query, caller, "`by`, `period`, ", |name, text| {
        if name == "period" {
            asked = Some(text.parse::<PeriodAsked>()?);
            return Ok(true);
        }
        if name == "by" {
            by = usage::grouping(text);
            return if by.is_some() {
                Ok(true)
            } else {
                Err(format!("is to be one of {}", usage::groupings()))
            };
        }
        Ok(false)
    })?;
    // It is one of them.
    let by = by.ok_or(ServerError::Panicked)?;
    let log = log(app)?;
    let marks = log.marks().await.map_err(unread)?;
    let period = Period::of(&marks, asked, &mut filter);
    let period = period.map_err(|problem| super::keys::invalid("period", problem))?;
    let costs = Costs::of(log, &filter, by, period).await.map_err(unread)?;
    Ok(json(StatusCode::OK, &costs.told()))
}

/// `GET /v1/costs/recommendations`: cheaper models for the calls that the caller may see, of those that it may ask for.
pub(crate) async fn recommendations(
    app: &App,
    caller: &Caller,
    query: Option<&str>,
) -> Result<Response<ResponseBody>, ServerError> {
    let filter = read(query, caller, "", |_, _| Ok(false))?;
    let (log, router) = (log(app)?, app.gateway.router());
    let models = app.gateway.models().await;
    let may_use = |model: &ModelInfo| {
        caller.may_ask_for(&model.id, router) && caller.may_be_answered_by(&model.provider)
    };
    let told = recommend(log, router, models, &filter, may_use).await.map_err(unread)?;
    Ok(json(StatusCode::OK, &told))
}

/// `POST /v1/costs/reset`: ends a period; what was counted in it stays.
pub(crate) async fn reset(app: &App, caller: &Caller) -> Result<Response<ResponseBody>, ServerError> {
    let period = Period::end(file(app)?, caller.id.as_str().to_owned()).await.map_err(unread)?;
    Ok(json(StatusCode::OK, &period.told()))
}

/// `POST /v1/admin/reprice`: costs worked out anew by the prices that the configuration in use has for each call's time.
pub(crate) async fn reprice(
    app: &App,
    caller: &Caller,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, ServerError> {
    let order: RepriceOrder = super::keys::read(app, request).await?;
    let filter =
        order.filter().map_err(|(field, problem)| super::keys::invalid(field, problem.to_owned()))?;
    let ledger = file(app)?;
    let writes = (!order.dry_run).then_some(ledger);
    let repriced =
        reprice::reprice(ledger.usage(), writes, app.gateway.router(), &filter, caller.id.as_str()).await;
    Ok(json(StatusCode::OK, &repriced.map_err(unread)?))
}

fn file(app: &App) -> Result<&FileLedger, ServerError> {
    app.books.as_ref().and_then(|books| books.file()).ok_or(ServerError::NoUsageLog)
}

fn log(app: &App) -> Result<&UsageLog, ServerError> {
    app.books.as_ref().and_then(|books| books.usage()).ok_or(ServerError::NoUsageLog)
}

/// Which calls are asked for, none but the caller's own unless it may see others', and by `other` what else is asked, which says whether it knows a word.
fn read(
    query: Option<&str>,
    caller: &Caller,
    others: &str,
    mut other: impl FnMut(&str, &str) -> Result<bool, String>,
) -> Result<UsageFilter, ServerError> {
    let mut filter = UsageFilter::default();
    let mut one = |name: &str, text: String| -> Result<(), String> {
        match name {
            "from" => filter.from = Some(usage::time(&text)?),
            "to" => filter.until = Some(usage::time(&text)?),
            "caller" => filter.caller = Some(text),
            "model" => filter.model = Some(text),
            "provider" => filter.provider = Some(text),
            "pool" => filter.pool = Some(text.parse::<PoolId>().map_err(|invalid| invalid.to_string())?),
            "tag" => {
                let (name, value) =
                    text.split_once(':').ok_or("is to be a name and a value, as in `team:search`")?;
                filter.tag = Some((name.to_owned(), value.to_owned()));
            }
            // Google's clients have their key here.
            "key" => {}
            name if other(name, &text)? => {}
            _ => {
                return Err(format!(
                    "is not known here; {others}`from`, `to`, `caller`, `model`, `provider`, `pool` and `tag` are"
                ));
            }
        }
        Ok(())
    };
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, text) = pair.split_once('=').unwrap_or((pair, ""));
        one(name, percent_decoded(text))
            .map_err(|problem| ServerError::Call(HooshError::from(InvalidRequest::new(name, problem))))?;
    }
    if !caller.sees_others() {
        let own = caller.id.as_str();
        if filter.caller.as_deref().is_some_and(|asked| asked != own) {
            return Err(ServerError::Denied(Denied::Scope(Scope::UsageRead)));
        }
        filter.caller = Some(own.to_owned());
    }
    Ok(filter)
}

/// Where a page ends, in one word: `1764010247000_req_…`.
fn name_of_place(row: &UsageRow) -> String {
    format!("{}_{}", row.at_ms, row.id.as_str())
}

fn place(text: &str) -> Option<(i64, CallId)> {
    let (at_ms, id) = text.split_once('_')?;
    Some((at_ms.parse().ok()?, CallId::from(id)))
}

/// Asking again helps: too many ask at once, or the disk does not answer.
fn unread(fault: LedgerFault) -> ServerError {
    ServerError::Call(HooshError::Exhausted { reason: fault.to_string(), after: Some(BUDGET_RETRY_HINT) })
}
