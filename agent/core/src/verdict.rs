//! From signals to what we believe of the active site.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What we believe of a pair's active site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// Everything that votes is Up.
    Up,
    /// Something is wrong, or not yet known.
    Suspect,
    /// Nexus is down, its site alive.
    ServiceDown,
    /// The site's Ceph is down, its API server alive.
    StorageDown,
    /// The whole site is down: quorum, no sign of life, hold-down complete.
    SiteDown,
    /// We doubt ourselves.
    Blind,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Up => "Up",
            Verdict::Suspect => "Suspect",
            Verdict::ServiceDown => "ServiceDown",
            Verdict::StorageDown => "StorageDown",
            Verdict::SiteDown => "SiteDown",
            Verdict::Blind => "Blind",
        })
    }
}
