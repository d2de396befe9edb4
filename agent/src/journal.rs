//! The daemon's memory: one directory of append-only JSON lines, each chained to the one before.
//!
//! In: [`Record`]s with their time. Out: the same records, in the same order, after any crash. A record that was
//! appended with `sync` is on disk when [`Journal::append`] returns, so that the effect it announces may follow.
//!
//! A line holds version, number, time, the digest of the line before, the record and its own digest: a changed, missing
//! or moved byte is found. Only a torn last line, the mark of a crash in the middle of a write, is cut off; any other
//! damage makes [`Journal::open`] refuse, for a daemon that forgot half of what it did must not act. A failed write or
//! flush is never repeated: after it nobody knows what is on disk, so that every later append fails.
//!
//! Start reading at [`Journal::open`].

pub mod line;
mod lock;
pub(crate) mod segment;
#[cfg(test)]
mod tests;

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use understudy_core::{Now, Record};

pub use line::Entry;
use line::Link;
use lock::Lock;
use segment::Segment;
pub use segment::{read_after, read_all};

/// Mode of the state directory: the owner alone changes it, the group may look.
pub const DIRECTORY_MODE: u32 = 0o750;
const FILE_MODE: u32 = 0o640;

/// Why the journal can not be used. Nothing may be written to the world then.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another daemon uses this directory. Two on one directory would be two writers (S1).
    #[error(
        "state directory {directory} is in use by {holder}: stop that daemon, or give this one a directory of its own"
    )]
    Locked {
        /// Which directory.
        directory: PathBuf,
        /// Who holds it.
        holder: String,
    },
    /// A file or directory could not be read or made: full or read-only disk, missing rights, a dying device.
    #[error("failed to {what} {path}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A line is not what was written. What the daemon knew is in doubt.
    #[error(
        "journal is damaged at {path}:{line}: {what}; restore the file from a copy, or, once you have made sure by hand \
         that no failover is half-way, move the whole directory away and start with an empty one"
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: u64,
        /// What is wrong with it.
        what: String,
    },
    /// A newer understudy wrote this. It is not guessed at.
    #[error(
        "journal at {path}:{line} was written by another version of understudy ({what}): run that version, or a newer one"
    )]
    UnknownVersion {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: u64,
        /// What this version does not know.
        what: String,
    },
    /// An earlier write or flush failed; nobody knows what is on disk. Repair the disk and restart.
    #[error("journal takes no more records since an earlier failure ({0}): repair the disk, then restart the daemon")]
    Broken(String),
}

impl JournalError {
    fn io(what: &'static str, path: &Path, source: io::Error) -> Self {
        JournalError::Io { what, path: path.to_owned(), source }
    }
}

/// The open journal. There is one for each state directory.
#[derive(Debug)]
pub struct Journal {
    directory: PathBuf,
    segment_bytes: u64,
    segment: Segment,
    file: File,
    bytes: u64,
    /// Length of the segment's first line: the snapshot.
    first_bytes: u64,
    end: Link,
    broken: Option<String>,
    cut_bytes: u64,
    /// Held as long as the journal is open.
    _lock: Lock,
}

impl Journal {
    /// Opens the journal in `directory`, which is made if it is missing, and takes its lock.
    ///
    /// - `segment_bytes`: a segment longer than this asks for a [`rotate`](Journal::rotate).
    /// - Returns the journal and the records since the last snapshot, that one included, oldest first.
    ///
    /// # Errors
    /// [`JournalError`], each with its remedy. A torn last line is no error: it is cut off and logged.
    pub fn open(directory: &Path, segment_bytes: u64) -> Result<(Self, Vec<(Now, Record)>), JournalError> {
        make_directory(directory)?;
        let lock = Lock::take(directory)?;
        let held = segment::read_needed(directory)?;
        let file = open_for_append(&held.segment.path)?;
        flush_directory(directory)?;
        let journal = Self {
            directory: directory.to_owned(),
            segment_bytes,
            segment: held.segment,
            file,
            bytes: held.bytes,
            first_bytes: held.first_bytes,
            end: held.end,
            broken: None,
            cut_bytes: held.torn_bytes,
            _lock: lock,
        };
        journal.cut_torn_line()?;
        Ok((journal, held.entries.into_iter().map(|entry| (entry.at, entry.record)).collect()))
    }

    fn cut_torn_line(&self) -> Result<(), JournalError> {
        if self.cut_bytes == 0 {
            return Ok(());
        }
        tracing::warn!(
            file = %self.segment.path.display(), bytes = self.cut_bytes,
            "cut off a torn last record: the daemon ended in the middle of a write"
        );
        let cut = self.file.set_len(self.bytes).and_then(|()| self.file.sync_all());
        cut.map_err(|source| JournalError::io("cut a torn record off", &self.segment.path, source))
    }

