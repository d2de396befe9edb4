//! One real site: its control plane, its mounts, its operator and its Nexus, killed and frozen together.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use super::ceph::{Ceph, POOL};
use super::operator::{data_directory, nexus_run};
use super::run::{output, script, until};
use super::writer::{NexusClient, PASSWORD};
use super::{Hosts, Parts, Side};

/// The namespace of everything, the same at both sites.
pub const NAMESPACE: &str = "nexus-dr";
/// The name of the Nexus, the same at both sites.
pub const NEXUS: &str = "nexus-ddrs";
/// The Secret with its password.
pub const SECRET: &str = "nexus-root-password";
/// The class of its volumes; the class object need not exist.
pub const STORAGE_CLASS: &str = "ceph-rdb";
const SHORT: Duration = Duration::from_secs(60);

/// One real site.
pub struct Site {
    /// Which one.
    pub side: Side,
    parts: Parts,
    lab: PathBuf,
    dir: PathBuf,
    ceph: Ceph,
    address: SocketAddr,
    operator: Mutex<Option<Child>>,
}

/// A volume of the pair: a claim, and the image behind it.
#[derive(Debug, Clone)]
pub struct Volume {
    /// The claim's name.
    pub claim: String,
    /// The image's name.
    pub image: String,
    /// Its size.
    pub megabytes: u32,
}

impl Volume {
    /// The volume that Nexus keeps its data on, named as the vendor's chart wants.
    #[must_use]
    pub fn data() -> Self {
        Self {
            claim: format!("nexus-data-{NEXUS}-nxrm-ha-0"),
            image: "csi-vol-459e6f28-a158-4ae9-b5da-163448c35119".into(),
            megabytes: 1024,
        }
    }
}

pub(super) fn kubernetes_env(command: &mut Command, parts: &Parts, lab: &Path) {
    command.env("KUBE_BIN", &parts.kubernetes).env("LAB_DIR", lab.join("k8s"));
    // The operator stand-in plays the kubelet.
    command.env("LAB_STAGES", "node-initialize node-heartbeat-with-lease");
}

impl Site {
    pub(super) fn new(parts: &Parts, side: Side, hosts: Hosts, lab: &Path, ceph: &Ceph) -> Self {
        let name = format!("site-{}", side.letter());
        Self {
            side,
            parts: parts.clone(),
            lab: lab.into(),
            dir: lab.join(name),
            ceph: ceph.clone(),
            address: free_address(hosts.of(side)),
            operator: Mutex::new(None),
        }
    }

