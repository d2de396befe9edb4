//! The file, as types. Each field is a key of `example.yaml`, which is the manual.
//!
//! Every enum of kinds is written as a map with one key: `{ nexus: { check: status } }` would be long-winded, so that a
//! probe's kind is one flat key beside its settings: `nexus: status`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;
use understudy_core::{Domain, Mode, WitnessKind};

use crate::{SecretRef, Span};

macro_rules! settings {
    ($(#[$doc:meta])* pub struct $name:ident { $($(#[$fdoc:meta])* pub $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name { $($(#[$fdoc])* pub $field: $type,)* }
    };
}

settings! {
    /// The whole file.
    pub struct Config {
        /// The name of this place, shown in notices.
        pub site: String,
        /// What may be done without a human; a pair may ask for less.
        #[serde(deserialize_with = "mode::deserialize")]
        #[schemars(with = "mode::Name")]
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
        #[serde(default = "default_segment_bytes")]
        pub segment_bytes: u64,
    }
}

settings! {
    /// The HTTP API on TCP.
    pub struct Listen {
        /// Where it listens.
        pub address: std::net::SocketAddr,
        /// Certificate and key; without, only `/live`, `/ready` and (if wanted) `/metrics` are served.
        #[serde(default)]
        pub tls: Option<Tls>,
        /// Who may do what.
        #[serde(default)]
        pub tokens: Vec<Token>,
        /// Whether `/metrics` is served here.
        #[serde(default)]
        pub metrics: bool,
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

settings! {
    /// What must work if we are fit to judge.
    pub struct SelfCheck {
        /// Its name.
        pub name: String,
        /// How it is read.
        #[serde(flatten)]
        pub look: Look,
        /// Checks of one group stand in for each other: one that works is enough.
        #[serde(default)]
        pub group: Option<String>,
        /// Start-to-start time of its grid.
        #[serde(default = "default_period")]
        pub period: Span,
        /// Total time-out of one look.
        #[serde(default = "default_timeout")]
        pub timeout: Span,
    }
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
        Self { log_format: LogFormat::Text, log_filter: "info".into(), otlp_endpoint: None }
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
        #[serde(default = "default_heartbeat")]
        pub every: Span,
    }
}

settings! {
    /// A protected Nexus.
    pub struct Pair {
        /// Its name.
        pub name: String,
        /// Asks for less than the global `mode`.
        #[serde(default, deserialize_with = "optional_mode::deserialize")]
        #[schemars(with = "Option<mode::Name>")]
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
        #[serde(default = "default_hold_down")]
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
        #[serde(default = "default_writeback")]
        pub writeback_window: Span,
        /// The consistency points of several images may lie this far apart.
        #[serde(default = "default_skew")]
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
        #[serde(default = "default_approval")]
        pub approval_ttl: Span,
        /// After a failover no automatic one for this long, and then only after `unblock`.
        #[serde(default = "default_block")]
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
        #[serde(default = "default_checks")]
        pub checks: Vec<String>,
        /// The repository in which canaries are written.
        #[serde(default = "default_canary")]
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
    /// A way of looking, with its grid.
    pub struct Probe {
        /// Its name.
        pub name: String,
        /// What it can speak about; each kind has its own default.
        #[serde(default)]
        #[schemars(with = "Option<String>")]
        pub domain: Option<Domain>,
        /// How it looks.
        #[serde(flatten)]
        pub look: Look,
        /// Start-to-start time of its grid.
        #[serde(default = "default_period")]
        pub period: Span,
        /// Total time-out of one look.
        #[serde(default = "default_timeout")]
        pub timeout: Span,
        /// Time-out of the connection alone; two thirds of `timeout` if left out.
        #[serde(default)]
        pub connect_timeout: Option<Span>,
        /// Consecutive Down readings that count.
        #[serde(default = "default_fall")]
        pub fall: u32,
        /// Consecutive Up readings that count.
        #[serde(default = "default_rise")]
        pub rise: u32,
    }
}

/// How a probe looks: one key of these.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Look {
    /// A Nexus of this pair, one of its aspects.
    Nexus(NexusLook),
    /// An API server: `primary` or `standby` of `clusters`.
    Kubernetes(Which),
    /// The mirrored images, at B.
    RbdMirror(RbdMirrorLook),
    /// A bounded read on a Ceph cluster.
    Ceph(CephLook),
    /// An HTTP GET.
    Http(HttpLook),
    /// A TCP connection.
    Tcp(TcpLook),
    /// A DNS question.
    Dns(DnsLook),
    /// A program: exit 0 = Up, 1 = Down, anything else Unknown.
    Exec(ExecLook),
}

/// Which aspect of a Nexus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NexusLook {
    /// Does the web layer answer, and is it ours?
    Status,
    /// Does it take writes, by its own word?
    Writable,
    /// The named system checks.
    Checks,
    /// An artifact written and read back: the only one that sees a dead disk.
    Canary,
}

/// One of the two clusters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Which {
    /// A.
    Primary,
    /// B.
    Standby,
}

