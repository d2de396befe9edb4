//! Edges of what is seen, asked and accepted, as `edges.rs`: found by cargo-mutants.

mod common;

use std::time::Duration;

use common::*;
use understudy_core::*;

fn count(world: &World, wanted: fn(&Record) -> bool) -> usize {
    world.records(wanted)
}

fn holds(world: &World) -> usize {
    count(world, |r| matches!(r, Record::HoldDownBegan { .. }))
}

fn lives(world: &World) -> usize {
    count(world, |r| matches!(r, Record::Life { .. }))
}

fn auto() -> Policy {
    let mut auto = policy();
    auto.pairs[0].mode = Mode::Auto;
    auto
}

fn witness_sees(world: &mut World, domains: Vec<(Domain, Reading)>) {
    let report = WitnessReport::Sees { domains };
    world.event(Event::WitnessRead { pair: PAIR, witness: 0, started_ms: world.now.boot_ms, report });
}

/// One second with all its readings but those of the witness, which says `domains` or nothing at all.
fn second_with(world: &mut World, domains: Option<&[(Domain, Reading)]>) {
    for _ in 0..4 {
        world.now = world.now + Duration::from_millis(250);
        world.event(Event::Tick);
    }
    world.event(Event::Lease { pair: PAIR, until_ms: Some(world.now.boot_ms + 30_000), holder: None, epoch: None });
    world.event(Event::Readiness { pair: PAIR, missing: vec![] });
    world.event(Event::SelfRead { check: 0, observation: world.observe(Reading::Up) });
    for (probe, reading) in [(0, world.sees.web), (1, world.sees.api), (2, world.sees.ceph)] {
        world.event(Event::Read { pair: PAIR, probe, observation: world.observe(reading) });
    }
    world.read_mirror();
    if let Some(domains) = domains {
        witness_sees(world, domains.to_vec());
    }
}

fn started(world: &World) -> usize {
    count(world, |r| matches!(r, Record::RunStarted { .. }))
}

fn says(world: &World, says: WitnessSays) -> usize {
    world.records(|r| matches!(r, Record::Witness { says: said, .. } if *said == says))
}

// The hold-down over a reload.

/// How many hold-downs began after a reload in the middle of one.
fn begun_after(change: impl FnOnce(&mut PairPolicy)) -> usize {
    let mut world = World::healthy(policy());
    world.sees = DEAD;
    world.run(6);
    assert_eq!(holds(&world), 1);
    let mut other = policy();
    change(&mut other.pairs[0]);

    world.reload(other);
    world.run(6);

    holds(&world) - 1
}

#[test]
fn a_hold_down_goes_on_over_a_reload_that_changes_nothing_of_it() {
    assert_eq!(begun_after(|_| {}), 0);
    assert_eq!(begun_after(|pair| pair.hold_down = secs(20)), 0);
}

#[test]
fn a_hold_down_starts_anew_when_what_it_rests_on_is_another() {
    assert_eq!(begun_after(|pair| pair.hold_down = secs(8)), 1);
    assert_eq!(begun_after(|pair| pair.at_least = 2), 1);
    assert_eq!(begun_after(|pair| (pair.at_least, pair.of) = (2, vec![Domain::Service, Domain::ControlPlane])), 1);
    assert_eq!(begun_after(|pair| pair.probes[0].fall = 2), 1);
    assert_eq!(begun_after(|pair| pair.witnesses[0].timeout = secs(2)), 1);
}

// Life.

#[test]
fn a_sign_of_life_is_written_down_where_it_has_an_effect() {
    let mut world = World::healthy(policy());
    assert_eq!(lives(&world), 0, "nothing is decided");
    world.sees = DEAD;
    world.run(6);
    assert_eq!(lives(&world), 0, "B's own Nexus is no life of A");

    world.event(Event::Read { pair: PAIR, probe: 4, observation: world.observe(Reading::Up) });
    assert_eq!(lives(&world), 0, "nor when it answers");
    world.now = world.now + secs(1);
    world.event(Event::Read { pair: PAIR, probe: 0, observation: world.observe(Reading::Up) });

    assert_eq!(lives(&world), 1, "it breaks the hold-down");
}

