use understudy_config::Rbd;
use understudy_core::Reading::Unknown;

use super::*;
use crate::testing::{PATIENCE, Script, recorded};

#[tokio::test]
async fn a_standby_in_step_is_seen_with_the_primarys_time() {
    let facts =
        facts("1-healthy-standby-image-status", "1-healthy-standby-image-info", "1-healthy-standby-snap-ls-all");

    let image = &facts.await.images[0];
    assert_eq!((image.newest_complete, image.syncing, image.progress), (Some(4), None, None));
    assert_eq!(image.source_time_ms, Some(1_795_343_388_000));
    assert!(!image.primary && !image.orphan);
}

#[tokio::test]
async fn a_sync_under_way_is_seen_with_its_progress_and_the_time_of_what_is_whole() {
    let facts =
        facts("4-partial-sync-standby-status-12s", "1-healthy-standby-image-info", "4-partial-sync-standby-snap-ls");

    let image = &facts.await.images[0];
    assert_eq!((image.newest_complete, image.syncing, image.progress), (Some(5), Some(6), Some((51, 16))));
    assert_eq!(image.source_time_ms, Some(1_795_345_161_000));
}

#[tokio::test]
async fn an_unfinished_forced_promote_is_seen_as_an_orphan() {
    let facts = facts(
        "4-partial-sync-promote-force-hung-status",
        "1-healthy-standby-image-info",
        "4-partial-sync-promote-force-hung-snap-ls",
    );

    let image = &facts.await.images[0];
    assert!(image.orphan);
    assert_eq!(image.source_time_ms, None);
}

#[tokio::test]
async fn a_promoted_image_is_primary() {
    let facts = facts(
        "4-unplanned-05-after-force-image-status",
        "4-unplanned-05-after-force-image-info",
        "4-unplanned-05-after-force-snap-ls",
    );

    let image = &facts.await.images[0];
    assert!(image.primary);
    assert_eq!(image.newest_complete, None);
}

#[tokio::test]
async fn the_status_is_read_first_and_the_snapshots_last() {
    let script = Script::new(&format!(
        "echo \"$@\" >> $0.asked\n{}",
        answers("1-healthy-standby-image-status", "1-healthy-standby-image-info", "1-healthy-standby-snap-ls-all")
    ));

    mirror(&script, &["rbd/nexus-data"]).look(Duration::from_secs(5)).await;

    let asked: Vec<String> =
        script.asked().lines().map(|line| line.split(" --format").next().unwrap().to_owned()).collect();
    assert_eq!(asked, ["mirror image status rbd/nexus-data", "info rbd/nexus-data", "snap ls --all rbd/nexus-data"]);
    assert!(script.asked().lines().all(|line| line.contains("--rados-osd-op-timeout")), "{}", script.asked());
}

#[tokio::test]
async fn every_image_is_there_in_the_files_order_or_none() {
    let answers =
        answers("1-healthy-standby-image-status", "1-healthy-standby-image-info", "1-healthy-standby-snap-ls-all");
    let all = Script::new(&answers);
    let one_missing = Script::new(&format!("case \"$*\" in *rbd/d*) exit 2;; esac\n{answers}"));
    let names = ["rbd/e", "rbd/d", "rbd/c", "rbd/b", "rbd/a", "other/f"];

    let seen = mirror(&all, &names).look(PATIENCE).await;
    let blind = mirror(&one_missing, &names).look(PATIENCE).await;

    let images = seen.mirror.unwrap().images;
    assert_eq!(images.iter().map(|image| image.image.as_str()).collect::<Vec<_>>(), names);
    assert_eq!((blind.reading, blind.mirror), (Unknown(Reason::Unmapped), None));
    assert!(blind.detail.unwrap().starts_with("rbd/d: exit 2"));
}

#[tokio::test]
async fn missing_rights_are_noticed_although_rbd_exits_with_0() {
    let complaint = recorded("agent-user-status.stderr.txt");
    let status = recorded("agent-user-status.json");
    let script = Script::new(&format!("cat {} >&2; cat {}", complaint.display(), status.display()));

    let sight = mirror(&script, &["rbd/nexus-data"]).look(PATIENCE).await;

    assert_eq!((sight.reading, sight.mirror), (Unknown(Reason::Forbidden), None));
    assert!(sight.detail.unwrap().contains("mon 'profile rbd, allow r'"));
}

#[tokio::test]
async fn every_recorded_end_of_rbd_has_its_reading_and_none_is_down() {
    let table = [
        (110, "err-primary-frozen-rbd-info-all-timeouts-5", Reason::TimedOut),
        (110, "err-osd-down-mirror-image-status-osd-op-timeout-5", Reason::TimedOut),
        (13, "err-wrong-key", Reason::Forbidden),
        (2, "err-no-image-info", Reason::Unmapped),
        (22, "err-status-mirroring-disabled", Reason::Unmapped),
        (1, "err-missing-conf", Reason::LocalFault),
        (1, "err-primary-refused-rbd-connect-timeout-5", Reason::ToolMissing),
    ];
    for (exit, name, reason) in table {
        let complaint = recorded(&format!("{name}.stderr.txt"));
        let script = Script::new(&format!("cat {} >&2; exit {exit}", complaint.display()));

        let sight = mirror(&script, &["rbd/nexus-data"]).look(PATIENCE).await;

        assert_eq!((sight.reading, sight.mirror), (Unknown(reason), None), "{name}");
    }
}

