//! The state of two Ceph clusters that mirror RBD images to each other by snapshots.
//!
//! In: transitions, each of them what one command or one turn of a daemon does. Out: the new state.
//! Nothing here waits; time is what the caller says it is. What is surprising was measured on
//! 16.2.15: a standby's mirror snapshot holds the content from *before* its sync, so a rollback lands
//! one generation earlier. Start at [`Image`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use uuid::Uuid;

use crate::standin::side::Side;
use crate::standin::volume::{Content, Disk, Volume};

/// The snapshot id of "no snapshot" (`CEPH_NOSNAP`), which an orphan carries as its source.
pub const NO_SNAP: u64 = u64::MAX - 1;
/// Bytes of one object; Ceph's default.
pub const OBJECT_SIZE: u64 = 4 << 20;

/// What a mirror snapshot says about its image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MirrorState {
    Primary,
    /// This site's own demotion.
    Demoted,
    /// A copy of a primary's snapshot.
    NonPrimary,
    /// A copy of the peer's demotion.
    NonPrimaryDemoted,
}

/// The mirroring part of a snapshot.
#[derive(Debug, Clone)]
pub struct Mirror {
    pub state: MirrorState,
    pub complete: bool,
    pub peer_uuids: Vec<String>,
    /// Whose snapshot this is a copy of; empty for an orphan.
    pub primary_mirror_uuid: Option<String>,
    pub primary_snap_id: u64,
    pub last_copied_object: u64,
    /// When the primary took the snapshot that this is a copy of.
    pub source_time: Timestamp,
}

/// One snapshot of an image.
#[derive(Debug, Clone)]
pub struct Snap {
    pub id: u64,
    pub name: String,
    pub taken: Timestamp,
    /// `None`: a user's snapshot.
    pub mirror: Option<Mirror>,
    pub content: Content,
}

/// A copy under way.
#[derive(Debug, Clone)]
pub struct Sync {
    pub source: Content,
    pub older: Content,
    pub began: Instant,
}

/// What one mirror daemon last said about an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub state: &'static str,
    pub description: String,
    pub last_update: Timestamp,
}

/// A client that has an image open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watcher {
    pub address: String,
    pub client: u64,
    pub cookie: u64,
}

/// One RBD image at one site.
pub struct Image {
    pub id: String,
    pub global_id: String,
    /// Mirroring is enabled.
    pub mirrored: bool,
    pub objects: u64,
    pub volume: Volume,
    pub snaps: Vec<Snap>,
    pub next_snap: u64,
    pub sync: Option<Sync>,
    /// What this site's daemon says of it, and what the peer's daemon pushed here.
    pub own_row: Option<Row>,
    pub peer_row: Option<Row>,
    /// A forced promote was done and the peer has not been reached since.
    pub force_promoted: bool,
    /// The peer's demotion that this image was promoted from: whose history goes on here.
    pub based_on: Option<(String, u64)>,
    pub split_brain: bool,
    /// Whoever mounted it.
    pub workloads: Vec<Watcher>,
    /// When the newest complete copy was finished.
    pub settled: Option<Instant>,
    /// The newest snapshot of the peer that this site's daemon knows of.
    pub remote_seen: Option<Timestamp>,
    /// Since when it is flagged for a resync.
    pub resync: Option<Instant>,
    pub created: Timestamp,
    pub written: Timestamp,
}

impl Image {
    pub fn new(id: String, global_id: String, objects: u64, volume: Volume) -> Self {
        Self {
            id,
            global_id,
            mirrored: false,
            objects,
            volume,
            snaps: Vec::new(),
            next_snap: 4,
            sync: None,
            own_row: None,
            peer_row: None,
            force_promoted: false,
            based_on: None,
            split_brain: false,
            workloads: Vec::new(),
            settled: None,
            remote_seen: None,
            resync: None,
            created: Timestamp::now(),
            written: Timestamp::now(),
        }
    }

    /// The mirror snapshots, oldest first.
    pub fn mirror_snaps(&self) -> impl DoubleEndedIterator<Item = (&Snap, &Mirror)> {
        self.snaps.iter().filter_map(|snap| Some((snap, snap.mirror.as_ref()?)))
    }

