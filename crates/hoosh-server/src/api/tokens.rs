//! Budgets for agents that account for themselves: whether so much would fit, holding it, and telling what it took.
//!
//! What an agent asks elsewhere is charged like a call that goes through here: to the pools of its key, whether it names them or
//! not, and to those that it names. Otherwise whoever has nothing left could take what others share.

use std::time::Duration;

use hoosh_budget::{
    Amount, Capacity, Claim, Earliest, InvalidPoolId, PoolId, Refusal, Settlement, TokenBudget, UsageRow,
};
use hoosh_core::limits::{
    BUDGET_RETRY_HINT, POOLS_PER_CALL_MAX, RESERVATION_LEASE_MAX, TOKEN_LEASE_TIME,
    TOKEN_LEASES_PER_CALLER_MAX,
};
use hoosh_core::{HooshError, NanoUsd, Refusal as Forbidden};
use hoosh_gateway::refused_by_pools;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json as value};

use super::decisions::dollars;
use super::json;
use super::keys::{invalid, read};
use crate::app::App;
use crate::http::auth::Caller;
use crate::http::body::ResponseBody;
use crate::http::error::ServerError;
use crate::leases::LeaseId;

/// What is to be held, or might be.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    /// Beside those of the key.
    #[serde(default)]
    pools: Vec<String>,
    tokens: Option<u64>,
    usd: Option<Value>,
    lease_secs: Option<u64>,
}

/// What a lease came to.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Report {
    lease: String,
    tokens: Option<u64>,
    usd: Option<Value>,
}

/// The pools that somebody is charged to.
struct Charged {
    /// The caller's own, which need not be there.
    own: PoolId,
    /// Those that its key is charged to, and those that it names.
    pools: Vec<PoolId>,
    /// Whether it names any.
    are_named: bool,
}

/// Kinds of pools that whoever calls may name, as for a call: whom it is made for, and by which program.
const NAMED_KINDS: [&str; 2] = ["user", "agent"];

