//! The account of a run as files beside the journal: `runs/RUN/report.txt` and `runs/RUN/report.json`.
//!
//! In: the journal, when the step `report` runs, as the last of a plan. Out: both files, each whole or not there at all.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use understudy_core::{Ending, Finding, Now, PairName, Record, RunId, Step, StepResult};

use super::report;
use crate::journal::{DIRECTORY_MODE, Entry, JournalError, read_all};

const FILE_MODE: u32 = 0o640;

/// Why the account could not be written. Trying again is safe.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The journal can not be read.
    #[error("failed to read the journal for the report: {0}")]
    Journal(#[from] JournalError),
    /// The journal does not know the run.
    #[error("the journal knows no run {0}")]
    NoSuchRun(RunId),
    /// A file can not be written.
    #[error("failed to write {}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Writes the account of `run`, whose last step is this one, into `state`.
///
/// - Returns the text's path.
///
/// # Errors
/// [`FileError`].
pub fn write(state: &Path, pair: &PairName, run: &RunId, now: Now) -> Result<PathBuf, FileError> {
    let mut entries = read_all(state)?;
    // The report is the plan's last step: with it written the run has succeeded, and that is what it tells.
    entries.extend(ending(&entries, pair, run, now));
    let report = report(&entries, run).ok_or_else(|| FileError::NoSuchRun(run.clone()))?;
    let directory = state.join("runs").join(run.as_str());
    let made = DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(&directory);
    made.map_err(|source| FileError::Io { path: directory.clone(), source })?;
    let json = serde_json::to_vec_pretty(&report).expect("a report has text keys only and no failing serializer");
    let text = directory.join("report.txt");
    for (path, content) in [(directory.join("report.json"), json), (text.clone(), report.to_text().into_bytes())] {
        replace(&path, &content).map_err(|source| FileError::Io { path, source })?;
    }
    Ok(text)
}

fn ending(entries: &[Entry], pair: &PairName, run: &RunId, now: Now) -> Vec<Entry> {
    let last = entries.last().map_or(0, |entry| entry.seq);
    let result = StepResult::Done { detail: String::new(), finding: Finding::Nothing };
    let attempt = entries.iter().rev().find_map(|entry| match &entry.record {
        Record::Intent { run: of, step: Step::Report, attempt, .. } if of == run => Some(*attempt),
        _ => None,
    });
    let (step, attempt) = (Step::Report, attempt.unwrap_or(1));
    let told = [
        Record::Outcome { pair: pair.clone(), run: run.clone(), step, attempt, result, again_ms: None },
        Record::RunEnded { pair: pair.clone(), run: run.clone(), ending: Ending::Succeeded },
    ];
    let entry = |(seq, record)| Entry { seq, at: now, record, hash: String::new(), prev: String::new() };
    (last + 1..).zip(told).map(entry).collect()
}

/// A reader sees the old file or the new one, after any crash.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let unnamed = path.with_added_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(&unnamed)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&unnamed, path)?;
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Journal;
    use crate::samples::{at, failover, intent, pair, run_id};

    /// The journal as it is when the last step begins.
    fn journal_at_the_report(directory: &Path) {
        let (mut journal, _) = Journal::open(directory, 1 << 20).unwrap();
        for (now, record) in failover() {
            let is_last = record == intent(Step::Report, 1);
            journal.append(now, &[record], false).unwrap();
            if is_last {
                return;
            }
        }
        panic!("the story has no report");
    }

    #[test]
    fn the_account_is_written_as_text_and_as_json_and_tells_the_end() {
        let dir = tempfile::tempdir().unwrap();
        journal_at_the_report(dir.path());

        let path = write(dir.path(), &pair(), &run_id(), at(24_000)).unwrap();

        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("run nexus-1 of pair nexus: succeeded"), "{text}");
        let json = std::fs::read(path.with_extension("json")).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!((&json["outcome"], &json["run"]), (&"succeeded".into(), &"nexus-1".into()));
        assert!(json["steps"].as_array().unwrap().iter().all(|step| step["state"] == "done"), "{json}");
        let left: Vec<_> = std::fs::read_dir(path.parent().unwrap()).unwrap().collect();
        assert_eq!(left.len(), 2, "nothing half-written is left: {left:?}");
    }

    #[test]
    fn a_second_try_writes_the_same_files() {
        let dir = tempfile::tempdir().unwrap();
        journal_at_the_report(dir.path());

        let once = write(dir.path(), &pair(), &run_id(), at(24_000)).map(std::fs::read).unwrap().unwrap();
        let twice = write(dir.path(), &pair(), &run_id(), at(24_000)).map(std::fs::read).unwrap().unwrap();

        assert_eq!(once, twice);
    }

    #[test]
    fn a_directory_that_takes_no_file_is_told_with_its_path() {
        let dir = tempfile::tempdir().unwrap();
        journal_at_the_report(dir.path());
        std::fs::write(dir.path().join("runs"), "in the way").unwrap();

        let refused = write(dir.path(), &pair(), &run_id(), at(24_000)).unwrap_err();

        assert!(refused.to_string().contains("runs/nexus-1"), "{refused}");
    }
}
