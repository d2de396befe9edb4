//! Simulated stories each second, on one thread.
//!
//! In: the first seeds. Out: stories a second. Every story is a whole one: world, core, journal, checker, checks of data.

use std::time::Instant;

use super::Row;
use crate::sim::run::play_all;

const BAR: f64 = 2_000.0;
const STORIES: u64 = 20_000;

/// Plays them.
///
/// # Errors
/// If a story is violated: a figure of a world that stops early is none.
pub fn rows() -> anyhow::Result<Vec<Row>> {
    let began = Instant::now();
    let (tally, failed) = play_all(1..=STORIES);
    let took = began.elapsed().as_secs_f64();
    anyhow::ensure!(failed.is_empty(), "seeds failed: {failed:?}");
    #[allow(clippy::cast_precision_loss, reason = "far fewer than 2^52 stories")]
    let speed = tally.stories as f64 / took;
    let note = format!("{} stories of {} events, one thread", tally.stories, tally.events);
    Ok(vec![Row::at_least("simulate, stories from a seed", speed, BAR, "stories/s", note)])
}
