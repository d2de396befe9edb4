//! Against a fake `rbd` and `ceph`, and an API server that knows one Deployment.

use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::Value;
use understudy_core::Failure;

use super::*;
use crate::testing::serve;
use crate::testing_rbd::{MIRROR, MIRROR_ADDRESS, Site, permanent};

const BOTH: &[&str] = &["rbd/data", "rbd/db"];

const DEPLOYMENT: &str = "quiesce: { deployment: { namespace: rook, name: mirror } }";

/// Strangers and daemons that keep coming back are borne for less than in earnest.
const SHORT: Patience = Patience {
    stranger: Duration::from_millis(300),
    all: Duration::from_millis(1500),
    pause: Duration::from_millis(10),
};

#[tokio::test]
async fn the_mirror_daemon_is_refused_by_its_address_and_no_watcher_is_left() {
    let site = Site::with(BOTH);

    let done = quiesce(&site, "").await.unwrap();

    assert_eq!(site.calls("ceph"), [format!("ceph osd blocklist add {MIRROR_ADDRESS} 3600")]);
    assert_eq!(done.detail, format!("rbd-mirror left running; blocklisted {MIRROR_ADDRESS}; no watcher left"));
    assert_eq!(site.gate.permits(), 1);
}

#[tokio::test]
async fn the_address_is_noted_before_it_is_refused() {
    let site = Site::with(&["rbd/data"]);
    site.break_call("osd blocklist add", "exit 1");

    let error = quiesce(&site, "").await.unwrap_err();

    assert_eq!(error.failure(), Failure::Unknown);
    let noted = site.gate.notes.lock().unwrap().clone();
    assert_eq!(noted, [("blocklisted".to_owned(), format!("[\"{MIRROR_ADDRESS}\"]"))]);
}

