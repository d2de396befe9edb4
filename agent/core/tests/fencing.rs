//! What a fence, a human or a witness must have said before the promote, and the loss that was accepted: S6, S8.

mod common;

use common::*;
use understudy_core::*;

/// What the journal says right before the promote's intent.
fn proof(world: &World) -> Option<FenceProof> {
    let promote = |(_, r): &(Now, Record)| matches!(r, Record::Intent { step: Step::Promote, .. });
    let at = world.journal.iter().position(promote).expect("it was begun");
    match &world.journal[at - 1].1 {
        Record::FenceProven { proof, .. } => Some(proof.clone()),
        _ => None,
    }
}

#[test]
fn an_unconfirmed_fence_without_anybodys_word_stops_and_asks_again() {
    let mut world = World::unfenced(policy());

    let request = world.request().expect("it is asked again");
    assert_eq!(request.question, Question::Unfenced);
    assert_eq!(world.status(Step::ConsistencyPoint), StepStatus::Pending);
    let plain = Order::Approve { request: request.id.clone(), accept_unfenced: None, accept_loss_ms: None };
    assert!(world.order(plain).is_err());
    let accepted =
        Order::Approve { request: request.id, accept_unfenced: Some("power is off".into()), accept_loss_ms: None };
    world.order(accepted).expect("it names the reason");

    assert!(is_running(&world, Step::ConsistencyPoint));
}

#[test]
fn an_unconfirmed_fence_that_nobody_accepts_in_time_ends_the_run() {
    let mut world = World::unfenced(policy());
    world.done(Step::Restore);
    world.done(Step::Bound);

    world.run(130);

    assert!(matches!(ending(&world), Some(Ending::Stopped { .. })));
    assert_eq!(world.status(Step::Quiesce), StepStatus::Pending);
    assert_eq!(world.status(Step::MirrorBack), StepStatus::Pending, "what was not quiesced is not brought back");
}

#[test]
fn a_third_site_witness_is_word_enough_for_an_unconfirmed_fence() {
    let mut auto = policy();
    auto.pairs[0].mode = Mode::Auto;
    let mut world = World::healthy(auto);
    (world.sees, world.witness) = (DEAD, Says::Down);
    world.run(30);

    world.done(Step::Fence);

    assert!(is_running(&world, Step::ConsistencyPoint));
    assert!(world.request().is_none());
}

#[test]
fn a_fence_that_fails_is_an_unconfirmed_fence() {
    let mut world = World::failing_over(policy());

    world.fail(Step::Fence, Failure::Transient);

    assert!(matches!(world.run_state().fence, Some(FenceOutcome::Unconfirmed { .. })));
    assert!(is_running(&world, Step::ConsistencyPoint), "the approval had accepted it");
}

#[test]
fn a_loss_greater_than_accepted_stops_the_run_before_the_quiesce() {
    let mut world = World::failing_over(policy());
    world.done(Step::Fence);

    // By now another sync is under way, and the snapshot before the newest one is not known to us.
    world.syncing = Some(11);
    world.done(Step::ConsistencyPoint);
    world.play_until(None);

    assert!(matches!(ending(&world), Some(Ending::Stopped { why }) if why.contains("loss bound")));
    assert_eq!(world.status(Step::Quiesce), StepStatus::Pending);
}

#[test]
fn a_confirmed_fence_ends_the_loss_window() {
    let mut world = World::failing_over(policy());
    let at_wall_ms = world.now.wall_ms - 10_000;
    let finding = Finding::Fence(FenceOutcome::Confirmed { how: "power is off".into(), at_wall_ms });
    world.end(Step::Fence, 1, StepResult::Done { detail: "fenced".into(), finding });

    world.done(Step::ConsistencyPoint);

    let Some(LossBound::AtMost(bound)) = world.run_state().bound else { panic!("the bound is known") };
    assert_eq!(bound, u64::try_from(at_wall_ms - 1_800_000_000_000).expect("time goes on") + 35_500);
}

