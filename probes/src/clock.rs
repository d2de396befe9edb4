//! The clocks of this machine, as the core's [`Now`].
//!
//! Time that a wait is measured by is `CLOCK_BOOTTIME`: no one sets it, and a suspended machine shows in it. The wall clock is
//! for humans and for comparing with other machines.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use sha2::{Digest, Sha256};
use understudy_core::{Now, millis, signed};

/// Reads the clocks.
#[must_use]
pub fn now() -> Now {
    Now { boot_ms: millis(since_boot()), wall_ms: wall_ms(), boot_id: *BOOT_ID }
}

/// Time since the machine's boot, suspend included.
#[must_use]
pub fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Milliseconds since the Unix epoch; negative on a machine whose clock was never set.
fn wall_ms() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(after) => signed(millis(after)),
        Err(before) => -signed(millis(before.duration())),
    }
}

/// Which boot this is. A container sees its host's. Where the kernel does not tell, every start of ours counts as a boot of
/// its own, so that times of two starts are never compared.
static BOOT_ID: LazyLock<u64> = LazyLock::new(|| {
    let text =
        std::fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_else(|_| uuid::Uuid::new_v4().into_bytes().into());
    let digest = Sha256::digest(&text);
    u64::from_be_bytes([digest[0], digest[1], digest[2], digest[3], digest[4], digest[5], digest[6], digest[7]])
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_since_boot_goes_on_and_agrees_with_the_kernel() {
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();

        let (first, second) = (now(), now());

        assert!(second.boot_ms >= first.boot_ms);
        assert!((since_boot().as_secs_f64() - uptime).abs() < 1.0);
    }

    #[test]
    fn the_wall_clock_is_of_this_century_and_the_boot_is_always_the_same() {
        let year_2020_ms = 1_577_836_800_000;

        assert!(now().wall_ms > year_2020_ms);
        assert_eq!(now().boot_id, now().boot_id);
        assert_ne!(now().boot_id, 0);
    }
}
