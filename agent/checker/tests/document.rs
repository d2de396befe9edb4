//! `docs/safety.md` and the code agree.

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

#[test]
fn every_mutant_that_is_named_exists_and_every_invariant_has_one() {
    for invariant in Invariant::ALL {
        let named = ticked(section(invariant), "Mutants");

        assert!(!named.is_empty(), "{invariant} has no mutant");
        for name in named {
            let patch = root().join(format!("tests/mutants/{name}.patch"));
            assert!(patch.is_file(), "{invariant}: there is no {}", patch.display());
        }
    }
}

#[test]
fn every_file_that_is_named_exists() {
    let named = DOCUMENT.split('`').skip(1).step_by(2).filter(|word| word.contains('/') && !word.contains(' '));
    for path in named {
        assert!(root().join(path).exists(), "docs/safety.md names {path}, which is not there");
    }
}
