//! When two requests ask for the same, told apart from how they are written and how their answer is sent.
//!
//! For a cache of answers. White space, the order of fields and the escapes in a text make no difference. Whether a stream
//! is wanted (`stream`, `stream_options`) makes none either, since one answer can be sent both ways. Everything else does:
//! what a model is not told as well (`user`, `metadata`, `safety_identifier`), because it names somebody behind the caller,
//! whom the speed of an answer would tell what another has asked; and fields that we do not know, because they may matter.
//!
//! Whether an answer is worth keeping is for whoever keeps it; here is only what a request says about that.
//!
//! For a cache that also looks for what is asked in other words, the last thing that is said can be taken apart from all the
//! rest ([`Apart`]).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::Dialect;

/// One request in the form that all who ask for the same share.
#[derive(Debug, Clone, PartialEq)]
pub struct Canonical {
    /// The form itself, which is for comparing only: two requests are the same if these are.
    ///
    /// Numbers are the same where they are of the same kind and value: `0.10` is `0.1`, but `1.0` is not `1`.
    pub text: Vec<u8>,
    /// How freely the model may choose its words; `None` where the request leaves that to the provider.
    pub temperature: Option<f64>,
    /// Whether the model may call tools, the vendor's own and its search among them: their results are of the moment.
    pub offers_tools: bool,
    /// How many answers are asked for.
    pub choices: u64,
    /// Whether the call does something, or goes on from something, that is kept elsewhere: a conversation by its name, an
    /// answer in the background, a model to be loaded.
    pub has_state: bool,
}

/// A request in two: what is said last, and everything else.
#[derive(Debug, Clone, PartialEq)]
pub struct Apart {
    /// The text of the last message, the user's.
    pub text: String,
    /// The form of everything else, as [`Canonical::text`]: model, instructions, earlier messages, parameters.
    pub rest: Vec<u8>,
}

/// A JSON value with the fields of objects in order.
enum Node<'a> {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(Cow<'a, str>),
    List(Vec<Node<'a>>),
    Object(BTreeMap<Cow<'a, str>, Node<'a>>),
}

/// What says how an answer is sent, not what it is.
const SENDING: &[&str] = &["stream", "stream_options"];

/// Where tools are offered, in whichever dialect.
const TOOLS: &[&str] = &["tools", "functions", "web_search_options", "mcp_servers"];

/// What goes on from something that is kept elsewhere.
const STATE: &[&str] = &["previous_response_id", "conversation", "background", "container"];

/// From here on a `f64` does not hold every whole number, so that two could look like one.
const WHOLE_MAX: f64 = (1u64 << f64::MANTISSA_DIGITS) as f64;

// === impl Canonical ===

impl Canonical {
    /// Reads a request; `None` if it is none that can be compared: no object, a field twice, numbers that cannot be told apart.
    pub fn read(dialect: Dialect, body: &[u8]) -> Option<Self> {
        Some(Self::of(dialect, &parse(body)?, body.len()))
    }

    /// Reads a request, and takes its last message apart where that is one text of the user's. One with a picture beside
    /// it, in several pieces, or of a tool is not: then there is only the whole.
    pub fn read_apart(dialect: Dialect, body: &[u8]) -> Option<(Self, Option<Apart>)> {
        let mut fields = parse(body)?;
        let whole = Self::of(dialect, &fields, body.len());
        let text = last_text(dialect, &mut fields).map(|place| std::mem::take(place).into_owned());
        let apart = text.map(|text| {
            let mut rest = Vec::with_capacity(body.len().saturating_sub(text.len()));
            fields.write(&mut rest);
            Apart { text, rest }
        });
        Some((whole, apart))
    }

