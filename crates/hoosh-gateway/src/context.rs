//! Prompts that are longer than what a model reads: whether one is, and what is done about it.
//!
//! A prompt is counted only where its route or its caller says something of lengths, and then only if its bytes could be more
//! tokens than the model reads. Whoever is asked first decides: the same call may be shortened for one candidate and not for
//! the next. What is sent is then another request than the body, so it goes through core's types to any provider, and the
//! answer back; what is kept for `previous_response_id` is the whole conversation all the same.
//!
//! Everything here is a function of the call and the candidate ([`cut`], [`compress`]); asking for a summary is the gateway's
//! part, with the [`Gap`] that it is for.

mod compress;
mod cut;
mod summary;

use std::fmt;
use std::panic::resume_unwind;
use std::sync::{Arc, LazyLock};

use hoosh_core::dialect::{Dialect, Operation};
use hoosh_core::{
    Compression, ContextPolicy, FailureKind, InferenceRequest, InvalidRequest, Message, Modality, Part, Role,
    UpstreamFailure, limits,
};
use hoosh_router::{Candidate, Objection};
use memchr::memmem::Finder;
use tokio::task::spawn_blocking;

use self::cut::{Cut, Room};
pub(crate) use self::summary::{text_of, thinks, wanted};
use crate::call::Call;
use crate::count::{self, Counted};
use crate::needs;

/// What was done to a prompt so that a model could read it. Its `Display` is the header `x-hoosh-context`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextReceipt {
    /// By which policy.
    pub policy: ContextPolicy,
    /// The policy that was to be followed and could not be: no summary was to be had.
    pub instead_of: Option<ContextPolicy>,
    /// Messages left out.
    pub removed: usize,
    /// Texts that were made shorter.
    pub compressed: usize,
    /// Tokens of the prompt as it was sent, about.
    pub tokens: u64,
    /// Tokens that it had before, about.
    pub before: u64,
    /// Tokens that there was room for, those of the answer not among them. `None`: what the model reads is not known.
    pub room: Option<u64>,
}

/// A request that is sent in the place of the call's own.
#[derive(Debug)]
pub(crate) struct Edited {
    pub(crate) request: InferenceRequest,
    pub(crate) receipt: ContextReceipt,
}

/// Where turns were left out that a summary is to stand for.
#[derive(Debug)]
pub(crate) struct Gap {
    /// What was left out, in order.
    pub(crate) messages: Vec<Message>,
    /// Before which of the messages that stay.
    at: usize,
    /// Most tokens that the message with the summary may have.
    pub(crate) tokens: u64,
}

/// What is done for one candidate.
#[derive(Debug)]
pub(crate) enum Fit {
    /// Nothing: the call goes as it came.
    AsItIs,
    /// Another request is sent.
    Edited(Box<Edited>),
    /// Another request is sent, once a summary stands in its gap; without one, turns are left out by [`without_summary`].
    Gap(Box<Edited>, Gap),
}

/// What holds for a call and a candidate. The caller's word counts, then the route's.
struct Rule {
    policy: ContextPolicy,
    kept_turns: usize,
    compress: Vec<Compression>,
}

/// All that it takes to bring a prompt into what a candidate reads, so that it can be done anywhere.
struct Fitting {
    asked: Arc<Result<InferenceRequest, InvalidRequest>>,
    model: Arc<str>,
    rule: Rule,
    /// Tokens of the prompt that there is room for.
    room: Option<u64>,
    /// Tokens that the model reads, those of its answer among them.
    window: Option<u64>,
}

/// Whether anything is said of lengths for a call at a candidate: most have nothing, and no more is asked of them.
pub(crate) fn is_said(call: &Call, candidate: &Candidate) -> bool {
    call.context.is_some() || candidate.context.as_ref().is_some_and(|rule| rule.acts())
}

