use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use understudy_core::{Failure, Step};

use super::*;
use crate::testing::kube::{Ledger, Reply, Shelf, bundle, server};
use crate::testing::{Gate, context, pair};

const NAMESPACE: &str = "/api/v1/namespaces/nexus-dr";
const SECRET: &str = "/api/v1/namespaces/nexus-dr/secrets/root";
const VOLUME: &str = "/api/v1/persistentvolumes/pv-1";
const CLAIM: &str = "/api/v1/namespaces/nexus-dr/persistentvolumeclaims/data";

#[tokio::test]
async fn what_is_missing_is_applied_each_with_its_own_permit_and_the_claim_behind_its_volume() {
    let site = Site::new();

    let done = site.run().await.unwrap();

    assert_eq!(done.detail, "4 created, 0 found as they should be, 0 mended");
    let lines = site.asked.write_lines();
    assert_eq!(lines[0], format!("PATCH {NAMESPACE}"));
    let place = |path: &str| lines.iter().position(|line| *line == format!("PATCH {path}")).unwrap();
    assert!(place(VOLUME) < place(CLAIM) && place(SECRET) > 0, "{lines:?}");
    assert_eq!(site.gate.permits(), 4);
    for write in site.asked.writes() {
        assert!(
            write.query.contains("fieldManager=understudy") && !write.query.contains("force=true"),
            "{}",
            write.query
        );
        assert_eq!(write.body["metadata"]["annotations"]["understudy/run"], "nexus-7-failover");
        assert_eq!(write.body["metadata"]["annotations"]["understudy/epoch"], "7");
    }
    assert_eq!(site.shelf.at(VOLUME).unwrap()["spec"]["persistentVolumeReclaimPolicy"], "Retain");
}

#[tokio::test]
async fn twice_is_the_same_as_once() {
    let site = Site::new();
    site.run().await.unwrap();
    let before = site.asked.writes().len();

    let done = site.run().await.unwrap();

    assert_eq!(done.detail, "0 created, 4 found as they should be, 0 mended");
    assert_eq!(site.asked.writes().len(), before);
}

#[tokio::test]
async fn a_volume_that_is_another_one_stops_its_claim_and_nothing_else() {
    let site = Site::new();
    let other = json!({ "metadata": { "name": "pv-1", "uid": "u" }, "spec": {
        "storageClassName": "block", "csi": { "driver": "rbd.csi.ceph.com", "volumeHandle": "other" } } });
    site.shelf.put(VOLUME, other.clone());

    let error = site.run().await.unwrap_err();

    assert_eq!(error.failure(), Failure::Permanent);
    let text = error.to_string();
    assert!(
        text.contains("PersistentVolume pv-1 is there already and differs: volumeHandle is \"other\", not \"h-1\""),
        "{text}"
    );
    assert_eq!(site.shelf.at(VOLUME), Some(other));
    assert_eq!(site.shelf.at(CLAIM), None);
    assert!(site.shelf.at(SECRET).is_some());
}

#[tokio::test]
async fn a_secret_that_differs_is_left_alone_and_named_by_key() {
    let site = Site::new();
    let other = json!({ "metadata": { "name": "root" }, "data": { "password": "b3RoZXI=" } });
    site.shelf.put(SECRET, other.clone());

    let text = site.run().await.unwrap_err().to_string();

    assert!(text.contains("Secret root is there already and differs: key password has another value"), "{text}");
    assert!(!text.contains("eHh4") && !text.contains("b3RoZXI"), "{text}");
    assert_eq!(site.shelf.at(SECRET), Some(other));
    assert!(site.shelf.at(CLAIM).is_some());
}

#[tokio::test]
async fn a_released_volume_of_ours_is_kept_and_freed_of_the_claim_that_is_gone() {
    let site = Site::new();
    site.shelf.put(VOLUME, held_volume("u-gone"));

    let done = site.run().await.unwrap();

    assert!(done.detail.contains("1 mended"), "{}", done.detail);
    let changes: Vec<_> = site.asked.writes().into_iter().filter(|write| write.path == VOLUME).collect();
    assert_eq!(changes.len(), 2);
    assert_eq!(changes[0].body["spec"], json!({ "persistentVolumeReclaimPolicy": "Retain" }));
    assert_eq!(changes[1].body["spec"], json!({ "claimRef": { "uid": null, "resourceVersion": null } }));
    // Taken as it was read: a change in between is a conflict.
    assert_eq!(changes[0].body["metadata"]["resourceVersion"], "9");
    let claim = &site.shelf.at(VOLUME).unwrap()["spec"]["claimRef"];
    assert_eq!(claim, &json!({ "namespace": "nexus-dr", "name": "data" }));
}

