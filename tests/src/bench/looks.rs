//! A thousand HTTP targets each second on new connections: what our probes cost beside a bare loop, and how late they are.
//!
//! Both make the same requests from the same places of the second, one task for each target, in turns, in one process.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::time::{ClockId, clock_gettime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use understudy_config::{Config, Loaded, Look};
use understudy_core::{Reading, Site};
use understudy_probes::{BootClock, Clock as _, Grid, Probe, Shared, watch};

use super::daemon::{Settings, Target};
use super::serve::Servers;
use super::{Row, quantile};

const TARGETS: usize = 1000;
const PERIOD: Duration = Duration::from_secs(1);
/// Seconds of each turn, and turns of each of the two.
const ROUNDS: usize = 5;
const TURNS: usize = 4;
const CPU_BAR: f64 = 1.25;
const LATE_BAR_MS: f64 = 5.0;

/// What all turns of one of the two took together.
#[derive(Default)]
struct Turns {
    cpu: Duration,
    late_ms: Vec<f64>,
    without_answer: usize,
}

/// CPU seconds beside the bare loop's, and lateness against the grid.
pub async fn rows() -> anyhow::Result<Vec<Row>> {
    let servers = Servers::start("127.0.0.1", TARGETS).await?;
    let probes = probes(&servers.addresses).await?;
    let (mut ours, mut bare) = (Turns::default(), Turns::default());
    for _ in 0..TURNS {
        bare.add(bare_turn(&servers.addresses)).await?;
        ours.add(our_turn(&probes)).await?;
    }
    let (ours_s, bare_s) = (ours.cpu.as_secs_f64(), bare.cpu.as_secs_f64());
    let looks = TURNS * ROUNDS * TARGETS;
    let cpu = format!("{looks} looks each: probes {ours_s:.2} s of CPU, bare TcpStream loop {bare_s:.2} s");
    let [p50, p99, worst] = ours.late();
    let [bare_p50, bare_p99, bare_worst] = bare.late();
    let late = format!(
        "p50 {p50:.2} ms, worst {worst:.1} ms; the bare loop: p50 {bare_p50:.2} ms, p99 {bare_p99:.2} ms, worst {bare_worst:.1} ms"
    );
    // A look that was given up costs less than one that was answered, so that the ratio is worth nothing then.
    let without_answer = f64::from(u32::try_from(ours.without_answer + bare.without_answer).unwrap_or(u32::MAX));
    let lost = format!("{} of ours, {} of the bare loop's", ours.without_answer, bare.without_answer);
    Ok(vec![
        Row::at_most("1,000 HTTP targets each second, looks without an answer", without_answer, 0.0, "looks", lost),
        Row::at_most("1,000 HTTP targets each second, CPU", ours_s / bare_s, CPU_BAR, "× bare loop", cpu),
        Row::at_most("1,000 HTTP targets each second, lateness p99", p99, LATE_BAR_MS, "ms", late),
    ])
}

impl Turns {
    async fn add(&mut self, mut tasks: JoinSet<(Vec<f64>, usize)>) -> anyhow::Result<()> {
        let before = cpu();
        while let Some(done) = tasks.join_next().await {
            let (late_ms, without_answer) = done?;
            self.late_ms.extend(late_ms);
            self.without_answer += without_answer;
        }
        self.cpu += cpu() - before;
        Ok(())
    }

    fn late(&mut self) -> [f64; 3] {
        self.late_ms.sort_by(f64::total_cmp);
        [0.5, 0.99, 1.0].map(|share| quantile(&self.late_ms, share))
    }
}

/// User and system time of all our threads.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// A probe for each address, as the agent makes it.
async fn probes(addresses: &[SocketAddr]) -> anyhow::Result<Vec<Arc<Probe>>> {
    let first = *addresses.first().context("no servers")?;
    let settings = Settings {
        state: "/nonexistent".into(),
        neutral: first,
        pairs: vec![vec![Target::each_second(first, "service")]],
    };
    let Loaded { config, .. } = Config::from_text("bench.yaml", &settings.text(), [])?;
    let (mut shared, mut probes) = (Shared::new(), Vec::new());
    for address in addresses {
        let mut probe = config.pairs[0].probes[0].clone();
        let Look::Http(http) = &mut probe.look else { anyhow::bail!("not an HTTP probe") };
        http.url = format!("http://{address}/").parse()?;
        probes.push(Arc::new(Probe::of_pair(&probe, &config.pairs[0], Site::A, &config, &mut shared).await?));
    }
    ensure!(probes.iter().all(|probe| probe.period() == PERIOD), "the probes have another period");
    Ok(probes)
}

fn our_turn(probes: &[Arc<Probe>]) -> JoinSet<(Vec<f64>, usize)> {
    let tasks = probes.iter().cloned().enumerate().map(|(n, probe)| async move {
        let (mut late_ms, mut without_answer) = (Vec::with_capacity(ROUNDS), 0);
        watch(&*probe, Grid::scattered(PERIOD, n), &BootClock, |round| {
            late_ms.push(round.lateness.as_secs_f64() * 1e3);
            without_answer += usize::from(round.look.observation.reading != Reading::Up);
            if late_ms.len() < ROUNDS { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })
        .await;
        (late_ms, without_answer)
    });
    tasks.collect()
}

fn bare_turn(addresses: &[SocketAddr]) -> JoinSet<(Vec<f64>, usize)> {
    let tasks = addresses.iter().copied().enumerate().map(|(n, address)| async move {
        let request = format!(
            "GET / HTTP/1.1\r\nhost: {address}\r\nuser-agent: understudy/{}\r\nconnection: close\r\n\r\n",
            env!("CARGO_PKG_VERSION")
        );
        let now = BootClock.since_boot();
        let first = Grid::scattered(PERIOD, n).next(now) - now;
        let mut places = interval_at(Instant::now() + first, PERIOD);
        places.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let (mut late_ms, mut without_answer) = (Vec::with_capacity(ROUNDS), 0);
        for _ in 0..ROUNDS {
            let due = places.tick().await;
            late_ms.push(due.elapsed().as_secs_f64() * 1e3);
            without_answer += usize::from(!matches!(bare_look(address, request.as_bytes()).await, Ok(true)));
        }
        (late_ms, without_answer)
    });
    tasks.collect()
}

/// Whether the head of an answer with 200 came.
async fn bare_look(address: SocketAddr, request: &[u8]) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request).await?;
    let (mut answer, mut length) = ([0; 1024], 0);
    while !answer[..length].windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut answer[length..]).await? {
            0 => return Ok(false),
            more => length += more,
        }
    }
    Ok(answer.starts_with(b"HTTP/1.1 200"))
}
