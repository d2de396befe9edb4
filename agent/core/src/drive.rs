//! Moves a run forward: which step may start, what a result means, when a human is needed.

mod resumed;

use std::time::Duration;

use crate::decide::{Asking, closed};
use crate::event::{Command, Notice, PageKind, backoff};
use crate::gate::{Gate, GateState};
use crate::names::{RunId, Ticket};
use crate::pair::{PairState, Scene};
use crate::plan::{
    Authority, Ending, Failure, FenceOutcome, FenceProof, Finding, Look, Phase, Run, Step, StepOrder, StepResult,
    StepStatus,
};
use crate::policy::ProbePolicy;
use crate::reading::{Domain, Reading, Site};
use crate::record::{Question, Record, Role};
use crate::signal::Signal;
use crate::time::millis;
use crate::watch::{Fresh, fresh_quorum};

/// What may be made of the readings so far.
enum Rechecked {
    NotYet,
    Good,
    Stop(String),
}

impl PairState {
    /// Does whatever the open run asks for now. Called after every event.
    pub(crate) fn drive(&mut self, scene: &mut Scene<'_>) {
        self.send_again(scene);
        self.tend_overdue(scene);
        self.tend_recheck(scene);
        self.renew_verify(scene);
        self.renew_recheck(scene);
        let Some(run) = self.durable.open_run() else { return };
        match run.phase {
            Phase::Forward => self.go_forward(scene),
            Phase::BringingBack { .. } => self.bring_back(scene),
            Phase::Ended { .. } => {}
        }
    }

    fn go_forward(&mut self, scene: &mut Scene<'_>) {
        // What was found out is judged here and not when it arrives, so that a crash in between changes nothing.
        self.stop_if_alive(scene);
        self.hold_to_bound(scene);
        self.ask_if_unfenced(scene);
        self.hold_retried_promote(scene);
        if !matches!(self.durable.open_run().map(|run| &run.phase), Some(Phase::Forward)) {
            return;
        }
        // One start may make nothing else ready, so the list is read once and each entry judged by the run as it is then.
        let steps: Vec<Step> =
            self.durable.open_run().map(|run| run.steps.iter().map(|e| e.step).collect()).unwrap_or_default();
        for step in steps {
            if self.may_start(scene, step) {
                self.begin(scene, step);
            }
        }
        let Some(run) = self.durable.open_run() else { return };
        if run.steps.iter().all(|entry| entry.status.is_over()) {
            self.finish(scene);
        }
    }

    /// Whether `step` is due, everything that it needs is over, and the gates of every write are open.
    fn may_start(&self, scene: &Scene<'_>, step: Step) -> bool {
        let now = scene.now();
        let Some(run) = self.durable.open_run() else { return false };
        let due = match run.entry(step).map(|entry| &entry.status) {
            Some(StepStatus::Pending) => true,
            Some(StepStatus::Waiting { until_ms, .. }) => now.boot_ms >= *until_ms,
            _ => false,
        };
        due && run.is_ready(step)
            && is_looked_at(run, step)
            && self.durable.pause.is_none()
            && self.lease_gate(scene.rules, now).open
            && (!needs_fence(step) || self.fenced(scene, run).is_some())
            && (step != Step::Promote || run.authority.is_forced() || self.sees(scene))
            && (!matches!(step, Step::Route(_) | Step::RouteCheck) || self.is_verified_freshly(scene, run))
    }

    /// Whether everything that may tell of a living A was asked since this process began, and we can vouch for ourselves: a
    /// human's retry right after a restart would else go by nothing (S2, S3).
    fn sees(&self, scene: &Scene<'_>) -> bool {
        let read = self.signs.quorum(scene.rules).all(|(_, signal)| signal.last_started_ms.is_some());
        read && self.signs.witnesses.iter().all(|state| state.last_started_ms.is_some()) && !scene.doubts()
    }

    /// A promote rests on readings younger than one period (S2). A retried one was begun on such, and is beyond return.
    fn is_rechecked_freshly(&self, scene: &Scene<'_>, run: &Run) -> bool {
        let done = run.entry(Step::PromoteRecheck).map(|entry| &entry.status);
        // Doubt that came after the recheck is one of its own: the next one stops the run (S3).
        let doubted = scene.doubts() && !run.authority.is_forced();
        run.was_begun(Step::Promote)
            || !doubted
                && matches!(done, Some(StepStatus::Done { at, .. }) if at.boot_id == scene.now().boot_id
                && scene.now().since(at.boot_ms) < self.slowest(scene))
    }

