//! A scenario as it is played: every name looked up, every word understood.
//!
//! In: a [`Document`] of a [`File`]. Out: a [`Story`], or what is wrong with the file, with its line and the remedy.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use understudy_config::{Config, Document, Key, Problem};
use understudy_core::{Domain, Order, PairId, Policy, Site, Step};

use super::expect::{self, Check};
use super::file::{Entry, Expect, File, Mirror, Words};
use super::rules::{self, Unfit};
use super::words::{self, Fate, Going, Look, Testimony};

/// How long everything is well before 0s, at least, if the file does not say.
const HEALTHY: Duration = Duration::from_secs(120);
/// Nobody waits for a longer story.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// A scenario that can be played.
#[derive(Debug, Clone)]
pub struct Story {
    /// The file's name without its ending.
    pub name: String,
    /// The file.
    pub file: String,
    /// The rules at the beginning.
    pub policy: Policy,
    /// How long everything is well before 0s.
    pub healthy_before: Duration,
    /// What happens and what is expected, in order.
    pub moments: Vec<Moment>,
    /// What must hold at no moment.
    pub never: Vec<Wanted>,
    /// When it is over.
    pub until: Duration,
}

/// One moment.
#[derive(Debug, Clone)]
pub struct Moment {
    /// When.
    pub at: Duration,
    /// What happens.
    pub changes: Vec<Change>,
    /// What a human says then.
    pub said: Vec<Said>,
    /// What must hold after that.
    pub expect: Option<Wanted>,
}

/// Expectations that stand together in the file.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Where they stand.
    pub line: u64,
    /// Of which pair.
    pub pair: usize,
    /// Each of them.
    pub checks: Vec<Check>,
}

/// An order of a human.
#[derive(Debug, Clone)]
pub struct Said {
    /// Where it stands.
    pub line: u64,
    /// For which pair.
    pub pair: PairId,
    /// By whom.
    pub by: String,
    /// What.
    pub order: Order,
    /// What the refusal must contain; none = it must be taken.
    pub refused: Option<String>,
}

/// Who holds the lease at B.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lease {
    /// We, as soon as we ask.
    Ours,
    /// Nobody, or it can not be read.
    Lost,
    /// Another.
    Of(String),
}

/// Something that changes.
#[derive(Debug, Clone)]
pub enum Change {
    /// What a probe sees.
    Probe {
        /// The pair.
        pair: usize,
        /// Its place in the rules.
        probe: usize,
        /// Look after look, again and again.
        looks: Vec<Look>,
    },
    /// What a self-check sees.
    SelfCheck {
        /// Its place in the rules.
        check: usize,
        /// Look after look, again and again.
        looks: Vec<Look>,
    },
    /// What a witness says.
    Witness {
        /// The pair.
        pair: usize,
        /// Its place in the rules.
        witness: usize,
        /// Answer after answer, again and again.
        says: Vec<Testimony>,
    },
    /// What arrives at B.
    Mirror {
        /// The pair.
        pair: usize,
        /// The image's place in the rules; none = each.
        image: Option<usize>,
        /// How it changes.
        mirror: Mirror,
    },
    /// What a comparison of the clocks tells, in milliseconds; none = it tells nothing.
    ClockError {
        /// The pair.
        pair: usize,
        /// The greatest difference.
        error_ms: Option<u64>,
    },
    /// The wall clock jumps by so many milliseconds.
    WallClock(i64),
    /// Something befalls the daemon.
    Daemon(Fate),
    /// The configuration is reloaded.
    Reload(Box<Policy>),
    /// The lease changes hands.
    Lease {
        /// The pair.
        pair: usize,
        /// Who holds it.
        lease: Lease,
    },
    /// B's fitness.
    Missing {
        /// The pair.
        pair: usize,
        /// What it lacks.
        missing: Vec<String>,
    },
    /// How a step goes.
    Step {
        /// The pair.
        pair: usize,
        /// Which.
        step: Step,
        /// Try after try; the last stays.
        goings: Vec<Going>,
    },
}

