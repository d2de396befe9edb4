//! The way into the event loop for probes, steps and leases; humans come in by [`handle`](crate::handle).

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use understudy_core::{Event, PairId, RunId, Step};

/// How many messages may wait. A sender beyond that waits itself: nothing is dropped.
pub const INBOX: usize = 4096;

/// What happened.
#[derive(Debug)]
pub enum Incoming {
    /// For the core.
    Event(Event),
    /// What a guard saw: for the core, unless that guard was relieved meanwhile. Its positions are those of the configuration
    /// that it was posted for; under another one they would name another probe, or another witness.
    Seen {
        /// What.
        event: Event,
        /// Cancelled when the guard is relieved.
        relieved: CancellationToken,
    },
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

impl Incoming {
    /// The event to be judged, if it is one and still counts.
    #[must_use]
    pub fn into_event(self) -> Option<Event> {
        match self {
            Incoming::Event(event) => Some(event),
            Incoming::Seen { event, relieved } => (!relieved.is_cancelled()).then_some(event),
            Incoming::Note { .. } => None,
        }
    }
}

/// The loop ended: the process is about to end too.
#[derive(Debug, thiserror::Error)]
#[error("the daemon is stopping")]
pub struct Stopping;

/// Where to send what happened.
#[derive(Debug, Clone)]
pub struct Inbox {
    sender: mpsc::Sender<Incoming>,
    /// The guard that sends by this end, if it is one.
    relieved: Option<CancellationToken>,
}

impl Inbox {
    /// An inbox and the end that the loop reads.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<Incoming>) {
        let (sender, receiver) = mpsc::channel(INBOX);
        (Self { sender, relieved: None }, receiver)
    }

    /// The same for a guard: what it sent is not taken any more once it is relieved.
    #[must_use]
    pub fn of_guard(&self, relieved: CancellationToken) -> Self {
        Self { sender: self.sender.clone(), relieved: Some(relieved) }
    }

    fn incoming(&self, event: Event) -> Incoming {
        match &self.relieved {
            Some(relieved) => Incoming::Seen { event, relieved: relieved.clone() },
            None => Incoming::Event(event),
        }
    }

    /// Sends an event; once the loop has ended nobody is interested any more.
    pub async fn event(&self, event: Event) {
        if self.sender.send(self.incoming(event)).await.is_err() {
            tracing::debug!("an event came after the end of the loop");
        }
    }

    /// Sends an event without waiting; whether it was taken. For those who must not be late for their next look.
    pub fn event_now(&self, event: Event) -> bool {
        self.sender.try_send(self.incoming(event)).is_ok()
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
        self.sender.send(Incoming::Note { pair, run, step, key, value, reply }).await.map_err(|_| Stopping)?;
        answer.await.map_err(|_| Stopping)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_guard_saw_before_it_was_relieved_is_not_taken_after_it() {
        let (inbox, mut messages) = Inbox::new();
        let guard = CancellationToken::new();
        let posted = inbox.of_guard(guard.clone());
        for _ in 0..2 {
            assert!(posted.event_now(Event::Tick));
        }
        inbox.event(Event::Tick).await;
        let mut next = async || messages.recv().await.and_then(Incoming::into_event);

        assert_eq!(next().await, Some(Event::Tick));
        guard.cancel();

        assert_eq!(next().await, None, "its positions are those of another configuration");
        assert_eq!(next().await, Some(Event::Tick), "steps report by no guard");
    }
}
