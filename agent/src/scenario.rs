//! Scenarios: the unit tests of a policy. A timeline of what is seen and done, and what is expected of the daemon.
//!
//! In: `SCENARIO.yaml`. Out: whether the real core, with simulated time, decides as the file says, and a picture of it. Only
//! [`load`] opens files; a [`Story`] is data, and [`play`] is a pure function of it. `docs/scenarios.md` is the manual.
//! Start reading at [`play`].

pub mod expect;
pub mod file;
mod picture;
mod player;
mod rules;
pub mod story;
#[cfg(test)]
mod tests;
mod words;
mod world;

use std::path::Path;

use understudy_config::{Document, LoadError};

pub use picture::picture;
pub use player::{Failure, Judged, Played, play};
pub use story::Story;

/// Reads the scenario at `path`, and the configuration that it names.
///
/// # Errors
/// What is wrong with the file, with its line and the remedy.
pub fn load(path: &Path) -> Result<Story, LoadError> {
    let read: Document<file::File> = Document::load(path)?;
    Story::of(path, &read).map_err(LoadError::File)
}

/// The JSON Schema of a scenario, for editors.
#[must_use]
pub fn schema() -> schemars::Schema {
    schemars::schema_for!(file::File)
}