    /// The form of a request of these fields.
    fn of(dialect: Dialect, fields: &Node<'_>, length: usize) -> Self {
        let mut text = Vec::with_capacity(length);
        fields.write(&mut text);
        let sampling = match dialect {
            // Google's JSON may be in either case (protobuf.dev, "JSON mapping").
            Dialect::Gemini => fields.field("generationConfig").or_else(|| fields.field("generation_config")),
            Dialect::OllamaChat | Dialect::OllamaGenerate => fields.field("options"),
            _ => Some(fields),
        };
        let sampling = |name: &str| sampling.and_then(|sampling| sampling.field(name));
        let counts = ["n", "best_of", "candidateCount", "candidate_count"].map(|name| match sampling(name) {
            None => 1,
            // What is no number is for the provider to refuse.
            Some(count) => count.as_u64().unwrap_or(u64::MAX),
        });
        // Without a word Ollama loads the model, or lets go of it.
        let wordless = match dialect {
            Dialect::OllamaChat => fields.field("messages").is_none_or(Node::says_nothing),
            Dialect::OllamaGenerate => fields.field("prompt").is_none_or(Node::says_nothing),
            _ => false,
        };
        let says = |name: &&str| fields.field(name).is_some_and(|value| !value.says_nothing());
        Self {
            text,
            temperature: sampling("temperature").and_then(Node::as_f64),
            offers_tools: TOOLS.iter().any(says),
            choices: counts.into_iter().max().unwrap_or(1),
            has_state: wordless || STATE.iter().any(says),
        }
    }
}

/// The fields of a request without those that say how its answer is sent.
fn parse(body: &[u8]) -> Option<Node<'_>> {
    let Node::Object(mut fields) = serde_json::from_slice(body).ok()? else { return None };
    SENDING.iter().for_each(|name| drop(fields.remove(*name)));
    Some(Node::Object(fields))
}

/// Where the text of the last message is, if that is all that the user says in it.
///
/// A text that is to be completed is none that is said to anybody: in other words it goes on otherwise.
fn last_text<'n, 'a>(dialect: Dialect, fields: &'n mut Node<'a>) -> Option<&'n mut Cow<'a, str>> {
    let (list, content) = match dialect {
        Dialect::OpenAiChat | Dialect::Anthropic | Dialect::OllamaChat => ("messages", "content"),
        Dialect::OpenAiResponses => ("input", "content"),
        Dialect::Gemini => ("contents", "parts"),
        Dialect::OllamaGenerate => {
            // `raw` is without the template that makes a question of it, and before a suffix it is filled in.
            let others = ["images", "raw", "suffix"];
            let says = |name: &&str| fields.field(name).is_some_and(|value| !value.says_nothing());
            let is_question = !others.iter().any(says);
            return if is_question { fields.field_mut("prompt")?.as_text_mut() } else { None };
        }
        _ => return None,
    };
    let messages = match fields.field_mut(list)? {
        Node::Text(text) if dialect == Dialect::OpenAiResponses => return Some(text),
        Node::List(messages) => messages,
        _ => return None,
    };
    let last = messages.last_mut()?;
    let is_user = match last.field("role") {
        Some(Node::Text(role)) => role == "user",
        // Gemini's turns are the user's where they do not say whose they are.
        role => role.is_none() && dialect == Dialect::Gemini,
    };
    if !is_user || last.field("images").is_some_and(|images| !images.says_nothing()) {
        return None;
    }
    match last.field_mut(content)? {
        Node::Text(text) => Some(text),
        Node::List(parts) => match parts.as_mut_slice() {
            [part] => part.field_mut("text")?.as_text_mut(),
            _ => None,
        },
        _ => None,
    }
}

// === impl Node ===

