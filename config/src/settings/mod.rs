//! The file, as types. Each field is a key of `example.yaml`, which is the manual.
//!
//! Start reading at [`Config`]. Every enum of kinds is written as a map with one key: `storage: { rbd: … }`. A probe's kind is
//! one flat key beside its settings: `nexus: status`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;
use understudy_core::Mode;

use crate::{SecretRef, Span};

macro_rules! settings {
    ($(#[$doc:meta])* pub struct $name:ident { $($(#[$fdoc:meta])* pub $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name { $($(#[$fdoc])* pub $field: $type,)* }
    };
}

mod defaults;
mod look;
mod names;
mod pair;
mod route;
mod storage;

pub use look::*;
pub use pair::*;
pub use route::*;
pub use storage::*;

settings! {
    /// The whole file.
    pub struct Config {
        /// The name of this place, shown in notices.
        pub site: String,
        /// What may be done without a human; a pair may ask for less.
        #[serde(deserialize_with = "names::mode::deserialize")]
        #[schemars(with = "names::mode::Name")]
        pub mode: Mode,
        /// Where journal and recordings lie.
        pub state: State,
        /// Address of the HTTP API: `/live`, `/ready`, `/metrics`; the rest needs `tls` and `tokens`.
        #[serde(default)]
        pub listen: Option<Listen>,
        /// How the two clusters are reached.
        #[serde(default)]
        pub clusters: Clusters,
        /// What must work if we are fit to judge.
        pub self_checks: Vec<SelfCheck>,
        /// Our own clock hygiene and limits over all pairs.
        #[serde(default)]
        pub doubt: Doubt,
        /// Where logs and traces go.
        #[serde(default)]
        pub telemetry: Telemetry,
        /// A dead-man heartbeat: when it ceases, somebody else must wake up.
        #[serde(default)]
        pub heartbeat: Option<Heartbeat>,
        /// The protected pairs.
        pub pairs: Vec<Pair>,
    }
}

settings! {
    /// Where journal and recordings lie.
    pub struct State {
        /// A directory that only the daemon's user may write.
        pub file: PathBuf,
        /// A segment of the journal is closed when it is larger than this.
        #[serde(default = "defaults::segment_bytes")]
        pub segment_bytes: u64,
    }
}

settings! {
    /// The HTTP API on TCP.
    pub struct Listen {
        /// Where it listens.
        pub address: std::net::SocketAddr,
        /// Certificate and key; without, only `/live`, `/ready` and, if wanted, `/metrics` and the witness are served.
        #[serde(default)]
        pub tls: Option<Tls>,
        /// Who may do what.
        #[serde(default)]
        pub tokens: Vec<Token>,
        /// Whether `/metrics` is served here.
        #[serde(default)]
        pub metrics: bool,
        /// Tells what this place sees to daemons that have it among their `witnesses`; served with or without `tls`.
        #[serde(default)]
        pub witness: Option<Testify>,
    }
}

settings! {
    /// How this place bears witness.
    pub struct Testify {
        /// Where it stands. It is part of each signed answer, so that no daemon can take it for another kind.
        #[serde(deserialize_with = "names::witness_kind::deserialize")]
        #[schemars(with = "names::witness_kind::Name")]
        pub kind: understudy_core::WitnessKind,
        /// Signs what this place sees.
        pub secret: SecretRef,
    }
}

settings! {
    /// A server's certificate and key, PEM.
    pub struct Tls {
        /// Certificate chain.
        pub certificate: PathBuf,
        /// Private key.
        pub key: PathBuf,
    }
}

settings! {
    /// A bearer token.
    pub struct Token {
        /// Whose it is; journaled as the author.
        pub subject: String,
        /// What it allows.
        pub role: ApiRole,
        /// Where the token lies.
        pub token: SecretRef,
    }
}

/// What a token allows; each includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ApiRole {
    /// May look.
    Viewer,
    /// May answer requests.
    Approver,
    /// May order plans, retry, skip, abandon, pause.
    Operator,
}

/// How the two clusters are reached.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Clusters {
    /// A. Only looked at, and fenced; nothing required waits for it.
    #[serde(default)]
    pub primary: Option<Cluster>,
    /// B.
    #[serde(default)]
    pub standby: Option<Cluster>,
}

/// How one cluster is reached.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cluster {
    /// By a kubeconfig file.
    Kubeconfig(PathBuf),
    /// By the service account of the pod that we run in: `in_cluster: true`.
    InCluster(bool),
}

/// Our own clock hygiene and limits over all pairs.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Doubt {
    /// A gap in our own running longer than this is a stall.
    pub stall: Span,
    /// Wall and monotonic clock may part by this much at once.
    pub clock_jump: Span,
    /// How long a bad self-check, stall or jump keeps us Blind after it ended.
    pub blind_for: Span,
    /// Blind for longer than this is paged.
    pub page_after: Span,
    /// At most this many automatic failovers over all pairs ...
    pub automatic_max: u32,
    /// ... within this time.
    pub automatic_window: Span,
}

impl Default for Doubt {
    fn default() -> Self {
        Self {
            stall: Span::secs(2),
            clock_jump: Span::secs(2),
            blind_for: Span::secs(5),
            page_after: Span::secs(300),
            automatic_max: 1,
            automatic_window: Span::secs(3600),
        }
    }
}

/// Where logs and traces go.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Telemetry {
    /// `text` or `json`.
    pub log_format: LogFormat,
    /// Filter of `tracing-subscriber`, such as `info` or `info,understudy_probes=debug`.
    pub log_filter: String,
    /// OTLP over HTTP; traces are off without it.
    pub otlp_endpoint: Option<url::Url>,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { log_format: LogFormat::Text, log_filter: "info,kube_client=off".into(), otlp_endpoint: None }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For the eye.
    Text,
    /// For the machine.
    Json,
}

settings! {
    /// A dead-man heartbeat.
    pub struct Heartbeat {
        /// Where it goes.
        pub url: url::Url,
        /// How often.
        #[serde(default = "defaults::heartbeat")]
        pub every: Span,
    }
}
