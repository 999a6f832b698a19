//! Making a prompt shorter without leaving out a turn.
//!
//! What the model wrote is never touched, nor what somebody signed. The last question keeps all of its words, and so do
//! instructions: whoever repeats them must not be able to take them out.

use std::collections::HashMap;

use hoosh_core::{Compression, InferenceRequest, Message, Part, PartKind, Role, limits};

use super::cut::{is_instruction, last_question};

/// What stands for a text that comes again.
const DUPLICATE: &str = "[the same text follows below]";

/// What stands for a result that a later one has taken the place of.
const STALE: &str = "[out of date: the same call was made again below]";

/// Makes the prompt shorter in these ways. How many texts are other ones now.
pub(super) fn compress(request: &mut InferenceRequest, ways: &[Compression]) -> usize {
    let has = |way| ways.contains(&way);
    let mut changed = 0;
    if has(Compression::StaleToolResults) {
        changed += drop_stale(&mut request.messages);
    }
    if has(Compression::Duplicates) {
        changed += drop_duplicates(&mut request.messages);
    }
    changed + strip_blanks(request, ways)
}

/// Takes out blanks that mean nothing, where that is among the ways: the only one of them that points nowhere, so that it
/// holds whatever else goes.
pub(super) fn strip_blanks(request: &mut InferenceRequest, ways: &[Compression]) -> usize {
    let mut changed = 0;
    if ways.contains(&Compression::Whitespace) {
        changed += request.system.iter_mut().chain([&mut request.prompt]).filter_map(strip).count();
        let others = request.messages.iter_mut().filter(|message| message.role != Role::Assistant);
        changed += others.flat_map(|message| texts(&mut message.parts)).filter_map(strip).count();
    }
    changed
}

/// The texts in pieces that may be changed, those in results of tools among them.
fn texts(parts: &mut [Part]) -> Vec<&mut String> {
    let mut found = Vec::new();
    for part in parts.iter_mut().filter(|part| part.signature.is_none() && part.citations.is_empty()) {
        match &mut part.kind {
            PartKind::Text(text) => found.push(text),
            PartKind::ToolResult(result) => found.extend(texts(&mut result.content)),
            _ => {}
        }
    }
    found
}

/// Takes out blanks at the ends of lines, and all but one of several blank lines. Indentation means something.
fn strip(text: &mut String) -> Option<()> {
    let mut stripped = String::with_capacity(text.len());
    let mut blank = 0;
    for line in text.split('\n') {
        let line = line.trim_end_matches([' ', '\t', '\r']);
        blank = if line.is_empty() { blank + 1 } else { 0 };
        if blank <= 1 {
            stripped.push_str(line);
            stripped.push('\n');
        }
    }
    // Each line got an end, also the last, which had none.
    stripped.pop();
    (stripped.len() < text.len()).then(|| *text = stripped)
}

/// Of texts that are the same, all but the last become a note: turns are left out from the oldest on.
fn drop_duplicates(messages: &mut [Message]) -> usize {
    let question = last_question(messages);
    let mut last: HashMap<String, usize> = HashMap::new();
    let mut long: Vec<(bool, &mut String)> = Vec::new();
    for (at, message) in messages.iter_mut().enumerate() {
        let stays = at >= question && message.role == Role::User;
        if message.role != Role::Assistant && !is_instruction(message) {
            let texts = texts(&mut message.parts).into_iter();
            long.extend(
                texts.filter(|text| text.len() >= limits::DUPLICATE_BYTES_MIN).map(|text| (stays, text)),
            );
        }
    }
    for (at, (_, text)) in long.iter().enumerate() {
        last.insert(text.as_str().to_owned(), at);
    }
    let mut changed = 0;
    for (at, (stays, text)) in long.into_iter().enumerate() {
        if !stays && last.get(text.as_str()) != Some(&at) {
            DUPLICATE.clone_into(text);
            changed += 1;
        }
    }
    changed
}

/// The results of calls that were made and answered again, with the same arguments, become a note. One that failed takes
/// nobody's place: what is known is the result before. Nor does one without a name, whose call nobody knows.
fn drop_stale(messages: &mut [Message]) -> usize {
    let (mut asked, mut latest, mut stale) = (HashMap::new(), HashMap::new(), Vec::new());
    for (at, message) in messages.iter().enumerate() {
        for (part_at, part) in message.parts.iter().enumerate() {
            match &part.kind {
                PartKind::ToolCall(call) if !call.id.is_empty() => {
                    asked.insert(call.id.as_str(), (call.name.as_str(), call.arguments.as_str()));
                }
                PartKind::ToolResult(result) if !result.is_error => {
                    let call = asked.get(result.call_id.as_str());
                    stale.extend(call.and_then(|call| latest.insert(*call, (at, part_at))));
                }
                _ => {}
            }
        }
    }
    let mut changed = 0;
    for (at, part_at) in stale {
        let part = messages.get_mut(at).and_then(|message| message.parts.get_mut(part_at));
        let Some(part) = part.filter(|part| part.signature.is_none()) else { continue };
        if let PartKind::ToolResult(result) = &mut part.kind
            && text_bytes(&result.content) >= limits::STALE_RESULT_BYTES_MIN
        {
            result.content = vec![Part::text(STALE)];
            changed += 1;
        }
    }
    changed
}

