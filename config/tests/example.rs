//! The example is the manual: it loads, nothing in it is wrong, and every key is in it.

use std::collections::BTreeSet;
use std::path::Path;

use understudy_config::{Config, Finding, Loaded, Severity, check, check_settings, schema};

const EXAMPLE: &str = include_str!("../example.yaml");

mod world;

#[test]
fn the_example_loads_without_an_error_and_without_a_warning() {
    let loaded = load(EXAMPLE);

    assert_eq!(texts(check_settings(&loaded)), Vec::<String>::new());
}

#[test]
fn the_example_has_nothing_wrong_where_its_files_are() {
    let world = world::World::new();
    let text = world.place(&EXAMPLE.replace("/etc/understudy", "@DIR@"));

    let findings = check(&load(&text));

    assert_eq!(texts(findings), Vec::<String>::new());
}

#[test]
fn without_its_files_the_example_is_refused_with_the_path_of_each() {
    let findings = check(&load(&EXAMPLE.replace("/etc/understudy", "/nowhere")));

    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    assert!(errors >= 15, "{}", texts(findings.clone()).join("\n"));
    assert!(
        findings.iter().all(|finding| finding.message.contains("/nowhere") || finding.message.contains("nexus.yaml"))
    );
}

#[test]
fn every_key_of_the_schema_is_in_the_example() {
    let mut keys = BTreeSet::new();
    keys_of(schema().as_value(), &mut keys);
    assert!(keys.len() > 100 && keys.contains("rbd_mirror") && keys.contains("expect_json"), "{keys:?}");

    let missing: Vec<&String> = keys.iter().filter(|key| !mentions(key)).collect();

    assert_eq!(missing, Vec::<&String>::new());
}

#[test]
fn every_key_of_the_example_has_a_comment() {
    let lines: Vec<&str> = EXAMPLE.lines().collect();
    let is_key = |line: &str| {
        let line = line.trim_start().trim_start_matches("- ");
        line.split_once(':')
            .is_some_and(|(key, _)| !key.is_empty() && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
    };

    let bare: Vec<&str> = lines
        .windows(2)
        .filter(|two| is_key(two[1]) && !two[1].contains(" #") && !two[0].trim_start().starts_with('#'))
        .map(|two| two[1])
        // Their own lines say it: these only open a map whose every key is explained.
        .filter(|line| !["state:", "ceph:", "http:", "rbd:"].contains(&line.trim()))
        .collect();

    assert_eq!(bare, Vec::<&str>::new());
}

#[test]
fn the_schema_refuses_unknown_keys_and_asks_for_one_way_of_looking() {
    let schema = schema().to_value();
    let probe = schema.pointer("/$defs/Probe").expect("the probe has a definition");

    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(probe["additionalProperties"], false);
    assert_eq!(probe["oneOf"].as_array().map(Vec::len), Some(8));
    assert_eq!(probe["required"], serde_json::json!(["name"]));
}

fn load(text: &str) -> Loaded {
    Config::from_text("example.yaml", text, []).unwrap_or_else(|error| panic!("{error}"))
}

fn texts(findings: Vec<Finding>) -> Vec<String> {
    findings.iter().map(Finding::to_string).collect()
}

/// As a key of its own, whether active or commented out.
fn mentions(key: &str) -> bool {
    EXAMPLE.match_indices(&format!("{key}:")).any(|(at, _)| {
        EXAMPLE[..at].chars().next_back().is_none_or(|before| !before.is_alphanumeric() && before != '_')
    })
}

fn keys_of(schema: &serde_json::Value, keys: &mut BTreeSet<String>) {
    match schema {
        serde_json::Value::Object(fields) => {
            if let Some(serde_json::Value::Object(properties)) = fields.get("properties") {
                keys.extend(properties.keys().cloned());
            }
            fields.values().for_each(|field| keys_of(field, keys));
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| keys_of(item, keys)),
        _ => {}
    }
}

#[test]
fn the_example_gives_a_policy() {
    let policy = load(EXAMPLE).policy();

    assert_eq!(policy.pairs.len(), 1);
    assert_eq!(policy.pairs[0].plan.routes, ["webhook lb.example.org", "dns_update nexus.example.net"]);
    assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join("example.yaml").is_file());
}
