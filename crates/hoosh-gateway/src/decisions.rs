//! What was decided for each call, kept for a while for whoever made it: who could be asked, why, and what came of it.
//!
//! A [`Decision`] holds the plan itself, which is made of pointers that the table holds anyway, and is written out only when
//! somebody asks for it. No word of a prompt or of a provider is in it, and no key.
//!
//! A provider that a new configuration has no more lives until the last decision that names it is gone.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::fmt::Write;
use std::mem::size_of;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use hoosh_core::dialect::Dialect;
use hoosh_core::{FailureKind, Fidelity, LlmProvider, UpstreamFailure, limits};
use hoosh_router::{Candidate, Plan, Query, Resting};
use ring::digest::{SHA256, digest};

use crate::call::{Call, CallerId, RequestId};

/// Bytes of a digest that are shown: 8, enough to tell two apart.
const DIGEST_BYTES: usize = 8;

/// Bytes that a decision takes beside itself, about: its name, and its places in the map and in the order.
const KEPT_BYTES: usize = 192;

/// What was decided for one call, and what came of it so far.
pub struct Decision {
    /// The call. A decision has no other name.
    pub id: RequestId,
    /// Who made it, and alone may see this.
    pub caller: CallerId,
    /// The dialect it came in.
    pub dialect: Dialect,
    /// What its caller said is to be done about parts that a provider cannot be told.
    pub fidelity: Option<Fidelity>,
    /// Who could be asked, in order, and why.
    pub plan: Plan,
    /// Which configuration that was made from, if the gateway was told.
    pub configuration: Option<Arc<str>>,
    /// Who was asked instead, once nobody of the plan could help.
    fallback: OnceLock<Arc<Decision>>,
    model: String,
    /// Without its model, which it would borrow.
    query: Query<'static>,
    progress: Mutex<Progress>,
}

/// What came of a decision so far.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// Who was asked, in order.
    pub attempts: Vec<Asked>,
    /// How the call ended, in one word. `None`: it has not yet.
    pub outcome: Option<&'static str>,
}

/// One attempt at a candidate.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Who was asked.
    pub provider: Arc<dyn LlmProvider>,
    /// For which model, in its words.
    pub model: Arc<str>,
    /// What came of it.
    pub result: AskedResult,
}

/// What came of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskedResult {
    /// Nothing yet, or the call ended before.
    Open,
    /// It answers. How a streamed answer ends is the outcome of the call.
    Answers,
    /// It was let go of, since another that was asked beside it answers.
    LetGo,
    /// It failed.
    Failed {
        /// What happened.
        kind: FailureKind,
        /// HTTP status of the provider's answer, if it answered.
        status: Option<u16>,
    },
}

/// The latest decisions, in memory: so many, and so many bytes of them, then the oldest goes.
///
/// Share one between gateways that follow each other, and a new configuration forgets nothing.
pub struct Decisions {
    count_max: usize,
    bytes_max: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    by_id: HashMap<RequestId, Arc<Decision>>,
    /// The oldest first.
    order: VecDeque<RequestId>,
    bytes: usize,
}

// === impl Decision ===

impl Decision {
    pub(crate) fn new(call: &Call, query: &Query<'_>, plan: Plan, configuration: Option<Arc<str>>) -> Self {
        // Field by field, since what is borrowed cannot be left out in one go.
        let &Query {
            max_tokens, prompt_tokens, prompt_estimate, input, tools, local_only, max_cost, at, ..
        } = query;
        let (model, context, conversation) = ("", query.context, query.conversation);
        let query = Query {
            model,
            max_tokens,
            prompt_tokens,
            prompt_estimate,
            input,
            tools,
            local_only,
            max_cost,
            at,
            context,
            conversation,
        };
        Self {
            id: call.id.clone(),
            caller: call.caller.clone(),
            dialect: call.dialect,
            fidelity: call.fidelity,
            plan,
            configuration,
            fallback: OnceLock::new(),
            model: call.head.model.clone(),
            query,
            progress: Mutex::default(),
        }
    }

