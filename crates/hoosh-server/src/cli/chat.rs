//! `hoosh chat`: questions to a running gateway, once or in turns.

use std::io::{self, BufRead, IsTerminal, Read};
use std::time::{Duration, Instant};

use clap::Args;
use hoosh_client::{
    CallMeta, FinishReason, HooshClient, InferenceRequest, Message, ModelInfo, StreamEvent, Usage,
};
use serde_json::json;
use tokio::sync::mpsc;

use super::Failure;
use super::gateway::{GatewayArgs, duration};
use super::terminal::{DIM, PLAIN, YELLOW, note, printable, say, say_answer, say_json};

#[derive(Debug, Args)]
pub(crate) struct ChatArgs {
    #[command(flatten)]
    gateway: GatewayArgs,

    /// Model, alias or provider/model; the gateway's first if not given
    #[arg(short, long)]
    model: Option<String>,

    /// Instructions for the model
    #[arg(short, long)]
    system: Option<String>,

    /// Most tokens to generate
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    max_tokens: Option<u64>,

    /// Randomness, 0 to 2
    #[arg(long, value_parser = temperature)]
    temperature: Option<f64>,

    /// Wait for the whole answer
    #[arg(long)]
    no_stream: bool,

    /// Stream the answer, which is the default; hoosh 1.3 had to be told
    #[arg(long, hide = true, conflicts_with = "no_stream")]
    stream: bool,

    /// Print the whole answer as JSON
    #[arg(long)]
    json: bool,

    /// The question; without one it is read from standard input, and at a terminal a conversation begins
    question: Vec<String>,
}

/// What came of one question.
#[derive(Default)]
struct Answer {
    text: String,
    /// The model that answered, as it names itself.
    model: String,
    meta: CallMeta,
    usage: Option<Usage>,
    finish: Option<FinishReason>,
    /// Time to the first output; unknown if it came as a whole.
    first: Option<Duration>,
    total: Duration,
    /// Whether the person had enough.
    stopped: bool,
}

