//! The folder of one try of one promote: what keeper and daemon tell each other, in files that survive both.
//!
//! | file | written by | says |
//! |---|---|---|
//! | `lock` | | an exclusive `flock` on it is held while the keeper *or the promote itself* lives |
//! | `started` | the keeper, once, synced | its process; in a folder that was closed: that nobody may start here any more |
//! | `running` | the keeper | the process of the promote |
//! | `stdout`, `stderr` | the promote | what it had to say |
//! | `ended` | the keeper, synced | how the promote ended |
//! | `judged` | the daemon, synced | in which try of the step a human was told that this promote failed |

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::time::{ClockId, clock_gettime};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A daemon that looks whether the lock is held holds it for a moment itself, so the keeper tries so often ...
const LOCK_TRIES: u32 = 200;

/// ... with this much time in between.
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// No file of a folder that we read whole is longer.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// A process that can be told from a later one with the same number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// When it started, in the kernel's ticks since boot.
    pub start_time: u64,
    /// Which boot.
    pub boot_id: String,
}

impl Process {
    /// This process.
    pub(super) fn me() -> io::Result<Self> {
        Self::of(std::process::id())
    }

    /// The living process `pid`.
    pub(super) fn of(pid: u32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let (_, start_time) =
            state_and_start(&stat).ok_or_else(|| io::Error::other("no start time in /proc/PID/stat"))?;
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
        Ok(Self { pid, start_time, boot_id })
    }

    /// Whether it still lives; a zombie does not.
    #[must_use]
    pub fn lives(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        let same = |(state, start)| !matches!(state, 'Z' | 'X') && start == self.start_time;
        state_and_start(&stat).is_some_and(same) && Self::of(self.pid).is_ok_and(|now| now.boot_id == self.boot_id)
    }
}

/// Fields 3 and 22 of `/proc/PID/stat`, behind the name in brackets, which may hold anything.
fn state_and_start(stat: &str) -> Option<(char, u64)> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

/// How a promote ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// In which way.
    pub ending: Ending,
    /// The last lines of its standard error.
    pub last_words: String,
}

/// In which way a promote ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "ending")]
pub enum Ending {
    /// By itself.
    Exited {
        /// With this code.
        code: i32,
    },
    /// By a signal.
    Killed {
        /// By this one.
        signal: i32,
    },
    /// It was never run: nothing happened.
    NotRun {
        /// Why.
        why: String,
        /// Whether trying again may help.
        again: bool,
    },
    /// The keeper could not wait for it.
    Lost {
        /// Why.
        why: String,
    },
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.ending {
            Ending::Exited { code } => write!(f, "ended with exit {code}")?,
            Ending::Killed { signal } => write!(f, "was ended by signal {signal}")?,
            Ending::NotRun { why, .. } => write!(f, "was not run: {why}")?,
            Ending::Lost { why } => write!(f, "was lost: {why}")?,
        }
        if self.last_words.is_empty() { Ok(()) } else { write!(f, " ({})", self.last_words) }
    }
}

/// Where a try of a promote stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Nobody has started here. A keeper that was sent may still come.
    Untouched,
    /// Keeper or promote live.
    Running(Option<Process>),
    /// The keeper has written down how it ended.
    Ended(Ended),
    /// The keeper started and died before it could write anything down, and nobody lives. What became of the promote only
    /// the world can tell.
    Died(Process),
    /// Closed before anybody had started: nothing happened, and nothing will.
    Closed,
}

/// What `started` holds.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Started {
    By(Process),
    Closed,
}

/// The folder of one try of one promote.
#[derive(Debug, Clone)]
pub struct Folder(PathBuf);

