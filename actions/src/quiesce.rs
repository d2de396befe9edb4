//! Keeps the local rbd-mirror from touching the images, so that a forced promote can not meet it in the middle of a sync.
//!
//! How it was is noted before anything changes, so that [`mirror_back`](crate::mirror_back) can bring it back. Stopping it
//! alone would not do: while A is dead it does not end by itself, and killed it leaves its locks. Refusing its client alone
//! would not do either: while A can be reached it comes back under a new number. So both are done, side by side.
//!
//! In: the images and how rbd-mirror is stopped. Out: no watcher on any image of the pair. Start reading at [`run`].

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::time;
use understudy_config::{DeploymentRef, Quiesce, Rbd};
use understudy_core::Step;

use crate::blocklist::{self, Patience};
use crate::process::{self, Call, Exit};
use crate::rbd::Cli;
use crate::{Context, Permit, StepDone, StepError};

/// A command that stops or starts rbd-mirror may take this long: what systemd gives a daemon, and a little more.
const COMMAND_WITHIN: Duration = Duration::from_secs(120);

/// The note of how many replicas the Deployment had.
const REPLICAS: &str = "replicas";

/// The note of how far the stop command is.
const COMMAND: &str = "command";

/// It was about to be run.
const STOPPING: &str = "stopping";

/// It said that rbd-mirror is stopped.
const STOPPED: &str = "stopped";

/// Stops rbd-mirror and sees no watcher left.
///
/// # Errors
/// [`StepError::Permanent`] if a workload has an image open.
pub(crate) async fn run(ctx: &Context, settings: &Rbd) -> Result<StepDone, StepError> {
    run_with(ctx, settings, blocklist::PATIENCE).await
}

async fn run_with(ctx: &Context, settings: &Rbd, patience: Patience) -> Result<StepDone, StepError> {
    let cli = Cli::of_standby(settings);
    let noted = blocklist::noted(ctx)?;
    // Side by side: rbd-mirror does not come back once it is stopped, and one that is stopping is refused meanwhile. Each
    // reads first what is done already.
    let (stopped, mut refused) = tokio::try_join!(stop(ctx, settings), blocklist::clear(ctx, &cli, patience, noted))?;
    if settings.quiesce != Quiesce::None {
        // It may have come back while the stop was under way.
        refused = blocklist::clear(ctx, &cli, patience, refused).await?;
    }
    Ok(StepDone::saying(format!("{stopped}; blocklisted {}; no watcher left", words(&refused))))
}

fn words(addresses: &[String]) -> String {
    if addresses.is_empty() { "nobody".into() } else { addresses.join(", ") }
}

/// Stops what is not stopped already. Says what it found or did.
async fn stop(ctx: &Context, settings: &Rbd) -> Result<String, StepError> {
    match &settings.quiesce {
        Quiesce::None => Ok("rbd-mirror left running".into()),
        Quiesce::Deployment(deployment) => stop_deployment(ctx, settings, deployment).await,
        Quiesce::Command(command) => {
            if ctx.noted(COMMAND) != Some(STOPPED) {
                ctx.gate.note(COMMAND, STOPPING.into()).await?;
                run_command("the stop command of rbd-mirror", &command.stop, ctx.gate.permit().await?).await?;
                ctx.gate.note(COMMAND, STOPPED.into()).await?;
            }
            Ok("rbd-mirror stopped by command".into())
        }
    }
}

async fn stop_deployment(ctx: &Context, settings: &Rbd, deployment: &DeploymentRef) -> Result<String, StepError> {
    let now = replicas(ctx, settings, deployment).await?;
    let name = full_name(deployment);
    let Some(now) = now else {
        return Err(StepError::permanent(format!(
            "there is no Deployment {name} at B: correct storage.rbd.quiesce.deployment"
        )));
    };
    // The first note counts: a later try finds the 0 that an earlier one has set.
    if ctx.noted(REPLICAS).is_none() {
        ctx.gate.note(REPLICAS, now.to_string()).await?;
    }
    if now == 0 {
        return Ok(format!("Deployment {name} has no replicas"));
    }
    scale(ctx, settings, deployment, 0, ctx.gate.permit().await?).await?;
    Ok(format!("Deployment {name} scaled from {now} to 0"))
}

/// Brings rbd-mirror back to how it was before the quiesce. Says what it did.
///
/// # Errors
/// [`StepError`] if it can not be done now.
pub(crate) async fn start_again(ctx: &Context, settings: &Rbd) -> Result<String, StepError> {
    let note = |key: &str| ctx.order.notes.get(&format!("{}/{key}", Step::Quiesce)).map(String::as_str);
    match &settings.quiesce {
        Quiesce::None => Ok("rbd-mirror was left running".into()),
        Quiesce::Deployment(deployment) => match note(REPLICAS).and_then(|text| text.parse().ok()) {
            None | Some(0) => Ok("its Deployment was not touched".into()),
            Some(before) => scale_back(ctx, settings, deployment, before).await,
        },
        Quiesce::Command(command) => match note(COMMAND) {
            None => Ok("rbd-mirror was not stopped".into()),
            Some(_) => {
                run_command("the start command of rbd-mirror", &command.start, ctx.gate.permit().await?).await?;
                Ok("rbd-mirror started by command".into())
            }
        },
    }
}

