//! Says of a journal which invariant it breaks, and at which record.
//!
//! In: the records of a journal, one by one, as [`Seen`]. Out: the first [`Violation`], by the invariant's name; the
//! entries up to its number are the shortest prefix that shows it. The same code judges simulated worlds, every small
//! world there is, and journals from production.
//!
//! What was allowed is derived here from the records alone, the rules that were journaled among them. Of `understudy-core`
//! only the types of the records are used, never its choices: a mistake there must not excuse itself. A journal whose head
//! was archived is judged from its first snapshot on, by what the records left say. This crate opens nothing, reads no
//! clock and has no order but that of the records. Start reading at [`Checker::see`].

mod asking;
mod invariant;
mod loss;
mod order;
mod own;
mod pair;
mod running;
mod starting;
mod watching;

use std::collections::BTreeMap;

use understudy_core::{Now, PairName, PairPolicy, Record};

pub use invariant::Invariant;
use own::Own;
use pair::Pair;

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
    book: Book,
    last: Option<(u64, Now)>,
    own: Own,
    pairs: BTreeMap<PairName, Pair>,
}

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
        &self.book.0
    }

    /// The same knowledge with nothing counted and no record numbered: what any continuation will be judged by. Two
    /// journals that lead to equal ones can go on alike.
    #[must_use]
    pub fn knowledge(&self) -> Self {
        Self { book: Book::default(), last: None, ..self.clone() }
    }

    fn take(&mut self, entry: &Seen) -> Kept {
        let first = self.last.is_none();
        self.continues(entry)?;
        let Seen { at, record, .. } = entry;
        self.own.take(&mut self.book, *at, record)?;
        if let Record::Ruled { policy } = record {
            for (name, pair) in &mut self.pairs {
                let of = |policy: &understudy_core::Policy| policy.pairs.iter().find(|p| p.name == *name).cloned();
                pair.rule_anew(self.own.before.as_ref().and_then(|rules| of(&rules.0)).as_ref(), of(policy).as_ref());
            }
        }
        match record {
            Record::Started { .. } => self.pairs.values_mut().for_each(|pair| pair.restart(*at)),
            Record::Doubt { why: Some(_) } => self.pairs.values_mut().for_each(Pair::lose_sight),
            Record::Snapshot { pairs } => {
                for (name, durable) in pairs {
                    let pair = self.pairs.entry(name.clone()).or_default();
                    if first {
                        pair.take_over(durable, *at);
                    } else {
                        pair.compare(&mut self.book, name, durable)?;
                    }
                }
            }
            _ => {}
        }
        // What the daemon says of itself after it stood still comes before the doubt that says so.
        let Some(name) = record.pair() else { return Ok(()) };
        self.watch_time(*at)?;
        let pair = self.pairs.entry(name.clone()).or_default();
        let rules = self.own.rules_of(name);
        pair.take(&mut Scene { book: &mut self.book, own: &self.own, rules: rules.as_ref(), at: *at }, record)?;
        self.own.count_automatic(name, *at, record);
        Ok(())
    }

    fn continues(&mut self, entry: &Seen) -> Kept {
        let Seen { seq, at, .. } = entry;
        let Some((last, before)) = self.last.replace((*seq, *at)) else { return Ok(()) };
        self.book.rule(Invariant::X2, *seq == last + 1, || format!("record {seq} follows record {last}"))?;
        let forward = before.boot_id != at.boot_id || before.boot_ms <= at.boot_ms;
        self.book.rule(Invariant::X2, forward, || "the monotonic clock went back".into())
    }

    /// What was due before this record and is not there. While we doubt ourselves we may have stood still.
    fn watch_time(&mut self, at: Now) -> Kept {
        if self.own.doubt.is_some() {
            return Ok(());
        }
        for (name, pair) in &mut self.pairs {
            let rules = self.own.rules_of(name);
            pair.watch_time(&mut Scene { book: &mut self.book, own: &self.own, rules: rules.as_ref(), at })?;
        }
        Ok(())
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
    Ok(checker.book.0)
}

/// A rule that a record breaks.
struct Broken {
    invariant: Invariant,
    what: String,
}

type Kept = Result<(), Broken>;

/// Counts what was judged.
#[derive(Debug, Clone, PartialEq, Default)]
struct Book(Counts);

impl Book {
    /// `Ok` if `holds`, else the invariant with what `what` says.
    fn rule(&mut self, invariant: Invariant, holds: bool, what: impl FnOnce() -> String) -> Kept {
        *self.0.entry(invariant).or_default() += 1;
        if holds { Ok(()) } else { Err(Broken { invariant, what: what() }) }
    }
}

/// What is at hand while one record of a pair is judged.
struct Scene<'a> {
    book: &'a mut Book,
    own: &'a Own,
    /// None = the records do not say, or the pair is no longer configured.
    rules: Option<&'a PairPolicy>,
    at: Now,
}

impl Scene<'_> {
    fn rule(&mut self, invariant: Invariant, holds: bool, what: impl FnOnce() -> String) -> Kept {
        self.book.rule(invariant, holds, what)
    }

    /// Nothing tells against ourselves (S3).
    fn fit(&mut self, what: impl FnOnce() -> String) -> Kept {
        let unfit = self.own.unfit();
        self.rule(Invariant::S3, unfit.is_none(), || format!("{} in doubt: {}", what(), unfit.unwrap_or_default()))
    }
}

/// `d` in milliseconds.
fn ms(d: std::time::Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

/// What went by between two moments of one boot, in milliseconds; none across boots.
fn between(earlier: Now, later: Now) -> Option<u64> {
    (earlier.boot_id == later.boot_id).then(|| later.boot_ms.saturating_sub(earlier.boot_ms))
}