#[test]
fn a_sign_of_life_is_written_down_in_a_run_that_it_stops_and_in_no_other() {
    let life = |world: &mut World| {
        world.now = world.now + secs(1);
        world.event(Event::Read { pair: PAIR, probe: 0, observation: world.observe(Reading::Up) });
    };
    let mut world = World::failing_over(policy());
    world.sees = Sees { api: UNKNOWN, ..DEAD };
    world.run(2);
    let before = lives(&world);
    life(&mut world);
    assert_eq!(lives(&world), before + 1);
    assert_eq!(count(&world, |r| matches!(r, Record::RunStopping { .. })), 1);

    let mut world = World::failing_over(policy());
    world.play_until(Some(Step::Promote));
    world.sees = Sees { api: UNKNOWN, ..DEAD };
    world.run(2);
    let before = lives(&world);
    life(&mut world);
    assert_eq!(lives(&world), before, "the promote was begun");
}

#[test]
fn a_late_look_from_before_the_hold_down_is_no_life_in_it() {
    let mut world = World::healthy(policy());
    world.sees = DEAD;
    world.run(6);
    let began = world.journal.iter().find(|(_, r)| matches!(r, Record::HoldDownBegan { .. })).expect("it began").0;

    world.event(Event::WitnessRead {
        pair: PAIR,
        witness: 0,
        started_ms: world.now.boot_ms,
        report: WitnessReport::Absent { why: "silent".into() },
    });
    let late = Observation { started_ms: began.boot_ms, ..world.observe(Reading::Up) };
    world.event(Event::Read { pair: PAIR, probe: 4, observation: late });

    assert_eq!(lives(&world), 0);
}

#[test]
fn a_site_is_not_down_while_its_last_sign_of_life_is_younger_than_the_veto() {
    let mut long = policy();
    long.pairs[0].veto_within = secs(30);
    let mut world = World::healthy(long);
    let alive_ms = world.now.boot_ms;
    world.sees = DEAD;
    while world.verdict() != Verdict::SiteDown {
        world.second();
    }

    assert_eq!(world.now.boot_ms - alive_ms, 30_000);
}

// Witnesses.

#[test]
fn a_witness_that_sees_one_domain_down_is_not_sure_and_opens_nothing() {
    let one = [(Domain::Service, DOWN), (Domain::ControlPlane, UNKNOWN), (Domain::Storage, UNKNOWN)];
    let mut world = World::healthy(auto());
    world.sees = DEAD;
    for _ in 0..30 {
        second_with(&mut world, Some(&one));
    }

    assert_eq!(says(&world, WitnessSays::Unsure), 1);
    assert_eq!(says(&world, WitnessSays::Down), 0);
    assert_eq!(started(&world), 0);
}

#[test]
fn a_witness_that_is_not_heard_any_more_says_nothing_after_two_periods_and_its_timeout() {
    let two = [(Domain::Service, DOWN), (Domain::ControlPlane, DOWN)];
    let mut world = World::healthy(policy());
    world.sees = DEAD;
    second_with(&mut world, Some(&two));
    assert_eq!(says(&world, WitnessSays::Down), 1);

    for _ in 0..3 {
        second_with(&mut world, None);
    }
    assert_eq!(says(&world, WitnessSays::Absent), 0);
    second_with(&mut world, None);

    assert_eq!(says(&world, WitnessSays::Absent), 1);
}

#[test]
fn with_a_witness_the_loss_is_counted_to_the_last_sign_of_life_and_one_period() {
    let mut world = World::healthy(policy());
    let alive_wall_ms = world.now.wall_ms;
    (world.sees, world.witness) = (DEAD, Says::Down);
    world.run(20);

    let LossBound::AtMost(bound) = world.view().bound else { panic!("it is known") };

    let age = u64::try_from(alive_wall_ms + 1_000 - 1_800_000_000_000).expect("time goes on");
    assert_eq!(bound, age + 500 + 35_000);
}

// The clocks.

