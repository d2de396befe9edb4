//! Who says yes, and what becomes of a no.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use understudy_core::{Authority, LossBound, Question, Record, Verdict};

use super::{RUN, SOON, WORD, asked, b_serves, die_and_approve, run_started, verdict};
use crate::rehearse::play::Play;
use crate::rehearse::show::Show;
use crate::rehearse::stage::Wishes;
use crate::rehearse::table::Table;
use crate::standin::ceph::Signal;
use crate::standin::side::Side;

/// The exit code of an order that the daemon refuses.
const REFUSED: i32 = 3;

pub async fn site_down(directory: PathBuf, show: Show) -> anyhow::Result<Table> {
    let mut play = Play::begin(&directory, &Wishes::default(), show).await?;

    die_and_approve(&mut play).await?;

    ensure!(play.run_ends(RUN).await?, "the run did not succeed");
    b_serves(&mut play).await?;
    Ok(play.table())
}

pub async fn site_down_auto(directory: PathBuf, show: Show) -> anyhow::Result<Table> {
    let wishes = Wishes { mode: "auto", witness: true, ..Wishes::default() };
    let mut play = Play::begin(&directory, &wishes, show).await?;

    play.kill_a().await;
    let started = play.until("a run begins", SOON, run_started).await?;

    let Record::RunStarted { run, .. } = started.record else { unreachable!("that is what was waited for") };
    ensure!(matches!(run.authority, Authority::Automatic { .. }), "it was not automatic: {:?}", run.authority);
    ensure!(play.run_ends(RUN).await?, "the run did not succeed");
    b_serves(&mut play).await?;
    Ok(play.table())
}

pub async fn no_witness(directory: PathBuf, show: Show) -> anyhow::Result<Table> {
    let mut play = Play::begin(&directory, &Wishes { mode: "auto", ..Wishes::default() }, show).await?;

    play.kill_a().await;
    play.until(
        "the shadow ledger names the gate",
        SOON,
        |r| matches!(r, Record::Shadow { would_act: false, decided_by: Some(gate), .. } if gate.contains("witness")),
    )
    .await?;
    play.question(Question::Failover, SOON).await?;

    play.never("a run without a human", Duration::from_secs(4), run_started).await?;
    ensure!(play.stage.world.balancer.active() == "a", "the route was moved");
    Ok(play.table())
}

pub async fn denied(directory: PathBuf, show: Show) -> anyhow::Result<Table> {
    let mut play = Play::begin(&directory, &Wishes::default(), show).await?;

    play.kill_a().await;
    let request = play.question(Question::Failover, SOON).await?;
    play.human(&["deny", request.id.as_str(), "--reason", "they are mending it"]).await?;

    let first = request.id.clone();
    let again = move |r: &Record| matches!(r, Record::Requested { request } if request.id != first);
    play.never("another question in this outage", Duration::from_secs(6), |r| again(r) || run_started(r)).await?;
    ensure!(play.stage.world.balancer.active() == "a", "the route was moved");
    Ok(play.table())
}

pub async fn expired(directory: PathBuf, show: Show) -> anyhow::Result<Table> {
    let mut play = Play::begin(&directory, &Wishes { approval_ttl: "3s", ..Wishes::default() }, show).await?;

    play.kill_a().await;
    let first = play.question(Question::Failover, SOON).await?;
    play.until("it is asked louder", SOON, |r| matches!(r, Record::Escalated { .. })).await?;
    play.until("it expires", SOON, |r| matches!(r, Record::Voided { .. })).await?;
    let second = first.id.clone();
    let anew = move |r: &Record| matches!(r, Record::Requested { request } if request.id != second);
    play.until("it is asked anew", SOON, anew).await?;

    let (code, said) = play.command(&["approve", first.id.as_str(), "--accept-unfenced", WORD]).await?;
    ensure!(code == REFUSED, "the old question was not refused: exit {code}: {said}");
    ensure!(said.contains("not open"), "the refusal does not say why: {said}");
    play.until("the refusal is journaled", SOON, |r| matches!(r, Record::Refused { .. })).await?;
    ensure!(!play.has(run_started), "a run was begun");
    Ok(play.table())
}

pub async fn stale_mirror(directory: PathBuf, show: Show) -> anyhow::Result<Table> {
    let wishes = Wishes { rpo_max: "45s", approval_ttl: "10s", ..Wishes::default() };
    let mut play = Play::begin(&directory, &wishes, show).await?;

    play.say("rbd-mirror at B dies; the copy grows old");
    play.stage.world.ceph.signal_daemon(Side::B, Signal::Kill);
    play.kill_a().await;
    play.until("the verdict is SiteDown", SOON, verdict(Verdict::SiteDown)).await?;
    let request = play.question(Question::Failover, SOON).await?;
    ensure!(request.needs_loss_consent, "the bound at expiry is {}, within the limit", request.bound_at_expiry);
    let (code, said) = play.command(&["approve", request.id.as_str(), "--accept-unfenced", WORD]).await?;
    ensure!(code == REFUSED && said.contains("--accept-loss"), "a plain yes was not refused: exit {code}: {said}");
    ensure!(!play.has(run_started), "a run was begun");

    let LossBound::AtMost(ms) = request.bound_at_expiry else { anyhow::bail!("the bound is not known") };
    let loss = format!("{}s", ms.div_ceil(1000));
    let yes = ["approve", request.id.as_str(), "--accept-unfenced", WORD, "--accept-loss", loss.as_str()];
    play.human(&yes).await?;
    ensure!(play.run_ends(RUN).await?, "the run did not succeed");
    b_serves(&mut play).await?;
    ensure!(play.has(asked), "nobody was asked");
    Ok(play.table())
}