    /// What the call needed.
    pub fn query(&self) -> Query<'_> {
        Query { model: &self.model, ..self.query }
    }

    /// What was decided once nobody of the plan could help: for another model, which the configuration names for that.
    pub fn fallback(&self) -> Option<&Arc<Decision>> {
        self.fallback.get()
    }

    /// Others are asked instead. Only the first such decision counts.
    pub(crate) fn fall_back(&self, other: &Arc<Decision>) {
        self.fallback.get_or_init(|| Arc::clone(other));
    }

    /// What came of it so far, and of its fallback.
    pub fn progress(&self) -> Progress {
        let mut progress = lock(&self.progress).clone();
        progress.attempts.extend(self.fallback().into_iter().flat_map(|other| other.progress().attempts));
        progress
    }

    /// A digest of all that was known of the endpoints: where it is the same, the same call was decided by the same.
    pub fn state_digest(&self) -> String {
        let mut text = String::new();
        let mut see = |candidate: &Candidate, resting: Option<&Resting>| {
            let rest = resting.map(|resting| (resting.rest, resting.why));
            // A `String` takes every write.
            let _written = writeln!(text, "{candidate} {:?} {rest:?}", candidate.seen);
        };
        self.plan.candidates.iter().for_each(|candidate| see(candidate, None));
        self.plan.resting.iter().for_each(|resting| see(&resting.candidate, Some(resting)));
        let digest = digest(&SHA256, text.as_bytes());
        digest.as_ref().iter().take(DIGEST_BYTES).map(|byte| format!("{byte:02x}")).collect()
    }

    /// This candidate is asked now.
    pub(crate) fn ask(&self, candidate: &Candidate) {
        let (provider, model) = (Arc::clone(&candidate.provider), Arc::clone(&candidate.model));
        lock(&self.progress).attempts.push(Asked { provider, model, result: AskedResult::Open });
    }

    /// One that is asked answers.
    pub(crate) fn answers(&self, candidate: &Candidate) {
        self.is(AskedResult::Open, candidate, AskedResult::Answers);
    }

    /// One that is asked is let go of.
    pub(crate) fn let_go(&self, candidate: &Candidate) {
        self.is(AskedResult::Open, candidate, AskedResult::LetGo);
    }

    /// One that is asked failed.
    pub(crate) fn failed(&self, candidate: &Candidate, failure: &UpstreamFailure) {
        self.is(AskedResult::Open, candidate, AskedResult::from(failure));
    }

    /// The answer of one broke in the middle, and another goes on.
    pub(crate) fn broke(&self, candidate: &Candidate, failure: &UpstreamFailure) {
        self.is(AskedResult::Answers, candidate, AskedResult::from(failure));
    }

    /// Two may be asked at once, but not the same one twice.
    fn is(&self, before: AskedResult, candidate: &Candidate, result: AskedResult) {
        let mut progress = lock(&self.progress);
        let is_it = |asked: &&mut Asked| {
            asked.result == before
                && asked.model == candidate.model
                && asked.provider.name() == candidate.provider.name()
        };
        progress.attempts.iter_mut().rev().find(is_it).into_iter().for_each(|asked| asked.result = result);
    }

    /// The call has ended.
    pub(crate) fn end(&self, outcome: &'static str) {
        lock(&self.progress).outcome = Some(outcome);
    }

    /// Memory that it takes, about. What it shares with the table is not counted, nor its fallback, which comes later and
    /// seldom: the count must be the same when it goes.
    fn bytes(&self) -> usize {
        let Plan { candidates, resting, passed_over, .. } = &self.plan;
        size_of::<Self>()
            + self.model.capacity()
            + candidates.capacity() * size_of::<Candidate>()
            + resting.capacity() * size_of::<Resting>()
            + passed_over.capacity() * size_of::<hoosh_router::PassedOver>()
            // A vector begins with room for four, which are seldom all used.
            + 4 * size_of::<Asked>()
            + KEPT_BYTES
    }
}

impl From<&UpstreamFailure> for AskedResult {
    fn from(failure: &UpstreamFailure) -> Self {
        Self::Failed { kind: failure.kind, status: failure.status }
    }
}

impl fmt::Debug for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decision").field("id", &self.id).field("plan", &self.plan).finish_non_exhaustive()
    }
}

// === impl Decisions ===

impl Decisions {
    /// None yet, and room for [`DECISIONS_MAX`](limits::DECISIONS_MAX).
    pub fn new() -> Self {
        Self::with_room(limits::DECISIONS_MAX, limits::DECISIONS_BYTES_MAX)
    }

    fn with_room(count_max: usize, bytes_max: usize) -> Self {
        Self { count_max, bytes_max, kept: Mutex::default() }
    }

    pub(crate) fn keep(&self, decision: &Arc<Decision>) {
        let mut kept = lock(&self.kept);
        kept.bytes += decision.bytes();
        kept.order.push_back(decision.id.clone());
        kept.by_id.insert(decision.id.clone(), Arc::clone(decision));
        while kept.order.len() > self.count_max || kept.bytes > self.bytes_max {
            let Some(oldest) = kept.order.pop_front() else { break };
            if let Some(gone) = kept.by_id.remove(&oldest) {
                kept.bytes = kept.bytes.saturating_sub(gone.bytes());
            }
        }
    }

