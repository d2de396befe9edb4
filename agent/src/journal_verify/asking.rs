//! From signals to an answer: self-doubt, hold-down, questions, approvals, pauses, roles.

use understudy_core::{Answer, Evidence, MIN_ROUNDS, Now, Question, Record, RequestId, Role, Verdict};

use super::{Kept, Pair, rule};

/// An approval that no run has spent yet.
pub struct Approval {
    pub by: String,
    pub evidence: Evidence,
}

impl Pair {
    pub(super) fn take_asking(&mut self, at: Now, record: &Record, doubt: Option<&str>) -> Kept {
        match record {
            Record::Verdict { to, .. } => self.take_verdict(*to, doubt),
            Record::HoldDownBegan { .. } => {
                rule("S3", doubt.is_none(), || format!("a hold-down began in doubt: {}", doubt.unwrap_or_default()))?;
                self.rounds = Some(0);
                Ok(())
            }
            Record::Round { number, .. } => {
                let next = self.rounds.map(|rounds| rounds + 1);
                rule("S5", next == Some(*number), || format!("round {number} does not continue a hold-down"))?;
                self.rounds = next;
                Ok(())
            }
            Record::HoldDownBroken { .. } => {
                self.rounds = None;
                Ok(())
            }
            Record::Requested { request } => {
                let open = self.durable.request.as_ref();
                rule("S2", open.is_none(), || format!("{} was asked while another question was open", request.id))?;
                self.open.insert(request.id.clone());
                Ok(())
            }
            Record::Answered { request, by, answer, .. } => self.take_answer(at, request, by, answer),
            Record::Voided { request, .. } => {
                self.open.remove(request);
                Ok(())
            }
            Record::RoleChanged { role, epoch, .. } => self.take_role(role, *epoch),
            _ => Ok(()),
        }
    }

    fn take_verdict(&mut self, to: Verdict, doubt: Option<&str>) -> Kept {
        let accuses = matches!(to, Verdict::SiteDown | Verdict::ServiceDown | Verdict::StorageDown);
        rule("S3", !accuses || doubt.is_none(), || format!("verdict {to} in doubt: {}", doubt.unwrap_or_default()))?;
        let held = self.rounds.is_some_and(|rounds| rounds >= MIN_ROUNDS);
        rule("S5", to != Verdict::SiteDown || held, || {
            format!("verdict SiteDown after {} of {MIN_ROUNDS} witnessed rounds", self.rounds.unwrap_or(0))
        })?;
        self.verdict = Some(to);
        Ok(())
    }

    fn take_answer(&mut self, at: Now, id: &RequestId, by: &str, answer: &Answer) -> Kept {
        rule("S2", self.open.remove(id), || {
            format!("{id} was answered although it was not asked, was answered, void, or older than a restart")
        })?;
        let Some(request) = self.durable.request.as_ref().filter(|request| request.id == *id) else {
            return rule("S2", false, || format!("{id} was answered although another question was open"));
        };
        let Answer::Approved { .. } = answer else { return Ok(()) };
        let in_time = match at.boot_id == request.asked.boot_id {
            true => at.boot_ms < request.expires_ms,
            false => at.wall_ms < request.expires_wall_ms,
        };
        rule("S2", in_time, || format!("{id} was approved after it had expired"))?;
        if request.question == Question::Failover {
            let approval = Approval { by: by.to_owned(), evidence: request.evidence.clone() };
            self.approvals.insert(id.clone(), approval);
        }
        Ok(())
    }

    /// A run moves the pair by its start and by its end; the change of role is only told.
    fn take_role(&self, role: &Role, epoch: u64) -> Kept {
        let ours = &self.durable;
        rule("S1", epoch == ours.epoch, || format!("the role is told at epoch {epoch}, it is {}", ours.epoch))?;
        rule("S12", *role == ours.role, || {
            format!("the pair became {} although no run led there from {}", words(role), words(&ours.role))
        })
    }
}

fn words(role: &Role) -> &'static str {
    match role {
        Role::AtA => "AtA",
        Role::Moving { .. } => "Moving",
        Role::AtB => "AtB",
    }
}
