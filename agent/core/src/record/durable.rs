//! The state that outlives a restart, made from records alone: [`DurablePair::apply`] is where to start.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Pause, Record, Request, Role, WitnessSays};
use crate::mirror::{LossTerms, SourceTimes, consistency_point, loss_bound};
use crate::names::RunId;
use crate::plan::{Authority, Ending, Failure, FenceOutcome, Finding, Phase, Run, Step, StepResult, StepStatus};
use crate::time::Now;
use crate::verdict::Verdict;

/// What must outlive a restart, of one pair.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DurablePair {
    /// Which place is active.
    pub role: Role,
    /// Raised on every change of role, with every run, and when we lead after another did.
    pub epoch: u64,
    /// The run under way, or the last one.
    pub run: Option<Run>,
    /// The run that was given up after its promote was begun: the pair is half-way until another run succeeds.
    #[serde(default)]
    pub half_way: Option<RunId>,
    /// A pause in force.
    pub pause: Option<Pause>,
    /// Automatic failover is blocked until a human lifts it; the time is only shown.
    pub blocked_until_wall_ms: Option<i64>,
    /// How many requests were made.
    pub requests: u64,
    /// The open request.
    pub request: Option<Request>,
    /// Source times of the primary's snapshots.
    pub times: SourceTimes,
    /// How far A's clock and ours may differ.
    pub clock_error_ms: Option<u64>,
    /// Whether the pair was ever seen alive.
    pub seen_alive: bool,
    /// When automatic failovers were decided, in milliseconds since the Unix epoch.
    pub automatic_wall_ms: Vec<i64>,
    /// A run has changed the role and the record that says so is missing: a crash came between the two.
    pub role_untold: bool,
    /// The last OldPrimaryReturned that was told, so that it is told once.
    pub return_told: bool,
    /// What fences have noted since everything of A was Up the last time, by `STEP/KEY`: a later run must know it too. A pod
    /// that an earlier one deleted by force proves nothing by its absence (S6).
    #[serde(default)]
    pub fence_notes: BTreeMap<String, String>,
}

impl DurablePair {
    /// Takes one record into the state. `at` is the record's own time.
    pub fn apply(&mut self, record: &Record, at: Now) {
        match record {
            Record::Requested { request } => {
                self.requests += 1;
                self.request = Some((**request).clone());
            }
            Record::Escalated { .. } => {
                if let Some(request) = &mut self.request {
                    request.escalated = true;
                }
            }
            Record::Answered { .. } | Record::Voided { .. } => self.request = None,
            Record::RunStarted { run, .. } => {
                if matches!(run.authority, Authority::Automatic { .. }) {
                    self.automatic_wall_ms.push(at.wall_ms);
                }
                // The run alone makes the pair Moving: a crash before the next record must not leave it half begun.
                self.role = Role::Moving { run: run.id.clone() };
                self.epoch = run.epoch;
                self.role_untold = true;
                self.run = Some((**run).clone());
            }
            Record::RunEnded { ending, .. } => {
                self.epoch += 1;
                match ending {
                    Ending::Succeeded => (self.role, self.half_way) = (Role::AtB, None),
                    Ending::Stopped { .. } => self.role = self.role_before(),
                    Ending::Abandoned { .. } => self.half_way = self.run.as_ref().map(|run| run.id.clone()),
                }
                self.role_untold = !matches!(ending, Ending::Abandoned { .. });
                self.return_told = false;
                self.apply_to_run(record, at);
            }
            Record::RoleChanged { role, epoch, .. } => {
                self.role = role.clone();
                self.epoch = *epoch;
                (self.role_untold, self.return_told) = (false, false);
            }
            Record::Led { epoch, .. } => {
                self.epoch = *epoch;
                if let Some(run) = self.run.as_mut().filter(|run| !run.has_ended()) {
                    run.epoch = *epoch;
                }
            }
            Record::Paused { pause, .. } => self.pause = Some(pause.clone()),
            Record::Resumed { .. } => self.pause = None,
            Record::Blocked { until_wall_ms, .. } => self.blocked_until_wall_ms = Some(*until_wall_ms),
            Record::Unblocked { .. } => self.blocked_until_wall_ms = None,
            Record::SourceTime { image, snapshot, time_ms, .. } => self.times.learn(image, *snapshot, *time_ms),
            Record::ClockError { error_ms, .. } => self.clock_error_ms = Some(*error_ms),
            Record::SeenAlive { .. } => self.seen_alive = true,
            Record::OldPrimaryReturned { .. } => self.return_told = true,
            Record::Verdict { to: Verdict::Up, .. } => self.fence_notes.clear(),
            Record::Witness { says, .. } if *says != WitnessSays::Down => self.lose_sight(),
            Record::Noted { step: Step::Fence, key, value, .. } => {
                self.fence_notes.insert(format!("{}/{key}", Step::Fence), value.clone());
                self.apply_to_run(record, at);
            }
            _ => self.apply_to_run(record, at),
        }
    }

    /// A was out of sight: the agent was away or in doubt, or no witness was heard.
    pub fn lose_sight(&mut self) {
        if let Some(run) = self.run.as_mut().filter(|run| !run.has_ended()) {
            run.out_of_sight = true;
        }
    }

