use std::fs;

use tempfile::TempDir;

use super::*;
use crate::samples::{at, every_kind, signal, snapshot, started, verdict};

const ROOMY: u64 = 1 << 20;

#[test]
fn what_was_appended_is_read_back_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, before) = Journal::open(dir.path(), ROOMY).unwrap();
    journal.append(at(1), &[started(), signal("web")], true).unwrap();
    journal.append(at(2), &[verdict()], false).unwrap();
    drop(journal);

    let (journal, after) = Journal::open(dir.path(), ROOMY).unwrap();

    assert_eq!(before, []);
    assert_eq!(after, [(at(1), started()), (at(1), signal("web")), (at(2), verdict())]);
    assert_eq!((journal.last_seq(), journal.cut_bytes()), (3, 0));
}

#[test]
fn a_flush_is_timed_and_only_made_when_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(dir.path(), ROOMY).unwrap();

    assert_eq!(journal.append(at(1), &[started()], false).unwrap(), None);
    assert!(journal.append(at(1), &[started()], true).unwrap().is_some());
}

#[test]
fn every_kind_of_record_survives_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(dir.path(), ROOMY).unwrap();
    journal.append(at(1), &every_kind(), true).unwrap();
    drop(journal);

    let (_, records) = Journal::open(dir.path(), ROOMY).unwrap();

    let records: Vec<Record> = records.into_iter().map(|(_, record)| record).collect();
    assert_eq!(records, every_kind());
}

#[test]
fn cut_at_any_byte_the_whole_records_before_are_kept_and_the_journal_goes_on() {
    let (dir, file) = small_journal();
    let content = fs::read(&file).unwrap();

    for len in 0..content.len() {
        fs::write(&file, &content[..len]).unwrap();
        let whole = content[..len].iter().filter(|b| **b == b'\n').count();
        let torn = len - content[..len].iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);

        let (mut journal, records) = Journal::open(dir.path(), ROOMY).unwrap();
        assert_eq!((records.len(), journal.cut_bytes()), (whole, torn as u64), "cut at {len}");
        journal.append(at(9), &[verdict()], true).unwrap();
        drop(journal);

        let (_, again) = Journal::open(dir.path(), ROOMY).unwrap();
        assert_eq!(again[..whole], records);
        assert_eq!(again[whole..], [(at(9), verdict())]);
    }
}

#[test]
fn a_flipped_byte_is_found_wherever_it_is() {
    let (dir, file) = small_journal();
    let content = fs::read(&file).unwrap();

    for position in 0..content.len() {
        for flip in [0x01, 0x80, content[position] ^ b'\n'] {
            if flip == 0 {
                continue;
            }
            let mut changed = content.clone();
            changed[position] ^= flip;
            fs::write(&file, &changed).unwrap();

            let opened = Journal::open(dir.path(), ROOMY).map(|(_, records)| records.len());

            let error = opened.expect_err(&format!("byte {position} flipped by {flip:#x} was accepted"));
            assert!(
                matches!(error, JournalError::Damaged { .. } | JournalError::UnknownVersion { .. }),
                "byte {position}: {error}"
            );
        }
    }
}

#[test]
fn a_line_that_was_taken_out_moved_or_doubled_is_found() {
    let (dir, file) = small_journal();
    let text = fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = text.lines().collect();

    for changed in [vec![0, 2], vec![1, 2], vec![0, 2, 1], vec![0, 1, 1, 2]] {
        let content: String = changed.iter().map(|at| format!("{}\n", lines[*at])).collect();
        fs::write(&file, content).unwrap();

        let error = Journal::open(dir.path(), ROOMY).unwrap_err();

        assert!(matches!(error, JournalError::Damaged { .. }), "{changed:?}: {error}");
    }
}

#[test]
fn damage_is_told_with_file_line_and_remedy() {
    let (dir, file) = small_journal();
    let text = fs::read_to_string(&file).unwrap().replacen("\"web\"", "\"wex\"", 1);
    fs::write(&file, text).unwrap();

    let message = Journal::open(dir.path(), ROOMY).unwrap_err().to_string();

    assert!(message.contains("journal-000001.jsonl:2"), "{message}");
    assert!(message.contains("restore the file"), "{message}");
}

#[test]
fn a_line_of_a_newer_version_is_refused_and_named() {
    let (dir, file) = small_journal();
    let mut text = fs::read_to_string(&file).unwrap();
    text.push_str("{\"v\":2,\"anything\":\"else\"}\n");
    fs::write(&file, text).unwrap();

    let error = Journal::open(dir.path(), ROOMY).unwrap_err();

    assert!(matches!(&error, JournalError::UnknownVersion { line: 4, .. }), "{error}");
    assert!(error.to_string().contains("line version 2"), "{error}");
}

