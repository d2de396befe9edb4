//! SIGTERM and SIGINT end the daemon in order; SIGHUP asks for a reload.

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The signals that are waited for from now on.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Takes the signals over. Before this they end the process at once.
    ///
    /// # Errors
    /// If the system does not allow it.
    pub fn take() -> anyhow::Result<Self> {
        let take = |kind| signal(kind).context("failed to take over signals");
        Ok(Self {
            terminate: take(SignalKind::terminate())?,
            interrupt: take(SignalKind::interrupt())?,
            hangup: take(SignalKind::hangup())?,
        })
    }

    /// Cancels `stop` on the first signal to end, and calls `reload` on each SIGHUP before.
    pub async fn wait(mut self, stop: CancellationToken, mut reload: impl FnMut()) {
        loop {
            let name = tokio::select! {
                _ = self.terminate.recv() => "SIGTERM",
                _ = self.interrupt.recv() => "SIGINT",
                _ = self.hangup.recv() => {
                    reload();
                    continue;
                }
                () = stop.cancelled() => return,
            };
            tracing::info!(signal = name, "stopping");
            return stop.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{Signal as Number, getpid, kill_process};

    use super::*;

    #[tokio::test]
    async fn a_hangup_reloads_and_a_termination_stops() {
        let signals = Signals::take().unwrap();
        let stop = CancellationToken::new();
        let mut reloads = 0;
        kill_process(getpid(), Number::HUP).unwrap();

        let waiting = signals.wait(stop.clone(), || {
            reloads += 1;
            kill_process(getpid(), Number::TERM).unwrap();
        });
        waiting.await;

        assert_eq!(reloads, 1);
        assert!(stop.is_cancelled());
    }
}
