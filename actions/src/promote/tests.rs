//! Against a fake `rbd` and real keepers: this test program, run again.

use std::fs;
use std::path::PathBuf;

use rustix::process::{Pid, Signal, kill_process};
use understudy_core::Step;

use super::*;
use crate::promote_keeper::tests::script;
use crate::promote_keeper::{Folder, State, boot_ms};
use crate::testing_rbd::{MID_SYNC, MIRROR, ORPHANED, Site, info, permanent, until};

const IMAGE: &str = "rbd/data";
const BOTH: &[&str] = &["rbd/data", "rbd/db"];

/// Says who it is, and hangs until it is told `go`; then it promotes.
const WAITS: &str = r#"echo $$ > "$at/pid.new"; mv "$at/pid.new" "$at/pid"
while ! [ -f "$at/go" ]; do sleep 0.02; done
cp "$dir/promoted.info" "$at/info"; cp "$dir/promoted.snaps" "$at/snaps""#;

#[tokio::test]
async fn all_images_are_promoted_by_processes_of_their_own_and_read_back() {
    let site = Site::quiesced(BOTH);
    for image in BOTH {
        site.write(&format!("{image}/promote"), WAITS);
    }

    let promoting = tokio::spawn(promote(&site, 1));
    // Both at the same time: neither has been told to go on.
    until("both run", || BOTH.iter().all(|image| site.path(image).join("pid").exists())).await;
    for image in BOTH {
        site.write(&format!("{image}/go"), "");
    }
    let done = promoting.await.unwrap().unwrap();

    assert!(
        done.detail.contains("rbd/data is primary") && done.detail.contains("rbd/db is primary"),
        "{}",
        done.detail
    );
    assert_eq!(forced(&site), 2);
    assert_eq!(site.gate.permits(), 2);
}

#[tokio::test]
async fn process_and_start_time_of_a_running_promote_are_noted() {
    let site = Site::quiesced(&[IMAGE]);
    site.write("rbd/data/promote", WAITS);

    let promoting = tokio::spawn(promote(&site, 1));
    until("it is noted", || !site.gate.notes.lock().unwrap().is_empty()).await;
    site.write("rbd/data/go", "");
    promoting.await.unwrap().unwrap();

    let (key, note) = site.gate.notes.lock().unwrap()[0].clone();
    let note: serde_json::Value = serde_json::from_str(&note).unwrap();
    assert_eq!(key, IMAGE);
    assert!(note["process"]["pid"].as_u64().unwrap() > 1 && note["process"]["start_time"].as_u64().unwrap() > 0);
    assert_eq!(note["folder"], folder(&site, 1).path().to_str().unwrap());
}

#[tokio::test]
async fn images_that_are_primary_are_done_without_a_promote() {
    let site = Site::quiesced(BOTH);
    promote(&site, 1).await.unwrap();

    let again = promote(&site, 1).await.unwrap();

    assert!(again.detail.contains("is primary"), "{}", again.detail);
    assert_eq!((forced(&site), site.gate.permits()), (2, 2));
}

#[tokio::test]
async fn nothing_is_promoted_while_anybody_has_any_image_open() {
    for (client, who) in [(MIRROR, "10.0.0.2:0/9 (rbd-mirror)"), (77, "10.0.0.2:0/9")] {
        let site = Site::quiesced(BOTH);
        site.write("rbd/db/watchers", &format!("10.0.0.2:0/9 {client}\n"));

        let message = permanent(promote(&site, 1).await);

        assert!(message.contains(&format!("rbd/db by {who}")), "{message}");
        assert_eq!((forced(&site), site.gate.permits()), (0, 0));
    }
}

#[tokio::test]
async fn nothing_is_promoted_if_the_copy_changed_since_it_was_read() {
    let newer = crate::testing_rbd::IN_STEP.replace("\"primary_snap_id\":5", "\"primary_snap_id\":6");
    for snaps in [MID_SYNC, &newer, "[]"] {
        let site = Site::quiesced(BOTH);
        site.write("rbd/db/snaps", snaps);

        let message = permanent(promote(&site, 1).await);

        assert!(message.contains("the copy of rbd/db changed since it was read"), "{message}");
        assert_eq!(forced(&site), 0);
    }
}

#[tokio::test]
async fn a_copy_in_the_middle_of_a_sync_is_promoted_if_it_was_so_when_it_was_read() {
    let site = Site::quiesced(&[IMAGE]);
    site.write("rbd/data/snaps", MID_SYNC);
    let ctx = site.context_with(Step::Promote, |order| order.points[0].mid_sync = true);

    run(&ctx, &site.settings("")).await.unwrap();

    assert_eq!(forced(&site), 1);
}

