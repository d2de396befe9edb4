//! The controller that binds volumes to claims, and sleeps as the real one does.
//!
//! In: changes of PersistentVolumes and PersistentVolumeClaims. Out: their phases, `claimRef`, bind
//! annotations and events. An event of a *claim* is acted on at once; an event of a *volume* only sets
//! that volume's own phase, so a claim that waited for it stays Pending until it is touched or the
//! sync period comes. Measured on 1.36. Start at `run`.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Server;
use super::change::{self, Manner};
use super::store::{Key, Store, now};

/// The field manager of everything done here.
const MANAGER: &str = "kube-controller-manager";
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";

/// Follows the store for ever.
pub(super) async fn run(server: Arc<Server>) {
    let mut changes = server.lock().changes();
    let mut version = 0;
    let mut sync = tokio::time::interval(server.timing.binder);
    sync.reset();
    loop {
        server.until_working().await;
        version = follow(&server, version);
        tokio::select! {
            // The store lives as long as the server.
            _ = changes.changed() => {}
            _ = sync.tick() => {
                server.until_working().await;
                look_at_everything(&server);
            }
        }
    }
}

/// Acts on what changed after `version`; returns the version reached.
fn follow(server: &Server, version: u64) -> u64 {
    let mut store = server.lock();
    let (until, changed): (u64, Vec<Key>) =
        (store.version(), store.since(version).map(|entry| entry.key.clone()).collect());
    let binder = Binder { server };
    for key in changed {
        match key.plural.as_str() {
            "persistentvolumeclaims" => binder.sync_claim(&mut store, &key),
            "persistentvolumes" if store.get(&key).is_none() => binder.volume_gone(&mut store, &key),
            "persistentvolumes" => binder.sync_volume(&mut store, &key),
            "pods" => binder.finish_deletions(&mut store, &key.namespace),
            _ => {}
        }
    }
    until
}

fn look_at_everything(server: &Server) {
    let mut store = server.lock();
    let keys: Vec<Key> = store.all().map(|(key, _)| key.clone()).collect();
    let binder = Binder { server };
    for key in keys.iter().filter(|key| key.plural == "persistentvolumes") {
        binder.sync_volume(&mut store, key);
    }
    for key in keys.iter().filter(|key| key.plural == "persistentvolumeclaims") {
        binder.sync_claim(&mut store, key);
    }
}

struct Binder<'a> {
    server: &'a Server,
}

