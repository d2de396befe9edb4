//! Brings the local rbd-mirror back to how it was before the quiesce, and adds the schedule for the way back.
//!
//! It is run after the promote, and on every way out before it. In: the notes of the quiesce. Out: our addresses off the
//! blocklist, rbd-mirror started again, and on a promoted image the schedule of mirror snapshots. Each part reads first, so
//! that twice is the same as once. Start reading at [`run`].

use futures::future::try_join_all;
use understudy_config::Rbd;
use understudy_core::ImageName;

use crate::rbd::Cli;
use crate::{Context, StepDone, StepError, blocklist, quiesce};

/// Takes back what the quiesce did.
///
/// # Errors
/// [`StepError`] if something can not be taken back now.
pub(crate) async fn run(ctx: &Context, settings: &Rbd) -> Result<StepDone, StepError> {
    let cli = Cli::of_standby(settings);
    // First, or rbd-mirror would start into the closed door.
    let lifted = blocklist::lift(ctx, &cli).await?;
    let started = quiesce::start_again(ctx, settings).await?;
    let mut detail = format!("{lifted} addresses off the blocklist; {started}");
    if let Some(interval) = &settings.schedule {
        let scheduled = try_join_all(ctx.order.images.iter().map(|image| schedule(ctx, &cli, image, interval))).await?;
        let scheduled: Vec<String> = scheduled.into_iter().flatten().collect();
        if !scheduled.is_empty() {
            detail.push_str(&format!("; mirror snapshots each {interval} of {}", scheduled.join(", ")));
        }
    }
    Ok(StepDone::saying(detail))
}

/// Adds the schedule to an image that is primary here. On the way out before a promote nothing is, and nothing is added.
async fn schedule(
    ctx: &Context,
    cli: &Cli<'_>,
    image: &ImageName,
    interval: &str,
) -> Result<Option<String>, StepError> {
    let primary = cli.info(image).await?.mirroring.is_some_and(|mirroring| mirroring.primary);
    if !primary {
        return Ok(None);
    }
    if !cli.schedule(image).await?.iter().any(|known| known == interval) {
        cli.add_schedule(image, interval, ctx.gate.permit().await?).await?;
    }
    Ok(Some(image.to_string()))
}

#[cfg(test)]
mod tests;
