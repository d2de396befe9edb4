//! The Kubernetes steps against two real API servers with their controllers.
//!
//! In: `UNDERSTUDY_REAL_KUBECONFIG_A` and `_B`, as `tests/lab/k8s-lab.sh` makes them, each with a node that kwok plays.
//! Each test has a namespace and volumes of its own, and prints how long the servers took. Start reading at the tests.

mod site;
#[path = "../support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use understudy_actions::lease::{LeaseKeeper, Turn};
use understudy_core::{Failure, FenceOutcome, Finding, Step};

use self::site::{Bench, Frozen, detail, failure, finding};
use self::support::until;

#[tokio::test]
#[ignore = "needs two real API servers"]
async fn a_bundle_is_restored_and_bound_and_a_second_time_changes_nothing() {
    for round in 0..5 {
        let bench = Bench::new("restore").await;
        let began = Instant::now();

        let restored = detail(bench.run(Step::Restore).await);
        let applied = began.elapsed();
        let bound = detail(bench.run(Step::Bound).await);

        println!("measured: restore {applied:.0?}, bound {:.0?} (round {round}): {bound}", began.elapsed() - applied);
        assert_eq!(restored, "4 created, 0 found as they should be, 0 mended");
        let again = detail(bench.run(Step::Restore).await);
        assert_eq!(again, "0 created, 4 found as they should be, 0 mended");
        bench.clear().await;
    }
}

#[tokio::test]
#[ignore = "needs two real API servers"]
async fn a_released_volume_is_freed_of_the_claim_that_is_gone_and_bound_again() {
    let bench = Bench::new("released").await;
    detail(bench.run(Step::Restore).await);
    detail(bench.run(Step::Bound).await);
    bench.delete_claim().await;
    bench.until_phase("Released").await;
    let began = Instant::now();

    let restored = detail(bench.run(Step::Restore).await);
    let bound = detail(bench.run(Step::Bound).await);

    println!("measured: released volume restored and bound in {:.0?}: {bound}", began.elapsed());
    assert_eq!(restored, "1 created, 2 found as they should be, 1 mended");
    bench.clear().await;
}