    /// The proof that the promote needs (S6).
    fn fenced(&self, scene: &Scene<'_>, run: &Run) -> Option<FenceProof> {
        let FenceOutcome::Unconfirmed { .. } = run.fence.as_ref()? else { return Some(FenceProof::Confirmed) };
        // A forced run exists because A's API lives: then that API must confirm, and nobody's word replaces it.
        if run.authority.is_forced() && self.api_lives(scene) {
            return None;
        }
        match self.signs.third_site_down(scene.rules, 0, scene.now()) {
            Some(witness) => Some(FenceProof::Witnessed { witness: witness.to_owned() }),
            None => run.unfenced.clone().map(FenceProof::Accepted),
        }
    }

    /// Whether an open question about the fence is moot.
    pub(crate) fn needs_no_word(&self, scene: &Scene<'_>) -> bool {
        self.durable.open_run().is_none_or(|run| self.fenced(scene, run).is_some())
    }

    fn api_lives(&self, scene: &Scene<'_>) -> bool {
        self.signs.voters(scene.rules, Site::A).any(|(p, s)| p.domain == Domain::ControlPlane && s.state == Reading::Up)
    }

    /// A route is switched only while `verify` is young; else it is verified again first (S9).
    fn is_verified_freshly(&self, scene: &Scene<'_>, run: &Run) -> bool {
        let done = run.entry(Step::Verify).map(|entry| &entry.status);
        matches!(done, Some(StepStatus::Done { at, .. }) if at.boot_id == scene.now().boot_id
            && scene.now().since(at.boot_ms) < scene.rules.plan.verify_valid)
    }

    fn begin(&mut self, scene: &mut Scene<'_>, step: Step) {
        let Some(run) = self.durable.open_run() else { return };
        let (id, key) = (run.id.clone(), run.key(step));
        let before = run.entry(step).map_or(0, |entry| match entry.status {
            StepStatus::Waiting { attempt, .. } => attempt.saturating_sub(1),
            _ => 0,
        });
        let attempt = before + 1;
        let pair = scene.rules.name.clone();
        let start_before_ms = (step == Step::Promote).then(|| {
            // A retried promote rests on what is known now; the looks of either may take two calls.
            let rests_on = if run.was_begun(step) {
                (scene.now() + self.slowest(scene)).boot_ms
            } else {
                self.recheck_holds_until_ms(scene, run)
            };
            rests_on.saturating_add(millis(2 * scene.rules.plan.lease_margin))
        });
        if step == Step::Promote
            && let Some(proof) = self.fenced(scene, run)
        {
            self.journal(scene, Record::FenceProven { pair: pair.clone(), run: id.clone(), proof });
        }
        let (epoch, lease_until_ms) = (self.durable.epoch, self.lease_until_ms);
        self.journal(scene, Record::Intent { pair, run: id, step, attempt, key, epoch, lease_until_ms });
        if step.is_recheck() {
            scene.out.push(Command::ProbeNow { pair: scene.id });
        } else {
            self.send(scene, step, attempt, attempt > 1, start_before_ms);
        }
    }

    /// Until when a promote may be started: its recheck holds for one period. After that it is looked again, however the time
    /// went by: a crash, a pause, a lost lease (S2).
    fn recheck_holds_until_ms(&self, scene: &Scene<'_>, run: &Run) -> u64 {
        match run.entry(Step::PromoteRecheck).map(|entry| &entry.status) {
            Some(StepStatus::Done { at, .. }) if at.boot_id == scene.now().boot_id => {
                (*at + self.slowest(scene)).boot_ms
            }
            _ => 0,
        }
    }

    fn slowest(&self, scene: &Scene<'_>) -> Duration {
        self.signs.quorum(scene.rules).map(|(probe, _)| probe.period).max().unwrap_or_default()
    }

    fn send(&self, scene: &mut Scene<'_>, step: Step, attempt: u32, resumed: bool, start_before_ms: Option<u64>) {
        let Some(run) = self.durable.open_run() else { return };
        let order = StepOrder {
            run: run.id.clone(),
            step,
            attempt,
            epoch: run.epoch,
            key: run.key(step),
            resumed,
            images: scene.rules.images.clone(),
            points: run.points.clone(),
            nonce: run.nonce.clone(),
            notes: run.notes.clone(),
            bound: run.bound,
            start_before_ms,
        };
        scene.out.push(Command::RunStep { pair: scene.id, order: Box::new(order) });
    }

