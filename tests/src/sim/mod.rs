//! Stories of failovers in a world of its own time: the real core and its plan, the real journal lines, faults from a seed.
//!
//! In: a [`Plot`], which a seed draws. Out: a [`Story`]: what was violated, what went wrong and made a difference, how it
//! ended. A story is one thread, one heap of things to come, one generator of numbers, no clock: the same seed always
//! tells the same story. The shell around the core is a small copy of the real one, `shell` says of which rules; the
//! steps are small copies of the actions (`steps`); the world holds data, so that lost writes and two writers are seen as
//! such (`world`, `checks`). Every record that outlives the story's crashes goes through the checker of invariants, the
//! same that reads real journals.
//!
//! Start reading at [`play`].

pub mod checks;
pub mod dice;
pub mod fault;
pub mod human;
pub mod journal;
pub mod plot;
pub mod run;
pub mod shell;
pub mod shrink;
pub mod steps;
pub mod tally;
pub mod world;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use serde::{Deserialize, Serialize};
use understudy_core::{Event, Observation, Order, Reading, Reason};

use self::checks::Books;
use self::dice::Dice;
use self::fault::{Fault, Kind, Until, When};
use self::human::{Act, Pager};
use self::journal::Journal;
use self::plot::{FAULTS_END, Plot};
use self::shell::{Daemon, LeaseAtB};
use self::steps::{Input, Promote, Write};
use self::tally::Tally;
use self::world::{FLAP_EVERY, Leads, World};

/// Milliseconds since the story began.
pub type Ms = u64;

/// The wall clock when a story begins.
pub const WALL: i64 = 1_800_000_000_000;
/// No story ends before this: until then A may die.
const AT_LEAST: Ms = 30_000;
/// When nothing goes wrong any more, the world settles within this time, or it is a violation (L2).
pub const SETTLES_WITHIN: Ms = 300_000;
/// It counts as settled when it has been for so long.
const SETTLED_FOR: Ms = 3_000;

/// What was violated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// Which invariant or check.
    pub invariant: String,
    /// When.
    pub at: Ms,
    /// What happened.
    pub what: String,
}

/// What became of a plot.
#[derive(Debug)]
pub struct Story {
    /// The first violation.
    pub violation: Option<Violation>,
    /// What happened, counted.
    pub tally: Tally,
    /// What happened, told; only where it was asked for.
    pub told: Vec<String>,
}

/// Plays a plot to its end. `tell`: whether it is told in words.
#[must_use]
pub fn play(plot: &Plot, tell: bool) -> Story {
    let mut sim = Sim::new(plot, tell);
    sim.run();
    sim.end()
}

/// Something to come.
#[derive(Debug)]
enum What {
    Start,
    Second { life: u32 },
    LookNow { life: u32 },
    Heard { life: u32, event: Box<Event> },
    Go { life: u32, id: u32, input: Input },
    Land { life: u32, id: u32, write: Write, run: String },
    PromoteEnds(usize),
    PutBack,
    Reckon,
    Flip,
    Snapshot,
    Rival,
    Human { act: Box<Act>, tries: u8 },
    Begin(usize),
    End(usize),
}

impl What {
    /// Whether it needs the daemon's process to run, and in which life.
    fn life(&self) -> Option<u32> {
        match self {
            What::Second { life } | What::LookNow { life } | What::Heard { life, .. } | What::Go { life, .. } => {
                Some(*life)
            }
            _ => None,
        }
    }
}

struct ToCome {
    at: Ms,
    order: u64,
    what: What,
}

impl PartialEq for ToCome {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl Eq for ToCome {}

impl PartialOrd for ToCome {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ToCome {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// Where a fault stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stand {
    ToCome,
    On,
    Over,
}

/// A story that is being played.
pub struct Sim<'p> {
    plot: &'p Plot,
    dice: Dice,
    queue: BinaryHeap<Reverse<ToCome>>,
    ordered: u64,
    world: World,
    daemon: Daemon,
    lease: LeaseAtB,
    rival_seen: Option<(u64, Ms)>,
    promotes: Vec<Promote>,
    pager: Pager,
    books: Books,
    tally: Tally,
    stands: Vec<Stand>,
    boundaries: u32,
    tasks: u32,
    events: u64,
    /// When the consistency point was read last.
    point_read: Ms,
    /// When verify passed last.
    verified: Option<Ms>,
    settled_since: Option<Ms>,
    /// When the last fault that could begin or end did.
    quiet_since: Ms,
    told: Option<Vec<String>>,
}

impl<'p> Sim<'p> {
    fn new(plot: &'p Plot, tell: bool) -> Self {
        let setting = &plot.setting;
        Self {
            plot,
            dice: Dice::new(plot.seed, 2),
            queue: BinaryHeap::with_capacity(64),
            ordered: 0,
            world: World::new(&plot.policy.pairs[0].images, setting),
            daemon: Daemon::new(Journal::new(setting.bytes, setting.segment)),
            lease: LeaseAtB { holder: 0, epoch: 0, version: 0, renewed: 0 },
            rival_seen: None,
            promotes: vec![],
            pager: Pager::default(),
            books: Books::new(&plot.policy),
            tally: Tally::new(),
            stands: vec![Stand::ToCome; plot.faults.len()],
            boundaries: 0,
            tasks: 0,
            events: 0,
            point_read: 0,
            verified: None,
            settled_since: None,
            quiet_since: 0,
            told: tell.then(Vec::new),
        }
    }

