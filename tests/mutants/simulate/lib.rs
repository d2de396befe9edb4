//! Of the package `understudy-tests` what the simulation is.

#[path = "../../src/sim/mod.rs"]
pub mod sim;
