//! Names of calls. Gemini leaves them out as often as not, and the other dialects tie results to calls by them.
//!
//! A name made up here is the same whenever the same is read, and is not sent to Gemini again.

use std::collections::VecDeque;

use crate::limits;

/// Begins every name that was made up here.
const MADE_UP: &str = "call_g_";

/// Longest part of an answer's name that a call's is made of: OpenAI takes calls' names of 40 characters.
const ANSWER_NAME_MAX: usize = 24;

/// Whether the vendor never saw that name.
pub(super) fn is_made_up(id: &str) -> bool {
    id.starts_with(MADE_UP)
}

/// A name for a call of an answer, unique in a conversation if the answer's is.
pub(super) fn name_in_answer(answer: &str, choice: u32, call: u32) -> String {
    let plain = |char: &char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-');
    let answer: String = answer.chars().filter(plain).take(ANSWER_NAME_MAX).collect();
    match choice {
        0 => format!("{MADE_UP}{answer}_{call}"),
        choice => format!("{MADE_UP}{answer}_{choice}_{call}"),
    }
}

/// The calls of a conversation as it is read, and which of them wait for their results.
#[derive(Default)]
pub(super) struct Ledger {
    made_up: u32,
    open: VecDeque<(String, String)>,
}

impl Ledger {
    /// The name of a call of this tool.
    pub(super) fn call(&mut self, id: Option<String>, tool: &str) -> String {
        let id = id.unwrap_or_else(|| {
            self.made_up += 1;
            format!("{MADE_UP}{}", self.made_up)
        });
        self.open.push_back((tool.to_owned(), id.clone()));
        if self.open.len() > limits::TOOL_CALLS_MAX {
            self.open.pop_front();
        }
        id
    }

    /// The name of the call that a result of this tool is for: without one, the first that waits for a result of it.
    pub(super) fn result(&mut self, id: Option<String>, tool: &str) -> String {
        let at = self.open.iter().position(|(name, open)| match &id {
            Some(id) => open == id,
            None => name == tool,
        });
        let found = at.and_then(|at| self.open.remove(at)).map(|(_, id)| id);
        id.or(found).unwrap_or_else(|| tool.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_find_their_calls() {
        let mut ledger = Ledger::default();
        let first = ledger.call(None, "f");
        let second = ledger.call(None, "g");
        let third = ledger.call(None, "f");
        let named = ledger.call(Some("x".into()), "f");
        assert!(first != third && is_made_up(&first));
        assert_eq!(ledger.result(None, "g"), second);
        assert_eq!(ledger.result(Some("x".into()), "f"), named);
        assert_eq!((ledger.result(None, "f"), ledger.result(None, "f")), (first, third));
        assert_eq!(ledger.result(None, "f"), "f", "nothing waits any more");
    }

    #[test]
    fn names_are_short_and_plain() {
        let name = name_in_answer("QHiLaa6LBrb8vdIPoNztsAg/+too-long", 3, 17);
        assert!(name.len() <= 40 && is_made_up(&name), "{name}");
    }
}
