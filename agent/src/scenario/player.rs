//! Plays a story into the core, with simulated time.
//!
//! In: a [`Story`]. Out: [`Played`]: what was not as expected, and a [`Film`] of everything. The player does what the daemon's
//! shell does (grids of looks, the lease, readiness, steps, restart from the journal) and decides nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use understudy_core::{
    Command, Event, Notice, Now, Observation, Order, PageKind, PairId, PairView, Policy, Reading, Reason, Record,
    Refusal, State, StepOrder, StepResult, Ticket, Verdict, WitnessReport, millis, resume, signed, step,
};

use super::expect::Sight;
use super::picture::Film;
use super::story::{Change, Lease, Moment, Said, Story, Wanted};
use super::words::Fate;
use super::world::World;
use crate::tell::sentence;

const TICK_MS: u64 = 250;
const READINESS_MS: u64 = 10_000;
/// A lease is asked for four times in its life.
const LEASE_MS: u64 = 30_000;
/// Readings of the very millisecond in which they are asked for do not count.
const ASKED_MS: u64 = 2;
/// When the story's machine was booted, before everything was well.
const BOOTED_MS: u64 = 1_000_000;
/// Noon of the first day of 2026, UTC.
const NOON_MS: i64 = 1_767_268_800_000;

/// Something that is not as it was expected.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Failure {
    /// Where it stands in the file.
    pub line: u64,
    /// When, in milliseconds from 0s.
    pub at_ms: i64,
    /// What was expected.
    pub expected: String,
    /// What was found.
    pub found: String,
}

/// A verdict, as it came.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Judged {
    /// When, in milliseconds from 0s.
    pub at_ms: i64,
    /// Of which pair.
    pub pair: String,
    /// What.
    pub verdict: Verdict,
    /// Why.
    pub cause: String,
}

/// A story that was played.
#[derive(Debug, Clone)]
pub struct Played {
    /// What was not as expected, in the order of time.
    pub failures: Vec<Failure>,
    /// Every change of a verdict from 0s on.
    pub verdicts: Vec<Judged>,
    /// What was seen.
    pub film: Film,
    /// What was said: records and notices, with their time from 0s.
    pub said: Vec<(i64, String)>,
    /// How many events the core took.
    pub events: u64,
}

/// Plays `story` from its beginning to its end.
#[must_use]
pub fn play(story: &Story) -> Played {
    Player::new(story).play()
}

/// Who looks, in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Own(usize),
    Probe(usize, usize),
    Witness(usize, usize),
    Ready(usize),
    Clock(usize),
    Lease(usize),
}

enum What {
    Moment(usize),
    Next(usize),
    Start,
    Turn { turn: Turn, again: bool, posting: u32 },
    Arrive { event: Event, life: u32 },
    Tick,
    Judge(usize),
}

impl What {
    /// Of the same millisecond, the world changes first and is judged last.
    fn rank(&self) -> u8 {
        match self {
            What::Moment(_) => 0,
            What::Start => 1,
            What::Turn { .. } => 2,
            What::Arrive { .. } => 3,
            What::Tick => 4,
            What::Next(_) | What::Judge(_) => 5,
        }
    }
}

struct Player<'a> {
    story: &'a Story,
    policy: Policy,
    state: Option<State>,
    world: World,
    boot_ms: u64,
    /// How far the wall clock was moved.
    jumped_ms: i64,
    queue: BTreeMap<(u64, u8, u64), What>,
    queued: u64,
    posting: u32,
    life: u32,
    /// The daemon does not run until then.
    stalled_until_ms: u64,
    held: Vec<bool>,
    journal: Vec<(Now, Record)>,
    paged: Vec<Vec<PageKind>>,
    wrote: Vec<bool>,
    answers: BTreeMap<Ticket, Result<String, Refusal>>,
    tickets: u64,
    /// Which of `never` were met already.
    met: Vec<bool>,
    out: Played,
}

