//! File and environment to checked settings.
//!
//! In: one YAML file and `UNDERSTUDY__…` variables. Out: [`Config`], and the [`Policy`](understudy_core::Policy) that the
//! core decides by. Nothing outside this crate sees a raw setting.

mod connect_to;
mod duration;
pub mod rbd;
mod secret;
mod settings;

pub use duration::Span;
pub use secret::{SecretError, SecretRef};
pub use settings::*;