#[tokio::test]
#[ignore = "needs two real API servers"]
async fn a_claim_that_was_there_before_its_volume_is_nudged() {
    let bench = Bench::new("nudge").await;
    bench.put_claim_alone().await;
    let began = Instant::now();

    detail(bench.run(Step::Restore).await);
    let bound = detail(bench.run(Step::Bound).await);

    let took = began.elapsed();
    println!("measured: claim first, then volume: bound in {took:.0?}: {bound}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    bench.clear().await;
}

#[tokio::test]
#[ignore = "needs two real API servers"]
async fn a_volume_of_the_same_name_with_other_data_stops_restore_and_bound() {
    let bench = Bench::new("other").await;
    detail(bench.run(Step::Restore).await);
    detail(bench.run(Step::Bound).await);
    bench.rewrite_bundle("0001-0009-rook-ceph-0000000000000002-", "0001-0009-rook-ceph-0000000000000003-");

    let (kind, restore) = failure(bench.run(Step::Restore).await);
    let (_, bound) = failure(bench.run(Step::Bound).await);

    assert_eq!(kind, Failure::Permanent);
    assert!(restore.contains("is there already and differs: volumeHandle is"), "{restore}");
    assert!(bound.contains("is not ours: volumeHandle is"), "{bound}");
    bench.clear().await;
}

#[tokio::test]
#[ignore = "needs two real API servers"]
async fn a_claim_that_can_not_bind_fails_with_the_binders_words() {
    let bench = Bench::new("pending").await;
    bench.put_claim_alone().await;
    bench.put_volume_of_another_claim().await;

    let (_, text) = failure(bench.run(Step::Bound).await);

    println!("seen: {text}");
    assert!(text.contains("was Bound within") && text.contains("already bound to a different claim"), "{text}");
    bench.clear().await;
}

#[tokio::test]
#[ignore = "needs two real API servers"]
async fn a_deployed_resource_is_ready_when_its_pod_mounts_the_claim() {
    let bench = Bench::new("deploy").await;
    detail(bench.run(Step::Restore).await);
    detail(bench.run(Step::Bound).await);
    let began = Instant::now();

    let deployed = bench.with_operator(bench.run(Step::Deploy), true).await;

    let text = detail(deployed);
    println!("measured: deploy until ready {:.0?}: {text}", began.elapsed());
    assert!(text.contains("is ready; pod"), "{text}");
    bench.clear().await;
}

#[tokio::test]
#[ignore = "needs two real API servers"]
async fn a_deployed_resource_whose_pod_mounts_nothing_is_refused() {
    let bench = Bench::new("empty").await;
    detail(bench.run(Step::Restore).await);
    detail(bench.run(Step::Bound).await);

    let (kind, text) = failure(bench.with_operator(bench.run(Step::Deploy), false).await);

    assert_eq!(kind, Failure::Permanent);
    assert!(text.contains("but no pod mounts claim data"), "{text}");
    bench.clear().await;
}

#[tokio::test]
#[ignore = "needs two real API servers"]
async fn deploy_without_a_bound_claim_starts_nothing() {
    let bench = Bench::new("unbound").await;

    let (_, text) = failure(bench.run(Step::Deploy).await);

    assert!(text.contains("claim data does not exist: nothing that mounts it may start"), "{text}");
    assert!(!bench.resource_exists(&bench.b).await);
    bench.clear().await;
}

#[tokio::test]
#[ignore = "needs two real API servers"]
async fn a_running_workload_at_a_is_stopped_and_seen_detached() {
    let bench = Bench::new("fence").await;
    bench.start_at_a().await;
    let began = Instant::now();

    let fenced = finding(bench.run(Step::Fence).await);

    let Finding::Fence(FenceOutcome::Confirmed { how, .. }) = fenced else { panic!("{fenced:?}") };
    println!("measured: fence of a living A {:.0?}: {how}", began.elapsed());
    assert!(!bench.resource_exists(&bench.a).await);
    assert!(bench.claim_exists_at_a().await, "only the resource may go");
    bench.clear().await;
}

#[tokio::test]
#[ignore = "needs two real API servers"]
async fn the_rights_that_are_shipped_are_enough_for_every_step() {
    let mut bench = Bench::new("rights").await;
    bench.start_at_a().await;
    bench.take_shipped_rights().await;

    let fenced = finding(bench.run(Step::Fence).await);
    let restored = detail(bench.run(Step::Restore).await);
    detail(bench.run(Step::Bound).await);
    let admin = Bench::same(&bench).await;
    let (deployed, ()) = tokio::join!(bench.run(Step::Deploy), admin.operate_once(&admin.b, true));

    assert!(matches!(fenced, Finding::Fence(FenceOutcome::Confirmed { .. })), "{fenced:?}");
    println!("seen: {restored}; {}", detail(deployed));
    let lasts = Duration::from_secs(10);
    let lease = LeaseKeeper::new(&bench.b, &bench.name, "understudy-nexus".into(), "one".into(), lasts);
    assert!(matches!(lease.turn().await, Turn::Ours { .. }));
    assert!(matches!(lease.turn().await, Turn::Ours { .. }));
    lease.release().await;
    admin.clear().await;
}

#[tokio::test]
#[ignore = "needs two real API servers"]
async fn an_attachment_that_stays_leaves_the_fence_unconfirmed() {
    let bench = Bench::new("stuck").await;
    // Attached in the words of its node, never detached by it: no attacher runs.
    bench.start_at_a_unattached().await;
    let began = Instant::now();

    let fenced = finding(bench.run(Step::Fence).await);

    let Finding::Fence(FenceOutcome::Unconfirmed { why }) = fenced else { panic!("{fenced:?}") };
    println!("seen after {:.0?}: {why}", began.elapsed());
    assert!(why.contains("a volume is attached to"), "{why}");
    assert!(began.elapsed() < Duration::from_secs(22));
    bench.clear().await;
}

#[tokio::test]
#[ignore = "needs two real API servers"]
async fn a_frozen_a_is_given_up_quickly_and_the_fence_is_unconfirmed() {
    let bench = Bench::new("frozen").await;
    bench.start_at_a().await;
    let frozen = Frozen::server_a();
    let began = Instant::now();

    let fenced = finding(bench.run(Step::Fence).await);

    let took = began.elapsed();
    drop(frozen);
    let Finding::Fence(FenceOutcome::Unconfirmed { why }) = fenced else { panic!("{fenced:?}") };
    println!("measured: fence of a frozen A given up after {took:.1?}: {why}");
    assert!(took < Duration::from_secs(9), "{took:?}");
    bench.clear().await;
}

#[tokio::test]
#[ignore = "needs two real API servers"]
async fn a_lease_has_one_holder_at_a_time() {
    let bench = Bench::new("lease").await;
    let lasts = Duration::from_secs(2);
    let keeper = |holder: &str| LeaseKeeper::new(&bench.b, &bench.name, "understudy-x".into(), holder.into(), lasts);
    bench.make_namespace(&bench.b).await;
    let (one, two) = (keeper("one"), keeper("two"));

    assert!(matches!(one.turn().await, Turn::Ours { .. }));
    let began = Instant::now();
    assert_eq!(two.turn().await, Turn::Theirs { holder: "one".into() });
    one.permit(Duration::from_millis(100), 0).await.unwrap();
    two.permit(Duration::ZERO, 0).await.unwrap_err();

    // One is silent now; two has to see its lease unchanged for the whole of its time.
    let taken_over = async || matches!(two.turn().await, Turn::Ours { .. }).then_some(());
    until("two has taken the lease over", Duration::from_secs(10), taken_over).await;
    println!("measured: a silent holder's lease of {lasts:?} taken over after {:.1?}", began.elapsed());
    assert!(began.elapsed() >= lasts);
    one.permit(Duration::ZERO, 0).await.unwrap_err();
    assert_eq!(one.turn().await, Turn::Theirs { holder: "two".into() });
    two.release().await;
    assert!(matches!(one.turn().await, Turn::Ours { .. }));
    bench.clear().await;
}
