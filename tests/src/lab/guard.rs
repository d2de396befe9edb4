//! A lab whose pair is guarded by the real daemon.
//!
//! In: which volumes the pair has, and how it is to be fenced. Out: a [`Guarded`] pair: at A a real Nexus on its images,
//! somebody who uploads and keeps a list, and mirror snapshots on a schedule; at B an operator that waits; between them a load
//! balancer that follows webhooks; and the daemon, which has seen A alive and knows how old the copy is.
//! The settings stay behind for reading, in the directory that is named. Start at [`Guarded::up`].

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use understudy_agent::report::{self, Report};
use understudy_core::{LossBound, Record, Request, Verdict};

use super::ceph::{Ceph, POOL, spec};
use super::daemon::Daemon;
use super::run::{output, until};
use super::site::{NAMESPACE, NEXUS, Site, Volume, nothing_remains};
use super::writer::{Acknowledged, Comparison, PASSWORD, REPOSITORY, USER, Writer};
use super::{Lab, Side};
use crate::rehearse::table::Table;
use crate::standin::effects::Ledger;
use crate::standin::lb::LoadBalancer;
use crate::standin::notify::Receiver;
use crate::standin::port::{Port, loopback};
use crate::standin::webhook::Secret;
use crate::standin::{install_crypto, web};

/// The namespace of the daemon itself at B, in the shipped manifests.
const OWN_NAMESPACE: &str = "understudy";
/// An artifact that is there from the beginning.
const KNOWN: &str = "known/app-1.0.jar";
/// Between two mirror snapshots.
const EVERY: Duration = Duration::from_secs(6);
/// So many uploads at least must be older than the bound that is named, or nothing is shown by them.
const SAFE: usize = 10;
/// What was written so long before a snapshot is in it: the kernel writes back after 30 s, and looks every 5 s.
const WRITE_BACK: Duration = Duration::from_secs(35);
/// More than the clocks of two processes on one machine seem to differ, since Nexus and Ceph tell whole seconds.
const CLOCKS: Duration = Duration::from_secs(5);
/// Between two uploads.
const UPLOAD: Duration = Duration::from_millis(150);

/// The programs that are built beside the test.
#[derive(Debug, Clone, Copy)]
pub struct Programs {
    /// The operator stand-in.
    pub operator: &'static str,
    /// A program that is also `understudy`.
    pub understudy: &'static str,
}

/// What differs from one scenario to the next.
#[derive(Debug, Clone)]
pub struct Wishes {
    /// `observe`, `confirm` or `auto`.
    pub mode: &'static str,
    /// Volumes of the pair beside the one with Nexus' data.
    pub extra: Vec<Volume>,
    /// The pair's `fence`.
    pub fence: &'static str,
    /// Whether rbd-mirror of B is stopped by command; else it is only blocklisted.
    pub stop_mirror: bool,
    /// A promote that takes longer is told to a human.
    pub promote_overdue: &'static str,
    /// Whether [`Guarded::compare`] will be asked, for which uploads must have reached the disk at B first.
    pub compared: bool,
}

impl Default for Wishes {
    fn default() -> Self {
        Self {
            mode: "confirm",
            extra: Vec::new(),
            fence: "{ workload: true, within: 6s, polite: 3s }",
            stop_mirror: false,
            promote_overdue: "2m",
            compared: true,
        }
    }
}

/// A pair at work.
pub struct Guarded {
    /// The daemon; ends first.
    pub daemon: Daemon,
    /// What leads users to a site.
    pub balancer: LoadBalancer,
    /// Where pages arrive.
    pub pager: Receiver,
    /// Who uploads to A.
    pub writer: Option<Writer>,
    /// What takes mirror snapshots at A.
    pub schedule: Option<Schedule>,
    /// Every volume of the pair; the first one holds Nexus' data.
    pub volumes: Vec<Volume>,
    /// When A was hurt.
    pub hurt: Option<SystemTime>,
    directory: PathBuf,
    known: Acknowledged,
    _neutral: Port,
    /// The two sites; ends last.
    pub lab: Lab,
}

