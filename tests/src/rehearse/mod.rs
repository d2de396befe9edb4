//! A failover before your eyes: two stand-in sites, the real daemon as a process of its own between them.
//!
//! In: the name of a [`scenario`]. Out: what the daemon sees and does, live, and a table; an error if anything was not as
//! the scenario states. Start reading at [`scenario::ALL`].

pub mod moment;
pub mod play;
pub mod scenario;
pub mod show;
pub mod stage;
pub mod table;