impl Story {
    /// Makes a story of what was read from `path`.
    ///
    /// # Errors
    /// What is wrong, with its line and the remedy.
    pub fn of(path: &Path, read: &Document<File>) -> Result<Self, Problem> {
        let base = policy_of(path, read)?;
        let policy = changed(read, &Key::root().key("policy"), base, &read.content.policy)?;
        if policy.pairs.is_empty() {
            return Err(read.problem(&Key::root().key("pairs"), "no pair: name at least one"));
        }
        let mut reader = Reader { read, policy: policy.clone(), moments: vec![] };
        for (n, entry) in read.content.timeline.iter().enumerate() {
            reader.entry(&Key::root().key("timeline").item(n), entry)?;
        }
        let never_at = Key::root().key("never");
        let never = read.content.never.iter().enumerate();
        let never = never.map(|(n, expect)| reader.wanted(&never_at.item(n), 0, expect)).collect::<Result<_, _>>()?;
        let last = reader.moments.last().map_or(Duration::ZERO, |moment| moment.at);
        let until = read.content.until.map_or(last, |span| span.0);
        if until < last {
            return Err(read.problem(&Key::root().key("until"), "it is over before its last entry: write a later time"));
        }
        if until > LONGEST {
            return Err(read.problem(&Key::root().key("until"), "no scenario is longer than 7 days"));
        }
        Ok(Self {
            name: path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            file: path.display().to_string(),
            healthy_before: healthy_before(&policy, read.content.healthy_before.map(|span| span.0)),
            policy,
            moments: reader.moments,
            never,
            until,
        })
    }
}

fn policy_of(path: &Path, read: &Document<File>) -> Result<Policy, Problem> {
    let (config_at, pairs_at) = (Key::root().key("config"), Key::root().key("pairs"));
    let Some(config) = &read.content.config else {
        let one = vec!["nexus".to_owned()];
        return Ok(rules::sample(read.content.pairs.as_ref().unwrap_or(&one)));
    };
    if read.content.pairs.is_some() {
        return Err(read.problem(&pairs_at, "the pairs are those of `config`: remove one of the two keys"));
    }
    let place = path.parent().unwrap_or(Path::new(".")).join(config);
    match Config::load(&place) {
        Ok(loaded) => Ok(loaded.policy()),
        Err(error) => {
            let error = anyhow::Error::from(error);
            Err(read.problem(&config_at, format!("this configuration can not be read: {error:#}")))
        }
    }
}

fn changed(read: &Document<File>, at: &Key, policy: Policy, by: &super::file::Rules) -> Result<Policy, Problem> {
    rules::changed(policy, by).map_err(|Unfit { key, message }| read.problem(&at.key(key), message))
}

/// Long enough for every probe to be Up and every snapshot to be known.
fn healthy_before(policy: &Policy, written: Option<Duration>) -> Duration {
    let slowest = policy.pairs.iter().flat_map(|pair| pair.probes.iter().map(|probe| probe.period)).max();
    written.unwrap_or_else(|| HEALTHY.max(6 * slowest.unwrap_or_default()))
}

struct Reader<'a> {
    read: &'a Document<File>,
    /// The rules as they are at the moment that is read.
    policy: Policy,
    moments: Vec<Moment>,
}

