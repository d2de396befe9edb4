use std::path::PathBuf;

use understudy_config::Span;

use super::*;

#[test]
fn what_belongs_to_the_life_at_a_is_dropped_and_the_rest_kept() {
    let claim = manifest(json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": "data", "namespace": "nexus-dr", "uid": "1", "resourceVersion": "2", "generation": 3,
            "creationTimestamp": "2026-11-01T00:00:00Z", "deletionTimestamp": null, "managedFields": [{}],
            "ownerReferences": [{ "kind": "Nexus" }], "finalizers": ["kubernetes.io/pvc-protection"],
            "labels": { "app": "nexus" },
            "annotations": {
                "pv.kubernetes.io/bind-completed": "yes", "pv.kubernetes.io/bound-by-controller": "yes",
                "replication.storage.openshift.io/volume-replication-name": "data",
                "volume.kubernetes.io/storage-provisioner": "x", "volume.beta.kubernetes.io/storage-provisioner": "x",
                "volume.kubernetes.io/selected-node": "a-1",
                "kubectl.kubernetes.io/last-applied-configuration": "{}", "team": "build"
            }
        },
        "spec": { "volumeName": "pv", "accessModes": ["ReadWriteOnce"], "dataSource": { "name": "x" }, "dataSourceRef": { "name": "x" } },
        "status": { "phase": "Bound" }
    }));

    let cleaned = clean(&claim);

    assert_eq!(
        cleaned,
        json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": { "name": "data", "namespace": "nexus-dr", "labels": { "app": "nexus" }, "annotations": { "team": "build" } },
            "spec": { "volumeName": "pv", "accessModes": ["ReadWriteOnce"] }
        })
    );
}

#[test]
fn a_namespace_keeps_its_labels_but_not_what_the_server_sets() {
    let namespace = manifest(json!({
        "apiVersion": "v1", "kind": "Namespace", "spec": { "finalizers": ["kubernetes"] }, "status": { "phase": "Active" },
        "metadata": { "name": "nexus-dr", "labels": {
            "kubernetes.io/metadata.name": "nexus-dr", "pod-security.kubernetes.io/enforce": "baseline" } }
    }));

    let cleaned = clean(&namespace);

    let kept = json!({ "name": "nexus-dr", "labels": { "pod-security.kubernetes.io/enforce": "baseline" } });
    assert_eq!(cleaned, json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": kept }));
}

#[test]
fn a_secret_keeps_its_data() {
    let data = json!({ "password": "aHVudGVyMg==" });
    let secret = manifest(json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "a", "uid": "1" }, "type": "Opaque", "data": data
    }));

    let cleaned = clean(&secret);

    assert_eq!((&cleaned["data"], &cleaned["type"]), (&data, &json!("Opaque")));
}

#[test]
fn a_volume_is_kept_reserved_by_name_and_called_as_at_b() {
    let mut volume = volume();
    let restore = Restore {
        storage_class: Some("b-block".into()),
        cluster_id: Some("ceph-b".into()),
        pool: Some("bpool".into()),
        pool_id: Some(10),
        ..restore()
    };

    volume_for_b(&mut volume, ("nexus-dr", "data"), &restore).unwrap();

    let spec = &volume["spec"];
    assert_eq!(spec["persistentVolumeReclaimPolicy"], "Retain");
    assert_eq!(spec["storageClassName"], "b-block");
    let reserved =
        json!({ "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": "nexus-dr", "name": "data" });
    assert_eq!(spec["claimRef"], reserved);
    assert_eq!(spec["csi"]["volumeHandle"], "0001-0006-ceph-b-000000000000000a-459e6f28-a158-4ae9-b5da-163448c35119");
    let attributes = &spec["csi"]["volumeAttributes"];
    assert_eq!((&attributes["clusterID"], &attributes["pool"]), (&json!("ceph-b"), &json!("bpool")));
    assert_eq!(attributes["journalPool"], "bpool");
    assert_eq!(attributes["imageName"], "csi-vol-459e6f28-a158-4ae9-b5da-163448c35119");
}

