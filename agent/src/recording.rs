//! Every reading as it came, to be played again under other thresholds. Nothing that is done rests on it.
//!
//! In: the events of probes, self-checks and witnesses. Out: `recording-NNNNNN.jsonl` in the state directory, not synced.
//! A segment begins with the names behind its numbers, since a position is valid within one policy alone. A finished
//! segment's digest is journaled, so that a recording can be shown to be the one that the decisions of then were made
//! on. When the segments together grow too large the oldest is removed. A disk that takes no recording is told in the
//! log, and the daemon goes on.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use understudy_core::{Event, Now, Policy, Record};

use crate::journal::Entry;

const PREFIX: &str = "recording-";
const SUFFIX: &str = ".jsonl";
const FILE_MODE: u32 = 0o640;
/// Version of the lines' form.
const VERSION: u32 = 1;
/// All segments together: some weeks of a pair, some hours of a thousand.
const KEPT_BYTES: u64 = 1024 * 1024 * 1024;
/// What is still in memory is written at least so often, in milliseconds.
const WRITTEN_EVERY_MS: u64 = 1000;

#[derive(Serialize)]
struct Line<'a> {
    at: Now,
    event: &'a Event,
}

/// Writes recordings. There is one for each state directory; the journal's lock keeps others away.
#[derive(Debug)]
pub struct Recorder {
    directory: PathBuf,
    segment_bytes: u64,
    head: String,
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
    written_ms: u64,
}

impl Recorder {
    /// A recorder for readings under `policy`. Nothing is opened before the first reading.
    #[must_use]
    pub fn new(directory: &Path, segment_bytes: u64, policy: &Policy) -> Self {
        let last = list(directory).unwrap_or_default().last().map_or(0, |(number, ..)| *number);
        Self {
            directory: directory.to_owned(),
            segment_bytes,
            head: head(policy),
            next: last + 1,
            open: None,
            resting_bytes: 0,
        }
    }

    /// The policy changed, and with it what the numbers mean.
    ///
    /// - Returns the digest of the segment that ends by it, to be journaled.
    pub fn change_policy(&mut self, policy: &Policy) -> Option<Record> {
        self.head = head(policy);
        self.finish()
    }

    /// Records `event` if it is a reading.
    ///
    /// - Returns the digest of a segment that ended by it, to be journaled.
    pub fn record(&mut self, at: Now, event: &Event) -> Option<Record> {
        if !is_reading(event) {
            self.write_out(at);
            return None;
        }
        let mut line = serde_json::to_vec(&Line { at, event }).ok()?;
        line.push(b'\n');
        if self.resting_bytes > 0 {
            self.resting_bytes = self.resting_bytes.saturating_sub(line.len() as u64);
            return None;
        }
        match self.append(at, &line) {
            Ok(full) if full => self.finish(),
            Ok(_) => None,
            Err(error) => self.rest(&error),
        }
    }

    fn append(&mut self, at: Now, line: &[u8]) -> io::Result<bool> {
        let segment = match &mut self.open {
            Some(segment) => segment,
            None => {
                make_room(&self.directory, KEPT_BYTES.saturating_sub(self.segment_bytes))?;
                let segment = Segment::begin(&self.directory, self.next, at, &self.head)?;
                self.next += 1;
                self.open.insert(segment)
            }
        };
        segment.append(line)?;
        Ok(segment.bytes > self.segment_bytes)
    }

    fn write_out(&mut self, at: Now) {
        let Some(segment) = &mut self.open else { return };
        if at.boot_ms.saturating_sub(segment.written_ms) < WRITTEN_EVERY_MS {
            return;
        }
        segment.written_ms = at.boot_ms;
        if let Err(error) = segment.file.flush() {
            self.rest(&error);
        }
    }

    /// Ends the open segment, if there is one; its digest is to be journaled.
    pub fn finish(&mut self) -> Option<Record> {
        let mut segment = self.open.take()?;
        if let Err(error) = segment.file.flush() {
            return self.rest(&error);
        }
        Some(Record::Recording { segment: segment.name, sha256: hex(segment.digest) })
    }

    fn rest(&mut self, error: &io::Error) -> Option<Record> {
        tracing::warn!(directory = %self.directory.display(), "readings are not recorded for a while: {error}");
        self.open = None;
        self.resting_bytes = self.segment_bytes;
        None
    }
}

impl Segment {
    fn begin(directory: &Path, number: u64, at: Now, head: &str) -> io::Result<Self> {
        let name = format!("{PREFIX}{number:06}{SUFFIX}");
        let file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(directory.join(&name))?;
        let mut segment = Self {
            name,
            file: BufWriter::with_capacity(64 * 1024, file),
            digest: Sha256::new(),
            bytes: 0,
            written_ms: at.boot_ms,
        };
        segment.append(head.as_bytes())?;
        Ok(segment)
    }

    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        self.file.write_all(line)?;
        self.digest.update(line);
        self.bytes += line.len() as u64;
        Ok(())
    }
}

