//! Plays recordings again: would the core of today, or other rules, decide otherwise than the daemon did then?
//!
//! In: a state directory with recordings and journal, and maybe other rules. Out: [`Replayed`]: every decision that stands on
//! one side only. Start reading at [`replay`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Value, json};
use understudy_core::{Command, Event, Now, PairId, Policy, Record, State, step};

use crate::journal::{Entry, JournalError, read_all};
use crate::recording::{self, Recorded, RecordingError};
use crate::tell::sentence;

/// Why nothing can be played.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A recording can not be read.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// The journal can not be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Nothing was recorded here.
    #[error("there is no recording in {}: name a daemon's state directory, or one of its recording-*.jsonl", .0.display())]
    Nothing(PathBuf),
}

/// On which side a decision stands alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The daemon decided so then, and would not now.
    Then,
    /// It would decide so now.
    Now,
}

/// A decision that stands on one side only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// When, in milliseconds since the Unix epoch.
    pub wall_ms: i64,
    /// Of which pair; none = of the daemon itself.
    pub pair: Option<String>,
    /// Where it stands.
    pub side: Side,
    /// What was decided.
    pub decision: String,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Replayed {
    /// How many recordings were played.
    pub recordings: usize,
    /// How many events.
    pub events: u64,
    /// How many decisions stand in the journal of that time.
    pub decisions: u64,
    /// What is otherwise, in the order of time.
    pub differences: Vec<Difference>,
}

/// Plays the recordings at `path`, a state directory or one recording, and compares with the journal beside them.
///
/// - `rules`: other rules than those of then. Without, the core of today is tried on the rules of then.
///
/// # Errors
/// [`ReplayError`].
pub fn replay(path: &Path, rules: Option<&Policy>) -> Result<Replayed, ReplayError> {
    let (directory, files) = if path.is_dir() {
        (path.to_owned(), recording::paths(path)?)
    } else {
        (path.parent().unwrap_or(Path::new(".")).to_owned(), vec![path.to_owned()])
    };
    // The newest recording first, then the journal: a daemon that is running meanwhile has journaled what it recorded before.
    let newest = files.last().map(|file| read_written(file)).transpose()?;
    let entries = read_all(&directory)?;
    let mut out = Replayed::default();
    let mut before: Option<(Recorded, State)> = None;
    let earlier = files.iter().rev().skip(1).rev().map(|file| read_written(file));
    for segment in earlier.chain(newest.map(Ok)) {
        let Some(segment) = segment? else { continue };
        let last = play(&segment, before.as_ref(), rules, &entries, &mut out);
        before = Some((segment, last));
    }
    if out.recordings == 0 {
        return Err(ReplayError::Nothing(path.to_owned()));
    }
    out.differences.sort_by_key(|difference| (difference.wall_ms, difference.side));
    Ok(out)
}

/// One segment; none if its daemon was killed when it had made the file and written nothing.
fn read_written(file: &Path) -> Result<Option<Recorded>, RecordingError> {
    match recording::read(file) {
        Err(RecordingError::Unwritten { .. }) => Ok(None),
        read => read.map(Some),
    }
}

