//! The `thinkingConfig`: an effort for Gemini 3, a count of tokens for Gemini 2.5.
//!
//! Source: ai.google.dev/gemini-api/docs/thinking, read 2026-11-24. Both at once are an error.

use super::config::{as_json, is_own, put};
use super::fields::take;
use super::model::Model;
use crate::dialect::wire::note;
use crate::failure::FidelityNote;
use crate::json::{Extra, FieldError, JsonNumber, Object, RawJson};
use crate::request::InferenceRequest;

pub(super) const NAME: &str = "thinkingConfig";

const BUDGET: &str = "thinkingBudget";
const LEVEL: &str = "thinkingLevel";

/// Bounds of the count: the Pro models think with at least 128 tokens and at most 32,768, the Flash models with at most
/// 24,576.
const PRO_BUDGET_MIN: u64 = 128;
const PRO_BUDGET_MAX: u64 = 32_768;
const FLASH_BUDGET_MAX: u64 = 24_576;

/// Reads it; what is left of it that we do not know, such as a budget of -1, which leaves it to the model.
pub(super) fn decode(
    mut config: Object<'_>,
    request: &mut InferenceRequest,
) -> Result<Option<RawJson>, FieldError> {
    let budget: Option<JsonNumber> = take(&mut config, BUDGET)?;
    request.reasoning_budget = budget.as_ref().and_then(|budget| budget.as_str().parse().ok());
    let level: Option<String> = take(&mut config, LEVEL)?;
    request.reasoning_effort =
        level.map(|level| level.to_ascii_lowercase()).filter(|level| !level.ends_with("unspecified"));
    request.show_reasoning = take(&mut config, "includeThoughts")?;
    let mut rest = config.rest();
    if request.reasoning_budget.is_none() {
        put(&mut rest, BUDGET, &budget);
    }
    Ok(as_json(&rest))
}

/// Writes it.
pub(super) fn encode(request: &InferenceRequest, model: Model<'_>, notes: &mut Vec<FidelityNote>) -> Extra {
    let mut fields = Extra::default();
    let field = if request.reasoning_effort.is_some() { "reasoning_effort" } else { "reasoning_budget" };
    let asked = request.effort().is_some();
    if is_own(request) {
        put(&mut fields, BUDGET, &request.reasoning_budget);
        put(&mut fields, LEVEL, &request.reasoning_effort);
    } else if !asked {
    } else if model.is_third() {
        match level(request, model) {
            Some((level, exactly)) => {
                put(&mut fields, LEVEL, &Some(level));
                if !exactly {
                    note(notes, FidelityNote::emulated(field));
                }
            }
            None => note(notes, FidelityNote::new(field)),
        }
    } else if model.counts_thinking() {
        match budget(request, model) {
            Some((budget, exactly)) => {
                put(&mut fields, BUDGET, &Some(budget));
                if !exactly {
                    note(notes, FidelityNote::emulated(field));
                }
            }
            None => note(notes, FidelityNote::new(field)),
        }
    } else if request.effort() != Some("none") {
        note(notes, FidelityNote::new(field));
    }
    let thinks = is_own(request) || model.is_third() || model.counts_thinking();
    // Whoever asks for thinking elsewhere gets to see it unless it says otherwise.
    let thinks_here = !is_own(request) && !fields.is_empty() && request.effort() != Some("none");
    let shown = request.show_reasoning.or(thinks_here.then_some(true));
    put(&mut fields, "includeThoughts", &shown.filter(|_| thinks));
    fields
}

/// The effort in Google's words, and whether it is just what was asked for.
fn level(request: &InferenceRequest, model: Model<'_>) -> Option<(&'static str, bool)> {
    let (level, exactly) = match request.effort()? {
        // Gemini 3 always thinks, the Pro models not less than this.
        "none" | "minimal" if model.is_pro() => ("low", false),
        "none" => ("minimal", false),
        "minimal" => ("minimal", true),
        "low" => ("low", true),
        "medium" => ("medium", true),
        "high" => ("high", true),
        "xhigh" | "max" => ("high", false),
        _ => return None,
    };
    Some((level, exactly && request.reasoning_effort.is_some()))
}

/// The count, and whether it is just what was asked for.
fn budget(request: &InferenceRequest, model: Model<'_>) -> Option<(u64, bool)> {
    let asked = request.thinking_budget()?;
    let budget = if model.is_pro() {
        asked.clamp(PRO_BUDGET_MIN, PRO_BUDGET_MAX)
    } else {
        asked.min(FLASH_BUDGET_MAX)
    };
    Some((budget, budget == asked && request.reasoning_budget.is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(model: &str, effort: Option<&str>, budget: Option<u64>, expected: &str, notes: &[FidelityNote]) {
        let request = InferenceRequest {
            reasoning_effort: effort.map(str::to_owned),
            reasoning_budget: budget,
            ..InferenceRequest::default()
        };
        let mut told = Vec::new();
        let fields = encode(&request, Model::named(model), &mut told);
        assert_eq!(as_json(&fields).map_or(String::new(), |json| json.get().to_owned()), expected);
        assert_eq!(told, notes);
    }

    #[test]
    fn each_model_is_asked_in_its_words() {
        let (emulated, lost) = (FidelityNote::emulated, FidelityNote::new);
        check(
            "gemini-3-flash",
            Some("high"),
            None,
            r#"{"thinkingLevel":"high","includeThoughts":true}"#,
            &[],
        );
        check(
            "gemini-3-pro",
            Some("none"),
            None,
            r#"{"thinkingLevel":"low"}"#,
            &[emulated("reasoning_effort")],
        );
        check(
            "gemini-3-flash",
            None,
            Some(2_000),
            r#"{"thinkingLevel":"medium","includeThoughts":true}"#,
            &[emulated("reasoning_budget")],
        );
        check("gemini-3-flash", Some("odd"), None, "", &[lost("reasoning_effort")]);
        check(
            "gemini-2.5-flash",
            Some("low"),
            None,
            r#"{"thinkingBudget":1024,"includeThoughts":true}"#,
            &[emulated("reasoning_effort")],
        );
        check("gemini-2.5-flash", None, Some(0), r#"{"thinkingBudget":0}"#, &[]);
        check("gemini-2.5-pro", None, Some(0), r#"{"thinkingBudget":128}"#, &[emulated("reasoning_budget")]);
        check("gemini-2.0-flash", Some("low"), None, "", &[lost("reasoning_effort")]);
        check("gemini-2.0-flash", Some("none"), None, "", &[]);
        check("gemini-2.5-flash", None, None, "", &[]);
    }
}
