//! Decides when the standby takes over, and in which order.
//!
//! In: readings, step results, orders and time, as [`Event`]s. Out: [`Command`]s, among them the [`Record`]s that the
//! journal keeps. This crate opens no socket, reads no clock and starts no task.

mod event;
mod gate;
mod mirror;
mod names;
mod plan;
mod policy;
mod reading;
mod record;
mod time;
mod verdict;

pub use event::*;
pub use gate::*;
pub use mirror::*;
pub use names::*;
pub use plan::*;
pub use policy::*;
pub use reading::*;
pub use record::*;
pub use time::*;
pub use verdict::*;
