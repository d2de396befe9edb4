//! A run and its orders: S2 (recheck), S7, S9–S12, L1, L2.

mod common;

use common::*;
use understudy_core::*;

#[test]
fn every_effect_has_an_intent_before_it() {
    let mut world = World::failing_over(policy());
    world.play_until(None);

    let mut intents = 0;
    for command in &world.sent {
        match command {
            Command::Journal(Record::Intent { step, .. }) if !step.is_recheck() => intents += 1,
            Command::RunStep { .. } => intents -= 1,
            _ => {}
        }
        assert!(intents >= 0, "an effect came before its intent");
    }
}

#[test]
fn life_between_fence_and_promote_stops_the_run_and_brings_the_mirror_back() {
    let mut world = World::failing_over(policy());
    world.play_until(Some(Step::Quiesce));

    world.sees.api = Reading::Up;
    world.second();
    world.play_until(None);

    assert!(matches!(ending(&world), Some(Ending::Stopped { .. })));
    assert_eq!(world.status(Step::Promote), StepStatus::Pending);
    assert!(matches!(world.status(Step::MirrorBack), StepStatus::Done { .. }));
    assert_eq!(world.durable().role, Role::AtA);
    assert!(world.pages().contains(&PageKind::Stopped));
}

#[test]
fn blindness_at_the_point_of_no_return_stops_the_run() {
    let mut world = World::failing_over(policy());
    world.play_until(Some(Step::Bound));

    world.fit = DOWN;
    world.done(Step::Bound);
    world.event(Event::SelfRead { check: 0, observation: world.observe(DOWN) });

    assert!(matches!(world.run_state().phase, Phase::BringingBack { .. }), "at once");
    world.play_until(None);
    assert!(matches!(ending(&world), Some(Ending::Stopped { .. })));
}

#[test]
fn a_daemon_that_was_started_at_the_point_of_no_return_is_given_time_to_look() {
    let mut world = World::failing_over(policy());
    world.play_until(Some(Step::Bound));
    world.done(Step::Bound);
    world.event(Event::Tick);

    world.restart();
    world.event(Event::Tick);

    assert_eq!(world.run_state().phase, Phase::Forward);
    world.play_until(None);
    assert_eq!(ending(&world), Some(Ending::Succeeded));
}

#[test]
fn a_stall_at_the_point_of_no_return_stops_the_run() {
    let mut world = World::failing_over(policy());
    world.play_until(Some(Step::Bound));
    world.done(Step::Bound);

    world.now = world.now + secs(5);
    world.event(Event::Tick);

    assert!(matches!(world.run_state().phase, Phase::BringingBack { .. }));
}

#[test]
fn the_promote_waits_for_readings_made_after_the_quiesce() {
    let mut world = World::failing_over(policy());
    world.play_until(Some(Step::Bound));

    world.done(Step::Bound);
    world.event(Event::Tick);

    assert!(is_running(&world, Step::PromoteRecheck));
    assert_eq!(world.status(Step::Promote), StepStatus::Pending);
    world.second();
    assert!(is_running(&world, Step::Promote));
}

#[test]
fn a_promote_is_never_repeated_by_itself() {
    for failure in [Failure::Transient, Failure::Unknown, Failure::Permanent] {
        let mut world = World::failing_over(policy());
        world.play_until(Some(Step::Promote));
        world.fail(Step::Promote, failure);

        world.run(20);

        assert!(is_stuck(&world, Step::Promote));
        assert_eq!(world.orders().iter().filter(|o| o.step == Step::Promote).count(), 1);
        assert!(world.pages().contains(&PageKind::Stuck));
    }
}

#[test]
fn an_overdue_promote_is_stuck_and_paged_and_its_late_end_waits_for_a_human() {
    let mut world = World::failing_over(policy());
    world.play_until(Some(Step::Promote));
    world.run(31);
    assert!(is_stuck(&world, Step::Promote));
    assert!(world.pages().contains(&PageKind::Stuck));

    world.end(Step::Promote, 1, StepResult::Done { detail: "promoted".into(), finding: Finding::Nothing });
    assert!(is_stuck(&world, Step::Promote));
    let run = world.run_state().id;
    world.order(Order::Retry { run, step: None }).expect("it is stuck");
    world.second();

    let order = world.orders().pop().expect("it is run again");
    assert_eq!((order.step, order.attempt, order.resumed), (Step::Promote, 2, true));
}

