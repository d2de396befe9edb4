//! The builds without a guard, and what became of them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::Context as _;
use understudy_checker::Invariant;

/// The verdict on a mutant whose test has failed, as it must.
const CAUGHT: &str = "caught";
/// What stands for the violated invariant where the simulation was to violate one, and did not.
const NOT_SIMULATED: [&str; 2] = ["NOT MET", "NO VERDICT"];

/// A build from which one guard is taken away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mutant {
    /// Such as `s02-observe-writes`.
    name: String,
    verdict: Option<Verdict>,
}

/// What its last trial has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Verdict {
    says: String,
    test: String,
    seed: String,
    invariant: String,
}

impl Mutant {
    pub(super) fn is_about(&self, invariant: Invariant) -> bool {
        self.about() == invariant.to_string()
    }

    pub(super) fn is_caught(&self) -> bool {
        self.verdict.as_ref().is_some_and(Verdict::is_caught)
    }

    /// The invariant that the guard holds, by the name: of `s02-observe-writes` S2.
    fn about(&self) -> String {
        let (word, _) = self.name.split_once('-').unwrap_or((&self.name, ""));
        let (letter, number) = word.split_at_checked(1).unwrap_or_default();
        format!("{}{}", letter.to_uppercase(), number.trim_start_matches('0'))
    }

    /// What is missing for it to count.
    pub(super) fn lacks(&self) -> Option<String> {
        let Self { name, verdict, .. } = self;
        match verdict {
            None => Some(format!("mutant {name} was not tried: `tests/run mutants {name}`")),
            Some(verdict) if verdict.is_caught() => None,
            Some(Verdict { says, invariant, .. }) => {
                Some(format!("mutant {name}: {says} by its test, simulated: {invariant}"))
            }
        }
    }
}

impl Verdict {
    fn is_caught(&self) -> bool {
        self.says == CAUGHT && !NOT_SIMULATED.contains(&self.invariant.as_str())
    }
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self { name, verdict }, about) = (self, self.about());
        match verdict {
            None => write!(f, "| {name} | {about} | not tried | | | |"),
            Some(Verdict { says, test, seed, invariant }) => {
                write!(f, "| {name} | {about} | {says} | {test} | {seed} | {invariant} |")
            }
        }
    }
}

/// Every patch in `patches`, with the last verdict on it in the file `verdicts`: lines of name, verdict, test, seed and
/// invariant, with tabs between them.
pub(super) fn collect(patches: &Path, verdicts: &Path) -> anyhow::Result<Vec<Mutant>> {
    let mut known = match std::fs::read_to_string(verdicts) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
        text => verdicts_in(&text.with_context(|| format!("failed to read {}", verdicts.display()))?),
    };
    let mut mutants = Vec::new();
    for entry in std::fs::read_dir(patches).with_context(|| format!("failed to list {}", patches.display()))? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".patch")) else { continue };
        mutants.push(Mutant { name: name.to_owned(), verdict: known.remove(name) });
    }
    mutants.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(mutants)
}

fn verdicts_in(text: &str) -> BTreeMap<String, Verdict> {
    let lines = text.lines().map(|line| line.split('\t').map(str::to_owned));
    let read = lines.filter_map(|mut columns| {
        let (name, says) = (columns.next()?, columns.next()?);
        let mut column = || columns.next().unwrap_or_default();
        Some((name, Verdict { says, test: column(), seed: column(), invariant: column() }))
    });
    read.collect()
}
