//! What one look at a site can say.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a probe can speak about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Domain {
    /// The Nexus itself.
    Service,
    /// The Kubernetes API server.
    ControlPlane,
    /// Ceph.
    Storage,
}

impl Domain {
    /// Every domain, in the order of the quorum's table.
    pub const ALL: [Domain; 3] = [Domain::Service, Domain::ControlPlane, Domain::Storage];
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Domain::Service => "service",
            Domain::ControlPlane => "control_plane",
            Domain::Storage => "storage",
        })
    }
}

/// The place that is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Site {
    /// The primary.
    A,
    /// The standby, where we are.
    B,
}

/// The result of one look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state", content = "reason")]
pub enum Reading {
    /// It answered as only a living one does.
    Up,
    /// A mapped cause says that it does not work.
    Down(Reason),
    /// We could not tell.
    Unknown(Reason),
}

impl Reading {
    /// Whether this is [`Reading::Up`].
    #[must_use]
    pub fn is_up(self) -> bool {
        matches!(self, Reading::Up)
    }

    /// Whether this is [`Reading::Down`].
    #[must_use]
    pub fn is_down(self) -> bool {
        matches!(self, Reading::Down(_))
    }
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reading::Up => f.write_str("Up"),
            Reading::Down(reason) => write!(f, "Down({reason})"),
            Reading::Unknown(reason) => write!(f, "Unknown({reason})"),
        }
    }
}

/// Why a reading is not Up. A closed set: a cause that is not here is [`Reason::Unmapped`], and that is never Down (S4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    // Causes of Down.
    /// The connection was refused.
    Refused,
    /// The connection was reset or closed before an answer.
    Reset,
    /// No answer within the probe's time-out.
    TimedOut,
    /// An answer of the 5xx kind that only the service itself gives.
    ServerError,
    /// Something answers, but it is not ours.
    WrongIdentity,
    /// It answers and says that it can not be written to.
    NotWritable,
    /// One of the named system checks is unhealthy.
    CheckFailed,
    /// The canary could not be written.
    CanaryRefused,
    /// The canary came back with other bytes, or none.
    CanaryDamaged,
    /// The storage cluster did not serve a bounded read.
    StorageSilent,
    /// A program of the user's says down.
    ProgramSaysDown,
    /// A name has no address, or not the expected one.
    WrongAnswer,

    // Causes of Unknown.
    /// Nothing was read yet.
    NotYet,
    /// The last reading is too old.
    Stale,
    /// The round began or ended later than its place in the grid allows: our own stall.
    Late,
    /// 401: our credentials are not accepted.
    Unauthorized,
    /// 403, or exit 13: we have no right to look.
    Forbidden,
    /// The TLS handshake failed.
    Tls,
    /// A name could not be resolved here.
    LocalDns,
    /// No route or no network on our side.
    Unreachable,
    /// The answer could not be understood.
    Unparsable,
    /// The answer was larger than allowed.
    TooLarge,
    /// No new mirror snapshot of the primary since the last look.
    NoAdvance,
    /// The program to look with is missing or too old.
    ToolMissing,
    /// A fault on our own side: no file descriptor, no process, no memory.
    LocalFault,
    /// The witness' signature or nonce is wrong.
    BadSignature,
    /// The witness doubts itself.
    WitnessBlind,
    /// The target says that it is starting.
    Starting,
    /// Anything else.
    Unmapped,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Refused => "refused",
            Reason::Reset => "reset",
            Reason::TimedOut => "timed out",
            Reason::ServerError => "server error",
            Reason::WrongIdentity => "wrong identity",
            Reason::NotWritable => "not writable",
            Reason::CheckFailed => "system check failed",
            Reason::CanaryRefused => "canary refused",
            Reason::CanaryDamaged => "canary damaged",
            Reason::StorageSilent => "storage silent",
            Reason::ProgramSaysDown => "program says down",
            Reason::WrongAnswer => "wrong answer",
            Reason::NotYet => "not read yet",
            Reason::Stale => "stale",
            Reason::Late => "late",
            Reason::Unauthorized => "unauthorized",
            Reason::Forbidden => "forbidden",
            Reason::Tls => "tls",
            Reason::LocalDns => "local dns",
            Reason::Unreachable => "no route from here",
            Reason::Unparsable => "unparsable",
            Reason::TooLarge => "too large",
            Reason::NoAdvance => "no advance",
            Reason::ToolMissing => "tool missing",
            Reason::LocalFault => "local fault",
            Reason::BadSignature => "bad signature",
            Reason::WitnessBlind => "witness blind",
            Reason::Starting => "starting",
            Reason::Unmapped => "unmapped",
        })
    }
}

/// A reading with what is only shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// What the look said.
    pub reading: Reading,
    /// When the look began, in milliseconds of [`Now::boot_ms`](crate::Now::boot_ms).
    pub started_ms: u64,
    /// How long it took, in milliseconds.
    pub latency_ms: u32,
    /// A short text for the human, without secrets; at most 200 characters.
    pub detail: Option<Box<str>>,
}

/// A reading that was never made.
pub(crate) const NOT_YET: Reading = Reading::Unknown(Reason::NotYet);
