//! How often each invariant was judged and by what, and which of the builds without a guard were caught.
//!
//! In: the [`Account`] that each [`Source`] leaves in the cache when it has run ([`keep`]), the mutants' patches, and the
//! verdicts on them that `tests/run mutants` leaves. Out: [`Proof`], the table of invariants and sources, and what it lacks:
//! a source that has not been run, an invariant that nobody judged, a mutant that was not caught. Start reading at
//! [`Proof::collect`].

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use understudy_checker::Invariant;

mod mutants;

pub use mutants::Mutant;

/// What judges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Stories in the simulated world.
    Simulation,
    /// Every small world.
    SmallWorlds,
    /// The daemon killed at each record and each effect.
    CrashTest,
    /// Journals of failovers on real parts.
    RealJournals,
}

impl Source {
    /// Every source, in the order of the columns.
    pub const ALL: [Source; 4] = [Source::Simulation, Source::SmallWorlds, Source::CrashTest, Source::RealJournals];

    fn title(self) -> &'static str {
        match self {
            Source::Simulation => "simulation",
            Source::SmallWorlds => "small worlds",
            Source::CrashTest => "crash test",
            Source::RealJournals => "real journals",
        }
    }

    fn folder(self) -> &'static str {
        match self {
            Source::Simulation => "simulation",
            Source::SmallWorlds => "small-worlds",
            Source::CrashTest => "crash-test",
            Source::RealJournals => "real-journals",
        }
    }

    /// What makes its account.
    fn command(self) -> &'static str {
        match self {
            Source::Simulation => "tests/run simulate",
            Source::SmallWorlds => "tests/run worlds",
            Source::CrashTest => "cargo run --release --bin rehearse -- killed-everywhere",
            Source::RealJournals => "tests/run real",
        }
    }
}

/// How often each invariant was judged, by its name.
pub type Judged = BTreeMap<String, u64>;

/// What one run of a source has judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// What was run, in words.
    pub what: String,
    /// The commit that it was built from, as far as git can tell.
    pub commit: String,
    /// When it was over, in seconds since the Unix epoch.
    pub at: u64,
    /// The counts.
    pub judged: Judged,
    /// What was violated, if anything was.
    pub broken: Option<String>,
}

impl Account {
    /// The account of a run that is over now.
    #[must_use]
    pub fn now(what: String, judged: Judged, broken: Option<String>) -> Self {
        Self { what, commit: commit(), at: seconds(), judged, broken }
    }
}

/// Where accounts are kept: in the cache that `tests/run` uses.
#[must_use]
pub fn place() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache");
    std::env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from).join("understudy").join("proof")
}

/// Keeps `account` in `place`; a later one of the same source and name replaces it.
///
/// # Errors
/// If it can not be written.
pub fn keep(place: &Path, source: Source, name: &str, account: &Account) -> anyhow::Result<()> {
    let folder = place.join(source.folder());
    let (file, unnamed) = (folder.join(format!("{name}.json")), folder.join(format!("{name}.new")));
    std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::write(&unnamed, serde_json::to_vec_pretty(account)?))
        .and_then(|()| std::fs::rename(&unnamed, &file))
        .with_context(|| format!("failed to keep the account {}", file.display()))
}

/// The counts in the answer of `understudy journal verify --json`.
///
/// # Errors
/// If there are none in it.
pub fn judged_in(answer: &str) -> anyhow::Result<Judged> {
    #[derive(Deserialize)]
    struct Verified {
        judged: Judged,
    }
    // What the command says to stderr may follow.
    let verified = serde_json::Deserializer::from_str(answer).into_iter::<Verified>().next();
    let verified = verified.context("`journal verify --json` answers nothing")?;
    Ok(verified.context("`journal verify --json` answers without counts")?.judged)
}

/// Adds counts to others.
pub fn add(to: &mut Judged, more: &Judged) {
    more.iter().for_each(|(name, n)| *to.entry(name.clone()).or_default() += n);
}

/// The counts of a simulation's checks ("checker S1", "world S1: writes within the lease") by the invariant they are about.
#[must_use]
pub fn by_invariant(checks: &Judged) -> Judged {
    let mut judged = Judged::new();
    for (check, n) in checks {
        let about = check.split([' ', ':']).find(|word| Invariant::ALL.iter().any(|known| known.to_string() == *word));
        about.into_iter().for_each(|name| *judged.entry(name.to_owned()).or_default() += n);
    }
    judged
}