    /// Judges the recheck that is under way.
    fn tend_recheck(&mut self, scene: &mut Scene<'_>) {
        let Some(run) = self.durable.open_run() else { return };
        let Some((step, attempt, since)) = run.running().find(|(step, ..)| step.is_recheck()) else { return };
        let asked_ms = run.recheck_since_ms.unwrap_or(since.boot_ms);
        match self.rechecked(scene, run, step, asked_ms) {
            Rechecked::NotYet => {}
            Rechecked::Good => {
                let gates = self.gates_in_run(scene);
                let pair = scene.rules.name.clone();
                self.journal(scene, Record::Gates { pair, at: step, gates });
                let detail = "quorum Down in readings made since; no sign of life".to_owned();
                let detail = if self.is_forced() { "skipped by force; gates open".to_owned() } else { detail };
                let finding = if self.is_forced() { Finding::Nothing } else { Finding::Rechecked(self.looks(scene)) };
                self.end_step(scene, step, attempt, StepResult::Done { detail, finding }, None);
            }
            Rechecked::Stop(why) => self.stop(scene, &format!("{step}: {why}")),
        }
    }

    fn looks(&self, scene: &Scene<'_>) -> Vec<Look> {
        let look = |(probe, signal): (&ProbePolicy, &Signal)| Look {
            probe: probe.name.clone(),
            reading: signal.last,
            started_ms: signal.last_started_ms,
        };
        self.signs.quorum(scene.rules).map(look).collect()
    }

    fn is_forced(&self) -> bool {
        self.durable.open_run().is_some_and(|run| run.authority.is_forced())
    }

    /// The gates that hold during a run: what was asked at its start, less what the run itself is.
    fn gates_in_run(&self, scene: &Scene<'_>) -> Vec<GateState> {
        let asking = Asking::Force { accept_loss_ms: None };
        let kept = |g: &GateState| matches!(g.gate, Gate::Mode | Gate::Pause | Gate::Readiness | Gate::Lease);
        self.gates(scene, asking).into_iter().filter(kept).collect()
    }

    fn rechecked(&self, scene: &Scene<'_>, run: &Run, step: Step, asked_ms: u64) -> Rechecked {
        let now = scene.now();
        // Pause and lease hold the run where it is; mode and readiness end it.
        let gates = self.gates_in_run(scene);
        // After a restart B is looked at anew; not having looked yet is no answer.
        if self.missing.is_none() && !self.waited_too_long(scene, asked_ms) {
            return Rechecked::NotYet;
        }
        if let Some(shut) = gates.iter().find(|g| !g.open && matches!(g.gate, Gate::Mode | Gate::Readiness)) {
            return Rechecked::Stop(format!("gate {} is closed: {}", shut.gate, shut.value));
        }
        if closed(&gates).is_some() {
            return Rechecked::NotYet;
        }
        if run.authority.is_forced() {
            return Rechecked::Good;
        }
        if let Some((what, at)) = self.signs.life_source(scene.rules)
            && at > run.life_since_ms
        {
            return Rechecked::Stop(format!("{what} saw A alive"));
        }
        // At the point of no return blindness stops the run at once (S2); a daemon that was just started is given time to look.
        let point_of_no_return = step == Step::PromoteRecheck && scene.fitness.is_observed();
        if let Some(doubt) = scene.doubt()
            && (point_of_no_return || self.waited_too_long(scene, asked_ms))
        {
            return Rechecked::Stop(format!("we doubt ourselves: {doubt}"));
        }
        let vouched = !scene.doubts() && scene.fitness.vouched_since(scene.policy, asked_ms);
        let witnessed = self.is_witnessed(scene, run, asked_ms);
        match fresh_quorum(&self.signs, scene.rules, asked_ms, now) {
            Fresh::Broken(why) => Rechecked::Stop(why),
            Fresh::Down if vouched && witnessed => Rechecked::Good,
            Fresh::Down | Fresh::NotYet if self.waited_too_long(scene, asked_ms) => Rechecked::Stop(format!(
                "{step} could not be witnessed in time ({} ms)",
                now.boot_ms.saturating_sub(asked_ms)
            )),
            Fresh::Down | Fresh::NotYet => Rechecked::NotYet,
        }
    }

