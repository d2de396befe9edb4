//! What is expected at a moment, and whether it is so.
//!
//! In: [`Expect`] as it is written, then a [`Sight`] of what is so. Out: what was found instead, in words.

use std::fmt;
use std::time::Duration;

use understudy_core::{
    Authority, Ending, Gate, LossBound, PageKind, PairView, Phase, Question, Reading, Role, Step, StepStatus, Verdict,
    millis,
};

use super::file::Expect;
use super::words;
use crate::text;

/// How far a time may be off: the grid of the daemon's own clock, and a human's rounding.
const ABOUT: Duration = Duration::from_secs(1);

/// One thing that is expected.
#[derive(Debug, Clone)]
pub enum Check {
    /// The verdict.
    Verdict(Verdict),
    /// When it became that.
    Since(Duration),
    /// The open question; none = nothing is asked.
    Asked(Option<Question>),
    /// The loss bound.
    Loss(Loss),
    /// A gate.
    Gate {
        /// Which.
        gate: Gate,
        /// Whether it is open.
        open: bool,
    },
    /// What `understudy why` says.
    Why(String),
    /// The run.
    Run(RunIs),
    /// On whose word it runs.
    Authority(Word),
    /// A step.
    Step(Step, StepIs),
    /// The active place.
    Role(RoleIs),
    /// A signal.
    Signal(String, StateIs),
    /// A page.
    Paged(PageKind),
    /// What was said so far.
    Told(String),
    /// Whether anything was written so far.
    Writes(bool),
}

/// The loss bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Nobody can tell.
    Unknown,
    /// At most this.
    Under(Duration),
    /// More than this, but known.
    Over(Duration),
}

/// Where the run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunIs {
    /// There was none.
    None,
    /// It goes on, and nothing is stuck.
    GoingOn,
    /// It brings the mirror back.
    Stopping,
    /// A step needs a human.
    Stuck,
    /// B is active.
    Succeeded,
    /// It stopped before the promote.
    Stopped,
    /// It was given up after the promote.
    Abandoned,
}

/// On whose word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// The policy's.
    Automatic,
    /// A human's, on the verdict.
    Approved,
    /// A human's, without it.
    Forced,
}

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepIs {
    /// Not begun.
    Pending,
    /// Under way.
    Running,
    /// To be tried again.
    Waiting,
    /// Done.
    Done,
    /// Needs a human.
    Stuck,
    /// Left out.
    Skipped,
}

/// The active place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoleIs {
    /// A.
    A,
    /// On the way.
    Moving,
    /// B.
    B,
}

/// A signal's state, without its reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateIs {
    /// Up.
    Up,
    /// Down.
    Down,
    /// Unknown.
    Unknown,
}

const VERDICTS: [(&str, Verdict); 6] = [
    ("Up", Verdict::Up),
    ("Suspect", Verdict::Suspect),
    ("ServiceDown", Verdict::ServiceDown),
    ("StorageDown", Verdict::StorageDown),
    ("SiteDown", Verdict::SiteDown),
    ("Blind", Verdict::Blind),
];
const QUESTIONS: [(&str, Option<Question>); 3] =
    [("failover", Some(Question::Failover)), ("unfenced", Some(Question::Unfenced)), ("nothing", None)];
const GATES: [(&str, Gate); 11] = [
    ("verdict", Gate::Verdict),
    ("mode", Gate::Mode),
    ("pause", Gate::Pause),
    ("recovery block", Gate::Block),
    ("witness", Gate::Witness),
    ("blast radius", Gate::BlastRadius),
    ("rpo", Gate::Rpo),
    ("readiness", Gate::Readiness),
    ("lease", Gate::Lease),
    ("role", Gate::Role),
    ("approval", Gate::Approval),
];
const RUNS: [(&str, RunIs); 7] = [
    ("none", RunIs::None),
    ("going on", RunIs::GoingOn),
    ("stopping", RunIs::Stopping),
    ("stuck", RunIs::Stuck),
    ("succeeded", RunIs::Succeeded),
    ("stopped", RunIs::Stopped),
    ("abandoned", RunIs::Abandoned),
];
const AUTHORITIES: [(&str, Word); 3] =
    [("automatic", Word::Automatic), ("approved", Word::Approved), ("forced", Word::Forced)];
