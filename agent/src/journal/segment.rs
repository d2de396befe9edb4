//! The files of a journal, and how they are read.

use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use understudy_core::Record;

use super::JournalError;
use super::line::{self, BadLine, Entry, Link};

const PREFIX: &str = "journal-";
const SUFFIX: &str = ".jsonl";
/// No line is longer: a snapshot of thousands of pairs is shorter.
const LINE_BYTES: u64 = 16 * 1024 * 1024;

/// A file of the journal: `journal-NNNNNN.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Its place in the order, from 1.
    pub number: u64,
    /// Where it lies.
    pub path: PathBuf,
}

impl Segment {
    /// The segment `number` of `directory`.
    pub fn numbered(directory: &Path, number: u64) -> Self {
        Self { number, path: directory.join(format!("{PREFIX}{number:06}{SUFFIX}")) }
    }
}

/// What [`super::Journal::open`] needs to go on where the last daemon stopped.
#[derive(Debug)]
pub struct Held {
    /// The last segment; not yet a file if there is none.
    pub segment: Segment,
    /// Its records and those of the segments before it that are needed, oldest first.
    pub entries: Vec<Entry>,
    /// Where the chain ends.
    pub end: Link,
    /// Whole lines in the last segment, in bytes.
    pub bytes: u64,
    /// The first of them.
    pub first_bytes: u64,
    /// What follows them.
    pub torn_bytes: u64,
}

/// What stands in a segment.
#[derive(Default)]
pub(crate) struct Lines {
    pub(crate) entries: Vec<Entry>,
    bytes: u64,
    first_bytes: u64,
    torn_bytes: u64,
}

/// Reads the last segment, which begins with a snapshot of all before, and checks that it continues the one before it.
pub fn read_needed(directory: &Path) -> Result<Held, JournalError> {
    let segments = list(directory)?;
    let Some(last) = segments.last() else {
        let segment = Segment::numbered(directory, 1);
        return Ok(Held { segment, entries: vec![], end: Link::start(), bytes: 0, first_bytes: 0, torn_bytes: 0 });
    };
    let before = match segments.iter().nth_back(1) {
        Some(segment) => Some(last_link(segment)?),
        None => None,
    };
    let held = read_chain(&segments[segments.len() - 1..], before)?;
    match held.entries.first().map(|entry| &entry.record) {
        Some(Record::Snapshot { .. }) => Ok(held),
        _ if last.number == 1 => Ok(held),
        // Rotation names a segment only when its first line is on disk.
        Some(_) => Err(damaged(last, 1, "the segment does not begin with a snapshot".into())),
        None => Err(damaged(last, 1, "the segment has no whole line".into())),
    }
}

/// Reads every segment and checks the whole chain; a torn last line is left where it is.
///
/// # Errors
/// [`JournalError`], with file and line.
pub fn read_all(directory: &Path) -> Result<Vec<Entry>, JournalError> {
    let segments = list(directory)?;
    if segments.is_empty() {
        return Ok(vec![]);
    }
    Ok(read_chain(&segments, None)?.entries)
}

/// Reads at most `limit` records with a number above `after`, while the daemon may be writing.
///
/// # Errors
/// [`JournalError`], with file and line.
pub fn read_after(directory: &Path, after: u64, limit: usize) -> Result<Vec<Entry>, JournalError> {
    let segments = list(directory)?;
    let mut first = segments.len().saturating_sub(1);
    while first > 0 && first_entry(&segments[first])?.is_none_or(|entry| entry.seq > after.saturating_add(1)) {
        first -= 1;
    }
    let mut found = vec![];
    for segment in segments.get(first..).unwrap_or_default() {
        let is_last = segments.last() == Some(segment);
        let lines = read_lines(segment, is_last)?;
        found.extend(lines.entries.into_iter().filter(|entry| entry.seq > after));
        if found.len() >= limit {
            break;
        }
    }
    found.truncate(limit);
    Ok(found)
}

/// The segments in order. One that is missing in the middle is damage; the oldest may have been archived away.
fn list(directory: &Path) -> Result<Vec<Segment>, JournalError> {
    let fail = |source| JournalError::io("list state directory", directory, source);
    let mut segments = vec![];
    for file in std::fs::read_dir(directory).map_err(fail)? {
        let path = file.map_err(fail)?.path();
        if let Some(number) = number_of(&path) {
            segments.push(Segment { number, path });
        }
    }
    segments.sort_by_key(|segment| segment.number);
    for pair in segments.windows(2) {
        let missing = pair[0].number + 1;
        if pair[1].number != missing {
            let path = Segment::numbered(directory, missing).path;
            return Err(JournalError::Damaged { path, line: 1, what: "the segment is missing".into() });
        }
    }
    Ok(segments)
}

fn number_of(path: &Path) -> Option<u64> {
    let digits = path.file_name()?.to_str()?.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    let plain = digits.len() >= 6 && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|_| plain)
}

