//! What every test of a step needs, in this crate and beside real parts: an order, a context, and a wait with a bound.

mod context;
mod until;

pub use context::{context, order};
pub use until::until;
