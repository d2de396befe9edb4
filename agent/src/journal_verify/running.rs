//! A run: its authority, the order of its steps, intent and outcome, the fence, the loss, its end.

use std::collections::BTreeMap;
use std::time::Duration;

use understudy_core::{
    Authority, DurablePair, Ending, Gate, GateState, Now, Phase, Record, RequestId, Run, RunId, Step, StepResult,
    StepStatus, Verdict,
};

use super::{Kept, Pair, rule};

/// Without these a plan is none: what safety rests on may not be left out by leaving it out of the plan.
const INDISPENSABLE: [Step; 5] = [Step::Recheck, Step::Fence, Step::PromoteRecheck, Step::Promote, Step::Verify];

/// A promote follows its recheck within one period of the slowest probe, which the journal does not tell. None is slower.
const RECHECK_VALID: Duration = Duration::from_secs(120);

/// The gates as they were asked last.
pub struct Asked {
    at: Step,
    gates: Vec<GateState>,
}

impl Asked {
    fn shut(&self) -> Option<&GateState> {
        self.gates.iter().find(|gate| !gate.open)
    }
}

/// Tries of the run's steps: the last one of each, and whether it is under way.
#[derive(Default)]
pub struct Tries(BTreeMap<Step, Try>);

#[derive(Clone, Copy)]
struct Try {
    attempt: u32,
    /// An intent without an outcome.
    under_way: bool,
    /// Another one may begin although none ended: ordered by hand, or a recheck whose process died.
    may_repeat: bool,
}

impl Tries {
    /// A recheck is of the process that made it, so that its try died with it.
    pub fn restart(&mut self) {
        self.0.iter_mut().filter(|(step, _)| step.is_recheck()).for_each(|(_, one)| one.may_repeat = true);
    }

    /// Takes the tries from a snapshot: what came before it may not be at hand.
    pub fn take_over(&mut self, durable: &DurablePair) {
        let Some(run) = durable.open_run() else { return };
        for entry in run.steps.iter().filter(|entry| entry.began.is_some()) {
            let under_way = matches!(entry.status, StepStatus::Running { .. });
            let attempt = entry.status.attempt();
            let known = Try { attempt, under_way, may_repeat: false };
            self.0.entry(entry.step).or_insert(known);
        }
    }
}

impl Pair {
    pub(super) fn take_running(&mut self, at: Now, record: &Record, doubt: Option<&str>) -> Kept {
        match record {
            Record::Gates { at: step, gates, .. } => {
                self.gates = Some(Asked { at: *step, gates: gates.clone() });
                Ok(())
            }
            Record::RunStarted { run, .. } => self.start(run, doubt),
            Record::Intent { run, step, attempt, key, .. } => self.intend(at, run, *step, *attempt, key),
            Record::Outcome { run, step, attempt, result, .. } => self.end_try(run, *step, *attempt, result),
            Record::Noted { run, step, .. } => {
                self.open(run)?;
                let under_way = self.tries.0.get(step).is_some_and(|one| one.under_way);
                rule("S10", under_way, || format!("{step} remembered something without an intent"))
            }
            Record::Retried { run, step, .. } => {
                self.open(run)?;
                self.tries
                    .0
                    .entry(*step)
                    .and_modify(|one| *one = Try { attempt: 0, under_way: false, may_repeat: true });
                Ok(())
            }
            Record::Skipped { run, step, .. } => {
                self.open(run)?;
                rule("S7", step.may_be_skipped(), || format!("{step} was skipped, and safety rests on it"))
            }
            Record::Stuck { run, .. } | Record::UnfencedAccepted { run, .. } => self.open(run).map(|_| ()),
            Record::RunStopping { run, .. } => {
                let begun = self.open(run)?.was_begun(Step::Promote);
                rule("S10", !begun, || "the run was stopped after its promote had begun".into())
            }
            Record::RunEnded { run, ending, .. } => self.end(run, ending),
            _ => Ok(()),
        }
    }

    fn open(&self, id: &RunId) -> Result<&Run, super::Broken> {
        let open = self.durable.open_run().filter(|run| run.id == *id);
        open.ok_or_else(|| super::Broken { invariant: "S10", what: format!("run {id} is not open") })
    }

