//! From signals to a pair's verdict: domains, quorum, vetoes, hold-down.

use crate::policy::{PairPolicy, ProbePolicy, WitnessKind};
use crate::reading::{Domain, Reading, Site};
use crate::signal::Signal;
use crate::time::{Now, millis};
use crate::{MirrorFacts, Verdict, WitnessReport, WitnessSays};

/// A domain, from all probes that can vote on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DomainState {
    /// Nobody can vote on it.
    NoVoter,
    /// Every voter is Up.
    Up,
    /// Every voter is Down.
    Down,
    /// The voters disagree, at least one is Down: shown, and never a vote for the death of the site (S4).
    Partly,
    /// At least one voter can not tell, none is Down.
    Unknown,
}

/// A witness as last heard.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct WitnessState {
    /// When the last look began.
    pub last_started_ms: Option<u64>,
    /// What it said.
    pub report: WitnessReport,
    /// Since when it has said Down in two domains without a break.
    pub down_since_ms: Option<u64>,
    /// When it last saw the primary alive.
    pub saw_life_ms: Option<u64>,
}

impl WitnessState {
    pub(crate) fn new() -> Self {
        Self {
            last_started_ms: None,
            report: WitnessReport::Absent { why: "not heard yet".into() },
            down_since_ms: None,
            saw_life_ms: None,
        }
    }

    pub(crate) fn take(&mut self, started_ms: u64, report: WitnessReport) {
        if self.last_started_ms.is_some_and(|last| started_ms < last) {
            return;
        }
        self.last_started_ms = Some(started_ms);
        if says_life(&report) {
            self.saw_life_ms = Some(started_ms);
        }
        self.down_since_ms = if says_down(&report) { self.down_since_ms.or(Some(started_ms)) } else { None };
        self.report = report;
    }

    /// What it says, as far as decisions differ by it.
    pub(crate) fn says(&self) -> WitnessSays {
        match &self.report {
            WitnessReport::Absent { .. } => WitnessSays::Absent,
            WitnessReport::Blind => WitnessSays::Blind,
            sees if says_life(sees) => WitnessSays::Alive,
            sees if says_down(sees) => WitnessSays::Down,
            WitnessReport::Sees { .. } => WitnessSays::Unsure,
        }
    }

    /// Silence makes a witness absent.
    pub(crate) fn expire(&mut self, fresh_ms: u64, now: Now) {
        if self.last_started_ms.is_some_and(|last| now.boot_ms.saturating_sub(last) > fresh_ms) {
            self.report = WitnessReport::Absent { why: "silent".into() };
            self.down_since_ms = None;
        }
    }
}

fn says_life(report: &WitnessReport) -> bool {
    matches!(report, WitnessReport::Sees { domains } if domains.iter().any(|(_, reading)| reading.is_up()))
}

/// A witness that itself votes Down in at least two domains (S2), and sees nothing of A alive.
fn says_down(report: &WitnessReport) -> bool {
    let WitnessReport::Sees { domains } = report else { return false };
    if says_life(report) {
        return false;
    }
    let down = |d: Domain| domains.iter().any(|(domain, reading)| *domain == d && reading.is_down());
    Domain::ALL.into_iter().filter(|d| down(*d)).count() >= 2
}

/// A hold-down that is running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Hold {
    /// When the quorum was first Down.
    pub since: Now,
    /// Rounds witnessed since.
    pub rounds: u32,
    /// When the next round closes.
    pub next_round_ms: u64,
    /// A was heard alive since.
    #[serde(default)]
    pub alive: bool,
}

/// Fewest rounds of the slowest quorum probe in a hold-down, whatever the file says (S5).
pub const MIN_ROUNDS: u32 = 3;

/// What the signals say together, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Assessment {
    pub domains: [DomainState; 3],
    pub quorum_down: bool,
    pub flapping: bool,
    /// The last sign of life of A: when.
    pub life_ms: Option<u64>,
    /// The service is not well, and the control plane or the storage was read Up *since*: domains of a dying site fall one
    /// after the other, and the first of them must not be taken for the only one.
    pub service_alone: bool,
    /// The same for the storage beside the control plane.
    pub storage_alone: bool,
}

/// The signs of the pair, without what is durable.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Signs {
    /// One signal a probe.
    pub signals: Vec<Signal>,
    /// One entry a witness.
    pub witnesses: Vec<WitnessState>,
    /// The mirrored images as last seen, and when the look began.
    pub mirror: Option<(u64, MirrorFacts)>,
    /// When a new mirror snapshot of the primary was last seen.
    pub advance_ms: Option<u64>,
}

impl Signs {
    pub(crate) fn new(policy: &PairPolicy, now: Now) -> Self {
        Self {
            signals: policy.probes.iter().map(|_| Signal::new(now)).collect(),
            witnesses: policy.witnesses.iter().map(|_| WitnessState::new()).collect(),
            mirror: None,
            advance_ms: None,
        }
    }

