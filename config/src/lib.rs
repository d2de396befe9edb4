//! File and environment to checked settings.
//!
//! In: one YAML file and `UNDERSTUDY__…` variables. Out: [`Config`], and the [`Policy`](understudy_core::Policy) that the
//! core decides by. Nothing outside this crate sees a raw setting. Start reading at [`Config::load`].

pub mod boundary;
mod bundle;
mod check;
mod connect_to;
mod document;
mod duration;
mod explain;
mod kubeconfig;
mod load;
mod policy;
pub mod rbd;
mod reload;
#[cfg(test)]
mod samples;
mod schema;
mod secret;
mod settings;
mod tree;
mod variables;

pub use check::{BODY_VARIABLES, Finding, Severity, check, check_settings};
pub use document::Document;
pub use duration::Span;
pub use explain::Problem;
pub use load::{LoadError, Loaded};
pub use policy::{COPY_AGE, NEUTRAL};
pub use reload::reload_allowed;
pub use schema::schema;
pub use secret::{SecretError, SecretRef};
pub use settings::*;
pub use tree::{Key, Position};
