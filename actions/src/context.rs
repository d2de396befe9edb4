//! What a step has in its hands.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use understudy_config::{Limits, Pair};
use understudy_core::StepOrder;

use crate::StepError;

/// Proof that the lease at B was read just now, is ours, and lasts long enough for one write (S1).
///
/// Every function that sends a write takes one by value: a permit is good for a single write.
#[derive(Debug)]
pub struct Permit {
    /// No write may be under way after this.
    deadline: Instant,
}

impl Permit {
    /// Only a [`Gatekeeper`] makes permits.
    #[must_use]
    pub fn until(deadline: Instant) -> Self {
        Self { deadline }
    }

    /// The time that is left for the write.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

/// A boxed future, so that [`Gatekeeper`] can be a trait object.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What the agent does for a step: lease, journal, progress.
pub trait Gatekeeper: Send + Sync {
    /// Reads the lease again and gives leave for one write.
    ///
    /// # Errors
    /// [`StepError::NoLease`] if it is not ours, too short, or can not be read.
    fn permit(&self) -> Later<'_, Result<Permit, StepError>>;

    /// Puts `key = value` into the journal; on disk when it returns. Later tries find it in [`StepOrder::notes`].
    ///
    /// # Errors
    /// [`StepError::NotNoted`] if the journal is not writable or the run was stopped: nothing may be sent then.
    fn note<'a>(&'a self, key: &'a str, value: String) -> Later<'a, Result<(), StepError>>;

    /// Shows how far the step is. Not kept.
    fn progress(&self, text: String);
}

/// What a step has in its hands.
#[derive(Clone)]
pub struct Context {
    /// What the core ordered.
    pub order: Arc<StepOrder>,
    /// The pair's settings.
    pub pair: Arc<Pair>,
    /// The name of our place.
    pub site: Arc<str>,
    /// A's API server, if it is configured. Only the fence uses it.
    pub primary: Option<kube::Client>,
    /// B's API server.
    pub standby: Option<kube::Client>,
    /// The state directory: what must outlive the daemon lies in `runs/RUN`.
    pub state: PathBuf,
    /// This program, to run [`promote_keeper`](crate) as a process of its own.
    pub program: PathBuf,
    /// Lease, journal, progress.
    pub gate: Arc<dyn Gatekeeper>,
}

impl Context {
    /// The limits of the pair's steps.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.pair.limits
    }

    /// What an earlier try of this step asked to be remembered.
    #[must_use]
    pub fn noted(&self, key: &str) -> Option<&str> {
        self.order.notes.get(&format!("{}/{key}", self.order.step)).map(String::as_str)
    }
}
