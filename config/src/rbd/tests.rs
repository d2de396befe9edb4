//! The answers are those of two Ceph 16.2.15 clusters, recorded.

use understudy_core::ImageName;

use super::*;

const STANDBY_STATUS: &[u8] = br#"{"name":"nexus-data","global_id":"582e3178-2dc6-47c8-ba62-af6a37ddcd51","state":"up+replaying","description":"replaying, {\"bytes_per_second\":0.0,\"bytes_per_snapshot\":0.0,\"last_snapshot_bytes\":0,\"last_snapshot_sync_seconds\":0,\"local_snapshot_timestamp\":1795343388,\"remote_snapshot_timestamp\":1795343388,\"replay_state\":\"idle\"}","daemon_service":{"service_id":"4127","instance_id":"4130","daemon_id":"b","hostname":"vm"},"last_update":"2026-11-22 10:30:20","peer_sites":[{"site_name":"site-a","mirror_uuids":"6a834dfa-6e4d-4fbe-9678-e24196f01a79","state":"up+stopped","description":"local image is primary","last_update":"2026-11-22 10:30:20"}]}"#;

const SYNCING_STATUS: &[u8] = br#"{"name":"nexus-data","global_id":"dc1319fb-2615-4562-a901-fec5d48d0ce0","state":"up+replaying","description":"replaying, {\"bytes_per_second\":32086425.8,\"bytes_per_snapshot\":209715202.0,\"last_snapshot_bytes\":4,\"last_snapshot_sync_seconds\":0,\"local_snapshot_timestamp\":1795345161,\"remote_snapshot_timestamp\":1795345169,\"replay_state\":\"syncing\",\"seconds_until_synced\":6,\"syncing_percent\":20,\"syncing_snapshot_timestamp\":1795345169}","daemon_service":{"service_id":"4127","instance_id":"4129","daemon_id":"b","hostname":"vm"},"last_update":"2026-11-22 10:59:38","peer_sites":[{"site_name":"site-a","mirror_uuids":"6fd1f3e8-343b-43d9-b3b3-e49515bb63a6","state":"down+stopped","description":"local image is primary","last_update":"2026-11-22 10:59:28"}]}"#;

const NO_STATUS: &[u8] = br#"{"name":"nexus-data","global_id":"dc1319fb-2615-4562-a901-fec5d48d0ce0","state":"down+unknown","description":"status not found","last_update":"","peer_sites":[{"site_name":"site-a","mirror_uuids":"6fd1f3e8-343b-43d9-b3b3-e49515bb63a6","state":"up+stopped","description":"local image is primary","last_update":"2026-11-22 10:59:20"}]}"#;

const POOL_STATUS: &[u8] = br#"{"summary":{"health":"OK","daemon_health":"OK","image_health":"OK","states":{"replaying":1}},"daemons":[{"service_id":"4127","instance_id":"4130","client_id":"b","hostname":"vm","ceph_version":"16.2.15","leader":true,"health":"OK"}],"images":[]}"#;

const POOL_STATUS_WITHOUT_RIGHTS: &[u8] = br#"{"summary":{"health":"WARNING","daemon_health":"UNKNOWN","image_health":"WARNING","states":{"unknown":1}},"daemons":[],"images":[]}"#;

const STANDBY_INFO: &[u8] = br#"{"name":"nexus-data","size":67108864,"objects":16,"features":["layering","exclusive-lock","object-map","fast-diff","deep-flatten","non-primary"],"mirroring":{"mode":"snapshot","state":"enabled","global_id":"582e3178-2dc6-47c8-ba62-af6a37ddcd51","primary":false}}"#;

const PROMOTED_INFO: &[u8] = br#"{"name":"nexus-data","size":67108864,"objects":16,"features":["layering","exclusive-lock","object-map","fast-diff","deep-flatten"],"mirroring":{"mode":"snapshot","state":"enabled","global_id":"582e3178-2dc6-47c8-ba62-af6a37ddcd51","primary":true}}"#;

const UNMIRRORED_INFO: &[u8] = br#"{"name":"nexus-data","size":67108864,"objects":16,"features":["layering","exclusive-lock","object-map","fast-diff","deep-flatten"]}"#;

const IN_STEP: &[u8] = br#"[{"id":4,"name":".mirror.non_primary.582e3178-2dc6-47c8-ba62-af6a37ddcd51.cae33da8-68f9-4be3-a46a-238b3d27a090","size":67108864,"protected":"false","timestamp":"Sun Nov 22 10:29:50 2026","namespace":{"type":"mirror","state":"non-primary","mirror_peer_uuids":[],"complete":true,"primary_mirror_uuid":"6a834dfa-6e4d-4fbe-9678-e24196f01a79","primary_snap_id":4,"last_copied_object_number":16}}]"#;

