//! Every scenario of `tests/scenarios` is as expected, short, and says what it is about.

use std::path::PathBuf;

use understudy_agent::scenario::{load, picture, play};

/// A platform engineer reads a scenario without scrolling.
const LINES: usize = 30;

fn files() -> Vec<PathBuf> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios");
    let listed = std::fs::read_dir(directory).expect("the directory is there");
    let mut files: Vec<PathBuf> = listed.map(|file| file.expect("it can be listed").path()).collect();
    files.sort();
    files
}

#[test]
fn every_scenario_is_as_expected() {
    let mut wrong = String::new();
    for path in files() {
        let story = load(&path).unwrap_or_else(|error| panic!("{error}"));
        let played = play(&story);
        if !played.failures.is_empty() {
            wrong += &format!("{}\n{}\n", story.name, picture(&story, &played));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn there_are_at_least_sixty_each_short_and_with_its_story() {
    assert!(files().len() >= 60, "{}", files().len());
    for path in files() {
        let text = std::fs::read_to_string(&path).expect("it can be read");
        assert!(text.lines().count() <= LINES, "{} is too long", path.display());
        assert!(text.starts_with("# "), "{} does not say what happened", path.display());
        let expects = text.contains("expect:") || text.contains("never:") || text.contains("refused:");
        assert!(expects, "{} expects nothing", path.display());
    }
}

#[test]
fn every_scenario_fails_when_what_it_expects_is_turned_round() {
    for path in files() {
        let mut story = load(&path).unwrap_or_else(|error| panic!("{error}"));
        // What is expected at each moment must never be, and what must never be is left out: at least one must be told.
        story.never = story.moments.iter_mut().filter_map(|moment| moment.expect.take()).collect();
        story.moments.iter_mut().for_each(|moment| moment.said.iter_mut().for_each(|said| said.refused = None));

        assert!(!play(&story).failures.is_empty(), "{} can not fail", path.display());
    }
}
