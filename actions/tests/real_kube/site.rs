//! A namespace at two real API servers, with a bundle of its own, and an operator of a few lines.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, PersistentVolume, PersistentVolumeClaim, ServiceAccount};
use k8s_openapi::api::storage::v1::VolumeAttachment;
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams};
use kube::config::{AuthInfo, Kubeconfig};
use kube::{Api, Client};
use serde_json::{Value, json};
use understudy_actions::{Context, Gatekeeper, Later, Permit, StepError, run};
use understudy_config::{Cluster, Pair};
use understudy_core::{Failure, Finding, Step, StepResult};

use crate::support::{context, order, until};

/// Nothing here takes longer on a machine of two cores that others use too.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Bench {
    /// A's and B's API servers, with all rights.
    pub a: Client,
    pub b: Client,
    pub name: String,
    directory: Arc<tempfile::TempDir>,
    pair: Arc<Pair>,
}

/// A gate that opens always.
struct Open;

impl Gatekeeper for Open {
    fn permit(&self) -> Later<'_, Result<Permit, StepError>> {
        Box::pin(async { Ok(Permit::until(tokio::time::Instant::now() + Duration::from_secs(30))) })
    }

    fn note<'a>(&'a self, _: &'a str, _: String) -> Later<'a, Result<(), StepError>> {
        Box::pin(async { Ok(()) })
    }

    fn progress(&self, text: String) {
        println!("  … {text}");
    }
}

async fn client(variable: &str) -> Client {
    let path = std::env::var(variable).unwrap_or_else(|_| panic!("{variable} names no kubeconfig"));
    let patience = understudy_actions::kube_client::Patience::default();
    understudy_actions::kube_client::client(&Cluster::Kubeconfig(path.into()), patience).await.unwrap()
}

