//! What a failover took, from the daemon's own journal.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use understudy_agent::journal::Entry;
use understudy_core::{LossBound, Record, Step, StepResult, Verdict};

/// Times in milliseconds; none where it did not come to that.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Table {
    /// From the hurt to the first signal that fell.
    pub detection_ms: Option<i64>,
    /// From the hurt to the verdict `SiteDown`.
    pub decision_ms: Option<i64>,
    /// From the question to the answer.
    pub approval_ms: Option<i64>,
    /// From its first intent to its last outcome, each step.
    pub steps_ms: Vec<(String, i64)>,
    /// From the start of the run to its end.
    pub run_ms: Option<i64>,
    /// From the hurt to the end of the run.
    pub total_ms: Option<i64>,
    /// The bound that was named.
    pub loss_bound: Option<String>,
}

impl Table {
    /// Reads the journal of one rehearsal.
    #[must_use]
    pub fn of(story: &[Entry], hurt_wall_ms: Option<i64>) -> Self {
        let at = |wanted: &dyn Fn(&Record) -> bool| {
            let after = |entry: &&Entry| hurt_wall_ms.is_none_or(|hurt| entry.at.wall_ms >= hurt);
            story.iter().filter(after).find(|entry| wanted(&entry.record)).map(|entry| entry.at.wall_ms)
        };
        let since_hurt = |moment: Option<i64>| Some(moment? - hurt_wall_ms?);
        let asked = at(&|r| matches!(r, Record::Requested { .. }));
        let answered = at(&|r| matches!(r, Record::Answered { .. }));
        let started = at(&|r| matches!(r, Record::RunStarted { .. }));
        let ended = at(&|r| matches!(r, Record::RunEnded { .. }));
        Self {
            detection_ms: since_hurt(at(&|r| matches!(r, Record::Signal { to, .. } if to.is_down()))),
            decision_ms: since_hurt(at(&|r| matches!(r, Record::Verdict { to: Verdict::SiteDown, .. }))),
            approval_ms: answered.zip(asked).map(|(answered, asked)| answered - asked),
            steps_ms: steps(story),
            run_ms: ended.zip(started).map(|(ended, started)| ended - started),
            total_ms: since_hurt(ended),
            loss_bound: bound(story).map(|bound| bound.to_string()),
        }
    }
}

fn steps(story: &[Entry]) -> Vec<(String, i64)> {
    let mut began: BTreeMap<Step, i64> = BTreeMap::new();
    let mut took = Vec::new();
    for entry in story {
        match &entry.record {
            Record::Intent { step, .. } => {
                began.entry(*step).or_insert(entry.at.wall_ms);
            }
            Record::Outcome { step, result: StepResult::Done { .. }, .. } => {
                took.push((step.to_string(), entry.at.wall_ms - began.get(step).copied().unwrap_or(entry.at.wall_ms)));
            }
            _ => {}
        }
    }
    took
}

/// The bound that the last question named at its expiry.
fn bound(story: &[Entry]) -> Option<LossBound> {
    story.iter().rev().find_map(|entry| match &entry.record {
        Record::Requested { request } => Some(request.bound_at_expiry),
        Record::RunStarted { run, .. } => Some(run.accepted),
        _ => None,
    })
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |f: &mut fmt::Formatter<'_>, name: &str, ms: Option<i64>| match ms {
            Some(ms) => writeln!(f, "  {name:<34} {:>8.2} s", seconds(ms)),
            None => Ok(()),
        };
        row(f, "detection (first signal Down)", self.detection_ms)?;
        row(f, "decision (verdict SiteDown)", self.decision_ms)?;
        row(f, "human (question to answer)", self.approval_ms)?;
        for (step, ms) in &self.steps_ms {
            row(f, &format!("  {step}"), Some(*ms))?;
        }
        row(f, "plan, start to end", self.run_ms)?;
        row(f, "total, from the hurt", self.total_ms)?;
        match &self.loss_bound {
            Some(bound) => writeln!(f, "  {:<34} {bound:>10}", "loss at most (as named)"),
            None => Ok(()),
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "a rehearsal does not last for 285,000 years")]
fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}
