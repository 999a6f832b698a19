//! What came out, beside what should: rows with the bar of DESIGN.md section 10, as a table or as JSON.

use std::fmt;

use comfy_table::{CellAlignment, Table, presets};
use serde::{Serialize, Serializer};

use super::{
    rounds::{Beside, STALL, Tally, Translated, Versus},
    size::PACES,
    standing::Standing,
};
use crate::{
    failure::{Context, Failure},
    load::Lane,
    samples::{Quantiles, median},
};

/// What hoosh may cost in CPU, in added latency and in added delay, in floors.
const RATIO_MAX: f64 = 1.5;

/// What an event that is read and written anew may cost, in events passed through by the same hoosh.
const TRANSLATED_RATIO_MAX: f64 = 3.0;

/// MiB resident with nothing to do.
const IDLE_MIB_MAX: f64 = 15.0;

/// MiB resident with 1,000 open streams.
const OPEN_MIB_MAX: f64 = 60.0;

/// Milliseconds from the start of the process to its first answer.
const START_MS_MAX: f64 = 50.0;

/// Late events per 10,000 that a busy machine explains. A stall by Nagle's algorithm takes whole streams.
const STALLED_PER_10K_MAX: f64 = 10.0;

/// What a floor must add before a ratio to it says anything, in microseconds: below that it is noise.
const ADDED_US_MIN: f64 = 2.0;

/// How far the p99 that a floor adds is from its p50 on a machine left alone: about twice. When it is this many
/// times as far, calls waited for somebody else's work, and which side waited longer is chance.
const DISTURBED_MIN: f64 = 8.0;

/// The whole outcome.
#[derive(Serialize)]
pub(crate) struct Report {
    subject: &'static str,
    /// The first row's ratio, which `--check` is about.
    pub(crate) call_cpu_ratio: Option<f64>,
    rows: Vec<Row>,
    notes: Vec<String>,
}

/// One number of the subject beside the floor's.
#[derive(Serialize)]
struct Row {
    what: String,
    unit: &'static str,
    /// What it is without a proxy, for rows that tell what a proxy adds.
    direct: Option<f64>,
    floor: f64,
    subject: f64,
    ratio: Option<f64>,
    /// The lowest and the highest ratio of a round: how far to trust the median.
    ratio_spread: Option<(f64, f64)>,
    bar: Option<Bar>,
    verdict: Option<Verdict>,
    /// What the medians were taken of, floor first.
    observed: [Vec<f64>; 2],
}

/// Which of the percentiles a row is about.
type Percentile = fn(&Quantiles) -> f64;

/// What a row's bar says about its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Pass,
    Miss,
    /// The floor's own number shows that the machine was disturbed, so it cannot be compared with.
    Noise,
}

/// What a number must not exceed.
#[derive(Clone, Copy)]
enum Bar {
    /// The subject's ratio to the floor.
    Ratio(f64),
    /// The subject's number itself.
    Most(f64),
}

// === impl Report ===

impl Report {
    pub(crate) fn new(
        subject: &'static str,
        tally: &Tally,
        standing: &Standing,
        after_mib: [f64; 2],
        streams: usize,
        notes: Vec<String>,
    ) -> Self {
        let ratio = Some(Bar::Ratio(RATIO_MAX));
        let mut rows = vec![
            Row::versus("CPU per plain call", &tally.call_cpu, ratio),
            Row::versus("CPU per streamed event", &tally.event_cpu, ratio),
            Row::versus("CPU per event of a burst", &tally.burst_cpu, None),
        ];
        for (lane, translated) in Lane::TRANSLATED.iter().zip(&tally.translated) {
            rows.extend(Row::translated(lane.name(), translated));
        }
        rows.extend(Row::added("added to a call, one at a time", &tally.alone));
        for (pace, beside) in PACES.iter().zip(&tally.paced) {
            rows.extend(Row::added(&format!("added to a call, {pace} calls/s"), beside));
        }
        rows.extend(Row::added("added to the first event", &tally.first));
        rows.extend(Row::added("added to each event", &tally.delay));
        let late = tally.stalls.map(|stalls| vec![stalls.per_10k()]);
        let late_what = format!("events {} ms late or later", STALL.as_millis());
        let open_what = format!("memory with {streams} open streams");
        rows.extend([
            Row::plain(late_what, "per 10,000", &late, Some(Bar::Most(STALLED_PER_10K_MAX))),
            Row::plain("memory idle".to_owned(), "MiB", &standing.idle_mib, Some(Bar::Most(IDLE_MIB_MAX))),
            Row::plain(open_what, "MiB", &standing.open_mib, Some(Bar::Most(OPEN_MIB_MAX))),
            Row::plain("memory after all rounds".to_owned(), "MiB", &after_mib.map(|mib| vec![mib]), None),
            Row::plain(
                "start to first answer".to_owned(),
                "ms",
                &standing.start_ms,
                Some(Bar::Most(START_MS_MAX)),
            ),
        ]);
        Self { subject, call_cpu_ratio: rows[0].ratio, rows, notes }
    }

