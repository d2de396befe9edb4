//! Every metric that the daemon has, by its stable name and unit; served as OpenMetrics text.
//!
//! In: what happened, from the loop and its tasks, and the [`View`] of the moment of the scrape. Out: [`Metrics::encode`].
//!
//! What counts something is kept here between scrapes. What describes a state is made from the view, so that it can
//! neither be stale nor outlive the pair it describes. Names, with their labels, all with the prefix `understudy_`:
//!
//! | name | labels | what |
//! |---|---|---|
//! | `build_info` | `version` | always 1 |
//! | `probe_latency_seconds` | `pair`, `probe` | how long looks took (histogram) |
//! | `probe_readings_total` | `pair`, `probe`, `reading` | looks by what they said |
//! | `probe_late_total` | `pair`, `probe` | rounds that missed their place in the grid |
//! | `journal_records_total` | | records appended |
//! | `journal_flush_seconds` | | how long flushes took (histogram) |
//! | `notices_total` | `result` | notices sent, by `sent` or `failed` |
//! | `requests_total` | `pair`, `result` | questions by `asked`, `escalated`, `approved`, `denied`, `void` |
//! | `orders_refused_total` | `pair` | orders and answers that were refused |
//! | `runs_total` | `pair`, `result` | runs by `started`, `succeeded`, `stopped`, `abandoned` |
//! | `step_duration_seconds` | `pair`, `step` | from the first try to done (histogram) |
//! | `step_results_total` | `pair`, `step`, `result` | tries by `done`, `failed`; `stuck` for each step that needed a human |
//! | `blind` | | 1 while we doubt ourselves |
//! | `self_check_state` | `check`, `state` | 1 for the state it has, 0 for the others |
//! | `signal_state` | `pair`, `probe`, `site`, `domain`, `state` | 1 for the state it has, 0 for the others |
//! | `last_reading_age_seconds` | `pair`, `probe` | absent while never read |
//! | `verdict` | `pair`, `verdict` | 1 for the one that stands, 0 for the others |
//! | `verdict_age_seconds` | `pair` | since it changed last |
//! | `role` | `pair`, `role` | 1 for `at_a`, `moving` or `at_b` |
//! | `hold_down_seconds` | `pair` | held so far; 0 while none runs |
//! | `hold_down_needed_seconds` | `pair` | to be held; absent while none runs |
//! | `loss_bound_seconds` | `pair` | what a forced promote may lose now; absent if nobody can tell |
//! | `loss_bound_known` | `pair` | 0 while nobody can tell |
//! | `clock_error_seconds` | `pair` | absent while never measured |
//! | `gate_open` | `pair`, `gate` | of a failover that a human approves: 1 open, 0 closed |
//! | `request_open` | `pair` | 1 while a question waits for an answer |
//! | `paused`, `blocked` | `pair` | 1 while a pause, a recovery block is in force |
//! | `steps_stuck` | `pair` | steps that need a human now |

mod view;

use std::time::Duration;

use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use understudy_core::{Answer, Ending, Reading, Record, StepResult, View};

