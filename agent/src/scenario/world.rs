//! The two sites of a scenario: what each look would find, what arrives at B, how each step goes.
//!
//! In: [`Change`]s of the timeline. Out: readings, facts and results, when the player asks for them.

use std::collections::BTreeMap;
use std::time::Duration;

use understudy_core::{
    Domain, FenceOutcome, Finding, ImageFacts, ImageName, MirrorFacts, Now, PairPolicy, Policy, ProbePolicy, Reading,
    Reason, Site, Step, StepResult, WitnessReport, millis, signed,
};

use super::file::Mirror;
use super::story::{Change, Lease};
use super::words::{Going, Look, Testimony};

/// A takes a snapshot so often, if the scenario does not say.
const EVERY: Duration = Duration::from_secs(60);
/// What a comparison of the clocks tells, if the scenario does not say, in milliseconds.
const CLOCK_ERROR_MS: u64 = 500;
/// How long an ordinary step takes.
const STEP: Duration = Duration::from_secs(1);

/// Words that are said one after the other, again and again.
#[derive(Debug, Clone)]
struct Cycle<T> {
    words: Vec<T>,
    next: usize,
}

impl<T: Clone> Cycle<T> {
    fn of(word: T) -> Self {
        Self { words: vec![word], next: 0 }
    }

    fn say(&mut self) -> T {
        let word = self.words[self.next % self.words.len()].clone();
        self.next += 1;
        word
    }

    fn replace(&mut self, words: Vec<T>) {
        *self = Self { words, next: 0 };
    }
}

/// Both sites, and what stands between them.
#[derive(Debug, Clone)]
pub struct World {
    own: Vec<Cycle<Look>>,
    pairs: Vec<Pair>,
}

#[derive(Debug, Clone)]
struct Pair {
    probes: Vec<Cycle<Look>>,
    witnesses: Vec<Cycle<Testimony>>,
    images: Vec<Image>,
    clock_error_ms: Option<u64>,
    lease: Lease,
    missing: Vec<String>,
    steps: BTreeMap<Step, Vec<Going>>,
    /// How often each step was run.
    runs: BTreeMap<Step, usize>,
    /// The scenario itself says what B's probes see.
    b_is_told: bool,
}

/// An image, as its copy at B looks.
#[derive(Debug, Clone)]
struct Image {
    name: ImageName,
    newest: u64,
    source_ms: i64,
    next_ms: u64,
    every: Duration,
    stopped: bool,
    syncing: bool,
    complete: bool,
    times: bool,
    orphan: bool,
}

impl World {
    /// Two well sites: A serves, B stands by.
    pub fn healthy(policy: &Policy, now: Now) -> Self {
        let up = Cycle::of(Look::Up(Duration::from_millis(5)));
        Self {
            own: policy.self_checks.iter().map(|_| up.clone()).collect(),
            pairs: policy.pairs.iter().map(|rules| Pair::healthy(rules, now)).collect(),
        }
    }

    /// The same world under other rules: what is new sees a well site.
    pub fn under(&mut self, before: &Policy, policy: &Policy, now: Now) {
        let fresh = World::healthy(policy, now);
        let old = std::mem::replace(self, fresh);
        for (n, check) in policy.self_checks.iter().enumerate() {
            if let Some(was) = before.self_checks.iter().position(|c| c.name == check.name) {
                self.own[n] = old.own[was].clone();
            }
        }
        for (n, rules) in policy.pairs.iter().enumerate() {
            let Some(was) = before.pairs.iter().position(|pair| pair.name == rules.name) else { continue };
            self.pairs[n].take_over(rules, &before.pairs[was], &old.pairs[was]);
        }
    }

    /// Takes a change of the timeline.
    pub fn change(&mut self, policy: &Policy, change: &Change, now: Now) {
        match change {
            Change::SelfCheck { check, looks } => self.own[*check].replace(looks.clone()),
            Change::Probe { pair, probe, looks } => {
                let state = &mut self.pairs[*pair];
                state.b_is_told |= policy.pairs[*pair].probes[*probe].site == Site::B;
                state.probes[*probe].replace(looks.clone());
            }
            Change::Witness { pair, witness, says } => self.pairs[*pair].witnesses[*witness].replace(says.clone()),
            Change::Mirror { pair, image, mirror } => {
                for (n, state) in self.pairs[*pair].images.iter_mut().enumerate() {
                    if image.is_none_or(|one| one == n) {
                        state.change(mirror, now);
                    }
                }
            }
            Change::ClockError { pair, error_ms } => self.pairs[*pair].clock_error_ms = *error_ms,
            Change::Lease { pair, lease } => self.pairs[*pair].lease = lease.clone(),
            Change::Missing { pair, missing } => self.pairs[*pair].missing.clone_from(missing),
            Change::Step { pair, step, goings } => {
                self.pairs[*pair].steps.insert(*step, goings.clone());
                self.pairs[*pair].runs.remove(step);
            }
            // These befall the daemon, not its world.
            Change::WallClock(_) | Change::Daemon(_) | Change::Reload(_) => {}
        }
    }

