//! The command line: the daemon itself, and everything that a human says to it or reads of it.
//!
//! In: arguments. Out: text or JSON on standard output, errors on standard error, and an exit code of [`Exit`].
//! Orders and live state go through the daemon's socket; what is past is read from the journal's files, so that it can
//! be read while the daemon is down. Start reading at [`main_with`].

mod arguments;
mod client;
mod orders;
mod records;
mod replay;
mod run;
mod status;
mod test;
pub(crate) mod text;
mod wait;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{CommandFactory, Parser};
use understudy_actions::promote_keeper;
use understudy_config::{Config, Loaded, Severity};

pub use orders::orders_in_words;

use crate::Watcher;
use crate::api::SOCKET;
use crate::text::say;
use arguments::{Arguments, Command, Place};

/// What the exit code says; also in `understudy --help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It was done, or all is well.
    Done = 0,
    /// It failed: a run that did not succeed, a journal that breaks a rule, a daemon that can not go on.
    Failed = 1,
    /// The command or the configuration is wrong.
    Usage = 2,
    /// The daemon refused.
    Refused = 3,
    /// No daemon answers.
    Unreachable = 4,
    /// Not all is well, or it is not over yet (`status --exit-code`, `report`).
    NotWell = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// An error with the exit code that goes with it.
#[derive(Debug)]
struct Failure {
    exit: Exit,
    error: anyhow::Error,
}

impl Failure {
    fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { exit, error: error.into() }
    }

    fn usage(message: impl std::fmt::Display) -> Self {
        Self::new(Exit::Usage, anyhow::anyhow!("{message}"))
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self { exit: Exit::Failed, error }
    }
}

type Outcome = Result<Exit, Failure>;

/// The binary `understudy`.
#[must_use]
pub fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    main_with(&words, Watcher::nobody())
}

/// The binary, with the arguments that are given, the program's name first, and somebody who sees each record of the
/// daemon.
#[must_use]
pub fn main_with<W>(words: &[W], watcher: Watcher) -> ExitCode
where
    W: Clone + Into<OsString>,
{
    let words: Vec<OsString> = words.iter().cloned().map(Into::into).collect();
    // The keeper of a promote outlives the daemon; it is kept apart from everything that could fail here.
    if words.get(1).is_some_and(|word| word == promote_keeper::KEEPER_COMMAND) {
        return promote_keeper::keeper_main(words.into_iter().skip(2));
    }
    // A second installation is refused, and the first one is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
    match Arguments::try_parse_from(words) {
        Ok(arguments) => told(obey(arguments, watcher)),
        Err(error) => {
            // Nothing is left to say if not even this can be printed.
            drop(error.print());
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Exit::Usage as u8))
        }
    }
}

fn told(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(exit) => exit.into(),
        Err(Failure { exit, error }) => {
            eprintln!("understudy: {}", crate::text::printable(&format!("{error:#}")));
            exit.into()
        }
    }
}

fn obey(arguments: Arguments, watcher: Watcher) -> Outcome {
    let place = arguments.place;
    match arguments.command {
        Command::Run => run::daemon(&place.config, watcher),
        Command::Witness => run::witness(&place.config, watcher),
        Command::Check(check) => lint(check.file.as_deref().unwrap_or(&place.config), check.json),
        Command::Schema(wanted) if wanted.scenario => print_json(&crate::scenario::schema()),
        Command::Schema(_) => print_json(&understudy_config::schema()),
        Command::Test(wanted) => test::test(&wanted),
        Command::Replay(wanted) => {
            let path = wanted.path.clone().map_or_else(|| state_directory(&place), Ok)?;
            replay::replay(&path, &wanted)
        }
        Command::Completions(wanted) => {
            clap_complete::generate(wanted.shell, &mut Arguments::command(), "understudy", &mut std::io::stdout());
            Ok(Exit::Done)
        }
        Command::Status(wanted) => talk(status::status(&socket(&place)?, &wanted)),
        Command::Why(wanted) => talk(status::why(&socket(&place)?, &wanted)),
        Command::Order(order) => talk(orders::give(&socket(&place)?, order)),
        Command::History(wanted) => records::history(&state_directory(&place)?, &wanted),
        Command::Report(wanted) => records::report(&state_directory(&place)?, &wanted),
        Command::Journal(wanted) => records::journal(|| state_directory(&place), &wanted),
    }
}

/// Runs what speaks with the daemon.
fn talk(conversation: impl Future<Output = Outcome>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("failed to start")?.block_on(conversation)
}

/// The daemon's socket: as given, or in the state directory that the configuration names.
fn socket(place: &Place) -> Result<PathBuf, Failure> {
    match &place.socket {
        Some(socket) => Ok(socket.clone()),
        None => Ok(state_directory(place)?.join(SOCKET)),
    }
}

fn state_directory(place: &Place) -> Result<PathBuf, Failure> {
    Ok(load(&place.config)?.config.state.file)
}

fn load(path: &Path) -> Result<Loaded, Failure> {
    Config::load(path).map_err(|error| Failure::new(Exit::Usage, error))
}

/// `check`: every finding, errors first.
fn lint(path: &Path, json: bool) -> Outcome {
    let loaded = load(path)?;
    let findings = understudy_config::check(&loaded);
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    if json {
        print_json(&findings)?;
    } else {
        findings.iter().for_each(|finding| say(&format!("{finding}\n")));
        say(&format!("{}: {errors} errors, {} warnings\n", path.display(), findings.len() - errors));
    }
    Ok(if errors == 0 { Exit::Done } else { Exit::Usage })
}

fn print_json(value: &impl serde::Serialize) -> Outcome {
    let text = serde_json::to_string_pretty(value).context("failed to write JSON")?;
    say(&format!("{text}\n"));
    Ok(Exit::Done)
}
