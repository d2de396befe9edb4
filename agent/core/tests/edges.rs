//! Edges of the rules that no story needs and that a changed operator would move: found by cargo-mutants (`tests/mutants/README.md`).

mod common;

use common::*;
use understudy_core::*;

fn force(accept_unfenced: Option<&str>) -> Order {
    Order::Failover {
        force: true,
        reason: "we know better".into(),
        accept_unfenced: accept_unfenced.map(str::to_owned),
        accept_loss_ms: None,
    }
}

/// A dead site whose failover a human approved without a word about the fence.
fn approved_without_a_word(policy: Policy) -> World {
    let mut world = World::healthy(policy);
    world.sees = DEAD;
    world.run(20);
    let request = world.request().expect("it is asked").id;
    world.order(Order::Approve { request, accept_unfenced: None, accept_loss_ms: None }).expect("it is good");
    world.second();
    world
}

fn confirm_fence(world: &mut World) {
    let outcome = FenceOutcome::Confirmed { how: "power is off".into(), at_wall_ms: world.now.wall_ms };
    let attempt = world.status(Step::Fence).attempt();
    let result = StepResult::Done { detail: "fenced".into(), finding: Finding::Fence(outcome) };
    world.end(Step::Fence, attempt, result);
}

/// An automatic run with a confirmed fence and with everything done that its recheck before the promote waits for.
fn automatic_before_the_promote() -> World {
    let mut auto = policy();
    auto.pairs[0].mode = Mode::Auto;
    let mut world = World::healthy(auto);
    (world.sees, world.witness) = (DEAD, Says::Down);
    world.run(30);
    confirm_fence(&mut world);
    world.play_until(Some(Step::Bound));
    world
}

/// Time goes by in which no probe is read, and nothing tells against ourselves.
fn unread(world: &mut World, quarters: u32) {
    for _ in 0..quarters {
        world.now = world.now + std::time::Duration::from_millis(250);
        world.event(Event::SelfRead { check: 0, observation: world.observe(Reading::Up) });
        lease(world, 30_000);
        world.event(Event::Tick);
    }
}

fn lease(world: &mut World, for_ms: u64) {
    world.event(Event::Lease { pair: PAIR, until_ms: Some(world.now.boot_ms + for_ms), holder: None, epoch: None });
}

fn is_stopped(world: &World) -> bool {
    world.records(|r| matches!(r, Record::RunStopping { .. })) > 0
}

fn retried(world: &World, of: Step) -> usize {
    world.records(|r| matches!(r, Record::Retried { step, .. } if *step == of))
}

fn paged(world: &World, kind: PageKind) -> usize {
    world.pages().iter().filter(|page| **page == kind).count()
}

// The fence and whose word counts.

#[test]
fn a_forced_run_beside_a_dead_api_goes_on_with_a_humans_word() {
    let mut world = World::healthy(policy());
    world.sees = DEAD;
    world.run(20);
    world.order(force(Some("power is off"))).expect("force skips the verdict");
    world.second();

    world.done(Step::Fence);

    assert!(is_running(&world, Step::ConsistencyPoint));
}

#[test]
fn a_forced_run_beside_a_dead_api_asks_for_a_humans_word() {
    let mut world = World::healthy(policy());
    world.sees = DEAD;
    world.run(20);
    world.order(force(None)).expect("force skips the verdict");
    world.second();

    world.done(Step::Fence);

    assert!(!is_stopped(&world));
    assert_eq!(world.request().expect("it is asked").question, Question::Unfenced);
}

#[test]
fn a_question_about_the_fence_is_void_when_a_witness_answers_it() {
    let mut world = approved_without_a_word(policy());
    world.done(Step::Fence);
    assert_eq!(world.request().expect("it is asked").question, Question::Unfenced);

    world.witness = Says::Down;
    world.run(2);

    assert!(world.request().is_none());
    assert!(is_running(&world, Step::ConsistencyPoint));
}