    fn start(&mut self, run: &Run, doubt: Option<&str>) -> Kept {
        let other = self.durable.open_run().map(|open| open.id.clone());
        rule("S11", other.is_none(), || format!("run {} was started beside one that is open", run.id))?;
        rule("S1", run.epoch > self.durable.epoch, || format!("run {} does not raise the epoch", run.id))?;
        let lacks = INDISPENSABLE.into_iter().find(|step| run.entry(*step).is_none());
        rule("S9", lacks.is_none(), || format!("the plan of run {} lacks {}", run.id, lacks.unwrap_or(Step::Promote)))?;
        let asked = self.gates.take().filter(|asked| asked.at == Step::Recheck);
        rule("S2", asked.is_some(), || format!("run {} was started without asking the gates", run.id))?;
        let shut = asked.as_ref().and_then(|asked| asked.shut().map(|gate| gate.gate));
        rule("S2", shut.is_none(), || {
            format!("run {} was started although gate {} was closed", run.id, shut.unwrap_or(Gate::Verdict))
        })?;
        self.check_authority(run, asked.as_ref(), doubt)?;
        self.tries = Tries::default();
        Ok(())
    }

    fn check_authority(&mut self, run: &Run, asked: Option<&Asked>, doubt: Option<&str>) -> Kept {
        if let Authority::Forced { by, reason } = &run.authority {
            return rule("S2", !by.is_empty() && !reason.is_empty(), || {
                "a forced run names neither who nor why".into()
            });
        }
        let verdict = self.verdict;
        rule("S2", verdict == Some(Verdict::SiteDown), || {
            format!("run {} was started at verdict {verdict:?}", run.id)
        })?;
        rule("S3", doubt.is_none(), || format!("run {} was started in doubt", run.id))?;
        match &run.authority {
            Authority::Approved { request, by } => self.spend(run, request, by),
            Authority::Automatic { .. } => {
                let has = |gate| asked.is_some_and(|asked| asked.gates.iter().any(|g| g.gate == gate && g.open));
                rule("S2", has(Gate::Witness), || "an automatic run without a witness".into())?;
                let blocked = self.durable.blocked_until_wall_ms.is_some();
                rule("S11", !blocked && has(Gate::Block), || "an automatic run within the recovery block".into())
            }
            Authority::Forced { .. } => Ok(()),
        }
    }

    /// One approval, one plan, and only for what was approved.
    fn spend(&mut self, run: &Run, request: &RequestId, by: &str) -> Kept {
        let Some(approval) = self.approvals.remove(request) else {
            return rule("S2", false, || {
                format!("run {} rests on {request}, which was not approved or is spent", run.id)
            });
        };
        rule("S2", approval.by == by, || format!("{request} was approved by {}, not by {by}", approval.by))?;
        rule("S2", approval.evidence == run.evidence, || {
            format!("run {} rests on other evidence than {request} was approved for", run.id)
        })
    }

    fn intend(&mut self, at: Now, id: &RunId, step: Step, attempt: u32, key: &str) -> Kept {
        let run = self.open(id)?;
        rule("S10", run.entry(step).is_some(), || format!("run {id} has no step {step}"))?;
        rule("S10", key == run.key(step), || format!("{step} has the key {key:?}, not {:?}", run.key(step)))?;
        check_order(run, step)?;
        check_fence_and_loss(run, step)?;
        let paused = self.durable.pause.is_some();
        rule("S2", !paused, || format!("{step} was begun in a pause"))?;
        let before = self.tries.0.get(&step).copied();
        let fits = before.is_none_or(|one| one.may_repeat || (!one.under_way && attempt > one.attempt));
        rule("S10", fits, || format!("try {attempt} of {step} was begun while an earlier one had no outcome"))?;
        let repeated = step == Step::Promote && before.is_some_and(|one| !one.may_repeat);
        rule("S10", !repeated, || "the promote was repeated without an order".into())?;
        if step == Step::Promote {
            self.check_point_of_no_return(at)?;
        }
        self.tries.0.insert(step, Try { attempt, under_way: true, may_repeat: false });
        if step.is_recheck() {
            self.gates = None;
        }
        Ok(())
    }

