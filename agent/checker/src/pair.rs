//! What the records say of one pair, and which of its rules judges which record.

use std::collections::BTreeMap;

use understudy_core::{
    DurablePair, Now, PageKind, PairName, PairPolicy, Pause, Reading, Record, RequestId, Role, RunId, Step, Verdict,
};

use crate::asking::{Approval, Asked, Open, Word};
use crate::loss::Times;
use crate::order::is_recheck;
use crate::running::{Progress, RunSoFar};
use crate::watching::{Heard, Hold};
use crate::{Book, Invariant, Kept, Scene, between, ms};

/// What is known of a pair.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Pair {
    pub role: Role,
    /// The run that was given up after its promote was begun.
    pub half_way: Option<RunId>,
    pub epoch: u64,
    /// None = never recorded since the daemon began to run.
    pub verdict: Option<Verdict>,
    pub signals: BTreeMap<String, Reading>,
    pub witnesses: BTreeMap<String, Heard>,
    pub hold: Option<Hold>,
    /// The gates as they were asked last.
    pub asked: Option<Asked>,
    pub question: Option<Open>,
    /// How many were asked.
    pub requests: u64,
    /// Approvals that no run has spent.
    pub approvals: BTreeMap<RequestId, Approval>,
    /// A human's word about an unconfirmed fence, not used yet.
    pub word: Option<Word>,
    pub run: Option<RunSoFar>,
    pub pause: Option<Pause>,
    /// No automatic failover until a human lifts it.
    pub blocked: bool,
    /// The record of the block: it may be missing after a run's, where a crash came between the two.
    pub block_told: bool,
    pub times: Times,
    pub clock_error_ms: Option<u64>,
    pub seen_alive: bool,
    pub return_told: bool,
    /// Since when the old primary serves without a word about it.
    pub returned: Option<Now>,
    /// What the very next record has to be.
    pub owed: Option<Owed>,
}

/// What belongs to the record before it: only a crash may come between the two.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Owed {
    /// Somebody is woken.
    Page(PageKind, Invariant),
    /// The role is told.
    Role,
}

impl Pair {
    pub fn take(&mut self, scene: &mut Scene<'_>, record: &Record) -> Kept {
        self.pay(scene, record)?;
        match record {
            Record::Signal { .. }
            | Record::Witness { .. }
            | Record::Life { .. }
            | Record::Verdict { .. }
            | Record::HoldDownBegan { .. }
            | Record::Round { .. }
            | Record::HoldDownBroken { .. }
            | Record::OldPrimaryReturned { .. } => self.watch(scene, record),
            Record::Gates { .. }
            | Record::Requested { .. }
            | Record::Escalated { .. }
            | Record::Answered { .. }
            | Record::Voided { .. }
            | Record::Paused { .. }
            | Record::Resumed { .. }
            | Record::Unblocked { .. } => self.ask(scene, record),
            Record::RunStarted { run, .. } => self.start(scene, run),
            Record::RoleChanged { role, epoch, .. } => self.tell_role(scene, role, *epoch),
            Record::Led { epoch, .. } => {
                let ours = self.epoch;
                scene.rule(Invariant::S1, *epoch > ours, || {
                    format!("we lead after another at epoch {epoch}, ours is {ours}")
                })?;
                self.epoch = *epoch;
                Ok(())
            }
            Record::Blocked { .. } => {
                (self.blocked, self.block_told) = (true, true);
                Ok(())
            }
            Record::SourceTime { image, snapshot, time_ms, .. } => {
                let latest = self.clock_error_ms.map(|error| scene.at.wall_ms.saturating_add_unsigned(error));
                scene.rule(Invariant::S8, latest.is_none_or(|latest| *time_ms <= latest), || {
                    format!("snapshot {snapshot} of {image} is of the future, by more than the clocks differ")
                })?;
                self.times.learn(image, *snapshot, *time_ms);
                Ok(())
            }
            Record::ClockError { error_ms, .. } => {
                self.clock_error_ms = Some(*error_ms);
                Ok(())
            }
            Record::SeenAlive { .. } => {
                self.seen_alive = true;
                Ok(())
            }
            Record::Intent { .. }
            | Record::Noted { .. }
            | Record::Outcome { .. }
            | Record::Stuck { .. }
            | Record::Retried { .. }
            | Record::Skipped { .. }
            | Record::UnfencedAccepted { .. }
            | Record::FenceProven { .. }
            | Record::RunStopping { .. }
            | Record::RunEnded { .. } => self.run_on(scene, record),
            Record::Started { .. }
            | Record::Ruled { .. }
            | Record::Snapshot { .. }
            | Record::SelfCheck { .. }
            | Record::Doubt { .. }
            | Record::Shadow { .. }
            | Record::Refused { .. }
            | Record::Paged { .. }
            | Record::Recording { .. } => Ok(()),
        }
    }

    fn pay(&mut self, scene: &mut Scene<'_>, record: &Record) -> Kept {
        match self.owed.take() {
            None => Ok(()),
            Some(Owed::Page(owed, invariant)) => {
                let paid = matches!(record, Record::Paged { kind, .. } if *kind == owed);
                scene.rule(invariant, paid, || format!("nobody was told: no page {owed:?} follows"))
            }
            Some(Owed::Role) => {
                let paid = matches!(record, Record::RoleChanged { .. });
                scene.rule(Invariant::X2, paid, || "the role that a run made is not told".into())
            }
        }
    }

    /// A run moves the pair by its start and by its end; the change of role is only told.
    fn tell_role(&mut self, scene: &mut Scene<'_>, role: &Role, epoch: u64) -> Kept {
        let (ours, known) = (self.epoch, &self.role);
        scene.rule(Invariant::S1, epoch == ours, || format!("the role is told at epoch {epoch}, it is {ours}"))?;
        scene.rule(Invariant::S12, role == known, || {
            format!("the pair became {} although no run led there from {}", words(role), words(known))
        })?;
        (self.return_told, self.returned) = (false, None);
        Ok(())
    }

