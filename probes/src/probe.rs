//! One way of looking, ready to look as often as needed.
//!
//! In: a probe or a self-check of the settings, with what surrounds it. Out: a [`Probe`]. Everything that can be wrong with the
//! settings shows here, once; afterwards a look never fails, it reads.

use std::future::Future;
use std::time::Duration;

use tokio::time;
use understudy_config::{self as config, Look as Kind, Pair, SelfCheck};
use understudy_core::{MirrorFacts, Observation, Reason, Site, millis};

use crate::ceph::Ceph;
use crate::dns::Dns;
use crate::exec::Exec;
use crate::grid::Late;
use crate::http::Http;
use crate::kubernetes::Kubernetes;
use crate::nexus::Nexus;
use crate::rbd_mirror::RbdMirror;
use crate::shared::Shared;
use crate::sight::Sight;
use crate::tcp::Tcp;
use crate::{ProbeError, clock};

/// What one look saw.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
    /// What it means, when it began, and how long it took.
    pub observation: Observation,
    /// The mirrored images, if that was the look and every one could be read. The core tells by them whether A lives, and
    /// the reading of `observation` is of no interest then.
    pub mirror: Option<MirrorFacts>,
    /// The greatest difference between A's clock and ours that this look allows for, in milliseconds, where it could tell.
    pub clock_error_ms: Option<u64>,
}

impl Look {
    pub(crate) fn late(late: &Late) -> Self {
        Sight::unknown(Reason::Late, &late.detail).at(late.started_ms, late.latency_ms)
    }
}

impl Sight {
    fn at(self, started_ms: u64, latency_ms: u32) -> Look {
        let Sight { reading, detail, mirror, clock_error_ms } = self;
        Look { observation: Observation { reading, started_ms, latency_ms, detail }, mirror, clock_error_ms }
    }
}

/// One way of looking at a site. Cheap to keep: no connection, no task, no timer.
pub struct Probe {
    how: How,
    period: Duration,
    timeout: Duration,
}

enum How {
    Nexus(Box<Nexus>),
    Kubernetes(Box<Kubernetes>),
    RbdMirror(RbdMirror),
    Ceph(Ceph),
    Http(Box<Http>),
    Tcp(Tcp),
    Dns(Box<Dns>),
    Exec(Exec),
}

impl Probe {
    /// The probe `probe` of `pair`, which looks at `site`.
    ///
    /// # Errors
    /// [`ProbeError`] if it can not be made of its settings, or of the files and secrets that they name.
    pub async fn of_pair(
        probe: &config::Probe,
        pair: &Pair,
        site: Site,
        config: &config::Config,
        shared: &mut Shared,
    ) -> Result<Self, ProbeError> {
        let connect_within = probe.connect_timeout.map_or_else(|| two_thirds(probe.timeout.0), |span| span.0);
        let period = probe.period.0;
        let place = Place { name: &probe.name, pair: Some((pair, site)), config, period, connect_within };
        let how = How::new(&probe.look, &place, shared).await?;
        Ok(Self { how, period, timeout: probe.timeout.0 })
    }

    /// The self-check `check`.
    ///
    /// # Errors
    /// [`ProbeError`] if it can not be made of its settings, or if its kind is of no use without a pair.
    pub async fn of_self_check(
        check: &SelfCheck,
        config: &config::Config,
        shared: &mut Shared,
    ) -> Result<Self, ProbeError> {
        let (period, connect_within) = (check.period.0, two_thirds(check.timeout.0));
        let place = Place { name: &check.name, pair: None, config, period, connect_within };
        let how = How::new(&check.look, &place, shared).await?;
        Ok(Self { how, period, timeout: check.timeout.0 })
    }

    /// Start-to-start time of its grid.
    #[must_use]
    pub fn period(&self) -> Duration {
        self.period
    }

    /// Total time-out of one look.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Looks once; never takes longer than [`Probe::timeout`]. Whether it was late by our own fault is for
    /// [`watch`](crate::watch) and [`look_now`](crate::look_now) to say.
    pub async fn look(&self) -> Look {
        let started = clock::since_boot();
        let sight = self.how.look(self.timeout).await;
        let latency = clock::since_boot().saturating_sub(started);
        sight.at(millis(started), u32::try_from(latency.as_millis()).unwrap_or(u32::MAX))
    }
}

/// What surrounds a probe in the file.
pub(crate) struct Place<'a> {
    pub(crate) name: &'a str,
    pub(crate) pair: Option<(&'a Pair, Site)>,
    pub(crate) config: &'a config::Config,
    pub(crate) period: Duration,
    pub(crate) connect_within: Duration,
}

impl<'a> Place<'a> {
    /// The pair, which a self-check has not.
    pub(crate) fn pair(&self, kind: &'static str) -> Result<(&'a Pair, Site), ProbeError> {
        self.pair.ok_or_else(|| ProbeError::Setting {
            what: kind,
            why: format!(
                "{:?} belongs to no pair; a self-check looks by kubernetes, ceph, http, tcp, dns or exec",
                self.name
            ),
        })
    }
}

