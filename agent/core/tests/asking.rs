//! Gates and questions: S2, S8, S11, and the shadow ledger.

mod common;

use common::*;
use understudy_core::*;

fn auto() -> Policy {
    let mut policy = policy();
    policy.pairs[0].mode = Mode::Auto;
    policy
}

fn down_and_asked() -> World {
    let mut world = World::healthy(policy());
    world.sees = DEAD;
    world.run(20);
    assert!(world.request().is_some());
    world
}

fn approve(request: RequestId) -> Order {
    Order::Approve { request, accept_unfenced: None, accept_loss_ms: None }
}

fn shadow(world: &World) -> Option<(bool, Option<String>)> {
    world.journal.iter().rev().find_map(|(_, record)| match record {
        Record::Shadow { would_act, decided_by, .. } => Some((*would_act, decided_by.clone())),
        _ => None,
    })
}

#[test]
fn observe_never_writes_and_refuses_even_force() {
    let mut watching = policy();
    watching.pairs[0].mode = Mode::Observe;
    let mut world = World::healthy(watching);
    world.sees = DEAD;
    world.run(60);

    let force = Order::Failover { force: true, reason: "now".into(), accept_unfenced: None, accept_loss_ms: None };
    let refusal = world.order(force).expect_err("observe never writes");

    assert!(refusal.why.contains("mode: confirm"), "{refusal}");
    assert_eq!(world.writes(), 0);
    assert!(world.request().is_none());
    assert!(!world.sent.iter().any(|c| matches!(c, Command::HoldLease { .. })));
}

#[test]
fn confirm_asks_once_and_does_nothing_by_itself() {
    let mut world = down_and_asked();

    world.run(40);

    assert_eq!(world.records(|r| matches!(r, Record::Requested { .. })), 1);
    assert_eq!(world.writes(), 0);
}

#[test]
fn a_request_names_the_price_at_its_expiry() {
    let world = down_and_asked();
    let request = world.request().expect("it is open");

    let (LossBound::AtMost(now), LossBound::AtMost(later)) = (request.bound, request.bound_at_expiry) else {
        panic!("the bound is known")
    };
    // Age of the snapshot, half a second of clock error, 35 s of write-back.
    let age = u64::try_from(request.asked.wall_ms - 1_800_000_000_000).expect("time goes on");
    assert_eq!(now, age + 500 + 35_000);
    assert_eq!(later, now + 120_000);
}

#[test]
fn auto_without_a_witness_is_confirm_and_the_shadow_ledger_says_so() {
    let mut world = World::healthy(auto());
    world.sees = DEAD;

    world.run(30);

    assert!(world.request().is_some());
    assert_eq!(world.writes(), 0);
    let (would_act, decided_by) = shadow(&world).expect("the decision is recorded");
    assert!(!would_act);
    assert!(decided_by.expect("a gate was closed").contains("witness"));
}

#[test]
fn auto_acts_when_a_third_site_says_down_throughout() {
    let mut world = World::healthy(auto());
    (world.sees, world.witness) = (DEAD, Says::Down);

    world.run(30);

    assert!(matches!(world.run_state().authority, Authority::Automatic { .. }));
    assert!(world.writes() > 0);
}

#[test]
fn a_witness_that_spoke_too_late_does_not_open_auto_until_it_has_said_so_for_the_hold_down() {
    let mut world = World::healthy(auto());
    world.sees = DEAD;
    world.run(12);
    world.witness = Says::Down;

    world.run(8);
    assert!(world.durable().run.is_none());
    world.run(6);

    assert!(world.durable().run.is_some());
}

#[test]
fn a_blind_witness_is_no_witness() {
    let mut world = World::healthy(auto());
    (world.sees, world.witness) = (DEAD, Says::Blind);

    world.run(60);

    assert!(world.durable().run.is_none());
}

#[test]
fn a_witness_at_the_primary_site_can_only_veto() {
    let mut policy = auto();
    policy.pairs[0].witnesses[0].kind = WitnessKind::PrimarySite;
    let mut world = World::healthy(policy);
    (world.sees, world.witness) = (DEAD, Says::Down);

    world.run(60);

    assert!(world.durable().run.is_none());
    assert!(world.request().is_some());
}