impl Guarded {
    /// Brings everything up and waits until the daemon finds A alive. Settings and journal are left in a directory of
    /// this name.
    ///
    /// # Errors
    /// If a part does not come up; what had come up is ended.
    pub async fn up(name: &str, programs: Programs, wishes: &Wishes) -> Result<Self> {
        install_crypto();
        let directory = std::env::temp_dir().join(format!("understudy-real-{name}"));
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(directory.join("secrets"))?;
        let lab = Lab::up().await?;
        let volumes: Vec<Volume> = std::iter::once(Volume::data()).chain(wishes.extra.clone()).collect();
        let known = nexus_at_a(&lab, programs, &volumes, &wishes.extra).await?;
        let writer = Writer::start(lab.a.nexus()?, UPLOAD);
        let schedule = Schedule::start(lab.ceph.clone(), &volumes, EVERY);
        lab.say("A runs a Nexus, somebody uploads, and mirror snapshots are taken");
        lab.b.start_operator(Path::new(programs.operator))?;

        let secret = Secret::new(b"0123456789abcdef0123456789abcdef");
        let (ledger, ip) = (Ledger::default(), loopback());
        let sites = [("a".to_owned(), lab.a.nexus_address()), ("b".to_owned(), lab.b.nexus_address())];
        let balancer = LoadBalancer::start(ip, sites.into(), "a", secret.clone(), ledger.clone()).await?;
        let pager = Receiver::start(ip, secret.clone(), ledger).await?;
        let answer = web::service(|_| async { web::empty(http::StatusCode::OK) });
        let neutral = Port::open(loopback(), web::handler(answer)).await?;

        lab.a.export(&directory.join("bundle")).await?;
        std::fs::rename(directory.join("bundle/nexus.yaml"), directory.join("nexus.yaml"))?;
        let settings = Settings { lab: &lab, directory: &directory, volumes: &volumes, wishes };
        settings.write(&secret, &known, &balancer, &pager, neutral.address()).await?;
        let daemon = Daemon::start(Path::new(programs.understudy), &directory)?;
        let (writer, schedule) = (Some(writer), Some(schedule));
        let (hurt, _neutral) = (None, neutral);
        let mut pair =
            Self { daemon, balancer, pager, writer, schedule, volumes, hurt, directory, known, _neutral, lab };
        pair.settle(wishes.compared).await?;
        Ok(pair)
    }

    /// Waits until the daemon finds A alive and knows the source time of a snapshot of each image; of one that holds what
    /// was uploaded so long before it that it had reached the disk by itself, if uploads will be compared.
    async fn settle(&mut self, compared: bool) -> Result<()> {
        let limit = Duration::from_secs(90);
        let up = |record: &Record| matches!(record, Record::Verdict { to: Verdict::Up, .. });
        self.daemon.until("the daemon finds A alive", 0, limit, up).await?;
        let error = |record: &Record| matches!(record, Record::ClockError { .. });
        self.daemon.until("the clocks are compared", 0, limit, error).await?;
        self.lab.say("the daemon finds A alive");
        if compared {
            let enough =
                until("enough uploads", limit, || async { self.acknowledged().get(SAFE).map(|last| last.at) }).await?;
            let on_disk = enough.duration_since(SystemTime::UNIX_EPOCH)? + WRITE_BACK + CLOCKS;
            self.copied(0, i64::try_from(on_disk.as_millis())?).await?;
        }
        // One more: should A be hurt in the middle of a copy, the one before it is what counts.
        self.advance(1).await
    }

    /// Waits until the daemon has seen a mirror snapshot of each image arrive whole at B that was taken after `since_ms`,
    /// in a record newer than `from`.
    async fn copied(&mut self, from: u64, since_ms: i64) -> Result<()> {
        for volume in self.volumes.clone() {
            let image = spec(&volume.image);
            let told = move |record: &Record| matches!(record, Record::SourceTime { image: of, time_ms, .. } if of.as_str() == image && *time_ms >= since_ms);
            self.daemon.until("the daemon sees the copy advance", from, Duration::from_secs(90), told).await?;
        }
        Ok(())
    }

    /// Waits until the daemon has seen so many more mirror snapshots of each image arrive whole at B.
    ///
    /// # Errors
    /// If they do not come.
    pub async fn advance(&mut self, times: usize) -> Result<()> {
        for _ in 0..times {
            self.daemon.journal.look()?;
            self.copied(self.daemon.journal.newest(), 0).await?;
        }
        Ok(())
    }

    /// What was acknowledged so far.
    #[must_use]
    pub fn acknowledged(&self) -> Vec<Acknowledged> {
        self.writer.as_ref().map(Writer::acknowledged).unwrap_or_default()
    }