impl<'a> Player<'a> {
    fn new(story: &'a Story) -> Self {
        let policy = story.policy.clone();
        let now = now_at(BOOTED_MS, 0);
        let pairs = policy.pairs.len();
        Self {
            story,
            world: World::healthy(&policy, now),
            state: None,
            boot_ms: BOOTED_MS,
            jumped_ms: 0,
            queue: BTreeMap::new(),
            queued: 0,
            posting: 0,
            life: 0,
            stalled_until_ms: 0,
            held: vec![false; pairs],
            journal: vec![],
            paged: vec![vec![]; pairs],
            wrote: vec![false; pairs],
            answers: BTreeMap::new(),
            tickets: 0,
            met: vec![false; story.never.len()],
            out: Played { failures: vec![], verdicts: vec![], film: Film::new(story), said: vec![], events: 0 },
            policy,
        }
    }

    fn play(mut self) -> Played {
        self.push(BOOTED_MS, What::Start);
        self.push(BOOTED_MS, What::Tick);
        self.post();
        for (n, moment) in self.story.moments.iter().enumerate() {
            let at = self.boot_of(moment.at);
            // Entries of one moment come one after the other, each judged before the next.
            let follows = n.checked_sub(1).is_some_and(|before| self.story.moments[before].at == moment.at);
            self.push(at, if follows { What::Next(n) } else { What::Moment(n) });
            self.push(at, What::Judge(n));
        }
        let end = self.boot_of(self.story.until);
        while let Some(((at, ..), what)) = self.queue.pop_first() {
            if at > end {
                break;
            }
            self.boot_ms = at;
            self.happen(what);
        }
        self.out.failures.sort_by_key(|failure| (failure.at_ms, failure.line));
        self.out
    }

    fn boot_of(&self, at: Duration) -> u64 {
        BOOTED_MS + millis(self.story.healthy_before) + millis(at)
    }

    /// Milliseconds from 0s.
    fn at_ms(&self) -> i64 {
        signed(self.boot_ms) - signed(self.boot_of(Duration::ZERO))
    }

    fn now(&self) -> Now {
        now_at(self.boot_ms, self.jumped_ms)
    }

    fn push(&mut self, at_ms: u64, what: What) {
        self.queued += 1;
        self.queue.insert((at_ms, what.rank(), self.queued), what);
    }

    /// Every look at its place in the grid, from now on.
    fn post(&mut self) {
        self.posting += 1;
        let mut turns: Vec<Turn> = (0..self.policy.self_checks.len()).map(Turn::Own).collect();
        for pair in 0..self.policy.pairs.len() {
            turns.extend(self.looks_of(pair));
            turns.extend([Turn::Ready(pair), Turn::Clock(pair)]);
        }
        for turn in turns {
            let at = self.boot_ms.next_multiple_of(self.period_ms(turn));
            self.push(at, What::Turn { turn, again: true, posting: self.posting });
        }
    }

    fn looks_of(&self, pair: usize) -> Vec<Turn> {
        let rules = &self.policy.pairs[pair];
        let probes = (0..rules.probes.len()).map(|probe| Turn::Probe(pair, probe));
        probes.chain((0..rules.witnesses.len()).map(|witness| Turn::Witness(pair, witness))).collect()
    }