#[test]
fn force_skips_the_verdict_but_a_living_api_must_confirm_the_fence() {
    let mut world = World::healthy(policy());
    world.sees = Sees { web: Reading::Up, api: Reading::Up, ceph: DOWN };
    world.run(20);
    let plain = Order::Failover { force: false, reason: "now".into(), accept_unfenced: None, accept_loss_ms: None };
    assert!(world.order(plain).is_err());
    let accept_unfenced = Some("never mind".to_owned());
    let force = Order::Failover { force: true, reason: "Ceph is gone".into(), accept_unfenced, accept_loss_ms: None };
    world.order(force).expect("force skips the verdict");
    world.second();

    world.done(Step::Fence);
    world.play_until(None);

    assert!(matches!(ending(&world), Some(Ending::Stopped { why }) if why.contains("living A")));
}

#[test]
fn what_a_fence_noted_is_known_to_a_later_run_until_all_of_a_is_up_again() {
    let mut world = World::healthy(policy());
    world.sees = Sees { web: Reading::Up, api: Reading::Up, ceph: DOWN };
    world.run(20);
    let force = || Order::Failover { force: true, reason: "r".into(), accept_unfenced: None, accept_loss_ms: None };
    world.order(force()).expect("force skips the verdict");
    world.second();
    let run = world.run_state().id;
    let (key, value) = ("forced".to_owned(), "pod a-1".to_owned());
    world.event(Event::StepNoted { pair: PAIR, run, step: Step::Fence, key, value, ticket: Ticket(901) });
    world.done(Step::Fence);
    world.play_until(None);
    assert!(matches!(ending(&world), Some(Ending::Stopped { .. })));

    world.order(force()).expect("force skips the verdict");

    assert_eq!(world.run_state().notes.get("fence/forced").map(String::as_str), Some("pod a-1"));

    world.done(Step::Fence);
    world.play_until(None);
    world.sees = Sees { web: Reading::Up, api: Reading::Up, ceph: Reading::Up };
    world.run(20);
    world.order(force()).expect("force skips the verdict");

    assert!(world.run_state().notes.is_empty(), "A was well since: its pods are others");
}

#[test]
fn snapshots_that_a_living_a_takes_while_it_is_fenced_leave_the_loss_bounded() {
    let mut world = World::healthy(policy());
    world.sees = Sees { web: DOWN, api: Reading::Up, ceph: Reading::Up };
    world.run(20);
    let force = Order::Failover { force: true, reason: "r".into(), accept_unfenced: None, accept_loss_ms: None };
    world.order(force).expect("force skips the verdict");
    world.second();
    // One snapshot is seen by the probe, and the one after it by the step alone.
    world.newest += 1;
    world.read_mirror();
    let at_wall_ms = world.now.wall_ms;
    let finding = Finding::Fence(FenceOutcome::Confirmed { how: "no pod, no attachment".into(), at_wall_ms });
    world.end(Step::Fence, 1, StepResult::Done { detail: "fenced".into(), finding });
    world.newest += 1;

    world.play_until(None);

    assert_eq!(ending(&world), Some(Ending::Succeeded));
    assert!(matches!(world.run_state().bound, Some(LossBound::AtMost(_))));
    let learnt = |r: &Record| matches!(r, Record::SourceTime { snapshot, .. } if *snapshot == world.newest - 1);
    assert_eq!(world.records(learnt), 1, "the probe's looks count during a run too");
}

#[test]
fn force_goes_on_when_a_living_a_confirms_the_fence() {
    let mut world = World::healthy(policy());
    world.sees = Sees { web: Reading::Up, api: Reading::Up, ceph: DOWN };
    world.run(20);
    let force =
        Order::Failover { force: true, reason: "Ceph is gone".into(), accept_unfenced: None, accept_loss_ms: None };
    world.order(force).expect("force skips the verdict");
    world.second();
    let at_wall_ms = world.now.wall_ms;
    let finding = Finding::Fence(FenceOutcome::Confirmed { how: "no pod, no attachment".into(), at_wall_ms });
    world.end(Step::Fence, 1, StepResult::Done { detail: "fenced".into(), finding });

    world.play_until(None);

    assert_eq!(ending(&world), Some(Ending::Succeeded));
    assert_eq!(proof(&world), Some(FenceProof::Confirmed));
}

#[test]
fn what_allows_the_forced_promote_is_journaled_right_before_it() {
    let mut accepted = World::failing_over(policy());
    accepted.play_until(None);
    let mut auto = policy();
    auto.pairs[0].mode = Mode::Auto;
    let mut witnessed = World::healthy(auto);
    (witnessed.sees, witnessed.witness) = (DEAD, Says::Down);
    witnessed.run(30);
    witnessed.play_until(None);

    let Some(FenceProof::Accepted(consent)) = proof(&accepted) else { panic!("{:?}", proof(&accepted)) };
    assert!(!consent.by.is_empty());
    assert_eq!(proof(&witnessed), Some(FenceProof::Witnessed { witness: "third".into() }));
}

