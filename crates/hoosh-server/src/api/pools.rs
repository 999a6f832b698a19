//! How the pools stand that calls are charged to.

use std::collections::BTreeMap;

use hoosh_budget::{Amount, Capacity, LedgerFault, PoolId, PoolStatus, TokenBudget};
use hoosh_core::limits::POOLS_SHOWN_MAX;
use hoosh_core::{HooshError, InvalidRequest};
use http::{Response, StatusCode};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json as value};

use super::decisions::dollars;
use super::json;
use super::models::percent_decoded;
use crate::app::App;
use crate::http::auth::Caller;
use crate::http::body::ResponseBody;
use crate::http::error::ServerError;

/// `GET /v1/tokens/pools`: each pool that the caller may see, those made by templates among them, in the order of their names;
/// `?after=` the name of one for those behind it.
pub(crate) async fn status(
    app: &App,
    caller: &Caller,
    query: Option<&str>,
) -> Result<Response<ResponseBody>, ServerError> {
    #[derive(Serialize)]
    struct Page {
        pools: Vec<Value>,
        /// What `after` is to be for the next page; `null`: this is the last.
        next: Option<String>,
    }
    let after = after(query.unwrap_or_default()).map_err(HooshError::from).map_err(ServerError::Call)?;
    let Some(budget) = app.gateway.budget() else {
        return Ok(json(StatusCode::OK, &Page { pools: Vec::new(), next: None }));
    };
    let now = Timestamp::now();
    if !caller.sees_others() {
        let own = own(budget, caller, now).await.map_err(away)?;
        let behind = |pool: &&PoolStatus| after.as_ref().is_none_or(|after| pool.id > *after);
        let pools = own.values().filter(behind).map(shown).collect();
        return Ok(json(StatusCode::OK, &Page { pools, next: None }));
    }
    let all = budget.ledger().statuses(after.as_ref(), POOLS_SHOWN_MAX, now).await.map_err(away)?;
    let next = (all.len() == POOLS_SHOWN_MAX).then(|| all.last().map(|pool| pool.id.as_str().to_owned()));
    Ok(json(StatusCode::OK, &Page { pools: all.iter().map(shown).collect(), next: next.flatten() }))
}

/// The pools that a caller is charged to by its key, and those above them.
async fn own(
    budget: &TokenBudget,
    caller: &Caller,
    now: Timestamp,
) -> Result<BTreeMap<PoolId, PoolStatus>, LedgerFault> {
    let mut found = BTreeMap::new();
    let named = caller.pools().iter().filter_map(|name| name.parse().ok());
    for pool in PoolId::new("key", caller.id.as_str()).ok().into_iter().chain(named) {
        let mut next = Some(pool);
        while let Some(id) = next.take().filter(|id| !found.contains_key(id)) {
            let Some(status) = budget.ledger().status(&id, now).await? else { break };
            next = status.parent.clone();
            found.insert(id, status);
        }
    }
    Ok(found)
}

fn away(fault: LedgerFault) -> ServerError {
    let after = Some(hoosh_core::limits::BUDGET_RETRY_HINT);
    ServerError::Call(HooshError::Exhausted { reason: fault.to_string(), after })
}

fn after(query: &str) -> Result<Option<PoolId>, InvalidRequest> {
    let mut after = None;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=').unwrap_or((pair, "")) {
            ("after", name) => {
                let id = percent_decoded(name).parse();
                after = Some(id.map_err(|invalid: hoosh_budget::InvalidPoolId| {
                    InvalidRequest::new("after", invalid.to_string())
                })?);
            }
            // Google's clients have their key here.
            ("key", _) => {}
            (other, _) => return Err(InvalidRequest::new(other, "is not known here; `after` is")),
        }
    }
    Ok(after)
}

fn shown(pool: &PoolStatus) -> Value {
    let limit =
        |capacity: &Capacity| value!({ "tokens": capacity.tokens, "usd": capacity.money.map(dollars) });
    let amount = |amount: &Amount| value!({ "tokens": amount.tokens, "usd": dollars(amount.money) });
    value!({
        "name": pool.id.as_str(),
        "parent": pool.parent.as_ref().map(PoolId::as_str),
        "mode": pool.mode.as_str(),
        "capacity": limit(&pool.capacity),
        "settled": amount(&pool.settled),
        "reserved": amount(&pool.reserved),
        "overrun": amount(&pool.overrun),
        "left": limit(&pool.left),
        "window": pool.window.as_str(),
        "window_start": pool.window_start.map(|time| time.to_string()),
        "window_end": pool.window_end.map(|time| time.to_string()),
        "alerts": pool.alerts,
    })
}