#[test]
fn in_confirm_the_shadow_ledger_says_what_auto_would_have_done() {
    let mut world = World::healthy(policy());
    (world.sees, world.witness) = (DEAD, Says::Down);

    world.run(30);

    assert_eq!(shadow(&world), Some((true, None)));
    assert!(world.durable().run.is_none());
}

#[test]
fn one_approval_starts_one_run_and_is_spent() {
    let mut world = down_and_asked();
    let request = world.request().expect("it is open").id;

    world.order(approve(request.clone())).expect("it is good");
    let again = world.order(approve(request)).expect_err("it is spent");

    assert!(again.why.contains("not open"), "{again}");
    assert_eq!(world.records(|r| matches!(r, Record::RunStarted { .. })), 1);
    assert_eq!(world.records(|r| matches!(r, Record::Refused { .. })), 1);
}

#[test]
fn an_answer_to_a_request_that_never_was_is_refused() {
    let mut world = down_and_asked();

    let refusal = world.order(approve("nexus-99".into())).expect_err("nobody asked that");

    assert!(refusal.why.contains("nexus-1"), "{refusal}");
}

#[test]
fn a_request_is_void_when_life_returns() {
    let mut world = down_and_asked();
    let request = world.request().expect("it is open").id;

    world.sees.api = Reading::Up;
    world.second();

    assert!(world.request().is_none());
    assert!(world.order(approve(request)).is_err());
}

#[test]
fn a_request_is_void_when_a_signal_of_the_quorum_changes_and_is_asked_anew() {
    let mut world = down_and_asked();

    world.sees.ceph = UNKNOWN;
    world.second();
    assert!(world.request().is_none());
    world.sees.ceph = DOWN;
    world.run(20);

    assert_eq!(world.request().expect("it is asked anew").id, "nexus-2".into());
}

#[test]
fn a_request_is_void_when_the_copy_changes() {
    let mut world = World::healthy(policy());
    world.syncing = Some(11);
    world.second();
    world.sees = DEAD;
    world.run(20);
    assert_eq!(world.request().expect("it is open").id, "nexus-1".into());

    // The sync is given up: no sign of life, but a promote would leave something else.
    world.syncing = None;
    world.read_mirror();

    assert_ne!(world.request().map(|r| r.id), Some("nexus-1".into()));
}

#[test]
fn a_request_stands_while_nothing_changes_although_readings_go_on() {
    let mut world = down_and_asked();

    world.run(50);

    assert_eq!(world.request().expect("it stands").id, "nexus-1".into());
}

#[test]
fn an_unanswered_request_escalates_then_expires_and_is_asked_anew() {
    let mut world = down_and_asked();
    let first = world.request().expect("it is open").id;

    world.run(60);
    assert!(world.request().expect("it is open").escalated);
    world.run(61);

    assert!(world.order(approve(first)).is_err());
    assert_eq!(world.request().expect("it is asked anew").id, "nexus-2".into());
}

#[test]
fn a_denial_is_kept_until_another_hold_down() {
    let mut world = down_and_asked();
    let request = world.request().expect("it is open").id;

    world.order(Order::Deny { request, reason: "they are mending it".into() }).expect("it is open");
    world.run(300);
    assert!(world.request().is_none());
    world.sees = ALIVE;
    world.run(5);
    world.sees = DEAD;
    world.run(100);

    assert!(world.request().is_some());
    assert_eq!(world.writes(), 0);
}

#[test]
fn a_restart_voids_an_open_request_and_asks_anew() {
    let mut world = down_and_asked();
    let first = world.request().expect("it is open").id;

    world.restart();

    assert!(world.request().is_none());
    assert!(world.order(approve(first)).is_err());
    world.run(30);
    assert_eq!(world.request().expect("it is asked anew").id, "nexus-2".into());
}

#[test]
fn a_spent_approval_stays_spent_over_a_restart() {
    let mut world = down_and_asked();
    let request = world.request().expect("it is open").id;
    world.order(approve(request.clone())).expect("it is good");

    world.restart();

    assert!(world.order(approve(request)).is_err());
    assert_eq!(world.records(|r| matches!(r, Record::RunStarted { .. })), 1);
}