    /// What was decided for that call of this caller. Another's is as unknown as none.
    pub fn find(&self, caller: &CallerId, id: &str) -> Option<Arc<Decision>> {
        let found = lock(&self.kept).by_id.get(id).cloned();
        found.filter(|decision| decision.caller == *caller)
    }

    /// What was decided for the latest calls of this caller, at most so many, in the order they were made.
    pub fn latest(&self, caller: &CallerId, most: usize) -> Vec<Arc<Decision>> {
        let kept = lock(&self.kept);
        let own =
            kept.order.iter().rev().filter_map(|id| kept.by_id.get(id)).filter(|one| one.caller == *caller);
        let mut latest: Vec<_> = own.take(most).cloned().collect();
        latest.reverse();
        latest
    }

    /// Whether the decision for a call is kept.
    pub fn has(&self, id: &RequestId) -> bool {
        lock(&self.kept).by_id.contains_key(id)
    }
}

impl Default for Decisions {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Decisions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Decisions({} kept)", lock(&self.kept).order.len())
    }
}

/// What is behind it is whole at any time.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::needs;
    use bytes::Bytes;
    use hoosh_core::ProviderType;
    use hoosh_providers::{HttpProvider, ProviderSettings};
    use hoosh_router::Router;

    fn decided(caller: &str) -> Arc<Decision> {
        let provider = HttpProvider::new(ProviderSettings::new(ProviderType::Ollama)).unwrap();
        let router = Router::builder().provider(Arc::new(provider)).build().unwrap();
        let body = Bytes::from_static(br#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#);
        let call = Call::read(RequestId::new(), CallerId::new(caller), Dialect::OpenAiChat, body).unwrap();
        let query = needs::query(&call);
        let plan = router.plan(&query).unwrap();
        Arc::new(Decision::new(&call, &query, plan, None))
    }

    #[test]
    fn a_decision_is_its_callers_alone() {
        let (decisions, decision) = (Decisions::new(), decided("one"));
        decisions.keep(&decision);
        let id = decision.id.as_str();
        assert!(decisions.has(&decision.id) && decisions.find(&CallerId::new("one"), id).is_some());
        assert!(decisions.find(&CallerId::new("other"), id).is_none());
        assert!(decisions.find(&CallerId::new("one"), "req_0").is_none());

        let later: Vec<_> = ["other", "one", "one"].map(decided).into();
        later.iter().for_each(|one| decisions.keep(one));
        let latest = |caller: &str, most| -> Vec<RequestId> {
            decisions.latest(&CallerId::new(caller), most).iter().map(|one| one.id.clone()).collect()
        };
        assert_eq!(latest("one", 2), [later[1].id.clone(), later[2].id.clone()], "the older first");
        assert_eq!((latest("one", 9).len(), latest("other", 9).len(), latest("nobody", 9).len()), (3, 1, 0));
    }

    #[test]
    fn the_oldest_goes_where_there_is_no_room() {
        let all: Vec<_> = (0..4).map(|_| decided("c")).collect();
        let left = |decisions: &Decisions| -> Vec<bool> {
            all.iter().for_each(|decision| decisions.keep(decision));
            all.iter().map(|decision| decisions.has(&decision.id)).collect()
        };
        let of_two = Decisions::with_room(2, usize::MAX);
        assert_eq!(left(&of_two), [false, false, true, true]);
        assert_eq!(lock(&of_two.kept).bytes, all[2].bytes() + all[3].bytes());
        assert_eq!(left(&Decisions::with_room(9, all[0].bytes() * 3)), [false, true, true, true]);
        assert_eq!(left(&Decisions::with_room(9, 1)), [false; 4]);
    }

    #[test]
    fn what_came_of_it_is_told_in_order() {
        let decision = decided("c");
        let one = &decision.plan.candidates[0];
        decision.answers(one); // nobody was asked: nothing to say it of
        decision.ask(one);
        decision.failed(one, &UpstreamFailure::from_status(500, None, "secret words"));
        decision.ask(one);
        decision.answers(one);
        decision.end("answered");
        let Progress { attempts, outcome } = decision.progress();
        let results: Vec<AskedResult> = attempts.iter().map(|asked| asked.result).collect();
        let failed = AskedResult::Failed { kind: FailureKind::Failed, status: Some(500) };
        assert_eq!((results, outcome), (vec![failed, AskedResult::Answers], Some("answered")));
        assert!(!format!("{decision:?} {attempts:?}").contains("secret"));
        assert_eq!(decision.state_digest().len(), 2 * DIGEST_BYTES);
    }
}
