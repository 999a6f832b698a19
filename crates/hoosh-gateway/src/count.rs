//! Counting tokens where no provider does: for `count_tokens` over providers that have no such endpoint, and for the books
//! where a provider reports no usage.
//!
//! Models of OpenAI's families are counted by their own vocabularies (`tiktoken-rs`); what their servers add around each
//! message is added as OpenAI's cookbook has it (3 tokens a message, 3 for the answer's beginning). Of a call longer than
//! [`COUNTED_EXACTLY_BYTES_MAX`](limits::COUNTED_EXACTLY_BYTES_MAX) the beginning is counted, and the rest taken to be like
//! it. All others are estimated: a token for every four ASCII characters, for every three of scripts with letters as Cyrillic,
//! Arabic or Devanagari, and for every other character. Measured with OpenAI's newest vocabulary that is some 25 % too much
//! for English, a third too little for Thai, two fifths too much for Korean (2026-11-24); older vocabularies make up to five
//! times as many of scripts that are not Latin.
//!
//! An estimate says about how long a prompt is. That it is *surely* too long only the fewest tokens say that it can have
//! ([`Counted::at_least`]), by any vocabulary: a token is no longer than a word.

use std::sync::Arc;

use bytes::Bytes;
use hoosh_core::dialect::Dialect;
use hoosh_core::{
    Choice, EmbeddingInput, InferenceRequest, Message, Part, PartKind, Provenance, ToolDefinition, Usage,
    limits,
};

use tiktoken_rs::CoreBPE;
use tiktoken_rs::tokenizer::{self, Tokenizer};

use crate::call::{Call, decode};
use crate::responses::Turn;

/// Tokens that stand around each message, and before the answer (cookbook.openai.com, "How to count tokens with
/// tiktoken", read 2026-11-24).
const FRAME_TOKENS: u64 = 3;

/// Tokens for a picture whose size nobody looked at: what OpenAI and Anthropic charge for one of some 800 by 800 pixels.
const IMAGE_TOKENS: u64 = 765;

/// A request's body kept beside its stream, for counting at its end.
pub(crate) struct Prompt {
    dialect: Dialect,
    /// `None` if it is too long to be kept.
    body: Option<Bytes>,
    model: String,
    /// The conversation that the body goes on from.
    history: Option<Arc<Turn>>,
    /// The tokens of a prompt that was counted before it was sent, for it is another than the body's.
    counted: Option<u64>,
}

/// The tokens of a prompt, by its messages.
pub(crate) struct Counted {
    /// Of each message, in their order.
    pub(crate) messages: Vec<u64>,
    /// Of everything else.
    pub(crate) rest: u64,
    /// Of all of it, at least: whoever reads no more cannot read it.
    pub(crate) at_least: u64,
}

impl Prompt {
    pub(crate) fn of(call: &Call, model: &str) -> Self {
        let is_kept = call.body.len() <= limits::COUNTED_PROMPT_BYTES_MAX;
        // A copy, since a short body is a piece of a read buffer that is much longer.
        let body = is_kept.then(|| Bytes::copy_from_slice(&call.body));
        let (model, history) = (model.to_owned(), call.history().cloned());
        Self { dialect: call.dialect, body, model, history, counted: None }
    }

    /// One that was counted before it was sent.
    pub(crate) fn counted(call: &Call, model: &str, tokens: u64) -> Self {
        let model = model.to_owned();
        Self { dialect: call.dialect, body: None, model, history: None, counted: Some(tokens) }
    }

    /// Another model reads it.
    pub(crate) fn is_for(&mut self, model: &str) {
        model.clone_into(&mut self.model);
    }

    /// The usage of the call in which the model wrote this; of one whose prompt the provider has counted, without it.
    pub(crate) fn usage(&self, written: &str, is_prompt_known: bool) -> Option<Usage> {
        if is_prompt_known {
            return Some(output(&self.model, written));
        }
        if let Some(input) = self.counted {
            return Some(Usage { input: Some(input), ..output(&self.model, written) });
        }
        let mut request = decode(self.dialect, self.body.as_ref()?).ok()?;
        if let Some(history) = &self.history {
            request.messages.splice(..0, history.conversation());
        }
        Some(usage(&self.model, &request, written))
    }
}

