//! One daemon for each state directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use super::{FILE_MODE, JournalError};

const NAME: &str = "lock";
/// A child of a killed daemon holds its parent's lock until it has become another program: a matter of milliseconds.
const ORPHANED_FOR: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// More than any holder's line.
const MAX_BYTES: u64 = 4096;

/// The lock, held as long as this lives; the kernel lets it go when the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Who holds a lock, for the message of the one who does not get it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Holder {
    pid: i32,
    host: String,
    since: String,
}

impl Lock {
    /// Takes the lock of `directory`, or names its holder.
    pub fn take(directory: &Path) -> Result<Self, JournalError> {
        let path = directory.join(NAME);
        let open =
            || OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(FILE_MODE).open(&path);
        let mut file = open().map_err(|source| JournalError::io("open lock", &path, source))?;
        let mut waited = Duration::ZERO;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(source)) => return Err(JournalError::io("lock", &path, source)),
                Err(TryLockError::WouldBlock) => {
                    let holder = read_holder(&mut file);
                    if waited >= ORPHANED_FOR || !holder.as_ref().is_some_and(Holder::is_gone) {
                        return Err(JournalError::Locked { directory: directory.to_owned(), holder: describe(holder) });
                    }
                }
            }
            std::thread::sleep(LOOK_AGAIN);
            waited += LOOK_AGAIN;
        }
        write_holder(&mut file).map_err(|source| JournalError::io("write lock", &path, source))?;
        Ok(Self { _file: file })
    }
}

impl Holder {
    fn us() -> Self {
        Self {
            pid: rustix::process::getpid().as_raw_pid(),
            host: this_host(),
            since: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        }
    }

    fn is_gone(&self) -> bool {
        let here = self.host == this_host();
        here && Pid::from_raw(self.pid).is_some_and(|pid| rustix::process::test_kill_process(pid).is_err())
    }
}

fn this_host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn describe(holder: Option<Holder>) -> String {
    match holder {
        Some(Holder { pid, host, since }) => format!("process {pid} on {host} since {since}"),
        None => "another process that has not yet written its name".into(),
    }
}

fn read_holder(file: &mut File) -> Option<Holder> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(MAX_BYTES).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

fn write_holder(file: &mut File) -> std::io::Result<()> {
    let line = serde_json::to_string(&Holder::us()).map_err(std::io::Error::other)?;
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(line.as_bytes())
}
