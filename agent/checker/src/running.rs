//! A run: order of its steps, intent and outcome, fence, loss, retries, its end (S1, S2, S6–S11, L1, L2).

use std::collections::BTreeMap;

use understudy_core::{
    Authority, Consent, Domain, Ending, Failure, FenceOutcome, FenceProof, Finding, Look, LossBound, MirrorFacts, Mode,
    Now, PageKind, Phase, Reading, Record, Role, Run, RunId, Site, Step, StepResult, StepStatus,
};

use crate::loss::{bound, oldest, within};
use crate::order::{done_before, is_recheck, may_be_left_out, over_before, route_before};
use crate::pair::{Owed, Pair};
use crate::starting::check_accepted;
use crate::watching::{dead_domains, grid_ms, voters};
use crate::{Broken, Invariant, Kept, Scene, between, ms};

/// A promote follows its recheck within this, where the records do not tell the rules. No probe is slower.
const RECHECK_VALID_MS: u64 = 120_000;

/// By whom the core orders another try of what it does or looks at itself.
const BY_ITSELF: &str = "understudy: ";

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Standing {
    Pending,
    Running { since: Now },
    Failed,
    Done { at: Now, epoch: u64 },
    Stuck,
    LeftOut,
}

/// A step of the run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    standing: Standing,
    /// The last try.
    attempt: u32,
    /// Tries since the last order.
    tries: u32,
    begun: bool,
    /// Another try may begin although none failed: ordered, or its process died.
    ordered: bool,
}

impl Progress {
    pub fn is_over(&self) -> bool {
        matches!(self.standing, Standing::Done { .. } | Standing::LeftOut)
    }

    fn is_done(&self) -> bool {
        matches!(self.standing, Standing::Done { .. })
    }
}

/// Where the run stands.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Going {
    Forward,
    Back,
}

/// A run, as far as the records tell.
#[derive(Debug, Clone, PartialEq)]
pub struct RunSoFar {
    pub id: RunId,
    authority: Authority,
    pub accepted: LossBound,
    writeback_ms: u64,
    /// Where a witness that says Down ended the loss window, at the decision at the latest.
    served_until_ms: Option<i64>,
    pub steps: BTreeMap<Step, Progress>,
    going: Going,
    pub ended: bool,
    pub fence: Option<FenceOutcome>,
    pub consent: Option<Consent>,
    /// What was journaled since the last promote.
    proof: Option<FenceProof>,
    bound: Option<LossBound>,
    /// When the primary took the oldest of the snapshots that the consistency point names.
    oldest_ms: Option<i64>,
    /// A was out of sight since it was looked at for this run: nobody can tell what it took meanwhile.
    out_of_sight: bool,
    /// A sign of life that has not stopped it yet.
    life: Option<String>,
    /// The agent was restarted before the promote, and has not looked at A again.
    unseen: bool,
}

impl RunSoFar {
    /// As a record or a snapshot tells it.
    pub fn of(run: &Run, epoch: u64, at: Now) -> Self {
        let progress = |entry: &understudy_core::StepEntry| {
            let (standing, attempt) = match &entry.status {
                StepStatus::Pending => (Standing::Pending, 0),
                StepStatus::Running { attempt, .. } => (Standing::Running { since: at }, *attempt),
                StepStatus::Waiting { attempt, .. } => (Standing::Failed, attempt.saturating_sub(1)),
                StepStatus::Done { at, .. } => (Standing::Done { at: *at, epoch }, 0),
                StepStatus::Stuck { attempt, .. } => (Standing::Stuck, *attempt),
                StepStatus::Skipped { .. } => (Standing::LeftOut, 0),
            };
            let begun = entry.began.is_some();
            // What led to a waiting step is not told by it.
            let ordered = matches!(entry.status, StepStatus::Waiting { .. });
            (entry.step, Progress { standing, attempt, tries: attempt, begun, ordered })
        };
        Self {
            id: run.id.clone(),
            authority: run.authority.clone(),
            accepted: run.accepted,
            writeback_ms: run.writeback_ms,
            served_until_ms: run.served_until_wall_ms.map(|until| until.min(run.started.wall_ms)),
            steps: run.steps.iter().map(progress).collect(),
            going: if matches!(run.phase, Phase::BringingBack { .. }) { Going::Back } else { Going::Forward },
            ended: run.has_ended(),
            fence: run.fence.clone(),
            consent: run.unfenced.clone(),
            proof: None,
            bound: run.bound,
            oldest_ms: oldest(&run.points),
            out_of_sight: run.out_of_sight,
            life: None,
            unseen: false,
        }
    }

