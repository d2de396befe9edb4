//! One pair: what was seen of it, what was decided, what is under way.

use crate::doubt::Fitness;
use crate::event::{Command, Event, Notice, PageKind, WitnessReport};
use crate::mirror::MirrorFacts;
use crate::names::{PairId, Ticket};
use crate::plan::{Phase, Run, Step};
use crate::policy::{Mode, PairPolicy, Policy};
use crate::reading::{Observation, Site};
use crate::record::{DurablePair, Record, Role, WitnessSays};
use crate::signal::{Signal, fresh_ms};
use crate::time::{Now, millis, signed};
use crate::verdict::Verdict;
use crate::watch::{Assessment, Hold, MIN_ROUNDS, Signs, round_ms, verdict_at_a, verdict_at_b};

/// One pair.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct PairState {
    /// What outlives a restart.
    pub durable: DurablePair,
    /// What was seen.
    pub signs: Signs,
    /// What we believe of the active site.
    pub verdict: Verdict,
    /// Since when.
    pub verdict_since: Now,
    /// The hold-down that is running, or complete.
    pub hold: Option<Hold>,
    /// What B lacks to take over; none = not looked yet.
    pub missing: Option<Vec<String>>,
    /// Until when the lease is ours, in milliseconds of `Now::boot_ms`.
    pub lease_until_ms: Option<u64>,
    /// Who holds the lease, if not we.
    pub lease_holder: Option<String>,
    /// What was paged in this episode.
    pub(crate) paged: Vec<PageKind>,
    /// The hold-down for which a human said no.
    pub(crate) denied: Option<Now>,
    /// Whether the shadow ledger has an entry for this verdict.
    pub(crate) shadowed: bool,
    /// When the role changed last in the life of this process, in milliseconds of `Now::boot_ms`.
    pub(crate) role_since_ms: u64,
    /// Before then a pause ordered in the life of this process does not end by itself, in milliseconds of `Now::boot_ms`.
    pub(crate) paused_until_ms: u64,
    /// Steps that were under way before a restart and are not sent again yet.
    pub(crate) unsent: Vec<(Step, u32)>,
    /// By how much our clocks parted in the records of an earlier life without a record of what follows from it.
    #[serde(default)]
    pub(crate) parted_ms: u64,
}

/// What is at hand while one event is taken.
pub(crate) struct Scene<'a> {
    pub id: PairId,
    pub rules: &'a PairPolicy,
    pub policy: &'a Policy,
    pub fitness: &'a Fitness,
    /// When automatic failovers of any pair were decided.
    pub automatic_wall_ms: &'a [i64],
    pub now: Now,
    pub out: &'a mut Vec<Command>,
}

impl Scene<'_> {
    pub fn now(&self) -> Now {
        self.now
    }

    /// Why we doubt ourselves, if we do.
    pub fn doubt(&self) -> Option<String> {
        self.fitness.doubt().map(|_| self.fitness.why(self.policy))
    }

    pub fn doubts(&self) -> bool {
        self.fitness.doubt().is_some()
    }

    pub fn notify(&mut self, notice: Notice) {
        self.out.push(Command::Notify { pair: Some(self.rules.name.clone()), notice });
    }

    pub fn page(&mut self, kind: PageKind, message: impl Into<String>) {
        let pair = Some(self.rules.name.clone());
        self.out.push(Command::Journal(Record::Paged { pair, kind }));
        self.notify(Notice::Page { kind, message: message.into() });
    }
}

/// Wall and monotonic clock that part by less than this were not set: they are not read at the same moment.
pub(crate) const PARTED_MS: u64 = 100;

