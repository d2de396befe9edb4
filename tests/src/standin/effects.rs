//! The ledger of outside effects: what the stand-ins were really made to do.
//!
//! In: each stand-in writes one [`Effect`] when its state has changed. Out: the list, and counts by
//! kind, so that a run in which the daemon was killed can be compared with one in which it was not.
//! A refused, repeated-without-change or dry-run request is no effect. Start at [`Ledger`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::Serialize;

/// What kind of change was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// An image became primary.
    Promote,
    /// An image became non-primary.
    Demote,
    /// A client address was put on the blocklist.
    Blocklist,
    /// A client address was taken off the blocklist.
    Unblock,
    /// A snapshot was made by command.
    Snapshot,
    /// A schedule of mirror snapshots was added or removed.
    Schedule,
    /// An image was flagged for a resync.
    Resync,
    /// A Kubernetes object was created or changed by a client.
    Apply,
    /// A Kubernetes object was deleted by a client.
    Delete,
    /// The route moved.
    Route,
    /// A DNS record set changed.
    DnsUpdate,
    /// An artifact was stored or removed.
    Artifact,
    /// A page or a request for approval arrived.
    Notify,
}

/// One change of the outside world.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Effect {
    /// Since the ledger was opened.
    pub at: Duration,
    pub kind: Kind,
    /// The site or service where it happened.
    pub place: String,
    /// What was changed.
    pub target: String,
    /// The idempotency key or field manager it came with.
    pub key: Option<String>,
    /// What it became.
    pub detail: String,
}

/// Sees an effect when it has happened and before whoever caused it has an answer.
type Look = dyn Fn(&Effect) + Send + Sync;

/// A shared, append-only list of effects.
#[derive(Clone)]
pub struct Ledger {
    opened: Instant,
    effects: Arc<Mutex<Vec<Effect>>>,
    watcher: Arc<Mutex<Option<Arc<Look>>>>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self { opened: Instant::now(), effects: Arc::default(), watcher: Arc::default() }
    }
}

impl Ledger {
    /// Writes one effect down.
    pub fn record(&self, kind: Kind, place: &str, target: &str, key: Option<&str>, detail: &str) {
        let effect = Effect {
            at: self.opened.elapsed(),
            kind,
            place: place.to_owned(),
            target: target.to_owned(),
            key: key.map(str::to_owned),
            detail: detail.to_owned(),
        };
        self.effects.lock().expect("no panic while held").push(effect.clone());
        let watcher = self.watcher.lock().expect("no panic while held").clone();
        if let Some(look) = watcher {
            look(&effect);
        }
    }

    /// `look` sees every effect from now on. The stand-in waits for it.
    pub fn watch(&self, look: impl Fn(&Effect) + Send + Sync + 'static) {
        *self.watcher.lock().expect("no panic while held") = Some(Arc::new(look));
    }

    /// All effects so far, oldest first.
    pub fn all(&self) -> Vec<Effect> {
        self.effects.lock().expect("no panic while held").clone()
    }

    /// The effects of one kind.
    pub fn of(&self, kind: Kind) -> Vec<Effect> {
        self.all().into_iter().filter(|effect| effect.kind == kind).collect()
    }

    /// How often each `kind place target` was changed: what two runs must have in common.
    pub fn tally(&self, kinds: &[Kind]) -> BTreeMap<String, usize> {
        let mut tally = BTreeMap::new();
        for effect in self.all().iter().filter(|effect| kinds.contains(&effect.kind)) {
            let line = format!("{:?} {} {}", effect.kind, effect.place, effect.target);
            *tally.entry(line).or_default() += 1;
        }
        tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tally_counts_each_target_by_kind_and_place() {
        let ledger = Ledger::default();
        ledger.record(Kind::Promote, "b", "rbd/nexus-data", None, "primary");
        ledger.record(Kind::Route, "lb", "active", Some("k1"), "b");
        ledger.record(Kind::Route, "lb", "active", Some("k2"), "a");

        let tally = ledger.tally(&[Kind::Route]);

        assert_eq!(tally, BTreeMap::from([("Route lb active".to_owned(), 2)]));
        assert_eq!(ledger.of(Kind::Promote).len(), 1);
    }
}
