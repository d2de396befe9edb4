//! A run that is taken up again after a restart, a pause or a lost lease rests on what is seen then (S2, S4, S6, S10).

mod common;

use common::*;
use understudy_core::*;

/// Every prefix of a run, as far as its journal got.
fn prefixes(world: &World) -> impl Iterator<Item = &[(Now, Record)]> {
    (0..=world.journal.len()).map(|n| &world.journal[..n])
}

/// The agent ends, and is started again after so many seconds, in which A became as it is now in `sees`.
fn restart_after(world: &mut World, seconds: u64, sees: Sees) {
    world.now = world.now + secs(seconds);
    world.sees = sees;
    world.sent.clear();
    world.restart();
    world.event(Event::Lease { pair: PAIR, until_ms: Some(world.now.boot_ms + 30_000), holder: None, epoch: None });
    world.event(Event::Tick);
}

/// The agent has died right after the recheck that the promote rests on was journaled, a minute ago.
fn held_up_after_the_recheck() -> World {
    let mut world = World::failing_over(policy());
    world.play_until(Some(Step::Promote));
    forget_all_after_the_recheck(&mut world);
    world.now = world.now + secs(60);
    world
}

fn forget_all_after_the_recheck(world: &mut World) {
    let passed = |(_, r): &(Now, Record)| matches!(r, Record::Outcome { step: Step::PromoteRecheck, .. });
    let at = world.journal.iter().position(passed).expect("it passed");
    world.journal.truncate(at + 1);
}

fn steps_sent(world: &World) -> Vec<Step> {
    world.orders().iter().map(|order| order.step).collect()
}

#[test]
fn a_fence_is_not_taken_up_again_at_an_a_that_came_back_meanwhile() {
    let mut world = World::failing_over(policy());
    assert!(is_running(&world, Step::Fence));

    restart_after(&mut world, 3600, ALIVE);
    world.run(10);
    world.play_until(None);

    assert_eq!(steps_sent(&world), []);
    assert!(matches!(ending(&world), Some(Ending::Stopped { .. })));
    assert_eq!(world.durable().role, Role::AtA);
}

#[test]
fn a_fence_is_taken_up_again_as_soon_as_a_was_seen_dead() {
    let mut world = World::failing_over(policy());

    restart_after(&mut world, 60, DEAD);
    assert_eq!(steps_sent(&world), []);
    world.run(10);

    assert!(steps_sent(&world).contains(&Step::Fence));
    world.play_until(None);
    assert_eq!(ending(&world), Some(Ending::Succeeded));
}

#[test]
fn a_quiesce_that_was_under_way_is_not_repeated_but_taken_back_when_a_came_back_meanwhile() {
    let mut world = World::failing_over(policy());
    world.play_until(Some(Step::Quiesce));

    restart_after(&mut world, 3600, ALIVE);
    world.run(10);
    world.play_until(None);

    assert_eq!(steps_sent(&world), [Step::MirrorBack]);
    assert!(matches!(ending(&world), Some(Ending::Stopped { .. })));
}

#[test]
fn a_run_that_was_stopping_takes_nothing_up_again_but_the_way_back() {
    let mut world = World::failing_over(policy());
    let run = world.run_state().id;
    world.order(Order::Abandon { run, reason: "A is back".into() }).expect("it can still be");
    assert!(is_running(&world, Step::Fence), "what is under way ends first");

    restart_after(&mut world, 60, DEAD);
    world.run(5);

    assert_eq!(steps_sent(&world), []);
    assert!(matches!(ending(&world), Some(Ending::Stopped { .. })));
}

#[test]
fn the_way_back_is_taken_up_again_after_a_restart() {
    let mut world = World::failing_over(policy());
    world.play_until(Some(Step::Bound));
    let run = world.run_state().id;
    world.order(Order::Abandon { run, reason: "A is back".into() }).expect("it can still be");
    world.done(Step::Bound);
    assert!(is_running(&world, Step::MirrorBack));

    restart_after(&mut world, 60, DEAD);

    assert_eq!(steps_sent(&world), [Step::MirrorBack]);
}

