//! Stories of failovers in a simulated world, a bounded number of them: `simulate --stories` plays more.

use std::time::Duration;

use understudy_tests::sim::plot::Plot;
use understudy_tests::sim::run::play_all;
use understudy_tests::sim::{play, shrink};

/// Every seed that ever failed, with what was wrong.
const KEPT: &str = include_str!("../seeds");

#[test]
fn no_story_of_the_first_seeds_is_violated() {
    let (tally, failed) = play_all(1..=1_500);

    assert_eq!(failed, [], "again: cargo run --release --bin simulate -- --seed N");
    assert!(tally.promotes > 100, "a world in which nothing happens proves nothing: {} promotes", tally.promotes);
}

#[test]
fn no_seed_that_ever_failed_fails_again() {
    let seeds: Vec<u64> = KEPT
        .lines()
        .filter_map(|line| line.split('#').next().map(str::trim).filter(|seed| !seed.is_empty()))
        .map(|seed| seed.parse().expect("a line of tests/seeds begins with a number"))
        .collect();

    let (_, failed) = play_all(seeds);

    assert_eq!(failed, []);
}

#[test]
fn a_seed_always_tells_the_same_story() {
    for seed in [3, 180, 929, 8_632] {
        let plot = Plot::of(seed);

        assert_eq!(play(&plot, true).told, play(&plot, true).told, "seed {seed}");
    }
}

#[test]
fn journals_kept_as_bytes_tell_the_story_that_is_told_without_them() {
    for seed in 1..=60 {
        let mut plot = Plot::of(seed);
        plot.faults.retain(|fault| fault.kind != understudy_tests::sim::fault::Kind::PowerLoss);
        let with = |bytes: bool| {
            let mut plot = plot.clone();
            plot.setting.bytes = bytes;
            play(&plot, true).told
        };

        assert_eq!(with(true), with(false), "seed {seed}");
    }
}

#[test]
fn a_story_is_shortened_to_what_it_takes_to_fail() {
    // A promise that is too good: the policy knows nothing of what a snapshot of a running Nexus lacks.
    let failing = (1..2_000).map(|seed| {
        let mut plot = Plot::of(seed);
        plot.setting.writeback_ms = 32_000;
        plot.policy.pairs[0].writeback_window = Duration::ZERO;
        plot
    });
    let (plot, violation) = failing
        .filter_map(|plot| play(&plot, false).violation.map(|violation| (plot, violation)))
        .find(|(plot, violation)| violation.invariant.contains("S8") && plot.faults.len() > 3)
        .expect("some story promotes");

    let short = shrink::shrink(&plot, &violation);

    assert!(short.faults.len() < plot.faults.len(), "{:?}", short.faults);
    let again = play(&short, false).violation.expect("it fails still");
    assert_eq!(again.invariant, violation.invariant);
}
