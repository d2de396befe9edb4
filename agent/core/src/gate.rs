//! Gates: what must be open before a plan may start, and again before the promote.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Something that must be open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// The verdict is `SiteDown`, or a human forced.
    Verdict,
    /// The mode lets anything be written at all.
    Mode,
    /// No pause is in force.
    Pause,
    /// No recovery block is in force (automatic failover only).
    Block,
    /// A third-site witness says Down (automatic failover only).
    Witness,
    /// Not too many pairs at once (automatic failover only).
    BlastRadius,
    /// The loss bound is within the limit, or was accepted by name.
    Rpo,
    /// B is fit to take over.
    Readiness,
    /// The lease at B is ours and long enough.
    Lease,
    /// No other run is open and A is the active place.
    Role,
    /// A human said yes, or the policy does.
    Approval,
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Gate::Verdict => "verdict",
            Gate::Mode => "mode",
            Gate::Pause => "pause",
            Gate::Block => "recovery block",
            Gate::Witness => "witness",
            Gate::BlastRadius => "blast radius",
            Gate::Rpo => "rpo",
            Gate::Readiness => "readiness",
            Gate::Lease => "lease",
            Gate::Role => "role",
            Gate::Approval => "approval",
        })
    }
}

/// A gate with its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateState {
    /// Which.
    pub gate: Gate,
    /// Whether it is open.
    pub open: bool,
    /// Its value, and if closed what would open it.
    pub value: String,
}
