//! Runs a promote at most once, and knows what became of it after any crash.
//!
//! For each thing to promote, its [`Subject`], in this order:
//!
//! 1. It is primary, cleanly: done. A human may have done it, or an earlier try.
//! 2. An earlier try still runs: it is waited for, without limit.
//! 3. An earlier try has run and the subject is not primary: a human is told. Only a retry that is ordered after that goes on.
//! 4. Its promote is started as a process of its own ([`promote_keeper`](crate::promote_keeper)) and waited for. What
//!    counts is what the world says afterwards, not the exit code.
//!
//! Each try that is started has a [`Folder`] of its own, `runs/RUN/promote-SUBJECT-NUMBER` in the state directory. Where
//! keeper and promote both died and left no word, nobody can tell whether the promote did anything at all, so that a
//! subject that is not primary then is a human's, too: he looks, and his retry starts a new try.
//!
//! Start reading at [`Promote::settle`] and [`Promote::start`].

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::{self, Instant};

use crate::promote_keeper::{Ended, Ending, Folder, KEEPER_COMMAND, State, boot_ms};
use crate::{Context, StepError};

/// Between two looks at the folder of a promote that runs: first the shortest, then twice as long each time. The end of our own
/// keeper is noticed at once.
const PAUSES: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(50)];

/// What is promoted.
pub(crate) trait Subject: Send + Sync {
    /// What it is called.
    fn name(&self) -> &str;

    /// Program and arguments that promote it.
    fn words(&self) -> Vec<String>;

    /// Variables for the program.
    fn env(&self) -> Vec<(String, String)>;

    /// Whether it is primary by now. An error where it is neither that nor cleanly secondary.
    fn is_primary(&self) -> impl Future<Output = Result<bool, StepError>> + Send;

    /// Whether its promote, which has ended, made it primary.
    fn becomes_primary(&self) -> impl Future<Output = Result<bool, StepError>> + Send {
        self.is_primary()
    }
}

/// The promote of one subject.
pub(crate) struct Promote<'a, S> {
    pub ctx: &'a Context,
    pub subject: S,
}

/// No promote is started once what it rests on is too old: the agent may have been down for an hour since it was ordered
/// (S2).
///
/// # Errors
/// [`StepError::NotBegun`]: no try has begun, and the recheck comes first. [`StepError::Permanent`]: one has, so that
/// nothing is rechecked by itself any more.
pub(crate) fn in_time<S: Subject>(ctx: &Context, promotes: &[Promote<'_, S>]) -> Result<(), StepError> {
    if ctx.order.start_before_ms.is_none_or(|limit| boot_ms() < limit) {
        return Ok(());
    }
    for promote in promotes {
        if promote.was_begun()? {
            return Err(begun_too_long_ago());
        }
    }
    Err(too_old())
}

pub(crate) fn begun_too_long_ago() -> StepError {
    StepError::permanent(
        "nothing more was promoted: the agent was away since this try was ordered; a retry looks at A first",
    )
}

pub(crate) fn too_old() -> StepError {
    StepError::NotBegun("its recheck is too old by now".into())
}

/// A promote whose keeper was sent.
pub(crate) struct Started<'a, S> {
    promote: &'a Promote<'a, S>,
    folder: Folder,
    keeper: Child,
}

impl<S: Subject> Started<'_, S> {
    /// Waits for its end, without limit.
    pub(crate) async fn finish(self) -> Result<String, StepError> {
        self.promote.attend(&self.folder, Some(self.keeper)).await
    }
}

impl<'a, S: Subject> Promote<'a, S> {
    /// Waits for earlier tries and judges them. `Some`: the subject is primary. `None`: a promote may be started,
    /// if nothing else stands against it.
    pub(crate) async fn settle(&self) -> Result<Option<String>, StepError> {
        for folder in self.folders()? {
            if let Some(done) = self.settle_one(&folder).await? {
                return Ok(Some(done));
            }
        }
        if self.subject.is_primary().await? {
            return Ok(Some(format!("{} is primary", self.name())));
        }
        self.is_alone()?;
        Ok(None)
    }

