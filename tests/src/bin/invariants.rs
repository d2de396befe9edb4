//! Prints how often each invariant was judged by simulation, small worlds, crash test and real journals, and the mutants.
//!
//! Each of them leaves an account when it has run; this joins them. Exit code 1: one was not run, an invariant was judged
//! nowhere or violated, or a mutant was not caught; what is missing is named with the command that makes it.

use std::path::Path;
use std::process::ExitCode;

use understudy_tests::proof::{Proof, place};

fn main() -> anyhow::Result<ExitCode> {
    let place = place();
    let verdicts = place.with_file_name("mutants").join("verdicts.tsv");
    let proof = Proof::collect(&place, &Path::new(env!("CARGO_MANIFEST_DIR")).join("mutants"), &verdicts)?;
    println!("{proof}");
    let lacks = proof.lacks();
    lacks.iter().for_each(|what| println!("LACKS: {what}"));
    Ok(if lacks.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
