//! What the standby knows of the mirrored images, and what a forced promote would lose (S8).

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::names::ImageName;
use crate::time::millis;

/// What storage by hooks, which has no images that we know of, is called among them: one copy, as of a time.
pub const COPY: &str = "copy";

/// The images of a pair as seen at B in one look.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MirrorFacts {
    /// One entry an image.
    pub images: Vec<ImageFacts>,
}

impl MirrorFacts {
    /// Whether they are of a mirror, and not of storage by hooks that tells an age.
    #[must_use]
    pub fn is_mirror(&self) -> bool {
        self.images.iter().any(|image| image.image.as_str() != COPY)
    }
}

/// One image as seen at B in one look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageFacts {
    /// Which image.
    pub image: ImageName,
    /// `mirroring.primary` of `rbd info`: the only firm test of the role.
    pub primary: bool,
    /// `primary_snap_id` of the newest complete copy of a snapshot of the primary; none before the first full sync.
    pub newest_complete: Option<u64>,
    /// `primary_snap_id` of a copy that is under way.
    pub syncing: Option<u64>,
    /// Objects copied and objects in all, of the sync under way, where known.
    pub progress: Option<(u64, u64)>,
    /// The primary's own time of the snapshot `newest_complete`, in milliseconds since the Unix epoch, where this look could tell.
    pub source_time_ms: Option<i64>,
    /// An unfinished forced promote left its mark on top of the snapshots: not clean, nobody may promote blindly.
    pub orphan: bool,
    /// The mirror daemon of the other site runs and says that its image is primary. It may be half a minute old.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub peer_primary: bool,
}

/// Source times of the primary's snapshots, written down while A lives: afterwards nobody can tell them.
///
/// Written as lists of pairs: serde reads a map with numbers as keys back only where no tagged enum is around it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "BTreeMap<ImageName, Vec<(u64, i64)>>", into = "BTreeMap<ImageName, Vec<(u64, i64)>>")]
pub struct SourceTimes(pub BTreeMap<ImageName, BTreeMap<u64, i64>>);

/// How many snapshots' times are kept for each image. A promote leaves the newest complete one or the one before it.
const KEPT: usize = 16;

impl From<BTreeMap<ImageName, Vec<(u64, i64)>>> for SourceTimes {
    fn from(lists: BTreeMap<ImageName, Vec<(u64, i64)>>) -> Self {
        Self(lists.into_iter().map(|(image, times)| (image, times.into_iter().collect())).collect())
    }
}

impl From<SourceTimes> for BTreeMap<ImageName, Vec<(u64, i64)>> {
    fn from(times: SourceTimes) -> Self {
        times.0.into_iter().map(|(image, times)| (image, times.into_iter().collect())).collect()
    }
}

impl SourceTimes {
    /// Whether `time_ms` would be news for this snapshot.
    #[must_use]
    pub fn is_news(&self, image: &ImageName, snapshot: u64, time_ms: i64) -> bool {
        self.get(image, snapshot).is_none_or(|known| time_ms > known)
    }

    /// Writes down when the primary took `snapshot`. The latest of several claims counts: a claim comes from a status
    /// that was read before the snapshots were listed, so that it is never later than the truth.
    pub fn learn(&mut self, image: &ImageName, snapshot: u64, time_ms: i64) {
        if !self.is_news(image, snapshot, time_ms) {
            return;
        }
        let times = self.0.entry(image.clone()).or_default();
        times.insert(snapshot, time_ms);
        while times.len() > KEPT {
            times.pop_first();
        }
    }

    /// When the primary took `snapshot`.
    #[must_use]
    pub fn get(&self, image: &ImageName, snapshot: u64) -> Option<i64> {
        self.0.get(image)?.get(&snapshot).copied()
    }

    /// The newest snapshot older than `snapshot` whose time is known.
    fn before(&self, image: &ImageName, snapshot: u64) -> Option<(u64, i64)> {
        self.0.get(image)?.range(..snapshot).next_back().map(|(id, at)| (*id, *at))
    }
}

/// The snapshot whose content a forced promote of one image would leave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImagePoint {
    /// Which image.
    pub image: ImageName,
    /// Its newest complete snapshot, by the primary's id.
    pub newest_complete: Option<u64>,
    /// Whether a sync is under way, so that the snapshot *before* the newest complete one counts.
    pub mid_sync: bool,
    /// The snapshot that counts, by the primary's id.
    pub snapshot: Option<u64>,
    /// When the primary took it, in milliseconds since the Unix epoch, by the primary's clock; none = the loss has no bound.
    pub source_time_ms: Option<i64>,
}