/// The tokens of a whole prompt.
pub(crate) fn prompt(model: &str, request: &InferenceRequest) -> u64 {
    Counter::new(model).prompt(request)
}

/// The tokens of a text.
pub(crate) fn text(model: &str, text: &str) -> u64 {
    Counter::new(model).text(text)
}

/// The same by its messages.
pub(crate) fn by_message(model: &str, request: &InferenceRequest) -> Counted {
    let mut counter = Counter::new(model);
    let rest = counter.rest(request);
    let messages = request.messages.iter().map(|message| counter.framed(message)).collect();
    Counted { messages, rest, at_least: counter.at_least }
}

/// The tokens of one message of text.
pub(crate) fn message(model: &str, message: &Message) -> u64 {
    Counter::new(model).framed(message)
}

/// The usage of an answer whose provider said none.
pub(crate) fn usage(model: &str, request: &InferenceRequest, written: &str) -> Usage {
    Usage { input: Some(prompt(model, request)), ..output(model, written) }
}

/// What a provider said of usage, as far as it can be so; what cannot is counted: more tokens than there are, and none of a prompt or
/// of an answer that were there, as some servers say of every call. Less than was counted stays: they know their vocabulary.
pub(crate) fn believed(said: Option<Usage>, counted: impl FnOnce() -> Option<Usage>) -> Option<Usage> {
    let Some(said) = said else { return counted() };
    let is_absurd = said.total() > limits::USAGE_TOKENS_MAX;
    if !is_absurd && said.prompt_total() > 0 && said.completion_total() > 0 {
        return Some(said);
    }
    let Some(counted) = counted() else { return Some(said).filter(|_| !is_absurd) };
    if is_absurd {
        return Some(counted);
    }
    let mut usage = said;
    if said.prompt_total() == 0 && counted.prompt_total() > 0 {
        (usage.input, usage.provenance) = (counted.input, Provenance::Estimated);
    }
    if said.completion_total() == 0 && counted.completion_total() > 0 {
        (usage.output, usage.provenance) = (counted.output, Provenance::Estimated);
    }
    Some(usage)
}

/// The usage of what was written alone.
fn output(model: &str, written: &str) -> Usage {
    let output = Some(Counter::new(model).text(written));
    Usage { output, provenance: Provenance::Estimated, ..Usage::default() }
}

/// The usage of embeddings whose provider said none.
pub(crate) fn embedding(model: &str, input: &[EmbeddingInput]) -> Usage {
    let mut counter = Counter::new(model);
    let tokens = input.iter().map(|input| match input {
        EmbeddingInput::Text(text) => counter.text(text),
        EmbeddingInput::Tokens(tokens) => tokens.len() as u64,
    });
    Usage { input: Some(tokens.sum()), provenance: Provenance::Estimated, ..Usage::default() }
}

/// What a model wrote in a whole answer, reasoning and calls included.
pub(crate) fn written(choices: &[Choice]) -> String {
    let parts = choices.iter().flat_map(|choice| &choice.parts);
    parts.fold(String::new(), |mut all, part| {
        match &part.kind {
            PartKind::Text(text) | PartKind::Reasoning(text) | PartKind::Refusal(text) => all.push_str(text),
            PartKind::ToolCall(call) => {
                all.push_str(&call.name);
                all.push_str(&call.arguments);
            }
            _ => {}
        }
        all
    })
}

/// Tokens of an answer as it comes, piece by piece: cheap, and never surely too many.
///
/// By a vocabulary each piece is counted as it is, which is what the model wrote where servers send token by token. An estimate may
/// be half as much again too high (see above), so that two thirds of it count; a piece of text is a token at least, so that they count
/// as one each where the estimate does not say less.
#[derive(Clone, Copy)]
pub(crate) struct Running {
    vocabulary: Option<&'static CoreBPE>,
    exact: u64,
    /// Characters of which four, three and one are a token.
    sizes: [u64; 3],
    pieces: u64,
}

