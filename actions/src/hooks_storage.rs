//! Storage that is promoted by hooks of the user's.
//!
//! The status hook prints `primary`, `secondary` or `unknown`; what counts is what it prints after the promote. A promote
//! hook that is a command is run like a forced promote: as a process of its own, never killed, so that its time-out does not
//! hold. One that is a webhook has its time-out. That B's copy is fit to be promoted, and that nothing replicates into it
//! meanwhile, is the promote hook's to see to.
//!
//! The age hook says how old B's copy is. One that does not say stops no run by itself: then the loss has no bound, and the
//! core knows whether that was accepted.
//!
//! In: the hooks. Out: the copy's age, and B primary by the word of the status hook. Start reading at [`promote`].

use std::time::Duration;

use understudy_config::{Hook, StorageHooks};
use understudy_core::{COPY, Failure, Finding, ImageFacts, MirrorFacts};

use crate::looks::Looks;
use crate::promote_keeper::boot_ms;
use crate::promote_try::{Promote, Subject, begun_too_long_ago, in_time, too_old};
use crate::{Context, StepDone, StepError, Words, hook};

/// The note in which try the promote webhook was called, or was about to be.
const ASKED: &str = "asked";

/// A hook that does not tell the age is asked again for so long.
const AGE_WITHIN: Duration = Duration::from_secs(10);

/// Older than any copy.
const OLDEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// How long the status may lag behind the promote.
const LAG: Duration = Duration::from_secs(30);

/// Makes B primary, unless the status hook says that it is.
///
/// # Errors
/// [`StepError`] where the status hook does not say so afterwards.
pub(crate) async fn promote(ctx: &Context, hooks: &StorageHooks) -> Result<StepDone, StepError> {
    let words = Words::of_step(ctx, format!("promote the storage of {} at {}", ctx.pair.name, ctx.site));
    match &hooks.promote {
        Hook::Command(command) => {
            let subject = Volumes { status: &hooks.status, command: &command.command, words: &words };
            let promote = Promote { ctx, subject };
            let done = match promote.settle().await? {
                Some(done) => done,
                None => {
                    in_time(ctx, std::slice::from_ref(&promote))?;
                    promote.start().await?.finish().await?
                }
            };
            Ok(StepDone::saying(done))
        }
        Hook::Webhook(_) => {
            if role(&hooks.status, &words).await? == Role::Primary {
                return Ok(StepDone::saying("the status hook says primary"));
            }
            let attempt = ctx.order.attempt.to_string();
            match ctx.noted(ASKED) {
                // The agent died with this try under way. Only a human's retry asks again.
                Some(asked) if asked == attempt => return was_asked(hooks, &words).await,
                asked if ctx.order.start_before_ms.is_some_and(|limit| boot_ms() >= limit) => {
                    return Err(asked.map_or_else(too_old, |_| begun_too_long_ago()));
                }
                Some(_) | None => {}
            }
            ctx.gate.note(ASKED, attempt).await?;
            hook::write(&hooks.promote, &words, ctx.gate.permit().await?).await?;
            if becomes_primary(&hooks.status, &words).await? {
                return Ok(StepDone::saying("promoted by webhook; the status hook says primary"));
            }
            Err(StepError::unknown("the promote hook succeeded, yet the status hook does not say primary"))
        }
    }
}

/// Reads how old the copy is.
///
/// # Errors
/// [`StepError::Permanent`] if there is no hook that could tell.
pub(crate) async fn consistency_point(ctx: &Context, hooks: &StorageHooks) -> Result<StepDone, StepError> {
    let Some(age) = &hooks.age else {
        let what =
            "storage by hooks has no consistency point without `age`: the settings changed while the run was under way";
        return Err(StepError::permanent(what));
    };
    let words = Words::of_step(ctx, format!("how old is the copy of {} at {}?", ctx.pair.name, ctx.site));
    let mut looks = Looks::within(AGE_WITHIN);
    loop {
        let error = match copy_age(age, &words).await {
            Ok(facts) => return Ok(StepDone::finding(sentence(&facts), Finding::Mirror(facts))),
            Err(error) => error,
        };
        if error.failure() == Failure::Permanent || !looks.next().await {
            let detail = format!("nobody can tell how old the copy is: {}", error.whole());
            return Ok(StepDone::finding(detail, Finding::Mirror(copy_as_of(None))));
        }
    }
}