#[test]
fn a_record_of_an_unknown_kind_is_refused_although_its_line_is_whole() {
    let (dir, file) = small_journal();
    let text = fs::read_to_string(&file).unwrap();
    let last = line::decode(text.split_inclusive('\n').next_back().unwrap().as_bytes()).unwrap();
    let (sealed, _) = line::encode(&last.link(), at(5), &started());
    let foreign = String::from_utf8(sealed).unwrap().replace("\"started\"", "\"levitated\"");
    let body = foreign.split(",\"hash\"").next().unwrap();
    let digest: String = {
        use sha2::Digest;
        sha2::Sha256::digest(body.as_bytes()).iter().map(|b| format!("{b:02x}")).collect()
    };
    fs::write(&file, format!("{text}{body},\"hash\":\"{digest}\"}}\n")).unwrap();

    let error = Journal::open(dir.path(), ROOMY).unwrap_err();

    assert!(matches!(&error, JournalError::UnknownVersion { line: 4, .. }), "{error}");
}

#[test]
fn a_second_daemon_is_refused_and_told_who_holds_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let (_held, _) = Journal::open(dir.path(), ROOMY).unwrap();

    let message = Journal::open(dir.path(), ROOMY).unwrap_err().to_string();

    assert!(message.contains(&format!("process {} on ", std::process::id())), "{message}");
}

#[test]
fn the_directory_is_free_again_when_its_holder_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (held, _) = Journal::open(dir.path(), ROOMY).unwrap();
    drop(held);

    assert!(Journal::open(dir.path(), ROOMY).is_ok());
}

#[test]
fn a_rotated_journal_keeps_its_chain_and_is_read_from_its_snapshot() {
    let (dir, journal) = rotated_journal();
    drop(journal);

    let (journal, records) = Journal::open(dir.path(), ROOMY).unwrap();

    assert_eq!(records, [(at(3), empty_snapshot()), (at(4), verdict())]);
    assert_eq!(journal.last_seq(), 4);
    let all: Vec<u64> = read_all(dir.path()).unwrap().iter().map(|entry| entry.seq).collect();
    assert_eq!(all, [1, 2, 3, 4]);
}

#[test]
fn a_journal_is_full_only_when_its_segment_is_longer_than_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(dir.path(), 700).unwrap();

    journal.append(at(1), &[started(), started()], false).unwrap();
    assert!(!journal.is_full());
    journal.append(at(1), &[started()], false).unwrap();
    assert!(journal.is_full());
}

#[test]
fn a_snapshot_longer_than_a_segment_does_not_make_every_record_rotate() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(dir.path(), 100).unwrap();
    journal.append(at(1), &[started()], false).unwrap();

    journal.rotate(at(2), &snapshot()).unwrap();
    drop(journal);
    let (mut journal, _) = Journal::open(dir.path(), 100).unwrap();
    journal.append(at(3), &[started()], false).unwrap();

    assert!(!journal.is_full());
}

#[test]
fn a_flipped_byte_in_any_segment_is_found_by_the_full_read() {
    let (dir, journal) = rotated_journal();
    drop(journal);

    for name in ["journal-000001.jsonl", "journal-000002.jsonl"] {
        let file = dir.path().join(name);
        let content = fs::read(&file).unwrap();
        for position in 0..content.len() {
            let mut changed = content.clone();
            changed[position] ^= 0x01;
            fs::write(&file, &changed).unwrap();
            assert!(read_all(dir.path()).is_err(), "{name}, byte {position}");
        }
        fs::write(&file, &content).unwrap();
    }
}

#[test]
fn a_segment_that_does_not_continue_the_one_before_is_refused() {
    let (dir, journal) = rotated_journal();
    drop(journal);
    let first = dir.path().join("journal-000001.jsonl");
    let text = fs::read_to_string(&first).unwrap();
    fs::write(&first, text.split_inclusive('\n').next().unwrap()).unwrap();

    let error = Journal::open(dir.path(), ROOMY).unwrap_err();

    assert!(error.to_string().contains("record 3 follows record 1"), "{error}");
}

#[test]
fn a_missing_segment_is_refused_and_an_archived_one_is_not() {
    let (dir, mut journal) = rotated_journal();
    journal.rotate(at(5), &snapshot()).unwrap();
    drop(journal);

    fs::remove_file(dir.path().join("journal-000001.jsonl")).unwrap();
    assert_eq!(read_all(dir.path()).unwrap().len(), 3);
    assert!(Journal::open(dir.path(), ROOMY).is_ok());

    fs::rename(dir.path().join("journal-000002.jsonl"), dir.path().join("journal-000001.jsonl")).unwrap();
    let error = Journal::open(dir.path(), ROOMY).unwrap_err();
    assert!(error.to_string().contains("journal-000002.jsonl:1: the segment is missing"), "{error}");
}