impl PairState {
    pub(crate) fn restore(rules: &PairPolicy, mut durable: DurablePair, now: Now) -> Self {
        durable.lose_sight();
        if let Some(run) = &mut durable.run {
            run.rebase(now);
        }
        let unsent = durable.open_run().map(|run| run.running().map(|(step, attempt, _)| (step, attempt)).collect());
        Self {
            durable,
            signs: Signs::new(rules, now),
            verdict: Verdict::Suspect,
            verdict_since: now,
            hold: None,
            missing: None,
            lease_until_ms: None,
            lease_holder: None,
            paged: Vec::new(),
            denied: None,
            shadowed: false,
            role_since_ms: now.boot_ms,
            paused_until_ms: 0,
            unsent: unsent.unwrap_or_default(),
            parted_ms: 0,
        }
    }

    /// The same pair under other rules.
    pub(crate) fn under(mut self, before: &PairPolicy, rules: &PairPolicy, now: Now) -> Self {
        if before.probes != rules.probes || before.witnesses != rules.witnesses {
            self.signs = Signs::new(rules, now);
            self.hold = None;
        }
        if rules.hold_down < before.hold_down || before.at_least != rules.at_least || before.of != rules.of {
            self.hold = None;
        }
        self
    }

    /// Journals a record and takes it into what is durable: the one way to change that.
    pub(crate) fn journal(&mut self, scene: &mut Scene<'_>, record: Record) {
        self.durable.apply(&record, scene.now());
        if matches!(record, Record::RoleChanged { .. }) {
            self.role_since_ms = scene.now().boot_ms;
        }
        scene.out.push(Command::Journal(record));
    }

    /// What was under way goes on; a question that was open is void, since nobody watched meanwhile (S2).
    pub(crate) fn resume(&mut self, scene: &mut Scene<'_>) {
        if self.writes_at_all(scene.rules) {
            scene.out.push(Command::HoldLease { pair: scene.id });
        }
        if self.durable.role_untold {
            self.tell_role(scene);
        }
        if self.durable.open_run().is_some() && self.durable.blocked_until_wall_ms.is_none() {
            // The crash came between the run and its block.
            self.block(scene);
        }
        if self.durable.request.is_some() {
            self.void_request(scene, "the agent was restarted before it was answered");
        }
        self.look_before_going_on(scene);
        self.tell_stuck_again(scene);
    }

    /// A crash between the record of a stuck step and its page must not keep it from the humans: told once too often (L2).
    fn tell_stuck_again(&mut self, scene: &mut Scene<'_>) {
        let Some(run) = self.durable.open_run() else { return };
        let stuck: Vec<String> = run.stuck().map(|step| step.to_string()).collect();
        if stuck.is_empty() {
            return;
        }
        let (id, steps) = (run.id.clone(), stuck.join(", "));
        let hint = format!("`understudy retry {id}` tries again; see `understudy status`");
        scene.page(PageKind::Stuck, format!("run {id}: {steps} needs a human, told again after a restart; {hint}"));
    }

    /// Whether this pair may ever write, so that it needs its lease: not in observe, but an open run goes on.
    pub(crate) fn writes_at_all(&self, rules: &PairPolicy) -> bool {
        rules.mode != Mode::Observe || self.durable.open_run().is_some()
    }

    pub(crate) fn take(&mut self, scene: &mut Scene<'_>, event: Event) {
        match event {
            Event::Read { probe, observation, .. } => self.read(scene, usize::from(probe), observation),
            Event::MirrorRead { probe, started_ms, facts, .. } => {
                self.read_mirror(scene, usize::from(probe), started_ms, facts)
            }
            Event::ClockCompared { error_ms, .. } => self.compare_clock(scene, error_ms),
            Event::WitnessRead { witness, started_ms, report, .. } => {
                self.read_witness(scene, usize::from(witness), started_ms, report);
            }
            Event::Readiness { missing, .. } => self.missing = Some(missing),
            Event::Lease { until_ms, holder, epoch, .. } => {
                (self.lease_until_ms, self.lease_holder) = (until_ms, holder);
                self.follow_epoch(scene, epoch);
            }
            Event::StepNoted { run, step, key, value, ticket, .. } => self.note(scene, &run, step, key, value, ticket),
            Event::StepEnded { run, step, attempt, result, .. } => self.step_ended(scene, &run, step, attempt, result),
            Event::Ordered { by, order, ticket, .. } => {
                // The order is judged by the state as it is now, not as it was at the last look: a question may have expired.
                self.evaluate(scene);
                self.tend_request(scene);
                self.obey(scene, by, order, ticket);
            }
            Event::Tick | Event::SelfRead { .. } => {}
        }
        self.evaluate(scene);
        self.act(scene);
    }

