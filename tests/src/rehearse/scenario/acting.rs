//! What goes wrong on the way.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use understudy_core::{Ending, LossBound, Question, Record, Role, Step, StepResult, Verdict};

use super::{RUN, SOON, WORD, b_serves, die_and_approve, verdict};
use crate::rehearse::play::Play;
use crate::rehearse::show::Show;
use crate::rehearse::stage::Wishes;
use crate::rehearse::table::Table;
use crate::standin::ceph::PromoteFault;
use crate::standin::effects::Kind;
use crate::standin::lb::Fault;
use crate::standin::side::Side;

fn intent(wanted: Step) -> impl Fn(&Record) -> bool {
    move |r| matches!(r, Record::Intent { step, .. } if *step == wanted)
}

fn stuck(wanted: Step) -> impl Fn(&Record) -> bool {
    move |r| match r {
        Record::Stuck { step, .. } => *step == wanted,
        Record::Outcome { step, result: StepResult::Failed { .. }, again_ms: None, .. } => *step == wanted,
        _ => false,
    }
}

pub async fn promote_hangs(directory: PathBuf, show: Show) -> anyhow::Result<Table> {
    let mut play = Play::begin(&directory, &Wishes::default(), show).await?;
    play.stage.world.ceph.set_promote_fault(PromoteFault::Hang);

    die_and_approve(&mut play).await?;
    play.until("the promote is stuck", RUN, stuck(Step::Promote)).await?;

    let repeated = |r: &Record| matches!(r, Record::Intent { step: Step::Promote, attempt, .. } if *attempt > 1);
    let onward = |r: &Record| intent(Step::Deploy)(r) || intent(Step::Verify)(r) || intent(Step::Route(0))(r);
    play.never("anything after a promote that hangs", Duration::from_secs(4), |r| repeated(r) || onward(r)).await?;
    ensure!(play.pages().contains(&"stuck".to_owned()), "paged: {:?}", play.pages());
    ensure!(play.stage.world.balancer.active() == "a", "the route was moved");
    ensure!(play.stage.world.ledger.of(Kind::Promote).is_empty(), "something was promoted");
    Ok(play.table())
}

pub async fn returns_before_promote(directory: PathBuf, show: Show) -> anyhow::Result<Table> {
    let mut wishes = Wishes::default();
    // The quiesce takes long enough for A to come back meanwhile.
    wishes.plan.ceph.blocklist = Duration::from_secs(2);
    let mut play = Play::begin(&directory, &wishes, show).await?;

    die_and_approve(&mut play).await?;
    play.until("the quiesce begins", RUN, intent(Step::Quiesce)).await?;
    play.say("A lives again");
    play.stage.world.a.restart().await?;

    let stopped = |r: &Record| matches!(r, Record::RunEnded { ending: Ending::Stopped { .. }, .. });
    play.until("the run is stopped", RUN, stopped).await?;
    ensure!(!play.has(intent(Step::Promote)), "a promote was begun beside a living A");
    ensure!(play.has(intent(Step::MirrorBack)), "the mirror was not brought back");
    play.until("A is the active site", SOON, |r| matches!(r, Record::RoleChanged { role: Role::AtA, .. })).await?;
    ensure!(play.stage.world.ledger.of(Kind::Promote).is_empty(), "something was promoted");
    ensure!(play.stage.world.balancer.active() == "a", "the route was moved");
    let (world, image) = (&play.stage.world, play.stage.world.plan.image());
    let resumed = world.ceph.until_in_step(Side::B, &image);
    tokio::time::timeout(SOON, resumed).await.map_err(|_| anyhow::anyhow!("the mirror does not replay again"))?;
    play.verify_journal().await?;
    Ok(play.table())
}

