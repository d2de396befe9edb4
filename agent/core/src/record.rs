//! What is written down, and the state that can be made from it again.
//!
//! The core changes what must outlive a restart only by [`DurablePair::apply`], with the very record that it journals:
//! reading the journal back gives the same state by construction.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::event::PageKind;
use crate::gate::GateState;
use crate::mirror::{ImagePoint, LossBound, SourceTimes, loss_bound};
use crate::names::{ImageName, PairName, RequestId, RunId};
use crate::plan::{
    Consent, Ending, Failure, FenceOutcome, FenceProof, Finding, Phase, Run, Step, StepResult, StepStatus,
};
use crate::policy::Policy;
use crate::reading::{Reading, Reason};
use crate::time::Now;
use crate::verdict::Verdict;

/// Which place is the active one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "role")]
pub enum Role {
    /// A is active, B stands by.
    #[default]
    AtA,
    /// A run is under way, or was given up half-way.
    Moving {
        /// Which run.
        run: RunId,
    },
    /// B is active; A is watched for a return.
    AtB,
}

/// A signal as it stood, without what changes while nothing changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalEvidence {
    /// The probe's name.
    pub name: String,
    /// Its state; the reason is that of the last transition.
    pub state: Reading,
    /// When it took that state, in milliseconds since the Unix epoch.
    pub since_wall_ms: i64,
}

/// What a decision rests on; the same while nothing changes, so that an approval can be bound to it (S2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The verdict.
    pub verdict: Verdict,
    /// When the hold-down began, in milliseconds since the Unix epoch.
    pub down_since_wall_ms: i64,
    /// Every signal of the quorum.
    pub signals: Vec<SignalEvidence>,
    /// What a promote would leave.
    pub points: Vec<ImagePoint>,
    /// Digest of the configuration.
    pub config_digest: String,
}

/// What a human is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// May the failover start?
    Failover,
    /// The fence of the running plan was not confirmed: go on nevertheless?
    Unfenced,
}

/// A question to a human, with its price.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Its name.
    pub id: RequestId,
    /// The pair.
    pub pair: PairName,
    /// What is asked.
    pub question: Question,
    /// What it is bound to.
    pub evidence: Evidence,
    /// When it was asked.
    pub asked: Now,
    /// When it expires, in milliseconds of `Now::boot_ms`.
    pub expires_ms: u64,
    /// The same in milliseconds since the Unix epoch, to be shown.
    pub expires_wall_ms: i64,
    /// The loss bound now.
    pub bound: LossBound,
    /// The loss bound when it expires: what an approver accepts.
    pub bound_at_expiry: LossBound,
    /// Whether the bound is over the limit, so that the answer must accept it by name.
    pub needs_loss_consent: bool,
    /// Whether it was asked a second time, louder.
    pub escalated: bool,
}

/// An answer to a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "answer")]
pub enum Answer {
    /// Go.
    Approved {
        /// Goes on even if the fence is not confirmed, for this reason.
        accept_unfenced: Option<String>,
        /// The loss accepted, in milliseconds, where it is over the limit.
        accept_loss_ms: Option<u64>,
    },
    /// Do not.
    Denied {
        /// Why.
        reason: String,
    },
}

/// A pause: no new intent until it ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When it ends by itself, in milliseconds since the Unix epoch; none = by `resume` only.
    pub until_wall_ms: Option<i64>,
}

/// What a witness says, as far as decisions differ by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WitnessSays {
    /// Nothing usable.
    Absent,
    /// It doubts itself.
    Blind,
    /// It sees A alive.
    Alive,
    /// A is down in two domains, and nothing of it alive.
    Down,
    /// Neither the one nor the other.
    Unsure,
}

