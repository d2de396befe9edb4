//! What the stand-in of the API server answers, held to a real control plane asked the same questions.

use std::collections::BTreeMap;
use std::time::Duration;

use http::{Method, Request};
use http_body_util::BodyExt;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};
use understudy_tests::lab::alike::Findings;
use understudy_tests::lab::run::until;
use understudy_tests::lab::{Ground, Side};
use understudy_tests::standin;
use understudy_tests::standin::effects::Ledger;
use understudy_tests::standin::install_crypto;

const CORE: &str = "/api/v1/namespaces/alike";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/alike/leases";
const NEXUSES: &str = "/apis/operator.alaudadevops.io/v1alpha1/namespaces/alike/nexuses";
const APPLY: &str = "application/apply-patch+yaml";
const MERGE: &str = "application/merge-patch+json";
const JSON: &str = "application/json";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real control plane: tests/run conformance"]
async fn the_api_server_answers_alike() {
    let both = Both::up().await;

    both.health().await;
    both.what_is_not_there().await;
    both.server_side_apply().await;
    both.leases().await;
    both.custom_resources().await;
    both.volumes_and_claims().await;
    both.preconditions().await;
    both.rights().await;
    both.watches().await;

    both.findings.finish();
}

struct Both {
    ground: Ground,
    real: Server,
    standin: Server,
    _standin: standin::kube::Kube,
    findings: Findings,
}

struct Server {
    admin: kube::Client,
    stranger: kube::Client,
}

#[derive(Debug, Clone)]
struct Answer {
    code: u16,
    body: String,
}

impl Answer {
    /// Who manages which field is the server's own business.
    fn json(&self) -> Option<Value> {
        let mut body: Value = serde_json::from_str(&self.body).ok()?;
        forget_managers(&mut body);
        for item in body.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten() {
            forget_managers(item);
        }
        Some(body)
    }
}

fn forget_managers(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
}

