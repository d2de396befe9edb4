//! An operator stand-in that runs a real Nexus where a real cluster would run a container.
//!
//! In: a site's API server. It turns each `Nexus` resource into a StatefulSet, as the vendor's operator does, and plays
//! attacher and kubelet for the site's only node: it maps and mounts the images of the bound volumes, starts the real
//! Nexus on them, and calls the pod Ready when that Nexus answers. Out: the conditions `Initialized`, `Deployed` and
//! `Running` of the resource. It runs as a process of its own, inside its site's mount namespace, so that it can be
//! killed and frozen with the site. Everything is read from the world at each round; a restart forgets nothing.
//! Start at [`run`].

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::{StreamExt, stream};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::VolumeAttachment;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time;

use super::ceph::POOL;
use super::run::output;

/// Its name as a writer of fields.
const MANAGER: &str = "lab-operator";
/// The world is looked at anew at least this often.
const ROUND: Duration = Duration::from_millis(500);

/// The custom resource, as the vendor names it.
#[must_use]
pub fn nexus_resource() -> ApiResource {
    let kind = GroupVersionKind::gvk("operator.alaudadevops.io", "v1alpha1", "Nexus");
    ApiResource::from_gvk_with_plural(&kind, "nexuses")
}

/// What one site's operator works with.
#[derive(Debug, Clone, clap::Parser)]
pub struct Settings {
    /// The site's API server.
    #[arg(long)]
    pub kubeconfig: PathBuf,
    /// Our own scripts.
    #[arg(long)]
    pub scripts: PathBuf,
    /// The site's directory, in which its mounts lie.
    #[arg(long)]
    pub dir: PathBuf,
    /// The site's `ceph.conf`.
    #[arg(long)]
    pub ceph_conf: PathBuf,
    /// The installed Nexus.
    #[arg(long)]
    pub nexus: PathBuf,
    /// Where Nexus listens.
    #[arg(long)]
    pub host: String,
    /// Where Nexus listens.
    #[arg(long)]
    pub port: u16,
    /// The node whose pods are run.
    #[arg(long)]
    pub node: String,
}

/// Works until it is killed.
///
/// # Errors
/// If the kubeconfig can not be used.
pub async fn run(settings: Settings) -> Result<()> {
    let config = kube::config::Kubeconfig::read_from(&settings.kubeconfig)?;
    let config = kube::Config::from_custom_kubeconfig(config, &kube::config::KubeConfigOptions::default()).await?;
    let client = Client::try_from(config)?;
    let http = reqwest::Client::builder().timeout(Duration::from_secs(2)).build()?;
    let nexuses =
        watcher(Api::<DynamicObject>::all_with(client.clone(), &nexus_resource()), watcher::Config::default());
    let pods = watcher(Api::<Pod>::all(client.clone()), watcher::Config::default());
    let mut changes =
        stream::select(nexuses.default_backoff().map(|_| ()).boxed(), pods.default_backoff().map(|_| ()).boxed());
    let operator = Operator { client, http, settings };
    let mut rounds = time::interval(ROUND);
    rounds.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = changes.next() => {}
            _ = rounds.tick() => {}
        }
        if let Err(error) = operator.round().await {
            eprintln!("lab-operator: {error:#}");
        }
    }
}

struct Operator {
    client: Client,
    http: reqwest::Client,
    settings: Settings,
}

/// A volume of a pod: its claim and the image behind it.
struct Volume {
    claim: String,
    persistent_volume: String,
    image: String,
    /// As a node names what it uses.
    unique_name: String,
}

impl Operator {
    async fn round(&self) -> Result<()> {
        let nexuses = Api::<DynamicObject>::all_with(self.client.clone(), &nexus_resource());
        for nexus in nexuses.list(&ListParams::default()).await?.items {
            // A resource on its way out takes its StatefulSet along, by its owner reference.
            if nexus.metadata.deletion_timestamp.is_none() {
                self.deploy(&nexus).await.with_context(|| format!("deploying {}", nexus.name_any()))?;
            }
        }
        let on_node = ListParams::default().fields(&format!("spec.nodeName={}", self.settings.node));
        let pods = Api::<Pod>::all(self.client.clone()).list(&on_node).await?.items;
        if pods.is_empty() {
            // Also when a pod was deleted without grace: nothing may go on writing.
            self.take_down().await?;
        }
        for pod in pods {
            self.keep(&pod).await.with_context(|| format!("pod {}", pod.name_any()))?;
        }
        Ok(())
    }