impl Binder<'_> {
    fn put(&self, store: &mut Store, key: &Key, object: &Value) {
        let kind = object["kind"].as_str().unwrap_or_default();
        let Some(resource) = self.server.resource(kind) else { return };
        let mut object = object.clone();
        super::fields::updated(store.get(key).cloned().as_ref(), &mut object, MANAGER);
        store.put(key, &resource, object);
    }

    /// Claims that were bound to a volume that is gone are lost.
    fn volume_gone(&self, store: &mut Store, volume: &Key) {
        for (key, claim) in claims(store, "") {
            if claim["spec"]["volumeName"] == json!(volume.name) {
                self.sync_claim(store, &key);
            }
        }
    }

    /// Claims that wait for their last pod to go.
    fn finish_deletions(&self, store: &mut Store, namespace: &str) {
        for (key, claim) in claims(store, namespace) {
            if !claim["metadata"]["deletionTimestamp"].is_null() {
                self.sync_claim(store, &key);
            }
        }
    }

    /// Sets a volume's phase from its own `claimRef`.
    fn sync_volume(&self, store: &mut Store, key: &Key) {
        let Some(volume) = store.get(key).cloned() else { return };
        let claim = claim_of(store, &volume);
        let uid = &volume["spec"]["claimRef"]["uid"];
        let phase = match claim {
            _ if uid.as_str().unwrap_or_default().is_empty() => "Available",
            Some(claim) if claim["metadata"]["uid"] == *uid => {
                let bound = claim["spec"]["volumeName"] == volume["metadata"]["name"];
                if bound { "Bound" } else { "Available" }
            }
            _ => "Released",
        };
        let mut volume = volume;
        volume["status"]["phase"] = json!(phase);
        let doomed = !volume["metadata"]["deletionTimestamp"].is_null();
        self.put(store, key, &volume);
        if doomed && phase != "Bound" {
            store.remove(key);
        }
    }

    fn sync_claim(&self, store: &mut Store, key: &Key) {
        let Some(claim) = store.get(key).cloned() else { return };
        if !claim["metadata"]["deletionTimestamp"].is_null() {
            if !used_by_a_pod(store, key) {
                store.remove(key);
                self.release_volume(store, &claim);
            }
            return;
        }
        let volume_key = Key {
            group: String::new(),
            plural: "persistentvolumes".to_owned(),
            namespace: String::new(),
            name: claim["spec"]["volumeName"].as_str().unwrap_or_default().to_owned(),
        };
        let volume =
            if volume_key.name.is_empty() { self.find_volume(store, &claim) } else { store.get(&volume_key).cloned() };
        let completed = claim["metadata"]["annotations"][BIND_COMPLETED] == "yes";
        match volume {
            None if completed => self.lose(store, key, &claim),
            None => self.set_phase(store, key, &claim, "Pending"),
            Some(volume) => match obstacle(&claim, &volume) {
                None => self.bind(store, key, &claim, &volume),
                Some((reason, message)) => {
                    self.event(store, key, reason, &message);
                    let phase = if completed { "Lost" } else { "Pending" };
                    self.set_phase(store, key, &claim, phase);
                }
            },
        }
    }

    fn set_phase(&self, store: &mut Store, key: &Key, claim: &Value, phase: &str) {
        let mut claim = claim.clone();
        claim["status"]["phase"] = json!(phase);
        self.put(store, key, &claim);
    }

    fn lose(&self, store: &mut Store, key: &Key, claim: &Value) {
        let message = "Bound claim has lost its PersistentVolume. Data on the volume is lost!";
        self.event(store, key, "ClaimLost", message);
        self.set_phase(store, key, claim, "Lost");
    }

    /// A claim without a volume name takes any free volume that fits.
    fn find_volume(&self, store: &Store, claim: &Value) -> Option<Value> {
        let volumes = self.server.resource("PersistentVolume")?;
        let mut fitting = store
            .list(&volumes, "")
            .map(|(_, volume)| volume)
            .filter(|volume| volume["status"]["phase"] != "Released" && obstacle(claim, volume).is_none());
        fitting.next().cloned()
    }

    fn bind(&self, store: &mut Store, key: &Key, claim: &Value, volume: &Value) {
        let bound = claim["status"]["phase"] == "Bound"
            && volume["status"]["phase"] == "Bound"
            && volume["spec"]["claimRef"]["uid"] == claim["metadata"]["uid"];
        if bound {
            return;
        }
        let mut volume = volume.clone();
        let reserved = !volume["spec"]["claimRef"].is_null();
        volume["spec"]["claimRef"] = json!({
            "kind": "PersistentVolumeClaim", "apiVersion": "v1",
            "namespace": key.namespace, "name": key.name, "uid": claim["metadata"]["uid"],
            "resourceVersion": claim["metadata"]["resourceVersion"],
        });
        if !reserved {
            volume["metadata"]["annotations"][BOUND_BY_CONTROLLER] = json!("yes");
        }
        volume["status"]["phase"] = json!("Bound");
        let mut claim = claim.clone();
        if claim["spec"]["volumeName"].as_str().unwrap_or_default().is_empty() {
            claim["spec"]["volumeName"] = volume["metadata"]["name"].clone();
            claim["metadata"]["annotations"][BOUND_BY_CONTROLLER] = json!("yes");
        }
        claim["metadata"]["annotations"][BIND_COMPLETED] = json!("yes");
        claim["status"] = json!({
            "phase": "Bound", "accessModes": volume["spec"]["accessModes"],
            "capacity": volume["spec"]["capacity"],
        });
        let volume_key = Key {
            group: String::new(),
            plural: "persistentvolumes".to_owned(),
            namespace: String::new(),
            name: volume["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
        };
        self.put(store, &volume_key, &volume);
        self.put(store, key, &claim);
    }

    fn release_volume(&self, store: &mut Store, claim: &Value) {
        let name = claim["spec"]["volumeName"].as_str().unwrap_or_default();
        let key = Key {
            group: String::new(),
            plural: "persistentvolumes".to_owned(),
            namespace: String::new(),
            name: name.to_owned(),
        };
        self.sync_volume(store, &key);
    }

    /// One event of a kind for each claim and reason; a repeat is not written again.
    fn event(&self, store: &mut Store, key: &Key, reason: &str, message: &str) {
        let Some(target) = self.server.target("Event", &key.namespace, "") else { return };
        let name = format!("{}.{}", key.name, reason.to_lowercase());
        let event = json!({
            "metadata": { "name": name },
            "involvedObject": {
                "kind": "PersistentVolumeClaim", "apiVersion": "v1",
                "namespace": key.namespace, "name": key.name,
            },
            "reason": reason, "message": message, "type": "Warning", "count": 1,
            "firstTimestamp": now(), "lastTimestamp": now(),
            "source": { "component": "persistentvolume-controller" },
        });
        let target = super::resource::Target { name: None, ..target };
        // It is there already: nothing new to say.
        let _ = change::create(store, &target, event, &Manner::of(MANAGER));
    }
}

