//! A bounded series of looks at something that is not there yet.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::time::{Instant, sleep};

/// Short at first, so that what comes at once costs nothing; then twice as long each time, up to 2 s.
const BETWEEN: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(50))
    .with_max_delay(Duration::from_secs(2))
    .without_max_times();

/// Paces the looks of a step that waits for the world.
pub(crate) struct Looks {
    deadline: Instant,
    between: ExponentialBackoff,
}

impl Looks {
    /// Looks for `within` from now on.
    pub(crate) fn within(within: Duration) -> Self {
        Self::until(Instant::now() + within)
    }

    /// Looks until `deadline`.
    pub(crate) fn until(deadline: Instant) -> Self {
        Self { deadline, between: BETWEEN.build() }
    }

    /// Waits until the next look is due; false, at once, if the time would be over by then.
    pub(crate) async fn next(&mut self) -> bool {
        let Some(wait) = self.between.next() else { return false };
        if Instant::now() + wait >= self.deadline {
            return false;
        }
        sleep(wait).await;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn looks_come_ever_slower_and_end_with_the_time() {
        let mut looks = Looks::within(Duration::from_secs(10));
        let start = Instant::now();

        let mut at = vec![];
        while looks.next().await {
            // The timer rounds each wait up to a millisecond.
            at.push(start.elapsed().as_millis() / 10 * 10);
        }

        assert_eq!(at, [50, 150, 350, 750, 1550, 3150, 5150, 7150, 9150]);
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}
