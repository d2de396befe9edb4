//! A small world: the core, the checker, and what is around them.

use std::time::Duration;

use understudy_checker::{Checker, Seen, Violation};
use understudy_core::{
    Command, Domain, DurablePair, Event, Failure, FenceOutcome, Finding, ImageFacts, MirrorFacts, Now, Observation,
    Order, PairId, Phase, Reading, Reason, Record, Role, Site, State, Step, StepResult, StepStatus, Ticket,
    WitnessReport, resume, step,
};

use super::digest::{START, digest};
use super::moves::{Act, Air, DEATH, Move};
use super::scope::Scope;

const DOWN: Reading = Reading::Down(Reason::Refused);
/// As long as the lease lasts after each renewal.
const LEASE_MS: u64 = 6000;

/// What is around the core, and how much has gone wrong so far.
#[derive(Debug, Clone, PartialEq)]
struct Around {
    dead: bool,
    died: bool,
    heard: bool,
    /// Our own check fails.
    unfit: bool,
    newest: u64,
    /// A copy is under way.
    syncing: bool,
    /// Steps that this daemon has had begun, and whose end it has not heard of: what was under way when the one before it died
    /// tells nobody.
    sent: Vec<(u32, Step)>,
    /// The pair and step that failed first: it may go on failing.
    failing: Option<(u32, Step)>,
    /// Seconds that went by while somebody else was to make the next move.
    waited: u8,
    /// The set of what went wrong.
    faults: u32,
}

/// A world at one moment.
#[derive(Clone)]
pub struct World {
    state: State,
    checker: Checker,
    pub now: Now,
    around: Around,
    /// What was journaled by the last move.
    pub records: Vec<(Now, Record)>,
    /// What was broken by it.
    pub violation: Option<Violation>,
}

impl World {
    /// A healthy world, looked at for a few seconds.
    pub fn new(scope: &Scope) -> Self {
        let around = Around {
            dead: false,
            died: false,
            heard: scope.witnessed,
            unfit: false,
            newest: 9,
            syncing: false,
            sent: vec![],
            failing: None,
            waited: 0,
            faults: 0,
        };
        let state = State::new(&scope.policy, START);
        let mut world =
            Self { state, checker: Checker::default(), now: START, around, records: vec![], violation: None };
        world.start(scope);
        for pair in 0..count(scope) {
            world.event(scope, Event::ClockCompared { pair: PairId(pair), error_ms: 500 });
        }
        (0..5).for_each(|_| world.second(scope, Air::Calm));
        // A second snapshot, so that there is one before the newest.
        world.second(scope, Air::Advance);
        world.judge();
        world
    }

    /// What makes it the same as another.
    pub fn digest(&self) -> u128 {
        digest(self.now, &[&self.state, &self.checker.knowledge(), &self.around])
    }

    /// The invariants that were judged by the last move, and how often.
    pub fn judged(&self) -> &understudy_checker::Counts {
        self.checker.counts()
    }

    pub fn faults(&self) -> u32 {
        self.around.faults.count_ones()
    }

    fn durable(&self, pair: u32) -> &DurablePair {
        self.state.durable(PairId(pair)).expect("the pair is in the policy")
    }

    /// The same world without what the last move journaled.
    pub fn forgetting(self) -> Self {
        Self { records: vec![], ..self }
    }

    /// What may happen next.
    pub fn moves(&self, scope: &Scope) -> Vec<Move> {
        let mut moves = Vec::new();
        for act in self.airs(scope).into_iter().map(Act::Second).chain([Act::Moment, Act::Restart]) {
            moves.push(Move { pair: 0, act, dies_after: None });
        }
        for pair in 0..count(scope) {
            moves.extend(self.acts(pair).into_iter().map(|act| Move { pair, act, dies_after: None }));
        }
        let patient = self.around.waited < scope.patience || !self.others_turn();
        moves.retain(|one| self.may(scope, *one) && (patient || !is_patience(one.act)));
        moves
    }

    /// Whether nothing will happen by itself: each pair waits for a step's end, for a human, or for A to die.
    fn others_turn(&self) -> bool {
        let mut pairs = (0..).map_while(|n| Some((n, self.state.durable(PairId(n))?)));
        pairs.all(|(n, pair)| match pair.open_run() {
            None => !self.around.died || pair.request.is_some() || pair.role == Role::AtB,
            Some(run) => {
                let outside = run.running().any(|(step, ..)| self.around.sent.contains(&(n, step)));
                outside || pair.request.is_some() || pair.pause.is_some() || run.stuck().next().is_some()
            }
        })
    }

