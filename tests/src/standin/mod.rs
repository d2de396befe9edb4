//! Stand-ins of everything a failover touches, in one process, on loopback sockets.
//!
//! They speak the real protocols and behave as the real parts were measured to, so that the daemon
//! needs no switch to work against them. Each part can be killed, frozen, thawed and restarted, and
//! writes what it was made to do into the [`effects::Ledger`]. Nothing here decides anything about a
//! failover.

pub mod ceph;
pub mod dns;
pub mod effects;

pub mod kube;
pub mod lb;
pub mod nexus;
pub mod notify;
pub mod port;
pub mod side;
pub mod site;
pub mod volume;
pub mod web;
pub mod webhook;

/// Makes ring the process's TLS provider. Safe to repeat.
pub fn install_crypto() {
    // An error says that one is installed already, which is all that is wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
