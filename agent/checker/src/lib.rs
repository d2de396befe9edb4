//! Says of a journal which invariant it breaks, and at which record.
//!
//! In: the records of a journal, one by one, as [`Seen`]. Out: the first [`Violation`], by the invariant's name; the
//! entries up to its number are the shortest prefix that shows it. The same code judges simulated worlds, every small
//! world there is, and journals from production.
//!
//! What was allowed is derived here from the records alone. Of `understudy-core` only the types of the records are used,
//! never its choices: a mistake there must not excuse itself. This crate opens nothing, reads no clock and has no
//! order but that of the records. Start reading at [`Checker::see`].

mod invariant;

use std::collections::BTreeMap;

use understudy_core::{Now, Record};

pub use invariant::Invariant;

/// A record as the journal holds it, without its hashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its number.
    pub seq: u64,
    /// When it was written.
    pub at: Now,
    /// What happened.
    pub record: Record,
}

/// An invariant that was broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("record {seq} breaks {invariant}: {what}")]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// Number of the record that breaks it.
    pub seq: u64,
    /// How.
    pub what: String,
}

/// How often each invariant was exercised: judged something that could have broken it.
pub type Counts = BTreeMap<Invariant, u64>;

/// What is known after the records so far.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Checker {
    counts: Counts,
    last: Option<(u64, Now)>,
}

/// A rule that a record breaks.
struct Broken {
    invariant: Invariant,
    what: String,
}

type Kept = Result<(), Broken>;

impl Checker {
    /// Takes the next record.
    ///
    /// # Errors
    /// The [`Violation`] that it is, or that it shows. The checker is of no further use then.
    pub fn see(&mut self, entry: &Seen) -> Result<(), Violation> {
        self.take(entry).map_err(|Broken { invariant, what }| Violation { invariant, seq: entry.seq, what })
    }

    /// How often each invariant was exercised so far.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    fn take(&mut self, entry: &Seen) -> Kept {
        let Seen { seq, at, .. } = entry;
        if let Some((last, before)) = self.last.replace((*seq, *at)) {
            self.rule(Invariant::X2, *seq == last + 1, || format!("record {seq} follows record {last}"))?;
            let forward = before.boot_id != at.boot_id || before.boot_ms <= at.boot_ms;
            self.rule(Invariant::X2, forward, || "the monotonic clock went back".into())?;
        }
        Ok(())
    }

    fn rule(&mut self, invariant: Invariant, holds: bool, what: impl FnOnce() -> String) -> Kept {
        *self.counts.entry(invariant).or_default() += 1;
        if holds { Ok(()) } else { Err(Broken { invariant, what: what() }) }
    }
}

/// Checks every rule on every record.
///
/// # Errors
/// The first [`Violation`].
pub fn check(records: impl IntoIterator<Item = Seen>) -> Result<Counts, Violation> {
    let mut checker = Checker::default();
    for entry in records {
        checker.see(&entry)?;
    }
    Ok(checker.counts)
}
