//! Edges of what is shown and of single values, as `edges.rs`: found by cargo-mutants.

mod common;

use std::time::Duration;

use common::*;
use understudy_core::*;

fn flips(world: &World) -> Vec<String> {
    world.view().would_flip
}

fn tick(world: &mut World, ms: u64) {
    world.now = world.now + Duration::from_millis(ms);
    world.event(Event::Tick);
}

fn domain(world: &World, wanted: Domain) -> DomainState {
    let domains = world.view().domains;
    domains.into_iter().find(|(domain, _)| *domain == wanted).expect("each is shown").1
}

// Why nothing happens.

#[test]
fn of_a_healthy_pair_everything_is_named_that_would_have_to_happen() {
    let world = World::healthy(policy());

    assert_eq!(
        flips(&world),
        [
            "at least 3 domains go Down; not Down are: web (Up), api (Up), ceph (Up)",
            "no sign of life for 3 s; the last was probe ceph",
            "10 s of hold-down, witnessed without a break",
        ]
    );
}

#[test]
fn of_a_hold_down_what_is_left_is_named_until_it_is_complete() {
    let mut world = World::healthy(policy());
    world.sees = DEAD;
    world.run(3);
    assert_eq!(flips(&world), ["10 s more of hold-down, 0 of 3 rounds witnessed"]);
    world.run(1);
    assert_eq!(flips(&world), ["9 s more of hold-down, 1 of 3 rounds witnessed"]);
    world.run(8);
    assert_eq!(flips(&world), ["1 s more of hold-down, 3 of 3 rounds witnessed"]);
    world.run(1);
    assert_eq!(flips(&world), Vec::<String>::new());
}

#[test]
fn a_hold_down_that_lacks_nothing_but_rounds_says_so() {
    let mut short = policy();
    short.pairs[0].hold_down = secs(1);
    let mut world = World::healthy(short);
    world.sees = DEAD;
    world.run(5);

    assert_eq!(flips(&world), ["0 s more of hold-down, 2 of 3 rounds witnessed"]);
}

#[test]
fn a_complete_hold_down_lacks_nothing_whatever_its_veto() {
    let mut short = policy();
    (short.pairs[0].hold_down, short.pairs[0].veto_within) = (secs(3), secs(30));
    let mut world = World::healthy(short);
    world.sees = DEAD;
    world.run(6);
    assert_eq!(world.view().hold.expect("it is complete").rounds, 3);

    assert_eq!(flips(&world), ["no sign of life for 30 s; the last was probe ceph"]);
}

#[test]
fn a_doubt_and_a_flapping_signal_are_named() {
    let mut world = World::healthy(policy());
    world.fit = DOWN;
    world.second();
    assert_eq!(flips(&world)[0], "we cease to doubt ourselves: self-check own-api is Down(refused)");

    let mut world = World::healthy(policy());
    for _ in 0..3 {
        world.sees = Sees { web: DOWN, ..ALIVE };
        world.run(3);
        world.sees = ALIVE;
        world.run(2);
    }
    assert!(flips(&world).contains(&"the flapping ends: every signal keeps its state for 60 s".to_owned()));
}

#[test]
fn a_life_that_is_older_than_the_veto_hinders_nothing() {
    let life = |world: &World| flips(world).iter().any(|flip| flip.starts_with("no sign of life"));
    let mut world = World::healthy(policy());
    world.sees = Sees { web: UNKNOWN, api: UNKNOWN, ceph: UNKNOWN };
    world.run(2);
    assert!(life(&world));
    world.run(1);

    assert!(!life(&world));
}

#[test]
fn a_healthy_pair_leaves_nothing_in_the_shadow_ledger() {
    let world = World::healthy(policy());

    assert_eq!(world.records(|r| matches!(r, Record::Shadow { .. })), 0);
}

#[test]
fn a_domain_without_a_voter_is_not_up_and_one_that_nobody_can_read_is_not_partly_down() {
    let mut two = policy();
    two.pairs[0].probes[2].votes = false;
    two.pairs[0].at_least = 2;
    let mut world = World::healthy(two);
    assert_eq!(domain(&world, Domain::Storage), DomainState::NoVoter);

    world.sees = Sees { web: UNKNOWN, ..ALIVE };
    world.run(2);

    assert_eq!(domain(&world, Domain::Service), DomainState::Unknown);
}

