//! What is written down, and the state that can be made from it again.
//!
//! The core changes what must outlive a restart only by [`DurablePair::apply`], with the very record that it journals:
//! reading the journal back gives the same state by construction.

mod durable;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::durable::DurablePair;
use crate::event::PageKind;
use crate::gate::GateState;
use crate::mirror::{ImagePoint, LossBound};
use crate::names::{ImageName, PairName, RequestId, RunId};
use crate::plan::{Consent, Ending, FenceProof, Run, Step, StepResult};
use crate::policy::Policy;
use crate::reading::Reading;
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
