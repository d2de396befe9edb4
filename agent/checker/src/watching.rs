//! From signals to a verdict: self-doubt, votes, life, hold-down (S3, S4, S5), and the return of the old primary (S12).

use understudy_core::{
    Domain, Now, PageKind, PairPolicy, Reading, Record, Role, Site, Verdict, WitnessKind, WitnessSays,
};

use crate::pair::{Owed, Pair};
use crate::{Invariant, Kept, Scene, between, ms};

/// Fewest witnessed rounds of a hold-down, whatever the rules say.
const MIN_ROUNDS: u32 = 3;

/// What a witness says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Heard {
    pub says: WitnessSays,
    pub since: Now,
}

/// A hold-down that runs or is complete.
#[derive(Debug, Clone, PartialEq)]
pub struct Hold {
    pub since: Now,
    rounds: u32,
    last_round: Now,
    /// A sign of life that has not broken it yet.
    pub life: Option<String>,
}

impl Pair {
    pub fn watch(&mut self, scene: &mut Scene<'_>, record: &Record) -> Kept {
        match record {
            Record::Signal { probe, from, to, .. } => self.take_signal(scene, probe, *from, *to),
            Record::Witness { witness, says, .. } => {
                if *says != WitnessSays::Down {
                    self.lose_sight();
                }
                self.witnesses.insert(witness.clone(), Heard { says: *says, since: scene.at });
                Ok(())
            }
            Record::Life { what, .. } => {
                self.hold.iter_mut().for_each(|hold| hold.life = Some(what.clone()));
                self.run.iter_mut().for_each(|run| run.take_life(what));
                Ok(())
            }
            Record::Verdict { from, to, .. } => self.take_verdict(scene, *from, *to),
            Record::HoldDownBegan { .. } => {
                scene.fit(|| "a hold-down began".into())?;
                let at_b = self.role == Role::AtB;
                scene.rule(Invariant::S12, !at_b, || "a hold-down began although B is the active site".into())?;
                self.check_quorum(scene, "a hold-down began")?;
                self.hold = Some(Hold { since: scene.at, rounds: 0, last_round: scene.at, life: None });
                Ok(())
            }
            Record::Round { number, held_ms, .. } => self.take_round(scene, *number, *held_ms),
            Record::HoldDownBroken { .. } => {
                self.hold = None;
                self.approvals.clear();
                Ok(())
            }
            Record::OldPrimaryReturned { .. } => {
                let at_b = self.role == Role::AtB;
                scene.rule(Invariant::S12, at_b, || "a return is told although B is not the active site".into())?;
                (self.return_told, self.returned) = (true, None);
                self.owed = Some(Owed::Page(PageKind::OldPrimaryReturned, Invariant::S12));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn take_signal(&mut self, scene: &mut Scene<'_>, probe: &str, from: Reading, to: Reading) -> Kept {
        let known = self.signals.insert(probe.to_owned(), to);
        scene.rule(Invariant::X2, known.is_none_or(|known| known == from), || {
            format!("probe {probe} goes on from {from}, which it was not")
        })?;
        let mut probes = scene.rules.iter().flat_map(|rules| &rules.probes);
        let old_service =
            probes.any(|p| p.name == probe && p.site == Site::A && p.votes && p.domain == Domain::Service);
        if old_service && self.role == Role::AtB && !self.return_told {
            self.returned = to.is_up().then_some(scene.at);
        }
        Ok(())
    }

    fn take_verdict(&mut self, scene: &mut Scene<'_>, from: Verdict, to: Verdict) -> Kept {
        let known = self.verdict.replace(to);
        scene.rule(Invariant::X2, known.is_none_or(|known| known == from), || {
            format!("the verdict goes on from {from}, which it was not")
        })?;
        self.approvals.clear();
        if matches!(to, Verdict::SiteDown | Verdict::ServiceDown | Verdict::StorageDown) {
            scene.fit(|| format!("verdict {to}"))?;
        }
        if to != Verdict::SiteDown {
            return Ok(());
        }
        let rounds = self.hold.as_ref().map_or(0, |hold| hold.rounds);
        scene.rule(Invariant::S5, rounds >= MIN_ROUNDS, || {
            format!("verdict SiteDown after {rounds} of {MIN_ROUNDS} witnessed rounds")
        })?;
        self.check_held(scene)?;
        self.check_quorum(scene, "verdict SiteDown")?;
        self.check_no_life(scene, "verdict SiteDown")
    }

    fn check_held(&self, scene: &mut Scene<'_>) -> Kept {
        let (Some(hold), Some(rules)) = (&self.hold, scene.rules) else { return Ok(()) };
        let (held, needed) = (between(hold.since, scene.at), ms(rules.hold_down));
        scene.rule(Invariant::S5, held.is_some_and(|held| held >= needed), || {
            format!("verdict SiteDown after {} of {needed} ms of hold-down", held.unwrap_or(0))
        })
    }

    fn take_round(&mut self, scene: &mut Scene<'_>, number: u32, held_ms: u64) -> Kept {
        let next = self.hold.as_ref().map(|hold| hold.rounds + 1);
        scene.rule(Invariant::S5, next == Some(number), || format!("round {number} does not continue a hold-down"))?;
        scene.fit(|| format!("round {number} was witnessed"))?;
        self.check_quorum(scene, "a round was witnessed")?;
        self.check_no_life(scene, "a round was witnessed")?;
        let Some(hold) = &mut self.hold else { return Ok(()) };
        let (held, gap) = (between(hold.since, scene.at), between(hold.last_round, scene.at));
        scene.rule(Invariant::S5, held == Some(held_ms), || {
            format!("round {number} claims {held_ms} ms of hold-down, it was {} ms", held.unwrap_or(0))
        })?;
        if let (Some(rules), Some(policy)) = (scene.rules, scene.own.policy()) {
            let (grid, stall) = (grid_ms(rules), ms(policy.stall));
            let (gap, whole) = (gap.unwrap_or(u64::MAX), gap.is_some_and(|gap| gap >= grid && gap <= grid + stall));
            scene.rule(Invariant::S5, whole, || {
                format!("round {number} came {gap} ms after the one before, the grid is {grid} ms")
            })?;
        }
        (hold.rounds, hold.last_round) = (number, scene.at);
        Ok(())
    }

    /// Enough domains are Down with all their voters, by the signals' own records (S4).
    pub fn check_quorum(&self, scene: &mut Scene<'_>, what: &str) -> Kept {
        let Some(rules) = scene.rules else { return Ok(()) };
        let whole = scene.own.whole;
        let down = |name: &str| self.signals.get(name).map_or(!whole, |reading| reading.is_down());
        let dead = dead_domains(rules, down);
        let needed = usize::from(rules.at_least.max(1));
        scene.rule(Invariant::S4, dead >= needed, || format!("{what} with {dead} of {needed} domains Down"))
    }

    pub fn check_no_life(&self, scene: &mut Scene<'_>, what: &str) -> Kept {
        let Some(hold) = &self.hold else { return Ok(()) };
        scene.rule(Invariant::S4, hold.life.is_none(), || {
            format!("{what} although {} was alive", hold.life.as_deref().unwrap_or_default())
        })
    }

    /// A third-site witness that says Down now, and since when.
    pub fn third_site_down(&self, rules: &PairPolicy) -> Option<(&str, Now)> {
        let third = |name: &str| rules.witnesses.iter().any(|w| w.name == name && w.kind == WitnessKind::ThirdSite);
        let mut heard = self.witnesses.iter();
        let found = heard.find(|(name, heard)| heard.says == WitnessSays::Down && third(name.as_str()));
        found.map(|(name, heard)| (name.as_str(), heard.since))
    }
}

/// How many of the quorum's domains have voters, all of them dead.
pub fn dead_domains(rules: &PairPolicy, dead: impl Fn(&str) -> bool) -> usize {
    let is_dead = |domain: &&Domain| {
        let mut voters = voters(rules).filter(|probe| probe.domain == **domain).peekable();
        voters.peek().is_some() && voters.all(|probe| dead(&probe.name))
    };
    Domain::ALL.iter().filter(|domain| rules.of.contains(domain)).filter(is_dead).count()
}

/// The probes of A that vote in the quorum.
pub fn voters(rules: &PairPolicy) -> impl Iterator<Item = &understudy_core::ProbePolicy> {
    rules.probes.iter().filter(|probe| probe.site == Site::A && probe.votes && rules.of.contains(&probe.domain))
}

/// The period of the slowest voter.
pub fn grid_ms(rules: &PairPolicy) -> u64 {
    voters(rules).map(|probe| ms(probe.period)).max().unwrap_or(1000).max(1)
}
