//! From kill -9 of a target to the signal Down, by the real daemon's journal.

use std::time::Duration;

use understudy_core::{Reading, Record};
use understudy_probes::clock;

use super::Row;
use super::daemon::{Daemon, Settings, Target};
use super::serve::Servers;

/// Each is a process of its own; their places are scattered over the second.
const TARGETS: usize = 12;
/// Three looks, a second apart, the first at most a second after the kill.
const THEORY_S: f64 = 3.0;
const ALLOWED_S: f64 = 0.05;

/// The slowest of a dozen.
pub async fn rows() -> anyhow::Result<Vec<Row>> {
    let directory = tempfile::tempdir()?;
    let neutral = Servers::start("127.0.9.9", 1).await?;
    let mut targets = Vec::new();
    for _ in 0..TARGETS {
        targets.push(Servers::start("127.0.0.1", 1).await?);
    }
    let each_second = |(servers, domain): (&Servers, _)| Target::each_second(servers.addresses[0], domain);
    let settings = Settings {
        state: directory.path().join("state"),
        neutral: neutral.addresses[0],
        pairs: vec![targets.iter().zip(["service", "control_plane"].into_iter().cycle()).map(each_second).collect()],
    };
    let mut daemon = Daemon::start(directory.path(), &settings)?;
    let became = |up: bool| move |record: &Record| matches!(record, Record::Signal { to, .. } if if up { to.is_up() } else { to.is_down() });
    let (up, down) = (became(true), became(false));
    daemon.records(TARGETS, Duration::from_secs(20), |entry| up(&entry.record)).await?;
    let killed_ms = clock::now().boot_ms;
    targets.iter_mut().try_for_each(Servers::kill)?;
    let fallen = daemon.records(TARGETS, Duration::from_secs(10), |entry| down(&entry.record)).await?;

    let took =
        fallen.iter().map(|entry| Duration::from_millis(entry.at.boot_ms.saturating_sub(killed_ms)).as_secs_f64());
    let mut took: Vec<f64> = took.collect();
    took.sort_by(f64::total_cmp);
    let refused = fallen.iter().filter(|entry| {
        matches!(entry.record, Record::Signal { to: Reading::Down(understudy_core::Reason::Refused), .. })
    });
    let note = format!(
        "n = {TARGETS}, {} refused; fastest {:.2} s; period 1 s, fall 3: at most {THEORY_S} s in theory",
        refused.count(),
        took[0]
    );
    let slowest = took[took.len() - 1];
    Ok(vec![Row::at_most("kill -9 of a target to Down, slowest", slowest, THEORY_S + ALLOWED_S, "s", note)])
}
