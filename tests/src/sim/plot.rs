//! One seed, one plot: the pair's policy, the world as it is, the humans, and what goes wrong.
//!
//! In: a seed. Out: a [`Plot`]. Each seed draws first which kinds of faults exist at all, then faults of those kinds
//! (swarm testing): rare pairs of kinds meet far more often than if every kind were always possible.

use std::time::Duration;

use understudy_core::{
    Domain, Flap, Mode, PairPolicy, PlanPolicy, Policy, ProbePolicy, SelfCheck, Site, WitnessKind, WitnessPolicy,
};

use super::Ms;
use super::dice::Dice;
use super::fault::{Fault, Kind, Until, When};

/// The latest beginning of a fault.
const FAULTS_WITHIN: Ms = 90_000;
/// The longest fault that ends.
const FAULT_LASTS: Ms = 45_000;
/// From here on nothing goes wrong any more.
pub const FAULTS_END: Ms = 140_000;
/// Boundaries that a run of the plan passes, about.
const BOUNDARIES: u64 = 110;

/// How the fence is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FenceBy {
    /// The custom resource at A goes.
    Workload,
    /// A's images are demoted.
    Demote,
    /// Nothing is configured.
    Nothing,
}

/// What the human at the pager is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Human {
    /// Answers in time, and rightly.
    Prompt,
    /// Answers when it may be too late.
    Late,
    /// Says everything twice.
    Twice,
    /// Names another request, leaves the consents out, then tries again.
    Wrong,
    /// Says no.
    Denies,
    /// Does nothing.
    Never,
    /// Forces what is not asked.
    Forces,
}

/// The world apart from what goes wrong.
#[derive(Debug, Clone)]
pub struct Setting {
    /// What a snapshot of the running Nexus lacks.
    pub writeback_ms: Ms,
    /// Time between two mirror snapshots of A.
    pub snapshot_every: Ms,
    /// How long one takes to be copied.
    pub sync_takes: Ms,
    /// One way to A.
    pub latency: Ms,
    /// How the fence is made.
    pub fence: FenceBy,
    /// How long Nexus takes to start.
    pub nexus_starts: Ms,
    /// How long a promote takes.
    pub promote_takes: Ms,
    /// Time to live of the public name.
    pub ttl: Ms,
    /// How long the lease lasts.
    pub lease: Ms,
    /// A's clock less ours.
    pub a_clock: i64,
    /// Whether the journal is kept as bytes, so that torn lines are seen. Without, a torn line is just gone: it makes a
    /// story three times as fast.
    pub bytes: bool,
    /// Records in a segment of the journal.
    pub segment: usize,
    /// The human at the pager.
    pub human: Human,
    /// Whether the human goes on without a confirmed fence.
    pub accepts_unfenced: bool,
    /// How often stuck steps are tried again before the run is given up.
    pub retries: u32,
    /// How long until the human acts.
    pub acts_after: Ms,
}

/// One story's plot.
#[derive(Debug, Clone)]
pub struct Plot {
    /// Where it came from.
    pub seed: u64,
    /// What the core is told.
    pub policy: Policy,
    /// The world.
    pub setting: Setting,
    /// What goes wrong.
    pub faults: Vec<Fault>,
}

impl Plot {
    /// The plot of a seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut dice = Dice::new(seed, 1);
        let setting = setting(&mut dice);
        let policy = policy(&mut dice, &setting);
        let faults = faults(&mut dice);
        Self { seed, policy, setting, faults }
    }

    /// The same with only some of its faults.
    #[must_use]
    pub fn with(&self, faults: Vec<Fault>) -> Self {
        Self { faults, ..self.clone() }
    }
}

