//! The way into the event loop for probes, steps and leases; humans come in by [`handle`](crate::handle).

use tokio::sync::{mpsc, oneshot};
use understudy_core::{Event, PairId, RunId, Step};

/// How many messages may wait. A sender beyond that waits itself: nothing is dropped.
pub const INBOX: usize = 4096;

/// What happened.
#[derive(Debug)]
pub enum Incoming {
    /// For the core.
    Event(Event),
    /// A step asks to remember something before it goes on.
    Note {
        /// The pair.
        pair: PairId,
        /// The run.
        run: RunId,
        /// The step.
        step: Step,
        /// What it is called.
        key: String,
        /// What it is.
        value: String,
        /// Whether it is on disk and the step may go on.
        reply: oneshot::Sender<bool>,
    },
}

/// The loop ended: the process is about to end too.
#[derive(Debug, thiserror::Error)]
#[error("the daemon is stopping")]
pub struct Stopping;

/// Where to send what happened.
#[derive(Debug, Clone)]
pub struct Inbox(mpsc::Sender<Incoming>);

impl Inbox {
    /// An inbox and the end that the loop reads.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<Incoming>) {
        let (sender, receiver) = mpsc::channel(INBOX);
        (Self(sender), receiver)
    }

    /// Sends an event; once the loop has ended nobody is interested any more.
    pub async fn event(&self, event: Event) {
        if self.0.send(Incoming::Event(event)).await.is_err() {
            tracing::debug!("an event came after the end of the loop");
        }
    }

    /// Sends an event without waiting; whether it was taken. For those who must not be late for their next look.
    pub fn event_now(&self, event: Event) -> bool {
        self.0.try_send(Incoming::Event(event)).is_ok()
    }

    /// Puts a step's note into the journal; whether the step may go on.
    ///
    /// # Errors
    /// [`Stopping`] if the loop ended first: nothing may be sent then.
    pub async fn note(
        &self,
        pair: PairId,
        run: RunId,
        step: Step,
        key: String,
        value: String,
    ) -> Result<bool, Stopping> {
        let (reply, answer) = oneshot::channel();
        self.0.send(Incoming::Note { pair, run, step, key, value, reply }).await.map_err(|_| Stopping)?;
        answer.await.map_err(|_| Stopping)
    }
}
