//! Settings that may be run: read, and without an error of the lint.

use std::path::Path;

use anyhow::bail;
use understudy_config::{Config, Finding, Loaded, Severity, check};

/// Reads the file; warnings are logged, errors refused, all of them at once.
///
/// # Errors
/// Each finding with file, line and remedy.
pub fn load_checked(path: &Path) -> anyhow::Result<Loaded> {
    checked(Config::load(path)?)
}

/// The same for settings that were read already.
///
/// # Errors
/// Each finding with file, line and remedy.
pub fn checked(loaded: Loaded) -> anyhow::Result<Loaded> {
    let (errors, warnings): (Vec<Finding>, Vec<Finding>) =
        check(&loaded).into_iter().partition(|finding| finding.severity == Severity::Error);
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    if errors.is_empty() {
        return Ok(loaded);
    }
    let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
    bail!("{}", told.join("\n"))
}
