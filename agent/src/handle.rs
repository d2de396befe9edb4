//! How the API talks to the event loop, and nothing else does.
//!
//! In: questions and orders, from any task. Out: answers, from the loop alone, so that every order is judged by the
//! same state that events change. The channel is bounded and every wait is too: a loop that hangs is told as such.
//!
//! The loop takes [`Ask`]s off the receiver that [`channel`] returns, beside its events.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use understudy_core::{Order, PairName, Record, Refusal, View};

/// Asks that may wait for the loop; it takes thousands a second, so that a full channel means it hangs.
const WAITING: usize = 64;
/// A loop that does not answer within this is not alive. It may flush the journal meanwhile, which takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is asked of the event loop.
#[derive(Debug)]
pub enum Ask {
    /// Only whether it turns; costs nothing, whoever asks.
    Alive {
        /// Who waits for it.
        reply: oneshot::Sender<()>,
    },
    /// The state as it is now.
    View {
        /// Who waits for it.
        reply: oneshot::Sender<Arc<View>>,
    },
    /// An order: becomes an [`Event::Ordered`](understudy_core::Event::Ordered); its answer goes back.
    Order {
        /// The pair. One that is not configured is refused.
        pair: PairName,
        /// Who: the peer's uid or the token's subject.
        by: String,
        /// What.
        order: Order,
        /// Who waits for the answer.
        reply: oneshot::Sender<Result<String, Refusal>>,
    },
    /// Something that was refused before it reached the core, such as a forged token: only to be journaled.
    Note {
        /// A [`Record::Refused`].
        record: Record,
    },
}

/// The API's end.
#[derive(Debug, Clone)]
pub struct Handle {
    asks: mpsc::Sender<Ask>,
    ready: Arc<AtomicBool>,
}

/// Why the loop gave no answer.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Unheard {
    /// It has ended; the process is about to.
    #[error("the daemon is stopping")]
    Stopping,
    /// It did not answer in time. An order may have been carried out nevertheless: look before it is repeated.
    #[error("the daemon's event loop did not answer within {} s", PATIENCE.as_secs())]
    Hangs,
}

/// The two ends.
#[must_use]
pub fn channel() -> (Handle, mpsc::Receiver<Ask>) {
    let (asks, receiver) = mpsc::channel(WAITING);
    (Handle { asks, ready: Arc::new(AtomicBool::new(false)) }, receiver)
}

impl Handle {
    /// Waits for the loop's next turn.
    ///
    /// # Errors
    /// [`Unheard`] if the loop does not answer.
    pub async fn alive(&self) -> Result<(), Unheard> {
        self.ask(|reply| Ask::Alive { reply }).await
    }

    /// The state as it is now.
    ///
    /// # Errors
    /// [`Unheard`] if the loop does not answer.
    pub async fn view(&self) -> Result<Arc<View>, Unheard> {
        self.ask(|reply| Ask::View { reply }).await
    }

    /// Gives an order and waits for what became of it.
    ///
    /// # Errors
    /// [`Unheard`] if the loop does not answer.
    pub async fn order(&self, pair: PairName, by: String, order: Order) -> Result<Result<String, Refusal>, Unheard> {
        self.ask(|reply| Ask::Order { pair, by, order, reply }).await
    }

    /// Has a refusal journaled. Nobody waits for it.
    ///
    /// # Errors
    /// [`Unheard`] if the loop takes nothing.
    pub async fn note(&self, record: Record) -> Result<(), Unheard> {
        self.send(Ask::Note { record }).await
    }

    /// Says that the daemon has read its journal and begun to watch.
    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }

    /// Whether [`set_ready`](Handle::set_ready) was called.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, Unheard> {
        let (reply, answer) = oneshot::channel();
        self.send(ask(reply)).await?;
        timeout(PATIENCE, answer).await.map_err(|_| Unheard::Hangs)?.map_err(|_| Unheard::Stopping)
    }

    async fn send(&self, ask: Ask) -> Result<(), Unheard> {
        let sent = timeout(PATIENCE, self.asks.send(ask)).await.map_err(|_| Unheard::Hangs)?;
        sent.map_err(|_| Unheard::Stopping)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_hangs_is_told_within_the_limit() {
        let (handle, _asks) = channel();

        assert_eq!(handle.view().await.unwrap_err(), Unheard::Hangs);
        assert_eq!(handle.alive().await.unwrap_err(), Unheard::Hangs);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_channel_is_a_loop_that_hangs() {
        let (handle, _asks) = channel();
        for _ in 0..WAITING {
            handle.note(crate::samples::started()).await.unwrap();
        }

        assert_eq!(handle.note(crate::samples::started()).await.unwrap_err(), Unheard::Hangs);
    }

    #[tokio::test]
    async fn a_loop_that_has_ended_is_told_at_once() {
        let (handle, asks) = channel();
        drop(asks);

        assert_eq!(handle.view().await.unwrap_err(), Unheard::Stopping);
    }

    #[tokio::test]
    async fn an_order_comes_back_with_its_answer() {
        let (handle, mut asks) = channel();
        let answering = tokio::spawn(async move {
            let Some(Ask::Order { pair, by, order: Order::Resume, reply }) = asks.recv().await else { return false };
            reply.send(Ok(format!("{pair} by {by}"))).is_ok()
        });

        let answer = handle.order("nexus".into(), "uid 1".into(), Order::Resume).await.unwrap();

        assert_eq!(answer, Ok("nexus by uid 1".to_owned()));
        assert!(answering.await.unwrap());
    }
}