const MID_SYNC: &[u8] = br#"[{"id":5,"name":".mirror.non_primary.dc1319fb-2615-4562-a901-fec5d48d0ce0.fb8f43d1-7974-4569-993a-ed1b64d6836d","size":1073741824,"protected":"false","timestamp":"Sun Nov 22 10:59:21 2026","namespace":{"type":"mirror","state":"non-primary","mirror_peer_uuids":[],"complete":true,"primary_mirror_uuid":"6fd1f3e8-343b-43d9-b3b3-e49515bb63a6","primary_snap_id":5,"last_copied_object_number":256}},{"id":7,"name":".mirror.non_primary.dc1319fb-2615-4562-a901-fec5d48d0ce0.b195d1b6-c5be-4e58-ad66-8bbaaee41ade","size":1073741824,"protected":"false","timestamp":"Sun Nov 22 10:59:29 2026","namespace":{"type":"mirror","state":"non-primary","mirror_peer_uuids":[],"complete":false,"primary_mirror_uuid":"6fd1f3e8-343b-43d9-b3b3-e49515bb63a6","primary_snap_id":6,"last_copied_object_number":51}}]"#;

const HUNG_PROMOTE: &[u8] = br#"[{"id":5,"name":".mirror.non_primary.dc1319fb-2615-4562-a901-fec5d48d0ce0.fb8f43d1-7974-4569-993a-ed1b64d6836d","size":1073741824,"protected":"false","timestamp":"Sun Nov 22 10:59:21 2026","namespace":{"type":"mirror","state":"non-primary","mirror_peer_uuids":[],"complete":true,"primary_mirror_uuid":"6fd1f3e8-343b-43d9-b3b3-e49515bb63a6","primary_snap_id":5,"last_copied_object_number":256}},{"id":7,"name":".mirror.non_primary.dc1319fb-2615-4562-a901-fec5d48d0ce0.b195d1b6-c5be-4e58-ad66-8bbaaee41ade","size":1073741824,"protected":"false","timestamp":"Sun Nov 22 10:59:29 2026","namespace":{"type":"mirror","state":"non-primary","mirror_peer_uuids":[],"complete":false,"primary_mirror_uuid":"6fd1f3e8-343b-43d9-b3b3-e49515bb63a6","primary_snap_id":6,"last_copied_object_number":51}},{"id":8,"name":".mirror.non_primary.dc1319fb-2615-4562-a901-fec5d48d0ce0.3c86b92e-b914-4fea-a221-24e97592ae4d","size":1073741824,"protected":"false","timestamp":"Sun Nov 22 10:59:43 2026","namespace":{"type":"mirror","state":"non-primary","mirror_peer_uuids":[],"complete":true,"primary_mirror_uuid":"","primary_snap_id":18446744073709551614,"last_copied_object_number":0}}]"#;

const PROMOTED: &[u8] = br#"[{"id":17,"name":".mirror.primary.582e3178-2dc6-47c8-ba62-af6a37ddcd51.20704e83-e4fe-4f03-b841-135bdc90c876","size":67108864,"protected":"false","timestamp":"Sun Nov 22 10:34:07 2026","namespace":{"type":"mirror","state":"demoted","mirror_peer_uuids":["022dc617-467b-41a9-b6f6-3481308a787c"],"complete":true}},{"id":28,"name":".mirror.primary.582e3178-2dc6-47c8-ba62-af6a37ddcd51.b7fdf635-30cf-4ac0-9a76-f4c70bb220e1","size":67108864,"protected":"false","timestamp":"Sun Nov 22 10:37:15 2026","namespace":{"type":"mirror","state":"primary","mirror_peer_uuids":["022dc617-467b-41a9-b6f6-3481308a787c"],"complete":true}}]"#;

const OLD_PRIMARY: &[u8] = br#"[{"id":15,"name":".mirror.non_primary.17bd6638-9e62-457c-aa1e-f300ccbfaeb8.bbad78c5-22b7-4ab8-bd04-c1fb97d835c7","size":16777216,"protected":"false","timestamp":"Sun Nov 22 10:54:12 2026","namespace":{"type":"mirror","state":"demoted","mirror_peer_uuids":["4e42786b-62ad-47d8-9611-3ef775c9254b"],"complete":true,"primary_mirror_uuid":"2e0406b3-a496-4ccc-97e4-16ee006ff801","primary_snap_id":17,"last_copied_object_number":4}},{"id":17,"name":".mirror.primary.17bd6638-9e62-457c-aa1e-f300ccbfaeb8.1d8e73dc-52b7-449f-b40e-a07c8de5f48e","size":16777216,"protected":"false","timestamp":"Sun Nov 22 10:54:14 2026","namespace":{"type":"mirror","state":"primary","mirror_peer_uuids":["4e42786b-62ad-47d8-9611-3ef775c9254b"],"complete":true}},{"id":18,"name":".mirror.primary.17bd6638-9e62-457c-aa1e-f300ccbfaeb8.db93ebb1-a0ef-4c87-88b3-9e916f2672a2","size":16777216,"protected":"false","timestamp":"Sun Nov 22 10:54:15 2026","namespace":{"type":"mirror","state":"primary","mirror_peer_uuids":["4e42786b-62ad-47d8-9611-3ef775c9254b"],"complete":true}}]"#;

