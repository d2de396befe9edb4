//! Gauges of a moment, made from the view of that moment.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use understudy_core::{LossBound, PairView, Role, SignalView, StepStatus, Verdict, View};

use super::{Labels, PREFIX, state_of};

type Gauges = Family<Labels, Gauge<f64, AtomicU64>>;

const STATES: [&str; 3] = ["up", "down", "unknown"];
const ROLES: [&str; 3] = ["at_a", "moving", "at_b"];
const VERDICTS: [Verdict; 6] =
    [Verdict::Up, Verdict::Suspect, Verdict::ServiceDown, Verdict::StorageDown, Verdict::SiteDown, Verdict::Blind];

/// A registry that holds the gauges of `view` and nothing else.
pub fn registry(view: &View) -> Registry {
    let mut gauges = Moment { registry: Registry::with_prefix(PREFIX) };
    gauges.daemon(view);
    gauges.signals(view);
    gauges.pairs(view);
    gauges.registry
}

struct Moment {
    registry: Registry,
}

impl Moment {
    fn gauge(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, f64)>) {
        let family = filled(values);
        self.registry.register(name, help, family);
    }

    fn seconds(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, f64)>) {
        let family = filled(values);
        self.registry.register_with_unit(name, help, Unit::Seconds, family);
    }

    fn daemon(&mut self, view: &View) {
        self.gauge("blind", "Whether we doubt ourselves", [(vec![], flag(view.doubt.is_some()))]);
        let checks = view.self_checks.iter().flat_map(|check| {
            let one_of = move |state| flag(state_of(check.state) == state);
            STATES.map(|state| (vec![("check", check.name.clone()), ("state", state.to_owned())], one_of(state)))
        });
        self.gauge("self_check_state", "State of each self-check", checks);
    }

    fn signals(&mut self, view: &View) {
        let all = || view.pairs.iter().flat_map(|pair| pair.signals.iter().map(move |signal| (pair, signal)));
        let states = all().flat_map(|(pair, signal)| {
            STATES.map(|state| {
                let mut labels = probe_labels(pair, signal);
                labels.extend(place_labels(signal));
                labels.push(("state", state.to_owned()));
                (labels, flag(state_of(signal.state) == state))
            })
        });
        self.gauge("signal_state", "State of each probe after fall/rise counting", states);
        let ages = all().filter_map(|(pair, s)| s.age_ms.map(|age| (probe_labels(pair, s), in_seconds(age))));
        self.seconds("last_reading_age", "Age of the last reading", ages);
    }

    fn pairs(&mut self, view: &View) {
        let pairs = || view.pairs.iter();
        let each = |value: fn(&PairView) -> f64| pairs().map(move |pair| (pair_labels(pair), value(pair)));
        let known = |value: fn(&PairView) -> Option<u64>| {
            pairs().filter_map(move |pair| value(pair).map(|ms| (pair_labels(pair), in_seconds(ms))))
        };
        let verdicts = pairs().flat_map(|pair| VERDICTS.map(|v| with(pair, "verdict", v, pair.verdict == v)));
        self.gauge("verdict", "What we believe of the active site", verdicts);
        self.seconds("verdict_age", "Since the verdict changed", each(|pair| in_seconds(pair.verdict_for_ms)));
        let roles = pairs().flat_map(|pair| ROLES.map(|role| with(pair, "role", role, role_of(&pair.role) == role)));
        self.gauge("role", "Which place is active", roles);
        let held = each(|pair| pair.hold.map_or(0.0, |hold| in_seconds(hold.held_ms)));
        self.seconds("hold_down", "Hold-down so far", held);
        self.seconds("hold_down_needed", "Hold-down needed", known(|pair| pair.hold.map(|hold| hold.needed_ms)));
        self.seconds("loss_bound", "What a forced promote may lose now", known(|pair| bound_ms(pair.bound)));
        let bounded = each(|pair| flag(bound_ms(pair.bound).is_some()));
        self.gauge("loss_bound_known", "Whether anybody can tell what a forced promote may lose", bounded);
        self.seconds("clock_error", "How far A's clock and ours may differ", known(|pair| pair.clock_error_ms));
        let gates = pairs().flat_map(|pair| pair.gates.iter().map(move |g| with(pair, "gate", g.gate, g.open)));
        self.gauge("gate_open", "Gates of a failover that a human approves", gates);
        self.gauge("request_open", "Whether a question waits", each(|pair| flag(pair.request.is_some())));
        self.gauge("paused", "Whether a pause is in force", each(|pair| flag(pair.pause.is_some())));
        let blocked = each(|pair| flag(pair.blocked_until_wall_ms.is_some()));
        self.gauge("blocked", "Whether a recovery block is in force", blocked);
        self.gauge("steps_stuck", "Steps that need a human", each(stuck_steps));
    }
}

fn filled(values: impl IntoIterator<Item = (Labels, f64)>) -> Gauges {
    let gauges = Gauges::default();
    for (labels, value) in values {
        gauges.get_or_create(&labels).set(value);
    }
    gauges
}

fn pair_labels(pair: &PairView) -> Labels {
    vec![("pair", pair.name.clone())]
}

fn with(pair: &PairView, key: &'static str, value: impl ToString, on: bool) -> (Labels, f64) {
    (vec![("pair", pair.name.clone()), (key, value.to_string())], flag(on))
}

fn probe_labels(pair: &PairView, signal: &SignalView) -> Labels {
    vec![("pair", pair.name.clone()), ("probe", signal.name.clone())]
}

fn place_labels(signal: &SignalView) -> Labels {
    let site = signal.site.map_or(String::new(), |site| format!("{site:?}").to_lowercase());
    let domain = signal.domain.map_or(String::new(), |domain| domain.to_string());
    vec![("site", site), ("domain", domain)]
}

fn stuck_steps(pair: &PairView) -> f64 {
    let open = pair.run.iter().filter(|run| !run.has_ended());
    let steps = open.flat_map(|run| &run.steps);
    steps.filter(|entry| matches!(entry.status, StepStatus::Stuck { .. })).count() as f64
}

fn role_of(role: &Role) -> &'static str {
    match role {
        Role::AtA => "at_a",
        Role::Moving { .. } => "moving",
        Role::AtB => "at_b",
    }
}

fn bound_ms(bound: LossBound) -> Option<u64> {
    match bound {
        LossBound::AtMost(ms) => Some(ms),
        LossBound::Infinite => None,
    }
}

fn flag(on: bool) -> f64 {
    if on { 1.0 } else { 0.0 }
}

fn in_seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}