impl Folder {
    /// The folder at `path`, there or not.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// Makes the folder, so that it is there after a crash.
    ///
    /// # Errors
    /// If it can not be made.
    pub fn create(&self) -> io::Result<()> {
        fs::create_dir_all(&self.0)?;
        // Those that hold an entry which may be new; the folder itself is synced with the first file in it.
        for holder in self.0.ancestors().skip(1).take(3) {
            File::open(holder)?.sync_all()?;
        }
        Ok(())
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Where the try stands.
    ///
    /// # Errors
    /// If a file is there and can not be read or understood.
    pub fn state(&self) -> io::Result<State> {
        // In this order: who has started has taken the lock before, and who has let it go has ended before.
        let started = self.read::<Started>("started")?;
        if self.is_locked()? {
            return Ok(State::Running(self.read("running")?.or(match started {
                Some(Started::By(keeper)) => Some(keeper),
                Some(Started::Closed) | None => None,
            })));
        }
        if let Some(ended) = self.read("ended")? {
            return Ok(State::Ended(ended));
        }
        Ok(match started {
            None => State::Untouched,
            Some(Started::Closed) => State::Closed,
            // Where a file system keeps no locks, the processes themselves must do.
            Some(Started::By(keeper)) if keeper.lives() => State::Running(Some(keeper)),
            Some(Started::By(keeper)) => match self.read::<Process>("running")? {
                Some(promote) if promote.lives() => State::Running(Some(promote)),
                _ => State::Died(keeper),
            },
        })
    }

    /// Sees to it that no keeper starts here any more. `false`: one has started.
    ///
    /// # Errors
    /// If the file can not be written.
    pub fn close(&self) -> io::Result<bool> {
        self.write_once("started", &Started::Closed)
    }

    /// In which try of the step a human was told that the promote of this folder failed.
    ///
    /// # Errors
    /// If the file is there and can not be read or understood.
    pub fn judged(&self) -> io::Result<Option<u32>> {
        self.read("judged")
    }

    /// Writes down that a human is told, in the try `attempt` of the step, that the promote of this folder failed. The
    /// first time counts.
    ///
    /// # Errors
    /// If the file can not be written.
    pub fn judge(&self, attempt: u32) -> io::Result<()> {
        self.write_once("judged", &attempt).map(|_| ())
    }

    /// The lock, or nothing if somebody else keeps holding it.
    pub(super) fn lock(&self) -> io::Result<Option<File>> {
        let file = self.lock_file()?;
        for _ in 0..LOCK_TRIES {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Some(file)),
                Err(rustix::io::Errno::WOULDBLOCK) => thread::sleep(LOCK_PAUSE),
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(None)
    }

    /// Writes down who started. `false`: another was first.
    pub(super) fn claim(&self, me: &Process) -> io::Result<bool> {
        self.write_once("started", &Started::By(me.clone()))
    }

    /// Not synced: where it could be lost, the process is lost too.
    pub(super) fn write_running(&self, promote: &Process) -> io::Result<()> {
        self.put("running", promote, |_| Ok(())).map(|_| ())
    }

    pub(super) fn write_ended(&self, ended: &Ended) -> io::Result<()> {
        self.write_once("ended", ended).map(|_| ())
    }

    pub(super) fn outputs(&self) -> io::Result<(File, File)> {
        Ok((File::create(self.0.join("stdout"))?, File::create(self.0.join("stderr"))?))
    }

    /// The end of what the promote complained about; best effort, for a message.
    pub(super) fn stderr_tail(&self) -> Vec<u8> {
        let read = || -> io::Result<Vec<u8>> {
            let mut file = File::open(self.0.join("stderr"))?;
            let start = file.metadata()?.len().saturating_sub(4096);
            file.seek(SeekFrom::Start(start))?;
            let mut tail = Vec::new();
            file.take(4096).read_to_end(&mut tail)?;
            Ok(tail)
        };
        read().unwrap_or_default()
    }

    /// Whether somebody holds the lock. A shared lock is enough to find out, and two who look do not see each other.
    fn is_locked(&self) -> io::Result<bool> {
        let file = match self.lock_file() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            file => file?,
        };
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => {
                // Said aloud: a process that is forked this very moment has the file open as well.
                flock(&file, FlockOperation::Unlock)?;
                Ok(false)
            }
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
            Err(errno) => Err(errno.into()),
        }
    }

    fn lock_file(&self) -> io::Result<File> {
        OpenOptions::new().create(true).truncate(false).write(true).open(self.0.join("lock"))
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> io::Result<Option<T>> {
        let file = match File::open(self.0.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut text = String::new();
        file.take(MAX_FILE_BYTES).read_to_string(&mut text)?;
        serde_json::from_str(&text).map(Some).map_err(io::Error::from)
    }

    /// Writes the whole file or none of it, on disk when it returns. `false`: it was there already.
    fn write_once(&self, name: &str, what: &impl Serialize) -> io::Result<bool> {
        self.put(name, what, File::sync_all)
    }

    fn put(&self, name: &str, what: &impl Serialize, keep: fn(&File) -> io::Result<()>) -> io::Result<bool> {
        let draft = self.0.join(format!("{name}.{}", std::process::id()));
        let mut file = File::create(&draft)?;
        file.write_all(&serde_json::to_vec(what)?)?;
        keep(&file)?;
        let linked = fs::hard_link(&draft, self.0.join(name));
        fs::remove_file(&draft)?;
        match linked {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            linked => linked?,
        }
        keep(&File::open(&self.0)?)?;
        Ok(true)
    }
}

/// Milliseconds since boot, suspend included: the same for the daemon and for the keeper that it starts.
pub(crate) fn boot_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000
}
