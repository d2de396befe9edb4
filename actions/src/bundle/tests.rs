use understudy_config::Span;

use super::*;

const CLAIM: &str = "
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data, namespace: nexus-dr, uid: u-a}
spec: {volumeName: pv-1, storageClassName: block, accessModes: [ReadWriteOnce], resources: {requests: {storage: 5Gi}}}
status: {phase: Bound}
";

const VOLUME: &str = "
apiVersion: v1
kind: PersistentVolume
metadata: {name: pv-1}
spec:
  storageClassName: block
  persistentVolumeReclaimPolicy: Delete
  claimRef: {namespace: nexus-dr, name: data, uid: u-a}
  csi: {driver: rbd.csi.ceph.com, volumeHandle: h-1}
";

const SECRET: &str = "
apiVersion: v1
kind: Secret
metadata: {name: nexus-root-password}
data: {password: eHh4}
";

#[test]
fn a_bundle_is_namespace_secrets_and_claims_with_their_volumes() {
    let bundle = load(&[("1.yaml", &format!("{CLAIM}---{VOLUME}")), ("2.yaml", SECRET)], Some("nexus-dr")).unwrap();

    let before: Vec<_> = bundle.before.iter().map(|item| format!("{item:?}")).collect();
    assert_eq!(before, ["Namespace nexus-dr", "Secret nexus-root-password"]);
    assert_eq!(bundle.before[1].object["metadata"]["namespace"], "nexus-dr");
    let [Claim { claim, volume }] = &bundle.claims[..] else { panic!("one claim") };
    assert_eq!((claim.name.as_str(), volume.name.as_str()), ("data", "pv-1"));
    assert_eq!(volume.object["spec"]["persistentVolumeReclaimPolicy"], "Retain");
    assert_eq!(volume.object["spec"]["claimRef"].get("uid"), None);
    assert_eq!(claim.object.get("status"), None);
}

#[test]
fn the_namespace_may_come_from_the_bundle() {
    let bundle = load(&[("1.yaml", &format!("{CLAIM}---{VOLUME}"))], None).unwrap();

    assert_eq!(bundle.namespace, "nexus-dr");
}

#[test]
fn an_overridden_class_is_written_into_both() {
    let directory = directory(&[("1.yaml", &format!("{CLAIM}---{VOLUME}"))]);
    let restore = Restore { storage_class: Some("b-block".into()), ..restore(&directory) };

    let bundle = Bundle::load(&restore, None).unwrap();

    assert_eq!(bundle.claims[0].claim.object["spec"]["storageClassName"], "b-block");
    assert_eq!(bundle.claims[0].volume.object["spec"]["storageClassName"], "b-block");
}

#[test]
fn a_class_that_is_left_out_is_written_out_as_empty() {
    let without = |text: &str| text.replace("storageClassName: block, ", "").replace("  storageClassName: block\n", "");

    let bundle = load(&[("1.yaml", &format!("{}---{}", without(CLAIM), without(VOLUME)))], None).unwrap();

    assert_eq!(bundle.claims[0].claim.object["spec"]["storageClassName"], "");
    assert_eq!(bundle.claims[0].volume.object["spec"]["storageClassName"], "");
}

#[test]
fn each_fault_is_refused_with_its_place() {
    let other_namespace = SECRET.replace("name: nexus-root-password", "name: s, namespace: kube-system");
    let pod = "\napiVersion: v1\nkind: Pod\nmetadata: {name: p}\n";
    let second = CLAIM.replace("name: data", "name: data-2");
    let cases: &[(&[&str], &str)] = &[
        (&[], "holds no PersistentVolumeClaim"),
        (&[SECRET], "holds no PersistentVolumeClaim"),
        (&[CLAIM], "PersistentVolumeClaim data needs PersistentVolume pv-1, which is not in the bundle"),
        (&[VOLUME], "PersistentVolume pv-1 is claimed by no PersistentVolumeClaim of the bundle"),
        (&[CLAIM, VOLUME, &second], "PersistentVolume pv-1 is claimed by two PersistentVolumeClaims"),
        (&[CLAIM, VOLUME, VOLUME], "PersistentVolume pv-1 is in the bundle twice"),
        (&[CLAIM, VOLUME, &other_namespace], "Secret s is of namespace kube-system, the pair of nexus-dr"),
        (&[CLAIM, VOLUME, pod], "v1 Pod p does not belong into a bundle"),
        (&[&CLAIM.replace("volumeName: pv-1, ", ""), VOLUME], "PersistentVolumeClaim data has no spec.volumeName"),
        (
            &[CLAIM, &VOLUME.replace("name: data", "name: other")],
            "belonged to claim nexus-dr/other at A, the bundle binds it to nexus-dr/data",
        ),
        (
            &[CLAIM, &VOLUME.replace("block", "slow")],
            "storage class of PersistentVolume pv-1 is \"slow\", of its claim \"block\"",
        ),
    ];
    for (documents, expected) in cases {
        let error = load(&[("1.yaml", &documents.join("---"))], Some("nexus-dr")).unwrap_err().to_string();
        assert!(error.contains(expected), "expected {expected:?}, got {error:?}");
    }
}

#[test]
fn a_namespace_of_another_name_is_refused() {
    let text = format!("{CLAIM}---{VOLUME}---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: other}}\n");

    let error = load(&[("1.yaml", &text)], Some("nexus-dr")).unwrap_err();

    assert!(matches!(error, BundleError::Namespace { found, .. } if found == "other"));
}

#[test]
fn a_missing_directory_is_named() {
    let restore = Restore { bundle: "/nowhere/bundle".into(), ..restore(&tempfile::tempdir().unwrap()) };

    let error = Bundle::load(&restore, None).unwrap_err();

    assert_eq!(error.to_string(), "failed to read bundle /nowhere/bundle");
}

#[test]
fn a_directory_of_countless_files_is_no_bundle() {
    let directory = directory(&[]);
    for n in 0..=MOST_FILES {
        std::fs::write(directory.path().join(format!("{n}.yaml")), "").unwrap();
    }

    assert!(matches!(Bundle::load(&restore(&directory), None), Err(BundleError::TooManyFiles(_))));
}

fn load(files: &[(&str, &str)], namespace: Option<&str>) -> Result<Bundle, BundleError> {
    Bundle::load(&restore(&directory(files)), namespace)
}

fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

fn restore(directory: &tempfile::TempDir) -> Restore {
    Restore {
        bundle: directory.path().into(),
        storage_class: None,
        cluster_id: None,
        pool: None,
        pool_id: None,
        bound_within: Span::secs(60),
    }
}
