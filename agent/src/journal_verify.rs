//! The rules of `SAFETY.md` that a journal alone can show to be kept or broken.
//!
//! In: the entries of a journal, whose chain was checked when they were read. Out: the first [`Violation`], by the
//! invariant's name and the record's number. Pure: the same entries give the same answer, on any machine.
//!
//! The state that the records lead to is made by the core's own [`DurablePair::apply`]; what is judged here is whether
//! the record could follow from it. Rules about asking are in `asking`, rules about a run in `running`.

mod asking;
mod running;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use understudy_core::{DurablePair, Now, PairName, Record, RequestId, Verdict};

use crate::journal::Entry;

/// A rule that was broken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("record {seq} breaks {invariant}: {what}")]
pub struct Violation {
    /// The invariant, such as `S9`.
    pub invariant: &'static str,
    /// Number of the record that breaks it.
    pub seq: u64,
    /// How.
    pub what: String,
}

/// How much was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checked {
    /// Records.
    pub records: usize,
    /// Runs that were started in them.
    pub runs: usize,
}

impl Checked {
    /// How much `entries` hold.
    #[must_use]
    pub fn of(entries: &[Entry]) -> Self {
        let runs = entries.iter().filter(|entry| matches!(entry.record, Record::RunStarted { .. })).count();
        Self { records: entries.len(), runs }
    }
}

/// Checks every rule on every record.
///
/// # Errors
/// The first [`Violation`].
pub fn verify(entries: &[Entry]) -> Result<(), Violation> {
    let mut world = World::default();
    for entry in entries {
        world.take(entry).map_err(|Broken { invariant, what }| Violation { invariant, seq: entry.seq, what })?;
    }
    Ok(())
}

/// A rule that a record breaks.
struct Broken {
    invariant: &'static str,
    what: String,
}

type Kept = Result<(), Broken>;

/// `Ok` if `holds`, else the rule with what `what` says.
fn rule(invariant: &'static str, holds: bool, what: impl FnOnce() -> String) -> Kept {
    if holds { Ok(()) } else { Err(Broken { invariant, what: what() }) }
}

/// What is known so far.
#[derive(Default)]
struct World {
    pairs: BTreeMap<PairName, Pair>,
    doubt: Option<String>,
    /// Whether nothing was read before: a journal whose head was archived begins with a snapshot.
    begun: bool,
}

/// What is known of a pair.
#[derive(Default)]
struct Pair {
    durable: DurablePair,
    /// None = never recorded since the daemon began to run.
    verdict: Option<Verdict>,
    /// Rounds of the hold-down that runs.
    rounds: Option<u32>,
    /// The gates asked last, and whether all were open.
    gates: Option<running::Asked>,
    /// Requests that may still be answered: those asked since the daemon began to run.
    open: BTreeSet<RequestId>,
    /// Approvals that no run has spent.
    approvals: BTreeMap<RequestId, asking::Approval>,
    /// Tries of the run's steps.
    tries: running::Tries,
}

impl World {
    fn take(&mut self, entry: &Entry) -> Kept {
        let Entry { at, record, .. } = entry;
        match record {
            Record::Started { .. } => self.restart(),
            Record::Doubt { why } => self.doubt.clone_from(why),
            Record::Snapshot { pairs } => self.compare(pairs)?,
            Record::SelfCheck { .. } | Record::Recording { .. } => {}
            of_pair => {
                let name = of_pair.pair().cloned().unwrap_or_else(|| PairName(String::new()));
                let pair = self.pairs.entry(name).or_default();
                pair.take(*at, of_pair, self.doubt.as_deref())?;
                pair.durable.apply(of_pair, *at);
            }
        }
        self.begun = true;
        Ok(())
    }

    /// What is not durable begins anew (S5), and what was asked is void (S2).
    fn restart(&mut self) {
        self.doubt = None;
        for pair in self.pairs.values_mut() {
            pair.verdict = None;
            pair.rounds = None;
            pair.gates = None;
            pair.open.clear();
            pair.approvals.clear();
            pair.tries.restart();
        }
    }

    /// A snapshot says what the records before it said.
    fn compare(&mut self, snapshot: &BTreeMap<PairName, DurablePair>) -> Kept {
        for (name, theirs) in snapshot {
            let ours = self.pairs.entry(name.clone()).or_default();
            if self.begun {
                rule("X2", same(&ours.durable, theirs), || {
                    format!("the snapshot of {name} is not what the records before it lead to")
                })?;
            }
            ours.durable = theirs.clone();
            ours.tries.take_over(theirs);
            ours.open.extend(theirs.request.iter().map(|request| request.id.clone()));
        }
        Ok(())
    }
}

/// Times within a run are made harmless by a restart without a record of it, so that they are not compared.
fn same(a: &DurablePair, b: &DurablePair) -> bool {
    let request = |d: &DurablePair| d.request.as_ref().map(|request| request.id.clone());
    let run = |d: &DurablePair| {
        d.run.as_ref().map(|run| (run.id.clone(), run.phase.clone(), run.fence.clone(), run.notes.clone()))
    };
    (&a.role, a.epoch, &a.pause, a.blocked_until_wall_ms, a.requests)
        == (&b.role, b.epoch, &b.pause, b.blocked_until_wall_ms, b.requests)
        && request(a) == request(b)
        && run(a) == run(b)
}

impl Pair {
    fn take(&mut self, at: Now, record: &Record, doubt: Option<&str>) -> Kept {
        self.take_asking(at, record, doubt)?;
        self.take_running(at, record, doubt)
    }
}