#[test]
fn nothing_is_asked_about_a_fence_that_has_not_ended_or_that_was_accepted() {
    let mut world = approved_without_a_word(policy());
    world.run(5);
    assert!(world.request().is_none(), "it has not ended");

    let mut world = World::failing_over(policy());
    world.done(Step::Fence);
    world.run(5);
    assert!(world.request().is_none(), "it was accepted");
}

#[test]
fn nothing_is_asked_while_paused_or_of_a_run_that_stops() {
    let asked = |r: &Record| matches!(r, Record::Requested { request } if request.question == Question::Unfenced);
    let mut world = approved_without_a_word(policy());
    world.order(Order::Pause { for_ms: None, reason: "wait".into() }).expect("it can be paused");
    world.done(Step::Fence);
    world.run(3);
    assert_eq!(world.records(asked), 0);
    world.order(Order::Resume).expect("it is paused");
    assert_eq!(world.records(asked), 1);

    let mut world = approved_without_a_word(policy());
    world.witness = Says::Down;
    world.run(2);
    world.done(Step::Fence);
    world.play_until(Some(Step::Bound));
    world.witness = Says::Nothing;
    let run = world.run_state().id;
    world.order(Order::Abandon { run, reason: "A is back".into() }).expect("it can still be");
    world.run(3);
    assert_eq!(world.records(asked), 0);
}

#[test]
fn a_fence_that_was_accepted_beforehand_is_never_asked_about() {
    let asked = |r: &Record| matches!(r, Record::Requested { request } if request.question == Question::Unfenced);
    let mut world = World::failing_over(policy());

    world.play_until(None);

    assert_eq!(world.records(asked), 0);
}

// The rechecks.

#[test]
fn a_recheck_that_force_skips_claims_no_look() {
    let mut world = World::healthy(policy());
    world.sees = DEAD;
    world.run(20);
    world.order(force(Some("power is off"))).expect("force skips the verdict");
    world.second();

    let claimed = |r: &Record| {
        let Record::Outcome { step: Step::Recheck, result: StepResult::Done { finding, .. }, .. } = r else {
            return false;
        };
        matches!(finding, Finding::Rechecked(_))
    };
    assert_eq!(world.records(claimed), 0);
    assert!(is_running(&world, Step::Fence));
}

#[test]
fn a_standby_that_is_not_ready_any_more_stops_the_run_before_its_promote() {
    let mut world = World::failing_over(policy());
    world.play_until(Some(Step::Bound));
    world.missing = vec!["rbd-mirror is not there".into()];
    world.second();

    world.done(Step::Bound);
    world.run(3);

    assert!(is_stopped(&world));
}

#[test]
fn a_run_whose_pair_is_set_to_observe_is_stopped_before_its_promote() {
    let mut world = World::failing_over(policy());
    world.play_until(Some(Step::Bound));
    let mut observe = policy();
    observe.pairs[0].mode = Mode::Observe;
    world.reload(observe);
    world.second();

    world.done(Step::Bound);
    world.run(3);

    assert!(is_stopped(&world));
}

#[test]
fn an_automatic_run_is_stopped_before_its_promote_when_its_witness_is_silent() {
    let mut world = automatic_before_the_promote();
    world.witness = Says::Nothing;
    world.second();

    world.done(Step::Bound);
    world.run(8);

    assert!(is_stopped(&world));
}

#[test]
fn an_automatic_run_goes_to_its_end_when_its_witness_says_down() {
    let mut world = automatic_before_the_promote();
    unread(&mut world, 1);

    world.play_until(None);

    assert_eq!(ending(&world), Some(Ending::Succeeded));
}

#[test]
fn what_a_witness_said_as_the_recheck_began_is_not_said_since() {
    let mut world = automatic_before_the_promote();
    world.done(Step::Bound);

    // The probes go on, the witness is not heard again.
    for _ in 0..2 {
        unread(&mut world, 4);
        for probe in 0..3 {
            world.event(Event::Read { pair: PAIR, probe, observation: world.observe(DOWN) });
        }
    }

    assert!(is_running(&world, Step::PromoteRecheck));
}