/// One entry of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "record")]
pub enum Record {
    /// The daemon began to run.
    Started {
        /// Its version.
        version: String,
        /// Digest of the configuration.
        config_digest: String,
    },
    /// The rules by which it judges from here on: at every start and every change of the configuration.
    Ruled {
        /// Without secrets and addresses.
        policy: Box<Policy>,
    },
    /// The state so far; opens a new segment of the journal.
    Snapshot {
        /// Of every pair.
        pairs: BTreeMap<PairName, DurablePair>,
    },
    /// A self-check changed its state.
    SelfCheck {
        /// Which.
        check: String,
        /// From.
        from: Reading,
        /// To.
        to: Reading,
    },
    /// We began or ceased to doubt ourselves.
    Doubt {
        /// Why; none = no more.
        why: Option<String>,
    },
    /// A signal changed its state.
    Signal {
        /// The pair.
        pair: PairName,
        /// The probe.
        probe: String,
        /// From.
        from: Reading,
        /// To.
        to: Reading,
    },
    /// A witness says something else than before.
    Witness {
        /// The pair.
        pair: PairName,
        /// Which.
        witness: String,
        /// What it says now.
        says: WitnessSays,
    },
    /// A sign of life of A while a hold-down runs, or a run that it must stop (S4).
    Life {
        /// The pair.
        pair: PairName,
        /// What was alive.
        what: String,
    },
    /// The verdict changed.
    Verdict {
        /// The pair.
        pair: PairName,
        /// From.
        from: Verdict,
        /// To.
        to: Verdict,
        /// Why.
        cause: String,
    },
    /// The hold-down began.
    HoldDownBegan {
        /// The pair.
        pair: PairName,
    },
    /// A round of the hold-down was witnessed.
    Round {
        /// The pair.
        pair: PairName,
        /// Which one, from 1.
        number: u32,
        /// Held so far, in milliseconds.
        held_ms: u64,
    },
    /// The hold-down ended without a verdict.
    HoldDownBroken {
        /// The pair.
        pair: PairName,
        /// Why.
        cause: String,
    },
    /// What `auto` would have done here, written in every mode.
    Shadow {
        /// The pair.
        pair: PairName,
        /// Whether it would have acted.
        would_act: bool,
        /// The first gate that was closed.
        decided_by: Option<String>,
    },
    /// The gates were asked.
    Gates {
        /// The pair.
        pair: PairName,
        /// At which point.
        at: Step,
        /// Each with its answer.
        gates: Vec<GateState>,
    },
    /// A human was asked.
    Requested {
        /// What.
        request: Box<Request>,
    },
    /// The request was asked again, louder.
    Escalated {
        /// The pair.
        pair: PairName,
        /// Which.
        request: RequestId,
    },
    /// A human answered; the request is spent.
    Answered {
        /// The pair.
        pair: PairName,
        /// Which.
        request: RequestId,
        /// Who.
        by: String,
        /// What.
        answer: Answer,
    },
    /// A request became void.
    Voided {
        /// The pair.
        pair: PairName,
        /// Which.
        request: RequestId,
        /// Why.
        why: String,
    },
    /// An order or answer was refused.
    Refused {
        /// The pair.
        pair: PairName,
        /// Who gave it.
        by: String,
        /// What it was.
        order: String,
        /// Why it was refused.
        why: String,
    },
    /// A run was started.
    RunStarted {
        /// The pair.
        pair: PairName,
        /// The run.
        run: Box<Run>,
    },
    /// A step is about to act.
    Intent {
        /// The pair.
        pair: PairName,
        /// The run.
        run: RunId,
        /// The step.
        step: Step,
        /// Which try, from 1.
        attempt: u32,
        /// Idempotency key.
        key: String,
        /// The epoch that its writes carry.
        epoch: u64,
        /// Until when the lease was ours, in milliseconds of `Now::boot_ms` (S1).
        lease_until_ms: Option<u64>,
    },
    /// A step asked to remember something before it goes on.
    Noted {
        /// The pair.
        pair: PairName,
        /// The run.
        run: RunId,
        /// The step.
        step: Step,
        /// What it is called.
        key: String,
        /// What it is.
        value: String,
    },
    /// A try of a step ended.
    Outcome {
        /// The pair.
        pair: PairName,
        /// The run.
        run: RunId,
        /// The step.
        step: Step,
        /// Which try.
        attempt: u32,
        /// How.
        result: StepResult,
        /// If it will be tried again: when, in milliseconds of `Now::boot_ms`.
        again_ms: Option<u64>,
    },
    /// A step needs a human.
    Stuck {
        /// The pair.
        pair: PairName,
        /// The run.
        run: RunId,
        /// The step.
        step: Step,
        /// Why.
        message: String,
    },
    /// A human ordered another try.
    Retried {
        /// The pair.
        pair: PairName,
        /// The run.
        run: RunId,
        /// The step.
        step: Step,
        /// Who.
        by: String,
    },
    /// A human left a step out.
    Skipped {
        /// The pair.
        pair: PairName,
        /// The run.
        run: RunId,
        /// The step.
        step: Step,
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// A human accepted that the fence is not confirmed.
    UnfencedAccepted {
        /// The pair.
        pair: PairName,
        /// The run.
        run: RunId,
        /// Who and why.
        consent: Consent,
        /// The loss that goes with it.
        accepted: LossBound,
    },
    /// A run stops before the promote; what was quiesced is brought back.
    RunStopping {
        /// The pair.
        pair: PairName,
        /// The run.
        run: RunId,
        /// Why.
        why: String,
    },
    /// A run is over.
    RunEnded {
        /// The pair.
        pair: PairName,
        /// The run.
        run: RunId,
        /// How.
        ending: Ending,
    },
    /// Another place is the active one.
    RoleChanged {
        /// The pair.
        pair: PairName,
        /// Now.
        role: Role,
        /// The epoch from here on.
        epoch: u64,
    },
    /// We lead the pair after another did: the lease that we took carries a higher epoch than ours (S1).
    Led {
        /// The pair.
        pair: PairName,
        /// The epoch from here on, of an open run too.
        epoch: u64,
    },
    /// What allows the promote that follows to be forced (S6).
    FenceProven {
        /// The pair.
        pair: PairName,
        /// The run.
        run: RunId,
        /// What.
        proof: FenceProof,
    },
    /// No new intent from here on.
    Paused {
        /// The pair.
        pair: PairName,
        /// Who, why, how long.
        pause: Pause,
    },
    /// The pause ended.
    Resumed {
        /// The pair.
        pair: PairName,
        /// Who; none = by itself.
        by: Option<String>,
    },
    /// No automatic failover until a human lifts it.
    Blocked {
        /// The pair.
        pair: PairName,
        /// When the block period is over, in milliseconds since the Unix epoch.
        until_wall_ms: i64,
    },
    /// A human lifted the block.
    Unblocked {
        /// The pair.
        pair: PairName,
        /// Who.
        by: String,
    },
    /// When the primary took one of its snapshots.
    SourceTime {
        /// The pair.
        pair: PairName,
        /// The image.
        image: ImageName,
        /// The primary's id of the snapshot.
        snapshot: u64,
        /// In milliseconds since the Unix epoch, by the primary's clock.
        time_ms: i64,
    },
    /// How far A's clock and ours may differ, measured while A lives.
    ClockError {
        /// The pair.
        pair: PairName,
        /// In milliseconds.
        error_ms: u64,
    },
    /// The pair was seen alive for the first time.
    SeenAlive {
        /// The pair.
        pair: PairName,
    },
    /// The old primary shows signs of life although B is active.
    OldPrimaryReturned {
        /// The pair.
        pair: PairName,
        /// What was seen.
        seen: String,
    },
    /// A human was woken.
    Paged {
        /// The pair; none = the daemon itself.
        pair: Option<PairName>,
        /// What for.
        kind: PageKind,
    },
    /// Readings are recorded apart; this is the digest of a finished segment.
    Recording {
        /// The segment's file name.
        segment: String,
        /// Its SHA-256, hexadecimal.
        sha256: String,
    },
}

impl Record {
    /// The pair it speaks of.
    #[must_use]
    pub fn pair(&self) -> Option<&PairName> {
        match self {
            Record::Started { .. }
            | Record::Ruled { .. }
            | Record::Snapshot { .. }
            | Record::SelfCheck { .. }
            | Record::Doubt { .. }
            | Record::Recording { .. } => None,
            Record::Requested { request } => Some(&request.pair),
            Record::Paged { pair, .. } => pair.as_ref(),
            Record::Signal { pair, .. }
            | Record::Witness { pair, .. }
            | Record::Life { pair, .. }
            | Record::Verdict { pair, .. }
            | Record::HoldDownBegan { pair }
            | Record::Round { pair, .. }
            | Record::HoldDownBroken { pair, .. }
            | Record::Shadow { pair, .. }
            | Record::Gates { pair, .. }
            | Record::Escalated { pair, .. }
            | Record::Answered { pair, .. }
            | Record::Voided { pair, .. }
            | Record::Refused { pair, .. }
            | Record::RunStarted { pair, .. }
            | Record::Intent { pair, .. }
            | Record::Noted { pair, .. }
            | Record::Outcome { pair, .. }
            | Record::Stuck { pair, .. }
            | Record::Retried { pair, .. }
            | Record::Skipped { pair, .. }
            | Record::UnfencedAccepted { pair, .. }
            | Record::Led { pair, .. }
            | Record::FenceProven { pair, .. }
            | Record::RunStopping { pair, .. }
            | Record::RunEnded { pair, .. }
            | Record::RoleChanged { pair, .. }
            | Record::Paused { pair, .. }
            | Record::Resumed { pair, .. }
            | Record::Blocked { pair, .. }
            | Record::Unblocked { pair, .. }
            | Record::SourceTime { pair, .. }
            | Record::ClockError { pair, .. }
            | Record::SeenAlive { pair }
            | Record::OldPrimaryReturned { pair, .. } => Some(pair),
        }
    }
}

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
                if matches!(run.authority, crate::plan::Authority::Automatic { .. }) {
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
            Record::Noted { step: Step::Fence, key, value, .. } => {
                self.fence_notes.insert(format!("{}/{key}", Step::Fence), value.clone());
                self.apply_to_run(record, at);
            }
            _ => self.apply_to_run(record, at),
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
                run.take_result(*step, *attempt, result, *again_ms, at)
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
            run.points = crate::mirror::consistency_point(facts, times);
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

    /// Ends the loss window at the confirmed fence, else where the decision ended it, else now (S8).
    pub(crate) fn loss_terms(&self, now: Now, clock_error_ms: Option<u64>) -> crate::mirror::LossTerms {
        let end_wall_ms = match &self.fence {
            Some(FenceOutcome::Confirmed { at_wall_ms, .. }) => *at_wall_ms,
            Some(FenceOutcome::Unconfirmed { .. }) | None => self.served_until_wall_ms.unwrap_or(now.wall_ms),
        };
        crate::mirror::LossTerms { end_wall_ms, clock_error_ms, writeback_ms: self.writeback_ms }
    }
}

/// A reading that was never made.
pub(crate) const NOT_YET: Reading = Reading::Unknown(Reason::NotYet);
