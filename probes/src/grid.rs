//! When to look: a fixed grid, start to start, that nobody else can move.
//!
//! In: a [`Grid`] and something that looks. Out: one [`Look`] a round to whoever watches, from [`watch`], which the agent runs
//! in a task of its own for each probe, so that none delays another. A round that began or ended too late by our own fault (a
//! stall, a suspended machine, starvation) reads Unknown(Late); one stall costs the rounds that it covered, and the next
//! place of the grid is kept.
//!
//! Lateness is measured by `CLOCK_BOOTTIME`, in which a suspension shows; tokio's timers do not count it.

use std::future::Future;
use std::ops::ControlFlow;
use std::time::Duration;

use tokio::time;
use understudy_core::{WitnessReport, millis};

use crate::clock;
use crate::probe::{Look, Probe};
use crate::witness::{Witness, WitnessLook};

/// A round that begins or ends later than this is none, by our own fault. Far more than a timer and a busy machine need (a few
/// milliseconds), and less than the shortest stall at which answers were seen to be misjudged (0.3 to 0.5 s).
const LATE: Duration = Duration::from_millis(300);

/// The places in time at which a probe looks: `phase`, and then every `period`, counted from the machine's boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    phase: Duration,
    period: Duration,
}

impl Grid {
    /// A grid; only the part of `phase` within one period counts.
    ///
    /// # Panics
    /// If `period` is zero, which `config` refuses.
    #[must_use]
    pub fn new(phase: Duration, period: Duration) -> Self {
        assert!(!period.is_zero(), "a grid without a period has no places");
        Self { phase: rest(phase, period), period }
    }

    /// A grid whose phase is the `n`th of a sequence that fills a period evenly, however many there are: a thousand probes of
    /// one period do not all look at once.
    ///
    /// # Source
    /// Weyl's sequence with the golden ratio: any n + 1 of its first members have gaps of at most three lengths between them
    /// (three-gap theorem).
    #[must_use]
    pub fn scattered(period: Duration, n: usize) -> Self {
        /// The golden ratio's fraction, times 2^64.
        const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
        let part = u128::from(GOLDEN.wrapping_mul(n as u64));
        let phase = u64::try_from((period.as_nanos() * part) >> 64).unwrap_or(0);
        Self::new(Duration::from_nanos(phase), period)
    }

    /// The first place at or after `now`, both since the machine's boot.
    #[must_use]
    pub fn next(&self, now: Duration) -> Duration {
        let since = now.saturating_sub(self.phase);
        let into = rest(since, self.period);
        if now <= self.phase {
            self.phase
        } else if into.is_zero() {
            now
        } else {
            now - into + self.period
        }
    }

    /// How late a round may begin or end before it is none: 300 ms, and for a short period half of it.
    #[must_use]
    pub fn leeway(&self) -> Duration {
        LATE.min(self.period / 2)
    }
}

fn rest(time: Duration, period: Duration) -> Duration {
    let nanos = time.as_nanos() % period.as_nanos();
    // Less than `period`, of which seconds and nanoseconds fit.
    Duration::new(u64::try_from(nanos / 1_000_000_000).unwrap_or(0), u32::try_from(nanos % 1_000_000_000).unwrap_or(0))
}

/// A clock that shows a suspended machine. Tests bring their own.
pub trait Clock: Send + Sync {
    /// Time since the machine's boot.
    fn since_boot(&self) -> Duration;
}

/// The machine's own.
#[derive(Debug, Clone, Copy, Default)]
pub struct BootClock;

impl Clock for BootClock {
    fn since_boot(&self) -> Duration {
        clock::since_boot()
    }
}

/// Who looks.
pub trait Looks: Send + Sync {
    /// What a look brings.
    type Seen: Send;

    /// Looks once.
    fn look(&self) -> impl Future<Output = Self::Seen> + Send;

    /// The longest that a look takes by itself.
    fn timeout(&self) -> Duration;

    /// What stands for a look that was late by our own fault.
    fn late(&self, late: Late) -> Self::Seen;
}

