//! Of the package `understudy-agent` what the simulation uses: the journal's form, and its records in words.
#![allow(dead_code, reason = "the rest of both files is for the rest of that package")]

#[path = "../../../../agent/src/journal/line.rs"]
pub mod line;
#[path = "../../../../agent/src/tell.rs"]
pub mod tell;

/// As it is called there.
pub mod journal {
    pub use crate::line;
}
