//! Keepers here are real processes: this test program, run again with [`keeper_process`] as its only test.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode};

use rustix::process::{Pid, Signal, kill_process};

use super::*;
use crate::testing_rbd::until;

/// Through this variable a wrapper hands its arguments to [`keeper_process`].
const ARGS: &str = "UNDERSTUDY_TEST_KEEPER_ARGS";

#[test]
#[ignore = "is the keeper process that other tests run"]
fn keeper_process() {
    let args = std::env::var(ARGS).expect("other tests run this one as a process");

    let code = keeper_main(args.lines().skip(1).map(OsString::from));

    std::process::exit(if code == ExitCode::SUCCESS { 0 } else { i32::from(REFUSED) });
}

/// A program that does what `understudy` does when it is called with [`KEEPER_COMMAND`].
pub(crate) fn program(dir: &Path) -> PathBuf {
    let me = std::env::current_exe().unwrap();
    let test = "promote_keeper::tests::keeper_process";
    let text = format!(
        "#!/bin/sh\nexport {ARGS}=\"$(printf '%s\\n' \"$@\")\"\nexec '{}' --exact {test} --ignored --nocapture\n",
        me.display()
    );
    script(&dir.join("understudy"), &text)
}

/// Writes an executable script.
pub(crate) fn script(path: &Path, text: &str) -> PathBuf {
    // Written by a child: while a file is open for writing here, another test's child may hold it open too, and then it
    // can not be run ("text file busy").
    let mut cat = Command::new("/bin/sh")
        .args(["-c", "cat > \"$0\" && chmod 755 \"$0\""])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut cat.stdin.take().unwrap(), text.as_bytes()).unwrap();
    assert!(cat.wait().unwrap().success());
    assert!(path.metadata().unwrap().permissions().mode() & 0o100 != 0);
    path.to_owned()
}

#[test]
fn a_keeper_writes_down_how_the_promote_ended() {
    let place = Place::new();

    let mut keeper = place.keeper("echo promoted; echo librbd: some trouble >&2; exit 22", later());
    assert!(keeper.wait().unwrap().success());

    let last_words = "librbd: some trouble".into();
    assert_eq!(place.folder.state().unwrap(), State::Ended(Ended { ending: Ending::Exited { code: 22 }, last_words }));
    assert_eq!(std::fs::read_to_string(place.folder.path().join("stdout")).unwrap(), "promoted\n");
}

#[tokio::test]
async fn while_the_promote_runs_the_folder_says_so_and_names_the_process() {
    let place = Place::new();
    let mut keeper = place.keeper(HANG, later());

    let promote = place.running_promote().await;

    assert_eq!(promote.pid, place.pid_of_promote());
    assert!(promote.lives());
    assert!(!Process { start_time: promote.start_time + 1, ..promote.clone() }.lives());
    place.kill(promote.pid);
    keeper.wait().unwrap();
    let State::Ended(ended) = place.folder.state().unwrap() else { panic!("not ended") };
    assert_eq!(ended.ending, Ending::Killed { signal: 9 });
}

#[tokio::test]
async fn a_promote_whose_keeper_was_killed_still_counts_as_running_until_it_ends() {
    let place = Place::new();
    let mut keeper = place.keeper(HANG, later());
    let promote = place.running_promote().await;

    place.kill(keeper.id());
    keeper.wait().unwrap();

    assert_eq!(place.folder.state().unwrap(), State::Running(Some(promote.clone())));
    place.kill(promote.pid);
    until("the promote is gone", || matches!(place.folder.state().unwrap(), State::Died(_))).await;
}

#[tokio::test]
async fn a_keeper_leads_a_session_of_its_own() {
    let place = Place::new();
    let mut keeper = place.keeper(HANG, later());
    let promote = place.running_promote().await;

    let session = |pid: u32| rustix::process::getsid(Pid::from_raw(pid.try_into().unwrap())).unwrap();

    assert_eq!(session(promote.pid).as_raw_nonzero().get(), i32::try_from(keeper.id()).unwrap());
    place.kill(promote.pid);
    keeper.wait().unwrap();
}

#[tokio::test]
async fn a_second_keeper_in_the_same_folder_is_refused_while_the_first_runs_and_after_it() {
    let place = Place::new();
    let mut first = place.keeper(HANG, later());
    let promote = place.running_promote().await;

    let during = place.keeper(HANG, later()).wait().unwrap();
    place.kill(promote.pid);
    first.wait().unwrap();
    let after = place.keeper(HANG, later()).wait().unwrap();

    assert_eq!((during.code(), after.code()), (Some(REFUSED.into()), Some(REFUSED.into())));
    assert_eq!(place.runs(), 1);
}

