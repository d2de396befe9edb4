//! The plan of a failover: its steps, their order, and what a run of it remembers.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::mirror::{ImagePoint, LossBound};
use crate::names::{ImageName, RequestId, RunId};
use crate::policy::PlanPolicy;
use crate::reading::Reading;
use crate::record::Evidence;
use crate::time::Now;

/// One node of the plan's graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Demands fresh readings before anything is written. Done by the core itself.
    Recheck,
    /// Stops what of A still answers.
    Fence,
    /// Reads at B which snapshot a promote would leave.
    ConsistencyPoint,
    /// Keeps the local rbd-mirror from touching the images.
    Quiesce,
    /// Namespace, Secrets, PV and PVC at B.
    Restore,
    /// Waits until every PVC is Bound to the expected PV.
    Bound,
    /// Demands fresh readings once more, at the point of no return. Done by the core itself.
    PromoteRecheck,
    /// Makes all images primary at B.
    Promote,
    /// A snapshot of the promoted images, before Nexus touches them.
    UndoPoint,
    /// The custom resource at B, until Nexus is ready.
    Deploy,
    /// Is it the right Nexus, with the right data?
    Verify,
    /// One target of the route, by its place in the list.
    Route(u8),
    /// Proof from outside that the name leads to B.
    RouteCheck,
    /// rbd-mirror as it was before, and a schedule for the way back.
    MirrorBack,
    /// The account of it all.
    Report,
}

impl Step {
    /// Whether a human may skip it: not what safety rests on.
    #[must_use]
    pub fn may_be_skipped(self) -> bool {
        !matches!(
            self,
            Step::Recheck
                | Step::ConsistencyPoint
                | Step::Quiesce
                | Step::Bound
                | Step::PromoteRecheck
                | Step::Promote
                | Step::Verify
                | Step::Fence
        )
    }

    /// Whether the core does it by itself, from fresh readings.
    #[must_use]
    pub fn is_recheck(self) -> bool {
        matches!(self, Step::Recheck | Step::PromoteRecheck)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Recheck => f.write_str("recheck"),
            Step::Fence => f.write_str("fence"),
            Step::ConsistencyPoint => f.write_str("consistency-point"),
            Step::Quiesce => f.write_str("quiesce"),
            Step::Restore => f.write_str("restore"),
            Step::Bound => f.write_str("bound"),
            Step::PromoteRecheck => f.write_str("promote-recheck"),
            Step::Promote => f.write_str("promote"),
            Step::UndoPoint => f.write_str("undo-point"),
            Step::Deploy => f.write_str("deploy"),
            Step::Verify => f.write_str("verify"),
            Step::Route(n) => write!(f, "route-{n}"),
            Step::RouteCheck => f.write_str("route-check"),
            Step::MirrorBack => f.write_str("mirror-back"),
            Step::Report => f.write_str("report"),
        }
    }
}

/// A text that names no step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no step {0:?}")]
pub struct NoSuchStep(pub String);

impl std::str::FromStr for Step {
    type Err = NoSuchStep;

    fn from_str(text: &str) -> Result<Self, NoSuchStep> {
        const FIXED: [Step; 14] = [
            Step::Recheck,
            Step::Fence,
            Step::ConsistencyPoint,
            Step::Quiesce,
            Step::Restore,
            Step::Bound,
            Step::PromoteRecheck,
            Step::Promote,
            Step::UndoPoint,
            Step::Deploy,
            Step::Verify,
            Step::RouteCheck,
            Step::MirrorBack,
            Step::Report,
        ];
        if let Some(step) = FIXED.into_iter().find(|step| step.to_string() == text) {
            return Ok(step);
        }
        let number = text.strip_prefix("route-").and_then(|n| n.parse().ok());
        number.map(Step::Route).ok_or_else(|| NoSuchStep(text.to_owned()))
    }
}