impl How {
    async fn new(look: &Kind, place: &Place<'_>, shared: &mut Shared) -> Result<Self, ProbeError> {
        Ok(match look {
            Kind::Nexus(look) => How::Nexus(Box::new(Nexus::new(*look, place, shared)?)),
            Kind::Kubernetes(which) => How::Kubernetes(Box::new(Kubernetes::new(*which, place, shared).await?)),
            Kind::RbdMirror(look) => How::RbdMirror(RbdMirror::new(look, &place.pair("rbd_mirror")?.0.storage)?),
            Kind::Ceph(look) => How::Ceph(Ceph::new(look)?),
            Kind::Http(look) => How::Http(Box::new(Http::new(look, place.connect_within, shared)?)),
            Kind::Tcp(look) => How::Tcp(Tcp::new(look, place.connect_within, shared)?),
            Kind::Exec(look) => How::Exec(Exec::new(look)?),
            Kind::Dns(look) => How::Dns(Box::new(Dns::new(look)?)),
        })
    }

    /// The small looks, of which there may be a thousand each second, are made in place; a large one lies on the heap, lest
    /// each small one is moved about with room for the largest.
    async fn look(&self, within: Duration) -> Sight {
        match self {
            How::Nexus(nexus) => Box::pin(nexus.look(within)).await,
            How::Kubernetes(kubernetes) => Box::pin(kubernetes.look(within)).await,
            How::RbdMirror(mirror) => Box::pin(mirror.look(within)).await,
            How::Ceph(ceph) => Box::pin(ceph.look(within)).await,
            How::Http(http) => answered(within, http.look()).await,
            How::Tcp(tcp) => answered(within, tcp.look()).await,
            How::Dns(dns) => Box::pin(dns.look(within)).await,
            How::Exec(exec) => Box::pin(exec.look(within)).await,
        }
    }
}

/// A target that does not answer within the total time-out is down. The answer is looked for before the time is: one that
/// has arrived is never lost to a timer that fired together with it.
pub(crate) async fn answered(within: Duration, look: impl Future<Output = Sight>) -> Sight {
    match time::timeout(within, look).await {
        Ok(sight) => sight,
        Err(_elapsed) => no_answer(within),
    }
}

pub(crate) fn no_answer(within: Duration) -> Sight {
    Sight::down(Reason::TimedOut, format!("no answer within {within:?}"))
}

/// Leaves a third of the time for the answer.
fn two_thirds(timeout: Duration) -> Duration {
    timeout * 2 / 3
}

#[cfg(test)]
mod tests {
    use understudy_config::SelfCheck;
    use understudy_core::Reading;

    use super::*;
    use crate::testing::{Server, Then, config, nobody, probe};

    #[tokio::test]
    async fn each_kind_of_the_file_makes_its_look() {
        let at = nobody().await;
        let refused = Reading::Down(Reason::Refused);
        let table = [
            ("nexus: status".to_owned(), refused),
            (format!("http: {{ url: 'http://{at}/' }}"), refused),
            (format!("tcp: {{ address: '{at}' }}"), refused),
            ("rbd_mirror: { pool: rbd }".to_owned(), Reading::Unknown(Reason::ToolMissing)),
            (
                "ceph: { config: /etc/ceph/a.conf, pool: rbd, rbd: [/nonexistent/rbd] }".to_owned(),
                Reading::Unknown(Reason::ToolMissing),
            ),
            ("exec: { command: [/bin/false] }".to_owned(), Reading::Down(Reason::ProgramSaysDown)),
            ("dns: { name: nothing.invalid, expect: 10.1.0.20 }".to_owned(), Reading::Unknown(Reason::LocalDns)),
        ];
        for (look, reading) in table {
            let seen = probe(&config(at, "", &look)).await.unwrap().look().await.observation;

            // RFC 6761: a resolver that answers may also say that the name does not exist.
            let nxdomain = look.starts_with("dns") && seen.reading == Reading::Down(Reason::WrongAnswer);
            assert!(seen.reading == reading || nxdomain, "{look}: {seen:?}");
            assert!(seen.detail.is_some(), "{look} says why");
        }
    }

    #[tokio::test]
    async fn a_look_tells_when_it_began_and_how_long_it_took() {
        let address = Server::listener(b"", Then::Hang).await;
        let probe = probe(&config(address, "", &format!("tcp: {{ address: '{address}' }}"))).await.unwrap();

        let before = clock::now().boot_ms;
        let seen = probe.look().await.observation;
        let after = clock::now().boot_ms;

        assert!((before..=after).contains(&seen.started_ms));
        assert!(u64::from(seen.latency_ms) <= after - before);
    }

    #[tokio::test]
    async fn a_self_check_can_not_look_at_what_only_a_pair_has() {
        let at = nobody().await;
        let checked = |look: &str| {
            let config = config(at, "", look);
            let probe = config.pairs[0].probes[0].clone();
            let check = SelfCheck {
                name: "own".into(),
                look: probe.look,
                group: None,
                period: probe.period,
                timeout: probe.timeout,
            };
            (config, check)
        };

        for look in ["nexus: status", "rbd_mirror: { pool: rbd }"] {
            let (config, check) = checked(look);
            let error = Probe::of_self_check(&check, &config, &mut Shared::new()).await.err().unwrap();
            assert!(error.to_string().contains("\"own\" belongs to no pair"), "{error}");
        }
        let (config, check) = checked(&format!("tcp: {{ address: '{at}' }}"));
        let probe = Probe::of_self_check(&check, &config, &mut Shared::new()).await.unwrap();
        assert_eq!(probe.look().await.observation.reading, Reading::Down(Reason::Refused));
    }
}