    /// Notes the moment from which everything is measured.
    pub fn hurt_now(&mut self, what: &str) {
        self.daemon.say(what);
        self.hurt = Some(SystemTime::now());
    }

    /// SIGKILL to everything of A.
    ///
    /// # Errors
    /// If something survives.
    pub async fn kill_a(&mut self) -> Result<()> {
        self.hurt_now("SIGKILL to every part of A: Nexus, operator, mounts, control plane, Ceph");
        self.lab.a.kill().await?;
        self.stop_schedule().await;
        nothing_remains(&self.lab.a).await
    }

    /// SIGSTOP to everything of A.
    ///
    /// # Errors
    /// If a signal can not be sent.
    pub async fn freeze_a(&mut self) -> Result<()> {
        self.hurt_now("SIGSTOP to every part of A: whoever connects waits");
        self.lab.a.freeze().await?;
        self.stop_schedule().await;
        Ok(())
    }

    /// Ends the schedule of mirror snapshots.
    pub async fn stop_schedule(&mut self) {
        if let Some(schedule) = self.schedule.take() {
            schedule.stop().await;
        }
    }

    /// What the list of acknowledged uploads has become at B, compared by hash: everything that was acknowledged before
    /// `safe_until` must be whole. A must be dead: nothing of it may serve any of this.
    ///
    /// # Errors
    /// If anything older is gone, or too little was there to tell.
    pub async fn compare(&mut self, safe_until: SystemTime) -> Result<Comparison> {
        nothing_remains(&self.lab.a).await?;
        let list = self.writer.take().context("nobody uploaded")?.stop().await;
        let found = self.lab.b.nexus()?.compare(&list).await?;
        let hurt = self.hurt.context("A was never hurt")?;
        let before = |at: SystemTime| hurt.duration_since(at).unwrap_or_default().as_secs_f64();
        let oldest = found.oldest_loss().map_or("none".into(), |at| format!("{:.1} s before the hurt", before(at)));
        self.lab.say(&format!(
            "of {} acknowledged uploads {} came back whole, {} are missing, {} damaged; oldest loss: {oldest}; named: all \
             that is older than {:.1} s before the hurt is safe",
            list.len(),
            found.whole.len(),
            found.missing.len(),
            found.damaged.len(),
            before(safe_until),
        ));
        let safe = list.iter().filter(|artifact| artifact.at < safe_until).count();
        ensure!(safe >= SAFE, "only {safe} uploads are older than the bound: nothing is shown by them");
        if let Some(lost) = found.oldest_loss() {
            ensure!(lost >= safe_until, "lost outside the bound that was named: {found:?}");
        }
        Ok(found)
    }

    /// The account of the last run, as the daemon makes it.
    ///
    /// # Errors
    /// If there was no run.
    pub fn report(&self) -> Result<Report> {
        let runs = self.daemon.journal.story().iter().rev().filter_map(|entry| match &entry.record {
            Record::RunStarted { run, .. } => Some(run.id.clone()),
            _ => None,
        });
        let run = runs.take(1).next().context("no run was begun")?;
        report::report(self.daemon.journal.story(), &run).context("the journal does not tell of the run")
    }

    /// Every snapshot of an image at B, in short: what a killed promote has left.
    ///
    /// # Errors
    /// If they can not be read.
    pub async fn left_at_b(&self, image: &str) -> Result<String> {
        let listed = self.lab.ceph.snapshots(Side::B, image).await?;
        let shown = listed.iter().map(|snapshot| {
            let of = &snapshot.namespace;
            let state = of.state.as_deref().unwrap_or("user");
            format!("{}:{state} of {:?} complete {:?}", snapshot.id, of.primary_snap_id, of.complete)
        });
        let primary = self.lab.ceph.is_primary(Side::B, image).await?;
        Ok(format!("primary: {primary}; snapshots: {}", shown.collect::<Vec<_>>().join(", ")))
    }

    /// B is active in the route, and what was there from the beginning comes back through the public address.
    ///
    /// # Errors
    /// If it is not so.
    pub async fn b_serves(&self) -> Result<()> {
        ensure!(self.balancer.active() == "b", "the route does not lead to B");
        let public = super::writer::NexusClient::new(&self.balancer.public_url())?;
        let known = public.compare(std::slice::from_ref(&self.known)).await?;
        ensure!(known.whole.len() == 1, "{KNOWN} did not come back whole through the public address");
        for volume in &self.volumes {
            ensure!(self.lab.ceph.is_primary(Side::B, &volume.image).await?, "{} is not primary at B", volume.image);
        }
        Ok(())
    }

