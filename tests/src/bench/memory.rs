//! Resident memory of the real daemon, idle.

use std::time::Duration;

use super::Row;
use super::daemon::{Daemon, Settings, Target};
use super::serve::Servers;

/// Every probe has looked at least twice by then.
const SETTLE: Duration = Duration::from_secs(12);

/// Until all are Up: the settings of a thousand pairs are long.
const START: Duration = Duration::from_secs(240);

/// With one pair, and with a thousand.
pub async fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (what, pairs, bar) in [("resident memory, 1 pair", 1, 25.0), ("resident memory, 1,000 pairs", 1000, 150.0)] {
        rows.push(resident(what, pairs, bar).await.unwrap_or_else(|error| Row::failed(what, &error)));
    }
    rows
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
    daemon.records(pairs, START, |entry| is_up(&entry.record)).await?;
    tokio::time::sleep(SETTLE).await;
    daemon.check_alive()?;
    let note = format!("VmRSS in `observe`, 2 HTTP probes a pair every 5 s, {} s after all were Up", SETTLE.as_secs());
    Ok(Row::at_most(what, daemon.resident_mib()?, bar, "MiB", note))
}