impl Both {
    async fn up() -> Self {
        install_crypto();
        let ground = Ground::new().unwrap();
        ground.control_planes(&[Side::A]).await.unwrap();
        let site = ground.site(Side::A, &ground.ceph());
        site.prepare().await.unwrap();
        let kubeconfig = std::fs::read_to_string(site.kubeconfig()).unwrap();
        let real = Server { admin: client(&kubeconfig).await, stranger: client(&with_token(&kubeconfig)).await };
        let timing = standin::kube::Timing::default();
        let ip = [127, 0, 0, 1].into();
        let kube = standin::kube::Kube::start("alike", ip, timing, Ledger::default()).await.unwrap();
        kube.serve_known_custom_resources();
        let stranger = client(&kube.kubeconfig_of("nobody")).await;
        let standin = Server { admin: client(&kube.kubeconfig()).await, stranger };
        let both = Self { ground, real, standin, _standin: kube, findings: Findings::default() };
        let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "alike" } });
        both.write("namespace", Method::POST, "/api/v1/namespaces", JSON, &namespace).await;
        both.ground.say("a real API server, and one that stands in");
        both
    }

    async fn health(&self) {
        let [real, standin] = self.read("/readyz?verbose").await;
        for answer in [&real, &standin] {
            assert!(answer.body.contains("[+]etcd ok") && answer.body.contains("readyz check passed"), "{answer:?}");
        }
        self.read("/livez").await;
        self.read("/readyz").await;
    }

    async fn what_is_not_there(&self) {
        self.refused(&format!("{CORE}/secrets/none")).await;
        self.refused(&format!("{CORE}/persistentvolumeclaims/none")).await;
        self.refused("/api/v1/persistentvolumes/none").await;
        self.refused("/api/v1/namespaces/none").await;
        self.refused(&format!("{NEXUSES}/none")).await;
        self.refused("/apis/nobody.example.org/v1/things").await;
        self.refused("/apis/nobody.example.org/v1/namespaces/alike/things/none").await;
        let [real, standin] = self.read(&format!("{CORE}/pods")).await;
        self.object("an empty list", &real, &standin);
        let [real, standin] = self.read("/apis/storage.k8s.io/v1/volumeattachments").await;
        self.object("an empty list", &real, &standin);
    }

    async fn server_side_apply(&self) {
        let path = |manager: &str, more: &str| format!("{CORE}/secrets/s?fieldManager={manager}{more}");
        let secret = |value: &str| json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "s" }, "stringData": { "password": value } });
        let one = self.object_of("apply creates", Method::PATCH, &path("one", ""), APPLY, &secret("a")).await;
        let again = self.object_of("apply again", Method::PATCH, &path("one", ""), APPLY, &secret("a")).await;
        let unchanged = |at: usize| one[at]["metadata"]["resourceVersion"] == again[at]["metadata"]["resourceVersion"];
        self.findings.values("apply again changes nothing", &[unchanged(0), unchanged(1)], &[true, true]);
        let config = |value: &str| json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "c" }, "data": { "k": value } });
        let map = |manager: &str, more: &str| format!("{CORE}/configmaps/c?fieldManager={manager}{more}");
        self.object_of("apply a map", Method::PATCH, &map("one", ""), APPLY, &config("a")).await;
        self.refused_write("another manager", Method::PATCH, &map("two", ""), APPLY, &config("b")).await;
        self.object_of("by force", Method::PATCH, &map("two", "&force=true"), APPLY, &config("b")).await;
        self.object_of("dry run", Method::PATCH, &map("two", "&force=true&dryRun=All"), APPLY, &config("z")).await;
        let [real, standin] = self.read(&format!("{CORE}/configmaps/c")).await;
        // A dry run stores nothing.
        self.says(&[real, standin].map(|answer| answer.json().unwrap()), "/data/k", Some(json!("b")));
        let elsewhere = "/api/v1/namespaces/none/configmaps/c?fieldManager=one";
        self.refused_write("no such namespace", Method::PATCH, elsewhere, APPLY, &config("a")).await;
    }

    async fn leases(&self) {
        let lease = |time: &str, seconds: i32| {
            json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": "l" },
                "spec": { "holderIdentity": "me", "leaseDurationSeconds": seconds, "renewTime": time },
            })
        };
        let good = "2026-11-24T07:00:00.000000Z";
        self.code_only(
            "renewTime without microseconds",
            Method::POST,
            LEASES,
            JSON,
            &lease("2026-11-24T07:00:00Z", 30),
        )
        .await;
        self.code_only("a duration of nothing", Method::POST, LEASES, JSON, &lease(good, 0)).await;
        let made = self.object_of("a lease", Method::POST, LEASES, JSON, &lease(good, 30)).await;
        self.refused_write("a lease again", Method::POST, LEASES, JSON, &lease(good, 30)).await;
        let mut renewals = Vec::new();
        for (server, lease) in [&self.real, &self.standin].into_iter().zip(made) {
            let path = format!("{LEASES}/l");
            let renewed = ask(&server.admin, Method::PUT, &path, JSON, Some(&lease)).await;
            let newer =
                ask(&server.admin, Method::PATCH, &path, MERGE, Some(&json!({ "spec": { "leaseTransitions": 1 } })))
                    .await;
            let stale = ask(&server.admin, Method::PUT, &path, JSON, Some(&lease)).await;
            renewals.push([renewed, newer, stale]);
        }
        let [real, standin] = &renewals[..] else { unreachable!("two servers") };
        self.object("a renewal", &real[0], &standin[0]);
        self.object("a newer version", &real[1], &standin[1]);
        self.refusal("a stale renewal", &real[2], &standin[2]);
    }

    async fn custom_resources(&self) {
        let nexus = json!({
            "apiVersion": "operator.alaudadevops.io/v1alpha1", "kind": "Nexus", "metadata": { "name": "n" },
            "spec": { "externalURL": "http://x" }, "status": { "conditions": [] },
        });
        let made = self.object_of("a resource", Method::POST, NEXUSES, JSON, &nexus).await;
        // The status is no part of a POST.
        self.says(&made, "/status", None);
        self.says(&made, "/metadata/generation", Some(json!(1)));
        let status = json!({ "status": { "conditions": [{ "type": "Running", "status": "True" }] } });
        let path = format!("{NEXUSES}/n/status");
        let told = self.object_of("its status", Method::PATCH, &path, MERGE, &status).await;
        self.says(&told, "/metadata/generation", Some(json!(1)));
        let spec = json!({ "spec": { "externalURL": "http://y" } });
        let changed = self.object_of("its spec", Method::PATCH, &format!("{NEXUSES}/n"), MERGE, &spec).await;
        self.says(&changed, "/metadata/generation", Some(json!(2)));
        let [real, standin] = self.read(NEXUSES).await;
        self.object("the list", &real, &standin);
        let [real, standin] = self.read("/apis/operator.alaudadevops.io/v1alpha1").await;
        self.findings.values("discovery: exit", &real.code, &standin.code);
        let gone = self.both(Method::DELETE, &format!("{NEXUSES}/n"), JSON, None).await;
        self.object("its deletion", &gone[0], &gone[1]);
        self.refused(&format!("{NEXUSES}/n")).await;
    }

    async fn volumes_and_claims(&self) {
        let volumes = "/api/v1/persistentvolumes";
        let claims = format!("{CORE}/persistentvolumeclaims");
        self.object_of("a volume", Method::POST, volumes, JSON, &volume("pv-a")).await;
        self.until(&format!("{volumes}/pv-a"), "/status/phase", "Available").await;
        self.object_of("a claim", Method::POST, &claims, JSON, &claim("pvc-a", "pv-a")).await;
        self.until(&format!("{claims}/pvc-a"), "/status/phase", "Bound").await;
        self.until(&format!("{volumes}/pv-a"), "/status/phase", "Bound").await;
        for path in [format!("{volumes}/pv-a"), format!("{claims}/pvc-a")] {
            let [real, standin] = self.read(&path).await;
            self.object(&path, &real, &standin);
        }
        let moved = json!({ "spec": { "volumeName": "pv-z" } });
        self.code_only("another volume", Method::PATCH, &format!("{claims}/pvc-a"), MERGE, &moved).await;
        // A volume copied with the claim of another cluster.
        let mut copied = volume("pv-b");
        copied["spec"]["claimRef"] = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": "alike", "name": "pvc-b",
            "uid": "7f0c3b6e-7d5b-4d8e-9f43-000000000000",
        });
        self.object_of("a claim before its volume", Method::POST, &claims, JSON, &claim("pvc-b", "pv-b")).await;
        self.object_of("a copied volume", Method::POST, volumes, JSON, &copied).await;
        self.until(&format!("{volumes}/pv-b"), "/status/phase", "Released").await;
        let freed = json!({ "spec": { "claimRef": null } });
        self.object_of("its release", Method::PATCH, &format!("{volumes}/pv-b"), MERGE, &freed).await;
        let nudge = json!({ "metadata": { "annotations": { "nudge": "1" } } });
        self.object_of("a nudge", Method::PATCH, &format!("{claims}/pvc-b"), MERGE, &nudge).await;
        self.until(&format!("{claims}/pvc-b"), "/status/phase", "Bound").await;
        let gone = self.both(Method::DELETE, &format!("{volumes}/pv-a"), JSON, None).await;
        self.object("the deletion of a bound volume", &gone[0], &gone[1]);
        for answer in self.read(&format!("{volumes}/pv-a")).await {
            assert!(answer.json().unwrap()["metadata"]["deletionTimestamp"].is_string(), "it stays: {answer:?}");
        }
    }

    async fn preconditions(&self) {
        let other = json!({
            "kind": "DeleteOptions", "apiVersion": "v1",
            "preconditions": { "uid": "7f0c3b6e-7d5b-4d8e-9f43-000000000000" },
        });
        self.refused_write("another uid", Method::DELETE, &format!("{CORE}/configmaps/c"), JSON, &other).await;
        let test = json!([{ "op": "test", "path": "/data/k", "value": "no" }]);
        let path = format!("{CORE}/configmaps/c");
        self.code_only("a failed test", Method::PATCH, &path, "application/json-patch+json", &test).await;
    }

    async fn rights(&self) {
        let real = ask(&self.real.stranger, Method::GET, "/api/v1/namespaces", JSON, None).await;
        let standin = ask(&self.standin.stranger, Method::GET, "/api/v1/namespaces", JSON, None).await;
        self.refusal("a token that nobody gave", &real, &standin);
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": { "resourceAttributes": { "verb": "get", "resource": "secrets", "namespace": "alike" } },
        });
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let told = self.write("a review", Method::POST, path, JSON, &review).await;
        self.says(&told.map(|answer| answer.json().unwrap()), "/status/allowed", Some(json!(true)));
    }

    async fn watches(&self) {
        // The server ends it by itself after two seconds.
        let path = format!("{CORE}/configmaps?watch=true&timeoutSeconds=2&allowWatchBookmarks=true&resourceVersion=");
        let mut seen = Vec::new();
        for server in [&self.real, &self.standin] {
            let list = ask(&server.admin, Method::GET, &format!("{CORE}/configmaps"), JSON, None).await;
            let version = list.json().unwrap()["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
            let map = |name: &str| json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name } });
            ask(&server.admin, Method::POST, &format!("{CORE}/configmaps"), JSON, Some(&map("w"))).await;
            ask(&server.admin, Method::DELETE, &format!("{CORE}/configmaps/w"), JSON, None).await;
            let watched = ask(&server.admin, Method::GET, &format!("{path}{version}"), JSON, None).await;
            let events = watched.body.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            let kinds: Vec<Value> =
                events.map(|event| event["type"].clone()).filter(|kind| kind != "BOOKMARK").collect();
            seen.push((watched.code, kinds));
        }
        self.findings.values("a watch from a version", &seen[0], &seen[1]);
    }

    /// Both must have this value at `pointer`.
    fn says(&self, objects: &[Value; 2], pointer: &str, wanted: Option<Value>) {
        for (who, object) in ["the real part", "the stand-in"].iter().zip(objects) {
            let told = object.pointer(pointer).cloned();
            if told != wanted {
                self.findings.note(format!("{who}: {pointer} is {told:?}, not {wanted:?}: {object}"));
            }
        }
    }

    /// A GET on both, which must end with the same code.
    async fn read(&self, path: &str) -> [Answer; 2] {
        let answers = self.both(Method::GET, path, JSON, None).await;
        self.findings.values(&format!("GET {path}: code"), &answers[0].code, &answers[1].code);
        answers
    }

    /// A GET that is refused, by both in the same words.
    async fn refused(&self, path: &str) {
        let [real, standin] = self.read(path).await;
        self.refusal(&format!("GET {path}"), &real, &standin);
    }

    async fn refused_write(&self, what: &str, method: Method, path: &str, kind: &str, body: &Value) {
        let [real, standin] = self.both(method, path, kind, Some(body)).await;
        assert!(real.code >= 400, "{what}: {real:?}");
        self.refusal(what, &real, &standin);
    }

    /// A write whose refusal nobody reads beyond its code and reason.
    async fn code_only(&self, what: &str, method: Method, path: &str, kind: &str, body: &Value) {
        let [real, standin] = self.both(method, path, kind, Some(body)).await;
        let brief = |answer: &Answer| (answer.code, answer.json().map(|json| json["reason"].clone()));
        self.findings.values(what, &brief(&real), &brief(&standin));
    }

    async fn write(&self, what: &str, method: Method, path: &str, kind: &str, body: &Value) -> [Answer; 2] {
        let answers = self.both(method, path, kind, Some(body)).await;
        assert!(answers[0].code < 300, "{what}: {:?}", answers[0]);
        self.findings.values(&format!("{what}: code"), &answers[0].code, &answers[1].code);
        answers
    }

    async fn object_of(&self, what: &str, method: Method, path: &str, kind: &str, body: &Value) -> [Value; 2] {
        let [real, standin] = self.write(what, method, path, kind, body).await;
        self.object(what, &real, &standin);
        [real, standin].map(|answer| answer.json().unwrap())
    }

    /// Two answers with an object: the stand-in may leave out what nobody reads, and invents nothing.
    fn object(&self, what: &str, real: &Answer, standin: &Answer) {
        self.findings.values(&format!("{what}: code"), &real.code, &standin.code);
        match (real.json(), standin.json()) {
            (Some(real), Some(standin)) => self.findings.no_inventions(what, &real, &standin),
            _ => self.findings.texts(what, &real.body, &standin.body),
        }
    }

    /// Two refusals: the same words, the same shape.
    fn refusal(&self, what: &str, real: &Answer, standin: &Answer) {
        self.findings.values(&format!("{what}: code"), &real.code, &standin.code);
        match (real.json(), standin.json()) {
            (Some(real), Some(standin)) => {
                self.findings.shapes(what, &real, &standin);
                for key in ["status", "reason", "code"] {
                    self.findings.values(&format!("{what}: {key}"), &real[key], &standin[key]);
                }
                let message = |json: &Value| json["message"].as_str().unwrap_or_default().to_owned();
                self.findings.texts(&format!("{what}: message"), &message(&real), &message(&standin));
            }
            _ => self.findings.texts(what, &real.body, &standin.body),
        }
    }

    async fn until(&self, path: &str, pointer: &str, wanted: &str) {
        for server in [&self.real, &self.standin] {
            until(&format!("{path}{pointer} = {wanted}"), Duration::from_secs(40), || async {
                let answer = ask(&server.admin, Method::GET, path, JSON, None).await;
                (answer.json()?.pointer(pointer)? == wanted).then_some(())
            })
            .await
            .unwrap();
        }
    }

    async fn both(&self, method: Method, path: &str, kind: &str, body: Option<&Value>) -> [Answer; 2] {
        let real = ask(&self.real.admin, method.clone(), path, kind, body).await;
        [real, ask(&self.standin.admin, method, path, kind, body).await]
    }
}