    fn at(&mut self, at: Ms, what: What) {
        self.ordered += 1;
        self.queue.push(Reverse(ToCome { at, order: self.ordered, what }));
    }

    /// Tells what happens, where somebody listens.
    fn say(&mut self, what: impl FnOnce() -> String) {
        if let Some(told) = &mut self.told {
            let said = what();
            if !said.is_empty() {
                told.push(format!("{:>4}.{:03} {said}", self.world.t / 1000, self.world.t % 1000));
            }
        }
    }

    fn run(&mut self) {
        for n in 0..self.plot.faults.len() {
            if let When::At(at) = self.plot.faults[n].begins {
                self.at(at, What::Begin(n));
            }
        }
        let every = self.plot.setting.snapshot_every;
        self.at(every, What::Snapshot);
        self.start();
        while let Some(Reverse(next)) = self.queue.pop() {
            self.world.t = next.at;
            self.dispatch(next.what);
            if self.books.violation.is_some() {
                return;
            }
            if self.world.t >= AT_LEAST && self.has_settled() {
                return self.check_end();
            }
            if self.world.t > self.quiet_since.max(FAULTS_END) + SETTLES_WITHIN {
                let why = self.unsettled().unwrap_or_default();
                return self.violate("L2", format!("the world does not settle: {why}"));
            }
        }
    }

    fn dispatch(&mut self, what: What) {
        if let Some(life) = what.life() {
            if life != self.daemon.life {
                return;
            }
            if self.world.t < self.daemon.hangs_until {
                self.world.faults.feel(Kind::Freeze);
                return self.at(self.daemon.hangs_until, late(what));
            }
        }
        match what {
            What::Start => self.start(),
            What::Second { life } => self.second(life),
            What::LookNow { life } => self.look_now(life),
            What::Heard { event, .. } => self.take(*event),
            What::Go { life, id, input } => self.go(life, id, input),
            What::Land { life, id, write, run } => self.land(life, id, write, &run),
            What::PromoteEnds(n) => self.end_promote(n),
            What::PutBack => {
                if self.world.faults.on(Kind::OperatorRecreates) {
                    self.say(|| "somebody puts the custom resource at A back".into());
                    (self.world.cr_at_a, self.world.cr_put_back) = (true, true);
                    self.world.reckon();
                    self.check_data();
                }
            }
            What::Reckon => {
                self.world.reckon();
                self.check_data();
            }
            What::Flip => {
                self.world.reckon();
                if self.world.faults.on(Kind::Flaps) {
                    self.at(self.world.t + FLAP_EVERY, What::Flip);
                }
            }
            What::Snapshot => {
                let a_wall = self.a_wall();
                self.world.snapshot(&self.plot.setting, a_wall);
                self.at(self.world.t + self.plot.setting.snapshot_every, What::Snapshot);
            }
            What::Rival => self.rival(),
            What::Human { act, tries } => self.human(*act, tries),
            What::Begin(n) => self.begin(n),
            What::End(n) => self.end_fault(n),
        }
    }

    /// An effect has a boundary here: faults that wait for it come. True if the daemon's life is over by it.
    fn boundary(&mut self, life: u32) -> bool {
        let number = self.boundaries;
        self.boundaries += 1;
        for n in 0..self.plot.faults.len() {
            let Fault { begins, ends, .. } = self.plot.faults[n];
            if begins == When::Boundary(number) && self.stands[n] == Stand::ToCome {
                self.begin(n);
            } else if ends == Until::Boundary(number) && self.stands[n] == Stand::On {
                self.end_fault(n);
            }
        }
        self.daemon.life != life
    }