#[test]
fn in_step_the_newest_complete_copy_counts_and_its_time_is_the_primarys() {
    let facts = look(STANDBY_STATUS, STANDBY_INFO, IN_STEP).unwrap();

    assert_eq!((facts.newest_complete, facts.syncing, facts.progress), (Some(4), None, None));
    assert_eq!(facts.source_time_ms, Some(1_795_343_388_000));
    assert!(!facts.primary && !facts.orphan);
}

#[test]
fn in_the_middle_of_a_sync_the_copy_under_way_and_its_progress_are_seen() {
    let info = String::from_utf8(STANDBY_INFO.to_vec()).unwrap().replace("\"objects\":16", "\"objects\":256");

    let facts = look(SYNCING_STATUS, info.as_bytes(), MID_SYNC).unwrap();

    assert_eq!((facts.newest_complete, facts.syncing, facts.progress), (Some(5), Some(6), Some((51, 256))));
    assert_eq!(facts.source_time_ms, Some(1_795_345_161_000));
}

#[test]
fn the_mark_of_an_unfinished_forced_promote_is_an_orphan_and_no_copy() {
    let facts = look(SYNCING_STATUS, STANDBY_INFO, HUNG_PROMOTE).unwrap();

    assert!(facts.orphan);
    assert_eq!(facts.newest_complete, Some(5));
}

#[test]
fn a_promoted_image_is_primary_writable_and_copies_nothing() {
    let facts = look(NO_STATUS, PROMOTED_INFO, PROMOTED).unwrap();

    assert!(facts.primary && !facts.orphan);
    assert_eq!((facts.newest_complete, facts.source_time_ms), (None, None));
    assert!(!info(PROMOTED_INFO).unwrap().non_primary);
    assert!(info(STANDBY_INFO).unwrap().non_primary);
}

#[test]
fn copies_from_before_the_image_was_last_primary_here_do_not_count() {
    let facts = look(NO_STATUS, STANDBY_INFO, OLD_PRIMARY).unwrap();

    assert_eq!(facts.newest_complete, None);
}

#[test]
fn without_a_status_there_is_no_source_time() {
    let facts = look(NO_STATUS, STANDBY_INFO, IN_STEP).unwrap();

    assert_eq!((facts.newest_complete, facts.source_time_ms), (Some(4), None));
}

#[test]
fn an_image_that_is_not_mirrored_is_named_with_the_remedy() {
    let error = look(NO_STATUS, UNMIRRORED_INFO, b"[]").unwrap_err();

    assert!(error.to_string().contains("rbd mirror image enable rbd/nexus-data snapshot"), "{error}");
}

#[test]
fn an_image_that_is_mirrored_by_a_journal_is_refused() {
    let info =
        String::from_utf8(STANDBY_INFO.to_vec()).unwrap().replace("\"mode\":\"snapshot\"", "\"mode\":\"journal\"");

    let error = look(NO_STATUS, info.as_bytes(), b"[]").unwrap_err();

    assert!(error.to_string().contains("mirrored by journal"), "{error}");
}

#[test]
fn the_client_of_the_mirror_daemon_is_known_by_pool_and_by_image() {
    assert_eq!(pool_status(POOL_STATUS).unwrap().instance_ids, [4130]);
    assert_eq!(image_status(STANDBY_STATUS).unwrap().instance_id, Some(4130));
}

#[test]
fn missing_rights_to_see_the_daemons_show_as_no_daemon_and_unknown_health() {
    let status = pool_status(POOL_STATUS_WITHOUT_RIGHTS).unwrap();

    assert_eq!((status.daemon_health.as_str(), status.instance_ids), ("UNKNOWN", vec![]));
}

