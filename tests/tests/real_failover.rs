//! Whole failovers by the real daemon, on two real Ceph clusters, two real control planes and real Nexus instances.
//!
//! Each scenario has a lab of its own: a failover leaves nothing behind from which the next one could honestly begin.

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use understudy_core::{Ending, Question, Record, Request, Role, Step, StepResult, Verdict};
use understudy_tests::lab::Side;
use understudy_tests::lab::ceph::spec;
use understudy_tests::lab::guard::{Guarded, Programs, Wishes, named_safe, within};
use understudy_tests::lab::run::until;
use understudy_tests::lab::site::Volume;

const PROGRAMS: Programs =
    Programs { operator: env!("CARGO_BIN_EXE_lab_operator"), understudy: env!("CARGO_BIN_EXE_rehearse") };
/// Detection and hold-down, on a machine that has other things to do.
const DETECTED: Duration = Duration::from_secs(120);
/// A whole run.
const RUN: Duration = Duration::from_secs(300);
/// Something that needs a few rounds of the slowest probe.
const SOON: Duration = Duration::from_secs(60);
/// What a human says who accepts that A could not be fenced.
const WORD: &str = "the data centre says that the power is off";
/// Large enough for A to be stopped while it is copied.
const GENERATION_MIB: u32 = 256;

macro_rules! scenarios {
    ($($test:ident $play:ident)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        #[ignore = "needs the real parts: tests/run real"]
        async fn $test() {
            $play().await.unwrap();
        }
    )*};
}

scenarios! {
    a_killed_site_is_confirmed_and_served_by_the_other_within_the_loss_that_was_named killed
    a_frozen_site_is_confirmed_and_served_by_the_other_within_the_loss_that_was_named frozen
    a_site_frozen_in_the_middle_of_a_sync_leaves_one_whole_generation_within_the_loss_that_was_named mid_sync
    daemon_and_promote_killed_in_step_are_resumed_or_for_a_human killed_promote
    daemon_and_promote_killed_in_the_middle_of_a_sync_are_for_a_human killed_promote_mid_sync
    three_images_of_one_pair_are_promoted_together three_images
    beside_a_living_api_server_only_force_goes_on_and_only_behind_a_confirmed_fence living_api
}

async fn killed() -> Result<()> {
    let mut pair = Guarded::up("killed", PROGRAMS, &Wishes::default()).await?;

    pair.kill_a().await?;
    let request = approved(&mut pair).await?;
    succeeds(&mut pair).await?;

    pair.b_serves().await?;
    pair.compare(named_safe(&request)?).await?;
    pair.account().await
}

async fn frozen() -> Result<()> {
    let mut pair = Guarded::up("frozen", PROGRAMS, &Wishes::default()).await?;

    pair.freeze_a().await?;
    let request = approved(&mut pair).await?;
    succeeds(&mut pair).await?;

    pair.b_serves().await?;
    pair.lab.a.kill().await?;
    pair.compare(named_safe(&request)?).await?;
    pair.account().await
}

async fn mid_sync() -> Result<()> {
    let mut pair = Guarded::up("mid-sync", PROGRAMS, &Wishes::default()).await?;
    let taken = freeze_in_a_sync(&mut pair).await?;

    let request = approved(&mut pair).await?;
    ensure!(request.evidence.points.iter().all(|point| point.mid_sync), "the bound does not know of the sync");
    succeeds(&mut pair).await?;

    pair.b_serves().await?;
    pair.lab.a.kill().await?;
    let stamps = within(&pair.lab, Side::B, &format!("LC_ALL=C uniq -c {}", stamped(&pair, Side::B))).await?;
    pair.lab.say(&format!("generations at B: {:?}", stamps.trim()));
    ensure!(stamps.lines().count() == 1, "a mixture of generations: {stamps}");
    let number: usize = stamps.trim().rsplit('-').next().context("no number")?.parse()?;
    let (snapshot, at) = taken[number - 1];
    let point = &request.evidence.points[0];
    ensure!(point.snapshot == Some(snapshot), "generation {number} is there, the question named {point:?}");
    ensure!(at >= named_safe(&request)?, "generation {number} is older than the bound that was named");
    pair.compare(named_safe(&request)?).await?;
    pair.account().await
}

