//! Gates, questions, answers, pauses: what a human was asked, and what his word is good for (S2, S8).

use understudy_core::{
    Answer, Consent, Evidence, GateState, LossBound, Mode, Question, Record, Request, RequestId, Step, Verdict,
};

use crate::loss::within;
use crate::pair::Pair;
use crate::{Invariant, Kept, Scene, ms};

/// The gates as they were asked last.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    pub at: Step,
    pub gates: Vec<GateState>,
}

impl Asked {
    pub fn shut(&self) -> Option<&GateState> {
        self.gates.iter().find(|gate| !gate.open)
    }
}

/// A question that was neither answered nor made void.
#[derive(Debug, Clone, PartialEq)]
pub struct Open {
    pub request: Request,
    /// It was asked since the daemon began to run.
    pub answerable: bool,
}

/// An approval that no run has spent yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Approval {
    pub by: String,
    pub evidence: Evidence,
    pub accept_unfenced: Option<String>,
    pub accept_loss_ms: Option<u64>,
}

/// A human's word about an unconfirmed fence.
#[derive(Debug, Clone, PartialEq)]
pub struct Word {
    pub consent: Consent,
    pub accept_loss_ms: Option<u64>,
}

impl Pair {
    pub fn ask(&mut self, scene: &mut Scene<'_>, record: &Record) -> Kept {
        match record {
            Record::Gates { at, gates, .. } => {
                self.asked = Some(Asked { at: *at, gates: gates.clone() });
                Ok(())
            }
            Record::Requested { request } => self.question(scene, request),
            Record::Escalated { request, .. } => self.is_open(scene, request, "was asked again"),
            Record::Answered { request, by, answer, .. } => self.answer(scene, request, by, answer),
            Record::Voided { request, .. } => {
                self.is_open(scene, request, "became void")?;
                self.question = None;
                Ok(())
            }
            Record::Paused { pause, .. } => {
                self.pause = Some(pause.clone());
                Ok(())
            }
            Record::Resumed { by, .. } => {
                let until = self.pause.take().and_then(|pause| pause.until_wall_ms);
                let over = by.is_some() || until.is_some_and(|until| scene.at.wall_ms >= until);
                scene.rule(Invariant::S2, over, || "a pause ended by itself before its time".into())
            }
            Record::Unblocked { by, .. } => {
                (self.blocked, self.block_told) = (false, false);
                scene.rule(Invariant::S11, !by.is_empty(), || "nobody lifted the recovery block".into())
            }
            _ => Ok(()),
        }
    }

    fn is_open(&self, scene: &mut Scene<'_>, id: &RequestId, what: &str) -> Kept {
        let open = self.question.as_ref().is_some_and(|open| open.request.id == *id);
        scene.rule(Invariant::S2, open, || format!("{id} {what} although it is not open"))
    }

    fn question(&mut self, scene: &mut Scene<'_>, request: &Request) -> Kept {
        let other = self.question.is_some();
        scene.rule(Invariant::S2, !other, || format!("{} was asked while another question was open", request.id))?;
        if request.question == Question::Failover {
            self.check_failover_question(scene, request)?;
        }
        self.requests += 1;
        self.question = Some(Open { request: request.clone(), answerable: true });
        Ok(())
    }

    fn check_failover_question(&self, scene: &mut Scene<'_>, request: &Request) -> Kept {
        let id = &request.id;
        let stands = self.verdict == Some(Verdict::SiteDown) && request.evidence.verdict == Verdict::SiteDown;
        scene.rule(Invariant::S2, stands, || format!("{id} was asked at verdict {:?}", self.verdict))?;
        self.check_no_life(scene, "a failover was asked for")?;
        let Some(rules) = scene.rules else { return Ok(()) };
        scene.rule(Invariant::S2, rules.mode != Mode::Observe, || format!("{id} was asked in observe"))?;
        let dear = !within(request.bound_at_expiry, LossBound::AtMost(ms(rules.rpo_max)));
        scene.rule(Invariant::S8, request.needs_loss_consent == dear, || {
            format!("{id} does not say that {} is over the limit", request.bound_at_expiry)
        })
    }

