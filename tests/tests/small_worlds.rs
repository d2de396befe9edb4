//! Every small world within a scope that a test has time for keeps every rule; `small_worlds` searches larger ones.

use understudy_checker::Invariant;
use understudy_tests::small::{Found, Scope, search, tell};

/// Searches a scope with one thing that goes wrong in each story, and tells the story if one breaks a rule.
fn searched(name: &str, patience: u8, depth: u32) -> Found {
    let scope = Scope { patience, depth, ..Scope::named(name).expect("there is such a scope") };
    let found = search(&scope, usize::MAX);
    if let Some((violation, moves)) = &found.broken {
        panic!("{violation}\n{}", tell(&scope, moves));
    }
    println!("{name}: {} states, {} transitions, depth {}", found.states, found.transitions, found.depth);
    found
}

#[test]
fn every_small_world_of_one_pair_keeps_every_rule() {
    for (name, least) in [("observe", 100), ("confirm", 1000), ("auto", 500), ("mirrored", 1000)] {
        let found = searched(name, 0, 15);

        assert!(found.states > least, "{name}: only {} states", found.states);
    }
}

#[test]
fn every_small_world_of_two_pairs_keeps_every_rule() {
    let found = searched("two", 0, 8);

    assert!(found.states > 100, "only {} states", found.states);
}

#[test]
fn every_kind_of_fault_happens_and_every_rule_is_judged_in_one_of_them() {
    let found = searched("mirrored", 1, 11);

    for fault in [
        "returns",
        "blip",
        "unsure",
        "advance",
        "syncs",
        "doubt",
        "unfit",
        "stall",
        "jump",
        "leaselost",
        "leaseled",
        "notready",
        "moment",
        "deny",
        "failover",
        "force",
        "pause",
        "rest",
        "resume",
        "abandon",
        "unblock",
        "fenced",
        "failed",
        "restart",
        "killed between two records",
    ] {
        assert!(found.moves.contains_key(fault), "{fault} is not in {:?}", found.moves.keys());
    }
    let unjudged = Invariant::ALL.into_iter().find(|invariant| !found.judged.contains_key(invariant));
    assert_eq!(unjudged, None);
}
