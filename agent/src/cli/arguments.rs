//! The words of the command line, and what `--help` teaches.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use understudy_core::{ANY_LOSS, RequestId, RunId, Step};

const EXIT_CODES: &str = "\
Exit codes:
  0  done, or all is well
  1  failed: a run that did not succeed, a journal that breaks a rule, a daemon that can not go on
  2  the command or the configuration is wrong
  3  the daemon refused
  4  no daemon answers
  5  not all is well, or not over yet (status --exit-code, report)

The first week:
  understudy check /etc/understudy/understudy.yaml
  understudy run                        (or: systemctl start understudy)
  understudy status --watch";

/// Stands ready to take over: watches a Nexus and its site, and moves it to the standby when a human says so.
#[derive(Debug, Parser)]
#[command(name = "understudy", version, after_help = EXIT_CODES, max_term_width = 120)]
pub struct Arguments {
    #[command(flatten)]
    pub place: Place,
    #[command(subcommand)]
    pub command: Command,
}

/// Where the daemon and its files are.
#[derive(Debug, Args)]
pub struct Place {
    /// The configuration file.
    #[arg(
        long,
        global = true,
        env = "UNDERSTUDY_CONFIG",
        value_name = "FILE",
        default_value = "/etc/understudy/understudy.yaml"
    )]
    pub config: PathBuf,
    /// The daemon's socket; that in the state directory of the configuration if left out.
    #[arg(long, global = true, env = "UNDERSTUDY_SOCKET", value_name = "PATH")]
    pub socket: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs the daemon until SIGTERM; SIGHUP reloads the configuration.
    ///
    /// It reads its journal, goes on where it stopped, and answers on its socket. It never starts on a configuration
    /// with an error, beside another daemon on the same state directory, or on a damaged journal.
    #[command(after_help = "Example:\n  understudy run --config /etc/understudy/understudy.yaml")]
    Run,
    /// Serves what this place sees of A, signed, for a daemon that has it among its witnesses; writes nothing.
    ///
    /// The file is that of a daemon: its probes look at A from here. `listen.witness` must be set. Mode is always
    /// observe, nobody is notified, and other witnesses are not asked.
    #[command(after_help = "Example, at a third site:\n  understudy witness --config /etc/understudy/witness.yaml")]
    Witness,
    /// Says what is wrong with a configuration: where, and what to do.
    #[command(
        after_help = "Example:\n  understudy check understudy.yaml && systemctl reload understudy\n\nExit code 2 if there is an error; warnings alone give 0."
    )]
    Check(Check),
    /// Shows sites, signals, hold-down, gates, the open question and the progress of each step.
    #[command(
        after_help = "Examples:\n  understudy status --watch\n  understudy status nexus-ddrs --json\n  understudy status --exit-code || page-someone"
    )]
    Status(Status),
    /// Lists every gate between now and a failover, with its value, and the shortest way to a trigger.
    #[command(after_help = "Example:\n  understudy why nexus-ddrs")]
    Why(Why),
    #[command(flatten)]
    Order(Order),
    /// Lists what was decided: runs, and questions with their answers.
    #[command(
        after_help = "Example:\n  understudy history --pair nexus-ddrs\n\nIt reads the journal's files, so that it works while the daemon is down."
    )]
    History(History),
    /// Tells of a run: timeline, time by step, loss bound, approvals, what was skipped.
    #[command(
        after_help = "Examples:\n  understudy report                 the last run\n  understudy report nexus-ddrs-7 --json\n\nExit code: 0 it succeeded, 1 it did not, 5 it is not over. It works while the daemon is down."
    )]
    Report(Report),
    /// Checks or shows the journal.
    #[command(subcommand)]
    Journal(Journal),
    /// Plays scenarios: would the daemon, under these rules, decide as the file says? No daemon and no site is needed.
    ///
    /// A scenario is a timeline of what probes, witnesses and steps show, and of what is expected: verdicts and their
    /// times, questions, runs, pages. The real core plays it with simulated time, days in a moment. docs/scenarios.md is
    /// the manual.
    #[command(after_help = SCENARIOS)]
    Test(Test),
    /// Plays what a daemon was told again, and says where it would decide otherwise.
    ///
    /// The daemon records everything that it is told beside its journal. The core of today takes it once more, under the
    /// rules of then, or under others: weeks of real readings tell what another hold-down would have done.
    #[command(
        after_help = "Examples:\n  understudy replay                               the state directory of --config\n  understudy replay /var/lib/understudy           is this version the same as that of then?\n  understudy replay --policy other.yaml           what would these rules have done?\n\nExit codes:\n  0  no difference\n  1  it would decide otherwise: lines with - stood in the journal only, lines with + would now\n  2  there is no recording, or it can not be read"
    )]
    Replay(Replay),
    /// Prints the JSON Schema of the configuration, for editors.
    #[command(
        after_help = "Examples:\n  understudy schema > understudy.schema.json\n  understudy schema --scenario > scenario.schema.json"
    )]
    Schema(Schema),
    /// Prints completions for a shell.
    #[command(after_help = "Example:\n  understudy completions bash > /etc/bash_completion.d/understudy")]
    Completions(Completions),
}

