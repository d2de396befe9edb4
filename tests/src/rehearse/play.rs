//! One performance: the stage, the real daemon as a process of its own, a human with the real command line, and the
//! daemon's journal as it grows.
//!
//! In: what a scenario does and waits for. Out: the journal's records, shown as they come, and errors that say what was
//! waited for in vain.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use serde_json::Value;
use tokio::process::{Child, Command};
use understudy_agent::journal::Entry;
use understudy_core::{Question, Record, Request, StepResult, Verdict};

use crate::follow::Follower;
use crate::proof::{Judged, judged_in};
use crate::rehearse::moment::{self, After, Countdown, Moment};
use crate::rehearse::show::Show;
use crate::rehearse::stage::{PUBLIC_NAME, Stage, Wishes};
use crate::standin::ceph::model::Image;
use crate::standin::side::Side;
use crate::standin::volume::{ADMIN_PASSWORD, Content};

/// What takes longer before anything happens never comes; a healthy machine needs a few seconds.
const PATIENCE: Duration = Duration::from_secs(45);

/// What the user uploads before anything happens.
pub const PAYLOAD: &[u8] = b"the bytes that must come back through the same public name";
/// Where it lies.
pub const ARTIFACT: &str = "raw/rehearsal/payload.bin";

/// One performance.
pub struct Play {
    /// The two sites and what is between them.
    pub stage: Stage,
    /// The journal so far.
    pub journal: Follower,
    /// When A was hurt, on our clock.
    pub hurt_at: Option<(Instant, i64)>,
    program: PathBuf,
    daemon: Option<Child>,
    /// The daemon is killed then; once.
    killed_at: Option<Moment>,
    /// Whose process the stand-ins end, if they are to.
    pid: Arc<AtomicU32>,
    witness: Option<Child>,
    show: Show,
    /// How often each invariant was judged on the journal, when it was checked last.
    pub judged: Judged,
}

impl Play {
    /// Sets the stage, starts the daemon and waits until it finds A alive.
    pub async fn begin(directory: &Path, wishes: &Wishes, show: Show) -> anyhow::Result<Self> {
        Self::begin_with(directory, wishes, None, show).await
    }

    /// As [`begin`](Self::begin), unseen, with a daemon that is killed at this moment after the disaster.
    pub async fn begin_killed_at(directory: &Path, wishes: &Wishes, moment: Moment) -> anyhow::Result<Self> {
        Self::begin_with(directory, wishes, Some(moment), Show::new(true)).await
    }

    /// As [`begin`](Self::begin), by another program than this one: the `rehearse` that a test was built with.
    pub async fn begin_with_program(
        program: &Path,
        directory: &Path,
        wishes: &Wishes,
        show: Show,
    ) -> anyhow::Result<Self> {
        Self::begin_by(program.to_owned(), directory, wishes, None, show).await
    }

    async fn begin_with(
        directory: &Path,
        wishes: &Wishes,
        killed_at: Option<Moment>,
        show: Show,
    ) -> anyhow::Result<Self> {
        Self::begin_by(std::env::current_exe()?, directory, wishes, killed_at, show).await
    }

    async fn begin_by(
        program: PathBuf,
        directory: &Path,
        wishes: &Wishes,
        killed_at: Option<Moment>,
        show: Show,
    ) -> anyhow::Result<Self> {
        show.say("two stand-in sites on loopback: Nexus, Kubernetes and Ceph at A, mirrored to B");
        let stage = Stage::up(directory, &program, wishes).await?;
        show.say(&format!("settings: {}", stage.settings().display()));
        let pid = Arc::default();
        let (daemon, witness) = (None, None);
        let journal = Follower::new(stage.state(), show);
        let judged = Judged::new();
        let mut play = Self { stage, journal, hurt_at: None, program, daemon, killed_at, pid, witness, show, judged };
        play.watch_for_the_moment();
        if wishes.witness {
            play.start_witness()?;
        }
        play.upload(ARTIFACT, PAYLOAD).await.context("failed to upload through the public name")?;
        play.show.say(&format!("user: uploaded {ARTIFACT} through http://{PUBLIC_NAME}"));
        play.start_daemon()?;
        let alive = |r: &Record| matches!(r, Record::Verdict { to: Verdict::Up, .. });
        play.until("the daemon finds A alive", PATIENCE, alive).await?;
        play.settle().await?;
        Ok(play)
    }