    /// # Errors
    /// When a number cannot be written.
    pub(crate) fn json(&self) -> Result<String, Failure> {
        serde_json::to_string_pretty(self).context(|| "cannot write the report".to_owned())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(presets::UTF8_HORIZONTAL_ONLY);
        table.set_header(["", "unit", "direct", "floor", self.subject, "ratio", "rounds", "bar", ""]);
        for row in &self.rows {
            table.add_row(row.cells());
        }
        for column in 2..=6 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        writeln!(f, "{}", table.trim_fmt())?;
        for note in &self.notes {
            writeln!(f, "{note}")?;
        }
        writeln!(
            f,
            "* translated by {} beside passed through by it, which stands under \"floor\"",
            self.subject
        )?;
        write!(f, "figures are medians of rounds; \"rounds\" is the lowest and the highest ratio of a round")
    }
}

// === impl Row ===

impl Row {
    fn versus(what: &str, versus: &Versus, bar: Option<Bar>) -> Self {
        let [floor, subject] = &versus.rounds;
        // Neighbours in time are compared, then the middle is taken: a slow minute hits both of a pair.
        let ratios = floor.iter().zip(subject).map(|(floor, subject)| subject / floor).collect::<Vec<_>>();
        let low = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let high = ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let row = Self {
            what: what.to_owned(),
            unit: "µs",
            direct: None,
            floor: median(floor),
            subject: median(subject),
            ratio: Some(median(&ratios)),
            ratio_spread: Some((low, high)),
            bar,
            verdict: None,
            observed: versus.rounds.clone(),
        };
        row.judged()
    }

    /// Three rows, in whose `floor` stands what passing through costs the subject; none if it cannot translate.
    fn translated(lane: &str, translated: &Translated) -> Vec<Self> {
        if translated.call_cpu.rounds[0].is_empty() {
            return Vec::new();
        }
        let most = Some(Bar::Ratio(TRANSLATED_RATIO_MAX));
        vec![
            Self::versus(&format!("{lane}, CPU per plain call *"), &translated.call_cpu, None),
            Self::versus(&format!("{lane}, CPU per streamed event *"), &translated.event_cpu, most),
            Self::versus(&format!("{lane}, CPU per event of a burst *"), &translated.burst_cpu, None),
        ]
    }

    /// Two rows, p50 and p99; none if the phase was left out.
    fn added(what: &str, beside: &Beside) -> Vec<Self> {
        if beside.direct.is_empty() {
            return Vec::new();
        }
        let percentiles: [(&str, Percentile); 2] = [("p50", |q| q.p50), ("p99", |q| q.p99)];
        let rows = percentiles.map(|(name, of)| {
            let direct = beside.direct.iter().map(of).collect::<Vec<_>>();
            let observed = beside.through.each_ref().map(|rounds| {
                let added = rounds.iter().zip(&direct).map(|(through, direct)| of(through) - direct);
                added.collect::<Vec<_>>()
            });
            let [floor, subject] = observed.each_ref().map(|added| median(added));
            let row = Self {
                what: format!("{what}, {name}"),
                unit: "µs",
                direct: Some(median(&direct)),
                floor,
                subject,
                ratio: (floor >= ADDED_US_MIN).then_some(subject / floor),
                ratio_spread: None,
                bar: Some(Bar::Ratio(RATIO_MAX)),
                verdict: None,
                observed,
            };
            row.judged()
        });
        let mut rows = Vec::from(rows);
        let disturbed = rows[1].floor > rows[0].floor.max(ADDED_US_MIN) * DISTURBED_MIN;
        if disturbed {
            rows[1].verdict = Some(Verdict::Noise);
        }
        rows
    }