/// Counts the texts of one call for one model.
struct Counter {
    /// That of the model; `None` if it is not known.
    vocabulary: Option<&'static CoreBPE>,
    /// What has been counted exactly so far, in bytes and in tokens: the rest is taken to be like it.
    bytes: usize,
    tokens: u64,
    /// The fewest tokens that all of it so far can have.
    at_least: u64,
}

// === impl Running ===

impl Running {
    pub(crate) fn new(model: &str) -> Self {
        Self { vocabulary: Counter::new(model).vocabulary, exact: 0, sizes: [0; 3], pieces: 0 }
    }

    /// The same with one more piece.
    #[must_use]
    pub(crate) fn with(mut self, piece: &str) -> Self {
        if piece.is_empty() {
            return self;
        }
        self.pieces += 1;
        match self.vocabulary.filter(|_| piece.len() <= limits::COUNTED_EXACTLY_BYTES_MAX) {
            Some(vocabulary) => self.exact += vocabulary.encode_ordinary(piece).len() as u64,
            None => piece.chars().for_each(|c| self.sizes[Class::of(c).size(c)] += 1),
        }
        self
    }

    /// How many there are, surely.
    pub(crate) fn tokens(&self) -> u64 {
        let [fours, threes, ones] = self.sizes;
        let estimate = fours.div_ceil(4) + threes.div_ceil(3) + ones;
        if self.vocabulary.is_some() {
            return self.exact + estimate;
        }
        (estimate * 2 / 3).max(self.pieces.min(estimate))
    }
}

// === impl Counted ===

impl Counted {
    /// Of all of it.
    pub(crate) fn total(&self) -> u64 {
        self.messages.iter().sum::<u64>() + self.rest
    }
}

// === impl Counter ===

impl Counter {
    fn new(model: &str) -> Self {
        let vocabulary = match tokenizer::get_tokenizer(bare(model)) {
            Some(Tokenizer::O200kBase | Tokenizer::O200kHarmony) => Some(tiktoken_rs::o200k_base_singleton()),
            Some(Tokenizer::Cl100kBase) => Some(tiktoken_rs::cl100k_base_singleton()),
            // Families older than chat among them.
            _ => None,
        };
        Self { vocabulary, bytes: 0, tokens: 0, at_least: 0 }
    }

    fn prompt(&mut self, request: &InferenceRequest) -> u64 {
        let messages: u64 = request.messages.iter().map(|message| self.framed(message)).sum();
        messages + self.rest(request)
    }

    /// Everything but the messages: instructions and a question that stand beside them, and tools.
    fn rest(&mut self, request: &InferenceRequest) -> u64 {
        let system = request.system.as_deref().map(Message::system);
        let prompt = (!request.prompt.is_empty()).then(|| Message::user(request.prompt.as_str()));
        let beside: u64 = system.into_iter().chain(prompt).map(|message| self.framed(&message)).sum();
        self.frame() + beside + request.tools.iter().map(|tool| self.tool(tool)).sum::<u64>()
    }

    fn framed(&mut self, message: &Message) -> u64 {
        self.frame() + self.message(message)
    }

    /// What stands around a message. Others than OpenAI may have less.
    fn frame(&mut self) -> u64 {
        self.at_least += if self.vocabulary.is_some() { FRAME_TOKENS } else { 0 };
        FRAME_TOKENS
    }

    fn message(&mut self, message: &Message) -> u64 {
        self.text(message.role.as_str())
            + message.name.as_deref().map_or(0, |name| self.text(name))
            + message.parts.iter().map(|part| self.part(part)).sum::<u64>()
    }

    fn part(&mut self, part: &Part) -> u64 {
        match &part.kind {
            PartKind::Text(text) | PartKind::Refusal(text) => self.text(text),
            // What was thought before many models do not read again.
            PartKind::Reasoning(text) => self.perhaps(text),
            PartKind::ToolCall(call) => self.text(&call.name) + self.text(&call.arguments),
            PartKind::ToolResult(result) => result.content.iter().map(|part| self.part(part)).sum(),
            // As much or next to nothing, by its size.
            PartKind::Image { .. } => IMAGE_TOKENS,
            PartKind::Other { json, .. } => self.perhaps(json.get()),
            // How long sound and documents are cannot be seen without reading them.
            _ => 0,
        }
    }