settings! {
    /// The mirrored images, read at B. It never votes Down.
    pub struct RbdMirrorLook {
        /// The pool; images and command come from the pair's `storage`.
        pub pool: String,
    }
}

settings! {
    /// A bounded OSD read on a Ceph cluster, with a read-only user.
    pub struct CephLook {
        /// Its `ceph.conf`.
        pub config: PathBuf,
        /// The user, such as `client.watch`.
        #[serde(default)]
        pub user: Option<String>,
        /// Keyring of that user.
        #[serde(default)]
        pub keyring: Option<PathBuf>,
        /// The pool to read.
        pub pool: String,
        /// The `rbd` program.
        #[serde(default = "default_rbd")]
        pub rbd: Vec<String>,
    }
}

settings! {
    /// An HTTP GET on a new connection.
    pub struct HttpLook {
        /// What to get.
        pub url: url::Url,
        /// Where to connect instead.
        #[serde(default)]
        pub connect_to: Option<ConnectTo>,
        /// Codes that are Up; any of 2xx if left out.
        #[serde(default)]
        pub expect: Vec<u16>,
        /// A text that the answer must hold to be ours.
        #[serde(default)]
        pub contains: Option<String>,
        /// PEM file with the roots to trust instead of the system's.
        #[serde(default)]
        pub ca: Option<PathBuf>,
    }
}

settings! {
    /// A TCP connection.
    pub struct TcpLook {
        /// `HOST:PORT`.
        pub address: String,
    }
}

settings! {
    /// A DNS question.
    pub struct DnsLook {
        /// The name to ask for.
        pub name: String,
        /// The server to ask; the system's if left out.
        #[serde(default)]
        pub server: Option<std::net::SocketAddr>,
        /// The address that must be among the answers.
        #[serde(default)]
        pub expect: Option<IpAddr>,
    }
}

settings! {
    /// A program.
    pub struct ExecLook {
        /// Program and arguments; no shell.
        pub command: Vec<String>,
    }
}

settings! {
    /// Another `understudy witness`.
    pub struct Witness {
        /// Its name.
        pub name: String,
        /// Where it stands.
        #[serde(deserialize_with = "witness_kind::deserialize")]
        #[schemars(with = "witness_kind::Name")]
        pub kind: WitnessKind,
        /// Its address.
        pub url: url::Url,
        /// The shared secret that signs its answers.
        pub secret: SecretRef,
        /// Start-to-start time of its grid.
        #[serde(default = "default_period")]
        pub period: Span,
        /// Total time-out of one look.
        #[serde(default = "default_timeout")]
        pub timeout: Span,
    }
}

settings! {
    /// At least so many of these domains.
    pub struct Quorum {
        /// How many domains must be Down ...
        pub at_least: u8,
        /// ... of these.
        #[schemars(with = "Vec<String>")]
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

/// The volumes: one key of these.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Storage {
    /// RBD images with snapshot mirroring, by the `rbd` and `ceph` programs.
    Rbd(Rbd),
    /// Any other block storage, by commands or webhooks of yours.
    Hooks(StorageHooks),
}

settings! {
    /// RBD images with snapshot mirroring.
    pub struct Rbd {
        /// `POOL/IMAGE`, each volume of the pair.
        pub images: Vec<String>,
        /// Program and leading arguments of `rbd` at B, such as `[rbd, -c, /etc/ceph/b.conf]` or a `kubectl exec` into a toolbox.
        #[serde(default = "default_rbd")]
        pub rbd: Vec<String>,
        /// Program and leading arguments of `ceph` at B.
        #[serde(default = "default_ceph")]
        pub ceph: Vec<String>,
        /// Time-out of every call but the promote.
        #[serde(default = "default_call")]
        pub timeout: Span,
        /// How B's rbd-mirror is stopped, beside the blocklist.
        #[serde(default)]
        pub quiesce: Quiesce,
        /// Whether a snapshot of the promoted image is kept as an undo point.
        #[serde(default = "yes")]
        pub undo_point: bool,
        /// Schedule of mirror snapshots to add at B after the promote, such as `1m`.
        #[serde(default)]
        pub schedule: Option<String>,
    }
}

/// How B's rbd-mirror is stopped, beside the blocklist.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Quiesce {
    /// By the blocklist alone.
    #[default]
    None,
    /// By scaling a Deployment of B to 0.
    Deployment(DeploymentRef),
    /// By commands.
    Command(QuiesceCommand),
}