fn sentence(facts: &MirrorFacts) -> String {
    let as_of = facts.images.iter().find_map(|copy| jiff::Timestamp::from_millisecond(copy.source_time_ms?).ok());
    as_of.map_or_else(|| "the copy is of an unknown time".into(), |as_of| format!("the copy is as of {as_of:.0}"))
}

/// B's copy by the word of the age hook. It is as of so long before the hook was asked, and a second more, since a hook that
/// counts whole seconds may have cut off the last one: the time is never later than the truth.
///
/// # Errors
/// [`StepError`] if it does not say.
pub(crate) async fn copy_age(age: &Hook, words: &Words) -> Result<MirrorFacts, StepError> {
    let asked_ms = jiff::Timestamp::now().as_millisecond();
    let age = age_in(&hook::read(age, words).await?)? + Duration::from_secs(1);
    Ok(copy_as_of(i64::try_from(age.as_millis()).ok().map(|age_ms| asked_ms - age_ms)))
}

/// The age that an age hook said.
pub(crate) fn age_in(said: &str) -> Result<Duration, StepError> {
    let text = said.trim().trim_matches('"');
    let seconds = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    seconds.map(Duration::from_secs).filter(|age| *age <= OLDEST).ok_or_else(|| {
        let said: String = said.chars().take(40).collect();
        StepError::permanent(format!("the age hook said {said:?}: it must say whole seconds, such as 75"))
    })
}

/// Snapshots have numbers; a copy that has none is told apart by its time.
fn copy_as_of(as_of_ms: Option<i64>) -> MirrorFacts {
    let copy = ImageFacts {
        image: COPY.into(),
        primary: false,
        newest_complete: as_of_ms.and_then(|ms| u64::try_from(ms).ok()),
        syncing: None,
        progress: None,
        source_time_ms: as_of_ms,
        orphan: false,
        peer_primary: false,
    };
    MirrorFacts { images: vec![copy] }
}

async fn was_asked(hooks: &StorageHooks, words: &Words) -> Result<StepDone, StepError> {
    if becomes_primary(&hooks.status, words).await? {
        return Ok(StepDone::saying("promoted by webhook before the agent ended; the status hook says primary"));
    }
    let what = "the promote webhook was called before the agent ended, yet the status hook does not say primary";
    Err(StepError::unknown(what))
}

/// All that the hooks speak of.
struct Volumes<'a> {
    status: &'a Hook,
    command: &'a [String],
    words: &'a Words,
}

impl Subject for Volumes<'_> {
    fn name(&self) -> &str {
        "storage"
    }

    fn words(&self) -> Vec<String> {
        self.command.to_vec()
    }

    fn env(&self) -> Vec<(String, String)> {
        hook::env(self.words)
    }

    async fn is_primary(&self) -> Result<bool, StepError> {
        Ok(role(self.status, self.words).await? == Role::Primary)
    }

    async fn becomes_primary(&self) -> Result<bool, StepError> {
        becomes_primary(self.status, self.words).await
    }
}

/// What the status hook says of B.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Primary,
    Secondary,
    Unknown,
}

async fn role(status: &Hook, words: &Words) -> Result<Role, StepError> {
    role_in(&hook::read(status, words).await?)
}

/// The role that a status hook said.
fn role_in(said: &str) -> Result<Role, StepError> {
    match said.trim().trim_matches('"') {
        "primary" => Ok(Role::Primary),
        "secondary" => Ok(Role::Secondary),
        "unknown" => Ok(Role::Unknown),
        _ => {
            let said: String = said.chars().take(40).collect();
            Err(StepError::permanent(format!(
                "the status hook said {said:?}: it must say primary, secondary or unknown"
            )))
        }
    }
}

/// Whether the status hook said that B is primary; for [`crate::boundary`].
pub(crate) fn said_primary(said: &str) -> Result<bool, StepError> {
    Ok(role_in(said)? == Role::Primary)
}

async fn becomes_primary(status: &Hook, words: &Words) -> Result<bool, StepError> {
    let mut looks = Looks::within(LAG);
    loop {
        match role(status, words).await {
            Ok(Role::Primary) => return Ok(true),
            Ok(Role::Secondary | Role::Unknown) => {}
            Err(error) if error.failure() == Failure::Transient => {}
            Err(error) => return Err(error),
        }
        if !looks.next().await {
            return Ok(role(status, words).await? == Role::Primary);
        }
    }
}

#[cfg(test)]
mod tests;