    /// An automatic run needs the third-site witness again, heard since the recheck was asked for (S2).
    fn is_witnessed(&self, scene: &Scene<'_>, run: &Run, asked_ms: u64) -> bool {
        if !matches!(run.authority, Authority::Automatic { .. }) {
            return true;
        }
        let heard = |w: &crate::watch::WitnessState| {
            w.last_started_ms.is_some_and(|at| at > asked_ms) && w.down_since_ms.is_some()
        };
        let named = scene.rules.witnesses.iter().zip(&self.signs.witnesses);
        named.filter(|(w, _)| w.kind == crate::WitnessKind::ThirdSite).any(|(_, state)| heard(state))
    }

    fn waited_too_long(&self, scene: &Scene<'_>, asked_ms: u64) -> bool {
        let quorum = self.signs.quorum(scene.rules).map(|(p, _)| p.period + p.timeout);
        let checks = scene.policy.self_checks.iter().map(|c| c.period + c.timeout);
        let limit = 2 * quorum.chain(checks).max().unwrap_or(Duration::from_secs(1)) + scene.policy.doubt;
        scene.now().since(asked_ms) > limit
    }

    /// A step asks to remember something: only while the run may go on writing.
    pub(crate) fn note(
        &mut self,
        scene: &mut Scene<'_>,
        run: &RunId,
        step: Step,
        key: String,
        value: String,
        ticket: Ticket,
    ) {
        let open = self.durable.open_run().filter(|open| open.id == *run);
        let running = open.is_some_and(|open| open.running().any(|(s, ..)| s == step));
        let go_on = running && self.durable.pause.is_none();
        if go_on {
            let pair = scene.rules.name.clone();
            self.journal(scene, Record::Noted { pair, run: run.clone(), step, key, value });
        }
        Self::ack(scene, ticket, go_on);
    }

    /// A try of a step ended. Late news of a step that is no longer under way changes nothing.
    pub(crate) fn step_ended(
        &mut self,
        scene: &mut Scene<'_>,
        run: &RunId,
        step: Step,
        attempt: u32,
        result: StepResult,
    ) {
        let Some(open) = self.durable.open_run().filter(|open| open.id == *run) else { return };
        match open.entry(step).map(|entry| entry.status.clone()) {
            Some(StepStatus::Running { attempt: running, .. }) if running == attempt => {
                let result = if step == Step::Fence { fence_always_ends(result) } else { result };
                let again = self.again(scene, step, attempt, &result);
                // Its look is newer than any probe's: a snapshot that came since would have no time, and no bound.
                if let StepResult::Done { finding: Finding::Mirror(facts), .. } = &result {
                    self.learn_times(scene, facts);
                }
                self.end_step(scene, step, attempt, result, again);
            }
            Some(StepStatus::Stuck { attempt: stuck, .. }) if stuck == attempt => {
                let what = match result {
                    StepResult::Done { detail, .. } => {
                        format!("ended after it was overdue: {detail}; `understudy retry {run}` goes on")
                    }
                    StepResult::Failed { message, .. } => format!("ended after it was overdue: {message}"),
                };
                self.mark_stuck(scene, step, what);
            }
            _ => {}
        }
    }

    /// When a failed try may be repeated, in milliseconds of `Now::boot_ms`; none = not without a human.
    fn again(&self, scene: &Scene<'_>, step: Step, attempt: u32, result: &StepResult) -> Option<u64> {
        let StepResult::Failed { failure, .. } = result else { return None };
        // A promote is never repeated by itself: what a second force leaves behind nobody knows (S10).
        if (step == Step::Promote && *failure != Failure::NotBegun) || attempt >= scene.rules.plan.attempts {
            return None;
        }
        let now = scene.now().boot_ms;
        match failure {
            Failure::NotBegun => Some(now),
            Failure::Transient | Failure::Unknown => Some(now + millis(backoff(scene.rules.plan.retry_after, attempt))),
            Failure::Permanent => None,
        }
    }

