//! The daemon: event loop, journal, telemetry, admin server, command line.
//!
//! The binaries `understudy` and `rehearse` both run it. Start reading at [`main`].

pub mod handle;
pub mod history;
pub mod inbox;
pub mod journal;
pub mod metrics;
pub mod observe;
pub mod report;
#[cfg(test)]
mod samples;
pub mod tell;
mod text;
