use understudy_core::Step;

use super::*;
use crate::testing_rbd::{Site, info};

#[tokio::test]
async fn every_image_that_is_primary_at_a_is_demoted_and_read_back() {
    let site = Site::with(&["rbd/data", "rbd/db"]);
    site.write("rbd/data/info", &info(true, true));

    let outcome = demote_at(&site).await;

    assert!(matches!(&outcome, DemoteOutcome::Confirmed { how } if how.contains("rbd/data, rbd/db")), "{outcome:?}");
    assert_eq!(site.calls("rbd mirror image demote"), ["rbd mirror image demote rbd/data"]);
    assert_eq!(site.gate.permits(), 1);
}

#[tokio::test]
async fn a_site_that_does_not_answer_is_unconfirmed_and_nothing_is_written() {
    let site = Site::with(&["rbd/data"]);
    site.break_call("info", "echo 'rbd: couldnt connect to the cluster!' >&2; exit 110");

    let outcome = demote_at(&site).await;

    let DemoteOutcome::Unconfirmed { why } = outcome else { panic!("confirmed") };
    assert!(why.contains("rbd/data at A") && why.contains("the cluster does not answer"), "{why}");
    assert_eq!(site.gate.permits(), 0);
}

#[tokio::test]
async fn a_demotion_that_fails_is_unconfirmed() {
    let site = Site::with(&["rbd/data"]);
    site.write("rbd/data/info", &info(true, true));
    site.break_call("mirror image demote", "echo 'rbd: busy' >&2; exit 16");

    let DemoteOutcome::Unconfirmed { why } = demote_at(&site).await else { panic!("confirmed") };

    assert!(why.contains("exit 16: rbd: busy"), "{why}");
}

#[tokio::test]
async fn a_demotion_that_says_yes_and_did_nothing_is_unconfirmed() {
    let site = Site::with(&["rbd/data"]);
    site.write("rbd/data/info", &info(true, true));
    site.break_call("mirror image demote", "exit 0");

    let DemoteOutcome::Unconfirmed { why } = demote_at(&site).await else { panic!("confirmed") };

    assert!(why.contains("calls itself primary"), "{why}");
}

#[tokio::test]
async fn a_demotion_whose_answer_was_lost_counts_by_the_role_that_is_read() {
    let site = Site::with(&["rbd/data"]);
    site.write("rbd/data/info", &info(true, true));
    site.break_call("mirror image demote", r#"cp "$dir/demoted.info" "$dir/rbd/data/info"; exit 110"#);

    assert!(matches!(demote_at(&site).await, DemoteOutcome::Confirmed { .. }));
}

#[tokio::test]
async fn no_images_are_no_fence() {
    assert!(matches!(demote_at(&Site::with(&[])).await, DemoteOutcome::Unconfirmed { .. }));
}

async fn demote_at(site: &Site) -> DemoteOutcome {
    demote_primary(&site.context(Step::Fence), &site.settings("").rbd).await
}
