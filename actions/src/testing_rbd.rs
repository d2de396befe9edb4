//! A fake `rbd` and `ceph` for the tests of the storage steps: shell scripts over a folder of plain files.
//!
//! Each image is a folder: `info`, `snaps` and `status` hold the JSON that is printed; `watchers` has a line `ADDRESS
//! CLIENT` for each; `promote` is the script that a forced promote runs. Every call is written to `calls`. A file
//! `break-NAME` of the root folder holds a script that is run first in calls whose words, joined by `-`, begin with NAME.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use understudy_config::Rbd;
use understudy_core::{ImageName, ImagePoint, Step, StepOrder};

use crate::promote_keeper::tests::{program, script};
use crate::testing::{Gate, context, pair, yaml};
use crate::{Context, StepError, support};

/// The client number of the mirror daemon.
pub const MIRROR: u64 = 4130;

/// The address of the mirror daemon.
pub const MIRROR_ADDRESS: &str = "10.0.0.2:0/111";

/// What both programs begin with: `$dir`, the words without options, the log, and what a test breaks.
const PROLOGUE: &str = r#"
words=""
while [ $# -gt 0 ]; do
  case "$1" in
    --client-mount-timeout|--rados-mon-op-timeout|--rados-osd-op-timeout|--connect-timeout|--format) shift;;
    --no-progress|--verbose|--all) ;;
    *) words="$words $1";;
  esac
  shift
done
set -- $words
echo "$me $*" >> "$dir/calls"
joined=$(echo "$*" | tr ' ' -)
for broken in "$dir"/break-*; do
  name=${broken#"$dir"/break-}
  case "$joined" in "$name"*) . "$broken";; esac
done
"#;

const RBD: &str = r#"
last() { for word in "$@"; do :; done; echo "$word"; }
image=$(last "$@")
at="$dir/$image"
exists() { [ -d "$at" ] || { echo "rbd: error opening image: (2) No such file or directory" >&2; exit 2; }; }
case "$*" in
  "info "*) exists; cat "$at/info";;
  "snap ls "*) exists; cat "$at/snaps";;
  "status "*) exists; printf '{"watchers":['
    [ -f "$at/watchers" ] && awk '{ printf "%s{\"address\":\"%s\",\"client\":%s,\"cookie\":1}", (NR > 1 ? "," : ""), $1, $2 }' "$at/watchers"
    echo ']}';;
  "mirror image status "*) exists; cat "$at/status";;
  "mirror pool status "*) cat "$dir/pool";;
  "mirror image promote --force "*) exists; . "$at/promote";;
  "mirror image demote "*) exists; cp "$dir/demoted.info" "$at/info";;
  "snap create "*) at="$dir/${image%@*}"; name="${image#*@}"; exists
    grep -q "\"$name\"" "$at/snaps" && { echo "rbd: failed to create snapshot: (17) File exists" >&2; exit 17; }
    sed -i "s|]\$|,{\"id\":90,\"name\":\"$name\",\"namespace\":{\"type\":\"user\"}}]|" "$at/snaps";;
  "mirror snapshot schedule ls "*) [ -f "$dir/schedule" ] || exit 2; cat "$dir/schedule";;
  "mirror snapshot schedule add "*) echo "[{\"interval\":\"$image\",\"start_time\":\"\"}]" > "$dir/schedule";;
  *) echo "rbd: unknown command: $*" >&2; exit 22;;
esac
"#;

const CEPH: &str = r#"
case "$*" in
  "osd blocklist add "*) echo "$4" >> "$dir/blocklist"
    for watchers in "$dir"/*/*/watchers; do
      [ -f "$watchers" ] || continue
      grep -vF "$4 " "$watchers" > "$watchers.new"; mv "$watchers.new" "$watchers"
    done;;
  "osd blocklist rm "*) grep -vxF "$4" "$dir/blocklist" > "$dir/blocklist.new"; mv "$dir/blocklist.new" "$dir/blocklist";;
  "osd blocklist ls"*) printf '\n['
    [ -f "$dir/blocklist" ] && sort -u "$dir/blocklist" | awk '{ printf "%s{\"addr\":\"%s\",\"until\":\"\"}", (NR > 1 ? "," : ""), $1 }'
    echo '][]';;
  *) echo "Error EINVAL: invalid command" >&2; exit 22;;