const STEPS: [(&str, StepIs); 6] = [
    ("pending", StepIs::Pending),
    ("running", StepIs::Running),
    ("waiting", StepIs::Waiting),
    ("done", StepIs::Done),
    ("stuck", StepIs::Stuck),
    ("skipped", StepIs::Skipped),
];
const ROLES: [(&str, RoleIs); 3] = [("A", RoleIs::A), ("moving", RoleIs::Moving), ("B", RoleIs::B)];
const STATES: [(&str, StateIs); 3] = [("up", StateIs::Up), ("down", StateIs::Down), ("unknown", StateIs::Unknown)];
const PAGES: [(&str, PageKind); 8] = [
    ("service down", PageKind::ServiceDown),
    ("storage down", PageKind::StorageDown),
    ("site down", PageKind::SiteDown),
    ("blind", PageKind::Blind),
    ("stuck", PageKind::Stuck),
    ("stopped", PageKind::Stopped),
    ("old primary returned", PageKind::OldPrimaryReturned),
    ("standby down", PageKind::StandbyDown),
];

/// Each thing that `written` expects.
///
/// # Errors
/// The key that is wrong, and what to write instead.
pub fn checks(written: &Expect, is_probe: impl Fn(&str) -> bool) -> Result<Vec<Check>, (&'static str, String)> {
    let mut all = Vec::new();
    let at = |key: &'static str| move |message: String| (key, message);
    if let Some(text) = &written.verdict {
        all.push(Check::Verdict(words::one_of(text, "verdict", &VERDICTS).map_err(at("verdict"))?));
    }
    all.extend(written.since.map(|span| Check::Since(span.0)));
    if let Some(text) = &written.asked {
        all.push(Check::Asked(words::one_of(text, "question", &QUESTIONS).map_err(at("asked"))?));
    }
    if let Some(text) = &written.loss {
        all.push(Check::Loss(loss(text).map_err(at("loss"))?));
    }
    for (key, gates, open) in [("open", &written.open, true), ("closed", &written.closed, false)] {
        for text in gates {
            let gate = words::one_of(text, "gate", &GATES).map_err(at(key))?;
            all.push(Check::Gate { gate, open });
        }
    }
    all.extend(written.why.clone().map(Check::Why));
    if let Some(text) = &written.run {
        all.push(Check::Run(words::one_of(text, "state of a run", &RUNS).map_err(at("run"))?));
    }
    if let Some(text) = &written.authority {
        all.push(Check::Authority(words::one_of(text, "authority", &AUTHORITIES).map_err(at("authority"))?));
    }
    for (name, text) in &written.steps {
        let step = name.parse().map_err(|_| ("steps", format!("there is no step {name:?}")))?;
        all.push(Check::Step(step, words::one_of(text, "state of a step", &STEPS).map_err(at("steps"))?));
    }
    if let Some(text) = &written.role {
        all.push(Check::Role(words::one_of(text, "role", &ROLES).map_err(at("role"))?));
    }
    for (name, text) in &written.signals {
        if !is_probe(name) {
            return Err(("signals", format!("there is no probe {name:?}")));
        }
        let state = words::one_of(text, "state of a signal", &STATES).map_err(at("signals"))?;
        all.push(Check::Signal(name.clone(), state));
    }
    for text in &written.paged {
        all.push(Check::Paged(words::one_of(text, "kind of page", &PAGES).map_err(at("paged"))?));
    }
    all.extend(written.told.clone().map(Check::Told));
    all.extend(written.writes.map(Check::Writes));
    Ok(all)
}

fn loss(text: &str) -> Result<Loss, String> {
    match text.split_once(' ') {
        None if text == "unknown" => Ok(Loss::Unknown),
        Some(("under", span)) => words::span(span).map(Loss::Under),
        Some(("over", span)) => words::span(span).map(Loss::Over),
        _ => Err(format!("{text:?} is no loss bound: write unknown, under 5m or over 5m")),
    }
}

/// What is so at one moment.
pub struct Sight<'a> {
    /// The pair, as `status` and `why` show it.
    pub pair: &'a PairView,
    /// When, in milliseconds from 0s.
    pub at_ms: i64,
    /// Kinds of pages so far.
    pub paged: &'a [PageKind],
    /// What was said so far.
    pub told: &'a [(i64, String)],
    /// Whether a step that writes was begun.
    pub wrote: bool,
}