#[test]
fn a_stale_copy_closes_the_gate_and_only_a_named_loss_opens_it() {
    let mut strict = policy();
    strict.pairs[0].rpo_max = secs(60);
    let mut world = World::healthy(strict);
    world.sees = DEAD;
    world.run(30);
    let request = world.request().expect("it is asked, with its price");
    assert!(request.needs_loss_consent);

    let refusal = world.order(approve(request.id.clone())).expect_err("the loss was not accepted");
    assert!(refusal.why.contains("--accept-loss"), "{refusal}");
    let LossBound::AtMost(bound) = request.bound_at_expiry else { panic!("the bound is known") };
    let too_little =
        Order::Approve { request: request.id.clone(), accept_unfenced: None, accept_loss_ms: Some(bound - 1) };
    assert!(world.order(too_little).is_err());
    let enough = Order::Approve { request: request.id, accept_unfenced: None, accept_loss_ms: Some(bound) };

    world.order(enough).expect("the loss is accepted by name");
}

#[test]
fn an_unlimited_loss_never_stands_for_an_unknown_one_of_images_that_have_snapshots() {
    let mut world = down_and_asked();
    let request = world.request().expect("a request is open").id;
    let accept_unfenced = Some("power is off".into());

    world
        .order(Order::Approve { request, accept_unfenced, accept_loss_ms: Some(ANY_LOSS) })
        .expect("the bound is known");

    assert_eq!(world.run_state().accepted, LossBound::AtMost(u64::MAX), "an infinite bound exceeds it");
}

#[test]
fn a_witness_that_also_sees_life_does_not_say_down() {
    let mut world = World::healthy(auto());
    world.sees = DEAD;
    world.run(5);
    let mixed = vec![(Domain::Service, Reading::Up), (Domain::ControlPlane, DOWN), (Domain::Storage, DOWN)];
    let report = WitnessReport::Sees { domains: mixed };

    world.event(Event::WitnessRead { pair: PAIR, witness: 0, started_ms: world.now.boot_ms, report });

    let says = |r: &Record| matches!(r, Record::Witness { says: WitnessSays::Alive, .. });
    assert_eq!(world.records(says), 1);
    assert!(world.view().automatic.iter().any(|g| g.gate == Gate::Witness && !g.open));
}

#[test]
fn an_unknown_loss_can_not_be_accepted() {
    let mut world = World::new(policy());
    // Clocks were never compared: nobody can tell how old the copy is.
    world.run(10);
    world.sees = DEAD;
    world.run(20);
    let request = world.request().expect("it is asked").id;

    let order = Order::Approve { request, accept_unfenced: None, accept_loss_ms: Some(ANY_LOSS) };

    assert!(world.order(order).is_err());
    assert_eq!(world.writes(), 0);
}

#[test]
fn with_a_sync_under_way_the_snapshot_before_the_newest_complete_one_counts() {
    let mut world = World::healthy(policy());
    // Snapshot 10 is known; 11 comes a minute later and is complete; 12 is under way.
    let mut image = world.image();
    (image.newest_complete, image.source_time_ms) = (Some(11), Some(1_800_000_060_000));
    let facts = MirrorFacts { images: vec![image.clone()] };
    world.event(Event::MirrorRead { pair: PAIR, probe: 3, started_ms: world.now.boot_ms, facts });
    image.syncing = Some(12);
    let facts = MirrorFacts { images: vec![image] };
    world.event(Event::MirrorRead { pair: PAIR, probe: 3, started_ms: world.now.boot_ms, facts });

    let point = &world.view().points[0];

    assert!(point.mid_sync);
    assert_eq!((point.snapshot, point.source_time_ms), (Some(10), Some(1_800_000_000_000)));
}

#[test]
fn of_several_images_the_oldest_counts_and_their_skew_is_gated() {
    let mut world = World::healthy(policy());
    world.run(90);
    let look = |world: &mut World, second_ms: i64| {
        let mut other = world.image();
        (other.image, other.source_time_ms) = ("rbd/more".into(), Some(second_ms));
        let facts = MirrorFacts { images: vec![world.image(), other] };
        world.event(Event::MirrorRead { pair: PAIR, probe: 3, started_ms: world.now.boot_ms, facts });
        world.view().bound
    };

    let bound = look(&mut world, 1_800_000_030_000);
    let LossBound::AtMost(ms) = bound else { panic!("the bound is known") };
    assert_eq!(ms, u64::try_from(world.now.wall_ms - 1_800_000_000_000).expect("time goes on") + 35_500);

    assert_eq!(look(&mut world, 1_800_000_090_000), LossBound::Infinite);
}

