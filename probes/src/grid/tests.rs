use std::sync::Mutex;

use tokio::time::Instant;
use understudy_core::{Observation, Reading, Reason};

use super::*;

const PERIOD: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_millis(800);

#[test]
fn places_are_the_same_whoever_asks_when() {
    let grid = Grid::new(ms(250), PERIOD);

    assert_eq!(grid.next(ms(0)), ms(250));
    assert_eq!(grid.next(ms(250)), ms(250));
    assert_eq!(grid.next(ms(251)), ms(1250));
    assert_eq!(grid.next(ms(987_654_321)), ms(987_655_250));
    assert_eq!(Grid::new(ms(7250), PERIOD), grid);
}

#[test]
fn probes_of_one_period_are_scattered_evenly() {
    for of in [1, 2, 3, 10, 100, 1000] {
        let mut phases: Vec<Duration> = (0..of).map(|n| Grid::scattered(PERIOD, n).next(Duration::ZERO)).collect();
        phases.sort();
        phases.push(phases[0] + PERIOD);
        let widest = phases.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();

        let even = PERIOD / u32::try_from(of).unwrap();
        assert!(widest <= 2 * even, "{of}: {widest:?}");
    }
}

#[test]
fn a_long_period_does_not_overflow() {
    let year = Duration::from_secs(365 * 24 * 3600);

    assert!(Grid::scattered(year, usize::MAX).next(Duration::ZERO) < year);
}

#[tokio::test(start_paused = true)]
async fn rounds_start_at_the_grid_however_long_a_look_takes() {
    let world = World::new(|n| Plan { takes: ms([0, 799, 300, 1, 500][n % 5]), stall: Duration::ZERO });

    let rounds = world.watch(10).await;

    let starts: Vec<u128> = rounds.iter().map(|r| u128::from(r.look.observation.started_ms)).collect();
    assert_eq!(starts, (1..=10).map(|n| n * 1000).collect::<Vec<_>>());
    assert!(rounds.iter().all(|r| r.look.observation.reading == Reading::Up && r.missed == 0));
}

#[tokio::test(start_paused = true)]
async fn a_stall_during_a_look_makes_this_round_late_and_no_other() {
    // The third look is over after 100 ms, but we read it 5 s later.
    let world = World::new(|n| Plan { takes: ms(100), stall: if n == 2 { ms(5000) } else { Duration::ZERO } });

    let rounds = world.watch(6).await;

    assert_eq!(readings(&rounds), [UP, UP, LATE_READING, UP, UP, UP]);
    assert_eq!(rounds[3].missed, 5, "places at 4 to 8 s");
    assert_eq!(rounds[3].look.observation.started_ms, 9000, "the first place after the stall");
    assert!(rounds[2].look.observation.detail.as_deref().unwrap().starts_with("our own stall: ended"));
}

#[tokio::test(start_paused = true)]
async fn a_stall_shorter_than_the_leeway_changes_nothing() {
    let world = World::new(|n| Plan { takes: ms(800), stall: if n == 1 { ms(299) } else { Duration::ZERO } });

    assert_eq!(readings(&world.watch(3).await), [UP, UP, UP]);
}

#[tokio::test(start_paused = true)]
async fn a_suspended_machine_makes_the_round_that_slept_through_it_late() {
    let world = World::new(|_| Plan { takes: ms(1), stall: Duration::ZERO });
    // While the watch waits for its first place, the machine sleeps for an hour that tokio's timers do not count.
    world.clock.jump(Duration::from_secs(3600));
    let before = World::new(|_| Plan { takes: ms(1), stall: Duration::ZERO });

    let slept = async {
        let watched = before.watch(3);
        let jump = async {
            time::advance(ms(500)).await;
            before.clock.jump(Duration::from_secs(3600));
        };
        tokio::join!(watched, jump).0
    };
    let rounds = slept.await;

    assert_eq!(readings(&rounds), [LATE_READING, UP, UP]);
    assert_eq!(rounds[0].look.observation.started_ms, 1000, "it tells which place was missed");
    assert_eq!(rounds[1].look.observation.started_ms % 1000, 0, "the grid is kept");
    assert_eq!(readings(&world.watch(1).await), [UP], "a watch that begins later has missed nothing");
}

#[tokio::test(start_paused = true)]
async fn a_look_that_overruns_into_the_next_place_does_not_shift_the_grid() {
    // 1.1 s is within time-out (0.8 s) and leeway (0.3 s), but past the next place.
    let world = World::new(|n| Plan { takes: ms(if n == 0 { 1100 } else { 10 }), stall: Duration::ZERO });

    let rounds = world.watch(3).await;

    assert_eq!(readings(&rounds), [UP, UP, UP]);
    assert_eq!(rounds[1].lateness, ms(100));
    assert_eq!(rounds[2].look.observation.started_ms, 3000);
}

const UP: Reading = Reading::Up;
const LATE_READING: Reading = Reading::Unknown(Reason::Late);

/// How the `n`th look goes.
struct Plan {
    /// By tokio's clock.
    takes: Duration,
    /// On top, by the machine's clock alone.
    stall: Duration,
}

struct World<F> {
    clock: TestClock,
    plan: F,
    looks: Mutex<usize>,
}

impl<F: Fn(usize) -> Plan + Send + Sync> World<F> {
    fn new(plan: F) -> Self {
        // The first place is at 1 s.
        let clock = TestClock { begin: Instant::now(), skipped: Mutex::new(ms(1)) };
        Self { clock, plan, looks: Mutex::new(0) }
    }

    async fn watch(&self, rounds: usize) -> Vec<Round<Look>> {
        let mut seen = Vec::new();
        watch(self, Grid::new(Duration::ZERO, PERIOD), &self.clock, |round| {
            seen.push(round);
            if seen.len() == rounds { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .await;
        seen
    }
}

impl<F: Fn(usize) -> Plan + Send + Sync> Looks for World<F> {
    type Seen = Look;

    async fn look(&self) -> Look {
        let started_ms = millis(self.clock.since_boot());
        let n = {
            let mut looks = self.looks.lock().unwrap();
            *looks += 1;
            *looks - 1
        };
        let plan = (self.plan)(n);
        time::sleep(plan.takes).await;
        self.clock.jump(plan.stall);
        let observation = Observation { reading: Reading::Up, started_ms, latency_ms: 0, detail: None };
        Look { observation, mirror: None, clock_error_ms: None }
    }

    fn timeout(&self) -> Duration {
        TIMEOUT
    }

    fn late(&self, late: Late) -> Look {
        Look::late(&late)
    }
}

/// tokio's paused clock, and what was skipped beside it.
struct TestClock {
    begin: Instant,
    skipped: Mutex<Duration>,
}

impl TestClock {
    fn jump(&self, by: Duration) {
        *self.skipped.lock().unwrap() += by;
    }
}

impl Clock for TestClock {
    fn since_boot(&self) -> Duration {
        self.begin.elapsed() + *self.skipped.lock().unwrap()
    }
}

fn readings(rounds: &[Round<Look>]) -> Vec<Reading> {
    rounds.iter().map(|round| round.look.observation.reading).collect()
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