impl<'a> Node<'a> {
    /// A field of an object; `null` counts as absent, as all the dialects have it.
    fn field(&self, name: &str) -> Option<&Node<'a>> {
        let Self::Object(fields) = self else { return None };
        fields.get(name).filter(|value| !matches!(value, Self::Null))
    }

    fn field_mut(&mut self, name: &str) -> Option<&mut Node<'a>> {
        if let Self::Object(fields) = self { fields.get_mut(name) } else { None }
    }

    fn as_text_mut(&mut self) -> Option<&mut Cow<'a, str>> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    fn as_u64(&self) -> Option<u64> {
        if let Self::Unsigned(number) = self { Some(*number) } else { None }
    }

    fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Unsigned(number) => Some(*number as f64),
            Self::Signed(number) => Some(*number as f64),
            Self::Float(number) => Some(*number),
            _ => None,
        }
    }

    fn says_nothing(&self) -> bool {
        match self {
            Self::Null | Self::Bool(false) => true,
            Self::Text(text) => text.is_empty(),
            Self::List(items) => items.is_empty(),
            // An object without fields turns a thing on: `"web_search_options": {}`.
            _ => false,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        // A `Vec` takes every write.
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Bool(value) => drop(write!(out, "{value}")),
            Self::Unsigned(number) => drop(write!(out, "{number}")),
            Self::Signed(number) => drop(write!(out, "{number}")),
            // With an exponent, which no whole number has.
            Self::Float(number) => drop(write!(out, "{number:e}")),
            Self::Text(text) => write_text(text, out),
            Self::List(items) => {
                out.push(b'[');
                for item in items {
                    item.write(out);
                    out.push(b',');
                }
                out.push(b']');
            }
            Self::Object(fields) => write_object(fields, out),
        }
    }
}

fn write_object(fields: &BTreeMap<Cow<'_, str>, Node<'_>>, out: &mut Vec<u8>) {
    out.push(b'{');
    for (name, value) in fields {
        write_text(name, out);
        value.write(out);
        out.push(b',');
    }
    out.push(b'}');
}

/// A text behind its length, so that none needs an escape and no two can run together.
fn write_text(text: &str, out: &mut Vec<u8>) {
    drop(write!(out, "{}:", text.len()));
    out.extend_from_slice(text.as_bytes());
}