/// What a line of a conversation says.
#[derive(Debug, PartialEq, Eq)]
enum Turn<'a> {
    Ask(&'a str),
    Reset,
    Model(&'a str),
    Help,
    Unknown(&'a str),
    Nothing,
    Quit,
}

const HELP: &str = "/reset forgets the conversation, /model NAME changes the model, /quit or Ctrl-D ends\n";

pub(crate) async fn run(args: ChatArgs) -> Result<(), Failure> {
    let question = args.question.join(" ");
    let conversation = question.is_empty() && io::stdin().is_terminal();
    if conversation && args.json {
        return Err(Failure::Usage("`--json` wants a question".to_owned()));
    }
    let question =
        if !conversation && (question.is_empty() || question == "-") { read_question()? } else { question };

    let client = args.gateway.client();
    let mut request = InferenceRequest {
        model: match &args.model {
            Some(model) => model.clone(),
            None => first_model(&client).await?,
        },
        system: args.system.clone(),
        max_tokens: args.max_tokens,
        temperature: args.temperature.map(Into::into),
        ..InferenceRequest::default()
    };
    if conversation {
        return converse(&args, &client, request).await;
    }
    request.prompt = question;
    let answer = ask(&args, &client, &request).await?;
    if args.json {
        say_json(&answer.json())?;
    } else {
        note(&format!("{DIM}{}{PLAIN}\n", answer.summary()));
    }
    Ok(())
}

/// Question and answer in turns until the person ends it.
async fn converse(
    args: &ChatArgs,
    client: &HooshClient,
    mut request: InferenceRequest,
) -> Result<(), Failure> {
    note(&format!("{DIM}{} at {}; {HELP}{PLAIN}", request.model, args.gateway.url));
    let mut lines = read_lines();
    loop {
        note(&format!("\n{DIM}>{PLAIN} "));
        let line = tokio::select! {
            line = lines.recv() => line,
            _ = tokio::signal::ctrl_c() => None,
        };
        match Turn::parse(line.as_deref()) {
            Turn::Nothing => {}
            Turn::Quit => break,
            Turn::Help => note(HELP),
            Turn::Unknown(word) => note(&format!("there is no {}; {HELP}", printable(word))),
            Turn::Reset => request.messages.clear(),
            Turn::Model("") => note(&format!("{}\n", request.model)),
            Turn::Model(name) => request.model = name.to_owned(),
            Turn::Ask(question) => {
                request.messages.push(Message::user(question));
                match ask(args, client, &request).await {
                    Ok(answer) => {
                        note(&format!("{DIM}{}{PLAIN}\n", answer.summary()));
                        if answer.text.is_empty() {
                            request.messages.pop();
                        } else {
                            request.messages.push(Message::assistant(answer.text));
                        }
                    }
                    // The question can be asked again, of another model perhaps.
                    Err(Failure::Client(error)) => {
                        note(&format!("{YELLOW}{}{PLAIN}\n", printable(&error.to_string())));
                        request.messages.pop();
                    }
                    Err(failure) => return Err(failure),
                }
            }
        }
    }
    note("\n");
    Ok(())
}

/// Asks, and writes the answer as it comes unless it is to be JSON.
async fn ask(args: &ChatArgs, client: &HooshClient, request: &InferenceRequest) -> Result<Answer, Failure> {
    let start = Instant::now();
    if args.no_stream || args.json {
        let (response, meta) = client.infer_with_meta(request).await?;
        let finish = response.finish_reason().cloned();
        let answer = Answer {
            text: response.text,
            model: response.model,
            meta,
            usage: response.usage,
            finish,
            total: start.elapsed(),
            ..Answer::default()
        };
        if !args.json {
            say_answer(&answer.text, "")?;
            say_answer("\n", "")?;
        }
        return Ok(answer);
    }

    let in_conversation = !request.messages.is_empty();
    // Outside of a conversation Ctrl-C ends the program, which closes the connection as well.
    let interrupt = async {
        if in_conversation {
            let _ = tokio::signal::ctrl_c().await;
        } else {
            std::future::pending::<()>().await;
        }
    };
    tokio::pin!(interrupt);
    let mut stream = tokio::select! {
        stream = client.infer_stream(request) => stream?,
        () = &mut interrupt => return Ok(Answer { stopped: true, total: start.elapsed(), ..Answer::default() }),
    };
    let mut answer = Answer { meta: stream.meta().clone(), ..Answer::default() };
    let (mut thinking, mut failure) = (false, None);
    loop {
        let event = tokio::select! {
            event = stream.next() => event,
            () = &mut interrupt => {
                answer.stopped = true;
                break;
            }
        };
        let event = match event {
            None => break,
            Some(Ok(event)) => event,
            Some(Err(error)) => {
                failure = Some(error);
                break;
            }
        };
        if event.is_output() && answer.first.is_none() {
            answer.first = Some(start.elapsed());
        }
        match event {
            StreamEvent::Start { model, .. } => answer.model = model,
            StreamEvent::Text { choice: 0, delta } | StreamEvent::Refusal { choice: 0, delta } => {
                if std::mem::take(&mut thinking) {
                    say("\n\n")?;
                }
                say_answer(&delta, "")?;
                answer.text.push_str(&delta);
            }
            // A program that reads the answer wants the answer.
            StreamEvent::Reasoning { choice: 0, delta } if io::stdout().is_terminal() => {
                thinking = true;
                say_answer(&delta, DIM)?;
            }
            StreamEvent::Finish { choice: 0, reason } => answer.finish = Some(reason),
            StreamEvent::Usage(usage) => answer.usage = Some(usage),
            _ => {}
        }
    }
    answer.total = start.elapsed();
    if answer.first.is_some() {
        say_answer("\n", "")?;
    }
    failure.map_or(Ok(answer), |error| Err(error.into()))
}

/// The model to ask if none is given, which is said.
async fn first_model(client: &HooshClient) -> Result<String, Failure> {
    let models = client.list_models().await?;
    let embeds = |model: &&ModelInfo| {
        model.output.iter().any(|kind| kind.name() == "embedding") || model.id.contains("embed")
    };
    let chosen = models.iter().find(|model| !embeds(model)).or(models.first());
    let Some(model) = chosen else {
        return Err(Failure::Usage("the gateway lists no model; name one with `-m`".to_owned()));
    };
    let count = models.len();
    note(&format!(
        "{DIM}model {}, the first of {count}; `-m` chooses another{PLAIN}\n",
        printable(&model.id)
    ));
    Ok(model.id.clone())
}

fn read_question() -> Result<String, Failure> {
    let mut question = String::new();
    io::stdin().lock().take(hoosh_core::limits::QUESTION_BYTES_MAX).read_to_string(&mut question)?;
    if question.trim().is_empty() {
        return Err(Failure::Usage("there is no question".to_owned()));
    }
    Ok(question)
}

/// Lines of standard input. The thread ends with its input or with the program: a read cannot be called off.
fn read_lines() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    lines
}

fn temperature(text: &str) -> Result<f64, String> {
    let number: Result<f64, _> = text.parse();
    number
        .ok()
        .filter(|number| (0.0..=2.0).contains(number))
        .ok_or_else(|| "expected a number from 0 to 2".to_owned())
}

// === impl Turn ===

impl<'a> Turn<'a> {
    fn parse(line: Option<&'a str>) -> Self {
        let Some(line) = line.map(str::trim) else { return Self::Quit };
        if line.is_empty() {
            return Self::Nothing;
        }
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        match word {
            "/reset" => Self::Reset,
            "/model" => Self::Model(rest.trim()),
            "/help" | "/?" => Self::Help,
            "/quit" | "/exit" | "/bye" => Self::Quit,
            // A path is no command.
            word if word.starts_with('/') && !word[1..].contains('/') => Self::Unknown(word),
            _ => Self::Ask(line),
        }
    }
}

// === impl Answer ===

impl Answer {
    /// Who answered, how much and how fast, in one line.
    fn summary(&self) -> String {
        let model = self.meta.model.as_deref().unwrap_or(&self.model);
        let mut parts = vec![match &self.meta.provider {
            Some(provider) => format!("{provider}/{model}"),
            None => model.to_owned(),
        }];
        if let Some(usage) = &self.usage {
            parts.push(format!("{} + {} tokens", usage.prompt_total(), usage.completion_total()));
        }
        if let Some(first) = self.first {
            parts.push(format!("first after {}", duration(first)));
        }
        parts.push(format!("{} in all", duration(self.total)));
        if let Some(speed) = self.tokens_per_second() {
            parts.push(format!("{speed:.1} tokens/s"));
        }
        if let Some(cost) = self.meta.cost {
            parts.push(cost.to_string());
        }
        if self.meta.attempts.is_some_and(|attempts| attempts > 1) {
            parts.push(format!("{} attempts", self.meta.attempts.unwrap_or_default()));
        }
        if self.stopped {
            parts.push("stopped".to_owned());
        } else if self.finish == Some(FinishReason::Length) {
            parts.push("cut at the most tokens".to_owned());
        }
        if !self.meta.lossy.is_empty() {
            let fields: Vec<String> = self.meta.lossy.iter().map(ToString::to_string).collect();
            parts.push(format!("not carried: {}", fields.join(", ")));
        }
        printable(&parts.join(" · "))
    }

    /// Speed of the answer, without the wait for its beginning where that is known.
    fn tokens_per_second(&self) -> Option<f64> {
        let tokens = self.usage?.completion_total();
        let time = self.total.saturating_sub(self.first.unwrap_or_default()).as_secs_f64();
        (tokens > 0 && time > 0.001).then(|| tokens as f64 / time)
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "text": self.text,
            "model": self.meta.model.as_deref().unwrap_or(&self.model),
            "provider": self.meta.provider,
            "finish_reason": self.finish.as_ref().map(FinishReason::as_str),
            "prompt_tokens": self.usage.map(|usage| usage.prompt_total()),
            "completion_tokens": self.usage.map(|usage| usage.completion_total()),
            "cost": self.meta.cost.map(|cost| cost.to_string()),
            "attempts": self.meta.attempts,
            "request_id": self.meta.request_id,
            "total_ms": self.total.as_millis() as u64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_conversation_are_told_apart() {
        for (line, expect) in [
            (None, Turn::Quit),
            (Some("  "), Turn::Nothing),
            (Some(" hi /reset "), Turn::Ask("hi /reset")),
            (Some("/reset"), Turn::Reset),
            (Some("/model  llama3 "), Turn::Model("llama3")),
            (Some("/model"), Turn::Model("")),
            (Some("/etc/hosts: what is it?"), Turn::Ask("/etc/hosts: what is it?")),
            (Some("/rest"), Turn::Unknown("/rest")),
            (Some("/quit"), Turn::Quit),
        ] {
            assert_eq!(Turn::parse(line), expect, "{line:?}");
        }
    }

    #[test]
    fn the_summary_says_who_how_much_and_how_fast() {
        let mut answer = Answer {
            model: "llama3:8b".into(),
            usage: Some(Usage { input: Some(12), output: Some(34), ..Usage::default() }),
            first: Some(Duration::from_millis(120)),
            total: Duration::from_millis(1_500),
            ..Answer::default()
        };
        answer.meta.provider = Some("ollama".into());
        assert_eq!(
            answer.summary(),
            "ollama/llama3:8b · 12 + 34 tokens · first after 120 ms · 1.50 s in all · 24.6 tokens/s"
        );
        let bare = Answer { model: "m\x1b[2J".into(), stopped: true, ..Answer::default() };
        assert_eq!(bare.summary(), "m[2J · 0 ms in all · stopped");
    }
}
