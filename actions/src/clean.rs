//! Makes of an object exported at A one that B's API server takes.
//!
//! In: a manifest of a bundle, and what is called otherwise at B. Out: the manifest without anything that belongs to the
//! object's life at A: uid, resourceVersion, status, owners, finalizers, bind annotations, the old claim. Pure. Start
//! reading at [`clean`].

use serde_json::{Map, Value, json};
use understudy_config::Restore;

use crate::manifest::Manifest;

/// Annotations of an object's life at A, by their beginning.
const FOREIGN_ANNOTATIONS: &[&str] = &[
    // Would make a claim without its volume `Lost`, and keep the binder away.
    "pv.kubernetes.io/bind-completed",
    "pv.kubernetes.io/bound-by-controller",
    "pv.kubernetes.io/migrated-to",
    "volume.kubernetes.io/selected-node",
    "volume.kubernetes.io/storage-provisioner",
    "volume.beta.kubernetes.io/",
    // A claim that bears the name of A's VolumeReplication is refused to B's.
    "replication.storage.openshift.io/",
    // Repeats the whole object, a Secret's data among it.
    "kubectl.kubernetes.io/last-applied-configuration",
    "volumesnapshot.",
];

/// An object, fit to be applied at B. It keeps name, labels, foreign annotations that mean something, and what it is.
#[must_use]
pub fn clean(manifest: &Manifest) -> Value {
    let mut object = manifest.object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
        if manifest.kind == "Namespace" {
            fields.remove("spec");
        }
        let metadata = clean_metadata(fields.get("metadata"));
        fields.insert("metadata".into(), metadata);
    }
    if manifest.kind == "PersistentVolumeClaim" {
        // Where the content came from once does not exist here, and has been copied long ago.
        remove(&mut object, "/spec", "dataSource");
        remove(&mut object, "/spec", "dataSourceRef");
    }
    object
}

fn clean_metadata(metadata: Option<&Value>) -> Value {
    let mut kept = Map::new();
    for key in ["name", "namespace", "labels", "annotations"] {
        if let Some(value) = metadata.and_then(|m| m.get(key)).filter(|value| !value.is_null()) {
            kept.insert(key.into(), value.clone());
        }
    }
    if let Some(labels) = kept.get_mut("labels").and_then(Value::as_object_mut) {
        // Set by the server itself.
        labels.remove("kubernetes.io/metadata.name");
    }
    if let Some(annotations) = kept.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.retain(|key, _| !FOREIGN_ANNOTATIONS.iter().any(|foreign| key.starts_with(foreign)));
    }
    kept.retain(|_, value| value.as_object().is_none_or(|map| !map.is_empty()));
    Value::Object(kept)
}

/// Why an override can not be applied.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum OverrideError {
    /// The handle is none of ceph-csi's, so that nobody knows where its parts are.
    #[error(
        "PersistentVolume {volume}: cluster_id or pool_id is overridden, but its volumeHandle is not of the form \
         0001-LENGTH-CLUSTERID-POOLID-UUID"
    )]
    Handle {
        /// Which volume.
        volume: String,
    },
    /// The volume has no attributes of ceph-csi.
    #[error("PersistentVolume {volume}: {key} is overridden, but it has no spec.csi.volumeAttributes.{key}")]
    Attribute {
        /// Which volume.
        volume: String,
        /// Which attribute.
        key: &'static str,
    },
}

/// Makes a cleaned volume B's own: kept when its claim goes, reserved for its claim by name, called as B calls things.
///
/// A claimRef without uid reserves the volume for that claim and for no other; it binds as fast as one without
/// (measured on 1.36).
///
/// # Errors
/// [`OverrideError`] where the volume has nothing to override.
pub fn volume_for_b(volume: &mut Value, claim: (&str, &str), restore: &Restore) -> Result<(), OverrideError> {
    let name = volume["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let (namespace, claim) = claim;
    let spec = &mut volume["spec"];
    spec["persistentVolumeReclaimPolicy"] = json!("Retain");
    spec["claimRef"] =
        json!({ "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": namespace, "name": claim });
    if let Some(class) = &restore.storage_class {
        spec["storageClassName"] = json!(class);
    }
    if let Some(cluster) = &restore.cluster_id {
        set_attribute(spec, &name, "clusterID", cluster)?;
    }
    if let Some(pool) = &restore.pool {
        let old = spec.pointer("/csi/volumeAttributes/pool").cloned();
        set_attribute(spec, &name, "pool", pool)?;
        // The journal lies in the same pool, unless it was put elsewhere on purpose.
        let journal = spec.pointer("/csi/volumeAttributes/journalPool").cloned();
        if journal.is_some() && journal == old {
            set_attribute(spec, &name, "journalPool", pool)?;
        }
    }
    if restore.cluster_id.is_some() || restore.pool_id.is_some() {
        let handle = spec.pointer("/csi/volumeHandle").and_then(Value::as_str).unwrap_or_default();
        let handle = handle_for_b(handle, restore.cluster_id.as_deref(), restore.pool_id);
        spec["csi"]["volumeHandle"] = json!(handle.ok_or(OverrideError::Handle { volume: name })?);
    }
    Ok(())
}

fn set_attribute(spec: &mut Value, volume: &str, key: &'static str, value: &str) -> Result<(), OverrideError> {
    let attribute = spec.pointer_mut(&format!("/csi/volumeAttributes/{key}"));
    let attribute = attribute.ok_or_else(|| OverrideError::Attribute { volume: volume.into(), key })?;
    *attribute = json!(value);
    Ok(())
}

/// A volume handle of ceph-csi with another cluster or pool in it.
///
/// `VERSION-LENGTH-CLUSTERID-POOLID-UUID`: version 4 digits, length of the cluster's id 4 and the pool's id 16, all
/// hexadecimal. The UUID names the image and stays.
///
/// # Source
/// ceph-csi, `internal/util/volid.go`.
#[must_use]
pub fn handle_for_b(handle: &str, cluster_id: Option<&str>, pool_id: Option<u64>) -> Option<String> {
    let (version, rest) = split_hex(handle, 4)?;
    let (length, rest) = split_hex(rest, 4)?;
    let length = usize::from_str_radix(length, 16).ok()?;
    let cluster = rest.get(..length)?;
    let rest = rest.get(length..)?.strip_prefix('-')?;
    let (pool, uuid) = split_hex(rest, 16)?;
    if uuid.is_empty() {
        return None;
    }
    let cluster = cluster_id.unwrap_or(cluster);
    let pool = pool_id.map_or_else(|| pool.to_owned(), |id| format!("{id:016x}"));
    Some(format!("{version}-{:04x}-{cluster}-{pool}-{uuid}", cluster.len()))
}

/// `digits` hexadecimal digits and a dash, and what follows them.
fn split_hex(text: &str, digits: usize) -> Option<(&str, &str)> {
    let head = text.get(..digits).filter(|head| head.bytes().all(|b| b.is_ascii_hexdigit()))?;
    Some((head, text.get(digits..)?.strip_prefix('-')?))
}

fn remove(object: &mut Value, parent: &str, key: &str) {
    if let Some(parent) = object.pointer_mut(parent).and_then(Value::as_object_mut) {
        parent.remove(key);
    }
}

#[cfg(test)]
mod tests;
