//! What happens, and what is to be done about it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::mirror::{LossBound, MirrorFacts};
use crate::names::{PairId, PairName, RequestId, RunId, Ticket};
use crate::plan::{Step, StepOrder, StepResult};
use crate::reading::{Domain, Observation, Reading};
use crate::record::{Record, Request};
use crate::verdict::Verdict;

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum Event {
    /// Time went by; sent several times a second.
    Tick,
    /// A self-check was read.
    SelfRead {
        /// Its place in the policy.
        check: u16,
        /// What it said.
        observation: Observation,
    },
    /// A probe was read.
    Read {
        /// The pair.
        pair: PairId,
        /// The probe's place in the pair's policy.
        probe: u16,
        /// What it said.
        observation: Observation,
    },
    /// The mirrored images were looked at.
    MirrorRead {
        /// The pair.
        pair: PairId,
        /// The `rbd_mirror` probe's place in the pair's policy.
        probe: u16,
        /// When the look began, in milliseconds of `Now::boot_ms`.
        started_ms: u64,
        /// What was seen.
        facts: MirrorFacts,
    },
    /// A's clock was compared with ours.
    ClockCompared {
        /// The pair.
        pair: PairId,
        /// The greatest difference that the comparison allows for, in milliseconds.
        error_ms: u64,
    },
    /// A witness was read.
    WitnessRead {
        /// The pair.
        pair: PairId,
        /// The witness' place in the pair's policy.
        witness: u16,
        /// When the look began, in milliseconds of `Now::boot_ms`.
        started_ms: u64,
        /// What it said; a wrong signature, silence or garbage is [`WitnessReport::Absent`].
        report: WitnessReport,
    },
    /// B's fitness was looked at.
    Readiness {
        /// The pair.
        pair: PairId,
        /// What is missing, each with its remedy; empty = ready.
        missing: Vec<String>,
    },
    /// The lease at B was taken, renewed or lost.
    Lease {
        /// The pair.
        pair: PairId,
        /// Held until then, in milliseconds of `Now::boot_ms`; none = not held.
        until_ms: Option<u64>,
        /// Who holds it, if not we.
        holder: Option<String>,
        /// The epoch that the lease itself carries while it is ours: higher than ours if another has held it meanwhile.
        epoch: Option<u64>,
    },
    /// A step asks to remember something before it goes on.
    StepNoted {
        /// The pair.
        pair: PairId,
        /// The run.
        run: RunId,
        /// The step.
        step: Step,
        /// What it is called.
        key: String,
        /// What it is.
        value: String,
        /// Who waits for the [`Command::Ack`].
        ticket: Ticket,
    },
    /// A try of a step ended.
    StepEnded {
        /// The pair.
        pair: PairId,
        /// The run.
        run: RunId,
        /// The step.
        step: Step,
        /// Which try.
        attempt: u32,
        /// How.
        result: StepResult,
    },
    /// A human gave an order.
    Ordered {
        /// The pair.
        pair: PairId,
        /// Who: the peer's uid or the token's subject.
        by: String,
        /// What.
        order: Order,
        /// Who waits for the [`Command::Answer`].
        ticket: Ticket,
    },
}

/// What a witness says of the primary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "witness")]
pub enum WitnessReport {
    /// No usable answer: silence, staleness and a bad signature are no witness.
    Absent {
        /// Why.
        why: String,
    },
    /// It doubts itself.
    Blind,
    /// Its own signals, by domain.
    Sees {
        /// State of each domain that it watches.
        domains: Vec<(Domain, Reading)>,
    },
}

