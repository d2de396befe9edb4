//! The files that settings name, in a directory of their own that is gone afterwards. In a text, `@DIR@` stands for it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::TempDir;

/// The directory.
pub struct World(TempDir);

const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\naGk=\n-----END CERTIFICATE-----\n";
const KEY: &str = "-----BEGIN PRIVATE KEY-----\naGk=\n-----END PRIVATE KEY-----\n";

const SECRET: &str = "\
apiVersion: v1
kind: Secret
metadata: { name: nexus-root-password, namespace: nexus-dr }
type: Opaque
data: { password: aHVudGVyMg== }
";

const CLAIM: &str = "\
apiVersion: v1
kind: PersistentVolumeClaim
metadata: { name: nexus-data, namespace: nexus-dr }
spec: { storageClassName: ceph-rdb, volumeName: pvc-231a9021 }
";

const VOLUME: &str = "\
apiVersion: v1
kind: PersistentVolume
metadata: { name: pvc-231a9021 }
spec:
  storageClassName: ceph-rdb
  csi:
    driver: rook-ceph.rbd.csi.ceph.com
    volumeAttributes: { pool: myblock, imageName: csi-vol-459e6f28-a158-4ae9-b5da-163448c35119 }
";

const NEXUS: &str = "\
apiVersion: operator.alaudadevops.io/v1alpha1
kind: Nexus
metadata: { name: nexus-ddrs, namespace: nexus-dr }
spec: { passwordSecret: nexus-root-password }
";

impl World {
    /// Everything that the example names, and each of it as it should not be beside it.
    pub fn new() -> Self {
        let world = Self(tempfile::tempdir().expect("a temporary directory can be made"));
        world.kubeconfigs();
        world.secrets();
        world.bundles();
        for program in ["look", "power-off-a", "role", "promote"] {
            world.file(&format!("hooks/{program}"), "#!/bin/sh\n", 0o755);
        }
        world.file("hooks/no-program", "", 0o644);
        world.file("not-utf8.pem", "", 0o644);
        std::fs::write(world.path().join("not-utf8.pem"), [0xff, 0xfe]).expect("the directory can be written");
        world
    }

    /// `text` with its `@DIR@`s.
    pub fn place(&self, text: &str) -> String {
        text.replace("@DIR@", &self.path().display().to_string())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn file(&self, name: &str, text: &str, mode: u32) {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().expect("the name has a directory")).expect("it can be made");
        std::fs::write(&path, text).expect("the directory can be written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("the file is ours");
    }

    fn kubeconfigs(&self) {
        for (name, server) in [("primary", "10.1.0.1"), ("standby", "10.2.0.1")] {
            let text = format!(
                "apiVersion: v1\nkind: Config\ncurrent-context: {name}\n\
                 contexts: [{{ name: {name}, context: {{ cluster: {name}, user: understudy }} }}]\n\
                 clusters: [{{ name: {name}, cluster: {{ server: 'https://{server}:6443' }} }}]\n\
                 users: [{{ name: understudy, user: {{ token: hunter2 }} }}]\n"
            );
            self.file(&format!("{name}.kubeconfig"), &text, 0o600);
            self.file(&format!("{name}-no-context.kubeconfig"), &text.replace("current-context", "other"), 0o600);
            self.file(&format!("{name}-for-all.kubeconfig"), &text, 0o644);
        }
    }

    fn secrets(&self) {
        for name in ["on-call", "nexus-password", "witness", "lb-token", "lb-hook", "tsig", "pager"] {
            self.file(&format!("secrets/{name}"), "hunter2\n", 0o600);
        }
        self.file("secrets/for-all", "hunter2\n", 0o644);
        self.file("secrets/empty", "\n", 0o600);
        self.file("tls/ca.crt", CERTIFICATE, 0o644);
        self.file("tls/api.crt", CERTIFICATE, 0o644);
        self.file("tls/api.key", KEY, 0o600);
        self.file("tls/for-all.key", KEY, 0o644);
        self.file("ceph/a.conf", "[global]\n", 0o644);
        self.file("ceph/a.keyring", "[client.watch]\n", 0o600);
        self.file("ceph/b.conf", "[global]\n", 0o644);
    }

    fn bundles(&self) {
        let bundle = |name: &str, files: &[(&str, &str)]| {
            std::fs::create_dir_all(self.path().join(name)).expect("it can be made");
            for (file, text) in files {
                self.file(&format!("{name}/{file}"), text, 0o600);
            }
        };
        let whole = [("secret.yaml", SECRET), ("pvc.yaml", CLAIM), ("pv.yaml", VOLUME)];
        bundle("bundle", &whole);
        bundle("bundle-empty", &[("README.txt", "nothing")]);
        bundle("bundle-no-volume", &whole[..2]);
        bundle("bundle-no-secret", &whole[1..]);
        let other = CLAIM.replace("nexus-dr", "kube-system");
        bundle("bundle-other-namespace", &[whole[0], ("pvc.yaml", &other), whole[2]]);
        bundle("bundle-garbage", &[("pvc.yaml", "kind: [")]);
        bundle(
            "bundle-not-bound",
            &[whole[0], ("pvc.yaml", &CLAIM.replace(", volumeName: pvc-231a9021", "")), whole[2]],
        );
        let other_class = CLAIM.replace("ceph-rdb", "slow");
        bundle("bundle-other-class", &[whole[0], ("pvc.yaml", &other_class), whole[2]]);
        let other_image = VOLUME.replace("csi-vol-459e6f28", "csi-vol-00000000");
        bundle("bundle-other-image", &[whole[0], whole[1], ("pv.yaml", &other_image)]);
        bundle("bundle-twice", &[whole[0], whole[1], whole[2], ("pvc-again.yaml", CLAIM)]);
        let list = format!("apiVersion: v1\nkind: List\nitems:\n- {}", NEXUS.trim_end().replace('\n', "\n  "));
        bundle("bundle-with-nexus", &[whole[0], whole[1], whole[2], ("nexus.yaml", &list)]);
        self.file("nexus.yaml", NEXUS, 0o644);
        self.file("nexus-two.yaml", &format!("{NEXUS}---\n{NEXUS}"), 0o644);
        self.file("nexus-no-kind.yaml", &NEXUS.replace("kind: Nexus\n", ""), 0o644);
        self.file("nexus-other.yaml", &NEXUS.replace("nexus-dr }", "other }"), 0o644);
    }
}
