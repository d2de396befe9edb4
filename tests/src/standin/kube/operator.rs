//! The operator of Nexus, the controllers of its workload, and the kubelet that runs it.
//!
//! In: Nexus custom resources, and the state of the site's Ceph. Out: a StatefulSet, a pod, a
//! VolumeAttachment and conditions, and a real (stand-in) Nexus on the image that the bound volume
//! names, if that image can be mounted. What is deleted while the custom resource exists comes back;
//! when the custom resource goes, everything goes. Start at [`Operator::run`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::change::{self, Manner, PatchKind};
use super::resource::Target;
use super::store::{Key, Store, now};
use super::{Kube, Server};
use crate::standin::ceph::{Ceph, Signal};
use crate::standin::nexus::Nexus;
use crate::standin::side::Side;

const MANAGER: &str = "nexus-operator";
/// The label that ties a workload to its custom resource.
const INSTANCE: &str = "app.kubernetes.io/instance";
/// How long a pod may take to end before it is killed; 30 s in a real cluster.
const GRACE: Duration = Duration::from_millis(1000);

/// Where the process of one pod stands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    Starting,
    Running,
    Stopping { since: Instant },
}

/// The process of one pod and the image it has mounted.
#[derive(Debug, Clone)]
struct Process {
    instance: String,
    image: String,
    phase: Phase,
}

#[derive(Default)]
struct State {
    /// By the pod's namespace and name.
    processes: BTreeMap<Key, Process>,
    /// Instances whose process does not come up again.
    held_down: BTreeSet<String>,
    mirror_replicas: Option<u64>,
    mirror_term: Option<Instant>,
}

/// One site's operator and node.
pub struct Operator {
    side: Side,
    server: Arc<Server>,
    ceph: Arc<Ceph>,
    /// By the name of the custom resource.
    instances: BTreeMap<String, Arc<Nexus>>,
    state: Mutex<State>,
}

impl Operator {
    pub fn new(side: Side, kube: &Kube, ceph: Arc<Ceph>, instances: BTreeMap<String, Arc<Nexus>>) -> Self {
        Self { side, server: kube.server.clone(), ceph, instances, state: Mutex::default() }
    }

    /// Looks around for ever.
    pub async fn run(self: Arc<Self>) {
        let mut changes = self.server.lock().changes();
        loop {
            self.server.until_working().await;
            self.turn().await;
            // A change or the next tick, whichever comes first.
            let _ = tokio::time::timeout(self.server.timing.operator, changes.changed()).await;
        }
    }

    /// Keeps an instance's process dead, as one that crashes at every start; or lets it come up again.
    pub fn hold_down(&self, instance: &str, held: bool) {
        let mut state = self.lock();
        if held {
            state.held_down.insert(instance.to_owned());
        } else {
            state.held_down.remove(instance);
        }
    }

    /// The node died: its processes are gone, the objects are not.
    pub fn forget_processes(&self) {
        self.lock().processes.clear();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while held")
    }

    async fn turn(self: &Arc<Self>) {
        {
            let store = &mut self.server.lock();
            self.custom_resources(store);
            self.stateful_sets(store);
            self.deployments(store);
        }
        self.end_processes().await;
        self.start_processes().await;
        self.report().await;
    }

    fn objects(&self, store: &Store, kind: &str) -> Vec<(Key, Value)> {
        let Some(resource) = self.server.resource(kind) else { return Vec::new() };
        store.list(&resource, "").map(|(key, object)| (key.clone(), object.clone())).collect()
    }

    fn apply(&self, store: &mut Store, kind: &str, namespace: &str, name: &str, object: &Value) {
        self.write(store, kind, namespace, name, None, object);
    }

