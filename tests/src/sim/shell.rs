//! The daemon: a small copy of the real shell around the real core.
//!
//! What it copies, rule by rule, of `agent/src`:
//!
//! - `daemon.rs`: each event is judged at one time; all records of its commands are written in order before any command is
//!   carried out, with one flush behind the last if a command has an effect or a record must last; if that fails, no
//!   command is carried out, every permit is refused, the humans are told, and the daemon ends. A start journals `Started`,
//!   restores the state from the records since the last snapshot, and takes up what was under way.
//! - `runner.rs`: a new try of a step ends the old one; a step that ends is told with its run, step and attempt; a step of
//!   an earlier life is heard of no more, but what it had sent still lands.
//! - `guard.rs`: looks on a grid, started and told apart; `ProbeNow` looks at everything 2 ms later; a look that was under
//!   way while the process hung is `Late`.
//! - `lease.rs` (agent and actions): a turn each quarter of the lease; taken by compare-and-swap, from another only when it
//!   was seen unchanged for its whole duration; the epoch is raised then; a permit reads it again, demands our name and the
//!   order's epoch, writes a newer epoch into it, and leaves the margin.

use understudy_core::{
    Command, Domain, Event, MirrorFacts, Notice, Now, Observation, PairId, Reading, Reason, Record, State, Ticket,
    WitnessKind, WitnessReport, resume, step,
};

use super::fault::Kind;
use super::journal::{Disk, Journal};
use super::steps::Task;
use super::{Ms, Sim, WALL, What};

/// The pair of the story.
pub const PAIR: PairId = PairId(0);
/// Who we are for other daemons.
pub const WE: u8 = 1;
/// Somebody else.
pub const THEY: u8 = 2;

/// The lease at B.
#[derive(Debug, Clone, Copy)]
pub struct LeaseAtB {
    /// Who holds it; 0 = nobody.
    pub holder: u8,
    /// The epoch that it carries.
    pub epoch: u64,
    /// Its resourceVersion.
    pub version: u64,
    /// When it was written last.
    pub renewed: Ms,
}

/// What a keeper of the lease knows.
#[derive(Debug, Clone, Copy, Default)]
pub struct Keeper {
    /// Whether it is wanted.
    pub wanted: bool,
    /// Until when what it wrote last holds.
    pub until: Option<Ms>,
    /// Another's lease as first seen.
    seen: Option<(u64, Ms)>,
    next_turn: Ms,
}

/// The daemon's process and machine.
#[derive(Debug)]
pub struct Daemon {
    /// Which life: what was begun in an earlier one does not reach this one.
    pub life: u32,
    /// Whether it runs.
    pub runs: bool,
    /// It does not run on before this.
    pub hangs_until: Ms,
    /// Since when it runs without a gap.
    pub awake_since: Ms,
    /// It refuses to start: its journal is damaged.
    pub refuses: Option<String>,
    /// No write any more.
    pub halted: bool,
    /// Which boot of its machine, and when that was.
    pub boot: (u64, Ms),
    /// How far its wall clock is set apart.
    pub wall: i64,
    /// The core.
    pub state: Option<State>,
    /// Its memory.
    pub journal: Journal,
    /// The steps that run.
    pub tasks: Vec<Task>,
    /// Its lease.
    pub keeper: Keeper,
    /// What the core said to whom waited, in the event that was taken last.
    pub acks: Vec<(Ticket, bool)>,
    /// Tickets given.
    pub tickets: u64,
    seconds: u64,
}

impl Daemon {
    /// A daemon that was never started.
    #[must_use]
    pub fn new(journal: Journal) -> Self {
        Self {
            life: 0,
            runs: false,
            hangs_until: 0,
            awake_since: 0,
            refuses: None,
            halted: false,
            boot: (1, 0),
            wall: 0,
            state: None,
            journal,
            tasks: vec![],
            keeper: Keeper::default(),
            acks: vec![],
            tickets: 0,
            seconds: 0,
        }
    }