impl Serialize for Step {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Step {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The steps of a failover for this pair, in an order in which each comes after all that it needs.
#[must_use]
pub fn failover_steps(plan: &PlanPolicy) -> Vec<Step> {
    let mut steps = vec![Step::Recheck, Step::Fence];
    if plan.mirrored || plan.aged {
        steps.push(Step::ConsistencyPoint);
    }
    if plan.mirrored {
        steps.push(Step::Quiesce);
    }
    if plan.kubernetes {
        steps.extend([Step::Restore, Step::Bound]);
    }
    steps.extend([Step::PromoteRecheck, Step::Promote]);
    if plan.mirrored && plan.undo_point {
        steps.push(Step::UndoPoint);
    }
    if plan.mirrored {
        steps.push(Step::MirrorBack);
    }
    if plan.kubernetes {
        steps.push(Step::Deploy);
    }
    steps.push(Step::Verify);
    for n in 0..plan.routes.len() {
        steps.push(Step::Route(u8::try_from(n).unwrap_or(u8::MAX)));
    }
    if plan.route_check {
        steps.push(Step::RouteCheck);
    }
    steps.push(Step::Report);
    steps
}

/// What must be done before `step` may start. Steps that the plan of the pair lacks are not waited for.
///
/// This is the order of S9: nothing is promoted before the fence, the quiesce and the second recheck; nothing that
/// mounts a volume starts before every promote is confirmed and every PVC Bound; the route comes last.
#[must_use]
pub fn needs(step: Step) -> Vec<Step> {
    match step {
        Step::Recheck => vec![],
        Step::Fence | Step::Restore => vec![Step::Recheck],
        Step::ConsistencyPoint => vec![Step::Fence],
        Step::Quiesce => vec![Step::ConsistencyPoint],
        Step::Bound => vec![Step::Restore],
        Step::PromoteRecheck => vec![Step::Fence, Step::ConsistencyPoint, Step::Quiesce, Step::Bound],
        Step::Promote => vec![Step::PromoteRecheck],
        Step::UndoPoint => vec![Step::Promote],
        Step::MirrorBack => vec![Step::Promote, Step::UndoPoint],
        Step::Deploy => vec![Step::Promote, Step::UndoPoint, Step::Bound],
        Step::Verify => vec![Step::Promote, Step::Deploy],
        Step::Route(0) => vec![Step::Verify],
        Step::Route(n) => vec![Step::Verify, Step::Route(n - 1)],
        // A route check needs the last target; `ready` below asks for all of them.
        Step::RouteCheck => vec![Step::Verify],
        Step::Report => vec![Step::Verify, Step::RouteCheck, Step::MirrorBack],
    }
}

/// On whose word a run was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Authority {
    /// By the policy, with a third-site witness that says Down.
    Automatic {
        /// The witness' name.
        witness: String,
    },
    /// By a human's answer to a request.
    Approved {
        /// The request that was spent.
        request: RequestId,
        /// Who answered.
        by: String,
    },
    /// By a human's order that skips the verdict, but neither fence, nor RPO gate, nor order (S6–S9).
    Forced {
        /// Who ordered it.
        by: String,
        /// Why.
        reason: String,
    },
}

impl Authority {
    /// Whether the verdict does not bind this run.
    #[must_use]
    pub fn is_forced(&self) -> bool {
        matches!(self, Authority::Forced { .. })
    }
}

/// A human's word that an unconfirmed fence is accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consent {
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// How the fence ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FenceOutcome {
    /// Nothing of A can write any more, and A itself said so.
    Confirmed {
        /// What was read.
        how: String,
        /// When, in milliseconds since the Unix epoch.
        at_wall_ms: i64,
    },
    /// A did not answer.
    Unconfirmed {
        /// What was tried.
        why: String,
    },
}

/// Why a forced promote may follow the fence (S6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FenceProof {
    /// A itself showed that nothing of it can write.
    Confirmed,
    /// A did not answer, and a witness outside the standby says that it is down.
    Witnessed {
        /// Its name.
        witness: String,
    },
    /// A human accepted it by name.
    Accepted(Consent),
}

/// Why a failed try failed, as far as the next move depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// Nothing happened; trying again is safe.
    Transient,
    /// We do not know whether it happened: the next try begins by reading the world.
    Unknown,
    /// Trying again will not help; a human must look.
    Permanent,
    /// Of a promote: no try of this run has ever begun one, and its recheck is too old by now. The recheck comes first.
    NotBegun,
}