fn first_entry(segment: &Segment) -> Result<Option<Entry>, JournalError> {
    let fail = |source| JournalError::io("read", &segment.path, source);
    let file = std::fs::File::open(&segment.path).map_err(fail)?;
    let mut line = vec![];
    BufReader::new(file.take(LINE_BYTES)).read_until(b'\n', &mut line).map_err(fail)?;
    if !line.ends_with(b"\n") {
        return Ok(None);
    }
    line::decode(&line).map(Some).map_err(|bad| refuse(segment, 1, bad))
}

/// Reads `segments`, at least one, the last of which is the journal's last.
fn read_chain(segments: &[Segment], before: Option<Link>) -> Result<Held, JournalError> {
    let mut end = before;
    let mut entries = vec![];
    let mut last = Lines::default();
    for (at, segment) in segments.iter().enumerate() {
        last = read_lines(segment, at + 1 == segments.len())?;
        for (number, entry) in (1..).zip(&last.entries) {
            // The oldest segment at hand has nothing to continue, unless it is the very first.
            let known = end.get_or_insert_with(|| match segment.number {
                1 => Link::start(),
                _ => Link { seq: entry.seq.saturating_sub(1), hash: entry.prev.clone() },
            });
            line::continues(known, entry).map_err(|bad| refuse(segment, number, bad))?;
            *known = entry.link();
        }
        entries.append(&mut last.entries);
    }
    let segment = segments.last().expect("the caller has at least one segment").clone();
    let Lines { bytes, first_bytes, torn_bytes, .. } = last;
    Ok(Held { segment, entries, end: end.unwrap_or_else(Link::start), bytes, first_bytes, torn_bytes })
}

/// The records of the first and only segment of a journal, whose file holds `content`; for [`crate::boundary`].
pub(crate) fn chain_of(segment: &Segment, content: &[u8]) -> Result<Vec<Entry>, JournalError> {
    let entries = lines_of(segment, content, true)?.entries;
    let mut end = Link::start();
    for (number, entry) in (1..).zip(&entries) {
        line::continues(&end, entry).map_err(|bad| refuse(segment, number, bad))?;
        end = entry.link();
    }
    Ok(entries)
}

fn read_lines(segment: &Segment, is_last: bool) -> Result<Lines, JournalError> {
    lines_of(segment, &read(segment)?, is_last)
}

/// The lines of `content`, which is what stands in the file of `segment`.
pub(crate) fn lines_of(segment: &Segment, content: &[u8], is_last: bool) -> Result<Lines, JournalError> {
    let mut lines = Lines::default();
    for (number, line) in (1..).zip(content.split_inclusive(|b| *b == b'\n')) {
        if line.ends_with(b"\n") {
            lines.entries.push(line::decode(line).map_err(|bad| refuse(segment, number, bad))?);
            lines.bytes += line.len() as u64;
            if number == 1 {
                lines.first_bytes = lines.bytes;
            }
            continue;
        }
        if !is_last {
            return Err(damaged(segment, number, "its last line is torn, but another segment follows".into()));
        }
        if ends_in_garbage(line) {
            return Err(damaged(segment, number, "its last line is whole, but does not end in a line feed".into()));
        }
        lines.torn_bytes = line.len() as u64;
    }
    Ok(lines)
}

/// A write that was cut short leaves less than a line. A whole line with something else than its line feed was changed.
fn ends_in_garbage(unended: &[u8]) -> bool {
    let Some((_, body)) = unended.split_last() else { return false };
    let mut ended = body.to_vec();
    ended.push(b'\n');
    !matches!(line::decode(&ended), Err(BadLine::Damaged(_)))
}

/// Where the chain ends in a segment that is not needed otherwise.
fn last_link(segment: &Segment) -> Result<Link, JournalError> {
    let content = read(segment)?;
    let number = content.split_inclusive(|b| *b == b'\n').count() as u64;
    let line = content.split_inclusive(|b| *b == b'\n').next_back().unwrap_or_default();
    line::decode(line).map(|entry| entry.link()).map_err(|bad| refuse(segment, number, bad))
}

fn read(segment: &Segment) -> Result<Vec<u8>, JournalError> {
    let fail = |source: io::Error| JournalError::io("read", &segment.path, source);
    // A device or a pipe in the place of a segment would never end.
    if !std::fs::metadata(&segment.path).map_err(fail)?.is_file() {
        return Err(damaged(segment, 1, "it is no regular file".into()));
    }
    std::fs::read(&segment.path).map_err(fail)
}

fn damaged(segment: &Segment, line: u64, what: String) -> JournalError {
    JournalError::Damaged { path: segment.path.clone(), line, what }
}

fn refuse(segment: &Segment, line: u64, bad: BadLine) -> JournalError {
    let path = segment.path.clone();
    match bad {
        BadLine::Damaged(what) => JournalError::Damaged { path, line, what },
        BadLine::Unknown(what) => JournalError::UnknownVersion { path, line, what },
    }
}
