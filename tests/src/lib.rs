//! What the rehearsal and the checks share: stand-in sites, and real ones.
//!
//! Start at [`standin`] or [`lab`].

pub mod bench;
pub mod boundary;
/// The world that the core's own tests play in.
#[path = "../../agent/core/tests/common/mod.rs"]
mod core_world;
pub mod follow;
pub mod lab;
pub mod proof;
pub mod rehearse;
pub mod roles;
pub mod sim;
pub mod small;
pub mod standin;
