//! Decides when the standby takes over, and in which order.
//!
//! In: readings, step results, orders and time, as [`Event`]s. Out: [`Command`]s, among them the [`Record`]s that the
//! journal keeps. This crate opens no socket, reads no clock and starts no task. Start reading at [`step`].

mod decide;
mod doubt;
mod drive;
mod event;
mod gate;
mod machine;
mod mirror;
mod names;
mod orders;
mod pair;
mod plan;
mod policy;
mod reading;
mod record;
mod signal;
mod time;
mod verdict;
mod view;
mod watch;

pub use decide::ANY_LOSS;
pub use event::*;
pub use gate::*;
pub use machine::{State, resume, step};
pub use mirror::*;
pub use names::*;
pub use plan::*;
pub use policy::*;
pub use reading::*;
pub use record::*;
pub use time::*;
pub use verdict::*;
pub use view::*;
pub use watch::{DomainState, MIN_ROUNDS};
