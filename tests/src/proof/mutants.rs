//! The builds without a guard, and what became of them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::Context as _;
use understudy_checker::Invariant;

/// The verdict on a mutant whose test has failed, as it must.
const CAUGHT: &str = "caught";

/// A build from which one guard is taken away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mutant {
    name: String,
    /// The invariants that the guard holds, as the patch's first line has them.
    about: Vec<String>,
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
        self.about.iter().any(|name| *name == invariant.to_string())
    }

    pub(super) fn is_caught(&self) -> bool {
        self.verdict.as_ref().is_some_and(|verdict| verdict.says == CAUGHT)
    }

    /// What is missing for it to count.
    pub(super) fn lacks(&self) -> Option<String> {
        let Self { name, verdict, .. } = self;
        match verdict {
            None => Some(format!("mutant {name} was not tried: `tests/run mutants {name}`")),
            Some(verdict) if verdict.says == CAUGHT => None,
            Some(verdict) => Some(format!("mutant {name}: {}", verdict.says)),
        }
    }
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, about, verdict } = self;
        let about = about.join(", ");
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
        let text = std::fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
        mutants.push(Mutant { name: name.to_owned(), about: about(&text), verdict: known.remove(name) });
    }
    mutants.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(mutants)
}

/// "# S10, L2: a promote ..." is about S10 and L2.
fn about(patch: &str) -> Vec<String> {
    let first = patch.lines().next().and_then(|line| line.strip_prefix('#')).unwrap_or_default();
    let (names, _) = first.split_once(':').unwrap_or_default();
    names.split(',').map(|name| name.trim().to_owned()).collect()
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