fn claims(store: &Store, namespace: &str) -> Vec<(Key, Value)> {
    store
        .all()
        .filter(|(key, _)| key.plural == "persistentvolumeclaims")
        .filter(|(key, _)| namespace.is_empty() || key.namespace == namespace)
        .map(|(key, claim)| (key.clone(), claim.clone()))
        .collect()
}

fn claim_of(store: &Store, volume: &Value) -> Option<Value> {
    let reference = &volume["spec"]["claimRef"];
    let key = Key {
        group: String::new(),
        plural: "persistentvolumeclaims".to_owned(),
        namespace: reference["namespace"].as_str()?.to_owned(),
        name: reference["name"].as_str()?.to_owned(),
    };
    store.get(&key).cloned()
}

fn used_by_a_pod(store: &Store, claim: &Key) -> bool {
    store.all().any(|(key, pod)| {
        let volumes = pod["spec"]["volumes"].as_array();
        key.plural == "pods"
            && key.namespace == claim.namespace
            && volumes
                .into_iter()
                .flatten()
                .any(|volume| volume["persistentVolumeClaim"]["claimName"] == json!(claim.name))
    })
}

/// Why this volume can not be bound to this claim: an event's reason and message.
fn obstacle(claim: &Value, volume: &Value) -> Option<(&'static str, String)> {
    let name = volume["metadata"]["name"].as_str().unwrap_or_default();
    let reference = &volume["spec"]["claimRef"];
    let same_name =
        reference["name"] == claim["metadata"]["name"] && reference["namespace"] == claim["metadata"]["namespace"];
    let uid = reference["uid"].as_str().unwrap_or_default();
    if !reference.is_null() {
        let mine = same_name && (uid.is_empty() || claim["metadata"]["uid"] == uid);
        // A claimRef set beforehand skips the check of the class.
        return (!mine).then(|| ("FailedBinding", format!("volume \"{name}\" already bound to a different claim.")));
    }
    let class = |object: &Value| object["spec"]["storageClassName"].as_str().unwrap_or_default().to_owned();
    let mismatch = |why: &str| Some(("VolumeMismatch", format!("Cannot bind to requested volume \"{name}\": {why}")));
    if class(claim) != class(volume) {
        return mismatch("storageClassName does not match");
    }
    let wanted = bytes(&claim["spec"]["resources"]["requests"]["storage"]);
    if wanted > bytes(&volume["spec"]["capacity"]["storage"]) {
        return mismatch("requested PV is too small");
    }
    let modes = volume["spec"]["accessModes"].as_array().cloned().unwrap_or_default();
    let asked = claim["spec"]["accessModes"].as_array().cloned().unwrap_or_default();
    if !asked.iter().all(|mode| modes.contains(mode)) {
        return mismatch("incompatible accessMode");
    }
    None
}

/// A quantity such as `10Gi`; what can not be read is nothing.
fn bytes(quantity: &Value) -> u64 {
    let text = quantity.as_str().unwrap_or_default();
    let digits = text.trim_end_matches(|letter: char| !letter.is_ascii_digit());
    let unit: u64 = match &text[digits.len()..] {
        "" => 1,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        _ => 0,
    };
    digits.parse::<u64>().unwrap_or(0).saturating_mul(unit)
}