/// What a step found out, as far as others need it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// Nothing that others need.
    #[default]
    Nothing,
    /// Of [`Step::Fence`].
    Fence(FenceOutcome),
    /// Of [`Step::ConsistencyPoint`].
    Mirror(crate::mirror::MirrorFacts),
    /// Of [`Step::Verify`]: the path of the nonce artifact that proves which site answers.
    Nonce(String),
    /// Of a recheck: the readings it rests on, one a probe of the quorum.
    Rechecked(Vec<Look>),
}

/// A reading that a recheck rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// The probe.
    pub probe: String,
    /// What it said.
    pub reading: Reading,
    /// When the look began, in milliseconds of `Now::boot_ms`; none = never.
    pub started_ms: Option<u64>,
}

/// How a try of a step ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepResult {
    /// Read back from the world.
    Done {
        /// For the report.
        detail: String,
        /// For other steps.
        finding: Finding,
    },
    /// It did not come about.
    Failed {
        /// What may be done about it.
        failure: Failure,
        /// For the human.
        message: String,
    },
}

/// Where a step stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum StepStatus {
    /// Not begun.
    Pending,
    /// Under way.
    Running {
        /// Which try, from 1.
        attempt: u32,
        /// Since when.
        since: Now,
    },
    /// Failed, to be tried again.
    Waiting {
        /// Which try comes next.
        attempt: u32,
        /// When, in milliseconds of `Now::boot_ms`.
        until_ms: u64,
        /// Why the last one failed.
        message: String,
    },
    /// Confirmed by a reading.
    Done {
        /// When.
        at: Now,
        /// For the report.
        detail: String,
    },
    /// Needs a human: `retry`, `skip` or `abandon`.
    Stuck {
        /// Since when.
        since: Now,
        /// Which try it was.
        attempt: u32,
        /// Why.
        message: String,
    },
    /// Left out by a human.
    Skipped {
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
}

impl StepStatus {
    /// Whether successors may start.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self, StepStatus::Done { .. } | StepStatus::Skipped { .. })
    }
}

/// A step of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepEntry {
    /// Which one.
    pub step: Step,
    /// When its first try began.
    pub began: Option<Now>,
    /// Where it stands.
    pub status: StepStatus,
}

/// Where a run stands as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "phase")]
pub enum Phase {
    /// Going on.
    Forward,
    /// Stopped before the promote; the mirror is brought back before the run ends.
    BringingBack {
        /// Why it stopped.
        why: String,
    },
    /// Over.
    Ended {
        /// When.
        at: Now,
        /// How.
        ending: Ending,
    },
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "ending")]
pub enum Ending {
    /// B is active.
    Succeeded,
    /// Stopped before the promote; A is still the active place.
    Stopped {
        /// Why.
        why: String,
    },
    /// Given up by a human after the promote: the pair stays `Moving`.
    Abandoned {
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
}

/// A durable run of the failover plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Its name.
    pub id: RunId,
    /// The epoch that each of its writes carries.
    pub epoch: u64,
    /// On whose word.
    pub authority: Authority,
    /// What was seen when it was started.
    pub evidence: Evidence,
    /// When.
    pub started: Now,
    /// A sign of life of A later than this (in milliseconds of `Now::boot_ms`) stops the run before the promote: when the
    /// hold-down began.
    pub life_since_ms: u64,
    /// The loss bound that was accepted at the start.
    pub accepted: LossBound,
    /// What a block snapshot of a running Nexus lacks, in milliseconds, as the policy said at the start.
    pub writeback_ms: u64,
    /// The last instant at which A may have acknowledged a write, as it was known at the decision, in milliseconds since the
    /// Unix epoch: known only with a third-site witness that says Down. A sign of life after that stops the run.
    #[serde(default)]
    pub served_until_wall_ms: Option<i64>,
    /// A was out of sight since it was looked at for this run: the agent was away or in doubt, or a witness was not heard.
    #[serde(default)]
    pub out_of_sight: bool,
    /// Its steps.
    pub steps: Vec<StepEntry>,
    /// Where it stands.
    pub phase: Phase,
    /// How the fence ended.
    pub fence: Option<FenceOutcome>,
    /// A human's word about an unconfirmed fence.
    pub unfenced: Option<Consent>,
    /// What a promote would leave, read before the quiesce.
    pub points: Vec<ImagePoint>,
    /// The loss bound at the consistency point.
    pub bound: Option<LossBound>,
    /// Path of the nonce artifact that `verify` uploaded.
    pub nonce: Option<String>,
    /// What steps asked to be remembered, by `STEP/KEY`.
    pub notes: BTreeMap<String, String>,
    /// When the recheck under way began, in milliseconds of `Now::boot_ms`.
    pub recheck_since_ms: Option<u64>,
}

