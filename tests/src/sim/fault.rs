//! What can go wrong, by name.

use std::fmt;

use super::Ms;

/// When something begins or ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// At this time.
    At(Ms),
    /// At this boundary of an effect: records on disk, commands carried out, a write that lands, a result that arrives.
    Boundary(u32),
}

/// How long something goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// For so long.
    For(Ms),
    /// Until this boundary, or the end of all faults.
    Boundary(u32),
    /// It stays.
    Ever,
}

/// Something that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// What.
    pub kind: Kind,
    /// When.
    pub begins: When,
    /// Until when.
    pub ends: Until,
    /// How much, where the kind has a measure.
    pub amount: i64,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $words:literal,)*) => {
        /// A kind of fault.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Kind {
            $($(#[$doc])* $kind,)*
        }

        impl Kind {
            /// Every kind.
            pub const ALL: &[Kind] = &[$(Kind::$kind,)*];

            /// What happens, in words.
            #[must_use]
            pub fn words(self) -> &'static str {
                match self {
                    $(Kind::$kind => $words,)*
                }
            }
        }
    };
}

kinds! {
    /// The whole primary site is off.
    SiteDies = "site A is off",
    /// Nothing passes between A and B.
    SiteCut = "the link between A and B is cut",
    /// What B sends does not reach A.
    CutThere = "what B sends does not reach A",
    /// What A answers does not reach B.
    CutBack = "what A answers does not reach B",
    /// Every process at A hangs, and goes on later.
    SiteFreezes = "site A hangs",
    /// Nexus at A alone.
    NexusDies = "Nexus at A is down",
    /// A's API server alone.
    ApiDies = "A's API server is down",
    /// A's Ceph alone.
    CephDies = "A's Ceph is down",
    /// Nexus at A goes up and down.
    Flaps = "Nexus at A goes up and down",
    /// Answers of A come late or too late.
    SlowNetwork = "answers of A come late",
    /// Probes get answers that prove nothing.
    ProbeErrors = "probes of A get 401, 403, broken TLS",
    /// The daemon is killed.
    Crash = "the daemon is killed",
    /// The daemon's machine loses power.
    PowerLoss = "the daemon's machine loses power",
    /// The daemon does not run for a while.
    Freeze = "the daemon hangs",
    /// The daemon's wall clock is set.
    ClockStep = "the daemon's wall clock is set",
    /// A's wall clock is set.
    ClockStepA = "A's wall clock is set",
    /// The journal can not be written.
    DiskFull = "the disk of the journal is full",
    /// The journal can not be flushed.
    DiskError = "the disk of the journal fails to flush",
    /// B's API server is down.
    OwnApiDown = "B's API server is down",
    /// B's own way out is down.
    NeutralDown = "B's own uplink is down",
    /// The witness does not answer.
    WitnessSilent = "the witness does not answer",
    /// The witness can not see A.
    WitnessCut = "the link between A and the witness is cut",
    /// The witness doubts itself.
    WitnessBlind = "the witness doubts itself",
    /// Calls fail, and nothing happened.
    ErrorTransient = "calls at B fail with 503",
    /// Calls fail, and it may have happened.
    ErrorUnknown = "calls at B fail with 500, after the effect or not",
    /// Calls are refused.
    ErrorPermanent = "calls at B are refused",
    /// Effects land, and nobody is told.
    LostAnswers = "answers of writes are lost",
    /// A promote does not end.
    PromoteHangs = "the promote hangs",
    /// A promote takes long.
    PromoteSlow = "the promote takes long",
    /// A promote dies and leaves nothing.
    PromoteDies = "the promote dies",
    /// A promote dies and leaves its mark.
    PromoteHalf = "the promote dies half-way",
    /// Somebody puts the custom resource at A back.
    OperatorRecreates = "somebody puts the custom resource at A back",
    /// Somebody pauses the pair.
    OperatorPauses = "somebody pauses the pair",
    /// Somebody changes the route.
    OperatorMovesRoute = "somebody changes the route",
    /// Somebody starts rbd-mirror at B.
    MirrorRestarts = "somebody starts rbd-mirror at B",
    /// Somebody has an image at B open.
    StrangerOpens = "somebody has the image at B open",
    /// Another daemon is after the lease.
    Rival = "another daemon is after the lease",
    /// Nexus at B dies.
    NexusBDies = "Nexus at B is down",
    /// A resolver keeps the old answer.
    StaleResolver = "a resolver keeps the old answer",
    /// The sync of snapshots hangs in the middle.
    SyncStalls = "the sync of snapshots hangs",
    /// The mirror's status tells no times.
    StatusSilent = "the mirror's status tells no times",
}

impl Kind {
    /// As an index.
    #[must_use]
    pub fn at(self) -> usize {
        self as usize
    }

    /// Whether it is a moment and not a while.
    #[must_use]
    pub fn is_moment(self) -> bool {
        matches!(
            self,
            Kind::Crash
                | Kind::PowerLoss
                | Kind::ClockStep
                | Kind::ClockStepA
                | Kind::OperatorMovesRoute
                | Kind::MirrorRestarts
        )
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            When::At(at) => write!(f, "at {}.{:03} s", at / 1000, at % 1000),
            When::Boundary(n) => write!(f, "at boundary {n}"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.begins)?;
        match self.kind {
            Kind::ClockStep | Kind::ClockStepA => write!(f, ", by {} ms", self.amount)?,
            _ => {}
        }
        match (self.kind.is_moment(), self.ends) {
            (true, _) => Ok(()),
            (false, Until::For(ms)) => write!(f, ", for {}.{:03} s", ms / 1000, ms % 1000),
            (false, Until::Boundary(n)) => write!(f, ", until boundary {n}"),
            (false, Until::Ever) => f.write_str(", for ever"),
        }
    }
}

impl Kind {
    /// Whether it only waits for something to be done.
    #[must_use]
    pub fn is_armed(self) -> bool {
        matches!(self, Kind::PromoteHangs | Kind::PromoteSlow | Kind::PromoteDies | Kind::PromoteHalf)
    }
}