    /// Another has led this pair since our last write: what we write from here on has an epoch of its own (S1).
    fn follow_epoch(&mut self, scene: &mut Scene<'_>, epoch: Option<u64>) {
        if let Some(epoch) = epoch.filter(|epoch| *epoch > self.durable.epoch) {
            let pair = scene.rules.name.clone();
            self.journal(scene, Record::Led { pair, epoch });
            self.renew_proofs(scene);
        }
    }

    /// Time went by.
    pub(crate) fn settle(&mut self, scene: &mut Scene<'_>) {
        let (now, rules) = (scene.now(), scene.rules);
        for (n, probe) in rules.probes.iter().enumerate() {
            if let Some((from, to)) = self.signs.signals[n].expire(fresh_ms(probe), now) {
                self.tell_signal(scene, n, from, to);
            }
        }
        for (n, witness) in rules.witnesses.iter().enumerate() {
            let state = &mut self.signs.witnesses[n];
            let before = state.says();
            state.expire(millis(2 * witness.period + witness.timeout), now);
            self.tell_witness(scene, n, before);
        }
        self.end_pause(scene);
        self.evaluate(scene);
        self.act(scene);
    }

    fn read(&mut self, scene: &mut Scene<'_>, probe: usize, seen: Observation) {
        let Some(rules) = scene.rules.probes.get(probe) else { return };
        if rules.site == Site::A && seen.reading.is_up() {
            self.tell_life(scene, seen.started_ms, || format!("probe {}", rules.name));
        }
        let change = self.signs.signals[probe].take(rules.fall, rules.rise, seen, scene.now());
        if let Some((from, to)) = change {
            self.tell_signal(scene, probe, from, to);
        }
    }

    fn read_witness(&mut self, scene: &mut Scene<'_>, witness: usize, started_ms: u64, report: WitnessReport) {
        let Some(rules) = scene.rules.witnesses.get(witness) else { return };
        let before = self.signs.witnesses[witness].says();
        self.signs.witnesses[witness].take(started_ms, report);
        if self.signs.witnesses[witness].saw_life_ms == Some(started_ms) {
            self.tell_life(scene, started_ms, || format!("witness {}", rules.name));
        }
        self.tell_witness(scene, witness, before);
    }

    fn tell_witness(&mut self, scene: &mut Scene<'_>, witness: usize, before: WitnessSays) {
        let says = self.signs.witnesses[witness].says();
        if says != before {
            let (pair, witness) = (scene.rules.name.clone(), scene.rules.witnesses[witness].name.clone());
            self.journal(scene, Record::Witness { pair, witness, says });
        }
    }

    /// Life is worth a record where it must have an effect: while a hold-down runs, or a run that it stops (S4).
    fn tell_life(&mut self, scene: &mut Scene<'_>, at_ms: u64, what: impl FnOnce() -> String) {
        let breaks = self.hold.is_some_and(|hold| at_ms >= hold.since.boot_ms);
        let stops = |run: &Run| {
            let bound = !run.authority.is_forced() && run.phase == Phase::Forward && !run.was_begun(Step::Promote);
            bound && at_ms > run.life_since_ms
        };
        if breaks || self.durable.open_run().is_some_and(stops) {
            if let Some(hold) = &mut self.hold {
                hold.alive = true;
            }
            let (pair, what) = (scene.rules.name.clone(), what());
            self.journal(scene, Record::Life { pair, what });
        }
    }

