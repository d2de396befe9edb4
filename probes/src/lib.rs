//! One file for each way of looking at a site. Reads, never changes.
//!
//! In: settings. Out: a [`Probe`], whose [`Probe::look`] says Up, Down or Unknown with a reason; a probe measures and never
//! fails: not being able to look is a reading too. How many readings make an outage is for the core to say. The table of each
//! way of looking stands on top of its file. Nothing here starts a task. Start reading at [`Probe`],
//! and at [`watch`] for when it looks.

pub mod boundary;
mod ceph;
pub mod clock;
mod dns;
mod exec;
mod fault;
mod grid;
mod http;
mod http1;
mod kubernetes;
mod line;
mod nexus;
mod probe;
mod process;
mod rbd;
mod rbd_mirror;
mod shared;
mod sight;
mod tcp;
#[cfg(test)]
mod testing;
mod witness;

use std::path::PathBuf;

pub use grid::{BootClock, Clock, Grid, Late, Looks, Round, look_now, watch};
pub use probe::{Look, Probe};
pub use shared::Shared;
pub use witness::{DomainSeen, SIGNATURE, Testimony, Witness, WitnessLook, sign};

/// Why a probe can not be made of its settings.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Correct the URL.
    #[error("failed to use {url}: {why}")]
    Url {
        /// Scheme and host; the rest may hold a secret.
        url: String,
        /// What is wrong.
        why: String,
    },
    /// Correct the file of root certificates.
    #[error("failed to read root certificates from {path}: {why}")]
    Roots {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Install the system's root certificates (Debian: ca-certificates), or name a file of roots (`ca`).
    #[error("failed to read the system's root certificates: {0}; install ca-certificates or set ca")]
    SystemRoots(rustls::Error),
    /// Correct `/etc/resolv.conf`, or write addresses (`connect_to`).
    #[error("failed to read the system's resolver configuration: {0}; write an address instead of a name (connect_to)")]
    Resolver(String),
    /// Write the secret where the file says that it lies.
    #[error("failed to read a secret")]
    Secret(#[from] understudy_config::SecretError),
    /// Correct the setting.
    #[error("failed to use {what}: {why}")]
    Setting {
        /// Which.
        what: &'static str,
        /// What is wrong.
        why: String,
    },
}