    fn end_step(&mut self, scene: &mut Scene<'_>, step: Step, attempt: u32, result: StepResult, again_ms: Option<u64>) {
        let Some(run) = self.durable.open_run() else { return };
        let (id, pair) = (run.id.clone(), scene.rules.name.clone());
        let failed = match &result {
            StepResult::Failed { message, .. } if again_ms.is_none() => Some(message.clone()),
            _ => None,
        };
        self.journal(scene, Record::Outcome { pair, run: id.clone(), step, attempt, result, again_ms });
        if let Some(message) = failed {
            let hint = format!("`understudy retry {id} {step}` tries again; see `understudy status`");
            scene.page(PageKind::Stuck, format!("run {id}: {step} needs a human: {message}; {hint}"));
        }
    }

    /// A sign of life before the promote ends the run, whichever step it has come to (S4, S2).
    fn stop_if_alive(&mut self, scene: &mut Scene<'_>) {
        let Some(run) = self.durable.open_run() else { return };
        let beyond = run.authority.is_forced() || run.was_begun(Step::Promote) || run.phase != Phase::Forward;
        let Some((what, _)) = self.signs.life_source(scene.rules).filter(|(_, at)| *at > run.life_since_ms) else {
            return;
        };
        if !beyond {
            self.stop(scene, &format!("{what} saw A alive"));
        }
    }

    /// The loss that was accepted binds the run: more than that, and it stops before anything is quiesced (S8).
    fn hold_to_bound(&mut self, scene: &mut Scene<'_>) {
        let Some(run) = self.durable.open_run() else { return };
        let Some(bound) = run.bound.filter(|_| run.phase == Phase::Forward) else { return };
        if bound.exceeds(run.accepted) && !run.was_begun(Step::Promote) {
            let why = format!("the loss bound is {bound} now, more than the {} that were accepted", run.accepted);
            self.stop(scene, &why);
        }
    }

    /// An unconfirmed fence without a witness needs a human's word (S6).
    fn ask_if_unfenced(&mut self, scene: &mut Scene<'_>) {
        let Some(run) = self.durable.open_run() else { return };
        let answered = run.fence.is_none() || self.fenced(scene, run).is_some() || self.durable.request.is_some();
        let stopped = run.phase != Phase::Forward;
        if answered || stopped || self.durable.pause.is_some() || run.was_begun(Step::Promote) {
            return;
        }
        if run.authority.is_forced() && self.api_lives(scene) {
            let why = "A's API server answers but did not confirm the fence; nothing is promoted beside a living A";
            return self.stop(scene, why);
        }
        let evidence = run.evidence.clone();
        let request = self.request(scene, Question::Unfenced, evidence);
        self.put_question(scene, request);
    }

    /// A promote that is tried again rests on what is known now: with A alive again, or without a proof any more, a human is
    /// told instead. Nothing is undone, and nothing waits in silence (S2, S6, L2).
    fn hold_retried_promote(&mut self, scene: &mut Scene<'_>) {
        let Some(run) = self.durable.open_run() else { return };
        let waits = matches!(run.entry(Step::Promote).map(|e| &e.status), Some(StepStatus::Waiting { .. }));
        if !waits || !run.was_begun(Step::Promote) {
            return;
        }
        let alive = self
            .signs
            .life_source(scene.rules)
            .filter(|(_, at)| !run.authority.is_forced() && scene.now().since(*at) < scene.rules.veto_within);
        let why = match alive {
            Some((what, _)) => format!("{what} saw A alive"),
            None if self.fenced(scene, run).is_none() => {
                "the fence is not confirmed, no third-site witness says Down any more, and nobody accepted it"
                    .to_owned()
            }
            None => return,
        };
        let id = run.id.clone();
        self.mark_stuck(scene, Step::Promote, format!("not tried again: {why}"));
        let advice = format!(
            "look at `rbd info` at both sites; `understudy abandon {id}`, then `understudy failover {} --force` fences A first",
            scene.rules.name
        );
        scene.page(PageKind::Stuck, format!("run {id}: promote is not tried again: {why}; {advice}"));
    }

