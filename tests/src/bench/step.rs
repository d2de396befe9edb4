//! Events each second through the pure core, on one thread.
//!
//! In: the world of the core's own tests. Out: millions of events a second. The events are made beforehand, so that only
//! `step` is timed.

use std::time::{Duration, Instant};

use understudy_core::{
    Domain, Event, MirrorFacts, Now, Observation, Policy, Reading, State, WitnessReport, step as core_step,
};

use super::Row;
use crate::core_world::{ALIVE, DEAD, PAIR, Sees, World, policy};

const BAR: f64 = 1.0;
/// Rounds of one second of the world that are made at once.
const BATCH: usize = 500;
const BATCHES: usize = 200;

/// With nothing the matter, and while a human is asked.
pub fn rows() -> anyhow::Result<Vec<Row>> {
    let healthy = World::healthy(policy());
    let mut policy = policy();
    // The question stays open for as long as is measured.
    policy.pairs[0].approval_ttl = Duration::from_secs(1_000_000);
    let mut asking = World::healthy(policy);
    asking.sees = DEAD;
    asking.run(20);
    anyhow::ensure!(asking.request().is_some(), "nobody is asked");
    let asked = asking.request();
    let row = |what, (speed, events): (f64, usize)| {
        Row::at_least(what, speed, BAR, "M events/s", format!("{events} events, one thread"))
    };
    let rows = vec![
        row("step, all is well", speed(&mut { healthy }, ALIVE)),
        row("step, a question is open", speed(&mut asking, DEAD)),
    ];
    anyhow::ensure!(asking.request() == asked, "the question was closed meanwhile");
    Ok(rows)
}

/// Millions of events a second, and how many were taken.
fn speed(world: &mut World, sees: Sees) -> (f64, usize) {
    let (mut took, mut count) = (Duration::ZERO, 0);
    for _ in 0..BATCHES {
        let batch: Vec<(Now, Event)> = (0..BATCH).flat_map(|_| second(world, sees)).collect();
        count += batch.len();
        let state = world.state.take().expect("the state is put back after each batch");
        let began = Instant::now();
        let state = through(&world.policy, state, batch);
        took += began.elapsed();
        world.state = Some(state);
    }
    #[allow(clippy::cast_precision_loss, reason = "far fewer than 2^52 events")]
    let speed = count as f64 / took.as_secs_f64() / 1e6;
    (speed, count)
}

fn through(policy: &Policy, mut state: State, batch: Vec<(Now, Event)>) -> State {
    for (now, event) in batch {
        let commands;
        (state, commands) = core_step(policy, state, event, now);
        std::hint::black_box(&commands);
    }
    state
}

/// What the loop takes in during one second: four ticks, and every look once.
fn second(world: &mut World, sees: Sees) -> Vec<(Now, Event)> {
    let mut events = Vec::with_capacity(13);
    for _ in 0..4 {
        world.now = world.now + Duration::from_millis(250);
        events.push((world.now, Event::Tick));
    }
    let now = world.now;
    let started_ms = now.boot_ms;
    let seen = |reading| Observation { reading, started_ms, latency_ms: 1, detail: None };
    let read = |probe, reading| Event::Read { pair: PAIR, probe, observation: seen(reading) };
    let facts = MirrorFacts { images: vec![world.image()] };
    let domains = vec![(Domain::Service, sees.web), (Domain::ControlPlane, sees.api)];
    events.extend(
        [
            Event::Lease { pair: PAIR, until_ms: Some(started_ms + 30_000), holder: None, epoch: None },
            Event::Readiness { pair: PAIR, missing: vec![] },
            Event::SelfRead { check: 0, observation: seen(Reading::Up) },
            read(0, sees.web),
            read(1, sees.api),
            read(2, sees.ceph),
            read(4, world.standby),
            Event::MirrorRead { pair: PAIR, probe: 3, started_ms, facts },
            Event::WitnessRead { pair: PAIR, witness: 0, started_ms, report: WitnessReport::Sees { domains } },
        ]
        .map(|event| (now, event)),
    );
    events
}
