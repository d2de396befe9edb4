//! The one function: an event in, a new state and commands out.

use std::collections::BTreeMap;

use crate::doubt::Fitness;
use crate::event::{Command, Event};
use crate::names::{PairId, PairName};
use crate::pair::{PARTED_MS, PairState, Scene};
use crate::policy::{PairPolicy, Policy};
use crate::record::{DurablePair, Record};
use crate::time::Now;

/// Everything the core knows. It can be written down, so that a recording may begin anywhere.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct State {
    pub(crate) fitness: Fitness,
    pub(crate) pairs: Vec<PairState>,
    /// Pairs that the journal knows and the policy does not: kept, so that nothing is forgotten.
    pub(crate) retired: BTreeMap<PairName, DurablePair>,
    /// When automatic failovers of any pair were decided, in milliseconds since the Unix epoch.
    pub(crate) automatic_wall_ms: Vec<i64>,
    /// The clocks at the last record of an earlier life, until it is taken up.
    pub(crate) left_off: Option<Now>,
}

impl State {
    /// A state with no past.
    #[must_use]
    pub fn new(policy: &Policy, now: Now) -> Self {
        Self::restore(policy, std::iter::empty(), now)
    }

    /// The state that these records lead to, oldest first. Signals, hold-downs and self-checks begin anew (S5);
    /// roles, runs, pauses, blocks and what was learnt of A's clocks and snapshots are as they were.
    #[must_use]
    pub fn restore(policy: &Policy, records: impl IntoIterator<Item = (Now, Record)>, now: Now) -> Self {
        let mut durable: BTreeMap<PairName, DurablePair> = BTreeMap::new();
        let mut left_off: Option<Now> = None;
        let mut partings = Partings::default();
        for (at, record) in records {
            partings.see(left_off.replace(at), at, &record);
            match (record.pair(), &record) {
                (_, Record::Snapshot { pairs }) => durable.clone_from(pairs),
                (Some(name), _) => durable.entry(name.clone()).or_default().apply(&record, at),
                (None, Record::Started { .. } | Record::Doubt { why: Some(_) }) => {
                    durable.values_mut().for_each(DurablePair::lose_sight);
                }
                (None, _) => {}
            }
        }
        let pairs = policy.pairs.iter().map(|pair| {
            let known = durable.remove(&pair.name).unwrap_or_default();
            let mut state = PairState::restore(pair, known, now);
            state.parted_ms = partings.untold(&pair.name);
            state
        });
        let pairs: Vec<PairState> = pairs.collect();
        let automatic = pairs.iter().map(|p| &p.durable).chain(durable.values());
        let automatic_wall_ms = automatic.flat_map(|d| d.automatic_wall_ms.iter().copied()).collect();
        Self { fitness: Fitness::new(policy, now), pairs, retired: durable, automatic_wall_ms, left_off }
    }

    /// The same state under a new policy. A pair whose probes are the same keeps its signals; a hold-down goes on only if
    /// it does not become shorter by it (S5). What a request is bound to contains the configuration's digest, so that
    /// open requests become void by themselves. A running plan is not touched.
    #[must_use]
    pub fn reload(self, old: &Policy, new: &Policy, now: Now) -> Self {
        let State { fitness, pairs, retired, automatic_wall_ms, left_off } = self;
        let mut known: BTreeMap<PairName, (PairState, &PairPolicy)> =
            pairs.into_iter().zip(&old.pairs).map(|(state, rules)| (rules.name.clone(), (state, rules))).collect();
        let mut retired = retired;
        let pairs = new.pairs.iter().map(|rules| match known.remove(&rules.name) {
            Some((state, before)) => state.under(before, rules, now),
            None => PairState::restore(rules, retired.remove(&rules.name).unwrap_or_default(), now),
        });
        let pairs: Vec<PairState> = pairs.collect();
        retired.extend(known.into_iter().map(|(name, (state, _))| (name, state.durable)));
        let fitness = if old.self_checks == new.self_checks { fitness } else { Fitness::new(new, now) };
        Self { fitness, pairs, retired, automatic_wall_ms, left_off }
    }

    /// Pairs that are no longer configured although a run of theirs is open.
    #[must_use]
    pub fn orphaned(&self) -> Vec<&PairName> {
        self.retired.iter().filter(|(_, d)| d.open_run().is_some()).map(|(name, _)| name).collect()
    }

    /// What must outlive a restart, of every pair: the first record of a new segment of the journal.
    #[must_use]
    pub fn snapshot(&self, policy: &Policy) -> Record {
        let known =
            policy.pairs.iter().zip(&self.pairs).map(|(pair, state)| (pair.name.clone(), state.durable.clone()));
        let mut pairs = self.retired.clone();
        pairs.extend(known);
        Record::Snapshot { pairs }
    }

    /// What is durable of one pair.
    #[must_use]
    pub fn durable(&self, pair: PairId) -> Option<&DurablePair> {
        self.pairs.get(pair.at()).map(|state| &state.durable)
    }
}