    fn tell_signal(&mut self, scene: &mut Scene<'_>, probe: usize, from: crate::Reading, to: crate::Reading) {
        let (pair, probe) = (scene.rules.name.clone(), scene.rules.probes[probe].name.clone());
        self.journal(scene, Record::Signal { pair, probe, from, to });
    }

    /// An advance of the primary's snapshots is life; no advance is nothing at all, and it never votes Down (S4).
    fn read_mirror(&mut self, scene: &mut Scene<'_>, probe: usize, started_ms: u64, facts: MirrorFacts) {
        self.learn_times(scene, &facts);
        let advanced = self.signs.take_mirror(started_ms, facts);
        let reading = if advanced { crate::Reading::Up } else { crate::Reading::Unknown(crate::Reason::NoAdvance) };
        self.read(scene, probe, Observation { reading, started_ms, latency_ms: 0, detail: None });
    }

    /// Writes down when A took what is at B. A living A that is fenced goes on taking snapshots, so that a run learns too,
    /// until B's images are about to be primaries themselves (S8).
    pub(crate) fn learn_times(&mut self, scene: &mut Scene<'_>, facts: &MirrorFacts) {
        let copies = |run: &Run| !run.was_begun(Step::Promote);
        if self.durable.role != Role::AtA && !self.durable.open_run().is_some_and(copies) {
            return;
        }
        for image in &facts.images {
            let (Some(snapshot), Some(time_ms)) = (image.newest_complete, image.source_time_ms) else { continue };
            if self.durable.times.is_news(&image.image, snapshot, time_ms) && !self.is_of_the_future(scene, time_ms) {
                let (pair, image) = (scene.rules.name.clone(), image.image.clone());
                self.journal(scene, Record::SourceTime { pair, image, snapshot, time_ms });
            }
        }
    }

    /// A snapshot that was taken later than now, by more than the clocks were last seen apart: A's clock was set since, and
    /// until it is measured anew nobody can tell when A took this (S8).
    fn is_of_the_future(&self, scene: &Scene<'_>, time_ms: i64) -> bool {
        self.durable.clock_error_ms.is_some_and(|error| time_ms > scene.now().wall_ms.saturating_add(signed(error)))
    }

    /// The clock error is what was measured last while A lived; small changes are not worth a record.
    fn compare_clock(&mut self, scene: &mut Scene<'_>, error_ms: u64) {
        const WORTH_MS: u64 = 1000;
        let known = self.durable.clock_error_ms;
        let news = known.is_none_or(|known| error_ms > known || known - error_ms > WORTH_MS);
        if news && self.durable.role == Role::AtA {
            let pair = scene.rules.name.clone();
            self.journal(scene, Record::ClockError { pair, error_ms });
        }
    }

    /// Our own clock was set by `parted_ms`: what was measured of A's clock is wrong by as much, until it is measured anew.
    /// Else a clock set back after A's death would make the loss look smaller than it is (S8).
    pub(crate) fn widen_clock_error(&mut self, scene: &mut Scene<'_>, parted_ms: u64) {
        let Some(known) = self.durable.clock_error_ms else { return };
        if parted_ms > PARTED_MS && self.durable.role != Role::AtB {
            let (pair, error_ms) = (scene.rules.name.clone(), known.saturating_add(parted_ms));
            self.journal(scene, Record::ClockError { pair, error_ms });
        }
    }

    fn end_pause(&mut self, scene: &mut Scene<'_>) {
        let until = self.durable.pause.as_ref().and_then(|pause| pause.until_wall_ms);
        // A wall clock that was set forward ends no pause: it must be over by both clocks.
        let over = until.is_some_and(|until| scene.now().wall_ms >= until);
        if over && scene.now().boot_ms >= self.paused_until_ms {
            let pair = scene.rules.name.clone();
            self.journal(scene, Record::Resumed { pair, by: None });
        }
    }

