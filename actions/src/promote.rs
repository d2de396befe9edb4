//! Makes all images of the pair primary at B, by force.
//!
//! This is the point of no return. First every image that an earlier try has begun is waited for and judged
//! ([`promote_try`](crate::promote_try)). Then *all* images that are left are asked whether they may be promoted: nobody
//! has them open, no promote has left its mark on them, their snapshots are those of the consistency point, and what the
//! order rests on is still young. Only then all
//! of them are promoted, at the same time: each needs four commits of Ceph's monitor, and together they share them.
//!
//! In: the images, and what the consistency point said of them. Out: every image primary, or which one is not. Start
//! reading at [`run`].

use std::time::Duration;

use futures::future::join_all;
use tokio::time;
use understudy_config::Rbd;
use understudy_core::{Failure, ImageFacts, ImageName, ImagePoint};

use crate::promote_try::{Promote, Started, Subject, in_time};
use crate::rbd::Cli;
use crate::{Context, StepDone, StepError, blocklist, consistency};

/// The core never repeats a promote by itself, so that a look that failed for a moment is repeated here ...
const LOOKS: u32 = 4;

/// ... after this time.
const LOOK_PAUSE: Duration = Duration::from_millis(500);

/// Promotes every image that is not primary.
///
/// # Errors
/// [`StepError::Permanent`] wherever a human must look. The images that could be promoted are.
pub(crate) async fn run(ctx: &Context, settings: &Rbd) -> Result<StepDone, StepError> {
    let cli = Cli::of_standby(settings);
    let image = |image| Promote { ctx, subject: Image { cli, image } };
    let promotes: Vec<Promote<'_, Image<'_>>> = ctx.order.images.iter().map(image).collect();
    if promotes.is_empty() {
        return Err(StepError::permanent("the pair has no images: name them in storage.rbd.images"));
    }
    let settled = all(join_all(promotes.iter().map(Promote::settle)).await)?;
    let left = promotes.iter().zip(&settled).filter(|(_, settled)| settled.is_none()).map(|(promote, _)| promote);
    let left: Vec<_> = left.collect();
    if !left.is_empty() {
        in_time(ctx, &promotes)?;
        all(join_all(left.iter().map(|promote| promote.subject.check(ctx))).await)?;
        in_time(ctx, &promotes)?;
    }
    let mut started = Vec::new();
    for promote in left {
        // One that can not be started holds up none that is.
        started.push(promote.start().await);
    }
    let ended = all(join_all(started.into_iter().map(finish)).await)?;
    Ok(StepDone::saying(settled.into_iter().flatten().chain(ended).collect::<Vec<_>>().join("; ")))
}

async fn finish(started: Result<Started<'_, Image<'_>>, StepError>) -> Result<String, StepError> {
    started?.finish().await
}

/// All values, or one error that says what is wrong with each image: the gravest counts.
fn all<T>(results: Vec<Result<T, StepError>>) -> Result<Vec<T>, StepError> {
    let (good, bad): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    let mut errors: Vec<StepError> = bad.into_iter().filter_map(Result::err).collect();
    if errors.len() < 2 {
        return errors.pop().map_or_else(|| Ok(good.into_iter().flatten().collect()), Err);
    }
    let what = errors.iter().map(StepError::whole).collect::<Vec<_>>().join("; ");
    let worst = |failure| errors.iter().any(|error| error.failure() == failure);
    Err(match () {
        () if worst(Failure::Permanent) => StepError::permanent(what),
        () if worst(Failure::Unknown) => StepError::unknown(what),
        () => StepError::transient(what),
    })
}

/// An image of the pair.
struct Image<'a> {
    cli: Cli<'a>,
    image: &'a ImageName,
}

/// What the world says of an image.
enum Seen {
    /// It is primary and nothing is left of the way there.
    Primary,
    /// It is a copy, without a mark of a promote.
    Copy(ImageFacts),
    /// Neither the one nor the other.
    Unclean(String),
}

