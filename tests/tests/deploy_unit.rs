//! What systemd's own tool says of the unit in `deploy/`, and what the unit promises to the code.

use std::fs;
use std::process::Command;

const UNIT: &str = include_str!("../../deploy/understudy.service");
const CONTAINERFILE: &str = include_str!("../../deploy/Containerfile");
const PROGRAM: &str = "/usr/bin/understudy";

/// In tenths, as the tool's own threshold is. What is left is the network, which is what the daemon is for, and files that
/// its group may read, which is how a human without root asks it.
const MOST_EXPOSURE: u32 = 20;

#[test]
fn the_unit_promises_what_the_code_relies_on() {
    let promised = [
        "Type=notify",
        // The promote outlives the daemon.
        "KillMode=process",
        "StateDirectory=understudy",
        "ExecStart=/usr/bin/understudy run --config /etc/understudy/understudy.yaml",
        "ExecReload=/bin/kill -HUP $MAINPID",
    ];

    for line in promised {
        assert!(UNIT.lines().any(|given| given == line), "{line} is gone");
    }
    assert!(UNIT.contains("\nWatchdogSec="));
    assert!(CONTAINERFILE.contains(&format!(" {PROGRAM}\n")), "the container has it elsewhere");
}

#[test]
#[ignore = "needs systemd-analyze: tests/run deploy"]
fn systemd_understands_every_line_of_the_unit() {
    let misspelt = complaints(&UNIT.replace("ProtectHome=", "ProtectHoem="));
    assert!(misspelt.contains("ProtectHoem"), "a wrong key is not seen: {misspelt}");

    assert_eq!(complaints(UNIT), "");
}

#[test]
#[ignore = "needs systemd-analyze: tests/run deploy"]
fn the_unit_leaves_an_attacker_little() {
    let bare = UNIT.replace("SystemCallFilter=", "# ").replace("Restrict", "# ").replace("Protect", "# ");
    let (accepted, told) = exposure(&bare);
    assert!(!accepted, "a unit without hardening is accepted: {told}");

    let (accepted, told) = exposure(UNIT);
    assert!(accepted, "more than {MOST_EXPOSURE} tenths: {told}");
}

/// What `systemd-analyze verify` has to say about a unit.
fn complaints(unit: &str) -> String {
    // The program need not be installed here.
    let here = std::env::current_exe().unwrap();
    let unit = unit.replace(PROGRAM, here.to_str().unwrap());
    let output = analyze(&unit, &["verify", "--man=no"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // Of other units of this machine it may say what it likes.
    said.lines().filter(|line| line.contains("understudy")).collect::<Vec<_>>().join("\n")
}

/// Whether `systemd-analyze security` accepts a unit, and its last line.
fn exposure(unit: &str) -> (bool, String) {
    let threshold = format!("--threshold={MOST_EXPOSURE}");
    let output = analyze(unit, &["security", "--no-pager", "--offline=true", &threshold]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default().to_owned();
    assert!(said.contains("Overall exposure level"), "{said}");
    (output.status.success(), last)
}

fn analyze(unit: &str, words: &[&str]) -> std::process::Output {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("understudy.service");
    fs::write(&path, unit).unwrap();
    Command::new("systemd-analyze")
        .args(words)
        .arg(&path)
        .output()
        .expect("systemd-analyze is there: tests/run deploy gets it")
}
