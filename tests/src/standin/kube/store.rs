//! What etcd and the watch cache hold: objects, one counter of versions, and what changed lately.
//!
//! In: finished objects. Out: the same with uid, creation time, version and generation, and a log that
//! watches read. Nothing here knows HTTP. Start at [`Store::put`].

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::watch;
use uuid::Uuid;

use super::resource::Resource;

/// How many changes a watch may lag behind. Source: the watch cache's smallest size.
const LOG_LENGTH: usize = 1000;

/// Where one object lies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub group: String,
    pub plural: String,
    pub namespace: String,
    pub name: String,
}

impl Key {
    pub fn new(resource: &Resource, namespace: &str, name: &str) -> Self {
        Self {
            group: resource.group.clone(),
            plural: resource.plural.clone(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// Whether it is of this type and, if one is given, of this namespace.
    pub fn belongs_to(&self, resource: &Resource, namespace: &str) -> bool {
        self.group == resource.group
            && self.plural == resource.plural
            && (namespace.is_empty() || self.namespace == namespace)
    }
}

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Added,
    Modified,
    Deleted,
}

impl Change {
    pub fn word(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// One line of the log.
#[derive(Debug, Clone)]
pub struct Entry {
    pub version: u64,
    pub change: Change,
    pub key: Key,
    pub object: Value,
}

/// All objects of one API server.
pub struct Store {
    objects: BTreeMap<Key, Value>,
    version: u64,
    log: VecDeque<Entry>,
    /// Watches cannot begin before this.
    oldest: u64,
    changed: watch::Sender<u64>,
}

impl Default for Store {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), version: 1, log: VecDeque::new(), oldest: 1, changed: watch::channel(1).0 }
    }
}

impl Store {
    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn oldest(&self) -> u64 {
        self.oldest
    }

    /// Tells of each new version.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub fn get(&self, key: &Key) -> Option<&Value> {
        self.objects.get(key)
    }

    /// The objects of a type, of one namespace or of all.
    pub fn list<'a>(
        &'a self,
        resource: &'a Resource,
        namespace: &'a str,
    ) -> impl Iterator<Item = (&'a Key, &'a Value)> {
        self.objects.iter().filter(move |(key, _)| key.belongs_to(resource, namespace))
    }

    /// Every object, whatever its type.
    pub fn all(&self) -> impl Iterator<Item = (&Key, &Value)> {
        self.objects.iter()
    }

    /// What changed after `version`, oldest first.
    pub fn since(&self, version: u64) -> impl Iterator<Item = &Entry> {
        self.log.iter().filter(move |entry| entry.version > version)
    }

    /// Forgets the log, so that a watch from an old version ends with 410.
    pub fn compact(&mut self) {
        self.log.clear();
        self.oldest = self.version;
    }

    /// Stores an object and returns it as stored. One that is equal to what is there is not written
    /// and keeps its version.
    pub fn put(&mut self, key: &Key, resource: &Resource, mut object: Value) -> Value {
        let old = self.objects.get(key);
        let metadata = &mut object["metadata"];
        let change = match old {
            None => {
                metadata["uid"] = json!(Uuid::new_v4());
                metadata["creationTimestamp"] = json!(now());
                Change::Added
            }
            Some(_) => Change::Modified,
        };
        if resource.generation {
            let counted = old.map(|old| (without_status(old) != without_status(&object), old));
            object["metadata"]["generation"] = match counted {
                None => json!(1),
                Some((raised, old)) => {
                    let generation = old["metadata"]["generation"].as_u64().unwrap_or(1);
                    json!(generation + u64::from(raised))
                }
            };
        }
        if let Some(old) = old {
            object["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
            if *old == object {
                return object;
            }
        }
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.objects.insert(key.clone(), object.clone());
        self.note(change, key.clone(), object.clone());
        object
    }

    /// Removes an object; its last state carries the version of its end.
    pub fn remove(&mut self, key: &Key) -> Option<Value> {
        let mut object = self.objects.remove(key)?;
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.note(Change::Deleted, key.clone(), object.clone());
        Some(object)
    }

    fn note(&mut self, change: Change, key: Key, object: Value) {
        self.log.push_back(Entry { version: self.version, change, key, object });
        if self.log.len() > LOG_LENGTH
            && let Some(lost) = self.log.pop_front()
        {
            self.oldest = lost.version;
        }
        self.changed.send_replace(self.version);
    }
}

/// The time as Kubernetes writes it, in whole seconds.
pub fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn without_status(object: &Value) -> Value {
    let mut rest = object.clone();
    if let Some(rest) = rest.as_object_mut() {
        rest.remove("status");
        rest.remove("metadata");
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_equal_object_keeps_its_version_and_a_new_spec_raises_the_generation() {
        let mut store = Store::default();
        let resource = Resource::custom("g", "v1", "things", "Thing");
        let key = Key::new(&resource, "x", "one");
        let first = store.put(&key, &resource, json!({ "metadata": {}, "spec": { "a": 1 } }));

        let same = store.put(&key, &resource, first.clone());
        let mut status = first.clone();
        status["status"] = json!({ "ready": true });
        let status = store.put(&key, &resource, status);
        let mut spec = status.clone();
        spec["spec"]["a"] = json!(2);
        let spec = store.put(&key, &resource, spec);

        assert_eq!(same, first);
        assert_eq!(status["metadata"]["generation"], 1);
        assert_ne!(status["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
        assert_eq!(spec["metadata"]["generation"], 2);
    }
}