async fn scale_back(
    ctx: &Context,
    settings: &Rbd,
    deployment: &DeploymentRef,
    before: i32,
) -> Result<String, StepError> {
    let name = full_name(deployment);
    match replicas(ctx, settings, deployment).await? {
        // Only our own 0 is undone: whoever set another number since then had a reason.
        Some(0) => {
            scale(ctx, settings, deployment, before, ctx.gate.permit().await?).await?;
            Ok(format!("Deployment {name} scaled to {before}"))
        }
        Some(now) => Ok(format!("Deployment {name} has {now} replicas")),
        None => Ok(format!("Deployment {name} is not there any more")),
    }
}

/// How many replicas the Deployment is to have; none if there is no such Deployment.
async fn replicas(ctx: &Context, settings: &Rbd, deployment: &DeploymentRef) -> Result<Option<i32>, StepError> {
    let what = format!("failed to read the Deployment {}", full_name(deployment));
    let transient = |what, source| StepError::Transient { what, source: Some(source) };
    match time::timeout(settings.timeout.0, deployments(ctx, deployment)?.get_scale(&deployment.name)).await {
        Ok(Ok(scale)) => Ok(Some(scale.spec.and_then(|spec| spec.replicas).unwrap_or(0))),
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(None),
        Ok(Err(kube::Error::Api(status))) if matches!(status.code, 401 | 403) => Err(StepError::Permanent {
            what: format!("{what}: the right to get and patch deployments/scale is missing"),
            source: Some(Box::new(kube::Error::Api(status))),
        }),
        Ok(Err(error)) => Err(transient(what, Box::new(error))),
        Err(elapsed) => Err(transient(what, Box::new(elapsed))),
    }
}

/// Sets the number of replicas. Safe to repeat: the number is set, not added.
async fn scale(
    ctx: &Context,
    settings: &Rbd,
    deployment: &DeploymentRef,
    to: i32,
    permit: Permit,
) -> Result<(), StepError> {
    let what = format!("failed to scale the Deployment {} to {to}", full_name(deployment));
    let patch = Patch::Merge(json!({ "spec": { "replicas": to } }));
    let api = deployments(ctx, deployment)?;
    let params = PatchParams::default();
    let call = api.patch_scale(&deployment.name, &params, &patch);
    match time::timeout(settings.timeout.0.min(permit.remaining()), call).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(kube::Error::Api(status))) if matches!(status.code, 401 | 403 | 404 | 422) => {
            Err(StepError::Permanent { what, source: Some(Box::new(kube::Error::Api(status))) })
        }
        Ok(Err(kube::Error::Api(status))) if status.code < 500 => {
            Err(StepError::Transient { what, source: Some(Box::new(kube::Error::Api(status))) })
        }
        Ok(Err(error)) => Err(StepError::Unknown { what, source: Some(Box::new(error)) }),
        Err(elapsed) => Err(StepError::Unknown { what, source: Some(Box::new(elapsed)) }),
    }
}

fn deployments(ctx: &Context, deployment: &DeploymentRef) -> Result<Api<Deployment>, StepError> {
    let client = ctx.standby.clone().ok_or_else(|| {
        StepError::permanent("no API server of B is configured: set clusters.standby, or quiesce by command")
    })?;
    Ok(Api::namespaced(client, &deployment.namespace))
}

fn full_name(deployment: &DeploymentRef) -> String {
    format!("{}/{}", deployment.namespace, deployment.name)
}

async fn run_command(name: &str, words: &[String], permit: Permit) -> Result<(), StepError> {
    let within = COMMAND_WITHIN.min(permit.remaining());
    let call = Call { name: name.into(), words: words.to_vec(), env: Vec::new(), within };
    match process::run(call).await {
        Ok(answer) if answer.exit == Exit::Fine => Ok(()),
        Ok(answer) => Err(StepError::unknown(format!("{name} failed with {}: {}", answer.exit, answer.last_words))),
        Err(error) if error.nothing_was_run() => {
            Err(StepError::Permanent { what: format!("failed to run {name}"), source: Some(Box::new(error)) })
        }
        Err(error) => Err(StepError::Unknown { what: format!("failed to run {name}"), source: Some(Box::new(error)) }),
    }
}

#[cfg(test)]
pub(crate) mod tests;