type Labels = Vec<(&'static str, String)>;
type Histograms = Family<Labels, Histogram, fn() -> Histogram>;

const PREFIX: &str = "understudy";
/// From a loopback connection to the longest time-out of a look.
const LATENCY_BUCKETS: [f64; 9] = [0.001, 0.005, 0.02, 0.05, 0.1, 0.5, 1.0, 3.0, 10.0];
/// From a fast disk to one that is about to fail.
const FLUSH_BUCKETS: [f64; 9] = [0.0002, 0.0005, 0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 5.0];
/// From a read of an API server to a Nexus that starts.
const STEP_BUCKETS: [f64; 9] = [0.1, 0.5, 2.0, 5.0, 15.0, 60.0, 180.0, 600.0, 1800.0];

/// What is counted between scrapes. One for the process, shared by its tasks.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    probe_latency: Histograms,
    probe_readings: Family<Labels, Counter>,
    probe_late: Family<Labels, Counter>,
    journal_records: Counter,
    journal_flush: Histogram,
    notices: Family<Labels, Counter>,
    requests: Family<Labels, Counter>,
    refused: Family<Labels, Counter>,
    runs: Family<Labels, Counter>,
    step_duration: Histograms,
    step_results: Family<Labels, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix(PREFIX),
            probe_latency: Family::new_with_constructor(|| Histogram::new(LATENCY_BUCKETS)),
            probe_readings: Family::default(),
            probe_late: Family::default(),
            journal_records: Counter::default(),
            journal_flush: Histogram::new(FLUSH_BUCKETS),
            notices: Family::default(),
            requests: Family::default(),
            refused: Family::default(),
            runs: Family::default(),
            step_duration: Family::new_with_constructor(|| Histogram::new(STEP_BUCKETS)),
            step_results: Family::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let r = &mut self.registry;
        r.register("build", "Version of the daemon", Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]));
        r.register_with_unit("probe_latency", "How long looks took", Unit::Seconds, self.probe_latency.clone());
        r.register("probe_readings", "Looks by what they said", self.probe_readings.clone());
        r.register("probe_late", "Rounds that missed their place in the grid", self.probe_late.clone());
        r.register("journal_records", "Records appended to the journal", self.journal_records.clone());
        r.register_with_unit("journal_flush", "How long flushes took", Unit::Seconds, self.journal_flush.clone());
        r.register("notices", "Notices sent to humans", self.notices.clone());
        r.register("requests", "Questions to humans", self.requests.clone());
        r.register("orders_refused", "Orders and answers that were refused", self.refused.clone());
        r.register("runs", "Runs by how they went", self.runs.clone());
        let took = "From the first try of a step until it was done";
        r.register_with_unit("step_duration", took, Unit::Seconds, self.step_duration.clone());
        r.register("step_results", "Tries of steps by result", self.step_results.clone());
    }

    /// A probe has looked.
    pub fn probe_read(&self, pair: &str, probe: &str, took: Duration, reading: Reading) {
        let place = || vec![("pair", pair.to_owned()), ("probe", probe.to_owned())];
        self.probe_latency.get_or_create(&place()).observe(took.as_secs_f64());
        let mut labels = place();
        labels.push(("reading", state_of(reading).to_owned()));
        self.probe_readings.get_or_create(&labels).inc();
    }

    /// A round missed its place in the grid.
    pub fn probe_late(&self, pair: &str, probe: &str) {
        self.probe_late.get_or_create(&vec![("pair", pair.to_owned()), ("probe", probe.to_owned())]).inc();
    }

    /// The journal was flushed.
    pub fn journal_flushed(&self, took: Duration) {
        self.journal_flush.observe(took.as_secs_f64());
    }

    /// A notice was sent, or could not be.
    pub fn notified(&self, sent: bool) {
        let result = if sent { "sent" } else { "failed" };
        self.notices.get_or_create(&vec![("result", result.to_owned())]).inc();
    }

    /// A step is done.
    pub(crate) fn step_took(&self, pair: &str, step: &str, took: Duration) {
        let labels = vec![("pair", pair.to_owned()), ("step", step.to_owned())];
        self.step_duration.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// Counts what a record says.
    pub(crate) fn count(&self, record: &Record) {
        self.journal_records.inc();
        let Some(pair) = record.pair() else { return };
        let with = |result: &str| vec![("pair", pair.to_string()), ("result", result.to_owned())];
        let request = |result| self.requests.get_or_create(&with(result)).inc();
        let run = |result| self.runs.get_or_create(&with(result)).inc();
        let step = |step: &understudy_core::Step, result: &str| {
            let labels = vec![("pair", pair.to_string()), ("step", step.to_string()), ("result", result.to_owned())];
            self.step_results.get_or_create(&labels).inc()
        };
        let _so_far = match record {
            Record::Requested { .. } => request("asked"),
            Record::Escalated { .. } => request("escalated"),
            Record::Answered { answer: Answer::Approved { .. }, .. } => request("approved"),
            Record::Answered { answer: Answer::Denied { .. }, .. } => request("denied"),
            Record::Voided { .. } => request("void"),
            Record::Refused { .. } => self.refused.get_or_create(&vec![("pair", pair.to_string())]).inc(),
            Record::RunStarted { .. } => run("started"),
            Record::RunEnded { ending: Ending::Succeeded, .. } => run("succeeded"),
            Record::RunEnded { ending: Ending::Stopped { .. }, .. } => run("stopped"),
            Record::RunEnded { ending: Ending::Abandoned { .. }, .. } => run("abandoned"),
            Record::Outcome { step: name, result: StepResult::Done { .. }, .. } => step(name, "done"),
            Record::Outcome { step: name, result: StepResult::Failed { .. }, again_ms: None, .. } => {
                step(name, "failed");
                step(name, "stuck")
            }
            Record::Outcome { step: name, result: StepResult::Failed { .. }, .. } => step(name, "failed"),
            Record::Stuck { step: name, .. } => step(name, "stuck"),
            _ => 0,
        };
    }

    /// OpenMetrics text of everything counted and of the state `view`.
    #[must_use]
    pub fn encode(&self, view: &View) -> String {
        let mut text = String::new();
        let parts = encode_registry(&mut text, &self.registry)
            .and_then(|()| encode_registry(&mut text, &view::registry(view)))
            .and_then(|()| encode_eof(&mut text));
        parts.expect("writing into a string does not fail");
        text
    }
}

