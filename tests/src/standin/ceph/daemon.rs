//! What happens in a pair of clusters by itself: mirroring, status reports, snapshot schedules.
//!
//! In: the model and the time. Out: one turn of everything, called again each tick. Start at [`turn`].

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::json;

use super::Timing;
use super::model::{Cluster, Condition, Image, MirrorState, Model, Process, Row, Snap};
use crate::standin::side::Side;
use crate::standin::volume::Volume;

/// Where a scenario wants a copy to stand still.
#[derive(Debug, Clone, Default)]
pub(super) struct Hold {
    pub(super) at_object: Option<u64>,
}

/// Lets both sites' daemons do what is due.
pub(super) fn turn(model: &mut Model, timing: &Timing, hold: &Hold) {
    for side in Side::BOTH {
        live(model, side, timing);
        if works(model.at(side)) {
            mirror(model, side, timing, hold);
            report(model, side, timing);
        }
    }
}

/// Takes the snapshots that the schedules want now.
pub(super) fn scheduled(model: &mut Model, timing: &Timing, minute: u64) {
    for side in Side::BOTH {
        let cluster = model.at_mut(side);
        if cluster.condition != Condition::Up || !cluster.mgr_up || !cluster.osd_up {
            continue;
        }
        let due: Vec<_> = cluster
            .schedules
            .iter()
            .filter(|schedule| minute.is_multiple_of(u64::from(schedule.minutes)))
            .cloned()
            .collect();
        let peer = cluster.peer_uuid.clone();
        for (name, image) in &mut cluster.images {
            let wanted = due.iter().any(|schedule| schedule.image.as_ref().is_none_or(|one| one == name));
            if wanted && image.primary() {
                image.snap_primary(MirrorState::Primary, &peer, timing.unwritten);
            }
        }
    }
}

fn works(cluster: &Cluster) -> bool {
    cluster.condition == Condition::Up
        && cluster.daemon.process != Process::Dead
        && cluster.daemon.blocklisted.is_none()
}

/// The life of one daemon: heartbeats, the end it was asked for, the way back from the blocklist.
fn live(model: &mut Model, side: Side, timing: &Timing) {
    let reach = model.peers_reach();
    if model.at(side).condition != Condition::Up {
        return;
    }
    // Told to end, it does not while its peer is away.
    if model.at(side).daemon.process == Process::Terminating && reach {
        model.at_mut(side).daemon.process = Process::Dead;
        model.at_mut(side).heard_own = None;
    }
    let blocked = model.at(side).is_blocked(&model.at(side).daemon.address);
    let cluster = model.at_mut(side);
    if blocked && cluster.daemon.blocklisted.is_none() {
        cluster.daemon.blocklisted = Some(Instant::now());
        cluster.heard_own = None;
    }
    let back = cluster.daemon.blocklisted.is_some_and(|since| since.elapsed() >= timing.daemon_returns);
    if back && reach && cluster.daemon.process == Process::Running {
        renew(model, side);
    }
    if works(model.at(side)) {
        model.at_mut(side).heard_own = Some(Instant::now());
        if reach {
            model.at_mut(side.other()).heard_peer = Some(Instant::now());
        }
    }
}

/// A new process or a new connection: another instance id, another nonce.
pub(super) fn renew(model: &mut Model, side: Side) {
    let (instance, address) = model.new_client(side);
    let daemon = &mut model.at_mut(side).daemon;
    daemon.process = Process::Running;
    daemon.blocklisted = None;
    daemon.service_id = instance - 2;
    daemon.instance_id = instance;
    daemon.cookie = 0x5600_0000_0000 + instance * 4096;
    daemon.address = address;
}

