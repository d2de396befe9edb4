//! How large a small world is: its policy, and how much may go wrong in one story.

use understudy_core::{Domain, Flap, Mode, PairPolicy, PlanPolicy, Policy, ProbePolicy};

use crate::core_world::{self as sample, secs};

/// A small world.
#[derive(Debug, Clone)]
pub struct Scope {
    /// Its name.
    pub name: &'static str,
    /// The rules.
    pub policy: Policy,
    /// Whether the witness sees A.
    pub witnessed: bool,
    /// How many things may go wrong in one story, each kind at most once.
    pub faults: u32,
    /// For how many seconds in all others may let us wait.
    pub patience: u8,
    /// How many moves a story has at most.
    pub depth: u32,
}

impl Scope {
    /// Every scope, by its name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let one = |name, mode, mirrored| Self {
            name,
            policy: policy(mode, mirrored, 1),
            witnessed: mode == Mode::Auto,
            faults: 1,
            patience: 2,
            depth: 24,
        };
        Some(match name {
            "confirm" => one("confirm", Mode::Confirm, false),
            "auto" => one("auto", Mode::Auto, false),
            "mirrored" => one("mirrored", Mode::Confirm, true),
            "observe" => one("observe", Mode::Observe, false),
            "two" => {
                Self { policy: policy(Mode::Auto, false, 2), patience: 0, depth: 16, ..one("two", Mode::Auto, false) }
            }
            _ => return None,
        })
    }

    /// The names of all scopes.
    pub const ALL: [&'static str; 5] = ["observe", "confirm", "auto", "mirrored", "two"];
}

/// Two voters a domain in all three, read each second. What is limited in time is over after two seconds, so that a story of
/// little patience outlasts each of the limits.
fn policy(mode: Mode, mirrored: bool, pairs: usize) -> Policy {
    let names = ["nexus", "other"];
    Policy {
        config_digest: "small".into(),
        blind_page: secs(3),
        pairs: names.iter().take(pairs).map(|name| pair(name, mode, mirrored)).collect(),
        ..sample::policy()
    }
}

fn pair(name: &str, mode: Mode, mirrored: bool) -> PairPolicy {
    let of_tests = sample::policy().pairs.remove(0);
    let probe = |(name, domain)| ProbePolicy { fall: 1, rise: 1, ..sample::probe(name, domain) };
    let mut probes: Vec<ProbePolicy> = [
        ("web", Domain::Service),
        ("write", Domain::Service),
        ("api", Domain::ControlPlane),
        ("nodes", Domain::ControlPlane),
        ("ceph", Domain::Storage),
        ("disk", Domain::Storage),
    ]
    .map(probe)
    .into();
    probes.push(ProbePolicy { votes: false, ..probe(("peer", Domain::Storage)) });
    PairPolicy {
        name: name.into(),
        mode,
        probes,
        hold_down: secs(3),
        veto_within: secs(1),
        flap: Flap { changes: 9, window: secs(600), quiet: secs(60) },
        approval_ttl: secs(2),
        plan: PlanPolicy {
            mirrored,
            kubernetes: false,
            undo_point: false,
            routes: vec!["dns".into()],
            route_check: false,
            attempts: 2,
            step_overdue: secs(2),
            ready_within: secs(2),
            promote_overdue: secs(2),
            verify_valid: secs(2),
            lease_margin: secs(1),
            ..of_tests.plan
        },
        ..of_tests
    }
}
