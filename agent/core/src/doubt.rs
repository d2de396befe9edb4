//! Are we ourselves fit to judge? (S3)

use crate::event::{Command, Notice, PageKind};
use crate::policy::{Policy, SelfCheck};
use crate::reading::{Observation, Reading};
use crate::record::Record;
use crate::signal::Signal;
use crate::time::{Now, millis};

/// Why we doubt ourselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Doubt {
    /// We were not running for a while.
    Stall,
    /// Wall and monotonic clock parted.
    ClockJump,
    /// A self-check, or every check of a group, is not Up.
    SelfCheck(usize),
}

/// Our own fitness.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Fitness {
    /// The self-checks' signals.
    pub signals: Vec<Signal>,
    /// The clocks at the last event, or when this began.
    last: Now,
    /// Whether there was an event: until then nobody stood still.
    begun: bool,
    reason: Option<Doubt>,
    until_ms: u64,
    since: Option<Now>,
    /// Something told against us; not only that a self-check was not read yet since we started.
    observed: bool,
    paged: bool,
}

impl Fitness {
    /// Before the first self-check was read.
    #[must_use]
    pub fn new(policy: &Policy, now: Now) -> Self {
        Self {
            signals: policy.self_checks.iter().map(|_| Signal::new(now)).collect(),
            last: now,
            begun: false,
            reason: None,
            until_ms: 0,
            since: None,
            observed: false,
            paged: false,
        }
    }

    /// Why we are not fit, if we are not.
    #[must_use]
    pub fn doubt(&self) -> Option<Doubt> {
        self.reason
    }

    /// Whether something told against us. Right after a start we doubt ourselves too, until each self-check was read.
    #[must_use]
    pub fn is_observed(&self) -> bool {
        self.reason.is_some() && self.observed
    }

    /// Compares the clocks with those of the event before. Returns by how much they parted since.
    pub(crate) fn watch_clocks(&mut self, policy: &Policy, now: Now) -> u64 {
        let last = std::mem::replace(&mut self.last, now);
        let begun = std::mem::replace(&mut self.begun, true);
        let parted = now.parted_since(last);
        if !begun && parted <= millis(policy.clock_jump) {
            return parted;
        }
        if now.boot_id != last.boot_id || now.boot_ms.saturating_sub(last.boot_ms) > millis(policy.stall) {
            self.raise(Doubt::Stall, policy, now);
        } else if parted > millis(policy.clock_jump) {
            self.raise(Doubt::ClockJump, policy, now);
        }
        parted
    }

    /// Takes a self-check's reading. One bad look is enough to doubt, one good one to trust again after the doubt's time.
    pub(crate) fn read(&mut self, policy: &Policy, check: usize, seen: Observation, now: Now, out: &mut Vec<Command>) {
        let (Some(signal), Some(check)) = (self.signals.get_mut(check), policy.self_checks.get(check)) else { return };
        let change = signal.take(1, 1, seen, now);
        tell(out, check, change);
    }

    /// Brings the doubt up to date.
    pub(crate) fn settle(&mut self, policy: &Policy, now: Now, out: &mut Vec<Command>) {
        for (signal, check) in self.signals.iter_mut().zip(&policy.self_checks) {
            let change = signal.expire(millis(2 * check.period + check.timeout), now);
            tell(out, check, change);
        }
        if let Some(bad) = self.failing(policy) {
            self.raise(Doubt::SelfCheck(bad), policy, now);
        }
        let doubts = self.reason.is_some() && now.boot_ms < self.until_ms;
        match (doubts, self.since) {
            (true, None) => {
                self.since = Some(now);
                out.push(Command::Journal(Record::Doubt { why: Some(self.why(policy)) }));
            }
            (false, Some(_)) => {
                self.since = None;
                (self.paged, self.observed) = (false, false);
                self.reason = None;
                out.push(Command::Journal(Record::Doubt { why: None }));
            }
            (true, Some(since)) if !self.paged && now.since(since.boot_ms) >= policy.blind_page => {
                self.paged = true;
                out.push(Command::Journal(Record::Paged { pair: None, kind: PageKind::Blind }));
                let message = format!("blind since {} s: {}", now.since(since.boot_ms).as_secs(), self.why(policy));
                out.push(Command::Notify { pair: None, notice: Notice::Page { kind: PageKind::Blind, message } });
            }
            (true, Some(_)) => {}
            (false, None) => (self.reason, self.observed) = (None, false),
        }
    }

    /// The doubt in words.
    #[must_use]
    pub fn why(&self, policy: &Policy) -> String {
        match self.reason {
            None => "fit to judge".into(),
            Some(Doubt::Stall) => "the daemon itself was not running for a while".into(),
            Some(Doubt::ClockJump) => "wall clock and monotonic clock parted".into(),
            Some(Doubt::SelfCheck(n)) => {
                let name = policy.self_checks.get(n).map_or("?", |check| &check.name);
                let state = self.signals.get(n).map_or_else(String::new, |signal| signal.state.to_string());
                format!("self-check {name} is {state}")
            }
        }
    }

    /// Whether every self-check that counts was read and Up since `since_ms`.
    pub(crate) fn vouched_since(&self, policy: &Policy, since_ms: u64) -> bool {
        let good = |n: usize| self.signals[n].last.is_up() && self.signals[n].read_since(since_ms);
        self.first_failing(policy, good).is_none()
    }

    fn failing(&self, policy: &Policy) -> Option<usize> {
        self.first_failing(policy, |n| self.signals[n].state == Reading::Up)
    }

    fn first_failing(&self, policy: &Policy, good: impl Fn(usize) -> bool) -> Option<usize> {
        let checks = &policy.self_checks;
        (0..checks.len()).find(|&n| match &checks[n].group {
            None => !good(n),
            Some(group) => !(0..checks.len()).any(|other| checks[other].group.as_ref() == Some(group) && good(other)),
        })
    }

    fn raise(&mut self, doubt: Doubt, policy: &Policy, now: Now) {
        self.observed |= match doubt {
            Doubt::Stall | Doubt::ClockJump => true,
            Doubt::SelfCheck(n) => self.signals[n].last_started_ms.is_some(),
        };
        // Self-checks that grew stale in a stall are its consequence: the cause is what is told.
        let is_consequence =
            matches!(doubt, Doubt::SelfCheck(_)) && self.reason.is_some() && now.boot_ms < self.until_ms;
        if !is_consequence {
            self.reason = Some(doubt);
        }
        self.until_ms = now.boot_ms + millis(policy.doubt).max(1);
    }
}

fn tell(out: &mut Vec<Command>, check: &SelfCheck, change: Option<(Reading, Reading)>) {
    if let Some((from, to)) = change {
        out.push(Command::Journal(Record::SelfCheck { check: check.name.clone(), from, to }));
    }
}