    fn write(
        &self,
        store: &mut Store,
        kind: &str,
        namespace: &str,
        name: &str,
        subresource: Option<&str>,
        object: &Value,
    ) {
        let Some(target) = self.server.target(kind, namespace, name) else { return };
        let target = Target { subresource: subresource.map(str::to_owned), ..target };
        let manner = Manner { force: true, ..Manner::of(MANAGER) };
        let kind = if subresource.is_some() { PatchKind::Merge } else { PatchKind::Apply };
        // A refusal means that the object or its namespace has just gone; the next turn sees that.
        let _ = change::patch(store, &target, kind, object, &manner);
    }

    fn delete(&self, store: &mut Store, kind: &str, key: &Key) {
        let Some(target) = self.server.target(kind, &key.namespace, &key.name) else { return };
        // Gone already is as good.
        let _ = change::delete(store, &target, &Value::Null, &Manner::of(MANAGER));
    }

    /// Each custom resource has its StatefulSet.
    fn custom_resources(&self, store: &mut Store) {
        for (key, resource) in self.objects(store, "Nexus") {
            if !resource["metadata"]["deletionTimestamp"].is_null() {
                continue;
            }
            let name = format!("{}-nxrm-ha", key.name);
            let labels = json!({ INSTANCE: key.name });
            let set = json!({
                "metadata": {
                    "labels": labels,
                    "ownerReferences": [{
                        "apiVersion": resource["apiVersion"], "kind": "Nexus", "name": key.name,
                        "uid": resource["metadata"]["uid"], "controller": true,
                    }],
                },
                "spec": {
                    "serviceName": name, "selector": { "matchLabels": labels },
                    "template": {
                        "metadata": { "labels": labels },
                        "spec": { "containers": [{ "name": "nexus", "image": "sonatype/nexus3:3.71.0" }] },
                    },
                    "volumeClaimTemplates": [{ "metadata": { "name": "nexus-data" } }],
                },
            });
            self.apply(store, "StatefulSet", &key.namespace, &name, &set);
        }
    }

    /// Each StatefulSet whose owner lives has its pods, and no other pod does.
    fn stateful_sets(&self, store: &mut Store) {
        let owners: BTreeSet<String> =
            store.all().filter_map(|(_, object)| object["metadata"]["uid"].as_str().map(str::to_owned)).collect();
        let orphan = |object: &Value| {
            let references = object["metadata"]["ownerReferences"].as_array();
            references
                .is_some_and(|list| list.iter().all(|one| !owners.contains(one["uid"].as_str().unwrap_or_default())))
        };
        for (key, pod) in self.objects(store, "Pod") {
            if orphan(&pod) && pod["metadata"]["deletionTimestamp"].is_null() {
                self.delete(store, "Pod", &key);
            }
        }
        for (key, set) in self.objects(store, "StatefulSet") {
            if orphan(&set) {
                self.delete(store, "StatefulSet", &key);
                continue;
            }
            let replicas = set["spec"]["replicas"].as_u64().unwrap_or(1);
            for (pod_key, pod) in self.objects(store, "Pod") {
                let number = pod_key.name.strip_prefix(&format!("{}-", key.name));
                let number = number.and_then(|number| number.parse::<u64>().ok());
                let same = pod_key.namespace == key.namespace;
                let live = pod["metadata"]["deletionTimestamp"].is_null();
                if same && live && number.is_some_and(|number| number >= replicas) {
                    self.delete(store, "Pod", &pod_key);
                }
            }
            for number in 0..replicas {
                self.pod(store, &key, &set, number);
            }
        }
    }