async fn killed_promote() -> Result<()> {
    let mut pair = Guarded::up("killed-promote", PROGRAMS, &Wishes::default()).await?;

    pair.kill_a().await?;
    let request = approved(&mut pair).await?;
    kill_daemon_and_promote(&mut pair, Duration::from_secs(1)).await?;
    resumes(&mut pair).await?;

    pair.b_serves().await?;
    pair.compare(named_safe(&request)?).await?;
    pair.account().await
}

async fn killed_promote_mid_sync() -> Result<()> {
    let wishes = Wishes { compared: false, ..Wishes::default() };
    let mut pair = Guarded::up("killed-promote-mid-sync", PROGRAMS, &wishes).await?;
    freeze_in_a_sync(&mut pair).await?;

    approved(&mut pair).await?;
    kill_daemon_and_promote(&mut pair, Duration::from_millis(2500)).await?;
    let from = pair.daemon.journal.newest();
    let done = |record: &Record| {
        matches!(record, Record::Outcome { step: Step::Promote, .. } | Record::Stuck { step: Step::Promote, .. })
    };
    let entry = pair.daemon.until("the resumed promote is judged", from, RUN, done).await?;

    pair.daemon.say(&format!("judged: {:?}", entry.record));
    pair.daemon.say(&format!("left at B: {}", pair.left_at_b(&Volume::data().image).await?));
    ensure!(!promoted(&entry.record), "half a promote passes for a whole one: {:?}", entry.record);
    let onward = |record: &Record| matches!(record, Record::Intent { step: Step::Promote | Step::Deploy, .. });
    pair.daemon.never("anything after half a promote", Duration::from_secs(15), onward).await?;
    ensure!(pair.balancer.active() == "a", "the route was moved");
    pair.daemon.command(&["status"]).await?;
    pair.daemon.verify_journal().await
}

async fn three_images() -> Result<()> {
    let volume = |number: u32| Volume {
        claim: format!("nexus-blobs-{number}"),
        image: format!("csi-vol-7c1e0000-0000-4000-8000-00000000000{number}"),
        megabytes: 128,
    };
    let extra = vec![volume(1), volume(2)];
    let wishes = Wishes { extra: extra.clone(), ..Wishes::default() };
    let mut pair = Guarded::up("three-images", PROGRAMS, &wishes).await?;
    for volume in &extra {
        let file = pair.lab.a.mounted(&volume.image).join("word");
        within(&pair.lab, Side::A, &format!("echo of {} > {1} && sync -f {1}", volume.claim, file.display())).await?;
    }
    pair.advance(2).await?;

    pair.kill_a().await?;
    let request = approved(&mut pair).await?;
    ensure!(request.evidence.points.len() == 3, "{:?}", request.evidence.points);
    succeeds(&mut pair).await?;

    pair.b_serves().await?;
    for volume in &extra {
        let file = pair.lab.b.mounted(&volume.image).join("word");
        let word = within(&pair.lab, Side::B, &format!("cat {}", file.display())).await?;
        ensure!(word.trim() == format!("of {}", volume.claim), "{} holds {word:?}", volume.claim);
    }
    pair.compare(named_safe(&request)?).await?;
    pair.account().await
}