    /// What is not durable begins anew (S5), and what was asked is void (S2).
    pub fn restart(&mut self, at: Now) {
        self.verdict = None;
        self.signals.clear();
        self.witnesses.clear();
        (self.hold, self.asked, self.word, self.owed, self.returned) = (None, None, None, None, None);
        self.approvals.clear();
        self.question.iter_mut().for_each(|open| open.answerable = false);
        self.run.iter_mut().for_each(|run| run.restart(at));
    }

    /// Under other rules the hold-down that runs is not shortened, and what other probes saw is no evidence (S5).
    pub fn rule_anew(&mut self, before: Option<&PairPolicy>, after: Option<&PairPolicy>) {
        let (Some(before), Some(after)) = (before, after) else { return };
        let other_eyes = before.probes != after.probes || before.witnesses != after.witnesses;
        if other_eyes {
            self.signals.clear();
            self.witnesses.clear();
        }
        if other_eyes
            || after.hold_down < before.hold_down
            || (before.at_least, &before.of) != (after.at_least, &after.of)
        {
            self.hold = None;
        }
    }

    /// A was out of sight: the agent was in doubt, or a witness was not heard.
    pub fn lose_sight(&mut self) {
        if let Some(run) = &mut self.run {
            run.lose_sight();
        }
    }

    /// Begins with what a snapshot says: the records before it are not at hand.
    pub fn take_over(&mut self, durable: &DurablePair, at: Now) {
        self.role = durable.role.clone();
        self.half_way.clone_from(&durable.half_way);
        self.epoch = durable.epoch;
        self.pause.clone_from(&durable.pause);
        self.block_told = durable.blocked_until_wall_ms.is_some();
        self.blocked = self.block_told || durable.open_run().is_some();
        self.requests = durable.requests;
        self.question = durable.request.clone().map(|request| Open { request, answerable: true });
        self.clock_error_ms = durable.clock_error_ms;
        self.seen_alive = durable.seen_alive;
        self.return_told = durable.return_told;
        for (image, times) in &durable.times.0 {
            times.iter().for_each(|(snapshot, at)| self.times.learn(image, *snapshot, *at));
        }
        self.run = durable.run.as_ref().map(|run| RunSoFar::of(run, durable.epoch, at));
    }

    /// A snapshot says what the records before it said (X2).
    pub fn compare(&self, book: &mut Book, name: &PairName, theirs: &DurablePair) -> Kept {
        let other = if self.role != theirs.role {
            Some("role")
        } else if self.epoch != theirs.epoch {
            Some("epoch")
        } else if self.pause != theirs.pause {
            Some("pause")
        } else if self.block_told != theirs.blocked_until_wall_ms.is_some() {
            Some("block")
        } else if self.requests != theirs.requests {
            Some("number of questions")
        } else if self.question.as_ref().map(|open| &open.request.id) != theirs.request.as_ref().map(|r| &r.id) {
            Some("open question")
        } else if self.clock_error_ms != theirs.clock_error_ms || self.seen_alive != theirs.seen_alive {
            Some("knowledge of A")
        } else if !same_run(self.run.as_ref(), theirs) {
            Some("run")
        } else {
            None
        };
        book.rule(Invariant::X2, other.is_none(), || {
            format!("the {} in the snapshot of {name} is not what the records before it lead to", other.unwrap_or(""))
        })
    }

    /// What should have been written before now.
    pub fn watch_time(&mut self, scene: &mut Scene<'_>) -> Kept {
        let (Some(rules), Some(policy)) = (scene.rules, scene.own.policy()) else { return Ok(()) };
        // The loop turns several times within a stall's length, or it is a stall and told as such.
        let slack = ms(policy.stall);
        if let Some(lasted) = self.returned.and_then(|since| between(since, scene.at)) {
            scene
                .rule(Invariant::S12, lasted <= slack, || "the old primary serves again and nobody was told".into())?;
        }
        let Some(run) = self.run.as_ref().filter(|run| !run.ended) else { return Ok(()) };
        for (step, since) in run.under_way().filter(|(step, _)| !is_recheck(*step)) {
            let limit = ms(match step {
                Step::Promote => rules.plan.promote_overdue,
                Step::Deploy => rules.plan.ready_within + rules.plan.step_overdue,
                _ => rules.plan.step_overdue,
            });
            let Some(lasted) = between(since, scene.at) else { continue };
            scene.rule(Invariant::L2, lasted <= limit.saturating_add(slack), || {
                format!(
                    "{step} is under way for {} s, its limit is {} s, and nobody was told",
                    lasted / 1000,
                    limit / 1000
                )
            })?;
        }
        Ok(())
    }
}

/// Times within a run are made harmless by a restart without a record of it, so that they are not compared.
fn same_run(ours: Option<&RunSoFar>, theirs: &DurablePair) -> bool {
    let Some(run) = &theirs.run else { return ours.is_none() };
    let Some(ours) = ours else { return false };
    let over = |progress: &Progress| progress.is_over();
    let same_steps = run
        .steps
        .iter()
        .all(|entry| ours.steps.get(&entry.step).is_some_and(|progress| over(progress) == entry.status.is_over()));
    ours.id == run.id
        && ours.ended == run.has_ended()
        && ours.fence == run.fence
        && ours.consent == run.unfenced
        && ours.accepted == run.accepted
        && same_steps
}

pub fn words(role: &Role) -> &'static str {
    match role {
        Role::AtA => "AtA",
        Role::Moving { .. } => "Moving",
        Role::AtB => "AtB",
    }
}
