//! "Did you mean …?": which known names look like one that nobody knows.

use hoosh_core::limits::NEAR_NAMES_MAX;

/// How alike two names must be, from 0 to 1.
///
/// A slip of a letter or two gives 0.9 and more (`lamma3` for `llama3`), and so do siblings, which help too (`gpt-5` for
/// `gpt-4`); `deepseek-reasoner` for `deepseek-chat` gives 0.87, `gemini` for `gemma` 0.79.
const SIMILARITY_MIN: f64 = 0.88;

/// The names that look like `model`, the nearest first, at most
/// [`NEAR_NAMES_MAX`] and each once; case does not count, and neither does what stands before the last `/` of a name.
///
/// ```
/// let near = hoosh_router::near("smolm2-135m", ["smollm2-135m", "whisper-1"]);
/// assert_eq!(near, ["smollm2-135m"]);
/// ```
pub fn near<N: AsRef<str>>(model: &str, names: impl IntoIterator<Item = N>) -> Vec<String> {
    let wanted = model.to_lowercase();
    let mut alike: Vec<(f64, String)> = Vec::new();
    for name in names {
        let name = name.as_ref();
        let similarity = similarity(&wanted, &name.to_lowercase());
        if name != model && similarity >= SIMILARITY_MIN {
            alike.push((similarity, name.to_owned()));
        }
    }
    alike.sort_unstable_by(|(a, left), (b, right)| b.total_cmp(a).then_with(|| left.cmp(right)));
    alike.dedup_by(|a, b| a.1 == b.1);
    alike.truncate(NEAR_NAMES_MAX);
    alike.into_iter().map(|(_, name)| name).collect()
}

fn similarity(wanted: &str, name: &str) -> f64 {
    let tail = |text| -> &str { str::rsplit_once(text, '/').map_or(text, |(_, tail)| tail) };
    whole_similarity(wanted, name).max(whole_similarity(tail(wanted), tail(name)))
}

/// One that is twice as long is not a slip; not comparing it also bounds what a caller's 256-byte name costs us.
fn whole_similarity(wanted: &str, name: &str) -> f64 {
    let (short, long) = (wanted.len().min(name.len()), wanted.len().max(name.len()));
    if short * 2 <= long {
        return 0.0;
    }
    // The first is blind to a letter left out where it comes twice (`srved` for `served`), the second to swapped parts.
    strsim::jaro_winkler(wanted, name).max(strsim::normalized_damerau_levenshtein(wanted, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_left_out_is_a_slip_wherever_it_is() {
        assert_eq!(near("srved-model", ["served-model"]), ["served-model"]);
        assert_eq!(near("lama3.2", ["llama3.2"]), ["llama3.2"]);
    }

    const KNOWN: [&str; 10] = [
        "smollm2-135m",
        "smollm2-360m",
        "llama3",
        "llama-3.3-70b-versatile",
        "meta-llama/Llama-3.1-8B-Instruct",
        "gpt-4o-mini",
        "claude-sonnet-4-5",
        "gemini-2.5-flash",
        "text-embedding-3-small",
        "whisper-1",
    ];

    fn check(model: &str, expect: &[&str]) {
        assert_eq!(near(model, KNOWN), expect, "{model}");
    }

    #[test]
    fn a_slip_finds_the_name_meant() {
        check("smolm2-135m", &["smollm2-135m", "smollm2-360m"]);
        check("lama3", &["llama3"]);
        check("llama3:8b", &["llama3"]);
        check("gpt4o-mini", &["gpt-4o-mini"]);
        check("GPT-4o-Mini", &["gpt-4o-mini"]);
        check("claude-sonet-4-5", &["claude-sonnet-4-5"]);
        check("gemini-flash-2.5", &["gemini-2.5-flash"]);
        check("llama-3.1-8b-instruct", &["meta-llama/Llama-3.1-8B-Instruct"]);
        check("groq/llama-3.3-70b-versatil", &["llama-3.3-70b-versatile"]);
    }

    #[test]
    fn an_unrelated_name_finds_nothing() {
        for model in
            ["mistral-large", "x", "", "deepseek-reasoner", "qwen3-coder", "no-such-model", "dall-e-3"]
        {
            check(model, &[]);
        }
    }

    #[test]
    fn names_are_listed_once_and_not_too_many() {
        let many: Vec<String> = (0..100).map(|number| format!("llama-3-{number:02}b")).collect();
        assert_eq!(near("llama-3-7b", many.iter().chain(&many)).len(), NEAR_NAMES_MAX);
        assert_eq!(near("llama3", ["lama3", "lama3"]), ["lama3"]);
    }
}