#[test]
fn a_flapping_nexus_at_an_active_b_is_suspect() {
    let mut world = World::failing_over(policy());
    world.play_until(None);
    for _ in 0..3 {
        world.standby = Reading::Up;
        world.run(3);
        world.standby = DOWN;
        world.run(4);
    }

    assert_eq!(world.verdict(), Verdict::Suspect);
}

// Rounds, and how long a reading counts.

#[test]
fn a_round_is_as_long_as_the_grid_of_the_slowest_probe_that_the_quorum_rests_on() {
    let rounds = |policy: Policy| {
        let mut world = World::healthy(policy);
        world.sees = DEAD;
        world.run(40);
        world.records(|r| matches!(r, Record::Round { .. }))
    };
    let plain = rounds(policy());
    assert!(plain >= 9, "{plain}");

    let mut slow_mirror = policy();
    slow_mirror.pairs[0].probes[3].period = secs(5);
    assert_eq!(rounds(slow_mirror), plain, "it has no vote");
    let mut slow_standby = policy();
    slow_standby.pairs[0].probes[4].period = secs(5);
    assert_eq!(rounds(slow_standby), plain, "it looks at B");
    let mut slow_outsider = policy();
    (slow_outsider.pairs[0].at_least, slow_outsider.pairs[0].probes[2].period) = (2, secs(5));
    slow_outsider.pairs[0].of = vec![Domain::Service, Domain::ControlPlane];
    assert_eq!(rounds(slow_outsider), plain, "its domain is not asked");
    let mut slow_voter = policy();
    slow_voter.pairs[0].probes[2].period = secs(5);
    assert!(rounds(slow_voter) < plain);
}

#[test]
fn a_reading_counts_for_two_periods_and_a_timeout() {
    let web = |world: &World| world.view().signals[0].state;
    let mut world = World::healthy(policy());
    tick(&mut world, 1_500);
    tick(&mut world, 1_500);
    assert_eq!(web(&world), Reading::Up);
    tick(&mut world, 1);

    assert!(matches!(web(&world), Reading::Unknown(_)));
}

#[test]
fn a_self_check_counts_for_two_periods_and_a_timeout() {
    let doubts = |world: &World| world.records(|r| matches!(r, Record::Doubt { why: Some(_) }));
    let mut world = World::healthy(policy());
    let before = doubts(&world);
    tick(&mut world, 1_500);
    tick(&mut world, 1_500);
    assert_eq!(doubts(&world), before);
    tick(&mut world, 1);

    assert_eq!(doubts(&world), before + 1);
}

#[test]
fn a_stall_and_a_jump_that_are_as_long_as_allowed_are_none() {
    let doubts = |change: fn(&mut World)| {
        let mut world = World::healthy(policy());
        let doubts = |world: &World| world.records(|r| matches!(r, Record::Doubt { why: Some(_) }));
        let before = doubts(&world);
        change(&mut world);
        doubts(&world) - before
    };

    assert_eq!(doubts(|world| tick(world, 2_000)), 0);
    assert_eq!(doubts(|world| tick(world, 2_001)), 1);
    let jump = |world: &mut World, ms| {
        world.now.wall_ms += ms;
        tick(world, 0);
    };
    let mut world = World::healthy(policy());
    jump(&mut world, 2_000);
    assert_ne!(world.verdict(), Verdict::Blind);
    jump(&mut world, 2_001);
    assert_eq!(world.verdict(), Verdict::Blind);
}

#[test]
fn a_group_of_self_checks_is_not_vouched_for_by_another_group() {
    let check = |name: &str, group: &str| SelfCheck {
        name: name.into(),
        group: Some(group.into()),
        period: secs(1),
        timeout: secs(1),
    };
    let mut groups = policy();
    groups.self_checks = vec![check("a", "resolvers"), check("b", "uplinks")];
    let mut world = World::new(groups);
    for _ in 0..5 {
        world.second();
        world.event(Event::SelfRead { check: 1, observation: world.observe(Reading::Up) });
    }
    assert_ne!(world.verdict(), Verdict::Blind);

    world.fit = DOWN;
    world.second();

    assert_eq!(world.verdict(), Verdict::Blind);
}