settings! {
    /// A Deployment of B.
    pub struct DeploymentRef {
        /// Its namespace.
        pub namespace: String,
        /// Its name.
        pub name: String,
    }
}

settings! {
    /// Commands that stop and start rbd-mirror.
    pub struct QuiesceCommand {
        /// Stops it; exit 0 = stopped.
        pub stop: Vec<String>,
        /// Starts it; exit 0 = started.
        pub start: Vec<String>,
    }
}

settings! {
    /// Any other block storage.
    pub struct StorageHooks {
        /// Says the role at B: prints `primary`, `secondary` or `unknown`.
        pub status: Hook,
        /// Makes B primary. Must be safe to repeat.
        pub promote: Hook,
        /// Prints how old the copy is, in whole seconds; without it the loss has no bound.
        #[serde(default)]
        pub age: Option<Hook>,
    }
}

/// A command or a webhook: one key of these.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Hook {
    /// Program and arguments; no shell. It is told `UNDERSTUDY_PAIR`, `_RUN`, `_STEP`, `_KEY` and `_EPOCH`.
    Command(CommandHook),
    /// An HTTP call.
    Webhook(Webhook),
}

settings! {
    /// A program of yours.
    pub struct CommandHook {
        /// Program and arguments.
        pub command: Vec<String>,
        /// Its time-out.
        #[serde(default = "default_hook")]
        pub timeout: Span,
    }
}

/// What of A is stopped before the promote, in this order; each is bounded.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Fence {
    /// Delete the custom resource at A and see its pods and VolumeAttachments gone; pods that do not end are deleted by force.
    pub workload: bool,
    /// Demote A's images by A's own `rbd`, such as `[rbd, -c, /etc/ceph/a.conf]`.
    pub demote: Option<Vec<String>>,
    /// Hooks for power or network; exit 0 or 2xx = fenced.
    pub hooks: Vec<Hook>,
    /// The whole fence may take this long.
    pub within: Option<Span>,
    /// How long a polite stop may take before the stronger step.
    pub polite: Option<Span>,
}

settings! {
    /// The objects to restore at B.
    pub struct Restore {
        /// A directory of manifests: Secrets, PV, PVC.
        pub bundle: PathBuf,
        /// The storage class at B.
        #[serde(default)]
        pub storage_class: Option<String>,
        /// The Ceph cluster's id at B, in volume attributes and volume handle.
        #[serde(default)]
        pub cluster_id: Option<String>,
        /// The pool at B, in the volume attributes.
        #[serde(default)]
        pub pool: Option<String>,
        /// The pool's number at B, in the volume handle.
        #[serde(default)]
        pub pool_id: Option<u64>,
        /// Every PVC must be Bound within this time.
        #[serde(default = "default_bound")]
        pub bound_within: Span,
    }
}

settings! {
    /// The custom resource to deploy at B.
    pub struct Deploy {
        /// The manifest: any group, version and kind.
        pub manifest: PathBuf,
        /// The resource's plural name; lower case kind plus `s` (or `es`) if left out.
        #[serde(default)]
        pub plural: Option<String>,
        /// JSON merge patches, applied to the manifest in order.
        #[serde(default)]
        #[schemars(with = "Vec<serde_json::Map<String, serde_json::Value>>")]
        pub patch: Vec<serde_json::Value>,
        /// Images of this registry prefix are taken from that one.
        #[serde(default)]
        pub image_registry: BTreeMap<String, String>,
        /// Conditions of `status` that must be true.
        #[serde(default = "default_conditions")]
        pub conditions: Vec<String>,
        /// It must be ready within this time.
        #[serde(default = "default_ready")]
        pub ready_within: Span,
    }
}

