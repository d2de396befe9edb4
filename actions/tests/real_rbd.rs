//! The storage steps on two real Ceph clusters, with A killed, frozen and alive.
//!
//! They need a laboratory that is up, as `tests/run real` brings it up: `LAB=DIR tests/lab/ceph-lab.sh up`, then
//! `UNDERSTUDY_REAL_CEPH=DIR`. One runs at a time, and each leaves both sites running.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use understudy_actions::demote::{DemoteOutcome, demote_primary};
use understudy_actions::promote_keeper::keeper_main;
use understudy_core::{Failure, Finding, SourceTimes, Step, StepResult, consistency_point};

mod lab;
mod support;

use lab::{LARGE, Lab, PATIENCE, Trial};
use support::until;

#[test]
#[ignore = "is the keeper process that other tests run"]
fn keeper_process() {
    let args = std::env::var(lab::KEEPER_ARGS).expect("other tests run this one as a process");

    let code = keeper_main(args.lines().skip(1).map(OsString::from));

    std::process::exit(i32::from(code != ExitCode::SUCCESS));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs two real Ceph clusters"]
async fn in_step_and_a_killed_the_newest_generation_is_promoted() {
    let lab = Lab::free("in_step_and_a_killed_the_newest_generation_is_promoted").await;
    let mut trial = lab.trial("killed", 1, 4).await;
    let id = trial.generation(0, 'A').await;
    lab.site("kill", "a");

    trial.failover().await;

    assert_eq!(trial.points()[0].newest_complete, Some(id));
    assert!(!trial.points()[0].mid_sync);
    assert_eq!(trial.stamps(0), vec!['A'; 4]);
    trial.end().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs two real Ceph clusters"]
async fn three_images_in_step_and_a_frozen_are_promoted_together() {
    let lab = Lab::free("three_images_in_step_and_a_frozen_are_promoted_together").await;
    let mut trial = lab.trial("three", 3, 4).await;
    for image in 0..3 {
        trial.generation(image, 'A').await;
    }
    lab.site("freeze", "a");

    trial.failover().await;

    for image in 0..3 {
        assert_eq!(trial.stamps(image), vec!['A'; 4]);
    }
    trial.end().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs two real Ceph clusters"]
async fn in_the_middle_of_a_sync_and_a_frozen_the_generation_before_the_newest_whole_one_is_left() {
    let name = "in_the_middle_of_a_sync_and_a_frozen_the_generation_before_the_newest_whole_one_is_left";
    let lab = Lab::free(name).await;
    let mut trial = lab.trial("midsync", 1, LARGE).await;
    let (newest, before) = trial.freeze_in_a_sync(0).await;

    trial.failover().await;

    let point = &trial.points()[0];
    assert_eq!((point.newest_complete, point.mid_sync), (Some(newest), true));
    assert_eq!(trial.stamps(0), vec![before; LARGE as usize]);
    trial.end().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs two real Ceph clusters"]
async fn a_daemon_that_dies_during_the_promote_finds_it_done_by_the_keeper() {
    let lab = Lab::free("a_daemon_that_dies_during_the_promote_finds_it_done_by_the_keeper").await;
    let mut trial = lab.trial("daemon", 1, 4).await;
    trial.generation(0, 'A').await;
    lab.site("kill", "a");
    trial.until_promote().await;

    let gone = tokio::spawn(understudy_actions::run(trial.context(Step::Promote, 1)));
    until("the promote runs", PATIENCE, async || trial.promote_process(0)).await;
    gone.abort();
    let began = Instant::now();
    trial.step(Step::Promote, 1).await;

    lab.say(&format!("resumed promote: {:.2?}", began.elapsed()));
    assert_eq!(trial.stamps(0), vec!['A'; 4]);
    trial.end().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs two real Ceph clusters"]
async fn keeper_and_promote_killed_at_any_time_are_either_done_or_for_a_human() {
    let lab = Lab::free("keeper_and_promote_killed_at_any_time_are_either_done_or_for_a_human").await;
    for (n, after) in [200, 1200, 2200, 3200, 4200].into_iter().enumerate() {
        let mut trial = lab.trial(&format!("dead{n}"), 1, 4).await;
        trial.generation(0, 'A').await;
        lab.site("kill", "a");

        let result = trial.kill_promote_after(Duration::from_millis(after)).await;

        trial.assert_done_or_for_a_human(after, result).await;
        trial.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs two real Ceph clusters"]
async fn keeper_and_promote_killed_in_the_middle_of_a_sync_are_for_a_human() {
    let lab = Lab::free("keeper_and_promote_killed_in_the_middle_of_a_sync_are_for_a_human").await;
    let mut trial = lab.trial("deadsync", 1, LARGE).await;
    trial.freeze_in_a_sync(0).await;

    let result = trial.kill_promote_after(Duration::from_millis(2500)).await;

    trial.assert_done_or_for_a_human(2500, result).await;
    trial.end().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs two real Ceph clusters"]
async fn a_workload_at_b_is_never_cut_off() {
    let lab = Lab::free("a_workload_at_b_is_never_cut_off").await;
    let mut trial = lab.trial("workload", 1, 4).await;
    trial.generation(0, 'A').await;
    lab.site("kill", "a");
    trial.step(Step::ConsistencyPoint, 1).await;
    let mut workload = trial.workload(0).await;

    let result = understudy_actions::run(trial.context(Step::Quiesce, 1)).await;

    workload.kill().unwrap();
    workload.wait().unwrap();
    let StepResult::Failed { failure, message } = result else { panic!("quiesced: {result:?}") };
    lab.say(&message);
    assert_eq!(failure, Failure::Permanent);
    assert!(message.contains("is no rbd-mirror"), "{message}");
    trial.end().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs two real Ceph clusters"]
async fn a_living_a_is_demoted_and_a_dead_one_is_unconfirmed_in_time() {
    let lab = Lab::free("a_living_a_is_demoted_and_a_dead_one_is_unconfirmed_in_time").await;
    let trial = lab.trial("demote", 2, 4).await;
    trial.generation(0, 'A').await;
    trial.generation(1, 'A').await;

    for (state, confirmed) in [("alive", true), ("demoted", true), ("frozen", false), ("killed", false)] {
        match state {
            "frozen" => lab.site("freeze", "a"),
            "killed" => lab.site("kill", "a"),
            _ => {}
        }
        let began = Instant::now();
        let outcome = demote_primary(&trial.context(Step::Fence, 1), &lab.rbd("a")).await;
        lab.say(&format!("demote with A {state}: {:.2?}: {outcome:?}", began.elapsed()));
        assert_eq!(matches!(outcome, DemoteOutcome::Confirmed { .. }), confirmed);
        assert!(began.elapsed() < Duration::from_secs(40));
    }
    trial.end().await;
}

impl Trial<'_> {
    /// Everything of a failover that is about storage, with the time that each step took.
    async fn failover(&mut self) {
        let began = Instant::now();
        self.until_promote().await;
        self.step(Step::Promote, 1).await;
        self.step(Step::UndoPoint, 1).await;
        self.step(Step::UndoPoint, 2).await;
        self.step(Step::MirrorBack, 1).await;
        self.lab.say(&format!("storage side in all: {:.2?}", began.elapsed()));
        self.assert_mirror_is_back();
    }

    async fn until_promote(&mut self) {
        let Finding::Mirror(facts) = self.step(Step::ConsistencyPoint, 1).await else { panic!("no facts") };
        self.set_points(consistency_point(&facts, &SourceTimes::default()));
        self.step(Step::Quiesce, 1).await;
    }

    /// Starts the promote and kills keeper and promote after `after`.
    async fn kill_promote_after(&mut self, after: Duration) -> StepResult {
        self.until_promote().await;
        let promoting = tokio::spawn(understudy_actions::run(self.context(Step::Promote, 1)));
        let promote = until("the promote runs", PATIENCE, async || self.promote_process(0)).await;
        let runs_since = Instant::now();
        let hit = async || (runs_since.elapsed() >= after || !promote.lives()).then_some(());
        until("the promote is to be hit, or has ended", PATIENCE, hit).await;
        self.kill_keeper_and_promote(0);
        promoting.await.unwrap()
    }

    /// Whatever it was, it says what the world says; and a human's retry never promotes blindly.
    async fn assert_done_or_for_a_human(&mut self, after: u64, result: StepResult) {
        let left = self.snapshots(0);
        let (primary, writable) = self.role(0);
        self.lab.say(&format!(
            "killed after {after} ms: primary {primary}, writable {writable}, snapshots {left}\n  {result:?}"
        ));
        match result {
            StepResult::Done { .. } => assert!(primary && writable && !left.contains("orphan")),
            StepResult::Failed { failure, .. } => {
                assert_eq!(failure, Failure::Permanent);
                let retried = understudy_actions::run(self.context(Step::Promote, 2)).await;
                let (primary, writable) = self.role(0);
                let snapshots = self.snapshots(0);
                self.lab.say(&format!(
                    "retry: primary {primary}, writable {writable}, snapshots {snapshots}\n  {retried:?}"
                ));
                assert_eq!(matches!(retried, StepResult::Done { .. }), primary && writable);
                assert!(!left.contains("orphan") || matches!(retried, StepResult::Failed { .. }));
            }
        }
        // With the site of the dead watcher's time-out over, by hand, as the message says.
        if self.role(0) == (true, false) {
            self.demote_by_hand(0);
        }
        if !self.role(0).0 {
            let by_hand = self.promote_by_hand(0).await;
            let stamps: String = self.stamps(0).into_iter().collect();
            self.lab
                .say(&format!("promoted by hand in {by_hand:.2?}, snapshots {}; holds {stamps}", self.snapshots(0)));
            self.step(Step::Promote, 3).await;
        }
    }
}