fn setting(dice: &mut Dice) -> Setting {
    use Human::{Denies, Forces, Late, Never, Prompt, Twice, Wrong};
    let humans =
        [Prompt, Prompt, Prompt, Prompt, Prompt, Prompt, Twice, Twice, Late, Late, Wrong, Wrong, Denies, Never, Forces];
    let human = dice.pick(&humans);
    Setting {
        writeback_ms: dice.pick(&[0, 5_000, 20_000, 32_000]),
        snapshot_every: dice.pick(&[5_000, 10_000, 30_000]),
        sync_takes: dice.pick(&[500, 2_000, 8_000]),
        latency: dice.pick(&[1, 5, 40]),
        fence: dice.pick(&[FenceBy::Workload, FenceBy::Workload, FenceBy::Demote, FenceBy::Nothing]),
        nexus_starts: dice.between(1_000, 12_000),
        promote_takes: dice.between(300, 4_000),
        ttl: dice.pick(&[2_000, 10_000]),
        lease: dice.pick(&[15_000, 20_000]),
        a_clock: i64::try_from(dice.below(4_000)).unwrap_or_default() - 2_000,
        bytes: dice.chance(12),
        segment: if dice.chance(25) { usize::try_from(dice.between(8, 60)).unwrap_or(60) } else { usize::MAX },
        human,
        accepts_unfenced: dice.chance(80),
        retries: u32::try_from(dice.below(4)).unwrap_or_default(),
        acts_after: dice.between(1_000, 20_000),
    }
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn probe(name: &str, site: Site, domain: Domain, votes: bool) -> ProbePolicy {
    ProbePolicy { name: name.into(), site, domain, votes, period: secs(2), timeout: secs(1), fall: 2, rise: 2 }
}

fn policy(dice: &mut Dice, setting: &Setting) -> Policy {
    let mode = dice.pick(&[
        Mode::Confirm,
        Mode::Confirm,
        Mode::Confirm,
        Mode::Confirm,
        Mode::Auto,
        Mode::Auto,
        Mode::Auto,
        Mode::Observe,
    ]);
    let witnesses = match dice.below(5) {
        0 | 1 => vec![("third", WitnessKind::ThirdSite)],
        2 => vec![("beside", WitnessKind::PrimarySite)],
        3 => vec![("third", WitnessKind::ThirdSite), ("beside", WitnessKind::PrimarySite)],
        _ => vec![],
    };
    let witness = |(name, kind): (&str, WitnessKind)| WitnessPolicy {
        name: name.into(),
        kind,
        period: secs(2),
        timeout: secs(1),
    };
    let images = if dice.chance(25) { vec!["rbd/data".into(), "rbd/blobs".into()] } else { vec!["rbd/data".into()] };
    let check = |name: &str| SelfCheck { name: name.into(), group: None, period: secs(2), timeout: secs(1) };
    let kubernetes = dice.chance(85);
    Policy {
        config_digest: "digest".into(),
        self_checks: vec![check("own-api"), check("neutral")],
        stall: secs(3),
        clock_jump: secs(2),
        doubt: secs(2),
        blind_page: secs(20),
        automatic_max: 1,
        automatic_window: secs(3600),
        pairs: vec![PairPolicy {
            name: "nexus".into(),
            mode,
            probes: vec![
                probe("web", Site::A, Domain::Service, true),
                probe("api", Site::A, Domain::ControlPlane, true),
                probe("ceph", Site::A, Domain::Storage, true),
                probe("peer", Site::A, Domain::Storage, false),
                probe("standby", Site::B, Domain::Service, true),
            ],
            witnesses: witnesses.into_iter().map(witness).collect(),
            at_least: if dice.chance(75) { 3 } else { 2 },
            of: Domain::ALL.to_vec(),
            hold_down: secs(dice.pick(&[7, 10, 20])),
            veto_within: secs(dice.pick(&[4, 6])),
            flap: Flap { changes: 4, window: secs(60), quiet: secs(10) },
            rpo_max: secs(dice.pick(&[60, 120, 600])),
            writeback_window: secs(35),
            skew_max: secs(60),
            approval_ttl: secs(dice.pick(&[20, 40])),
            recovery_block: secs(3600),
            images,
            plan: PlanPolicy {
                mirrored: true,
                aged: false,
                kubernetes,
                undo_point: dice.chance(70),
                routes: vec!["webhook".into(), "dns".into()],
                route_check: dice.chance(70),
                attempts: 3,
                retry_after: secs(1),
                step_overdue: secs(30),
                ready_within: secs(20),
                promote_overdue: secs(15),
                verify_valid: secs(20),
                lease_margin: secs(if setting.lease > 15_000 { 6 } else { 4 }),
            },
        }],
    }
}

fn faults(dice: &mut Dice) -> Vec<Fault> {
    let mut faults = Vec::new();
    // Most stories begin with an A that is gone or seems so.
    if dice.chance(90) {
        let kind = dice.pick(&[
            Kind::SiteDies,
            Kind::SiteDies,
            Kind::SiteDies,
            Kind::SiteDies,
            Kind::SiteCut,
            Kind::SiteCut,
            Kind::CutThere,
            Kind::CutBack,
            Kind::SiteFreezes,
            Kind::CephDies,
        ]);
        let begins = dice.between(12_000, 25_000);
        let ends = match dice.below(10) {
            0..=5 => Until::Ever,
            6 | 7 => Until::For(dice.between(10_000, 110_000)),
            _ => Until::Boundary(boundary(dice)),
        };
        faults.push(Fault { kind, begins: When::At(begins), ends, amount: 0 });
        // A whole site that is cut off: nobody sees it.
        if kind == Kind::SiteCut && dice.chance(50) {
            faults.push(Fault { kind: Kind::WitnessCut, begins: When::At(begins), ends, amount: 0 });
        }
    }
    let exist: Vec<Kind> = Kind::ALL.iter().copied().filter(|_| dice.chance(18)).collect();
    if exist.is_empty() {
        return faults;
    }
    for _ in 0..dice.below(6) {
        faults.push(fault(dice, &exist));
    }
    faults
}

fn fault(dice: &mut Dice, exist: &[Kind]) -> Fault {
    let kind = dice.pick(exist);
    let begins = match kind {
        // What is armed waits for the promote.
        Kind::PromoteHangs | Kind::PromoteSlow | Kind::PromoteDies | Kind::PromoteHalf => When::At(0),
        _ if dice.chance(55) => When::Boundary(boundary(dice)),
        _ => When::At(dice.between(1_000, FAULTS_WITHIN)),
    };
    let ends = match begins {
        When::At(0) => Until::For(FAULTS_END),
        _ => Until::For(dice.between(1_000, FAULT_LASTS)),
    };
    let amount = match kind {
        Kind::ClockStep | Kind::ClockStepA => {
            let by: i64 = dice.pick(&[500, 3_000, 30_000, 600_000, 3_600_000]);
            if dice.chance(50) { by } else { -by }
        }
        _ => 0,
    };
    Fault { kind, begins, ends, amount }
}

fn boundary(dice: &mut Dice) -> u32 {
    u32::try_from(dice.below(BOUNDARIES)).unwrap_or_default()
}