impl Subject for Image<'_> {
    fn name(&self) -> &str {
        self.image.as_str()
    }

    fn words(&self) -> Vec<String> {
        self.cli.promote_words(self.image)
    }

    fn env(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    async fn is_primary(&self) -> Result<bool, StepError> {
        match patiently(|| self.look()).await? {
            Seen::Primary => Ok(true),
            Seen::Copy(_) => Ok(false),
            Seen::Unclean(why) => Err(StepError::permanent(why)),
        }
    }
}

impl Image<'_> {
    /// Whether the image may be promoted: asked right before.
    async fn check(&self, ctx: &Context) -> Result<(), StepError> {
        let images = std::slice::from_ref(self.image);
        let (open, seen) =
            tokio::try_join!(patiently(|| blocklist::opened(&self.cli, images)), patiently(|| self.look()))?;
        if !open.is_empty() {
            return Err(StepError::permanent(format!(
                "nothing was promoted: still open: {}; a forced promote would hang: see it stopped, then retry \
                 (a client that was killed is forgotten after some 30 s)",
                blocklist::list(&open)
            )));
        }
        let facts = match seen {
            Seen::Copy(facts) => facts,
            // Between two looks somebody has promoted it.
            Seen::Primary => return Err(StepError::permanent(format!("{} became primary, by whom?", self.image))),
            Seen::Unclean(why) => return Err(StepError::permanent(why)),
        };
        let point = ctx.order.points.iter().find(|point| point.image == *self.image).ok_or_else(|| {
            StepError::permanent(format!("nothing was promoted: no consistency point of {} was read", self.image))
        })?;
        same_copy(point, &facts)
    }

    async fn look(&self) -> Result<Seen, StepError> {
        let (info, facts) = consistency::read(&self.cli, self.image, None).await?;
        if facts.orphan {
            return Ok(Seen::Unclean(consistency::orphan(self.image)));
        }
        if !facts.primary {
            return Ok(Seen::Copy(facts));
        }
        let image = self.image;
        match () {
            () if facts.syncing.is_some() => Ok(Seen::Unclean(format!(
                "{image} is called primary, but a sync is still under way on it: look at `rbd snap ls --all {image}`"
            ))),
            // Seen on Ceph 16: a promote that was killed in its last second leaves an image that is called primary and
            // refuses every write; a second `promote --force` says that it is primary already.
            () if info.non_primary => Ok(Seen::Unclean(format!(
                "{image} is called primary, but it can not be written to, since its promote did not finish: a human may \
                 `rbd mirror image demote {image}` and promote it by force again"
            ))),
            () => Ok(Seen::Primary),
        }
    }
}

/// What the approver was told of is what is promoted.
fn same_copy(point: &ImagePoint, facts: &ImageFacts) -> Result<(), StepError> {
    let (then, now) = ((point.newest_complete, point.mid_sync), (facts.newest_complete, facts.syncing.is_some()));
    if then == now {
        return Ok(());
    }
    let say = |(newest, mid_sync): (Option<u64>, bool)| {
        let newest = newest.map_or("none".into(), |id| id.to_string());
        format!("newest whole snapshot {newest}, {}", if mid_sync { "in the middle of a sync" } else { "in step" })
    };
    Err(StepError::permanent(format!(
        "nothing was promoted: the copy of {} changed since it was read: then {}, now {}; abandon this run and start anew",
        facts.image,
        say(then),
        say(now)
    )))
}

/// Repeats a look that failed for a moment.
async fn patiently<T, F: Future<Output = Result<T, StepError>>>(look: impl Fn() -> F) -> Result<T, StepError> {
    let mut tries = 1;
    loop {
        match look().await {
            Err(error) if error.failure() == Failure::Transient && tries < LOOKS => tries += 1,
            result => return result,
        }
        time::sleep(LOOK_PAUSE).await;
    }
}

#[cfg(test)]
mod tests;