#[test]
fn a_step_is_tried_a_bounded_number_of_times_and_reads_the_world_from_the_second_on() {
    let mut world = World::failing_over(policy());
    world.play_until(Some(Step::Deploy));

    for _ in 0..3 {
        world.fail(Step::Deploy, Failure::Unknown);
        world.run(10);
    }

    let tries: Vec<_> = world.orders().into_iter().filter(|o| o.step == Step::Deploy).collect();
    assert_eq!(tries.iter().map(|o| o.resumed).collect::<Vec<_>>(), [false, true, true]);
    assert!(tries.iter().all(|o| o.key == tries[0].key));
    assert!(is_stuck(&world, Step::Deploy));
}

#[test]
fn a_stuck_step_stops_its_successors_and_the_run_does_not_report_success() {
    let mut world = World::failing_over(policy());
    world.play_until(Some(Step::Verify));

    world.fail(Step::Verify, Failure::Permanent);
    world.run(300);

    assert_eq!(world.status(Step::Route(0)), StepStatus::Pending);
    assert_eq!(ending(&world), None);
    assert!(matches!(world.durable().role, Role::Moving { .. }));
}

#[test]
fn what_safety_rests_on_can_not_be_skipped_and_the_rest_only_when_stuck() {
    let mut world = World::failing_over(policy());
    let run = world.run_state().id;
    let skip = |step| Order::Skip { run: run.clone(), step, reason: "I say so".into() };
    for step in [
        Step::Recheck,
        Step::Fence,
        Step::ConsistencyPoint,
        Step::Quiesce,
        Step::Bound,
        Step::PromoteRecheck,
        Step::Promote,
        Step::Verify,
    ] {
        assert!(world.order(skip(step)).is_err(), "{step}");
    }
    world.play_until(Some(Step::UndoPoint));
    assert!(world.order(skip(Step::UndoPoint)).is_err(), "it is under way");
    world.fail(Step::UndoPoint, Failure::Permanent);

    world.order(skip(Step::UndoPoint)).expect("it is stuck and may be skipped");
    world.play_until(None);

    assert_eq!(ending(&world), Some(Ending::Succeeded));
}

#[test]
fn nothing_that_mounts_a_volume_starts_before_every_promote_is_confirmed() {
    let mut world = World::failing_over(policy());
    world.play_until(Some(Step::Promote));
    world.run(10);

    assert_eq!(world.status(Step::Deploy), StepStatus::Pending);
    assert_eq!(world.status(Step::UndoPoint), StepStatus::Pending);
}

#[test]
fn a_route_is_not_switched_on_an_old_verification() {
    let mut world = World::failing_over(policy());
    world.play_until(Some(Step::Route(0)));
    world.fail(Step::Route(0), Failure::Permanent);
    world.run(90);
    let run = world.run_state().id;

    world.order(Order::Retry { run, step: Some(Step::Route(0)) }).expect("it is stuck");
    world.second();

    assert!(is_running(&world, Step::Verify), "{:?}", world.status(Step::Verify));
    world.done(Step::Verify);
    assert!(is_running(&world, Step::Route(0)));
}

#[test]
fn abandon_before_the_promote_brings_the_mirror_back() {
    let mut world = World::failing_over(policy());
    world.play_until(Some(Step::Bound));
    let run = world.run_state().id;

    world.order(Order::Abandon { run, reason: "A will be back".into() }).expect("it can still be");
    world.play_until(None);

    assert!(matches!(world.status(Step::MirrorBack), StepStatus::Done { .. }));
    assert_eq!(world.durable().role, Role::AtA);
}

#[test]
fn abandon_after_the_promote_leaves_the_pair_half_way_and_pages() {
    let mut world = World::failing_over(policy());
    world.play_until(Some(Step::Deploy));
    let run = world.run_state().id;

    world.order(Order::Abandon { run, reason: "by hand".into() }).expect("it can be");
    world.run(60);

    assert!(matches!(world.durable().role, Role::Moving { .. }));
    assert!(matches!(ending(&world), Some(Ending::Abandoned { .. })));
    assert_eq!(world.records(|r| matches!(r, Record::RunStarted { .. })), 1);
}

#[test]
fn whoever_abandons_a_run_is_told_what_must_go_before_another_one_can_succeed() {
    let mut plain = policy();
    plain.pairs[0].plan.mirrored = false;
    for (rules, must_go) in [(policy(), true), (plain, false)] {
        let mut world = World::failing_over(rules);
        world.play_until(Some(Step::Deploy));
        let run = world.run_state().id;

        let answer = world.order(Order::Abandon { run, reason: "by hand".into() }).expect("it can be");

        let gate = world.view().gates.into_iter().find(|gate| gate.gate == Gate::Role).expect("it is asked");
        for said in [answer, gate.value] {
            assert!(said.contains("only `failover --force` goes on from there"), "{said}");
            assert_eq!(said.contains("deployed at B already, delete it first"), must_go, "{said}");
        }
    }
}

