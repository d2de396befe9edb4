//! Everything that the core was told, as it came, to be played again: by the core of today, or under other rules.
//!
//! In: events. Out: `recording-NNNNNN.jsonl` in the state directory, not synced. Nothing that is done rests on it.
//! A segment stands for itself: it begins with the rules and the whole state at that moment, and with the number of the
//! journal's last record. A finished segment's digest is journaled, so that a recording can be shown to be the one that the
//! decisions of then were made on. When the segments together grow too large the oldest is removed. A disk that takes no
//! recording is told in the log, and the daemon goes on.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use understudy_core::{Event, Now, Policy, Record, State};

use crate::journal::Entry;

const PREFIX: &str = "recording-";
const SUFFIX: &str = ".jsonl";
const FILE_MODE: u32 = 0o640;
/// Version of the lines' form.
const VERSION: u32 = 2;
/// All segments together: some weeks of a pair, some hours of a thousand.
const KEPT_BYTES: u64 = 1024 * 1024 * 1024;
/// What is still in memory is written at least so often, in milliseconds.
const WRITTEN_EVERY_MS: u64 = 1000;

/// The first line of a segment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Head {
    /// Version of the lines' form.
    pub v: u32,
    /// When the segment began.
    pub began: Now,
    /// Number of the journal's last record then.
    pub journal_seq: u64,
    /// The rules.
    pub policy: Policy,
    /// Everything that the core knew.
    pub state: State,
}

/// Any other line.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    /// Something happened.
    Event {
        /// When it was judged.
        at: Now,
        /// What.
        event: Event,
    },
    /// Time went by.
    Ticks {
        /// Each as the time since the line or tick before it.
        ticks: Vec<Pace>,
    },
}

/// The time from one moment to the next, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Pace {
    /// By both clocks.
    Even(u64),
    /// By the monotonic clock, and by the wall clock.
    Apart(u64, i64),
}

impl Pace {
    fn between(from: Now, to: Now) -> Self {
        let boot_ms = to.boot_ms.saturating_sub(from.boot_ms);
        let wall_ms = to.wall_ms.saturating_sub(from.wall_ms);
        if wall_ms == understudy_core::signed(boot_ms) { Self::Even(boot_ms) } else { Self::Apart(boot_ms, wall_ms) }
    }

    /// The moment that lies so much after `from`.
    #[must_use]
    pub fn after(self, from: Now) -> Now {
        let (boot_ms, wall_ms) = match self {
            Self::Even(ms) => (ms, understudy_core::signed(ms)),
            Self::Apart(boot_ms, wall_ms) => (boot_ms, wall_ms),
        };
        Now {
            boot_ms: from.boot_ms.saturating_add(boot_ms),
            wall_ms: from.wall_ms.saturating_add(wall_ms),
            boot_id: from.boot_id,
        }
    }
}

/// Writes recordings. There is one for each state directory; the journal's lock keeps others away.
#[derive(Debug)]
pub struct Recorder {
    directory: PathBuf,
    segment_bytes: u64,
    policy: Policy,
    next: u64,
    open: Option<Segment>,
    /// A disk that took nothing is tried again with the next segment's worth of readings.
    resting_bytes: u64,
}

#[derive(Debug)]
struct Segment {
    name: String,
    file: BufWriter<File>,
    digest: Sha256,
    bytes: u64,
    /// Length of the first line.
    head_bytes: u64,
    written_ms: u64,
    /// The moment of the last line or tick.
    last: Now,
    /// Ticks since the last line.
    ticks: Vec<Pace>,
}

impl Recorder {
    /// A recorder of what happens under `policy`. Nothing is opened before the first event.
    #[must_use]
    pub fn new(directory: &Path, segment_bytes: u64, policy: &Policy) -> Self {
        let last = list(directory).unwrap_or_default().last().map_or(0, |(number, ..)| *number);
        Self {
            directory: directory.to_owned(),
            segment_bytes,
            policy: policy.clone(),
            next: last + 1,
            open: None,
            resting_bytes: 0,
        }
    }

    /// The rules changed, and with them what the numbers of probes mean.
    ///
    /// - Returns the digest of the segment that ends by it, to be journaled.
    pub fn change_policy(&mut self, policy: &Policy) -> Option<Record> {
        self.policy = policy.clone();
        self.finish()
    }

    /// Records `event`, which is about to be taken into `state`.
    ///
    /// - `journal_seq`: number of the journal's last record.
    /// - Returns the digest of a segment that ended by it, to be journaled.
    pub fn record(&mut self, at: Now, event: &Event, journal_seq: u64, state: &State) -> Option<Record> {
        if self.resting_bytes > 0 {
            let bytes = serde_json::to_vec(event).map_or(0, |line| line.len() as u64);
            self.resting_bytes = self.resting_bytes.saturating_sub(bytes);
            return None;
        }
        match self.append(at, event, journal_seq, state) {
            Ok(full) if full => self.finish(),
            Ok(_) => None,
            Err(error) => self.rest(&error),
        }
    }

