//! A day of outages in a millisecond: a small world that plays readings, orders and step results into the core.

#![allow(dead_code, reason = "each test file uses its own part of the world")]

use std::time::Duration;

use understudy_checker::{Seen, Violation};
use understudy_core::*;

mod policy;
pub use policy::*;

pub const PAIR: PairId = PairId(0);

/// Which of the three voters is what.
#[derive(Clone, Copy)]
pub struct Sees {
    pub web: Reading,
    pub api: Reading,
    pub ceph: Reading,
}

pub const DOWN: Reading = Reading::Down(Reason::Refused);
pub const UNKNOWN: Reading = Reading::Unknown(Reason::Unmapped);
pub const ALIVE: Sees = Sees { web: Reading::Up, api: Reading::Up, ceph: Reading::Up };
pub const DEAD: Sees = Sees { web: DOWN, api: DOWN, ceph: DOWN };

/// What a witness may be made to say.
#[derive(Clone, Copy, PartialEq)]
pub enum Says {
    Nothing,
    Down,
    Up,
    Blind,
}

fn started(policy: &Policy) -> Record {
    Record::Started { version: "test".into(), config_digest: policy.config_digest.clone() }
}

/// Whatever a test is about: its journal keeps every rule.
impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let violation = self.violation();
            assert!(violation.is_none(), "{violation:?}: {}", self.tail());
        }
    }
}

pub struct World {
    pub policy: Policy,
    pub state: Option<State>,
    pub now: Now,
    pub sees: Sees,
    pub standby: Reading,
    pub fit: Reading,
    pub witness: Says,
    pub lease: bool,
    pub missing: Vec<String>,
    pub journal: Vec<(Now, Record)>,
    pub sent: Vec<Command>,
    pub newest: u64,
    pub syncing: Option<u64>,
    /// Whether A takes a mirror snapshot every 10 s.
    pub advancing: bool,
    tickets: u64,
}

impl World {
    pub fn new(policy: Policy) -> Self {
        let now = Now { boot_ms: 1_000_000, wall_ms: 1_800_000_000_000, boot_id: 7 };
        let state = State::new(&policy, now);
        let started = started(&policy);
        let mut world = Self {
            policy,
            state: None,
            now,
            sees: ALIVE,
            standby: DOWN,
            fit: Reading::Up,
            witness: Says::Nothing,
            lease: true,
            missing: vec![],
            journal: vec![(now, started)],
            sent: vec![],
            newest: 10,
            syncing: None,
            advancing: false,
            tickets: 0,
        };
        world.resume(state);
        world
    }

    /// A world in which everything was Up for a while, and the clocks and snapshots were measured.
    pub fn healthy(policy: Policy) -> Self {
        let mut world = Self::new(policy);
        world.event(Event::ClockCompared { pair: PAIR, error_ms: 500 });
        world.run(10);
        world.sent.clear();
        world
    }

    fn resume(&mut self, state: State) {
        let (state, commands) = resume(&self.policy, state, self.now);
        self.state = Some(state);
        self.keep(commands);
    }

    /// Kills the daemon and starts it again from its journal.
    pub fn restart(&mut self) {
        let state = State::restore(&self.policy, self.journal.clone(), self.now);
        self.journal.push((self.now, started(&self.policy)));
        self.resume(state);
    }

    /// Takes other rules, as the daemon does it.
    pub fn reload(&mut self, policy: Policy) {
        let state = self.state.take().expect("the state is put back after each step");
        let state = state.reload(&self.policy, &policy, self.now);
        self.policy = policy;
        self.resume(state);
    }

    /// What the journal so far breaks.
    pub fn violation(&self) -> Option<Violation> {
        let seen = |(seq, (at, record)): (u64, &(Now, Record))| Seen { seq, at: *at, record: record.clone() };
        understudy_checker::check((1..).zip(&self.journal).map(seen)).err()
    }

    pub fn event(&mut self, event: Event) {
        let state = self.state.take().expect("the state is put back after each step");
        let (state, commands) = step(&self.policy, state, event, self.now);
        self.state = Some(state);
        self.keep(commands);
    }