    /// Its clocks.
    #[must_use]
    pub fn now(&self, t: Ms) -> Now {
        // A machine that is off counts nothing.
        let since_boot = t.saturating_sub(self.boot.1);
        let wall = WALL + i64::try_from(t).unwrap_or(i64::MAX) + self.wall;
        Now { boot_ms: since_boot + 1_000, wall_ms: wall, boot_id: self.boot.0 }
    }
}

impl Sim<'_> {
    /// The daemon's clocks, now.
    pub fn now(&self) -> Now {
        self.daemon.now(self.world.t)
    }

    /// The platform starts the daemon.
    pub fn start(&mut self) {
        let opened = self.daemon.journal.open();
        let records = match opened {
            Ok(records) => records,
            Err(fails) => {
                self.say(|| format!("the daemon refuses to start: {}", fails.0));
                self.tally.refused_starts += 1;
                self.daemon.refuses = Some(fails.0);
                return;
            }
        };
        let (now, life) = (self.now(), self.daemon.life + 1);
        self.daemon.life = life;
        self.daemon.runs = true;
        self.daemon.awake_since = self.world.t.max(self.daemon.hangs_until);
        self.daemon.halted = false;
        self.daemon.keeper = Keeper::default();
        self.daemon.seconds = self.dice.below(4);
        let state = State::restore(&self.plot.policy, records, now);
        let started = Record::Started {
            version: env!("CARGO_PKG_VERSION").into(),
            config_digest: self.plot.policy.config_digest.clone(),
        };
        self.daemon.state = Some(state.clone());
        if !self.write_down(now, vec![started], true) {
            return;
        }
        let (state, commands) = resume(&self.plot.policy, state, now);
        self.daemon.state = Some(state);
        let first = self.world.t + 1 + self.dice.below(400);
        self.at(first, What::Second { life });
        self.carry_out(now, commands);
    }

    /// The daemon ends, now. `power`: its machine does, too.
    pub fn crash(&mut self, power: bool, back_after: Ms) {
        if !self.daemon.runs {
            return;
        }
        self.tally.crashes += 1;
        self.daemon.life += 1;
        self.daemon.runs = false;
        self.daemon.state = None;
        self.daemon.tasks.clear();
        let back = self.world.t + back_after;
        if power {
            self.daemon.journal.lose_power(&mut self.dice);
            self.daemon.boot = (self.daemon.boot.0 + 1, back.saturating_sub(500).max(self.world.t));
            self.lose_processes();
        }
        self.at(back, What::Start);
    }

    /// An event is judged, and what follows from it is done.
    pub fn take(&mut self, event: Event) {
        let now = self.now();
        let Some(state) = self.daemon.state.take() else { return };
        self.events += 1;
        let (state, commands) = step(&self.plot.policy, state, event, now);
        self.daemon.state = Some(state);
        if !commands.is_empty() {
            self.carry_out(now, commands);
        }
    }

    fn carry_out(&mut self, now: Now, commands: Vec<Command>) {
        let flush = commands.iter().any(has_effect);
        let records = commands.iter().filter_map(|command| match command {
            Command::Journal(record) => Some(record.clone()),
            _ => None,
        });
        let records: Vec<Record> = records.collect();
        let life = self.daemon.life;
        if !records.is_empty() && !self.write_down(now, records, flush) {
            return;
        }
        for command in commands {
            if self.daemon.life != life {
                return;
            }
            self.act(command);
        }
    }

    /// Whether every record is written, and flushed where it must be. The daemon may have ended meanwhile.
    fn write_down(&mut self, now: Now, records: Vec<Record>, effect: bool) -> bool {
        let flush = effect || records.iter().any(must_last);
        let (life, last) = (self.daemon.life, records.len() - 1);
        for (n, record) in records.into_iter().enumerate() {
            if flush && self.boundary(life) {
                return false;
            }
            self.say(|| understudy_agent::tell::sentence(&record).map_or_else(String::new, |said| format!("  {said}")));
            self.note_record(&record);
            let disk = self.disk();
            if let Err(fails) = self.daemon.journal.append(now, record, flush && n == last, disk) {
                self.halt(&fails.0);
                return false;
            }
        }
        if flush {
            self.tell_checker();
        }
        if self.daemon.journal.is_full() {
            let snapshot = self.daemon.state.as_ref().map(|state| state.snapshot(&self.plot.policy));
            let disk = self.disk();
            if let Some(snapshot) = snapshot
                && let Err(fails) = self.daemon.journal.rotate(now, snapshot, disk)
            {
                self.halt(&fails.0);
                return false;
            }
            self.tell_checker();
        }
        !(flush && self.boundary(life))
    }

    fn disk(&mut self) -> Disk {
        if self.world.faults.on(Kind::DiskFull) {
            Disk::Full
        } else if self.world.faults.on(Kind::DiskError) {
            Disk::NoFlush
        } else {
            Disk::Good
        }
    }

    /// The journal takes no more: nothing is written to the world, and the process ends.
    fn halt(&mut self, why: &str) {
        self.world.faults.hit(Kind::DiskFull);
        self.world.faults.hit(Kind::DiskError);
        self.say(|| format!("the daemon writes nothing any more: {why}"));
        self.daemon.halted = true;
        self.crash(false, 5_000);
    }

    fn act(&mut self, command: Command) {
        match command {
            Command::Journal(_) => {}
            Command::ProbeNow { .. } => {
                let life = self.daemon.life;
                self.at(self.world.t + 2, What::LookNow { life });
            }
            Command::HoldLease { .. } => {
                if !self.daemon.keeper.wanted {
                    self.daemon.keeper.wanted = true;
                    self.turn();
                }
            }
            Command::RunStep { order, .. } => self.start_task(*order),
            Command::Notify { notice, .. } => self.notify(notice),
            Command::Ack { ticket, go_on } => self.daemon.acks.push((ticket, go_on)),
            Command::Answer { answer, .. } => self.answered(answer.is_ok()),
        }
        let life = self.daemon.life;
        self.boundary(life);
    }

    /// One second of the daemon: a tick, and the looks that are due.
    pub fn second(&mut self, life: u32) {
        self.daemon.seconds += 1;
        self.at(self.world.t + 1_000, What::Second { life });
        self.take(Event::Tick);
        let looks: [fn(&mut Self); 2] = [Self::look_at_a, Self::look_around];
        let due = usize::try_from(self.daemon.seconds % 2).unwrap_or_default();
        if self.daemon.life == life {
            looks[due](self);
        }
        if self.daemon.life == life && self.daemon.keeper.wanted && self.world.t >= self.daemon.keeper.next_turn {
            self.turn();
        }
    }

    /// Every look at once, apart from the grid.
    pub fn look_now(&mut self, life: u32) {
        self.look_around();
        if self.daemon.life == life {
            self.look_at_a();
        }
    }

    fn look_at_a(&mut self) {
        let life = self.daemon.life;
        for (probe, domain) in [(0, Domain::Service), (1, Domain::ControlPlane), (2, Domain::Storage)] {
            let (reading, takes) = self.world.look(domain, &mut self.dice);
            let started_ms = self.now().boot_ms;
            let event = Event::Read { pair: PAIR, probe, observation: seen(reading, started_ms) };
            self.hear(takes, event);
            if self.daemon.life != life {
                return;
            }
            if probe == 1 && reading.is_up() && self.daemon.seconds % 8 < 2 {
                self.compare_clocks();
            }
        }
        self.hear_witnesses();
    }

    /// What a look says reaches the loop after a while.
    fn hear(&mut self, takes: Ms, event: Event) {
        if takes < 50 {
            return self.take(event);
        }
        let life = self.daemon.life;
        self.at(self.world.t + takes, What::Heard { life, event: Box::new(event) });
    }

    fn compare_clocks(&mut self) {
        self.world.a_clock_unmeasured = None;
        let apart = self.a_wall().abs_diff(self.now().wall_ms);
        // The answer's date counts whole seconds.
        let error_ms = apart + 1_000 + self.plot.setting.latency;
        self.take(Event::ClockCompared { pair: PAIR, error_ms });
    }

    /// A's wall clock.
    pub fn a_wall(&self) -> i64 {
        WALL + i64::try_from(self.world.t).unwrap_or(i64::MAX) + self.world.a_clock
    }

    fn look_around(&mut self) {
        let life = self.daemon.life;
        let started_ms = self.now().boot_ms;
        let own = if self.world.faults.hit(Kind::OwnApiDown) { Reading::Down(Reason::Refused) } else { Reading::Up };
        let out = if self.world.faults.hit(Kind::NeutralDown) { Reading::Down(Reason::TimedOut) } else { Reading::Up };
        for (check, reading) in [(0, own), (1, out)] {
            self.take(Event::SelfRead { check, observation: seen(reading, started_ms) });
            if self.daemon.life != life {
                return;
            }
        }
        let standby = if self.world.nexus_b_serves() { Reading::Up } else { Reading::Down(Reason::Refused) };
        self.take(Event::Read { pair: PAIR, probe: 4, observation: seen(standby, started_ms) });
        let tells = !self.world.faults.hit(Kind::StatusSilent);
        self.world.sync();
        if self.daemon.life == life {
            let facts = MirrorFacts { images: self.world.images.iter().map(|i| i.facts(tells)).collect() };
            self.take(Event::MirrorRead { pair: PAIR, probe: 3, started_ms, facts });
        }
        if self.daemon.life == life && self.daemon.seconds % 8 < 2 {
            let missing =
                if self.world.faults.on(Kind::OwnApiDown) { vec!["B's API server is down".into()] } else { vec![] };
            self.take(Event::Readiness { pair: PAIR, missing });
        }
    }

    fn hear_witnesses(&mut self) {
        let life = self.daemon.life;
        for (n, witness) in self.plot.policy.pairs[0].witnesses.iter().enumerate() {
            let started_ms = self.now().boot_ms;
            let report = self.report_of(witness.kind);
            let witness = u16::try_from(n).unwrap_or(u16::MAX);
            self.take(Event::WitnessRead { pair: PAIR, witness, started_ms, report });
            if self.daemon.life != life {
                return;
            }
        }
    }

    fn report_of(&mut self, kind: WitnessKind) -> WitnessReport {
        let absent = |why: &str| WitnessReport::Absent { why: why.into() };
        let faults = &mut self.world.faults;
        if faults.hit(Kind::WitnessSilent) {
            return absent("no answer");
        }
        if kind == WitnessKind::PrimarySite {
            // It stands beside A: what cuts A off cuts it off, too.
            let cut = faults.on(Kind::SiteCut) || faults.on(Kind::CutThere) || faults.on(Kind::CutBack);
            if cut || self.world.a_is_still() {
                return absent("no answer");
            }
        } else if self.world.faults.hit(Kind::WitnessBlind) {
            return WitnessReport::Blind;
        }
        WitnessReport::Sees { domains: self.witness_sees(kind) }
    }

    /// What a witness sees of A.
    pub fn witness_sees(&mut self, kind: WitnessKind) -> Vec<(Domain, Reading)> {
        let down = Reading::Down(Reason::TimedOut);
        let cut = kind == WitnessKind::ThirdSite && self.world.faults.hit(Kind::WitnessCut);
        if cut || self.world.a_is_still() {
            return vec![(Domain::Service, down), (Domain::ControlPlane, down)];
        }
        let service = if self.world.a_takes_writes() { Reading::Up } else { Reading::Down(Reason::Refused) };
        let control = if self.world.faults.on(Kind::ApiDies) { down } else { Reading::Up };
        vec![(Domain::Service, service), (Domain::ControlPlane, control)]
    }

    /// A turn of the keeper of the lease.
    fn turn(&mut self) {
        let lasts = self.plot.setting.lease;
        self.daemon.keeper.next_turn = self.world.t + lasts / 4;
        if self.world.faults.hit(Kind::OwnApiDown) {
            return;
        }
        let t = self.world.t;
        let lease = &mut self.lease;
        let event = if !may_take(lease, WE, &mut self.daemon.keeper.seen, t, lasts) {
            Event::Lease { pair: PAIR, until_ms: None, holder: Some("another".into()), epoch: None }
        } else {
            let epoch = if lease.holder == WE || lease.version == 0 { lease.epoch } else { lease.epoch + 1 };
            *lease = LeaseAtB { holder: WE, epoch, version: lease.version + 1, renewed: t };
            self.daemon.keeper.until = Some(t + lasts);
            let until_ms = Some(self.now().boot_ms + lasts);
            Event::Lease { pair: PAIR, until_ms, holder: None, epoch: Some(epoch) }
        };
        self.take(event);
    }

    /// Leave for one write of `epoch`.
    ///
    /// # Errors
    /// Why not.
    pub fn permit(&mut self, epoch: u64) -> Result<Ms, String> {
        if self.daemon.halted {
            return Err("the journal takes no records".into());
        }
        if self.daemon.keeper.until.is_none() {
            return Err("the lease is not ours".into());
        }
        if self.world.faults.hit(Kind::OwnApiDown) {
            return Err("the lease can not be read".into());
        }
        let (t, lasts) = (self.world.t, self.plot.setting.lease);
        if self.lease.holder != WE {
            self.daemon.keeper.until = None;
            return Err("the lease is held by another".into());
        }
        if self.lease.epoch > epoch {
            return Err(format!("the lease is at epoch {}", self.lease.epoch));
        }
        if self.lease.epoch < epoch {
            self.lease = LeaseAtB { holder: WE, epoch, version: self.lease.version + 1, renewed: t };
            self.daemon.keeper.until = Some(t + lasts);
        }
        let left = self.daemon.keeper.until.unwrap_or(0).saturating_sub(t);
        let margin = understudy_core::millis(self.plot.policy.pairs[0].plan.lease_margin);
        if left <= margin { Err("the lease ends too soon".into()) } else { Ok(left) }
    }

    /// The rival looks for the lease. It keeps every rule, and writes nothing.
    pub fn rival(&mut self) {
        let (t, lasts) = (self.world.t, self.plot.setting.lease);
        if !self.world.faults.on(Kind::Rival) {
            if self.lease.holder == THEY {
                self.lease.holder = 0;
                self.lease.version += 1;
            }
            return;
        }
        self.at(t + lasts / 4, What::Rival);
        if may_take(&self.lease, THEY, &mut self.rival_seen, t, lasts) {
            let epoch = if self.lease.holder == THEY { self.lease.epoch } else { self.lease.epoch + 1 };
            if self.lease.holder != THEY {
                self.world.faults.feel(Kind::Rival);
                self.say(|| format!("another daemon takes the lease, epoch {epoch}"));
            }
            self.lease = LeaseAtB { holder: THEY, epoch, version: self.lease.version + 1, renewed: t };
        }
    }

    fn notify(&mut self, notice: Notice) {
        self.say(|| format!("  notice: {}", super::human::words(&notice)));
        self.tell_human(&notice);
    }
}

/// Ours, nobody's, or seen unchanged for its whole duration.
fn may_take(lease: &LeaseAtB, who: u8, seen: &mut Option<(u64, Ms)>, t: Ms, lasts: Ms) -> bool {
    if lease.holder == who || lease.holder == 0 {
        return true;
    }
    match *seen {
        Some((version, since)) if version == lease.version => t - since > lasts,
        _ => {
            *seen = Some((lease.version, t));
            false
        }
    }
}

fn seen(reading: Reading, started_ms: Ms) -> Observation {
    Observation { reading, started_ms, latency_ms: 1, detail: None }
}

fn has_effect(command: &Command) -> bool {
    !matches!(command, Command::Journal(_) | Command::ProbeNow { .. })
}

fn must_last(record: &Record) -> bool {
    !matches!(
        record,
        Record::Signal { .. } | Record::SelfCheck { .. } | Record::SourceTime { .. } | Record::ClockError { .. }
    )
}
