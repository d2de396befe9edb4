//! From readings to a verdict: DESIGN.md §3, and S3–S5.

mod common;

use common::*;
use understudy_core::*;

const TIMED_OUT: Reading = Reading::Down(Reason::TimedOut);

fn sees(web: Reading, api: Reading, ceph: Reading) -> Sees {
    Sees { web, api, ceph }
}

fn state_of(world: &World, name: &str) -> Reading {
    world.view().signals.into_iter().find(|s| s.name == name).expect("the probe exists").state
}

#[test]
fn a_signal_falls_after_three_downs_and_rises_after_two_ups() {
    let mut world = World::healthy(policy());

    world.sees.web = DOWN;
    world.run(2);
    assert_eq!(state_of(&world, "web"), Reading::Up);
    world.second();
    assert_eq!(state_of(&world, "web"), DOWN);
    world.sees.web = Reading::Up;
    world.second();
    assert_eq!(state_of(&world, "web"), DOWN);
    world.second();
    assert_eq!(state_of(&world, "web"), Reading::Up);
}

#[test]
fn one_up_between_downs_starts_the_fall_anew() {
    let mut world = World::healthy(policy());

    for reading in [DOWN, DOWN, Reading::Up, DOWN, DOWN] {
        world.sees.web = reading;
        world.second();
    }

    assert_eq!(state_of(&world, "web"), Reading::Up);
}

#[test]
fn unknown_is_not_down_however_long_it_lasts() {
    let mut world = World::healthy(policy());

    world.sees = sees(UNKNOWN, UNKNOWN, UNKNOWN);
    world.run(300);

    assert_eq!(world.verdict(), Verdict::Suspect);
    assert!(world.request().is_none());
}

#[test]
fn a_signal_that_is_not_read_any_more_is_unknown() {
    let mut world = World::healthy(policy());

    // Two periods and the time-out are three seconds here; ticks go on, readings do not.
    for _ in 0..13 {
        world.now = world.now + std::time::Duration::from_millis(250);
        world.event(Event::Tick);
    }

    assert_eq!(state_of(&world, "web"), Reading::Unknown(Reason::Stale));
}

#[test]
fn a_reading_that_began_before_the_last_one_changes_nothing() {
    let mut world = World::healthy(policy());
    let late = Observation { reading: UNKNOWN, started_ms: world.now.boot_ms - 500, latency_ms: 9, detail: None };

    world.event(Event::Read { pair: PAIR, probe: 0, observation: late });

    assert_eq!(state_of(&world, "web"), Reading::Up);
}

#[test]
fn the_whole_site_is_down_only_after_the_hold_down() {
    let mut world = World::healthy(policy());

    world.sees = DEAD;
    world.run(12);
    assert_eq!(world.verdict(), Verdict::Suspect);
    world.run(3);

    assert_eq!(world.verdict(), Verdict::SiteDown);
}

#[test]
fn a_hold_down_has_at_least_three_rounds_of_the_slowest_probe() {
    let mut slow = policy();
    slow.pairs[0].hold_down = secs(1);
    let mut world = World::healthy(slow);

    world.sees = DEAD;
    world.run(4);
    assert_eq!(world.verdict(), Verdict::Suspect);
    world.run(3);

    assert_eq!(world.verdict(), Verdict::SiteDown);
}

#[test]
fn a_missing_vote_never_lowers_the_quorum() {
    let mut world = World::healthy(policy());

    world.sees = sees(DOWN, DOWN, UNKNOWN);
    world.run(60);

    assert_eq!(world.verdict(), Verdict::Suspect);
}

#[test]
fn one_unknown_round_starts_the_hold_down_anew() {
    let mut world = World::healthy(policy());
    world.sees = DEAD;
    world.run(10);

    world.sees.ceph = UNKNOWN;
    world.second();
    world.sees.ceph = DOWN;
    world.run(10);

    assert_eq!(world.verdict(), Verdict::Suspect);
    assert_eq!(world.records(|r| matches!(r, Record::HoldDownBroken { .. })), 1);
    world.run(5);
    assert_eq!(world.verdict(), Verdict::SiteDown);
}

#[test]
fn one_sign_of_life_breaks_the_hold_down_although_the_signal_stays_down() {
    let mut world = World::healthy(policy());
    world.sees = DEAD;
    world.run(10);

    world.sees.web = Reading::Up;
    world.second();
    world.sees.web = DOWN;
    world.run(9);

    assert_eq!(state_of(&world, "web"), DOWN);
    assert_eq!(world.verdict(), Verdict::Suspect);
}

