//! From a verdict to a run: gates, shadow ledger, questions to humans.

use crate::event::{Command, Notice, PageKind};
use crate::gate::{Gate, GateState};
use crate::mirror::{ImagePoint, LossBound, LossTerms, bound_after, consistency_point, loss_bound, skew_ms};
use crate::names::{RequestId, RunId};
use crate::orders::way_on;
use crate::pair::{PairState, Scene};
use crate::plan::{Authority, Consent, Phase, Run, Step, StepEntry, StepStatus, failover_steps};
use crate::policy::{Mode, PairPolicy};
use crate::record::{Evidence, Question, Record, Request, Role, SignalEvidence};
use crate::time::{Now, millis, signed};
use crate::verdict::Verdict;

/// On what a run is asked for, as far as gates differ by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asking {
    /// By the policy.
    Automatic,
    /// By a human, on the verdict.
    Human {
        /// The loss that was accepted by name, in milliseconds.
        accept_loss_ms: Option<u64>,
    },
    /// By a human, without the verdict.
    Force {
        /// The loss that was accepted by name, in milliseconds.
        accept_loss_ms: Option<u64>,
    },
}

/// `--accept-loss unlimited`, which only storage without snapshots may be given.
pub const ANY_LOSS: u64 = u64::MAX;

impl PairState {
    /// What a promote would leave now.
    pub(crate) fn points(&self) -> Vec<ImagePoint> {
        self.signs.mirror.as_ref().map(|(_, facts)| consistency_point(facts, &self.durable.times)).unwrap_or_default()
    }

    /// The loss bound now (S8). With a third-site witness that says Down, A can not have acknowledged anything after the
    /// last instant at which anybody saw it alive, plus one grid period.
    pub(crate) fn bound(&self, rules: &PairPolicy, now: Now) -> LossBound {
        let points = self.points();
        if skew_ms(&points).is_none_or(|skew| skew > millis(rules.skew_max)) {
            return LossBound::Infinite;
        }
        let end_wall_ms = self.served_until(rules, now).unwrap_or(now.wall_ms);
        let writeback_ms = millis(rules.writeback_window);
        loss_bound(&points, LossTerms { end_wall_ms, clock_error_ms: self.durable.clock_error_ms, writeback_ms })
    }

    /// With a third-site witness that says Down: the last instant at which anybody saw A alive plus one grid period, or when
    /// this witness began to say so without a gap, whichever is later. Nobody can tell what A did before.
    fn served_until(&self, rules: &PairPolicy, now: Now) -> Option<i64> {
        let down_since_ms = self.signs.third_site_down_since(rules)?;
        let slowest = rules.probes.iter().map(|p| millis(p.period)).max().unwrap_or(0);
        let (_, seen_ms) = self.signs.life_source(rules)?;
        let until_ms = down_since_ms.max(seen_ms + slowest);
        Some(now.wall_ms - signed(now.boot_ms.saturating_sub(until_ms)))
    }

    /// Every gate between now and a run, with its value.
    pub(crate) fn gates(&self, scene: &Scene<'_>, asking: Asking) -> Vec<GateState> {
        let mut gates = vec![
            self.verdict_gate(asking),
            self.mode_gate(scene.rules, asking),
            self.pause_gate(),
            self.role_gate(scene.rules, asking),
            self.readiness_gate(asking),
            self.lease_gate(scene.rules, scene.now()),
            self.rpo_gate(scene.rules, scene.now(), asking),
        ];
        if asking == Asking::Automatic {
            gates.extend([self.block_gate(), self.witness_gate(scene), self.blast_gate(scene)]);
        }
        gates
    }

    fn verdict_gate(&self, asking: Asking) -> GateState {
        let forced = matches!(asking, Asking::Force { .. });
        let value = if forced {
            format!("{}, skipped by force", self.verdict)
        } else {
            format!("{}, needs SiteDown", self.verdict)
        };
        gate(Gate::Verdict, forced || self.verdict == Verdict::SiteDown, value)
    }

    fn mode_gate(&self, rules: &PairPolicy, asking: Asking) -> GateState {
        let open = match asking {
            Asking::Automatic => rules.mode == Mode::Auto,
            Asking::Human { .. } | Asking::Force { .. } => rules.mode != Mode::Observe,
        };
        let hint = if rules.mode == Mode::Observe { "; set `mode: confirm` and reload to leave observe" } else { "" };
        gate(Gate::Mode, open, format!("{}{hint}", rules.mode))
    }

    fn pause_gate(&self) -> GateState {
        match &self.durable.pause {
            None => gate(Gate::Pause, true, "not paused".into()),
            Some(pause) => gate(
                Gate::Pause,
                false,
                format!("paused by {} ({}); `understudy resume` ends it", pause.by, pause.reason),
            ),
        }
    }

