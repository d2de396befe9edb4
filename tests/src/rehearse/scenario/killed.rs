//! SIGKILL after every single record: resuming leads to the same end, by the same effects (S10).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use understudy_core::{Record, RequestId, Role};

use super::{WORD, b_serves};
use crate::rehearse::play::Play;
use crate::rehearse::show::Show;
use crate::rehearse::stage::Wishes;
use crate::rehearse::table::Table;
use crate::standin::effects::Kind;

/// Runs side by side: enough to keep two cores busy, few enough that nobody is starved into doubting himself.
const SIDE_BY_SIDE: usize = 8;
/// A run that was killed once must be over by then.
const LIMIT: Duration = Duration::from_secs(90);
/// Effects that two runs must have in common. Objects at B are applied until they are as wanted, so that their count may
/// differ; what they became is checked by what is served in the end.
const COUNTED: [Kind; 5] = [Kind::Promote, Kind::Demote, Kind::Route, Kind::DnsUpdate, Kind::Delete];

type Tally = BTreeMap<String, usize>;

pub async fn killed_everywhere(directory: PathBuf, show: Show) -> anyhow::Result<Table> {
    let (records, wanted, table) = undisturbed(&directory.join("undisturbed"), show).await?;
    show.say(&format!(
        "undisturbed: {records} records from the hold-down on; the daemon is killed after each of them now"
    ));
    let turns = Arc::new(Semaphore::new(SIDE_BY_SIDE));
    let mut runs = JoinSet::new();
    for after in 1..=records {
        let (turns, wanted, place) = (turns.clone(), wanted.clone(), directory.join(format!("after-{after:03}")));
        runs.spawn(async move {
            let _turn = turns.acquire_owned().await?;
            let killed = tokio::time::timeout(LIMIT, killed_once(&place, after, &wanted)).await;
            killed
                .context("not over in time")
                .flatten()
                .with_context(|| format!("killed after record {after}; see {}", place.display()))
        });
    }
    let mut killed = 0;
    while let Some(run) = runs.join_next().await {
        let after = run??;
        killed += 1;
        show.say(&format!("{killed} of {records}: {after}; same end, same effects"));
    }
    Ok(table)
}

/// The failover without any crash: how many records it writes, and what it does to the world.
async fn undisturbed(directory: &Path, show: Show) -> anyhow::Result<(usize, Tally, Table)> {
    let mut play = Play::begin(directory, &Wishes::default(), show).await?;
    play.kill_a().await;
    to_the_end(&mut play, None).await?;
    b_serves(&mut play).await?;
    let began = play.story.iter().position(|entry| matches!(entry.record, Record::HoldDownBegan { .. }));
    let records = play.story.len() - began.context("no hold-down")?;
    Ok((records, play.stage.world.ledger.tally(&COUNTED), play.table()))
}

async fn killed_once(directory: &Path, after: usize, wanted: &Tally) -> anyhow::Result<String> {
    let mut play = Play::begin_killed_after(directory, &Wishes::default(), after).await?;
    play.kill_a().await;
    let last = to_the_end(&mut play, Some(after)).await?;
    b_serves(&mut play).await?;
    let tally = play.stage.world.ledger.tally(&COUNTED);
    ensure!(tally == *wanted, "other effects than undisturbed: {tally:?}, wanted {wanted:?}");
    Ok(last)
}

/// Answers every question with yes and starts the daemon again when it is gone, until B is active.
async fn to_the_end(play: &mut Play, killed_after: Option<usize>) -> anyhow::Result<String> {
    let end = Instant::now() + LIMIT;
    let mut answered: Option<RequestId> = None;
    let mut killed_at = String::new();
    loop {
        play.look()?;
        if play.daemon_is_gone() {
            ensure!(killed_after.is_some() && killed_at.is_empty(), "the daemon ended by itself\n{}", play.log_tail());
            killed_at = play
                .story
                .last()
                .map_or_else(String::new, |entry| format!("{:?}", entry.record).chars().take(60).collect());
            play.start_daemon()?;
        }
        if play.has(|r| matches!(r, Record::RoleChanged { role: Role::AtB, .. })) {
            // A crash right after the last record leaves nothing to do but to start again.
            if killed_after.is_none() || !killed_at.is_empty() {
                return Ok(killed_at);
            }
        }
        if let Some(open) = play.open_request()
            && answered.as_ref() != Some(&open)
        {
            // The daemon may be killed in the middle of it; then it is asked anew.
            let (code, _) = play.command(&["approve", open.as_str(), "--accept-unfenced", WORD]).await?;
            if code == 0 {
                answered = Some(open);
            }
        }
        if Instant::now() > end {
            bail!("B is not active after {LIMIT:?}\n{}", play.log_tail());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
