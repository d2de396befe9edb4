use std::sync::Arc;

use understudy_core::{Failure, Step};

use super::*;
use crate::testing::kube::{Asked, Ledger, Reply, Shelf, bundle as files, server};
use crate::testing::{Gate, context, pair};

const VOLUME: &str = "/api/v1/persistentvolumes/pv-1";
const CLAIM: &str = "/api/v1/namespaces/nexus-dr/persistentvolumeclaims/data";

#[tokio::test(start_paused = true)]
async fn a_bound_claim_is_read_back_with_its_volume_and_nothing_is_written() {
    let site = Site::new(|shelf, asked| shelf.answer(asked));
    site.bind();

    let done = run(&site.ctx).await.unwrap();

    assert_eq!(done.detail, "bound data to pv-1");
    assert!(site.asked.writes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_binder_that_sleeps_is_nudged_awake() {
    let site = Site::new(|shelf, asked| {
        let reply = shelf.answer(asked);
        if asked.method == "PATCH" {
            bind(shelf);
        }
        reply
    });
    let began = Instant::now();

    let done = run(&site.ctx).await.unwrap();

    assert_eq!(done.detail, "bound data to pv-1 after 1 nudges");
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let writes = site.asked.writes();
    assert_eq!(writes[0].body, json!({ "metadata": { "annotations": { "understudy/nudge": "1" } } }));
    assert_eq!(site.gate.permits(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_stays_pending_fails_with_the_binders_words() {
    let site = Site::new(|shelf, asked| shelf.answer(asked));
    let event = |message: &str, time: &str| json!({ "metadata": { "name": time }, "involvedObject": {}, "message": message, "lastTimestamp": time });
    site.shelf.put("/api/v1/namespaces/nexus-dr/events/1", event("an old one", "2026-11-24T00:00:00Z"));
    site.shelf
        .put("/api/v1/namespaces/nexus-dr/events/2", event("storageClassName does not match", "2026-11-24T00:00:09Z"));

    let error = run(&site.ctx).await.unwrap_err();

    assert_eq!(error.failure(), Failure::Permanent);
    let text = error.to_string();
    assert_eq!(text, "not every claim was Bound within 10s: claim data is Pending: storageClassName does not match");
    let nudges = site.asked.writes().len();
    assert!((9..=10).contains(&nudges), "{nudges}");
}

#[tokio::test(start_paused = true)]
async fn a_claim_on_another_volume_fails_at_once() {
    let site = Site::new(|shelf, asked| shelf.answer(asked));
    site.bind();
    let mut claim = site.shelf.at(CLAIM).unwrap();
    claim["spec"]["volumeName"] = json!("pv-empty");
    site.shelf.put(CLAIM, claim);
    let began = Instant::now();

    let error = run(&site.ctx).await.unwrap_err();

    assert_eq!(error.to_string(), "claim data is not ours: volumeName is \"pv-empty\", not \"pv-1\"");
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_volume_with_other_data_fails_at_once() {
    let site = Site::new(|shelf, asked| shelf.answer(asked));
    site.bind();
    let mut volume = site.shelf.at(VOLUME).unwrap();
    volume["spec"]["csi"]["volumeHandle"] = json!("other");
    site.shelf.put(VOLUME, volume);

    let error = run(&site.ctx).await.unwrap_err();

    assert!(error.to_string().starts_with("volume pv-1 of claim data is not ours: volumeHandle"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn bound_to_a_claim_of_the_same_name_that_is_gone_is_not_bound() {
    let site = Site::new(|shelf, asked| shelf.answer(asked));
    site.bind();
    let mut volume = site.shelf.at(VOLUME).unwrap();
    volume["spec"]["claimRef"]["uid"] = json!("u-gone");
    site.shelf.put(VOLUME, volume);

    let error = run(&site.ctx).await.unwrap_err();

    assert!(error.to_string().contains("volume of claim data is Bound to another claim of this name"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_away_for_a_while_is_waited_for() {
    let began = Instant::now();
    let site = Site::new(move |shelf, asked| {
        if began.elapsed() < Duration::from_secs(3) {
            return Reply::status(500, "InternalError", "etcdserver: request timed out", json!({}));
        }
        shelf.answer(asked)
    });
    site.bind();

    let done = run(&site.ctx).await.unwrap();

    assert!(done.detail.starts_with("bound data to pv-1"), "{}", done.detail);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_ends_the_step_in_time() {
    let site = Site::new(|_, _| Reply::Never);
    let began = Instant::now();

    let error = run(&site.ctx).await.unwrap_err();

    assert_eq!(error.failure(), Failure::Transient);
    assert!(began.elapsed() < Duration::from_secs(13), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_assertion_before_a_deploy_does_not_wait() {
    let site = Site::new(|shelf, asked| shelf.answer(asked));
    let began = Instant::now();

    let error = assert(site.ctx.standby.as_ref().unwrap(), &bundle(&site.ctx).unwrap()).await.unwrap_err();

    assert_eq!(error.to_string(), "claim data is Pending: nothing that mounts it may start");
    assert_eq!(began.elapsed(), Duration::ZERO);
}

fn bind(shelf: &Shelf) {
    let mut claim = shelf.at(CLAIM).unwrap();
    claim["status"] = json!({ "phase": "Bound" });
    shelf.put(CLAIM, claim);
    let mut volume = shelf.at(VOLUME).unwrap();
    volume["status"] = json!({ "phase": "Bound" });
    volume["spec"]["claimRef"]["uid"] = json!("u-claim");
    shelf.put(VOLUME, volume);
}

struct Site {
    _files: tempfile::TempDir,
    shelf: Shelf,
    asked: Ledger,
    gate: Arc<Gate>,
    ctx: Context,
}

impl Site {
    /// With the claim and its volume there, not bound yet.
    fn new(answer: impl Fn(&Shelf, &Asked) -> Reply + Send + Sync + 'static) -> Self {
        let (files, settings) = files();
        let (shelf, gate) = (Shelf::default(), Arc::new(Gate::default()));
        let held = shelf.clone();
        let (client, asked) = server(move |asked| answer(&held, asked));
        let ctx = Context { standby: Some(client), ..context(pair(&settings), Step::Bound, &gate) };
        let pair = bundle(&ctx).unwrap().claims.remove(0);
        let (mut claim, mut volume) = (pair.claim.object, pair.volume.object);
        claim["metadata"]["uid"] = json!("u-claim");
        volume["status"] = json!({ "phase": "Available" });
        shelf.put(CLAIM, claim);
        shelf.put(VOLUME, volume);
        Self { _files: files, shelf, asked, gate, ctx }
    }

    fn bind(&self) {
        bind(&self.shelf);
    }
}