    pub fn newest(&self) -> Option<(&Snap, &Mirror)> {
        self.mirror_snaps().next_back()
    }

    /// `mirroring.primary` of `rbd info`: the truth about the role, at once.
    pub fn primary(&self) -> bool {
        self.newest().is_some_and(|(_, mirror)| mirror.state == MirrorState::Primary)
    }

    /// Whether the newest mirror snapshot is a half-made copy.
    pub fn mid_sync(&self) -> bool {
        self.newest().is_some_and(|(_, mirror)| !mirror.complete)
    }

    pub fn add_snap(&mut self, kind: &str, mirror: Mirror, content: Content) -> u64 {
        let name = format!(".mirror.{kind}.{}.{}", self.global_id, Uuid::new_v4());
        self.push_snap(name, Some(mirror), content)
    }

    pub fn push_snap(&mut self, name: String, mirror: Option<Mirror>, content: Content) -> u64 {
        let id = self.next_snap;
        self.next_snap += 1;
        self.snaps.push(Snap { id, name, taken: Timestamp::now(), mirror, content });
        id
    }

    /// A new snapshot of a primary's head, for `peer` to copy.
    pub fn snap_primary(&mut self, state: MirrorState, peer: &str, unwritten: Duration) -> u64 {
        let content = self.volume.read(|content| content.as_the_device_has_it(unwritten));
        let mirror = Mirror {
            state,
            complete: true,
            peer_uuids: vec![peer.to_owned()],
            primary_mirror_uuid: None,
            primary_snap_id: 0,
            last_copied_object: 0,
            source_time: Timestamp::now(),
        };
        self.add_snap("primary", mirror, content)
    }

    /// The snapshot without content that a forced promote begins with.
    pub fn snap_orphan(&mut self) {
        let mirror = Mirror {
            state: MirrorState::NonPrimary,
            complete: true,
            peer_uuids: Vec::new(),
            primary_mirror_uuid: Some(String::new()),
            primary_snap_id: NO_SNAP,
            last_copied_object: 0,
            source_time: Timestamp::now(),
        };
        let head = self.volume.content();
        self.add_snap("non_primary", mirror, head);
    }

    /// Begins to copy `source`, a snapshot of the peer's.
    pub fn begin_sync(&mut self, source: &Snap, peer_mirror_uuid: &str) {
        let Some(theirs) = &source.mirror else { return };
        let state = match theirs.state {
            MirrorState::Demoted => MirrorState::NonPrimaryDemoted,
            _ => MirrorState::NonPrimary,
        };
        let older = match self.half_copy_of(source.id) {
            Some(older) => older,
            None => self.volume.content(),
        };
        // What is left of another copy that was stopped is of no use.
        self.snaps.retain(|snap| snap.mirror.as_ref().is_none_or(|mirror| mirror.complete));
        let mirror = Mirror {
            state,
            complete: false,
            peer_uuids: Vec::new(),
            primary_mirror_uuid: Some(peer_mirror_uuid.to_owned()),
            primary_snap_id: source.id,
            last_copied_object: 0,
            source_time: source.taken,
        };
        // Taken before the first byte is copied: it will hold the generation before this one.
        self.add_snap("non_primary", mirror, older.clone());
        self.sync = Some(Sync { source: source.content.clone(), older, began: Instant::now() });
    }

    /// The content from before a stopped copy of the peer's snapshot `id`.
    fn half_copy_of(&self, id: u64) -> Option<Content> {
        let (snap, _) = self.newest().filter(|(_, mirror)| !mirror.complete && mirror.primary_snap_id == id)?;
        Some(snap.content.clone())
    }