    /// The account of the run, by the daemon's own command, and the table of times.
    ///
    /// # Errors
    /// If the run did not succeed, or the journal breaks a rule.
    pub async fn account(&mut self) -> Result<()> {
        self.daemon.human(&["report"]).await?;
        self.daemon.verify_journal().await?;
        let hurt = self.hurt.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
        let hurt = hurt.and_then(|since| i64::try_from(since.as_millis()).ok());
        println!("\n{}", Table::of(self.daemon.journal.story(), hurt));
        println!("settings and journal: {}", self.directory.display());
        Ok(())
    }
}

/// Volumes, operator and Nexus at A, with its repositories and one known artifact.
async fn nexus_at_a(lab: &Lab, programs: Programs, volumes: &[Volume], extra: &[Volume]) -> Result<Acknowledged> {
    lab.a.provision(volumes).await?;
    lab.say("A has its volumes");
    lab.a.start_operator(Path::new(programs.operator))?;
    lab.a.deploy(extra).await?;
    let nexus = lab.a.nexus()?;
    nexus.create_repository(REPOSITORY).await?;
    nexus.create_repository("dr-canary").await?;
    let known = nexus.put(KNOWN, b"known from the beginning".repeat(1000)).await?;
    lab.a.sync(&volumes[0].image).await?;
    Ok(known)
}

/// Mirror snapshots at A, as its schedule would take them.
pub struct Schedule {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Schedule {
    fn start(ceph: Ceph, volumes: &[Volume], every: Duration) -> Self {
        let stop = CancellationToken::new();
        let images: Vec<String> = volumes.iter().map(|volume| volume.image.clone()).collect();
        let task = tokio::spawn(snapshots(ceph, images, every, stop.clone()));
        Self { stop, task }
    }

    /// Takes no more.
    pub async fn stop(self) {
        self.stop.cancel();
        // It ends by the token alone.
        let _ = self.task.await;
    }
}

async fn snapshots(ceph: Ceph, images: Vec<String>, every: Duration, stop: CancellationToken) {
    let mut grid = tokio::time::interval(every);
    grid.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let round = async {
        loop {
            grid.tick().await;
            // One that A does not take any more is A's death, which the test sees for itself.
            let _ = futures::future::join_all(images.iter().map(|image| ceph.snapshot(image))).await;
        }
    };
    stop.run_until_cancelled(round).await;
}

/// The daemon's files.
struct Settings<'a> {
    lab: &'a Lab,
    directory: &'a Path,
    volumes: &'a [Volume],
    wishes: &'a Wishes,
}

