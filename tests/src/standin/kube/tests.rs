//! Each measured behaviour, asked for by a real client over TLS.

use std::collections::BTreeMap;

use futures::StreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Event, PersistentVolume, PersistentVolumeClaim, Pod, Secret};
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams,
    Preconditions, WatchEvent, WatchParams,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::json;

use super::*;
use crate::standin::effects::Kind;
use crate::standin::port::loopback;

#[tokio::test]
async fn an_object_gets_uid_version_and_time_and_is_found_again() {
    let site = Site::start().await;
    let maps = site.api::<ConfigMap>();

    let made = maps.create(&PostParams::default(), &map("one", "1")).await.unwrap();

    assert!(made.metadata.uid.is_some() && made.metadata.creation_timestamp.is_some());
    assert!(made.metadata.resource_version.is_some());
    assert_eq!(maps.get("one").await.unwrap(), made);
    assert_eq!(maps.list(&ListParams::default()).await.unwrap().items.len(), 1);
    let again = maps.create(&PostParams::default(), &map("one", "2")).await.unwrap_err();
    assert_eq!(reason(&again), (409, "AlreadyExists"));
    assert_eq!(reason(&maps.get("two").await.unwrap_err()), (404, "NotFound"));
}

#[tokio::test]
async fn a_write_with_an_old_version_is_a_conflict() {
    let site = Site::start().await;
    let maps = site.api::<ConfigMap>();
    let old = maps.create(&PostParams::default(), &map("one", "1")).await.unwrap();
    let merge = json!({ "data": { "k": "2" } });
    maps.patch("one", &PatchParams::default(), &Patch::Merge(&merge)).await.unwrap();

    let put = maps.replace("one", &PostParams::default(), &old).await.unwrap_err();
    let stale = json!({ "metadata": { "resourceVersion": old.metadata.resource_version }, "data": {} });
    let merged = maps.patch("one", &PatchParams::default(), &Patch::Merge(&stale)).await.unwrap_err();

    assert_eq!(reason(&put), (409, "Conflict"));
    assert_eq!(reason(&merged), (409, "Conflict"));
    let preconditions = Preconditions { uid: Some("other".to_owned()), resource_version: None };
    let delete = DeleteParams::default().preconditions(preconditions);
    assert_eq!(reason(&maps.delete("one", &delete).await.unwrap_err()), (409, "Conflict"));
}

#[tokio::test]
async fn a_failed_test_of_a_json_patch_is_invalid() {
    let site = Site::start().await;
    site.api::<ConfigMap>().create(&PostParams::default(), &map("one", "1")).await.unwrap();
    let patch = json!([{ "op": "test", "path": "/data/k", "value": "other" }]);

    let path = "/api/v1/namespaces/nexus/configmaps/one";
    let answer = site
        .http("PATCH", path, Some(&site.kube.admin_token))
        .header("content-type", "application/json-patch+json")
        .body(patch.to_string())
        .send()
        .await
        .unwrap();

    assert_eq!(answer.status(), 422);
}

#[tokio::test]
async fn server_side_apply_creates_repeats_without_change_conflicts_and_forces() {
    let site = Site::start().await;
    let maps = site.api::<ConfigMap>();
    let apply = |manager: &str| PatchParams::apply(manager);
    let wanted = |value: &str| json!({ "apiVersion": "v1", "kind": "ConfigMap", "data": { "k": value } });

    let first = maps.patch("one", &apply("a"), &Patch::Apply(wanted("1"))).await.unwrap();
    let same = maps.patch("one", &apply("a"), &Patch::Apply(wanted("1"))).await.unwrap();
    let other = maps.patch("one", &apply("b"), &Patch::Apply(wanted("2"))).await.unwrap_err();
    let forced = maps.patch("one", &apply("b").force(), &Patch::Apply(wanted("2"))).await.unwrap();

    assert_eq!(first, same, "a repeated apply keeps the version");
    let kube::Error::Api(status) = &other else { panic!("{other}") };
    assert_eq!(status.code, 409);
    let causes = &status.details.as_ref().unwrap().causes;
    assert_eq!((causes[0].reason.as_str(), causes[0].field.as_str()), ("FieldManagerConflict", ".data.k"));
    assert_eq!(forced.data.unwrap()["k"], "2");
    let applied: Vec<String> = site.ledger.of(Kind::Apply).into_iter().filter_map(|effect| effect.key).collect();
    assert_eq!(applied, ["a", "b"], "only what changed something is an effect");
}