/// Plays one segment; the state in which it ends.
fn play(
    segment: &Recorded,
    before: Option<&(Recorded, State)>,
    rules: Option<&Policy>,
    entries: &[Entry],
    out: &mut Replayed,
) -> State {
    let then = &segment.head.policy;
    let policy = rules.unwrap_or(then);
    let mut state = match (rules, before) {
        (None, _) => segment.head.state.clone(),
        (Some(_), Some((earlier, state))) if goes_on(earlier, segment, entries) => state.clone(),
        (Some(rules), _) => segment.head.state.clone().reload(then, rules, segment.head.began),
    };
    let mut decided: Vec<(Now, Record)> = Vec::new();
    for (at, event) in &segment.events {
        out.events += 1;
        let Some(event) = moved(event.clone(), then, policy) else { continue };
        let (next, commands) = step(policy, state, event, *at);
        state = next;
        decided.extend(commands.into_iter().filter_map(|command| match command {
            Command::Journal(record) => Some((*at, record)),
            _ => None,
        }));
    }
    let span = Span::of(segment, entries);
    let journaled = entries.iter().filter(|entry| span.has(entry)).map(|entry| (entry.at, &entry.record));
    let journaled: Vec<(Now, &Record)> = journaled.filter(|(_, record)| is_decision(record)).collect();
    let decided = decided.iter().filter(|(at, record)| span.reaches(*at) && is_decision(record));
    out.recordings += 1;
    out.decisions += journaled.len() as u64;
    compare(&journaled, &decided.map(|(at, record)| (*at, record)).collect::<Vec<_>>(), out);
    state
}

/// Whether `later` is the same daemon under the same rules, a segment further.
fn goes_on(earlier: &Recorded, later: &Recorded, entries: &[Entry]) -> bool {
    let between = earlier.head.journal_seq..=later.head.journal_seq;
    let started = entries.iter().any(|e| between.contains(&e.seq) && matches!(e.record, Record::Started { .. }));
    !started && earlier.head.policy == later.head.policy && earlier.head.began.boot_id == later.head.began.boot_id
}

/// The part of the journal that a segment accounts for.
struct Span {
    after_seq: u64,
    last: Now,
    /// The last lines were not lost with a process that was killed.
    whole: bool,
}

impl Span {
    fn of(segment: &Recorded, entries: &[Entry]) -> Self {
        let finished =
            |entry: &Entry| matches!(&entry.record, Record::Recording { segment: name, .. } if *name == segment.name);
        let last = segment.events.last().map_or(segment.head.began, |(at, _)| *at);
        Self { after_seq: segment.head.journal_seq, last, whole: entries.iter().any(finished) }
    }

    fn reaches(&self, at: Now) -> bool {
        let in_time = if self.whole { at.boot_ms <= self.last.boot_ms } else { at.boot_ms < self.last.boot_ms };
        at.boot_id == self.last.boot_id && in_time
    }

    fn has(&self, entry: &Entry) -> bool {
        entry.seq > self.after_seq && self.reaches(entry.at)
    }
}

/// `event` as it is called under the rules `to`; none if they do not have who looked.
fn moved(mut event: Event, from: &Policy, to: &Policy) -> Option<Event> {
    if std::ptr::eq(from, to) {
        return Some(event);
    }
    let pair_of = |pair: PairId| {
        let name = &from.pairs.get(pair.at())?.name;
        let at = to.pairs.iter().position(|rules| rules.name == *name)?;
        u32::try_from(at).ok().map(PairId)
    };
    let number = |at: usize| u16::try_from(at).ok();
    match &mut event {
        Event::Tick => {}
        Event::SelfRead { check, .. } => {
            let name = &from.self_checks.get(usize::from(*check))?.name;
            *check = number(to.self_checks.iter().position(|other| other.name == *name)?)?;
        }
        Event::Read { pair, probe, .. } | Event::MirrorRead { pair, probe, .. } => {
            let name = &from.pairs.get(pair.at())?.probes.get(usize::from(*probe))?.name;
            *pair = pair_of(*pair)?;
            *probe = number(to.pairs[pair.at()].probes.iter().position(|other| other.name == *name)?)?;
        }
        Event::WitnessRead { pair, witness, .. } => {
            let name = &from.pairs.get(pair.at())?.witnesses.get(usize::from(*witness))?.name;
            *pair = pair_of(*pair)?;
            *witness = number(to.pairs[pair.at()].witnesses.iter().position(|other| other.name == *name)?)?;
        }
        Event::ClockCompared { pair, .. }
        | Event::Readiness { pair, .. }
        | Event::Lease { pair, .. }
        | Event::StepNoted { pair, .. }
        | Event::StepEnded { pair, .. }
        | Event::Ordered { pair, .. } => *pair = pair_of(*pair)?,
    }
    Some(event)
}