#[test]
fn a_recheck_waits_for_a_look_at_ourselves() {
    let mut world = World::failing_over(policy());
    world.play_until(Some(Step::Bound));
    world.done(Step::Bound);

    for probe in 0..3 {
        world.now = world.now + std::time::Duration::from_millis(300);
        lease(&mut world, 30_000);
        world.event(Event::Read { pair: PAIR, probe, observation: world.observe(DOWN) });
    }
    assert!(is_running(&world, Step::PromoteRecheck));
    world.event(Event::SelfRead { check: 0, observation: world.observe(Reading::Up) });

    assert!(is_running(&world, Step::Promote), "the looks need not be made at one moment");
}

#[test]
fn a_domain_that_nobody_can_read_is_not_needed_where_fewer_are_asked_for() {
    let mut two = policy();
    two.pairs[0].at_least = 2;
    let mut world = World::healthy(two);
    world.sees = Sees { ceph: UNKNOWN, ..DEAD };
    world.run(20);
    world.approve().expect("the request is good");

    world.play_until(None);

    assert_eq!(ending(&world), Some(Ending::Succeeded));
}

#[test]
fn after_a_restart_of_the_machine_a_promote_is_not_started_on_the_recheck_of_before() {
    let mut world = World::failing_over(policy());
    world.play_until(Some(Step::Promote));
    world.sent.clear();
    (world.now.boot_id, world.now.boot_ms) = (world.now.boot_id + 1, 10_000);

    world.restart();
    world.second();

    let orders = world.orders();
    assert_eq!(
        orders.iter().map(|order| (order.step, order.start_before_ms)).collect::<Vec<_>>(),
        [(Step::Promote, Some(0))]
    );
}

/// How many quarters of a second a recheck waits for looks that nobody makes.
fn patience(policy: Policy) -> u32 {
    let mut world = World::healthy(policy);
    world.sees = DEAD;
    world.run(40);
    // Between two grids, so that no look is as old as the recheck.
    unread(&mut world, 1);
    world.approve().expect("the request is good");
    (1..200)
        .find(|_| {
            unread(&mut world, 1);
            is_stopped(&world)
        })
        .expect("it does not wait for ever")
}

#[test]
fn a_recheck_waits_for_two_of_the_slowest_looks_and_the_time_of_a_doubt_and_not_longer() {
    assert_eq!(patience(policy()), 4 * (2 * (1 + 1) + 1) + 1);

    let mut slow = policy();
    slow.pairs[0].probes.iter_mut().for_each(|probe| probe.period = secs(2));
    assert_eq!(patience(slow), 4 * (2 * (2 + 1) + 1) + 1);

    let mut slow = policy();
    slow.self_checks[0].period = secs(2);
    assert_eq!(patience(slow), 4 * (2 * (2 + 1) + 1) + 1);
}

// What steps say, and when.

#[test]
fn a_note_of_a_step_that_is_not_under_way_is_refused() {
    let mut world = World::failing_over(policy());
    world.done(Step::Fence);
    let run = world.run_state().id;
    let note = |step| Event::StepNoted {
        pair: PAIR,
        run: run.clone(),
        step,
        key: "pid".into(),
        value: "7".into(),
        ticket: Ticket(900),
    };

    world.event(note(Step::Fence));
    assert_eq!(world.records(|r| matches!(r, Record::Noted { .. })), 0);
    assert!(world.sent.contains(&Command::Ack { ticket: Ticket(900), go_on: false }));

    world.event(note(Step::ConsistencyPoint));
    assert_eq!(world.records(|r| matches!(r, Record::Noted { .. })), 1);
}