#[test]
fn watchers_are_read_with_their_client_number() {
    let watchers =
        watchers(br#"{"watchers":[{"address":"127.0.0.1:0/1129307501","client":4128,"cookie":94317116641664}]}"#)
            .unwrap();

    assert_eq!(watchers, [Watcher { address: "127.0.0.1:0/1129307501".into(), client: 4128 }]);
}

#[test]
fn of_a_blocklist_the_first_list_counts_since_ceph_16_prints_two() {
    let both = br#"
[{"addr":"127.0.0.9:0/123","until":"2026-11-24T07:33:02.088991+0000"}][]"#;

    assert_eq!(blocklist(both).unwrap(), ["127.0.0.9:0/123"]);
    assert_eq!(blocklist(b"\n[][]").unwrap(), [""; 0]);
}

#[test]
fn a_blocklist_with_more_behind_it_than_an_empty_list_is_none() {
    for more in ["[{\"addr\":\"127.0.0.9:0/124\"}]", "{}", "[", "garbage"] {
        assert!(blocklist(format!("[]{more}").as_bytes()).is_err(), "{more}");
    }
}

#[test]
fn a_refusal_does_not_repeat_all_that_was_printed() {
    let long = "x".repeat(1_000_000);
    let answers = [
        info(format!(r#"{{"objects":"{long}"}}"#).as_bytes()).map(drop),
        pool_status(
            format!(r#"{{"summary":{{"daemon_health":""}},"daemons":[{{"instance_id":"{long}"}}]}}"#).as_bytes(),
        )
        .map(drop),
        blocklist(format!(r#"["{long}"]"#).as_bytes()).map(drop),
        snapshots(format!(r#"[{{"id":1,"name":"","namespace":{{"type":"mirror","state":"{long}"}}}}]"#).as_bytes())
            .map(drop),
    ];
    for answer in answers {
        assert!(answer.unwrap_err().to_string().len() < 400);
    }
}

#[test]
fn a_schedule_is_read_by_its_intervals() {
    assert_eq!(schedule(br#"[{"interval":"1m","start_time":""}]"#).unwrap(), ["1m"]);
}

#[test]
fn a_snapshot_of_a_user_is_none_of_mirroring() {
    let snapshots =
        snapshots(br#"[{"id":6,"name":"u1","size":1,"protected":"false","timestamp":"","namespace":{"type":"user"}}]"#);

    assert_eq!(snapshots.unwrap(), [Snapshot { id: 6, name: "u1".into(), mirror: None }]);
}

#[test]
fn garbage_and_missing_keys_are_errors_that_name_the_command() {
    let garbage: [Result<(), Unreadable>; 8] = [
        schedule(b"[{\"interval\":\"1m\",\"start_time\":\"\xff\"}]").map(drop),
        info(b"{}").map(drop),
        snapshots(br#"[{"id":1,"name":"a","namespace":{"type":"mirror","state":"upside-down","complete":true}}]"#)
            .map(drop),
        snapshots(br#"[{"id":1,"name":"a","namespace":{}}]"#).map(drop),
        image_status(br#"{"state":"up+replaying","description":"replaying, {"}"#).map(drop),
        pool_status(b"<html>").map(drop),
        watchers(b"").map(drop),
        blocklist(b"").map(drop),
    ];
    for error in garbage {
        let error = error.unwrap_err().to_string();

        assert!(error.starts_with("failed to read the answer of "), "{error}");
    }
}

fn look(status: &[u8], info_json: &[u8], snap_json: &[u8]) -> Result<understudy_core::ImageFacts, Unreadable> {
    let image = ImageName::from("rbd/nexus-data");
    let status = image_status(status)?;
    facts(&image, Some(&status), &info(info_json)?, &snapshots(snap_json)?)
}

#[test]
fn a_daemon_that_has_not_told_its_number_yet_has_none() {
    let pool = br#"{"summary":{"daemon_health":"OK"},"daemons":[{"instance_id":""},{"instance_id":"4131"}]}"#;

    let status = pool_status(pool).unwrap();

    assert_eq!(status.instance_ids, [4131]);
}

#[test]
fn a_peer_counts_as_primary_while_its_daemon_runs_and_says_so() {
    let status = |state: &str, description: &str| {
        let peer = serde_json::json!({ "site_name": "a", "state": state, "description": description });
        let status =
            serde_json::json!({ "state": "up+stopped", "description": "local image is primary", "peer_sites": [peer] });
        image_status(status.to_string().as_bytes()).unwrap().peer_primary
    };

    assert!(image_status(STANDBY_STATUS).unwrap().peer_primary);
    assert!(status("up+stopped", "local image is primary"));
    assert!(!status("down+stopped", "local image is primary"), "it is silent");
    assert!(!status("up+error", "split-brain"));
    assert!(!image_status(br#"{"state":"up+stopped","description":"local image is primary"}"#).unwrap().peer_primary);
}
