//! Every small world there is: an exhaustive search over the core's own `step`.
//!
//! In: a [`Scope`], that is a policy and how much may go wrong in one story. Out: how many states and transitions there
//! are within a depth, how often each invariant was judged on the way, and the first story that breaks one, as short as
//! there is. Time goes by in whole seconds, each with one reading of everything; what a site, a link, a human, a step or
//! the machine under us may do at each moment is a [`Move`]. Two states are the same if the core, the checker and the world
//! around them are, with every time taken as an age. Start reading at [`search()`].

mod digest;
mod moves;
mod scope;
mod search;
mod world;

pub use moves::Move;
pub use scope::Scope;
pub use search::{Found, search, table, tell};