/// What stands against asking a candidate that refuses what is too long. Only what surely is counts.
pub(crate) fn objection(call: &Call, candidate: &Candidate) -> Option<Objection> {
    if call.dialect.operation() != Operation::Inference {
        return None;
    }
    let window = candidate.refuses_above(call.context.map(|wish| wish.policy))?;
    if !may_exceed(call, window) {
        return None;
    }
    // A body that cannot be read is told by the attempt.
    let counted = count::by_message(&candidate.model, call.decoded().ok()?);
    (counted.at_least > window).then(|| Objection::TooLong { tokens: counted.total(), window })
}

/// Brings the prompt of a call into what a candidate reads.
///
/// # Errors
///
/// What must stay is surely too long for it.
///
/// # Cancel safety
///
/// Dropping it leaves nothing behind, but for a long prompt that is being cut, which is let finish.
pub(crate) async fn fit(call: &Call, candidate: &Candidate) -> Result<Fit, UpstreamFailure> {
    match Rule::of(call, candidate) {
        // One that refuses has been judged before, unless the prompt is made shorter first.
        Some(rule) if rule.policy != ContextPolicy::Refuse || !rule.compress.is_empty() => {
            fit_by(call, candidate, rule).await
        }
        _ => Ok(Fit::AsItIs),
    }
}

/// The same where no summary was to be had.
///
/// # Errors
///
/// As [`fit`].
pub(crate) async fn without_summary(call: &Call, candidate: &Candidate) -> Result<Fit, UpstreamFailure> {
    let Some(rule) = Rule::of(call, candidate) else { return Ok(Fit::AsItIs) };
    let mut fit = fit_by(call, candidate, Rule { policy: ContextPolicy::DropOldest, ..rule }).await?;
    if let Fit::Edited(edited) = &mut fit {
        edited.receipt.instead_of = Some(ContextPolicy::Summarise);
    }
    Ok(fit)
}

async fn fit_by(call: &Call, candidate: &Candidate, rule: Rule) -> Result<Fit, UpstreamFailure> {
    let (room, window) = (room(call, candidate), candidate.window());
    if rule.compress.is_empty() && room.is_none_or(|room| !may_exceed(call, room)) {
        return Ok(Fit::AsItIs);
    }
    let (asked, model) = (Arc::clone(call.decoded_shared()), Arc::clone(&candidate.model));
    let fitting = Fitting { asked, model, rule, room, window };
    let bytes = call.body.len() + call.history().map_or(0, |history| history.bytes());
    if bytes <= limits::FITTED_AT_ONCE_BYTES_MAX {
        return fitting.fit();
    }
    spawn_blocking(move || fitting.fit()).await.unwrap_or_else(|error| match error.try_into_panic() {
        Ok(panic) => resume_unwind(panic),
        Err(_) => Err(UpstreamFailure::new(FailureKind::Unsupported, "the gateway is stopping")),
    })
}

/// What a reference to a piece of an answer that is kept here holds.
static REFERENCE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"item_reference\""));

const MUST_STAY: &str = "instructions, tools and the last turn alone have";

/// Takes these out, which are in order.
fn take(messages: &mut Vec<Message>, gone: &[usize]) -> Vec<Message> {
    let (mut taken, mut at) = (Vec::with_capacity(gone.len()), 0);
    messages.retain(|message| {
        let goes = gone.binary_search(&at).is_ok();
        at += 1;
        if goes {
            taken.push(message.clone());
        }
        !goes
    });
    taken
}

/// Tokens of a prompt that there is room for, those of the answer not among them. `None`: what the model reads is not known.
fn room(call: &Call, candidate: &Candidate) -> Option<u64> {
    candidate.prompt_max(call.head.max_tokens.unwrap_or(limits::ANSWER_TOKENS_LEFT))
}

/// Whether a prompt could have more tokens than that. A token takes a byte at least; only pictures and what is kept here can be
/// a name alone.
fn may_exceed(call: &Call, tokens: u64) -> bool {
    let refers = || call.dialect == Dialect::OpenAiResponses && REFERENCE.find(&call.body).is_some();
    call.body.len() as u64 > tokens
        || call.history().is_some()
        || refers()
        || needs::modalities(&call.body).contains(Modality::Image)
}