    fn pod(&self, store: &mut Store, set_key: &Key, set: &Value, number: u64) {
        let name = format!("{}-{number}", set_key.name);
        let claim = format!("nexus-data-{name}");
        let namespace = &set_key.namespace;
        let Some(target) = self.server.target("PersistentVolumeClaim", namespace, &claim) else { return };
        let claim_key = Key::new(&target.resource, namespace, &claim);
        if store.get(&claim_key).is_none() {
            // What a claim template does: without a volume that fits it stays Pending.
            let body = json!({ "spec": {
                "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } },
            }});
            self.apply(store, "PersistentVolumeClaim", namespace, &claim, &body);
        }
        let Some(target) = self.server.target("Pod", namespace, &name) else { return };
        if store.get(&Key::new(&target.resource, namespace, &name)).is_some() {
            return;
        }
        let pod = json!({
            "metadata": {
                "labels": set["metadata"]["labels"],
                "ownerReferences": [{
                    "apiVersion": "apps/v1", "kind": "StatefulSet", "name": set_key.name,
                    "uid": set["metadata"]["uid"], "controller": true,
                }],
            },
            "spec": {
                "nodeName": format!("node-{}", self.side),
                "containers": set["spec"]["template"]["spec"]["containers"],
                "volumes": [{ "name": "nexus-data", "persistentVolumeClaim": { "claimName": claim } }],
            },
        });
        self.apply(store, "Pod", namespace, &name, &pod);
    }

    /// Deployments are ready at once; the one of rbd-mirror also starts and stops the mirror daemon.
    fn deployments(&self, store: &mut Store) {
        for (key, deployment) in self.objects(store, "Deployment") {
            let replicas = deployment["spec"]["replicas"].as_u64().unwrap_or(1);
            let status = json!({ "status": {
                "observedGeneration": deployment["metadata"]["generation"], "replicas": replicas,
                "readyReplicas": replicas, "availableReplicas": replicas, "updatedReplicas": replicas,
            }});
            self.write(store, "Deployment", &key.namespace, &key.name, Some("status"), &status);
            if deployment["metadata"]["labels"]["app"] == "rook-ceph-rbd-mirror" {
                self.mirror_daemon(replicas);
            }
        }
    }

    fn mirror_daemon(&self, replicas: u64) {
        let mut state = self.lock();
        let before = state.mirror_replicas.replace(replicas).unwrap_or(1);
        match (before, replicas) {
            (0, 1..) => {
                state.mirror_term = None;
                self.ceph.start_daemon(self.side);
            }
            (1.., 0) => {
                state.mirror_term = Some(Instant::now());
                self.ceph.signal_daemon(self.side, Signal::Term);
            }
            _ => {}
        }
        if state.mirror_term.is_some_and(|since| since.elapsed() >= GRACE) {
            state.mirror_term = None;
            self.ceph.signal_daemon(self.side, Signal::Kill);
        }
    }

    /// Stops the process of every pod that is to go or is gone.
    async fn end_processes(self: &Arc<Self>) {
        let pods = {
            let store = self.server.lock();
            self.objects(&store, "Pod").into_iter().collect::<BTreeMap<_, _>>()
        };
        let going = |key: &Key| pods.get(key).is_none_or(|pod| !pod["metadata"]["deletionTimestamp"].is_null());
        let processes: Vec<(Key, Process)> =
            self.lock().processes.iter().map(|(key, process)| (key.clone(), process.clone())).collect();
        for (key, process) in processes.into_iter().filter(|(key, _)| going(key)) {
            self.end(&key, &process).await;
        }
        let idle: Vec<Key> = {
            let state = self.lock();
            pods.keys().filter(|key| going(key) && !state.processes.contains_key(key)).cloned().collect()
        };
        for key in idle {
            self.server.lock().remove(&key);
        }
    }

    async fn end(self: &Arc<Self>, key: &Key, process: &Process) {
        let Some(nexus) = self.instances.get(&process.instance).cloned() else { return };
        match process.phase {
            Phase::Starting => {}
            Phase::Running => {
                self.set_phase(key, Phase::Stopping { since: Instant::now() });
                let (operator, key, image) = (self.clone(), key.clone(), process.image.clone());
                tokio::spawn(async move {
                    if nexus.stop().await {
                        operator.ended(&key, &image);
                    }
                });
            }
            // It does not end by itself on a bad disk.
            Phase::Stopping { since } if since.elapsed() >= GRACE => {
                nexus.kill().await;
                self.ended(key, &process.image);
            }
            Phase::Stopping { .. } => {}
        }
    }

