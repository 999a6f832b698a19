//! Log lines: how they are written, and which.

mod buffer;

use std::io::{self, IsTerminal};

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use self::buffer::{LogBuffer, LogGuard};
use crate::config::Environment;

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged if nobody says.
const FILTER: &str = "info";

/// Starts logging to standard error. Gives back what writes the last lines when it is dropped, and what is wrong with the
/// filter that the environment asks for, since there is no log to tell it before.
pub(crate) fn init(format: LogFormat, env: &Environment) -> (LogGuard, Option<String>) {
    let (filter, problem) = filter(env);
    let (buffer, guard) = LogBuffer::start(io::stderr());
    let colours = io::stderr().is_terminal() && env.filled("NO_COLOR").is_none();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(buffer).with_ansi(colours);
    // Only a program that embeds this one can have a log already, and then that one counts.
    let _ = match format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
    (guard, problem)
}

fn filter(env: &Environment) -> (EnvFilter, Option<String>) {
    let Some((name, text)) = env.first_filled(&["HOOSH_LOG", "RUST_LOG"]) else {
        return (EnvFilter::new(FILTER), None);
    };
    match EnvFilter::try_new(text) {
        Ok(filter) => (filter, None),
        Err(error) => {
            (EnvFilter::new(FILTER), Some(format!("{name} is no filter ({error}); `{FILTER}` holds")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_comes_from_the_first_variable_and_a_bad_one_is_told() {
        let check = |variables: &[(&str, &str)]| {
            let (filter, problem) = filter(&Environment::from_iter(variables.iter().copied()));
            (filter.to_string(), problem.is_some())
        };
        assert_eq!(check(&[]), ("info".into(), false));
        assert_eq!(check(&[("RUST_LOG", "warn")]), ("warn".into(), false));
        assert_eq!(check(&[("RUST_LOG", "warn"), ("HOOSH_LOG", "debug")]), ("debug".into(), false));
        assert_eq!(check(&[("HOOSH_LOG", "hoosh=loud")]), ("info".into(), true));
    }
}
