//! One probe's readings, counted: fall and rise, age, flapping.

use crate::policy::{Flap, ProbePolicy};
use crate::reading::{NOT_YET, Observation, Reading, Reason};
use crate::time::{Now, millis};

/// How many changes are remembered; `flap.changes` can not be larger.
pub const CHANGES_KEPT: usize = 16;

/// A probe after fall/rise counting.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Signal {
    /// `Up`, `Down` or `Unknown`; the reason is that of the transition.
    pub state: Reading,
    /// When it took that state.
    pub since: Now,
    /// The last reading.
    pub last: Reading,
    /// When the last reading began, in milliseconds of `Now::boot_ms`; none = never read.
    pub last_started_ms: Option<u64>,
    /// When the last Up reading began.
    pub last_up_ms: Option<u64>,
    /// How long the last reading took.
    pub latency_ms: u32,
    /// What the last reading had to say.
    pub detail: Option<Box<str>>,
    ups: u32,
    downs: u32,
    changes: [u64; CHANGES_KEPT],
    changed: usize,
}

impl Signal {
    /// A signal that was never read.
    #[must_use]
    pub fn new(now: Now) -> Self {
        Self {
            state: NOT_YET,
            since: now,
            last: NOT_YET,
            last_started_ms: None,
            last_up_ms: None,
            latency_ms: 0,
            detail: None,
            ups: 0,
            downs: 0,
            changes: [0; CHANGES_KEPT],
            changed: 0,
        }
    }

    /// Takes a reading; returns the transition that it made.
    pub fn take(&mut self, fall: u32, rise: u32, seen: Observation, now: Now) -> Option<(Reading, Reading)> {
        // A look that began before the last one says nothing new.
        if self.last_started_ms.is_some_and(|last| seen.started_ms < last) {
            return None;
        }
        self.last = seen.reading;
        self.last_started_ms = Some(seen.started_ms);
        self.latency_ms = seen.latency_ms;
        self.detail = seen.detail;
        match seen.reading {
            Reading::Up => {
                self.last_up_ms = Some(seen.started_ms);
                self.downs = 0;
                self.ups = self.ups.saturating_add(1);
                if self.ups >= rise { self.become_(Reading::Up, now) } else { None }
            }
            Reading::Down(reason) => {
                self.ups = 0;
                self.downs = self.downs.saturating_add(1);
                if self.downs >= fall { self.become_(Reading::Down(reason), now) } else { None }
            }
            Reading::Unknown(reason) => {
                self.ups = 0;
                self.downs = 0;
                self.become_(Reading::Unknown(reason), now)
            }
        }
    }

    /// Turns a signal that was not read for too long into Unknown (S5).
    pub fn expire(&mut self, fresh_ms: u64, now: Now) -> Option<(Reading, Reading)> {
        let last = self.last_started_ms?;
        if now.boot_ms.saturating_sub(last) <= fresh_ms {
            return None;
        }
        self.ups = 0;
        self.downs = 0;
        self.become_(Reading::Unknown(Reason::Stale), now)
    }

    /// Whether there is a reading that began after `since_ms`. One of the same millisecond may have begun before.
    #[must_use]
    pub fn read_since(&self, since_ms: u64) -> bool {
        self.last_started_ms.is_some_and(|at| at > since_ms)
    }

    /// Whether the signal changes its mind too often to be acted on.
    #[must_use]
    pub fn is_flapping(&self, flap: &Flap, now: Now) -> bool {
        let kept = self.changed.min(CHANGES_KEPT);
        let window = millis(flap.window);
        let recent = self.changes[..kept].iter().filter(|at| now.boot_ms.saturating_sub(**at) <= window).count();
        let last = self.changes[..kept].iter().max().copied().unwrap_or(0);
        u32::try_from(recent).unwrap_or(u32::MAX) >= flap.changes && now.since(last) < flap.quiet
    }

    /// Changes between Up and Down within the window, for the human.
    #[must_use]
    pub fn changes_within(&self, flap: &Flap, now: Now) -> usize {
        let kept = self.changed.min(CHANGES_KEPT);
        self.changes[..kept].iter().filter(|at| now.since(**at) <= flap.window).count()
    }

    fn become_(&mut self, to: Reading, now: Now) -> Option<(Reading, Reading)> {
        if std::mem::discriminant(&self.state) == std::mem::discriminant(&to) {
            return None;
        }
        let from = self.state;
        // The first state after the start is no change of mind, and not being able to tell is none either.
        if from != NOT_YET && !matches!(to, Reading::Unknown(_)) {
            self.changes[self.changed % CHANGES_KEPT] = now.boot_ms;
            self.changed += 1;
        }
        self.state = to;
        self.since = now;
        Some((from, to))
    }
}

/// The age at which a reading of this probe is stale, in milliseconds.
pub(crate) fn fresh_ms(probe: &ProbePolicy) -> u64 {
    millis(probe.fresh_for())
}
