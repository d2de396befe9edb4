//! What was under way when the agent ended: how it is taken up again, or left.
//!
//! In: the steps that the records call running. Out: each is sent again, once A was looked at and nothing stands against it, or
//! ends as unknown. Start reading at `send_again`.

use super::{fence_always_ends, is_looked_at};
use crate::pair::{PairState, Scene};
use crate::plan::{Failure, Phase, Run, Step, StepResult, StepStatus};
use crate::record::Record;

impl PairState {
    /// After a restart: what was under way is run again, and reads the world first. It waits for the lease, for the end of a
    /// pause and for a look at A, like every step.
    pub(super) fn send_again(&mut self, scene: &mut Scene<'_>) {
        let free = self.durable.pause.is_none() && self.lease_gate(scene.rules, scene.now()).open;
        if self.unsent.is_empty() || !self.durable.open_run().is_some_and(|run| free && is_looked_at(run, Step::Fence))
        {
            return;
        }
        for (step, attempt) in self.still_unsent() {
            self.send_once_more(scene, step, attempt);
        }
    }

    /// The world may have gone on while nobody watched: a switch of the route goes on only from a `verify` that is young
    /// (S9), and a promote that nobody has started yet from a recheck that is (S2).
    fn send_once_more(&mut self, scene: &mut Scene<'_>, step: Step, attempt: u32) {
        let Some(run) = self.durable.open_run() else { return };
        if matches!(step, Step::Route(_) | Step::RouteCheck) && !self.is_verified_freshly(scene, run) {
            return self.end_unsent(
                scene,
                step,
                attempt,
                "it was under way when the agent ended, and verify is too old",
            );
        }
        let start_before_ms = (step == Step::Promote).then(|| self.recheck_holds_until_ms(scene, run));
        self.send(scene, step, attempt, true, start_before_ms);
    }

    /// After a restart A is looked at before anything is done to it: an agent that was down for an hour knows nothing of
    /// that hour, and a fence that goes on by itself would strike an A that lives again (S2, S4).
    pub(crate) fn look_before_going_on(&mut self, scene: &mut Scene<'_>) {
        let seen = self.signs.quorum(scene.rules).any(|(_, signal)| signal.last_started_ms.is_some());
        let Some(run) = self.durable.open_run().filter(|_| !seen) else { return };
        let passed = matches!(run.entry(Step::Recheck).map(|e| &e.status), Some(StepStatus::Done { .. }));
        match run.phase {
            Phase::Forward if passed && !run.was_begun(Step::PromoteRecheck) => {
                let (pair, run) = (scene.rules.name.clone(), run.id.clone());
                let by = "understudy: nobody watched A meanwhile".to_owned();
                self.journal(scene, Record::Retried { pair, run, step: Step::Recheck, by });
            }
            Phase::BringingBack { .. } => self.leave_unsent(scene),
            Phase::Forward | Phase::Ended { .. } => {}
        }
    }

    /// A run that stops takes nothing up again that was under way when the agent ended, but the way back itself.
    pub(super) fn leave_unsent(&mut self, scene: &mut Scene<'_>) {
        let (back, left): (Vec<_>, Vec<_>) = self.still_unsent().into_iter().partition(|(s, _)| *s == Step::MirrorBack);
        self.unsent = back;
        for (step, attempt) in left {
            self.end_unsent(scene, step, attempt, "it was under way when the agent ended, and the run stops");
        }
    }

    /// What was under way when the agent ended, and is still. One that was overdue while it waited is a human's by now.
    fn still_unsent(&mut self) -> Vec<(Step, u32)> {
        let unsent = std::mem::take(&mut self.unsent);
        let Some(run) = self.durable.open_run() else { return vec![] };
        unsent.into_iter().filter(|one| is_under_way(run, *one)).collect()
    }

    fn end_unsent(&mut self, scene: &mut Scene<'_>, step: Step, attempt: u32, message: &str) {
        let result = StepResult::Failed { failure: Failure::Unknown, message: message.to_owned() };
        let result = if step == Step::Fence { fence_always_ends(result) } else { result };
        let again = self.again(scene, step, attempt, &result);
        self.end_step(scene, step, attempt, result, again);
    }
}

/// Whether this try has not ended: one that was overdue while it waited to be sent again is a human's by now.
fn is_under_way(run: &Run, (step, attempt): (Step, u32)) -> bool {
    run.running().any(|(running, its, _)| (running, its) == (step, attempt))
}
