//! A scenario as it is written: the keys of the file, before anything is made of them.
//!
//! In: YAML. Out: [`File`]. Words such as `down(refused)` are still text here; `words` beside it reads them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{self, SeqAccess, Visitor};
use understudy_config::Span;

/// A scenario: a pair of sites, what happens to them over time, and what is expected of the daemon.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// A configuration of the daemon whose rules are tried, from here if its path is relative.
    #[serde(default)]
    pub config: Option<PathBuf>,
    /// Rules that differ from those of `config`, or from those of the sample site.
    #[serde(default)]
    pub policy: Rules,
    /// The pairs, all of the same rules; not beside `config`.
    #[serde(default)]
    pub pairs: Option<Vec<String>>,
    /// How long everything was well before 0s; `0s`: the daemon starts at 0s.
    #[serde(default)]
    pub healthy_before: Option<Span>,
    /// What happens, and what is expected, in the order of time.
    pub timeline: Vec<Entry>,
    /// What must hold at no moment.
    #[serde(default)]
    pub never: Vec<Expect>,
    /// How long the scenario goes on; to the last entry if left out.
    #[serde(default)]
    pub until: Option<Span>,
}

/// One moment.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// When.
    pub at: Span,
    /// The pair that is meant; if left out, changes are for every pair, orders and expectations for the first.
    #[serde(default)]
    pub pair: Option<String>,
    /// What probes, self-checks and witnesses see from now on, by name; `a`, `b`, `self` and `witnesses` name groups.
    #[serde(default)]
    pub see: BTreeMap<String, Words>,
    /// The mirrored images from now on.
    #[serde(default)]
    pub mirror: Option<Mirror>,
    /// How far A's clock and ours may differ from now on; `never` if it can not be told.
    #[serde(default)]
    pub clock_error: Option<String>,
    /// The wall clock jumps: `+30s`, `-2s`.
    #[serde(default)]
    pub wall_clock: Option<String>,
    /// What befalls the daemon: `stalls(5s)`, `restarts(10s)`.
    #[serde(default)]
    pub daemon: Option<String>,
    /// The configuration is changed and reloaded.
    #[serde(default)]
    pub reload: Option<Rules>,
    /// Who holds the lease at B from now on: `ours`, `lost`, or another's name.
    #[serde(default)]
    pub lease: Option<String>,
    /// What B lacks from now on; `[]`: nothing.
    #[serde(default)]
    pub missing: Option<Vec<String>>,
    /// How steps go from now on, by name; of several words each is for one more try, and the last stays.
    #[serde(default)]
    pub steps: BTreeMap<String, Words>,
    /// What a human types, without `understudy`: `approve nexus-1 --accept-loss 20m`.
    #[serde(default)]
    pub order: Option<String>,
    /// Who types it.
    #[serde(default)]
    pub by: Option<String>,
    /// The order is refused, and the refusal contains this.
    #[serde(default)]
    pub refused: Option<String>,
    /// What must hold now.
    #[serde(default)]
    pub expect: Option<Expect>,
}

/// What is expected. All that is written must hold.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// `Up`, `Suspect`, `ServiceDown`, `StorageDown`, `SiteDown` or `Blind`.
    #[serde(default)]
    pub verdict: Option<String>,
    /// When the verdict became what it is, to within a second.
    #[serde(default)]
    pub since: Option<Span>,
    /// The open question: `failover`, `unfenced` or `nothing`.
    #[serde(default)]
    pub asked: Option<String>,
    /// The loss bound: `unknown`, `under 5m`, `over 5m`.
    #[serde(default)]
    pub loss: Option<String>,
    /// Gates that are open, of those between now and an automatic failover.
    #[serde(default)]
    pub open: Vec<String>,
    /// Gates that are closed.
    #[serde(default)]
    pub closed: Vec<String>,
    /// `understudy why` says this.
    #[serde(default)]
    pub why: Option<String>,
    /// The run: `none`, `going on`, `stopping`, `stuck`, `succeeded`, `stopped`, `abandoned`.
    #[serde(default)]
    pub run: Option<String>,
    /// On whose word it runs: `automatic`, `approved`, `forced`.
    #[serde(default)]
    pub authority: Option<String>,
    /// Steps of the run: `pending`, `running`, `waiting`, `done`, `stuck`, `skipped`.
    #[serde(default)]
    pub steps: BTreeMap<String, String>,
    /// The active place: `A`, `moving`, `B`.
    #[serde(default)]
    pub role: Option<String>,
    /// Signals after fall and rise: `up`, `down`, `unknown`.
    #[serde(default)]
    pub signals: BTreeMap<String, String>,
    /// Kinds of pages that were sent so far.
    #[serde(default)]
    pub paged: Vec<String>,
    /// The journal or a notice has said this so far.
    #[serde(default)]
    pub told: Option<String>,
    /// Whether any step that writes was begun so far.
    #[serde(default)]
    pub writes: Option<bool>,
}

/// The mirrored images as seen at B.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mirror {
    /// Only this image; all of them if left out.
    #[serde(default)]
    pub image: Option<String>,
    /// A takes a snapshot each time, as long as its storage lives.
    #[serde(default)]
    pub every: Option<Span>,
    /// The newest whole copy is this old now, and no newer one comes.
    #[serde(default)]
    pub age: Option<Span>,
    /// No newer copy comes.
    #[serde(default)]
    pub stopped: Option<bool>,
    /// A copy of one more snapshot is under way.
    #[serde(default)]
    pub syncing: Option<bool>,
    /// Whether one whole copy has ever arrived.
    #[serde(default)]
    pub complete: Option<bool>,
    /// Whether the primary's own time of a snapshot can be told.
    #[serde(default)]
    pub times: Option<bool>,
    /// An unfinished forced promote left its mark.
    #[serde(default)]
    pub orphan: Option<bool>,
}

