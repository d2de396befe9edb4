//! Runs a program with a limit on its time and on what it says, and leaves nothing of it behind.
//!
//! In: words. Out: how it ended and what it said ([`Ran`]), or why there is nothing ([`NotRun`]). The program leads a process
//! group of its own; when time is up, when it says too much, or when the caller is dropped, the whole group is killed. It has
//! ended when both its pipes are closed: a child that it leaves behind with its pipes open is waited for, and killed with it.

use std::io::{self, ErrorKind};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::time;

/// A program that ended by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ran {
    pub(crate) exit: Exit,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// With this code.
    Code(i32),
    /// By a signal that was not ours.
    Signal(i32),
}

/// Why there is nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotRun {
    /// There is no such program.
    #[error("there is no program {0:?} here")]
    Missing(String),
    /// It could not be started or listened to.
    #[error("{0}")]
    Fault(io::Error),
    /// It did not end in time.
    #[error("it did not end within {0:?} and was killed")]
    Silent(Duration),
    /// It said too much.
    #[error("it said more than {0} bytes and was killed")]
    TooMuch(usize),
}

/// Runs `words` (program and arguments, no shell) for at most `within`; each of its pipes may carry `most_bytes`.
pub(crate) async fn run(words: &[String], within: Duration, most_bytes: usize) -> Result<Ran, NotRun> {
    let mut child = spawn(words)?;
    let group = Group::led_by(&child);
    let ran = time::timeout(within, listen(&mut child, most_bytes)).await.map_err(|_| NotRun::Silent(within))??;
    group.has_ended();
    Ok(ran)
}

fn spawn(words: &[String]) -> Result<Child, NotRun> {
    let Some((program, arguments)) = words.split_first() else { return Err(NotRun::Missing(String::new())) };
    Command::new(program)
        .args(arguments)
        // What is searched for in complaints is in English.
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::PermissionDenied => NotRun::Missing(program.clone()),
            _ => NotRun::Fault(error),
        })
}

/// The leader is waited for after its pipes have ended, so that its number is not another's while the group may be killed.
async fn listen(child: &mut Child, most_bytes: usize) -> Result<Ran, NotRun> {
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(NotRun::Fault(io::Error::other("its pipes are gone")));
    };
    let (stdout, stderr) = tokio::try_join!(read(stdout, most_bytes), read(stderr, most_bytes))?;
    let status = child.wait().await.map_err(NotRun::Fault)?;
    Ok(Ran { exit: exit(status), stdout, stderr: String::from_utf8_lossy(&stderr).into_owned() })
}

async fn read(mut pipe: impl AsyncRead + Unpin, most_bytes: usize) -> Result<Vec<u8>, NotRun> {
    let mut said = Vec::new();
    while pipe.read_buf(&mut said).await.map_err(NotRun::Fault)? > 0 {
        if said.len() > most_bytes {
            return Err(NotRun::TooMuch(most_bytes));
        }
    }
    Ok(said)
}

fn exit(status: ExitStatus) -> Exit {
    match status.code() {
        Some(code) => Exit::Code(code),
        None => Exit::Signal(status.signal().unwrap_or_default()),
    }
}

/// Kills the process group of a child when it is dropped.
struct Group(Option<Pid>);

impl Group {
    fn led_by(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw))
    }

    /// It was waited for: its number may soon be another's.
    fn has_ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // Gone already is as good as killed.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::PATIENCE;

    const MOST: usize = 1024;

    #[tokio::test]
    async fn exit_code_and_both_pipes_come_back() {
        let ran = run(&shell("echo out; echo complaint >&2; exit 16"), PATIENCE, MOST).await.unwrap();

        assert_eq!(ran, Ran { exit: Exit::Code(16), stdout: b"out\n".into(), stderr: "complaint\n".into() });
        assert_eq!(run(&shell("kill -TERM $$"), PATIENCE, MOST).await.unwrap().exit, Exit::Signal(15));
    }

    #[tokio::test]
    async fn a_program_that_runs_too_long_is_killed_with_all_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let pids = dir.path().join("pids");
        let script = format!("sleep 600 & echo $! $$ > {0}.new; mv {0}.new {0}; wait", pids.display());

        let silent = run(&shell(&script), Duration::from_millis(300), MOST).await.unwrap_err();

        assert!(matches!(silent, NotRun::Silent(_)), "{silent}");
        for pid in std::fs::read_to_string(&pids).unwrap().split_whitespace() {
            ends(pid).await;
        }
    }

    #[tokio::test]
    async fn a_child_that_is_left_behind_with_the_pipes_is_killed_too() {
        let silent = run(&shell("sleep 600 & echo done"), Duration::from_millis(300), MOST).await.unwrap_err();

        assert!(matches!(silent, NotRun::Silent(_)), "{silent}");
    }

    #[tokio::test]
    async fn a_program_that_never_stops_talking_is_killed() {
        for script in ["cat /dev/zero", "cat /dev/zero >&2"] {
            let too_much = run(&shell(script), PATIENCE, MOST).await.unwrap_err();

            assert!(matches!(too_much, NotRun::TooMuch(MOST)), "{script}: {too_much}");
        }
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_missing() {
        let no_right = tempfile::NamedTempFile::new().unwrap();

        for program in ["/nonexistent/rbd".to_owned(), no_right.path().display().to_string()] {
            let missing = run(&[program], PATIENCE, MOST).await.unwrap_err();

            assert!(matches!(missing, NotRun::Missing(_)), "{missing}");
        }
        assert!(matches!(run(&[], PATIENCE, MOST).await, Err(NotRun::Missing(_))));
    }

    fn shell(script: &str) -> Vec<String> {
        ["/bin/sh", "-c", script].map(String::from).to_vec()
    }

    /// Awaits that a process is gone or a zombie: nobody may be there to reap the children of a killed one.
    async fn ends(pid: &str) {
        let lives = || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
        };
        let gone = async {
            while lives() {
                tokio::task::yield_now().await;
            }
        };
        time::timeout(PATIENCE, gone).await.unwrap_or_else(|_| panic!("{pid} still lives"));
    }
}