/// The candidate is not asked, and another one may read more.
fn too_long(tokens: u64, window: u64, what: &str) -> UpstreamFailure {
    let message = format!("{what} about {tokens} tokens, and the model reads at most {window}; shorten it");
    UpstreamFailure::new(FailureKind::ContextLength, message)
}

// === impl Rule ===

impl Rule {
    /// `None` where nothing is said, or where there is no conversation to shorten.
    fn of(call: &Call, candidate: &Candidate) -> Option<Self> {
        if !is_said(call, candidate) || call.dialect.operation() != Operation::Inference {
            return None;
        }
        let (wish, route) = (call.context, candidate.context.as_deref());
        let policy = wish.map(|wish| wish.policy).or(route.and_then(|route| route.policy));
        let kept = wish.and_then(|wish| wish.keep_last).or(route.and_then(|route| route.keep_last));
        Some(Self {
            policy: policy.unwrap_or_default(),
            kept_turns: kept.unwrap_or(limits::KEPT_TURNS) as usize,
            compress: route.and_then(|route| route.compress.clone()).unwrap_or_default(),
        })
    }
}

// === impl Fitting ===

impl Fitting {
    fn fit(self) -> Result<Fit, UpstreamFailure> {
        // One that cannot be read goes as it is, or is refused by whoever reads it.
        let Ok(asked) = &*self.asked else { return Ok(Fit::AsItIs) };
        let (model, ways) = (&*self.model, &*self.rule.compress);
        let counted = count::by_message(model, asked);
        let before = counted.total();
        let is_long = |counted: &Counted| self.room.filter(|room| counted.total() > *room);
        if ways.is_empty() && is_long(&counted).is_none() {
            return Ok(Fit::AsItIs);
        }
        let mut request = asked.clone();
        let compressed = compress::compress(&mut request, ways);
        let as_it_came = counted;
        let now = (compressed > 0).then(|| count::by_message(model, &request));
        let counted = now.as_ref().unwrap_or(&as_it_came);
        let receipt = |removed, compressed, tokens| ContextReceipt {
            policy: self.rule.policy,
            instead_of: None,
            removed,
            compressed,
            tokens,
            before,
            room: self.room,
        };
        let most = is_long(counted);
        let Some(most) = most.filter(|_| self.rule.policy != ContextPolicy::Refuse) else {
            // What may fit is the provider's to judge, who counts better.
            if most.is_some() {
                self.judge(counted, "the prompt has")?;
            }
            let receipt = receipt(0, compressed, counted.total());
            return Ok(Edited { request, receipt }.into());
        };
        let summarises = self.rule.policy == ContextPolicy::Summarise;
        let summary = summarises.then(|| limits::SUMMARY_TOKENS_MAX.min(most / 4));
        let summary = summary.filter(|tokens| *tokens >= limits::SUMMARY_TOKENS_MIN);
        let (Cut { messages: cut, mut tokens }, summary) = self.cut(asked, &as_it_came, most, summary);
        let at = cut.first().copied().unwrap_or(0);
        if compressed > 0 {
            // From the originals, since a note must not point to what is left out.
            request.clone_from(asked);
        }
        let messages = take(&mut request.messages, &cut);
        let compressed = compress::compress(&mut request, ways);
        if compressed > 0 || tokens > most {
            let counted = count::by_message(model, &request);
            tokens = counted.total();
            if tokens > most {
                self.judge(&counted, MUST_STAY)?;
            }
        }
        let instead = (summarises && summary.is_none()).then_some(ContextPolicy::Summarise);
        let receipt = ContextReceipt {
            policy: if instead.is_some() { ContextPolicy::DropOldest } else { self.rule.policy },
            instead_of: instead,
            ..receipt(messages.len(), compressed, tokens)
        };
        let edited = Edited { request, receipt };
        Ok(match summary {
            Some(tokens) => Fit::Gap(Box::new(edited), Gap { messages, at, tokens }),
            None => edited.into(),
        })
    }