/// How far wall and monotonic clock parted within the records, and how much of it each pair's clock error knows of: a crash
/// may come between the first record by the new clock and the one that widens the error (S8).
#[derive(Default)]
struct Partings {
    sum_ms: u64,
    told: BTreeMap<PairName, u64>,
}

impl Partings {
    fn see(&mut self, before: Option<Now>, at: Now, record: &Record) {
        let by = before.map_or(0, |before| at.parted_since(before));
        if by > PARTED_MS {
            self.sum_ms = self.sum_ms.saturating_add(by);
        }
        if let Record::ClockError { pair, .. } = record {
            self.told.insert(pair.clone(), self.sum_ms);
        }
    }

    fn untold(&self, pair: &PairName) -> u64 {
        self.sum_ms - self.told.get(pair).copied().unwrap_or(0)
    }
}

/// Takes one event into the state.
///
/// Pure: the same policy, state, event and time always give the same result. Commands are in the order in which they
/// are to be carried out.
#[must_use]
pub fn step(policy: &Policy, mut state: State, event: Event, now: Now) -> (State, Vec<Command>) {
    let mut out = Vec::new();
    let doubted = state.fitness.doubt().is_some();
    let parted = state.fitness.watch_clocks(policy, now);
    let one = match event {
        Event::SelfRead { check, observation } => {
            state.fitness.read(policy, usize::from(check), observation, now, &mut out);
            None
        }
        Event::Tick => None,
        Event::Read { pair, .. }
        | Event::MirrorRead { pair, .. }
        | Event::ClockCompared { pair, .. }
        | Event::WitnessRead { pair, .. }
        | Event::Readiness { pair, .. }
        | Event::Lease { pair, .. }
        | Event::StepNoted { pair, .. }
        | Event::StepEnded { pair, .. }
        | Event::Ordered { pair, .. } => Some((pair, event)),
    };
    let all = one.is_none();
    let vouching = all || doubted;
    if vouching || state.fitness.doubt().is_some() {
        state.fitness.settle(policy, now, &mut out);
    }
    if out.iter().any(|command| matches!(command, Command::Journal(Record::Doubt { why: Some(_) }))) {
        state.pairs.iter_mut().for_each(|pair| pair.durable.lose_sight());
    }
    let State { fitness, pairs, automatic_wall_ms, .. } = &mut state;
    if parted > 0 {
        for (n, (pair, rules)) in pairs.iter_mut().zip(&policy.pairs).enumerate() {
            let id = PairId(u32::try_from(n).unwrap_or(u32::MAX));
            let scene = &mut Scene { id, rules, policy, fitness, automatic_wall_ms, now, out: &mut out };
            pair.widen_clock_error(scene, parted);
        }
    }
    let mut visit =
        |n: usize, pair: &mut PairState, rules: &PairPolicy, event: Option<Event>, out: &mut Vec<Command>| {
            let id = PairId(u32::try_from(n).unwrap_or(u32::MAX));
            let before = pair.durable.automatic_wall_ms.len();
            let scene = &mut Scene { id, rules, policy, fitness, automatic_wall_ms, now, out };
            match event {
                Some(event) => pair.take(scene, event),
                None => pair.settle(scene),
            }
            // The next pair's decision counts this one.
            automatic_wall_ms.extend_from_slice(&pair.durable.automatic_wall_ms[before..]);
        };
    match one {
        Some((id, event)) => {
            if let (Some(pair), Some(rules)) = (pairs.get_mut(id.at()), policy.pairs.get(id.at())) {
                visit(id.at(), pair, rules, Some(event), &mut out);
            }
        }
        None => {
            for (n, (pair, rules)) in pairs.iter_mut().zip(&policy.pairs).enumerate() {
                visit(n, pair, rules, None, &mut out);
            }
        }
    }
    (state, out)
}

/// The rules from here on, and the commands that were under way when the records end: leases, steps whose outcome is not known, requests that are void now.
#[must_use]
pub fn resume(policy: &Policy, mut state: State, now: Now) -> (State, Vec<Command>) {
    let mut out = vec![Command::Journal(Record::Ruled { policy: Box::new(policy.clone()) })];
    let parted = state.left_off.take().map_or(0, |left_off| now.parted_since(left_off));
    let State { fitness, pairs, automatic_wall_ms, .. } = &mut state;
    for (n, (pair, rules)) in pairs.iter_mut().zip(&policy.pairs).enumerate() {
        let id = PairId(u32::try_from(n).unwrap_or(u32::MAX));
        let scene = &mut Scene { id, rules, policy, fitness, automatic_wall_ms, now, out: &mut out };
        let untold = std::mem::take(&mut pair.parted_ms);
        pair.widen_clock_error(scene, parted.saturating_add(untold));
        pair.resume(scene);
    }
    (state, out)
}
