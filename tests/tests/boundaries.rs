//! Every parser that reads something from outside, fed with real answers and with what chance makes of them.
//!
//! Three runs: the seeds as they are, so many inputs from a fixed seed, and as many from a fresh one as fit into some
//! seconds (`UNDERSTUDY_FUZZ_SECONDS`). A failure prints its seed; `UNDERSTUDY_FUZZ_SEED` runs it again. The inputs that ever
//! broke a promise lie in `tests/fuzz/cases`. The same checks run for as long as one likes under `cargo fuzz`: see
//! `tests/fuzz/README.md`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use understudy_tests::boundary::mutate::Chance;
use understudy_tests::boundary::{Tally, all, hold, one, worlds};

/// Inputs of each world from the fixed seed.
const FIXED: usize = 100;
/// How long the fresh seed runs, all worlds together, unless `UNDERSTUDY_FUZZ_SECONDS` says otherwise.
const FRESH: Duration = Duration::from_secs(6);
/// What the whole run may hold, far more than it needs: an answer of 64 KiB must not become gigabytes.
const MOST_MEMORY_KIB: u64 = 1024 * 1024;

#[test]
fn every_real_answer_is_read_and_every_case_of_the_past_keeps_its_promise() {
    let mut taken: BTreeMap<&str, u64> = BTreeMap::new();
    for world in worlds() {
        for (_, seed) in seeds(world) {
            for boundary in all().filter(|boundary| boundary.world == world) {
                *taken.entry(boundary.name).or_default() += one(boundary, &seed).taken;
            }
        }
    }
    // What no seed reaches is not tested at all. Four are refusals whatever they say.
    let never = ["witness", "answer to an update", "refusal", "exit of rbd"];
    let untouched: Vec<_> = all().map(|b| b.name).filter(|name| !never.contains(name) && taken[name] == 0).collect();
    assert!(untouched.is_empty(), "no seed is taken for a value by {untouched:?}");
}

#[test]
fn what_chance_makes_of_real_answers_breaks_no_promise() {
    let mut broken = Vec::new();
    for world in worlds() {
        let seeds: Vec<Vec<u8>> = seeds(world).into_iter().map(|(_, seed)| seed).collect();
        let mut chance = Chance::new(1);
        for _ in 0..FIXED {
            let input = chance.input(&seeds);
            // All that are broken are told at once: a build takes longer than this run.
            broken.extend(std::panic::catch_unwind(|| hold(world, &input)).err().map(|_| world));
        }
    }
    assert!(broken.is_empty(), "broken in {broken:?}, see above");
    assert!(most_memory_kib() < MOST_MEMORY_KIB, "{} KiB", most_memory_kib());
}

#[test]
fn what_chance_makes_of_them_today_breaks_none_either() {
    let seed = std::env::var("UNDERSTUDY_FUZZ_SEED").ok().and_then(|seed| seed.parse().ok());
    let seconds = std::env::var("UNDERSTUDY_FUZZ_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    let share = seconds.map_or(FRESH, Duration::from_secs) / u32::try_from(worlds().len()).unwrap();
    let seed = seed.unwrap_or_else(|| jiff::Timestamp::now().as_millisecond().unsigned_abs());
    println!("UNDERSTUDY_FUZZ_SEED={seed}");
    let mut broken = Vec::new();

    for world in worlds() {
        let seeds: Vec<Vec<u8>> = seeds(world).into_iter().map(|(_, seed)| seed).collect();
        let (mut chance, mut inputs, mut tally) = (Chance::new(seed), 0_u64, Tally::default());
        let end = Instant::now() + share;
        while Instant::now() < end {
            let input = chance.input(&seeds);
            inputs += 1;
            let Ok(of_this) = std::panic::catch_unwind(|| hold(world, &input)) else {
                broken.push(world);
                continue;
            };
            tally = Tally { taken: tally.taken + of_this.taken, refused: tally.refused + of_this.refused };
        }
        println!("{world:<12} {inputs:>6} inputs, {:>6} taken, {:>6} refused", tally.taken, tally.refused);
        assert!(tally.refused > 0, "{world}: chance made nothing that is refused");
    }
    assert!(broken.is_empty(), "broken in {broken:?}, see above; UNDERSTUDY_FUZZ_SEED={seed}");
}

/// What is misspelt must not be taken for what is not said.
#[test]
fn an_order_with_a_key_that_nobody_knows_is_refused() {
    let order = all().find(|boundary| boundary.name == "order").unwrap();
    let mut tried = 0;
    for (path, seed) in seeds("orders") {
        if path.extension().is_none_or(|end| end != "json") || (order.read)(&seed).is_err() {
            continue;
        }
        let mut changed: serde_json::Value = serde_json::from_slice(&seed).unwrap();
        changed["order"]["accept_los_ms"] = 1.into();

        let said = (order.read)(changed.to_string().as_bytes());

        if changed["order"].as_object().is_some_and(|order| order.len() == 2) {
            // It has no key but its name, so that none can be misspelt.
            continue;
        }
        assert!(said.is_err_and(|why| why.contains("accept_los_ms")), "{}", path.display());
        tried += 1;
    }
    assert_eq!(tried, 7, "one for each kind of order that has a key");
}

#[test]
fn every_world_has_a_fuzz_target_and_every_target_a_world() {
    let targets = fs::read_dir(root().join("tests/fuzz/fuzz_targets")).unwrap();
    let mut targets: Vec<String> =
        targets.map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    targets.sort();
    let manifest = fs::read_to_string(root().join("tests/fuzz/Cargo.toml")).unwrap();

    assert_eq!(targets, worlds());
    for world in worlds() {
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{world}.rs\"")), "{world}");
        let text = fs::read_to_string(root().join(format!("tests/fuzz/fuzz_targets/{world}.rs"))).unwrap();
        assert!(text.contains(&format!("hold(\"{world}\", ")), "{world}");
    }
}

