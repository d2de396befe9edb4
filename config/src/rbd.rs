//! What `rbd … --format json` and `ceph … --format json` say, as types.
//!
//! In: the bytes that a program printed. Out: a value, or [`Unreadable`]. Nothing is run here: probes and steps run the
//! programs and read what they said with the same functions. Keys that we do not use may come and go with versions of
//! Ceph; a key that we use and that is missing or of another kind is an error, never a default. Start reading at [`facts`].

use serde::Deserialize;
use serde::de::DeserializeOwned;
use understudy_core::{ImageFacts, ImageName};

/// An answer that is not what it should be: another version of Ceph, or no Ceph at all.
#[derive(Debug, thiserror::Error)]
#[error("failed to read the answer of {what}: {why}")]
pub struct Unreadable {
    /// Whose answer.
    pub what: &'static str,
    /// What is wrong with it.
    pub why: String,
}

fn parse<T: DeserializeOwned>(what: &'static str, json: &[u8]) -> Result<T, Unreadable> {
    let unreadable = |why: String| Unreadable { what, why: brief(&why) };
    // Of a key that is not used serde_json skips the bytes, whatever they are.
    let json = std::str::from_utf8(json).map_err(|error| unreadable(error.to_string()))?;
    serde_json::from_str(json).map_err(|error| unreadable(error.to_string()))
}

/// More of what a program printed is of no use in a message.
const LONGEST_WHY: usize = 200;

/// The beginning of `why`: an error about a text repeats it whole.
fn brief(why: &str) -> String {
    why.chars().take(LONGEST_WHY).collect()
}

/// An image, by `rbd info`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// Objects in all.
    pub objects: u64,
    /// The image has the feature `non-primary`: nothing may be written to it, whatever its role is called.
    pub non_primary: bool,
    /// None where mirroring is off.
    pub mirroring: Option<Mirroring>,
}

/// The mirroring part of `rbd info`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Mirroring {
    /// `snapshot` or `journal`.
    pub mode: String,
    /// `enabled`, or on the way there or away.
    pub state: String,
    /// The name that the image has at both sites.
    pub global_id: String,
    /// The only firm word about the role.
    pub primary: bool,
}

/// Reads `rbd info POOL/IMAGE`.
///
/// # Errors
/// [`Unreadable`].
pub fn info(json: &[u8]) -> Result<Info, Unreadable> {
    #[derive(Deserialize)]
    struct Raw {
        objects: u64,
        features: Vec<String>,
        mirroring: Option<Mirroring>,
    }
    let raw: Raw = parse("rbd info", json)?;
    let non_primary = raw.features.iter().any(|feature| feature == "non-primary");
    Ok(Info { objects: raw.objects, non_primary, mirroring: raw.mirroring })
}

/// A snapshot, by `rbd snap ls --all`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its number in this cluster.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// What it is to mirroring; none for one that a user took.
    pub mirror: Option<MirrorSnapshot>,
}

/// What a snapshot is to mirroring.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct MirrorSnapshot {
    /// Its kind.
    pub state: MirrorState,
    /// Whether all of it is here.
    pub complete: bool,
    /// Whose snapshot it copies; empty for our own and for the mark of an unfinished forced promote.
    #[serde(default)]
    pub primary_mirror_uuid: String,
    /// The number of the copied snapshot in the primary's cluster.
    #[serde(default)]
    pub primary_snap_id: Option<u64>,
    /// How many objects are copied.
    #[serde(default)]
    pub last_copied_object_number: Option<u64>,
}

/// The kind of a mirror snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MirrorState {
    /// Taken here, as the primary.
    Primary,
    /// Of a demotion: our own if it copies nobody's, else the peer's.
    Demoted,
    /// A copy of a primary's snapshot.
    NonPrimary,
}

impl MirrorSnapshot {
    /// Whether it copies a snapshot of the peer.
    #[must_use]
    pub fn is_copy(&self) -> bool {
        !self.primary_mirror_uuid.is_empty()
    }

    /// Whether it is the mark that a forced promote leaves until it is finished.
    #[must_use]
    pub fn is_orphan(&self) -> bool {
        !self.is_copy() && self.state == MirrorState::NonPrimary
    }
}

/// Reads `rbd snap ls --all POOL/IMAGE`; the oldest comes first.
///
/// # Errors
/// [`Unreadable`].
pub fn snapshots(json: &[u8]) -> Result<Vec<Snapshot>, Unreadable> {
    const WHAT: &str = "rbd snap ls --all";
    #[derive(Deserialize)]
    struct Raw {
        id: u64,
        name: String,
        namespace: serde_json::Value,
    }
    let mut snapshots = Vec::new();
    for Raw { id, name, namespace } in parse::<Vec<Raw>>(WHAT, json)? {
        let unreadable = |why: String| Unreadable { what: WHAT, why: format!("snapshot {id}: {why}") };
        let kind = namespace.get("type").and_then(|kind| kind.as_str()).map(str::to_owned);
        let mirror = match kind.as_deref() {
            Some("mirror") => {
                Some(serde_json::from_value(namespace).map_err(|error| unreadable(brief(&error.to_string())))?)
            }
            Some(_) => None,
            None => return Err(unreadable("its namespace has no type".into())),
        };
        snapshots.push(Snapshot { id, name, mirror });
    }
    snapshots.sort_by_key(|snapshot| snapshot.id);
    Ok(snapshots)
}