#[test]
fn the_doubt_of_a_stall_names_the_stall_and_not_what_grew_old_in_it() {
    let mut world = World::healthy(policy());

    tick(&mut world, 10_000);

    let why = world.journal.iter().rev().find_map(|(_, r)| match r {
        Record::Doubt { why } => why.clone(),
        _ => None,
    });
    assert_eq!(why.as_deref(), Some("the daemon itself was not running for a while"));
}

#[test]
fn life_beside_a_forced_run_stops_nothing_and_is_no_news() {
    let mut world = World::healthy(policy());
    world.sees = Sees { ceph: DOWN, ..ALIVE };
    world.run(20);
    let lives = |world: &World| world.records(|r| matches!(r, Record::Life { .. }));
    let before = lives(&world);
    let reason = "Ceph is gone".to_owned();
    world
        .order(Order::Failover { force: true, reason, accept_unfenced: None, accept_loss_ms: None })
        .expect("force skips the verdict");

    world.run(5);

    assert_eq!(lives(&world), before);
}

#[test]
fn an_event_is_that_of_its_own_pair() {
    let mut two = policy();
    two.pairs.push(PairPolicy { name: "other".into(), ..two.pairs[0].clone() });
    let mut world = World::new(two);
    for _ in 0..3 {
        world.now = world.now + secs(1);
        world.event(Event::Read { pair: PairId(1), probe: 0, observation: world.observe(Reading::Up) });
    }

    let view = world.state.as_ref().expect("there is one").view(&world.policy, world.now);

    assert!(matches!(view.pairs[0].signals[0].state, Reading::Unknown(_)));
    assert_eq!(view.pairs[1].signals[0].state, Reading::Up);
}

// Values.

#[test]
fn a_source_time_is_written_down_once() {
    let world = World::healthy(policy());

    assert_eq!(world.records(|r| matches!(r, Record::SourceTime { .. })), 1);
}

#[test]
fn of_the_source_times_the_latest_are_kept() {
    let mut times = SourceTimes::default();
    let image: ImageName = "rbd/data".into();
    for n in 0..40 {
        times.learn(&image, n, i64::try_from(n).expect("it is small"));
    }

    assert_eq!(times.0[&image].keys().copied().collect::<Vec<_>>(), (24..40).collect::<Vec<u64>>());
}

#[test]
fn a_bound_exceeds_what_is_less_and_what_is_known() {
    let at_most = LossBound::AtMost;
    assert!(at_most(2).exceeds(at_most(1)));
    assert!(!at_most(1).exceeds(at_most(1)) && !at_most(1).exceeds(at_most(2)));
    assert!(LossBound::Infinite.exceeds(at_most(9)) && !LossBound::Infinite.exceeds(LossBound::Infinite));
}

#[test]
fn the_wait_before_another_try_doubles_up_to_64_times() {
    let waits = [1, 2, 3, 7, 8, 100].map(|attempt| backoff(secs(3), attempt).as_secs());

    assert_eq!(waits, [3, 6, 12, 192, 192, 192]);
}

#[test]
fn words_are_those_of_the_documents() {
    assert_eq!([Mode::Observe, Mode::Confirm, Mode::Auto].map(|m| m.to_string()), ["observe", "confirm", "auto"]);
    assert_eq!(Domain::ALL.map(|d| d.to_string()), ["service", "control_plane", "storage"]);
    assert_eq!([Verdict::Up, Verdict::SiteDown, Verdict::Blind].map(|v| v.to_string()), ["Up", "SiteDown", "Blind"]);
    assert_eq!([Gate::Rpo, Gate::Lease, Gate::Mode].map(|g| g.to_string()), ["rpo", "lease", "mode"]);
    assert_eq!(LossBound::AtMost(61_250).to_string(), "61.2 s");
    assert_eq!(LossBound::Infinite.to_string(), "unknown");
}
