//! What is wrong with settings that can be read: every finding names its place and its remedy.
//!
//! In: [`Loaded`] settings, and the files that they name. Out: [`Finding`]s. An error is what makes a failover impossible or
//! unsafe: `understudy check` and `run` refuse. A warning is what an engineer should know. Start reading at [`check`].

mod address;
mod files;
mod listen;
mod plan;
mod probes;
mod quorum;
mod reach;
mod route;
mod storage;
mod webhook;

use std::fmt;

use crate::kubeconfig::Kubeconfig;
use crate::{Cluster, Config, Key, Loaded, Pair, Position};

pub use webhook::BODY_VARIABLES;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The daemon does not start with it.
    Error,
    /// Worth knowing.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        })
    }
}

/// What is wrong, where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The file.
    pub file: String,
    /// The line in it, from 1; of what surrounds the key if it is not written there.
    pub line: u64,
    /// The setting, such as `pairs[0].hold_down`.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { severity, file, line, key, message, remedy } = self;
        write!(f, "{file}:{line}: {severity}: {key}: {message}; {remedy}")
    }
}

/// Everything that is wrong with `loaded`, errors first, each in the order of the file.
#[must_use]
pub fn check(loaded: &Loaded) -> Vec<Finding> {
    let mut lint = Lint::new(loaded);
    settings(&mut lint);
    files::check(&mut lint);
    lint.sorted()
}

/// The part of [`check`] that looks at no secret and at no file but the kubeconfigs: for a machine that is not the standby's.
#[must_use]
pub fn check_settings(loaded: &Loaded) -> Vec<Finding> {
    let mut lint = Lint::new(loaded);
    settings(&mut lint);
    lint.sorted()
}

fn settings(lint: &mut Lint<'_>) {
    listen::check(lint);
    probes::check_self_checks(lint);
    for (pair, at) in lint.pairs() {
        probes::check(lint, pair, &at);
        quorum::check(lint, pair, &at);
        storage::check(lint, pair, &at);
        plan::check(lint, pair, &at);
        route::check(lint, pair, &at);
    }
    reach::check(lint);
}

/// The findings so far, and what they are made from.
struct Lint<'a> {
    loaded: &'a Loaded,
    primary: Option<Kubeconfig>,
    standby: Option<Kubeconfig>,
    found: Vec<(Position, Finding)>,
}

impl<'a> Lint<'a> {
    fn new(loaded: &'a Loaded) -> Self {
        let clusters = &loaded.config.clusters;
        let server = |cluster: &Option<Cluster>| match cluster {
            Some(Cluster::Kubeconfig(path)) => Kubeconfig::read(path).ok(),
            Some(Cluster::InCluster(_)) | None => None,
        };
        let (primary, standby) = (server(&clusters.primary), server(&clusters.standby));
        Self { loaded, primary, standby, found: Vec::new() }
    }

    fn config(&self) -> &'a Config {
        &self.loaded.config
    }

    fn pairs(&self) -> impl Iterator<Item = (&'a Pair, Key)> + use<'a> {
        let list = Key::root().key("pairs");
        self.config().pairs.iter().enumerate().map(move |(at, pair)| (pair, list.item(at)))
    }

    fn error(&mut self, key: &Key, message: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Error, key, message.into(), remedy.into());
    }

    fn warn(&mut self, key: &Key, message: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Warning, key, message.into(), remedy.into());
    }

    fn add(&mut self, severity: Severity, key: &Key, message: String, remedy: String) {
        let position = self.loaded.place(key);
        let file = self.loaded.file().to_owned();
        let finding = Finding { severity, file, line: position.line, key: key.to_string(), message, remedy };
        self.found.push((position, finding));
    }

    /// Names that stand twice, among things that are told apart by their names.
    fn unique<'n>(&mut self, names: impl IntoIterator<Item = (&'n str, Key)>) {
        let mut seen = std::collections::BTreeMap::new();
        for (name, key) in names {
            if let Some(first) = seen.insert(name, key.clone()) {
                self.error(&key, format!("{name:?} is also the name of {first}"), "give each its own name");
            }
        }
    }

    fn sorted(mut self) -> Vec<Finding> {
        self.found.sort_by_key(|(position, finding)| (finding.severity, *position));
        self.found.into_iter().map(|(_, finding)| finding).collect()
    }
}
