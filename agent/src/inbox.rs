//! The one way into the event loop. Everything that happens is sent here, and taken one by one.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use understudy_core::{Event, Order, PairId, Refusal, RunId, Step, View};

/// How many messages may wait. A sender beyond that waits itself: nothing is dropped.
pub const INBOX: usize = 4096;

/// What happened.
#[derive(Debug)]
pub enum Incoming {
    /// For the core.
    Event(Event),
    /// A human's order, by the pair's name.
    Order {
        /// The pair.
        pair: String,
        /// Who gave it.
        by: String,
        /// What.
        order: Order,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<String, Refusal>>,
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
    /// Somebody wants to see the state.
    Look(oneshot::Sender<Arc<View>>),
    /// Load the configuration again.
    Reload,
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

    /// Gives an order and waits for what became of it.
    ///
    /// # Errors
    /// [`Stopping`] if the loop ended first.
    pub async fn order(&self, pair: String, by: String, order: Order) -> Result<Result<String, Refusal>, Stopping> {
        let (reply, answer) = oneshot::channel();
        self.0.send(Incoming::Order { pair, by, order, reply }).await.map_err(|_| Stopping)?;
        answer.await.map_err(|_| Stopping)
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

    /// The state at this moment.
    ///
    /// # Errors
    /// [`Stopping`] if the loop ended first.
    pub async fn look(&self) -> Result<Arc<View>, Stopping> {
        let (reply, answer) = oneshot::channel();
        self.0.send(Incoming::Look(reply)).await.map_err(|_| Stopping)?;
        answer.await.map_err(|_| Stopping)
    }

    /// Asks for a reload of the configuration.
    pub async fn reload(&self) {
        if self.0.send(Incoming::Reload).await.is_err() {
            tracing::debug!("a reload came after the end of the loop");
        }
    }
}
