//! Is it the right Nexus, and does everybody find it: verify, route, notices.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{HttpLook, defaults};
use crate::{SecretRef, Span};

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
        #[serde(default = "defaults::verify")]
        pub within: Span,
        /// A route may be switched while `verify` is younger than this.
        #[serde(default = "defaults::verify_valid")]
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
#[expect(clippy::large_enum_variant, reason = "there are a handful, read once")]
pub enum RouteTarget {
    /// An HTTP call.
    Webhook(RouteWebhook),
    /// A signed DNS update.
    DnsUpdate(DnsUpdate),
}

/// A route switched by webhook, and read back.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(from = "WrittenRouteWebhook")]
#[schemars(with = "WrittenRouteWebhook")]
pub struct RouteWebhook {
    /// The call that switches.
    pub call: Webhook,
    /// The call that reads the value back; without it the answer to the switch must say.
    pub read: Option<ReadBack>,
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

/// The keys of a webhook, for the two types that hold them: serde's `flatten` would lose the line of every error.
macro_rules! with_webhook {
    ($(#[$doc:meta])* $vis:vis struct $name:ident { $($(#[$fdoc:meta])* pub $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        $vis struct $name {
            /// Where.
            pub url: url::Url,
            /// How.
            #[serde(default = "defaults::method")]
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
            #[serde(default = "defaults::call")]
            pub timeout: Span,
            /// PEM file with the roots to trust instead of the system's.
            #[serde(default)]
            pub ca: Option<PathBuf>,
            $($(#[$fdoc])* pub $field: $type,)*
        }
    };
}

with_webhook! {
    /// An HTTP call, signed as Standard Webhooks prescribe.
    pub struct Webhook {}
}

with_webhook! {
    /// A route switched by webhook, and read back.
    struct WrittenRouteWebhook {
        /// The call that reads the value back; without it the answer to the switch must say.
        #[serde(default)]
        pub read: Option<ReadBack>,
    }
}

impl From<WrittenRouteWebhook> for RouteWebhook {
    fn from(written: WrittenRouteWebhook) -> Self {
        let WrittenRouteWebhook {
            url,
            method,
            headers,
            secret_headers,
            body,
            secret,
            expect,
            expect_json,
            timeout,
            ca,
            read,
        } = written;
        let call = Webhook { url, method, headers, secret_headers, body, secret, expect, expect_json, timeout, ca };
        Self { call, read }
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
        #[serde(default = "defaults::ttl")]
        pub ttl: Span,
        /// Name of the TSIG key.
        pub key_name: String,
        /// `hmac-sha256`, `hmac-sha384` or `hmac-sha512`.
        #[serde(default = "defaults::algorithm")]
        pub algorithm: String,
        /// Where the key lies, base64.
        pub tsig: SecretRef,
        /// Total time-out.
        #[serde(default = "defaults::call")]
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
        #[serde(default = "defaults::yes")]
        pub nonce_through_public: bool,
        /// Time for the whole step.
        #[serde(default = "defaults::route_check")]
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
