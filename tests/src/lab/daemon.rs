//! The real daemon as a process of its own, its journal as it grows, and a human at the real command line.
//!
//! In: a settings file. Out: records, shown as they come, and errors that say what was waited for in vain.
//! Start at [`Daemon::start`].

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use serde_json::Value;
use tokio::process::{Child, Command};
use understudy_actions::promote_keeper::Process;
use understudy_agent::journal::Entry;
use understudy_core::{Ending, Question, Record, Request, StepResult};

use crate::follow::Follower;
use crate::proof::{self, Account, Source};
use crate::rehearse::show::Show;

/// One daemon, which may be killed and started again.
pub struct Daemon {
    /// The journal so far.
    pub journal: Follower,
    /// A program that is also `understudy`.
    program: PathBuf,
    directory: PathBuf,
    child: Option<Child>,
    show: Show,
}

impl Daemon {
    /// Starts `PROGRAM understudy run` on `DIRECTORY/understudy.yaml`; its state is in `DIRECTORY/state`.
    ///
    /// # Errors
    /// If it can not be started.
    pub fn start(program: &Path, directory: &Path) -> Result<Self> {
        let (program, directory) = (program.to_owned(), directory.to_owned());
        let show = Show::new(false);
        let journal = Follower::new(directory.join("state"), show);
        let mut daemon = Self { journal, program, directory, child: None, show };
        daemon.start_again()?;
        Ok(daemon)
    }

    /// Starts it on the same state.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_again(&mut self) -> Result<()> {
        let log = std::fs::File::options().append(true).create(true).open(self.directory.join("understudy.log"))?;
        let mut command = self.understudy(&["run"]);
        command.stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        self.child = Some(command.spawn().context("failed to start the daemon")?);
        Ok(())
    }

    /// SIGKILL to the daemon alone.
    ///
    /// # Errors
    /// If it does not die.
    pub async fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill().await?;
        }
        Ok(())
    }

    /// Where it keeps its journal.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.directory.join("state")
    }

    /// Says something to whoever watches.
    pub fn say(&self, text: &str) {
        self.show.event(text);
    }

    /// Waits for a record newer than the one with the number `after`.
    ///
    /// # Errors
    /// If it does not come within `limit`, or the daemon ends.
    pub async fn until(
        &mut self,
        what: &str,
        after: u64,
        limit: Duration,
        wanted: impl Fn(&Record) -> bool,
    ) -> Result<Entry> {
        let child = &mut self.child;
        let ended = || child.as_mut().and_then(|child| child.try_wait().ok().flatten());
        let found = self.journal.until(what, limit, ended, |entry| entry.seq > after && wanted(&entry.record)).await;
        found.map_err(|error| anyhow!("{error:#}\n{}", self.log_tail()))
    }

    /// Lets time pass, and demands that nothing of this comes.
    ///
    /// # Errors
    /// If it comes.
    pub async fn never(&mut self, what: &str, during: Duration, unwanted: impl Fn(&Record) -> bool) -> Result<()> {
        let after = self.journal.newest();
        self.journal.never(what, during, |entry| entry.seq > after && unwanted(&entry.record)).await
    }

    /// Waits until a human is asked.
    ///
    /// # Errors
    /// If nobody is within `limit`.
    pub async fn question(&mut self, question: Question, after: u64, limit: Duration) -> Result<Request> {
        let asked =
            move |record: &Record| matches!(record, Record::Requested { request } if request.question == question);
        match self.until("a human is asked", after, limit, asked).await?.record {
            Record::Requested { request } => Ok(*request),
            other => bail!("no question: {other:?}"),
        }
    }

    /// Waits until the run is over or needs a human; the ending, or none if it needs a human.
    ///
    /// # Errors
    /// If neither comes within `limit`.
    pub async fn run_ends(&mut self, after: u64, limit: Duration) -> Result<Option<Ending>> {
        let over = |record: &Record| {
            matches!(record, Record::RunEnded { .. } | Record::Stuck { .. })
                || matches!(record, Record::Outcome { result: StepResult::Failed { .. }, again_ms: None, .. })
        };
        match self.until("the run ends", after, limit, over).await?.record {
            Record::RunEnded { ending, .. } => Ok(Some(ending)),
            _ => Ok(None),
        }
    }

    /// Whether any record so far is like this.
    #[must_use]
    pub fn has(&self, wanted: impl Fn(&Record) -> bool) -> bool {
        self.journal.story().iter().any(|entry| wanted(&entry.record))
    }

    /// A human's command; its exit code and what it said.
    ///
    /// # Errors
    /// If it can not be run.
    pub async fn command(&self, args: &[&str]) -> Result<(i32, String)> {
        self.show.event(&format!("human: understudy {}", args.join(" ")));
        let output = self.understudy(args).output().await?;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim().to_owned();
        self.show.say(&said);
        Ok((output.status.code().unwrap_or(-1), said))
    }

    /// As [`Self::command`].
    ///
    /// # Errors
    /// If it is refused, too.
    pub async fn human(&self, args: &[&str]) -> Result<String> {
        let (code, said) = self.command(args).await?;
        ensure!(code == 0, "`understudy {}` ended with {code}: {said}", args.join(" "));
        Ok(said)
    }

    /// Checks the chain and every rule of a plan, by the daemon's own command, and keeps how often each was judged.
    ///
    /// # Errors
    /// With the rules that the journal breaks.
    pub async fn verify_journal(&self) -> Result<()> {
        let judged = proof::judged_in(&self.human(&["journal", "verify", "--json"]).await?)?;
        let name = self.directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let account = Account::now("the journal of a failover on real parts".into(), judged, None);
        proof::keep(&proof::place(), Source::RealJournals, &name, &account)
    }

    /// Keepers and promotes that live, of every run: they outlive the daemon.
    #[must_use]
    pub fn promotes(&self) -> Vec<Process> {
        let inside = |path: PathBuf| std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
        let folders = inside(self.state().join("runs")).flat_map(inside);
        let told = folders.flat_map(|folder| [folder.join("started"), folder.join("running")]);
        told.filter_map(|file| process_in(&file)).filter(Process::lives).collect()
    }

    /// SIGKILL to keepers and promotes.
    pub fn kill_promotes(&self) {
        for process in self.promotes() {
            let pid = i32::try_from(process.pid).ok().and_then(rustix::process::Pid::from_raw);
            // It may have ended by itself meanwhile.
            let _ = pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::KILL));
        }
    }

    /// The last lines that it logged.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(self.directory.join("understudy.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    fn understudy(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("understudy").args(args).arg("--config").arg(self.directory.join("understudy.yaml"));
        command.stdin(Stdio::null());
        command
    }
}

impl Drop for Daemon {
    /// A promote of a failed test would wait for its dead cluster for ever.
    fn drop(&mut self) {
        self.kill_promotes();
    }
}

/// The process that a file of a promote's folder names: itself, or `{"by": ...}`.
fn process_in(file: &Path) -> Option<Process> {
    let mut told: Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    let told = told.get_mut("by").map(Value::take).unwrap_or(told);
    serde_json::from_value(told).ok()
}
