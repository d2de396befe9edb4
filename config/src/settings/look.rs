//! Ways of looking: probes and self-checks.

use std::net::IpAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;
use understudy_core::Domain;

use super::{ConnectTo, defaults, names};
use crate::Span;

/// What must work if we are fit to judge.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(try_from = "WrittenSelfCheck")]
#[schemars(with = "WrittenSelfCheck")]
pub struct SelfCheck {
    /// Its name.
    pub name: String,
    /// How it is read.
    pub look: Look,
    /// Checks of one group stand in for each other: one that works is enough.
    pub group: Option<String>,
    /// Start-to-start time of its grid.
    pub period: Span,
    /// Total time-out of one look.
    pub timeout: Span,
}

/// A way of looking, with its grid.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(try_from = "WrittenProbe")]
#[schemars(with = "WrittenProbe")]
pub struct Probe {
    /// Its name.
    pub name: String,
    /// What it can speak about; each kind has its own default.
    pub domain: Option<Domain>,
    /// How it looks.
    pub look: Look,
    /// Start-to-start time of its grid.
    pub period: Span,
    /// Total time-out of one look.
    pub timeout: Span,
    /// Time-out of the connection alone; two thirds of `timeout` if left out.
    pub connect_timeout: Option<Span>,
    /// Consecutive Down readings that count.
    pub fall: u32,
    /// Consecutive Up readings that count.
    pub rise: u32,
}

/// How a probe looks: one key of these.
#[derive(Debug, Clone, PartialEq)]
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

impl Look {
    /// The key that it is written as.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Look::Nexus(_) => "nexus",
            Look::Kubernetes(_) => "kubernetes",
            Look::RbdMirror(_) => "rbd_mirror",
            Look::Ceph(_) => "ceph",
            Look::Http(_) => "http",
            Look::Tcp(_) => "tcp",
            Look::Dns(_) => "dns",
            Look::Exec(_) => "exec",
        }
    }
}

/// What has to be written with its kind as a flat key: serde's `flatten` would lose the line of every error.
macro_rules! with_look {
    ($(#[$doc:meta])* struct $name:ident { $($(#[$fdoc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        #[schemars(extend("oneOf" = KINDS.map(|kind| serde_json::json!({ "required": [kind] }))))]
        struct $name {
            $($(#[$fdoc])* $field: $type,)*
            /// A Nexus of this pair, one of its aspects.
            #[serde(default)]
            nexus: Option<NexusLook>,
            /// An API server: `primary` or `standby` of `clusters`.
            #[serde(default)]
            kubernetes: Option<Which>,
            /// The mirrored images, at B.
            #[serde(default)]
            rbd_mirror: Option<RbdMirrorLook>,
            /// A bounded read on a Ceph cluster.
            #[serde(default)]
            ceph: Option<CephLook>,
            /// An HTTP GET.
            #[serde(default)]
            http: Option<HttpLook>,
            /// A TCP connection.
            #[serde(default)]
            tcp: Option<TcpLook>,
            /// A DNS question.
            #[serde(default)]
            dns: Option<DnsLook>,
            /// A program: exit 0 = Up, 1 = Down, anything else Unknown.
            #[serde(default)]
            exec: Option<ExecLook>,
        }

        impl $name {
            fn look(&mut self) -> Result<Look, NotOneLook> {
                let mut found: Vec<Look> = [
                    self.nexus.take().map(Look::Nexus),
                    self.kubernetes.take().map(Look::Kubernetes),
                    self.rbd_mirror.take().map(Look::RbdMirror),
                    self.ceph.take().map(Look::Ceph),
                    self.http.take().map(Look::Http),
                    self.tcp.take().map(Look::Tcp),
                    self.dns.take().map(Look::Dns),
                    self.exec.take().map(Look::Exec),
                ]
                .into_iter()
                .flatten()
                .collect();
                match (found.pop(), found.is_empty()) {
                    (Some(look), true) => Ok(look),
                    (None, _) => Err(NotOneLook::None { name: self.name.clone() }),
                    (Some(last), false) => {
                        let kinds = found.iter().chain([&last]).map(Look::kind).collect();
                        Err(NotOneLook::Many { name: self.name.clone(), kinds })
                    }
                }
            }
        }
    };
}

const KINDS: [&str; 8] = ["nexus", "kubernetes", "rbd_mirror", "ceph", "http", "tcp", "dns", "exec"];

/// A probe looks in exactly one way.
#[derive(Debug, thiserror::Error)]
enum NotOneLook {
    /// Write one.
    #[error("{name:?} does not say how to look: write one key of {}", KINDS.join(", "))]
    None { name: String },
    /// Keep one.
    #[error("{name:?} looks in {} ways ({}): keep one, and write a probe of its own for each other", kinds.len(), kinds.join(", "))]
    Many { name: String, kinds: Vec<&'static str> },
}

with_look! {
    /// What must work if we are fit to judge.
    struct WrittenSelfCheck {
        /// Its name.
        name: String,
        /// Checks of one group stand in for each other: one that works is enough. `http`, `tcp` and `dns` are in the group
        /// `neutral` if left out; any other kind stands alone and must itself work.
        #[serde(default)]
        group: Option<String>,
        /// Start-to-start time of its grid.
        #[serde(default = "defaults::period")]
        period: Span,
        /// Total time-out of one look.
        #[serde(default = "defaults::timeout")]
        timeout: Span,
    }
}

impl TryFrom<WrittenSelfCheck> for SelfCheck {
    type Error = NotOneLook;

    fn try_from(mut written: WrittenSelfCheck) -> Result<Self, NotOneLook> {
        let look = written.look()?;
        let WrittenSelfCheck { name, group, period, timeout, .. } = written;
        Ok(Self { name, look, group, period, timeout })
    }
}

with_look! {
    /// A way of looking, with its grid.
    struct WrittenProbe {
        /// Its name.
        name: String,
        /// What it can speak about: `service`, `control_plane` or `storage`; each kind has its own default.
        #[serde(default)]
        #[schemars(with = "Option<names::DomainName>")]
        domain: Option<Domain>,
        /// Start-to-start time of its grid.
        #[serde(default = "defaults::period")]
        period: Span,
        /// Total time-out of one look.
        #[serde(default = "defaults::timeout")]
        timeout: Span,
        /// Time-out of the connection alone; two thirds of `timeout` if left out.
        #[serde(default)]
        connect_timeout: Option<Span>,
        /// Consecutive Down readings that count.
        #[serde(default = "defaults::fall")]
        fall: u32,
        /// Consecutive Up readings that count.
        #[serde(default = "defaults::rise")]
        rise: u32,
    }
}

impl TryFrom<WrittenProbe> for Probe {
    type Error = NotOneLook;

    fn try_from(mut written: WrittenProbe) -> Result<Self, NotOneLook> {
        let look = written.look()?;
        let WrittenProbe { name, domain, period, timeout, connect_timeout, fall, rise, .. } = written;
        Ok(Self { name, domain, look, period, timeout, connect_timeout, fall, rise })
    }
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
        #[serde(default = "defaults::rbd")]
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
