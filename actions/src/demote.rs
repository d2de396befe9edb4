//! Demotes A's images by A's own `rbd`, for the fence.
//!
//! In: A's `rbd` command. Out: [`DemoteOutcome`]. An A that does not answer is no error here but an unconfirmed fence; what
//! follows from that is for the core. Start reading at [`demote_primary`].

use std::time::Duration;

use futures::future::join_all;
use understudy_core::ImageName;

use crate::Context;
use crate::rbd::Cli;

/// One look at A, which takes 0.1 s where A lives. While it is gone the whole failover waits for this look to end.
const LOOK_WITHIN: Duration = Duration::from_secs(6);

/// Took 0.8 to 3.8 s on an idle cluster of Ceph 16.
const DEMOTE_WITHIN: Duration = Duration::from_secs(30);

/// How the demotion of A ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DemoteOutcome {
    /// A's own Ceph says that none of the images is primary there.
    Confirmed {
        /// What was read.
        how: String,
    },
    /// It does not say so.
    Unconfirmed {
        /// What was tried.
        why: String,
    },
}

/// Demotes every image of the pair at A, and reads the role back.
pub async fn demote_primary(ctx: &Context, rbd: &[String]) -> DemoteOutcome {
    let cli = Cli::of_primary(rbd, LOOK_WITHIN);
    let results = join_all(ctx.order.images.iter().map(|image| demote(ctx, &cli, image))).await;
    let open: Vec<String> = results.into_iter().filter_map(Result::err).collect();
    if ctx.order.images.is_empty() {
        return DemoteOutcome::Unconfirmed { why: "the pair has no images to demote".into() };
    }
    if open.is_empty() {
        let images = ctx.order.images.iter().map(ImageName::as_str).collect::<Vec<_>>().join(", ");
        return DemoteOutcome::Confirmed { how: format!("A's own rbd says that it is not primary for {images}") };
    }
    DemoteOutcome::Unconfirmed { why: open.join("; ") }
}

/// What counts is the role that is read afterwards, also where the demotion itself failed or did not end in time.
async fn demote(ctx: &Context, cli: &Cli<'_>, image: &ImageName) -> Result<(), String> {
    let failed = |error: crate::StepError| format!("{image} at A: {}", error.whole());
    if !is_primary(cli, image).await.map_err(failed)? {
        return Ok(());
    }
    let permit = ctx.gate.permit().await.map_err(failed)?;
    let demoted = cli.demote(image, DEMOTE_WITHIN, permit).await;
    match (is_primary(cli, image).await, demoted) {
        (Ok(false), _) => Ok(()),
        (Ok(true), Ok(())) => Err(format!("{image} at A: demoted, yet it calls itself primary")),
        (Ok(true), Err(error)) | (Err(_), Err(error)) => Err(failed(error)),
        (Err(error), Ok(())) => Err(failed(error)),
    }
}

async fn is_primary(cli: &Cli<'_>, image: &ImageName) -> Result<bool, crate::StepError> {
    let mirroring = cli.info(image).await?.mirroring;
    let mirroring = mirroring.ok_or_else(|| crate::StepError::permanent(format!("{image} is not mirrored at A")))?;
    Ok(mirroring.primary)
}

#[cfg(test)]
mod tests;
