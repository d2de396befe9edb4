//! The order of a failover as it must be, written down apart from the core's own (S9, S6, S7).

use understudy_core::{PlanPolicy, Step};

/// Without these a plan is none: what safety rests on may not be left out by leaving it out of the plan.
const INDISPENSABLE: [Step; 5] = [Step::Recheck, Step::Fence, Step::PromoteRecheck, Step::Promote, Step::Verify];

/// The steps that a plan must have by these rules.
pub fn required(rules: Option<&PlanPolicy>) -> Vec<Step> {
    let mut steps = INDISPENSABLE.to_vec();
    let Some(rules) = rules else { return steps };
    if rules.mirrored {
        steps.extend([Step::ConsistencyPoint, Step::Quiesce, Step::MirrorBack]);
    }
    if rules.kubernetes {
        steps.extend([Step::Restore, Step::Bound, Step::Deploy]);
    }
    steps.extend((0..rules.routes.len()).map_while(|n| u8::try_from(n).ok()).map(Step::Route));
    if rules.route_check {
        steps.push(Step::RouteCheck);
    }
    steps
}

/// What must have been done before `step`, not only left out, if the plan has it.
pub fn done_before(step: Step) -> &'static [Step] {
    match step {
        Step::Fence | Step::Restore => &[Step::Recheck],
        Step::ConsistencyPoint => &[Step::Recheck, Step::Fence],
        Step::Quiesce => &[Step::Fence, Step::ConsistencyPoint],
        Step::PromoteRecheck => &[Step::Fence, Step::ConsistencyPoint, Step::Quiesce, Step::Bound],
        Step::Promote => &[Step::Fence, Step::ConsistencyPoint, Step::Quiesce, Step::Bound, Step::PromoteRecheck],
        Step::UndoPoint | Step::MirrorBack => &[Step::Promote],
        Step::Deploy => &[Step::Promote, Step::Bound],
        Step::Verify => &[Step::Promote],
        Step::Route(_) | Step::RouteCheck | Step::Report => &[Step::Promote, Step::Verify],
        Step::Recheck | Step::Bound => &[],
    }
}

/// What must be over before `step`, done or left out by a human, if the plan has it.
pub fn over_before(step: Step) -> &'static [Step] {
    match step {
        Step::Bound => &[Step::Restore],
        Step::MirrorBack | Step::Deploy => &[Step::UndoPoint],
        Step::Verify => &[Step::Deploy],
        Step::Report => &[Step::RouteCheck, Step::MirrorBack],
        _ => &[],
    }
}

/// Whether `earlier` is a route that must have moved before `step`.
pub fn route_before(earlier: Step, step: Step) -> bool {
    match (earlier, step) {
        (Step::Route(a), Step::Route(b)) => a < b,
        (Step::Route(_), Step::RouteCheck | Step::Report) => true,
        _ => false,
    }
}

/// What a human may leave out: nothing that safety rests on.
pub fn may_be_left_out(step: Step) -> bool {
    matches!(
        step,
        Step::Restore
            | Step::UndoPoint
            | Step::Deploy
            | Step::Route(_)
            | Step::RouteCheck
            | Step::MirrorBack
            | Step::Report
    )
}

/// Steps that only look, done by the core itself.
pub fn is_recheck(step: Step) -> bool {
    matches!(step, Step::Recheck | Step::PromoteRecheck)
}
