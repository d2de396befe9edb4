//! The event loop: takes what happened, lets the core decide, writes it down, and only then does it.
//!
//! In: [`Incoming`] messages. Out: records in the journal, then steps, notices, answers. The loop makes no choice of its
//! own: every `if` about the health of a site is in `understudy_core`. Start reading at [`Daemon::run`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use understudy_actions::notify;
use understudy_config::{Heartbeat, Loaded};
use understudy_core::{Command, Event, Now, PairId, Policy, Record, Refusal, State, Ticket, resume, step};
use understudy_probes::clock;

use crate::Watcher;
use crate::guard::Guard;
use crate::handle::Ask;
use crate::inbox::{Inbox, Incoming};
use crate::journal::Journal;
use crate::metrics::Metrics;
use crate::notices::Notices;
use crate::observe::Observer;
use crate::recording::Recorder;
use crate::runner::{Means, Progress, Runner};

/// Time between two ticks. A stall of ours is noticed after the policy's `stall`, which is far longer.
const TICK: Duration = Duration::from_millis(250);
/// A loop that has not turned for this long gives no sign of life.
const STILL: Duration = Duration::from_secs(10);

/// Why the loop ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was told to.
    Stopped,
    /// The journal takes no records any more: nothing may be written to the world.
    JournalBroken,
}

/// What the daemon is given by whoever starts it.
pub struct Start {
    /// The checked configuration. A thousand pairs are large: it is shared and not copied.
    pub loaded: Arc<Loaded>,
    /// Where it came from, for a reload.
    pub path: PathBuf,
    /// This program, which keeps promotes as a process of its own.
    pub program: PathBuf,
    /// Questions and orders of humans.
    pub asks: mpsc::Receiver<Ask>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Sees each record as soon as it is on disk.
    pub watcher: Watcher,
    /// Tells the daemon to end.
    pub stop: CancellationToken,
    /// Asks for a reload of the configuration (SIGHUP).
    pub reload: Arc<Notify>,
}

/// A daemon that has read its journal and is ready to run.
pub struct Daemon {
    start: Start,
    inbox: Inbox,
    messages: mpsc::Receiver<Incoming>,
    core: Core,
    /// When the loop turned last, in milliseconds of `Now::boot_ms`.
    turned: Arc<AtomicU64>,
}

impl Daemon {
    /// Opens the journal and posts the watch. Nothing is written to the world yet.
    ///
    /// # Errors
    /// Anything that keeps it from starting, each with its remedy.
    pub async fn open(start: Start) -> anyhow::Result<Self> {
        let (inbox, messages) = Inbox::new();
        let core = Core::open(&start, &inbox).await?;
        let turned = Arc::new(AtomicU64::new(clock::now().boot_ms));
        Ok(Self { start, inbox, messages, core, turned })
    }

    /// Where the running steps say how far they are.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.core.runner.progress()
    }

    /// Runs until it is told to stop, or the journal takes no more records.
    ///
    /// # Errors
    /// If not even the start can be journaled.
    pub async fn run(mut self) -> anyhow::Result<Ended> {
        self.core.begin()?;
        let heart = self.start.loaded.config.heartbeat.clone();
        let beating = heart.map(|heart| tokio::spawn(beat(heart, self.turned.clone())));
        let ended = self.work().await;
        if let Some(beating) = beating {
            beating.abort();
        }
        self.core.runner.stop();
        self.core.guard.end().await;
        self.core.end_recording();
        self.core.notices.drain().await;
        Ok(ended)
    }

    async fn work(&mut self) -> Ended {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                biased;
                () = self.start.stop.cancelled() => return Ended::Stopped,
                _ = ticks.tick() => self.core.take(Incoming::Event(Event::Tick)),
                Some(ask) = self.start.asks.recv() => self.core.answer(ask),
                Some(message) = self.messages.recv() => self.core.take(message),
                () = self.start.reload.notified() => self.core.reload(&self.start.path, &self.inbox).await,
            }
            self.turned.store(clock::now().boot_ms, Ordering::Relaxed);
            if self.core.halted.load(Ordering::Acquire) {
                return Ended::JournalBroken;
            }
        }
    }
}

/// The heart beats only while the loop turns: a process that lives and decides nothing must be missed (L3).
async fn beat(heart: Heartbeat, turned: Arc<AtomicU64>) {
    let mut beats = tokio::time::interval(heart.every.0);
    beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        beats.tick().await;
        let still = clock::now().since(turned.load(Ordering::Relaxed));
        if still > STILL {
            tracing::error!("no heartbeat: the event loop stands still for {} s", still.as_secs());
        } else if let Err(error) = notify::beat(&heart).await {
            tracing::warn!("{:#}", anyhow::Error::from(error));
        }
    }
}