    /// `site-a` or `site-b`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("site-{}", self.side.letter())
    }

    /// An administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.lab.join("k8s").join(self.name()).join("admin.kubeconfig")
    }

    /// A kubeconfig with the rights of a service account.
    ///
    /// # Errors
    /// If there is no such account.
    pub async fn kubeconfig_of(&self, namespace: &str, account: &str) -> Result<String> {
        let mut token = self.kubernetes("sa-kubeconfig");
        token.arg(self.name()).arg(namespace).arg(account);
        output(token, SHORT).await
    }

    /// Where this site's Nexus listens.
    #[must_use]
    pub fn nexus_address(&self) -> SocketAddr {
        self.address
    }

    /// A client of this site's Nexus at its own address.
    ///
    /// # Errors
    /// If no HTTP client can be made.
    pub fn nexus(&self) -> Result<NexusClient> {
        NexusClient::new(&format!("http://{}", self.nexus_address()))
    }

    /// The node, the custom resource's definition, the namespace, the mounts' namespace and the operator.
    ///
    /// # Errors
    /// If one of them can not be made.
    pub async fn prepare(&self) -> Result<()> {
        let mut node = self.kubernetes("node");
        node.arg(self.name()).arg(self.node());
        output(node, Duration::from_secs(120)).await?;
        self.kubectl(&["apply", "-f", &self.parts.scripts.join("nexus-crd.yaml").display().to_string()]).await?;
        self.kubectl(&["create", "namespace", NAMESPACE]).await?;
        self.kubectl(&["wait", "--for=condition=Established", "--timeout=30s", "crd/nexuses.operator.alaudadevops.io"])
            .await?;
        until("the namespace's service account", SHORT, || async {
            self.kubectl(&["-n", NAMESPACE, "get", "serviceaccount", "default"]).await.ok()
        })
        .await?;
        output(self.site_lab("open"), SHORT).await?;
        Ok(())
    }

    /// Starts the operator stand-in, from the program built beside the test.
    ///
    /// # Errors
    /// If it can not be started.
    pub fn start_operator(&self, program: &Path) -> Result<()> {
        let log = std::fs::File::create(self.dir.join("operator.log"))?;
        let mut command = self.site_lab("run");
        command.arg("operator").arg(program);
        command.arg("--kubeconfig").arg(self.kubeconfig());
        command.arg("--scripts").arg(&self.parts.scripts);
        command.arg("--dir").arg(&self.dir);
        command.arg("--ceph-conf").arg(self.ceph.conf(self.side));
        command.arg("--nexus").arg(&self.parts.nexus);
        command.arg("--host").arg(self.address.ip().to_string());
        command.arg("--port").arg(self.address.port().to_string());
        command.arg("--node").arg(self.node());
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        let child = command.spawn().context("the operator does not start")?;
        *self.operator.lock().expect("no panic while held") = Some(child);
        Ok(())
    }

    /// Starts a Nexus without operator, mount and cluster, on a directory where `image` would be mounted.
    ///
    /// # Errors
    /// If it does not answer within its limit.
    pub async fn start_nexus(&self, image: &str) -> Result<()> {
        let data = data_directory(&self.dir, image);
        std::fs::create_dir_all(&data)?;
        let mut start = script(&self.parts, "nexus-lab.sh");
        start.arg("start").arg(&self.parts.nexus).arg(data).arg(self.address.port().to_string());
        start.env("NEXUS_RUN", self.nexus_run()).env("NEXUS_HOST", self.address.ip().to_string());
        output(start, Duration::from_secs(320)).await?;
        Ok(())
    }

    /// Makes the images and their file systems, has them mirrored, and makes the objects as [`Self::restore`] does.
    ///
    /// # Errors
    /// If a command fails.
    pub async fn provision(&self, volumes: &[Volume]) -> Result<()> {
        for volume in volumes {
            self.ceph.create(&volume.image, volume.megabytes).await?;
        }
        for volume in volumes {
            let mut mount = self.site_lab("mount");
            mount.arg(self.ceph.conf(self.side)).arg(POOL).arg(&volume.image).arg("new");
            output(mount, SHORT).await?;
        }
        output(self.site_lab("unmount"), SHORT).await?;
        self.restore(volumes).await
    }

    /// The Secret, and for each volume what a provisioner would have made; waits until every claim is Bound.
    ///
    /// # Errors
    /// If a command fails.
    pub async fn restore(&self, volumes: &[Volume]) -> Result<()> {
        let secret = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": { "name": SECRET, "namespace": NAMESPACE },
            "stringData": { "password": PASSWORD },
        });
        let objects = volumes.iter().flat_map(|volume| [persistent_volume(volume), claim(volume)]);
        let items: Vec<Value> = std::iter::once(secret).chain(objects).collect();
        self.apply(&json!({ "apiVersion": "v1", "kind": "List", "items": items })).await?;
        for volume in volumes {
            let claim = format!("pvc/{}", volume.claim);
            let bound = ["-n", NAMESPACE, "wait", "--for=jsonpath={.status.phase}=Bound", "--timeout=60s", &claim];
            self.kubectl(&bound).await?;
        }
        Ok(())
    }

    /// Orders a Nexus on its data volume, with `extra` mounted beside it, and waits until it runs.
    ///
    /// # Errors
    /// If it does not run within three minutes.
    pub async fn deploy(&self, extra: &[Volume]) -> Result<()> {
        self.apply(&nexus(extra)).await?;
        self.running(Duration::from_secs(180)).await
    }

    /// Waits until the Nexus resource says that it runs.
    ///
    /// # Errors
    /// If it does not within `limit`.
    pub async fn running(&self, limit: Duration) -> Result<()> {
        let seconds = format!("--timeout={}s", limit.as_secs());
        let resource = format!("nexus/{NEXUS}");
        let mut wait = self.kubectl_command(&["-n", NAMESPACE, "wait", "--for=condition=Running", &seconds, &resource]);
        wait.kill_on_drop(true);
        let log = || std::fs::read_to_string(self.dir.join("operator.log")).unwrap_or_default();
        output(wait, limit + SHORT).await.with_context(|| format!("the operator said: {}", log()))?;
        Ok(())
    }

    /// Writes the bundle of the runbook: Secret, PV, PVC and custom resource, each as the API server shows it.
    ///
    /// # Errors
    /// If an object can not be read or written.
    pub async fn export(&self, directory: &Path) -> Result<()> {
        std::fs::create_dir_all(directory)?;
        let save = async |name: String, args: &[&str]| -> Result<()> {
            let text = self.kubectl(&[args, &["-o", "yaml"]].concat()).await?;
            std::fs::write(directory.join(name), text)?;
            Ok(())
        };
        save("secret.yaml".into(), &["-n", NAMESPACE, "get", "secret", SECRET]).await?;
        save("nexus.yaml".into(), &["-n", NAMESPACE, "get", "nexus", NEXUS]).await?;
        let claims = self.kubectl_json(&["-n", NAMESPACE, "get", "pvc"]).await?;
        for claim in claims["items"].as_array().context("no list of claims")? {
            let name = claim["metadata"]["name"].as_str().context("a claim without name")?;
            let volume = claim["spec"]["volumeName"].as_str().context("a claim that is not bound")?;
            save(format!("pvc-{name}.yaml"), &["-n", NAMESPACE, "get", "pvc", name]).await?;
            save(format!("pv-{volume}.yaml"), &["get", "pv", volume]).await?;
        }
        Ok(())
    }

    /// Flushes what Nexus has written to the mounted image, as a snapshot with a synced file system would.
    ///
    /// # Errors
    /// If the file system does not answer.
    pub async fn sync(&self, image: &str) -> Result<()> {
        let mut sync = self.within();
        sync.arg("sync").arg("-f").arg(self.dir.join("fs").join(image));
        output(sync, SHORT).await?;
        Ok(())
    }

    /// A command among this site's mounts, still without its words.
    #[must_use]
    pub fn within(&self) -> Command {
        self.site_lab("enter")
    }

    /// Where an image is mounted, within.
    #[must_use]
    pub fn mounted(&self, image: &str) -> PathBuf {
        self.dir.join("fs").join(image)
    }

    /// SIGKILL to everything at this site: Nexus, operator, mounts, control plane and Ceph.
    ///
    /// # Errors
    /// If something does not die.
    pub async fn kill(&self) -> Result<()> {
        let (nexus, mounts, plane) = (self.nexus_lab("kill"), self.site_lab("kill"), self.kubernetes_site("kill"));
        let (nexus, mounts, plane, ceph) =
            tokio::join!(output(nexus, SHORT), output(mounts, SHORT), output(plane, SHORT), self.ceph.kill(self.side),);
        nexus?;
        mounts?;
        plane?;
        ceph
    }

    /// SIGSTOP to everything at this site: whoever connects waits.
    ///
    /// # Errors
    /// If a signal can not be sent.
    pub async fn freeze(&self) -> Result<()> {
        let (nexus, mounts, plane) =
            (self.nexus_lab("freeze"), self.site_lab("freeze"), self.kubernetes_site("freeze"));
        let (nexus, mounts, plane, ceph) = tokio::join!(
            output(nexus, SHORT),
            output(mounts, SHORT),
            output(plane, SHORT),
            self.ceph.freeze(self.side),
        );
        nexus?;
        mounts?;
        plane?;
        ceph
    }

    /// SIGKILL to Nexus alone. A living operator starts it again.
    ///
    /// # Errors
    /// If it does not die.
    pub async fn kill_nexus(&self) -> Result<()> {
        output(self.nexus_lab("kill"), SHORT).await?;
        Ok(())
    }

    /// Sends a signal to the operator, which is also this site's kubelet, alone.
    ///
    /// # Errors
    /// If it was not started.
    pub fn signal_operator(&self, signal: rustix::process::Signal) -> Result<()> {
        let operator = self.operator.lock().expect("no panic while held");
        let pid = operator.as_ref().and_then(Child::id).and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.and_then(rustix::process::Pid::from_raw).context("no operator runs")?;
        Ok(rustix::process::kill_process(pid, signal)?)
    }

    /// What of this site still runs or is mounted; empty after [`Self::kill`].
    ///
    /// # Errors
    /// If the processes or the loop devices can not be listed.
    pub async fn remains(&self) -> Result<Vec<String>> {
        let mut listing = Command::new("ps");
        listing.args(["-eo", "stat=,args="]);
        let processes = output(listing, SHORT).await?;
        let mut devices = Command::new("losetup");
        devices.args(["--list", "--noheadings", "--output", "NAME,BACK-FILE"]);
        let devices = output(devices, SHORT).await?;
        let places = [
            self.dir.display().to_string(),
            self.ceph.dir().join(self.side.letter()).display().to_string(),
            self.lab.join("k8s").join(self.name()).display().to_string(),
        ];
        let lines = processes.lines().filter(|line| !line.starts_with('Z')).chain(devices.lines());
        Ok(lines.filter(|line| places.iter().any(|place| line.contains(place))).map(String::from).collect())
    }

    /// Runs `kubectl` as an administrator.
    ///
    /// # Errors
    /// If it fails or takes longer than a minute.
    pub async fn kubectl(&self, args: &[&str]) -> Result<String> {
        output(self.kubectl_command(args), SHORT).await
    }

    /// Runs `kubectl ... -o json`.
    ///
    /// # Errors
    /// As [`Self::kubectl`], or if the answer is no JSON.
    pub async fn kubectl_json(&self, args: &[&str]) -> Result<Value> {
        let said = self.kubectl(&[args, &["-o", "json"]].concat()).await?;
        serde_json::from_str(&said).context("kubectl answered no JSON")
    }

    /// Applies one object or a list.
    ///
    /// # Errors
    /// If the API server does not take it.
    pub async fn apply(&self, object: &Value) -> Result<()> {
        let file = tempfile::Builder::new().suffix(".json").tempfile_in(&self.dir)?;
        std::fs::write(file.path(), serde_json::to_vec(object)?)?;
        self.kubectl(&["apply", "-f", &file.path().display().to_string()]).await?;
        Ok(())
    }

    /// Where the pids of this site's Nexus are kept.
    #[must_use]
    pub fn nexus_run(&self) -> PathBuf {
        nexus_run(&self.dir)
    }

    /// Where this site's Nexus keeps its data.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        data_directory(&self.dir, &Volume::data().image)
    }

    fn node(&self) -> String {
        format!("node-{}", self.side.letter())
    }

    fn kubernetes(&self, verb: &str) -> Command {
        let mut command = script(&self.parts, "k8s-lab.sh");
        command.arg(verb);
        kubernetes_env(&mut command, &self.parts, &self.lab);
        command
    }

    fn kubernetes_site(&self, verb: &str) -> Command {
        let mut command = self.kubernetes(verb);
        command.arg(self.name());
        command
    }

    fn kubectl_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.parts.kubernetes.join("kubectl"));
        command.arg("--kubeconfig").arg(self.kubeconfig()).args(args);
        command
    }

    fn site_lab(&self, verb: &str) -> Command {
        let mut command = script(&self.parts, "site-lab.sh");
        command.arg(verb).arg(&self.dir);
        command
    }

    fn nexus_lab(&self, verb: &str) -> Command {
        let mut command = script(&self.parts, "nexus-lab.sh");
        command.arg(verb).arg(self.data()).env("NEXUS_RUN", self.nexus_run());
        command
    }
}

