//! What is told to the outside of every record: one log line, counters, spans.
//!
//! In: each record, right after it was journaled. Out: nothing that anybody waits for. The loop calls
//! [`Observer::observe`] once for each record; logs, metrics and traces then can not disagree with the journal.

mod log;

use std::collections::BTreeMap;
use std::sync::Arc;

use tracing::{Span, info_span};
use understudy_core::{Ending, Now, Record, RunId, Step, StepResult};

use crate::metrics::Metrics;

/// Tells the outside of every record.
#[derive(Debug)]
pub struct Observer {
    metrics: Arc<Metrics>,
    runs: BTreeMap<RunId, OpenRun>,
}

#[derive(Debug)]
struct OpenRun {
    span: Span,
    steps: BTreeMap<Step, OpenStep>,
}

#[derive(Debug)]
struct OpenStep {
    span: Span,
    began: Now,
}

impl Observer {
    /// An observer that counts in `metrics`.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, runs: BTreeMap::new() }
    }

    /// Tells of one record.
    pub fn observe(&mut self, at: Now, record: &Record) {
        log::line(record);
        self.metrics.count(record);
        self.trace(at, record);
    }

    /// The span of a step that is under way: what is done for it belongs in there.
    #[must_use]
    pub fn span(&self, run: &RunId, step: Step) -> Span {
        let open = self.runs.get(run).and_then(|open| open.steps.get(&step));
        open.map_or_else(Span::none, |open| open.span.clone())
    }

    fn trace(&mut self, at: Now, record: &Record) {
        match record {
            Record::RunStarted { run, .. } => {
                self.open(&run.id);
            }
            Record::Intent { pair, run, step, attempt, .. } => self.begin(at, pair.as_str(), run, *step, *attempt),
            Record::Outcome { pair, run, step, result, .. } => self.end(at, pair.as_str(), run, *step, result),
            Record::RunEnded { run, ending, .. } => self.close(run, ending),
            _ => {}
        }
    }

    /// A run that was begun before a restart gets a second trace: the first one was sent with the process that died.
    fn open(&mut self, run: &RunId) -> &mut OpenRun {
        self.runs.entry(run.clone()).or_insert_with(|| OpenRun {
            span: info_span!(parent: None, "failover", run = %run, ending = tracing::field::Empty),
            steps: BTreeMap::new(),
        })
    }

    fn begin(&mut self, at: Now, pair: &str, run: &RunId, step: Step, attempt: u32) {
        let open = self.open(run);
        let span = info_span!(
            parent: &open.span, "step", otel.name = %step, pair, run = %run, step = %step, attempt,
            result = tracing::field::Empty
        );
        let began = open.steps.get(&step).map_or(at, |earlier| earlier.began);
        open.steps.insert(step, OpenStep { span, began });
    }

    fn end(&mut self, at: Now, pair: &str, run: &RunId, step: Step, result: &StepResult) {
        let Some(open) = self.runs.get_mut(run).and_then(|open| open.steps.get_mut(&step)) else { return };
        let said = match result {
            StepResult::Done { .. } => "done",
            StepResult::Failed { .. } => "failed",
        };
        // Dropping the handle is what ends the span; when the step began is kept for its next try.
        std::mem::replace(&mut open.span, Span::none()).record("result", said);
        if matches!(result, StepResult::Done { .. }) {
            self.metrics.step_took(pair, &step.to_string(), at.since(open.began.boot_ms));
        }
    }

    fn close(&mut self, run: &RunId, ending: &Ending) {
        let said = match ending {
            Ending::Succeeded => "succeeded",
            Ending::Stopped { .. } => "stopped",
            Ending::Abandoned { .. } => "abandoned",
        };
        if let Some(open) = self.runs.remove(run) {
            open.span.record("ending", said);
        }
    }
}

#[cfg(test)]
mod tests {
    use understudy_core::Finding;

    use super::*;
    use crate::samples::{at, done, every_kind, failed, intent, run_id, run_started};

    #[test]
    fn every_kind_of_record_can_be_told() {
        let mut observer = Observer::new(Arc::default());

        for record in every_kind() {
            observer.observe(at(1), &record);
        }
    }

    #[test]
    fn a_step_is_timed_from_its_first_try_until_it_is_done() {
        let metrics = Arc::new(Metrics::default());
        let mut observer = Observer::new(metrics.clone());

        observer.observe(at(0), &run_started());
        observer.observe(at(1000), &intent(Step::Deploy, 1));
        observer.observe(at(2000), &failed(Step::Deploy, 1, Some(3000)));
        observer.observe(at(3000), &intent(Step::Deploy, 2));
        observer.observe(at(5000), &done(Step::Deploy, 2, Finding::Nothing));

        let text = metrics.encode(&crate::samples::view());
        let sum = "understudy_step_duration_seconds_sum{pair=\"nexus\",step=\"deploy\"} 4.0";
        assert!(text.contains(sum), "{text}");
    }

    #[test]
    fn a_step_has_a_span_only_while_its_run_is_open() {
        let spans = tracing_subscriber::registry();
        let _guard = tracing::subscriber::set_default(spans);
        let mut observer = Observer::new(Arc::default());
        observer.observe(at(0), &run_started());
        observer.observe(at(1), &intent(Step::Fence, 1));

        assert!(!observer.span(&run_id(), Step::Fence).is_none());
        assert!(observer.span(&run_id(), Step::Promote).is_none());
        observer.observe(at(2), &Record::RunEnded { pair: "nexus".into(), run: run_id(), ending: Ending::Succeeded });
        assert!(observer.span(&run_id(), Step::Fence).is_none());
    }
}