    fn role_gate(&self, rules: &PairPolicy, asking: Asking) -> GateState {
        match (&self.durable.role, self.durable.open_run()) {
            (_, Some(run)) => gate(Gate::Role, false, format!("run {} is open", run.id)),
            (Role::AtA, None) => gate(Gate::Role, true, "A is active".into()),
            (Role::AtB, None) => gate(Gate::Role, false, "B is active already".into()),
            (Role::Moving { run }, None) => {
                let forced = matches!(asking, Asking::Force { .. });
                gate(Gate::Role, forced, format!("run {run} was given up half-way; {}", way_on(rules)))
            }
        }
    }

    fn readiness_gate(&self, asking: Asking) -> GateState {
        let forced = matches!(asking, Asking::Force { .. });
        if !self.durable.seen_alive && !forced {
            return gate(
                Gate::Readiness,
                false,
                "never seen alive: every probe of A must be Up once, or the configuration is not proven".into(),
            );
        }
        match &self.missing {
            None => gate(Gate::Readiness, false, "B was not looked at yet".into()),
            Some(missing) if missing.is_empty() => gate(Gate::Readiness, true, "B is ready".into()),
            Some(missing) => gate(Gate::Readiness, false, missing.join("; ")),
        }
    }

    pub(crate) fn lease_gate(&self, rules: &PairPolicy, now: Now) -> GateState {
        match (self.lease_until_ms, &self.lease_holder) {
            (Some(until), _) if now.boot_ms + millis(rules.plan.lease_margin) < until => {
                gate(Gate::Lease, true, format!("ours for {} s", (until - now.boot_ms) / 1000))
            }
            (_, Some(holder)) => gate(Gate::Lease, false, format!("held by {holder}")),
            _ => gate(Gate::Lease, false, "not ours, or about to expire".into()),
        }
    }

    fn rpo_gate(&self, rules: &PairPolicy, now: Now, asking: Asking) -> GateState {
        let bound = self.bound(rules, now);
        let accepted = match asking {
            Asking::Automatic => None,
            Asking::Human { accept_loss_ms } | Asking::Force { accept_loss_ms } => accept_loss_ms,
        };
        let by_name = match (bound, accepted) {
            (LossBound::AtMost(ms), Some(accepted)) => ms <= accepted,
            (LossBound::Infinite, Some(ANY_LOSS)) => !rules.plan.mirrored,
            (_, None) | (LossBound::Infinite, Some(_)) => false,
        };
        let limit = LossBound::AtMost(millis(rules.rpo_max));
        gate(Gate::Rpo, bound.within(rules.rpo_max) || by_name, format!("loss bound {bound}, limit {limit}"))
    }

    fn block_gate(&self) -> GateState {
        match self.durable.blocked_until_wall_ms {
            None => gate(Gate::Block, true, "no block".into()),
            Some(_) => gate(Gate::Block, false, "a failover was made before; `understudy unblock` lifts it".into()),
        }
    }

    fn witness_gate(&self, scene: &Scene<'_>) -> GateState {
        match self.signs.third_site_down(scene.rules, millis(scene.rules.hold_down), scene.now()) {
            Some(name) => gate(Gate::Witness, true, format!("{name} says Down")),
            None => gate(
                Gate::Witness,
                false,
                "no third-site witness has said Down in two domains throughout the hold-down".into(),
            ),
        }
    }

    /// Pairs of one primary site that fail together are one decision; further ones count against the limit (S11).
    fn blast_gate(&self, scene: &Scene<'_>) -> GateState {
        let now = scene.now().wall_ms;
        let window = signed(millis(scene.policy.automatic_window));
        let together = signed(millis(2 * scene.rules.hold_down));
        // One that seems to lie far ahead was made before the clock was set back: nobody knows how long ago.
        let ages = scene.automatic_wall_ms.iter().map(|at| now.saturating_sub(*at));
        let earlier = ages.filter(|age| *age < window && age.saturating_abs() > together).count();
        let max = scene.policy.automatic_max;
        let open = u32::try_from(earlier).unwrap_or(u32::MAX) < max;
        gate(Gate::BlastRadius, open, format!("{earlier} automatic failovers in the window, at most {max}"))
    }

    /// What a decision would rest on now; none while the verdict is not SiteDown.
    pub(crate) fn evidence(&self, scene: &Scene<'_>) -> Option<Evidence> {
        let hold = self.hold.filter(|_| self.verdict == Verdict::SiteDown)?;
        Some(self.evidence_since(scene, hold.since))
    }