    pub fn lose_sight(&mut self) {
        self.out_of_sight |= !self.ended;
    }

    fn loss_ends_ms(&self, now: Now) -> i64 {
        match &self.fence {
            Some(FenceOutcome::Confirmed { at_wall_ms, .. }) => *at_wall_ms,
            Some(FenceOutcome::Unconfirmed { .. }) | None => self.served_until_ms.unwrap_or(now.wall_ms),
        }
    }

    /// Rechecks are of the process that made them; the limits of what outlives it count from now.
    pub fn restart(&mut self, now: Now) {
        // A life that was seen and not acted on died with who saw it: the run that goes on looks anew.
        self.life = None;
        self.lose_sight();
        let beyond = self.going == Going::Back || self.was_begun(Step::PromoteRecheck);
        self.unseen = !self.ended && !beyond && self.is_done(Step::Recheck);
        for (step, progress) in &mut self.steps {
            if let Standing::Running { since } = &mut progress.standing {
                *since = now;
                if is_recheck(*step) {
                    (progress.ordered, progress.tries) = (true, 0);
                }
            }
        }
    }

    pub fn take_life(&mut self, what: &str) {
        if !self.ended && !self.authority.is_forced() && self.going == Going::Forward && !self.was_begun(Step::Promote)
        {
            self.life = Some(what.to_owned());
        }
    }

    pub fn under_way(&self) -> impl Iterator<Item = (Step, Now)> + '_ {
        self.steps.iter().filter_map(|(step, progress)| match progress.standing {
            Standing::Running { since } => Some((*step, since)),
            _ => None,
        })
    }

    fn was_begun(&self, step: Step) -> bool {
        self.steps.get(&step).is_some_and(|progress| progress.begun)
    }

    /// Whether `step` is over; what the plan lacks is not waited for.
    fn is_over(&self, step: Step) -> bool {
        self.steps.get(&step).is_none_or(Progress::is_over)
    }

    fn is_done(&self, step: Step) -> bool {
        self.steps.get(&step).is_none_or(Progress::is_done)
    }
}

impl Pair {
    pub fn run_on(&mut self, scene: &mut Scene<'_>, record: &Record) -> Kept {
        match record {
            Record::Intent { run, step, attempt, key, epoch, lease_until_ms, .. } => {
                self.check_writer(scene, *step, *epoch, *lease_until_ms)?;
                self.intend(scene, run, *step, *attempt, key)
            }
            Record::Outcome { run, step, attempt, result, again_ms, .. } => {
                self.end_try(scene, run, *step, *attempt, result, again_ms.is_some())
            }
            Record::Noted { run, step, .. } => {
                let run = self.open(run)?;
                let under_way = run.under_way().any(|(other, _)| other == *step);
                scene.rule(Invariant::S10, under_way, || format!("{step} remembered something without an intent"))
            }
            Record::Stuck { run, step, .. } => self.get_stuck(run, *step),
            Record::Retried { run, step, by, .. } => self.order_again(scene, run, *step, by),
            Record::Skipped { run, step, by, .. } => self.leave_out(scene, run, *step, by),
            Record::UnfencedAccepted { run, consent, accepted, .. } => self.accept(scene, run, consent, *accepted),
            Record::FenceProven { run, proof, .. } => {
                self.check_proof(scene, run, proof)?;
                self.open_mut(run)?.proof = Some(proof.clone());
                Ok(())
            }
            Record::RunStopping { run, .. } => {
                let begun = self.open(run)?.was_begun(Step::Promote);
                scene.rule(Invariant::S7, !begun, || "the run was stopped after its promote had begun".into())?;
                let run = self.open_mut(run)?;
                (run.going, run.life) = (Going::Back, None);
                self.owed = Some(Owed::Page(PageKind::Stopped, Invariant::L2));
                Ok(())
            }
            Record::RunEnded { run, ending, .. } => self.end(scene, run, ending),
            _ => Ok(()),
        }
    }