    /// Each kind of fault once in a story, and no more of them than the scope has. A step that has failed may go on failing.
    fn may(&self, scope: &Scope, one: Move) -> bool {
        let again = matches!(one.act, Act::Failed(step, _) if self.around.failing == Some((one.pair, step)));
        one.act.fault().is_none_or(|fault| again || self.may_happen(scope, fault))
    }

    fn may_happen(&self, scope: &Scope, fault: u32) -> bool {
        self.around.faults & (1 << fault) == 0 && self.faults() < scope.faults
    }

    /// Whether the daemon may die here.
    pub fn may_die(&self, scope: &Scope) -> bool {
        self.may_happen(scope, DEATH)
    }

    fn airs(&self, scope: &Scope) -> Vec<Air> {
        let mut airs = vec![Air::Calm, Air::Unsure, Air::Doubt, Air::Stall, Air::Jump, Air::LeaseLost, Air::LeaseLed];
        airs.extend([Air::NotReady, Air::Unfit]);
        if self.around.dead {
            airs.extend([Air::Returns, Air::Blip]);
        } else if !self.around.died {
            airs.push(Air::Dies);
        }
        if scope.policy.pairs[0].plan.mirrored {
            airs.push(Air::Syncs);
            airs.extend(self.around.dead.then_some(Air::Advance));
        }
        if self.around.heard {
            airs.extend([Air::WitnessAlive, Air::WitnessSilent]);
        }
        airs
    }

    fn acts(&self, pair: u32) -> Vec<Act> {
        let durable = self.durable(pair);
        let mut acts = vec![Act::Pause, Act::Rest, Act::Force];
        if durable.pause.is_some() {
            acts.push(Act::Resume);
        }
        if durable.request.is_some() {
            acts.extend([Act::Approve { unfenced: true }, Act::Approve { unfenced: false }, Act::Deny]);
        }
        if durable.blocked_until_wall_ms.is_some() {
            acts.push(Act::Unblock);
        }
        let Some(run) = durable.open_run() else {
            acts.extend(self.around.died.then_some(Act::Failover));
            return acts;
        };
        acts.push(Act::Abandon);
        if run.stuck().next().is_some() {
            acts.push(Act::Retry);
        }
        acts.extend(run.stuck().map(Act::Skip));
        for (step, ..) in run.running().filter(|(step, ..)| self.around.sent.contains(&(pair, *step))) {
            acts.push(Act::Done(step));
            acts.extend([Failure::Unknown, Failure::Permanent].map(|failure| Act::Failed(step, failure)));
            if step == Step::Fence {
                acts.push(Act::Fenced);
            }
        }
        acts
    }

    /// The world after `one`.
    pub fn after(&self, scope: &Scope, one: Move) -> Self {
        let mut world = self.clone();
        world.checker = world.checker.knowledge();
        world.records.clear();
        if is_patience(one.act) && self.others_turn() {
            world.around.waited += 1;
        }
        let faults = one.act.fault().into_iter().chain(one.dies_after.map(|_| DEATH));
        world.around.faults |= faults.fold(0, |set, fault| set | 1 << fault);
        if let Act::Failed(step, _) = one.act {
            world.around.failing = Some((one.pair, step));
        }
        world.act(scope, one);
        if let Some(written) = one.dies_after {
            world.die(scope, self, usize::from(written));
        }
        world.judge();
        world.judge_idleness(self, one);
        world
    }

    fn act(&mut self, scope: &Scope, one: Move) {
        let request = self.durable(one.pair).request.as_ref().map(|request| request.id.clone());
        let run = self.durable(one.pair).open_run().map(|run| run.id.clone());
        let reason = || "so".to_owned();
        let order = match (one.act, request, run) {
            (Act::Second(air), ..) => return self.second(scope, air),
            (Act::Moment, ..) => {
                self.now = self.now + Duration::from_secs(1);
                return;
            }
            (Act::Restart, ..) => return self.start(scope),
            (Act::Approve { unfenced }, Some(request), _) => {
                Order::Approve { request, accept_unfenced: unfenced.then(reason), accept_loss_ms: None }
            }
            (Act::Deny, Some(request), _) => Order::Deny { request, reason: reason() },
            (Act::Failover | Act::Force, ..) => {
                let force = one.act == Act::Force;
                Order::Failover { force, reason: reason(), accept_unfenced: None, accept_loss_ms: None }
            }
            (Act::Pause | Act::Rest, ..) => {
                Order::Pause { for_ms: (one.act == Act::Rest).then_some(2000), reason: reason() }
            }
            (Act::Resume, ..) => Order::Resume,
            (Act::Unblock, ..) => Order::Unblock,
            (Act::Abandon, _, Some(run)) => Order::Abandon { run, reason: reason() },
            (Act::Retry, _, Some(run)) => Order::Retry { run, step: None },
            (Act::Skip(step), _, Some(run)) => Order::Skip { run, step, reason: reason() },
            (Act::Done(step), ..) => return self.end(scope, one.pair, step, self.done(step)),
            (Act::Fenced, ..) => {
                let outcome = FenceOutcome::Confirmed { how: "off".into(), at_wall_ms: self.now.wall_ms };
                return self.end(scope, one.pair, Step::Fence, done(Finding::Fence(outcome)));
            }
            (Act::Failed(step, failure), ..) => {
                return self.end(scope, one.pair, step, StepResult::Failed { failure, message: "it failed".into() });
            }
            (Act::Approve { .. } | Act::Deny | Act::Abandon | Act::Retry | Act::Skip(_), ..) => return,
        };
        let (pair, by, ticket) = (PairId(one.pair), "anna".to_owned(), Ticket(1));
        self.event(scope, Event::Ordered { pair, by, order, ticket });
    }