#[test]
fn with_a_witness_that_says_down_the_loss_is_counted_to_the_last_sign_of_life_in_the_run_too() {
    let mut auto = policy();
    auto.pairs[0].mode = Mode::Auto;
    let mut world = World::healthy(auto);
    world.order(Order::Pause { for_ms: Some(3_600_000), reason: "maintenance".into() }).expect("it can be paused");
    (world.sees, world.witness) = (DEAD, Says::Down);
    world.run(3500);
    while world.durable().run.is_none() {
        world.second();
    }

    world.play_until(None);

    let run = world.run_state();
    assert!(matches!(run.phase, Phase::Ended { ending: Ending::Succeeded, .. }), "{:?}", run.phase);
    let Some(LossBound::AtMost(bound)) = run.bound else { panic!("the bound is known") };
    assert!(bound < 100_000, "A has not served for the hour since: {bound}");
}

#[test]
fn a_forced_run_that_stops_leaves_a_pair_half_way_that_was_half_way() {
    let mut world = World::failing_over(policy());
    world.play_until(Some(Step::Promote));
    world.fail(Step::Promote, Failure::Permanent);
    let first = world.run_state().id;
    world.order(Order::Abandon { run: first.clone(), reason: "it does not get on".into() }).expect("it is stuck");
    world.sees.api = Reading::Up;
    world.run(5);
    let order = Order::Failover { force: true, reason: "again".into(), accept_unfenced: None, accept_loss_ms: None };
    world.order(order).expect("force goes on from half-way");
    world.second();

    world.done(Step::Fence);
    world.done(Step::Restore);
    world.run(5);

    assert!(world.durable().open_run().is_none(), "A lives and does not confirm the fence, so the second run stops");
    assert_eq!(world.durable().role, Role::Moving { run: first });
    world.restart();
    assert!(matches!(world.durable().role, Role::Moving { .. }));
}

/// A pair whose storage has no images and tells the age of its copy.
fn aged() -> Policy {
    let mut rules = policy();
    (rules.pairs[0].plan.mirrored, rules.pairs[0].plan.aged) = (false, true);
    rules
}

#[test]
fn a_copy_whose_age_is_told_has_a_bound_before_the_run_and_one_of_its_own_in_it() {
    let mut world = World::healthy(aged());
    world.sees = DEAD;
    world.run(20);
    let asked = world.request().expect("it is open");
    assert!(matches!(asked.bound_at_expiry, LossBound::AtMost(_)), "{:?}", asked.bound_at_expiry);
    world.approve().expect("no word about the loss is needed");
    world.second();

    world.play_until(None);

    assert_eq!(ending(&world), Some(Ending::Succeeded));
    assert!(matches!(world.run_state().bound, Some(LossBound::AtMost(_))));
    assert!(world.run_state().entry(Step::Quiesce).is_none());
}

#[test]
fn a_copy_of_which_nobody_can_tell_the_age_any_more_stops_the_run_unless_any_loss_was_accepted() {
    for (accept_loss_ms, goes_on) in [(None, false), (Some(u64::MAX), true)] {
        let mut world = World::healthy(aged());
        world.sees = DEAD;
        world.run(20);
        let (request, accept_unfenced) = (world.request().expect("it is open").id, Some("power is off".into()));
        world.order(Order::Approve { request, accept_unfenced, accept_loss_ms }).expect("it is good");
        world.second();
        world.done(Step::Fence);

        let unknown = ImageFacts { newest_complete: None, source_time_ms: None, ..world.image() };
        let finding = Finding::Mirror(MirrorFacts { images: vec![unknown] });
        world.end(Step::ConsistencyPoint, 1, StepResult::Done { detail: "unknown".into(), finding });
        world.play_until(None);

        let ended = ending(&world);
        assert_eq!(ended == Some(Ending::Succeeded), goes_on, "{ended:?}");
        assert_eq!(
            matches!(&ended, Some(Ending::Stopped { why }) if why.contains("loss bound")),
            !goes_on,
            "{ended:?}"
        );
    }
}
