//! Of the package `understudy-tests` what the simulation is, and where it keeps its counts.

#[path = "../../src/proof/mod.rs"]
pub mod proof;
#[path = "../../src/sim/mod.rs"]
pub mod sim;