/// What the core says of itself, as opposed to what the shell writes, and to refusals, which decide nothing.
fn is_decision(record: &Record) -> bool {
    !matches!(
        record,
        Record::Started { .. }
            | Record::Snapshot { .. }
            | Record::Ruled { .. }
            | Record::Recording { .. }
            | Record::Refused { .. }
            | Record::SourceTime { .. }
            | Record::ClockError { .. }
    )
}

/// Tells what stands on one side only.
fn compare(then: &[(Now, &Record)], now: &[(Now, &Record)], out: &mut Replayed) {
    let mut open: BTreeMap<(u64, String), Vec<&Record>> = BTreeMap::new();
    for (at, record) in then {
        open.entry((at.boot_ms, essence(record))).or_default().push(record);
    }
    let mut tell = |at: Now, record: &Record, side| {
        let decision = sentence(record).unwrap_or_else(|| essence(record));
        let pair = record.pair().map(ToString::to_string);
        out.differences.push(Difference { wall_ms: at.wall_ms, pair, side, decision });
    };
    for (at, record) in now {
        let same = open.get_mut(&(at.boot_ms, essence(record)));
        if same.and_then(Vec::pop).is_none() {
            tell(*at, record, Side::Now);
        }
    }
    for (at, record) in then {
        let left = open.get_mut(&(at.boot_ms, essence(record)));
        if left.is_some_and(|left| {
            left.iter().position(|other| std::ptr::eq(*other, *record)).map(|n| left.remove(n)).is_some()
        }) {
            tell(*at, record, Side::Then);
        }
    }
}