    fn done(&self, step: Step) -> StepResult {
        done(match step {
            Step::Fence => Finding::Fence(FenceOutcome::Unconfirmed { why: "no answer".into() }),
            Step::ConsistencyPoint => Finding::Mirror(self.facts()),
            Step::Verify => Finding::Nonce("nonce".into()),
            _ => Finding::Nothing,
        })
    }

    fn end(&mut self, scope: &Scope, pair: u32, step: Step, result: StepResult) {
        let Some(run) = self.durable(pair).open_run() else { return };
        let Some(StepStatus::Running { attempt, .. }) = run.entry(step).map(|entry| entry.status.clone()) else {
            return;
        };
        let run = run.id.clone();
        self.around.sent.retain(|sent| *sent != (pair, step));
        self.event(scope, Event::StepEnded { pair: PairId(pair), run, step, attempt, result });
    }

    fn second(&mut self, scope: &Scope, air: Air) {
        match air {
            Air::Dies => (self.around.dead, self.around.died) = (true, true),
            Air::Returns => self.around.dead = false,
            Air::Advance => self.around.newest += 1,
            Air::WitnessSilent => self.around.heard = false,
            Air::Syncs => self.around.syncing = true,
            Air::Unfit => self.around.unfit = true,
            _ => {}
        }
        self.now = self.now + Duration::from_secs(if air == Air::Stall { 3 } else { 1 });
        if air == Air::Jump {
            self.now.wall_ms += 10_000;
        }
        self.event(scope, Event::Tick);
        let fit = if self.around.unfit || air == Air::Doubt { DOWN } else { Reading::Up };
        self.event(scope, Event::SelfRead { check: 0, observation: self.observe(fit) });
        for pair in 0..count(scope) {
            self.look(scope, pair, air);
        }
        self.event(scope, Event::Tick);
    }

    fn look(&mut self, scope: &Scope, n: u32, air: Air) {
        let (pair, started_ms) = (PairId(n), self.now.boot_ms);
        let until_ms = (air != Air::LeaseLost).then_some(started_ms + LEASE_MS);
        let epoch = (air == Air::LeaseLed).then(|| self.durable(n).epoch + 1);
        self.event(scope, Event::Lease { pair, until_ms, holder: None, epoch });
        let missing = if air == Air::NotReady { vec!["a Secret".to_owned()] } else { vec![] };
        self.event(scope, Event::Readiness { pair, missing });
        let rules = &scope.policy.pairs[n as usize];
        for (probe, known) in (0..).zip(&rules.probes).filter(|(_, known)| known.votes) {
            let reading = match air {
                Air::Blip if known.name == "disk" => Reading::Up,
                Air::Unsure if known.name == "disk" => Reading::Unknown(Reason::Tls),
                _ if self.around.dead && known.site == Site::A => DOWN,
                _ => Reading::Up,
            };
            self.event(scope, Event::Read { pair, probe, observation: self.observe(reading) });
        }
        let mirror = rules.probes.iter().position(|probe| !probe.votes).and_then(|at| u16::try_from(at).ok());
        if let Some(probe) = mirror {
            self.event(scope, Event::MirrorRead { pair, probe, started_ms, facts: self.facts() });
        }
        let report = self.report(air);
        self.event(scope, Event::WitnessRead { pair, witness: 0, started_ms, report });
    }

    fn report(&self, air: Air) -> WitnessReport {
        let sees = |reading| WitnessReport::Sees {
            domains: vec![(Domain::Service, reading), (Domain::ControlPlane, reading)],
        };
        match self.around {
            _ if air == Air::WitnessAlive => sees(Reading::Up),
            Around { heard: false, .. } => WitnessReport::Absent { why: "silent".into() },
            Around { dead: true, .. } => sees(DOWN),
            Around { .. } => sees(Reading::Up),
        }
    }