#[test]
fn a_step_that_waited_too_long_to_be_taken_up_again_is_a_humans_and_is_not_sent_behind_his_back() {
    let mut world = World::failing_over(policy());
    world.order(Order::Pause { for_ms: None, reason: "wait".into() }).expect("it can be paused");
    restart_after(&mut world, 10, DEAD);
    world.run(120);
    assert!(matches!(world.status(Step::Fence), StepStatus::Stuck { .. }));
    assert!(world.pages().contains(&PageKind::Stuck));

    world.order(Order::Resume).expect("it is paused");
    world.run(10);

    assert_eq!(steps_sent(&world), []);
}

#[test]
fn a_step_that_is_a_humans_since_it_waited_too_long_ends_no_second_time_when_the_run_is_given_up() {
    let mut world = World::failing_over(policy());
    world.order(Order::Pause { for_ms: None, reason: "wait".into() }).expect("it can be");
    restart_after(&mut world, 5, DEAD);
    world.run(120);
    assert!(is_stuck(&world, Step::Fence));

    let run = world.run_state().id;
    world.order(Order::Abandon { run, reason: "too late".into() }).expect("it can still be");

    let ends = world.records(|record| matches!(record, Record::Outcome { step: Step::Fence, .. }));
    assert_eq!(ends, 0, "nobody has heard of it");
    assert!(matches!(ending(&world), Some(Ending::Stopped { .. })));
}

#[test]
fn a_reading_of_before_a_pause_passes_no_recheck_after_it() {
    let mut world = World::failing_over(policy());
    world.play_until(Some(Step::Bound));
    world.done(Step::Bound);
    assert!(is_running(&world, Step::PromoteRecheck));
    world.order(Order::Pause { for_ms: None, reason: "wait".into() }).expect("it can be paused");
    world.second();

    // The look at Ceph is never made again; all others are.
    for _ in 0..60 {
        world.now = world.now + secs(1);
        world.event(Event::Tick);
        world.event(Event::Lease { pair: PAIR, until_ms: Some(world.now.boot_ms + 30_000), holder: None, epoch: None });
        world.event(Event::SelfRead { check: 0, observation: world.observe(Reading::Up) });
        for probe in [0, 1] {
            world.event(Event::Read { pair: PAIR, probe, observation: world.observe(DOWN) });
        }
    }
    world.order(Order::Resume).expect("it is paused");

    assert_eq!(world.status(Step::Promote), StepStatus::Pending);
}

#[test]
fn a_promote_that_nobody_began_is_rechecked_before_it_is_tried_again() {
    let mut world = World::failing_over(policy());
    world.play_until(Some(Step::Promote));
    let first = world.orders().pop().expect("it was sent").start_before_ms.expect("a promote has a limit");
    assert!(first > world.now.boot_ms);

    restart_after(&mut world, 60, DEAD);
    let order = world.orders().pop().expect("an earlier try may live: it is looked for at once");
    assert!(order.resumed && order.start_before_ms.expect("a limit") < world.now.boot_ms, "{order:?}");
    world.fail(Step::Promote, Failure::NotBegun);
    assert!(!is_running(&world, Step::Promote), "the recheck comes first");
    world.run(5);

    let order = world.orders().pop().expect("it is tried again");
    assert_eq!((order.step, order.attempt), (Step::Promote, 2));
    assert!(order.start_before_ms > Some(world.now.boot_ms));
}

#[test]
fn life_stops_the_run_of_a_promote_that_nobody_began() {
    let mut world = World::failing_over(policy());
    world.play_until(Some(Step::Promote));

    restart_after(&mut world, 3600, ALIVE);
    world.fail(Step::Promote, Failure::NotBegun);
    world.run(5);
    world.play_until(None);

    assert!(matches!(ending(&world), Some(Ending::Stopped { .. })));
    assert!(matches!(world.status(Step::MirrorBack), StepStatus::Done { .. }), "what was quiesced is brought back");
}

#[test]
fn a_promote_that_is_never_begun_in_time_is_a_humans_after_a_few_tries() {
    let mut world = World::failing_over(policy());
    world.play_until(Some(Step::Promote));

    for _ in 0..3 {
        world.fail(Step::Promote, Failure::NotBegun);
        world.run(5);
    }

    assert!(matches!(world.status(Step::Promote), StepStatus::Stuck { .. }));
    assert!(world.pages().contains(&PageKind::Stuck));
}

