//! Names and positions. A position is valid within one [`Policy`](crate::Policy); what is journaled carries names.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                Self(name.to_owned())
            }
        }
    };
}

name! {
    /// A protected Nexus: its place at A, its place at B, its volumes, its route.
    PairName
}
name! {
    /// One durable run of a plan: `PAIR-EPOCH-failover`.
    RunId
}
name! {
    /// A question to a human: `PAIR-NUMBER`; numbers are never used twice.
    RequestId
}
name! {
    /// An RBD image, `POOL/IMAGE`.
    ImageName
}

/// A pair's position in the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PairId(pub u32);

impl PairId {
    /// As an index.
    #[must_use]
    pub fn at(self) -> usize {
        self.0 as usize
    }
}

/// A number given by the shell to whoever waits for an [`Answer`](crate::Command::Answer) or an [`Ack`](crate::Command::Ack).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ticket(pub u64);
