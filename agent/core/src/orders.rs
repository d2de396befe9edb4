//! What humans order, and what is refused.

use crate::decide::{Asking, accepted_bound, closed};
use crate::event::{Command, Notice, Order, PageKind, Refusal};
use crate::gate::GateState;
use crate::mirror::{LossBound, bound_after};
use crate::names::{RequestId, RunId, Ticket};
use crate::pair::{PairState, Scene};
use crate::plan::{Authority, Consent, Ending, Phase, Run, Step, StepStatus};
use crate::policy::PairPolicy;
use crate::record::{Answer, Pause, Question, Record, Request, Role};
use crate::time::signed;

type Verdict = Result<String, Refusal>;

impl PairState {
    /// Carries an order out or refuses it; both are journaled and answered.
    pub(crate) fn obey(&mut self, scene: &mut Scene<'_>, by: String, order: Order, ticket: Ticket) {
        let named = name_of(&order);
        let answer = self.judge(scene, &by, order);
        if let Err(refusal) = &answer {
            let pair = scene.rules.name.clone();
            self.journal(scene, Record::Refused { pair, by, order: named, why: refusal.why.clone() });
        }
        scene.out.push(Command::Answer { ticket, answer });
    }

    fn judge(&mut self, scene: &mut Scene<'_>, by: &str, order: Order) -> Verdict {
        match order {
            Order::Approve { request, accept_unfenced, accept_loss_ms } => {
                self.approve(scene, by, &request, accept_unfenced, accept_loss_ms)
            }
            Order::Deny { request, reason } => self.deny(scene, by, &request, reason),
            Order::Failover { force, reason, accept_unfenced, accept_loss_ms } => {
                self.failover(scene, by, force, reason, accept_unfenced, accept_loss_ms)
            }
            Order::Retry { run, step } => self.retry(scene, by, &run, step),
            Order::Skip { run, step, reason } => self.skip(scene, by, &run, step, reason),
            Order::Abandon { run, reason } => self.abandon(scene, by, &run, reason),
            Order::Pause { for_ms, reason } => {
                let until_wall_ms = for_ms.map(|ms| scene.now().wall_ms.saturating_add(signed(ms)));
                self.paused_until_ms = scene.now().boot_ms.saturating_add(for_ms.unwrap_or(0));
                let (pair, pause) = (scene.rules.name.clone(), Pause { by: by.into(), reason, until_wall_ms });
                self.journal(scene, Record::Paused { pair, pause });
                Ok("paused: no new step begins; what is under way ends".into())
            }
            Order::Resume => {
                if self.durable.pause.is_none() {
                    return Err(Refusal::new("not paused"));
                }
                let pair = scene.rules.name.clone();
                self.journal(scene, Record::Resumed { pair, by: Some(by.into()) });
                Ok("resumed".into())
            }
            Order::Unblock => {
                if self.durable.blocked_until_wall_ms.is_none() {
                    return Err(Refusal::new("no recovery block is in force"));
                }
                let pair = scene.rules.name.clone();
                self.journal(scene, Record::Unblocked { pair, by: by.into() });
                Ok("the recovery block is lifted".into())
            }
        }
    }

    fn open_request(&self, id: &RequestId) -> Result<Request, Refusal> {
        match &self.durable.request {
            Some(open) if open.id == *id => Ok(open.clone()),
            Some(open) => Err(Refusal::new(format!(
                "request {id} is not open: it was answered, expired or became void; the open one is {}",
                open.id
            ))),
            None => Err(Refusal::new(format!(
                "request {id} is not open: it was answered, expired or became void; nothing is asked now"
            ))),
        }
    }

    fn approve(
        &mut self,
        scene: &mut Scene<'_>,
        by: &str,
        id: &RequestId,
        accept_unfenced: Option<String>,
        accept_loss_ms: Option<u64>,
    ) -> Verdict {
        let request = self.open_request(id)?;
        let consent = accept_unfenced.clone().map(|reason| Consent { by: by.into(), reason });
        match request.question {
            Question::Failover => {
                self.check_loss(&request, accept_loss_ms, scene)?;
                let gates = self.gates(scene, Asking::Human { accept_loss_ms });
                refuse_if_closed(&gates)?;
                self.answer(scene, by, &request, Answer::Approved { accept_unfenced, accept_loss_ms });
                let accepted = accepted_bound(request.bound_at_expiry, accept_loss_ms, scene.rules);
                let authority = Authority::Approved { request: request.id, by: by.into() };
                self.start(scene, authority, gates, accepted, consent);
                Ok(format!("approved: run {} begins", self.durable.run.as_ref().map_or("", |run| run.id.as_str())))
            }
            Question::Unfenced => {
                let Some(consent) = consent else {
                    return Err(Refusal::new(
                        "the fence was not confirmed: say `--accept-unfenced REASON` to go on beside an A that may still write",
                    ));
                };
                let Some(run) = self.durable.open_run().map(|run| run.id.clone()) else {
                    return Err(Refusal::new("the run is over"));
                };
                self.answer(scene, by, &request, Answer::Approved { accept_unfenced, accept_loss_ms });
                let accepted = accepted_bound(request.bound_at_expiry, accept_loss_ms, scene.rules);
                let pair = scene.rules.name.clone();
                self.journal(scene, Record::UnfencedAccepted { pair, run, consent, accepted });
                Ok("accepted: the run goes on without a confirmed fence".into())
            }
        }
    }