    /// Copies up to `objects` of all objects; true when that was the last one.
    pub fn copy_up_to(&mut self, objects: u64) -> bool {
        let (all, Some(sync)) = (self.objects, self.sync.clone()) else { return false };
        let copied = objects.min(all);
        let parts = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        let head = if copied == all {
            sync.source
        } else {
            Content::mixture(&sync.older, &sync.source, parts(copied), parts(all))
        };
        self.volume.write(|content| *content = head);
        let mirror = self.snaps.iter_mut().rev().find_map(|snap| snap.mirror.as_mut());
        let Some(mirror) = mirror else { return false };
        mirror.last_copied_object = copied;
        if copied < all {
            return false;
        }
        mirror.complete = true;
        self.sync = None;
        self.settled = Some(Instant::now());
        self.drop_older_copies();
        true
    }

    fn drop_older_copies(&mut self) {
        let Some(newest) = self.newest().map(|(snap, _)| snap.id) else { return };
        self.snaps.retain(|snap| {
            let copy = snap
                .mirror
                .as_ref()
                .is_some_and(|mirror| matches!(mirror.state, MirrorState::NonPrimary | MirrorState::NonPrimaryDemoted));
            !copy || snap.id == newest
        });
    }

    /// The peer has copied `id`: what came before is no longer needed.
    pub fn peer_has(&mut self, id: u64) {
        self.snaps.retain(|snap| match &snap.mirror {
            Some(mirror) => snap.id >= id || !mirror.peer_uuids.is_empty() || mirror.state != MirrorState::Primary,
            None => true,
        });
        for snap in self.snaps.iter_mut().filter(|snap| snap.id < id) {
            if let Some(mirror) = &mut snap.mirror {
                mirror.peer_uuids.clear();
            }
        }
    }

    /// What a forced promote would roll the head back to: the newest complete copy, when the newest
    /// of all is incomplete. An orphan on top hides that, and nothing is rolled back.
    pub fn rollback(&self) -> Option<Content> {
        if !self.mid_sync() {
            return None;
        }
        let complete = self.mirror_snaps().rev().find(|(_, mirror)| mirror.complete);
        complete.map(|(snap, _)| snap.content.clone())
    }

    /// Ends a copy where it stands: what is half copied stays so.
    pub fn stop_copying(&mut self) {
        self.sync = None;
    }

    /// Makes it primary. The copies of the peer's snapshots go.
    pub fn promote(&mut self, peer: &str, rollback: Option<Content>, force: bool) {
        if let Some(content) = rollback {
            self.volume.write(|head| *head = content);
        }
        self.based_on = self.newest().filter(|_| !force).and_then(|(_, mirror)| {
            let demoted = mirror.state == MirrorState::NonPrimaryDemoted;
            demoted.then(|| (mirror.primary_mirror_uuid.clone().unwrap_or_default(), mirror.primary_snap_id))
        });
        self.sync = None;
        self.force_promoted = force;
        self.split_brain = false;
        self.volume.set_disk(Disk::Sound);
        self.snap_primary(MirrorState::Primary, peer, Duration::ZERO);
        self.snaps.retain(|snap| {
            let copy = snap.mirror.as_ref().map(|mirror| mirror.state);
            !matches!(copy, Some(MirrorState::NonPrimary | MirrorState::NonPrimaryDemoted))
        });
        self.written = Timestamp::now();
    }

    /// Makes it non-primary: the last snapshot that the peer will copy. Whoever had it mounted gets
    /// write errors from now on.
    pub fn demote(&mut self, peer: &str) {
        self.snap_primary(MirrorState::Demoted, peer, Duration::ZERO);
        self.force_promoted = false;
        if !self.workloads.is_empty() {
            self.volume.set_disk(Disk::ReadOnly(Instant::now()));
        }
    }
}

/// Whether a daemon's process is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Process {
    Running,
    /// Told to end; it does not while its peer is away.
    Terminating,
    Dead,
}

/// The rbd-mirror of one site.
#[derive(Debug, Clone)]
pub struct Daemon {
    pub process: Process,
    pub service_id: u64,
    /// Also the `client` number of its watch on each image.
    pub instance_id: u64,
    /// As `rbd status` shows it: address, port and the nonce of one process.
    pub address: String,
    pub cookie: u64,
    /// Cut off by the blocklist, since then; it comes back under another instance id.
    pub blocklisted: Option<Instant>,
}

