//! One writer: the pair's lease at B, or the lock of the state directory where B has no API server (S1).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use understudy_actions::lease::{LeaseKeeper, Turn};
use understudy_actions::{Permit, StepError};
use understudy_config::Pair;
use understudy_core::{Event, PairId};
use understudy_probes::clock;

use crate::inbox::Inbox;

/// The file in the state directory that names us to other daemons.
const HOLDER: &str = "holder";

/// The right to write for one pair.
#[derive(Clone)]
pub enum Lease {
    /// A Lease at B's API server.
    AtB {
        /// Takes and keeps it.
        keeper: Arc<LeaseKeeper>,
        /// No write is sent with less left of it.
        margin: Duration,
    },
    /// The state directory's lock is held as long as the process lives: nobody else can write from this directory.
    Directory {
        /// How long a permit lasts.
        lasts: Duration,
    },
}

impl Lease {
    /// The lease of `pair`; `holder` is [`holder`]'s word.
    #[must_use]
    pub fn of(pair: &Pair, standby: Option<&kube::Client>, holder: &str) -> Self {
        let lasts = pair.limits.lease.0;
        let Some(client) = standby else { return Lease::Directory { lasts } };
        let namespace = &pair.limits.lease_namespace;
        let name = format!("understudy-{}", pair.name);
        let keeper = LeaseKeeper::new(client, namespace, name, holder.to_owned(), lasts);
        Lease::AtB { keeper: Arc::new(keeper), margin: pair.limits.lease_margin.0 }
    }

    /// The same lease by the rules of a reload: a step under way, which holds it too, goes on writing.
    #[must_use]
    pub fn kept(&self, pair: &Pair) -> Self {
        match self {
            Lease::AtB { keeper, .. } => Lease::AtB { keeper: keeper.clone(), margin: pair.limits.lease_margin.0 },
            Lease::Directory { .. } => Lease::Directory { lasts: pair.limits.lease.0 },
        }
    }

    /// From here on by another client.
    pub fn go_on_by(&self, standby: Option<&kube::Client>, pair: &Pair) {
        if let (Lease::AtB { keeper, .. }, Some(client)) = (self, standby) {
            keeper.go_on_by(client, &pair.limits.lease_namespace);
        }
    }

    /// Leave for one write of `epoch`, from a fresh look at the lease.
    ///
    /// # Errors
    /// [`StepError::NoLease`] if it is not ours, about to expire, of a later epoch, or can not be read.
    pub async fn permit(&self, epoch: u64) -> Result<Permit, StepError> {
        match self {
            Lease::AtB { keeper, margin } => keeper.permit(*margin, epoch).await,
            Lease::Directory { lasts } => Ok(Permit::until(Instant::now() + *lasts)),
        }
    }

    async fn turn(&self) -> Turn {
        match self {
            Lease::AtB { keeper, .. } => keeper.turn().await,
            // The journal in this very directory knows of every epoch that there was.
            Lease::Directory { lasts } => Turn::Ours { until: Instant::now() + *lasts, epoch: 0 },
        }
    }
}

/// Who we are for other daemons: the same for every process that works from this directory, made once.
///
/// # Errors
/// If the file can be neither read nor written.
pub fn holder(state: &Path) -> anyhow::Result<String> {
    let path = state.join(HOLDER);
    match std::fs::read_to_string(&path) {
        Ok(known) if !known.trim().is_empty() => Ok(known.trim().to_owned()),
        _ => {
            let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
            let made = format!("{host}/{}", uuid::Uuid::new_v4());
            std::fs::write(&path, &made).with_context(|| format!("failed to write {}", path.display()))?;
            Ok(made)
        }
    }
}

/// Holds the lease while it is wanted, and tells the loop until when it is ours.
pub async fn keep(pair: PairId, lease: Lease, lasts: Duration, mut wanted: watch::Receiver<bool>, inbox: Inbox) {
    let mut turns = tokio::time::interval(lasts / 4);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        if wanted.wait_for(|wanted| *wanted).await.is_err() {
            return;
        }
        turns.tick().await;
        // On the heap while it lasts: most pairs hold no lease, and their tasks stay small.
        let event = match Box::pin(lease.turn()).await {
            Turn::Ours { until, epoch } => {
                let left = until.saturating_duration_since(Instant::now());
                Event::Lease { pair, until_ms: Some((clock::now() + left).boot_ms), holder: None, epoch: Some(epoch) }
            }
            Turn::Theirs { holder } => Event::Lease { pair, until_ms: None, holder: Some(holder), epoch: None },
            // What was written before holds until its end, and the loop knows when that is.
            Turn::Unknown { why } => {
                tracing::warn!(pair = pair.0, "the lease at B could not be renewed: {why}");
                continue;
            }
        };
        inbox.event(event).await;
    }
}

/// Lets a lease at B go when the daemon stops in order.
pub async fn release(lease: &Lease) {
    if let Lease::AtB { keeper, .. } = lease {
        keeper.release().await;
    }
}