/// Rules, by the keys of the configuration.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// `observe`, `confirm` or `auto`.
    #[serde(default)]
    pub mode: Option<String>,
    /// The probes, instead of web, api, ceph, peer and web-b.
    #[serde(default)]
    pub probes: Option<Vec<Probe>>,
    /// The self-checks, instead of own-api, own-ceph, status-page and resolver.
    #[serde(default)]
    pub self_checks: Option<Vec<SelfCheck>>,
    /// Witnesses: name and kind, `primary_site` or `third_site`.
    #[serde(default)]
    pub witnesses: BTreeMap<String, String>,
    /// How many domains must be Down ...
    #[serde(default)]
    pub at_least: Option<u8>,
    /// ... of these.
    #[serde(default)]
    pub of: Option<Vec<String>>,
    /// Continuous witnessed time before `SiteDown`.
    #[serde(default)]
    pub hold_down: Option<Span>,
    /// A sign of life younger than this blocks `SiteDown`.
    #[serde(default)]
    pub veto_within: Option<Span>,
    /// This many changes of a signal ...
    #[serde(default)]
    pub flap_changes: Option<u32>,
    /// ... within this time are flapping ...
    #[serde(default)]
    pub flap_window: Option<Span>,
    /// ... until it kept its state for this long.
    #[serde(default)]
    pub flap_quiet: Option<Span>,
    /// The greatest loss bound that is accepted without an override.
    #[serde(default)]
    pub rpo_max: Option<Span>,
    /// What a snapshot of a running Nexus lacks.
    #[serde(default)]
    pub writeback_window: Option<Span>,
    /// How far the copies of several images may lie apart.
    #[serde(default)]
    pub skew_max: Option<Span>,
    /// How long a question stands.
    #[serde(default)]
    pub approval_ttl: Option<Span>,
    /// No automatic failover for this long after one.
    #[serde(default)]
    pub recovery_block: Option<Span>,
    /// The mirrored images; `[]`: storage by hooks, without a mirror.
    #[serde(default)]
    pub images: Option<Vec<String>>,
    /// Names of the route's targets.
    #[serde(default)]
    pub routes: Option<Vec<String>>,
    /// Tries of one step.
    #[serde(default)]
    pub attempts: Option<u32>,
    /// A step that runs longer than this is stuck.
    #[serde(default)]
    pub step_overdue: Option<Span>,
    /// How long Nexus may take to start.
    #[serde(default)]
    pub ready_within: Option<Span>,
    /// A promote that runs longer than this is stuck.
    #[serde(default)]
    pub promote_overdue: Option<Span>,
    /// A route is switched only while `verify` is younger than this.
    #[serde(default)]
    pub verify_valid: Option<Span>,
    /// A gap in our own running longer than this is a stall.
    #[serde(default)]
    pub stall: Option<Span>,
    /// Wall and monotonic clock may part by this much at once.
    #[serde(default)]
    pub clock_jump: Option<Span>,
    /// How long doubt lasts after its cause ended.
    #[serde(default)]
    pub blind_for: Option<Span>,
    /// Blind for longer than this is paged.
    #[serde(default)]
    pub page_after: Option<Span>,
    /// At most this many automatic failovers over all pairs ...
    #[serde(default)]
    pub automatic_max: Option<u32>,
    /// ... within this time.
    #[serde(default)]
    pub automatic_window: Option<Span>,
}

/// A probe of the rules.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// Its name.
    pub name: String,
    /// `service`, `control_plane` or `storage`.
    pub domain: String,
    /// The place that it looks at: `A` if left out, or `B`.
    #[serde(default)]
    pub site: Option<String>,
    /// A mirror probe tells what arrives at B and never votes Down.
    #[serde(default)]
    pub mirror: bool,
    /// Start to start; 5s if left out.
    #[serde(default)]
    pub period: Option<Span>,
    /// Of one look; 3s if left out.
    #[serde(default)]
    pub timeout: Option<Span>,
    /// Down readings in a row that make it Down; 3 if left out.
    #[serde(default)]
    pub fall: Option<u32>,
    /// Up readings in a row that make it Up; 2 if left out.
    #[serde(default)]
    pub rise: Option<u32>,
}

/// A self-check of the rules.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SelfCheck {
    /// Its name.
    pub name: String,
    /// Checks of one group stand in for each other.
    #[serde(default)]
    pub group: Option<String>,
    /// Start to start; 5s if left out.
    #[serde(default)]
    pub period: Option<Span>,
}

/// One word, or several in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words(pub Vec<String>);

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrMore)
    }
}

struct OneOrMore;

impl<'de> Visitor<'de> for OneOrMore {
    type Value = Words;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a word such as down(refused), or a list of such words")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Words, E> {
        Ok(Words(vec![text.to_owned()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Words, A::Error> {
        let mut words = Vec::new();
        while let Some(word) = list.next_element()? {
            words.push(word);
        }
        Ok(Words(words))
    }
}

impl JsonSchema for Words {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Words".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "a word such as down(refused), or a list of such words",
            "oneOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }]
        })
    }
}
