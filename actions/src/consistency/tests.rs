use understudy_core::Step;

use super::*;
use crate::testing_rbd::{MID_SYNC, ORPHANED, Site, info, permanent};

#[tokio::test]
async fn what_each_image_holds_is_handed_to_the_core() {
    let site = Site::with(&["rbd/data", "rbd/db"]);
    site.write("rbd/db/snaps", MID_SYNC);

    let done = look_at(&site).await.unwrap();

    let Finding::Mirror(facts) = done.finding else { panic!("no facts") };
    assert_eq!((facts.images[0].newest_complete, facts.images[0].syncing), (Some(5), None));
    assert_eq!(facts.images[0].source_time_ms, Some(1_795_343_388_000));
    assert_eq!((facts.images[1].newest_complete, facts.images[1].syncing), (Some(5), Some(6)));
    assert_eq!(
        done.detail,
        "rbd/data is in step at snapshot 5; rbd/db is in the middle of a sync: 3 of 16 objects of snapshot 6, newest whole \
         snapshot 5"
    );
    assert_eq!(site.gate.permits(), 0);
}

#[tokio::test]
async fn the_status_is_read_before_the_snapshots() {
    let site = Site::with(&["rbd/data"]);

    look_at(&site).await.unwrap();

    assert!(site.calls("rbd")[0].starts_with("rbd mirror image status"), "{:?}", site.calls("rbd"));
}

#[tokio::test]
async fn a_status_that_can_not_be_read_only_costs_the_source_time() {
    let site = Site::with(&["rbd/data"]);
    site.break_call("mirror image status", "exit 110");

    let done = look_at(&site).await.unwrap();

    let Finding::Mirror(facts) = done.finding else { panic!("no facts") };
    assert_eq!((facts.images[0].newest_complete, facts.images[0].source_time_ms), (Some(5), None));
}

#[tokio::test]
async fn the_mark_of_an_unfinished_promote_is_permanent_and_named() {
    let site = Site::with(&["rbd/data", "rbd/db"]);
    site.write("rbd/db/snaps", ORPHANED);

    let message = permanent(look_at(&site).await);

    assert!(message.starts_with("rbd/db bears the mark of a forced promote"), "{message}");
}

#[tokio::test]
async fn an_answer_that_is_none_is_permanent() {
    for (file, text) in [("info", "<html>"), ("snaps", "[{}]"), ("info", "")] {
        let site = Site::with(&["rbd/data"]);
        site.write(&format!("rbd/data/{file}"), text);

        let message = permanent(look_at(&site).await);

        assert!(message.contains("failed to read the answer of rbd"), "{message}");
    }
}

#[tokio::test]
async fn an_endless_answer_is_permanent() {
    let site = Site::with(&["rbd/data"]);
    site.break_call("info", "exec cat /dev/zero");

    let message = permanent(look_at(&site).await);

    assert!(message.contains("said more than"), "{message}");
}

#[tokio::test]
async fn a_cluster_that_does_not_answer_may_be_asked_again() {
    for script in ["exit 110", "exec sleep 60"] {
        let site = Site::with(&["rbd/data"]);
        site.break_call("info", script);
        let settings = site.settings("timeout: 300ms");

        let error = run(&site.context(Step::ConsistencyPoint), &settings).await.unwrap_err();

        assert!(matches!(error, StepError::Transient { .. }), "{}", error.whole());
    }
}

#[tokio::test]
async fn missing_rights_images_and_mirroring_are_permanent_with_the_remedy() {
    let cases = [(13, "check keyring and rights"), (2, "no such pool or image"), (22, "mirroring is off for it")];
    for (code, remedy) in cases {
        let site = Site::with(&["rbd/data"]);
        site.break_call("info", &format!("echo 'rbd: no' >&2; exit {code}"));

        let message = permanent(look_at(&site).await);

        assert!(
            message.contains(remedy) && message.contains("rbd info rbd/data") && message.ends_with("rbd: no"),
            "{message}"
        );
    }
}

#[tokio::test]
async fn an_rbd_that_is_missing_or_too_old_is_permanent_and_told_with_the_remedy() {
    let site = Site::with(&["rbd/data"]);
    let settings = Rbd { rbd: vec!["/nowhere/rbd".into()], ..site.settings("") };
    let missing = run(&site.context(Step::ConsistencyPoint), &settings).await;
    assert_eq!(
        permanent(missing),
        "failed to look at the images: failed to run rbd info rbd/data: there is no program \"/nowhere/rbd\" here; \
         install it or correct its path in the settings"
    );

    let old = Site::with(&["rbd/data"]);
    old.break_call("info", "echo usage; echo \"error: unknown option 'info rbd/data'\" >&2; exit 1");
    assert_eq!(
        permanent(look_at(&old).await),
        "failed to look at the images: rbd info rbd/data failed with exit 1, it is too old, Ceph 16 or newer is needed: \
         error: unknown option 'info rbd/data'"
    );
}

#[tokio::test]
async fn an_image_that_is_primary_already_is_told_as_it_is() {
    let site = Site::with(&["rbd/data"]);
    site.write("rbd/data/info", &info(true, true));
    site.write("rbd/data/snaps", "[]");

    let done = look_at(&site).await.unwrap();

    assert_eq!(done.detail, "rbd/data is primary already");
}

#[tokio::test]
async fn a_pair_without_images_is_refused() {
    assert!(permanent(look_at(&Site::with(&[])).await).contains("storage.rbd.images"));
}

async fn look_at(site: &Site) -> Result<StepDone, StepError> {
    run(&site.context(Step::ConsistencyPoint), &site.settings("")).await
}