    /// What a self-check sees now, and after which time; none = no news.
    pub fn look_at_ourselves(&mut self, check: usize, timeout: Duration) -> Option<(Reading, Duration)> {
        read(self.own[check].say(), timeout)
    }

    /// What a probe sees now, and after which time; none = no news.
    pub fn look(&mut self, pair: usize, probe: usize, timeout: Duration) -> Option<(Reading, Duration)> {
        read(self.pairs[pair].probes[probe].say(), timeout)
    }

    /// What a witness answers now.
    pub fn testimony(&mut self, pair: usize, witness: usize) -> WitnessReport {
        let sees = |domains: Vec<Domain>, reading| WitnessReport::Sees {
            domains: domains.into_iter().map(|domain| (domain, reading)).collect(),
        };
        match self.pairs[pair].witnesses[witness].say() {
            Testimony::Up(domains) => sees(domains, Reading::Up),
            Testimony::Down(domains) => sees(domains, Reading::Down(Reason::Refused)),
            Testimony::Unknown => sees(vec![Domain::Service, Domain::ControlPlane], Reading::Unknown(Reason::Unmapped)),
            Testimony::Blind => WitnessReport::Blind,
            Testimony::Silent(why) => WitnessReport::Absent { why },
        }
    }

    /// The mirrored images as a look at B finds them now.
    pub fn mirror(&mut self, pair: usize, rules: &PairPolicy, now: Now) -> MirrorFacts {
        let lives = self.storage_lives(pair, rules);
        let images = &mut self.pairs[pair].images;
        images.iter_mut().for_each(|image| image.arrive(lives, now));
        MirrorFacts { images: images.iter().map(|image| image.facts(lives)).collect() }
    }

    /// A takes snapshots while its storage serves; where nothing looks at the storage, while anything of A serves.
    fn storage_lives(&self, pair: usize, rules: &PairPolicy) -> bool {
        let looked = rules.probes.iter().zip(&self.pairs[pair].probes);
        let voters: Vec<(&ProbePolicy, bool)> = looked
            .filter(|(rule, _)| rule.votes && rule.site == Site::A)
            .map(|(rule, cycle)| (rule, cycle.words.iter().any(|word| matches!(word, Look::Up(_)))))
            .collect();
        let mut storage = voters.iter().filter(|(rule, _)| rule.domain == Domain::Storage).peekable();
        if storage.peek().is_some() { storage.all(|(_, up)| *up) } else { voters.iter().any(|(_, up)| *up) }
    }

    /// What a comparison of the clocks tells, while A's Nexus answers.
    pub fn clock_error_ms(&self, pair: usize, rules: &PairPolicy) -> Option<u64> {
        let mut looked = rules.probes.iter().zip(&self.pairs[pair].probes);
        let answers = looked.any(|(rule, cycle)| {
            rule.site == Site::A && rule.domain == Domain::Service && matches!(cycle.words[0], Look::Up(_))
        });
        self.pairs[pair].clock_error_ms.filter(|_| answers)
    }

    /// Who holds the lease.
    pub fn lease(&self, pair: usize) -> &Lease {
        &self.pairs[pair].lease
    }

    /// What B lacks.
    pub fn missing(&self, pair: usize) -> Vec<String> {
        self.pairs[pair].missing.clone()
    }

    /// Runs a step: how it ends, and after which time; none = it hangs.
    pub fn run(&mut self, pair: usize, rules: &PairPolicy, step: Step, now: Now) -> Option<(StepResult, Duration)> {
        let going = self.going(pair, step);
        let (after, finding) = match going {
            Going::Hangs => return None,
            Going::Fails(failure, message) => return Some((StepResult::Failed { failure, message }, STEP)),
            Going::Done(after) => (after, Finding::Nothing),
            Going::Fence { confirmed: true } => {
                let outcome = FenceOutcome::Confirmed { how: "nothing of A can write".into(), at_wall_ms: now.wall_ms };
                (STEP, Finding::Fence(outcome))
            }
            Going::Fence { confirmed: false } => {
                (STEP, Finding::Fence(FenceOutcome::Unconfirmed { why: "A does not answer".into() }))
            }
        };
        let finding = match step {
            Step::ConsistencyPoint => Finding::Mirror(self.mirror(pair, rules, now)),
            Step::Verify => Finding::Nonce("dr-canary/nonce".into()),
            _ => finding,
        };
        Some((StepResult::Done { detail: String::new(), finding }, after))
    }

    fn going(&mut self, pair: usize, step: Step) -> Going {
        let state = &mut self.pairs[pair];
        let run = state.runs.entry(step).or_default();
        let before = *run;
        *run += 1;
        match state.steps.get(&step) {
            Some(goings) => goings[before.min(goings.len() - 1)].clone(),
            None if step == Step::Fence => Going::Fence { confirmed: false },
            None => Going::Done(STEP),
        }
    }