    /// Which place counts as the active one: what has to live.
    #[must_use]
    pub fn active_site(&self) -> Site {
        match self.durable.role {
            Role::AtA | Role::Moving { .. } => Site::A,
            Role::AtB => Site::B,
        }
    }

    /// Brings hold-down and verdict up to date with the signals.
    fn evaluate(&mut self, scene: &mut Scene<'_>) {
        let now = scene.now();
        let seen = self.signs.assess(scene.rules, self.active_site(), now);
        self.advance_hold(scene, &seen);
        let verdict = if scene.doubts() {
            Verdict::Blind
        } else if self.active_site() == Site::B {
            verdict_at_b(&seen)
        } else {
            verdict_at_a(&seen, self.hold_is_complete(scene.rules, &seen, now))
        };
        if verdict == Verdict::Up && !self.durable.seen_alive {
            let pair = scene.rules.name.clone();
            self.journal(scene, Record::SeenAlive { pair });
        }
        if verdict != self.verdict {
            self.change_verdict(scene, verdict, &seen);
        }
        if self.active_site() == Site::B {
            self.watch_for_return(scene);
        }
    }

    /// Hold-down is continuous, witnessed time: whatever breaks the quorum ends it (S5).
    fn advance_hold(&mut self, scene: &mut Scene<'_>, seen: &Assessment) {
        let now = scene.now();
        let Some(hold) = &mut self.hold else {
            let may_begin = seen.quorum_down && !seen.flapping && !scene.doubts();
            if may_begin && self.active_site() == Site::A {
                self.hold = Some(Hold {
                    since: now,
                    rounds: 0,
                    next_round_ms: now.boot_ms + round_ms(scene.rules),
                    alive: false,
                });
                let pair = scene.rules.name.clone();
                self.journal(scene, Record::HoldDownBegan { pair });
            }
            return;
        };
        let cause = if let Some(doubt) = scene.doubt() {
            Some(format!("we doubt ourselves: {doubt}"))
        } else if self.durable.role == Role::AtB {
            Some("B is the active site now".into())
        } else if hold.alive {
            self.signs.life_source(scene.rules).map(|(what, _)| format!("{what} saw A alive"))
        } else if seen.flapping {
            Some("a signal is flapping".into())
        } else if !seen.quorum_down {
            Some("the quorum is no longer Down, or can not be witnessed".into())
        } else {
            None
        };
        if let Some(cause) = cause {
            self.hold = None;
            let pair = scene.rules.name.clone();
            self.journal(scene, Record::HoldDownBroken { pair, cause });
        } else if now.boot_ms >= hold.next_round_ms {
            hold.rounds = hold.rounds.saturating_add(1);
            hold.next_round_ms = now.boot_ms + round_ms(scene.rules);
            let (number, held_ms) = (hold.rounds, millis(now.since(hold.since.boot_ms)));
            // Once the verdict stands, further rounds are no news.
            if self.verdict != Verdict::SiteDown {
                let pair = scene.rules.name.clone();
                self.journal(scene, Record::Round { pair, number, held_ms });
            }
        }
    }

    fn hold_is_complete(&self, rules: &PairPolicy, seen: &Assessment, now: Now) -> bool {
        let vetoed = seen.life_ms.is_some_and(|at| now.since(at) < rules.veto_within);
        self.hold.is_some_and(|hold| {
            now.since(hold.since.boot_ms) >= rules.hold_down && hold.rounds >= MIN_ROUNDS && !vetoed
        })
    }

