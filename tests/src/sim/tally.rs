//! What happened in many stories, counted.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::fault::Kind;

/// Counts over one or many stories.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Stories.
    pub stories: u64,
    /// Events that the core judged.
    pub events: u64,
    /// Stories in which a fault of this kind made a difference.
    pub felt: Vec<u64>,
    /// How often an invariant or check had something to judge.
    pub judged: BTreeMap<String, u64>,
    /// Promotes that were started.
    pub promotes: u64,
    /// Ends of the daemon, of whichever kind.
    pub crashes: u64,
    /// Starts that were refused for a damaged journal.
    pub refused_starts: u64,
    /// Orders of humans that were carried out.
    pub orders: u64,
    /// And those that were refused.
    pub orders_refused: u64,
    /// How stories ended.
    pub endings: BTreeMap<String, u64>,
}

impl Tally {
    /// Of nothing.
    #[must_use]
    pub fn new() -> Self {
        Self { felt: vec![0; Kind::ALL.len()], ..Self::default() }
    }

    /// One story is over.
    pub(super) fn close(&mut self, felt: &[bool], events: u64, judged: BTreeMap<String, u64>) {
        self.stories = 1;
        self.events = events;
        self.felt = felt.iter().map(|felt| u64::from(*felt)).collect();
        self.judged = judged;
    }

    /// Adds another's counts.
    pub fn add(&mut self, other: &Tally) {
        self.stories += other.stories;
        self.events += other.events;
        self.felt.resize(Kind::ALL.len(), 0);
        for (mine, theirs) in self.felt.iter_mut().zip(&other.felt) {
            *mine += theirs;
        }
        for (name, count) in &other.judged {
            *self.judged.entry(name.clone()).or_default() += count;
        }
        for (name, count) in &other.endings {
            *self.endings.entry(name.clone()).or_default() += count;
        }
        self.promotes += other.promotes;
        self.crashes += other.crashes;
        self.refused_starts += other.refused_starts;
        self.orders += other.orders;
        self.orders_refused += other.orders_refused;
    }

    /// Kinds of faults, and checks, that never had anything to do.
    #[must_use]
    pub fn idle(&self) -> Vec<String> {
        let faults = Kind::ALL.iter().filter(|kind| self.felt.get(kind.at()).is_none_or(|n| *n == 0));
        let checks = self.judged.iter().filter(|(_, n)| **n == 0).map(|(name, _)| name.clone());
        faults.map(|kind| kind.words().to_owned()).chain(checks).collect()
    }
}

/// Tables in Markdown.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| stories | events judged | promotes | ends of the daemon | refused starts | orders | refused orders |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|")?;
        let Self { stories, events, promotes, crashes, refused_starts, orders, orders_refused, .. } = self;
        writeln!(
            f,
            "| {stories} | {events} | {promotes} | {crashes} | {refused_starts} | {orders} | {orders_refused} |\n"
        )?;
        let table = |f: &mut fmt::Formatter<'_>, head: &str, rows: Vec<(&str, u64)>| {
            writeln!(f, "| {head} | count |\n|---|---|")?;
            rows.into_iter().try_for_each(|(name, count)| writeln!(f, "| {name} | {count} |"))?;
            writeln!(f)
        };
        table(f, "how stories ended", self.endings.iter().map(|(k, n)| (k.as_str(), *n)).collect())?;
        let felt = Kind::ALL.iter().map(|kind| (kind.words(), self.felt.get(kind.at()).copied().unwrap_or(0)));
        table(f, "stories in which this made a difference", felt.collect())?;
        table(f, "judged by", self.judged.iter().map(|(k, n)| (k.as_str(), *n)).collect())
    }
}
