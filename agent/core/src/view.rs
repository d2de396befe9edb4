//! The state as humans and machines read it: `status`, `why`, the API.

use serde::{Deserialize, Serialize};

use crate::decide::Asking;
use crate::gate::GateState;
use crate::machine::State;
use crate::mirror::{ImagePoint, LossBound};
use crate::names::PairId;
use crate::pair::{PairState, Scene};
use crate::plan::Run;
use crate::policy::{Mode, PairPolicy, Policy, WitnessKind};
use crate::reading::{Domain, Reading, Site};
use crate::record::{Pause, Request, Role};
use crate::time::{Now, millis};
use crate::verdict::Verdict;
use crate::watch::{DomainState, MIN_ROUNDS, WitnessState};
use crate::{MirrorFacts, WitnessReport};

/// Everything, at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// When.
    pub now: Now,
    /// Why we doubt ourselves, if we do.
    pub doubt: Option<String>,
    /// Our self-checks.
    pub self_checks: Vec<SignalView>,
    /// The pairs.
    pub pairs: Vec<PairView>,
}

/// A signal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SignalView {
    /// The probe's name.
    pub name: String,
    /// Which place it looks at; none = ourselves.
    pub site: Option<Site>,
    /// What it speaks about; none = ourselves.
    pub domain: Option<Domain>,
    /// Whether it can vote Down.
    pub votes: bool,
    /// Its state after fall/rise.
    pub state: Reading,
    /// For how long, in milliseconds.
    pub for_ms: u64,
    /// The last reading.
    pub last: Reading,
    /// How old it is, in milliseconds; none = never read.
    pub age_ms: Option<u64>,
    /// How long it took, in milliseconds.
    pub latency_ms: u32,
    /// Changes between Up and Down within the flap window.
    pub changes: usize,
    /// What it had to say.
    pub detail: Option<String>,
}

/// A witness.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WitnessView {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub kind: WitnessKind,
    /// What it said last.
    pub report: WitnessReport,
    /// How long ago, in milliseconds; none = never.
    pub age_ms: Option<u64>,
}

/// A hold-down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldView {
    /// Held so far, in milliseconds.
    pub held_ms: u64,
    /// To be held, in milliseconds.
    pub needed_ms: u64,
    /// Rounds witnessed.
    pub rounds: u32,
    /// Rounds needed.
    pub rounds_needed: u32,
}

/// A pair.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PairView {
    /// Its name.
    pub name: String,
    /// What may be done without a human.
    pub mode: Mode,
    /// Which place is active.
    pub role: Role,
    /// Its epoch.
    pub epoch: u64,
    /// What we believe of the active site.
    pub verdict: Verdict,
    /// For how long, in milliseconds.
    pub verdict_for_ms: u64,
    /// State of each domain of the active site.
    pub domains: Vec<(Domain, DomainState)>,
    /// The probes.
    pub signals: Vec<SignalView>,
    /// The witnesses.
    pub witnesses: Vec<WitnessView>,
    /// The hold-down, if one runs or is complete.
    pub hold: Option<HoldView>,
    /// What of A was last seen alive, and how long ago, in milliseconds.
    pub life: Option<(String, u64)>,
    /// What a promote would leave.
    pub points: Vec<ImagePoint>,
    /// The mirrored images as last seen.
    pub mirror: Option<MirrorFacts>,
    /// The loss bound now.
    pub bound: LossBound,
    /// How far A's clock and ours may differ, in milliseconds; none = never measured.
    pub clock_error_ms: Option<u64>,
    /// Every gate between now and a failover that a human approves.
    pub gates: Vec<GateState>,
    /// Every gate between now and an automatic failover.
    pub automatic: Vec<GateState>,
    /// The shortest way from here to a trigger.
    pub would_flip: Vec<String>,
    /// The open question.
    pub request: Option<Request>,
    /// The run under way, or the last one.
    pub run: Option<Run>,
    /// A pause in force.
    pub pause: Option<Pause>,
    /// A recovery block in force, until when it would be over, in milliseconds since the Unix epoch.
    pub blocked_until_wall_ms: Option<i64>,
}

impl State {
    /// The state as it is read from outside.
    #[must_use]
    pub fn view(&self, policy: &Policy, now: Now) -> View {
        let own = policy.self_checks.iter().zip(&self.fitness.signals);
        let self_checks = own.map(|(check, signal)| SignalView::of(&check.name, None, signal, 0, now));
        let pairs = policy.pairs.iter().zip(&self.pairs).enumerate();
        View {
            now,
            doubt: self.fitness.doubt().map(|_| self.fitness.why(policy)),
            self_checks: self_checks.collect(),
            pairs: pairs.map(|(n, (rules, pair))| self.pair_view(n, rules, pair, policy, now)).collect(),
        }
    }