    /// A step was carried out at B: its own Nexus serves once it is deployed, unless the scenario says otherwise.
    pub fn carried_out(&mut self, pair: usize, rules: &PairPolicy, step: Step) {
        let last = if rules.plan.kubernetes { Step::Deploy } else { Step::Promote };
        let state = &mut self.pairs[pair];
        if step != last || state.b_is_told {
            return;
        }
        for (rule, cycle) in rules.probes.iter().zip(&mut state.probes) {
            if rule.site == Site::B {
                cycle.replace(vec![Look::Up(Duration::from_millis(5))]);
            }
        }
    }
}

impl Pair {
    fn healthy(rules: &PairPolicy, now: Now) -> Self {
        let look = |probe: &ProbePolicy| match probe.site {
            Site::A => Cycle::of(Look::Up(Duration::from_millis(5))),
            Site::B => Cycle::of(Look::Down(Reason::Refused)),
        };
        Self {
            probes: rules.probes.iter().map(look).collect(),
            witnesses: rules
                .witnesses
                .iter()
                .map(|_| Cycle::of(Testimony::Up(vec![Domain::Service, Domain::ControlPlane])))
                .collect(),
            images: rules.images.iter().map(|name| Image::new(name, now)).collect(),
            clock_error_ms: Some(CLOCK_ERROR_MS),
            lease: Lease::Ours,
            missing: vec![],
            steps: BTreeMap::new(),
            runs: BTreeMap::new(),
            b_is_told: false,
        }
    }

    fn take_over(&mut self, rules: &PairPolicy, before: &PairPolicy, old: &Pair) {
        let fresh = std::mem::replace(self, old.clone());
        let named = |name: &str| before.probes.iter().position(|probe| probe.name == name);
        let probes = rules.probes.iter().zip(fresh.probes);
        self.probes = probes.map(|(rule, new)| named(&rule.name).map_or(new, |was| old.probes[was].clone())).collect();
        let heard = |name: &str| before.witnesses.iter().position(|witness| witness.name == name);
        let witnesses = rules.witnesses.iter().zip(fresh.witnesses);
        self.witnesses =
            witnesses.map(|(rule, new)| heard(&rule.name).map_or(new, |was| old.witnesses[was].clone())).collect();
        let images = fresh.images.into_iter();
        self.images =
            images.map(|new| old.images.iter().find(|was| was.name == new.name).cloned().unwrap_or(new)).collect();
    }
}

impl Image {
    fn new(name: &ImageName, now: Now) -> Self {
        Self {
            name: name.clone(),
            newest: 10,
            source_ms: now.wall_ms,
            next_ms: now.boot_ms + millis(EVERY),
            every: EVERY,
            stopped: false,
            syncing: false,
            complete: true,
            times: true,
            orphan: false,
        }
    }

    /// Every snapshot that A took until now has arrived, if its storage lives.
    fn arrive(&mut self, lives: bool, now: Now) {
        while self.next_ms <= now.boot_ms {
            if lives && !self.stopped && !self.syncing {
                self.newest += 1;
                self.source_ms = now.wall_ms - signed(now.boot_ms - self.next_ms);
            }
            self.next_ms += millis(self.every).max(1);
        }
    }

    fn facts(&self, lives: bool) -> ImageFacts {
        let newest = self.complete.then_some(self.newest);
        ImageFacts {
            image: self.name.clone(),
            primary: false,
            newest_complete: newest,
            syncing: self.syncing.then_some(self.newest + 1),
            progress: None,
            source_time_ms: newest.filter(|_| self.times && lives).map(|_| self.source_ms),
            orphan: self.orphan,
            peer_primary: false,
        }
    }

    fn change(&mut self, to: &Mirror, now: Now) {
        if let Some(every) = to.every {
            self.every = every.0;
            self.next_ms = now.boot_ms + millis(every.0);
        }
        if let Some(age) = to.age {
            self.newest += 1;
            self.source_ms = now.wall_ms - signed(millis(age.0));
            self.stopped = true;
        }
        self.stopped = to.stopped.unwrap_or(self.stopped);
        self.syncing = to.syncing.unwrap_or(self.syncing);
        self.complete = to.complete.unwrap_or(self.complete);
        self.times = to.times.unwrap_or(self.times);
        self.orphan = to.orphan.unwrap_or(self.orphan);
    }
}

/// A look ends at its time-out at the latest: what would answer later is silent.
fn read(look: Look, timeout: Duration) -> Option<(Reading, Duration)> {
    match look {
        Look::Up(after) if after > timeout => Some((Reading::Down(Reason::TimedOut), timeout)),
        Look::Up(after) => Some((Reading::Up, after)),
        Look::Down(reason @ (Reason::TimedOut | Reason::StorageSilent)) => Some((Reading::Down(reason), timeout)),
        Look::Down(reason) => Some((Reading::Down(reason), Duration::from_millis(1))),
        Look::Unknown(reason) => Some((Reading::Unknown(reason), Duration::from_millis(1))),
        Look::Silent => None,
    }
}
