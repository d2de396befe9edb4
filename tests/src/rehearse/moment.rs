//! The moments at which a rehearsal kills the daemon.
//!
//! In: what a failover without any crash wrote down and did to the world. Out: a [`Moment`] for each record, which is on
//! disk and nothing is done about it yet, and one for each effect, which has happened and nobody knows of it yet. A moment is
//! told by what it is, not by its place: readings come in another order each time. Start reading at [`Moment::of_records`].

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use understudy_agent::Watcher;
use understudy_core::Record;

use crate::standin::effects::Effect;

/// What the daemon is killed after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum After {
    /// A record of its own: the intent is known, the effect is not begun.
    Record,
    /// An effect at a stand-in, before its answer: the effect is there, its outcome is not known.
    Effect,
}

/// One moment of a failover.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// What it comes after.
    pub after: After,
    /// What that is.
    pub label: String,
    /// The how many'th of these, from 1.
    pub nth: usize,
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.after {
            After::Record => "record",
            After::Effect => "effect",
        };
        write!(f, "{what} {:?}", self.label)?;
        if self.nth > 1 { write!(f, " #{}", self.nth) } else { Ok(()) }
    }
}

impl Moment {
    /// A moment after each of these records.
    pub fn of_records<'a>(records: impl Iterator<Item = &'a Record>) -> Vec<Moment> {
        numbered(After::Record, records.map(record_label))
    }

    /// A moment after each of these effects.
    pub fn of_effects<'a>(effects: impl Iterator<Item = &'a Effect>) -> Vec<Moment> {
        numbered(After::Effect, effects.map(effect_label))
    }

    /// Whether every failover comes to it. A second try of the same, or a reading, may be missing in another run.
    #[must_use]
    pub fn always_comes(&self) -> bool {
        let readings =
            ["Signal", "SelfCheck", "SourceTime", "ClockError", "Recording", "Doubt", "Round", "HoldDownBroken"];
        let word = self.label.split(' ').next().unwrap_or_default();
        self.nth == 1 && !(self.after == After::Record && readings.contains(&word))
    }
}

fn numbered(after: After, labels: impl Iterator<Item = String>) -> Vec<Moment> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let moments = labels.map(|label| {
        let nth = seen.entry(label.clone()).or_default();
        *nth += 1;
        Moment { after, label, nth: *nth }
    });
    moments.collect()
}

/// What a record is, without what differs from run to run.
#[must_use]
pub fn record_label(record: &Record) -> String {
    match record {
        Record::Intent { step, .. } => format!("Intent {step}"),
        Record::Outcome { step, .. } => format!("Outcome {step}"),
        Record::Noted { step, key, .. } => format!("Noted {step} {key}"),
        Record::Verdict { to, .. } => format!("Verdict {to:?}"),
        Record::Signal { probe, to, .. } => {
            let to = if to.is_up() {
                "up"
            } else if to.is_down() {
                "down"
            } else {
                "unknown"
            };
            format!("Signal {probe} {to}")
        }
        other => {
            let text = format!("{other:?}");
            text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned()
        }
    }
}

/// What an effect is, without what differs from run to run.
#[must_use]
pub fn effect_label(effect: &Effect) -> String {
    let Effect { kind, place, target, .. } = effect;
    // Some targets hold a random name; the kind of effect is enough there.
    match kind {
        crate::standin::effects::Kind::Artifact => format!("{kind:?} {place}"),
        _ => format!("{kind:?} {place} {target}"),
    }
}

/// Counts towards a moment, from when it is armed; says when it is there.
#[derive(Debug)]
pub struct Countdown {
    moment: Moment,
    armed: PathBuf,
    seen: AtomicUsize,
}

impl Countdown {
    /// Counts once there is a file at `armed`: what comes before the disaster is no moment of the failover.
    #[must_use]
    pub fn new(moment: Moment, armed: &Path) -> Self {
        Self { moment, armed: armed.to_owned(), seen: AtomicUsize::new(0) }
    }

    /// Whether this is it.
    pub fn is_there(&self, label: &str) -> bool {
        label == self.moment.label
            && self.armed.exists()
            && self.seen.fetch_add(1, Ordering::SeqCst) + 1 == self.moment.nth
    }
}

/// The words by which the program runs the daemon so that it kills itself.
#[must_use]
pub fn words(moment: &Moment, armed: &Path) -> Vec<String> {
    vec!["understudy-killed-after".into(), armed.display().to_string(), moment.nth.to_string(), moment.label.clone()]
}

/// Watches a daemon that was started by [`words`], and kills it when the record is on disk, before anything is done
/// about it.
#[must_use]
pub fn killer(words: &[String]) -> Option<Watcher> {
    let [armed, nth, label, ..] = words else { return None };
    let moment = Moment { after: After::Record, label: label.clone(), nth: nth.parse().ok()? };
    let countdown = Countdown::new(moment, Path::new(armed));
    Some(Watcher::new(move |record| {
        if countdown.is_there(&record_label(record)) {
            kill(rustix::process::getpid());
        }
    }))
}

/// SIGKILL.
pub fn kill(pid: rustix::process::Pid) {
    // A process that is gone already needs no killing.
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_told_by_what_it_is_and_how_often_it_came() {
        let pair = understudy_core::PairName("nexus".into());
        let began = Record::HoldDownBegan { pair: pair.clone() };
        let verdict = Record::Verdict {
            pair,
            from: understudy_core::Verdict::Up,
            to: understudy_core::Verdict::Suspect,
            cause: String::new(),
        };

        let moments = Moment::of_records([&began, &verdict, &began].into_iter());

        let texts: Vec<String> = moments.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["record \"HoldDownBegan\"", "record \"Verdict Suspect\"", "record \"HoldDownBegan\" #2"]);
        assert!(moments[0].always_comes() && !moments[2].always_comes());
    }

    #[test]
    fn a_countdown_begins_only_when_it_is_armed() {
        let dir = tempfile::tempdir().unwrap();
        let armed = dir.path().join("armed");
        let countdown = Countdown::new(Moment { after: After::Effect, label: "x".into(), nth: 2 }, &armed);

        assert!(!countdown.is_there("x"));
        std::fs::write(&armed, b"").unwrap();

        assert_eq!(["x", "y", "x", "x"].map(|label| countdown.is_there(label)), [false, false, true, false]);
    }
}
