//! A bounded read on an OSD of a Ceph cluster, with a read-only user. Domain: `storage`. The only look that can say that A's
//! storage is down.
//!
//! It runs `rbd ls POOL`, which reads the object `rbd_directory` of the pool from its OSD. `ceph health` would not do: it is
//! HEALTH_OK for 15 minutes after the only OSD died, since a lone OSD has no peer to report it.
//!
//! | outcome | reading |
//! |---|---|
//! | exit 0 and a list | Up |
//! | exit 110 (timed out) or 111 (refused), or killed when time was up | Down(StorageSilent) |
//! | exit 13 (key, user or rights) or 108 (blocklisted) | Unknown(Forbidden) |
//! | exit 2 (no such pool) | Unknown(Unmapped) |
//! | no program, no right to run it, or it does not know our options | Unknown(ToolMissing) |
//! | exit 1 for want of a `ceph.conf`, or the program could not be started | Unknown(LocalFault) |
//! | exit 0 and no list | Unknown(Unparsable) |
//! | more than 4 MiB | Unknown(TooLarge) |
//! | anything else | Unknown(Unmapped) |

use std::time::Duration;

use understudy_config::CephLook;
use understudy_core::Reason;

use crate::ProbeError;
use crate::rbd::{self, Failure};
use crate::sight::Sight;

/// A Ceph cluster.
pub(crate) struct Ceph {
    command: Vec<String>,
    pool: String,
}

impl Ceph {
    pub(crate) fn new(look: &CephLook) -> Result<Self, ProbeError> {
        if look.rbd.is_empty() {
            return Err(ProbeError::Setting { what: "ceph.rbd", why: "it is empty: write a program".into() });
        }
        let mut command = look.rbd.clone();
        command.extend(["--conf".to_owned(), look.config.display().to_string()]);
        if let Some(user) = &look.user {
            command.extend(["--name".to_owned(), user.clone()]);
        }
        if let Some(keyring) = &look.keyring {
            command.extend(["--keyring".to_owned(), keyring.display().to_string()]);
        }
        Ok(Self { command, pool: look.pool.clone() })
    }

    pub(crate) async fn look(&self, within: Duration) -> Sight {
        match rbd::run(&self.command, &["ls", &self.pool, "--format", "json"], within).await {
            Ok(ran) => judge(&ran.stdout),
            Err(failure) => of_failure(failure),
        }
    }
}

pub(crate) fn judge(listing: &[u8]) -> Sight {
    match serde_json::from_slice::<Vec<String>>(listing) {
        Ok(_images) => Sight::up(),
        Err(error) => Sight::unknown(Reason::Unparsable, format!("rbd ls printed no list: {error}")),
    }
}

pub(crate) fn of_failure(failure: Failure) -> Sight {
    match failure {
        Failure::Silent(words) => Sight::down(Reason::StorageSilent, words),
        Failure::Forbidden(words) => Sight::unknown(Reason::Forbidden, words),
        Failure::NoTool(words) => Sight::unknown(Reason::ToolMissing, words),
        Failure::Local(words) => Sight::unknown(Reason::LocalFault, words),
        Failure::TooMuch(words) => Sight::unknown(Reason::TooLarge, words),
        Failure::NotFound(words) | Failure::Other(words) => Sight::unknown(Reason::Unmapped, words),
    }
}

#[cfg(test)]
mod tests {
    use understudy_core::Reading::{Down, Unknown, Up};

    use super::*;
    use crate::testing::{PATIENCE, Script, recorded};

    #[tokio::test]
    async fn every_recorded_end_of_rbd_has_its_reading() {
        let table = [
            (110, "err-primary-refused-rbd-all-timeouts-5", Down(Reason::StorageSilent)),
            (110, "err-primary-frozen-rbd-info-all-timeouts-5", Down(Reason::StorageSilent)),
            (110, "err-osd-down-rbd-info-osd-op-timeout-5", Down(Reason::StorageSilent)),
            (110, "err-unreachable-no-listener", Down(Reason::StorageSilent)),
            (13, "err-wrong-key", Unknown(Reason::Forbidden)),
            (13, "err-unknown-user", Unknown(Reason::Forbidden)),
            (13, "err-missing-keyring", Unknown(Reason::Forbidden)),
            (2, "err-no-pool-pool-status", Unknown(Reason::Unmapped)),
            (1, "err-missing-conf", Unknown(Reason::LocalFault)),
            (1, "err-primary-refused-rbd-connect-timeout-5", Unknown(Reason::ToolMissing)),
        ];
        for (exit, name, reading) in table {
            let script = format!("cat {} >&2; exit {exit}", recorded(&format!("{name}.stderr.txt")).display());

            assert_eq!(look(&script, PATIENCE).await.reading, reading, "{name}");
        }
    }

    #[tokio::test]
    async fn what_was_not_recorded_has_its_reading_too() {
        let table = [
            ("echo '[\"nexus-data\"]'", Up),
            ("echo '[]'", Up),
            ("echo nexus-data", Unknown(Reason::Unparsable)),
            ("exit 0", Unknown(Reason::Unparsable)),
            ("cat /dev/zero", Unknown(Reason::TooLarge)),
            ("exit 108", Unknown(Reason::Forbidden)),
            ("exit 111", Down(Reason::StorageSilent)),
            ("exit 1", Unknown(Reason::Unmapped)),
            ("exit 95", Unknown(Reason::Unmapped)),
            ("kill -SEGV $$", Unknown(Reason::Unmapped)),
        ];
        for (script, reading) in table {
            assert_eq!(look(script, PATIENCE).await.reading, reading, "{script}");
        }
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_killed_and_the_storage_is_silent() {
        let sight = look("sleep 600", Duration::from_millis(100)).await;

        assert_eq!(sight.reading, Down(Reason::StorageSilent));
    }

    #[tokio::test]
    async fn a_missing_program_says_nothing_about_the_storage() {
        let ceph = Ceph::new(&settings(vec!["/nonexistent/rbd".into()])).unwrap();

        assert_eq!(ceph.look(PATIENCE).await.reading, Unknown(Reason::ToolMissing));
    }

    #[tokio::test]
    async fn the_pool_is_read_as_the_user_that_the_file_names() {
        let script = Script::new("echo \"$@\" > $0.asked; echo '[]'");

        let sight = Ceph::new(&settings(script.words())).unwrap().look(Duration::from_secs(5)).await;

        assert_eq!(sight.reading, Up);
        let asked = script.asked();
        assert!(
            asked.starts_with(
                "--conf /etc/ceph/a.conf --name client.watch --keyring /etc/ceph/watch.keyring ls rbd --format json \
                 --client-mount-timeout 4 --rados-mon-op-timeout 4 --rados-osd-op-timeout 4"
            ),
            "{asked}"
        );
    }

    async fn look(script: &str, within: Duration) -> Sight {
        let script = Script::new(script);
        Ceph::new(&settings(script.words())).unwrap().look(within).await
    }

    fn settings(rbd: Vec<String>) -> CephLook {
        CephLook {
            config: "/etc/ceph/a.conf".into(),
            user: Some("client.watch".into()),
            keyring: Some("/etc/ceph/watch.keyring".into()),
            pool: "rbd".into(),
            rbd,
        }
    }
}