    /// Nothing is killed: a step that takes too long is told, and waits for a human.
    fn tend_overdue(&mut self, scene: &mut Scene<'_>) {
        let Some(run) = self.durable.open_run() else { return };
        let plan = &scene.rules.plan;
        let limit = |step: Step| match step {
            Step::Promote => plan.promote_overdue,
            Step::Deploy => plan.ready_within + plan.step_overdue,
            _ => plan.step_overdue,
        };
        let late = run
            .running()
            .find(|(step, _, since)| !step.is_recheck() && scene.now().since(since.boot_ms) > limit(*step));
        let Some((step, _, since)) = late else { return };
        let message = format!("not over after {} s", scene.now().since(since.boot_ms).as_secs());
        let id = run.id.clone();
        self.mark_stuck(scene, step, message.clone());
        let advice = if step == Step::Promote {
            "it is neither killed nor repeated; look at `rbd snap ls --all` and at the processes of the run before `retry`"
        } else {
            "`understudy retry` looks at the world again"
        };
        scene.page(PageKind::Stuck, format!("run {id}: {step} is overdue: {message}; {advice}"));
    }

    fn mark_stuck(&mut self, scene: &mut Scene<'_>, step: Step, message: String) {
        let Some(run) = self.durable.open_run() else { return };
        let (pair, run) = (scene.rules.name.clone(), run.id.clone());
        self.journal(scene, Record::Stuck { pair, run, step, message });
    }

    /// Ends the run before the promote; what was quiesced is brought back first (S6).
    pub(crate) fn stop(&mut self, scene: &mut Scene<'_>, why: &str) {
        let Some(run) = self.durable.open_run() else { return };
        if matches!(run.phase, Phase::BringingBack { .. }) {
            return;
        }
        assert!(!run.was_begun(Step::Promote), "a run is stopped before its promote or not at all");
        let (pair, id) = (scene.rules.name.clone(), run.id.clone());
        if self.durable.request.is_some() {
            self.void_request(scene, "the run was stopped");
        }
        self.journal(scene, Record::RunStopping { pair, run: id.clone(), why: why.into() });
        let then = match self.durable.role_before() {
            Role::Moving { run } => format!("the pair stays half-way, as {run} left it"),
            Role::AtA | Role::AtB => "A remains the active site".into(),
        };
        scene.page(PageKind::Stopped, format!("run {id} stopped before the promote: {why}; {then}"));
        self.leave_unsent(scene);
        self.bring_back(scene);
    }

    fn bring_back(&mut self, scene: &mut Scene<'_>) {
        let Some(run) = self.durable.open_run() else { return };
        let Phase::BringingBack { why } = &run.phase else { return };
        let why = why.clone();
        if run.running().any(|(step, ..)| !step.is_recheck()) {
            return;
        }
        let owed = run.was_begun(Step::Quiesce) && !run.is_over(Step::MirrorBack);
        if owed {
            if self.may_bring_back(scene) {
                self.begin(scene, Step::MirrorBack);
            }
            return;
        }
        let (pair, id) = (scene.rules.name.clone(), run.id.clone());
        self.journal(scene, Record::RunEnded { pair, run: id, ending: Ending::Stopped { why } });
        self.tell_role(scene);
        // The episode is over for the human too: a new hold-down asks anew.
        self.hold = None;
    }

    fn may_bring_back(&self, scene: &Scene<'_>) -> bool {
        let now = scene.now();
        let Some(run) = self.durable.open_run() else { return false };
        let due = match run.entry(Step::MirrorBack).map(|entry| &entry.status) {
            Some(StepStatus::Pending) => true,
            Some(StepStatus::Waiting { until_ms, .. }) => now.boot_ms >= *until_ms,
            _ => false,
        };
        due && self.durable.pause.is_none() && self.lease_gate(scene.rules, now).open
    }

    fn finish(&mut self, scene: &mut Scene<'_>) {
        let Some(run) = self.durable.open_run() else { return };
        let (pair, id) = (scene.rules.name.clone(), run.id.clone());
        self.journal(scene, Record::RunEnded { pair, run: id, ending: Ending::Succeeded });
        self.tell_role(scene);
    }

    /// Says what a run has made of the role, and how it ended. Its own records have changed both already.
    pub(crate) fn tell_role(&mut self, scene: &mut Scene<'_>) {
        let (pair, role, epoch) = (scene.rules.name.clone(), self.durable.role.clone(), self.durable.epoch);
        self.journal(scene, Record::RoleChanged { pair, role, epoch });
        let ended = self.durable.run.as_ref().and_then(|run| match &run.phase {
            Phase::Ended { ending, .. } => Some((run.id.clone(), ending.clone())),
            Phase::Forward | Phase::BringingBack { .. } => None,
        });
        let Some((run, ending)) = ended else { return };
        self.paged.clear();
        let (how, succeeded) = match ending {
            Ending::Succeeded => ("B is the active site".to_owned(), true),
            Ending::Stopped { why } => (format!("stopped before the promote: {why}"), false),
            Ending::Abandoned { by, reason } => (format!("abandoned by {by}: {reason}"), false),
        };
        scene.notify(Notice::RunEnded { run, how, succeeded });
    }