impl Run {
    /// The entry of `step`, if the plan has it.
    #[must_use]
    pub fn entry(&self, step: Step) -> Option<&StepEntry> {
        self.steps.iter().find(|entry| entry.step == step)
    }

    pub(crate) fn entry_mut(&mut self, step: Step) -> Option<&mut StepEntry> {
        self.steps.iter_mut().find(|entry| entry.step == step)
    }

    /// Whether `step` is done or skipped; a step that the plan lacks counts as over.
    #[must_use]
    pub fn is_over(&self, step: Step) -> bool {
        self.entry(step).is_none_or(|entry| entry.status.is_over())
    }

    /// Whether `step` was begun at all.
    #[must_use]
    pub fn was_begun(&self, step: Step) -> bool {
        self.entry(step).is_some_and(|entry| entry.began.is_some())
    }

    /// Whether all that `step` needs is over.
    #[must_use]
    pub fn is_ready(&self, step: Step) -> bool {
        let routes_done = || {
            let mut targets = self.steps.iter().filter(|e| matches!(e.step, Step::Route(_)));
            targets.all(|e| e.status.is_over())
        };
        let last = matches!(step, Step::RouteCheck | Step::Report);
        needs(step).into_iter().all(|need| self.is_over(need)) && (!last || routes_done())
    }

    /// Whether the run has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended { .. })
    }

    /// Makes times of an earlier boot or process harmless: waits are over, limits count from now, rechecks begin anew.
    pub(crate) fn rebase(&mut self, now: Now) {
        for entry in &mut self.steps {
            match &mut entry.status {
                StepStatus::Running { attempt, .. } if entry.step.is_recheck() => {
                    let attempt = *attempt + 1;
                    entry.status = StepStatus::Waiting { attempt, until_ms: now.boot_ms, message: "restarted".into() };
                }
                StepStatus::Waiting { until_ms, .. } => *until_ms = now.boot_ms,
                StepStatus::Running { since, .. } => *since = now,
                StepStatus::Pending
                | StepStatus::Done { .. }
                | StepStatus::Stuck { .. }
                | StepStatus::Skipped { .. } => {}
            }
        }
        if self.started.boot_id != now.boot_id {
            self.life_since_ms = 0;
        }
    }

    /// The steps that are under way.
    pub fn running(&self) -> impl Iterator<Item = (Step, u32, Now)> + '_ {
        self.steps.iter().filter_map(|entry| match entry.status {
            StepStatus::Running { attempt, since } => Some((entry.step, attempt, since)),
            _ => None,
        })
    }

    /// The steps that need a human.
    pub fn stuck(&self) -> impl Iterator<Item = Step> + '_ {
        self.steps.iter().filter(|e| matches!(e.status, StepStatus::Stuck { .. })).map(|e| e.step)
    }

    /// The idempotency key of `step`: the same over every try and every restart.
    #[must_use]
    pub fn key(&self, step: Step) -> String {
        format!("{}/{step}", self.id)
    }
}

/// What a step is told when it is run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepOrder {
    /// The run.
    pub run: RunId,
    /// The step.
    pub step: Step,
    /// Which try, from 1.
    pub attempt: u32,
    /// The epoch that each write carries.
    pub epoch: u64,
    /// The same over every try and every restart.
    pub key: String,
    /// An earlier try may have had its effect: read the world before anything is sent.
    pub resumed: bool,
    /// The pair's images.
    pub images: Vec<ImageName>,
    /// What the consistency point said.
    pub points: Vec<ImagePoint>,
    /// Path of the nonce artifact, once `verify` uploaded it.
    pub nonce: Option<String>,
    /// What earlier tries and steps asked to be remembered, by `STEP/KEY`.
    pub notes: BTreeMap<String, String>,
    /// The loss bound that was named, for the report and the age of the surviving canary.
    pub bound: Option<LossBound>,
    /// Of a promote: nothing is started after that, in milliseconds of `Now::boot_ms`; what runs is waited for.
    pub start_before_ms: Option<u64>,
}
