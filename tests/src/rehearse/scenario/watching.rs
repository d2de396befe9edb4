//! What is not the death of a site.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use rustix::process::Signal;
use understudy_core::{Record, Verdict};

use super::{SOON, asked, run_started, verdict};
use crate::rehearse::play::Play;
use crate::rehearse::show::Show;
use crate::rehearse::stage::Wishes;
use crate::rehearse::table::Table;

/// Far longer than detection and hold-down take here.
const LONG: Duration = Duration::from_secs(10);

fn condemned(r: &Record) -> bool {
    asked(r) || run_started(r) || verdict(Verdict::SiteDown)(r)
}

pub async fn service_down(directory: PathBuf, show: Show) -> anyhow::Result<Table> {
    let mut play = Play::begin(&directory, &Wishes::default(), show).await?;

    play.hurt_now("Nexus at A dies and stays dead; its site lives");
    let name = play.stage.world.plan.name.clone();
    play.stage.world.a.kill_nexus(&name, true).await;
    play.until("the verdict is ServiceDown", SOON, verdict(Verdict::ServiceDown)).await?;

    play.never("a failover of a living site", LONG, condemned).await?;
    ensure!(play.pages() == ["service_down"], "paged: {:?}", play.pages());
    Ok(play.table())
}

pub async fn flapping(directory: PathBuf, show: Show) -> anyhow::Result<Table> {
    let mut play = Play::begin(&directory, &Wishes::default(), show).await?;

    play.hurt_now("A comes and goes");
    for _ in 0..3 {
        play.stage.world.a.freeze();
        play.never("a failover of a flapping site", Duration::from_millis(3500), condemned).await?;
        play.stage.world.a.thaw();
        play.never("a failover of a flapping site", Duration::from_millis(2500), condemned).await?;
    }
    play.stage.world.a.freeze();
    play.never("a failover right after the flapping", Duration::from_secs(5), condemned).await?;
    play.stage.world.a.thaw();
    Ok(play.table())
}

pub async fn we_are_cut_off(directory: PathBuf, show: Show) -> anyhow::Result<Table> {
    let mut play = Play::begin(&directory, &Wishes::default(), show).await?;

    play.hurt_now("our own link dies: neither A nor any neutral address answers");
    play.stage.neutral.kill().await;
    play.stage.world.a.freeze();
    play.until("the verdict is Blind", SOON, verdict(Verdict::Blind)).await?;

    play.never("an accusation by the blind", LONG, condemned).await?;
    Ok(play.table())
}

pub async fn frozen_api(directory: PathBuf, show: Show) -> anyhow::Result<Table> {
    let mut play = Play::begin(&directory, &Wishes::default(), show).await?;

    play.hurt_now("A's API server is frozen: it accepts connections and never answers");
    play.stage.world.a.kube.freeze();
    play.until("the verdict is Suspect", SOON, |r| {
        matches!(r, Record::Verdict { from: Verdict::Up, to: Verdict::Suspect, cause, .. } if cause.contains("api"))
    })
    .await?;

    play.never("a failover for an API server", LONG, condemned).await?;
    play.stage.world.a.kube.thaw();
    Ok(play.table())
}

pub async fn frozen_agent(directory: PathBuf, show: Show) -> anyhow::Result<Table> {
    let mut play = Play::begin(&directory, &Wishes::default(), show).await?;

    play.hurt_now("the daemon itself is stopped for 5 s");
    play.signal_daemon(Signal::STOP)?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    play.signal_daemon(Signal::CONT)?;
    let before = play.journal.newest();
    let doubted = move |entry: &understudy_agent::journal::Entry| {
        entry.seq > before && matches!(&entry.record, Record::Doubt { why: Some(why) } if why.contains("not running"))
    };
    play.until_entry("it doubts itself", SOON, doubted).await?;
    let trusted = move |entry: &understudy_agent::journal::Entry| {
        entry.seq > before && matches!(entry.record, Record::Verdict { to: Verdict::Up, .. })
    };
    play.until_entry("it finds A alive again", SOON, trusted).await?;
    ensure!(!play.has(condemned), "it accused a living A");

    play.kill_a().await;
    play.until("a real death is seen", SOON, verdict(Verdict::SiteDown)).await?;
    Ok(play.table())
}
