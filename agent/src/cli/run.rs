//! Puts the daemon together and runs it: settings, telemetry, loop, API, signals; then waits, and stops all of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use understudy_config::{Config, Loaded};
use understudy_core::Mode;

use super::{Exit, Failure, Outcome, load};
use crate::api::{Api, Means};
use crate::daemon::{Daemon, Ended, Start};
use crate::handle::{Handle, channel};
use crate::metrics::Metrics;
use crate::shutdown::Signals;
use crate::{Watcher, notify_systemd, settings, telemetry};

/// What still runs when everything was told to end, such as a name that is being resolved, is not waited for longer.
const LEFTOVERS: Duration = Duration::from_secs(1);

/// `run`.
pub fn daemon(config: &Path, watcher: Watcher) -> Outcome {
    start(config, watcher, As::Daemon)
}

/// `witness`.
pub fn witness(config: &Path, watcher: Watcher) -> Outcome {
    start(config, watcher, As::Witness)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum As {
    Daemon,
    Witness,
}

fn start(path: &Path, watcher: Watcher, role: As) -> Outcome {
    // Checked only when the traces can take what is wrong with it.
    let written = load(path)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("failed to start")?;
    let outcome = runtime.block_on(async {
        let config = &written.config;
        let traces = telemetry::start(&config.telemetry, &config.site).map_err(|e| Failure::new(Exit::Usage, e))?;
        let outcome = work(path, written, watcher, role).await;
        traces.shutdown().await;
        outcome
    });
    runtime.shutdown_timeout(LEFTOVERS);
    outcome
}

async fn work(path: &Path, written: Loaded, watcher: Watcher, role: As) -> Outcome {
    let mut loaded = settings::checked(written).map_err(|e| Failure::new(Exit::Usage, e))?;
    if role == As::Witness {
        make_witness(&mut loaded)?;
    }
    let signals = Signals::take()?;
    let (handle, asks) = channel();
    let (stop, reload) = (CancellationToken::new(), Arc::new(Notify::new()));
    let metrics = Arc::<Metrics>::default();
    let loaded = Arc::new(loaded);
    let start = Start {
        loaded: loaded.clone(),
        path: path.to_owned(),
        program: this_program()?,
        asks,
        metrics: metrics.clone(),
        watcher,
        stop: stop.clone(),
        reload: reload.clone(),
    };
    // The journal's lock comes first: what lies in the state directory is then ours.
    let daemon = Daemon::open(start).await?;
    let api = Api::bind(&loaded.config).await.map_err(anyhow::Error::from)?;
    if let Some(address) = api.address() {
        tracing::info!(%address, "the API listens");
    }
    let progress = daemon.progress();
    let means = Means { handle: handle.clone(), metrics, progress: Arc::new(move |pair| progress.of(pair)) };
    let serving = tokio::spawn(api.serve(means, stop.clone()));
    let waiting = tokio::spawn(signals.wait(stop.clone(), move || reload_on(role, &reload)));
    let telling = tokio::spawn(tell_systemd(handle, stop.clone()));

    let ended = daemon.run().await;

    notify_systemd::stopping();
    stop.cancel();
    let tasks = futures::future::join3(serving, waiting, telling).await;
    for ended in [tasks.0, tasks.1, tasks.2] {
        ended.context("a task of the daemon panicked")?;
    }
    Ok(match ended? {
        Ended::Stopped => Exit::Done,
        Ended::JournalBroken => Exit::Failed,
    })
}

fn reload_on(role: As, reload: &Notify) {
    match role {
        As::Daemon => reload.notify_one(),
        // The file read again would be a daemon's, which writes.
        As::Witness => tracing::warn!("a witness does not reload: restart it"),
    }
}

async fn tell_systemd(handle: Handle, stop: CancellationToken) {
    // The loop answers only once it has journaled its start.
    if handle.alive().await.is_ok() {
        handle.set_ready();
        notify_systemd::ready();
    }
    notify_systemd::keep_watchdog_quiet(&handle, &stop).await;
}

/// A witness looks and tells what it sees: it never writes, asks, pages or takes another witness' word.
fn make_witness(loaded: &mut Loaded) -> Result<(), Failure> {
    let Config { mode, listen, pairs, .. } = &mut loaded.config;
    if listen.as_ref().is_none_or(|listen| listen.witness.is_none()) {
        return Err(Failure::usage("a witness signs what it sees: set listen.address and listen.witness"));
    }
    *mode = Mode::Observe;
    for pair in pairs {
        pair.mode = None;
        pair.witnesses.clear();
        pair.notify.clear();
    }
    Ok(())
}

/// The file of this program, for the keeper of a promote.
fn this_program() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("failed to find this program's own file")
}
