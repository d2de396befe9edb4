//! Runs a hook of the user's: a program, or a webhook.
//!
//! In: the hook and the [`Words`] that it is told. Out: what it printed or answered. A program is run without a shell and
//! bounded as in [`process`]. Start reading at [`read`] and [`write()`].

use std::time::Duration;

use serde_json::json;
use understudy_config::{CommandHook, Hook, Webhook};

use crate::process::{self, Answer, Call, CallError, Exit};
use crate::webhook::{self, WebhookError};
use crate::{Permit, StepError, Words};

/// Runs a hook that only looks. Trying again is always safe.
///
/// # Errors
/// [`StepError::Transient`] or [`StepError::Permanent`].
pub async fn read(hook: &Hook, words: &Words) -> Result<String, StepError> {
    match hook {
        Hook::Command(command) => program(command, words, command.timeout.0).await.map_err(ProgramError::of_read),
        Hook::Webhook(call) => {
            webhook(call, words, call.timeout.0).await.map_err(|e| e.of_read(words.message.as_str()))
        }
    }
}

/// Runs a hook that changes something.
///
/// # Errors
/// [`StepError::Unknown`] where nobody knows what it did, [`StepError::NoLease`] if the lease leaves no time for it.
pub async fn write(hook: &Hook, words: &Words, permit: Permit) -> Result<String, StepError> {
    let left = permit.remaining();
    if left.is_zero() {
        return Err(StepError::NoLease("the lease leaves no time for the hook".into()));
    }
    match hook {
        Hook::Command(command) => program(command, words, left).await.map_err(ProgramError::of_write),
        Hook::Webhook(call) => webhook(call, words, left).await.map_err(|e| e.of_write(words.message.as_str())),
    }
}

async fn webhook(call: &Webhook, words: &Words, limit: Duration) -> Result<String, WebhookError> {
    let data = json!({ "run": words.run, "step": words.step, "epoch": words.epoch, "message": words.message });
    let answer = webhook::call(call, words, data, limit).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Why a program did not say yes.
#[derive(Debug, thiserror::Error)]
enum ProgramError {
    /// There is no answer.
    #[error(transparent)]
    Call(#[from] CallError),
    /// It ended with another code than 0.
    #[error("{name} failed with {exit}{last_words}")]
    SaidNo { name: String, exit: Exit, last_words: String },
}

impl ProgramError {
    fn of_read(self) -> StepError {
        let what = "failed to run a hook".into();
        if self.nothing_was_run() {
            return StepError::Permanent { what, source: Some(Box::new(self)) };
        }
        StepError::Transient { what, source: Some(Box::new(self)) }
    }

    /// A program that failed may have failed half-way.
    fn of_write(self) -> StepError {
        if self.nothing_was_run() {
            return self.of_read();
        }
        StepError::Unknown { what: "failed to run a hook".into(), source: Some(Box::new(self)) }
    }

    fn nothing_was_run(&self) -> bool {
        matches!(self, ProgramError::Call(error) if error.nothing_was_run())
    }
}

async fn program(hook: &CommandHook, words: &Words, limit: Duration) -> Result<String, ProgramError> {
    // The program is named and not its arguments, among which a secret may be.
    let name = format!("hook {}", hook.command.first().map_or("(empty)", String::as_str));
    let call =
        Call { name: name.clone(), words: hook.command.clone(), env: env(words), within: hook.timeout.0.min(limit) };
    match process::run(call).await? {
        Answer { exit: Exit::Fine, stdout, .. } => Ok(String::from_utf8_lossy(&stdout).into_owned()),
        Answer { exit, last_words, .. } => {
            let last_words = if last_words.is_empty() { last_words } else { format!(": {last_words}") };
            Err(ProgramError::SaidNo { name, exit, last_words })
        }
    }
}

/// What a program is told.
pub(crate) fn env(words: &Words) -> Vec<(String, String)> {
    [
        ("UNDERSTUDY_PAIR", &words.pair),
        ("UNDERSTUDY_SITE", &words.site),
        ("UNDERSTUDY_RUN", &words.run),
        ("UNDERSTUDY_STEP", &words.step),
        ("UNDERSTUDY_KEY", &words.key),
        ("UNDERSTUDY_EPOCH", &words.epoch),
    ]
    .map(|(name, value)| (name.to_owned(), value.clone()))
    .to_vec()
}

#[cfg(test)]
mod tests;
