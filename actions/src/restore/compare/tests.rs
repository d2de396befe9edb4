use super::*;

#[test]
fn a_volume_with_the_servers_defaults_and_its_own_claim_will_do() {
    let mut current = volume();
    current["metadata"]["uid"] = json!("u");
    current["spec"]["volumeMode"] = json!("Filesystem");
    current["spec"]["claimRef"]["uid"] = json!("u-claim");
    current["spec"]["csi"]["volumeAttributes"]["storage.kubernetes.io/csiProvisionerIdentity"] = json!("x");
    current["spec"]["persistentVolumeReclaimPolicy"] = json!("Delete");

    assert_eq!(differences("PersistentVolume", &volume(), &current), Vec::<String>::new());
}

#[test]
fn each_thing_that_makes_a_volume_another_volume_is_named() {
    let cases = [
        ("/spec/csi/volumeHandle", "volumeHandle is \"other\", not \"h-1\""),
        ("/spec/csi/driver", "driver is \"other\""),
        ("/spec/csi/volumeAttributes/imageName", "imageName is \"other\", not \"csi-vol-1\""),
        ("/spec/csi/volumeAttributes/pool", "pool is \"other\""),
        ("/spec/csi/volumeAttributes/clusterID", "clusterID is \"other\""),
        ("/spec/storageClassName", "storageClassName is \"other\", not \"block\""),
        ("/spec/volumeMode", "volumeMode is \"other\", not \"Filesystem\""),
        ("/spec/claimRef/name", "it is claimed by nexus-dr/other, not by nexus-dr/data"),
        ("/metadata/deletionTimestamp", "it is being deleted"),
    ];
    for (pointer, expected) in cases {
        let mut current = volume();
        current["spec"]["volumeMode"] = json!("Filesystem");
        current["metadata"]["deletionTimestamp"] = json!(null);
        *current.pointer_mut(pointer).unwrap() = json!("other");
        let found = differences("PersistentVolume", &volume(), &current);
        assert!(found.len() == 1 && found[0].contains(expected), "{pointer}: {found:?}");
    }
}

#[test]
fn a_volume_of_another_kind_of_storage_is_compared_whole() {
    let nfs = |server: &str| json!({ "spec": { "nfs": { "server": server, "path": "/x" }, "capacity": {}, "claimRef": null } });
    let mut with_default = nfs("a");
    with_default["spec"]["nfs"]["readOnly"] = json!(false);

    assert_eq!(differences("PersistentVolume", &nfs("a"), &with_default), Vec::<String>::new());
    assert_eq!(differences("PersistentVolume", &nfs("a"), &nfs("b")).len(), 1);
    assert_eq!(differences("PersistentVolume", &volume(), &nfs("a")).len(), 2);
}

#[test]
fn a_claim_on_another_volume_is_named() {
    let claim = |volume: &str| json!({ "spec": { "volumeName": volume, "storageClassName": "block" } });

    assert_eq!(differences("PersistentVolumeClaim", &claim("pv-1"), &claim("pv-1")), Vec::<String>::new());
    assert_eq!(
        differences("PersistentVolumeClaim", &claim("pv-1"), &claim("pv-2")),
        ["volumeName is \"pv-2\", not \"pv-1\""]
    );
    assert_eq!(
        differences("PersistentVolumeClaim", &claim("pv-1"), &json!({ "spec": {} })),
        ["volumeName is \"\", not \"pv-1\"", "storageClassName is \"\", not \"block\""]
    );
}

#[test]
fn a_secret_is_compared_by_key_and_its_values_are_never_shown() {
    let wanted = json!({ "data": { "password": "aHVudGVyMg==", "user": "YQ==" } });
    let current = json!({ "data": { "password": "c2VjcmV0", "user": "YQ==", "more": "eA==" } });

    let found = differences("Secret", &wanted, &current);

    assert_eq!(found, ["key password has another value"]);
}

#[test]
fn text_and_base64_of_a_secret_are_the_same() {
    let wanted = json!({ "stringData": { "user": "a" } });

    assert_eq!(differences("Secret", &wanted, &json!({ "data": { "user": "YQ==" } })), Vec::<String>::new());
}

#[test]
fn a_namespace_will_do_unless_it_is_going() {
    let going = json!({ "metadata": { "deletionTimestamp": "2026-11-24T00:00:00Z" } });

    assert_eq!(differences("Namespace", &json!({}), &json!({ "metadata": { "labels": {} } })), Vec::<String>::new());
    assert_eq!(differences("Namespace", &json!({}), &going), ["it is being deleted"]);
}

fn volume() -> Value {
    json!({
        "metadata": { "name": "pv-1" },
        "spec": {
            "storageClassName": "block", "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": { "namespace": "nexus-dr", "name": "data" },
            "csi": {
                "driver": "rbd.csi.ceph.com", "volumeHandle": "h-1",
                "volumeAttributes": { "clusterID": "ceph", "pool": "myblock", "imageName": "csi-vol-1" }
            }
        }
    })
}