#[test]
fn without_overrides_the_handle_stays_as_it_is() {
    let mut volume = volume();
    let before = volume["spec"]["csi"].clone();

    volume_for_b(&mut volume, ("nexus-dr", "data"), &restore()).unwrap();

    assert_eq!(volume["spec"]["csi"], before);
}

#[test]
fn a_journal_pool_of_its_own_is_left_alone() {
    let mut volume = volume();
    volume["spec"]["csi"]["volumeAttributes"]["journalPool"] = json!("elsewhere");

    volume_for_b(&mut volume, ("n", "c"), &Restore { pool: Some("bpool".into()), ..restore() }).unwrap();

    assert_eq!(volume["spec"]["csi"]["volumeAttributes"]["journalPool"], "elsewhere");
}

#[test]
fn an_override_of_what_the_volume_lacks_is_refused() {
    let mut foreign = volume();
    foreign["spec"]["csi"] = json!({ "driver": "x", "volumeHandle": "vol-1" });

    let handle = volume_for_b(&mut foreign.clone(), ("n", "c"), &Restore { pool_id: Some(1), ..restore() });
    let attribute = volume_for_b(&mut foreign, ("n", "c"), &Restore { pool: Some("p".into()), ..restore() });

    assert_eq!(handle, Err(OverrideError::Handle { volume: "pv-1".into() }));
    assert_eq!(attribute, Err(OverrideError::Attribute { volume: "pv-1".into(), key: "pool" }));
}

#[test]
fn a_handle_is_taken_apart_by_its_lengths_not_by_its_dashes() {
    let handle = "0001-0009-rook-ceph-0000000000000002-pv-a";

    assert_eq!(handle_for_b(handle, None, None).as_deref(), Some(handle));
    assert_eq!(
        handle_for_b(handle, Some("a-longer-name-16"), Some(0x1f)).as_deref(),
        Some("0001-0010-a-longer-name-16-000000000000001f-pv-a")
    );
}

#[test]
fn what_is_no_handle_of_ceph_csi_is_none() {
    for broken in [
        "",
        "vol-1",
        "0001-0009-rook-ceph-0000000000000002-",
        "0001-0009-rook-ceph-00000000000002-pv-a",
        "0001-00ff-rook-ceph-0000000000000002-pv-a",
        "0001-zzzz-rook-ceph-0000000000000002-pv-a",
        "0001-0009-röök-ceph-0000000000000002-pv-a",
    ] {
        assert_eq!(handle_for_b(broken, Some("b"), Some(1)), None, "{broken}");
    }
}

fn manifest(object: Value) -> Manifest {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap().to_owned();
    Manifest {
        api_version: text("/apiVersion"),
        kind: text("/kind"),
        name: text("/metadata/name"),
        object: object.clone(),
    }
}

fn volume() -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": { "name": "pv-1" },
        "spec": {
            "persistentVolumeReclaimPolicy": "Delete", "storageClassName": "a-block",
            "claimRef": { "kind": "PersistentVolumeClaim", "namespace": "nexus-dr", "name": "data", "uid": "u-a", "resourceVersion": "7" },
            "csi": {
                "driver": "rook-ceph.rbd.csi.ceph.com",
                "volumeHandle": "0001-0009-rook-ceph-0000000000000002-459e6f28-a158-4ae9-b5da-163448c35119",
                "volumeAttributes": {
                    "clusterID": "rook-ceph", "pool": "myblock", "journalPool": "myblock",
                    "imageName": "csi-vol-459e6f28-a158-4ae9-b5da-163448c35119"
                }
            }
        }
    })
}

fn restore() -> Restore {
    Restore {
        bundle: PathBuf::new(),
        storage_class: None,
        cluster_id: None,
        pool: None,
        pool_id: None,
        bound_within: Span::secs(60),
    }
}
