//! How a run may start: on whose word, at which loss, how often (S1, S2, S8, S11, S12).

use understudy_core::{
    Authority, Consent, Gate, LossBound, Mode, PairPolicy, PlanPolicy, RequestId, Role, Run, Step, Verdict,
};

use crate::asking::Asked;
use crate::loss::{bound, oldest, skew_ms, within};
use crate::order::required;
use crate::pair::{Owed, Pair, words};
use crate::running::RunSoFar;
use crate::{Invariant, Kept, Scene, between, ms};

impl Pair {
    pub fn start(&mut self, scene: &mut Scene<'_>, run: &Run) -> Kept {
        let id = &run.id;
        let beside = self.run.as_ref().is_some_and(|run| !run.ended);
        scene.rule(Invariant::S11, !beside, || format!("run {id} was started beside one that is open"))?;
        let from_here = match self.role {
            Role::AtA => true,
            Role::Moving { .. } => run.authority.is_forced(),
            Role::AtB => false,
        };
        let role = &self.role;
        scene.rule(Invariant::S12, from_here, || format!("run {id} was started from {}", words(role)))?;
        let epoch = self.epoch;
        scene.rule(Invariant::S1, run.epoch > epoch, || format!("run {id} does not raise the epoch"))?;
        check_plan(scene, run)?;
        let asked = self.asked.take().filter(|asked| asked.at == Step::Recheck);
        scene.rule(Invariant::S2, asked.is_some(), || format!("run {id} was started without asking the gates"))?;
        let shut = asked.as_ref().and_then(|asked| asked.shut().map(|gate| gate.gate));
        scene.rule(Invariant::S2, shut.is_none(), || {
            format!("run {id} was started although gate {} was closed", shut.unwrap_or(Gate::Verdict))
        })?;
        let paused = self.pause.is_some();
        scene.rule(Invariant::S2, !paused, || format!("run {id} was started in a pause"))?;
        let observes = scene.rules.is_some_and(|rules| rules.mode == Mode::Observe);
        scene.rule(Invariant::S2, !observes, || format!("run {id} was started in observe"))?;
        self.check_authority(scene, run, asked.as_ref())?;
        self.check_loss(scene, run)?;
        self.run = Some(RunSoFar::of(run, run.epoch, scene.at));
        self.role = Role::Moving { run: run.id.clone() };
        (self.epoch, self.blocked, self.owed) = (run.epoch, true, Some(Owed::Role));
        self.word = None;
        Ok(())
    }

    fn check_authority(&mut self, scene: &mut Scene<'_>, run: &Run, asked: Option<&Asked>) -> Kept {
        let unfenced = run.unfenced.as_ref();
        if let Authority::Forced { by, reason } = &run.authority {
            let named = !by.is_empty() && !reason.is_empty();
            scene.rule(Invariant::S2, named, || "a forced run names neither who nor why".into())?;
            return check_word(scene, unfenced, by, unfenced.map(|consent| consent.reason.as_str()));
        }
        let (id, verdict) = (&run.id, self.verdict);
        scene.rule(Invariant::S2, verdict == Some(Verdict::SiteDown), || {
            format!("run {id} was started at verdict {verdict:?}")
        })?;
        scene.fit(|| format!("run {id} was started"))?;
        self.check_no_life(scene, "a run was started")?;
        self.check_quorum(scene, "a run was started")?;
        let alive = self.seen_alive;
        scene.rule(Invariant::S2, alive, || format!("run {id} moves a pair that was never seen alive"))?;
        match &run.authority {
            Authority::Approved { request, by } => self.spend(scene, run, request, by),
            Authority::Automatic { witness } => {
                check_word(scene, unfenced, "", None)?;
                self.check_automatic(scene, witness, asked)
            }
            Authority::Forced { .. } => Ok(()),
        }
    }

    /// One approval, one plan, and only for what was approved (S2).
    fn spend(&mut self, scene: &mut Scene<'_>, run: &Run, request: &RequestId, by: &str) -> Kept {
        let approval = self.approvals.remove(request);
        scene.rule(Invariant::S2, approval.is_some(), || {
            format!("run {} rests on {request}, which was not approved or is spent", run.id)
        })?;
        let Some(approval) = approval else { return Ok(()) };
        scene.rule(Invariant::S2, approval.by == by, || {
            format!("{request} was approved by {}, not by {by}", approval.by)
        })?;
        scene.rule(Invariant::S2, approval.evidence == run.evidence, || {
            format!("run {} rests on other evidence than {request} was approved for", run.id)
        })?;
        check_word(scene, run.unfenced.as_ref(), by, approval.accept_unfenced.as_deref())?;
        check_accepted(scene, run.accepted, approval.accept_loss_ms)
    }

    fn check_automatic(&self, scene: &mut Scene<'_>, witness: &str, asked: Option<&Asked>) -> Kept {
        let has = |gate| asked.is_some_and(|asked| asked.gates.iter().any(|g| g.gate == gate && g.open));
        scene.rule(Invariant::S2, has(Gate::Witness), || "an automatic run without a witness".into())?;
        let free = !self.blocked && has(Gate::Block);
        scene.rule(Invariant::S11, free, || "an automatic run within the recovery block".into())?;
        let Some(rules) = scene.rules else { return Ok(()) };
        scene.rule(Invariant::S2, rules.mode == Mode::Auto, || format!("an automatic run in {}", rules.mode))?;
        self.check_witness(scene, rules, witness)?;
        let others = scene.own.automatic_before(scene.at, ms(2 * rules.hold_down));
        let most = scene.own.policy().map_or(0, |policy| policy.automatic_max);
        scene.rule(Invariant::S11, others < most as usize, || {
            format!("an automatic run after {others} in the window, at most {most} may be")
        })
    }

