//! What the rehearsal and the checks share: the stand-in sites.
//!
//! Start at [`standin`].

pub mod standin;
