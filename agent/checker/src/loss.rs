//! What a forced promote may lose, derived from the source times and facts that the records hold (S8).

use std::collections::BTreeMap;

use understudy_core::{ImageName, ImagePoint, LossBound, MirrorFacts};

/// When the primary took its snapshots, by its own ids.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Times(BTreeMap<ImageName, BTreeMap<u64, i64>>);

impl Times {
    pub fn learn(&mut self, image: &ImageName, snapshot: u64, time_ms: i64) {
        let known = self.0.entry(image.clone()).or_default().entry(snapshot).or_insert(time_ms);
        *known = time_ms.max(*known);
    }

    pub fn get(&self, image: &ImageName, snapshot: u64) -> Option<i64> {
        self.0.get(image)?.get(&snapshot).copied()
    }

    /// When the primary took the oldest of the snapshots that a promote would leave; none = nobody can tell. In the middle
    /// of a sync that is not the newest complete one, but the one before it.
    pub fn oldest_left(&self, facts: &MirrorFacts) -> Option<i64> {
        let mut oldest = None;
        for image in &facts.images {
            let times = self.0.get(&image.image)?;
            let newest = image.newest_complete.filter(|_| !image.orphan)?;
            let left = match image.syncing {
                None => times.get(&newest).copied(),
                Some(_) => times.range(..newest).next_back().map(|(_, at)| *at),
            };
            oldest = Some(oldest.unwrap_or(i64::MAX).min(left?));
        }
        oldest
    }
}

/// The oldest source time of `points`; none = nobody can tell.
pub fn oldest(points: &[ImagePoint]) -> Option<i64> {
    let times: Option<Vec<i64>> = points.iter().map(|point| point.source_time_ms).collect();
    times?.into_iter().min()
}

/// How far the source times of `points` lie apart; none = nobody can tell.
pub fn skew_ms(points: &[ImagePoint]) -> Option<u64> {
    let newest = points.iter().filter_map(|point| point.source_time_ms).max()?;
    u64::try_from(newest.saturating_sub(oldest(points)?)).ok()
}

/// All that A may have acknowledged after its snapshot of `oldest_ms`, until `end_ms`.
pub fn bound(oldest_ms: Option<i64>, end_ms: i64, clock_error_ms: Option<u64>, writeback_ms: u64) -> LossBound {
    let (Some(oldest), Some(error)) = (oldest_ms, clock_error_ms) else { return LossBound::Infinite };
    let age = u64::try_from(end_ms.saturating_sub(oldest)).unwrap_or(0);
    LossBound::AtMost(age.saturating_add(error).saturating_add(writeback_ms))
}

/// Whether `bound` is at most `limit`.
pub fn within(bound: LossBound, limit: LossBound) -> bool {
    match (bound, limit) {
        (_, LossBound::Infinite) => true,
        (LossBound::AtMost(bound), LossBound::AtMost(limit)) => bound <= limit,
        (LossBound::Infinite, LossBound::AtMost(_)) => false,
    }
}
