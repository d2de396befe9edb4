//! Runs a program with a limit on its time and on its answer, and leaves nothing of it behind.
//!
//! In: a [`Call`]. Out: an [`Answer`] with exit code, standard output and the last words of standard error, or why there
//! is none ([`CallError`]). The program leads a process group of its own; when time is up, when it says too much, or when
//! the caller is dropped, the whole group is killed. The one program that must never be killed, the promote, is not run
//! here but by [`promote_keeper`](crate::promote_keeper). Start reading at [`run`].

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::time;

/// No program that we run has more to say than this; one that has is not what we think it is.
pub const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// How much of the end of standard error is kept.
const TAIL_BYTES: usize = 2048;

/// How many of its last lines get into a message.
const TAIL_LINES: usize = 3;

/// A program that has ended may have left a child behind that holds its pipes. So long it may still speak.
const LINGER: Duration = Duration::from_millis(500);

/// A program to run.
#[derive(Debug, Clone)]
pub struct Call {
    /// What it is called in messages.
    pub name: String,
    /// Program and arguments; no shell.
    pub words: Vec<String>,
    /// Variables beside our own.
    pub env: Vec<(String, String)>,
    /// It is killed when it runs longer.
    pub within: Duration,
}

/// What a program had to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// How it ended.
    pub exit: Exit,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// The last lines of its standard error, on one line.
    pub last_words: String,
}

/// How a program ended. The classes are those of `rbd`, whose exit code is an `errno`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0.
    Fine,
    /// 2, `ENOENT`: no such pool, image or schedule.
    Absent,
    /// 13, `EACCES`: wrong key, missing keyring or missing rights.
    Denied,
    /// 16, `EBUSY`: in use, or primary at the other site.
    Busy,
    /// 17, `EEXIST`: there already.
    Exists,
    /// 22, `EINVAL`: mirroring is off, or this version does not know the command.
    Invalid,
    /// 30, `EROFS`: too early after a demote.
    ReadOnly,
    /// 110, `ETIMEDOUT`: the cluster does not answer.
    Unreachable,
    /// Any other code.
    Other(i32),
    /// Ended by a signal.
    Killed(i32),
}

impl Exit {
    fn of(status: ExitStatus) -> Self {
        match status.code() {
            Some(0) => Exit::Fine,
            Some(2) => Exit::Absent,
            Some(13) => Exit::Denied,
            Some(16) => Exit::Busy,
            Some(17) => Exit::Exists,
            Some(22) => Exit::Invalid,
            Some(30) => Exit::ReadOnly,
            Some(110) => Exit::Unreachable,
            Some(code) => Exit::Other(code),
            None => Exit::Killed(status.signal().unwrap_or_default()),
        }
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Exit::Fine => f.write_str("exit 0"),
            Exit::Absent => f.write_str("exit 2"),
            Exit::Denied => f.write_str("exit 13"),
            Exit::Busy => f.write_str("exit 16"),
            Exit::Exists => f.write_str("exit 17"),
            Exit::Invalid => f.write_str("exit 22"),
            Exit::ReadOnly => f.write_str("exit 30"),
            Exit::Unreachable => f.write_str("exit 110"),
            Exit::Other(code) => write!(f, "exit {code}"),
            Exit::Killed(signal) => write!(f, "ended by signal {signal}"),
        }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// There is no such program: install it, or correct the setting. Nothing was run.
    #[error(
        "failed to run {name}: there is no program {program:?} here; install it or correct its path in the settings"
    )]
    Missing {
        /// What it is called in messages.
        name: String,
        /// What was looked for.
        program: String,
    },
    /// It could not be started. Nothing was run.
    #[error("failed to start {name}")]
    NotStarted {
        /// What it is called in messages.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// It did not end in time and was killed. What it did until then is not known.
    #[error("{name} did not end within {within:?} and was killed")]
    Silent {
        /// What it is called in messages.
        name: String,
        /// Its limit.
        within: Duration,
    },
    /// It said too much and was killed. What it did until then is not known.
    #[error("{name} said more than {MAX_ANSWER_BYTES} bytes and was killed")]
    TooMuch {
        /// What it is called in messages.
        name: String,
    },
    /// Its answer could not be read. What it did is not known.
    #[error("failed to read the answer of {name}")]
    Lost {
        /// What it is called in messages.
        name: String,
        /// Why.
        source: io::Error,
    },
}

