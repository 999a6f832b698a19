//! What a call may spend: held in its pools before anybody is asked, booked when it is over.
//!
//! A call is charged to the pools of its key, its user, its agent and its model, as far as they are defined or a template stands
//! for them, and to all above those. What it holds is its prompt and the most that it may write, at the price of the dearest
//! who could be asked. Where a hard pool has less than that left, the answer is kept shorter; where it has not even the prompt's
//! worth, the call is refused.
//!
//! What is booked, whatever became of the call, is the table of `docs/budgets.md`, of which `tests/booked.rs` shows each cell.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use hoosh_budget::{
    Amount, CallId, Capacity, Checked, Claim, Earliest, InvalidPoolId, Ledger, PoolId, Refusal, Reservation,
    TokenBudget, UsageRow,
};
use hoosh_core::catalog::Catalog;
use hoosh_core::dialect::{Dialect, Operation};
use hoosh_core::{HooshError, InvalidRequest, NanoUsd, Usage, limits};
use hoosh_router::{Candidate, Plan, Query};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::call::Call;
use crate::lane::Room;
use crate::settle::{CallRecord, Outcome};

/// As many tokens as prices are told for.
const MANY: u64 = 1_000_000;

/// Pools of a call, by what they are of.
const KINDS: [&str; 4] = ["key", "user", "agent", "model"];

/// Holds what a call may take of its pools; `None`: no pool is its.
///
/// # Errors
///
/// [`HooshError::Exhausted`] if a hard pool has not enough left.
pub(crate) async fn hold(budget: &TokenBudget, call: &Call, plan: &Plan) -> Result<Option<Held>, HooshError> {
    let operation = call.dialect.operation();
    if operation == Operation::Counting {
        return Ok(None); // it costs nothing
    }
    let pools = pools(call, plan)?;
    let (id, at) = (CallId::from(call.id.as_str()), call.id.unix_seconds());
    let prompt = call.prompt_tokens().unwrap_or(call.body.len() as u64);
    let answers = answers(call);
    let longest = longest_answer(plan, prompt);
    let answer = match operation {
        Operation::Inference => {
            let each = call.head.max_tokens.unwrap_or(limits::BUDGET_ANSWER_TOKENS.min(longest));
            each.saturating_mul(answers)
        }
        _ => 0,
    };
    let (estimate, least) = (amount(plan, at, prompt, answer), amount(plan, at, prompt, answer.min(1)));
    let named = named_by_key(call)?;
    let claim =
        Claim { if_defined: &pools, least, ..Claim::new(&id, &named, estimate, limits::BUDGET_LEASE_TIME) };
    let now = Timestamp::now();
    let mut reservation = budget.reserve(&claim, now).await.map_err(refused)?;
    let is_hard = reservation.ceiling() != Capacity::UNLIMITED;
    let is_inference = operation == Operation::Inference;
    if is_inference && is_hard && call.head.max_tokens.is_none() && reservation.held() == estimate {
        // As long as the model can write, or as its pools have enough for.
        let wish = amount(plan, at, prompt, longest.saturating_mul(answers)).saturating_sub(estimate);
        if !wish.is_zero()
            && let Ok(Checked { left, .. }) = budget.ledger().check(&claim, now).await
        {
            // Others may have taken it in between; it keeps what it has then.
            let _held = reservation.extend(wish.min(most(left)), now).await;
        }
    }
    let ceiling = reservation.ceiling();
    let by_tokens = ceiling.tokens.map(|most| most.saturating_sub(prompt));
    let by_money = ceiling.money.and_then(|most| affordable(plan, at, prompt, most));
    let all = by_tokens.into_iter().chain(by_money).min().unwrap_or(answer);
    if is_inference && is_hard {
        let most = (all / answers).max(1);
        // Whoever said no more than is held writes no more.
        if call.head.max_tokens.is_none_or(|asked| asked > most) {
            call.limit_answer(most, call.head.max_tokens.unwrap_or(longest) > most);
        }
    }
    if is_inference {
        call.held_for(Room { prompt, most: prompt.saturating_add(all) });
    }
    let held = reservation.held();
    // What nobody can count is held for by its bytes, which is surely enough, and booked for about what they are.
    let prompt = if operation == Operation::Plain { prompt / limits::BYTES_PER_TOKEN } else { prompt };
    Ok(Some(Held {
        reservation,
        prompt: amount(plan, at, prompt, 0),
        held,
        price: price_of_many(plan, at, prompt),
        is_hard,
        renewed: Instant::now(),
    }))
}