#[test]
fn an_answer_that_comes_after_its_question_expired_is_refused_although_nobody_looked_at_the_clock_yet() {
    let mut world = World::unfenced(policy());
    let request = world.request().expect("the fence is asked for");
    let left = request.expires_ms - world.now.boot_ms;
    world.run(left / 1000 - 1);

    world.now = world.now + secs(1);
    let late =
        Order::Approve { request: request.id, accept_unfenced: Some("power is off".into()), accept_loss_ms: None };
    world.order(late).expect_err("it has expired");

    assert!(world.run_state().unfenced.is_none());
}

#[test]
fn a_stuck_step_whose_page_was_lost_in_a_crash_is_told_again() {
    let mut world = World::failing_over(policy());
    world.play_until(Some(Step::Promote));
    world.fail(Step::Promote, Failure::Permanent);
    world.sent.clear();

    world.restart();

    assert!(world.pages().contains(&PageKind::Stuck), "{:?}", world.pages());
}

#[test]
fn a_question_about_the_fence_that_a_restart_made_void_is_asked_again() {
    let mut world = World::unfenced(policy());
    assert_eq!(world.request().expect("it is asked").question, Question::Unfenced);

    world.restart();
    assert!(world.request().is_none());
    world.second();

    assert_eq!(world.request().expect("it is asked again").question, Question::Unfenced);
}

#[test]
fn a_run_killed_after_any_record_goes_on_and_reaches_the_same_end() {
    let mut whole = World::failing_over(policy());
    whole.play_until(None);
    let started = whole.journal.iter().position(|(_, r)| matches!(r, Record::RunStarted { .. })).expect("it started");

    for journal in prefixes(&whole).skip(started + 1) {
        let mut world = World::new(policy());
        (world.sees, world.now) = (DEAD, whole.now);
        world.journal = journal.to_vec();
        world.restart();
        world.run(3);
        if world.durable().open_run().is_some() {
            world.play_until(None);
        }

        let last = journal.last().map(|(_, record)| record.clone());
        assert_eq!(ending(&world), Some(Ending::Succeeded), "killed after {last:?}");
        assert!(matches!(world.durable().role, Role::AtB | Role::Moving { .. }), "killed after {last:?}");
    }
}

#[test]
fn a_crash_between_the_end_of_a_run_and_the_word_about_it_loses_no_word() {
    let mut whole = World::failing_over(policy());
    whole.play_until(None);
    let told = |r: &Record| matches!(r, Record::RoleChanged { .. });
    let changes = whole.journal.iter().enumerate().filter(|(_, (_, r))| told(r)).map(|(at, _)| at);

    for at in changes {
        let mut world = World::new(policy());
        (world.sees, world.now) = (DEAD, whole.now);
        world.journal = whole.journal[..at].to_vec();
        world.restart();

        let expected = &whole.journal[at].1;
        assert!(world.journal[at..].iter().any(|(_, r)| r == expected), "{expected:?} is not told");
    }
}

#[test]
fn what_was_under_way_is_told_to_read_the_world_after_a_restart() {
    let mut world = World::failing_over(policy());
    world.play_until(Some(Step::Promote));
    world.sent.clear();

    world.restart();
    world.second();

    let orders = world.orders();
    assert_eq!(orders.len(), 1);
    assert_eq!((orders[0].step, orders[0].attempt, orders[0].resumed), (Step::Promote, 1, true));
}

#[test]
fn a_restart_waits_for_the_lease_before_it_goes_on() {
    let mut world = World::failing_over(policy());
    world.play_until(Some(Step::Promote));
    (world.lease, world.sent) = (false, vec![]);

    world.restart();
    world.run(5);
    assert_eq!(world.orders(), []);
    world.lease = true;
    world.second();

    assert_eq!(world.orders().len(), 1);
}

#[test]
fn a_doubt_that_a_crash_lets_in_between_the_recheck_and_the_promote_stops_the_run() {
    let mut slow = policy();
    slow.pairs[0].probes.iter_mut().for_each(|probe| probe.period = secs(20));
    let mut world = World::healthy(slow);
    world.sees = DEAD;
    world.run(120);
    world.approve().expect("the request is good");
    world.play_until(Some(Step::Promote));
    forget_all_after_the_recheck(&mut world);
    world.restart();

    world.fit = DOWN;
    world.run(3);

    assert!(!world.run_state().was_begun(Step::Promote));
    assert_eq!(world.records(|r| matches!(r, Record::RunStopping { .. })), 1);
}