    fn begin(&mut self, n: usize) {
        if self.stands[n] != Stand::ToCome {
            return;
        }
        let fault = self.plot.faults[n];
        self.say(|| format!("FAULT: {}", fault.kind));
        self.quiet_since = self.world.t;
        self.settled_since = None;
        if fault.kind.is_moment() {
            self.stands[n] = Stand::Over;
            return self.happen(fault);
        }
        self.stands[n] = Stand::On;
        self.world.begin(fault.kind);
        match fault.ends {
            Until::For(ms) => {
                let limit = FAULTS_END.max(self.world.t + 1_000);
                self.at((self.world.t + ms).min(limit), What::End(n));
                if fault.kind == Kind::Freeze {
                    self.daemon.hangs_until = self.daemon.hangs_until.max(self.world.t + ms.min(15_000));
                    self.daemon.awake_since = self.daemon.hangs_until;
                }
            }
            Until::Boundary(_) => self.at(FAULTS_END.max(self.world.t + 1_000), What::End(n)),
            Until::Ever => {}
        }
        match fault.kind {
            Kind::Flaps => self.at(self.world.t + FLAP_EVERY, What::Flip),
            Kind::Rival => self.at(self.world.t, What::Rival),
            Kind::OperatorPauses => self.pause(true),
            _ => {}
        }
        self.check_data();
    }

    fn end_fault(&mut self, n: usize) {
        if self.stands[n] != Stand::On {
            return;
        }
        self.stands[n] = Stand::Over;
        let kind = self.plot.faults[n].kind;
        self.say(|| format!("OVER: {kind}"));
        self.quiet_since = self.world.t;
        self.settled_since = None;
        self.world.end(kind);
        match kind {
            Kind::OperatorPauses => self.pause(false),
            Kind::PromoteHangs => self.wake_promotes(),
            Kind::Rival => self.at(self.world.t, What::Rival),
            _ => {}
        }
        self.check_data();
    }

    /// A moment's fault comes about.
    fn happen(&mut self, fault: Fault) {
        let kind = fault.kind;
        match kind {
            Kind::Crash | Kind::PowerLoss if self.daemon.runs => {
                self.world.faults.feel(kind);
                let back = self.dice.between(500, 20_000);
                self.crash(kind == Kind::PowerLoss, back);
            }
            // Of a machine that is off nobody can tell what its clock will say: not promised (S8).
            Kind::ClockStep if self.daemon.boot.1 <= self.world.t => {
                self.world.faults.feel(kind);
                self.daemon.wall += fault.amount;
            }
            Kind::ClockStepA => {
                self.world.faults.feel(kind);
                self.world.a_clock += fault.amount;
                let forward = u64::try_from(fault.amount).unwrap_or(0);
                self.world.a_clock_unmeasured = Some(self.world.a_clock_unmeasured.unwrap_or(0) + forward);
            }
            Kind::OperatorMovesRoute => {
                self.world.faults.feel(kind);
                self.world.route[0] = Leads::Elsewhere;
                self.books.route_moved = true;
            }
            Kind::MirrorRestarts => {
                // It comes back under another number, so that nothing refuses it.
                let stopped = !self.world.mirror_runs || self.world.mirror_refused;
                if stopped {
                    self.world.faults.feel(kind);
                    (self.world.mirror_runs, self.world.mirror_refused) = (true, false);
                }
            }
            _ => {}
        }
    }

    fn wake_promotes(&mut self) {
        for n in 0..self.promotes.len() {
            if self.promotes[n].hangs && self.dice.chance(50) {
                let after = self.dice.between(100, 5_000);
                self.at(self.world.t + after, What::PromoteEnds(n));
            }
        }
    }

    fn pause(&mut self, begins: bool) {
        let order = if begins { Order::Pause { for_ms: None, reason: "wait".into() } } else { Order::Resume };
        if begins {
            self.world.faults.feel(Kind::OperatorPauses);
        }
        self.pager.pending += 1;
        self.at(self.world.t, What::Human { act: Box::new(Act::Give(order)), tries: 0 });
    }

    /// Whether everything is at rest.
    fn has_settled(&mut self) -> bool {
        let on = self.stands.iter().zip(&self.plot.faults);
        let coming = on.filter(|(stand, fault)| match stand {
            Stand::ToCome => matches!(fault.begins, When::At(_)),
            Stand::On => fault.ends != Until::Ever && !fault.kind.is_armed(),
            Stand::Over => false,
        });
        if coming.count() > 0 || self.unsettled().is_some() {
            self.settled_since = None;
            return false;
        }
        let since = *self.settled_since.get_or_insert(self.world.t);
        self.world.t >= since + SETTLED_FOR
    }

    fn end(mut self) -> Story {
        if let Some(violation) = self.books.violation.clone() {
            self.say(|| format!("VIOLATED {}: {}", violation.invariant, violation.what));
        }
        self.tally.close(&self.world.faults.felt, self.events, self.books.counts());
        Story { violation: self.books.violation, tally: self.tally, told: self.told.unwrap_or_default() }
    }
}

/// What a process that hung hears too late proves nothing.
fn late(what: What) -> What {
    match what {
        What::Heard { life, event } => match *event {
            Event::Read { pair, probe, observation } => {
                let observation = Observation { reading: Reading::Unknown(Reason::Late), ..observation };
                What::Heard { life, event: Box::new(Event::Read { pair, probe, observation }) }
            }
            other => What::Heard { life, event: Box::new(other) },
        },
        other => other,
    }
}