#[tokio::test]
async fn an_address_that_was_noted_but_never_refused_is_refused_by_the_next_try() {
    let site = Site::with(&["rbd/data"]);
    site.gate.notes.lock().unwrap().push(("blocklisted".into(), format!("[\"{MIRROR_ADDRESS}\"]")));

    quiesce(&site, "").await.unwrap();

    assert_eq!(site.calls("ceph osd blocklist add").len(), 1);
    assert_eq!(site.gate.notes.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn twice_is_the_same_as_once() {
    let site = Site::with(BOTH);
    quiesce(&site, "").await.unwrap();

    quiesce(&site, "").await.unwrap();

    assert_eq!((site.calls("ceph").len(), site.gate.permits(), site.gate.notes.lock().unwrap().len()), (1, 1, 1));
}

#[tokio::test]
async fn a_workload_is_named_and_never_refused_and_neither_is_the_mirror_daemon_beside_it() {
    let site = Site::with(BOTH);
    site.write("rbd/db/watchers", &format!("{MIRROR_ADDRESS} {MIRROR}\n10.0.0.7:0/5 77\n"));

    let message = permanent(quiesce(&site, "").await);

    assert!(message.starts_with("10.0.0.7:0/5 has rbd/db open"), "{message}");
    assert_eq!(site.calls("ceph"), [""; 0]);
    assert_eq!(site.gate.permits(), 0);
}

#[tokio::test]
async fn a_stranger_that_goes_away_by_itself_was_a_client_that_had_died() {
    let site = Site::with(&["rbd/data"]);
    site.write("rbd/data/watchers", "10.0.0.2:0/9 4000\n");
    // Gone after some looks, as Ceph forgets it.
    let looks = r#"echo >> "$dir/looks"; [ $(wc -l < "$dir/looks") -lt 4 ] || : > "$dir/rbd/data/watchers""#;
    site.break_call("status", looks);
    let patience = Patience { stranger: Duration::from_secs(60), all: Duration::from_secs(60), ..SHORT };

    run_with(&site.context(Step::Quiesce), &site.settings(""), patience).await.unwrap();

    assert_eq!(site.calls("ceph"), [""; 0]);
}

#[tokio::test]
async fn a_daemon_that_comes_back_under_a_new_number_is_refused_again() {
    let site = Site::with(&["rbd/data"]);
    // Once refused, it restarts as 4131.
    let back = r#"if ! [ -f "$dir/back" ]; then touch "$dir/back"
      echo "10.0.0.2:0/222 4131" > "$dir/rbd/data/again"; sed -i s/4130/4131/ "$dir/pool"; fi"#;
    site.break_call("osd blocklist add", back);
    let again = r#"[ ! -f "$dir/rbd/data/again" ] || mv "$dir/rbd/data/again" "$dir/rbd/data/watchers""#;
    site.break_call("mirror pool status", again);
    site.break_call("status", again);

    let done = quiesce(&site, "").await.unwrap();

    assert_eq!(site.calls("ceph osd blocklist add").len(), 2);
    assert!(done.detail.contains(&format!("blocklisted {MIRROR_ADDRESS}, 10.0.0.2:0/222")), "{}", done.detail);
}

#[tokio::test]
async fn a_daemon_that_never_stops_coming_back_ends_our_patience() {
    let site = Site::with(&["rbd/data"]);
    let stays = format!("echo '{MIRROR_ADDRESS} {MIRROR}' > \"$dir/rbd/data/watchers\"");
    site.break_call("status", &stays);

    let error = quiesce(&site, "").await.unwrap_err();

    assert_eq!(error.failure(), Failure::Transient);
    assert!(error.whole().contains("keeps coming back"), "{}", error.whole());
}

#[tokio::test]
async fn a_cluster_that_does_not_answer_a_refusal_is_asked_again() {
    for silent in ["exit 110", "exec sleep 60"] {
        let site = Site::with(&["rbd/data"]);
        let once = format!("if ! [ -f \"$dir/silent\" ]; then touch \"$dir/silent\"; {silent}; fi");
        site.break_call("osd blocklist add", &once);
        let patience = Patience { all: Duration::from_secs(60), ..SHORT };

        let done = run_with(&site.context(Step::Quiesce), &site.settings("timeout: 2s"), patience).await.unwrap();

        assert_eq!(site.calls("ceph osd blocklist add").len(), 2, "{silent}");
        assert!(done.detail.ends_with("no watcher left"), "{}", done.detail);
    }
}

#[tokio::test]
async fn a_cluster_that_never_answers_a_refusal_ends_our_patience_and_nothing_is_in_doubt() {
    let site = Site::with(&["rbd/data"]);
    site.break_call("osd blocklist add", "exit 110");

    let error = quiesce(&site, "").await.unwrap_err();

    assert_eq!(error.failure(), Failure::Transient);
    assert!(error.whole().contains("ceph osd blocklist add"), "{}", error.whole());
}

#[tokio::test]
async fn a_daemon_that_our_user_may_not_see_is_no_daemon_to_us() {
    let site = Site::with(&["rbd/data"]);
    site.write("pool", r#"{"summary":{"daemon_health":"UNKNOWN"},"daemons":[],"images":[]}"#);
    let status = site.read("rbd/data/status").replace("\"daemon_service\"", "\"none\"");
    site.write("rbd/data/status", &status);

    let message = permanent(quiesce(&site, "").await);

    assert!(message.contains("our user lacks the right to see it: mon 'profile rbd, allow r'"), "{message}");
}

#[tokio::test]
async fn a_deployment_is_noted_then_scaled_to_nothing() {
    let site = Site::with(&["rbd/data"]);
    let api = Api::with(2).await;

    let done = quiesce_by_deployment(&site, &api).await.unwrap();

    assert_eq!(api.replicas(), Some(0));
    assert!(done.detail.starts_with("Deployment rook/mirror scaled from 2 to 0"), "{}", done.detail);
    let noted = site.gate.notes.lock().unwrap().clone();
    assert!(noted.contains(&("replicas".into(), "2".into())), "{noted:?}");
}

#[tokio::test]
async fn a_second_try_remembers_how_many_replicas_there_were_and_not_the_nothing_it_finds() {
    let site = Site::with(&["rbd/data"]);
    let api = Api::with(2).await;
    quiesce_by_deployment(&site, &api).await.unwrap();

    quiesce_by_deployment(&site, &api).await.unwrap();

    let noted = site.gate.notes.lock().unwrap().clone();
    assert_eq!(
        noted.iter().filter(|(key, _)| key == "replicas").collect::<Vec<_>>(),
        [&("replicas".into(), "2".into())]
    );
}

#[tokio::test]
async fn a_deployment_that_is_not_there_is_named() {
    let site = Site::with(&["rbd/data"]);
    let api = Api::with(0).await;
    *api.replicas.lock().unwrap() = None;

    let message = permanent(quiesce_by_deployment(&site, &api).await);

    assert!(message.contains("no Deployment rook/mirror at B"), "{message}");
}

#[tokio::test]
async fn a_command_stops_the_daemon_beside_the_blocklist() {
    let site = Site::with(&["rbd/data"]);
    let dir = site.dir.path().display();
    let commands = format!("quiesce: {{ command: {{ stop: [touch, {dir}/stopped], start: [rm, {dir}/stopped] }} }}");

    let done = quiesce(&site, &commands).await.unwrap();
    quiesce(&site, &commands).await.unwrap();

    assert!(site.path("stopped").exists() && done.detail.starts_with("rbd-mirror stopped by command"));
    assert_eq!(site.calls("ceph osd blocklist add").len(), 1);
    let noted = site.gate.notes.lock().unwrap().clone();
    let command: Vec<_> = noted.iter().filter(|(key, _)| key == "command").map(|(_, value)| value.as_str()).collect();
    assert_eq!(command, ["stopping", "stopped"]);
}

#[tokio::test]
async fn a_stop_command_that_fails_is_tried_again() {
    let site = Site::with(&["rbd/data"]);
    let commands = "quiesce: { command: { stop: [sh, -c, 'echo no >&2; exit 3'], start: ['true'] } }";

    let error = quiesce(&site, commands).await.unwrap_err();

    assert_eq!(error.failure(), Failure::Unknown);
    assert!(error.whole().contains("stop command of rbd-mirror failed with exit 3: no"), "{}", error.whole());
}

async fn quiesce(site: &Site, more: &str) -> Result<StepDone, StepError> {
    run_with(&site.context(Step::Quiesce), &site.settings(more), SHORT).await
}

async fn quiesce_by_deployment(site: &Site, api: &Api) -> Result<StepDone, StepError> {
    let mut ctx = site.context(Step::Quiesce);
    ctx.standby = Some(api.client.clone());
    run_with(&ctx, &site.settings(DEPLOYMENT), SHORT).await
}

/// An API server that knows the scale of one Deployment.
pub(crate) struct Api {
    pub client: kube::Client,
    replicas: Arc<Mutex<Option<i64>>>,
}

impl Api {
    pub async fn with(replicas: i64) -> Self {
        let replicas = Arc::new(Mutex::new(Some(replicas)));
        let path = "/apis/apps/v1/namespaces/rook/deployments/mirror/scale";
        let router = Router::new().route(path, get(read).patch(change)).with_state(replicas.clone());
        let address = serve(router).await;
        // A process may have one provider of TLS, and needs it even for plain HTTP.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = kube::Config::new(format!("http://{address}").parse().unwrap());
        Self { client: kube::Client::try_from(config).unwrap(), replicas }
    }

    pub fn replicas(&self) -> Option<i64> {
        *self.replicas.lock().unwrap()
    }

    pub fn set(&self, replicas: i64) {
        *self.replicas.lock().unwrap() = Some(replicas);
    }
}

type Replicas = State<Arc<Mutex<Option<i64>>>>;

async fn read(State(replicas): Replicas) -> (StatusCode, Json<Value>) {
    let replicas = *replicas.lock().unwrap();
    let Some(replicas) = replicas else {
        let status = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "not found",
            "reason": "NotFound", "code": 404 });
        return (StatusCode::NOT_FOUND, Json(status));
    };
    let scale = json!({ "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": { "name": "mirror", "namespace": "rook" },
        "spec": { "replicas": replicas }, "status": { "replicas": replicas } });
    (StatusCode::OK, Json(scale))
}

async fn change(State(replicas): Replicas, Json(patch): Json<Value>) -> (StatusCode, Json<Value>) {
    *replicas.lock().unwrap() = patch["spec"]["replicas"].as_i64();
    read(State(replicas)).await
}