    /// Whether what a decision would rest on now is still this. Asked at every event while a question is open.
    fn stands(&self, scene: &Scene<'_>, evidence: &Evidence) -> bool {
        let same_hold = self.hold.is_some_and(|hold| hold.since.wall_ms == evidence.down_since_wall_ms);
        let mut signals = self.signs.quorum(scene.rules).zip(&evidence.signals);
        self.verdict == evidence.verdict
            && same_hold
            && scene.policy.config_digest == evidence.config_digest
            && self.signs.quorum(scene.rules).count() == evidence.signals.len()
            && signals.all(|((probe, signal), seen)| {
                probe.name == seen.name && signal.state == seen.state && signal.since.wall_ms == seen.since_wall_ms
            })
            && self.points() == evidence.points
    }

    fn evidence_since(&self, scene: &Scene<'_>, since: Now) -> Evidence {
        let signals = self.signs.quorum(scene.rules).map(|(probe, signal)| SignalEvidence {
            name: probe.name.clone(),
            state: signal.state,
            since_wall_ms: signal.since.wall_ms,
        });
        Evidence {
            verdict: self.verdict,
            down_since_wall_ms: since.wall_ms,
            signals: signals.collect(),
            points: self.points(),
            config_digest: scene.policy.config_digest.clone(),
        }
    }

    /// Nothing is under way: is there something to start, or to ask?
    pub(crate) fn decide(&mut self, scene: &mut Scene<'_>) {
        if self.verdict != Verdict::SiteDown || self.durable.role != Role::AtA {
            return;
        }
        // The gates are asked in words, which costs: only where somebody reads the answer.
        if !self.shadowed || scene.rules.mode == Mode::Auto {
            let automatic = self.gates(scene, Asking::Automatic);
            self.shadow(scene, &automatic);
            if closed(&automatic).is_none() {
                return self.start_automatic(scene, automatic);
            }
        }
        if scene.rules.mode == Mode::Observe {
            let hint = "mode is observe: nothing is done; set `mode: confirm` and reload to be asked";
            return self.page_once(scene, PageKind::SiteDown, format!("the primary site is down; {hint}"));
        }
        self.ask(scene);
    }

    /// What `auto` would have done, whatever the mode: the first gate other than the mode that is closed.
    fn shadow(&mut self, scene: &mut Scene<'_>, automatic: &[GateState]) {
        if self.shadowed {
            return;
        }
        self.shadowed = true;
        let closed = automatic.iter().find(|g| !g.open && g.gate != Gate::Mode);
        let decided_by = closed.map(|g| format!("{}: {}", g.gate, g.value));
        let pair = scene.rules.name.clone();
        self.journal(scene, Record::Shadow { pair, would_act: decided_by.is_none(), decided_by });
    }

    fn start_automatic(&mut self, scene: &mut Scene<'_>, gates: Vec<GateState>) {
        let witness = self.signs.third_site_down(scene.rules, 0, scene.now()).unwrap_or_default().to_owned();
        if self.durable.request.is_some() {
            self.void_request(scene, "decided automatically");
        }
        let accepted = LossBound::AtMost(millis(scene.rules.rpo_max));
        self.start(scene, Authority::Automatic { witness }, gates, accepted, None);
    }

    /// Asks a human, once an episode and again when the answer became void.
    fn ask(&mut self, scene: &mut Scene<'_>) {
        let Some(hold) = self.hold else { return };
        if self.durable.request.is_some() || self.denied == Some(hold.since) {
            return;
        }
        let gates = self.gates(scene, Asking::Human { accept_loss_ms: None });
        let blocking = gates.iter().find(|g| !g.open && g.gate != Gate::Rpo);
        if let Some(blocking) = blocking {
            let message =
                format!("the primary site is down, but no failover can start: {}: {}", blocking.gate, blocking.value);
            return self.page_once(scene, PageKind::SiteDown, message);
        }
        let Some(evidence) = self.evidence(scene) else { return };
        let request = self.request(scene, Question::Failover, evidence);
        self.put_question(scene, request);
    }

    pub(crate) fn put_question(&mut self, scene: &mut Scene<'_>, request: Request) {
        self.journal(scene, Record::Requested { request: Box::new(request.clone()) });
        scene.notify(Notice::Request { request: Box::new(request), escalated: false });
    }

    pub(crate) fn request(&self, scene: &Scene<'_>, question: Question, evidence: Evidence) -> Request {
        let (now, ttl) = (scene.now(), scene.rules.approval_ttl);
        let bound = self.bound(scene.rules, now);
        let bound_at_expiry = bound_after(bound, ttl);
        Request {
            id: RequestId(format!("{}-{}", scene.rules.name, self.durable.requests + 1)),
            pair: scene.rules.name.clone(),
            question,
            evidence,
            asked: now,
            expires_ms: (now + ttl).boot_ms,
            expires_wall_ms: (now + ttl).wall_ms,
            bound,
            bound_at_expiry,
            needs_loss_consent: question == Question::Failover && !bound_at_expiry.within(scene.rules.rpo_max),
            escalated: false,
        }
    }