#[test]
fn a_clock_error_is_written_down_when_it_grew_or_shrank_by_more_than_a_second() {
    let errors = |world: &World| count(world, |r| matches!(r, Record::ClockError { .. }));
    let mut world = World::healthy(policy());
    let before = errors(&world);
    let compare = |world: &mut World, error_ms| world.event(Event::ClockCompared { pair: PAIR, error_ms });

    compare(&mut world, 500);
    assert_eq!(errors(&world), before, "it is the same");
    compare(&mut world, 2_000);
    assert_eq!(errors(&world), before + 1);
    compare(&mut world, 1_000);
    assert_eq!(errors(&world), before + 1, "a second is not worth a record");
    compare(&mut world, 900);

    assert_eq!(errors(&world), before + 2);
    assert_eq!(world.durable().clock_error_ms, Some(900));
}

#[test]
fn of_a_site_that_is_not_active_no_clock_is_measured() {
    let mut world = World::failing_over(policy());
    world.play_until(None);
    world.event(Event::ClockCompared { pair: PAIR, error_ms: 90_000 });
    world.now.wall_ms += 60_000;
    world.event(Event::Tick);

    assert_eq!(world.durable().clock_error_ms, Some(500));
}

// Questions and answers.

#[test]
fn a_request_is_void_when_the_rules_are_others() {
    let mut world = World::healthy(policy());
    world.sees = DEAD;
    world.run(20);
    let asked = world.request().expect("it is asked").id;
    let mut other = policy();
    other.config_digest = "another".into();

    world.reload(other);
    world.second();

    assert_ne!(world.request().map(|request| request.id), Some(asked));
}

#[test]
fn a_request_is_escalated_once_and_not_before_half_of_its_time_is_over() {
    let escalations = |world: &World| {
        let is = |c: &&Command| matches!(c, Command::Notify { notice: Notice::Request { escalated: true, .. }, .. });
        world.sent.iter().filter(is).count()
    };
    let mut world = World::healthy(policy());
    world.sees = DEAD;
    while world.request().is_none() {
        world.second();
    }

    world.run(59);
    assert_eq!(escalations(&world), 0);
    world.run(2);
    assert_eq!(escalations(&world), 1);
    world.run(40);

    assert_eq!(escalations(&world), 1);
}

#[test]
fn a_pair_that_was_left_half_way_is_neither_asked_about_nor_paged_as_a_dead_site() {
    let mut world = World::failing_over(policy());
    world.play_until(Some(Step::Promote));
    world.fail(Step::Promote, Failure::Permanent);
    let run = world.run_state().id;
    world.order(Order::Abandon { run, reason: "we look ourselves".into() }).expect("it is stuck");
    world.sent.clear();

    world.run(40);

    assert!(world.request().is_none());
    assert!(!world.pages().contains(&PageKind::SiteDown), "{:?}", world.pages());
}

#[test]
fn a_lease_that_ends_within_the_margin_is_none() {
    let gate = |world: &World| {
        let gates = world.view().gates;
        gates.into_iter().find(|gate| gate.gate == Gate::Lease).expect("it is asked").open
    };
    let mut world = World::healthy(policy());
    world.lease = false;
    let lease = |world: &mut World, for_ms| {
        let until_ms = Some(world.now.boot_ms + for_ms);
        world.event(Event::Lease { pair: PAIR, until_ms, holder: None, epoch: None });
    };

    lease(&mut world, 5_001);
    assert!(gate(&world));
    lease(&mut world, 5_000);
    assert!(!gate(&world));
}

/// Storage of which nobody can tell how old its copy is.
fn unmirrored(rpo: Duration) -> World {
    let mut hooks = policy();
    (hooks.pairs[0].plan.mirrored, hooks.pairs[0].rpo_max) = (false, rpo);
    let mut world = World::new(hooks);
    world.run(10);
    world.sees = DEAD;
    world.run(20);
    world
}

#[test]
fn of_storage_without_snapshots_any_loss_may_be_accepted_and_by_its_name_alone() {
    let mut world = unmirrored(secs(900));
    let request = world.request().expect("it is asked");
    assert_eq!(request.bound, LossBound::Infinite);
    let approve = |accept_loss_ms| Order::Approve {
        request: request.id.clone(),
        accept_unfenced: Some("power is off".into()),
        accept_loss_ms,
    };

    let refusal = world.order(approve(None)).expect_err("nobody knows the loss");
    assert!(refusal.why.contains("--accept-loss unlimited"), "{}", refusal.why);
    world.order(approve(Some(600_000))).expect_err("a number says nothing here");
    world.order(approve(Some(u64::MAX))).expect("it is named");

    assert_eq!(world.run_state().accepted, LossBound::Infinite);
}