#[tokio::test]
async fn a_dry_run_stores_nothing() {
    let site = Site::start().await;
    let maps = site.api::<ConfigMap>();
    let wanted = json!({ "apiVersion": "v1", "kind": "ConfigMap", "data": { "k": "1" } });

    let dry = PatchParams { dry_run: true, ..PatchParams::apply("a") };
    maps.patch("one", &dry, &Patch::Apply(wanted)).await.unwrap();

    assert_eq!(reason(&maps.get("one").await.unwrap_err()), (404, "NotFound"));
    assert!(site.ledger.all().is_empty());
}

#[tokio::test]
async fn a_namespace_that_is_not_there_and_a_type_that_is_not_served_are_told_apart() {
    let site = Site::start().await;
    let elsewhere: Api<ConfigMap> = Api::namespaced(site.client.clone(), "nowhere");

    let missing = elsewhere.create(&PostParams::default(), &map("one", "1")).await.unwrap_err();
    let path = "/apis/no.such.group/v1/namespaces/nexus/things";
    let unknown = site.http("GET", path, Some(&site.kube.admin_token)).send().await.unwrap();

    assert_eq!(reason(&missing), (404, "NotFound"));
    assert_eq!(unknown.status(), 404);
    assert_eq!(unknown.text().await.unwrap(), "404 page not found\n");
}

#[tokio::test]
async fn a_lease_wants_microseconds_and_a_positive_duration() {
    let site = Site::start().await;
    let lease = |time: &str, seconds: i64| {
        json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": "pair" },
            "spec": { "holderIdentity": "me", "renewTime": time, "leaseDurationSeconds": seconds },
        })
    };
    // time, seconds, status
    let table = [
        ("2026-11-23T10:00:00Z", 15, 400),
        ("2026-11-23T10:00:00.123Z", 15, 400),
        ("2026-11-23T10:00:00.000000Z", 0, 422),
        ("2026-11-23T10:00:00.000000Z", 15, 201),
        ("2026-11-23T10:00:00.000000Z", 15, 409),
    ];

    for (time, seconds, status) in table {
        let path = "/apis/coordination.k8s.io/v1/namespaces/nexus/leases";
        let request = site.http("POST", path, Some(&site.kube.admin_token));
        let answer = request.body(lease(time, seconds).to_string()).send().await.unwrap();
        assert_eq!(answer.status(), status, "{time} {seconds}");
    }

    let leases = site.api::<Lease>();
    let held = leases.get("pair").await.unwrap();
    let renewed = leases.replace("pair", &PostParams::default(), &held).await.unwrap();
    assert_eq!(renewed.spec, held.spec);
    assert!(site.ledger.all().is_empty(), "a lease is no effect");
}

#[tokio::test]
async fn tokens_decide_between_401_403_and_yes() {
    let site = Site::start().await;
    let rules = vec![
        Rule::new("get list watch", &[""], "persistentvolumeclaims", ""),
        Rule::new("get update", &["coordination.k8s.io"], "leases", "pair"),
    ];
    let limited = site.kube.add_user("system:serviceaccount:nexus:agent", rules);
    let claims = "/api/v1/namespaces/nexus/persistentvolumeclaims";
    let secrets = "/api/v1/namespaces/nexus/secrets";
    // path, token, status
    let table = [
        (claims, Some(limited.as_str()), 200),
        (secrets, Some(limited.as_str()), 403),
        (claims, Some("nonsense"), 401),
        (claims, None, 403),
        ("/readyz", None, 200),
        ("/version", None, 200),
    ];

    for (path, token, status) in table {
        assert_eq!(site.http("GET", path, token).send().await.unwrap().status(), status, "{path}");
    }

    let review = json!({ "spec": { "resourceAttributes": {
        "verb": "get", "group": "", "resource": "secrets", "namespace": "nexus" } } });
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let answer = site.http("POST", path, Some(&limited)).body(review.to_string()).send().await.unwrap();
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["status"]["allowed"], false);
}