    fn keep(&mut self, commands: Vec<Command>) {
        for command in commands {
            if let Command::Journal(record) = &command {
                self.journal.push((self.now, record.clone()));
            }
            self.sent.push(command);
        }
    }

    pub fn observe(&self, reading: Reading) -> Observation {
        Observation { reading, started_ms: self.now.boot_ms, latency_ms: 1, detail: None }
    }

    /// One second with all its readings.
    pub fn second(&mut self) {
        for _ in 0..4 {
            self.now = self.now + Duration::from_millis(250);
            self.event(Event::Tick);
        }
        self.read();
    }

    /// Every probe, self-check and witness once, now.
    pub fn read(&mut self) {
        if self.lease {
            self.event(Event::Lease {
                pair: PAIR,
                until_ms: Some(self.now.boot_ms + 30_000),
                holder: None,
                epoch: None,
            });
        }
        self.event(Event::Readiness { pair: PAIR, missing: self.missing.clone() });
        self.event(Event::SelfRead { check: 0, observation: self.observe(self.fit) });
        for (probe, reading) in [(0, self.sees.web), (1, self.sees.api), (2, self.sees.ceph), (4, self.standby)] {
            self.event(Event::Read { pair: PAIR, probe, observation: self.observe(reading) });
        }
        self.read_mirror();
        let report = match self.witness {
            Says::Nothing => WitnessReport::Absent { why: "silent".into() },
            Says::Blind => WitnessReport::Blind,
            Says::Down => WitnessReport::Sees { domains: vec![(Domain::Service, DOWN), (Domain::ControlPlane, DOWN)] },
            Says::Up => WitnessReport::Sees { domains: vec![(Domain::Service, Reading::Up)] },
        };
        self.event(Event::WitnessRead { pair: PAIR, witness: 0, started_ms: self.now.boot_ms, report });
    }

    pub fn read_mirror(&mut self) {
        if self.advancing && self.now.boot_ms.is_multiple_of(10_000) {
            self.newest += 1;
        }
        let facts = MirrorFacts { images: vec![self.image()] };
        self.event(Event::MirrorRead { pair: PAIR, probe: 3, started_ms: self.now.boot_ms, facts });
    }

    pub fn image(&self) -> ImageFacts {
        let alive = self.sees.ceph.is_up();
        ImageFacts {
            image: "rbd/data".into(),
            primary: false,
            newest_complete: Some(self.newest),
            syncing: self.syncing,
            progress: None,
            // The snapshot before the first look is as old as this world.
            source_time_ms: alive.then_some(1_800_000_000_000),
            orphan: false,
            peer_primary: false,
        }
    }

