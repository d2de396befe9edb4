//! Two real Ceph clusters with RBD snapshot mirroring between them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;
use tokio::process::Command;

use super::run::{output, script, until};
use super::{Hosts, Parts, Side};

/// The pool that is mirrored.
pub const POOL: &str = "rbd";

/// Both clusters.
#[derive(Clone)]
pub struct Ceph {
    parts: Parts,
    dir: PathBuf,
    hosts: Hosts,
}

/// A snapshot as `rbd snap ls --all` shows it.
#[derive(Debug, Clone, Deserialize)]
pub struct Snapshot {
    /// Its id at this site.
    pub id: u64,
    /// What it is.
    pub namespace: SnapshotNamespace,
}

/// What a snapshot is.
#[derive(Debug, Clone, Deserialize)]
pub struct SnapshotNamespace {
    /// `primary`, `non-primary`, `demoted`; absent for a user's snapshot.
    pub state: Option<String>,
    /// Whether its copy has ended.
    pub complete: Option<bool>,
    /// The id of the snapshot at the primary that it is a copy of.
    pub primary_snap_id: Option<u64>,
    /// How far the copy is.
    pub last_copied_object_number: Option<u64>,
}

impl Ceph {
    pub(super) fn new(parts: &Parts, dir: PathBuf, hosts: Hosts) -> Self {
        Self { parts: parts.clone(), dir, hosts }
    }

    /// The `ceph.conf` of a site.
    #[must_use]
    pub fn conf(&self, side: Side) -> PathBuf {
        self.dir.join(side.letter()).join("ceph.conf")
    }

    /// The directory of both clusters, for the scripts.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Brings both up, with mirroring between them.
    ///
    /// # Errors
    /// If they do not come up within their limit.
    pub async fn up(&self) -> Result<()> {
        output(self.lab("up"), Duration::from_secs(240)).await.context("the Ceph clusters do not come up")?;
        Ok(())
    }

    /// SIGKILL to every daemon of a site.
    ///
    /// # Errors
    /// If one does not die.
    pub async fn kill(&self, side: Side) -> Result<()> {
        self.verb("kill", side, 30).await
    }

    /// SIGSTOP to every daemon of a site: ports accept, nobody answers.
    ///
    /// # Errors
    /// If a signal can not be sent.
    pub async fn freeze(&self, side: Side) -> Result<()> {
        self.verb("freeze", side, 30).await
    }

    /// The end of [`Self::freeze`].
    ///
    /// # Errors
    /// If a signal can not be sent.
    pub async fn thaw(&self, side: Side) -> Result<()> {
        self.verb("thaw", side, 30).await
    }

    /// Starts a killed site again, its data kept.
    ///
    /// # Errors
    /// If it does not answer again.
    pub async fn start(&self, side: Side) -> Result<()> {
        self.verb("start", side, 180).await
    }

    /// Runs `rbd` at a site.
    ///
    /// # Errors
    /// If it fails or takes longer than a minute.
    pub async fn rbd(&self, side: Side, args: &[&str]) -> Result<String> {
        output(self.client("rbd", side, args), Duration::from_secs(60)).await
    }

    /// Runs `rbd ... --format json` at a site.
    ///
    /// # Errors
    /// As [`Self::rbd`], or if the answer is no JSON.
    pub async fn rbd_json(&self, side: Side, args: &[&str]) -> Result<Value> {
        let said = self.rbd(side, &[args, &["--format", "json"]].concat()).await?;
        serde_json::from_str(&said).with_context(|| format!("rbd {args:?} said {said:?}"))
    }

    /// Runs `ceph` at a site.
    ///
    /// # Errors
    /// If it fails or takes longer than a minute.
    pub async fn ceph(&self, side: Side, args: &[&str]) -> Result<String> {
        output(self.client("ceph", side, args), Duration::from_secs(60)).await
    }

    /// Makes an image at A and has it mirrored.
    ///
    /// # Errors
    /// If a command fails.
    pub async fn create(&self, image: &str, megabytes: u32) -> Result<()> {
        let (spec, size) = (spec(image), format!("{megabytes}M"));
        self.rbd(Side::A, &["create", &spec, "--size", &size]).await?;
        self.rbd(Side::A, &["mirror", "image", "enable", &spec, "snapshot"]).await?;
        Ok(())
    }

    /// Takes a mirror snapshot at A and returns its id.
    ///
    /// # Errors
    /// If the command fails or does not say the id.
    pub async fn snapshot(&self, image: &str) -> Result<u64> {
        let said = self.rbd(Side::A, &["mirror", "image", "snapshot", &spec(image)]).await?;
        let id = said.trim().strip_prefix("Snapshot ID: ").with_context(|| format!("no snapshot id in {said:?}"))?;
        id.parse().with_context(|| format!("no snapshot id in {said:?}"))
    }

    /// Every snapshot of an image, oldest first.
    ///
    /// # Errors
    /// If they can not be read.
    pub async fn snapshots(&self, side: Side, image: &str) -> Result<Vec<Snapshot>> {
        let listed = self.rbd_json(side, &["snap", "ls", "--all", &spec(image)]).await?;
        serde_json::from_value(listed).context("snap ls has another shape")
    }

    /// Waits until B holds a complete copy of A's snapshot `id`.
    ///
    /// # Errors
    /// If it does not within a minute.
    pub async fn in_step(&self, image: &str, id: u64) -> Result<()> {
        until(&format!("{image}: snapshot {id} at B"), Duration::from_secs(60), || async {
            let copies = self.snapshots(Side::B, image).await.ok()?;
            let newest = copies.last()?.namespace.clone();
            (newest.complete == Some(true) && newest.primary_snap_id >= Some(id)).then_some(())
        })
        .await
    }

    /// Whether a site calls itself the image's primary.
    ///
    /// # Errors
    /// If it can not be read.
    pub async fn is_primary(&self, side: Side, image: &str) -> Result<bool> {
        let info = self.rbd_json(side, &["info", &spec(image)]).await?;
        info["mirroring"]["primary"].as_bool().context("no mirroring.primary in rbd info")
    }

    /// The words of a command that does something to one daemon of a site, for whoever is to run it.
    #[must_use]
    pub fn verb_words(&self, verb: &str, side: Side, daemon: &str) -> Vec<String> {
        let script = self.parts.scripts.join("ceph-lab.sh");
        let lab = format!("LAB={}", self.dir.display());
        ["env", &lab, &script.display().to_string(), verb, side.letter(), daemon].map(String::from).into()
    }

    async fn verb(&self, verb: &str, side: Side, seconds: u64) -> Result<()> {
        let mut command = self.lab(verb);
        command.arg(side.letter());
        output(command, Duration::from_secs(seconds)).await?;
        Ok(())
    }

    fn lab(&self, verb: &str) -> Command {
        let mut command = script(&self.parts, "ceph-lab.sh");
        command.arg(verb).env("LAB", &self.dir);
        command.env("IP_A", self.hosts.of(Side::A).to_string()).env("IP_B", self.hosts.of(Side::B).to_string());
        command
    }

    fn client(&self, program: &str, side: Side, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.arg("-c").arg(self.conf(side)).args(args);
        command
    }
}

/// `POOL/IMAGE`.
#[must_use]
pub fn spec(image: &str) -> String {
    format!("{POOL}/{image}")
}