#[test]
fn an_unknown_loss_of_images_that_have_snapshots_is_refused_with_the_reason() {
    let mut world = World::new(policy());
    world.run(10);
    world.sees = DEAD;
    world.run(20);
    let request = world.request().expect("it is asked").id;

    let any = Order::Approve { request, accept_unfenced: None, accept_loss_ms: Some(u64::MAX) };
    let refusal = world.order(any).expect_err("no clock was ever compared");

    assert!(refusal.why.contains("no loss can be accepted"), "{}", refusal.why);
}

// B is active.

#[test]
fn an_old_primary_returns_with_its_nexus_and_not_with_its_api_or_a_single_answer() {
    let returned = |world: &World| count(world, |r| matches!(r, Record::OldPrimaryReturned { .. }));
    let mut world = World::failing_over(policy());
    world.play_until(None);
    world.sees = Sees { api: Reading::Up, ceph: Reading::Up, ..DEAD };
    world.run(10);
    assert_eq!(returned(&world), 0, "its API serves nobody");
    world.sees = ALIVE;
    world.second();
    world.sees = DEAD;
    world.run(5);
    assert_eq!(returned(&world), 0, "one answer is none");

    world.sees = ALIVE;
    world.run(3);

    assert_eq!(returned(&world), 1);
}

// The lease is held where something may be written.

#[test]
fn the_lease_is_asked_for_where_something_may_be_written() {
    let asks = |world: &World| world.sent.iter().any(|c| matches!(c, Command::HoldLease { .. }));
    let mut observe = policy();
    observe.pairs[0].mode = Mode::Observe;

    assert!(asks(&World::new(policy())));
    assert!(!asks(&World::new(observe.clone())));

    let mut world = World::failing_over(policy());
    world.sent.clear();
    world.reload(observe);
    assert!(asks(&world), "a run is open");
}

#[test]
fn every_change_of_verdict_names_who_is_not_well() {
    let mut world = World::healthy(policy());
    world.sees = Sees { web: DOWN, ..ALIVE };
    world.run(10);

    let cause = world.journal.iter().rev().find_map(|(_, r)| match r {
        Record::Verdict { to: Verdict::ServiceDown, cause, .. } => Some(cause.clone()),
        _ => None,
    });
    assert_eq!(cause.as_deref(), Some("web is Down(refused)"));
}

// What is kept.

#[test]
fn a_snapshot_of_the_state_keeps_the_source_times_and_the_fences_notes() {
    let mut world = World::failing_over(policy());
    let run = world.run_state().id;
    let (key, value) = ("forced".to_owned(), "pod a-1".to_owned());
    world.event(Event::StepNoted { pair: PAIR, run, step: Step::Fence, key, value, ticket: Ticket(901) });
    let state = world.state.as_ref().expect("there is one");

    let text = serde_json::to_string(&state.snapshot(&world.policy)).expect("it can be written");
    let snapshot: Record = serde_json::from_str(&text).expect("it can be read");
    let restored = State::restore(&world.policy, [(world.now, snapshot)], world.now);

    let durable = restored.durable(PAIR).expect("it is there");
    assert_eq!(durable.times, world.durable().times);
    assert!(durable.times.get(&"rbd/data".into(), 10).is_some());
    assert_eq!(durable.run.as_ref().map(|run| run.notes.len()), Some(1));
}

#[test]
fn a_pair_with_an_open_run_that_is_no_longer_configured_is_named() {
    let mut world = World::failing_over(policy());
    let mut none = policy();
    none.pairs.clear();
    let state = world.state.take().expect("there is one").reload(&world.policy, &none, world.now);

    let names: Vec<String> = state.orphaned().iter().map(ToString::to_string).collect();

    assert_eq!(names, ["nexus"]);
    world.state = Some(state);
}