    fn open(&self, id: &RunId) -> Result<&RunSoFar, Broken> {
        let open = self.run.as_ref().filter(|run| !run.ended && run.id == *id);
        open.ok_or_else(|| not_open(id))
    }

    fn open_mut(&mut self, id: &RunId) -> Result<&mut RunSoFar, Broken> {
        let open = self.run.as_mut().filter(|run| !run.ended && run.id == *id);
        open.ok_or_else(|| not_open(id))
    }

    /// Each write carries the pair's epoch and is begun well inside the lease (S1).
    fn check_writer(&self, scene: &mut Scene<'_>, step: Step, epoch: u64, lease_until_ms: Option<u64>) -> Kept {
        let ours = self.epoch;
        scene.rule(Invariant::S1, epoch == ours, || format!("{step} was begun at epoch {epoch}, it is {ours}"))?;
        let margin = scene.rules.map_or(0, |rules| ms(rules.plan.lease_margin));
        let needed = scene.at.boot_ms.saturating_add(margin);
        scene.rule(Invariant::S1, lease_until_ms.is_some_and(|until| needed < until), || {
            format!("{step} was begun without a lease that lasts longer than one call")
        })
    }

    fn intend(&mut self, scene: &mut Scene<'_>, id: &RunId, step: Step, attempt: u32, key: &str) -> Kept {
        let paused = self.pause.is_some();
        let run = self.open(id)?;
        let progress = run.steps.get(&step).copied();
        let Some(progress) = progress else {
            return scene.rule(Invariant::S10, false, || format!("run {id} has no step {step}"));
        };
        let expected = format!("{id}/{step}");
        scene.rule(Invariant::S10, key == expected, || format!("{step} has the key {key:?}, not {expected:?}"))?;
        scene.rule(Invariant::S2, !paused, || format!("{step} was begun in a pause"))?;
        self.check_order(scene, run, step)?;
        self.check_fence(scene, run, step)?;
        check_loss(scene, run, step)?;
        check_try(scene, step, attempt, progress)?;
        if let (Some(life), true) = (&run.life, step != Step::MirrorBack) {
            return scene.rule(Invariant::S4, false, || format!("{step} was begun although {life} was alive"));
        }
        let blindly = run.unseen && run.going == Going::Forward && step != Step::Recheck;
        scene.rule(Invariant::S2, !blindly, || {
            format!("{step} was begun after a restart, before A was looked at again")
        })?;
        if step == Step::Promote {
            self.check_point_of_no_return(scene, run)?;
        }
        let now = scene.at;
        let run = self.open_mut(id)?;
        if step == Step::Promote {
            run.proof = None;
        }
        let tries = if progress.ordered { 1 } else { progress.tries + 1 };
        let standing = Standing::Running { since: now };
        run.steps.insert(step, Progress { standing, attempt, tries, begun: true, ordered: false });
        if is_recheck(step) {
            self.asked = None;
        }
        Ok(())
    }

    /// Every step after all that it needs; on the way back nothing but the mirror (S9, S6).
    fn check_order(&self, scene: &mut Scene<'_>, run: &RunSoFar, step: Step) -> Kept {
        if run.going == Going::Back {
            let owed = step == Step::MirrorBack && run.was_begun(Step::Quiesce);
            return scene.rule(Invariant::S6, owed, || format!("{step} was begun in a run that stops"));
        }
        let undone = done_before(step).iter().find(|need| !run.is_done(**need));
        let undone = undone.or_else(|| over_before(step).iter().find(|need| !run.is_over(**need)));
        scene.rule(Invariant::S9, undone.is_none(), || {
            format!("{step} was begun before {} was done", undone.unwrap_or(&Step::Promote))
        })?;
        let mut routes = run.steps.keys().filter(|earlier| route_before(**earlier, step));
        let unmoved = routes.find(|route| !run.is_over(**route)).copied();
        scene.rule(Invariant::S9, unmoved.is_none(), || {
            format!("{step} was begun before {} was done", unmoved.unwrap_or(Step::Route(0)))
        })?;
        if !matches!(step, Step::Route(_) | Step::RouteCheck) {
            return Ok(());
        }
        self.check_verified(scene, run, step)
    }