#[tokio::test]
async fn status_is_a_subresource_of_a_custom_resource_and_generation_counts_the_spec() {
    let site = Site::start().await;
    let nexuses = site.nexuses();
    let mut wanted = DynamicObject::new("n", &nexus_type());
    wanted.data = json!({ "spec": { "a": 1 }, "status": { "phase": "dropped" } });

    let made = nexuses.create(&PostParams::default(), &wanted).await.unwrap();
    let status = Patch::Merge(json!({ "status": { "phase": "set" } }));
    let with_status = nexuses.patch_status("n", &PatchParams::default(), &status).await.unwrap();
    let spec = Patch::Merge(json!({ "spec": { "a": 2 } }));
    let changed = nexuses.patch("n", &PatchParams::default(), &spec).await.unwrap();

    assert_eq!(made.data.get("status"), None);
    assert_eq!((made.metadata.generation, with_status.metadata.generation), (Some(1), Some(1)));
    assert_eq!(with_status.data["status"]["phase"], "set");
    assert_eq!(changed.metadata.generation, Some(2));
    assert_eq!(changed.data["status"]["phase"], "set");
}

#[tokio::test]
async fn a_watch_tells_of_changes_in_order_and_of_the_past_from_a_version() {
    let site = Site::start().await;
    let maps = site.api::<ConfigMap>();
    let first = maps.create(&PostParams::default(), &map("one", "1")).await.unwrap();
    let from = first.metadata.resource_version.unwrap();
    maps.create(&PostParams::default(), &map("two", "1")).await.unwrap();

    let mut events = Box::pin(maps.watch(&WatchParams::default(), &from).await.unwrap());

    let Some(Ok(WatchEvent::Added(two))) = events.next().await else { panic!() };
    assert_eq!(two.metadata.name.as_deref(), Some("two"));
    maps.delete("one", &DeleteParams::default()).await.unwrap();
    let Some(Ok(WatchEvent::Deleted(one))) = events.next().await else { panic!() };
    assert_eq!(one.metadata.name.as_deref(), Some("one"));
    let Some(Ok(WatchEvent::Bookmark(_))) = events.next().await else { panic!() };
}

#[tokio::test]
async fn a_watch_from_before_the_cache_is_an_error_event_with_410() {
    let site = Site::start().await;
    let maps = site.api::<ConfigMap>();
    maps.create(&PostParams::default(), &map("one", "1")).await.unwrap();
    site.kube.compact();

    let mut events = Box::pin(maps.watch(&WatchParams::default(), "1").await.unwrap());

    let Some(Ok(WatchEvent::Error(status))) = events.next().await else { panic!() };
    assert_eq!((status.code, status.reason.as_str()), (410, "Expired"));
    assert!(status.message.starts_with("too old resource version: 1 ("));
}

#[tokio::test]
async fn the_watcher_of_kube_runtime_survives_a_kill_and_sees_what_came_after() {
    let site = Site::start().await;
    let maps = site.api::<ConfigMap>();
    let config = kube::runtime::watcher::Config::default();
    let watcher = kube::runtime::watcher(maps.clone(), config);
    let mut names = Box::pin(watcher.filter_map(|event| async {
        use kube::runtime::watcher::Event;
        match event.ok()? {
            Event::Apply(map) | Event::InitApply(map) => map.metadata.name,
            _ => None,
        }
    }));
    maps.create(&PostParams::default(), &map("before", "1")).await.unwrap();
    assert_eq!(names.next().await.as_deref(), Some("before"));

    site.kube.kill().await;
    site.kube.restart().await.unwrap();

    maps.create(&PostParams::default(), &map("after", "1")).await.unwrap();
    while names.next().await.as_deref() != Some("after") {}
}

#[tokio::test]
async fn a_killed_server_refuses_a_frozen_one_hangs_in_the_handshake() {
    let site = Site::start().await;
    site.kube.freeze();
    let tcp = tokio::net::TcpStream::connect(site.kube.address()).await;
    assert!(tcp.is_ok(), "the kernel accepts");
    assert!(hangs(site.http("GET", "/readyz", None).send()).await);
    site.kube.thaw();
    assert_eq!(site.http("GET", "/readyz", None).send().await.unwrap().status(), 200);

    site.kube.kill().await;

    assert!(site.http("GET", "/readyz", None).send().await.unwrap_err().is_connect());
}

