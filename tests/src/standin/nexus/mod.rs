//! A Nexus Repository on loopback, as far as a failover meets it: version 3.71.0-06.
//!
//! In: a [`Volume`] that holds its data directory, and HTTP requests. Out: the answers that a real one
//! was measured to give when it is healthy, starting, stopping, frozen, hung, or on a bad disk. The
//! process is dead (connections refused) until [`Nexus::start`]. Start at [`Nexus`].

mod answers;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::StatusCode;

use super::effects::Ledger;
use super::port::Port;
use super::volume::{Disk, Volume};
use super::web;

/// How long things take. The defaults are shortened; the measured times are in the comments.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// From the process's start to its first answer; measured 12.5 to 14.7 s.
    pub start: Duration,
    /// How long a stopping Nexus answers 503; measured 0.5 s.
    pub stopping: Duration,
    /// Until the database gives up on a full disk; measured 20 s.
    pub database_closes: Duration,
    /// Until logins and checks hang too on a hung disk; measured 10 s.
    pub logins_hang: Duration,
    /// Acknowledged uploads of this age are lost on SIGKILL; measured 0.13 to 0.5 s.
    pub unsaved: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            start: Duration::from_millis(150),
            stopping: Duration::from_millis(100),
            database_closes: Duration::from_secs(2),
            logins_hang: Duration::from_secs(1),
            unsaved: Duration::from_millis(100),
        }
    }
}

/// How every answer is spoilt, for scenarios in which something else answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Twist {
    #[default]
    None,
    /// A proxy in front answers with its own error page.
    ProxyError(StatusCode),
    /// Right, but late.
    Slow(Duration),
    /// Headers of a Nexus, bytes of nobody.
    Garbage,
    /// A body that never ends.
    Endless,
}

/// Why a Nexus did not come up.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The process exits by itself; start again when the disk is sound.
    #[error("unable to update instance pid: the disk is full or read-only")]
    Disk,
    #[error("failed to listen on {address}")]
    Listen { address: SocketAddr, source: io::Error },
}

/// One Nexus process at a fixed address.
pub struct Nexus {
    name: String,
    port: Port,
    process: Arc<Process>,
    timing: Timing,
}

/// What the handlers share.
struct Process {
    name: String,
    timing: Timing,
    ledger: Ledger,
    state: Mutex<State>,
}

struct State {
    volume: Volume,
    stopping: bool,
    /// Read-only by REST or by the marker.
    frozen: bool,
    twist: Twist,
    /// Every thread that logs hangs, until the process ends.
    deadlocked: bool,
}

impl Nexus {
    /// A Nexus of `name` that will listen on `ip`, not started yet.
    pub async fn new(name: &str, ip: IpAddr, timing: Timing, ledger: Ledger) -> io::Result<Self> {
        let state =
            State { volume: Volume::default(), stopping: false, frozen: false, twist: Twist::None, deadlocked: false };
        let process = Arc::new(Process { name: name.to_owned(), timing, ledger, state: Mutex::new(state) });
        let serving = process.clone();
        let service = web::service(move |request| answers::answer(serving.clone(), request));
        let port = Port::reserve(ip, web::handler(service)).await?;
        Ok(Self { name: name.to_owned(), port, process, timing })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    pub async fn is_running(&self) -> bool {
        self.port.is_alive().await
    }

    /// Starts the process on `volume` and returns when it answers. Until then it refuses.
    pub async fn start(&self, volume: Volume) -> Result<(), StartError> {
        if self.is_running().await {
            return Ok(());
        }
        if matches!(volume.disk(), Disk::Full(_) | Disk::ReadOnly(_)) {
            return Err(StartError::Disk);
        }
        tokio::time::sleep(self.timing.start).await;
        {
            let mut state = self.process.lock();
            state.frozen = volume.read(|content| content.frozen_marker);
            state.volume = volume;
            state.stopping = false;
            state.deadlocked = false;
        }
        let address = self.address();
        self.port.restart().await.map_err(|source| StartError::Listen { address, source })
    }

    /// As SIGTERM: 503 on every path for a moment, then gone. On a full or read-only disk it answers
    /// 503 and never ends: the return value says whether the process is gone.
    pub async fn stop(&self) -> bool {
        let disk = {
            let mut state = self.process.lock();
            state.stopping = true;
            if state.deadlocked { None } else { Some(state.volume.disk()) }
        };
        if !matches!(disk, Some(Disk::Sound | Disk::Hung(_))) {
            return false;
        }
        tokio::time::sleep(self.timing.stopping).await;
        self.port.kill().await;
        true
    }

    /// As SIGKILL. What had been acknowledged in the last moment is lost.
    pub async fn kill(&self) {
        if self.is_running().await {
            self.port.kill().await;
            let volume = self.process.lock().volume.clone();
            volume.write(|content| content.forget_younger_than(self.timing.unsaved));
        }
    }

    /// As SIGSTOP: connections are accepted, nobody answers.
    pub fn freeze(&self) {
        self.port.freeze();
    }

    /// As SIGCONT.
    pub fn thaw(&self) {
        self.port.thaw();
    }

    /// Spoils every answer until it is set back.
    pub fn twist(&self, twist: Twist) {
        self.process.lock().twist = twist;
    }

    /// The volume it runs on, or ran on last.
    pub fn volume(&self) -> Volume {
        self.process.lock().volume.clone()
    }

    /// Breaks the disk under it, or makes room again: a Nexus whose disk was full or read-only stays
    /// deadlocked until it is restarted, one whose disk hung goes on.
    pub fn set_disk(&self, disk: Disk) {
        let mut state = self.process.lock();
        let was_bad = matches!(state.volume.disk(), Disk::Full(_) | Disk::ReadOnly(_));
        state.deadlocked |= was_bad && disk == Disk::Sound;
        state.volume.set_disk(disk);
    }
}

impl Process {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no panic while held")
    }

    /// Waits as a thread does that must write a log line or ask the database under a bad disk.
    async fn login(&self) {
        let (volume, deadlocked) = {
            let state = self.lock();
            (state.volume.clone(), state.deadlocked)
        };
        if deadlocked {
            std::future::pending::<()>().await;
        }
        if let Disk::Hung(since) = volume.disk()
            && since.elapsed() >= self.timing.logins_hang
        {
            volume.until_not_hung().await;
        }
    }

    /// Whether the database has closed itself on a full disk.
    fn database_closed(&self, disk: Disk) -> bool {
        matches!(disk, Disk::Full(since) if since.elapsed() >= self.timing.database_closes)
    }
}

/// A bad disk that begins now.
pub fn full_now() -> Disk {
    Disk::Full(Instant::now())
}