    fn check_loss(&self, request: &Request, accept_loss_ms: Option<u64>, scene: &Scene<'_>) -> Result<(), Refusal> {
        if !request.needs_loss_consent {
            return Ok(());
        }
        let mirrored = scene.rules.plan.mirrored;
        match (request.bound_at_expiry, accept_loss_ms) {
            (LossBound::AtMost(bound), Some(accepted)) if accepted >= bound => Ok(()),
            (LossBound::AtMost(bound), _) => Err(Refusal::new(format!(
                "the loss bound at expiry is {} s, over the limit of {} s: say `--accept-loss {}s` to accept it",
                bound.div_ceil(1000),
                scene.rules.rpo_max.as_secs(),
                bound.div_ceil(1000),
            ))),
            (LossBound::Infinite, Some(crate::decide::ANY_LOSS)) if !mirrored => Ok(()),
            (LossBound::Infinite, _) if !mirrored => {
                Err(Refusal::new("nobody knows how old the copy is: say `--accept-loss unlimited` to accept any loss"))
            }
            (LossBound::Infinite, _) => Err(Refusal::new(
                "nobody can tell what a promote would leave (first sync incomplete, source time or clock error never measured): no loss can be accepted",
            )),
        }
    }

    fn answer(&mut self, scene: &mut Scene<'_>, by: &str, request: &Request, answer: Answer) {
        let pair = scene.rules.name.clone();
        self.journal(scene, Record::Answered { pair, request: request.id.clone(), by: by.into(), answer });
    }

    fn deny(&mut self, scene: &mut Scene<'_>, by: &str, id: &RequestId, reason: String) -> Verdict {
        let request = self.open_request(id)?;
        self.answer(scene, by, &request, Answer::Denied { reason });
        match request.question {
            Question::Failover => self.denied = self.hold.map(|hold| hold.since),
            Question::Unfenced => self.stop(scene, &format!("{by} did not accept that the fence is not confirmed")),
        }
        Ok("denied: nothing is done; it is asked anew only after another hold-down".into())
    }

    fn failover(
        &mut self,
        scene: &mut Scene<'_>,
        by: &str,
        force: bool,
        reason: String,
        accept_unfenced: Option<String>,
        accept_loss_ms: Option<u64>,
    ) -> Verdict {
        let asking = if force { Asking::Force { accept_loss_ms } } else { Asking::Human { accept_loss_ms } };
        let gates = self.gates(scene, asking);
        refuse_if_closed(&gates)?;
        if self.durable.request.is_some() {
            self.void_request(scene, "a failover was ordered by hand");
        }
        let bound = bound_after(self.bound(scene.rules, scene.now()), scene.rules.approval_ttl);
        let accepted = accepted_bound(bound, accept_loss_ms, scene.rules);
        let consent = accept_unfenced.map(|reason| Consent { by: by.into(), reason });
        let authority = if force {
            Authority::Forced { by: by.into(), reason }
        } else {
            // An order given while the verdict stands is an approval of the evidence as it is now.
            let evidence = self.evidence(scene).ok_or_else(|| Refusal::new("the verdict is not SiteDown"))?;
            let request = self.request(scene, Question::Failover, evidence);
            self.journal(scene, Record::Requested { request: Box::new(request.clone()) });
            self.answer(
                scene,
                by,
                &request,
                Answer::Approved { accept_unfenced: consent.as_ref().map(|c| c.reason.clone()), accept_loss_ms },
            );
            Authority::Approved { request: request.id, by: by.into() }
        };
        self.start(scene, authority, gates, accepted, consent);
        Ok(format!("run {} begins", self.durable.run.as_ref().map_or("", |run| run.id.as_str())))
    }

    fn run_named(&self, id: &RunId) -> Result<&Run, Refusal> {
        match self.durable.open_run() {
            Some(run) if run.id == *id => Ok(run),
            Some(run) => Err(Refusal::new(format!("run {id} is not open; the open one is {}", run.id))),
            None => Err(Refusal::new(format!("run {id} is not open"))),
        }
    }