#[test]
fn an_advance_of_the_primarys_snapshot_vetoes_the_death_of_the_site() {
    let mut world = World::healthy(policy());
    world.sees = DEAD;
    for _ in 0..10 {
        world.run(6);
        world.newest += 1;
    }

    assert_ne!(world.verdict(), Verdict::SiteDown);
}

#[test]
fn a_mirror_that_does_not_advance_never_votes_down() {
    let mut world = World::healthy(policy());

    world.sees.ceph = UNKNOWN;
    world.sees.web = DOWN;
    world.sees.api = DOWN;
    world.run(120);

    assert_ne!(world.verdict(), Verdict::SiteDown);
}

#[test]
fn a_witness_that_saw_the_primary_vetoes() {
    let mut world = World::healthy(policy());
    world.sees = DEAD;
    world.witness = Says::Up;

    world.run(60);

    assert_ne!(world.verdict(), Verdict::SiteDown);
    assert!(world.view().life.expect("somebody saw it").0.contains("third"));
}

#[test]
fn a_dead_nexus_beside_a_living_site_is_service_down_and_paged_once() {
    let mut world = World::healthy(policy());

    world.sees.web = DOWN;
    world.run(120);

    assert_eq!(world.verdict(), Verdict::ServiceDown);
    assert_eq!(world.pages(), [PageKind::ServiceDown]);
    assert!(world.request().is_none());
    assert_eq!(world.writes(), 0);
}

#[test]
fn dead_storage_beside_a_living_api_is_storage_down() {
    let mut world = World::healthy(policy());

    world.sees = sees(DOWN, Reading::Up, TIMED_OUT);
    world.run(60);

    assert_eq!(world.verdict(), Verdict::StorageDown);
    assert_eq!(world.pages(), [PageKind::StorageDown]);
}

#[test]
fn a_frozen_api_server_alone_is_only_suspect() {
    let mut world = World::healthy(policy());

    world.sees.api = TIMED_OUT;
    world.run(120);

    assert_eq!(world.verdict(), Verdict::Suspect);
    assert_eq!(world.writes(), 0);
}

#[test]
fn observers_of_one_domain_that_disagree_are_no_vote_for_death() {
    let mut two = policy();
    two.pairs[0].probes.push(probe("canary", Domain::Service));
    let mut world = World::healthy(two);
    world.sees = DEAD;

    for _ in 0..60 {
        world.second();
        let up = Observation { reading: Reading::Up, started_ms: world.now.boot_ms, latency_ms: 1, detail: None };
        world.event(Event::Read { pair: PAIR, probe: 5, observation: up });
    }

    assert_ne!(world.verdict(), Verdict::SiteDown);
}

#[test]
fn a_failing_self_check_blinds_and_the_hold_down_does_not_advance() {
    let mut world = World::healthy(policy());
    world.sees = DEAD;
    world.run(10);

    world.fit = DOWN;
    world.run(60);
    assert_eq!(world.verdict(), Verdict::Blind);
    assert!(world.view().hold.is_none());

    world.fit = Reading::Up;
    world.run(8);
    assert_ne!(world.verdict(), Verdict::SiteDown);
    world.run(8);
    assert_eq!(world.verdict(), Verdict::SiteDown);
}

#[test]
fn our_own_dead_link_is_blindness_not_the_death_of_the_site() {
    let mut world = World::healthy(policy());

    (world.sees, world.fit) = (DEAD, DOWN);
    world.run(120);

    assert_eq!(world.verdict(), Verdict::Blind);
    assert!(world.request().is_none());
}

#[test]
fn one_of_a_group_of_self_checks_is_enough() {
    let mut grouped = policy();
    let check =
        |name: &str| SelfCheck { name: name.into(), group: Some("neutral".into()), period: secs(1), timeout: secs(1) };
    grouped.self_checks = vec![check("one"), check("two")];
    let mut world = World::new(grouped);

    world.run(10);

    assert_eq!(world.verdict(), Verdict::Up);
}

#[test]
fn a_stall_starts_the_hold_down_anew_and_blinds_for_a_bounded_time() {
    let mut world = World::healthy(policy());
    world.sees = DEAD;
    world.run(10);

    // Longer than a stall, too short for any signal to grow stale.
    world.now = world.now + std::time::Duration::from_millis(2500);
    world.event(Event::Tick);
    assert_eq!(world.verdict(), Verdict::Blind);
    world.run(2);
    assert_ne!(world.verdict(), Verdict::Blind);
    world.run(8);
    assert_ne!(world.verdict(), Verdict::SiteDown);
    world.run(6);

    assert_eq!(world.verdict(), Verdict::SiteDown);
}

