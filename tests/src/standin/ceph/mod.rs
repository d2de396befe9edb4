//! Two Ceph clusters with RBD snapshot mirroring, behind stand-ins of the programs `rbd` and `ceph`.
//!
//! In: command lines, sent by [`client::cli_main`] over a Unix socket, so that a hanging promote is a
//! real process that hangs and can be killed; and what a scenario does to the sites. Out: the standard
//! output, standard error and exit code that Ceph 16.2.15 was measured to give, and images whose
//! content is mirrored, rolled back and lost as measured. Start at [`Ceph`].

pub mod client;
mod command;
mod daemon;
mod line;
pub mod model;
mod render;
mod server;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use self::daemon::Hold;
use self::model::{Caps, Cluster, Condition, Daemon, Image, MirrorState, Model, Process, Schedule, User, Watcher};
use super::effects::Ledger;
use super::side::Side;
use super::volume::{Disk, Volume};

/// How long things take. The defaults are shortened; the measured times are in the comments.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// How often the daemons look around.
    pub tick: Duration,
    /// Between two reports of the same state; measured 30 s.
    pub status_interval: Duration,
    /// Silence after which a watch is gone and a row is `down`; measured 30 s, 6.5 to 10 s with `FAST=1`.
    pub watch: Duration,
    /// Silence after which a daemon is no longer listed; measured about 60 s.
    pub service: Duration,
    /// A whole copy; measured 0.7 s for a small change.
    pub sync: Duration,
    /// A command that only reads; measured 0.05 to 0.13 s.
    pub read: Duration,
    /// `mirror image snapshot`; measured 0.75 to 1.4 s.
    pub snapshot: Duration,
    /// Measured 0.75 to 3.8 s.
    pub demote: Duration,
    /// Without force; measured 0.4 s.
    pub promote: Duration,
    /// With force; measured 4.5 s.
    pub force_promote: Duration,
    /// After a demotion was copied, how long a promote still fails with exit 30; measured up to 2 s.
    pub settle: Duration,
    /// Measured 0.24 to 0.46 s.
    pub blocklist: Duration,
    /// How soon a blocklisted daemon is back when its peer answers; its retry is 30 s, 2 s with `FAST=1`.
    pub daemon_returns: Duration,
    /// The minute of the snapshot schedules.
    pub minute: Duration,
    /// How much of the youngest writes a block snapshot misses; measured 31.4 s.
    pub unwritten: Duration,
    /// Without `--client-mount-timeout`; measured 300 s.
    pub mount_timeout: Duration,
    /// At most so long a program looks for a cluster that is away; none: for as long as it was told, as Ceph does.
    pub hunt: Option<Duration>,
}

impl Default for Timing {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self {
            tick: ms(10),
            status_interval: ms(500),
            watch: ms(400),
            service: ms(1000),
            sync: ms(100),
            read: ms(5),
            snapshot: ms(30),
            demote: ms(30),
            promote: ms(20),
            force_promote: ms(200),
            settle: ms(50),
            blocklist: ms(20),
            daemon_returns: ms(200),
            minute: ms(1000),
            unwritten: Duration::ZERO,
            mount_timeout: Duration::from_secs(300),
            hunt: None,
        }
    }
}

impl Timing {
    /// Answers at once, for measuring what the daemon itself costs.
    pub fn immediate() -> Self {
        let zero = Duration::ZERO;
        Self {
            sync: zero,
            read: zero,
            snapshot: zero,
            demote: zero,
            promote: zero,
            force_promote: zero,
            settle: zero,
            blocklist: zero,
            hunt: Some(zero),
            ..Self::default()
        }
    }
}

/// How a promote misbehaves, besides what the state of the image makes it do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PromoteFault {
    #[default]
    None,
    /// It never returns.
    Hang,
    /// It fails at once with this exit code, without an effect.
    Fail(i32),
}

/// A signal to a mirror daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// It does not end while its peer is away.
    Term,
    /// Gone at once; its watch lasts until it times out.
    Kill,
}

