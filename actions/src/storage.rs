//! The seam between the plan and a kind of storage.
//!
//! A kind of storage answers each of these steps of the plan; what it answers rests on these rules:
//!
//! - [`promote()`] comes after fence, quiesce and the second recheck, and, where the plan has them, after PV and PVC are there
//!   and Bound. So a driver whose promote is an object beside the PVC, and which forces by itself once that object is
//!   written, can write it here and nowhere else.
//! - [`promote()`] is done when the world says that every volume is primary at B, and it is never repeated by itself.
//! - [`consistency_point`], [`quiesce()`], [`undo_point()`] and [`mirror_back()`] are in the plan where the policy says that the
//!   storage is mirrored. [`mirror_back()`] is also the way out before the promote.
//!
//! `rbd` answers all of them. `hooks` answers the promote, and the consistency point if there is a hook that tells the copy's
//! age: who replicates there, how to hold it still and how to start it again is not known here, so that the plan leaves the
//! other steps out. A new kind is a variant of
//! [`understudy_config::Storage`], and does not compile until it has answered every step.

use understudy_config::{Hook, Pair, Rbd, Storage};
use understudy_core::{ImageName, MirrorFacts};

use crate::rbd::Cli;
use crate::{
    Context, StepDone, StepError, Words, consistency, hooks_storage, mirror_back, promote, quiesce, undo_point,
};

/// What keeps B's own storage from being used, as far as a look tells: the first fault; none = it answers. Reads alone, and asks
/// nothing of A.
pub async fn unfit(pair: &Pair) -> Option<String> {
    match &pair.storage {
        Storage::Rbd(settings) => {
            let cli = Cli::of_standby(settings);
            for image in &settings.images {
                if let Err(error) = cli.info(&ImageName(image.clone())).await {
                    return Some(format!("image {image} at B: {}", error.whole()));
                }
            }
            None
        }
        // What a status hook says is for the promote: it may be slow, and dear to ask.
        Storage::Hooks(_) => None,
    }
}

/// Reads what a promote would leave.
///
/// # Errors
/// [`StepError`] if it can not be told.
pub async fn consistency_point(ctx: &Context) -> Result<StepDone, StepError> {
    match &ctx.pair.storage {
        Storage::Rbd(settings) => consistency::run(ctx, settings).await,
        Storage::Hooks(hooks) => hooks_storage::consistency_point(ctx, hooks).await,
    }
}

/// What the age hook says of B's copy, as facts of one image.
///
/// # Errors
/// [`StepError`] if it does not say.
pub async fn copy_age(age: &Hook, words: &Words) -> Result<MirrorFacts, StepError> {
    hooks_storage::copy_age(age, words).await
}

/// Keeps the replication from touching the volumes.
///
/// # Errors
/// [`StepError`] if something still has them open.
pub async fn quiesce(ctx: &Context) -> Result<StepDone, StepError> {
    quiesce::run(ctx, mirrored(ctx)?).await
}

/// Makes B primary.
///
/// # Errors
/// [`StepError`] wherever it is not certain that every volume is primary at B.
pub async fn promote(ctx: &Context) -> Result<StepDone, StepError> {
    match &ctx.pair.storage {
        Storage::Rbd(settings) => promote::run(ctx, settings).await,
        Storage::Hooks(hooks) => hooks_storage::promote(ctx, hooks).await,
    }
}

/// Keeps a way back to the promoted volumes as they are now.
///
/// # Errors
/// [`StepError`] if it can not be kept.
pub async fn undo_point(ctx: &Context) -> Result<StepDone, StepError> {
    undo_point::run(ctx, mirrored(ctx)?).await
}

/// Brings the replication back to how it was before [`quiesce()`].
///
/// # Errors
/// [`StepError`] if it can not be brought back now.
pub async fn mirror_back(ctx: &Context) -> Result<StepDone, StepError> {
    mirror_back::run(ctx, mirrored(ctx)?).await
}

fn mirrored(ctx: &Context) -> Result<&Rbd, StepError> {
    match &ctx.pair.storage {
        Storage::Rbd(settings) => Ok(settings),
        Storage::Hooks(_) => Err(StepError::permanent(format!(
            "storage by hooks has no step {}: the settings changed while the run was under way",
            ctx.order.step
        ))),
    }
}

#[cfg(test)]
mod tests {
    use understudy_core::Step;

    use super::*;
    use crate::testing_rbd::Site;

    fn pair(site: &Site) -> Pair {
        let mut pair = (*site.context(Step::Promote).pair).clone();
        pair.storage = Storage::Rbd(site.settings(""));
        pair
    }

    #[tokio::test]
    async fn storage_that_answers_for_every_image_is_fit() {
        let site = Site::with(&["rbd/data", "rbd/db"]);

        assert_eq!(unfit(&pair(&site)).await, None);
        assert_eq!(site.calls("rbd info").len(), 2);
    }

    #[tokio::test]
    async fn an_image_that_can_not_be_looked_at_is_named_with_the_cause() {
        let site = Site::with(&["rbd/data"]);
        site.break_call("info", "exit 2");

        let fault = unfit(&pair(&site)).await.expect("it is not fit");

        assert!(fault.starts_with("image rbd/data at B: ") && fault.contains("no such pool or image"), "{fault}");
    }
}