/// What an identity may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caps {
    Admin,
    /// `profile rbd`, `allow r` on the monitor, and the right to take addresses off the blocklist again, which the profile
    /// lacks: everything an agent needs.
    Agent,
    /// `profile rbd` alone: services and daemons are hidden from it.
    AgentWithoutMonRead,
    /// `profile rbd-read-only`.
    ReadOnly,
}

/// An identity of a cluster.
#[derive(Clone)]
pub struct User {
    pub key: String,
    pub caps: Caps,
}

/// What is wrong with a whole cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    Up,
    /// Every process killed, or every process stopped: to a client both are silence.
    Away,
}

/// A snapshot schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// `None`: for the whole pool.
    pub image: Option<String>,
    pub minutes: u32,
}

/// One Ceph cluster.
pub struct Cluster {
    pub side: Side,
    pub fsid: String,
    pub conf: PathBuf,
    pub mirror_uuid: String,
    pub peer_mirror_uuid: String,
    /// The id under which this cluster keeps its peer.
    pub peer_uuid: String,
    pub condition: Condition,
    pub osd_up: bool,
    pub mgr_up: bool,
    pub users: BTreeMap<String, User>,
    pub images: BTreeMap<String, Image>,
    pub daemon: Daemon,
    /// When this cluster last heard from its own daemon, and from the peer's.
    pub heard_own: Option<Instant>,
    pub heard_peer: Option<Instant>,
    pub blocklist: BTreeMap<String, Timestamp>,
    pub schedules: Vec<Schedule>,
}

impl Cluster {
    /// The watchers of an image as `rbd status` lists them.
    pub fn watchers(&self, image: &Image, watch: Duration) -> Vec<Watcher> {
        let mirror = self.daemon_watches(image, watch).then(|| Watcher {
            address: self.daemon.address.clone(),
            client: self.daemon.instance_id,
            cookie: self.daemon.cookie,
        });
        let reader = self.peer_watches(image, watch).then(|| Watcher {
            address: self.daemon.address.clone() + "1",
            client: self.daemon.instance_id + 1,
            cookie: self.daemon.cookie + 1,
        });
        mirror.into_iter().chain(reader).chain(image.workloads.iter().cloned()).collect()
    }

    /// Whether the other site's daemon, which reads what it copies here, holds a watch on the image.
    fn peer_watches(&self, image: &Image, watch: Duration) -> bool {
        self.heard_peer.is_some_and(|heard| heard.elapsed() < watch) && image.mirrored && image.primary()
    }

    /// Whether the mirror daemon holds a watch on a replayed image: until it lets go, is cut off by
    /// the blocklist, or has been silent for `watch`.
    pub fn daemon_watches(&self, image: &Image, watch: Duration) -> bool {
        let heard = self.heard_own.is_some_and(|heard| heard.elapsed() < watch);
        heard && self.daemon.blocklisted.is_none() && image.mirrored && !image.primary()
    }

    pub fn is_blocked(&self, address: &str) -> bool {
        let now = Timestamp::now();
        self.blocklist.iter().any(|(blocked, until)| blocked == address && *until > now)
    }
}

/// Both clusters.
pub struct Model {
    pub pool: String,
    pub clusters: [Cluster; 2],
    /// The mirror daemons cannot reach the other cluster.
    pub link_cut: bool,
    pub next_client: u64,
}

impl Model {
    pub fn at(&self, side: Side) -> &Cluster {
        &self.clusters[side.index()]
    }

    pub fn at_mut(&mut self, side: Side) -> &mut Cluster {
        &mut self.clusters[side.index()]
    }

    /// Whether the daemon of one site reaches the cluster of the other.
    pub fn peers_reach(&self) -> bool {
        !self.link_cut && self.clusters.iter().all(|cluster| cluster.condition == Condition::Up)
    }

    /// A client number that nobody had before, and the address of its process.
    pub fn new_client(&mut self, side: Side) -> (u64, String) {
        self.next_client += 7;
        let nonce = self.next_client.wrapping_mul(2_654_435_761) % 4_294_967_291;
        (self.next_client, format!("127.0.0.{}:0/{nonce}", 2 + side.index()))
    }
}
