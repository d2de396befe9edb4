//! Runs the steps that the core orders, each as a task of its own, and reports how they ended.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use tokio::task::AbortHandle;
use tracing::Instrument;
use understudy_actions::{Context, Gatekeeper, Later, Permit, StepError};
use understudy_config::Pair;
use understudy_core::{Event, Failure, Finding, PairId, PairName, Record, RunId, Step, StepOrder, StepResult};
use understudy_probes::clock;

use crate::inbox::Inbox;
use crate::lease::Lease;
use crate::report;

/// What the steps of one pair have in common.
#[derive(Clone)]
pub struct Means {
    /// The pair's settings.
    pub pair: Arc<Pair>,
    /// A's API server, for the fence alone.
    pub primary: Option<kube::Client>,
    /// B's API server.
    pub standby: Option<kube::Client>,
    /// The pair's lease.
    pub lease: Lease,
}

/// How far each running step is, in its own words. Shown, never kept.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Mutex<BTreeMap<(PairId, Step), String>>>);

impl Progress {
    fn set(&self, pair: PairId, step: Step, text: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert((pair, step), text);
    }

    fn clear(&self, pair: PairId, step: Step) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&(pair, step));
    }

    /// What the running steps of `pair` say.
    #[must_use]
    pub fn of(&self, pair: PairId) -> BTreeMap<Step, String> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter(|((p, _), _)| *p == pair).map(|((_, step), text)| (*step, text.clone())).collect()
    }
}

/// Starts steps. One at a time for each step of a pair: a new try ends the old one, which at most still waits for an answer.
pub struct Runner {
    site: Arc<str>,
    state: PathBuf,
    program: PathBuf,
    inbox: Inbox,
    halted: Arc<AtomicBool>,
    progress: Progress,
    tasks: BTreeMap<(PairId, Step), AbortHandle>,
    leaves: BTreeMap<(PairId, Step), Leave>,
}

/// That a try may write: until the run stops or ends, or a human has the step.
struct Leave {
    run: RunId,
    withdrawn: Arc<AtomicBool>,
}

impl Runner {
    /// A runner that reports to `inbox`.
    ///
    /// - `program`: this program, which keeps promotes as a process of its own.
    /// - `halted`: once set, nothing is written to the world any more.
    #[must_use]
    pub fn new(site: &str, state: PathBuf, program: PathBuf, inbox: Inbox, halted: Arc<AtomicBool>) -> Self {
        let (progress, tasks, leaves) = (Progress::default(), BTreeMap::new(), BTreeMap::new());
        Self { site: site.into(), state, program, inbox, halted, progress, tasks, leaves }
    }

    /// Where the running steps say how far they are.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// Begins a try of a step, within `span`.
    pub fn start(&mut self, pair: PairId, means: &Means, order: StepOrder, span: tracing::Span) {
        let key = (pair, order.step);
        if let Some(earlier) = self.tasks.remove(&key) {
            earlier.abort();
        }
        let order = Arc::new(order);
        let gate = StepGate {
            pair,
            order: order.clone(),
            inbox: self.inbox.clone(),
            lease: means.lease.clone(),
            halted: self.halted.clone(),
            withdrawn: self.give_leave(pair, &order),
            progress: self.progress.clone(),
        };
        let ctx = Context {
            order: order.clone(),
            pair: means.pair.clone(),
            site: self.site.clone(),
            primary: means.primary.clone(),
            standby: means.standby.clone(),
            state: self.state.clone(),
            program: self.program.clone(),
            gate: Arc::new(gate),
        };
        let (inbox, progress) = (self.inbox.clone(), self.progress.clone());
        let task = async move {
            let result = match order.step {
                Step::Report => reported(&ctx).await,
                _ => run_guarded(ctx).await,
            };
            progress.clear(pair, order.step);
            let (run, step, attempt) = (order.run.clone(), order.step, order.attempt);
            inbox.event(Event::StepEnded { pair, run, step, attempt, result }).await;
        };
        self.tasks.insert(key, tokio::spawn(task.instrument(span)).abort_handle());
    }

    fn give_leave(&mut self, pair: PairId, order: &StepOrder) -> Arc<AtomicBool> {
        let withdrawn = Arc::new(AtomicBool::new(false));
        let leave = Leave { run: order.run.clone(), withdrawn: withdrawn.clone() };
        self.leaves.insert((pair, order.step), leave);
        withdrawn
    }

    /// Withdraws the leave to write of every try that a record ends although its task lives on: what comes late must not
    /// undo what was done since. Nothing is killed; the task ends by itself when it asks to write (S1, S6).
    pub fn see(&mut self, record: &Record) {
        let (run, step) = match record {
            Record::Stuck { run, step, .. } | Record::Skipped { run, step, .. } => (run, Some(*step)),
            Record::RunStopping { run, .. } | Record::RunEnded { run, .. } => (run, None),
            _ => return,
        };
        let ended =
            self.leaves.iter().filter(|((_, s), leave)| leave.run == *run && step.is_none_or(|step| step == *s));
        ended.for_each(|(_, leave)| leave.withdrawn.store(true, Ordering::Release));
    }

    /// Ends every task. What they began is found again by reading the world.
    pub fn stop(&mut self) {
        for task in std::mem::take(&mut self.tasks).into_values() {
            task.abort();
        }
    }
}