fn mirror(model: &mut Model, side: Side, timing: &Timing, hold: &Hold) {
    if !model.peers_reach() || !model.at(side.other()).osd_up || !model.at(side).osd_up {
        return;
    }
    let peer_uuid = model.at(side.other()).mirror_uuid.clone();
    let names: Vec<String> = model.at(side.other()).images.keys().cloned().collect();
    for name in names {
        create_copy(model, side, &name);
        finish_resync(model, side, &name, timing);
        let [own, peer] = model.clusters.get_disjoint_mut([side.index(), side.other().index()]).expect("two sites");
        let own_uuid = own.mirror_uuid.clone();
        let (Some(mine), Some(theirs)) = (own.images.get_mut(&name), peer.images.get_mut(&name)) else {
            continue;
        };
        if !mine.mirrored || !theirs.mirrored || mine.primary() {
            // The peer answers again: a forced promote is finished for the status text too.
            mine.force_promoted &= !mine.primary();
            continue;
        }
        mine.remote_seen = theirs.newest().map(|(snap, _)| snap.taken);
        mine.split_brain = diverged(mine, theirs, &own_uuid);
        if mine.split_brain || mine.resync.is_some() {
            continue;
        }
        if mine.sync.is_none()
            && let Some(next) = next_to_copy(mine, theirs, &peer_uuid)
        {
            mine.begin_sync(&next, &peer_uuid);
        }
        if let Some(done) = go_on(mine, timing, hold) {
            theirs.peer_has(done);
        }
    }
}

/// The peer has an image that is not here yet.
fn create_copy(model: &mut Model, side: Side, name: &str) {
    let theirs = &model.at(side.other()).images[name];
    if model.at(side).images.contains_key(name) || !theirs.mirrored || !theirs.primary() {
        return;
    }
    let (global_id, objects) = (theirs.global_id.clone(), theirs.objects);
    let (client, _) = model.new_client(side);
    let mut image = Image::new(format!("10{client:x}9ab46c"), global_id, objects, Volume::default());
    image.mirrored = true;
    model.at_mut(side).images.insert(name.to_owned(), image);
}

/// A flagged image is deleted and made anew by the next turn.
fn finish_resync(model: &mut Model, side: Side, name: &str, timing: &Timing) {
    let cluster = model.at_mut(side);
    let flagged = cluster.images.get(name).and_then(|image| image.resync);
    if flagged.is_some_and(|since| since.elapsed() >= timing.status_interval) {
        cluster.images.remove(name);
    }
}

/// Whether the peer went on from another point than this site's own last snapshot.
fn diverged(mine: &Image, theirs: &Image, own_uuid: &str) -> bool {
    match mine.newest() {
        Some((snap, mirror)) if mirror.state == MirrorState::Demoted => {
            theirs.primary() && theirs.based_on != Some((own_uuid.to_owned(), snap.id))
        }
        _ => false,
    }
}

/// The peer's snapshot that is to be copied: the one a stopped copy stood in, as long as the peer has
/// it, else the newest that is not here yet.
fn next_to_copy(mine: &Image, theirs: &Image, peer_uuid: &str) -> Option<Snap> {
    let copies = || {
        mine.mirror_snaps()
            .rev()
            .filter(|(_, mirror)| mirror.primary_mirror_uuid.as_deref() == Some(peer_uuid))
            .map(|(_, mirror)| mirror)
    };
    let half = copies().find(|mirror| !mirror.complete).map(|mirror| mirror.primary_snap_id);
    if let Some(half) = theirs.snaps.iter().find(|snap| Some(snap.id) == half) {
        return Some(half.clone());
    }
    let (newest, mirror) = theirs.newest()?;
    if !matches!(mirror.state, MirrorState::Primary | MirrorState::Demoted) {
        return None;
    }
    let have = copies().find(|mirror| mirror.complete).map(|mirror| mirror.primary_snap_id);
    (have < Some(newest.id)).then(|| newest.clone())
}

