//! Says in one line what a record means: in the log, in `history`, in a rehearsal.

use understudy_core::{Answer, Ending, FenceProof, Record, Role, StepResult, WitnessSays};

/// The record as a sentence; none for what is only bookkeeping.
#[must_use]
pub fn sentence(record: &Record) -> Option<String> {
    Some(match record {
        Record::Started { version, .. } => format!("understudy {version} runs"),
        Record::SelfCheck { check, from, to } => format!("self-check {check}: {from} → {to}"),
        Record::Doubt { why: Some(why) } => format!("we doubt ourselves: {why}"),
        Record::Doubt { why: None } => "we are fit to judge again".into(),
        Record::Signal { probe, from, to, .. } => format!("probe {probe}: {from} → {to}"),
        Record::Witness { witness, says, .. } => format!("witness {witness} {}", says_words(*says)),
        Record::Life { what, .. } => format!("a sign of life of A: {what}"),
        Record::Verdict { from, to, cause, .. } => format!("verdict {from} → {to}: {cause}"),
        Record::HoldDownBegan { .. } => "hold-down begins".into(),
        Record::Round { number, held_ms, .. } => format!("hold-down: round {number} witnessed, {} s", held_ms / 1000),
        Record::HoldDownBroken { cause, .. } => format!("hold-down broken: {cause}"),
        Record::Shadow { would_act: true, .. } => "`auto` would have acted here".into(),
        Record::Shadow { decided_by, .. } => {
            format!("`auto` would not have acted here: {}", decided_by.as_deref().unwrap_or("?"))
        }
        Record::Gates { at, gates, .. } => {
            let shut = gates.iter().filter(|g| !g.open).count();
            format!("gates asked at {at}: {} open, {shut} closed", gates.len() - shut)
        }
        Record::Requested { request } => {
            format!("asked a human: request {}, loss at most {}", request.id, request.bound_at_expiry)
        }
        Record::Escalated { request, .. } => format!("asked again, louder: request {request}"),
        Record::Answered { request, by, answer: Answer::Approved { .. }, .. } => {
            format!("{by} approved request {request}")
        }
        Record::Answered { request, by, answer: Answer::Denied { reason }, .. } => {
            format!("{by} denied request {request}: {reason}")
        }
        Record::Voided { request, why, .. } => format!("request {request} is void: {why}"),
        Record::Refused { by, order, why, .. } => format!("refused {order} of {by}: {why}"),
        Record::RunStarted { run, .. } => format!("run {} begins, {} steps", run.id, run.steps.len()),
        Record::Intent { step, attempt: 1, .. } => format!("{step} begins"),
        Record::Intent { step, attempt, .. } => format!("{step} begins, try {attempt}"),
        Record::Noted { step, key, .. } => format!("{step} remembers {key}"),
        Record::Outcome { step, result: StepResult::Done { detail, .. }, .. } if detail.is_empty() => {
            format!("{step} is done")
        }
        Record::Outcome { step, result: StepResult::Done { detail, .. }, .. } => format!("{step} is done: {detail}"),
        Record::Outcome { step, result: StepResult::Failed { message, .. }, again_ms: Some(_), .. } => {
            format!("{step} failed and is tried again: {message}")
        }
        Record::Outcome { step, result: StepResult::Failed { message, .. }, .. } => {
            format!("{step} needs a human: {message}")
        }
        Record::Stuck { step, message, .. } => format!("{step} is stuck: {message}"),
        Record::Retried { step, by, .. } => format!("{step} is tried again, ordered by {by}"),
        Record::Skipped { step, by, reason, .. } => format!("{step} is left out by {by}: {reason}"),
        Record::UnfencedAccepted { consent, .. } => {
            format!("{} accepts that the fence is not confirmed: {}", consent.by, consent.reason)
        }
        Record::RunStopping { run, why, .. } => format!("run {run} stops before the promote: {why}"),
        Record::RunEnded { run, ending, .. } => format!("run {run} ended: {}", ending_words(ending)),
        Record::RoleChanged { role, epoch, .. } => format!("role {}, epoch {epoch}", role_words(role)),
        Record::Led { epoch, .. } => format!("we lead after another did, epoch {epoch}"),
        Record::FenceProven { proof, .. } => format!("the promote may be forced: {}", proof_words(proof)),
        Record::Paused { pause, .. } => format!("paused by {}: {}", pause.by, pause.reason),
        Record::Resumed { by, .. } => format!("resumed by {}", by.as_deref().unwrap_or("itself")),
        Record::Blocked { .. } => "recovery block in force".into(),
        Record::Unblocked { by, .. } => format!("recovery block lifted by {by}"),
        Record::OldPrimaryReturned { seen, .. } => format!("the old primary is back: {seen}"),
        Record::SeenAlive { .. } => "seen alive for the first time".into(),
        // A page is told where it is sent, with its message.
        Record::Ruled { .. }
        | Record::Snapshot { .. }
        | Record::SourceTime { .. }
        | Record::ClockError { .. }
        | Record::Paged { .. }
        | Record::Recording { .. } => return None,
    })
}

/// What a witness says, in words.
pub fn says_words(says: WitnessSays) -> &'static str {
    match says {
        WitnessSays::Absent => "is not heard",
        WitnessSays::Blind => "doubts itself",
        WitnessSays::Alive => "sees A alive",
        WitnessSays::Down => "sees A down",
        WitnessSays::Unsure => "can not tell",
    }
}

fn ending_words(ending: &Ending) -> String {
    match ending {
        Ending::Succeeded => "B is the active site".into(),
        Ending::Stopped { why } => format!("stopped before the promote: {why}"),
        Ending::Abandoned { by, reason } => format!("abandoned by {by}: {reason}"),
    }
}

/// What allowed a forced promote, in words.
pub fn proof_words(proof: &FenceProof) -> String {
    match proof {
        FenceProof::Confirmed => "the fence is confirmed".into(),
        FenceProof::Witnessed { witness } => format!("the fence is not confirmed, and witness {witness} says Down"),
        FenceProof::Accepted(consent) => format!("the fence is not confirmed, and {} accepts it", consent.by),
    }
}

fn role_words(role: &Role) -> String {
    match role {
        Role::AtA => "A is active".into(),
        Role::Moving { run } => format!("moving ({run})"),
        Role::AtB => "B is active".into(),
    }
}
