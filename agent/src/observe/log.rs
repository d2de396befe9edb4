//! One log line for each change of state, with `from`, `to` and `cause` where there are such.
//!
//! `error` means: wake someone. `warn`: look at it today. `info`: what happened. `debug`: what has no consequence by itself.

use tracing::{debug, error, info, warn};
use understudy_core::{Answer, Ending, Record, Role, StepResult, Verdict};

use crate::tell::{proof_words, says_words};

/// Writes the line of `record`.
#[allow(clippy::too_many_lines, reason = "one arm for each kind of record, each one statement")]
pub fn line(record: &Record) {
    let pair = record.pair().map_or("", |pair| pair.as_str());
    match record {
        Record::Started { version, config_digest } => info!(version, config = config_digest, "started"),
        Record::Ruled { policy } => debug!(pairs = policy.pairs.len(), "rules from here on"),
        Record::Snapshot { pairs } => debug!(pairs = pairs.len(), "journal segment begun"),
        Record::SelfCheck { check, from, to } => info!(check, %from, %to, "self-check changed"),
        Record::Doubt { why: Some(why) } => warn!(cause = why, "we doubt ourselves"),
        Record::Doubt { why: None } => info!("we doubt ourselves no more"),
        Record::Signal { probe, from, to, .. } => info!(pair, probe, %from, %to, "signal changed"),
        Record::Witness { witness, says, .. } => info!(pair, witness, to = says_words(*says), "witness changed"),
        Record::Life { what, .. } => info!(pair, cause = what, "a sign of life of A"),
        Record::Verdict { from, to, cause, .. } => verdict(pair, *from, *to, cause),
        Record::HoldDownBegan { .. } => warn!(pair, "hold-down began"),
        Record::Round { number, held_ms, .. } => debug!(pair, number, held_ms, "round witnessed"),
        Record::HoldDownBroken { cause, .. } => info!(pair, cause, "hold-down broken"),
        Record::Shadow { would_act, decided_by, .. } => {
            info!(pair, would_act, decided_by = decided_by.as_deref(), "what auto would have done");
        }
        Record::Gates { at, gates, .. } => {
            let closed: Vec<String> = gates.iter().filter(|g| !g.open).map(|g| g.gate.to_string()).collect();
            info!(pair, %at, closed = closed.join(", "), "gates asked");
        }
        Record::Requested { request } => {
            let (id, bound) = (&request.id, request.bound_at_expiry);
            warn!(pair, request = %id, question = ?request.question, loss_bound = %bound, "a human is asked");
        }
        Record::Escalated { request, .. } => error!(pair, %request, "a question is still unanswered"),
        Record::Answered { request, by, answer: Answer::Approved { .. }, .. } => info!(pair, %request, by, "approved"),
        Record::Answered { request, by, answer: Answer::Denied { reason }, .. } => {
            info!(pair, %request, by, cause = reason, "denied");
        }
        Record::Voided { request, why, .. } => info!(pair, %request, cause = why, "request void"),
        Record::Refused { by, order, why, .. } => warn!(pair, by, order, cause = why, "refused"),
        Record::RunStarted { run, .. } => {
            warn!(pair, run = %run.id, epoch = run.epoch, authority = ?run.authority, "run started");
        }
        Record::Intent { run, step, attempt, .. } => info!(pair, %run, %step, attempt, "step begins"),
        Record::Noted { run, step, key, .. } => debug!(pair, %run, %step, key, "noted"),
        Record::Outcome { run, step, attempt, result, again_ms, .. } => match (result, again_ms) {
            (StepResult::Done { detail, .. }, _) => info!(pair, %run, %step, attempt, detail, "step done"),
            (StepResult::Failed { message, .. }, Some(_)) => {
                warn!(pair, %run, %step, attempt, cause = message, "step failed, will be tried again");
            }
            (StepResult::Failed { message, .. }, None) => {
                error!(pair, %run, %step, attempt, cause = message, "step is stuck");
            }
        },
        Record::Stuck { run, step, message, .. } => error!(pair, %run, %step, cause = message, "step is stuck"),
        Record::Retried { run, step, by, .. } => info!(pair, %run, %step, by, "another try"),
        Record::Skipped { run, step, by, reason, .. } => warn!(pair, %run, %step, by, cause = reason, "step skipped"),
        Record::UnfencedAccepted { run, consent, .. } => {
            warn!(pair, %run, by = consent.by, cause = consent.reason, "unconfirmed fence accepted");
        }
        Record::RunStopping { run, why, .. } => error!(pair, %run, cause = why, "run stops before the promote"),
        Record::RunEnded { run, ending, .. } => ended(pair, run.as_str(), ending),
        Record::RoleChanged { role, epoch, .. } => warn!(pair, to = role_name(role), epoch, "role changed"),
        Record::Led { epoch, .. } => warn!(pair, epoch, "we lead after another did"),
        Record::FenceProven { run, proof, .. } => {
            warn!(pair, %run, cause = proof_words(proof), "the promote may be forced")
        }
        Record::Paused { pause, .. } => info!(pair, by = pause.by, cause = pause.reason, "paused"),
        Record::Resumed { by, .. } => info!(pair, by = by.as_deref().unwrap_or("its end came"), "resumed"),
        Record::Blocked { until_wall_ms, .. } => info!(pair, until_wall_ms, "automatic failover is blocked"),
        Record::Unblocked { by, .. } => info!(pair, by, "the recovery block is lifted"),
        Record::SourceTime { image, snapshot, time_ms, .. } => {
            debug!(pair, %image, snapshot, time_ms, "learnt when the primary took a snapshot");
        }
        Record::ClockError { error_ms, .. } => debug!(pair, error_ms, "measured the clock error"),
        Record::SeenAlive { .. } => info!(pair, "seen alive for the first time"),
        Record::OldPrimaryReturned { seen, .. } => error!(pair, cause = seen, "the old primary is back"),
        // The page itself is logged where it is sent.
        Record::Paged { kind, .. } => debug!(pair, ?kind, "a human is woken"),
        Record::Recording { segment, sha256 } => debug!(segment, sha256, "recording segment closed"),
    }
}

fn verdict(pair: &str, from: Verdict, to: Verdict, cause: &str) {
    match to {
        Verdict::Up | Verdict::Suspect => info!(pair, %from, %to, cause, "verdict changed"),
        Verdict::Blind => warn!(pair, %from, %to, cause, "verdict changed"),
        Verdict::ServiceDown | Verdict::StorageDown | Verdict::SiteDown => {
            error!(pair, %from, %to, cause, "verdict changed");
        }
    }
}

fn ended(pair: &str, run: &str, ending: &Ending) {
    match ending {
        Ending::Succeeded => info!(pair, run, "run succeeded: B is the active site"),
        Ending::Stopped { why } => error!(pair, run, cause = why, "run stopped before the promote"),
        Ending::Abandoned { by, reason } => error!(pair, run, by, cause = reason, "run abandoned after the promote"),
    }
}

fn role_name(role: &Role) -> &'static str {
    match role {
        Role::AtA => "AtA",
        Role::Moving { .. } => "Moving",
        Role::AtB => "AtB",
    }
}
