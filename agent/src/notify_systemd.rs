//! What systemd is told: ready, alive, stopping. Elsewhere, without `NOTIFY_SOCKET`, nothing happens.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::handle::Handle;

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

/// Keeps systemd's watchdog quiet as long as the event loop answers, until `stop`. At once over where the unit has none.
pub async fn keep_watchdog_quiet(handle: &Handle, stop: &CancellationToken) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    stop.run_until_cancelled(pat(handle, limit, || tell(NotifyState::Watchdog))).await;
}

/// Twice within the limit, as systemd advises. A loop that hangs is not vouched for.
async fn pat(handle: &Handle, limit: Duration, mut tell: impl FnMut()) {
    let mut turns = tokio::time::interval(limit / 2);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        match handle.alive().await {
            Ok(()) => tell(),
            Err(unheard) => tracing::error!("the watchdog is not told that all is well: {unheard}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::time::{Instant, timeout};

    use super::*;
    use crate::handle::{Ask, channel};

    #[tokio::test(start_paused = true)]
    async fn systemd_is_told_twice_within_its_limit() {
        let (handle, mut asks) = channel();
        tokio::spawn(async move {
            while let Some(Ask::Alive { reply }) = asks.recv().await {
                let _ = reply.send(());
            }
        });
        let told = AtomicU32::new(0);

        let limit = Duration::from_secs(10);
        let end = timeout(
            limit,
            pat(&handle, limit, || {
                told.fetch_add(1, Ordering::Relaxed);
            }),
        );

        assert!(end.await.is_err());
        assert!((2..=3).contains(&told.load(Ordering::Relaxed)), "{told:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_hangs_is_not_vouched_for() {
        let (handle, _asks) = channel();
        let began = Instant::now();

        let end = timeout(Duration::from_secs(60), pat(&handle, Duration::from_secs(10), || panic!("it hangs")));

        assert!(end.await.is_err());
        assert_eq!(began.elapsed(), Duration::from_secs(60));
    }
}