impl Reader<'_> {
    fn entry(&mut self, at: &Key, entry: &Entry) -> Result<(), Problem> {
        let time = entry.at.0;
        if self.moments.last().is_some_and(|before| time < before.at) {
            return Err(self.read.problem(&at.key("at"), "time does not go back: put this entry before the one above"));
        }
        let mut changes = Vec::new();
        if let Some(by) = &entry.reload {
            self.policy = changed(self.read, &at.key("reload"), self.policy.clone(), by)?;
            self.policy.config_digest = format!("scenario, reloaded at {}", entry.at);
            changes.push(Change::Reload(Box::new(self.policy.clone())));
        }
        let (pairs, first) = self.meant(at, entry)?;
        for (name, words) in &entry.see {
            self.see(&at.key("see").key(name), &pairs, name, words, &mut changes)?;
        }
        for pair in &pairs {
            self.change_pair(at, *pair, entry, &mut changes)?;
        }
        let say = |key: &str, message: String| self.read.problem(&at.key(key), message);
        if let Some(jump) = &entry.wall_clock {
            changes.push(Change::WallClock(words::jump(jump).map_err(|m| say("wall_clock", m))?));
        }
        if let Some(fate) = &entry.daemon {
            changes.push(Change::Daemon(words::fate(fate).map_err(|m| say("daemon", m))?));
        }
        let said = self.said(at, entry)?;
        let expect = match &entry.expect {
            Some(expect) => Some(self.wanted(&at.key("expect"), first, expect)?),
            None => None,
        };
        if changes.is_empty() && said.is_empty() && expect.is_none() {
            return Err(say("at", "nothing happens here: write what changes, an order, or what is expected".into()));
        }
        self.moments.push(Moment { at: time, changes, said, expect });
        Ok(())
    }

    /// The pairs that change, and the one of which something is expected.
    fn meant(&self, at: &Key, entry: &Entry) -> Result<(Vec<usize>, usize), Problem> {
        match &entry.pair {
            None => Ok(((0..self.policy.pairs.len()).collect(), 0)),
            Some(name) => self.pair_named(&at.key("pair"), name).map(|pair| (vec![pair], pair)),
        }
    }

    fn pair_named(&self, at: &Key, name: &str) -> Result<usize, Problem> {
        let found = self.policy.pairs.iter().position(|pair| pair.name.as_str() == name);
        found.ok_or_else(|| {
            let known: Vec<&str> = self.policy.pairs.iter().map(|pair| pair.name.as_str()).collect();
            self.read.problem(at, format!("there is no pair {name:?}: write one of {}", known.join(", ")))
        })
    }

    fn see(
        &self,
        at: &Key,
        pairs: &[usize],
        name: &str,
        words: &Words,
        changes: &mut Vec<Change>,
    ) -> Result<(), Problem> {
        let before = changes.len();
        let told = |message: String| self.read.problem(at, message);
        let looks = || words::each(&words.0, words::look).map_err(told);
        for check in 0..self.policy.self_checks.len() {
            if name == "self" || self.policy.self_checks[check].name == name {
                changes.push(Change::SelfCheck { check, looks: looks()? });
            }
        }
        for &pair in pairs {
            let rules = &self.policy.pairs[pair];
            for (probe, rule) in rules.probes.iter().enumerate() {
                let group = if rule.site == Site::A { "a" } else { "b" };
                if rule.name == name || (rule.votes && group == name) {
                    let looks = looks()?;
                    if !rule.votes && !looks.iter().all(|look| matches!(look, Look::Up(_) | Look::Silent)) {
                        let remedy = "write up or silent here, and what it sees under `mirror`";
                        return Err(told(format!("{name} looks at what arrives at B, and never says Down: {remedy}")));
                    }
                    changes.push(Change::Probe { pair, probe, looks });
                }
            }
            for (witness, rule) in rules.witnesses.iter().enumerate() {
                if name == "witnesses" || rule.name == name {
                    let says = words::each(&words.0, words::testimony).map_err(told)?;
                    changes.push(Change::Witness { pair, witness, says });
                }
            }
        }
        if changes.len() > before { Ok(()) } else { Err(told(self.nobody(pairs, name))) }
    }

    fn nobody(&self, pairs: &[usize], name: &str) -> String {
        let mut known: Vec<&str> = self.policy.self_checks.iter().map(|check| check.name.as_str()).collect();
        for pair in pairs.iter().take(1) {
            let rules = &self.policy.pairs[*pair];
            known.extend(rules.probes.iter().map(|probe| probe.name.as_str()));
            known.extend(rules.witnesses.iter().map(|witness| witness.name.as_str()));
        }
        known.extend(["a", "b", "self", "witnesses"]);
        format!("nobody here is called {name:?}: write one of {}", known.join(", "))
    }

    fn change_pair(&self, at: &Key, pair: usize, entry: &Entry, changes: &mut Vec<Change>) -> Result<(), Problem> {
        let rules = &self.policy.pairs[pair];
        if let Some(mirror) = &entry.mirror {
            let at = at.key("mirror");
            let image = match &mirror.image {
                None => None,
                Some(name) => {
                    let found = rules.images.iter().position(|image| image.as_str() == name);
                    let known: Vec<&str> = rules.images.iter().map(|image| image.as_str()).collect();
                    let none = || format!("there is no image {name:?}: write one of {}", known.join(", "));
                    Some(found.ok_or_else(|| self.read.problem(&at.key("image"), none()))?)
                }
            };
            changes.push(Change::Mirror { pair, image, mirror: mirror.clone() });
        }
        if let Some(text) = &entry.clock_error {
            let error_ms = match text.as_str() {
                "never" => None,
                span => {
                    let told = |message| self.read.problem(&at.key("clock_error"), message);
                    Some(understudy_core::millis(words::span(span).map_err(told)?))
                }
            };
            changes.push(Change::ClockError { pair, error_ms });
        }
        if let Some(holder) = &entry.lease {
            let lease = match holder.as_str() {
                "ours" => Lease::Ours,
                "lost" => Lease::Lost,
                other => Lease::Of(other.to_owned()),
            };
            changes.push(Change::Lease { pair, lease });
        }
        if let Some(missing) = &entry.missing {
            changes.push(Change::Missing { pair, missing: missing.clone() });
        }
        for (name, words) in &entry.steps {
            changes.push(self.step(&at.key("steps").key(name), pair, name, words)?);
        }
        Ok(())
    }

    fn step(&self, at: &Key, pair: usize, name: &str, words: &Words) -> Result<Change, Problem> {
        let told = |message: String| self.read.problem(at, message);
        let step: Step = name.parse().map_err(|_| told(format!("there is no step {name:?}: {}", self.steps(pair))))?;
        if step.is_recheck() {
            return Err(told(format!("{name} goes by what is seen: write that under `see`")));
        }
        let goings = words::each(&words.0, words::going).map_err(told)?;
        for going in &goings {
            let of_a_fence = matches!(going, Going::Fence { .. });
            if of_a_fence != (step == Step::Fence) && (of_a_fence || matches!(going, Going::Done(_))) {
                let message = "a fence is `confirmed` or `not confirmed`, and other steps are `done`";
                return Err(told(message.into()));
            }
        }
        Ok(Change::Step { pair, step, goings })
    }

    fn steps(&self, pair: usize) -> String {
        let steps = understudy_core::failover_steps(&self.policy.pairs[pair].plan);
        let names: Vec<String> = steps.iter().filter(|step| !step.is_recheck()).map(ToString::to_string).collect();
        format!("write one of {}", names.join(", "))
    }

    fn said(&self, at: &Key, entry: &Entry) -> Result<Vec<Said>, Problem> {
        let Some(text) = &entry.order else {
            return match (&entry.by, &entry.refused) {
                (None, None) => Ok(vec![]),
                _ => Err(self.read.problem(at, "`by` and `refused` belong to an `order`: write it, or remove them")),
            };
        };
        let at = at.key("order");
        let all: Vec<_> = self.policy.pairs.iter().map(|pair| pair.name.clone()).collect();
        let orders = crate::cli::orders_in_words(text, &all).map_err(|message| self.read.problem(&at, message))?;
        let line = self.read.place(&at).line;
        let by = entry.by.clone().unwrap_or_else(|| "somebody".into());
        let said = orders.into_iter().map(|(pair, order)| {
            let number = self.pair_named(&at, pair.as_str())?;
            let pair = PairId(u32::try_from(number).unwrap_or(u32::MAX));
            Ok(Said { line, pair, by: by.clone(), order, refused: entry.refused.clone() })
        });
        said.collect()
    }

    fn wanted(&self, at: &Key, pair: usize, expect: &Expect) -> Result<Wanted, Problem> {
        let probes: BTreeMap<&str, Domain> =
            self.policy.pairs[pair].probes.iter().map(|probe| (probe.name.as_str(), probe.domain)).collect();
        let checks = expect::checks(expect, |name| probes.contains_key(name))
            .map_err(|(key, message)| self.read.problem(&at.key(key), message))?;
        if checks.is_empty() {
            return Err(self.read.problem(at, "nothing is expected here: write at least one thing, or remove the key"));
        }
        Ok(Wanted { line: self.read.place(at).line, pair, checks })
    }
}