async fn ask(client: &kube::Client, method: Method, path: &str, kind: &str, body: Option<&Value>) -> Answer {
    let bytes = body.map(|body| serde_json::to_vec(body).unwrap()).unwrap_or_default();
    let request = Request::builder().method(method).uri(path).header("content-type", kind).header("accept", JSON);
    let answer = client.send(request.body(Body::from(bytes)).unwrap()).await.unwrap();
    let code = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    Answer { code, body: String::from_utf8(body.to_vec()).unwrap() }
}

async fn client(kubeconfig: &str) -> kube::Client {
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig).unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    kube::Client::try_from(config).unwrap()
}

/// The same cluster with a token that nobody gave.
fn with_token(kubeconfig: &str) -> String {
    let begin = kubeconfig.find("{token: ").unwrap();
    let end = begin + kubeconfig[begin..].find('}').unwrap();
    format!("{}{{token: nobody{}", &kubeconfig[..begin], &kubeconfig[end..])
}

fn volume(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": { "name": name },
        "spec": {
            "accessModes": ["ReadWriteOnce"], "capacity": { "storage": "10Gi" },
            "persistentVolumeReclaimPolicy": "Retain", "storageClassName": "rook-ceph-block", "volumeMode": "Filesystem",
            "csi": {
                "driver": "rook-ceph.rbd.csi.ceph.com", "volumeHandle": format!("0001-{name}"),
                "volumeAttributes": BTreeMap::from([("imageName", name), ("pool", "rbd")]),
            },
        },
    })
}

fn claim(name: &str, volume: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": name },
        "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "10Gi" } },
            "storageClassName": "rook-ceph-block", "volumeName": volume, "volumeMode": "Filesystem",
        },
    })
}
