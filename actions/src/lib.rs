//! One file for each step of a plan, and the ways out that they share.
//!
//! In: a [`StepOrder`](understudy_core::StepOrder) and the pair's settings. Out: a
//! [`StepResult`](understudy_core::StepResult). A step changes the world and reads it; which step comes when, and
//! whether it is tried again, is for the core. Start reading at [`run()`].

mod blocklist;
mod bound;
pub mod boundary;
pub mod bundle;
pub mod clean;
mod consistency;
mod context;
pub mod custom_resource;
pub mod demote;
mod deploy;
mod dns;
pub mod dns_update;
mod error;
mod fence;
pub mod hook;
mod hooks_storage;
mod http_client;
mod kube_apply;
mod kube_call;
pub mod kube_client;
mod kube_watch;
pub mod lease;
mod looks;
pub mod manifest;
mod mirror_back;
mod nexus_api;
mod nonce;
pub mod notify;
mod pods;
pub mod process;
mod promote;
pub mod promote_keeper;
mod promote_try;
mod quiesce;
mod rbd;
mod restore;
pub mod route_check;
pub mod route_webhook;
mod run;
pub mod storage;
mod template;
mod undo_point;
pub mod verify;
pub mod webhook;

pub use context::{Context, Gatekeeper, Later, Permit};
pub use error::StepError;
pub use http_client::HttpError;
pub use run::{StepDone, run};
pub use template::{UnknownVariable, VARIABLES, Words, fill};

#[cfg(test)]
extern crate self as understudy_actions;
#[cfg(test)]
#[path = "../tests/support/mod.rs"]
mod support;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod testing_rbd;
