//! From a human's yes to the report, with stand-ins that answer at once: what the daemon itself takes.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use understudy_agent::journal::Entry;
use understudy_core::{Question, Record};

use super::Row;
use crate::rehearse::play::Play;
use crate::rehearse::show::Show;
use crate::rehearse::stage::Wishes;
use crate::rehearse::table::Table;
use crate::standin::site::Plan;
use crate::standin::{ceph, kube, nexus};

const RUNS: usize = 3;
const BAR_S: f64 = 0.3;
const PATIENCE: Duration = Duration::from_secs(30);

/// The slowest of three runs, nothing subtracted.
pub async fn rows() -> anyhow::Result<Vec<Row>> {
    let mut slowest: Option<(f64, String)> = None;
    for _ in 0..RUNS {
        let directory = tempfile::tempdir()?;
        let (took, steps) = one(directory.path()).await?;
        if slowest.as_ref().is_none_or(|(longest, _)| took > *longest) {
            slowest = Some((took, steps));
        }
    }
    let (took, steps) = slowest.context("no run")?;
    let note = format!("slowest of {RUNS}; wall time by the journal; of it: {steps}");
    Ok(vec![Row::at_most("approval to report, stand-ins answer at once", took, BAR_S, "s", note)])
}

async fn one(directory: &Path) -> anyhow::Result<(f64, String)> {
    let mut play = Play::begin(directory, &at_once(), Show::new(true)).await?;
    play.kill_a().await;
    let request = play.question(Question::Failover, PATIENCE).await?;
    play.human(&["approve", request.id.as_str(), "--accept-unfenced", "a benchmark has no power to cut"]).await?;
    ensure!(play.run_ends(PATIENCE).await?, "the run did not succeed: {}", play.log_tail());
    let at = |wanted: fn(&Record) -> bool| {
        let entry = play.journal.story().iter().find(|entry: &&Entry| wanted(&entry.record));
        entry.map(|entry| entry.at.boot_ms).context("a record is missing")
    };
    let answered = at(|record| matches!(record, Record::Answered { .. }))?;
    let ended = at(|record| matches!(record, Record::RunEnded { .. }))?;
    Ok((Duration::from_millis(ended - answered).as_secs_f64(), steps(&play.table())))
}

/// Nothing in the world takes time of its own.
fn at_once() -> Wishes {
    let zero = Duration::ZERO;
    let plan = Plan {
        ceph: ceph::Timing::immediate(),
        nexus: nexus::Timing { start: zero, stopping: zero, ..nexus::Timing::default() },
        kube: kube::Timing { operator: Duration::from_millis(1), ..kube::Timing::default() },
        ..Plan::default()
    };
    Wishes { plan, refused_for: "0s", ..Wishes::default() }
}

/// The steps that took longest.
fn steps(table: &Table) -> String {
    let mut steps = table.steps_ms.clone();
    steps.sort_by_key(|(_, ms)| -ms);
    let steps: Vec<String> = steps.iter().take(6).map(|(step, ms)| format!("{step} {ms} ms")).collect();
    steps.join(", ")
}