    /// Waits until a mirror snapshot that holds the artifact is complete at B, and the source time of a later one journaled.
    async fn settle(&mut self) -> anyhow::Result<()> {
        let ours = |content: &Content| content.artifacts.contains_key(ARTIFACT);
        let world = &self.stage.world;
        let image = world.plan.image();
        let copied = world.ceph.until(Side::B, &image, |image| ours(&image.volume.content()));
        tokio::time::timeout(PATIENCE, copied).await.context("the copy at B lacks the artifact")?;
        let newest = |image: &Image| image.newest().map(|(_, mirror)| mirror.primary_snap_id);
        let holds = self.stage.world.ceph.inspect(Side::B, &image, newest).flatten();
        // The one after it: who dies in the middle of a sync falls back by one.
        let next = move |r: &Record| matches!(r, Record::SourceTime { snapshot, .. } if Some(*snapshot) > holds);
        self.until("the copy at B advances", PATIENCE, next).await?;
        Ok(())
    }

    /// Has the stand-ins end the daemon when they have done what the moment names, before they answer.
    fn watch_for_the_moment(&self) {
        let Some(moment) = self.killed_at.clone().filter(|moment| moment.after == After::Effect) else { return };
        let (countdown, pid) = (Countdown::new(moment, &self.armed()), self.pid.clone());
        self.stage.world.ledger.watch(move |effect| {
            if countdown.is_there(&moment::effect_label(effect)) {
                let pid = i32::try_from(pid.load(Ordering::SeqCst)).ok().and_then(rustix::process::Pid::from_raw);
                pid.into_iter().for_each(moment::kill);
            }
        });
    }

    /// Is there once A is hurt.
    fn armed(&self) -> PathBuf {
        self.stage.directory.join("armed")
    }

    /// Starts the daemon as a process of its own.
    pub fn start_daemon(&mut self) -> anyhow::Result<()> {
        let log =
            std::fs::File::options().append(true).create(true).open(self.stage.directory.join("understudy.log"))?;
        let mut command = Command::new(&self.program);
        match self.killed_at.take().filter(|moment| moment.after == After::Record) {
            Some(moment) => command.args(moment::words(&moment, &self.armed())),
            None => command.arg("understudy"),
        };
        let child = command
            .args(["run", "--config"])
            .arg(self.stage.settings())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("failed to start the daemon")?;
        self.pid.store(child.id().unwrap_or(0), Ordering::SeqCst);
        self.daemon = Some(child);
        Ok(())
    }

    /// Starts a witness at a third site: the same program, watching A from elsewhere.
    fn start_witness(&mut self) -> anyhow::Result<()> {
        let log = std::fs::File::create(self.stage.directory.join("witness.log"))?;
        let child = Command::new(&self.program)
            .args(["understudy", "witness", "--config"])
            .arg(self.stage.witness_settings())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("failed to start the witness")?;
        self.witness = Some(child);
        Ok(())
    }

    /// Whether the daemon's process has ended.
    pub fn daemon_is_gone(&mut self) -> bool {
        self.daemon.as_mut().is_none_or(|daemon| !matches!(daemon.try_wait(), Ok(None)))
    }

    /// Whether it was ended by SIGKILL.
    pub fn was_killed(&mut self) -> bool {
        use std::os::unix::process::ExitStatusExt;
        let ended = self.daemon.as_mut().and_then(|daemon| daemon.try_wait().ok().flatten());
        ended.is_some_and(|status| status.signal() == Some(rustix::process::Signal::KILL.as_raw()))
    }

    /// The question that is open by the journal.
    #[must_use]
    pub fn open_request(&self) -> Option<understudy_core::RequestId> {
        let mut open = None;
        for entry in self.journal.story() {
            match &entry.record {
                Record::Requested { request } => open = Some(request.id.clone()),
                Record::Answered { .. } | Record::Voided { .. } => open = None,
                _ => {}
            }
        }
        open
    }

