//! Searches every small world: `cargo run --release -p understudy-tests --bin small_worlds -- [--scope NAME] [--faults N]
//! [--depth N] [--states N]`. Ends with 1 and the shortest story if one of them breaks an invariant.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use understudy_tests::small::{Found, Scope, search, table, tell};

#[derive(Parser)]
struct Arguments {
    /// Only this one: confirm, auto, mirrored, two.
    #[arg(long)]
    scope: Option<String>,
    /// How many things may go wrong in one story.
    #[arg(long, default_value_t = 2)]
    faults: u32,
    /// How many moves a story has at most.
    #[arg(long, default_value_t = 24)]
    depth: u32,
    /// For how many seconds in all others may let us wait.
    #[arg(long, default_value_t = 4)]
    patience: u8,
    /// Stops once this many states are known, for they are all held in memory.
    #[arg(long, default_value_t = 3_000_000)]
    states: usize,
}

fn main() -> ExitCode {
    let wanted = Arguments::parse();
    let names = wanted.scope.as_deref().map_or(Scope::ALL.to_vec(), |name| vec![name]);
    let mut all: Vec<Found> = Vec::new();
    for name in names {
        let Some(scope) = Scope::named(name) else {
            eprintln!("there is no scope {name}; there are {}", Scope::ALL.join(", "));
            return ExitCode::from(2);
        };
        let Arguments { faults, depth, patience, .. } = wanted;
        let scope = Scope { faults, depth, patience, ..scope };
        let began = Instant::now();
        let found = search(&scope, wanted.states);
        let took = began.elapsed().as_secs_f64();
        println!(
            "{name}: {} states, {} transitions, depth {}, {took:.1} s",
            found.states, found.transitions, found.depth
        );
        if let Some((violation, moves)) = &found.broken {
            println!("{}BROKEN: {violation}", tell(&scope, moves));
        }
        all.push(found);
    }
    println!("\n{}", table(&all));
    if all.iter().any(|found| found.broken.is_some()) { ExitCode::from(1) } else { ExitCode::SUCCESS }
}
