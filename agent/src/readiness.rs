//! Is B fit to take over? Looked at all the time, so that nobody learns it in the disaster.

use std::time::Duration;

use understudy_actions::bundle::Bundle;
use understudy_config::Config;
use understudy_core::{Event, PairId};

use crate::inbox::Inbox;
use crate::runner::Means;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(10);
/// The time-out of one call.
const CALL: Duration = Duration::from_secs(5);

/// Looks again and again, and tells the loop what is missing.
pub async fn watch(pair: PairId, means: Means, config: Config, inbox: Inbox) {
    let mut turns = tokio::time::interval(EVERY);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        let missing = missing(&means, &config).await;
        inbox.event(Event::Readiness { pair, missing }).await;
    }
}

/// What B lacks, each with its remedy; empty = ready. Nothing of A is asked.
pub async fn missing(means: &Means, config: &Config) -> Vec<String> {
    let mut missing = Vec::new();
    missing.extend(unreadable_files(means));
    if let Some(client) = &means.standby {
        missing.extend(api_silent(client).await);
    } else if config.clusters.standby.is_some() {
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