    fn period_ms(&self, turn: Turn) -> u64 {
        let period = match turn {
            Turn::Own(check) => self.policy.self_checks[check].period,
            Turn::Probe(pair, probe) => self.policy.pairs[pair].probes[probe].period,
            Turn::Witness(pair, witness) => self.policy.pairs[pair].witnesses[witness].period,
            Turn::Clock(_) => Duration::from_secs(5),
            Turn::Ready(_) => Duration::from_millis(READINESS_MS),
            Turn::Lease(_) => Duration::from_millis(LEASE_MS / 4),
        };
        millis(period).max(1)
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Moment(n) | What::Next(n) => self.moment(n),
            What::Start => self.start(),
            What::Turn { turn, again, posting } if posting == self.posting => self.turn(turn, again),
            What::Arrive { event, life } if life == self.life => self.arrive(event, life),
            What::Turn { .. } | What::Arrive { .. } => {}
            What::Tick => {
                self.push(self.boot_ms + TICK_MS, What::Tick);
                if self.runs() {
                    self.take(Event::Tick);
                }
            }
            What::Judge(n) => self.judge(n),
        }
    }

    fn runs(&self) -> bool {
        self.state.is_some() && self.boot_ms >= self.stalled_until_ms
    }

    /// The daemon starts: it reads its journal and goes on where it stopped.
    fn start(&mut self) {
        let now = self.now();
        let state = State::restore(&self.policy, self.journal.iter().cloned(), now);
        let (state, commands) = resume(&self.policy, state, now);
        self.state = Some(state);
        self.carry_out(commands);
    }

    fn moment(&mut self, n: usize) {
        let story = self.story;
        let moment: &Moment = &story.moments[n];
        for change in &moment.changes {
            let now = self.now();
            self.world.change(&self.policy, change, now);
            match change {
                Change::WallClock(ms) => self.jumped_ms += ms,
                Change::Daemon(Fate::Stalls(time)) => self.stalled_until_ms = self.boot_ms + millis(*time),
                Change::Daemon(Fate::Restarts(after)) => {
                    self.state = None;
                    self.life += 1;
                    self.held.fill(false);
                    self.push(self.boot_ms + millis(*after), What::Start);
                }
                Change::Reload(policy) => self.reload(policy),
                _ => {}
            }
        }
        for said in &moment.said {
            self.obey(said);
        }
    }

    /// The new watch is posted, and the lease asked for anew, as the daemon does it.
    fn reload(&mut self, policy: &Policy) {
        let now = self.now();
        self.world.under(&self.policy, policy, now);
        let before = std::mem::replace(&mut self.policy, policy.clone());
        self.post();
        self.held.fill(false);
        if let Some(state) = self.state.take() {
            let (state, commands) = resume(&self.policy, state.reload(&before, &self.policy, now), now);
            self.state = Some(state);
            self.carry_out(commands);
        }
    }

    fn obey(&mut self, said: &Said) {
        let answer = if self.runs() {
            self.tickets += 1;
            let ticket = Ticket(self.tickets);
            let order: Order = said.order.clone();
            self.take(Event::Ordered { pair: said.pair, by: said.by.clone(), order, ticket });
            self.answers.remove(&ticket).unwrap_or_else(|| Err(Refusal::new("no answer")))
        } else {
            Err(Refusal::new("the daemon is not running"))
        };
        let (expected, found) = match (&said.refused, answer) {
            (None, Ok(_)) => return,
            (Some(part), Err(refusal)) if refusal.why.contains(part.as_str()) => return,
            (None, Err(refusal)) => ("the order is taken".to_owned(), format!("refused: {}", refusal.why)),
            (Some(part), Err(refusal)) => (format!("refused: {part:?}"), format!("refused: {}", refusal.why)),
            (Some(part), Ok(answer)) => (format!("refused: {part:?}"), format!("taken: {answer}")),
        };
        let at_ms = self.at_ms();
        self.out.failures.push(Failure { line: said.line, at_ms, expected, found });
    }

    /// Somebody looks. While the daemon does not run nobody does; a look that a stall covers is late.
    fn turn(&mut self, turn: Turn, again: bool) {
        if again {
            let at = self.boot_ms + self.period_ms(turn);
            self.push(at, What::Turn { turn, again, posting: self.posting });
        }
        if self.state.is_none() {
            return;
        }
        if self.boot_ms < self.stalled_until_ms {
            if let Some(late) = late(turn, self.boot_ms) {
                self.push(self.stalled_until_ms, What::Arrive { event: late, life: self.life });
            }
            return;
        }
        if let Some((event, after)) = self.look(turn) {
            self.push(self.boot_ms + millis(after), What::Arrive { event, life: self.life });
        }
    }

    fn look(&mut self, turn: Turn) -> Option<(Event, Duration)> {
        let (now, started_ms) = (self.now(), self.boot_ms);
        let seen = |reading, after: Duration| Observation {
            reading,
            started_ms,
            latency_ms: u32::try_from(after.as_millis()).unwrap_or(u32::MAX),
            detail: None,
        };
        let at_once = Duration::from_millis(5);
        match turn {
            Turn::Own(check) => {
                let (reading, after) = self.world.look_at_ourselves(check, self.policy.self_checks[check].timeout)?;
                Some((Event::SelfRead { check: number(check), observation: seen(reading, after) }, after))
            }
            Turn::Probe(pair, probe) => {
                let rules = &self.policy.pairs[pair];
                let rule = &rules.probes[probe];
                let (reading, after) = self.world.look(pair, probe, rule.timeout)?;
                let (id, number) = (pair_id(pair), number(probe));
                let event = if rule.votes {
                    Event::Read { pair: id, probe: number, observation: seen(reading, after) }
                } else {
                    let facts = self.world.mirror(pair, rules, now);
                    Event::MirrorRead { pair: id, probe: number, started_ms, facts }
                };
                Some((event, after))
            }
            Turn::Witness(pair, witness) => {
                let report = self.world.testimony(pair, witness);
                let witness = number(witness);
                Some((Event::WitnessRead { pair: pair_id(pair), witness, started_ms, report }, at_once))
            }
            Turn::Ready(pair) => {
                Some((Event::Readiness { pair: pair_id(pair), missing: self.world.missing(pair) }, at_once))
            }
            Turn::Clock(pair) => {
                let error_ms = self.world.clock_error_ms(pair, &self.policy.pairs[pair])?;
                Some((Event::ClockCompared { pair: pair_id(pair), error_ms }, at_once))
            }
            Turn::Lease(pair) => {
                let (until_ms, holder) = match self.world.lease(pair) {
                    Lease::Ours => (Some(self.boot_ms + LEASE_MS), None),
                    Lease::Lost => (None, None),
                    Lease::Of(holder) => (None, Some(holder.clone())),
                };
                Some((Event::Lease { pair: pair_id(pair), until_ms, holder, epoch: None }, at_once))
            }
        }
    }

    fn arrive(&mut self, event: Event, life: u32) {
        if self.boot_ms < self.stalled_until_ms {
            self.push(self.stalled_until_ms, What::Arrive { event: late_news(event), life });
        } else if self.state.is_some() {
            if let Event::StepEnded { pair, step, result: StepResult::Done { .. }, .. } = &event {
                self.world.carried_out(pair.at(), &self.policy.pairs[pair.at()], *step);
            }
            self.take(event);
        }
    }

    fn take(&mut self, event: Event) {
        let Some(state) = self.state.take() else { return };
        self.out.events += 1;
        let every_second = matches!(event, Event::Tick) && self.boot_ms.is_multiple_of(1000);
        let (state, commands) = step(&self.policy, state, event, self.now());
        self.state = Some(state);
        if !commands.is_empty() {
            self.carry_out(commands);
            self.look_around();
        } else if every_second && !self.story.never.is_empty() {
            self.look_around();
        }
    }

    fn carry_out(&mut self, commands: Vec<Command>) {
        for command in commands {
            match command {
                Command::Journal(record) => self.write_down(record),
                Command::ProbeNow { pair } => self.look_now(pair.at()),
                Command::HoldLease { pair } => self.hold_lease(pair.at()),
                Command::RunStep { pair, order } => self.run_step(pair.at(), &order),
                Command::Notify { pair, notice } => self.notify(pair.as_ref().map(|pair| pair.as_str()), notice),
                Command::Answer { ticket, answer } => drop(self.answers.insert(ticket, answer)),
                Command::Ack { .. } => {}
            }
        }
    }

    fn write_down(&mut self, record: Record) {
        let at_ms = self.at_ms();
        let pair = record.pair().and_then(|name| self.policy.pairs.iter().position(|pair| pair.name == *name));
        if let (Some(pair), Record::Intent { step, .. }) = (pair, &record) {
            self.wrote[pair] |= !step.is_recheck();
        }
        if let Some(line) = sentence(&record) {
            let named = record.pair().filter(|_| self.policy.pairs.len() > 1);
            self.out.said.push((at_ms, named.map_or(line.clone(), |pair| format!("{pair}: {line}"))));
        }
        if let Record::Verdict { pair, to, cause, .. } = &record
            && at_ms >= 0
        {
            let (pair, cause) = (pair.to_string(), cause.clone());
            self.out.verdicts.push(Judged { at_ms, pair, verdict: *to, cause });
        }
        self.journal.push((self.now(), record));
    }

    fn look_now(&mut self, pair: usize) {
        let own = (0..self.policy.self_checks.len()).map(Turn::Own);
        let turns: Vec<Turn> = own.chain(self.looks_of(pair)).collect();
        for turn in turns {
            self.push(self.boot_ms + ASKED_MS, What::Turn { turn, again: false, posting: self.posting });
        }
    }

    fn hold_lease(&mut self, pair: usize) {
        if !std::mem::replace(&mut self.held[pair], true) {
            self.push(self.boot_ms, What::Turn { turn: Turn::Lease(pair), again: true, posting: self.posting });
        }
    }

    fn run_step(&mut self, pair: usize, order: &StepOrder) {
        let now = self.now();
        let ended = self.world.run(pair, &self.policy.pairs[pair], order.step, now);
        if let Some((result, after)) = ended {
            let (run, step, attempt) = (order.run.clone(), order.step, order.attempt);
            let event = Event::StepEnded { pair: pair_id(pair), run, step, attempt, result };
            self.push(self.boot_ms + millis(after), What::Arrive { event, life: self.life });
        }
    }

    fn notify(&mut self, pair: Option<&str>, notice: Notice) {
        let at_ms = self.at_ms();
        if let Notice::Page { kind, message } = notice {
            for (n, rules) in self.policy.pairs.iter().enumerate() {
                if pair.is_none_or(|named| rules.name.as_str() == named) {
                    self.paged[n].push(kind);
                }
            }
            self.out.said.push((at_ms, format!("PAGE: {message}")));
        }
    }

    /// The camera, and what must never be.
    fn look_around(&mut self) {
        let Some(state) = &self.state else { return };
        let view = state.view(&self.policy, self.now());
        let at_ms = self.at_ms();
        self.out.film.take(at_ms, &view);
        if at_ms < 0 {
            return;
        }
        for (n, never) in self.story.never.iter().enumerate() {
            let Some(pair) = view.pairs.get(never.pair).filter(|_| !self.met[n]) else { continue };
            let seen = self.sight(never.pair, pair);
            if never.checks.iter().all(|check| check.found(&seen).is_none()) {
                self.met[n] = true;
                let expected = format!("never: {}", joined(never));
                self.out.failures.push(Failure { line: never.line, at_ms, expected, found: "it is so now".into() });
            }
        }
    }

    fn sight<'s>(&'s self, pair: usize, view: &'s PairView) -> Sight<'s> {
        Sight {
            pair: view,
            at_ms: self.at_ms(),
            paged: &self.paged[pair],
            told: &self.out.said,
            wrote: self.wrote[pair],
        }
    }

    fn judge(&mut self, n: usize) {
        let Some(wanted) = &self.story.moments[n].expect else { return };
        let at_ms = self.at_ms();
        let fail = |expected: String, found: String| Failure { line: wanted.line, at_ms, expected, found };
        let Some(state) = &self.state else {
            self.out.failures.push(fail(joined(wanted), "the daemon is not running".into()));
            return;
        };
        let view = state.view(&self.policy, self.now());
        let seen = self.sight(wanted.pair, &view.pairs[wanted.pair]);
        let checks = wanted.checks.iter();
        let failed: Vec<Failure> =
            checks.filter_map(|check| Some(fail(check.to_string(), check.found(&seen)?))).collect();
        self.out.failures.extend(failed);
    }
}