#[test]
fn a_promote_that_was_held_up_after_its_recheck_is_rechecked_first() {
    let mut world = held_up_after_the_recheck();
    let recheck = world.journal.len() - 1;
    world.restart();
    world.event(Event::Lease { pair: PAIR, until_ms: Some(world.now.boot_ms + 30_000), holder: None, epoch: None });
    assert_eq!(world.status(Step::Promote), StepStatus::Pending, "on readings of a minute ago");

    world.run(10);
    assert!(is_running(&world, Step::Promote), "{:#?}", &world.journal[recheck..]);
}

#[test]
fn life_while_the_promote_is_held_up_after_its_recheck_stops_the_run() {
    let mut world = held_up_after_the_recheck();
    world.sees = ALIVE;
    world.restart();
    world.run(5);
    world.play_until(None);

    assert!(matches!(ending(&world), Some(Ending::Stopped { .. })));
    assert_eq!(world.status(Step::Promote), StepStatus::Pending);
}

#[test]
fn a_promote_that_nobody_began_is_not_made_when_a_may_have_gone_on_for_longer_than_was_accepted() {
    let mut world = World::failing_over(policy());
    world.play_until(Some(Step::Promote));

    restart_after(&mut world, 3600, DEAD);
    world.fail(Step::Promote, Failure::NotBegun);
    world.run(5);
    world.play_until(None);

    let Some(Ending::Stopped { why }) = ending(&world) else { panic!("it goes on: {:?}", world.run_state().phase) };
    assert!(why.contains("loss bound"), "{why}");
}

#[test]
fn what_a_may_have_taken_in_a_doubt_of_ours_counts_as_lost() {
    let mut world = World::healthy(policy());
    (world.sees, world.witness) = (DEAD, Says::Down);
    world.run(20);
    world.approve().expect("the request is good");
    world.second();
    world.play_until(Some(Step::Quiesce));
    let before = world.run_state().bound.expect("it was read");

    world.now = world.now + secs(30);
    world.run(10);
    world.play_until(Some(Step::Promote));

    let (LossBound::AtMost(before), Some(LossBound::AtMost(after))) = (before, world.run_state().bound) else {
        panic!("both are known")
    };
    assert!(after >= before + 30_000, "{before} ms before, {after} ms after");
}

#[test]
fn a_switch_that_was_under_way_goes_on_from_a_verify_that_is_young() {
    let mut world = World::failing_over(policy());
    world.play_until(Some(Step::Route(0)));

    restart_after(&mut world, 120, DEAD);
    world.run(3);

    assert_eq!(steps_sent(&world), [Step::Verify]);
    world.done(Step::Verify);
    assert_eq!(steps_sent(&world).last(), Some(&Step::Route(0)));
}

#[test]
fn a_retry_of_a_promote_right_after_a_restart_waits_for_a_look_at_a() {
    let mut world = World::failing_over(policy());
    world.play_until(Some(Step::Promote));
    world.fail(Step::Promote, Failure::Permanent);
    let run = world.run_state().id;

    restart_after(&mut world, 60, ALIVE);
    world.order(Order::Retry { run, step: Some(Step::Promote) }).expect("it is stuck");
    assert_eq!(steps_sent(&world), []);
    world.run(5);

    assert_eq!(steps_sent(&world), []);
    assert!(is_stuck(&world, Step::Promote), "{:?}", world.status(Step::Promote));
}

#[test]
fn a_promote_that_was_tried_again_when_the_agent_ended_starts_nothing_new_by_itself() {
    let mut world = World::failing_over(policy());
    world.play_until(Some(Step::Promote));
    world.fail(Step::Promote, Failure::Permanent);
    let run = world.run_state().id;
    world.order(Order::Retry { run, step: Some(Step::Promote) }).expect("it is stuck");
    world.second();
    let order = world.orders().pop().expect("it is tried again");
    assert!(order.start_before_ms > Some(world.now.boot_ms), "a human ordered it just now");

    restart_after(&mut world, 60, ALIVE);
    let order = world.orders().pop().expect("what may live is looked for");

    assert!(order.start_before_ms < Some(world.now.boot_ms), "{order:?}");
}