    fn append(&mut self, at: Now, event: &Event, journal_seq: u64, state: &State) -> io::Result<bool> {
        let segment = match &mut self.open {
            Some(segment) => segment,
            None => {
                make_room(&self.directory, KEPT_BYTES.saturating_sub(self.segment_bytes))?;
                let policy = self.policy.clone();
                let head = Head { v: VERSION, began: at, journal_seq, policy, state: state.clone() };
                let segment = Segment::begin(&self.directory, self.next, &head)?;
                self.next += 1;
                self.open.insert(segment)
            }
        };
        segment.take(at, event)?;
        Ok(segment.bytes > self.segment_bytes.max(2 * segment.head_bytes))
    }

    /// Ends the open segment, if there is one; its digest is to be journaled.
    pub fn finish(&mut self) -> Option<Record> {
        let mut segment = self.open.take()?;
        if let Err(error) = segment.write_out() {
            return self.rest(&error);
        }
        Some(Record::Recording { segment: segment.name, sha256: hex(segment.digest) })
    }

    fn rest(&mut self, error: &io::Error) -> Option<Record> {
        tracing::warn!(directory = %self.directory.display(), "nothing is recorded for a while: {error}");
        self.open = None;
        self.resting_bytes = self.segment_bytes;
        None
    }
}

impl Segment {
    fn begin(directory: &Path, number: u64, head: &Head) -> io::Result<Self> {
        let name = format!("{PREFIX}{number:06}{SUFFIX}");
        let file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(directory.join(&name))?;
        let mut segment = Self {
            name,
            file: BufWriter::with_capacity(64 * 1024, file),
            digest: Sha256::new(),
            bytes: 0,
            head_bytes: 0,
            written_ms: head.began.boot_ms,
            last: head.began,
            ticks: vec![],
        };
        segment.line(head)?;
        segment.head_bytes = segment.bytes;
        Ok(segment)
    }

    fn take(&mut self, at: Now, event: &Event) -> io::Result<()> {
        let same_boot = at.boot_id == self.last.boot_id && at.boot_ms >= self.last.boot_ms;
        if matches!(event, Event::Tick) && same_boot {
            self.ticks.push(Pace::between(self.last, at));
        } else {
            self.line_of_ticks()?;
            self.line(&Line::Event { at, event: event.clone() })?;
        }
        self.last = at;
        if at.boot_ms.saturating_sub(self.written_ms) >= WRITTEN_EVERY_MS {
            self.written_ms = at.boot_ms;
            self.write_out()?;
        }
        Ok(())
    }

    fn write_out(&mut self) -> io::Result<()> {
        self.line_of_ticks()?;
        self.file.flush()
    }

    fn line_of_ticks(&mut self) -> io::Result<()> {
        if self.ticks.is_empty() {
            return Ok(());
        }
        let ticks = std::mem::take(&mut self.ticks);
        self.line(&Line::Ticks { ticks })
    }

    fn line(&mut self, content: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(content)?;
        line.push(b'\n');
        self.file.write_all(&line)?;
        self.digest.update(&line);
        self.bytes += line.len() as u64;
        Ok(())
    }
}

/// Why a recording can not be played.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The file or directory can not be read.
    #[error("failed to read {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not one whole line.
    #[error("{} holds nothing: its daemon was killed before it could write", .path.display())]
    Unwritten {
        /// Which.
        path: PathBuf,
    },
    /// It is none, or not of this version.
    #[error("{} is no recording of this version of understudy (line {line}: {why})", path.display())]
    Foreign {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
}

/// A segment that was read.
#[derive(Debug)]
pub struct Recorded {
    /// The file's name.
    pub name: String,
    /// Its first line.
    pub head: Head,
    /// Every event with the time by which it was judged.
    pub events: Vec<(Now, Event)>,
}

/// The recordings in `directory`, oldest first.
///
/// # Errors
/// If it can not be listed.
pub fn paths(directory: &Path) -> Result<Vec<PathBuf>, RecordingError> {
    let listed = list(directory).map_err(|source| RecordingError::Io { path: directory.to_owned(), source })?;
    Ok(listed.into_iter().map(|(_, path, _)| path).collect())
}