/// Why an image can not be mounted.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum MountError {
    #[error("the cluster of site {0} does not answer")]
    Away(Side),
    #[error("image {0} does not exist")]
    NoImage(String),
    #[error("image {0} is not primary: mapping it fails with a read-only file system")]
    NotPrimary(String),
}

/// Both clusters and the socket that the stand-in programs talk to.
pub struct Ceph {
    shared: Arc<Shared>,
    socket: PathBuf,
    directory: PathBuf,
    _running: DropGuard,
}

/// What commands, daemons and scenarios share.
struct Shared {
    timing: Timing,
    ledger: Ledger,
    state: Mutex<State>,
}

struct State {
    model: Model,
    hold: Hold,
    promote_fault: PromoteFault,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while held")
    }
}

impl Ceph {
    /// Two paired clusters with `pool` and no image. Configuration, keyring and socket are put into
    /// `directory`.
    pub async fn start(directory: &Path, pool: &str, timing: Timing, ledger: Ledger) -> io::Result<Self> {
        let mut clusters = [cluster(Side::A, directory)?, cluster(Side::B, directory)?];
        clusters[0].peer_mirror_uuid = clusters[1].mirror_uuid.clone();
        clusters[1].peer_mirror_uuid = clusters[0].mirror_uuid.clone();
        let mut model = Model { pool: pool.to_owned(), clusters, link_cut: false, next_client: 4120 };
        Side::BOTH.into_iter().for_each(|side| daemon::renew(&mut model, side));
        let state = State { model, hold: Hold::default(), promote_fault: PromoteFault::None };
        let shared = Arc::new(Shared { timing, ledger, state: Mutex::new(state) });
        let socket = directory.join("ceph.sock");
        let stop = CancellationToken::new();
        let listener = tokio::net::UnixListener::bind(&socket)?;
        tokio::spawn(stop.clone().run_until_cancelled_owned(server::serve(listener, shared.clone())));
        tokio::spawn(stop.clone().run_until_cancelled_owned(turns(shared.clone())));
        tokio::spawn(stop.clone().run_until_cancelled_owned(minutes(shared.clone())));
        let directory = directory.to_owned();
        Ok(Self { shared, socket, directory, _running: stop.drop_guard() })
    }

    /// Where [`client::cli_main`] finds the clusters.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The `-c` of one site's cluster.
    pub fn conf(&self, side: Side) -> PathBuf {
        self.shared.lock().model.at(side).conf.clone()
    }

    /// Writes the programs `rbd` and `ceph` that call `program standin-rbd …` and `… standin-ceph …`,
    /// and returns their directory.
    pub fn write_programs(&self, program: &Path) -> io::Result<PathBuf> {
        use std::os::unix::fs::PermissionsExt;
        let directory = self.directory.join("bin");
        std::fs::create_dir_all(&directory)?;
        for tool in ["rbd", "ceph"] {
            // exec: the process that is killed is the one that waits.
            let script = format!(
                "#!/bin/sh\nexec '{}' standin-{tool} --socket '{}' \"$@\"\n",
                program.display(),
                self.socket.display()
            );
            let path = directory.join(tool);
            std::fs::write(&path, script)?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
        }
        Ok(directory)
    }

    /// A new image at `side` on `volume`, mirrored by snapshots, with its first snapshot taken.
    pub fn create_image(&self, side: Side, name: &str, volume: Volume, objects: u64) {
        let mut state = self.shared.lock();
        let (client, _) = state.model.new_client(side);
        let cluster = state.model.at_mut(side);
        let global_id = Uuid::new_v4().to_string();
        let mut image = Image::new(format!("10{client:x}f8bae1"), global_id, objects, volume);
        image.mirrored = true;
        image.snap_primary(MirrorState::Primary, &cluster.peer_uuid, Duration::ZERO);
        cluster.images.insert(name.to_owned(), image);
    }

    /// A snapshot of every primary image of the pool at `side`, each `minutes` of the stand-in's time.
    pub fn add_schedule(&self, side: Side, minutes: u32) {
        let schedule = Schedule { image: None, minutes };
        self.shared.lock().model.at_mut(side).schedules.push(schedule);
    }

