use understudy_core::{Failure, Step};

use super::*;
use crate::testing_rbd::Site;

#[tokio::test]
async fn each_image_gets_one_snapshot_that_is_named_after_the_run_and_twice_is_once() {
    let site = Site::with(&["rbd/data", "rbd/db"]);

    let done = keep(&site).await.unwrap();
    keep(&site).await.unwrap();

    assert_eq!(done.detail, "rbd/data@understudy-nexus-7-failover, rbd/db@understudy-nexus-7-failover kept");
    assert_eq!((site.calls("rbd snap create").len(), site.gate.permits()), (2, 2));
}

#[tokio::test]
async fn a_snapshot_whose_answer_was_lost_is_found_by_the_next_try() {
    let site = Site::with(&["rbd/data"]);
    site.break_call("snap create", r#"[ -f "$dir/once" ] || { touch "$dir/once"; ( set -- $*; sed -i "s|]\$|,{\"id\":90,\"name\":\"${3#*@}\",\"namespace\":{\"type\":\"user\"}}]|" "$dir/rbd/data/snaps" ); exit 110; }"#);

    let lost = keep(&site).await.unwrap_err();
    keep(&site).await.unwrap();

    assert_eq!(lost.failure(), Failure::Unknown);
    assert_eq!(site.calls("rbd snap create").len(), 1);
}

#[tokio::test]
async fn a_snapshot_that_is_not_there_afterwards_was_not_taken() {
    let site = Site::with(&["rbd/data"]);
    site.break_call("snap create", "exit 0");

    let error = keep(&site).await.unwrap_err();

    assert_eq!(error.failure(), Failure::Unknown);
}

async fn keep(site: &Site) -> Result<StepDone, StepError> {
    run(&site.context(Step::UndoPoint), &site.settings("")).await
}