#[tokio::test]
async fn nothing_is_promoted_without_a_consistency_point() {
    let site = Site::quiesced(&[IMAGE]);
    let ctx = site.context_with(Step::Promote, |order| order.points.clear());

    let message = permanent(run(&ctx, &site.settings("")).await);

    assert!(message.contains("no consistency point of rbd/data"), "{message}");
    assert_eq!(forced(&site), 0);
}

#[tokio::test]
async fn an_image_with_the_mark_of_an_unfinished_promote_is_left_to_a_human() {
    let site = Site::quiesced(&[IMAGE]);
    site.write("rbd/data/snaps", ORPHANED);

    let message = permanent(promote(&site, 1).await);

    assert!(message.contains("did not finish"), "{message}");
    assert_eq!(forced(&site), 0);
}

#[tokio::test]
async fn a_primary_that_can_not_be_written_to_is_left_to_a_human() {
    let site = Site::quiesced(&[IMAGE]);
    site.write("promoted.info", &info(true, false));

    let message = permanent(promote(&site, 1).await);

    assert!(message.contains("it can not be written to"), "{message}");
}

#[tokio::test]
async fn a_promote_that_says_yes_and_did_nothing_is_no_success() {
    let site = Site::quiesced(&[IMAGE]);
    site.write("rbd/data/promote", "exit 0");

    let message = permanent(promote(&site, 1).await);

    assert!(message.contains("ended with exit 0: it is not primary"), "{message}");
}

#[tokio::test]
async fn a_promote_that_says_no_and_did_it_is_a_success() {
    let site = Site::quiesced(&[IMAGE]);
    site.write("rbd/data/promote", &format!("{WAITS}; exit 1"));
    site.write("rbd/data/go", "");

    let done = promote(&site, 1).await.unwrap();

    assert!(done.detail.contains("ended with exit 1"), "{}", done.detail);
}

#[tokio::test]
async fn one_of_two_fails_the_other_finishes_and_a_retry_touches_only_the_failed_one() {
    let site = Site::quiesced(BOTH);
    site.write("rbd/db/promote", "echo 'rbd: error promoting image' >&2; exit 5");

    let message = permanent(promote(&site, 1).await);

    assert!(message.contains("rbd/db ended with exit 5 (rbd: error promoting image)"), "{message}");
    assert!(!message.contains("rbd/data"), "{message}");
    assert!(site.read("rbd/data/info").contains("\"primary\":true"));
    site.write("rbd/db/promote", WAITS);
    site.write("rbd/db/go", "");
    promote(&site, 2).await.unwrap();
    assert_eq!(site.calls("rbd mirror image promote --force rbd/data").len(), 1);
    assert_eq!(site.calls("rbd mirror image promote --force rbd/db").len(), 2);
}

#[tokio::test]
async fn without_a_humans_retry_a_failed_promote_is_not_repeated_by_a_restart() {
    let site = Site::quiesced(&[IMAGE]);
    site.write("rbd/data/promote", "exit 5");
    permanent(promote(&site, 1).await);

    let message = permanent(promote(&site, 1).await);

    assert!(message.contains("ended with exit 5"), "{message}");
    assert_eq!(forced(&site), 1);
}

#[tokio::test]
async fn a_failed_promote_that_nobody_was_told_of_is_told_first_even_in_a_later_try() {
    let site = Site::quiesced(&[IMAGE]);
    site.write("rbd/data/promote", WAITS);
    let gone = tokio::spawn(promote(&site, 1));
    let pid = running(&site).await;
    gone.abort();
    kill(pid);
    until("it has ended", || matches!(folder(&site, 1).state().unwrap(), State::Ended(_))).await;

    let message = permanent(promote(&site, 2).await);

    assert!(message.contains("was ended by signal 9"), "{message}");
    assert_eq!(forced(&site), 1);
    // Now a human has been told, and this is his retry.
    site.write("rbd/data/go", "");
    promote(&site, 3).await.unwrap();
    assert_eq!(forced(&site), 2);
}