    /// The recheck belongs to the promote: nothing may come between that lets time go by.
    fn check_point_of_no_return(&self, at: Now) -> Kept {
        let run = self.durable.open_run();
        // A promote that a human tries again was begun on a recheck, and is beyond return.
        if run.is_some_and(|run| run.was_begun(Step::Promote)) {
            return Ok(());
        }
        let rechecked = run.and_then(|run| run.entry(Step::PromoteRecheck)).map(|e| &e.status);
        let fresh = matches!(rechecked, Some(StepStatus::Done { at: then, .. })
            if then.boot_id == at.boot_id && at.since(then.boot_ms) < RECHECK_VALID);
        rule("S2", fresh, || "the promote was begun on a recheck of long ago".into())
    }

    fn end_try(&mut self, id: &RunId, step: Step, attempt: u32, result: &StepResult) -> Kept {
        self.open(id)?;
        let begun = self.tries.0.get(&step).is_some_and(|one| one.under_way && one.attempt == attempt);
        rule("S10", begun, || format!("try {attempt} of {step} ended without an intent"))?;
        self.tries.0.insert(step, Try { attempt, under_way: false, may_repeat: false });
        if step.is_recheck() && matches!(result, StepResult::Done { .. }) {
            let asked = self.gates.as_ref().filter(|asked| asked.at == step);
            rule("S2", asked.is_some(), || format!("{step} passed without asking the gates"))?;
            let shut = asked.and_then(|asked| asked.shut().map(|gate| gate.gate));
            let name = shut.map(|gate| gate.to_string()).unwrap_or_default();
            return rule("S2", shut.is_none(), || format!("{step} passed although gate {name} was closed"));
        }
        Ok(())
    }

    fn end(&self, id: &RunId, ending: &Ending) -> Kept {
        let run = self.open(id)?;
        match ending {
            Ending::Succeeded => {
                let left = run.steps.iter().find(|entry| !entry.status.is_over()).map(|entry| entry.step);
                rule("S10", left.is_none(), || {
                    format!("run {id} succeeded although {} is not over", left.unwrap_or(Step::Report))
                })
            }
            Ending::Stopped { .. } => {
                let stopping = matches!(run.phase, Phase::BringingBack { .. });
                rule("S10", stopping, || format!("run {id} ended as stopped without being stopped"))?;
                let owed = run.was_begun(Step::Quiesce) && !run.is_over(Step::MirrorBack);
                rule("S6", !owed, || format!("run {id} ended without bringing the mirror back"))
            }
            Ending::Abandoned { .. } => rule("S10", run.was_begun(Step::Promote), || {
                format!("run {id} was abandoned before its promote had begun")
            }),
        }
    }
}

/// S9: every step after all that it needs; on the way back nothing but the mirror.
fn check_order(run: &Run, step: Step) -> Kept {
    match &run.phase {
        Phase::BringingBack { .. } => {
            let owed = step == Step::MirrorBack && run.was_begun(Step::Quiesce);
            return rule("S6", owed, || format!("{step} was begun in a run that stops"));
        }
        Phase::Forward | Phase::Ended { .. } => {}
    }
    let missing = understudy_core::needs(step).into_iter().find(|need| !run.is_over(*need));
    rule("S9", run.is_ready(step), || match missing {
        Some(need) => format!("{step} was begun before {need} was over"),
        None => format!("{step} was begun before every route was switched"),
    })?;
    // What can not be skipped must be done, not only over.
    let done = |need| matches!(run.entry(need).map(|entry| &entry.status), Some(StepStatus::Done { .. }));
    let firm: &[Step] = match step {
        Step::Promote => &[Step::PromoteRecheck, Step::Fence],
        Step::Deploy => &[Step::Promote],
        Step::Verify => &[Step::Promote],
        Step::Route(_) | Step::RouteCheck => &[Step::Promote, Step::Verify],
        _ => &[],
    };
    let undone = firm.iter().find(|need| !done(**need));
    rule("S9", undone.is_none(), || {
        format!("{step} was begun although {} was not done", undone.unwrap_or(&Step::Promote))
    })
}

/// S6 and S8: before anything is quiesced or promoted the fence has ended, and the loss is within what was accepted.
fn check_fence_and_loss(run: &Run, step: Step) -> Kept {
    if !matches!(step, Step::ConsistencyPoint | Step::Quiesce | Step::PromoteRecheck | Step::Promote) {
        return Ok(());
    }
    rule("S6", run.fence.is_some(), || format!("{step} was begun before the fence had an outcome"))?;
    let exceeds = run.bound.is_some_and(|bound| bound.exceeds(run.accepted));
    rule("S8", !exceeds, || format!("{step} was begun although the loss bound exceeds what was accepted"))
}
