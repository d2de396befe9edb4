//! Reads at B which snapshot of each image a forced promote would leave. Afterwards nobody can tell any more.
//!
//! In: the pair's images. Out: [`Finding::Mirror`]; which snapshot counts, and whether the loss is within bounds, is for
//! the core. It reads and nothing else. Start reading at [`run`].

use futures::future::try_join_all;
use understudy_config::Rbd;
use understudy_config::rbd::{self as said, ImageStatus, Info};
use understudy_core::{Finding, ImageFacts, ImageName, MirrorFacts};

use crate::rbd::Cli;
use crate::{Context, StepDone, StepError};

/// Looks at every image of the pair.
///
/// # Errors
/// [`StepError::Permanent`] where an unfinished forced promote left its mark or an answer can not be understood.
pub(crate) async fn run(ctx: &Context, settings: &Rbd) -> Result<StepDone, StepError> {
    let cli = Cli::of_standby(settings);
    let images = try_join_all(ctx.order.images.iter().map(|image| look(&cli, image))).await?;
    if images.is_empty() {
        return Err(StepError::permanent("the pair has no images: name them in storage.rbd.images"));
    }
    if let Some(orphaned) = images.iter().find(|facts| facts.orphan) {
        return Err(StepError::permanent(orphan(&orphaned.image)));
    }
    let detail = images.iter().map(sentence).collect::<Vec<_>>().join("; ");
    Ok(StepDone::finding(detail, Finding::Mirror(MirrorFacts { images })))
}

/// What a human is told of an image that bears the mark of an unfinished forced promote.
pub(crate) fn orphan(image: &ImageName) -> String {
    format!(
        "{image} bears the mark of a forced promote that did not finish, so that nobody knows what its head holds: look at \
         `rbd snap ls --all {image}` and at the data; only a human may promote it, by hand"
    )
}

/// One look at one image. The status comes first, so that the time it names is never later than the truth; a status that
/// can not be read only means that no time is learnt from it.
async fn look(cli: &Cli<'_>, image: &ImageName) -> Result<ImageFacts, StepError> {
    let status = cli.status(image).await.ok();
    let (_, facts) = read(cli, image, status.as_ref()).await?;
    Ok(facts)
}

/// Role and snapshots of one image.
pub(crate) async fn read(
    cli: &Cli<'_>,
    image: &ImageName,
    status: Option<&ImageStatus>,
) -> Result<(Info, ImageFacts), StepError> {
    let (info, snapshots) = tokio::try_join!(cli.info(image), cli.snapshots(image))?;
    let facts = said::facts(image, status, &info, &snapshots).map_err(|error| StepError::Permanent {
        what: "failed to understand the image".into(),
        source: Some(Box::new(error)),
    })?;
    Ok((info, facts))
}

fn sentence(facts: &ImageFacts) -> String {
    let image = &facts.image;
    let newest = facts.newest_complete.map_or("none".into(), |id| id.to_string());
    match (facts.primary, facts.syncing, facts.progress) {
        (true, ..) => format!("{image} is primary already"),
        (false, None, _) => format!("{image} is in step at snapshot {newest}"),
        (false, Some(id), Some((copied, of))) => format!(
            "{image} is in the middle of a sync: {copied} of {of} objects of snapshot {id}, newest whole snapshot {newest}"
        ),
        (false, Some(id), None) => {
            format!("{image} is in the middle of a sync of snapshot {id}, newest whole snapshot {newest}")
        }
    }
}

#[cfg(test)]
mod tests;