/// Holds what a call may take of its pools besides, where others than those it was held for are asked now.
///
/// # Errors
///
/// As [`hold`].
pub(crate) async fn hold_more(held: &mut Held, call: &Call, plan: &Plan) -> Result<(), HooshError> {
    let prompt = call.prompt_tokens().unwrap_or(call.body.len() as u64);
    let answer = held.held.tokens.saturating_sub(prompt);
    let dearer = amount(plan, call.id.unix_seconds(), prompt, answer);
    let more = dearer.saturating_sub(held.held);
    if more.is_zero() {
        return Ok(());
    }
    held.purse().hold(more).await.map_err(refused)?;
    held.held = held.held.saturating_add(more);
    Ok(())
}

/// What a prompt takes that is sent to one more: a hedge, or who goes on with a stream.
pub(crate) fn leg(plan: &Plan, candidate: &Candidate, at: u64, prompt: u64) -> Amount {
    let query = Query { prompt_tokens: Some(prompt), max_tokens: Some(0), at: Some(at), ..Query::default() };
    Amount::new(prompt, candidate.cost(&query, &plan.prices).unwrap_or(NanoUsd::ZERO))
}

/// What a call holds of its pools.
pub(crate) struct Held {
    reservation: Reservation,
    /// What its prompt alone takes.
    prompt: Amount,
    /// What is held for the prompt and the answer, without what legs hold besides.
    held: Amount,
    /// What [`MANY`] tokens of answer cost at the dearest.
    price: NanoUsd,
    /// Whether a hard pool is among those that are charged.
    is_hard: bool,
    /// When its lease began anew.
    renewed: Instant,
}

/// Holds more for a call, for whoever works on it out of sight of its settlement. What is held is given back with the rest.
#[derive(Debug, Clone)]
pub(crate) struct Purse {
    ledger: Arc<dyn Ledger>,
    call: CallId,
}

/// What came of holding more for a stream.
pub(crate) enum More {
    /// So many tokens more may be passed on.
    Tokens(u64),
    /// No more, ever.
    Nothing,
}

// === impl Held ===

impl Held {
    pub(crate) fn purse(&self) -> Purse {
        Purse { ledger: Arc::clone(self.reservation.ledger()), call: self.reservation.call().clone() }
    }

    /// Holds more for an answer that wants so many tokens more than it has. Where a hard pool has not so much left it gets nothing.
    pub(crate) fn extend(&self, wanted: u64) -> BoxFuture<'static, More> {
        let (purse, price, is_hard) = (self.purse(), self.price, self.is_hard);
        Box::pin(async move {
            for tokens in [wanted.max(limits::BUDGET_EXTEND_TOKENS), wanted] {
                match purse.hold(Amount::new(tokens, price_of(price, tokens))).await {
                    Ok(()) => return More::Tokens(tokens),
                    Err(Refusal::Exhausted(_)) => {}
                    Err(refusal) => {
                        tracing::warn!(id = %purse.call, %refusal, "a stream holds no more than it does");
                        break;
                    }
                }
            }
            // Soft pools count what is beyond them; they have been told already.
            if is_hard { More::Nothing } else { More::Tokens(u64::MAX) }
        })
    }

    /// Lets it hold what it holds for another hour, when half of one is over. `None`: it is not time for that.
    pub(crate) fn renewal(&mut self) -> Option<BoxFuture<'static, ()>> {
        if self.renewed.elapsed() < limits::BUDGET_LEASE_TIME / 2 {
            return None;
        }
        self.renewed = Instant::now();
        let Purse { ledger, call } = self.purse();
        Some(Box::pin(async move {
            if let Err(refusal) = ledger.renew(&call, limits::BUDGET_LEASE_TIME, Timestamp::now()).await {
                tracing::warn!(id = %call, %refusal, "a call that goes on is not held for any longer");
            }
        }))
    }
}

