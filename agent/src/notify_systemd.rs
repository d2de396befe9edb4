//! What systemd is told: ready, alive, stopping. Elsewhere, without `NOTIFY_SOCKET`, nothing happens.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// The daemon has read its journal, serves its socket and watches.
pub fn ready() {
    tell(NotifyState::Ready);
}

/// The daemon ends by itself or was told to.
pub fn stopping() {
    tell(NotifyState::Stopping);
}

fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!("failed to notify systemd: {error}");
    }
}

/// Keeps systemd's watchdog quiet as long as the event loop turns.
#[derive(Debug)]
pub struct Watchdog {
    every: Option<Duration>,
    last: Option<Instant>,
}

impl Watchdog {
    /// As often as `WatchdogSec=` of the unit asks for; never without it.
    #[must_use]
    pub fn from_environment() -> Self {
        Self::within(sd_notify::watchdog_enabled())
    }

    /// Half of the limit, as systemd advises.
    fn within(limit: Option<Duration>) -> Self {
        Self { every: limit.map(|limit| limit / 2), last: None }
    }

    /// The loop has turned once more. Called on every turn; tells systemd only as often as needed.
    pub fn alive(&mut self) {
        if self.is_due(Instant::now()) {
            tell(NotifyState::Watchdog);
        }
    }

    fn is_due(&mut self, now: Instant) -> bool {
        let Some(every) = self.every else { return false };
        let due = self.last.is_none_or(|last| now.duration_since(last) >= every);
        if due {
            self.last = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_is_told_twice_within_its_limit_and_not_on_every_turn() {
        let mut watchdog = Watchdog::within(Some(Duration::from_secs(10)));
        let start = Instant::now();

        let told = [0, 1, 4, 5, 9, 10].map(|s| watchdog.is_due(start + Duration::from_secs(s)));

        assert_eq!(told, [true, false, false, true, false, true]);
    }

    #[test]
    fn without_a_watchdog_nothing_is_told() {
        assert!(!Watchdog::within(None).is_due(Instant::now()));
    }
}
