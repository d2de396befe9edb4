//! What the records say of the daemon itself: its rules, its self-checks, its doubt, its automatic decisions.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use understudy_core::{Authority, Now, PageKind, PairName, PairPolicy, Policy, Reading, Record};

use crate::{Book, Invariant, Kept, between, ms};

/// The rules that are in force.
#[derive(Clone, PartialEq)]
pub struct Rules(pub Arc<Policy>);

impl fmt::Debug for Rules {
    /// By their digest, which is that of the file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.config_digest)
    }
}

/// A doubt that lasts.
#[derive(Debug, Clone, PartialEq)]
pub struct Doubt {
    why: String,
    since: Now,
    paged: bool,
}

/// An automatic failover.
#[derive(Debug, Clone, PartialEq)]
struct Automatic {
    pair: PairName,
    wall_ms: i64,
}

/// What is known of the daemon itself.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Own {
    rules: Option<Rules>,
    /// The rules before these.
    pub before: Option<Rules>,
    pub doubt: Option<Doubt>,
    checks: BTreeMap<String, Reading>,
    /// The records reach back to a start: what they do not tell has not happened since.
    pub whole: bool,
    automatic: Vec<Automatic>,
}

impl Own {
    pub fn take(&mut self, book: &mut Book, at: Now, record: &Record) -> Kept {
        match record {
            Record::Started { .. } => {
                self.doubt = None;
                self.checks.clear();
                self.whole = true;
            }
            Record::Ruled { policy } => {
                let rules = Rules(Arc::new((**policy).clone()));
                if self.rules.as_ref().is_some_and(|before| before.0.self_checks != rules.0.self_checks) {
                    self.checks.clear();
                }
                self.before = self.rules.replace(rules);
            }
            Record::SelfCheck { check, from, to } => {
                let known = self.checks.insert(check.clone(), *to);
                let follows = known.is_none_or(|known| known == *from);
                return book.rule(Invariant::X2, follows, || {
                    format!("self-check {check} goes on from {from}, which it was not")
                });
            }
            Record::Doubt { why } => {
                let since = self.doubt.as_ref().map_or(at, |doubt| doubt.since);
                self.doubt = why.clone().map(|why| Doubt { why, since, paged: false });
            }
            Record::Paged { pair: None, kind: PageKind::Blind } => {
                self.doubt.iter_mut().for_each(|doubt| doubt.paged = true);
            }
            Record::Recording { .. } | Record::Snapshot { .. } => {}
            _ => return self.told_of_blindness(book, at),
        }
        Ok(())
    }

    /// A doubt that lasts is told before anything else is written (L3).
    fn told_of_blindness(&self, book: &mut Book, at: Now) -> Kept {
        let (Some(doubt), Some(rules)) = (&self.doubt, &self.rules) else { return Ok(()) };
        let Some(lasted) = between(doubt.since, at) else { return Ok(()) };
        let told = doubt.paged || lasted < ms(rules.0.blind_page);
        book.rule(Invariant::L3, told, || format!("blind since {} s and nobody was told: {}", lasted / 1000, doubt.why))
    }

    /// What tells against ourselves: an open doubt, or a self-check that is not Up by its own records.
    pub fn unfit(&self) -> Option<String> {
        if let Some(doubt) = &self.doubt {
            return Some(doubt.why.clone());
        }
        let checks = &self.rules.as_ref()?.0.self_checks;
        let up = |name: &String| self.checks.get(name).map_or(!self.whole, |reading| reading.is_up());
        let failing = checks.iter().find(|check| match &check.group {
            None => !up(&check.name),
            Some(_) => !checks.iter().any(|other| other.group == check.group && up(&other.name)),
        });
        failing.map(|check| format!("self-check {} is not Up", check.name))
    }

    pub fn policy(&self) -> Option<&Policy> {
        self.rules.as_ref().map(|rules| &*rules.0)
    }

    pub fn rules_of(&self, pair: &PairName) -> Option<PairPolicy> {
        self.policy()?.pairs.iter().find(|rules| rules.name == *pair).cloned()
    }

    /// Automatic failovers of other sites within the window. Pairs that fall together are one decision (S11).
    pub fn automatic_before(&self, at: Now, together_ms: u64) -> usize {
        let window = self.policy().map_or(0, |policy| ms(policy.automatic_window));
        let age = |one: &Automatic| u64::try_from(at.wall_ms.saturating_sub(one.wall_ms)).unwrap_or(0);
        self.automatic.iter().filter(|one| age(one) < window && age(one) > together_ms).count()
    }

    pub fn count_automatic(&mut self, pair: &PairName, at: Now, record: &Record) {
        if let Record::RunStarted { run, .. } = record
            && matches!(run.authority, Authority::Automatic { .. })
        {
            self.automatic.push(Automatic { pair: pair.clone(), wall_ms: at.wall_ms });
        }
    }
}