#[test]
fn an_orphan_of_an_unfinished_promote_has_no_bound() {
    let mut world = World::healthy(policy());
    let mut image = world.image();
    image.orphan = true;

    let facts = MirrorFacts { images: vec![image] };
    world.event(Event::MirrorRead { pair: PAIR, probe: 3, started_ms: world.now.boot_ms, facts });

    assert_eq!(world.view().bound, LossBound::Infinite);
}

#[test]
fn a_standby_that_is_not_ready_is_told_and_nothing_is_asked() {
    let mut world = World::healthy(policy());
    world.missing = vec!["the bundle is empty".into()];
    world.sees = DEAD;

    world.run(60);

    assert!(world.request().is_none());
    assert_eq!(world.pages(), [PageKind::SiteDown]);
}

#[test]
fn without_the_lease_nothing_starts() {
    let mut world = World::healthy(policy());
    world.lease = false;
    world.event(Event::Lease { pair: PAIR, until_ms: None, holder: Some("the other one".into()), epoch: None });
    world.sees = DEAD;

    world.run(60);

    assert!(world.request().is_none());
    assert!(world.view().gates.iter().any(|g| g.gate == Gate::Lease && g.value.contains("the other one")));
}

#[test]
fn a_recovery_block_holds_auto_back_until_a_human_lifts_it() {
    let mut world = World::healthy(auto());
    (world.sees, world.witness) = (DEAD, Says::Down);
    world.run(30);
    world.sees.web = Reading::Up;
    world.play_until(None);
    assert!(
        matches!(world.run_state().phase, Phase::Ended { ending: Ending::Stopped { .. }, .. }),
        "{:?}",
        world.run_state().phase
    );
    let runs = |world: &World| world.records(|r| matches!(r, Record::RunStarted { .. }));

    world.sees = DEAD;
    world.run(7200);
    assert_eq!(runs(&world), 1, "the block does not end by itself");
    world.order(Order::Unblock).expect("there is one");
    world.run(30);

    assert_eq!(runs(&world), 2);
}

#[test]
fn automatic_failovers_of_many_pairs_are_bounded() {
    let mut many = auto();
    many.pairs[0].witnesses[0].kind = WitnessKind::ThirdSite;
    let world = World::healthy(many.clone());
    let gates = |before_ms: i64| {
        let mut other = world.durable().clone();
        other.automatic_wall_ms = vec![world.now.wall_ms - before_ms];
        let snapshot = Record::Snapshot { pairs: [("other".into(), other)].into() };
        let state = State::restore(&many, [(world.now, snapshot)], world.now);
        let view = state.view(&many, world.now);
        view.pairs[0].automatic.iter().find(|g| g.gate == Gate::BlastRadius).expect("it is asked").open
    };

    assert!(gates(5_000), "pairs that fail together are one decision");
    assert!(!gates(600_000), "another one in the same hour is too many");
    assert!(gates(4_000_000), "the window is over");
    assert!(!gates(-600_000), "a clock that was set back makes nothing forgotten");
}

#[test]
fn a_wall_clock_that_is_set_forward_ends_no_pause() {
    let mut world = World::healthy(policy());
    world.order(Order::Pause { for_ms: Some(600_000), reason: "maintenance".into() }).expect("it can be paused");

    world.now.wall_ms += 3_600_000;
    world.run(60);
    assert!(world.durable().pause.is_some());
    world.run(600);

    assert!(world.durable().pause.is_none());
}

#[test]
fn a_pause_closes_every_gate_survives_a_restart_and_ends_by_itself() {
    let mut world = World::healthy(policy());
    world.order(Order::Pause { for_ms: Some(600_000), reason: "maintenance".into() }).expect("it can be paused");
    world.restart();
    world.sees = DEAD;

    world.run(60);
    assert!(world.request().is_none());
    world.run(600);

    assert!(world.request().is_some());
}

#[test]
fn a_wall_clock_that_is_set_back_after_the_death_of_a_makes_no_loss_look_smaller() {
    let mut world = World::healthy(policy());
    world.sees = DEAD;
    world.run(20);
    let LossBound::AtMost(before) = world.view().bound else { panic!("the bound is known") };
    let set_back_ms = 600_000;

    world.now.wall_ms -= set_back_ms;
    world.run(20);

    let LossBound::AtMost(after) = world.view().bound else { panic!("the bound is known") };
    assert!(after >= before + 20_000, "{before} ms before, {after} ms after");
}