    fn retry(&mut self, scene: &mut Scene<'_>, by: &str, id: &RunId, step: Option<Step>) -> Verdict {
        let run = self.run_named(id)?;
        let stuck: Vec<Step> = run.stuck().filter(|s| step.is_none_or(|wanted| wanted == *s)).collect();
        if stuck.is_empty() {
            let which = step.map_or_else(|| "no step".to_owned(), |s| format!("{s} is not"));
            return Err(Refusal::new(format!("{which} stuck in run {id}: nothing to retry")));
        }
        for step in &stuck {
            let pair = scene.rules.name.clone();
            self.journal(scene, Record::Retried { pair, run: id.clone(), step: *step, by: by.into() });
        }
        let names: Vec<String> = stuck.iter().map(ToString::to_string).collect();
        Ok(format!("trying again: {}", names.join(", ")))
    }

    fn skip(&mut self, scene: &mut Scene<'_>, by: &str, id: &RunId, step: Step, reason: String) -> Verdict {
        let run = self.run_named(id)?;
        if !step.may_be_skipped() {
            return Err(Refusal::new(format!("{step} can not be skipped: safety rests on it")));
        }
        match run.entry(step).map(|entry| &entry.status) {
            Some(StepStatus::Stuck { .. } | StepStatus::Waiting { .. }) => {}
            Some(_) => return Err(Refusal::new(format!("{step} is not stuck"))),
            None => return Err(Refusal::new(format!("run {id} has no step {step}"))),
        }
        let pair = scene.rules.name.clone();
        self.journal(scene, Record::Skipped { pair, run: id.clone(), step, by: by.into(), reason });
        Ok(format!("{step} is skipped"))
    }

    fn abandon(&mut self, scene: &mut Scene<'_>, by: &str, id: &RunId, reason: String) -> Verdict {
        let run = self.run_named(id)?;
        if matches!(run.phase, Phase::BringingBack { .. }) {
            return Err(Refusal::new("the run is stopping already; `retry` if bringing the mirror back is stuck"));
        }
        if run.running().any(|(step, ..)| step == Step::Promote) {
            return Err(Refusal::new(
                "a promote is under way and can not be called back: wait until it ends or is stuck",
            ));
        }
        if !run.was_begun(Step::Promote) {
            self.stop(scene, &format!("abandoned by {by}: {reason}"));
            return Ok("abandoned before the promote: the mirror is brought back, A remains the active site".into());
        }
        let pair = scene.rules.name.clone();
        let ending = Ending::Abandoned { by: by.into(), reason: reason.clone() };
        self.journal(scene, Record::RunEnded { pair, run: id.clone(), ending });
        let way_on = way_on(scene.rules);
        scene.page(
            PageKind::Stuck,
            format!("run {id} was abandoned after the promote by {by}: {reason}; the pair stays half-way; {way_on}"),
        );
        scene.notify(Notice::RunEnded {
            run: id.clone(),
            how: format!("abandoned after the promote by {by}"),
            succeeded: false,
        });
        debug_assert!(matches!(self.durable.role, Role::Moving { .. }), "a run that is open makes the pair Moving");
        Ok(format!("abandoned after the promote: the pair stays Moving; {way_on}"))
    }
}

/// How a human goes on from a run that was given up half-way.
pub(crate) fn way_on(rules: &PairPolicy) -> &'static str {
    if rules.plan.mirrored && rules.plan.kubernetes {
        "only `failover --force` goes on from there; if something is deployed at B already, delete it first: quiesce leaves a \
         volume alone that is open"
    } else {
        "only `failover --force` goes on from there"
    }
}

fn refuse_if_closed(gates: &[GateState]) -> Result<(), Refusal> {
    match closed(gates) {
        None => Ok(()),
        Some(gate) => Err(Refusal::new(format!("gate {} is closed: {}", gate.gate, gate.value))),
    }
}

fn name_of(order: &Order) -> String {
    match order {
        Order::Approve { request, .. } => format!("approve {request}"),
        Order::Deny { request, .. } => format!("deny {request}"),
        Order::Failover { force: true, .. } => "failover --force".into(),
        Order::Failover { force: false, .. } => "failover".into(),
        Order::Retry { run, step: Some(step) } => format!("retry {run} {step}"),
        Order::Retry { run, step: None } => format!("retry {run}"),
        Order::Skip { run, step, .. } => format!("skip {run} {step}"),
        Order::Abandon { run, .. } => format!("abandon {run}"),
        Order::Pause { .. } => "pause".into(),
        Order::Resume => "resume".into(),
        Order::Unblock => "unblock".into(),
    }
}
