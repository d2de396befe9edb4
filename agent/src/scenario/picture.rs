//! A story as a picture in text: one line for each signal and for the verdict, time from left to right, and below it what
//! was said.
//!
//! In: views of the core. Out: text for a terminal of 100 columns.

use std::fmt::Write as _;

use understudy_core::{Ending, PairView, Phase, Question, Reading, SignalView, Verdict, View, WitnessReport, signed};

use super::player::{Failure, Played};
use super::story::Story;
use crate::text;

const WIDTH: usize = 72;
/// How much of the well time before 0s is shown, as a part of the whole.
const BEFORE: i64 = 12;
/// More is no picture any more.
const LINES: usize = 80;

const LEGEND: &str = "  signals  + Up   - Down   ? Unknown             verdict  U Up  s Suspect  v ServiceDown  d StorageDown  D SiteDown  B Blind
  run      q asked  > going on  ! stuck  < bringing the mirror back  * succeeded  o stopped  x abandoned";

/// What was seen, line by line.
#[derive(Debug, Clone, Default)]
pub struct Film {
    rows: Vec<Row>,
    from_ms: i64,
    to_ms: i64,
}

#[derive(Debug, Clone)]
struct Row {
    label: String,
    /// From when on, which sign.
    signs: Vec<(i64, char)>,
}

impl Film {
    /// An empty film of `story`.
    #[must_use]
    pub fn new(story: &Story) -> Self {
        let to_ms = signed(understudy_core::millis(story.until)).max(1000);
        let before = signed(understudy_core::millis(story.healthy_before)).min(to_ms / BEFORE);
        Self { rows: vec![], from_ms: -before, to_ms }
    }

    /// Takes one picture.
    pub fn take(&mut self, at_ms: i64, view: &View) {
        for check in &view.self_checks {
            self.sign(at_ms, &check.name, sign_of(check));
        }
        let many = view.pairs.len() > 1;
        for pair in &view.pairs {
            let named = |what: &str| if many { format!("{} {what}", pair.name) } else { what.to_owned() };
            for signal in &pair.signals {
                self.sign(at_ms, &named(&signal.name), sign_of(signal));
            }
            for witness in &pair.witnesses {
                self.sign(at_ms, &named(&witness.name), witness_sign(&witness.report));
            }
            self.sign(at_ms, &named("verdict"), verdict_sign(pair.verdict));
            self.sign(at_ms, &named("run"), run_sign(pair));
        }
    }

    fn sign(&mut self, at_ms: i64, label: &str, sign: char) {
        let row = match self.rows.iter_mut().position(|row| row.label == label) {
            Some(at) => &mut self.rows[at],
            None => {
                self.rows.push(Row { label: label.to_owned(), signs: vec![] });
                self.rows.last_mut().expect("it was pushed just now")
            }
        };
        if row.signs.last().is_none_or(|(_, last)| *last != sign) {
            row.signs.push((at_ms, sign));
        }
    }

    fn column(&self, at_ms: i64) -> usize {
        let whole = (self.to_ms - self.from_ms).max(1);
        let place = (at_ms - self.from_ms).clamp(0, whole) * (signed(WIDTH as u64) - 1) / whole;
        usize::try_from(place).unwrap_or(0)
    }

    fn time_of(&self, column: usize) -> i64 {
        self.from_ms + (self.to_ms - self.from_ms) * signed(column as u64) / signed(WIDTH as u64)
    }

    fn line(&self, row: &Row) -> String {
        (0..WIDTH).map(|column| self.worst(row, self.time_of(column), self.time_of(column + 1))).collect()
    }

    /// Within a column the sign that matters most is shown, so that nothing short is lost.
    fn worst(&self, row: &Row, from_ms: i64, to_ms: i64) -> char {
        let before = row.signs.iter().rev().find(|(at, _)| *at <= from_ms).map(|(_, sign)| *sign);
        let within = row.signs.iter().filter(|(at, _)| *at > from_ms && *at < to_ms).map(|(_, sign)| *sign);
        before.into_iter().chain(within).max_by_key(|sign| weight(*sign)).unwrap_or(' ')
    }