impl Bench {
    pub async fn new(purpose: &str) -> Self {
        let name = format!("{purpose}-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("bundle")).unwrap();
        std::fs::write(directory.path().join("bundle/all.json"), bundle(&name).to_string()).unwrap();
        std::fs::write(directory.path().join("nexus.json"), nexus(&name).to_string()).unwrap();
        let at = |path: &str| directory.path().join(path).display().to_string();
        let settings = format!(
            "{{ name: nexus, namespace: {name}, probes: [], site_down_when: {{ at_least: 1, of: [service] }}, rpo_max: 15m, \
               storage: {{ hooks: {{ status: {{ command: {{ command: ['true'] }} }}, promote: {{ command: {{ command: ['true'] }} }} }} }}, \
               route: [], verify: {{}}, fence: {{ workload: true }}, \
               restore: {{ bundle: '{}', bound_within: 6s }}, \
               deploy: {{ manifest: '{}', ready_within: 60s }} }}",
            at("bundle"),
            at("nexus.json")
        );
        let pair = Arc::new(serde_saphyr::from_str(&settings).unwrap());
        let a = client("UNDERSTUDY_REAL_KUBECONFIG_A").await;
        let b = client("UNDERSTUDY_REAL_KUBECONFIG_B").await;
        for site in [&a, &b] {
            define_nexus(site).await;
        }
        Self { a, b, name, directory: Arc::new(directory), pair }
    }

    /// The same place, with all rights.
    pub async fn same(other: &Bench) -> Self {
        let a = client("UNDERSTUDY_REAL_KUBECONFIG_A").await;
        let b = client("UNDERSTUDY_REAL_KUBECONFIG_B").await;
        Self { a, b, name: other.name.clone(), directory: other.directory.clone(), pair: other.pair.clone() }
    }

    /// From here on with the rights of the manifests in `deploy/`, and no others.
    pub async fn take_shipped_rights(&mut self) {
        self.make_namespace(&self.b).await;
        let (of_a, of_b) = (
            include_str!("../../../deploy/kubernetes/primary-fence.yaml"),
            include_str!("../../../deploy/kubernetes/understudy.yaml"),
        );
        self.a = self.account(&self.a, "UNDERSTUDY_REAL_KUBECONFIG_A", of_a, &format!("{}-fence", self.name)).await;
        self.b = self.account(&self.b, "UNDERSTUDY_REAL_KUBECONFIG_B", of_b, &self.name).await;
    }

    async fn account(&self, site: &Client, variable: &str, manifests: &str, account: &str) -> Client {
        let text = manifests.replace("understudy", &self.name).replace("nexus-dr", &self.name);
        for object in serde_saphyr::from_multiple::<Value>(&text).unwrap() {
            let kind = object["kind"].as_str().unwrap();
            let namespace = object["metadata"]["namespace"].as_str();
            let is_ours = namespace.is_none_or(|namespace| namespace == self.name);
            if is_ours && ["ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"].contains(&kind)
            {
                let (group, version) = object["apiVersion"].as_str().unwrap().rsplit_once('/').unwrap_or(("", "v1"));
                let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
                let api: Api<DynamicObject> = match namespace {
                    Some(namespace) => Api::namespaced_with(site.clone(), namespace, &resource),
                    None => Api::all_with(site.clone(), &resource),
                };
                put(&api, object["metadata"]["name"].as_str().unwrap(), &object).await;
            }
        }
        let accounts: Api<ServiceAccount> = Api::namespaced(site.clone(), &self.name);
        let token = accounts.create_token_request(account, &Default::default(), &Default::default()).await.unwrap();
        let kubeconfig = Kubeconfig::read_from(std::env::var(variable).unwrap()).unwrap();
        let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.unwrap();
        config.auth_info = AuthInfo { token: Some(token.status.unwrap().token.into()), ..AuthInfo::default() };
        Client::try_from(config).unwrap()
    }

    pub async fn run(&self, step: Step) -> StepResult {
        let order = order(&format!("{}-1-failover", self.name), step);
        run(Context {
            primary: Some(self.a.clone()),
            standby: Some(self.b.clone()),
            state: self.directory.path().into(),
            ..context(order, self.pair.clone(), Arc::new(Open))
        })
        .await
    }

    pub fn rewrite_bundle(&self, from: &str, to: &str) {
        let path = self.directory.path().join("bundle/all.json");
        let text = std::fs::read_to_string(&path).unwrap();
        let claim_only = text.replacen(from, to, 1);
        assert_ne!(text, claim_only);
        std::fs::write(path, claim_only).unwrap();
    }

    pub async fn make_namespace(&self, site: &Client) {
        let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": self.name } });
        put(&Api::<Namespace>::all(site.clone()), &self.name, &object).await;
    }

    fn claims(&self, site: &Client) -> Api<PersistentVolumeClaim> {
        Api::namespaced(site.clone(), &self.name)
    }

    fn nexuses(&self, site: &Client) -> Api<DynamicObject> {
        Api::namespaced_with(site.clone(), &self.name, &nexus_resource())
    }

    pub async fn resource_exists(&self, site: &Client) -> bool {
        self.nexuses(site).get_opt("nexus-ddrs").await.unwrap().is_some()
    }

    pub async fn claim_exists_at_a(&self) -> bool {
        self.claims(&self.a).get_opt("data").await.unwrap().is_some()
    }

    pub async fn delete_claim(&self) {
        self.claims(&self.b).delete("data", &DeleteParams::default()).await.unwrap();
        let gone = async || self.claims(&self.b).get_opt("data").await.unwrap().is_none().then_some(());
        until("the claim is gone", PATIENCE, gone).await;
    }

    pub async fn until_phase(&self, phase: &str) {
        let volumes: Api<PersistentVolume> = Api::all(self.b.clone());
        until(&format!("the volume is {phase}"), PATIENCE, async || {
            let volume = volumes.get(&volume_name(&self.name)).await.unwrap();
            (volume.status?.phase? == phase).then_some(())
        })
        .await;
    }

    pub async fn put_claim_alone(&self) {
        self.make_namespace(&self.b).await;
        let claim = &bundle(&self.name)["items"][2];
        put(&self.claims(&self.b), "data", claim).await;
    }

    /// The volume as it would be if a claim of the same name held it that is gone.
    pub async fn put_volume_of_another_claim(&self) {
        let mut volume = bundle(&self.name)["items"][1].clone();
        volume["spec"]["claimRef"]["uid"] = json!("00000000-0000-0000-0000-000000000000");
        put(&Api::<PersistentVolume>::all(self.b.clone()), &volume_name(&self.name), &volume).await;
    }

    /// Everything at A as it is while A lives: bound, deployed, running, its volume attached.
    pub async fn start_at_a(&self) {
        self.start_at_a_unattached().await;
        let attachments: Api<VolumeAttachment> = Api::all(self.a.clone());
        let name = self.attachment().await;
        let status = json!({ "status": { "attached": true } });
        attachments.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
    }

    pub async fn start_at_a_unattached(&self) {
        self.make_namespace(&self.a).await;
        let objects = bundle(&self.name);
        let mut volume = objects["items"][1].clone();
        volume["spec"].as_object_mut().unwrap().remove("claimRef");
        put(&Api::<PersistentVolume>::all(self.a.clone()), &volume_name(&self.name), &volume).await;
        put(&self.claims(&self.a), "data", &objects["items"][2]).await;
        put(&self.nexuses(&self.a), "nexus-ddrs", &nexus(&self.name)).await;
        self.operate_once(&self.a, true).await;
        self.attachment().await;
    }

    /// The attachment of our volume at A, once the controller has made it.
    async fn attachment(&self) -> String {
        let attachments: Api<VolumeAttachment> = Api::all(self.a.clone());
        let volume = volume_name(&self.name);
        until(&format!("{volume} has an attachment"), PATIENCE, async || {
            let all = attachments.list(&ListParams::default()).await.unwrap();
            let ours = |one: &VolumeAttachment| one.spec.source.persistent_volume_name.as_ref() == Some(&volume);
            all.items.into_iter().find(ours)?.metadata.name
        })
        .await
    }

    /// Runs `step` beside an operator at B.
    pub async fn with_operator(&self, step: impl Future<Output = StepResult>, mounts: bool) -> StepResult {
        let (result, ()) = tokio::join!(step, self.operate_once(&self.b, mounts));
        result
    }

    /// What an operator does once: a StatefulSet for the resource, and conditions once its pod runs.
    pub async fn operate_once(&self, site: &Client, mounts: bool) {
        until("the resource is there", PATIENCE, async || self.resource_exists(site).await.then_some(())).await;
        let resource = self.nexuses(site).get("nexus-ddrs").await.unwrap();
        let sets: Api<k8s_openapi::api::apps::v1::StatefulSet> = Api::namespaced(site.clone(), &self.name);
        let uid = resource.metadata.uid.unwrap();
        put(&sets, "nexus-ddrs-nxrm-ha", &stateful_set(&uid, mounts)).await;
        until("the pod runs", PATIENCE, async || {
            let set = sets.get("nexus-ddrs-nxrm-ha").await.unwrap();
            (set.status?.ready_replicas? == 1).then_some(())
        })
        .await;
        let kinds = ["Initialized", "Deployed", "Running"];
        let conditions: Vec<_> = kinds.iter().map(|kind| json!({ "type": kind, "status": "True" })).collect();
        let status = json!({ "status": { "conditions": conditions } });
        self.nexuses(site).patch_status("nexus-ddrs", &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
    }

    pub async fn clear(&self) {
        for site in [&self.a, &self.b] {
            let _ = Api::<Namespace>::all(site.clone()).delete(&self.name, &DeleteParams::background()).await;
            let volumes = Api::<PersistentVolume>::all(site.clone());
            let _ = volumes.delete(&volume_name(&self.name), &DeleteParams::background()).await;
        }
    }
}

/// A's API server, stopped until this is dropped. `UNDERSTUDY_REAL_APISERVER_A` is its process id.
pub struct Frozen(String);

impl Frozen {
    pub fn server_a() -> Self {
        let pid = std::env::var("UNDERSTUDY_REAL_APISERVER_A").expect("UNDERSTUDY_REAL_APISERVER_A is a process id");
        signal("-STOP", &pid);
        Self(pid)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        signal("-CONT", &self.0);
    }
}

fn signal(signal: &str, pid: &str) {
    let status = std::process::Command::new("kill").args([signal, pid]).status().unwrap();
    assert!(status.success());
}

pub fn detail(result: StepResult) -> String {
    match result {
        StepResult::Done { detail, .. } => detail,
        StepResult::Failed { message, .. } => panic!("failed: {message}"),
    }
}

pub fn finding(result: StepResult) -> Finding {
    match result {
        StepResult::Done { finding, .. } => finding,
        StepResult::Failed { message, .. } => panic!("failed: {message}"),
    }
}

pub fn failure(result: StepResult) -> (Failure, String) {
    match result {
        StepResult::Done { detail, .. } => panic!("done: {detail}"),
        StepResult::Failed { failure, message } => (failure, message),
    }
}

async fn put<K>(api: &Api<K>, name: &str, object: &Value)
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    api.patch(name, &PatchParams::apply("test").force(), &Patch::Apply(object)).await.unwrap();
}

async fn define_nexus(site: &Client) {
    let crd: Value = serde_saphyr::from_str(include_str!("../../../tests/lab/nexus-crd.yaml")).unwrap();
    let kind = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let api: Api<DynamicObject> = Api::all_with(site.clone(), &ApiResource::from_gvk(&kind));
    put(&api, "nexuses.operator.alaudadevops.io", &crd).await;
    let nexuses: Api<DynamicObject> = Api::all_with(site.clone(), &nexus_resource());
    until("the kind is served", PATIENCE, async || nexuses.list(&ListParams::default()).await.ok()).await;
}

fn nexus_resource() -> ApiResource {
    let kind = GroupVersionKind::gvk("operator.alaudadevops.io", "v1alpha1", "Nexus");
    ApiResource::from_gvk_with_plural(&kind, "nexuses")
}

fn volume_name(name: &str) -> String {
    format!("pv-{name}")
}

fn nexus(name: &str) -> Value {
    json!({
        "apiVersion": "operator.alaudadevops.io/v1alpha1", "kind": "Nexus",
        "metadata": { "name": "nexus-ddrs", "namespace": name },
        "spec": { "externalURL": "http://nexus.example.net", "helmValues": { "pvc": { "existingClaim": "data" } } }
    })
}

/// As exported at A, with all that belongs to the objects' life there.
fn bundle(name: &str) -> Value {
    let volume = volume_name(name);
    json!({ "apiVersion": "v1", "kind": "List", "items": [
        { "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": { "password": "eHh4" },
          "metadata": { "name": "nexus-root-password", "namespace": name, "annotations": { "team": "build" } } },
        { "apiVersion": "v1", "kind": "PersistentVolume",
          "metadata": { "name": volume, "annotations": { "pv.kubernetes.io/provisioned-by": "rook-ceph.rbd.csi.ceph.com" } },
          "spec": {
            "accessModes": ["ReadWriteOnce"], "capacity": { "storage": "10Gi" }, "volumeMode": "Filesystem",
            "persistentVolumeReclaimPolicy": "Retain", "storageClassName": "rook-ceph-block",
            "claimRef": { "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": name, "name": "data" },
            "csi": {
              "driver": "rook-ceph.rbd.csi.ceph.com", "fsType": "ext4",
              "volumeHandle": format!("0001-0009-rook-ceph-0000000000000002-{volume}"),
              "volumeAttributes": { "clusterID": "rook-ceph", "pool": "nexus", "imageName": format!("csi-vol-{volume}"), "journalPool": "nexus" },
              "nodeStageSecretRef": { "name": "rook-csi-rbd-node", "namespace": "rook-ceph" }
            } } },
        { "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": "data", "namespace": name },
          "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "5Gi" } },
                    "storageClassName": "rook-ceph-block", "volumeName": volume, "volumeMode": "Filesystem" } },
    ] })
}

fn stateful_set(uid: &str, mounts: bool) -> Value {
    let labels = json!({ "app.kubernetes.io/instance": "nexus-ddrs" });
    let volume = if mounts {
        json!({ "name": "nexus-data", "persistentVolumeClaim": { "claimName": "data" } })
    } else {
        json!({ "name": "nexus-data", "emptyDir": {} })
    };
    let container = json!({ "name": "nexus", "image": "sonatype/nexus3:3.81.1", "volumeMounts": [{ "name": "nexus-data", "mountPath": "/nexus-data" }] });
    json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet",
        "metadata": { "name": "nexus-ddrs-nxrm-ha", "ownerReferences": [{
            "apiVersion": "operator.alaudadevops.io/v1alpha1", "kind": "Nexus", "name": "nexus-ddrs", "uid": uid, "controller": true }] },
        "spec": {
            "replicas": 1, "serviceName": "nexus", "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": { "containers": [container], "volumes": [volume] } }
        }
    })
}
