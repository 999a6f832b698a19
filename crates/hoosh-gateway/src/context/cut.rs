//! Which messages of a conversation go, so that the rest fits.
//!
//! What may go is a *piece*: the question that begins a turn, or a round of it, which is what the model said with the results
//! of the tools that it called. A call and its result are never in two pieces. Instructions belong to none and stay, and so
//! do the last question and the last round. What stays begins with a question, as some vendors want it: the question of a
//! turn goes with the last of its rounds.

use std::collections::HashMap;
use std::ops::Range;

use hoosh_core::{ContextPolicy, Message, PartKind, Role};

/// How many tokens there are, and how many there may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room<'a> {
    /// Tokens of each message.
    pub(super) messages: &'a [u64],
    /// Tokens of everything else.
    pub(super) rest: u64,
    /// Whether the last question stands behind the messages.
    pub(super) asks_after: bool,
    /// Tokens there may be in all.
    pub(super) most: u64,
}

/// What goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cut {
    /// Which messages, in their order.
    pub(super) messages: Vec<usize>,
    /// Tokens of all that stays.
    pub(super) tokens: u64,
}

/// Pieces that go together: a result may stand in another than its call.
///
/// Made in one pass over the messages: a caller may send a million of them.
struct Pieces {
    /// Of each whether it is a question, and no round.
    asks: Vec<bool>,
    /// The piece that each goes with, itself or an earlier one.
    with: Vec<usize>,
    /// The messages of all that go with a piece, in their order; none where it goes with an earlier one.
    messages: Vec<Vec<usize>>,
    /// The pieces of each turn, one behind the other.
    turns: Vec<Range<usize>>,
}

/// What goes by a policy; of one that keeps the last turns, so many. Where that is not enough, all that may go goes.
pub(super) fn cut(messages: &[Message], policy: ContextPolicy, kept_turns: usize, room: Room<'_>) -> Cut {
    let pieces = Pieces::of(messages);
    let stays = pieces.staying(room.asks_after);
    let mut gone = vec![false; pieces.asks.len()];
    let mut tokens = room.rest + room.messages.iter().sum::<u64>();
    for step in pieces.steps(policy, kept_turns, room.asks_after) {
        if tokens <= room.most && !step.anyway {
            break;
        }
        let roots: Vec<usize> = step.pieces.iter().map(|piece| pieces.with[*piece]).collect();
        if roots.iter().any(|root| stays[*root]) {
            continue;
        }
        for root in roots {
            if !std::mem::replace(&mut gone[root], true) {
                let indices = pieces.messages[root].iter();
                tokens -= indices.map(|index| room.messages.get(*index).copied().unwrap_or(0)).sum::<u64>();
            }
        }
    }
    let roots = (0..gone.len()).filter(|root| gone[*root]);
    let mut messages: Vec<usize> = roots.flat_map(|root| pieces.messages[root].iter().copied()).collect();
    messages.sort_unstable();
    Cut { messages, tokens }
}

/// Where the last turn begins: its question, or the end where that stands behind the messages.
pub(super) fn last_question(messages: &[Message]) -> usize {
    let is_question = |index: &usize| is_question(&messages[*index]);
    let Some(last) = (0..messages.len()).rfind(is_question) else { return messages.len() };
    // Several messages of the person's in a row are one question.
    let before = (0..last).rfind(|index| !is_question(index) && !is_instruction(&messages[*index]));
    let begin = before.map_or(0, |before| before + 1);
    (begin..=last).find(is_question).unwrap_or(last)
}

pub(super) fn is_instruction(message: &Message) -> bool {
    matches!(message.role, Role::System | Role::Developer)
}

pub(super) fn is_question(message: &Message) -> bool {
    let is_result = |kind: &PartKind| matches!(kind, PartKind::ToolResult(_));
    message.role == Role::User && !message.parts.iter().any(|part| is_result(&part.kind))
}

/// Pieces that go in one step, if they are needed.
struct Step {
    pieces: Vec<usize>,
    /// Whether they go although what is left would fit.
    anyway: bool,
}

// === impl Pieces ===

impl Pieces {
    fn of(messages: &[Message]) -> Self {
        let mut questions = Vec::new();
        let mut turns: Vec<Range<usize>> = Vec::new();
        let mut piece_of = vec![None; messages.len()];
        let mut before = None;
        for (index, message) in messages.iter().enumerate().filter(|(_, message)| !is_instruction(message)) {
            let (asks, said) = (is_question(message), message.role == Role::Assistant);
            let begins_turn = asks && before != Some(Role::User);
            // What the model said in several messages in a row is one round.
            let begins_round = said && before != Some(Role::Assistant);
            if questions.is_empty() || begins_turn || begins_round {
                if turns.is_empty() || begins_turn {
                    turns.push(questions.len()..questions.len());
                }
                questions.push(asks);
                turns.last_mut().into_iter().for_each(|turn| turn.end = questions.len());
            }
            piece_of[index] = Some(questions.len() - 1);
            // A message of results is none of the person's.
            before = Some(if message.role == Role::User && !asks { Role::Tool } else { message.role });
        }
        let mut with: Vec<usize> = (0..questions.len()).collect();
        for (call, result) in pairs(messages) {
            let (Some(one), Some(other)) = (piece_of[call], piece_of[result]) else { continue };
            let (one, other) = (root(&mut with, one), root(&mut with, other));
            with[one.max(other)] = one.min(other);
        }
        // Those before it are done when it is their turn.
        (0..with.len()).for_each(|at| with[at] = with[with[at]]);
        let mut gathered = vec![Vec::new(); questions.len()];
        for (index, piece) in piece_of.into_iter().enumerate() {
            piece.into_iter().for_each(|piece: usize| gathered[with[piece]].push(index));
        }
        Self { asks: questions, with, messages: gathered, turns }
    }