    /// Takes a mirror snapshot now. `synced`: the file system was frozen or synced before.
    pub fn take_snapshot(&self, side: Side, name: &str, synced: bool) -> Option<u64> {
        let unwritten = if synced { Duration::ZERO } else { self.shared.timing.unwritten };
        let mut state = self.shared.lock();
        let cluster = state.model.at_mut(side);
        let peer = cluster.peer_uuid.clone();
        let image = cluster.images.get_mut(name).filter(|image| image.primary())?;
        Some(image.snap_primary(MirrorState::Primary, &peer, unwritten))
    }

    /// Adds an identity; its key is the same word in the keyring of `side`.
    pub fn add_user(&self, side: Side, name: &str, caps: Caps) -> io::Result<PathBuf> {
        let key = Uuid::new_v4().simple().to_string();
        let path = self.directory.join(format!("{side}.{name}.keyring"));
        std::fs::write(&path, format!("[client.{name}]\n\tkey = {key}\n"))?;
        let user = User { key, caps };
        self.shared.lock().model.at_mut(side).users.insert(name.to_owned(), user);
        Ok(path)
    }

    /// Every daemon of the site is gone, and with it whoever had an image mounted there.
    pub fn kill(&self, side: Side) {
        let mut state = self.shared.lock();
        let cluster = state.model.at_mut(side);
        cluster.condition = Condition::Away;
        cluster.daemon.process = Process::Dead;
        cluster.heard_own = None;
        cluster.images.values_mut().for_each(|image| image.workloads.clear());
    }

    /// Every daemon of the site is stopped: its ports accept, nobody answers.
    pub fn freeze(&self, side: Side) {
        self.shared.lock().model.at_mut(side).condition = Condition::Away;
    }

    /// The site goes on; after a kill it is started anew with its data kept.
    pub fn thaw(&self, side: Side) {
        let mut state = self.shared.lock();
        state.model.at_mut(side).condition = Condition::Up;
        if state.model.at(side).daemon.process == Process::Dead {
            daemon::renew(&mut state.model, side);
        }
    }

    /// Whether the cluster of `side` answers.
    pub fn is_up(&self, side: Side) -> bool {
        self.shared.lock().model.at(side).condition == Condition::Up
    }

    /// Stops the mirror daemon of one site.
    pub fn signal_daemon(&self, side: Side, signal: Signal) {
        let process = match signal {
            Signal::Term => Process::Terminating,
            Signal::Kill => Process::Dead,
        };
        self.shared.lock().model.at_mut(side).daemon.process = process;
    }

    /// Starts the mirror daemon of one site, as a new process.
    pub fn start_daemon(&self, side: Side) {
        let mut state = self.shared.lock();
        if state.model.at(side).daemon.process != Process::Running {
            daemon::renew(&mut state.model, side);
        }
    }

    /// Cuts the mirror daemons off from the other cluster, or lets them through again.
    pub fn cut_link(&self, cut: bool) {
        self.shared.lock().model.link_cut = cut;
    }

    /// Kills or starts the only OSD of a site; its monitor lives.
    pub fn set_osd(&self, side: Side, up: bool) {
        self.shared.lock().model.at_mut(side).osd_up = up;
    }

    /// Kills or starts the manager of a site.
    pub fn set_mgr(&self, side: Side, up: bool) {
        self.shared.lock().model.at_mut(side).mgr_up = up;
    }

    /// Lets every copy stand still when this many objects are copied; `None` lets it go on.
    pub fn hold_sync(&self, at_object: Option<u64>) {
        self.shared.lock().hold = Hold { at_object };
    }

    /// Spoils the promotes from now on.
    pub fn set_promote_fault(&self, fault: PromoteFault) {
        self.shared.lock().promote_fault = fault;
    }

