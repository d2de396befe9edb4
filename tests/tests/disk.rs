//! The real daemon on a disk that fails under its journal: full, read-only, dead, damaged. What it can not remember it does
//! not do (S10): the stand-ins count what was done to the world, and nothing may be.
//!
//! Needs root, for its disks are mounted: small file systems in files. Without root each test is skipped by its name; with
//! CI=true that is a failure.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use understudy_core::{Question, Record, Role, Verdict};
use understudy_tests::rehearse::play::Play;
use understudy_tests::rehearse::show::Show;
use understudy_tests::rehearse::stage::Wishes;
use understudy_tests::standin::effects::{Effect, Kind};

/// Far longer than the daemon takes to find out.
const PATIENCE: Duration = Duration::from_secs(40);
const YES: &str = "the power is off";

/// What is wrong with the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// ENOSPC.
    Full,
    /// EROFS, as after an error that the file system does not survive.
    ReadOnly,
    /// EIO.
    Dead,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_under_an_open_question_lets_nothing_happen() {
    under_an_open_question("a_full_disk_under_an_open_question_lets_nothing_happen", Fault::Full).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_became_read_only_under_an_open_question_lets_nothing_happen() {
    let name = "a_disk_that_became_read_only_under_an_open_question_lets_nothing_happen";
    under_an_open_question(name, Fault::ReadOnly).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_disk_under_an_open_question_lets_nothing_happen() {
    under_an_open_question("a_dead_disk_under_an_open_question_lets_nothing_happen", Fault::Dead).await;
}

/// A is dead, a human is asked, the disk fails, the human says yes. Once the disk is repaired, a new daemon does the rest.
async fn under_an_open_question(name: &str, fault: Fault) {
    let _turn = turn().await;
    let place = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::mount(place.path(), name) else { return };
    let mut play = begin(place.path()).await;
    let request = asked(&mut play).await;
    let before = done_to_the_world(&play).len();

    disk.break_by(fault);
    let said = play.command(&["approve", &request, "--accept-unfenced", YES]).await.unwrap();
    ended(&mut play).await;

    let after = done_to_the_world(&play);
    match fault {
        // What the last block still held was remembered; a promote is further away than a block.
        Fault::Full => assert_eq!(decisive(&after), [] as [&Effect; 0], "{said:?}"),
        Fault::ReadOnly | Fault::Dead => assert_eq!(after[before..], [], "{said:?}"),
    }
    let log = play.log_tail();
    assert!(log.contains("nothing is written to the world any more"), "{log}");
    assert!(play.pages().contains(&"halted".to_owned()), "{:?}", play.pages());
    if fault != Fault::Full {
        let (code, said) = play.command(&["run"]).await.unwrap();
        assert_eq!(code, 1, "{said}");
        assert!(said.contains("state"), "it names the file: {said}");
        assert_eq!(done_to_the_world(&play)[before..], []);
    }

    disk.repair(fault);
    play.start_daemon().unwrap();
    to_b(&mut play).await;
    assert_eq!(play.stage.world.ledger.of(Kind::Promote).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_is_damaged_anywhere_starts_nothing_and_touches_nothing() {
    let _turn = turn().await;
    let place = tempfile::tempdir().unwrap();
    let mut play = begin(place.path()).await;
    asked(&mut play).await;
    play.kill_daemon().await.unwrap();
    let before = done_to_the_world(&play);
    let segment = place.path().join("state/journal-000001.jsonl");
    let sound = fs::read(&segment).unwrap();

    for n in 0..12 {
        let mut damaged = sound.clone();
        let at = n * (sound.len() - 1) / 11;
        damaged[at] ^= 0x02;
        fs::write(&segment, &damaged).unwrap();
        let line = 1 + sound[..at].iter().filter(|byte| **byte == b'\n').count();

        let (code, said) = play.command(&["run"]).await.unwrap();

        assert_eq!(code, 1, "byte {at}: {said}");
        assert!(said.contains(&format!("journal-000001.jsonl:{line}")), "byte {at} in line {line}: {said}");
        assert_eq!(fs::read(&segment).unwrap(), damaged, "byte {at}: a damaged journal is left as it is");
    }
    assert_eq!(done_to_the_world(&play), before);

    fs::write(&segment, &sound).unwrap();
    play.start_daemon().unwrap();
    to_b(&mut play).await;
}

async fn begin(directory: &Path) -> Play {
    let program = Path::new(env!("CARGO_BIN_EXE_rehearse"));
    Play::begin_with_program(program, directory, &Wishes::default(), Show::new(true)).await.unwrap()
}

/// A dies whole, and a human is asked.
async fn asked(play: &mut Play) -> String {
    play.kill_a().await;
    let down = |r: &Record| matches!(r, Record::Verdict { to: Verdict::SiteDown, .. });
    play.until("the verdict is SiteDown", PATIENCE, down).await.unwrap();
    play.question(Question::Failover, PATIENCE).await.unwrap().id.to_string()
}

/// Says yes to whatever is asked until B is active, and finds the user's artifact there.
async fn to_b(play: &mut Play) {
    let end = Instant::now() + PATIENCE;
    play.journal.look().unwrap();
    while !play.has(|r| matches!(r, Record::RoleChanged { role: Role::AtB, .. })) {
        assert!(Instant::now() < end, "B is not active\n{}", play.log_tail());
        if let Some(open) = play.open_request() {
            // One that has become void meanwhile is refused, and asked anew.
            play.command(&["approve", open.as_str(), "--accept-unfenced", YES]).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        play.journal.look().unwrap();
    }
    let back = play.download(understudy_tests::rehearse::play::ARTIFACT).await.unwrap();
    assert_eq!(back, understudy_tests::rehearse::play::PAYLOAD);
}

async fn ended(play: &mut Play) {
    let end = Instant::now() + PATIENCE;
    while !play.daemon_is_gone() {
        assert!(Instant::now() < end, "the daemon goes on\n{}", play.log_tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Everything but pages, and but the canaries that a probe writes at a living A.
fn done_to_the_world(play: &Play) -> Vec<Effect> {
    let all = play.stage.world.ledger.all();
    all.into_iter().filter(|effect| !matches!(effect.kind, Kind::Notify | Kind::Artifact)).collect()
}

fn decisive(effects: &[Effect]) -> Vec<&Effect> {
    let kinds = [Kind::Promote, Kind::Demote, Kind::Route, Kind::DnsUpdate, Kind::Delete];
    effects.iter().filter(|effect| kinds.contains(&effect.kind)).collect()
}

/// One after the other: timers of half a second do not like a machine that plays several disasters at once.
async fn turn() -> tokio::sync::MutexGuard<'static, ()> {
    static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    TURN.lock().await
}

/// A small file system under the daemon's state directory.
struct Disk {
    state: PathBuf,
    image: PathBuf,
    filler: PathBuf,
}

impl Disk {
    /// None where it can not be had, which is said by the name of the test.
    fn mount(place: &Path, name: &str) -> Option<Disk> {
        let place = fs::canonicalize(place).unwrap();
        let disk = Disk { state: place.join("state"), image: place.join("disk"), filler: place.join("state/filler") };
        fs::create_dir(&disk.state).unwrap();
        let made = sh(&format!(
            "command -v xfs_io e2fsck >/dev/null && truncate -s 16M {0} && mkfs.ext4 -q -b 1024 {0}",
            disk.image.display()
        ));
        if let Err(why) = made.and_then(|()| disk.attach()) {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "{name}: no disk can be mounted: {why}");
            // Not by `eprintln!`: what a test prints that passes is not shown.
            let told = writeln!(std::io::stderr(), "test {name} ... skipped: no disk can be mounted: {why}");
            told.unwrap();
            return None;
        }
        Some(disk)
    }

    fn attach(&self) -> Result<(), String> {
        sh(&format!("mount -o loop {} {}", self.image.display(), self.state.display()))
    }

    fn break_by(&self, fault: Fault) {
        let state = self.state.display();
        let broken = match fault {
            Fault::Full => sh(&format!("! dd if=/dev/zero of={} bs=1k 2>/dev/null", self.filler.display())),
            Fault::ReadOnly => sh(&format!("mount -o remount,abort {state}")),
            Fault::Dead => sh(&format!("xfs_io -x -c shutdown {state}")),
        };
        broken.unwrap();
    }

    fn repair(&self, fault: Fault) {
        match fault {
            Fault::Full => fs::remove_file(&self.filler).unwrap(),
            Fault::ReadOnly | Fault::Dead => {
                sh(&format!("umount {}", self.state.display())).unwrap();
                // What was on the disk is on the disk.
                sh(&format!("e2fsck -p {} >/dev/null; test $? -le 1", self.image.display())).unwrap();
                self.attach().unwrap();
            }
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = sh(&format!("umount -l {}", self.state.display()));
    }
}

fn sh(command: &str) -> Result<(), String> {
    let output = Command::new("sh").args(["-c", command]).output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("`{command}`: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