#[test]
fn a_wall_clock_that_is_set_back_while_the_daemon_is_down_makes_no_loss_look_smaller() {
    let mut world = World::healthy(policy());
    world.sees = DEAD;
    world.run(20);
    let LossBound::AtMost(before) = world.view().bound else { panic!("the bound is known") };

    world.now = world.now + secs(30);
    world.now.wall_ms -= 600_000;
    world.restart();
    world.run(20);

    let LossBound::AtMost(after) = world.view().bound else { panic!("the bound is known") };
    assert!(after >= before + 50_000, "{before} ms before, {after} ms after");
}

#[test]
fn what_a_clock_that_was_set_adds_to_its_error_is_measured_away_while_a_lives() {
    let mut world = World::healthy(policy());
    world.now.wall_ms += 60_000;
    world.run(1);
    assert_eq!(world.durable().clock_error_ms, Some(60_500));

    world.event(Event::ClockCompared { pair: PAIR, error_ms: 700 });

    assert_eq!(world.durable().clock_error_ms, Some(700));
}

#[test]
fn an_approval_that_comes_between_the_expiry_and_the_next_tick_is_too_late() {
    let mut world = World::healthy(policy());
    world.sees = DEAD;
    world.run(20);
    let request = world.request().expect("a request is open");

    world.now.wall_ms += i64::try_from(request.expires_ms - world.now.boot_ms).expect("a short time");
    world.now.boot_ms = request.expires_ms;

    assert!(world.approve().is_err());
    assert!(world.durable().run.is_none());
}

#[test]
fn a_snapshot_that_seems_to_be_of_the_future_was_taken_nobody_can_tell_when() {
    let mut world = World::healthy(policy());
    let mut image = world.image();
    let ahead_ms = |ms: i64| Some(1_800_000_000_000 + 11_000 + 500 + ms);
    world.run(1);

    for (ms, known) in [(1, false), (0, true)] {
        (image.newest_complete, image.source_time_ms) = (Some(11), ahead_ms(ms));
        let facts = MirrorFacts { images: vec![image.clone()] };
        world.event(Event::MirrorRead { pair: PAIR, probe: 3, started_ms: world.now.boot_ms, facts });

        assert_eq!(matches!(world.view().bound, LossBound::AtMost(_)), known, "{:?}", world.view().bound);
    }
}

#[test]
fn a_wall_clock_that_is_set_back_while_the_daemon_starts_makes_no_loss_look_smaller() {
    let mut world = World::healthy(policy());
    world.sees = DEAD;
    world.run(20);
    let LossBound::AtMost(before) = world.view().bound else { panic!("the bound is known") };

    world.restart();
    world.now.wall_ms -= 600_000;
    world.run(20);

    let LossBound::AtMost(after) = world.view().bound else { panic!("the bound is known") };
    assert!(after >= before + 20_000, "{before} ms before, {after} ms after");
}

#[test]
fn a_clock_that_was_set_is_not_forgotten_by_a_crash_before_what_follows_from_it_is_written_down() {
    let mut world = World::healthy(policy());
    world.now.wall_ms -= 600_000;
    // The start that noticed it wrote its first record, and no more.
    let started = Record::Started { version: "test".into(), config_digest: "digest".into() };
    world.journal.push((world.now, started));

    world.restart();

    assert_eq!(world.durable().clock_error_ms, Some(600_500));
}

#[test]
fn the_loss_ends_no_earlier_than_the_witness_began_to_say_down_without_a_gap() {
    let mut world = World::healthy(policy());
    (world.sees, world.witness) = (DEAD, Says::Down);
    world.run(20);
    let bound = |world: &World| match world.view().bound {
        LossBound::AtMost(ms) => ms,
        LossBound::Infinite => panic!("the bound is known"),
    };
    let continuous = bound(&world);

    world.witness = Says::Nothing;
    world.run(1);
    world.witness = Says::Down;
    world.run(1);

    assert!(bound(&world) >= continuous + 20_000, "{continuous} ms before the gap, {} ms after it", bound(&world));
}