    /// The run that was begun last.
    pub fn run_id(&self) -> anyhow::Result<String> {
        let begun = self.journal.story().iter().rev().find_map(|entry| match &entry.record {
            Record::RunStarted { run, .. } => Some(run.id.to_string()),
            _ => None,
        });
        begun.context("no run was begun")
    }

    /// The daemon's process id.
    #[must_use]
    pub fn daemon_pid(&self) -> Option<u32> {
        self.daemon.as_ref().and_then(Child::id)
    }

    /// SIGKILL to the daemon alone; what it started in processes of their own lives on.
    pub async fn kill_daemon(&mut self) -> anyhow::Result<()> {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill().await?;
        }
        Ok(())
    }

    /// Stops or continues the daemon's process.
    pub fn signal_daemon(&self, signal: rustix::process::Signal) -> anyhow::Result<()> {
        let pid = self.daemon_pid().and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.context("no daemon runs")?, signal)?;
        Ok(())
    }

    /// A dies whole.
    pub async fn kill_a(&mut self) {
        self.hurt_now("power goes off at A: Nexus, API server and Ceph are gone");
        self.stage.world.a.kill().await;
    }

    /// From now on the moment counts at which the daemon is killed.
    pub fn arm(&self) -> anyhow::Result<()> {
        std::fs::write(self.armed(), b"").context("failed to arm the moment")
    }

    /// Notes the moment from which detection is measured.
    pub fn hurt_now(&mut self, what: &str) {
        self.show.event(what);
        self.hurt_at = Some((Instant::now(), jiff::Timestamp::now().as_millisecond()));
    }

    /// Says something to whoever watches.
    pub fn say(&self, text: &str) {
        self.show.say(text);
    }

    /// Waits for a record, also among those that are there.
    pub async fn until(
        &mut self,
        what: &str,
        within: Duration,
        wanted: impl Fn(&Record) -> bool,
    ) -> anyhow::Result<Entry> {
        self.until_entry(what, within, |entry| wanted(&entry.record)).await
    }

    /// As [`until`](Self::until), by the whole entry.
    pub async fn until_entry(
        &mut self,
        what: &str,
        within: Duration,
        wanted: impl Fn(&Entry) -> bool,
    ) -> anyhow::Result<Entry> {
        let daemon = &mut self.daemon;
        let ended = || daemon.as_mut().and_then(|daemon| daemon.try_wait().ok().flatten());
        let found = self.journal.until(what, within, ended, wanted).await;
        found.map_err(|error| anyhow!("{error:#}\n{}", self.log_tail()))
    }

    /// Lets time pass, and demands that nothing of this comes meanwhile.
    pub async fn never(
        &mut self,
        what: &str,
        during: Duration,
        unwanted: impl Fn(&Record) -> bool,
    ) -> anyhow::Result<()> {
        self.journal.never(what, during, |entry| unwanted(&entry.record)).await
    }

    /// The last lines that the daemon logged.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(self.stage.directory.join("understudy.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }

    /// Waits for the open question of this kind.
    pub async fn question(&mut self, question: Question, within: Duration) -> anyhow::Result<Request> {
        let asked = move |r: &Record| matches!(r, Record::Requested { request } if request.question == question);
        let entry = self.until("a human is asked", within, asked).await?;
        let Record::Requested { request } = entry.record else { bail!("not a request") };
        Ok(*request)
    }

    /// A human's command, by the real command line; its exit code and what it said.
    pub async fn command(&self, args: &[&str]) -> anyhow::Result<(i32, String)> {
        let output = Command::new(&self.program)
            .arg("understudy")
            .args(args)
            .arg("--config")
            .arg(self.stage.settings())
            .stdin(Stdio::null())
            .output()
            .await?;
        let text = [output.stdout, output.stderr].concat();
        Ok((output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).trim().to_owned()))
    }

    /// As [`command`](Self::command), shown, and an error if it is refused.
    pub async fn human(&mut self, args: &[&str]) -> anyhow::Result<()> {
        self.show.event(&format!("human: understudy {}", args.join(" ")));
        let (code, said) = self.command(args).await?;
        anyhow::ensure!(code == 0, "`understudy {}` ended with {code}: {said}", args.join(" "));
        self.show.say(&said);
        Ok(())
    }

    fn public(&self) -> anyhow::Result<reqwest::Client> {
        let builder = reqwest::Client::builder().resolve(PUBLIC_NAME, self.stage.world.balancer.public().address());
        Ok(builder.pool_max_idle_per_host(0).timeout(Duration::from_secs(2)).build()?)
    }

    fn public_url(&self, path: &str) -> String {
        format!("http://{PUBLIC_NAME}:{}/repository/{path}", self.stage.world.balancer.public().address().port())
    }

    /// Uploads as a user does.
    pub async fn upload(&self, path: &str, bytes: &'static [u8]) -> anyhow::Result<()> {
        let request = self.public()?.put(self.public_url(path)).basic_auth("admin", Some(ADMIN_PASSWORD));
        let request = request.header("content-type", "application/octet-stream").body(bytes);
        request.send().await?.error_for_status()?;
        Ok(())
    }

    /// Downloads as a user does.
    pub async fn download(&self, path: &str) -> anyhow::Result<Vec<u8>> {
        let answer = self.public()?.get(self.public_url(path)).send().await?.error_for_status()?;
        Ok(answer.bytes().await?.to_vec())
    }

    /// Waits for the end of the run; whether B is active then.
    pub async fn run_ends(&mut self, within: Duration) -> anyhow::Result<bool> {
        let over = |r: &Record| {
            matches!(r, Record::RunEnded { .. } | Record::Stuck { .. })
                || matches!(r, Record::Outcome { result: StepResult::Failed { .. }, again_ms: None, .. })
        };
        let entry = self.until("the run ends", within, over).await?;
        Ok(matches!(entry.record, Record::RunEnded { ending: understudy_core::Ending::Succeeded, .. }))
    }

    /// The pages that arrived, by their kind.
    #[must_use]
    pub fn pages(&self) -> Vec<String> {
        let deliveries = self.stage.world.notify.deliveries();
        let kinds = deliveries.iter().filter_map(|d| find(&d.body, "kind").and_then(Value::as_str).map(str::to_owned));
        kinds.collect()
    }

    /// Whether any record so far is like this.
    #[must_use]
    pub fn has(&self, wanted: impl Fn(&Record) -> bool) -> bool {
        self.journal.story().iter().any(|entry| wanted(&entry.record))
    }

    /// Checks the chain and every rule of a plan, and plays what was recorded again, by the daemon's own commands.
    pub async fn verify_journal(&mut self) -> anyhow::Result<()> {
        let said = self.judge(&["journal", "verify", "--json"], "the journal breaks a rule").await?;
        self.judged = judged_in(&said)?;
        self.judge(&["replay"], "the core decides otherwise on what the daemon has recorded").await.map(|_| ())
    }

    /// A command of the daemon's that judges its state directory.
    async fn judge(&self, words: &[&str], otherwise: &str) -> anyhow::Result<String> {
        let state = self.stage.state();
        let output =
            Command::new(&self.program).arg("understudy").args(words).arg(&state).stdin(Stdio::null()).output().await?;
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        anyhow::ensure!(output.status.success(), "{otherwise}: {stderr}{stdout}");
        Ok(stdout.into_owned())
    }

    /// The table at the end.
    #[must_use]
    pub fn table(&self) -> crate::rehearse::table::Table {
        crate::rehearse::table::Table::of(self.journal.story(), self.hurt_at.map(|(_, wall)| wall))
    }
}

/// The first value of this key, however deep.
fn find<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    match value {
        Value::Object(map) => map.get(key).or_else(|| map.values().find_map(|inner| find(inner, key))),
        Value::Array(items) => items.iter().find_map(|inner| find(inner, key)),
        _ => None,
    }
}
