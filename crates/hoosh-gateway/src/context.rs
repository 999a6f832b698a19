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

use hoosh_core::dialect::Operation;
use hoosh_core::{
    Compression, ContextPolicy, FailureKind, InferenceRequest, Message, Modality, UpstreamFailure, limits,
};
use hoosh_router::{Candidate, Objection};

use self::cut::{Cut, Room};
pub(crate) use self::summary::{message, text_of, wanted};
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
struct Rule<'a> {
    policy: ContextPolicy,
    kept_turns: usize,
    compress: &'a [Compression],
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
    (counted.at_least() > window).then(|| Objection::TooLong { tokens: counted.total(), window })
}

/// Brings the prompt of a call into what a candidate reads.
///
/// # Errors
///
/// What must stay is too long for it.
pub(crate) fn fit(call: &Call, candidate: &Candidate) -> Result<Fit, UpstreamFailure> {
    match Rule::of(call, candidate) {
        // One that refuses has been judged before, unless the prompt is made shorter first.
        Some(rule) if rule.policy != ContextPolicy::Refuse || !rule.compress.is_empty() => {
            fit_by(call, candidate, &rule)
        }
        _ => Ok(Fit::AsItIs),
    }
}

/// The same where no summary was to be had.
///
/// # Errors
///
/// As [`fit`].
pub(crate) fn without_summary(call: &Call, candidate: &Candidate) -> Result<Fit, UpstreamFailure> {
    let Some(rule) = Rule::of(call, candidate) else { return Ok(Fit::AsItIs) };
    let mut fit = fit_by(call, candidate, &Rule { policy: ContextPolicy::DropOldest, ..rule })?;
    if let Fit::Edited(edited) = &mut fit {
        edited.receipt.instead_of = Some(ContextPolicy::Summarise);
    }
    Ok(fit)
}

fn fit_by(call: &Call, candidate: &Candidate, rule: &Rule<'_>) -> Result<Fit, UpstreamFailure> {
    let room = room(call, candidate);
    if rule.compress.is_empty() && room.is_none_or(|room| !may_exceed(call, room)) {
        return Ok(Fit::AsItIs);
    }
    // One that cannot be read goes as it is, or is refused by whoever reads it.
    let Ok(asked) = call.decoded() else { return Ok(Fit::AsItIs) };
    let model = &*candidate.model;
    let counted = count::by_message(model, asked);
    let before = counted.total();
    let is_long = |counted: &Counted| room.filter(|room| counted.total() > *room);
    if rule.compress.is_empty() && is_long(&counted).is_none() {
        return Ok(Fit::AsItIs);
    }
    let mut request = asked.clone();
    let mut compressed = compress::compress(&mut request, rule.compress);
    let counted = if compressed == 0 { counted } else { count::by_message(model, &request) };
    let receipt = |removed, compressed, tokens| ContextReceipt {
        policy: rule.policy,
        instead_of: None,
        removed,
        compressed,
        tokens,
        before,
        room,
    };
    let Some(most) = is_long(&counted) else {
        let receipt = receipt(0, compressed, counted.total());
        return Ok(if compressed == 0 {
            Fit::AsItIs
        } else {
            Fit::Edited(Box::new(Edited { request, receipt }))
        });
    };
    if rule.policy == ContextPolicy::Refuse {
        // What may fit is the provider's to judge, who counts better.
        let window = candidate.window().filter(|window| counted.at_least() > *window);
        return match window {
            Some(window) => Err(too_long(counted.total(), window, "the prompt has")),
            None if compressed == 0 => Ok(Fit::AsItIs),
            None => {
                let receipt = receipt(0, compressed, counted.total());
                Ok(Fit::Edited(Box::new(Edited { request, receipt })))
            }
        };
    }
    // A note must not point to what is left out. Elsewhere that cannot be: the oldest go first, and notes point to later ones.
    let counted = if rule.policy == ContextPolicy::MiddleOut && compressed > 0 {
        request.messages.clone_from(&asked.messages);
        count::by_message(model, &request)
    } else {
        counted
    };
    let summary = (rule.policy == ContextPolicy::Summarise).then(|| limits::SUMMARY_TOKENS_MAX.min(most / 4));
    let summary = summary.filter(|tokens| *tokens >= limits::SUMMARY_TOKENS_MIN);
    let room_for = |most| Room {
        messages: &counted.messages,
        rest: counted.rest,
        asks_after: !request.prompt.is_empty(),
        most,
    };
    let cut = |most| cut::cut(&request.messages, rule.policy, rule.kept_turns, room_for(most));
    let room_left = most.saturating_sub(summary.unwrap_or(0));
    // A summary is no reason to fail.
    let (cut, summary) = match cut(room_left) {
        Ok(cut) => (cut, summary),
        Err(_) if summary.is_some() => {
            let least = cut(most).map_err(|least| too_long(least, most, MUST_STAY))?;
            (least, None)
        }
        Err(least) => return Err(too_long(least, most, MUST_STAY)),
    };
    let Cut { messages: gone, mut tokens } = cut;
    let at = gone.first().copied().unwrap_or(0);
    let messages = take(&mut request.messages, &gone);
    if rule.policy == ContextPolicy::MiddleOut && compressed > 0 {
        compressed = compress::compress(&mut request, rule.compress);
        tokens = count::by_message(model, &request).total();
    }
    let instead = (rule.policy == ContextPolicy::Summarise && summary.is_none()).then_some(rule.policy);
    let receipt = ContextReceipt {
        policy: if instead.is_some() { ContextPolicy::DropOldest } else { rule.policy },
        instead_of: instead,
        ..receipt(messages.len(), compressed, tokens)
    };
    let edited = Box::new(Edited { request, receipt });
    Ok(match summary {
        Some(tokens) => Fit::Gap(edited, Gap { messages, at, tokens }),
        None => Fit::Edited(edited),
    })
}

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

/// Whether a prompt could have more tokens than that. A token takes a byte at least; only pictures can be a name alone.
fn may_exceed(call: &Call, tokens: u64) -> bool {
    call.body.len() as u64 > tokens
        || call.history().is_some()
        || needs::modalities(&call.body).contains(Modality::Image)
}

/// The candidate is not asked, and another one may read more.
fn too_long(tokens: u64, room: u64, what: &str) -> UpstreamFailure {
    let message = format!(
        "{what} about {tokens} tokens, and the model has room for {room}; shorten it, or ask for fewer `max_tokens`"
    );
    UpstreamFailure::new(FailureKind::ContextLength, message)
}

// === impl Rule ===

impl<'a> Rule<'a> {
    /// `None` where nothing is said, or where there is no conversation to shorten.
    fn of(call: &Call, candidate: &'a Candidate) -> Option<Self> {
        if !is_said(call, candidate) || call.dialect.operation() != Operation::Inference {
            return None;
        }
        let (wish, route) = (call.context, candidate.context.as_deref());
        let policy = wish.map(|wish| wish.policy).or(route.and_then(|route| route.policy));
        let kept = wish.and_then(|wish| wish.keep_last).or(route.and_then(|route| route.keep_last));
        Some(Self {
            policy: policy.unwrap_or_default(),
            kept_turns: kept.unwrap_or(limits::KEPT_TURNS) as usize,
            compress: route.and_then(|route| route.compress.as_deref()).unwrap_or_default(),
        })
    }
}

// === impl Edited ===

impl Edited {
    /// Puts the message with the summary into the gap.
    pub(crate) fn fill(&mut self, gap: &Gap, summary: Message, tokens: u64) {
        self.request.messages.insert(gap.at.min(self.request.messages.len()), summary);
        self.receipt.tokens += tokens;
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