/// An image, by `rbd mirror image status`.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageStatus {
    /// Such as `up+replaying`. It says nothing of whether the primary lives.
    pub state: String,
    /// In words.
    pub description: String,
    /// How far the replay is, where the description tells.
    pub replay: Option<Replay>,
    /// The RADOS client of the daemon that mirrors the image, once it is known.
    pub instance_id: Option<u64>,
    /// The daemon of another site runs and says that the image is primary there.
    pub peer_primary: bool,
}

/// How far the replay of an image is, by the description in its status. Lags behind by up to 30 s.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Replay {
    /// `idle` or `syncing`.
    pub replay_state: String,
    /// The primary's time of the newest snapshot that is here whole, in seconds since the Unix epoch. Missing = nothing is
    /// known to be here since the daemon began to replay.
    #[serde(default)]
    pub local_snapshot_timestamp: Option<i64>,
    /// The primary's time of its newest snapshot, in seconds since the Unix epoch.
    #[serde(default)]
    pub remote_snapshot_timestamp: Option<i64>,
    /// How much of the sync under way is done.
    #[serde(default)]
    pub syncing_percent: Option<f64>,
}

/// Reads `rbd mirror image status POOL/IMAGE`.
///
/// # Errors
/// [`Unreadable`].
pub fn image_status(json: &[u8]) -> Result<ImageStatus, Unreadable> {
    const WHAT: &str = "rbd mirror image status";
    #[derive(Deserialize)]
    struct Raw {
        state: String,
        description: String,
        daemon_service: Option<RawService>,
        #[serde(default)]
        peer_sites: Vec<RawPeer>,
    }
    let raw: Raw = parse(WHAT, json)?;
    let peer_primary = raw.peer_sites.iter().any(RawPeer::is_primary);
    let instance_id = raw.daemon_service.map(|service| service.instance(WHAT)).transpose()?.flatten();
    let replay = match raw.description.strip_prefix("replaying, ") {
        None => None,
        Some(text) => Some(parse(WHAT, text.as_bytes())?),
    };
    Ok(ImageStatus { state: raw.state, description: raw.description, replay, instance_id, peer_primary })
}

#[derive(Deserialize)]
struct RawPeer {
    state: String,
    description: String,
}

impl RawPeer {
    /// `down+…` is what was known of a daemon that is silent now.
    fn is_primary(&self) -> bool {
        self.state.starts_with("up+") && self.description == "local image is primary"
    }
}

#[derive(Deserialize)]
struct RawService {
    instance_id: String,
}

impl RawService {
    /// None: the daemon is listed, and has not yet told its number, as right after its start.
    fn instance(&self, what: &'static str) -> Result<Option<u64>, Unreadable> {
        if self.instance_id.is_empty() {
            return Ok(None);
        }
        let why = || format!("instance_id {:?} is no number", brief(&self.instance_id));
        self.instance_id.parse().map(Some).map_err(|_| Unreadable { what, why: why() })
    }
}

/// A pool, by `rbd mirror pool status --verbose`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolStatus {
    /// `OK`, `WARNING`, `ERROR`, or `UNKNOWN` where the monitor may not be asked.
    pub daemon_health: String,
    /// The RADOS client of each rbd-mirror of this site. Empty also where the rights to see them are missing.
    pub instance_ids: Vec<u64>,
}

/// Reads `rbd mirror pool status POOL --verbose`.
///
/// # Errors
/// [`Unreadable`].
pub fn pool_status(json: &[u8]) -> Result<PoolStatus, Unreadable> {
    const WHAT: &str = "rbd mirror pool status --verbose";
    #[derive(Deserialize)]
    struct Raw {
        summary: Summary,
        #[serde(default)]
        daemons: Vec<RawService>,
    }
    #[derive(Deserialize)]
    struct Summary {
        daemon_health: String,
    }
    let raw: Raw = parse(WHAT, json)?;
    let told = raw.daemons.iter().filter_map(|daemon| daemon.instance(WHAT).transpose());
    let instance_ids = told.collect::<Result<_, _>>()?;
    Ok(PoolStatus { daemon_health: raw.summary.daemon_health, instance_ids })
}

/// A client that has an image open for writing, by `rbd status`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Watcher {
    /// `ADDRESS:PORT/NONCE`: one process.
    pub address: String,
    /// Its RADOS client: the `instance_id`, if it is an rbd-mirror.
    pub client: u64,
}

