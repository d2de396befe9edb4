//! Stories of failovers by the thousand: the real core in a simulated world, with faults from a seed.
//!
//! `simulate --stories 100000` plays so many from a fresh seed, on all cores, and prints what was exercised; one that
//! fails is shortened and told. `simulate --seed N` tells one. Exit code 1: something was violated, or something that is
//! to be exercised never was.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;
use understudy_tests::proof::{self, Account, Source};
use understudy_tests::sim::plot::Plot;
use understudy_tests::sim::run::{Order, Results, play_all, run};
use understudy_tests::sim::shrink::shrink;
use understudy_tests::sim::{Violation, play};

/// Too few stories do not meet every fault.
const MEETS_ALL: u64 = 50_000;

#[derive(Parser)]
#[command(name = "simulate", about = "Plays stories of failovers in a simulated world")]
struct Args {
    /// How many stories to play
    #[arg(long)]
    stories: Option<u64>,
    /// The first seed; without --stories or --seconds the one story that is told
    #[arg(long)]
    seed: Option<u64>,
    /// Play for so many seconds
    #[arg(long)]
    seconds: Option<u64>,
    /// On how many threads; default all cores
    #[arg(long)]
    jobs: Option<usize>,
    /// A file that keeps how far the run is; if it exists the run goes on from there
    #[arg(long)]
    resume: Option<PathBuf>,
    /// Seeds, one a line, that are played first; what follows a `#` is a comment
    #[arg(long)]
    also: Option<PathBuf>,
    /// Keep how often each invariant was judged, under this name, for `tests/run invariants`
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// Do not shorten a story that fails
    #[arg(long)]
    whole: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    if let (Some(seed), None, None) = (args.seed, args.stories, args.seconds) {
        return Ok(tell(seed, args.whole));
    }
    let mut failed = Vec::new();
    if let Some(path) = &args.also {
        let (tally, bad) = play_all(seeds_of(&std::fs::read_to_string(path)?)?);
        println!("{} kept seeds played, {} failed", tally.stories, bad.len());
        failed.extend(bad);
    }
    let seed = args.seed.unwrap_or_else(fresh);
    let before = match &args.resume {
        Some(path) => Results::load(path, seed)?,
        None => Results { seed, next: seed, ..Results::default() },
    };
    let jobs = args.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let order = Order {
        seed: before.seed,
        stories: args.stories.unwrap_or(u64::MAX - before.seed),
        within: args.seconds.map(Duration::from_secs),
        jobs,
    };
    let earlier = before.next - before.seed;
    let results = run(order, before, args.resume.as_deref())?;
    println!("seeds {} to {}, {:.0} s", results.seed, results.next - 1, results.seconds);
    println!("{}", results.tally);
    failed.extend(results.failed.iter().cloned());
    if let Some(name) = &args.account {
        keep(name, &results, &failed)?;
    }
    let idle = if results.tally.stories >= MEETS_ALL { results.tally.idle() } else { vec![] };
    for what in &idle {
        println!("NEVER EXERCISED: {what}");
    }
    println!(
        "{} stories now, {} in all, {} violated",
        results.next - results.seed - earlier,
        results.tally.stories,
        failed.len()
    );
    for (seed, violation) in failed.iter().take(8) {
        println!("\nseed {seed}: {}: {}", violation.invariant, violation.what);
    }
    if let Some((seed, _)) = failed.first() {
        tell(*seed, args.whole);
    }
    Ok(if failed.is_empty() && idle.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Keeps how often each invariant was judged.
fn keep(name: &str, results: &Results, failed: &[(u64, Violation)]) -> anyhow::Result<()> {
    let what = format!("{} stories from seed {}", results.tally.stories, results.seed);
    let broken = failed.first().map(|(seed, violation)| format!("seed {seed} breaks {}", violation.invariant));
    let account = Account::now(what, proof::by_invariant(&results.tally.judged), broken);
    proof::keep(&proof::place(), Source::Simulation, name, &account)
}

/// Tells one story; one that fails is shortened first.
fn tell(seed: u64, whole: bool) -> ExitCode {
    let mut plot = Plot::of(seed);
    let mut story = play(&plot, true);
    if let Some(violation) = story.violation.clone().filter(|_| !whole) {
        plot = shrink(&plot, &violation);
        story = play(&plot, true);
    }
    println!("\nThe story of seed {seed}");
    let rules = &plot.policy.pairs[0];
    println!(
        "  mode {}, {} images, witnesses {:?}",
        rules.mode,
        rules.images.len(),
        rules.witnesses.iter().map(|w| w.kind).collect::<Vec<_>>()
    );
    println!("  {:?}", plot.setting);
    plot.faults.iter().for_each(|fault| println!("  {fault}"));
    story.told.iter().for_each(|line| println!("{line}"));
    match story.violation {
        None => ExitCode::SUCCESS,
        Some(Violation { invariant, what, .. }) => {
            println!("\n{invariant}: {what}\nagain: simulate --seed {seed}");
            ExitCode::FAILURE
        }
    }
}

fn seeds_of(text: &str) -> anyhow::Result<Vec<u64>> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    lines.filter(|line| !line.is_empty()).map(|line| line.parse().map_err(anyhow::Error::from)).collect()
}

/// Another seed each time.
fn fresh() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs()) << 24
}