/// `POST /v1/tokens/check`: whether so much would be held now, and how much could be. Holds nothing.
pub(crate) async fn check(
    app: &App,
    caller: &Caller,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, ServerError> {
    let order: Order = read(app, request).await?;
    let (amount, _) = (order.amount()?, order.lease()?);
    let charged = order.charged(app, caller)?;
    let checked = match app.gateway.budget() {
        Some(budget) => {
            let call = LeaseId::new().call(&caller.id);
            let claim = charged.claim(&call, amount, Duration::ZERO);
            let checked = budget.ledger().check(&claim, Timestamp::now()).await;
            checked.map_err(|refusal| charged.refused(refusal))?
        }
        None => {
            charged.are_there_without_any()?;
            hoosh_budget::Checked { left: Capacity::UNLIMITED, shortage: None }
        }
    };
    let (when, earliest) = match checked.shortage.as_ref().map(|shortage| shortage.earliest) {
        None => ("now", None),
        Some(Earliest::OthersSettle) => ("others_settle", None),
        Some(Earliest::At(time)) => ("at", Some(time.to_string())),
        Some(Earliest::Never) => ("never", None),
    };
    let answer = value!({
        "fits": checked.shortage.is_none(),
        "left": { "tokens": checked.left.tokens, "usd": checked.left.money.map(dollars) },
        "when": when,
        "earliest": earliest,
        "pool": checked.shortage.as_ref().map(|shortage| shortage.pool.as_str()),
        "reason": checked.shortage.as_ref().map(|shortage| shortage.to_string()),
    });
    Ok(json(StatusCode::OK, &answer))
}

/// `POST /v1/tokens/reserve`: holds so much in all pools, or in none, until it is reported or the lease is over.
pub(crate) async fn reserve(
    app: &App,
    caller: &Caller,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, ServerError> {
    let order: Order = read(app, request).await?;
    let (amount, lease_time) = (order.amount()?, order.lease()?);
    if amount.is_zero() {
        return Err(invalid(
            "tokens",
            "nothing is asked for; say how many `tokens`, how many `usd`, or both".to_owned(),
        ));
    }
    let charged = order.charged(app, caller)?;
    let (Some(budget), Some(books)) = (app.gateway.budget(), &app.books) else {
        charged.are_there_without_any()?;
        return Err(charged.are_none());
    };
    let now = Timestamp::now();
    charged.is_one_there(budget, now).await?;

    let lease = LeaseId::new();
    let until = now.saturating_add(SignedDuration::try_from(lease_time).unwrap_or(SignedDuration::MAX));
    let until = until.unwrap_or(Timestamp::MAX);
    if !books.leases().open(&caller.id, &lease, until, now) {
        let reason = format!(
            "{TOKEN_LEASES_PER_CALLER_MAX} leases of yours are open, as many as may be; report some, or wait until they are over"
        );
        return Err(ServerError::Call(HooshError::Exhausted { reason, after: Some(BUDGET_RETRY_HINT) }));
    }
    let call = lease.call(&caller.id);
    let held = match budget.ledger().reserve(&charged.claim(&call, amount, lease_time), now).await {
        Ok(granted) => granted,
        Err(refusal) => {
            books.leases().close(&caller.id, &lease);
            return Err(charged.refused(refusal));
        }
    };
    let answer = value!({
        "lease": lease.as_str(),
        "held": shown(held.held),
        "until": held.until.to_string(),
    });
    Ok(json(StatusCode::OK, &answer))
}

/// `POST /v1/tokens/report`: books what a lease came to and lets go of what it held, once.
pub(crate) async fn report(
    app: &App,
    caller: &Caller,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, ServerError> {
    let report: Report = read(app, request).await?;
    let money = report.usd.as_ref().map(money).transpose()?;
    if report.tokens.is_none() && money.is_none() {
        let problem = "is missing, and `usd` too; say what it took, 0 if nothing".to_owned();
        return Err(invalid("tokens", problem));
    }
    let actual = Amount::new(report.tokens.unwrap_or(0), money.unwrap_or_default());
    // Those of a configuration before, too.
    let (Some(books), Some(lease)) = (&app.books, LeaseId::parse(&report.lease)) else {
        return Err(ServerError::NoSuchLease { lease: report.lease });
    };
    let (call, now) = (lease.call(&caller.id), Timestamp::now());
    let ledger = books.budget().ledger();
    // Nobody said which of the tokens were read and which were written, so that they are in the pools only.
    let row = ledger.keeps_rows().then(|| {
        Box::new(UsageRow {
            caller: caller.id.as_str().to_owned(),
            outcome: "reported".to_owned(),
            cost: money,
            ..UsageRow::new(call.clone(), now.as_millisecond())
        })
    });
    let settled = ledger.settle(Settlement { call: &call, actual, row, now: Some(now) }).await;
    if settled.outcome == hoosh_budget::SettleOutcome::Unknown {
        return Err(ServerError::NoSuchLease { lease: report.lease });
    }
    books.leases().close(&caller.id, &lease);
    if let Some(fault) = &settled.fault {
        tracing::error!(%call, %fault, "what an agent reported may not outlive the process");
    }
    let answer = value!({
        "lease": lease.as_str(),
        "outcome": settled.outcome.as_str(),
        "booked": shown(settled.booked),
        "overrun": shown(settled.overrun),
    });
    Ok(json(StatusCode::OK, &answer))
}

fn shown(amount: Amount) -> Value {
    value!({ "tokens": amount.tokens, "usd": dollars(amount.money) })
}

/// Reads dollars: text, which is exact, or a number.
fn money(sent: &Value) -> Result<NanoUsd, ServerError> {
    let read = match sent {
        Value::String(text) => text.parse().map_err(|error: hoosh_core::InvalidAmount| error.to_string()),
        // Written as shortly as it can be, which is how it was sent.
        Value::Number(number) => {
            number.to_string().parse().map_err(|error: hoosh_core::InvalidAmount| error.to_string())
        }
        _ => Err("is not one".to_owned()),
    };
    let refused = |problem: String| {
        invalid("usd", format!("must be an amount of US dollars such as \"0.05\", zero or more: {problem}"))
    };
    match read {
        Ok(amount) if amount < NanoUsd::ZERO => Err(refused(format!("{amount} is less than nothing"))),
        Ok(amount) => Ok(amount),
        Err(problem) => Err(refused(problem)),
    }
}

// === impl Order ===

impl Order {
    fn amount(&self) -> Result<Amount, ServerError> {
        let money = self.usd.as_ref().map(money).transpose()?;
        Ok(Amount::new(self.tokens.unwrap_or(0), money.unwrap_or_default()))
    }

    fn lease(&self) -> Result<Duration, ServerError> {
        let Some(seconds) = self.lease_secs else { return Ok(TOKEN_LEASE_TIME) };
        let most = RESERVATION_LEASE_MAX.as_secs();
        if (1..=most).contains(&seconds) {
            Ok(Duration::from_secs(seconds))
        } else {
            Err(invalid("lease_secs", format!("must be from 1 to {most}, not {seconds}")))
        }
    }

    /// The pools that it is charged to, all of which are the caller's.
    fn charged(&self, app: &App, caller: &Caller) -> Result<Charged, ServerError> {
        if self.pools.len() > POOLS_PER_CALL_MAX {
            return Err(invalid(
                "pools",
                format!("names {}, at most {POOLS_PER_CALL_MAX} can be", self.pools.len()),
            ));
        }
        let own =
            PoolId::new("key", caller.id.as_str()).map_err(|error| invalid("key", error.to_string()))?;
        let bad = |invalid: InvalidPoolId| {
            let reason = format!("{invalid}, which your key names; tell whoever runs this gateway");
            forbidden(reason)
        };
        let granted: Result<Vec<PoolId>, _> =
            caller.pools().iter().map(|name| name.parse().map_err(bad)).collect();
        let mut pools = granted?;
        for name in &self.pools {
            let id: PoolId =
                name.parse().map_err(|error: InvalidPoolId| invalid("pools", error.to_string()))?;
            let is_own = match id.kind() {
                "model" => caller.may_ask_for(id.name(), app.gateway.router()),
                kind => NAMED_KINDS.contains(&kind),
            };
            if !is_own && id != own && !pools.contains(&id) {
                return Err(forbidden(format!(
                    "the pool `{id}` is not yours; yours are `{own}`{}, those of users and agents, and those of models \
                     that you may ask for",
                    caller.pools().iter().map(|name| format!(", `{name}`")).collect::<String>()
                )));
            }
            if !pools.contains(&id) {
                pools.push(id);
            }
        }
        Ok(Charged { own, pools, are_named: !self.pools.is_empty() })
    }
}

fn forbidden(reason: String) -> ServerError {
    ServerError::Call(Forbidden { guard: "pools".into(), reason }.into())
}

// === impl Charged ===

impl Charged {
    fn claim<'a>(&'a self, call: &'a hoosh_budget::CallId, amount: Amount, lease: Duration) -> Claim<'a> {
        let own = std::slice::from_ref(&self.own);
        Claim { if_defined: own, ..Claim::new(call, &self.pools, amount, lease) }
    }

    fn refused(&self, refusal: Refusal) -> ServerError {
        match refusal {
            Refusal::UnknownPool(_) if self.are_named => invalid("pools", refusal.to_string()),
            Refusal::TooManyPools => invalid("pools", refusal.to_string()),
            other => ServerError::Call(refused_by_pools(other)),
        }
    }

    /// Whether there is anything to hold something in.
    async fn is_one_there(&self, budget: &TokenBudget, now: Timestamp) -> Result<(), ServerError> {
        if !self.pools.is_empty() {
            return Ok(()); // which have to be there
        }
        match budget.ledger().status(&self.own, now).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(self.are_none()),
            Err(fault) => Err(self.refused(fault.into())),
        }
    }

    fn are_none(&self) -> ServerError {
        let own = &self.own;
        invalid("pools", format!("there is no pool `{own}`, and no other is named: nothing can be held"))
    }

    /// What becomes of it where no pools are configured: those that are named are not there.
    fn are_there_without_any(&self) -> Result<(), ServerError> {
        let first = self.pools.first();
        first.map_or(Ok(()), |pool| Err(self.refused(Refusal::UnknownPool(pool.clone()))))
    }
}