    /// Maps and mounts an image as a workload of `side`.
    pub fn mount(&self, side: Side, name: &str) -> Result<Volume, MountError> {
        let mut state = self.shared.lock();
        if state.model.at(side).condition != Condition::Up || !state.model.at(side).osd_up {
            return Err(MountError::Away(side));
        }
        let (client, address) = state.model.new_client(side);
        let Some(image) = state.model.at_mut(side).images.get_mut(name) else {
            return Err(MountError::NoImage(name.to_owned()));
        };
        if !image.primary() {
            return Err(MountError::NotPrimary(name.to_owned()));
        }
        image.workloads = vec![Watcher { address, client, cookie: 1 }];
        if matches!(image.volume.disk(), Disk::ReadOnly(_)) {
            image.volume.set_disk(Disk::Sound);
        }
        Ok(image.volume.clone())
    }

    /// Ends a workload's hold on an image.
    pub fn unmount(&self, side: Side, name: &str) {
        if let Some(image) = self.shared.lock().model.at_mut(side).images.get_mut(name) {
            image.workloads.clear();
        }
    }

    /// Looks at an image as nobody in that world can: without asking a cluster.
    pub fn inspect<T>(&self, side: Side, name: &str, look: impl FnOnce(&Image) -> T) -> Option<T> {
        self.shared.lock().model.at(side).images.get(name).map(look)
    }

    /// Waits until an image at `side` satisfies `wanted`, looking each tick.
    pub async fn until(&self, side: Side, name: &str, wanted: impl Fn(&Image) -> bool) {
        while !self.inspect(side, name, &wanted).unwrap_or(false) {
            tokio::time::sleep(self.shared.timing.tick).await;
        }
    }

    /// Waits until `side` holds a complete copy of the newest snapshot of the other site.
    pub async fn until_in_step(&self, side: Side, name: &str) {
        loop {
            let newest = self.inspect(side.other(), name, |image| image.newest().map(|(snap, _)| snap.id));
            let copied = self.inspect(side, name, |image| {
                let complete = image.newest().filter(|(_, mirror)| mirror.complete);
                complete.map(|(_, mirror)| mirror.primary_snap_id)
            });
            if newest.flatten().is_some() && newest == copied {
                return;
            }
            tokio::time::sleep(self.shared.timing.tick).await;
        }
    }
}

async fn turns(shared: Arc<Shared>) {
    let mut tick = tokio::time::interval(shared.timing.tick);
    loop {
        tick.tick().await;
        let mut state = shared.lock();
        let hold = state.hold.clone();
        daemon::turn(&mut state.model, &shared.timing, &hold);
    }
}

async fn minutes(shared: Arc<Shared>) {
    for minute in 1.. {
        tokio::time::sleep(shared.timing.minute).await;
        daemon::scheduled(&mut shared.lock().model, &shared.timing, minute);
    }
}

fn cluster(side: Side, directory: &Path) -> io::Result<Cluster> {
    let (fsid, key) = (Uuid::new_v4().to_string(), Uuid::new_v4().simple().to_string());
    let (conf, keyring) = (directory.join(format!("{side}.conf")), directory.join(format!("{side}.keyring")));
    std::fs::write(&keyring, format!("[client.admin]\n\tkey = {key}\n"))?;
    std::fs::write(&conf, format!("[global]\nfsid = {fsid}\nkeyring = {}\n", keyring.display()))?;
    let admin = User { key, caps: Caps::Admin };
    Ok(Cluster {
        side,
        fsid,
        conf,
        mirror_uuid: Uuid::new_v4().to_string(),
        peer_mirror_uuid: String::new(),
        peer_uuid: Uuid::new_v4().to_string(),
        condition: Condition::Up,
        osd_up: true,
        mgr_up: true,
        users: BTreeMap::from([("admin".to_owned(), admin)]),
        images: BTreeMap::new(),
        daemon: Daemon {
            process: Process::Running,
            service_id: 0,
            instance_id: 0,
            address: String::new(),
            cookie: 0,
            blocklisted: None,
        },
        heard_own: None,
        heard_peer: None,
        blocklist: BTreeMap::new(),
        schedules: Vec::new(),
    })
}