/// Reads one recording. A torn last line is left out: nobody waited for it to be on disk.
///
/// # Errors
/// [`RecordingError`], with the line.
pub fn read(path: &Path) -> Result<Recorded, RecordingError> {
    let text = std::fs::read_to_string(path).map_err(|source| RecordingError::Io { path: path.to_owned(), source })?;
    let foreign = |line: usize, why: String| RecordingError::Foreign { path: path.to_owned(), line, why };
    let mut lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n')).enumerate();
    let (_, first) = lines.next().ok_or_else(|| RecordingError::Unwritten { path: path.to_owned() })?;
    let head: Head = serde_json::from_str(first).map_err(|error| foreign(1, error.to_string()))?;
    if head.v != VERSION {
        return Err(foreign(1, format!("version {}, this one knows {VERSION}", head.v)));
    }
    let mut last = head.began;
    let mut events = Vec::new();
    for (n, line) in lines {
        match serde_json::from_str(line).map_err(|error| foreign(n + 1, error.to_string()))? {
            Line::Event { at, event } => {
                last = at;
                events.push((at, event));
            }
            Line::Ticks { ticks } => {
                for pace in ticks {
                    last = pace.after(last);
                    events.push((last, Event::Tick));
                }
            }
        }
    }
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(Recorded { name, head, events })
}

/// The segments in order, each with its number, path and length.
fn list(directory: &Path) -> io::Result<Vec<(u64, PathBuf, u64)>> {
    let mut segments = vec![];
    for file in std::fs::read_dir(directory)? {
        let file = file?;
        if let Some(number) = number_of(&file.path()) {
            segments.push((number, file.path(), file.metadata()?.len()));
        }
    }
    segments.sort();
    Ok(segments)
}

fn number_of(path: &Path) -> Option<u64> {
    let digits = path.file_name()?.to_str()?.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    digits.parse().ok().filter(|_| digits.bytes().all(|b| b.is_ascii_digit()))
}

/// Removes the oldest segments until the rest is no longer than `limit`.
fn make_room(directory: &Path, limit: u64) -> io::Result<()> {
    let segments = list(directory)?;
    let mut total: u64 = segments.iter().map(|(.., bytes)| bytes).sum();
    for (_, path, bytes) in segments {
        if total <= limit {
            break;
        }
        std::fs::remove_file(&path)?;
        tracing::info!(segment = %path.display(), "the oldest recording is removed");
        total -= bytes;
    }
    Ok(())
}

/// A recording that is not the one whose digest was journaled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is not the recording whose digest record {seq} tells", path.display())]
pub struct Altered {
    /// Which file.
    pub path: PathBuf,
    /// Number of the journal's record.
    pub seq: u64,
}

/// Compares every recording that is still there with the digest in `entries`.
///
/// - Returns how many were compared.
///
/// # Errors
/// The first that was [`Altered`].
pub fn compare(directory: &Path, entries: &[Entry]) -> Result<usize, Altered> {
    let mut compared = 0;
    for entry in entries {
        let Record::Recording { segment, sha256 } = &entry.record else { continue };
        let path = directory.join(segment);
        // An old one was removed, or archived with care: that is no alteration.
        let Ok(content) = std::fs::read(&path) else { continue };
        if number_of(&path).is_none() || hex(Sha256::new_with_prefix(&content)) != *sha256 {
            return Err(Altered { path, seq: entry.seq });
        }
        compared += 1;
    }
    Ok(compared)
}