impl Check {
    /// What is so instead; none if it is as expected.
    pub fn found(&self, seen: &Sight<'_>) -> Option<String> {
        let pair = seen.pair;
        match self {
            Check::Verdict(wanted) => (pair.verdict != *wanted).then(|| verdict_words(seen)),
            Check::Since(wanted) => {
                let since = since_ms(seen);
                let wanted = understudy_core::signed(millis(*wanted));
                (since.abs_diff(wanted) > millis(ABOUT)).then(|| verdict_words(seen))
            }
            Check::Asked(wanted) => {
                let asked = pair.request.as_ref().map(|request| request.question);
                (asked != *wanted).then(|| name_in(&QUESTIONS, asked))
            }
            Check::Loss(wanted) => loss_found(pair.bound, *wanted),
            Check::Gate { gate, open } => {
                let state = pair.automatic.iter().find(|state| state.gate == *gate)?;
                (state.open != *open).then(|| gate_words(state.open, &state.value))
            }
            Check::Why(wanted) => {
                let said = why_words(pair);
                (!said.contains(wanted.as_str())).then_some(said)
            }
            Check::Run(wanted) => {
                let is = run_is(pair);
                (is != *wanted).then(|| run_words(pair, is))
            }
            Check::Authority(wanted) => {
                let is = pair.run.as_ref().map(|run| authority_is(&run.authority));
                (is != Some(*wanted)).then(|| is.map_or("no run".into(), |is| name_in(&AUTHORITIES, is)))
            }
            Check::Step(step, wanted) => step_found(pair, *step, *wanted),
            Check::Role(wanted) => {
                let is = match pair.role {
                    Role::AtA => RoleIs::A,
                    Role::Moving { .. } => RoleIs::Moving,
                    Role::AtB => RoleIs::B,
                };
                (is != *wanted).then(|| name_in(&ROLES, is))
            }
            Check::Signal(name, wanted) => {
                let signal = pair.signals.iter().find(|signal| signal.name == *name)?;
                (state_is(signal.state) != *wanted).then(|| signal.state.to_string())
            }
            Check::Paged(wanted) => (!seen.paged.contains(wanted)).then(|| {
                let names: Vec<String> = seen.paged.iter().map(|kind| name_in(&PAGES, *kind)).collect();
                if names.is_empty() { "no page".into() } else { names.join(", ") }
            }),
            Check::Told(wanted) => {
                let said = seen.told.iter().any(|(_, line)| line.contains(wanted.as_str()));
                (!said).then(|| "nothing of it".into())
            }
            Check::Writes(wanted) => (seen.wrote != *wanted)
                .then(|| if seen.wrote { "it has written" } else { "nothing was written" }.into()),
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Check::Verdict(verdict) => write!(f, "verdict {verdict}"),
            Check::Since(at) => write!(f, "verdict since {}", text::duration(millis(*at))),
            Check::Asked(question) => write!(f, "asked: {}", name_in(&QUESTIONS, *question)),
            Check::Loss(Loss::Unknown) => f.write_str("loss unknown"),
            Check::Loss(Loss::Under(limit)) => write!(f, "loss under {}", text::duration(millis(*limit))),
            Check::Loss(Loss::Over(limit)) => write!(f, "loss over {}", text::duration(millis(*limit))),
            Check::Gate { gate, open } => write!(f, "gate {gate} {}", if *open { "open" } else { "closed" }),
            Check::Why(wanted) => write!(f, "why: {wanted:?}"),
            Check::Run(run) => write!(f, "run {}", name_in(&RUNS, *run)),
            Check::Authority(word) => write!(f, "run {}", name_in(&AUTHORITIES, *word)),
            Check::Step(step, state) => write!(f, "step {step} {}", name_in(&STEPS, *state)),
            Check::Role(role) => write!(f, "role {}", name_in(&ROLES, *role)),
            Check::Signal(name, state) => write!(f, "signal {name} {}", name_in(&STATES, *state)),
            Check::Paged(kind) => write!(f, "page {}", name_in(&PAGES, *kind)),
            Check::Told(wanted) => write!(f, "told: {wanted:?}"),
            Check::Writes(true) => f.write_str("a write"),
            Check::Writes(false) => f.write_str("no write"),
        }
    }
}

fn name_in<T: PartialEq>(names: &[(&str, T)], wanted: T) -> String {
    names.iter().find(|(_, meant)| *meant == wanted).map_or_else(String::new, |(name, _)| (*name).to_owned())
}

fn since_ms(seen: &Sight<'_>) -> i64 {
    seen.at_ms - understudy_core::signed(seen.pair.verdict_for_ms)
}