/// Nexus at A is dead and nobody there brings it back, but the site lives.
async fn living_api() -> Result<()> {
    let wishes = Wishes {
        mode: "auto",
        fence: "{ workload: true, within: 25s, polite: 5s }",
        stop_mirror: true,
        ..Wishes::default()
    };
    let mut pair = Guarded::up("living-api", PROGRAMS, &wishes).await?;
    pair.hurt_now("Nexus at A dies, and the node's kubelet hangs; its API server and Ceph live");
    pair.lab.a.signal_operator(Signal::STOP)?;
    pair.lab.a.kill_nexus().await?;
    let from = pair.daemon.journal.newest();
    let down = |record: &Record| matches!(record, Record::Verdict { to: Verdict::ServiceDown, .. });
    pair.daemon.until("the verdict is ServiceDown", from, DETECTED, down).await?;

    let begun = |record: &Record| matches!(record, Record::Requested { .. } | Record::RunStarted { .. });
    pair.daemon.never("a question or a run beside a living API server", Duration::from_secs(25), begun).await?;
    refused(&pair, &["failover", "nexus-ddrs", "--reason", "it is down"]).await?;
    refused(&pair, &["approve", "nexus-ddrs-1"]).await?;

    forced(&mut pair).await?;
    let ending = pair.daemon.run_ends(from, RUN).await?;
    let Some(Ending::Stopped { why }) = ending else { anyhow::bail!("not stopped: {ending:?}") };
    pair.daemon.say(&format!("stopped: {why}"));
    let at_a = |record: &Record| matches!(record, Record::RoleChanged { role: Role::AtA, .. });
    pair.daemon.until("A is active", from, SOON, at_a).await?;
    ensure!(!pair.daemon.has(|record| matches!(record, Record::Intent { step: Step::Promote, .. })), "promoted");
    ensure!(!pair.lab.ceph.is_primary(Side::B, &Volume::data().image).await?, "B is primary");
    ensure!(pair.balancer.active() == "a", "the route was moved");

    let from = pair.daemon.journal.newest();
    pair.lab.a.signal_operator(Signal::CONT)?;
    pair.daemon.say("the node's kubelet works again");
    forced(&mut pair).await?;
    let ending = pair.daemon.run_ends(from, RUN).await?;
    ensure!(ending == Some(Ending::Succeeded), "the run did not succeed: {ending:?}\n{}", pair.daemon.log_tail());
    let fence = pair.report()?.fence;
    pair.daemon.say(&format!("fence: {fence:?}"));
    ensure!(matches!(fence, Some(understudy_core::FenceOutcome::Confirmed { .. })), "{fence:?}");

    pair.b_serves().await?;
    pair.stop_schedule().await;
    pair.lab.a.kill().await?;
    let times = pair.report()?.loss.points.into_iter().map(|point| point.source_time_ms);
    let oldest = times.min().flatten().context("no source time")?;
    let window = Duration::from_secs(35 + 2);
    pair.compare(SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(oldest)?) - window).await?;
    pair.account().await
}

async fn forced(pair: &mut Guarded) -> Result<()> {
    let words = ["failover", "nexus-ddrs", "--force", "--reason", "Nexus of A is lost, its API server lives"];
    pair.daemon.human(&words).await.map(|_| ())
}

async fn refused(pair: &Guarded, words: &[&str]) -> Result<()> {
    let (code, said) = pair.daemon.command(words).await?;
    ensure!(code == 3, "{words:?} ended with {code}: {said}");
    Ok(())
}

/// Waits until a human is asked, and says yes.
async fn approved(pair: &mut Guarded) -> Result<Request> {
    let from = pair.daemon.journal.newest();
    let down = |record: &Record| matches!(record, Record::Verdict { to: Verdict::SiteDown, .. });
    pair.daemon.until("the verdict is SiteDown", from, DETECTED, down).await?;
    let request = pair.daemon.question(Question::Failover, from, DETECTED).await?;
    pair.daemon.say(&format!("asked: the loss is at most {}, {:?}", request.bound, request.evidence.points));
    pair.daemon.human(&["approve", request.id.as_str(), "--accept-unfenced", WORD]).await?;
    Ok(request)
}

/// Waits until the run has succeeded.
async fn succeeds(pair: &mut Guarded) -> Result<()> {
    let ending = pair.daemon.run_ends(0, RUN).await?;
    ensure!(ending == Some(Ending::Succeeded), "the run did not succeed: {ending:?}\n{}", pair.daemon.log_tail());
    Ok(())
}

/// Where the stamped file lies.
fn stamped(pair: &Guarded, side: Side) -> String {
    let site = match side {
        Side::A => &pair.lab.a,
        Side::B => &pair.lab.b,
    };
    site.mounted(&Volume::data().image).join("generation").display().to_string()
}

/// Writes a generation over the whole file at A and takes a mirror snapshot; its number, and when it was taken.
async fn generation(pair: &Guarded, number: usize) -> Result<(u64, SystemTime)> {
    let line = format!("generation-{number:04}");
    let file = stamped(pair, Side::A);
    let write = format!(
        "yes {line} | dd of={file} bs=1M count={GENERATION_MIB} iflag=fullblock conv=notrunc,fsync status=none"
    );
    within(&pair.lab, Side::A, &write).await?;
    let at = SystemTime::now();
    Ok((pair.lab.ceph.snapshot(&Volume::data().image).await?, at))
}

