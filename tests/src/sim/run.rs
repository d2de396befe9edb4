//! Many stories on all cores, resumable.
//!
//! In: the first seed, how many, on how many threads. Out: a [`Tally`] of all, and the seeds that failed. Threads take
//! blocks of seeds; a block that is over is added to the tally at once, and where a file is named, tally and next seed are
//! written into it, so that a run that was stopped goes on where it was.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::plot::Plot;
use super::tally::Tally;
use super::{Story, Violation, play};

/// Seeds that a thread takes at once.
const BLOCK: u64 = 256;
/// No more failures are kept than this; then the run stops.
const FAILURES: usize = 8;

/// What is to be run.
#[derive(Debug, Clone, Copy)]
pub struct Order {
    /// The first seed.
    pub seed: u64,
    /// How many stories.
    pub stories: u64,
    /// No new block after this time.
    pub within: Option<Duration>,
    /// On how many threads.
    pub jobs: usize,
}

/// What came of it; also what a file keeps of a run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Results {
    /// The first seed.
    pub seed: u64,
    /// Every seed below this one is done.
    pub next: u64,
    /// Seconds of all runs so far.
    pub seconds: f64,
    /// The counts.
    pub tally: Tally,
    /// Seeds that failed.
    pub failed: Vec<(u64, Violation)>,
}

impl Results {
    /// Results that a file holds, or none yet.
    ///
    /// # Errors
    /// If there is a file and it can not be read.
    pub fn load(path: &Path, seed: u64) -> anyhow::Result<Self> {
        match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| format!("failed to read {}", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Ok(Self { seed, next: seed, tally: Tally::new(), ..Self::default() })
            }
            Err(error) => Err(error).with_context(|| format!("failed to read {}", path.display())),
        }
    }

    fn save(&self, path: &Path) -> anyhow::Result<()> {
        let unnamed = path.with_extension("new");
        std::fs::write(&unnamed, serde_json::to_vec_pretty(self)?)
            .and_then(|()| std::fs::rename(&unnamed, path))
            .with_context(|| format!("failed to write {}", path.display()))
    }
}

/// Runs what is ordered and not done yet.
///
/// # Errors
/// If the file can not be written.
pub fn run(order: Order, before: Results, file: Option<&Path>) -> anyhow::Result<Results> {
    let began = Instant::now();
    let (next, stop) = (AtomicU64::new(before.next), AtomicBool::new(false));
    let end = order.seed + order.stories;
    let earlier = before.seconds;
    let done = Mutex::new(Done { results: before, over: vec![] });
    let worked = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..order.jobs.max(1))
            .map(|_| {
                scope.spawn(|| -> anyhow::Result<()> {
                    while !stop.load(Ordering::Relaxed) && order.within.is_none_or(|within| began.elapsed() < within) {
                        let first = next.fetch_add(BLOCK, Ordering::Relaxed);
                        if first >= end {
                            break;
                        }
                        let block = first..(first + BLOCK).min(end);
                        let (tally, failed) = play_all(block.clone());
                        let mut done = done.lock().expect("no thread panics with the lock in its hands");
                        done.take(block, &tally, failed);
                        done.results.seconds = earlier + began.elapsed().as_secs_f64();
                        if done.results.failed.len() >= FAILURES {
                            stop.store(true, Ordering::Relaxed);
                        }
                        if let Some(file) = file {
                            done.results.save(file)?;
                        }
                    }
                    Ok(())
                })
            })
            .collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("a story does not panic"))
    });
    worked?;
    Ok(done.into_inner().expect("no thread panics with the lock in its hands").results)
}

/// Seeds that are done, and what came of them.
type Block = (std::ops::Range<u64>, Tally, Vec<(u64, Violation)>);

struct Done {
    results: Results,
    /// Blocks that are over although an earlier one is not: counted only when they follow on.
    over: Vec<Block>,
}

impl Done {
    fn take(&mut self, block: std::ops::Range<u64>, tally: &Tally, failed: Vec<(u64, Violation)>) {
        self.over.push((block, tally.clone(), failed));
        while let Some(at) = self.over.iter().position(|(block, ..)| block.start == self.results.next) {
            let (block, tally, failed) = self.over.swap_remove(at);
            self.results.next = block.end;
            self.results.tally.add(&tally);
            self.results.failed.extend(failed);
        }
    }
}

/// Plays every seed of `seeds`.
pub fn play_all(seeds: impl IntoIterator<Item = u64>) -> (Tally, Vec<(u64, Violation)>) {
    let (mut tally, mut failed) = (Tally::new(), vec![]);
    for seed in seeds {
        let story = play_or_panic(&Plot::of(seed));
        tally.add(&story.tally);
        failed.extend(story.violation.map(|violation| (seed, violation)));
    }
    (tally, failed)
}

/// A panic of the core is a violation like any other.
#[must_use]
pub fn play_or_panic(plot: &Plot) -> Story {
    std::panic::catch_unwind(|| play(plot, false)).unwrap_or_else(|why| {
        let what = why.downcast_ref::<String>().cloned();
        let what = what.or_else(|| why.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default();
        let violation = Some(Violation { invariant: "panic".into(), at: 0, what });
        Story { violation, tally: Tally::new(), told: vec![] }
    })
}
