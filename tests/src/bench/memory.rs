//! Resident memory of the real daemon, idle.

use std::time::Duration;

use super::Row;
use super::daemon::{Daemon, Settings, Target};
use super::serve::Servers;

/// Every probe has looked at least twice by then.
const SETTLE: Duration = Duration::from_secs(12);

/// With one pair, and with a thousand.
pub async fn rows() -> anyhow::Result<Vec<Row>> {
    Ok(vec![
        resident("resident memory, 1 pair", 1, 25.0).await?,
        resident("resident memory, 1,000 pairs", 1000, 150.0).await?,
    ])
}

async fn resident(what: &'static str, pairs: usize, bar: f64) -> anyhow::Result<Row> {
    let directory = tempfile::tempdir()?;
    let site = Servers::start("127.0.0.1", 10).await?;
    let neutral = Servers::start("127.0.9.9", 1).await?;
    let at = |n: usize| site.addresses[n % site.addresses.len()];
    let probes = |n| vec![Target::by_default(at(n), "service"), Target::by_default(at(n + 1), "control_plane")];
    let settings = Settings {
        state: directory.path().join("state"),
        neutral: neutral.addresses[0],
        pairs: (0..pairs).map(probes).collect(),
    };
    let mut daemon = Daemon::start(directory.path(), &settings)?;
    let is_up = |record: &understudy_core::Record| {
        matches!(record, understudy_core::Record::Verdict { to: understudy_core::Verdict::Up, .. })
    };
    daemon.records(pairs, Duration::from_secs(60), |entry| is_up(&entry.record)).await?;
    tokio::time::sleep(SETTLE).await;
    daemon.check_alive()?;
    let note = format!("VmRSS in `observe`, 2 HTTP probes a pair every 5 s, {} s after all were Up", SETTLE.as_secs());
    Ok(Row::at_most(what, daemon.resident_mib()?, bar, "MiB", note))
}
