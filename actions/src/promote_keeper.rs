//! Runs one promote as a process of its own, which outlives the daemon.
//!
//! A promote may neither be killed nor repeated (S10), but the daemon may die at any moment. So the daemon runs itself
//! again as `understudy promote-keeper --dir FOLDER --start-before BOOT_MS -- PROGRAM ARGS…`. This keeper starts a session
//! of its own, takes the lock of the folder, writes down that it started, runs the program, waits without limit, and
//! writes down how it ended. All that the daemon knows about a promote it reads from the [`Folder`].
//!
//! In: the arguments. Out: the files of the folder, and exit code 0 if they tell how the program ended. Start reading at
//! [`keeper_main`].

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};

use rustix::io::FdFlags;

mod folder;

pub(crate) use folder::boot_ms;
pub use folder::{Ended, Ending, Folder, Process, State};

use crate::process::last_words;

/// The word by which the program is told to be a keeper.
pub const KEEPER_COMMAND: &str = "promote-keeper";

/// The exit code of a keeper that found the folder used: another one was there before it (`EX_TEMPFAIL`).
pub const REFUSED: u8 = 75;

/// The exit code of a keeper that could not understand its arguments (`EX_USAGE`).
const USAGE: u8 = 64;

/// The exit code of a keeper that could not write into the folder (`EX_IOERR`).
const IO: u8 = 74;

/// Why a keeper gave up. The program was not run, unless the folder says that it was.
#[derive(Debug, thiserror::Error)]
enum KeeperError {
    #[error("{0}; usage: {KEEPER_COMMAND} --dir FOLDER --start-before BOOT_MS -- PROGRAM ARGS…")]
    Usage(&'static str),
    #[error("another keeper was in this folder before")]
    Refused,
    #[error("failed to {what}")]
    Io {
        what: &'static str,
        #[source]
        source: std::io::Error,
    },
}

impl KeeperError {
    fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| KeeperError::Io { what, source }
    }

    fn code(&self) -> u8 {
        match self {
            KeeperError::Usage(_) => USAGE,
            KeeperError::Refused => REFUSED,
            KeeperError::Io { .. } => IO,
        }
    }
}

/// What a keeper is told.
struct Orders {
    folder: Folder,
    /// In milliseconds of the clock that counts from boot: afterwards the lease may be another's (S1).
    start_before: u64,
    words: Vec<OsString>,
}

/// The keeper's `main`. `args` are those behind [`KEEPER_COMMAND`].
///
/// Call it before anything else of the daemon is set up: it must hold no lock and no socket of the daemon.
pub fn keeper_main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    match parse(args).and_then(|orders| keep(&orders)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            eprintln!("{KEEPER_COMMAND}: {error}{cause}");
            ExitCode::from(error.code())
        }
    }
}

fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Orders, KeeperError> {
    let mut args = args.into_iter();
    let (mut dir, mut start_before) = (None, None);
    while let Some(arg) = args.next() {
        match arg.to_str() {
            Some("--dir") => dir = args.next().map(PathBuf::from),
            Some("--start-before") => {
                start_before = args.next().and_then(|number| number.to_str().and_then(|text| text.parse().ok()))
            }
            Some("--") => break,
            _ => return Err(KeeperError::Usage("unknown argument")),
        }
    }
    let words: Vec<OsString> = args.collect();
    if words.is_empty() {
        return Err(KeeperError::Usage("no program to run"));
    }
    let folder = Folder::at(dir.ok_or(KeeperError::Usage("no --dir"))?);
    let start_before = start_before.ok_or(KeeperError::Usage("no --start-before"))?;
    Ok(Orders { folder, start_before, words })
}

fn keep(orders: &Orders) -> Result<(), KeeperError> {
    // Neither a terminal that hangs up nor a signal to the daemon's group may reach the promote.
    rustix::process::setsid().map_err(|errno| KeeperError::io("start a session")(errno.into()))?;
    let lock = orders.folder.lock().map_err(KeeperError::io("take the lock"))?.ok_or(KeeperError::Refused)?;
    let me = Process::me().map_err(KeeperError::io("read my own start time"))?;
    if !orders.folder.claim(&me).map_err(KeeperError::io("write that I started"))? {
        return Err(KeeperError::Refused);
    }
    let ended = promote(orders, &lock)?;
    orders.folder.write_ended(&ended).map_err(KeeperError::io("write how it ended"))
}

fn promote(orders: &Orders, lock: &File) -> Result<Ended, KeeperError> {
    let not_run = |why: String, again| Ended { ending: Ending::NotRun { why, again }, last_words: String::new() };
    let (stdout, stderr) = orders.folder.outputs().map_err(KeeperError::io("create the output files"))?;
    // The program keeps the lock when the keeper is killed: while one of them lives, nobody takes the promote for dead.
    rustix::io::fcntl_setfd(lock.as_fd(), FdFlags::empty())
        .map_err(|errno| KeeperError::io("hand down the lock")(errno.into()))?;
    // As late as can be: behind this point nothing stands between the leave to write and the write.
    if boot_ms() >= orders.start_before {
        return Ok(not_run("the leave to write had run out before the promote could start".into(), true));
    }
    let spawned = Command::new(&orders.words[0])
        .args(&orders.words[1..])
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        .spawn();
    match spawned {
        Ok(child) => Ok(wait(&orders.folder, child)),
        Err(error) => Ok(not_run(format!("failed to start {}: {error}", orders.words[0].display()), false)),
    }
}

fn wait(folder: &Folder, mut child: Child) -> Ended {
    // Only for a human who looks for the process: the lock says whether it lives.
    let _ = Process::of(child.id()).and_then(|process| folder.write_running(&process));
    let ending = match child.wait() {
        Ok(status) => match status.code() {
            Some(code) => Ending::Exited { code },
            None => Ending::Killed { signal: status.signal().unwrap_or_default() },
        },
        Err(error) => Ending::Lost { why: error.to_string() },
    };
    Ended { ending, last_words: last_words(&folder.stderr_tail()) }
}

#[cfg(test)]
pub(crate) mod tests;