const SCENARIOS: &str = "\
Example, site-lost.yaml:
  config: /etc/understudy/understudy.yaml    # without: a sample site, see docs/scenarios.md
  timeline:
    - { at: 0s, see: { a: down(timed out) } }
    - { at: 1m, expect: { verdict: Suspect, asked: nothing } }
    - { at: 3m, expect: { verdict: SiteDown, asked: failover } }
  never:
    - { writes: true }

  understudy test site-lost.yaml
  understudy test tests/scenarios            every *.yaml in a directory
  understudy test --show site-lost.yaml      the picture of it, even if all is as expected

Exit codes:
  0  everything is as expected
  1  something is not: the picture shows where
  2  a file is wrong: its line and the remedy are named";

#[derive(Debug, Args)]
pub struct Test {
    /// Scenarios, or directories of them.
    #[arg(required = true, value_name = "SCENARIO")]
    pub files: Vec<PathBuf>,
    /// Prints JSON.
    #[arg(long)]
    pub json: bool,
    /// Shows the picture of every scenario, not only of those that fail.
    #[arg(long, conflicts_with = "json")]
    pub show: bool,
}

#[derive(Debug, Args)]
pub struct Replay {
    /// A state directory, or one recording in it; that of the configuration if left out.
    pub path: Option<PathBuf>,
    /// A configuration whose rules are tried instead of those of then.
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Shows only differences of this pair.
    #[arg(long)]
    pub pair: Option<String>,
    /// Prints JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Schema {
    /// The schema of a scenario instead.
    #[arg(long)]
    pub scenario: bool,
}

#[derive(Debug, Args)]
pub struct Check {
    /// The file to check; that of --config if left out.
    pub file: Option<PathBuf>,
    /// Prints the findings as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Status {
    /// Only this pair.
    pub pair: Option<String>,
    /// Shows it again and again until Ctrl-C.
    #[arg(long, short, conflicts_with_all = ["json", "exit_code"])]
    pub watch: bool,
    /// Prints what the API answers.
    #[arg(long)]
    pub json: bool,
    /// Exits with 5 unless every pair is Up, nothing is asked, nothing is stuck and we do not doubt ourselves.
    #[arg(long)]
    pub exit_code: bool,
}

#[derive(Debug, Args)]
pub struct Why {
    /// The pair.
    pub pair: String,
    /// Prints what the API answers.
    #[arg(long)]
    pub json: bool,
}