fn verdict_words(seen: &Sight<'_>) -> String {
    let since = u64::try_from(since_ms(seen)).map_or("before 0s".into(), |ms| format!("since {}", text::duration(ms)));
    let signals = seen.pair.signals.iter().filter(|signal| signal.votes && !matches!(signal.state, Reading::Up));
    let named: Vec<String> = signals.map(|signal| format!("{} is {}", signal.name, signal.state)).collect();
    let held = seen.pair.hold.map(|hold| {
        format!(
            "; hold-down {} of {}, round {}",
            text::duration(hold.held_ms),
            text::duration(hold.needed_ms),
            hold.rounds
        )
    });
    format!("{} {since} ({}{})", seen.pair.verdict, named.join(", "), held.unwrap_or_default())
}

fn loss_found(bound: LossBound, wanted: Loss) -> Option<String> {
    let good = match (bound, wanted) {
        (LossBound::Infinite, Loss::Unknown) => true,
        (LossBound::AtMost(ms), Loss::Under(limit)) => ms <= millis(limit),
        (LossBound::AtMost(ms), Loss::Over(limit)) => ms > millis(limit),
        (LossBound::Infinite, Loss::Under(_) | Loss::Over(_)) | (LossBound::AtMost(_), Loss::Unknown) => false,
    };
    (!good).then(|| bound.to_string())
}

fn gate_words(open: bool, value: &str) -> String {
    format!("{}: {value}", if open { "open" } else { "closed" })
}

fn why_words(pair: &PairView) -> String {
    let gates = pair.automatic.iter().map(|state| format!("{}: {}", state.gate, gate_words(state.open, &state.value)));
    gates.chain(pair.would_flip.iter().cloned()).collect::<Vec<_>>().join("; ")
}

fn run_is(pair: &PairView) -> RunIs {
    let Some(run) = &pair.run else { return RunIs::None };
    match &run.phase {
        Phase::Forward | Phase::BringingBack { .. } if run.stuck().next().is_some() => RunIs::Stuck,
        Phase::Forward => RunIs::GoingOn,
        Phase::BringingBack { .. } => RunIs::Stopping,
        Phase::Ended { ending: Ending::Succeeded, .. } => RunIs::Succeeded,
        Phase::Ended { ending: Ending::Stopped { .. }, .. } => RunIs::Stopped,
        Phase::Ended { ending: Ending::Abandoned { .. }, .. } => RunIs::Abandoned,
    }
}

fn run_words(pair: &PairView, is: RunIs) -> String {
    let Some(run) = &pair.run else { return "none".into() };
    let why = match &run.phase {
        Phase::BringingBack { why } | Phase::Ended { ending: Ending::Stopped { why }, .. } => format!(": {why}"),
        Phase::Forward | Phase::Ended { .. } => {
            let open = run.steps.iter().filter(|entry| !entry.status.is_over() && entry.began.is_some());
            open.map(|entry| format!("; {} {}", entry.step, step_words(&entry.status))).collect()
        }
    };
    format!("{}{why}", name_in(&RUNS, is))
}

fn authority_is(authority: &Authority) -> Word {
    match authority {
        Authority::Automatic { .. } => Word::Automatic,
        Authority::Approved { .. } => Word::Approved,
        Authority::Forced { .. } => Word::Forced,
    }
}

fn step_found(pair: &PairView, step: Step, wanted: StepIs) -> Option<String> {
    let Some(run) = &pair.run else { return Some("no run".into()) };
    let Some(entry) = run.entry(step) else { return Some("the plan has no such step".into()) };
    (step_is(&entry.status) != wanted).then(|| step_words(&entry.status))
}

fn step_is(status: &StepStatus) -> StepIs {
    match status {
        StepStatus::Pending => StepIs::Pending,
        StepStatus::Running { .. } => StepIs::Running,
        StepStatus::Waiting { .. } => StepIs::Waiting,
        StepStatus::Done { .. } => StepIs::Done,
        StepStatus::Stuck { .. } => StepIs::Stuck,
        StepStatus::Skipped { .. } => StepIs::Skipped,
    }
}

fn step_words(status: &StepStatus) -> String {
    let name = name_in(&STEPS, step_is(status));
    match status {
        StepStatus::Waiting { message, .. } | StepStatus::Stuck { message, .. } => format!("{name}: {message}"),
        _ => name,
    }
}

fn state_is(reading: Reading) -> StateIs {
    match reading {
        Reading::Up => StateIs::Up,
        Reading::Down(_) => StateIs::Down,
        Reading::Unknown(_) => StateIs::Unknown,
    }
}