    fn ended(&self, key: &Key, image: &str) {
        self.lock().processes.remove(key);
        self.ceph.unmount(self.side, image);
        let mut store = self.server.lock();
        for (attachment, object) in self.objects(&store, "VolumeAttachment") {
            if object["metadata"]["annotations"]["standin/pod"] == json!(key.name) {
                self.delete(&mut store, "VolumeAttachment", &attachment);
            }
        }
    }

    fn set_phase(&self, key: &Key, phase: Phase) {
        if let Some(process) = self.lock().processes.get_mut(key) {
            process.phase = phase;
        }
    }

    /// Starts the process of every pod whose volume is bound and can be mounted.
    async fn start_processes(self: &Arc<Self>) {
        let wanted: Vec<(Key, Value)> = {
            let store = self.server.lock();
            let pods = self.objects(&store, "Pod");
            pods.into_iter().filter(|(_, pod)| pod["metadata"]["deletionTimestamp"].is_null()).collect()
        };
        for (key, pod) in wanted {
            let instance = pod["metadata"]["labels"][INSTANCE].as_str().unwrap_or_default().to_owned();
            let Some(nexus) = self.instances.get(&instance).cloned() else { continue };
            let known = self.lock().processes.get(&key).map(|process| process.phase.clone());
            let died = known == Some(Phase::Running) && !nexus.is_running().await;
            if self.lock().held_down.contains(&instance) || (known.is_some() && !died) {
                continue;
            }
            self.start(key, &pod, instance, nexus);
        }
    }

    fn start(self: &Arc<Self>, key: Key, pod: &Value, instance: String, nexus: Arc<Nexus>) {
        let Some((volume, image)) = self.volume_of(&key, pod) else { return };
        self.attach(&key, &volume);
        let mounted = match self.ceph.mount(self.side, &image) {
            Ok(mounted) => mounted,
            Err(error) => return self.failed_mount(&key, &error.to_string()),
        };
        let process = Process { instance, image: image.clone(), phase: Phase::Starting };
        self.lock().processes.insert(key.clone(), process);
        let operator = self.clone();
        tokio::spawn(async move {
            match nexus.start(mounted).await {
                Ok(()) if operator.lock().processes.contains_key(&key) => {
                    operator.set_phase(&key, Phase::Running);
                }
                // The node died while it started.
                Ok(()) => nexus.kill().await,
                // Not the last try: the next turn starts it again.
                Err(_) => {
                    operator.lock().processes.remove(&key);
                }
            }
        });
    }

    /// The volume that a pod's claim is bound to, and the image behind it.
    fn volume_of(&self, key: &Key, pod: &Value) -> Option<(String, String)> {
        let claim = pod["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"].as_str()?;
        let store = self.server.lock();
        let claims = self.server.resource("PersistentVolumeClaim")?;
        let claim = store.get(&Key::new(&claims, &key.namespace, claim))?;
        if claim["status"]["phase"] != "Bound" {
            return None;
        }
        let name = claim["spec"]["volumeName"].as_str()?;
        let volumes = self.server.resource("PersistentVolume")?;
        let volume = store.get(&Key::new(&volumes, "", name))?;
        let image = volume["spec"]["csi"]["volumeAttributes"]["imageName"].as_str()?;
        Some((name.to_owned(), image.to_owned()))
    }

    fn attach(&self, pod: &Key, volume: &str) {
        let name = format!("csi-{volume}-node-{}", self.side);
        let body = json!({
            "metadata": { "annotations": { "standin/pod": pod.name } },
            "spec": {
                "attacher": "rook-ceph.rbd.csi.ceph.com", "nodeName": format!("node-{}", self.side),
                "source": { "persistentVolumeName": volume },
            },
        });
        let mut store = self.server.lock();
        self.apply(&mut store, "VolumeAttachment", "", &name, &body);
        let status = json!({ "status": { "attached": true } });
        self.write(&mut store, "VolumeAttachment", "", &name, Some("status"), &status);
    }

