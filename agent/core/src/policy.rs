//! The settings that decisions depend on. `config` makes them from the file; nothing here is read by the core from elsewhere.
//! They hold no secret and no address, so that they can be journaled: a journal is judged by the rules it was written under.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::names::{ImageName, PairName};
use crate::reading::{Domain, Site};

/// What the daemon guards and how it judges.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Digest of the configuration, part of all evidence.
    pub config_digest: String,
    /// Things that must work if we are fit to judge.
    pub self_checks: Vec<SelfCheck>,
    /// A gap between two events longer than this is a stall of ours. [`Event::Tick`](crate::Event::Tick) comes far more often.
    pub stall: Duration,
    /// Wall and monotonic clock may drift apart by this much between two events.
    pub clock_jump: Duration,
    /// How long one bad self-check, stall or clock jump keeps us Blind after it ended.
    pub doubt: Duration,
    /// Blind for longer than this is paged (L3).
    pub blind_page: Duration,
    /// Automatic decisions over all pairs: at most this many ...
    pub automatic_max: u32,
    /// ... within this time (S11).
    pub automatic_window: Duration,
    /// The protected pairs.
    pub pairs: Vec<PairPolicy>,
}

/// One self-check. Checks with the same group stand in for each other; a check without one must itself be Up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelfCheck {
    /// Its name in the file.
    pub name: String,
    /// The group it belongs to.
    pub group: Option<String>,
    /// Start-to-start time of its grid.
    pub period: Duration,
    /// Total time-out of one look.
    pub timeout: Duration,
}

/// What the daemon may do by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Never writes.
    Observe,
    /// Asks a human.
    Confirm,
    /// Acts by itself, where a third-site witness agrees.
    Auto,
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Mode::Observe => "observe",
            Mode::Confirm => "confirm",
            Mode::Auto => "auto",
        })
    }
}

/// How one pair is judged and moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairPolicy {
    /// Its name.
    pub name: PairName,
    /// What may be done without a human.
    pub mode: Mode,
    /// Every probe of the pair, at both sites.
    pub probes: Vec<ProbePolicy>,
    /// Other observers.
    pub witnesses: Vec<WitnessPolicy>,
    /// How many domains must be Down ...
    pub at_least: u8,
    /// ... of these.
    pub of: Vec<Domain>,
    /// Continuous witnessed time between the first Down quorum and `SiteDown`.
    pub hold_down: Duration,
    /// A sign of life younger than this blocks `SiteDown`.
    pub veto_within: Duration,
    /// Damping of a flapping target.
    pub flap: Flap,
    /// The greatest loss bound that may be accepted without an override.
    pub rpo_max: Duration,
    /// What a block snapshot of a running Nexus lacks of the data acknowledged before it.
    pub writeback_window: Duration,
    /// Several images: their consistency points may lie this far apart.
    pub skew_max: Duration,
    /// How long a request for approval stands.
    pub approval_ttl: Duration,
    /// After a failover no automatic one for this long, and then only after a human's `unblock`.
    pub recovery_block: Duration,
    /// The volumes.
    pub images: Vec<ImageName>,
    /// What the failover plan of this pair consists of.
    pub plan: PlanPolicy,
}

/// A probe as the core sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbePolicy {
    /// Its name in the file.
    pub name: String,
    /// Which place it looks at.
    pub site: Site,
    /// What it can speak about.
    pub domain: Domain,
    /// Whether it is able to say Down. `rbd_mirror` never is.
    pub votes: bool,
    /// Start-to-start time of its grid.
    pub period: Duration,
    /// Total time-out of one look.
    pub timeout: Duration,
    /// Consecutive Down readings that make the signal Down.
    pub fall: u32,
    /// Consecutive Up readings that make the signal Up.
    pub rise: u32,
}

impl ProbePolicy {
    /// A signal whose last reading is older than this is stale.
    #[must_use]
    pub fn fresh_for(&self) -> Duration {
        2 * self.period + self.timeout
    }
}

/// Another observer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WitnessPolicy {
    /// Its name in the file.
    pub name: String,
    /// Where it stands.
    pub kind: WitnessKind,
    /// Start-to-start time of its grid.
    pub period: Duration,
    /// Total time-out of one look.
    pub timeout: Duration,
}

/// What a witness may do (S2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WitnessKind {
    /// Stands at A: can only veto.
    PrimarySite,
    /// Stands elsewhere: can veto, and its Down lets `auto` act.
    ThirdSite,
}

/// When a target counts as flapping.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flap {
    /// This many changes of a signal ...
    pub changes: u32,
    /// ... within this time are flapping, which ends ...
    pub window: Duration,
    /// ... when the signal has kept its state for this long.
    pub quiet: Duration,
}

/// What the plan of a pair consists of, and its limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanPolicy {
    /// Whether the storage driver has images, a mirror to quiesce and a consistency point to read (`rbd`), or is a pair of hooks.
    pub mirrored: bool,
    /// Whether storage by hooks tells how old its copy is: then there is a consistency point, though nothing to quiesce.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub aged: bool,
    /// Whether there are Kubernetes objects to restore and deploy; without, those steps are left out.
    pub kubernetes: bool,
    /// Whether an undo point is taken on the promoted images.
    pub undo_point: bool,
    /// Names of the route targets, in order.
    pub routes: Vec<String>,
    /// Whether the switch is proven from outside.
    pub route_check: bool,
    /// Tries of one step before it is Stuck.
    pub attempts: u32,
    /// Time before the second try; doubled for each further one.
    pub retry_after: Duration,
    /// A step that runs longer than this is Stuck and paged. `promote` has its own limit.
    pub step_overdue: Duration,
    /// A step that waits for Nexus to start may take this long.
    pub ready_within: Duration,
    /// A promote that runs longer than this is Stuck and paged; it is never killed.
    pub promote_overdue: Duration,
    /// A route may only be switched while `verify` is younger than this.
    pub verify_valid: Duration,
    /// The longest time one outside call may take, plus a margin: no write is sent with less left of the lease.
    pub lease_margin: Duration,
}
