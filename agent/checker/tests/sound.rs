//! Stories that keep every rule pass, and exercise each of them.

mod story;

use std::collections::BTreeSet;

use story::*;
use understudy_checker::{Checker, Invariant};
use understudy_core::*;

#[test]
fn failovers_of_each_authority_and_one_that_stops_are_sound() {
    for (told, story) in
        [("approved", approved()), ("automatic", automatic()), ("forced", forced()), ("stopped", stopped())]
    {
        assert!(judge(&story).is_ok(), "{told}: {:?}", judge(&story));
    }
}

#[test]
fn every_invariant_is_exercised_by_these_stories() {
    let stories = [approved(), automatic(), forced(), stopped(), blind(), returned(), tried_again()];

    let exercised: BTreeSet<Invariant> =
        stories.iter().flat_map(|story| judge(story).expect("each is sound").into_keys()).collect();

    assert_eq!(exercised, BTreeSet::from(Invariant::ALL));
}

#[test]
fn an_empty_journal_breaks_no_rule() {
    assert_eq!(judge(&[]), Ok(understudy_checker::Counts::new()));
}

#[test]
fn a_failover_is_sound_however_often_the_daemon_dies_in_it() {
    let told = || {
        let mut world = World::failing_over(policy());
        world.play_until(None);
        world
    };
    for cut in position(&told().journal, is_asked)..told().journal.len() {
        let mut world = told();
        let (at, _) = world.journal[cut];
        world.journal.truncate(cut);
        world.now = at + secs(1);
        world.restart();
        world.run(3);
        if world.request().is_some() {
            world.approve().expect("what was asked stands");
        }
        world.play_until(None);

        assert!(world.violation().is_none(), "killed before record {}: {:?}", cut + 1, world.violation());
    }
}

#[test]
fn a_journal_whose_head_was_archived_goes_on_from_its_snapshot() {
    let mut world = World::failing_over(policy());
    world.play_until(Some(Step::Deploy));
    let snapshot = world.state.as_ref().expect("there is a state").snapshot(&world.policy);
    let cut = world.journal.len();
    world.play_until(None);
    let mut story = vec![(world.journal[cut - 1].0, snapshot)];
    story.extend_from_slice(&world.journal[cut..]);

    assert!(judge(&story).is_ok(), "{:?}", judge(&story));
    let mut whole = world.journal.clone();
    whole.insert(cut, story[0].clone());
    assert!(judge(&whole).is_ok(), "{:?}", judge(&whole));
}

#[test]
fn what_two_journals_tell_is_the_same_knowledge_however_they_are_numbered() {
    let story = approved();
    let mut late = Checker::default();
    for mut entry in entries(&story) {
        entry.seq += 1000;
        late.see(&entry).expect("the story is good");
    }

    assert_ne!(late, seen(&story));
    assert_eq!(late.knowledge(), seen(&story).knowledge());
}

/// Blind for so long that somebody is told.
fn blind() -> Story {
    let mut policy = policy();
    policy.blind_page = secs(5);
    let mut world = World::healthy(policy);
    world.fit = DOWN;
    world.run(10);
    world.sees = DEAD;
    world.run(10);
    world.journal.clone()
}

/// The old primary serves again.
fn returned() -> Story {
    let mut world = World::failing_over(policy());
    world.play_until(None);
    world.sees = ALIVE;
    world.run(20);
    world.journal.clone()
}

/// A step that fails, gets stuck, is ordered again and left out.
fn tried_again() -> Story {
    let mut world = World::failing_over(policy());
    world.play_until(Some(Step::UndoPoint));
    let run = world.run_state().id;
    while !matches!(world.status(Step::UndoPoint), StepStatus::Stuck { .. }) {
        if matches!(world.status(Step::UndoPoint), StepStatus::Running { .. }) {
            world.fail(Step::UndoPoint, Failure::Transient);
        }
        world.second();
    }
    world.order(Order::Retry { run: run.clone(), step: None }).expect("it is stuck");
    world.fail(Step::UndoPoint, Failure::Permanent);
    world.order(Order::Skip { run, step: Step::UndoPoint, reason: "no room".into() }).expect("it is stuck");
    world.play_until(None);
    world.journal.clone()
}
