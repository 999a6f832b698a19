//! What is written to people: text, tables, colours where they are wanted.
//!
//! Everything goes through here and nothing through `println!`, which panics when a reader such as `head` has had
//! enough. Colours are dropped by anstream where the output is no terminal or `NO_COLOR` is set.

use std::io::{self, IsTerminal, Write};

use comfy_table::{CellAlignment, Table, presets};
use serde_json::Value;

pub(crate) const BOLD: &str = "\x1b[1m";
pub(crate) const DIM: &str = "\x1b[2m";
pub(crate) const RED: &str = "\x1b[31m";
pub(crate) const GREEN: &str = "\x1b[32m";
pub(crate) const YELLOW: &str = "\x1b[33m";
pub(crate) const PLAIN: &str = "\x1b[0m";

/// Writes a result.
pub(crate) fn say(text: &str) -> io::Result<()> {
    let mut stdout = anstream::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Writes a result for scripts.
pub(crate) fn say_json(value: &Value) -> io::Result<()> {
    say(&format!("{value:#}\n"))
}

/// Writes a result that is one line of a file to a program, and one that can be read to a terminal.
pub(crate) fn say_record(value: &Value) -> io::Result<()> {
    if io::stdout().is_terminal() { say_json(value) } else { say(&format!("{value}\n")) }
}

/// Writes what is about a result. That nobody reads it is no reason to stop.
pub(crate) fn note(text: &str) {
    let _ = anstream::stderr().lock().write_all(text.as_bytes());
}

/// Writes a piece of a model's answer: to a program as it is, to a terminal without what would steer it.
pub(crate) fn say_answer(text: &str, style: &str) -> io::Result<()> {
    if io::stdout().is_terminal() {
        let plain = if style.is_empty() { "" } else { PLAIN };
        return say(&format!("{style}{}{plain}", printable(text)));
    }
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// A text without control characters but line breaks and tabs.
pub(crate) fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

/// A text on one line, cut to so many characters.
pub(crate) fn short(text: &str, characters: usize) -> String {
    let text = printable(text).replace(['\n', '\t'], " ");
    match text.char_indices().nth(characters) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

/// A table without lines. Columns whose header ends with `>` have their text at the right.
pub(crate) fn table<R: IntoIterator<Item = String>>(
    header: &[&str],
    rows: impl IntoIterator<Item = R>,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.iter().map(|title| title.trim_end_matches('>')));
    for row in rows {
        table.add_row(row.into_iter().map(|cell| short(&cell, 72)).collect::<Vec<String>>());
    }
    for (index, title) in header.iter().enumerate() {
        if let (true, Some(column)) = (title.ends_with('>'), table.column_mut(index)) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let lines = table.lines().enumerate();
    let styled = lines.map(|(index, line)| match (index, line.trim_end()) {
        (0, line) => format!("{BOLD}{line}{PLAIN}\n"),
        (_, line) => format!("{line}\n"),
    });
    styled.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_cannot_steer_the_terminal() {
        assert_eq!(printable("a\x1b]0;title\x07b\x1b[2J\r\n\tc\u{9b}1m"), "a]0;titleb[2J\n\tc1m");
        assert_eq!(short("one\ntwo three", 7), "one two…");
        assert_eq!(short("äöü", 3), "äöü");
    }

    #[test]
    fn columns_line_up() {
        let rows = [["a", "1"], ["bbb", "1000"]].map(|row| row.map(str::to_owned));
        let plain = anstream::adapter::strip_str(&table(&["name", "size>"], rows)).to_string();
        assert_eq!(plain, " name  size\n a        1\n bbb   1000\n");
    }
}