/// What changes something. Each is judged by the daemon, journaled and answered.
#[derive(Debug, Subcommand)]
pub enum Order {
    /// Says yes to a question.
    ///
    /// The question names its price: the loss bound at its expiry, and which fences will be tried. A yes is good for one
    /// run, and only while nothing changes that the question rests on.
    #[command(
        after_help = "Examples:\n  understudy approve nexus-ddrs-3\n  understudy approve nexus-ddrs-3 --accept-loss 20m\n  understudy approve nexus-ddrs-3 --accept-unfenced \"power of rack 4 is off, seen by Kim\" --wait"
    )]
    Approve(Approve),
    /// Says no to a question.
    #[command(after_help = "Example:\n  understudy deny nexus-ddrs-3 --reason \"A is back in ten minutes\"")]
    Deny(Deny),
    /// Starts a failover without waiting for a question.
    ///
    /// Without --force only while the verdict is SiteDown. --force skips the verdict, but neither the fence nor the loss
    /// bound nor the order of the steps; while A's API server lives it is used as the fence, and must confirm.
    #[command(
        after_help = "Examples:\n  understudy failover nexus-ddrs --reason \"ticket 4711\"\n  understudy failover nexus-ddrs --force --reason \"A's Ceph is lost, its API lives\" --wait"
    )]
    Failover(Failover),
    /// Tries stuck steps of a run again; each reads the world before it does anything.
    #[command(
        after_help = "Examples:\n  understudy retry nexus-ddrs-7            every stuck step\n  understudy retry nexus-ddrs-7 deploy"
    )]
    Retry(Retry),
    /// Leaves a stuck step out, where safety does not rest on it.
    #[command(
        after_help = "Example:\n  understudy skip nexus-ddrs-7 mirror-back --reason \"done by hand\"\n\nNever skipped: recheck, fence, consistency-point, quiesce, bound, promote-recheck, promote, verify."
    )]
    Skip(Skip),
    /// Gives a run up. Before the promote the mirror is brought back; after it the pair stays half-way and pages.
    #[command(after_help = "Example:\n  understudy abandon nexus-ddrs-7 --reason \"A lives after all\"")]
    Abandon(Abandon),
    /// Lifts the recovery block: automatic failover may happen again.
    #[command(after_help = "Example:\n  understudy unblock nexus-ddrs")]
    Unblock(Unblock),
    /// Lets no new step begin; watching, questions and answers go on.
    #[command(
        after_help = "Examples:\n  understudy pause nexus-ddrs --for 2h --reason \"network maintenance\"\n  understudy pause --reason \"all pairs, until resume\""
    )]
    Pause(Pause),
    /// Ends a pause.
    #[command(after_help = "Example:\n  understudy resume nexus-ddrs")]
    Resume(Resume),
}

#[derive(Debug, Args)]
pub struct Approve {
    /// The question, as `status` and the notice name it.
    pub request: String,
    #[command(flatten)]
    pub accept: Accept,
    #[command(flatten)]
    pub follow: Follow,
}

/// What is accepted beyond the ordinary.
#[derive(Debug, Args)]
pub struct Accept {
    /// Goes on even if the fence of A is not confirmed, for this reason.
    #[arg(long, value_name = "REASON")]
    pub accept_unfenced: Option<String>,
    /// The loss accepted where the bound is over the limit, such as 20m; `unlimited` only where nobody can tell it.
    #[arg(long, value_name = "DURATION", value_parser = loss)]
    pub accept_loss: Option<u64>,
}

/// Whether the run that begins is followed.
#[derive(Debug, Args)]
pub struct Follow {
    /// Follows the run to its end; exit code 0 only if it succeeds.
    #[arg(long)]
    pub wait: bool,
}

#[derive(Debug, Args)]
pub struct Deny {
    /// The question.
    pub request: String,
    /// Why.
    #[arg(long, default_value = "no reason given")]
    pub reason: String,
}

#[derive(Debug, Args)]
pub struct Failover {
    /// The pair.
    pub pair: String,
    /// Skips the verdict.
    #[arg(long)]
    pub force: bool,
    /// Why; journaled.
    #[arg(long)]
    pub reason: String,
    #[command(flatten)]
    pub accept: Accept,
    #[command(flatten)]
    pub follow: Follow,
}

