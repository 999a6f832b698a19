//! How the pools stand that calls are charged to, and defining them while the gateway runs.

use std::collections::BTreeMap;

use hoosh_budget::{Amount, Capacity, InvalidPoolId, LedgerFault, PoolId, PoolStatus, TokenBudget};
use hoosh_core::limits::POOLS_SHOWN_MAX;
use hoosh_core::{HooshError, InvalidRequest};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json as value};

use super::decisions::dollars;
use super::json;
use super::keys::{invalid, read};
use super::models::percent_decoded;
use crate::app::App;
use crate::config::pools::{self, PoolChange, PoolRefusal};
use crate::config::{Fault, window};
use crate::http::auth::Caller;
use crate::http::body::ResponseBody;
use crate::http::error::ServerError;
use crate::reload::Live;

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

/// `GET /v1/admin/pools`: each pool as it is defined, and where.
pub(crate) fn defined(app: &App) -> Response<ResponseBody> {
    let all: Vec<Value> = (0..app.config.pools.len()).filter_map(|number| definition(app, number)).collect();
    json(StatusCode::OK, &value!({ "object": "list", "data": all }))
}

/// `POST /v1/admin/pools` and `PUT /v1/admin/pools/{id}`: a pool as it is to be from now on, in place of one of the same name.
pub(crate) async fn define(
    live: &Live,
    app: &App,
    caller: &Caller,
    named: Option<&str>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, ServerError> {
    let mut settings: Map<String, Value> = read(app, request).await?;
    let name = match named {
        Some(named) => percent_decoded(named),
        None => match settings.remove("name") {
            Some(Value::String(name)) => name,
            _ => return Err(invalid("name", "is missing; it is a text such as \"team:search\"".to_owned())),
        },
    };
    if settings.remove("name").is_some_and(|other| other != name.as_str()) {
        return Err(invalid("name", "is another one than in the path".to_owned()));
    }
    // What is not said and what is `null` are the same, and TOML has only the former.
    settings.retain(|_, value| !value.is_null());
    let table = toml::Table::try_from(&settings).map_err(|error| invalid("", error.to_string()))?;
    let id = id(&name)?;
    let is_new = !app.config.pools.iter().any(|pool| pool.id == id);
    let app = live.change_pools(PoolChange::Set(id.clone(), table)).await.map_err(refused)?;
    let number = app.config.pools.iter().position(|pool| pool.id == id);
    let told = number.and_then(|number| definition(&app, number)).unwrap_or_default();
    let what = if is_new { "a pool was defined" } else { "a pool was changed" };
    tracing::info!(target: "hoosh::budget", pool = %id, by = caller.id.as_str(), definition = %told, "{what}");
    Ok(json(if is_new { StatusCode::CREATED } else { StatusCode::OK }, &told))
}

/// `DELETE /v1/admin/pools/{id}`: nobody is charged to it any more; what was spent in it is still in the ledger.
pub(crate) async fn remove(
    live: &Live,
    app: &App,
    caller: &Caller,
    name: &str,
) -> Result<Response<ResponseBody>, ServerError> {
    let id = id(&percent_decoded(name))?;
    let number = app.config.pools.iter().position(|pool| pool.id == id);
    let told = number.and_then(|number| definition(app, number));
    live.change_pools(PoolChange::Remove(id.clone())).await.map_err(refused)?;
    tracing::info!(target: "hoosh::budget", pool = %id, by = caller.id.as_str(), "a pool was removed");
    Ok(json(StatusCode::OK, &told))
}

/// A pool that a caller names.
fn id(name: &str) -> Result<PoolId, ServerError> {
    name.parse().map_err(|error: InvalidPoolId| invalid("name", error.to_string()))
}

/// The pool of this number, in the words of the configuration.
fn definition(app: &App, number: usize) -> Option<Value> {
    let pool = app.config.pools.get(number)?;
    let is_own = !app.config.run_time_pools.ids.contains(&pool.id);
    Some(value!({
        "name": pool.id.as_str(),
        "parent": pool.parent.as_ref().map(PoolId::as_str),
        "tokens": pool.capacity.tokens,
        "usd": pool.capacity.money.map(dollars),
        "window": window(pool.window),
        "time_zone": pool.time_zone.iana_name().unwrap_or("UTC"),
        "mode": pool.mode.as_str(),
        "alerts": pool.alerts,
        // Else it can be changed here.
        "configured_at": is_own.then(|| pools::place_of(&app.config, number).to_string()),
    }))
}

fn refused(refusal: PoolRefusal) -> ServerError {
    match refusal {
        PoolRefusal::Configured(pool, place) => {
            ServerError::ConfiguredPool { pool: pool.to_string(), place: place.to_string() }
        }
        PoolRefusal::Unknown(pool) => ServerError::NoSuchPool { pool: pool.to_string() },
        PoolRefusal::Nowhere => ServerError::NoPoolsFile,
        PoolRefusal::Faults(faults) => {
            // What they are called in the file is nobody's business.
            let key =
                |fault: &Fault| fault.key.split_once("].").map(|(_, key)| key.to_owned()).unwrap_or_default();
            let field = faults.first().map(key).unwrap_or_default();
            let meant =
                |fault: &Fault| fault.meant.as_ref().map(|meant| format!("; did you mean `{meant}`?"));
            let said = faults.iter().map(|fault| fault.problem.clone() + &meant(fault).unwrap_or_default());
            let said: Vec<String> = said.collect();
            invalid(&field, said.join("; "))
        }
        PoolRefusal::File(path, error) => {
            tracing::error!(target: "hoosh::budget", file = %path.display(), %error, "pools could not be changed");
            ServerError::PoolStore
        }
    }
}