/// `up`, `down` or `unknown`.
fn state_of(reading: Reading) -> &'static str {
    match reading {
        Reading::Up => "up",
        Reading::Down(_) => "down",
        Reading::Unknown(_) => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use understudy_core::Reason;

    use super::*;
    use crate::samples::{every_kind, view};

    #[test]
    fn what_was_counted_is_told_with_its_name_and_unit() {
        let metrics = Metrics::default();
        metrics.probe_read("nexus", "web", Duration::from_millis(12), Reading::Down(Reason::Refused));
        metrics.probe_late("nexus", "web");
        metrics.journal_flushed(Duration::from_micros(300));
        metrics.notified(false);
        for record in every_kind() {
            metrics.count(&record);
        }

        let text = metrics.encode(&view());

        for line in [
            "understudy_build_info{version=\"0.1.0\"} 1",
            "understudy_probe_latency_seconds_bucket{le=\"0.02\",pair=\"nexus\",probe=\"web\"} 1",
            "understudy_probe_readings_total{pair=\"nexus\",probe=\"web\",reading=\"down\"} 1",
            "understudy_probe_late_total{pair=\"nexus\",probe=\"web\"} 1",
            "understudy_journal_records_total 43",
            "understudy_journal_flush_seconds_bucket{le=\"0.0005\"} 1",
            "understudy_notices_total{result=\"failed\"} 1",
            "understudy_requests_total{pair=\"nexus\",result=\"approved\"} 1",
            "understudy_orders_refused_total{pair=\"nexus\"} 1",
            "understudy_runs_total{pair=\"nexus\",result=\"succeeded\"} 1",
            "understudy_step_results_total{pair=\"nexus\",step=\"deploy\",result=\"stuck\"} 1",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn the_state_is_told_as_it_is_at_the_scrape() {
        let mut view = view();
        view.pairs[0].bound = understudy_core::LossBound::Infinite;

        let text = Metrics::default().encode(&view);

        for line in [
            "understudy_blind{} 0.0",
            "understudy_self_check_state{check=\"own-api\",state=\"up\"} 1.0",
            "understudy_signal_state{pair=\"nexus\",probe=\"web\",site=\"a\",domain=\"service\",state=\"down\"} 1.0",
            "understudy_signal_state{pair=\"nexus\",probe=\"web\",site=\"a\",domain=\"service\",state=\"up\"} 0.0",
            "understudy_last_reading_age_seconds{pair=\"nexus\",probe=\"web\"} 1.5",
            "understudy_verdict{pair=\"nexus\",verdict=\"Suspect\"} 1.0",
            "understudy_role{pair=\"nexus\",role=\"at_a\"} 1.0",
            "understudy_hold_down_seconds{pair=\"nexus\"} 45.0",
            "understudy_hold_down_needed_seconds{pair=\"nexus\"} 90.0",
            "understudy_loss_bound_known{pair=\"nexus\"} 0.0",
            "understudy_gate_open{pair=\"nexus\",gate=\"verdict\"} 0.0",
            "understudy_gate_open{pair=\"nexus\",gate=\"rpo\"} 1.0",
            "understudy_steps_stuck{pair=\"nexus\"} 0.0",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("loss_bound_seconds{"), "{text}");
    }

    #[test]
    fn every_name_in_the_table_is_served_and_every_name_served_is_in_the_table() {
        let metrics = Metrics::default();
        metrics.probe_read("nexus", "web", Duration::ZERO, Reading::Up);
        metrics.probe_late("nexus", "web");
        metrics.notified(true);
        metrics.step_took("nexus", "deploy", Duration::ZERO);
        for record in every_kind() {
            metrics.count(&record);
        }

        let text = metrics.encode(&view());

        let served: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE understudy_")).collect();
        let names = served.iter().filter_map(|line| line.split(' ').next());
        let table: Vec<String> = include_str!("metrics.rs")
            .lines()
            .filter(|line| line.starts_with("//! | `"))
            .flat_map(|line| line.split('|').nth(1).unwrap().split(',').map(|n| n.trim().replace('`', "")))
            .collect();

        let mut named: Vec<String> = table
            .into_iter()
            .map(|name| name.trim_end_matches("_total").trim_end_matches("_info").to_owned())
            .collect();
        let mut served: Vec<String> = names.map(str::to_owned).collect();
        named.sort();
        served.sort();
        assert_eq!(named, served);
    }
}