    fn tool(&mut self, tool: &ToolDefinition) -> u64 {
        // A schema is told in fewer words than JSON takes.
        let schema = tool.parameters.as_ref().map_or(0, |schema| self.perhaps(schema.get()));
        let texts = [Some(tool.name.as_str()), tool.description.as_deref()];
        schema + texts.into_iter().flatten().map(|text| self.text(text)).sum::<u64>()
    }

    /// The tokens of a text that may not be read as it is: it has none for sure.
    fn perhaps(&mut self, text: &str) -> u64 {
        let at_least = self.at_least;
        let tokens = self.text(text);
        self.at_least = at_least;
        tokens
    }

    fn text(&mut self, text: &str) -> u64 {
        let Some(vocabulary) = self.vocabulary else {
            let estimate = Estimate::of(text);
            self.at_least += estimate.at_least;
            return estimate.tokens;
        };
        let left = limits::COUNTED_EXACTLY_BYTES_MAX.saturating_sub(self.bytes);
        let (beginning, rest) = text.split_at(text.floor_char_boundary(left.min(text.len())));
        // A caller's text may hold `<|endoftext|>`; it is text to the model.
        let counted = vocabulary.encode_ordinary(beginning).len() as u64;
        self.bytes += beginning.len();
        self.tokens += counted;
        self.at_least += counted;
        if rest.is_empty() {
            return counted;
        }
        self.at_least += Estimate::of(rest).at_least;
        let alike = u128::from(self.tokens) * rest.len() as u128 / self.bytes.max(1) as u128;
        counted.saturating_add(u64::try_from(alike).unwrap_or(u64::MAX))
    }
}

/// The name without a vendor's folder before it, as OpenRouter and `provider/model` have it.
fn bare(model: &str) -> &str {
    model.rsplit('/').next().unwrap_or(model)
}

/// The tokens of a text where the vocabulary is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Estimate {
    /// About.
    tokens: u64,
    /// At least: a word is one or more, and what stands between words may be none. Of a script without blanks its words
    /// are not known, but how long they can be.
    at_least: u64,
}

/// Letters of one token at most: 26. Of the 200,000 in `o200k_base` the longest of letters alone is the alphabet.
const LETTERS_PER_TOKEN: u64 = 26;

/// Characters of Chinese or Japanese that are a token on average at most: 4. The longest are 11, which are phrases; texts have
/// 1.1 to 1.7 in the vocabularies that hold most of them.
const HAN_PER_TOKEN: u64 = 4;

/// What a character is to a vocabulary.
enum Class {
    /// Stands between words.
    Between,
    /// Belongs to a word, and so many are a token.
    Letter(Size),
    /// Han, Hiragana or Katakana.
    Han,
}

/// How many characters are a token.
enum Size {
    Four,
    Three,
    One,
}

// === impl Estimate ===

impl Estimate {
    fn of(text: &str) -> Self {
        let (mut fours, mut threes, mut ones, mut han) = (0_u64, 0_u64, 0_u64, 0_u64);
        let (mut words, mut letters) = (0_u64, 0_u64);
        for c in text.chars() {
            match Class::of(c) {
                Class::Between => {
                    fours += u64::from(c.is_ascii());
                    ones += u64::from(!c.is_ascii());
                    letters = 0;
                }
                Class::Letter(size) => {
                    match size {
                        Size::Four => fours += 1,
                        Size::Three => threes += 1,
                        Size::One => ones += 1,
                    }
                    words += u64::from(letters % LETTERS_PER_TOKEN == 0);
                    letters += 1;
                }
                Class::Han => han += 1,
            }
        }
        Self {
            tokens: fours.div_ceil(4) + threes.div_ceil(3) + ones + han,
            at_least: words + han / HAN_PER_TOKEN,
        }
    }
}

// === impl Class ===