/// Reads `rbd status POOL/IMAGE`.
///
/// # Errors
/// [`Unreadable`].
pub fn watchers(json: &[u8]) -> Result<Vec<Watcher>, Unreadable> {
    #[derive(Deserialize)]
    struct Raw {
        watchers: Vec<Watcher>,
    }
    Ok(parse::<Raw>("rbd status", json)?.watchers)
}

/// Reads the intervals of `rbd mirror snapshot schedule ls --pool POOL --image IMAGE`.
///
/// # Errors
/// [`Unreadable`].
pub fn schedule(json: &[u8]) -> Result<Vec<String>, Unreadable> {
    #[derive(Deserialize)]
    struct Raw {
        interval: String,
    }
    let items: Vec<Raw> = parse("rbd mirror snapshot schedule ls", json)?;
    Ok(items.into_iter().map(|item| item.interval).collect())
}

/// Reads the addresses of `ceph osd blocklist ls`. Ceph 16 prints a second, empty list behind the list.
///
/// # Errors
/// [`Unreadable`].
pub fn blocklist(json: &[u8]) -> Result<Vec<String>, Unreadable> {
    const WHAT: &str = "ceph osd blocklist ls";
    #[derive(Deserialize)]
    struct Raw {
        addr: String,
    }
    let unreadable = |why: String| Unreadable { what: WHAT, why };
    let json = std::str::from_utf8(json).map_err(|error| unreadable(error.to_string()))?;
    let lists: Result<Vec<_>, _> = serde_json::Deserializer::from_str(json).into_iter::<Vec<Raw>>().collect();
    let mut lists = lists.map_err(|error| unreadable(brief(&error.to_string())))?.into_iter();
    let first = lists.next().ok_or_else(|| unreadable("it is empty".into()))?;
    if lists.any(|list| !list.is_empty()) {
        return Err(unreadable("a second list follows the first".into()));
    }
    Ok(first.into_iter().map(|entry| entry.addr).collect())
}

/// What one look at an image of B says. `status` must have been read first and `snapshots` last, so that the time in the
/// status is never later than the truth.
///
/// # Errors
/// [`Unreadable`] if the image is not mirrored by snapshots.
pub fn facts(
    image: &ImageName,
    status: Option<&ImageStatus>,
    info: &Info,
    snapshots: &[Snapshot],
) -> Result<ImageFacts, Unreadable> {
    let mirroring = mirrored_by_snapshots(image, info)?;
    let copies = copies(snapshots);
    let copied = |complete| copies.iter().rev().find(|copy| copy.is_copy() && copy.complete == complete);
    let newest_complete = copied(true).and_then(|copy| copy.primary_snap_id);
    // A sync under way is always of the newest one.
    let last = copies.iter().rev().find(|copy| copy.is_copy());
    let syncing = last.filter(|copy| !copy.complete);
    let source_time_s =
        status.and_then(|status| status.replay.as_ref()).and_then(|replay| replay.local_snapshot_timestamp);
    Ok(ImageFacts {
        image: image.clone(),
        primary: mirroring.primary,
        newest_complete,
        syncing: syncing.and_then(|copy| copy.primary_snap_id),
        progress: syncing.and_then(|copy| copy.last_copied_object_number).map(|copied| (copied, info.objects)),
        source_time_ms: newest_complete.and(source_time_s).map(|seconds| seconds.saturating_mul(1000)),
        orphan: copies.iter().any(|copy| copy.is_orphan()),
        peer_primary: status.is_some_and(|status| status.peer_primary),
    })
}

/// The mirroring of an image that is mirrored by snapshots.
///
/// # Errors
/// [`Unreadable`] if it is not mirrored at all, or by a journal.
pub fn mirrored_by_snapshots<'a>(image: &ImageName, info: &'a Info) -> Result<&'a Mirroring, Unreadable> {
    let unreadable = |why| Unreadable { what: "rbd info", why };
    let mirroring = info.mirroring.as_ref().ok_or_else(|| {
        unreadable(format!(
            "{image} is not mirrored; enable it at the primary: rbd mirror image enable {image} snapshot"
        ))
    })?;
    if mirroring.mode != "snapshot" {
        return Err(unreadable(format!(
            "{image} is mirrored by {:.40}, and only snapshots are understood",
            mirroring.mode
        )));
    }
    Ok(mirroring)
}

/// What was copied since the image was last primary here. Older snapshots say nothing of what the head holds now.
fn copies(snapshots: &[Snapshot]) -> Vec<&MirrorSnapshot> {
    let mirror: Vec<&MirrorSnapshot> = snapshots.iter().filter_map(|snapshot| snapshot.mirror.as_ref()).collect();
    let own = |snapshot: &&MirrorSnapshot| !snapshot.is_copy() && !snapshot.is_orphan();
    let since = mirror.iter().rposition(own).map_or(0, |last| last + 1);
    mirror[since..].to_vec()
}

#[cfg(test)]
mod tests;
