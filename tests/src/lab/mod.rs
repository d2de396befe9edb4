//! Two real sites on one machine: Ceph, a Kubernetes control plane and a Nexus each.
//!
//! In: the parts that `tests/lab/parts.sh` has got. Out: a [`Lab`] whose sites can be killed and
//! frozen whole. The shell scripts in `tests/lab` start and stop the daemons; this module calls them,
//! waits for conditions, and keeps what was acknowledged. Start at [`Lab::up`].

pub mod alike;
pub mod ceph;
pub mod daemon;
pub mod guard;
pub mod operator;
pub mod run;
pub mod site;
pub mod writer;

use std::net::{IpAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use self::ceph::Ceph;
use self::run::script;
use self::site::Site;

/// Which of the two sites.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The primary.
    A,
    /// The standby.
    B,
}

impl Side {
    /// As the scripts name it.
    #[must_use]
    pub fn letter(self) -> &'static str {
        match self {
            Side::A => "a",
            Side::B => "b",
        }
    }
}

/// The two sites' loopback addresses: 127.0.N.2 and 127.0.N.3, for an N that no other lab has.
#[derive(Debug, Clone, Copy)]
pub struct Hosts(u8);

impl Hosts {
    /// The port of a Ceph monitor, which is the one that can not be chosen freely.
    const MONITOR: u16 = 3300;

    fn free() -> Result<Self> {
        let first = std::process::id();
        let nets = (0..250).map(|turn| Self(u8::try_from(1 + (first + turn) % 250).expect("at most 250")));
        let free = |hosts: &Self| {
            [Side::A, Side::B].iter().all(|side| TcpListener::bind((hosts.of(*side), Self::MONITOR)).is_ok())
        };
        nets.into_iter().find(free).context("every loopback network has a monitor")
    }

    /// The address of everything at this site that is ours to place.
    #[must_use]
    pub fn of(self, side: Side) -> IpAddr {
        let host = match side {
            Side::A => 2,
            Side::B => 3,
        };
        IpAddr::from([127, 0, self.0, host])
    }
}

/// Where the real parts lie; `tests/run` says so in the environment.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Our own scripts.
    pub scripts: PathBuf,
    /// Programs of the control plane.
    pub kubernetes: PathBuf,
    /// The installed Nexus.
    pub nexus: PathBuf,
}

impl Parts {
    /// Reads the environment.
    ///
    /// # Errors
    /// If a variable is not set: the test was not started by `tests/run`.
    pub fn from_env() -> Result<Self> {
        let path = |name: &str| {
            std::env::var_os(name).map(PathBuf::from).with_context(|| format!("{name} is not set: use tests/run real"))
        };
        Ok(Self {
            scripts: Path::new(env!("CARGO_MANIFEST_DIR")).join("lab"),
            kubernetes: path("KUBE_BIN")?,
            nexus: path("UNDERSTUDY_NEXUS")?,
        })
    }
}

/// A lab's directory begins with it: `tests/run` ends labs whose test was killed.
const PREFIX: &str = "ulab-";

/// A directory of its own for what a test starts, all of which ends with it.
pub struct Ground {
    /// Where the parts lie.
    pub parts: Parts,
    hosts: Hosts,
    began: Instant,
    // Removed last, once everything in it has ended.
    dir: tempfile::TempDir,
}

impl Ground {
    /// An empty one.
    ///
    /// # Errors
    /// If the test was not started by `tests/run`, or no directory can be made.
    pub fn new() -> Result<Self> {
        let parts = Parts::from_env()?;
        // Ceph's sockets lie below it, and their paths are limited to 107 bytes.
        let dir = tempfile::Builder::new().prefix(PREFIX).tempdir().context("no temporary directory")?;
        std::fs::write(dir.path().join("owner"), std::process::id().to_string())?;
        Ok(Self { parts, hosts: Hosts::free()?, began: Instant::now(), dir })
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Tells whoever watches the test how far it is.
    pub fn say(&self, what: &str) {
        eprintln!("lab {:6.1} s: {what}", self.began.elapsed().as_secs_f64());
    }

    /// Both Ceph clusters, not yet up.
    #[must_use]
    pub fn ceph(&self) -> Ceph {
        Ceph::new(&self.parts, self.dir().join("ceph"), self.hosts)
    }

    /// One site, not yet up.
    #[must_use]
    pub fn site(&self, side: Side, ceph: &Ceph) -> Site {
        Site::new(&self.parts, side, self.hosts, self.dir(), ceph)
    }

    /// Brings up the control planes of `sides`.
    ///
    /// # Errors
    /// If one does not answer within its limit.
    pub async fn control_planes(&self, sides: &[Side]) -> Result<()> {
        let mut start = script(&self.parts, "k8s-lab.sh");
        start.arg("start").args(sides.iter().map(|side| format!("site-{}", side.letter())));
        site::kubernetes_env(&mut start, &self.parts, self.dir());
        run::output(start, Duration::from_secs(180)).await.context("the control planes do not come up")?;
        Ok(())
    }
}

impl Drop for Ground {
    /// Ends everything that was started here, also after a failed test.
    fn drop(&mut self) {
        let mut end = std::process::Command::new(self.parts.scripts.join("end-lab.sh"));
        let status = end.arg(self.dir.path()).stdin(Stdio::null()).status();
        if !status.as_ref().is_ok_and(std::process::ExitStatus::success) {
            eprintln!("lab: {} is not ended: {status:?}", self.dir.path().display());
        }
    }
}

/// Both sites, and what lies between them.
pub struct Lab {
    /// The two Ceph clusters, mirroring between them.
    pub ceph: Ceph,
    /// The primary.
    pub a: Site,
    /// The standby.
    pub b: Site,
    ground: Ground,
}

impl Lab {
    /// Brings up both clusters and both control planes, side by side. Nothing is deployed yet.
    ///
    /// # Errors
    /// If a part does not come up within its limit; what had come up is ended.
    pub async fn up() -> Result<Self> {
        let ground = Ground::new()?;
        let ceph = ground.ceph();
        let (a, b) = (ground.site(Side::A, &ceph), ground.site(Side::B, &ceph));
        let lab = Self { ceph, a, b, ground };
        let (clusters, planes) = tokio::join!(lab.ceph.up(), lab.ground.control_planes(&[Side::A, Side::B]));
        clusters?;
        planes?;
        lab.say("two clusters mirror, two control planes answer");
        tokio::try_join!(lab.a.prepare(), lab.b.prepare())?;
        Ok(lab)
    }

    /// As [`Ground::say`].
    pub fn say(&self, what: &str) {
        self.ground.say(what);
    }

    /// As [`Ground::dir`].
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.ground.dir()
    }
}