/// A look that can not be used, since we ourselves were late.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Late {
    /// When it began or should have begun, in milliseconds of `Now::boot_ms`.
    pub started_ms: u64,
    /// How long it took, in milliseconds.
    pub latency_ms: u32,
    /// What happened.
    pub detail: String,
}

impl Looks for Probe {
    type Seen = Look;

    fn look(&self) -> impl Future<Output = Look> + Send {
        Probe::look(self)
    }

    fn timeout(&self) -> Duration {
        Probe::timeout(self)
    }

    fn late(&self, late: Late) -> Look {
        Look::late(&late)
    }
}

impl Looks for Witness {
    type Seen = WitnessLook;

    async fn look(&self) -> WitnessLook {
        let started_ms = clock::now().boot_ms;
        WitnessLook { started_ms, report: Witness::look(self).await }
    }

    fn timeout(&self) -> Duration {
        Witness::timeout(self)
    }

    fn late(&self, late: Late) -> WitnessLook {
        WitnessLook { started_ms: late.started_ms, report: WitnessReport::Absent { why: late.detail } }
    }
}

/// What one round brought.
#[derive(Debug, Clone, PartialEq)]
pub struct Round<Seen = Look> {
    /// What was seen; [`Looks::late`] if the round was late.
    pub look: Seen,
    /// How much later than its place it began.
    pub lateness: Duration,
    /// Places of the grid that were passed over since the round before, by our own fault.
    pub missed: u64,
}

/// Looks at every place of `grid` and hands each [`Round`] to `tell`, until that breaks.
///
/// `tell` must not wait: hand the round to a channel and go on.
pub async fn watch<L: Looks>(
    who: &L,
    grid: Grid,
    clock: &impl Clock,
    mut tell: impl FnMut(Round<L::Seen>) -> ControlFlow<()> + Send,
) {
    let mut place = grid.next(clock.since_boot());
    let mut missed = 0;
    loop {
        wait_until(place, clock).await;
        let lateness = clock.since_boot().saturating_sub(place);
        let look = if lateness > grid.leeway() {
            let detail = format!("our own stall: began {lateness:.1?} late");
            who.late(Late { started_ms: millis(place), latency_ms: 0, detail })
        } else {
            look_in_time(who, grid.leeway(), clock).await
        };
        if tell(Round { look, lateness, missed }).is_break() {
            return;
        }
        (place, missed) = next_place(grid, place, clock.since_boot());
    }
}

/// Looks once, now, apart from any grid; a look that ended too late by our own fault is as late as in a grid.
pub async fn look_now<L: Looks>(who: &L) -> L::Seen {
    look_in_time(who, LATE, &BootClock).await
}

async fn look_in_time<L: Looks>(who: &L, leeway: Duration, clock: &impl Clock) -> L::Seen {
    let started = clock.since_boot();
    // On the heap while it lasts: thousands of tasks that wait for their next place hold none.
    let look = Box::pin(who.look()).await;
    let took = clock.since_boot().saturating_sub(started);
    if took <= who.timeout() + leeway {
        return look;
    }
    let latency_ms = u32::try_from(took.as_millis()).unwrap_or(u32::MAX);
    let detail = format!("our own stall: ended {:.1?} after its time-out", took.saturating_sub(who.timeout()));
    who.late(Late { started_ms: millis(started), latency_ms, detail })
}

/// tokio's timer does not count a suspension and is right to a millisecond, so that the wait is looked at again.
async fn wait_until(place: Duration, clock: &impl Clock) {
    loop {
        let left = place.saturating_sub(clock.since_boot());
        if left.is_zero() {
            return;
        }
        time::sleep(left).await;
    }
}

/// The place after `last`, and how many lie between: a place that is past by more than a round may be late is not made up for.
fn next_place(grid: Grid, last: Duration, now: Duration) -> (Duration, u64) {
    let following = last + grid.period;
    if now <= following + grid.leeway() {
        return (following, 0);
    }
    let next = grid.next(now);
    let passed = (next - following).as_nanos() / grid.period.as_nanos();
    (next, u64::try_from(passed).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