#[test]
fn a_step_that_failed_is_tried_again_after_a_while_and_pages_nobody() {
    let mut world = World::failing_over(policy());
    world.done(Step::Fence);
    world.sent.clear();

    world.fail(Step::ConsistencyPoint, Failure::Transient);

    let StepStatus::Waiting { attempt: 2, until_ms, .. } = world.status(Step::ConsistencyPoint) else {
        panic!("{:?}", world.status(Step::ConsistencyPoint));
    };
    assert!(until_ms > world.now.boot_ms);
    assert_eq!(paged(&world, PageKind::Stuck), 0);
}

#[test]
fn the_end_of_an_earlier_try_is_not_that_of_a_later_one() {
    let mut world = World::failing_over(policy());
    world.done(Step::Fence);
    world.fail(Step::ConsistencyPoint, Failure::Transient);
    world.run(3);
    assert_eq!(world.status(Step::ConsistencyPoint).attempt(), 2);
    assert!(is_running(&world, Step::ConsistencyPoint));

    let failed = StepResult::Failed { failure: Failure::Permanent, message: "late".into() };
    world.end(Step::ConsistencyPoint, 1, failed);

    assert!(is_running(&world, Step::ConsistencyPoint));
}

#[test]
fn the_late_end_of_a_stuck_try_is_told_and_that_of_an_earlier_one_is_not() {
    let mut world = World::failing_over(policy());
    world.done(Step::Fence);
    world.fail(Step::ConsistencyPoint, Failure::Transient);
    world.run(70);
    assert!(is_stuck(&world, Step::ConsistencyPoint));
    let stuck = |world: &World| world.records(|r| matches!(r, Record::Stuck { .. }));
    let before = stuck(&world);
    let done = || StepResult::Done { detail: "read".into(), finding: Finding::Nothing };

    world.end(Step::ConsistencyPoint, 1, done());
    assert_eq!(stuck(&world), before);
    world.end(Step::ConsistencyPoint, 2, done());

    assert_eq!(stuck(&world), before + 1);
    assert!(is_stuck(&world, Step::ConsistencyPoint));
}

#[test]
fn life_after_the_promote_was_begun_changes_nothing() {
    let mut world = World::failing_over(policy());
    world.play_until(Some(Step::Promote));

    world.sees = ALIVE;
    world.run(3);

    assert!(is_running(&world, Step::Promote));
    assert!(!is_stopped(&world));
}

#[test]
fn a_deploy_may_take_as_long_as_its_workload_may_need_and_not_longer() {
    let mut world = World::failing_over(policy());
    world.play_until(Some(Step::Deploy));

    world.run(120);
    assert!(is_running(&world, Step::Deploy));
    world.second();

    assert!(is_stuck(&world, Step::Deploy));
}

#[test]
fn a_step_is_overdue_after_its_limit_whenever_somebody_looks_at_the_clock() {
    let mut world = World::failing_over(policy());
    world.now = world.now + secs(60);
    world.event(Event::Tick);
    assert!(is_running(&world, Step::Fence), "at the limit it is not yet");

    world.now = world.now + secs(7);
    world.event(Event::Tick);

    assert!(is_stuck(&world, Step::Fence));
}

// The way back.

#[test]
fn the_way_back_waits_for_the_lease_and_for_the_end_of_a_pause() {
    let mut world = World::failing_over(policy());
    world.play_until(Some(Step::Bound));
    world.order(Order::Pause { for_ms: None, reason: "wait".into() }).expect("it can be paused");
    let run = world.run_state().id;
    world.order(Order::Abandon { run, reason: "A is back".into() }).expect("it can still be");
    world.done(Step::Bound);
    world.run(3);
    assert_eq!(world.status(Step::MirrorBack), StepStatus::Pending, "it is paused");

    world.lease = false;
    lease(&mut world, 0);
    world.order(Order::Resume).expect("it is paused");
    world.run(3);
    assert_eq!(world.status(Step::MirrorBack), StepStatus::Pending, "the lease is gone");

    world.lease = true;
    world.second();
    assert!(is_running(&world, Step::MirrorBack));
}

