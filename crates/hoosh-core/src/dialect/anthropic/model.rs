//! What a Claude model takes depends on its version, which is read from its name.
//!
//! Source: docs.anthropic.com/en/docs/about-claude/models/overview and the pages on extended thinking, effort and
//! structured outputs, read 2026-11-24.

/// The version in a model's name, such as 4.5 in `claude-sonnet-4-5-20250929` and 3.7 in `claude-3-7-sonnet-latest`.
/// `None` for a name that is none of Anthropic's: somebody else's server that speaks the dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version(Option<(u32, u32)>);

// === impl Version ===

impl Version {
    pub(super) fn of(model: &str) -> Self {
        let Some(at) = model.find("claude") else { return Self(None) };
        let words = model[at..].split(['-', '.', '@', ':', '_']);
        // A date has eight digits, a version one or two.
        let mut numbers = words.filter(|word| word.len() <= 2).filter_map(|word| word.parse().ok());
        Self(numbers.next().map(|major| (major, numbers.next().unwrap_or(0))))
    }

    fn is_from(self, version: (u32, u32)) -> bool {
        self.0.is_some_and(|own| own >= version)
    }

    /// Thinks as much as it finds right, guided by an effort instead of a budget.
    pub(super) fn thinks_adaptively(self) -> bool {
        self.is_from((4, 6))
    }

    /// Can think at all.
    pub(super) fn thinks(self) -> bool {
        self.0.is_none() || self.is_from((3, 7))
    }

    /// Holds to a JSON schema by itself.
    pub(super) fn has_schemas(self) -> bool {
        self.is_from((4, 5))
    }

    /// Refuses temperature, top_p and top_k.
    pub(super) fn refuses_sampling(self) -> bool {
        self.is_from((4, 7))
    }

    /// Takes a temperature or a top_p, not both.
    pub(super) fn wants_one_of_temperature_and_top_p(self) -> bool {
        self.is_from((4, 1))
    }

    /// Goes on with a last message that is the assistant's.
    pub(super) fn takes_prefill(self) -> bool {
        !self.is_from((4, 6))
    }

    /// Takes instructions in the middle of a conversation.
    pub(super) fn takes_system_turns(self) -> bool {
        self.is_from((4, 8))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefill_ends_with_4_6() {
        for (model, expect) in [
            ("claude-3-5-haiku-latest", true),
            ("claude-opus-4-20250514", true),
            ("claude-sonnet-4-5-20250929", true),
            ("claude-opus-4-6", false),
            ("claude-opus-5", false),
            ("somebody-elses", true),
        ] {
            assert_eq!(Version::of(model).takes_prefill(), expect, "{model}");
        }
    }

    #[test]
    fn versions_are_read_from_names() {
        for (name, version) in [
            ("claude-sonnet-4-5-20250929", Some((4, 5))),
            ("claude-opus-4-20250514", Some((4, 0))),
            ("claude-3-7-sonnet-latest", Some((3, 7))),
            ("claude-3-haiku-20240307", Some((3, 0))),
            ("claude-fable-5", Some((5, 0))),
            ("anthropic/claude-opus-4.6", Some((4, 6))),
            ("us.anthropic.claude-opus-4-8-v1:0", Some((4, 8))),
            ("smollm2-135m", None),
        ] {
            assert_eq!(Version::of(name), Version(version), "{name}");
        }
    }
}
