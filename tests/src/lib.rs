//! What the rehearsal and the checks share: stand-in sites, and real ones.
//!
//! Start at [`standin`] or [`lab`].

pub mod bench;
pub mod boundary;
pub mod lab;
pub mod proof;
pub mod rehearse;
pub mod sim;
pub mod small;
pub mod standin;
