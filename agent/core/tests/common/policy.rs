//! The rules of the tests' worlds.

use std::time::Duration;

use understudy_core::*;

pub const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub fn probe(name: &str, domain: Domain) -> ProbePolicy {
    ProbePolicy {
        name: name.into(),
        site: Site::A,
        domain,
        votes: true,
        period: secs(1),
        timeout: secs(1),
        fall: 3,
        rise: 2,
    }
}

/// Three voters in three domains, a mirror probe, a third-site witness, one image; ten seconds of hold-down.
pub fn policy() -> Policy {
    let mut mirror = probe("peer", Domain::Storage);
    mirror.votes = false;
    let mut standby = probe("standby", Domain::Service);
    standby.site = Site::B;
    Policy {
        config_digest: "digest".into(),
        self_checks: vec![SelfCheck { name: "own-api".into(), group: None, period: secs(1), timeout: secs(1) }],
        stall: secs(2),
        clock_jump: secs(2),
        doubt: secs(1),
        blind_page: secs(300),
        automatic_max: 1,
        automatic_window: secs(3600),
        pairs: vec![PairPolicy {
            name: "nexus".into(),
            mode: Mode::Confirm,
            probes: vec![
                probe("web", Domain::Service),
                probe("api", Domain::ControlPlane),
                probe("ceph", Domain::Storage),
                mirror,
                standby,
            ],
            witnesses: vec![WitnessPolicy {
                name: "third".into(),
                kind: WitnessKind::ThirdSite,
                period: secs(1),
                timeout: secs(1),
            }],
            at_least: 3,
            of: Domain::ALL.to_vec(),
            hold_down: secs(10),
            veto_within: secs(3),
            flap: Flap { changes: 4, window: secs(600), quiet: secs(60) },
            rpo_max: secs(900),
            writeback_window: secs(35),
            skew_max: secs(60),
            approval_ttl: secs(120),
            recovery_block: secs(3600),
            images: vec!["rbd/data".into()],
            plan: PlanPolicy {
                mirrored: true,
                aged: false,
                kubernetes: true,
                undo_point: true,
                routes: vec!["webhook".into(), "dns".into()],
                route_check: true,
                attempts: 3,
                retry_after: secs(1),
                step_overdue: secs(60),
                ready_within: secs(60),
                promote_overdue: secs(30),
                verify_valid: secs(60),
                lease_margin: secs(5),
            },
        }],
    }
}