#[test]
fn a_keeper_that_comes_after_its_leave_to_write_has_run_out_runs_nothing() {
    let place = Place::new();

    assert!(place.keeper(HANG, boot_ms()).wait().unwrap().success());

    let State::Ended(ended) = place.folder.state().unwrap() else { panic!("not ended") };
    assert!(matches!(ended.ending, Ending::NotRun { again: true, .. }), "{ended}");
    assert_eq!(place.runs(), 0);
}

#[test]
fn a_keeper_that_comes_after_its_folder_was_closed_runs_nothing() {
    let place = Place::new();
    assert_eq!(place.folder.state().unwrap(), State::Untouched);

    assert!(place.folder.close().unwrap());
    let late = place.keeper(HANG, later()).wait().unwrap();

    assert_eq!(late.code(), Some(REFUSED.into()));
    assert_eq!(place.folder.state().unwrap(), State::Closed);
    assert_eq!(place.runs(), 0);
}

#[test]
fn a_folder_in_which_a_keeper_has_started_can_not_be_closed() {
    let place = Place::new();
    place.keeper("exit 0", later()).wait().unwrap();

    assert!(!place.folder.close().unwrap());

    assert!(matches!(place.folder.state().unwrap(), State::Ended(_)));
}

#[test]
fn a_program_that_is_not_there_was_not_run() {
    let place = Place::new();
    let orders = Orders { folder: place.folder.clone(), start_before: later(), words: vec!["/nonexistent/rbd".into()] };
    let lock = place.folder.lock().unwrap().unwrap();

    let ended = promote(&orders, &lock).unwrap();

    assert!(matches!(ended.ending, Ending::NotRun { again: false, .. }), "{ended}");
    assert!(ended.to_string().contains("/nonexistent/rbd"), "{ended}");
}

#[test]
fn the_first_word_of_a_judgement_counts() {
    let place = Place::new();

    place.folder.judge(3).unwrap();
    place.folder.judge(4).unwrap();

    assert_eq!(place.folder.judged().unwrap(), Some(3));
}

#[test]
fn a_damaged_file_is_an_error_and_no_state() {
    let place = Place::new();

    std::fs::write(place.folder.path().join("started"), "{").unwrap();

    assert!(place.folder.state().is_err());
}

#[test]
fn wrong_arguments_are_refused() {
    let wrong: [&[&str]; 5] = [
        &["--dir", "d", "--start-before", "1"],
        &["--dir", "d", "--start-before", "1", "--"],
        &["--dir", "d", "--", "rbd"],
        &["--start-before", "1", "--", "rbd"],
        &["--dir", "d", "--start-before", "soon", "--", "rbd"],
    ];
    for args in wrong {
        assert!(matches!(parse(args.iter().map(OsString::from)), Err(KeeperError::Usage(_))), "{args:?}");
    }
}

/// Says who it is, and hangs.
const HANG: &str = "echo $$ > pid.new; mv pid.new pid; exec sleep 600";

fn later() -> u64 {
    boot_ms() + 60_000
}

struct Place {
    dir: tempfile::TempDir,
    folder: Folder,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::at(dir.path().join("runs/r/promote-1"));
        folder.create().unwrap();
        Self { dir, folder }
    }

    /// A keeper that runs `script`, which leaves a line in `runs` first.
    fn keeper(&self, script: &str, start_before: u64) -> Child {
        let program = self.dir.path().join("understudy");
        let program = if program.exists() { program } else { super::tests::program(self.dir.path()) };
        Command::new(program)
            .args([KEEPER_COMMAND, "--dir"])
            .arg(self.folder.path())
            .args(["--start-before", &start_before.to_string(), "--", "/bin/sh", "-c"])
            .arg(format!("cd {}; echo run >> runs.log; {script}", self.dir.path().display()))
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    }

    fn runs(&self) -> usize {
        std::fs::read_to_string(self.dir.path().join("runs.log")).unwrap_or_default().lines().count()
    }

    fn pid_of_promote(&self) -> u32 {
        std::fs::read_to_string(self.dir.path().join("pid")).unwrap().trim().parse().unwrap()
    }

    async fn running_promote(&self) -> Process {
        let files = [self.dir.path().join("pid"), self.folder.path().join("running")];
        until("the promote runs", || files.iter().all(|file| file.exists())).await;
        let State::Running(Some(promote)) = self.folder.state().unwrap() else { panic!("not running") };
        promote
    }

    fn kill(&self, pid: u32) {
        kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), Signal::KILL).unwrap();
    }
}