impl CallError {
    /// Whether it is certain that the program did nothing.
    #[must_use]
    pub fn nothing_was_run(&self) -> bool {
        matches!(self, CallError::Missing { .. } | CallError::NotStarted { .. })
    }
}

/// Runs `call` to its end.
///
/// # Errors
/// [`CallError`] if it could not be run, did not end in time or said too much. A code other than 0 is an answer, not an error.
pub async fn run(call: Call) -> Result<Answer, CallError> {
    let mut child = spawn(&call)?;
    let group = Group::led_by(&child);
    match time::timeout(call.within, listen(&call.name, &mut child)).await {
        Ok(Ok(answer)) => {
            group.let_live();
            Ok(answer)
        }
        Ok(Err(error)) => Err(error),
        Err(_elapsed) => Err(CallError::Silent { name: call.name, within: call.within }),
    }
}

fn spawn(call: &Call) -> Result<Child, CallError> {
    let program = call.words.first().cloned().unwrap_or_default();
    let missing = || CallError::Missing { name: call.name.clone(), program: program.clone() };
    if program.is_empty() {
        return Err(missing());
    }
    Command::new(&program)
        .args(&call.words[1..])
        .envs(call.env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => missing(),
            _ => CallError::NotStarted { name: call.name.clone(), source },
        })
}

async fn listen(name: &str, child: &mut Child) -> Result<Answer, CallError> {
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        let source = io::Error::other("its pipes are gone");
        return Err(CallError::Lost { name: name.to_owned(), source });
    };
    let (mut said, mut complained) = (Vec::new(), Vec::new());
    let read_all = async {
        tokio::try_join!(read_whole(name, stdout, &mut said), read_tail(name, stderr, &mut complained)).map(|_| ())
    };
    let mut read_all = Box::pin(read_all);
    let status = tokio::select! {
        read = &mut read_all => {
            read?;
            child.wait().await
        }
        status = child.wait() => {
            // Elapsed: somebody else holds the pipes. The program itself has said all it had to say.
            if let Ok(read) = time::timeout(LINGER, &mut read_all).await {
                read?;
            }
            status
        }
    };
    drop(read_all);
    let status = status.map_err(|source| CallError::Lost { name: name.to_owned(), source })?;
    Ok(Answer { exit: Exit::of(status), stdout: said, last_words: last_words(&complained) })
}

async fn read_whole(name: &str, mut from: impl AsyncRead + Unpin, into: &mut Vec<u8>) -> Result<(), CallError> {
    let lost = |source| CallError::Lost { name: name.to_owned(), source };
    while from.read_buf(into).await.map_err(lost)? > 0 {
        if into.len() > MAX_ANSWER_BYTES {
            return Err(CallError::TooMuch { name: name.to_owned() });
        }
    }
    Ok(())
}

async fn read_tail(name: &str, mut from: impl AsyncRead + Unpin, into: &mut Vec<u8>) -> Result<(), CallError> {
    let lost = |source| CallError::Lost { name: name.to_owned(), source };
    let mut in_all = 0;
    loop {
        let read = from.read_buf(into).await.map_err(lost)?;
        in_all += read;
        if read == 0 {
            return Ok(());
        }
        if in_all > MAX_ANSWER_BYTES {
            return Err(CallError::TooMuch { name: name.to_owned() });
        }
        if into.len() > 2 * TAIL_BYTES {
            into.drain(..into.len() - TAIL_BYTES);
        }
    }
}