#[tokio::test]
async fn without_etcd_the_cache_answers_and_nothing_else_does() {
    let site = Site::start().await;
    let maps = site.api::<ConfigMap>();
    maps.create(&PostParams::default(), &map("one", "1")).await.unwrap();
    site.kube.freeze_etcd(true);

    let path = "/api/v1/namespaces/nexus/configmaps/one";
    let token = Some(site.kube.admin_token.as_str());
    let cached = site.http("GET", &format!("{path}?resourceVersion=0"), token).send().await.unwrap();
    let ready = site.http("GET", "/readyz?verbose", None).send().await.unwrap();

    assert_eq!(cached.status(), 200);
    assert_eq!(ready.status(), 500);
    assert!(ready.text().await.unwrap().contains("[-]etcd failed: reason withheld"));
    assert!(hangs(site.http("GET", path, token).send()).await);
    // A write that its client gave up on may still land.
    assert!(hangs(maps.create(&PostParams::default(), &map("late", "1"))).await);
    site.kube.freeze_etcd(false);
    site.kube.until("ConfigMap", "nexus", "late", |late| late.is_some()).await;
}

#[tokio::test]
async fn a_starting_server_says_403_then_500_then_200() {
    let timing = Timing { boot: Duration::from_millis(300), ..Timing::default() };
    let kube = Kube::start("a", loopback(), timing, Ledger::default()).await.unwrap();
    let mut seen = Vec::new();

    while seen.last() != Some(&200) {
        let url = format!("https://{}/livez", kube.address());
        let status = insecure().get(url).send().await.unwrap().status().as_u16();
        if seen.last() != Some(&status) {
            seen.push(status);
        }
    }

    assert_eq!(seen, [403, 500, 200]);
}

#[tokio::test]
async fn volume_then_claim_is_bound_at_once() {
    let site = Site::start().await;
    site.volume(json!({})).await;
    site.claim(json!({})).await;

    site.until_bound().await;

    let volume = site.kube.object("PersistentVolume", "", "pv-a").unwrap();
    assert_eq!(volume["status"]["phase"], "Bound");
    assert_eq!(volume["spec"]["claimRef"]["name"], "pvc-a");
    let claim = site.kube.object("PersistentVolumeClaim", "nexus", "pvc-a").unwrap();
    assert_eq!(claim["metadata"]["annotations"]["pv.kubernetes.io/bind-completed"], "yes");
}

#[tokio::test]
async fn a_claim_that_came_first_sleeps_until_it_is_touched() {
    let site = Site::start().await;
    site.claim(json!({})).await;
    site.volume(json!({})).await;
    site.until_volume("Available").await;
    assert!(hangs(site.until_bound()).await);

    site.nudge().await;

    site.until_bound().await;
}

#[tokio::test]
async fn a_stale_claim_ref_is_released_until_it_is_nulled_and_the_claim_touched() {
    let site = Site::start().await;
    let stale = json!({ "claimRef": { "namespace": "nexus", "name": "pvc-a", "uid": "of-the-other-site" } });
    site.volume(stale).await;
    site.until_volume("Released").await;
    site.claim(json!({})).await;
    let events = site.api::<Event>();
    site.kube.until("Event", "nexus", "pvc-a.failedbinding", |event| event.is_some()).await;
    let told = events.get("pvc-a.failedbinding").await.unwrap();
    assert_eq!(told.message.unwrap(), "volume \"pv-a\" already bound to a different claim.");

    let null = Patch::Merge(json!({ "spec": { "claimRef": null } }));
    site.volumes().patch("pv-a", &PatchParams::default(), &null).await.unwrap();
    site.until_volume("Available").await;

    assert!(hangs(site.until_bound()).await);
    site.nudge().await;
    site.until_bound().await;
}