/// The custom resource of the pair's Nexus.
#[must_use]
pub fn nexus(extra: &[Volume]) -> Value {
    json!({
        "apiVersion": "operator.alaudadevops.io/v1alpha1",
        "kind": "Nexus",
        "metadata": { "name": NEXUS, "namespace": NAMESPACE },
        "spec": {
            "externalURL": "http://nexus-ddrs.example.net",
            "helmValues": {
                "pvc": { "storage": "1Gi", "volumeClaimTemplate": { "enabled": true } },
                "storageClass": { "name": STORAGE_CLASS },
                "extraClaims": extra.iter().map(|volume| &volume.claim).collect::<Vec<_>>(),
            },
        },
    })
}

fn persistent_volume(volume: &Volume) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": format!("pvc-{}", volume.image.trim_start_matches("csi-vol-")),
            "annotations": { "pv.kubernetes.io/provisioned-by": "rook-ceph.rbd.csi.ceph.com" },
        },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "capacity": { "storage": format!("{}Mi", volume.megabytes) },
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": STORAGE_CLASS,
            "volumeMode": "Filesystem",
            "csi": {
                "driver": "rook-ceph.rbd.csi.ceph.com",
                "fsType": "ext4",
                "volumeHandle": format!("0001-0009-rook-ceph-0000000000000002-{}", volume.image.trim_start_matches("csi-vol-")),
                "volumeAttributes": {
                    "clusterID": "rook-ceph",
                    "imageFeatures": "layering",
                    "imageFormat": "2",
                    "imageName": volume.image,
                    "journalPool": POOL,
                    "pool": POOL,
                },
            },
        },
    })
}

fn claim(volume: &Volume) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": { "name": volume.claim, "namespace": NAMESPACE },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": { "requests": { "storage": format!("{}Mi", volume.megabytes) } },
            "storageClassName": STORAGE_CLASS,
            "volumeMode": "Filesystem",
            "volumeName": format!("pvc-{}", volume.image.trim_start_matches("csi-vol-")),
        },
    })
}

/// A port on which nobody listens now.
fn free_address(host: IpAddr) -> SocketAddr {
    let listener = TcpListener::bind((host, 0)).expect("a loopback address has a free port");
    listener.local_addr().expect("it was just bound")
}

/// Asks that a site be dead altogether.
///
/// # Errors
/// With what still runs or is mounted.
pub async fn nothing_remains(site: &Site) -> Result<()> {
    let remains = until(&format!("{} to be gone", site.name()), Duration::from_secs(20), || async {
        site.remains().await.ok().filter(Vec::is_empty)
    })
    .await;
    if remains.is_err() {
        let left = site.remains().await?;
        ensure!(left.is_empty(), "{} has left: {left:#?}", site.name());
    }
    Ok(())
}