#[test]
fn a_setting_that_nobody_knows_is_refused_wherever_it_stands() {
    let text = fs::read_to_string(root().join("config/example.yaml")).unwrap();
    let settings = all().find(|boundary| boundary.name == "settings").unwrap();
    assert!((settings.read)(text.as_bytes()).is_ok());

    let lines: Vec<&str> = text.lines().collect();
    let mut tried = 0;
    for (number, line) in lines.iter().enumerate() {
        // A key of a map that is written in lines.
        let key = line.trim_start().trim_start_matches("- ");
        let is_key =
            key.split_once(':').is_some_and(|(name, _)| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
        if !is_key || line.trim_start().starts_with("- {") || line.trim_start().starts_with('#') {
            continue;
        }
        let column = line.len() - key.len();
        let mut changed = lines.clone();
        let unknown = format!("{}levitation: 7", " ".repeat(column));
        // Behind what belongs to this key.
        let next = (number + 1..lines.len())
            .find(|at| {
                let other = lines[*at];
                !other.trim().is_empty()
                    && !other.trim_start().starts_with('#')
                    && other.len() - other.trim_start().len() <= column
            })
            .unwrap_or(lines.len());
        changed.insert(next, &unknown);
        let said = (settings.read)(changed.join("\n").as_bytes());
        if line.trim_start().starts_with("headers") || open_map(&lines, number) {
            continue;
        }
        assert!(said.is_err(), "after line {}: {line}", number + 1);
        tried += 1;
    }
    assert!(tried > 60, "{tried}");
}

/// Whether any name may stand beside this key.
fn open_map(lines: &[&str], number: usize) -> bool {
    let column = |line: &str| line.len() - line.trim_start().len();
    let parent =
        lines[..number].iter().rev().find(|line| !line.trim().is_empty() && column(line) < column(lines[number]));
    parent.is_some_and(|parent| {
        ["image_registry:", "headers:", "secret_headers:", "body:"]
            .iter()
            .any(|open| parent.trim_start().starts_with(open))
    })
}

/// The seeds of a world with their files, the cases of the past among them.
fn seeds(world: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let mut folders = vec![format!("tests/fuzz/corpus/{world}"), format!("tests/fuzz/cases/{world}")];
    match world {
        "ceph" => folders.push("probes/tests/fixtures/ceph".into()),
        "config" => folders.extend(["config".into(), "tests/bad-config".into()]),
        _ => {}
    }
    let mut seeds = Vec::new();
    for folder in folders {
        let Ok(files) = fs::read_dir(root().join(folder)) else { continue };
        let files = files.map(|file| file.unwrap().path());
        seeds.extend(files.filter(|path| path.is_file()).map(|path| (path.clone(), fs::read(path).unwrap())));
    }
    seeds.sort();
    assert!(!seeds.is_empty(), "{world} has no seed");
    seeds
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The most that this process ever held.
fn most_memory_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
