//! The daemon: event loop, journal, telemetry, admin server, command line.
//!
//! The binaries `understudy` and `rehearse` both run it. Start reading at [`main`].

pub mod api;
pub mod boundary;
pub mod cli;
mod copy_age;
pub mod daemon;
pub mod guard;
pub mod handle;
pub mod history;
pub mod inbox;
pub mod journal;
pub mod lease;
pub mod metrics;
pub mod notices;
pub mod notify_systemd;
pub mod observe;
pub mod readiness;
pub mod recording;
pub mod replay;
pub mod report;
pub mod runner;
#[cfg(test)]
mod samples;
pub mod scenario;
pub mod settings;
pub mod shutdown;
pub mod telemetry;
pub mod tell;
pub mod text;
mod watcher;

pub use cli::{main, main_with};
pub use watcher::Watcher;
