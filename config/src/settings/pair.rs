//! A protected pair: its places, when it counts as lost, its limits.

use std::net::IpAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;
use understudy_core::{Domain, Mode, WitnessKind};

use super::{Deploy, Fence, Notify, Probe, Restore, RouteCheck, RouteTarget, Storage, Verify, defaults, names};
use crate::{SecretRef, Span};

settings! {
    /// A protected Nexus.
    pub struct Pair {
        /// Its name.
        pub name: String,
        /// Asks for less than the global `mode`.
        #[serde(default, deserialize_with = "names::optional_mode::deserialize")]
        #[schemars(with = "Option<names::mode::Name>")]
        pub mode: Option<Mode>,
        /// The namespace at both sites.
        #[serde(default)]
        pub namespace: Option<String>,
        /// The Nexus itself.
        #[serde(default)]
        pub nexus: Option<Nexus>,
        /// How A is watched.
        pub probes: Vec<Probe>,
        /// How B is watched once it is active.
        #[serde(default)]
        pub standby_probes: Vec<Probe>,
        /// Other observers.
        #[serde(default)]
        pub witnesses: Vec<Witness>,
        /// What counts as the whole site being down.
        pub site_down_when: Quorum,
        /// Continuous witnessed time before `SiteDown`.
        #[serde(default = "defaults::hold_down")]
        pub hold_down: Span,
        /// A sign of life younger than this blocks `SiteDown`; a third of the hold-down if left out.
        #[serde(default)]
        pub veto_within: Option<Span>,
        /// Damping of a flapping target.
        #[serde(default)]
        pub flap: Flap,
        /// The greatest loss bound that is accepted without an override.
        pub rpo_max: Span,
        /// What a block snapshot of a running Nexus lacks; shorter only where snapshots are taken with the file system frozen or synced.
        #[serde(default = "defaults::writeback")]
        pub writeback_window: Span,
        /// The consistency points of several images may lie this far apart.
        #[serde(default = "defaults::skew")]
        pub skew_max: Span,
        /// The volumes.
        pub storage: Storage,
        /// What of A is stopped before the promote.
        #[serde(default)]
        pub fence: Fence,
        /// The objects to restore at B.
        #[serde(default)]
        pub restore: Option<Restore>,
        /// The custom resource to deploy at B.
        #[serde(default)]
        pub deploy: Option<Deploy>,
        /// Is it the right Nexus, with the right data?
        pub verify: Verify,
        /// The targets of the route, in order.
        pub route: Vec<RouteTarget>,
        /// Proof from outside.
        #[serde(default)]
        pub route_check: Option<RouteCheck>,
        /// Where pages and questions go.
        #[serde(default)]
        pub notify: Vec<Notify>,
        /// How long a question stands.
        #[serde(default = "defaults::approval")]
        pub approval_ttl: Span,
        /// After a failover no automatic one for this long, and then only after `unblock`.
        #[serde(default = "defaults::block")]
        pub recovery_block: Span,
        /// Limits of the plan's steps.
        #[serde(default)]
        pub limits: Limits,
    }
}

settings! {
    /// The Nexus of a pair.
    pub struct Nexus {
        /// A's own address.
        pub primary: Place,
        /// B's own address.
        pub standby: Place,
        /// The address that users know.
        pub public: Place,
        /// Credentials for checks, canary and verify.
        #[serde(default)]
        pub credentials: Option<Credentials>,
        /// The node id that tells ours from another Nexus; learnt and journaled while A lives if left out.
        #[serde(default)]
        pub node_id: Option<String>,
        /// Checks of `status/check` that must be healthy.
        #[serde(default = "defaults::checks")]
        pub checks: Vec<String>,
        /// The repository in which canaries are written.
        #[serde(default = "defaults::canary")]
        pub canary_repository: String,
    }
}

settings! {
    /// An address of Nexus.
    pub struct Place {
        /// Its URL.
        pub url: url::Url,
        /// Where to connect instead of asking the DNS for the URL's host.
        #[serde(default)]
        pub connect_to: Option<ConnectTo>,
        /// PEM file with the roots to trust instead of the system's.
        #[serde(default)]
        pub ca: Option<PathBuf>,
    }
}

/// `IP` or `IP:PORT`; without a port the URL's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectTo {
    /// The address.
    pub ip: IpAddr,
    /// Another port than the URL's.
    pub port: Option<u16>,
}

settings! {
    /// User and password.
    pub struct Credentials {
        /// The user's name.
        pub user: String,
        /// Where the password lies.
        pub password: SecretRef,
    }
}

settings! {
    /// Another `understudy witness`.
    pub struct Witness {
        /// Its name.
        pub name: String,
        /// Where it stands.
        #[serde(deserialize_with = "names::witness_kind::deserialize")]
        #[schemars(with = "names::witness_kind::Name")]
        pub kind: WitnessKind,
        /// Its address.
        pub url: url::Url,
        /// The shared secret that signs its answers.
        pub secret: SecretRef,
        /// Start-to-start time of its grid.
        #[serde(default = "defaults::period")]
        pub period: Span,
        /// Total time-out of one look.
        #[serde(default = "defaults::timeout")]
        pub timeout: Span,
    }
}

settings! {
    /// At least so many of these domains.
    pub struct Quorum {
        /// How many domains must be Down ...
        pub at_least: u8,
        /// ... of these.
        #[schemars(with = "Vec<names::DomainName>")]
        pub of: Vec<Domain>,
    }
}

/// Damping of a flapping target.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Flap {
    /// This many changes of one signal ...
    pub changes: u32,
    /// ... within this time are flapping.
    pub window: Span,
    /// It ends when the signal has kept its state for this long; the hold-down if left out.
    pub quiet: Option<Span>,
}

impl Default for Flap {
    fn default() -> Self {
        Self { changes: 4, window: Span::secs(600), quiet: None }
    }
}

/// Limits of the plan's steps.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Tries of one step before it is Stuck.
    pub attempts: u32,
    /// Time before the second try; doubled for each further one.
    pub retry_after: Span,
    /// A step that runs longer than this is Stuck.
    pub step_overdue: Span,
    /// A promote that runs longer than this is Stuck; it is never killed.
    pub promote_overdue: Span,
    /// How long the lease at B lasts.
    pub lease: Span,
    /// No write is sent with less left of the lease.
    pub lease_margin: Span,
    /// The namespace at B in which the lease lies. It must exist before any failover, so it is not the pair's own.
    pub lease_namespace: String,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            attempts: 5,
            retry_after: Span::secs(1),
            step_overdue: Span::secs(300),
            promote_overdue: Span::secs(180),
            lease: Span::secs(30),
            lease_margin: Span::secs(12),
            lease_namespace: "default".into(),
        }
    }
}