esac
"#;

/// A forced promote that works.
const PROMOTE: &str =
    r#"cp "$dir/promoted.info" "$at/info"; cp "$dir/promoted.snaps" "$at/snaps"; echo "Image promoted to primary""#;

/// Snapshots of a copy in step, newest whole one number 5.
pub const IN_STEP: &str = r#"[{"id":7,"name":".mirror.non_primary.g.h","namespace":{"type":"mirror","state":"non-primary","mirror_peer_uuids":[],"complete":true,"primary_mirror_uuid":"a","primary_snap_id":5,"last_copied_object_number":16}}]"#;

/// Snapshots of a copy in the middle of a sync of number 6.
pub const MID_SYNC: &str = r#"[{"id":7,"name":".mirror.non_primary.g.h","namespace":{"type":"mirror","state":"non-primary","mirror_peer_uuids":[],"complete":true,"primary_mirror_uuid":"a","primary_snap_id":5,"last_copied_object_number":16}},{"id":8,"name":".mirror.non_primary.g.i","namespace":{"type":"mirror","state":"non-primary","mirror_peer_uuids":[],"complete":false,"primary_mirror_uuid":"a","primary_snap_id":6,"last_copied_object_number":3}}]"#;

/// Snapshots with the mark of a forced promote that did not finish.
pub const ORPHANED: &str = r#"[{"id":7,"name":".mirror.non_primary.g.h","namespace":{"type":"mirror","state":"non-primary","mirror_peer_uuids":[],"complete":true,"primary_mirror_uuid":"a","primary_snap_id":5,"last_copied_object_number":16}},{"id":9,"name":".mirror.non_primary.g.j","namespace":{"type":"mirror","state":"non-primary","mirror_peer_uuids":[],"complete":true,"primary_mirror_uuid":"","primary_snap_id":18446744073709551614,"last_copied_object_number":0}}]"#;

const PROMOTED: &str = r#"[{"id":10,"name":".mirror.primary.g.k","namespace":{"type":"mirror","state":"primary","mirror_peer_uuids":["p"],"complete":true}}]"#;

const STATUS: &str = r#"{"name":"i","global_id":"g","state":"up+replaying","description":"replaying, {\"local_snapshot_timestamp\":1795343388,\"remote_snapshot_timestamp\":1795343388,\"replay_state\":\"idle\"}","daemon_service":{"service_id":"4127","instance_id":"4130","daemon_id":"b","hostname":"h"},"last_update":"","peer_sites":[]}"#;

const POOL: &str = r#"{"summary":{"health":"OK","daemon_health":"OK","image_health":"OK","states":{}},"daemons":[{"service_id":"4127","instance_id":"4130","client_id":"b"}],"images":[]}"#;

/// `rbd info` of a primary or of a copy.
pub fn info(primary: bool, writable: bool) -> String {
    let feature = if writable { "" } else { ",\"non-primary\"" };
    format!(
        r#"{{"name":"i","objects":16,"features":["layering"{feature}],"mirroring":{{"mode":"snapshot","state":"enabled","global_id":"g","primary":{primary}}}}}"#
    )
}

/// A fake site B with the images of a pair, all in step and mirrored by a living daemon.
pub struct Site {
    /// Everything lies here.
    pub dir: tempfile::TempDir,
    /// What the steps asked of the agent.
    pub gate: Arc<Gate>,
    images: Vec<String>,
}

