//! SIGKILL after every single record and after every single effect: resuming leads to the same end, by the same effects
//! (S10).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use understudy_core::{Record, RequestId, Role};

use super::{WORD, b_serves};
use crate::proof::{self, Account, Judged, Source};
use crate::rehearse::moment::Moment;
use crate::rehearse::play::Play;
use crate::rehearse::show::Show;
use crate::rehearse::stage::Wishes;
use crate::rehearse::table::Table;
use crate::standin::effects::Kind;

/// Runs side by side: enough to keep two cores busy, few enough that nobody is starved into doubting himself.
const SIDE_BY_SIDE: usize = 12;
/// From one start to the next: a start costs more than anything after it, and many at once starve each other.
const APART: Duration = Duration::from_millis(1500);
/// A run that was killed once must be over by then.
const LIMIT: Duration = Duration::from_secs(90);
/// After B is active nothing more is done; what is still written down is written by then.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// Effects that two runs must have in common. Objects at B are applied until they are as wanted, so that their count may
/// differ; what they became is checked by what is served in the end.
const COUNTED: [Kind; 5] = [Kind::Promote, Kind::Demote, Kind::Route, Kind::DnsUpdate, Kind::Delete];

type Tally = BTreeMap<String, usize>;

pub async fn killed_everywhere(directory: PathBuf, show: Show) -> anyhow::Result<Table> {
    let Undisturbed { moments, wanted, table } = undisturbed(&directory.join("undisturbed"), show).await?;
    let mut account = Tried { show, total: moments.len(), over: 0, missed: Vec::new(), judged: Judged::new() };
    show.say(&format!(
        "undisturbed: {} moments; the daemon is killed at each of them now, in a failover of its own",
        account.total
    ));
    let turns = Arc::new(Semaphore::new(SIDE_BY_SIDE));
    let mut runs = JoinSet::new();
    for (n, moment) in (1..).zip(moments) {
        let turn = turns.clone().acquire_owned().await?;
        runs.spawn(one(directory.join(format!("moment-{n:03}")), moment, wanted.clone(), turn));
        while let Some(run) = runs.try_join_next() {
            account.enter(run??);
        }
        tokio::time::sleep(APART).await;
    }
    while let Some(run) = runs.join_next().await {
        account.enter(run??);
    }
    account.close()?;
    Ok(table)
}

/// A moment, whether the daemon was killed at it, what was judged on its journal, and how long the failover took.
type Killed = (Moment, bool, Judged, Duration);

async fn one(place: PathBuf, moment: Moment, wanted: Tally, _turn: OwnedSemaphorePermit) -> anyhow::Result<Killed> {
    let began = Instant::now();
    let killed = tokio::time::timeout(LIMIT, killed_once(&place, &moment, &wanted)).await;
    let killed = killed.context("not over in time").flatten();
    let (was_killed, judged) = killed.with_context(|| format!("killed at {moment}; see {}", place.display()))?;
    Ok((moment, was_killed, judged, began.elapsed()))
}

/// What came of each moment.
struct Tried {
    show: Show,
    total: usize,
    over: usize,
    missed: Vec<Moment>,
    judged: Judged,
}

impl Tried {
    fn enter(&mut self, (moment, was_killed, judged, took): Killed) {
        self.over += 1;
        proof::add(&mut self.judged, &judged);
        let end = if was_killed { "same end, same effects" } else { "it did not come this time" };
        let (over, total) = (self.over, self.total);
        self.show.say(&format!("{over} of {total}: {moment}: {end}, {:.1} s", took.as_secs_f64()));
        self.missed.extend((!was_killed).then_some(moment));
    }

    /// Demands that nothing was missed that comes always, and keeps how often each invariant was judged.
    fn close(self) -> anyhow::Result<()> {
        let always = self.missed.iter().filter(|moment| moment.always_comes());
        let in_vain: Vec<String> = always.map(ToString::to_string).collect();
        ensure!(in_vain.is_empty(), "nobody was killed at {}", in_vain.join(", "));
        let what = format!("killed at {} moments of {}", self.total - self.missed.len(), self.total);
        self.show.say(&what);
        let account = Account::now(what, self.judged, None);
        proof::keep(&proof::place(), Source::CrashTest, "killed-everywhere", &account)
    }
}

/// The failover without any crash.
struct Undisturbed {
    moments: Vec<Moment>,
    wanted: Tally,
    table: Table,
}

async fn undisturbed(directory: &Path, show: Show) -> anyhow::Result<Undisturbed> {
    let mut play = Play::begin(directory, &Wishes::default(), show).await?;
    play.journal.look()?;
    let (records, effects) = (play.journal.story().len(), play.stage.world.ledger.all().len());
    play.kill_a().await;
    to_the_end(&mut play).await?;
    b_serves(&mut play).await?;
    play.until("the run is over", LAST_WORDS, |r| matches!(r, Record::RunEnded { .. })).await?;
    let done = play.stage.world.ledger.all();
    let mut moments = Moment::of_records(play.journal.story()[records..].iter().map(|entry| &entry.record));
    moments.extend(Moment::of_effects(done[effects..].iter()));
    Ok(Undisturbed { moments, wanted: play.stage.world.ledger.tally(&COUNTED), table: play.table() })
}

/// Whether the moment came, and what was judged on the journal.
async fn killed_once(directory: &Path, moment: &Moment, wanted: &Tally) -> anyhow::Result<(bool, Judged)> {
    let mut play = Play::begin_killed_at(directory, &Wishes::default(), moment.clone()).await?;
    play.arm()?;
    play.kill_a().await;
    let mut was_killed = to_the_end(&mut play).await?;
    if !was_killed {
        was_killed = last_words(&mut play).await?;
    }
    b_serves(&mut play).await?;
    let tally = play.stage.world.ledger.tally(&COUNTED);
    ensure!(tally == *wanted, "other effects than undisturbed: {tally:?}, wanted {wanted:?}");
    Ok((was_killed, play.judged))
}

/// Answers every question with yes and starts the daemon again when it was killed, until B is active. Whether it was.
async fn to_the_end(play: &mut Play) -> anyhow::Result<bool> {
    let end = Instant::now() + LIMIT;
    let mut answered: Option<RequestId> = None;
    let mut was_killed = false;
    loop {
        was_killed |= revived(play, was_killed)?;
        play.journal.look()?;
        if play.has(|r| matches!(r, Record::RoleChanged { role: Role::AtB, .. })) {
            return Ok(was_killed);
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

/// Waits for a moment among the last records. Whether it came.
async fn last_words(play: &mut Play) -> anyhow::Result<bool> {
    let end = Instant::now() + LAST_WORDS;
    while Instant::now() < end {
        if revived(play, false)? {
            return Ok(true);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(false)
}

/// Starts the daemon again if it is gone. Whether it was; by itself it must never go.
fn revived(play: &mut Play, was_killed: bool) -> anyhow::Result<bool> {
    if !play.daemon_is_gone() {
        return Ok(false);
    }
    ensure!(!was_killed && play.was_killed(), "the daemon ended by itself\n{}", play.log_tail());
    play.start_daemon()?;
    Ok(true)
}