    /// A route moves on a verify of this epoch, boot and hour (S9).
    fn check_verified(&self, scene: &mut Scene<'_>, run: &RunSoFar, step: Step) -> Kept {
        let Some(Standing::Done { at, epoch }) = run.steps.get(&Step::Verify).map(|p| p.standing) else {
            return Ok(());
        };
        let ours = self.epoch;
        scene.rule(Invariant::S9, epoch == ours, || {
            format!("{step} rests on a verify of epoch {epoch}, it is {ours}")
        })?;
        let age = between(at, scene.at);
        let valid = scene.rules.map_or(u64::MAX, |rules| ms(rules.plan.verify_valid));
        scene
            .rule(Invariant::S9, age.is_some_and(|age| age < valid), || format!("{step} rests on a verify of long ago"))
    }

    /// Before anything is quiesced or promoted the fence has ended, and if A did not confirm it, there is more (S6).
    fn check_fence(&self, scene: &mut Scene<'_>, run: &RunSoFar, step: Step) -> Kept {
        if !matches!(step, Step::ConsistencyPoint | Step::Quiesce | Step::PromoteRecheck | Step::Promote) {
            return Ok(());
        }
        let ended = run.fence.is_some();
        scene.rule(Invariant::S6, ended, || format!("{step} was begun before the fence had an outcome"))?;
        let confirmed = matches!(run.fence, Some(FenceOutcome::Confirmed { .. }));
        let witnessed = scene.rules.is_none_or(|rules| self.third_site_down(rules).is_some()) || !scene.own.whole;
        let vouched = confirmed || witnessed || run.consent.is_some();
        scene.rule(Invariant::S6, vouched, || format!("{step} was begun although nobody answers for the fence"))?;
        let beside = !confirmed && run.authority.is_forced() && self.api_lives(scene);
        scene.rule(Invariant::S6, !beside, || {
            format!("{step} was begun beside a living A that did not confirm the fence")
        })?;
        let proven = step != Step::Promote || run.proof.is_some();
        scene.rule(Invariant::S6, proven, || "the promote was begun without a word why it may be forced".into())
    }

    fn api_lives(&self, scene: &Scene<'_>) -> bool {
        let probes = scene.rules.iter().flat_map(|rules| &rules.probes);
        let mut api = probes.filter(|p| p.site == Site::A && p.votes && p.domain == Domain::ControlPlane);
        api.any(|probe| self.signals.get(&probe.name) == Some(&Reading::Up))
    }

    fn check_proof(&self, scene: &mut Scene<'_>, id: &RunId, proof: &FenceProof) -> Kept {
        let run = self.open(id)?;
        let confirmed = matches!(run.fence, Some(FenceOutcome::Confirmed { .. }));
        let true_word = match proof {
            FenceProof::Confirmed => confirmed,
            FenceProof::Witnessed { witness } => {
                let says = scene.rules.map(|rules| self.third_site_down(rules).map(|(name, _)| name.to_owned()));
                !scene.own.whole || says.is_none_or(|says| says.as_ref() == Some(witness))
            }
            FenceProof::Accepted(consent) => run.consent.as_ref() == Some(consent),
        };
        scene.rule(Invariant::S6, true_word, || {
            format!("the records do not bear out why the promote may be forced: {proof:?}")
        })
    }

    /// The recheck belongs to the promote: nothing may come between that lets time go by, or doubt (S2, S3).
    fn check_point_of_no_return(&self, scene: &mut Scene<'_>, run: &RunSoFar) -> Kept {
        // A promote that a human tries again was begun on a recheck, and is beyond return.
        if run.was_begun(Step::Promote) {
            return Ok(());
        }
        let valid = scene.rules.map_or(RECHECK_VALID_MS, grid_ms);
        let age = match run.steps.get(&Step::PromoteRecheck).map(|progress| progress.standing) {
            Some(Standing::Done { at, .. }) => between(at, scene.at),
            _ => None,
        };
        scene.rule(Invariant::S2, age.is_some_and(|age| age < valid), || {
            "the promote was begun on a recheck of long ago".into()
        })?;
        let observes = scene.rules.is_some_and(|rules| rules.mode == Mode::Observe);
        scene.rule(Invariant::S2, !observes, || "the promote was begun in observe".into())?;
        if run.authority.is_forced() {
            return Ok(());
        }
        scene.fit(|| "the promote was begun".into())
    }