settings! {
    /// Is it the right Nexus, with the right data?
    pub struct Verify {
        /// Repositories that must be there.
        #[serde(default)]
        pub repositories: Vec<String>,
        /// Artifacts that must come back whole.
        #[serde(default)]
        pub artifacts: Vec<Artifact>,
        /// For a service that is no Nexus: a GET that must be 2xx at B.
        #[serde(default)]
        pub http: Option<HttpLook>,
        /// Time for the whole step.
        #[serde(default = "default_verify")]
        pub within: Span,
        /// A route may be switched while `verify` is younger than this.
        #[serde(default = "default_verify_valid")]
        pub valid: Span,
    }
}

settings! {
    /// A known artifact.
    pub struct Artifact {
        /// `REPOSITORY/PATH`.
        pub path: String,
        /// Its SHA-256, hexadecimal.
        pub sha256: String,
    }
}

/// A target of the route: one key of these.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RouteTarget {
    /// An HTTP call.
    Webhook(RouteWebhook),
    /// A signed DNS update.
    DnsUpdate(DnsUpdate),
}

settings! {
    /// A route switched by webhook, and read back.
    pub struct RouteWebhook {
        /// The call that switches.
        #[serde(flatten)]
        pub call: Webhook,
        /// The call that reads the value back; without it the answer to the switch must say.
        #[serde(default)]
        pub read: Option<ReadBack>,
    }
}

settings! {
    /// A call that reads a value.
    pub struct ReadBack {
        /// A GET.
        pub url: url::Url,
        /// JSON pointer (RFC 6901) into the answer.
        pub pointer: String,
        /// The value that means B.
        pub expect: String,
        /// The value that means A; any other value than these two stops the step.
        #[serde(default)]
        pub before: Option<String>,
    }
}

settings! {
    /// An HTTP call, signed as Standard Webhooks prescribe.
    pub struct Webhook {
        /// Where.
        pub url: url::Url,
        /// How.
        #[serde(default = "default_method")]
        pub method: String,
        /// More headers.
        #[serde(default)]
        pub headers: BTreeMap<String, String>,
        /// Headers whose value is a secret, such as `authorization`.
        #[serde(default)]
        pub secret_headers: BTreeMap<String, SecretRef>,
        /// The body: any JSON, in whose texts `{{pair}}`, `{{site}}`, `{{run}}`, `{{step}}`, `{{epoch}}`, `{{key}}`, `{{event}}` and `{{message}}` are replaced. A standard event if left out.
        #[serde(default)]
        #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
        pub body: Option<serde_json::Value>,
        /// The secret that signs (`whsec_…` or raw).
        #[serde(default)]
        pub secret: Option<SecretRef>,
        /// Codes that mean done; any of 2xx if left out.
        #[serde(default)]
        pub expect: Vec<u16>,
        /// A field of the answer that must have a value.
        #[serde(default)]
        pub expect_json: Option<ExpectJson>,
        /// Total time-out.
        #[serde(default = "default_call")]
        pub timeout: Span,
        /// PEM file with the roots to trust instead of the system's.
        #[serde(default)]
        pub ca: Option<PathBuf>,
    }
}

settings! {
    /// A field of an answer.
    pub struct ExpectJson {
        /// JSON pointer (RFC 6901).
        pub pointer: String,
        /// The value it must have.
        #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
        pub equals: serde_json::Value,
    }
}

settings! {
    /// A signed DNS update (RFC 2136, RFC 8945), as compare-and-set.
    pub struct DnsUpdate {
        /// The zone's primary server.
        pub server: std::net::SocketAddr,
        /// The zone.
        pub zone: String,
        /// The name, within the zone or absolute.
        pub name: String,
        /// The addresses that mean B; never empty.
        pub to: Vec<IpAddr>,
        /// The addresses that mean A; any other value stops the step.
        pub from: Vec<IpAddr>,
        /// Time to live of the new record.
        #[serde(default = "default_ttl")]
        pub ttl: Span,
        /// Name of the TSIG key.
        pub key_name: String,
        /// `hmac-sha256`, `hmac-sha384` or `hmac-sha512`.
        #[serde(default = "default_algorithm")]
        pub algorithm: String,
        /// Where the key lies, base64.
        pub tsig: SecretRef,
        /// Total time-out.
        #[serde(default = "default_call")]
        pub timeout: Span,
    }
}