/// The consistency point of each image: in step the newest complete snapshot, in the middle of a sync the one before it
/// (measured on Ceph 16.2.15: the standby's newest snapshot holds the content of the sync before it; only the head is newer,
/// and a forced promote in the middle of a sync rolls the head back).
#[must_use]
pub fn consistency_point(facts: &MirrorFacts, times: &SourceTimes) -> Vec<ImagePoint> {
    facts.images.iter().map(|image| point_of(image, times)).collect()
}

fn point_of(facts: &ImageFacts, times: &SourceTimes) -> ImagePoint {
    let mid_sync = facts.syncing.is_some();
    let counted = match facts.newest_complete {
        None => None,
        Some(newest) if mid_sync => times.before(&facts.image, newest),
        Some(newest) => times.get(&facts.image, newest).map(|at| (newest, at)),
    };
    ImagePoint {
        image: facts.image.clone(),
        newest_complete: facts.newest_complete,
        mid_sync,
        // An orphan on top means that nobody knows what the head holds.
        snapshot: counted.filter(|_| !facts.orphan).map(|(id, _)| id),
        source_time_ms: counted.filter(|_| !facts.orphan).map(|(_, at)| at),
    }
}

/// How much a forced promote may lose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossBound {
    /// At most this much, in milliseconds.
    AtMost(u64),
    /// Nobody can tell: closed gate.
    Infinite,
}

impl LossBound {
    /// Whether the bound is within `limit`.
    #[must_use]
    pub fn within(self, limit: Duration) -> bool {
        matches!(self, LossBound::AtMost(ms) if ms <= millis(limit))
    }

    /// Whether the bound is greater than `other`.
    #[must_use]
    pub fn exceeds(self, other: LossBound) -> bool {
        match (self, other) {
            (LossBound::AtMost(a), LossBound::AtMost(b)) => a > b,
            (LossBound::Infinite, LossBound::AtMost(_)) => true,
            (_, LossBound::Infinite) => false,
        }
    }
}

impl std::fmt::Display for LossBound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LossBound::AtMost(ms) => write!(f, "{}.{} s", ms / 1000, ms % 1000 / 100),
            LossBound::Infinite => f.write_str("unknown"),
        }
    }
}

/// What the loss bound is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LossTerms {
    /// The last instant at which A may have acknowledged a write, in milliseconds since the Unix epoch.
    pub end_wall_ms: i64,
    /// How far A's and our clocks may differ; none = never measured.
    pub clock_error_ms: Option<u64>,
    /// What a block snapshot of a running Nexus lacks.
    pub writeback_ms: u64,
}

/// `end − source time of the oldest point + clock error + write-back window` (S8). Anything unknown makes it infinite.
#[must_use]
pub fn loss_bound(points: &[ImagePoint], terms: LossTerms) -> LossBound {
    let Some(clock_error) = terms.clock_error_ms else { return LossBound::Infinite };
    if points.is_empty() {
        return LossBound::Infinite;
    }
    let mut oldest = i64::MAX;
    for point in points {
        let Some(at) = point.source_time_ms else { return LossBound::Infinite };
        oldest = oldest.min(at);
    }
    let age = u64::try_from(terms.end_wall_ms.saturating_sub(oldest)).unwrap_or(0);
    LossBound::AtMost(age.saturating_add(clock_error).saturating_add(terms.writeback_ms))
}

/// How far the consistency points of several images lie apart; none while one is unknown.
#[must_use]
pub fn skew_ms(points: &[ImagePoint]) -> Option<u64> {
    let mut oldest = i64::MAX;
    let mut newest = i64::MIN;
    for point in points {
        let at = point.source_time_ms?;
        oldest = oldest.min(at);
        newest = newest.max(at);
    }
    Some(u64::try_from(newest.saturating_sub(oldest)).unwrap_or(0))
}

/// The bound that will hold when `ttl` has gone by, if nothing is learnt meanwhile: what an approver accepts.
#[must_use]
pub fn bound_after(bound: LossBound, ttl: Duration) -> LossBound {
    match bound {
        LossBound::AtMost(ms) => LossBound::AtMost(ms.saturating_add(millis(ttl))),
        LossBound::Infinite => LossBound::Infinite,
    }
}
