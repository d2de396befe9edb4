//! Time as a value: the shell reads the clocks, the core only compares.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One reading of the clocks, taken by the shell at the moment an event is handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Now {
    /// Milliseconds since the machine's boot, suspend included (`CLOCK_BOOTTIME`).
    pub boot_ms: u64,
    /// Milliseconds since the Unix epoch. Shown and compared with other machines' times, never used to measure a wait.
    pub wall_ms: i64,
    /// Which boot `boot_ms` counts from; values of two boots can not be compared.
    pub boot_id: u64,
}

impl Now {
    /// The time that went by since `boot_ms`; zero if that lies ahead.
    #[must_use]
    pub fn since(self, boot_ms: u64) -> Duration {
        Duration::from_millis(self.boot_ms.saturating_sub(boot_ms))
    }

    /// By how many milliseconds wall and monotonic clock parted since `earlier`: somebody set the wall clock. Of two boots
    /// nobody can tell.
    #[must_use]
    pub fn parted_since(self, earlier: Now) -> u64 {
        if self.boot_id != earlier.boot_id {
            return 0;
        }
        let gap = signed(self.boot_ms.saturating_sub(earlier.boot_ms));
        self.wall_ms.saturating_sub(earlier.wall_ms).abs_diff(gap)
    }
}

impl std::ops::Add<Duration> for Now {
    type Output = Now;

    /// The same clocks, `by` later.
    fn add(self, by: Duration) -> Now {
        let ms = millis(by);
        Now { boot_ms: self.boot_ms + ms, wall_ms: self.wall_ms.saturating_add(signed(ms)), boot_id: self.boot_id }
    }
}

/// `d` in whole milliseconds; the longest representable time where it does not fit.
#[must_use]
pub fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

/// `ms` as a signed number; the largest one where it does not fit.
#[must_use]
pub fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}