    fn answer(&mut self, scene: &mut Scene<'_>, id: &RequestId, by: &str, answer: &Answer) -> Kept {
        let open = self.question.take().filter(|open| open.request.id == *id && open.answerable);
        scene.rule(Invariant::S2, open.is_some(), || {
            format!("{id} was answered although it was not asked, was answered, void, or older than a restart")
        })?;
        let (Some(Open { request, .. }), Answer::Approved { accept_unfenced, accept_loss_ms }) = (open, answer) else {
            return Ok(());
        };
        let in_time = match scene.at.boot_id == request.asked.boot_id {
            true => scene.at.boot_ms < request.expires_ms,
            false => scene.at.wall_ms < request.expires_wall_ms,
        };
        scene.rule(Invariant::S2, in_time, || format!("{id} was approved after it had expired"))?;
        match request.question {
            Question::Failover => {
                self.check_evidence(scene, id, &request.evidence)?;
                check_consent(scene, &request, *accept_loss_ms)?;
                let approval = Approval {
                    by: by.to_owned(),
                    evidence: request.evidence,
                    accept_unfenced: accept_unfenced.clone(),
                    accept_loss_ms: *accept_loss_ms,
                };
                self.approvals.insert(id.clone(), approval);
            }
            Question::Unfenced => {
                let consent = accept_unfenced.clone().map(|reason| Consent { by: by.to_owned(), reason });
                self.word = consent.map(|consent| Word { consent, accept_loss_ms: *accept_loss_ms });
            }
        }
        Ok(())
    }

    /// What an approval is bound to still stands (S2).
    fn check_evidence(&self, scene: &mut Scene<'_>, id: &RequestId, evidence: &Evidence) -> Kept {
        let verdict = self.verdict;
        scene.rule(Invariant::S2, verdict == Some(Verdict::SiteDown), || {
            format!("{id} was approved at verdict {verdict:?}")
        })?;
        scene.fit(|| format!("{id} was approved"))?;
        self.check_no_life(scene, "an approval was taken")?;
        let same_hold = self.hold.as_ref().is_some_and(|hold| hold.since.wall_ms == evidence.down_since_wall_ms);
        scene.rule(Invariant::S2, same_hold, || format!("{id} was approved for another hold-down"))?;
        let changed = evidence
            .signals
            .iter()
            .find(|seen| self.signals.get(&seen.name).is_some_and(|now| *now != seen.state))
            .map(|seen| seen.name.clone());
        scene.rule(Invariant::S2, changed.is_none(), || {
            format!("{id} was approved although probe {} has changed since", changed.unwrap_or_default())
        })?;
        let digest = scene.own.policy().map(|policy| policy.config_digest.clone());
        scene.rule(Invariant::S2, digest.is_none_or(|digest| digest == evidence.config_digest), || {
            format!("{id} was approved under another configuration")
        })
    }
}

/// A loss over the limit is accepted by name, and an unknown one not at all where there are snapshots (S8).
fn check_consent(scene: &mut Scene<'_>, request: &Request, accept_loss_ms: Option<u64>) -> Kept {
    if !request.needs_loss_consent {
        return Ok(());
    }
    let mirrored = scene.rules.is_none_or(|rules| rules.plan.mirrored);
    let named = match request.bound_at_expiry {
        LossBound::AtMost(bound) => accept_loss_ms.is_some_and(|accepted| accepted >= bound),
        LossBound::Infinite => accept_loss_ms.is_some() && !mirrored,
    };
    scene.rule(Invariant::S8, named, || {
        format!("{} was approved without a word about the loss of {}", request.id, request.bound_at_expiry)
    })
}