/// The last lines of `stderr` on one line, without anything that would move a cursor.
pub(crate) fn last_words(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(&stderr[stderr.len().saturating_sub(TAIL_BYTES)..]);
    let lines: Vec<&str> = text.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines[lines.len().saturating_sub(TAIL_LINES)..].join("; ");
    last.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Kills the process group of a child when it is dropped, so that a time-out and a dropped caller leave nothing behind.
struct Group(Option<Pid>);

impl Group {
    fn led_by(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw))
    }

    /// The leader has ended by itself. Whom it left behind on purpose, such as a daemon that it started, may live; and its
    /// number may soon be another's.
    fn let_live(mut self) {
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
    use crate::support::until;

    const LIMIT: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn an_answer_has_the_exit_code_the_output_and_the_last_lines_of_the_complaints() {
        let script = "echo out; for n in 1 2 3 4 5; do echo line $n >&2; done; exit 16";

        let answer = run(shell(script, LIMIT)).await.unwrap();

        assert_eq!(answer.exit, Exit::Busy);
        assert_eq!(answer.stdout, b"out\n");
        assert_eq!(answer.last_words, "line 3; line 4; line 5");
    }

    #[tokio::test]
    async fn each_exit_code_of_rbd_has_its_class() {
        let classes = [
            (0, Exit::Fine),
            (1, Exit::Other(1)),
            (2, Exit::Absent),
            (13, Exit::Denied),
            (16, Exit::Busy),
            (17, Exit::Exists),
            (22, Exit::Invalid),
            (30, Exit::ReadOnly),
            (110, Exit::Unreachable),
        ];
        for (code, class) in classes {
            let answer = run(shell(&format!("exit {code}"), LIMIT)).await.unwrap();

            assert_eq!(answer.exit, class);
        }
        assert_eq!(run(shell("kill -TERM $$", LIMIT)).await.unwrap().exit, Exit::Killed(15));
    }

    #[tokio::test]
    async fn a_program_that_runs_too_long_is_killed_with_all_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let pids = dir.path().join("pids");
        let script = format!("sleep 600 & echo $! $$ > {0}.new; mv {0}.new {0}; wait", pids.display());

        let error = run(shell(&script, Duration::from_millis(300))).await.unwrap_err();

        assert!(matches!(error, CallError::Silent { .. }), "{error}");
        assert_ends(&pids).await;
    }

    #[tokio::test]
    async fn a_dropped_caller_leaves_no_program_behind() {
        let dir = tempfile::tempdir().unwrap();
        let pids = dir.path().join("pids");
        let script = format!("sleep 600 & echo $! $$ > {0}.new; mv {0}.new {0}; wait", pids.display());

        let caller = tokio::spawn(run(shell(&script, LIMIT)));
        until("the script is under way", LIMIT, async || pids.exists().then_some(())).await;
        caller.abort();

        assert!(caller.await.unwrap_err().is_cancelled());
        assert_ends(&pids).await;
    }

    #[tokio::test]
    async fn a_program_that_never_stops_talking_is_killed() {
        let out = run(shell("cat /dev/zero", LIMIT)).await.unwrap_err();
        let err = run(shell("cat /dev/zero >&2", LIMIT)).await.unwrap_err();

        assert!(matches!(out, CallError::TooMuch { .. }), "{out}");
        assert!(matches!(err, CallError::TooMuch { .. }), "{err}");
    }

    #[tokio::test]
    async fn a_daemon_that_the_program_starts_lives_on_and_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let pids = dir.path().join("pids");
        let script = format!("sleep 600 & echo $! > {}; echo started", pids.display());

        let answer = run(shell(&script, LIMIT)).await.unwrap();

        assert_eq!((answer.exit, answer.stdout.as_slice()), (Exit::Fine, &b"started\n"[..]));
        let daemon: i32 = std::fs::read_to_string(&pids).unwrap().trim().parse().unwrap();
        assert!(lives(daemon));
        rustix::process::kill_process(Pid::from_raw(daemon).unwrap(), Signal::KILL).unwrap();
    }

    #[tokio::test]
    async fn a_missing_program_is_named_with_the_remedy() {
        let words = vec!["/nonexistent/rbd".to_owned(), "info".to_owned()];
        let call = Call { name: "rbd info".into(), words, env: vec![], within: LIMIT };

        let error = run(call).await.unwrap_err();

        assert!(error.nothing_was_run());
        assert_eq!(
            error.to_string(),
            "failed to run rbd info: there is no program \"/nonexistent/rbd\" here; install it or correct its path in the settings"
        );
    }

    #[tokio::test]
    async fn last_words_move_no_cursor_and_have_an_end() {
        let mut long = vec![b'x'; 10_000];
        long.extend_from_slice(b"\nCreating snap: 10%\r\x1b[2Jdone\n");

        let words = last_words(&long);

        assert!(words.ends_with("; Creating snap: 10%;  [2Jdone"), "{words}");
        assert!(words.len() < TAIL_BYTES + 10, "{}", words.len());
    }

    fn shell(script: &str, within: Duration) -> Call {
        let words = ["/bin/sh", "-c", script].map(String::from).to_vec();
        Call { name: "the script".into(), words, env: vec![], within }
    }

    async fn assert_ends(pids: &std::path::Path) {
        let text = std::fs::read_to_string(pids).unwrap();
        for pid in text.split_whitespace().map(|pid| pid.parse().unwrap()) {
            until("a killed process ends", LIMIT, async || (!lives(pid)).then_some(())).await;
        }
    }

    /// Whether a process is there and no zombie: nobody may be there to reap the children of a killed one.
    fn lives(pid: i32) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
    }
}
