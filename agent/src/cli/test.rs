//! `test`: plays scenarios and says which of them are as expected.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::json;

use super::arguments::Test;
use super::{Exit, Failure, Outcome, print_json};
use crate::scenario::{Played, Story, load, picture, play};
use crate::text::{printable, say};

/// `test`.
pub fn test(wanted: &Test) -> Outcome {
    let mut stories = Vec::new();
    for path in files(&wanted.files)? {
        // Every file is read before one is played, so that a wrong one is told at once.
        stories.push(load(&path).map_err(|error| Failure::new(Exit::Usage, error))?);
    }
    let played: Vec<(Story, Played)> = stories.into_iter().map(|story| (story.clone(), play(&story))).collect();
    let failed = played.iter().filter(|(_, played)| !played.failures.is_empty()).count();
    if wanted.json {
        print_json(&played.iter().map(|(story, played)| told(story, played)).collect::<Vec<_>>())?;
    } else {
        played.iter().for_each(|(story, played)| show(story, played, wanted.show));
        say(&format!("{} scenarios, {failed} not as expected\n", played.len()));
    }
    Ok(if failed == 0 { Exit::Done } else { Exit::Failed })
}

fn show(story: &Story, played: &Played, always: bool) {
    let good = played.failures.is_empty();
    say(&format!("{}  {}\n", if good { "ok    " } else { "FAILED" }, printable(&story.name)));
    if always || !good {
        say(&format!("{}\n", printable(&picture(story, played))));
    }
}

fn told(story: &Story, played: &Played) -> serde_json::Value {
    json!({
        "name": story.name,
        "file": story.file,
        "as_expected": played.failures.is_empty(),
        "failures": played.failures,
        "verdicts": played.verdicts,
        "events": played.events,
    })
}

/// The files that are named, and those in the directories that are named, by name.
fn files(named: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut all = Vec::new();
    for path in named {
        if !path.is_dir() {
            all.push(path.clone());
            continue;
        }
        let mut inside = scenarios_in(path).map_err(|error| Failure::new(Exit::Usage, error))?;
        if inside.is_empty() {
            return Err(Failure::usage(format!("there is no scenario (*.yaml) in {}", path.display())));
        }
        inside.sort();
        all.append(&mut inside);
    }
    Ok(all)
}

fn scenarios_in(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let listed = || format!("failed to list {}", directory.display());
    let mut inside = Vec::new();
    for file in std::fs::read_dir(directory).with_context(listed)? {
        let path = file.with_context(listed)?.path();
        if path.extension().is_some_and(|ending| ending == "yaml") {
            inside.push(path);
        }
    }
    Ok(inside)
}
