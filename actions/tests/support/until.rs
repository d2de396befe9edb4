//! The one wait of the tests: for something that other processes bring about.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// Looks again and again until there is something to see, and returns it. Panics when `limit` is over.
pub async fn until<T>(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    let mut grid = interval(PAUSE);
    grid.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        grid.tick().await;
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(Instant::now() < end, "waited {limit:?} in vain until {what}");
    }
}