    /// Takes a look at the mirrored images; whether it showed an advance of the primary.
    pub(crate) fn take_mirror(&mut self, started_ms: u64, facts: MirrorFacts) -> bool {
        if self.mirror.as_ref().is_some_and(|(last, _)| started_ms < *last) {
            return false;
        }
        let newest = |f: &MirrorFacts, n: usize| f.images.get(n).and_then(|i| i.newest_complete.max(i.syncing));
        let advanced = self.mirror.as_ref().is_some_and(|(_, before)| {
            (0..facts.images.len()).any(|n| newest(before, n).is_some() && newest(&facts, n) > newest(before, n))
        });
        if advanced {
            self.advance_ms = Some(started_ms);
        }
        self.mirror = Some((started_ms, facts));
        advanced
    }

    pub(crate) fn assess(&self, policy: &PairPolicy, site: Site, now: Now) -> Assessment {
        let domains = Domain::ALL.map(|d| self.domain(policy, site, d));
        let down = domains_of(policy).filter(|d| domains[*d as usize] == DomainState::Down).count();
        Assessment {
            domains,
            quorum_down: down >= usize::from(policy.at_least.max(1)),
            flapping: self.voters(policy, site).any(|(_, signal)| signal.is_flapping(&policy.flap, now)),
            life_ms: self.life_ms(policy),
            service_alone: self.fell_alone(policy, site, Domain::Service, &[Domain::ControlPlane, Domain::Storage]),
            storage_alone: self.fell_alone(policy, site, Domain::Storage, &[Domain::ControlPlane]),
        }
    }

    /// Whether one of `others` was read Up after the last voter of `domain` that is Down fell, and those voters were read
    /// Down after that one had become Up: of a site that returns, one domain rises before the other.
    fn fell_alone(&self, policy: &PairPolicy, site: Site, domain: Domain, others: &[Domain]) -> bool {
        let down = || self.voters(policy, site).filter(|(p, s)| p.domain == domain && s.state.is_down());
        let Some(fell_ms) = down().map(|(_, s)| s.since.boot_ms).max() else { return false };
        let still_down = |since_ms: u64| down().all(|(_, s)| s.last.is_down() && s.read_since(since_ms));
        let mut alive = self.voters(policy, site).filter(|(p, _)| others.contains(&p.domain));
        alive.any(|(_, s)| s.state.is_up() && s.last.is_up() && s.read_since(fell_ms) && still_down(s.since.boot_ms))
    }

    fn domain(&self, policy: &PairPolicy, site: Site, domain: Domain) -> DomainState {
        let (mut voters, mut up, mut down) = (0, 0, 0);
        for (probe, signal) in self.voters(policy, site) {
            if probe.domain == domain {
                voters += 1;
                up += usize::from(signal.state.is_up());
                down += usize::from(signal.state.is_down());
            }
        }
        match (voters, up, down) {
            (0, _, _) => DomainState::NoVoter,
            (v, u, _) if u == v => DomainState::Up,
            (v, _, d) if d == v => DomainState::Down,
            (_, _, 0) => DomainState::Unknown,
            _ => DomainState::Partly,
        }
    }

    /// The last moment at which anything of A was seen alive: a probe, an advance of its snapshots, a witness' eyes (S4).
    fn life_ms(&self, policy: &PairPolicy) -> Option<u64> {
        let probes = policy.probes.iter().zip(&self.signals).filter(|(probe, _)| probe.site == Site::A);
        let read = probes.filter_map(|(_, signal)| signal.last_up_ms).max();
        let witnessed = self.witnesses.iter().filter_map(|w| w.saw_life_ms).max();
        read.max(witnessed).max(self.advance_ms)
    }

    /// What of A was last seen alive, in words.
    pub(crate) fn life_source(&self, policy: &PairPolicy) -> Option<(String, u64)> {
        let probes = policy.probes.iter().zip(&self.signals).filter(|(probe, _)| probe.site == Site::A);
        let read =
            probes.filter_map(|(probe, signal)| signal.last_up_ms.map(|at| (format!("probe {}", probe.name), at)));
        let named = policy.witnesses.iter().zip(&self.witnesses);
        let witnessed = named.filter_map(|(w, state)| state.saw_life_ms.map(|at| (format!("witness {}", w.name), at)));
        let advance = self.advance_ms.map(|at| ("an advance of the primary's mirror snapshot".to_owned(), at));
        read.chain(witnessed).chain(advance).max_by_key(|(_, at)| *at)
    }