impl Class {
    fn of(c: char) -> Self {
        match c {
            // As in "don't".
            '\'' | '0'..='9' | 'A'..='Z' | 'a'..='z' => Self::Letter(Size::Four),
            '\0'..='\u{7f}' => Self::Between,
            c if c.is_whitespace() => Self::Between,
            // From Greek over all scripts between the Mediterranean and the Mekong; behind them Vietnamese and old Greek.
            '\u{370}'..='\u{1fff}' => Self::Letter(Size::Three),
            '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' => Self::Han,
            '\u{20000}'..='\u{3ffff}' => Self::Han,
            // Signs and pictures among them, which may be of one token with the word before.
            _ => Self::Letter(Size::One),
        }
    }

    /// How many of its kind are a token: four, three or one, by their place.
    fn size(&self, c: char) -> usize {
        match self {
            Self::Letter(Size::Four) => 0,
            Self::Letter(Size::Three) => 1,
            Self::Between if c.is_ascii() => 0,
            Self::Between | Self::Letter(Size::One) | Self::Han => 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use hoosh_core::Role;

    use super::*;

    fn text(model: &str, text: &str) -> u64 {
        Counter::new(model).text(text)
    }

    #[test]
    fn openais_models_are_counted_exactly() {
        // Counted with OpenAI's own tiktoken.
        assert_eq!(text("gpt-4o-mini", "hello world"), 2);
        assert_eq!(text("openai/gpt-4o", "hello <|endoftext|>"), 8);
        assert_eq!(text("gpt-4", "antidisestablishmentarianism"), 6);
    }

    #[test]
    fn a_long_text_is_counted_in_proportion() {
        let (short, long) = ("hello world ".repeat(1_000), "hello world ".repeat(100_000));
        let (short, long) = (text("gpt-4o", &short), text("gpt-4o", &long));
        assert!(long.abs_diff(100 * short) < short, "{short} and {long}");
        // The bound is one for all the texts of a call.
        let parts = vec![Part::text("hello world ".repeat(5_000)); 20];
        let many = InferenceRequest { messages: vec![Message::new(Role::User, parts)], ..Default::default() };
        let many = prompt("gpt-4o", &many);
        assert!(many.abs_diff(100 * short) < short, "{short} and {many}");
    }

    #[test]
    fn others_are_estimated() {
        assert_eq!(text("llama3", "hello world"), 3);
        assert_eq!(text("llama3", "日本"), 2);
        assert_eq!(text("llama3", "Привет, мир!"), 4);
        assert_eq!(text("llama3", ""), 0);
    }

    #[test]
    fn everything_of_a_prompt_counts() {
        let request = InferenceRequest { messages: vec![Message::user("hello world")], ..Default::default() };
        assert_eq!(prompt("gpt-4o", &request), 3 + 3 + 1 + 2);
        let usage = usage("gpt-4o", &request, "hello");
        assert_eq!((usage.input, usage.output, usage.provenance), (Some(9), Some(1), Provenance::Estimated));
    }

    #[test]
    fn an_answer_is_counted_as_it_comes_and_never_surely_too_high() {
        let count = |model: &str, pieces: &[&str]| {
            pieces.iter().fold(Running::new(model), |running, piece| running.with(piece)).tokens()
        };
        assert_eq!(count("gpt-4", &["antidis", "establishment", "arianism"]), 6);
        assert_eq!(count("m", &["word "; 12]), 12, "a piece is a token at least");
        assert_eq!(count("m", &["a"; 40]), 10, "but not where a server sends letter by letter");
        assert_eq!(count("m", &["word ".repeat(12).as_str(), ""]), 10, "two thirds of 15");
        for (name, text) in SAMPLES.iter().filter(|(name, _)| *name != "blanks and rules") {
            let newest = tiktoken_rs::o200k_base_singleton().encode_ordinary(text).len() as u64;
            let pieces: Vec<&str> = text.split_inclusive(' ').collect();
            assert!(count("m", &[text]) <= newest + 1, "{name}");
            assert!(count("m", &pieces) <= newest + newest / 4, "{name}: its words are tokens");
        }
    }

    /// The same articles of the Universal Declaration of Human Rights, and texts as they are sent to models.
    const SAMPLES: [(&str, &str); 24] = [
        (
            "English",
            "All human beings are born free and equal in dignity and rights. They are endowed with reason and conscience and should act towards one another in a spirit of brotherhood. Everyone has the right to life, liberty and security of person.",
        ),
        (
            "German",
            "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft und Gewissen begabt und sollen einander im Geist der Brüderlichkeit begegnen. Jeder hat das Recht auf Leben, Freiheit und Sicherheit der Person.",
        ),
        (
            "French",
            "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont doués de raison et de conscience et doivent agir les uns envers les autres dans un esprit de fraternité. Tout individu a droit à la vie, à la liberté et à la sûreté de sa personne.",
        ),
        (
            "Polish",
            "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw. Są oni obdarzeni rozumem i sumieniem i powinni postępować wobec innych w duchu braterstwa. Każdy człowiek ma prawo do życia, wolności i bezpieczeństwa swej osoby.",
        ),
        (
            "Vietnamese",
            "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền lợi. Mọi con người đều được tạo hoá ban cho lý trí và lương tâm và cần phải đối xử với nhau trong tình anh em.",
        ),
        (
            "Russian",
            "Все люди рождаются свободными и равными в своём достоинстве и правах. Они наделены разумом и совестью и должны поступать в отношении друг друга в духе братства. Каждый человек имеет право на жизнь, на свободу и на личную неприкосновенность.",
        ),
        (
            "Ukrainian",
            "Всі люди народжуються вільними і рівними у своїй гідності та правах. Вони наділені розумом і совістю і повинні діяти у відношенні один до одного в дусі братерства.",
        ),
        (
            "Greek",
            "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα. Είναι προικισμένοι με λογική και συνείδηση, και οφείλουν να συμπεριφέρονται μεταξύ τους με πνεύμα αδελφοσύνης.",
        ),
        (
            "Arabic",
            "يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق. وقد وهبوا عقلاً وضميرًا وعليهم أن يعامل بعضهم بعضًا بروح الإخاء. لكل فرد الحق في الحياة والحرية وسلامة شخصه.",
        ),
        (
            "Hebrew",
            "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם. כולם חוננו בתבונה ובמצפון, לפיכך חובה עליהם לנהוג איש ברעהו ברוח של אחווה.",
        ),
        (
            "Hindi",
            "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है। उन्हें बुद्धि और अन्तरात्मा की देन प्राप्त है और परस्पर उन्हें भाईचारे के भाव से बर्ताव करना चाहिए।",
        ),
        (
            "Bengali",
            "সমস্ত মানুষ স্বাধীনভাবে সমান মর্যাদা এবং অধিকার নিয়ে জন্মগ্রহণ করে। তাঁদের বিবেক এবং বুদ্ধি আছে; সুতরাং সকলেরই একে অপরের প্রতি ভ্রাতৃত্বসুলভ মনোভাব নিয়ে আচরণ করা উচিত।",
        ),
        (
            "Tamil",
            "மனிதப் பிறவியினர் சகலரும் சுதந்திரமாகவே பிறக்கின்றனர்; அவர்கள் மதிப்பிலும், உரிமைகளிலும் சமமானவர்கள், அவர்கள் நியாயத்தையும் மனச்சாட்சியையும் இயற்பண்பாகப் பெற்றவர்கள்.",
        ),
        (
            "Thai",
            "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ ต่างมีเหตุผลและมโนธรรม และควรปฏิบัติต่อกันด้วยเจตนารมณ์แห่งภราดรภาพ",
        ),
        (
            "Georgian",
            "ყველა ადამიანი იბადება თავისუფალი და თანასწორი თავისი ღირსებითა და უფლებებით. მათ მინიჭებული აქვთ გონება და სინდისი და ერთმანეთის მიმართ უნდა იქცეოდნენ ძმობის სულისკვეთებით.",
        ),
        (
            "Armenian",
            "Բոլոր մարդիկ ծնվում են ազատ ու հավասար իրենց արժանապատվությամբ ու իրավունքներով։ Նրանք ունեն բանականություն ու խիղճ և միմյանց պետք է եղբայրաբար վերաբերվեն։",
        ),
        (
            "Chinese",
            "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。人人有权享有生命、自由和人身安全。",
        ),
        (
            "Taiwan's Chinese",
            "人人生而自由，在尊嚴和權利上一律平等。他們賦有理性和良心，並應以兄弟關係的精神相對待。",
        ),
        (
            "Japanese",
            "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。人間は、理性と良心とを授けられており、互いに同胞の精神をもって行動しなければならない。",
        ),
        (
            "Korean",
            "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다. 인간은 천부적으로 이성과 양심을 부여받았으며 서로 형제애의 정신으로 행동하여야 한다.",
        ),
        (
            "code",
            "pub(crate) fn objection(call: &Call, candidate: &Candidate) -> Option<Objection> {\n        let window = candidate.refuses_above(call.context.map(|wish| wish.policy))?;\n        if !may_exceed(call, window) {\n            return None;\n        }\n    }\n",
        ),
        (
            "JSON",
            "{\"id\": \"chatcmpl-1\", \"object\": \"chat.completion\", \"created\": 1700000000, \"choices\": [{\"index\": 0, \"message\": {\"role\": \"assistant\", \"content\": null}, \"finish_reason\": \"tool_calls\"}]}",
        ),
        (
            "one word again and again",
            "word word word word word word word word word word word word word word word word word word word word",
        ),
        (
            "blanks and rules",
            "a                                                                                b\n\n\n\n----------------------------------------------------------------\n================================================================\n",
        ),
    ];

    #[test]
    fn an_estimate_is_near_and_its_least_is_never_too_much() {
        let vocabularies = [tiktoken_rs::o200k_base_singleton(), tiktoken_rs::cl100k_base_singleton()];
        for (name, text) in SAMPLES {
            let [newest, older] =
                vocabularies.map(|vocabulary| vocabulary.encode_ordinary(text).len() as u64);
            let Estimate { tokens, at_least } = Estimate::of(text);
            let told =
                format!("{name}: {tokens} estimated, {at_least} at least, {newest} and {older} counted");
            assert!(at_least <= newest && at_least <= older, "{told}");
            if name == "blanks and rules" {
                continue; // what is 75 of the same character cannot be estimated
            }
            assert!(at_least * 12 >= newest, "the least says something: {told}");
            let percent = tokens * 100 / newest;
            assert!((65..=150).contains(&percent), "{percent} %: {told}");
        }
        // However long the words are, and whatever stands between them.
        for unit in [
            "a",
            "A",
            "0",
            "-",
            " ",
            "\n",
            "=",
            "哈",
            "の",
            "ー",
            "。",
            "ㅋ",
            "🙂",
            "é",
            "a1_",
            "internationalisation",
        ] {
            for times in [1, 20, 26, 27, 75, 200] {
                let text = unit.repeat(times);
                let counted = vocabularies.map(|vocabulary| vocabulary.encode_ordinary(&text).len() as u64);
                let at_least = Estimate::of(&text).at_least;
                assert!(
                    counted.iter().all(|counted| at_least <= *counted),
                    "{unit} {times} times: {at_least}, {counted:?}"
                );
            }
        }
    }

    #[test]
    fn what_a_model_may_not_read_is_not_in_the_least() {
        let message = |part: Part| InferenceRequest {
            messages: vec![Message::new(Role::User, vec![part])],
            ..Default::default()
        };
        for (request, at_least) in [
            (message(Part::text("hello world")), 3),
            (message(PartKind::Reasoning("hello world".to_owned()).into()), 1),
        ] {
            let counted = by_message("llama3", &request);
            assert_eq!((counted.at_least, counted.total()), (at_least, prompt("llama3", &request)));
        }
        let exact = by_message("gpt-4o", &message(Part::text("hello world")));
        assert_eq!(exact.at_least, exact.total());
        // Of a long text the beginning is counted, and the rest has a token a word at least.
        let words = 2 * limits::COUNTED_EXACTLY_BYTES_MAX as u64 / 5;
        let long = by_message("gpt-4o", &message(Part::text("word ".repeat(words as usize))));
        assert!((words..words + 9).contains(&long.at_least), "{} of {words}", long.at_least);
    }
}