/// What is seen of the world, as opposed to what humans and steps do.
fn is_reading(event: &Event) -> bool {
    match event {
        Event::SelfRead { .. }
        | Event::Read { .. }
        | Event::MirrorRead { .. }
        | Event::ClockCompared { .. }
        | Event::WitnessRead { .. }
        | Event::Readiness { .. }
        | Event::Lease { .. } => true,
        Event::Tick | Event::StepNoted { .. } | Event::StepEnded { .. } | Event::Ordered { .. } => false,
    }
}

/// The first line of a segment: what the numbers in it stand for.
fn head(policy: &Policy) -> String {
    let pairs = policy.pairs.iter().map(|pair| {
        json!({
            "name": pair.name,
            "probes": pair.probes.iter().map(|probe| &probe.name).collect::<Vec<_>>(),
            "witnesses": pair.witnesses.iter().map(|witness| &witness.name).collect::<Vec<_>>(),
        })
    });
    let checks: Vec<&String> = policy.self_checks.iter().map(|check| &check.name).collect();
    let pairs: Vec<_> = pairs.collect();
    let head = json!({
        "v": VERSION, "config_digest": policy.config_digest, "self_checks": checks, "pairs": pairs,
    });
    format!("{head}\n")
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

    #[test]
    fn readings_are_recorded_behind_the_names_that_their_numbers_stand_for() {
        let dir = tempfile::tempdir().unwrap();
        let mut recorder = Recorder::new(dir.path(), 1 << 20, &policy());

        recorder.record(at(1), &reading(1));
        recorder.record(at(2), &Event::Tick);
        recorder.record(at(3), &reading(3));
        let told = recorder.finish();

        let text = std::fs::read_to_string(dir.path().join("recording-000001.jsonl")).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0]["pairs"][0]["name"], "nexus");
        assert_eq!(lines[0]["pairs"][0]["probes"][0], "web");
        let events: Vec<Event> =
            lines[1..].iter().map(|l| serde_json::from_value(l["event"].clone()).unwrap()).collect();
        assert_eq!(events, [reading(1), reading(3)]);
        let expected = hex(Sha256::new_with_prefix(&text));
        assert_eq!(told, Some(Record::Recording { segment: "recording-000001.jsonl".into(), sha256: expected }));
    }

    #[test]
    fn a_full_segment_is_finished_and_the_next_one_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let mut recorder = Recorder::new(dir.path(), 600, &policy());

        let told: Vec<Record> = (0..10).filter_map(|ms| recorder.record(at(ms), &reading(ms))).collect();

        assert!(told.len() >= 2, "{told:?}");
        let journal = entries(told.iter().map(|record| (at(1), record.clone())).collect());
        assert_eq!(compare(dir.path(), &journal), Ok(told.len()));
    }

    #[test]
    fn an_altered_recording_is_found_and_a_missing_one_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let mut recorder = Recorder::new(dir.path(), 1 << 20, &policy());
        recorder.record(at(1), &reading(1));
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
        Recorder::new(dir.path(), 1 << 20, &policy()).record(at(1), &reading(1));

        Recorder::new(dir.path(), 1 << 20, &policy()).record(at(2), &reading(2));

        let names: Vec<u64> = list(dir.path()).unwrap().into_iter().map(|(number, ..)| number).collect();
        assert_eq!(names, [1, 2]);
    }

    #[test]
    fn what_is_in_memory_is_written_out_as_time_goes_by() {
        let dir = tempfile::tempdir().unwrap();
        let mut recorder = Recorder::new(dir.path(), 1 << 20, &policy());
        recorder.record(at(1), &reading(1));
        let len = || std::fs::metadata(dir.path().join("recording-000001.jsonl")).unwrap().len();
        assert_eq!(len(), 0);

        recorder.record(at(2000), &Event::Tick);

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

        assert_eq!(recorder.record(at(1), &reading(1)), None);
        std::fs::create_dir(&state).unwrap();
        recorder.record(at(2), &reading(2));
        assert_eq!(list(&state).unwrap().len(), 0);
        (0..10).for_each(|ms| drop(recorder.record(at(ms), &reading(ms))));

        assert!(!list(&state).unwrap().is_empty());
    }

    #[test]
    fn another_policy_begins_another_segment() {
        let dir = tempfile::tempdir().unwrap();
        let mut recorder = Recorder::new(dir.path(), 1 << 20, &policy());
        recorder.record(at(1), &reading(1));

        assert!(recorder.change_policy(&policy()).is_some());
        recorder.record(at(2), &reading(2));

        assert_eq!(list(dir.path()).unwrap().len(), 2);
    }

    fn reading(started_ms: u64) -> Event {
        let observation = Observation { reading: Reading::Up, started_ms, latency_ms: 3, detail: None };
        Event::Read { pair: PairId(0), probe: 0, observation }
    }
}
