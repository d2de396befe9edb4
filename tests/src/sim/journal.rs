//! The journal in memory: the real lines, on a disk that loses what was not flushed.
//!
//! It keeps the rules of `understudy_agent::journal`: one line a record, chained; a flush only where asked for; a failed
//! write or flush is final until the next start; a torn last line is cut off, any other damage refuses the start; a full
//! segment is followed by one that begins with a snapshot. In most stories the lines are not made, since a line that is
//! torn is a record that is gone; a part of them ([`Setting::bytes`](super::plot::Setting::bytes)) writes, tears and reads
//! back every byte.

use understudy_agent::journal::line::{self, BadLine, Link};
use understudy_checker::Seen;
use understudy_core::{Now, Record};

use super::dice::Dice;

/// The disk under the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disk {
    /// It works.
    Good,
    /// It takes no more bytes.
    Full,
    /// It takes bytes, and can not say that they are safe.
    NoFlush,
}

/// The journal could not be written, or can not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalFails(pub String);

/// The journal.
#[derive(Debug)]
pub struct Journal {
    /// Every record that a reader would find now.
    pub kept: Vec<Seen>,
    /// Records that are flushed.
    pub flushed: usize,
    /// Where the last snapshot is.
    first: usize,
    lines: Option<Vec<Vec<u8>>>,
    end: Link,
    /// Records whose flush failed: the page cache shows them until the machine loses power.
    doubtful: Vec<usize>,
    broken: bool,
    damaged: bool,
    segment: usize,
}

impl Journal {
    /// An empty journal.
    #[must_use]
    pub fn new(bytes: bool, segment: usize) -> Self {
        Self {
            kept: Vec::with_capacity(256),
            flushed: 0,
            first: 0,
            lines: bytes.then(Vec::new),
            end: Link::start(),
            doubtful: vec![],
            broken: false,
            damaged: false,
            segment,
        }
    }

    /// Writes a record behind the last one, and flushes if `flush`.
    ///
    /// # Errors
    /// If the disk does not take it; then it takes nothing more.
    pub fn append(&mut self, now: Now, record: Record, flush: bool, disk: Disk) -> Result<(), JournalFails> {
        if self.broken || disk == Disk::Full {
            self.broken = true;
            return Err(JournalFails("no space left on device".into()));
        }
        self.write(now, record);
        if !flush {
            return Ok(());
        }
        if disk == Disk::NoFlush {
            let known = self.doubtful.last().map_or(0, |last| last + 1);
            self.doubtful.extend(self.flushed.max(known)..self.kept.len());
            self.broken = true;
            return Err(JournalFails("input/output error".into()));
        }
        self.flushed = self.kept.len();
        Ok(())
    }

    fn write(&mut self, at: Now, record: Record) {
        let seq = self.kept.len() as u64 + 1;
        if let Some(lines) = &mut self.lines {
            let (bytes, end) = line::encode(&self.end, at, &record);
            self.end = end;
            lines.push(bytes);
        }
        self.kept.push(Seen { seq, at, record });
    }

    /// Whether the segment is full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.kept.len() - self.first > self.segment
    }

    /// Begins a new segment.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn rotate(&mut self, now: Now, snapshot: Record, disk: Disk) -> Result<(), JournalFails> {
        let first = self.kept.len();
        self.append(now, snapshot, true, disk)?;
        self.first = first;
        Ok(())
    }

    /// The machine loses power: of what was not flushed, nothing, a part, or a part and a torn line is left; or later
    /// pages reached the disk and earlier ones did not.
    pub fn lose_power(&mut self, dice: &mut Dice) {
        let unflushed = self.kept.len() - self.flushed;
        let keep = self.flushed + usize::try_from(dice.below(unflushed as u64 + 1)).unwrap_or_default();
        if let Some(lines) = &mut self.lines {
            if dice.chance(10) && unflushed > 1 {
                let hole = self.flushed + usize::try_from(dice.below(unflushed as u64 - 1)).unwrap_or_default();
                lines[hole].fill(0);
            } else if keep < self.kept.len() {
                let cut = usize::try_from(dice.below(lines[keep].len() as u64)).unwrap_or_default();
                lines[keep].truncate(cut);
                lines.truncate(keep + 1);
            }
            for &at in &self.doubtful {
                if let Some(line) = lines.get_mut(at) {
                    line.fill(0);
                }
            }
        } else {
            self.kept.truncate(keep);
            self.doubtful.retain(|at| *at < keep);
            if let Some(hole) = self.doubtful.first().copied() {
                // A torn end is cut off; a hole with records behind it is damage.
                self.damaged = keep - hole > self.doubtful.len();
                self.kept.truncate(hole);
            }
        }
        self.doubtful.clear();
    }

    /// Reads it all back, as a daemon that starts.
    ///
    /// # Errors
    /// Damage other than a torn last line.
    pub fn open(&mut self) -> Result<Vec<(Now, Record)>, JournalFails> {
        if self.damaged {
            return Err(JournalFails("the journal is damaged".into()));
        }
        if let Some(lines) = &mut self.lines {
            let (read, end) = read_back(lines)?;
            lines.truncate(read.len());
            self.kept = read;
            self.end = end;
        }
        self.broken = false;
        self.flushed = self.flushed.min(self.kept.len());
        self.first = self.first.min(self.kept.len());
        Ok(self.kept[self.first..].iter().map(|kept| (kept.at, kept.record.clone())).collect())
    }
}

fn read_back(lines: &[Vec<u8>]) -> Result<(Vec<Seen>, Link), JournalFails> {
    let (mut kept, mut end) = (Vec::with_capacity(lines.len()), Link::start());
    let refuse = |bad: BadLine| JournalFails(format!("{bad:?}"));
    // Without its line feed a line is torn, and nothing may follow it.
    let whole = lines.iter().rposition(|bytes| bytes.ends_with(b"\n")).map_or(0, |last| last + 1);
    for bytes in &lines[..whole] {
        let entry = line::decode(bytes).map_err(refuse)?;
        line::continues(&end, &entry).map_err(refuse)?;
        end = entry.link();
        kept.push(Seen { seq: entry.seq, at: entry.at, record: entry.record });
    }
    Ok((kept, end))
}