#[tokio::test]
async fn a_claim_copied_as_bound_is_lost_while_its_volume_is_not_there() {
    let site = Site::start().await;
    let claims = site.api::<PersistentVolumeClaim>();
    let mut claim = claim_body(json!({}));
    claim["metadata"]["annotations"] = json!({ "pv.kubernetes.io/bind-completed": "yes" });
    claims.create(&PostParams::default(), &serde_json::from_value(claim).unwrap()).await.unwrap();

    site.until_claim("Lost").await;

    site.volume(json!({})).await;
    site.until_volume("Available").await;
    site.nudge().await;
    site.until_bound().await;
}

#[tokio::test]
async fn classes_and_sizes_that_do_not_fit_stay_pending_unless_the_volume_is_reserved() {
    // volume, claim, bound
    let table = [
        (json!({ "storageClassName": "x" }), json!({ "storageClassName": "x" }), true),
        (json!({ "storageClassName": "" }), json!({ "storageClassName": "" }), true),
        (json!({ "storageClassName": "x" }), json!({ "storageClassName": "" }), false),
        (
            json!({ "storageClassName": "", "claimRef": { "namespace": "nexus", "name": "pvc-a" } }),
            json!({ "storageClassName": "x" }),
            true,
        ),
        (json!({}), json!({ "resources": { "requests": { "storage": "11Gi" } } }), false),
    ];
    for (volume, claim, bound) in table {
        let site = Site::start().await;
        site.volume(volume.clone()).await;
        site.until_volume("Available").await;

        site.claim(claim.clone()).await;

        if bound {
            site.until_bound().await;
        } else {
            site.kube.until("Event", "nexus", "pvc-a.volumemismatch", |event| event.is_some()).await;
            assert!(hangs(site.until_bound()).await, "{volume} {claim}");
        }
    }
}

#[tokio::test]
async fn a_bound_volume_survives_its_deletion_and_an_apply_keeps_its_claim_ref() {
    let site = Site::start().await;
    site.volume(json!({})).await;
    site.claim(json!({})).await;
    site.until_bound().await;

    let apply = PatchParams::apply("setup").force();
    let again = Patch::Apply(volume_body(json!({})));
    let applied = site.volumes().patch("pv-a", &apply, &again).await.unwrap();
    site.volumes().delete("pv-a", &DeleteParams::default()).await.unwrap();

    assert!(applied.spec.unwrap().claim_ref.is_some());
    let volume = site.kube.object("PersistentVolume", "", "pv-a").unwrap();
    assert!(!volume["metadata"]["deletionTimestamp"].is_null());
    assert_eq!(volume["status"]["phase"], "Bound");
    let immutable = Patch::Merge(json!({ "spec": { "volumeName": "other" } }));
    let claims = site.api::<PersistentVolumeClaim>();
    let refused = claims.patch("pvc-a", &PatchParams::default(), &immutable).await.unwrap_err();
    assert_eq!(reason(&refused).0, 422);
}

#[tokio::test]
async fn a_secret_with_string_data_is_stored_encoded_and_discovery_knows_its_type() {
    let site = Site::start().await;
    let secret = Secret {
        metadata: meta("s"),
        string_data: Some(BTreeMap::from([("password".to_owned(), "x".to_owned())])),
        ..Secret::default()
    };

    let made = site.api::<Secret>().create(&PostParams::default(), &secret).await.unwrap();

    assert_eq!(made.data.unwrap()["password"].0, b"x");
    let discovery = kube::discovery::Discovery::new(site.client.clone()).run().await.unwrap();
    let (resource, _) = discovery.resolve_gvk(&nexus_gvk()).unwrap();
    assert_eq!(resource.plural, "nexuses");
    assert!(site.api::<Pod>().list(&ListParams::default()).await.unwrap().items.is_empty());
}

/// One control plane with the namespace `nexus`, and a client of it.
struct Site {
    kube: Kube,
    client: kube::Client,
    http: reqwest::Client,
    ledger: Ledger,
}