impl<'de> Deserialize<'de> for Node<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NodeVisitor;

        impl<'de> Visitor<'de> for NodeVisitor {
            type Value = Node<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
                Ok(Node::Null)
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
                Ok(Node::Bool(value))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
                Ok(Node::Unsigned(number))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
                Ok(Node::Signed(number))
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
                if number.abs() >= WHOLE_MAX {
                    return Err(E::custom("a number that may stand for several"));
                }
                Ok(Node::Float(number))
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Node::Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Node::Text(Cow::Owned(text.to_owned())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element()? {
                    items.push(item);
                }
                Ok(Node::List(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = BTreeMap::new();
                while let Some((Node::Text(name), value)) = map.next_entry()? {
                    // Two values for one name: whichever we took, the provider might take the other.
                    if fields.insert(name, value).is_some() {
                        return Err(A::Error::custom("a field twice"));
                    }
                }
                Ok(Node::Object(fields))
            }
        }

        deserializer.deserialize_any(NodeVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Canonical {
        Canonical::read(Dialect::OpenAiChat, body.as_bytes()).unwrap_or_else(|| panic!("{body}"))
    }

    #[track_caller]
    fn check(one: &str, other: &str, same: bool) {
        assert_eq!(read(one).text == read(other).text, same, "{one} and {other}");
    }

    #[test]
    fn how_a_request_is_written_makes_no_difference() {
        check(
            r#"{"a":1,"b":[{"c":"x","d":null}]}"#,
            "{ \"b\" : [ {\"d\":null,\"c\":\"x\"}],\n\"a\":1 }",
            true,
        );
        check(r#"{"a":"hä\n/"}"#, r#"{"a":"h\u00e4\u000a\/"}"#, true);
        check(r#"{"a":0.10}"#, r#"{"a":1e-1}"#, true);
    }

    #[test]
    fn how_an_answer_is_sent_makes_no_difference() {
        check(r#"{"a":1}"#, r#"{"stream":true,"stream_options":{"include_usage":true},"a":1}"#, true);
        // Deeper down it is something else.
        check(r#"{"a":{"stream":true}}"#, r#"{"a":{}}"#, false);
    }

    #[test]
    fn everything_else_makes_one() {
        for (one, other) in [
            (r#"{"a":1}"#, r#"{"a":2}"#),
            (r#"{"a":1}"#, r#"{"a":1.0}"#),
            (r#"{"a":1}"#, r#"{"a":-1}"#),
            (r#"{"a":1}"#, r#"{"a":"1"}"#),
            (r#"{"a":true}"#, r#"{"a":false}"#),
            (r#"{"a":"x "}"#, r#"{"a":"x"}"#),
            (r#"{"a":["b","c"]}"#, r#"{"a":["c","b"]}"#),
            (r#"{"a":["b","c"]}"#, r#"{"a":["b,1:c"]}"#),
            (r#"{"a":[[],1]}"#, r#"{"a":[[1]]}"#),
            (r#"{"user":"ada"}"#, r#"{"user":"eve"}"#),
            (r#"{"a":9007199254740993}"#, r#"{"a":9007199254740992}"#),
            (r#"{"a":null}"#, "{}"),
        ] {
            check(one, other, false);
        }
    }

    #[test]
    fn what_cannot_be_compared_is_not() {
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(1000), "]".repeat(1000));
        for body in
            [r#"{"a":1,"a":1}"#, r#"{"a":{"b":1,"b":2}}"#, r#"{"a":18446744073709551616}"#, "[]", "{", &deep]
        {
            assert_eq!(Canonical::read(Dialect::OpenAiChat, body.as_bytes()), None);
        }
    }

    #[test]
    fn what_a_request_says_is_found_where_its_dialect_has_it() {
        let read = |dialect, body: &str| Canonical::read(dialect, body.as_bytes()).unwrap();
        for (dialect, body) in [
            (Dialect::OpenAiChat, r#"{"temperature":0,"n":2,"functions":[{}]}"#),
            (Dialect::OpenAiChat, r#"{"temperature":0.0,"n":2,"web_search_options":{}}"#),
            (Dialect::OpenAiCompletions, r#"{"temperature":-0.0,"best_of":2,"tools":[1]}"#),
            (Dialect::Gemini, r#"{"generationConfig":{"temperature":0,"candidateCount":2},"tools":[1]}"#),
            (Dialect::Gemini, r#"{"generation_config":{"temperature":0,"candidate_count":2},"tools":[1]}"#),
        ] {
            let said = read(dialect, body);
            assert_eq!((said.temperature, said.choices, said.offers_tools), (Some(0.0), 2, true), "{body}");
        }
        let ollama = r#"{"messages":[{}],"options":{"temperature":0.5},"temperature":0,"tools":[]}"#;
        let said = read(Dialect::OllamaChat, ollama);
        assert_eq!((said.temperature, said.offers_tools, said.has_state), (Some(0.5), false, false));
        let silent = read(Dialect::OpenAiChat, r#"{"temperature":null,"n":null,"tools":null}"#);
        assert_eq!((silent.temperature, silent.choices, silent.offers_tools), (None, 1, false));
    }

    #[test]
    fn what_is_said_last_is_taken_apart_in_every_dialect() {
        for (dialect, body) in [
            (
                Dialect::OpenAiChat,
                r#"{"messages":[{"role":"user","content":"a"},{"role":"user","content":"LAST"}],"stream":true}"#,
            ),
            (
                Dialect::OpenAiChat,
                r#"{"messages":[{"role":"user","content":[{"type":"text","text":"LAST"}]}]}"#,
            ),
            (Dialect::Anthropic, r#"{"messages":[{"role":"user","content":"LAST"}]}"#),
            (Dialect::Gemini, r#"{"contents":[{"parts":[{"text":"LAST"}]}]}"#),
            (Dialect::Gemini, r#"{"contents":[{"role":"user","parts":[{"text":"LAST"}]}]}"#),
            (Dialect::OllamaChat, r#"{"messages":[{"role":"user","content":"LAST","images":[]}]}"#),
            (Dialect::OllamaGenerate, r#"{"prompt":"LAST"}"#),
            (Dialect::OllamaGenerate, r#"{"prompt":"LAST","raw":false,"suffix":""}"#),
            (Dialect::OpenAiResponses, r#"{"input":"LAST"}"#),
            (
                Dialect::OpenAiResponses,
                r#"{"input":[{"role":"user","content":[{"type":"input_text","text":"LAST"}]}]}"#,
            ),
        ] {
            let (whole, apart) = Canonical::read_apart(dialect, body.as_bytes()).unwrap();
            let apart = apart.unwrap_or_else(|| panic!("{body}"));
            assert_eq!(apart.text, "LAST", "{body}");
            assert_eq!(Some(whole), Canonical::read(dialect, body.as_bytes()));
            // What else there is, and where, is in the rest; only the words are not.
            let rest = |body: &str| Canonical::read_apart(dialect, body.as_bytes()).unwrap().1.unwrap().rest;
            assert_eq!(apart.rest, rest(&body.replace("LAST", "something else")), "{body}");
            assert_ne!(apart.rest, rest(&body.replacen('{', r#"{"top_p":1,"#, 1)), "{body}");
            assert!(!body.contains("\"a\"") || apart.rest != rest(&body.replace("\"a\"", "\"b\"")));
        }
    }

    #[test]
    fn what_is_more_than_one_text_of_the_user_is_left_whole() {
        for (dialect, body) in [
            (Dialect::OpenAiChat, r#"{"messages":[]}"#),
            (Dialect::OpenAiChat, r#"{"messages":[{"role":"assistant","content":"x"}]}"#),
            (Dialect::OpenAiChat, r#"{"messages":[{"content":"x"}]}"#),
            (Dialect::OpenAiChat, r#"{"messages":[{"role":"user","content":null}]}"#),
            (Dialect::OpenAiChat, r#"{"messages":[{"role":"user","content":[{"type":"image_url"}]}]}"#),
            (Dialect::OpenAiChat, r#"{"messages":[{"role":"user","content":[{"text":"x"},{"text":"y"}]}]}"#),
            (Dialect::OpenAiChat, r#"{"input":"x","prompt":"x"}"#),
            (Dialect::OllamaChat, r#"{"messages":[{"role":"user","content":"x","images":["aGk="]}]}"#),
            (Dialect::OllamaGenerate, r#"{"prompt":"x","images":["aGk="]}"#),
            (Dialect::OllamaGenerate, r#"{"prompt":"x","raw":true}"#),
            (Dialect::OllamaGenerate, r#"{"prompt":"x","suffix":"y"}"#),
            (Dialect::OpenAiCompletions, r#"{"prompt":"x"}"#),
            (Dialect::OpenAiEmbeddings, r#"{"input":"x"}"#),
            (Dialect::OpenAiResponses, r#"{"input":[{"type":"function_call_output","output":"x"}]}"#),
        ] {
            let (_, apart) = Canonical::read_apart(dialect, body.as_bytes()).unwrap();
            assert_eq!(apart, None, "{body}");
        }
    }

    #[test]
    fn a_call_with_state_is_seen() {
        for (dialect, body, has_state) in [
            (Dialect::OpenAiResponses, r#"{"input":"x"}"#, false),
            (
                Dialect::OpenAiResponses,
                r#"{"input":"x","previous_response_id":null,"background":false}"#,
                false,
            ),
            (Dialect::OpenAiResponses, r#"{"input":"x","previous_response_id":"resp_1"}"#, true),
            (Dialect::OpenAiResponses, r#"{"input":"x","conversation":{"id":"c"}}"#, true),
            (Dialect::OpenAiResponses, r#"{"input":"x","background":true}"#, true),
            (Dialect::OllamaChat, r#"{"messages":[]}"#, true),
            (Dialect::OllamaGenerate, r#"{"keep_alive":0}"#, true),
            (Dialect::OllamaGenerate, r#"{"prompt":"x"}"#, false),
        ] {
            let said = Canonical::read(dialect, body.as_bytes()).unwrap();
            assert_eq!(said.has_state, has_state, "{body}");
        }
    }
}
