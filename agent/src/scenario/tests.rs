//! The format: what it refuses, and that a story can fail.

use std::path::Path;

use understudy_config::Document;

use super::*;

fn read(text: &str) -> Result<Story, String> {
    let read: Document<file::File> = Document::from_text("s.yaml", text).map_err(|error| error.to_string())?;
    Story::of(Path::new("s.yaml"), &read).map_err(|problem| problem.to_string())
}

fn refusal(text: &str) -> String {
    read(text).expect_err("it must be refused")
}

fn failures(text: &str) -> Vec<String> {
    let played = play(&read(text).expect("it can be read"));
    played.failures.into_iter().map(|f| format!("{}: {} / {}", f.line, f.expected, f.found)).collect()
}

#[test]
fn what_is_wrong_is_told_with_its_line_and_the_remedy() {
    for (text, message) in [
        ("timeline:\n  - { at: 5, see: { a: down } }", "s.yaml:2:11: 5 has no unit: write 5s, 5m or 5ms"),
        ("timeline:\n  - { at: 0s, sea: { a: down } }", "s.yaml:2:15: unknown key \"sea\": did you mean \"see\"?"),
        (
            "timeline:\n  - { at: 0s, see: { wob: down } }",
            "s.yaml:2:22: nobody here is called \"wob\": write one of own-api",
        ),
        ("timeline:\n  - { at: 0s, see: { a: dwn } }", "s.yaml:2:22: \"dwn\" says nothing of a look: write up"),
        (
            "timeline:\n  - { at: 0s, see: { peer: down } }",
            "s.yaml:2:22: peer looks at what arrives at B, and never says Down",
        ),
        (
            "timeline:\n  - { at: 0s, expect: { verdict: Dead } }",
            "s.yaml:2:25: \"Dead\" is no verdict: write one of Up",
        ),
        ("timeline:\n  - { at: 0s, expect: {} }", "s.yaml:2:15: nothing is expected here"),
        ("timeline:\n  - { at: 0s }", "s.yaml:2:7: nothing happens here"),
        (
            "timeline:\n  - { at: 2s, see: { a: up } }\n  - { at: 1s, see: { a: up } }",
            "s.yaml:3:7: time does not go back",
        ),
        (
            "timeline:\n  - { at: 0s, steps: { promot: hangs } }",
            "s.yaml:2:24: there is no step \"promot\": write one of fence",
        ),
        ("timeline:\n  - { at: 0s, steps: { fence: done } }", "s.yaml:2:24: a fence is `confirmed` or `not confirmed`"),
        ("timeline:\n  - { at: 0s, steps: { recheck: done } }", "s.yaml:2:24: recheck goes by what is seen"),
        ("timeline:\n  - { at: 0s, order: dance }", "s.yaml:2:15: unrecognized subcommand 'dance'"),
        ("timeline:\n  - { at: 0s, order: status }", "s.yaml:2:15: \"status\" changes nothing"),
        ("timeline:\n  - { at: 0s, order: 'deny nexus-1 --reason \"no' }", "s.yaml:2:15: a quote is not closed"),
        ("timeline:\n  - { at: 0s, by: anna }", "s.yaml:2:5: `by` and `refused` belong to an `order`"),
        (
            "timeline:\n  - { at: 0s, pair: other, see: { a: up } }",
            "s.yaml:2:15: there is no pair \"other\": write one of nexus",
        ),
        ("policy: { mode: fast }\ntimeline: []", "s.yaml:1:11: \"fast\" is no mode: write one of observe"),
        (
            "config: nowhere.yaml\ntimeline: []",
            "s.yaml:1:1: this configuration can not be read: failed to read nowhere.yaml",
        ),
        ("pairs: []\ntimeline: []", "s.yaml:1:1: no pair: name at least one"),
        ("until: 1s\ntimeline:\n  - { at: 2s, see: { a: up } }", "s.yaml:1:1: it is over before its last entry"),
        (
            "timeline:\n  - { at: 0s, mirror: { image: x } }",
            "s.yaml:2:25: there is no image \"x\": write one of myblock/nexus",
        ),
        ("timeline:\n  - { at: 0s, wall_clock: 3s }", "s.yaml:2:15: \"3s\" has no direction"),
        ("timeline:\n  - { at: 0s, daemon: sleeps }", "s.yaml:2:15: \"sleeps\" befalls no daemon"),
    ] {
        let told = refusal(text);

        assert!(told.starts_with(message), "{text}\n  expected {message}\n  told     {told}");
    }
}