    /// The probes of `site` that can say Down, with their signals.
    pub(crate) fn voters<'a>(
        &'a self,
        policy: &'a PairPolicy,
        site: Site,
    ) -> impl Iterator<Item = (&'a ProbePolicy, &'a Signal)> {
        policy.probes.iter().zip(&self.signals).filter(move |(probe, _)| probe.site == site && probe.votes)
    }

    /// Those of them whose domain is part of the quorum.
    pub(crate) fn quorum<'a>(&'a self, policy: &'a PairPolicy) -> impl Iterator<Item = (&'a ProbePolicy, &'a Signal)> {
        self.voters(policy, Site::A).filter(|(probe, _)| policy.of.contains(&probe.domain))
    }

    /// The name of a third-site witness that is heard now and has said Down for at least `for_ms`.
    pub(crate) fn third_site_down<'a>(&self, policy: &'a PairPolicy, for_ms: u64, now: Now) -> Option<&'a str> {
        let long_enough = |since: u64| now.boot_ms.saturating_sub(since) >= for_ms;
        self.third_site_says_down(policy).find(|(_, since)| long_enough(*since)).map(|(name, _)| name)
    }

    /// Since when, without a gap, the first of them has said so.
    pub(crate) fn third_site_down_since(&self, policy: &PairPolicy) -> Option<u64> {
        self.third_site_says_down(policy).map(|(_, since)| since).min()
    }

    fn third_site_says_down<'a>(&self, policy: &'a PairPolicy) -> impl Iterator<Item = (&'a str, u64)> {
        let heard = policy.witnesses.iter().zip(&self.witnesses);
        let third = heard.filter(|(w, _)| w.kind == WitnessKind::ThirdSite);
        third.filter_map(|(w, state)| state.down_since_ms.map(|since| (w.name.as_str(), since)))
    }
}

fn domains_of(policy: &PairPolicy) -> impl Iterator<Item = Domain> + '_ {
    Domain::ALL.into_iter().filter(|d| policy.of.contains(d))
}

/// The grid period of the slowest probe that the quorum rests on.
pub(crate) fn round_ms(policy: &PairPolicy) -> u64 {
    let quorum = policy.probes.iter().filter(|p| p.site == Site::A && p.votes && policy.of.contains(&p.domain));
    quorum.map(|p| millis(p.period)).max().unwrap_or(1000).max(1)
}

/// The verdict on A while A is the active place. `complete` = the hold-down is over and nothing vetoes.
pub(crate) fn verdict_at_a(seen: &Assessment, complete: bool) -> Verdict {
    let [service, _, storage] = seen.domains;
    if complete {
        Verdict::SiteDown
    } else if seen.flapping {
        Verdict::Suspect
    } else if storage == DomainState::Down && seen.storage_alone {
        Verdict::StorageDown
    } else if matches!(service, DomainState::Down | DomainState::Partly) && seen.service_alone {
        Verdict::ServiceDown
    } else {
        up_or_suspect(seen)
    }
}

/// The verdict on B while B is the active place: there is nowhere to fail over to, so only the service counts.
pub(crate) fn verdict_at_b(seen: &Assessment) -> Verdict {
    match seen.domains[Domain::Service as usize] {
        DomainState::Down | DomainState::Partly if !seen.flapping => Verdict::ServiceDown,
        _ => up_or_suspect(seen),
    }
}

fn up_or_suspect(seen: &Assessment) -> Verdict {
    let all_up = seen.domains.iter().all(|d| matches!(d, DomainState::Up | DomainState::NoVoter));
    let any_up = seen.domains.contains(&DomainState::Up);
    if all_up && any_up { Verdict::Up } else { Verdict::Suspect }
}

/// Whether every quorum signal was read anew and says Down since `since_ms`.
pub(crate) enum Fresh {
    /// Not every one was read yet, or one could not tell.
    NotYet,
    /// At least the quorum says Down, all of it fresh.
    Down,
    /// The quorum is broken.
    Broken(String),
}

/// Judges the readings made since `since_ms` alone, for the rechecks (S2). A recheck may be held up by a pause or a lost
/// lease: the last reading of a probe counts only while the next one is not due.
pub(crate) fn fresh_quorum(signs: &Signs, policy: &PairPolicy, since_ms: u64, now: Now) -> Fresh {
    let mut down = 0;
    let mut waiting = false;
    for domain in domains_of(policy) {
        let mut voters = signs.quorum(policy).filter(|(p, _)| p.domain == domain).peekable();
        if voters.peek().is_none() {
            continue;
        }
        let mut all_down = true;
        for (probe, signal) in voters {
            let due_ms = now.boot_ms.saturating_sub(millis(probe.period + probe.timeout) + 1);
            match signal.last {
                _ if !signal.read_since(since_ms.max(due_ms)) => (waiting, all_down) = (true, false),
                Reading::Up => return Fresh::Broken(format!("probe {} is Up", probe.name)),
                Reading::Down(_) => {}
                Reading::Unknown(_) => (waiting, all_down) = (true, false),
            }
        }
        down += usize::from(all_down);
    }
    if down >= usize::from(policy.at_least.max(1)) {
        Fresh::Down
    } else if waiting {
        Fresh::NotYet
    } else {
        Fresh::Broken("the quorum is no longer Down".into())
    }
}
