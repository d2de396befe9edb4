//! The account of a run: what was seen, who decided, how long each step took, what may be lost.
//!
//! In: the journal's entries. Out: a [`Report`], as data for JSON and, by [`Report::to_text`], for the eye. It is made
//! from the journal alone, so that it is the same during the run, after it, and on another machine.

pub mod file;
mod text;

use serde::Serialize;
use understudy_core::{
    Answer, Authority, DurablePair, Ending, FenceOutcome, ImagePoint, LossBound, Now, PairName, Phase, Record,
    RequestId, Run, RunId, Step, StepStatus, Verdict,
};

use crate::journal::Entry;
use crate::tell::sentence;
use crate::text::between;

/// The account of one run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Which run.
    pub run: RunId,
    /// Of which pair.
    pub pair: PairName,
    /// How it stands.
    pub outcome: Outcome,
    /// Why it stands so, if it did not succeed.
    pub why: Option<String>,
    /// On whose word.
    pub authority: Authority,
    /// When it was started, in milliseconds since the Unix epoch.
    pub started_wall_ms: i64,
    /// When it ended.
    pub ended_wall_ms: Option<i64>,
    /// From the first sign to the end, by stage.
    pub stages: Stages,
    /// Each step of the plan.
    pub steps: Vec<StepReport>,
    /// What may be lost.
    pub loss: Loss,
    /// How the fence ended.
    pub fence: Option<FenceOutcome>,
    /// Who answered what.
    pub answers: Vec<Answered>,
    /// Everything of the pair from the first sign to the end.
    pub timeline: Vec<Moment>,
}

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It goes on.
    UnderWay,
    /// A step needs a human.
    Stuck,
    /// B is active.
    Succeeded,
    /// Stopped before the promote.
    Stopped,
    /// Given up after the promote.
    Abandoned,
}

/// How long each stage took, in milliseconds; none where it did not come to that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stages {
    /// From the first signal that was not Up until the verdict `SiteDown`.
    pub detection_ms: Option<u64>,
    /// From the verdict until the run was started: the gates, and the human.
    pub decision_ms: Option<u64>,
    /// From the start of the run until its end, or until now.
    pub run_ms: u64,
    /// All of it.
    pub total_ms: u64,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepReport {
    /// Which.
    pub step: Step,
    /// Where it stands, in one word.
    pub state: &'static str,
    /// From the start of the run to its first try, in milliseconds.
    pub began_after_ms: Option<u64>,
    /// From its first try to done, in milliseconds.
    pub took_ms: Option<u64>,
    /// How often it was tried.
    pub tries: u32,
    /// What it found, or why it is not done.
    pub detail: String,
}

/// What may be lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// What was accepted at the start.
    pub accepted: LossBound,
    /// What the consistency point said.
    pub bound: Option<LossBound>,
    /// The snapshot of each image that the promote left.
    pub points: Vec<ImagePoint>,
}

/// An answer to a question.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answered {
    /// Which question.
    pub request: RequestId,
    /// Who.
    pub by: String,
    /// When, in milliseconds since the Unix epoch.
    pub at_wall_ms: i64,
    /// What.
    pub answer: Answer,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Moment {
    /// Number of the journal's record.
    pub seq: u64,
    /// When, in milliseconds since the Unix epoch.
    pub at_wall_ms: i64,
    /// Counted from the first sign, in milliseconds.
    pub after_ms: u64,
    /// In a sentence.
    pub what: String,
}

/// The account of `run`; none if these entries do not tell of its start.
#[must_use]
pub fn report(entries: &[Entry], run: &RunId) -> Option<Report> {
    let start = entries.iter().position(|e| matches!(&e.record, Record::RunStarted { run: r, .. } if r.id == *run))?;
    let pair = entries[start].record.pair()?.clone();
    let first = first_sign(&entries[..=start], &pair);
    let last = last_word(entries, start, run);
    let episode = &entries[first..=last];
    let end = entries.last().filter(|_| last + 1 == entries.len()).map_or(entries[last].at, |entry| entry.at);
    let state = state_after(&entries[..=last], &pair, run)?;
    Some(Report {
        run: run.clone(),
        outcome: outcome_of(&state),
        why: why_of(&state),
        authority: state.authority.clone(),
        started_wall_ms: state.started.wall_ms,
        ended_wall_ms: ended(&state).map(|at| at.wall_ms),
        stages: stages(episode, &state, &pair, end),
        steps: state.steps.iter().map(|entry| step_report(entry, state.started, episode, &state.id)).collect(),
        loss: Loss { accepted: state.accepted, bound: state.bound, points: state.points.clone() },
        fence: state.fence.clone(),
        answers: episode.iter().filter_map(|entry| answered(entry, &pair)).collect(),
        timeline: timeline(episode, &pair),
        pair,
    })
}

/// The last time before the start at which everything was well; what changed in that instant belongs to the story.
fn first_sign(before: &[Entry], pair: &PairName) -> usize {
    let left_up = |e: &Entry| {
        matches!(&e.record, Record::Verdict { pair: p, from: Verdict::Up, .. } if p == pair)
            || matches!(&e.record, Record::RunEnded { pair: p, .. } if p == pair)
    };
    let start = before.len() - 1;
    let sign = before.iter().rposition(left_up).filter(|at| matches!(before[*at].record, Record::Verdict { .. }));
    let at = sign.unwrap_or(start);
    before[..at].iter().rposition(|e| e.at != before[at].at || e.record.pair() != Some(pair)).map_or(0, |p| p + 1)
}

