//! What must hold for every parser that reads something from outside, whatever it is fed.
//!
//! In: one input and the world that it claims to come from (`ceph`, `journal`, …). Out: nothing; a promise that is broken is
//! a panic. The same function stands behind the fuzz targets (`tests/fuzz`) and the smoke run on stable
//! (`tests/tests/boundaries.rs`). The promises: no panic, an answer in bounded time and of bounded length, the same answer
//! twice, and no value from bytes that do not hold it; what that means for a parser is in `strict` beside it. Start reading at
//! [`hold`].

pub mod mutate;
mod strict;

use std::time::{Duration, Instant};

pub use understudy_config::boundary::Boundary;

/// An input longer than this is not tried: every parser has a limit of its own, and these are known.
pub const LONGEST: usize = 64 * 1024;

/// For an input of [`LONGEST`] bytes, in a build without optimisations on a busy machine.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest refusal, in characters: it goes into logs, pages and the journal.
const LONGEST_REFUSAL: usize = 4000;

/// Every boundary of the product.
pub fn all() -> impl Iterator<Item = &'static Boundary> {
    let [config, probes] = [understudy_config::boundary::ALL, understudy_probes::boundary::ALL];
    let [actions, agent] = [understudy_actions::boundary::ALL, understudy_agent::boundary::ALL];
    [config, probes, actions, agent].into_iter().flatten()
}

/// The worlds, each once, in order.
#[must_use]
pub fn worlds() -> Vec<&'static str> {
    let mut worlds: Vec<&str> = all().map(|boundary| boundary.world).collect();
    worlds.sort_unstable();
    worlds.dedup();
    worlds
}

/// How often an input was accepted and refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// It was taken for a value.
    pub taken: u64,
    /// It was not.
    pub refused: u64,
}

/// Feeds `bytes` to every parser of `world`.
///
/// # Panics
/// If a promise is broken; the message names the parser and shows the input.
pub fn hold(world: &str, bytes: &[u8]) -> Tally {
    let bytes = &bytes[..bytes.len().min(LONGEST)];
    let mut tally = Tally::default();
    for boundary in all().filter(|boundary| boundary.world == world) {
        let of_this = one(boundary, bytes);
        tally.taken += of_this.taken;
        tally.refused += of_this.refused;
    }
    tally
}

/// Feeds `bytes` to one parser.
///
/// # Panics
/// As [`hold`].
pub fn one(boundary: &Boundary, bytes: &[u8]) -> Tally {
    let Boundary { world, name, read } = boundary;
    let broken = |promise: &str| {
        let shown: String = String::from_utf8_lossy(bytes).chars().take(2000).collect();
        panic!("{world}: {name}: {promise}, fed with {} bytes: {shown:?}", bytes.len())
    };
    let began = Instant::now();
    let said = read(bytes);
    if began.elapsed() > PATIENCE {
        broken(&format!("it takes {:?}", began.elapsed()));
    }
    if said != read(bytes) {
        broken("it answers otherwise the second time");
    }
    match said {
        Ok(value) => {
            if let Err(why) = strict::may_be(world, name, bytes, &value) {
                broken(&format!("it takes for a value what is none ({why}): {value:.500}"));
            }
            Tally { taken: 1, refused: 0 }
        }
        Err(why) => {
            if why.chars().count() > LONGEST_REFUSAL {
                broken(&format!("its refusal has {} characters: {why:.500}", why.chars().count()));
            }
            Tally { taken: 0, refused: 1 }
        }
    }
}