/// The one step that is about the journal, and not about a site.
async fn reported(ctx: &Context) -> StepResult {
    let (state, pair, run) = (ctx.state.clone(), PairName(ctx.pair.name.clone()), ctx.order.run.clone());
    let written = tokio::task::spawn_blocking(move || report::file::write(&state, &pair, &run, clock::now())).await;
    match written {
        Ok(Ok(path)) => StepResult::Done { detail: path.display().to_string(), finding: Finding::Nothing },
        Ok(Err(error)) => StepResult::Failed { failure: Failure::Transient, message: error.to_string() },
        Err(error) => StepResult::Failed { failure: Failure::Unknown, message: error.to_string() },
    }
}

/// A step that panics has an unknown outcome; the daemon lives on.
async fn run_guarded(ctx: Context) -> StepResult {
    match AssertUnwindSafe(understudy_actions::run(ctx)).catch_unwind().await {
        Ok(result) => result,
        Err(_) => StepResult::Failed { failure: Failure::Unknown, message: "the step panicked; see the log".into() },
    }
}

struct StepGate {
    pair: PairId,
    order: Arc<StepOrder>,
    inbox: Inbox,
    lease: Lease,
    halted: Arc<AtomicBool>,
    withdrawn: Arc<AtomicBool>,
    progress: Progress,
}

impl Gatekeeper for StepGate {
    fn permit(&self) -> Later<'_, Result<Permit, StepError>> {
        Box::pin(async {
            if self.halted.load(Ordering::Acquire) {
                return Err(StepError::NoLease(
                    "the journal takes no records, so nothing is written to the world".into(),
                ));
            }
            if self.withdrawn.load(Ordering::Acquire) {
                return Err(StepError::NoLease("this try is over: its run stops, or a human has the step".into()));
            }
            self.lease.permit(self.order.epoch).await
        })
    }

    fn note<'a>(&'a self, key: &'a str, value: String) -> Later<'a, Result<(), StepError>> {
        Box::pin(async move {
            let noted = self.inbox.note(self.pair, self.order.run.clone(), self.order.step, key.to_owned(), value);
            match noted.await {
                Ok(true) => Ok(()),
                Ok(false) => Err(StepError::NotNoted("the run is paused or was stopped".into())),
                Err(stopping) => Err(StepError::NotNoted(stopping.to_string())),
            }
        })
    }

    fn progress(&self, text: String) {
        tracing::debug!(step = %self.order.step, "{text}");
        self.progress.set(self.pair, self.order.step, text);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use understudy_core::Ending;

    use super::*;

    const PAIR: PairId = PairId(0);

    #[tokio::test]
    async fn a_try_that_is_over_for_the_core_gets_no_leave_to_write_any_more() {
        let (run, pair) = (RunId("nexus-1".into()), || "nexus".into());
        let (step, message, by) = (Step::Quiesce, || "late".to_owned(), || "anna".to_owned());
        for record in [
            Record::Stuck { pair: pair(), run: run.clone(), step, message: message() },
            Record::Skipped { pair: pair(), run: run.clone(), step, by: by(), reason: message() },
            Record::RunStopping { pair: pair(), run: run.clone(), why: message() },
            Record::RunEnded { pair: pair(), run: run.clone(), ending: Ending::Stopped { why: message() } },
        ] {
            let mut runner = runner();
            let gate = gate(&mut runner, &run, step);
            assert!(gate.permit().await.is_ok());

            runner.see(&record);

            assert!(gate.permit().await.is_err(), "{record:?}");
        }
    }

    #[tokio::test]
    async fn another_step_another_run_and_the_next_try_keep_their_leave() {
        let (run, other) = (RunId("nexus-1".into()), RunId("nexus-2".into()));
        let mut runner = runner();
        let kept = [gate(&mut runner, &run, Step::Restore), gate(&mut runner, &other, Step::Fence)];
        gate(&mut runner, &run, Step::Quiesce);

        runner.see(&Record::Stuck {
            pair: "nexus".into(),
            run: run.clone(),
            step: Step::Quiesce,
            message: "late".into(),
        });
        let next = gate(&mut runner, &run, Step::Quiesce);

        for gate in kept.iter().chain([&next]) {
            assert!(gate.permit().await.is_ok(), "{}", gate.order.step);
        }
    }

    fn runner() -> Runner {
        let (inbox, _messages) = Inbox::new();
        Runner::new("standby-b", std::env::temp_dir(), "understudy".into(), inbox, Arc::default())
    }

    fn gate(runner: &mut Runner, run: &RunId, step: Step) -> StepGate {
        let order = StepOrder {
            run: run.clone(),
            step,
            attempt: 1,
            epoch: 1,
            key: format!("{run}/{step}"),
            resumed: false,
            images: vec![],
            points: vec![],
            nonce: None,
            notes: BTreeMap::new(),
            bound: None,
            start_before_ms: None,
        };
        StepGate {
            pair: PAIR,
            inbox: runner.inbox.clone(),
            lease: Lease::Directory { lasts: Duration::from_secs(15) },
            halted: runner.halted.clone(),
            withdrawn: runner.give_leave(PAIR, &order),
            progress: runner.progress(),
            order: Arc::new(order),
        }
    }
}