    /// A promote that was held up after its recheck, by a pause, a lost lease or a restart, is rechecked first.
    fn renew_recheck(&mut self, scene: &mut Scene<'_>) {
        let Some(run) = self.durable.open_run().filter(|run| run.phase == Phase::Forward) else { return };
        let passed = matches!(run.entry(Step::PromoteRecheck).map(|e| &e.status), Some(StepStatus::Done { .. }));
        if passed && !self.is_rechecked_freshly(scene, run) {
            let (pair, run) = (scene.rules.name.clone(), run.id.clone());
            let by = "understudy: the recheck is too old for the promote".to_owned();
            self.journal(scene, Record::Retried { pair, run, step: Step::PromoteRecheck, by });
        }
    }

    /// What was proven at an earlier epoch, before another led, is proven again: who knows what he did (S9).
    pub(crate) fn renew_proofs(&mut self, scene: &mut Scene<'_>) {
        let Some(run) = self.durable.open_run().filter(|run| run.phase == Phase::Forward) else { return };
        let waits = |e: &crate::StepEntry| matches!(e.step, Step::Route(_) | Step::RouteCheck) && !e.status.is_over();
        let is_done = |step| matches!(run.entry(step).map(|e| &e.status), Some(StepStatus::Done { .. }));
        let mut stale = Vec::new();
        if is_done(Step::Verify) && run.steps.iter().any(waits) {
            stale.push(Step::Verify);
        }
        if is_done(Step::PromoteRecheck) && !run.was_begun(Step::Promote) {
            stale.push(Step::PromoteRecheck);
        }
        let id = run.id.clone();
        for step in stale {
            let (pair, run) = (scene.rules.name.clone(), id.clone());
            let by = "understudy: another has led meanwhile".to_owned();
            self.journal(scene, Record::Retried { pair, run, step, by });
        }
    }

    /// A route whose `verify` has grown too old is verified again.
    fn renew_verify(&mut self, scene: &mut Scene<'_>) {
        let Some(run) = self.durable.open_run() else { return };
        let waiting = |e: &crate::StepEntry| {
            matches!(e.step, Step::Route(_) | Step::RouteCheck)
                && matches!(e.status, StepStatus::Pending | StepStatus::Waiting { .. })
        };
        let verified = matches!(run.entry(Step::Verify).map(|e| &e.status), Some(StepStatus::Done { .. }));
        if verified && run.steps.iter().any(waiting) && !self.is_verified_freshly(scene, run) {
            let (pair, run) = (scene.rules.name.clone(), run.id.clone());
            self.journal(
                scene,
                Record::Retried {
                    pair,
                    run,
                    step: Step::Verify,
                    by: "understudy: verify is too old for the route".into(),
                },
            );
        }
    }
}

/// Whether A was looked at since this process began to watch it, which everything but that look waits for.
fn is_looked_at(run: &Run, step: Step) -> bool {
    step == Step::Recheck || run.phase != Phase::Forward || run.is_over(Step::Recheck)
}

fn needs_fence(step: Step) -> bool {
    matches!(step, Step::ConsistencyPoint | Step::Quiesce | Step::PromoteRecheck | Step::Promote)
}

/// A fence that could not be carried out is an unconfirmed one: nothing required waits for A (L1).
fn fence_always_ends(result: StepResult) -> StepResult {
    match result {
        StepResult::Failed { message, .. } => StepResult::Done {
            detail: format!("not confirmed: {message}"),
            finding: Finding::Fence(FenceOutcome::Unconfirmed { why: message }),
        },
        done @ StepResult::Done { finding: Finding::Fence(_), .. } => done,
        StepResult::Done { detail, .. } => StepResult::Done {
            finding: Finding::Fence(FenceOutcome::Unconfirmed { why: "the fence step reported no outcome".into() }),
            detail,
        },
    }
}
