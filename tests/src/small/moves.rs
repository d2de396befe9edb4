//! What may happen next in a small world.

use understudy_core::{Failure, Step};

/// What is read in one second, beside what is so anyway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Air {
    /// Nothing unusual.
    Calm,
    /// The primary site dies: from here on all of it is Down.
    Dies,
    /// It lives again.
    Returns,
    /// One probe of the dead site answers once.
    Blip,
    /// One probe can not tell, once.
    Unsure,
    /// A new mirror snapshot of the primary arrives.
    Advance,
    /// From here on a copy is under way that never comes to its end.
    Syncs,
    /// The witness sees A alive, once.
    WitnessAlive,
    /// The witness is not heard any more.
    WitnessSilent,
    /// A self-check fails, once.
    Doubt,
    /// A self-check fails from here on.
    Unfit,
    /// We stand still for longer than a stall, but not for so long that a reading grows stale.
    Stall,
    /// The wall clock jumps.
    Jump,
    /// The lease can not be renewed, once.
    LeaseLost,
    /// Another held the lease meanwhile: ours again, at a higher epoch.
    LeaseLed,
    /// B is not ready, once.
    NotReady,
}

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// A second goes by, and everything is read.
    Second(Air),
    /// A second goes by and nobody looks.
    Moment,
    /// A human says yes, and that he accepts an unconfirmed fence, or not.
    Approve {
        /// Whether he accepts it.
        unfenced: bool,
    },
    /// A human says no.
    Deny,
    /// A human orders a failover, without being asked.
    Failover,
    /// A human orders a failover by force.
    Force,
    /// A human pauses the pair.
    Pause,
    /// A human pauses the pair for two seconds.
    Rest,
    /// A human ends the pause.
    Resume,
    /// A human gives the run up.
    Abandon,
    /// A human orders another try of what is stuck.
    Retry,
    /// A human leaves out what is stuck.
    Skip(Step),
    /// A human lifts the block.
    Unblock,
    /// A try of a step ends well.
    Done(Step),
    /// The fence is confirmed.
    Fenced,
    /// A try of a step fails.
    Failed(Step, Failure),
    /// The daemon stops and starts again.
    Restart,
}

/// What happens to which pair, and whether the daemon dies in the middle of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    /// The pair's place.
    pub pair: u32,
    /// What happens.
    pub act: Act,
    /// The daemon dies once this many of the records are on disk, and starts again.
    pub dies_after: Option<u8>,
}

impl Act {
    /// Its place in the set of what went wrong; none = it belongs to every story.
    pub fn fault(self) -> Option<u32> {
        Some(match self {
            Act::Second(Air::Calm | Air::Dies) | Act::Approve { .. } | Act::Done(_) | Act::Resume | Act::Retry => {
                return None;
            }
            Act::Second(Air::Returns) => 0,
            Act::Second(Air::Blip) => 1,
            Act::Second(Air::Unsure) => 2,
            Act::Second(Air::Advance) => 3,
            Act::Second(Air::WitnessAlive) => 4,
            Act::Second(Air::WitnessSilent) => 5,
            Act::Second(Air::Doubt) => 6,
            Act::Second(Air::Stall) => 7,
            Act::Second(Air::Jump) => 8,
            Act::Second(Air::LeaseLost) => 9,
            Act::Second(Air::LeaseLed) => 10,
            Act::Second(Air::NotReady) => 11,
            Act::Moment => 12,
            Act::Deny => 13,
            Act::Force => 14,
            Act::Pause => 15,
            Act::Abandon => 16,
            Act::Unblock => 17,
            Act::Fenced => 18,
            Act::Failed(..) => 19,
            Act::Restart => DEATH,
            Act::Second(Air::Syncs) => 21,
            Act::Second(Air::Unfit) => 22,
            Act::Failover => 23,
            Act::Rest => 24,
            Act::Skip(_) => 25,
        })
    }
}

/// The place of the daemon's death in the set of what went wrong.
pub const DEATH: u32 = 20;
