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
//! `rbd` answers all of them. `hooks` answers the promote alone: who replicates there, how to hold it still and how to start
//! it again is not known here, so that the plan leaves the other steps out. A new kind is a variant of
//! [`understudy_config::Storage`], and does not compile until it has answered every step.

use understudy_config::{Rbd, Storage};

use crate::{Context, StepDone, StepError, consistency, hooks_storage, mirror_back, promote, quiesce, undo_point};

/// Reads what a promote would leave.
///
/// # Errors
/// [`StepError`] if it can not be told.
pub async fn consistency_point(ctx: &Context) -> Result<StepDone, StepError> {
    consistency::run(ctx, mirrored(ctx)?).await
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
