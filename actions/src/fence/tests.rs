use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use serde_json::{Value, json};
use understudy_config::{Cluster, Span};
use understudy_core::Step;

use super::*;
use crate::kube_client::{Patience, client};
use crate::testing::kube::{Asked, Ledger, Reply, Shelf, bundle, manifest, server};
use crate::testing::{Gate, context, nobody, pair};

const NEXUS: &str = "/apis/operator.alaudadevops.io/v1alpha1/namespaces/nexus-dr/nexuses/nexus-ddrs";
const POD: &str = "/api/v1/namespaces/nexus-dr/pods/nexus-0";
const ATTACHMENT: &str = "/apis/storage.k8s.io/v1/volumeattachments/va-1";
const NODE: &str = "/api/v1/nodes/a-1";

#[tokio::test(start_paused = true)]
async fn a_polite_stop_is_confirmed_when_a_says_that_everything_is_gone() {
    let site = Site::running(|shelf, asked| {
        let reply = shelf.answer(asked);
        if asked.line() == format!("DELETE {NEXUS}") {
            shelf.take(POD);
            shelf.take(ATTACHMENT);
        }
        reply
    });

    let (outcome, _) = site.fence().await;

    let FenceOutcome::Confirmed { how, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(how, "A's API server says: no Nexus nexus-dr/nexus-ddrs, no pod with its volumes, no volume attached");
    assert_eq!(site.asked.write_lines(), [format!("DELETE {NEXUS}")]);
    assert_eq!(site.asked.writes()[0].body["preconditions"], json!({ "uid": "u-nexus" }));
    assert_eq!(site.gate.notes(), [("deleted".into(), "Nexus nexus-dr/nexus-ddrs with uid u-nexus".into())]);
    assert_eq!(site.gate.permits(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_deleted_resource_is_kept_for_whoever_brings_a_back() {
    let site = Site::running(|shelf, asked| shelf.answer(asked));

    site.fence().await;

    let path = site.ctx.state.join("runs/nexus-7-failover/fenced-resource.json");
    let kept: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(kept["spec"], json!({ "externalURL": "http://nexus" }));
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test(start_paused = true)]
async fn nothing_there_is_confirmed_without_a_write() {
    let site = Site::new(|shelf, asked| shelf.answer(asked));

    let (outcome, took) = site.fence().await;

    assert!(matches!(outcome, FenceOutcome::Confirmed { .. }), "{outcome:?}");
    assert!(site.asked.writes().is_empty());
    assert_eq!(took, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_delete_that_was_sent_proves_nothing() {
    // The answer says yes and the resource stays, as with a finalizer whose operator is dead.
    let site = Site::running(|shelf, asked| match asked.method.as_str() {
        "DELETE" => Reply::ok(json!({ "kind": "Status", "status": "Success" })),
        _ => shelf.answer(asked),
    });

    let (outcome, took) = site.fence().await;

    let FenceOutcome::Unconfirmed { why } = outcome else { panic!("{outcome:?}") };
    assert!(
        why.contains("Nexus nexus-dr/nexus-ddrs exists; pod nexus-0 Running; a volume is attached to a-1"),
        "{why}"
    );
    assert!(took <= Duration::from_secs(21), "{took:?}");
    // Something puts it back: it is not fought for ever.
    assert_eq!(site.asked.write_lines().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_missing_kind_is_never_taken_for_a_missing_resource() {
    let site = Site::new(|shelf, asked| match asked.path.as_str() {
        NEXUS => Reply::Text(404, "404 page not found"),
        _ => shelf.answer(asked),
    });

    let (outcome, _) = site.fence().await;

    assert!(matches!(outcome, FenceOutcome::Unconfirmed { .. }), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_does_not_end_goes_by_force_and_is_proven_by_its_detached_volume() {
    let site = Site::running(ends_only_by_force);

    let (outcome, took) = site.fence().await;

    let FenceOutcome::Confirmed { how, .. } = outcome else { panic!("{outcome:?}") };
    assert!(how.ends_with("(its pods were deleted by force)"), "{how}");
    assert!(took >= Duration::from_secs(10), "{took:?}");
    let force = site.asked.writes().into_iter().find(|write| write.path == POD).unwrap();
    assert_eq!(force.body["gracePeriodSeconds"], 0);
    assert_eq!(force.body["preconditions"], json!({ "uid": "u-pod" }));
    // Remembered before it was sent.
    assert_eq!(site.gate.notes()[1], ("forced".into(), r#"{"attached":true,"nodes":["a-1"]}"#.into()));
}

#[tokio::test(start_paused = true)]
async fn a_pod_deleted_by_force_on_a_node_that_is_not_ready_proves_nothing() {
    let site = Site::running(ends_only_by_force);
    site.shelf.put(NODE, node("Unknown"));

    let (outcome, _) = site.fence().await;

    let FenceOutcome::Unconfirmed { why } = outcome else { panic!("{outcome:?}") };
    assert!(why.contains("node a-1, on which a pod was deleted by force, is not Ready: it may still run"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_pod_deleted_by_force_without_an_attached_volume_proves_nothing() {
    let site = Site::running(ends_only_by_force);
    site.shelf.take(ATTACHMENT);

    let (outcome, _) = site.fence().await;

    let FenceOutcome::Unconfirmed { why } = outcome else { panic!("{outcome:?}") };
    assert!(why.contains("none of their volumes was attached"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn what_was_forced_before_a_crash_is_still_known_after_it() {
    let mut site = Site::new(|shelf, asked| shelf.answer(asked));
    let order = Arc::get_mut(&mut site.ctx.order).unwrap();
    order.notes.insert("fence/forced".into(), r#"{"attached":false,"nodes":["a-1"]}"#.into());

    let (outcome, _) = site.fence().await;

    assert!(matches!(outcome, FenceOutcome::Unconfirmed { .. }), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn a_pod_of_another_claim_is_left_alone() {
    let site = Site::new(|shelf, asked| shelf.answer(asked));
    let mut other = pod();
    other["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"] = json!("other");
    site.shelf.put(POD, other);

    let (outcome, _) = site.fence().await;

    assert!(matches!(outcome, FenceOutcome::Confirmed { .. }), "{outcome:?}");
    assert!(site.asked.writes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_a_that_is_silent_is_given_up_quickly() {
    let site = Site::new(|_, _| Reply::Never);

    let (outcome, took) = site.fence().await;

    assert!(matches!(outcome, FenceOutcome::Unconfirmed { .. }), "{outcome:?}");
    assert!(took < Duration::from_secs(6), "{took:?}");
}

#[tokio::test]
async fn an_a_that_refuses_the_connection_is_asked_again_for_a_while_and_never_taken_for_fenced() {
    let mut site = Site::new(|_, _| Reply::Never);
    let kubeconfig = site.kubeconfig(nobody().await);
    site.ctx.primary = Some(client(&kubeconfig, Patience::default()).await.unwrap());
    let asked_for = Duration::from_millis(400);
    Arc::get_mut(&mut site.ctx.pair).unwrap().fence.refused_for = Some(Span(asked_for));

    let (outcome, took) = site.fence().await;

    let FenceOutcome::Unconfirmed { why } = outcome else { panic!("{outcome:?}") };
    let (_, counted) = why.split_once("its API server refused the connection ").unwrap_or_else(|| panic!("{why}"));
    let (times, rest) = counted.split_once(' ').unwrap();
    assert_eq!(rest, "times in a row, which proves nothing");
    assert!(times.parse::<u32>().unwrap() >= 2, "{why}");
    assert!(took >= asked_for && took < GIVE_UP_OF_SILENCE, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn an_a_that_freezes_in_between_is_given_up_quickly() {
    let began = Instant::now();
    let site = Site::running(
        move |shelf, asked| {
            if began.elapsed() > Duration::from_secs(1) { Reply::Never } else { shelf.answer(asked) }
        },
    );

    let (outcome, took) = site.fence().await;

    let FenceOutcome::Unconfirmed { why } = outcome else { panic!("{outcome:?}") };
    assert!(why.contains("does not answer"), "{why}");
    assert!(took < Duration::from_secs(6), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn without_any_fence_the_settings_are_named() {
    let gate = Arc::new(Gate::default());
    let ctx = context(pair(""), Step::Fence, &gate);

    let done = run(&ctx).await.unwrap();

    let Finding::Fence(FenceOutcome::Unconfirmed { why }) = done.finding else { panic!("{:?}", done.finding) };
    assert_eq!(why, "the pair's settings name no fence: set fence.workload, fence.demote or fence.hooks");
}

#[tokio::test]
async fn a_hook_that_says_yes_confirms_even_if_a_does_not_answer() {
    let (outcome, permits) = hooks("workload: true, hooks: [{ command: { command: ['true'] } }]").await;

    let FenceOutcome::Confirmed { how, at_wall_ms } = outcome else { panic!("{outcome:?}") };
    assert_eq!(
        how,
        "hook true said that A is fenced (but: workload of A: there is no clusters.primary in the settings)"
    );
    assert!(at_wall_ms > 1_700_000_000_000);
    assert_eq!(permits, 1);
}

#[tokio::test]
async fn a_hook_that_says_no_confirms_nothing() {
    let (outcome, _) = hooks("hooks: [{ command: { command: ['false'] } }]").await;

    assert!(matches!(outcome, FenceOutcome::Unconfirmed { .. }), "{outcome:?}");
}

#[tokio::test]
async fn a_hook_that_hangs_is_ended_with_the_fence() {
    let began = std::time::Instant::now();

    let (outcome, _) = hooks("within: 200ms, hooks: [{ command: { command: [sleep, '60'] } }]").await;

    let FenceOutcome::Unconfirmed { why } = outcome else { panic!("{outcome:?}") };
    assert!(why.contains("hook sleep did not end within 0.2 s"), "{why}");
    assert!(began.elapsed() < Duration::from_secs(5));
}

/// The resource goes at once, its pod is ending for ever, and goes with its attachment when it is deleted by force.
fn ends_only_by_force(shelf: &Shelf, asked: &Asked) -> Reply {
    let is_force = asked.body["gracePeriodSeconds"] == 0;
    let reply = shelf.answer(asked);
    if asked.line() == format!("DELETE {NEXUS}") {
        let mut ending = pod();
        ending["metadata"]["deletionTimestamp"] = json!("2026-11-24T00:00:00Z");
        shelf.put(POD, ending);
    }
    if is_force {
        shelf.take(ATTACHMENT);
    }
    reply
}

async fn hooks(fence: &str) -> (FenceOutcome, u32) {
    let gate = Arc::new(Gate::default());
    let ctx = context(pair(&format!("fence: {{ {fence} }}")), Step::Fence, &gate);
    let done = run(&ctx).await.unwrap();
    let Finding::Fence(outcome) = done.finding else { panic!("{:?}", done.finding) };
    (outcome, gate.permits())
}

fn pod() -> Value {
    json!({
        "metadata": { "name": "nexus-0", "namespace": "nexus-dr", "uid": "u-pod" },
        "spec": {
            "nodeName": "a-1", "containers": [],
            "volumes": [{ "name": "data", "persistentVolumeClaim": { "claimName": "data" } }]
        },
        "status": { "phase": "Running" }
    })
}

fn node(ready: &str) -> Value {
    json!({ "metadata": { "name": "a-1" }, "status": { "conditions": [{ "type": "Ready", "status": ready }] } })
}

/// An A that does not answer at all is given up after this.
const GIVE_UP_OF_SILENCE: Duration = Duration::from_secs(4);

struct Site {
    _files: [tempfile::TempDir; 2],
    shelf: Shelf,
    asked: Ledger,
    gate: Arc<Gate>,
    ctx: Context,
}

impl Site {
    /// An A at which nothing of the pair runs.
    fn new(answer: impl Fn(&Shelf, &Asked) -> Reply + Send + Sync + 'static) -> Self {
        let (files, settings) = bundle();
        let state = tempfile::tempdir().unwrap();
        let manifest = manifest(state.path());
        let settings = format!(
            "{settings} deploy: {{ manifest: '{}', plural: nexuses }}, fence: {{ workload: true }},",
            manifest.display()
        );
        let (shelf, gate) = (Shelf::default(), Arc::new(Gate::default()));
        let held = shelf.clone();
        let (client, asked) = server(move |asked| answer(&held, asked));
        let base = context(pair(&settings), Step::Fence, &gate);
        let ctx = Context { primary: Some(client), state: state.path().into(), ..base };
        shelf.put(NODE, node("True"));
        Self { _files: [files, state], shelf, asked, gate, ctx }
    }

    /// An A whose Nexus runs, with its volume attached.
    fn running(answer: impl Fn(&Shelf, &Asked) -> Reply + Send + Sync + 'static) -> Self {
        let site = Self::new(answer);
        site.shelf.put(
            NEXUS,
            json!({
                "apiVersion": "operator.alaudadevops.io/v1alpha1", "kind": "Nexus",
                "metadata": { "name": "nexus-ddrs", "namespace": "nexus-dr", "uid": "u-nexus" },
                "spec": { "externalURL": "http://nexus" }
            }),
        );
        site.shelf.put(POD, pod());
        site.shelf.put(
            ATTACHMENT,
            json!({
                "metadata": { "name": "va-1" },
                "spec": { "attacher": "rbd", "nodeName": "a-1", "source": { "persistentVolumeName": "pv-1" } }
            }),
        );
        site
    }

    /// The way to an API server at `address`.
    fn kubeconfig(&self, address: SocketAddr) -> Cluster {
        let path = self.ctx.state.join("kubeconfig");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{{name: k, cluster: {{server: 'https://{address}'}}}}]\n\
             users: [{{name: u, user: {{token: x}}}}]\ncontexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n"
        );
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        Cluster::Kubeconfig(path)
    }

    async fn fence(&self) -> (FenceOutcome, Duration) {
        let began = Instant::now();
        let done = run(&self.ctx).await.unwrap();
        let Finding::Fence(outcome) = done.finding else { panic!("{:?}", done.finding) };
        (outcome, began.elapsed())
    }
}