#[derive(Debug, Args)]
pub struct Retry {
    /// The run, as `status` names it.
    pub run: String,
    /// The step; every stuck one if left out.
    pub step: Option<Step>,
    #[command(flatten)]
    pub follow: Follow,
}

#[derive(Debug, Args)]
pub struct Skip {
    /// The run.
    pub run: String,
    /// The step.
    pub step: Step,
    /// Why; journaled.
    #[arg(long)]
    pub reason: String,
    #[command(flatten)]
    pub follow: Follow,
}

#[derive(Debug, Args)]
pub struct Abandon {
    /// The run.
    pub run: String,
    /// Why; journaled.
    #[arg(long)]
    pub reason: String,
}

#[derive(Debug, Args)]
pub struct Unblock {
    /// The pair.
    pub pair: String,
}

#[derive(Debug, Args)]
pub struct Pause {
    /// The pair; every pair if left out.
    pub pair: Option<String>,
    /// Ends by itself after this time, such as 2h.
    #[arg(long = "for", value_name = "DURATION", value_parser = milliseconds)]
    pub for_ms: Option<u64>,
    /// Why.
    #[arg(long, default_value = "no reason given")]
    pub reason: String,
}

#[derive(Debug, Args)]
pub struct Resume {
    /// The pair; every paused one if left out.
    pub pair: Option<String>,
}

#[derive(Debug, Args)]
pub struct History {
    /// Only this pair.
    #[arg(long)]
    pub pair: Option<String>,
    /// Prints JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Report {
    /// The run, as `history` names it; the last one if left out.
    pub run: Option<String>,
    /// Prints JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum Journal {
    /// Checks the hash chain and every rule of a plan: intent before outcome, order, one approval one plan, route last.
    #[command(
        after_help = "Examples:\n  understudy journal verify\n  understudy journal verify /var/lib/understudy --json\n\nExit code 1 if a rule is broken or the chain is."
    )]
    Verify(Verify),
    /// Prints the journal's records.
    #[command(
        after_help = "Examples:\n  understudy journal show --pair nexus-ddrs\n  understudy journal show --after 1200 --json | jq .record"
    )]
    Show(Show),
}

#[derive(Debug, Args)]
pub struct Verify {
    /// The state directory; that of the configuration if left out.
    pub directory: Option<PathBuf>,
    /// Prints JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Show {
    /// The state directory; that of the configuration if left out.
    pub directory: Option<PathBuf>,
    /// Only records with a greater number.
    #[arg(long, default_value_t = 0)]
    pub after: u64,
    /// Only this pair's.
    #[arg(long)]
    pub pair: Option<String>,
    /// Prints one JSON object a line, with everything that is in the record.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Completions {
    /// The shell.
    pub shell: Shell,
}

impl Accept {
    /// The loss accepted, in milliseconds.
    pub fn loss_ms(&self) -> Option<u64> {
        self.accept_loss
    }
}

/// A run's name, and the pair's in it: `PAIR-NUMBER`.
pub fn run_and_pair(run: &str) -> Option<(RunId, &str)> {
    pair_in(run).map(|pair| (RunId::from(run), pair))
}

/// A question's name, and the pair's in it: `PAIR-NUMBER`.
pub fn request_and_pair(request: &str) -> Option<(RequestId, &str)> {
    pair_in(request).map(|pair| (RequestId::from(request), pair))
}

fn pair_in(name: &str) -> Option<&str> {
    let (pair, number) = name.rsplit_once('-')?;
    (!pair.is_empty() && !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())).then_some(pair)
}

fn loss(text: &str) -> Result<u64, String> {
    if text == "unlimited" { Ok(ANY_LOSS) } else { milliseconds(text) }
}

fn milliseconds(text: &str) -> Result<u64, String> {
    let hint = || format!("{text:?} is no duration: write a number with its unit, such as 90s, 20m or 2h");
    let parsed: jiff::SignedDuration = text.parse().map_err(|_| hint())?;
    let parsed = Duration::try_from(parsed).map_err(|_| hint())?;
    Ok(understudy_core::millis(parsed))
}