    fn ruler(&self) -> String {
        let mut ruler = String::new();
        for column in (0..WIDTH).step_by(12) {
            let ms = self.time_of(column);
            let sign = if ms < 0 { "-" } else { "" };
            let at = text::duration(ms.unsigned_abs()).replace(" ms", "ms").replace(" s", "s").replace(" min", "m");
            let _ = write!(ruler, "{:<12}", format!("|{sign}{at}"));
        }
        ruler.trim_end().to_owned()
    }
}

/// Where a sign stands among the others of its line.
fn weight(sign: char) -> usize {
    " .+Uq>*?sB<o-vdD!x".find(sign).unwrap_or(0)
}

fn sign_of(signal: &SignalView) -> char {
    match signal.state {
        Reading::Up => '+',
        Reading::Down(_) => '-',
        Reading::Unknown(_) => '?',
    }
}

fn witness_sign(report: &WitnessReport) -> char {
    match report {
        WitnessReport::Absent { .. } => '?',
        WitnessReport::Blind => 'B',
        WitnessReport::Sees { domains } if domains.iter().any(|(_, reading)| reading.is_up()) => '+',
        WitnessReport::Sees { domains } if domains.iter().any(|(_, reading)| reading.is_down()) => '-',
        WitnessReport::Sees { .. } => '?',
    }
}

fn verdict_sign(verdict: Verdict) -> char {
    match verdict {
        Verdict::Up => 'U',
        Verdict::Suspect => 's',
        Verdict::ServiceDown => 'v',
        Verdict::StorageDown => 'd',
        Verdict::SiteDown => 'D',
        Verdict::Blind => 'B',
    }
}

fn run_sign(pair: &PairView) -> char {
    if pair.request.as_ref().is_some_and(|request| matches!(request.question, Question::Failover | Question::Unfenced))
    {
        return 'q';
    }
    match pair.run.as_ref().map(|run| (&run.phase, run.stuck().next().is_some())) {
        None => '.',
        Some((Phase::Forward | Phase::BringingBack { .. }, true)) => '!',
        Some((Phase::Forward, false)) => '>',
        Some((Phase::BringingBack { .. }, false)) => '<',
        Some((Phase::Ended { ending: Ending::Succeeded, .. }, _)) => '*',
        Some((Phase::Ended { ending: Ending::Stopped { .. }, .. }, _)) => 'o',
        Some((Phase::Ended { ending: Ending::Abandoned { .. }, .. }, _)) => 'x',
    }
}

/// The whole story: what was not as expected, the picture, and what was said.
#[must_use]
pub fn picture(story: &Story, played: &Played) -> String {
    let film = &played.film;
    let mut out = String::new();
    for failure in &played.failures {
        let at = at(failure.at_ms);
        let _ = writeln!(out, "  {}:{}: at {at}", story.file, failure.line);
        let _ = writeln!(out, "      expected  {}", failure.expected);
        let _ = writeln!(out, "      found     {}", failure.found);
    }
    let label = film.rows.iter().map(|row| row.label.chars().count()).max().unwrap_or(0).max(7);
    let _ = writeln!(out, "\n  {:label$}  {}", "", film.ruler());
    for row in &film.rows {
        let _ = writeln!(out, "  {:label$}  {}", row.label, film.line(row));
    }
    if !played.failures.is_empty() {
        let _ = writeln!(out, "  {:label$}  {}", "", carets(film, &played.failures));
    }
    let _ = writeln!(out, "{LEGEND}\n");
    let told: Vec<&(i64, String)> = played.said.iter().filter(|(at, line)| *at >= 0 && is_news(line)).collect();
    for (at_ms, line) in told.iter().take(LINES) {
        let _ = writeln!(out, "  {:>11}  {line}", at(*at_ms));
    }
    if told.len() > LINES {
        let _ = writeln!(out, "  … and {} more", told.len() - LINES);
    }
    out
}

/// Rounds and gates fill a page and tell nothing that the picture does not show.
fn is_news(line: &str) -> bool {
    !line.contains("hold-down: round") && !line.contains("gates asked at")
}

fn carets(film: &Film, failures: &[Failure]) -> String {
    let mut line = vec![' '; WIDTH];
    for failure in failures {
        line[film.column(failure.at_ms)] = '^';
    }
    line.into_iter().collect::<String>().trim_end().to_owned()
}

fn at(ms: i64) -> String {
    if ms < 0 { format!("-{}", text::duration(ms.unsigned_abs())) } else { text::duration(ms.unsigned_abs()) }
}
