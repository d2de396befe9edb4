//! Resident memory of the real daemon, idle, and how long a large one takes to start.

use std::time::Duration;

use understudy_agent::journal::Entry;
use understudy_core::{Record, Verdict};

use super::Row;
use super::daemon::{Daemon, Settings, Target};
use super::serve::Servers;

/// Every probe has looked at least twice by then.
const SETTLE: Duration = Duration::from_secs(12);

/// Until all are Up; far more than the bar.
const START: Duration = Duration::from_secs(120);

/// Pairs of a large daemon.
const MANY: usize = 1000;

/// Settings read, checked, posted and journaled.
const START_BAR_S: f64 = 5.0;

/// With one pair, and with a thousand.
pub async fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (what, pairs, bar) in [("resident memory, 1 pair", 1, 25.0), ("resident memory, 1,000 pairs", MANY, 150.0)] {
        match idle(what, pairs, bar).await {
            Ok(measured) => rows.extend(measured),
            Err(error) => rows.push(Row::failed(what, &error)),
        }
    }
    rows
}

async fn idle(what: &'static str, pairs: usize, bar: f64) -> anyhow::Result<Vec<Row>> {
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
    let began_ms = daemon.started_ms;
    let since_start = |entry: &Entry| entry.at.boot_ms.saturating_sub(began_ms);
    let is_start = |entry: &Entry| matches!(entry.record, Record::Started { .. });
    let is_up = |entry: &Entry| matches!(entry.record, Record::Verdict { to: Verdict::Up, .. });
    let told = daemon.records(pairs + 1, START, |entry| is_start(entry) || is_up(entry)).await?;
    tokio::time::sleep(SETTLE).await;
    daemon.check_alive()?;
    let note = format!("VmRSS in `observe`, 2 HTTP probes a pair every 5 s, {} s after all were Up", SETTLE.as_secs());
    let mut rows = vec![Row::at_most(what, daemon.resident_mib()?, bar, "MiB", note)];
    if pairs == MANY {
        let [started, all_up] = [told.first(), told.last()].map(|entry| entry.map_or(0, since_start));
        let seconds = |ms| Duration::from_millis(ms).as_secs_f64();
        let note = format!("the last pair was Up after {:.1} s; by theory two looks 5 s apart", seconds(all_up));
        rows.push(Row::at_most("start with 1,000 pairs, to its record", seconds(started), START_BAR_S, "s", note));
    }
    Ok(rows)
}
