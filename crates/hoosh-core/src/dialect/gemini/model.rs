//! What a model can by its name, as far as a request depends on it.

/// A Gemini model by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Model<'a> {
    name: &'a str,
    /// Its major and minor number, 0 where the name has none.
    version: (u32, u32),
}

impl<'a> Model<'a> {
    pub(super) fn named(name: &'a str) -> Self {
        let numbers = name.split_once("gemini-").map_or("", |(_, rest)| rest);
        let numbers = numbers.split('-').next().unwrap_or_default();
        let (major, minor) = numbers.split_once('.').unwrap_or((numbers, "0"));
        Self { name, version: (major.parse().unwrap_or(0), minor.parse().unwrap_or(0)) }
    }

    /// Gemini 3 and later name the effort to think with, want signed calls, and take media in results and a form of the
    /// answer beside tools. A name such as `gemini-flash-latest` stands for one of them.
    pub(super) fn is_third(self) -> bool {
        self.version.0 >= 3 || (self.version.0 == 0 && self.name.contains("gemini-") && self.is_latest())
    }

    /// Gemini 2.5 counts tokens to think with. Whoever has no number we can read is taken for one.
    pub(super) fn counts_thinking(self) -> bool {
        !self.is_third() && (self.version.0 == 0 || self.version >= (2, 5)) && !self.name.contains("gemma")
    }

    /// The Pro models never stop thinking.
    pub(super) fn is_pro(self) -> bool {
        self.name.contains("-pro")
    }

    fn is_latest(self) -> bool {
        self.name.ends_with("-latest")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_told_by_their_names() {
        let kinds = |name: &str| {
            let model = Model::named(name);
            (model.is_third(), model.counts_thinking(), model.is_pro())
        };
        assert_eq!(kinds("gemini-3-pro-preview"), (true, false, true));
        assert_eq!(kinds("models/gemini-3.1-flash"), (true, false, false));
        assert_eq!(kinds("gemini-4-argon"), (true, false, false));
        assert_eq!(kinds("gemini-flash-latest"), (true, false, false));
        assert_eq!(kinds("gemini-2.5-pro"), (false, true, true));
        assert_eq!(kinds("gemini-2.0-flash"), (false, false, false));
        assert_eq!(kinds("gemini-1.5-flash-latest"), (false, false, false));
        assert_eq!(kinds("gemma-3-27b-it"), (false, false, false));
        assert_eq!(kinds("tunedModels/mine"), (false, true, false));
    }
}
