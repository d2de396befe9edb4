//! Two sites, a name in front of them, and the settings of the daemon that guards them.
//!
//! In: a directory. Out: a [`Stage`] on which everything answers, with A active and mirrored to B, and the ordinary file
//! `understudy.yaml` in the directory, left behind for reading.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::standin::ceph;
use crate::standin::port::{Port, loopback};
use crate::standin::side::Side;
use crate::standin::site::{Plan, World};
use crate::standin::volume::ADMIN_PASSWORD;
use crate::standin::web;

/// The name that users know.
pub const PUBLIC_NAME: &str = "nexus.rehearse.test";

/// What differs from one scenario to the next.
#[derive(Debug, Clone)]
pub struct Wishes {
    /// `observe`, `confirm` or `auto`.
    pub mode: &'static str,
    /// Whether there is a witness at a third site.
    pub witness: bool,
    /// The greatest loss bound without an override.
    pub rpo_max: &'static str,
    /// How long a question stands.
    pub approval_ttl: &'static str,
    /// Continuous witnessed time before `SiteDown`.
    pub hold_down: &'static str,
    /// How long an API server of A that refuses the connection is asked again by the fence.
    pub refused_for: &'static str,
    /// What the world holds, and how long things take in it.
    pub plan: Plan,
}

impl Default for Wishes {
    fn default() -> Self {
        let ceph = ceph::Timing { force_promote: Duration::from_millis(800), ..ceph::Timing::default() };
        Self {
            mode: "confirm",
            witness: false,
            rpo_max: "5m",
            approval_ttl: "1m",
            hold_down: "3s",
            refused_for: "500ms",
            plan: Plan { ceph, ..Plan::default() },
        }
    }
}

/// Everything that the daemon meets.
pub struct Stage {
    /// Where settings, secrets and the daemon's state lie.
    pub directory: PathBuf,
    /// Both sites and what stands between them and the users.
    pub world: World,
    /// An address that belongs to neither site.
    pub neutral: Port,
    /// Where the witness listens, if there is one.
    pub witness_at: SocketAddr,
}

impl Stage {
    /// Builds the stage. `program` is run as the stand-ins of `rbd` and `ceph`.
    pub async fn up(directory: &Path, program: &Path, wishes: &Wishes) -> anyhow::Result<Self> {
        crate::standin::install_crypto();
        std::fs::create_dir_all(directory)?;
        let directory = std::fs::canonicalize(directory)?;
        let world = World::start(&directory, wishes.plan.clone()).await?;
        let answer = web::service(|_| async { web::empty(http::StatusCode::OK) });
        let neutral = Port::open(loopback(), web::handler(answer)).await?;
        // Free until the witness takes it: nobody else binds this loopback address.
        let witness_at = std::net::TcpListener::bind((loopback(), 0))?.local_addr()?;
        let stage = Self { directory, world, neutral, witness_at };
        stage.write_files(program, wishes)?;
        let image = stage.world.plan.image();
        let synced = stage.world.ceph.until_in_step(Side::B, &image);
        tokio::time::timeout(Duration::from_secs(10), synced).await?;
        Ok(stage)
    }

    fn write_files(&self, program: &Path, wishes: &Wishes) -> anyhow::Result<()> {
        let programs = self.world.ceph.write_programs(program)?;
        for part in ["secrets", "bundle"] {
            std::fs::create_dir_all(self.directory.join(part))?;
        }
        self.write_private("kubeconfig-a", &self.world.a.kube.kubeconfig())?;
        self.write_private("kubeconfig-b", &self.world.b.kube.kubeconfig())?;
        self.write_private("secrets/nexus", ADMIN_PASSWORD)?;
        self.write_private("secrets/webhook", &self.world.secret.text())?;
        self.write_private("secrets/witness", "the witness' shared secret")?;
        // As a capture finds them at A, with all that a restore must clean.
        for object in self.world.bundle() {
            let kind = object["kind"].as_str().unwrap_or_default().to_lowercase();
            let place = if kind == "nexus" { "nexus.json".to_owned() } else { format!("bundle/{kind}.json") };
            self.write_manifest(&place, &object)?;
        }
        std::fs::write(self.settings(), self.settings_text(&programs, wishes))?;
        if wishes.witness {
            std::fs::write(self.witness_settings(), self.filled(include_str!("witness.yaml.in"), &programs))?;
        }
        Ok(())
    }

    fn write_private(&self, name: &str, text: &str) -> anyhow::Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let path = self.directory.join(name);
        std::fs::write(&path, text)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(())
    }

    fn write_manifest(&self, name: &str, object: &Value) -> anyhow::Result<()> {
        self.write_private(name, &serde_json::to_string_pretty(object)?)
    }

    /// The daemon's configuration file.
    #[must_use]
    pub fn settings(&self) -> PathBuf {
        self.directory.join("understudy.yaml")
    }

    /// The daemon's state directory.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.directory.join("state")
    }

    fn witness_text(&self) -> String {
        let secret = self.directory.join("secrets/witness");
        format!(
            "    witnesses:\n      - {{ name: third, kind: third_site, url: \"http://{}\", secret: \"file:{}\", \
             period: 500ms, timeout: 450ms }}\n",
            self.witness_at,
            secret.display()
        )
    }

    /// The witness' configuration file.
    #[must_use]
    pub fn witness_settings(&self) -> PathBuf {
        self.directory.join("witness.yaml")
    }

    fn settings_text(&self, programs: &Path, wishes: &Wishes) -> String {
        let witnesses = if wishes.witness { self.witness_text() } else { String::new() };
        self.filled(include_str!("understudy.yaml.in"), programs)
            .replace("@MODE@", wishes.mode)
            .replace("@RPO@", wishes.rpo_max)
            .replace("@TTL@", wishes.approval_ttl)
            .replace("@HOLD@", wishes.hold_down)
            .replace("@REFUSED@", wishes.refused_for)
            .replace("    @WITNESSES@\n", &witnesses)
    }

    /// `template` with every address and path of this stage.
    fn filled(&self, template: &str, programs: &Path) -> String {
        let world = &self.world;
        let conf = |side| world.ceph.conf(side).display().to_string();
        template
            .replace("@DIR@", &self.directory.display().to_string())
            .replace("@BIN@", &programs.display().to_string())
            .replace("@CONF_A@", &conf(Side::A))
            .replace("@CONF_B@", &conf(Side::B))
            .replace("@NEXUS_A@", &world.a.nexus.address().to_string())
            .replace("@NEXUS_B@", &world.b.nexus.address().to_string())
            .replace("@PUBLIC@", &world.balancer.public().address().to_string())
            .replace("@HOOK@", &world.balancer.hook_url())
            .replace("@PAGER@", &world.notify.url("pager"))
            .replace("@NEUTRAL@", &self.neutral.address().to_string())
            .replace("@WITNESS@", &self.witness_at.to_string())
            .replace("@IMAGE@", &format!("{}/{}", world.plan.pool, world.plan.image()))
            .replace("@POOL@", &world.plan.pool)
            .replace("@PAIR@", &world.plan.name)
            .replace("@NAMESPACE@", &world.plan.namespace)
    }
}