#[test]
fn the_way_back_is_tried_again_after_a_while() {
    let mut world = World::failing_over(policy());
    world.play_until(Some(Step::Bound));
    let run = world.run_state().id;
    world.order(Order::Abandon { run, reason: "A is back".into() }).expect("it can still be");
    world.done(Step::Bound);
    assert!(is_running(&world, Step::MirrorBack));

    world.fail(Step::MirrorBack, Failure::Transient);
    assert!(matches!(world.status(Step::MirrorBack), StepStatus::Waiting { .. }));
    world.run(3);

    assert!(is_running(&world, Step::MirrorBack));
    assert_eq!(world.status(Step::MirrorBack).attempt(), 2);
}

// Proofs that are renewed.

fn another_led(world: &mut World) {
    let (until_ms, epoch) = (Some(world.now.boot_ms + 30_000), Some(world.durable().epoch + 5));
    world.event(Event::Lease { pair: PAIR, until_ms, holder: None, epoch });
}

#[test]
fn what_was_not_proven_yet_is_not_renewed_when_another_has_led() {
    let mut world = World::failing_over(policy());
    world.play_until(Some(Step::Promote));

    another_led(&mut world);

    assert_eq!(retried(&world, Step::Verify), 0);
    assert_eq!(retried(&world, Step::PromoteRecheck), 0, "the promote is beyond its recheck");
}

#[test]
fn a_verify_whose_routes_are_switched_is_not_made_again_however_old_it_grows() {
    let mut world = World::failing_over(policy());
    world.play_until(Some(Step::Report));

    world.run(100);

    assert_eq!(retried(&world, Step::Verify), 0);
}

#[test]
fn what_was_proven_is_not_renewed_for_routes_that_are_switched() {
    let mut world = World::failing_over(policy());
    world.play_until(Some(Step::Report));

    another_led(&mut world);

    assert_eq!(retried(&world, Step::Verify), 0);
}

#[test]
fn the_end_of_a_run_is_told_once_however_often_the_agent_starts() {
    let changes = |r: &Record| matches!(r, Record::RoleChanged { .. });
    let mut world = World::failing_over(policy());
    world.play_until(None);
    let told = world.records(changes);

    world.restart();
    world.second();

    assert_eq!(world.records(changes), told);
}

// What a human may order.

#[test]
fn a_stuck_step_that_safety_rests_on_can_not_be_skipped() {
    for step in [Step::ConsistencyPoint, Step::Quiesce, Step::Bound, Step::Promote, Step::Verify] {
        let mut world = World::failing_over(policy());
        world.play_until(Some(step));
        world.fail(step, Failure::Permanent);
        assert!(is_stuck(&world, step), "{step}");
        let run = world.run_state().id;

        let refusal = world.order(Order::Skip { run, step, reason: "I say so".into() }).expect_err("it is needed");

        assert!(refusal.why.contains("safety rests on it"), "{}", refusal.why);
    }
}

#[test]
fn an_order_for_another_run_than_the_open_one_is_refused_and_written_down() {
    let mut world = World::failing_over(policy());
    let refused = |r: &Record| matches!(r, Record::Refused { order, .. } if order == "abandon nexus-77");

    let other = Order::Abandon { run: RunId("nexus-77".into()), reason: "a mistake".into() };
    world.order(other).expect_err("it is not open");

    assert_eq!(world.records(refused), 1);
    assert!(!is_stopped(&world));
}

#[test]
fn a_recheck_that_a_restart_interrupted_is_the_next_try() {
    let mut world = approved_without_a_word(policy());
    confirm_fence(&mut world);
    world.play_until(Some(Step::Bound));
    world.done(Step::Bound);
    assert!(is_running(&world, Step::PromoteRecheck));
    let attempt = world.status(Step::PromoteRecheck).attempt();

    world.restart();
    world.second();

    assert_eq!(world.status(Step::PromoteRecheck).attempt(), attempt + 1);
}