    fn failed_mount(&self, pod: &Key, why: &str) {
        let name = format!("{}.failedmount", pod.name);
        let event = json!({
            "involvedObject": { "kind": "Pod", "namespace": pod.namespace, "name": pod.name },
            "reason": "FailedMount", "message": format!("MountVolume.MountDevice failed: {why}"),
            "type": "Warning", "count": 1, "lastTimestamp": now(),
        });
        let mut store = self.server.lock();
        let there = self.objects(&store, "Event").iter().any(|(key, _)| key.name == name);
        if !there {
            self.apply(&mut store, "Event", &pod.namespace, &name, &event);
        }
    }

    /// Tells the truth about the processes in the status of pods, sets and custom resources.
    async fn report(&self) {
        let processes: Vec<(Key, Process)> =
            self.lock().processes.iter().map(|(key, process)| (key.clone(), process.clone())).collect();
        let mut ready = BTreeSet::new();
        for (key, process) in processes {
            let nexus = self.instances.get(&process.instance);
            let alive = match nexus {
                Some(nexus) => nexus.is_running().await,
                None => false,
            };
            if process.phase == Phase::Running && alive {
                ready.insert(key);
            }
        }
        let store = &mut self.server.lock();
        for (key, pod) in self.objects(store, "Pod") {
            self.pod_status(store, &key, &pod, ready.contains(&key));
        }
        for (key, set) in self.objects(store, "StatefulSet") {
            let mine = |pod: &Key| pod.namespace == key.namespace && pod.name.starts_with(&format!("{}-", key.name));
            let pods = self.objects(store, "Pod").iter().filter(|(pod, _)| mine(pod)).count();
            let ready = ready.iter().filter(|pod| mine(pod)).count();
            let status = json!({ "status": {
                "observedGeneration": set["metadata"]["generation"], "replicas": pods,
                "readyReplicas": ready, "availableReplicas": ready,
            }});
            self.write(store, "StatefulSet", &key.namespace, &key.name, Some("status"), &status);
        }
        for (key, _) in self.objects(store, "Nexus") {
            let pod = format!("{}-nxrm-ha-0", key.name);
            let running = ready.iter().any(|one| one.namespace == key.namespace && one.name == pod);
            self.conditions(store, &key, running);
        }
    }

    fn pod_status(&self, store: &mut Store, key: &Key, pod: &Value, ready: bool) {
        let word = if ready { "True" } else { "False" };
        if pod["status"]["conditions"][0]["status"] == word {
            return;
        }
        let status = json!({ "status": {
            "phase": if ready { "Running" } else { "Pending" },
            "podIP": if ready { json!("10.0.0.1") } else { Value::Null },
            "conditions": [{ "type": "Ready", "status": word, "lastTransitionTime": now() }],
        }});
        self.write(store, "Pod", &key.namespace, &key.name, Some("status"), &status);
    }

    fn conditions(&self, store: &mut Store, key: &Key, running: bool) {
        let word = if running { "True" } else { "False" };
        let there = store.get(key).is_some_and(|resource| resource["status"]["conditions"][2]["status"] == word);
        if there {
            return;
        }
        let condition = |kind: &str, status: &str, reason: &str| json!({ "type": kind, "status": status, "reason": reason, "lastTransitionTime": now() });
        let conditions = json!([
            condition("Initialized", "True", "Initialized"),
            condition("Deployed", "True", "InstallSuccessful"),
            condition("Running", word, if running { "Ready" } else { "NotReady" }),
        ]);
        let status = json!({ "status": { "conditions": conditions } });
        self.write(store, "Nexus", &key.namespace, &key.name, Some("status"), &status);
    }
}