    fn plain(what: String, unit: &'static str, sides: &[Vec<f64>; 2], bar: Option<Bar>) -> Self {
        let [floor, subject] = sides.each_ref().map(|values| median(values));
        let ratio = (floor > 0.0).then_some(subject / floor);
        let row = Self {
            what,
            unit,
            direct: None,
            floor,
            subject,
            ratio,
            ratio_spread: None,
            bar,
            verdict: None,
            observed: sides.clone(),
        };
        row.judged()
    }

    fn judged(self) -> Self {
        let holds = match self.bar {
            Some(Bar::Ratio(most)) => self.ratio.map(|ratio| ratio <= most),
            Some(Bar::Most(most)) => Some(self.subject <= most),
            None => None,
        };
        let verdict = holds.map(|holds| if holds { Verdict::Pass } else { Verdict::Miss });
        Self { verdict, ..self }
    }

    fn cells(&self) -> [String; 9] {
        let ratio = self.ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
        let spread = self.ratio_spread.map_or(String::new(), |(low, high)| format!("{low:.2}..{high:.2}"));
        let verdict = match self.verdict {
            Some(Verdict::Pass) => "PASS",
            Some(Verdict::Miss) => "MISS",
            Some(Verdict::Noise) => "noise",
            None => "",
        };
        [
            self.what.clone(),
            self.unit.to_owned(),
            self.direct.map_or(String::new(), figure),
            figure(self.floor),
            figure(self.subject),
            ratio,
            spread,
            self.bar.map_or(String::new(), |bar| bar.to_string()),
            verdict.to_owned(),
        ]
    }
}

// === impl Bar ===

impl fmt::Display for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ratio(most) => write!(f, "<= {most}x"),
            Self::Most(most) => write!(f, "<= {most}"),
        }
    }
}

impl Serialize for Bar {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Three digits that count, more or less: nobody needs the nanoseconds of a millisecond.
fn figure(value: f64) -> String {
    if value.abs() < 10.0 { format!("{value:.2}") } else { format!("{value:.1}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_the_median_of_neighbours() {
        // The machine was twice as slow in the second round, for both.
        let versus = Versus { rounds: [vec![10.0, 20.0, 10.0], vec![12.0, 24.0, 14.0]] };
        let row = Row::versus("cpu", &versus, Some(Bar::Ratio(1.5)));
        assert_eq!((row.ratio, row.verdict), (Some(1.2), Some(Verdict::Pass)));
        assert_eq!(row.ratio_spread, Some((1.2, 1.4)));
    }

    #[test]
    fn nothing_is_judged_against_a_floor_that_adds_nothing() {
        let same = |micros| vec![Quantiles { p50: micros, p99: micros }];
        let beside = Beside { direct: same(50.0), through: [same(51.0), same(80.0)] };
        let rows = Row::added("call", &beside);
        assert_eq!((rows[0].subject, rows[0].ratio, rows[0].verdict), (30.0, None, None));
    }

    #[test]
    fn a_p99_of_a_disturbed_machine_is_noise() {
        let added = |p99| vec![Quantiles { p50: 100.0, p99 }];
        let beside = Beside {
            direct: vec![Quantiles { p50: 20.0, p99: 25.0 }],
            through: [added(4_000.0), added(9_000.0)],
        };
        let verdicts = Row::added("call", &beside).into_iter().map(|row| row.verdict).collect::<Vec<_>>();
        assert_eq!(verdicts, [Some(Verdict::Pass), Some(Verdict::Noise)]);
    }

    #[test]
    fn a_number_over_its_bar_is_a_miss() {
        let row = Row::plain("memory".to_owned(), "MiB", &[vec![4.0], vec![16.0]], Some(Bar::Most(15.0)));
        assert_eq!((row.ratio, row.verdict), (Some(4.0), Some(Verdict::Miss)));
    }
}