    /// No promote of this subject that another run has begun may still live: a run that was abandoned leaves its promote
    /// behind, and two at once are what nobody has ever tried (S10).
    fn is_alone(&self) -> Result<(), StepError> {
        let runs = self.ctx.state.join("runs");
        let entries = match fs::read_dir(&runs) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(|source| self.unreadable(&runs, source))?,
        };
        for entry in entries {
            let run = entry.map_err(|source| self.unreadable(&runs, source))?.path();
            for folder in self.folders_of(&run)? {
                let State::Running(process) = self.state(&folder)? else { continue };
                let pid = process.map_or_else(String::new, |process| format!(", process {}", process.pid));
                let at = folder.path().display();
                return Err(StepError::permanent(format!(
                    "nothing was promoted: a promote of {} still runs{pid}, see {at}; it is neither killed nor joined by another",
                    self.name()
                )));
            }
        }
        Ok(())
    }

    /// Whether any try has begun a promote of this subject. Only then is the run beyond return.
    fn was_begun(&self) -> Result<bool, StepError> {
        for folder in self.folders()? {
            match self.state(&folder)? {
                State::Untouched | State::Closed | State::Ended(Ended { ending: Ending::NotRun { .. }, .. }) => {}
                State::Running(_) | State::Ended(_) | State::Died(_) => return Ok(true),
            }
        }
        Ok(false)
    }

    async fn settle_one(&self, folder: &Folder) -> Result<Option<String>, StepError> {
        match self.state(folder)? {
            // Its keeper may still be on its way: it must find the door shut before another one is sent.
            State::Untouched if self.close(folder)? => Ok(None),
            State::Closed | State::Ended(Ended { ending: Ending::NotRun { .. }, .. }) => Ok(None),
            State::Untouched | State::Running(_) => self.attend(folder, None).await.map(Some),
            State::Ended(_) | State::Died(_) if self.is_spent(folder)? => Ok(None),
            State::Ended(_) | State::Died(_) => self.attend(folder, None).await.map(Some),
        }
    }

    /// Whether a human was told of the end of this try before he ordered the present one.
    fn is_spent(&self, folder: &Folder) -> Result<bool, StepError> {
        let judged = folder.judged().map_err(|source| self.unreadable(folder.path(), source))?;
        Ok(judged.is_some_and(|attempt| attempt < self.ctx.order.attempt))
    }

    /// Sends a keeper.
    pub(crate) async fn start(&'a self) -> Result<Started<'a, S>, StepError> {
        let folder = self.next_folder()?;
        folder.create().map_err(|source| StepError::Transient {
            what: format!("nothing was promoted: failed to make {}", folder.path().display()),
            source: Some(Box::new(source)),
        })?;
        let left = self.ctx.gate.permit().await?.remaining();
        let lease_ends = boot_ms() + u64::try_from(left.as_millis()).unwrap_or(u64::MAX / 2);
        // Whatever holds us or the keeper up from here on: neither the lease nor what the order rests on may be over (S1, S2).
        let start_before = self.ctx.order.start_before_ms.unwrap_or(u64::MAX).min(lease_ends);
        let said = fs::File::create(folder.path().join("keeper.stderr")).map_or_else(|_| Stdio::null(), Stdio::from);
        let keeper = Command::new(&self.ctx.program)
            .args([OsStr::new(KEEPER_COMMAND), OsStr::new("--dir"), folder.path().as_os_str()])
            .args(["--start-before", &start_before.to_string(), "--"])
            .args(self.subject.words())
            .envs(self.subject.env())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(said)
            .spawn()
            .map_err(|source| StepError::Permanent {
                what: format!("nothing was promoted: failed to start {}", self.ctx.program.display()),
                source: Some(Box::new(source)),
            })?;
        Ok(Started { promote: self, folder, keeper })
    }

    /// Waits for the end of a try, without limit, and judges it by what the world says.
    async fn attend(&self, folder: &Folder, keeper: Option<Child>) -> Result<String, StepError> {
        let how = self.wait(folder, keeper).await?;
        if let Some(Ended { ending: Ending::NotRun { again, .. }, .. }) = &how {
            let what = format!("the promote of {} {}", self.name(), text(how.as_ref()));
            return Err(if *again { StepError::transient(what) } else { StepError::permanent(what) });
        }
        let why = match self.subject.becomes_primary().await {
            Ok(true) => return Ok(format!("{} is primary: its promote {}", self.name(), text(how.as_ref()))),
            Ok(false) => "it is not primary".into(),
            Err(error) => error.whole(),
        };
        // From here on only a human goes on, and on disk it says so before he is told.
        folder.judge(self.ctx.order.attempt).map_err(|source| self.unreadable(folder.path(), source))?;
        Err(StepError::permanent(format!("the promote of {} {}: {why}", self.name(), text(how.as_ref()))))
    }

    /// How the try ended; none if nobody left a word.
    async fn wait(&self, folder: &Folder, mut keeper: Option<Child>) -> Result<Option<Ended>, StepError> {
        let began = Instant::now();
        let mut noted = false;
        let [mut pause, longest] = PAUSES;
        loop {
            // Asked before the folder, so that what the keeper wrote last is seen.
            let keeper_left = keeper.as_mut().map(|keeper| keeper.try_wait().ok().flatten());
            match self.state(folder)? {
                State::Ended(ended) => return Ok(Some(ended)),
                State::Died(_) => return Ok(None),
                State::Running(Some(process)) if !noted => {
                    noted = true;
                    let note = serde_json::json!({ "folder": folder.path(), "process": process }).to_string();
                    // The same stands in the folder, synced. The promote runs, and is waited for whatever the journal says.
                    if let Err(error) = self.ctx.gate.note(self.name(), note).await {
                        tracing::warn!(subject = self.name(), %error, "the running promote could not be journaled");
                    }
                }
                State::Running(_) => {}
                State::Closed => return Err(StepError::transient(self.kept_out(folder))),
                State::Untouched => {
                    if let Some(Some(status)) = keeper_left {
                        return Err(StepError::permanent(format!("{} ({status})", self.kept_out(folder))));
                    }
                }
            }
            self.ctx.gate.progress(format!("promoting {} for {} s", self.name(), began.elapsed().as_secs()));
            match &mut keeper {
                Some(keeper) if keeper_left == Some(None) => drop(time::timeout(pause, keeper.wait()).await),
                _ => time::sleep(pause).await,
            }
            pause = longest.min(2 * pause);
        }
    }

    fn kept_out(&self, folder: &Folder) -> String {
        let said = fs::read(folder.path().join("keeper.stderr")).unwrap_or_default();
        format!("the promote of {} was not started: {}", self.name(), crate::process::last_words(&said))
    }

    fn name(&self) -> &str {
        self.subject.name()
    }

    /// The folders of all tries so far, the oldest first.
    fn folders(&self) -> Result<Vec<Folder>, StepError> {
        self.folders_of(&self.run_folder())
    }

    /// The same of the run whose promotes lie in `run`.
    fn folders_of(&self, run: &Path) -> Result<Vec<Folder>, StepError> {
        let mut folders = Vec::new();
        while folders.len() < usize::from(u16::MAX) {
            let folder = self.folder_of(run, folders.len() + 1);
            match folder.path().try_exists() {
                Ok(true) => folders.push(folder),
                Ok(false) => break,
                Err(source) => return Err(self.unreadable(folder.path(), source)),
            }
        }
        Ok(folders)
    }

    fn next_folder(&self) -> Result<Folder, StepError> {
        Ok(self.folder(self.folders()?.len() + 1))
    }

    pub(crate) fn folder(&self, number: usize) -> Folder {
        self.folder_of(&self.run_folder(), number)
    }

    fn folder_of(&self, run: &Path, number: usize) -> Folder {
        Folder::at(run.join(format!("promote-{}-{number}", as_file_name(self.name()))))
    }

    fn run_folder(&self) -> PathBuf {
        self.ctx.state.join("runs").join(as_file_name(self.ctx.order.run.as_str()))
    }

    fn state(&self, folder: &Folder) -> Result<State, StepError> {
        folder.state().map_err(|source| self.unreadable(folder.path(), source))
    }

    fn close(&self, folder: &Folder) -> Result<bool, StepError> {
        folder.close().map_err(|source| self.unreadable(folder.path(), source))
    }

    /// Nobody may guess whether a promote runs.
    fn unreadable(&self, folder: &Path, source: io::Error) -> StepError {
        let what = format!("failed to use {}, which says whether a promote of {} runs", folder.display(), self.name());
        StepError::Permanent { what, source: Some(Box::new(source)) }
    }
}

fn text(ended: Option<&Ended>) -> String {
    ended.map_or_else(|| "died together with its keeper and left no word".into(), Ended::to_string)
}

/// A name as part of a path: whatever else it holds can lead nowhere else.
fn as_file_name(name: &str) -> String {
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    name.bytes().map(|byte| if safe(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
