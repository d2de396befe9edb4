//! The rehearsal itself, by the program that a user runs: one test a scenario, each with the real daemon as its own process.
//!
//! `killed-everywhere` takes minutes and runs with `tests/run rehearse`.

use std::process::Command;

/// Plays one scenario and demands that everything was as it states.
fn plays(scenario: &str) {
    let directory = tempfile::tempdir().expect("there is a place");
    let output = Command::new(env!("CARGO_BIN_EXE_rehearse"))
        .args([scenario, "--directory"])
        .arg(directory.path())
        .output()
        .expect("the program runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("as stated"), "{said}");
}

macro_rules! scenarios {
    ($($test:ident $name:literal)*) => {
        $(#[test] fn $test() { let _turn = turn(); plays($name); })*
    };
}

/// One after the other: timers of half a second do not like a machine that plays five disasters at once.
fn turn() -> std::sync::MutexGuard<'static, ()> {
    static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());
    TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

scenarios! {
    a_dead_site_is_confirmed_and_moved "site-down"
    a_third_site_witness_needs_no_human "site-down-auto"
    auto_without_a_witness_asks "no-witness"
    a_denial_is_kept "denied"
    an_unanswered_question_expires "expired"
    a_dead_service_is_paged_and_nothing_is_forced "service-down"
    a_site_that_comes_and_goes_starts_nothing "flapping"
    our_own_dead_link_accuses_nobody "we-are-cut-off"
    a_frozen_api_server_is_only_suspect "frozen-api"
    a_stopped_daemon_doubts_itself "frozen-agent"
    a_stale_copy_needs_a_named_loss "stale-mirror"
    a_promote_that_hangs_is_neither_killed_nor_repeated "promote-hangs"
    a_site_that_returns_in_time_stops_the_plan "returns-before-promote"
    a_death_in_the_middle_of_a_sync_loses_what_was_named "mid-sync"
    a_refused_route_is_a_failed_failover "route-refused"
    a_lost_answer_is_resolved_by_reading "answer-lost"
    an_old_primary_that_returns_is_only_told "old-primary-returns"
}