#[tokio::test]
async fn a_daemon_that_died_finds_the_promote_still_running_and_waits_for_it() {
    let site = Site::quiesced(&[IMAGE]);
    site.write("rbd/data/promote", WAITS);
    let gone = tokio::spawn(promote(&site, 1));
    running(&site).await;
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());

    let resumed = tokio::spawn(promote(&site, 1));
    until("it shows that it waits", || site.gate.shown.lock().unwrap().iter().any(|s| s.starts_with("promoting")))
        .await;
    site.write("rbd/data/go", "");

    assert!(resumed.await.unwrap().unwrap().detail.contains("is primary"));
    assert_eq!(forced(&site), 1);
}

#[tokio::test]
async fn a_promote_whose_keeper_was_killed_is_waited_for_and_judged_by_the_world() {
    let site = Site::quiesced(&[IMAGE]);
    site.write("rbd/data/promote", WAITS);
    let promoting = tokio::spawn(promote(&site, 1));
    running(&site).await;

    kill(keeper(&site));
    site.write("rbd/data/go", "");
    let done = promoting.await.unwrap().unwrap();

    assert!(done.detail.contains("rbd/data is primary: its promote died together with its keeper"), "{}", done.detail);
    assert_eq!(forced(&site), 1);
}

#[tokio::test]
async fn keeper_and_promote_killed_and_the_image_no_primary_is_for_a_human() {
    let site = Site::quiesced(&[IMAGE]);
    site.write("rbd/data/promote", WAITS);
    let promoting = tokio::spawn(promote(&site, 1));
    let pid = running(&site).await;

    kill(keeper(&site));
    kill(pid);
    let message = permanent(promoting.await.unwrap());

    assert!(message.contains("left no word: it is not primary"), "{message}");
    assert_eq!(forced(&site), 1);
}

#[tokio::test]
async fn a_keeper_that_is_late_finds_its_door_shut_and_another_does_the_work() {
    let site = Site::quiesced(&[IMAGE]);
    // The daemon made the folder, sent a keeper and died; the keeper has not come yet.
    folder(&site, 1).create().unwrap();

    promote(&site, 1).await.unwrap();

    assert_eq!(folder(&site, 1).state().unwrap(), State::Closed);
    assert!(matches!(folder(&site, 2).state().unwrap(), State::Ended(_)));
    assert_eq!(forced(&site), 1);
}

#[tokio::test]
async fn a_promote_that_can_not_be_run_did_nothing_and_may_be_retried() {
    let site = Site::quiesced(&[IMAGE]);
    let mut ctx = site.context(Step::Promote);
    ctx.program = "/nonexistent/understudy".into();

    let message = permanent(run(&ctx, &site.settings("")).await);

    assert!(message.contains("nothing was promoted: failed to start /nonexistent/understudy"), "{message}");
    promote(&site, 2).await.unwrap();
    assert_eq!(forced(&site), 1);
}

#[tokio::test]
async fn a_damaged_folder_stops_everything() {
    let site = Site::quiesced(&[IMAGE]);
    folder(&site, 1).create().unwrap();
    fs::write(folder(&site, 1).path().join("started"), "{").unwrap();

    let message = permanent(promote(&site, 1).await);

    assert!(message.contains("which says whether a promote of rbd/data runs"), "{message}");
    assert_eq!(forced(&site), 0);
}