fn joined(wanted: &Wanted) -> String {
    wanted.checks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn now_at(boot_ms: u64, jumped_ms: i64) -> Now {
    Now { boot_ms, wall_ms: NOON_MS + signed(boot_ms) + jumped_ms, boot_id: 1 }
}

fn pair_id(pair: usize) -> PairId {
    PairId(u32::try_from(pair).unwrap_or(u32::MAX))
}

fn number(n: usize) -> u16 {
    u16::try_from(n).unwrap_or(u16::MAX)
}

const LATE: Reading = Reading::Unknown(Reason::Late);

/// A round that a stall of ours covered.
fn late(turn: Turn, started_ms: u64) -> Option<Event> {
    let observation = Observation { reading: LATE, started_ms, latency_ms: 0, detail: None };
    match turn {
        Turn::Own(check) => Some(Event::SelfRead { check: number(check), observation }),
        Turn::Probe(pair, probe) => Some(Event::Read { pair: pair_id(pair), probe: number(probe), observation }),
        Turn::Witness(pair, witness) => {
            let report = WitnessReport::Absent { why: "our own stall".into() };
            Some(Event::WitnessRead { pair: pair_id(pair), witness: number(witness), started_ms, report })
        }
        Turn::Ready(_) | Turn::Clock(_) | Turn::Lease(_) => None,
    }
}

/// A look that ended while we were stalled has ended late.
fn late_news(mut event: Event) -> Event {
    if let Event::Read { observation, .. } | Event::SelfRead { observation, .. } = &mut event {
        observation.reading = LATE;
    }
    event
}