    fn facts(&self) -> MirrorFacts {
        // A takes a snapshot each second.
        let source_ms = 1000 * i64::try_from(self.around.newest).unwrap_or(0);
        let image = ImageFacts {
            image: "rbd/data".into(),
            primary: false,
            newest_complete: Some(self.around.newest),
            syncing: self.around.syncing.then_some(self.around.newest + 1),
            progress: None,
            source_time_ms: Some(START.wall_ms + source_ms),
            orphan: false,
            peer_primary: false,
        };
        MirrorFacts { images: vec![image] }
    }

    fn observe(&self, reading: Reading) -> Observation {
        Observation { reading, started_ms: self.now.boot_ms, latency_ms: 0, detail: None }
    }

    /// The daemon starts, from what is on disk.
    fn start(&mut self, scope: &Scope) {
        let snapshot = self.state.snapshot(&scope.policy);
        self.start_from(scope, vec![(self.now, snapshot)]);
    }

    fn start_from(&mut self, scope: &Scope, records: Vec<(Now, Record)>) {
        let state = State::restore(&scope.policy, records, self.now);
        let config_digest = scope.policy.config_digest.clone();
        self.records.push((self.now, Record::Started { version: "small".into(), config_digest }));
        let (state, commands) = resume(&scope.policy, state, self.now);
        self.state = state;
        self.around.sent.clear();
        self.keep(commands);
    }

    /// The daemon dies with the first `written` records of this move on disk, and starts from them.
    fn die(&mut self, scope: &Scope, before: &World, written: usize) {
        self.records.truncate(written);
        let mut records = vec![(before.now, before.state.snapshot(&scope.policy))];
        records.extend(self.records.iter().cloned());
        self.start_from(scope, records);
    }

    fn event(&mut self, scope: &Scope, event: Event) {
        let state = std::mem::replace(&mut self.state, State::new(&scope.policy, self.now));
        let (state, commands) = step(&scope.policy, state, event, self.now);
        self.state = state;
        self.keep(commands);
    }

    fn keep(&mut self, commands: Vec<Command>) {
        for command in commands {
            match command {
                Command::Journal(record) => self.records.push((self.now, record)),
                Command::RunStep { pair, order } if !self.around.sent.contains(&(pair.0, order.step)) => {
                    self.around.sent.push((pair.0, order.step));
                }
                _ => {}
            }
        }
    }

    fn judge(&mut self) {
        for (seq, (at, record)) in (1..).zip(&self.records) {
            let seen = Seen { seq, at: *at, record: record.clone() };
            if let Err(violation) = self.checker.see(&seen) {
                self.violation = Some(violation);
                return;
            }
        }
    }

    /// A run for which time goes by without anything to wait for has been forgotten (L2).
    fn judge_idleness(&mut self, before: &World, one: Move) {
        if one.act != Act::Second(Air::Calm) || !self.records.is_empty() || self.violation.is_some() {
            return;
        }
        let pairs = (0..).map_while(|n| self.state.durable(PairId(n)).zip(before.state.durable(PairId(n))));
        let idle = pairs.clone().find(|(now, then)| waits_for_nothing(now) && waits_for_nothing(then));
        if let Some((pair, _)) = idle {
            let run = pair.open_run().map(|run| run.id.to_string()).unwrap_or_default();
            let what = format!("run {run} is open, waits for nothing, and nothing happens");
            self.violation = Some(Violation { invariant: understudy_checker::Invariant::L2, seq: 0, what });
        }
    }
}

/// Time that goes by, beside the second in which A dies, which every story has, and the one in which nobody looks, which comes
/// once at most: what is decided right after a limit must be met by the most impatient story.
fn is_patience(act: Act) -> bool {
    matches!(act, Act::Second(_)) && act != Act::Second(Air::Dies)
}

fn waits_for_nothing(pair: &DurablePair) -> bool {
    let Some(run) = pair.open_run() else { return false };
    let waits = |status: &StepStatus| {
        matches!(status, StepStatus::Running { .. } | StepStatus::Waiting { .. } | StepStatus::Stuck { .. })
    };
    let ended = matches!(run.phase, Phase::Ended { .. });
    let busy = run.steps.iter().any(|entry| waits(&entry.status));
    !ended && !busy && pair.pause.is_none() && pair.request.is_none()
}

fn done(finding: Finding) -> StepResult {
    StepResult::Done { detail: "done".into(), finding }
}

fn count(scope: &Scope) -> u32 {
    u32::try_from(scope.policy.pairs.len()).unwrap_or(0)
}
