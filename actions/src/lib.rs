//! One file for each step of a plan, and the ways out that they share.
//!
//! In: a [`StepOrder`](understudy_core::StepOrder) and the pair's settings. Out: a
//! [`StepResult`](understudy_core::StepResult). A step changes the world and reads it; which step comes when, and
//! whether it is tried again, is for the core. Start reading at [`run`].

pub mod bundle;
pub mod clean;
mod context;
mod dns;
pub mod dns_update;
mod error;
pub mod hook;
pub mod http_client;
pub mod kube_client;
pub mod lease;
mod looks;
pub mod manifest;
pub mod process;
pub mod promote_keeper;
pub mod route_webhook;
mod run;
mod template;
pub mod webhook;

pub use context::{Context, Gatekeeper, Later, Permit};
pub use error::StepError;
pub use run::{StepDone, run};
pub use template::{UnknownVariable, VARIABLES, Words, fill, unknown_variable};

#[cfg(test)]
mod testing;
