use understudy_core::Step;

use super::*;
use crate::quiesce::tests::Api;
use crate::testing_rbd::{MIRROR_ADDRESS, Site, info};

const DEPLOYMENT: &str = "quiesce: { deployment: { namespace: rook, name: mirror } }";

#[tokio::test]
async fn only_our_own_addresses_come_off_the_blocklist() {
    let site = Site::with(&["rbd/data"]);
    site.write("blocklist", &format!("10.0.0.9:0/1\n{MIRROR_ADDRESS}\n"));
    note(&site, "blocklisted", &format!("[\"{MIRROR_ADDRESS}\",\"10.0.0.2:0/222\"]"));

    let done = back(&site, "").await.unwrap();

    assert_eq!(site.read("blocklist"), "10.0.0.9:0/1\n");
    assert!(done.detail.starts_with("1 addresses off the blocklist"), "{}", done.detail);
}

#[tokio::test]
async fn twice_is_the_same_as_once() {
    let site = Site::with(&["rbd/data"]);
    site.write("blocklist", &format!("{MIRROR_ADDRESS}\n"));
    note(&site, "blocklisted", &format!("[\"{MIRROR_ADDRESS}\"]"));
    back(&site, "").await.unwrap();

    back(&site, "").await.unwrap();

    assert_eq!((site.calls("ceph osd blocklist rm").len(), site.gate.permits()), (1, 1));
}

#[tokio::test]
async fn where_nothing_was_quiesced_nothing_is_written() {
    let site = Site::with(&["rbd/data"]);

    back(&site, "").await.unwrap();

    assert_eq!((site.calls("ceph"), site.gate.permits()), (vec![], 0));
}

#[tokio::test]
async fn a_deployment_gets_back_the_replicas_that_it_had() {
    let site = Site::with(&["rbd/data"]);
    let api = Api::with(0).await;
    note(&site, "replicas", "2");

    back_by_deployment(&site, &api).await.unwrap();
    back_by_deployment(&site, &api).await.unwrap();

    assert_eq!((api.replicas(), site.gate.permits()), (Some(2), 1));
}

#[tokio::test]
async fn a_deployment_that_somebody_has_scaled_since_is_left_alone() {
    let site = Site::with(&["rbd/data"]);
    let api = Api::with(0).await;
    note(&site, "replicas", "2");
    api.set(1);

    back_by_deployment(&site, &api).await.unwrap();

    assert_eq!((api.replicas(), site.gate.permits()), (Some(1), 0));
}

#[tokio::test]
async fn a_deployment_that_had_no_replicas_gets_none() {
    let site = Site::with(&["rbd/data"]);
    let api = Api::with(0).await;
    note(&site, "replicas", "0");

    back_by_deployment(&site, &api).await.unwrap();

    assert_eq!((api.replicas(), site.gate.permits()), (Some(0), 0));
}

#[tokio::test]
async fn the_start_command_is_run_if_the_stop_command_was_even_begun() {
    let site = Site::with(&["rbd/data"]);
    let start = format!("quiesce: {{ command: {{ stop: ['false'], start: [touch, {}] }} }}", site.path("on").display());
    back(&site, &start).await.unwrap();
    assert!(!site.path("on").exists());
    note(&site, "command", "stopping");

    back(&site, &start).await.unwrap();

    assert!(site.path("on").exists());
}

#[tokio::test]
async fn the_schedule_is_added_once_and_only_where_the_image_is_primary() {
    let site = Site::with(&["rbd/data"]);
    back(&site, "schedule: 1m").await.unwrap();
    assert_eq!(site.calls("rbd mirror snapshot schedule add"), [""; 0]);
    site.write("rbd/data/info", &info(true, true));

    back(&site, "schedule: 1m").await.unwrap();
    back(&site, "schedule: 1m").await.unwrap();

    let added = site.calls("rbd mirror snapshot schedule add");
    assert_eq!(added, ["rbd mirror snapshot schedule add --pool rbd --image data 1m"]);
}

fn note(site: &Site, key: &str, value: &str) {
    site.gate.notes.lock().unwrap().push((key.into(), value.into()));
}

async fn back(site: &Site, more: &str) -> Result<StepDone, StepError> {
    run(&site.context(Step::MirrorBack), &site.settings(more)).await
}

async fn back_by_deployment(site: &Site, api: &Api) -> Result<StepDone, StepError> {
    let mut ctx = site.context(Step::MirrorBack);
    ctx.standby = Some(api.client.clone());
    run(&ctx, &site.settings(DEPLOYMENT)).await
}
