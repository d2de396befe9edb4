//! The daemon: event loop, journal, telemetry, admin server, command line.
//!
//! The binaries `understudy` and `rehearse` both run it. Start reading at [`main`].

pub mod inbox;
pub mod journal;
#[cfg(test)]
mod samples;
pub mod tell;
