//! Is what is there what we want to be there?
//!
//! In: the object of the bundle and the one at B. Out: what differs of what matters, without showing any secret. Pure.
//! Start reading at [`differences`].

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

/// Attributes that say which image of which Ceph a volume is.
const IDENTITY: [&str; 3] = ["clusterID", "pool", "imageName"];

/// How `current` differs from `wanted`; empty = it will do.
pub(crate) fn differences(kind: &str, wanted: &Value, current: &Value) -> Vec<String> {
    let mut found = match kind {
        "PersistentVolume" => of_volumes(wanted, current),
        "PersistentVolumeClaim" => of_claims(wanted, current),
        "Secret" | "ConfigMap" => of_data(wanted, current),
        _ => Vec::new(),
    };
    if !current["metadata"]["deletionTimestamp"].is_null() {
        found.push("it is being deleted".into());
    }
    found
}

fn of_volumes(wanted: &Value, current: &Value) -> Vec<String> {
    let (wanted, current) = (&wanted["spec"], &current["spec"]);
    let mut found = of_sources(wanted, current);
    found.extend(of_texts(wanted, current, &["storageClassName"], ""));
    found.extend(of_texts(wanted, current, &["volumeMode"], "Filesystem"));
    let claim = |spec: &Value| {
        let text = |key: &str| spec["claimRef"][key].as_str().unwrap_or_default().to_owned();
        format!("{}/{}", text("namespace"), text("name"))
    };
    if !current["claimRef"].is_null() && claim(current) != claim(wanted) {
        found.push(format!("it is claimed by {}, not by {}", claim(current), claim(wanted)));
    }
    found
}

/// Where the bytes are. For ceph-csi that is known to the letter; of any other kind every setting counts.
fn of_sources(wanted: &Value, current: &Value) -> Vec<String> {
    let (Some(csi), Some(csi_now)) = (wanted.get("csi"), current.get("csi")) else {
        return of_other_sources(wanted, current);
    };
    let mut found = of_texts(csi, csi_now, &["driver", "volumeHandle", "fsType"], "");
    let attributes = (&csi["volumeAttributes"], &csi_now["volumeAttributes"]);
    found.extend(of_texts(attributes.0, attributes.1, &IDENTITY, ""));
    found
}

/// Settings of a PersistentVolume that are no place.
const NO_PLACE: [&str; 9] = [
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

fn of_other_sources(wanted: &Value, current: &Value) -> Vec<String> {
    let nothing = Map::new();
    let place = |spec: &Value| -> BTreeMap<String, Value> {
        let fields = spec.as_object().unwrap_or(&nothing);
        fields
            .iter()
            .filter(|(key, _)| !NO_PLACE.contains(&key.as_str()))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect()
    };
    let (wanted, current) = (place(wanted), place(current));
    let same = wanted.iter().all(|(key, value)| current.get(key).is_some_and(|now| includes(now, value)));
    if same {
        return Vec::new();
    }
    vec![format!("its source is {}, not {}", json!(current), json!(wanted))]
}

/// Whether `whole` has all of `part`; the server adds defaults.
fn includes(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(key, value)| whole.get(key).is_some_and(|now| includes(now, value)))
        }
        (whole, part) => whole == part,
    }
}

fn of_claims(wanted: &Value, current: &Value) -> Vec<String> {
    let (wanted, current) = (&wanted["spec"], &current["spec"]);
    let mut found = of_texts(wanted, current, &["volumeName", "storageClassName"], "");
    found.extend(of_texts(wanted, current, &["volumeMode"], "Filesystem"));
    found
}

/// Names the keys, never the values.
fn of_data(wanted: &Value, current: &Value) -> Vec<String> {
    let (wanted, current) = (data_of(wanted), data_of(current));
    let differ: Vec<_> = wanted.iter().filter(|(key, value)| current.get(*key) != Some(value)).collect();
    differ.into_iter().map(|(key, _)| format!("key {key} has another value")).collect()
}

/// `stringData` is only another way to write `data`.
fn data_of(object: &Value) -> BTreeMap<String, Value> {
    let fields = |key: &str| object[key].as_object().cloned().unwrap_or_default();
    let mut data: BTreeMap<_, _> = fields("data").into_iter().chain(fields("binaryData")).collect();
    for (key, text) in fields("stringData") {
        data.insert(key, json!(STANDARD.encode(text.as_str().unwrap_or_default())));
    }
    data
}

fn of_texts(wanted: &Value, current: &Value, keys: &[&str], default: &str) -> Vec<String> {
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or(default).to_owned();
    let differ = keys.iter().filter(|key| text(wanted, key) != text(current, key));
    differ.map(|key| format!("{key} is {:?}, not {:?}", text(current, key), text(wanted, key))).collect()
}

#[cfg(test)]
mod tests;