// === impl Purse ===

impl Purse {
    /// Holds so much more.
    ///
    /// # Errors
    ///
    /// As [`Ledger::extend`]; it holds what it held then.
    pub(crate) async fn hold(&self, more: Amount) -> Result<(), Refusal> {
        self.ledger.extend(&self.call, more, Timestamp::now()).await.map(drop)
    }
}

/// The most tokens that anybody of a plan can write in one answer.
fn longest_answer(plan: &Plan, prompt: u64) -> u64 {
    all(plan).map(|candidate| answer_of(candidate, prompt)).max().unwrap_or(limits::BUDGET_ANSWER_TOKENS)
}

/// The most tokens that a model can write, as the catalogue knows it: what its window has left behind the prompt, with some room
/// for what is counted otherwise there.
pub(crate) fn answer_of(candidate: &Candidate, prompt: u64) -> u64 {
    let known = Catalog::builtin().find(candidate.provider.provider_type().as_str(), &candidate.model);
    let Some(output_max) = known.and_then(|known| known.output_max) else {
        return limits::BUDGET_ANSWER_TOKENS;
    };
    let window = known.and_then(|known| known.context_window).unwrap_or(u64::MAX);
    let left = window.saturating_sub(prompt).saturating_sub(prompt / 8).saturating_sub(64);
    output_max.min(left).max(1)
}

/// All who could be asked.
fn all(plan: &Plan) -> impl Iterator<Item = &Candidate> {
    plan.candidates.iter().chain(plan.resting.iter().map(|resting| &resting.candidate))
}

/// As an amount what a capacity has.
fn most(left: Capacity) -> Amount {
    Amount { tokens: left.tokens.unwrap_or(u64::MAX), money: left.money.unwrap_or(NanoUsd::MAX) }
}

/// How many answers a call asks for at once: `n` or `best_of`, to each of its prompts.
fn answers(call: &Call) -> u64 {
    #[derive(Default, Deserialize)]
    struct Asked<'a> {
        n: Option<u64>,
        best_of: Option<u64>,
        #[serde(borrow)]
        prompt: Option<&'a RawValue>,
    }
    let choices = match call.dialect {
        Dialect::OpenAiChat | Dialect::OpenAiCompletions => {
            let asked: Asked<'_> = serde_json::from_slice(&call.body).unwrap_or_default();
            let prompts =
                asked.prompt.and_then(|prompt| serde_json::from_str::<Vec<&RawValue>>(prompt.get()).ok());
            // A list of numbers is one prompt in tokens.
            let is_text = |prompt: &&RawValue| prompt.get().starts_with(['"', '[']);
            let prompts = prompts.map_or(1, |all| all.iter().filter(|prompt| is_text(prompt)).count().max(1));
            asked.n.max(asked.best_of).unwrap_or(1).saturating_mul(prompts as u64)
        }
        Dialect::Gemini => call.decoded().ok().and_then(|request| request.n).map_or(1, u64::from),
        _ => 1,
    };
    choices.max(1)
}

/// The pools that a call's key names, which must be there: whoever made the key meant it to be held to them.
fn named_by_key(call: &Call) -> Result<Vec<PoolId>, HooshError> {
    let names = call.key.iter().flat_map(|key| &key.grant.pools);
    names
        .map(|name| name.parse().map_err(|invalid: InvalidPoolId| no_such_pool(invalid.to_string())))
        .collect()
}

/// What becomes of a call where no pools are configured.
///
/// # Errors
///
/// Its key names some.
pub(crate) fn without_pools(call: &Call) -> Result<(), HooshError> {
    match call.key.as_ref().and_then(|key| key.grant.pools.first()) {
        Some(pool) => Err(no_such_pool(format!("there is no pool `{pool}`"))),
        None => Ok(()),
    }
}