#[test]
fn a_later_segment_without_a_whole_line_is_refused() {
    let (dir, journal) = rotated_journal();
    drop(journal);
    let second = dir.path().join("journal-000002.jsonl");
    let content = fs::read(&second).unwrap();
    fs::write(&second, &content[..20]).unwrap();

    let error = Journal::open(dir.path(), ROOMY).unwrap_err();

    assert!(error.to_string().contains("no whole line"), "{error}");
}

#[test]
fn what_a_crash_left_of_a_rotation_is_ignored() {
    let (dir, mut journal) = rotated_journal();
    fs::write(dir.path().join("journal-000003.jsonl.new"), b"{\"v\":1,\"se").unwrap();

    journal.rotate(at(5), &snapshot()).unwrap();
    drop(journal);

    assert_eq!(Journal::open(dir.path(), ROOMY).unwrap().1, [(at(5), snapshot())]);
}

#[test]
fn a_full_disk_ends_the_journal_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(dir.path(), ROOMY).unwrap();
    journal.file = OpenOptions::new().append(true).open("/dev/full").unwrap();

    let first = journal.append(at(1), &[started()], true).unwrap_err();
    // The disk has room again, but nobody knows what was lost.
    journal.file = open_for_append(&journal.segment.path).unwrap();
    let second = journal.append(at(1), &[started()], true).unwrap_err();
    let third = journal.rotate(at(1), &snapshot()).unwrap_err();

    assert!(
        matches!(&first, JournalError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull),
        "{first}"
    );
    assert!(matches!(&second, JournalError::Broken(why) if why.contains("No space left")), "{second}");
    assert!(matches!(third, JournalError::Broken(_)), "{third}");
}

#[test]
fn a_failed_flush_ends_the_journal_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(dir.path(), ROOMY).unwrap();
    // A write to it succeeds, a flush of it does not: it is no file.
    journal.file = OpenOptions::new().append(true).open("/dev/null").unwrap();

    let first = journal.append(at(1), &[started()], true).unwrap_err();
    let second = journal.append(at(1), &[started()], false).unwrap_err();

    assert!(matches!(&first, JournalError::Io { what: "flush", .. }), "{first}");
    assert!(matches!(second, JournalError::Broken(_)), "{second}");
}

#[test]
fn a_directory_that_can_not_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("plain");
    fs::write(&file, b"").unwrap();

    let message = Journal::open(&file.join("state"), ROOMY).unwrap_err().to_string();

    assert!(message.contains("failed to make state directory") && message.contains("plain/state"), "{message}");
}

#[test]
fn the_state_directory_is_closed_to_others() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");

    let (_journal, _) = Journal::open(&state, ROOMY).unwrap();

    assert_eq!(fs::metadata(&state).unwrap().permissions().mode() & 0o007, 0);
    assert_eq!(fs::metadata(state.join("journal-000001.jsonl")).unwrap().permissions().mode() & 0o007, 0);
}

#[test]
fn a_reader_beside_the_daemon_gets_what_comes_after_a_number() {
    let (dir, mut journal) = rotated_journal();
    journal.append(at(5), &[signal("api")], false).unwrap();
    let after = |seq, limit| -> Vec<u64> {
        read_after(dir.path(), seq, limit).unwrap().iter().map(|entry| entry.seq).collect()
    };

    assert_eq!(after(0, 10), [1, 2, 3, 4, 5]);
    assert_eq!(after(1, 2), [2, 3]);
    assert_eq!(after(4, 10), [5]);
    assert_eq!(after(5, 10), [0u64; 0]);
    assert_eq!(after(u64::MAX, 10), [0u64; 0], "whoever asks may ask for anything");
}

/// In memory where that is possible: the tests that try every byte flush thousands of times.
fn small_journal() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let (mut journal, _) = Journal::open(dir.path(), ROOMY).unwrap();
    journal.append(at(1), &[started(), signal("web"), verdict()], true).unwrap();
    let file = journal.segment.path.clone();
    (dir, file)
}

/// Records 1 and 2 in the first segment, a snapshot and record 4 in the second.
fn rotated_journal() -> (TempDir, Journal) {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(dir.path(), ROOMY).unwrap();
    journal.append(at(1), &[started()], false).unwrap();
    journal.append(at(2), &[signal("web")], false).unwrap();
    journal.rotate(at(3), &empty_snapshot()).unwrap();
    journal.append(at(4), &[verdict()], true).unwrap();
    (dir, journal)
}

fn empty_snapshot() -> Record {
    Record::Snapshot { pairs: std::collections::BTreeMap::new() }
}
