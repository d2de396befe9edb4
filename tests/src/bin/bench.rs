//! `bench`: the figures of docs/performance.md, each with its bar.

use std::process::ExitCode;

use clap::Parser;
use understudy_tests::bench::{Row, detection, failover, looks, memory, serve, simulate, step};
use understudy_tests::roles;

const PARTS: [&str; 6] = ["step", "simulate", "looks", "detection", "memory", "failover"];

/// Measures, compares with the bars, and fails if one is missed.
#[derive(Debug, Parser)]
#[command(name = "bench", after_help = "Parts: step, simulate, looks, detection, memory, failover")]
struct Arguments {
    /// Only these parts.
    #[arg(value_parser = PARTS)]
    parts: Vec<String>,
    /// Prints the rows as JSON instead of a table.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    // This program is also the daemon, the keeper of promotes, the stand-ins of rbd and ceph, and its own web servers.
    let words: Vec<String> = std::env::args().collect();
    if let Some(code) = roles::play(&words) {
        return code;
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("bench: failed to start: {error}");
            return ExitCode::FAILURE;
        }
    };
    if words.get(1).map(String::as_str) == Some("serve") {
        return serve_here(&runtime, &words[2..]);
    }
    let arguments = Arguments::parse();
    let rows = runtime.block_on(measure(&arguments));
    if arguments.json {
        match serde_json::to_string_pretty(&rows) {
            Ok(text) => println!("{text}"),
            Err(error) => eprintln!("bench: failed to print: {error}"),
        }
    } else {
        println!("| what | figure | bar | | how |\n|---|---|---|---|---|");
        rows.iter().for_each(|row| println!("{row}"));
    }
    let missed = rows.iter().filter(|row| !row.is_met()).count();
    eprintln!("{} met, {missed} missed", rows.len() - missed);
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn serve_here(runtime: &tokio::runtime::Runtime, words: &[String]) -> ExitCode {
    let (Some(host), Some(count)) = (words.first(), words.get(1).and_then(|n| n.parse().ok())) else {
        return ExitCode::from(2);
    };
    match runtime.block_on(serve::run(host, count)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: failed to serve: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(arguments: &Arguments) -> Vec<Row> {
    let mut rows = Vec::new();
    for part in PARTS {
        if !arguments.parts.is_empty() && !arguments.parts.iter().any(|wanted| wanted == part) {
            continue;
        }
        eprintln!("bench: {part}");
        let measured = match part {
            "step" => step::rows(),
            "simulate" => simulate::rows(),
            "looks" => looks::rows().await,
            "detection" => detection::rows().await,
            "memory" => Ok(memory::rows().await),
            _ => failover::rows().await,
        };
        match measured {
            Ok(measured) => rows.extend(measured),
            Err(error) => rows.push(Row::failed(part, &error)),
        }
    }
    rows
}