    /// The resource's StatefulSet, and the resource's conditions.
    async fn deploy(&self, nexus: &DynamicObject) -> Result<()> {
        let namespace = nexus.namespace().context("a Nexus without namespace")?;
        let sets = Api::<StatefulSet>::namespaced(self.client.clone(), &namespace);
        let wanted = stateful_set(nexus);
        let name = wanted["metadata"]["name"].as_str().context("a StatefulSet without name")?;
        let set = sets.patch(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&wanted)).await?;
        let running = set.status.and_then(|status| status.ready_replicas).unwrap_or(0) > 0;
        let conditions =
            json!([condition("Initialized", true), condition("Deployed", true), condition("Running", running)]);
        if same_states(&nexus.data["status"]["conditions"], &conditions) {
            return Ok(());
        }
        let nexuses = Api::<DynamicObject>::namespaced_with(self.client.clone(), &namespace, &nexus_resource());
        let status = Patch::Merge(json!({ "status": { "conditions": conditions } }));
        nexuses.patch_status(&nexus.name_any(), &PatchParams::default(), &status).await?;
        Ok(())
    }

    /// What attacher and kubelet do for a pod.
    async fn keep(&self, pod: &Pod) -> Result<()> {
        let namespace = pod.namespace().context("a pod without namespace")?;
        let pods = Api::<Pod>::namespaced(self.client.clone(), &namespace);
        if pod.metadata.deletion_timestamp.is_some() {
            self.take_down().await?;
            pods.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await?;
            return Ok(());
        }
        let ready = self.answers().await;
        if !ready {
            self.bring_up(pod, &namespace).await?;
        }
        if is_ready(pod) != ready {
            let status = Patch::Merge(self.pod_status(pod, ready));
            pods.patch_status(&pod.name_any(), &PatchParams::default(), &status).await?;
        }
        Ok(())
    }

    /// Attaches and mounts the pod's volumes and starts Nexus; each only if it is not so already.
    async fn bring_up(&self, pod: &Pod, namespace: &str) -> Result<()> {
        let volumes = self.volumes(pod, namespace).await?;
        for volume in &volumes {
            if !self.attach(volume).await? {
                return Ok(());
            }
        }
        self.tell_used(volumes.iter().map(|volume| volume.unique_name.clone()).collect()).await?;
        for volume in &volumes {
            let mut mount = self.site_lab("mount");
            mount.arg(&self.settings.ceph_conf).arg(POOL).arg(&volume.image);
            output(mount, Duration::from_secs(60)).await?;
        }
        let Some(data) = volumes.iter().find(|volume| volume.claim.starts_with("nexus-data-")) else {
            return Ok(());
        };
        let mut start = self.nexus_lab("start");
        start.arg(&self.settings.nexus).arg(self.data(&data.image)).arg(self.settings.port.to_string());
        start.env("NEXUS_HOST", &self.settings.host).env("NEXUS_WAIT", "0");
        output(start, Duration::from_secs(60)).await?;
        Ok(())
    }

    /// The pod's claims, bound, with the images of their volumes.
    async fn volumes(&self, pod: &Pod, namespace: &str) -> Result<Vec<Volume>> {
        let claims = Api::<PersistentVolumeClaim>::namespaced(self.client.clone(), namespace);
        let persistent = Api::<PersistentVolume>::all(self.client.clone());
        let mut found = Vec::new();
        for source in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
            let Some(claim) = source.persistent_volume_claim.as_ref().map(|source| &source.claim_name) else {
                continue;
            };
            let bound = claims.get(claim).await?.spec.and_then(|spec| spec.volume_name);
            let bound = bound.with_context(|| format!("claim {claim} is not bound"))?;
            let csi = persistent.get(&bound).await?.spec.and_then(|spec| spec.csi);
            let csi = csi.with_context(|| format!("volume {bound} is none of a CSI driver"))?;
            let unique_name = format!("kubernetes.io/csi/{}^{}", csi.driver, csi.volume_handle);
            let attributes = csi.volume_attributes.unwrap_or_default();
            let image =
                attributes.get("imageName").cloned().with_context(|| format!("volume {bound} names no image"))?;
            found.push(Volume { claim: claim.clone(), persistent_volume: bound, image, unique_name });
        }
        Ok(found)
    }

    /// Says "attached" where the cluster asks for it; false while it does not ask yet.
    async fn attach(&self, volume: &Volume) -> Result<bool> {
        let attachments = Api::<VolumeAttachment>::all(self.client.clone());
        let asked = attachments.list(&ListParams::default()).await?.items.into_iter().find(|attachment| {
            attachment.spec.node_name == self.settings.node
                && attachment.spec.source.persistent_volume_name.as_deref() == Some(&volume.persistent_volume)
        });
        let Some(asked) = asked else { return Ok(false) };
        if !asked.status.as_ref().is_some_and(|status| status.attached) {
            let status = Patch::Merge(json!({ "status": { "attached": true } }));
            attachments.patch_status(&asked.name_any(), &PatchParams::default(), &status).await?;
        }
        Ok(true)
    }

    /// Ends Nexus and unmounts everything. Nothing there: nothing happens.
    async fn take_down(&self) -> Result<()> {
        let mounted = std::fs::read_dir(self.settings.dir.join("fs")).into_iter().flatten().flatten();
        for image in mounted.filter_map(|entry| entry.file_name().into_string().ok()) {
            let mut stop = self.nexus_lab("stop");
            stop.arg(self.data(&image)).env("NEXUS_STOP_WAIT", "20");
            output(stop, Duration::from_secs(60)).await?;
        }
        output(self.site_lab("unmount"), Duration::from_secs(60)).await?;
        self.tell_used(Vec::new()).await
    }

    /// What a kubelet tells of its node: while a volume is used there, the cluster does not detach it.
    async fn tell_used(&self, volumes: Vec<String>) -> Result<()> {
        let nodes = Api::<Node>::all(self.client.clone());
        let told = nodes.get(&self.settings.node).await?.status.and_then(|status| status.volumes_in_use);
        if told.unwrap_or_default() != volumes {
            let status = Patch::Merge(json!({ "status": { "volumesInUse": volumes } }));
            nodes.patch_status(&self.settings.node, &PatchParams::default(), &status).await?;
        }
        Ok(())
    }

    async fn answers(&self) -> bool {
        let url = format!("http://{}:{}/service/rest/v1/status", self.settings.host, self.settings.port);
        self.http.get(url).send().await.is_ok_and(|answer| answer.status().is_success())
    }

    fn data(&self, image: &str) -> PathBuf {
        data_directory(&self.settings.dir, image)
    }

    fn site_lab(&self, verb: &str) -> Command {
        let mut command = Command::new(self.settings.scripts.join("site-lab.sh"));
        command.arg(verb).arg(&self.settings.dir);
        command
    }

    fn nexus_lab(&self, verb: &str) -> Command {
        let mut command = Command::new(self.settings.scripts.join("nexus-lab.sh"));
        command.arg(verb).env("NEXUS_RUN", nexus_run(&self.settings.dir));
        command
    }

    fn pod_status(&self, pod: &Pod, ready: bool) -> Value {
        let host = &self.settings.host;
        let image = pod.spec.as_ref().and_then(|spec| spec.containers.first()?.image.clone());
        json!({ "status": {
            "phase": "Running",
            "hostIP": host,
            "podIP": host,
            "podIPs": [{ "ip": host }],
            "startTime": now(),
            "conditions": [
                condition("PodScheduled", true),
                condition("Initialized", true),
                condition("ContainersReady", ready),
                condition("Ready", ready),
            ],
            "containerStatuses": [{
                "name": "nexus",
                "image": image,
                "imageID": "",
                "ready": ready,
                "started": true,
                "restartCount": 0,
                "state": { "running": { "startedAt": now() } },
            }],
        }})
    }
}