#[tokio::test]
async fn garbage_silence_and_floods_have_their_reading_and_none_is_down() {
    let table = [
        ("exit 0", PATIENCE, Reason::Unparsable),
        ("echo '{\"state\":'", PATIENCE, Reason::Unparsable),
        ("cat /dev/zero", PATIENCE, Reason::TooLarge),
        ("exit 111", PATIENCE, Reason::TimedOut),
        ("exit 108", PATIENCE, Reason::Forbidden),
        ("exit 5", PATIENCE, Reason::Unmapped),
        ("kill -SEGV $$", PATIENCE, Reason::Unmapped),
        ("sleep 600", Duration::from_millis(100), Reason::TimedOut),
    ];
    for (script, within, reason) in table {
        let sight = mirror(&Script::new(script), &["rbd/nexus-data"]).look(within).await;

        assert_eq!((sight.reading, sight.mirror), (Unknown(reason), None), "{script}");
    }
}

#[tokio::test]
async fn an_rbd_that_is_missing_or_too_old_is_told_with_the_remedy() {
    let option = Script::new("echo \"rbd: unrecognised option '--rados-osd-op-timeout'\" >&2; exit 1");
    // As Ceph says it of a command that it does not know; the long list of those that it knows goes to standard output.
    let command = Script::new("echo usage; echo \"error: unknown option 'mirror image status'\" >&2; exit 1");
    let table = [
        (
            vec!["/nowhere/rbd".to_owned()],
            "rbd/data: there is no program \"/nowhere/rbd\" here: install ceph-common, or correct its path",
        ),
        (
            option.words(),
            "rbd/data: exit 1: rbd: unrecognised option '--rados-osd-op-timeout': it is too old, rbd 16 or newer is needed",
        ),
        (
            command.words(),
            "rbd/data: exit 1: error: unknown option 'mirror image status': it is too old, rbd 16 or newer is needed",
        ),
    ];
    for (words, expected) in table {
        let mirror = RbdMirror::new(&RbdMirrorLook { pool: "rbd".into() }, &storage(words, &["rbd/data"])).unwrap();

        let sight = mirror.look(PATIENCE).await;

        assert_eq!((sight.reading, sight.detail.as_deref()), (Unknown(Reason::ToolMissing), Some(expected)));
    }
}

#[tokio::test]
async fn an_image_that_is_not_mirrored_is_named() {
    let script = Script::new(&answers(
        "1-healthy-standby-image-status",
        "setup-image-info-mirroring-disabled",
        "1-healthy-standby-snap-ls-all",
    ));

    let sight = mirror(&script, &["rbd/nexus-data"]).look(PATIENCE).await;

    assert_eq!(sight.reading, Unknown(Reason::Unparsable));
    assert!(sight.detail.unwrap().contains("rbd/nexus-data is not mirrored"));
}

#[test]
fn a_pool_without_any_of_the_images_is_refused() {
    let look = RbdMirrorLook { pool: "elsewhere".into() };

    let error = RbdMirror::new(&look, &storage(vec!["rbd".into()], &["rbd/nexus-data"])).err().unwrap();

    assert!(error.to_string().contains("none of the pair's images is in pool elsewhere"), "{error}");
}

async fn facts(status: &str, info: &str, snapshots: &str) -> MirrorFacts {
    let script = Script::new(&answers(status, info, snapshots));
    let sight = mirror(&script, &["rbd/nexus-data"]).look(PATIENCE).await;
    assert_eq!(sight.reading, Unknown(Reason::NoAdvance), "{:?}", sight.detail);
    sight.mirror.unwrap()
}

/// A script that answers each question with what was recorded.
fn answers(status: &str, info: &str, snapshots: &str) -> String {
    let file = |name: &str| recorded(&format!("{name}.json")).display().to_string();
    format!(
        "case \"$1\" in mirror) cat {};; info) cat {};; snap) cat {};; *) exit 99;; esac",
        file(status),
        file(info),
        file(snapshots)
    )
}

fn mirror(script: &Script, images: &[&str]) -> RbdMirror {
    RbdMirror::new(&RbdMirrorLook { pool: "rbd".into() }, &storage(script.words(), images)).unwrap()
}

fn storage(rbd: Vec<String>, images: &[&str]) -> Storage {
    Storage::Rbd(Rbd {
        images: images.iter().map(|image| (*image).to_owned()).collect(),
        rbd,
        ceph: vec!["ceph".into()],
        timeout: understudy_config::Span::secs(10),
        quiesce: Default::default(),
        undo_point: false,
        schedule: None,
    })
}