#[test]
fn a_running_promote_can_not_be_abandoned() {
    let mut world = World::failing_over(policy());
    world.play_until(Some(Step::Promote));
    let run = world.run_state().id;

    assert!(world.order(Order::Abandon { run, reason: "stop".into() }).is_err());
}

#[test]
fn a_pause_lets_the_running_step_end_and_records_no_new_intent() {
    let mut world = World::failing_over(policy());
    world.order(Order::Pause { for_ms: None, reason: "wait".into() }).expect("it can be paused");
    let intents = world.records(|r| matches!(r, Record::Intent { .. }));

    world.done(Step::Fence);
    world.done(Step::Restore);
    world.restart();
    world.run(30);
    assert_eq!(world.records(|r| matches!(r, Record::Intent { .. })), intents);

    world.order(Order::Resume).expect("it is paused");
    world.run(2);
    assert!(is_running(&world, Step::ConsistencyPoint));
}

#[test]
fn a_note_is_refused_while_paused_so_that_nothing_is_sent() {
    let mut world = World::failing_over(policy());
    let note = |world: &mut World, n| {
        let run = world.run_state().id;
        let (key, value) = ("pid".to_owned(), "1".to_owned());
        world.event(Event::StepNoted { pair: PAIR, run, step: Step::Fence, key, value, ticket: Ticket(n) });
        world.sent.iter().rev().find_map(|c| match c {
            Command::Ack { ticket: Ticket(given), go_on } if *given == n => Some(*go_on),
            _ => None,
        })
    };
    assert_eq!(note(&mut world, 901), Some(true));
    world.order(Order::Pause { for_ms: None, reason: "wait".into() }).expect("it can be paused");

    assert_eq!(note(&mut world, 902), Some(false));
}

#[test]
fn late_news_of_a_step_that_is_over_changes_nothing() {
    let mut world = World::failing_over(policy());
    world.done(Step::Fence);
    let before = world.durable().clone();

    world.end(Step::Fence, 1, StepResult::Failed { failure: Failure::Permanent, message: "late".into() });

    assert_eq!(*world.durable(), before);
}

#[test]
fn every_write_of_a_run_carries_its_epoch_and_each_change_of_role_raises_it() {
    let mut world = World::failing_over(policy());
    let epoch = world.run_state().epoch;
    world.play_until(None);

    assert!(world.orders().iter().all(|o| o.epoch == epoch));
    assert!(world.durable().epoch > epoch);
}

#[test]
fn a_lease_that_another_has_led_meanwhile_gives_what_is_written_from_here_on_an_epoch_of_its_own() {
    let mut world = World::failing_over(policy());
    let before = world.run_state().epoch;

    let until_ms = Some(world.now.boot_ms + 30_000);
    world.event(Event::Lease { pair: PAIR, until_ms, holder: None, epoch: Some(before + 4) });
    world.sent.clear();
    world.play_until(None);

    assert!(world.orders().iter().all(|o| o.epoch == before + 4), "of those that are sent from here on");
    let led = |r: &Record| matches!(r, Record::Led { epoch, .. } if *epoch == before + 4);
    assert_eq!(world.journal.iter().filter(|(_, r)| led(r)).count(), 1);
    assert!(world.durable().epoch > before + 4);
}

#[test]
fn what_was_verified_before_another_led_is_verified_again_before_the_route_moves() {
    let mut world = World::failing_over(policy());
    world.play_until(Some(Step::Route(0)));
    world.fail(Step::Route(0), Failure::Transient);

    let until_ms = Some(world.now.boot_ms + 30_000);
    let epoch = Some(world.durable().epoch + 1);
    world.sent.clear();
    world.event(Event::Lease { pair: PAIR, until_ms, holder: None, epoch });
    world.run(3);

    let begun: Vec<Step> = world.orders().iter().map(|order| order.step).collect();
    assert_eq!(begun, [Step::Verify]);
}

#[test]
fn a_lease_of_an_epoch_that_we_know_changes_nothing() {
    let mut world = World::failing_over(policy());
    let before = world.durable().clone();

    let until_ms = Some(world.now.boot_ms + 30_000);
    world.event(Event::Lease { pair: PAIR, until_ms, holder: None, epoch: Some(before.epoch) });

    assert_eq!(*world.durable(), before);
}

#[test]
fn an_old_primary_that_returns_is_told_once_and_nothing_is_written() {
    let mut world = World::failing_over(policy());
    world.play_until(None);
    world.standby = Reading::Up;
    world.run(10);
    let writes = world.writes();
    world.sent.clear();

    world.sees = ALIVE;
    world.run(300);

    assert_eq!(world.pages(), [PageKind::OldPrimaryReturned]);
    assert_eq!(world.writes(), writes);
    assert_eq!(world.durable().role, Role::AtB);
}

