//! `rehearse`: a whole failover on a machine with nothing but Rust.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use understudy_tests::rehearse::moment;
use understudy_tests::rehearse::scenario::{ALL, Scenario};
use understudy_tests::rehearse::show::Show;
use understudy_tests::roles;

/// Plays a failover before your eyes: two stand-in sites on loopback, the real daemon between them.
///
/// Every timer is shortened (hold-down 3 s); the settings are left in the directory for reading.
#[derive(Debug, Parser)]
#[command(
    name = "rehearse",
    after_help = "Examples:\n  rehearse                 the default scenario, site-down\n  rehearse --list\n  rehearse --all --json"
)]
struct Arguments {
    /// The scenario to play.
    name: Option<String>,
    /// Lists every scenario and what it states.
    #[arg(long)]
    list: bool,
    /// Plays every scenario.
    #[arg(long, conflicts_with = "name")]
    all: bool,
    /// Prints the result as JSON, one line a scenario.
    #[arg(long)]
    json: bool,
    /// Where settings, secrets, journal and logs are left.
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

fn main() -> ExitCode {
    // This program is also the daemon, the keeper of promotes, and the stand-ins of rbd and ceph.
    let words: Vec<String> = std::env::args().collect();
    if let Some(code) = roles::play(&words) {
        return code;
    }
    if words.get(1).is_some_and(|word| word == "understudy-killed-after") {
        return killed_after(&words[2..]);
    }
    let arguments = Arguments::parse();
    if arguments.list {
        ALL.iter().for_each(|scenario| println!("{:<24} {}", scenario.name, scenario.states));
        return ExitCode::SUCCESS;
    }
    let chosen: Vec<&Scenario> = match &arguments.name {
        _ if arguments.all => ALL.iter().collect(),
        None => ALL.iter().take(1).collect(),
        Some(name) => match ALL.iter().find(|scenario| scenario.name == name) {
            Some(scenario) => vec![scenario],
            None => {
                eprintln!("rehearse: there is no scenario {name:?}; `rehearse --list` names them");
                return ExitCode::from(2);
            }
        },
    };
    let root = arguments
        .directory
        .unwrap_or_else(|| std::env::temp_dir().join(format!("understudy-rehearsal-{}", std::process::id())));
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("rehearse: failed to start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut failed = 0;
    for scenario in &chosen {
        failed += usize::from(!runtime.block_on(play(scenario, root.join(scenario.name), arguments.json)));
    }
    if chosen.len() > 1 && !arguments.json {
        println!("{} passed, {failed} failed", chosen.len() - failed);
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The daemon, with SIGKILL for itself at a [`moment`]; the words behind those of the moment are its own.
fn killed_after(words: &[String]) -> ExitCode {
    const OF_THE_MOMENT: usize = 3;
    match moment::killer(words) {
        // The first word is taken for the program's name.
        Some(watcher) => understudy_agent::main_with(&words[OF_THE_MOMENT - 1..], watcher),
        None => ExitCode::from(2),
    }
}

async fn play(scenario: &Scenario, directory: PathBuf, json: bool) -> bool {
    if !json {
        println!("== {}: {}", scenario.name, scenario.states);
    }
    let began = std::time::Instant::now();
    let result = (scenario.play)(directory.clone(), Show::new(json)).await;
    let took_s = began.elapsed().as_secs_f64();
    let passed = result.is_ok();
    if json {
        let error = result.as_ref().err().map(|e| format!("{e:#}"));
        let line = serde_json::json!({
            "scenario": scenario.name, "passed": passed, "took_s": took_s, "error": error,
            "table": result.ok(), "directory": directory,
        });
        println!("{line}");
        return passed;
    }
    match result {
        Ok(table) => println!(
            "\n{table}\n== {}: as stated, {took_s:.1} s; settings and journal: {}\n",
            scenario.name,
            directory.display()
        ),
        Err(error) => {
            println!("\n== {}: FAILED after {took_s:.1} s: {error:#}\n   see {}\n", scenario.name, directory.display())
        }
    }
    passed
}