pub async fn mid_sync(directory: PathBuf, show: Show) -> anyhow::Result<Table> {
    let mut wishes = Wishes::default();
    wishes.plan.ceph.minute = Duration::from_secs(2);
    let mut play = Play::begin(&directory, &wishes, show).await?;

    // ARTIFACT is the first generation, in a complete snapshot whose source time is known. The second one comes in the
    // next snapshot; the one after that stands still half-way.
    let second = "raw/rehearsal/second.bin";
    play.upload(second, b"the second generation").await?;
    let (world, name) = (&play.stage.world, play.stage.world.plan.image());
    // A copy under way shows parts of the new generation already.
    let arrived = world.ceph.until(Side::B, &name, |image| {
        !image.mid_sync() && image.volume.read(|content| content.artifacts.contains_key(second))
    });
    tokio::time::timeout(SOON, arrived).await?;
    world.ceph.hold_sync(Some(20));
    play.say("the second generation is complete at B; the next copy stands still half-way");
    play.upload("raw/rehearsal/third.bin", b"the third generation").await?;
    let under_way = play.stage.world.ceph.until(Side::B, &name, |image| image.mid_sync());
    tokio::time::timeout(SOON, under_way).await?;
    let known = play.journal.newest();
    play.until_entry("the daemon has looked since", SOON, move |entry| entry.seq > known).await.ok();

    play.kill_a().await;
    play.until("the verdict is SiteDown", SOON, verdict(Verdict::SiteDown)).await?;
    let request = play.question(Question::Failover, SOON).await?;
    ensure!(
        request.evidence.points.iter().all(|point| point.mid_sync),
        "the bound does not know of the sync under way"
    );
    let LossBound::AtMost(bound_ms) = request.bound else { anyhow::bail!("the bound is not known") };
    play.human(&["approve", request.id.as_str(), "--accept-unfenced", WORD]).await?;
    ensure!(play.run_ends(RUN).await?, "the run did not succeed");

    b_serves(&mut play).await?;
    ensure!(play.download(second).await.is_err(), "the second generation is there: the bound named too old a snapshot");
    let age_ms = request.asked.wall_ms - play.hurt_at.map_or(0, |(_, wall)| wall);
    ensure!(i128::from(bound_ms) >= i128::from(age_ms), "the bound is shorter than the outage");
    play.say("the second generation is gone, as the bound had named; no mixture");
    Ok(play.table())
}

pub async fn route_refused(directory: PathBuf, show: Show) -> anyhow::Result<Table> {
    let mut play = Play::begin(&directory, &Wishes::default(), show).await?;
    play.stage.world.balancer.set_fault(Fault::Refuse);

    die_and_approve(&mut play).await?;
    play.until("the route step needs a human", RUN, stuck(Step::Route(0))).await?;

    play.never("success without a route", Duration::from_secs(3), |r| matches!(r, Record::RunEnded { .. })).await?;
    ensure!(play.pages().contains(&"stuck".to_owned()), "paged: {:?}", play.pages());
    ensure!(play.stage.world.balancer.active() == "a", "the route was moved");
    let run = play.run_id()?;
    play.say("the hook takes the call again");
    play.stage.world.balancer.set_fault(Fault::None);
    play.human(&["retry", &run]).await?;
    play.until("B is active", RUN, |r| matches!(r, Record::RoleChanged { role: Role::AtB, .. })).await?;
    b_serves(&mut play).await?;
    Ok(play.table())
}

pub async fn answer_lost(directory: PathBuf, show: Show) -> anyhow::Result<Table> {
    let mut play = Play::begin(&directory, &Wishes::default(), show).await?;
    play.stage.world.balancer.set_fault(Fault::AnswerLost);

    die_and_approve(&mut play).await?;

    ensure!(play.run_ends(RUN).await?, "the run did not succeed");
    b_serves(&mut play).await?;
    let routes = play.stage.world.ledger.of(Kind::Route);
    ensure!(routes.len() == 1, "the route was moved {} times", routes.len());
    Ok(play.table())
}

pub async fn old_primary_returns(directory: PathBuf, show: Show) -> anyhow::Result<Table> {
    let mut play = Play::begin(&directory, &Wishes::default(), show).await?;
    die_and_approve(&mut play).await?;
    ensure!(play.run_ends(RUN).await?, "the run did not succeed");
    b_serves(&mut play).await?;
    let kinds = [Kind::Promote, Kind::Demote, Kind::Route, Kind::Resync];
    let before = play.stage.world.ledger.tally(&kinds);

    play.say("A returns by itself and serves");
    play.stage.world.a.restart().await?;
    play.until("the alarm", SOON, |r| matches!(r, Record::OldPrimaryReturned { .. })).await?;

    let back = |r: &Record| matches!(r, Record::RoleChanged { role: Role::AtA, .. });
    play.never("a return by itself", Duration::from_secs(5), back).await?;
    ensure!(
        play.stage.world.ledger.tally(&kinds) == before,
        "something was written: {:?}",
        play.stage.world.ledger.tally(&kinds)
    );
    ensure!(play.stage.world.balancer.active() == "b", "the route went back");
    ensure!(play.pages().contains(&"old_primary_returned".to_owned()), "paged: {:?}", play.pages());
    Ok(play.table())
}