/// Where a Nexus keeps its data on a mounted image.
#[must_use]
pub fn data_directory(site: &std::path::Path, image: &str) -> PathBuf {
    site.join("fs").join(image).join("data")
}

/// Where the pid of a site's Nexus is kept.
#[must_use]
pub fn nexus_run(site: &std::path::Path) -> PathBuf {
    site.join("run").join("nexus")
}

/// As the vendor's chart names it: the claim of Nexus `n` is `nexus-data-n-nxrm-ha-0`.
fn stateful_set(nexus: &DynamicObject) -> Value {
    let name = format!("{}-nxrm-ha", nexus.name_any());
    let labels = json!({ "app.kubernetes.io/name": "nxrm-ha", "app.kubernetes.io/instance": nexus.name_any() });
    let values = &nexus.data["spec"]["helmValues"];
    let extra: Vec<&str> = values["extraClaims"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut mounts = vec![json!({ "name": "nexus-data", "mountPath": "/nexus-data" })];
    mounts.extend(extra.iter().map(|claim| json!({ "name": claim, "mountPath": format!("/{claim}") })));
    json!({
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": { "name": name, "namespace": nexus.namespace(), "labels": labels, "ownerReferences": [{
            "apiVersion": "operator.alaudadevops.io/v1alpha1",
            "kind": "Nexus",
            "name": nexus.name_any(),
            "uid": nexus.uid(),
            "controller": true,
        }]},
        "spec": {
            "replicas": 1,
            "serviceName": name,
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": {
                    "containers": [{ "name": "nexus", "image": "sonatype/nexus3:3.71.0", "volumeMounts": mounts }],
                    "volumes": extra.iter().map(|claim| json!({
                        "name": claim, "persistentVolumeClaim": { "claimName": claim },
                    })).collect::<Vec<_>>(),
                },
            },
            "volumeClaimTemplates": [{
                "metadata": { "name": "nexus-data" },
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "storageClassName": values["storageClass"]["name"],
                    "resources": { "requests": { "storage": values["pvc"]["storage"] } },
                },
            }],
        },
    })
}

fn condition(kind: &str, state: bool) -> Value {
    json!({ "type": kind, "status": if state { "True" } else { "False" }, "lastTransitionTime": now() })
}

/// Whether two lists of conditions say the same, whenever they began to.
fn same_states(one: &Value, other: &Value) -> bool {
    let states = |list: &Value| -> Vec<(String, String)> {
        let list = list.as_array().into_iter().flatten();
        list.map(|entry| (entry["type"].to_string(), entry["status"].to_string())).collect()
    };
    states(one) == states(other)
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