fn no_such_pool(problem: String) -> HooshError {
    let reason = format!("{problem}, to which your key is charged; tell whoever runs this gateway");
    hoosh_core::Refusal { guard: "pools".into(), reason }.into()
}

/// The pools that are a call's, if they are defined. Its model is the one that it names and the one that this leads to first, so
/// that no other spelling of it has a pool of its own.
fn pools(call: &Call, plan: &Plan) -> Result<Vec<PoolId>, HooshError> {
    let names =
        [Some(call.caller.as_str()), call.user.as_deref(), call.agent.as_deref(), Some(&call.head.model)];
    let named = KINDS.into_iter().zip(names).filter_map(|(kind, name)| Some((kind, name?)));
    // One that cannot be a pool's name must not be let through without one: who calls could choose it.
    let first = plan.candidates.first().or(plan.resting.first().map(|resting| &resting.candidate));
    let model =
        first.map(|candidate| ("model", &*candidate.model)).filter(|(_, name)| **name != call.head.model);
    named
        .chain(model)
        .map(|(kind, name)| {
            PoolId::new(kind, name).map_err(|invalid| InvalidRequest::new(kind, invalid.to_string()).into())
        })
        .collect()
}

/// What so many tokens are at the dearest who could be asked, at the time of the call. One without a known price counts as free.
fn amount(plan: &Plan, at: u64, prompt: u64, answer: u64) -> Amount {
    let query =
        Query { prompt_tokens: Some(prompt), max_tokens: Some(answer), at: Some(at), ..Query::default() };
    let costs = all(plan).filter_map(|candidate| candidate.cost(&query, &plan.prices));
    Amount { tokens: prompt.saturating_add(answer), money: costs.max().unwrap_or(NanoUsd::ZERO) }
}

/// The most tokens of answer that so much money is enough for, behind a prompt, at the dearest. `None`: answers cost nothing.
fn affordable(plan: &Plan, at: u64, prompt: u64, most: NanoUsd) -> Option<u64> {
    let without = amount(plan, at, prompt, 0).money;
    let of_many = u128::try_from(price_of_many(plan, at, prompt).0).ok().filter(|price| *price > 0)?;
    let left = u128::try_from(most.saturating_sub(without).0).unwrap_or(0);
    Some(u64::try_from(left * u128::from(MANY) / of_many).unwrap_or(u64::MAX))
}

/// What that many tokens of answer cost behind a prompt, at the dearest.
fn price_of_many(plan: &Plan, at: u64, prompt: u64) -> NanoUsd {
    let (without, with) = (amount(plan, at, prompt, 0).money, amount(plan, at, prompt, MANY).money);
    with.saturating_sub(without)
}

/// What so many cost where [`MANY`] cost that, rounded up.
fn price_of(of_many: NanoUsd, tokens: u64) -> NanoUsd {
    let money = u128::try_from(of_many.0).unwrap_or(0) * u128::from(tokens);
    NanoUsd(i64::try_from(money.div_ceil(u128::from(MANY))).unwrap_or(i64::MAX))
}

/// What who asked is told of a refusal: when to come back, or that its key names a pool that is not there.
pub fn refused(refusal: Refusal) -> HooshError {
    let after = match &refusal {
        Refusal::UnknownPool(_) => return no_such_pool(refusal.to_string()),
        Refusal::Exhausted(shortage) => match shortage.earliest {
            Earliest::OthersSettle => Some(limits::BUDGET_RETRY_HINT),
            Earliest::At(time) => Some(wait_until(time)),
            Earliest::Never => None,
        },
        _ => Some(limits::BUDGET_RETRY_HINT),
    };
    HooshError::Exhausted { reason: refusal.to_string(), after }
}

fn wait_until(time: Timestamp) -> Duration {
    let seconds = time.duration_since(Timestamp::now());
    Duration::try_from(seconds).unwrap_or_default()
}