    pub fn run(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.second();
        }
    }

    pub fn order(&mut self, order: Order) -> Result<String, Refusal> {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.event(Event::Ordered { pair: PAIR, by: "anna".into(), order, ticket });
        let answer = self.sent.iter().rev().find_map(|command| match command {
            Command::Answer { ticket: given, answer } if *given == ticket => Some(answer.clone()),
            _ => None,
        });
        answer.expect("every order is answered")
    }

    pub fn approve(&mut self) -> Result<String, Refusal> {
        let request = self.request().expect("a request is open").id;
        self.order(Order::Approve {
            request,
            accept_unfenced: Some("power is off, says Bo".into()),
            accept_loss_ms: None,
        })
    }

    pub fn durable(&self) -> &DurablePair {
        self.state.as_ref().and_then(|s| s.durable(PAIR)).expect("the pair is in the policy")
    }

    pub fn view(&self) -> PairView {
        let mut view = self.state.as_ref().expect("there is a state").view(&self.policy, self.now);
        view.pairs.remove(0)
    }

    pub fn verdict(&self) -> Verdict {
        self.view().verdict
    }

    pub fn request(&self) -> Option<Request> {
        self.durable().request.clone()
    }

    pub fn run_state(&self) -> Run {
        self.durable().run.clone().expect("there is a run")
    }

    pub fn status(&self, step: Step) -> StepStatus {
        self.run_state().entry(step).expect("the plan has the step").status.clone()
    }

    /// The orders to run a step that were sent and not yet answered here.
    pub fn orders(&self) -> Vec<StepOrder> {
        let sent = self.sent.iter().filter_map(|c| match c {
            Command::RunStep { order, .. } => Some((**order).clone()),
            _ => None,
        });
        sent.collect()
    }

    pub fn end(&mut self, step: Step, attempt: u32, result: StepResult) {
        let run = self.run_state().id;
        self.event(Event::StepEnded { pair: PAIR, run, step, attempt, result });
    }

    pub fn done(&mut self, step: Step) {
        let finding = match step {
            Step::Fence => Finding::Fence(FenceOutcome::Unconfirmed { why: "A does not answer".into() }),
            Step::ConsistencyPoint => Finding::Mirror(MirrorFacts { images: vec![self.image()] }),
            Step::Verify => Finding::Nonce("dr-canary/nonce".into()),
            _ => Finding::Nothing,
        };
        let attempt = self.status(step).attempt();
        self.end(step, attempt, StepResult::Done { detail: "done".into(), finding });
    }

    pub fn fail(&mut self, step: Step, failure: Failure) {
        let attempt = self.status(step).attempt();
        self.end(step, attempt, StepResult::Failed { failure, message: "it went wrong".into() });
    }

    /// Answers every step that is under way with success, up to and without `until`; looks at the world in between.
    pub fn play_until(&mut self, until: Option<Step>) {
        for _ in 0..200 {
            let Some(run) = self.durable().open_run() else { return };
            let running: Vec<Step> = run.running().map(|(s, ..)| s).filter(|s| !s.is_recheck()).collect();
            if running.iter().any(|s| Some(*s) == until) {
                return;
            }
            match running.first() {
                Some(step) => self.done(*step),
                None => self.second(),
            }
        }
        panic!("the run does not get on: {:?}", self.run_state().steps);
    }

    /// A dead site, confirmed by a human, with the run at its first effect.
    pub fn failing_over(policy: Policy) -> Self {
        let mut world = Self::healthy(policy);
        world.sees = DEAD;
        world.run(20);
        world.approve().expect("the request is good");
        world.second();
        world
    }

    /// As [`failing_over`](Self::failing_over), and the fence has ended without a confirmation that nobody has done without.
    pub fn unfenced(policy: Policy) -> Self {
        let mut world = Self::healthy(policy);
        world.sees = DEAD;
        world.run(20);
        let request = world.request().expect("it is open").id;
        world.order(Order::Approve { request, accept_unfenced: None, accept_loss_ms: None }).expect("it is good");
        world.second();
        world.done(Step::Fence);
        world
    }

    /// The last records, for a failure.
    fn tail(&self) -> String {
        let last = self.violation().map_or(self.journal.len(), |v| usize::try_from(v.seq).unwrap_or(0));
        let from = last.saturating_sub(12);
        let line = |(at, record): &(Now, Record)| format!("\n{} {record:?}", at.boot_ms);
        self.journal[from..last].iter().map(line).collect()
    }

    pub fn pages(&self) -> Vec<PageKind> {
        let pages = self.sent.iter().filter_map(|c| match c {
            Command::Notify { notice: Notice::Page { kind, .. }, .. } => Some(*kind),
            _ => None,
        });
        pages.collect()
    }

    pub fn records(&self, wanted: impl Fn(&Record) -> bool) -> usize {
        self.journal.iter().filter(|(_, record)| wanted(record)).count()
    }

    /// Intents of steps that write, that is all but the rechecks.
    pub fn writes(&self) -> usize {
        self.records(|r| matches!(r, Record::Intent { step, .. } if !step.is_recheck()))
    }
}

/// How the run ended, if it did.
pub fn ending(world: &World) -> Option<Ending> {
    match world.run_state().phase {
        Phase::Ended { ending, .. } => Some(ending),
        Phase::Forward | Phase::BringingBack { .. } => None,
    }
}

pub fn is_running(world: &World, step: Step) -> bool {
    matches!(world.status(step), StepStatus::Running { .. })
}

pub fn is_stuck(world: &World, step: Step) -> bool {
    matches!(world.status(step), StepStatus::Stuck { .. })
}