/// Copies as many objects as the time since the beginning allows. Returns the id of the peer's
/// snapshot when the copy is complete.
fn go_on(image: &mut Image, timing: &Timing, hold: &Hold) -> Option<u64> {
    let since = image.sync.as_ref()?.began.elapsed();
    let due = if since >= timing.sync {
        image.objects
    } else {
        let part = since.as_secs_f64() / timing.sync.as_secs_f64();
        // The truncation is what is wanted: whole objects.
        (part * image.objects as f64) as u64
    };
    let due = hold.at_object.map_or(due, |limit| due.min(limit));
    let source = image.newest().map(|(_, mirror)| mirror.primary_snap_id)?;
    image.copy_up_to(due).then_some(source)
}

/// Writes this site's row into both clusters, at once when its state changed, else each interval.
fn report(model: &mut Model, side: Side, timing: &Timing) {
    let reach = model.peers_reach();
    let names: Vec<String> = model.at(side).images.keys().cloned().collect();
    for name in names {
        let mine = &model.at(side).images[&name];
        if !mine.mirrored {
            continue;
        }
        let theirs = model.at(side.other()).images.get(&name);
        let (state, description) = words(mine, theirs, reach);
        let row = Row { state, description, last_update: Timestamp::now() };
        if let Some(image) = model.at_mut(side).images.get_mut(&name) {
            put(&mut image.own_row, row.clone(), timing.status_interval);
        }
        if let Some(image) = model.at_mut(side.other()).images.get_mut(&name).filter(|_| reach) {
            put(&mut image.peer_row, row, timing.status_interval);
        }
    }
}

fn put(place: &mut Option<Row>, row: Row, interval: Duration) {
    let head = |row: &Row| row.description.split(',').next().unwrap_or_default().to_owned();
    let old = place.as_ref().is_none_or(|old| {
        let age = row.last_update.duration_since(old.last_update);
        old.state != row.state || head(old) != head(&row) || age.unsigned_abs() >= interval
    });
    if old {
        *place = Some(row);
    }
}

fn words(mine: &Image, theirs: Option<&Image>, reach: bool) -> (&'static str, String) {
    if mine.split_brain {
        return ("error", "split-brain".to_owned());
    }
    if mine.primary() {
        return if mine.force_promoted {
            ("stopping_replay", "orphan (force promoting)".to_owned())
        } else {
            ("stopped", "local image is primary".to_owned())
        };
    }
    if mine.resync.is_some() {
        return ("stopped", "resync requested".to_owned());
    }
    let in_step = mine.newest().is_some_and(|(_, mirror)| mirror.complete);
    if reach && in_step && theirs.is_some_and(|theirs| !theirs.primary()) {
        return ("unknown", "remote image is not primary".to_owned());
    }
    ("replaying", format!("replaying, {}", progress(mine)))
}

/// The JSON in a replaying image's description. Its numbers are epochs of the primary's snapshots.
fn progress(mine: &Image) -> serde_json::Value {
    let time = |at: Timestamp| at.as_second();
    let complete = mine.mirror_snaps().rev().find(|(_, mirror)| mirror.complete);
    let mut words = json!({
        "bytes_per_second": 0.0, "bytes_per_snapshot": 0.0,
        "last_snapshot_bytes": 0, "last_snapshot_sync_seconds": 0,
        "replay_state": if mine.mid_sync() { "syncing" } else { "idle" },
    });
    if let Some((_, mirror)) = complete {
        words["local_snapshot_timestamp"] = json!(time(mirror.source_time));
    }
    if let Some(remote) = mine.remote_seen {
        words["remote_snapshot_timestamp"] = json!(time(remote));
    }
    if let Some((_, mirror)) = mine.newest().filter(|(_, mirror)| !mirror.complete) {
        words["seconds_until_synced"] = json!(0);
        words["syncing_percent"] = json!(mirror.last_copied_object * 100 / mine.objects.max(1));
        words["syncing_snapshot_timestamp"] = json!(time(mirror.source_time));
    }
    words
}