/// Books what a call took, with its row of the usage log where one is kept.
///
/// `cost` is what is known of it, which may be less than the record says where a part has no price.
pub(crate) fn book(budget: Option<&TokenBudget>, held: Option<Held>, record: &CallRecord, cost: NanoUsd) {
    let Some(budget) = budget else { return };
    let now = Timestamp::now();
    let row = budget.ledger().keeps_rows().then(|| Box::new(row(record, now)));
    let Some(Held { reservation, prompt, .. }) = held else {
        // Refused, or given again: it holds nothing, and is still a call.
        if let Some(Err(fault)) = row.map(|row| budget.ledger().record(row)) {
            tracing::warn!(id = %record.id, %fault, "a row of the usage log is lost");
        }
        return;
    };
    let own = record.usage.filter(|_| !record.cache.is_again());
    let legs = record.legs.iter().filter_map(|leg| leg.usage);
    let tokens = own.into_iter().chain(legs).map(|usage| usage.total()).fold(0, u64::saturating_add);
    let mut took = Amount::new(tokens, cost);
    // Whoever was asked has read the prompt by then, whether or not anybody waits for what it says.
    let was_failure = match &record.outcome {
        Outcome::Failed(error) => !matches!(error, HooshError::Deadline(_)),
        _ => false,
    };
    if own.is_none() && record.attempts > 0 && !was_failure {
        took = took.saturating_add(prompt);
    }
    reservation.settle_detached(took, row, now);
}

/// The parts of a usage of which something is known, by their names.
fn parts(usage: &Usage) -> BTreeMap<&'static str, Value> {
    let parts = [
        ("input", usage.input),
        ("cache_read", usage.cache_read),
        ("cache_write_5m", usage.cache_write_5m),
        ("cache_write_1h", usage.cache_write_1h),
        ("output", usage.output),
        ("reasoning", usage.reasoning),
        ("audio_in", usage.audio_in),
        ("audio_out", usage.audio_out),
    ];
    let known = parts.into_iter().filter_map(|(name, part)| Some((name, part?.into())));
    known.chain([("service_tier", usage.service_tier.as_str().into())]).collect()
}

/// What the usage log keeps of a call.
fn row(record: &CallRecord, now: Timestamp) -> UsageRow {
    #[derive(Serialize)]
    struct Part<'a> {
        provider: &'a str,
        model: &'a str,
        kind: &'static str,
        tokens: Option<u64>,
        /// Part by part, so that its cost can be worked out anew.
        #[serde(skip_serializing_if = "Option::is_none")]
        usage: Option<BTreeMap<&'static str, Value>>,
        cost_nano_usd: Option<i64>,
    }
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let legs: Vec<Part<'_>> = record
        .legs
        .iter()
        .map(|leg| Part {
            provider: &leg.provider,
            model: &leg.model,
            kind: leg.kind.as_str(),
            tokens: leg.usage.map(|usage| usage.total()),
            usage: leg.usage.map(|usage| parts(&usage)),
            cost_nano_usd: leg.cost.map(|cost| cost.0),
        })
        .collect();
    UsageRow {
        caller: record.caller.as_str().to_owned(),
        dialect: record.dialect.as_str().to_owned(),
        model_asked: record.model_asked.clone(),
        provider: record.provider.clone(),
        model: record.model_used.clone(),
        stream: record.stream,
        outcome: record.outcome.as_str().to_owned(),
        cache: record.cache.as_str().unwrap_or_default().to_owned(),
        attempts: u32::try_from(record.attempts).unwrap_or(u32::MAX),
        // An answer that is given again took nothing from anybody.
        usage: record.usage.filter(|_| !record.cache.is_again()),
        cost: record.cost,
        // Written from numbers and words, which JSON can always hold.
        legs: if legs.is_empty() { String::new() } else { serde_json::to_string(&legs).unwrap_or_default() },
        first_ms: record.time_to_first.map(millis),
        duration_ms: millis(record.duration),
        ..UsageRow::new(CallId::from(record.id.as_str()), now.as_millisecond())
    }
}