impl Site {
    async fn start() -> Self {
        let ledger = Ledger::default();
        let timing = Timing { bookmark: Duration::from_millis(100), ..Timing::default() };
        let kube = Kube::start("a", loopback(), timing, ledger.clone()).await.unwrap();
        kube.serve_known_custom_resources();
        let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "nexus" } });
        kube.put(&namespace).unwrap();
        let client = client(&kube.kubeconfig()).await;
        Self { kube, client, http: insecure(), ledger }
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), "nexus")
    }

    fn volumes(&self) -> Api<PersistentVolume> {
        Api::all(self.client.clone())
    }

    fn nexuses(&self) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), "nexus", &nexus_type())
    }

    fn http(&self, method: &str, path: &str, token: Option<&str>) -> reqwest::RequestBuilder {
        let url = format!("https://{}{path}", self.kube.address());
        let request = self.http.request(method.parse().unwrap(), url);
        match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    async fn volume(&self, spec: Value) {
        let volume = serde_json::from_value(volume_body(spec)).unwrap();
        self.volumes().create(&PostParams::default(), &volume).await.unwrap();
    }

    async fn claim(&self, spec: Value) {
        let claim = serde_json::from_value(claim_body(spec)).unwrap();
        let claims = self.api::<PersistentVolumeClaim>();
        claims.create(&PostParams::default(), &claim).await.unwrap();
    }

    async fn nudge(&self) {
        let patch = Patch::Merge(json!({ "metadata": { "annotations": { "nudge": "1" } } }));
        let claims = self.api::<PersistentVolumeClaim>();
        claims.patch("pvc-a", &PatchParams::default(), &patch).await.unwrap();
    }

    async fn until_bound(&self) {
        self.until_claim("Bound").await;
    }

    async fn until_claim(&self, phase: &str) {
        let there = |claim: Option<&Value>| claim.is_some_and(|claim| claim["status"]["phase"] == phase);
        self.kube.until("PersistentVolumeClaim", "nexus", "pvc-a", there).await;
    }

    async fn until_volume(&self, phase: &str) {
        let there = |volume: Option<&Value>| volume.is_some_and(|volume| volume["status"]["phase"] == phase);
        self.kube.until("PersistentVolume", "", "pv-a", there).await;
    }
}

async fn client(kubeconfig: &str) -> kube::Client {
    crate::standin::install_crypto();
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig).unwrap();
    let options = KubeConfigOptions::default();
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
    config.default_namespace = "nexus".to_owned();
    kube::Client::try_from(config).unwrap()
}

fn insecure() -> reqwest::Client {
    crate::standin::install_crypto();
    reqwest::Client::builder().tls_danger_accept_invalid_certs(true).pool_max_idle_per_host(0).build().unwrap()
}

fn meta(name: &str) -> kube::core::ObjectMeta {
    kube::core::ObjectMeta { name: Some(name.to_owned()), ..Default::default() }
}

fn map(name: &str, value: &str) -> ConfigMap {
    let data = BTreeMap::from([("k".to_owned(), value.to_owned())]);
    ConfigMap { metadata: meta(name), data: Some(data), ..ConfigMap::default() }
}

fn nexus_gvk() -> GroupVersionKind {
    GroupVersionKind::gvk("operator.alaudadevops.io", "v1alpha1", "Nexus")
}

fn nexus_type() -> ApiResource {
    ApiResource::from_gvk_with_plural(&nexus_gvk(), "nexuses")
}

fn volume_body(spec: Value) -> Value {
    let mut volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": { "name": "pv-a" },
        "spec": {
            "accessModes": ["ReadWriteOnce"], "capacity": { "storage": "10Gi" },
            "persistentVolumeReclaimPolicy": "Retain", "storageClassName": "rook-ceph-block",
            "csi": {
                "driver": "rook-ceph.rbd.csi.ceph.com", "volumeHandle": "0001-pv-a",
                "volumeAttributes": { "imageName": "nexus-data", "pool": "myblock" },
            },
        },
    });
    patch::merge(&mut volume["spec"], &spec);
    volume
}

fn claim_body(spec: Value) -> Value {
    let mut claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": "pvc-a" },
        "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "10Gi" } },
            "storageClassName": "rook-ceph-block", "volumeName": "pv-a",
        },
    });
    patch::merge(&mut claim["spec"], &spec);
    claim
}

fn reason(error: &kube::Error) -> (u16, &str) {
    match error {
        kube::Error::Api(status) => (status.code, status.reason.as_str()),
        other => panic!("{other}"),
    }
}

async fn hangs<T>(waiting: impl Future<Output = T>) -> bool {
    tokio::time::timeout(Duration::from_millis(200), waiting).await.is_err()
}