/// Two generations that are whole at B or more, and one that A is frozen in the middle of; the snapshots of all of them.
async fn freeze_in_a_sync(pair: &mut Guarded) -> Result<Vec<(u64, SystemTime)>> {
    pair.stop_schedule().await;
    let image = Volume::data().image;
    let mut taken = Vec::new();
    for number in 1..=6 {
        let (snapshot, at) = generation(pair, number).await?;
        taken.push((snapshot, at));
        if number > 2 {
            under_way(pair, &image, snapshot).await?;
            // Its daemons first: a copy that is over before they stand still is no copy under way.
            pair.lab.ceph.freeze(Side::A).await?;
            let newest = pair.lab.ceph.snapshots(Side::B, &image).await?.pop().context("no snapshot at B")?;
            if newest.namespace.complete == Some(false) {
                pair.freeze_a().await?;
                pair.lab.say(&format!("frozen in the middle of a sync; at B: {}", pair.left_at_b(&image).await?));
                return Ok(taken);
            }
            pair.lab.ceph.thaw(Side::A).await?;
        }
        pair.lab.ceph.in_step(&image, snapshot).await?;
        let name = spec(&image);
        let told = move |record: &Record| matches!(record, Record::SourceTime { image, snapshot: of, .. } if image.as_str() == name && *of == snapshot);
        pair.daemon.until("the daemon knows the generation's time", 0, SOON, told).await?;
        pair.lab.say(&format!("generation {number} is whole at B, snapshot {snapshot}"));
    }
    anyhow::bail!("every copy was over before A was frozen")
}

/// Waits until some of a snapshot is at B, or all of it.
async fn under_way(pair: &Guarded, image: &str, snapshot: u64) -> Result<()> {
    until("the copy of the generation", SOON, || async {
        let newest = pair.lab.ceph.snapshots(Side::B, image).await.ok()?.pop()?.namespace;
        (newest.primary_snap_id == Some(snapshot) && newest.last_copied_object_number > Some(0)).then_some(())
    })
    .await
}

/// Kills the daemon, keeper and promote in the middle of the promote, when it has run for `after` or has ended, and starts
/// the daemon again.
async fn kill_daemon_and_promote(pair: &mut Guarded, after: Duration) -> Result<()> {
    let promoting = |record: &Record| matches!(record, Record::Intent { step: Step::Promote, .. });
    pair.daemon.until("the promote begins", 0, RUN, promoting).await?;
    let daemon = &pair.daemon;
    until("keeper and promote run", SOON, || async { (daemon.promotes().len() == 2).then_some(()) }).await?;
    let runs_since = Instant::now();
    until("the promote is to be hit, or has ended", SOON, || async {
        (runs_since.elapsed() >= after || daemon.promotes().is_empty()).then_some(())
    })
    .await?;
    pair.daemon.say(&format!("SIGKILL to the daemon and to {:?}", pair.daemon.promotes()));
    pair.daemon.kill().await?;
    pair.daemon.kill_promotes();
    pair.daemon.journal.look()?;
    pair.daemon.say(&format!("left at B: {}", pair.left_at_b(&Volume::data().image).await?));
    pair.daemon.start_again()
}

fn promoted(record: &Record) -> bool {
    matches!(record, Record::Outcome { step: Step::Promote, result: StepResult::Done { .. }, .. })
}

/// The resumed run succeeds: by itself where the promote was done, else by the hands of a human who reads what it says.
async fn resumes(pair: &mut Guarded) -> Result<()> {
    let mut from = pair.daemon.journal.newest();
    for turn in 1..=3 {
        let ending = pair.daemon.run_ends(from, RUN).await?;
        let Some(ending) = ending else {
            ensure!(!pair.daemon.has(promoted), "stuck behind the promote:\n{}", pair.daemon.log_tail());
            pair.daemon.command(&["status"]).await?;
            pair.daemon.say(&format!("left at B: {}", pair.left_at_b(&Volume::data().image).await?));
            if turn == 2 {
                pair.daemon.say("human: rbd mirror image promote --force");
                let image = spec(&Volume::data().image);
                let by_hand = pair.lab.ceph.rbd(Side::B, &["mirror", "image", "promote", "--force", &image]).await;
                pair.daemon.say(&format!("{by_hand:?}"));
            }
            from = pair.daemon.journal.newest();
            let run = pair.report()?.run;
            pair.daemon.human(&["retry", run.as_str()]).await?;
            continue;
        };
        ensure!(ending == Ending::Succeeded, "{ending:?}");
        return Ok(());
    }
    anyhow::bail!("still stuck after a promote by hand")
}