impl Settings<'_> {
    async fn write(
        &self,
        secret: &Secret,
        known: &Acknowledged,
        balancer: &LoadBalancer,
        pager: &Receiver,
        neutral: SocketAddr,
    ) -> Result<()> {
        self.private("secrets/nexus", PASSWORD)?;
        self.private("secrets/webhook", &secret.text())?;
        let keyring_a = self.user(Side::A, "client.watch", &CAPS_A).await?;
        let keyring_b = self.user(Side::B, "client.understudy", &CAPS_B).await?;
        let fence = include_str!("../../../deploy/kubernetes/primary-fence.yaml");
        let kubeconfig_a = self.account(&self.lab.a, fence, NAMESPACE, "understudy-fence").await?;
        let own = include_str!("../../../deploy/kubernetes/understudy.yaml");
        let kubeconfig_b = self.account(&self.lab.b, own, OWN_NAMESPACE, "understudy").await?;
        let lab = self.lab;
        let images: Vec<String> = self.volumes.iter().map(|volume| spec(&volume.image)).collect();
        let text = include_str!("understudy.yaml.in")
            .replace("@DIR@", &self.directory.display().to_string())
            .replace("@MODE@", self.wishes.mode)
            .replace("@KUBE_A@", &kubeconfig_a)
            .replace("@KUBE_B@", &kubeconfig_b)
            .replace("@OWN_NAMESPACE@", OWN_NAMESPACE)
            .replace("@CONF_A@", &lab.ceph.conf(Side::A).display().to_string())
            .replace("@CONF_B@", &lab.ceph.conf(Side::B).display().to_string())
            .replace("@KEYRING_A@", &keyring_a)
            .replace("@KEYRING_B@", &keyring_b)
            .replace("@POOL@", POOL)
            .replace("@PAIR@", NEXUS)
            .replace("@NAMESPACE@", NAMESPACE)
            .replace("@NEXUS_A@", &lab.a.nexus_address().to_string())
            .replace("@NEXUS_B@", &lab.b.nexus_address().to_string())
            .replace("@PUBLIC@", &balancer.public().address().to_string())
            .replace("@HOOK@", &balancer.hook_url())
            .replace("@PAGER@", &pager.url("pager"))
            .replace("@NEUTRAL@", &neutral.to_string())
            .replace("@USER@", USER)
            .replace("@REPOSITORY@", REPOSITORY)
            .replace("@KNOWN@", KNOWN)
            .replace("@KNOWN_SHA256@", &known.sha256)
            .replace("@IMAGES@", &images.join(", "))
            .replace("@FENCE@", self.wishes.fence)
            .replace("@QUIESCE@", &self.quiesce())
            .replace("@PROMOTE_OVERDUE@", self.wishes.promote_overdue);
        std::fs::write(self.directory.join("understudy.yaml"), text)?;
        Ok(())
    }

    fn quiesce(&self) -> String {
        if !self.wishes.stop_mirror {
            return "none".into();
        }
        let verb = |verb: &str| self.lab.ceph.verb_words(verb, Side::B, "rbd-mirror").join(", ");
        format!("{{ command: {{ stop: [{}], start: [{}] }} }}", verb("kill-one"), verb("start-one"))
    }

    /// A user with no more rights than the manual gives it; the path of its keyring.
    async fn user(&self, side: Side, name: &str, caps: &[&str]) -> Result<String> {
        let words = [&["auth", "get-or-create", name], caps].concat();
        let keyring = self.lab.ceph.ceph(side, &words).await?;
        let file = format!("secrets/{name}.keyring");
        self.private(&file, &keyring)?;
        Ok(self.directory.join(file).display().to_string())
    }

    /// The rights of the manifests in `deploy/`, and no others; the path of the account's kubeconfig.
    async fn account(&self, site: &Site, manifests: &str, namespace: &str, account: &str) -> Result<String> {
        const RIGHTS: [&str; 6] =
            ["Namespace", "ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"];
        let wanted = |object: &Value| {
            let place = object["metadata"]["namespace"].as_str();
            let here = place.is_none_or(|place| [NAMESPACE, OWN_NAMESPACE].contains(&place));
            here && object["kind"].as_str().is_some_and(|kind| RIGHTS.contains(&kind))
        };
        let objects: Vec<Value> = serde_saphyr::from_multiple(manifests)?;
        let items: Vec<Value> = objects.into_iter().filter(wanted).collect();
        site.apply(&json!({ "apiVersion": "v1", "kind": "List", "items": items })).await?;
        let file = format!("secrets/{account}.kubeconfig");
        self.private(&file, &site.kubeconfig_of(namespace, account).await?)?;
        Ok(self.directory.join(file).display().to_string())
    }

    fn private(&self, name: &str, text: &str) -> Result<()> {
        let path = self.directory.join(name);
        std::fs::write(&path, text)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(())
    }
}

/// As `docs/operations.md` gives them to the daemon at A ...
const CAPS_A: [&str; 4] = ["mon", "profile rbd-read-only", "osd", "profile rbd-read-only pool=rbd"];
/// ... and at B.
const CAPS_B: [&str; 6] = [
    "mon",
    "profile rbd, allow r, allow command \"osd blocklist\" with blocklistop=rm",
    "osd",
    "profile rbd",
    "mgr",
    "profile rbd",
];

/// Everything that was acknowledged before this is safe, by the loss that a question named.
///
/// # Errors
/// If it named none.
pub fn named_safe(request: &Request) -> Result<SystemTime> {
    let LossBound::AtMost(bound_ms) = request.bound else { anyhow::bail!("no bound was named") };
    let asked = Duration::from_millis(u64::try_from(request.asked.wall_ms)?);
    Ok(SystemTime::UNIX_EPOCH + asked - Duration::from_millis(bound_ms))
}

/// Runs a shell command among the mounts of a site.
///
/// # Errors
/// If it fails or takes longer than two minutes.
pub async fn within(lab: &Lab, side: Side, command: &str) -> Result<String> {
    let site = match side {
        Side::A => &lab.a,
        Side::B => &lab.b,
    };
    let mut shell: Command = site.within();
    shell.args(["sh", "-c", command]);
    output(shell, Duration::from_secs(120)).await
}
