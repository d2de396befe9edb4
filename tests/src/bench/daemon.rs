//! The real daemon in a process of its own, in `observe`, with probes of our choice.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio::process::{Child, Command};
use understudy_agent::journal::{self, Entry};
use understudy_probes::clock;

/// Between two looks at the journal; what is measured is read from the times in it.
const LOOK: Duration = Duration::from_millis(50);

/// What one probe looks at.
pub struct Target {
    address: SocketAddr,
    /// `service` or `control_plane`.
    domain: &'static str,
    /// `period`, `timeout` and the rest, as they are written.
    grid: &'static str,
}

impl Target {
    /// A web server, looked at each second; three in a row count.
    #[must_use]
    pub fn each_second(address: SocketAddr, domain: &'static str) -> Self {
        Self { address, domain, grid: "period: 1s, timeout: 900ms, fall: 3, rise: 2" }
    }

    /// A web server, looked at as often as the defaults say.
    #[must_use]
    pub fn by_default(address: SocketAddr, domain: &'static str) -> Self {
        Self { address, domain, grid: "timeout: 3s" }
    }
}

/// The daemon's settings.
pub struct Settings {
    /// The directory of the journal.
    pub state: PathBuf,
    /// Where the self-check connects to.
    pub neutral: SocketAddr,
    /// The probes of each pair.
    pub pairs: Vec<Vec<Target>>,
}

impl Settings {
    /// As they are written.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!(
            "site: bench-b\nmode: observe\nstate: {{ file: {} }}\nself_checks:\n  \
             - {{ name: neutral, tcp: {{ address: '{}' }} }}\npairs:\n",
            self.state.display(),
            self.neutral
        );
        for (n, targets) in self.pairs.iter().enumerate() {
            text.push_str(&PAIR.replace("@N@", &n.to_string()));
            for (n, Target { address, domain, grid }) in targets.iter().enumerate() {
                let _infallible = writeln!(
                    text,
                    "      - {{ name: web-{n}, domain: {domain}, http: {{ url: 'http://{address}/' }}, {grid} }}"
                );
            }
        }
        text
    }
}

/// Nothing of it but the probes is ever asked in `observe`.
const PAIR: &str = "  - name: pair-@N@
    site_down_when: { at_least: 2, of: [service, control_plane] }
    rpo_max: 20m
    storage:
      hooks:
        status: { command: { command: [/bin/true] } }
        promote: { command: { command: [/bin/true] } }
    verify: { http: { url: 'http://127.0.9.1:8081/' } }
    route:
      - webhook:
          url: 'http://127.0.9.2:8082/switch'
          read: { url: 'http://127.0.9.2:8082/active', pointer: /active, expect: b }
    probes:
";

/// A daemon that runs; killed when dropped.
pub struct Daemon {
    directory: PathBuf,
    state: PathBuf,
    process: Child,
    /// When it was started, in milliseconds of `Now::boot_ms`.
    pub started_ms: u64,
}

impl Daemon {
    /// Starts it with `settings`, which are left in `directory`.
    pub fn start(directory: &Path, settings: &Settings) -> anyhow::Result<Self> {
        let path = directory.join("understudy.yaml");
        std::fs::write(&path, settings.text())?;
        let log = std::fs::File::create(directory.join("understudy.log"))?;
        let started_ms = clock::now().boot_ms;
        let process = Command::new(std::env::current_exe()?)
            .args(["understudy", "run", "--config"])
            .arg(path)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        Ok(Self { directory: directory.to_owned(), state: settings.state.clone(), process, started_ms })
    }

    /// Waits until the journal holds at least `count` records of this kind, and returns them.
    pub async fn records(
        &mut self,
        count: usize,
        within: Duration,
        wanted: impl Fn(&Entry) -> bool,
    ) -> anyhow::Result<Vec<Entry>> {
        let end = Instant::now() + within;
        let (mut found, mut known): (Vec<Entry>, u64) = (Vec::new(), 0);
        loop {
            let story = if self.state.exists() { journal::read_after(&self.state, known, usize::MAX)? } else { vec![] };
            known = story.last().map_or(known, |entry| entry.seq);
            found.extend(story.into_iter().filter(|entry| wanted(entry)));
            if found.len() >= count {
                return Ok(found);
            }
            self.check_alive()?;
            if Instant::now() > end {
                bail!("{} records of {count} after {within:?}\n{}", found.len(), self.log());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// An error if it has ended.
    pub fn check_alive(&mut self) -> anyhow::Result<()> {
        match self.process.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("the daemon ended, {status}\n{}", self.log()),
        }
    }

    /// Its resident memory in MiB.
    pub fn resident_mib(&self) -> anyhow::Result<f64> {
        let id = self.process.id().context("the daemon has ended")?;
        let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kib: f64 = line.trim().trim_end_matches(" kB").trim().parse()?;
        Ok(kib / 1024.0)
    }

    fn log(&self) -> String {
        let log = std::fs::read_to_string(self.directory.join("understudy.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }
}