    fn end_try(
        &mut self,
        scene: &mut Scene<'_>,
        id: &RunId,
        step: Step,
        attempt: u32,
        result: &StepResult,
        again: bool,
    ) -> Kept {
        let progress = self.open(id)?.steps.get(&step).copied();
        let begun = progress.filter(|p| matches!(p.standing, Standing::Running { .. }) && p.attempt == attempt);
        scene.rule(Invariant::S10, begun.is_some(), || format!("try {attempt} of {step} ended without an intent"))?;
        let Some(mut progress) = begun else { return Ok(()) };
        progress.standing = match result {
            StepResult::Done { finding, .. } => {
                self.learn(scene, id, step, progress, finding)?;
                Standing::Done { at: scene.at, epoch: self.epoch }
            }
            StepResult::Failed { failure, .. } => {
                check_failure(scene, step, progress, *failure, again)?;
                // Nobody has begun anything: the way back is open still, and the recheck is due again.
                progress.begun &= *failure != Failure::NotBegun;
                if !again {
                    self.owed = Some(Owed::Page(PageKind::Stuck, Invariant::L2));
                }
                if again { Standing::Failed } else { Standing::Stuck }
            }
        };
        self.open_mut(id)?.steps.insert(step, progress);
        Ok(())
    }

    fn learn(&mut self, scene: &mut Scene<'_>, id: &RunId, step: Step, p: Progress, finding: &Finding) -> Kept {
        match (step, finding) {
            (Step::Fence, Finding::Fence(outcome)) => {
                scene.rule(Invariant::L1, true, String::new)?;
                self.open_mut(id)?.fence = Some(outcome.clone());
            }
            (Step::Fence, _) => {
                return scene.rule(Invariant::L1, false, || "the fence ended without an outcome".into());
            }
            (Step::ConsistencyPoint, Finding::Mirror(facts)) => self.learn_bound(scene, id, facts)?,
            (Step::Recheck | Step::PromoteRecheck, finding) => {
                self.check_recheck(scene, id, step, p, finding)?;
                self.look_again(scene, id)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn learn_bound(&mut self, scene: &Scene<'_>, id: &RunId, facts: &MirrorFacts) -> Kept {
        let (oldest, error) = (self.times.oldest_left(facts), self.clock_error_ms);
        let run = self.open_mut(id)?;
        run.oldest_ms = oldest;
        run.bound = Some(bound(oldest, run.loss_ends_ms(scene.at), error, run.writeback_ms));
        Ok(())
    }

    /// A that nobody watched may have served until it was looked at again (S8).
    fn look_again(&mut self, scene: &Scene<'_>, id: &RunId) -> Kept {
        let error = self.clock_error_ms;
        let run = self.open_mut(id)?;
        run.unseen = false;
        if std::mem::take(&mut run.out_of_sight) {
            run.served_until_ms = run.served_until_ms.map(|until| until.max(scene.at.wall_ms));
            if run.bound.is_some() {
                run.bound = Some(bound(run.oldest_ms, run.loss_ends_ms(scene.at), error, run.writeback_ms));
            }
        }
        Ok(())
    }

    /// What passed a recheck was asked and read anew since it began (S2).
    fn check_recheck(&self, scene: &mut Scene<'_>, id: &RunId, step: Step, p: Progress, finding: &Finding) -> Kept {
        let run = self.open(id)?;
        let asked = self.asked.as_ref().filter(|asked| asked.at == step);
        scene.rule(Invariant::S2, asked.is_some(), || format!("{step} passed without asking the gates"))?;
        let shut = asked.and_then(|asked| asked.shut().map(|gate| gate.gate));
        scene.rule(Invariant::S2, shut.is_none(), || {
            format!("{step} passed although gate {} was closed", shut.map(|gate| gate.to_string()).unwrap_or_default())
        })?;
        if run.authority.is_forced() {
            return Ok(());
        }
        scene.fit(|| format!("{step} passed"))?;
        let Finding::Rechecked(looks) = finding else {
            return scene.rule(Invariant::S2, false, || format!("{step} passed without readings"));
        };
        let Some(rules) = scene.rules else { return Ok(()) };
        let Standing::Running { since } = p.standing else { return Ok(()) };
        let look = |name: &str| looks.iter().find(|look| look.probe == name);
        let fresh_down =
            |look: &Look| look.reading.is_down() && look.started_ms.is_some_and(|started| started > since.boot_ms);
        let dead = dead_domains(rules, |name| look(name).is_some_and(fresh_down));
        let needed = usize::from(rules.at_least.max(1));
        scene.rule(Invariant::S2, dead >= needed, || {
            format!("{step} passed with {dead} of {needed} domains read Down since it began")
        })?;
        let alive = voters(rules).find(|probe| look(&probe.name).is_some_and(|look| look.reading.is_up()));
        scene.rule(Invariant::S4, alive.is_none(), || {
            format!("{step} passed although probe {} is Up", alive.map_or("", |probe| &probe.name))
        })?;
        let automatic = matches!(run.authority, Authority::Automatic { .. });
        let witnessed = !automatic || !scene.own.whole || self.third_site_down(rules).is_some();
        scene.rule(Invariant::S2, witnessed, || format!("{step} of an automatic run passed without a witness"))
    }

    fn get_stuck(&mut self, id: &RunId, step: Step) -> Kept {
        let run = self.open_mut(id)?;
        let Some(progress) = run.steps.get_mut(&step) else { return Ok(()) };
        let news = progress.standing != Standing::Stuck;
        progress.standing = Standing::Stuck;
        if news {
            self.owed = Some(Owed::Page(PageKind::Stuck, Invariant::L2));
        }
        Ok(())
    }

    fn order_again(&mut self, scene: &mut Scene<'_>, id: &RunId, step: Step, by: &str) -> Kept {
        let progress = self.open(id)?.steps.get(&step).copied();
        let standing = progress.map(|progress| progress.standing);
        let fits = if by.starts_with(BY_ITSELF) {
            let looks_only = matches!(step, Step::Verify | Step::Recheck | Step::PromoteRecheck);
            looks_only && matches!(standing, Some(Standing::Done { .. }))
        } else {
            standing == Some(Standing::Stuck)
        };
        scene.rule(Invariant::S10, fits, || format!("{by:?} ordered another try of {step}, which is not stuck"))?;
        if let Some(progress) = self.open_mut(id)?.steps.get_mut(&step) {
            (progress.standing, progress.ordered) = (Standing::Failed, true);
        }
        Ok(())
    }

    fn leave_out(&mut self, scene: &mut Scene<'_>, id: &RunId, step: Step, by: &str) -> Kept {
        let standing = self.open(id)?.steps.get(&step).map(|progress| progress.standing);
        let allowed = may_be_left_out(step) && !by.is_empty();
        scene.rule(Invariant::S7, allowed, || format!("{step} was skipped, and safety rests on it"))?;
        let failed = matches!(standing, Some(Standing::Stuck | Standing::Failed));
        scene.rule(Invariant::S7, failed, || format!("{step} was skipped although it had not failed"))?;
        if let Some(progress) = self.open_mut(id)?.steps.get_mut(&step) {
            progress.standing = Standing::LeftOut;
        }
        Ok(())
    }

    fn accept(&mut self, scene: &mut Scene<'_>, id: &RunId, consent: &Consent, accepted: LossBound) -> Kept {
        self.open(id)?;
        let word = self.word.take().filter(|word| word.consent == *consent);
        scene.rule(Invariant::S6, word.is_some(), || {
            format!("{} is said to accept an unconfirmed fence, and did not answer so", consent.by)
        })?;
        check_accepted(scene, accepted, word.and_then(|word| word.accept_loss_ms))?;
        let run = self.open_mut(id)?;
        run.consent = Some(consent.clone());
        if !within(accepted, run.accepted) {
            run.accepted = accepted;
        }
        Ok(())
    }

    fn end(&mut self, scene: &mut Scene<'_>, id: &RunId, ending: &Ending) -> Kept {
        let run = self.open(id)?;
        match ending {
            Ending::Succeeded => {
                let left = run.steps.iter().find(|(_, progress)| !progress.is_over()).map(|(step, _)| *step);
                scene.rule(Invariant::S10, left.is_none(), || {
                    format!("run {id} succeeded although {} is not over", left.unwrap_or(Step::Report))
                })?;
                scene.rule(Invariant::S12, run.going == Going::Forward, || {
                    format!("run {id} succeeded on its way back")
                })?;
            }
            Ending::Stopped { .. } => {
                let stopping = run.going == Going::Back;
                scene.rule(Invariant::S10, stopping, || format!("run {id} ended as stopped without being stopped"))?;
                let owed = run.was_begun(Step::Quiesce) && !run.is_over(Step::MirrorBack);
                scene.rule(Invariant::S6, !owed, || format!("run {id} ended without bringing the mirror back"))?;
            }
            Ending::Abandoned { by, .. } => {
                let begun = run.was_begun(Step::Promote) && !by.is_empty();
                scene.rule(Invariant::S7, begun, || format!("run {id} was abandoned before its promote had begun"))?;
                let flies = run.under_way().any(|(step, _)| step == Step::Promote);
                scene.rule(Invariant::S10, !flies, || format!("run {id} was abandoned with its promote under way"))?;
            }
        }
        self.open_mut(id)?.ended = true;
        self.epoch += 1;
        (self.return_told, self.returned) = (false, None);
        match ending {
            Ending::Succeeded => {
                (self.role, self.half_way, self.owed) = (Role::AtB, None, Some(Owed::Role));
            }
            // A pair that an earlier run has left half-way is not A's again because a later one stopped.
            Ending::Stopped { .. } => {
                let back = self.half_way.clone().map_or(Role::AtA, |run| Role::Moving { run });
                (self.role, self.owed) = (back, Some(Owed::Role));
            }
            Ending::Abandoned { .. } => {
                self.half_way = Some(id.clone());
                self.owed = Some(Owed::Page(PageKind::Stuck, Invariant::L2));
            }
        }
        Ok(())
    }
}

fn not_open(id: &RunId) -> Broken {
    Broken { invariant: Invariant::S10, what: format!("run {id} is not open") }
}

/// What the consistency point says is within what was accepted (S8).
fn check_loss(scene: &mut Scene<'_>, run: &RunSoFar, step: Step) -> Kept {
    if !matches!(step, Step::Quiesce | Step::PromoteRecheck | Step::Promote) {
        return Ok(());
    }
    if run.steps.contains_key(&Step::ConsistencyPoint) {
        let known = run.bound.is_some();
        scene.rule(Invariant::S8, known, || format!("{step} was begun before anybody read what would be lost"))?;
    }
    let fits = run.bound.is_none_or(|bound| within(bound, run.accepted));
    scene.rule(Invariant::S8, fits, || format!("{step} was begun although the loss bound exceeds what was accepted"))
}

/// A try follows one that failed, or an order; a promote only an order (S10).
fn check_try(scene: &mut Scene<'_>, step: Step, attempt: u32, progress: Progress) -> Kept {
    let fits = match progress.standing {
        _ if progress.ordered => true,
        Standing::Pending => attempt == 1,
        Standing::Failed => attempt == progress.attempt + 1,
        Standing::Running { .. } | Standing::Done { .. } | Standing::Stuck | Standing::LeftOut => false,
    };
    scene.rule(Invariant::S10, fits, || {
        format!("try {attempt} of {step} was begun while an earlier one had no outcome")
    })?;
    let repeated = step == Step::Promote && progress.begun && !progress.ordered;
    scene.rule(Invariant::S10, !repeated, || "the promote was repeated without an order".into())
}

/// Retries are counted, what will not help is not repeated, a promote never, and a fence always ends (S11, S10, L1).
fn check_failure(scene: &mut Scene<'_>, step: Step, progress: Progress, failure: Failure, again: bool) -> Kept {
    let waits_for_a = step == Step::Fence;
    scene.rule(Invariant::L1, !waits_for_a, || "a fence that failed holds the run up".into())?;
    let not_begun = failure == Failure::NotBegun;
    scene.rule(Invariant::S10, !not_begun || step == Step::Promote, || format!("{step} does not begin by itself"))?;
    let repeats = again && step == Step::Promote && !not_begun;
    scene.rule(Invariant::S10, !repeats, || "a promote that failed will be repeated".into())?;
    let hopeless = again && failure == Failure::Permanent;
    scene.rule(Invariant::S11, !hopeless, || format!("{step} will be tried again although that can not help"))?;
    let Some(rules) = scene.rules else { return Ok(()) };
    let most = rules.plan.attempts;
    scene.rule(Invariant::S11, !again || progress.tries < most, || {
        format!("{step} will be tried again after {} tries, at most {most} may be", progress.tries)
    })
}