#[tokio::test]
async fn a_look_that_fails_for_a_moment_is_repeated() {
    let site = Site::quiesced(&[IMAGE]);
    site.break_call("info", r#"[ -f "$dir/failed" ] || { touch "$dir/failed"; exit 110; }"#);

    promote(&site, 1).await.unwrap();

    assert_eq!(forced(&site), 1);
}

#[tokio::test]
async fn a_promote_that_no_try_has_begun_is_not_started_on_a_recheck_that_is_too_old() {
    let site = Site::quiesced(BOTH);

    let error = promote_late(&site, 1).await.unwrap_err();

    assert_eq!(error.failure(), Failure::NotBegun);
    assert_eq!((forced(&site), site.gate.permits()), (0, 0));
}

#[tokio::test]
async fn a_promote_that_lives_is_waited_for_however_old_its_recheck_is() {
    let site = Site::quiesced(&[IMAGE]);
    site.write("rbd/data/promote", WAITS);
    let gone = tokio::spawn(promote(&site, 1));
    running(&site).await;
    gone.abort();
    site.write("rbd/data/go", "");

    assert!(promote_late(&site, 1).await.unwrap().detail.contains("is primary"));
    assert_eq!(forced(&site), 1);
}

#[tokio::test]
async fn an_image_that_is_left_is_not_promoted_by_an_order_that_is_too_old_and_nothing_calls_the_run_unbegun() {
    let site = Site::quiesced(BOTH);
    site.write("rbd/db/promote", "exit 5");
    promote(&site, 1).await.unwrap_err();
    site.write("rbd/db/promote", r#"cp "$dir/promoted.info" "$at/info"; cp "$dir/promoted.snaps" "$at/snaps""#);

    let error = promote_late(&site, 2).await.unwrap_err();
    assert_eq!((error.failure(), forced(&site)), (Failure::Permanent, 2), "{error}");

    promote(&site, 3).await.unwrap();
    assert_eq!(forced(&site), 3);
}

#[tokio::test]
async fn nothing_is_promoted_beside_a_promote_that_an_earlier_run_left_behind() {
    let site = Site::quiesced(&[IMAGE]);
    site.write("rbd/data/promote", WAITS);
    let gone = tokio::spawn(promote(&site, 1));
    running(&site).await;
    gone.abort();

    let ctx = site.context_with(Step::Promote, |order| order.run = "nexus-8-failover".into());
    let error = run(&ctx, &site.settings("")).await.unwrap_err();

    assert_eq!((error.failure(), forced(&site)), (Failure::Permanent, 1));
    assert!(error.to_string().contains("still runs, process"), "{error}");
    site.write("rbd/data/go", "");
    assert!(promote(&site, 1).await.unwrap().detail.contains("is primary"));
}

#[tokio::test]
async fn the_keeper_starts_nothing_behind_the_end_of_the_lease_nor_behind_that_of_the_order() {
    let site = Site::quiesced(&[IMAGE]);
    let now = boot_ms();
    for (order_ends, counts) in [(now + 30_000, true), (now + 3_600_000, false)] {
        let mut ctx = site.context_with(Step::Promote, |order| order.start_before_ms = Some(order_ends));
        let asked = site.path("asked");
        let text = format!("#!/bin/sh\necho \"$*\" > '{}'\nexit 3\n", asked.display());
        ctx.program = script(&site.path("refuses"), &text);

        run(&ctx, &site.settings("")).await.unwrap_err();

        let told = site.read("asked").contains(&format!("--start-before {order_ends} --"));
        assert_eq!(told, counts, "{}", site.read("asked"));
    }
}

#[test]
fn a_name_in_a_path_leads_nowhere_else() {
    let site = Site::quiesced(&[]);
    let ctx = site.context(Step::Promote);

    let image = ImageName::from("../../etc/x y");
    let settings = site.settings("");
    let subject = Image { cli: Cli::of_standby(&settings), image: &image };

    assert!(Promote { ctx: &ctx, subject }.folder(1).path().ends_with("promote-%2E%2E%2F%2E%2E%2Fetc%2Fx%20y-1"));
}

fn promote(site: &Site, attempt: u32) -> impl Future<Output = Result<StepDone, StepError>> + use<> {
    let ctx = site.context_with(Step::Promote, |order| order.attempt = attempt);
    let settings = site.settings("");
    async move { run(&ctx, &settings).await }
}

/// As ordered by an agent whose recheck is of long ago.
fn promote_late(site: &Site, attempt: u32) -> impl Future<Output = Result<StepDone, StepError>> + use<> {
    let ctx = site.context_with(Step::Promote, |order| (order.attempt, order.start_before_ms) = (attempt, Some(1)));
    let settings = site.settings("");
    async move { run(&ctx, &settings).await }
}

/// How many forced promotes were run.
fn forced(site: &Site) -> usize {
    site.calls("rbd mirror image promote --force").len()
}

fn folder(site: &Site, number: u32) -> Folder {
    Folder::at(PathBuf::from(format!(
        "{}/state/runs/nexus-7-failover/promote-rbd%2Fdata-{number}",
        site.dir.path().display()
    )))
}

/// Waits until the promote runs; its process.
async fn running(site: &Site) -> u32 {
    until("it runs", || {
        site.path("rbd/data/pid").exists() && crate::testing_rbd::is_there(&folder(site, 1).path().join("running"))
    })
    .await;
    site.read("rbd/data/pid").trim().parse().unwrap()
}

fn keeper(site: &Site) -> u32 {
    let started = fs::read_to_string(folder(site, 1).path().join("started")).unwrap();
    let started: serde_json::Value = serde_json::from_str(&started).unwrap();
    started["by"]["pid"].as_u64().unwrap().try_into().unwrap()
}

fn kill(pid: u32) {
    kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), Signal::KILL).unwrap();
}