/// A human's order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "order", deny_unknown_fields)]
pub enum Order {
    /// Yes to a request.
    Approve {
        /// Which.
        request: RequestId,
        /// Go on even if the fence is not confirmed, for this reason.
        accept_unfenced: Option<String>,
        /// The loss accepted, in milliseconds, where the bound is over the limit.
        accept_loss_ms: Option<u64>,
    },
    /// No to a request.
    Deny {
        /// Which.
        request: RequestId,
        /// Why.
        reason: String,
    },
    /// Start a failover without waiting for a request.
    Failover {
        /// Skip the verdict, not the fence, the RPO gate or the order.
        force: bool,
        /// Why.
        reason: String,
        /// Go on even if the fence is not confirmed, for this reason.
        accept_unfenced: Option<String>,
        /// The loss accepted, in milliseconds, where the bound is over the limit.
        accept_loss_ms: Option<u64>,
    },
    /// Try a stuck step again.
    Retry {
        /// The run.
        run: RunId,
        /// The step; none = every stuck one.
        step: Option<Step>,
    },
    /// Leave a stuck step out.
    Skip {
        /// The run.
        run: RunId,
        /// The step.
        step: Step,
        /// Why.
        reason: String,
    },
    /// Give a run up.
    Abandon {
        /// The run.
        run: RunId,
        /// Why.
        reason: String,
    },
    /// Record no new intent.
    Pause {
        /// For how long; none = until `resume`.
        for_ms: Option<u64>,
        /// Why.
        reason: String,
    },
    /// End the pause.
    Resume,
    /// Lift the recovery block.
    Unblock,
}

/// What is to be done. Commands are carried out in order; a [`Command::Journal`] is on disk before anything behind it is begun.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Write down, and sync if anything with an effect follows.
    Journal(Record),
    /// Look now, apart from the grid: every probe, self-check and witness that the pair's decision rests on.
    ProbeNow {
        /// The pair.
        pair: PairId,
    },
    /// Take the pair's lease at B and keep it.
    HoldLease {
        /// The pair.
        pair: PairId,
    },
    /// Run a step, and report by [`Event::StepEnded`].
    RunStep {
        /// The pair.
        pair: PairId,
        /// What it is told.
        order: Box<StepOrder>,
    },
    /// Tell the humans.
    Notify {
        /// The pair; none = the daemon itself.
        pair: Option<PairName>,
        /// What.
        notice: Notice,
    },
    /// Tell whoever waits that what he asked to remember is on disk.
    Ack {
        /// Who.
        ticket: Ticket,
        /// Whether the step may go on.
        go_on: bool,
    },
    /// Tell whoever gave an order what became of it.
    Answer {
        /// Who.
        ticket: Ticket,
        /// What became of it.
        answer: Result<String, Refusal>,
    },
}

/// What the humans are told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "notice")]
pub enum Notice {
    /// A question.
    Request {
        /// What is asked.
        request: Box<Request>,
        /// Whether this is the second, louder time.
        escalated: bool,
    },
    /// The question is moot.
    RequestVoid {
        /// Which.
        request: RequestId,
        /// Why.
        why: String,
    },
    /// Wake someone.
    Page {
        /// What kind, one word of a stable list.
        kind: PageKind,
        /// What happened and what to do.
        message: String,
    },
    /// The verdict changed.
    VerdictChanged {
        /// From.
        from: Verdict,
        /// To.
        to: Verdict,
        /// Why.
        cause: String,
    },
    /// A run began.
    RunStarted {
        /// Which.
        run: RunId,
        /// The bound that was accepted.
        accepted: LossBound,
    },
    /// A run ended.
    RunEnded {
        /// Which.
        run: RunId,
        /// How, in a sentence.
        how: String,
        /// Whether B is active now.
        succeeded: bool,
    },
}

/// Kinds of pages; each has a section in `docs/operations.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PageKind {
    /// Nexus is down, its site lives.
    ServiceDown,
    /// A's Ceph is down, its API lives.
    StorageDown,
    /// The whole primary site is down; says which gate is closed.
    SiteDown,
    /// We have doubted ourselves for too long.
    Blind,
    /// A step needs a human.
    Stuck,
    /// A run stopped before the promote.
    Stopped,
    /// The old primary shows signs of life.
    OldPrimaryReturned,
    /// Nexus at B is down while B is active.
    StandbyDown,
}

/// Why an order was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{why}")]
pub struct Refusal {
    /// What is wrong, and what would help.
    pub why: String,
}

impl Refusal {
    /// A refusal that says `why`.
    pub fn new(why: impl Into<String>) -> Self {
        Self { why: why.into() }
    }
}

/// Doubles `first` for each try after the first, up to 64 times it.
#[must_use]
pub fn backoff(first: Duration, attempt: u32) -> Duration {
    first * 2u32.pow(attempt.saturating_sub(1).min(6))
}
