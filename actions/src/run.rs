//! Leads an order to its step.

use std::future::ready;

use futures::future::BoxFuture;
use understudy_config::RouteTarget;
use understudy_core::{Finding, Step, StepResult};

use crate::{
    Context, StepError, bound, deploy, dns_update, fence, restore, route_check, route_webhook, storage, verify,
};

/// What a step that came about has to say. It was read back from the world.
#[derive(Debug, Default)]
pub struct StepDone {
    /// For the report.
    pub detail: String,
    /// For other steps.
    pub finding: Finding,
}

impl StepDone {
    /// Nothing but a sentence for the report.
    pub fn saying(detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), finding: Finding::Nothing }
    }

    /// A sentence for the report, and what other steps need.
    pub fn finding(detail: impl Into<String>, finding: Finding) -> Self {
        Self { detail: detail.into(), finding }
    }
}

impl From<StepDone> for StepResult {
    fn from(done: StepDone) -> Self {
        StepResult::Done { detail: done.detail, finding: done.finding }
    }
}

/// Carries out one try of a step. Each step reads the world before it writes, so that a step done already is done.
pub async fn run(ctx: Context) -> StepResult {
    match dispatch(&ctx).await {
        Ok(done) => done.into(),
        Err(error) => error.into_result(),
    }
}

/// Each step is boxed where its type is known: the compiler can not see through all of them at once that they are Send.
fn dispatch(ctx: &Context) -> BoxFuture<'_, Result<StepDone, StepError>> {
    match ctx.order.step {
        Step::Recheck | Step::PromoteRecheck => {
            let what = format!("{} is the core's own step: nothing was done", ctx.order.step);
            Box::pin(ready(Err(StepError::permanent(what))))
        }
        Step::Fence => Box::pin(fence::run(ctx)),
        Step::Restore => Box::pin(restore::run(ctx)),
        Step::Bound => Box::pin(bound::run(ctx)),
        Step::ConsistencyPoint => Box::pin(storage::consistency_point(ctx)),
        Step::Quiesce => Box::pin(storage::quiesce(ctx)),
        Step::Promote => Box::pin(storage::promote(ctx)),
        Step::UndoPoint => Box::pin(storage::undo_point(ctx)),
        Step::MirrorBack => Box::pin(storage::mirror_back(ctx)),
        Step::Deploy => Box::pin(deploy::run(ctx)),
        Step::Verify => Box::pin(verify::run(ctx)),
        Step::Route(number) => Box::pin(route(ctx, number)),
        // The agent writes the report from the journal; nothing outside changes.
        Step::Report => Box::pin(ready(Ok(StepDone::saying("")))),
        Step::RouteCheck => Box::pin(route_check::run(ctx)),
    }
}

async fn route(ctx: &Context, number: u8) -> Result<StepDone, StepError> {
    match ctx.pair.route.get(usize::from(number)) {
        Some(RouteTarget::Webhook(target)) => route_webhook::run(ctx, target).await,
        Some(RouteTarget::DnsUpdate(target)) => dns_update::run(ctx, target).await,
        None => Err(StepError::permanent(format!(
            "the settings have no route {number} any more: put it back, then retry, or skip the step"
        ))),
    }
}
