//! File and environment to checked settings.
//!
//! In: one YAML file and `UNDERSTUDY__…` variables. Out: [`Config`], and the [`Policy`](understudy_core::Policy) that the
//! core decides by. Nothing outside this crate sees a raw setting. Start reading at [`Config::load`].

mod connect_to;
mod duration;
mod explain;
mod load;
mod policy;
pub mod rbd;
#[cfg(test)]
mod samples;
mod secret;
mod settings;
mod tree;
mod variables;

pub use duration::Span;
pub use explain::Problem;
pub use load::{LoadError, Loaded};
pub use policy::NEUTRAL;
pub use secret::{SecretError, SecretRef};
pub use settings::*;
pub use tree::{Key, Position};