#[test]
fn an_image_that_is_primary_at_both_sites_is_told_even_if_no_service_answers_at_a() {
    let mut world = World::failing_over(policy());
    world.play_until(None);
    world.standby = Reading::Up;
    let look = |world: &mut World, peer_primary| {
        let facts = MirrorFacts { images: vec![ImageFacts { primary: true, peer_primary, ..world.image() }] };
        world.event(Event::MirrorRead { pair: PAIR, probe: 3, started_ms: world.now.boot_ms, facts });
    };
    world.run(10);
    world.sent.clear();

    look(&mut world, true);
    assert_eq!(world.pages(), [], "what was known of A's daemon when it died is no news");
    world.run(60);
    look(&mut world, false);
    assert_eq!(world.pages(), []);
    look(&mut world, true);
    world.run(10);
    look(&mut world, true);

    assert_eq!(world.pages(), [PageKind::OldPrimaryReturned], "once");
    assert_eq!(world.durable().role, Role::AtB);
}

#[test]
fn after_the_failover_b_is_what_must_live() {
    let mut world = World::failing_over(policy());
    world.play_until(None);
    world.standby = Reading::Up;
    world.run(10);
    assert_eq!(world.verdict(), Verdict::Up);
    world.sent.clear();

    world.standby = DOWN;
    world.run(120);

    assert_eq!(world.verdict(), Verdict::ServiceDown);
    assert_eq!(world.pages(), [PageKind::StandbyDown]);
    assert_eq!(world.records(|r| matches!(r, Record::RunStarted { .. })), 1);
}

#[test]
fn with_b_active_even_force_starts_no_other_failover() {
    let mut world = World::failing_over(policy());
    world.play_until(None);
    let force = Order::Failover { force: true, reason: "again".into(), accept_unfenced: None, accept_loss_ms: None };

    let refusal = world.order(force).expect_err("there is nowhere to fail over to");

    assert!(refusal.why.contains("B is active"), "{refusal}");
}

#[test]
fn a_plan_without_kubernetes_or_mirror_leaves_those_steps_out() {
    let mut plain = policy();
    (plain.pairs[0].plan.mirrored, plain.pairs[0].plan.kubernetes) = (false, false);
    (plain.pairs[0].plan.route_check, plain.pairs[0].plan.routes) = (false, vec!["webhook".into()]);

    let steps = failover_steps(&plain.pairs[0].plan);

    assert_eq!(
        steps,
        [Step::Recheck, Step::Fence, Step::PromoteRecheck, Step::Promote, Step::Verify, Step::Route(0), Step::Report]
    );
}

#[test]
fn each_step_comes_after_all_that_it_needs() {
    let steps = failover_steps(&policy().pairs[0].plan);

    for (n, step) in steps.iter().enumerate() {
        for need in needs(*step) {
            let at = steps.iter().position(|s| *s == need);
            assert!(at.is_none_or(|at| at < n), "{step} before {need}");
        }
    }
}

#[test]
fn names_of_steps_are_read_back() {
    for step in failover_steps(&policy().pairs[0].plan) {
        assert_eq!(step.to_string().parse::<Step>(), Ok(step));
    }
    assert!("route-x".parse::<Step>().is_err());
}

#[test]
fn a_promote_that_is_tried_again_beside_an_a_that_came_back_waits_for_a_human_who_is_told() {
    let mut world = World::failing_over(policy());
    world.play_until(Some(Step::Promote));
    world.fail(Step::Promote, Failure::Permanent);
    world.sees = ALIVE;
    world.run(2);
    let (orders, pages) = (world.orders().len(), world.pages().len());

    let run = world.run_state().id;
    world.order(Order::Retry { run, step: None }).expect("it is stuck");
    world.run(5);

    assert!(matches!(world.status(Step::Promote), StepStatus::Stuck { .. }), "{:?}", world.status(Step::Promote));
    assert_eq!(world.orders().len(), orders, "nothing is sent");
    assert!(world.pages()[pages..].contains(&PageKind::Stuck), "{:?}", world.pages());
}

#[test]
fn a_promote_that_is_tried_again_without_its_witness_waits_for_a_human_who_is_told() {
    let mut rules = policy();
    rules.pairs[0].mode = Mode::Auto;
    let mut world = World::healthy(rules);
    (world.sees, world.witness) = (DEAD, Says::Down);
    world.run(20);
    world.play_until(Some(Step::Promote));
    world.fail(Step::Promote, Failure::Permanent);
    world.witness = Says::Nothing;
    world.run(10);

    let run = world.run_state().id;
    world.order(Order::Retry { run, step: None }).expect("it is stuck");
    world.run(5);

    assert!(matches!(world.status(Step::Promote), StepStatus::Stuck { .. }), "{:?}", world.status(Step::Promote));
}
