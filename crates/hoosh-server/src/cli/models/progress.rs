//! How far a download is: one line that is written over on a terminal, a line for each step elsewhere.

use hoosh_providers::PullProgress;

use super::super::terminal::short;

/// What was shown of a download.
#[derive(Debug)]
pub(super) struct Progress {
    is_terminal: bool,
    /// The line that stands on the terminal.
    shown: String,
    /// What the last line was about, and at which percentage.
    step: Option<(String, u64)>,
}

/// Longest status that is shown, so that a line fits into 80 columns. Unit: characters.
const STATUS_MAX: usize = 40;

/// Percents between two lines where lines are not written over: a log of a download has ten, not thousands.
const STEP: u64 = 10;

// === impl Progress ===

impl Progress {
    pub(super) fn new(is_terminal: bool) -> Self {
        Self { is_terminal, shown: String::new(), step: None }
    }

    /// What is to be written for a report; empty if it says nothing new.
    pub(super) fn take(&mut self, report: &PullProgress) -> String {
        let line = line(report);
        if self.is_terminal {
            return self.rewritten(line);
        }
        let status = report.status.clone().unwrap_or_default();
        let percent = percent(report).unwrap_or(0);
        let is_new = self.step.as_ref().is_none_or(|(last, at)| *last != status || percent >= at + STEP);
        if !is_new {
            return String::new();
        }
        self.step = Some((status, percent - percent % STEP));
        format!("{line}\n")
    }

    /// What removes the line from the terminal.
    pub(super) fn clear(&mut self) -> String {
        match std::mem::take(&mut self.shown).chars().count() {
            0 => String::new(),
            width => format!("\r{:width$}\r", ""),
        }
    }

    /// The line over the last one, with spaces over what that had more: `NO_COLOR` would drop a control sequence.
    fn rewritten(&mut self, line: String) -> String {
        if line == self.shown {
            return String::new();
        }
        let width = self.shown.chars().count();
        let written = format!("\r{line:width$}");
        self.shown = line;
        written
    }
}

/// `pulling 4dfbdc96e39c   42 %  19.4 MB of 46.2 MB`
fn line(report: &PullProgress) -> String {
    let status = short(report.status.as_deref().unwrap_or_default(), STATUS_MAX);
    match (percent(report), report.completed.unwrap_or(0), report.total) {
        (Some(percent), completed, Some(total)) => {
            format!("{status} {percent:>4} %  {} of {}", bytes(completed.min(total)), bytes(total))
        }
        _ => status,
    }
}

/// How much of a layer is there; `None` for what is no download.
fn percent(report: &PullProgress) -> Option<u64> {
    let total = report.total.filter(|total| *total > 0)?;
    let done = u128::from(report.completed.unwrap_or(0)) * 100 / u128::from(total);
    Some(u64::try_from(done).unwrap_or(100).min(100))
}

/// A size as Ollama shows it: `512 B`, `46.2 MB`, `4.7 GB`.
fn bytes(count: u64) -> String {
    let units = [(1_000_000_000_000, "TB"), (1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match units.into_iter().find(|(unit, _)| count >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", count as f64 / unit as f64),
        None => format!("{count} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(status: &str, completed: Option<u64>, total: Option<u64>) -> PullProgress {
        PullProgress { status: Some(status.to_owned()), completed, total, ..PullProgress::default() }
    }

    #[test]
    fn lines_say_what_and_how_far() {
        for (status, completed, total, expected) in [
            ("pulling manifest", None, None, "pulling manifest"),
            ("pulling 4dfb", None, Some(46_220_580), "pulling 4dfb    0 %  0 B of 46.2 MB"),
            ("pulling 4dfb", Some(19_400_000), Some(46_220_580), "pulling 4dfb   41 %  19.4 MB of 46.2 MB"),
            ("pulling 4dfb", Some(999), Some(999), "pulling 4dfb  100 %  999 B of 999 B"),
            ("pulling 4dfb", Some(u64::MAX), Some(4_700_000_000), "pulling 4dfb  100 %  4.7 GB of 4.7 GB"),
            ("pulling 4dfb", Some(1), Some(0), "pulling 4dfb"),
            ("\x1b[2Jpull\ning", None, None, "[2Jpull ing"),
        ] {
            assert_eq!(line(&report(status, completed, total)), expected);
        }
        assert!(line(&report(&"x".repeat(1_000), Some(1), Some(u64::MAX))).chars().count() < 80);
    }

    #[test]
    fn a_terminal_has_one_line_that_is_written_over() {
        let mut progress = Progress::new(true);
        assert_eq!(progress.take(&report("pulling manifest", None, None)), "\rpulling manifest");
        assert_eq!(progress.take(&report("pulling manifest", None, None)), "");
        assert_eq!(progress.take(&report("short", None, None)), "\rshort           ");
        assert_eq!(progress.clear(), "\r     \r");
        assert_eq!(progress.clear(), "");
    }

    #[test]
    fn elsewhere_there_is_a_line_for_each_tenth() {
        let mut progress = Progress::new(false);
        let mut written = progress.take(&report("pulling manifest", None, None));
        for completed in 0..=200 {
            written += &progress.take(&report("pulling 4dfb", Some(completed), Some(200)));
        }
        written += &progress.take(&report("pulling aaaa", Some(50), Some(50)));
        written += &progress.take(&report("success", None, None));
        written += &progress.clear();
        let lines: Vec<&str> = written.lines().collect();
        assert_eq!(lines.len(), 1 + 11 + 1 + 1, "{written}");
        assert_eq!(lines[1], "pulling 4dfb    0 %  0 B of 200 B");
        assert_eq!(lines[2], "pulling 4dfb   10 %  20 B of 200 B");
        assert_eq!(lines[11], "pulling 4dfb  100 %  200 B of 200 B");
        assert!(!written.contains('\r'));
    }
}