fn hex(digest: Sha256) -> String {
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use understudy_core::{Observation, PairId, Reading};

    use super::*;
    use crate::samples::{at, entries, policy};

    fn state() -> State {
        State::new(&policy(), at(0))
    }

    fn record(recorder: &mut Recorder, ms: u64, event: &Event) -> Option<Record> {
        recorder.record(at(ms), event, 7, &state())
    }

    #[test]
    fn what_was_recorded_is_read_back_with_rules_state_and_every_tick() {
        let dir = tempfile::tempdir().unwrap();
        let mut recorder = Recorder::new(dir.path(), 1 << 20, &policy());
        let stepped = Now { wall_ms: at(7).wall_ms + 30_000, ..at(7) };

        record(&mut recorder, 1, &reading(1));
        record(&mut recorder, 2, &Event::Tick);
        recorder.record(stepped, &Event::Tick, 7, &state());
        record(&mut recorder, 9, &reading(9));
        let told = recorder.finish();

        let path = dir.path().join("recording-000001.jsonl");
        let read = read(&path).unwrap();
        assert_eq!((read.head.journal_seq, read.head.began), (7, at(1)));
        assert_eq!(read.head.policy, policy());
        assert_eq!(read.head.state, state());
        let expected = [(at(1), reading(1)), (at(2), Event::Tick), (stepped, Event::Tick), (at(9), reading(9))];
        assert_eq!(read.events, expected);
        let sha256 = hex(Sha256::new_with_prefix(std::fs::read(&path).unwrap()));
        assert_eq!(told, Some(Record::Recording { segment: "recording-000001.jsonl".into(), sha256 }));
    }

    #[test]
    fn a_torn_last_line_is_left_out_and_another_damage_is_told_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let mut recorder = Recorder::new(dir.path(), 1 << 20, &policy());
        (1..4).for_each(|ms| drop(record(&mut recorder, ms, &reading(ms))));
        recorder.finish();
        let path = dir.path().join("recording-000001.jsonl");
        let whole = std::fs::read_to_string(&path).unwrap();

        std::fs::write(&path, &whole[..whole.len() - 5]).unwrap();
        assert_eq!(read(&path).unwrap().events.len(), 2);

        std::fs::write(&path, whole.replacen("\"event\"", "\"evnt\"", 1)).unwrap();
        assert!(matches!(read(&path), Err(RecordingError::Foreign { line: 2, .. })));
    }

    #[test]
    fn a_full_segment_is_finished_and_the_next_one_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let mut recorder = Recorder::new(dir.path(), 600, &policy());

        let told: Vec<Record> = (0..200).filter_map(|ms| record(&mut recorder, ms, &reading(ms))).collect();

        assert!(told.len() >= 2, "{told:?}");
        let journal = entries(told.iter().map(|record| (at(1), record.clone())).collect());
        assert_eq!(compare(dir.path(), &journal), Ok(told.len()));
    }

    #[test]
    fn an_altered_recording_is_found_and_a_missing_one_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let mut recorder = Recorder::new(dir.path(), 1 << 20, &policy());
        record(&mut recorder, 1, &reading(1));
        let journal = entries(vec![(at(1), recorder.finish().unwrap())]);
        let path = dir.path().join("recording-000001.jsonl");
        assert_eq!(compare(dir.path(), &journal), Ok(1));

        let text = std::fs::read_to_string(&path).unwrap().replace("up", "UP");
        std::fs::write(&path, text).unwrap();
        assert_eq!(compare(dir.path(), &journal), Err(Altered { path: path.clone(), seq: 1 }));

        std::fs::remove_file(&path).unwrap();
        assert_eq!(compare(dir.path(), &journal), Ok(0));
    }

    #[test]
    fn a_new_process_never_writes_into_an_old_segment() {
        let dir = tempfile::tempdir().unwrap();
        record(&mut Recorder::new(dir.path(), 1 << 20, &policy()), 1, &reading(1));

        record(&mut Recorder::new(dir.path(), 1 << 20, &policy()), 2, &reading(2));

        let names: Vec<u64> = list(dir.path()).unwrap().into_iter().map(|(number, ..)| number).collect();
        assert_eq!(names, [1, 2]);
    }

    #[test]
    fn what_is_in_memory_is_written_out_as_time_goes_by() {
        let dir = tempfile::tempdir().unwrap();
        let mut recorder = Recorder::new(dir.path(), 1 << 20, &policy());
        record(&mut recorder, 1, &reading(1));
        let len = || std::fs::metadata(dir.path().join("recording-000001.jsonl")).unwrap().len();
        assert_eq!(len(), 0);

        record(&mut recorder, 2000, &Event::Tick);

        assert!(len() > 0);
    }

    #[test]
    fn the_oldest_segments_make_room() {
        let dir = tempfile::tempdir().unwrap();
        for number in 1..=4 {
            std::fs::write(dir.path().join(format!("recording-{number:06}.jsonl")), [b'x'; 100]).unwrap();
        }

        make_room(dir.path(), 250).unwrap();

        let left: Vec<u64> = list(dir.path()).unwrap().into_iter().map(|(number, ..)| number).collect();
        assert_eq!(left, [3, 4]);
    }

    #[test]
    fn a_disk_that_takes_nothing_is_left_alone_for_a_while_and_then_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("not-there");
        let mut recorder = Recorder::new(&state, 500, &policy());

        assert_eq!(record(&mut recorder, 1, &reading(1)), None);
        std::fs::create_dir(&state).unwrap();
        record(&mut recorder, 2, &reading(2));
        assert_eq!(list(&state).unwrap().len(), 0);
        (0..10).for_each(|ms| drop(record(&mut recorder, ms, &reading(ms))));

        assert!(!list(&state).unwrap().is_empty());
    }

    #[test]
    fn other_rules_begin_another_segment() {
        let dir = tempfile::tempdir().unwrap();
        let mut recorder = Recorder::new(dir.path(), 1 << 20, &policy());
        record(&mut recorder, 1, &reading(1));

        assert!(recorder.change_policy(&policy()).is_some());
        record(&mut recorder, 2, &reading(2));

        assert_eq!(list(dir.path()).unwrap().len(), 2);
    }

    fn reading(started_ms: u64) -> Event {
        let observation = Observation { reading: Reading::Up, started_ms, latency_ms: 3, detail: None };
        Event::Read { pair: PairId(0), probe: 0, observation }
    }
}