    /// A question stands only while what it is bound to stands (S2).
    pub(crate) fn tend_request(&mut self, scene: &mut Scene<'_>) {
        let Some(request) = &self.durable.request else { return };
        let now = scene.now();
        let half = now.boot_ms + millis(scene.rules.approval_ttl) / 2;
        let escalate = !request.escalated && half >= request.expires_ms;
        if now.boot_ms >= request.expires_ms {
            let unfenced = request.question == Question::Unfenced;
            self.void_request(scene, "it expired unanswered");
            if unfenced {
                self.stop(scene, "nobody accepted that the fence is not confirmed");
            }
        } else if request.question == Question::Unfenced && self.needs_no_word(scene) {
            self.void_request(scene, "the fence needs nobody's word any more");
        } else if request.question == Question::Failover && !self.stands(scene, &request.evidence) {
            self.void_request(scene, "what it was bound to has changed");
        } else if escalate {
            let request = request.clone();
            self.journal(scene, Record::Escalated { pair: request.pair.clone(), request: request.id.clone() });
            scene.notify(Notice::Request { request: Box::new(request), escalated: true });
        }
    }

    pub(crate) fn void_request(&mut self, scene: &mut Scene<'_>, why: &str) {
        let Some(request) = &self.durable.request else { return };
        let (pair, id) = (scene.rules.name.clone(), request.id.clone());
        self.journal(scene, Record::Voided { pair, request: id.clone(), why: why.into() });
        scene.notify(Notice::RequestVoid { request: id, why: why.into() });
    }

    /// No further automatic failover until a human lifts it (S11).
    pub(crate) fn block(&mut self, scene: &mut Scene<'_>) {
        let (pair, until_wall_ms) = (scene.rules.name.clone(), (scene.now() + scene.rules.recovery_block).wall_ms);
        self.journal(scene, Record::Blocked { pair, until_wall_ms });
    }

    /// Starts a run. The gates were asked by the caller, just now.
    pub(crate) fn start(
        &mut self,
        scene: &mut Scene<'_>,
        authority: Authority,
        gates: Vec<GateState>,
        accepted: LossBound,
        unfenced: Option<Consent>,
    ) {
        let (now, pair) = (scene.now(), scene.rules.name.clone());
        let since = self.hold.map_or(now, |hold| hold.since);
        let epoch = self.durable.epoch + 1;
        let id = RunId(format!("{pair}-{epoch}"));
        let steps = failover_steps(&scene.rules.plan).into_iter();
        let run = Run {
            id: id.clone(),
            epoch,
            authority,
            evidence: self.evidence_since(scene, since),
            started: now,
            life_since_ms: since.boot_ms,
            accepted,
            writeback_ms: millis(scene.rules.writeback_window),
            served_until_wall_ms: self.served_until(scene.rules, now),
            out_of_sight: false,
            steps: steps.map(|step| StepEntry { step, began: None, status: StepStatus::Pending }).collect(),
            phase: Phase::Forward,
            fence: None,
            unfenced,
            points: Vec::new(),
            bound: None,
            nonce: None,
            notes: self.durable.fence_notes.clone(),
            recheck_since_ms: None,
        };
        self.journal(scene, Record::Gates { pair: pair.clone(), at: Step::Recheck, gates });
        self.journal(scene, Record::RunStarted { pair, run: Box::new(run) });
        self.tell_role(scene);
        self.block(scene);
        scene.notify(Notice::RunStarted { run: id, accepted });
        scene.out.push(Command::HoldLease { pair: scene.id });
    }
}

/// The first gate that is closed.
pub(crate) fn closed(gates: &[GateState]) -> Option<&GateState> {
    gates.iter().find(|g| !g.open)
}

fn gate(gate: Gate, open: bool, value: String) -> GateState {
    GateState { gate, open, value }
}

/// The loss that a human accepts by saying yes.
pub(crate) fn accepted_bound(request_bound: LossBound, accept_loss_ms: Option<u64>, rules: &PairPolicy) -> LossBound {
    let rpo_max = rules.rpo_max;
    match (accept_loss_ms, request_bound) {
        // Of images with snapshots somebody can tell the loss: where nobody could, no number accepts it (S8).
        (Some(ANY_LOSS), _) if !rules.plan.mirrored => LossBound::Infinite,
        (Some(ms), _) => LossBound::AtMost(ms),
        (None, LossBound::AtMost(ms)) => LossBound::AtMost(ms.min(millis(rpo_max))),
        (None, LossBound::Infinite) => LossBound::AtMost(millis(rpo_max)),
    }
}
