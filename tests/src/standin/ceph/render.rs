//! Prints the state of a cluster as `rbd` and `ceph` do with `--format json`.
//!
//! In: a [`View`] of one cluster. Out: JSON with the keys and the quirks of 16.2.15. The plain form is
//! close to the real one where people read it and is not meant for machines.

use std::fmt::Write;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::Timing;
use super::model::{Cluster, Image, MirrorState, OBJECT_SIZE, Row, Schedule};
use crate::standin::side::Side;

/// What one identity sees of one cluster.
pub(super) struct View<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) pool: &'a str,
    pub(super) timing: &'a Timing,
    /// Whether the services, and so the daemons, can be asked for.
    pub(super) services: bool,
}

fn long_date(at: Timestamp) -> String {
    at.strftime("%a %b %e %H:%M:%S %Y").to_string()
}

fn short_date(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

fn within(heard: Option<Instant>, limit: Duration) -> bool {
    heard.is_some_and(|heard| heard.elapsed() < limit)
}

pub(super) fn info(_view: &View<'_>, image: &Image) -> Value {
    let mut features = vec!["layering", "exclusive-lock", "object-map", "fast-diff", "deep-flatten"];
    if image.mirrored && !image.primary() {
        features.push("non-primary");
    }
    let mut info = json!({
        "name": "", "id": image.id, "size": image.objects * OBJECT_SIZE, "objects": image.objects,
        "order": 22, "object_size": OBJECT_SIZE, "snapshot_count": image.snaps.len(),
        "block_name_prefix": format!("rbd_data.{}", image.id), "format": 2,
        "features": features, "op_features": [], "flags": [],
        "create_timestamp": long_date(image.created),
        "access_timestamp": long_date(image.created),
        "modify_timestamp": long_date(image.written),
    });
    if image.mirrored {
        info["mirroring"] = json!({
            "mode": "snapshot", "state": "enabled",
            "global_id": image.global_id, "primary": image.primary(),
        });
    }
    info
}

pub(super) fn watchers(view: &View<'_>, image: &Image) -> Value {
    let watchers: Vec<Value> = view
        .cluster
        .watchers(image, view.timing.watch)
        .into_iter()
        .map(|watcher| json!({ "address": watcher.address, "client": watcher.client, "cookie": watcher.cookie }))
        .collect();
    json!({ "watchers": watchers })
}

pub(super) fn snaps(image: &Image, all: bool) -> Value {
    image
        .snaps
        .iter()
        .filter(|snap| all || snap.mirror.is_none())
        .map(|snap| {
            let mut one = json!({
                "id": snap.id, "name": snap.name, "size": image.objects * OBJECT_SIZE,
                "protected": "false", "timestamp": long_date(snap.taken),
            });
            if all {
                one["namespace"] = match &snap.mirror {
                    None => json!({ "type": "user" }),
                    Some(mirror) => namespace(mirror),
                };
            }
            one
        })
        .collect()
}

fn namespace(mirror: &super::model::Mirror) -> Value {
    let state = match mirror.state {
        MirrorState::Primary => "primary",
        MirrorState::Demoted | MirrorState::NonPrimaryDemoted => "demoted",
        MirrorState::NonPrimary => "non-primary",
    };
    let mut namespace = json!({
        "type": "mirror", "state": state,
        "mirror_peer_uuids": mirror.peer_uuids, "complete": mirror.complete,
    });
    if let Some(uuid) = &mirror.primary_mirror_uuid {
        namespace["primary_mirror_uuid"] = json!(uuid);
        namespace["primary_snap_id"] = json!(mirror.primary_snap_id);
        namespace["last_copied_object_number"] = json!(mirror.last_copied_object);
    }
    namespace
}

/// What an OSD read returns: one line for each file with its digest.
pub(super) fn bytes(image: &Image) -> String {
    image.volume.read(|content| {
        content.artifacts.iter().fold(String::new(), |mut text, (path, artifact)| {
            let digest = artifact.bytes.as_ref().map_or("gone", |_| artifact.digests.sha256.as_str());
            writeln!(text, "{path} {digest}").expect("writing to a string does not fail");
            text
        })
    })
}

fn row(row: Option<&Row>, alive: bool) -> (String, String, String) {
    match row {
        Some(row) => {
            let up = if alive { "up" } else { "down" };
            (format!("{up}+{}", row.state), row.description.clone(), short_date(row.last_update))
        }
        None => ("down+unknown".to_owned(), "status not found".to_owned(), String::new()),
    }
}

fn own_alive(view: &View<'_>) -> bool {
    within(view.cluster.heard_own, view.timing.watch)
}

fn peer_alive(view: &View<'_>) -> bool {
    within(view.cluster.heard_peer, view.timing.watch)
}

/// The mirror uuid of the peer is known to this cluster by the rows it pushes; here by the caller.
pub(super) fn status(view: &View<'_>, name: &str, image: &Image) -> Value {
    let (state, description, last_update) = row(image.own_row.as_ref(), own_alive(view));
    let mut status = json!({
        "name": name, "global_id": image.global_id,
        "state": state, "description": description, "last_update": last_update,
    });
    if view.services && own_alive(view) {
        let daemon = &view.cluster.daemon;
        status["daemon_service"] = json!({
            "service_id": daemon.service_id.to_string(),
            "instance_id": daemon.instance_id.to_string(),
            "daemon_id": view.cluster.side.name(), "hostname": "vm",
        });
    }
    let (state, description, last_update) = row(image.peer_row.as_ref(), peer_alive(view));
    status["peer_sites"] = json!([{
        "site_name": site_name(view.cluster.side.other()),
        "mirror_uuids": view.cluster.peer_mirror_uuid,
        "state": state, "description": description, "last_update": last_update,
    }]);
    if image.primary() {
        status["snapshots"] = own_snapshots(image);
    }
    status
}

fn own_snapshots(image: &Image) -> Value {
    image
        .mirror_snaps()
        .filter(|(_, mirror)| matches!(mirror.state, MirrorState::Primary | MirrorState::Demoted))
        .map(|(snap, mirror)| {
            json!({
                "id": snap.id, "name": snap.name,
                "demoted": mirror.state == MirrorState::Demoted,
                "mirror_peer_uuids": mirror.peer_uuids,
            })
        })
        .collect()
}

fn site_name(side: Side) -> String {
    format!("site-{side}")
}

pub(super) fn pool_info(view: &View<'_>) -> Value {
    json!({
        "mode": "image", "site_name": site_name(view.cluster.side),
        "peers": [{
            "uuid": view.cluster.peer_uuid, "direction": "rx-tx",
            "site_name": site_name(view.cluster.side.other()),
            "mirror_uuid": view.cluster.peer_mirror_uuid,
            "client_name": "client.rbd-mirror-peer",
        }],
    })
}

/// What one image counts as in the summary: the worse of both rows, as the fixtures show it.
fn counted(view: &View<'_>, image: &Image) -> &'static str {
    let own = image.own_row.as_ref().map(|row| row.state);
    let peer = image.peer_row.as_ref().map(|row| row.state);
    if own == Some("error") || peer == Some("error") {
        return "error";
    }
    // The row of whoever is not primary tells how the copy is; a primary's row says nothing of it.
    let (state, alive) = match (own, peer) {
        (Some("stopped"), Some("stopped")) => return "stopped",
        (Some("stopped"), Some(peer)) => (peer, peer_alive(view)),
        (Some(own), Some(_)) => (own, own_alive(view) && peer_alive(view)),
        (Some(own), None) => (own, false),
        (None, _) => ("unknown", false),
    };
    match state {
        "replaying" if alive => "replaying",
        "stopped" if alive => "stopped",
        _ => "unknown",
    }
}

pub(super) fn pool_status(view: &View<'_>, verbose: bool) -> Value {
    let mut states = serde_json::Map::new();
    for image in view.cluster.images.values().filter(|image| image.mirrored) {
        let count = states.entry(counted(view, image)).or_insert(json!(0));
        *count = json!(count.as_u64().unwrap_or(0) + 1);
    }
    let image_health = if states.contains_key("error") {
        "ERROR"
    } else if states.contains_key("unknown") {
        "WARNING"
    } else {
        "OK"
    };
    let listed = view.services && service_listed(view);
    let daemon_health = if listed { "OK" } else { "UNKNOWN" };
    let health = match (image_health, daemon_health) {
        ("OK", "OK") => "OK",
        ("OK", other) => other,
        (worse, _) => worse,
    };
    let mut status = json!({ "summary": {
        "health": health, "daemon_health": daemon_health,
        "image_health": image_health, "states": states,
    }});
    if verbose {
        status["daemons"] = if listed { json!([daemon(view)]) } else { json!([]) };
        status["images"] = view
            .cluster
            .images
            .iter()
            .filter(|(_, image)| image.mirrored)
            .map(|(name, image)| {
                let mut one = self::status(view, name, image);
                one.as_object_mut().map(|one| one.remove("snapshots"));
                one
            })
            .collect();
    }
    status
}

/// A dead daemon stays listed for a while after its watches are gone.
fn service_listed(view: &View<'_>) -> bool {
    within(view.cluster.heard_own, view.timing.service)
}

fn daemon(view: &View<'_>) -> Value {
    let daemon = &view.cluster.daemon;
    json!({
        "service_id": daemon.service_id.to_string(), "instance_id": daemon.instance_id.to_string(),
        "client_id": view.cluster.side.name(), "hostname": "vm", "ceph_version": "16.2.15",
        "leader": true, "health": "OK",
    })
}

pub(super) fn schedules(view: &View<'_>) -> Value {
    view.cluster
        .schedules
        .iter()
        .map(|schedule| {
            json!({
                "pool": view.pool, "namespace": "", "image": schedule.image.as_deref().unwrap_or(""),
                "items": [interval(schedule)],
            })
        })
        .collect()
}

/// One entry of a level's own list.
pub(super) fn interval(schedule: &Schedule) -> Value {
    json!({ "interval": format!("{}m", schedule.minutes), "start_time": "" })
}

pub(super) fn schedule_status(view: &View<'_>) -> Value {
    let next = Timestamp::now() + view.timing.minute;
    let wanted = |name: &str| {
        view.cluster.schedules.iter().any(|schedule| schedule.image.as_deref().is_none_or(|image| image == name))
    };
    view.cluster
        .images
        .iter()
        .filter(|(name, image)| image.primary() && wanted(name))
        .map(|(name, _)| json!({ "schedule_time": short_date(next), "image": format!("{}/{name}", view.pool) }))
        .collect()
}

pub(super) fn health() -> Value {
    json!({ "status": "HEALTH_OK", "checks": {}, "mutes": [] })
}

/// With one OSD nothing here tells that it is dead: a lone OSD has no peer to report it.
pub(super) fn cluster_status(view: &View<'_>) -> Value {
    json!({
        "fsid": view.cluster.fsid, "health": health(), "election_epoch": 5, "quorum": [0],
        "quorum_names": [view.cluster.side.name()], "quorum_age": 515,
        "monmap": { "epoch": 1, "min_mon_release_name": "pacific", "num_mons": 1 },
        "osdmap": { "epoch": 90, "num_osds": 1, "num_up_osds": 1, "num_in_osds": 1, "num_remapped_pgs": 0 },
        "pgmap": {
            "pgs_by_state": [{ "state_name": "active+clean", "count": 9 }], "num_pgs": 9, "num_pools": 2,
        },
        "mgrmap": { "available": view.cluster.mgr_up, "num_standbys": 0 },
    })
}

/// `rbd mirror image status` as people read it.
pub(super) fn status_plain(status: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut plain = format!(
        "{}:\n  global_id:   {}\n  state:       {}\n  description: {}\n",
        text(&status["name"]),
        text(&status["global_id"]),
        text(&status["state"]),
        text(&status["description"]),
    );
    if let Some(daemon) = status.get("daemon_service") {
        plain += &format!("  service:     {} on {}\n", text(&daemon["daemon_id"]), text(&daemon["hostname"]));
    }
    plain += &format!("  last_update: {}\n", text(&status["last_update"]));
    for peer in status["peer_sites"].as_array().into_iter().flatten() {
        plain += &format!(
            "  peer_sites:\n    name: {}\n    state: {}\n    description: {}\n    last_update: {}\n",
            text(&peer["site_name"]),
            text(&peer["state"]),
            text(&peer["description"]),
            text(&peer["last_update"]),
        );
    }
    plain
}

/// Anything else, for a person's eyes.
pub(super) fn plain(value: &Value) -> String {
    format!("{value:#}\n")
}
