//! Follows a run to its end.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use understudy_core::{Ending, PairName, Phase, Run, Step, StepStatus};

use super::{Exit, Failure, Outcome, client};
use crate::api::Status;
use crate::text::{duration, printable, say};

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(300);

/// Prints what changes in the pair's run until it is over or needs a human.
pub async fn until_run_ends(socket: &Path, pair: &PairName) -> Outcome {
    let mut told = BTreeMap::new();
    loop {
        let status: Status = client::get(socket, "/v1/status").await?;
        let seen = status.view.pairs.iter().find(|p| p.name == pair.as_str());
        let Some(run) = seen.and_then(|pair| pair.run.as_ref()) else {
            return Err(Failure::new(Exit::Failed, anyhow::anyhow!("pair {pair} has no run to wait for")));
        };
        say(&printable(&news(run, &mut told)));
        if let Some(exit) = verdict(run) {
            return Ok(exit);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// A line for each step that changed since the last look.
fn news(run: &Run, told: &mut BTreeMap<Step, String>) -> String {
    let mut text = String::new();
    for entry in &run.steps {
        let line = match &entry.status {
            StepStatus::Pending => continue,
            StepStatus::Running { attempt: 1, .. } => "begins".to_owned(),
            StepStatus::Running { attempt, .. } => format!("begins, try {attempt}"),
            StepStatus::Waiting { message, .. } => format!("failed and is tried again: {message}"),
            StepStatus::Done { at, detail } => {
                let took = entry.began.map_or(0, |began| crate::text::between(began, *at));
                format!("done in {}: {detail}", duration(took))
            }
            StepStatus::Stuck { message, .. } => format!("STUCK: {message}"),
            StepStatus::Skipped { by, reason } => format!("skipped by {by}: {reason}"),
        };
        if told.get(&entry.step) != Some(&line) {
            text.push_str(&format!("{:<18} {line}\n", entry.step.to_string()));
            told.insert(entry.step, line);
        }
    }
    text
}

/// How it ended, if it is over or does not go on by itself; said aloud.
fn verdict(run: &Run) -> Option<Exit> {
    let (text, exit) = match &run.phase {
        Phase::Ended { ending: Ending::Succeeded, .. } => ("succeeded: B is the active site".to_owned(), Exit::Done),
        Phase::Ended { ending: Ending::Stopped { why }, .. } => {
            (format!("stopped before the promote: {why}"), Exit::Failed)
        }
        Phase::Ended { ending: Ending::Abandoned { by, reason }, .. } => {
            (format!("abandoned by {by}: {reason}"), Exit::Failed)
        }
        Phase::Forward | Phase::BringingBack { .. } => {
            let stuck = run.stuck().next()?;
            if run.running().next().is_some() {
                return None;
            }
            let hint = format!("`understudy retry {} {stuck}` tries it again", run.id);
            (format!("needs a human: {stuck} is stuck; {hint}"), Exit::Failed)
        }
    };
    say(&printable(&format!("run {} {text}\n", run.id)));
    Some(exit)
}

#[cfg(test)]
mod tests {
    use understudy_core::{DurablePair, Finding};

    use super::*;
    use crate::samples::{at, done, failed, failover, intent, run_started};

    #[test]
    fn each_change_of_a_step_is_told_once() {
        let mut pair = DurablePair::default();
        let mut told = BTreeMap::new();
        pair.apply(&run_started(), at(0));
        pair.apply(&intent(Step::Recheck, 1), at(100));

        let first = news(pair.run.as_ref().unwrap(), &mut told);
        let second = news(pair.run.as_ref().unwrap(), &mut told);
        pair.apply(&done(Step::Recheck, 1, Finding::Nothing), at(1600));
        let third = news(pair.run.as_ref().unwrap(), &mut told);

        assert_eq!(first, "recheck            begins\n");
        assert_eq!(second, "");
        assert_eq!(third, "recheck            done in 1.5 s: recheck was read back\n");
    }

    #[test]
    fn a_run_is_over_when_it_ended_or_when_nothing_goes_on_by_itself() {
        let mut pair = DurablePair::default();
        pair.apply(&run_started(), at(0));
        pair.apply(&intent(Step::Recheck, 1), at(1));
        assert_eq!(verdict(pair.run.as_ref().unwrap()), None);
        pair.apply(&failed(Step::Recheck, 1, None), at(2));
        assert_eq!(verdict(pair.run.as_ref().unwrap()), Some(Exit::Failed));

        let mut pair = DurablePair::default();
        failover().iter().for_each(|(at, record)| pair.apply(record, *at));
        assert_eq!(verdict(pair.run.as_ref().unwrap()), Some(Exit::Done));
    }
}