#[tokio::test]
async fn a_volume_held_by_the_living_claim_is_not_touched() {
    let site = Site::new();
    site.run().await.unwrap();
    let mut held = held_volume("u-b");
    held["spec"]["persistentVolumeReclaimPolicy"] = json!("Retain");
    site.shelf.put(VOLUME, held);
    let before = site.asked.writes().len();

    site.run().await.unwrap();

    assert_eq!(site.asked.writes().len(), before);
}

#[tokio::test]
async fn a_volume_held_by_another_claim_is_not_freed() {
    let site = Site::new();
    let mut held = held_volume("u-x");
    held["spec"]["claimRef"]["name"] = json!("other");
    site.shelf.put(VOLUME, held.clone());

    let text = site.run().await.unwrap_err().to_string();

    assert!(text.contains("it is claimed by nexus-dr/other, not by nexus-dr/data"), "{text}");
    assert_eq!(site.shelf.at(VOLUME), Some(held));
}

#[tokio::test]
async fn an_apply_whose_answer_was_lost_is_looked_up_and_not_repeated() {
    let lose = Arc::new(AtomicBool::new(true));
    let site = Site::answering(move |shelf, asked| {
        let reply = shelf.answer(asked);
        let is_lost = asked.method == "PATCH" && asked.path == VOLUME && lose.swap(false, Ordering::SeqCst);
        if is_lost { Reply::status(504, "Timeout", "timed out", json!({})) } else { reply }
    });

    site.run().await.unwrap();

    assert_eq!(site.asked.write_lines().iter().filter(|line| line.ends_with(VOLUME)).count(), 1);
}

#[tokio::test]
async fn an_apply_that_can_not_be_found_again_is_unknown() {
    let site = Site::answering(|shelf, asked| match asked.method.as_str() {
        "PATCH" if asked.path == VOLUME => Reply::status(504, "Timeout", "timed out", json!({})),
        _ => shelf.answer(asked),
    });

    let error = site.run().await.unwrap_err();

    assert_eq!(error.failure(), Failure::Unknown);
    assert_eq!(site.shelf.at(CLAIM), None);
}

#[tokio::test]
async fn a_field_of_somebody_else_is_not_taken() {
    let site = Site::answering(|shelf, asked| match asked.method.as_str() {
        "PATCH" if asked.path == SECRET => {
            Reply::status(409, "Conflict", "conflict with \"helm\": .data.password", json!({ "causes": [] }))
        }
        _ => shelf.answer(asked),
    });

    let error = site.run().await.unwrap_err();

    assert_eq!(error.failure(), Failure::Permanent);
    let text = format!("{:?}", error.into_result());
    assert!(text.contains("failed to apply Secret root") && text.contains("helm"), "{text}");
}

#[tokio::test]
async fn without_a_server_or_a_bundle_the_settings_are_named() {
    let mut site = Site::new();
    site.ctx.standby = None;
    let no_server = site.run().await.unwrap_err();
    let mut site = Site::new();
    site.ctx.pair = Arc::new(pair(""));
    let no_bundle = site.run().await.unwrap_err();

    assert_eq!(no_server.to_string(), "there is no clusters.standby in the settings");
    assert!(format!("{:?}", no_bundle.into_result()).contains("the pair has no restore.bundle"));
}

fn held_volume(uid: &str) -> Value {
    json!({
        "metadata": { "name": "pv-1", "uid": "u", "resourceVersion": "9" },
        "spec": {
            "storageClassName": "block", "persistentVolumeReclaimPolicy": "Delete",
            "claimRef": { "namespace": "nexus-dr", "name": "data", "uid": uid, "resourceVersion": "3" },
            "csi": { "driver": "rbd.csi.ceph.com", "volumeHandle": "h-1" }
        },
        "status": { "phase": "Released" }
    })
}

struct Site {
    _bundle: tempfile::TempDir,
    shelf: Shelf,
    asked: Ledger,
    gate: Arc<Gate>,
    ctx: Context,
}

impl Site {
    fn new() -> Self {
        Self::answering(|shelf, asked| shelf.answer(asked))
    }

    fn answering(answer: impl Fn(&Shelf, &crate::testing::kube::Asked) -> Reply + Send + Sync + 'static) -> Self {
        let (directory, settings) = bundle();
        let (shelf, gate) = (Shelf::default(), Arc::new(Gate::default()));
        let held = shelf.clone();
        let (client, asked) = server(move |asked| answer(&held, asked));
        let ctx = Context { standby: Some(client), ..context(pair(&settings), Step::Restore, &gate) };
        Self { _bundle: directory, shelf, asked, gate, ctx }
    }

    async fn run(&self) -> Result<StepDone, StepError> {
        run(&self.ctx).await
    }
}