    /// Which stay whatever happens, by what they go with.
    fn staying(&self, asks_after: bool) -> Vec<bool> {
        let mut stays = vec![false; self.asks.len()];
        if !asks_after && let Some(last) = self.asks.len().checked_sub(1) {
            stays[self.with[last]] = true;
            let question = self.last_turn().find(|piece| self.asks[*piece]);
            question.into_iter().for_each(|question| stays[self.with[question]] = true);
        }
        stays
    }

    /// The pieces of the last turn.
    fn last_turn(&self) -> Range<usize> {
        self.turns.last().cloned().unwrap_or_default()
    }

    /// The pieces of a turn that can go one after the other, the question with the last of them.
    fn of_turn(&self, turn: usize) -> Vec<Vec<usize>> {
        let pieces = self.turns.get(turn).cloned().unwrap_or_default();
        let (questions, mut rounds): (Vec<usize>, Vec<usize>) = pieces.partition(|at| self.asks[*at]);
        let last = questions.into_iter().chain(rounds.pop()).collect();
        rounds.into_iter().map(|round| vec![round]).chain([last]).collect()
    }

    /// The rounds of the last turn but its last.
    fn of_last_turn(&self) -> Vec<Vec<usize>> {
        let mut rounds: Vec<usize> = self.last_turn().filter(|at| !self.asks[*at]).collect();
        rounds.pop();
        rounds.into_iter().map(|round| vec![round]).collect()
    }

    /// What goes, in this order, until the rest fits.
    fn steps(&self, policy: ContextPolicy, kept_turns: usize, asks_after: bool) -> Vec<Step> {
        // With the question behind them, all turns are earlier ones.
        let turns = self.turns.len();
        let earlier = if asks_after { turns } else { turns.saturating_sub(1) };
        let step = |pieces, anyway| Step { pieces, anyway };
        let last = || if asks_after { Vec::new() } else { self.of_last_turn() };
        let oldest = |from: usize| {
            let turns = (from..earlier).flat_map(|turn| self.of_turn(turn));
            turns.chain(last()).map(move |pieces| step(pieces, false))
        };
        match policy {
            ContextPolicy::Refuse => Vec::new(),
            ContextPolicy::DropOldest | ContextPolicy::Summarise => oldest(0).collect(),
            ContextPolicy::KeepLast => {
                let kept = kept_turns.saturating_sub(1);
                let first = earlier.saturating_sub(kept);
                let dropped = (0..first).flat_map(|turn| self.of_turn(turn)).map(|pieces| step(pieces, true));
                dropped.chain(oldest(first)).collect()
            }
            ContextPolicy::MiddleOut => {
                let whole = |turn: usize| self.of_turn(turn).concat();
                // Of a single turn its first round stays, of several the first turn.
                let rounds = last().into_iter().skip(usize::from(earlier == 0));
                let all: Vec<Vec<usize>> = (1..earlier).map(whole).chain(rounds).collect();
                let mut order: Vec<usize> = (0..all.len()).collect();
                order.sort_by_key(|at| (2 * at + 1).abs_diff(all.len()));
                order.into_iter().map(|at| step(all[at].clone(), false)).collect()
            }
        }
    }
}

/// What a piece goes with so far. The ways are made shorter by the looks along them.
fn root(with: &mut [usize], piece: usize) -> usize {
    let mut at = piece;
    while with[at] != at {
        with[at] = with[with[at]];
        at = with[at];
    }
    at
}

/// Each result of a tool with its call, by their messages: the last call of that name before it, since names come again.
fn pairs(messages: &[Message]) -> Vec<(usize, usize)> {
    let (mut last, mut pairs) = (HashMap::new(), Vec::new());
    for (at, message) in messages.iter().enumerate() {
        for part in &message.parts {
            if let PartKind::ToolCall(call) = &part.kind {
                last.insert(call.id.as_str(), at);
            }
        }
        for part in &message.parts {
            if let PartKind::ToolResult(result) = &part.kind
                && !result.call_id.is_empty()
                && let Some(call) = last.get(result.call_id.as_str())
            {
                pairs.push((*call, at));
            }
        }
    }
    pairs
}

#[cfg(test)]
mod tests;