/// What a record decides, without the words in which it says so.
fn essence(record: &Record) -> String {
    const WORDS: [&str; 12] = [
        "cause",
        "why",
        "message",
        "decided_by",
        "seen",
        "detail",
        "value",
        "what",
        "accepted",
        "gates",
        "consent",
        "proof",
    ];
    let mut value = serde_json::to_value(record).unwrap_or(Value::Null);
    if let Some(fields) = value.as_object_mut() {
        for word in WORDS {
            fields.remove(word);
        }
        for (key, field) in fields.iter_mut() {
            if let (true, Value::Object(inner)) = (matches!(key.as_str(), "run" | "request"), &*field) {
                *field = json!({ "id": inner.get("id"), "question": inner.get("question") });
            } else if let ("result" | "answer" | "ending", Value::Object(inner)) = (key.as_str(), &*field) {
                let tag = inner.get(key.as_str()).cloned().or_else(|| inner.keys().next().map(|name| json!(name)));
                *field = tag.unwrap_or(Value::Null);
            }
        }
    }
    value.to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use understudy_core::{Observation, Order, Reading, Reason, Ticket, resume};

    use super::*;
    use crate::journal::Journal;
    use crate::recording::Recorder;
    use crate::samples::{at, policy};

    /// What a daemon does, without probes and steps: ten seconds of life, death, a question, a no.
    fn lived(directory: &Path, segment_bytes: u64) {
        let policy = policy();
        let (mut journal, _) = Journal::open(directory, 1 << 20).unwrap();
        let mut recorder = Recorder::new(directory, segment_bytes, &policy);
        let (mut state, commands) = resume(&policy, State::new(&policy, at(0)), at(0));
        write(&mut journal, at(0), commands);
        let mut tell = |ms: u64, event: Event| {
            let now = at(ms);
            if let Some(finished) = recorder.record(now, &event, journal.last_seq(), &state) {
                journal.append(now, &[finished], false).unwrap();
            }
            let (next, commands) = step(&policy, state.clone(), event, now);
            state = next;
            write(&mut journal, now, commands);
        };
        for ms in (250..40_000).step_by(250) {
            tell(ms, Event::Tick);
            if ms % 1000 == 0 {
                let reading = if ms < 10_000 { Reading::Up } else { Reading::Down(Reason::Refused) };
                let observation = Observation { reading, started_ms: ms, latency_ms: 1, detail: None };
                tell(ms + 1, Event::Read { pair: PairId(0), probe: 0, observation });
                let until_ms = Some(ms + 30_000);
                tell(ms + 2, Event::Lease { pair: PairId(0), until_ms, holder: None, epoch: None });
                tell(ms + 3, Event::Readiness { pair: PairId(0), missing: vec![] });
            }
        }
        let (request, reason) = ("nexus-1".into(), "no".to_owned());
        let order = Order::Deny { request, reason };
        tell(40_001, Event::Ordered { pair: PairId(0), by: "anna".into(), order, ticket: Ticket(1) });
        tell(41_000, Event::Tick);
        if let Some(finished) = recorder.finish() {
            journal.append(at(41_001), &[finished], false).unwrap();
        }
    }

    fn write(journal: &mut Journal, now: Now, commands: Vec<Command>) {
        for command in commands {
            if let Command::Journal(record) = command {
                journal.append(now, &[record], false).unwrap();
            }
        }
    }

    #[test]
    fn what_a_daemon_decided_is_decided_again() {
        for segment_bytes in [1 << 20, 2000] {
            let dir = tempfile::tempdir().unwrap();
            lived(dir.path(), segment_bytes);

            let replayed = replay(dir.path(), None).unwrap();

            assert_eq!(replayed.differences, []);
            assert!(replayed.decisions >= 8, "{replayed:?}");
            assert_eq!(replayed.recordings > 1, segment_bytes == 2000);
        }
    }

    #[test]
    fn other_rules_show_where_they_decide_otherwise() {
        let dir = tempfile::tempdir().unwrap();
        lived(dir.path(), 1 << 20);
        let mut patient = policy();
        patient.pairs[0].hold_down = Duration::from_secs(20);

        let replayed = replay(dir.path(), Some(&patient)).unwrap();

        let said = |side| {
            let told = replayed.differences.iter().filter(move |d| d.side == side);
            told.map(|d| (d.wall_ms - at(0).wall_ms, d.decision.as_str())).find(|(_, d)| d.contains("SiteDown"))
        };
        let (then, now) = (said(Side::Then).unwrap(), said(Side::Now).unwrap());
        assert_eq!((then.0 / 1000, now.0 / 1000), (22, 32));
    }

    #[test]
    fn a_decision_that_the_core_of_today_would_not_take_is_told() {
        let dir = tempfile::tempdir().unwrap();
        lived(dir.path(), 1 << 20);
        let path = dir.path().join("recording-000001.jsonl");
        // The reading that made the signal fall is lost.
        let text = std::fs::read_to_string(&path).unwrap();
        let kept: Vec<&str> = text.lines().filter(|line| !line.contains("\"started_ms\":12000")).collect();
        std::fs::write(&path, kept.join("\n") + "\n").unwrap();

        let replayed = replay(dir.path(), None).unwrap();

        assert!(replayed.differences.iter().any(|d| d.side == Side::Then && d.decision.contains("Down(refused)")));
    }

    #[test]
    fn a_recording_that_its_daemon_never_wrote_to_is_passed_by() {
        let dir = tempfile::tempdir().unwrap();
        lived(dir.path(), u64::MAX);
        let before = replay(dir.path(), None).unwrap();
        std::fs::write(dir.path().join("recording-000099.jsonl"), "").unwrap();

        assert_eq!(replay(dir.path(), None).unwrap(), before);
    }

    #[test]
    fn a_directory_without_a_recording_is_told() {
        let dir = tempfile::tempdir().unwrap();

        assert!(matches!(replay(dir.path(), None), Err(ReplayError::Nothing(_))));
    }
}
