//! Searches every small world: `cargo run --release -p understudy-tests --bin small_worlds -- [--scope NAME] [--faults N]
//! [--depth N] [--patience N] [--states N] [--account]`. Ends with 1 and the shortest story if one of them breaks an invariant.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use understudy_tests::proof::{self, Account, Source};
use understudy_tests::small::{Found, Scope, search, table, tell};

#[derive(Parser)]
struct Arguments {
    /// Only this one: observe, confirm, auto, mirrored, two.
    #[arg(long)]
    scope: Option<String>,
    /// How many things may go wrong in one story; default as the scope has it.
    #[arg(long)]
    faults: Option<u32>,
    /// How many moves a story has at most; default as the scope has it.
    #[arg(long)]
    depth: Option<u32>,
    /// For how many seconds in all others may let us wait; default as the scope has it.
    #[arg(long)]
    patience: Option<u8>,
    /// Keeps how often each invariant was judged, for `tests/run invariants`.
    #[arg(long)]
    account: bool,
    /// Stops once this many states are known, for they are all held in memory.
    #[arg(long, default_value_t = 3_000_000)]
    states: usize,
}

/// Keeps how often each invariant was judged.
fn keep(scope: &Scope, found: &Found) -> anyhow::Result<()> {
    let Scope { faults, patience, .. } = scope;
    let end = if found.exhausted { "nothing left to try" } else { "every state within the depth" };
    let end = if found.cut { "as far as there was room" } else { end };
    let what = format!(
        "{} states, {} transitions, depth {}, faults {faults}, patience {patience} s: {end}",
        found.states, found.transitions, found.depth
    );
    let judged = found.judged.iter().map(|(invariant, n)| (invariant.to_string(), *n)).collect();
    let broken = found.broken.as_ref().map(|(violation, _)| violation.to_string());
    let account = Account::now(what, judged, broken);
    proof::keep(&proof::place(), Source::SmallWorlds, found.scope, &account)
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
        let scope = Scope {
            faults: wanted.faults.unwrap_or(scope.faults),
            depth: wanted.depth.unwrap_or(scope.depth),
            patience: wanted.patience.unwrap_or(scope.patience),
            ..scope
        };
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
        if wanted.account
            && let Err(error) = keep(&scope, &found)
        {
            eprintln!("{error:#}");
            return ExitCode::FAILURE;
        }
        all.push(found);
    }
    println!("\n{}", table(&all));
    if all.iter().any(|found| found.broken.is_some()) { ExitCode::from(1) } else { ExitCode::SUCCESS }
}
