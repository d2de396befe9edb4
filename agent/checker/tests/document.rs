//! `docs/safety.md` and the code agree.

use std::fs;
use std::path::Path;

use understudy_checker::Invariant;

const DOCUMENT: &str = include_str!("../../../docs/safety.md");

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// The section of `invariant`.
fn section(invariant: Invariant) -> &'static str {
    let heading = format!("{invariant}\n");
    let found = DOCUMENT.split("\n## ").find(|section| section.starts_with(&heading));
    found.unwrap_or_else(|| panic!("docs/safety.md has no section {invariant}"))
}

/// What stands in ticks in the paragraph `**label.**` of `section`.
fn ticked<'a>(section: &'a str, label: &str) -> Vec<&'a str> {
    let start = section.find(&format!("**{label}.**")).unwrap_or_else(|| panic!("no {label} in {section}"));
    let rest = &section[start + label.len() + 5..];
    let paragraph = &rest[..rest.find("\n**").unwrap_or(rest.len())];
    paragraph.split('`').skip(1).step_by(2).collect()
}

#[test]
fn every_invariant_has_its_section_with_the_promise_that_the_code_gives() {
    for invariant in Invariant::ALL {
        let text = section(invariant);
        let mut promise = invariant.promise().to_owned();
        promise[..1].make_ascii_uppercase();

        assert!(text.contains(&format!("**Promise.** {promise}.")), "{invariant}: the promise is another");
        for label in ["Held by", "Tried by", "Mutants", "Not promised"] {
            assert!(text.contains(&format!("**{label}.** ")), "{invariant}: nothing is said under {label}");
        }
    }
}

/// The name and the text of every mutant.
fn mutants() -> Vec<(String, String)> {
    let files =
        fs::read_dir(root().join("tests/mutants")).expect("it is there").map(|file| file.expect("it is").path());
    let patches = files.filter(|path| path.extension().is_some_and(|extension| extension == "patch"));
    patches
        .map(|path| {
            let name = path.file_stem().expect("it has a name").to_string_lossy().into_owned();
            (name, fs::read_to_string(&path).expect("it can be read"))
        })
        .collect()
}

/// What stands behind `# label: ` in a mutant's head.
fn head<'a>(patch: &'a str, label: &str) -> Option<&'a str> {
    patch.lines().find_map(|line| line.strip_prefix("# ")?.strip_prefix(label)?.strip_prefix(": "))
}

/// Of a name as `s02-observe-writes`: S2.
fn invariant_of(name: &str) -> String {
    let (letter, number) = name.split_at(1);
    format!("{}{}", letter.to_uppercase(), number[..2].trim_start_matches('0'))
}

#[test]
fn every_mutant_stands_with_its_invariant_and_every_invariant_has_one() {
    let mutants = mutants();
    for invariant in Invariant::ALL {
        let named = ticked(section(invariant), "Mutants");

        let its_own = mutants.iter().map(|(name, _)| name).filter(|name| invariant_of(name) == invariant.to_string());
        assert!(!named.is_empty(), "{invariant} has no mutant");
        for name in its_own {
            assert!(named.contains(&name.as_str()), "{invariant}: docs/safety.md does not name {name}");
        }
        for name in named {
            assert!(mutants.iter().any(|(of, _)| of == name), "{invariant}: there is no mutant {name}");
        }
    }
}

#[test]
fn every_mutant_says_what_it_takes_away_and_which_test_of_which_package_must_fail() {
    for (name, patch) in mutants() {
        let test = head(&patch, "test").unwrap_or_else(|| panic!("{name} names no test"));

        assert!(head(&patch, &invariant_of(&name)).is_some(), "{name} does not say what it takes away");
        assert!(test.starts_with("understudy-") && test.contains(' '), "{name}: {test}");
    }
}

#[test]
fn every_invariant_has_a_mutant_that_the_simulation_must_meet() {
    // A mutant that goes by another invariant, or that the core itself stops with a panic, has its own in its name.
    let simulated = |(name, patch): &(String, String)| {
        let met = head(patch, "simulated")?.split(' ').next()?.to_owned();
        Some([met, invariant_of(name)])
    };
    let met: Vec<String> = mutants().iter().filter_map(simulated).flatten().collect();
    for invariant in Invariant::ALL {
        assert!(met.contains(&invariant.to_string()), "{invariant}: no mutant is simulated");
    }
}

#[test]
fn every_file_that_is_named_exists() {
    let named = DOCUMENT.split('`').skip(1).step_by(2).filter(|word| word.contains('/') && !word.contains(' '));
    for path in named {
        assert!(root().join(path).exists(), "docs/safety.md names {path}, which is not there");
    }
}
