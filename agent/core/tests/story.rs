//! The whole story, from a healthy site to an active standby, as one reading order.

mod common;

use common::*;
use understudy_core::*;

#[test]
fn a_dead_site_is_confirmed_by_a_human_and_moved_step_by_step() {
    let mut world = World::healthy(policy());
    assert_eq!(world.verdict(), Verdict::Up);

    world.sees = DEAD;
    world.run(20);
    assert_eq!(world.verdict(), Verdict::SiteDown);
    assert_eq!(world.writes(), 0);

    world.approve().expect("the request is good");
    world.play_until(None);

    assert_eq!(world.durable().role, Role::AtB);
    assert!(matches!(world.run_state().phase, Phase::Ended { ending: Ending::Succeeded, .. }));
    let order: Vec<Step> = world.orders().iter().map(|o| o.step).collect();
    assert_eq!(order.last(), Some(&Step::Report));
    let at = |step| order.iter().position(|s| *s == step).expect("the step was run");
    assert!(at(Step::Fence) < at(Step::ConsistencyPoint));
    assert!(at(Step::ConsistencyPoint) < at(Step::Quiesce));
    assert!(at(Step::Quiesce) < at(Step::Promote) && at(Step::Bound) < at(Step::Promote));
    assert!(at(Step::Promote) < at(Step::UndoPoint) && at(Step::UndoPoint) < at(Step::Deploy));
    assert!(at(Step::Verify) < at(Step::Route(0)) && at(Step::Route(0)) < at(Step::Route(1)));
    assert!(at(Step::Route(1)) < at(Step::RouteCheck));
}

#[test]
fn the_state_read_back_from_the_journal_is_the_state_that_was() {
    let mut world = World::failing_over(policy());
    world.play_until(Some(Step::Deploy));

    let restored = State::restore(&world.policy, world.journal.clone(), world.now);

    // But for this: who was away has lost A out of sight.
    let mut was = world.durable().clone();
    was.lose_sight();
    assert_eq!(restored.durable(PAIR), Some(&was));
}
