use std::sync::Arc;

use serde_json::json;
use understudy_core::{Failure, Step};

use super::*;
use crate::testing::kube::{Asked, Ledger, Reply, Shelf, bundle as files, manifest, server};
use crate::testing::{Gate, context, pair};

const NEXUS: &str = "/apis/operator.alaudadevops.io/v1alpha1/namespaces/nexus-dr/nexuses/nexus-ddrs";
const CLAIM: &str = "/api/v1/namespaces/nexus-dr/persistentvolumeclaims/data";

#[test]
fn every_condition_must_be_true_in_whatever_case() {
    let ready = json!({ "status": { "conditions": [
        { "type": "Initialized", "status": "True" }, { "type": "Deployed", "status": "true" }, { "type": "Running", "status": "TRUE" } ] } });
    let wanted = ["Initialized", "Deployed", "Running"].map(String::from);

    assert_eq!(unmet(&ready, &wanted), None);
    assert_eq!(unmet(&json!({}), &wanted), Some("no condition Initialized yet".into()));
}

#[test]
fn a_condition_that_is_not_true_is_named_with_its_reason() {
    let current = json!({ "status": { "conditions": [
        { "type": "Running", "status": "False", "reason": "Waiting", "message": "0 of 1 pods" } ] } });

    assert_eq!(unmet(&current, &["Running".into()]), Some("condition Running is False (Waiting: 0 of 1 pods)".into()));
}

#[test]
fn conditions_of_an_older_version_do_not_count() {
    let mut current = json!({
        "metadata": { "generation": 2 },
        "status": { "observedGeneration": 1, "conditions": [{ "type": "Running", "status": "True" }] }
    });

    assert_eq!(unmet(&current, &["Running".into()]), Some("the operator has not seen this version yet".into()));
    current["status"]["observedGeneration"] = json!(2);
    assert_eq!(unmet(&current, &["Running".into()]), None);
}

#[tokio::test(start_paused = true)]
async fn a_resource_is_applied_and_waited_for_until_its_pod_mounts_the_claim() {
    let site = Site::new(|shelf, asked| {
        let reply = shelf.answer(asked);
        if asked.line() == format!("PATCH {NEXUS}") {
            operate(shelf, "data");
        }
        reply
    });

    let done = run(&site.ctx).await.unwrap();

    assert_eq!(done.detail, "Nexus nexus-ddrs is ready; pod nexus-0 Running");
    let writes = site.asked.writes();
    assert_eq!(site.asked.write_lines(), [format!("PATCH {NEXUS}")]);
    assert_eq!(writes[0].body["metadata"]["namespace"], "nexus-dr");
    assert_eq!(site.gate.permits(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_healthy_resource_whose_pod_mounts_something_else_is_an_empty_nexus() {
    let site = Site::new(|shelf, asked| {
        let reply = shelf.answer(asked);
        if asked.line() == format!("PATCH {NEXUS}") {
            operate(shelf, "a-new-claim");
        }
        reply
    });
    let began = Instant::now();

    let error = run(&site.ctx).await.unwrap_err();

    assert_eq!(error.failure(), Failure::Permanent);
    let text = error.to_string();
    assert!(text.contains("no pod mounts claim data") && text.contains("an empty Nexus would be served"), "{text}");
    assert!(began.elapsed() < MOUNT_GRACE + Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_applied_while_a_claim_is_not_bound() {
    let site = Site::new(|shelf, asked| shelf.answer(asked));
    site.shelf.take(CLAIM);

    let error = run(&site.ctx).await.unwrap_err();

    assert_eq!(error.to_string(), "claim data does not exist: nothing that mounts it may start");
    assert!(site.asked.writes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_resource_that_does_not_get_ready_fails_with_what_is_missing() {
    let site = Site::new(|shelf, asked| shelf.answer(asked));

    let error = run(&site.ctx).await.unwrap_err();

    assert_eq!(error.to_string(), "not ready within 60s: no condition Initialized yet; no pod yet");
    assert_eq!(error.failure(), Failure::Permanent);
}

#[tokio::test(start_paused = true)]
async fn an_older_resource_that_is_still_going_is_waited_out_by_another_try() {
    let site = Site::new(|shelf, asked| shelf.answer(asked));
    site.shelf.put(NEXUS, json!({ "metadata": { "name": "nexus-ddrs", "deletionTimestamp": "2026-11-24T00:00:00Z" } }));

    let error = run(&site.ctx).await.unwrap_err();

    assert_eq!(error.failure(), Failure::Transient);
    assert!(site.asked.writes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_away_for_a_while_does_not_end_the_wait() {
    let began = Instant::now();
    let site = Site::new(move |shelf, asked| {
        let reply = shelf.answer(asked);
        if asked.line() == format!("PATCH {NEXUS}") {
            operate(shelf, "data");
        }
        // Away right after the apply.
        let away = (Duration::ZERO..Duration::from_secs(20)).contains(&began.elapsed());
        if away && asked.path.ends_with("/nexuses") { Reply::Text(503, "busy") } else { reply }
    });

    let done = run(&site.ctx).await.unwrap();

    assert!(done.detail.contains("is ready"), "{}", done.detail);
    assert!(began.elapsed() >= Duration::from_secs(20));
}

/// What an operator does about the resource.
fn operate(shelf: &Shelf, claim: &str) {
    let mut nexus = shelf.at(NEXUS).unwrap();
    let condition = |kind: &str| json!({ "type": kind, "status": "True" });
    nexus["status"] = json!({ "conditions": [condition("Initialized"), condition("Deployed"), condition("Running")] });
    shelf.put(NEXUS, nexus);
    shelf.put(
        "/api/v1/namespaces/nexus-dr/pods/nexus-0",
        json!({
            "metadata": { "name": "nexus-0" }, "status": { "phase": "Running" },
            "spec": { "containers": [], "volumes": [{ "name": "d", "persistentVolumeClaim": { "claimName": claim } }] }
        }),
    );
}

struct Site {
    _files: [tempfile::TempDir; 2],
    shelf: Shelf,
    asked: Ledger,
    gate: Arc<Gate>,
    ctx: Context,
}

impl Site {
    /// With its claim bound, and nothing deployed.
    fn new(answer: impl Fn(&Shelf, &Asked) -> Reply + Send + Sync + 'static) -> Self {
        let (files, settings) = files();
        let state = tempfile::tempdir().unwrap();
        let manifest = manifest(state.path());
        let deploy = format!("deploy: {{ manifest: '{}', plural: nexuses, ready_within: 60s }},", manifest.display());
        let (shelf, gate) = (Shelf::default(), Arc::new(Gate::default()));
        let held = shelf.clone();
        let (client, asked) = server(move |asked| answer(&held, asked));
        let ctx = context(pair(&format!("{settings} {deploy}")), Step::Deploy, &gate);
        let ctx = Context { standby: Some(client), ..ctx };
        let restored = bundle(&ctx).unwrap().claims.remove(0);
        let (mut claim, mut volume) = (restored.claim.object, restored.volume.object);
        claim["metadata"]["uid"] = json!("u-claim");
        claim["status"] = json!({ "phase": "Bound" });
        volume["status"] = json!({ "phase": "Bound" });
        volume["spec"]["claimRef"]["uid"] = json!("u-claim");
        shelf.put(CLAIM, claim);
        shelf.put("/api/v1/persistentvolumes/pv-1", volume);
        Self { _files: [files, state], shelf, asked, gate, ctx }
    }
}