settings! {
    /// Proof from outside that the name leads to B.
    pub struct RouteCheck {
        /// The name to resolve; the public URL's host if left out.
        #[serde(default)]
        pub name: Option<String>,
        /// Authoritative servers: all must answer with B.
        #[serde(default)]
        pub authoritative: Vec<std::net::SocketAddr>,
        /// Resolvers with caches: followed until the TTL ends, those that lag are named.
        #[serde(default)]
        pub resolvers: Vec<std::net::SocketAddr>,
        /// The addresses that mean B.
        #[serde(default)]
        pub expect: Vec<IpAddr>,
        /// Whether the nonce artifact of verify must come back through the public address.
        #[serde(default = "yes")]
        pub nonce_through_public: bool,
        /// Time for the whole step.
        #[serde(default = "default_route_check")]
        pub within: Span,
    }
}

/// Where pages and questions go: one key of these.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Notify {
    /// An HTTP call.
    Webhook(Webhook),
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
        }
    }
}

fn default_segment_bytes() -> u64 {
    16 * 1024 * 1024
}
fn default_period() -> Span {
    Span::secs(5)
}
fn default_timeout() -> Span {
    Span::secs(3)
}
fn default_heartbeat() -> Span {
    Span::secs(30)
}
fn default_hold_down() -> Span {
    Span::secs(90)
}
/// Measured on Nexus 3.71 over ext4: a snapshot lacks up to 31.5 s of acknowledged uploads.
fn default_writeback() -> Span {
    Span::secs(35)
}
fn default_skew() -> Span {
    Span::secs(60)
}
fn default_approval() -> Span {
    Span::secs(900)
}
fn default_block() -> Span {
    Span::secs(12 * 3600)
}
fn default_checks() -> Vec<String> {
    ["Lifecycle Phase", "Read-Only Detector", "Blob Stores Ready", "File Blob Stores Path", "Scheduler"]
        .map(String::from)
        .to_vec()
}
fn default_canary() -> String {
    "dr-canary".into()
}
fn default_fall() -> u32 {
    3
}
fn default_rise() -> u32 {
    2
}
fn default_rbd() -> Vec<String> {
    vec!["rbd".into()]
}
fn default_ceph() -> Vec<String> {
    vec!["ceph".into()]
}
fn default_call() -> Span {
    Span::secs(10)
}
fn default_hook() -> Span {
    Span::secs(60)
}
fn yes() -> bool {
    true
}
fn default_bound() -> Span {
    Span::secs(60)
}
fn default_conditions() -> Vec<String> {
    ["Initialized", "Deployed", "Running"].map(String::from).to_vec()
}
fn default_ready() -> Span {
    Span::secs(1800)
}
fn default_verify() -> Span {
    Span::secs(120)
}
fn default_verify_valid() -> Span {
    Span::secs(600)
}
fn default_method() -> String {
    "POST".into()
}
fn default_ttl() -> Span {
    Span::secs(60)
}
fn default_algorithm() -> String {
    "hmac-sha256".into()
}
fn default_route_check() -> Span {
    Span::secs(120)
}

/// The core's mode by its name in the file.
mod mode {
    use schemars::JsonSchema;
    use serde::{Deserialize, Deserializer};
    use understudy_core::Mode;

    #[derive(Deserialize, JsonSchema)]
    #[serde(rename_all = "snake_case")]
    pub enum Name {
        Observe,
        Confirm,
        Auto,
    }

    impl From<Name> for Mode {
        fn from(name: Name) -> Mode {
            match name {
                Name::Observe => Mode::Observe,
                Name::Confirm => Mode::Confirm,
                Name::Auto => Mode::Auto,
            }
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Mode, D::Error> {
        Name::deserialize(deserializer).map(Mode::from)
    }
}

mod optional_mode {
    use serde::{Deserialize, Deserializer};
    use understudy_core::Mode;

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Mode>, D::Error> {
        Option::<super::mode::Name>::deserialize(deserializer).map(|name| name.map(Mode::from))
    }
}

mod witness_kind {
    use schemars::JsonSchema;
    use serde::{Deserialize, Deserializer};
    use understudy_core::WitnessKind;

    #[derive(Deserialize, JsonSchema)]
    #[serde(rename_all = "snake_case")]
    pub enum Name {
        PrimarySite,
        ThirdSite,
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<WitnessKind, D::Error> {
        Name::deserialize(deserializer).map(|name| match name {
            Name::PrimarySite => WitnessKind::PrimarySite,
            Name::ThirdSite => WitnessKind::ThirdSite,
        })
    }
}