#[test]
fn a_verdict_that_is_not_as_expected_is_told_with_what_was_found() {
    let told = failures("timeline:\n  - { at: 0s, see: { a: down } }\n  - { at: 30s, expect: { verdict: SiteDown } }");

    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("3: verdict SiteDown / Suspect since 10.0 s (web is Down(refused)"), "{told:?}");
}

#[test]
fn a_time_that_is_off_by_more_than_a_second_is_told() {
    let at = |since: &str| {
        failures(&format!(
            "timeline:\n  - {{ at: 0s, see: {{ a: down }} }}\n  - {{ at: 3m, expect: {{ since: {since} }} }}"
        ))
    };

    assert_eq!(at("1m 40s"), [""; 0]);
    assert_eq!(at("1m 38s").len(), 1);
}

#[test]
fn what_must_never_be_is_told_once_with_its_moment() {
    let told = failures(
        "timeline:\n  - { at: 0s, see: { a: down } }\nuntil: 10m\nnever:\n  - { verdict: SiteDown, asked: failover }",
    );

    assert_eq!(told, ["5: never: verdict SiteDown, asked: failover / it is so now"]);
}

#[test]
fn an_order_that_is_taken_where_it_must_be_refused_is_told_and_the_other_way_round() {
    let told = failures(
        "timeline:\n  - { at: 0s, order: pause, refused: not now }\n  - { at: 1s, order: unblock nexus }\n  - { at: 2s, order: unblock nexus, refused: because }",
    );

    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[0].starts_with("2: refused: \"not now\" / taken: paused"), "{told:?}");
    assert!(told[1].starts_with("3: the order is taken / refused: no recovery block"), "{told:?}");
}

#[test]
fn the_same_story_gives_the_same_film() {
    let story =
        read("timeline:\n  - { at: 0s, see: { a: down } }\n  - { at: 5m, expect: { verdict: SiteDown } }").unwrap();

    let (one, two) = (play(&story), play(&story));

    assert_eq!((one.failures.clone(), one.said.clone(), one.events), (two.failures, two.said, two.events));
    assert_eq!(picture(&story, &one), picture(&story, &play(&story)));
}

#[test]
fn the_picture_shows_the_signals_the_verdict_and_the_place_of_the_failure() {
    let story = read("timeline:\n  - { at: 0s, see: { a: down } }\n  - { at: 2m, expect: { verdict: Up } }").unwrap();

    let shown = picture(&story, &play(&story));

    let row =
        |label: &str| shown.lines().find(|line| line.trim_start().starts_with(label)).unwrap_or_default().to_owned();
    assert!(row("web ").contains("+++") && row("web ").ends_with("---"), "{shown}");
    assert!(row("verdict").contains("Us") && row("verdict").ends_with("DD"), "{shown}");
    assert!(shown.lines().any(|line| line.trim() == "^"), "{shown}");
    assert!(shown.contains("s.yaml:3: at 2 min 00 s"), "{shown}");
}

#[test]
fn the_rules_of_a_configuration_are_those_that_are_played() {
    let dir = tempfile::tempdir().unwrap();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/example.yaml");
    std::fs::copy(example, dir.path().join("understudy.yaml")).unwrap();
    let path = dir.path().join("s.yaml");
    std::fs::write(
        &path,
        "config: understudy.yaml\ntimeline:\n  - { at: 0s, see: { a: down, witnesses: down } }\n  - { at: 10m, expect: { verdict: SiteDown } }\n",
    )
    .unwrap();

    let story = load(&path).unwrap();

    assert_eq!(story.policy.pairs[0].name.as_str(), "nexus-ddrs");
    assert_eq!(play(&story).failures, []);
}