    /// What goes, and the tokens of the summary that stands for it, if there is room for one: it is no reason to fail.
    fn cut(
        &self,
        asked: &InferenceRequest,
        as_it_came: &Counted,
        most: u64,
        summary: Option<u64>,
    ) -> (Cut, Option<u64>) {
        // Blanks go whatever else goes.
        let stripped = self.rule.compress.contains(&Compression::Whitespace).then(|| {
            let mut stripped = asked.clone();
            compress::strip_blanks(&mut stripped, &self.rule.compress);
            let counted = count::by_message(&self.model, &stripped);
            (stripped, counted)
        });
        let (request, counted) =
            stripped.as_ref().map_or((asked, as_it_came), |(stripped, counted)| (stripped, counted));
        let (messages, rest, asks_after) = (&*counted.messages, counted.rest, !request.prompt.is_empty());
        let Rule { policy, kept_turns, .. } = self.rule;
        let cut =
            |most| cut::cut(&request.messages, policy, kept_turns, Room { messages, rest, asks_after, most });
        if let Some(tokens) = summary {
            let cut = cut(most - tokens);
            if cut.tokens <= most - tokens {
                return (cut, summary);
            }
        }
        (cut(most), None)
    }

    /// Refuses what surely is too long. What may fit is the provider's to judge, who counts better.
    fn judge(&self, counted: &Counted, what: &str) -> Result<(), UpstreamFailure> {
        match self.window.filter(|window| counted.at_least > *window) {
            Some(window) => Err(too_long(counted.total(), window, what)),
            None => Ok(()),
        }
    }
}

// === impl Edited ===

impl Edited {
    /// Puts a summary into the gap: into the question that follows, or the one before. Some models' templates refuse two
    /// messages of the person's in a row.
    pub(crate) fn fill(&mut self, gap: &Gap, summary: &str, model: &str) {
        let said = summary::said(summary, gap, model);
        let messages = &mut self.request.messages;
        let at = gap.at.min(messages.len());
        let is_question = |at: &usize| messages.get(*at).is_some_and(cut::is_question);
        let follows = (at..messages.len()).find(|at| !cut::is_instruction(&messages[*at]));
        let precedes = (0..at).rfind(|at| !cut::is_instruction(&messages[*at]));
        let (into, part) = match (follows.filter(is_question), precedes.filter(is_question)) {
            (Some(question), _) => (Some(question), Part::text(said + "\n\n")),
            (None, Some(question)) => (Some(question), Part::text(format!("\n\n{said}"))),
            (None, None) => (None, Part::text(said)),
        };
        let Some(question) = into else {
            let message = Message::new(Role::User, vec![part]);
            self.receipt.tokens += count::message(model, &message);
            messages.insert(at, message);
            return;
        };
        let message = &mut messages[question];
        let before = count::message(model, message);
        let place = if question < at { message.parts.len() } else { 0 };
        message.parts.insert(place, part);
        self.receipt.tokens = (self.receipt.tokens + count::message(model, message)).saturating_sub(before);
    }
}

impl From<Edited> for Fit {
    fn from(edited: Edited) -> Self {
        match edited.receipt {
            ContextReceipt { removed: 0, compressed: 0, .. } => Self::AsItIs,
            _ => Self::Edited(Box::new(edited)),
        }
    }
}

// === impl ContextReceipt ===

impl fmt::Display for ContextReceipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "policy={}", self.policy.as_str())?;
        if let Some(policy) = self.instead_of {
            write!(f, "; instead_of={}", policy.as_str())?;
        }
        write!(f, "; removed={}", self.removed)?;
        if self.compressed > 0 {
            write!(f, "; compressed={}", self.compressed)?;
        }
        write!(f, "; tokens={}; before={}", self.tokens, self.before)?;
        match self.room {
            Some(room) => write!(f, "; room={room}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