    fn apply_to_run(&mut self, record: &Record, at: Now) {
        let (times, clock_error) = (&self.times, self.clock_error_ms);
        let Some(run) = &mut self.run else { return };
        match record {
            Record::Intent { step, attempt, .. } => {
                if step.is_recheck() {
                    run.recheck_since_ms = Some(at.boot_ms);
                }
                if let Some(entry) = run.entry_mut(*step) {
                    entry.began = entry.began.or(Some(at));
                    entry.status = StepStatus::Running { attempt: *attempt, since: at };
                }
            }
            Record::Noted { step, key, value, .. } => {
                run.notes.insert(format!("{step}/{key}"), value.clone());
            }
            Record::Outcome { step, attempt, result, again_ms, .. } => {
                run.take_result(*step, *attempt, result, *again_ms, at);
                if step.is_recheck()
                    && matches!(result, StepResult::Done { .. })
                    && std::mem::take(&mut run.out_of_sight)
                {
                    run.widen_to(at, clock_error);
                }
            }
            Record::Stuck { step, message, .. } => {
                if let Some(entry) = run.entry_mut(*step) {
                    let attempt = entry.status.attempt();
                    entry.status = StepStatus::Stuck { since: at, attempt, message: message.clone() };
                }
            }
            Record::Retried { step, .. } => {
                if let Some(entry) = run.entry_mut(*step) {
                    let attempt = entry.status.attempt() + 1;
                    entry.status =
                        StepStatus::Waiting { attempt, until_ms: at.boot_ms, message: "ordered by hand".into() };
                }
            }
            Record::Skipped { step, by, reason, .. } => {
                if let Some(entry) = run.entry_mut(*step) {
                    entry.status = StepStatus::Skipped { by: by.clone(), reason: reason.clone() };
                }
            }
            Record::UnfencedAccepted { consent, accepted, .. } => {
                run.unfenced = Some(consent.clone());
                if accepted.exceeds(run.accepted) {
                    run.accepted = *accepted;
                }
            }
            Record::RunStopping { why, .. } => run.phase = Phase::BringingBack { why: why.clone() },
            Record::RunEnded { ending, .. } => run.phase = Phase::Ended { at, ending: ending.clone() },
            _ => {}
        }
        // The bound is derived, never journaled apart from what it rests on.
        if let Record::Outcome {
            step: Step::ConsistencyPoint,
            result: StepResult::Done { finding: Finding::Mirror(facts), .. },
            ..
        } = record
        {
            run.points = consistency_point(facts, times);
            let terms = run.loss_terms(at, clock_error);
            run.bound = Some(loss_bound(&run.points, terms));
        }
    }

    /// The role that a run which stops before its promote goes back to.
    #[must_use]
    pub fn role_before(&self) -> Role {
        self.half_way.clone().map_or(Role::AtA, |run| Role::Moving { run })
    }

    /// The run that is not over.
    #[must_use]
    pub fn open_run(&self) -> Option<&Run> {
        self.run.as_ref().filter(|run| !run.has_ended())
    }
}

impl StepStatus {
    /// The try that the state speaks of.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        match self {
            StepStatus::Running { attempt, .. } | StepStatus::Stuck { attempt, .. } => *attempt,
            StepStatus::Waiting { attempt, .. } => attempt.saturating_sub(1),
            StepStatus::Pending | StepStatus::Done { .. } | StepStatus::Skipped { .. } => 0,
        }
    }
}

impl Run {
    fn take_result(&mut self, step: Step, attempt: u32, result: &StepResult, again_ms: Option<u64>, at: Now) {
        match result {
            StepResult::Done { finding, .. } => match finding {
                Finding::Fence(outcome) => self.fence = Some(outcome.clone()),
                Finding::Nonce(path) => self.nonce = Some(path.clone()),
                Finding::Mirror(_) | Finding::Rechecked(_) | Finding::Nothing => {}
            },
            StepResult::Failed { .. } => {}
        }
        let Some(entry) = self.entry_mut(step) else { return };
        if matches!(result, StepResult::Failed { failure: Failure::NotBegun, .. }) {
            entry.began = None;
        }
        entry.status = match (result, again_ms) {
            (StepResult::Done { detail, .. }, _) => StepStatus::Done { at, detail: detail.clone() },
            (StepResult::Failed { message, .. }, Some(until_ms)) => {
                StepStatus::Waiting { attempt: attempt + 1, until_ms, message: message.clone() }
            }
            (StepResult::Failed { message, .. }, None) => {
                StepStatus::Stuck { since: at, attempt, message: message.clone() }
            }
        };
    }

    /// A may have served until it was looked at again, and what it took then is lost with the rest (S8).
    fn widen_to(&mut self, at: Now, clock_error_ms: Option<u64>) {
        self.served_until_wall_ms = self.served_until_wall_ms.map(|until| until.max(at.wall_ms));
        if !self.points.is_empty() {
            self.bound = Some(loss_bound(&self.points, self.loss_terms(at, clock_error_ms)));
        }
    }

    /// Ends the loss window at the confirmed fence, else where the decision ended it, else now (S8).
    pub(crate) fn loss_terms(&self, now: Now, clock_error_ms: Option<u64>) -> LossTerms {
        let end_wall_ms = match &self.fence {
            Some(FenceOutcome::Confirmed { at_wall_ms, .. }) => *at_wall_ms,
            Some(FenceOutcome::Unconfirmed { .. }) | None => self.served_until_wall_ms.unwrap_or(now.wall_ms),
        };
        LossTerms { end_wall_ms, clock_error_ms, writeback_ms: self.writeback_ms }
    }
}