/// Everything that was kept.
#[derive(Debug)]
pub struct Proof {
    accounts: BTreeMap<Source, BTreeMap<String, Account>>,
    mutants: Vec<Mutant>,
}

impl Proof {
    /// Joins the accounts in `place`, the patches in `patches` and the verdicts in the file `verdicts`.
    ///
    /// # Errors
    /// If one of them can not be read; what was never written is not an error.
    pub fn collect(place: &Path, patches: &Path, verdicts: &Path) -> anyhow::Result<Self> {
        let accounts =
            Source::ALL.into_iter().map(|source| anyhow::Ok((source, accounts_in(&place.join(source.folder()))?)));
        Ok(Self { accounts: accounts.collect::<anyhow::Result<_>>()?, mutants: mutants::collect(patches, verdicts)? })
    }

    /// What is missing for the proof to be whole.
    #[must_use]
    pub fn lacks(&self) -> Vec<String> {
        let mut lacks = Vec::new();
        for (source, accounts) in &self.accounts {
            if accounts.is_empty() {
                lacks.push(format!("{} was not run: `{}`", source.title(), source.command()));
            }
            let broken = accounts.iter().filter_map(|(name, account)| Some((name, account.broken.as_ref()?)));
            lacks.extend(broken.map(|(name, what)| format!("{} {name}: {what}", source.title())));
        }
        let nobody = Invariant::ALL.into_iter().filter(|one| Source::ALL.iter().all(|by| self.count(*by, *one) == 0));
        lacks.extend(nobody.map(|one| format!("{one} was judged nowhere: {}", one.promise())));
        let bare = Invariant::ALL.into_iter().filter(|one| !self.mutants.iter().any(|mutant| mutant.is_about(*one)));
        lacks.extend(bare.map(|one| format!("{one} has no mutant")));
        lacks.extend(self.mutants.iter().filter_map(Mutant::lacks));
        lacks
    }

    fn count(&self, source: Source, invariant: Invariant) -> u64 {
        let accounts = self.accounts.get(&source).into_iter().flat_map(BTreeMap::values);
        accounts.filter_map(|account| account.judged.get(&invariant.to_string())).sum()
    }

    fn row(&self, invariant: Invariant) -> String {
        let counts = Source::ALL.map(|source| match self.count(source, invariant) {
            0 => "never".to_owned(),
            n => n.to_string(),
        });
        let mutants = self.mutants.iter().filter(|mutant| mutant.is_about(invariant));
        let caught = mutants.clone().filter(|mutant| mutant.is_caught()).count();
        format!("| {invariant} | {} | {caught} of {} |", counts.join(" | "), mutants.count())
    }
}

/// Tables in Markdown.
impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let titles = Source::ALL.map(Source::title).join(" | ");
        writeln!(f, "| judged how often | {titles} | mutants caught |\n|---|---|---|---|---|---|")?;
        Invariant::ALL.into_iter().try_for_each(|invariant| writeln!(f, "{}", self.row(invariant)))?;
        writeln!(f, "\n| source | what was run | commit | hours ago |\n|---|---|---|---|")?;
        for (source, accounts) in &self.accounts {
            for (name, account) in accounts {
                let hours = seconds().saturating_sub(account.at) / 3600;
                let (title, what, commit) = (source.title(), &account.what, &account.commit);
                writeln!(f, "| {title}, {name} | {what} | {commit} | {hours} |")?;
            }
        }
        writeln!(f, "\n| mutant | takes away | verdict | test | seed | caught as |\n|---|---|---|---|---|---|")?;
        self.mutants.iter().try_for_each(|mutant| writeln!(f, "{mutant}"))
    }
}

fn accounts_in(folder: &Path) -> anyhow::Result<BTreeMap<String, Account>> {
    let mut accounts = BTreeMap::new();
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(accounts),
        entries => entries.with_context(|| format!("failed to list {}", folder.display()))?,
    };
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_none_or(|ending| ending != "json") {
            continue;
        }
        let read = || anyhow::Ok(serde_json::from_slice::<Account>(&std::fs::read(&path)?)?);
        let account = read().with_context(|| format!("failed to read the account {}", path.display()))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        accounts.insert(name, account);
    }
    Ok(accounts)
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn commit() -> String {
    let asked = Command::new("git")
        .args(["describe", "--always", "--dirty", "--exclude=*"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output();
    match asked {
        Ok(said) if said.status.success() => String::from_utf8_lossy(&said.stdout).trim().to_owned(),
        _ => "unknown".into(),
    }
}