/// How long a result is; one that is not text is long.
fn text_bytes(content: &[Part]) -> usize {
    let bytes = content.iter().map(|part| match &part.kind {
        PartKind::Text(text) => text.len(),
        _ => limits::STALE_RESULT_BYTES_MIN,
    });
    bytes.sum()
}

#[cfg(test)]
mod tests {
    use hoosh_core::{ToolCall, ToolResult};

    use super::*;

    fn compressed(messages: Vec<Message>, way: Compression) -> (Vec<Message>, usize) {
        let mut request = InferenceRequest { messages, ..InferenceRequest::default() };
        let changed = compress(&mut request, &[way]);
        (request.messages, changed)
    }

    fn text(message: &Message) -> &str {
        match &message.parts[0].kind {
            PartKind::Text(text) => text,
            PartKind::ToolResult(result) => match &result.content[0].kind {
                PartKind::Text(text) => text,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn blanks_that_mean_nothing_go_and_indentation_stays() {
        let messages = vec![
            Message::user("fn a() {  \n\n\n\n    b();\t\r\n}\n"),
            Message::assistant("mine  \n\n\n"),
            Message::user("as it is"),
        ];
        let (messages, changed) = compressed(messages, Compression::Whitespace);
        assert_eq!(changed, 1);
        assert_eq!(text(&messages[0]), "fn a() {\n\n    b();\n}\n");
        assert_eq!((text(&messages[1]), text(&messages[2])), ("mine  \n\n\n", "as it is"));
    }

    #[test]
    fn of_a_text_that_comes_again_the_last_stays() {
        let file = "line\n".repeat(100);
        let short = "short".to_owned();
        let messages = vec![
            Message::user(file.as_str()),
            Message::user(short.as_str()),
            Message::assistant(file.as_str()),
            Message::tool("c", file.as_str()),
            Message::user(short.as_str()),
            Message::user(file.as_str()),
            Message::tool("d", file.as_str()),
        ];
        let (messages, changed) = compressed(messages, Compression::Duplicates);
        assert_eq!(changed, 2);
        let texts: Vec<&str> = messages.iter().map(text).collect();
        // What the model said stays, and so does the last question although the text comes again behind it.
        assert_eq!(texts, [DUPLICATE, &short, &file, DUPLICATE, &short, &file, &file]);
    }

    #[test]
    fn the_result_of_a_call_that_was_made_again_goes() {
        let call = |id: &str, arguments: &str| {
            let (id, name) = (id.to_owned(), "read".to_owned());
            let call = ToolCall { id, name, arguments: arguments.to_owned(), ..ToolCall::default() };
            Message::new(Role::Assistant, vec![PartKind::ToolCall(call).into()])
        };
        let long = "x".repeat(200);
        let messages = vec![
            Message::user("go"),
            call("1", "a"),
            Message::tool("1", long.as_str()),
            call("2", "b"),
            Message::tool("2", long.as_str()),
            call("3", "a"),
            Message::tool("3", "short"),
            call("4", "a"),
            Message::tool("4", long.as_str()),
            // Not answered yet: what is known is the result before.
            call("5", "a"),
        ];
        let (messages, changed) = compressed(messages, Compression::StaleToolResults);
        assert_eq!(changed, 1);
        let results: Vec<&str> = [2, 4, 6, 8].map(|at| text(&messages[at])).to_vec();
        assert_eq!(results, [STALE, &long, "short", &long]);
        assert!(
            matches!(&messages[2].parts[0].kind, PartKind::ToolResult(ToolResult { call_id, .. }) if call_id == "1")
        );
    }

    #[test]
    fn a_result_that_failed_or_has_no_name_makes_none_stale() {
        let call = |id: &str| {
            let call = ToolCall { id: id.to_owned(), name: "read".to_owned(), ..ToolCall::default() };
            Message::new(Role::Assistant, vec![PartKind::ToolCall(call).into()])
        };
        let result = |call_id: &str, text: &str, is_error: bool| {
            let content = vec![Part::text(text)];
            let result = ToolResult { call_id: call_id.to_owned(), content, is_error };
            Message::new(Role::Tool, vec![PartKind::ToolResult(result).into()])
        };
        let (long, failed) = ("x".repeat(200), "timed out ".repeat(20));
        let messages = vec![
            Message::user("go"),
            call("1"),
            result("1", &long, false),
            call("2"),
            result("2", &failed, true),
            call(""),
            result("", &long, false),
            call(""),
            result("", &long, false),
        ];
        assert_eq!(compressed(messages.clone(), Compression::StaleToolResults), (messages.clone(), 0));
        // One that failed is out of date all the same once there is one that did not.
        let again = [messages[..5].to_vec(), vec![call("3"), result("3", "new", false)]].concat();
        let (again, changed) = compressed(again, Compression::StaleToolResults);
        assert_eq!((changed, text(&again[2]), text(&again[6])), (1, STALE, "new"));
    }

    #[test]
    fn instructions_stay_whoever_repeats_them() {
        let rules = "Never reveal account data. ".repeat(20);
        for role in [Role::System, Role::Developer] {
            let messages = vec![
                Message::text(role, rules.as_str()),
                Message::user("hi"),
                Message::assistant("hello"),
                Message::user(rules.as_str()),
                Message::text(role, rules.as_str()),
                Message::user("the text above is a story"),
            ];
            let (messages, changed) = compressed(messages, Compression::Duplicates);
            assert_eq!((changed, text(&messages[0]), text(&messages[4])), (0, &*rules, &*rules), "{role:?}");
        }
    }
}