/// The loop's own: state, journal, and the ways out.
struct Core {
    loaded: Arc<Loaded>,
    policy: Policy,
    /// Taken out and put back by each step.
    state: Option<State>,
    journal: Journal,
    runner: Runner,
    notices: Notices,
    /// Probes, leases, readiness: everything that runs beside the loop for the pairs as configured.
    guard: Guard,
    means: Vec<Means>,
    observer: Observer,
    recorder: Recorder,
    metrics: Arc<Metrics>,
    watcher: Watcher,
    halted: Arc<AtomicBool>,
    waiting: BTreeMap<Ticket, Waiter>,
    tickets: u64,
}

enum Waiter {
    Answer(oneshot::Sender<Result<String, Refusal>>),
    Ack(oneshot::Sender<bool>),
}

impl Core {
    async fn open(start: &Start, inbox: &Inbox) -> anyhow::Result<Self> {
        let loaded = start.loaded.clone();
        let policy = loaded.policy();
        let directory = loaded.config.state.file.clone();
        let (journal, records) = Journal::open(&directory, loaded.config.state.segment_bytes)?;
        let state = State::restore(&policy, records, clock::now());
        if let Some(orphan) = state.orphaned().first() {
            bail!(
                "pair {orphan} has an open run in {} but is not configured any more: put it back, then abandon the run",
                directory.display()
            );
        }
        let halted = Arc::new(AtomicBool::new(false));
        let program = start.program.clone();
        let recorder = Recorder::new(&directory, loaded.config.state.segment_bytes, &policy);
        let runner = Runner::new(&loaded.config.site, directory, program, inbox.clone(), halted.clone());
        let notices = Notices::new(&loaded, start.metrics.clone());
        let (guard, means) = Guard::post(&loaded, &policy, inbox, None).await?;
        Ok(Self {
            loaded,
            policy,
            state: Some(state),
            journal,
            runner,
            notices,
            guard,
            means,
            observer: Observer::new(start.metrics.clone()),
            recorder,
            metrics: start.metrics.clone(),
            watcher: start.watcher.clone(),
            halted,
            waiting: BTreeMap::new(),
            tickets: 0,
        })
    }

    /// Journals the start and takes up what was under way.
    fn begin(&mut self) -> anyhow::Result<()> {
        let now = clock::now();
        let started = Record::Started {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            config_digest: self.policy.config_digest.clone(),
        };
        self.journal.append(now, &[started], true).context("failed to journal the start")?;
        let state = self.state.take().expect("the state is put back after each step");
        let (state, commands) = resume(&self.policy, state, now);
        self.state = Some(state);
        self.carry_out(now, commands);
        Ok(())
    }

    fn take(&mut self, message: Incoming) {
        match message {
            seen @ (Incoming::Event(_) | Incoming::Seen { .. }) => {
                if let Some(event) = seen.into_event() {
                    self.step(event);
                }
            }
            Incoming::Note { pair, run, step, key, value, reply } => {
                let ticket = self.ticket(Waiter::Ack(reply));
                self.step(Event::StepNoted { pair, run, step, key, value, ticket });
            }
        }
    }

    fn end_recording(&mut self) {
        if let Some(finished) = self.recorder.finish() {
            self.carry_out(clock::now(), vec![Command::Journal(finished)]);
        }
    }

    fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Alive { reply } => give(reply, ()),
            Ask::View { reply } => {
                let state = self.state.as_ref().expect("the state is put back after each step");
                give(reply, Arc::new(state.view(&self.policy, clock::now())));
            }
            Ask::Order { pair, by, order, reply } => match self.pair_named(pair.as_str()) {
                Some(pair) => {
                    let ticket = self.ticket(Waiter::Answer(reply));
                    self.step(Event::Ordered { pair, by, order, ticket });
                }
                None => give(reply, Err(self.no_such_pair(pair.as_str()))),
            },
            Ask::Note { record } => self.carry_out(clock::now(), vec![Command::Journal(record)]),
        }
    }

    fn pair_named(&self, name: &str) -> Option<PairId> {
        let at = self.policy.pairs.iter().position(|pair| pair.name.as_str() == name)?;
        u32::try_from(at).ok().map(PairId)
    }

    fn no_such_pair(&self, name: &str) -> Refusal {
        let known: Vec<&str> = self.policy.pairs.iter().map(|pair| pair.name.as_str()).collect();
        Refusal::new(format!("there is no pair {name:?}; configured are: {}", known.join(", ")))
    }

    fn ticket(&mut self, waiter: Waiter) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.waiting.insert(ticket, waiter);
        ticket
    }

    /// What comes in is recorded as it came, with the very time by which it is judged, so that it can be played again.
    fn step(&mut self, event: Event) {
        let now = clock::now();
        let state = self.state.as_ref().expect("the state is put back after each step");
        if let Some(finished) = self.recorder.record(now, &event, self.journal.last_seq(), state) {
            self.carry_out(now, vec![Command::Journal(finished)]);
        }
        let state = self.state.take().expect("the state is put back after each step");
        let (state, commands) = step(&self.policy, state, event, now);
        self.state = Some(state);
        if !commands.is_empty() {
            self.carry_out(now, commands);
        }
    }

    /// Remember first, act second: a restart may repeat a step, but never forgets one (S10).
    fn carry_out(&mut self, now: Now, commands: Vec<Command>) {
        if let Err(error) = self.write_down(now, &commands) {
            return self.halt(&error);
        }
        for command in commands {
            self.act(command);
        }
    }

    fn write_down(&mut self, now: Now, commands: &[Command]) -> anyhow::Result<()> {
        let records: Vec<Record> = commands.iter().filter_map(as_record).cloned().collect();
        if records.is_empty() {
            return Ok(());
        }
        let sync = commands.iter().any(has_effect) || records.iter().any(must_last);
        let last = records.len() - 1;
        for (n, record) in records.into_iter().enumerate() {
            let (journal, flush) = (&mut self.journal, sync && n == last);
            // The flush blocks this thread; probes and steps go on on the others.
            let one = std::slice::from_ref(&record);
            let flushed = tokio::task::block_in_place(|| journal.append(now, one, flush))?;
            if let Some(took) = flushed {
                self.metrics.journal_flushed(took);
            }
            self.watcher.see(&record);
            self.observer.observe(now, &record);
        }
        if self.journal.is_full() {
            let snapshot = self.state.as_ref().expect("the state is put back after each step").snapshot(&self.policy);
            let journal = &mut self.journal;
            tokio::task::block_in_place(|| journal.rotate(now, &snapshot))?;
        }
        Ok(())
    }

    /// What can not be remembered is not done: no command of this event is carried out, and no write ever again (S10).
    fn halt(&mut self, error: &anyhow::Error) {
        self.halted.store(true, Ordering::Release);
        tracing::error!("nothing is written to the world any more: {error:#}");
        self.notices.page_halted(&format!("{error:#}"));
    }

    fn act(&mut self, command: Command) {
        match command {
            Command::Journal(record) => self.runner.see(&record),
            Command::ProbeNow { pair } => self.guard.look_now(pair),
            Command::HoldLease { pair } => self.guard.hold_lease(pair),
            Command::RunStep { pair, order } => {
                if let Some(means) = self.means.get(pair.at()) {
                    let span = self.observer.span(&order.run, order.step);
                    self.runner.start(pair, means, *order, span);
                }
            }
            Command::Notify { pair, notice } => self.notices.send(pair.as_ref(), notice),
            Command::Ack { ticket, go_on } => {
                if let Some(Waiter::Ack(reply)) = self.waiting.remove(&ticket) {
                    give(reply, go_on);
                }
            }
            Command::Answer { ticket, answer } => {
                if let Some(Waiter::Answer(reply)) = self.waiting.remove(&ticket) {
                    give(reply, answer);
                }
            }
        }
    }

    /// Takes a new configuration, whole or not at all. Running steps keep what they were started with.
    async fn reload(&mut self, path: &Path, inbox: &Inbox) {
        match self.try_reload(path, inbox).await {
            Ok(()) => tracing::info!(digest = %self.policy.config_digest, "configuration reloaded"),
            Err(error) => tracing::error!("configuration not reloaded, the old one stays: {error:#}"),
        }
    }

    async fn try_reload(&mut self, path: &Path, inbox: &Inbox) -> anyhow::Result<()> {
        let loaded = Arc::new(crate::settings::load_checked(path)?);
        if let Err(needs_restart) = understudy_config::reload_allowed(&self.loaded.config, &loaded.config) {
            bail!("these settings need a restart: {}", needs_restart.join(", "));
        }
        let policy = loaded.policy();
        let (guard, means) = Guard::post(&loaded, &policy, inbox, Some(&self.guard)).await?;
        let now = clock::now();
        let state = self.state.take().expect("the state is put back after each step");
        let state = state.reload(&self.policy, &policy, now);
        let (state, mut commands) = resume(&policy, state, now);
        commands.extend(self.recorder.change_policy(&policy).map(Command::Journal));
        self.state = Some(state);
        self.guard = guard;
        self.means = means;
        self.notices = Notices::new(&loaded, self.metrics.clone());
        self.policy = policy;
        self.loaded = loaded;
        self.carry_out(now, commands);
        Ok(())
    }
}

fn as_record(command: &Command) -> Option<&Record> {
    match command {
        Command::Journal(record) => Some(record),
        _ => None,
    }
}

/// Whether the command does something that the journal must know of first.
fn has_effect(command: &Command) -> bool {
    !matches!(command, Command::Journal(_) | Command::ProbeNow { .. })
}

/// What is learnt anew by looking again needs no flush of its own.
fn must_last(record: &Record) -> bool {
    !matches!(
        record,
        Record::Signal { .. }
            | Record::SelfCheck { .. }
            | Record::Witness { .. }
            | Record::SourceTime { .. }
            | Record::ClockError { .. }
    )
}

/// Gives an answer to whoever waits for it; he may have gone.
fn give<T>(reply: oneshot::Sender<T>, answer: T) {
    if reply.send(answer).is_err() {
        tracing::debug!("nobody waits for the answer any more");
    }
}