    /// The witness has said Down throughout the hold-down, as nearly as the time of its record tells.
    fn check_witness(&self, scene: &mut Scene<'_>, rules: &PairPolicy, witness: &str) -> Kept {
        if !scene.own.whole {
            return Ok(());
        }
        let look = rules.witnesses.iter().find(|w| w.name == witness).map_or(0, |w| ms(w.timeout));
        let heard = self.third_site_down(rules).and_then(|(_, since)| between(since, scene.at));
        let throughout = heard.is_some_and(|lasted| lasted + look >= ms(rules.hold_down));
        scene.rule(Invariant::S2, throughout, || {
            format!("an automatic run, but no third-site witness has said Down throughout the hold-down ({witness})")
        })
    }

    /// The loss at the decision is within the limit, or was accepted by name (S8).
    fn check_loss(&self, scene: &mut Scene<'_>, run: &Run) -> Kept {
        let Some(rules) = scene.rules else { return Ok(()) };
        match &run.authority {
            Authority::Automatic { .. } => check_accepted(scene, run.accepted, None)?,
            Authority::Approved { .. } => {}
            Authority::Forced { .. } => check_unlimited(scene, rules, run.accepted)?,
        }
        if !rules.plan.mirrored {
            return Ok(());
        }
        let points = &run.evidence.points;
        let invented = points.iter().find(|point| {
            let left = point.snapshot.and_then(|id| self.times.get(&point.image, id));
            left != point.source_time_ms || (point.mid_sync && point.snapshot >= point.newest_complete)
        });
        scene.rule(Invariant::S8, invented.is_none(), || {
            let image = invented.map_or("", |point| point.image.as_str());
            format!(
                "run {} counts on a snapshot of {image} whose time was never recorded, or that a sync overwrites",
                run.id
            )
        })?;
        let skewed = skew_ms(points).is_none_or(|skew| skew > ms(rules.skew_max));
        scene.rule(Invariant::S8, !skewed, || format!("run {} was started on images too far apart", run.id))?;
        let ends_by_word = run.served_until_wall_ms.map(|until| until.min(run.started.wall_ms));
        let vouched = ends_by_word.is_none_or(|end| end <= scene.at.wall_ms && self.third_site_down(rules).is_some());
        scene.rule(Invariant::S8, vouched, || {
            format!("run {} lets the loss end before now without a third-site witness that says Down", run.id)
        })?;
        // With a witness that says Down the window ends when A was last seen, which no record tells.
        let end_known = self.third_site_down(rules).is_none();
        let least = bound(oldest(points), scene.at.wall_ms, self.clock_error_ms, ms(rules.writeback_window));
        let limit = LossBound::AtMost(ms(rules.rpo_max));
        let fits = !end_known || within(least, limit) || within(least, run.accepted);
        scene.rule(Invariant::S8, fits, || format!("run {} was started at a loss of {least}, beyond {limit}", run.id))
    }
}

fn check_plan(scene: &mut Scene<'_>, run: &Run) -> Kept {
    let plan: Option<&PlanPolicy> = scene.rules.map(|rules| &rules.plan);
    let lacks = required(plan).into_iter().find(|step| run.entry(*step).is_none());
    scene.rule(Invariant::S9, lacks.is_none(), || {
        format!("the plan of run {} lacks {}", run.id, lacks.unwrap_or(Step::Promote))
    })
}

/// Nobody's consent is made up (S6).
fn check_word(scene: &mut Scene<'_>, consent: Option<&Consent>, by: &str, reason: Option<&str>) -> Kept {
    let given = consent.map(|consent| (consent.by.as_str(), consent.reason.as_str()));
    scene.rule(Invariant::S6, given == reason.map(|reason| (by, reason)), || {
        "the run claims a consent to an unconfirmed fence that nobody gave".into()
    })
}

/// What may be lost is the limit, or what a human named (S8).
pub fn check_accepted(scene: &mut Scene<'_>, accepted: LossBound, named_ms: Option<u64>) -> Kept {
    let Some(rules) = scene.rules else { return Ok(()) };
    check_unlimited(scene, rules, accepted)?;
    let most = ms(rules.rpo_max).max(named_ms.unwrap_or(0));
    let fits = within(accepted, LossBound::AtMost(most)) || (named_ms == Some(u64::MAX) && !rules.plan.mirrored);
    scene.rule(Invariant::S8, fits, || format!("a loss of {accepted} counts as accepted, and nobody named it"))
}

/// An unknown loss is nobody's to accept where there are snapshots to tell it (S8).
fn check_unlimited(scene: &mut Scene<'_>, rules: &PairPolicy, accepted: LossBound) -> Kept {
    let unlimited = accepted == LossBound::Infinite && rules.plan.mirrored;
    scene.rule(Invariant::S8, !unlimited, || "an unknown loss counts as accepted".into())
}