    fn pair_view(&self, n: usize, rules: &PairPolicy, pair: &PairState, policy: &Policy, now: Now) -> PairView {
        let mut nothing = Vec::new();
        let scene = Scene {
            id: PairId(u32::try_from(n).unwrap_or(u32::MAX)),
            rules,
            policy,
            fitness: &self.fitness,
            automatic_wall_ms: &self.automatic_wall_ms,
            now,
            out: &mut nothing,
        };
        let seen = pair.signs.assess(rules, pair.active_site(), now);
        let signals = rules.probes.iter().zip(&pair.signs.signals);
        let witnesses = rules.witnesses.iter().zip(&pair.signs.witnesses);
        PairView {
            name: rules.name.to_string(),
            mode: rules.mode,
            role: pair.durable.role.clone(),
            epoch: pair.durable.epoch,
            verdict: pair.verdict,
            verdict_for_ms: millis(now.since(pair.verdict_since.boot_ms)),
            domains: Domain::ALL.into_iter().zip(seen.domains).collect(),
            signals: signals
                .map(|(p, s)| {
                    let place = Some((p.site, p.domain, p.votes));
                    SignalView::of(&p.name, place, s, s.changes_within(&rules.flap, now), now)
                })
                .collect(),
            witnesses: witnesses.map(|(w, state)| WitnessView::of(&w.name, w.kind, state, now)).collect(),
            hold: pair.hold.map(|hold| HoldView {
                held_ms: millis(now.since(hold.since.boot_ms)),
                needed_ms: millis(rules.hold_down),
                rounds: hold.rounds,
                rounds_needed: MIN_ROUNDS,
            }),
            life: pair.signs.life_source(rules).map(|(what, at)| (what, millis(now.since(at)))),
            points: pair.points(),
            mirror: pair.signs.mirror.as_ref().map(|(_, facts)| facts.clone()),
            bound: pair.bound(rules, now),
            clock_error_ms: pair.durable.clock_error_ms,
            gates: pair.gates(&scene, Asking::Human { accept_loss_ms: None }),
            automatic: pair.gates(&scene, Asking::Automatic),
            would_flip: pair.would_flip(&scene),
            request: pair.durable.request.clone(),
            run: pair.durable.run.clone(),
            pause: pair.durable.pause.clone(),
            blocked_until_wall_ms: pair.durable.blocked_until_wall_ms,
        }
    }
}

impl PairState {
    /// What would still have to happen before a failover is asked for.
    fn would_flip(&self, scene: &Scene<'_>) -> Vec<String> {
        let (rules, now) = (scene.rules, scene.now());
        let mut flips = Vec::new();
        if let Some(doubt) = scene.doubt() {
            flips.push(format!("we cease to doubt ourselves: {doubt}"));
        }
        let seen = self.signs.assess(rules, Site::A, now);
        if !seen.quorum_down {
            let not_down = self.signs.quorum(rules).filter(|(_, s)| !s.state.is_down());
            let names: Vec<String> = not_down.map(|(p, s)| format!("{} ({})", p.name, s.state)).collect();
            flips.push(format!("at least {} domains go Down; not Down are: {}", rules.at_least, names.join(", ")));
        }
        if seen.flapping {
            flips.push(format!("the flapping ends: every signal keeps its state for {} s", rules.flap.quiet.as_secs()));
        }
        if let Some((what, at)) = self.signs.life_source(rules)
            && now.since(at) < rules.veto_within
        {
            flips.push(format!("no sign of life for {} s; the last was {what}", rules.veto_within.as_secs()));
        }
        if let Some(hold) = self.hold {
            let left = rules.hold_down.saturating_sub(now.since(hold.since.boot_ms));
            if !left.is_zero() || hold.rounds < MIN_ROUNDS {
                flips.push(format!(
                    "{} s more of hold-down, {} of {MIN_ROUNDS} rounds witnessed",
                    left.as_secs(),
                    hold.rounds.min(MIN_ROUNDS)
                ));
            }
        } else {
            flips.push(format!("{} s of hold-down, witnessed without a break", rules.hold_down.as_secs()));
        }
        flips
    }
}

impl SignalView {
    fn of(
        name: &str,
        place: Option<(Site, Domain, bool)>,
        signal: &crate::signal::Signal,
        changes: usize,
        now: Now,
    ) -> Self {
        Self {
            name: name.to_owned(),
            site: place.map(|(site, ..)| site),
            domain: place.map(|(_, domain, _)| domain),
            votes: place.is_some_and(|(.., votes)| votes),
            state: signal.state,
            for_ms: millis(now.since(signal.since.boot_ms)),
            last: signal.last,
            age_ms: signal.last_started_ms.map(|at| millis(now.since(at))),
            latency_ms: signal.latency_ms,
            changes,
            detail: signal.detail.as_deref().map(str::to_owned),
        }
    }
}

impl WitnessView {
    fn of(name: &str, kind: WitnessKind, state: &WitnessState, now: Now) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            report: state.report.clone(),
            age_ms: state.last_started_ms.map(|at| millis(now.since(at))),
        }
    }
}