/// The end of the run with the change of role that goes with it, or the last entry.
fn last_word(entries: &[Entry], start: usize, run: &RunId) -> usize {
    let ends = |e: &Entry| matches!(&e.record, Record::RunEnded { run: r, .. } if r == run);
    match entries[start..].iter().position(ends).map(|at| start + at) {
        Some(end) if matches!(entries.get(end + 1).map(|e| &e.record), Some(Record::RoleChanged { .. })) => end + 1,
        Some(end) => end,
        None => entries.len() - 1,
    }
}

fn state_after(entries: &[Entry], pair: &PairName, run: &RunId) -> Option<Run> {
    let mut durable = DurablePair::default();
    for entry in entries {
        match &entry.record {
            Record::Snapshot { pairs } => durable = pairs.get(pair).cloned().unwrap_or_default(),
            record if record.pair() == Some(pair) => durable.apply(record, entry.at),
            _ => {}
        }
    }
    durable.run.filter(|last| last.id == *run)
}

fn outcome_of(run: &Run) -> Outcome {
    match &run.phase {
        Phase::Ended { ending: Ending::Succeeded, .. } => Outcome::Succeeded,
        Phase::Ended { ending: Ending::Stopped { .. }, .. } => Outcome::Stopped,
        Phase::Ended { ending: Ending::Abandoned { .. }, .. } => Outcome::Abandoned,
        Phase::Forward | Phase::BringingBack { .. } if run.stuck().next().is_some() => Outcome::Stuck,
        Phase::Forward | Phase::BringingBack { .. } => Outcome::UnderWay,
    }
}

fn why_of(run: &Run) -> Option<String> {
    match &run.phase {
        Phase::Ended { ending: Ending::Stopped { why }, .. } | Phase::BringingBack { why } => Some(why.clone()),
        Phase::Ended { ending: Ending::Abandoned { by, reason }, .. } => Some(format!("{by}: {reason}")),
        Phase::Ended { ending: Ending::Succeeded, .. } | Phase::Forward => None,
    }
}

fn ended(run: &Run) -> Option<Now> {
    match run.phase {
        Phase::Ended { at, .. } => Some(at),
        Phase::Forward | Phase::BringingBack { .. } => None,
    }
}

fn stages(episode: &[Entry], run: &Run, pair: &PairName, now: Now) -> Stages {
    let end = ended(run).unwrap_or(now);
    let first = episode.first().map_or(run.started, |entry| entry.at);
    let says_down =
        |e: &&Entry| matches!(&e.record, Record::Verdict { pair: p, to: Verdict::SiteDown, .. } if p == pair);
    let verdict = episode.iter().rfind(|e| says_down(e) && between(e.at, run.started) <= between(first, run.started));
    Stages {
        detection_ms: verdict.map(|entry| between(first, entry.at)),
        decision_ms: verdict.map(|entry| between(entry.at, run.started)),
        run_ms: between(run.started, end),
        total_ms: between(first, end),
    }
}

fn step_report(entry: &understudy_core::StepEntry, started: Now, episode: &[Entry], id: &RunId) -> StepReport {
    let tries = episode
        .iter()
        .filter(|e| matches!(&e.record, Record::Intent { run, step, .. } if run == id && *step == entry.step));
    let (state, done, detail) = match &entry.status {
        StepStatus::Pending => ("pending", None, String::new()),
        StepStatus::Running { .. } => ("running", None, String::new()),
        StepStatus::Waiting { message, .. } => ("waiting", None, message.clone()),
        StepStatus::Done { at, detail } => ("done", Some(*at), detail.clone()),
        StepStatus::Stuck { message, .. } => ("stuck", None, message.clone()),
        StepStatus::Skipped { by, reason } => ("skipped", None, format!("by {by}: {reason}")),
    };
    StepReport {
        step: entry.step,
        state,
        began_after_ms: entry.began.map(|began| between(started, began)),
        took_ms: entry.began.zip(done).map(|(began, done)| between(began, done)),
        tries: u32::try_from(tries.count()).unwrap_or(u32::MAX),
        detail,
    }
}

fn answered(entry: &Entry, of: &PairName) -> Option<Answered> {
    let Record::Answered { pair, request, by, answer } = &entry.record else { return None };
    (pair == of).then(|| Answered {
        request: request.clone(),
        by: by.clone(),
        at_wall_ms: entry.at.wall_ms,
        answer: answer.clone(),
    })
}

fn timeline(episode: &[Entry], pair: &PairName) -> Vec<Moment> {
    let Some(first) = episode.first().map(|entry| entry.at) else { return vec![] };
    let ours = episode.iter().filter(|entry| entry.record.pair().is_none_or(|named| named == pair));
    let told = ours.filter_map(|entry| {
        let what = sentence(&entry.record)?;
        let after_ms = between(first, entry.at);
        Some(Moment { seq: entry.seq, at_wall_ms: entry.at.wall_ms, after_ms, what })
    });
    told.collect()
}

#[cfg(test)]
mod tests;