impl Site {
    /// With these images, such as `rbd/data`.
    pub fn with(images: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let head = |me: &str| format!("#!/bin/sh\nme={me}\ndir='{}'\n{PROLOGUE}", dir.path().display());
        std::fs::create_dir(dir.path().join("bin")).unwrap();
        script(&dir.path().join("bin/rbd"), &(head("rbd") + RBD));
        script(&dir.path().join("bin/ceph"), &(head("ceph") + CEPH));
        program(dir.path());
        let site = Self { dir, gate: Arc::default(), images: images.iter().map(|image| (*image).to_owned()).collect() };
        site.write("pool", POOL);
        site.write("promoted.info", &info(true, true));
        site.write("promoted.snaps", PROMOTED);
        site.write("demoted.info", &info(false, false));
        for image in images {
            std::fs::create_dir_all(site.path(image)).unwrap();
            site.write(&format!("{image}/info"), &info(false, false));
            site.write(&format!("{image}/snaps"), IN_STEP);
            site.write(&format!("{image}/status"), STATUS);
            site.write(&format!("{image}/watchers"), &format!("{MIRROR_ADDRESS} {MIRROR}\n"));
            site.write(&format!("{image}/promote"), PROMOTE);
        }
        site
    }

    /// The same, with rbd-mirror quiesced already.
    pub fn quiesced(images: &[&str]) -> Self {
        let site = Self::with(images);
        for image in images {
            site.write(&format!("{image}/watchers"), "");
        }
        site
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        // Whole or not at all: a script may be reading it.
        let draft = self.path("draft");
        std::fs::write(&draft, text).unwrap();
        std::fs::rename(draft, self.path(name)).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// From now on a call that begins with `words` runs `script` first.
    pub fn break_call(&self, words: &str, script: &str) {
        self.write(&format!("break-{}", words.replace(' ', "-")), &format!("{script}\n"));
    }

    /// The calls so far that begin with `words`.
    pub fn calls(&self, words: &str) -> Vec<String> {
        self.read("calls").lines().filter(|line| line.starts_with(words)).map(str::to_owned).collect()
    }

    /// The settings, with `more` keys of `storage.rbd`.
    pub fn settings(&self, more: &str) -> Rbd {
        let dir = self.dir.path().display();
        yaml(&format!(
            "{{ images: [{}], rbd: [{dir}/bin/rbd], ceph: [{dir}/bin/ceph], {more} }}",
            self.images.join(", ")
        ))
    }

    /// The context of the first try of `step`, with the consistency points of images in step.
    pub fn context(&self, step: Step) -> Context {
        self.context_with(step, |_| {})
    }

    /// The same, with another order. What was noted so far is in its notes.
    pub fn context_with(&self, step: Step, change: impl FnOnce(&mut StepOrder)) -> Context {
        let mut ctx = context(pair(""), step, &self.gate);
        let mut order = (*ctx.order).clone();
        order.images = self.images.iter().map(|image| ImageName::from(image.as_str())).collect();
        order.points = order.images.iter().map(point).collect();
        for (key, value) in self.gate.notes.lock().unwrap().iter() {
            let of = if step == Step::MirrorBack { Step::Quiesce } else { step };
            order.notes.insert(format!("{of}/{key}"), value.clone());
        }
        change(&mut order);
        ctx.order = Arc::new(order);
        ctx.state = self.path("state");
        ctx.program = self.path("understudy");
        ctx
    }
}

fn point(image: &ImageName) -> ImagePoint {
    ImagePoint {
        image: image.clone(),
        newest_complete: Some(5),
        mid_sync: false,
        snapshot: Some(5),
        source_time_ms: Some(1_795_343_388_000),
    }
}

/// Waits for a condition that another process brings about.
pub async fn until(what: &str, mut done: impl FnMut() -> bool) {
    support::until(what, Duration::from_secs(60), async || done().then_some(())).await;
}

/// The message of a permanent error.
#[track_caller]
pub fn permanent<T: std::fmt::Debug>(result: Result<T, StepError>) -> String {
    let error = result.unwrap_err();
    assert!(matches!(error, StepError::Permanent { .. }), "{}", error.whole());
    error.whole()
}

/// Whether a file of JSON of a promote's folder is there.
pub fn is_there(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.len() > 0)
}
