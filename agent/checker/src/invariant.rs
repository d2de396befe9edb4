//! The invariants by name, each with its promise in a sentence. `docs/safety.md` says how each is held and tried.

use std::fmt;

/// A promise that the records must show to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// One writer.
    S1,
    /// No action without authority.
    S2,
    /// Self-doubt first.
    S3,
    /// Unknown is not down, and life vetoes death.
    S4,
    /// Hold-down is continuous, witnessed time.
    S5,
    /// Fence before force.
    S6,
    /// Nothing is destroyed by itself.
    S7,
    /// The RPO gate fails closed.
    S8,
    /// Order, and route last.
    S9,
    /// Intent before effect; crash anywhere.
    S10,
    /// Bounded actuation.
    S11,
    /// No return by itself.
    S12,
    /// Complete record.
    X2,
    /// Independence.
    L1,
    /// Progress.
    L2,
    /// Watched watchdog.
    L3,
}

impl Invariant {
    /// Every invariant, in the order of `docs/safety.md`.
    pub const ALL: [Invariant; 16] = [
        Invariant::S1,
        Invariant::S2,
        Invariant::S3,
        Invariant::S4,
        Invariant::S5,
        Invariant::S6,
        Invariant::S7,
        Invariant::S8,
        Invariant::S9,
        Invariant::S10,
        Invariant::S11,
        Invariant::S12,
        Invariant::X2,
        Invariant::L1,
        Invariant::L2,
        Invariant::L3,
    ];

    /// What is promised.
    #[must_use]
    pub fn promise(self) -> &'static str {
        match self {
            Invariant::S1 => "at most one agent writes for a pair, and only inside its lease",
            Invariant::S2 => "nothing is written without authority that holds at that very moment",
            Invariant::S3 => "while the agent can not vouch for itself it does not accuse",
            Invariant::S4 => "only mapped causes count as down, in enough domains, and any sign of life vetoes",
            Invariant::S5 => "the hold-down is continuous time in which every round was witnessed",
            Invariant::S6 => {
                "nothing is promoted by force before the old primary is fenced, witnessed dead, or accepted by name"
            }
            Invariant::S7 => "nothing is destroyed, undone or left out by itself",
            Invariant::S8 => "nothing is promoted that may lose more than the limit, or than a human accepted by name",
            Invariant::S9 => "the steps go in order, and the route moves last, on a young proof that B is right",
            Invariant::S10 => "every effect has an earlier intent, and an interrupted one is resolved, not repeated",
            Invariant::S11 => "automatic failovers and retries are counted and bounded",
            Invariant::S12 => "nothing goes back to the old primary by itself",
            Invariant::X2 => "everything that was decided or done is in the journal, in order",
            Invariant::L1 => "nothing required waits for the dead site",
            Invariant::L2 => "a run ends, or it is stuck and somebody is told, in bounded time",
            Invariant::L3 => "a watchdog that can not watch is itself told of",
        }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The variants bear the names that the documents use.
        fmt::Debug::fmt(self, f)
    }
}