    /// How many bytes of a torn last record were cut off when the journal was opened.
    #[must_use]
    pub fn cut_bytes(&self) -> u64 {
        self.cut_bytes
    }

    /// Writes `records` behind the last one, each with one write.
    ///
    /// - `sync`: whether they must be on disk before this returns. Without, a crash of the machine may lose them.
    /// - Returns how long the flush took, if there was one.
    ///
    /// # Errors
    /// [`JournalError::Io`] the first time, [`JournalError::Broken`] ever after.
    pub fn append(&mut self, now: Now, records: &[Record], sync: bool) -> Result<Option<Duration>, JournalError> {
        self.refuse_if_broken()?;
        let written = self.write(now, records);
        self.remember_failure(written)?;
        if !sync {
            return Ok(None);
        }
        let began = Instant::now();
        let flushed = self.file.sync_data().map_err(|e| JournalError::io("flush", &self.segment.path, e));
        self.remember_failure(flushed)?;
        Ok(Some(began.elapsed()))
    }

    fn write(&mut self, now: Now, records: &[Record]) -> Result<(), JournalError> {
        for record in records {
            let (line, end) = line::encode(&self.end, now, record);
            self.file.write_all(&line).map_err(|e| JournalError::io("append to", &self.segment.path, e))?;
            self.bytes += line.len() as u64;
            self.end = end;
        }
        Ok(())
    }

    /// Whether the segment is full, so that [`rotate`](Journal::rotate) is due.
    #[must_use]
    pub fn is_full(&self) -> bool {
        // A snapshot longer than a segment may be must not make every record rotate.
        self.bytes > self.segment_bytes.max(2 * self.first_bytes)
    }

    /// Closes the segment and opens the next, which begins with `snapshot`.
    ///
    /// The new segment gets its name only when it is whole, so that a crash leaves either the old end or the new one.
    ///
    /// # Errors
    /// As [`append`](Journal::append): a failure is final.
    pub fn rotate(&mut self, now: Now, snapshot: &Record) -> Result<(), JournalError> {
        self.refuse_if_broken()?;
        let rotated = self.try_rotate(now, snapshot);
        self.remember_failure(rotated)
    }

    fn try_rotate(&mut self, now: Now, snapshot: &Record) -> Result<(), JournalError> {
        let old = &self.segment.path;
        // What the new segment is chained to must outlive a crash at least as well as it does.
        self.file.sync_data().map_err(|e| JournalError::io("flush", old, e))?;
        let next = Segment::numbered(&self.directory, self.segment.number + 1);
        let (line, end) = line::encode(&self.end, now, snapshot);
        let unnamed = next.path.with_extension("jsonl.new");
        write_whole(&unnamed, &line).map_err(|e| JournalError::io("write", &unnamed, e))?;
        std::fs::rename(&unnamed, &next.path).map_err(|e| JournalError::io("name", &next.path, e))?;
        flush_directory(&self.directory)?;
        self.file = open_for_append(&next.path)?;
        self.segment = next;
        self.bytes = line.len() as u64;
        self.first_bytes = self.bytes;
        self.end = end;
        Ok(())
    }

    /// Number of the last record; none yet = 0.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.end.seq
    }

    /// Where the journal lies.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn refuse_if_broken(&self) -> Result<(), JournalError> {
        match &self.broken {
            Some(why) => Err(JournalError::Broken(why.clone())),
            None => Ok(()),
        }
    }

    /// A failed flush may have dropped the pages it could not write: repeating it would report success falsely.
    fn remember_failure<T>(&mut self, result: Result<T, JournalError>) -> Result<T, JournalError> {
        if let Err(error) = &result {
            let cause = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
            self.broken = Some(format!("{error}{cause}"));
        }
        result
    }
}

fn make_directory(directory: &Path) -> Result<(), JournalError> {
    let made = DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory);
    made.map_err(|source| JournalError::io("make state directory", directory, source))
}

fn open_for_append(path: &Path) -> Result<File, JournalError> {
    let opened = OpenOptions::new().append(true).create(true).mode(FILE_MODE).open(path);
    opened.map_err(|source| JournalError::io("open for writing", path, source))
}

fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// A name is on disk only when its directory is.
fn flush_directory(directory: &Path) -> Result<(), JournalError> {
    let flushed = File::open(directory).and_then(|opened| opened.sync_all());
    flushed.map_err(|source| JournalError::io("flush directory", directory, source))
}