#[test]
fn a_wall_clock_that_jumps_blinds_for_a_bounded_time() {
    let mut world = World::healthy(policy());

    world.now.wall_ms += 30_000;
    world.event(Event::Tick);
    assert_eq!(world.verdict(), Verdict::Blind);
    world.run(3);

    assert_eq!(world.verdict(), Verdict::Up);
}

#[test]
fn long_blindness_is_paged_once() {
    let mut world = World::healthy(policy());

    world.fit = DOWN;
    world.run(700);

    assert_eq!(world.pages(), [PageKind::Blind]);
}

#[test]
fn a_flapping_target_is_suspect_and_starts_nothing() {
    let mut world = World::healthy(policy());

    for _ in 0..20 {
        world.sees = DEAD;
        world.run(4);
        world.sees = ALIVE;
        world.run(3);
    }
    world.sees = DEAD;
    world.run(30);
    assert_eq!(world.verdict(), Verdict::Suspect);
    assert!(world.view().signals[0].changes >= 4);

    // It dies for good: once it has kept its state for the quiet time, the hold-down runs.
    world.run(60);
    assert_eq!(world.verdict(), Verdict::SiteDown);
}

#[test]
fn a_site_that_was_never_seen_alive_is_not_failed_over() {
    let mut world = World::new(policy());
    world.sees = DEAD;

    world.run(60);

    assert_eq!(world.verdict(), Verdict::SiteDown);
    assert!(world.request().is_none());
    assert_eq!(world.pages(), [PageKind::SiteDown]);
}

#[test]
fn after_a_restart_the_hold_down_starts_anew() {
    let mut world = World::healthy(policy());
    world.sees = DEAD;
    world.run(12);

    world.restart();
    world.run(11);
    assert_ne!(world.verdict(), Verdict::SiteDown);
    world.run(8);

    assert_eq!(world.verdict(), Verdict::SiteDown);
}

#[test]
fn a_reload_never_shortens_a_running_hold_down() {
    let mut world = World::healthy(policy());
    world.sees = DEAD;
    world.run(8);
    let mut shorter = policy();
    shorter.pairs[0].hold_down = secs(4);
    shorter.config_digest = "other".into();

    world.reload(shorter);
    world.second();

    assert_ne!(world.verdict(), Verdict::SiteDown);
    world.run(5);
    assert_eq!(world.verdict(), Verdict::SiteDown);
}

#[test]
fn every_change_of_verdict_is_journaled_with_its_cause() {
    let mut world = World::healthy(policy());

    world.sees = DEAD;
    world.run(20);

    let verdicts = world.journal.iter().filter_map(|(_, record)| match record {
        Record::Verdict { from, to, cause, .. } if !cause.is_empty() => Some((*from, *to)),
        _ => None,
    });
    let verdicts: Vec<_> = verdicts.collect();
    assert!(verdicts.windows(2).all(|pair| pair[0].1 == pair[1].0), "{verdicts:?}");
    assert_eq!(verdicts.last().map(|(_, to)| *to), Some(Verdict::SiteDown));
}

#[test]
fn a_site_that_returns_domain_by_domain_is_not_taken_for_one_with_a_dead_part() {
    let mut world = World::healthy(policy());
    world.sees = DEAD;
    world.run(5);
    world.sent.clear();

    // The API server is Up again; what the others say is from the look before, and their next look says Up.
    world.sees = ALIVE;
    world.run(5);

    assert_eq!(world.verdict(), Verdict::Up);
    assert_eq!(world.pages(), []);
}

#[test]
fn a_life_that_is_heard_in_a_hold_down_breaks_it_although_the_look_began_with_it() {
    let mut world = World::failing_over(policy());
    world.event(Event::SelfRead { check: 0, observation: world.observe(DOWN) });
    world.run(5);
    let began: Vec<u64> = world
        .journal
        .iter()
        .filter(|(_, record)| matches!(record, Record::HoldDownBegan { .. }))
        .map(|(at, _)| at.boot_ms)
        .collect();
    let seen = Observation { started_ms: *began.last().expect("it began"), ..world.observe(Reading::Up) };

    world.event(Event::Read { pair: PAIR, probe: 0, observation: seen });
    world.run(3);

    assert!(began.len() > 1, "a second one had begun");
    assert!(world.violation().is_none(), "{:?}", world.violation());
}
