//! Step `fence`: keeps what is left of A from writing, as far as A can still be reached.
//!
//! In: what the pair's `fence` names: the workload, a demotion, hooks for power or network. Out: a
//! [`FenceOutcome`] within a bounded time, whatever A does: an A that does not answer is no failure of the step but an
//! unconfirmed fence, and what follows from that is for the core (S6). Confirmed is only what was read back. Start
//! reading at [`run`].

pub(crate) mod workload;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::{Instant, timeout};
use understudy_config::{Fence, Hook};
use understudy_core::{FenceOutcome, Finding};

use crate::demote::{DemoteOutcome, demote_primary};
use crate::{Context, StepDone, StepError, Words, hook};

/// The whole fence, if the settings do not say: nothing that is needed at disaster time waits longer for A.
const WITHIN: Duration = Duration::from_secs(20);

/// What one part of the fence came to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    /// Read back: it can not write any more.
    Confirmed(String),
    /// Nobody knows.
    Unconfirmed(String),
}

/// One way to keep A from writing. Any of them is enough.
enum Part<'a> {
    Workload,
    Demote(&'a [String]),
    Hook(&'a Hook),
}

/// Carries the step out: every part, in the order of the settings, each with its share of the time that is left.
///
/// # Errors
/// Only what is our own fault: no lease, no journal.
pub(crate) async fn run(ctx: &Context) -> Result<StepDone, StepError> {
    let parts = parts(&ctx.pair.fence);
    let deadline = Instant::now() + ctx.pair.fence.within.map_or(WITHIN, |within| within.0);
    let mut tally = Tally::default();
    for (number, part) in parts.iter().enumerate() {
        let to_come = u32::try_from(parts.len() - number).unwrap_or(u32::MAX);
        let share = deadline.saturating_duration_since(Instant::now()) / to_come;
        tally.add(carry_out(ctx, part, share).await?);
    }
    let outcome = tally.outcome();
    let detail = match &outcome {
        FenceOutcome::Confirmed { how, .. } => how.clone(),
        FenceOutcome::Unconfirmed { why } => format!("not confirmed: {why}"),
    };
    Ok(StepDone::finding(detail, Finding::Fence(outcome)))
}

fn parts(fence: &Fence) -> Vec<Part<'_>> {
    let workload = fence.workload.then_some(Part::Workload);
    let demote = fence.demote.as_deref().map(Part::Demote);
    workload.into_iter().chain(demote).chain(fence.hooks.iter().map(Part::Hook)).collect()
}

async fn carry_out(ctx: &Context, part: &Part<'_>, share: Duration) -> Result<Verdict, StepError> {
    match part {
        Part::Workload => workload::stop(ctx, Instant::now() + share).await,
        Part::Demote(rbd) => {
            ctx.gate.progress("demoting the images at A".into());
            let outcome = timeout(share, demote_primary(ctx, rbd)).await;
            Ok(outcome.map_or_else(|_late| late("the demotion", share), Verdict::from))
        }
        Part::Hook(hook) => ask(ctx, hook, share).await,
    }
}

async fn ask(ctx: &Context, hook: &Hook, share: Duration) -> Result<Verdict, StepError> {
    let name = match hook {
        Hook::Command(command) => format!("hook {}", command.command.first().map_or("(empty)", String::as_str)),
        Hook::Webhook(call) => format!("webhook to {}", call.url.host_str().unwrap_or("(no host)")),
    };
    ctx.gate.progress(format!("asking {name}"));
    let permit = ctx.gate.permit().await?;
    let words = Words::of_step(ctx, "fence the primary site");
    // A program whose caller is dropped is killed with all its children.
    match timeout(share, hook::write(hook, &words, permit)).await {
        Ok(Ok(_)) => Ok(Verdict::Confirmed(format!("{name} said that A is fenced"))),
        Ok(Err(error @ (StepError::NoLease(_) | StepError::NotNoted(_)))) => Err(error),
        Ok(Err(error)) => Ok(Verdict::Unconfirmed(error.whole())),
        Err(_late) => Ok(late(&name, share)),
    }
}

fn late(what: &str, share: Duration) -> Verdict {
    Verdict::Unconfirmed(format!("{what} did not end within {:.1} s", share.as_secs_f64()))
}

impl From<DemoteOutcome> for Verdict {
    fn from(outcome: DemoteOutcome) -> Self {
        match outcome {
            DemoteOutcome::Confirmed { how } => Verdict::Confirmed(how),
            DemoteOutcome::Unconfirmed { why } => Verdict::Unconfirmed(why),
        }
    }
}

/// What the parts came to so far.
#[derive(Default)]
struct Tally {
    confirmed: Vec<String>,
    /// When the first part was confirmed: from then on nothing of A writes.
    at_wall_ms: Option<i64>,
    open: Vec<String>,
}

impl Tally {
    fn add(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Confirmed(how) => {
                self.at_wall_ms.get_or_insert_with(wall_ms);
                self.confirmed.push(how);
            }
            Verdict::Unconfirmed(why) => self.open.push(why),
        }
    }

    fn outcome(self) -> FenceOutcome {
        let open = self.open.join("; ");
        match self.at_wall_ms {
            Some(at_wall_ms) if open.is_empty() => {
                FenceOutcome::Confirmed { how: self.confirmed.join("; "), at_wall_ms }
            }
            Some(at_wall_ms) => {
                let how = format!("{} (but: {open})", self.confirmed.join("; "));
                FenceOutcome::Confirmed { how, at_wall_ms }
            }
            None if open.is_empty() => {
                let why = "the pair's settings name no fence: set fence.workload, fence.demote or fence.hooks".into();
                FenceOutcome::Unconfirmed { why }
            }
            None => FenceOutcome::Unconfirmed { why: open },
        }
    }
}

fn wall_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
