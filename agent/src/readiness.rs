//! Is B fit to take over? Looked at all the time, so that nobody learns it in the disaster.

use std::time::Duration;

use understudy_actions::bundle::Bundle;
use understudy_actions::storage;
use understudy_core::{Event, PairId};

use crate::inbox::Inbox;
use crate::runner::Means;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(10);
/// B's own Ceph is asked at every so many looks, while it is well.
const TURNS_BETWEEN_LOOKS: u32 = 6;
/// So many faults of it in a row count.
const FAULTS: u32 = 2;
/// The time-out of one call.
const CALL: Duration = Duration::from_secs(5);

/// Looks again and again, and tells the loop what is missing.
pub async fn watch(pair: PairId, means: Means, has_standby: bool, inbox: Inbox) {
    let mut turns = tokio::time::interval(EVERY);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut storage = OwnStorage::default();
    loop {
        turns.tick().await;
        // On the heap while they last, so that the waiting tasks of a thousand pairs stay small.
        let mut missing = Box::pin(missing(&means, has_standby)).await;
        if storage.is_due() {
            storage.take(Box::pin(storage::unfit(&means.pair)).await);
        }
        missing.extend(storage.fault());
        inbox.event(Event::Readiness { pair, missing }).await;
    }
}

/// What is known of B's own Ceph. A look is a process, so that it is asked more rarely while it is well; and one look that
/// fails in the middle of a run must not end it: it is looked at again first.
#[derive(Debug, Default)]
struct OwnStorage {
    turns: u32,
    /// Faults in a row.
    faults: u32,
    last: Option<String>,
}

impl OwnStorage {
    fn is_due(&mut self) -> bool {
        let due = self.faults > 0 || self.turns.is_multiple_of(TURNS_BETWEEN_LOOKS);
        self.turns = self.turns.wrapping_add(1);
        due
    }

    fn take(&mut self, fault: Option<String>) {
        self.faults = if fault.is_some() { self.faults.saturating_add(1) } else { 0 };
        self.last = fault;
    }

    fn fault(&self) -> Option<String> {
        self.last.clone().filter(|_| self.faults >= FAULTS)
    }
}

/// What B lacks, each with its remedy; empty = ready. Nothing of A is asked.
///
/// - `has_standby`: whether the settings name an API server of B.
pub async fn missing(means: &Means, has_standby: bool) -> Vec<String> {
    let mut missing = Vec::new();
    missing.extend(unreadable_files(means));
    if let Some(client) = &means.standby {
        missing.extend(api_silent(client).await);
    } else if has_standby {
        missing.push("B's API server can not be reached: see clusters.standby".into());
    }
    missing
}

fn unreadable_files(means: &Means) -> Vec<String> {
    let mut missing = Vec::new();
    let pair = &means.pair;
    if pair.restore.is_some()
        && let Err(error) = Bundle::of(pair)
    {
        missing.push(format!("bundle: {error}"));
    }
    if let Some(deploy) = &pair.deploy
        && let Err(error) = std::fs::File::open(&deploy.manifest)
    {
        missing.push(format!("deploy.manifest {}: {error}", deploy.manifest.display()));
    }
    let credentials = pair.nexus.as_ref().and_then(|nexus| nexus.credentials.as_ref());
    if let Some(Err(error)) = credentials.map(|c| c.password.read()) {
        missing.push(error.to_string());
    }
    missing
}

async fn api_silent(client: &kube::Client) -> Option<String> {
    match tokio::time::timeout(CALL, client.apiserver_version()).await {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(format!("B's API server: {error}")),
        Err(_) => Some("B's API server does not answer".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_fault_of_our_own_ceph_is_looked_at_again_and_two_in_a_row_count() {
        let mut storage = OwnStorage::default();

        assert!(storage.is_due(), "at the start");
        storage.take(Some("the cluster does not answer".into()));
        assert_eq!(storage.fault(), None);
        assert!(storage.is_due(), "a fault is looked at again at once");
        storage.take(Some("the cluster does not answer".into()));
        assert_eq!(storage.fault().as_deref(), Some("the cluster does not answer"));
        storage.take(None);
        assert_eq!(storage.fault(), None);
    }

    #[test]
    fn while_it_is_well_our_own_ceph_is_asked_once_a_minute() {
        let mut storage = OwnStorage::default();

        let looks = (0..12).filter(|_| storage.is_due()).count();

        assert_eq!(looks, 2);
    }
}