    fn change_verdict(&mut self, scene: &mut Scene<'_>, to: Verdict, seen: &Assessment) {
        let from = std::mem::replace(&mut self.verdict, to);
        self.verdict_since = scene.now();
        self.shadowed = false;
        let cause = self.cause(scene, to, seen);
        let pair = scene.rules.name.clone();
        self.journal(scene, Record::Verdict { pair, from, to, cause: cause.clone() });
        scene.notify(Notice::VerdictChanged { from, to, cause: cause.clone() });
        match to {
            Verdict::Up => self.paged.clear(),
            Verdict::ServiceDown if self.active_site() == Site::B => {
                self.page_once(scene, PageKind::StandbyDown, format!("Nexus at B is down while B is active: {cause}"));
            }
            Verdict::ServiceDown => {
                let advice = "its site lives, so nothing is forced: mend it there, or plan a switchover";
                self.page_once(scene, PageKind::ServiceDown, format!("Nexus at A is down: {cause}; {advice}"));
            }
            Verdict::StorageDown => {
                let advice = format!(
                    "`understudy failover {} --force --reason …` would use A's living API as its fence",
                    scene.rules.name
                );
                self.page_once(scene, PageKind::StorageDown, format!("A's Ceph is down: {cause}; {advice}"));
            }
            Verdict::SiteDown | Verdict::Suspect | Verdict::Blind => {}
        }
    }

    fn cause(&self, scene: &Scene<'_>, to: Verdict, seen: &Assessment) -> String {
        if to == Verdict::Blind {
            return scene.doubt().unwrap_or_default();
        }
        if to == Verdict::SiteDown {
            return "quorum Down, no sign of life, hold-down complete".into();
        }
        if seen.flapping {
            return "a signal is flapping".into();
        }
        let site = self.active_site();
        let bad = self.signs.voters(scene.rules, site).filter(|(_, s)| !s.state.is_up());
        let named: Vec<String> = bad.map(|(probe, signal)| format!("{} is {}", probe.name, signal.state)).collect();
        if named.is_empty() { "every probe is Up".into() } else { named.join(", ") }
    }

    pub(crate) fn page_once(&mut self, scene: &mut Scene<'_>, kind: PageKind, message: impl Into<String>) {
        if !self.paged.contains(&kind) {
            self.paged.push(kind);
            scene.page(kind, message);
        }
    }

    /// B is active. A that serves again is told, and nothing else: no write ever makes it the active site by itself (S12).
    fn watch_for_return(&mut self, scene: &mut Scene<'_>) {
        if self.durable.return_told {
            return;
        }
        let since_ms = self.role_since_ms;
        let serving = |(probe, signal): (&crate::ProbePolicy, &Signal)| {
            let up = signal.state.is_up() && signal.last.is_up() && signal.read_since(since_ms);
            (up && probe.domain == crate::Domain::Service).then(|| probe.name.clone())
        };
        let found = self.signs.voters(scene.rules, Site::A).find_map(serving);
        let served = found.map(|name| format!("probe {name} finds the old primary serving"));
        let Some(seen) = served.or_else(|| self.two_primaries()) else { return };
        let pair = scene.rules.name.clone();
        self.journal(scene, Record::OldPrimaryReturned { pair, seen: seen.clone() });
        let advice = "two sites may take writes: keep users away from A, stop its Nexus; the route stays at B";
        scene.page(PageKind::OldPrimaryReturned, format!("{seen}; {advice}"));
    }

    /// An image that is primary at both sites, by a look that began long enough after B's was promoted: what is known of a
    /// mirror daemon that has died counts as news for half a minute.
    fn two_primaries(&self) -> Option<String> {
        const OLD_NEWS_MS: u64 = 60_000;
        let (_, facts) = self.signs.mirror.as_ref().filter(|(at_ms, _)| *at_ms > self.role_since_ms + OLD_NEWS_MS)?;
        let both = facts.images.iter().find(|image| image.primary && image.peer_primary)?;
        Some(format!("image {} is primary at both sites", both.image))
    }

    /// Whatever the state asks for now.
    fn act(&mut self, scene: &mut Scene<'_>) {
        self.tend_request(scene);
        if self.durable.open_run().is_some() {
            self.drive(scene);
        } else {
            self.decide(scene);
        }
    }

    pub(crate) fn ack(scene: &mut Scene<'_>, ticket: Ticket, go_on: bool) {
        scene.out.push(Command::Ack { ticket, go_on });
    }
}
