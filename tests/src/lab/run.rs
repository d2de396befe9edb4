//! Runs outside programs with a time limit, and waits for conditions.

use std::future::Future;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::process::Command;
use tokio::time::{self, Instant};

use super::Parts;

/// One of our scripts.
#[must_use]
pub fn script(parts: &Parts, name: &str) -> Command {
    Command::new(parts.scripts.join(name))
}

/// Runs a command to its end and returns its standard output.
///
/// Its output goes through files, since a daemon that it leaves behind would hold a pipe open.
///
/// # Errors
/// If it can not be started, fails, or takes longer than `limit`; its standard error is part of the message.
pub async fn output(mut command: Command, limit: Duration) -> Result<String> {
    let shown = format!("{:?}", command.as_std());
    let (out, err) = (tempfile::NamedTempFile::new()?, tempfile::NamedTempFile::new()?);
    command.stdin(Stdio::null()).stdout(out.reopen()?).stderr(err.reopen()?).kill_on_drop(true);
    let mut child = command.spawn().with_context(|| format!("can not start {shown}"))?;
    let status = time::timeout(limit, child.wait()).await;
    let said = std::fs::read_to_string(err.path()).unwrap_or_default();
    let status = status.with_context(|| format!("{shown} took longer than {limit:?}: {said}"))??;
    ensure!(status.success(), "{shown}: {status}: {said}");
    std::fs::read_to_string(out.path()).with_context(|| format!("{shown}: its output is no text"))
}

/// Waits until `look` finds something, asking again every 100 ms.
///
/// # Errors
/// If nothing is found within `limit`, with `what` in the message.
pub async fn until<T, F>(what: &str, limit: Duration, mut look: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Option<T>>,
{
    let end = Instant::now() + limit;
    let mut grid = time::interval(Duration::from_millis(100));
    grid.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        grid.tick().await;
        if let Some(found) = look().await {
            return Ok(found);
        }
        if Instant::now() >= end {
            bail!("{what}: not within {limit:?}");
        }
    }
}
