//! A snapshot of each promoted image before Nexus touches it, so that a human can come back to this point.
//!
//! In: the images. Out: a snapshot `understudy-RUN` on each. Nothing here ever deletes one (S7). Start reading at [`run`].

use futures::future::try_join_all;
use understudy_config::Rbd;
use understudy_core::ImageName;

use crate::rbd::Cli;
use crate::{Context, StepDone, StepError};

/// Takes the snapshots that are not there.
///
/// # Errors
/// [`StepError`] if one can not be taken.
pub(crate) async fn run(ctx: &Context, settings: &Rbd) -> Result<StepDone, StepError> {
    let cli = Cli::of_standby(settings);
    let name = snapshot_name(ctx);
    let taken = try_join_all(ctx.order.images.iter().map(|image| take(ctx, &cli, image, &name))).await?;
    Ok(StepDone::saying(format!("{} kept", taken.join(", "))))
}

/// Takes one, reading first: a name is taken once only.
async fn take(ctx: &Context, cli: &Cli<'_>, image: &ImageName, name: &str) -> Result<String, StepError> {
    let full = format!("{image}@{name}");
    if !is_there(cli, image, name).await? {
        cli.take_snapshot(&full, ctx.gate.permit().await?).await?;
        if !is_there(cli, image, name).await? {
            return Err(StepError::unknown(format!("{full} was taken, but it is not there")));
        }
    }
    Ok(full)
}

async fn is_there(cli: &Cli<'_>, image: &ImageName, name: &str) -> Result<bool, StepError> {
    Ok(cli.snapshots(image).await?.iter().any(|snapshot| snapshot.mirror.is_none() && snapshot.name == name))
}

/// `@` and `/` would end the name of a snapshot.
fn snapshot_name(ctx: &Context) -> String {
    format!("understudy-{}", ctx.order.run.as_str().replace(['@', '/'], "_"))
}

#[cfg(test)]
mod tests;
